//! The blocks of a file as such. Entries share a prefix with the one before; every so many entries a
//! restart point stores a whole key, and the offsets of those stand at the end of the block.
//!
//! Data and meta blocks: varints shared, unshared, value length; key rest; value. Index blocks leave
//! the value length out: a block handle knows its own.

use crate::format::{KEY_SUFFIX, get_varint32, put_varint, varint_len};

/// Entries from one restart point of a data block to the next.
const RESTART_INTERVAL: usize = 16;

/// Length of the common prefix.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let mut at = 0;
    while let (Some(x), Some(y)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        let diff = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if diff != 0 {
            return at + (diff.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..len]
        .iter()
        .zip(&b[at..len])
        .take_while(|(x, y)| x == y)
        .count()
}

/// A data block that grows. Keys are engine keys; their suffix (sequence number, type) is added here.
pub(crate) struct DataBlock {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    /// Entries since the last restart point.
    since: usize,
}

impl DataBlock {
    pub(crate) fn new(block_bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(block_bytes + (block_bytes >> 2)),
            restarts: vec![0],
            since: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Size with the restart points.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// RocksDB's estimate of the size with another entry, which decides where blocks end.
    #[inline]
    pub(crate) fn len_with(&self, key: &[u8], value: &[u8]) -> usize {
        let key_len = key.len() + KEY_SUFFIX.len();
        let restart = if self.since >= RESTART_INTERVAL { 4 } else { 0 };
        self.len()
            + key_len
            + value.len()
            + restart
            + 4
            + varint_len(key_len)
            + varint_len(value.len())
    }

    /// Adds an entry that has the first `shared` bytes in common with the last one of this file.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], shared: usize) {
        let mut shared = if self.bytes.is_empty() { 0 } else { shared };
        if self.since >= RESTART_INTERVAL {
            self.restarts.push(self.bytes.len() as u32);
            self.since = 0;
            shared = 0;
        }
        put_varint(&mut self.bytes, shared);
        put_varint(&mut self.bytes, key.len() + KEY_SUFFIX.len() - shared);
        put_varint(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(&KEY_SUFFIX);
        self.bytes.extend_from_slice(value);
        self.since += 1;
    }

    /// The whole block; [`DataBlock::reset`] starts the next one.
    pub(crate) fn finish(&mut self) -> &[u8] {
        put_restarts(&mut self.bytes, &self.restarts);
        &self.bytes
    }

    pub(crate) fn reset(&mut self) {
        self.bytes.clear();
        self.restarts.truncate(1);
        self.since = 0;
    }
}

fn put_restarts(to: &mut Vec<u8>, restarts: &[u32]) {
    for restart in restarts {
        to.extend_from_slice(&restart.to_le_bytes());
    }
    to.extend_from_slice(&(restarts.len() as u32).to_le_bytes());
}

/// An index block: each entry is a restart point with a whole key.
#[derive(Default)]
pub(crate) struct IndexBlock {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
}

impl IndexBlock {
    pub(crate) fn add(&mut self, separator: &[u8], handle: crate::format::Handle) {
        self.restarts.push(self.bytes.len() as u32);
        self.bytes.push(0);
        put_varint(&mut self.bytes, separator.len());
        self.bytes.extend_from_slice(separator);
        handle.encode_to(&mut self.bytes);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        put_restarts(&mut self.bytes, &self.restarts);
        self.bytes
    }
}

/// A block of names and values in order. `restart_each`: every name whole, else only the first.
pub(crate) fn meta_block<'a>(
    entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    restart_each: bool,
) -> Vec<u8> {
    let (mut to, mut restarts, mut last) = (Vec::new(), vec![], "");
    for (name, value) in entries {
        let mut shared = common_prefix(name.as_bytes(), last.as_bytes());
        if restart_each || restarts.is_empty() {
            restarts.push(to.len() as u32);
            shared = 0;
        }
        put_varint(&mut to, shared);
        put_varint(&mut to, name.len() - shared);
        put_varint(&mut to, value.len());
        to.extend_from_slice(&name.as_bytes()[shared..]);
        to.extend_from_slice(value);
        last = name;
    }
    put_restarts(&mut to, &restarts);
    to
}

/// A shortest key at or after `last` and before `next`, as RocksDB picks it.
pub(crate) fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let at = common_prefix(last, next);
    let (Some(&low), Some(&high)) = (last.get(at), next.get(at)) else {
        return last.to_vec();
    };
    let mut short = last[..=at].to_vec();
    if at + 1 < next.len() || low + 1 < high {
        short[at] = low + 1;
        return short;
    }
    // `low + 1` would be `next` itself: raise the first later byte that can be raised.
    match last[at + 1..].iter().position(|byte| *byte != 0xff) {
        Some(skipped) => {
            let mut short = last[..=at + 1 + skipped].to_vec();
            short[at + 1 + skipped] += 1;
            short
        }
        None => last.to_vec(),
    }
}

/// Where the parts of a block lie. Every step checks what the bytes claim.
#[derive(Default)]
pub(crate) struct Cursor {
    /// Key of the entry last read, with its suffix.
    pub key: Vec<u8>,
    at: usize,
    entries_end: usize,
    restarts: usize,
    restarts_seen: usize,
}

/// How the values of a block are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// After their length.
    Sized,
    /// Two varints that end themselves.
    Handles,
}

fn u32_at(block: &[u8], at: usize) -> Option<usize> {
    let bytes = block.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}

impl Cursor {
    /// Starts at the first entry of `block`; `None` when it is not a block.
    pub(crate) fn start(&mut self, block: &[u8]) -> Option<()> {
        let restarts = u32_at(block, block.len().checked_sub(4)?)?;
        self.entries_end = (block.len() - 4).checked_sub(restarts.checked_mul(4)?)?;
        self.restarts = restarts;
        (self.at, self.restarts_seen) = (0, 0);
        self.key.clear();
        Some(())
    }

    /// Reads the next entry into `self.key` and returns the bytes of its value within the block.
    /// `Some(None)` at the end, `None` when the block is malformed.
    #[inline]
    pub(crate) fn next(
        &mut self,
        block: &[u8],
        values: Values,
    ) -> Option<Option<std::ops::Range<usize>>> {
        let entries = block.get(..self.entries_end)?;
        let mut rest = entries.get(self.at..)?;
        if rest.is_empty() {
            return (self.restarts_seen == self.restarts).then_some(None);
        }
        let shared = get_varint32(&mut rest)?;
        let unshared = get_varint32(&mut rest)?;
        let sized = match values {
            Values::Sized => Some(get_varint32(&mut rest)?),
            Values::Handles => None,
        };
        if self.restarts_seen < self.restarts
            && u32_at(block, self.entries_end + 4 * self.restarts_seen)? == self.at
        {
            self.restarts_seen += 1;
            if shared != 0 {
                return None;
            }
        }
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(rest.get(..unshared)?);
        rest = &rest[unshared..];
        let start = entries.len() - rest.len();
        let len = match sized {
            Some(len) => len,
            None => {
                let before = rest.len();
                crate::format::Handle::decode(&mut rest)?;
                before - rest.len()
            }
        };
        let end = start.checked_add(len).filter(|end| *end <= entries.len())?;
        self.at = end;
        Some(Some(start..end))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_separator_lies_between_its_keys(mut a: Vec<u8>, mut b: Vec<u8>, same in 0..4usize) {
            let head = a[..same.min(a.len())].to_vec();
            b.splice(0..0, head);
            if a > b { std::mem::swap(&mut a, &mut b); }
            prop_assume!(a < b);
            let between = separator(&a, &b);
            prop_assert!(between >= a && between < b && between.len() <= a.len());
        }

        #[test]
        fn common_prefixes_are_found(a: Vec<u8>, b: Vec<u8>, same: Vec<u8>) {
            let (x, y) = ([&same[..], &a].concat(), [&same[..], &b].concat());
            let slow = x.iter().zip(&y).take_while(|(x, y)| x == y).count();
            prop_assert_eq!(common_prefix(&x, &y), slow);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(block: Vec<u8>, handles: bool) {
            let values = if handles { Values::Handles } else { Values::Sized };
            let mut cursor = Cursor::default();
            if cursor.start(&block).is_some() {
                while let Some(Some(_)) = cursor.next(&block, values) {}
            }
        }
    }

    #[test]
    fn separators_are_short() {
        assert_eq!(separator(b"abcdef", b"abxyz"), b"abd");
        assert_eq!(separator(b"ab1zzz", b"ab2"), b"ab1{");
        assert_eq!(separator(b"ab1\xff\xff", b"ab2"), b"ab1\xff\xff");
        assert_eq!(separator(b"ab", b"abc"), b"ab");
    }
}
