//! Who works on what in one job: queues of task ids by where they are best done, and the attempts in flight.
//! Pure state; the fleet's loop feeds it events and sends what it takes. Knows no table, file or key, and
//! leaves counting slots to the fleet, because agents serve many jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
pub use thunderhead_agent::{SLOT, share_of_slot};
use thunderhead_types::Epoch;
use tokio::time::Instant;

/// Which slots a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// Source bytes to runs.
    Encode,
    /// Runs to TiKV.
    Ingest,
}

/// Counts the attempts that a loop hands out, over all jobs: a job that is planned again under the same epoch must not
/// take a report about its predecessor for its own.
#[derive(Clone, Default)]
pub(crate) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    pub(crate) fn given(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// The number of the next one. Only the loop gives them.
    pub(crate) fn give(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What names an attempt at a task for ever: the epoch of the leader that handed it out, and its number among all
/// attempts of that leader.
pub type AttemptName = (Epoch, u32);

/// One run of a task on an agent. `(epoch, number)` names it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The agent.
    pub agent: String,
    /// Of the leader that handed it out.
    pub epoch: Epoch,
    /// Counts the attempts of that leader, from 1.
    pub number: u32,
    /// Its kind.
    pub kind: TaskKind,
    /// How much of a slot it takes.
    pub share: u32,
    /// When it was handed out or adopted.
    pub started: Instant,
}

/// Durations remembered to tell what is slow.
const DURATIONS_MAX: usize = 64;
/// With fewer finished tasks nobody can say what is slow.
const DURATIONS_MIN: usize = 3;
/// An attempt is a straggler when it takes this many times the median.
const STRAGGLER_RATIO: u32 = 3;

/// Which queue a task is in, and how much of a slot it takes.
#[derive(Debug)]
struct Queued {
    class: (TaskKind, String),
    share: u32,
}

/// See the module. A queue's `place` says where the source of an encode task can be read (its directory, or the agents
/// that hold the file), and which agent holds most of the range for an ingest task; empty where it does not matter.
#[derive(Debug, Default)]
pub struct Scheduler {
    queues: BTreeMap<(TaskKind, String), BTreeSet<u64>>,
    queued: BTreeMap<u64, Queued>,
    not_before: BTreeMap<u64, Instant>,
    in_flight: BTreeMap<u64, Vec<Attempt>>,
    durations: BTreeMap<TaskKind, Vec<Duration>>,
}

impl Scheduler {
    /// Queues a task that takes `share` of a slot; one that is already queued or in flight stays once.
    pub fn push(&mut self, kind: TaskKind, place: &str, share: u32, task_id: u64) {
        if self.queued.contains_key(&task_id) || self.in_flight.contains_key(&task_id) {
            return;
        }
        let class = (kind, place.to_owned());
        self.queues
            .entry(class.clone())
            .or_default()
            .insert(task_id);
        self.queued.insert(task_id, Queued { class, share });
    }

    /// Takes a task out of its queue; says how much of a slot it takes.
    fn unqueue(&mut self, task_id: u64) -> Option<u32> {
        let Queued { class, share } = self.queued.remove(&task_id)?;
        if let Some(queue) = self.queues.get_mut(&class) {
            queue.remove(&task_id);
            if queue.is_empty() {
                self.queues.remove(&class);
            }
        }
        Some(share)
    }

    /// Nobody gets the task before `at`.
    pub fn delay(&mut self, task_id: u64, at: Instant) {
        self.not_before.insert(task_id, at);
    }

    /// Takes a task for an agent: ingest tasks of its own runs first, then from whoever has most left; encode
    /// tasks in plan order, from the places that it `reads`. Whether an ingest task is `ready` is asked of each.
    pub fn take(
        &mut self,
        kind: TaskKind,
        agent: &str,
        name: AttemptName,
        now: Instant,
        reads: impl Fn(&str) -> bool,
        mut ready: impl FnMut(u64) -> bool,
    ) -> Option<(u64, Attempt)> {
        let task_id = match kind {
            TaskKind::Encode => self.choose_encode(now, reads),
            TaskKind::Ingest => self.choose_ingest(agent, now, &mut ready),
        }?;
        let share = self.unqueue(task_id).unwrap_or(SLOT);
        self.not_before.remove(&task_id);
        Some((
            task_id,
            self.begin((kind, share), task_id, agent, name, now),
        ))
    }

    fn is_due(&self, task_id: u64, now: Instant) -> bool {
        self.not_before.get(&task_id).is_none_or(|at| *at <= now)
    }

    fn queues(&self, kind: TaskKind) -> impl Iterator<Item = (&str, &BTreeSet<u64>)> {
        self.queues
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|((_, place), tasks)| (place.as_str(), tasks))
    }

    fn choose_encode(&self, now: Instant, reads: impl Fn(&str) -> bool) -> Option<u64> {
        self.queues(TaskKind::Encode)
            .filter(|(place, _)| reads(place))
            .filter_map(|(_, tasks)| tasks.iter().copied().find(|task| self.is_due(*task, now)))
            .min()
    }

    fn choose_ingest(
        &self,
        agent: &str,
        now: Instant,
        ready: &mut dyn FnMut(u64) -> bool,
    ) -> Option<u64> {
        let mut may = |task: &u64| self.is_due(*task, now) && ready(*task);
        let own = self.queues.get(&(TaskKind::Ingest, agent.to_owned()));
        if let Some(task) = own.and_then(|tasks| tasks.iter().copied().find(&mut may)) {
            return Some(task);
        }
        let others = self.queues(TaskKind::Ingest);
        let mut others: Vec<(&str, &BTreeSet<u64>)> =
            others.filter(|(place, _)| *place != agent).collect();
        others.sort_by_key(|(_, tasks)| std::cmp::Reverse(tasks.len()));
        // From the far end, so that thief and owner work towards each other.
        others
            .into_iter()
            .find_map(|(_, tasks)| tasks.iter().rev().copied().find(&mut may))
    }

    /// A further attempt at a task in flight: a straggler is repeated.
    pub fn begin(
        &mut self,
        (kind, share): (TaskKind, u32),
        task_id: u64,
        agent: &str,
        (epoch, number): AttemptName,
        now: Instant,
    ) -> Attempt {
        let attempt = Attempt {
            agent: agent.to_owned(),
            epoch,
            number,
            kind,
            share,
            started: now,
        };
        self.in_flight
            .entry(task_id)
            .or_default()
            .push(attempt.clone());
        attempt
    }

    /// Takes over an attempt that a former leader handed out and an agent still works on.
    pub fn adopt(&mut self, task_id: u64, attempt: Attempt) {
        self.unqueue(task_id);
        let attempts = self.in_flight.entry(task_id).or_default();
        if !attempts
            .iter()
            .any(|a| (a.epoch, a.number) == (attempt.epoch, attempt.number))
        {
            attempts.push(attempt);
        }
    }

    /// Ends an attempt; `None` when it is not in flight.
    pub fn end(&mut self, task_id: u64, epoch: Epoch, number: u32) -> Option<Attempt> {
        let attempts = self.in_flight.get_mut(&task_id)?;
        let at = attempts
            .iter()
            .position(|a| (a.epoch, a.number) == (epoch, number))?;
        let ended = attempts.remove(at);
        if attempts.is_empty() {
            self.in_flight.remove(&task_id);
        }
        Some(ended)
    }

    /// Ends every attempt at a task that is done, and takes it out of the queue.
    pub fn end_all(&mut self, task_id: u64) -> Vec<Attempt> {
        self.unqueue(task_id);
        self.in_flight.remove(&task_id).unwrap_or_default()
    }

    /// Remembers how long a task took.
    pub fn took(&mut self, kind: TaskKind, duration: Duration) {
        let durations = self.durations.entry(kind).or_default();
        if durations.len() == DURATIONS_MAX {
            durations.remove(0);
        }
        durations.push(duration);
    }

    /// Attempts in flight on `agent`, by task.
    pub fn of_agent<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = (u64, &'a Attempt)> {
        self.attempts_in_flight()
            .filter(move |(_, a)| a.agent == agent)
    }

    /// Every attempt in flight.
    pub fn attempts_in_flight(&self) -> impl Iterator<Item = (u64, &Attempt)> {
        self.in_flight
            .iter()
            .flat_map(|(task, attempts)| attempts.iter().map(|a| (*task, a)))
    }

    /// Tasks of `kind` with one attempt that has run too long, the oldest first, with the agent that is slow.
    pub fn stragglers(
        &self,
        kind: TaskKind,
        now: Instant,
        at_least: Duration,
    ) -> Vec<(u64, String)> {
        let Some(durations) = self
            .durations
            .get(&kind)
            .filter(|d| d.len() >= DURATIONS_MIN)
        else {
            return Vec::new();
        };
        let mut sorted = durations.clone();
        sorted.sort_unstable();
        let limit = (sorted[sorted.len() / 2] * STRAGGLER_RATIO).max(at_least);
        let mut slow: Vec<(Instant, u64, String)> = self
            .in_flight
            .iter()
            .filter_map(|(task, attempts)| match attempts.as_slice() {
                [only] if only.kind == kind && now.duration_since(only.started) > limit => {
                    Some((only.started, *task, only.agent.clone()))
                }
                _ => None,
            })
            .collect();
        slow.sort_unstable();
        slow.into_iter()
            .map(|(_, task, agent)| (task, agent))
            .collect()
    }

    /// Nothing was heard for so long because nobody listened: no attempt is slow for that.
    pub fn held_up(&mut self, by: Duration) {
        let attempts = self.in_flight.values_mut().flatten();
        attempts.for_each(|attempt| attempt.started += by);
    }

    /// Whether somebody works on the task.
    pub fn is_in_flight(&self, task_id: u64) -> bool {
        self.in_flight.contains_key(&task_id)
    }

    /// Number of tasks in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Where the queued tasks of `kind` are best done.
    pub fn places(&self, kind: TaskKind) -> impl Iterator<Item = &str> {
        self.queues(kind)
            .filter(|(_, tasks)| !tasks.is_empty())
            .map(|(place, _)| place)
    }

    /// Number of queued tasks of `kind`.
    pub fn queued(&self, kind: TaskKind) -> usize {
        self.queues(kind).map(|(_, tasks)| tasks.len()).sum()
    }

    /// Takes out what is queued of `kind`, to be queued elsewhere; delays stay.
    pub(crate) fn take_queue(&mut self, kind: TaskKind) -> Vec<u64> {
        let of_kind = |(k, _): &(TaskKind, String), _: &mut BTreeSet<u64>| *k == kind;
        let taken = self.queues.extract_if(.., of_kind);
        let taken: Vec<u64> = taken.flat_map(|(_, tasks)| tasks).collect();
        for task in &taken {
            self.queued.remove(task);
        }
        taken
    }

    /// Forgets what is queued; what is in flight goes on.
    pub fn clear_queue(&mut self) {
        self.queues.clear();
        self.queued.clear();
        self.not_before.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take(s: &mut Scheduler, kind: TaskKind, agent: &str) -> Option<u64> {
        s.take(kind, agent, (5, 1), Instant::now(), |_| true, |_| true)
            .map(|(task, _)| task)
    }

    #[test]
    fn encode_tasks_go_in_plan_order_to_those_who_can_read_them() {
        let mut s = Scheduler::default();
        for (place, task) in [("/b", 1), ("/a", 2), ("/a", 3)] {
            s.push(TaskKind::Encode, place, SLOT, task);
        }
        let a = s.take(
            TaskKind::Encode,
            "x",
            (5, 1),
            Instant::now(),
            |place| place == "/a",
            |_| true,
        );
        assert_eq!(a.unwrap().0, 2);
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), Some(1));
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), Some(3));
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), None);
    }

    #[test]
    fn an_agent_takes_its_own_ranges_first_and_then_helps_the_one_with_most_left() {
        let mut s = Scheduler::default();
        for (place, task) in [("a", 1), ("b", 2), ("b", 3), ("b", 4), ("c", 5)] {
            s.push(TaskKind::Ingest, place, SLOT, task);
        }
        assert_eq!(take(&mut s, TaskKind::Ingest, "a"), Some(1));
        assert_eq!(take(&mut s, TaskKind::Ingest, "a"), Some(4));
    }

    #[test]
    fn an_attempt_ends_once_and_only_under_its_own_name() {
        let mut s = Scheduler::default();
        s.push(TaskKind::Encode, "", SLOT, 7);
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), Some(7));
        s.push(TaskKind::Encode, "", SLOT, 7);
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), None, "it is in flight");
        assert!(
            s.end(7, 5, 2).is_none(),
            "another number is another attempt"
        );
        assert!(s.end(7, 4, 1).is_none(), "another epoch is another attempt");
        assert!(s.end(7, 5, 1).is_some() && s.end(7, 5, 1).is_none());
        s.push(TaskKind::Encode, "", SLOT, 7);
        assert_eq!(take(&mut s, TaskKind::Encode, "y"), Some(7));
    }

    #[test]
    fn a_straggler_is_one_that_takes_several_times_as_long_as_the_others() {
        let mut s = Scheduler::default();
        let start = Instant::now();
        for _ in 0..3 {
            s.took(TaskKind::Encode, Duration::from_secs(10));
        }
        s.begin((TaskKind::Encode, SLOT), 1, "slow", (5, 1), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let slow = |s: &Scheduler, t| s.stragglers(TaskKind::Encode, t, Duration::ZERO);
        assert!(slow(&s, at(30)).is_empty());
        assert_eq!(slow(&s, at(31)), [(1, "slow".to_owned())]);
        s.held_up(Duration::from_secs(60));
        assert!(slow(&s, at(90)).is_empty(), "nobody listened for a minute");
        assert_eq!(slow(&s, at(91)), [(1, "slow".to_owned())]);
        s.begin((TaskKind::Encode, SLOT), 1, "other", (5, 2), at(91));
        assert!(slow(&s, at(200)).is_empty(), "repeated once is enough");
    }

    #[test]
    fn a_delayed_task_waits() {
        let mut s = Scheduler::default();
        s.push(TaskKind::Encode, "", SLOT, 1);
        s.delay(1, Instant::now() + Duration::from_secs(60));
        assert_eq!(take(&mut s, TaskKind::Encode, "x"), None);
        let later = Instant::now() + Duration::from_secs(61);
        assert!(
            s.take(TaskKind::Encode, "x", (5, 1), later, |_| true, |_| true)
                .is_some()
        );
    }
}
