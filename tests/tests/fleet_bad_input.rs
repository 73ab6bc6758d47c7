//! What a fleet refuses, and says so: agents of another version, sources that change between attempts, a second job on
//! a table. And what it never asks: the time of day.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use thunderhead_proto::thunderhead::{
    AgentMessage, Hello, agent_message::Body, control_client::ControlClient,
};
use thunderhead_tests::fleet::{Fleet, SETTINGS, nothing_is_open, tables};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_version_is_refused_and_both_versions_are_named() {
    let fleet = Fleet::start(tables(&[], 10).await, 1);
    let mut client = ControlClient::connect(format!("http://{}", fleet.address()))
        .await
        .unwrap();
    let hello = AgentMessage {
        agent_id: "old".to_owned(),
        epoch: 0,
        body: Some(Body::Hello(Hello {
            version: "0.0.7-other".to_owned(),
            encode_slots: 4,
            ingest_slots: 4,
            ..Hello::default()
        })),
    };
    let refused = client.session(tokio_stream::once(hello)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    for word in ["old", "0.0.7-other", env!("CARGO_PKG_VERSION")] {
        assert!(refused.message().contains(word), "{refused:?}");
    }
    assert!(fleet.agents().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_between_attempts_ends_the_job_and_nothing_of_it_is_mixed() {
    let rows = 3000;
    // A new term would plan the changed file anew: nothing of it is ingested yet.
    let fleet = Fleet::start_unhurried(tables(&[], rows).await, 1);
    let first = fleet.submit(&SETTINGS);
    fleet.wait("the plan", |fleet| {
        let status = fleet.status(&first).unwrap_or_default();
        status["progress"]["chunks"]
            .as_u64()
            .is_some_and(|chunks| chunks > 0)
    });
    // Planned, not yet read.
    let path = fleet.bench.path("data/d.t.1.csv");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}999999,late,1\n")).unwrap();
    let _agent = fleet.agent("a", &["--threads", "1"]);
    let mut job = serde_json::Value::Null;
    fleet.wait("the job to fail", |fleet| {
        job = fleet.status(&first).unwrap_or_default()["job"].clone();
        job["state"] == "failed"
    });
    assert_eq!(job["error"]["kind"], "data", "{job:#}");
    let cause = job["error"]["cause"].as_str().unwrap();
    assert!(cause.contains("changed"), "{cause}");
    let place = job["error"]["place"].as_str().unwrap();
    assert!(place.contains("d.t.1.csv"), "{place}");
    assert_eq!(fleet.bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);

    // The same command again plans that file's table anew: every row is one of the files as they are now.
    let again = fleet.submit(&SETTINGS);
    assert_eq!(again, first);
    fleet.wait_finished(&again);
    assert_eq!(
        fleet.bench.query("SELECT COUNT(*), MAX(id) FROM d.t").await,
        [[(rows + 1).to_string(), "999999".to_owned()]]
    );
    fleet.bench.sql(&["ADMIN CHECK TABLE d.t, d.heap"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_after_a_part_was_ingested_ends_the_job() {
    let mut fleet = Fleet::start(tables(&[], 60_000).await, 1);
    let _agent = fleet.agent("a", &["--threads", "1"]);
    let slow = "tikv-importer.store-write-bwlimit=512KiB";
    let job = fleet.submit(&[SETTINGS[0], SETTINGS[1], slow]);
    // Of both tables there is something in the cluster.
    fleet.wait("ranges of both tables", |fleet| {
        let log = std::fs::read_to_string(fleet.bench.path("coordinator-0.log")).unwrap();
        let ingested = |table: &str| {
            log.lines()
                .any(|line| line.contains("task recorded task=\"range\"") && line.contains(table))
        };
        ingested("task_id=1099511627") && ingested("task_id=549755813")
    });
    fleet.coordinators[0].take().unwrap().kill().unwrap();
    let path = fleet.bench.path("data/d.t.1.csv");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}999999,late,1\n")).unwrap();
    fleet.coordinators[0] = Some(fleet.coordinator(0));
    let mut status = serde_json::Value::Null;
    fleet.wait("the job to fail", |fleet| {
        status = fleet.status(&job).unwrap_or_default()["job"].clone();
        status["state"] == "failed"
    });
    assert_eq!(status["error"]["kind"], "data", "{status:#}");
    let cause = status["error"]["cause"].as_str().unwrap();
    assert!(
        cause.contains("changed after a part of it was ingested"),
        "{cause}"
    );
    nothing_is_open(&fleet.bench).await;
}

/// A clock that jumps can only falsify what is shown. Leases, patience and retries go by the monotonic clock, order and
/// fencing by etcd's revisions.
#[test]
fn the_time_of_day_is_asked_for_in_no_decision() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // When a job began and ended, for its line in the list; and NOW() of its rows, recorded with the plan.
    let allowed = ["run.rs", "jobs.rs", "target.rs"];
    let mut open: Vec<_> = ["coordinator/src", "agent/src", "shared/cluster/src"]
        .map(|dir| root.join(dir))
        .into();
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let asks = ["SystemTime::now", "SystemClock.unix_ms", "UNIX_EPOCH"];
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                allowed.contains(&name) || !asks.iter().any(|word| text.contains(word)),
                "{}",
                path.display()
            );
        }
    }
    assert!(seen > 80);
}
