//! Files that are built once and sent to every peer, and files that nobody ingests: what only the cluster
//! client's `Upload` path has, and what broken-off attempts leave on either path, against the sandbox, whose
//! stores die of a bad or missing file as TiKV's do. What both paths have in common is in `cluster_import`,
//! `cluster_outages` and `cluster_random_faults`.
#![allow(clippy::unwrap_used)]

mod upload_rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thunderhead_cluster::{ImporterOptions, IngestPath, MemoryPairs, PairSource};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, Profile, RegionErrorKind, SandboxConfig};
use thunderhead_types::{ErrorKind, KeyRange};
use upload_rig::{ROWS, Rig, TABLE, Watched, about, records, region_error, sweep_often, tally};

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
