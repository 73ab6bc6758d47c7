//! Rows that are left out because nothing can be made of them. Agents leave them out and say so in the manifest
//! of the chunk; here they are counted over the whole job, recorded where people read them, and the job is
//! stopped when there are too many.
//!
//! What counts is the manifests: a chunk that is encoded again replaces its own. A table is recorded as a whole
//! and before anything of it is written, so recording again after a takeover records nothing twice.

use super::Leader;
use crate::job::{Phase, Table};
use std::sync::Arc;
use thunderhead_cluster::{RefusedRow, RefusedTable};
use thunderhead_source::Place;
use thunderhead_types::{Error, ErrorKind, Result};

impl Leader {
    /// Rows that the next chunk may describe; `None` where the first refused row ends the job.
    pub(super) fn refused_records_left(&self) -> Option<u64> {
        let (budget, recorded) = (self.steps.conflict_budget(), self.tally.described);
        (budget.refused_max > 0).then(|| budget.refused_records_max.saturating_sub(recorded))
    }

    fn beyond_refused(&self) -> bool {
        let budget = self.steps.conflict_budget();
        budget.refused_max > 0 && self.tally.refused_rows > budget.refused_max
    }

    /// A chunk of a table that is being encoded is done: goes on when it was the last, and ends the job when it
    /// was one refused row too many.
    pub(super) async fn chunk_encoded(&mut self, n: usize) -> Result<()> {
        if self.beyond_refused() {
            self.scheduler.clear_queue();
            for table in 0..self.tables.len() {
                if self.tables[table].refused_rows() > 0 {
                    self.start_recording_refused(table);
                }
            }
            return self.fail_beyond_refused();
        }
        if !self.tables[n].is_encoded() {
            return Ok(());
        }
        if self.steps.conflict_budget().refused_max > 0 {
            self.start_recording_refused(n);
            return Ok(());
        }
        self.all_encoded(n).await
    }

    /// Later phases were recorded before they began.
    fn start_recording_refused(&mut self, n: usize) {
        if self.tables[n].record.phase != Phase::Encoding || !self.recording_refused.insert(n) {
            return;
        }
        let (steps, table) = (Arc::clone(&self.steps), self.tables[n].clone());
        let job_id = self.job_id.clone();
        self.journal.begin(
            n,
            async move { steps.record_refused(&job_id, &table).await },
        );
    }

    /// The records of a table are where people read them.
    pub(super) async fn refused_recorded(&mut self, n: usize) -> Result<()> {
        self.recording_refused.remove(&n);
        if self.beyond_refused() {
            return self.fail_beyond_refused();
        }
        // A chunk may have been lost meanwhile; the last one begins again.
        if self.tables[n].is_encoded() {
            return self.all_encoded(n).await;
        }
        Ok(())
    }

    /// Ends the job when nothing is on its way to the records any more.
    fn fail_beyond_refused(&mut self) -> Result<()> {
        if self.recording_refused.is_empty() {
            let max = self.steps.conflict_budget().refused_max;
            let hint = self.steps.where_refused(&self.job_id);
            self.fail(beyond(&self.tables, max, &hint));
        }
        Ok(())
    }
}

/// The error of a job with more refused rows than it tolerates. It begins with the first of them.
fn beyond(tables: &[Table], max: u64, where_to_read: &str) -> Error {
    let counts = tables.iter().filter(|t| t.refused_rows() > 0);
    let counts: Vec<String> = counts
        .map(|t| format!("{} in table {}", t.refused_rows(), t.name()))
        .collect();
    let total: u64 = tables.iter().map(Table::refused_rows).sum();
    let found = format!(
        "{total} rows are refused so far ({}), lightning.max-error is {max}",
        counts.join(", ")
    );
    let first = tables.iter().find_map(|table| {
        let row = table.refused().next()?;
        Some((row.0, row.1))
    });
    let (place, cause) = match first {
        Some((path, row)) => (
            place_of(path, row).to_string(),
            format!("{}; {found}", row.error),
        ),
        None => ("job".to_owned(), found),
    };
    Error::new(ErrorKind::Data, place, cause).advice(format!(
        "mend the rows, or raise lightning.max-error: the same command goes on{where_to_read}"
    ))
}

fn place_of(path: &str, row: &thunderhead_proto::thunderhead::RefusedRow) -> Place {
    Place {
        path: path.to_owned(),
        line: row.line,
        byte: row.offset,
    }
}

/// What goes to the tables of records.
pub(crate) fn rows_to_record(table: &Table, which: RefusedTable) -> Vec<RefusedRow> {
    let malformed = which == RefusedTable::Syntax;
    let rows = table
        .refused()
        .filter(|(_, row)| row.malformed == malformed);
    rows.map(|(path, row)| RefusedRow {
        path: path.to_owned(),
        offset: row.offset,
        error: match row.line {
            0 => row.error.clone(),
            line => format!("line {line}: {}", row.error),
        },
        data: row.data.clone(),
    })
    .collect()
}
