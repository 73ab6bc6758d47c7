//! DATE, DATETIME, TIMESTAMP and TIME: parsing is [`crate::time`]'s; here are the types' ranges and the
//! policies about zero and impossible dates.

use super::{Cast, Cell, Field, Problem, Rules, bad, field_text, hard};
use crate::mysql::code;
use crate::session::SqlMode;
use crate::time::duration::{self, NANOS};
use crate::time::parse::{self, DateRules};
use crate::time::{Civil, LocalTime, MyDuration, Time, TimeKind};

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) kind: TimeKind,
    pub(crate) fsp: u8,
}

/// 1970-01-01 00:00:01.
const TIMESTAMP_MIN: i64 = 1;
/// 2038-01-19 03:14:07.
const TIMESTAMP_MAX: i64 = i32::MAX as i64;

impl Spec {
    fn word(&self) -> &'static str {
        match self.kind {
            TimeKind::Date => "date",
            TimeKind::Datetime => "datetime",
            TimeKind::Timestamp => "timestamp",
        }
    }

    /// Digits of fraction kept while parsing: a DATE rounds to whole seconds before it drops them.
    fn parse_fsp(&self) -> u8 {
        if self.kind == TimeKind::Date {
            0
        } else {
            self.fsp
        }
    }

    fn incorrect<'a>(&self) -> Cast<'a> {
        bad(Problem::IncorrectTime(self.word()), Cell::Time(0))
    }

    /// The packed value of a plain text, which is valid in every mode.
    #[inline]
    pub(crate) fn plain(&self, text: &[u8], rules: &Rules) -> Option<u64> {
        let civil = parse::plain(text, self.parse_fsp())?;
        match self.kind {
            // Only the clock of a DATE has to go.
            TimeKind::Date => Some(
                Civil {
                    hour: 0,
                    minute: 0,
                    second: 0,
                    ..civil
                }
                .packed(),
            ),
            TimeKind::Datetime => Some(civil.packed()),
            TimeKind::Timestamp => match rules.session.time_zone.instant_of(civil.seconds()) {
                LocalTime::At(instant) => (TIMESTAMP_MIN..=TIMESTAMP_MAX)
                    .contains(&instant)
                    .then(|| civil.packed()),
                LocalTime::Gap(_) => None,
            },
        }
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>, rules: &Rules) -> Cast<'a> {
        let mode = rules.session.sql_mode;
        let dates = DateRules {
            zero_in_date: mode.parses_zero_in_date(),
            invalid_dates: mode.has(SqlMode::ALLOW_INVALID_DATES),
        };
        let zone = &rules.session.time_zone;
        let parsed = match field {
            Field::Null => return Ok(Cell::Null),
            Field::Text(text) => parse::datetime(text, self.parse_fsp(), zone),
            Field::Binary(_) => return no_conversion("binary literal", self.word()),
            Field::Int(v) => parse::from_number(v),
            // The server has no way from an unsigned number to a TIMESTAMP.
            Field::UInt(_) if self.kind == TimeKind::Timestamp => {
                return no_conversion("unsigned bigint", "timestamp");
            }
            Field::UInt(v) => i64::try_from(v).ok().and_then(parse::from_number),
            Field::Decimal(_) => parse::datetime(&field_text(&field), self.parse_fsp(), zone),
            Field::Float(_) | Field::Double(_) => {
                return no_conversion("double", self.word());
            }
            Field::Time(v) if self.kind == TimeKind::Date => Some(v.civil()),
            Field::Time(v) => v.rounded(self.fsp).map(|time| time.civil()),
            Field::Duration(v) => on_today(v, rules)
                .rounded(self.parse_fsp())
                .map(|time| time.civil()),
        };
        match parsed.filter(|civil| self.allows(civil, dates)) {
            Some(civil) => self.settle(civil, rules),
            None => self.incorrect(),
        }
    }

    /// What the type can hold, zero dates aside.
    fn allows(&self, civil: &Civil, dates: DateRules) -> bool {
        let invalid_dates = dates.invalid_dates && self.kind != TimeKind::Timestamp;
        parse::valid_date(
            civil,
            DateRules {
                invalid_dates,
                ..dates
            },
        ) && (self.kind == TimeKind::Date || parse::valid_clock(civil))
    }

    /// The policies about zero dates, and the range of TIMESTAMP.
    fn settle<'a>(&self, civil: Civil, rules: &Rules) -> Cast<'a> {
        let mode = rules.session.sql_mode;
        let civil = match self.kind {
            TimeKind::Date => Civil {
                hour: 0,
                minute: 0,
                second: 0,
                micro: 0,
                ..civil
            },
            _ => civil,
        };
        if civil == Civil::default() {
            let refused = mode.has(SqlMode::NO_ZERO_DATE);
            return if refused {
                self.incorrect()
            } else {
                Ok(Cell::Time(0))
            };
        }
        if civil.month == 0 || civil.day == 0 {
            let refused = mode.has(SqlMode::NO_ZERO_IN_DATE) || self.kind == TimeKind::Timestamp;
            return if refused {
                self.incorrect()
            } else {
                Ok(Cell::Time(civil.packed()))
            };
        }
        if self.kind != TimeKind::Timestamp {
            return Ok(Cell::Time(civil.packed()));
        }
        match rules.session.time_zone.instant_of(civil.seconds()) {
            LocalTime::At(instant) if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&instant) => {
                Ok(Cell::Time(civil.packed()))
            }
            LocalTime::At(_) => self.incorrect(),
            LocalTime::Gap(instant) => {
                let local = rules
                    .session
                    .time_zone
                    .at(instant * 1_000_000, self.kind, self.fsp);
                bad(
                    Problem::IncorrectTime(self.word()),
                    Cell::Time(local.packed()),
                )
            }
        }
    }
}

/// A kind of value that the server does not convert to the type in any mode.
fn no_conversion<'a>(from: &str, to: &str) -> Cast<'a> {
    let message = format!("cannot convert datum from {from} to type {to}");
    hard(code::UNKNOWN_ERROR, message)
}

/// A TIME of the session's day.
fn on_today(duration: MyDuration, rules: &Rules) -> Time {
    let session = &rules.session;
    let today = session
        .time_zone
        .at(session.now_us, TimeKind::Datetime, 6)
        .to_date();
    let seconds = today.civil().seconds() + duration.nanos.div_euclid(NANOS);
    let micro = (duration.nanos.rem_euclid(NANOS) / 1000) as u32;
    let civil = Civil::from_seconds(seconds, micro).unwrap_or_default();
    Time::new(civil, TimeKind::Datetime, 6)
}

/// TIME(fsp).
pub(crate) fn cast_duration<'a>(field: Field<'a>, fsp: u8, rules: &Rules) -> Cast<'a> {
    let parsed = match field {
        Field::Null => return Ok(Cell::Null),
        Field::Text(text) => duration::parse(text, fsp, &rules.session.time_zone),
        Field::Binary(_) => return no_conversion("binary literal", "time"),
        Field::Int(v) => duration::from_number(v),
        Field::UInt(v) => duration::from_number(i64::try_from(v).unwrap_or(i64::MAX)),
        Field::Duration(v) => duration::rounded(v.nanos, fsp),
        Field::Time(v) => {
            let civil = v.civil();
            let clock = i64::from(civil.hour) * 3600
                + i64::from(civil.minute) * 60
                + i64::from(civil.second);
            duration::rounded(clock * NANOS + i64::from(civil.micro) * 1000, fsp)
        }
        other => duration::parse(&field_text(&other), fsp, &rules.session.time_zone),
    };
    match parsed {
        Ok(nanos) => Ok(Cell::Duration(nanos)),
        Err(nanos) => bad(Problem::IncorrectTime("time"), Cell::Duration(nanos)),
    }
}
