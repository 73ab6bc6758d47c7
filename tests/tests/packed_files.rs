//! The same rows from every kind of file end as the same table.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::time::Duration;
use thunderhead_tests::clouds::Cloud;
use thunderhead_tests::fleet::Fleet;
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

/// Text that does not pack well: 64 digits after each id.
fn digits(format: fn(u64, &str) -> String) -> String {
    let (mut text, mut state) = (String::new(), 1u64);
    for id in 0..60_000 {
        let mut digits = String::new();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            digits.push_str(&format!("{:016x}", state ^ state >> 29));
        }
        text.push_str(&format(id, &digits[..40]));
    }
    text
}

/// BGZF: members of at most 64 KiB that say their length.
fn bgzf(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in data.chunks(50_000).chain([&b""[..]]) {
        let mut to = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(block).unwrap();
        let packed = to.finish().unwrap();
        out.extend([
            0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0,
        ]);
        out.extend(((18 + packed.len() + 8 - 1) as u16).to_le_bytes());
        out.extend(packed);
        let mut crc = flate2::Crc::new();
        crc.update(block);
        out.extend(crc.sum().to_le_bytes());
        out.extend((block.len() as u32).to_le_bytes());
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_files_of_several_parts_end_as_the_same_table_as_plain_ones() {
    let mut bench = Bench::start(&[]);
    let csv = format!(
        "id,name\n{}",
        digits(|id, name| format!("{id},\"{name}\"\n"))
    );
    let rows = digits(|id, name| format!(",({id},'{name}')\n"));
    let sql = format!("INSERT INTO t VALUES {};\n", &rows[1..]);
    let frames = |text: &str| {
        text.as_bytes()
            .chunks(300_000)
            .flat_map(zstd)
            .collect::<Vec<u8>>()
    };
    let expected = checksum_of(&mut bench, "d.t.csv", csv.as_bytes()).await;
    assert_eq!(expected[0][0], "60000");
    for (name, content) in [
        ("d.t.csv.gz", bgzf(csv.as_bytes())),
        ("d.t.csv.zst", frames(&csv)),
        ("d.t.sql.gz", bgzf(sql.as_bytes())),
        ("d.t.sql.zst", frames(&sql)),
    ] {
        assert!(
            content.len() > 1 << 20,
            "{name} packs too well for this test"
        );
        let found = checksum_of(&mut bench, name, &content).await;
        assert_eq!(found, expected, "{name}");
    }
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
    // Files of several parts become several chunks.
    let chunks = ["--set", "mydumper.max-region-size=512KiB"];
    bench.import(&chunks).succeeds();
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

/// Each is one chunk, so the only way to more than one thread is more than one file.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_gzip_are_read_by_as_many_threads_as_there_are() {
    const FILES: usize = 3;
    const ROWS_OF_ONE: usize = 4 << 10;
    let file = |n: usize| {
        let rows = (0..ROWS_OF_ONE).map(|row| format!("{},{row:01000}\n", n * ROWS_OF_ONE + row));
        let text = format!("id,name\n{}", rows.collect::<String>());
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        to.write_all(text.as_bytes()).unwrap();
        to.finish().unwrap()
    };
    let files: Vec<_> = (0..FILES).map(file).collect();
    let fleet = Fleet::start(Bench::start(&[]), 1);
    let bench = &fleet.bench;
    // One thread never asks for the ends of two files at a time; the store lets it go on soon.
    for (threads, at_most) in [(1, 1), (FILES, 30)] {
        bench
            .sql(&[
                "DROP DATABASE IF EXISTS d",
                "CREATE DATABASE d",
                "CREATE TABLE d.t (id BIGINT PRIMARY KEY, name VARCHAR(2000))",
            ])
            .await;
        let cloud = Cloud::xml();
        for (n, file) in files.iter().enumerate() {
            cloud.put(&format!("bucket/dump/d.t.{n}.csv.gz"), file.clone());
        }
        let source = format!(
            "mydumper.data-source-dir=s3://bucket/dump/?endpoint={}&access-key=AK&secret-access-key=SECRET",
            cloud.endpoint
        );
        let job = fleet.submit(&[&source]);
        // Planning looks at the files, too; without an agent nobody reads them whole.
        fleet.wait("the plan", |fleet| {
            let status = fleet.status(&job).unwrap_or_default();
            status["progress"]["chunks"] == FILES
        });
        cloud.hold(3 << 20, FILES, Duration::from_secs(at_most));
        let threads_text = threads.to_string();
        let mut agent = fleet.agent(&threads_text, &["--threads", &threads_text]);
        fleet.wait_finished(&job);
        assert_eq!(cloud.held_at_a_time(), threads);
        let rows = FILES * ROWS_OF_ONE;
        assert_eq!(
            bench.query("SELECT COUNT(*), SUM(id) FROM d.t").await,
            [[rows.to_string(), (rows * (rows - 1) / 2).to_string()]]
        );
        agent.kill().unwrap();
    }
}
