//! The cluster client when stores and PD are slow, silent, gone or replaced, both ways, through `Write` and through
//! `Upload`. `cluster_faults` goes through all faults that the sandbox can inject.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thunderhead_cluster::{
    Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs, PairSource, PdClient,
    RetryPolicy, Security,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, RegionErrorKind, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

const TABLE: i64 = 105;
const PATHS: [IngestPath; 2] = [IngestPath::Write, IngestPath::Upload];

struct Rig {
    sandbox: Sandbox,
    pd: Arc<PdClient>,
    importer: Arc<Importer>,
    path: IngestPath,
    _dir: TempDir,
}

fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..2000)
        .map(|i| (keys::record_key(TABLE, i), vec![i as u8; 300]))
        .collect()
}

fn tally() -> Checksum {
    let mut sum = Checksum::default();
    records()
        .iter()
        .for_each(|(key, value)| sum.add(key, value));
    sum
}

fn options(path: IngestPath) -> ImporterOptions {
    ImporterOptions {
        path,
        retry: RetryPolicy {
            max_elapsed: Duration::from_secs(30),
        },
        scatter_patience: Duration::from_secs(10),
        ..ImporterOptions::default()
    }
}

impl Rig {
    async fn with(stores: u32, options: ImporterOptions) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut config = SandboxConfig::new(dir.path());
        config.stores = stores;
        let sandbox = Sandbox::start(config).await.unwrap();
        let urls = [sandbox.addresses().pd.clone()];
        let pd = PdClient::connect_with(&urls, &Security::default(), options.retry)
            .await
            .unwrap();
        let path = options.path;
        let importer = Arc::new(Importer::new(pd.clone(), options, CancellationToken::new()));
        Rig {
            path,
            sandbox,
            pd,
            importer,
            _dir: dir,
        }
    }

    async fn ingest_at(&self, commit_ts: u64) -> Result<IngestStats> {
        let source: Arc<dyn PairSource> = Arc::new(MemoryPairs::new(records()));
        let (importer, range) = (self.importer.clone(), keys::table_range(TABLE));
        tokio::spawn(async move { importer.ingest_range(&range, commit_ts, source).await })
            .await
            .unwrap()
    }

    async fn ingest(&self) -> Result<IngestStats> {
        self.ingest_at(self.pd.tso().await?).await
    }

    /// A message of data, as a point of faults.
    fn data(&self) -> Point {
        match self.path {
            IngestPath::Write => Point::WriteBatch,
            _ => Point::UploadData,
        }
    }

    /// Nothing of what the stats are of was sent twice: it is what an ingest without trouble sends.
    async fn sent_once(&self, stats: &IngestStats) {
        self.sandbox.clear_faults();
        let clean = self.ingest().await.unwrap();
        // Files of the same pairs differ by their ids and timestamps.
        let close = stats.bytes.abs_diff(clean.bytes) < 200;
        assert!(stats.rewrites == 0 && close, "{stats:?} {clean:?}");
    }

    /// What leaders hold is what was sent, and no store died of a file.
    async fn holds_all(&self) {
        self.sandbox.clear_faults();
        let range = keys::table_range(TABLE);
        assert_eq!(self.importer.checksum(&range).await.unwrap(), tally());
        assert!(self.sandbox.panics().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_that_is_not_answered_in_time_is_asked_for_again_with_the_same_files() {
    for path in PATHS {
        let impatient = ImporterOptions {
            ingest_deadline: Duration::from_millis(300),
            ..options(path)
        };
        let rig = Rig::with(3, impatient).await;
        for point in [Point::Ingest, Point::IngestDone] {
            let late = Action::Delay { ms: 2000 };
            rig.sandbox.add_fault(Fault::new(point, late, 1));
            let stats = rig.ingest().await.unwrap();
            assert!(stats.retries >= 1, "{point:?}");
            rig.sent_once(&stats).await;
            rig.holds_all().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_gone_prove_nothing_when_no_ingest_is_in_doubt() {
    for path in PATHS {
        let rig = Rig::with(3, options(path)).await;
        let commit_ts = rig.pd.tso().await.unwrap();
        rig.ingest_at(commit_ts).await.unwrap();
        // The same pairs are there already; a slice whose files are gone is written again all the same.
        let gone = Action::RegionError {
            error: RegionErrorKind::FileNotExist,
            backoff_ms: 0,
        };
        rig.sandbox.add_fault(Fault::new(Point::Ingest, gone, 1));
        let stats = rig.ingest_at(commit_ts).await.unwrap();
        assert_eq!(stats.rewrites, 1, "{stats:?}");
        rig.holds_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_holds_back_and_nothing_is_sent_twice() {
    for path in PATHS {
        let rig = Rig::with(3, options(path)).await;
        let mut slow = Fault::new(rig.data(), Action::Delay { ms: 100 }, 0);
        slow.matching.store = Some(2);
        rig.sandbox.add_fault(slow);
        let stats = rig.ingest().await.unwrap();
        assert_eq!(stats.retries, 0, "{stats:?}");
        assert!(rig.sandbox.faults()[0].fired > 0);
        rig.sent_once(&stats).await;
        rig.holds_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_scaled_in_is_replaced_by_what_pd_knows_now() {
    for path in PATHS {
        let one_by_one = ImporterOptions {
            regions_in_flight: 1,
            ..options(path)
        };
        let rig = Rig::with(4, one_by_one).await;
        let borders: Vec<_> = (0..8).map(|i| keys::record_key(TABLE, i * 250)).collect();
        rig.importer.split_and_scatter(&borders).await.unwrap();
        let slowly = Action::Delay { ms: 100 };
        rig.sandbox.add_fault(Fault::new(rig.data(), slowly, 0));
        // All regions are known when the first is written; then the store goes and PD forgets it.
        let remove = async {
            while rig.sandbox.faults()[0].fired == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(rig.sandbox.remove_store(2).unwrap());
        };
        let (stats, ()) = tokio::join!(rig.ingest(), remove);
        let stats = stats.unwrap();
        assert!(stats.retries >= 1, "{stats:?}");
        rig.holds_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_keep_flowing_while_pd_is_away() {
    for path in PATHS {
        let rig = Rig::with(3, options(path)).await;
        let commit_ts = rig.pd.tso().await.unwrap();
        rig.ingest_at(commit_ts).await.unwrap();
        let away = Action::Status {
            code: "unavailable".to_owned(),
            message: "PD is away".to_owned(),
        };
        for point in [Point::Pd, Point::Regions, Point::Tso] {
            rig.sandbox.add_fault(Fault::new(point, away.clone(), 0));
        }
        let ingest = rig.ingest_at(commit_ts);
        let back = async {
            // Long enough for many refusals, much less than the importer's patience.
            while rig.sandbox.faults().iter().map(|f| f.fired).sum::<u64>() < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            rig.sandbox.clear_faults();
        };
        let stats = tokio::select! {
            stats = ingest => stats,
            stats = async { back.await; rig.ingest_at(commit_ts).await } => stats,
        };
        assert_eq!(stats.unwrap().checksum, tally());
        rig.holds_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_restarts_between_write_and_ingest_keeps_its_finished_files() {
    for path in PATHS {
        let rig = Rig::with(3, options(path)).await;
        // The leader dies at the ingest, when every peer has finished its files, and comes back.
        rig.sandbox
            .add_fault(Fault::new(Point::Ingest, Action::StopStore, 1));
        let revive = async {
            let dead = loop {
                let state = rig.sandbox.state().unwrap();
                if let Some(store) = state.stores.iter().find(|store| !store.alive) {
                    break store.id;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            rig.sandbox.start_store(dead).unwrap();
        };
        let (stats, ()) = tokio::join!(rig.ingest(), revive);
        let stats = stats.unwrap();
        rig.sent_once(&stats).await;
        rig.holds_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_api_version_is_told_at_once() {
    for path in PATHS {
        let rig = Rig::with(3, options(path)).await;
        let refused = Action::Status {
            code: "unknown".to_owned(),
            message: "IncompatibleApiVersion".to_owned(),
        };
        let open = match path {
            IngestPath::Write => Point::WriteOpen,
            _ => Point::UploadOpen,
        };
        rig.sandbox.add_fault(Fault::new(open, refused, 0));
        let error = rig.ingest().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cluster);
        assert!(error.place.contains("store"), "{error}");
        assert!(error.advice.to_lowercase().contains("api"), "{error}");
    }
}
