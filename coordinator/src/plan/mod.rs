//! From what the user has to what will be done: tables and chunks from files, ranges from runs. Decides,
//! and does no work itself.

pub(crate) mod chunks;
mod packing;
pub mod placement;
pub mod ranges;
pub(crate) mod spans;

use crate::job::{Table, TableRecord};
use crate::report::{aligned, human_bytes};
use serde::Serialize;

/// What a job will do, before a byte is written.
#[derive(Clone, Debug, Serialize)]
pub struct JobPlan {
    /// Job id.
    pub job: String,
    /// Source directory.
    pub source: String,
    /// PD cluster id.
    pub cluster_id: u64,
    /// Encode threads.
    pub threads: u32,
    /// Memory budget, bytes.
    pub memory_bytes: u64,
    /// Bytes free in the sort directory.
    pub disk_free_bytes: u64,
    /// The tables in plan order.
    pub tables: Vec<TablePlan>,
}

/// What a table's rows will be, from a sample of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) rows: u64,
    pub(crate) rows_exact: bool,
    /// Bytes of their pairs.
    pub(crate) kv_bytes: u64,
}

/// What will happen to a table. Numbers of rows, pairs, bytes and ranges are estimates from a sample of rows.
#[derive(Clone, Debug, Serialize)]
pub struct TablePlan {
    /// `db.table`.
    pub table: String,
    /// What will be done.
    pub action: &'static str,
    /// Source files.
    pub files: usize,
    /// Bytes of the source files.
    pub source_bytes: u64,
    /// Encode tasks.
    pub chunks: usize,
    /// Rows.
    pub rows: u64,
    /// Whether they were counted.
    pub rows_exact: bool,
    /// Key-value pair bytes.
    pub kv_bytes: u64,
    /// Bytes that sorted runs need on disk.
    pub disk_bytes: u64,
    /// Ranges.
    pub ranges: u64,
}

/// A run holds pairs in LZ4 blocks; index entries shrink to a third, rows to half. This is on the safe side.
const RUN_BYTES_PER_KV_BYTE: f64 = 0.7;

/// What this version reaches on one encode thread and in the ingest behind it, bytes of source per second;
/// only for the estimate of the time.
const BYTES_PER_SECOND_AND_THREAD: f64 = 20e6;

impl TablePlan {
    /// A plan for `table` whose rows become what `estimate` says.
    pub(crate) fn new(
        table: &Table,
        action: &'static str,
        estimate: &Estimate,
        range_bytes: u64,
    ) -> Self {
        let TableRecord { source_bytes, .. } = table.record;
        let kv_bytes = estimate.kv_bytes;
        // Rows that the table holds become runs, too, where conflicts with them are looked for.
        let reads_existing = table.chunks.values().any(|chunk| chunk.existing.is_some());
        let existing = table.record.existing.filter(|_| reads_existing);
        let run_kv_bytes = kv_bytes + existing.map_or(0, |existing| existing.sum.bytes);
        let parts = table.chunks.values().flat_map(|chunk| &chunk.parts);
        let mut files: Vec<&str> = parts.map(|part| part.path.as_str()).collect();
        files.dedup();
        Self {
            table: table.name(),
            action,
            files: files.len(),
            source_bytes,
            chunks: table.chunks.len(),
            rows: estimate.rows,
            rows_exact: estimate.rows_exact,
            kv_bytes,
            disk_bytes: (run_kv_bytes as f64 * RUN_BYTES_PER_KV_BYTE) as u64,
            ranges: kv_bytes.div_ceil(range_bytes.max(1)).max(1),
        }
    }
}

impl JobPlan {
    /// Bytes of disk the job may need at once: all tables may be encoded before the first is ingested.
    pub fn disk_bytes(&self) -> u64 {
        self.tables.iter().map(|t| t.disk_bytes).sum()
    }

    /// Seconds the job may take.
    pub fn eta_seconds(&self) -> u64 {
        let bytes: u64 = self.tables.iter().map(|t| t.source_bytes).sum();
        (bytes as f64 / (BYTES_PER_SECOND_AND_THREAD * f64::from(self.threads.max(1)))).ceil()
            as u64
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut rows = vec![
            [
                "table", "action", "files", "source", "chunks", "rows", "KV bytes", "disk",
                "ranges",
            ]
            .map(str::to_owned),
        ];
        for t in &self.tables {
            rows.push([
                t.table.clone(),
                t.action.to_owned(),
                t.files.to_string(),
                human_bytes(t.source_bytes),
                t.chunks.to_string(),
                shown(t.rows, t.rows_exact),
                human_bytes(t.kv_bytes),
                human_bytes(t.disk_bytes),
                t.ranges.to_string(),
            ]);
        }
        let sum = |of: fn(&TablePlan) -> u64| self.tables.iter().map(of).sum::<u64>();
        rows.push([
            "total".to_owned(),
            String::new(),
            sum(|t| t.files as u64).to_string(),
            human_bytes(sum(|t| t.source_bytes)),
            sum(|t| t.chunks as u64).to_string(),
            shown(sum(|t| t.rows), self.tables.iter().all(|t| t.rows_exact)),
            human_bytes(sum(|t| t.kv_bytes)),
            human_bytes(self.disk_bytes()),
            sum(|t| t.ranges).to_string(),
        ]);
        format!(
            "job {} from {} into cluster {}\n\n{}\n{} threads, {} of memory; sorted runs need about {} of disk, {} are free; about {} s\n\
             nothing was written\n",
            self.job,
            self.source,
            self.cluster_id,
            aligned(&rows),
            self.threads,
            human_bytes(self.memory_bytes),
            human_bytes(self.disk_bytes()),
            human_bytes(self.disk_free_bytes),
            self.eta_seconds(),
        )
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"plan": self, "disk_bytes": self.disk_bytes(), "eta_seconds": self.eta_seconds()})
    }
}

/// A number that may be an estimate.
fn shown(number: u64, exact: bool) -> String {
    format!("{}{number}", if exact { "" } else { "~" })
}
