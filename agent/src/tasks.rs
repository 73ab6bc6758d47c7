//! What an order asks for, as a future of its own: the attempt's work and how it ended.

use crate::inputs::Failed;
use crate::slots::{SLOT, share_of_slot};
use crate::work::Outcome;
use crate::worker::Shared;
use crate::{conflict, encode, existing, ingest};
use std::sync::Arc;
use thunderhead_proto::thunderhead::{self as wire, EncodeTask, IngestTask};
use thunderhead_types::{Epoch, Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

/// A range that shares its slot is merged from so many runs at most: a block of each is less than a merge may use.
const SHARED_SLOT_RUNS: usize = 16;

pub(crate) fn failed(error: Error) -> Outcome {
    Outcome::Failed {
        error,
        lost_tasks: Vec::new(),
    }
}

pub(crate) fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "", "stopped on request")
}

pub(crate) async fn encode_task(
    shared: Arc<Shared>,
    task: EncodeTask,
    epoch: Epoch,
    cancel: CancellationToken,
) -> Outcome {
    let (ledger, before) = (Arc::clone(&shared.ledger), shared.ledger.refusals());
    let cluster = match (&task.existing, &task.table) {
        (Some(_), Some(spec)) => existing::Reader::open(&shared, spec).await.map(Some),
        _ => Ok(None),
    };
    let result = match cluster {
        Ok(cluster) => {
            let encode = move || encode::run(&shared, &task, epoch, cluster.as_ref(), &cancel);
            on_thread("encode", encode).await
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(manifest) => Outcome::Encoded(manifest),
        Err(error) if ledger.refusals() > before => Outcome::NoSpace(error),
        Err(error) => failed(error),
    }
}

/// How much of a slot a range takes. With many runs, or runs beside those of its pairs, it may need the memory of a
/// whole one, however few its bytes are.
pub(crate) fn ingest_share(task: &IngestTask) -> u32 {
    let runs = task.run_paths.len() + task.remote_runs.len();
    let plain = task.losers.is_none() && task.existing_runs.is_empty();
    match plain && runs <= SHARED_SLOT_RUNS {
        true => share_of_slot(task.expected_bytes),
        false => SLOT,
    }
}

pub(crate) async fn ingest_task(
    shared: Arc<Shared>,
    task: IngestTask,
    cancel: CancellationToken,
) -> Outcome {
    let before = shared.ledger.refusals();
    match cancel
        .run_until_cancelled(ingest::run(&shared, &task))
        .await
    {
        Some(Ok(report)) => Outcome::Ingested(report),
        // Merging on disk first needs room, too: there may be some later, or at another agent.
        Some(Err(Failed { error, .. }))
            if shared.config.hands_back_when_full && shared.ledger.refusals() > before =>
        {
            failed(Error {
                kind: ErrorKind::Cluster,
                ..error
            })
        }
        Some(Err(Failed { error, lost_tasks })) => Outcome::Failed { error, lost_tasks },
        None => failed(stopped()),
    }
}

pub(crate) async fn conflict_task(
    shared: Arc<Shared>,
    task: wire::ConflictTask,
    epoch: Epoch,
    cancel: CancellationToken,
) -> Outcome {
    match conflict::run(&shared, task, epoch, cancel).await {
        Ok(report) => Outcome::Settled(report),
        Err(Failed { error, lost_tasks }) => Outcome::Failed { error, lost_tasks },
    }
}

/// Runs CPU work on a thread of its own, so that no I/O worker ever waits for it.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(send.send(work())))
        .map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                "agent",
                format!("cannot start a thread: {e}"),
            )
        })?;
    receive.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Internal,
            name,
            "the thread panicked; see the log",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_range_shares_a_slot_unless_it_may_need_the_memory_of_a_whole_one() {
        let range = |runs: usize| IngestTask {
            expected_bytes: 1 << 20,
            run_paths: vec![String::new(); runs / 2],
            remote_runs: vec![wire::RemoteRun::default(); runs - runs / 2],
            ..IngestTask::default()
        };
        assert_eq!(ingest_share(&range(1)), SLOT / 4);
        assert_eq!(ingest_share(&range(SHARED_SLOT_RUNS)), SLOT / 4);
        assert_eq!(ingest_share(&range(SHARED_SLOT_RUNS + 1)), SLOT);
        let losers = Some(wire::RemoteRun::default());
        let conflicts = IngestTask { losers, ..range(1) };
        assert_eq!(ingest_share(&conflicts), SLOT);
    }
}
