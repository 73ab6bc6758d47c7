//! A running loop as others see it: what it can be asked for, and the channels to it.

use super::status::FleetStatus;
use super::{Event, NewJob};
use crate::job::Table;
use crate::scheduler::Attempts;
use crate::spread::Sight;
use std::sync::Arc;
use thunderhead_proto::thunderhead::{AgentMessage, CoordinatorMessage};
use thunderhead_types::{Epoch, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What the loop is asked for.
pub(super) enum Command {
    Lead(Box<NewJob>, oneshot::Sender<Result<Vec<Table>>>),
    Pause(String, bool),
    Cancel(String),
    Limit(String, u64),
    Fail(String, Error),
    Sees(String, Arc<Sight>),
    Drain(String, oneshot::Sender<bool>),
    DropRuns(String),
    Forget(String),
}

/// A running loop as others see it. Cheap to clone.
#[derive(Clone)]
pub struct FleetHandle {
    pub(super) epoch: Epoch,
    pub(super) attempts: Attempts,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Arc<FleetStatus>>,
    pub(super) sessions: Arc<std::sync::atomic::AtomicU64>,
    pub(super) over: CancellationToken,
}

fn ended() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "leader",
        "this coordinator no longer leads",
    )
    .advice("nothing to do: the next leader goes on")
}

impl FleetHandle {
    /// The epoch of the loop.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What is planned now is planned in this epoch, after so many attempts.
    pub fn planned_at(&self) -> (Epoch, u32) {
        (self.epoch, self.attempts.given())
    }

    /// Whether the loop has ended: what a job came to then is not its end.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Where sessions send their events.
    pub fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    /// A number that no other session has.
    pub fn new_session(&self) -> u64 {
        self.sessions
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// The newest status.
    pub fn status(&self) -> watch::Receiver<Arc<FleetStatus>> {
        self.status.clone()
    }

    /// Connects an agent of this process.
    pub async fn connect(
        &self,
        agent: &str,
        link: mpsc::Sender<CoordinatorMessage>,
        mut reports: mpsc::Receiver<AgentMessage>,
    ) {
        let (events, session) = (self.events(), self.new_session());
        let agent = agent.to_owned();
        tokio::spawn(async move {
            let connected = Event::Connected {
                agent: agent.clone(),
                session,
                link,
            };
            if events.send(connected).await.is_err() {
                return;
            }
            while let Some(message) = reports.recv().await {
                if events
                    .send(Event::Message { session, message })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            let _ = events.send(Event::Closed { agent, session }).await;
        });
    }

    /// Leads a job to its end; gives the tables back with all their records.
    ///
    /// # Errors
    /// The job's first failure; `Cancelled` when it was cancelled or the loop ended.
    pub async fn lead(&self, job: NewJob) -> Result<Vec<Table>> {
        let (done, result) = oneshot::channel();
        self.command(Command::Lead(Box::new(job), done)).await?;
        result.await.map_err(|_| ended())?
    }

    /// Stops handing out tasks of a job, or goes on.
    pub async fn pause(&self, job: &str, pause: bool) -> Result<()> {
        self.command(Command::Pause(job.to_owned(), pause)).await
    }

    /// Ends a job; what is in work ends first.
    pub async fn cancel(&self, job: &str) -> Result<()> {
        self.command(Command::Cancel(job.to_owned())).await
    }

    /// Changes a job's limit of bytes per second and store.
    pub async fn limit(&self, job: &str, bytes_per_second: u64) -> Result<()> {
        self.command(Command::Limit(job.to_owned(), bytes_per_second))
            .await
    }

    /// Ends a job with this error; what is in work ends first.
    pub(crate) async fn fail(&self, job: &str, error: Error) -> Result<()> {
        self.command(Command::Fail(job.to_owned(), error)).await
    }

    /// Says which agents hold which files of a job's source.
    pub(crate) async fn sees(&self, job: &str, sight: Arc<Sight>) -> Result<()> {
        self.command(Command::Sees(job.to_owned(), sight)).await
    }

    /// Lets an agent end what it has and leave. False when there is no such agent.
    pub async fn drain(&self, agent: &str) -> Result<bool> {
        let (known, answer) = oneshot::channel();
        self.command(Command::Drain(agent.to_owned(), known))
            .await?;
        answer.await.map_err(|_| ended())
    }

    /// Lets every agent delete what it holds of a job.
    pub async fn drop_runs(&self, job: &str) -> Result<()> {
        self.command(Command::DropRuns(job.to_owned())).await
    }

    /// Nobody will lead this job: agents may forget what they keep for it.
    pub async fn forget(&self, job: &str) -> Result<()> {
        self.command(Command::Forget(job.to_owned())).await
    }

    async fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| ended())
    }
}
