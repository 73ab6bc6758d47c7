//! Every golden case: its DDL through the MySQL port, the model from the status port, compared with the one
//! TiDB built. Ids and timestamps aside.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, exec, golden_cases};
use mysql_async::prelude::Queryable;
use serde_json::Value;

/// Cases whose model is known to differ, with the reason.
const KNOWN: [(&str, &str); 0] = [];

/// Takes out what may differ: ids given by the cluster, timestamps, bookkeeping of dropped objects.
fn comparable(mut table: Value) -> Value {
    for field in ["id", "update_timestamp"] {
        table[field] = Value::Null;
    }
    if let Some(definitions) = table["partition"]["definitions"].as_array_mut() {
        for definition in definitions {
            definition["id"] = Value::Null;
        }
    }
    table
}

/// Path and values of the first difference.
fn difference(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = b.keys().chain(a.keys().filter(|k| !b.contains_key(*k)));
            keys.filter_map(|k| {
                difference(
                    &format!("{path}.{k}"),
                    a.get(k).unwrap_or(&Value::Null),
                    b.get(k).unwrap_or(&Value::Null),
                )
            })
            .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (x, y))| difference(&format!("{path}[{i}]"), x, y)),
        _ if ours == theirs => None,
        _ => Some(format!("{path}: ours {ours}, TiDB {theirs}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_golden_definition_makes_the_model_tidb_made() {
    let server = Server::start().await;
    let mut conn = server.connect().await;
    let (mut passed, mut failed) = (0, Vec::new());
    for (i, case) in golden_cases().into_iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let db = format!("g{i}");
        exec(
            &mut conn,
            &[&format!("create database {db}"), &format!("use {db}")],
        )
        .await;
        let zone = case["time_zone"].as_str().unwrap();
        exec(
            &mut conn,
            &[
                &format!("set time_zone = '{zone}'"),
                &format!("set sql_mode = '{}'", case["sql_mode"].as_str().unwrap()),
            ],
        )
        .await;
        let mut result = Ok(());
        for ddl in case["ddl"].as_array().unwrap() {
            if result.is_ok() {
                result = conn
                    .query_drop(ddl.as_str().unwrap())
                    .await
                    .map_err(|e| format!("{}: {e}", ddl.as_str().unwrap()));
            }
        }
        let outcome = match result {
            Err(error) => Some(error),
            Ok(()) => {
                let (code, body) = server.http(&format!("/schema/{db}/t")).await;
                assert_eq!(code, 200, "{name}: {body}");
                difference(
                    "",
                    &comparable(serde_json::from_str(&body).unwrap()),
                    &comparable(case["table_info"].clone()),
                )
            }
        };
        match outcome {
            None => passed += 1,
            Some(why) => failed.push((name.to_owned(), why)),
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    for (name, why) in &failed {
        println!("  {name}: {why}");
    }
    let unexpected: Vec<_> = failed
        .iter()
        .filter(|(name, _)| !KNOWN.iter().any(|(known, _)| known == name))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!(
        failed.len(),
        KNOWN.len(),
        "a known difference is gone; take it off the list"
    );
    drop(conn);
    server.server.stop().await;
}
