//! DECIMAL(p,s).

use super::{Cast, Cell, Field, Problem, bad, field_text};
use crate::decimal::{MyDecimal, POW10, Parsed, parse_small, rescale_small};
use crate::schema::FieldType;

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) precision: u8,
    pub(crate) scale: u8,
    unsigned: bool,
    /// First mantissa at the column's scale that has too many digits, where one word tells.
    small_limit: u64,
}

impl Spec {
    pub(crate) fn new(field_type: &FieldType) -> Spec {
        let (precision, scale) = precision_and_scale(field_type);
        Spec {
            precision,
            scale,
            small_limit: POW10[usize::from(precision.min(18))],
            unsigned: field_type.is_unsigned(),
        }
    }

    /// The mantissa, at the column's scale, of a plain text that fits.
    #[inline]
    pub(crate) fn plain(&self, text: &[u8]) -> Option<i64> {
        let (mantissa, scale) = parse_small(text)?;
        let mantissa = rescale_small(mantissa, scale, self.scale)?;
        let fits = mantissa.unsigned_abs() < self.small_limit && !(self.unsigned && mantissa < 0);
        fits.then_some(mantissa)
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>) -> Cast<'a> {
        let (decimal, parsed) = match field {
            Field::Text(text) => MyDecimal::parse(text),
            Field::Decimal(v) => (*v, Parsed::Whole),
            Field::Int(v) => (MyDecimal::from_i64(v), Parsed::Whole),
            Field::UInt(v) => (MyDecimal::from_u64(v), Parsed::Whole),
            Field::Binary(bytes) => literal(bytes),
            Field::Float(_) | Field::Double(_) => MyDecimal::parse(&field_text(&field)),
            Field::Time(v) => (
                with_fraction(v.to_number(), v.civil().micro, v.fsp),
                Parsed::Whole,
            ),
            Field::Duration(v) => {
                let micro = (v.nanos.unsigned_abs() / 1000 % 1_000_000) as u32;
                (with_fraction(v.to_number(), micro, v.fsp), Parsed::Whole)
            }
            Field::Null => return Ok(Cell::Null),
        };
        let (fitted, overflow) = self.fit(decimal);
        let cell = Cell::decimal(fitted);
        match parsed {
            Parsed::Junk | Parsed::NoNumber => bad(Problem::Incorrect("decimal"), cell),
            Parsed::Overflow => bad(Problem::OutOfRange, cell),
            _ if overflow => bad(Problem::OutOfRange, cell),
            _ => Ok(cell),
        }
    }

    /// Rounds to the scale and clips to the precision; whether it had to clip.
    #[inline]
    pub(crate) fn fit(&self, decimal: MyDecimal) -> (MyDecimal, bool) {
        let rounded = decimal.round(self.scale);
        if rounded.integer_digits() > usize::from(self.precision - self.scale) {
            let limit = MyDecimal::max_of(self.precision, self.scale, decimal.is_negative());
            let negative = self.unsigned && decimal.is_negative();
            return (if negative { self.zero() } else { limit }, true);
        }
        if self.unsigned && rounded.is_negative() {
            return (self.zero(), true);
        }
        (rounded, false)
    }

    fn zero(&self) -> MyDecimal {
        MyDecimal::ZERO.round(self.scale)
    }
}

/// p and s of a DECIMAL column. Without them it is DECIMAL(10,0).
pub(crate) fn precision_and_scale(field_type: &FieldType) -> (u8, u8) {
    let precision = u8::try_from(field_type.flen).unwrap_or(10).clamp(1, 81);
    let scale = u8::try_from(field_type.decimal).unwrap_or(0).min(precision);
    (precision, scale)
}

/// A binary literal as a number; more than eight bytes are none.
fn literal(bytes: &[u8]) -> (MyDecimal, Parsed) {
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    if significant.len() > 8 {
        return (MyDecimal::from_u64(u64::MAX), Parsed::Junk);
    }
    let number = significant
        .iter()
        .fold(0, |v, byte| v << 8 | u64::from(*byte));
    (MyDecimal::from_u64(number), Parsed::Whole)
}

fn with_fraction(number: i64, micro: u32, fsp: u8) -> MyDecimal {
    let magnitude = i128::from(number.unsigned_abs()) * 1_000_000 + i128::from(micro);
    let signed = if number < 0 { -magnitude } else { magnitude };
    MyDecimal::from_i128(signed, 6).truncate(fsp)
}
