//! Adding to dates and times, and the distance between them.

use super::EvalError;
use super::compile::{Call, Expr, Function, Value, wrong_arguments};
use super::convert::{Ctx, Opt};
use super::temporal::{fsp_of, real_time};
use super::tree::Unit;
use super::types::{Family, Ty};
use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::mysql::tp;
use crate::time::{Civil, MyDuration, Time, TimeKind, days_in_month, duration};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "addtime",
        args: (2, 2),
        ty: add_time_ty,
        eval: |ctx, call| add_time(ctx, call, 1),
    },
    Function {
        name: "subtime",
        args: (2, 2),
        ty: add_time_ty,
        eval: |ctx, call| add_time(ctx, call, -1),
    },
    Function {
        name: "timediff",
        args: (2, 2),
        ty: |args| Ty::time(tp::DURATION, fsp_of(&args[0]).max(fsp_of(&args[1]))),
        eval: time_diff,
    },
    Function {
        name: "timestampdiff",
        args: (3, 3),
        ty: |_| Ty::int(),
        eval: timestamp_diff,
    },
    Function {
        name: "timestampadd",
        args: (3, 3),
        ty: |_| Ty::plain_text(),
        eval: timestamp_add,
    },
];

const SECOND: i64 = 1_000_000_000;

/// `date ± INTERVAL amount unit`.
#[derive(Debug)]
pub(super) struct DateArith {
    minus: bool,
    date: Expr,
    amount: Expr,
    unit: Unit,
    ty: Ty,
}

impl DateArith {
    pub fn new(minus: bool, date: Expr, amount: Expr, unit: Unit) -> DateArith {
        let fraction = match unit {
            _ if unit.has_microseconds() => 6,
            Unit::Second => match amount.ty.family() {
                Family::Int => 0,
                Family::Decimal => amount.ty.scale.clamp(0, 6),
                _ => fsp_of(&amount),
            },
            _ => 0,
        };
        let fsp = date.ty.scale.clamp(0, 6).max(fraction);
        let ty = match date.ty.tp {
            tp::DATE if unit.is_date_part() => Ty::time(tp::DATE, 0),
            tp::DATE => Ty::time(tp::DATETIME, fraction),
            tp::DATETIME | tp::TIMESTAMP => Ty::time(tp::DATETIME, fsp),
            tp::DURATION if !unit.is_date_part() => Ty::time(tp::DURATION, fsp),
            tp::DURATION => Ty::time(tp::DATETIME, fsp),
            _ => Ty::plain_text(),
        };
        DateArith {
            minus,
            date,
            amount,
            unit,
            ty,
        }
    }

    pub fn ty(&self) -> Ty {
        self.ty.clone()
    }
}

/// An amount of time: months, and nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    months: i64,
    nanos: i128,
}

impl Amount {
    fn of(unit: Unit, count: i64) -> Amount {
        let nanos = |each: i64| Amount {
            months: 0,
            nanos: i128::from(count) * i128::from(each),
        };
        let months = |each: i64| Amount {
            months: count.saturating_mul(each),
            nanos: 0,
        };
        match unit {
            Unit::Microsecond => nanos(1000),
            Unit::Second => nanos(SECOND),
            Unit::Minute => nanos(60 * SECOND),
            Unit::Hour => nanos(3600 * SECOND),
            Unit::Day => nanos(86_400 * SECOND),
            Unit::Week => nanos(7 * 86_400 * SECOND),
            Unit::Month => months(1),
            Unit::Quarter => months(3),
            _ => months(12),
        }
    }

    fn negated(self) -> Amount {
        Amount {
            months: self.months.saturating_neg(),
            nanos: -self.nanos,
        }
    }
}

/// Units of a composed one, the largest first.
fn parts(unit: Unit) -> Option<&'static [Unit]> {
    use Unit::*;
    const CLOCK: [Unit; 5] = [Day, Hour, Minute, Second, Microsecond];
    Some(match unit {
        SecondMicrosecond => &CLOCK[3..],
        MinuteMicrosecond => &CLOCK[2..],
        MinuteSecond => &CLOCK[2..4],
        HourMicrosecond => &CLOCK[1..],
        HourSecond => &CLOCK[1..4],
        HourMinute => &CLOCK[1..3],
        DayMicrosecond => &CLOCK,
        DaySecond => &CLOCK[..4],
        DayMinute => &CLOCK[..3],
        DayHour => &CLOCK[..2],
        YearMonth => &[Year, Month],
        _ => return None,
    })
}

fn amount(ctx: &Ctx<'_>, arg: &Expr, unit: Unit) -> Opt<Amount> {
    if let Some(parts) = parts(unit) {
        return Ok(ctx.string(arg)?.map(|text| composed(&text, parts)));
    }
    let datum = ctx.eval(arg)?;
    let number = match &datum {
        // A text counts as far as it is a number, which for most units is a whole one.
        Datum::Bytes(text) => {
            // The server reads it as a decimal first, and complains about that.
            let number = ctx.datum_decimal(&datum)?;
            if unit == Unit::Second {
                number
            } else {
                Some(whole_prefix(text.trim_ascii()))
            }
        }
        other => ctx.datum_decimal(other)?,
    };
    let too_large = |number: &MyDecimal| number.round(0).to_i64().is_err();
    if number.as_ref().is_some_and(too_large) {
        return ctx.incorrect_time("datetime", b"a huge interval");
    }
    Ok(number.map(|number| {
        if unit == Unit::Second {
            let nanos = MyDecimal::from_i64(SECOND).checked_mul(&number.truncate(6));
            let nanos = nanos
                .ok()
                .and_then(|nanos| nanos.to_i64().ok())
                .unwrap_or(i64::MAX);
            return Amount {
                months: 0,
                nanos: i128::from(nanos),
            };
        }
        let (Ok(count) | Err(count)) = number.round(0).to_i64();
        Amount::of(unit, count)
    }))
}

/// The signed digits a text begins with.
fn whole_prefix(text: &[u8]) -> MyDecimal {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let digits = text[sign..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    MyDecimal::parse(&text[..sign + digits]).0
}

/// Numbers of a text from the right: what is missing is the larger units.
fn composed(text: &str, units: &[Unit]) -> Amount {
    let negative = text.trim_start().starts_with('-');
    let numbers: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect();
    let mut total = Amount::default();
    for (unit, digits) in units.iter().rev().zip(numbers.iter().rev()) {
        let mut count: i64 = digits.parse().unwrap_or(i64::from(i32::MAX));
        if *unit == Unit::Microsecond && digits.len() < 6 {
            count *= 10i64.pow(6 - digits.len() as u32);
        }
        let part = Amount::of(*unit, count);
        total.months = total.months.saturating_add(part.months);
        total.nanos += part.nanos;
    }
    if negative { total.negated() } else { total }
}

/// A TIME rounded and clipped; sums far beyond its range are cut first, so that rounding cannot overflow.
fn rounded(nanos: i64, fsp: u8) -> duration::Parsed {
    const FAR: i64 = i64::MAX / 2;
    duration::rounded(nanos.clamp(-FAR, FAR), fsp)
}

/// A wall time moved by nanoseconds; `None` outside the calendar.
pub(super) fn plus_nanos(time: &Time, nanos: i64, fsp: u8) -> Option<Time> {
    add(
        time,
        Amount {
            months: 0,
            nanos: i128::from(nanos),
        },
        TimeKind::Datetime,
        fsp,
    )
}

fn add(time: &Time, amount: Amount, kind: TimeKind, fsp: u8) -> Option<Time> {
    let mut civil = time.civil();
    if amount.months != 0 {
        let months = i64::from(civil.year) * 12 + i64::from(civil.month) - 1;
        let months = months.checked_add(amount.months)?;
        civil.year = u16::try_from(months.div_euclid(12))
            .ok()
            .filter(|year| *year <= 9999)?;
        civil.month = (months.rem_euclid(12) + 1) as u8;
        civil.day = civil.day.min(days_in_month(civil.year, civil.month));
    }
    if amount.nanos != 0 {
        let micros =
            i128::from(civil.seconds()) * 1_000_000 + i128::from(civil.micro) + amount.nanos / 1000;
        let seconds = i64::try_from(micros.div_euclid(1_000_000)).ok()?;
        // Years beyond the calendar by far would overflow the day arithmetic.
        const FAR: i64 = 1 << 42;
        if seconds.abs() > FAR {
            return None;
        }
        civil = Civil::from_seconds(seconds, micros.rem_euclid(1_000_000) as u32)?;
    }
    Some(Time::new(civil, kind, fsp))
}

fn overflow<T>(ctx: &Ctx<'_>) -> Opt<T> {
    const DATETIME_OVERFLOW: u16 = 1441;
    ctx.adjusted(DATETIME_OVERFLOW, || {
        "Datetime function: datetime field overflow".to_owned()
    })?;
    Ok(None)
}

pub(super) fn date_arith(ctx: &Ctx<'_>, arith: &DateArith) -> Value {
    let Some(amount) = amount(ctx, &arith.amount, arith.unit)? else {
        return Ok(Datum::Null);
    };
    let amount = if arith.minus {
        amount.negated()
    } else {
        amount
    };
    if arith.ty.tp == tp::DURATION {
        let Some(clock) = ctx.duration(&arith.date)? else {
            return Ok(Datum::Null);
        };
        let nanos = i64::try_from(i128::from(clock.nanos) + amount.nanos).unwrap_or(i64::MAX);
        let fsp = arith.ty.digits();
        return match rounded(nanos, fsp) {
            Ok(nanos) => Ok(Datum::Duration(MyDuration { nanos, fsp })),
            Err(_) => overflow::<Datum>(ctx).map(|_| Datum::Null),
        };
    }
    let Some(time) = real_time(ctx, &arith.date)? else {
        return Ok(Datum::Null);
    };
    let textual = arith.ty.family() == Family::Str;
    let (kind, fsp) = match arith.ty.tp {
        tp::DATE => (TimeKind::Date, 0),
        _ if textual => (text_kind(ctx, arith)?, 6),
        _ => (TimeKind::Datetime, arith.ty.digits()),
    };
    Ok(match add(&time, amount, kind, fsp) {
        Some(sum) if textual => written(sum),
        Some(sum) => Datum::Time(sum),
        None => overflow::<Datum>(ctx)?.unwrap_or(Datum::Null),
    })
}

/// A time as text: six digits of fraction, or none where there is no fraction.
fn written(time: Time) -> Datum {
    let fsp = if time.civil().micro == 0 { 0 } else { 6 };
    let shown = Time::from_packed(time.packed(), time.kind, fsp);
    Datum::Bytes(shown.to_string().into_bytes())
}

/// What the sum of a text and an amount is: a date when neither has a clock.
fn text_kind(ctx: &Ctx<'_>, arith: &DateArith) -> Result<TimeKind, EvalError> {
    const DATE_LEN: usize = 10;
    let text = ctx.text(&arith.date)?.unwrap_or_default();
    let date = text.trim_ascii().len() <= DATE_LEN && arith.unit.is_date_part();
    Ok(if date {
        TimeKind::Date
    } else {
        TimeKind::Datetime
    })
}

fn add_time_ty(args: &[Expr]) -> Ty {
    let fsp = fsp_of(&args[0]).max(fsp_of(&args[1]));
    match args[0].ty.family() {
        Family::Time => Ty::time(tp::DATETIME, fsp),
        Family::Duration => Ty::time(tp::DURATION, fsp),
        _ => Ty::plain_text(),
    }
}

fn add_time(ctx: &Ctx<'_>, call: &Call, sign: i64) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let (first, clock) = (ctx.eval(left)?, ctx.duration(right)?);
    let Some(clock) = clock.filter(|_| !first.is_null()) else {
        return Ok(Datum::Null);
    };
    let text = match &first {
        Datum::Bytes(text) => Some(text.clone()),
        _ => None,
    };
    let is_date = match &text {
        Some(text) => text.iter().filter(|byte| **byte == b'-').count() >= 2,
        None => matches!(first, Datum::Time(_)),
    };
    let written = |datum: Datum| match (&text, datum.to_text()) {
        (Some(_), Some(shown)) => Datum::Bytes(shown),
        _ => datum,
    };
    if is_date {
        let time = ctx.datum_time(&first, TimeKind::Datetime)?;
        let Some(time) = time.filter(|time| !time.is_zero()) else {
            return Ok(Datum::Null);
        };
        let fsp = if text.is_some() {
            fraction_shown(time.fsp.max(clock.fsp))
        } else {
            call.ty.digits()
        };
        let sum = plus_nanos(&time, sign * clock.nanos, fsp);
        // Beside a text the sum shows a fraction only where it has one.
        let shown = |sum: Time| match right.ty.family() {
            Family::Str if sum.civil().micro == 0 => Time::from_packed(sum.packed(), sum.kind, 0),
            _ => sum,
        };
        return Ok(sum.map_or(Datum::Null, |sum| written(Datum::Time(shown(sum)))));
    }
    let Some(time) = ctx.datum_duration(&first)? else {
        return Ok(Datum::Null);
    };
    let fsp = if text.is_some() {
        fraction_shown(time.fsp.max(clock.fsp))
    } else {
        call.ty.digits()
    };
    let (Ok(nanos) | Err(nanos)) = rounded(time.nanos + sign * clock.nanos, 6);
    Ok(written(Datum::Duration(MyDuration { nanos, fsp })))
}

/// Text shows all six digits or none.
fn fraction_shown(fsp: u8) -> u8 {
    if fsp > 0 { 6 } else { 0 }
}

fn time_diff(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (a, b) = (ctx.eval(&call.args[0])?, ctx.eval(&call.args[1])?);
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    let dated = |datum: &Datum| match datum {
        Datum::Bytes(text) => text.iter().filter(|byte| **byte == b'-').count() >= 2,
        other => matches!(other, Datum::Time(_)),
    };
    if dated(&a) != dated(&b) {
        return Ok(Datum::Null);
    }
    let nanos = if dated(&a) {
        let (a, b) = (
            ctx.datum_time(&a, TimeKind::Datetime)?,
            ctx.datum_time(&b, TimeKind::Datetime)?,
        );
        a.zip(b)
            .map(|(a, b)| (micros(&a) - micros(&b)).saturating_mul(1000))
    } else {
        ctx.datum_duration(&a)?
            .zip(ctx.datum_duration(&b)?)
            .map(|(a, b)| a.nanos - b.nanos)
    };
    Ok(nanos.map_or(Datum::Null, |nanos| {
        let (Ok(nanos) | Err(nanos)) = rounded(nanos, 6);
        Datum::Duration(MyDuration {
            nanos,
            fsp: call.ty.digits(),
        })
    }))
}

fn micros(time: &Time) -> i64 {
    let civil = time.civil();
    civil.seconds() * 1_000_000 + i64::from(civil.micro)
}

fn unit_arg(ctx: &Ctx<'_>, call: &Call) -> Result<Unit, EvalError> {
    let name = ctx.string(&call.args[0])?.unwrap_or_default();
    Unit::from_name(&name).ok_or_else(|| wrong_arguments("timestampdiff"))
}

/// Whole units from the first date to the second.
fn timestamp_diff(ctx: &Ctx<'_>, call: &Call) -> Value {
    let unit = unit_arg(ctx, call)?;
    let (from, to) = (
        real_time(ctx, &call.args[1])?,
        real_time(ctx, &call.args[2])?,
    );
    let (Some(from), Some(to)) = (from, to) else {
        return Ok(Datum::Null);
    };
    let distance = micros(&to) - micros(&from);
    let each = match unit {
        Unit::Microsecond => 1,
        Unit::Second => 1_000_000,
        Unit::Minute => 60_000_000,
        Unit::Hour => 3_600_000_000,
        Unit::Day => 86_400_000_000,
        Unit::Week => 604_800_000_000,
        Unit::Month => return Ok(Datum::Int(months_between(&from, &to))),
        Unit::Quarter => return Ok(Datum::Int(months_between(&from, &to) / 3)),
        _ => return Ok(Datum::Int(months_between(&from, &to) / 12)),
    };
    Ok(Datum::Int(distance / each))
}

fn months_between(from: &Time, to: &Time) -> i64 {
    if to < from {
        return -months_between(to, from);
    }
    let (a, b) = (from.civil(), to.civil());
    let months = |c: &Civil| i64::from(c.year) * 12 + i64::from(c.month);
    let within = |c: &Civil| (c.day, c.hour, c.minute, c.second, c.micro);
    months(&b) - months(&a) - i64::from(within(&b) < within(&a))
}

fn timestamp_add(ctx: &Ctx<'_>, call: &Call) -> Value {
    let unit = unit_arg(ctx, call)?;
    let amount = amount(ctx, &call.args[1], unit)?;
    let time = real_time(ctx, &call.args[2])?;
    let (Some(amount), Some(time)) = (amount, time) else {
        return Ok(Datum::Null);
    };
    let date_only = call.args[2].ty.tp == tp::DATE && unit.is_date_part();
    let kind = if date_only {
        TimeKind::Date
    } else {
        TimeKind::Datetime
    };
    Ok(match add(&time, amount, kind, 6) {
        Some(sum) => written(sum),
        None => overflow::<Datum>(ctx)?.unwrap_or(Datum::Null),
    })
}
