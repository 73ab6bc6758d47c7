//! Gives ready tasks to free slots, several small ones to each while there are many, and repeats what is slow where nothing else is left to do.

use super::{Fleet, Led};
use crate::job::{self, TaskRef};
use crate::scheduler::{Attempt, TaskKind};
use crate::store::{Commit, Txn};
use std::collections::BTreeSet;
use thunderhead_types::{Error, ErrorKind, Result};
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
                .filter(|(_, m)| m.free(kind) > 0 || m.packs(kind))
                .map(|(name, _)| name.clone())
                .collect();
            let slots = self.members.values().map(|m| m.slots(kind) as usize).sum();
            // One task an agent and round, so that a few tasks are spread over all.
            let (mut idle, mut stuck) = (BTreeSet::new(), BTreeSet::new());
            while idle.len() < free.len() {
                for agent in &free {
                    if !idle.contains(agent)
                        && !self.give(agent, (kind, slots), now, &mut stuck).await?
                    {
                        idle.insert(agent);
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives `agent` one task of the oldest job that has one for it. `stuck` are jobs whose ranges all wait for
    /// runs: what one agent cannot have then, nobody can. A slot that has one gets small tasks only while more wait
    /// than the fleet has `slots`: the last ones are for whoever is free first.
    async fn give(
        &mut self,
        agent: &str,
        (kind, slots): (TaskKind, usize),
        now: Instant,
        stuck: &mut BTreeSet<usize>,
    ) -> Result<bool> {
        let Some(member) = self.members.get(agent) else {
            return Ok(false);
        };
        let least = match member.free(kind) {
            0 if member.packs(kind) => slots + 1,
            0 => return Ok(false),
            _ => 1,
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
            if stuck.contains(&at) || job.leader.scheduler.queued(kind) < least {
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
            member.begins(attempt);
        }
        self.outbox.push((attempt.agent.clone(), order));
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
            let load = (TaskKind::Encode, leader.share(task_id));
            let attempt = leader.scheduler.begin(load, task_id, &idle, name, now);
            let order = leader.order(task_id, attempt.number, &idle, |_| String::new());
            if let Some(member) = self.members.get_mut(&idle) {
                member.begins(&attempt);
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
