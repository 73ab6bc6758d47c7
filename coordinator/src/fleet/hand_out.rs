//! Gives ready tasks to free slots, and repeats what is slow where nothing else is left to do.

use super::{Fleet, Led};
use crate::job::{self, TaskRef};
use crate::scheduler::{Attempt, TaskKind};
use crate::store::{Commit, Txn};
use std::collections::BTreeSet;
use thunderhead_types::{Error, ErrorKind, Result, fail_point};
use tokio::time::Instant;

impl Fleet {
    /// Fills free slots. Ingest goes first: it frees disk.
    pub(super) async fn hand_out(&mut self) -> Result<()> {
        let now = Instant::now();
        for kind in [TaskKind::Ingest, TaskKind::Encode] {
            let waiting = |job: &Led| job.leader.scheduler.queued(kind) > 0;
            if !self.jobs.iter().any(waiting) {
                continue;
            }
            let free: Vec<String> = self
                .members
                .iter()
                .filter(|(_, m)| m.free(kind) > 0)
                .map(|(name, _)| name.clone())
                .collect();
            // One task an agent and round, so that a few tasks are spread over all.
            let (mut idle, mut stuck) = (BTreeSet::new(), BTreeSet::new());
            while idle.len() < free.len() {
                for agent in &free {
                    if !idle.contains(agent) && !self.give(agent, kind, now, &mut stuck).await? {
                        idle.insert(agent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives `agent` one task of the oldest job that has one for it. `stuck` are jobs whose ranges all wait for
    /// runs: what one agent cannot have then, nobody can.
    async fn give(
        &mut self,
        agent: &str,
        kind: TaskKind,
        now: Instant,
        stuck: &mut BTreeSet<usize>,
    ) -> Result<bool> {
        let Some(member) = self.members.get(agent).filter(|m| m.free(kind) > 0) else {
            return Ok(false);
        };
        for at in 0..self.jobs.len() {
            let job = &mut self.jobs[at];
            if job.paused || job.leader.failure.is_some() {
                continue;
            }
            if !job.expected.is_empty() {
                if now < job.expected_until {
                    continue;
                }
                job.expected.clear();
            }
            if stuck.contains(&at) || job.leader.scheduler.queued(kind) == 0 {
                continue;
            }
            let mut scheduler = std::mem::take(&mut job.leader.scheduler);
            let name = (self.epoch, self.attempts.given() + 1);
            let reads = |place: &str| member.reads(agent, place);
            let taken =
                scheduler.take(kind, agent, name, now, reads, |task| job.leader.ready(task));
            job.leader.scheduler = scheduler;
            if let Some((task_id, attempt)) = taken {
                self.attempts.give();
                self.send_task(at, task_id, &attempt).await?;
                return Ok(true);
            }
            if kind == TaskKind::Ingest {
                stuck.insert(at);
            }
        }
        Ok(false)
    }

    async fn send_task(&mut self, at: usize, task_id: u64, attempt: &Attempt) -> Result<()> {
        let job = &mut self.jobs[at];
        if !job.workers.contains(&attempt.agent) {
            record_worker(self.store.as_ref(), self.epoch, job, &attempt.agent).await?;
        }
        job.leader.begin(task_id).await?;
        let task = match attempt.kind {
            TaskKind::Encode => "chunk",
            TaskKind::Ingest => "range",
        };
        tracing::info!(
            task,
            task_id,
            attempt = attempt.number,
            agent = attempt.agent,
            "task handed out"
        );
        let members = &self.members;
        let address_of = |agent: &str| {
            let member = members.get(agent).filter(|m| m.here());
            member.map_or_else(String::new, |m| m.hello.address.clone())
        };
        let order = job
            .leader
            .order(task_id, attempt.number, &attempt.agent, address_of);
        if let Some(member) = self.members.get_mut(&attempt.agent) {
            member.busy(attempt.kind, 1);
            member.send(self.epoch, order);
        }
        fail_point("hand-out");
        Ok(())
    }

    /// A slow encode task gets a second attempt on an idle agent: the first complete manifest wins. A range is
    /// not repeated: two agents writing the same files help nobody.
    pub(super) fn repeat_stragglers(&mut self) {
        let now = Instant::now();
        let mut repeats = Vec::new();
        for (at, job) in self.jobs.iter().enumerate() {
            let scheduler = &job.leader.scheduler;
            if job.paused || job.leader.failure.is_some() || scheduler.queued(TaskKind::Encode) > 0
            {
                continue;
            }
            let slow = scheduler.stragglers(TaskKind::Encode, now, self.options.straggler_after);
            repeats.extend(slow.into_iter().map(|(task, agent)| (at, task, agent)));
        }
        for (at, task_id, slow) in repeats {
            let TaskRef::Chunk { table, number } = TaskRef::from_id(task_id) else {
                continue;
            };
            let place = self.jobs[at].leader.place_of(table, number);
            let idle = self
                .members
                .iter()
                .filter(|(name, m)| **name != slow && m.free(TaskKind::Encode) > 0)
                .filter(|(name, m)| m.reads(name, &place))
                .max_by_key(|(_, m)| m.free(TaskKind::Encode))
                .map(|(name, _)| name.clone());
            let Some(idle) = idle else { continue };
            tracing::info!(task_id, slow, idle, "a straggler is repeated");
            let leader = &mut self.jobs[at].leader;
            *leader.retries.entry("straggler".to_owned()).or_default() += 1;
            let name = (self.epoch, self.attempts.give());
            let attempt = leader
                .scheduler
                .begin(TaskKind::Encode, task_id, &idle, name, now);
            let order = leader.order(task_id, attempt.number, &idle, |_| String::new());
            if let Some(member) = self.members.get_mut(&idle) {
                member.busy(TaskKind::Encode, 1);
                member.send(self.epoch, order);
            }
        }
    }
}

/// The next leader waits for those who may be at work before it hands out their tasks again.
async fn record_worker(
    store: &dyn crate::store::StateStore,
    epoch: u64,
    job: &mut Led,
    agent: &str,
) -> Result<()> {
    let key = job::worker_key(job.leader.job_id(), agent);
    match store.commit(epoch, Txn::default().put(key, "")).await? {
        Commit::Done(_) => {
            job.workers.insert(agent.to_owned());
            Ok(())
        }
        _ => Err(Error::new(
            ErrorKind::Cancelled,
            "leader",
            "another leader has taken over",
        )),
    }
}
