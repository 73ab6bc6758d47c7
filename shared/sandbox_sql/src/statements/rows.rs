//! Values of an INSERT as they go into the encoder, and rows of the store as they come back.

use crate::expr::Expr;
use crate::protocol::Value;
use thunderhead_codec::datum::Datum;
use thunderhead_codec::schema::FieldType;
use thunderhead_codec::table::Field;

/// A field that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Owned {
    Null,
    /// The column's default.
    Default,
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Int(i64),
    UInt(u64),
    Datum(Datum),
}

impl Owned {
    /// What a literal is; `None` for an expression that must be computed.
    pub fn literal(expr: &Expr) -> Option<Self> {
        Some(match expr {
            Expr::Null => Owned::Null,
            Expr::Default(None) => Owned::Default,
            Expr::Bool(value) => Owned::Int(i64::from(*value)),
            Expr::Str { bytes, .. } => Owned::Text(bytes.clone()),
            Expr::Binary(bytes) => Owned::Binary(bytes.clone()),
            Expr::Number(text) => Owned::number(text),
            Expr::Temporal { text, .. } => Owned::Text(text.clone().into_bytes()),
            Expr::Unary { op: "-", expr } => match expr.as_ref() {
                Expr::Number(text) => Owned::number(&format!("-{text}")),
                _ => return None,
            },
            Expr::Paren(inner) => return Self::literal(inner),
            _ => return None,
        })
    }

    fn number(text: &str) -> Self {
        match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(value), _) => Owned::Int(value),
            (_, Ok(value)) => Owned::UInt(value),
            _ => Owned::Text(text.as_bytes().to_vec()),
        }
    }

    /// A computed value.
    pub fn computed(value: Value) -> Self {
        value.map_or(Owned::Null, Owned::Text)
    }

    /// Bytes the value holds, for bounds.
    pub fn is_null(&self) -> bool {
        matches!(self, Owned::Null | Owned::Datum(Datum::Null))
    }

    /// A value of the store, on its way back into the encoder.
    pub fn stored(datum: &Datum) -> Self {
        match datum {
            Datum::Null => Owned::Null,
            Datum::Int(v) | Datum::Year(v) => Owned::Int(*v),
            Datum::UInt(v) => Owned::UInt(*v),
            Datum::Bytes(v) => Owned::Text(v.clone()),
            Datum::Bit(..) => Owned::Binary(datum.to_text().unwrap_or_default()),
            Datum::Enum(_, name) | Datum::Set(_, name) => Owned::Text(name.clone().into_bytes()),
            Datum::Float(_)
            | Datum::Double(_)
            | Datum::Decimal(_)
            | Datum::Time(_)
            | Datum::Duration(_) => Owned::Datum(datum.clone()),
            other => Owned::Text(other.to_text().unwrap_or_default()),
        }
    }

    pub fn field(&self) -> Field<'_> {
        match self {
            Owned::Null | Owned::Default => Field::Null,
            Owned::Text(v) => Field::Text(v),
            Owned::Binary(v) => Field::Binary(v),
            Owned::Int(v) => Field::Int(*v),
            Owned::UInt(v) => Field::UInt(*v),
            Owned::Datum(datum) => match datum {
                Datum::Float(v) => Field::Float(*v),
                Datum::Double(v) => Field::Double(*v),
                Datum::Decimal(v) => Field::Decimal(v),
                Datum::Time(v) => Field::Time(*v),
                Datum::Duration(v) => Field::Duration(*v),
                _ => Field::Null,
            },
        }
    }
}

/// A stored value as an expression can take it, for `col = col + 1` in ON DUPLICATE KEY UPDATE.
pub fn expression(datum: &Datum, ty: &FieldType) -> Expr {
    match datum {
        Datum::Null => Expr::Null,
        Datum::Int(v) | Datum::Year(v) => Expr::Number(v.to_string()),
        Datum::UInt(v) => Expr::Number(v.to_string()),
        Datum::Double(v) => Expr::Number(format!("{v:e}")),
        Datum::Decimal(v) => Expr::Number(v.to_string()),
        other if ty.is_binary() && ty.is_string() => {
            Expr::Binary(other.to_text().unwrap_or_default())
        }
        other => Expr::Str {
            introducer: None,
            bytes: other.to_text().unwrap_or_default(),
        },
    }
}
