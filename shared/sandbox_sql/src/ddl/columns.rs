//! One column of the model from its definition: charset, flags, default value.

use super::ColumnDef;
use super::charset::{charset_of_collation, resolve};
use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Expr, Style, columns_of, restore};
use serde_json::Value;
use thunderhead_codec::charset::Charset;
use thunderhead_codec::mysql::{flag, state, tp};
use thunderhead_codec::schema::{Base64, ColumnInfo, Empty, FieldType, Name};

/// The newest column version: defaults of TIMESTAMP are in UTC, BIT defaults in `default_bit`.
const COLUMN_VERSION: u64 = 2;

/// Builds a column without id and offset. `to_utc` turns a TIMESTAMP text of the session into UTC.
pub fn build_column(
    def: &ColumnDef,
    outer: (&str, &str),
    to_utc: &dyn Fn(&str) -> SqlResult<String>,
) -> SqlResult<ColumnInfo> {
    let mut ty = def.field_type.clone();
    set_charset(def, &mut ty, outer)?;
    set_elements(def, &mut ty)?;
    set_flags(def, &mut ty);
    let mut column = ColumnInfo {
        name: Name::new(def.name.clone()),
        comment: def.comment.clone(),
        state: state::PUBLIC,
        version: COLUMN_VERSION,
        field_type: ty,
        ..ColumnInfo::default()
    };
    if let Some((expr, stored)) = &def.generated {
        column.generated_expr_string = restore(strip_parens(expr), Style::Generated)?;
        column.generated_stored = *stored;
        column.dependences = Some(
            columns_of(expr)
                .into_iter()
                .map(|name| (name, Empty {}))
                .collect(),
        );
    }
    if let Some(default) = &def.default {
        set_default(&mut column, default, to_utc)?;
    }
    // The one type that gets a default of its own.
    if column.field_type.tp == tp::YEAR && column.field_type.is_not_null() && def.default.is_none()
    {
        column.default = Some(Value::String("0000".to_owned()));
    }
    let serves_itself =
        def.auto_increment || def.default.as_ref().is_some_and(|d| *d != Expr::Null);
    if column.field_type.is_not_null() && !serves_itself {
        column.field_type.flag |= flag::NO_DEFAULT;
    }
    Ok(column)
}

/// Marks a column as part of the primary key, as a constraint or an option says.
pub fn mark_primary(column: &mut ColumnInfo, def: Option<&ColumnDef>) {
    let ty = &mut column.field_type;
    ty.flag |= flag::PRI_KEY | flag::NOT_NULL;
    let has_default = def.map_or(column.default.is_some(), |d| d.default.is_some());
    if !has_default && !ty.has_flag(flag::AUTO_INCREMENT) {
        ty.flag |= flag::NO_DEFAULT;
    }
}

pub fn strip_parens(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(inner) => strip_parens(inner),
        other => other,
    }
}

fn set_charset(def: &ColumnDef, ty: &mut FieldType, outer: (&str, &str)) -> SqlResult<()> {
    let has_charset = ty.is_string() || matches!(ty.tp, tp::ENUM | tp::SET);
    if !has_charset {
        (ty.charset, ty.collate) = ("binary".to_owned(), "binary".to_owned());
        return Ok(());
    }
    (ty.charset, ty.collate) = resolve(def.charset.as_deref(), def.collate.as_deref(), outer)?;
    if def.binary && ty.charset != "binary" {
        ty.collate = format!("{}_bin", ty.charset);
        charset_of_collation(&ty.collate)?;
    }
    if ty.charset == "binary" && ty.is_string() {
        ty.flag |= flag::BINARY;
    }
    Ok(())
}

/// Reads the elements that were written as literals in the column's charset, and sets the width. In charset binary
/// they need not be text and stay in hexadecimal.
fn set_elements(def: &ColumnDef, ty: &mut FieldType) -> SqlResult<()> {
    if ty.elems.is_none() {
        return Ok(());
    }
    let literals = ty.elems_is_binary_lit.clone().unwrap_or_default();
    let is_literal = |at: usize| literals.get(at).is_some_and(|is| *is);
    let mut elems = ty.elems.clone().unwrap_or_default();
    let mut lengths = Vec::with_capacity(elems.len());
    let charset = Charset::from_name(&ty.charset);
    for (at, elem) in elems.iter_mut().enumerate() {
        if is_literal(at) {
            let bytes: Option<Vec<u8>> = (0..elem.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&elem[i..i + 2], 16).ok())
                .collect();
            let bytes = bytes.unwrap_or_default();
            if ty.is_binary() {
                lengths.push(bytes.len() as i64);
                continue;
            }
            let text = charset.decode(&bytes).map(|text| text.into_owned());
            let text = text.and_then(|text| String::from_utf8(text).ok());
            let text = text.ok_or_else(|| {
                let name = &def.name;
                SqlError::new(1366, format!("Incorrect string value for column '{name}'"))
            })?;
            *elem = text.trim_end_matches(' ').to_owned();
        }
        lengths.push(elem.chars().count() as i64);
    }
    ty.flen = match ty.tp {
        tp::ENUM => lengths.iter().copied().max().unwrap_or(0),
        _ => lengths.iter().sum::<i64>() + elems.len() as i64 - 1,
    };
    if !ty.is_binary() {
        ty.elems_is_binary_lit = None;
    }
    ty.elems = Some(elems);
    Ok(())
}

/// `ALTER COLUMN … SET DEFAULT value` or `… DROP DEFAULT`. Rows from before keep their origin default.
pub fn change_default(
    column: &mut ColumnInfo,
    default: Option<&Expr>,
    to_utc: &dyn Fn(&str) -> SqlResult<String>,
) -> SqlResult<()> {
    (column.default, column.default_bit) = (None, None);
    column.default_is_expr = false;
    column.field_type.flag |= flag::NO_DEFAULT;
    if let Some(default) = default {
        set_default(column, default, to_utc)?;
        column.field_type.flag &= !flag::NO_DEFAULT;
    }
    Ok(())
}

fn set_flags(def: &ColumnDef, ty: &mut FieldType) {
    if matches!(
        ty.tp,
        tp::TIMESTAMP | tp::DATE | tp::DATETIME | tp::DURATION
    ) {
        ty.flag |= flag::BINARY;
    }
    if def.not_null == Some(true) {
        ty.flag |= flag::NOT_NULL;
    }
    if def.auto_increment {
        ty.flag |= flag::AUTO_INCREMENT | flag::NOT_NULL;
    }
    if def.on_update_now {
        ty.flag |= flag::ON_UPDATE_NOW;
    }
    if def.unique.is_some() {
        ty.flag |= flag::UNIQUE_KEY;
    }
}

fn invalid(column: &ColumnInfo) -> SqlError {
    SqlError::new(
        code::INVALID_DEFAULT,
        format!("Invalid default value for '{}'", column.name.original),
    )
}

fn set_default(
    column: &mut ColumnInfo,
    default: &Expr,
    to_utc: &dyn Fn(&str) -> SqlResult<String>,
) -> SqlResult<()> {
    let ty = column.field_type.clone();
    if *default == Expr::Null {
        return if ty.is_not_null() {
            Err(invalid(column))
        } else {
            Ok(())
        };
    }
    let text = match default {
        Expr::Number(text) => text.clone(),
        Expr::Str { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        Expr::Binary(bytes) if ty.tp == tp::BIT => return set_bit(column, bytes),
        Expr::Binary(bytes) if ty.is_integer() => bytes
            .iter()
            .fold(0u64, |v, b| v << 8 | u64::from(*b))
            .to_string(),
        Expr::Binary(bytes) => bytes.iter().map(|b| char::from(*b)).collect(),
        Expr::Call { name, args, .. } if is_now(name, args) => {
            if matches!(ty.tp, tp::TIMESTAMP | tp::DATETIME) {
                column.default = Some(Value::String("CURRENT_TIMESTAMP".to_owned()));
                return Ok(());
            }
            return Err(invalid(column));
        }
        Expr::Call { name, args, .. } if name == "current_date" || name == "curdate" => {
            let _ = args;
            column.default = Some(Value::String("CURRENT_DATE".to_owned()));
            return Ok(());
        }
        expression => {
            column.default = Some(Value::String(restore(
                strip_parens(expression),
                Style::Generated,
            )?));
            column.default_is_expr = true;
            return Ok(());
        }
    };
    if ty.is_blob() || matches!(ty.tp, tp::JSON) {
        return Err(SqlError::new(
            1101,
            format!(
                "BLOB/TEXT/JSON column '{}' can't have a default value",
                column.name.original
            ),
        ));
    }
    if ty.tp == tp::BIT {
        let number: u64 = text.parse().map_err(|_| invalid(column))?;
        return set_bit(column, &number.to_be_bytes());
    }
    let text = normal_default(&ty, text, to_utc).ok_or_else(|| invalid(column))?;
    column.default = Some(Value::String(text));
    Ok(())
}

fn is_now(name: &str, args: &[Expr]) -> bool {
    matches!(
        name,
        "now" | "current_timestamp" | "localtime" | "localtimestamp"
    ) && args.len() <= 1
}

fn set_bit(column: &mut ColumnInfo, bytes: &[u8]) -> SqlResult<()> {
    let width = (column.field_type.flen as usize).div_ceil(8);
    let value = bytes.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    if bytes.len() > 16 || value >> column.field_type.flen != 0 {
        return Err(invalid(column));
    }
    let bytes = value.to_be_bytes()[16 - width..].to_vec();
    column.default = Some(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    column.default_bit = Some(Base64(bytes));
    Ok(())
}

/// The text TiDB keeps: numbers in their column's form, BINARY padded, TIMESTAMP in UTC, elements by name.
fn normal_default(
    ty: &FieldType,
    text: String,
    to_utc: &dyn Fn(&str) -> SqlResult<String>,
) -> Option<String> {
    match ty.tp {
        _ if ty.is_integer() => {
            let value: f64 = text.trim().parse().ok()?;
            Some(if text.trim().parse::<i128>().is_ok() {
                text.trim().trim_start_matches('+').to_owned()
            } else {
                format!("{}", value.round() as i128)
            })
        }
        tp::NEW_DECIMAL | tp::DOUBLE | tp::FLOAT => text
            .trim()
            .parse::<f64>()
            .ok()
            .map(|_| text.trim().to_owned()),
        tp::STRING if ty.is_binary() => {
            let missing = (ty.flen as usize).checked_sub(text.len())?;
            Some(text + &"\0".repeat(missing))
        }
        tp::TIMESTAMP if text.starts_with("0000-00-00") => Some(text),
        tp::TIMESTAMP => to_utc(&text).ok(),
        tp::DATETIME if text.len() <= 10 => Some(format!("{text} 00:00:00")),
        tp::ENUM => {
            let index = text
                .parse::<usize>()
                .ok()
                .and_then(|i| i.checked_sub(1))
                .and_then(|i| ty.elems().get(i));
            let same = ty
                .elems()
                .iter()
                .find(|e| e.eq_ignore_ascii_case(text.trim_end_matches(' ')));
            same.or(index).cloned()
        }
        tp::SET => Some(text),
        _ if ty.is_string() && text.chars().count() as i64 > ty.flen => None,
        _ => Some(text),
    }
}
