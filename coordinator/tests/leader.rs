//! The leader against simulated agents: whatever fails, and however often the leader is replaced, every
//! pair is ingested and the records agree. The seed is in the name of a failing assertion.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use thunderhead_coordinator::conflicts::Budget;
use thunderhead_coordinator::fleet::{Fleet, FleetOptions, NewJob};
use thunderhead_coordinator::job::{self, JobRecord, Phase, Table, TableRecord, TaskRef};
use thunderhead_coordinator::leader::Steps;
use thunderhead_coordinator::progress::Progress;
use thunderhead_coordinator::store::{EmbeddedStore, StateStore, Txn};
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const TABLES: usize = 3;
const CHUNKS: u64 = 5;
const PAIRS: u64 = 40;

/// Key `i` of a chunk; chunks of a table interleave.
fn key(table: usize, chunk: u64, i: u64) -> Vec<u8> {
    format!("t{table}/{:05}", i * CHUNKS + chunk).into_bytes()
}

fn space(table: usize) -> KeyRange {
    KeyRange::new(format!("t{table}/"), format!("t{table}0"))
}

/// What survives the death of a leader: TiKV and the agent's disk.
#[derive(Default)]
struct World {
    cluster: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Runs on the agent's disk: path → (table, chunk).
    runs: BTreeMap<String, (usize, u64)>,
    held: BTreeMap<u64, String>,
    finished: BTreeMap<String, u32>,
    encodes: u32,
    /// Offsets of refused rows by table, as people read them.
    refused: BTreeMap<String, Vec<u64>>,
}

struct FakeSteps(Arc<Mutex<World>>);

/// The tables of records cannot be written.
struct NoRecords {
    steps: FakeSteps,
    refused_max: u64,
}

#[async_trait]
impl Steps for NoRecords {
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        self.steps.key_spaces(table)
    }

    fn range_bytes_target(&self) -> u64 {
        self.steps.range_bytes_target()
    }

    fn conflict_budget(&self) -> Budget {
        Budget {
            refused_max: self.refused_max,
            ..self.steps.conflict_budget()
        }
    }

    async fn record_refused(&self, _: &str, table: &Table) -> Result<()> {
        Err(Error::new(
            ErrorKind::Cluster,
            "TiDB",
            format!("no table of records for {}", table.name()),
        ))
    }

    async fn split(&self, _: &Table, _: Vec<Vec<u8>>) -> Result<()> {
        panic!("nothing may be written before its refused rows are recorded")
    }

    async fn finish(&self, _: &Table, _: Checksum) -> Result<()> {
        panic!("nothing may be finished")
    }
}

#[async_trait]
impl Steps for FakeSteps {
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        Ok(vec![space(table.record.table_id as usize)])
    }

    fn range_bytes_target(&self) -> u64 {
        200
    }

    fn conflict_budget(&self) -> Budget {
        Budget {
            refused_max: TABLES as u64 * CHUNKS,
            refused_records_max: u64::MAX,
            ..Budget::default()
        }
    }

    async fn record_refused(&self, _: &str, table: &Table) -> Result<()> {
        let rows = table.refused().map(|(_, row)| row.offset).collect();
        self.0.lock().unwrap().refused.insert(table.name(), rows);
        Ok(())
    }

    async fn split(&self, _: &Table, borders: Vec<Vec<u8>>) -> Result<()> {
        assert!(borders.is_sorted());
        Ok(())
    }

    async fn finish(&self, table: &Table, ingested: Checksum) -> Result<()> {
        let mut world = self.0.lock().unwrap();
        let mut remote = Checksum::default();
        let range = space(table.record.table_id as usize);
        world
            .cluster
            .iter()
            .filter(|(k, _)| range.contains(k))
            .for_each(|(k, v)| remote.add(k, v));
        assert_eq!(remote, ingested);
        *world.finished.entry(table.name()).or_default() += 1;
        Ok(())
    }
}

fn to_wire(c: Checksum) -> Option<wire::Checksum> {
    Some(wire::Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    })
}

fn encode(world: &mut World, task: &wire::EncodeTask, epoch: u64) -> wire::Manifest {
    let TaskRef::Chunk { table, number } = TaskRef::from_id(task.task_id) else {
        panic!("not a chunk")
    };
    let attempt_dir = format!("{}-{epoch}-{}", task.task_id, task.attempt);
    let path = format!("{attempt_dir}/run");
    world.encodes += 1;
    if let Some(old) = world.held.insert(task.task_id, attempt_dir.clone()) {
        world.runs.remove(&format!("{old}/run"));
    }
    world.runs.insert(path.clone(), (table, number));
    let mut checksum = Checksum::default();
    let keys: Vec<_> = (0..PAIRS).map(|i| key(table, number, i)).collect();
    keys.iter().for_each(|k| checksum.add(k, k));
    let blocks = keys.chunks(5).map(|block| wire::RunBlock {
        first_key: block[0].clone().into(),
        raw_bytes: block.iter().map(|k| 2 * k.len() as u64).sum(),
        entries: block.len() as u32,
        ..wire::RunBlock::default()
    });
    let run = wire::Run {
        path,
        entries: PAIRS,
        first_key: keys[0].clone().into(),
        last_key: keys[keys.len() - 1].clone().into(),
        blocks: blocks.collect(),
        ..wire::Run::default()
    };
    wire::Manifest {
        runs: vec![run],
        rows: PAIRS + 1,
        // One row of each chunk: exactly as many as are tolerated.
        refused_rows: 1,
        refused: vec![wire::RefusedRow {
            offset: number,
            ..wire::RefusedRow::default()
        }],
        checksum: to_wire(checksum),
        agent_id: "a".into(),
        attempt_dir,
        ..wire::Manifest::default()
    }
}

/// Err: encode tasks whose runs are gone.
fn ingest(
    world: &mut World,
    task: &wire::IngestTask,
) -> std::result::Result<wire::IngestReport, Vec<u64>> {
    let range = task.range.clone().unwrap();
    let range = KeyRange::new(range.start, range.end);
    let lost: Vec<u64> = task
        .run_paths
        .iter()
        .filter(|path| !world.runs.contains_key(*path))
        .map(|path| path.split('-').next().unwrap().parse().unwrap())
        .collect();
    if !lost.is_empty() {
        return Err(lost);
    }
    let mut checksum = Checksum::default();
    for path in &task.run_paths {
        let (table, chunk) = world.runs[path];
        for i in 0..PAIRS {
            let key = key(table, chunk, i);
            if range.contains(&key) {
                checksum.add(&key, &key);
                world.cluster.insert(key.clone(), key);
            }
        }
    }
    Ok(wire::IngestReport {
        checksum: to_wire(checksum),
        ..wire::IngestReport::default()
    })
}

/// An agent that answers orders, sometimes with a failure, and dies after `steps` orders.
async fn agent(
    world: Arc<Mutex<World>>,
    mut rng: StdRng,
    steps: u32,
    mut orders: mpsc::Receiver<wire::CoordinatorMessage>,
    reports: mpsc::Sender<wire::AgentMessage>,
) {
    let held = world
        .lock()
        .unwrap()
        .held
        .iter()
        .map(|(task_id, dir)| wire::HeldAttempt {
            job_id: "j".into(),
            task_id: *task_id,
            attempt_dir: dir.clone(),
        })
        .collect();
    let hello = wire::Hello {
        version: "1".into(),
        encode_slots: 3,
        ingest_slots: 2,
        held,
        ..wire::Hello::default()
    };
    let send = async |epoch, body| {
        reports
            .send(wire::AgentMessage {
                agent_id: "a".into(),
                epoch,
                body: Some(body),
            })
            .await
    };
    let _ = send(0, Body::Hello(hello)).await;
    for _ in 0..steps {
        let Some(order) = orders.recv().await else {
            return;
        };
        let body = match order.body.unwrap() {
            Order::Encode(task) if rng.random_bool(0.1) => {
                failure(order.epoch, task.task_id, task.attempt, vec![])
            }
            Order::Ingest(task) if rng.random_bool(0.1) => {
                failure(order.epoch, task.task_id, task.attempt, vec![])
            }
            Order::Encode(task) => {
                let manifest = encode(&mut world.lock().unwrap(), &task, order.epoch);
                Body::EncodeDone(wire::EncodeDone {
                    task_id: task.task_id,
                    attempt: task.attempt,
                    manifest: Some(manifest),
                    job_id: "j".into(),
                    task_epoch: order.epoch,
                })
            }
            Order::Ingest(task) => {
                if rng.random_bool(0.02) {
                    // The disk loses a run.
                    let mut world = world.lock().unwrap();
                    if let Some(path) = task.run_paths.first() {
                        world.runs.remove(path);
                    }
                }
                match ingest(&mut world.lock().unwrap(), &task) {
                    Ok(report) => Body::IngestDone(wire::IngestDone {
                        task_id: task.task_id,
                        attempt: task.attempt,
                        report: Some(report),
                        job_id: "j".into(),
                        task_epoch: order.epoch,
                    }),
                    Err(lost) => failure(order.epoch, task.task_id, task.attempt, lost),
                }
            }
            _ => continue,
        };
        if send(order.epoch, body).await.is_err() {
            return;
        }
    }
}

fn failure(task_epoch: u64, task_id: u64, attempt: u32, lost_tasks: Vec<u64>) -> Body {
    let failure = wire::Failure {
        kind: "cluster".into(),
        cause: "simulated".into(),
        retryable: true,
        lost_tasks,
        ..wire::Failure::default()
    };
    Body::TaskFailed(wire::TaskFailed {
        task_id,
        attempt,
        failure: Some(failure),
        job_id: "j".into(),
        task_epoch,
    })
}

async fn plan(store: &dyn StateStore, epoch: u64) {
    let title = JobRecord {
        title: "x".into(),
        cluster_id: 1,
        created_ms: 0,
        ..JobRecord::default()
    };
    let json = serde_json::to_vec(&title).unwrap();
    let mut txns = vec![Txn::default().put(job::job_key("j"), json)];
    for n in 0..TABLES {
        let record = TableRecord {
            database: "d".into(),
            table: format!("t{n}"),
            table_id: n as i64,
            content: String::new(),
            table_info_json: "{}".into(),
            session_json: "{}".into(),
            commit_ts: 9,
            phase: Phase::Encoding,
            chunks: CHUNKS,
            ranges: 0,
            source_bytes: 1,
            existing: None,
            planned_epoch: epoch,
            planned_attempts: 0,
            conflicts: None,
            resolution: None,
            note: None,
        };
        let table = Table::new(record, vec![wire::EncodeTask::default(); CHUNKS as usize]);
        txns.extend(job::record_tables("j", &[(n, &table)]).unwrap());
    }
    for txn in txns {
        store.commit(epoch, txn).await.unwrap();
    }
}

/// One leader's life: until done, failed, or its agent dies after `steps` orders.
async fn live(
    store: &Arc<EmbeddedStore>,
    world: &Arc<Mutex<World>>,
    rng: &mut StdRng,
    steps: u32,
) -> Result<Vec<Table>> {
    let epoch = store.lead().await?;
    if store.get(&job::job_key("j")).await?.is_none() {
        plan(store.as_ref(), epoch).await;
    }
    if rng.random_bool(0.3) {
        // The agent's disk lost everything of one task while nobody looked.
        let mut world = world.lock().unwrap();
        if let Some((_, dir)) = world.held.pop_first() {
            world.runs.remove(&format!("{dir}/run"));
        }
    }
    let (_, tables) = job::load(store.as_ref(), "j").await?.unwrap();
    let (progress, _watch) = Progress::new();
    let (order_sender, orders) = mpsc::channel(100);
    let (report_sender, reports) = mpsc::channel(100);
    let agent = tokio::spawn(agent(
        world.clone(),
        StdRng::seed_from_u64(rng.random()),
        steps,
        orders,
        report_sender,
    ));
    let result = lead(
        store,
        epoch,
        world,
        tables,
        progress,
        (order_sender, reports),
    )
    .await;
    agent.abort();
    result
}

/// Leads the job with one agent in this process.
async fn lead(
    store: &Arc<EmbeddedStore>,
    epoch: u64,
    world: &Arc<Mutex<World>>,
    tables: Vec<Table>,
    progress: Progress,
    link: Link,
) -> Result<Vec<Table>> {
    let steps = Arc::new(FakeSteps(world.clone()));
    lead_with(store, epoch, steps, tables, progress, link).await
}

type Link = (
    mpsc::Sender<wire::CoordinatorMessage>,
    mpsc::Receiver<wire::AgentMessage>,
);

async fn lead_with(
    store: &Arc<EmbeddedStore>,
    epoch: u64,
    steps: Arc<dyn Steps>,
    tables: Vec<Table>,
    progress: Progress,
    (orders, reports): Link,
) -> Result<Vec<Table>> {
    let options = FleetOptions {
        one_process: true,
        ..FleetOptions::default()
    };
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let fleet = tokio::spawn(fleet.run(CancellationToken::new()));
    handle.connect("a", orders, reports).await;
    let result = handle
        .lead(NewJob {
            job_id: "j".into(),
            cluster: wire::ClusterSpec::default(),
            tables,
            steps,
            progress,
            store_bytes_per_second: 0,
            paused: false,
            agents: BTreeSet::new(),
        })
        .await;
    drop(handle);
    fleet.await.unwrap()?;
    result
}

#[tokio::test]
async fn every_pair_arrives_exactly_once_however_often_the_leader_dies() {
    let mut seeds = tokio::task::JoinSet::new();
    for seed in 0..20 {
        seeds.spawn(many_lives(seed));
    }
    while let Some(ended) = seeds.join_next().await {
        ended.unwrap();
    }
}

async fn many_lives(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
    let world = Arc::new(Mutex::new(World::default()));
    let mut tables = None;
    for _ in 0..200 {
        let steps = rng.random_range(1..80);
        match live(&store, &world, &mut rng, steps).await {
            Ok(done) => {
                tables = Some(done);
                break;
            }
            Err(Error {
                kind: ErrorKind::Internal | ErrorKind::Cluster,
                ..
            }) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
    let tables = tables.unwrap_or_else(|| panic!("seed {seed}: never done"));
    let world = world.lock().unwrap();
    let expected: BTreeSet<_> = (0..TABLES)
        .flat_map(|t| (0..CHUNKS).flat_map(move |c| (0..PAIRS).map(move |i| key(t, c, i))))
        .collect();
    assert_eq!(
        world.cluster.keys().cloned().collect::<BTreeSet<_>>(),
        expected,
        "seed {seed}"
    );
    assert!(
        tables.iter().all(|t| t.record.phase == Phase::Finished),
        "seed {seed}"
    );
    assert!(
        (0..TABLES).all(|n| world.finished[&format!("d.t{n}")] >= 1),
        "seed {seed}"
    );
    for table in 0..TABLES {
        let refused = &world.refused[&format!("d.t{table}")];
        assert_eq!(*refused, (0..CHUNKS).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn without_failures_each_chunk_is_encoded_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
    let world = Arc::new(Mutex::new(World::default()));
    let epoch = store.lead().await.unwrap();
    plan(store.as_ref(), epoch).await;
    let (_, tables) = job::load(store.as_ref(), "j").await.unwrap().unwrap();
    let (progress, watch) = Progress::new();
    let (order_sender, mut orders) = mpsc::channel::<wire::CoordinatorMessage>(100);
    let (reports, report_receiver) = mpsc::channel(100);
    let hello = wire::Hello {
        encode_slots: 1,
        ingest_slots: 1,
        ..wire::Hello::default()
    };
    reports
        .send(wire::AgentMessage {
            agent_id: "a".into(),
            epoch: 0,
            body: Some(Body::Hello(hello)),
        })
        .await
        .unwrap();
    let fake = tokio::spawn({
        let world = world.clone();
        async move {
            while let Some(order) = orders.recv().await {
                let body = match order.body.unwrap() {
                    Order::Encode(t) => Body::EncodeDone(wire::EncodeDone {
                        task_id: t.task_id,
                        attempt: t.attempt,
                        manifest: Some(encode(&mut world.lock().unwrap(), &t, order.epoch)),
                        job_id: "j".into(),
                        task_epoch: order.epoch,
                    }),
                    Order::Ingest(t) => Body::IngestDone(wire::IngestDone {
                        task_id: t.task_id,
                        attempt: t.attempt,
                        report: Some(ingest(&mut world.lock().unwrap(), &t).unwrap()),
                        job_id: "j".into(),
                        task_epoch: order.epoch,
                    }),
                    _ => continue,
                };
                reports
                    .send(wire::AgentMessage {
                        agent_id: "a".into(),
                        epoch: order.epoch,
                        body: Some(body),
                    })
                    .await
                    .unwrap();
            }
        }
    });
    lead(
        &store,
        epoch,
        &world,
        tables,
        progress,
        (order_sender, report_receiver),
    )
    .await
    .unwrap();
    fake.await.unwrap();
    assert_eq!(
        u64::from(world.lock().unwrap().encodes),
        TABLES as u64 * CHUNKS
    );
    let last = *watch.borrow();
    assert_eq!(
        (last.tables_finished, last.chunks_done, last.ranges_done),
        (TABLES, last.chunks, last.ranges)
    );
}

/// Rows that are refused are recorded before anything else happens; who cannot record them is told why.
#[tokio::test]
async fn a_job_whose_refused_rows_cannot_be_recorded_ends_with_that_cause() {
    // Recorded at the end of a table, and because there is one too many.
    for refused_max in [TABLES as u64 * CHUNKS, 1] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(&dir.path().join("s")).unwrap());
        let world = Arc::new(Mutex::new(World::default()));
        let epoch = store.lead().await.unwrap();
        plan(store.as_ref(), epoch).await;
        let (_, tables) = job::load(store.as_ref(), "j").await.unwrap().unwrap();
        let (order_sender, orders) = mpsc::channel(100);
        let (report_sender, reports) = mpsc::channel(100);
        let rng = StdRng::seed_from_u64(1);
        let working = agent(world.clone(), rng, 1000, orders, report_sender);
        let working = tokio::spawn(working);
        let steps = NoRecords {
            steps: FakeSteps(world.clone()),
            refused_max,
        };
        let (progress, _watch) = Progress::new();
        let link = (order_sender, reports);
        let led = lead_with(&store, epoch, Arc::new(steps), tables, progress, link);
        let led = tokio::time::timeout(std::time::Duration::from_secs(30), led).await;
        let error = led.expect("the job hangs").unwrap_err();
        assert!(
            error.cause.contains("no table of records for d.t"),
            "{error}"
        );
        working.abort();
    }
}
