//! The agents of a fleet: sessions, leases, what they hold and how busy they are.

use super::member::{Member, State};
use super::{Event, Fleet};
use crate::job::{self, TaskRef};
use crate::leader::Held;
use crate::scheduler::{Attempt, TaskKind};
use std::collections::BTreeSet;
use std::time::Duration;
use thunderhead_proto::thunderhead::{
    AgentMessage, ConflictReport, Failure, Hello, IngestReport, Limit, Manifest, Recorded, Welcome,
    agent_message::Body, coordinator_message::Body as Order,
};
use thunderhead_types::{Epoch, Error, ErrorKind, Result};
use tokio::time::Instant;

/// Messages with the session they came on.
pub(super) type Messages = Vec<(u64, AgentMessage)>;

/// Early reports that are kept; agents repeat the others in their next session.
const EARLY_MAX: usize = 10_000;

/// How often an idle agent says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What an attempt came to.
enum Outcome {
    Encoded(Manifest),
    Ingested(IngestReport),
    Settled(ConflictReport),
    Failed(Failure),
}

impl Fleet {
    pub(super) async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Connected {
                agent,
                session,
                link,
            } => {
                self.stirred = true;
                let now = Instant::now();
                let member = self
                    .members
                    .entry(agent)
                    .or_insert_with(|| Member::absent(now));
                member.session = session;
                member.link = Some(link);
                member.greeted = false;
                member.limits.clear();
                member.seen = now;
                Ok(())
            }
            Event::Message { session, message } => self.message(session, message).await,
            Event::Closed { agent, session } => self.closed(&agent, session),
        }
    }

    fn closed(&mut self, agent: &str, session: u64) -> Result<()> {
        self.stirred = true;
        let Some(member) = self.members.get_mut(agent).filter(|m| m.session == session) else {
            return Ok(());
        };
        member.link = None;
        let left = member.state == State::Leaving;
        if self.options.one_process {
            self.deserted = true;
            self.jobs
                .iter_mut()
                .for_each(|job| job.leader.fail(deserted()));
        }
        if left || self.options.one_process {
            self.take_back(agent, "agent left");
        }
        self.membership_changed();
        Ok(())
    }

    /// A message of an agent; one of a former session is void, its successor says everything again.
    pub(super) async fn message(&mut self, session: u64, message: AgentMessage) -> Result<()> {
        let agent = message.agent_id;
        let now = Instant::now();
        let Some(member) = self
            .members
            .get_mut(&agent)
            .filter(|m| m.session == session)
        else {
            return Ok(());
        };
        member.seen = now;
        let Some(body) = message.body else {
            return Ok(());
        };
        self.stirred |= !matches!(body, Body::Progress(_));
        let (job_id, task_id, task_epoch, attempt, outcome) = match body {
            Body::Hello(hello) => return self.hello(&agent, hello).await,
            Body::Progress(totals) => {
                if let Some(member) = self.members.get_mut(&agent) {
                    member.totals = totals;
                }
                for job in &mut self.jobs {
                    job.leader.progress().agent_totals(&agent, totals);
                    job.dirty = true;
                }
                return Ok(());
            }
            Body::Leaving(leaving) => {
                tracing::info!(agent, leaving.reason, "an agent takes no more tasks");
                if let Some(member) = self.members.get_mut(&agent) {
                    member.state = if leaving.serves {
                        State::IngestOnly
                    } else {
                        State::Leaving
                    };
                    member.reason = leaving.reason;
                }
                self.membership_changed();
                return Ok(());
            }
            Body::EncodeDone(d) => (
                d.job_id,
                d.task_id,
                d.task_epoch,
                d.attempt,
                Outcome::Encoded(d.manifest.unwrap_or_default()),
            ),
            Body::IngestDone(d) => (
                d.job_id,
                d.task_id,
                d.task_epoch,
                d.attempt,
                Outcome::Ingested(d.report.unwrap_or_default()),
            ),
            Body::TaskFailed(d) => (
                d.job_id,
                d.task_id,
                d.task_epoch,
                d.attempt,
                Outcome::Failed(d.failure.unwrap_or_default()),
            ),
            Body::ConflictDone(d) => (
                d.job_id,
                d.task_id,
                d.task_epoch,
                d.attempt,
                Outcome::Settled(d.report.unwrap_or_default()),
            ),
        };
        let Some(at) = self.job_at(&job_id) else {
            if self.coming.contains(&job_id) {
                let body = Some(outcome.into_body(&job_id, task_id, task_epoch, attempt));
                let message = AgentMessage {
                    agent_id: agent,
                    epoch: message.epoch,
                    body,
                };
                let early = self.early.entry(job_id).or_default();
                if early.len() < EARLY_MAX {
                    early.push((session, message));
                }
                return Ok(());
            }
            self.acknowledge(&agent, job_id, task_id, task_epoch, attempt);
            return Ok(());
        };
        // What the agent said in its hello is kept true: another job, or the same one again, is compared with it.
        member_ended(
            self.members.get_mut(&agent),
            &job_id,
            (task_id, task_epoch, attempt),
            &outcome,
        );
        let result = self
            .report(at, &agent, (task_id, task_epoch, attempt), outcome)
            .await;
        self.settle(at, result)?;
        self.acknowledge(&agent, job_id, task_id, task_epoch, attempt);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        agent: &str,
        job_id: String,
        task_id: u64,
        task_epoch: Epoch,
        attempt: u32,
    ) {
        let recorded = Recorded {
            job_id,
            task_id,
            attempt,
            task_epoch,
        };
        let order = Order::Recorded(recorded);
        self.outbox.push((agent.to_owned(), order));
    }

    /// Records what an attempt came to, if its task is still open: whoever is first, wins.
    async fn report(
        &mut self,
        at: usize,
        agent: &str,
        (task_id, task_epoch, attempt): (u64, Epoch, u32),
        outcome: Outcome,
    ) -> Result<()> {
        let leader = &mut self.jobs[at].leader;
        let ended = leader.scheduler.end(task_id, task_epoch, attempt);
        if let Some(ended) = &ended
            && let Some(member) = self.members.get_mut(&ended.agent)
        {
            member.ends(ended);
        }
        let wanted = leader.is_open(task_id) && leader.planned_by(task_id, (task_epoch, attempt));
        match outcome {
            Outcome::Failed(failure) => {
                if ended.is_none() || leader.failure.is_some() {
                    return Ok(());
                }
                let others = leader.scheduler.is_in_flight(task_id);
                let kind = ErrorKind::from_name(&failure.kind);
                // One that was told to stop, and one whose peers are away, say nothing about the task.
                let counts = kind != ErrorKind::Cancelled && leader.ready(task_id);
                if others {
                    tracing::warn!(task_id, failure.cause, "one of two attempts failed");
                    return Ok(());
                }
                leader.task_failed(task_id, failure, counts).await
            }
            Outcome::Encoded(mut manifest) if wanted => {
                agent.clone_into(&mut manifest.agent_id);
                if let Some(ended) = &ended {
                    leader.scheduler.took(ended.kind, ended.started.elapsed());
                }
                leader.encoded(task_id, manifest).await?;
                self.end_others(at, task_id);
                Ok(())
            }
            Outcome::Ingested(report) if wanted => {
                leader.ingested(task_id, report).await?;
                self.end_others(at, task_id);
                Ok(())
            }
            Outcome::Encoded(manifest) => {
                if !leader.is_recorded(task_id, agent, &manifest.attempt_dir) {
                    self.drop_attempts(at, agent, &BTreeSet::from([task_id]));
                }
                Ok(())
            }
            Outcome::Settled(mut report) if wanted => {
                agent.clone_into(&mut report.agent_id);
                leader.conflict_done(task_id, report).await?;
                self.end_others(at, task_id);
                Ok(())
            }
            Outcome::Settled(report) => {
                if !leader.is_recorded(task_id, agent, &report.attempt_dir) {
                    self.drop_attempts(at, agent, &BTreeSet::from([task_id]));
                }
                Ok(())
            }
            Outcome::Ingested(_) => Ok(()),
        }
    }

    /// A task is done: its other attempts are not needed.
    fn end_others(&mut self, at: usize, task_id: u64) {
        let job_id = self.jobs[at].leader.job_id().to_owned();
        for other in self.jobs[at].leader.scheduler.end_all(task_id) {
            if let Some(member) = self.members.get_mut(&other.agent) {
                member.ends(&other);
            }
            self.cancel_task(&other.agent, &job_id, task_id);
        }
    }

    fn drop_attempts(&mut self, at: usize, agent: &str, task_ids: &BTreeSet<u64>) {
        let job_id = self.jobs[at].leader.job_id();
        if let Some(member) = self.members.get_mut(agent) {
            member.drop_runs(self.epoch, job_id, task_ids);
        }
    }

    async fn hello(&mut self, agent: &str, hello: Hello) -> Result<()> {
        let Some(member) = self.members.get_mut(agent) else {
            return Ok(());
        };
        tracing::info!(
            agent,
            hello.address,
            hello.encode_slots,
            hello.ingest_slots,
            "an agent is here"
        );
        member.greet(hello);
        // Counted from what the leader hears last, an agent has a heartbeat more than its lease.
        let lease_ms = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        member.send(self.epoch, Order::Welcome(Welcome { lease_ms }));
        for at in 0..self.jobs.len() {
            self.reconcile(agent, at).await?;
        }
        self.drop_ended(agent).await;
        self.membership_changed();
        Ok(())
    }

    /// Lets an agent delete what it kept of jobs that ended while it was away.
    async fn drop_ended(&mut self, agent: &str) {
        let Some(member) = self.members.get(agent) else {
            return;
        };
        if self.options.one_process {
            return;
        }
        let not_led = |id: &&String| self.job_at(id).is_none() && !self.coming.contains(*id);
        let not_led: Vec<String> = member.jobs_held().filter(not_led).cloned().collect();
        for id in not_led {
            // One that failed keeps its record, and needs its runs when it is submitted again.
            let ended = matches!(self.store.get(&job::job_key(&id)).await, Ok(None));
            if let Some(member) = self.members.get_mut(agent).filter(|_| ended) {
                tracing::info!(agent, id, "a job ended while an agent was away");
                member.drop_job(self.epoch, &id);
            }
        }
    }

    /// Brings a job and what an agent said in its `Hello` to agreement.
    pub(super) async fn reconcile(&mut self, agent: &str, at: usize) -> Result<()> {
        let Some(member) = self.members.get(agent).filter(|m| m.here()) else {
            return Ok(());
        };
        let job = &mut self.jobs[at];
        job.expected.remove(agent);
        let job_id = job.leader.job_id().to_owned();
        let nothing = Held::new();
        let held = member.held(&job_id).unwrap_or(&nothing);
        let running: BTreeSet<(u64, Epoch, u32)> = member
            .hello
            .running
            .iter()
            .filter(|r| r.job_id == job_id)
            .map(|r| (r.task_id, r.epoch, r.attempt))
            .collect();
        let result = job.leader.forget_lost(agent, held).await;
        let reported = |task: u64| {
            let mut attempts = running.range((task, 0, 0)..);
            attempts.next().is_some_and(|attempt| attempt.0 == task)
        };
        let wanted =
            |task: u64, dir: &str| reported(task) || job.leader.is_recorded(task, agent, dir);
        let unwanted = held.iter().filter(|(task, dir)| !wanted(**task, dir));
        let unwanted: BTreeSet<u64> = unwanted.map(|(task, _)| *task).collect();
        // Orders that never arrived, and work that a restart ended.
        let gone: Vec<(u64, Epoch, u32)> = job
            .leader
            .scheduler
            .of_agent(agent)
            .map(|(task, a)| (task, a.epoch, a.number))
            .filter(|known| !running.contains(known))
            .collect();
        for (task_id, epoch, number) in gone {
            self.take_back_attempt(at, task_id, epoch, number, "agent restarted");
        }
        for &(task_id, epoch, number) in &running {
            self.adopt(at, agent, task_id, epoch, number);
        }
        self.drop_attempts(at, agent, &unwanted);
        self.settle(at, result)
    }

    fn adopt(&mut self, at: usize, agent: &str, task_id: u64, epoch: Epoch, number: u32) {
        let leader = &mut self.jobs[at].leader;
        let kind = match TaskRef::from_id(task_id) {
            TaskRef::Chunk { .. } => TaskKind::Encode,
            TaskRef::Range { .. } | TaskRef::Conflict { .. } => TaskKind::Ingest,
        };
        let known = leader
            .scheduler
            .of_agent(agent)
            .any(|(task, a)| (task, a.epoch, a.number) == (task_id, epoch, number));
        if known {
            return;
        }
        let job_id = leader.job_id().to_owned();
        let wanted = leader.failure.is_none()
            && leader.is_open(task_id)
            && leader.planned_by(task_id, (epoch, number))
            && !leader.scheduler.is_in_flight(task_id);
        if !wanted {
            self.cancel_task(agent, &job_id, task_id);
            return;
        }
        let attempt = Attempt {
            agent: agent.to_owned(),
            epoch,
            number,
            kind,
            share: leader.share(task_id),
            started: Instant::now(),
        };
        if let Some(member) = self.members.get_mut(agent) {
            member.begins(&attempt);
        }
        leader.scheduler.adopt(task_id, attempt);
    }

    fn take_back_attempt(
        &mut self,
        at: usize,
        task_id: u64,
        epoch: Epoch,
        number: u32,
        cause: &str,
    ) {
        let leader = &mut self.jobs[at].leader;
        if let Some(ended) = leader.scheduler.end(task_id, epoch, number) {
            if let Some(member) = self.members.get_mut(&ended.agent) {
                member.ends(&ended);
            }
            leader.requeue(task_id, cause);
            self.jobs[at].dirty = true;
        }
    }

    /// Every attempt on `agent` has come to nothing.
    fn take_back(&mut self, agent: &str, cause: &str) {
        for at in 0..self.jobs.len() {
            let attempts: Vec<(u64, Epoch, u32)> = self.jobs[at]
                .leader
                .scheduler
                .of_agent(agent)
                .map(|(task, a)| (task, a.epoch, a.number))
                .collect();
            for (task_id, epoch, number) in attempts {
                self.take_back_attempt(at, task_id, epoch, number, cause);
            }
        }
    }

    /// Silent agents lose their tasks, and later count as lost with their disks.
    pub(super) async fn check_leases(&mut self) -> Result<()> {
        if self.options.one_process {
            return Ok(());
        }
        let now = Instant::now();
        let silent = |m: &Member| now.duration_since(m.seen);
        let lapsed: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| !m.lapsed && silent(m) > self.options.lease + HEARTBEAT)
            .map(|(name, _)| name.clone())
            .collect();
        for agent in &lapsed {
            tracing::warn!(
                agent,
                "an agent is silent for longer than its lease; its tasks are taken back"
            );
            if let Some(member) = self.members.get_mut(agent) {
                member.lapsed = true;
                member.link = None;
            }
            self.take_back(agent, "agent silent");
        }
        let dead: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| {
                m.lapsed && silent(m) > self.options.runs_grace.max(self.options.lease)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for agent in &dead {
            tracing::warn!(
                agent,
                "an agent did not come back; what it encoded is encoded again elsewhere"
            );
            self.members.remove(agent);
            for at in 0..self.jobs.len() {
                self.jobs[at].expected.remove(agent);
                let result = self.jobs[at].leader.forget_lost(agent, &Held::new()).await;
                self.settle(at, result)?;
            }
        }
        if !lapsed.is_empty() || !dead.is_empty() {
            self.membership_changed();
        }
        Ok(())
    }

    /// Agents that ranges may be planned for.
    pub(super) fn ingesting(&self) -> Vec<String> {
        self.members
            .iter()
            .filter(|(_, m)| m.here() && m.hello.ingest_slots > 0 && m.state != State::Leaving)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Tells jobs who is there, and agents their shares of the limits.
    pub(super) fn membership_changed(&mut self) {
        let agents = self.ingesting();
        let away: BTreeSet<String> = self
            .members
            .iter()
            .filter(|(_, m)| !m.here())
            .map(|(name, _)| name.clone())
            .collect();
        for job in &mut self.jobs {
            job.leader.agents.clone_from(&agents);
            job.leader.set_away(&away);
        }
        self.share_limits();
    }

    /// Divides each job's limit over the agents that ingest.
    pub(super) fn share_limits(&mut self) {
        let count = u64::try_from(self.ingesting().len()).unwrap_or(1).max(1);
        let epoch = self.epoch;
        for job in &self.jobs {
            let limit = Limit {
                job_id: job.leader.job_id().to_owned(),
                store_bytes_per_second: match job.store_bytes_per_second {
                    0 => 0,
                    total => (total / count).max(1),
                },
            };
            for member in self.members.values_mut().filter(|m| m.here()) {
                let share = limit.store_bytes_per_second;
                let before = member.limits.insert(limit.job_id.clone(), share);
                if before.unwrap_or(0) != share {
                    member.send(epoch, Order::Limit(limit.clone()));
                }
            }
        }
    }
}

/// Why a job of one process ends when its agent does.
pub(super) fn deserted() -> Error {
    Error::new(
        ErrorKind::Internal,
        "agent",
        "the agent ended before its work was done",
    )
}

/// An attempt of the agent is over: it is no longer running, and its runs are there when it was encoded.
fn member_ended(
    member: Option<&mut Member>,
    job_id: &str,
    (task_id, task_epoch, attempt): (u64, Epoch, u32),
    outcome: &Outcome,
) {
    let Some(member) = member else { return };
    member.hello.running.retain(|r| {
        (r.job_id.as_str(), r.task_id, r.epoch, r.attempt) != (job_id, task_id, task_epoch, attempt)
    });
    let attempt_dir = match outcome {
        Outcome::Encoded(manifest) => &manifest.attempt_dir,
        Outcome::Settled(report) => &report.attempt_dir,
        Outcome::Ingested(_) | Outcome::Failed(_) => return,
    };
    member.holds(job_id, task_id, attempt_dir.clone());
}

impl Outcome {
    fn into_body(self, job_id: &str, task_id: u64, task_epoch: Epoch, attempt: u32) -> Body {
        use thunderhead_proto::thunderhead::{ConflictDone, EncodeDone, IngestDone, TaskFailed};
        let job_id = job_id.to_owned();
        match self {
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
            Outcome::Failed(failure) => Body::TaskFailed(TaskFailed {
                task_id,
                attempt,
                failure: Some(failure),
                job_id,
                task_epoch,
            }),
        }
    }
}
