//! Jobs on a fleet of real processes: etcd, coordinators, agents and a sandbox cluster. Whatever dies, the table is
//! the one that a single process imports, and nothing is left behind.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use serde_json::json;
use std::fmt::Write;
use std::time::{Duration, Instant};
use thunderhead_tests::fleet::{Fleet, LEASE};
use thunderhead_tests::import::{Bench, http_client};
use thunderhead_tests::process::Process;

const TABLE: &str =
    "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, a VARCHAR(64), b INT, KEY b (b))";

/// Rows in an order that is not that of the key, in several files.
fn files(bench: &Bench, files: u64, rows: u64) {
    for file in 0..files {
        let mut text = "id,a,b\n".to_owned();
        for i in 0..rows {
            let id = (i * files + file).wrapping_mul(7_368_787) % 15_485_863;
            writeln!(text, "{id},{:x}{:x},{}", id * id, id * 31, id % 1000).unwrap();
        }
        bench.file(&format!("d.t.{file:03}.csv"), text);
    }
}

async fn prepared(file_count: u64, rows: u64, coordinators: usize) -> Fleet {
    let mut bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", TABLE]).await;
    files(&bench, file_count, rows);
    // Each file is a chunk: two of them are more.
    bench.extra = "max-region-size = \"1MiB\"".into();
    Fleet::start(bench, coordinators)
}

/// Keys beside our prefix, of which a careless range would take some in.
const FOREIGN: [&str; 6] = [
    "/pd/7/config",
    "/thunderhea",
    "/thunderhead",
    "/thunderhead-other/jobs/j/t/00000",
    "/thunderhead0",
    "jobs/j",
];

const SMALL: [&str; 4] = ["--memory", "64MiB", "--threads", "1"];

fn progress(fleet: &Fleet, job: &str, field: &str) -> String {
    let status = fleet.status(job).unwrap_or_default();
    let value = &status["progress"][field];
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn state(fleet: &Fleet, job: &str) -> String {
    let status = fleet.status(job).unwrap_or_default();
    status["job"]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn asked(fleet: &Fleet, args: &[&str]) {
    let output = fleet.ask(args);
    assert!(output.status.success(), "{output:?}");
}

async fn nothing_is_left(fleet: &Fleet) {
    let keys = fleet.etcd.keys().await;
    let left = |key: &&String| {
        key.starts_with("/thunderhead/jobs/") || key.starts_with("/thunderhead/parts/")
    };
    assert_eq!(keys.iter().find(left), None);
    let rules = fleet
        .bench
        .control("GET", "/pd/api/v1/config/region-label/rules", "")
        .await;
    assert!(!rules.contains("thunderhead"), "{rules}");
}

/// The table is right, and neither etcd nor PD remembers the job.
async fn all_is_well(fleet: &Fleet, rows: u64) {
    nothing_is_left(fleet).await;
    let bench = &fleet.bench;
    assert_eq!(
        bench.query("SELECT COUNT(*) FROM d.t").await,
        [[rows.to_string()]]
    );
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let text = bench
        .query("SELECT SUM(b), MIN(a), MAX(a), MAX(id) FROM d.t")
        .await;
    let pairs = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    // The same files by a single process into the emptied table.
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.import(&[]).succeeds();
    let single = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    assert_eq!(
        pairs[0][3..],
        single[0][3..],
        "pairs and bytes as by one process"
    );
    assert_eq!(
        bench
            .query("SELECT SUM(b), MIN(a), MAX(a), MAX(id) FROM d.t")
            .await,
        text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_imports_what_one_process_imports_and_leaves_nothing_behind() {
    let fleet = prepared(6, 20_000, 1).await;
    // Others use the same etcd, as PD uses its own; some of their keys look much like ours.
    for key in FOREIGN {
        fleet.etcd.put(key, "somebody else's").await;
    }
    let job = fleet.submit(&[]);
    // Zero agents: it waits and says so.
    fleet.wait("a word about agents", |f| {
        progress(f, &job, "waiting_for").contains("none is connected")
    });
    // The same job again joins it; another one on the same table is refused.
    assert_eq!(fleet.submit(&[]), job);
    let config = fleet.bench.config();
    let other = fleet.bench.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(
        fleet.bench.path("data").join("d.t.000.csv"),
        other.join("d.t.csv"),
    )
    .unwrap();
    let (config, other) = (config.to_str().unwrap(), other.to_str().unwrap());
    let refused = fleet.ask(&["submit", "--config", config, "--data-source-dir", other]);
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(
        !refused.status.success() && text.contains("imports it already"),
        "{text}"
    );
    // Paused jobs stay where they are, agents or not.
    asked(&fleet, &["pause", &job]);
    let _agents = [fleet.agent("a0", &SMALL), fleet.agent("a1", &SMALL)];
    fleet.wait("two agents", |f| {
        f.agents()
            .is_some_and(|a| a.iter().filter(|a| a["state"] == "active").count() == 2)
    });
    assert_eq!(progress(&fleet, &job, "chunks_done"), "0");
    asked(&fleet, &["limit", &job, "500MiB"]);
    asked(&fleet, &["resume", &job]);
    let report = fleet.wait_finished(&job);
    assert_eq!(report["tables"][0]["rows"], 120_000);
    let mut kept = fleet.etcd.contents().await;
    for key in FOREIGN {
        let found = kept
            .remove(key)
            .map(|(value, version)| value + " " + &version);
        assert_eq!(found.as_deref(), Some("somebody else's 1"), "{key}");
    }
    let ours = |key: &String| key.starts_with("/thunderhead/");
    assert!(kept.keys().all(ours), "{kept:?}");
    // Finished is finished, whoever asks again; until the table is emptied.
    let again = fleet.submitted(&[]);
    assert_eq!(
        (&again["job"], &again["finished"]),
        (&json!(job), &json!(true))
    );
    assert_eq!(fleet.status(&job).unwrap()["job"]["report"], report);
    fleet.bench.sql(&["TRUNCATE TABLE d.t"]).await;
    let anew = fleet.submitted(&[]);
    assert_eq!(
        (&anew["job"], &anew["finished"]),
        (&json!(job), &json!(false))
    );
    let second = fleet.wait_finished(&job);
    assert_eq!(
        second["tables"][0]["checksum"].as_str().map(str::len),
        Some(16)
    );
    assert_ne!(
        second["tables"][0]["checksum"],
        report["tables"][0]["checksum"]
    );
    all_is_well(&fleet, 120_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinator_and_agent_may_die_and_the_job_ends_all_the_same() {
    let mut fleet = prepared(8, 20_000, 2).await;
    let mut dying = fleet.agent("a0", &SMALL);
    let _other = fleet.agent("a1", &SMALL);
    let job = fleet.submit(&[]);
    fleet.wait_progress(&job, "chunks_done", 1);
    let leader = leader_of(&fleet);
    fleet.coordinators[leader].take().unwrap().kill().unwrap();
    dying.kill().unwrap();
    std::fs::remove_dir_all(fleet.sort_dir("a0")).unwrap();
    let _late = fleet.agent("a2", &SMALL);
    fleet.wait_finished(&job);
    all_is_well(&fleet, 160_000).await;
}

/// The coordinator that was elected last.
fn leader_of(fleet: &Fleet) -> usize {
    let elected = |n: &usize| {
        let log = std::fs::read_to_string(fleet.bench.path(&format!("coordinator-{n}.log")));
        log.unwrap().contains("this coordinator leads")
    };
    (0..fleet.coordinators.len()).rfind(elected).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_coordinator_that_wakes_up_changes_nothing() {
    let fleet = prepared(8, 20_000, 2).await;
    let _agent = fleet.agent("a0", &SMALL);
    let job = fleet.submit(&[]);
    fleet.wait_progress(&job, "chunks_done", 1);
    let leader = leader_of(&fleet);
    let log = |n: usize| {
        let path = fleet.bench.path(&format!("coordinator-{n}.log"));
        std::fs::read_to_string(path).unwrap()
    };
    let sleeper = fleet.coordinators[leader].as_ref().unwrap();
    sleeper.signal(Signal::STOP).unwrap();
    fleet.wait("the other to lead", |_| {
        log(1 - leader).contains("this coordinator leads")
    });
    sleeper.signal(Signal::CONT).unwrap();
    fleet.wait_finished(&job);
    assert!(log(leader).contains("the term ended"), "{}", log(leader));
    all_is_well(&fleet, 160_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_leaves_no_key_no_rule_and_no_run() {
    let fleet = prepared(8, 20_000, 1).await;
    let _agent = fleet.agent("a0", &SMALL);
    let job = fleet.submit(&[]);
    fleet.wait_progress(&job, "chunks_done", 1);
    asked(&fleet, &["cancel", &job]);
    fleet.wait("the job to be cancelled", |f| state(f, &job) == "cancelled");
    nothing_is_left(&fleet).await;
    let runs = fleet.sort_dir("a0").join("runs").join(&job);
    fleet.wait("the runs to go", |_| !runs.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_while_it_uploads_leaves_no_file_in_any_store() {
    let fleet = prepared(8, 20_000, 1).await;
    let slow = r#"{"point": "upload-open", "times": 0, "action": {"kind": "delay", "ms": 300}}"#;
    fleet.bench.control("POST", "/sandbox/faults", slow).await;
    let _agent = fleet.agent("a0", &SMALL);
    let job = fleet.submit(&[
        "thunderhead.ingest=upload",
        "tikv-importer.region-split-size=500KiB",
    ]);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stores = fleet.bench.control("GET", "/sandbox/state", "").await;
        let stores: serde_json::Value = serde_json::from_str(&stores).unwrap();
        let has_files = |store: &serde_json::Value| store["import_files"].as_u64() > Some(0);
        if stores["stores"].as_array().unwrap().iter().any(has_files) {
            break;
        }
        assert!(Instant::now() < deadline, "no file came to any store");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asked(&fleet, &["cancel", &job]);
    fleet.wait("the job to be cancelled", |f| state(f, &job) == "cancelled");
    fleet.bench.no_import_files().await;
    nothing_is_left(&fleet).await;
    // The agent lives on: what it had built for the job goes when its builder notices that nobody listens.
    let built = fleet.sort_dir("a0").join("ssts");
    fleet.wait("the table files to go", |_| {
        std::fs::read_dir(&built).unwrap().next().is_none()
    });
}

/// Stages, throughput and waiting of each agent, retries by cause, time left and what holds the job up: in the terminal, as
/// JSON of the command, and from the leader over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_watched_status_shows_the_whole_job_until_its_end_and_http_serves_the_same() {
    let fleet = prepared(6, 20_000, 1).await;
    let job = fleet.submit(&[
        "tikv-importer.store-write-bwlimit=512KiB",
        "thunderhead.ingest=write",
        "tikv-importer.region-split-size=500KiB",
    ]);
    let log = fleet.bench.path("watch.txt");
    let address = fleet.address();
    let watch = ["status", &job, "--watch", "--coordinator", &address];
    let mut watch = Process::start(&watch, &log).unwrap();
    let shown = || std::fs::read_to_string(&log).unwrap();
    fleet.wait("a word about agents", |_| {
        shown().contains("waits for agents: none is connected")
    });
    let mut dies = fleet.agent("a0", &SMALL);
    fleet.wait_progress(&job, "chunks_done", 1);
    dies.kill().unwrap();
    let _agents = ["a1", "a2"].map(|name| fleet.agent(name, &SMALL));
    // What the dead one held is missed, and two work.
    fleet.wait("the dead one to be missed", |f| {
        progress(f, &job, "retries").contains('"') && f.active() == 2
    });
    fleet.wait_progress(&job, "ranges_running", 1);
    // The limit is what everybody waits for, and it says so.
    fleet.wait("the bottleneck's name", |f| {
        progress(f, &job, "bottleneck").contains("limit")
    });
    fleet.wait("the time left", |f| {
        progress(f, &job, "eta_seconds").parse::<u64>().is_ok()
    });
    let url = format!("http://{address}/v1/jobs/{job}");
    let (served, active) = loop {
        let served = http_client().get(&url).send().await.unwrap();
        let served: serde_json::Value = served.json().await.unwrap();
        let agents = served["agents"].as_array().unwrap();
        let active: Vec<_> = agents.iter().filter(|a| a["state"] == "active").collect();
        // One that a busy machine kept from its lease comes back.
        if active.len() == 2 {
            let active: Vec<_> = active.into_iter().cloned().collect();
            break (served, active);
        }
        assert_eq!(served["job"]["state"], "running", "{served:#}");
    };
    let asked_for = fleet.status(&job).unwrap();
    for of in ["job", "progress"] {
        let [here, there] = [&served, &asked_for].map(|all| all[of].as_object().unwrap());
        assert!(here.keys().eq(there.keys()), "{served} {asked_for}");
    }
    for agent in &active {
        for link in ["merge", "TiKV", "limit", "agents"] {
            assert!(agent["blocked_ms"][link].is_u64(), "{agent:#}");
        }
        assert!(agent["source_bytes_per_second"].is_number());
    }
    let retries = served["progress"]["retries"].as_object().unwrap();
    assert!(
        retries
            .keys()
            .any(|cause| cause == "agent silent" || cause == "runs lost"),
        "{served:#}"
    );
    asked(&fleet, &["limit", &job, "0"]);
    fleet.wait_finished(&job);
    let status = watch.wait(Duration::from_secs(20)).unwrap();
    let text = shown();
    assert!(status.success(), "{text}");
    for word in [
        "encoding",
        "ingesting",
        "time left",
        "bottleneck: ",
        "waits for (ms/s)",
        "limit 524.3 kB/s to each store",
        "done again: ",
        "finished",
    ] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_full_disk_says_so_and_others_do_its_share() {
    let fleet = prepared(8, 20_000, 1).await;
    // Room for its runs of two chunks or three.
    let _full = fleet.agent("a0", &[&SMALL[..], &["--disk", "3MiB"]].concat());
    fleet.wait("an agent", |fleet| fleet.active() == 1);
    let job = fleet.submit(&["mydumper.max-region-size=512KiB"]);
    fleet.wait("the full disk to be told", |fleet| {
        fleet.agents().unwrap_or_default().iter().any(|agent| {
            agent["state"] == "disk full" && agent["reason"].as_str().unwrap().contains("disk")
        })
    });
    let _other = fleet.agent("a1", &SMALL);
    fleet.wait_finished(&job);
    all_is_well(&fleet, 160_000).await;
}

/// Bare metal without shared storage: each host has other files of the source.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_by_an_agent_that_has_it_and_waits_for_one() {
    let fleet = prepared(2, 20_000, 1).await;
    let data = fleet.bench.path("data");
    let [mine, theirs] = ["mine", "theirs"].map(|name| data.join(name));
    for (n, dir) in [&mine, &theirs].into_iter().enumerate() {
        std::fs::create_dir(dir).unwrap();
        let name = format!("d.t.{n:03}.csv");
        std::fs::rename(data.join(&name), dir.join(&name)).unwrap();
    }
    let has = |dir: &std::path::Path| ["--readable".to_owned(), dir.display().to_string()];
    let agent = |name: &str, dir: &std::path::Path| {
        let has = has(dir);
        let args: Vec<&str> = has.iter().map(String::as_str).chain(SMALL).collect();
        fleet.agent(name, &args)
    };
    let _one = agent("one", &mine);
    fleet.wait("an agent", |fleet| fleet.active() == 1);
    let job = fleet.submit(&[]);
    fleet.wait("its files to be read and a word about the others", |f| {
        progress(f, &job, "chunks_running") == "0"
            && progress(f, &job, "chunks_done") != "0"
            && progress(f, &job, "waiting_for")
                == format!("agents that can read {}", theirs.display())
    });
    let _two = agent("two", &theirs);
    let report = fleet.wait_finished(&job);
    assert_eq!(report["tables"][0]["rows"], 40_000);
    all_is_well(&fleet, 40_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_followed_within_two_lease_times() {
    let mut fleet = prepared(1, 10, 2).await;
    let leader = fleet.leader().unwrap();
    fleet.coordinators[leader].take().unwrap().kill().unwrap();
    let killed = Instant::now();
    let log = fleet.bench.path(&format!("coordinator-{}.log", 1 - leader));
    fleet.wait("the other to lead", |_| {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("this coordinator leads")
    });
    assert!(killed.elapsed() < 2 * LEASE, "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_away_when_a_job_ended_deletes_its_runs_when_it_comes_back() {
    let fleet = prepared(6, 20_000, 1).await;
    let mut away = fleet.agent("a0", &SMALL);
    let _stays = fleet.agent("a1", &SMALL);
    fleet.wait("two agents", |fleet| fleet.active() == 2);
    let job = fleet.submit(&["tikv-importer.store-write-bwlimit=64KiB"]);
    fleet.wait_progress(&job, "ranges_running", 1);
    let runs = fleet.sort_dir("a0").join("runs").join(&job);
    away.kill().unwrap();
    assert!(runs.read_dir().unwrap().next().is_some());
    asked(&fleet, &["limit", &job, "0"]);
    fleet.wait_finished(&job);
    assert!(runs.exists());
    let _back = fleet.agent("a0", &SMALL);
    fleet.wait("the runs to go", |_| !runs.exists());
    all_is_well(&fleet, 120_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_own_program_does_what_the_command_does() {
    let fleet = prepared(2, 20_000, 1).await;
    let (address, dir) = (fleet.address(), fleet.sort_dir("own"));
    let dir = dir.to_str().unwrap();
    let args = [
        "--coordinator",
        &address,
        "--sort-dir",
        dir,
        "--threads",
        "1",
    ];
    let _agent = Process::start_agent(&args, &fleet.bench.path("agent-own.log")).unwrap();
    let job = fleet.submit(&[]);
    fleet.wait_finished(&job);
    all_is_well(&fleet, 40_000).await;
}
