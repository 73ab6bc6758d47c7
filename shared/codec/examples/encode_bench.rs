//! Prints what one core takes to encode: a row of four whole tables, and one more column of each type in a row
//! of its own. Values are text, as CSV gives them, and differ from row to row. The least time of many short
//! rounds counts: another load on the machine hits some of them, not all.
//!
//! `cargo run --release -p thunderhead-codec --example encode_bench [table …]`
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;
use thunderhead_codec::mysql::{flag, state, tp};
use thunderhead_codec::schema::{ColumnInfo, FieldType, IndexColumn, IndexInfo, Name, TableInfo};
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{Field, Slot, TableEncoder};

/// Different rows, so that no branch is learnt by heart.
const VARIANTS: u64 = 512;
/// Work of a round, a millisecond or two, and how many rounds there are.
const CELLS: u64 = 100_000;
const ROUNDS: usize = 200;

/// Makes a value out of a number that looks random.
type Make = fn(u64) -> String;

#[derive(Clone)]
struct Column {
    field_type: FieldType,
    make: Make,
}

/// A column by the name its type has in DDL.
fn column(kind: &str) -> Column {
    let (name, args) = kind.split_once('(').unwrap_or((kind, ""));
    let numbers: Vec<i64> = args
        .trim_end_matches(')')
        .split(',')
        .filter_map(|n| n.parse().ok())
        .collect();
    let flen = numbers.first().copied().unwrap_or(-1);
    let decimal = numbers.get(1).map_or(0, |n| *n as i32);
    let fsp = flen.max(0) as i32;
    let (code, flen, decimal, collate, make): (u8, i64, i32, &str, Make) = match name {
        "int" => (tp::LONG, 11, 0, "binary", |r| (r as i32).to_string()),
        "bigint" => (tp::LONGLONG, 20, 0, "binary", |r| {
            (r % 6_000_000).to_string()
        }),
        "decimal" if flen > 18 => (tp::NEW_DECIMAL, flen, decimal, "binary", |r| {
            format!("{r}{:08}.{:06}", r % 100_000_000, r % 1_000_000)
        }),
        "decimal" => (tp::NEW_DECIMAL, flen, decimal, "binary", |r| {
            format!("{}.{:02}", r % 100_000, r / 7 % 100)
        }),
        "double" => (tp::DOUBLE, 22, -1, "binary", |r| {
            format!("{}.{}", r % 1_000_000, r / 11 % 100_000)
        }),
        "date" => (tp::DATE, 10, 0, "binary", date),
        "datetime" => (tp::DATETIME, 19, fsp, "binary", datetime),
        "timestamp" => (tp::TIMESTAMP, 19, fsp, "binary", datetime),
        "time" => (tp::DURATION, 10, fsp, "binary", |r| clock(r)),
        "year" => (tp::YEAR, 4, 0, "binary", |r| (1901 + r % 250).to_string()),
        "bit" => (tp::BIT, flen, 0, "binary", |r| {
            char::from(b'a' + (r % 26) as u8).to_string()
        }),
        "enum" => (tp::ENUM, -1, 0, "utf8mb4_bin", |r| element(r).to_owned()),
        "set" => (tp::SET, -1, 0, "utf8mb4_bin", |r| {
            format!("{},{}", element(r), element(r / 5))
        }),
        "json" => (tp::JSON, -1, 0, "binary", |r| {
            format!(
                "{{\"id\": {}, \"name\": \"{}\", \"tags\": [1, true]}}",
                r % 1000,
                words(r, 12)
            )
        }),
        "char" => (tp::STRING, flen, 0, "utf8mb4_bin", |r| words(r, 9)),
        "varchar" => (tp::VARCHAR, flen, 0, "utf8mb4_bin", |r| {
            words(r, 10 + r % 30)
        }),
        "short" => (tp::VARCHAR, 20, 0, "utf8mb4_bin", |r| words(r, 8 + r % 8)),
        "general_ci" => (tp::VARCHAR, 60, 0, "utf8mb4_general_ci", |r| {
            words(r, 10 + r % 30)
        }),
        "unicode_ci" => (tp::VARCHAR, 60, 0, "utf8mb4_unicode_ci", |r| {
            words(r, 10 + r % 30)
        }),
        "0900_ai_ci" => (tp::VARCHAR, 60, 0, "utf8mb4_0900_ai_ci", |r| {
            words(r, 10 + r % 30)
        }),
        "varbinary" => (tp::VARCHAR, flen, 0, "binary", |r| words(r, 16)),
        "text" => (tp::BLOB, 65_535, 0, "utf8mb4_bin", |r| {
            words(r, 100 + r % 100)
        }),
        "vector" => (tp::VECTOR, 4, 0, "binary", |r| {
            format!("[{}.5,-1,0.25,{}]", r % 100, r % 7)
        }),
        other => panic!("{other}"),
    };
    let elems = matches!(code, tp::ENUM | tp::SET).then(|| ELEMENTS.map(str::to_owned).to_vec());
    let charset = collate.split('_').next().unwrap_or_default().to_owned();
    let collate = collate.to_owned();
    let field_type = FieldType {
        tp: code,
        flen,
        decimal,
        charset,
        collate,
        elems,
        ..FieldType::default()
    };
    Column { field_type, make }
}

const ELEMENTS: [&str; 5] = ["new", "paid", "packed", "sent", "returned"];

fn element(r: u64) -> &'static str {
    ELEMENTS[(r % 5) as usize]
}

fn date(r: u64) -> String {
    format!(
        "{}-{:02}-{:02}",
        1992 + r % 7,
        r / 7 % 12 + 1,
        r / 84 % 28 + 1
    )
}

fn clock(r: u64) -> String {
    format!("{:02}:{:02}:{:02}", r % 24, r / 24 % 60, r / 1440 % 60)
}

fn datetime(r: u64) -> String {
    format!("{} {}", date(r), clock(r / 3))
}

fn words(mut r: u64, len: u64) -> String {
    let mut text = String::new();
    while (text.len() as u64) < len {
        r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = [
            "carefully",
            "ironic",
            "the",
            "Requests",
            "sleep",
            "final",
            "deposits",
        ];
        let _ = write!(text, "{} ", word[(r >> 60) as usize % word.len()]);
    }
    text.truncate(len as usize);
    text
}

struct Table {
    name: &'static str,
    info: TableInfo,
    makes: Vec<Make>,
}

impl Table {
    /// An integer key first where `primary` is empty, else a clustered key over those offsets.
    fn new(
        name: &'static str,
        kinds: &[&str],
        primary: &[usize],
        indexes: &[(&[usize], bool)],
    ) -> Table {
        let columns: Vec<Column> = kinds.iter().map(|kind| column(kind)).collect();
        let keyed =
            |offset: usize| primary.contains(&offset) || (primary.is_empty() && offset == 0);
        let cols = columns.iter().enumerate().map(|(offset, column)| {
            let mut field_type = column.field_type.clone();
            if keyed(offset) {
                field_type.flag |= flag::PRI_KEY | flag::NOT_NULL;
            }
            ColumnInfo {
                id: offset as i64 + 1,
                name: Name::new(format!("c{offset}")),
                offset,
                field_type,
                state: state::PUBLIC,
                version: 2,
                ..ColumnInfo::default()
            }
        });
        let index = |id: usize, offsets: &[usize], unique: bool| IndexInfo {
            id: id as i64,
            idx_name: Name::new(format!("i{id}")),
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
            is_unique: unique,
            ..IndexInfo::default()
        };
        let mut index_info: Vec<IndexInfo> = indexes
            .iter()
            .enumerate()
            .map(|(at, (offsets, unique))| index(at + 2, offsets, *unique))
            .collect();
        if !primary.is_empty() {
            let key = IndexInfo {
                is_primary: true,
                ..index(1, primary, true)
            };
            index_info.insert(0, key);
        }
        let info = TableInfo {
            id: 104,
            name: Name::new("t"),
            cols: Some(cols.collect()),
            index_info: Some(index_info),
            state: state::PUBLIC,
            version: 5,
            pk_is_handle: primary.is_empty(),
            is_common_handle: !primary.is_empty(),
            common_handle_version: 1,
            ..TableInfo::default()
        };
        let makes = columns.iter().map(|column| column.make).collect();
        Table { name, info, makes }
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cell = |row: u64, (at, make): (usize, &Make)| {
            let seed = (row << 8 | at as u64).wrapping_add(1);
            let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            make((mixed ^ mixed >> 29) >> 3)
        };
        (0..VARIANTS)
            .map(|row| {
                self.makes
                    .iter()
                    .enumerate()
                    .map(|it| cell(row, it))
                    .collect()
            })
            .collect()
    }

    /// Nanoseconds, pairs, bytes of text and bytes of pairs of a row.
    fn measure(&self) -> (f64, u64, u64, u64) {
        let rows = self.rows();
        let fields: Vec<Vec<Field<'_>>> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|text| Field::Text(text.as_bytes()))
                    .collect()
            })
            .collect();
        let text: usize = rows.iter().flatten().map(|text| text.len() + 1).sum();
        let mut encoder = TableEncoder::compile(&self.info, &Session::default(), None).unwrap();
        let times = (CELLS / self.makes.len() as u64 / VARIANTS).max(1);
        let (mut pairs, mut bytes) = (0, 0);
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            (pairs, bytes) = (0, 0);
            let before = Instant::now();
            for _ in 0..times {
                for (at, row) in fields.iter().enumerate() {
                    let mut sink = |_: Slot, key: &[u8], value: &[u8]| {
                        pairs += 1;
                        bytes += (black_box(key).len() + black_box(value).len()) as u64;
                    };
                    encoder
                        .encode_row(black_box(row), at as i64 + 1, &mut sink)
                        .unwrap();
                }
            }
            let nanos = before.elapsed().as_nanos() as f64;
            best = best.min(nanos / (times * VARIANTS) as f64);
        }
        let rows = times * VARIANTS;
        (best, pairs / rows, text as u64 / VARIANTS, bytes / rows)
    }
}

const LINEITEM: [&str; 16] = [
    "bigint",
    "bigint",
    "bigint",
    "bigint",
    "decimal(15,2)",
    "decimal(15,2)",
    "decimal(15,2)",
    "decimal(15,2)",
    "char(1)",
    "char(1)",
    "date",
    "date",
    "date",
    "char(25)",
    "char(10)",
    "varchar(44)",
];
const TYPES: [&str; 22] = [
    "int",
    "bigint",
    "decimal(15,2)",
    "decimal(40,6)",
    "double",
    "date",
    "datetime(0)",
    "datetime(6)",
    "timestamp(0)",
    "time(0)",
    "year",
    "bit(8)",
    "enum",
    "set",
    "char(60)",
    "varchar(60)",
    "general_ci",
    "unicode_ci",
    "0900_ai_ci",
    "varbinary(60)",
    "text",
    "json",
];

fn lineitem() -> Table {
    let mut table = Table::new("lineitem", &LINEITEM, &[0, 3], &[(&[10, 1], false)]);
    // Flags of one letter.
    table.makes[8] = |r| ["A", "N", "R"][(r % 3) as usize].to_owned();
    table.makes[9] = |r| ["F", "O"][(r % 2) as usize].to_owned();
    table
}

fn tables() -> Vec<Table> {
    // About 100 bytes of text.
    let ten = [
        "bigint",
        "bigint",
        "bigint",
        "bigint",
        "double",
        "decimal(10,2)",
        "datetime(0)",
        "char(16)",
        "short",
        "short",
    ];
    let wide: Vec<&str> = std::iter::once("bigint")
        .chain(TYPES.into_iter().cycle().take(99))
        .collect();
    let five = [
        "bigint",
        "bigint",
        "varchar(60)",
        "general_ci",
        "datetime(0)",
        "decimal(15,2)",
        "int",
        "enum",
        "char(60)",
        "timestamp(0)",
    ];
    vec![
        Table::new("ten columns, one index", &ten, &[], &[(&[1], false)]),
        lineitem(),
        Table::new("wide: 100 mixed columns", &wide, &[], &[]),
        Table::new(
            "five indexes",
            &five,
            &[],
            &[
                (&[1], true),
                (&[2], false),
                (&[3, 6], false),
                (&[4], false),
                (&[7, 9, 5], false),
            ],
        ),
    ]
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    println!("| table | pairs/row | bytes of text | bytes of pairs | ns/row | MB/s of text |");
    println!("|---|---|---|---|---|---|");
    for table in tables() {
        if !wanted.is_empty() && !wanted.iter().any(|word| table.name.contains(word.as_str())) {
            continue;
        }
        let (nanos, pairs, text, bytes) = table.measure();
        let speed = text as f64 * 1000.0 / nanos;
        println!(
            "| {} | {pairs} | {text} | {bytes} | {nanos:.0} | {speed:.0} |",
            table.name
        );
    }
    if !wanted.is_empty() {
        return;
    }
    println!("\n| type | ns in the row | ns in a key too |\n|---|---|---|");
    let (base, ..) = Table::new("", &["bigint"], &[], &[]).measure();
    let (base_keyed, ..) = Table::new("", &["bigint", "int"], &[], &[(&[1], false)]).measure();
    let (base_int, ..) = Table::new("", &["bigint", "int"], &[], &[]).measure();
    for kind in TYPES.into_iter().chain(["vector"]) {
        let (row, ..) = Table::new("", &["bigint", kind], &[], &[]).measure();
        // An index costs something whatever it is over; that of an integer's is taken off.
        let keyed = (!matches!(kind, "json" | "vector" | "text")).then(|| {
            let (keyed, ..) = Table::new("", &["bigint", kind], &[], &[(&[1], false)]).measure();
            keyed - (base_keyed - base_int) - base
        });
        let keyed = keyed.map_or("–".to_owned(), |keyed| format!("{keyed:.0}"));
        println!("| {kind} | {:.0} | {keyed} |", row - base);
    }
    println!(
        "\na row of one BIGINT: {base:.0} ns; an index over an INT: {:.0} ns",
        base_keyed - base_int
    );
}
