//! The same rows from every kind of file end as the same table.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use thunderhead_tests::import::Bench;

const ROWS: u64 = 40_009;

fn csv() -> Vec<u8> {
    let mut text = String::from("id,name\n");
    for id in 0..ROWS {
        text.push_str(&format!("{id},\"name {}, {}\"\n", id % 89, id * 31));
    }
    text.into_bytes()
}

fn sql() -> Vec<u8> {
    let mut text = String::from("/*!40101 SET NAMES binary*/;\n");
    for first in (0..ROWS).step_by(1000) {
        let rows: Vec<String> = (first..ROWS.min(first + 1000))
            .map(|id| format!("({id},'name {}, {}')", id % 89, id * 31))
            .collect();
        text.push_str(&format!("INSERT INTO `t` VALUES\n{};\n", rows.join(",\n")));
    }
    text.into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    // Two members, as `cat a.gz b.gz` makes them.
    let (a, b) = data.split_at(data.len() / 2);
    let member = |part: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(part).unwrap();
        to.finish().unwrap()
    };
    [member(a), member(b)].concat()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; zstd_safe::compress_bound(data.len())];
    let length = zstd_safe::compress(&mut packed[..], data, 1).unwrap();
    packed.truncate(length);
    packed
}

async fn checksum_of(bench: &mut Bench, name: &str, content: &[u8]) -> Vec<Vec<String>> {
    bench
        .sql(&[
            "DROP DATABASE IF EXISTS d",
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id BIGINT PRIMARY KEY, name VARCHAR(40), KEY kn (name))",
        ])
        .await;
    bench.file(name, content);
    bench.import(&[]).succeeds();
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    std::fs::remove_file(bench.path("data").join(name)).unwrap();
    bench
        .query("SELECT COUNT(*), SUM(id), SUM(LENGTH(name)), MAX(name) FROM d.t")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_packed_files_end_as_the_same_table() {
    let mut bench = Bench::start(&[]);
    let expected = checksum_of(&mut bench, "d.t.csv", &csv()).await;
    assert_eq!(expected[0][0], ROWS.to_string());
    for (name, content) in [
        ("d.t.csv.gz", gzip(&csv())),
        ("d.t.csv.zst", zstd(&csv())),
        // The name says nothing, the content does.
        ("d.t.000.csv", gzip(&csv())),
        ("d.t.sql", sql()),
        ("d.t.sql.gz", gzip(&sql())),
    ] {
        let found = checksum_of(&mut bench, name, &content).await;
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_file_that_is_cut_off_is_an_error_before_anything_is_written() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id BIGINT PRIMARY KEY, name VARCHAR(40))",
        ])
        .await;
    let packed = gzip(&csv());
    bench.file("d.t.csv.gz", &packed[..packed.len() - 9]);
    bench
        .import(&[])
        .fails(4, &["d.t.csv.gz", "gzip", "packed byte"]);
    assert_eq!(bench.query("SELECT COUNT(*) FROM d.t").await, [["0"]]);
}
