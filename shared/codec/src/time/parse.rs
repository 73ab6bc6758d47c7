//! Reading dates and times from text and numbers: separated and compact forms, two-digit years, fractions,
//! zone suffixes. What is accepted is what the server accepts, oddities included.

use super::{Civil, LocalTime, Time, TimeKind, Zone, days_in_month};
use crate::digits;

/// Which dates the mode lets through.
#[derive(Clone, Copy, Debug)]
pub struct DateRules {
    /// Month 0 and day 0.
    pub zero_in_date: bool,
    /// Day up to 31 in every month.
    pub invalid_dates: bool,
}

/// `YYYY-MM-DD` or `YYYY-MM-DD hh:mm:ss[.ffffff]` of a possible date; `None` sends the text the long way, so
/// does a fraction that rounds up to a second.
#[inline]
pub fn plain(text: &[u8], fsp: u8) -> Option<Civil> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else {
        return None;
    };
    let number = digits::eight(u64::from_le_bytes([y1, y2, y3, y4, m1, m2, d1, d2]))? as u32;
    let year = (number / 10_000) as u16;
    let (month, day) = ((number / 100 % 100) as u8, (number % 100) as u8);
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let date = Civil {
        year,
        month,
        day,
        ..Civil::default()
    };
    if rest.is_empty() {
        return Some(date);
    }
    let (clock, rest) = rest.split_first_chunk::<9>()?;
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *clock else {
        return None;
    };
    let number = digits::eight(u64::from_le_bytes([b'0', b'0', h1, h2, m1, m2, s1, s2]))? as u32;
    let (hour, minute) = ((number / 10_000) as u8, (number / 100 % 100) as u8);
    let second = (number % 100) as u8;
    if hour >= 24 || minute >= 60 || second >= 60 {
        return None;
    }
    let clock = Civil {
        hour,
        minute,
        second,
        ..date
    };
    let Some((point, digits)) = rest.split_first() else {
        return Some(clock);
    };
    if *point != b'.' || !matches!(digits.len(), 1..=6) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (micro, carry) = round_fraction(digits, fsp);
    (!carry).then_some(Civil { micro, ..clock })
}

/// Month within 12, day within its month; the zero date passes.
pub fn valid_date(civil: &Civil, rules: DateRules) -> bool {
    let Civil {
        year, month, day, ..
    } = *civil;
    if year == 0 && month == 0 && day == 0 {
        return true;
    }
    if !rules.zero_in_date && (month == 0 || day == 0) {
        return false;
    }
    let longest = if rules.invalid_dates || month == 0 {
        31
    } else {
        days_in_month(year, month.min(12))
    };
    year <= 9999 && month <= 12 && day <= longest
}

pub fn valid_clock(civil: &Civil) -> bool {
    civil.hour < 24 && civil.minute < 60 && civil.second < 60
}

/// A suffix that says which zone the text is in.
struct Suffix {
    at: usize,
    /// Whether a sign begins it: it may then be a date or clock part after all.
    signed: bool,
    hour: Option<u8>,
    minute: Option<u8>,
    colon: bool,
    negative: bool,
}

/// Parts of a text that looks like a date.
struct Split<'a> {
    parts: Vec<&'a [u8]>,
    fraction: &'a [u8],
    suffix: Option<Suffix>,
}

fn is_punctuation(byte: u8) -> bool {
    byte.is_ascii_punctuation()
}

fn is_separator(byte: u8, parts_before: usize) -> bool {
    is_punctuation(byte)
        || (parts_before == 2 && matches!(byte, b'T' | b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r'))
        || (parts_before > 4 && !byte.is_ascii_digit())
}

/// Reads `Z`, `±HH`, `±HHMM` or `±HH:MM` at the end, as far as the text's shape tells.
fn zone_suffix(text: &[u8]) -> Option<Suffix> {
    let (mut zulu, mut sign, mut colon) = (None, None, None);
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'Z' => {
                zulu = Some(at);
                break;
            }
            b'-' | b'+' if sign.is_none() => sign = Some(at),
            b':' if colon.is_none() => colon = Some(at),
            _ => {}
        }
    }
    let len = text.len();
    let from_end = |at: Option<usize>| at.map(|at| len - at);
    let is_zulu = from_end(zulu) == Some(1);
    let has_colon = from_end(colon) == Some(3);
    let signed = from_end(sign)
        .filter(|tail| matches!(tail, 3 | 5 | 6))
        .unwrap_or(0);
    let two = |at: usize| -> Option<u8> {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        (tens <= 9 && ones <= 9).then(|| tens * 10 + ones)
    };
    let (hour, minute) = match (is_zulu, signed, has_colon) {
        (true, 0, false) => (None, None),
        (false, 3, false) => (Some(two(len - 2)?), None),
        (false, 5, false) => (Some(two(len - 4)?), Some(two(len - 2)?)),
        (false, 6, true) => (Some(two(len - 5)?), Some(two(len - 2)?)),
        _ => return None,
    };
    let at = zulu.or(sign)?;
    let negative = sign.is_some_and(|at| text[at] == b'-');
    Some(Suffix {
        at,
        signed: sign.is_some(),
        hour,
        minute,
        colon: has_colon,
        negative,
    })
}

/// Offset of the point that begins a fraction: the last mark, signs aside.
fn fraction_at(text: &[u8]) -> Option<usize> {
    let mark = |byte: &u8| is_punctuation(*byte) && !matches!(byte, b'+' | b'-');
    let at = text.iter().rposition(mark)?;
    (text[at] == b'.').then_some(at)
}

/// Cuts what punctuation precedes `end`.
fn before_punctuation(text: &[u8], end: usize) -> &[u8] {
    let kept = text[..end]
        .iter()
        .rposition(|byte| !is_punctuation(*byte))
        .map_or(0, |at| at + 1);
    &text[..kept]
}

fn split(text: &[u8]) -> Split<'_> {
    let suffix = zone_suffix(text).filter(|suffix| suffix.at > 0);
    let mut rest = text;
    if let Some(suffix) = &suffix {
        rest = before_punctuation(rest, suffix.at);
    }
    let mut fraction = &[][..];
    if let Some(at) = fraction_at(rest).filter(|at| *at > 0) {
        let tail = &rest[at + 1..];
        fraction = &tail[..tail.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        rest = before_punctuation(rest, at);
    }
    Split {
        parts: split_parts(rest).unwrap_or_default(),
        fraction,
        suffix,
    }
}

/// Numbers between separators; the last part is whatever is left.
fn split_parts(text: &[u8]) -> Option<Vec<&[u8]>> {
    let text = crate::cast::trim_text(text);
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    let mut parts = Vec::with_capacity(6);
    let (mut start, mut at) = (0, 1);
    while at + 1 < text.len() {
        if is_separator(text[at], parts.len()) {
            let before = parts.len();
            parts.push(&text[start..at]);
            start = at + 1;
            while start < text.len() && is_separator(text[start], before) {
                start += 1;
                at += 1;
            }
        } else if !text[at].is_ascii_digit() {
            return None;
        }
        at += 1;
    }
    parts.push(&text[start..]);
    Some(parts)
}

/// Reads a date with or without a clock, rounded to `fsp` digits. Whether the date is possible is for
/// [`valid_date`] and [`valid_clock`].
pub fn datetime(text: &[u8], fsp: u8, zone: &Zone) -> Option<Civil> {
    let Split {
        mut parts,
        mut fraction,
        mut suffix,
    } = split(text);
    // Neither a fraction nor a zone makes sense behind less than a full clock: they were parts.
    let absorbs = |parts: &[&[u8]]| !(parts.len() > 5 || (parts.len() == 1 && parts[0].len() > 4));
    if !fraction.is_empty() && absorbs(&parts) {
        parts.push(fraction);
        fraction = &[];
    }
    if let Some(found) = suffix.as_ref().filter(|suffix| suffix.signed)
        && absorbs(&parts)
        && (found.minute.is_none() || found.colon)
    {
        let digits = text.len();
        match found.minute {
            Some(_) => parts.extend([&text[digits - 5..digits - 3], &text[digits - 2..]]),
            None => parts.push(&text[digits - 2..]),
        }
        suffix = None;
    }
    let (numbers, full_clock) = match parts.as_slice() {
        [] | [_, _] => return None,
        [compact] => compact_parts(compact, fraction)?,
        many => separated_parts(many)?,
    };
    let mut numbers = numbers;
    if parts[0].len() <= 2 && !(numbers.iter().all(|n| *n == 0) && fraction.is_empty()) {
        numbers[0] = windowed_year(numbers[0]);
    }
    let (micro, carry) = if full_clock {
        round_fraction(fraction, fsp)
    } else {
        (0, false)
    };
    let mut civil = checked(numbers, micro)?;
    if carry {
        civil = shifted(&civil, 1)?;
    }
    match suffix {
        Some(suffix) if full_clock => in_zone(&civil, &suffix, zone),
        Some(_) => None,
        None => Some(civil),
    }
}

/// Whether the fields fit their places in the core form; hours and so on are checked later.
fn checked(n: [u32; 6], micro: u32) -> Option<Civil> {
    let fits = n[0] < 1 << 14
        && n[1] < 1 << 4
        && n[2] < 1 << 5
        && n[3] < 1 << 5
        && n[4] < 1 << 6
        && n[5] < 1 << 6;
    fits.then(|| Civil {
        year: n[0] as u16,
        month: n[1] as u8,
        day: n[2] as u8,
        hour: n[3] as u8,
        minute: n[4] as u8,
        second: n[5] as u8,
        micro,
    })
}

/// Moves a real time of the calendar by seconds and drops its fraction; `None` for one that is not real.
fn shifted(civil: &Civil, seconds: i64) -> Option<Civil> {
    let real = DateRules {
        zero_in_date: false,
        invalid_dates: false,
    };
    if civil.month == 0 || !valid_date(civil, real) || !valid_clock(civil) {
        return None;
    }
    Civil::from_seconds(
        civil.seconds() + seconds,
        if seconds == 1 { 0 } else { civil.micro },
    )
}

fn in_zone(civil: &Civil, suffix: &Suffix, zone: &Zone) -> Option<Civil> {
    let (hour, minute) = (suffix.hour.unwrap_or(0), suffix.minute.unwrap_or(0));
    let far = hour > 14 || minute > 59 || (hour == 14 && minute != 0);
    if far || (suffix.negative && hour == 0 && minute == 0) {
        return None;
    }
    let offset = i64::from(hour) * 3600 + i64::from(minute) * 60;
    shifted(civil, 0)?;
    let instant = civil.seconds() - if suffix.negative { -offset } else { offset };
    Civil::from_seconds(instant + zone.offset_at(instant), civil.micro)
}

pub(crate) fn windowed_year(year: u32) -> u32 {
    match year {
        0..=69 => 2000 + year,
        70..=99 => 1900 + year,
        _ => year,
    }
}

/// Microseconds after rounding half up by digit `fsp + 1`; whether a second must be added.
pub(crate) fn round_fraction(digits: &[u8], fsp: u8) -> (u32, bool) {
    let fsp = usize::from(fsp.min(6));
    let digit = |at: usize| digits.get(at).map_or(0, |byte| u32::from(byte - b'0'));
    let kept = (0..fsp).fold(0, |v, at| v * 10 + digit(at));
    let rounded = kept + u32::from(digit(fsp) >= 5);
    if rounded == 10u32.pow(fsp as u32) && rounded != kept {
        return (0, true);
    }
    (rounded * 10u32.pow(6 - fsp as u32), false)
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |v, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        v.checked_mul(10)?.checked_add(digit)
    })
}

/// Three to six parts; what is more is dropped. Whether there is a full clock.
fn separated_parts(parts: &[&[u8]]) -> Option<([u32; 6], bool)> {
    let mut numbers = [0; 6];
    for (to, part) in numbers.iter_mut().zip(parts) {
        *to = number(part)?;
    }
    Some((numbers, parts.len() >= 6))
}

/// Digits without separators, told apart by their number.
fn compact_parts(digits: &[u8], fraction: &[u8]) -> Option<([u32; 6], bool)> {
    let (year_digits, widths): (usize, &[usize]) = match digits.len() {
        14 => (4, &[2, 2, 2, 2, 2]),
        12 => (2, &[2, 2, 2, 2, 2]),
        11 => (2, &[2, 2, 2, 2, 1]),
        10 => (2, &[2, 2, 2, 2]),
        9 => (2, &[2, 2, 2, 1]),
        8 => (4, &[2, 2]),
        7 => (2, &[2, 2, 1]),
        6 => (2, &[2, 2]),
        5 => (2, &[2, 1]),
        _ => return None,
    };
    let mut numbers = [0; 6];
    let (year, mut rest) = digits.split_at(year_digits);
    numbers[0] = number(year)?;
    if year_digits == 2 {
        numbers[0] = windowed_year(numbers[0]);
    }
    for (to, width) in numbers[1..].iter_mut().zip(widths) {
        let (part, tail) = rest.split_at(*width);
        *to = number(part)?;
        rest = tail;
    }
    // A fraction behind a date is a clock, behind hours and minutes the seconds.
    let clock: &[usize] = match digits.len() {
        5 | 6 | 8 => &[3, 4, 5],
        9 | 10 => &[5],
        _ => &[],
    };
    let pairs = fraction.chunks(2).map(number);
    for (at, pair) in clock.iter().zip(pairs) {
        numbers[*at] = pair?;
    }
    Some((numbers, matches!(digits.len(), 11 | 12 | 14)))
}

/// `yyyymmdd[hhmmss]` numbers with two-digit-year windows.
pub fn from_number(n: i64) -> Option<Civil> {
    const MILLION: i64 = 1_000_000;
    let full = match n {
        0 => return Some(Civil::default()),
        10_000_101_000_000.. => n,
        ..101 => return None,
        101..=691_231 => (n + 20_000_000) * MILLION,
        691_232..700_101 => return None,
        700_101..=991_231 => (n + 19_000_000) * MILLION,
        991_232..=99_991_231 => n * MILLION,
        99_991_232..101_000_000 => return None,
        101_000_000..=691_231_235_959 => n + 20_000_000_000_000,
        691_231_235_960..700_101_000_000 => return None,
        700_101_000_000..=991_231_235_959 => n + 19_000_000_000_000,
        _ => n,
    };
    let (date, clock) = (full / MILLION, full % MILLION);
    let part = |v: i64| u32::try_from(v).ok();
    let numbers = [
        part(date / 10_000)?,
        part(date / 100 % 100)?,
        part(date % 100)?,
        part(clock / 10_000)?,
        part(clock / 100 % 100)?,
        part(clock % 100)?,
    ];
    checked(numbers, 0).filter(valid_clock)
}

/// The instant of a local time as microseconds since 1970; a skipped time counts as the gap's end.
pub fn instant_us(time: &Time, zone: &Zone) -> i64 {
    let civil = time.civil();
    let (LocalTime::At(seconds) | LocalTime::Gap(seconds)) = zone.instant_of(civil.seconds());
    seconds * 1_000_000 + i64::from(civil.micro)
}

/// Reads a text as a DATETIME of full precision, for expressions. Dates that do not exist are refused.
pub fn datetime_strict(text: &[u8], zone: &Zone) -> Option<Time> {
    let civil = datetime(text, 6, zone)?;
    let rules = DateRules {
        zero_in_date: true,
        invalid_dates: false,
    };
    (valid_date(&civil, rules) && valid_clock(&civil))
        .then(|| Time::new(civil, TimeKind::Datetime, 6))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
