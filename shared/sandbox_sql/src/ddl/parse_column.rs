//! Column definitions: types with their default widths, and what may follow a type.

use super::{ColumnDef, KeyPart};
use crate::error::{SqlError, SqlResult};
use crate::expr::{Expr, parse_expr};
use crate::lexer::{Cursor, Tok};
use thunderhead_codec::mysql::{UNSPECIFIED, flag, tp};
use thunderhead_codec::schema::FieldType;

/// `name type option…`.
pub fn parse_column(at: &mut Cursor<'_>) -> SqlResult<ColumnDef> {
    let mut column = ColumnDef {
        name: at.name()?,
        ..ColumnDef::default()
    };
    parse_type(at, &mut column)?;
    while option(at, &mut column)? {}
    Ok(column)
}

/// `(a)`, or nothing.
fn width(at: &mut Cursor<'_>) -> SqlResult<Option<i64>> {
    if !at.eat_op("(") {
        return Ok(None);
    }
    let width = at.integer()?;
    at.expect_op(")")?;
    Ok(Some(width))
}

/// `(a[, b])`, or nothing.
fn precision(at: &mut Cursor<'_>) -> SqlResult<Option<(i64, Option<i32>)>> {
    if !at.eat_op("(") {
        return Ok(None);
    }
    let digits = at.integer()?;
    let scale = if at.eat_op(",") {
        Some(at.integer()? as i32)
    } else {
        None
    };
    at.expect_op(")")?;
    Ok(Some((digits, scale)))
}

fn parse_type(at: &mut Cursor<'_>, column: &mut ColumnDef) -> SqlResult<()> {
    let here = at.clone();
    at.eat("national");
    let word = at.name()?.to_ascii_lowercase();
    let mut ty = FieldType {
        decimal: 0,
        ..FieldType::default()
    };
    let mut default_width = None;
    match word.as_str() {
        "tinyint" | "int1" => default_width = Some((tp::TINY, 4, 3)),
        "smallint" | "int2" => default_width = Some((tp::SHORT, 6, 5)),
        "mediumint" | "int3" | "middleint" => default_width = Some((tp::INT24, 9, 8)),
        "int" | "integer" | "int4" => default_width = Some((tp::LONG, 11, 10)),
        "bigint" | "int8" => default_width = Some((tp::LONGLONG, 20, 20)),
        "bool" | "boolean" => (ty.tp, ty.flen) = (tp::TINY, 1),
        "serial" => {
            (ty.tp, ty.flen, ty.flag) = (tp::LONGLONG, 20, flag::UNSIGNED);
            (column.not_null, column.auto_increment, column.unique) =
                (Some(true), true, Some(false));
        }
        "decimal" | "dec" | "fixed" | "numeric" => {
            let (digits, scale) = precision(at)?.unwrap_or((10, None));
            (ty.tp, ty.flen, ty.decimal) = (tp::NEW_DECIMAL, digits, scale.unwrap_or(0));
        }
        "float" | "float4" | "double" | "float8" | "real" => floating(at, &word, &mut ty)?,
        "bit" => (ty.tp, ty.flen, ty.flag) = (tp::BIT, width(at)?.unwrap_or(1), flag::UNSIGNED),
        "date" => (ty.tp, ty.flen, ty.flag) = (tp::DATE, 10, flag::BINARY),
        "datetime" => temporal(at, &mut ty, tp::DATETIME, 19)?,
        "timestamp" => temporal(at, &mut ty, tp::TIMESTAMP, 19)?,
        "time" => temporal(at, &mut ty, tp::DURATION, 10)?,
        "year" => {
            width(at)?;
            (ty.tp, ty.flen, ty.flag) = (tp::YEAR, 4, flag::UNSIGNED | flag::ZEROFILL);
        }
        "char" | "character" | "nchar" | "varchar" | "varcharacter" | "nvarchar" => {
            let varying = word.contains("var") || at.eat("varying");
            ty.tp = if varying { tp::VARCHAR } else { tp::STRING };
            ty.flen = match width(at)? {
                Some(width) => width,
                None if varying => return Err(here.error()),
                None => 1,
            };
        }
        "binary" => (ty.tp, ty.flen) = (tp::STRING, width(at)?.unwrap_or(1)),
        "varbinary" => (ty.tp, ty.flen) = (tp::VARCHAR, width(at)?.ok_or_else(|| here.error())?),
        "tinytext" | "tinyblob" => (ty.tp, ty.flen) = (tp::TINY_BLOB, 255),
        "text" | "blob" => sized_blob(&mut ty, width(at)?),
        "mediumtext" | "mediumblob" => (ty.tp, ty.flen) = (tp::MEDIUM_BLOB, 16_777_215),
        "long" => {
            (ty.tp, ty.flen) = (tp::MEDIUM_BLOB, 16_777_215);
            if at.eat("varbinary") {
                column.charset = Some("binary".to_owned());
            } else {
                let _ = at.eat("varchar") || at.eat("varying");
            }
        }
        "longtext" | "longblob" => (ty.tp, ty.flen) = (tp::LONG_BLOB, LONG_LEN),
        "enum" | "set" => elements(at, &word, &mut ty)?,
        "json" => (ty.tp, ty.flen, ty.flag) = (tp::JSON, LONG_LEN, flag::BINARY),
        "vector" => {
            at.eat_op("<").then(|| at.skip(2));
            (ty.tp, ty.flen, ty.flag) = (
                tp::VECTOR,
                width(at)?.unwrap_or(i64::from(UNSPECIFIED)),
                flag::BINARY,
            );
        }
        _ => return Err(here.error()),
    }
    if word.contains("blob") || word.contains("binary") {
        column.charset = Some("binary".to_owned());
    }
    let written = if default_width.is_some() {
        width(at)?
    } else {
        None
    };
    attributes(at, column, &mut ty)?;
    if let Some((code, signed, unsigned)) = default_width {
        let default = if ty.is_unsigned() { unsigned } else { signed };
        (ty.tp, ty.flen) = (code, written.unwrap_or(default));
    }
    column.field_type = ty;
    Ok(())
}

/// Bytes the longest types hold.
const LONG_LEN: i64 = u32::MAX as i64;

fn floating(at: &mut Cursor<'_>, word: &str, ty: &mut FieldType) -> SqlResult<()> {
    let double = !word.starts_with("float") || word == "float8";
    if word == "double" {
        at.eat("precision");
    }
    (ty.tp, ty.flen, ty.decimal) = if double {
        (tp::DOUBLE, 22, UNSPECIFIED)
    } else {
        (tp::FLOAT, 12, UNSPECIFIED)
    };
    match precision(at)? {
        Some((digits, Some(scale))) => (ty.flen, ty.decimal) = (digits, scale),
        Some((digits, None)) if digits > 24 => (ty.tp, ty.flen) = (tp::DOUBLE, 22),
        _ => {}
    }
    Ok(())
}

fn temporal(
    at: &mut Cursor<'_>,
    ty: &mut FieldType,
    code: u8,
    width_without: i64,
) -> SqlResult<()> {
    let fsp = width(at)?.unwrap_or(0) as i32;
    if fsp > 6 {
        return Err(SqlError::new(
            1426,
            format!("Too-big precision {fsp} specified for column. Maximum is 6."),
        ));
    }
    (ty.tp, ty.decimal, ty.flag) = (code, fsp, flag::BINARY);
    ty.flen = width_without + if fsp > 0 { i64::from(fsp) + 1 } else { 0 };
    Ok(())
}

/// TEXT(n) and BLOB(n) become the smallest type that holds n bytes.
fn sized_blob(ty: &mut FieldType, width: Option<i64>) {
    (ty.tp, ty.flen) = match width {
        None => (tp::BLOB, 65_535),
        Some(n) if n <= 255 => (tp::TINY_BLOB, 255),
        Some(n) if n <= 65_535 => (tp::BLOB, 65_535),
        Some(n) if n <= 16_777_215 => (tp::MEDIUM_BLOB, 16_777_215),
        Some(_) => (tp::LONG_BLOB, LONG_LEN),
    };
}

/// Literals stay in hexadecimal until the column's charset is known, and so does the width.
fn elements(at: &mut Cursor<'_>, word: &str, ty: &mut FieldType) -> SqlResult<()> {
    let (mut elems, mut literals) = (Vec::new(), Vec::new());
    at.expect_op("(")?;
    loop {
        let literal = match at.peek() {
            Some(Tok::Binary(bytes)) => Some(bytes),
            _ => None,
        };
        literals.push(literal.is_some());
        elems.push(match literal {
            Some(bytes) => {
                at.skip(1);
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }
            None => at.string()?.trim_end_matches(' ').to_owned(),
        });
        if at.eat_op(")") {
            break;
        }
        at.expect_op(",")?;
    }
    ty.tp = if word == "enum" { tp::ENUM } else { tp::SET };
    ty.elems_is_binary_lit = literals.contains(&true).then_some(literals);
    ty.elems = Some(elems);
    Ok(())
}

/// UNSIGNED, ZEROFILL, CHARACTER SET, BINARY.
fn attributes(at: &mut Cursor<'_>, column: &mut ColumnDef, ty: &mut FieldType) -> SqlResult<()> {
    loop {
        if at.eat("unsigned") {
            ty.flag |= flag::UNSIGNED;
        } else if at.eat("zerofill") {
            ty.flag |= flag::UNSIGNED | flag::ZEROFILL;
        } else if at.eat("signed") {
        } else if at.eat("character set") || at.eat("charset") || at.eat("char set") {
            column.charset = Some(charset_name(at)?);
        } else if at.is("binary") && ty.is_string() {
            at.skip(1);
            column.binary = true;
        } else {
            return Ok(());
        }
    }
}

/// A charset or collation name, bare or as a string.
pub fn charset_name(at: &mut Cursor<'_>) -> SqlResult<String> {
    let name = if matches!(at.peek(), Some(Tok::Str(_))) {
        at.string()?
    } else {
        at.name()?
    };
    Ok(name.to_lowercase())
}

fn option(at: &mut Cursor<'_>, column: &mut ColumnDef) -> SqlResult<bool> {
    if at.eat("not null") {
        column.not_null = Some(true);
    } else if at.eat("null") {
        column.not_null = Some(false);
    } else if at.eat("default") {
        column.default = Some(default_value(at)?);
    } else if at.eat("auto_increment") {
        column.auto_increment = true;
    } else if at.eat("auto_random") {
        column.auto_random = Some(match precision(at)? {
            Some((bits, range)) => (Some(bits as u64), range.map(|r| r as u64)),
            None => (None, None),
        });
    } else if at.eat("primary key") || at.eat("primary") || (at.is("key") && !at.is_op_at(1, "(")) {
        at.eat("key");
        let clustered = clustering(at);
        column.primary = Some(clustered);
        at.eat("global");
    } else if at.eat("unique") {
        at.eat("key");
        column.unique = Some(at.eat("global"));
        at.eat("local");
    } else if at.eat("comment") {
        column.comment = at.string()?;
    } else if at.eat("on update") {
        parse_expr(at)?;
        column.on_update_now = true;
    } else if at.eat("collate") {
        column.collate = Some(charset_name(at)?);
    } else if at.eat("character set") || at.eat("charset") {
        column.charset = Some(charset_name(at)?);
    } else if at.eat("generated always as") || at.eat("as") {
        at.expect_op("(")?;
        let expr = parse_expr(at)?;
        at.expect_op(")")?;
        let stored = at.eat("stored");
        if !stored {
            at.eat("virtual");
        }
        column.generated = Some((expr, stored));
    } else if at.is("check") || at.is("constraint") {
        check(at)?;
    } else if at.eat("references") {
        references(at)?;
    } else if at.eat("column_format") || at.eat("storage") {
        at.skip(1);
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// `CLUSTERED` or `NONCLUSTERED`, if said.
pub fn clustering(at: &mut Cursor<'_>) -> Option<bool> {
    if at.eat("clustered") {
        Some(true)
    } else if at.eat("nonclustered") {
        Some(false)
    } else {
        None
    }
}

/// `[CONSTRAINT name] CHECK (expr) [[NOT] ENFORCED]`.
pub fn check(at: &mut Cursor<'_>) -> SqlResult<()> {
    if at.eat("constraint") && !at.is("check") {
        at.name()?;
    }
    at.expect("check")?;
    at.expect_op("(")?;
    parse_expr(at)?;
    at.expect_op(")")?;
    let _ = at.eat("not enforced") || at.eat("enforced");
    Ok(())
}

/// A foreign key's target; read and dropped, since imports do not check it.
pub fn references(at: &mut Cursor<'_>) -> SqlResult<()> {
    at.qualified()?;
    if at.eat_op("(") {
        at.balanced()?;
    }
    loop {
        if at.eat("match") {
            at.skip(1);
        } else if at.eat("on delete") || at.eat("on update") {
            let _ = at.eat("set null")
                || at.eat("set default")
                || at.eat("no action")
                || at.eat("cascade")
                || at.eat("restrict");
        } else {
            return Ok(());
        }
    }
}

/// A literal with its sign, a function, or an expression in parentheses.
pub fn default_value(at: &mut Cursor<'_>) -> SqlResult<Expr> {
    match at.peek() {
        Some(Tok::Op("(")) => {
            at.skip(1);
            let expr = parse_expr(at)?;
            at.expect_op(")")?;
            Ok(Expr::Paren(Box::new(expr)))
        }
        Some(Tok::Op("-" | "+")) => {
            let minus = at.eat_op("-");
            at.eat_op("+");
            match at.next() {
                Some(Tok::Number(text)) if minus => Ok(Expr::Number(format!("-{text}"))),
                Some(Tok::Number(text)) => Ok(Expr::Number(text.clone())),
                _ => Err(at.error()),
            }
        }
        Some(Tok::Number(text)) => {
            at.skip(1);
            Ok(Expr::Number(text.clone()))
        }
        Some(Tok::Str(bytes)) => {
            at.skip(1);
            Ok(Expr::Str {
                introducer: None,
                bytes: bytes.clone(),
            })
        }
        _ if at.eat("null") => Ok(Expr::Null),
        _ if at.eat("true") => Ok(Expr::Number("1".to_owned())),
        _ if at.eat("false") => Ok(Expr::Number("0".to_owned())),
        Some(Tok::Word(word)) if !word.starts_with('_') && !at.is_op_at(1, "(") => {
            let name = word.to_ascii_lowercase();
            at.skip(1);
            Ok(Expr::Call {
                name,
                distinct: false,
                args: Vec::new(),
                tail: Default::default(),
            })
        }
        _ => parse_expr(at),
    }
}

/// `(part, …)` of a key.
pub fn key_parts(at: &mut Cursor<'_>) -> SqlResult<Vec<KeyPart>> {
    at.expect_op("(")?;
    let mut parts = Vec::new();
    loop {
        if at.eat_op("(") {
            let expr = parse_expr(at)?;
            at.expect_op(")")?;
            parts.push(KeyPart::Expr(expr));
        } else {
            let name = at.name()?;
            parts.push(KeyPart::Column(name, width(at)?.map(|w| w as i32)));
        }
        let _ = at.eat("asc") || at.eat("desc");
        if at.eat_op(")") {
            return Ok(parts);
        }
        at.expect_op(",")?;
    }
}
