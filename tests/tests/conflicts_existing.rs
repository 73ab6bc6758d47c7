//! Imports into tables that hold rows already. The oracle for `replace` and `ignore` is REPLACE and INSERT IGNORE
//! of the same rows into the same table; `ADMIN CHECK TABLE` and the checksum of the whole table prove the rest.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use thunderhead_tests::clashes::{
    COLUMNS, COLUMNS_ROWID, SMALL, SourceRow, csv, import, rows, select, values, without_clashes,
};
use thunderhead_tests::import::Bench;

const MORE: [&str; 4] = [
    "--set",
    "conflict.threshold=1000000",
    "--set",
    "tikv-importer.parallel-import=true",
];

/// A table with these rows, as far as they do not clash among themselves.
async fn half_filled(bench: &Bench, table: &str, columns: &str, rows: &[SourceRow]) {
    bench
        .sql(&[
            &format!("DROP TABLE IF EXISTS {table}"),
            &format!("CREATE TABLE {table} {columns}"),
        ])
        .await;
    for some in rows.chunks(200) {
        let statement = format!("INSERT IGNORE INTO {table} VALUES {}", values(some));
        bench.sql(&[&statement]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_and_ignore_do_to_existing_rows_what_the_statements_do() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    for (seed, columns, percent) in [(11, COLUMNS, 3), (12, COLUMNS_ROWID, 40), (13, COLUMNS, 90)] {
        let rows = rows(seed, 2000, percent);
        let (old, new) = rows.split_at(900);
        bench.file("d.t.csv", csv(new));
        for (strategy, statement) in [
            ("replace", "REPLACE INTO"),
            ("ignore", "INSERT IGNORE INTO"),
        ] {
            half_filled(&bench, "d.t", columns, old).await;
            half_filled(&bench, "d.expected", columns, old).await;
            for some in new.chunks(200) {
                let statement = format!("{statement} d.expected VALUES {}", values(some));
                bench.sql(&[&statement]).await;
            }
            import(&bench, strategy, &MORE).succeeds();
            let expected = select(&bench, "d.expected").await;
            assert!(
                select(&bench, "d.t").await == expected,
                "{strategy}, seed {seed}"
            );
            bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_takes_the_existing_rows_too_and_says_where_they_were() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    let rows = rows(14, 2400, 12);
    let (old, new) = rows.split_at(1000);
    half_filled(&bench, "d.t", COLUMNS, old).await;
    let there: Vec<String> = select(&bench, "d.t")
        .await
        .into_iter()
        .map(|mut row| row.remove(4))
        .collect();
    let mut all: Vec<SourceRow> = old.to_vec();
    all.retain(|row| there.contains(&row.4));
    let old_rows = all.len();
    all.extend(new.iter().cloned());
    bench.file("d.t.csv", csv(new));
    import(&bench, "remove", &MORE).succeeds();
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let left: Vec<String> = select(&bench, "d.t")
        .await
        .into_iter()
        .map(|mut row| row.remove(4))
        .collect();
    let alone = without_clashes(&all);
    assert!(left == alone, "{} left, {} alone", left.len(), alone.len());

    let own = "lightning_task_info.thunderhead_conflicts_v1";
    let of_table = bench
        .query(&format!(
            "SELECT DISTINCT row_data, verdict, line FROM {own} WHERE path = '`d`.`t`'"
        ))
        .await;
    let removed = old_rows - alone.iter().filter(|x| there.contains(x)).count();
    assert!(removed > 10);
    assert_eq!(of_table.len(), removed);
    assert!(of_table.iter().all(|row| row[1..] == ["removed", "0"]));
    let of_file = bench
        .query(&format!(
            "SELECT COUNT(DISTINCT row_data) FROM {own} WHERE path LIKE '%d.t.csv' AND line > 1"
        ))
        .await;
    let gone = all.len() - alone.len() - removed;
    assert_eq!(of_file, [[gone.to_string()]]);
    // Both views, which join what both tables say; what they hold is tested in conflicts_records.rs.
    for view in ["thunderhead_conflict_view", "conflict_view"] {
        let count = |table: &str| format!("SELECT COUNT(*) FROM lightning_task_info.{table}");
        assert_eq!(
            bench.query(&count(view)).await,
            bench.query(&count("conflict_error_v1")).await,
            "{view}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_will_be_read_from_the_table_count_for_the_disk() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    let rows = rows(16, 4000, 0);
    let (old, new) = rows.split_at(3990);
    half_filled(&bench, "d.t", COLUMNS, old).await;
    bench.file("d.t.csv", csv(new));
    let plan = |strategy: &str| {
        let parallel = "tikv-importer.parallel-import=true";
        let more = ["--set", parallel, "--dry-run", "--output", "json"];
        let outcome = import(&bench, strategy, &more);
        outcome.succeeds();
        let plan: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        plan["plan"]["tables"][0]["disk_bytes"].as_u64().unwrap()
    };
    let (alone, with_existing) = (plan("none"), plan("replace"));
    let sum = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    let held: u64 = sum[0][4].parse().unwrap();
    assert!(alone < 10_000, "{alone}");
    assert!(with_existing > held / 2, "{with_existing} of {held}");
    // Too little for half of it: it is said before anything begins.
    let quota = format!("tikv-importer.disk-quota={}", with_existing / 3);
    let little = [&MORE[..], &["--set", &quota]].concat();
    import(&bench, "replace", &little).fails(3, &["no space for sorted runs", "disk-quota"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn error_and_record_and_none_leave_existing_rows_or_say_what_became_of_them() {
    let bench = Bench::start(&[]);
    let ddl = "CREATE TABLE d.t (a INT PRIMARY KEY CLUSTERED, b INT, UNIQUE KEY ub (b))";
    bench
        .sql(&[
            "CREATE DATABASE d",
            ddl,
            "INSERT INTO d.t VALUES (1, 10), (2, 20), (3, 30)",
        ])
        .await;
    let all = "SELECT a, b FROM d.t ORDER BY a";
    let before = bench.query(all).await;
    let more = ["--set", "tikv-importer.incremental-import=true"];

    bench.file("d.t.csv", "a,b\n7,70\n8,20\n");
    import(&bench, "error", &[]).fails(3, &["not empty", "parallel-import"]);
    import(&bench, "error", &more).fails(5, &["d.t.csv:3", "the row 2 of `d`.`t`", "ub"]);
    assert_eq!(bench.query(all).await, before);

    // Rows that are already there, byte for byte, are no conflict; the others go beside them.
    bench.file("d.t.csv", "a,b\n2,20\n4,40\n5,50\n");
    import(&bench, "error", &more).succeeds();
    let five = [
        ["1", "10"],
        ["2", "20"],
        ["3", "30"],
        ["4", "40"],
        ["5", "50"],
    ];
    assert_eq!(bench.query(all).await, five);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;

    // Nobody looks, and nothing meets.
    bench.file("d.t.csv", "a,b\n6,60\n5,50\n");
    import(&bench, "none", &more).succeeds();
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["6"]]);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;

    bench.file("d.t.csv", "a,b\n6,60\n9,10\n");
    import(&bench, "record", &more).succeeds();
    let recorded = bench
        .query("SELECT key_data, path LIKE '%.csv', verdict FROM lightning_task_info.thunderhead_conflicts_v1 WHERE index_name = 'ub' AND row_data LIKE '%10)' ORDER BY key_data")
        .await;
    assert_eq!(recorded, [["1", "0", "kept"], ["9", "1", "kept"]]);

    // Nobody looks, and a row is replaced: the import notices it.
    bench
        .sql(&["DROP TABLE d.t", ddl, "INSERT INTO d.t VALUES (1, 10)"])
        .await;
    bench.file("d.t.csv", "a,b\n1,11\n2,20\n");
    import(&bench, "none", &more).fails(5, &["d.t", "conflict.strategy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_comes_to_the_same_table() {
    let rows = rows(15, 20_000, 30);
    let (old, new) = rows.split_at(6000);
    let (calm, bench) = (Bench::start(&[]), Bench::start(&[]));
    for bench in [&calm, &bench] {
        bench.sql(&["CREATE DATABASE d"]).await;
        half_filled(bench, "d.t", COLUMNS, old).await;
        bench.file("d.t.csv", csv(new));
    }
    let args = [&SMALL[..], &["--set", "conflict.strategy=replace"], &MORE].concat();
    calm.import(&args).succeeds();
    let mut kills = 0;
    for round in 0..40u64 {
        let log = bench.path("import.log");
        let mut process = bench.start_import(&args, &log).unwrap();
        match process.wait(Duration::from_millis(60 + round * 53 % 900)) {
            Err(_) => {
                process.kill().unwrap();
                kills += 1;
            }
            Ok(status) => {
                let log = std::fs::read_to_string(&log).unwrap();
                assert!(status.success(), "{log}");
                break;
            }
        }
    }
    assert!(kills > 0, "the import was over before the first kill");
    bench.import(&args).succeeds();
    assert!(select(&bench, "d.t").await == select(&calm, "d.t").await);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}
