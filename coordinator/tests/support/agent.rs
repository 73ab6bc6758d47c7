//! An agent that says and does what its test wants, and a job of one table whose steps do nothing.
#![allow(dead_code, clippy::unwrap_used)]

use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_coordinator::fleet::{FleetHandle, NewJob};
use thunderhead_coordinator::job::{Phase, Table, TableRecord};
use thunderhead_coordinator::leader::Steps;
use thunderhead_coordinator::progress::Progress;
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use thunderhead_types::{Checksum, KeyRange, Result};
use tokio::sync::mpsc;

pub const JOB: &str = "j";
pub const CHUNKS: usize = 9;

pub struct NoSteps;

#[async_trait]
impl Steps for NoSteps {
    fn key_spaces(&self, _: &Table) -> Result<Vec<KeyRange>> {
        Ok(Vec::new())
    }

    fn range_bytes_target(&self) -> u64 {
        1
    }

    async fn split(&self, _: &Table, _: Vec<Vec<u8>>) -> Result<()> {
        Ok(())
    }

    async fn finish(&self, _: &Table, _: Checksum) -> Result<()> {
        Ok(())
    }
}

/// What an attempt is called for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub task_id: u64,
    pub epoch: u64,
    pub attempt: u32,
}

/// An agent with one slot of each kind that answers when it is told to.
pub struct FakeAgent {
    name: &'static str,
    pub orders: mpsc::Receiver<wire::CoordinatorMessage>,
    reports: mpsc::Sender<wire::AgentMessage>,
}

impl FakeAgent {
    pub async fn connect(handle: &FleetHandle, name: &'static str) -> Self {
        Self::connect_with(handle, name, Vec::new()).await
    }

    /// It comes back and still works on `running`.
    pub async fn connect_with(
        handle: &FleetHandle,
        name: &'static str,
        running: Vec<Name>,
    ) -> Self {
        let (link, orders) = mpsc::channel(100);
        let (reports, receiver) = mpsc::channel(100);
        handle.connect(name, link, receiver).await;
        let agent = Self {
            name,
            orders,
            reports,
        };
        let running = running.into_iter().map(|name| wire::RunningTask {
            job_id: JOB.into(),
            task_id: name.task_id,
            attempt: name.attempt,
            epoch: name.epoch,
        });
        agent
            .say(Body::Hello(wire::Hello {
                encode_slots: 1,
                ingest_slots: 1,
                running: running.collect(),
                ..wire::Hello::default()
            }))
            .await;
        agent
    }

    pub async fn say(&self, body: Body) {
        let message = wire::AgentMessage {
            agent_id: self.name.to_owned(),
            epoch: 0,
            body: Some(body),
        };
        self.reports.send(message).await.unwrap();
    }

    /// The next share it is told.
    pub async fn share(&mut self) -> u64 {
        loop {
            let order = self.orders.recv().await.unwrap();
            if let Some(Order::Limit(limit)) = order.body {
                assert_eq!(limit.job_id, JOB);
                return limit.store_bytes_per_second;
            }
        }
    }

    /// How long it may be silent.
    pub async fn lease_ms(&mut self) -> u64 {
        match self.orders.recv().await.unwrap().body {
            Some(Order::Welcome(welcome)) => welcome.lease_ms,
            other => panic!("{other:?}"),
        }
    }

    /// The next chunk it is to encode.
    pub async fn chunk(&mut self) -> Name {
        loop {
            let order = self.orders.recv().await.unwrap();
            if let Some(Order::Encode(task)) = order.body {
                return Name {
                    task_id: task.task_id,
                    epoch: order.epoch,
                    attempt: task.attempt,
                };
            }
        }
    }

    /// All chunks that it is given before it says anything.
    pub async fn chunks(&mut self) -> Vec<Name> {
        let mut chunks = Vec::new();
        while let Ok(name) = tokio::time::timeout(Duration::from_secs(1), self.chunk()).await {
            chunks.push(name);
        }
        chunks
    }

    /// Says that a chunk is encoded.
    pub async fn encoded(&self, name: Name) {
        self.say(Body::EncodeDone(wire::EncodeDone {
            task_id: name.task_id,
            attempt: name.attempt,
            task_epoch: name.epoch,
            job_id: JOB.into(),
            manifest: Some(wire::Manifest {
                attempt_dir: format!("{}-{}-{}", name.task_id, name.epoch, name.attempt),
                ..wire::Manifest::default()
            }),
        }))
        .await;
    }
}

/// A table of nine large chunks, planned after `attempts` attempts of `epoch`.
pub fn one_table(planned: (u64, u32)) -> Table {
    table_of(CHUNKS, 1 << 28, planned)
}

/// A table of `chunks` chunks of `bytes` bytes.
pub fn table_of(chunks: usize, bytes: u64, (planned_epoch, planned_attempts): (u64, u32)) -> Table {
    let record = TableRecord {
        database: "d".into(),
        table: "t".into(),
        table_id: 1,
        content: String::new(),
        table_info_json: "{}".into(),
        session_json: "{}".into(),
        commit_ts: 9,
        phase: Phase::Encoding,
        chunks: chunks as u64,
        ranges: 0,
        source_bytes: 1,
        existing: None,
        planned_epoch,
        planned_attempts,
        conflicts: None,
        resolution: None,
        note: None,
    };
    let part = wire::FilePart {
        end: bytes,
        file_size: bytes,
        ..wire::FilePart::default()
    };
    let chunk = wire::EncodeTask {
        parts: vec![part],
        ..wire::EncodeTask::default()
    };
    Table::new(record, vec![chunk; chunks])
}

/// Leads the job of `table` without steps.
pub fn lead(
    handle: &FleetHandle,
    table: Table,
    store_bytes_per_second: u64,
) -> tokio::task::JoinHandle<Result<Vec<Table>>> {
    let job = NewJob {
        job_id: JOB.into(),
        cluster: wire::ClusterSpec::default(),
        tables: vec![table],
        steps: Arc::new(NoSteps),
        progress: Progress::new().0,
        store_bytes_per_second,
        paused: false,
        agents: BTreeSet::new(),
    };
    let handle = handle.clone();
    tokio::spawn(async move { handle.lead(job).await })
}
