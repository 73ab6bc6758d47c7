//! kill -9 at every stage of a job, of every role, again and again on one fleet: the table is always the same, and
//! nothing is left in etcd, in PD or in the stores' import directories. `THUNDERHEAD_KILLS=all` runs every pair of
//! stage and role (`make test-kill`), without it a few.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::Process;

const ROWS: u64 = 20_000;
const FILES: u64 = 6;
const SMALL: [&str; 4] = ["--memory", "64MiB", "--threads", "1"];
/// Several ranges of one small table.
const SETTINGS: [&str; 1] = ["tikv-importer.region-split-size=1MiB"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Coordinator,
    Agent,
    AgentWithDisk,
}

/// What must have happened before the kill: a number of the job's progress.
const STAGES: [(&str, u64); 6] = [
    ("chunks_running", 1),
    ("chunks_done", 1),
    ("chunks_done", FILES - 1),
    ("ranges_running", 1),
    ("ranges_done", 1),
    ("ranges_done", 4),
];

async fn started() -> Fleet {
    let bench = Bench::start(&[]);
    let table =
        "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, a VARCHAR(64), b INT, KEY b (b))";
    bench.sql(&["CREATE DATABASE d", table]).await;
    for file in 0..FILES {
        let mut text = "id,a,b\n".to_owned();
        for i in 0..ROWS {
            let id = (i * FILES + file).wrapping_mul(7_368_787) % 15_485_863;
            writeln!(text, "{id},{:x}{:x},{}", id * id, id * 31, id % 1000).unwrap();
        }
        bench.file(&format!("d.t.{file:03}.csv"), text);
    }
    Fleet::start(bench, 2)
}

async fn imported(fleet: &Fleet) -> Vec<Vec<String>> {
    fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let mut rows = fleet
        .bench
        .query("SELECT COUNT(*), SUM(b), MIN(a), MAX(id) FROM d.t")
        .await;
    let pairs = fleet.bench.query("ADMIN CHECKSUM TABLE d.t").await;
    rows.push(pairs[0][3..].to_vec());
    rows
}

async fn nothing_is_left(fleet: &Fleet) {
    let keys = fleet.etcd.keys().await;
    let left = |key: &&String| key.contains("/jobs/") || key.contains("/parts/");
    assert_eq!(keys.iter().find(left), None);
    let rules = fleet
        .bench
        .control("GET", "/pd/api/v1/config/region-label/rules", "")
        .await;
    assert!(!rules.contains("thunderhead"), "{rules}");
}

/// The coordinator that leads: the one whose log says so last.
fn leader_of(fleet: &Fleet) -> usize {
    let text = |n: usize| {
        std::fs::read_to_string(fleet.bench.path(&format!("coordinator-{n}.log")))
            .unwrap_or_default()
    };
    let elected = |n: &usize| {
        let log = text(*n);
        log.rfind("this coordinator leads") > log.rfind("the term ended")
    };
    (0..fleet.coordinators.len()).rfind(elected).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_at_whatever_stage_the_table_is_the_same() {
    let mut fleet = started().await;
    let mut agents: Vec<Process> = (0..2)
        .map(|n| fleet.agent(&n.to_string(), &SMALL))
        .collect();
    let job = fleet.submit(&SETTINGS);
    fleet.wait_finished(&job);
    let expected = imported(&fleet).await;

    let all = std::env::var("THUNDERHEAD_KILLS").is_ok_and(|kills| kills == "all");
    let roles = [Role::Coordinator, Role::Agent, Role::AgentWithDisk];
    let matrix = STAGES
        .iter()
        .flat_map(|stage| roles.map(|role| (stage, role)));
    let mut kills = 0;
    for (n, ((field, least), role)) in matrix.enumerate() {
        if !all && !matches!(n, 4 | 9 | 14) {
            continue;
        }
        fleet.bench.sql(&["TRUNCATE TABLE d.t"]).await;
        let job = fleet.submit(&SETTINGS);
        fleet.wait_progress(&job, field, *least);
        match role {
            Role::Coordinator => {
                let leader = leader_of(&fleet);
                let mut dying = fleet.coordinators[leader].take().unwrap();
                dying.kill().unwrap();
                fleet.coordinators[leader] = Some(fleet.coordinator(leader));
            }
            Role::Agent | Role::AgentWithDisk => {
                agents[0].kill().unwrap();
                if role == Role::AgentWithDisk {
                    std::fs::remove_dir_all(fleet.sort_dir("0")).unwrap();
                }
                agents[0] = fleet.agent("0", &SMALL);
            }
        }
        kills += 1;
        fleet.wait_finished(&job);
        assert_eq!(
            imported(&fleet).await,
            expected,
            "{role:?} killed at {field} {least}"
        );
        nothing_is_left(&fleet).await;
    }
    println!("{kills} kills, {kills} times the same table");
}
