//! The cluster client against the sandbox: pairs arrive complete, whatever regions, leaders, stores
//! and PD do meanwhile, and are written again only when their files became useless.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thunderhead_cluster::{
    Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs, PairSource, PdClient,
    RetryPolicy, Security,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, Profile, RegionErrorKind, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange};
use tokio_util::sync::CancellationToken;

const TABLE: i64 = 104;
const PATHS: [IngestPath; 2] = [IngestPath::Write, IngestPath::Upload];

struct Rig {
    sandbox: Sandbox,
    pd: Arc<PdClient>,
    importer: Arc<Importer>,
    cancel: CancellationToken,
    path: IngestPath,
    _dir: TempDir,
}

/// 3000 records, some of whose values are too long to be stored in the write column family.
fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |i: i64| vec![i as u8; if i % 3 == 0 { 400 } else { 40 }];
    (0..3000)
        .map(|i| (keys::record_key(TABLE, i), value(i)))
        .collect()
}

fn border(handle: i64) -> Vec<u8> {
    keys::record_key(TABLE, handle)
}

fn tally(pairs: &[(Vec<u8>, Vec<u8>)]) -> Checksum {
    let mut sum = Checksum::default();
    pairs.iter().for_each(|(key, value)| sum.add(key, value));
    sum
}

fn patient(seconds: u64) -> ImporterOptions {
    ImporterOptions {
        retry: RetryPolicy {
            max_elapsed: Duration::from_secs(seconds),
        },
        scatter_patience: Duration::from_secs(10),
        ..ImporterOptions::default()
    }
}

impl Rig {
    async fn new() -> Rig {
        Rig::with(|_| {}, patient(60)).await
    }

    async fn by(path: IngestPath) -> Rig {
        Rig::on(path, |_| {}).await
    }

    async fn on(path: IngestPath, tweak: impl FnOnce(&mut SandboxConfig)) -> Rig {
        let options = ImporterOptions {
            path,
            ..patient(60)
        };
        Rig::with(tweak, options).await
    }

    async fn with(tweak: impl FnOnce(&mut SandboxConfig), options: ImporterOptions) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut config = SandboxConfig::new(dir.path());
        tweak(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let urls = [sandbox.addresses().pd.clone()];
        let pd = PdClient::connect_with(&urls, &Security::default(), options.retry)
            .await
            .unwrap();
        let cancel = CancellationToken::new();
        let path = options.path;
        let importer = Arc::new(Importer::new(pd.clone(), options, cancel.clone()));
        Rig {
            sandbox,
            pd,
            importer,
            cancel,
            path,
            _dir: dir,
        }
    }

    fn fault(&self, point: Point, action: Action, times: u64) {
        self.sandbox.add_fault(Fault::new(point, action, times));
    }

    async fn try_ingest(&self) -> Result<IngestStats, Error> {
        let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
        let commit_ts = self.pd.tso().await.unwrap();
        let (importer, range) = (self.importer.clone(), keys::table_range(TABLE));
        // Spawned: the future must be able to move between threads.
        tokio::spawn(async move { importer.ingest_range(&range, commit_ts, source).await })
            .await
            .unwrap()
    }

    /// Ingests, and checks that everything is there once, on every store.
    async fn ingest(&self) -> IngestStats {
        let stats = self.try_ingest().await.unwrap();
        let expected = tally(&records());
        assert_eq!(stats.checksum, expected, "what the importer counted");
        self.sandbox.clear_faults();
        let range = keys::table_range(TABLE);
        assert_eq!(
            self.importer.checksum(&range).await.unwrap(),
            expected,
            "what leaders hold"
        );
        assert!(
            self.sandbox.panics().is_empty(),
            "{:?}",
            self.sandbox.panics()
        );
        stats
    }

    /// Nothing was sent twice: it is what an ingest without trouble sends.
    async fn sent_once(&self, stats: &IngestStats) {
        let clean = self.ingest().await;
        // Files of the same pairs differ by their ids and timestamps.
        let close = stats.bytes.abs_diff(clean.bytes) < 200;
        assert!(stats.rewrites == 0 && close, "{stats:?} {clean:?}");
    }

    /// A stream that opens, a message of data, the end of a stream, as points of faults.
    fn points(&self) -> [Point; 3] {
        match self.path {
            IngestPath::Write => [Point::WriteOpen, Point::WriteBatch, Point::WriteDone],
            _ => [Point::UploadOpen, Point::UploadData, Point::UploadDone],
        }
    }

    async fn stop(self) {
        self.sandbox.shutdown().await;
    }
}

fn region_error(error: RegionErrorKind) -> Action {
    Action::RegionError {
        error,
        backoff_ms: 0,
    }
}

fn status(code: &str, message: &str) -> Action {
    Action::Status {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_over_many_regions_arrive_on_every_store() {
    for profile in [Profile::V7_5, Profile::V8_5, Profile::V9_0] {
        let rig = Rig::with(|config| config.profile = profile, patient(60)).await;
        let borders: Vec<_> = (0..10).map(|i| border(i * 300)).collect();
        let split = rig.importer.split_and_scatter(&borders).await.unwrap();
        assert!(split.new_regions >= 10, "{profile:?} {split:?}");
        let again = rig.importer.split_and_scatter(&borders).await.unwrap();
        assert_eq!(
            (again.new_regions, again.known_borders),
            (0, 10),
            "{profile:?}"
        );
        let stats = rig.ingest().await;
        assert_eq!((stats.regions, stats.rewrites), (10, 0), "{profile:?}");
        assert_eq!(stats.ssts, 20, "a file for each column family");
        for store in 1..=3 {
            let held = rig
                .sandbox
                .store_checksum(store, &keys::table_range(TABLE))
                .unwrap();
            assert_eq!(held, tally(&records()), "{profile:?} store {store}");
        }
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_limit_cuts_a_region_into_several_ingests() {
    let options = ImporterOptions {
        slice_bytes: Some(1),
        ..patient(60)
    };
    let rig = Rig::with(|_| {}, options).await;
    let stats = rig.ingest().await;
    // Batches are half a megabyte; each becomes a slice.
    assert_eq!(stats.bytes, tally(&records()).bytes);
    assert_eq!(stats.regions, stats.bytes.div_ceil(512 << 10));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingesting_again_with_the_same_timestamp_changes_nothing() {
    let rig = Rig::new().await;
    let commit_ts = rig.pd.tso().await.unwrap();
    let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
    let range = keys::table_range(TABLE);
    for part in [
        range.clone(),
        KeyRange::new(border(1000), border(2000)),
        range.clone(),
    ] {
        rig.importer
            .ingest_range(&part, commit_ts, source.clone())
            .await
            .unwrap();
    }
    assert_eq!(
        rig.importer.checksum(&range).await.unwrap(),
        tally(&records())
    );
    let part = KeyRange::new(border(1000), border(2000));
    assert_eq!(
        rig.importer.checksum(&part).await.unwrap(),
        tally(&records()[1000..2000])
    );
    assert_eq!(
        rig.importer
            .checksum(&KeyRange::new(border(9), border(9)))
            .await
            .unwrap()
            .kvs,
        0
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_leave_the_files_usable_repeat_only_the_ingest() {
    for path in PATHS {
        use RegionErrorKind as Kind;
        let rig = Rig::by(path).await;
        let mut actions: Vec<Action> = [
            Kind::NotLeader,
            Kind::NoLeader,
            Kind::ServerIsBusy,
            Kind::StaleCommand,
            Kind::UndeterminedResult,
            Kind::ReadIndexNotReady,
            Kind::ProposalDropped,
            Kind::IngestConflict,
        ]
        .map(region_error)
        .into();
        actions.push(Action::TransferLeader);
        actions.push(status("unavailable", "connection reset"));
        for action in actions {
            rig.fault(Point::Ingest, action.clone(), 2);
            let stats = rig.ingest().await;
            rig.sent_once(&stats).await;
            assert!(stats.retries >= 1, "{action:?} {stats:?}");
        }
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_store_is_left_alone_for_as_long_as_it_asks() {
    for path in PATHS {
        let rig = Rig::by(path).await;
        let busy = Action::RegionError {
            error: RegionErrorKind::ServerIsBusy,
            backoff_ms: 1500,
        };
        rig.fault(Point::Ingest, busy, 1);
        let start = tokio::time::Instant::now();
        let stats = rig.ingest().await;
        assert!(start.elapsed() >= Duration::from_millis(1500));
        rig.sent_once(&stats).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_noticed_as_done_without_writing_again() {
    for path in PATHS {
        let rig = Rig::by(path).await;
        rig.fault(Point::IngestDone, Action::DropReply, 1);
        let stats = rig.ingest().await;
        assert!(stats.retries >= 1);
        rig.sent_once(&stats).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_gone_without_an_ingest_are_written_again() {
    for path in PATHS {
        let rig = Rig::by(path).await;
        rig.fault(
            Point::Ingest,
            region_error(RegionErrorKind::FileNotExist),
            1,
        );
        let stats = rig.ingest().await;
        assert_eq!(stats.rewrites, 1);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_changes_before_the_ingest_is_written_again_by_its_parts() {
    for path in PATHS {
        for action in [
            Action::Split,
            Action::Merge,
            Action::ConfChange,
            region_error(RegionErrorKind::EpochNotMatch),
            region_error(RegionErrorKind::RegionNotFound),
        ] {
            let rig = Rig::on(path, |config| config.stores = 4).await;
            let borders = [border(0), border(1000), border(2000)];
            rig.importer.split_and_scatter(&borders).await.unwrap();
            rig.fault(Point::Ingest, action.clone(), 1);
            let stats = rig.ingest().await;
            assert!(stats.rewrites >= 1, "{action:?} {stats:?}");
            // Only the slices of what changed: the third region is never written twice.
            assert!(
                stats.bytes < 2 * tally(&records()).bytes,
                "{action:?} {stats:?}"
            );
            rig.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_changes_while_it_is_written_is_found_again() {
    for path in PATHS {
        for action in [Action::Split, Action::ConfChange, Action::TransferLeader] {
            let rig = Rig::on(path, |config| config.stores = 4).await;
            rig.fault(rig.points()[1], action, 1);
            rig.ingest().await;
            rig.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_streams_that_break_are_opened_again() {
    let rig = Rig::new().await;
    for (point, action) in [
        (
            Point::WriteOpen,
            status("unknown", "Engine RequestTooNew(region)"),
        ),
        (Point::WriteOpen, status("unknown", "RequestTooOld(region)")),
        (
            Point::WriteOpen,
            status("unknown", "ResourceNotEnough(\"Memory usage too high\")"),
        ),
        (Point::WriteBatch, status("unavailable", "reset")),
        (Point::WriteDone, Action::DropReply),
    ] {
        rig.fault(point, action.clone(), 2);
        let stats = rig.ingest().await;
        assert!(stats.retries >= 1, "{action:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_does_not_know_the_region_yet_is_waited_for() {
    for path in PATHS {
        let lag = Duration::from_millis(700);
        let rig = Rig::on(path, |config| config.split_apply_delay = lag).await;
        rig.sandbox.split(&[border(0), border(1500)]).unwrap();
        let stats = rig.ingest().await;
        assert_eq!(stats.rewrites, 0);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_at_once() {
    for path in PATHS {
        for (at_ingest, action) in [
            (true, region_error(RegionErrorKind::DiskFull)),
            (false, status("unknown", "DiskSpaceNotEnough")),
        ] {
            let rig = Rig::by(path).await;
            let point = if at_ingest {
                Point::Ingest
            } else {
                rig.points()[0]
            };
            rig.fault(point, action, 0);
            let error = rig.try_ingest().await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Cluster);
            assert!(error.advice.contains("free space"), "{error}");
            assert!(error.place.contains("store"), "{error}");
            rig.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_ends_with_the_first_cause_and_cancelling_ends_at_once() {
    let rig = Rig::with(|_| {}, patient(2)).await;
    rig.fault(
        Point::Ingest,
        region_error(RegionErrorKind::ServerIsBusy),
        0,
    );
    let error = rig.try_ingest().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cluster);
    assert!(error.cause.contains("busy"), "{error}");
    rig.stop().await;

    let rig = Rig::new().await;
    rig.fault(
        Point::Ingest,
        region_error(RegionErrorKind::ServerIsBusy),
        0,
    );
    let cancel = rig.cancel.clone();
    let (outcome, ()) = tokio::join!(rig.try_ingest(), async {
        while rig.sandbox.faults()[0].fired == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::Cancelled);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_and_comes_back_only_delays() {
    for path in PATHS {
        let rig = Rig::by(path).await;
        rig.fault(Point::Ingest, Action::StopStore, 1);
        let revive = async {
            let dead = loop {
                let state = rig.sandbox.state().unwrap();
                if let Some(store) = state.stores.iter().find(|store| !store.alive) {
                    break store.id;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            rig.sandbox.start_store(dead).unwrap();
        };
        let (_, ()) = tokio::join!(rig.ingest(), revive);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_survive_what_happens_to_regions() {
    use RegionErrorKind as Kind;
    for kind in [
        Kind::NotLeader,
        Kind::NoLeader,
        Kind::ServerIsBusy,
        Kind::EpochNotMatch,
        Kind::StaleCommand,
    ] {
        let rig = Rig::new().await;
        rig.fault(Point::SplitRegion, region_error(kind), 2);
        let borders: Vec<_> = (0..200).map(|i| border(i * 10)).collect();
        let stats = rig.importer.split_and_scatter(&borders).await.unwrap();
        assert_eq!(stats.new_regions, 200, "{kind:?} {stats:?}");
        let again = rig.importer.split_and_scatter(&borders).await.unwrap();
        assert_eq!(again.new_regions, 0, "{kind:?}");
        rig.ingest().await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_survive_what_happens_to_regions_and_see_what_differs() {
    let rig = Rig::new().await;
    // Regions that hold nothing but our records, so that a changed value is one of ours.
    rig.importer
        .split_and_scatter(&[border(0), border(3000)])
        .await
        .unwrap();
    rig.ingest().await;
    let range = KeyRange::new(border(0), border(3000));
    for action in [
        region_error(RegionErrorKind::NotLeader),
        region_error(RegionErrorKind::EpochNotMatch),
        region_error(RegionErrorKind::ServerIsBusy),
        Action::Split,
        Action::TransferLeader,
        status("unavailable", "reset"),
    ] {
        rig.fault(Point::Checksum, action.clone(), 2);
        let sum = rig.importer.checksum(&range).await.unwrap();
        assert_eq!(sum, tally(&records()), "{action:?}");
    }
    rig.sandbox.clear_faults();
    rig.fault(Point::Checksum, Action::Mutate, 1);
    assert_ne!(
        rig.importer.checksum(&range).await.unwrap(),
        tally(&records())
    );
    rig.stop().await;
}
