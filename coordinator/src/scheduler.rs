//! Who works on what: queues of task ids, the agents' free slots, and what is in flight. Pure state; the
//! leader's loop feeds it events and sends what it assigns. Knows no table, file or key.

use std::collections::{BTreeMap, VecDeque};

/// Which slots a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// Source bytes to runs.
    Encode,
    /// Runs to TiKV.
    Ingest,
}

/// A task handed to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The agent.
    pub agent: String,
    /// The task.
    pub task_id: u64,
    /// Counts the attempts at this task under this leader, from 1.
    pub attempt: u32,
    /// Its kind.
    pub kind: TaskKind,
}

#[derive(Debug, Default)]
struct AgentSlots {
    encode: u32,
    ingest: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scheduler {
    agents: BTreeMap<String, AgentSlots>,
    queue: BTreeMap<TaskKind, VecDeque<u64>>,
    in_flight: BTreeMap<u64, Assignment>,
    attempts: BTreeMap<u64, u32>,
}

impl Scheduler {
    /// Adds an agent with its slots.
    pub fn add_agent(&mut self, agent: &str, encode: u32, ingest: u32) {
        self.agents
            .insert(agent.to_owned(), AgentSlots { encode, ingest });
    }

    /// Queues a task; one that is already queued or in flight stays once.
    pub fn push(&mut self, kind: TaskKind, task_id: u64) {
        let queue = self.queue.entry(kind).or_default();
        if !queue.contains(&task_id) && !self.in_flight.contains_key(&task_id) {
            queue.push_back(task_id);
        }
    }

    /// Gives queued tasks to free slots. Ingest goes first: it frees disk.
    pub fn assign(&mut self) -> Vec<Assignment> {
        let mut assigned = Vec::new();
        for kind in [TaskKind::Ingest, TaskKind::Encode] {
            while let Some(agent) = self.free_agent(kind) {
                let Some(task_id) = self.queue.get_mut(&kind).and_then(VecDeque::pop_front) else {
                    break;
                };
                let attempt = self.attempts.entry(task_id).or_default();
                *attempt += 1;
                let assignment = Assignment {
                    agent,
                    task_id,
                    attempt: *attempt,
                    kind,
                };
                *self.slots_mut(&assignment.agent, kind) -= 1;
                self.in_flight.insert(task_id, assignment.clone());
                assigned.push(assignment);
            }
        }
        assigned
    }

    /// Ends an attempt. False when it is not the current one: its report must be ignored.
    pub fn finish(&mut self, task_id: u64, attempt: u32) -> bool {
        match self.in_flight.get(&task_id) {
            Some(current) if current.attempt == attempt => {
                if let Some(done) = self.in_flight.remove(&task_id) {
                    *self.slots_mut(&done.agent, done.kind) += 1;
                }
                true
            }
            _ => false,
        }
    }

    /// How often the task was assigned.
    pub fn attempts(&self, task_id: u64) -> u32 {
        self.attempts.get(&task_id).copied().unwrap_or(0)
    }

    /// Whether nothing is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.queue.values().all(VecDeque::is_empty)
    }

    /// Number of tasks in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Forgets what is queued; what is in flight goes on.
    pub fn clear_queue(&mut self) {
        self.queue.clear();
    }

    fn free_agent(&self, kind: TaskKind) -> Option<String> {
        let free = |slots: &AgentSlots| match kind {
            TaskKind::Encode => slots.encode,
            TaskKind::Ingest => slots.ingest,
        };
        let best = self.agents.iter().max_by_key(|(_, slots)| free(slots))?;
        (free(best.1) > 0).then(|| best.0.clone())
    }

    fn slots_mut(&mut self, agent: &str, kind: TaskKind) -> &mut u32 {
        let slots = self.agents.entry(agent.to_owned()).or_default();
        match kind {
            TaskKind::Encode => &mut slots.encode,
            TaskKind::Ingest => &mut slots.ingest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_given_twice_and_ingest_goes_first() {
        let mut scheduler = Scheduler::default();
        scheduler.add_agent("a", 2, 1);
        for task in 0..4 {
            scheduler.push(TaskKind::Encode, task);
        }
        scheduler.push(TaskKind::Ingest, 100);
        scheduler.push(TaskKind::Ingest, 101);
        let first = scheduler.assign();
        assert_eq!(
            first.iter().map(|a| a.task_id).collect::<Vec<_>>(),
            [100, 0, 1]
        );
        assert!(scheduler.assign().is_empty());
        assert!(scheduler.finish(0, 1));
        assert_eq!(
            scheduler
                .assign()
                .iter()
                .map(|a| a.task_id)
                .collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn a_report_of_an_old_attempt_is_refused() {
        let mut scheduler = Scheduler::default();
        scheduler.add_agent("a", 1, 0);
        scheduler.push(TaskKind::Encode, 7);
        assert_eq!(scheduler.assign()[0].attempt, 1);
        assert!(scheduler.finish(7, 1));
        scheduler.push(TaskKind::Encode, 7);
        assert_eq!(scheduler.assign()[0].attempt, 2);
        assert!(!scheduler.finish(7, 1));
        assert!(scheduler.finish(7, 2));
        assert!(scheduler.is_idle());
    }
}
