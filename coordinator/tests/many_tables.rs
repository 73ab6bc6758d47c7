//! A job of hundreds of small tables on a virtual clock: whoever waited for a tick would be seen on it.
#![allow(clippy::unwrap_used)]

mod support;

use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::MemStore;
use thunderhead_coordinator::fleet::{Fleet, FleetHandle, FleetOptions, NewJob};
use thunderhead_coordinator::job::{Phase, Table, TableRecord, TaskRef};
use thunderhead_coordinator::leader::Steps;
use thunderhead_coordinator::progress::Progress;
use thunderhead_coordinator::store::StateStore;
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use thunderhead_types::{Checksum, KeyRange, Result};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const JOB: &str = "j";
const ENCODE_SLOTS: u32 = 4;
const INGEST_SLOTS: u32 = 2;

/// Steps of many small tables that take no time.
struct Instantly;

fn small_key(table: &Table) -> Vec<u8> {
    format!("t{:05}/k", table.record.table_id).into_bytes()
}

#[async_trait]
impl Steps for Instantly {
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        let start = format!("t{:05}/", table.record.table_id);
        let end = format!("t{:05}0", table.record.table_id);
        Ok(vec![KeyRange::new(start, end)])
    }

    fn range_bytes_target(&self) -> u64 {
        1 << 20
    }

    async fn split(&self, _: &Table, _: Vec<Vec<u8>>) -> Result<()> {
        Ok(())
    }

    async fn finish(&self, table: &Table, ingested: Checksum) -> Result<()> {
        let mut sum = Checksum::default();
        sum.add(&small_key(table), b"");
        assert_eq!(ingested, sum);
        Ok(())
    }
}

/// An agent that does everything at once.
async fn instant_agent(handle: FleetHandle, name: String) {
    let (link, mut orders) = mpsc::channel(1024);
    let (reports, receiver) = mpsc::channel(1024);
    handle.connect(&name, link, receiver).await;
    let say = async |body| {
        let message = wire::AgentMessage {
            agent_id: name.clone(),
            epoch: 0,
            body: Some(body),
        };
        drop(reports.send(message).await);
    };
    say(Body::Hello(wire::Hello {
        encode_slots: ENCODE_SLOTS,
        ingest_slots: INGEST_SLOTS,
        ..wire::Hello::default()
    }))
    .await;
    while let Some(order) = orders.recv().await {
        let task_epoch = order.epoch;
        let sum = |task_id| {
            let key = format!("t{:05}/k", TaskRef::from_id(task_id).table()).into_bytes();
            let mut sum = Checksum::default();
            sum.add(&key, b"");
            let sum = wire::Checksum {
                crc64_xor: sum.crc64_xor,
                kvs: sum.kvs,
                bytes: sum.bytes,
            };
            (key, Some(sum))
        };
        match order.body {
            Some(Order::Encode(task)) => {
                let (key, checksum) = sum(task.task_id);
                let run = wire::Run {
                    path: format!("{}-1-1/run", task.task_id),
                    entries: 1,
                    first_key: key.clone().into(),
                    last_key: key.clone().into(),
                    blocks: vec![wire::RunBlock {
                        first_key: key.into(),
                        raw_bytes: 1 << 20,
                        entries: 1,
                        ..wire::RunBlock::default()
                    }],
                    ..wire::Run::default()
                };
                say(Body::EncodeDone(wire::EncodeDone {
                    task_id: task.task_id,
                    attempt: task.attempt,
                    task_epoch,
                    job_id: JOB.into(),
                    manifest: Some(wire::Manifest {
                        runs: vec![run],
                        rows: 1,
                        checksum,
                        attempt_dir: format!("{}-1-1", task.task_id),
                        ..wire::Manifest::default()
                    }),
                }))
                .await;
            }
            Some(Order::Ingest(task)) => {
                let (_, checksum) = sum(task.task_id);
                say(Body::IngestDone(wire::IngestDone {
                    task_id: task.task_id,
                    attempt: task.attempt,
                    task_epoch,
                    job_id: JOB.into(),
                    report: Some(wire::IngestReport {
                        checksum,
                        ..wire::IngestReport::default()
                    }),
                }))
                .await;
            }
            _ => {}
        }
    }
}

/// Where nothing takes time but the store, all time is the store's: whoever polled would be seen on the clock.
#[tokio::test(start_paused = true)]
async fn five_hundred_tables_are_done_without_anybody_polling() {
    const TABLES: usize = 500;
    let store = Arc::new(MemStore::default());
    store.fail_at.store(u64::MAX, Ordering::Relaxed);
    let epoch = store.lead().await.unwrap();
    let tables: Vec<Table> = (0..TABLES)
        .map(|n| {
            let record = TableRecord {
                database: "d".into(),
                table: format!("t{n}"),
                table_id: n as i64,
                content: String::new(),
                table_info_json: "{}".into(),
                session_json: "{}".into(),
                commit_ts: 9,
                phase: Phase::Encoding,
                chunks: 1,
                ranges: 0,
                source_bytes: 1 << 20,
                existing: None,
                planned_epoch: epoch,
                planned_attempts: 0,
                conflicts: None,
                resolution: None,
                note: None,
            };
            Table::new(record, vec![wire::EncodeTask::default()])
        })
        .collect();
    let (fleet, handle) = Fleet::new(
        store.clone(),
        epoch,
        FleetOptions::default(),
        BTreeSet::new(),
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(fleet.run(stop.clone()));
    for n in 0..4 {
        tokio::spawn(instant_agent(handle.clone(), format!("a{n}")));
    }
    let (begin, before) = (Instant::now(), store.commits.load(Ordering::Relaxed));
    let led = handle
        .lead(NewJob {
            job_id: JOB.into(),
            cluster: wire::ClusterSpec::default(),
            tables,
            steps: Arc::new(Instantly),
            progress: Progress::new().0,
            store_bytes_per_second: 0,
            paused: false,
            agents: BTreeSet::new(),
        })
        .await;
    let took = begin.elapsed();
    stop.cancel();
    let _ = running.await;
    let done = led.unwrap();
    assert!(done.iter().all(|t| t.record.phase == Phase::Finished));
    let commits = store.commits.load(Ordering::Relaxed) - before;
    println!("{TABLES} tables: {commits} commits, {took:?} on the clock");
    // Alone, a table takes four: manifest and plan, beginning, report, end. Here many share each.
    assert!(commits <= TABLES as u64, "{commits}");
    let of_the_store = Duration::from_millis(commits);
    assert!(
        took <= of_the_store + Duration::from_millis(100),
        "{took:?} for {commits} commits of 1 ms"
    );
}
