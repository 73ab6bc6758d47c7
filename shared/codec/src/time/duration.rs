//! TIME values.

use super::write_fraction;
use std::fmt;

/// Most that a TIME holds: 838:59:59.
pub const DURATION_SECONDS_MAX: i64 = 838 * 3600 + 59 * 60 + 59;
pub(crate) const NANOS: i64 = 1_000_000_000;

/// A TIME: signed nanoseconds, shown with `fsp` digits of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MyDuration {
    pub nanos: i64,
    pub fsp: u8,
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
