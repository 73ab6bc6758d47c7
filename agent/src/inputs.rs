//! What a merge reads: runs on this agent's disk and runs that other agents hold, in source order; and which
//! tasks must be done again when one of them is gone.

use crate::held;
use crate::peers::blocks_ahead;
use crate::sort::{ConflictHook, MergeBudget, MergedRuns, RunFile, SortError, peer_place};
use crate::tasks::on_thread;
use crate::worker::Shared;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use thunderhead_proto::thunderhead::RemoteRun;
use thunderhead_types::{Error, KeyRange};

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

/// The runs of a task, as its order names them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) run_paths: Vec<String>,
    pub(crate) remote_runs: Vec<RemoteRun>,
}

impl Inputs {
    /// Opens the part of the runs inside `range` as one stream.
    pub(crate) async fn merge(
        &self,
        shared: &Arc<Shared>,
        range: &KeyRange,
        hook: Option<Arc<dyn ConflictHook>>,
    ) -> Result<MergedRuns, Failed> {
        let budget = MergeBudget {
            memory_bytes: (shared.config.memory_bytes as f64 * MERGE_MEMORY_SHARE) as usize
                / shared.config.readers_max.max(1),
            scratch_dir: held::scratch_dir(&shared.config.sort_dir),
        };
        let mut remote = self.open_remote(shared, range, budget.memory_bytes).await?;
        let run_paths = self.in_order(shared);
        let (range, ledger) = (range.clone(), Arc::clone(&shared.ledger));
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
            Ok(runs.and_then(|runs| MergedRuns::merge(runs, &range, &budget, &ledger, hook)))
        });
        match opened.await? {
            Ok(merged) => Ok(merged),
            Err(error) => Err(self.lost_or(error.into())),
        }
    }

    /// The runs with whether they lie elsewhere, in source order: which one of equal keys comes first must not
    /// depend on where the runs lie.
    fn in_order(&self, shared: &Shared) -> Vec<(String, bool)> {
        let elsewhere = self.remote_runs.iter().map(|run| {
            let here = run.agent_id == shared.config.id;
            (run.chunk_task_id, run.path.clone(), !here)
        });
        let here = self
            .run_paths
            .iter()
            .map(|path| (task_of(path).unwrap_or(u64::MAX), path.clone(), false));
        let mut runs: Vec<_> = here.chain(elsewhere).collect();
        runs.sort();
        runs.into_iter()
            .map(|(_, path, elsewhere)| (path, elsewhere))
            .collect()
    }

    /// Slices of runs that other agents hold, by path.
    async fn open_remote(
        &self,
        shared: &Arc<Shared>,
        range: &KeyRange,
        memory_bytes: usize,
    ) -> Result<HashMap<String, RunFile>, Failed> {
        let mut elsewhere = self.remote_runs.clone();
        elsewhere.retain(|run| run.agent_id != shared.config.id);
        let ahead = blocks_ahead(memory_bytes, elsewhere.len());
        let opened = stream::iter(elsewhere)
            .map(|run| {
                let (peers, range) = (Arc::clone(&shared.peers), range.clone());
                async move {
                    let opened = peers.open(&run, &range, ahead).await;
                    opened.map(|file| (run.path, file))
                }
            })
            .buffer_unordered(DESCRIBED_AT_ONCE)
            .try_collect()
            .await;
        opened.map_err(|error: SortError| self.lost_or(error.into()))
    }

    /// When the failure is about one of the runs, or about an agent that holds some, the tasks that made them are
    /// done again.
    pub(crate) fn lost_or(&self, error: Error) -> Failed {
        let here = self
            .run_paths
            .iter()
            .filter(|path| error.place == **path)
            .filter_map(|path| task_of(path));
        let elsewhere = self
            .remote_runs
            .iter()
            .filter(|run| error.place == run.path || error.place == peer_place(&run.address))
            .map(|run| run.chunk_task_id);
        let mut lost_tasks: Vec<u64> = here.chain(elsewhere).collect();
        lost_tasks.sort_unstable();
        lost_tasks.dedup();
        Failed { error, lost_tasks }
    }
}

/// The task that made a run, from `…/TASK-EPOCH-ATTEMPT/NAME.run`.
fn task_of(run_path: &str) -> Option<u64> {
    run_path.rsplit('/').nth(1)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_types::ErrorKind;

    #[test]
    fn a_damaged_run_leads_to_its_chunk_and_other_failures_do_not() {
        let path = "/s/runs/j/42-7-1/index-0001.run".to_owned();
        let task = Inputs {
            run_paths: vec![path.clone(), "/s/runs/j/43-7-1/x.run".into()],
            ..Inputs::default()
        };
        assert_eq!(
            task.lost_or(Error::new(ErrorKind::Internal, path, "damaged"))
                .lost_tasks,
            [42]
        );
        let task = Inputs {
            remote_runs: [(7, "a:1"), (8, "b:1"), (9, "a:1")]
                .map(|(chunk_task_id, address)| RemoteRun {
                    chunk_task_id,
                    address: address.into(),
                    path: format!("/r/runs/j/{chunk_task_id}-1-1/x.run"),
                    ..RemoteRun::default()
                })
                .to_vec(),
            ..task
        };
        let away = SortError::PeerLost {
            address: "a:1".into(),
            cause: "refused".into(),
        };
        assert_eq!(task.lost_or(away.into()).lost_tasks, [7, 9]);
        assert_eq!(
            task.lost_or(Error::new(
                ErrorKind::Internal,
                "/r/runs/j/8-1-1/x.run",
                "gone"
            ))
            .lost_tasks,
            [8]
        );
        assert!(
            task.lost_or(Error::new(ErrorKind::Cluster, "store 1", "away"))
                .lost_tasks
                .is_empty()
        );
    }
}
