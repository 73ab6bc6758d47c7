//! Prints the time one core takes to encode a row of TPC-H's `lineitem` (16 columns) to its record and two
//! index entries.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;
use thunderhead_codec::mysql::{flag, state, tp};
use thunderhead_codec::schema::{ColumnInfo, FieldType, IndexColumn, IndexInfo, Name, TableInfo};
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{Field, Slot, TableEncoder};

const ROWS: usize = 1_000_000;

fn field_type(code: u8, flen: i64, decimal: i32, text: bool) -> FieldType {
    let (charset, collate) = if text {
        ("utf8mb4", "utf8mb4_bin")
    } else {
        ("binary", "binary")
    };
    FieldType {
        tp: code,
        flag: flag::NOT_NULL,
        flen,
        decimal,
        charset: charset.to_owned(),
        collate: collate.to_owned(),
        ..FieldType::default()
    }
}

fn lineitem() -> TableInfo {
    let int = || field_type(tp::LONGLONG, 20, 0, false);
    let money = || field_type(tp::NEW_DECIMAL, 15, 2, false);
    let text = |code, flen| field_type(code, flen, 0, true);
    let date = || field_type(tp::DATE, 10, 0, false);
    let types = [
        ("l_orderkey", int()),
        ("l_partkey", int()),
        ("l_suppkey", int()),
        ("l_linenumber", int()),
        ("l_quantity", money()),
        ("l_extendedprice", money()),
        ("l_discount", money()),
        ("l_tax", money()),
        ("l_returnflag", text(tp::STRING, 1)),
        ("l_linestatus", text(tp::STRING, 1)),
        ("l_shipdate", date()),
        ("l_commitdate", date()),
        ("l_receiptdate", date()),
        ("l_shipinstruct", text(tp::STRING, 25)),
        ("l_shipmode", text(tp::STRING, 10)),
        ("l_comment", text(tp::VARCHAR, 44)),
    ];
    let column = |(offset, (name, field_type)): (usize, (&str, FieldType))| ColumnInfo {
        id: offset as i64 + 1,
        name: Name::new(name),
        offset,
        field_type,
        state: state::PUBLIC,
        version: 2,
        ..ColumnInfo::default()
    };
    let index = |id, name, offsets: &[usize]| IndexInfo {
        id,
        idx_name: Name::new(name),
        idx_cols: Some(
            offsets
                .iter()
                .map(|offset| IndexColumn {
                    offset: *offset,
                    length: -1,
                    ..IndexColumn::default()
                })
                .collect(),
        ),
        state: state::PUBLIC,
        index_type: 1,
        is_unique: name == "PRIMARY",
        is_primary: name == "PRIMARY",
        ..IndexInfo::default()
    };
    TableInfo {
        id: 104,
        name: Name::new("lineitem"),
        cols: Some(types.into_iter().enumerate().map(column).collect()),
        index_info: Some(vec![
            index(1, "PRIMARY", &[0, 3]),
            index(2, "ship", &[10, 1]),
        ]),
        state: state::PUBLIC,
        version: 5,
        ..TableInfo::default()
    }
}

fn main() {
    let texts = [
        "1",
        "155190",
        "7706",
        "1",
        "17.00",
        "21168.23",
        "0.04",
        "0.02",
        "N",
        "O",
        "1996-03-13",
        "1996-02-12",
        "1996-03-22",
        "DELIVER IN PERSON",
        "TRUCK",
        "egular courts above the",
    ];
    let fields: Vec<Field<'_>> = texts
        .iter()
        .map(|text| Field::Text(text.as_bytes()))
        .collect();
    let mut encoder = TableEncoder::compile(&lineitem(), &Session::default(), None).unwrap();
    for round in 0..3 {
        let (mut bytes, mut pairs) = (0, 0);
        let (wall, cpu) = (Instant::now(), cpu_nanos());
        for row in 0..ROWS {
            let mut sink = |_: Slot, key: &[u8], value: &[u8]| {
                pairs += 1;
                bytes += black_box(key).len() + black_box(value).len();
            };
            encoder
                .encode_row(black_box(&fields), row as i64 + 1, &mut sink)
                .unwrap();
        }
        let wall = wall.elapsed().as_nanos() as u64;
        let used = cpu_nanos()
            .zip(cpu)
            .map_or(wall, |(after, before)| after - before);
        let per_row = |nanos: u64| nanos / ROWS as u64;
        println!(
            "round {round}: {} ns/row ({} ns of wall time), {} pairs and {} bytes a row",
            per_row(used),
            per_row(wall),
            pairs / ROWS,
            bytes / ROWS
        );
    }
}

/// Time this process has had a core; a machine shared with others would make wall time meaningless.
fn cpu_nanos() -> Option<u64> {
    std::fs::read_to_string("/proc/self/schedstat")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}
