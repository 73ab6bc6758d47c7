//! What a statement sees: a snapshot of the cluster with the transaction's own writes laid over it.

use crate::engine::{KvEngine, Pair, ScanLimit};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use thunderhead_types::{KeyRange, Result, Timestamp, next_key};

/// Buffered writes; `None` deletes.
pub type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A snapshot and the writes over it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    pub engine: Arc<dyn KvEngine>,
    pub ts: Timestamp,
    pub writes: Arc<Writes>,
}

impl View {
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(key, self.ts),
        }
    }

    /// All pairs of `range`, in key order.
    pub fn scan(&self, range: KeyRange) -> ViewScan {
        ViewScan {
            view: self.clone(),
            range,
            batch: Vec::new().into_iter(),
            done: false,
        }
    }
}

/// Pairs of a view, fetched batch by batch.
pub struct ViewScan {
    view: View,
    range: KeyRange,
    batch: std::vec::IntoIter<Pair>,
    done: bool,
}

impl ViewScan {
    fn refill(&mut self) -> Result<()> {
        let stored = self
            .view
            .engine
            .scan(&self.range, self.view.ts, ScanLimit::default())?;
        let mut covered = self.range.clone();
        match stored.last() {
            Some((key, _)) => {
                covered.end = next_key(key);
                self.range.start.clone_from(&covered.end);
            }
            None => self.done = true,
        }
        let upper = if covered.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(covered.end)
        };
        // An empty or reversed range would make the map's range panic.
        let valid = !matches!(&upper, Bound::Excluded(end) if *end <= covered.start);
        let mut over = valid
            .then(|| {
                self.view
                    .writes
                    .range((Bound::Included(covered.start), upper))
            })
            .into_iter()
            .flatten()
            .peekable();
        if over.peek().is_none() {
            self.batch = stored.into_iter();
            return Ok(());
        }
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in over {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        self.batch = merged.into_iter().collect::<Vec<_>>().into_iter();
        Ok(())
    }
}

impl Iterator for ViewScan {
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
