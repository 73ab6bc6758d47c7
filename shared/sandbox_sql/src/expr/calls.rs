//! Calls: the general form with its aggregate and window tails, and the functions that have a grammar of
//! their own (CAST, EXTRACT, TRIM, intervals).

use super::parse::{call, climb, list, name_or_string};
use super::query::parse_order_by;
use super::{CallTail, CastType, Expr, Window};
use crate::error::{SqlError, SqlResult};
use crate::lexer::{Cursor, Tok};

/// A call whose `(` was just read, the special grammars among them included.
pub(super) fn function(at: &mut Cursor<'_>, name: &str, depth: usize) -> SqlResult<Expr> {
    match name {
        "cast" => {
            let expr = climb(at, 0, depth + 1)?.into();
            at.expect("as")?;
            let to = cast_type(at)?;
            at.expect_op(")")?;
            Ok(Expr::Cast {
                expr,
                to,
                convert: false,
            })
        }
        "convert" => {
            let expr = climb(at, 0, depth + 1)?.into();
            let result = if at.eat("using") {
                Expr::Using {
                    expr,
                    charset: name_or_string(at)?.to_lowercase(),
                }
            } else {
                at.expect_op(",")?;
                Expr::Cast {
                    expr,
                    to: cast_type(at)?,
                    convert: true,
                }
            };
            at.expect_op(")")?;
            Ok(result)
        }
        "extract" => {
            let unit = unit_name(at)?;
            at.expect("from")?;
            let expr = climb(at, 0, depth + 1)?.into();
            at.expect_op(")")?;
            Ok(Expr::Extract { unit, expr })
        }
        "date_add" | "date_sub" | "adddate" | "subdate" => {
            let expr = climb(at, 0, depth + 1)?.into();
            at.expect_op(",")?;
            let (amount, unit) = if at.eat("interval") {
                (climb(at, 6, depth + 1)?, unit_name(at)?)
            } else {
                (climb(at, 0, depth + 1)?, "day".to_owned())
            };
            at.expect_op(")")?;
            Ok(Expr::DateAdd {
                expr,
                amount: amount.into(),
                unit,
                minus: name.contains("sub"),
            })
        }
        "trim" => trim(at, depth),
        "timestampdiff" | "timestampadd" => {
            let unit = unit_name(at)?;
            at.expect_op(",")?;
            let mut args = list(at, depth)?;
            args.insert(
                0,
                Expr::Str {
                    introducer: None,
                    bytes: unit.into_bytes(),
                },
            );
            Ok(call(name, args))
        }
        "substring" | "substr" | "mid" | "position" => {
            let mut args = vec![climb(
                at,
                if name == "position" { 6 } else { 0 },
                depth + 1,
            )?];
            while !at.eat_op(")") {
                if !at.eat("from") && !at.eat("for") && !at.eat("in") {
                    at.expect_op(",")?;
                }
                args.push(climb(at, 0, depth + 1)?);
            }
            Ok(call(if name == "position" { "locate" } else { name }, args))
        }
        "values" if depth > 0 || matches!(at.peek(), Some(Tok::Word(_) | Tok::Quoted(_))) => {
            let name = at.qualified()?.1;
            at.expect_op(")")?;
            Ok(Expr::Values(name))
        }
        _ => general_call(at, name, depth),
    }
}

fn general_call(at: &mut Cursor<'_>, name: &str, depth: usize) -> SqlResult<Expr> {
    let mut tail = CallTail::default();
    let distinct = at.eat("distinct");
    let mut args = Vec::new();
    if at.is_op("*") && at.is_op_at(1, ")") {
        at.skip(1);
        tail.star = true;
    } else if !at.is_op(")") {
        loop {
            args.push(climb(at, 0, depth + 1)?);
            if !at.eat_op(",") {
                break;
            }
        }
    }
    if at.is("order") {
        tail.order_by = parse_order_by(at, depth + 1)?;
    }
    if at.eat("separator") {
        tail.separator = Some(at.string()?);
    }
    at.expect_op(")")?;
    if at.is("over") && at.is_op_at(1, "(") {
        at.skip(2);
        tail.over = Some(Box::new(window(at, depth + 1)?));
    }
    Ok(Expr::Call {
        name: name.to_owned(),
        distinct,
        args,
        tail,
    })
}

fn window(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Window> {
    let mut window = Window::default();
    if at.eat("partition by") {
        loop {
            window.partition_by.push(climb(at, 0, depth + 1)?);
            if !at.eat_op(",") {
                break;
            }
        }
    }
    if at.is("order") {
        window.order_by = parse_order_by(at, depth)?;
    }
    let (from, to) = at.balanced()?;
    window.frame = at.slice(from, to);
    Ok(window)
}

fn trim(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Expr> {
    let side = ["leading", "trailing", "both"]
        .into_iter()
        .find(|s| at.eat(s));
    let first = if side.is_some() && at.is("from") {
        None
    } else {
        Some(climb(at, 0, depth + 1)?)
    };
    let (what, expr) = match first {
        Some(first) if !at.is("from") => (None, first),
        what => {
            at.expect("from")?;
            (what.map(Box::new), climb(at, 0, depth + 1)?)
        }
    };
    at.expect_op(")")?;
    Ok(Expr::Trim {
        side: side.unwrap_or("both"),
        what,
        expr: expr.into(),
    })
}

fn cast_type(at: &mut Cursor<'_>) -> SqlResult<CastType> {
    const NAMES: [(&str, &str); 17] = [
        ("signed", "signed"),
        ("unsigned", "unsigned"),
        ("integer", "signed"),
        ("int", "signed"),
        ("char", "char"),
        ("character", "char"),
        ("nchar", "char"),
        ("binary", "binary"),
        ("decimal", "decimal"),
        ("date", "date"),
        ("datetime", "datetime"),
        ("time", "time"),
        ("year", "year"),
        ("json", "json"),
        ("double", "double"),
        ("real", "double"),
        ("float", "float"),
    ];
    let word = at.name()?.to_ascii_lowercase();
    let name = NAMES
        .iter()
        .find(|(n, _)| *n == word)
        .map(|(_, n)| *n)
        .ok_or_else(|| SqlError::syntax(&word))?;
    if matches!(name, "signed" | "unsigned") && !at.eat("integer") {
        at.eat("int");
    }
    let mut to = CastType {
        name,
        length: None,
        scale: None,
        charset: None,
        array: false,
    };
    if at.eat_op("(") {
        to.length = Some(at.integer()? as i32);
        if at.eat_op(",") {
            to.scale = Some(at.integer()? as i32);
        }
        at.expect_op(")")?;
    }
    if at.eat("character set") || at.eat("charset") {
        to.charset = Some(name_or_string(at)?.to_lowercase());
    }
    to.array = at.eat("array");
    Ok(to)
}

/// A unit of INTERVAL and EXTRACT, in lower case.
pub fn unit_name(at: &mut Cursor<'_>) -> SqlResult<String> {
    const UNITS: [&str; 20] = [
        "microsecond",
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "second_microsecond",
        "minute_microsecond",
        "minute_second",
        "hour_microsecond",
        "hour_second",
        "hour_minute",
        "day_microsecond",
        "day_second",
        "day_minute",
        "day_hour",
        "year_month",
    ];
    let Some(Tok::Word(word)) = at.peek() else {
        return Err(at.error());
    };
    let mut lower = word.to_ascii_lowercase();
    if let Some(short) = lower.strip_prefix("sql_tsi_") {
        lower = short.to_owned();
    }
    if !UNITS.contains(&lower.as_str()) {
        return Err(at.error());
    }
    at.skip(1);
    Ok(lower)
}
