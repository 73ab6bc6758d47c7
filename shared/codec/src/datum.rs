//! A column value that owns its bytes: what the decoder returns and the expression evaluator works on. The
//! encoder's hot path uses the borrowed [`crate::table::Cell`] instead.

use crate::decimal::MyDecimal;
use crate::mysql::flag;
use crate::schema::FieldType;
use crate::time::{MyDuration, Time};

/// A value with its type. Equality is of representation, not of SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Int(i64),
    UInt(u64),
    /// FLOAT.
    Float(f32),
    Double(f64),
    Decimal(MyDecimal),
    /// Any string type: UTF-8 unless the column's charset is binary or latin1.
    Bytes(Vec<u8>),
    /// DATE, DATETIME or TIMESTAMP; a TIMESTAMP is local time of the session's zone.
    Time(Time),
    /// TIME.
    Duration(MyDuration),
    Year(i64),
    /// Index from 1 and the element's text; index 0 is the empty error value.
    Enum(u64, String),
    /// Bit mask and the members' text joined by commas.
    Set(u64, String),
    /// Value and display width in bytes.
    Bit(u64, u8),
    /// TiDB's binary document: type byte, value.
    Json(Vec<u8>),
    Vector(Vec<f32>),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// Text as the server prints it in a result set; `None` for NULL.
    pub fn to_text(&self) -> Option<Vec<u8>> {
        let text = match self {
            Datum::Null => return None,
            Datum::Int(v) => v.to_string(),
            Datum::UInt(v) => v.to_string(),
            Datum::Float(v) => float_text(f64::from(*v), *v, true),
            Datum::Double(v) => float_text(*v, *v as f32, false),
            Datum::Decimal(v) => v.to_string(),
            Datum::Bytes(v) => return Some(v.clone()),
            Datum::Time(v) => v.to_string(),
            Datum::Duration(v) => v.to_string(),
            Datum::Year(v) => format!("{v:04}"),
            Datum::Enum(_, name) | Datum::Set(_, name) => name.clone(),
            Datum::Bit(v, width) => {
                return Some(v.to_be_bytes()[8 - usize::from(*width).clamp(1, 8)..].to_vec());
            }
            Datum::Json(v) => crate::json::to_text(v),
            Datum::Vector(v) => crate::cast::vector_text(v),
        };
        Some(text.into_bytes())
    }
}

impl Datum {
    /// Text as the server prints it for a column of this type: fixed digits of FLOAT(M,D), zeros of
    /// ZEROFILL.
    pub fn to_column_text(&self, field_type: &FieldType) -> Option<Vec<u8>> {
        let digits = usize::try_from(field_type.decimal).ok();
        let text = match (self, digits) {
            (Datum::Float(v), Some(digits)) => format!("{v:.digits$}").into_bytes(),
            (Datum::Double(v), Some(digits)) => format!("{v:.digits$}").into_bytes(),
            _ => self.to_text()?,
        };
        let width = usize::try_from(field_type.flen).unwrap_or(0);
        if !field_type.has_flag(flag::ZEROFILL)
            || text.len() >= width
            || text.first() == Some(&b'-')
        {
            return Some(text);
        }
        let mut filled = vec![b'0'; width - text.len()];
        filled.extend_from_slice(&text);
        Some(filled)
    }
}

/// Shortest text that reads back as the same number; exponent form outside 1e-15..1e15, as the server has it.
fn float_text(wide: f64, narrow: f32, is_float: bool) -> String {
    let magnitude = wide.abs();
    let exponent = magnitude != 0.0 && !(1e-15..1e15).contains(&magnitude);
    match (is_float, exponent) {
        (true, false) => format!("{narrow}"),
        (true, true) => format!("{narrow:e}"),
        (false, false) => format!("{wide}"),
        (false, true) => format!("{wide:e}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_print_as_the_server_prints_them() {
        let text = |datum: Datum| String::from_utf8(datum.to_text().unwrap()).unwrap();
        assert_eq!(text(Datum::Double(1.5)), "1.5");
        assert_eq!(text(Datum::Double(1e20)), "1e20");
        assert_eq!(text(Datum::Double(-0.0)), "-0");
        assert_eq!(text(Datum::Float(0.1)), "0.1");
        assert_eq!(text(Datum::Year(0)), "0000");
        let fixed = FieldType {
            decimal: 2,
            ..FieldType::default()
        };
        assert_eq!(Datum::Double(1.5).to_column_text(&fixed).unwrap(), b"1.50");
        let filled = FieldType {
            flen: 4,
            flag: flag::ZEROFILL,
            ..FieldType::default()
        };
        assert_eq!(Datum::UInt(7).to_column_text(&filled).unwrap(), b"0007");
        assert_eq!(Datum::Bit(0x1234, 2).to_text().unwrap(), [0x12, 0x34]);
    }
}
