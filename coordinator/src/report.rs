//! The final report of a job, as text for people and JSON for machines: what was read, what was written
//! and how it was verified.

use crate::conflicts::Resolution;
use crate::job::Table;
use crate::leader::checksum;
use crate::usage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use thunderhead_cluster::task_id;
use thunderhead_types::Checksum;

/// One table of the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableReport {
    /// `db.table`.
    pub table: String,
    /// Rows read.
    pub rows: u64,
    /// Bytes of its source files.
    pub source_bytes: u64,
    /// Key-value pairs in the cluster.
    pub kv_pairs: u64,
    /// Bytes of those pairs.
    pub kv_bytes: u64,
    /// CRC-64/XZ XOR over them, hexadecimal: `Checksum_crc64_xor` of ADMIN CHECKSUM TABLE.
    pub checksum: String,
    /// SST files ingested.
    pub ssts: u64,
    /// Regions ingested into.
    pub regions: u64,
    /// Bytes sent to each replica: pairs, or the files built from them.
    pub sent_bytes: u64,
    /// Byte-identical pairs of which one was kept.
    pub collapsed_pairs: u64,
    /// Keys that rows shared.
    pub conflicts: u64,
    /// Rows that shared one.
    pub conflicting_rows: u64,
    /// Rows left out because of it.
    pub removed_rows: u64,
    /// Rows left out because nothing could be made of them; also counted in `rows`.
    pub refused_rows: u64,
    /// What else is to be known.
    #[serde(default)]
    pub note: Option<String>,
    /// Retried requests.
    pub retries: u64,
    /// Seconds from its first task to its verification in this process.
    pub seconds: f64,
}

/// The whole job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Job id.
    pub job: String,
    /// Whether the checksum of each table was compared with the cluster.
    pub verified: bool,
    /// Which way pairs took into TiKV and why, with the number of ranges that did.
    pub ingest: BTreeMap<String, u64>,
    /// Seconds in this process.
    pub seconds: f64,
    /// CPU seconds of this process.
    pub cpu_seconds: f64,
    /// Largest resident set of this process, bytes.
    pub peak_rss_bytes: u64,
    /// The tables, in plan order.
    pub tables: Vec<TableReport>,
    /// It was finished before this process began: what is told is what that one did.
    pub already_finished: bool,
}

impl Report {
    /// Sums up a finished job.
    pub fn new(job: &str, tables: &[Table], verified: bool, elapsed: Duration) -> Self {
        let mut ingest = BTreeMap::new();
        for report in tables.iter().flat_map(|t| t.reports.values()) {
            *ingest.entry(report.path.clone()).or_default() += 1;
        }
        Self {
            job: job.to_owned(),
            verified,
            ingest,
            seconds: elapsed.as_secs_f64(),
            cpu_seconds: usage::cpu_seconds(),
            peak_rss_bytes: usage::peak_rss_bytes(),
            tables: tables.iter().map(table_report).collect(),
            already_finished: false,
        }
    }

    /// A table with one line per imported table and a line of sums.
    pub fn to_text(&self) -> String {
        let mut rows = vec![
            [
                "table", "rows", "source", "KV pairs", "SSTs", "regions", "seconds", "MB/s",
                "checksum",
            ]
            .map(str::to_owned),
        ];
        for t in &self.tables {
            rows.push([
                t.table.clone(),
                t.rows.to_string(),
                human_bytes(t.source_bytes),
                t.kv_pairs.to_string(),
                t.ssts.to_string(),
                t.regions.to_string(),
                format!("{:.1}", t.seconds),
                rate(t.source_bytes, t.seconds),
                t.checksum.clone(),
            ]);
        }
        let sum = |of: fn(&TableReport) -> u64| self.tables.iter().map(of).sum::<u64>();
        let source = sum(|t| t.source_bytes);
        rows.push([
            "total".to_owned(),
            sum(|t| t.rows).to_string(),
            human_bytes(source),
            sum(|t| t.kv_pairs).to_string(),
            sum(|t| t.ssts).to_string(),
            sum(|t| t.regions).to_string(),
            format!("{:.1}", self.seconds),
            rate(source, self.seconds),
            if self.verified {
                "verified"
            } else {
                "not verified"
            }
            .to_owned(),
        ]);
        let mut text = aligned(&rows);
        if self.already_finished {
            text.push_str("already finished: nothing was done now, this is the report of the job that did it\n");
        }
        let _ = writeln!(
            text,
            "CPU {:.1} s, {:.1} s per GB of source; peak memory {}",
            self.cpu_seconds,
            self.cpu_seconds / (source.max(1) as f64 / 1e9),
            human_bytes(self.peak_rss_bytes)
        );
        let _ = writeln!(
            text,
            "{} of pairs; {} sent to each replica",
            human_bytes(sum(|t| t.kv_bytes)),
            human_bytes(sum(|t| t.sent_bytes))
        );
        for (path, ranges) in &self.ingest {
            let _ = writeln!(text, "ranges ingested: {ranges} by {path}");
        }
        for t in self.tables.iter().filter(|t| t.refused_rows > 0) {
            let _ = writeln!(
                text,
                "{}: {} rows were refused and left out; see tables type_error_v1 and syntax_error_v1, task_id {}",
                t.table,
                t.refused_rows,
                task_id(&self.job)
            );
        }
        for (t, note) in self
            .tables
            .iter()
            .filter_map(|t| Some((t, t.note.as_ref()?)))
        {
            let _ = writeln!(text, "{}: {note}", t.table);
        }
        for t in self.tables.iter().filter(|t| t.conflicts > 0) {
            let _ = writeln!(
                text,
                "{}: {} rows shared {} primary or unique keys, {} were left out; see `thunderhead conflicts {}`",
                t.table, t.conflicting_rows, t.conflicts, t.removed_rows, self.job
            );
        }
        text
    }
}

fn table_report(table: &Table) -> TableReport {
    let (mut ingested, mut collapsed) = (Checksum::default(), Checksum::default());
    let (mut ssts, mut regions, mut retries, mut sent_bytes) = (0, 0, 0, 0);
    for report in table.reports.values() {
        ingested.merge(&checksum(report.checksum));
        collapsed.merge(&checksum(report.collapsed));
        ssts += report.ssts;
        regions += report.regions;
        retries += report.retries;
        sent_bytes += report.sent_bytes;
    }
    let resolution = table.record.resolution.as_ref();
    TableReport {
        table: table.name(),
        rows: table.source_manifests().map(|(_, m)| m.rows).sum(),
        source_bytes: table.record.source_bytes,
        kv_pairs: ingested.kvs,
        kv_bytes: ingested.bytes,
        checksum: format!("{:016x}", ingested.crc64_xor),
        ssts,
        regions,
        sent_bytes,
        collapsed_pairs: collapsed.kvs,
        conflicts: resolution.map_or(0, Resolution::groups),
        conflicting_rows: resolution.map_or(0, |r| r.rows),
        removed_rows: resolution.map_or(0, |r| r.losers),
        refused_rows: table.refused_rows(),
        note: table.record.note.clone(),
        retries,
        seconds: table.elapsed.as_secs_f64(),
    }
}

/// MB/s (10^6), or `-` when no time passed.
fn rate(bytes: u64, seconds: f64) -> String {
    if seconds > 0.0 {
        format!("{:.1}", bytes as f64 / 1e6 / seconds)
    } else {
        "-".to_owned()
    }
}

/// `12.3 MB` with decimal units.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// First column left, the others right aligned.
pub fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column == 0 {
                let _ = write!(line, "{cell:<w$}", w = widths[0]);
            } else {
                let _ = write!(line, "  {cell:>w$}", w = widths[column]);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns left aligned, rows of any length.
pub fn aligned_left(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well_at_every_size() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (123_456_789, "123.5 MB"),
            (5_000_000_000_000, "5.0 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a", "1"].map(str::to_owned),
            ["bbb", "22"].map(str::to_owned),
        ];
        assert_eq!(aligned(&rows), "a     1\nbbb  22\n");
    }
}
