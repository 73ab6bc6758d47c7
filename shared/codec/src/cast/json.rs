//! JSON.

use super::{Cast, Cell, Field, hard};
use crate::json::{self, JsonError};
use crate::mysql::code;
use crate::time::TimeKind;
use std::borrow::Cow;

pub(crate) fn cast(field: Field<'_>) -> Cast<'_> {
    let document = match field {
        Field::Null => return Ok(Cell::Null),
        Field::Text(text) => match json::parse(text) {
            Ok(document) => document,
            Err(error) => return refuse(&error),
        },
        Field::Binary(_) => {
            let message = "Cannot create a JSON value from a string with CHARACTER SET 'binary'.";
            return hard(code::INVALID_JSON_CHARSET, message);
        }
        Field::Int(v) => json::int(v),
        Field::UInt(v) => json::uint(v),
        Field::Float(v) => json::double(f64::from(v)),
        Field::Double(v) => json::double(v),
        Field::Decimal(v) => json::double(v.to_f64()),
        Field::Time(v) => {
            let code = match v.kind {
                TimeKind::Date => json::DATE,
                TimeKind::Datetime => json::DATETIME,
                TimeKind::Timestamp => json::TIMESTAMP,
            };
            json::time(code, &v.civil())
        }
        Field::Duration(v) => json::duration(v.nanos, u32::from(v.fsp)),
    };
    Ok(Cell::Json(Cow::Owned(document)))
}

fn refuse<'a>(error: &JsonError) -> Cast<'a> {
    match error {
        JsonError::Empty => hard(
            code::INVALID_JSON_TEXT,
            "Invalid JSON text: The document is empty",
        ),
        JsonError::Text => hard(
            code::INVALID_JSON_TEXT,
            "Invalid JSON text: The document root must not be followed by other values.",
        ),
        JsonError::TooDeep => hard(
            code::JSON_TOO_DEEP,
            "The JSON document exceeds the maximum depth.",
        ),
        JsonError::KeyTooLong => hard(
            code::JSON_KEY_TOO_LONG,
            "TiDB does not yet support JSON objects with the key length >= 65536",
        ),
    }
}
