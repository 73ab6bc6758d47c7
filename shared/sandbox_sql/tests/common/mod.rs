//! An engine in memory, with versions, for the tests of this crate.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use thunderhead_sandbox_sql::{CommitError, KvEngine, Mutation, Pair, ScanLimit};
use thunderhead_types::{Checksum, KeyRange, Result, Timestamp};

type Versions = BTreeMap<Timestamp, Option<Vec<u8>>>;

/// All versions of all keys.
#[derive(Default)]
pub struct MemEngine {
    keys: parking_lot::RwLock<BTreeMap<Vec<u8>, Versions>>,
    clock: AtomicU64,
    pub splits: parking_lot::Mutex<Vec<Vec<u8>>>,
}

impl MemEngine {
    /// Visits the newest visible value of each key until `visit` says stop.
    fn each(&self, range: &KeyRange, ts: Timestamp, mut visit: impl FnMut(&[u8], &[u8]) -> bool) {
        let keys = self.keys.read();
        let end = if range.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(range.end.clone()) };
        for (key, versions) in keys.range((Bound::Included(range.start.clone()), end)) {
            if let Some((_, Some(value))) = versions.range(..=ts).next_back()
                && !visit(key, value)
            {
                return;
            }
        }
    }
}

impl KvEngine for MemEngine {
    fn tso(&self) -> Result<Timestamp> {
        Ok((1u64 << 50) + self.clock.fetch_add(1, Ordering::SeqCst))
    }

    fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Vec<u8>>> {
        let keys = self.keys.read();
        Ok(keys.get(key).and_then(|v| v.range(..=ts).next_back()).and_then(|(_, v)| v.clone()))
    }

    fn scan(&self, range: &KeyRange, ts: Timestamp, limit: ScanLimit) -> Result<Vec<Pair>> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        self.each(range, ts, |key, value| {
            bytes += key.len() + value.len();
            pairs.push((key.to_vec(), value.to_vec()));
            pairs.len() < limit.pairs && bytes < limit.bytes
        });
        Ok(pairs)
    }

    fn commit(&self, start_ts: Timestamp, mutations: &[Mutation]) -> Result<Timestamp, CommitError> {
        let mut keys = self.keys.write();
        let newer = |m: &Mutation| {
            keys.get(m.key()).and_then(|v| v.last_key_value()).is_some_and(|(ts, _)| *ts > start_ts)
        };
        if mutations.iter().any(newer) {
            return Err(CommitError::Conflict);
        }
        let commit_ts = self.tso()?;
        for mutation in mutations {
            let (key, value) = match mutation {
                Mutation::Put(key, value) => (key, Some(value.clone())),
                Mutation::Delete(key) => (key, None),
            };
            keys.entry(key.clone()).or_default().insert(commit_ts, value);
        }
        Ok(commit_ts)
    }

    fn destroy_range(&self, range: &KeyRange) -> Result<()> {
        self.keys.write().retain(|key, _| !range.contains(key));
        Ok(())
    }

    fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        let mut sum = Checksum::default();
        self.each(range, ts, |key, value| {
            sum.add(key, value);
            true
        });
        Ok(sum)
    }

    fn split(&self, keys: &[Vec<u8>]) -> Result<()> {
        self.splits.lock().extend_from_slice(keys);
        Ok(())
    }
}
