//! The leader of a fleet on a virtual clock: simulated agents that crash, lose their disks, fall silent and are cut
//! off, leaders that die, a store that fails, clocks that jump. From one printed seed; `THUNDERHEAD_SIM_SEED` repeats a
//! run, and `THUNDERHEAD_SIM=AGENTSxCHUNKS` chooses its size. Checked at every order: what is recorded is not done
//! again, no agent gets more than its slots and their share of small tasks, no range is merged without every run that holds keys of it.
#![allow(clippy::unwrap_used)]

mod support;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use support::MemStore;
use thunderhead_coordinator::fleet::{Event, Fleet, FleetHandle, FleetOptions, NewJob};
use thunderhead_coordinator::job::{self, JobRecord, Phase, Table, TableRecord, TaskRef};
use thunderhead_coordinator::leader::Steps;
use thunderhead_coordinator::progress::Progress;
use thunderhead_coordinator::scheduler::{SLOT, share_of_slot};
use thunderhead_coordinator::store::{Commit, StateStore, Txn};
use thunderhead_proto::thunderhead as wire;
use thunderhead_proto::thunderhead::agent_message::Body;
use thunderhead_proto::thunderhead::coordinator_message::Body as Order;
use thunderhead_types::{Checksum, ErrorKind, KeyRange, Result};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const JOB: &str = "j";
const ENCODE_SLOTS: u32 = 4;
const INGEST_SLOTS: u32 = 2;
const BLOCKS: u64 = 4;
/// An encode task takes between a quarter of this and twice as much, an ingest task likewise.
const ENCODE_MS: u64 = 20_000;
const INGEST_MS: u64 = 8_000;
/// A chunk in three is small, and shares its slot.
const SMALL_CHUNK_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: u64 = 256 << 20;
const BLOCK_BYTES: u64 = 512 << 10;
/// Keys of this many neighbouring chunks are mixed, as in a source that is nearly sorted.
const WINDOW: u64 = 64;

/// Block `b` of chunk `c`, of a source of `chunks`: a permutation of numbers below `chunks * BLOCKS`.
fn key_number(c: u64, b: u64, chunks: u64) -> u64 {
    let window = c / WINDOW;
    let width = WINDOW.min(chunks - window * WINDOW) * BLOCKS;
    let at = (c % WINDOW) * BLOCKS + b;
    // Numbers up to 256: an odd step visits all of a power of two, the last window keeps its order.
    let mixed = if width == WINDOW * BLOCKS {
        at * 37 % width
    } else {
        at
    };
    window * WINDOW * BLOCKS + mixed
}

fn key(number: u64) -> Vec<u8> {
    [b"t".as_slice(), &number.to_be_bytes()].concat()
}

struct FakeSteps {
    keys: u64,
    range_bytes: u64,
}

#[async_trait]
impl Steps for FakeSteps {
    fn key_spaces(&self, _: &Table) -> Result<Vec<KeyRange>> {
        Ok(vec![KeyRange::new(*b"t", *b"u")])
    }

    fn range_bytes_target(&self) -> u64 {
        self.range_bytes
    }

    async fn split(&self, _: &Table, _: Vec<Vec<u8>>) -> Result<()> {
        sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    async fn finish(&self, _: &Table, ingested: Checksum) -> Result<()> {
        assert_eq!(ingested.kvs, self.keys, "every pair arrived once");
        Ok(())
    }
}

/// What everything in the simulation sees.
struct World {
    chunks: u64,
    /// A process lives up to so many milliseconds.
    lives_max: u64,
    store: Arc<MemStore>,
    leader: Mutex<Option<FleetHandle>>,
    rng: Mutex<StdRng>,
    /// Key number → chunk.
    owner: Vec<u64>,
    /// Assignment latencies in virtual microseconds, in steady encoding.
    latencies: Mutex<Vec<u64>>,
    crashes: AtomicU64,
    jumps: AtomicU64,
    encoded: AtomicU64,
    over: CancellationToken,
}

impl World {
    fn random(&self, low: u64, high: u64) -> u64 {
        self.rng.lock().random_range(low..high)
    }

    fn chance(&self, p: f64) -> bool {
        self.rng.lock().random_bool(p)
    }

    fn manifest_recorded(&self, number: u64) -> bool {
        let items = self.store.items.lock();
        items.2.contains_key(&job::item_key(JOB, 0, 'm', number))
    }

    /// The runs an order names hold every key of its range.
    fn check_runs(&self, task: &wire::IngestTask) {
        let named: BTreeSet<u64> = task
            .run_paths
            .iter()
            .chain(task.remote_runs.iter().map(|run| &run.path))
            .map(|path| path.split('-').next().unwrap().parse().unwrap())
            .collect();
        for number in self.numbers(task) {
            let id = TaskRef::Chunk {
                table: 0,
                number: self.owner[number as usize],
            }
            .id();
            assert!(named.contains(&id), "a range without a run of its keys");
        }
    }

    fn numbers(&self, task: &wire::IngestTask) -> std::ops::Range<u64> {
        let range = task.range.as_ref().unwrap();
        let number = |key: &[u8], default: u64| match key.get(1..9) {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().unwrap()),
            None => default,
        };
        number(&range.start, 0)..number(&range.end, self.chunks * BLOCKS)
    }
}

fn checksum_of(numbers: impl Iterator<Item = u64>) -> Option<wire::Checksum> {
    let mut sum = Checksum::default();
    numbers.for_each(|n| sum.add(&key(n), b""));
    Some(wire::Checksum {
        crc64_xor: sum.crc64_xor,
        kvs: sum.kvs,
        bytes: sum.bytes,
    })
}

/// An agent's disk and what its process works on.
struct Agent {
    held: BTreeMap<u64, String>,
    running: BTreeMap<(u64, u64, u32), (Order, AbortHandle)>,
    encode_turns: Arc<Semaphore>,
    ingest_turns: Arc<Semaphore>,
    reports: BTreeMap<(u64, u64, u32), Body>,
    highest_epoch: u64,
}

/// One agent for the whole simulation: sessions come and go, its process dies now and then.
async fn agent(world: Arc<World>, name: String) {
    let mut disk: BTreeMap<u64, String> = BTreeMap::new();
    while !world.over.is_cancelled() {
        let lives = Duration::from_millis(world.random(20_000, world.lives_max));
        let turns = |slots: u32| Arc::new(Semaphore::new(slots as usize));
        let mut state = Agent {
            held: disk.clone(),
            running: BTreeMap::new(),
            encode_turns: turns(ENCODE_SLOTS),
            ingest_turns: turns(INGEST_SLOTS),
            reports: BTreeMap::new(),
            highest_epoch: 0,
        };
        let died = tokio::time::timeout(lives, live(&world, &name, &mut state)).await;
        if died.is_ok() {
            return;
        }
        world.crashes.fetch_add(1, Ordering::Relaxed);
        disk = if world.chance(0.3) {
            BTreeMap::new()
        } else {
            state.held
        };
        sleep(Duration::from_millis(world.random(100, 90_000))).await;
    }
}

/// A process: session after session, work goes on between them.
async fn live(world: &Arc<World>, name: &str, state: &mut Agent) {
    let (ended, mut ends) = mpsc::unbounded_channel();
    while !world.over.is_cancelled() {
        let Some(handle) = world.leader.lock().clone() else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let cut = Duration::from_millis(world.random(5_000, 3_000_000));
        let _ = tokio::time::timeout(cut, session(world, &handle, name, state, &ended, &mut ends))
            .await;
        // Cut off, or without a leader: work that ends meanwhile is reported later.
        let away = if world.chance(0.1) { 30_000 } else { 500 };
        sleep(Duration::from_millis(world.random(50, away))).await;
    }
}

type Ended = (u64, u64, u32, u64);

async fn session(
    world: &Arc<World>,
    handle: &FleetHandle,
    name: &str,
    state: &mut Agent,
    ended: &mpsc::UnboundedSender<Ended>,
    ends: &mut mpsc::UnboundedReceiver<Ended>,
) {
    let (events, session) = (handle.events(), handle.new_session());
    let (link, mut orders) = mpsc::channel(1024);
    let send = async |body| {
        let message = wire::AgentMessage {
            agent_id: name.to_owned(),
            epoch: 0,
            body: Some(body),
        };
        events
            .send(Event::Message { session, message })
            .await
            .is_ok()
    };
    let connected = Event::Connected {
        agent: name.to_owned(),
        session,
        link,
    };
    if events.send(connected).await.is_err() {
        return;
    }
    let unrecorded = state.running.keys().chain(state.reports.keys());
    let hello = wire::Hello {
        encode_slots: ENCODE_SLOTS,
        ingest_slots: INGEST_SLOTS,
        address: name.to_owned(),
        held: state
            .held
            .iter()
            .map(|(task_id, dir)| wire::HeldAttempt {
                job_id: JOB.into(),
                task_id: *task_id,
                attempt_dir: dir.clone(),
            })
            .collect(),
        running: unrecorded
            .map(|(task_id, epoch, attempt)| wire::RunningTask {
                job_id: JOB.into(),
                task_id: *task_id,
                attempt: *attempt,
                epoch: *epoch,
            })
            .collect(),
        ..wire::Hello::default()
    };
    if !send(Body::Hello(hello)).await {
        return;
    }
    for body in state.reports.values().cloned().collect::<Vec<_>>() {
        if !send(body).await {
            return;
        }
    }
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    let mut freed: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            Some(done) = ends.recv() => {
                if let Some(body) = finish(world, name, state, done) {
                    freed = Some(Instant::now());
                    if !send(body).await {
                        return;
                    }
                }
            }
            order = orders.recv() => {
                let Some(order) = order else { return };
                assert!(order.epoch >= state.highest_epoch, "an order of a former leader");
                state.highest_epoch = order.epoch;
                if matches!(order.body, Some(Order::Encode(_)))
                    && let Some(freed) = freed.take()
                    && world.encoded.load(Ordering::Relaxed) < world.chunks * 9 / 10
                {
                    let latency = u64::try_from(freed.elapsed().as_micros()).unwrap();
                    world.latencies.lock().push(latency);
                }
                obey(world, state, order, ended);
            }
            _ = beat.tick() => if !send(Body::Progress(wire::Progress::default())).await { return },
            () = world.over.cancelled() => return,
        }
    }
}

/// Begins, ends or forgets what the order says.
fn obey(
    world: &Arc<World>,
    state: &mut Agent,
    order: wire::CoordinatorMessage,
    ended: &mpsc::UnboundedSender<Ended>,
) {
    let body = order.body.unwrap();
    let (task_id, attempt, base) = match &body {
        Order::Encode(task) => {
            let TaskRef::Chunk { number, .. } = TaskRef::from_id(task.task_id) else {
                panic!("not a chunk")
            };
            assert!(
                !world.manifest_recorded(number),
                "a recorded chunk was handed out"
            );
            (task.task_id, task.attempt, ENCODE_MS)
        }
        Order::Ingest(task) => {
            world.check_runs(task);
            (task.task_id, task.attempt, INGEST_MS)
        }
        Order::Cancel(task) => {
            let ended =
                |(id, ..): &(u64, u64, u32), _: &mut (Order, AbortHandle)| *id == task.task_id;
            for (_, (_, work)) in state.running.extract_if(.., ended) {
                work.abort();
            }
            state.reports.retain(|(id, ..), _| *id != task.task_id);
            return;
        }
        Order::DropRuns(drop) if drop.task_ids.is_empty() => return state.held.clear(),
        Order::DropRuns(drop) => {
            return drop
                .task_ids
                .iter()
                .for_each(|id| std::mem::drop(state.held.remove(id)));
        }
        Order::Recorded(r) => {
            state.reports.remove(&(r.task_id, r.task_epoch, r.attempt));
            return;
        }
        _ => return,
    };
    let ingest = matches!(body, Order::Ingest(_));
    let running = state.running.values().map(|(body, _)| body);
    let same_kind: Vec<u32> = running
        .filter(|b| matches!(b, Order::Ingest(_)) == ingest)
        .map(share)
        .collect();
    let (slots, turns) = match ingest {
        true => (INGEST_SLOTS, Arc::clone(&state.ingest_turns)),
        false => (ENCODE_SLOTS, Arc::clone(&state.encode_turns)),
    };
    let room = same_kind.iter().sum::<u32>() < slots * SLOT;
    assert!(same_kind.len() < slots as usize || room, "too many tasks");
    let slow = if world.chance(0.002) { 30 } else { 1 };
    let lasts = Duration::from_millis(world.random(base / 4, base * 2) * slow);
    let (epoch, ended) = (order.epoch, ended.clone());
    let work = tokio::spawn(async move {
        let _turn = turns.acquire_owned().await;
        sleep(lasts).await;
        let _ = ended.send((task_id, epoch, attempt, 0));
    });
    let work = (body, work.abort_handle());
    state.running.insert((task_id, epoch, attempt), work);
}

/// How much of a slot an order takes.
fn share(order: &Order) -> u32 {
    share_of_slot(match order {
        Order::Encode(task) => task.parts[0].end,
        Order::Ingest(task) => task.expected_bytes,
        _ => u64::MAX,
    })
}

/// The report of a task that ran to its end; none when it was cancelled meanwhile.
fn finish(world: &Arc<World>, name: &str, state: &mut Agent, done: Ended) -> Option<Body> {
    let (task_id, task_epoch, attempt, _) = done;
    let (work, _) = state.running.remove(&(task_id, task_epoch, attempt))?;
    let body = match work {
        _ if world.chance(0.005) => Body::TaskFailed(wire::TaskFailed {
            task_id,
            attempt,
            task_epoch,
            job_id: JOB.into(),
            failure: Some(wire::Failure {
                kind: "cluster".into(),
                retryable: true,
                ..wire::Failure::default()
            }),
        }),
        Order::Encode(_) => {
            let TaskRef::Chunk { number, .. } = TaskRef::from_id(task_id) else {
                panic!("not a chunk")
            };
            world.encoded.fetch_add(1, Ordering::Relaxed);
            let dir = format!("{task_id}-{task_epoch}-{attempt}");
            state.held.insert(task_id, dir.clone());
            let mut numbers: Vec<u64> = (0..BLOCKS)
                .map(|b| key_number(number, b, world.chunks))
                .collect();
            numbers.sort_unstable();
            let run = wire::Run {
                path: dir.clone(),
                entries: BLOCKS,
                first_key: key(numbers[0]).into(),
                last_key: key(numbers[numbers.len() - 1]).into(),
                blocks: numbers
                    .iter()
                    .map(|n| wire::RunBlock {
                        first_key: key(*n).into(),
                        raw_bytes: BLOCK_BYTES,
                        entries: 1,
                        ..Default::default()
                    })
                    .collect(),
                ..wire::Run::default()
            };
            Body::EncodeDone(wire::EncodeDone {
                task_id,
                attempt,
                task_epoch,
                job_id: JOB.into(),
                manifest: Some(wire::Manifest {
                    runs: vec![run],
                    rows: BLOCKS,
                    checksum: checksum_of(numbers.into_iter()),
                    agent_id: name.to_owned(),
                    attempt_dir: dir,
                    ..wire::Manifest::default()
                }),
            })
        }
        Order::Ingest(task) => Body::IngestDone(wire::IngestDone {
            task_id,
            attempt,
            task_epoch,
            job_id: JOB.into(),
            report: Some(wire::IngestReport {
                checksum: checksum_of(world.numbers(&task)),
                ..wire::IngestReport::default()
            }),
        }),
        _ => return None,
    };
    state
        .reports
        .insert((task_id, task_epoch, attempt), body.clone());
    Some(body)
}

/// Every now and then the clock jumps, for up to several leases.
async fn jump(world: Arc<World>) {
    while !world.over.is_cancelled() {
        sleep(Duration::from_secs(world.random(100, 1000))).await;
        tokio::time::advance(Duration::from_secs(world.random(1, 100))).await;
        world.jumps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the CPU time that the loop itself takes.
struct Timed<F> {
    future: F,
    spent: Arc<AtomicU64>,
}

fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

impl<F: Future + Unpin> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let start = thread_cpu_ns();
        let polled = Pin::new(&mut self.future).poll(context);
        let spent = thread_cpu_ns() - start;
        self.spent.fetch_add(spent, Ordering::Relaxed);
        polled
    }
}

async fn plan(store: &MemStore, chunks: u64) {
    let epoch = store.lead().await.unwrap();
    let json = serde_json::to_vec(&JobRecord::default()).unwrap();
    let mut txns = vec![Txn::default().put(job::job_key(JOB), json)];
    let record = TableRecord {
        database: "d".into(),
        table: "t".into(),
        table_id: 1,
        content: String::new(),
        table_info_json: "{}".into(),
        session_json: "{}".into(),
        commit_ts: 9,
        phase: Phase::Encoding,
        chunks,
        ranges: 0,
        source_bytes: chunks,
        existing: None,
        planned_epoch: epoch,
        planned_attempts: 0,
        conflicts: None,
        resolution: None,
        note: None,
    };
    let bytes = |n| match n % 3 {
        0 => SMALL_CHUNK_BYTES,
        _ => CHUNK_BYTES,
    };
    let tasks = (0..chunks).map(|n| wire::EncodeTask {
        parts: vec![wire::FilePart {
            path: "/s/f".into(),
            end: bytes(n),
            file_size: bytes(n),
            ..Default::default()
        }],
        ..Default::default()
    });
    let tasks = tasks.collect();
    txns.extend(job::record_tables(JOB, &[(0, &Table::new(record, tasks))]).unwrap());
    for txn in txns {
        assert!(matches!(
            store.commit(epoch, txn).await.unwrap(),
            Commit::Done(_)
        ));
    }
}

async fn simulate(seed: u64, agents: u64, chunks: u64) {
    println!("simulation: seed {seed}, {agents} agents, {chunks} chunks");
    let wall = std::time::Instant::now();
    let begin = Instant::now();
    let store = Arc::new(MemStore::default());
    store.fail_at.store(u64::MAX, Ordering::Relaxed);
    plan(&store, chunks).await;
    let mut owner = vec![0; (chunks * BLOCKS) as usize];
    for c in 0..chunks {
        (0..BLOCKS).for_each(|b| owner[key_number(c, b, chunks) as usize] = c);
    }
    let world = Arc::new(World {
        chunks,
        // Each agent dies about once in the time that the job takes without trouble, or every half an hour: were disks
        // lost faster than their chunks can be encoded again, no job would ever end.
        lives_max: (2 * chunks * ENCODE_MS / (agents * u64::from(ENCODE_SLOTS))).max(4_000_000),
        store: Arc::clone(&store),
        leader: Mutex::new(None),
        rng: Mutex::new(StdRng::seed_from_u64(seed)),
        owner,
        latencies: Mutex::default(),
        crashes: AtomicU64::new(0),
        jumps: AtomicU64::new(0),
        encoded: AtomicU64::new(0),
        over: CancellationToken::new(),
    });
    for n in 0..agents {
        tokio::spawn(agent(Arc::clone(&world), format!("a{n:03}")));
    }
    tokio::spawn(jump(Arc::clone(&world)));
    let spent = Arc::new(AtomicU64::new(0));
    let mut leaders = 0;
    let tables = loop {
        leaders += 1;
        let epoch = store.lead().await.unwrap();
        let (_, tables) = job::load(store.as_ref(), JOB).await.unwrap().unwrap();
        let workers = job::workers(store.as_ref(), JOB).await.unwrap();
        let options = FleetOptions::default();
        let (fleet, handle) = Fleet::new(
            store.clone(),
            epoch,
            options,
            BTreeSet::from([JOB.to_owned()]),
        );
        let crash = CancellationToken::new();
        let running = Timed {
            future: Box::pin(fleet.run(crash.clone())),
            spent: Arc::clone(&spent),
        };
        let running = tokio::spawn(running);
        *world.leader.lock() = Some(handle.clone());
        if world.chance(0.3) {
            let soon = store.commits.load(Ordering::Relaxed) + world.random(10, chunks);
            store.fail_at.store(soon, Ordering::Relaxed);
        }
        let new_job = NewJob {
            job_id: JOB.into(),
            cluster: wire::ClusterSpec::default(),
            tables,
            steps: Arc::new(FakeSteps {
                keys: chunks * BLOCKS,
                range_bytes: (chunks * BLOCKS * BLOCK_BYTES / 2000).max(4 * BLOCK_BYTES),
            }),
            progress: Progress::new().0,
            store_bytes_per_second: 0,
            paused: false,
            agents: workers,
        };
        let lives = Duration::from_millis(world.random(10_000, 2_000_000));
        let led = tokio::time::timeout(lives, handle.lead(new_job)).await;
        *world.leader.lock() = None;
        crash.cancel();
        let _ = running.await;
        match led {
            Ok(Ok(tables)) => break tables,
            Ok(Err(error)) if matches!(error.kind, ErrorKind::Cluster | ErrorKind::Cancelled) => {}
            Ok(Err(error)) => panic!("seed {seed}: {error}"),
            Err(_) => {}
        }
        sleep(Duration::from_millis(world.random(100, 20_000))).await;
    };
    world.over.cancel();
    let table = &tables[0];
    assert_eq!(table.record.phase, Phase::Finished);
    assert_eq!(table.reports.len(), table.ranges.len());
    let mut latencies = std::mem::take(&mut *world.latencies.lock());
    latencies.sort_unstable();
    let of_hundred = |n| {
        let at = latencies.len() * n / 100;
        latencies.get(at).copied().unwrap_or(0) as f64 / 1000.0
    };
    let virtual_seconds = begin.elapsed().as_secs_f64();
    let leader_seconds = spent.load(Ordering::Relaxed) as f64 / 1e9;
    let tasks = world.encoded.load(Ordering::Relaxed) + table.ranges.len() as u64;
    println!(
        "simulation: done in {:.1} s for {virtual_seconds:.0} s of a fleet; {leaders} leaders, {} crashes of agents, {} jumps of the clock, {} chunks encoded;\n\
         assignment p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms (takeovers included); the leaders took {leader_seconds:.1} s \
         of CPU with their store, {:.0} us a task, {:.2} % of one core",
        wall.elapsed().as_secs_f64(),
        world.crashes.load(Ordering::Relaxed),
        world.jumps.load(Ordering::Relaxed),
        world.encoded.load(Ordering::Relaxed),
        of_hundred(50),
        of_hundred(99),
        latencies.last().copied().unwrap_or(0) as f64 / 1000.0,
        1e6 * leader_seconds / tasks as f64,
        100.0 * leader_seconds / virtual_seconds,
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_dies_every_pair_arrives_once_and_nothing_recorded_is_done_again() {
    let size = std::env::var("THUNDERHEAD_SIM").unwrap_or_else(|_| "20x2000".to_owned());
    let (agents, chunks) = size.split_once('x').unwrap();
    let seed = std::env::var("THUNDERHEAD_SIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    simulate(seed, agents.parse().unwrap(), chunks.parse().unwrap()).await;
}
