//! Expressions into SQLite's dialect, with their types. Where the two differ (exact decimals, dates,
//! collations, division) a function of ours is called; the rest is SQLite's own operators, so that it can
//! use its indexes and the handle ranges of the virtual tables.

use super::convert::{blob, common, literal, number, real, text};
use super::scope::{Scope, ScopeColumn, ScopeTable, collated, ident};
use super::translate::{OutColumn, Translator};
use super::types::{DIVISION_SCALE, Kind, Ty, unify};
use crate::error::{SqlError, SqlResult};
use crate::expr::{CastType, Expr};

/// SQL text and its type.
pub type Typed = (String, Ty);

/// Translates expressions within one scope.
pub struct Emit<'t, 's> {
    pub translator: &'t Translator<'t>,
    pub scope: &'s Scope<'s>,
}

impl Emit<'_, '_> {
    /// Translates `expr`.
    pub fn expr(&self, expr: &Expr) -> SqlResult<Typed> {
        Ok(match expr {
            Expr::Null => ("NULL".to_owned(), Ty::new(Kind::Null, 0)),
            Expr::Bool(value) => (i32::from(*value).to_string(), Ty::int()),
            Expr::Number(text) => number(text),
            Expr::Str { bytes, .. } => (
                literal(bytes),
                Ty {
                    length: bytes.len() as i64,
                    ..Ty::text()
                },
            ),
            Expr::Binary(bytes) => (blob(bytes), Ty::new(Kind::Blob, 0)),
            Expr::Temporal { kind, text } => self.temporal(kind, text),
            Expr::Column { table, name } => self.column(table.as_deref(), name)?,
            Expr::Paren(inner) => {
                let (sql, ty) = self.expr(inner)?;
                (format!("({sql})"), ty)
            }
            Expr::Unary { op, expr } => self.unary(op, expr)?,
            Expr::Op { op, left, right } => self.operation(op, left, right)?,
            Expr::Call {
                name,
                distinct,
                args,
                tail,
            } => self.call(name, *distinct, args, tail)?,
            Expr::Cast { expr, to, .. } => self.cast(expr, to)?,
            Expr::Using { expr, charset } => {
                let (sql, _) = self.expr(expr)?;
                if charset == "binary" {
                    (format!("CAST({sql} AS BLOB)"), Ty::new(Kind::Blob, 0))
                } else {
                    (format!("CAST({sql} AS TEXT)"), Ty::text())
                }
            }
            Expr::Case {
                operand,
                arms,
                otherwise,
            } => self.case(operand.as_deref(), arms, otherwise.as_deref())?,
            Expr::In { expr, list, not } => self.in_list(expr, list, *not)?,
            Expr::InQuery { expr, query, not } => {
                let (left, ty) = self.expr(expr)?;
                let (sql, _) = self.translator.query(query, Some(self.scope), true)?;
                (
                    format!(
                        "{} {}IN ({sql})",
                        collated(&left, &ty),
                        if *not { "NOT " } else { "" }
                    ),
                    Ty::int(),
                )
            }
            Expr::Between {
                expr,
                low,
                high,
                not,
            } => {
                let low = self.comparison(">=", expr, low)?.0;
                let high = self.comparison("<=", expr, high)?.0;
                (
                    format!("{}({low} AND {high})", if *not { "NOT " } else { "" }),
                    Ty::int(),
                )
            }
            Expr::Like {
                expr,
                pattern,
                escape,
                not,
                regexp,
            } => self.like(expr, pattern, escape.as_deref(), *not, *regexp)?,
            Expr::Is { expr, what, not } => {
                let (sql, _) = self.expr(expr)?;
                let what = match *what {
                    "true" => "TRUE",
                    "false" => "FALSE",
                    _ => "NULL",
                };
                (
                    format!("({sql} IS {}{what})", if *not { "NOT " } else { "" }),
                    Ty::int(),
                )
            }
            Expr::Exists(query) => (
                format!(
                    "EXISTS ({})",
                    self.translator.query(query, Some(self.scope), true)?.0
                ),
                Ty::int(),
            ),
            Expr::Subquery(query) => {
                let (sql, columns) = self.translator.query(query, Some(self.scope), true)?;
                let [column] = columns.as_slice() else {
                    return Err(SqlError::new(1241, "Operand should contain 1 column(s)"));
                };
                (format!("({sql})"), column.ty.clone())
            }
            Expr::DateAdd {
                expr,
                amount,
                unit,
                minus,
            } => self.date_add(expr, amount, unit, *minus)?,
            Expr::Extract { unit, expr } => (
                format!("th_extract('{unit}', {})", self.expr(expr)?.0),
                Ty::int(),
            ),
            Expr::Trim { side, what, expr } => {
                let (sql, _) = self.expr(expr)?;
                let what = what
                    .as_ref()
                    .map_or(Ok("' '".to_owned()), |w| self.expr(w).map(|w| w.0))?;
                (format!("th_trim('{side}', {what}, {sql})"), Ty::text())
            }
            Expr::Collate { expr, collation } => {
                let (sql, ty) = self.expr(expr)?;
                crate::ddl::charset_of_collation(collation)?;
                (
                    sql,
                    Ty {
                        collation: collation.clone(),
                        ..ty
                    },
                )
            }
            Expr::Row(items) => {
                let parts: Vec<String> = items
                    .iter()
                    .map(|e| self.expr(e).map(|t| t.0))
                    .collect::<SqlResult<_>>()?;
                (format!("({})", parts.join(", ")), Ty::text())
            }
            Expr::UserVar(_) | Expr::SysVar { .. } => {
                self.expr(&self.translator.tables.variable(expr)?)?
            }
            Expr::Default(_) | Expr::Values(_) | Expr::Param(_) => {
                return Err(SqlError::syntax("DEFAULT"));
            }
        })
    }

    fn column(&self, table: Option<&str>, name: &str) -> SqlResult<Typed> {
        if let Some((table, column)) = self.scope.resolve(table, name) {
            return self.column_of(table, column);
        }
        let alias = self
            .scope
            .aliases
            .iter()
            .find(|(alias, ..)| table.is_none() && alias.eq_ignore_ascii_case(name));
        let (_, sql, ty) = alias.ok_or_else(|| SqlError::unknown_column(name, "field list"))?;
        Ok((format!("({sql})"), ty.clone()))
    }

    /// A column of a table; one that is not stored is computed from those that are.
    pub fn column_of(&self, table: &ScopeTable, column: &ScopeColumn) -> SqlResult<Typed> {
        let Some(expr) = &column.generated else {
            table.used.borrow_mut().insert(column.name.to_lowercase());
            return Ok((
                format!("{}.{}", ident(&table.alias), ident(&column.name)),
                column.ty.clone(),
            ));
        };
        let qualified = crate::expr::qualify(expr, &table.alias);
        Ok((format!("({})", self.expr(&qualified)?.0), column.ty.clone()))
    }

    /// An item of GROUP BY or ORDER BY, which may be an ordinal or an alias.
    pub fn named(&self, expr: &Expr, columns: &[OutColumn]) -> SqlResult<Typed> {
        if let Expr::Number(number) = expr
            && let Ok(position) = number.parse::<usize>()
        {
            let column = position
                .checked_sub(1)
                .and_then(|p| columns.get(p))
                .ok_or_else(|| SqlError::unknown_column(number, "order clause"))?;
            return Ok((position.to_string(), column.ty.clone()));
        }
        if let Expr::Column { table: None, name } = expr
            && let Some(position) = columns
                .iter()
                .position(|c| c.name.eq_ignore_ascii_case(name))
        {
            return Ok(((position + 1).to_string(), columns[position].ty.clone()));
        }
        self.expr(expr)
    }

    /// A condition: anything that is a number decides by being zero.
    pub fn condition(&self, expr: &Expr) -> SqlResult<String> {
        let (sql, ty) = self.expr(expr)?;
        Ok(if ty.kind == Kind::Int {
            format!("({sql})")
        } else {
            format!("(th_real({sql}) <> 0)")
        })
    }

    /// The one table of this scope whose columns `expr` reads, if it reads no other and no subquery.
    pub fn only_table(&self, expr: &Expr) -> Option<usize> {
        let text = format!("{expr:?}");
        if ["Subquery(", "Exists(", "InQuery"]
            .iter()
            .any(|s| text.contains(s))
        {
            return None;
        }
        let mut owners = Vec::new();
        let columns = crate::expr::columns_with_tables(expr);
        for (table, name) in columns {
            let matches = |t: &ScopeTable| {
                table
                    .as_ref()
                    .is_none_or(|a| a.eq_ignore_ascii_case(&t.alias))
                    && t.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&name))
            };
            let owner = self.scope.tables.iter().position(matches)?;
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        match owners.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    fn temporal(&self, kind: &str, text: &str) -> Typed {
        let text = literal(text.as_bytes());
        match kind {
            "date" => (format!("th_date({text})"), Ty::new(Kind::Date, 0)),
            "time" => (text, Ty::new(Kind::Time, 0)),
            _ => (
                format!("th_datetime({text}, 6)"),
                Ty::new(Kind::DateTime, 6),
            ),
        }
    }

    fn unary(&self, op: &str, expr: &Expr) -> SqlResult<Typed> {
        if op == "-"
            && let Expr::Number(text) = expr
        {
            return Ok(number(&format!("-{text}")));
        }
        let (sql, ty) = self.expr(expr)?;
        Ok(match op {
            "-" if ty.kind == Kind::Decimal => (format!("th_sub('0', {sql})"), ty),
            "-" if ty.kind == Kind::Int => (format!("(-{sql})"), Ty::int()),
            "-" => (format!("(-th_real({sql}))"), Ty::new(Kind::Double, 0)),
            "+" => (sql, ty),
            "~" => (format!("(~{sql})"), Ty::int()),
            "binary" => (format!("CAST({sql} AS BLOB)"), Ty::new(Kind::Blob, 0)),
            _ => (format!("(NOT {})", self.condition(expr)?), Ty::int()),
        })
    }

    fn operation(&self, op: &str, left: &Expr, right: &Expr) -> SqlResult<Typed> {
        match op {
            "and" | "or" => Ok((
                format!(
                    "({} {} {})",
                    self.condition(left)?,
                    op.to_uppercase(),
                    self.condition(right)?
                ),
                Ty::int(),
            )),
            "xor" => Ok((
                format!("({} <> {})", self.condition(left)?, self.condition(right)?),
                Ty::int(),
            )),
            "=" | "!=" | "<" | "<=" | ">" | ">=" | "<=>" => self.comparison(op, left, right),
            "&" | "|" | "<<" | ">>" => {
                let (l, r) = (self.expr(left)?.0, self.expr(right)?.0);
                Ok((format!("({l} {op} {r})"), Ty::int()))
            }
            "^" => Ok((
                format!("th_xor({}, {})", self.expr(left)?.0, self.expr(right)?.0),
                Ty::int(),
            )),
            _ => self.arithmetic(op, left, right),
        }
    }

    fn arithmetic(&self, op: &str, left: &Expr, right: &Expr) -> SqlResult<Typed> {
        let ((l, lt), (r, rt)) = (self.expr(left)?, self.expr(right)?);
        let exact = |t: &Ty| matches!(t.kind, Kind::Int | Kind::Decimal | Kind::Null);
        if !(exact(&lt) && exact(&rt)) {
            let (l, r) = (real(&l, &lt), real(&r, &rt));
            return Ok(match op {
                "div" => (format!("th_idiv({l}, {r})"), Ty::int()),
                "%" => (format!("th_fmod({l}, {r})"), Ty::new(Kind::Double, 0)),
                _ => (format!("({l} {op} {r})"), Ty::new(Kind::Double, 0)),
            });
        }
        let integers = lt.kind != Kind::Decimal && rt.kind != Kind::Decimal;
        Ok(match op {
            "/" => {
                let scale = lt.scale + DIVISION_SCALE;
                (
                    format!("th_div({l}, {r}, {scale})"),
                    Ty::new(Kind::Decimal, scale),
                )
            }
            "div" => (format!("th_idiv({l}, {r})"), Ty::int()),
            _ if integers => (format!("({l} {op} {r})"), Ty::int()),
            "+" => (
                format!("th_add({l}, {r})"),
                Ty::new(Kind::Decimal, lt.scale.max(rt.scale)),
            ),
            "-" => (
                format!("th_sub({l}, {r})"),
                Ty::new(Kind::Decimal, lt.scale.max(rt.scale)),
            ),
            "*" => (
                format!("th_mul({l}, {r})"),
                Ty::new(Kind::Decimal, lt.scale + rt.scale),
            ),
            "%" => (
                format!("th_mod({l}, {r})"),
                Ty::new(Kind::Decimal, lt.scale.max(rt.scale)),
            ),
            _ => return Err(SqlError::unsupported(format_args!("the operator {op}"))),
        })
    }

    /// Compares two expressions after bringing them to one representation.
    pub fn comparison(&self, op: &str, left: &Expr, right: &Expr) -> SqlResult<Typed> {
        let op = match op {
            "<=>" => "IS",
            "!=" => "<>",
            other => other,
        };
        if let (Expr::Row(l), Expr::Row(r)) = (left, right) {
            if l.len() != r.len() || !matches!(op, "=" | "IS") {
                return Err(SqlError::unsupported("this comparison of rows"));
            }
            let parts: Vec<String> = l
                .iter()
                .zip(r)
                .map(|(a, b)| self.comparison(op, a, b).map(|t| t.0))
                .collect::<SqlResult<_>>()?;
            return Ok((format!("({})", parts.join(" AND ")), Ty::int()));
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        let (l, r, ty) = common(left, right);
        Ok((format!("{} {op} {r}", collated(&l, &ty)), Ty::int()))
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], not: bool) -> SqlResult<Typed> {
        let left = self.expr(expr)?;
        if matches!(expr, Expr::Row(_)) {
            let any: Vec<String> = list
                .iter()
                .map(|e| self.comparison("=", expr, e).map(|t| t.0))
                .collect::<SqlResult<_>>()?;
            return Ok((
                format!("{}({})", if not { "NOT " } else { "" }, any.join(" OR ")),
                Ty::int(),
            ));
        }
        let mut items = Vec::new();
        let mut shape = left.clone();
        for item in list {
            let (l, r, ty) = common(left.clone(), self.expr(item)?);
            items.push(r);
            if ty.kind != Kind::Null {
                shape = (l, ty);
            }
        }
        Ok((
            format!(
                "{} {}IN ({})",
                collated(&shape.0, &shape.1),
                if not { "NOT " } else { "" },
                items.join(", ")
            ),
            Ty::int(),
        ))
    }

    fn like(
        &self,
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        not: bool,
        regexp: bool,
    ) -> SqlResult<Typed> {
        if regexp {
            return Err(SqlError::unsupported("REGEXP"));
        }
        let ((l, lt), (r, _)) = (self.expr(expr)?, self.expr(pattern)?);
        let escape = escape.map_or(Ok("'\\'".to_owned()), |e| self.expr(e).map(|e| e.0))?;
        let fold = i32::from(lt.collation.ends_with("_ci"));
        Ok((
            format!(
                "{}th_like({l}, {r}, {escape}, {fold})",
                if not { "NOT " } else { "" }
            ),
            Ty::int(),
        ))
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        arms: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> SqlResult<Typed> {
        let mut sql = "CASE".to_owned();
        let mut ty = Ty::new(Kind::Null, 0);
        for (when, then) in arms {
            let condition = match operand {
                Some(operand) => self.comparison("=", operand, when)?.0,
                None => self.condition(when)?,
            };
            let (then, then_ty) = self.expr(then)?;
            ty = unify(&ty, &then_ty);
            sql = format!("{sql} WHEN {condition} THEN {then}");
        }
        if let Some(otherwise) = otherwise {
            let (value, value_ty) = self.expr(otherwise)?;
            ty = unify(&ty, &value_ty);
            sql = format!("{sql} ELSE {value}");
        }
        Ok((format!("({sql} END)"), ty))
    }

    fn cast(&self, expr: &Expr, to: &CastType) -> SqlResult<Typed> {
        let (sql, ty) = self.expr(expr)?;
        let length = to.length.unwrap_or(0);
        Ok(match to.name {
            "signed" | "unsigned" | "year" => (format!("th_int({sql})"), Ty::int()),
            "decimal" => {
                let scale = to.scale.unwrap_or(0);
                (
                    format!("th_round({sql}, {scale})"),
                    Ty::new(Kind::Decimal, scale),
                )
            }
            "double" | "float" => (format!("th_real({sql})"), Ty::new(Kind::Double, 0)),
            "date" => (format!("th_date({sql})"), Ty::new(Kind::Date, 0)),
            "datetime" => (
                format!("th_datetime({sql}, {length})"),
                Ty::new(Kind::DateTime, length),
            ),
            "time" => (format!("th_time({sql})"), Ty::new(Kind::Time, length)),
            "json" => (sql, Ty::new(Kind::Json, 0)),
            "binary" => (
                format!("CAST({} AS BLOB)", text(&sql, &ty)),
                Ty::new(Kind::Blob, 0),
            ),
            _ if to.length.is_some() => (
                format!("substr({}, 1, {length})", text(&sql, &ty)),
                Ty::text(),
            ),
            _ => (text(&sql, &ty), Ty::text()),
        })
    }

    fn date_add(&self, expr: &Expr, amount: &Expr, unit: &str, minus: bool) -> SqlResult<Typed> {
        let ((sql, ty), (amount, _)) = (self.expr(expr)?, self.expr(amount)?);
        let by_time = ["hour", "minute", "second"]
            .iter()
            .any(|u| unit.contains(u));
        let ty = match ty.kind {
            Kind::Date if !by_time => Ty::new(Kind::Date, 0),
            Kind::Date | Kind::DateTime => Ty::new(
                Kind::DateTime,
                if unit.contains("micro") { 6 } else { ty.scale },
            ),
            _ => Ty::text(),
        };
        Ok((
            format!(
                "th_date_add({sql}, {}({amount}), '{unit}')",
                if minus { "-" } else { "" }
            ),
            ty,
        ))
    }
}
