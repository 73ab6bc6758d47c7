//! Calendar arithmetic on texts, for the date functions of queries. Texts that are no dates give NULL.

use std::fmt::Write as _;
use thunderhead_codec::time::{Civil, civil_from_days, days_from_civil, days_in_month};

/// Days of 1970-01-01 in MySQL's count from year 0.
const EPOCH_TO_DAYS: i64 = 719_528;
/// Days of 9999-12-31 in that count.
const DAYS_MAX: i64 = 3_652_424;
/// More units than this lead out of the calendar from any day.
const AMOUNT_MAX: u64 = 1 << 60;

/// Reads a date with or without a clock; `None` when it is not a calendar date.
pub fn parse(text: &str) -> Option<Civil> {
    let text = text.trim();
    let mut parts = [0u32; 7];
    let separated = text.bytes().any(|b| !b.is_ascii_digit());
    if separated {
        for (i, part) in text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|p| !p.is_empty())
            .take(7)
            .enumerate()
        {
            parts[i] = if i == 6 {
                format!("{part:0<6.6}").parse().ok()?
            } else {
                part.parse().ok()?
            };
        }
    } else {
        if !matches!(text.len(), 8 | 14) {
            return None;
        }
        parts[0] = text.get(0..4)?.parse().ok()?;
        for (i, part) in parts
            .iter_mut()
            .enumerate()
            .take((text.len() - 2) / 2)
            .skip(1)
        {
            *part = text.get(2 + 2 * i..4 + 2 * i)?.parse().ok()?;
        }
    }
    let [year, month, day, hour, minute, second, micro] = parts;
    let civil = Civil {
        year: u16::try_from(year).ok()?,
        month: month as u8,
        day: day as u8,
        hour: hour as u8,
        minute: minute as u8,
        second: second as u8,
        micro,
    };
    let zero = year == 0 && month == 0 && day == 0;
    let valid = (1..=12).contains(&month)
        && day >= 1
        && day <= u32::from(days_in_month(civil.year, civil.month))
        && year <= 9999;
    ((zero || valid) && hour < 24 && minute < 60 && second < 60).then_some(civil)
}

/// `YYYY-MM-DD`.
pub fn date_text(civil: &Civil) -> String {
    format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day)
}

/// `YYYY-MM-DD hh:mm:ss[.ffffff]`.
pub fn datetime_text(civil: &Civil, scale: usize) -> String {
    let mut text = format!(
        "{} {:02}:{:02}:{:02}",
        date_text(civil),
        civil.hour,
        civil.minute,
        civil.second
    );
    if scale > 0 {
        let micro = format!("{:06}", civil.micro);
        let _ = write!(text, ".{}", &micro[..scale.min(6)]);
    }
    text
}

fn days(civil: &Civil) -> i64 {
    days_from_civil(i64::from(civil.year), civil.month, civil.day)
}

/// Days since year 0, as TO_DAYS counts.
pub fn to_days(civil: &Civil) -> i64 {
    days(civil) + EPOCH_TO_DAYS
}

pub fn from_days(count: i64) -> Option<Civil> {
    if !(0..=DAYS_MAX).contains(&count) {
        return None;
    }
    let (year, month, day) = civil_from_days(count - EPOCH_TO_DAYS);
    Some(Civil {
        year: u16::try_from(year).ok()?,
        month,
        day,
        ..Civil::default()
    })
}

/// Monday is 0.
pub fn weekday(civil: &Civil) -> i64 {
    (days(civil) + 3).rem_euclid(7)
}

pub fn day_of_year(civil: &Civil) -> i64 {
    days(civil) - days_from_civil(i64::from(civil.year), 1, 1) + 1
}

/// One unit of EXTRACT and its relatives.
pub fn extract(unit: &str, civil: &Civil) -> Option<i64> {
    let [year, month, day] = [
        i64::from(civil.year),
        i64::from(civil.month),
        i64::from(civil.day),
    ];
    let [hour, minute, second] = [civil.hour, civil.minute, civil.second].map(i64::from);
    Some(match unit {
        "year" => year,
        "quarter" => (month + 2) / 3,
        "month" => month,
        "day" => day,
        "hour" => hour,
        "minute" => minute,
        "second" => second,
        "microsecond" => i64::from(civil.micro),
        "year_month" => year * 100 + month,
        "day_hour" => day * 100 + hour,
        "hour_minute" => hour * 100 + minute,
        "hour_second" => (hour * 100 + minute) * 100 + second,
        // Mode 0: weeks begin on Sunday; days before the first one are week 0.
        "week" => (day_of_year(civil) + 6 - (weekday(civil) + 1) % 7) / 7,
        _ => return None,
    })
}

/// Adds `amount` units. Months keep the day, or take the month's last.
pub fn add(civil: &Civil, amount: i64, unit: &str) -> Option<Civil> {
    const SECOND: i64 = 1_000_000;
    if amount.unsigned_abs() > AMOUNT_MAX {
        return None;
    }
    let months = |count: i64| {
        let total = i64::from(civil.year) * 12 + i64::from(civil.month) - 1 + count;
        let (year, month) = (
            u16::try_from(total.div_euclid(12)).ok()?,
            total.rem_euclid(12) as u8 + 1,
        );
        let day = civil.day.min(days_in_month(year, month));
        (year <= 9999).then_some(Civil {
            year,
            month,
            day,
            ..*civil
        })
    };
    let micros = match unit {
        "year" => return months(amount.checked_mul(12)?),
        "quarter" => return months(amount.checked_mul(3)?),
        "month" => return months(amount),
        "week" => amount.checked_mul(7 * 86_400 * SECOND)?,
        "day" => amount.checked_mul(86_400 * SECOND)?,
        "hour" => amount.checked_mul(3600 * SECOND)?,
        "minute" => amount.checked_mul(60 * SECOND)?,
        "second" => amount.checked_mul(SECOND)?,
        "microsecond" => amount,
        _ => return None,
    };
    from_micros(micros_of(civil).checked_add(micros)?)
}

/// Microseconds since 1970 of the same wall clock.
pub fn micros_of(civil: &Civil) -> i64 {
    let seconds = (days(civil) * 24 + i64::from(civil.hour)) * 3600
        + i64::from(civil.minute) * 60
        + i64::from(civil.second);
    seconds * 1_000_000 + i64::from(civil.micro)
}

pub fn from_micros(micros: i64) -> Option<Civil> {
    let (seconds, micro) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let year = u16::try_from(year).ok().filter(|y| *y <= 9999)?;
    Some(Civil {
        year,
        month,
        day,
        hour: (clock / 3600) as u8,
        minute: (clock / 60 % 60) as u8,
        second: (clock % 60) as u8,
        micro: micro as u32,
    })
}

/// Whole units from `from` to `to`.
pub fn difference(unit: &str, from: &Civil, to: &Civil) -> Option<i64> {
    let micros = micros_of(to) - micros_of(from);
    let months = || {
        let count = |c: &Civil| i64::from(c.year) * 12 + i64::from(c.month);
        let mut months = count(to) - count(from);
        let within = |c: &Civil| {
            micros_of(c) - days_from_civil(i64::from(c.year), c.month, 1) * 86_400_000_000
        };
        if months > 0 && within(to) < within(from) {
            months -= 1;
        } else if months < 0 && within(to) > within(from) {
            months += 1;
        }
        months
    };
    Some(match unit {
        "microsecond" => micros,
        "second" => micros / 1_000_000,
        "minute" => micros / 60_000_000,
        "hour" => micros / 3_600_000_000,
        "day" => micros / 86_400_000_000,
        "week" => micros / 604_800_000_000,
        "month" => months(),
        "quarter" => months() / 3,
        "year" => months() / 12,
        _ => return None,
    })
}

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
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// DATE_FORMAT.
pub fn format(civil: &Civil, format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    let hour12 = (civil.hour + 11) % 12 + 1;
    let half = if civil.hour < 12 { "AM" } else { "PM" };
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let _ = match chars.next() {
            Some('Y') => write!(out, "{:04}", civil.year),
            Some('y') => write!(out, "{:02}", civil.year % 100),
            Some('m') => write!(out, "{:02}", civil.month),
            Some('c') => write!(out, "{}", civil.month),
            Some('d') => write!(out, "{:02}", civil.day),
            Some('e') => write!(out, "{}", civil.day),
            Some('H') => write!(out, "{:02}", civil.hour),
            Some('k') => write!(out, "{}", civil.hour),
            Some('h' | 'I') => write!(out, "{hour12:02}"),
            Some('l') => write!(out, "{hour12}"),
            Some('i') => write!(out, "{:02}", civil.minute),
            Some('s' | 'S') => write!(out, "{:02}", civil.second),
            Some('f') => write!(out, "{:06}", civil.micro),
            Some('p') => write!(out, "{half}"),
            Some('T') => write!(
                out,
                "{:02}:{:02}:{:02}",
                civil.hour, civil.minute, civil.second
            ),
            Some('r') => write!(
                out,
                "{hour12:02}:{:02}:{:02} {half}",
                civil.minute, civil.second
            ),
            Some('j') => write!(out, "{:03}", day_of_year(civil)),
            Some('w') => write!(out, "{}", (weekday(civil) + 1) % 7),
            Some('W') => write!(out, "{}", DAYS[weekday(civil) as usize]),
            Some('a') => write!(out, "{}", &DAYS[weekday(civil) as usize][..3]),
            Some('M') => write!(out, "{}", MONTHS[usize::from(civil.month.clamp(1, 12)) - 1]),
            Some('b') => write!(
                out,
                "{}",
                &MONTHS[usize::from(civil.month.clamp(1, 12)) - 1][..3]
            ),
            Some(other) => write!(out, "{other}"),
            None => Ok(()),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn adding_months_keeps_the_day_or_takes_the_last() {
        let text = |date: &str, amount, unit| {
            date_text(&add(&parse(date).unwrap(), amount, unit).unwrap())
        };
        assert_eq!(text("2024-01-31", 1, "month"), "2024-02-29");
        assert_eq!(text("1998-12-01", -90, "day"), "1998-09-02");
        assert_eq!(text("1994-01-01", 1, "year"), "1995-01-01");
    }

    #[test]
    fn days_count_from_year_zero() {
        assert_eq!(to_days(&parse("2024-01-01").unwrap()), 739_251);
        assert_eq!(date_text(&from_days(739_251).unwrap()), "2024-01-01");
        assert_eq!(parse("2023-02-30"), None);
    }
}
