//! Imports under faults that nobody picked: a seed decides the regions, the data, what breaks, where and
//! how often, and who changes regions meanwhile. Whatever happens, every store ends with exactly the
//! pairs of the source and no store is harmed. Beside it what an import leaves behind when nothing
//! happens, on every release. Single faults with their exact cost are in `cluster_import.rs`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use thunderhead_cluster::{
    BATCH_BYTES, Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs, PairBatch,
    PairReader, PairSource, PdClient, RetryPolicy, Security,
};
use thunderhead_codec::keys::{record_key, table_range};
use thunderhead_sandbox::{
    Action, Fault, Match, Point, Profile, RegionErrorKind, Sandbox, SandboxConfig,
};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 1000;
/// Tables imported under one seed.
const ROUNDS: i64 = 6;
const FAULTS_PER_ROUND: u64 = 5;

struct Bench {
    sandbox: Sandbox,
    importer: Arc<Importer>,
    _dir: TempDir,
}

impl Bench {
    async fn start(
        slice_batches: u64,
        regions_in_flight: usize,
        path: IngestPath,
        configure: impl FnOnce(&mut SandboxConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SandboxConfig::new(dir.path());
        configure(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let retry = RetryPolicy {
            max_elapsed: PATIENCE,
        };
        let options = ImporterOptions {
            retry,
            regions_in_flight,
            path,
            slice_bytes: Some(slice_batches * BATCH_BYTES as u64),
            ..ImporterOptions::default()
        };
        let urls = &sandbox.addresses().pd_members;
        let pd = PdClient::connect_with(urls, &Security::default(), retry).await;
        let importer = Importer::new(pd.unwrap(), options, CancellationToken::new());
        Self {
            sandbox,
            importer: Arc::new(importer),
            _dir: dir,
        }
    }

    async fn ingest(&self, table: &Table) -> Result<IngestStats> {
        let ts = self.importer.pd().tso().await?;
        let source = Arc::new(table.pairs.clone());
        self.importer.ingest_range(&table.range, ts, source).await
    }

    /// Files that no ingest took, over all stores.
    fn orphans(&self) -> u64 {
        let state = self.sandbox.state().unwrap();
        state.stores.iter().map(|store| store.import_files).sum()
    }

    /// Every replica holds exactly the table, by its own data and by the importer's checksum.
    async fn holds(&self, table: &Table) {
        assert_eq!(self.sandbox.panics(), [], "a store died of a file");
        let tally = self.importer.checksum(&table.range).await.unwrap();
        assert_eq!(tally, table.checksum, "what leaders hold");
        for store in 1..=3 {
            let held = || self.sandbox.store_checksum(store, &table.range).ok();
            until(&format!("store {store} holds the pairs"), || {
                held() == Some(table.checksum)
            })
            .await;
        }
        assert_eq!(self.sandbox.panics(), [], "a store died of a file");
        let again = self.sandbox.state().unwrap().names_used_again;
        assert_eq!(again, 0, "a name that an ingest knew came again");
    }

    /// Starts stores again that a fault has stopped.
    async fn revive(&self) {
        loop {
            let state = self.sandbox.state().unwrap();
            for store in state.stores.iter().filter(|store| !store.alive) {
                self.sandbox.start_store(store.id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Table {
    id: i64,
    rows: i64,
    range: KeyRange,
    pairs: MemoryPairs,
    checksum: Checksum,
}

fn table(id: i64, rows: i64) -> Table {
    let mut checksum = Checksum::default();
    let pairs: Vec<_> = (0..rows)
        .map(|row| {
            let mut value = vec![b'v'; VALUE_BYTES];
            value[..8].copy_from_slice(&(row * id).to_be_bytes());
            // Some values are short: they live in the write column family alone.
            value.truncate(if row % 5 == 0 { 20 } else { VALUE_BYTES });
            (record_key(id, row), value)
        })
        .collect();
    pairs
        .iter()
        .for_each(|(key, value)| checksum.add(key, value));
    Table {
        id,
        rows,
        range: table_range(id),
        pairs: MemoryPairs::new(pairs),
        checksum,
    }
}

/// A small generator whose whole state is the seed that a failing test prints.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn status(&mut self) -> Action {
        let (code, message) = [
            ("unavailable", "connection reset"),
            ("cancelled", ""),
            ("deadline-exceeded", ""),
            ("unknown", "transport error"),
        ][self.roll(4) as usize];
        Action::Status {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    fn refusal(&mut self) -> Action {
        use RegionErrorKind as E;
        let errors = [
            E::NotLeader,
            E::NoLeader,
            E::EpochNotMatch,
            E::RegionNotFound,
            E::ServerIsBusy,
            E::StaleCommand,
            E::FileNotExist,
            E::UndeterminedResult,
            E::ReadIndexNotReady,
            E::ProposalDropped,
            E::IngestConflict,
        ];
        Action::RegionError {
            error: errors[self.roll(errors.len() as u64) as usize],
            backoff_ms: self.roll(50),
        }
    }

    /// Refused by `Write`, in TiKV's words.
    fn write_refusal(&mut self) -> Action {
        let texts = ["RequestTooNew", "RequestTooOld", "ResourceNotEnough"];
        Action::Status {
            code: "unknown".to_owned(),
            message: texts[self.roll(3) as usize].to_owned(),
        }
    }

    /// Not merges: two at once leave a hole in the sandbox's table of regions.
    fn region_change(&mut self) -> Action {
        match self.roll(3) {
            0 => Action::Split,
            1 => Action::ConfChange,
            _ => Action::TransferLeader,
        }
    }

    /// Refused by `Upload`, or damaged on the way.
    fn upload_trouble(&mut self) -> (Point, Action) {
        let text = ["ResourceNotEnough", "FileCorrupted", "Io(Os { code: 17 })"];
        match self.roll(3) {
            0 => (Point::UploadData, Action::FlipBit),
            _ => {
                let message = text[self.roll(3) as usize].to_owned();
                let code = "unknown".to_owned();
                (Point::UploadOpen, Action::Status { code, message })
            }
        }
    }

    fn fault(&mut self, path: IngestPath) -> Fault {
        let writes = path == IngestPath::Write || path == IngestPath::Auto && self.roll(2) == 0;
        let (data, done) = match writes {
            true => (Point::WriteBatch, Point::WriteDone),
            false => (Point::UploadData, Point::UploadDone),
        };
        let (point, action) = match self.roll(12) {
            0..3 => (Point::Ingest, self.refusal()),
            3 => (Point::Ingest, self.status()),
            4 => (Point::Ingest, self.region_change()),
            5 => (Point::IngestDone, Action::DropReply),
            6 if writes => (Point::WriteOpen, self.write_refusal()),
            6 => self.upload_trouble(),
            7 => (data, self.status()),
            8 => (data, self.region_change()),
            9 => (done, Action::DropReply),
            10 => (Point::Apply, Action::Delay { ms: self.roll(300) }),
            _ => match self.roll(3) {
                0 => (Point::Regions, Action::NoLeader),
                1 => (Point::Regions, Action::Hole),
                _ => (
                    [data, Point::Ingest][self.roll(2) as usize],
                    Action::StopStore,
                ),
            },
        };
        let matching = Match {
            store: (self.roll(2) == 0 && point != Point::Regions).then(|| 1 + self.roll(3)),
            nth: Some(1 + self.roll(4)),
            ..Match::default()
        };
        let times = match action {
            Action::StopStore => 1,
            _ => 1 + self.roll(3),
        };
        Fault {
            matching,
            ..Fault::new(point, action, times)
        }
    }
}

fn seed() -> u64 {
    match std::env::var("THUNDERHEAD_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros() as u64,
    }
}

async fn storm(seed: u64) {
    println!("THUNDERHEAD_SEED={seed}");
    let mut dice = Dice(seed);
    let (slice_batches, in_flight) = (1 + dice.roll(3), 1 + dice.roll(4) as usize);
    let (apply_ms, report_ms) = (dice.roll(200), dice.roll(100));
    let path = [IngestPath::Write, IngestPath::Upload, IngestPath::Auto][dice.roll(3) as usize];
    println!("{path:?}");
    let bench = Bench::start(slice_batches, in_flight, path, |config| {
        config.split_apply_delay = Duration::from_millis(apply_ms);
        config.split_report_delay = Duration::from_millis(report_ms);
        config.sweep_interval = Duration::from_secs(2);
        config.profile = [Profile::V7_5, Profile::V8_5, Profile::V9_0][dice.roll(3) as usize];
    })
    .await;
    for round in 0..ROUNDS {
        let rows = 700 + dice.roll(2500) as i64;
        let table = table(1000 + round, rows);
        let borders =
            (0..dice.roll(5)).map(|_| record_key(table.id, dice.roll(rows as u64) as i64));
        let mut borders: Vec<Vec<u8>> = borders.collect();
        borders.sort();
        bench.sandbox.split(&borders).unwrap();
        bench.sandbox.clear_faults();
        for _ in 0..FAULTS_PER_ROUND {
            bench.sandbox.add_fault(dice.fault(path));
        }
        let faults = bench.sandbox.faults();
        let begun = Instant::now();
        let ingested = tokio::select! {
            ingested = bench.ingest(&table) => ingested,
            () = bench.revive() => unreachable!("it never ends"),
        };
        let stats = ingested.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{faults:#?}"));
        println!(
            "round {round}: {} rows, {:?}, {stats:?}",
            table.rows,
            begun.elapsed()
        );
        assert_eq!(stats.checksum, table.checksum, "seed {seed}: {faults:#?}");
        bench.sandbox.clear_faults();
        tokio::select! {
            () = bench.holds(&table) => (),
            () = bench.revive() => unreachable!("it never ends"),
        }
    }
    bench.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_every_store_ends_with_exactly_the_pairs_of_the_source() {
    storm(seed()).await;
}

/// Seeds that once found something, or that reach much.
#[tokio::test(flavor = "multi_thread")]
async fn seeds_of_the_past_pass() {
    for seed in [1, 2, 3] {
        storm(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trouble_every_pair_is_sent_once_and_no_file_stays_behind() {
    for profile in [Profile::V7_5, Profile::V8_1, Profile::V8_5, Profile::V9_0] {
        for path in [IngestPath::Write, IngestPath::Upload] {
            let bench = Bench::start(1, 4, path, |config| config.profile = profile).await;
            let table = table(100, 1300);
            let stats = bench.ingest(&table).await.unwrap();
            assert_eq!(stats.checksum, table.checksum);
            assert_eq!((stats.rewrites, stats.strays), (0, 0));
            match path {
                IngestPath::Write => assert_eq!(stats.bytes, table.checksum.bytes),
                _ => assert!(stats.bytes * 3 < table.checksum.bytes),
            }
            assert!(stats.ssts >= 2, "{stats:?}");
            bench.holds(&table).await;
            assert_eq!(bench.orphans(), 0);
            bench.sandbox.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_into_nothing_or_from_nothing_sends_nothing() {
    let bench = Bench::start(1, 4, IngestPath::Write, |_| {}).await;
    let nothing = Arc::new(MemoryPairs::default());
    let stats = bench
        .importer
        .ingest_range(&table_range(801), 1 << 40, nothing)
        .await;
    assert_eq!(stats.unwrap(), IngestStats::default());
    let empty = KeyRange::new(*b"t2", *b"t1");
    let source = Arc::new(table(801, 10).pairs);
    let stats = bench.importer.ingest_range(&empty, 1 << 40, source).await;
    assert_eq!(stats.unwrap(), IngestStats::default());
    assert_eq!(bench.orphans(), 0);
    bench.sandbox.shutdown().await;
}

/// Fails after some batches, as a broken run file would.
struct Broken(MemoryPairs);

struct BrokenReader(Box<dyn PairReader>, u32);

impl PairSource for Broken {
    fn open(&self, range: &KeyRange) -> Result<Box<dyn PairReader>> {
        Ok(Box::new(BrokenReader(self.0.open(range)?, 0)))
    }
}

impl PairReader for BrokenReader {
    fn next_batch(&mut self, batch: &mut PairBatch) -> Result<bool> {
        self.1 += 1;
        if self.1 > 2 {
            let cause = "block checksum is wrong";
            return Err(Error::new(ErrorKind::Internal, "run 7", cause));
        }
        self.0.next_batch(batch)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_source_comes_through_unchanged_and_at_once() {
    let bench = Bench::start(1, 4, IngestPath::Write, |_| {}).await;
    let source = Arc::new(Broken(table(803, 3000).pairs));
    let range = table_range(803);
    let error = bench
        .importer
        .ingest_range(&range, 1 << 40, source)
        .await
        .unwrap_err();
    let told = (error.kind, error.place.as_str(), error.cause.as_str());
    assert_eq!(
        told,
        (ErrorKind::Internal, "run 7", "block checksum is wrong")
    );
    bench.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pd_address_that_now_belongs_to_another_cluster_is_refused() {
    let bench = Bench::start(1, 4, IngestPath::Write, |_| {}).await;
    let port = bench
        .sandbox
        .addresses()
        .pd
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let importer = bench.importer.clone();
    bench.sandbox.shutdown().await;
    let other = Bench::start(1, 4, IngestPath::Write, |config| config.pd_port = port).await;
    assert_ne!(importer.pd().cluster_id(), other.importer.pd().cluster_id());
    let error = importer.pd().tso().await.unwrap_err();
    assert!(error.cause.contains("another cluster"), "{error}");
    let source = Arc::new(table(1, 10).pairs);
    let error = importer
        .ingest_range(&table_range(1), 1 << 40, source)
        .await
        .unwrap_err();
    assert!(error.cause.contains("another cluster"), "{error}");
    assert_eq!(other.orphans(), 0);
    other.sandbox.shutdown().await;
}
