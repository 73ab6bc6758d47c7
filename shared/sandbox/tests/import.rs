//! The import path as a client sees it: Write, Ingest, checksum, and what goes wrong on the way.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use thunderhead_sandbox::{Action, Fault, Match, Point, RegionErrorKind};
use thunderhead_types::KeyRange;

#[tokio::test(flavor = "multi_thread")]
async fn written_and_ingested_pairs_have_the_checksum_of_their_source_on_every_peer() {
    let mut bench = Bench::start().await;
    let mut data = pairs(0, 3000, 20);
    data.extend(pairs(3000, 3100, 300));
    let ts = bench.tso().await;
    bench.import_pairs(&data, ts).await;
    let target = bench.region_at(&data[0].0).await;
    assert_eq!(
        bench.checksum(&target, b"t", b"u").await.unwrap(),
        checksum(&data)
    );
    let all = KeyRange::new(*b"t", *b"u");
    for store in 1..=3 {
        assert_eq!(
            bench.sandbox.store_checksum(store, &all).unwrap(),
            checksum(&data),
            "store {store}"
        );
    }
    assert_eq!(bench.get(&data[3050].0, ts).await.value, data[3050].1);
    assert!(bench.get(&data[3050].0, ts - 1).await.not_found);
    assert!(
        bench
            .sandbox
            .state()
            .unwrap()
            .stores
            .iter()
            .all(|store| store.import_files == 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_with_an_older_epoch_is_refused_with_the_current_regions() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let old = bench.region_at(&data[0].0).await;
    let metas = bench.write_everywhere(&old, 7, &data).await;
    bench.split(&[b"t00000005"]).await;
    // The region that keeps the id starts at the split key; it is the one that the old context names.
    let error = bench.ingest(&old, &metas).await.unwrap().unwrap();
    assert!(
        error
            .message
            .starts_with("EpochNotMatch current epoch of region"),
        "{}",
        error.message
    );
    let current = error.epoch_not_match.unwrap().current_regions;
    assert_eq!(current.len(), 2);
    // With a fresh context the metas' own epoch is found out when the entry is applied.
    let fresh = bench.region_at(b"t00000007").await;
    assert_eq!(fresh.region.id, old.region.id);
    let error = bench.ingest(&fresh, &metas).await.unwrap().unwrap();
    assert!(
        error.epoch_not_match.is_some() && error.message.contains("!="),
        "{}",
        error.message
    );
    let error = bench.ingest(&fresh, &metas).await.unwrap().unwrap();
    assert_eq!(
        error.message,
        "The file which would be ingested doest not exist."
    );
    assert!(error.stale_command.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_the_file_dies_and_the_leader_answers_ok() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    let dead = target.follower().store_id;
    let meta = target.meta(&data);
    let mut metas = Vec::new();
    for peer in target
        .region
        .peers
        .iter()
        .filter(|peer| peer.store_id != dead)
    {
        metas = bench
            .write(peer.store_id, meta.clone(), 7, &data)
            .await
            .unwrap();
    }
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    let panics = bench.sandbox.panics();
    assert_eq!(
        (panics.len(), panics[0].store, panics[0].region),
        (1, dead, target.region.id)
    );
    assert!(
        panics[0].file.ends_with("_write_2.sst") && panics[0].reason.contains("No such file"),
        "{panics:?}"
    );
    assert!(!bench.sandbox.state().unwrap().stores[dead as usize - 1].alive);
    // It dies again at every start, for its log still names the file.
    bench.sandbox.start_store(dead).unwrap();
    assert_eq!(bench.sandbox.panics().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_can_be_sent_again_after_the_leader_moved() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let old = bench.region_at(&data[0].0).await;
    let metas = bench.write_everywhere(&old, 7, &data).await;
    bench
        .sandbox
        .add_fault(Fault::new(Point::Ingest, Action::TransferLeader, 1));
    let error = bench.ingest(&old, &metas).await.unwrap().unwrap();
    let hint = error.not_leader.unwrap().leader.unwrap();
    assert_ne!(hint.id, old.leader.id);
    let new = Target {
        leader: hint,
        ..old
    };
    assert_eq!(bench.ingest(&new, &metas).await.unwrap(), None);
    assert_eq!(
        bench.checksum(&new, b"t", b"u").await.unwrap(),
        checksum(&data)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_data_and_the_next_ingest_finds_no_file() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    let metas = bench.write_everywhere(&target, 7, &data).await;
    bench
        .sandbox
        .add_fault(Fault::new(Point::IngestDone, Action::DropReply, 1));
    assert_eq!(
        bench.ingest(&target, &metas).await.unwrap_err().code(),
        tonic::Code::Unavailable
    );
    let error = bench.ingest(&target, &metas).await.unwrap().unwrap();
    assert!(error.message.contains("doest not exist"));
    assert_eq!(
        bench.checksum(&target, b"t", b"u").await.unwrap(),
        checksum(&data)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn write_looks_at_the_local_epoch_and_at_the_order_of_keys() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    let with_version = |add: i64| {
        let mut meta = target.meta(&data);
        let epoch = meta.region_epoch.as_mut().unwrap();
        epoch.version = epoch.version.wrapping_add_signed(add);
        meta
    };
    let text = |result: Result<Vec<_>, tonic::Status>| {
        let status = result.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unknown);
        status.message().to_owned()
    };
    assert!(text(bench.write(1, with_version(1), 7, &data).await).starts_with("RequestTooNew("));
    assert!(text(bench.write(1, with_version(-1), 7, &data).await).starts_with("RequestTooOld("));
    let mut unknown = target.meta(&data);
    unknown.region_id = 999;
    assert_eq!(
        text(bench.write(1, unknown, 7, &data).await),
        "RequestTooOld(\"region 999 is not found\")"
    );
    assert_eq!(
        text(bench.write(1, target.meta(&data), 0, &data).await),
        "BadFormat(\"invalid commit-ts 0\")"
    );
    let mut unsorted = data.clone();
    unsorted.swap(1, 2);
    let message = text(bench.write(1, target.meta(&data), 7, &unsorted).await);
    assert!(
        message.contains("Keys must be added in strict ascending order"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_follower_refuses_write_and_loses_uploads_to_the_sweep() {
    let mut bench = Bench::start_with(|config| {
        config.split_apply_delay = std::time::Duration::from_millis(700);
        config.sweep_interval = std::time::Duration::from_millis(20);
    })
    .await;
    bench.sandbox.split(&[b"t5".to_vec()]).unwrap();
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    assert_eq!(target.pending, 2);
    let follower = target.follower().store_id;
    let status = bench
        .write(follower, target.meta(&data), 7, &data)
        .await
        .unwrap_err();
    assert!(
        status.message().starts_with("RequestTooOld("),
        "{}",
        status.message()
    );
    let mut meta = target.meta(&data);
    meta.cf_name = "write".into();
    meta.crc32 = crc32fast::hash(b"anything");
    bench.upload(follower, meta, b"anything").await.unwrap();
    until("the sweep", async || {
        bench.sandbox.state().unwrap().stores[follower as usize - 1].import_files == 0
    })
    .await;
    until("the follower", async || {
        bench.region_at(&data[0].0).await.pending == 0
    })
    .await;
    bench
        .write(follower, target.meta(&data), 7, &data)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_checked_for_their_crc_and_name_and_for_nothing_else() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    let mut meta = target.meta(&data);
    meta.cf_name = "write".into();
    let status = bench.upload(1, meta.clone(), b"junk").await.unwrap_err();
    assert!(
        status.message().starts_with("FileCorrupted(") && status.message().contains("expect 0"),
        "{status}"
    );
    meta.crc32 = crc32fast::hash(b"junk");
    bench.upload(1, meta.clone(), b"junk").await.unwrap();
    let status = bench.upload(1, meta.clone(), b"junk").await.unwrap_err();
    assert!(status.message().starts_with("FileExists("), "{status}");
    for store in [2, 3] {
        bench.upload(store, meta.clone(), b"junk").await.unwrap();
    }
    // Junk on every peer kills the leader, and each leader after it.
    let status = bench.ingest(&target, &[meta]).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(!bench.sandbox.panics().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_with_an_error_answers_that_error_as_often_as_told() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 10, 8);
    let target = bench.region_at(&data[0].0).await;
    let metas = bench.write_everywhere(&target, 7, &data).await;
    let error = RegionErrorKind::ServerIsBusy;
    let mut fault = Fault::new(
        Point::Ingest,
        Action::RegionError {
            error,
            backoff_ms: 33,
        },
        2,
    );
    fault.matching = Match {
        region: Some(target.region.id),
        ..Default::default()
    };
    bench.sandbox.add_fault(fault);
    for _ in 0..2 {
        let busy = bench
            .ingest(&target, &metas)
            .await
            .unwrap()
            .unwrap()
            .server_is_busy
            .unwrap();
        assert_eq!(busy.backoff_ms, 33);
    }
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    assert_eq!(bench.sandbox.faults()[0].fired, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_regions_and_files_survive_a_restart() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 500, 30);
    let ts = bench.tso().await;
    bench.split(&[b"t00000100"]).await;
    bench.import_pairs(&pairs(0, 100, 30), ts).await;
    bench.import_pairs(&pairs(100, 300, 30), ts).await;
    let last = data[300..].to_vec();
    let target = bench.region_at(&last[0].0).await;
    let metas = bench.write_everywhere(&target, ts, &last).await;
    let (regions, stores) = (
        bench.scan().await.len(),
        bench.sandbox.addresses().stores.clone(),
    );
    let mut bench = bench.restart().await;
    assert_eq!(
        (
            bench.scan().await.len(),
            bench.sandbox.addresses().stores.clone()
        ),
        (regions, stores)
    );
    assert!(bench.tso().await > ts);
    let target = bench.region_at(&last[0].0).await;
    assert_eq!(bench.ingest(&target, &metas).await.unwrap(), None);
    let all = KeyRange::new(*b"t", *b"u");
    for store in 1..=3 {
        assert_eq!(
            bench.sandbox.store_checksum(store, &all).unwrap(),
            checksum(&data)
        );
    }
}
