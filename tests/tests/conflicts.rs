//! Rows that share a primary or unique key: who stays, what is recorded, what people are told. The oracle for
//! `replace` and `ignore` is REPLACE and INSERT IGNORE, row by row, in the same sandbox.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use thunderhead_tests::clashes::{
    COLUMNS, COLUMNS_ROWID, SMALL, csv, import, rows, select, values, without_clashes,
};
use thunderhead_tests::import::Bench;
use thunderhead_tests::process;

#[tokio::test(flavor = "multi_thread")]
async fn replace_and_ignore_leave_what_the_statements_leave_row_by_row() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d"]).await;
    let many = ["--set", "conflict.threshold=1000000"];
    for (seed, columns, percent) in [
        (1, COLUMNS, 0),
        (2, COLUMNS, 1),
        (3, COLUMNS_ROWID, 50),
        (4, COLUMNS, 100),
    ] {
        let rows = rows(seed, 2000, percent);
        // Two files: source order is the order of the files, then of the lines.
        bench.file("d.t.1.csv", csv(&rows[..1200]));
        bench.file("d.t.2.csv", csv(&rows[1200..]));
        for (strategy, statement) in [
            ("replace", "REPLACE INTO"),
            ("ignore", "INSERT IGNORE INTO"),
        ] {
            bench
                .sql(&[
                    "DROP TABLE IF EXISTS d.t",
                    "DROP TABLE IF EXISTS d.expected",
                    &format!("CREATE TABLE d.t {columns}"),
                    &format!("CREATE TABLE d.expected {columns}"),
                ])
                .await;
            for some in rows.chunks(200) {
                let statement = format!("{statement} d.expected VALUES {}", values(some));
                bench.sql(&[&statement]).await;
            }
            let with_threshold: &[&str] = if percent > 0 { &many } else { &[] };
            import(&bench, strategy, with_threshold).succeeds();
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
async fn remove_takes_every_row_that_shares_a_key_and_records_all_of_them() {
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", &format!("CREATE TABLE d.t {COLUMNS}")])
        .await;
    let rows = rows(5, 3000, 10);
    bench.file("d.t.csv", csv(&rows));
    let report = bench.path("report.json");
    let many = [
        "--set",
        "conflict.threshold=100000",
        "--report-file",
        report.to_str().unwrap(),
    ];
    import(&bench, "remove", &many).succeeds();
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let left: Vec<String> = select(&bench, "d.t")
        .await
        .into_iter()
        .map(|mut r| r.remove(4))
        .collect();
    let alone = without_clashes(&rows);
    assert!(
        left == alone,
        "{} rows are left, {} should be",
        left.len(),
        alone.len()
    );

    // Every row that is gone is recorded where it stands, and only those.
    let recorded = bench
        .query("SELECT x.line, x.row_data, x.verdict, x.path FROM lightning_task_info.thunderhead_conflicts_v1 x")
        .await;
    let lines: BTreeSet<u64> = recorded.iter().map(|r| r[0].parse().unwrap()).collect();
    assert_eq!(lines.len(), rows.len() - alone.len());
    for row in &recorded {
        let line: usize = row[0].parse().unwrap();
        let (id, _, _, _, x) = &rows[line - 2];
        assert!(row[1].starts_with(&format!("({id}, '")), "{row:?}");
        assert!(row[1].ends_with(&format!("'{x}')")), "{row:?}");
        assert_eq!(row[2], "removed");
        assert!(row[3].ends_with("d.t.csv"), "{row:?}");
    }

    // One row for each index that it clashes on, in both tables; counts agree.
    let of = |table: &str| {
        format!(
            "SELECT index_name, COUNT(*) FROM lightning_task_info.{table} GROUP BY index_name ORDER BY index_name"
        )
    };
    let theirs = bench.query(&of("conflict_error_v1")).await;
    assert_eq!(theirs, bench.query(&of("thunderhead_conflicts_v1")).await);
    let counts = "SELECT index_name, participants FROM lightning_task_info.thunderhead_conflict_counts_v1 ORDER BY index_name";
    assert_eq!(theirs, bench.query(counts).await);
    assert_eq!(
        theirs.iter().map(|r| r[0].as_str()).collect::<Vec<_>>(),
        ["PRIMARY", "um", "us"]
    );
    let names = "SELECT DISTINCT table_name FROM lightning_task_info.conflict_error_v1";
    assert_eq!(bench.query(names).await, [["`d`.`t`"]]);

    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(
        report["tables"][0]["removed_rows"],
        (rows.len() - alone.len()) as u64
    );
    shown_by_the_command(&bench, report["job"].as_str().unwrap(), recorded.len());
}

fn shown_by_the_command(bench: &Bench, job: &str, recorded: usize) {
    let config = bench.config();
    let show = |more: &[&str]| {
        let args = [
            &["conflicts", job, "--config", config.to_str().unwrap()],
            more,
        ]
        .concat();
        let output = process::run(&args).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = show(&[]);
    for part in ["`d`.`t`", "us", "removed", "d.t.csv:", "page 1"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let csv = show(&["--output", "csv", "--limit", "1000000"]);
    assert_eq!(csv.lines().count(), recorded + 1);
    let page = |page: &str| show(&["--output", "csv", "--limit", "10", "--page", page]);
    assert_eq!(
        page("2").lines().skip(1).collect::<Vec<_>>(),
        csv.lines().skip(11).take(10).collect::<Vec<_>>()
    );
    let json: serde_json::Value =
        serde_json::from_str(&show(&["--output", "json", "--limit", "3"])).unwrap();
    assert_eq!(json["conflicts"].as_array().unwrap().len(), 3);
    assert!(json["conflicts"][0]["line"].is_u64(), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn error_names_both_rows_and_writes_nothing_and_budgets_hold_for_the_job() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a INT PRIMARY KEY, b INT, UNIQUE KEY ub (b))",
        ])
        .await;
    bench.file("d.t.csv", "a,b\n1,10\n2,20\n3,10\n4,20\n5,50\n");
    let failed = import(&bench, "error", &[]);
    failed.fails(5, &["d.t.csv:4", "d.t.csv:2", "ub", "4 rows share 2 keys"]);
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);

    import(&bench, "remove", &["--set", "conflict.threshold=3"]).fails(
        5,
        &[
            "4 conflicting rows",
            "conflict.threshold is 3",
            "thunderhead conflicts",
        ],
    );
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
    // The same command again does not record them twice.
    import(&bench, "remove", &["--set", "conflict.threshold=3"]).fails(5, &[]);
    let recorded = "SELECT COUNT(*) FROM lightning_task_info.conflict_error_v1";
    let before: u64 = bench.query(recorded).await[0][0].parse().unwrap();
    assert_eq!(
        before, 2,
        "max-record-rows is the threshold: one whole group, and once"
    );

    // Fewer are recorded than there are, and all of a group that is begun.
    bench
        .sql(&["TRUNCATE TABLE lightning_task_info.conflict_error_v1"])
        .await;
    import(&bench, "remove", &["--set", "conflict.max-record-rows=3"]).succeeds();
    assert_eq!(bench.query(recorded).await, [["2"]]);
    assert_eq!(bench.query("SELECT a FROM d.t").await, [["5"]]);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_leaves_the_data_and_none_ends_at_what_the_merge_meets() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a INT PRIMARY KEY CLUSTERED, b INT, UNIQUE KEY ub (b))",
        ])
        .await;
    bench.file("d.t.csv", "a,b\n1,10\n2,20\n3,10\n3,30\n2,20\n");
    import(&bench, "record", &[]).succeeds();
    // The first pair of each key stays; the second row with 2 is the same row again, and no conflict.
    let rows = bench.query("SELECT a, b FROM d.t ORDER BY a").await;
    assert_eq!(rows, [["1", "10"], ["2", "20"], ["3", "10"]]);
    let recorded = bench
        .query("SELECT index_name, line, verdict FROM lightning_task_info.thunderhead_conflicts_v1 ORDER BY index_name, line")
        .await;
    assert_eq!(
        recorded,
        [
            ["PRIMARY", "4", "kept"],
            ["PRIMARY", "5", "kept"],
            ["ub", "2", "kept"],
            ["ub", "4", "kept"]
        ]
    );
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench
        .import(&["--set", "lightning.task-info-schema-name="])
        .fails(5, &["d.t", "conflict.strategy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_with_conflicts_killed_at_any_moment_goes_on_to_the_same_survivors() {
    let settings = |extra: &[&str]| {
        let fixed = [
            "--set",
            "conflict.strategy=replace",
            "--set",
            "conflict.threshold=1000000",
        ];
        [&SMALL[..], &fixed, extra]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows = rows(6, 20_000, 30);
    let calm = Bench::start(&[]);
    let bench = Bench::start(&[]);
    for bench in [&calm, &bench] {
        bench
            .sql(&["CREATE DATABASE d", &format!("CREATE TABLE d.t {COLUMNS}")])
            .await;
        bench.file("d.t.csv", csv(&rows));
    }
    let args = settings(&[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
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
                assert!(
                    status.success(),
                    "{}",
                    std::fs::read_to_string(&log).unwrap()
                );
                break;
            }
        }
    }
    assert!(kills > 0, "the import was over before the first kill");
    bench.import(&args).succeeds();
    let sum = "ADMIN CHECKSUM TABLE d.t";
    let tally = |rows: Vec<Vec<String>>| rows[0][2..].to_vec();
    assert_eq!(tally(bench.query(sum).await), tally(calm.query(sum).await));
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let records = "SELECT index_name, line, verdict, row_data FROM lightning_task_info.thunderhead_conflicts_v1 ORDER BY index_name, group_id, line";
    let recorded = bench.query(records).await;
    assert!(!recorded.is_empty());
    assert!(
        recorded == calm.query(records).await,
        "other records than without kills"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_nothing_but_duplicates_ends_well_in_little_memory() {
    const ROWS: u32 = 120_000;
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", &format!("CREATE TABLE d.t {COLUMNS}")])
        .await;
    // Every row shares its handle with one and its `m` with another one, so all are one chain.
    let mut text = String::from("id,s,n,m,x\n");
    for n in 0..ROWS {
        let _ = writeln!(text, "{},ab,{n},{},row {n}", n / 2, n.div_ceil(2));
    }
    bench.file("d.t.csv", text);
    let report = bench.path("report.json");
    let more = [
        "--memory",
        "64MiB",
        "--set",
        "conflict.threshold=100000000",
        "--set",
        "conflict.max-record-rows=1000",
        "--report-file",
        report.to_str().unwrap(),
    ];
    for (strategy, left) in [("remove", 0), ("ignore", ROWS / 2)] {
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
        import(&bench, strategy, &more).succeeds();
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        let table = &told["tables"][0];
        assert_eq!(table["conflicting_rows"], ROWS, "{strategy}");
        assert_eq!(table["removed_rows"], ROWS - left, "{strategy}");
        let peak = told["peak_rss_bytes"].as_u64().unwrap() >> 20;
        println!("{strategy}: peak {peak} MiB");
        assert!(peak < 160, "{strategy}: {peak} MiB with a budget of 64");
        let count = bench.query("SELECT COUNT(*) FROM d.t").await;
        assert_eq!(count, [[left.to_string()]], "{strategy}");
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    }
}
