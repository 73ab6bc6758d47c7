//! The tasks an agent has in hand and the reports it still owes. Outlives sessions: a task goes on while no
//! coordinator is there, and its report is sent in each session until a leader has recorded it.

use std::collections::{BTreeMap, HashMap};
use thunderhead_proto::thunderhead::{
    ConflictDone, ConflictReport, EncodeDone, Failure, IngestDone, IngestReport, Manifest,
    Recorded, RunningTask, TaskFailed, agent_message::Body,
};
use thunderhead_types::{Epoch, Error, ErrorKind};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One attempt at a task, unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId {
    pub(crate) job: String,
    pub(crate) task: u64,
    /// Epoch under which it was handed out.
    pub(crate) epoch: Epoch,
    pub(crate) attempt: u32,
}

/// How an attempt ended.
pub(crate) enum Outcome {
    Encoded(Manifest),
    Ingested(IngestReport),
    Settled(ConflictReport),
    Failed {
        error: Error,
        lost_tasks: Vec<u64>,
    },
    /// The ledger of the disk refused.
    NoSpace(Error),
}

struct InHand {
    cancel: CancellationToken,
    /// Fires when nothing of the attempt runs any more.
    ended: CancellationToken,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Work {
    in_hand: HashMap<AttemptId, InHand>,
    tasks: JoinSet<(AttemptId, Outcome)>,
    unrecorded: BTreeMap<AttemptId, Body>,
}

impl Work {
    /// Starts `work` on an attempt. Earlier attempts at the same task are void: they are stopped first, because
    /// they own the same directory. An order that comes twice starts once.
    pub(crate) fn start<F, Fut>(&mut self, id: AttemptId, parent: &CancellationToken, work: F)
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        if self.in_hand.contains_key(&id) || self.unrecorded.contains_key(&id) {
            return;
        }
        let before: Vec<CancellationToken> = self
            .in_hand
            .iter()
            .filter(|(other, _)| other.is_same_task(&id))
            .map(|(_, earlier)| {
                earlier.cancel.cancel();
                earlier.ended.clone()
            })
            .collect();
        self.forget_reports(&id.job, Some(id.task));
        let in_hand = InHand {
            cancel: parent.child_token(),
            ended: CancellationToken::new(),
        };
        let (cancel, ended) = (in_hand.cancel.clone(), in_hand.ended.clone().drop_guard());
        self.in_hand.insert(id.clone(), in_hand);
        self.tasks.spawn(async move {
            for earlier in before {
                earlier.cancelled().await;
            }
            // On a task of its own, so that a panic is this attempt's failure and nothing else's.
            let outcome = tokio::spawn(work(cancel)).await.unwrap_or_else(|panic| {
                let error = Error::new(
                    ErrorKind::Internal,
                    "agent",
                    format!("a task panicked: {panic}"),
                );
                Outcome::Failed {
                    error,
                    lost_tasks: Vec::new(),
                }
            });
            drop(ended);
            (id, outcome)
        });
    }

    /// The next attempt that ends; pending for ever while none is in hand.
    pub(crate) async fn next_ended(&mut self) -> (AttemptId, Outcome) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((id, outcome))) => {
                    self.in_hand.remove(&id);
                    return (id, outcome);
                }
                // Only when the runtime shuts down: the body cannot panic.
                Some(Err(error)) => tracing::error!(%error, "a task was lost"),
                None => std::future::pending().await,
            }
        }
    }

    /// Keeps a report until it is recorded.
    pub(crate) fn owe(&mut self, id: AttemptId, body: Body) {
        self.unrecorded.insert(id, body);
    }

    /// Reports that no leader has recorded yet.
    pub(crate) fn owed(&self) -> impl Iterator<Item = &Body> {
        self.unrecorded.values()
    }

    pub(crate) fn recorded(&mut self, which: &Recorded) {
        self.unrecorded.remove(&AttemptId {
            job: which.job_id.clone(),
            task: which.task_id,
            epoch: which.task_epoch,
            attempt: which.attempt,
        });
    }

    /// Stops all attempts at a task; their reports follow. A report that is owed is forgotten.
    pub(crate) fn cancel_task(&mut self, job: &str, task: u64) {
        self.forget_reports(job, Some(task));
        for (id, in_hand) in &self.in_hand {
            if id.job == job && id.task == task {
                in_hand.cancel.cancel();
            }
        }
    }

    /// Stops everything of a job, or everything.
    pub(crate) fn cancel_all(&mut self, job: Option<&str>) {
        if let Some(job) = job {
            self.forget_reports(job, None);
        }
        for (id, in_hand) in &self.in_hand {
            if job.is_none_or(|job| id.job == job) {
                in_hand.cancel.cancel();
            }
        }
    }

    fn forget_reports(&mut self, job: &str, task: Option<u64>) {
        self.unrecorded
            .retain(|id, _| id.job != job || task.is_some_and(|task| id.task != task));
    }

    /// Attempts that the leader must not hand out again.
    pub(crate) fn running(&self) -> Vec<RunningTask> {
        self.in_hand
            .keys()
            .chain(self.unrecorded.keys())
            .map(|id| RunningTask {
                job_id: id.job.clone(),
                task_id: id.task,
                attempt: id.attempt,
                epoch: id.epoch,
            })
            .collect()
    }

    /// Whether nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_hand.is_empty()
    }

    /// Whether nothing runs and nothing is owed.
    pub(crate) fn is_done(&self) -> bool {
        self.in_hand.is_empty() && self.unrecorded.is_empty()
    }

    /// Stops what is in hand and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.cancel_all(None);
        while self.tasks.join_next().await.is_some() {}
        self.in_hand.clear();
    }
}

impl AttemptId {
    fn is_same_task(&self, other: &AttemptId) -> bool {
        self.job == other.job && self.task == other.task
    }

    /// The message about how the attempt ended.
    pub(crate) fn report(&self, outcome: Outcome) -> Body {
        let (job_id, task_id) = (self.job.clone(), self.task);
        let (attempt, task_epoch) = (self.attempt, self.epoch);
        let failed = |error, lost_tasks| {
            Body::TaskFailed(TaskFailed {
                task_id,
                attempt,
                failure: Some(failure(error, lost_tasks)),
                job_id: self.job.clone(),
                task_epoch,
            })
        };
        match outcome {
            Outcome::Encoded(manifest) => Body::EncodeDone(EncodeDone {
                task_id,
                attempt,
                manifest: Some(manifest),
                job_id,
                task_epoch,
            }),
            Outcome::Ingested(report) => Body::IngestDone(IngestDone {
                task_id,
                attempt,
                report: Some(report),
                job_id,
                task_epoch,
            }),
            Outcome::Settled(report) => Body::ConflictDone(ConflictDone {
                task_id,
                attempt,
                report: Some(report),
                job_id,
                task_epoch,
            }),
            Outcome::Failed { error, lost_tasks } => failed(error, lost_tasks),
            Outcome::NoSpace(error) => failed(error, Vec::new()),
        }
    }
}

fn failure(error: Error, lost_tasks: Vec<u64>) -> Failure {
    let retryable =
        matches!(error.kind, ErrorKind::Cluster | ErrorKind::Cancelled) || !lost_tasks.is_empty();
    Failure {
        kind: error.kind.name().to_owned(),
        place: error.place,
        cause: error.cause,
        advice: error.advice,
        retryable,
        lost_tasks,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn id(task: u64, epoch: Epoch, attempt: u32) -> AttemptId {
        AttemptId {
            job: "j".into(),
            task,
            epoch,
            attempt,
        }
    }

    fn cancelled() -> Outcome {
        Outcome::Failed {
            error: Error::new(ErrorKind::Cancelled, "", "stopped"),
            lost_tasks: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_new_attempt_starts_when_the_old_one_has_ended_and_not_before() {
        let (mut work, root) = (Work::default(), CancellationToken::new());
        let running = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&running);
        work.start(id(1, 5, 1), &root, |cancel| async move {
            flag.store(true, Ordering::SeqCst);
            cancel.cancelled().await;
            tokio::task::yield_now().await;
            flag.store(false, Ordering::SeqCst);
            cancelled()
        });
        while !running.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let flag = Arc::clone(&running);
        work.start(id(1, 6, 1), &root, |_| async move {
            assert!(!flag.load(Ordering::SeqCst));
            Outcome::Encoded(Manifest::default())
        });
        assert_eq!(work.running().len(), 2);
        assert_eq!(work.next_ended().await.0, id(1, 5, 1));
        let (which, outcome) = work.next_ended().await;
        assert_eq!(which, id(1, 6, 1));
        assert!(matches!(outcome, Outcome::Encoded(_)) && work.is_idle());
    }

    #[tokio::test]
    async fn a_report_is_owed_until_it_is_recorded_and_an_order_that_comes_twice_starts_once() {
        let (mut work, root) = (Work::default(), CancellationToken::new());
        for _ in 0..2 {
            work.start(id(1, 5, 1), &root, |_| async {
                Outcome::Encoded(Manifest::default())
            });
        }
        let (which, outcome) = work.next_ended().await;
        let body = which.report(outcome);
        work.owe(which.clone(), body);
        work.start(which, &root, |_| async {
            Outcome::Encoded(Manifest::default())
        });
        assert!(work.is_idle() && !work.is_done());
        assert_eq!((work.owed().count(), work.running().len()), (1, 1));
        let mut recorded = Recorded {
            job_id: "j".into(),
            task_id: 1,
            attempt: 1,
            task_epoch: 4,
        };
        work.recorded(&recorded);
        assert!(!work.is_done());
        recorded.task_epoch = 5;
        work.recorded(&recorded);
        assert!(work.is_done());
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_its_attempt() {
        let (mut work, root) = (Work::default(), CancellationToken::new());
        work.start(id(3, 1, 1), &root, |_| async { panic!("broken") });
        let (which, outcome) = work.next_ended().await;
        let Body::TaskFailed(failed) = which.report(outcome) else {
            panic!("not a failure")
        };
        assert_eq!((failed.task_id, failed.job_id.as_str()), (3, "j"));
        assert!(failed.failure.unwrap().cause.contains("panicked"));
    }
}
