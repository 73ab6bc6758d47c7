//! Which agent ingests which range: where most of its bytes lie, as long as everyone gets about the same.
//! Pure; the scheduler lets idle agents help those who turn out slower.

use crate::job::Table;
use std::collections::BTreeMap;
use thunderhead_proto::thunderhead::Run;

/// What one agent may be given above the mean before others are preferred. Leaves room below the promised 5 %.
const LOAD_MAX_RATIO: f64 = 1.02;

/// The agent for each open range of the table; empty when there are no agents.
pub fn homes(table: &Table, agents: &[String]) -> BTreeMap<u64, String> {
    if agents.is_empty() {
        return BTreeMap::new();
    }
    let index: BTreeMap<&str, usize> = agents.iter().map(String::as_str).zip(0..).collect();
    let starts: Vec<(&[u8], u64)> = table
        .ranges
        .iter()
        .map(|(number, (range, _))| (range.start.as_slice(), *number))
        .collect();
    let mut local: BTreeMap<(u64, usize), u64> = BTreeMap::new();
    for (_, manifest) in table.source_manifests() {
        if let Some(&agent) = index.get(manifest.agent_id.as_str()) {
            manifest
                .runs
                .iter()
                .for_each(|run| add_run(&mut local, &starts, agent, run));
        }
    }
    let mut open: Vec<(u64, u64)> = table
        .open_ranges()
        .map(|number| (table.ranges[&number].1, number))
        .collect();
    open.sort_unstable_by(|a, b| b.cmp(a));
    let total: u64 = open.iter().map(|(bytes, _)| bytes).sum();
    let limit = (total as f64 / agents.len() as f64 * LOAD_MAX_RATIO) as u64;
    let mut load = vec![0u64; agents.len()];
    let mut homes = BTreeMap::new();
    for (bytes, number) in open {
        let most_local = (0..agents.len())
            .filter(|&a| load[a] + bytes <= limit)
            .max_by_key(|&a| {
                (
                    local.get(&(number, a)).copied().unwrap_or(0),
                    std::cmp::Reverse(load[a]),
                )
            });
        let least_loaded = || (0..agents.len()).min_by_key(|&a| load[a]).unwrap_or(0);
        let agent = most_local.unwrap_or_else(least_loaded);
        load[agent] += bytes;
        homes.insert(number, agents[agent].clone());
    }
    homes
}

/// Adds the bytes of a run's blocks to the ranges they begin in.
fn add_run(
    local: &mut BTreeMap<(u64, usize), u64>,
    starts: &[(&[u8], u64)],
    agent: usize,
    run: &Run,
) {
    for block in &run.blocks {
        let after = starts.partition_point(|(start, _)| *start <= block.first_key.as_ref());
        if let Some((_, number)) = after.checked_sub(1).and_then(|at| starts.get(at)) {
            *local.entry((*number, agent)).or_default() += block.raw_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::job::tests::table_record;
    use crate::plan::ranges::{Blocks, plan_ranges};
    use std::sync::Arc;
    use thunderhead_proto::thunderhead::{Manifest, RunBlock};
    use thunderhead_types::KeyRange;

    fn key(i: u64) -> Vec<u8> {
        i.to_be_bytes().to_vec()
    }

    /// Ranges of 10 keys each; the owner of key `i` holds `bytes(i)` of it.
    fn table(ranges: u64, owner: impl Fn(u64) -> usize, bytes: impl Fn(u64) -> u64) -> Table {
        let mut table = Table::new(table_record(), Vec::new());
        let mut runs: BTreeMap<usize, Run> = BTreeMap::new();
        for r in 0..ranges {
            let sum = (r * 10..r * 10 + 10).map(&bytes).sum();
            let range = KeyRange::new(key(r * 10), key(r * 10 + 10));
            table.ranges.insert(r, (range, sum));
            for i in r * 10..r * 10 + 10 {
                runs.entry(owner(i)).or_default().blocks.push(RunBlock {
                    first_key: key(i).into(),
                    raw_bytes: bytes(i),
                    ..RunBlock::default()
                });
            }
        }
        for (agent, run) in runs {
            table.manifests.insert(
                agent as u64,
                Arc::new(Manifest {
                    agent_id: format!("a{agent}"),
                    runs: vec![run],
                    ..Manifest::default()
                }),
            );
        }
        table
    }

    fn agents(n: usize) -> Vec<String> {
        (0..n).map(|a| format!("a{a}")).collect()
    }

    fn skew(table: &Table, homes: &BTreeMap<u64, String>, agents: usize) -> f64 {
        let mut load: BTreeMap<&str, u64> = BTreeMap::new();
        for (number, agent) in homes {
            *load.entry(agent).or_default() += table.ranges[number].1;
        }
        let mean = load.values().sum::<u64>() as f64 / agents as f64;
        load.values().copied().max().unwrap() as f64 / mean
    }

    #[test]
    fn a_range_goes_where_its_bytes_lie() {
        let t = table(40, |i| (i / 100) as usize, |_| 5);
        let homes = homes(&t, &agents(4));
        for (number, agent) in &homes {
            assert_eq!(agent, &format!("a{}", number / 10));
        }
    }

    #[test]
    fn skewed_bytes_and_one_hoarding_agent_still_give_even_shares() {
        // Zipf-like weights; nine tenths of the runs lie on one agent.
        let weight = |i: u64| 1_000_000 / (i % 97 + 1);
        let t = table(
            400,
            |i| {
                if i % 10 == 0 {
                    1 + (i / 10 % 7) as usize
                } else {
                    0
                }
            },
            weight,
        );
        let homes = homes(&t, &agents(8));
        assert_eq!(homes.len(), 400);
        assert!(skew(&t, &homes, 8) <= 1.05, "{}", skew(&t, &homes, 8));
    }

    /// Files of very different sizes are cut to chunks, chunks go to whoever is free, keys follow Zipf's law; planned
    /// by the product's own planner.
    #[test]
    fn a_table_of_skewed_files_and_skewed_keys_is_shared_evenly() {
        const CHUNK: u64 = 256;
        const BLOCK: u64 = 1 << 20;
        for agents in [2usize, 4, 8] {
            // Ten times as much in one file as in each other.
            let chunks_of = |file: u64| if file == 0 { 10 * 4 } else { 4 };
            let mut table = Table::new(table_record(), Vec::new());
            let chunks: u64 = (0..11).map(chunks_of).sum();
            for chunk in 0..chunks {
                let mut keys: Vec<u64> = (0..CHUNK)
                    .map(|i| {
                        // About 1/x: half of all keys lie in a thousandth of the space.
                        let u = ((i * 2_654_435_761 + chunk * 40_503) % 65_536) as f64 / 65_536.0;
                        (2f64.powf(40.0 * u)) as u64
                    })
                    .collect();
                keys.sort_unstable();
                let blocks: Vec<RunBlock> = keys
                    .iter()
                    .map(|&k| RunBlock {
                        first_key: key(k).into(),
                        raw_bytes: BLOCK,
                        ..RunBlock::default()
                    })
                    .collect();
                let run = Run {
                    entries: CHUNK,
                    first_key: key(keys[0]).into(),
                    last_key: key(keys[keys.len() - 1]).into(),
                    blocks,
                    ..Run::default()
                };
                // One agent is three times as fast as the others.
                let agent = (chunk as usize % (agents + 2)).saturating_sub(2);
                let manifest = Manifest {
                    agent_id: format!("a{agent}"),
                    runs: vec![run],
                    ..Manifest::default()
                };
                table.manifests.insert(chunk, Arc::new(manifest));
            }
            let runs: Vec<Run> = table
                .manifests
                .values()
                .flat_map(|m| m.runs.clone())
                .collect();
            let whole = KeyRange::new(key(0), Vec::new());
            let blocks = Blocks::of(&runs);
            let planned = plan_ranges(&whole, &blocks, 72 << 20);
            for (number, part) in (0..).zip(planned) {
                table
                    .ranges
                    .insert(number, (part.range, part.expected_bytes));
            }
            let homes = homes(&table, &self::agents(agents));
            let skew = skew(&table, &homes, agents);
            assert!(
                skew <= 1.05,
                "{agents} agents, {} ranges: {skew}",
                table.ranges.len()
            );
        }
    }

    #[test]
    fn agents_that_hold_nothing_get_their_share_too() {
        let t = table(100, |_| 0, |_| 7);
        let homes = homes(&t, &agents(4));
        assert!(skew(&t, &homes, 4) <= 1.05);
        assert!(super::homes(&t, &[]).is_empty());
    }
}
