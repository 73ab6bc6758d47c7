//! Half-open ranges of raw keys.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `[start, end)` in raw (not memcomparable-encoded) keys; an empty `end` means +∞.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key after the range; empty = no bound.
    pub end: Vec<u8>,
}

impl KeyRange {
    /// `[start, end)`.
    pub fn new(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            start: start.into(),
            end: end.into(),
        }
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && (self.end.is_empty() || key < self.end.as_slice())
    }

    /// The common part, if there is one.
    pub fn intersect(&self, other: &KeyRange) -> Option<KeyRange> {
        let start = self.start.as_slice().max(&other.start);
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => &other.end,
            (_, true) => &self.end,
            _ => (&self.end).min(&other.end),
        };
        (end.is_empty() || start < end.as_slice()).then(|| KeyRange::new(start, end.as_slice()))
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let end = if self.end.is_empty() {
            "+inf".to_owned()
        } else {
            hex(&self.end)
        };
        write!(f, "[{}, {end})", hex(&self.start))
    }
}

/// The smallest key greater than `key`.
pub fn next_key(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersection_is_what_both_contain() {
        let ends: [&[u8]; 4] = [b"", b"b", b"d", b"f"];
        for (s1, e1) in [(b"a", b"c"), (b"c", b"e")]
            .iter()
            .flat_map(|(s, _)| ends.map(|e| (s.to_vec(), e.to_vec())))
        {
            for e2 in ends {
                let (a, b) = (
                    KeyRange::new(s1.clone(), e1.clone()),
                    KeyRange::new(*b"b", e2),
                );
                for probe in b'a'..=b'g' {
                    let inside = a.contains(&[probe]) && b.contains(&[probe]);
                    assert_eq!(
                        a.intersect(&b).is_some_and(|r| r.contains(&[probe])),
                        inside,
                        "{a:?} {b:?} {probe}"
                    );
                }
            }
        }
    }

    #[test]
    fn next_key_leaves_no_gap() {
        assert_eq!(next_key(b"ab"), b"ab\0");
    }
}
