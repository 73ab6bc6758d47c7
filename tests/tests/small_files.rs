//! Small files of a table share chunks: the table is the one that chunks of one file give, and what is wrong with a
//! row or a file is said of that file.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::io::Write;
use thunderhead_tests::control::Control;
use thunderhead_tests::fixture::{Fixture, checksum, encoded, failed};
use thunderhead_tests::import::Bench;
use thunderhead_types::Checksum;

/// Without a key of its own: its pairs depend on row ids.
const HEAP: &str = "CREATE TABLE d.t (id BIGINT, name VARCHAR(20), KEY kn (name))";
const ROWS: u64 = 10;
/// Each file of `heap_of` alone fits, two do not.
const ONE_FILE: &str = "mydumper.max-region-size=400";

fn row(n: u64) -> (u64, String) {
    (
        1_000_000 + n,
        format!("{:020}", n * 7919 % 100_003 * 1_000_003),
    )
}

/// A table of forty files in three forms.
async fn heap_of(bench: &Bench) {
    bench.sql(&["CREATE DATABASE d", HEAP]).await;
    for file in 0..40 {
        let rows = (file * ROWS..(file + 1) * ROWS).map(row);
        let csv: String = rows
            .clone()
            .map(|(id, name)| format!("{id},{name}\n"))
            .collect();
        let csv = format!("id,name\n{csv}");
        let (kind, content) = match file {
            0..20 => ("csv", csv.into_bytes()),
            20..30 => {
                let values: Vec<String> =
                    rows.map(|(id, name)| format!("({id},'{name}')")).collect();
                let text = format!("INSERT INTO t VALUES {};\n", values.join(",\n"));
                ("sql", text.into_bytes())
            }
            _ => {
                let fast = flate2::Compression::fast();
                let mut to = flate2::write::GzEncoder::new(Vec::new(), fast);
                to.write_all(csv.as_bytes()).unwrap();
                ("csv.gz", to.finish().unwrap())
            }
        };
        let weight = content.len() * if kind == "csv.gz" { 4 } else { 1 };
        assert!(
            content.len() <= 400 && weight > 200,
            "{} bytes of {kind}",
            content.len()
        );
        bench.file(&format!("d.t.{file:03}.{kind}"), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_shared_chunks_is_the_one_of_a_chunk_for_each_file() {
    let mut tables = Vec::new();
    for (args, chunks) in [
        (&["--threads", "3"][..], 3),
        (&["--set", ONE_FILE, "--threads", "1"], 40),
    ] {
        let bench = Bench::start(&[]);
        heap_of(&bench).await;
        let plan = bench.import(&[args, &["--dry-run", "--output", "json"]].concat());
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        let table = &plan["plan"]["tables"][0];
        assert_eq!(
            (&table["files"], &table["chunks"]),
            (&40.into(), &chunks.into())
        );
        bench.import(args).succeeds();
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
        let rows = bench
            .query("SELECT _tidb_rowid, id, name FROM d.t ORDER BY id")
            .await;
        let pairs = bench.query("ADMIN CHECKSUM TABLE d.t").await;
        tables.push((rows, pairs));
    }
    let rows: Vec<_> = tables[0].0.iter().map(|row| &row[1..]).collect();
    let expected: Vec<_> = (0..40 * ROWS)
        .map(row)
        .map(|(id, name)| [id.to_string(), name])
        .collect();
    assert_eq!(rows, expected);
    assert_eq!(tables[0], tables[1]);
}

/// Five files of one chunk; the third and the fifth have a row that is refused, in their lines 3 and 2.
async fn with_refused_rows() -> Bench {
    let bench = Bench::start(&[]);
    let table = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(5))";
    bench.sql(&["CREATE DATABASE d", table]).await;
    for (file, rows) in [
        "1,a\n2,b\n",
        "3,c\n",
        "4,d\n5,too long\n6,f\n",
        "7,g\n",
        "8\n9,i\n",
    ]
    .into_iter()
    .enumerate()
    {
        bench.file(&format!("d.t.{file}.csv"), format!("id,name\n{rows}"));
    }
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_is_said_of_its_own_file() {
    let bench = with_refused_rows().await;
    bench
        .import(&[])
        .fails(4, &["/d.t.2.csv:3 (byte 12)", "column `name`"]);
    let outcome = bench.import(&["--set", "lightning.max-error=1"]);
    outcome.fails(4, &["/d.t.2.csv:3 (byte 12)", "2 rows are refused"]);
    bench.import(&["--set", "lightning.max-error=2"]).succeeds();
    for (table, expected) in [
        ("type_error_v1", ["/d.t.2.csv", "12", "line 3: "]),
        ("syntax_error_v1", ["/d.t.4.csv", "8", "line 2: "]),
    ] {
        let recorded = bench
            .query(&format!(
                "SELECT path, offset, error FROM lightning_task_info.{table}"
            ))
            .await;
        let [path, offset, error] = expected;
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        assert!(recorded[0][0].ends_with(path), "{recorded:?}");
        assert_eq!(recorded[0][1], offset);
        assert!(recorded[0][2].starts_with(error), "{recorded:?}");
    }
    let left = bench.query("SELECT id FROM d.t ORDER BY id").await;
    assert_eq!(left.concat(), ["1", "2", "3", "4", "6", "7", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_rows_are_found_in_their_own_files() {
    for (strategy, left) in [("replace", "2 c1 4 5 d1 7"), ("ignore", "1 2 3 4 5 7")] {
        let bench = Bench::start(&[]);
        let table = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, a INT, b VARCHAR(9), UNIQUE KEY (a))";
        bench.sql(&["CREATE DATABASE d", table]).await;
        for (file, rows) in [
            "1,10,1\n2,20,2\n",
            "3,30,3\n",
            "4,40,4\n1,50,c1\n5,60,5\n",
            "6,30,d1\n7,70,7\n",
        ]
        .into_iter()
        .enumerate()
        {
            bench.file(&format!("d.t.{file}.csv"), format!("id,a,b\n{rows}"));
        }
        let strategy = format!("conflict.strategy={strategy}");
        bench.import(&["--set", &strategy]).succeeds();
        let rows = bench.query("SELECT b FROM d.t ORDER BY id").await;
        let expected: Vec<&str> = left.split(' ').collect();
        let mut rows = rows.concat();
        rows.sort();
        let mut sorted = expected.clone();
        sorted.sort_unstable();
        assert_eq!(rows, sorted);
        bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
        let recorded = bench
            .query(
                "SELECT path, offset, line, row_data FROM lightning_task_info.thunderhead_conflicts_v1 \
                 ORDER BY row_id",
            )
            .await;
        let expected = [
            ("/d.t.0.csv", "7", "2", "(1, 10, '1')"),
            ("/d.t.1.csv", "7", "2", "(3, 30, '3')"),
            ("/d.t.2.csv", "14", "3", "(1, 50, 'c1')"),
            ("/d.t.3.csv", "7", "2", "(6, 30, 'd1')"),
        ];
        assert_eq!(recorded.len(), expected.len(), "{recorded:?}");
        for (row, (path, offset, line, data)) in recorded.iter().zip(expected) {
            assert!(row[0].ends_with(path), "{recorded:?}");
            assert_eq!(row[1..], [offset, line, data]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_chunk_says_of_its_files_together_what_each_says_alone() {
    const FILES: [u64; 3] = [0, 1, 2];
    let fixture = Fixture::new(3, 700).await;
    let mut control = Control::start(0, 7).await;
    let _agent = fixture.agent("a", &[&control], &[]);
    let (agent, _) = control.hello().await;
    let (mut sum, mut bytes) = (Checksum::default(), 0);
    for file in FILES {
        control.order(&agent, fixture.encode(file, 1)).await;
        let manifest = encoded(&mut control).await.1.manifest.unwrap();
        assert_eq!(manifest.rows, 700);
        sum.merge(&checksum(manifest.checksum));
        bytes += manifest.source_bytes;
    }
    let order = fixture.encode_together(9, 1, &FILES);
    control.order(&agent, order).await;
    let manifest = encoded(&mut control).await.1.manifest.unwrap();
    assert_eq!(checksum(manifest.checksum), sum);
    assert_eq!((manifest.rows, manifest.source_bytes), (2100, bytes));
    // Records and index entries of all of them, once each.
    assert_eq!(manifest.runs.len(), 2);
    let entries: u64 = manifest.runs.iter().map(|run| run.entries).sum();
    assert_eq!(entries, sum.kvs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_shared_chunk_that_is_another_one_now_is_named() {
    let fixture = Fixture::new(3, 100).await;
    let mut control = Control::start(0, 7).await;
    let _agent = fixture.agent("a", &[&control], &[]);
    let (agent, _) = control.hello().await;
    let order = |attempt| fixture.encode_together(9, attempt, &[0, 1, 2]);
    let (first, second) = (order(1), order(2));
    let path = fixture.bench.path("data/1.csv");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("900,name-late,1\n");
    fs::write(&path, text).unwrap();
    control.order(&agent, first).await;
    let failure = failed(&mut control).await.failure.unwrap();
    assert!(failure.place.ends_with("/data/1.csv"), "{failure:?}");
    assert_eq!(failure.cause, "the file changed during the import");
    fs::remove_file(&path).unwrap();
    control.order(&agent, second).await;
    let failure = failed(&mut control).await.failure.unwrap();
    assert!(failure.place.ends_with("/data/1.csv"), "{failure:?}");
    assert_eq!(failure.kind, "data", "{failure:?}");
    // What was encoded before it is gone.
    let runs = fixture.bench.path("a/runs");
    let attempts = fs::read_dir(&runs).into_iter().flatten().flatten();
    let left = attempts.filter_map(|job| fs::read_dir(job.path()).ok());
    assert_eq!(left.flatten().count(), 0, "{}", runs.display());
}
