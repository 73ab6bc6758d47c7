//! Finds the rows that share a unique key: neighbours of a merged stream whose keys are equal and whose values
//! are not. Pairs that are equal as a whole are the same row read twice, and no conflict by themselves; but once
//! a third pair differs, all of them take part.

use super::rows::numbered;
use crate::sort::{PairStream, SortError};
use std::collections::BTreeMap;
use thunderhead_codec::keys::{TableKey, parse};

/// Equal pairs that are held back until one differs. Beyond that they are taken for a group, which is void when
/// none ever differs: the memory of a hostile source stays bounded.
const HELD_BACK_MAX: usize = 64 << 10;

/// What was found in a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Groups, numbered from 0.
    pub(crate) groups: u64,
    /// Those that are none after all.
    pub(crate) void: Vec<u64>,
    /// Groups and their participants by index; 0 = records.
    pub(crate) indexes: BTreeMap<i64, (u64, u64)>,
}

/// Pairs with one key; kept only where the next pair may have it, too.
struct Group {
    open: bool,
    key: Vec<u8>,
    /// Value of the first pair.
    value: Vec<u8>,
    held_back: Vec<u64>,
    participants: u64,
    differs: bool,
    /// Participants were told before any pair differed.
    told: bool,
}

/// Calls `participant` with row, group and key of each pair that takes part in a conflict.
pub(crate) fn find(
    stream: &mut impl PairStream,
    mut cancelled: impl FnMut() -> Result<(), SortError>,
    mut participant: impl FnMut(u64, u64, &[u8]) -> Result<(), SortError>,
) -> Result<Found, SortError> {
    let mut found = Found::default();
    let mut group = Group {
        open: false,
        key: Vec::new(),
        value: Vec::new(),
        held_back: Vec::new(),
        participants: 0,
        differs: false,
        told: false,
    };
    let mut pairs = 0u64;
    while stream.advance()? {
        pairs += 1;
        if pairs.is_multiple_of(1 << 16) {
            cancelled()?;
        }
        if group.open && stream.key() == group.key.as_slice() {
            let row = numbered(stream.row())?;
            group.add(stream.value(), row, &mut found, &mut participant)?;
            continue;
        }
        group.close(&mut found);
        // Nearly every pair stands alone, and is not even looked at.
        if stream.is_tied() {
            group.begin(stream.key(), stream.value(), numbered(stream.row())?);
        }
    }
    group.close(&mut found);
    Ok(found)
}

impl Group {
    fn begin(&mut self, key: &[u8], value: &[u8], row: u64) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.value.clear();
        self.value.extend_from_slice(value);
        self.held_back.clear();
        self.held_back.push(row);
        self.participants = 1;
        self.open = true;
        (self.differs, self.told) = (false, false);
    }

    /// One more pair with the key.
    fn add(
        &mut self,
        value: &[u8],
        row: u64,
        found: &mut Found,
        participant: &mut impl FnMut(u64, u64, &[u8]) -> Result<(), SortError>,
    ) -> Result<(), SortError> {
        self.participants += 1;
        self.differs |= self.value != value;
        self.held_back.push(row);
        if !self.differs && !self.told && self.held_back.len() < HELD_BACK_MAX {
            return Ok(());
        }
        self.told = true;
        for row in self.held_back.drain(..) {
            participant(row, found.groups, &self.key)?;
        }
        Ok(())
    }

    #[inline]
    fn close(&mut self, found: &mut Found) {
        self.open = false;
        if !self.told {
            return;
        }
        self.told = false;
        if self.differs {
            let index = match parse(&self.key) {
                Some(TableKey::Index { index_id, .. }) => index_id,
                _ => 0,
            };
            let counts = found.indexes.entry(index).or_default();
            counts.0 += 1;
            counts.1 += self.participants;
        } else {
            found.void.push(found.groups);
        }
        found.groups += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Pairs(
        std::vec::IntoIter<(String, String, u64)>,
        (String, String, u64),
    );

    impl PairStream for Pairs {
        fn advance(&mut self) -> Result<bool, SortError> {
            let next = self.0.next();
            let more = next.is_some();
            self.1 = next.unwrap_or_default();
            Ok(more)
        }
        fn key(&self) -> &[u8] {
            self.1.0.as_bytes()
        }
        fn value(&self) -> &[u8] {
            self.1.1.as_bytes()
        }
        fn row(&self) -> Option<u64> {
            Some(self.1.2)
        }
    }

    fn check(pairs: &[(&str, &str, u64)], expected: &[(u64, u64, &str)]) -> Found {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(k, v, r)| ((*k).to_owned(), (*v).to_owned(), *r))
            .collect();
        let mut told = Vec::new();
        let mut stream = Pairs(pairs.into_iter(), Default::default());
        let found = find(
            &mut stream,
            || Ok(()),
            |row, group, key| {
                told.push((row, group, String::from_utf8(key.to_vec()).unwrap()));
                Ok(())
            },
        )
        .unwrap();
        let told: Vec<_> = told.iter().map(|(r, g, k)| (*r, *g, k.as_str())).collect();
        assert_eq!(told, expected);
        found
    }

    #[test]
    fn equal_keys_with_different_values_are_a_group_and_equal_pairs_are_not() {
        let found = check(
            &[
                ("a", "1", 5),
                ("b", "1", 0),
                ("b", "1", 9),
                ("c", "1", 2),
                ("c", "2", 3),
                ("c", "1", 4),
                ("d", "1", 1),
            ],
            &[(2, 0, "c"), (3, 0, "c"), (4, 0, "c")],
        );
        assert_eq!((found.groups, found.indexes[&0]), (1, (1, 3)));
        check(&[], &[]);
    }

    #[test]
    fn equal_pairs_take_part_once_one_differs_after_them() {
        check(
            &[
                ("a", "1", 0),
                ("a", "1", 1),
                ("a", "1", 2),
                ("a", "2", 3),
                ("b", "1", 0),
                ("b", "2", 1),
            ],
            &[
                (0, 0, "a"),
                (1, 0, "a"),
                (2, 0, "a"),
                (3, 0, "a"),
                (0, 1, "b"),
                (1, 1, "b"),
            ],
        );
    }

    #[test]
    fn a_key_repeated_without_end_is_told_in_pieces_and_void_when_nothing_differs() {
        let many = HELD_BACK_MAX as u64 * 2;
        for differs in [false, true] {
            let mut pairs: Vec<_> = (0..many)
                .map(|row| ("k".to_owned(), "v".to_owned(), row))
                .collect();
            if differs {
                pairs.push(("k".to_owned(), "w".to_owned(), many));
            }
            let rows = pairs.len() as u64;
            let mut told = 0;
            let mut stream = Pairs(pairs.into_iter(), Default::default());
            let found = find(
                &mut stream,
                || Ok(()),
                |row, group, _| {
                    assert_eq!((row, group), (told, 0));
                    told += 1;
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!((told, found.groups), (rows, 1));
            assert_eq!(found.void.is_empty(), differs);
        }
    }
}
