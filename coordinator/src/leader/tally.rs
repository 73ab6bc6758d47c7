//! Sums over everything that is recorded of a job, kept up to date with each manifest and report. They are asked for
//! with every task and every status: counting them anew would cost time in proportion to the job each time.

use crate::job::{Phase, Table};
use crate::progress::Snapshot;
use thunderhead_proto::thunderhead::Manifest;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    rows: u64,
    source_bytes: u64,
    /// Rows that were left out.
    pub(super) refused_rows: u64,
    /// Those of them that are described.
    pub(super) described: u64,
    kv_bytes_planned: u64,
    kv_bytes_ingested: u64,
}

impl Tally {
    /// Of what is recorded.
    pub(super) fn of(tables: &[Table]) -> Self {
        let mut tally = Self::default();
        for table in tables {
            for (&number, manifest) in &table.manifests {
                tally.add(manifest, table.is_existing(number));
            }
            tally.add_ranges(table);
            for &number in table.reports.keys() {
                tally.add_report(table, number);
            }
        }
        tally
    }

    /// Rows that the table held before are read, but not imported.
    pub(super) fn add(&mut self, manifest: &Manifest, is_existing: bool) {
        if !is_existing {
            self.rows += manifest.rows;
        }
        self.source_bytes += manifest.source_bytes;
        self.refused_rows += manifest.refused_rows;
        self.described += manifest.refused.len() as u64;
    }

    /// The manifest is void.
    pub(super) fn remove(&mut self, manifest: &Manifest, is_existing: bool) {
        if !is_existing {
            self.rows -= manifest.rows;
        }
        self.source_bytes -= manifest.source_bytes;
        self.refused_rows -= manifest.refused_rows;
        self.described -= manifest.refused.len() as u64;
    }

    /// The ranges of the table are planned.
    pub(super) fn add_ranges(&mut self, table: &Table) {
        self.kv_bytes_planned += table.ranges.values().map(|(_, bytes)| bytes).sum::<u64>();
    }

    /// A range is ingested.
    pub(super) fn add_report(&mut self, table: &Table, number: u64) {
        self.kv_bytes_ingested += table.ranges.get(&number).map_or(0, |(_, bytes)| *bytes);
    }

    /// What people are shown; costs time in proportion to the tables.
    pub(super) fn snapshot(&self, tables: &[Table]) -> Snapshot {
        let sum = |count: fn(&Table) -> usize| tables.iter().map(count).sum();
        Snapshot {
            tables: tables.len(),
            tables_finished: sum(|t| usize::from(t.record.phase == Phase::Finished)),
            chunks: sum(|t| t.chunks.len()),
            chunks_done: sum(|t| t.manifests.len()),
            ranges: sum(|t| t.ranges.len()),
            ranges_done: sum(|t| t.reports.len()),
            rows: self.rows,
            source_bytes_total: tables.iter().map(|t| t.record.source_bytes).sum(),
            source_bytes_done: self.source_bytes,
            kv_bytes_planned: self.kv_bytes_planned,
            kv_bytes_ingested: self.kv_bytes_ingested,
            ..Snapshot::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::table_record;
    use thunderhead_proto::thunderhead::{EncodeTask, ExistingRows, IngestReport, RefusedRow};
    use thunderhead_types::KeyRange;

    #[test]
    fn sums_that_are_kept_up_are_those_that_are_counted_anew() {
        let existing = EncodeTask {
            existing: Some(ExistingRows::default()),
            ..EncodeTask::default()
        };
        let mut table = Table::new(table_record(), vec![existing, EncodeTask::default()]);
        let manifest = |rows| Manifest {
            rows,
            source_bytes: 10 * rows,
            refused_rows: 2,
            refused: vec![RefusedRow::default()],
            ..Manifest::default()
        };
        let mut kept = Tally::default();
        for (number, rows) in [(0, 5), (1, 7)] {
            kept.add(&manifest(rows), table.is_existing(number));
            table.manifests.insert(number, manifest(rows).into());
        }
        table.ranges.insert(0, (KeyRange::new(*b"a", *b"b"), 100));
        table.ranges.insert(1, (KeyRange::new(*b"b", *b"c"), 11));
        kept.add_ranges(&table);
        table.reports.insert(1, IngestReport::default());
        kept.add_report(&table, 1);
        let tables = [table];
        assert_eq!(kept, Tally::of(&tables));
        let shown = kept.snapshot(&tables);
        assert_eq!((shown.rows, shown.source_bytes_done), (7, 120));
        assert_eq!((kept.refused_rows, kept.described), (4, 2));
        assert_eq!((shown.kv_bytes_planned, shown.kv_bytes_ingested), (111, 11));
        assert_eq!((shown.chunks_done, shown.ranges_done), (2, 1));

        let [mut table] = tables;
        for number in [0, 1] {
            if let Some(void) = table.manifests.remove(&number) {
                kept.remove(&void, table.is_existing(number));
            }
            assert_eq!(kept, Tally::of(std::slice::from_ref(&table)));
        }
    }
}
