//! An import by files of our own in a process that dies: at each step of a file's way to the stores, and at moments
//! that nobody picked. Whatever happened, the same command ends with the same table, and then no store has a file left
//! in its import directory, and the sort directory none of ours. Also what becomes of a file that is damaged between
//! building and proving. `fleet_kill` has the other steps of a job and the other roles.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::wait_until;

const ROWS: u64 = 40_013;
const TABLE: &str = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(20), n INT, UNIQUE KEY un (name), KEY kn (n))";
/// Some ten ranges of several files each.
const SETTINGS: [&str; 8] = [
    "--set",
    "mydumper.max-region-size=200KiB",
    "--set",
    "tikv-importer.region-split-size=500KiB",
    "--set",
    "thunderhead.ingest=upload",
    "--threads",
    "2",
];
const PATIENCE: Duration = Duration::from_secs(60);
/// In the order in which a file comes by; `:4` is the fourth visit.
const STEPS: [&str; 9] = [
    "built",
    "built:4",
    "proved",
    "upload",
    "upload:5",
    "uploaded",
    "ingest-sent",
    "ingest-acknowledged:2",
    "range-checksum",
];

async fn bench() -> Bench {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", TABLE]).await;
    let mut text = String::from("id,name,n\n");
    for i in 0..ROWS {
        let id = (i * 7919) % ROWS;
        text.push_str(&format!("{id},name-{:06},{}\n", ROWS - id, id % 97));
    }
    bench.file("d.t.csv", text);
    bench
}

/// The table is complete and consistent, and nothing of ours lies in the sort directory. Gives pairs and bytes.
async fn complete(bench: &Bench) -> Vec<String> {
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let found = bench
        .query("SELECT COUNT(*), SUM(id), SUM(n) FROM d.t")
        .await;
    let ids = ROWS * (ROWS - 1) / 2;
    assert_eq!(found[0][..2], [ROWS.to_string(), ids.to_string()]);
    assert!(built_files(bench).is_empty());
    let panics = bench.control("GET", "/sandbox/panics", "").await;
    assert_eq!(panics.trim(), "[]");
    // Not the sum, which the id of the table is in.
    bench.query("ADMIN CHECKSUM TABLE d.t").await[0][3..].to_vec()
}

fn built_files(bench: &Bench) -> Vec<std::path::PathBuf> {
    let dir = std::fs::read_dir(bench.path("sorted/ssts"));
    dir.into_iter()
        .flatten()
        .map(|file| file.unwrap().path())
        .collect()
}

async fn no_name_came_twice(bench: &Bench) {
    let state = bench.control("GET", "/sandbox/state", "").await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["names_used_again"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_of_a_file_a_process_dies_at_the_table_is_the_same_and_no_file_stays() {
    let bench = bench().await;
    bench.import(&SETTINGS).succeeds();
    let expected = complete(&bench).await;
    for step in STEPS {
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
        let log = bench.path("import.log");
        let mut process = bench.start_import_armed(step, &SETTINGS, &log).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), None, "{step}: it was not killed: {status}");
        bench.import(&SETTINGS).succeeds();
        assert_eq!(complete(&bench).await, expected, "{step}");
    }
    bench.no_import_files().await;
    no_name_came_twice(&bench).await;
    println!("{} kills, one at each step of a file", STEPS.len());
}

/// `THUNDERHEAD_KILLS=all` (`make test-kill`) is 200 kills, else it is a few.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_again_and_again_it_ends_with_the_table_and_no_file_stays() {
    let all = std::env::var("THUNDERHEAD_KILLS").is_ok_and(|kills| kills == "all");
    let wanted = if all { 200 } else { 8 };
    let bench = bench().await;
    let begun = std::time::Instant::now();
    bench.import(&SETTINGS).succeeds();
    let calm_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let expected = complete(&bench).await;
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    let log = bench.path("import.log");
    let (mut kills, mut jobs, mut with_files, mut moment) = (0, 0, 0, 0u64);
    while kills < wanted {
        // All moments of an undisturbed run, in an order that mixes early and late ones.
        moment += 1;
        let after = Duration::from_millis(20 + moment * 7919 % calm_ms);
        let mut process = bench.start_import(&SETTINGS, &log).unwrap();
        let Ok(status) = process.wait(after) else {
            process.kill().unwrap();
            kills += 1;
            with_files += u32::from(!built_files(&bench).is_empty());
            continue;
        };
        assert!(
            status.success(),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        jobs += 1;
        assert_eq!(complete(&bench).await, expected);
        bench.no_import_files().await;
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
    }
    bench.import(&SETTINGS).succeeds();
    assert_eq!(complete(&bench).await, expected);
    bench.no_import_files().await;
    no_name_came_twice(&bench).await;
    println!(
        "{kills} kills, {with_files} of them with built files on disk, over {} jobs",
        jobs + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_damaged_before_its_proof_reaches_no_store_and_is_told_as_a_bug() {
    let bench = bench().await;
    let watch = r#"{"point": "upload-open", "times": 0, "action": {"kind": "delay", "ms": 0}}"#;
    bench.control("POST", "/sandbox/faults", watch).await;
    let log = bench.path("import.log");
    let args = [
        &SETTINGS[..],
        &["--set", "tikv-importer.range-concurrency=1"],
    ]
    .concat();
    let mut process = bench.start_import_armed("built=stop", &args, &log).unwrap();
    wait_until("a built file", PATIENCE, || process.is_stopped()).unwrap();
    let files = built_files(&bench);
    assert!(!files.is_empty());
    for file in files {
        let file = std::fs::File::options().write(true).open(file).unwrap();
        if file.metadata().unwrap().len() > 600 {
            file.write_at(&[0; 16], 500).unwrap();
        }
    }
    process.signal(Signal::CONT).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(status.success(), "{text}");
    let told = "in part by write: a table file was not proved";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("this is a bug; please report it"), "{text}");
    complete(&bench).await;
    // Each file that was sent was taken in: whatever else was built is not with any store.
    let faults = bench.control("GET", "/sandbox/faults", "").await;
    let faults: serde_json::Value = serde_json::from_str(&faults).unwrap();
    assert!(
        faults[0]["seen"].as_u64().unwrap() > 0,
        "other ranges go on as before"
    );
    bench.no_import_files().await;
}
