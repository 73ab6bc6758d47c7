//! Files that are built once and sent to every peer, and files that nobody ingests: what only the cluster
//! client's `Upload` path has, and what broken-off attempts leave on either path, against the sandbox, whose
//! stores die of a bad or missing file as TiKV's do. What both paths have in common is in `cluster_import`,
//! `cluster_outages` and `cluster_random_faults`.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thunderhead_cluster::{
    DiskAccount, Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs, PairBatch,
    PairReader, PairSource, PdClient, RetryPolicy, Security,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, Profile, RegionErrorKind, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, ErrorKind, KeyRange, Result};
use tokio_util::sync::CancellationToken;

const TABLE: i64 = 106;
const ROWS: i64 = 3000;

struct Rig {
    sandbox: Sandbox,
    pd: Arc<PdClient>,
    importer: Arc<Importer>,
    dir: TempDir,
}

/// Every third value is too long for a write record.
fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |i: i64| vec![i as u8; if i % 3 == 0 { 400 } else { 40 }];
    (0..ROWS)
        .map(|i| (keys::record_key(TABLE, i), value(i)))
        .collect()
}

fn tally() -> Checksum {
    let mut sum = Checksum::default();
    records().iter().for_each(|(k, v)| sum.add(k, v));
    sum
}

fn options(path: IngestPath, dir: &Path) -> ImporterOptions {
    ImporterOptions {
        retry: RetryPolicy {
            max_elapsed: Duration::from_secs(30),
        },
        scatter_patience: Duration::from_secs(10),
        path,
        sst_dir: Some(dir.to_owned()),
        ..ImporterOptions::default()
    }
}

/// Files of the same pairs differ by their ids and timestamps.
fn about(bytes: u64, expected: u64) -> bool {
    bytes.abs_diff(expected) < 200
}

/// Every second instead of every ten minutes, as `cleanup-import-sst-interval` of TiKV would.
fn sweep_often(config: &mut SandboxConfig) {
    config.sweep_interval = Duration::from_secs(1);
}

fn region_error(error: RegionErrorKind) -> Action {
    Action::RegionError {
        error,
        backoff_ms: 0,
    }
}

impl Rig {
    async fn new(path: IngestPath) -> Rig {
        Rig::with(path, |_| {}, |_| {}).await
    }

    async fn with(
        path: IngestPath,
        tweak: impl FnOnce(&mut SandboxConfig),
        choose: impl FnOnce(&mut ImporterOptions),
    ) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut config = SandboxConfig::new(dir.path().join("sandbox"));
        tweak(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let sst_dir = dir.path().join("sort");
        std::fs::create_dir_all(&sst_dir).unwrap();
        let mut options = options(path, &sst_dir);
        choose(&mut options);
        let urls = [sandbox.addresses().pd.clone()];
        let pd = PdClient::connect_with(&urls, &Security::default(), options.retry)
            .await
            .unwrap();
        let importer = Arc::new(Importer::new(pd.clone(), options, CancellationToken::new()));
        Rig {
            sandbox,
            pd,
            importer,
            dir,
        }
    }

    /// Another process of the same job.
    fn successor(&self, path: IngestPath) -> Arc<Importer> {
        let options = options(path, &self.dir.path().join("sort"));
        let cancel = CancellationToken::new();
        Arc::new(Importer::new(self.pd.clone(), options, cancel))
    }

    /// The store that leads the table's first region.
    async fn leader(&self) -> u64 {
        let key = keys::record_key(TABLE, 0);
        let region = self.importer.regions().locate(&key).await.unwrap();
        region.leader.unwrap().store_id
    }

    /// Stores sweep their import directories empty.
    async fn no_orphans(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.orphans().is_empty() {
            assert!(Instant::now() < end, "{:?}", self.orphans());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ingest(&self) -> IngestStats {
        let stats = self.try_ingest(MemoryPairs::new(records())).await.unwrap();
        self.holds_all(&stats).await;
        stats
    }

    async fn try_ingest(&self, source: impl PairSource + 'static) -> Result<IngestStats> {
        let (ts, range) = (self.pd.tso().await.unwrap(), keys::table_range(TABLE));
        let (importer, source) = (self.importer.clone(), Arc::new(source));
        let stats = tokio::spawn(async move { importer.ingest_range(&range, ts, source).await });
        stats.await.unwrap()
    }

    async fn holds_all(&self, stats: &IngestStats) {
        assert_eq!(stats.checksum, tally(), "{stats:?}");
        self.sandbox.clear_faults();
        let range = keys::table_range(TABLE);
        assert_eq!(self.importer.checksum(&range).await.unwrap(), tally());
        let panics = self.sandbox.panics();
        assert!(panics.is_empty(), "{panics:?}");
        let again = self.sandbox.state().unwrap().names_used_again;
        assert_eq!(again, 0, "a name that an ingest knew came again");
    }

    /// Counts the calls at a point without doing anything to them.
    fn watch(&self, point: Point) -> impl Fn() -> u64 {
        let id = self
            .sandbox
            .add_fault(Fault::new(point, Action::Delay { ms: 0 }, 0));
        move || {
            let faults = self.sandbox.faults();
            faults.iter().find(|fault| fault.id == id).unwrap().seen
        }
    }

    fn orphans(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.path().join("sandbox")];
        while let Some(dir) = open.pop() {
            // RocksDB and the lint remove directories of theirs meanwhile.
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.ends_with(".temp") && !path.ends_with(".clone") {
                    open.push(path);
                } else if path.to_string_lossy().ends_with("_2.sst") {
                    found.push(path);
                }
            }
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_built_once_arrive_on_every_store() {
    let rig = Rig::new(IngestPath::Upload).await;
    let borders: Vec<_> = (0..6).map(|i| keys::record_key(TABLE, i * 500)).collect();
    rig.importer.split_and_scatter(&borders).await.unwrap();
    let stats = rig.ingest().await;
    assert_eq!((stats.regions, stats.ssts, stats.rewrites), (6, 12, 0));
    assert!(stats.bytes * 3 < tally().bytes, "{stats:?}");
    for store in 1..=3 {
        let held = rig.sandbox.store_checksum(store, &keys::table_range(TABLE));
        assert_eq!(held.unwrap(), tally(), "store {store}");
    }
    let left = std::fs::read_dir(rig.dir.path().join("sort")).unwrap();
    assert_eq!(left.count(), 0, "built files are removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_resend_the_ingest_and_never_the_files() {
    let rig = Rig::new(IngestPath::Upload).await;
    let sent = rig.ingest().await.bytes;
    for action in [
        region_error(RegionErrorKind::NotLeader),
        region_error(RegionErrorKind::NoLeader),
        region_error(RegionErrorKind::ServerIsBusy),
        region_error(RegionErrorKind::StaleCommand),
        region_error(RegionErrorKind::UndeterminedResult),
        region_error(RegionErrorKind::IngestConflict),
        Action::TransferLeader,
    ] {
        let name = format!("{action:?}");
        rig.sandbox.add_fault(Fault::new(Point::Ingest, action, 2));
        let stats = rig.ingest().await;
        assert_eq!(stats.rewrites, 0, "{name} {stats:?}");
        assert!(about(stats.bytes, sent), "{name} {stats:?}");
    }
    rig.sandbox
        .add_fault(Fault::new(Point::IngestDone, Action::DropReply, 1));
    let stats = rig.ingest().await;
    assert_eq!(stats.rewrites, 0, "{stats:?}");
    assert!(about(stats.bytes, sent), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_break_are_sent_again_under_the_same_name() {
    let rig = Rig::new(IngestPath::Upload).await;
    let sent = rig.ingest().await.bytes;
    for (point, action) in [
        (Point::UploadData, Action::FlipBit),
        (Point::UploadDone, Action::DropReply),
        (
            Point::UploadOpen,
            Action::Status {
                code: "unavailable".to_owned(),
                message: "reset".to_owned(),
            },
        ),
        (
            Point::UploadOpen,
            Action::Status {
                code: "unknown".to_owned(),
                message: "ResourceNotEnough(Memory usage too high)".to_owned(),
            },
        ),
    ] {
        let name = format!("{action:?}");
        rig.sandbox.add_fault(Fault::new(point, action, 1));
        let stats = rig.ingest().await;
        assert_eq!(stats.rewrites, 0, "{name} {stats:?}");
        assert!(about(stats.bytes, sent), "{name} {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_changes_gets_the_built_files_cut_again() {
    for (point, action) in [
        (Point::Ingest, Action::Split),
        (Point::Ingest, Action::ConfChange),
        (Point::UploadData, Action::Split),
        (Point::UploadData, Action::ConfChange),
    ] {
        let rig = Rig::with(IngestPath::Upload, sweep_often, |_| {}).await;
        // Data, so that a split has something to halve.
        rig.ingest().await;
        let name = format!("{point:?} {action:?}");
        rig.sandbox.add_fault(Fault::new(point, action, 1));
        let source = Watched::new(|_| {});
        let read = source.pairs.clone();
        let stats = rig.try_ingest(source).await.unwrap();
        rig.holds_all(&stats).await;
        assert!(stats.retries >= 1, "{name} {stats:?}");
        let read = read.load(Ordering::Relaxed);
        assert_eq!(read, ROWS as u64, "{name}: no row is encoded again");
        rig.no_orphans().await;
    }
}

/// The records, with a look at what is done before each batch of them.
struct Watched<F> {
    records: MemoryPairs,
    before: F,
    /// Pairs that were read.
    pairs: Arc<AtomicU64>,
}

struct WatchedReader<F>(Box<dyn PairReader>, F, Arc<AtomicU64>);

impl<F: Fn(u64) + Clone> Watched<F> {
    fn new(before: F) -> Self {
        Self {
            records: MemoryPairs::new(records()),
            before,
            pairs: Arc::default(),
        }
    }
}

impl<F: Fn(u64) + Clone + Send + Sync + 'static> PairSource for Watched<F> {
    fn open(&self, range: &KeyRange) -> Result<Box<dyn PairReader>> {
        let reader = self.records.open(range)?;
        Ok(Box::new(WatchedReader(
            reader,
            self.before.clone(),
            self.pairs.clone(),
        )))
    }
}

impl<F: Fn(u64) + Send> PairReader for WatchedReader<F> {
    fn next_batch(&mut self, batch: &mut PairBatch) -> Result<bool> {
        (self.1)(self.2.load(Ordering::Relaxed));
        let more = self.0.next_batch(batch)?;
        self.2.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(more)
    }
}

/// Damages every file that is being built in `dir` and has reached the disk so far.
fn spoil(dir: &Path) {
    for file in std::fs::read_dir(dir).unwrap() {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(file.unwrap().path())
            .unwrap();
        if file.metadata().unwrap().len() > 2000 {
            file.write_at(&[0; 16], 1000).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_proved_reaches_no_store_and_its_range_goes_through_write() {
    for path in [IngestPath::Auto, IngestPath::Upload] {
        let rig = Rig::new(path).await;
        let uploads = rig.watch(Point::UploadOpen);
        let dir = rig.dir.path().join("sort");
        // Incompressible, so that what is built reaches the disk before all of it is built.
        let value = |i: i64| {
            let mut dice = Dice(i as u64);
            (0..2000).map(|_| dice.roll() as u8).collect::<Vec<_>>()
        };
        let pairs: Vec<_> = (0..ROWS)
            .map(|i| (keys::record_key(TABLE, i), value(i)))
            .collect();
        let mut expected = Checksum::default();
        pairs.iter().for_each(|(k, v)| expected.add(k, v));
        let before = move |read: u64| {
            // In `Auto` the canaries, half a megabyte, go through; the file after them does not.
            if read > 1000 {
                spoil(&dir);
            }
        };
        let source = Watched {
            records: MemoryPairs::new(pairs),
            ..Watched::new(before)
        };
        let stats = rig.try_ingest(source).await.unwrap();
        assert_eq!(stats.checksum, expected, "{path:?}");
        let found = rig.importer.checksum(&keys::table_range(TABLE)).await;
        assert_eq!(found.unwrap(), expected, "{path:?}");
        let told = rig.importer.ingest_path();
        for words in ["by write", "not proved", "this is a bug, please report it"] {
            let words = match (path, words) {
                (IngestPath::Auto, "by write") => "write: ",
                _ => words,
            };
            assert!(told.contains(words), "{told}");
        }
        // The canary of Upload is three peers' files of both families.
        let sent = uploads();
        assert_eq!(
            sent,
            if path == IngestPath::Auto { 6 } else { 0 },
            "{path:?}"
        );
        assert!(rig.sandbox.panics().is_empty() && rig.orphans().is_empty());
        let left = std::fs::read_dir(rig.dir.path().join("sort")).unwrap();
        assert_eq!(left.count(), 0);
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_region_are_ingested_together() {
    let small = |options: &mut ImporterOptions| options.slice_bytes = Some(8 << 10);
    let rig = Rig::with(IngestPath::Upload, |_| {}, small).await;
    let (ingests, uploads) = (rig.watch(Point::Ingest), rig.watch(Point::UploadOpen));
    let stats = rig.try_ingest(MemoryPairs::new(records())).await.unwrap();
    assert!(stats.ssts >= 4, "{stats:?}");
    assert_eq!((stats.regions, ingests()), (1, 1), "{stats:?}");
    assert_eq!(uploads(), 3 * stats.ssts);
    rig.holds_all(&stats).await;
    // What is lost of them together is cut together.
    let rig = Rig::with(IngestPath::Upload, sweep_often, small).await;
    rig.ingest().await;
    for action in [Action::Split, Action::ConfChange] {
        rig.sandbox.add_fault(Fault::new(Point::Ingest, action, 1));
        let stats = rig.ingest().await;
        assert_eq!(stats.rewrites, 1, "{stats:?}");
    }
    rig.no_orphans().await;
}

/// An account with this much left.
struct Disk(AtomicU64);

impl DiskAccount for Disk {
    fn take(&self, bytes: u64) -> bool {
        let take = |free: u64| free.checked_sub(bytes);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, take).is_ok()
    }
    fn take_used(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_wait_for_room_on_disk_and_without_any_the_pairs_go_through_write() {
    let small = |options: &mut ImporterOptions| options.slice_bytes = Some(8 << 10);
    // Room for one file at a time, for none.
    for (free, in_part) in [(100 << 10, false), (10 << 10, true)] {
        let rig = Rig::with(IngestPath::Upload, |_| {}, small).await;
        let borders: Vec<_> = (0..6).map(|i| keys::record_key(TABLE, i * 500)).collect();
        rig.importer.split_and_scatter(&borders).await.unwrap();
        let disk = Arc::new(Disk(free.into()));
        rig.importer.count_files_in(disk.clone());
        let stats = rig.ingest().await;
        let told = rig.importer.ingest_path();
        assert_eq!(
            told.contains("in part by write: no room"),
            in_part,
            "{told}"
        );
        assert_eq!(stats.bytes == tally().bytes, in_part, "{stats:?}");
        assert_eq!(disk.0.load(Ordering::Relaxed), free, "all is given back");
        // A cut file needs room as well; without it the rest goes through Write, and every pair counts once.
        rig.sandbox
            .add_fault(Fault::new(Point::Ingest, Action::Split, 3));
        rig.ingest().await;
        let end = Instant::now() + Duration::from_secs(10);
        while disk.0.load(Ordering::Relaxed) != free {
            assert!(
                Instant::now() < end,
                "a builder nobody listens to keeps its room"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_gets_the_bytes_too_and_is_waited_for_until_it_has_caught_up() {
    for path in [IngestPath::Write, IngestPath::Upload] {
        // A file for a region that its store does not know would be swept at once.
        let lagging = |config: &mut SandboxConfig| {
            (config.stores, config.replicas) = (4, 3);
            config.split_apply_delay = Duration::from_millis(700);
            config.sweep_interval = Duration::from_millis(20);
        };
        let rig = Rig::with(path, lagging, |_| {}).await;
        let key = keys::record_key(TABLE, 0);
        let learner = (1..=4).find(|store| rig.sandbox.add_learner(&key, *store).unwrap());
        let stats = rig.ingest().await;
        let region = rig.importer.regions().locate(&key).await.unwrap();
        assert_eq!(region.peers.len(), 4);
        for store in 1..=4 {
            let held = || rig.sandbox.store_checksum(store, &keys::table_range(TABLE));
            assert_eq!(held().unwrap(), tally(), "{path:?} store {store}");
        }
        assert_eq!(stats.rewrites, 0, "{path:?} {stats:?}");
        // Without its file it would die, as a TiKV does.
        let done = match path {
            IngestPath::Write => Point::WriteDone,
            _ => Point::UploadDone,
        };
        let mut lost = Fault::new(done, Action::LoseFile, 0);
        lost.matching.store = learner;
        rig.sandbox.add_fault(lost);
        rig.try_ingest(MemoryPairs::new(records())).await.unwrap();
        let panics = rig.sandbox.panics();
        assert_eq!(panics.first().map(|panic| panic.store), learner, "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_uploaded_while_a_store_of_the_region_is_down() {
    let rig = Rig::new(IngestPath::Upload).await;
    let follower = rig.leader().await % 3 + 1;
    rig.sandbox.stop_store(follower).unwrap();
    let (asked, uploads) = (rig.watch(Point::Regions), rig.watch(Point::UploadOpen));
    let back = async {
        // PD is asked for the region, and asked again.
        while asked() < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(uploads(), 0);
        rig.sandbox.start_store(follower).unwrap();
    };
    let (stats, ()) = tokio::join!(rig.try_ingest(MemoryPairs::new(records())), back);
    rig.holds_all(&stats.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_first_pairs_do_not_verify_the_job_ends_before_anything_is_uploaded() {
    let rig = Rig::new(IngestPath::Auto).await;
    let uploads = rig.watch(Point::UploadOpen);
    rig.sandbox
        .add_fault(Fault::new(Point::Checksum, Action::Mutate, 1));
    let error = rig
        .try_ingest(MemoryPairs::new(records()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Checksum);
    assert!(
        error.place.contains("store") && error.place.contains("region"),
        "{error}"
    );
    assert!(error.cause.contains("the first"), "{error}");
    assert!(error.advice.contains("TRUNCATE"), "{error}");
    assert_eq!(uploads(), 0);
}

/// The `nth` ingest from now on; the first is the canary of `Write`, the second that of `Upload`.
fn at_ingest(nth: u64, point: Point, action: Action) -> Fault {
    let mut fault = Fault::new(point, action, 1);
    fault.matching.nth = Some(nth);
    fault
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_is_taken_after_a_canary_of_each_kind() {
    let rig = Rig::new(IngestPath::Auto).await;
    let before = rig.importer.ingest_path();
    assert!(before.starts_with("write: too few"), "{before}");
    // One range, and more that wait for the canaries of the first.
    let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
    let ts = rig.pd.tso().await.unwrap();
    let borders = [0, 1000, 2000].map(|i| keys::record_key(TABLE, i));
    let ends = [&borders[1..], &[keys::table_range(TABLE).end]].concat();
    let ranges = borders.into_iter().zip(ends);
    let ranges: Vec<_> = ranges.map(|(a, b)| KeyRange::new(a, b)).collect();
    let ingest = |n: usize| rig.importer.ingest_range(&ranges[n], ts, source.clone());
    let (first, second, third) = tokio::join!(ingest(0), ingest(1), ingest(2));
    let mut all = first.unwrap();
    all.merge(&second.unwrap());
    all.merge(&third.unwrap());
    let path = rig.importer.ingest_path();
    assert!(path.starts_with("upload: the first pairs"), "{path}");
    // Half of the first range went as pairs, the rest as files.
    assert!(all.bytes < tally().bytes / 3, "{all:?}");
    rig.holds_all(&all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_the_leader_cannot_read_harms_no_store_and_all_goes_through_write() {
    let rig = Rig::with(IngestPath::Auto, sweep_often, |_| {}).await;
    let junk = Action::Status {
        code: "unknown".to_owned(),
        message: "EngineTraits(Corruption: Bad table magic number)".to_owned(),
    };
    rig.sandbox.add_fault(at_ingest(2, Point::Ingest, junk));
    let stats = rig.ingest().await;
    let path = rig.importer.ingest_path();
    assert!(path.starts_with("write: the pairs that tried"), "{path}");
    assert!(stats.strays > 0, "{stats:?}");
    assert_eq!(
        rig.importer.retire_files(&[keys::table_range(TABLE)]).await,
        0
    );
    rig.no_orphans().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_whose_reply_is_lost_is_found_in_the_cluster() {
    let rig = Rig::new(IngestPath::Auto).await;
    let lost = at_ingest(2, Point::IngestDone, Action::DropReply);
    rig.sandbox.add_fault(lost);
    let stats = rig.ingest().await;
    assert!(stats.retries >= 1 && stats.rewrites == 0, "{stats:?}");
    let path = rig.importer.ingest_path();
    assert!(path.starts_with("upload"), "{path}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_on_which_upload_was_not_tried_gets_pairs_through_write() {
    for profile in [Profile::V7_5, Profile::V8_1, Profile::V8_5] {
        let rig = Rig::with(IngestPath::Auto, |c| c.profile = profile, |_| {}).await;
        assert_eq!(rig.ingest().await.bytes, tally().bytes);
        let path = rig.importer.ingest_path();
        let why = format!("not tried on version {}", profile.version());
        assert!(path.starts_with("write") && path.contains(&why), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_waited_too_long_are_sent_again_under_another_name() {
    let short = |options: &mut ImporterOptions| options.upload_age_max = Duration::from_secs(2);
    let rig = Rig::with(IngestPath::Upload, sweep_often, short).await;
    let busy = Action::RegionError {
        error: RegionErrorKind::ServerIsBusy,
        backoff_ms: 1200,
    };
    rig.sandbox.add_fault(Fault::new(Point::Ingest, busy, 2));
    let stats = rig.ingest().await;
    assert_eq!((stats.rewrites, stats.strays), (1, 1), "{stats:?}");
    assert!(!rig.orphans().is_empty());
    assert_eq!(
        rig.importer.retire_files(&[keys::table_range(TABLE)]).await,
        0
    );
    rig.no_orphans().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_applies_late_finds_its_file_whatever_the_client_repeats() {
    let rig = Rig::new(IngestPath::Upload).await;
    let leader = rig.leader().await;
    let mut late = Fault::new(Point::Apply, Action::Delay { ms: 1500 }, 0);
    late.matching.store = Some(leader % 3 + 1);
    rig.sandbox.add_fault(late);
    rig.sandbox
        .add_fault(Fault::new(Point::IngestDone, Action::DropReply, 1));
    let stats = rig.ingest().await;
    assert_eq!(stats.rewrites, 0, "{stats:?}");
    for store in 1..=3 {
        let end = Instant::now() + Duration::from_secs(10);
        let held = || rig.sandbox.store_checksum(store, &keys::table_range(TABLE));
        while held().unwrap() != tally() {
            assert!(Instant::now() < end, "store {store}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_file_that_a_follower_loses_kills_its_store_on_either_path() {
    for (path, point) in [
        (IngestPath::Write, Point::WriteDone),
        (IngestPath::Upload, Point::UploadDone),
    ] {
        let rig = Rig::new(path).await;
        let leader = rig.leader().await;
        let mut lost = Fault::new(point, Action::LoseFile, 1);
        lost.matching.store = Some(leader % 3 + 1);
        rig.sandbox.add_fault(lost);
        let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
        let (ts, range) = (rig.pd.tso().await.unwrap(), keys::table_range(TABLE));
        let done = rig.importer.ingest_range(&range, ts, source).await;
        // A quorum has the pairs, and the reply says so; the store is gone.
        assert_eq!(done.unwrap().checksum, tally());
        let panics = rig.sandbox.panics();
        assert_eq!(panics.len(), 1, "{path:?} {panics:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_broken_off_at_any_moment_leave_no_file_on_any_store() {
    for path in [IngestPath::Write, IngestPath::Upload] {
        let rig = Rig::with(path, sweep_often, |_| {}).await;
        let borders: Vec<_> = (0..6).map(|i| keys::record_key(TABLE, i * 500)).collect();
        rig.importer.split_and_scatter(&borders).await.unwrap();
        let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
        let (ts, range) = (rig.pd.tso().await.unwrap(), keys::table_range(TABLE));
        let mut left_behind = 0;
        for kill in 0..100u64 {
            let importer = rig.successor(path);
            let killed_after = Duration::from_micros(kill * 997 % 61_000);
            let work = importer.ingest_range(&range, ts, source.clone());
            let _ = tokio::time::timeout(killed_after, work).await;
            left_behind += usize::from(!rig.orphans().is_empty());
        }
        assert!(left_behind > 0, "{path:?}: nothing was ever left behind");
        let last = rig.successor(path);
        let stats = last.ingest_range(&range, ts, source).await.unwrap();
        assert_eq!(last.retire_files(&[range]).await, 0);
        rig.no_orphans().await;
        rig.holds_all(&stats).await;
    }
}
