//! What a column gets that the source does not have: its default, NULL, the zero value of its type, or an
//! error.

use super::RowError;
use crate::cast::{Cell, ColumnCast, Field, UnsupportedType};
use crate::expr::Expression;
use crate::mysql::{code, flag, tp};
use crate::schema::{Base64, ColumnInfo, FieldType, TableInfo};
use crate::session::{Session, SqlMode};
use crate::time::{Time, TimeKind, Zone};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// What a missing column becomes.
#[derive(Clone, Debug)]
pub(crate) enum Default {
    Value(Cell<'static>),
    /// The column must be in the source.
    Required,
    /// Evaluated for each row.
    Expression(Expression),
    /// An expression that is not supported; the column must be in the source.
    Unsupported(String),
}

/// A default that is written as a literal: its text in JSON, or its bytes for BIT.
pub(crate) fn literal(
    column: &ColumnInfo,
    text: &Value,
    bits: Option<&Base64>,
    session: &Arc<Session>,
) -> Result<Cell<'static>, UnsupportedType> {
    // The DDL accepted the value under a mode of its own; ours must not refuse it.
    let zone = if column.field_type.tp == tp::TIMESTAMP && column.version >= 1 {
        Zone::utc()
    } else {
        session.time_zone.clone()
    };
    let lenient = Session {
        sql_mode: SqlMode::parse(""),
        time_zone: zone,
        ..(**session).clone()
    };
    let cast = ColumnCast::compile(
        &column.name.original,
        &column.field_type,
        &Arc::new(lenient),
    )?;
    let text = match text {
        Value::Null => return Ok(Cell::Null),
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    };
    let field = match bits {
        Some(bits) if column.field_type.tp == tp::BIT => Field::Binary(&bits.0),
        _ => Field::Text(text.as_bytes()),
    };
    let cell = cast
        .cast(field)
        .map_err(|_| UnsupportedType::Default(text.to_string()))?
        .into_owned();
    Ok(to_session_zone(
        cell,
        &column.field_type,
        column.version,
        session,
    ))
}

/// TIMESTAMP defaults are written in UTC.
fn to_session_zone(
    cell: Cell<'static>,
    field_type: &FieldType,
    version: u64,
    session: &Session,
) -> Cell<'static> {
    match cell {
        Cell::Time(packed) if field_type.tp == tp::TIMESTAMP && version >= 1 => {
            let utc = Time::from_packed(packed, TimeKind::Timestamp, 6);
            Cell::Time(session.time_zone.to_local(utc).packed())
        }
        other => other,
    }
}

/// The session's "now" for a column, if its default says so.
fn now(column: &ColumnInfo, text: &str, session: &Session) -> Option<Cell<'static>> {
    let upper = text.to_ascii_uppercase();
    let current = upper.starts_with("CURRENT_TIMESTAMP")
        || upper == "CURRENT_DATE"
        || upper == "CURRENT_DATE()";
    let kind = match column.field_type.tp {
        tp::DATE => TimeKind::Date,
        tp::DATETIME => TimeKind::Datetime,
        tp::TIMESTAMP => TimeKind::Timestamp,
        _ => return None,
    };
    if !current {
        return None;
    }
    let now = session
        .time_zone
        .at(session.now_us, kind, column.field_type.fsp());
    // The server cuts its clock to the digits of the column.
    let mut civil = now.civil();
    civil.micro -= civil.micro % 10u32.pow(6 - u32::from(column.field_type.fsp()));
    let time = Time::new(civil, kind, column.field_type.fsp());
    Some(Cell::Time(
        if kind == TimeKind::Date {
            time.to_date()
        } else {
            time
        }
        .packed(),
    ))
}

/// The default of a column.
pub(crate) fn of(
    info: &TableInfo,
    column: &ColumnInfo,
    cast: &ColumnCast,
    session: &Arc<Session>,
) -> Result<Default, UnsupportedType> {
    if column.default_is_expr {
        let text = column
            .default
            .as_ref()
            .and_then(|text| text.as_str())
            .unwrap_or_default();
        return Ok(match Expression::compile(text, info, session) {
            Ok(expression) => Default::Expression(expression),
            Err(cause) => Default::Unsupported(format!("its default `{text}`: {cause}")),
        });
    }
    if let Some(value) = column.default.as_ref().filter(|value| !value.is_null()) {
        if let Some(now) = value.as_str().and_then(|text| now(column, text, session)) {
            return Ok(Default::Value(now));
        }
        return literal(column, value, column.default_bit.as_ref(), session).map(Default::Value);
    }
    let field_type = &column.field_type;
    if !field_type.is_not_null() {
        return Ok(Default::Value(Cell::Null));
    }
    if field_type.tp == tp::ENUM {
        return Ok(Default::Value(Cell::UInt(1)));
    }
    let zero = cast
        .zero()
        .filter(|_| !session.is_strict() || field_type.has_flag(flag::AUTO_INCREMENT));
    Ok(zero.map_or(Default::Required, Default::Value))
}

impl Default {
    pub(crate) fn cell<'a>(
        &'a self,
        column: &str,
        cast: &ColumnCast,
        row_id: i64,
    ) -> Result<Cell<'a>, RowError> {
        match self {
            Default::Value(cell) => Ok(borrowed(cell)),
            Default::Expression(expression) => {
                let at = |code: u16, message: String| RowError::new(column, code, message);
                let value = expression
                    .eval_default(column, row_id)
                    .map_err(|error| at(error.code, error.message))?;
                cast.cast_datum(&value)
                    .map_err(|error| at(error.code, error.message))
            }
            Default::Unsupported(cause) => {
                Err(RowError::new(column, code::NO_DEFAULT, cause.clone()))
            }
            Default::Required => {
                let message = format!("Field '{column}' doesn't have a default value");
                Err(RowError::new(column, code::NO_DEFAULT, message))
            }
        }
    }
}

/// The same cell, borrowing its bytes.
pub(crate) fn borrowed<'a>(cell: &'a Cell<'static>) -> Cell<'a> {
    match cell {
        Cell::Bytes(bytes) => Cell::Bytes(Cow::Borrowed(bytes)),
        Cell::Json(bytes) => Cell::Json(Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}
