//! Types of expressions while a query is translated, and how values of each type live in SQLite: integers
//! as INTEGER, doubles as REAL, exact decimals and everything temporal as TEXT, bytes as BLOB.

use crate::protocol::ColumnMeta;
use thunderhead_codec::mysql::{flag, tp};
use thunderhead_codec::schema::{ColumnInfo, FieldType};

/// Collation under which decimal texts compare as numbers.
pub const DECIMAL_COLLATION: &str = "th_decimal";
/// Scale a quotient has beyond its dividend's (`div_precision_increment`).
pub const DIVISION_SCALE: i32 = 4;
const SCALE_MAX: i32 = 30;

/// Family of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Int,
    Decimal,
    Double,
    Text,
    Blob,
    Date,
    DateTime,
    Time,
    Json,
}

/// Type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Ty {
    pub kind: Kind,
    /// Fractional digits of a decimal or of seconds.
    pub scale: i32,
    /// Collation of texts; empty = bytes.
    pub collation: String,
    /// What the client is told, where a column says more than the kind.
    pub tp: u8,
    pub flags: u32,
    pub length: i64,
}

impl Ty {
    pub fn new(kind: Kind, scale: i32) -> Self {
        let (tp, flags, length) = match kind {
            Kind::Null => (tp::NULL, flag::BINARY, 0),
            Kind::Int => (tp::LONGLONG, flag::BINARY, 20),
            Kind::Decimal => (tp::NEW_DECIMAL, flag::BINARY, 65),
            Kind::Double => (tp::DOUBLE, flag::BINARY, 22),
            Kind::Text => (tp::VAR_STRING, 0, 1024),
            Kind::Blob => (tp::VAR_STRING, flag::BINARY, 1024),
            Kind::Date => (tp::DATE, flag::BINARY, 10),
            Kind::DateTime => (tp::DATETIME, flag::BINARY, 19),
            Kind::Time => (tp::DURATION, flag::BINARY, 10),
            Kind::Json => (tp::JSON, flag::BINARY, i64::from(u32::MAX)),
        };
        let collation = if kind == Kind::Text {
            "utf8mb4_bin".to_owned()
        } else {
            String::new()
        };
        Self {
            kind,
            scale: scale.min(SCALE_MAX),
            collation,
            tp,
            flags,
            length,
        }
    }

    pub fn int() -> Self {
        Self::new(Kind::Int, 0)
    }

    pub fn text() -> Self {
        Self::new(Kind::Text, 0)
    }

    pub fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Int | Kind::Decimal | Kind::Double)
    }

    /// Type of a column.
    pub fn of(ty: &FieldType) -> Self {
        let kind = match ty.tp {
            _ if ty.is_integer() || ty.tp == tp::YEAR => Kind::Int,
            tp::NEW_DECIMAL => Kind::Decimal,
            tp::FLOAT | tp::DOUBLE => Kind::Double,
            tp::DATE => Kind::Date,
            tp::DATETIME | tp::TIMESTAMP => Kind::DateTime,
            tp::DURATION => Kind::Time,
            tp::JSON => Kind::Json,
            tp::BIT => Kind::Blob,
            tp::ENUM | tp::SET | tp::VECTOR => Kind::Text,
            _ if ty.is_binary() => Kind::Blob,
            _ => Kind::Text,
        };
        let collation = if kind == Kind::Text {
            ty.collate.clone()
        } else {
            String::new()
        };
        Self {
            kind,
            scale: ty.decimal.max(0),
            collation,
            tp: ty.tp,
            flags: ty.flag,
            length: ty.flen,
        }
    }

    /// SQLite's collation for comparing values of this type, if one is needed.
    pub fn sqlite_collation(&self) -> Option<&str> {
        match self.kind {
            Kind::Decimal => Some(DECIMAL_COLLATION),
            Kind::Text => match self.collation.as_str() {
                "binary" | "utf8mb4_0900_bin" | "" => None,
                // These compare code points after trailing spaces, which SQLite has built in.
                bin if bin.ends_with("_bin") => Some("RTRIM"),
                other => Some(other),
            },
            _ => None,
        }
    }

    /// How a result column of this type is described to the client.
    pub fn meta(&self, name: &str, table: &str) -> ColumnMeta {
        ColumnMeta {
            db: String::new(),
            table: table.to_owned(),
            name: name.to_owned(),
            tp: self.tp,
            flags: self.flags,
            length: self.length,
            decimals: match self.kind {
                Kind::Decimal | Kind::DateTime | Kind::Time => self.scale,
                Kind::Double => 31,
                _ => 0,
            },
            text: matches!(self.kind, Kind::Text) && self.collation != "binary",
        }
    }
}

/// The type that holds values of both.
pub fn unify(left: &Ty, right: &Ty) -> Ty {
    match (left.kind, right.kind) {
        (Kind::Null, _) => right.clone(),
        (_, Kind::Null) => left.clone(),
        (a, b) if a == b => Ty {
            scale: left.scale.max(right.scale),
            length: left.length.max(right.length),
            ..left.clone()
        },
        _ if left.is_number() && right.is_number() => {
            let double = left.kind == Kind::Double || right.kind == Kind::Double;
            Ty::new(
                if double { Kind::Double } else { Kind::Decimal },
                left.scale.max(right.scale),
            )
        }
        (Kind::Date, Kind::DateTime) | (Kind::DateTime, Kind::Date) => {
            Ty::new(Kind::DateTime, left.scale.max(right.scale))
        }
        (Kind::Blob, _) | (_, Kind::Blob) => Ty::new(Kind::Blob, 0),
        _ => Ty::text(),
    }
}

/// How a column is described to the client.
pub fn column_meta(column: &ColumnInfo, table: &str) -> ColumnMeta {
    Ty::of(&column.field_type).meta(&column.name.original, table)
}
