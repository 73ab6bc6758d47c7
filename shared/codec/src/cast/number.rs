//! The longest prefix of a text that is a number, as the server finds it.

/// A numeric prefix and whether something else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix<'a> {
    /// Text of the number; empty when there is none.
    pub number: &'a [u8],
    /// No number, or something behind it.
    pub junk: bool,
}

/// Strips Unicode white space at both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let plain = |byte: &u8| byte.is_ascii_graphic();
    if text.first().is_none_or(plain) && text.last().is_none_or(plain) {
        return text;
    }
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// Longest `[+-]digits[.digits][e[+-]digits]` of a trimmed text. A NUL byte ends the text without being
/// junk; so does an `e` that nothing follows.
pub(crate) fn float_prefix(text: &[u8]) -> Prefix<'_> {
    let (mut dot, mut digit, mut exponent) = (false, false, None);
    let (mut valid, mut end) = (0, text.len());
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digit = true;
                valid = i + 1;
            }
            b'+' | b'-' if i == 0 || exponent == Some(i - 1) => {}
            b'.' if !dot && exponent.is_none() => {
                dot = true;
                if digit {
                    valid = i + 1;
                }
            }
            b'e' | b'E' if digit && exponent.is_none() => exponent = Some(i),
            0 => {
                end = valid;
                break;
            }
            _ => break,
        }
    }
    let trailing_e = exponent == Some(valid) && end == valid + 1;
    Prefix {
        number: &text[..valid],
        junk: valid == 0 || (valid != end && !trailing_e),
    }
}

/// Digits of a number's integer part after expanding its exponent exactly and rounding half away from
/// zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounded {
    pub negative: bool,
    /// Saturated.
    pub magnitude: u128,
}

/// Far beyond every integer type, still safe to add one to.
const HUGE: u128 = u128::MAX >> 8;

/// Rounds what [`float_prefix`] found. An empty number is 0.
pub(crate) fn round_to_integer(number: &[u8]) -> Rounded {
    let negative = number.first() == Some(&b'-');
    let unsigned = if matches!(number.first(), Some(b'-' | b'+')) {
        &number[1..]
    } else {
        number
    };
    let at = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match at {
        Some(at) => (&unsigned[..at], exponent_of(&unsigned[at + 1..])),
        None => (unsigned, 0),
    };
    let digits_before_point = |mantissa: &[u8]| {
        let point = mantissa.iter().position(|byte| *byte == b'.');
        point.unwrap_or(mantissa.len()) + (number.len() - unsigned.len())
    };
    // The server counts characters, not digits that matter: a zero with such an exponent is out of range too.
    let too_far = exponent >= 0 && digits_before_point(mantissa) as i64 + exponent > 21;
    if at.is_some() && (too_far || exponent.abs() >= FAR) {
        return Rounded {
            negative,
            magnitude: HUGE,
        };
    }
    let point = mantissa
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(mantissa.len());
    let digits = || {
        mantissa
            .iter()
            .filter(|byte| **byte != b'.')
            .map(|byte| u128::from(byte - b'0'))
    };
    let integer_digits = point as i64 + exponent;
    let mut magnitude = 0u128;
    let mut seen = 0i64;
    for digit in digits() {
        if seen >= integer_digits {
            if seen == integer_digits && digit >= 5 {
                magnitude += 1;
            }
            return Rounded {
                negative,
                magnitude,
            };
        }
        magnitude = (magnitude.saturating_mul(10) + digit).min(HUGE);
        seen += 1;
    }
    while seen < integer_digits && magnitude != 0 && magnitude < HUGE {
        magnitude = magnitude.saturating_mul(10).min(HUGE);
        seen += 1;
    }
    Rounded {
        negative,
        magnitude,
    }
}

/// Beyond every exponent that the server's 64 bits hold.
const FAR: i64 = i64::MAX / 16;

fn exponent_of(text: &[u8]) -> i64 {
    let negative = text.first() == Some(&b'-');
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let magnitude = digits.fold(0i64, |v, byte| {
        v.saturating_mul(10)
            .saturating_add(i64::from(byte - b'0'))
            .min(FAR)
    });
    if negative { -magnitude } else { magnitude }
}

/// An unsigned integer as Go's source code has it: `2`, `1_000`, `0x2`, `0b10`, `0o2`, `02` (octal), underscores
/// between digits and behind a prefix.
pub(crate) fn parse_uint_literal(text: &[u8]) -> Option<u64> {
    let (radix, digits) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest),
        _ => (10, text),
    };
    let mut value = 0u64;
    // An underscore must follow a prefix or a digit, and precede a digit.
    let (mut last_underscore, mut any) = (false, false);
    for byte in digits {
        if *byte == b'_' {
            if last_underscore || (radix == 10 && !any) {
                return None;
            }
            last_underscore = true;
            continue;
        }
        let digit = char::from(*byte).to_digit(radix)?;
        value = value
            .checked_mul(u64::from(radix))?
            .checked_add(u64::from(digit))?;
        (last_underscore, any) = (false, true);
    }
    (any && !last_underscore).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_the_server_ends_them() {
        for (text, number, junk) in [
            ("12", "12", false),
            ("12abc", "12", true),
            ("", "", true),
            ("1.5.5", "1.5", true),
            ("1..5", "1.", true),
            ("1e1.5", "1e1", true),
            ("1e", "1", false),
            ("1e+", "1", true),
            (".5", ".5", false),
            ("--1", "", true),
            ("12\0x", "12", false),
            ("\0", "", true),
        ] {
            let expected = Prefix {
                number: number.as_bytes(),
                junk,
            };
            assert_eq!(float_prefix(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn rounding_expands_the_exponent_first() {
        for (text, negative, magnitude) in [
            ("1.5", false, 2),
            ("-1.5", true, 2),
            (".5", false, 1),
            ("0.49", false, 0),
            ("1e2", false, 100),
            ("12345e-2", false, 123),
            ("5e-1", false, 1),
            ("5e-2", false, 0),
            ("1.25e1", false, 13),
        ] {
            assert_eq!(
                round_to_integer(text.as_bytes()),
                Rounded {
                    negative,
                    magnitude
                },
                "{text}"
            );
        }
        for text in [
            "1e999999999",
            "0e22",
            "0e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            let magnitude = round_to_integer(text.as_bytes()).magnitude;
            assert!(magnitude > u128::from(u64::MAX), "{text}");
        }
    }

    #[test]
    fn literals_have_go_s_prefixes() {
        for (text, value) in [
            ("2", Some(2)),
            ("0x1F", Some(31)),
            ("0b10", Some(2)),
            ("0o17", Some(15)),
            ("010", Some(8)),
            ("0x_1", Some(1)),
            ("0", Some(0)),
            ("1_0", Some(10)),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("0_7", Some(7)),
            ("+2", None),
            ("2 ", None),
            ("08", None),
            ("", None),
        ] {
            assert_eq!(parse_uint_literal(text.as_bytes()), value, "{text}");
        }
    }
}
