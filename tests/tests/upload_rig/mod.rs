//! A sandbox, an importer and the records of one table, for the tests of what the cluster client's `Upload` path has of
//! its own.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thunderhead_cluster::{
    Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs, PairBatch, PairReader,
    PairSource, PdClient, RetryPolicy, Security,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, RegionErrorKind, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, KeyRange, Result};
use tokio_util::sync::CancellationToken;

pub const TABLE: i64 = 106;
pub const ROWS: i64 = 3000;

pub struct Rig {
    pub sandbox: Sandbox,
    pub pd: Arc<PdClient>,
    pub importer: Arc<Importer>,
    pub dir: TempDir,
}

/// Every third value is too long for a write record.
pub fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |i: i64| vec![i as u8; if i % 3 == 0 { 400 } else { 40 }];
    (0..ROWS)
        .map(|i| (keys::record_key(TABLE, i), value(i)))
        .collect()
}

pub fn tally() -> Checksum {
    let mut sum = Checksum::default();
    records().iter().for_each(|(k, v)| sum.add(k, v));
    sum
}

pub fn options(path: IngestPath, dir: &Path) -> ImporterOptions {
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
pub fn about(bytes: u64, expected: u64) -> bool {
    bytes.abs_diff(expected) < 200
}

/// Every second instead of every ten minutes, as `cleanup-import-sst-interval` of TiKV would.
pub fn sweep_often(config: &mut SandboxConfig) {
    config.sweep_interval = Duration::from_secs(1);
}

pub fn region_error(error: RegionErrorKind) -> Action {
    Action::RegionError {
        error,
        backoff_ms: 0,
    }
}

impl Rig {
    pub async fn new(path: IngestPath) -> Rig {
        Rig::with(path, |_| {}, |_| {}).await
    }

    pub async fn with(
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
    pub fn successor(&self, path: IngestPath) -> Arc<Importer> {
        let options = options(path, &self.dir.path().join("sort"));
        let cancel = CancellationToken::new();
        Arc::new(Importer::new(self.pd.clone(), options, cancel))
    }

    /// The store that leads the table's first region.
    pub async fn leader(&self) -> u64 {
        let key = keys::record_key(TABLE, 0);
        let region = self.importer.regions().locate(&key).await.unwrap();
        region.leader.unwrap().store_id
    }

    /// Stores sweep their import directories empty.
    pub async fn no_orphans(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.orphans().is_empty() {
            assert!(Instant::now() < end, "{:?}", self.orphans());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn ingest(&self) -> IngestStats {
        let stats = self.try_ingest(MemoryPairs::new(records())).await.unwrap();
        self.holds_all(&stats).await;
        stats
    }

    pub async fn try_ingest(&self, source: impl PairSource + 'static) -> Result<IngestStats> {
        let (ts, range) = (self.pd.tso().await.unwrap(), keys::table_range(TABLE));
        let (importer, source) = (self.importer.clone(), Arc::new(source));
        let stats = tokio::spawn(async move { importer.ingest_range(&range, ts, source).await });
        stats.await.unwrap()
    }

    pub async fn holds_all(&self, stats: &IngestStats) {
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
    pub fn watch(&self, point: Point) -> impl Fn() -> u64 {
        let id = self
            .sandbox
            .add_fault(Fault::new(point, Action::Delay { ms: 0 }, 0));
        move || {
            let faults = self.sandbox.faults();
            faults.iter().find(|fault| fault.id == id).unwrap().seen
        }
    }

    pub fn orphans(&self) -> Vec<PathBuf> {
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

/// The records, with a look at what is done before each batch of them.
pub struct Watched<F> {
    pub records: MemoryPairs,
    pub before: F,
    /// Pairs that were read.
    pub pairs: Arc<AtomicU64>,
}

pub struct WatchedReader<F>(Box<dyn PairReader>, F, Arc<AtomicU64>);

impl<F: Fn(u64) + Clone> Watched<F> {
    pub fn new(before: F) -> Self {
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
