//! Multi-valued indexes: one entry for each distinct element of a JSON array. Elements must already have
//! the JSON type that the index asks for, in every sql_mode.

use super::RowError;
use crate::cast::Cell;
use crate::json::{self, Value};
use crate::mysql::tp;
use crate::schema::FieldType;
use std::borrow::Cow;

/// `This version of TiDB doesn't yet support`.
const NOT_SUPPORTED: u16 = 1235;
/// `Invalid JSON value for CAST for expression index`.
const INVALID_VALUE: u16 = 3903;
/// `Out of range JSON value for CAST for expression index`.
const OUT_OF_RANGE: u16 = 3904;
/// `Data too long for expression index`.
const TOO_LONG: u16 = 3907;

/// Elements of the document in a multi-valued index's column: `None` for NULL, which makes one entry. A
/// scalar is an array of one.
pub(crate) fn elements(
    cell: &Cell<'_>,
    field_type: &FieldType,
    index: &str,
) -> Result<Option<Vec<Cell<'static>>>, RowError> {
    let document = match cell {
        Cell::Json(document) => document,
        _ => return Ok(None),
    };
    let items = match json::decode(document) {
        Some(Value::Array(items)) => items,
        Some(Value::Object(_)) => {
            let message =
                "This version of TiDB doesn't yet support 'CAST-ing JSON OBJECT type to array'";
            return Err(RowError::new("", NOT_SUPPORTED, message));
        }
        None => return Err(invalid(index)),
        Some(scalar) => vec![scalar],
    };
    let mut cells: Vec<Cell<'static>> = Vec::with_capacity(items.len());
    for item in &items {
        let cell = element(item, field_type, index)?;
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    Ok(Some(cells))
}

fn invalid(index: &str) -> RowError {
    let message = format!("Invalid JSON value for CAST for expression index '{index}'");
    RowError::new("", INVALID_VALUE, message)
}

fn element(item: &Value, field_type: &FieldType, index: &str) -> Result<Cell<'static>, RowError> {
    let wrong = || invalid(index);
    let out_of_range = || {
        let message = format!("Out of range JSON value for CAST for expression index '{index}'");
        RowError::new("", OUT_OF_RANGE, message)
    };
    match field_type.tp {
        _ if field_type.is_integer() && field_type.is_unsigned() => match item {
            Value::Int(v) => u64::try_from(*v)
                .map(Cell::UInt)
                .map_err(|_| out_of_range()),
            Value::UInt(v) => Ok(Cell::UInt(*v)),
            _ => Err(wrong()),
        },
        _ if field_type.is_integer() => match item {
            Value::Int(v) => Ok(Cell::Int(*v)),
            Value::UInt(v) => i64::try_from(*v).map(Cell::Int).map_err(|_| out_of_range()),
            _ => Err(wrong()),
        },
        tp::DOUBLE => match item {
            Value::Int(v) => Ok(Cell::Double(*v as f64)),
            Value::UInt(v) => Ok(Cell::Double(*v as f64)),
            Value::Double(v) => Ok(Cell::Double(*v)),
            _ => Err(wrong()),
        },
        _ if field_type.is_string() => match item {
            Value::String(text) => text_element(text, field_type, index),
            _ => Err(wrong()),
        },
        // Dates and times need temporal JSON values, which text does not produce.
        tp::DATE | tp::DATETIME | tp::DURATION => match item {
            Value::Other(code, bytes) => temporal_element(*code, bytes).ok_or_else(wrong),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn text_element(
    text: &str,
    field_type: &FieldType,
    index: &str,
) -> Result<Cell<'static>, RowError> {
    let limit = usize::try_from(field_type.flen).unwrap_or(usize::MAX);
    let len = if field_type.is_binary() {
        text.len()
    } else {
        text.chars().count()
    };
    if len > limit {
        return Err(RowError::new(
            "",
            TOO_LONG,
            format!("Data too long for expression index '{index}'"),
        ));
    }
    Ok(Cell::Bytes(Cow::Owned(text.as_bytes().to_vec())))
}

fn temporal_element(code: u8, bytes: &[u8]) -> Option<Cell<'static>> {
    match code {
        json::DURATION => Some(Cell::Duration(i64::from_le_bytes(*bytes.first_chunk()?))),
        json::DATE | json::DATETIME | json::TIMESTAMP => {
            let civil = json::civil(u64::from_le_bytes(*bytes.first_chunk()?));
            Some(Cell::Time(civil.packed()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mysql::flag;

    fn read(text: &str, field_type: &FieldType) -> Result<Option<Vec<Cell<'static>>>, u16> {
        let document = json::parse(text.as_bytes()).unwrap();
        elements(&Cell::Json(Cow::Owned(document)), field_type, "mv").map_err(|error| error.code)
    }

    #[test]
    fn elements_are_distinct_and_of_the_asked_type() {
        let signed = FieldType {
            tp: tp::LONGLONG,
            ..FieldType::default()
        };
        let unsigned = FieldType {
            flag: flag::UNSIGNED,
            ..signed.clone()
        };
        let text = FieldType {
            tp: tp::VARCHAR,
            flen: 2,
            charset: "utf8mb4".to_owned(),
            ..FieldType::default()
        };
        assert_eq!(
            read("[2,1,2]", &signed),
            Ok(Some(vec![Cell::Int(2), Cell::Int(1)]))
        );
        assert_eq!(read("3", &unsigned), Ok(Some(vec![Cell::UInt(3)])));
        assert_eq!(read("[]", &signed), Ok(Some(vec![])));
        assert_eq!(read("[\"1\"]", &signed), Err(INVALID_VALUE));
        assert_eq!(read("[1.5]", &signed), Err(INVALID_VALUE));
        assert_eq!(read("[-1]", &unsigned), Err(OUT_OF_RANGE));
        assert_eq!(read("[9223372036854775808]", &signed), Err(OUT_OF_RANGE));
        assert_eq!(read("{}", &signed), Err(NOT_SUPPORTED));
        assert_eq!(read("[null]", &signed), Err(INVALID_VALUE));
        assert_eq!(read("[\"abc\"]", &text), Err(TOO_LONG));
        assert_eq!(elements(&Cell::Null, &signed, "mv").unwrap(), None);
    }
}
