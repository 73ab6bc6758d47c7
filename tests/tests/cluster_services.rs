//! The cluster client against the sandbox's PD and TiDB: members, timestamps, guards, table models.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use thunderhead_cluster::{
    GuardOptions, Guards, Importer, ImporterOptions, MemoryPairs, PdClient, RetryPolicy, Security,
    SqlTls, TidbClient, TidbOptions,
};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point, Profile, Sandbox, SandboxConfig};
use thunderhead_types::{Checksum, ErrorKind, KeyRange};
use tokio_util::sync::CancellationToken;

async fn sandbox(tweak: impl FnOnce(&mut SandboxConfig)) -> (Sandbox, TempDir) {
    let dir = TempDir::new().unwrap();
    let mut config = SandboxConfig::new(dir.path());
    tweak(&mut config);
    (Sandbox::start(config).await.unwrap(), dir)
}

fn patience(seconds: u64) -> RetryPolicy {
    RetryPolicy {
        max_elapsed: Duration::from_secs(seconds),
    }
}

async fn connect(urls: &[String], seconds: u64) -> Arc<PdClient> {
    PdClient::connect_with(urls, &Security::default(), patience(seconds))
        .await
        .unwrap()
}

fn importer(pd: &Arc<PdClient>) -> Arc<Importer> {
    Arc::new(Importer::new(
        pd.clone(),
        ImporterOptions::default(),
        CancellationToken::new(),
    ))
}

fn status(code: &str, message: &str) -> Action {
    Action::Status {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_grow_also_over_lost_streams_and_jumps() {
    let (sandbox, _dir) = sandbox(|_| {}).await;
    let pd = connect(&[sandbox.addresses().pd.clone()], 30).await;
    let mut before = 0;
    for action in [
        None,
        Some(status("unavailable", "stream lost")),
        Some(Action::TsoJump { ms: 3_600_000 }),
        Some(Action::TsoExhaust { left: 0 }),
        None,
    ] {
        if let Some(action) = action {
            sandbox.add_fault(Fault::new(Point::Tso, action, 1));
        }
        let ts = pd.tso().await.unwrap();
        assert!(ts > before);
        before = ts;
    }
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pd_leader_that_moves_is_followed_from_any_member() {
    let (sandbox, _dir) = sandbox(|config| config.pd_members = 3).await;
    let members = sandbox.addresses().pd_members.clone();
    assert_eq!(members.len(), 3);
    let dead = "127.0.0.1:1".to_owned();
    let pd = connect(&[dead, members[2].clone()], 30).await;
    assert_eq!(pd.stores().await.unwrap().len(), 3);
    sandbox.add_fault(Fault::new(
        Point::Pd,
        status("unavailable", "not leader"),
        2,
    ));
    assert_eq!(pd.stores().await.unwrap().len(), 3);
    assert_eq!(pd.max_replicas().await.unwrap(), 3);
    assert_eq!(pd.version().await.unwrap(), Profile::default().version());
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incomplete_picture_of_regions_is_asked_for_again() {
    let (sandbox, _dir) = sandbox(|_| {}).await;
    let pd = connect(&[sandbox.addresses().pd.clone()], 30).await;
    let borders: Vec<Vec<u8>> = (0..5).map(|i| keys::record_key(1, i)).collect();
    sandbox.split(&borders).unwrap();
    for action in [Action::NoLeader, Action::Hole] {
        sandbox.add_fault(Fault::new(Point::Regions, action, 2));
        let regions = pd.scan_regions(&KeyRange::default(), 100).await.unwrap();
        assert!(regions.len() >= 6);
        assert!(regions.iter().all(|region| region.leader.is_some()));
        assert!(
            regions
                .windows(2)
                .all(|pair| pair[0].range.end == pair[1].range.start)
        );
    }
    assert!(pd.region_by_id(u64::MAX).await.unwrap().is_none());
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_pd_is_named_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let connected = PdClient::connect_with(
        std::slice::from_ref(&address),
        &Security::default(),
        patience(1),
    )
    .await;
    let error = connected.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Cluster);
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_are_up_while_open_and_gone_when_closed_on_every_release() {
    for profile in [Profile::V7_5, Profile::V8_5, Profile::V9_0] {
        let (sandbox, _dir) = sandbox(|config| config.profile = profile).await;
        let pd = connect(&[sandbox.addresses().pd.clone()], 30).await;
        let ranges = [keys::table_range(7)];
        let ts = pd.tso().await.unwrap();
        let options = GuardOptions {
            regions_expected: 1000,
            ..GuardOptions::default()
        };
        let guards = Guards::open_with(importer(&pd), "job", &ranges, ts, options)
            .await
            .unwrap();
        let state = sandbox.state().unwrap();
        assert_eq!(state.gc_barriers, ["thunderhead-job"], "{profile:?}");
        let partitions = |expected| {
            let state = sandbox.state().unwrap();
            state
                .stores
                .iter()
                .all(|store| store.force_partition_ranges == expected)
        };
        assert!(
            partitions(usize::from(profile != Profile::V7_5)),
            "{profile:?}"
        );
        // A second process of the same job takes over the same names.
        let second = Guards::open(importer(&pd), "job", &ranges, ts)
            .await
            .unwrap();
        assert_eq!(sandbox.state().unwrap().gc_barriers.len(), 1);
        second.close().await;
        guards.close().await;
        assert!(
            sandbox.state().unwrap().gc_barriers.is_empty(),
            "{profile:?}"
        );
        assert!(partitions(0));
        Guards::remove_leftovers(&pd, "job").await.unwrap();
        sandbox.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_behind_the_safe_point_is_refused() {
    for profile in [Profile::V8_5, Profile::V9_0] {
        let (sandbox, _dir) = sandbox(|config| config.profile = profile).await;
        let pd = connect(&[sandbox.addresses().pd.clone()], 5).await;
        let ts = pd.tso().await.unwrap();
        sandbox.add_fault(Fault::new(Point::Gc, Action::SafePointPassed, 1));
        let refused = pd.guard_gc("x", ts, Duration::from_secs(60)).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Cluster, "{profile:?}");
        sandbox.shutdown().await;
    }
}

async fn tidb(sandbox: &Sandbox, password: &str) -> thunderhead_types::Result<TidbClient> {
    TidbClient::connect(TidbOptions {
        host: "127.0.0.1".to_owned(),
        port: sandbox.addresses().sql_port,
        user: "root".to_owned(),
        password: password.to_owned(),
        status_port: sandbox.addresses().status_port,
        security: Security::default(),
        sql_tls: SqlTls::Off,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_seen_through_sql_status_port_and_tikv_alike() {
    let (sandbox, _dir) = sandbox(|_| {}).await;
    let pd = connect(&[sandbox.addresses().pd.clone()], 30).await;
    let importer = importer(&pd);
    let tidb = tidb(&sandbox, "").await.unwrap();
    assert!(tidb.version().contains("TiDB"), "{}", tidb.version());
    let facts = tidb.session_facts().await.unwrap();
    assert!(facts.new_collation);
    assert_eq!(facts.row_format, 2);
    assert!(facts.sql_mode.contains("STRICT_TRANS_TABLES"), "{facts:?}");

    tidb.exec("CREATE DATABASE `odd ``name/x`").await.unwrap();
    let db = "odd `name/x";
    tidb.exec_in(
        db,
        "CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20))",
    )
    .await
    .unwrap();
    assert_eq!(tidb.tables(db).await.unwrap(), ["t"]);
    assert!(tidb.is_empty(db, "t").await.unwrap());
    assert_eq!(tidb.table_info_json(db, "missing").await.unwrap(), None);
    let json = tidb.table_info_json(db, "t").await.unwrap().unwrap();
    let model: serde_json::Value = serde_json::from_str(&json).unwrap();
    let table_id = model["id"].as_i64().unwrap();
    let schema_id = tidb.schema_id(table_id).await.unwrap().unwrap();
    let stored = importer
        .meta_table_json(schema_id, table_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&stored).unwrap(),
        model
    );
    assert_eq!(
        importer
            .meta_table_json(schema_id, table_id + 1000)
            .await
            .unwrap(),
        None
    );
    assert!(
        importer
            .meta_database_json(schema_id)
            .await
            .unwrap()
            .is_some()
    );

    tidb.rebase_auto_increment(db, "t", 5000).await.unwrap();
    let next = tidb.next_row_ids(db, "t").await.unwrap();
    assert!(next.iter().any(|counter| counter.next >= 5000), "{next:?}");
    tidb.rebase_auto_increment(db, "t", 10).await.unwrap();
    let next = tidb.next_row_ids(db, "t").await.unwrap();
    assert!(
        next.iter().any(|counter| counter.next >= 5000),
        "never lowered: {next:?}"
    );
    assert_eq!(tidb.admin_checksum(db, "t").await.unwrap().kvs, 0);

    // What is not a row still counts: TiDB and we sum the same keys.
    let mut pairs = vec![(
        keys::record_key(table_id, 1),
        b"\x80\0\x01\0\0\0\x02\x01\0a".to_vec(),
    )];
    pairs.push((
        keys::record_key(table_id, 2),
        b"\x80\0\x01\0\0\0\x02\x01\0b".to_vec(),
    ));
    let mut expected = Checksum::default();
    pairs
        .iter()
        .for_each(|(key, value)| expected.add(key, value));
    let ts = pd.tso().await.unwrap();
    let range = keys::table_range(table_id);
    importer
        .ingest_range(&range, ts, Arc::new(MemoryPairs::new(pairs)))
        .await
        .unwrap();
    assert_eq!(importer.checksum(&range).await.unwrap(), expected);
    assert_eq!(tidb.admin_checksum(db, "t").await.unwrap(), expected);
    assert!(!tidb.is_empty(db, "t").await.unwrap());
    tidb.analyze(db, "t").await.unwrap();
    tidb.close().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_a_matter_of_configuration() {
    let (sandbox, _dir) = sandbox(|config| config.root_password = "right".to_owned()).await;
    let error = tidb(&sandbox, "wrong").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Precheck);
    assert!(!error.to_string().contains("wrong"), "{error}");
    tidb(&sandbox, "right").await.unwrap().close().await;
    sandbox.shutdown().await;
}
