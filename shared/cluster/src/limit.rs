//! How many bytes a second may go to each store. Every message takes its place in the store's queue before it is
//! sent; a limit that changes lets whoever waits go on, so that a raised limit is felt at once.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// A store that was not written to for a while may get this much at once.
const BURST: Duration = Duration::from_millis(200);

/// Limits of one importer.
pub(crate) struct StoreLimits {
    /// Bytes per second and store; 0 = no limit.
    rate: watch::Sender<u64>,
    /// When everything that was let through so far is paid for.
    paid_at: Mutex<HashMap<u64, Instant>>,
}

impl StoreLimits {
    pub fn new() -> Self {
        Self {
            rate: watch::Sender::new(0),
            paid_at: Mutex::default(),
        }
    }

    pub fn set(&self, bytes_per_second: u64) {
        self.rate.send_if_modified(|rate| {
            let changed = *rate != bytes_per_second;
            if changed {
                *rate = bytes_per_second;
                self.paid_at.lock().clear();
            }
            changed
        });
    }

    /// Waits until `bytes` may go to `store`.
    pub async fn take(&self, store: u64, bytes: usize) {
        let mut changes = self.rate.subscribe();
        let rate = *changes.borrow_and_update();
        if rate == 0 {
            return;
        }
        let start = {
            let mut paid_at = self.paid_at.lock();
            let now = Instant::now();
            let at = paid_at.entry(store).or_insert(now);
            let start = (*at).max(now.checked_sub(BURST).unwrap_or(now));
            *at = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
            start
        };
        tokio::select! {
            () = tokio::time::sleep_until(start) => {}
            // An error would say that the limits are gone: nothing to wait for either.
            _ = changes.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    async fn elapsed(work: impl Future<Output = ()>) -> Duration {
        let start = Instant::now();
        work.await;
        start.elapsed()
    }

    #[tokio::test]
    async fn a_store_gets_what_the_limit_says_whoever_writes_and_others_are_not_held_back() {
        let limits = StoreLimits::new();
        limits.set(100_000);
        let writer = async |store: u64, messages: usize| {
            for _ in 0..messages {
                limits.take(store, 1000).await;
            }
        };
        let start = Instant::now();
        let other = async {
            writer(2, 5).await;
            start.elapsed()
        };
        let (_, _, other) = tokio::join!(writer(1, 25), writer(1, 26), other);
        assert!(start.elapsed() >= Duration::from_millis(490));
        assert!(other < Duration::from_millis(400));
    }

    #[tokio::test]
    async fn a_raised_limit_is_felt_by_who_already_waits() {
        let limits = Arc::new(StoreLimits::new());
        limits.set(1);
        limits.take(1, 1000).await;
        let waiting = tokio::spawn({
            let limits = Arc::clone(&limits);
            async move { elapsed(limits.take(1, 1000)).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        limits.set(0);
        assert!(waiting.await.unwrap() < Duration::from_secs(100));
        limits.take(1, 1 << 40).await;
    }
}
