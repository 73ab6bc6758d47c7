//! Rows that nothing can be made of: with `lightning.max-error` they are left out, counted over the whole job and
//! recorded with file and byte; one too many stops the job before the table is written.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use thunderhead_tests::fleet::Fleet;
use thunderhead_tests::import::Bench;

const DDL: &str =
    "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(10), n INT, KEY k (n))";

/// Rows of which every twentieth is refused: too long, out of range, cut off, or with a quote too many in turn.
fn csv(from: u64, rows: u64) -> (String, BTreeSet<u64>, Vec<u64>) {
    let (mut text, mut offsets, mut good) =
        (String::from("id,name,n\n"), BTreeSet::new(), Vec::new());
    for id in from..from + rows {
        if id % 20 != 7 {
            good.push(id);
            let _ = writeln!(text, "{id},row {},{}", id % 1000, id * 3);
            continue;
        }
        offsets.insert(text.len() as u64);
        let _ = match id / 20 % 5 {
            0 => writeln!(text, "{id},far too long a name,1"),
            1 => writeln!(text, "{id},b,99999999999"),
            2 => writeln!(text, "{id},b"),
            3 => writeln!(text, "{id},\"b\"c,\"1\""),
            _ => writeln!(text, "{id},b\"c,1"),
        };
    }
    (text, offsets, good)
}

const TYPES: &str = "SELECT path, offset, error, row_data, table_name FROM lightning_task_info.type_error_v1 ORDER BY path, offset";
const SYNTAX: &str = "SELECT path, offset, error, context, table_name FROM lightning_task_info.syntax_error_v1 ORDER BY path, offset";

/// Byte offsets that are recorded for a file, each once.
async fn recorded(bench: &Bench, file: &str) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    for query in [TYPES, SYNTAX] {
        for row in bench.query(query).await {
            assert_eq!(row[4], "`d`.`t`");
            if row[0].ends_with(file) {
                assert!(
                    all.insert(row[1].parse().unwrap()),
                    "{row:?} is there twice"
                );
            }
        }
    }
    all
}

async fn ids(bench: &Bench) -> Vec<u64> {
    let rows = bench.query("SELECT id FROM d.t ORDER BY id").await;
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tolerated_rows_are_left_out_and_recorded_where_they_stand() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    bench.file(
        "d.t.csv",
        "id,name,n\n1,a,10\n2,topsecretvalue,20\n3,c\n4,d,x\n5,e,50\n",
    );
    let report = bench.path("report.json");
    let args = [
        "--set",
        "lightning.max-error=3",
        "--report-file",
        report.to_str().unwrap(),
    ];
    // The second time replaces what the first one recorded.
    for _ in 0..2 {
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
        let outcome = bench.import(&args);
        outcome.succeeds();
        assert!(
            outcome.stdout.contains("3 rows were refused"),
            "{outcome:#?}"
        );
        assert!(!outcome.stdout.contains("topsecret") && !outcome.stderr.contains("topsecret"));
        assert_eq!(ids(&bench).await, [1, 5]);
        let types = bench.query(TYPES).await;
        assert_eq!(types.len(), 2, "{types:?}");
        assert_eq!(types[0][1], "17");
        assert!(types[0][0].ends_with("d.t.csv"), "{types:?}");
        assert!(
            types[0][2].contains("line 3") && types[0][2].contains("`name`"),
            "{types:?}"
        );
        assert_eq!(types[0][3], "('2', 'topsecretvalue', '20')");
        assert!(types[1][2].contains("line 5"), "{types:?}");
        let syntax = bench.query(SYNTAX).await;
        assert_eq!(syntax.len(), 1, "{syntax:?}");
        assert!(syntax[0][2].contains("2 fields"), "{syntax:?}");
        assert_eq!(syntax[0][3], "('3', 'c')");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["tables"][0]["refused_rows"], 3);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_too_many_stops_the_job_and_a_higher_limit_goes_on() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    let (text, offsets, good) = csv(1, 4000);
    bench.file("d.t.csv", &text);
    let small = ["--set", "mydumper.max-region-size=8KiB"];
    let limit = format!("lightning.max-error={}", offsets.len() - 1);
    let outcome = bench.import(&[&small[..], &["--set", &limit]].concat());
    let count = format!("{} rows are refused", offsets.len());
    outcome.fails(
        4,
        &[
            "d.t.csv:8 (byte ",
            &count,
            "in table d.t",
            "type_error_v1",
            "task_id = ",
        ],
    );
    assert_eq!(recorded(&bench, "d.t.csv").await, offsets);
    assert!(ids(&bench).await.is_empty());

    let limit = format!("lightning.max-error={}", offsets.len());
    bench
        .import(&[&small[..], &["--set", &limit]].concat())
        .succeeds();
    assert_eq!(recorded(&bench, "d.t.csv").await, offsets);
    assert_eq!(ids(&bench).await, good);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_parsed_are_recorded_as_they_are_written() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    bench.file("d.t.csv", "id,name,n\n1,\"a\",10\n2,\"b\"it's,20\n3,c,30\n");
    // As today without a limit.
    bench
        .import(&[])
        .fails(4, &["d.t.csv:3 (byte 24)", "closing quote"]);
    bench.import(&["--set", "lightning.max-error=1"]).succeeds();
    assert_eq!(ids(&bench).await, [1, 3]);
    let syntax = bench.query(SYNTAX).await;
    assert_eq!(syntax.len(), 1, "{syntax:?}");
    assert_eq!(
        (syntax[0][1].as_str(), syntax[0][4].as_str()),
        ("19", "`d`.`t`")
    );
    assert!(
        syntax[0][2].contains("line 3: column 2: text after"),
        "{syntax:?}"
    );
    assert_eq!(syntax[0][3], "'2,\"b\"it\\'s,20'");
    // Where a quote is never closed, nobody knows how many records there are.
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.file("d.t.csv", "id,name,n\n1,a,10\n2,\"b,20\n3,c,30\n");
    bench
        .import(&["--set", "lightning.max-error=9"])
        .fails(4, &["d.t.csv:3 (byte 19)", "unterminated"]);
}

/// Rows of a dump of which every twentieth cannot be read.
fn dump(rows: u64) -> (String, BTreeSet<u64>, Vec<u64>) {
    let (mut text, mut offsets, mut good) = (String::new(), BTreeSet::new(), Vec::new());
    for id in 1..=rows {
        text.push_str(match id % 100 {
            1 => "INSERT INTO `t` VALUES\n",
            _ => ",\n",
        });
        let at = text.len() as u64;
        let wrong = id % 20 == 7;
        let _ = match (wrong, id / 20 % 3) {
            (false, _) => write!(text, "({id},'row\\n{}',{id})", id % 1000),
            (_, 0) => write!(text, "({id},'it's',1)"),
            (_, 1) => write!(text, "({id},UPPER('x'),1)"),
            _ => write!(text, "({id},'open,1)"),
        };
        match wrong {
            true => drop(offsets.insert(at)),
            false => good.push(id),
        }
        if id % 100 == 0 || id == rows {
            text.push_str(";\n");
        }
    }
    (text, offsets, good)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_dump_that_cannot_be_read_are_the_same_however_it_is_cut() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    let (text, offsets, good) = dump(3000);
    bench.file("d.t.sql", &text);
    bench.import(&[]).fails(4, &["d.t.sql:8 (byte "]);
    let limit = format!("lightning.max-error={}", offsets.len());
    for size in ["4KiB", "100MiB"] {
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
        let size = format!("mydumper.max-region-size={size}");
        bench.import(&["--set", &limit, "--set", &size]).succeeds();
        assert_eq!(ids(&bench).await, good);
        assert_eq!(recorded(&bench, "d.t.sql").await, offsets);
    }
    // A file that ends in the middle of a row is not complete, whatever is tolerated.
    bench.file("d.t.sql", &text[..text.len() - 5]);
    for size in ["4KiB", "100MiB"] {
        bench.sql(&["TRUNCATE TABLE d.t"]).await;
        let size = format!("mydumper.max-region-size={size}");
        let outcome = bench.import(&["--set", &limit, "--set", &size]);
        outcome.fails(4, &["d.t.sql:3030", "ends inside of a row"]);
    }
    bench.file("d.t.sql", &text);
    let less = format!("lightning.max-error={}", offsets.len() - 1);
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench
        .import(&["--set", &less])
        .fails(4, &["d.t.sql:8", "rows are refused"]);
}

/// The job in a status: beside its progress while it is led, alone after that.
fn view(status: &serde_json::Value) -> &serde_json::Value {
    status
        .get("job")
        .filter(|j| j.is_object())
        .unwrap_or(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_over_all_agents_of_a_fleet() {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    let (first, first_offsets, mut good) = csv(1, 6000);
    let (second, second_offsets, more) = csv(10_001, 6000);
    good.extend(more);
    bench.file("d.t.1.csv", &first);
    bench.file("d.t.2.csv", &second);
    let (third, third_offsets, more) = dump(3000);
    // The ids of the others begin behind them.
    let third = third.replace("\n(", "\n(20000000");
    good.extend(
        more.iter()
            .map(|id| format!("20000000{id}").parse::<u64>().unwrap()),
    );
    good.sort_unstable();
    bench.file("d.t.3.sql", &third);
    let total = first_offsets.len() + second_offsets.len() + third_offsets.len();
    let fleet = Fleet::start(bench, 1);
    let _a = fleet.agent("a", &["--threads", "1"]);
    let _b = fleet.agent("b", &["--threads", "1"]);
    let small = "mydumper.max-region-size=16KiB";
    // Each agent alone stays far below.
    let job = fleet.submit(&[small, &format!("lightning.max-error={}", total - 1)]);
    fleet.wait("the job to fail", |fleet| {
        fleet
            .status(&job)
            .is_some_and(|status| view(&status)["state"] == "failed")
    });
    let status = fleet.status(&job).unwrap();
    let error = view(&status)["error"].to_string();
    assert!(
        error.contains("rows are refused") && error.contains("max-error"),
        "{status}"
    );
    assert!(ids(&fleet.bench).await.is_empty());

    let job = fleet.submit(&[small, &format!("lightning.max-error={total}")]);
    fleet.wait_finished(&job);
    assert_eq!(ids(&fleet.bench).await, good);
    assert_eq!(recorded(&fleet.bench, "d.t.1.csv").await, first_offsets);
    assert_eq!(recorded(&fleet.bench, "d.t.2.csv").await, second_offsets);
    let third = recorded(&fleet.bench, "d.t.3.sql").await;
    assert_eq!(third.len(), third_offsets.len());
}
