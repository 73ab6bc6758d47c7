//! Function calls: aggregates, windows, and the scalar functions by their SQLite counterpart.

use super::convert::{literal, real, text};
use super::exprs::{Emit, Typed};
use super::scope::collated;
use super::types::{DIVISION_SCALE, Kind, Ty, unify};
use crate::error::{SqlError, SqlResult};
use crate::expr::{CallTail, Expr, Window};

impl Emit<'_, '_> {
    pub fn call(
        &self,
        name: &str,
        distinct: bool,
        args: &[Expr],
        tail: &CallTail,
    ) -> SqlResult<Typed> {
        if let Some(value) = self.translator.tables.session_function(name, args)? {
            return self.expr(&value);
        }
        if let Some((sql, ty)) = self.aggregate(name, distinct, args, tail)? {
            let over = tail
                .over
                .as_ref()
                .map_or(Ok(String::new()), |w| self.window(w))?;
            return Ok((sql + &over, ty));
        }
        let typed = args
            .iter()
            .map(|a| self.expr(a))
            .collect::<SqlResult<Vec<_>>>()?;
        self.scalar(name, args, &typed)
    }

    fn window(&self, window: &Window) -> SqlResult<String> {
        let mut parts = Vec::new();
        if !window.partition_by.is_empty() {
            let list: Vec<String> = window
                .partition_by
                .iter()
                .map(|e| self.expr(e).map(|(s, t)| collated(&s, &t)))
                .collect::<SqlResult<_>>()?;
            parts.push(format!("PARTITION BY {}", list.join(", ")));
        }
        if !window.order_by.is_empty() {
            let item = |i: &crate::expr::OrderItem| {
                self.expr(&i.expr).map(|(s, t)| {
                    format!("{}{}", collated(&s, &t), if i.desc { " DESC" } else { "" })
                })
            };
            let list: Vec<String> = window.order_by.iter().map(item).collect::<SqlResult<_>>()?;
            parts.push(format!("ORDER BY {}", list.join(", ")));
        }
        parts.push(window.frame.clone());
        Ok(format!(" OVER ({})", parts.join(" ")))
    }

    fn aggregate(
        &self,
        name: &str,
        distinct: bool,
        args: &[Expr],
        tail: &CallTail,
    ) -> SqlResult<Option<Typed>> {
        let unique = if distinct { "DISTINCT " } else { "" };
        let first = || {
            args.first()
                .ok_or_else(|| SqlError::syntax(name))
                .and_then(|a| self.expr(a))
        };
        Ok(Some(match name {
            "count" if tail.star => ("count(*)".to_owned(), Ty::int()),
            "count" if distinct && args.len() > 1 => {
                let parts: Vec<String> = args
                    .iter()
                    .map(|a| {
                        self.expr(a)
                            .map(|(s, t)| format!("quote({})", text(&s, &t)))
                    })
                    .collect::<SqlResult<_>>()?;
                (
                    format!("count(DISTINCT {})", parts.join(" || ',' || ")),
                    Ty::int(),
                )
            }
            "count" => {
                let (sql, ty) = first()?;
                (format!("count({unique}{})", collated(&sql, &ty)), Ty::int())
            }
            "sum" | "avg" => {
                let (sql, ty) = first()?;
                match ty.kind {
                    Kind::Int | Kind::Decimal | Kind::Null => {
                        let scale = ty.scale + if name == "avg" { DIVISION_SCALE } else { 0 };
                        (
                            format!("th_{name}({unique}{sql})"),
                            Ty::new(Kind::Decimal, scale),
                        )
                    }
                    _ => (
                        format!("{name}({unique}{})", real(&sql, &ty)),
                        Ty::new(Kind::Double, 0),
                    ),
                }
            }
            "min" | "max" => {
                let (sql, ty) = first()?;
                (format!("{name}({})", collated(&sql, &ty)), ty)
            }
            "group_concat" => {
                let parts: Vec<String> = args
                    .iter()
                    .map(|a| self.expr(a).map(|(s, t)| text(&s, &t)))
                    .collect::<SqlResult<_>>()?;
                let separator = literal(tail.separator.as_deref().unwrap_or(",").as_bytes());
                let order: Vec<String> = tail
                    .order_by
                    .iter()
                    .map(|i| {
                        self.expr(&i.expr).map(|(s, t)| {
                            format!("{}{}", collated(&s, &t), if i.desc { " DESC" } else { "" })
                        })
                    })
                    .collect::<SqlResult<_>>()?;
                let order = if order.is_empty() {
                    String::new()
                } else {
                    format!(" ORDER BY {}", order.join(", "))
                };
                let separator = if distinct && separator == "','" {
                    String::new()
                } else {
                    format!(", {separator}")
                };
                (
                    format!(
                        "group_concat({unique}{}{separator}{order})",
                        parts.join(" || ")
                    ),
                    Ty::text(),
                )
            }
            "bit_xor" | "bit_and" | "bit_or" => (format!("th_{name}({})", first()?.0), Ty::int()),
            "any_value" => first()?,
            "row_number" | "rank" | "dense_rank" | "ntile" => {
                let parts: Vec<String> = args
                    .iter()
                    .map(|a| self.expr(a).map(|t| t.0))
                    .collect::<SqlResult<_>>()?;
                (format!("{name}({})", parts.join(", ")), Ty::int())
            }
            "lag" | "lead" | "first_value" | "last_value" | "nth_value" => {
                let parts: Vec<String> = args
                    .iter()
                    .map(|a| self.expr(a).map(|t| t.0))
                    .collect::<SqlResult<_>>()?;
                (format!("{name}({})", parts.join(", ")), first()?.1)
            }
            _ => return Ok(None),
        }))
    }

    fn scalar(&self, name: &str, args: &[Expr], typed: &[Typed]) -> SqlResult<Typed> {
        let sql = |i: usize| {
            typed.get(i).map(|t| t.0.clone()).ok_or_else(|| {
                SqlError::new(
                    1582,
                    format!("Incorrect parameter count in the call to native function '{name}'"),
                )
            })
        };
        let ty = |i: usize| typed.get(i).map_or_else(Ty::text, |t| t.1.clone());
        let texts = || typed.iter().map(|(s, t)| text(s, t)).collect::<Vec<_>>();
        let list = || {
            typed
                .iter()
                .map(|t| t.0.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let as_text = |i: usize| sql(i).map(|s| text(&s, &ty(i)));
        let widest = || {
            typed
                .iter()
                .fold(Ty::new(Kind::Null, 0), |all, (_, t)| unify(&all, t))
        };
        Ok(match name {
            "if" => {
                let condition =
                    self.condition(args.first().ok_or_else(|| SqlError::syntax(name))?)?;
                (
                    format!("iif({condition}, {}, {})", sql(1)?, sql(2)?),
                    unify(&ty(1), &ty(2)),
                )
            }
            "ifnull" | "coalesce" => (format!("coalesce({}, NULL)", list()), widest()),
            "nullif" => {
                let (Some(a), Some(b)) = (args.first(), args.get(1)) else {
                    return Err(SqlError::syntax(name));
                };
                (
                    format!("iif({}, NULL, {})", self.comparison("=", a, b)?.0, sql(0)?),
                    ty(0),
                )
            }
            "isnull" => (format!("({} IS NULL)", sql(0)?), Ty::int()),
            "greatest" | "least" => {
                let all = widest();
                let function = if name == "greatest" { "max" } else { "min" };
                let parts: Vec<String> = typed
                    .iter()
                    .map(|(s, t)| {
                        if all.kind == Kind::Decimal {
                            format!("th_dec({s})")
                        } else if all.kind == Kind::Double {
                            real(s, t)
                        } else {
                            s.clone()
                        }
                    })
                    .map(|s| collated(&s, &all))
                    .collect();
                (format!("{function}({})", parts.join(", ")), all)
            }
            "concat" => (format!("({})", texts().join(" || ")), Ty::text()),
            "concat_ws" => (format!("th_concat_ws({})", texts().join(", ")), Ty::text()),
            "lower" | "lcase" => (
                format!("th_lower({})", as_text(0)?),
                Ty {
                    kind: Kind::Text,
                    ..ty(0)
                },
            ),
            "upper" | "ucase" => (
                format!("th_upper({})", as_text(0)?),
                Ty {
                    kind: Kind::Text,
                    ..ty(0)
                },
            ),
            "substring" | "substr" | "mid" => (
                format!(
                    "th_substr({})",
                    [
                        vec![as_text(0)?],
                        (1..typed.len()).map(&sql).collect::<SqlResult<Vec<_>>>()?
                    ]
                    .concat()
                    .join(", ")
                ),
                Ty {
                    kind: Kind::Text,
                    scale: 0,
                    ..if ty(0).kind == Kind::Text {
                        ty(0)
                    } else {
                        Ty::text()
                    }
                },
            ),
            "left" => (
                format!("th_substr({}, 1, {})", as_text(0)?, sql(1)?),
                Ty::text(),
            ),
            "right" => (
                format!("th_right({}, {})", as_text(0)?, sql(1)?),
                Ty::text(),
            ),
            "ltrim" | "rtrim" => (format!("{name}({})", as_text(0)?), Ty::text()),
            "replace" => (format!("replace({})", texts().join(", ")), Ty::text()),
            "reverse" | "lpad" | "rpad" | "repeat" | "space" => {
                (format!("th_{name}({})", texts().join(", ")), Ty::text())
            }
            "locate" => (
                format!("instr({}, {})", as_text(1)?, as_text(0)?),
                Ty::int(),
            ),
            "instr" => (
                format!("instr({}, {})", as_text(0)?, as_text(1)?),
                Ty::int(),
            ),
            "length" | "octet_length" => {
                (format!("length(CAST({} AS BLOB))", as_text(0)?), Ty::int())
            }
            "char_length" | "character_length" => (format!("length({})", as_text(0)?), Ty::int()),
            "ascii" => (format!("th_ascii({})", as_text(0)?), Ty::int()),
            "hex" => (format!("th_hex({})", sql(0)?), Ty::text()),
            "unhex" => (format!("unhex({})", as_text(0)?), Ty::new(Kind::Blob, 0)),
            "sha1" | "sha" => (format!("th_sha1({})", as_text(0)?), Ty::text()),
            "json_extract" => (
                format!("({} -> {})", sql(0)?, sql(1)?),
                Ty::new(Kind::Json, 0),
            ),
            "json_unquote" => (format!("th_json_unquote({})", sql(0)?), Ty::text()),
            "json_length" => (format!("json_array_length({})", sql(0)?), Ty::int()),
            _ => return self.number_or_date(name, typed),
        })
    }

    fn number_or_date(&self, name: &str, typed: &[Typed]) -> SqlResult<Typed> {
        let (first, ty) = typed
            .first()
            .cloned()
            .unwrap_or_else(|| ("NULL".to_owned(), Ty::text()));
        let list = typed
            .iter()
            .map(|t| t.0.clone())
            .collect::<Vec<_>>()
            .join(", ");
        let reals = typed
            .iter()
            .map(|(s, t)| real(s, t))
            .collect::<Vec<_>>()
            .join(", ");
        let exact = matches!(ty.kind, Kind::Int | Kind::Decimal);
        Ok(match name {
            "abs" if ty.kind == Kind::Decimal => (format!("ltrim({first}, '-')"), ty),
            "abs" => (format!("abs({first})"), ty),
            "round" | "truncate" if exact => {
                let digits = typed.get(1).map_or("0", |t| t.0.as_str());
                let scale = digits.parse::<i32>().unwrap_or(ty.scale).clamp(0, 30);
                let out = if ty.kind == Kind::Int {
                    ty
                } else {
                    Ty::new(Kind::Decimal, scale.min(ty.scale.max(0)))
                };
                (format!("th_{name}({first}, {digits})"), out)
            }
            "round" => (format!("round({reals})"), Ty::new(Kind::Double, 0)),
            "floor" | "ceil" | "ceiling" if exact => (
                format!(
                    "th_{}({first})",
                    if name == "floor" { "floor" } else { "ceil" }
                ),
                Ty::int(),
            ),
            "floor" | "ceil" | "ceiling" | "sqrt" | "ln" | "log" | "log2" | "log10" | "exp"
            | "pow" | "power" | "sin" | "cos" | "rand" => {
                let name = match name {
                    "ceiling" => "ceil",
                    "power" => "pow",
                    "log" => "ln",
                    other => other,
                };
                (format!("th_f_{name}({reals})"), Ty::new(Kind::Double, 0))
            }
            "sign" => (format!("th_sign({})", real(&first, &ty)), Ty::int()),
            "mod" if exact => (
                format!("th_mod({list})"),
                unify(&ty, &typed.get(1).map_or_else(Ty::int, |t| t.1.clone())),
            ),
            "year" | "month" | "day" | "hour" | "minute" | "second" | "quarter" | "week"
            | "microsecond" => (format!("th_extract('{name}', {first})"), Ty::int()),
            "dayofmonth" => (format!("th_extract('day', {first})"), Ty::int()),
            "dayofweek" | "weekday" | "dayofyear" | "to_days" | "to_seconds" | "unix_timestamp"
            | "datediff" | "timestampdiff" | "time_to_sec" => {
                (format!("th_{name}({list})"), Ty::int())
            }
            "date" | "last_day" => (format!("th_{name}({first})"), Ty::new(Kind::Date, 0)),
            "from_days" => (format!("th_from_days({first})"), Ty::new(Kind::Date, 0)),
            "from_unixtime" => (
                format!("th_from_unixtime({first})"),
                Ty::new(Kind::DateTime, 0),
            ),
            "timestamp" => (
                format!("th_datetime({first}, 6)"),
                Ty::new(Kind::DateTime, 6),
            ),
            "date_format" => (format!("th_date_format({list})"), Ty::text()),
            other => {
                return Err(SqlError::new(
                    1305,
                    format!("FUNCTION {other} does not exist"),
                ));
            }
        })
    }
}
