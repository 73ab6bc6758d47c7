//! Expressions by precedence climbing. Depth is bounded, so hostile nesting cannot overflow the stack.

use super::calls::{function, unit_name};
use super::query::parse_query;
use super::{CallTail, Expr};
use crate::error::{SqlError, SqlResult};
use crate::lexer::{Cursor, Tok};

/// Nested expressions beyond this are refused.
pub(super) const DEPTH_MAX: usize = 64;
/// Operators in one chain: `a + b + c …` nests to the left.
const CHAIN_MAX: usize = 256;

/// One expression.
pub fn parse_expr(at: &mut Cursor<'_>) -> SqlResult<Expr> {
    climb(at, 0, 0)
}

/// Binding strength of the binary operator here, its canonical spelling and its length in tokens.
fn operator(at: &Cursor<'_>) -> Option<(u8, &'static str, usize)> {
    Some(match at.peek()? {
        Tok::Op(op) => match *op {
            "||" => (1, "or", 1),
            "&&" => (3, "and", 1),
            "=" => (5, "=", 1),
            "<=>" => (5, "<=>", 1),
            "<>" | "!=" => (5, "!=", 1),
            "<" => (5, "<", 1),
            "<=" => (5, "<=", 1),
            ">" => (5, ">", 1),
            ">=" => (5, ">=", 1),
            "|" => (6, "|", 1),
            "&" => (7, "&", 1),
            "<<" => (8, "<<", 1),
            ">>" => (8, ">>", 1),
            "+" => (9, "+", 1),
            "-" => (9, "-", 1),
            "*" => (10, "*", 1),
            "/" => (10, "/", 1),
            "%" => (10, "%", 1),
            "^" => (11, "^", 1),
            _ => return None,
        },
        Tok::Word(word) => match word.to_ascii_lowercase().as_str() {
            "or" => (1, "or", 1),
            "xor" => (2, "xor", 1),
            "and" => (3, "and", 1),
            "div" => (10, "div", 1),
            "mod" => (10, "%", 1),
            _ => return None,
        },
        _ => return None,
    })
}

const COMPARISON: u8 = 5;

pub(super) fn climb(at: &mut Cursor<'_>, min: u8, depth: usize) -> SqlResult<Expr> {
    if depth > DEPTH_MAX {
        return Err(SqlError::unsupported("expressions nested this deep"));
    }
    let mut left = unary(at, min, depth)?;
    for _ in 0..CHAIN_MAX {
        if min <= COMPARISON
            && let Some(next) = predicate(at, &left, depth)?
        {
            left = next;
            continue;
        }
        let Some((power, op, tokens)) = operator(at) else {
            return Ok(left);
        };
        if power < min {
            return Ok(left);
        }
        at.skip(tokens);
        if at.is("interval") && matches!(op, "+" | "-") {
            at.skip(1);
            let amount = climb(at, 6, depth + 1)?;
            let unit = unit_name(at)?;
            left = Expr::DateAdd {
                expr: left.into(),
                amount: amount.into(),
                unit,
                minus: op == "-",
            };
            continue;
        }
        let right = climb(at, power + 1, depth + 1)?;
        left = Expr::Op {
            op,
            left: left.into(),
            right: right.into(),
        };
    }
    Err(SqlError::unsupported("this many operators in a row"))
}

/// `IS`, `IN`, `BETWEEN`, `LIKE`, `REGEXP`, `COLLATE` after `left`.
fn predicate(at: &mut Cursor<'_>, left: &Expr, depth: usize) -> SqlResult<Option<Expr>> {
    if at.eat("is") {
        let not = at.eat("not");
        let what = ["null", "true", "false", "unknown"]
            .into_iter()
            .find(|w| at.eat(w))
            .ok_or_else(|| at.error())?;
        let what = if what == "unknown" { "null" } else { what };
        return Ok(Some(Expr::Is {
            expr: left.clone().into(),
            what,
            not,
        }));
    }
    let not = at.is("not")
        && ["in", "between", "like", "regexp", "rlike"]
            .iter()
            .any(|w| at.is_at(1, w));
    at.skip(usize::from(not));
    let expr = || Box::new(left.clone());
    if at.eat("in") {
        at.expect_op("(")?;
        if starts_query(at) {
            let query = Box::new(parse_query(at, depth + 1)?);
            at.expect_op(")")?;
            return Ok(Some(Expr::InQuery {
                expr: expr(),
                query,
                not,
            }));
        }
        let list = list(at, depth)?;
        return Ok(Some(Expr::In {
            expr: expr(),
            list,
            not,
        }));
    }
    if at.eat("between") {
        let low = climb(at, 6, depth + 1)?.into();
        at.expect("and")?;
        let high = climb(at, 6, depth + 1)?.into();
        return Ok(Some(Expr::Between {
            expr: expr(),
            low,
            high,
            not,
        }));
    }
    let regexp = at.is("regexp") || at.is("rlike");
    if regexp || at.is("like") {
        at.skip(1);
        let pattern = climb(at, 6, depth + 1)?.into();
        let escape = if at.eat("escape") {
            Some(climb(at, 6, depth + 1)?.into())
        } else {
            None
        };
        return Ok(Some(Expr::Like {
            expr: expr(),
            pattern,
            escape,
            not,
            regexp,
        }));
    }
    if at.eat("member of") {
        at.expect_op("(")?;
        let array = climb(at, 0, depth + 1)?;
        at.expect_op(")")?;
        return Ok(Some(Expr::Call {
            name: "json_memberof".to_owned(),
            distinct: false,
            args: vec![left.clone(), array],
            tail: CallTail::default(),
        }));
    }
    if at.eat("collate") {
        let collation = name_or_string(at)?.to_lowercase();
        return Ok(Some(Expr::Collate {
            expr: expr(),
            collation,
        }));
    }
    Ok(None)
}

fn unary(at: &mut Cursor<'_>, min: u8, depth: usize) -> SqlResult<Expr> {
    const TIGHT: u8 = 12;
    if at.is("not") && min <= 4 {
        at.skip(1);
        return Ok(Expr::Unary {
            op: "not",
            expr: climb(at, 4, depth + 1)?.into(),
        });
    }
    for op in ["-", "+", "!", "~"] {
        if at.eat_op(op) {
            return Ok(Expr::Unary {
                op,
                expr: climb(at, TIGHT, depth + 1)?.into(),
            });
        }
    }
    if at.is("binary") && !matches!(at.peek_at(1), None | Some(Tok::Op(")" | "," | "." | "="))) {
        at.skip(1);
        return Ok(Expr::Unary {
            op: "binary",
            expr: climb(at, TIGHT, depth + 1)?.into(),
        });
    }
    let mut expr = primary(at, depth)?;
    loop {
        if at.is_op("->") || at.is_op("->>") {
            let unquote = at.is_op("->>");
            at.skip(1);
            let path = Expr::Str {
                introducer: None,
                bytes: at.string()?.into_bytes(),
            };
            expr = call("json_extract", vec![expr, path]);
            if unquote {
                expr = call("json_unquote", vec![expr]);
            }
        } else if min > COMPARISON && at.is("collate") {
            at.skip(1);
            expr = Expr::Collate {
                expr: expr.into(),
                collation: name_or_string(at)?.to_lowercase(),
            };
        } else {
            return Ok(expr);
        }
    }
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Call {
        name: name.to_owned(),
        distinct: false,
        args,
        tail: CallTail::default(),
    }
}

pub(super) fn name_or_string(at: &mut Cursor<'_>) -> SqlResult<String> {
    if matches!(at.peek(), Some(Tok::Str(_))) {
        at.string()
    } else {
        at.name()
    }
}

/// Whether a (possibly parenthesised) query begins here.
pub fn starts_query(at: &Cursor<'_>) -> bool {
    let mut ahead = 0;
    while at.is_op_at(ahead, "(") {
        ahead += 1;
    }
    at.is_at(ahead, "select") || (ahead == 0 && at.is("with"))
}

/// `expr, expr, …)`.
pub(super) fn list(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Vec<Expr>> {
    let mut items = Vec::new();
    if at.eat_op(")") {
        return Ok(items);
    }
    loop {
        items.push(climb(at, 0, depth + 1)?);
        if at.eat_op(")") {
            return Ok(items);
        }
        at.expect_op(",")?;
    }
}

fn primary(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Expr> {
    let here = at.clone();
    match at.next() {
        Some(Tok::Number(text)) => Ok(Expr::Number(text.clone())),
        Some(Tok::Binary(bytes)) => Ok(Expr::Binary(bytes.clone())),
        Some(Tok::UserVar(name)) => Ok(Expr::UserVar(name.to_lowercase())),
        Some(Tok::SysVar(global, name)) => Ok(Expr::SysVar {
            global: *global,
            name: name.clone(),
        }),
        Some(Tok::Op("?")) => Ok(Expr::Param(here.position())),
        Some(Tok::Str(bytes)) => {
            let mut bytes = bytes.clone();
            while let Some(Tok::Str(more)) = at.peek() {
                bytes.extend_from_slice(more);
                at.skip(1);
            }
            Ok(Expr::Str {
                introducer: None,
                bytes,
            })
        }
        Some(Tok::Op("(")) => {
            if starts_query(at) {
                let query = Box::new(parse_query(at, depth + 1)?);
                at.expect_op(")")?;
                return Ok(Expr::Subquery(query));
            }
            let mut items = list(at, depth)?;
            match items.len() {
                1 => Ok(Expr::Paren(items.remove(0).into())),
                0 => Err(here.error()),
                _ => Ok(Expr::Row(items)),
            }
        }
        Some(Tok::Op("*")) => Err(here.error()),
        Some(Tok::Quoted(name)) => column(at, name.clone()),
        Some(Tok::Word(word)) => word_expr(at, word, depth),
        _ => Err(here.error()),
    }
}

fn word_expr(at: &mut Cursor<'_>, word: &str, depth: usize) -> SqlResult<Expr> {
    let lower = word.to_ascii_lowercase();
    match (lower.as_str(), at.peek()) {
        ("null", _) => return Ok(Expr::Null),
        ("true", _) => return Ok(Expr::Bool(true)),
        ("false", _) => return Ok(Expr::Bool(false)),
        ("case", _) => return case(at, depth),
        ("exists", Some(Tok::Op("("))) => {
            at.skip(1);
            let query = Box::new(parse_query(at, depth + 1)?);
            at.expect_op(")")?;
            return Ok(Expr::Exists(query));
        }
        ("date" | "time" | "timestamp", Some(Tok::Str(_))) => {
            let kind = ["date", "time", "timestamp"]
                .into_iter()
                .find(|k| *k == lower)
                .unwrap_or("date");
            return Ok(Expr::Temporal {
                kind,
                text: at.string()?,
            });
        }
        ("row", Some(Tok::Op("("))) => {
            at.skip(1);
            return Ok(Expr::Row(list(at, depth)?));
        }
        ("interval", _) if !matches!(at.peek(), Some(Tok::Op("("))) || interval_follows(at) => {
            let amount = climb(at, 6, depth + 1)?;
            let unit = unit_name(at)?;
            at.expect_op("+")?;
            let expr = climb(at, 10, depth + 1)?;
            return Ok(Expr::DateAdd {
                expr: expr.into(),
                amount: amount.into(),
                unit,
                minus: false,
            });
        }
        ("default", Some(Tok::Op("("))) => {
            at.skip(1);
            let name = at.name()?;
            at.expect_op(")")?;
            return Ok(Expr::Default(Some(name)));
        }
        ("default", _) => return Ok(Expr::Default(None)),
        (
            "current_timestamp" | "current_date" | "current_time" | "localtime" | "localtimestamp"
            | "utc_timestamp" | "utc_date" | "utc_time" | "current_user",
            next,
        ) if !matches!(next, Some(Tok::Op("(" | "."))) => {
            return Ok(call(&lower, Vec::new()));
        }
        (introducer, Some(Tok::Str(bytes))) if introducer.starts_with('_') => {
            at.skip(1);
            return Ok(Expr::Str {
                introducer: Some(introducer[1..].to_owned()),
                bytes: bytes.clone(),
            });
        }
        (introducer, Some(Tok::Binary(bytes))) if introducer.starts_with('_') => {
            at.skip(1);
            return Ok(Expr::Binary(bytes.clone()));
        }
        (_, Some(Tok::Op("("))) => {
            at.skip(1);
            return function(at, &lower, depth);
        }
        _ => {}
    }
    column(at, word.to_owned())
}

/// Whether `INTERVAL ( … ) unit` stands here rather than a function of that name.
fn interval_follows(at: &Cursor<'_>) -> bool {
    let mut ahead = at.clone();
    ahead.skip(1);
    ahead.balanced().is_ok() && unit_name(&mut ahead).is_ok()
}

/// `name`, `table.name`, `db.table.name`; the database is dropped.
fn column(at: &mut Cursor<'_>, first: String) -> SqlResult<Expr> {
    let mut parts = vec![first];
    while parts.len() < 3 && at.is_op(".") && !at.is_op_at(1, "*") {
        at.skip(1);
        parts.push(at.name()?);
    }
    let name = parts.pop().unwrap_or_default();
    Ok(Expr::Column {
        table: parts.pop(),
        name,
    })
}

fn case(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Expr> {
    let operand = if at.is("when") {
        None
    } else {
        Some(climb(at, 0, depth + 1)?.into())
    };
    let mut arms = Vec::new();
    while at.eat("when") {
        let when = climb(at, 0, depth + 1)?;
        at.expect("then")?;
        arms.push((when, climb(at, 0, depth + 1)?));
    }
    let otherwise = if at.eat("else") {
        Some(climb(at, 0, depth + 1)?.into())
    } else {
        None
    };
    at.expect("end")?;
    Ok(Expr::Case {
        operand,
        arms,
        otherwise,
    })
}
