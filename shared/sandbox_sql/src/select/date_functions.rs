//! The date functions SQLite is given.

use super::dates;
use super::functions::{define, integer, text};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};
use thunderhead_codec::time::{Civil, TimeKind, Zone};

type OfDate = fn(&Civil) -> i64;

fn civil(value: ValueRef<'_>) -> Option<Civil> {
    dates::parse(&text(value)?)
}

pub fn register(db: &Connection) -> Result<()> {
    define(db, "th_date", |c| {
        civil(c.get_raw(0)).map(|d| Value::Text(dates::date_text(&d)))
    })?;
    define(db, "th_datetime", |c| {
        let scale = c.get::<i64>(1).unwrap_or(0).clamp(0, 6) as usize;
        civil(c.get_raw(0)).map(|d| Value::Text(dates::datetime_text(&d, scale)))
    })?;
    define(db, "th_time", |c| {
        let value = text(c.get_raw(0))?;
        Some(Value::Text(
            value.rsplit(' ').next().unwrap_or(&value).to_owned(),
        ))
    })?;
    define(db, "th_extract", |c| {
        let (unit, value) = (text(c.get_raw(0))?, text(c.get_raw(1))?);
        let date = dates::parse(&value).or_else(|| dates::parse(&format!("2000-01-01 {value}")))?;
        dates::extract(&unit, &date).map(Value::Integer)
    })?;
    define(db, "th_date_add", |c| {
        let (value, amount, unit) = (
            text(c.get_raw(0))?,
            integer(c.get_raw(1))?,
            text(c.get_raw(2))?,
        );
        let date = dates::add(&dates::parse(&value)?, amount, &unit)?;
        let clock = value.len() > 10
            || ["hour", "minute", "second"]
                .iter()
                .any(|u| unit.contains(u));
        let scale = value
            .split_once('.')
            .map_or(if date.micro > 0 { 6 } else { 0 }, |(_, f)| f.len());
        Some(Value::Text(if clock {
            dates::datetime_text(&date, scale)
        } else {
            dates::date_text(&date)
        }))
    })?;
    let of_date: [(&str, OfDate); 5] = [
        ("th_to_days", dates::to_days),
        ("th_weekday", dates::weekday),
        ("th_dayofweek", |d| (dates::weekday(d) + 1) % 7 + 1),
        ("th_dayofyear", dates::day_of_year),
        ("th_to_seconds", |d| {
            dates::to_days(d) * 86_400
                + i64::from(d.hour) * 3600
                + i64::from(d.minute) * 60
                + i64::from(d.second)
        }),
    ];
    for (name, function) in of_date {
        define(db, name, move |c| {
            civil(c.get_raw(0)).map(|d| Value::Integer(function(&d)))
        })?;
    }
    define(db, "th_from_days", |c| {
        dates::from_days(integer(c.get_raw(0))?).map(|d| Value::Text(dates::date_text(&d)))
    })?;
    define(db, "th_last_day", |c| {
        let mut date = civil(c.get_raw(0))?;
        date.day = thunderhead_codec::time::days_in_month(date.year, date.month);
        Some(Value::Text(dates::date_text(&date)))
    })?;
    define(db, "th_datediff", |c| {
        Some(Value::Integer(
            dates::to_days(&civil(c.get_raw(0))?) - dates::to_days(&civil(c.get_raw(1))?),
        ))
    })?;
    define(db, "th_timestampdiff", |c| {
        dates::difference(
            &text(c.get_raw(0))?,
            &civil(c.get_raw(1))?,
            &civil(c.get_raw(2))?,
        )
        .map(Value::Integer)
    })?;
    define(db, "th_date_format", |c| {
        Some(Value::Text(dates::format(
            &civil(c.get_raw(0))?,
            &text(c.get_raw(1))?,
        )))
    })?;
    define(db, "th_time_to_sec", |c| {
        let value = text(c.get_raw(0))?;
        let mut parts = value.trim_start_matches('-').split(':').map(|p| {
            p.split('.')
                .next()
                .unwrap_or("0")
                .parse::<i64>()
                .unwrap_or(0)
        });
        let mut next = || parts.next().unwrap_or(0);
        let seconds = next() * 3600 + next() * 60 + next();
        Some(Value::Integer(if value.starts_with('-') {
            -seconds
        } else {
            seconds
        }))
    })
}

/// The functions that depend on the session's zone; registered anew for each statement.
pub fn zone_functions(db: &Connection, zone: &Zone) -> Result<()> {
    let local = zone.clone();
    define(db, "th_unix_timestamp", move |c| {
        let seconds = dates::micros_of(&civil(c.get_raw(0))?).div_euclid(1_000_000);
        let offset = local.offset_at(seconds - local.offset_at(seconds));
        Some(Value::Integer((seconds - offset).max(0)))
    })?;
    let local = zone.clone();
    define(db, "th_from_unixtime", move |c| {
        const LAST: i64 = 32_536_771_199;
        let instant = integer(c.get_raw(0)).filter(|i| (0..=LAST).contains(i))?;
        Some(Value::Text(
            local
                .at(instant.checked_mul(1_000_000)?, TimeKind::Datetime, 0)
                .to_string(),
        ))
    })
}
