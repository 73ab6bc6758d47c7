//! One agent as the leader knows it: its session, what it said, how busy it is and how fast.

use super::status::AgentStatus;
use crate::leader::Held;
use crate::scheduler::{Attempt, SLOT, TaskKind};
use crate::spread;
use std::collections::{BTreeMap, BTreeSet};
use thunderhead_proto::thunderhead::{
    CoordinatorMessage, DropRuns, Hello, Progress, coordinator_message::Body as Order,
};
use thunderhead_types::Epoch;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Whether an agent takes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes every task.
    Active,
    /// Its disk is full: ingest tasks only.
    IngestOnly,
    /// Was asked to leave, or said that it does.
    Leaving,
}

/// An agent.
pub(super) struct Member {
    pub(super) session: u64,
    pub(super) link: Option<mpsc::Sender<CoordinatorMessage>>,
    /// What it said last, but for what it holds; empty slots before that.
    pub(super) hello: Hello,
    /// What it has on its disk, by job.
    held: BTreeMap<String, Held>,
    pub(super) greeted: bool,
    /// When it was heard last.
    pub(super) seen: Instant,
    /// Whether its tasks were taken back.
    pub(super) lapsed: bool,
    pub(super) state: State,
    pub(super) reason: String,
    busy: BTreeMap<TaskKind, Busy>,
    /// The limits it was told, by job.
    pub(super) limits: BTreeMap<String, u64>,
    pub(super) totals: Progress,
    /// Totals at an earlier moment and that moment, for rates.
    before: (Progress, Instant),
    rates: (f64, f64),
    /// Waited of late, ms a second, by link.
    waits: BTreeMap<String, u64>,
}

/// Small tasks beyond its slots that an agent may have in hand: its orders must fit into its session.
const PACKED_MAX: u32 = 128;

/// Tasks in hand, and how much of the slots they take.
#[derive(Clone, Copy, Default)]
struct Busy {
    tasks: u32,
    shares: u32,
}

/// Time waited by link.
fn blocked(totals: &Progress) -> [(&'static str, u64); 4] {
    [
        ("merge", totals.blocked_on_pairs_ms),
        ("TiKV", totals.blocked_on_stores_ms),
        ("limit", totals.blocked_on_limit_ms),
        ("agents", totals.blocked_on_agents_ms),
    ]
}

impl Member {
    /// One that a former leader knew.
    pub(super) fn absent(now: Instant) -> Self {
        Self {
            session: 0,
            link: None,
            hello: Hello::default(),
            held: BTreeMap::new(),
            greeted: false,
            seen: now,
            lapsed: false,
            state: State::Active,
            reason: String::new(),
            busy: BTreeMap::new(),
            limits: BTreeMap::new(),
            totals: Progress::default(),
            before: (Progress::default(), now),
            rates: (0.0, 0.0),
            waits: BTreeMap::new(),
        }
    }

    /// Whether it is connected and has said what it can do.
    pub(super) fn here(&self) -> bool {
        self.link.is_some() && self.greeted
    }

    /// Slots of a kind.
    pub(super) fn slots(&self, kind: TaskKind) -> u32 {
        match (kind, self.state) {
            _ if !self.here() => 0,
            (TaskKind::Encode, State::Active) => self.hello.encode_slots,
            (TaskKind::Ingest, State::Active | State::IngestOnly) => self.hello.ingest_slots,
            _ => 0,
        }
    }

    fn busy(&self, kind: TaskKind) -> Busy {
        self.busy.get(&kind).copied().unwrap_or_default()
    }

    /// Slots of a kind without a task.
    pub(super) fn free(&self, kind: TaskKind) -> u32 {
        self.slots(kind).saturating_sub(self.busy(kind).tasks)
    }

    /// Whether every slot has a task, but small ones leave room for more.
    pub(super) fn packs(&self, kind: TaskKind) -> bool {
        let (slots, busy) = (self.slots(kind), self.busy(kind));
        let room = slots.saturating_mul(SLOT).saturating_sub(busy.shares);
        room > 0 && (slots..slots.saturating_add(PACKED_MAX)).contains(&busy.tasks)
    }

    /// Counts an attempt in.
    pub(super) fn begins(&mut self, attempt: &Attempt) {
        let busy = self.busy.entry(attempt.kind).or_default();
        busy.tasks += 1;
        busy.shares += attempt.share;
    }

    /// Counts it out.
    pub(super) fn ends(&mut self, attempt: &Attempt) {
        let busy = self.busy.entry(attempt.kind).or_default();
        busy.tasks = busy.tasks.saturating_sub(1);
        busy.shares = busy.shares.saturating_sub(attempt.share);
    }

    /// Whether it, whose name is `agent`, can read the source files of this place.
    pub(super) fn reads(&self, agent: &str, place: &str) -> bool {
        spread::reads(place, agent, &self.hello.readable)
    }

    /// Takes what it says of itself.
    pub(super) fn greet(&mut self, mut hello: Hello) {
        self.held.clear();
        for held in std::mem::take(&mut hello.held) {
            self.holds(&held.job_id, held.task_id, held.attempt_dir);
        }
        self.hello = hello;
        self.greeted = true;
        self.lapsed = false;
        self.state = State::Active;
        self.reason.clear();
    }

    /// It has an attempt on its disk, in place of an earlier one at the task.
    pub(super) fn holds(&mut self, job_id: &str, task_id: u64, attempt_dir: String) {
        let held = match self.held.get_mut(job_id) {
            Some(held) => held,
            None => self.held.entry(job_id.to_owned()).or_default(),
        };
        held.insert(task_id, attempt_dir);
    }

    /// What it has of a job.
    pub(super) fn held(&self, job_id: &str) -> Option<&Held> {
        self.held.get(job_id)
    }

    /// Jobs of which it has something.
    pub(super) fn jobs_held(&self) -> impl Iterator<Item = &String> {
        self.held.keys()
    }

    /// Lets it delete what it has of these tasks, and takes that as done.
    pub(super) fn drop_runs(&mut self, epoch: Epoch, job_id: &str, tasks: &BTreeSet<u64>) {
        let Some(held) = self.held.get_mut(job_id) else {
            return;
        };
        // A table has many chunks, an agent some of them.
        let dropped = held.extract_if(.., |task, _| tasks.contains(task));
        let task_ids: Vec<u64> = dropped.map(|(task, _)| task).collect();
        if task_ids.is_empty() {
            return;
        }
        let job_id = job_id.to_owned();
        self.send(epoch, Order::DropRuns(DropRuns { job_id, task_ids }));
    }

    /// Lets it delete everything that it has of a job.
    pub(super) fn drop_job(&mut self, epoch: Epoch, job_id: &str) {
        self.held.remove(job_id);
        let (job_id, task_ids) = (job_id.to_owned(), Vec::new());
        self.send(epoch, Order::DropRuns(DropRuns { job_id, task_ids }));
    }

    /// Sends an order. An agent that does not take its orders loses its session, and greets anew.
    pub(super) fn send(&mut self, epoch: Epoch, order: Order) {
        let message = CoordinatorMessage {
            epoch,
            body: Some(order),
        };
        if let Some(link) = &self.link
            && link.try_send(message).is_err()
        {
            self.link = None;
        }
    }

    /// Takes no more tasks.
    pub(super) fn drain(&mut self, epoch: Epoch) {
        self.state = State::Leaving;
        self.reason = "drained on request".to_owned();
        self.send(
            epoch,
            Order::Drain(thunderhead_proto::thunderhead::Drain {}),
        );
    }

    /// For people.
    pub(super) fn status(&mut self, name: &str, now: Instant) -> AgentStatus {
        let seconds = now.duration_since(self.before.1).as_secs_f64();
        if seconds >= 1.0 {
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            self.rates = (
                rate(self.totals.source_bytes, self.before.0.source_bytes),
                rate(self.totals.ingested_bytes, self.before.0.ingested_bytes),
            );
            let waited = blocked(&self.totals)
                .into_iter()
                .zip(blocked(&self.before.0));
            self.waits = waited
                .map(|((link, now), (_, then))| (link.to_owned(), rate(now, then) as u64))
                .collect();
            self.before = (self.totals, now);
        }
        let state = match self.state {
            _ if self.lapsed => "lost",
            _ if !self.here() => "away",
            State::Active => "active",
            State::IngestOnly => "disk full",
            State::Leaving => "leaving",
        };
        // The others wait for a slot.
        let working = |kind, slots: u32| self.busy(kind).tasks.min(slots);
        AgentStatus {
            agent: name.to_owned(),
            state: state.to_owned(),
            reason: self.reason.clone(),
            address: self.hello.address.clone(),
            session: self.session,
            readable: self.hello.readable.clone(),
            encoding: working(TaskKind::Encode, self.hello.encode_slots),
            encode_slots: self.hello.encode_slots,
            ingesting: working(TaskKind::Ingest, self.hello.ingest_slots),
            ingest_slots: self.hello.ingest_slots,
            source_bytes: self.totals.source_bytes,
            ingested_bytes: self.totals.ingested_bytes,
            source_bytes_per_second: self.rates.0,
            ingested_bytes_per_second: self.rates.1,
            silent_ms: u64::try_from(now.duration_since(self.seen).as_millis()).unwrap_or(u64::MAX),
            blocked_ms: blocked(&self.totals)
                .map(|(link, ms)| (link.to_owned(), ms))
                .into(),
            blocked_ms_per_second: self.waits.clone(),
        }
    }
}
