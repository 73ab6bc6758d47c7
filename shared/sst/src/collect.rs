//! TiKV's own properties of a file, collected as its collectors do: where rows and bytes lie (split
//! checks), and counts and ages of versions (GC, CDC, backup). All numbers big-endian.

use crate::mvcc;
use crate::options::Cf;
use std::collections::BTreeMap;
use thunderhead_types::Timestamp;

/// A point of the range index at least each so many bytes, or keys.
const RANGE_BYTES: u64 = 4 << 20;
const RANGE_KEYS: u64 = 40 << 10;
/// A point of the row index each so many rows.
const INDEX_ROWS: u64 = 10_000;

/// Collects what goes into `tikv.*`.
pub(crate) struct Collectors {
    range: RangeIndex,
    versions: Option<Versions>,
}

impl Collectors {
    pub(crate) fn new(cf: Cf) -> Self {
        Self {
            range: RangeIndex::default(),
            versions: (cf == Cf::Write).then(Versions::default),
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], last_key: &[u8]) {
        self.range.add(key, value.len());
        if let Some(versions) = &mut self.versions {
            versions.add(key, value, last_key);
        }
    }

    /// The names that RocksDB records of a family's collectors.
    pub(crate) fn names(cf: Cf) -> &'static str {
        match cf {
            Cf::Default => "[tikv.range-properties-collector]",
            Cf::Write => "[tikv.mvcc-properties-collector,tikv.range-properties-collector]",
        }
    }

    /// The properties, when `last_key` is the last one added.
    pub(crate) fn finish(mut self, last_key: &[u8]) -> BTreeMap<&'static str, Vec<u8>> {
        let mut to = BTreeMap::new();
        self.range.finish(last_key);
        to.insert("tikv.range_index", self.range.encoded);
        if let Some(versions) = self.versions {
            versions.finish(last_key, &mut to);
        }
        to
    }
}

fn put_point(to: &mut Vec<u8>, key: &[u8], numbers: [u64; 2]) {
    to.extend_from_slice(&(key.len() as u64).to_be_bytes());
    to.extend_from_slice(key);
    for number in numbers {
        to.extend_from_slice(&number.to_be_bytes());
    }
}

/// Cumulative bytes and keys at the first key, then at intervals, and at the last.
#[derive(Default)]
struct RangeIndex {
    bytes: u64,
    keys: u64,
    last_bytes: u64,
    last_keys: u64,
    encoded: Vec<u8>,
}

impl RangeIndex {
    #[inline]
    fn add(&mut self, key: &[u8], value_len: usize) {
        self.bytes += (key.len() + value_len) as u64;
        self.keys += 1;
        if self.keys == 1
            || self.bytes - self.last_bytes >= RANGE_BYTES
            || self.keys - self.last_keys >= RANGE_KEYS
        {
            self.point(key);
        }
    }

    fn point(&mut self, key: &[u8]) {
        put_point(&mut self.encoded, key, [self.bytes, self.keys]);
        (self.last_bytes, self.last_keys) = (self.bytes, self.keys);
    }

    fn finish(&mut self, last_key: &[u8]) {
        if self.keys > self.last_keys {
            self.point(last_key);
        }
    }
}

/// Counts of a write family that holds puts only, as an import makes it.
struct Versions {
    min_ts: Timestamp,
    max_ts: Timestamp,
    rows: u64,
    versions: u64,
    row_versions: u64,
    row_versions_max: u64,
    stale_oldest: Timestamp,
    stale_newest: Timestamp,
    errors: u64,
    /// Rows since the last point of the index.
    rows_since: u64,
    rows_index: Vec<u8>,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            min_ts: Timestamp::MAX,
            max_ts: 0,
            rows: 0,
            versions: 0,
            row_versions: 0,
            row_versions_max: 0,
            stale_oldest: Timestamp::MAX,
            stale_newest: 0,
            errors: 0,
            rows_since: 0,
            rows_index: Vec::new(),
        }
    }
}

impl Versions {
    #[inline]
    fn add(&mut self, key: &[u8], value: &[u8], last_key: &[u8]) {
        let Some((row, ts)) = mvcc::split_ts(key) else {
            self.errors += 1;
            return;
        };
        self.min_ts = self.min_ts.min(ts);
        self.max_ts = self.max_ts.max(ts);
        self.versions += 1;
        if mvcc::split_ts(last_key).is_some_and(|(last, _)| last == row) {
            self.row_versions += 1;
            self.stale_oldest = self.stale_oldest.min(ts);
            self.stale_newest = self.stale_newest.max(ts);
        } else {
            self.rows += 1;
            self.row_versions = 1;
        }
        self.row_versions_max = self.row_versions_max.max(self.row_versions);
        if value.first() != Some(&b'P') {
            self.errors += 1;
        } else if self.row_versions == 1 {
            self.rows_since += 1;
            if self.rows == 1 || self.rows_since >= INDEX_ROWS {
                put_point(&mut self.rows_index, row, [self.rows_since, self.rows]);
                self.rows_since = 0;
            }
        }
    }

    fn finish(mut self, last_key: &[u8], to: &mut BTreeMap<&'static str, Vec<u8>>) {
        if self.rows_since > 0
            && let Some((row, _)) = mvcc::split_ts(last_key)
        {
            put_point(&mut self.rows_index, row, [self.rows_since, self.rows]);
        }
        for (name, number) in [
            ("tikv.min_ts", self.min_ts),
            ("tikv.max_ts", self.max_ts),
            ("tikv.num_rows", self.rows),
            ("tikv.num_puts", self.versions),
            ("tikv.num_deletes", 0),
            ("tikv.num_versions", self.versions),
            ("tikv.max_row_versions", self.row_versions_max),
            ("tikv.oldest_stale_version_ts", self.stale_oldest),
            ("tikv.newest_stale_version_ts", self.stale_newest),
            ("tikv.oldest_delete_ts", Timestamp::MAX),
            ("tikv.newest_delete_ts", 0),
            ("tikv.num_errors", self.errors),
        ] {
            to.insert(name, number.to_be_bytes().to_vec());
        }
        to.insert("tikv.rows_index", self.rows_index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(mut bytes: &[u8]) -> Vec<(Vec<u8>, u64, u64)> {
        let mut found = Vec::new();
        let number = |from: &mut &[u8]| thunderhead_codec::mem::decode_u64(from).unwrap_or(0);
        while !bytes.is_empty() {
            let len = number(&mut bytes) as usize;
            let key = bytes[..len].to_vec();
            bytes = &bytes[len..];
            found.push((key, number(&mut bytes), number(&mut bytes)));
        }
        found
    }

    #[test]
    fn points_stand_at_the_first_row_each_ten_thousand_and_the_last() {
        let mut collectors = Collectors::new(Cf::Write);
        let (mut key, mut last) = (Vec::new(), Vec::new());
        for n in 0..50_000u64 {
            mvcc::engine_key_to(&mut key, &n.to_be_bytes(), 7);
            collectors.add(&key, b"P\x07v\x01x", &last);
            last.clone_from(&key);
        }
        let found = collectors.finish(&last);
        let rows: Vec<_> = points(&found["tikv.rows_index"])
            .into_iter()
            .map(|(_, size, offset)| (size, offset))
            .collect();
        assert_eq!(
            rows,
            [
                (1, 1),
                (10_000, 10_001),
                (10_000, 20_001),
                (10_000, 30_001),
                (10_000, 40_001),
                (9_999, 50_000)
            ]
        );
        let each = (key.len() + 5) as u64;
        let range: Vec<_> = points(&found["tikv.range_index"])
            .into_iter()
            .map(|(_, bytes, keys)| (bytes, keys))
            .collect();
        assert_eq!(
            range,
            [(each, 1), (each * 40_961, 40_961), (each * 50_000, 50_000)]
        );
        assert_eq!(found["tikv.num_rows"], 50_000u64.to_be_bytes());
        assert_eq!(found["tikv.max_row_versions"], 1u64.to_be_bytes());
        assert_eq!(found["tikv.min_ts"], 7u64.to_be_bytes());
    }
}
