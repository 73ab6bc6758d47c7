//! The tables and views of records as people and programs read them: every column of every participant. And when
//! nothing is recorded although the configuration asks for it.
#![allow(clippy::unwrap_used)]

use thunderhead_tests::clashes::import;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process;

const INFO: &str = "lightning_task_info";

fn cells(rows: &[&[&str]]) -> Vec<Vec<String>> {
    let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
    rows.iter().map(row).collect()
}

/// The digits of an integer in a key.
fn key(n: u64) -> String {
    format!("03{:016x}", n | 1 << 63)
}

/// Rows 1 and 3 share `b`, the two rows 4 share their handle, and the lines of 2 are one row that shares `b` with 9.
const ROWS: &str =
    "a,b,c\n1,10,x\n2,20,it's\n2,20,it's\n3,10,z\n4,40,\\N\n4,41,q\n9,20,w\n7,70,alone\n";

#[tokio::test(flavor = "multi_thread")]
async fn both_views_say_of_every_participant_what_the_tables_say() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a BIGINT PRIMARY KEY CLUSTERED, b BIGINT, c VARCHAR(9), UNIQUE KEY ub (b))",
        ])
        .await;
    bench.file("d.t.csv", ROWS);
    let report = bench.path("report.json");
    let to = ["--report-file", report.to_str().unwrap()];
    let outcome = import(&bench, "replace", &to);
    outcome.succeeds();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let job = report["job"].as_str().unwrap();
    // People are told how many, and what to do next.
    let told = format!("see `thunderhead conflicts {job}`");
    for part in [
        "d.t: 7 rows shared 3 primary or unique keys, 4 were left out",
        &told,
    ] {
        assert!(outcome.stdout.contains(part), "no {part:?} in {outcome:#?}");
    }

    let table_id: u64 = bench
        .query("SELECT tidb_table_id FROM information_schema.tables WHERE table_schema = 'd' AND table_name = 't'")
        .await[0][0]
        .parse()
        .unwrap();
    let table = format!("74{:016x}", table_id | 1 << 63);
    let record = |a: u64| format!("{table}5f72{:016x}", a | 1 << 63);
    let entry = |b: u64| format!("{table}5f69{:016x}{}", 1u64 | 1 << 63, key(b));

    // One row of one key after another, in source order; the two equal lines are two participants.
    let expected = [
        (
            "PRIMARY",
            "0",
            "4",
            "removed",
            "6",
            "4",
            "(4, 40, NULL)",
            record(4),
            record(4),
        ),
        (
            "PRIMARY",
            "0",
            "5",
            "kept",
            "7",
            "4",
            "(4, 41, 'q')",
            record(4),
            record(4),
        ),
        (
            "ub",
            "1",
            "0",
            "removed",
            "2",
            "1",
            "(1, 10, 'x')",
            entry(10),
            record(1),
        ),
        (
            "ub",
            "1",
            "3",
            "kept",
            "5",
            "3",
            "(3, 10, 'z')",
            entry(10),
            record(3),
        ),
        (
            "ub",
            "2",
            "1",
            "removed",
            "3",
            "2",
            "(2, 20, 'it\\'s')",
            entry(20),
            record(2),
        ),
        (
            "ub",
            "2",
            "2",
            "removed",
            "4",
            "2",
            "(2, 20, 'it\\'s')",
            entry(20),
            record(2),
        ),
        (
            "ub",
            "2",
            "6",
            "kept",
            "8",
            "9",
            "(9, 20, 'w')",
            entry(20),
            record(9),
        ),
    ];
    let group = |index: &str, expected_group: &str| -> String {
        // Index entries lie before records in the order of keys.
        match (index, expected_group) {
            ("PRIMARY", _) => "2".to_owned(),
            (_, group) => (group.parse::<u64>().unwrap() - 1).to_string(),
        }
    };
    let mut ours: Vec<Vec<String>> = expected
        .iter()
        .map(
            |(index, g, row, verdict, line, handle, text, key, record)| {
                let mut cells = vec![(*index).to_owned(), group(index, g)];
                cells.extend([*row, *verdict, *line, *handle, *text].map(str::to_owned));
                cells.extend([key.to_uppercase(), record.to_uppercase()]);
                cells
            },
        )
        .collect();
    ours.sort_by_key(|row| (row[1].clone(), row[2].clone()));
    let found = bench
        .query(&format!(
            "SELECT index_name, group_id, row_id, verdict, line, key_data, row_data, HEX(raw_key), HEX(raw_handle) \
             FROM {INFO}.thunderhead_conflict_view WHERE job = '{job}' AND table_name = '`d`.`t`' ORDER BY group_id, row_id"
        ))
        .await;
    assert_eq!(found, ours);

    // Where each stands: the bytes of the file from there on begin with the row.
    let places = format!("SELECT path, offset, line FROM {INFO}.thunderhead_conflict_view");
    for place in bench.query(&places).await {
        assert!(place[0].ends_with("data/d.t.csv"), "{place:?}");
        let (offset, line): (usize, usize) = (place[1].parse().unwrap(), place[2].parse().unwrap());
        let before = ROWS[..offset].matches('\n').count();
        assert_eq!(before + 1, line, "{place:?}");
        assert!(ROWS[..offset].ends_with('\n'), "{place:?}");
    }

    // The raw values: the record is the value of its key, and of a record's conflict both are the same pair.
    let raw = format!(
        "SELECT index_name, HEX(raw_value), HEX(raw_row), LENGTH(raw_row) > 5 FROM {INFO}.thunderhead_conflict_view"
    );
    for row in bench.query(&raw).await {
        assert_eq!(row[0] == "PRIMARY", row[1] == row[2], "{row:?}");
        assert_eq!(row[3], "1");
    }

    // The shape of Lightning's view: its columns, in its order.
    let columns = bench
        .query(&format!(
            "SELECT is_precheck_conflict, task_id > 0, create_time > '2020-01-01', table_name, index_name, key_data, row_data, \
             HEX(raw_key), LENGTH(raw_value) > 0, HEX(raw_handle), LENGTH(raw_row) > 0, kv_type, path, offset, error, row_id \
             FROM {INFO}.conflict_view ORDER BY index_name, key_data, row_data"
        ))
        .await;
    let mut theirs: Vec<Vec<String>> = expected
        .iter()
        .map(|(index, _, _, _, _, handle, text, key, record)| {
            let kv_type = if *index == "PRIMARY" { "1" } else { "0" };
            let mut row = ["0", "1", "1", "`d`.`t`", index, handle, text]
                .map(str::to_owned)
                .to_vec();
            row.extend([
                key.to_uppercase(),
                "1".into(),
                record.to_uppercase(),
                "1".into(),
                kv_type.into(),
            ]);
            row.extend(["NULL"; 4].map(str::to_owned));
            row
        })
        .collect();
    theirs.sort_by_key(|row| (row[4].clone(), row[5].clone(), row[6].clone()));
    assert_eq!(columns, theirs);
    let all = bench
        .query(&format!("SELECT * FROM {INFO}.conflict_view"))
        .await;
    assert_eq!((all.len(), all[0].len()), (7, 16));
    let counts = format!(
        "SELECT index_name, conflicts, participants FROM {INFO}.thunderhead_conflict_counts_v1 ORDER BY index_name"
    );
    assert_eq!(
        bench.query(&counts).await,
        cells(&[&["PRIMARY", "1", "2"], &["ub", "2", "5"]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_tikv_older_than_v5_2_record_is_none_and_says_so() {
    let bench = Bench::start(&["--profile", "tikv-5.1"]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a INT PRIMARY KEY CLUSTERED, b INT, UNIQUE KEY ub (b))",
        ])
        .await;
    bench.file("d.t.csv", "a,b\n1,10\n2,20\n");
    let report = bench.path("report.json");
    let to = ["--report-file", report.to_str().unwrap()];
    let outcome = import(&bench, "record", &to);
    outcome.succeeds();
    for part in ["\"record\" was not in force", "TiKV v5.2.0", "has 5.1.5"] {
        assert!(
            outcome.stdout.contains(part),
            "report: no {part:?} in {outcome:#?}"
        );
        assert!(
            outcome.stderr.contains(part),
            "log: no {part:?} in {outcome:#?}"
        );
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let note = report["tables"][0]["note"].as_str().unwrap();
    assert!(note.contains("v5.2.0"), "{note}");
    // As with `none`: what the merge meets anyway ends the job, and nothing is recorded.
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.file("d.t.csv", "a,b\n1,10\n2,10\n");
    import(&bench, "record", &[]).fails(5, &["d.t", "conflict.strategy"]);
    let recorded = bench.query("SHOW DATABASES").await;
    assert!(!recorded.contains(&vec![INFO.to_owned()]), "{recorded:?}");
    // The other strategies do not need it.
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    let outcome = import(&bench, "remove", &[]);
    outcome.succeeds();
    assert!(!outcome.stdout.contains("not in force"), "{outcome:#?}");
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_nothing_of_a_job_without_conflicts_and_pages_of_others() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (a INT PRIMARY KEY CLUSTERED, b VARCHAR(20), UNIQUE KEY ub (b))",
        ])
        .await;
    let config = bench.config();
    let show = |more: &[&str]| {
        let args = [&["conflicts", "--config", config.to_str().unwrap()], more].concat();
        let output = process::run(&args).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    bench.file("d.t.csv", "a,b\n1,\"x, \"\"y\"\"\"\n");
    assert!(show(&[]).contains("no conflicts are recorded"));
    bench.file(
        "d.t.csv",
        "a,b\n1,\"x, \"\"y\"\"\"\n2,\"x, \"\"y\"\"\"\n3,z\n",
    );
    import(&bench, "ignore", &[]).succeeds();
    // Without the name of a job it is that of the configuration.
    let csv = show(&["--output", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("table_name,index_name,group_id,verdict,path,line,offset"));
    assert!(
        lines[1].contains(",ub,0,kept,") && lines[2].contains(",ub,0,removed,"),
        "{csv}"
    );
    assert!(lines[2].ends_with(",2,\"(2, 'x, \"\"y\"\"')\",1"), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&show(&["--output", "json", "--limit", "1", "--page", "2"])).unwrap();
    let row = &json["conflicts"][0];
    assert_eq!(json["counts"][0]["shared_keys"], 1);
    assert_eq!(json["counts"][0]["rows"], 2);
    assert_eq!(
        (&row["verdict"], &row["line"]),
        (&"removed".into(), &3.into())
    );
    assert_eq!(row["row_data"], "(2, 'x, \"y\"')");
    assert_eq!(json["conflicts"].as_array().unwrap().len(), 1);
    let counts = show(&["--counts"]);
    assert!(
        counts.contains("ub") && !counts.contains("removed"),
        "{counts}"
    );
}
