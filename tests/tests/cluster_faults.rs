//! Every trouble that the sandbox can play ([`TROUBLES`]), on both ways into stores, and what must come of it. Fails
//! when a trouble, a place where faults strike, an action or a region error is not played here.
//! `THUNDERHEAD_TROUBLE=F24` plays one alone. Single troubles with more of their detail are in `cluster_import`,
//! `cluster_outages`, `cluster_services`, `cluster_upload`, many at once in `cluster_random_faults`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thunderhead_cluster::{
    GuardOptions, Guards, Importer, ImporterOptions, IngestPath, IngestStats, MemoryPairs,
    PdClient, RetryPolicy, Security,
};
use thunderhead_codec::keys::{record_key, table_range};
use thunderhead_proto::import_sstpb::SuspendImportRpcRequest;
use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_sandbox::{
    Action, Fault, Match, Point, Profile, RegionErrorKind as Kind, Sandbox, SandboxConfig, TROUBLES,
};
use thunderhead_tests::import::http_client;
use thunderhead_types::{Checksum, ErrorKind, KeyRange, Result};
use tokio_util::sync::CancellationToken;

const ROWS: i64 = 1200;
const PATIENCE: Duration = Duration::from_secs(60);

/// What must come of an ingest under faults.
enum Outcome {
    /// Everything arrives and nothing is sent twice.
    Once,
    /// Everything arrives; some of it may be sent again.
    Arrives,
    /// Some of it is sent again, because its files are useless, and everything arrives.
    Again,
    /// The job ends and the advice has this word.
    Told(&'static str),
}
use Outcome::{Again, Arrives, Once, Told};

struct Rig {
    sandbox: Sandbox,
    pd: Arc<PdClient>,
    path: IngestPath,
    options: ImporterOptions,
    importer: Arc<Importer>,
    next_table: i64,
    /// What an ingest without trouble sends.
    clean: u64,
    /// What struck so far, for the end.
    struck: BTreeSet<(&'static str, String)>,
    dir: TempDir,
}

fn pairs(table: i64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |i: i64| vec![i as u8; if i % 3 == 0 { 400 } else { 40 }];
    (0..ROWS)
        .map(|i| (record_key(table, i), value(i)))
        .collect()
}

fn tally(table: i64) -> Checksum {
    let mut sum = Checksum::default();
    pairs(table).iter().for_each(|(k, v)| sum.add(k, v));
    sum
}

fn region_error(error: Kind, backoff_ms: u64) -> Action {
    Action::RegionError { error, backoff_ms }
}

fn status(code: &str, message: &str) -> Action {
    Action::Status {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn name(value: serde_json::Result<serde_json::Value>) -> String {
    value.unwrap().as_str().unwrap().to_owned()
}

/// All names that deserializing knows: they are in what it says of one that it does not.
fn known(of_unknown: serde_json::Error) -> BTreeSet<String> {
    let text = of_unknown.to_string();
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.skip(1).map(str::to_owned).collect()
}

impl Rig {
    async fn start(path: IngestPath, tweak: impl FnOnce(&mut SandboxConfig)) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut config = SandboxConfig::new(dir.path().join("sandbox"));
        config.stores = 4;
        config.pd_members = 3;
        config.sweep_interval = Duration::from_millis(300);
        tweak(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let sst_dir = dir.path().join("sort");
        std::fs::create_dir(&sst_dir).unwrap();
        let options = ImporterOptions {
            retry: RetryPolicy {
                max_elapsed: PATIENCE,
            },
            ingest_deadline: Duration::from_secs(2),
            scatter_patience: Duration::from_secs(1),
            path,
            sst_dir: Some(sst_dir),
            ..ImporterOptions::default()
        };
        let members = &sandbox.addresses().pd_members;
        let pd = PdClient::connect_with(members, &Security::default(), options.retry).await;
        let pd = pd.unwrap();
        let mut rig = Rig {
            importer: importer(&pd, &options),
            sandbox,
            pd,
            path,
            options,
            next_table: 200,
            clean: 0,
            struck: BTreeSet::new(),
            dir,
        };
        let table = rig.table();
        rig.clean = rig.ingest_into(table).await.unwrap().bytes;
        rig.retire(table).await;
        rig
    }

    async fn retire(&self, table: i64) {
        let left = self.importer.retire_files(&[table_range(table)]).await;
        assert_eq!(left, 0);
    }

    /// All in one region.
    fn whole_table(&mut self) -> i64 {
        self.next_table += 1;
        self.next_table
    }

    /// Cut into two regions.
    fn table(&mut self) -> i64 {
        self.next_table += 1;
        let borders = [0, ROWS / 2, ROWS].map(|row| record_key(self.next_table, row));
        self.sandbox.split(&borders).unwrap();
        self.next_table
    }

    async fn ingest_into(&self, table: i64) -> Result<IngestStats> {
        let source = Arc::new(MemoryPairs::new(pairs(table)));
        let (ts, range) = (self.pd.tso().await?, table_range(table));
        let importer = self.importer.clone();
        // Spawned: the future must be able to move between threads.
        let stats = tokio::spawn(async move { importer.ingest_range(&range, ts, source).await });
        stats.await.unwrap()
    }

    /// Ends the faults and remembers which of them struck.
    fn end_faults(&mut self) -> u64 {
        let faults = self.sandbox.faults();
        self.sandbox.clear_faults();
        let mut fired = 0;
        for fault in faults.iter().filter(|fault| fault.fired > 0) {
            fired += 1;
            self.struck
                .insert(("point", name(serde_json::to_value(fault.point))));
            let action = serde_json::to_value(&fault.action).unwrap();
            let kind = action["kind"].as_str().unwrap();
            self.struck.insert(("action", kind.to_owned()));
            if let Action::RegionError { error, .. } = fault.action {
                self.struck
                    .insert(("error", name(serde_json::to_value(error))));
            }
        }
        fired
    }

    fn add(&self, point: Point, action: Action, times: u64) {
        self.sandbox.add_fault(Fault::new(point, action, times));
    }

    fn add_on(&self, store: u64, point: Point, action: Action, times: u64) {
        let matching = Match {
            store: Some(store),
            ..Match::default()
        };
        self.sandbox.add_fault(Fault {
            matching,
            ..Fault::new(point, action, times)
        });
    }

    /// A stream that opens, a message of data, the end of a stream, as points of faults.
    fn points(&self) -> [Point; 3] {
        match self.path {
            IngestPath::Write => [Point::WriteOpen, Point::WriteBatch, Point::WriteDone],
            _ => [Point::UploadOpen, Point::UploadData, Point::UploadDone],
        }
    }

    /// Ingests under one fault.
    async fn play(&mut self, what: &str, point: Point, action: Action, times: u64, must: Outcome) {
        let what = format!("{what} {:?}: {action:?} at {point:?}", self.path);
        self.add(point, action, times);
        self.expect(&what, must).await;
    }

    /// Ingests under the faults that are in force, all of which must strike.
    async fn expect(&mut self, what: &str, must: Outcome) {
        let table = self.table();
        let result = tokio::select! {
            result = self.ingest_into(table) => result,
            () = self.revive() => unreachable!("it never ends"),
        };
        for store in 1..=self.sandbox.addresses().stores.len() as u64 {
            self.sandbox.start_store(store).unwrap();
        }
        let in_force = self.sandbox.faults().len() as u64;
        assert_eq!(self.end_faults(), in_force, "{what}: not all faults struck");
        if !matches!(&result, Ok(stats) if stats.strays == 0) {
            // As a coordinator does in the end. What strays here is met by `all_swept`.
            self.retire(table).await;
        }
        match (must, result) {
            (Told(word), Err(error)) => {
                assert_eq!(error.kind, ErrorKind::Cluster, "{what}: {error}");
                assert!(error.place.contains("store"), "{what}: {error}");
                assert!(error.advice.contains(word), "{what}: {error}");
            }
            (must, result) => {
                let stats = result.unwrap_or_else(|error| panic!("{what}: {error}"));
                let close = stats.bytes.abs_diff(self.clean) < 400;
                match must {
                    Once => assert!(stats.rewrites == 0 && close, "{what}: {stats:?}"),
                    Again => assert!(stats.rewrites > 0, "{what}: {stats:?}"),
                    Arrives => {}
                    Told(word) => panic!("{what}: nobody said {word}"),
                }
                self.holds(what, table, &stats).await;
            }
        }
    }

    /// Every replica holds the table, no store died of a file, and no name was used twice.
    async fn holds(&self, what: &str, table: i64, stats: &IngestStats) {
        let (range, expected) = (table_range(table), tally(table));
        assert_eq!(stats.checksum, expected, "{what}: what was counted");
        let held = self.importer.checksum(&range).await.unwrap();
        assert_eq!(held, expected, "{what}: what leaders hold");
        let replicas = || {
            let stores = self.sandbox.addresses().stores.len() as u64;
            let stores = (1..=stores).map(|id| self.sandbox.store_checksum(id, &range).unwrap());
            let mut sum = Checksum::default();
            stores.for_each(|store| sum.merge(&store));
            sum
        };
        until(&format!("{what}: three replicas"), || {
            tokio::task::block_in_place(replicas).kvs == 3 * expected.kvs
        })
        .await;
        self.unharmed(what);
    }

    fn unharmed(&self, what: &str) {
        assert_eq!(self.sandbox.panics(), [], "{what}");
        assert_eq!(
            self.sandbox.state().unwrap().names_used_again,
            0,
            "{what}: a name that an ingest knew came again"
        );
    }

    /// Starts stores again that a fault has stopped.
    async fn revive(&self) {
        loop {
            let state = self.sandbox.state().unwrap();
            for store in state.stores.iter().filter(|store| !store.alive) {
                self.sandbox.start_store(store.id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Files that no ingest took.
    fn import_files(&self) -> u64 {
        let state = self.sandbox.state().unwrap();
        state.stores.iter().map(|store| store.import_files).sum()
    }

    async fn all_swept(&self, what: &str) {
        until(what, || self.import_files() == 0).await;
    }

    async fn leader(&self, table: i64) -> u64 {
        let key = record_key(table, 0);
        let region = self.importer.regions().locate(&key).await.unwrap();
        region.leader.unwrap().store_id
    }

    async fn control(&self, path: &str, body: &str) {
        let url = format!("http://{}{path}", self.sandbox.addresses().pd);
        let request = http_client().post(url);
        let request = request.header("content-type", "application/json");
        let reply = request.body(body.to_owned()).send().await.unwrap();
        assert!(reply.status().is_success(), "{path}: {}", reply.status());
    }
}

fn importer(pd: &Arc<PdClient>, options: &ImporterOptions) -> Arc<Importer> {
    let cancel = CancellationToken::new();
    Arc::new(Importer::new(pd.clone(), options.clone(), cancel))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Plays the trouble of that number; false when it is not known here.
async fn trouble(rig: &mut Rig, id: &str) -> bool {
    let [open, data, done] = rig.points();
    let uploads = rig.path == IngestPath::Upload;
    // `Write` has nothing to send again when a stream breaks: it writes again, which counts as such.
    let once_if_built = || if uploads { Once } else { Arrives };
    let away = || status("unavailable", "connection reset");
    match id {
        "F1" => {
            rig.play(id, Point::Ingest, Action::Split, 1, Again).await;
            let error = region_error(Kind::EpochNotMatch, 0);
            rig.play(id, Point::Ingest, error, 1, Again).await;
        }
        "F2" => rig.play(id, data, Action::Split, 1, Arrives).await,
        "F3" => {
            rig.play(id, Point::Ingest, Action::ConfChange, 1, Again)
                .await;
        }
        "F4" => {
            let error = region_error(Kind::NotLeader, 0);
            rig.play(id, Point::Ingest, error, 2, Once).await;
            rig.play(id, Point::Ingest, Action::TransferLeader, 1, Once)
                .await;
            split_under(rig, region_error(Kind::NotLeader, 0)).await;
        }
        "F5" => {
            for kind in [
                Kind::NoLeader,
                Kind::ReadIndexNotReady,
                Kind::ProposalDropped,
            ] {
                let error = region_error(kind, 0);
                rig.play(id, Point::Ingest, error, 2, Once).await;
            }
        }
        "F6" => {
            rig.play(id, Point::Ingest, Action::Merge, 1, Again).await;
            let error = region_error(Kind::RegionNotFound, 0);
            rig.play(id, Point::Ingest, error, 1, Again).await;
        }
        "F7" => {
            for asked in [0, 700] {
                let error = region_error(Kind::ServerIsBusy, asked);
                rig.play(id, Point::Ingest, error, 2, Once).await;
            }
        }
        "F8" => suspended(rig).await,
        "F9" => {
            // Reading whether it is done meets trouble, too.
            rig.add(Point::Kv, region_error(Kind::ServerIsBusy, 0), 1);
            rig.play(id, Point::IngestDone, Action::DropReply, 1, Once)
                .await;
            let error = region_error(Kind::FileNotExist, 0);
            rig.play(id, Point::Ingest, error, 1, Again).await;
        }
        "F10" => {
            let error = region_error(Kind::StaleCommand, 0);
            rig.play(id, Point::Ingest, error, 2, Once).await;
        }
        "F11" => {
            let error = region_error(Kind::UndeterminedResult, 0);
            rig.play(id, Point::Ingest, error, 2, Once).await;
            let late = Action::Delay { ms: 4000 };
            rig.play(id, Point::IngestDone, late, 1, Once).await;
        }
        "F12" => {
            let error = region_error(Kind::IngestConflict, 0);
            rig.play(id, Point::Ingest, error, 2, Once).await;
        }
        "F13" => lagging_follower(rig.path).await,
        "F14" => {
            rig.play(id, data, Action::StopStore, 1, Arrives).await;
        }
        "F15" => {
            rig.add_on(2, data, Action::Delay { ms: 100 }, 0);
            rig.expect(id, Once).await;
        }
        "F16" => {
            let error = region_error(Kind::DiskFull, 0);
            let told = || Told("free space");
            rig.play(id, Point::Ingest, error, 0, told()).await;
            let full = status("unknown", "DiskSpaceNotEnough");
            rig.play(id, open, full, 0, told()).await;
        }
        "F17" => {
            let short = status("unknown", "ResourceNotEnough(\"Memory usage too high\")");
            rig.play(id, open, short, 1, once_if_built()).await;
        }
        "F18" => {
            rig.add(Point::Pd, status("unavailable", "not leader"), 2);
            rig.control("/sandbox/pd-leader", r#"{"member": 1}"#).await;
            // Asked for by everything that has to look at the stores.
            assert_eq!(rig.pd.stores().await.unwrap().len(), 4);
            rig.expect(id, Once).await;
        }
        "F19" => {
            for point in [Point::Regions, Point::Tso] {
                rig.add(point, status("unavailable", "PD is away"), 3);
            }
            rig.expect(id, Once).await;
        }
        "F20" => {
            let before = rig.pd.tso().await.unwrap();
            rig.play(id, Point::Tso, Action::TsoJump { ms: 3_600_000 }, 1, Once)
                .await;
            rig.play(id, Point::Tso, Action::TsoExhaust { left: 0 }, 1, Once)
                .await;
            assert!(rig.pd.tso().await.unwrap() > before);
        }
        "F21" => {
            rig.play(
                id,
                Point::Tso,
                status("unavailable", "stream lost"),
                1,
                Once,
            )
            .await;
        }
        "F22" => rig.play(id, data, away(), 2, once_if_built()).await,
        "F23" => {
            rig.play(id, done, Action::DropReply, 1, once_if_built())
                .await;
        }
        "F23b" => {
            let table = rig.table();
            let leader = rig.leader(table).await;
            let late = Action::Delay { ms: 1000 };
            // One of them is a follower of the region.
            for store in (1..=4).filter(|store| *store != leader).take(2) {
                rig.add_on(store, Point::Apply, late.clone(), 0);
            }
            rig.add(Point::IngestDone, Action::DropReply, 1);
            let stats = rig.ingest_into(table).await.unwrap();
            rig.end_faults();
            assert_eq!(stats.rewrites, 0, "{stats:?}");
            rig.holds(id, table, &stats).await;
            rig.retire(table).await;
        }
        "F24" => importer_dies(rig).await,
        "F25" => {
            rig.play(id, Point::Ingest, Action::StopStore, 1, Once)
                .await;
        }
        "F26" => lost_file(rig, done).await,
        "F27" if uploads => rig.play(id, data, Action::FlipBit, 1, Once).await,
        "F27" => {
            // Pairs travel without a checksum of their own: that of the range tells.
            rig.add(data, Action::FlipBit, 0);
            let table = rig.whole_table();
            let stats = rig.ingest_into(table).await.unwrap();
            assert_eq!(rig.end_faults(), 1, "{id}");
            let sum = rig.importer.checksum(&table_range(table)).await.unwrap();
            assert_ne!(sum, stats.checksum, "{id}");
        }
        "F28" => {
            let refused = status("unknown", "IncompatibleApiVersion");
            rig.play(id, open, refused, 0, Told("API")).await;
        }
        "F29" => old_server(rig).await,
        "F30" => {
            rig.play(id, Point::Regions, Action::NoLeader, 2, Once)
                .await;
        }
        "F31" => rig.play(id, Point::Regions, Action::Hole, 2, Once).await,
        "F32" => {
            for state in ["running", "timeout", "cancel"] {
                let operator = Action::Operator {
                    status: state.to_owned(),
                };
                rig.add(Point::Operator, operator, 0);
                let table = rig.table();
                let borders: Vec<_> = (1..5).map(|i| record_key(table, i * 100)).collect();
                rig.importer.split_and_scatter(&borders).await.unwrap();
                assert_eq!(rig.end_faults(), 1, "{id} {state}");
                let stats = rig.ingest_into(table).await.unwrap();
                rig.holds(id, table, &stats).await;
                rig.retire(table).await;
            }
        }
        "F33" => passed_by_gc(rig).await,
        "F34" => {
            // Our clock is a month behind that of the cluster from here on; that nobody reads it is in `repository`.
            let month = Action::TsoJump {
                ms: 30 * 24 * 3_600_000,
            };
            rig.play(id, Point::Tso, month, 1, Once).await;
            rig.expect(id, Once).await;
        }
        "F35" => {
            let table = rig.table();
            let stats = rig.ingest_into(table).await.unwrap();
            rig.holds(id, table, &stats).await;
            let borders = [0, ROWS / 2, ROWS].map(|row| record_key(table, row));
            let rows = KeyRange::new(borders[0].clone(), borders[2].clone());
            rig.add(Point::Checksum, Action::Mutate, 1);
            let sum = rig.importer.checksum(&rows).await.unwrap();
            assert_eq!(rig.end_faults(), 1);
            assert_ne!(sum, tally(table));
            // Which of the two regions it is in is seen by their own sums.
            let mut wrong = 0;
            for half in borders.windows(2) {
                let half = KeyRange::new(half[0].clone(), half[1].clone());
                let mut expected = Checksum::default();
                let inside = pairs(table).into_iter().filter(|(k, _)| half.contains(k));
                inside.for_each(|(k, v)| expected.add(&k, &v));
                wrong += u32::from(rig.importer.checksum(&half).await.unwrap() != expected);
            }
            assert_eq!(wrong, 1);
        }
        _ => return false,
    }
    true
}

async fn split_under(rig: &mut Rig, action: Action) {
    rig.add(Point::SplitRegion, action, 2);
    let table = rig.table();
    let borders: Vec<_> = (1..9).map(|i| record_key(table, i * 100)).collect();
    let stats = rig.importer.split_and_scatter(&borders).await.unwrap();
    assert_eq!(rig.end_faults(), 1);
    assert!(stats.new_regions >= 7, "{stats:?}");
}

async fn suspended(rig: &mut Rig) {
    rig.add(Point::ImportAdmin, Action::Delay { ms: 1 }, 0);
    for address in rig.sandbox.addresses().stores.clone() {
        let mut store = ImportSstClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        let request = SuspendImportRpcRequest {
            should_suspend_imports: true,
            duration_in_secs: 3,
            ..Default::default()
        };
        store.suspend_import_rpc(request).await.unwrap();
    }
    let state = rig.sandbox.state().unwrap();
    assert!(state.stores.iter().all(|store| store.suspended));
    rig.expect("F8", Once).await;
}

async fn lagging_follower(path: IngestPath) {
    // A file for a region that its store does not know would be swept at once, and an ingest would kill the store.
    let mut rig = Rig::start(path, |config| {
        config.split_apply_delay = Duration::from_millis(700);
        config.sweep_interval = Duration::from_millis(20);
    })
    .await;
    let table = rig.table();
    let stats = rig.ingest_into(table).await.unwrap();
    assert_eq!(stats.rewrites, 0, "{stats:?}");
    rig.holds("F13", table, &stats).await;
}

async fn importer_dies(rig: &mut Rig) {
    let [_, _, done] = rig.points();
    let table = rig.table();
    rig.add_on(2, done, Action::Delay { ms: 3000 }, 0);
    rig.add_on(3, done, Action::Delay { ms: 3000 }, 0);
    let files = async {
        while rig.import_files() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let source = Arc::new(MemoryPairs::new(pairs(table)));
    let (ts, range) = (rig.pd.tso().await.unwrap(), table_range(table));
    tokio::select! {
        _ = rig.importer.ingest_range(&range, ts, source) => panic!("it was over too soon"),
        () = files => {}
    }
    rig.end_faults();
    rig.importer = importer(&rig.pd, &rig.options);
    let stats = rig.ingest_into(table).await.unwrap();
    rig.holds("F24", table, &stats).await;
    rig.retire(table).await;
    rig.all_swept("files of the dead importer").await;
}

async fn lost_file(shared: &mut Rig, done: Point) {
    let mut rig = Rig::start(shared.path, |config| config.stores = 3).await;
    let table = rig.whole_table();
    let follower = rig.leader(table).await % 3 + 1;
    rig.add_on(follower, done, Action::LoseFile, 1);
    // A quorum has the pairs, and the reply says so; the store is gone, as a TiKV would be.
    let stats = rig.ingest_into(table).await.unwrap();
    assert_eq!(stats.checksum, tally(table));
    let panics = rig.sandbox.panics();
    assert_eq!((panics.len(), panics[0].store), (1, follower));
    rig.end_faults();
    shared.struck.extend(rig.struck);
}

async fn old_server(shared: &mut Rig) {
    let mut rig = Rig::start(shared.path, |config| config.profile = Profile::V7_5).await;
    if rig.path == IngestPath::Write {
        // Servers without MultiIngest are older than any on which files of ours were tried.
        let unknown = status("unimplemented", "");
        rig.play("F29", Point::Ingest, unknown, 1, Once).await;
    }
    rig.expect("F29", Once).await;
    // What only newer servers can show, and what a table that held rows is asked for.
    let table = rig.table();
    let since = rig.pd.tso().await.unwrap();
    for _ in 0..2 {
        rig.ingest_into(table).await.unwrap();
    }
    let busy = region_error(Kind::ServerIsBusy, 0);
    rig.add(Point::DuplicateDetect, busy, 1);
    let seen = rig.importer.overwritten(&table_range(table), since).await;
    assert_eq!(rig.end_faults(), 1);
    assert_eq!(seen.unwrap().twice, ROWS as u64);
    shared.struck.extend(rig.struck);
}

async fn passed_by_gc(rig: &mut Rig) {
    rig.add(Point::Gc, Action::SafePointPassed, 0);
    let table = rig.table();
    let ts = rig.pd.tso().await.unwrap();
    let ranges = [table_range(table)];
    let options = GuardOptions::default();
    let opened = Guards::open_with(rig.importer.clone(), "f33", &ranges, ts, options).await;
    assert!(opened.is_err(), "it would have been collected");
    assert_eq!(rig.end_faults(), 1);
    rig.all_swept("nothing was sent").await;
}

async fn all_of(path: IngestPath) {
    let mut rig = Rig::start(path, |_| {}).await;
    let only = std::env::var("THUNDERHEAD_TROUBLE").ok();
    for (id, what) in TROUBLES {
        if only.as_ref().is_some_and(|only| only != id) {
            continue;
        }
        let begun = Instant::now();
        assert!(
            trouble(&mut rig, id).await,
            "{id}, {what}, is not played here"
        );
        println!("{id} {what}: {:.1} s", begun.elapsed().as_secs_f64());
        rig.unharmed(id);
    }
    let left = std::fs::read_dir(rig.dir.path().join("sort")).unwrap();
    assert_eq!(left.count(), 0, "built files are removed");
    if only.is_some() {
        return;
    }
    let unknown_point = serde_json::from_str::<Point>("\"?\"").unwrap_err();
    let unknown_action = serde_json::from_str::<Action>(r#"{"kind": "?"}"#).unwrap_err();
    let unknown_error = serde_json::from_str::<Kind>("\"?\"").unwrap_err();
    let other_path = match path {
        IngestPath::Write => "upload-",
        _ => "write-",
    };
    for (what, known) in [
        ("point", known(unknown_point)),
        ("action", known(unknown_action)),
        ("error", known(unknown_error)),
    ] {
        assert!(known.len() > 10, "{known:?}");
        for name in known.iter().filter(|name| !name.starts_with(other_path)) {
            let struck = rig.struck.contains(&(what, name.clone()));
            assert!(struck, "no trouble of {path:?} has {what} {name}");
        }
    }
    rig.sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trouble_of_the_sandbox_is_lived_through_by_write() {
    all_of(IngestPath::Write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trouble_of_the_sandbox_is_lived_through_by_upload() {
    all_of(IngestPath::Upload).await;
}
