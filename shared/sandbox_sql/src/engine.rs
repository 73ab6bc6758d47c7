//! The key-value surface this crate stands on: snapshots, atomic commits, timestamps, ranges. Keys are
//! raw user keys (no `z` prefix, no memcomparable wrapping, no timestamp); what lies behind them
//! (regions, stores, RocksDB) is the implementor's matter. All calls block and are made from threads
//! that may block.

use thunderhead_types::{Checksum, Error, KeyRange, Result, Timestamp, next_key};

/// One key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Sets `key` to the value.
    Put(Vec<u8>, Vec<u8>),
    /// Removes `key`; removing a missing key is no error.
    Delete(Vec<u8>),
}

impl Mutation {
    /// The key that changes.
    pub fn key(&self) -> &[u8] {
        match self {
            Mutation::Put(key, _) | Mutation::Delete(key) => key,
        }
    }
}

/// Why a commit did not happen. Nothing of it is visible then.
#[derive(Debug)]
pub enum CommitError {
    /// Another transaction committed one of the keys after `start_ts`; the caller may run again.
    Conflict,
    /// The cluster failed.
    Failed(Error),
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        CommitError::Failed(error)
    }
}

/// What the SQL face needs from the cluster's storage.
pub trait KvEngine: Send + Sync {
    /// A fresh timestamp, greater than every one given out before.
    fn tso(&self) -> Result<Timestamp>;

    /// The value of `key` as of `ts`.
    fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Vec<u8>>>;

    /// The first pairs of `range` as of `ts`, in key order: at most `limit.pairs` of them, and no more
    /// once their keys and values reach `limit.bytes`. Empty only when nothing is left in the range.
    fn scan(&self, range: &KeyRange, ts: Timestamp, limit: ScanLimit) -> Result<Vec<Pair>>;

    /// Commits all of `mutations` or none, at a timestamp taken inside; `Conflict` when any of the
    /// keys has a version newer than `start_ts`. A key occurs at most once.
    fn commit(&self, start_ts: Timestamp, mutations: &[Mutation])
    -> Result<Timestamp, CommitError>;

    /// Physically drops every version of every key of `range`.
    fn destroy_range(&self, range: &KeyRange) -> Result<()>;

    /// The tally of all pairs of `range` as of `ts`.
    fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum>;

    /// Makes each key the first key of a region.
    fn split(&self, keys: &[Vec<u8>]) -> Result<()>;
}

/// Bounds of one scan call.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// At most this many pairs; at least 1.
    pub pairs: usize,
    /// Stop once keys and values amount to this many bytes.
    pub bytes: usize,
}

impl Default for ScanLimit {
    /// Batches large enough to make the call's cost small, small enough to hold several at a time.
    fn default() -> Self {
        Self {
            pairs: 2048,
            bytes: 1 << 20,
        }
    }
}

/// All pairs of a range at one timestamp, fetched batch by batch.
pub struct Scanner<'a> {
    engine: &'a dyn KvEngine,
    range: KeyRange,
    ts: Timestamp,
    batch: std::vec::IntoIter<Pair>,
    done: bool,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `range`.
    pub fn new(engine: &'a dyn KvEngine, range: KeyRange, ts: Timestamp) -> Self {
        Self {
            engine,
            range,
            ts,
            batch: Vec::new().into_iter(),
            done: false,
        }
    }

    fn refill(&mut self) -> Result<()> {
        let batch = self
            .engine
            .scan(&self.range, self.ts, ScanLimit::default())?;
        match batch.last() {
            Some((key, _)) => self.range.start = next_key(key),
            None => self.done = true,
        }
        self.batch = batch.into_iter();
        Ok(())
    }
}

impl Iterator for Scanner<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.batch.next() {
                return Some(Ok(pair));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.refill() {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}
