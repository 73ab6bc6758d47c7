//! Sorting in memory. Pairs lie in an arena in the order they came; what is sorted is one 16-byte
//! entry per pair: eight bytes of its key and its place in the arena.
//!
//! WARNING: this is the clever part; measure with `examples/sort_bench.rs` before and after a change.
//!
//! The idea: comparing keys through pointers misses the cache each time, so it has to be rare. Keys of
//! one table share their first 11 or 19 bytes, so an entry holds the eight bytes *after* what its group
//! has in common. The entries are radix-sorted by these, least significant byte first, skipping bytes
//! that are the same everywhere. What is then still equal is a smaller group with more in common, and is
//! treated the same way; small groups are compared. A group keeps the order of insertion in every step,
//! so its keys are read in ascending addresses, and equal keys come out in the order they came.

/// Memory per pair beside its bytes: the lengths in front of it, its entry, and the entry's place in
/// the scratch space.
const PAIR_OVERHEAD: usize = HEADER + 2 * size_of::<Entry>();

/// Length of key and value, `u32` each.
const HEADER: usize = 8;

/// Groups up to this size are sorted by comparison: a radix pass costs more than it saves.
const COMPARE_MAX: usize = 64;

/// Levels of groups inside of groups; deeper ones are compared. Keeps hostile keys (long, each sharing
/// a little more with the next) from costing a pass per eight bytes for all of them.
const DEPTH_MAX: u32 = 16;

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Eight bytes of the key, big-endian, padded with zeros.
    prefix: u64,
    /// Place in the arena. Grows in the order of insertion, so it also breaks ties.
    at: u64,
}

/// Collects pairs up to a budget, then gives them out in key order.
pub struct SortBuffer {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    scratch: Vec<Entry>,
    counts: Box<[[u32; 256]; 8]>,
    bytes_max: usize,
    /// Place of the pair of the last entry.
    last: Option<usize>,
    /// The entries are in key order.
    ascending: bool,
    /// Eight bytes follow each pair: the number of its row.
    numbered: bool,
}

impl SortBuffer {
    /// A buffer that uses about `bytes_max` bytes of memory when full.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            arena: Vec::new(),
            entries: Vec::new(),
            scratch: Vec::new(),
            counts: Box::new([[0; 256]; 8]),
            bytes_max,
            last: None,
            ascending: true,
            numbered: false,
        }
    }

    /// Takes a pair. False once the buffer is full: spill it before the next row.
    #[must_use]
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.push_of_row(key, value, None)
    }

    /// Takes a pair with the number of its row; either all pairs have one or none.
    #[must_use]
    #[inline]
    pub fn push_of_row(&mut self, key: &[u8], value: &[u8], row: Option<u64>) -> bool {
        if self.arena.capacity() == 0 {
            // One reservation instead of doubling, which would need the old and the new at once. The
            // system gives pages as they are touched.
            self.arena.reserve_exact(self.bytes_max + PAIR_OVERHEAD);
        }
        self.ascending =
            self.ascending && self.last.is_none_or(|at| key_at(&self.arena, at) <= key);
        let at = self.arena.len();
        for len in [key.len(), value.len()] {
            let len = u32::try_from(len).expect("a record of the source is far below 4 GiB");
            self.arena.extend_from_slice(&len.to_le_bytes());
        }
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        debug_assert!(self.entries.is_empty() || self.numbered == row.is_some());
        self.numbered = row.is_some();
        if let Some(row) = row {
            self.arena.extend_from_slice(&row.to_le_bytes());
        }
        self.entries.push(Entry {
            prefix: 0,
            at: at as u64,
        });
        self.last = Some(at);
        self.memory() < self.bytes_max
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes in use, counted as `bytes_max` is.
    pub fn memory(&self) -> usize {
        self.arena.len() + self.entries.len() * 2 * size_of::<Entry>()
    }

    /// Whether the pairs are in key order already, so that sorting is free.
    pub fn is_ascending(&self) -> bool {
        self.ascending
    }

    /// Brings the pairs into key order, equal keys in the order they came.
    pub fn sort(&mut self) -> SortedPairs<'_> {
        if !self.ascending {
            let mut sorter = Sorter {
                arena: &self.arena,
                counts: &mut self.counts,
            };
            self.scratch.resize(self.entries.len(), Entry::default());
            sorter.group(&mut self.entries, &mut self.scratch, 0, 0);
            self.last = self.entries.last().map(|entry| entry.at as usize);
            self.ascending = true;
        }
        SortedPairs {
            arena: &self.arena,
            entries: &self.entries,
            numbered: self.numbered,
        }
    }

    /// Forgets the pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.last = None;
        self.ascending = true;
    }
}

/// The pairs of a buffer in key order.
#[derive(Clone, Copy)]
pub struct SortedPairs<'a> {
    arena: &'a [u8],
    entries: &'a [Entry],
    numbered: bool,
}

impl<'a> SortedPairs<'a> {
    /// Calls `take` for each key, value and number of the row, until it fails.
    pub fn try_for_each<E>(
        self,
        mut take: impl FnMut(&'a [u8], &'a [u8], Option<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The places are random, so nearly every pair misses the cache. Looking at some pairs first, at
        // their lengths and into the next cache line, lets the processor wait for all of them at once.
        const AHEAD: usize = 32;
        let mut lengths = [(0usize, 0usize); AHEAD];
        for some in self.entries.chunks(AHEAD) {
            let mut touched = 0;
            for (entry, lengths) in some.iter().zip(&mut lengths) {
                *lengths = lengths_at(self.arena, entry.at as usize);
                touched ^= self.arena.get(entry.at as usize + 64).copied().unwrap_or(0);
            }
            std::hint::black_box(touched);
            for (entry, (key_len, value_len)) in some.iter().zip(lengths) {
                let key = entry.at as usize + HEADER;
                let pair = &self.arena[key..key + key_len + value_len];
                let end = key + pair.len();
                let (key, value) = pair.split_at(key_len);
                let row = match self.numbered {
                    true => self.arena[end..].first_chunk::<8>(),
                    false => None,
                };
                take(key, value, row.map(|row| u64::from_le_bytes(*row)))?;
            }
        }
        Ok(())
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[inline(always)]
fn lengths_at(arena: &[u8], at: usize) -> (usize, usize) {
    let header = arena[at..]
        .first_chunk::<HEADER>()
        .expect("every entry points to a header");
    let both = u64::from_le_bytes(*header);
    (both as u32 as usize, (both >> 32) as usize)
}

#[inline(always)]
fn key_at(arena: &[u8], at: usize) -> &[u8] {
    let (key_len, _) = lengths_at(arena, at);
    &arena[at + HEADER..at + HEADER + key_len]
}

/// Eight bytes of `key` from `depth` on, padded with zeros.
#[inline(always)]
pub(super) fn prefix_of(key: &[u8], depth: usize) -> u64 {
    let rest = key.get(depth..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

/// Bytes that `a` and `b` start with both.
#[inline(always)]
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    let shorter = a.len().min(b.len());
    let mut len = 0;
    while len + 8 <= shorter {
        let (x, y) = (prefix_of(a, len), prefix_of(b, len));
        if x != y {
            return len + ((x ^ y).leading_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + a[len..shorter]
        .iter()
        .zip(&b[len..shorter])
        .take_while(|(x, y)| x == y)
        .count()
}

struct Sorter<'a> {
    arena: &'a [u8],
    counts: &'a mut [[u32; 256]; 8],
}

impl Sorter<'_> {
    /// Sorts entries whose keys are equal in their first `depth` bytes and which are in the order of
    /// insertion. `scratch` is as long as `entries`.
    fn group(&mut self, entries: &mut [Entry], scratch: &mut [Entry], depth: usize, level: u32) {
        if entries.len() <= COMPARE_MAX || level >= DEPTH_MAX {
            return self.compare(entries, depth);
        }
        let Some(depth) = self.shared(entries, depth) else {
            return self.compare(entries, depth);
        };
        if !self.load(entries, depth) {
            self.radix(entries, scratch);
        }
        self.ties(entries, scratch, depth, level);
    }

    /// Bytes that all keys of the group have in common, or `None` if one of them ends there: then
    /// padded prefixes would not tell it from longer keys.
    fn shared(&self, entries: &[Entry], depth: usize) -> Option<usize> {
        let first = key_at(self.arena, entries[0].at as usize);
        let (mut shared, mut shortest) = (first.len(), first.len());
        for entry in &entries[1..] {
            let key = key_at(self.arena, entry.at as usize);
            shortest = shortest.min(key.len());
            shared =
                shared.min(depth + common_len(&key[depth..], &first[depth..shared.max(depth)]));
        }
        (shared < shortest).then_some(shared)
    }

    /// Fills in the prefixes and counts their bytes. True if they are in order already.
    fn load(&mut self, entries: &mut [Entry], depth: usize) -> bool {
        for counts in self.counts.iter_mut() {
            counts.fill(0);
        }
        let (mut ordered, mut before) = (true, 0);
        for entry in entries {
            let prefix = prefix_of(key_at(self.arena, entry.at as usize), depth);
            entry.prefix = prefix;
            ordered &= before <= prefix;
            before = prefix;
            for (counts, byte) in self.counts.iter_mut().zip(prefix.to_le_bytes()) {
                counts[usize::from(byte)] += 1;
            }
        }
        ordered
    }

    /// Stable sort by the prefix.
    fn radix(&mut self, entries: &mut [Entry], scratch: &mut [Entry]) {
        let total = entries.len() as u32;
        let (mut from, mut to) = (entries, scratch);
        let mut swapped = false;
        for byte in 0..8 {
            let counts = &mut self.counts[byte];
            let first = (from[0].prefix >> (8 * byte)) as u8;
            if counts[usize::from(first)] == total {
                continue;
            }
            let mut place = 0;
            for count in counts.iter_mut() {
                place += std::mem::replace(count, place);
            }
            for entry in from.iter() {
                let next = &mut counts[usize::from((entry.prefix >> (8 * byte)) as u8)];
                to[*next as usize] = *entry;
                *next += 1;
            }
            std::mem::swap(&mut from, &mut to);
            swapped = !swapped;
        }
        if swapped {
            to.copy_from_slice(from);
        }
    }

    /// Sorts each group of equal prefixes further.
    fn ties(&mut self, entries: &mut [Entry], scratch: &mut [Entry], depth: usize, level: u32) {
        let mut start = 0;
        while start < entries.len() {
            let prefix = entries[start].prefix;
            let len = entries[start..]
                .iter()
                .take_while(|entry| entry.prefix == prefix)
                .count();
            if len > 1 {
                let range = start..start + len;
                self.group(
                    &mut entries[range.clone()],
                    &mut scratch[range],
                    depth,
                    level + 1,
                );
            }
            start += len;
        }
    }

    fn compare(&self, entries: &mut [Entry], depth: usize) {
        let rest = |entry: &Entry| &key_at(self.arena, entry.at as usize)[depth..];
        entries.sort_unstable_by(|a, b| rest(a).cmp(rest(b)).then(a.at.cmp(&b.at)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn sorted(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut buffer = SortBuffer::new(64 << 20);
        for (key, value) in pairs {
            assert!(buffer.push(key, value));
        }
        let mut out = Vec::new();
        let taken = buffer.sort().try_for_each(|key, value, _| {
            out.push((key.to_vec(), value.to_vec()));
            Ok::<(), ()>(())
        });
        taken.unwrap();
        out
    }

    fn check(keys: Vec<Vec<u8>>) {
        let pairs: Vec<_> = keys
            .into_iter()
            .zip(0u32..)
            .map(|(k, i)| (k, i.to_le_bytes().to_vec()))
            .collect();
        let mut expected = pairs.clone();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(
            sorted(&pairs) == expected,
            "order differs from a stable sort"
        );
    }

    /// Keys that share a lot, end inside of one another and repeat.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"t\0\0\0\0\0\0\0\x01_"[..],
            b"r",
            b"i",
            b"\0",
            b"\0\0\0\0\0\0\0",
            b"\xff",
            b"abcdefgh",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
            (0u8..4, any::<u16>()).prop_map(|(index, n)| [
                &b"t\x80\0\0\0\0\0\0\x2a_i\x80\0\0\0\0\0\0"[..],
                &[index],
                &n.to_be_bytes()
            ]
            .concat()),
            (0u32..500).prop_map(
                |n| [&b"t\x80\0\0\0\0\0\0\x2a_r\x80\0\0\0"[..], &n.to_be_bytes()].concat()
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pairs_come_out_as_a_stable_sort_gives_them(keys in prop::collection::vec(key(), 0..1500)) {
            check(keys);
        }

        #[test]
        fn the_common_prefix_is_as_long_as_it_can_be(a in key(), b in key()) {
            let plain = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
            prop_assert_eq!(common_len(&a, &b), plain);
        }
    }

    #[test]
    fn keys_that_each_share_more_with_the_next_are_sorted_too() {
        check((0..700usize).rev().map(|n| vec![b'a'; n]).collect());
        check(
            (0..700usize)
                .map(|n| [vec![b'a'; n % 50 * 8], vec![(n % 7) as u8; 9]].concat())
                .collect(),
        );
        check(vec![b"same".to_vec(); 500]);
    }

    #[test]
    fn a_buffer_is_full_when_its_memory_is_used_and_never_loses_a_pair() {
        let mut buffer = SortBuffer::new(1000);
        for _ in 0..2 {
            let mut pairs = 1;
            while buffer.push(b"0123456789", b"0123456789") {
                pairs += 1;
            }
            assert_eq!(pairs, 1000usize.div_ceil(20 + PAIR_OVERHEAD));
            assert!(!buffer.push(b"k", &[0; 5000]));
            assert_eq!((buffer.len(), buffer.is_ascending()), (pairs + 1, true));
            buffer.clear();
        }
        assert!(buffer.push(b"b", b"") && buffer.push(b"a", b""));
        assert!(!buffer.is_ascending());
        assert_eq!(buffer.sort().len(), 2);
        assert!(buffer.is_ascending());
    }
}
