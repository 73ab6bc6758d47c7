//! Decides which of the rows that take part in conflicts stay: exactly those that would be left if the rows were
//! written one by one, in source order, into an empty table.
//!
//! Only rows that share a key with another row are looked at, each once, in source order, with all groups it is
//! in. That is enough: a key that no group is about cannot keep a row out or push another one out.
//! * `ignore` (INSERT IGNORE): a row comes in if none of its groups is taken, and then takes all of them.
//! * `replace` (REPLACE): a row always comes in and pushes out whoever holds one of its groups. A row that was
//!   pushed out before holds nothing any more, but naming it a loser once more changes nothing, so it need not
//!   be looked up.
//! * `remove`: every row that takes part goes.

use super::Strategy;
use super::paged::Paged;
use crate::sort::{Ledger, SortError};
use std::path::Path;
use std::sync::Arc;

/// Where large tables of the decision may lie.
pub(crate) struct Room<'a> {
    pub(crate) memory_bytes: usize,
    pub(crate) scratch_dir: &'a Path,
    pub(crate) ledger: &'a Arc<Ledger>,
}

/// Which participants are left out, by their place in source order among the participants.
pub(crate) struct Lost {
    bits: Paged,
    /// Rows that take part.
    pub(crate) rows: u64,
    /// Rows that are left out.
    pub(crate) count: u64,
}

impl Lost {
    pub(crate) fn contains(&mut self, place: u64) -> Result<bool, SortError> {
        self.bits.bit(place)
    }

    fn add(&mut self, place: u64) -> Result<(), SortError> {
        self.count += u64::from(!self.bits.set_bit(place)?);
        Ok(())
    }
}

/// Decides over participations (row, group), ascending by row; at most `participations` of them in `groups` groups.
pub(crate) fn settle(
    strategy: Strategy,
    groups: u64,
    participations: u64,
    mut next: impl FnMut() -> Result<Option<(u64, u64)>, SortError>,
    room: &Room<'_>,
) -> Result<Lost, SortError> {
    let paged = |bytes: u64, share: usize| {
        Paged::new(
            bytes.max(8),
            room.memory_bytes / share,
            room.scratch_dir,
            room.ledger,
        )
    };
    let mut lost = Lost {
        bits: paged(participations.div_ceil(8), 4),
        rows: 0,
        count: 0,
    };
    let mut holders = match strategy {
        Strategy::Ignore => paged(groups.div_ceil(8), 2),
        Strategy::Replace => paged(groups * 8, 2),
        _ => paged(0, 2),
    };
    let mut row_groups = Vec::new();
    let mut ahead = next()?;
    while let Some((row, group)) = ahead {
        row_groups.clear();
        row_groups.push(group);
        loop {
            ahead = next()?;
            match ahead {
                Some((same, group)) if same == row => row_groups.push(group),
                _ => break,
            }
        }
        let place = lost.rows;
        lost.rows += 1;
        match strategy {
            Strategy::Ignore => {
                let mut taken = false;
                for &group in &row_groups {
                    taken |= holders.bit(group)?;
                }
                if taken {
                    lost.add(place)?;
                    continue;
                }
                for &group in &row_groups {
                    holders.set_bit(group)?;
                }
            }
            Strategy::Replace => {
                for &group in &row_groups {
                    // 0 = nobody yet.
                    let holder = holders.replace_word(group, place + 1)?;
                    if holder != 0 && holder != place + 1 {
                        lost.add(holder - 1)?;
                    }
                }
            }
            Strategy::Remove => lost.add(place)?,
            Strategy::Record | Strategy::Error => {}
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Strategy;
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::Strategy as Values;
    use std::collections::{BTreeMap, BTreeSet};

    /// A row of the model: a key in each unique index, `None` = NULL, and what else it holds.
    type ModelRow = (Vec<Option<u8>>, u8);

    /// The rows that are left when they are written one by one: the oracle.
    fn one_by_one(strategy: Strategy, rows: &[ModelRow]) -> BTreeSet<usize> {
        let mut table: BTreeSet<usize> = BTreeSet::new();
        for (n, (keys, _)) in rows.iter().enumerate() {
            let clashes = |other: &usize| {
                let others = &rows[*other].0;
                keys.iter().zip(others).any(|(a, b)| a.is_some() && a == b)
            };
            let met: Vec<usize> = table.iter().copied().filter(clashes).collect();
            match strategy {
                Strategy::Ignore if !met.is_empty() => {}
                Strategy::Replace => {
                    table.retain(|row| !met.contains(row));
                    table.insert(n);
                }
                _ => {
                    table.insert(n);
                }
            }
        }
        if strategy == Strategy::Remove {
            let clash = |a: usize, b: usize| {
                a != b
                    && rows[a]
                        .0
                        .iter()
                        .zip(&rows[b].0)
                        .any(|(x, y)| x.is_some() && x == y)
            };
            table.retain(|&a| !(0..rows.len()).any(|b| clash(a, b)));
        }
        table
    }

    fn settled(strategy: Strategy, rows: &[ModelRow], memory: usize) -> BTreeSet<usize> {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 0).unwrap());
        let mut by_key: BTreeMap<(usize, u8), Vec<usize>> = BTreeMap::new();
        for (n, (keys, _)) in rows.iter().enumerate() {
            for (index, key) in keys.iter().enumerate() {
                if let Some(key) = key {
                    by_key.entry((index, *key)).or_default().push(n);
                }
            }
        }
        let shared: Vec<_> = by_key.into_values().filter(|rows| rows.len() > 1).collect();
        let mut edges: Vec<(u64, u64)> = (0u64..)
            .zip(&shared)
            .flat_map(|(group, rows)| rows.iter().map(move |&row| (row as u64, group)))
            .collect();
        edges.sort_unstable();
        let participants: BTreeSet<u64> = edges.iter().map(|e| e.0).collect();
        let (groups, count) = (shared.len() as u64, edges.len() as u64);
        let mut edges = edges.into_iter();
        let room = Room {
            memory_bytes: memory,
            scratch_dir: dir.path(),
            ledger: &ledger,
        };
        let mut lost = settle(strategy, groups, count, || Ok(edges.next()), &room).unwrap();
        let mut left: BTreeSet<usize> = (0..rows.len()).collect();
        let mut counted = 0;
        for (place, row) in (0u64..).zip(&participants) {
            if lost.contains(place).unwrap() {
                left.remove(&(*row as usize));
                counted += 1;
            }
        }
        assert_eq!(
            (lost.rows, lost.count),
            (participants.len() as u64, counted)
        );
        left
    }

    fn table() -> impl Values<Value = Vec<ModelRow>> {
        // Few distinct keys: nearly all rows clash; many: hardly any.
        (1usize..5, prop::sample::select(vec![1u8, 3, 20, 250])).prop_flat_map(
            |(indexes, distinct)| {
                let key = prop::option::weighted(0.9, 0..=distinct);
                prop::collection::vec((prop::collection::vec(key, indexes), any::<u8>()), 0..60)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_left_is_what_writing_the_rows_one_by_one_leaves(rows in table()) {
            for strategy in [Strategy::Ignore, Strategy::Replace, Strategy::Remove] {
                prop_assert_eq!(settled(strategy, &rows, 1 << 20), one_by_one(strategy, &rows));
            }
            for strategy in [Strategy::Record, Strategy::Error] {
                prop_assert_eq!(settled(strategy, &rows, 1 << 20).len(), rows.len());
            }
        }
    }

    #[test]
    fn many_unique_indexes_with_few_and_with_only_duplicates_leave_what_the_model_leaves() {
        const ROWS: u64 = 200;
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        for percent in [0, 1, 50, 100] {
            for _ in 0..10 {
                let mut key = |row: u64| match random(100) < percent {
                    true => Some(random(ROWS) as u8),
                    false => Some(row as u8),
                };
                let row = |n| ((0..6).map(|_| key(n)).collect(), 0);
                let rows: Vec<ModelRow> = (0..ROWS).map(row).collect();
                for strategy in [Strategy::Ignore, Strategy::Replace, Strategy::Remove] {
                    let left = settled(strategy, &rows, 1 << 20);
                    assert_eq!(
                        left,
                        one_by_one(strategy, &rows),
                        "{strategy:?} {percent} %"
                    );
                    assert_eq!(left.len() == rows.len(), percent == 0);
                }
            }
        }
    }

    #[test]
    fn a_loser_does_not_knock_out_others() {
        // The second row loses to the first on the first index, so the third may have its second key.
        let rows = [
            (vec![Some(1), Some(1)], 0),
            (vec![Some(1), Some(2)], 0),
            (vec![Some(3), Some(2)], 0),
        ];
        assert_eq!(
            settled(Strategy::Ignore, &rows, 1 << 20),
            BTreeSet::from([0, 2])
        );
        assert_eq!(
            settled(Strategy::Replace, &rows, 1 << 20),
            BTreeSet::from([2])
        );
        assert_eq!(settled(Strategy::Remove, &rows, 1 << 20), BTreeSet::new());
    }

    #[test]
    fn a_table_of_nothing_but_duplicates_is_settled_in_little_memory() {
        let rows: Vec<ModelRow> = (0..250u32)
            .flat_map(|n| [(n as u8, 0), (n as u8, 1)])
            .map(|(key, more)| (vec![Some(key), Some(key)], more))
            .collect();
        for strategy in [Strategy::Ignore, Strategy::Replace, Strategy::Remove] {
            assert_eq!(
                settled(strategy, &rows, 1),
                one_by_one(strategy, &rows),
                "{strategy:?}"
            );
        }
    }
}
