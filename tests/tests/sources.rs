//! Whatever a source directory holds, imported as users do it: dumps, dialects, character sets, columns made
//! of names.
#![allow(clippy::unwrap_used)]

use thunderhead_tests::import::Bench;

fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| row.iter().map(|value| (*value).to_owned()).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_sql_statements_is_imported_with_its_schema() {
    let bench = Bench::start(&[]);
    bench.file(
        "d-schema-create.sql",
        "/*!40101 SET NAMES binary*/;\nCREATE DATABASE `d`;\n",
    );
    bench.file(
        "d.t-schema.sql",
        "CREATE TABLE `t` (id BIGINT PRIMARY KEY CLUSTERED, a VARCHAR(20) DEFAULT 'none', b VARBINARY(10), n DECIMAL(10,2), KEY ka (a));\n",
    );
    bench.file(
        "d.t.0001.sql",
        "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\nINSERT INTO `t` VALUES\n(1,'it''s;',x'00ff',1.50),\n(2,NULL,_binary 'z\\0',-3);\nINSERT INTO `t` (`n`,`id`) VALUES (7,3),(8,4);\n",
    );
    bench.file(
        "d.t.0002.sql",
        "REPLACE INTO `t` (id,a) VALUES (5,'x'),(6,'y');\nUNLOCK TABLES;\n",
    );
    bench.import(&[]).succeeds();
    assert_eq!(
        bench
            .query("SELECT id, a, HEX(b), n FROM d.t ORDER BY id")
            .await,
        rows(&[
            &["1", "it's;", "00FF", "1.50"],
            &["2", "NULL", "7A00", "-3.00"],
            &["3", "none", "NULL", "7.00"],
            &["4", "none", "NULL", "8.00"],
            &["5", "x", "NULL", "NULL"],
            &["6", "y", "NULL", "NULL"],
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_merged_with_columns_made_of_their_names() {
    let mut bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE everything",
            "CREATE TABLE everything.people (id INT, name VARCHAR(20), shard VARCHAR(10), origin VARCHAR(10))",
        ])
        .await;
    bench.file("s1.people_07.csv", "id,secret,name\n1,x,ann\n2,x,bob\n");
    bench.file(
        "s2.people_08.sql",
        "INSERT INTO people_08 (name, id) VALUES ('cid', 3);",
    );
    bench.extra = "source-id = 'berlin-1'\n\
        [[mydumper.ignore-data-columns]]\ntable-filter = ['everything.*']\ncolumns = ['secret']\n\
        [[routes]]\nschema-pattern = 's*'\ntable-pattern = 'people_*'\ntarget-schema = 'everything'\ntarget-table = 'people'\n\
        [routes.extract-table]\ntable-regexp = 'people_(\\d+)'\ntarget-column = 'shard'\n\
        [routes.extract-source]\nsource-regexp = '(\\w+)-'\ntarget-column = 'origin'\n"
        .into();
    bench.import(&[]).succeeds();
    assert_eq!(
        bench
            .query("SELECT id, name, shard, origin FROM everything.people ORDER BY id")
            .await,
        rows(&[
            &["1", "ann", "07", "berlin"],
            &["2", "bob", "07", "berlin"],
            &["3", "cid", "08", "berlin"],
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_character_sets_and_ragged_rows_are_read_as_told() {
    let mut bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY, a VARCHAR(20), b INT DEFAULT 9)",
        ])
        .await;
    // The second byte of 0x8c5c looks like a backslash.
    bench.file(
        "d.t.csv",
        b"1,\x8c\x5c,5\n2,\xc4\xe3\xba\xc3\n3,x,1,surplus\n",
    );
    let csv = "data-character-set = 'gbk'\n[mydumper.csv]\nheader = false\n";
    bench.extra = csv.into();
    bench.import(&[]).fails(
        4,
        &[
            "d.t.csv:2 (byte 7)",
            "2 fields, 3 were expected",
            "ragged-rows",
        ],
    );
    bench.extra = format!("{csv}[thunderhead]\nragged-rows = 'accept'\n");
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT id, a, b FROM d.t ORDER BY id").await,
        rows(&[&["1", "孿", "5"], &["2", "你好", "9"], &["3", "x", "1"]])
    );
}
