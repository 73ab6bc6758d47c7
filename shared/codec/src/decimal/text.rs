//! Reading decimals from text.

use super::words::{Big, mul_pow10};
use super::{ALIGNED_WORDS, MyDecimal, Overflow, POW10, Parsed, SCALE_MAX, SMALL, WORD_DIGITS};
use crate::digits;

/// `[-]digits[.digits]` of at most 18 digits, as mantissa and scale.
#[inline]
pub(crate) fn parse_small(text: &[u8]) -> Option<(i64, u8)> {
    let (negative, body) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if body.len() <= digits::POINTED_LEN_MAX {
        let (mantissa, scale) = digits::read_with_point(body)?;
        let mantissa = mantissa as i64;
        return Some((if negative { -mantissa } else { mantissa }, scale as u8));
    }
    if body.len() > 19 {
        return None;
    }
    let (mut mantissa, mut point) = (0i64, None);
    for (i, byte) in body.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa
                    .wrapping_mul(10)
                    .wrapping_add(i64::from(byte - b'0'))
            }
            b'.' if point.is_none() && i != 0 => point = Some(i),
            _ => return None,
        }
    }
    // Nineteen digits may have wrapped around.
    if body.len() - usize::from(point.is_some()) > 18 {
        return None;
    }
    let scale = point.map_or(0, |at| body.len() - 1 - at);
    Some((if negative { -mantissa } else { mantissa }, scale as u8))
}

/// `mantissa` rounded half away from zero, or filled up, from one scale to another; `None` when it needs
/// 19 digits.
#[inline]
pub(crate) fn rescale_small(mantissa: i64, from: u8, to: u8) -> Option<i64> {
    if from == to {
        return Some(mantissa);
    }
    if from < to {
        let unit = *POW10.get(usize::from(to - from))?;
        let grown = mantissa
            .unsigned_abs()
            .checked_mul(unit)
            .filter(|grown| *grown < SMALL)? as i64;
        return Some(if mantissa < 0 { -grown } else { grown });
    }
    let unit = *POW10
        .get(usize::from(from - to))
        .filter(|unit| **unit < SMALL)?;
    let magnitude = mantissa.unsigned_abs();
    let rounded = (magnitude / unit + u64::from(magnitude % unit >= unit / 2)) as i64;
    Some(if mantissa < 0 { -rounded } else { rounded })
}

pub(super) fn parse_slow(text: &[u8]) -> (MyDecimal, Parsed) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(text.len());
    let mut rest = &text[start..];
    let negative = rest.first() == Some(&b'-');
    if matches!(rest.first(), Some(b'-' | b'+')) {
        rest = &rest[1..];
    }
    let digits_at = |from: &[u8]| from.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (integer, after) = rest.split_at(digits_at(rest));
    let (fraction, after) = match after.strip_prefix(b".") {
        Some(tail) => tail.split_at(digits_at(tail)),
        None => (&[][..], after),
    };
    if integer.is_empty() && fraction.is_empty() {
        return (MyDecimal::ZERO, Parsed::NoNumber);
    }
    let (exponent, after) = parse_exponent(after);
    let junk = after.iter().any(|byte| !blank(byte));
    let (decimal, parsed) = assemble(negative, integer, fraction, exponent);
    (
        decimal,
        if junk && parsed != Parsed::Overflow {
            Parsed::Junk
        } else {
            parsed
        },
    )
}

/// The exponent, if digits follow the `e`; and what follows.
fn parse_exponent(text: &[u8]) -> (i64, &[u8]) {
    let Some(body) = text.strip_prefix(b"e").or_else(|| text.strip_prefix(b"E")) else {
        return (0, text);
    };
    let negative = body.first() == Some(&b'-');
    let unsigned = if matches!(body.first(), Some(b'-' | b'+')) {
        &body[1..]
    } else {
        body
    };
    let len = unsigned
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if len == 0 {
        return (0, text);
    }
    const FAR: i64 = 100_000;
    let magnitude = unsigned[..len]
        .iter()
        .fold(0i64, |v, byte| (v * 10 + i64::from(byte - b'0')).min(FAR));
    (
        if negative { -magnitude } else { magnitude },
        &unsigned[len..],
    )
}

fn assemble(negative: bool, integer: &[u8], fraction: &[u8], exponent: i64) -> (MyDecimal, Parsed) {
    let all = || integer.iter().chain(fraction).copied();
    let leading = all().take_while(|byte| *byte == b'0').count();
    let total = integer.len() + fraction.len();
    if leading == total {
        let scale = (fraction.len() as i64 - exponent).clamp(0, i64::from(SCALE_MAX));
        return (MyDecimal::small(false, 0, scale as u8), Parsed::Whole);
    }
    // Place of the point in the digits without leading zeros.
    let point = integer.len() as i64 - leading as i64 + exponent;
    let integer_words = words_of(point.max(0));
    if integer_words > ALIGNED_WORDS as i64 {
        return (MyDecimal::max_of(81, 0, negative), Parsed::Overflow);
    }
    let fraction_room = (ALIGNED_WORDS as i64 - integer_words) * WORD_DIGITS as i64;
    let significant = (total - leading) as i64;
    let scale_wanted = (significant - point).max(0);
    let scale = scale_wanted.min(fraction_room);
    let keep = (significant - (scale_wanted - scale)).max(0);
    let mut big = words_from(all().skip(leading).take(keep as usize), keep as usize);
    mul_pow10(&mut big, (point - significant).max(0) as usize);
    let parsed = if scale < scale_wanted {
        Parsed::Cut
    } else {
        Parsed::Whole
    };
    match MyDecimal::from_big(negative, big, scale as usize) {
        Ok(decimal) => (decimal, parsed),
        Err(Overflow) => (MyDecimal::max_of(81, 0, negative), Parsed::Overflow),
    }
}

/// The number that `count` digits write.
fn words_from(digits: impl Iterator<Item = u8>, count: usize) -> Big {
    let len = count.div_ceil(WORD_DIGITS);
    let mut big = vec![0u32; len];
    for (i, digit) in digits.enumerate() {
        let word = &mut big[(count - 1 - i) / WORD_DIGITS];
        *word = *word * 10 + u32::from(digit - b'0');
    }
    big
}

/// Words that hold this many digits.
fn words_of(digits: i64) -> i64 {
    (digits + WORD_DIGITS as i64 - 1) / WORD_DIGITS as i64
}
