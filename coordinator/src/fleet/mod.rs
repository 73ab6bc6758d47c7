//! The leader of a fleet: one loop over the agents' messages, the commands of people and time. It owns who
//! works on what, and no job's records: those are each job's [`Leader`].
//!
//! 1. An agent's `Hello` says what it holds and still works on: work in hand goes on, what nobody wants ends.
//! 2. Free slots take the next task of the oldest job that has one for them (`hand_out`).
//! 3. A report is recorded first and acknowledged then; the first complete one of a task wins. What came while the
//!    store was busy is recorded together: what is done in one round of the loop goes out at its end.
//! 4. An agent that is silent for a lease loses its tasks; later, its runs are taken for lost (`members`).
//!
//! A loop has one epoch. When the store says that it no longer leads, it ends, and says so to every job.

mod hand_out;
mod handle;
mod member;
mod members;
pub mod status;

pub use handle::FleetHandle;

use crate::job::Table;
use crate::leader::{Leader, Steps};
use crate::progress::Progress;
use crate::scheduler::{Attempts, TaskKind};
use crate::spread::{self, Sight};
use crate::store::StateStore;
use futures::FutureExt;
use handle::Command;
use member::Member;
use members::Messages;
use status::{AgentStatus, FleetStatus, JobStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thunderhead_proto::thunderhead::{
    AgentMessage, CancelTask, ClusterSpec, CoordinatorMessage, coordinator_message::Body as Order,
};
use thunderhead_types::{Epoch, Error, ErrorKind, Result, fail_point};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages and commands that may wait for the loop.
const EVENTS: usize = 1024;
/// Events and steps of one round.
const TOGETHER_MAX: usize = 256;
/// How often leases are checked, stragglers looked for and the status published.
const TICK: Duration = Duration::from_millis(250);

/// How a fleet is led.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// An agent that is silent for this long loses its tasks.
    pub lease: Duration,
    /// An agent that is silent for this long is taken for dead with its disk.
    pub runs_grace: Duration,
    /// No attempt is a straggler before this.
    pub straggler_after: Duration,
    /// The end of a session is the end of the job: agent and leader are one process.
    pub one_process: bool,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            runs_grace: Duration::from_secs(60),
            straggler_after: Duration::from_secs(30),
            one_process: false,
        }
    }
}

/// A job to lead.
pub struct NewJob {
    /// Its id.
    pub job_id: String,
    /// What agents must know of the target.
    pub cluster: ClusterSpec,
    /// What is recorded of its tables.
    pub tables: Vec<Table>,
    /// Its steps beside encoding and ingesting.
    pub steps: Arc<dyn Steps>,
    /// Where its counts go.
    pub progress: Progress,
    /// Bytes per second to each store, over all agents; 0 = no limit.
    pub store_bytes_per_second: u64,
    /// Nothing is handed out until resumed.
    pub paused: bool,
    /// Agents that worked for it under a former leader.
    pub agents: BTreeSet<String>,
}

/// What an agent's session tells the loop. Moved once, through a bounded channel: no box needed.
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// A session began.
    Connected {
        /// The agent.
        agent: String,
        /// Tells this session from the agent's others.
        session: u64,
        /// Where its orders go.
        link: mpsc::Sender<CoordinatorMessage>,
    },
    /// A message came.
    Message {
        /// The session it came on.
        session: u64,
        /// The message.
        message: AgentMessage,
    },
    /// The session ended.
    Closed {
        /// The agent.
        agent: String,
        /// Which of its sessions.
        session: u64,
    },
}

/// A job being led.
struct Led {
    leader: Leader,
    done: oneshot::Sender<Result<Vec<Table>>>,
    paused: bool,
    cancelled: bool,
    store_bytes_per_second: u64,
    /// Agents of a former leader that have not come back; nothing is handed out while it waits for them.
    expected: BTreeSet<String>,
    expected_until: Instant,
    /// Agents recorded as workers of this job.
    workers: BTreeSet<String>,
    dirty: bool,
}

/// See the module.
pub struct Fleet {
    store: Arc<dyn StateStore>,
    epoch: Epoch,
    attempts: Attempts,
    options: FleetOptions,
    members: BTreeMap<String, Member>,
    /// Oldest first.
    jobs: Vec<Led>,
    /// Reports about jobs that nobody leads yet; their runner is still preparing them.
    early: BTreeMap<String, Messages>,
    /// Jobs that are recorded but not led yet.
    coming: BTreeSet<String>,
    /// Who holds the files of jobs that are not led yet.
    sights: BTreeMap<String, Arc<Sight>>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<Event>,
    status: watch::Sender<Arc<FleetStatus>>,
    published: Instant,
    /// What the last publication took: it grows with the number of tasks.
    publish_cost: Duration,
    /// Something happened since tasks were handed out last.
    stirred: bool,
    /// Orders that wait for what this round records.
    outbox: Vec<(String, Order)>,
    /// The only agent of a process has ended.
    deserted: bool,
    over: CancellationToken,
}

impl Fleet {
    /// A loop at `epoch` that has not started; `coming` are recorded jobs that will be led.
    pub fn new(
        store: Arc<dyn StateStore>,
        epoch: Epoch,
        options: FleetOptions,
        coming: BTreeSet<String>,
    ) -> (Self, FleetHandle) {
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (command_sender, commands) = mpsc::channel(EVENTS);
        let over = CancellationToken::new();
        let (status, watch) = watch::channel(Arc::new(FleetStatus::default()));
        let attempts = Attempts::default();
        let handle = FleetHandle {
            epoch,
            attempts: attempts.clone(),
            events: event_sender,
            commands: command_sender,
            status: watch,
            sessions: Arc::default(),
            over: over.clone(),
        };
        let fleet = Self {
            store,
            epoch,
            attempts,
            options,
            members: BTreeMap::new(),
            jobs: Vec::new(),
            early: BTreeMap::new(),
            coming,
            sights: BTreeMap::new(),
            commands,
            events,
            status,
            published: Instant::now(),
            publish_cost: Duration::ZERO,
            stirred: true,
            outbox: Vec::new(),
            deserted: false,
            over,
        };
        (fleet, handle)
    }

    /// Leads until `stop` fires or the store fences this epoch. Every job then ends with the reason.
    ///
    /// # Errors
    /// When the epoch was fenced, or the store is out of reach for longer than a lease lasts.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let result = self.work(&stop).await;
        let reason = match &result {
            Ok(()) => Error::new(ErrorKind::Cancelled, "", "stopped on request")
                .advice("run the same command again to go on"),
            Err(error) => error.clone(),
        };
        self.over.cancel();
        for job in self.jobs.drain(..) {
            let failure = job.leader.failure.unwrap_or_else(|| reason.clone());
            let _ = job.done.send(Err(failure));
        }
        result
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_tick = Instant::now();
        loop {
            let stirred = std::mem::take(&mut self.stirred);
            if stirred {
                self.hand_out().await?;
            }
            self.record().await?;
            if stirred {
                self.end_jobs();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.stirred = true;
                        self.command(command).await?;
                    }
                    None => return Ok(()),
                },
                (at, stepped) = next_step(&mut self.jobs) => {
                    self.stirred = true;
                    self.stepped(at, stepped).await?;
                }
                event = self.events.recv() => match event {
                    Some(event) => self.event(event).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    self.stirred = true;
                    // A loop that was held up, by the store for example, has heard nobody meanwhile.
                    let held_up = last_tick.elapsed().saturating_sub(TICK * 2);
                    last_tick = Instant::now();
                    self.members.values_mut().for_each(|m| m.seen += held_up);
                    for job in &mut self.jobs {
                        job.leader.scheduler.held_up(held_up);
                    }
                    self.tick().await?;
                }
            }
            self.catch_up().await?;
        }
    }

    /// Takes in what else is there already.
    async fn catch_up(&mut self) -> Result<()> {
        for _ in 0..TOGETHER_MAX {
            if let Some((at, stepped)) = next_step(&mut self.jobs).now_or_never() {
                self.stirred = true;
                self.stepped(at, stepped).await?;
            } else if let Ok(event) = self.events.try_recv() {
                self.event(event).await?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Records what jobs have noted; then agents are told what follows from it.
    async fn record(&mut self) -> Result<()> {
        for at in 0..self.jobs.len() {
            let recorded = self.jobs[at].leader.record().await;
            if !matches!(recorded, Ok(false)) {
                self.settle(at, recorded.map(drop))?;
            }
            self.drop_unneeded(at);
        }
        for (agent, order) in std::mem::take(&mut self.outbox) {
            if let Some(member) = self.members.get_mut(&agent) {
                let is_task = !matches!(order, Order::Recorded(_));
                member.send(self.epoch, order);
                if is_task {
                    fail_point("hand-out");
                }
            }
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<()> {
        self.check_leases().await?;
        self.repeat_stragglers();
        self.publish(false);
        Ok(())
    }

    /// A job's error is its own unless the store is lost.
    fn settle(&mut self, at: usize, result: Result<()>) -> Result<()> {
        let job = &mut self.jobs[at];
        job.dirty = true;
        if let Err(error) = result {
            if job.leader.fenced {
                return Err(error);
            }
            job.leader.fail(error);
        }
        Ok(())
    }

    /// Tells every agent which of its runs nobody needs any more.
    fn drop_unneeded(&mut self, at: usize) {
        let leader = &mut self.jobs[at].leader;
        let unneeded = std::mem::take(&mut leader.unneeded);
        if !unneeded.is_empty() {
            let members = self.members.values_mut();
            members.for_each(|m| m.drop_runs(self.epoch, leader.job_id(), &unneeded));
        }
    }

    fn job_at(&self, job_id: &str) -> Option<usize> {
        self.jobs.iter().position(|j| j.leader.job_id() == job_id)
    }

    async fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Lead(job, done) => return self.lead(*job, done).await,
            Command::Pause(job, pause) => {
                if let Some(at) = self.job_at(&job) {
                    self.jobs[at].paused = pause;
                }
            }
            Command::Cancel(job) => {
                if let Some(at) = self.job_at(&job) {
                    self.cancel(at);
                }
            }
            Command::Limit(job, bytes) => {
                if let Some(at) = self.job_at(&job) {
                    self.jobs[at].store_bytes_per_second = bytes;
                    self.share_limits();
                }
            }
            Command::Fail(job, error) => {
                if let Some(at) = self.job_at(&job) {
                    self.end_with(at, error);
                }
            }
            Command::Sees(job, sight) => match self.job_at(&job) {
                Some(at) => self.jobs[at].leader.see(sight),
                None => drop(self.sights.insert(job, sight)),
            },
            Command::Drain(agent, known) => {
                let epoch = self.epoch;
                let member = self.members.get_mut(&agent);
                let _ = known.send(member.is_some());
                if let Some(member) = member {
                    member.drain(epoch);
                    self.membership_changed();
                }
            }
            Command::DropRuns(job_id) => {
                let members = self.members.values_mut();
                members.for_each(|member| member.drop_job(self.epoch, &job_id));
            }
            Command::Forget(job) => {
                self.coming.remove(&job);
                self.early.remove(&job);
                self.sights.remove(&job);
            }
        }
        self.publish(true);
        Ok(())
    }

    async fn lead(&mut self, job: NewJob, done: oneshot::Sender<Result<Vec<Table>>>) -> Result<()> {
        let now = Instant::now();
        let mut leader = Leader::new(
            Arc::clone(&self.store),
            self.epoch,
            job.job_id.clone(),
            job.cluster,
            job.tables,
            job.steps,
            job.progress,
        );
        // Who held runs under a former leader and is not here yet: its lease begins now.
        let expected: BTreeSet<String> = leader.holders().union(&job.agents).cloned().collect();
        for agent in &expected {
            self.members
                .entry(agent.clone())
                .or_insert_with(|| Member::absent(now));
        }
        leader.agents = self.ingesting();
        leader.sight = self.sights.remove(&job.job_id);
        let result = leader.start().await;
        self.coming.remove(&job.job_id);
        self.jobs.push(Led {
            leader,
            done,
            paused: job.paused,
            cancelled: false,
            store_bytes_per_second: job.store_bytes_per_second,
            expected,
            expected_until: now + self.options.lease,
            workers: job.agents,
            dirty: true,
        });
        let at = self.jobs.len() - 1;
        self.settle(at, result)?;
        if self.deserted {
            self.jobs[at].leader.fail(members::deserted());
        }
        let agents: Vec<String> = self.members.keys().cloned().collect();
        for agent in agents {
            self.reconcile(&agent, at).await?;
        }
        self.membership_changed();
        for (session, message) in self.early.remove(&job.job_id).unwrap_or_default() {
            self.message(session, message).await?;
        }
        self.publish(true);
        Ok(())
    }

    fn cancel(&mut self, at: usize) {
        self.jobs[at].cancelled = true;
        let error = Error::new(ErrorKind::Cancelled, "", "the job was cancelled")
            .advice("TRUNCATE its tables before importing them again: parts may be in the cluster");
        self.end_with(at, error);
    }

    /// Ends what is in work, too.
    fn end_with(&mut self, at: usize, error: Error) {
        let job = &mut self.jobs[at];
        job.leader.fail(error);
        job.dirty = true;
        let job_id = job.leader.job_id().to_owned();
        let running: Vec<(u64, String)> = job
            .leader
            .scheduler
            .attempts_in_flight()
            .map(|(task, attempt)| (task, attempt.agent.clone()))
            .collect();
        for (task_id, agent) in running {
            self.cancel_task(&agent, &job_id, task_id);
        }
    }

    fn cancel_task(&mut self, agent: &str, job_id: &str, task_id: u64) {
        let epoch = self.epoch;
        if let Some(member) = self.members.get_mut(agent) {
            member.send(
                epoch,
                Order::Cancel(CancelTask {
                    task_id,
                    job_id: job_id.to_owned(),
                }),
            );
        }
    }

    async fn stepped(&mut self, at: usize, (table, result): (usize, Result<()>)) -> Result<()> {
        let leader = &mut self.jobs[at].leader;
        let result = match result {
            Ok(()) => leader.stepped(table).await,
            Err(error) => {
                leader.fail(error);
                Ok(())
            }
        };
        self.settle(at, result)
    }

    /// Takes out the jobs that have come to their end, and tells whoever waits for them.
    fn end_jobs(&mut self) {
        let mut at = 0;
        let mut ended = false;
        while at < self.jobs.len() {
            let leader = &self.jobs[at].leader;
            if leader.failure.is_none() && !leader.finished()
                || leader.failure.is_some() && leader.busy()
            {
                at += 1;
                continue;
            }
            self.publish_job(at);
            let job = self.jobs.remove(at);
            ended = true;
            let result = match job.leader.failure {
                Some(error) => Err(error),
                None => Ok(job.leader.tables),
            };
            let _ = job.done.send(result);
        }
        if ended {
            self.share_limits();
            self.publish(true);
        }
    }

    fn publish_job(&mut self, at: usize) {
        let job = &mut self.jobs[at];
        job.dirty = false;
        job.leader.progress().publish(job.leader.snapshot());
    }

    /// Publishes jobs that changed and the status of all; unless asked to, at most once a tick and with a hundredth
    /// of the time.
    fn publish(&mut self, now: bool) {
        if !now && self.published.elapsed() < TICK.max(self.publish_cost * 100) {
            return;
        }
        let began = std::time::Instant::now();
        self.published = Instant::now();
        for at in 0..self.jobs.len() {
            if self.jobs[at].dirty {
                self.publish_job(at);
            }
        }
        let at = Instant::now();
        let agents: Vec<_> = self
            .members
            .iter_mut()
            .map(|(name, m)| m.status(name, at))
            .collect();
        let jobs = self
            .jobs
            .iter()
            .map(|job| self.job_status(job, &agents))
            .collect();
        self.status.send_replace(Arc::new(FleetStatus {
            epoch: self.epoch,
            agents,
            jobs,
        }));
        self.publish_cost = began.elapsed();
    }

    /// A directory of the source that nobody here can read, while chunks of it are open.
    fn unread<'a>(&self, leader: &'a Leader) -> Option<&'a str> {
        let mut places = leader.scheduler.places(TaskKind::Encode);
        let reads = |place: &str| {
            let mut members = self.members.iter();
            members.any(|(name, m)| m.here() && m.reads(name, place))
        };
        places.find(|place| !reads(place))
    }

    fn job_status(&self, job: &Led, agents: &[AgentStatus]) -> JobStatus {
        let leader = &job.leader;
        let waiting_for = if job.cancelled {
            "what is in work to end"
        } else if leader.failure.is_some() {
            "what is in work to end, after a failure"
        } else if job.paused {
            "resume"
        } else if !self.members.values().any(Member::here) {
            "agents: none is connected"
        } else if !job.expected.is_empty() {
            "the former leader's agents to come back"
        } else {
            ""
        };
        let waiting_for = match self.unread(leader) {
            Some(place) if waiting_for.is_empty() => spread::who_reads(place),
            _ => waiting_for.to_owned(),
        };
        JobStatus {
            paused: job.paused,
            waiting_for,
            ..JobStatus::new(
                leader.job_id(),
                &leader.progress().latest(),
                leader.retries.clone(),
                leader.scheduler.attempts_in_flight().map(|(_, a)| a.kind),
                job.store_bytes_per_second,
                agents,
            )
        }
    }
}

/// The next finished step of any job; pending while there is none.
async fn next_step(jobs: &mut [Led]) -> (usize, (usize, Result<()>)) {
    std::future::poll_fn(|context| {
        for (at, job) in jobs.iter_mut().enumerate() {
            if let std::task::Poll::Ready(Some(stepped)) =
                job.leader.stepping.poll_join_next(context)
            {
                let stepped = stepped.unwrap_or_else(|panic| {
                    let cause = format!("a step panicked: {panic}");
                    (0, Err(Error::new(ErrorKind::Internal, "leader", cause)))
                });
                return std::task::Poll::Ready((at, stepped));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
