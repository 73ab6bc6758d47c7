//! The entry points of the fuzz targets under random bytes on every run: nothing panics, and what each of them
//! holds holds. Bytes are grown out of texts and documents that mean something, by a few changes each. The seed
//! is printed first.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/entry.rs"]
mod entry;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Texts to begin with.
const SEEDS: [&str; 24] = [
    "-12345.678e-9",
    "18446744073709551616",
    "0000-00-00 00:00:00",
    "2024-02-29T23:59:59.999999+08:00",
    "2024-03-10 02:30:00",
    "20240229235959.5",
    "-838:59:59.9999999",
    "1 02:03:04.5",
    "99991231",
    "{\"a\": [1, -2.5e10, null, true, {\"\": \"\\ud83d\\ude00\\u0000\"}], \"b\": \"日本\"}",
    "[[[[[[[[[[1]]]]]]]]]]",
    "[1, 2.5, -3]",
    "x,b ,日,0x1F,0b11",
    "日本語 ß 😀 abc   ",
    "date_add('2024-01-31', interval 1 month) + 1",
    "json_extract('{\"a\": [1, 2]}', '$.a[last]')",
    "case when 1 > 2 then concat('a', null) else substring_index('a.b.c', '.', -2) end",
    "cast('12:34' as time(3)) div 0.5 regexp '^[0-9]+$'",
    "lpad(hex(uuid_to_bin('6ccd780c-baba-1026-9564-5b8c656024db')), 99999999, 'x')",
    "\u{1}\u{2}\u{0}\u{0}\u{0}\u{22}\u{0}\u{0}\u{0}\u{9}\u{12}",
    "regexp_replace('abc', '(a)(b)', '\\\\2\\\\1')",
    "",
    "\u{80}\u{0}\u{2}\u{0}\u{0}\u{0}\u{2}\u{3}",
    "format(12345.6789, 2) like '%,%'",
];
const ROUNDS: usize = 6_000;

fn changed(random: &mut SmallRng) -> Vec<u8> {
    let seed = SEEDS[random.random_range(0..SEEDS.len())];
    let mut bytes = match random.random_range(0..8) {
        0 => (0..random.random_range(0..64))
            .map(|_| random.random())
            .collect(),
        _ => seed.as_bytes().to_vec(),
    };
    for _ in 0..random.random_range(0..5) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            3 => {
                let other = SEEDS[random.random_range(0..SEEDS.len())].as_bytes();
                let tail = bytes.split_off(at);
                bytes.extend_from_slice(&other[..random.random_range(0..=other.len())]);
                bytes.extend_from_slice(&tail);
            }
            _ => bytes.insert(at, b"0123456789.-+: e\"[]{},'"[random.random_range(0..23)]),
        }
    }
    bytes
}

#[test]
fn no_bytes_make_an_entry_point_panic() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for (name, entry) in entry::ENTRIES {
        for _ in 0..ROUNDS {
            let mut bytes = changed(&mut random);
            // Picks of types and tables come first.
            let picks: [u8; 3] = [random.random(), random.random(), random.random_range(0..24)];
            match name {
                "cast" => bytes.insert(0, picks[0]),
                "decoder" => drop(bytes.splice(0..0, picks)),
                _ => {}
            }
            entry(&bytes);
        }
    }
}
