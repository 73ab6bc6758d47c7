//! Exact arithmetic on decimal texts, for the functions SQLite lacks. A decimal is a 128-bit number with a
//! scale; what does not fit is an error, as an out-of-range DECIMAL is. Comparison needs no such bound: it
//! works on the digits.

use std::cmp::Ordering;

/// Digits that 128 bits hold for certain.
const DIGITS_MAX: u32 = 38;

/// `mantissa` / 10^`scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub mantissa: i128,
    pub scale: u32,
}

fn power(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

impl Decimal {
    pub const ZERO: Decimal = Decimal {
        mantissa: 0,
        scale: 0,
    };

    pub fn int(value: i64) -> Self {
        Self {
            mantissa: i128::from(value),
            scale: 0,
        }
    }

    /// Reads `[-+]digits[.digits][e…]`, up to the first character that does not belong; `None` if too long.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mut mantissa, mut scale, mut point) = (0i128, 0u32, false);
        for byte in digits.bytes() {
            match byte {
                b'0'..=b'9' if point && scale >= DIGITS_MAX => {}
                b'0'..=b'9' => {
                    mantissa = mantissa
                        .checked_mul(10)?
                        .checked_add(i128::from(byte - b'0'))?;
                    scale += u32::from(point);
                }
                b'.' if !point => point = true,
                b'e' | b'E' => return Self::from_f64(text.parse().ok()?),
                _ => break,
            }
        }
        Some(Self {
            mantissa: if negative { -mantissa } else { mantissa },
            scale,
        })
    }

    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() || value.abs() > 1e37 {
            return None;
        }
        let text = format!("{value}");
        Self::parse(&text)
    }

    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(0.0)
    }

    /// With that scale, rounded half away from zero.
    pub fn rescale(self, scale: u32) -> Option<Self> {
        let mantissa = match scale.cmp(&self.scale) {
            Ordering::Equal => self.mantissa,
            Ordering::Greater => self.mantissa.checked_mul(power(scale - self.scale)?)?,
            Ordering::Less => match power(self.scale - scale) {
                Some(divisor) => round_div(self.mantissa, divisor)?,
                None => 0,
            },
        };
        Some(Self { mantissa, scale })
    }

    /// Cut to that scale.
    pub fn truncate(self, scale: u32) -> Option<Self> {
        if scale >= self.scale {
            return self.rescale(scale);
        }
        Some(Self {
            mantissa: self.mantissa / power(self.scale - scale)?,
            scale,
        })
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        Some((
            self.rescale(scale)?.mantissa,
            other.rescale(scale)?.mantissa,
            scale,
        ))
    }

    pub fn add(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Some(Self {
            mantissa: a.checked_add(b)?,
            scale,
        })
    }

    pub fn sub(self, other: Self) -> Option<Self> {
        self.add(Self {
            mantissa: -other.mantissa,
            ..other
        })
    }

    pub fn mul(self, other: Self) -> Option<Self> {
        Some(Self {
            mantissa: self.mantissa.checked_mul(other.mantissa)?,
            scale: self.scale + other.scale,
        })
    }

    /// Quotient with that scale; `Some(None)` for a division by zero.
    #[allow(clippy::option_option)]
    pub fn div(self, other: Self, scale: u32) -> Option<Option<Self>> {
        if other.mantissa == 0 {
            return Some(None);
        }
        // a / 10^s / (b / 10^t) at scale u is a * 10^(u + t - s) / b.
        let shift = i64::from(scale) + i64::from(other.scale) - i64::from(self.scale);
        let quotient = if shift >= 0 {
            let factor = power(shift as u32)?;
            match self.mantissa.checked_mul(factor) {
                Some(dividend) => round_div(dividend, other.mantissa)?,
                // Too wide for an exact dividend: what a double knows is the best left.
                None => {
                    return Some(Self::from_f64(self.to_f64() / other.to_f64())?.rescale(scale));
                }
            }
        } else {
            round_div(
                self.mantissa,
                other.mantissa.checked_mul(power(-shift as u32)?)?,
            )?
        };
        Some(Some(Self {
            mantissa: quotient,
            scale,
        }))
    }

    pub fn rem(self, other: Self) -> Option<Option<Self>> {
        let (a, b, scale) = self.aligned(other)?;
        Some((b != 0).then(|| Self {
            mantissa: a % b,
            scale,
        }))
    }
}

fn round_div(dividend: i128, divisor: i128) -> Option<i128> {
    let (quotient, rest) = (dividend.checked_div(divisor)?, dividend % divisor);
    let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
    let away = if (dividend < 0) == (divisor < 0) {
        1
    } else {
        -1
    };
    Some(if up && rest != 0 {
        quotient + away
    } else {
        quotient
    })
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let scale = self.scale as usize;
        if scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

/// Orders two decimal texts of any length by value.
pub fn compare_text(left: &str, right: &str) -> Ordering {
    fn parts(text: &str) -> (bool, &str, &str) {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        (
            negative && !(whole.is_empty() && fraction.is_empty()),
            whole,
            fraction,
        )
    }
    let ((an, aw, af), (bn, bw, bf)) = (parts(left), parts(right));
    let magnitude = || {
        aw.len()
            .cmp(&bw.len())
            .then_with(|| aw.cmp(bw))
            .then_with(|| af.cmp(bf))
    };
    match (an, bn) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => magnitude(),
        (true, true) => magnitude().reverse(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn arithmetic_is_exact_and_rounds_away_from_zero() {
        assert_eq!(
            decimal("1.10").mul(decimal("-0.05")).unwrap().to_string(),
            "-0.0550"
        );
        assert_eq!(
            decimal("1")
                .div(decimal("3"), 4)
                .unwrap()
                .unwrap()
                .to_string(),
            "0.3333"
        );
        assert_eq!(
            decimal("-2")
                .div(decimal("3"), 4)
                .unwrap()
                .unwrap()
                .to_string(),
            "-0.6667"
        );
        assert_eq!(decimal("2.345").rescale(2).unwrap().to_string(), "2.35");
        assert_eq!(
            decimal("5.5")
                .rem(decimal("2"))
                .unwrap()
                .unwrap()
                .to_string(),
            "1.5"
        );
        assert_eq!(decimal("1").div(Decimal::ZERO, 4).unwrap(), None);
    }

    #[test]
    fn texts_compare_as_numbers() {
        for (a, b, order) in [
            ("9", "10", Ordering::Less),
            ("-9", "-10", Ordering::Greater),
            ("1.50", "1.5", Ordering::Equal),
            ("-0.0", "0", Ordering::Equal),
            ("0.09", "0.1", Ordering::Less),
        ] {
            assert_eq!(compare_text(a, b), order, "{a} {b}");
        }
    }
}
