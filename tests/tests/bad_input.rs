//! Every kind of bad input ends with an error that names the place, the cause and what to do, with the
//! exit code of its kind, with the cluster as it was, and a rerun after the repair succeeds.
#![allow(clippy::unwrap_used)]

use thunderhead_tests::import::Bench;

const DDL: &str =
    "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(10), n INT, KEY k (n))";
const GOOD: &str = "id,name,n\n1,a,10\n2,b,20\n";

/// A sandbox with an empty table `d.t` and the file `d.t.csv`.
async fn bench(csv: impl AsRef<[u8]>) -> Bench {
    let bench = Bench::start(&[]);
    bench.sql(&["CREATE DATABASE d", DDL]).await;
    bench.file("d.t.csv", csv);
    bench
}

/// Nothing was written and nothing is left open; after `repair` the same command succeeds.
async fn clean_then_repaired(bench: &Bench) {
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
    assert_eq!(
        bench
            .control("GET", "/pd/api/v1/config/region-label/rules", "")
            .await
            .trim(),
        "[]"
    );
    bench.file("d.t.csv", GOOD);
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT id, name, n FROM d.t ORDER BY id").await,
        [["1", "a", "10"], ["2", "b", "20"]]
    );
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

macro_rules! bad_rows {
    ($($name:ident: $csv:expr, $code:expr, $words:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let bench = bench($csv).await;
            bench.import(&[]).fails($code, &$words);
            clean_then_repaired(&bench).await;
        }
    )*};
}

bad_rows! {
    an_empty_file_is_named: "", 4, ["d.t.csv", "empty"];
    a_header_without_rows_is_named: "id,name,n\n", 4, ["d.t.csv", "no rows"];
    too_few_columns_name_the_line: "id,name,n\n1,a,10\n2,b\n", 4, ["d.t.csv:3", "2 fields", "3"];
    too_many_columns_name_the_line: "id,name,n\n1,a,10,x\n", 4, ["d.t.csv:2", "4 fields", "3"];
    a_value_that_does_not_fit_names_line_and_column: "id,name,n\n1,a,10\n2,b,99999999999\n", 4, ["d.t.csv:3", "`n`", "1264"];
    a_text_that_is_too_long_names_line_and_column: "id,name,n\n1,aaaaaaaaaaaaaaaa,10\n", 4, ["d.t.csv:2", "`name`", "1406"];
    broken_utf8_names_line_and_column: b"id,name,n\n1,\xff\xfe,10\n", 4, ["d.t.csv:2", "`name`", "1366"];
    an_unterminated_quote_names_where_it_opened: "id,name,n\n1,\"a,10\n2,b,20\n", 4, ["d.t.csv:2", "quote"];
    an_unknown_header_column_is_named: "id,nome,n\n1,a,10\n", 4, ["d.t.csv", "nome"];
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_value_reaches_the_terminal() {
    let bench = bench("id,name,n\n1,topsecretvalue,10\n").await;
    let outcome = bench.import(&["--log", "debug"]);
    outcome.fails(4, &["d.t.csv:2"]);
    assert!(
        !outcome.stderr.contains("topsecret") && !outcome.stdout.contains("topsecret"),
        "{outcome:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_directory_is_named() {
    let bench = bench(GOOD).await;
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    bench.import(&[]).fails(3, &["data", "data-source-dir"]);
    std::fs::create_dir(bench.path("data")).unwrap();
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_data_files_is_named() {
    let bench = bench(GOOD).await;
    std::fs::remove_file(bench.path("data/d.t.csv")).unwrap();
    bench.import(&[]).fails(3, &["data"]);
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_target_table_is_named() {
    let bench = bench(GOOD).await;
    bench.sql(&["DROP TABLE d.t"]).await;
    bench.import(&[]).fails(3, &["d.t", "CREATE TABLE"]);
    bench.sql(&[DDL]).await;
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_empty_is_left_alone() {
    let bench = bench(GOOD).await;
    bench.sql(&["INSERT INTO d.t VALUES (7, 'x', 1)"]).await;
    bench.import(&[]).fails(3, &["d.t", "not empty"]);
    assert_eq!(bench.query("SELECT id FROM d.t").await, [["7"]]);
    bench.sql(&["DELETE FROM d.t"]).await;
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_directory_without_room_is_named() {
    let mut bench = bench(GOOD).await;
    let room = "[thunderhead]\ndisk-quota = \"1KiB\"\n";
    bench.extra = room.to_owned();
    bench.file(
        "d.t.csv",
        format!(
            "id,name,n\n{}",
            (0..10_000)
                .map(|i| format!("{i},a,{i}\n"))
                .collect::<String>()
        ),
    );
    bench.import(&[]).fails(3, &["sorted", "space"]);
    bench.extra.clear();
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pd_address_is_named() {
    let bench = bench(GOOD).await;
    bench
        .import(&["--pd-urls", "127.0.0.1:1"])
        .fails(7, &["127.0.0.1:1"]);
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pd_of_another_cluster_is_refused() {
    let (bench, other) = (bench(GOOD).await, Bench::start(&[]));
    bench
        .import(&["--pd-urls", &other.sandbox.pd])
        .fails(3, &["cluster"]);
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sql_port_is_named() {
    let bench = bench(GOOD).await;
    bench
        .import(&["--tidb-port", "1"])
        .fails(7, &["127.0.0.1:1"]);
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_of_a_configuration_is_reported_at_once_with_its_line() {
    let mut bench = bench(GOOD).await;
    bench.extra = "no-such-key = 1\n[mydumper.csv]\nheader = 7\n".to_owned();
    let outcome = bench.import(&[]);
    outcome.fails(2, &["no-such-key", "header", "lightning.toml:"]);
    bench.extra.clear();
    clean_then_repaired(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let bench = bench(GOOD).await;
    let second = tempfile::tempdir().unwrap();
    let port = bench.sandbox.sql_port.to_string();
    let dir = second.path().to_str().unwrap();
    let output = thunderhead_tests::process::run(&[
        "sandbox",
        "--data-dir",
        dir,
        "--pd-port",
        "0",
        "--status-port",
        "0",
        "--sql-port",
        &port,
    ])
    .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&port),
        "{output:?}"
    );
}
