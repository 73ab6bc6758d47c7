//! Whether this process runs without interruption. A process that was suspended does not know how long: meanwhile its
//! work may have been given to others and be over. So before it lets TiKV take anything in, it must have noticed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beaten regularly by a task of its own; whoever looks sees whether a beat is overdue.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    last_ms: AtomicU64,
    overdue_ms: AtomicU64,
}

impl Pulse {
    /// Without a beat for `overdue` the process counts as suspended.
    pub fn new(overdue: Duration) -> Self {
        Self {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
            overdue_ms: AtomicU64::new(whole_ms(overdue)),
        }
    }

    /// From now on, without a beat for `overdue`.
    pub fn set_overdue(&self, overdue: Duration) {
        self.overdue_ms.store(whole_ms(overdue), Ordering::SeqCst);
    }

    /// Whether the last beat is recent.
    pub fn is_steady(&self) -> bool {
        let last = self.last_ms.load(Ordering::SeqCst);
        let since = whole_ms(self.start.elapsed()).saturating_sub(last);
        since < self.overdue_ms.load(Ordering::SeqCst)
    }

    /// A beat. Whoever beats looks first whether it was steady, and ends what was in work if not.
    pub fn beat(&self) {
        self.last_ms
            .store(whole_ms(self.start.elapsed()), Ordering::SeqCst);
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_steady_until_a_beat_is_overdue() {
        let pulse = Pulse::new(Duration::from_millis(40));
        assert!(pulse.is_steady());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!pulse.is_steady());
        pulse.beat();
        assert!(pulse.is_steady());
        pulse.set_overdue(Duration::ZERO);
        assert!(!pulse.is_steady(), "a shorter lease holds at once");
    }
}
