//! What a fleet does, for people and machines: agents with their rates, jobs with their stages, what is done
//! again and why, how long it may take, and what holds it up. Numbers only; drawing is the command line's.

use crate::progress::Snapshot;
use crate::scheduler::TaskKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What agents must wait on a link each second, over all of them, for it to be named.
const WAITING_MS: u64 = 100;

/// The whole fleet at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Epoch of the leader.
    pub epoch: u64,
    /// Agents by name.
    pub agents: Vec<AgentStatus>,
    /// Jobs being led, the oldest first.
    pub jobs: Vec<JobStatus>,
}

impl FleetStatus {
    /// Encode tasks at a time, over all agents.
    pub fn encode_slots(&self) -> u32 {
        self.agents.iter().map(|a| a.encode_slots).sum()
    }
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its name.
    pub agent: String,
    /// `active`, `disk full`, `leaving`, `away` or `lost`.
    pub state: String,
    /// Why it is not active, as it says.
    pub reason: String,
    /// Where it serves its runs.
    pub address: String,
    /// Tells its sessions apart.
    #[serde(skip)]
    pub session: u64,
    /// Source roots that it announced; empty = it reads everything.
    #[serde(default)]
    pub readable: Vec<String>,
    /// Encode tasks in work.
    pub encoding: u32,
    /// Encode tasks at a time.
    pub encode_slots: u32,
    /// Ingest tasks in work.
    pub ingesting: u32,
    /// Ingest tasks at a time.
    pub ingest_slots: u32,
    /// Source bytes read since it started.
    pub source_bytes: u64,
    /// Pair bytes ingested since it started.
    pub ingested_bytes: u64,
    /// Of late.
    pub source_bytes_per_second: f64,
    /// Of late.
    pub ingested_bytes_per_second: f64,
    /// Since it was heard last.
    pub silent_ms: u64,
    /// Time its threads waited on full or empty links, by link, since it started.
    pub blocked_ms: BTreeMap<String, u64>,
    /// Of late; more than 1000 when several waited at a time.
    #[serde(default)]
    pub blocked_ms_per_second: BTreeMap<String, u64>,
}

impl AgentStatus {
    /// Whether it is connected.
    pub(crate) fn is_here(&self) -> bool {
        self.state != "away" && self.state != "lost"
    }
}

/// One job being led.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Job id.
    pub job: String,
    /// Whether it was paused.
    pub paused: bool,
    /// What it waits for; empty while it works.
    pub waiting_for: String,
    /// `encoding`, `encoding and ingesting`, `ingesting` or `finishing`.
    pub stage: String,
    /// What holds it up most.
    pub bottleneck: String,
    /// Seconds it may still take at the present rates.
    pub eta_seconds: Option<u64>,
    /// Counts.
    pub tables: usize,
    /// Verified tables.
    pub tables_finished: usize,
    /// Planned chunks.
    pub chunks: usize,
    /// Chunks with a manifest.
    pub chunks_done: usize,
    /// Chunks in work.
    pub chunks_running: usize,
    /// Ranges planned so far.
    pub ranges: usize,
    /// Ingested ranges.
    pub ranges_done: usize,
    /// Ranges in work.
    pub ranges_running: usize,
    /// Rows in manifests.
    pub rows: u64,
    /// Bytes of all source files.
    pub source_bytes: u64,
    /// Source bytes of finished chunks.
    pub source_bytes_done: u64,
    /// Pair bytes of planned ranges.
    pub kv_bytes: u64,
    /// Pair bytes of ingested ranges.
    pub kv_bytes_done: u64,
    /// Tasks done again, by cause.
    pub retries: BTreeMap<String, u64>,
    /// Limit of bytes per second to each store over all agents; 0 = none.
    pub store_bytes_per_second: u64,
}

impl JobStatus {
    /// From the records and what is in work.
    pub(super) fn new(
        job: &str,
        snapshot: &Snapshot,
        retries: BTreeMap<String, u64>,
        running: impl Iterator<Item = TaskKind>,
        store_bytes_per_second: u64,
        agents: &[AgentStatus],
    ) -> Self {
        let (mut chunks_running, mut ranges_running) = (0, 0);
        running.for_each(|kind| match kind {
            TaskKind::Encode => chunks_running += 1,
            TaskKind::Ingest => ranges_running += 1,
        });
        let s = snapshot;
        let mut status = Self {
            job: job.to_owned(),
            tables: s.tables,
            tables_finished: s.tables_finished,
            chunks: s.chunks,
            chunks_done: s.chunks_done,
            chunks_running,
            ranges: s.ranges,
            ranges_done: s.ranges_done,
            ranges_running,
            rows: s.rows,
            source_bytes: s.source_bytes_total,
            source_bytes_done: s.source_bytes_done,
            kv_bytes: s.kv_bytes_planned,
            kv_bytes_done: s.kv_bytes_ingested,
            retries,
            store_bytes_per_second,
            ..Self::default()
        };
        status.stage = status.find_stage().to_owned();
        status.eta_seconds = status.find_eta(agents);
        status.bottleneck = status.find_bottleneck(agents);
        status
    }

    fn find_stage(&self) -> &'static str {
        let encoding = self.chunks_done < self.chunks;
        let ingesting = self.ranges_done < self.ranges;
        match (encoding, ingesting) {
            (true, true) => "encoding and ingesting",
            (true, false) => "encoding",
            (false, true) => "ingesting",
            (false, false) => "finishing",
        }
    }

    /// What is left to read at the rate of reading, then what is left to ingest at that of ingesting. Before
    /// the first range, ingesting is taken to cost as much as reading.
    fn find_eta(&self, agents: &[AgentStatus]) -> Option<u64> {
        let read: f64 = agents.iter().map(|a| a.source_bytes_per_second).sum();
        let ingested: f64 = agents.iter().map(|a| a.ingested_bytes_per_second).sum();
        let to_read = self.source_bytes.saturating_sub(self.source_bytes_done) as f64;
        let to_ingest = self.kv_bytes.saturating_sub(self.kv_bytes_done) as f64;
        let reading = if to_read == 0.0 {
            0.0
        } else if read > 0.0 {
            2.0 * to_read / read
        } else {
            return None;
        };
        let ingesting = if to_ingest == 0.0 {
            0.0
        } else if ingested > 0.0 {
            to_ingest / ingested
        } else {
            return None;
        };
        Some((reading + ingesting).ceil() as u64)
    }

    fn find_bottleneck(&self, agents: &[AgentStatus]) -> String {
        let mut blocked: BTreeMap<&str, u64> = BTreeMap::new();
        for (link, ms) in agents.iter().flat_map(|a| &a.blocked_ms_per_second) {
            *blocked.entry(link).or_default() += ms;
        }
        let worst = blocked.into_iter().max_by_key(|(_, ms)| *ms);
        let here = |a: &&AgentStatus| a.state == "active" || a.state == "disk full";
        let sum = |of: fn(&AgentStatus) -> u32| agents.iter().filter(here).map(of).sum::<u32>();
        let (encode_full, ingest_full) = (
            sum(|a| a.encoding) >= sum(|a| a.encode_slots),
            sum(|a| a.ingesting) >= sum(|a| a.ingest_slots),
        );
        let name = if agents.iter().filter(here).count() == 0 {
            "no agent is connected"
        } else if self.stage == "finishing" {
            "verification by TiDB"
        } else if self.stage == "ingesting" && ingest_full && self.store_bytes_per_second > 0 {
            "the limit of bytes per store"
        } else if self.stage == "ingesting" && ingest_full {
            "TiKV: every ingest slot is in use"
        } else if self.stage == "encoding" && encode_full {
            "encoding: every encode slot is in use"
        } else if self.stage == "ingesting" {
            "few ranges are left"
        } else if self.stage == "encoding" {
            "few chunks are left"
        } else {
            "encoding and ingesting share the agents"
        };
        match worst {
            Some((link, ms)) if ms > WAITING_MS => format!("{name}; most waiting: {link}"),
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(rate: f64) -> AgentStatus {
        AgentStatus {
            state: "active".to_owned(),
            encode_slots: 2,
            encoding: 2,
            source_bytes_per_second: rate,
            ..AgentStatus::default()
        }
    }

    fn half_read() -> Snapshot {
        Snapshot {
            chunks: 4,
            chunks_done: 2,
            source_bytes_total: 100,
            source_bytes_done: 50,
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_time_left_follows_from_the_rates_of_all_agents() {
        let agents = [agent(5.0), agent(5.0)];
        let status = JobStatus::new(
            "j",
            &half_read(),
            BTreeMap::new(),
            std::iter::empty(),
            0,
            &agents,
        );
        assert_eq!(
            (status.stage.as_str(), status.eta_seconds),
            ("encoding", Some(10))
        );
        let idle = JobStatus::new(
            "j",
            &half_read(),
            BTreeMap::new(),
            std::iter::empty(),
            0,
            &[],
        );
        assert_eq!(idle.eta_seconds, None);
    }

    #[test]
    fn the_bottleneck_has_a_name() {
        let name = |agents: &[AgentStatus]| {
            JobStatus::new(
                "j",
                &half_read(),
                BTreeMap::new(),
                std::iter::empty(),
                0,
                agents,
            )
            .bottleneck
        };
        assert_eq!(name(&[]), "no agent is connected");
        assert_eq!(name(&[agent(1.0)]), "encoding: every encode slot is in use");
        let mut waiting = agent(1.0);
        waiting.blocked_ms_per_second.insert("TiKV".to_owned(), 700);
        assert!(name(&[waiting]).ends_with("most waiting: TiKV"));
    }

    #[test]
    fn a_limit_that_every_slot_waits_for_is_the_bottleneck() {
        let ingesting = Snapshot {
            chunks: 1,
            chunks_done: 1,
            ranges: 9,
            ..Snapshot::default()
        };
        let busy = AgentStatus {
            ingesting: 4,
            ingest_slots: 4,
            ..agent(0.0)
        };
        let name = |limit| {
            let running = std::iter::repeat_n(TaskKind::Ingest, 4);
            JobStatus::new(
                "j",
                &ingesting,
                BTreeMap::new(),
                running,
                limit,
                std::slice::from_ref(&busy),
            )
            .bottleneck
        };
        assert_eq!(name(0), "TiKV: every ingest slot is in use");
        assert_eq!(name(1 << 20), "the limit of bytes per store");
    }
}
