//! Exact decimal numbers as TiDB keeps them: up to 81 digits, rounded half away from zero, with the fixed
//! binary form of DECIMAL(p,s) columns. Up to 18 digits everything runs on one `u64`.
//!
//! A number is `mantissa / 10^scale`; the mantissa is little-endian words of nine digits.

use std::cmp::Ordering;
use std::fmt;

const WORD_DIGITS: usize = 9;
const WORD: u64 = 1_000_000_000;
/// Words of the mantissa. TiDB keeps nine aligned at the point; one more holds every such number unaligned.
const WORDS: usize = 10;
/// Most nine-digit words before and after the point together.
const ALIGNED_WORDS: usize = 9;
/// Most digits of DECIMAL.
pub const PRECISION_MAX: u8 = 65;
/// Most fraction digits of DECIMAL.
pub const SCALE_MAX: u8 = 30;
const SMALL: u64 = WORD * WORD;

pub(crate) const POW10: [u64; 20] = {
    let mut table = [1u64; 20];
    let mut i = 1;
    while i < 20 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// Bytes that hold 0..=9 digits.
const DIGIT_BYTES: [usize; WORD_DIGITS + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// A decimal number.
#[derive(Clone, Copy)]
pub struct MyDecimal {
    negative: bool,
    scale: u8,
    len: u8,
    words: [u32; WORDS],
}

/// The result does not fit 81 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decimal out of range")]
pub struct Overflow;

/// How reading a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of it is the number (blanks around it aside).
    Whole,
    /// Digits beyond what is kept were dropped.
    Cut,
    /// Something follows the number.
    Junk,
    /// There is no number; the value is 0.
    NoNumber,
    /// Too many integer digits; the value is the largest.
    Overflow,
}

type Big = Vec<u32>;

impl MyDecimal {
    pub const ZERO: MyDecimal = MyDecimal {
        negative: false,
        scale: 0,
        len: 0,
        words: [0; WORDS],
    };

    /// `mantissa / 10^scale`, `mantissa < 10^18`.
    #[inline]
    fn small(negative: bool, mantissa: u64, scale: u8) -> MyDecimal {
        debug_assert!(mantissa < SMALL);
        let mut words = [0; WORDS];
        words[0] = (mantissa % WORD) as u32;
        words[1] = (mantissa / WORD) as u32;
        let len = if words[1] != 0 {
            2
        } else {
            u8::from(words[0] != 0)
        };
        MyDecimal {
            negative: negative && len != 0,
            scale,
            len,
            words,
        }
    }

    #[inline]
    fn as_small(&self) -> Option<u64> {
        (self.len <= 2).then(|| u64::from(self.words[1]) * WORD + u64::from(self.words[0]))
    }

    /// `mantissa / 10^scale`, fewer than 19 digits.
    pub fn from_small(mantissa: i64, scale: u8) -> MyDecimal {
        debug_assert!(mantissa.unsigned_abs() < SMALL);
        Self::small(mantissa < 0, mantissa.unsigned_abs(), scale)
    }

    /// The mantissa, if it has fewer than 19 digits.
    pub fn as_small_signed(&self) -> Option<i64> {
        let magnitude = self.as_small()? as i64;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    fn big(&self) -> Big {
        self.words[..usize::from(self.len)].to_vec()
    }

    /// Drops fraction digits until the number fits the words kept.
    fn from_big(negative: bool, mut big: Big, mut scale: usize) -> Result<MyDecimal, Overflow> {
        trim(&mut big);
        while scale > 255 || aligned_words(&big, scale) > ALIGNED_WORDS {
            if scale == 0 {
                return Err(Overflow);
            }
            let drop = if scale.is_multiple_of(WORD_DIGITS) {
                WORD_DIGITS
            } else {
                scale % WORD_DIGITS
            };
            div_pow10(&mut big, drop);
            scale -= drop;
        }
        let mut words = [0; WORDS];
        words
            .get_mut(..big.len())
            .ok_or(Overflow)?
            .copy_from_slice(&big);
        let len = big.len() as u8;
        Ok(MyDecimal {
            negative: negative && len != 0,
            scale: scale as u8,
            len,
            words,
        })
    }

    pub fn from_i64(v: i64) -> MyDecimal {
        MyDecimal {
            negative: v < 0,
            ..Self::from_u64(v.unsigned_abs())
        }
    }

    pub fn from_u64(v: u64) -> MyDecimal {
        if v < SMALL {
            return Self::small(false, v, 0);
        }
        Self::from_i128(i128::from(v), 0)
    }

    /// `unscaled / 10^scale`; `scale` is at most 81.
    pub fn from_i128(unscaled: i128, scale: u8) -> MyDecimal {
        let mut rest = unscaled.unsigned_abs();
        let mut big = Big::new();
        while rest != 0 {
            big.push((rest % u128::from(WORD)) as u32);
            rest /= u128::from(WORD);
        }
        Self::from_big(unscaled < 0, big, usize::from(scale)).unwrap_or(Self::ZERO)
    }

    /// The shortest decimal text of `v`, read back. Not-a-number and infinity have none.
    pub fn from_f64(v: f64) -> Result<MyDecimal, Overflow> {
        match Self::parse(format!("{v:e}").as_bytes()) {
            (_, Parsed::Overflow | Parsed::NoNumber | Parsed::Junk) => Err(Overflow),
            (decimal, _) => Ok(decimal),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.len == 0
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Digits after the point.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    /// Digits before the point; 0 for a number below one.
    pub fn integer_digits(&self) -> usize {
        digits(&self.words[..usize::from(self.len)]).saturating_sub(usize::from(self.scale))
    }

    /// Reads `[blanks][sign]digits[.digits][e[sign]digits][blanks]`.
    pub fn parse(text: &[u8]) -> (MyDecimal, Parsed) {
        match parse_small(text) {
            Some((mantissa, scale)) => (Self::from_small(mantissa, scale), Parsed::Whole),
            None => parse_slow(text),
        }
    }

    /// Rounds half away from zero to `scale` fraction digits, or fills up with zeros.
    pub fn round(&self, scale: u8) -> MyDecimal {
        self.rescaled(scale, true)
    }

    /// Cuts to `scale` fraction digits, or fills up with zeros.
    pub fn truncate(&self, scale: u8) -> MyDecimal {
        self.rescaled(scale, false)
    }

    /// Rounds half away from zero to a place before the point: `places` = 2 gives hundreds.
    pub fn round_integer_places(&self, places: u8) -> MyDecimal {
        let mut big = self.big();
        let drop = usize::from(self.scale) + usize::from(places);
        let up = div_pow10(&mut big, drop) >= 5;
        if up {
            add_small(&mut big, 1);
        }
        mul_pow10(&mut big, usize::from(places));
        Self::from_big(self.negative, big, 0).unwrap_or(Self::ZERO)
    }

    fn rescaled(&self, scale: u8, half_up: bool) -> MyDecimal {
        if scale == self.scale {
            return *self;
        }
        if let Some(small) = self.as_small() {
            if scale < self.scale {
                let drop = usize::from(self.scale - scale);
                // Beyond 19 dropped digits less than half of the last place is left.
                let rounded = POW10.get(drop).filter(|_| drop < 19).map_or(0, |unit| {
                    small / unit + u64::from(half_up && small % unit >= unit / 2)
                });
                return Self::small(self.negative, rounded, scale);
            }
            let grown = POW10
                .get(usize::from(scale - self.scale))
                .and_then(|u| small.checked_mul(*u));
            if let Some(grown) = grown.filter(|grown| *grown < SMALL) {
                return Self::small(self.negative, grown, scale);
            }
        }
        let mut big = self.big();
        if scale < self.scale {
            let dropped = div_pow10(&mut big, usize::from(self.scale - scale));
            if half_up && dropped >= 5 {
                add_small(&mut big, 1);
            }
        } else {
            mul_pow10(&mut big, usize::from(scale - self.scale));
        }
        Self::from_big(self.negative, big, usize::from(scale)).unwrap_or(*self)
    }

    /// The largest number of DECIMAL(precision, scale), with a sign.
    pub fn max_of(precision: u8, scale: u8, negative: bool) -> MyDecimal {
        let mut big = vec![1];
        mul_pow10(&mut big, usize::from(precision));
        sub(&mut big, &[1]);
        Self::from_big(negative, big, usize::from(scale)).unwrap_or(Self::ZERO)
    }

    /// Rounded half away from zero; saturated with `Overflow` when it does not fit.
    pub fn to_i64(&self) -> Result<i64, i64> {
        let limit = if self.negative { i64::MIN } else { i64::MAX };
        let magnitude = self.integer_magnitude().ok_or(limit)?;
        let signed = if self.negative {
            -i128::from(magnitude)
        } else {
            i128::from(magnitude)
        };
        i64::try_from(signed).map_err(|_| limit)
    }

    /// Rounded half away from zero; saturated when it does not fit.
    pub fn to_u64(&self) -> Result<u64, u64> {
        let magnitude = self.integer_magnitude();
        if self.negative {
            return if magnitude == Some(0) { Ok(0) } else { Err(0) };
        }
        magnitude.ok_or(u64::MAX)
    }

    fn integer_magnitude(&self) -> Option<u64> {
        let rounded = self.round(0);
        let words = &rounded.words[..usize::from(rounded.len)];
        words.iter().rev().try_fold(0u64, |v, word| {
            v.checked_mul(WORD)?.checked_add(u64::from(*word))
        })
    }

    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or(0.0)
    }

    #[must_use]
    pub fn negated(mut self) -> MyDecimal {
        self.negative = !self.negative && self.len != 0;
        self
    }

    pub fn checked_add(&self, other: &MyDecimal) -> Result<MyDecimal, Overflow> {
        let scale = self.scale.max(other.scale);
        let (mut a, mut b) = (self.big(), other.big());
        mul_pow10(&mut a, usize::from(scale - self.scale));
        mul_pow10(&mut b, usize::from(scale - other.scale));
        if self.negative == other.negative {
            add(&mut a, &b);
            return Self::from_big(self.negative, a, usize::from(scale));
        }
        match compare(&a, &b) {
            Ordering::Less => {
                sub(&mut b, &a);
                Self::from_big(other.negative, b, usize::from(scale))
            }
            _ => {
                sub(&mut a, &b);
                Self::from_big(self.negative, a, usize::from(scale))
            }
        }
    }

    pub fn checked_sub(&self, other: &MyDecimal) -> Result<MyDecimal, Overflow> {
        self.checked_add(&other.negated())
    }

    pub fn checked_mul(&self, other: &MyDecimal) -> Result<MyDecimal, Overflow> {
        let (a, b) = (self.big(), other.big());
        let mut product = vec![0u32; a.len() + b.len() + 1];
        for (i, x) in a.iter().enumerate() {
            let mut carry = 0u64;
            for (j, y) in b.iter().enumerate() {
                let v = u64::from(*x) * u64::from(*y) + u64::from(product[i + j]) + carry;
                product[i + j] = (v % WORD) as u32;
                carry = v / WORD;
            }
            product[i + b.len()] = carry as u32;
        }
        let scale = usize::from(self.scale) + usize::from(other.scale);
        let result = Self::from_big(self.negative != other.negative, product, scale)?;
        Ok(if result.scale > SCALE_MAX {
            result.truncate(SCALE_MAX)
        } else {
            result
        })
    }

    /// Quotient with the fraction words TiDB computes for `scale + increment` digits, not rounded; `None`
    /// for a zero divisor.
    pub fn checked_div(
        &self,
        other: &MyDecimal,
        increment: u8,
    ) -> Option<Result<MyDecimal, Overflow>> {
        if other.is_zero() {
            return None;
        }
        let words_of = |scale: u8| usize::from(scale).div_ceil(WORD_DIGITS) * WORD_DIGITS;
        let aligned = words_of(self.scale) + words_of(other.scale);
        let slack = aligned - usize::from(self.scale) - usize::from(other.scale);
        let increment = usize::from(increment).saturating_sub(slack);
        let scale = (aligned + increment).div_ceil(WORD_DIGITS) * WORD_DIGITS;
        let mut dividend = self.big();
        mul_pow10(
            &mut dividend,
            scale + usize::from(other.scale) - usize::from(self.scale).min(scale),
        );
        let (quotient, _) = div_rem(&dividend, &other.big());
        Some(Self::from_big(
            self.negative != other.negative,
            quotient,
            scale,
        ))
    }

    /// Remainder with the dividend's sign; `None` for a zero divisor.
    pub fn checked_rem(&self, other: &MyDecimal) -> Option<MyDecimal> {
        if other.is_zero() {
            return None;
        }
        let scale = self.scale.max(other.scale);
        let (mut a, mut b) = (self.big(), other.big());
        mul_pow10(&mut a, usize::from(scale - self.scale));
        mul_pow10(&mut b, usize::from(scale - other.scale));
        let (_, rest) = div_rem(&a, &b);
        Some(Self::from_big(self.negative, rest, usize::from(scale)).unwrap_or(Self::ZERO))
    }

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
        Self::from_big(negative, big, scale).ok()
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
    put_integer(to, digits, |i| match i {
        0 => (integer % WORD) as u32,
        1 => (integer / WORD) as u32,
        _ => 0,
    });
    put_small_fraction(to, scale, fraction);
    finish_fixed(&mut to[start..], mantissa < 0);
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

/// Fraction of `digits` digits as one number below 10^19.
fn put_small_fraction(to: &mut Vec<u8>, digits: usize, fraction: u64) {
    let tail = digits % WORD_DIGITS;
    let head = fraction / POW10[tail];
    for i in (0..digits / WORD_DIGITS).rev() {
        put_group(
            to,
            POW10
                .get(i * WORD_DIGITS)
                .map_or(0, |unit| head / unit % WORD) as u32,
            4,
        );
    }
    if tail != 0 {
        put_group(to, (fraction % POW10[tail]) as u32, DIGIT_BYTES[tail]);
    }
}

/// `[-]digits[.digits]` of at most 18 digits, as mantissa and scale.
#[inline]
pub(crate) fn parse_small(text: &[u8]) -> Option<(i64, u8)> {
    let (negative, body) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if body.is_empty() || body.len() > 19 {
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
    let digits = body.len() - usize::from(point.is_some());
    let scale = point.map_or(0, |at| body.len() - 1 - at);
    let signed = if negative { -mantissa } else { mantissa };
    (digits <= 18).then_some((signed, scale as u8))
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

fn parse_slow(text: &[u8]) -> (MyDecimal, Parsed) {
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
    let integer_words = point.max(0).div_ceil_words();
    if integer_words > ALIGNED_WORDS as i64 {
        return (MyDecimal::max_of(81, 0, negative), Parsed::Overflow);
    }
    let fraction_room = (ALIGNED_WORDS as i64 - integer_words) * WORD_DIGITS as i64;
    let significant = (total - leading) as i64;
    let scale_wanted = (significant - point).max(0);
    let scale = scale_wanted.min(fraction_room);
    let keep = (significant - (scale_wanted - scale)).max(0);
    let mut big = Big::new();
    for byte in all().skip(leading).take(keep as usize) {
        mul_small(&mut big, 10);
        add_small(&mut big, u32::from(byte - b'0'));
    }
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

trait DivCeilWords {
    fn div_ceil_words(self) -> i64;
}

impl DivCeilWords for i64 {
    fn div_ceil_words(self) -> i64 {
        (self + WORD_DIGITS as i64 - 1) / WORD_DIGITS as i64
    }
}

fn trim(big: &mut Big) {
    while big.last() == Some(&0) {
        big.pop();
    }
}

fn digits(words: &[u32]) -> usize {
    let len = words
        .iter()
        .rposition(|word| *word != 0)
        .map_or(0, |at| at + 1);
    match words.get(len.wrapping_sub(1)) {
        Some(top) => (len - 1) * WORD_DIGITS + top.ilog10() as usize + 1,
        None => 0,
    }
}

fn aligned_words(big: &[u32], scale: usize) -> usize {
    digits(big).saturating_sub(scale).div_ceil(WORD_DIGITS) + scale.div_ceil(WORD_DIGITS)
}

fn mul_small(big: &mut Big, by: u32) {
    let mut carry = 0u64;
    for word in big.iter_mut() {
        let v = u64::from(*word) * u64::from(by) + carry;
        *word = (v % WORD) as u32;
        carry = v / WORD;
    }
    if carry != 0 {
        big.push(carry as u32);
    }
}

fn add_small(big: &mut Big, what: u32) {
    let mut carry = what;
    for word in big.iter_mut() {
        let v = u64::from(*word) + u64::from(carry);
        *word = (v % WORD) as u32;
        carry = (v / WORD) as u32;
        if carry == 0 {
            return;
        }
    }
    if carry != 0 {
        big.push(carry);
    }
}

fn mul_pow10(big: &mut Big, power: usize) {
    trim(big);
    if big.is_empty() {
        return;
    }
    mul_small(big, POW10[power % WORD_DIGITS] as u32);
    big.splice(0..0, std::iter::repeat_n(0, power / WORD_DIGITS));
}

/// Divides by `10^power`; returns the first digit that was cut off.
fn div_pow10(big: &mut Big, power: usize) -> u32 {
    if power == 0 {
        return 0;
    }
    let before = power - 1;
    big.drain(..(before / WORD_DIGITS).min(big.len()));
    div_small(big, POW10[before % WORD_DIGITS] as u32);
    let dropped = div_small(big, 10);
    trim(big);
    dropped
}

fn div_small(big: &mut Big, by: u32) -> u32 {
    let mut rest = 0u64;
    for word in big.iter_mut().rev() {
        let v = rest * WORD + u64::from(*word);
        *word = (v / u64::from(by)) as u32;
        rest = v % u64::from(by);
    }
    rest as u32
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let len = a.len().max(b.len());
    let word = |from: &[u32], i: usize| from.get(i).copied().unwrap_or(0);
    (0..len)
        .rev()
        .map(|i| word(a, i).cmp(&word(b, i)))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn add(a: &mut Big, b: &[u32]) {
    a.resize(a.len().max(b.len()) + 1, 0);
    let mut carry = 0;
    for (i, word) in a.iter_mut().enumerate() {
        let v = *word + b.get(i).copied().unwrap_or(0) + carry;
        *word = v % WORD as u32;
        carry = v / WORD as u32;
    }
}

/// `a -= b`, `a >= b`.
fn sub(a: &mut Big, b: &[u32]) {
    let mut borrow = 0i64;
    for (i, word) in a.iter_mut().enumerate() {
        let v = i64::from(*word) - i64::from(b.get(i).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(v < 0);
        *word = (v + borrow * WORD as i64) as u32;
    }
}

/// Long division, one word of quotient at a time by binary search over the word.
fn div_rem(a: &[u32], b: &[u32]) -> (Big, Big) {
    let mut quotient = vec![0u32; a.len()];
    let mut rest = Big::new();
    for i in (0..a.len()).rev() {
        rest.insert(0, a[i]);
        trim(&mut rest);
        let (mut low, mut high) = (0u32, WORD as u32 - 1);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let mut product = b.to_vec();
            mul_small(&mut product, middle);
            if compare(&product, &rest).is_le() {
                low = middle
            } else {
                high = middle - 1
            }
        }
        let mut product = b.to_vec();
        mul_small(&mut product, low);
        sub(&mut rest, &product);
        trim(&mut rest);
        quotient[i] = low;
    }
    (quotient, rest)
}

impl PartialEq for MyDecimal {
    fn eq(&self, other: &MyDecimal) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for MyDecimal {}

impl PartialOrd for MyDecimal {
    fn partial_cmp(&self, other: &MyDecimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value: 1.0 equals 1.00.
impl Ord for MyDecimal {
    fn cmp(&self, other: &MyDecimal) -> Ordering {
        match (self.negative, other.negative) {
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            _ => {}
        }
        let scale = self.scale.max(other.scale);
        let (mut a, mut b) = (self.big(), other.big());
        mul_pow10(&mut a, usize::from(scale - self.scale));
        mul_pow10(&mut b, usize::from(scale - other.scale));
        let magnitude = compare(&a, &b);
        if self.negative {
            magnitude.reverse()
        } else {
            magnitude
        }
    }
}

impl fmt::Display for MyDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let mut text = String::new();
        for (i, word) in self.words[..usize::from(self.len)].iter().rev().enumerate() {
            if i == 0 {
                write!(text, "{word}")?
            } else {
                write!(text, "{word:09}")?
            }
        }
        let scale = usize::from(self.scale);
        if text.len() <= scale {
            text.insert_str(0, &"0".repeat(scale + 1 - text.len()));
        }
        let (integer, fraction) = text.split_at(text.len() - scale);
        let sign = if self.negative { "-" } else { "" };
        let point = if scale == 0 { "" } else { "." };
        write!(f, "{sign}{integer}{point}{fraction}")
    }
}

impl fmt::Debug for MyDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[path = "decimal_tests.rs"]
mod tests;
