//! What the leader reads out of its records: whose attempts count, where runs lie, and whether what was ingested is
//! what was encoded.

use super::{Leader, conflicts, overlaps};
use crate::job::{Phase, Table, TaskRef};
use crate::progress::{Progress, Snapshot};
use crate::scheduler::AttemptName;
use std::collections::BTreeSet;
use thunderhead_proto::thunderhead as wire;
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};

impl Leader {
    /// Job id.
    pub(crate) fn job_id(&self) -> &str {
        &self.job_id
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Counts over all tables.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.tally.snapshot(&self.tables)
    }

    /// Whether what the attempt left is needed: it is the one that counts, and its table is not finished.
    pub(crate) fn is_recorded(&self, task_id: u64, agent: &str, attempt_dir: &str) -> bool {
        let task = TaskRef::from_id(task_id);
        let table = self.tables.get(task.table());
        if table.is_none_or(|table| table.record.phase == Phase::Finished) {
            return false;
        }
        match task {
            TaskRef::Chunk { table, number } => self
                .tables
                .get(table)
                .and_then(|t| t.manifests.get(&number))
                .is_some_and(|m| m.agent_id == agent && m.attempt_dir == attempt_dir),
            TaskRef::Conflict { table, number } => {
                self.conflict_is_kept(table, number, agent, attempt_dir)
            }
            TaskRef::Range { .. } => false,
        }
    }

    /// Whether an attempt, by its name, belongs to the plan as it is.
    pub(crate) fn planned_by(&self, task_id: u64, name: AttemptName) -> bool {
        let task = TaskRef::from_id(task_id);
        // The search for conflicts is not recorded: each leader begins it anew.
        let current = !matches!(task, TaskRef::Conflict { .. }) || name.0 == self.epoch;
        let table = self.tables.get(task.table());
        current && table.is_some_and(|t| name > (t.record.planned_epoch, t.record.planned_attempts))
    }

    /// Agents whose runs are still needed.
    pub(crate) fn holders(&self) -> BTreeSet<String> {
        let needed = |table: &Table| table.record.phase < Phase::Ingested;
        let chunks = self.whereabouts.holders(|n| needed(&self.tables[n]));
        let conflicts = self.tables.iter().filter(|table| needed(table));
        chunks
            .chain(conflicts.flat_map(conflicts::holders))
            .cloned()
            .collect()
    }
}

/// Tally of a checksum message.
pub fn checksum(message: Option<wire::Checksum>) -> Checksum {
    let c = message.unwrap_or_default();
    Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    }
}

/// Where runs of a table will still be read: while ranges are ingested only in those that are open.
pub(super) struct Readers<'a> {
    /// Ascending; `None` = everywhere.
    open: Option<Vec<&'a KeyRange>>,
}

impl<'a> Readers<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        let open = (table.record.phase == Phase::Ingesting).then(|| {
            let mut open: Vec<_> = table.open_ranges().map(|n| &table.ranges[&n].0).collect();
            open.sort_unstable_by(|a, b| a.start.cmp(&b.start));
            open
        });
        Self { open }
    }

    /// Whether somebody will still read these runs.
    pub(super) fn need(&self, runs: &[wire::Run]) -> bool {
        let Some(open) = &self.open else { return true };
        runs.iter().filter(|run| run.entries > 0).any(|run| {
            let ends_before = |range: &&KeyRange| {
                !range.end.is_empty() && range.end.as_slice() <= run.first_key.as_ref()
            };
            let next = open.get(open.partition_point(ends_before));
            next.is_some_and(|range| overlaps(range, &run.first_key, &run.last_key))
        })
    }
}

/// What the table holds, where it was not empty: what was there, less what was deleted or written over, and what
/// was ingested. Each range has proved this of itself; here that the ranges together are the table.
fn with_existing(table: &Table, ingested: Checksum) -> Result<Checksum> {
    let Some(existing) = &table.record.existing else {
        return Ok(ingested);
    };
    let (mut before, mut gone) = (Checksum::default(), Checksum::default());
    for report in table.reports.values() {
        before.merge(&checksum(report.before));
        gone.merge(&checksum(report.deleted));
        gone.merge(&checksum(report.overwritten));
    }
    if before == existing.sum && gone.kvs <= before.kvs && gone.bytes <= before.bytes {
        let mut left = before;
        left.remove(&gone);
        left.merge(&ingested);
        return Ok(left);
    }
    let cause = format!(
        "the table held {} pairs, its ranges {}",
        existing.sum.kvs, before.kvs
    );
    let place = format!("table {}", table.name());
    Err(Error::new(ErrorKind::Checksum, place, cause)
        .advice("this is a bug: keep the sort directory and report it"))
}

/// What was ingested, after proving that it is what was encoded: nothing lost, nothing doubled.
pub(super) fn reconcile(table: &Table) -> Result<Checksum> {
    let (mut encoded, mut ingested, mut accounted) = (
        Checksum::default(),
        Checksum::default(),
        Checksum::default(),
    );
    table
        .source_manifests()
        .for_each(|(_, m)| encoded.merge(&checksum(m.checksum)));
    for report in table.reports.values() {
        ingested.merge(&checksum(report.checksum));
        accounted.merge(&checksum(report.checksum));
        accounted.merge(&checksum(report.collapsed));
        accounted.merge(&checksum(report.removed));
    }
    if accounted == encoded {
        return with_existing(table, ingested);
    }
    let cause = format!(
        "{} pairs were encoded but {} reached the cluster (bytes {} and {})",
        encoded.kvs, accounted.kvs, encoded.bytes, accounted.bytes
    );
    Err(Error::new(ErrorKind::Checksum, format!("table {}", table.name()), cause)
        .advice("this is a bug: keep the sort directory and report it; TRUNCATE the table before importing again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::table_record;

    #[test]
    fn runs_are_needed_where_a_range_is_open_and_before_there_are_ranges() {
        let mut table = Table::new(table_record(), Vec::new());
        let run = |first: &str, last: &str| {
            let key = |text: &str| text.as_bytes().to_vec().into();
            vec![wire::Run {
                entries: 1,
                first_key: key(first),
                last_key: key(last),
                ..wire::Run::default()
            }]
        };
        assert!(Readers::of(&table).need(&run("x", "y")));
        table.record.phase = Phase::Ingesting;
        let ranges = [("a", "c"), ("c", "f"), ("f", "k"), ("k", "")];
        for (number, (start, end)) in (0..).zip(ranges) {
            let range = KeyRange::new(start, end);
            table.ranges.insert(number, (range, 1));
        }
        for done in [0, 2] {
            table.reports.insert(done, wire::IngestReport::default());
        }
        let need = |first, last| Readers::of(&table).need(&run(first, last));
        // A range ends before its end, a run with its last key.
        assert!(!need("a", "b") && need("a", "c") && need("c", "d") && need("e", "g"));
        assert!(!need("f", "j") && need("f", "k") && need("z", "z"));
        assert!(
            !Readers::of(&table).need(&[wire::Run::default()]),
            "nothing in it"
        );
        table.reports.insert(1, wire::IngestReport::default());
        table.reports.insert(3, wire::IngestReport::default());
        assert!(!Readers::of(&table).need(&run("a", "z")));
    }
}
