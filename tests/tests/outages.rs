//! What goes away in the middle of an import: a store, the whole cluster, the source as it was planned.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::io::Write;
use std::time::{Duration, Instant};
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::wait_until;

const DDL: &str = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(20), n INT, UNIQUE KEY un (name), KEY kn (n))";
const PATIENCE: Duration = Duration::from_secs(60);
/// What Kubernetes gives a container between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(30);
const RULES: &str = "/pd/api/v1/config/region-label/rules";

async fn bench(rows: u64) -> Bench {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    let mut text = String::from("id,name,n\n");
    for i in 0..rows {
        text.push_str(&format!("{i},name-{:07},{}\n", rows - i, i % 97));
    }
    bench.file("d.t.csv", text);
    bench
}

async fn holds(bench: &Bench, rows: u64) {
    assert_eq!(
        bench.query("SELECT COUNT(*), MAX(id) FROM d.t").await,
        [[rows.to_string(), (rows - 1).to_string()]]
    );
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    assert_eq!(
        bench.control("GET", "/sandbox/panics", "").await.trim(),
        "[]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_named_and_the_import_goes_on_when_it_is_back() {
    let bench = bench(2000).await;
    bench.control("POST", "/sandbox/stores/2/stop", "").await;
    let outcome = bench.import(&["--set", "thunderhead.retry-time=2s"]);
    outcome.fails(7, &["store 2"]);
    assert_eq!(bench.control("GET", RULES, "").await.trim(), "[]");
    bench.control("POST", "/sandbox/stores/2/start", "").await;
    bench.import(&[]).succeeds();
    holds(&bench, 2000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_is_named_and_nothing_is_ingested() {
    let bench = bench(600_000).await;
    let log = bench.path("import.log");
    let mut process = bench.start_import(&["--threads", "1"], &log).unwrap();
    while bench.control("GET", RULES, "").await.trim() == "[]" {
        assert!(
            process.ended().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
    }
    process.signal(Signal::STOP).unwrap();
    let path = bench.path("data/d.t.csv");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"600000,late,1\n").unwrap();
    file.sync_all().unwrap();
    process.signal(Signal::CONT).unwrap();
    let status = process.wait(Duration::from_secs(60)).unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(
        said.contains("d.t.csv") && said.contains("changed during the import"),
        "{said}"
    );
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
    assert_eq!(bench.control("GET", RULES, "").await.trim(), "[]");
    bench.import(&[]).succeeds();
    holds(&bench, 600_001).await;
}

/// Whoever asked it to stop may kill it half a minute later. Files of the attempts that are broken off cannot be taken
/// care of while their regions have no majority; what holds up the whole cluster can.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_asked_to_stop_gives_the_cluster_back_before_anything_that_may_take_long()
{
    let bench = bench(60_000).await;
    let settings = [
        "--log",
        "info",
        "--no-progress",
        "--set",
        "thunderhead.ingest=write",
        "--set",
        "tikv-importer.store-write-bwlimit=64KiB",
        "--set",
        "tikv-importer.region-split-size=600KiB",
    ];
    let log = bench.path("import.log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut process = bench.start_import(&settings, &log).unwrap();
    wait_until("a range to be handed out", PATIENCE, || {
        said().contains("task handed out task=\"range\"")
    })
    .unwrap();
    for store in [2, 3] {
        let path = format!("/sandbox/stores/{store}/stop");
        bench.control("POST", &path, "").await;
    }
    process.signal(Signal::TERM).unwrap();
    let asked = Instant::now();
    while bench.control("GET", RULES, "").await.trim() != "[]" {
        assert!(asked.elapsed() < GRACE, "{}", said());
    }
    assert_eq!(process.wait(GRACE).unwrap().code(), Some(8), "{}", said());
    assert!(asked.elapsed() < GRACE, "{:?}", asked.elapsed());
    let state = bench.control("GET", "/sandbox/state", "").await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["gc_barriers"], serde_json::json!([]), "{state}");
    for store in [2, 3] {
        let path = format!("/sandbox/stores/{store}/start");
        bench.control("POST", &path, "").await;
    }
    bench.import(&["--no-progress"]).succeeds();
    holds(&bench, 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_killed_and_comes_back_gets_the_rest_of_the_import() {
    let mut bench = bench(100_003).await;
    let settings = [
        "--set",
        "mydumper.max-region-size=300KiB",
        "--set",
        "tikv-importer.region-split-size=600KiB",
    ];
    let log = bench.path("import.log");
    let mut process = bench.start_import(&settings, &log).unwrap();
    while bench.control("GET", RULES, "").await.trim() == "[]" {
        assert!(
            process.ended().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
    }
    bench.sandbox = bench.sandbox.restart().unwrap();
    let status = process.wait(Duration::from_secs(120)).unwrap();
    if !status.success() {
        // The SQL connection died with the cluster: that ends this run, not the job.
        assert_eq!(
            status.code(),
            Some(7),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        bench.import(&settings).succeeds();
    }
    holds(&bench, 100_003).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_keeps_what_was_committed_when_it_is_killed() {
    let mut bench = bench(5000).await;
    bench.import(&[]).succeeds();
    bench
        .sql(&[
            "CREATE TABLE d.u (a INT PRIMARY KEY)",
            "INSERT INTO d.u VALUES (1), (2)",
        ])
        .await;
    let before = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    bench.sandbox = bench.sandbox.restart().unwrap();
    assert_eq!(bench.query("ADMIN CHECKSUM TABLE d.t").await, before);
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.u").await, [["2"]]);
    holds(&bench, 5000).await;
}
