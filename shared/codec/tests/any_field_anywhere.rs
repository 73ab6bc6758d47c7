//! Every golden value tried in columns it was not made for: nothing panics, and whatever is accepted comes
//! back from its pairs and makes the same pairs again. The seed is printed first.
#![allow(clippy::unwrap_used)]

#[path = "golden/case.rs"]
#[allow(dead_code)]
mod case;

use case::{Case, Owned};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use thunderhead_codec::cast::Field;
use thunderhead_codec::session::{Session, SqlMode};
use thunderhead_codec::table::{Slot, TableDecoder, TableEncoder};
use thunderhead_codec::time::Zone;

const ROWS_PER_TABLE: usize = 60;

type Pair = (Slot, Vec<u8>, Vec<u8>);

fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/kv");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    let texts = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| {
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn field(owned: &Owned) -> Field<'_> {
    match owned {
        Owned::Null => Field::Null,
        Owned::Text(text) => Field::Text(text),
        Owned::Binary(bytes) => Field::Binary(bytes),
        Owned::Int(v) => Field::Int(*v),
        Owned::UInt(v) => Field::UInt(*v),
    }
}

fn encode(case: &Case, session: &Session, fields: &[Field<'_>]) -> Option<Vec<Pair>> {
    let mut encoder = TableEncoder::compile(&case.table_info, session, None).unwrap();
    let mut pairs = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| pairs.push((slot, key.to_vec(), value.to_vec()));
    encoder.encode_row(fields, 1, &mut sink).ok()?;
    Some(pairs)
}

fn check_way_back(case: &Case, session: &Session, pairs: &[Pair]) {
    let decoder = TableDecoder::compile(&case.table_info, session).unwrap();
    let row = decoder.record(&pairs[0].1, &pairs[0].2).unwrap();
    for (_, key, value) in &pairs[1..] {
        let entry = decoder.entry(key, value).unwrap();
        assert_eq!(
            (entry.physical_id, &entry.handle),
            (row.physical_id, &row.handle),
            "{}",
            case.name
        );
    }
    let mut again = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| again.push((slot, key.to_vec(), value.to_vec()));
    let mut encoder = TableEncoder::compile(&case.table_info, session, None).unwrap();
    encoder.encode_decoded(&row, &mut sink).unwrap();
    assert_eq!(again, pairs, "{}", case.name);
}

#[test]
fn any_value_in_any_column_is_rejected_or_comes_back() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let cases = cases();
    let pool: Vec<Owned> = cases
        .iter()
        .flat_map(|case| &case.rows)
        .flat_map(|row| &row.fields)
        .map(|value| value.owned())
        .collect();
    let mut accepted = 0;
    for case in &cases {
        let width = case.table_info.columns().len();
        for n in 0..ROWS_PER_TABLE {
            let mode = if n % 2 == 0 {
                SqlMode::default()
            } else {
                SqlMode::parse("")
            };
            let zone = ["UTC", "+08:00", "-03:30"][random.random_range(0..3)];
            let session = Session {
                sql_mode: mode,
                time_zone: Zone::parse(zone).unwrap(),
                ..Session::default()
            };
            // Half of the columns keep a value that was made for them, so that some rows get through.
            let own = &case.rows[random.random_range(0..case.rows.len())].fields;
            let own: Vec<Owned> = own.iter().map(|value| value.owned()).collect();
            let fields: Vec<Field<'_>> = (0..width)
                .map(|at| {
                    match own
                        .get(at)
                        .filter(|_| case.columns.is_none() && random.random_bool(0.5))
                    {
                        Some(own) => field(own),
                        None => field(&pool[random.random_range(0..pool.len())]),
                    }
                })
                .collect();
            if let Some(pairs) = encode(case, &session, &fields) {
                accepted += 1;
                check_way_back(case, &session, &pairs);
            }
        }
    }
    assert!(
        accepted > cases.len(),
        "hardly any row was accepted: {accepted}"
    );
}

#[test]
fn damaged_pairs_are_refused_without_panic() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for case in cases() {
        let decoder = TableDecoder::compile(&case.table_info, &Session::default()).unwrap();
        for kv in case.kvs.iter().filter(|kv| kv.v.len() < 1000) {
            for _ in 0..20 {
                let (mut key, mut value) = (case::unhex(&kv.k), case::unhex(&kv.v));
                for bytes in [&mut key, &mut value] {
                    match random.random_range(0..4) {
                        0 => bytes.truncate(random.random_range(0..=bytes.len())),
                        1 if !bytes.is_empty() => {
                            let at = random.random_range(0..bytes.len());
                            bytes[at] ^= 1 << random.random_range(0..8);
                        }
                        2 => bytes.insert(random.random_range(0..=bytes.len()), random.random()),
                        _ => {}
                    }
                }
                if let Ok(row) = decoder.record(&key, &value) {
                    row.datums.iter().for_each(|datum| drop(datum.to_text()));
                }
                let _ = decoder.entry(&key, &value);
            }
        }
    }
}
