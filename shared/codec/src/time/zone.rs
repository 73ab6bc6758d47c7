//! Time zones: a name or an offset as MySQL writes it, and the way between local and UTC wall time.

use super::{Civil, Time, TimeKind};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A zone name that is unknown, or `SYSTEM`, whose meaning is the server's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    #[error("time zone `{0}` is unknown")]
    Unknown(String),
    #[error("time zone SYSTEM must be resolved to the server's zone first")]
    System,
}

#[derive(Clone, Debug)]
enum Kind {
    Fixed(i32),
    Named(TimeZone),
}

/// A time zone. Compared and written by name.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    kind: Kind,
}

/// What a local wall time is in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalTime {
    /// Exists; where the clock was set back, the first of the two.
    At(i64),
    /// Skipped when the clock was set forward; the instant at which that happened.
    Gap(i64),
}

const OFFSET_HOURS_MAX: i32 = 14;

impl Zone {
    pub fn utc() -> Zone {
        Zone {
            name: "UTC".to_owned(),
            kind: Kind::Fixed(0),
        }
    }

    /// Reads `+08:00`, `UTC` or a name of the zone database.
    pub fn parse(name: &str) -> Result<Zone, ZoneError> {
        let kind = if name.eq_ignore_ascii_case("utc") {
            Kind::Fixed(0)
        } else if name.eq_ignore_ascii_case("system") {
            return Err(ZoneError::System);
        } else if let Some(seconds) = parse_offset(name) {
            Kind::Fixed(seconds)
        } else {
            Kind::Named(TimeZone::get(name).map_err(|_| ZoneError::Unknown(name.to_owned()))?)
        };
        Ok(Zone {
            name: name.to_owned(),
            kind,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Instant (Unix seconds) of a wall time given as seconds since 1970 of the same wall clock.
    pub fn instant_of(&self, local_seconds: i64) -> LocalTime {
        let tz = match &self.kind {
            Kind::Fixed(offset) => return LocalTime::At(local_seconds - i64::from(*offset)),
            Kind::Named(tz) => tz,
        };
        let Some(datetime) = civil_datetime(local_seconds) else {
            return LocalTime::At(local_seconds);
        };
        let seconds = |offset: Offset| local_seconds - i64::from(offset.seconds());
        match tz.to_ambiguous_timestamp(datetime).offset() {
            AmbiguousOffset::Unambiguous { offset } => LocalTime::At(seconds(offset)),
            AmbiguousOffset::Fold { before, .. } => LocalTime::At(seconds(before)),
            AmbiguousOffset::Gap { before, after } => {
                LocalTime::Gap(gap_end(tz, seconds(after), seconds(before)))
            }
        }
    }

    /// Offset in seconds in force at an instant.
    pub fn offset_at(&self, instant: i64) -> i64 {
        match &self.kind {
            Kind::Fixed(offset) => i64::from(*offset),
            Kind::Named(tz) => jiff::Timestamp::from_second(instant)
                .map_or(0, |timestamp| i64::from(tz.to_offset(timestamp).seconds())),
        }
    }

    /// Local TIMESTAMP → UTC, as rows hold it. Zero stays zero. A time in a gap becomes the gap's end;
    /// the cast has reported it before.
    pub fn to_utc(&self, local: Time) -> Time {
        if local.is_zero() || matches!(self.kind, Kind::Fixed(0)) {
            return local;
        }
        let civil = local.civil();
        let (LocalTime::At(instant) | LocalTime::Gap(instant)) = self.instant_of(civil.seconds());
        Civil::from_seconds(instant, civil.micro)
            .map_or(local, |utc| Time::new(utc, local.kind, local.fsp))
    }

    /// UTC → local TIMESTAMP. Zero stays zero.
    pub fn to_local(&self, utc: Time) -> Time {
        if utc.is_zero() || matches!(self.kind, Kind::Fixed(0)) {
            return utc;
        }
        let civil = utc.civil();
        let instant = civil.seconds();
        Civil::from_seconds(instant + self.offset_at(instant), civil.micro)
            .map_or(utc, |local| Time::new(local, utc.kind, utc.fsp))
    }

    /// Local wall time of an instant in microseconds.
    pub fn at(&self, instant_us: i64, kind: TimeKind, fsp: u8) -> Time {
        let seconds = instant_us.div_euclid(1_000_000);
        let micro = instant_us.rem_euclid(1_000_000) as u32;
        Civil::from_seconds(seconds + self.offset_at(seconds), micro)
            .map_or(Time::zero(kind, fsp), |civil| Time::new(civil, kind, fsp))
    }
}

/// First instant in `(low, high]` whose offset is no longer that of `low`.
fn gap_end(tz: &TimeZone, low: i64, high: i64) -> i64 {
    jiff::Timestamp::from_second(low.min(high) - 1)
        .ok()
        .and_then(|from| tz.following(from).next())
        .map_or(high, |transition| transition.timestamp().as_second())
}

fn civil_datetime(seconds: i64) -> Option<jiff::civil::DateTime> {
    let c = Civil::from_seconds(seconds, 0)?;
    let small = |v: u8| i8::try_from(v).ok();
    jiff::civil::DateTime::new(
        i16::try_from(c.year).ok()?,
        small(c.month)?,
        small(c.day)?,
        small(c.hour)?,
        small(c.minute)?,
        small(c.second)?,
        0,
    )
    .ok()
}

fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let ok = (0..=OFFSET_HOURS_MAX).contains(&hours) && (0..60).contains(&minutes);
    ok.then_some(sign * (hours * 3600 + minutes * 60))
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Zone::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn local(year: u16, month: u8, day: u8, hour: u8, minute: u8) -> i64 {
        Civil {
            year,
            month,
            day,
            hour,
            minute,
            second: 0,
            micro: 0,
        }
        .seconds()
    }

    #[test]
    fn new_york_skips_an_hour_in_march_and_repeats_one_in_november() {
        let zone = Zone::parse("America/New_York").unwrap();
        let gap = zone.instant_of(local(2024, 3, 10, 2, 30));
        assert_eq!(gap, LocalTime::Gap(local(2024, 3, 10, 7, 0)));
        let fold = zone.instant_of(local(2024, 11, 3, 1, 30));
        assert_eq!(fold, LocalTime::At(local(2024, 11, 3, 5, 30)));
    }

    #[test]
    fn offsets_and_names_agree() {
        let (offset, name) = (
            Zone::parse("+08:00").unwrap(),
            Zone::parse("Asia/Shanghai").unwrap(),
        );
        let noon = local(2024, 7, 1, 12, 0);
        assert_eq!(offset.instant_of(noon), name.instant_of(noon));
        assert_eq!(Zone::parse("-03:30").unwrap().offset_at(0), -12_600);
        assert!(Zone::parse("SYSTEM").is_err() && Zone::parse("Mars/Base").is_err());
    }
}
