//! The fixed binary form of DECIMAL(p,s), whose order is the order of the numbers.

use super::words::{Big, add_small, mul_pow10};
use super::{MyDecimal, POW10, WORD, WORD_DIGITS};

/// Bytes that hold 0..=9 digits.
const DIGIT_BYTES: [usize; WORD_DIGITS + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

impl MyDecimal {
    /// Appends the fixed form of DECIMAL(precision, scale). The number must have been rounded to `scale`
    /// and fit `precision`.
    pub fn encode(&self, precision: u8, scale: u8, to: &mut Vec<u8>) {
        let rounded = self.round(scale);
        match rounded.as_small_signed() {
            Some(mantissa) => encode_small(mantissa, precision, scale, to),
            None => rounded.encode_big(precision, scale, to),
        }
    }

    fn encode_big(&self, precision: u8, scale: u8, to: &mut Vec<u8>) {
        let scale = usize::from(scale);
        let start = to.len();
        let mut fraction = self.big();
        let padded = scale.div_ceil(WORD_DIGITS) * WORD_DIGITS;
        mul_pow10(&mut fraction, padded - scale);
        let fraction_words = padded / WORD_DIGITS;
        let word = |i: usize| fraction.get(i).copied().unwrap_or(0);
        put_integer(to, usize::from(precision) - scale, |i| {
            word(fraction_words + i)
        });
        put_fraction(to, scale, |i| word(fraction_words - 1 - i));
        finish_fixed(&mut to[start..], self.negative);
    }

    /// Reads the fixed form of DECIMAL(precision, scale) from the front.
    pub fn decode(precision: u8, scale: u8, from: &mut &[u8]) -> Option<MyDecimal> {
        if precision > 81 || scale > precision {
            return None;
        }
        let len = encoded_len(precision, scale);
        let bytes = from.get(..len)?;
        *from = &from[len..];
        let mut bytes = bytes.to_vec();
        let negative = bytes.first()? & 0x80 == 0;
        bytes[0] ^= 0x80;
        if negative {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let (integer, scale) = (usize::from(precision - scale), usize::from(scale));
        let mut groups = Vec::new();
        groups.extend((!integer.is_multiple_of(WORD_DIGITS)).then_some(integer % WORD_DIGITS));
        groups.extend(std::iter::repeat_n(
            WORD_DIGITS,
            integer / WORD_DIGITS + scale / WORD_DIGITS,
        ));
        groups.extend((!scale.is_multiple_of(WORD_DIGITS)).then_some(scale % WORD_DIGITS));
        let mut big = Big::new();
        let mut rest = bytes.as_slice();
        for group in groups {
            let (head, tail) = rest.split_at(DIGIT_BYTES[group]);
            rest = tail;
            let word = head.iter().fold(0u64, |v, byte| v << 8 | u64::from(*byte));
            if word >= POW10[group] {
                return None;
            }
            mul_pow10(&mut big, group);
            add_small(&mut big, word as u32);
        }
        // A shape with more words than a number has would lose digits; no column has such a one.
        let value = Self::from_big(negative, big, scale).ok()?;
        (usize::from(value.scale) == scale).then_some(value)
    }
}

/// Bytes of the fixed form.
pub fn encoded_len(precision: u8, scale: u8) -> usize {
    let (integer, scale) = (usize::from(precision - scale), usize::from(scale));
    integer / WORD_DIGITS * 4
        + DIGIT_BYTES[integer % WORD_DIGITS]
        + scale / WORD_DIGITS * 4
        + DIGIT_BYTES[scale % WORD_DIGITS]
}

/// Appends the fixed form of `mantissa / 10^scale`, which must fit `precision`.
#[inline]
pub(crate) fn encode_small(mantissa: i64, precision: u8, scale: u8, to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + SMALL_ROOM, 0);
    let end = write_small(mantissa, precision, scale, to, start);
    to.truncate(end);
}

/// What [`write_small`] may touch.
pub(crate) const SMALL_ROOM: usize = 40;

/// Writes the fixed form of `mantissa / 10^scale`, which must fit `precision`, at `start`; returns its end. There
/// must be [`SMALL_ROOM`] bytes.
#[inline]
pub(crate) fn write_small(
    mantissa: i64,
    precision: u8,
    scale: u8,
    to: &mut [u8],
    start: usize,
) -> usize {
    let (digits, scale) = (
        usize::from(precision.saturating_sub(scale)),
        usize::from(scale),
    );
    let magnitude = mantissa.unsigned_abs();
    // With 20 fraction digits or more there is no integer part.
    let (integer, fraction) = match POW10.get(scale) {
        Some(unit) => (magnitude / unit, magnitude % unit),
        None => (0, magnitude),
    };
    let mut at = start;
    let (full, lead) = (digits / WORD_DIGITS, digits % WORD_DIGITS);
    let word = |i: usize| match i {
        0 => (integer % WORD) as u32,
        1 => (integer / WORD) as u32,
        _ => 0,
    };
    if lead != 0 {
        // What fits the precision fits the group.
        at = write_group(to, at, word(full), DIGIT_BYTES[lead]);
    }
    for i in (0..full).rev() {
        at = write_group(to, at, word(i), 4);
    }
    let tail = scale % WORD_DIGITS;
    let head = fraction / POW10[tail];
    for i in (0..scale / WORD_DIGITS).rev() {
        let unit = POW10.get(i * WORD_DIGITS);
        at = write_group(to, at, unit.map_or(0, |unit| head / unit % WORD) as u32, 4);
    }
    if tail != 0 {
        at = write_group(to, at, (fraction % POW10[tail]) as u32, DIGIT_BYTES[tail]);
    }
    finish_fixed(&mut to[start..at], mantissa < 0);
    at
}

/// Writes the low `bytes` bytes, at most four, and zeros behind them; returns their end.
#[inline]
fn write_group(to: &mut [u8], at: usize, value: u32, bytes: usize) -> usize {
    // One copy of constant size is cheaper than one of exact size.
    let left = value << (32 - 8 * bytes as u32);
    to[at..at + 4].copy_from_slice(&left.to_be_bytes());
    at + bytes
}

/// Makes the order of the bytes the order of the numbers.
#[inline]
fn finish_fixed(bytes: &mut [u8], negative: bool) {
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
}

/// Appends the low `bytes` bytes, at most four.
#[inline]
fn put_group(to: &mut Vec<u8>, value: u32, bytes: usize) {
    // One copy of constant size is cheaper than one of exact size.
    to.extend_from_slice(&(value << (32 - 8 * bytes as u32)).to_be_bytes());
    to.truncate(to.len() + bytes - 4);
}

/// `word(0)` is the lowest nine integer digits.
#[inline]
fn put_integer(to: &mut Vec<u8>, digits: usize, word: impl Fn(usize) -> u32) {
    let full = digits / WORD_DIGITS;
    let lead = digits % WORD_DIGITS;
    if lead != 0 {
        put_group(to, word(full) % POW10[lead] as u32, DIGIT_BYTES[lead]);
    }
    for i in (0..full).rev() {
        put_group(to, word(i), 4);
    }
}

/// `word(0)` is the first nine fraction digits.
fn put_fraction(to: &mut Vec<u8>, digits: usize, word: impl Fn(usize) -> u32) {
    let full = digits / WORD_DIGITS;
    let tail = digits % WORD_DIGITS;
    for i in 0..full {
        put_group(to, word(i), 4);
    }
    if tail != 0 {
        put_group(
            to,
            word(full) / POW10[WORD_DIGITS - tail] as u32,
            DIGIT_BYTES[tail],
        );
    }
}
