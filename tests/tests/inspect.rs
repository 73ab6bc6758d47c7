//! `thunderhead inspect` shows what a source holds, wherever it is, without a cluster.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use thunderhead_tests::process::run;
use thunderhead_tests::s3::S3;

fn inspect(args: &[&str]) -> String {
    let output = run(&[&["inspect"], args].concat()).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    let text = inspect(&[args, &["--output", "json"]].concat());
    serde_json::from_str::<Value>(&text).unwrap()["inspection"].take()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), content).unwrap();
}

#[test]
fn a_dump_directory_is_shown_table_by_table() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut many = String::from("id;name;price\n");
    for id in 0..20_000 {
        many.push_str(&format!("{id};'name; {id}';{}.50\n", id % 100));
    }
    write(dir, "d.goods.1.csv", &many);
    write(dir, "d.goods.2.csv.gz", gzip(&many));
    write(dir, "d.goods-schema.sql", "CREATE TABLE goods (id INT);");
    write(
        dir,
        "d.dump.sql",
        "INSERT INTO dump (a, b) VALUES (1, 'x'), (2, NULL);",
    );
    write(dir, "d.empty.csv", "");
    write(dir, "notes.txt", "hello");
    let uri = dir.to_str().unwrap();
    let found = json(&[uri]);
    assert_eq!(found["files"], 6);
    let tables = found["tables"].as_array().unwrap();
    let table = |name: &str| tables.iter().find(|t| t["table"] == name).unwrap();

    let goods = table("goods");
    assert_eq!(goods["schema_file"], "d.goods-schema.sql");
    assert_eq!(goods["columns"], serde_json::json!(["id", "name", "price"]));
    assert_eq!(goods["sample"][1][1], "name; 1");
    let dialect = &goods["dialect"];
    assert_eq!(
        (
            &dialect["separator"],
            &dialect["delimiter"],
            &dialect["header"]
        ),
        (&";".into(), &"'".into(), &true.into())
    );
    let rows = goods["rows"].as_f64().unwrap();
    assert!((34_000.0..48_000.0).contains(&rows), "{rows} of 40000");
    assert_eq!(goods["rows_exact"], false);
    assert_eq!(goods["files"][1]["compression"], "gzip");

    let dump = table("dump");
    assert_eq!(dump["sample"], serde_json::json!([["1", "x"], ["2", null]]));
    assert_eq!(
        (&dump["rows"], &dump["rows_exact"]),
        (&2.into(), &true.into())
    );
    let problems = found["problems"].to_string();
    assert!(
        problems.contains("d.empty.csv") && problems.contains("empty"),
        "{problems}"
    );
    assert_eq!(found["ignored"], serde_json::json!(["notes.txt"]));

    let text = inspect(&[uri]);
    for word in [
        "d.goods: 2 files",
        "about",
        "id  name",
        "0   name; 0",
        "schema: d.goods-schema.sql",
        "NULL",
        "not imported: notes.txt",
    ] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}

#[test]
fn a_table_of_very_many_files_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..300 {
        write(dir.path(), &format!("d.many.{file}.csv"), "id,name\n1,x\n");
    }
    write(dir.path(), "d.small.csv", "id,name\n1,only\n");
    let found = json(&[dir.path().to_str().unwrap()]);
    let tables = found["tables"].as_array().unwrap();
    let table = |name: &str| tables.iter().find(|t| t["table"] == name).unwrap();
    assert_eq!(table("small")["sample"], serde_json::json!([["1", "only"]]));
    assert_eq!(table("many")["rows"], 300);
    assert_eq!(table("many")["rows_exact"], false);
    let problems = found["problems"].to_string();
    assert!(
        problems.contains("only 101 files were opened"),
        "{problems}"
    );
}

#[test]
fn problems_name_file_line_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "d.t.csv", "a,b\n1,2\n1,2,3\n");
    write(dir, "d.u.csv", b"\xff\xfea\0,\0b\0");
    write(dir, "d.z.csv.gz", &gzip("a,b\n1,2\n")[..12]);
    let text = inspect(&[dir.to_str().unwrap()]);
    for word in [
        "d.t.csv:3 (byte 8): the record has 3 fields",
        "UTF-16",
        "d.z.csv.gz",
    ] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}

#[test]
fn a_single_file_and_a_configured_dialect_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "export.tbl", "1|a|\n2|b|\n");
    let file = dir.join("export.tbl");
    let found = json(&[file.to_str().unwrap()]);
    assert_eq!(found["tables"][0]["dialect"]["separator"], "|");
    assert_eq!(found["tables"][0]["rows"], 2);
    let set = [
        "--set",
        "mydumper.csv.separator=|",
        "--set",
        "mydumper.csv.header=false",
        "--set",
        "mydumper.csv.trim-last-separator=true",
    ];
    let found = json(&[&[file.to_str().unwrap()], &set[..]].concat());
    assert_eq!(
        found["tables"][0]["sample"],
        serde_json::json!([["1", "a"], ["2", "b"]])
    );
    assert_eq!(found["tables"][0]["dialect"]["guessed"], false);
    let nothing = run(&["inspect", "/no/such/directory"]).unwrap();
    assert_eq!(nothing.status.code(), Some(3), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_shown_without_its_secrets() {
    let store = S3::start();
    store.put("dir/d.t.1.csv", "id,name\n1,x\n").await;
    store.put("dir/d.t.2.csv", "id,name\n2,y\n3,z\n").await;
    let uri = store.uri("dir");
    let found = json(&[&uri]);
    assert_eq!(found["tables"][0]["rows"], 3);
    assert_eq!(found["tables"][0]["files"].as_array().unwrap().len(), 2);
    let text = inspect(&[&uri]);
    assert!(
        text.contains("s3://bucket/dir") && text.contains("id  name"),
        "{text}"
    );
    assert!(
        !text.contains("SECRET") && !text.contains("AKEXAMPLE"),
        "{text}"
    );
}
