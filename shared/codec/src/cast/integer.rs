//! TINYINT to BIGINT, and YEAR.

use super::number::{float_prefix, round_to_integer, trim};
use super::{Cast, Cell, Field, Problem, Rules, bad};
use crate::mysql::tp;
use crate::time::{MyDuration, TimeKind, duration};

/// A signed integer type.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    min: i64,
    max: i64,
    word: &'static str,
}

/// An unsigned integer type.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned {
    max: u64,
    word: &'static str,
}

fn bits_and_word(code: u8) -> (u32, &'static str) {
    match code {
        tp::TINY => (8, "tinyint"),
        tp::SHORT => (16, "smallint"),
        tp::INT24 => (24, "mediumint"),
        tp::LONG => (32, "int"),
        _ => (64, "bigint"),
    }
}

/// Up to 18 digits with an optional minus, nothing else.
#[inline]
fn plain(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let value = crate::digits::read(digits)? as i64;
    Some(if negative { -value } else { value })
}

/// A source value on its way to an integer.
struct Wide {
    value: i128,
    /// The text had more than the number.
    junk: bool,
    /// The number itself was written as a plain integer.
    integer_text: bool,
}

fn text_to_wide(text: &[u8]) -> Wide {
    let prefix = float_prefix(trim(text));
    let rounded = round_to_integer(prefix.number);
    let value = rounded.magnitude.min(i128::MAX as u128) as i128;
    Wide {
        value: if rounded.negative { -value } else { value },
        junk: prefix.junk,
        integer_text: !prefix
            .number
            .iter()
            .any(|byte| matches!(byte, b'.' | b'e' | b'E')),
    }
}

fn exact(value: i128) -> Wide {
    Wide {
        value,
        junk: false,
        integer_text: true,
    }
}

/// Rounds half to even; not-a-number becomes 0, the ends saturate.
fn float_to_wide(v: f64) -> Wide {
    exact(v.round_ties_even() as i128)
}

fn literal_to_wide(bytes: &[u8]) -> Wide {
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    if significant.len() > 8 {
        return Wide {
            value: i128::from(u64::MAX),
            junk: true,
            integer_text: true,
        };
    }
    exact(
        significant
            .iter()
            .fold(0i128, |v, byte| v << 8 | i128::from(*byte)),
    )
}

fn to_wide(field: &Field<'_>) -> Wide {
    match field {
        Field::Null => exact(0),
        Field::Text(text) => text_to_wide(text),
        Field::Int(v) => exact(i128::from(*v)),
        Field::UInt(v) => exact(i128::from(*v)),
        Field::Binary(bytes) => literal_to_wide(bytes),
        Field::Float(v) => float_to_wide(f64::from(*v)),
        Field::Double(v) => float_to_wide(*v),
        Field::Decimal(v) => text_to_wide(v.to_string().as_bytes()),
        Field::Time(v) if v.kind == TimeKind::Date => exact(i128::from(v.to_number())),
        Field::Time(v) => exact(i128::from(v.rounded(0).unwrap_or(*v).to_number())),
        Field::Duration(v) => {
            let (Ok(nanos) | Err(nanos)) = duration::rounded(v.nanos, 0);
            exact(i128::from(MyDuration { nanos, fsp: 0 }.to_number()))
        }
    }
}

impl Signed {
    pub(crate) fn new(code: u8) -> Signed {
        let (bits, word) = bits_and_word(code);
        Signed {
            min: i64::MIN >> (64 - bits),
            max: i64::MAX >> (64 - bits),
            word,
        }
    }

    /// The value of a text of plain digits within range.
    #[inline]
    pub(crate) fn plain(&self, text: &[u8]) -> Option<i64> {
        plain(text).filter(|value| (self.min..=self.max).contains(value))
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>, rules: &Rules) -> Cast<'a> {
        let wide = to_wide(&field);
        let clipped = wide.value.clamp(i128::from(self.min), i128::from(self.max));
        let cell = Cell::Int(clipped as i64);
        if wide.junk {
            // Strict modes do not round before they look for junk, and a prefix with a point or an
            // exponent then fails as an integer: out of range rather than incorrect.
            let fits = i64::try_from(wide.value).is_ok();
            let incorrect = fits && (wide.integer_text || !rules.strict);
            return bad(
                if incorrect {
                    Problem::Incorrect(self.word)
                } else {
                    Problem::OutOfRange
                },
                cell,
            );
        }
        if clipped == wide.value {
            Ok(cell)
        } else {
            bad(Problem::OutOfRange, cell)
        }
    }
}

impl Unsigned {
    pub(crate) fn new(code: u8) -> Unsigned {
        let (bits, word) = bits_and_word(code);
        Unsigned {
            max: u64::MAX >> (64 - bits),
            word,
        }
    }

    /// The value of a text of plain digits within range.
    #[inline]
    pub(crate) fn plain(&self, text: &[u8]) -> Option<u64> {
        plain(text)
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| *value <= self.max)
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>, rules: &Rules) -> Cast<'a> {
        let wide = to_wide(&field);
        let clipped = wide.value.clamp(0, i128::from(self.max));
        let cell = Cell::UInt(clipped as u64);
        if clipped != wide.value || (wide.junk && !wide.integer_text && rules.strict) {
            return bad(Problem::OutOfRange, cell);
        }
        if wide.junk {
            bad(Problem::Incorrect(self.word), cell)
        } else {
            Ok(cell)
        }
    }
}

const YEAR_MIN: i128 = 1901;
const YEAR_MAX: i128 = 2155;

/// A year of four digits within range.
#[inline]
pub(crate) fn plain_year(text: &[u8]) -> Option<i64> {
    let year = plain(text.first_chunk::<4>().filter(|_| text.len() == 4)?)?;
    (YEAR_MIN..=YEAR_MAX)
        .contains(&i128::from(year))
        .then_some(year)
}

/// YEAR: two-digit windows, and a zero that means 2000 when written as text of other than four characters.
pub(crate) fn cast_year<'a>(field: Field<'a>, rules: &Rules) -> Cast<'a> {
    let mut zero_is_2000 = false;
    let wide = match &field {
        Field::Text(text) => {
            zero_is_2000 = text.len() != 4 && trim(text).first() == Some(&b'0');
            let wide = text_to_wide(text);
            if wide.junk && rules.strict {
                let problem = if wide.integer_text {
                    Problem::Incorrect("year")
                } else {
                    Problem::OutOfRange
                };
                return bad(problem, Cell::Int(0));
            }
            wide
        }
        Field::Time(time) => exact(i128::from(time.civil().year)),
        other => to_wide(other),
    };
    let year = match wide.value {
        0 if !zero_is_2000 => return Ok(Cell::Int(0)),
        value @ 0..=69 => 2000 + value,
        value @ 70..=99 => 1900 + value,
        value => value,
    };
    match year {
        ..0 => bad(Problem::OutOfRange, Cell::Int(0)),
        YEAR_MIN..=YEAR_MAX => Ok(Cell::Int(year as i64)),
        _ => bad(
            Problem::OutOfRange,
            Cell::Int(year.clamp(YEAR_MIN, YEAR_MAX) as i64),
        ),
    }
}
