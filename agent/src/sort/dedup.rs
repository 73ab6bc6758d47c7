//! Equal neighbours of a merged stream. Pairs that are equal as a whole are one: the same row was read
//! twice. Equal keys with different values are a conflict: the first pair stays and the hook learns of
//! the others. What is left ascends strictly.
//!
//! A range may be read several times, in pieces and from the start again, but each pair must be counted
//! once. So what was counted is kept as a set of key intervals beside the counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use thunderhead_types::{Checksum, Result};

/// What was taken out of a merged stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// Pairs equal to the one before them, of which only the first was kept.
    pub collapsed: Checksum,
    /// Pairs with the key of the one before them, but another value; not kept either.
    pub conflicting: Checksum,
    /// Pairs of rows that are left out.
    pub left_out: Checksum,
}

impl Duplicates {
    fn merge(&mut self, other: &Duplicates) {
        self.collapsed.merge(&other.collapsed);
        self.conflicting.merge(&other.conflicting);
        self.left_out.merge(&other.left_out);
    }
}

/// Decides what happens when two pairs have the same key and different values. Called for each pair
/// that is not kept, once per pair, however often the range is read.
pub trait ConflictHook: Send + Sync {
    /// `kept` stays, `dropped` does not. An error ends the stream.
    fn conflict(&self, key: &[u8], kept: &[u8], dropped: &[u8]) -> Result<()>;
}

/// Counts over all readers of a range.
#[derive(Default)]
pub struct DuplicateCounts {
    counted: Mutex<Counted>,
    hook: Option<Arc<dyn ConflictHook>>,
}

#[derive(Default)]
struct Counted {
    total: Duplicates,
    keys: Intervals,
}

impl DuplicateCounts {
    /// Counts, and tells `hook` of conflicts.
    pub fn new(hook: Option<Arc<dyn ConflictHook>>) -> Self {
        Self {
            counted: Mutex::default(),
            hook,
        }
    }

    /// What was found in all that was read so far.
    pub fn total(&self) -> Duplicates {
        self.counted.lock().total
    }

    fn is_counted(&self, key: &[u8]) -> bool {
        self.counted.lock().keys.contains(key)
    }

    fn add(&self, found: &Duplicates, start: &[u8], end: &[u8]) {
        let mut counted = self.counted.lock();
        counted.total.merge(found);
        counted.keys.insert(start, end);
    }
}

/// Looks at the pairs of one stream that have the key of the pair before them.
pub(super) struct Dedup {
    counts: Arc<DuplicateCounts>,
    /// From here on nothing was added to `counts` yet.
    start: Vec<u8>,
    found: Duplicates,
}

impl Dedup {
    /// A stream over keys from `start` on.
    pub(super) fn new(counts: Arc<DuplicateCounts>, start: &[u8]) -> Self {
        Self {
            counts,
            start: start.to_vec(),
            found: Duplicates::default(),
        }
    }

    /// Notes a pair that is not kept, because `key` was kept with the value `kept`.
    #[cold]
    pub(super) fn drop_pair(&mut self, key: &[u8], kept: &[u8], value: &[u8]) -> Result<()> {
        if self.counts.is_counted(key) {
            return Ok(());
        }
        if kept == value {
            self.found.collapsed.add(key, value);
            return Ok(());
        }
        self.found.conflicting.add(key, value);
        self.counts
            .hook
            .as_ref()
            .map_or(Ok(()), |hook| hook.conflict(key, kept, value))
    }

    /// Notes a pair of a row that is left out.
    pub(super) fn leave_out(&mut self, key: &[u8], value: &[u8]) {
        if !self.counts.is_counted(key) {
            self.found.left_out.add(key, value);
        }
    }

    /// All keys less than `end` (empty: all of them) were looked at.
    pub(super) fn looked_at(&mut self, end: &[u8]) {
        self.counts.add(&self.found, &self.start, end);
        self.found = Duplicates::default();
        self.start.clear();
        self.start.extend_from_slice(end);
    }
}

/// A set of keys as disjoint intervals: start to end, end exclusive, an empty end is +inf.
#[derive(Default)]
struct Intervals(BTreeMap<Vec<u8>, Vec<u8>>);

impl Intervals {
    fn contains(&self, key: &[u8]) -> bool {
        let before = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        before.is_some_and(|(_, end)| end.is_empty() || key < end.as_slice())
    }

    fn insert(&mut self, start: &[u8], end: &[u8]) {
        if !end.is_empty() && start >= end {
            return;
        }
        let (mut start, mut end) = (start.to_vec(), end.to_vec());
        // Takes in every interval that starts before the end and ends at or behind the start.
        loop {
            let upper = if end.is_empty() {
                Bound::Unbounded
            } else {
                Bound::Included(end.as_slice())
            };
            let before = self
                .0
                .range::<[u8], _>((Bound::Unbounded, upper))
                .next_back();
            match before {
                Some((s, e)) if e.is_empty() || *e >= start => {
                    let key = s.clone();
                    let taken = self.0.remove(&key).unwrap_or_default();
                    end = if end.is_empty() || taken.is_empty() {
                        Vec::new()
                    } else {
                        end.max(taken)
                    };
                    start = start.min(key);
                }
                _ => break,
            }
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_interval_set_holds_what_was_put_in_and_stays_disjoint(
            parts in prop::collection::vec((0u8..20, 0u8..22), 0..12),
        ) {
            let mut set = Intervals::default();
            let mut plain = [false; 30];
            for (start, end) in parts {
                let end_key = if end == 21 { vec![] } else { vec![end] };
                set.insert(&[start], &end_key);
                let end = if end == 21 { 30 } else { end };
                for key in start..end.max(start) {
                    plain[usize::from(key)] = true;
                }
            }
            for key in 0..30u8 {
                prop_assert_eq!(set.contains(&[key]), plain[usize::from(key)]);
            }
            let runs = plain.windows(2).filter(|w| !w[0] && w[1]).count() + usize::from(plain[0]);
            prop_assert_eq!(set.0.len(), runs);
        }
    }
}
