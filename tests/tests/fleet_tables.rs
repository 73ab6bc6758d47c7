//! One job of hundreds of small tables on a fleet of real processes: nothing waits for a clock between two tables.
//! `THUNDERHEAD_TABLES=500x1000000` chooses their number and the bytes of each.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;
use thunderhead_tests::fleet::{Fleet, nothing_is_open};
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::{Process, cpu_seconds, peak_rss};

/// Requests that the sandbox counts: PD's without timestamps, and TiKV's.
const COUNTED: [&str; 9] = [
    "pd",
    "tso",
    "regions",
    "operator",
    "split-region",
    "kv",
    "checksum",
    "write-open",
    "ingest",
];
const SMALL: [&str; 4] = ["--memory", "128MiB", "--threads", "1"];
const DAY_MS: u64 = 24 * 3600 * 1000;

async fn prepared(tables: u64, bytes: u64) -> (Fleet, u64) {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    let ddl = |n| {
        format!(
            "CREATE TABLE d.t{n:03} (id BIGINT PRIMARY KEY CLUSTERED, a VARCHAR(40), KEY ka (a))"
        )
    };
    let ddl: Vec<String> = (0..tables).map(ddl).collect();
    bench
        .sql(&ddl.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let (mut text, mut rows) = ("id,a\n".to_owned(), 0u64);
    while (text.len() as u64) < bytes {
        let a = rows.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(text, "{rows},{a:016x}{:016x}", a.rotate_left(17)).unwrap();
        rows += 1;
    }
    for n in 0..tables {
        bench.file(&format!("d.t{n:03}.csv"), &text);
    }
    (Fleet::start(bench, 1), rows)
}

/// What a line of the leader's log says of its tasks: when, whether one began, and which.
fn task_event(line: &str) -> Option<(u64, bool, &str)> {
    let begins = line.contains("task handed out task=");
    if !begins && !line.contains("task recorded task=") {
        return None;
    }
    let id = line.split_once("task_id=")?.1.split(' ').next()?;
    // Such as 2026-11-21T15:30:01.123456Z; the day is of no interest.
    let (hms, _) = line.split_once('T')?.1.split_once('Z')?;
    let (whole, fraction) = hms.split_once('.')?;
    let seconds = whole
        .split(':')
        .try_fold(0u64, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
    Some((
        seconds * 1000 + fraction.get(..3)?.parse::<u64>().ok()?,
        begins,
        id,
    ))
}

/// From the first task to the last, and how much of that passed without any task in hand; ms.
fn span_and_idle(log: &str) -> (u64, u64) {
    let mut in_hand = BTreeSet::new();
    let (mut span, mut idle, mut last) = (0, 0, None);
    for (at, begins, id) in log.lines().filter_map(task_event) {
        let passed = last.map_or(0, |last| (at + DAY_MS - last) % DAY_MS);
        last = Some(at);
        span += passed;
        if in_hand.is_empty() {
            idle += passed;
        }
        if begins {
            in_hand.insert(id);
        } else {
            in_hand.remove(id);
        }
    }
    (span, idle)
}

#[test]
fn time_without_a_task_is_told_from_the_log() {
    let line = |at: &str, what: &str, id: u32| {
        format!("2026-11-21T{at}Z  INFO x: task {what} task=\"chunk\" task_id={id} more=1\n")
    };
    let log = line("23:59:59.900000", "handed out", 1)
        + &line("23:59:59.950000", "handed out", 2)
        + &line("00:00:00.000000", "recorded", 1)
        + &line("00:00:00.100000", "recorded", 2)
        + "something else\n"
        + &line("00:00:01.000000", "handed out", 3)
        + &line("00:00:01.100000", "recorded", 3);
    assert_eq!(span_and_idle(&log), (1200, 900));
}

/// Nothing happens at these places but that they are counted.
async fn begin_to_count(bench: &Bench) {
    for point in COUNTED {
        let watch = format!(
            r#"{{"point": "{point}", "times": 0, "action": {{"kind": "delay", "ms": 0}}}}"#
        );
        bench.control("POST", "/sandbox/faults", &watch).await;
    }
}

/// Requests of each kind.
async fn counted(bench: &Bench) -> Vec<u64> {
    let faults = bench.control("GET", "/sandbox/faults", "").await;
    let faults: serde_json::Value = serde_json::from_str(&faults).unwrap();
    let faults = faults.as_array().unwrap().iter();
    faults
        .map(|fault| fault["seen"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_small_tables_are_one_job_in_which_the_agents_are_never_without_work() {
    let size = std::env::var("THUNDERHEAD_TABLES").unwrap_or_else(|_| "200x4000".to_owned());
    let (tables, bytes) = size.split_once('x').unwrap();
    let (tables, bytes) = (tables.parse().unwrap(), bytes.parse().unwrap());
    let (fleet, rows) = prepared(tables, bytes).await;
    let agents = ["a0", "a1"].map(|name| fleet.agent(name, &SMALL));
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    begin_to_count(&fleet.bench).await;
    let before = fleet.etcd.revision().await;
    let job = fleet.submit(&[]);
    let patience = Duration::from_secs(120 + tables * bytes / 1_000_000);
    let report = fleet.wait_finished_within(&job, patience);
    assert_eq!(report["tables"].as_array().unwrap().len() as u64, tables);
    let commits = fleet.etcd.revision().await - before;
    let requests = counted(&fleet.bench).await;
    let leader = fleet.coordinators[0].as_ref().unwrap();
    let used = |process: &Process| {
        let (cpu, rss) = (cpu_seconds(process.pid()), peak_rss(process.pid()));
        format!("{:.1} s of CPU, {} MiB", cpu.unwrap(), rss.unwrap() >> 20)
    };
    println!(
        "leader {}; agents {}, {}",
        used(leader),
        used(&agents[0]),
        used(&agents[1])
    );
    for (point, requests) in COUNTED.iter().zip(&requests) {
        println!("  {point}: {:.1} a table", *requests as f64 / tables as f64);
    }
    let log = std::fs::read_to_string(fleet.bench.path("coordinator-0.log")).unwrap();
    let (span, idle) = span_and_idle(&log);
    println!(
        "{tables} tables of {bytes} bytes: {commits} transactions in etcd; tasks were in hand for all but {idle} of {span} ms"
    );
    // Its manifest with its plan, the beginning of its one range, its report, its end; and the plan of all. That is a table
    // whose records meet no others; `coordinator/tests/many_tables.rs` counts those that do.
    assert!(commits <= 4 * tables + tables / 10 + 20, "{commits}");
    // A pause of a tick for each table would be many times as much.
    assert!(idle <= span / 5, "{idle} of {span} ms");
    let last = format!("d.t{:03}", tables - 1);
    for table in ["d.t000", last.as_str()] {
        let count = fleet
            .bench
            .query(&format!("SELECT COUNT(*) FROM {table}"))
            .await;
        assert_eq!(count, [[rows.to_string()]]);
    }
    fleet
        .bench
        .sql(&[&format!("ADMIN CHECK TABLE {last}")])
        .await;
    nothing_is_open(&fleet.bench).await;
}
