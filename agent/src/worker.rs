//! The agent's loop over one session with a coordinator, embedded or over the network: announces itself, takes
//! tasks as they come, runs each on a thread or task of its own and reports how it ended. What is in hand belongs
//! to the agent, not to the session: see [`crate::work`].
//!
//! An agent leaves in one of three ways, each announced by `Leaving`:
//! * its disk is full: no more encode tasks until runs are dropped, all else goes on;
//! * drained: no more tasks; gone when its last run is no longer needed;
//! * asked to stop: tasks may end within the grace period, the rest is handed back.

use crate::allocator;
use crate::clusters::Clusters;
use crate::peers::Peers;
use crate::run_store::RunStore;
use crate::slots::{SLOT, Slots};
use crate::sort::Ledger;
use crate::tasks::{conflict_task, encode_task, failed, ingest_share, ingest_task, stopped};
use crate::work::{AttemptId, Outcome, Work};
use crate::{conflict, encode, held};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thunderhead_cluster::{Pulse, Security};
use thunderhead_proto::thunderhead::{
    self as wire, AgentMessage, CoordinatorMessage, Hello, Progress, agent_message::Body,
    coordinator_message::Body as Order,
};
use thunderhead_types::{Epoch, Error, ErrorKind, Result, fail_point};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often totals are sent while there is work.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// One in so many totals is sent without work, as a heartbeat.
const IDLE_PERIODS: u32 = 4;
/// An agent that no coordinator was heard of for so long stops: its work is long someone else's.
const ALONE_MAX: Duration = Duration::from_secs(300);
/// How often a process makes sure that it was not suspended.
const PULSE_PERIOD: Duration = Duration::from_millis(250);
/// With less than this for each region in flight, merges of many runs would go over the disk.
const MEMORY_PER_REGION: u64 = 64 << 20;
/// How long a leaving agent waits for its last reports to be recorded.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// Regions that are written to at a time: each is built on a thread, waits for its stores in between, and holds a merge
/// and a buffer for every peer. Twice as many as threads keep those busy; more only push each other out of the
/// caches.
pub fn regions_in_flight(threads: u32, memory_bytes: u64) -> u32 {
    let room = u32::try_from(memory_bytes / MEMORY_PER_REGION).unwrap_or(u32::MAX);
    threads.saturating_mul(2).min(room).max(2)
}

/// What an agent may use.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Name in messages and manifests.
    pub id: String,
    /// Directory of the runs; on the fastest disk there is. Absolute, where other agents read from it.
    pub sort_dir: PathBuf,
    /// Bytes of memory for sorting, merging and sending, over all slots.
    pub memory_bytes: u64,
    /// Bytes of disk for runs; 0 = what the file system has.
    pub disk_bytes_max: u64,
    /// Encode tasks at a time.
    pub encode_slots: u32,
    /// Ingest tasks at a time.
    pub ingest_slots: u32,
    /// Readers of merged runs that may be open at a time, over all ingest tasks: [`regions_in_flight`].
    pub readers_max: usize,
    /// Where other agents read its runs; empty = nowhere.
    pub address: String,
    /// Source roots that it can read; empty = all.
    pub readable: Vec<String>,
    /// Certificates towards other agents.
    pub security: Security,
    /// How long another agent may be silent before its runs count as lost.
    pub peer_patience: Duration,
    /// How long tasks may go on after a request to stop.
    pub grace: Duration,
    /// Where runs are kept, too.
    pub run_store: Option<RunStore>,
    /// A full disk hands encode tasks back, for others to take. An agent that has no others fails instead.
    pub hands_back_when_full: bool,
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
            ..Progress::default()
        }
    }
}

/// What every task of this agent shares.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) clusters: Clusters,
    pub(crate) peers: Arc<Peers>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) attempts: held::Attempts,
    pub(crate) totals: Totals,
    pub(crate) losers: conflict::Losers,
    pub(crate) idle_buffers: encode::IdleBuffers,
    encode_slots: Slots,
    ingest_slots: Slots,
}

impl Shared {
    fn progress(&self) -> Progress {
        let waits = self.clusters.waits();
        Progress {
            blocked_on_pairs_ms: waits.pairs.ms(),
            blocked_on_stores_ms: waits.stores.ms(),
            blocked_on_limit_ms: waits.limit.ms(),
            blocked_on_agents_ms: self.peers.waited.ms(),
            ..self.totals.progress()
        }
    }
}

/// What a task waits for; a conflict task, too, is an ingest task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A slot.
    Encode,
    /// So much of a slot.
    Ingest(u32),
}

/// Whether and why the agent takes no more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Not,
    DiskFull,
    Drained,
    /// Tasks may go on until then.
    Stopping(Instant),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The coordinator is gone; tasks in hand go on.
    Lost,
    /// The coordinator is a former leader.
    Fenced,
    /// The agent has left: nothing is in hand.
    Left,
}

/// An agent with its tasks.
pub struct Agent {
    shared: Arc<Shared>,
    work: Work,
    epoch: Epoch,
    leave: Leave,
    /// The grace period is over and what was in hand was stopped.
    handed_back: bool,
    /// Fires when the agent is asked to stop within its grace period.
    asked_to_stop: CancellationToken,
    /// Fires when everything must end now.
    cancel: CancellationToken,
    /// Deletes what was dropped; whether there was anything.
    removing: JoinSet<bool>,
    /// Parent of what is in hand; another one after the process was suspended.
    in_hand: Arc<Mutex<CancellationToken>>,
    pulse_started: bool,
    /// Since when no coordinator was heard.
    alone_since: Option<Instant>,
}

impl Agent {
    /// An agent that writes to `clusters`. `cancel` ends everything at once.
    ///
    /// # Errors
    /// When the sort directory cannot be used.
    pub fn new(config: AgentConfig, clusters: Clusters, cancel: CancellationToken) -> Result<Self> {
        allocator::keep_little();
        std::fs::create_dir_all(&config.sort_dir)
            .map_err(|e| held::disk_error(&config.sort_dir, &e))?;
        held::sweep(&config.sort_dir)?;
        let sst_dir = held::sst_dir(&config.sort_dir);
        std::fs::create_dir(&sst_dir).map_err(|e| held::disk_error(&sst_dir, &e))?;
        let ledger = Arc::new(Ledger::open(&config.sort_dir, config.disk_bytes_max)?);
        clusters.count_files_in(&ledger);
        Ok(Self {
            shared: Arc::new(Shared {
                encode_slots: Slots::new(config.encode_slots),
                ingest_slots: Slots::new(config.ingest_slots),
                peers: Arc::new(Peers::new(
                    config.security.clone(),
                    config.peer_patience,
                    config.run_store.clone(),
                )),
                config,
                clusters,
                ledger,
                attempts: held::Attempts::default(),
                totals: Totals::default(),
                losers: conflict::Losers::default(),
                idle_buffers: encode::IdleBuffers::default(),
            }),
            work: Work::default(),
            epoch: 0,
            leave: Leave::Not,
            handed_back: false,
            removing: JoinSet::new(),
            asked_to_stop: CancellationToken::new(),
            in_hand: Arc::new(Mutex::new(cancel.child_token())),
            pulse_started: false,
            alone_since: None,
            cancel,
        })
    }

    /// When this fires, the agent leaves within its grace period.
    pub fn asked_to_stop(&self) -> CancellationToken {
        self.asked_to_stop.clone()
    }

    /// Works for one coordinator, until `orders` is closed or the agent is cancelled; tasks in hand are stopped then.
    ///
    /// # Errors
    /// Only when the agent cannot work at all; failures of tasks are reported as messages.
    pub async fn run(
        mut self,
        orders: mpsc::Receiver<CoordinatorMessage>,
        reports: mpsc::Sender<AgentMessage>,
    ) -> Result<()> {
        let served = self.serve(orders, reports).await;
        self.stop().await;
        served.map(drop)
    }

    /// One session: until the coordinator goes, or the agent has left.
    ///
    /// # Errors
    /// Only when the agent cannot work at all.
    pub async fn serve(
        &mut self,
        mut orders: mpsc::Receiver<CoordinatorMessage>,
        reports: mpsc::Sender<AgentMessage>,
    ) -> Result<SessionEnd> {
        self.start_pulse();
        let mut tick = tokio::time::interval(PROGRESS_PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        let mut listening = self.greet(&reports).await?;
        while listening {
            if self.has_left()? {
                return Ok(SessionEnd::Left);
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(SessionEnd::Left),
                () = self.asked_to_stop.cancelled(), if !matches!(self.leave, Leave::Stopping(_)) => {
                    listening = self.begin_to_leave(self.stopping(), &reports).await;
                }
                () = grace_over(self.leave), if !self.handed_back => self.hand_back(),
                (id, outcome) = self.work.next_ended() => {
                    listening = self.ended(id, outcome, &reports).await;
                }
                Some(removed) = self.removing.join_next() => {
                    listening = self.removed(removed.unwrap_or(false), &reports).await?;
                }
                order = orders.recv() => match order {
                    None => break,
                    Some(order) if order.epoch < self.epoch => {
                        tracing::warn!(order.epoch, self.epoch, "refused an order of a former leader");
                        return Ok(SessionEnd::Fenced);
                    }
                    Some(order) => {
                        self.alone_since = None;
                        self.epoch = order.epoch;
                        listening = self.take(order.body, &reports).await?;
                    }
                },
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if !self.work.is_idle() || ticks.is_multiple_of(IDLE_PERIODS) {
                        let totals = self.shared.progress();
                        listening = self.send(Body::Progress(totals), &reports).await;
                    }
                }
            }
        }
        Ok(SessionEnd::Lost)
    }

    /// Without a coordinator: what ended is kept for the next one. Returns after `pause`, or true when the agent has
    /// left.
    pub(crate) async fn pause(&mut self, pause: Duration) -> bool {
        let since = *self.alone_since.get_or_insert_with(Instant::now);
        if since.elapsed() > ALONE_MAX && !self.work.is_idle() {
            tracing::warn!("no coordinator for {ALONE_MAX:?}: what is in hand ends here");
            self.work.cancel_all(None);
        }
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            if let Leave::Stopping(_) = self.leave
                && self.work.is_idle()
            {
                return true;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return true,
                () = self.asked_to_stop.cancelled(), if !matches!(self.leave, Leave::Stopping(_)) => {
                    self.leave = self.stopping();
                }
                () = grace_over(self.leave), if !self.handed_back => self.hand_back(),
                (id, outcome) = self.work.next_ended() => {
                    let body = id.report(self.judge(outcome));
                    self.work.owe(id, body);
                }
                () = &mut over => return false,
            }
        }
    }

    fn start_pulse(&mut self) {
        if let Some(pulse) = self.shared.clusters.pulse().filter(|_| !self.pulse_started) {
            self.pulse_started = true;
            let (in_hand, stop) = (Arc::clone(&self.in_hand), self.cancel.clone());
            tokio::spawn(keep_pulse(pulse, in_hand, stop));
        }
    }

    /// Stops what is in hand and removes what it was building: the process may end before the last builder does.
    pub(crate) async fn stop(&mut self) {
        self.work.stop().await;
        while self.removing.join_next().await.is_some() {}
        held::remove_ssts(&self.shared.config.sort_dir);
    }

    fn hand_back(&mut self) {
        self.handed_back = true;
        self.work.cancel_all(None);
    }

    fn stopping(&self) -> Leave {
        Leave::Stopping(Instant::now() + self.shared.config.grace)
    }

    async fn send(&self, body: Body, reports: &mpsc::Sender<AgentMessage>) -> bool {
        let message = AgentMessage {
            agent_id: self.shared.config.id.clone(),
            epoch: self.epoch,
            body: Some(body),
        };
        reports.send(message).await.is_ok()
    }

    /// Hello, what is owed, and whether it is about to leave.
    async fn greet(&self, reports: &mpsc::Sender<AgentMessage>) -> Result<bool> {
        let config = &self.shared.config;
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            encode_slots: config.encode_slots,
            ingest_slots: config.ingest_slots,
            held: held::list(&config.sort_dir)?,
            address: config.address.clone(),
            readable: config.readable.clone(),
            disk_free: self.shared.ledger.free(),
            running: self.work.running(),
        };
        let mut listening = self.send(Body::Hello(hello), reports).await;
        for report in self.work.owed().cloned() {
            listening = listening && self.send(report, reports).await;
        }
        if self.leave != Leave::Not {
            listening = listening && self.send(leaving(self.leave), reports).await;
        }
        Ok(listening)
    }

    async fn begin_to_leave(&mut self, leave: Leave, reports: &mpsc::Sender<AgentMessage>) -> bool {
        self.leave = leave;
        self.send(leaving(leave), reports).await
    }

    fn has_left(&self) -> Result<bool> {
        Ok(match self.leave {
            Leave::Stopping(until) => {
                self.work.is_done()
                    || (self.work.is_idle() && Instant::now() > until + RECORD_PATIENCE)
            }
            Leave::Drained => {
                self.work.is_done() && held::list(&self.shared.config.sort_dir)?.is_empty()
            }
            Leave::Not | Leave::DiskFull => false,
        })
    }

    async fn ended(
        &mut self,
        id: AttemptId,
        outcome: Outcome,
        reports: &mpsc::Sender<AgentMessage>,
    ) -> bool {
        let was = self.leave;
        let outcome = self.judge(outcome);
        if was != self.leave && !self.send(leaving(self.leave), reports).await {
            return false;
        }
        self.report(id, outcome, reports).await
    }

    async fn report(
        &mut self,
        id: AttemptId,
        outcome: Outcome,
        reports: &mpsc::Sender<AgentMessage>,
    ) -> bool {
        let body = id.report(outcome);
        self.work.owe(id, body.clone());
        self.send(body, reports).await
    }

    /// Where others can take the work, a full disk is no failure.
    fn judge(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::NoSpace(error) if self.shared.config.hands_back_when_full => {
                if self.leave == Leave::Not {
                    tracing::warn!(%error, "the disk is full: this agent takes no more encode tasks");
                    self.leave = Leave::DiskFull;
                }
                Outcome::Failed {
                    error: Error {
                        kind: ErrorKind::Cancelled,
                        ..error
                    },
                    lost_tasks: Vec::new(),
                }
            }
            other => other,
        }
    }

    /// Does what an order says; false when the coordinator is gone.
    async fn take(
        &mut self,
        order: Option<Order>,
        reports: &mpsc::Sender<AgentMessage>,
    ) -> Result<bool> {
        match order {
            Some(Order::Encode(task)) => {
                let id = self.attempt(task.table.as_ref(), task.task_id, task.attempt);
                // Each has a thread of its own, and what it unpacks to is not known.
                let (epoch, need) = (self.epoch, Need::Encode);
                let work = move |shared, cancel| encode_task(shared, task, epoch, cancel);
                return Ok(self.begin(id, need, reports, work).await);
            }
            Some(Order::Ingest(task)) => {
                let id = self.attempt(task.table.as_ref(), task.task_id, task.attempt);
                let need = Need::Ingest(ingest_share(&task));
                let work = move |shared, cancel| ingest_task(shared, task, cancel);
                return Ok(self.begin(id, need, reports, work).await);
            }
            Some(Order::Conflict(task)) => {
                let id = self.attempt(task.table.as_ref(), task.task_id, task.attempt);
                let (epoch, need) = (self.epoch, Need::Ingest(SLOT));
                let work = move |shared, cancel| conflict_task(shared, task, epoch, cancel);
                return Ok(self.begin(id, need, reports, work).await);
            }
            Some(Order::DropRuns(drop)) => self.drop_runs(&drop),
            Some(Order::Cancel(cancel)) => self.work.cancel_task(&cancel.job_id, cancel.task_id),
            Some(Order::Recorded(recorded)) => {
                fail_point("recorded");
                self.work.recorded(&recorded);
            }
            Some(Order::Limit(limit)) => self
                .shared
                .clusters
                .limit(&limit.job_id, limit.store_bytes_per_second),
            Some(Order::Drain(_)) if matches!(self.leave, Leave::Not | Leave::DiskFull) => {
                return Ok(self.begin_to_leave(Leave::Drained, reports).await);
            }
            Some(Order::Welcome(welcome)) => {
                if let Some(pulse) = self.shared.clusters.pulse() {
                    pulse.set_overdue(Duration::from_millis(welcome.lease_ms));
                }
            }
            Some(Order::Drain(_)) | None => {}
        }
        Ok(true)
    }

    /// Begins an attempt as soon as one of its slots is free, if the agent takes such tasks; false when the coordinator
    /// is gone.
    async fn begin<Fut>(
        &mut self,
        id: AttemptId,
        need: Need,
        reports: &mpsc::Sender<AgentMessage>,
        work: impl FnOnce(Arc<Shared>, CancellationToken) -> Fut + Send + 'static,
    ) -> bool
    where
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let takes = match self.leave {
            Leave::Not => true,
            Leave::DiskFull => need != Need::Encode,
            Leave::Drained | Leave::Stopping(_) => false,
        };
        if !takes {
            return self.report(id, not_taken(self.leave), reports).await;
        }
        let (shared, in_hand) = (Arc::clone(&self.shared), self.in_hand.lock().clone());
        self.work.start(id, &in_hand, async move |cancel| {
            let turn = match need {
                Need::Encode => shared.encode_slots.take(SLOT),
                Need::Ingest(share) => shared.ingest_slots.take(share),
            };
            match cancel.run_until_cancelled(turn).await {
                Some(_turn) => work(Arc::clone(&shared), cancel.clone()).await,
                None => failed(stopped()),
            }
        });
        true
    }

    fn attempt(&self, table: Option<&wire::TableSpec>, task: u64, attempt: u32) -> AttemptId {
        AttemptId {
            job: table.map(|table| table.job_id.clone()).unwrap_or_default(),
            task,
            epoch: self.epoch,
            attempt,
        }
    }

    /// Deletes what this agent keeps of dropped runs in the run store; of a whole job, what all agents do.
    fn forget_stored(&self, drop: &wire::DropRuns) {
        let Some(store) = self.shared.config.run_store.clone() else {
            return;
        };
        let (job, tasks) = (drop.job_id.clone(), drop.task_ids.clone());
        let dir = held::job_dir(&self.shared.config.sort_dir, &job);
        let names = (!tasks.is_empty()).then(|| held::run_names(&dir, &job, &tasks));
        tokio::task::spawn_blocking(move || store.forget(&job, names.as_deref()));
    }

    /// On another thread: a file system may take its time for thousands of files, and heartbeats may not.
    fn drop_runs(&mut self, drop: &wire::DropRuns) {
        if drop.task_ids.is_empty() {
            self.work.cancel_all(Some(&drop.job_id));
            self.shared.clusters.forget(&drop.job_id);
        }
        self.forget_stored(drop);
        self.shared.idle_buffers.free();
        let shared = Arc::clone(&self.shared);
        let sort_dir = &shared.config.sort_dir;
        let taken = shared
            .attempts
            .take_out(sort_dir, &drop.job_id, &drop.task_ids);
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "runs that are no longer needed stay on disk");
                return;
            }
        };
        self.removing.spawn_blocking(move || {
            // Not by what the ledger says then: others write meanwhile, and nothing else ends a full disk.
            let any = !taken.is_empty();
            for dir in taken {
                if let Err(error) = shared.ledger.remove_dir(&dir) {
                    tracing::warn!(%error, "runs that are no longer needed stay on disk");
                }
                fail_point("drop-runs");
            }
            any
        });
    }

    /// Something was removed: there may be room again.
    async fn removed(&mut self, freed: bool, reports: &mpsc::Sender<AgentMessage>) -> Result<bool> {
        if self.leave == Leave::DiskFull && freed {
            self.leave = Leave::Not;
            return self.greet(reports).await;
        }
        Ok(true)
    }
}

/// Beats while the process runs. After a suspension what was in hand ends before anything else goes on: others may
/// have done it meanwhile.
async fn keep_pulse(
    pulse: Arc<Pulse>,
    in_hand: Arc<Mutex<CancellationToken>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PULSE_PERIOD) => {}
        }
        if !pulse.is_steady() {
            tracing::warn!("this process was suspended: what it had in hand ends");
            let ended = std::mem::replace(&mut *in_hand.lock(), stop.child_token());
            ended.cancel();
        }
        pulse.beat();
    }
}

async fn grace_over(leave: Leave) {
    match leave {
        Leave::Stopping(until) => tokio::time::sleep_until(until).await,
        _ => std::future::pending().await,
    }
}

fn leaving(leave: Leave) -> Body {
    Body::Leaving(wire::Leaving {
        reason: reason(leave).to_owned(),
        serves: leave == Leave::DiskFull,
    })
}

fn reason(leave: Leave) -> &'static str {
    match leave {
        Leave::Not => "",
        Leave::DiskFull => "the disk of its sort directory is full",
        Leave::Drained => "drained",
        Leave::Stopping(_) => "asked to stop",
    }
}

fn not_taken(leave: Leave) -> Outcome {
    let cause = format!("the agent takes no such tasks: {}", reason(leave));
    failed(Error::new(ErrorKind::Cancelled, "agent", cause))
}
