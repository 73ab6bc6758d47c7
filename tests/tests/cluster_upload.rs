//! Files that are built once and sent to every peer, and files that nobody ingests: the cluster client's
//! `Upload` path and its ledger against the sandbox, whose stores die of a bad or missing file as TiKV's do.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thunderhead_cluster::{
    Importer, ImporterOptions, IngestPath, IngestStats, Ledger, MemoryPairs, PairSource, PdClient,
    RetryPolicy, Security,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, Profile, RegionErrorKind, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, KeyRange};
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
        ledger: Ledger::open(Some(dir.join("files"))).unwrap(),
        ..ImporterOptions::default()
    }
}

/// Files of the same pairs differ by their ids and timestamps.
fn about(bytes: u64, expected: u64) -> bool {
    bytes.abs_diff(expected) < 200
}

fn region_error(error: RegionErrorKind) -> Action {
    Action::RegionError {
        error,
        backoff_ms: 0,
    }
}

impl Rig {
    async fn new(path: IngestPath) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut config = SandboxConfig::new(dir.path().join("sandbox"));
        config.profile = Profile::V9_0;
        // What is swept away on its own proves nothing.
        config.sweep_interval = Duration::from_secs(3600);
        let sandbox = Sandbox::start(config).await.unwrap();
        let sst_dir = dir.path().join("sort");
        std::fs::create_dir_all(&sst_dir).unwrap();
        let options = options(path, &sst_dir);
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

    /// Another process of the same job, with what the one before left in its directory.
    fn successor(&self, path: IngestPath, cancel: &CancellationToken) -> Arc<Importer> {
        let options = options(path, &self.dir.path().join("sort"));
        Arc::new(Importer::new(self.pd.clone(), options, cancel.clone()))
    }

    async fn ingest(&self) -> IngestStats {
        let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
        let (ts, range) = (self.pd.tso().await.unwrap(), keys::table_range(TABLE));
        let importer = self.importer.clone();
        let stats = tokio::spawn(async move { importer.ingest_range(&range, ts, source).await });
        let stats = stats.await.unwrap().unwrap();
        self.holds_all(&stats).await;
        stats
    }

    async fn holds_all(&self, stats: &IngestStats) {
        assert_eq!(stats.checksum, tally(), "{stats:?}");
        self.sandbox.clear_faults();
        let range = keys::table_range(TABLE);
        assert_eq!(self.importer.checksum(&range).await.unwrap(), tally());
        let panics = self.sandbox.panics();
        assert!(panics.is_empty(), "{panics:?}");
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
    let left: Vec<_> = left.flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["files"], "built files are removed");
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
        let rig = Rig::new(IngestPath::Upload).await;
        // Data, so that a split has something to halve.
        rig.ingest().await;
        let name = format!("{point:?} {action:?}");
        rig.sandbox.add_fault(Fault::new(point, action, 1));
        let stats = rig.ingest().await;
        assert!(stats.retries >= 1, "{name} {stats:?}");
        assert_eq!(rig.importer.discard_orphans().await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_is_taken_after_a_canary_of_each_kind() {
    let rig = Rig::new(IngestPath::Auto).await;
    let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
    let ts = rig.pd.tso().await.unwrap();
    let mut all = IngestStats::default();
    for i in 0..3 {
        let range = KeyRange::new(
            keys::record_key(TABLE, i * 1000),
            keys::record_key(TABLE, (i + 1) * 1000),
        );
        let before = rig.importer.ingest_path();
        assert!(before.starts_with("write"), "{before}");
        let stats = rig.importer.ingest_range(&range, ts, source.clone()).await;
        all.merge(&stats.unwrap());
        if i == 1 {
            break;
        }
    }
    let path = rig.importer.ingest_path();
    assert!(path.starts_with("upload"), "{path}");
    let range = KeyRange::new(keys::record_key(TABLE, 2000), Vec::new());
    let range = KeyRange::new(range.start, keys::table_range(TABLE).end);
    all.merge(&rig.importer.ingest_range(&range, ts, source).await.unwrap());
    rig.holds_all(&all).await;
}
