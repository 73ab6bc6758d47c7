//! Whatever a source directory holds, imported as users do it: dumps, dialects, character sets, columns made
//! of names.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
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
    bench.file(
        "d.t.1.sql",
        b"INSERT INTO `t` VALUES (4,'\x8c\x5c\\'',6);\n",
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
        rows(&[
            &["1", "孿", "5"],
            &["2", "你好", "9"],
            &["3", "x", "1"],
            &["4", "孿'", "6"]
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_gb18030_is_imported_as_what_it_says() {
    let mut bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY, a VARCHAR(20))",
        ])
        .await;
    // Characters of two and four bytes, one with a second byte that looks like a backslash.
    bench.file(
        "d.t.sql",
        b"/*!40101 SET NAMES gb18030*/;\nINSERT INTO `t` VALUES (1,'\x8c\x5c'),(2,'\x81\x30\x89\x38\\'\x94\x39\xda\x33');\n",
    );
    bench.extra = "data-character-set = 'gb18030'\n".into();
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT id, a FROM d.t ORDER BY id").await,
        rows(&[&["1", "孿"], &["2", "ß'💩"]])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn views_of_a_dump_are_created_after_the_tables_they_read_in_any_order() {
    let bench = Bench::start(&[]);
    bench.file("d-schema-create.sql", "CREATE DATABASE `d`;");
    bench.file(
        "d.t-schema.sql",
        "CREATE TABLE t (id INT PRIMARY KEY, n INT);",
    );
    // Dumpling writes a table in place of each view first.
    bench.file(
        "d.v-schema.sql",
        "CREATE TABLE `v`(\n`id` int\n)ENGINE=MyISAM;\n",
    );
    bench.file(
        "d.v-schema-view.sql",
        "/*!40101 SET NAMES binary*/;\nDROP TABLE IF EXISTS `v`;\nDROP VIEW IF EXISTS `v`;\n\
         SET @PREV_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT;\nSET character_set_client = utf8mb4;\n\
         CREATE VIEW `v` AS SELECT `id` FROM `t` WHERE `n` > 1;\n\
         SET character_set_client = @PREV_CHARACTER_SET_CLIENT;\n",
    );
    // Reads a view whose name comes later.
    bench.file(
        "d.a-schema-view.sql",
        "CREATE VIEW `a` AS SELECT COUNT(*) AS c FROM `v`;\n",
    );
    bench.file("d.t.csv", "id,n\n1,1\n2,2\n3,3\n");
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT id FROM d.v ORDER BY id").await,
        rows(&[&["2"], &["3"]])
    );
    assert_eq!(bench.query("SELECT c FROM d.a").await, rows(&[&["2"]]));
    // What is there stays.
    bench.sql(&["TRUNCATE TABLE d.t"]).await;
    bench.import(&[]).succeeds();
    assert_eq!(bench.query("SELECT c FROM d.a").await, rows(&[&["2"]]));

    bench.sql(&["DROP DATABASE d"]).await;
    bench.file(
        "d.a-schema-view.sql",
        "CREATE VIEW `a` AS SELECT x FROM `missing`;\n",
    );
    bench
        .import(&[])
        .fails(3, &["d.a-schema-view.sql:1", "missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dump_file_fills_every_table_it_holds() {
    let mut bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.a (id INT PRIMARY KEY, s VARCHAR(10))",
            "CREATE TABLE d.B (id INT PRIMARY KEY)",
        ])
        .await;
    bench.file(
        "backup.sql",
        "-- MySQL dump\nDROP TABLE IF EXISTS `a`;\n/*!40101 SET character_set_client = utf8 */;\nCREATE TABLE `a` (`id` int);\n\
         LOCK TABLES `a` WRITE;\nINSERT INTO `a` VALUES (1,'x'),(2,'(y;');\nUNLOCK TABLES;\n\
         INSERT INTO `B` VALUES (7);\nINSERT INTO `a` VALUES (3,NULL);\nINSERT INTO `B` VALUES (8),(9);\n",
    );
    bench.extra =
        "[[mydumper.files]]\npath = 'backup.sql'\nschema = 'd'\ntable = '*'\ntype = 'sql'\n".into();
    bench.import(&[]).succeeds();
    assert_eq!(
        bench.query("SELECT id, s FROM d.a ORDER BY id").await,
        rows(&[&["1", "x"], &["2", "(y;"], &["3", "NULL"]])
    );
    assert_eq!(
        bench.query("SELECT id FROM d.B ORDER BY id").await,
        rows(&[&["7"], &["8"], &["9"]])
    );
}

/// Ids of rows that have none in the source.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_beforehand_only_where_their_ids_could_run_out() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            // 300 bytes of source could be 300 rows: too many for this column, so they are counted.
            "CREATE TABLE d.narrow (id TINYINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20))",
            "CREATE TABLE d.wide (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20))",
            "CREATE TABLE d.heap (a VARCHAR(20))",
            // The ids are in the files: nothing is counted, whatever the column holds.
            "CREATE TABLE d.given (id TINYINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20))",
        ])
        .await;
    for file in 0..4 {
        let texts: String = (0..30)
            .map(|row| format!("text {:04}\n", file * 30 + row))
            .collect();
        for table in ["narrow", "wide", "heap"] {
            bench.file(&format!("d.{table}.{file}.csv"), format!("a\n{texts}"));
        }
        let given: String = (0..30)
            .map(|row| format!("{},text\n", file * 30 + row + 1))
            .collect();
        bench.file(&format!("d.given.{file}.csv"), format!("id,a\n{given}"));
    }
    bench.import(&[]).succeeds();
    // Ids as they follow the source, file by file.
    let mut ids_of = BTreeMap::new();
    for (table, id) in [("narrow", "id"), ("wide", "id"), ("heap", "_tidb_rowid")] {
        let found = bench
            .query(&format!("SELECT a, {id} FROM d.{table} ORDER BY a"))
            .await;
        let texts: Vec<String> = (0..120).map(|row| format!("text {row:04}")).collect();
        assert_eq!(
            found.iter().map(|row| &row[0]).collect::<Vec<_>>(),
            texts.iter().collect::<Vec<_>>()
        );
        let ids: Vec<u64> = found.iter().map(|row| row[1].parse().unwrap()).collect();
        ids_of.insert(table, ids);
    }
    assert_eq!(ids_of["narrow"], (1..=120).collect::<Vec<_>>());
    // A file has as many ids as it could have rows; within it they follow one another.
    for table in ["wide", "heap"] {
        let gaps = |pair: &&[u64]| pair[1] != pair[0] + 1;
        let steps: Vec<&[u64]> = ids_of[table].windows(2).filter(gaps).collect();
        assert_eq!(steps.len(), 3, "{table}: {steps:?}");
        assert!(steps.iter().all(|step| step[1] > step[0] + 30), "{steps:?}");
    }
    let given = bench.query("SELECT COUNT(*), MAX(id) FROM d.given").await;
    assert_eq!(given, rows(&[&["120", "120"]]));
    bench
        .sql(&[
            "INSERT INTO d.narrow (a) VALUES ('new')",
            "INSERT INTO d.wide (a) VALUES ('new')",
            "INSERT INTO d.heap (a) VALUES ('new')",
            "ADMIN CHECK TABLE d.narrow",
            "ADMIN CHECK TABLE d.wide",
            "ADMIN CHECK TABLE d.heap",
        ])
        .await;
    assert_eq!(
        bench.query("SELECT COUNT(*) FROM d.wide").await,
        rows(&[&["121"]])
    );
}
