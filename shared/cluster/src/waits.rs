//! Time spent waiting, by what for: what a writer waits for most is what holds the import up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A sum of waiting times.
#[derive(Debug, Default)]
pub struct Waited(AtomicU64);

impl Waited {
    /// Awaits `work` and adds the time it took.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.add(start.elapsed());
        done
    }

    /// Adds to the sum.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    /// The sum in milliseconds.
    pub fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1000
    }
}

/// What writers to regions wait for, summed over all of them.
#[derive(Debug, Default)]
pub struct Waits {
    /// For sorted pairs.
    pub pairs: Waited,
    /// For the limit of bytes per second.
    pub limit: Waited,
    /// For stores: to take data, to finish files, to ingest them.
    pub stores: Waited,
}
