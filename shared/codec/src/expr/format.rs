//! DATE_FORMAT, TIME_FORMAT and STR_TO_DATE: masks of `%` specifiers.

use super::compile::{Call, Expr, Value};
use super::convert::Ctx;
use super::temporal::week;
use super::types::Ty;
use crate::datum::Datum;
use crate::mysql::{code, tp};
use crate::time::parse::{valid_clock, valid_date};
use crate::time::{Civil, MyDuration, Time, TimeKind, civil_from_days, days_from_civil};
use std::fmt::Write as _;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

fn weekday(c: &Civil) -> usize {
    // 1970-01-01 was a Thursday.
    (days_from_civil(i64::from(c.year), c.month, c.day) + 4).rem_euclid(7) as usize
}

pub(super) fn day_name(c: &Civil) -> &'static str {
    DAYS[weekday(c)]
}

pub(super) fn month_name(c: &Civil) -> &'static str {
    MONTHS
        .get(usize::from(c.month).wrapping_sub(1))
        .unwrap_or(&"")
}

fn ordinal(day: u8) -> &'static str {
    match day {
        11..=13 => "th",
        _ => match day % 10 {
            1 => "st",
            2 => "nd",
            3 => "rd",
            _ => "th",
        },
    }
}

/// A date under a mask. A specifier that is unknown stands for its letter.
pub(super) fn date(c: &Civil, mask: &str) -> String {
    let mut out = String::new();
    let mut chars = mask.chars();
    while let Some(c1) = chars.next() {
        if c1 != '%' {
            out.push(c1);
            continue;
        }
        let Some(specifier) = chars.next() else {
            break;
        };
        // Writing to a string cannot fail.
        let _ = date_part(&mut out, c, specifier);
    }
    out
}

fn date_part(out: &mut String, c: &Civil, specifier: char) -> std::fmt::Result {
    let day_of_year = || {
        days_from_civil(i64::from(c.year), c.month, c.day)
            - days_from_civil(i64::from(c.year), 1, 1)
            + 1
    };
    match specifier {
        'b' => out.write_str(&month_name(c)[..month_name(c).len().min(3)]),
        'M' => out.write_str(month_name(c)),
        'm' => write!(out, "{:02}", c.month),
        'c' => write!(out, "{}", c.month),
        'D' => write!(out, "{}{}", c.day, ordinal(c.day)),
        'd' => write!(out, "{:02}", c.day),
        'e' => write!(out, "{}", c.day),
        'j' => write!(out, "{:03}", day_of_year()),
        'a' => out.write_str(&day_name(c)[..3]),
        'W' => out.write_str(day_name(c)),
        'w' => write!(out, "{}", weekday(c)),
        'U' => write!(out, "{:02}", week(c, 0).1),
        'u' => write!(out, "{:02}", week(c, 1).1),
        'V' => write!(out, "{:02}", week(c, 2).1),
        'v' => write!(out, "{:02}", week(c, 3).1),
        'X' => write!(out, "{:04}", week(c, 2).0),
        'x' => write!(out, "{:04}", week(c, 3).0),
        'Y' => write!(out, "{:04}", c.year),
        'y' => write!(out, "{:02}", c.year % 100),
        other => clock_part(out, u64::from(c.hour), (c.minute, c.second), c.micro, other),
    }
}

fn clock_part(
    out: &mut String,
    hour: u64,
    (minute, second): (u8, u8),
    micro: u32,
    specifier: char,
) -> std::fmt::Result {
    let twelve = if hour.is_multiple_of(12) {
        12
    } else {
        hour % 12
    };
    let half = if hour % 24 < 12 { "AM" } else { "PM" };
    match specifier {
        'H' => write!(out, "{hour:02}"),
        'k' => write!(out, "{hour}"),
        'h' | 'I' => write!(out, "{twelve:02}"),
        'l' => write!(out, "{twelve}"),
        'i' => write!(out, "{minute:02}"),
        'p' => out.write_str(half),
        'r' => write!(out, "{twelve:02}:{minute:02}:{second:02} {half}"),
        'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
        'S' | 's' => write!(out, "{second:02}"),
        'f' => write!(out, "{micro:06}"),
        other => write!(out, "{other}"),
    }
}

/// A TIME under a mask; parts of a date are zero.
pub(super) fn clock(nanos: i64, mask: &str) -> String {
    let magnitude = nanos.unsigned_abs();
    let seconds = magnitude / 1_000_000_000;
    let parts = ((seconds / 60 % 60) as u8, (seconds % 60) as u8);
    let micro = (magnitude % 1_000_000_000 / 1000) as u32;
    let mut out = String::from(if nanos < 0 { "-" } else { "" });
    let mut chars = mask.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let written = match chars.next() {
            None => break,
            Some('Y') => out.write_str("0000"),
            Some('y' | 'm' | 'd') => out.write_str("00"),
            Some('c' | 'e') => out.write_str("0"),
            Some(specifier) => clock_part(&mut out, seconds / 3600, parts, micro, specifier),
        };
        debug_assert!(written.is_ok());
    }
    out
}

/// What a mask asks for: a date, a clock, a fraction.
fn mask_parts(mask: &str) -> (bool, bool, bool) {
    let (mut date, mut clock, mut fraction) = (false, false, false);
    let mut chars = mask.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            match chars.next() {
                Some('f') => (clock, fraction) = (true, true),
                Some('H' | 'k' | 'h' | 'I' | 'l' | 'i' | 'p' | 'r' | 'T' | 'S' | 's') => {
                    clock = true
                }
                Some('%') | None => {}
                Some(_) => date = true,
            }
        }
    }
    (date, clock, fraction)
}

pub(super) fn str_to_date_ty(args: &[Expr]) -> Ty {
    let Some(Datum::Bytes(mask)) = args[1].as_const() else {
        return Ty::time(tp::DATETIME, 6);
    };
    let (date, clock, fraction) = mask_parts(&String::from_utf8_lossy(mask));
    let fsp = if fraction { 6 } else { 0 };
    match (date, clock) {
        (true, true) => Ty::time(tp::DATETIME, fsp),
        (false, true) => Ty::time(tp::DURATION, fsp),
        _ => Ty::time(tp::DATE, 0),
    }
}

pub(super) fn str_to_date(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, mask) = (ctx.string(&call.args[0])?, ctx.string(&call.args[1])?);
    let (Some(text), Some(mask)) = (text, mask) else {
        return Ok(Datum::Null);
    };
    let wrong = || {
        const WRONG_VALUE: u16 = 1411;
        ctx.adjusted(WRONG_VALUE, || {
            format!("Incorrect datetime value: '{text}' for function str_to_date")
        })
        .map(|()| Datum::Null)
    };
    let Some(read) = Reader::read(&text, &mask) else {
        return wrong();
    };
    let fsp = call.ty.digits().min(6);
    if call.ty.tp == tp::DURATION {
        let nanos = super::convert::clock_nanos(&read);
        return Ok(Datum::Duration(MyDuration { nanos, fsp }));
    }
    if !valid_date(&read, ctx.date_rules()) || !valid_clock(&read) {
        return wrong();
    }
    use crate::session::SqlMode;
    let mode = ctx.session.sql_mode;
    if (read.month == 0 || read.day == 0)
        && (mode.has(SqlMode::NO_ZERO_IN_DATE) || mode.has(SqlMode::NO_ZERO_DATE))
    {
        ctx.adjusted(code::TRUNCATED_WRONG_VALUE, || {
            format!("Incorrect datetime value: '{text}'")
        })?;
        return Ok(Datum::Null);
    }
    let kind = if call.ty.tp == tp::DATE {
        TimeKind::Date
    } else {
        TimeKind::Datetime
    };
    let time = Time::new(read, kind, fsp);
    Ok(Datum::Time(if kind == TimeKind::Date {
        time.to_date()
    } else {
        time
    }))
}

/// Reads a text under a mask.
struct Reader<'a> {
    rest: &'a str,
    civil: Civil,
    afternoon: Option<bool>,
    twelve: bool,
    day_of_year: Option<u32>,
}

impl Reader<'_> {
    fn read(text: &str, mask: &str) -> Option<Civil> {
        let mut reader = Reader {
            rest: text.trim(),
            civil: Civil::default(),
            afternoon: None,
            twelve: false,
            day_of_year: None,
        };
        let mut chars = mask.trim().chars();
        while let Some(c) = chars.next() {
            reader.rest = reader.rest.trim_start();
            if c.is_whitespace() {
                continue;
            }
            // A text may end before its mask does.
            if reader.rest.is_empty() {
                break;
            }
            if c == '%' {
                reader.part(chars.next()?)?;
            } else {
                reader.rest = reader.rest.strip_prefix(c)?;
            }
        }
        reader.finish()
    }

    fn finish(mut self) -> Option<Civil> {
        if self.twelve {
            if !(1..=12).contains(&self.civil.hour) {
                return None;
            }
            self.civil.hour %= 12;
            if self.afternoon == Some(true) {
                self.civil.hour += 12;
            }
        } else if self.afternoon.is_some() {
            return None;
        }
        if let Some(day) = self.day_of_year {
            let first = days_from_civil(i64::from(self.civil.year), 1, 1);
            let (_, month, day) = civil_from_days(first + i64::from(day) - 1);
            (self.civil.month, self.civil.day) = (month, day);
        }
        Some(self.civil)
    }

    fn number(&mut self, digits_max: usize) -> Option<u32> {
        let len = self
            .rest
            .bytes()
            .take(digits_max)
            .take_while(u8::is_ascii_digit)
            .count();
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        digits.parse().ok()
    }

    fn small(&mut self, most: u32) -> Option<u8> {
        let number = self.number(2)?;
        (number <= most).then_some(number as u8)
    }

    /// Index of the name that the text begins with.
    fn name(&mut self, names: &[&str], len: Option<usize>) -> Option<usize> {
        let starts = |name: &&str| {
            let name = &name[..len.unwrap_or(name.len()).min(name.len())];
            self.rest
                .get(..name.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(name))
        };
        let found = names.iter().position(starts)?;
        let name = names[found];
        self.rest = &self.rest[len.unwrap_or(name.len()).min(name.len())..];
        Some(found)
    }

    fn part(&mut self, specifier: char) -> Option<()> {
        match specifier {
            'Y' => self.civil.year = self.number(4)? as u16,
            'y' => self.civil.year = crate::time::parse::windowed_year(self.number(2)?) as u16,
            'm' | 'c' => self.civil.month = self.small(12)?,
            'd' | 'e' => self.civil.day = self.small(31)?,
            'M' => self.civil.month = self.name(&MONTHS, None)? as u8 + 1,
            'b' => self.civil.month = self.name(&MONTHS, Some(3))? as u8 + 1,
            'W' => drop(self.name(&DAYS, None)?),
            'a' => drop(self.name(&DAYS, Some(3))?),
            'D' => {
                self.civil.day = self.small(31)?;
                self.rest = self.rest.get(2..)?;
            }
            'j' => self.day_of_year = Some(self.number(3).filter(|day| (1..=366).contains(day))?),
            'H' | 'k' => self.civil.hour = self.small(23)?,
            'h' | 'I' | 'l' => {
                self.civil.hour = self.small(12)?;
                self.twelve = true;
            }
            'i' => self.civil.minute = self.small(59)?,
            'S' | 's' => self.civil.second = self.small(59)?,
            'f' => {
                let before = self.rest.len();
                let number = self.number(6)?;
                self.civil.micro = number * 10u32.pow(6 - (before - self.rest.len()) as u32);
            }
            'p' => self.afternoon = Some(self.name(&["AM", "PM"], None)? == 1),
            'T' | 'r' => {
                let hours = if specifier == 'T' { 23 } else { 12 };
                self.civil.hour = self.small(hours)?;
                self.rest = self.rest.strip_prefix(':')?;
                self.civil.minute = self.small(59)?;
                self.rest = self.rest.strip_prefix(':')?;
                self.civil.second = self.small(59)?;
                if specifier == 'r' {
                    self.twelve = true;
                    self.rest = self.rest.trim_start();
                    self.afternoon = Some(self.name(&["AM", "PM"], None)? == 1);
                }
            }
            '%' => self.rest = self.rest.strip_prefix('%')?,
            _ => return None,
        }
        Some(())
    }
}
