//! Rows that clash on several unique keys, for tests of conflicts, and what is left of them by brute force.

use crate::import::{Bench, Outcome};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::fmt::Write;

/// Clustered key, a collated and prefixed unique key of two columns, a nullable one, and one that is not unique.
pub const COLUMNS: &str = "(id INT, s VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, m INT, x VARCHAR(40), \
    PRIMARY KEY (id) CLUSTERED, UNIQUE KEY us (s(2), n), UNIQUE KEY um (m), KEY kx (x), KEY kn (n, id))";

/// The same without a clustered key: handles are the importer's.
pub const COLUMNS_ROWID: &str = "(id INT, s VARCHAR(20) COLLATE utf8mb4_general_ci, n INT, m INT, x VARCHAR(40), \
    PRIMARY KEY (id) NONCLUSTERED, UNIQUE KEY us (s(2), n), UNIQUE KEY um (m), KEY kx (x), KEY kn (n, id))";

/// Fail points of an agent that only a table with conflicts reaches, in the order in which it does.
pub const AGENT_POINTS: [&str; 3] = ["conflict-found", "conflict-found:400", "settled"];
/// The same of a coordinator. Recording begins with six statements that create and three that delete.
pub const COORDINATOR_POINTS: [&str; 8] = [
    "detecting",
    "conflicts-settled",
    "record-statement:3",
    "record-statement:9",
    "record-statement:10",
    "record-statement:13",
    "conflicts-recorded",
    "conflicts-decided",
];

/// A row of a source file.
pub type SourceRow = (u32, String, Option<u32>, Option<u32>, String);

/// Rows of which about `percent` of a hundred clash somewhere.
pub fn rows(seed: u64, count: u32, percent: u32) -> Vec<SourceRow> {
    println!("seed {seed}, {count} rows, {percent} %");
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|n| {
            let mut key = |n: u32| match random.random_range(0..100) < percent {
                true => random.random_range(0..count),
                false => n,
            };
            let (id, letters, m) = (key(n), key(n), key(n));
            // Case and trailing spaces make no difference to the collation, and only two letters count.
            let word = ["ab", "AB", "Ab ", "aB-", "ab"][n as usize % 5];
            let m = (n % 11 != 3).then_some(m);
            (
                id,
                word.to_owned(),
                (n % 13 != 5).then_some(letters),
                m,
                format!("row {n}"),
            )
        })
        .collect()
}

/// As a CSV file.
pub fn csv(rows: &[SourceRow]) -> String {
    let mut text = String::from("id,s,n,m,x\n");
    for (id, s, n, m, x) in rows {
        let null = |v: &Option<u32>| v.map_or("\\N".to_owned(), |v| v.to_string());
        let _ = writeln!(text, "{id},{s},{},{},{x}", null(n), null(m));
    }
    text
}

/// As the VALUES of a statement.
pub fn values(rows: &[SourceRow]) -> String {
    let null = |v: &Option<u32>| v.map_or("NULL".to_owned(), |v| v.to_string());
    let values = rows
        .iter()
        .map(|(id, s, n, m, x)| format!("({id}, '{s}', {}, {}, '{x}')", null(n), null(m)));
    values.collect::<Vec<_>>().join(", ")
}

/// Small chunks and regions, so that clashes lie across chunks, runs and ranges.
pub const SMALL: [&str; 6] = [
    "--set",
    "mydumper.max-region-size=32KiB",
    "--set",
    "tikv-importer.region-split-size=48KiB",
    "--threads",
    "2",
];

/// Imports in small pieces with this strategy.
pub fn import(bench: &Bench, strategy: &str, more: &[&str]) -> Outcome {
    let strategy = format!("conflict.strategy={strategy}");
    let args = [&SMALL[..], &["--set", &strategy], more].concat();
    bench.import(&args)
}

/// The rows of a table.
pub async fn select(bench: &Bench, table: &str) -> Vec<Vec<String>> {
    bench
        .query(&format!("SELECT id, s, n, m, x FROM {table} ORDER BY x"))
        .await
}

/// Rows that share no key with another one, by brute force.
pub fn without_clashes(rows: &[SourceRow]) -> Vec<String> {
    let clash = |a: &SourceRow, b: &SourceRow| {
        a.0 == b.0 || (a.2.is_some() && a.2 == b.2) || (a.3.is_some() && a.3 == b.3)
    };
    let alone = rows
        .iter()
        .enumerate()
        .filter(|(i, a)| !rows.iter().enumerate().any(|(j, b)| *i != j && clash(a, b)));
    let mut left: Vec<String> = alone.map(|(_, row)| row.4.clone()).collect();
    left.sort();
    left
}
