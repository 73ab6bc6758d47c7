//! Kill -9 at each step between the first pair of rows that share a key and the decision about them: while runs are
//! merged, while records are written, and between. And a TiDB that restarts while they are written. What is left and
//! what is recorded is that of an import that nothing disturbed, each record once.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::time::Duration;
use thunderhead_tests::clashes::{
    AGENT_POINTS, COLUMNS, COORDINATOR_POINTS, SMALL, csv, rows, select,
};
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);
/// What `make test` tries of a fleet's leader: each takeover costs seconds. `THUNDERHEAD_KILLS=all` tries the others too.
const FEW: [&str; 3] = ["detecting", "record-statement:10", "conflicts-recorded"];

fn settings() -> Vec<&'static str> {
    let small = SMALL.iter().copied().filter(|part| part.contains('='));
    let fixed = ["conflict.strategy=replace", "conflict.threshold=1000000"];
    small.chain(fixed).collect()
}

fn args() -> Vec<&'static str> {
    let settings = settings().into_iter();
    let pairs = settings.flat_map(|setting| ["--set", setting]);
    pairs.chain(["--threads", "2"]).collect()
}

async fn bench() -> Bench {
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", &format!("CREATE TABLE d.t {COLUMNS}")])
        .await;
    bench.file("d.t.csv", csv(&rows(31, 2500, 30)));
    bench
}

/// Nothing is left of a job before.
async fn empty(bench: &Bench) {
    bench
        .sql(&[
            "TRUNCATE TABLE d.t",
            "DROP DATABASE IF EXISTS lightning_task_info",
        ])
        .await;
}

/// Everything that a job leaves, but for names of jobs and directories.
async fn found(bench: &Bench) -> [Vec<Vec<String>>; 4] {
    let info = "lightning_task_info";
    let ours = format!(
        "SELECT index_name, group_id, row_id, verdict, line, offset, key_data, row_data FROM {info}.thunderhead_conflicts_v1 ORDER BY group_id, row_id"
    );
    let theirs = format!(
        "SELECT index_name, key_data, row_data FROM {info}.conflict_error_v1 ORDER BY index_name, key_data, row_data"
    );
    let counts = format!(
        "SELECT index_name, conflicts, participants FROM {info}.thunderhead_conflict_counts_v1 ORDER BY index_name"
    );
    [
        select(bench, "d.t").await,
        bench.query(&ours).await,
        bench.query(&theirs).await,
        bench.query(&counts).await,
    ]
}

async fn undisturbed() -> [Vec<Vec<String>>; 4] {
    let calm = bench().await;
    calm.import(&args()).succeeds();
    let found = found(&calm).await;
    assert!(found[1].len() > 1000 && found[1].len() == found[2].len());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_killed_at_each_step_records_each_conflict_once() {
    let expected = undisturbed().await;
    let bench = bench().await;
    for point in AGENT_POINTS.into_iter().chain(COORDINATOR_POINTS) {
        println!("{point}");
        empty(&bench).await;
        let log = bench.path("import.log");
        let mut process = bench.start_import_armed(point, &args(), &log).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), None, "{point}: it was not killed: {status}");
        bench.import(&args()).succeeds();
        assert!(found(&bench).await == expected, "{point}");
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    }
    println!("{} kills", AGENT_POINTS.len() + COORDINATOR_POINTS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_loses_its_leader_or_an_agent_at_each_step_records_each_conflict_once() {
    let expected = undisturbed().await;
    let mut fleet = Fleet::start(bench().await, 1);
    let settings = settings();
    for (n, point) in AGENT_POINTS.into_iter().enumerate() {
        println!("agent at {point}");
        empty(&fleet.bench).await;
        // The only one, so that it meets the point; then it comes back, or another one without its disk does.
        let mut dies = fleet.armed_agent("dies", point, &["--threads", "1"]);
        fleet.wait("an agent", |fleet| fleet.active() == 1);
        let job = fleet.submit(&settings);
        fleet.wait("the agent to die", |_| dies.ended().unwrap().is_some());
        if n % 2 == 0 {
            std::fs::remove_dir_all(fleet.sort_dir("dies")).unwrap();
        }
        let comes = fleet.agent("dies", &["--threads", "1"]);
        fleet.wait_finished(&job);
        drop(comes);
        assert!(found(&fleet.bench).await == expected, "{point}");
        fleet.wait("it to be missed", |fleet| fleet.active() == 0);
    }
    let _stays = fleet.agent("stays", &["--threads", "1"]);
    let all = std::env::var("THUNDERHEAD_KILLS").is_ok_and(|kills| kills == "all");
    let wanted = |point: &&str| all || FEW.contains(point);
    let mut kills = AGENT_POINTS.len();
    for point in COORDINATOR_POINTS.into_iter().filter(wanted) {
        kills += 1;
        println!("leader at {point}");
        empty(&fleet.bench).await;
        drop(fleet.coordinators[0].take());
        let mut leader = fleet.armed_coordinator(0, point);
        fleet.wait("a leader with an agent", |fleet| fleet.active() == 1);
        let job = fleet.submit(&settings);
        fleet.wait("the leader to die", |_| leader.ended().unwrap().is_some());
        let next = fleet.coordinator(0);
        fleet.coordinators[0] = Some(next);
        fleet.wait_finished(&job);
        assert!(found(&fleet.bench).await == expected, "{point}");
        fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    }
    println!("{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tidb_that_restarts_while_conflicts_are_recorded_has_them_once() {
    let expected = undisturbed().await;
    let bench = bench().await;
    for point in [
        "record-statement:1",
        "record-statement:8",
        "record-statement:12",
    ] {
        println!("{point}");
        empty(&bench).await;
        let log = bench.path("import.log");
        let armed = format!("{point}=stop");
        let mut process = bench.start_import_armed(&armed, &args(), &log).unwrap();
        wait_until("the import to stand still", PATIENCE, || {
            process.is_stopped()
        })
        .unwrap();
        // Its sessions are gone, and nobody listens.
        bench.control("POST", "/sandbox/sql/stop", "").await;
        let address = ("127.0.0.1", bench.sandbox.sql_port);
        wait_until("the port to close", PATIENCE, || {
            std::net::TcpStream::connect(address).is_err()
        })
        .unwrap();
        process.signal(Signal::CONT).unwrap();
        wait_until("the import to notice", PATIENCE, || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.contains("is tried again")
        })
        .unwrap();
        bench.control("POST", "/sandbox/sql/start", "").await;
        let status = process.wait(PATIENCE).unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(status.success(), "{point}: {log}");
        assert!(found(&bench).await == expected, "{point}");
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    }
}
