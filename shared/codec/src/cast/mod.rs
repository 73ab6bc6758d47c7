//! Casts from source values to column values, with the server's rules, codes and texts: strict modes
//! reject, other modes adjust. One file per family of types; this one holds what they share and the choice
//! among them, made once per column.

mod bits;
mod datum;
mod decimal;
mod float;
mod integer;
mod json;
mod number;
mod string;
mod temporal;
mod vector;

pub(crate) use decimal::precision_and_scale;
pub(crate) use string::{nth_char, trimmed_len};
pub use vector::vector_text;

use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::mysql::{code, tp};
use crate::schema::FieldType;
use crate::session::Session;
use crate::sort::{SortKey, UnknownCollation};
use crate::time::{MyDuration, Time, TimeKind, duration};
use std::borrow::Cow;
use std::sync::Arc;

/// A value as a source format gives it.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    Null,
    /// Text of CSV or a quoted literal; UTF-8 unless the source is wrong.
    Text(&'a [u8]),
    Int(i64),
    UInt(u64),
    /// `x'…'` or `b'…'`.
    Binary(&'a [u8]),
    Float(f32),
    Double(f64),
    Decimal(&'a MyDecimal),
    /// A typed date or time of Parquet, in the session's zone.
    Time(Time),
    Duration(MyDuration),
}

/// A column value ready to be encoded, borrowing from its field where it can.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    /// Signed integers and YEAR.
    Int(i64),
    /// Unsigned integers, ENUM index, SET mask, BIT value.
    UInt(u64),
    /// DOUBLE, and FLOAT widened.
    Double(f64),
    /// A DECIMAL of at most 18 digits: `mantissa / 10^scale`. Cells stay small enough to be moved freely.
    SmallDecimal {
        mantissa: i64,
        scale: u8,
    },
    Decimal(Box<MyDecimal>),
    Bytes(Cow<'a, [u8]>),
    /// Packed wall time; a TIMESTAMP in the session's zone.
    Time(u64),
    /// TIME in nanoseconds.
    Duration(i64),
    /// Type byte and value.
    Json(Cow<'a, [u8]>),
    /// Dimension and elements, little-endian.
    Vector(Vec<u8>),
}

impl Cell<'_> {
    pub fn is_null(&self) -> bool {
        matches!(self, Cell::Null)
    }

    /// A DECIMAL in the smaller of its forms.
    pub fn decimal(v: MyDecimal) -> Cell<'static> {
        match v.as_small_signed() {
            Some(mantissa) => Cell::SmallDecimal {
                mantissa,
                scale: v.scale(),
            },
            None => Cell::Decimal(Box::new(v)),
        }
    }

    /// The same value without borrowing.
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Null => Cell::Null,
            Cell::Int(v) => Cell::Int(v),
            Cell::UInt(v) => Cell::UInt(v),
            Cell::Double(v) => Cell::Double(v),
            Cell::SmallDecimal { mantissa, scale } => Cell::SmallDecimal { mantissa, scale },
            Cell::Decimal(v) => Cell::Decimal(v),
            Cell::Bytes(v) => Cell::Bytes(Cow::Owned(v.into_owned())),
            Cell::Time(v) => Cell::Time(v),
            Cell::Duration(v) => Cell::Duration(v),
            Cell::Json(v) => Cell::Json(Cow::Owned(v.into_owned())),
            Cell::Vector(v) => Cell::Vector(v),
        }
    }
}

/// Why a value did not fit as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// 1264.
    OutOfRange,
    /// 1366 with the type's word.
    Incorrect(&'static str),
    /// 1292 with the type's word.
    IncorrectTime(&'static str),
    /// 1366 for bytes that the charset does not have.
    IncorrectString(Vec<u8>),
    /// 1406.
    TooLong,
    /// 1265.
    Truncated,
    /// Rejected in every mode.
    Hard { code: u16, message: String },
}

/// A problem, and what other than strict modes store instead.
#[derive(Debug)]
pub struct Bad<'a> {
    pub problem: Problem,
    pub adjusted: Cell<'a>,
}

/// Outcome of a cast within its family. Boxed: the good path is what matters.
pub(crate) type Cast<'a> = Result<Cell<'a>, Box<Bad<'a>>>;

pub(crate) fn bad<'a>(problem: Problem, adjusted: Cell<'a>) -> Cast<'a> {
    Err(Box::new(Bad { problem, adjusted }))
}

pub(crate) fn hard<'a>(code: u16, message: impl Into<String>) -> Cast<'a> {
    bad(
        Problem::Hard {
            code,
            message: message.into(),
        },
        Cell::Null,
    )
}

/// A rejected value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CastError {
    /// MySQL's error code; 0 where the server has none.
    pub code: u16,
    /// The server's text, without its `at row N`.
    pub message: String,
}

/// Most bytes of a value that a message shows.
const SHOWN_BYTES_MAX: usize = 128;

impl Problem {
    fn into_error(self, column: &str, field: &Field<'_>) -> CastError {
        let value = || shown(field);
        let (code, message) = match self {
            Problem::OutOfRange => (
                code::OUT_OF_RANGE,
                format!("Out of range value for column '{column}'"),
            ),
            Problem::Incorrect(word) => (
                code::WRONG_VALUE_FOR_FIELD,
                format!(
                    "Incorrect {word} value: '{}' for column '{column}'",
                    value()
                ),
            ),
            Problem::IncorrectTime(word) => (
                code::TRUNCATED_WRONG_VALUE,
                format!(
                    "Incorrect {word} value: '{}' for column '{column}'",
                    value()
                ),
            ),
            Problem::IncorrectString(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect();
                let message = format!("Incorrect string value '{hex}' for column '{column}'");
                (code::WRONG_VALUE_FOR_FIELD, message)
            }
            Problem::TooLong => (
                code::DATA_TOO_LONG,
                format!("Data too long for column '{column}'"),
            ),
            Problem::Truncated => (
                code::DATA_TRUNCATED,
                format!("Data truncated for column '{column}'"),
            ),
            Problem::Hard { code, message } => (code, message),
        };
        CastError { code, message }
    }
}

fn shown(field: &Field<'_>) -> String {
    let text = field_text(field);
    let cut = &text[..text.len().min(SHOWN_BYTES_MAX)];
    String::from_utf8_lossy(cut).into_owned()
}

/// The text that a typed source value is cast through.
pub(crate) fn field_text<'a>(field: &Field<'a>) -> Cow<'a, [u8]> {
    let owned = match field {
        Field::Null => String::new(),
        Field::Text(text) | Field::Binary(text) => return Cow::Borrowed(text),
        Field::Int(v) => v.to_string(),
        Field::UInt(v) => v.to_string(),
        Field::Float(v) => format!("{v}"),
        Field::Double(v) => format!("{v}"),
        Field::Decimal(v) => v.to_string(),
        Field::Time(v) => v.to_string(),
        Field::Duration(v) => v.to_string(),
    };
    Cow::Owned(owned.into_bytes())
}

/// What of the session the casts look at.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub strict: bool,
    pub session: Arc<Session>,
}

/// Puts `cell` in the place of an empty one, which has nothing to be dropped.
#[inline(always)]
fn fill<'a>(empty: &mut Cell<'a>, cell: Cell<'a>) {
    debug_assert!(empty.is_null());
    std::mem::forget(std::mem::replace(empty, cell));
}

/// A cast to one column's type.
#[derive(Clone, Debug)]
pub struct ColumnCast {
    kind: Kind,
    column: String,
    pub(crate) rules: Rules,
}

#[derive(Clone, Debug)]
enum Kind {
    Int(integer::Signed),
    UInt(integer::Unsigned),
    Decimal(decimal::Spec),
    Float(float::Spec),
    String(string::Spec),
    Time(temporal::Spec),
    Duration { fsp: u8 },
    Year,
    Enum(bits::Elements),
    Set(bits::Elements),
    Bit { bits: u32 },
    Json,
    Vector { dimension: Option<usize> },
}

/// A column whose type this codec does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedType {
    #[error("column type code {0} is unknown")]
    Code(u8),
    #[error("an element is no hexadecimal literal")]
    Element,
    #[error("its default `{0}` is no value of its type")]
    Default(String),
    #[error(transparent)]
    Collation(#[from] UnknownCollation),
}

impl ColumnCast {
    /// The cast to `field_type`; `column` is for messages.
    pub fn compile(
        column: &str,
        field_type: &FieldType,
        session: &Arc<Session>,
    ) -> Result<ColumnCast, UnsupportedType> {
        let rules = Rules {
            strict: session.is_strict(),
            session: Arc::clone(session),
        };
        let elements = || -> Result<bits::Elements, UnsupportedType> {
            let sort = SortKey::new(&field_type.collate, session.new_collation)?;
            bits::Elements::new(field_type, sort).ok_or(UnsupportedType::Element)
        };
        let time = |kind| {
            Kind::Time(temporal::Spec {
                kind,
                fsp: field_type.fsp(),
            })
        };
        let kind = match field_type.tp {
            _ if field_type.is_integer() && field_type.is_unsigned() => {
                Kind::UInt(integer::Unsigned::new(field_type.tp))
            }
            _ if field_type.is_integer() => Kind::Int(integer::Signed::new(field_type.tp)),
            _ if field_type.is_string() => Kind::String(string::Spec::new(field_type)),
            tp::NEW_DECIMAL => Kind::Decimal(decimal::Spec::new(field_type)),
            tp::FLOAT | tp::DOUBLE => Kind::Float(float::Spec::new(field_type)),
            tp::DATE => time(TimeKind::Date),
            tp::DATETIME => time(TimeKind::Datetime),
            tp::TIMESTAMP => time(TimeKind::Timestamp),
            tp::DURATION => Kind::Duration {
                fsp: field_type.fsp(),
            },
            tp::YEAR => Kind::Year,
            tp::ENUM => Kind::Enum(elements()?),
            tp::SET => Kind::Set(elements()?),
            tp::BIT => Kind::Bit {
                bits: field_type.flen.clamp(1, 64) as u32,
            },
            tp::JSON => Kind::Json,
            tp::VECTOR => Kind::Vector {
                dimension: usize::try_from(field_type.flen).ok(),
            },
            other => return Err(UnsupportedType::Code(other)),
        };
        Ok(ColumnCast {
            kind,
            column: column.to_owned(),
            rules,
        })
    }

    /// Fills an empty cell from a text that needs no more than reading it; `false` when [`ColumnCast::cast`] is
    /// needed. Each arm fills the cell where it is: one handed through is stored in pieces and loaded as a whole,
    /// which stalls the core for longer than the reading took (a fifth of a row's time).
    #[inline]
    pub(crate) fn fill_plain<'a>(&self, text: &'a [u8], to: &mut Cell<'a>) -> bool {
        match &self.kind {
            Kind::Int(spec) => {
                if let Some(v) = spec.plain(text) {
                    fill(to, Cell::Int(v));
                    return true;
                }
            }
            Kind::UInt(spec) => {
                if let Some(v) = spec.plain(text) {
                    fill(to, Cell::UInt(v));
                    return true;
                }
            }
            Kind::Decimal(spec) => {
                if let Some(mantissa) = spec.plain(text) {
                    let scale = spec.scale;
                    fill(to, Cell::SmallDecimal { mantissa, scale });
                    return true;
                }
            }
            Kind::Float(spec) => {
                if let Some(v) = spec.plain(text) {
                    fill(to, Cell::Double(v));
                    return true;
                }
            }
            Kind::String(spec) => {
                if let Some(v) = spec.plain(text) {
                    fill(to, Cell::Bytes(Cow::Borrowed(v)));
                    return true;
                }
            }
            Kind::Time(spec) => {
                if let Some(v) = spec.plain(text, &self.rules) {
                    fill(to, Cell::Time(v));
                    return true;
                }
            }
            Kind::Duration { .. } => {
                if let Some(v) = duration::plain(text) {
                    fill(to, Cell::Duration(v));
                    return true;
                }
            }
            Kind::Year => {
                if let Some(v) = integer::plain_year(text) {
                    fill(to, Cell::Int(v));
                    return true;
                }
            }
            _ => {}
        }
        false
    }

    /// Casts one value. NULL stays NULL: whether the column takes it is the encoder's to say.
    pub fn cast<'a>(&self, field: Field<'a>) -> Result<Cell<'a>, CastError> {
        match self.try_cast(field) {
            Ok(cell) => Ok(cell),
            Err(bad) => self.settle(*bad, &field),
        }
    }

    #[cold]
    fn settle<'a>(&self, bad: Bad<'a>, field: &Field<'_>) -> Result<Cell<'a>, CastError> {
        let rejected = self.rules.strict || matches!(bad.problem, Problem::Hard { .. });
        if rejected {
            Err(bad.problem.into_error(&self.column, field))
        } else {
            Ok(bad.adjusted)
        }
    }

    #[inline]
    fn try_cast<'a>(&self, field: Field<'a>) -> Cast<'a> {
        if matches!(field, Field::Null) {
            return Ok(Cell::Null);
        }
        let rules = &self.rules;
        match &self.kind {
            Kind::Int(spec) => spec.cast(field, rules),
            Kind::UInt(spec) => spec.cast(field, rules),
            Kind::Decimal(spec) => spec.cast(field),
            Kind::Float(spec) => spec.cast(field),
            Kind::String(spec) => spec.cast(field),
            Kind::Time(spec) => spec.cast(field, rules),
            Kind::Duration { fsp } => temporal::cast_duration(field, *fsp, rules),
            Kind::Year => integer::cast_year(field, rules),
            Kind::Enum(elements) => elements.cast_enum(field),
            Kind::Set(elements) => elements.cast_set(field),
            Kind::Bit { bits } => bits::cast_bit(field, *bits),
            Kind::Json => json::cast(field),
            Kind::Vector { dimension } => vector::cast(field, *dimension),
        }
    }

    /// The value that stands in for NULL in a NOT NULL column when the mode is not strict; VECTOR has none.
    pub fn zero(&self) -> Option<Cell<'static>> {
        Some(match &self.kind {
            Kind::Int(_) | Kind::Year => Cell::Int(0),
            Kind::UInt(_) | Kind::Enum(_) | Kind::Set(_) | Kind::Bit { .. } => Cell::UInt(0),
            Kind::Decimal(spec) => Cell::decimal(MyDecimal::ZERO.round(spec.scale)),
            Kind::Float(_) => Cell::Double(0.0),
            Kind::String(spec) => Cell::Bytes(Cow::Owned(spec.padding())),
            Kind::Time(_) => Cell::Time(0),
            Kind::Duration { .. } => Cell::Duration(0),
            Kind::Json => Cell::Json(Cow::Borrowed(&[4, 0])),
            Kind::Vector { .. } => return None,
        })
    }

    /// The value as a [`Datum`] of this column's type.
    pub fn datum(&self, cell: &Cell<'_>, field_type: &FieldType) -> Datum {
        cell_datum(cell, field_type)
    }
}

/// A cell as a datum of `field_type`.
pub fn cell_datum(cell: &Cell<'_>, field_type: &FieldType) -> Datum {
    match cell {
        Cell::Null => Datum::Null,
        Cell::Int(v) if field_type.tp == tp::YEAR => Datum::Year(*v),
        Cell::Int(v) => Datum::Int(*v),
        Cell::UInt(v) => match field_type.tp {
            tp::ENUM => Datum::Enum(*v, bits::enum_name(*v, field_type)),
            tp::SET => Datum::Set(*v, bits::set_name(*v, field_type)),
            tp::BIT => Datum::Bit(*v, (field_type.flen.clamp(1, 64) as u8).div_ceil(8)),
            _ => Datum::UInt(*v),
        },
        Cell::Double(v) if field_type.tp == tp::FLOAT => Datum::Float(*v as f32),
        Cell::Double(v) => Datum::Double(*v),
        Cell::SmallDecimal { mantissa, scale } => {
            Datum::Decimal(MyDecimal::from_small(*mantissa, *scale))
        }
        Cell::Decimal(v) => Datum::Decimal(**v),
        Cell::Bytes(v) => Datum::Bytes(v.to_vec()),
        Cell::Time(v) => {
            let kind = match field_type.tp {
                tp::DATE => TimeKind::Date,
                tp::TIMESTAMP => TimeKind::Timestamp,
                _ => TimeKind::Datetime,
            };
            Datum::Time(Time::from_packed(*v, kind, field_type.fsp()))
        }
        Cell::Duration(v) => Datum::Duration(MyDuration {
            nanos: *v,
            fsp: field_type.fsp(),
        }),
        Cell::Json(v) => Datum::Json(v.to_vec()),
        Cell::Vector(v) => Datum::Vector(vector::elements(v)),
    }
}

/// A datum that already has the column's type, as a cell.
pub fn datum_cell(datum: &Datum) -> Cell<'_> {
    match datum {
        Datum::Null => Cell::Null,
        Datum::Int(v) | Datum::Year(v) => Cell::Int(*v),
        Datum::UInt(v) | Datum::Enum(v, _) | Datum::Set(v, _) | Datum::Bit(v, _) => Cell::UInt(*v),
        Datum::Float(v) => Cell::Double(f64::from(*v)),
        Datum::Double(v) => Cell::Double(*v),
        Datum::Decimal(v) => Cell::decimal(*v),
        Datum::Bytes(v) => Cell::Bytes(Cow::Borrowed(v)),
        Datum::Time(v) => Cell::Time(v.packed()),
        Datum::Duration(v) => Cell::Duration(v.nanos),
        Datum::Json(v) => Cell::Json(Cow::Borrowed(v)),
        Datum::Vector(v) => Cell::Vector(vector::encode(v)),
    }
}

/// Strips Unicode white space at both ends.
pub(crate) fn trim_text(text: &[u8]) -> &[u8] {
    number::trim(text)
}

#[cfg(test)]
#[path = "cast_tests.rs"]
mod tests;
