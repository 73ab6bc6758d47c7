//! PD as a client sees it: timestamps, regions, protection from GC, label rules, members.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use serde_json::json;
use thunderhead_proto::pdpb::pd_client::PdClient;
use thunderhead_proto::pdpb::*;
use thunderhead_sandbox::{Action, Fault, Point, Profile};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn every_call_but_get_members_wants_the_right_cluster_id() {
    let mut bench = Bench::start().await;
    let header = Some(RequestHeader {
        cluster_id: 1,
        ..Default::default()
    });
    let status = bench
        .pd
        .get_all_stores(GetAllStoresRequest {
            header,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().starts_with("mismatch cluster id, need "),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_answer_carries_the_largest_of_its_block() {
    let mut bench = Bench::start().await;
    let header = bench.header();
    let request = |count| TsoRequest {
        header: header.clone(),
        count,
        ..Default::default()
    };
    let counts = [1u32, 100, 262_143, 5, 262_143];
    let mut stream = bench
        .pd
        .tso(futures::stream::iter(counts.map(request)))
        .await
        .unwrap()
        .into_inner();
    let mut last = 0;
    for count in counts {
        let response = stream.message().await.unwrap().unwrap();
        let ts = response.timestamp.unwrap();
        assert!(ts.logical < 1 << 18 && ts.logical >= i64::from(count));
        let largest = (ts.physical as u64) << 18 | ts.logical as u64;
        assert_eq!(response.count, count);
        assert!(
            largest - u64::from(count) >= last,
            "the block overlaps the one before"
        );
        last = largest;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_never_go_back_over_a_restart_or_a_jump() {
    let mut bench = Bench::start().await;
    let before = bench.tso().await;
    bench
        .sandbox
        .add_fault(Fault::new(Point::Tso, Action::TsoJump { ms: 3_600_000 }, 1));
    let jumped = bench.tso().await;
    assert!(jumped >> 18 >= (before >> 18) + 3_600_000);
    let mut bench = bench.restart().await;
    assert!(bench.tso().await > jumped);
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_show_every_region_unless_a_fault_hides_it_or_its_leader() {
    let mut bench = Bench::start().await;
    bench.split(&[b"b", b"d", b"f"]).await;
    let regions = bench.scan().await;
    assert_eq!(regions.len(), 4);
    for pair in regions.windows(2) {
        let (left, right) = (
            pair[0].region.as_ref().unwrap(),
            pair[1].region.as_ref().unwrap(),
        );
        assert_eq!(left.end_key, right.start_key);
        assert_eq!(left.region_epoch.unwrap().version, 4);
    }
    let mut fault = Fault::new(Point::Regions, Action::Hole, 1);
    fault.matching.nth = Some(2);
    bench.sandbox.add_fault(fault);
    assert_eq!(bench.scan().await.len(), 3);
    bench
        .sandbox
        .add_fault(Fault::new(Point::Regions, Action::NoLeader, 1));
    assert_eq!(bench.scan().await[0].leader.unwrap().id, 0);
    let ranges = vec![
        KeyRange {
            start_key: encode(b"a").into(),
            end_key: encode(b"c").into(),
        },
        KeyRange {
            start_key: encode(b"c").into(),
            end_key: encode(b"e").into(),
        },
    ];
    let request = BatchScanRegionsRequest {
        header: bench.header(),
        ranges,
        contain_all_key_range: true,
        ..Default::default()
    };
    assert_eq!(
        bench
            .pd
            .batch_scan_regions(request)
            .await
            .unwrap()
            .into_inner()
            .regions
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scatter_spreads_leaders_and_get_operator_finds_nothing_running() {
    let mut bench = Bench::start().await;
    bench.split(&[b"a", b"b", b"c", b"d", b"e"]).await;
    let regions_id = bench
        .scan()
        .await
        .iter()
        .map(|region| region.region.as_ref().unwrap().id)
        .collect::<Vec<_>>();
    let request = ScatterRegionRequest {
        header: bench.header(),
        regions_id: regions_id.clone(),
        group: "g".into(),
        ..Default::default()
    };
    let response = bench.pd.scatter_region(request).await.unwrap().into_inner();
    assert_eq!(response.finished_percentage, 100);
    for store in bench.sandbox.state().unwrap().stores {
        assert_eq!(store.leaders, 2, "store {}", store.id);
    }
    let request = GetOperatorRequest {
        header: bench.header(),
        region_id: regions_id[0],
    };
    let response = bench
        .pd
        .get_operator(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        response.header.unwrap().error.unwrap().r#type(),
        ErrorType::RegionNotFound
    );
    bench.sandbox.add_fault(Fault::new(
        Point::Operator,
        Action::Operator {
            status: "running".into(),
        },
        1,
    ));
    let response = bench.pd.get_operator(request).await.unwrap().into_inner();
    assert_eq!(
        (response.status(), &response.desc[..]),
        (OperatorStatus::Running, &b"scatter-region"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_safe_point_holds_gc_back_until_it_is_removed() {
    let mut bench = Bench::start().await;
    let request = |header, safe_point, ttl| UpdateServiceGcSafePointRequest {
        header,
        service_id: "import".into(),
        ttl,
        safe_point,
    };
    let header = bench.header();
    let held = bench
        .pd
        .update_service_gc_safe_point(request(header.clone(), 100, 600))
        .await
        .unwrap()
        .into_inner();
    assert!(held.min_safe_point <= 100);
    let pd = bench.sandbox.addresses().pd.clone();
    assert_eq!(
        http(&pd, "POST", "/sandbox/gc", r#"{"safe_point":500}"#).await,
        (200, json!(100))
    );
    bench
        .pd
        .update_service_gc_safe_point(request(header.clone(), 100, 0))
        .await
        .unwrap();
    assert_eq!(
        http(&pd, "POST", "/sandbox/gc", r#"{"safe_point":500}"#).await,
        (200, json!(500))
    );
    let late = bench
        .pd
        .update_service_gc_safe_point(request(header, 100, 600))
        .await
        .unwrap()
        .into_inner();
    assert!(late.min_safe_point > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_releases_do_not_know_newer_calls() {
    let mut bench = Bench::start_with(|config| config.profile = Profile::V7_5).await;
    let header = bench.header();
    let scan = BatchScanRegionsRequest {
        header: header.clone(),
        ..Default::default()
    };
    assert_eq!(
        bench.pd.batch_scan_regions(scan).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let barrier = SetGcBarrierRequest {
        header,
        barrier_id: "x".into(),
        barrier_ts: 5,
        ttl_seconds: 60,
        ..Default::default()
    };
    assert_eq!(
        bench.pd.set_gc_barrier(barrier).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let range = thunderhead_proto::import_sstpb::AddPartitionRangeRequest::default();
    assert_eq!(
        bench
            .import(1)
            .await
            .add_force_partition_range(range)
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
    let mode = thunderhead_proto::import_sstpb::GetModeRequest {};
    assert_eq!(
        bench
            .import(1)
            .await
            .get_mode(mode)
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn label_rules_come_and_go_and_end_by_themselves() {
    let bench = Bench::start().await;
    let pd = bench.sandbox.addresses().pd.clone();
    let rules = "/pd/api/v1/config/region-label/rules";
    let rule = |id: &str, ttl: &str| {
        json!({"id": id, "labels": [{"key": "schedule", "value": "deny", "ttl": ttl}], "rule_type": "key-range",
               "data": [{"start_key": "74", "end_key": "75"}]})
    };
    let post = "/pd/api/v1/config/region-label/rule";
    assert_eq!(
        http(&pd, "POST", post, &rule("a", "5m0s").to_string())
            .await
            .0,
        200
    );
    assert_eq!(
        http(&pd, "POST", post, &rule("b", "30ms").to_string())
            .await
            .0,
        200
    );
    assert_eq!(
        http(&pd, "POST", post, &rule("c", "soon").to_string())
            .await
            .0,
        400
    );
    until("the short rule to end", async || {
        http(&pd, "GET", rules, "").await.1 == json!([rule("a", "5m0s")])
    })
    .await;
    assert_eq!(
        http(&pd, "PATCH", rules, r#"{"sets":[],"deletes":["a"]}"#)
            .await
            .0,
        200
    );
    assert_eq!(http(&pd, "GET", rules, "").await, (200, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_paths_of_pd_and_of_a_store_answer() {
    let bench = Bench::start_with(|config| config.region_split_bytes = Some(4 << 20)).await;
    let pd = bench.sandbox.addresses().pd.clone();
    assert_eq!(
        http(&pd, "GET", "/pd/api/v1/version", "").await.1["version"],
        "v9.0.0"
    );
    assert_eq!(
        http(&pd, "GET", "/pd/api/v1/config/cluster-version", "")
            .await
            .1,
        "9.0.0"
    );
    assert_eq!(
        http(&pd, "GET", "/pd/api/v1/config/replicate", "").await.1["max-replicas"],
        3
    );
    let stores = http(&pd, "GET", "/pd/api/v1/stores", "").await.1;
    assert_eq!(stores["count"], 3);
    let status = stores["stores"][0]["store"]["status_address"]
        .as_str()
        .unwrap();
    assert_eq!(
        http(status, "GET", "/config", "").await.1["coprocessor"]["region-split-size"],
        "4MiB"
    );
    let set = r#"{"schedule.merge-schedule-limit":0}"#;
    assert_eq!(
        http(&pd, "POST", "/pd/api/v1/config?ttlSecond=300", set)
            .await
            .0,
        200
    );
    assert_eq!(
        http(&pd, "GET", "/pd/api/v1/config/schedule", "").await.1["merge-schedule-limit"],
        0
    );
    assert_eq!(
        http(
            &pd,
            "POST",
            "/pd/api/v1/schedulers/balance-leader-scheduler",
            r#"{"delay":300}"#
        )
        .await
        .0,
        200
    );
    assert_eq!(
        bench.sandbox.state().unwrap().paused_schedulers,
        ["balance-leader-scheduler"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_leader_only_the_new_member_serves() {
    let mut bench = Bench::start_with(|config| config.pd_members = 2).await;
    let addresses = bench.sandbox.addresses().clone();
    assert_eq!(
        http(
            &addresses.pd,
            "POST",
            "/sandbox/pd-leader",
            r#"{"member":1}"#
        )
        .await,
        (200, json!(true))
    );
    let request = GetAllStoresRequest {
        header: bench.header(),
        ..Default::default()
    };
    let status = bench.pd.get_all_stores(request.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "not leader")
    );
    let members = bench
        .pd
        .get_members(GetMembersRequest::default())
        .await
        .unwrap()
        .into_inner();
    let leader = members.leader.unwrap().client_urls[0].clone();
    assert_eq!(leader, format!("http://{}", addresses.pd_members[1]));
    let mut leader = PdClient::connect(leader).await.unwrap();
    assert_eq!(
        leader
            .get_all_stores(request)
            .await
            .unwrap()
            .into_inner()
            .stores
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_more_stores_than_replicas_scatter_moves_peers_with_their_data() {
    let mut bench = Bench::start_with(|config| config.stores = 5).await;
    let data = pairs(0, 500, 30);
    bench.import_pairs(&data, 7).await;
    bench
        .split(&[b"t00000100", b"t00000200", b"t00000300", b"t00000400"])
        .await;
    let regions_id = bench
        .scan()
        .await
        .iter()
        .map(|r| r.region.as_ref().unwrap().id)
        .collect::<Vec<_>>();
    let request = ScatterRegionRequest {
        header: bench.header(),
        regions_id,
        group: "g".into(),
        ..Default::default()
    };
    assert_eq!(
        bench
            .pd
            .scatter_region(request)
            .await
            .unwrap()
            .into_inner()
            .finished_percentage,
        100
    );
    let mut peers = [0; 5];
    for region in bench.scan().await {
        let region = region.region.unwrap();
        let epoch = region.region_epoch.unwrap();
        for peer in &region.peers {
            peers[peer.store_id as usize - 1] += 1;
        }
        let moved = region.peers.iter().filter(|peer| peer.store_id > 3).count() as u64;
        assert_eq!((region.peers.len(), epoch.conf_ver), (3, 3 + 2 * moved));
    }
    assert_eq!(peers, [3; 5]);
    for (i, key) in [0, 100, 200, 300, 400].into_iter().enumerate() {
        let part = data[i * 100..(i + 1) * 100].to_vec();
        let target = bench.region_at(format!("t{key:08}").as_bytes()).await;
        assert_eq!(
            bench.checksum(&target, b"t", b"u").await.unwrap(),
            checksum(&part)
        );
        let range = thunderhead_types::KeyRange::new(
            part[0].0.clone(),
            format!("t{:08}", key + 100).into_bytes(),
        );
        for peer in &target.region.peers {
            assert_eq!(
                bench.sandbox.store_checksum(peer.store_id, &range).unwrap(),
                checksum(&part)
            );
        }
    }
}
