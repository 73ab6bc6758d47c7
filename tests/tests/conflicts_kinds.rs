//! What is a conflict: keys of every kind that two rows can share. The oracle is REPLACE and INSERT IGNORE of the same
//! rows, one by one, and what TiDB itself made of the golden cases.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::Path;
use thunderhead_tests::clashes::import;
use thunderhead_tests::import::Bench;

/// Name, definition of the table, rows as VALUES, and how many participants each index has.
type Kind = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, u64)],
);

const KINDS: [Kind; 10] = [
    (
        "collation",
        "(id INT PRIMARY KEY, s VARCHAR(10) COLLATE utf8mb4_general_ci, UNIQUE KEY us (s))",
        &["1, 'a'", "2, 'A '", "3, 'b'", "4, 'á'", "5, 'c'"],
        &[("us", 3)],
    ),
    (
        "binary_is_exact",
        "(id INT PRIMARY KEY, s VARCHAR(10) COLLATE utf8mb4_0900_bin, UNIQUE KEY us (s))",
        &["1, 'a'", "2, 'A'", "3, 'a '", "4, 'a'"],
        &[("us", 2)],
    ),
    (
        "several_columns",
        "(id INT PRIMARY KEY, a INT, b VARCHAR(5), UNIQUE KEY uab (a, b))",
        &[
            "1, 1, 'x'",
            "2, 1, 'y'",
            "3, 1, 'x'",
            "4, NULL, 'x'",
            "5, NULL, 'x'",
            "6, 2, NULL",
            "7, 2, NULL",
        ],
        &[("uab", 2)],
    ),
    (
        "prefix",
        "(id INT PRIMARY KEY, s TEXT, UNIQUE KEY us (s(3)))",
        &["1, 'abcd'", "2, 'abce'", "3, 'abx'", "4, 'ab'"],
        &[("us", 2)],
    ),
    (
        "expression",
        "(id INT PRIMARY KEY, s VARCHAR(10), UNIQUE KEY us ((lower(s))))",
        &["1, 'Ab'", "2, 'aB'", "3, 'abc'", "4, NULL", "5, NULL"],
        &[("us", 2)],
    ),
    (
        "multi_valued",
        "(id INT PRIMARY KEY, j JSON, UNIQUE KEY uj ((CAST(j AS UNSIGNED ARRAY))))",
        &[
            "1, '[1, 2]'",
            "2, '[2, 3]'",
            "3, '[4, 4]'",
            "4, '[]'",
            "5, '[3]'",
            "6, NULL",
        ],
        &[("uj", 4)],
    ),
    (
        "global",
        "(id INT, a INT, PRIMARY KEY (id) CLUSTERED, UNIQUE KEY ua (a) GLOBAL) PARTITION BY HASH (id) PARTITIONS 4",
        &["1, 10", "2, 10", "3, 30", "4, 40", "5, NULL", "6, NULL"],
        &[("ua", 2)],
    ),
    (
        "clustered",
        "(a VARCHAR(10) COLLATE utf8mb4_unicode_ci, b INT, n INT, PRIMARY KEY (a, b) CLUSTERED, KEY kn (n))",
        &[
            "'x', 1, 1",
            "'X', 1, 2",
            "'x', 2, 3",
            "'y', 1, 4",
            "'Y ', 1, 5",
        ],
        &[("PRIMARY", 4)],
    ),
    (
        "without_a_handle",
        "(a INT, b INT, UNIQUE KEY ua (a), UNIQUE KEY ub (b))",
        &["1, 1", "1, 2", "2, 2", "3, NULL", "NULL, NULL", "3, NULL"],
        &[("ua", 4), ("ub", 2)],
    ),
    (
        "the_same_row_twice",
        "(id INT PRIMARY KEY CLUSTERED, a INT, UNIQUE KEY ua (a))",
        &["1, 10", "2, 20", "1, 10", "3, 20", "2, 20"],
        &[("ua", 3)],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_conflicts_as_in_tidb() {
    let bench = Bench::start(&[]);
    bench
        .sql(&["CREATE DATABASE d", "CREATE DATABASE expected"])
        .await;
    for (name, columns, rows, _) in KINDS {
        bench
            .sql(&[&format!("CREATE TABLE d.{name} {columns}")])
            .await;
        let rows: Vec<String> = rows.iter().map(|row| format!("({row})")).collect();
        bench.file(
            &format!("d.{name}.sql"),
            format!("INSERT INTO {name} VALUES {};\n", rows.join(",\n")),
        );
    }
    for (strategy, statement) in [
        ("replace", "REPLACE INTO"),
        ("ignore", "INSERT IGNORE INTO"),
    ] {
        for (name, columns, rows, _) in KINDS {
            let expected = format!("expected.{name}");
            bench
                .sql(&[
                    &format!("TRUNCATE TABLE d.{name}"),
                    &format!("DROP TABLE IF EXISTS {expected}"),
                    &format!("CREATE TABLE {expected} {columns}"),
                ])
                .await;
            for row in rows {
                let one = format!("{statement} {expected} VALUES ({row})");
                bench.sql(&[&one]).await;
            }
        }
        import(&bench, strategy, &[]).succeeds();
        for (name, _, _, counts) in KINDS {
            let all = |db: &str| format!("SELECT * FROM {db}.{name} ORDER BY 1, 2");
            assert_eq!(
                bench.query(&all("d")).await,
                bench.query(&all("expected")).await,
                "{strategy} {name}"
            );
            bench.sql(&[&format!("ADMIN CHECK TABLE d.{name}")]).await;
            let found = bench
                .query(&format!(
                    "SELECT index_name, participants FROM lightning_task_info.thunderhead_conflict_counts_v1 WHERE table_name = '`d`.`{name}`' ORDER BY index_name"
                ))
                .await;
            let counts: Vec<Vec<String>> = counts
                .iter()
                .map(|(index, count)| vec![(*index).to_owned(), count.to_string()])
                .collect();
            assert_eq!(found, counts, "{name}");
        }
    }
}

/// Golden cases in which TiDB refused rows with 1062, and nothing else that a statement of all rows cannot say.
fn golden() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = ["tests/golden/kv", "../shared/golden/kv"]
        .iter()
        .find_map(|place| std::fs::read_dir(root.join(place)).ok())
        .unwrap();
    let mut cases: Vec<Value> = Vec::new();
    for file in files.map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        cases.extend(
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok()),
        );
    }
    cases.retain(|case| {
        let rows = case["rows"].as_array().unwrap();
        case["time_zone"] == "+00:00"
            && case["sql_mode"]
                .as_str()
                .is_some_and(|mode| mode.contains("STRICT_TRANS_TABLES"))
            && rows.iter().any(|row| row["error_code"] == 1062)
    });
    cases.sort_by_key(|case| case["name"].to_string());
    cases
}

fn literal(field: &Value) -> String {
    match field {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        other => match (other["hex"].as_str(), other["sql"].as_str()) {
            (Some(hex), _) => format!("x'{hex}'"),
            (_, Some(sql)) => sql.to_owned(),
            _ => panic!("{other}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_tidb_refused_as_duplicates_are_found() {
    let bench = Bench::start(&[]);
    let cases = golden();
    assert!(cases.len() > 40, "{}", cases.len());
    for (number, case) in cases.iter().enumerate() {
        let mut statements = vec![
            format!("CREATE DATABASE g{number}"),
            format!("USE g{number}"),
        ];
        let ddl = case["ddl"].as_array().unwrap();
        statements.extend(ddl.iter().map(|s| s.as_str().unwrap().to_owned()));
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        bench.sql(&statements).await;
        let mut text = String::new();
        for row in case["rows"].as_array().unwrap() {
            if matches!(row["error_code"].as_u64(), None | Some(1062)) {
                let fields: Vec<String> = row["fields"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(literal)
                    .collect();
                text += &format!("INSERT INTO `t` VALUES ({});\n", fields.join(", "));
            }
        }
        bench.file(&format!("g{number}.t.sql"), text);
    }
    let report = bench.path("report.json");
    let to = ["--report-file", report.to_str().unwrap()];
    import(&bench, "ignore", &to).succeeds();
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let mut same_rows = 0;
    for (number, case) in cases.iter().enumerate() {
        let name = &case["name"];
        let rows = case["rows"].as_array().unwrap();
        let refused = rows.iter().filter(|r| r["error_code"] == 1062).count() as u64;
        let table = report["tables"]
            .as_array()
            .unwrap()
            .iter()
            .find(|table| table["table"] == format!("g{number}.t"))
            .unwrap();
        let sum = bench
            .query(&format!("ADMIN CHECKSUM TABLE g{number}.t"))
            .await;
        assert_eq!(
            sum[0][3],
            case["kvs"].as_array().unwrap().len().to_string(),
            "{name}"
        );
        // A row that is another one byte for byte is no conflict, and is there once.
        let removed = table["removed_rows"].as_u64().unwrap();
        assert!(removed <= refused, "{name}");
        if removed < refused {
            assert!(
                table["collapsed_pairs"].as_u64().unwrap() >= refused - removed,
                "{name}"
            );
            same_rows += refused - removed;
        }
        bench
            .sql(&[&format!("ADMIN CHECK TABLE g{number}.t")])
            .await;
    }
    let all: usize = cases
        .iter()
        .map(|case| {
            let rows = case["rows"].as_array().unwrap();
            rows.iter().filter(|r| r["error_code"] == 1062).count()
        })
        .sum();
    println!(
        "{all} refused rows in {} cases, {same_rows} of them whole copies",
        cases.len()
    );
}
