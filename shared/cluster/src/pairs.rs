//! The seam between whoever holds sorted key-value pairs and the import into the cluster: a batch of
//! pairs in one arena, and a source that can be opened at any key range as often as needed. Ingest
//! opens a source again from a later key when regions changed under it. Synchronous: readers run on
//! their own blocking threads.

use thunderhead_types::{KeyRange, Result};

/// A batch is full at this many bytes; one batch becomes one message to each store.
pub const BATCH_BYTES: usize = 512 << 10;

/// Pairs in key order, all in one allocation that is reused from batch to batch.
#[derive(Clone, Debug, Default)]
pub struct PairBatch {
    bytes: Vec<u8>,
    /// End of the key and of the value in `bytes`; a pair starts where the one before it ends.
    entries: Vec<(u32, u32)>,
}

impl PairBatch {
    /// Appends a pair. One batch holds less than 4 GiB; readers stop at [`PairBatch::is_full`].
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.end();
        self.bytes.extend_from_slice(value);
        self.entries.push((key_end, self.end()));
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a batch stays below 4 GiB")
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a reader should stop pushing.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Forgets the pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// The pair at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let &(key_end, value_end) = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.entries[before].1,
            None => 0,
        };
        Some((
            &self.bytes[start as usize..key_end as usize],
            &self.bytes[key_end as usize..value_end as usize],
        ))
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |&(key_end, value_end)| {
            let key = &self.bytes[start..key_end as usize];
            start = value_end as usize;
            (key, &self.bytes[key_end as usize..start])
        })
    }
}

/// Reads the pairs of one range in strictly ascending key order.
pub trait PairReader: Send {
    /// Clears `batch` and fills it with the next pairs until it is full or the range ends. False, and
    /// an empty batch, once there are no more pairs.
    fn next_batch(&mut self, batch: &mut PairBatch) -> Result<bool>;
}

/// Sorted pairs that can be read from any key, several times.
pub trait PairSource: Send + Sync {
    /// A reader over the pairs whose keys lie in `range`. Every call yields the same pairs.
    fn open(&self, range: &KeyRange) -> Result<Box<dyn PairReader>>;
}

/// Pairs held in memory: what small imports and tests need.
#[derive(Clone, Debug, Default)]
pub struct MemoryPairs {
    pairs: std::sync::Arc<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl MemoryPairs {
    /// Takes pairs in any order; the last of equal keys stays.
    pub fn new(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
        Self {
            pairs: std::sync::Arc::new(sorted.into_iter().collect()),
        }
    }
}

struct MemoryReader {
    pairs: std::sync::Arc<Vec<(Vec<u8>, Vec<u8>)>>,
    next: usize,
    range: KeyRange,
}

impl PairReader for MemoryReader {
    fn next_batch(&mut self, batch: &mut PairBatch) -> Result<bool> {
        batch.clear();
        while let Some((key, value)) = self.pairs.get(self.next) {
            if batch.is_full() || !self.range.contains(key) {
                break;
            }
            batch.push(key, value);
            self.next += 1;
        }
        Ok(!batch.is_empty())
    }
}

impl PairSource for MemoryPairs {
    fn open(&self, range: &KeyRange) -> Result<Box<dyn PairReader>> {
        Ok(Box::new(MemoryReader {
            pairs: self.pairs.clone(),
            next: self.pairs.partition_point(|(key, _)| *key < range.start),
            range: range.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_gives_back_its_pairs_in_order_and_can_be_used_again() {
        let mut batch = PairBatch::default();
        for _ in 0..2 {
            batch.push(b"a", b"1");
            batch.push(b"", b"");
            batch.push(b"bb", b"");
            batch.push(b"", b"22");
            let pairs: Vec<(&[u8], &[u8])> =
                vec![(b"a", b"1"), (b"", b""), (b"bb", b""), (b"", b"22")];
            assert_eq!(batch.iter().collect::<Vec<_>>(), pairs);
            for (index, pair) in pairs.iter().enumerate() {
                assert_eq!(batch.get(index), Some(*pair));
            }
            assert_eq!((batch.len(), batch.byte_len()), (4, 6));
            assert_eq!(batch.get(4), None);
            batch.clear();
            assert!(batch.is_empty() && batch.byte_len() == 0);
        }
    }

    #[test]
    fn a_source_opened_at_a_later_key_goes_on_from_there() {
        let source = MemoryPairs::new((0..=255u8).rev().map(|i| (vec![i], vec![i; 9000])));
        for (start, end) in [(0u8, None), (7, Some(200u8)), (255, None), (9, Some(9))] {
            let range = KeyRange::new([start], end.map(|e| vec![e]).unwrap_or_default());
            let mut reader = source.open(&range).unwrap();
            let (mut batch, mut seen) = (PairBatch::default(), Vec::new());
            while reader.next_batch(&mut batch).unwrap() {
                assert!(batch.byte_len() < BATCH_BYTES + 10_000);
                seen.extend(batch.iter().map(|(key, _)| key[0]));
            }
            assert!(batch.is_empty());
            let expected: Vec<u8> = (start..=255)
                .filter(|i| end.is_none_or(|e| *i < e))
                .collect();
            assert_eq!(seen, expected);
        }
    }
}
