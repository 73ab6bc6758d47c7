//! The agent's loop: announces itself, takes tasks as they come, runs each on a thread or task of its own
//! and reports how it ended. One message in, one report out; the first cause of a failure is kept.

use crate::{encode, held, ingest, sort::Ledger};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thunderhead_cluster::Importer;
use thunderhead_proto::thunderhead::{
    AgentMessage, CoordinatorMessage, EncodeDone, Failure, HeldAttempt, Hello, IngestDone,
    Progress, TaskFailed, agent_message::Body, coordinator_message::Body as Order,
};
use thunderhead_types::{Epoch, Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often totals are sent while there is work.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// What an agent may use.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name in messages and manifests.
    pub id: String,
    /// Directory of the runs; on the fastest disk there is.
    pub sort_dir: PathBuf,
    /// Bytes of memory for sorting, merging and sending, over all slots.
    pub memory_bytes: u64,
    /// Bytes of disk for runs; 0 = what the file system has.
    pub disk_bytes_max: u64,
    /// Encode tasks at a time.
    pub encode_slots: u32,
    /// Ingest tasks at a time.
    pub ingest_slots: u32,
    /// Readers of merged runs that may be open at a time, over all ingest tasks: the importer's bound on
    /// regions in flight.
    pub readers_max: usize,
}

/// What the process has done so far, for progress and reports.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) source_bytes: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) kvs: AtomicU64,
    pub(crate) kv_bytes: AtomicU64,
    pub(crate) ingested_bytes: AtomicU64,
}

impl Totals {
    fn progress(&self) -> Progress {
        Progress {
            source_bytes: self.source_bytes.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            kvs: self.kvs.load(Ordering::Relaxed),
            kv_bytes: self.kv_bytes.load(Ordering::Relaxed),
            ingested_bytes: self.ingested_bytes.load(Ordering::Relaxed),
        }
    }
}

/// What every task of this agent shares.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) importer: Arc<Importer>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) totals: Totals,
    pub(crate) cancel: CancellationToken,
}

/// An agent that has not started yet.
pub struct Agent {
    shared: Arc<Shared>,
    held: Vec<HeldAttempt>,
}

/// A task that ended, however it ended.
struct Ended {
    epoch: Epoch,
    body: Body,
}

impl Agent {
    /// An agent that writes through `importer`.
    ///
    /// # Errors
    /// When the sort directory cannot be used.
    pub fn new(
        config: AgentConfig,
        importer: Arc<Importer>,
        cancel: CancellationToken,
    ) -> Result<Self> {
        std::fs::create_dir_all(&config.sort_dir)
            .map_err(|e| held::disk_error(&config.sort_dir, &e))?;
        let held = held::sweep(&config.sort_dir)?;
        let ledger = Arc::new(Ledger::open(&config.sort_dir, config.disk_bytes_max)?);
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                importer,
                ledger,
                totals: Totals::default(),
                cancel,
            }),
            held,
        })
    }

    /// Works until `orders` is closed or the agent is cancelled; tasks in hand are stopped then.
    ///
    /// # Errors
    /// Only when the agent cannot work at all; failures of tasks are reported as messages.
    pub async fn run(
        self,
        mut orders: mpsc::Receiver<CoordinatorMessage>,
        reports: mpsc::Sender<AgentMessage>,
    ) -> Result<()> {
        let shared = self.shared;
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            encode_slots: shared.config.encode_slots,
            ingest_slots: shared.config.ingest_slots,
            held: self.held,
            ..Hello::default()
        };
        let send = async |epoch, body| {
            let message = AgentMessage {
                agent_id: shared.config.id.clone(),
                epoch,
                body: Some(body),
            };
            reports.send(message).await.is_ok()
        };
        let mut epoch: Epoch = 0;
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut tick = tokio::time::interval(PROGRESS_PERIOD);
        let mut listening = send(epoch, Body::Hello(hello)).await;
        while listening {
            tokio::select! {
                biased;
                () = shared.cancel.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    let ended = ended.map_err(|e| Error::new(ErrorKind::Internal, "agent", format!("a task panicked: {e}")))?;
                    listening = send(ended.epoch, ended.body).await;
                }
                order = orders.recv() => match order {
                    None => break,
                    Some(order) if order.epoch < epoch => {
                        tracing::warn!(order.epoch, epoch, "refused an order of a former leader");
                    }
                    Some(order) => {
                        epoch = order.epoch;
                        start(&shared, epoch, order.body, &mut tasks);
                    }
                },
                _ = tick.tick(), if !tasks.is_empty() => {
                    listening = send(epoch, Body::Progress(shared.totals.progress())).await;
                }
            }
        }
        shared.cancel.cancel();
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

fn start(shared: &Arc<Shared>, epoch: Epoch, order: Option<Order>, tasks: &mut JoinSet<Ended>) {
    let shared = Arc::clone(shared);
    match order {
        Some(Order::Encode(task)) => {
            tasks.spawn(async move {
                let (task_id, attempt) = (task.task_id, task.attempt);
                let result = on_thread("encode", move || encode::run(&shared, &task, epoch)).await;
                let body = match result {
                    Ok(manifest) => Body::EncodeDone(EncodeDone {
                        task_id,
                        attempt,
                        manifest: Some(manifest),
                        ..EncodeDone::default()
                    }),
                    Err(error) => failed(task_id, attempt, error, Vec::new()),
                };
                Ended { epoch, body }
            });
        }
        Some(Order::Ingest(task)) => {
            tasks.spawn(async move {
                let (task_id, attempt) = (task.task_id, task.attempt);
                let body = match ingest::run(&shared, &task).await {
                    Ok(report) => Body::IngestDone(IngestDone {
                        task_id,
                        attempt,
                        report: Some(report),
                        ..IngestDone::default()
                    }),
                    Err(ingest::Failed { error, lost_tasks }) => {
                        failed(task_id, attempt, error, lost_tasks)
                    }
                };
                Ended { epoch, body }
            });
        }
        Some(Order::DropRuns(drop)) => {
            if let Err(error) = held::drop_runs(&shared.ledger, &drop.job_id, &drop.task_ids) {
                tracing::warn!(%error, "runs that are no longer needed stay on disk");
            }
        }
        Some(Order::Cancel(_) | Order::Drain(_)) | None => shared.cancel.cancel(),
        Some(Order::Limit(_) | Order::Recorded(_)) => {}
    }
}

fn failed(task_id: u64, attempt: u32, error: Error, lost_tasks: Vec<u64>) -> Body {
    let retryable = matches!(error.kind, ErrorKind::Cluster) || !lost_tasks.is_empty();
    let failure = Failure {
        kind: error.kind.name().to_owned(),
        place: error.place,
        cause: error.cause,
        advice: error.advice,
        retryable,
        lost_tasks,
    };
    Body::TaskFailed(TaskFailed {
        task_id,
        attempt,
        failure: Some(failure),
        ..TaskFailed::default()
    })
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
