//! Imports from an object store, as users run them.
#![allow(clippy::unwrap_used)]

use thunderhead_tests::import::{Bench, Outcome};
use thunderhead_tests::s3::S3;

const DDL: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(20), KEY kn (name));\n";

fn import(bench: &Bench, uri: &str, args: &[&str]) -> Outcome {
    let mut all = vec!["-d", uri, "--no-progress"];
    all.extend(args);
    let outcome = bench.import(&all);
    let sorted = bench.path("sorted/state.redb");
    let kept = std::fs::read(sorted).unwrap_or_default();
    let shown = format!("{}{}", outcome.stdout, outcome.stderr);
    for secret in ["SECRETEXAMPLE", "AKEXAMPLE"] {
        assert!(!shown.contains(secret), "{shown}");
        let found = kept.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "the state on disk holds a credential");
    }
    outcome
}

fn rows(from: u32, to: u32) -> String {
    (from..to).map(|id| format!("{id},name-{id}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_in_a_bucket_is_imported_with_its_schema() {
    let (mut bench, s3) = (Bench::start(&[]), S3::start());
    bench.extra = "[mydumper.csv]\nheader = false".into();
    s3.put("dump/d-schema-create.sql", "CREATE DATABASE d;")
        .await;
    s3.put("dump/d.t-schema.sql", DDL).await;
    // More than the blocks that are read ahead, so that a chunk begins in the middle of the object.
    s3.put("dump/d.t.0.csv", rows(0, 400_000)).await;
    s3.put("dump/sub/d.t.1.csv", rows(400_000, 400_010)).await;
    import(&bench, &s3.uri("dump/"), &["--threads", "2"]).succeeds();
    let found = bench
        .query("SELECT COUNT(*), SUM(id), MAX(name) FROM d.t")
        .await;
    assert_eq!(found, [["400010", "80003799945", "name-99999"]]);
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_takes_matching_objects_of_one_directory_and_not_of_those_below() {
    let (mut bench, s3) = (Bench::start(&[]), S3::start());
    bench
        .sql(&[
            "CREATE DATABASE d",
            &format!("USE d; {DDL}").replace("USE d; CREATE TABLE t", "CREATE TABLE d.t"),
        ])
        .await;
    bench.extra = "[mydumper.csv]\nheader = false\n[[mydumper.files]]\npattern = '.*'\nschema = 'd'\ntable = 't'\ntype = 'csv'".into();
    s3.put("x/foo1.csv", "1,a\n").await;
    s3.put("x/foo2.csv", "2,b\n").await;
    s3.put("x/bar.csv", "3,c\n").await;
    s3.put("x/below/foo3.csv", "4,d\n").await;
    import(&bench, &s3.uri("x/foo*.csv"), &[]).succeeds();
    let found = bench.query("SELECT id FROM d.t ORDER BY id").await;
    assert_eq!(found, [["1"], ["2"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_has_not_is_named_with_its_uri() {
    let (bench, s3) = (Bench::start(&[]), S3::start());
    import(&bench, &s3.uri("none/x*.csv"), &[])
        .fails(3, &["s3://bucket/none/x*.csv", "no object matches"]);
    import(&bench, &s3.uri("none/"), &[]).fails(3, &["s3://bucket/none/"]);
    let wrong = format!("{}&colour=red", s3.uri("x/"));
    import(&bench, &wrong, &[]).fails(2, &["unknown option \"colour\""]);
}
