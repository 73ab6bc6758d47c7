//! The entry points of the fuzz targets under random bytes on every run: nothing panics, and what each of them
//! holds holds. Bytes are grown out of texts that mean something, by a few changes each. The seed is printed first.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/entry.rs"]
mod entry;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::Path;

/// Texts to begin with; the first bytes pick a dialect where there is one to pick.
const SEEDS: [&[u8]; 12] = [
    b"\0\0\0\0a,\"b\"\"\nc\",\\N\r\n\n1,2,3\n",
    b"\x02\x03\x04\x00a|+|'x|+|y'|+||\nb|+|c|\n",
    b"\0\x80\x01\0\"a\"b\",\"c\n\"\n",
    b"\0\0\0\x40\xd6\xd0,\x8c\\,\"\x95|\"\n",
    b"\x05INSERT INTO `t` (a, b) VALUES (1, 'x\\'y''z'), (0x1F, NULL);\n/* c */ INSERT INTO t VALUES (-1.5e3, _binary 'q');",
    b"\x07LOCK TABLES `u` WRITE;INSERT INTO u VALUES (b'101');REPLACE INTO t VALUES ('a'),('b');-- end",
    b"\x01\x1f\x8b\x08\0\0\0\0\0\x02\xff\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\0\0\0",
    b"s3://bucket/dir/*.csv?access_key=A&endpoint=http://127.0.0.1:1",
    b"LOAD DATA INFILE 's3://b/*.csv?x=1' INTO TABLE `d`.`t` FIELDS TERMINATED BY x'09' ENCLOSED BY '\"' DEFINED NULL BY 'N' LINES TERMINATED BY '\\n' IGNORE 1 LINES (a, @b) SET c = UPPER(@b);",
    b"(?i)^(\\w+)\\.([^.]+)(\\.(sql|csv))$\nd.t.csv",
    b"/*!40101 SET x=1*/;\nCREATE TABLE `a;b` (c INT DEFAULT 'x;''y'); -- end;\n# c\nCREATE VIEW v AS SELECT 1",
    b"PAR1\x15\x04\x15\0\x15\x02PAR1",
];

/// Those, and the files below `fuzz/seeds` that libFuzzer begins with, too.
fn seeds(entry: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = std::fs::read_dir(dir.join(entry)).into_iter().flatten();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let files = files.into_iter().map(|file| std::fs::read(file).unwrap());
    SEEDS
        .iter()
        .map(|text| text.to_vec())
        .chain(files)
        .collect()
}

#[test]
fn nothing_panics_on_any_bytes() {
    let config = Config {
        cases: 3000,
        failure_persistence: None,
        ..Config::default()
    };
    for (name, entry) in entry::ENTRIES {
        let seeds = seeds(name);
        println!("{name}, {} seeds", seeds.len());
        let change = (any::<prop::sample::Index>(), any::<u8>(), 0u8..4);
        let changes = prop::collection::vec(change, 0..8);
        let input = (prop::sample::select(seeds), changes);
        TestRunner::new(config.clone())
            .run(&input, |(mut bytes, changes)| {
                for (index, byte, how) in changes {
                    let at = index.index(bytes.len());
                    match how {
                        0 => bytes[at] = byte,
                        1 => bytes.insert(at, byte),
                        2 => bytes.insert(at, b",\"\\\n"[usize::from(byte) % 4]),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                entry(&bytes);
                Ok(())
            })
            .unwrap();
    }
}
