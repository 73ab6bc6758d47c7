//! Tables of every kind that golden data shows one of: types, collations, kinds of keys and partitions in
//! combinations it does not have. Each table is made, filled, checked and read back.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, error, exec};
use mysql_async::prelude::Queryable;

/// Blocks of `tests/many_tables.txt`, separated by blank lines: a CREATE TABLE over lines that end in `\`, more
/// DDL after `+`, a row a line with what it comes to: nothing, or `=> code` for a row that is rejected. A line
/// `? select` is followed by `= row` lines.
fn blocks() -> Vec<Vec<String>> {
    let text = include_str!("many_tables.txt").replace("\\\n", " ");
    let blocks = text.split("\n\n").map(|block| {
        let lines = block.lines().map(str::trim);
        let kept = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        kept.map(str::to_owned).collect::<Vec<_>>()
    });
    blocks.filter(|block| !block.is_empty()).collect()
}

fn shown(row: mysql_async::Row) -> String {
    let texts = row.unwrap().into_iter().map(|value| match value {
        mysql_async::Value::NULL => "NULL".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    });
    texts.collect::<Vec<_>>().join("|")
}

/// What is wrong with a block, if anything.
async fn run(conn: &mut mysql_async::Conn, block: &[String]) -> Option<String> {
    let mut answers: Vec<String> = Vec::new();
    let mut rows = 0;
    for line in block {
        let (statement, expected) = match line.split_once(" => ") {
            Some((statement, code)) => (statement, code.parse::<u16>().unwrap()),
            None => (line.as_str(), 0),
        };
        if let Some(answer) = line.strip_prefix("= ") {
            if answers.is_empty() || answers.remove(0) != answer {
                return Some(format!("not {answer}, nor what follows"));
            }
            continue;
        }
        if !answers.is_empty() {
            return Some(format!("not asked for: {answers:?}"));
        }
        if let Some(query) = line.strip_prefix("? ") {
            match conn.query::<mysql_async::Row, _>(query).await {
                Ok(rows) => answers = rows.into_iter().map(shown).collect(),
                Err(error) => return Some(format!("{query}: {error}")),
            }
            continue;
        }
        let statement = match statement.strip_prefix("+ ") {
            Some(statement) => statement.to_owned(),
            None if statement.starts_with('(') => {
                rows += usize::from(expected == 0);
                format!("insert into t values {statement}")
            }
            None if statement.starts_with('[') => {
                let (columns, values) = statement.split_once("] ").unwrap();
                rows += usize::from(expected == 0);
                format!("insert into t({}) values {values}", &columns[1..])
            }
            None => statement.to_owned(),
        };
        let (code, text) = error(conn, &statement).await;
        if code != expected {
            return Some(format!("{statement}: {code} {text}, expected {expected}"));
        }
        if code != 0 && statement.starts_with("create table") {
            return None;
        }
    }
    if !answers.is_empty() {
        return Some(format!("not asked for: {answers:?}"));
    }
    let (code, text) = error(conn, "admin check table t").await;
    if code != 0 {
        return Some(format!("admin check: {text}"));
    }
    match conn.query::<mysql_async::Row, _>("select * from t").await {
        Ok(read) if read.len() == rows => None,
        Ok(read) => Some(format!("{} rows of {rows} are read", read.len())),
        Err(error) => Some(format!("select: {error}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_every_kind_are_made_filled_checked_and_read() {
    let server = Server::start().await;
    let (blocks, mut failed) = (blocks(), Vec::new());
    assert!(blocks.len() > 50);
    for (i, block) in blocks.iter().enumerate() {
        let mut conn = server.connect().await;
        let (create, using) = (format!("create database m{i}"), format!("use m{i}"));
        exec(&mut conn, &[&create, &using]).await;
        if let Some(why) = run(&mut conn, block).await {
            failed.push(format!("{}: {why}", block[0]));
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
