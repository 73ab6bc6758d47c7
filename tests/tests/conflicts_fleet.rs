//! Conflicts over a fleet: one, two and four agents leave what one process leaves, byte for byte, and record the same;
//! also when agents die while rows are compared, and when TiDB goes away while conflicts are recorded.
#![allow(clippy::unwrap_used)]

use std::fs;
use thunderhead_tests::clashes::{COLUMNS, SMALL, csv, rows, select};
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;
use thunderhead_tests::proxy::Proxy;

const STRATEGIES: [&str; 4] = ["record", "remove", "replace", "ignore"];

fn settings(strategy: &str) -> Vec<String> {
    let mut settings = vec![
        format!("conflict.strategy={strategy}"),
        "conflict.threshold=1000000".to_owned(),
    ];
    let small = SMALL.iter().filter(|part| part.contains('='));
    settings.extend(small.map(|part| (*part).to_owned()));
    settings
}

async fn bench(seed: u64, count: u32) -> Bench {
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", &format!("CREATE TABLE d.t {COLUMNS}")])
        .await;
    for (number, some) in rows(seed, count, 30).chunks(1500).enumerate() {
        bench.file(&format!("d.t.{number}.csv"), csv(some));
    }
    bench
}

async fn found(bench: &Bench) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let mut sum = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    sum[0].drain(..2);
    let recorded = bench
        .query("SELECT index_name, row_data, verdict, line, offset, HEX(raw_key) FROM lightning_task_info.thunderhead_conflicts_v1 ORDER BY index_name, row_data")
        .await;
    (sum, recorded)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_two_and_four_agents_agree_with_one_process_for_every_strategy() {
    let mut expected = Vec::new();
    let alone = bench(21, 6000).await;
    for strategy in STRATEGIES {
        alone.sql(&["TRUNCATE TABLE d.t"]).await;
        let settings = settings(strategy);
        let mut args = Vec::new();
        settings
            .iter()
            .for_each(|setting| args.extend(["--set", setting]));
        alone.import(&args).succeeds();
        let (sum, recorded) = found(&alone).await;
        assert!(recorded.len() > 1000);
        expected.push((sum, recorded, select(&alone, "d.t").await));
    }
    for agents in [1, 2, 4] {
        let fleet = Fleet::start(bench(21, 6000).await, 1);
        let names: Vec<String> = (0..agents).map(|n| format!("a{n}")).collect();
        let _agents: Vec<_> = names
            .iter()
            .map(|name| fleet.agent(name, &["--threads", "1"]))
            .collect();
        fleet.wait("the agents", |fleet| {
            fleet.agents().is_some_and(|found| found.len() == agents)
        });
        for (strategy, (sum, recorded, left)) in STRATEGIES.iter().zip(&expected) {
            fleet.bench.sql(&["TRUNCATE TABLE d.t"]).await;
            let settings = settings(strategy);
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let job = fleet.submit(&settings);
            fleet.wait_finished(&job);
            let (found_sum, found_recorded) = found(&fleet.bench).await;
            let name = format!("{strategy}, {agents} agents");
            assert!(select(&fleet.bench, "d.t").await == *left, "{name}");
            assert_eq!(found_sum, *sum, "{name}");
            assert!(found_recorded == *recorded, "{name}");
            if *strategy != "record" {
                fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_die_with_their_disks_change_nothing_of_who_stays() {
    let count = 30_000;
    let alone = bench(22, count).await;
    let settings = settings("replace");
    let mut args = Vec::new();
    settings
        .iter()
        .for_each(|setting| args.extend(["--set", setting]));
    alone.import(&args).succeeds();
    let expected = found(&alone).await;
    let fleet = Fleet::start(bench(22, count).await, 1);
    let _stays = fleet.agent("stays", &["--threads", "1"]);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut job = None;
    // While rows are encoded, while conflicts are looked for, and while ranges are ingested.
    for (round, what) in ["a chunk", "the search", "its end"].iter().enumerate() {
        let name = format!("dies{round}");
        let mut dies = fleet.agent(&name, &["--threads", "1"]);
        let job = job.get_or_insert_with(|| fleet.submit(&settings));
        fleet.wait(what, |fleet| {
            let ended = fleet
                .status(job)
                .is_some_and(|status| status["job"]["state"] != "running");
            let log = fs::read_to_string(fleet.bench.path("coordinator-0.log")).unwrap_or_default();
            ended
                || match round {
                    0 => log.contains("task recorded"),
                    1 => log.contains("looking for conflicts"),
                    _ => log.matches("task done").count() > 1,
                }
        });
        dies.kill().unwrap();
        let _ = fs::remove_dir_all(fleet.sort_dir(&name));
    }
    fleet.wait_finished(&job.unwrap());
    let result = found(&fleet.bench).await;
    assert_eq!(result.0, expected.0);
    assert!(result.1 == expected.1, "other records");
    fleet.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_those_of_the_job_whichever_agents_do_it() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    for table in ["a", "b", "c"] {
        let ddl = format!("CREATE TABLE d.{table} (a INT PRIMARY KEY, b INT, UNIQUE KEY ub (b))");
        bench.sql(&[&ddl]).await;
        bench.file(
            &format!("d.{table}.csv"),
            "a,b\n1,10\n2,20\n3,10\n4,20\n5,50\n",
        );
    }
    let fleet = Fleet::start(bench, 1);
    let _agents = ["x", "y"].map(|name| fleet.agent(name, &["--threads", "1"]));
    let job = fleet.submit(&["conflict.strategy=remove", "conflict.threshold=11"]);
    let mut last = serde_json::Value::Null;
    fleet.wait("the job to end", |fleet| {
        last = fleet.status(&job).unwrap_or_default()["job"].clone();
        last["state"] == "failed"
    });
    let text = last["error"].to_string();
    for part in ["12 conflicting rows", "conflict.threshold is 11", &job] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let statements = ["a", "b", "c"].map(|table| format!("TRUNCATE TABLE d.{table}"));
    for statement in &statements {
        fleet.bench.sql(&[statement]).await;
    }
    let job = fleet.submit(&[
        "conflict.strategy=remove",
        "conflict.threshold=12",
        "conflict.max-record-rows=6",
    ]);
    fleet.wait_finished(&job);
    let recorded = "SELECT COUNT(*) FROM lightning_task_info.thunderhead_conflicts_v1";
    assert_eq!(fleet.bench.query(recorded).await, [["6"]]);
    let counted =
        "SELECT SUM(participants) FROM lightning_task_info.thunderhead_conflict_counts_v1";
    assert_eq!(fleet.bench.query(counted).await, [["12"]]);
    for table in ["a", "b", "c"] {
        let left = format!("SELECT a FROM d.{table}");
        assert_eq!(fleet.bench.query(&left).await, [["5"]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tidb_that_goes_away_while_conflicts_are_recorded_has_them_once() {
    let calm = bench(23, 3000).await;
    let cut = bench(23, 3000).await;
    let settings = settings("remove");
    let mut args = Vec::new();
    settings
        .iter()
        .for_each(|setting| args.extend(["--set", setting]));
    calm.import(&args).succeeds();
    for word in [
        "INSERT INTO `lightning_task_info`.`conflict_error_v1`",
        "INSERT INTO `lightning_task_info`.`thunderhead_conflicts_v1`",
        "DELETE FROM `lightning_task_info`",
    ] {
        cut.sql(&["TRUNCATE TABLE d.t"]).await;
        let proxy = Proxy::cutting(cut.sandbox.sql_port, word, 3).await.unwrap();
        let through = format!("tidb.port={}", proxy.port);
        let args = [&args[..], &["--set", &through]].concat();
        cut.import(&args).succeeds();
        assert_eq!(proxy.cuts_left(), 0, "{word}");
        for table in [
            "conflict_error_v1",
            "thunderhead_conflicts_v1",
            "thunderhead_conflict_counts_v1",
        ] {
            let count = format!("SELECT COUNT(*) FROM lightning_task_info.{table}");
            assert_eq!(
                cut.query(&count).await,
                calm.query(&count).await,
                "{table} after {word}"
            );
        }
    }
}
