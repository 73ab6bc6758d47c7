//! What a `LOAD DATA` statement reads is what MariaDB's `LOAD DATA` reads of the same file. The statement goes
//! through our configuration as users write it, so the meaning of its clauses is tested with the reader.
#![allow(clippy::unwrap_used)]

use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::path::Path;
use thunderhead_config::{Job, load};
use thunderhead_source::{Chunk, ChunkReader};
use thunderhead_source::{CsvDialect, LocalFile};
use thunderhead_tests::mariadb::MariaDb;

/// More than any record of the test has.
const COLUMNS: usize = 12;
/// Files of each dialect.
const FILES: usize = 60;

type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// The clauses of a dialect, and the tokens that its files are made of.
struct Dialect {
    clauses: &'static str,
    tokens: &'static [&'static [u8]],
}

const DIALECTS: [Dialect; 12] = [
    Dialect {
        clauses: "",
        tokens: &[b"\t", b"\n", b"\\"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ','",
        tokens: &[b",", b"\n", b"\\", b"\""],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' ENCLOSED BY '\"'",
        tokens: &[b",", b"\n", b"\\", b"\"", b"\"\""],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\r\\n'",
        tokens: &[b",", b"\r\n", b"\\", b"\"", b"\r", b"\n"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY ''",
        tokens: &[b",", b"\n", b"\\", b"\"", b"\"\""],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' ENCLOSED BY '\\'' ESCAPED BY '|'",
        tokens: &[b",", b"\n", b"|", b"'", b"|N"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY '|+|' ENCLOSED BY '\"' LINES TERMINATED BY '|\\n'",
        tokens: &[b"|+|", b"|\n", b"\\", b"\"", b"|", b"+"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY x'2c' ENCLOSED BY b'100010' LINES TERMINATED BY ';'",
        tokens: &[b",", b";", b"\"", b"\n"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' LINES STARTING BY 'xxx'",
        tokens: &[b",", b"\nxxx", b"\n", b"xxx", b"xx"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' ENCLOSED BY '\"' LINES STARTING BY '>' TERMINATED BY '\\n'",
        tokens: &[b",", b"\n>", b"\n", b"\"", b">"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY ',' IGNORE 2 LINES",
        tokens: &[b",", b"\n", b"\\"],
    },
    Dialect {
        clauses: "FIELDS TERMINATED BY 'ab' ESCAPED BY '' LINES TERMINATED BY 'aab'",
        tokens: &[b"ab", b"aab", b"a", b"b"],
    },
];

const FILLERS: [&[u8]; 10] = [
    b"x",
    b"NULL",
    b"\\N",
    b"N",
    b"0",
    b" ",
    b"some text",
    b"\\t",
    b"",
    b"7",
];

fn file(dialect: &Dialect, random: &mut StdRng) -> Vec<u8> {
    let pieces = random.random_range(0..30);
    let mut bytes = Vec::new();
    for _ in 0..pieces {
        let from = if random.random_range(0..5) < 3 {
            dialect.tokens
        } else {
            &FILLERS[..]
        };
        bytes.extend_from_slice(from[random.random_range(0..from.len())]);
    }
    bytes
}

fn statement(path: &Path, clauses: &str, columns: &str) -> String {
    format!(
        "LOAD DATA INFILE '{}' INTO TABLE d.t CHARACTER SET binary {clauses} {columns}",
        path.display()
    )
}

fn dialect_of(statement: String) -> CsvDialect {
    let overrides = [
        ("thunderhead.statement".to_owned(), statement),
        (
            "tikv-importer.sorted-kv-dir".to_owned(),
            "/sorted".to_owned(),
        ),
        ("tidb.pd-addr".to_owned(), "pd:2379".to_owned()),
    ];
    let text = "[tikv-importer]\nbackend = \"local\"\n";
    let job: Job = load(text, "t", &overrides).unwrap().job;
    CsvDialect::from(&job.csv)
}

/// `None` where our reader asks for a repair of the file, and theirs guesses.
fn ours(path: &Path, dialect: &CsvDialect) -> Option<Rows> {
    let mut reader = ChunkReader::open(&LocalFile::new(path), &Chunk::whole(), dialect).unwrap();
    let mut rows = Rows::new();
    while let Some(batch) = reader.next_batch().ok()? {
        for row in batch.rows() {
            rows.push(row.fields().map(|f| f.map(<[u8]>::to_vec)).collect());
        }
    }
    Some(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_reads_the_rows_that_mariadb_reads() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let server = MariaDb::start(dir.path());
    let mut connection = server.connect().await;
    let names: Vec<String> = (0..COLUMNS).map(|n| format!("c{n}")).collect();
    let columns = format!("({})", names.join(", "));
    let definitions: Vec<String> = names.iter().map(|n| format!("{n} BLOB")).collect();
    for statement in [
        "SET sql_mode = ''".to_owned(),
        "CREATE DATABASE d".to_owned(),
        format!(
            "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, {}) ENGINE = MyISAM",
            definitions.join(", ")
        ),
    ] {
        connection.query_drop(statement).await.unwrap();
    }
    let path = dir.path().join("t.csv");
    let mut compared = 0;
    for dialect in &DIALECTS {
        let statement = statement(&path, dialect.clauses, &columns);
        let parsed = dialect_of(statement.clone());
        for _ in 0..FILES {
            let bytes = file(dialect, &mut random);
            std::fs::write(&path, &bytes).unwrap();
            let Some(mut expected) = ours(&path, &parsed) else {
                continue;
            };
            if expected.iter().any(|row| row.len() > COLUMNS) {
                continue;
            }
            connection.query_drop("TRUNCATE TABLE d.t").await.unwrap();
            connection.query_drop(&statement).await.unwrap();
            let query = format!("SELECT {} FROM d.t ORDER BY id", names.join(", "));
            let found: Vec<mysql_async::Row> = connection.query(query).await.unwrap();
            let mut found: Rows = found
                .into_iter()
                .map(|row| {
                    let values = row.unwrap().into_iter();
                    let bytes = |value| match value {
                        mysql_async::Value::NULL => None,
                        mysql_async::Value::Bytes(bytes) => Some(bytes),
                        other => panic!("{other:?}"),
                    };
                    values.map(bytes).collect()
                })
                .collect();
            // A field that the end of the file cuts off before its first byte is no field for the server.
            if let Some(last) = expected.last_mut()
                && last.last() == Some(&Some(Vec::new()))
            {
                last.pop();
            }
            // What a record does not have is a default.
            for (given, has) in found.iter_mut().zip(&expected) {
                given.truncate(has.len());
            }
            assert!(
                found == expected,
                "{:?}\n{}\nMariaDB {found:?}\nours    {expected:?}",
                dialect.clauses,
                bytes.escape_ascii()
            );
            compared += 1;
        }
    }
    connection.disconnect().await.unwrap();
    println!("{compared} files");
    assert!(compared > DIALECTS.len() * FILES / 4, "{compared}");
}
