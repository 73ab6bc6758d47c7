//! An ingest task: the runs of a range are merged, written to its regions, ingested, and the range is
//! compared with what TiKV then holds. One range is one unit: done and verified, or to be done again.

use crate::held;
use crate::sort::{ConflictHook, MergeBudget, MergedRuns, RunFile, SortError, peer_place};
use crate::worker::{Shared, on_thread};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thunderhead_cluster::PairSource;
use thunderhead_codec::keys::{self, TableKey};
use thunderhead_proto::thunderhead::{self as wire, IngestReport, IngestTask};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};

/// Part of the agent's memory that all open readers together may use for the blocks of runs they merge.
const MERGE_MEMORY_SHARE: f64 = 0.2;

/// Runs of other agents that are asked for at a time.
const DESCRIBED_AT_ONCE: usize = 16;

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

    let importer = shared.clusters.importer(spec).await?;
    let merged = Arc::new(open_runs(shared, task, &range, &table).await?);
    let source: Arc<dyn PairSource> = Arc::clone(&merged) as Arc<dyn PairSource>;
    let ingested = importer.ingest_range(&range, spec.commit_ts, source).await;
    let stats = ingested.map_err(|error| lost_or(error, task))?;

    let remote = importer.checksum(&range).await?;
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
    let mut remote = open_remote(shared, task, range).await?;
    let run_paths = runs_in_order(shared, task);
    let (range, ledger) = (range.clone(), Arc::clone(&shared.ledger));
    let hook: Arc<dyn ConflictHook> = Arc::new(StopAtConflict {
        table: table.to_owned(),
    });
    // Too many runs are merged on disk first: not work for an I/O thread.
    let opened = on_thread("merge", move || {
        std::fs::create_dir_all(&budget.scratch_dir)
            .map_err(|e| held::disk_error(&budget.scratch_dir, &e))?;
        let runs = run_paths
            .iter()
            .map(|(path, elsewhere)| match remote.remove(path) {
                Some(run) if *elsewhere => Ok(run),
                _ => RunFile::open(Path::new(path), &range),
            });
        let runs: Result<Vec<RunFile>, SortError> = runs.collect();
        Ok(runs.and_then(|runs| MergedRuns::merge(runs, &range, &budget, &ledger, Some(hook))))
    });
    match opened.await? {
        Ok(merged) => Ok(merged),
        Err(error) => Err(lost_or(error.into(), task)),
    }
}

/// The task's runs with whether they lie elsewhere, in source order: which one of equal keys comes first must not
/// depend on where the runs lie.
fn runs_in_order(shared: &Shared, task: &IngestTask) -> Vec<(String, bool)> {
    let elsewhere = task.remote_runs.iter().map(|run| {
        let here = run.agent_id == shared.config.id;
        (run.chunk_task_id, run.path.clone(), !here)
    });
    let here = task
        .run_paths
        .iter()
        .map(|path| (chunk_of(path).unwrap_or(u64::MAX), path.clone(), false));
    let mut runs: Vec<_> = here.chain(elsewhere).collect();
    runs.sort();
    runs.into_iter()
        .map(|(_, path, elsewhere)| (path, elsewhere))
        .collect()
}

/// Slices of runs that other agents hold, by path.
async fn open_remote(
    shared: &Arc<Shared>,
    task: &IngestTask,
    range: &KeyRange,
) -> Result<HashMap<String, RunFile>, Failed> {
    let mut elsewhere = task.remote_runs.clone();
    elsewhere.retain(|run| run.agent_id != shared.config.id);
    let opened = stream::iter(elsewhere)
        .map(|run| {
            let (peers, range) = (Arc::clone(&shared.peers), range.clone());
            async move {
                let opened = peers.open(&run.address, &run.path, &range).await;
                opened.map(|file| (run.path, file))
            }
        })
        .buffer_unordered(DESCRIBED_AT_ONCE)
        .try_collect()
        .await;
    opened.map_err(|error: SortError| lost_or(error.into(), task))
}

/// When the failure is about one of the task's runs, or about an agent that holds some, their chunks are encoded
/// again.
fn lost_or(error: Error, task: &IngestTask) -> Failed {
    let here = task
        .run_paths
        .iter()
        .filter(|path| error.place == **path)
        .filter_map(|path| chunk_of(path));
    let elsewhere = task
        .remote_runs
        .iter()
        .filter(|run| error.place == run.path || error.place == peer_place(&run.address))
        .map(|run| run.chunk_task_id);
    let mut lost_tasks: Vec<u64> = here.chain(elsewhere).collect();
    lost_tasks.sort_unstable();
    lost_tasks.dedup();
    Failed { error, lost_tasks }
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
        let task = IngestTask {
            remote_runs: [(7, "a:1"), (8, "b:1"), (9, "a:1")]
                .map(|(chunk_task_id, address)| wire::RemoteRun {
                    chunk_task_id,
                    address: address.into(),
                    path: format!("/r/runs/j/{chunk_task_id}-1-1/x.run"),
                    ..wire::RemoteRun::default()
                })
                .to_vec(),
            ..task
        };
        let away = SortError::PeerLost {
            address: "a:1".into(),
            cause: "refused".into(),
        };
        assert_eq!(lost_or(away.into(), &task).lost_tasks, [7, 9]);
        assert_eq!(
            lost_or(
                Error::new(ErrorKind::Internal, "/r/runs/j/8-1-1/x.run", "gone"),
                &task
            )
            .lost_tasks,
            [8]
        );
        assert!(
            lost_or(Error::new(ErrorKind::Cluster, "store 1", "away"), &task)
                .lost_tasks
                .is_empty()
        );
    }
}
