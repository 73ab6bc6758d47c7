//! Imports as users run them, and what the cluster holds afterwards.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;

use thunderhead_tests::import::Bench;

/// No label rule, no dead store.
async fn nothing_is_left_open(bench: &Bench) {
    assert_eq!(
        bench
            .control("GET", "/pd/api/v1/config/region-label/rules", "")
            .await
            .trim(),
        "[]"
    );
    assert_eq!(
        bench.control("GET", "/sandbox/panics", "").await.trim(),
        "[]"
    );
}

/// Also no file in any store's import directory, once stores have swept them.
async fn nothing_is_left_behind(bench: &Bench) {
    nothing_is_left_open(bench).await;
    bench.no_import_files().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_is_readable_and_consistent() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.handle (id BIGINT PRIMARY KEY CLUSTERED, u BIGINT UNSIGNED, a VARCHAR(20), b DECIMAL(12,3), c DATETIME(3), UNIQUE KEY ua (a), KEY kb (b, c))",
            "CREATE TABLE d.rowid (a INT, b CHAR(10), c DATE, d DOUBLE, t TEXT, UNIQUE KEY ua (a), KEY kb (b))",
            "CREATE TABLE d.composite (a INT, b VARCHAR(10), c DATE, n INT, PRIMARY KEY (b, a) CLUSTERED, UNIQUE KEY uc (c), KEY kn (n))",
            "CREATE TABLE d.nonclustered (a INT PRIMARY KEY NONCLUSTERED, b TEXT, KEY kb (b(3)))",
        ])
        .await;
    bench.file("d.handle.csv", "id,u,a,b,c\n-5,18446744073709551615,x,-12.5,2024-02-29 12:30:45.123\n7,0,\"a,\"\"b\"\"\nc\",0.0004,\\N\n9,\\N,\\N,\\N,1000-01-01\n10,1,\\N,1,2000-01-01\n");
    bench.file("d.rowid.csv", "a,b,c,d,t\n1,x  ,2020-01-31,1.5,日本\n2,y,\\N,-0.25,\n\\N,\\N,1999-12-31,1e10,tab\\tand\\\\\n\\N,,\\N,\\N,\\N\n");
    bench.file(
        "d.composite.csv",
        "n,c,b,a\n1,2020-01-01,k,2\n2,2020-01-02,k,1\n3,\\N,K,1\n4,\\N,,0\n",
    );
    bench.file("d.nonclustered.csv", "b,a\nabcdef,3\nabc,1\n\\N,2\n");
    bench.import(&[]).succeeds();
    for table in ["handle", "rowid", "composite", "nonclustered"] {
        bench.sql(&[&format!("ADMIN CHECK TABLE d.{table}")]).await;
    }
    assert_eq!(
        bench
            .query("SELECT id, u, a, b, c FROM d.handle ORDER BY id")
            .await,
        [
            [
                "-5",
                "18446744073709551615",
                "x",
                "-12.500",
                "2024-02-29 12:30:45.123"
            ],
            ["7", "0", "a,\"b\"\nc", "0.000", "NULL"],
            ["9", "NULL", "NULL", "NULL", "1000-01-01 00:00:00.000"],
            ["10", "1", "NULL", "1.000", "2000-01-01 00:00:00.000"],
        ]
    );
    assert_eq!(
        bench
            .query("SELECT a, b, c, d, t FROM d.rowid ORDER BY a, c")
            .await,
        [
            ["NULL", "", "NULL", "NULL", "NULL"],
            ["NULL", "NULL", "1999-12-31", "10000000000", "tab\tand\\"],
            ["1", "x", "2020-01-31", "1.5", "日本"],
            ["2", "y", "NULL", "-0.25", ""],
        ]
    );
    assert_eq!(
        bench
            .query("SELECT a, b, c, n FROM d.composite ORDER BY n")
            .await,
        [
            ["2", "k", "2020-01-01", "1"],
            ["1", "k", "2020-01-02", "2"],
            ["1", "K", "NULL", "3"],
            ["0", "", "NULL", "4"]
        ]
    );
    assert_eq!(
        bench
            .query("SELECT a, b FROM d.nonclustered ORDER BY a")
            .await,
        [["1", "abc"], ["2", "NULL"], ["3", "abcdef"]]
    );
    nothing_is_left_behind(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dumpling_directory_creates_its_schema_and_all_its_files_are_read() {
    let bench = Bench::start(&[]);
    bench.file("shop-schema-create.sql", "/*!40101 SET NAMES binary*/;\nCREATE DATABASE `shop` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n");
    bench.file("shop.item-schema.sql", "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\nCREATE TABLE `item` (\n  `id` int NOT NULL,\n  `name` varchar(20) DEFAULT NULL,\n  PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;\n");
    bench.file(
        "shop.item.000000000.csv",
        "\"id\",\"name\"\n1,\"a\"\n2,\"b\"\n",
    );
    bench.file("shop.item.000000001.csv", "\"id\",\"name\"\n3,\"c\"\n");
    bench.file("metadata", "Started dump at: 2026-01-01\n");
    bench.import(&[]).succeeds();
    assert_eq!(
        bench
            .query("SELECT COUNT(*), MIN(id), MAX(id) FROM shop.item")
            .await,
        [["3", "1", "3"]]
    );
    nothing_is_left_behind(&bench).await;
}

/// `rows` rows of a table with two secondary indexes, in an order that is not the primary key's.
fn shuffled(rows: u64) -> String {
    let mut text = String::from("id,name,n\n");
    for i in 0..rows {
        let id = (i * 7919) % rows;
        text.push_str(&format!("{id},name-{:06},{}\n", rows - id, id % 97));
    }
    text
}

const SHUFFLED: &str = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(20), n INT, UNIQUE KEY un (name), KEY kn (n))";

#[tokio::test(flavor = "multi_thread")]
async fn many_chunks_and_many_regions_give_the_same_table_as_one() {
    let rows = 30_011;
    let mut checksums = Vec::new();
    for args in [
        &[][..],
        &[
            "--set",
            "mydumper.max-region-size=100KiB",
            "--set",
            "tikv-importer.region-split-size=300KiB",
            "--threads",
            "3",
        ],
    ] {
        let bench = Bench::start(&[]);
        bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
        bench.file("d.t.csv", shuffled(rows));
        let outcome = bench.import(&[args, &["--output", "json"]].concat());
        outcome.succeeds();
        let report: serde_json::Value =
            serde_json::from_str(outcome.stdout.lines().last().unwrap()).unwrap();
        let table = &report["report"]["tables"][0];
        assert_eq!(
            (table["rows"].as_u64(), table["kv_pairs"].as_u64()),
            (Some(rows), Some(3 * rows))
        );
        assert_eq!(
            table["regions"].as_u64().unwrap() > 3,
            !args.is_empty(),
            "{report:#}"
        );
        checksums.push(bench.query("ADMIN CHECKSUM TABLE d.t").await);
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
        nothing_is_left_behind(&bench).await;
    }
    assert_eq!(checksums[0], checksums[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_either_way_the_table_is_the_same_and_the_report_says_which_it_was() {
    let mut checksums = BTreeSet::new();
    for (ingest, words) in [
        ("auto", "upload: the first pairs of each path verified here"),
        ("upload", "upload: as asked for"),
        ("write", "write: as asked for"),
    ] {
        let bench = Bench::start(&[]);
        bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
        bench.file("d.t.csv", shuffled(20_011));
        let set = format!("thunderhead.ingest={ingest}");
        let outcome = bench.import(&["--set", &set, "--output", "json"]);
        outcome.succeeds();
        let last = outcome.stdout.lines().last().unwrap();
        let report: serde_json::Value = serde_json::from_str(last).unwrap();
        let report = &report["report"];
        let paths: Vec<_> = report["ingest"].as_object().unwrap().keys().collect();
        assert!(paths.len() == 1 && paths[0].starts_with(words), "{paths:?}");
        let table = &report["tables"][0];
        let sent = table["sent_bytes"].as_u64().unwrap();
        let pairs = table["kv_bytes"].as_u64().unwrap();
        match ingest {
            "write" => assert_eq!(sent, pairs),
            _ => assert!(sent < pairs * 2 / 3, "{sent} {pairs}"),
        }
        checksums.insert(bench.query("ADMIN CHECKSUM TABLE d.t").await[0][3..].to_vec());
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
        nothing_is_left_behind(&bench).await;
    }
    assert_eq!(checksums.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_a_plan_and_writes_nothing() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
    bench.file("d.t.csv", shuffled(1000));
    let outcome = bench.import(&["--dry-run"]);
    outcome.succeeds();
    assert!(
        outcome.stdout.contains("d.t") && outcome.stdout.contains("1000"),
        "{outcome:#?}"
    );
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
    assert!(!bench.path("sorted").exists());
    let json: serde_json::Value =
        serde_json::from_str(&bench.import(&["--dry-run", "--output", "json"]).stdout).unwrap();
    assert_eq!(json["plan"]["tables"][0]["rows"], 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_handed_out_after_the_import_are_new() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, a INT)",
            "CREATE TABLE d.u (a INT)",
            // Its rows have two ids each, counted apart.
            "CREATE TABLE d.v (id INT NOT NULL AUTO_INCREMENT, a INT NOT NULL, KEY (id)) AUTO_ID_CACHE 1",
        ])
        .await;
    bench.file("d.v.csv", format!("a\n{}", "1\n".repeat(70_000)));
    bench.file("d.t.csv", "id,a\n900000,1\n5,2\n");
    bench.file("d.u.csv", format!("a\n{}", "1\n".repeat(70_000)));
    bench.import(&[]).succeeds();
    bench
        .sql(&[
            "INSERT INTO d.t (a) VALUES (3)",
            "INSERT INTO d.u VALUES (2)",
            "INSERT INTO d.v (a) VALUES (2)",
        ])
        .await;
    let new = bench.query("SELECT id > 70000, _tidb_rowid > 70000 FROM d.v WHERE a = 2");
    assert_eq!(new.await, [["1", "1"]]);
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.v").await, [["70001"]]);
    let id: u64 = bench.query("SELECT id FROM d.t WHERE a = 3").await[0][0]
        .parse()
        .unwrap();
    assert!(id > 900_000, "{id}");
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.u").await, [["70001"]]);
    bench
        .sql(&[
            "ADMIN CHECK TABLE d.t",
            "ADMIN CHECK TABLE d.u",
            "ADMIN CHECK TABLE d.v",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_occurs_twice_ends_the_job_and_names_the_index() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id BIGINT PRIMARY KEY, a INT, UNIQUE KEY ua (a))",
        ])
        .await;
    bench.file("d.t.csv", "id,a\n1,5\n2,5\n");
    bench.import(&[]).fails(5, &["d.t", "unique index"]);
    nothing_is_left_open(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_any_moment_goes_on_to_the_same_bytes() {
    let rows = 60_013;
    let settings = [
        "--set",
        "mydumper.max-region-size=200KiB",
        "--set",
        "tikv-importer.region-split-size=500KiB",
        "--threads",
        "2",
    ];
    let calm = Bench::start(&[]);
    calm.sql(&["CREATE DATABASE d", SHUFFLED]).await;
    calm.file("d.t.csv", shuffled(rows));
    calm.import(&settings).succeeds();
    let expected = calm.query("ADMIN CHECKSUM TABLE d.t").await;

    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
    bench.file("d.t.csv", shuffled(rows));
    let logged = [&settings[..], &["--log", "thunderhead_coordinator=info"]].concat();
    let (mut kills, mut work) = (0, Work::default());
    for round in 0..40u64 {
        let log = bench.path("import.log");
        let mut process = bench.start_import(&logged, &log).unwrap();
        // A different moment each round: from before the plan to well into the ingest.
        let ended = process.wait(Duration::from_millis(40 + round * 37 % 700));
        if ended.is_err() {
            process.kill().unwrap();
            kills += 1;
        }
        let text = std::fs::read_to_string(&log).unwrap();
        work.add_run(&text);
        if let Ok(status) = ended {
            assert!(status.success(), "{text}");
            break;
        }
    }
    assert!(kills > 0, "the import was over before the first kill");
    bench.import(&settings).succeeds();
    // What a kill costs: what was in work at that moment, at most one task a slot (2 encode, 4 ingest).
    let redone = work.handed_out - work.recorded.len();
    assert!(!work.recorded.is_empty(), "no run recorded anything");
    assert!(
        redone <= kills * (2 + 4),
        "{redone} tasks were begun in vain in {kills} kills"
    );
    assert_eq!(bench.query("ADMIN CHECKSUM TABLE d.t").await, expected);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    nothing_is_left_behind(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_finished_says_so_until_its_table_or_its_files_change() {
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)"])
        .await;
    bench.file("d.t.csv", "a\n1\n2\n");
    bench.import(&[]).succeeds();
    let again = bench.import(&[]);
    again.succeeds();
    assert!(again.stdout.contains("already finished"), "{again:?}");
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    let anew = bench.import(&[]);
    anew.succeeds();
    assert!(!anew.stdout.contains("already finished"), "{anew:?}");
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["2"]]);
    bench.file("d.t.csv", "a\n1\n2\n3\n");
    bench.import(&[]).fails(3, &["not empty"]);
}

/// What the leaders of several runs of one job say of their tasks.
#[derive(Default)]
struct Work {
    recorded: BTreeSet<String>,
    handed_out: usize,
}

impl Work {
    /// Adds a run's log. A task that an earlier run, or this one, recorded must never be handed out again.
    fn add_run(&mut self, log: &str) {
        for line in log.lines() {
            let task = || {
                let (_, rest) = line.split_once("task_id=").unwrap();
                rest.split_whitespace().next().unwrap().to_owned()
            };
            if line.contains("task handed out") {
                let task = task();
                assert!(!self.recorded.contains(&task), "task {task} was done twice");
                self.handed_out += 1;
            } else if line.contains("task recorded") {
                assert!(self.recorded.insert(task()), "recorded twice: {line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_closes_what_is_open_and_the_same_command_goes_on() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
    bench.file("d.t.csv", shuffled(200_003));
    let log = bench.path("import.log");
    let mut process = bench.start_import(&[], &log).unwrap();
    let rules = "/pd/api/v1/config/region-label/rules";
    while bench.control("GET", rules, "").await.trim() == "[]" {
        assert!(
            process.ended().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
    }
    process.signal(Signal::INT).unwrap();
    let status = process.wait(Duration::from_secs(20)).unwrap();
    assert_eq!(
        status.code(),
        Some(8),
        "{}",
        std::fs::read_to_string(&log).unwrap()
    );
    nothing_is_left_behind(&bench).await;
    bench.import(&[]).succeeds();
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["200003"]]);
    nothing_is_left_behind(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_between_two_attempts_is_refused_once_rows_are_in_the_cluster() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", SHUFFLED]).await;
    bench.file("d.t.csv", shuffled(5003));
    // Ingest stops in the middle: the stores refuse for longer than the importer is patient.
    bench.control("POST", "/sandbox/faults", r#"{"point":"ingest","action":{"kind":"region-error","error":"server-is-busy"},"times":0}"#).await;
    bench
        .import(&["--set", "thunderhead.retry-time=1s"])
        .fails(7, &["busy"]);
    bench.control("DELETE", "/sandbox/faults", "").await;
    bench.file("d.t.csv", shuffled(5009));
    bench.import(&[]).fails(4, &["d.t", "changed"]);
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.import(&[]).succeeds();
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["5009"]]);
}
