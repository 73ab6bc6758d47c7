//! Where the runs of a table are, by key: which of them a range needs, and whether it can be merged now. Found when it
//! is asked for and kept until it changes: tables of a hundred thousand chunks have thousands of ranges.

use super::Leader;
use crate::job::{Table, TaskRef};
use crate::plan::spans::{Span, Spans, spans};
use std::collections::{BTreeMap, BTreeSet};
use thunderhead_types::KeyRange;

/// So many chunks that follow one another are looked at together: where the source is about in the order of its keys,
/// most of the others need not be looked at.
const GROUP: u64 = 256;

/// See the module; by table.
#[derive(Default)]
pub(super) struct Whereabouts {
    /// Where lost chunks had their runs; `None` while a chunk is open that may hold any key.
    lost: BTreeMap<usize, Option<Spans>>,
    /// Where the runs of agents that are away lie.
    away: BTreeMap<usize, Spans>,
    /// Where the runs of each group of chunks lie.
    groups: BTreeMap<(usize, u64), Spans>,
    /// Chunks by the agent that has their runs.
    holders: BTreeMap<String, BTreeSet<(usize, u64)>>,
}

impl Whereabouts {
    /// Of what is recorded.
    pub(super) fn of(tables: &[Table]) -> Self {
        let mut whereabouts = Self::default();
        for (n, table) in tables.iter().enumerate() {
            for (&number, manifest) in &table.manifests {
                whereabouts.encoded(&manifest.agent_id, n, number);
            }
        }
        whereabouts
    }

    /// A chunk has a manifest.
    pub(super) fn encoded(&mut self, agent: &str, table: usize, number: u64) {
        let held = self.holders.entry(agent.to_owned()).or_default();
        held.insert((table, number));
        self.chunk_changed(table, number);
    }

    /// A chunk has none any more.
    pub(super) fn forgotten(&mut self, agent: &str, table: usize, number: u64) {
        if let Some(held) = self.holders.get_mut(agent) {
            held.remove(&(table, number));
        }
        self.chunk_changed(table, number);
    }

    fn chunk_changed(&mut self, table: usize, number: u64) {
        self.lost.remove(&table);
        self.groups.remove(&(table, number / GROUP));
    }

    /// Tables and chunks whose runs the agent has.
    pub(super) fn held_by(&self, agent: &str) -> impl Iterator<Item = (usize, u64)> {
        self.holders.get(agent).into_iter().flatten().copied()
    }

    /// Agents that have runs of tables of which `wanted` says so.
    pub(super) fn holders(&self, wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = &String> {
        let holders = self.holders.iter();
        holders
            .filter(move |(_, held)| held.iter().any(|&(n, _)| wanted(n)))
            .map(|(agent, _)| agent)
    }

    /// Agents came or went, or one that is away has other runs.
    pub(super) fn away_changed(&mut self) {
        self.away.clear();
    }
}

impl Leader {
    /// Whether a task can be done now. A range cannot when a chunk that is to be encoded again, or a run at an agent
    /// that is away, may hold keys of it: merged without them it would lose rows.
    pub(crate) fn ready(&mut self, task_id: u64) -> bool {
        if let Some(&known) = self.ready.get(&task_id) {
            return known;
        }
        let ready = match TaskRef::from_id(task_id) {
            TaskRef::Range { table, number } => self.range_is_ready(table, number),
            TaskRef::Conflict { table, number } => self.conflict_is_ready(table, number),
            TaskRef::Chunk { .. } => true,
        };
        self.ready.insert(task_id, ready);
        ready
    }

    fn range_is_ready(&mut self, n: usize, number: u64) -> bool {
        let (table, lost) = (&self.tables[n], &self.lost);
        let Some((range, _)) = table.ranges.get(&number) else {
            return false;
        };
        let lost = self
            .whereabouts
            .lost
            .entry(n)
            .or_insert_with(|| lost_spans(n, table, lost));
        let complete = lost.as_ref().is_some_and(|lost| !lost.touch(range));
        complete && !at_away(&mut self.whereabouts, n, table, &self.away).touch(range)
    }

    /// Whether everything of a table that is encoded can be read.
    pub(super) fn all_is_here(&mut self, n: usize) -> bool {
        at_away(&mut self.whereabouts, n, &self.tables[n], &self.away).is_empty()
    }

    /// Whose runs cannot be read now.
    pub(crate) fn set_away(&mut self, away: &BTreeSet<String>) {
        if self.away != *away {
            self.away.clone_from(away);
            self.whereabouts.away_changed();
            self.ready.clear();
        }
    }

    /// Chunks of table `n` that may hold keys of `range`, in order: all that do, and some of their neighbours.
    pub(super) fn chunks_near(&mut self, n: usize, range: &KeyRange) -> Vec<u64> {
        let manifests = &self.tables[n].manifests;
        let groups = manifests.last_key_value().map_or(0, |(n, _)| n / GROUP + 1);
        let mut near = Vec::new();
        for group in 0..groups {
            let members = || manifests.range(group * GROUP..(group + 1) * GROUP);
            let runs = self.whereabouts.groups.entry((n, group));
            let runs =
                runs.or_insert_with(|| Spans::of(members().flat_map(|(_, m)| spans(&m.runs))));
            if runs.touch(range) {
                near.extend(members().map(|(number, _)| *number));
            }
        }
        near
    }
}

fn lost_spans(n: usize, table: &Table, lost: &BTreeMap<(usize, u64), Vec<Span>>) -> Option<Spans> {
    let known = || lost.range((n, 0)..(n + 1, 0)).map(|(_, spans)| spans);
    let open = table.chunks.len() - table.manifests.len();
    (known().count() >= open).then(|| Spans::of(known().flatten().cloned()))
}

fn at_away<'a>(
    whereabouts: &'a mut Whereabouts,
    n: usize,
    table: &Table,
    away: &BTreeSet<String>,
) -> &'a Spans {
    let holders = &whereabouts.holders;
    whereabouts.away.entry(n).or_insert_with(|| {
        let held = away.iter().filter_map(|agent| holders.get(agent));
        let theirs = held.flat_map(|held| held.range((n, 0)..(n + 1, 0)));
        let theirs = theirs.filter_map(|(_, number)| table.manifests.get(number));
        Spans::of(theirs.filter(|m| !m.stored).flat_map(|m| spans(&m.runs)))
    })
}
