//! Functions that take dates and times apart or make them from numbers.

use super::EvalError;
use super::compile::{Call, Eval, Expr, Function, Value, wrong_arguments};
use super::convert::{Ctx, Opt, clock_nanos, fraction_digits};
use super::format;
use super::tree::Unit;
use super::types::{Family, Ty};
use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::mysql::tp;
use crate::time::{
    Civil, LocalTime, MyDuration, Time, TimeKind, Zone, civil_from_days, days_from_civil,
    days_in_month, is_leap_year,
};

const fn function(
    name: &'static str,
    args: (usize, usize),
    ty: fn(&[Expr]) -> Ty,
    eval: Eval,
) -> Function {
    Function {
        name,
        args,
        ty,
        eval,
    }
}

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

fn text(_: &[Expr]) -> Ty {
    Ty::plain_text()
}

fn date(_: &[Expr]) -> Ty {
    Ty::time(tp::DATE, 0)
}

macro_rules! civil_fields {
    ($(($name:literal, $field:expr)),* $(,)?) => {
        &[$(function($name, (1, 1), int, |ctx, call| {
            let field: fn(&Civil) -> i64 = $field;
            Ok(ctx.time(&call.args[0])?.map_or(Datum::Null, |time| Datum::Int(field(&time.civil()))))
        })),*]
    };
}

/// Parts of a date; those of the zero date are zero.
pub(super) const FIELD_FUNCTIONS: &[Function] = civil_fields![
    ("year", |c| i64::from(c.year)),
    ("month", |c| i64::from(c.month)),
    ("day", |c| i64::from(c.day)),
    ("dayofmonth", |c| i64::from(c.day)),
    ("quarter", |c| i64::from(c.month.div_ceil(3))),
];

macro_rules! day_functions {
    ($(($name:literal, $value:expr)),* $(,)?) => {
        &[$(function($name, (1, 1), int, |ctx, call| {
            let value: fn(&Civil) -> i64 = $value;
            Ok(real_time(ctx, &call.args[0])?.map_or(Datum::Null, |time| Datum::Int(value(&time.civil()))))
        })),*]
    };
}

/// What needs a date of the calendar, without month or day 0.
pub(super) const DAY_FUNCTIONS: &[Function] = day_functions![
    ("dayofweek", |c| (day_number(c) + 6) % 7 + 1),
    ("weekday", |c| (day_number(c) + 5) % 7),
    ("dayofyear", day_of_year),
    ("weekofyear", |c| week(c, 3).1),
    ("to_days", day_number),
    ("to_seconds", |c| day_number(c) * 86_400
        + clock_nanos(c) / 1_000_000_000),
];

macro_rules! clock_functions {
    ($(($name:literal, $value:expr)),* $(,)?) => {
        &[$(function($name, (1, 1), int, |ctx, call| {
            let value: fn(u64) -> u64 = $value;
            let clock = ctx.duration(&call.args[0])?.map(|clock| clock.nanos.unsigned_abs());
            Ok(clock.map_or(Datum::Null, |nanos| Datum::Int(value(nanos) as i64)))
        })),*]
    };
}

const SECOND: u64 = 1_000_000_000;

/// Parts of a clock.
pub(super) const CLOCK_FUNCTIONS: &[Function] = clock_functions![
    ("hour", |nanos| nanos / SECOND / 3600),
    ("minute", |nanos| nanos / SECOND / 60 % 60),
    ("second", |nanos| nanos / SECOND % 60),
    ("microsecond", |nanos| nanos % SECOND / 1000),
];

pub(super) const FUNCTIONS: &[Function] = &[
    function("date", (1, 1), date, |ctx, call| {
        Ok(ctx
            .time(&call.args[0])?
            .map_or(Datum::Null, |time| Datum::Time(time.to_date())))
    }),
    function(
        "time",
        (1, 1),
        |args| Ty::time(tp::DURATION, fsp_of(&args[0])),
        |ctx, call| {
            Ok(ctx
                .duration(&call.args[0])?
                .map_or(Datum::Null, Datum::Duration))
        },
    ),
    function(
        "timestamp",
        (1, 2),
        |args| Ty::time(tp::DATETIME, fsp_of(&args[0])),
        timestamp,
    ),
    function("week", (1, 2), int, week_function),
    function("yearweek", (1, 2), int, year_week),
    function("dayname", (1, 1), text, |ctx, call| {
        name_of(ctx, call, format::day_name)
    }),
    function("monthname", (1, 1), text, |ctx, call| {
        name_of(ctx, call, format::month_name)
    }),
    function("from_days", (1, 1), date, from_days),
    function("datediff", (2, 2), int, date_diff),
    function("unix_timestamp", (0, 1), unix_timestamp_ty, unix_timestamp),
    function("from_unixtime", (1, 2), from_unixtime_ty, from_unixtime),
    function("time_to_sec", (1, 1), int, |ctx, call| {
        let clock = ctx.duration(&call.args[0])?;
        Ok(clock.map_or(Datum::Null, |clock| Datum::Int(clock.nanos / SECOND as i64)))
    }),
    function(
        "sec_to_time",
        (1, 1),
        |args| Ty::time(tp::DURATION, number_fsp(&args[0])),
        sec_to_time,
    ),
    function("extract", (2, 2), int, extract),
    function("last_day", (1, 1), date, last_day),
    function("makedate", (2, 2), date, make_date),
    function(
        "maketime",
        (3, 3),
        |args| Ty::time(tp::DURATION, number_fsp(&args[2])),
        make_time,
    ),
    function("period_add", (2, 2), int, period_add),
    function("period_diff", (2, 2), int, period_diff),
    function(
        "convert_tz",
        (3, 3),
        |args| Ty::time(tp::DATETIME, fsp_of(&args[0])),
        convert_tz,
    ),
    function("date_format", (2, 2), text, |ctx, call| {
        let (time, mask) = (real_time(ctx, &call.args[0])?, ctx.string(&call.args[1])?);
        Ok(time.zip(mask).map_or(Datum::Null, |(time, mask)| {
            Datum::Bytes(format::date(&time.civil(), &mask).into_bytes())
        }))
    }),
    function("time_format", (2, 2), text, |ctx, call| {
        let (clock, mask) = (ctx.duration(&call.args[0])?, ctx.string(&call.args[1])?);
        Ok(clock.zip(mask).map_or(Datum::Null, |(clock, mask)| {
            Datum::Bytes(format::clock(clock.nanos, &mask).into_bytes())
        }))
    }),
    function(
        "str_to_date",
        (2, 2),
        format::str_to_date_ty,
        format::str_to_date,
    ),
    function("now", (0, 1), now_ty, now),
    function("current_timestamp", (0, 1), now_ty, now),
    function("localtime", (0, 1), now_ty, now),
    function("localtimestamp", (0, 1), now_ty, now),
    function("sysdate", (0, 1), now_ty, now),
    function("utc_timestamp", (0, 1), now_ty, |ctx, call| {
        Ok(now_in(ctx, call, &Zone::utc()))
    }),
    function("curdate", (0, 0), date, |ctx, _| {
        Ok(Datum::Time(today(ctx, &ctx.session.time_zone)))
    }),
    function("current_date", (0, 0), date, |ctx, _| {
        Ok(Datum::Time(today(ctx, &ctx.session.time_zone)))
    }),
    function("utc_date", (0, 0), date, |ctx, _| {
        Ok(Datum::Time(today(ctx, &Zone::utc())))
    }),
    function("curtime", (0, 1), clock_ty, |ctx, call| {
        Ok(clock_in(ctx, call, &ctx.session.time_zone))
    }),
    function("current_time", (0, 1), clock_ty, |ctx, call| {
        Ok(clock_in(ctx, call, &ctx.session.time_zone))
    }),
    function("utc_time", (0, 1), clock_ty, |ctx, call| {
        Ok(clock_in(ctx, call, &Zone::utc()))
    }),
];

/// Digits of the fraction that a value taken as a date has.
pub(super) fn fsp_of(arg: &Expr) -> i32 {
    match (arg.ty.family(), arg.as_const()) {
        (Family::Str, Some(Datum::Bytes(text))) => i32::from(fraction_digits(text)),
        (Family::Str | Family::Real, _) => 6,
        (Family::Int | Family::Json, _) => 0,
        _ => arg.ty.scale.clamp(0, 6),
    }
}

/// Digits of the fraction of a number of seconds.
fn number_fsp(arg: &Expr) -> i32 {
    match arg.ty.family() {
        Family::Int => 0,
        Family::Str | Family::Real | Family::Json => 6,
        _ => arg.ty.scale.clamp(0, 6),
    }
}

/// A date of the calendar; month or day 0 is as bad as no date.
pub(super) fn real_time(ctx: &Ctx<'_>, arg: &Expr) -> Opt<Time> {
    match ctx.time(arg)? {
        Some(time) if time.is_zero_in_date() => {
            ctx.incorrect_time("datetime", time.to_string().as_bytes())
        }
        other => Ok(other),
    }
}

/// Days since the year 0.
pub(super) fn day_number(c: &Civil) -> i64 {
    days_from_civil(i64::from(c.year), c.month, c.day) + 719_528
}

fn day_of_year(c: &Civil) -> i64 {
    days_from_civil(i64::from(c.year), c.month, c.day) - days_from_civil(i64::from(c.year), 1, 1)
        + 1
}

fn days_in_year(year: i64) -> i64 {
    365 + i64::from(u16::try_from(year).is_ok_and(is_leap_year))
}

/// Year and number of the week, by MySQL's eight modes: bit 0 = weeks begin on Monday, bit 1 = the week's
/// own year, bit 2 = how the first week is told.
pub(super) fn week(c: &Civil, mode: i64) -> (i64, i64) {
    let mode = mode & 7;
    let monday_first = mode & 1 == 1;
    let mut own_year = mode & 2 == 2;
    let first_weekday = (mode & 4 == 4) == monday_first;
    let mut year = i64::from(c.year);
    let number = day_number(c);
    let mut first_day = number - day_of_year(c) + 1;
    let mut weekday = (first_day + 5 + i64::from(!monday_first)) % 7;
    // Whether the days before the first full week belong to the year before.
    let late = |weekday: i64| {
        if first_weekday {
            weekday != 0
        } else {
            weekday >= 4
        }
    };
    if c.month == 1 && i64::from(c.day) <= 7 - weekday {
        if !own_year && late(weekday) {
            return (year, 0);
        }
        own_year = true;
        year -= 1;
        let days = days_in_year(year);
        first_day -= days;
        weekday = (weekday + 53 * 7 - days) % 7;
    }
    let days = number - first_day + if late(weekday) { weekday - 7 } else { weekday };
    if own_year && days >= 52 * 7 && !late((weekday + days_in_year(year)) % 7) {
        return (year + 1, 1);
    }
    (year, days / 7 + 1)
}

fn mode_arg(ctx: &Ctx<'_>, call: &Call) -> Opt<i64> {
    match call.args.get(1) {
        None => Ok(Some(i64::from(ctx.session.default_week_format))),
        Some(arg) => ctx.small(arg),
    }
}

fn week_function(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (time, mode) = (real_time(ctx, &call.args[0])?, mode_arg(ctx, call)?);
    let (Some(time), Some(mode)) = (time, mode) else {
        return Ok(Datum::Null);
    };
    // WEEK() counts within the year of the date unless its mode says otherwise.
    Ok(Datum::Int(week(&time.civil(), mode).1))
}

fn year_week(ctx: &Ctx<'_>, call: &Call) -> Value {
    let time = real_time(ctx, &call.args[0])?;
    let mode = match call.args.get(1) {
        None => 0,
        // A NULL mode counts as 0 here.
        Some(arg) => ctx.small(arg)?.unwrap_or(0),
    };
    Ok(time.map_or(Datum::Null, |time| {
        let (year, week) = week(&time.civil(), mode | 2);
        Datum::Int(year * 100 + week)
    }))
}

fn name_of(ctx: &Ctx<'_>, call: &Call, name: fn(&Civil) -> &'static str) -> Value {
    if ctx.session.lc_time_names != "en_US" {
        return Err(super::convert::unsupported(
            "a name of a day or month in another language than English",
        ));
    }
    let time = real_time(ctx, &call.args[0])?;
    Ok(time.map_or(Datum::Null, |time| {
        Datum::Bytes(name(&time.civil()).as_bytes().to_vec())
    }))
}

fn timestamp(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(time) = ctx.time(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let mut time = Time::from_packed(time.packed(), TimeKind::Datetime, time.fsp);
    if let Some(arg) = call.args.get(1) {
        let Some(clock) = ctx.duration(arg)? else {
            return Ok(Datum::Null);
        };
        match super::temporal_add::plus_nanos(&time, clock.nanos, time.fsp.max(clock.fsp)) {
            Some(sum) => time = sum,
            None => return Ok(Datum::Null),
        }
    }
    Ok(Datum::Time(time))
}

fn date_of_days(days: i64) -> Option<Time> {
    let (year, month, day) = civil_from_days(days - 719_528);
    let year = u16::try_from(year).ok().filter(|year| *year <= 9999)?;
    let civil = Civil {
        year,
        month,
        day,
        ..Civil::default()
    };
    Some(Time::new(civil, TimeKind::Date, 0))
}

fn from_days(ctx: &Ctx<'_>, call: &Call) -> Value {
    const FIRST_REAL_DAY: i64 = 366;
    let Some(days) = ctx.small(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    if days < FIRST_REAL_DAY {
        return Ok(Datum::Time(Time::zero(TimeKind::Date, 0)));
    }
    const DAYS_MAX: i64 = 3_652_424;
    Ok(date_of_days(days.min(DAYS_MAX + 1)).map_or(Datum::Null, Datum::Time))
}

fn date_diff(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (a, b) = (
        real_time(ctx, &call.args[0])?,
        real_time(ctx, &call.args[1])?,
    );
    Ok(a.zip(b).map_or(Datum::Null, |(a, b)| {
        Datum::Int(day_number(&a.civil()) - day_number(&b.civil()))
    }))
}

fn unix_timestamp_ty(args: &[Expr]) -> Ty {
    match args.first().map_or(0, fsp_of) {
        0 => Ty::int(),
        fsp => Ty::decimal(fsp),
    }
}

/// Seconds since 1970 of a wall time of the session's zone; 0 before that and after the year 3001.
fn unix_timestamp(ctx: &Ctx<'_>, call: &Call) -> Value {
    let micros = match call.args.first() {
        None => ctx.session.now_us / 1_000_000 * 1_000_000,
        Some(arg) => {
            let Some(time) = ctx.time(arg)? else {
                return Ok(Datum::Null);
            };
            let civil = time.civil();
            if time.is_zero_in_date() {
                0
            } else {
                let (LocalTime::At(instant) | LocalTime::Gap(instant)) =
                    ctx.session.time_zone.instant_of(civil.seconds());
                instant * 1_000_000 + i64::from(civil.micro)
            }
        }
    };
    // From the first second on to the last that MySQL 8.0.28 and later know.
    const MICROS: std::ops::RangeInclusive<i64> = 1_000_000..=32_536_771_199_999_999;
    let micros = if MICROS.contains(&micros) { micros } else { 0 };
    Ok(match call.ty.family() {
        Family::Int => Datum::Int(micros / 1_000_000),
        _ => Datum::Decimal(MyDecimal::from_i128(i128::from(micros), 6).truncate(call.ty.digits())),
    })
}

fn from_unixtime_ty(args: &[Expr]) -> Ty {
    if args.len() > 1 {
        return Ty::plain_text();
    }
    Ty::time(tp::DATETIME, number_fsp(&args[0]))
}

fn from_unixtime(ctx: &Ctx<'_>, call: &Call) -> Value {
    const SECONDS_MAX: i64 = 32_536_771_199;
    let Some(number) = ctx.decimal(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let fsp = number_fsp(&call.args[0]) as u8;
    let micros = MyDecimal::from_i64(1_000_000)
        .checked_mul(&number.round(fsp))
        .ok()
        .and_then(|micros| micros.to_i64().ok());
    let Some(micros) = micros.filter(|v| (0..=SECONDS_MAX * 1_000_000 + 999_999).contains(v))
    else {
        return Ok(Datum::Null);
    };
    let time = ctx.session.time_zone.at(micros, TimeKind::Datetime, fsp);
    match call.args.get(1) {
        None => Ok(Datum::Time(time)),
        Some(mask) => Ok(ctx.string(mask)?.map_or(Datum::Null, |mask| {
            Datum::Bytes(format::date(&time.civil(), &mask).into_bytes())
        })),
    }
}

fn sec_to_time(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(seconds) = ctx.real(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let limit = crate::time::duration::DURATION_SECONDS_MAX as f64;
    let nanos = (seconds.clamp(-limit, limit) * 1e6).round() as i64 * 1000;
    let fsp = number_fsp(&call.args[0]) as u8;
    let (Ok(nanos) | Err(nanos)) = crate::time::duration::rounded(nanos, fsp);
    Ok(Datum::Duration(MyDuration { nanos, fsp }))
}

fn extract(ctx: &Ctx<'_>, call: &Call) -> Value {
    let name = ctx.string(&call.args[0])?.unwrap_or_default();
    let unit = Unit::from_name(&name).ok_or_else(|| wrong_arguments("extract"))?;
    let arg = &call.args[1];
    let number = if arg.ty.family() == Family::Duration {
        ctx.duration(arg)?.map(|clock| {
            let nanos = clock.nanos.unsigned_abs();
            let seconds = nanos / SECOND;
            let civil = Civil {
                minute: (seconds / 60 % 60) as u8,
                second: (seconds % 60) as u8,
                micro: (nanos % SECOND / 1000) as u32,
                ..Civil::default()
            };
            extracted(unit, &civil, (seconds / 3600) as i64) * clock.nanos.signum()
        })
    } else {
        ctx.time(arg)?.map(|time| {
            let civil = time.civil();
            extracted(unit, &civil, i64::from(civil.hour))
        })
    };
    Ok(number.map_or(Datum::Null, Datum::Int))
}

/// Hours apart, because those of a TIME go beyond a day.
fn extracted(unit: Unit, c: &Civil, hour: i64) -> i64 {
    let (day, minute, second, micro) = (
        i64::from(c.day),
        i64::from(c.minute),
        i64::from(c.second),
        i64::from(c.micro),
    );
    let clock = hour * 10_000 + minute * 100 + second;
    match unit {
        Unit::Microsecond => micro,
        Unit::Second => second,
        Unit::Minute => minute,
        Unit::Hour => hour,
        Unit::Day => day,
        Unit::Week => week(c, 0).1,
        Unit::Month => i64::from(c.month),
        Unit::Quarter => i64::from(c.month.div_ceil(3)),
        Unit::Year => i64::from(c.year),
        Unit::SecondMicrosecond => second * 1_000_000 + micro,
        Unit::MinuteMicrosecond => (minute * 100 + second) * 1_000_000 + micro,
        Unit::MinuteSecond => minute * 100 + second,
        Unit::HourMicrosecond => clock * 1_000_000 + micro,
        Unit::HourSecond => clock,
        Unit::HourMinute => hour * 100 + minute,
        Unit::DayMicrosecond => (day * 1_000_000 + clock) * 1_000_000 + micro,
        Unit::DaySecond => day * 1_000_000 + clock,
        Unit::DayMinute => day * 10_000 + hour * 100 + minute,
        Unit::DayHour => day * 100 + hour,
        Unit::YearMonth => i64::from(c.year) * 100 + i64::from(c.month),
    }
}

fn last_day(ctx: &Ctx<'_>, call: &Call) -> Value {
    Ok(real_time(ctx, &call.args[0])?.map_or(Datum::Null, |time| {
        let civil = time.civil();
        let day = days_in_month(civil.year, civil.month);
        Datum::Time(Time::new(Civil { day, ..civil }, TimeKind::Date, 0).to_date())
    }))
}

fn windowed(year: i64) -> i64 {
    match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        other => other,
    }
}

fn make_date(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (year, day) = (ctx.small(&call.args[0])?, ctx.small(&call.args[1])?);
    let date = year
        .zip(day)
        .filter(|(year, day)| (0..=9999).contains(year) && (1..4_000_000).contains(day));
    let date = date.and_then(|(year, day)| {
        date_of_days(days_from_civil(windowed(year), 1, 1) + 719_528 + day - 1)
    });
    Ok(date.map_or(Datum::Null, Datum::Time))
}

fn make_time(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (hour, minute) = (ctx.small(&call.args[0])?, ctx.small(&call.args[1])?);
    let second = ctx.real(&call.args[2])?;
    let (Some(hour), Some(minute), Some(second)) = (hour, minute, second) else {
        return Ok(Datum::Null);
    };
    if !(0..60).contains(&minute) || !(0.0..60.0).contains(&second) {
        return Ok(Datum::Null);
    }
    let fsp = number_fsp(&call.args[2]) as u8;
    let nanos = (hour.unsigned_abs().min(839) as i64 * 3600 + minute * 60) * SECOND as i64
        + (second * 1e6).round() as i64 * 1000;
    let (Ok(nanos) | Err(nanos)) =
        crate::time::duration::rounded(if hour < 0 { -nanos } else { nanos }, fsp);
    Ok(Datum::Duration(MyDuration { nanos, fsp }))
}

/// Months since the year 0 of a `yymm` or `yyyymm` number.
fn months_of(period: i64) -> Result<i64, EvalError> {
    let (year, month) = (period / 100, period % 100);
    if period < 0 || !(1..=12).contains(&month) {
        return Err(wrong_arguments("period_add"));
    }
    Ok(windowed(year) * 12 + month - 1)
}

fn period_add(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (period, months) = (ctx.small(&call.args[0])?, ctx.small(&call.args[1])?);
    let (Some(period), Some(months)) = (period, months) else {
        return Ok(Datum::Null);
    };
    let sum = months_of(period)?.saturating_add(months);
    let period = sum.div_euclid(12).saturating_mul(100);
    Ok(Datum::Int(period.saturating_add(sum.rem_euclid(12) + 1)))
}

fn period_diff(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (a, b) = (ctx.small(&call.args[0])?, ctx.small(&call.args[1])?);
    match a.zip(b) {
        Some((a, b)) => Ok(Datum::Int(months_of(a)? - months_of(b)?)),
        None => Ok(Datum::Null),
    }
}

/// NULL for a zone that is not known.
fn convert_tz(ctx: &Ctx<'_>, call: &Call) -> Value {
    let time = real_time(ctx, &call.args[0])?;
    let (from, to) = (ctx.string(&call.args[1])?, ctx.string(&call.args[2])?);
    let zone = |name: Option<String>| name.and_then(|name| Zone::parse(&name).ok());
    let (Some(time), Some(from), Some(to)) = (time, zone(from), zone(to)) else {
        return Ok(Datum::Null);
    };
    let civil = time.civil();
    let (LocalTime::At(instant) | LocalTime::Gap(instant)) = from.instant_of(civil.seconds());
    let micros = instant * 1_000_000 + i64::from(civil.micro);
    Ok(Datum::Time(to.at(micros, TimeKind::Datetime, time.fsp)))
}

fn const_fsp(args: &[Expr]) -> i32 {
    match args.first().and_then(Expr::as_const) {
        Some(Datum::Int(fsp)) => (*fsp).clamp(0, 6) as i32,
        _ => 0,
    }
}

fn now_ty(args: &[Expr]) -> Ty {
    Ty::time(tp::DATETIME, const_fsp(args))
}

fn clock_ty(args: &[Expr]) -> Ty {
    Ty::time(tp::DURATION, const_fsp(args))
}

/// The job's fixed "now", its fraction cut to the digits asked for.
fn now_in(ctx: &Ctx<'_>, call: &Call, zone: &Zone) -> Datum {
    let fsp = call.ty.digits().min(6);
    let unit = 10i64.pow(6 - u32::from(fsp));
    let micros = ctx.session.now_us.div_euclid(unit) * unit;
    Datum::Time(zone.at(micros, TimeKind::Datetime, fsp))
}

fn now(ctx: &Ctx<'_>, call: &Call) -> Value {
    Ok(now_in(ctx, call, &ctx.session.time_zone))
}

fn today(ctx: &Ctx<'_>, zone: &Zone) -> Time {
    zone.at(ctx.session.now_us, TimeKind::Datetime, 0).to_date()
}

fn clock_in(ctx: &Ctx<'_>, call: &Call, zone: &Zone) -> Datum {
    match now_in(ctx, call, zone) {
        Datum::Time(time) => {
            let nanos = clock_nanos(&time.civil());
            Datum::Duration(MyDuration {
                nanos,
                fsp: time.fsp,
            })
        }
        other => other,
    }
}
