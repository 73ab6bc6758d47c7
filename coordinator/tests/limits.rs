//! What agents are told of a job's limit: its whole is divided over those that ingest, whoever comes and goes and
//! however it is changed while the job runs.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use thunderhead_coordinator::fleet::{Fleet, FleetHandle, FleetOptions, NewJob};
use thunderhead_coordinator::job::{Phase, Table, TableRecord};
use thunderhead_coordinator::leader::Steps;
use thunderhead_coordinator::progress::Progress;
use thunderhead_coordinator::store::{EmbeddedStore, StateStore};
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use thunderhead_types::{Checksum, KeyRange, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const JOB: &str = "j";

struct NoSteps;

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

/// An agent that works on its first task for ever.
struct FakeAgent {
    name: &'static str,
    orders: mpsc::Receiver<wire::CoordinatorMessage>,
    reports: mpsc::Sender<wire::AgentMessage>,
}

impl FakeAgent {
    async fn connect(handle: &FleetHandle, name: &'static str) -> Self {
        let (link, orders) = mpsc::channel(100);
        let (reports, receiver) = mpsc::channel(100);
        handle.connect(name, link, receiver).await;
        let agent = Self {
            name,
            orders,
            reports,
        };
        agent
            .say(Body::Hello(wire::Hello {
                encode_slots: 1,
                ingest_slots: 1,
                ..wire::Hello::default()
            }))
            .await;
        agent
    }

    async fn say(&self, body: Body) {
        let message = wire::AgentMessage {
            agent_id: self.name.to_owned(),
            epoch: 0,
            body: Some(body),
        };
        self.reports.send(message).await.unwrap();
    }

    /// The next share it is told.
    async fn share(&mut self) -> u64 {
        loop {
            let order = self.orders.recv().await.unwrap();
            if let Some(Order::Limit(limit)) = order.body {
                assert_eq!(limit.job_id, JOB);
                return limit.store_bytes_per_second;
            }
        }
    }

    /// How long it may be silent.
    async fn lease_ms(&mut self) -> u64 {
        match self.orders.recv().await.unwrap().body {
            Some(Order::Welcome(welcome)) => welcome.lease_ms,
            other => panic!("{other:?}"),
        }
    }
}

fn one_table(epoch: u64) -> Table {
    let record = TableRecord {
        database: "d".into(),
        table: "t".into(),
        table_id: 1,
        content: String::new(),
        table_info_json: "{}".into(),
        session_json: "{}".into(),
        commit_ts: 9,
        phase: Phase::Encoding,
        chunks: 9,
        ranges: 0,
        source_bytes: 1,
        existing: None,
        planned_epoch: epoch,
        conflicts: None,
        resolution: None,
        note: None,
    };
    Table::new(record, vec![wire::EncodeTask::default(); 9])
}

#[tokio::test]
async fn a_limit_is_divided_over_the_agents_and_changes_while_the_job_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
    let epoch = store.lead().await.unwrap();
    let options = FleetOptions::default();
    let lease = options.lease;
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    let mut a = FakeAgent::connect(&handle, "a").await;
    assert_eq!(u128::from(a.lease_ms().await), lease.as_millis());
    let led = tokio::spawn({
        let handle = handle.clone();
        async move {
            let job = NewJob {
                job_id: JOB.into(),
                cluster: wire::ClusterSpec::default(),
                tables: vec![one_table(epoch)],
                steps: Arc::new(NoSteps),
                progress: Progress::new().0,
                store_bytes_per_second: 600,
                paused: false,
                agents: BTreeSet::new(),
            };
            handle.lead(job).await
        }
    });
    assert_eq!(a.share().await, 600);
    let mut b = FakeAgent::connect(&handle, "b").await;
    assert_eq!((a.share().await, b.share().await), (300, 300));
    let mut c = FakeAgent::connect(&handle, "c").await;
    assert_eq!(
        (a.share().await, b.share().await, c.share().await),
        (200, 200, 200)
    );
    handle.limit(JOB, 60).await.unwrap();
    assert_eq!(
        (a.share().await, b.share().await, c.share().await),
        (20, 20, 20)
    );
    // One that leaves no longer ingests: the others get its share.
    assert!(handle.drain("c").await.unwrap());
    assert_eq!((a.share().await, b.share().await), (30, 30));
    drop(b);
    assert_eq!(a.share().await, 60);
    handle.limit(JOB, 0).await.unwrap();
    assert_eq!(a.share().await, 0);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(led.await.unwrap().is_err());
}
