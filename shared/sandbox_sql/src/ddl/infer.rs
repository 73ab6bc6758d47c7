//! The type of the hidden column behind an expression index.

use crate::error::{SqlError, SqlResult};
use crate::expr::Expr;
use thunderhead_codec::mysql::{UNSPECIFIED, flag, tp};
use thunderhead_codec::schema::{ColumnInfo, FieldType};

/// What an integer takes as text.
const INT_TEXT_LEN: i64 = 20;

fn binary(code: u8, flag: u32, flen: i64, decimal: i32) -> FieldType {
    FieldType {
        tp: code,
        flag: flag | flag::BINARY,
        flen,
        decimal,
        charset: "binary".into(),
        collate: "binary".into(),
        ..FieldType::default()
    }
}

fn text(flen: i64, of: &FieldType) -> FieldType {
    let (charset, collate) = if of.charset.is_empty() || of.is_binary() && !of.is_string() {
        ("utf8mb4", "utf8mb4_bin")
    } else {
        (of.charset.as_str(), of.collate.as_str())
    };
    let flag = if charset == "binary" { flag::BINARY } else { 0 };
    FieldType {
        tp: tp::VAR_STRING,
        flag,
        flen,
        decimal: UNSPECIFIED,
        charset: charset.into(),
        collate: collate.into(),
        ..FieldType::default()
    }
}

/// Characters the text of a value may take.
fn text_len(ty: &FieldType) -> i64 {
    if ty.is_integer() {
        INT_TEXT_LEN
    } else {
        ty.flen.max(0)
    }
}

/// Type of `expr` over `columns`.
pub fn infer(expr: &Expr, columns: &[ColumnInfo]) -> SqlResult<FieldType> {
    let of = |e: &Expr| infer(e, columns);
    Ok(match expr {
        Expr::Paren(inner) => of(inner)?,
        Expr::Column { name, .. } => {
            let column = columns.iter().find(|c| c.name.lower == name.to_lowercase());
            let mut ty = column
                .ok_or_else(|| SqlError::unknown_column(name, "expression"))?
                .field_type
                .clone();
            ty.flag &= flag::UNSIGNED | flag::BINARY;
            ty
        }
        Expr::Number(number) if number.bytes().all(|b| b.is_ascii_digit()) => {
            binary(tp::LONGLONG, 0, number.len() as i64, 0)
        }
        Expr::Number(number) if !number.contains(['e', 'E']) => {
            let scale = number.split('.').nth(1).map_or(0, str::len) as i32;
            binary(tp::NEW_DECIMAL, 0, number.len() as i64, scale)
        }
        Expr::Number(_) => binary(tp::DOUBLE, 0, 22, UNSPECIFIED),
        Expr::Str { bytes, .. } => text(
            String::from_utf8_lossy(bytes).chars().count() as i64,
            &FieldType::default(),
        ),
        Expr::Op { op, left, right } => operation(op, &of(left)?, &of(right)?),
        Expr::Unary { op: "-", expr } => {
            let ty = of(expr)?;
            binary(
                if ty.is_integer() { tp::LONGLONG } else { ty.tp },
                0,
                ty.flen + 1,
                ty.decimal,
            )
        }
        // Only a text without a length takes its width from what is cast.
        Expr::Cast { expr, to, .. } => cast(
            to.name,
            to.length,
            to.scale,
            to.array,
            &of(expr).unwrap_or_default(),
        )?,
        Expr::Call { name, args, .. } => {
            let args = args.iter().map(of).collect::<SqlResult<Vec<_>>>()?;
            function(name, &args)?
        }
        _ => return Err(SqlError::unsupported("an index over this expression")),
    })
}

fn operation(op: &str, left: &FieldType, right: &FieldType) -> FieldType {
    let unsigned = (left.flag | right.flag) & flag::UNSIGNED;
    let numbers = [left, right];
    match op {
        "+" | "-" | "*" | "%" if numbers.iter().all(|t| t.is_integer()) => {
            binary(tp::LONGLONG, unsigned, 20, 0)
        }
        "+" | "-" | "*" | "%"
            if numbers
                .iter()
                .all(|t| t.is_integer() || t.tp == tp::NEW_DECIMAL) =>
        {
            let scale = if op == "*" {
                left.decimal + right.decimal
            } else {
                left.decimal.max(right.decimal)
            };
            let digits = if op == "*" {
                left.flen + right.flen
            } else {
                left.flen.max(right.flen) + 1
            };
            binary(tp::NEW_DECIMAL, 0, digits.min(65), scale.min(30))
        }
        "+" | "-" | "*" | "/" | "%" => binary(tp::DOUBLE, 0, 23, UNSPECIFIED),
        "div" => binary(tp::LONGLONG, unsigned, 20, 0),
        _ => binary(tp::LONGLONG, 0, 1, 0),
    }
}

fn cast(
    to: &str,
    length: Option<i32>,
    scale: Option<i32>,
    array: bool,
    from: &FieldType,
) -> SqlResult<FieldType> {
    let length64 = length.map(i64::from);
    let fsp = length.unwrap_or(0);
    let temporal = |code, width: i64| {
        binary(
            code,
            0,
            width + if fsp > 0 { i64::from(fsp) + 1 } else { 0 },
            fsp,
        )
    };
    let mut ty = match to {
        "signed" => binary(tp::LONGLONG, 0, 22, 0),
        "unsigned" => binary(tp::LONGLONG, flag::UNSIGNED, 22, 0),
        "double" => binary(tp::DOUBLE, 0, 22, UNSPECIFIED),
        "decimal" => binary(
            tp::NEW_DECIMAL,
            0,
            length64.unwrap_or(10),
            scale.unwrap_or(0),
        ),
        "date" => binary(tp::DATE, 0, 10, 0),
        "datetime" => temporal(tp::DATETIME, 19),
        "time" => temporal(tp::DURATION, 10),
        "char" if array => FieldType {
            tp: tp::VAR_STRING,
            flag: 0,
            flen: length64.unwrap_or(-1),
            decimal: UNSPECIFIED,
            charset: "binary".into(),
            collate: "binary".into(),
            ..FieldType::default()
        },
        "char" => text(
            length64.unwrap_or_else(|| text_len(from)),
            &FieldType::default(),
        ),
        "binary" => FieldType {
            charset: "binary".into(),
            collate: "binary".into(),
            flag: flag::BINARY,
            ..text(length64.unwrap_or_else(|| text_len(from)), from)
        },
        _ => return Err(SqlError::unsupported("an index over this cast")),
    };
    ty.array = array;
    Ok(ty)
}

fn function(name: &str, args: &[FieldType]) -> SqlResult<FieldType> {
    let first = args.first().cloned().unwrap_or_default();
    let lengths = || args.iter().map(text_len).sum::<i64>();
    let strings = || {
        args.iter()
            .find(|t| t.is_string())
            .unwrap_or(&first)
            .clone()
    };
    Ok(match name {
        "lower" | "lcase" | "upper" | "ucase" | "trim" | "ltrim" | "rtrim" | "reverse"
        | "substr" | "substring" | "left" | "right" => text(text_len(&first), &first),
        "concat" => text(lengths(), &strings()),
        "concat_ws" => text(
            lengths() - text_len(&first) + text_len(&first) * (args.len() as i64 - 2).max(0),
            &strings(),
        ),
        "md5" => text(32, &FieldType::default()),
        "sha1" | "sha" => text(40, &FieldType::default()),
        "hex" => text(text_len(&first) * 2, &FieldType::default()),
        "length" | "char_length" | "character_length" | "ascii" | "locate" | "instr" | "crc32" => {
            binary(tp::LONGLONG, 0, 10, 0)
        }
        "year" | "month" | "day" | "dayofmonth" | "hour" | "minute" | "second" | "quarter"
        | "dayofweek" | "dayofyear" | "weekday" => {
            binary(tp::LONGLONG, 0, if name == "year" { 4 } else { 2 }, 0)
        }
        "tidb_shard" => binary(tp::LONGLONG, flag::UNSIGNED, 4, 0),
        "vitess_hash" => binary(tp::LONGLONG, flag::UNSIGNED, 20, 0),
        "to_days" | "unix_timestamp" => binary(tp::LONGLONG, 0, 20, 0),
        "date" => binary(tp::DATE, 0, 10, 0),
        "abs" | "ceil" | "ceiling" | "floor" | "round" => binary(
            first.tp,
            first.flag & flag::UNSIGNED,
            first.flen,
            first.decimal,
        ),
        "json_unquote" => text(first.flen, &FieldType::default()),
        "ifnull" | "coalesce" => first,
        _ => {
            return Err(SqlError::unsupported(format_args!(
                "an index over {name}()"
            )));
        }
    })
}
