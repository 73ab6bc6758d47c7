//! An ingest task: the runs of a range are merged, written to its regions, ingested, and the range is
//! compared with what TiKV then holds. One range is one unit: done and verified, or to be done again.

use crate::held;
use crate::sort::{ConflictHook, MergeBudget, MergedRuns, SortError};
use crate::worker::{Shared, on_thread};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thunderhead_cluster::PairSource;
use thunderhead_codec::keys::{self, TableKey};
use thunderhead_proto::thunderhead::{self as wire, IngestReport, IngestTask};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};

/// Part of the agent's memory that all open readers together may use for the blocks of runs they merge.
const MERGE_MEMORY_SHARE: f64 = 0.2;

/// Why a task failed, and which chunks must be encoded again because their runs are gone or damaged.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) lost_tasks: Vec<u64>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            lost_tasks: Vec::new(),
        }
    }
}

/// Runs the task until its range is verified in the cluster.
pub(crate) async fn run(shared: &Arc<Shared>, task: &IngestTask) -> Result<IngestReport, Failed> {
    let bug = |cause: &str| {
        Error::new(ErrorKind::Internal, "ingest task", cause)
            .advice("this is a bug; please report it")
    };
    let spec = task.table.as_ref().ok_or_else(|| bug("no table"))?;
    let range = task.range.as_ref().ok_or_else(|| bug("no range"))?;
    let range = KeyRange::new(range.start.clone(), range.end.clone());
    let table = format!("{}.{}", spec.database, spec.table);

    let merged = Arc::new(open_runs(shared, task, &range, &table).await?);
    let source: Arc<dyn PairSource> = Arc::clone(&merged) as Arc<dyn PairSource>;
    let ingested = shared
        .importer
        .ingest_range(&range, spec.commit_ts, source)
        .await;
    let stats = ingested.map_err(|error| lost_or(error, task))?;

    let remote = shared.importer.checksum(&range).await?;
    if remote != stats.checksum {
        let cause = format!(
            "the cluster holds {} pairs of a range for which {} were written",
            remote.kvs, stats.checksum.kvs
        );
        let error = Error::new(ErrorKind::Checksum, format!("table {table}"), cause)
            .advice("was the table written to during the import? TRUNCATE it and import it again");
        return Err(error.into());
    }
    shared
        .totals
        .ingested_bytes
        .fetch_add(stats.checksum.bytes, Ordering::Relaxed);
    Ok(IngestReport {
        checksum: Some(to_wire(stats.checksum)),
        collapsed: Some(to_wire(merged.duplicates().collapsed)),
        ssts: stats.ssts,
        regions: stats.regions,
        retries: stats.retries,
    })
}

fn to_wire(c: Checksum) -> wire::Checksum {
    wire::Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    }
}

async fn open_runs(
    shared: &Arc<Shared>,
    task: &IngestTask,
    range: &KeyRange,
    table: &str,
) -> Result<MergedRuns, Failed> {
    let budget = MergeBudget {
        memory_bytes: (shared.config.memory_bytes as f64 * MERGE_MEMORY_SHARE) as usize
            / shared.config.readers_max.max(1),
        scratch_dir: held::scratch_dir(&shared.config.sort_dir),
    };
    let paths: Vec<PathBuf> = task.run_paths.iter().map(PathBuf::from).collect();
    let (range, ledger) = (range.clone(), Arc::clone(&shared.ledger));
    let hook: Arc<dyn ConflictHook> = Arc::new(StopAtConflict {
        table: table.to_owned(),
    });
    // Too many runs are merged on disk first: not work for an I/O thread.
    let opened = on_thread("merge", move || {
        std::fs::create_dir_all(&budget.scratch_dir)
            .map_err(|e| held::disk_error(&budget.scratch_dir, &e))?;
        Ok(MergedRuns::open(
            &paths,
            &range,
            &budget,
            &ledger,
            Some(hook),
        ))
    });
    match opened.await? {
        Ok(merged) => Ok(merged),
        Err(error @ (SortError::Corrupt { .. } | SortError::Io { .. })) => {
            Err(lost_or(error.into(), task))
        }
        Err(other) => Err(Error::from(other).into()),
    }
}

/// When the failure is about one of the task's runs, that run's chunk is encoded again.
fn lost_or(error: Error, task: &IngestTask) -> Failed {
    let lost = task
        .run_paths
        .iter()
        .filter(|path| error.place == **path)
        .filter_map(|path| chunk_of(path))
        .collect();
    Failed {
        error,
        lost_tasks: lost,
    }
}

/// The encode task of a run, from `…/TASK-EPOCH-ATTEMPT/NAME.run`.
fn chunk_of(run_path: &str) -> Option<u64> {
    run_path.rsplit('/').nth(1)?.split('-').next()?.parse().ok()
}

/// Without a strategy for conflicts the first one ends the job: the table would not be consistent.
struct StopAtConflict {
    table: String,
}

impl ConflictHook for StopAtConflict {
    fn conflict(&self, key: &[u8], _: &[u8], _: &[u8]) -> Result<()> {
        let of = match keys::parse(key) {
            Some(TableKey::Index { index_id, .. }) => {
                format!("two rows have the same key in unique index {index_id}")
            }
            _ => "two rows have the same primary key".to_owned(),
        };
        Err(
            Error::new(ErrorKind::Conflict, format!("table {}", self.table), of).advice(
                "remove the duplicates from the source, TRUNCATE the table and import again",
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_run_leads_to_its_chunk_and_other_failures_do_not() {
        let path = "/s/runs/j/42-7-1/index-0001.run".to_owned();
        let task = IngestTask {
            run_paths: vec![path.clone(), "/s/runs/j/43-7-1/x.run".into()],
            ..IngestTask::default()
        };
        assert_eq!(
            lost_or(Error::new(ErrorKind::Internal, path, "damaged"), &task).lost_tasks,
            [42]
        );
        assert!(
            lost_or(Error::new(ErrorKind::Cluster, "store 1", "away"), &task)
                .lost_tasks
                .is_empty()
        );
    }
}
