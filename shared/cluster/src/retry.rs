//! How long to wait before asking again, and when to give up. A [`Patience`] lives as long as nothing
//! progresses; it keeps the first cause, because the last one is often only a consequence.
//! Cancelling is dropping the future that waits.

use std::fmt::Display;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio::time::Instant;

const SHORT: Duration = Duration::from_millis(200);
const SHORT_MAX: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_millis(500);
const BUSY_MAX: Duration = Duration::from_secs(30);
/// A request may be sent again at once this often before it waits.
const AT_ONCE: u32 = 3;

/// How long to go on without progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// From the first failure after the last progress.
    pub max_elapsed: Duration,
}

impl Default for RetryPolicy {
    /// Ten minutes: longer than replacing a leader or restarting a store takes, short enough to notice.
    fn default() -> Self {
        Self {
            max_elapsed: Duration::from_secs(600),
        }
    }
}

/// How to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Not at all for the first few times, then as `Short`.
    Now,
    /// 0.2 s doubled up to 5 s.
    Short,
    /// 0.5 s doubled up to 30 s, and at least what the server asked for.
    Busy(Option<Duration>),
}

/// No progress for as long as the policy allows.
#[derive(Clone, Debug, ThisError)]
#[error("{}", self.text())]
pub(crate) struct Exhausted {
    pub first: String,
    pub last: String,
    pub tries: u32,
    pub elapsed: Duration,
}

impl Exhausted {
    fn text(&self) -> String {
        let last = if self.last == self.first {
            String::new()
        } else {
            format!("; at last: {}", self.last)
        };
        format!(
            "{} (gave up after {} tries in {:.1} s{last})",
            self.first,
            self.tries,
            self.elapsed.as_secs_f64()
        )
    }
}

#[derive(Debug)]
pub(crate) struct Patience {
    policy: RetryPolicy,
    tries: u32,
    /// Waits in a row per pace: five lost leaders do not make the first busy answer wait 16 s.
    waits: [u32; 3],
    first: Option<(Instant, String)>,
}

impl Patience {
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            tries: 0,
            waits: [0; 3],
            first: None,
        }
    }

    /// Something went well: the next failure is a first one again.
    pub fn progress(&mut self) {
        self.tries = 0;
        self.waits = [0; 3];
        self.first = None;
    }

    /// Waits after a failure, or gives up.
    pub async fn wait(&mut self, pace: Pace, cause: impl Display) -> Result<(), Exhausted> {
        let delay = self.next_delay(Instant::now(), pace, cause.to_string())?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// How long to wait after a failure at `now`, or the end of patience.
    fn next_delay(
        &mut self,
        now: Instant,
        pace: Pace,
        cause: String,
    ) -> Result<Duration, Exhausted> {
        tracing::debug!(%cause, ?pace, tries = self.tries, "will try again");
        let since = self.first.get_or_insert_with(|| (now, cause.clone())).0;
        self.tries += 1;
        let elapsed = now.duration_since(since);
        if elapsed >= self.policy.max_elapsed {
            return Err(self.exhausted(cause, elapsed));
        }
        let waits = match pace {
            Pace::Now => &mut self.waits[0],
            Pace::Short => &mut self.waits[1],
            Pace::Busy(_) => &mut self.waits[2],
        };
        *waits += 1;
        Ok(delay(pace, *waits).min(self.policy.max_elapsed - elapsed))
    }

    fn exhausted(&self, last: String, elapsed: Duration) -> Exhausted {
        Exhausted {
            first: self
                .first
                .as_ref()
                .map_or_else(|| last.clone(), |f| f.1.clone()),
            last,
            tries: self.tries,
            elapsed,
        }
    }
}

/// The wait before the `tries`th repetition at this pace, counted from 1.
fn delay(pace: Pace, tries: u32) -> Duration {
    let doubled = |base: Duration, max: Duration, n: u32| {
        let full = base.saturating_mul(1 << n.min(16)).min(max);
        // Up to a quarter less, so that many waiters do not come back together.
        full.mul_f64(rand::random_range(0.75..=1.0))
    };
    match pace {
        Pace::Now if tries <= AT_ONCE => Duration::ZERO,
        Pace::Now => doubled(SHORT, SHORT_MAX, tries - AT_ONCE - 1),
        Pace::Short => doubled(SHORT, SHORT_MAX, tries - 1),
        Pace::Busy(asked) => doubled(BUSY, BUSY_MAX, tries - 1).max(asked.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn within(seconds: u64) -> Patience {
        Patience::new(RetryPolicy {
            max_elapsed: Duration::from_secs(seconds),
        })
    }

    #[test]
    fn patience_ends_at_its_limit_and_names_the_first_cause() {
        let (mut patience, start) = (within(60), Instant::now());
        let (mut now, mut tries) = (start, 0);
        let error = loop {
            tries += 1;
            match patience.next_delay(now, Pace::Short, format!("cause {tries}")) {
                Ok(delay) => now += delay,
                Err(error) => break error,
            }
        };
        assert_eq!(error.first, "cause 1");
        assert_eq!(error.last, format!("cause {tries}"));
        assert_eq!(now - start, Duration::from_secs(60));
        assert!((15..40).contains(&tries), "{tries}");
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let (mut patience, mut now) = (within(1), Instant::now());
        for _ in 0..20 {
            now += patience
                .next_delay(now, Pace::Busy(None), "busy".to_owned())
                .unwrap();
            now += Duration::from_secs(9);
            patience.progress();
        }
    }

    #[test]
    fn a_named_leader_is_asked_at_once_but_not_for_ever() {
        let (mut patience, now) = (within(60), Instant::now());
        let mut delay = || {
            patience
                .next_delay(now, Pace::Now, "not leader".to_owned())
                .unwrap()
        };
        assert_eq!([delay(), delay(), delay()], [Duration::ZERO; 3]);
        assert!(delay() > Duration::ZERO);
    }

    #[test]
    fn the_first_busy_answer_after_other_trouble_waits_as_a_first_one() {
        let (mut patience, now) = (within(600), Instant::now());
        for _ in 0..8 {
            patience
                .next_delay(now, Pace::Short, "lost".to_owned())
                .unwrap();
        }
        let busy = patience.next_delay(now, Pace::Busy(None), "busy".to_owned());
        assert!(busy.unwrap() <= BUSY);
    }

    #[test]
    fn a_busy_server_gets_at_least_the_time_it_asked_for() {
        let asked = Duration::from_secs(45);
        assert_eq!(delay(Pace::Busy(Some(asked)), 1), asked);
        assert!(delay(Pace::Busy(Some(Duration::from_millis(1))), 1) >= Duration::from_millis(370));
        assert!(delay(Pace::Busy(None), 30) <= BUSY_MAX);
    }
}
