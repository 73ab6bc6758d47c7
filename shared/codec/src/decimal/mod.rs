//! Exact decimal numbers as TiDB keeps them: up to 81 digits, rounded half away from zero, with the fixed
//! binary form of DECIMAL(p,s) columns. Up to 18 digits everything runs on one `u64`.
//!
//! A number is `mantissa / 10^scale`; the mantissa is little-endian words of nine digits.

mod fixed;
mod text;
mod words;

pub use fixed::encoded_len;
pub(crate) use fixed::{SMALL_ROOM, encode_small, write_small};
pub(crate) use text::{parse_small, rescale_small};

use std::cmp::Ordering;
use std::fmt;
use text::parse_slow;
use words::{
    Big, add, add_small, aligned_words, compare, digits, div_pow10, div_rem, mul_pow10, sub, trim,
};

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
#[path = "tests.rs"]
mod tests;
