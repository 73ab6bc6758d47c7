//! TIME values: reading, rounding, printing.

use super::{Zone, parse, write_fraction};
use crate::cast::trim_text;
use std::fmt;

/// Most that a TIME holds: 838:59:59.
pub const DURATION_SECONDS_MAX: i64 = 838 * 3600 + 59 * 60 + 59;
pub(crate) const NANOS: i64 = 1_000_000_000;
const NANOS_MAX: i64 = DURATION_SECONDS_MAX * NANOS;
const HOURS_MAX: i64 = 838;
/// From this many characters on, junk behind a time spoils all of it.
const JUNK_SPOILS_LEN: usize = 12;

/// A TIME: signed nanoseconds, shown with `fsp` digits of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MyDuration {
    pub nanos: i64,
    pub fsp: u8,
}

impl MyDuration {
    /// `hhmmss`, the fraction cut.
    pub fn to_number(self) -> i64 {
        let seconds = self.nanos / NANOS;
        seconds / 3600 * 10_000 + seconds / 60 % 60 * 100 + seconds % 60
    }
}

impl fmt::Display for MyDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let seconds = nanos / NANOS as u64;
        write!(
            f,
            "{sign}{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )?;
        write_fraction(f, (nanos % NANOS as u64 / 1000) as u32, self.fsp)
    }
}

/// Nanoseconds; or, for a text that is wrong, what other than strict modes store.
pub type Parsed = Result<i64, i64>;

/// `hh:mm:ss` of one day.
#[inline]
pub(crate) fn plain(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] =
        text.first_chunk::<8>().filter(|_| text.len() == 8)?
    else {
        return None;
    };
    let two = |tens: &u8, ones: &u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        (tens <= 9 && ones <= 9).then_some(i64::from(tens) * 10 + i64::from(ones))
    };
    let (hours, minutes, seconds) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    (minutes < 60 && seconds < 60).then_some((hours * 3600 + minutes * 60 + seconds) * NANOS)
}

/// Reads `[-][D ]hh[:mm[:ss]][.frac]` or a compact `hhmmss`, else a datetime's clock.
pub fn parse(text: &[u8], fsp: u8, zone: &Zone) -> Parsed {
    let trimmed = trim_text(text);
    parse_clock(trimmed, fsp).or_else(|adjusted| {
        if !looks_like_datetime(trimmed) {
            return Err(adjusted);
        }
        // Read with all digits and rounded after: rounding must not carry into the date.
        let digits = if trimmed.contains(&b'.') { 6 } else { 0 };
        let civil = parse::datetime(trimmed, digits, zone).ok_or(0)?;
        let rules = parse::DateRules {
            zero_in_date: true,
            invalid_dates: false,
        };
        if !parse::valid_date(&civil, rules) || !parse::valid_clock(&civil) {
            return Err(0);
        }
        let clock =
            i64::from(civil.hour) * 3600 + i64::from(civil.minute) * 60 + i64::from(civil.second);
        rounded(clock * NANOS + i64::from(civil.micro) * 1000, fsp)
    })
}

/// Rounds half away from zero to `fsp` digits and clips.
pub fn rounded(nanos: i64, fsp: u8) -> Parsed {
    let unit = 10i64.pow(u32::from(9 - fsp.min(6)));
    let magnitude = (nanos.saturating_abs() + unit / 2) / unit * unit;
    let value = magnitude * nanos.signum();
    let clipped = value.clamp(-NANOS_MAX, NANOS_MAX);
    if clipped == value {
        Ok(value)
    } else {
        Err(clipped)
    }
}

/// An `hhmmss` number.
pub fn from_number(n: i64) -> Parsed {
    let magnitude = n.unsigned_abs();
    if magnitude > 8_385_959 {
        if n >= 10_000_000_000
            && let Some(civil) = parse::from_number(n)
        {
            let clock = i64::from(civil.hour) * 3600
                + i64::from(civil.minute) * 60
                + i64::from(civil.second);
            return Ok(clock * NANOS);
        }
        return Err(NANOS_MAX * n.signum());
    }
    let (hours, minutes, seconds) = (magnitude / 10_000, magnitude / 100 % 100, magnitude % 100);
    if minutes >= 60 || seconds >= 60 {
        return Err(0);
    }
    Ok((hours * 3600 + minutes * 60 + seconds) as i64 * NANOS * n.signum())
}

fn spaces(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    &text[text.iter().take_while(|byte| blank(byte)).count()..]
}

/// A run of digits, saturated far beyond any hour.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    const FAR: i64 = 1_000_000_000_000;
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[..len]
        .iter()
        .fold(0i64, |v, byte| (v * 10 + i64::from(byte - b'0')).min(FAR));
    (len > 0).then(|| (value, &text[len..]))
}

/// `hh[:mm[:ss]]`, with at least one colon if asked.
fn delimited(text: &[u8], colon_required: bool) -> Option<([i64; 3], &[u8])> {
    let (hours, mut rest) = number(text)?;
    let mut clock = [hours, 0, 0];
    for (i, part) in clock.iter_mut().enumerate().skip(1) {
        let Some(after) = spaces(rest).strip_prefix(b":") else {
            if i == 1 && colon_required {
                return None;
            }
            break;
        };
        (*part, rest) = number(spaces(after))?;
    }
    Some((clock, rest))
}

fn with_days(text: &[u8]) -> Option<([i64; 3], &[u8])> {
    let (days, rest) = number(text)?;
    let after = spaces(rest);
    if after.len() == rest.len() {
        return None;
    }
    let (mut clock, rest) = delimited(after, false)?;
    clock[0] += 24 * days;
    Some((clock, rest))
}

fn compact(text: &[u8]) -> Option<([i64; 3], &[u8])> {
    let (n, rest) = number(text)?;
    Some(([n / 10_000, n / 100 % 100, n % 100], rest))
}

fn parse_clock(text: &[u8], fsp: u8) -> Parsed {
    let (negative, body) = match text.strip_prefix(b"-") {
        Some(rest) => (true, spaces(rest)),
        None => (false, spaces(text)),
    };
    let forms = with_days(body)
        .or_else(|| delimited(body, true))
        .or_else(|| compact(body));
    let (mut clock, rest) = forms.ok_or(0)?;
    let rest = spaces(rest);
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(tail) => tail.split_at(tail.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        None => (&[][..], rest),
    };
    if !rest.is_empty() && body.len() >= JUNK_SPOILS_LEN {
        return Err(0);
    }
    let (micro, carry) = parse::round_fraction(fraction, fsp);
    if carry {
        add_second(&mut clock);
    }
    if clock[1] >= 60 || clock[2] >= 60 {
        return Err(0);
    }
    let sign = if negative { -1 } else { 1 };
    if clock[0] > HOURS_MAX {
        return Err(sign * NANOS_MAX);
    }
    let seconds = clock[0] * 3600 + clock[1] * 60 + clock[2];
    let nanos = sign * (seconds * NANOS + i64::from(micro) * 1000);
    let clipped = nanos.clamp(-NANOS_MAX, NANOS_MAX);
    if clipped == nanos && rest.is_empty() {
        Ok(nanos)
    } else {
        Err(clipped)
    }
}

fn add_second(clock: &mut [i64; 3]) {
    for (i, part) in clock.iter_mut().enumerate().rev() {
        *part += 1;
        if i == 0 || *part != 60 {
            return;
        }
        *part = 0;
    }
}

/// 12 or 14 digits, or a date followed by a blank or `T`.
fn looks_like_datetime(text: &[u8]) -> bool {
    let digits = |from: &[u8]| from.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let first = digits(text);
    if first == 12 || first == 14 {
        return true;
    }
    let mut rest = &text[first..];
    for _ in 0..2 {
        let Some((mark, after)) = rest.split_first() else {
            return false;
        };
        let len = digits(after);
        if first == 0 || len == 0 || !mark.is_ascii_punctuation() {
            return false;
        }
        rest = &after[len..];
    }
    matches!(rest.first(), Some(b' ' | b'T'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_server_reads_them() {
        let shown = |parsed: Parsed| {
            let (Ok(nanos) | Err(nanos)) = parsed;
            (MyDuration { nanos, fsp: 1 }.to_string(), parsed.is_ok())
        };
        for (text, result, good) in [
            ("1112", "00:11:12.0", true),
            ("11:12", "11:12:00.0", true),
            ("-1 02:03:04.56", "-26:03:04.6", true),
            ("838:59:59.6", "838:59:59.0", false),
            ("11:12:13x", "11:12:13.0", false),
            ("11:12:13 junk!!", "00:00:00.0", false),
            ("839:00:00", "838:59:59.0", false),
            ("10:60:00", "00:00:00.0", false),
            ("", "00:00:00.0", false),
            ("2024-01-02 03:04:05.67", "03:04:05.7", true),
            ("20240102030405", "03:04:05.0", true),
            ("59.96", "00:01:00.0", true),
        ] {
            let parsed = parse(text.as_bytes(), 1, &Zone::utc());
            assert_eq!(shown(parsed), (result.to_owned(), good), "{text}");
        }
    }
}
