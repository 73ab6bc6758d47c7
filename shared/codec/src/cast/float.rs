//! FLOAT and DOUBLE.

use super::number::{float_prefix, trim};
use super::{Cast, Cell, Field, Problem, bad};
use crate::decimal::{POW10, parse_small};
use crate::mysql::tp;
use crate::schema::FieldType;

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    single: bool,
    unsigned: bool,
    /// (M,D).
    digits: Option<(i32, i32)>,
}

impl Spec {
    pub(crate) fn new(field_type: &FieldType) -> Spec {
        let digits = i32::try_from(field_type.flen)
            .ok()
            .filter(|flen| *flen >= 0 && field_type.decimal >= 0)
            .map(|flen| (flen, field_type.decimal));
        Spec {
            single: field_type.tp == tp::FLOAT,
            unsigned: field_type.is_unsigned(),
            digits,
        }
    }

    /// The value of a plain text: digits with a point, few enough for the quotient of two exact numbers to be
    /// the nearest double.
    #[inline]
    pub(crate) fn plain(&self, text: &[u8]) -> Option<f64> {
        const EXACT: u64 = 1 << 53;
        let (mantissa, scale) = parse_small(text)?;
        // Zero may have a sign, which the mantissa lost.
        if self.digits.is_some() || mantissa == 0 || mantissa.unsigned_abs() > EXACT {
            return None;
        }
        let value = mantissa as f64 / POW10[usize::from(scale)] as i64 as f64;
        (!(self.single || self.unsigned && mantissa < 0)).then_some(value)
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>) -> Cast<'a> {
        let word = if self.single { "float" } else { "double" };
        let (value, incorrect) = match field {
            Field::Text(text) => parse(text),
            Field::Int(v) => (v as f64, false),
            Field::UInt(v) => (v as f64, false),
            Field::Float(v) => (f64::from(v), false),
            Field::Double(v) => (v, false),
            Field::Decimal(v) => (v.to_f64(), false),
            Field::Binary(bytes) => {
                let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
                let value = significant
                    .iter()
                    .fold(0u128, |v, byte| v << 8 | u128::from(*byte));
                (
                    value.min(u128::from(u64::MAX)) as f64,
                    significant.len() > 8,
                )
            }
            Field::Time(v) => (
                v.to_number() as f64 + f64::from(v.civil().micro) / 1e6,
                false,
            ),
            Field::Duration(v) => (
                v.to_number() as f64 + (v.nanos % 1_000_000_000) as f64 / 1e9,
                false,
            ),
            Field::Null => return Ok(Cell::Null),
        };
        let (value, out_of_range) = self.fit(value);
        let cell = Cell::Double(value);
        if incorrect {
            bad(Problem::Incorrect(word), cell)
        } else if out_of_range {
            bad(Problem::OutOfRange, cell)
        } else {
            Ok(cell)
        }
    }

    /// Applies (M,D), UNSIGNED and the range of FLOAT; whether it had to clip.
    fn fit(&self, value: f64) -> (f64, bool) {
        let (mut value, mut clipped) = (value, value.is_nan());
        if clipped {
            value = 0.0;
        }
        if let Some((flen, decimal)) = self.digits {
            let unit = 10f64.powi(decimal);
            let scaled = (value * unit).round_ties_even();
            if scaled.is_finite() {
                value = scaled / unit;
            }
            let limit = 10f64.powi(flen - decimal) - 10f64.powi(-decimal);
            clipped |= value.abs() > limit;
            value = value.clamp(-limit, limit);
        }
        if self.unsigned && value < 0.0 {
            return (0.0, true);
        }
        if !self.single {
            return (value, clipped);
        }
        let limit = f64::from(f32::MAX);
        clipped |= value.abs() > limit;
        (f64::from(value.clamp(-limit, limit) as f32), clipped)
    }
}

/// Value of a text, and whether it was more or other than a number within range.
fn parse(text: &[u8]) -> (f64, bool) {
    let prefix = float_prefix(trim(text));
    let number = std::str::from_utf8(prefix.number).unwrap_or_default();
    let value: f64 = number.parse().unwrap_or(0.0);
    if value.is_infinite() {
        return (f64::MAX.copysign(value), true);
    }
    (value, prefix.junk)
}
