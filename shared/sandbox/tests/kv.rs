//! Transactions, splits and checksums through a store's key-value service.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use thunderhead_proto::kvrpcpb::{Action as TxnAction, *};
use thunderhead_sandbox::{Action, Fault, Point, RegionErrorKind};

async fn prewrite(
    bench: &mut Bench,
    key: &[u8],
    value: &[u8],
    start_version: u64,
    ttl: u64,
) -> PrewriteResponse {
    let target = bench.region_at(key).await;
    let mutation = Mutation {
        op: Op::Put.into(),
        key: key.to_vec().into(),
        value: value.to_vec().into(),
    };
    let request = PrewriteRequest {
        context: Some(target.context()),
        mutations: vec![mutation],
        primary_lock: key.to_vec().into(),
        start_version,
        lock_ttl: ttl,
        ..Default::default()
    };
    bench
        .tikv(target.leader.store_id)
        .await
        .kv_prewrite(request)
        .await
        .unwrap()
        .into_inner()
}

async fn commit(
    bench: &mut Bench,
    key: &[u8],
    start_version: u64,
    commit_version: u64,
) -> CommitResponse {
    let target = bench.region_at(key).await;
    let keys = vec![key.to_vec().into()];
    let request = CommitRequest {
        context: Some(target.context()),
        start_version,
        keys,
        commit_version,
    };
    bench
        .tikv(target.leader.store_id)
        .await
        .kv_commit(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_value_is_seen_from_its_commit_on_whatever_its_length() {
    let mut bench = Bench::start().await;
    for (key, len) in [(b"short", 3), (b"long1", 1000)] {
        let value = vec![7u8; len];
        let start = bench.tso().await;
        assert!(
            prewrite(&mut bench, key, &value, start, 3000)
                .await
                .errors
                .is_empty()
        );
        let later = bench.tso().await;
        assert_eq!(
            bench
                .get(key, later)
                .await
                .error
                .unwrap()
                .locked
                .unwrap()
                .lock_version,
            start
        );
        assert!(bench.get(key, start - 1).await.not_found);
        let at = bench.tso().await;
        assert!(commit(&mut bench, key, start, at).await.error.is_none());
        assert!(
            commit(&mut bench, key, start, at).await.error.is_none(),
            "a second commit is no error"
        );
        assert_eq!(bench.get(key, at).await.value, value);
        assert!(bench.get(key, at - 1).await.not_found);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_after_the_start_of_a_transaction_is_a_conflict() {
    let mut bench = Bench::start().await;
    let (old, new) = (bench.tso().await, bench.tso().await);
    prewrite(&mut bench, b"k", b"new", new, 3000).await;
    assert_eq!(
        prewrite(&mut bench, b"k", b"old", old, 3000).await.errors[0]
            .locked
            .as_ref()
            .unwrap()
            .lock_version,
        new
    );
    let at = bench.tso().await;
    commit(&mut bench, b"k", new, at).await;
    let conflict = prewrite(&mut bench, b"k", b"old", old, 3000).await.errors[0]
        .conflict
        .clone()
        .unwrap();
    assert_eq!(
        (
            conflict.start_ts,
            conflict.conflict_ts,
            conflict.conflict_commit_ts
        ),
        (old, new, at)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_time_is_over_is_rolled_back_and_cannot_commit() {
    let mut bench = Bench::start().await;
    let start = bench.tso().await;
    prewrite(&mut bench, b"k", b"v", start, 1).await;
    let target = bench.region_at(b"k").await;
    let mut request = CheckTxnStatusRequest {
        context: Some(target.context()),
        primary_key: "k".into(),
        lock_ts: start,
        current_ts: start,
        ..Default::default()
    };
    let mut tikv = bench.tikv(target.leader.store_id).await;
    assert_eq!(
        tikv.kv_check_txn_status(request.clone())
            .await
            .unwrap()
            .into_inner()
            .lock_ttl,
        1
    );
    request.current_ts = start + (10 << 18);
    let status = tikv
        .kv_check_txn_status(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.action(), status.lock_ttl, status.commit_version),
        (TxnAction::TtlExpireRollback, 0, 0)
    );
    assert!(
        commit(&mut bench, b"k", start, start + 1)
            .await
            .error
            .unwrap()
            .txn_lock_not_found
            .is_some()
    );
    let now = bench.tso().await;
    assert!(bench.get(b"k", now).await.not_found);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_left_behind_can_be_found_and_resolved() {
    let mut bench = Bench::start().await;
    let start = bench.tso().await;
    for key in [b"a", b"b", b"c"] {
        prewrite(&mut bench, key, key, start, 3000).await;
    }
    let target = bench.region_at(b"a").await;
    let context = Some(target.context());
    let mut tikv = bench.tikv(target.leader.store_id).await;
    let scan = ScanLockRequest {
        context: context.clone(),
        max_version: u64::MAX,
        start_key: "b".into(),
        ..Default::default()
    };
    let locks = tikv
        .kv_scan_lock(scan.clone())
        .await
        .unwrap()
        .into_inner()
        .locks;
    assert_eq!(
        locks.iter().map(|lock| &lock.key[..]).collect::<Vec<_>>(),
        [b"b", b"c"]
    );
    let resolve = ResolveLockRequest {
        context: context.clone(),
        start_version: start,
        commit_version: start + 1,
        ..Default::default()
    };
    tikv.kv_resolve_lock(resolve).await.unwrap();
    assert!(
        tikv.kv_scan_lock(scan)
            .await
            .unwrap()
            .into_inner()
            .locks
            .is_empty()
    );
    let scan = ScanRequest {
        context,
        limit: 2,
        version: start + 1,
        ..Default::default()
    };
    let keys = |pairs: Vec<KvPair>| {
        pairs
            .into_iter()
            .map(|pair| pair.key.to_vec())
            .collect::<Vec<_>>()
    };
    let pairs = tikv.kv_scan(scan.clone()).await.unwrap().into_inner().pairs;
    assert_eq!(keys(pairs), [b"a", b"b"]);
    let back = ScanRequest {
        reverse: true,
        start_key: "d".into(),
        ..scan
    };
    assert_eq!(
        keys(tikv.kv_scan(back).await.unwrap().into_inner().pairs),
        [b"c", b"b"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn split_region_takes_raw_keys_in_any_order_and_ignores_the_start() {
    let mut bench = Bench::start().await;
    bench.split(&[b"b"]).await;
    let target = bench.region_at(b"c").await;
    let mut tikv = bench.tikv(target.leader.store_id).await;
    let split = |target: &Target, keys: &[&'static str]| SplitRegionRequest {
        context: Some(target.context()),
        split_keys: keys.iter().map(|key| (*key).into()).collect(),
        ..Default::default()
    };
    let regions = tikv
        .split_region(split(&target, &["e", "b", "d", "e"]))
        .await
        .unwrap()
        .into_inner()
        .regions;
    let starts: Vec<_> = regions
        .iter()
        .map(|region| region.start_key.to_vec())
        .collect();
    assert_eq!(starts, [encode(b"b"), encode(b"d"), encode(b"e")]);
    assert_eq!(regions[2].id, target.region.id);
    let version = target.region.region_epoch.unwrap().version;
    assert!(
        regions
            .iter()
            .all(|region| region.region_epoch.unwrap().version == version + 2)
    );
    assert!(
        bench.region_at(b"d").await.pending > 0,
        "followers are pending right after a split"
    );
    let error = tikv
        .split_region(split(&target, &["x"]))
        .await
        .unwrap()
        .into_inner()
        .region_error
        .unwrap();
    assert!(error.epoch_not_match.is_some());
    let target = bench.region_at(b"d").await;
    let error = tikv
        .split_region(split(&target, &["x"]))
        .await
        .unwrap()
        .into_inner()
        .region_error
        .unwrap();
    assert!(error.key_not_in_region.is_some());
    let error = tikv
        .split_region(split(&target, &["d"]))
        .await
        .unwrap()
        .into_inner()
        .region_error
        .unwrap();
    assert_eq!(error.message, "no valid key found for split.");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked_in_the_order_of_tikv() {
    let mut bench = Bench::start().await;
    let target = bench.region_at(b"k").await;
    let get = |context| GetRequest {
        context: Some(context),
        key: "k".into(),
        version: 1,
        ..Default::default()
    };
    let mut tikv = bench.tikv(target.leader.store_id).await;
    let mut context = target.context();
    context.term = 1;
    context.region_epoch.as_mut().unwrap().version += 1;
    context.peer = Some(target.follower());
    let mut error = async |context: &Context| {
        tikv.kv_get(get(context.clone()))
            .await
            .unwrap()
            .into_inner()
            .region_error
            .unwrap()
    };
    assert!(error(&context).await.store_not_match.is_some());
    context.peer.as_mut().unwrap().store_id = target.leader.store_id;
    context.region_id += 77;
    assert!(error(&context).await.region_not_found.is_some());
    context.region_id -= 77;
    assert!(error(&context).await.mismatch_peer_id.is_some());
    context.peer = Some(target.leader);
    assert_eq!(error(&context).await.message, "stale command");
    context.term = 0;
    assert!(error(&context).await.epoch_not_match.is_some());
    context.cluster_id = 3;
    assert!(tikv.kv_get(get(context)).await.is_err());
    let peer = target.follower();
    let get = get(Context {
        peer: Some(peer),
        ..target.context()
    });
    let response = bench
        .tikv(peer.store_id)
        .await
        .kv_get(get)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        response.region_error.unwrap().not_leader.unwrap().leader,
        Some(target.leader)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_shows_in_the_checksum() {
    let mut bench = Bench::start().await;
    let data = pairs(0, 100, 20);
    bench.import_pairs(&data, 5).await;
    let target = bench.region_at(b"t").await;
    assert_eq!(
        bench.checksum(&target, b"t", b"u").await.unwrap(),
        checksum(&data)
    );
    bench
        .sandbox
        .add_fault(Fault::new(Point::Checksum, Action::Mutate, 1));
    let sum = bench.checksum(&target, b"t", b"u").await.unwrap();
    assert_eq!(
        (sum.kvs, sum.bytes),
        (checksum(&data).kvs, checksum(&data).bytes)
    );
    assert_ne!(sum.crc64_xor, checksum(&data).crc64_xor);
    let error = RegionErrorKind::ReadIndexNotReady;
    bench.sandbox.add_fault(Fault::new(
        Point::Checksum,
        Action::RegionError {
            error,
            backoff_ms: 0,
        },
        1,
    ));
    assert!(
        bench
            .checksum(&target, b"t", b"u")
            .await
            .unwrap_err()
            .read_index_not_ready
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_store_refuses_connections_and_its_regions_go_on_elsewhere() {
    let mut bench = Bench::start().await;
    bench.import_pairs(&pairs(0, 10, 8), 5).await;
    let old = bench.region_at(b"t").await;
    bench.sandbox.stop_store(old.leader.store_id).unwrap();
    let new = bench.region_at(b"t").await;
    assert_ne!(new.leader.store_id, old.leader.store_id);
    bench.import_pairs_to_live(&pairs(10, 20, 8), 5).await;
    let address = bench.sandbox.addresses().stores[old.leader.store_id as usize - 1].clone();
    until("the port to close", async || {
        tokio::net::TcpStream::connect(&address).await.is_err()
    })
    .await;
    bench.sandbox.start_store(old.leader.store_id).unwrap();
    until("the port to open", async || {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;
    assert_eq!(
        bench.checksum(&new, b"t", b"u").await.unwrap(),
        checksum(&pairs(0, 20, 8))
    );
}
