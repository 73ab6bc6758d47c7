//! DATE, DATETIME, TIMESTAMP and TIME values: their packed form, their text, calendar arithmetic and time
//! zones. Reading text into them is [`parse`] and [`duration`]; policies about zero dates are the casts'.

pub mod duration;
pub mod parse;
mod zone;

pub use duration::MyDuration;
pub use zone::{LocalTime, Zone, ZoneError};

use std::fmt;

pub(crate) const DAY_SECONDS: i64 = 86_400;

/// Which temporal type a [`Time`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeKind {
    Date,
    Datetime,
    Timestamp,
}

/// A wall time, possibly zero, possibly with month or day 0. Ordered and equal by instant of wall time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    packed: u64,
    pub kind: TimeKind,
    /// Digits of the fraction that are shown.
    pub fsp: u8,
}

/// Fields of a [`Time`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Civil {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micro: u32,
}

impl Civil {
    /// `((year*13+month)<<5 | day) << 17 | hour<<12 | minute<<6 | second`, then `<<24 | microsecond`.
    pub fn packed(&self) -> u64 {
        let day = (u64::from(self.year) * 13 + u64::from(self.month)) << 5 | u64::from(self.day);
        let clock =
            u64::from(self.hour) << 12 | u64::from(self.minute) << 6 | u64::from(self.second);
        (day << 17 | clock) << 24 | u64::from(self.micro)
    }

    pub fn from_packed(packed: u64) -> Civil {
        let micro = (packed & 0xff_ffff) as u32;
        let seconds = packed >> 24;
        let days = seconds >> 17;
        let months = days >> 5;
        Civil {
            year: (months / 13) as u16,
            month: (months % 13) as u8,
            day: (days & 31) as u8,
            hour: (seconds >> 12 & 31) as u8,
            minute: (seconds >> 6 & 63) as u8,
            second: (seconds & 63) as u8,
            micro,
        }
    }

    /// Seconds since 1970-01-01 00:00:00 of the same wall clock.
    pub fn seconds(&self) -> i64 {
        days_from_civil(i64::from(self.year), self.month, self.day) * DAY_SECONDS
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// The wall clock at `seconds`; `None` outside years 0..=9999.
    pub fn from_seconds(seconds: i64, micro: u32) -> Option<Civil> {
        let (days, clock) = (
            seconds.div_euclid(DAY_SECONDS),
            seconds.rem_euclid(DAY_SECONDS) as u32,
        );
        let (year, month, day) = civil_from_days(days);
        Some(Civil {
            year: u16::try_from(year).ok().filter(|y| *y <= 9999)?,
            month,
            day,
            hour: (clock / 3600) as u8,
            minute: (clock / 60 % 60) as u8,
            second: (clock % 60) as u8,
            micro,
        })
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
pub fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    // Years start in March here, which puts the leap day last.
    let (month, day) = (i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Inverse of [`days_from_civil`].
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8;
    let month = (if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    }) as u8;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

pub fn is_leap_year(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of a month 1..=12.
pub fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(is_leap_year(year)),
        _ => 31,
    }
}

impl Time {
    pub fn new(civil: Civil, kind: TimeKind, fsp: u8) -> Time {
        Time {
            packed: civil.packed(),
            kind,
            fsp,
        }
    }

    pub fn from_packed(packed: u64, kind: TimeKind, fsp: u8) -> Time {
        Time { packed, kind, fsp }
    }

    pub fn zero(kind: TimeKind, fsp: u8) -> Time {
        Time {
            packed: 0,
            kind,
            fsp,
        }
    }

    /// Packed wall time, as keys and rows hold it (a TIMESTAMP in UTC there).
    pub fn packed(&self) -> u64 {
        self.packed
    }

    pub fn civil(&self) -> Civil {
        Civil::from_packed(self.packed)
    }

    pub fn is_zero(&self) -> bool {
        self.packed == 0
    }

    /// Month or day is 0, the zero date included.
    pub fn is_zero_in_date(&self) -> bool {
        let civil = self.civil();
        civil.month == 0 || civil.day == 0
    }

    /// Rounds the fraction half up to `fsp` digits, looking only at digit `fsp + 1`, carrying through the
    /// calendar. `None` when the carry leaves the calendar (year 9999, or month or day 0).
    pub fn rounded(self, fsp: u8) -> Option<Time> {
        let unit = 10u32.pow(u32::from(6 - fsp.min(6)));
        let mut civil = self.civil();
        let kept = civil.micro / unit * unit;
        let up = fsp < 6 && civil.micro / (unit / 10) % 10 >= 5;
        let micro = kept + if up { unit } else { 0 };
        if micro < 1_000_000 {
            civil.micro = micro;
            return Some(Time {
                packed: civil.packed(),
                kind: self.kind,
                fsp,
            });
        }
        Time {
            packed: self.packed,
            kind: self.kind,
            fsp,
        }
        .with_seconds_added(1)
    }

    /// Adds seconds and drops the fraction.
    fn with_seconds_added(self, seconds: i64) -> Option<Time> {
        let civil = self.civil();
        if civil.month == 0 || civil.day == 0 {
            return None;
        }
        let civil = Civil::from_seconds(civil.seconds() + seconds, 0)?;
        Some(Time {
            packed: civil.packed(),
            ..self
        })
    }

    /// The date with the clock at zero.
    pub fn to_date(self) -> Time {
        let civil = Civil {
            hour: 0,
            minute: 0,
            second: 0,
            micro: 0,
            ..self.civil()
        };
        Time {
            packed: civil.packed(),
            kind: TimeKind::Date,
            fsp: 0,
        }
    }

    /// `yyyymmdd`, or `yyyymmddhhmmss` for a type with a clock; the fraction is cut.
    pub fn to_number(self) -> i64 {
        let c = self.civil();
        let date = i64::from(c.year) * 10_000 + i64::from(c.month) * 100 + i64::from(c.day);
        if self.kind == TimeKind::Date {
            return date;
        }
        date * 1_000_000
            + i64::from(c.hour) * 10_000
            + i64::from(c.minute) * 100
            + i64::from(c.second)
    }
}

impl PartialEq for Time {
    fn eq(&self, other: &Time) -> bool {
        self.packed == other.packed
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Time) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Time) -> std::cmp::Ordering {
        self.packed.cmp(&other.packed)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(f, "{:04}-{:02}-{:02}", c.year, c.month, c.day)?;
        if self.kind == TimeKind::Date {
            return Ok(());
        }
        write!(f, " {:02}:{:02}:{:02}", c.hour, c.minute, c.second)?;
        write_fraction(f, c.micro, self.fsp)
    }
}

/// Writes `.ffffff` cut to `fsp` digits.
pub(crate) fn write_fraction(f: &mut fmt::Formatter<'_>, micro: u32, fsp: u8) -> fmt::Result {
    let fsp = usize::from(fsp.min(6));
    if fsp == 0 {
        return Ok(());
    }
    write!(
        f,
        ".{:0width$}",
        micro / 10u32.pow(6 - fsp as u32),
        width = fsp
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: (u16, u8, u8, u8, u8, u8, u32)) -> Civil {
        let (year, month, day, hour, minute, second, micro) = text;
        Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micro,
        }
    }

    #[test]
    fn packed_form_has_the_published_bits() {
        assert_eq!(
            at((2024, 2, 29, 23, 59, 59, 123_456)).packed(),
            0x19b2_bb7e_fb01_e240
        );
        assert_eq!(at((2020, 0, 0, 0, 0, 0, 0)).packed(), 0x19a5_0000_0000_0000);
        assert_eq!(
            at((9999, 12, 31, 23, 59, 59, 999_999)).packed(),
            0x7ef3_ff7e_fb0f_423f
        );
    }

    #[test]
    fn days_and_dates_are_inverse_over_all_years() {
        for days in (-719_528..2_932_896).step_by(13) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(civil_from_days(19_782), (2024, 2, 29));
    }

    #[test]
    fn rounding_looks_at_one_digit_and_carries_through_the_calendar() {
        let time = |micro| Time::new(at((2019, 12, 31, 23, 59, 59, micro)), TimeKind::Datetime, 6);
        assert_eq!(
            time(900_000).rounded(0).unwrap().to_string(),
            "2020-01-01 00:00:00"
        );
        assert_eq!(
            time(123_490).rounded(3).unwrap().to_string(),
            "2019-12-31 23:59:59.123"
        );
        assert_eq!(
            time(123_500).rounded(3).unwrap().to_string(),
            "2019-12-31 23:59:59.124"
        );
        assert_eq!(
            time(499_999).rounded(0).unwrap().to_string(),
            "2019-12-31 23:59:59"
        );
    }
}
