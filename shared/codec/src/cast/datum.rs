//! Casts of values that already have a type: results of expressions, elements of JSON documents.

use super::{Bad, Cast, CastError, Cell, ColumnCast, Field, Kind, Problem, bad};
use crate::datum::Datum;
use crate::json::{self, Value};
use std::borrow::Cow;

impl ColumnCast {
    /// Casts a typed value.
    pub fn cast_datum(&self, datum: &Datum) -> Result<Cell<'static>, CastError> {
        let textual = matches!(
            self.kind,
            Kind::String(_) | Kind::Enum(_) | Kind::Set(_) | Kind::Json
        );
        let field = match datum {
            Datum::Null => return Ok(Cell::Null),
            Datum::Int(v) | Datum::Year(v) => Field::Int(*v),
            Datum::UInt(v) => Field::UInt(*v),
            Datum::Float(v) => Field::Float(*v),
            Datum::Double(v) => Field::Double(*v),
            Datum::Decimal(v) => Field::Decimal(v),
            Datum::Bytes(v) => Field::Text(v),
            Datum::Time(v) => Field::Time(*v),
            Datum::Duration(v) => Field::Duration(*v),
            Datum::Enum(_, name) | Datum::Set(_, name) if textual => Field::Text(name.as_bytes()),
            Datum::Enum(v, _) | Datum::Set(v, _) => Field::UInt(*v),
            Datum::Bit(v, width) if textual => {
                let bytes = v.to_be_bytes();
                let shown = &bytes[8 - usize::from(*width).clamp(1, 8)..];
                return self.cast(Field::Binary(shown)).map(Cell::into_owned);
            }
            Datum::Bit(v, _) => Field::UInt(*v),
            Datum::Json(document) => return self.cast_json(document),
            Datum::Vector(v) => {
                let text = super::vector_text(v);
                return self
                    .cast(Field::Text(text.as_bytes()))
                    .map(Cell::into_owned);
            }
        };
        self.cast(field).map(Cell::into_owned)
    }

    /// Casts a JSON document: scalars by value into numbers and times, everything as its text into strings.
    fn cast_json(&self, document: &[u8]) -> Result<Cell<'static>, CastError> {
        if matches!(self.kind, Kind::Json) {
            return Ok(Cell::Json(Cow::Owned(document.to_vec())));
        }
        let text = json::to_text(document);
        let value = json::decode(document);
        let field = match &value {
            _ if matches!(self.kind, Kind::String(_) | Kind::Enum(_) | Kind::Set(_)) => {
                Field::Text(text.as_bytes())
            }
            Some(Value::Bool(v)) => Field::Int(i64::from(*v)),
            Some(Value::Int(v)) => Field::Int(*v),
            Some(Value::UInt(v)) => Field::UInt(*v),
            Some(Value::Double(v)) => Field::Double(*v),
            Some(Value::String(v)) => Field::Text(v.as_bytes()),
            Some(Value::Other(..)) => Field::Text(text.trim_matches('"').as_bytes()),
            _ => {
                let refused = self.refuse_container();
                return match refused {
                    Ok(cell) => Ok(cell),
                    Err(refused) => self.settle(*refused, &Field::Text(text.as_bytes())),
                };
            }
        };
        self.cast(field).map(Cell::into_owned)
    }

    /// Containers and the literal null are no numbers and no times.
    fn refuse_container(&self) -> Cast<'static> {
        let cell = self.zero().unwrap_or(Cell::Null);
        let attempt = self.try_cast(Field::Text(b"[]"));
        match attempt {
            Err(refused) => {
                let Bad { problem, .. } = *refused;
                bad(problem, cell)
            }
            Ok(_) => bad(Problem::Truncated, cell),
        }
    }
}
