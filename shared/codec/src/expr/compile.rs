//! From a parsed expression to one that can be evaluated: columns become offsets, names become functions,
//! types are worked out from below.

use super::convert::Ctx;
use super::lex::SyntaxError;
use super::tree::{CastName, Literal, Node};
use super::types::{Ty, coercibility, of_cast};
use super::{
    EvalError, cast, cipher, compare, control, hash, json, math, net, power, regex, temporal,
    temporal_add, text, text_more,
};
use crate::collation::Collation;
use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::mysql::{code, tp};
use crate::schema::TableInfo;
use crate::session::Session;
use std::sync::Arc;

pub(super) type Value = Result<Datum, EvalError>;

/// Computes a call's value.
pub(super) type Eval = fn(&Ctx<'_>, &Call) -> Value;

/// A function: its name, the least and the most arguments, its result type, its code.
pub(super) struct Function {
    pub name: &'static str,
    pub args: (usize, usize),
    pub ty: fn(&[Expr]) -> Ty,
    pub eval: Eval,
}

/// Any number of arguments.
pub(super) const MANY: usize = usize::MAX;

/// A compiled call.
#[derive(Debug)]
pub(super) struct Call {
    pub args: Vec<Expr>,
    pub ty: Ty,
}

/// A compiled expression with its type.
#[derive(Debug)]
pub(super) struct Expr {
    pub ty: Ty,
    pub op: Op,
}

pub(super) enum Op {
    Column(usize),
    Const(Datum),
    /// `-9223372036854775808` and the like are one literal; that is why negation is looked at here.
    Call(Eval, Call),
    Cast(Box<cast::Target>, Box<Expr>),
    DateArith(Box<temporal_add::DateArith>),
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Op")
    }
}

impl Expr {
    pub fn constant(ty: Ty, datum: Datum) -> Expr {
        Expr {
            ty,
            op: Op::Const(datum),
        }
    }

    pub fn as_const(&self) -> Option<&Datum> {
        match &self.op {
            Op::Const(datum) => Some(datum),
            _ => None,
        }
    }
}

/// Why an expression cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("function {0} is not supported in an expression")]
    Function(String),
    #[error("function {0} is called with a wrong number of arguments")]
    Arguments(String),
    #[error("there is no column `{0}`")]
    Column(String),
    #[error("{0} is not supported in an expression")]
    Other(String),
}

/// An expression over the columns of one table, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Expression {
    root: Arc<Expr>,
    session: Arc<Session>,
    columns: Vec<usize>,
}

impl Expression {
    /// Compiles the text of an expression.
    pub fn compile(
        text: &str,
        info: &TableInfo,
        session: &Session,
    ) -> Result<Expression, CompileError> {
        Self::from_node(&super::parse(text)?, info, &Arc::new(session.clone()))
    }

    /// Compiles a parsed expression.
    pub fn from_node(
        node: &Node,
        info: &TableInfo,
        session: &Arc<Session>,
    ) -> Result<Expression, CompileError> {
        let mut compiler = Compiler {
            info,
            session,
            columns: Vec::new(),
        };
        let root = Arc::new(compiler.node(node)?);
        Ok(Expression {
            root,
            session: Arc::clone(session),
            columns: compiler.columns,
        })
    }

    /// Offsets of the columns that are read.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Value for a row of datums by column offset. Under a mode that is not strict, an error that such a
    /// mode forgives makes it NULL.
    pub fn eval(&self, row: &[Datum]) -> Value {
        let ctx = self.ctx(row);
        ctx.forgive(ctx.eval(&self.root))
    }

    /// Whether the value is true, false, or neither (NULL).
    pub fn truth(&self, row: &[Datum]) -> Result<Option<bool>, EvalError> {
        let ctx = self.ctx(row);
        ctx.truth(&self.root)
    }

    /// The value as an integer, as HASH, RANGE and LIST partitions take it.
    pub fn integer(&self, row: &[Datum]) -> Result<Option<i128>, EvalError> {
        let ctx = self.ctx(row);
        ctx.int(&self.root)
    }

    /// The value of a column's default. What is random differs from row to row and from column to column,
    /// and is the same again in a repeated attempt.
    pub fn eval_default(&self, column: &str, row_id: i64) -> Value {
        let ctx = self.ctx(&[]);
        let salt = u64::from(crc32fast::hash(column.as_bytes()));
        ctx.random.set(self.session.seed ^ salt << 32);
        // One number in between, so that neighbouring rows do not share their sequences.
        let start = ctx.random() ^ row_id as u64;
        ctx.random.set(start);
        let start = ctx.random();
        ctx.random.set(start);
        ctx.forgive(ctx.eval(&self.root))
    }

    /// Text of the value as a client sees it, which is how tests know values.
    #[cfg(test)]
    pub(super) fn shown(&self, row: &[Datum]) -> Result<Option<Vec<u8>>, EvalError> {
        let datum = match self.eval(row)? {
            Datum::Decimal(v)
                if self.root.ty.tp == tp::NEW_DECIMAL
                    && self.root.ty.scale > i32::from(v.scale()) =>
            {
                Datum::Decimal(v.round(self.root.ty.digits()))
            }
            other => other,
        };
        Ok(super::convert::text_of(&datum, &self.root.ty))
    }

    fn ctx<'a>(&'a self, row: &'a [Datum]) -> Ctx<'a> {
        Ctx {
            session: &self.session,
            row,
            random: std::cell::Cell::new(self.session.seed),
        }
    }
}

struct Compiler<'a> {
    info: &'a TableInfo,
    session: &'a Arc<Session>,
    columns: Vec<usize>,
}

impl Compiler<'_> {
    fn node(&mut self, node: &Node) -> Result<Expr, CompileError> {
        match node {
            Node::Column(name) => self.column(name),
            Node::Literal(literal) => literal_expr(literal, self.session),
            Node::Call { name, args } => self.call(name, args),
            Node::Cast { expr, to } => {
                let inner = self.node(expr)?;
                if to.array {
                    // Elements are checked and cast one by one where the index is encoded.
                    return self.as_json(inner);
                }
                let collation = match &to.charset {
                    Some(charset) => charset_collation(charset)?,
                    None => Collation::Utf8mb4Bin,
                };
                let ty = of_cast(to.name, to.length, to.scale, collation);
                let target = cast::Target::new(to, &ty, self.session)
                    .map_err(|error| CompileError::Other(error.to_string()))?;
                Ok(Expr {
                    ty,
                    op: Op::Cast(Box::new(target), Box::new(inner)),
                })
            }
            Node::Using { expr, charset } => {
                let collation = charset_collation(charset)?;
                let ty = Ty::text(collation, coercibility::IMPLICIT);
                let call = Call {
                    args: vec![self.node(expr)?],
                    ty: ty.clone(),
                };
                let op = Op::Call(cast::convert_using, call);
                Ok(Expr { ty, op })
            }
            Node::Collate { expr, collation } => {
                let mut inner = self.node(expr)?;
                let known = Collation::from_name(collation)
                    .ok_or_else(|| CompileError::Other(format!("collation {collation}")))?;
                known
                    .require_keys("")
                    .map_err(|error| CompileError::Other(error.cause))?;
                inner.ty.collation = known;
                inner.ty.coercibility = coercibility::EXPLICIT;
                Ok(inner)
            }
            Node::DateArith {
                minus,
                date,
                amount,
                unit,
            } => {
                let (date, amount) = (self.node(date)?, self.node(amount)?);
                let arith = temporal_add::DateArith::new(*minus, date, amount, *unit);
                Ok(Expr {
                    ty: arith.ty(),
                    op: Op::DateArith(Box::new(arith)),
                })
            }
        }
    }

    fn as_json(&self, inner: Expr) -> Result<Expr, CompileError> {
        let ty = Ty::json();
        let call = Call {
            args: vec![inner],
            ty: ty.clone(),
        };
        Ok(Expr {
            ty,
            op: Op::Call(json::to_json, call),
        })
    }

    fn column(&mut self, name: &str) -> Result<Expr, CompileError> {
        let found = self
            .info
            .columns()
            .iter()
            .find(|column| column.name.lower == name);
        let column = found.ok_or_else(|| CompileError::Column(name.to_owned()))?;
        if !self.columns.contains(&column.offset) {
            self.columns.push(column.offset);
        }
        Ok(Expr {
            ty: Ty::column(&column.field_type),
            op: Op::Column(column.offset),
        })
    }

    fn call(&mut self, name: &str, args: &[Node]) -> Result<Expr, CompileError> {
        if let ("unaryminus", [Node::Literal(Literal::Number(text))]) = (name, args) {
            return Ok(number(&format!("-{text}")));
        }
        power::check(name, &[])?;
        cipher::check(name, self.session)?;
        let function = find(name).ok_or_else(|| CompileError::Function(name.to_owned()))?;
        let (least, most) = function.args;
        if args.len() < least || args.len() > most {
            return Err(CompileError::Arguments(name.to_owned()));
        }
        let args = args
            .iter()
            .map(|arg| self.node(arg))
            .collect::<Result<Vec<_>, _>>()?;
        power::check(name, &args)?;
        let mut ty = (function.ty)(&args);
        if ty.tp == tp::NEW_DECIMAL && name == "div" {
            let increment = i32::from(self.session.div_precision_increment);
            ty.scale = (ty.scale.max(0) + increment).min(30);
        }
        let call = Call {
            args,
            ty: ty.clone(),
        };
        Ok(Expr {
            ty,
            op: Op::Call(function.eval, call),
        })
    }
}

fn find(name: &str) -> Option<&'static Function> {
    functions().find(|function| function.name == name)
}

/// Every function there is.
pub(super) fn functions() -> impl Iterator<Item = &'static Function> {
    [
        compare::FUNCTIONS,
        control::FUNCTIONS,
        math::FUNCTIONS,
        text::FUNCTIONS,
        text_more::FUNCTIONS,
        json::FUNCTIONS,
        temporal::FUNCTIONS,
        temporal::FIELD_FUNCTIONS,
        temporal::DAY_FUNCTIONS,
        temporal::CLOCK_FUNCTIONS,
        temporal_add::FUNCTIONS,
        hash::FUNCTIONS,
        cipher::FUNCTIONS,
        power::FUNCTIONS,
        net::FUNCTIONS,
        regex::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

fn charset_collation(charset: &str) -> Result<Collation, CompileError> {
    Collation::default_of(charset, false)
        .ok_or_else(|| CompileError::Other(format!("character set {charset}")))
}

/// An integer, a decimal or a double, by how it is written.
fn number(text: &str) -> Expr {
    if text.contains(['e', 'E']) {
        let value = text.parse().unwrap_or(0.0);
        return Expr::constant(Ty::real(), Datum::Double(value));
    }
    if let Ok(value) = text.parse::<i64>() {
        return Expr::constant(Ty::int(), Datum::Int(value));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Expr::constant(Ty::uint(), Datum::UInt(value));
    }
    let (value, _) = MyDecimal::parse(text.as_bytes());
    Expr::constant(Ty::decimal(i32::from(value.scale())), Datum::Decimal(value))
}

fn literal_expr(literal: &Literal, session: &Arc<Session>) -> Result<Expr, CompileError> {
    Ok(match literal {
        Literal::Null => Expr::constant(Ty::null(), Datum::Null),
        Literal::Bool(value) => Expr::constant(Ty::boolean(), Datum::Int(i64::from(*value))),
        Literal::Number(text) => number(text),
        Literal::Str { charset, bytes } => {
            let collation = match charset {
                Some(charset) => charset_collation(charset)?,
                None => Collation::Utf8mb4Bin,
            };
            Expr::constant(
                Ty::text(collation, coercibility::LITERAL),
                Datum::Bytes(bytes.clone()),
            )
        }
        Literal::Bits(bytes) => {
            let ty = Ty {
                coercibility: coercibility::LITERAL,
                ..Ty::bytes()
            };
            // Text that is a number where one is wanted.
            let datum = match bytes.len() {
                1..=8 => {
                    let number = bytes.iter().fold(0, |v, byte| v << 8 | u64::from(*byte));
                    Datum::Bit(number, bytes.len() as u8)
                }
                _ => Datum::Bytes(bytes.clone()),
            };
            Expr::constant(ty, datum)
        }
        Literal::Temporal { kind, text } => {
            let name = match *kind {
                "date" => CastName::Date,
                "time" => CastName::Time,
                _ => CastName::Datetime,
            };
            let fraction = text.rsplit_once('.').map_or(0, |(_, digits)| digits.len());
            let length = Some(fraction.min(6) as i64).filter(|_| name != CastName::Date);
            let ty = of_cast(name, length, None, Collation::Binary);
            let ctx = Ctx {
                session,
                row: &[],
                random: std::cell::Cell::new(0),
            };
            let text = Datum::Bytes(text.clone().into_bytes());
            let value = cast::temporal(&ctx, &text, &ty)
                .map_err(|error| CompileError::Other(error.message))?;
            Expr::constant(ty, value)
        }
    })
}

/// `Incorrect arguments to …`.
pub(super) fn wrong_arguments(name: &str) -> EvalError {
    const WRONG_ARGUMENTS: u16 = 1210;
    EvalError::new(WRONG_ARGUMENTS, format!("Incorrect arguments to {name}"))
}

/// `… value is out of range in …`.
pub(super) fn out_of_range(what: &str) -> EvalError {
    let message = format!("{what} value is out of range in an expression");
    EvalError::new(code::DATA_OUT_OF_RANGE, message)
}
