//! Exact splitters: cuts a table's key space into disjoint, covering ranges of about equal bytes from
//! the block indexes of all runs. Pure; knows neither agents nor regions.

use super::spans::{Spans, spans};
use thunderhead_proto::thunderhead::Run;
use thunderhead_types::KeyRange;

/// A range and what the runs hold of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRange {
    /// Raw keys.
    pub range: KeyRange,
    /// Raw key and value bytes of the blocks that start inside; exact up to one block a run.
    pub expected_bytes: u64,
    /// Whether a run may hold keys of the range.
    pub has_runs: bool,
}

/// The blocks of all runs in the order of their keys.
pub struct Blocks<'a> {
    /// First key and raw bytes.
    sorted: Vec<(&'a [u8], u64)>,
    held: Spans,
}

impl<'a> Blocks<'a> {
    /// From the runs' block indexes.
    pub fn of(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let runs: Vec<&Run> = runs.into_iter().collect();
        let blocks = runs.iter().flat_map(|run| &run.blocks);
        let mut sorted: Vec<(&[u8], u64)> = blocks
            .map(|block| (block.first_key.as_ref(), block.raw_bytes))
            .collect();
        sorted.sort_unstable();
        let held = Spans::of(runs.iter().flat_map(|run| spans(std::slice::from_ref(run))));
        Self { sorted, held }
    }

    /// Those that begin in `space`.
    fn within(&self, space: &KeyRange) -> &[(&'a [u8], u64)] {
        let before = |border: &[u8]| self.sorted.partition_point(|(key, _)| *key < border);
        let end = match space.end.as_slice() {
            [] => self.sorted.len(),
            end => before(end),
        };
        &self.sorted[before(&space.start).min(end)..end]
    }
}

/// Cuts `space` at block borders so that each range holds at least `target_bytes`, except the last.
///
/// Every key of `space` lies in exactly one range, also keys that no run holds, so that checking all
/// ranges checks the whole table.
pub fn plan_ranges(space: &KeyRange, blocks: &Blocks, target_bytes: u64) -> Vec<PlannedRange> {
    let mut borders: Vec<(Vec<u8>, u64)> = Vec::new();
    let (mut start, mut bytes, mut previous) = (space.start.clone(), 0u64, space.start.as_slice());
    for &(first_key, raw_bytes) in blocks.within(space) {
        // Blocks that begin with one key stay together: a cut between them would leave nothing on its left.
        if bytes >= target_bytes && first_key > previous {
            borders.push((std::mem::replace(&mut start, first_key.to_vec()), bytes));
            bytes = 0;
        }
        bytes += raw_bytes;
        previous = first_key;
    }
    borders.push((start, bytes));

    let mut planned = Vec::with_capacity(borders.len());
    for (i, (start, expected_bytes)) in borders.iter().enumerate() {
        let end = borders.get(i + 1).map_or(&space.end, |next| &next.0);
        let range = KeyRange::new(start.clone(), end.clone());
        planned.push(PlannedRange {
            has_runs: blocks.held.touch(&range),
            range,
            expected_bytes: *expected_bytes,
        });
    }
    assert_disjoint_and_covering(space, &planned);
    planned
}

/// The two properties that keep a row from being lost or doubled. Checked on every plan because a
/// wrong plan would not be noticed until the checksum.
fn assert_disjoint_and_covering(space: &KeyRange, planned: &[PlannedRange]) {
    let mut expected_start = &space.start;
    for (i, part) in planned.iter().enumerate() {
        assert!(
            &part.range.start == expected_start,
            "ranges leave a gap or overlap at {i}"
        );
        assert!(
            part.range.end.is_empty() || part.range.start < part.range.end,
            "range {i} is empty or reversed"
        );
        expected_start = &part.range.end;
    }
    assert!(
        expected_start == &space.end,
        "ranges do not reach the end of the table"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_proto::thunderhead::RunBlock;

    fn run(keys: &[(&str, u64)]) -> Run {
        let blocks = keys.iter().map(|(key, bytes)| RunBlock {
            first_key: key.as_bytes().to_vec().into(),
            raw_bytes: *bytes,
            entries: 1,
            ..RunBlock::default()
        });
        Run {
            entries: keys.len() as u64,
            first_key: keys[0].0.as_bytes().to_vec().into(),
            last_key: keys[keys.len() - 1].0.as_bytes().to_vec().into(),
            blocks: blocks.collect(),
            ..Run::default()
        }
    }

    fn starts(planned: &[PlannedRange]) -> Vec<String> {
        planned
            .iter()
            .map(|p| String::from_utf8_lossy(&p.range.start).into_owned())
            .collect()
    }

    #[test]
    fn an_empty_table_is_one_range() {
        let planned = plan_ranges(&KeyRange::new(*b"a", *b"z"), &Blocks::of(&[]), 10);
        assert_eq!(
            planned,
            [PlannedRange {
                range: KeyRange::new(*b"a", *b"z"),
                expected_bytes: 0,
                has_runs: false
            }]
        );
    }

    #[test]
    fn cuts_at_blocks_of_all_runs_and_says_where_some_lie() {
        let runs = [
            run(&[("b", 10), ("d", 10), ("f", 10)]),
            run(&[("c", 10), ("e", 10)]),
            run(&[("x", 5)]),
        ];
        let planned = plan_ranges(&KeyRange::new(*b"a", *b"z"), &Blocks::of(&runs), 20);
        assert_eq!(starts(&planned), ["a", "d", "f"]);
        assert_eq!(
            planned.iter().map(|p| p.expected_bytes).collect::<Vec<_>>(),
            [20, 20, 15]
        );
        assert!(planned.iter().all(|p| p.has_runs));
        let beside = plan_ranges(&KeyRange::new(*b"g", *b"x"), &Blocks::of(&runs), 20);
        assert!(beside.len() == 1 && !beside[0].has_runs);
    }

    #[test]
    fn one_key_repeated_in_many_runs_is_never_cut() {
        let runs: Vec<Run> = (0..10).map(|_| run(&[("k", 100)])).collect();
        let planned = plan_ranges(&KeyRange::new(*b"a", *b"z"), &Blocks::of(&runs), 100);
        assert_eq!(starts(&planned), ["a"]);
        assert!(planned[0].has_runs);
    }

    #[test]
    fn expected_bytes_add_up_whatever_the_target() {
        let runs: Vec<Run> = (0..7u8)
            .map(|r| {
                run(&(0..20u8)
                    .map(|b| (["k", "m", "p"][(r % 3) as usize], u64::from(b)))
                    .collect::<Vec<_>>())
            })
            .collect();
        let total: u64 = runs
            .iter()
            .flat_map(|r| &r.blocks)
            .map(|b| b.raw_bytes)
            .sum();
        for target in [1, 10, 100, 1000, 10_000] {
            let planned = plan_ranges(&KeyRange::new(*b"a", *b"z"), &Blocks::of(&runs), target);
            assert_eq!(planned.iter().map(|p| p.expected_bytes).sum::<u64>(), total);
        }
    }
}
