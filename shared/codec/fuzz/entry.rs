//! What must take any bytes without a panic, and hold what is said at each: the entry points of the fuzz targets
//! and of the test that feeds them random bytes on every run.

use std::sync::{Arc, OnceLock};
use thunderhead_codec::cast::{ColumnCast, Field};
use thunderhead_codec::decimal::MyDecimal;
use thunderhead_codec::expr::Expression;
use thunderhead_codec::json;
use thunderhead_codec::mysql::tp;
use thunderhead_codec::schema::{FieldType, TableInfo};
use thunderhead_codec::session::{Session, SqlMode};
use thunderhead_codec::table::{Slot, TableDecoder, TableEncoder};
use thunderhead_codec::time::Zone;
use thunderhead_codec::time::duration;
use thunderhead_codec::time::parse;

/// An entry point and its name.
pub type Entry = (&'static str, fn(&[u8]));

pub const ENTRIES: [Entry; 6] = [
    ("cast", cast),
    ("json", document),
    ("decimal", decimal),
    ("datetime", datetime),
    ("decoder", decoder),
    ("expression", expression),
];

fn of(code: u8, flen: i64, decimal: i32, charset: &str) -> FieldType {
    let collate = match charset {
        "binary" => "binary".to_owned(),
        other => format!("{other}_bin"),
    };
    let elems = matches!(code, tp::ENUM | tp::SET)
        .then(|| ["a", "b ", "1", "", "日"].map(str::to_owned).to_vec());
    FieldType {
        tp: code,
        flen,
        decimal,
        charset: charset.to_owned(),
        collate,
        elems,
        ..FieldType::default()
    }
}

fn types() -> Vec<FieldType> {
    let mut types = Vec::new();
    for code in [
        tp::TINY,
        tp::SHORT,
        tp::INT24,
        tp::LONG,
        tp::LONGLONG,
        tp::YEAR,
    ] {
        types.push(of(code, 20, 0, "binary"));
    }
    for (flen, decimal) in [(1, 0), (5, 2), (18, 9), (30, 30), (65, 0), (65, 30)] {
        types.push(of(tp::NEW_DECIMAL, flen, decimal, "binary"));
    }
    for (flen, decimal) in [(12, -1), (7, 3)] {
        types.push(of(tp::FLOAT, flen, decimal, "binary"));
        types.push(of(tp::DOUBLE, flen, decimal, "binary"));
    }
    for fsp in [0, 3, 6] {
        for code in [tp::DATE, tp::DATETIME, tp::TIMESTAMP, tp::DURATION] {
            types.push(of(code, 26, fsp, "binary"));
        }
    }
    for charset in [
        "utf8mb4", "utf8", "ascii", "latin1", "gbk", "gb18030", "binary",
    ] {
        for code in [tp::STRING, tp::VARCHAR, tp::TINY_BLOB] {
            types.push(of(code, 5, 0, charset));
        }
    }
    types.extend([1, 17, 64].map(|bits| of(tp::BIT, bits, 0, "binary")));
    types.extend([tp::ENUM, tp::SET].map(|code| of(code, -1, 0, "utf8mb4")));
    types.extend([
        of(tp::JSON, -1, 0, "binary"),
        of(tp::VECTOR, -1, 0, "binary"),
    ]);
    let unsigned = |field_type: &FieldType| FieldType {
        flag: thunderhead_codec::mysql::flag::UNSIGNED,
        ..field_type.clone()
    };
    let more: Vec<FieldType> = types[..16].iter().map(unsigned).collect();
    types.extend(more);
    types
}

fn casts() -> &'static Vec<ColumnCast> {
    static CASTS: OnceLock<Vec<ColumnCast>> = OnceLock::new();
    CASTS.get_or_init(|| {
        let sessions = [
            ("STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE", "UTC"),
            ("", "America/New_York"),
            ("ALLOW_INVALID_DATES", "-03:30"),
        ];
        let sessions = sessions.map(|(mode, zone)| {
            Arc::new(Session {
                sql_mode: SqlMode::parse(mode),
                time_zone: Zone::parse(zone).unwrap_or_else(|_| Zone::utc()),
                ..Session::default()
            })
        });
        let compiled = |session: &Arc<Session>| {
            types()
                .into_iter()
                .filter_map(|field_type| ColumnCast::compile("c", &field_type, session).ok())
                .collect::<Vec<_>>()
        };
        sessions.iter().flat_map(compiled).collect()
    })
}

/// The first byte picks the column's type and the session, the rest is the value.
pub fn cast(data: &[u8]) {
    let Some((pick, value)) = data.split_first() else {
        return;
    };
    let cast = &casts()[usize::from(*pick) % casts().len()];
    for field in [Field::Text(value), Field::Binary(value)] {
        let _ = cast.cast(field);
    }
    if let Some(bytes) = value.first_chunk::<8>() {
        let number = u64::from_le_bytes(*bytes);
        let double = f64::from_bits(number);
        let (decimal, _) = MyDecimal::parse(value);
        for field in [
            Field::Int(number as i64),
            Field::UInt(number),
            Field::Double(double),
            Field::Float(double as f32),
            Field::Decimal(&decimal),
        ] {
            let _ = cast.cast(field);
        }
    }
}

/// A text that is a document comes back; bytes that claim to be one are read or refused.
pub fn document(data: &[u8]) {
    if let Ok(document) = json::parse(data) {
        let again = json::parse(json::to_text(&document).as_bytes());
        assert!(again.is_ok(), "a document's text is no document");
        let value = json::decode(&document).map(|value| json::encode(&value));
        assert_eq!(value.as_ref(), Some(&document), "a document changed");
    }
    let _ = json::decode(data);
    let _ = json::to_text(data);
}

/// A number's text is the number, and so is its fixed form.
pub fn decimal(data: &[u8]) {
    let (value, _) = MyDecimal::parse(data);
    let (again, _) = MyDecimal::parse(value.to_string().as_bytes());
    // Zero may have more fraction digits than a text of zeros is given.
    let same = value.to_string() == again.to_string();
    assert!(
        same || value.is_zero() && again.is_zero(),
        "{value} is read as {again}"
    );
    let [precision, scale, fixed @ ..] = data else {
        return;
    };
    let mut rest = fixed;
    if let Some(value) = MyDecimal::decode(*precision, *scale, &mut rest) {
        let mut out = Vec::new();
        value.encode(*precision, *scale, &mut out);
        let read = fixed.len() - rest.len();
        // Zero has one form only, and what is read may be another.
        assert!(value.is_zero() || out == fixed[..read], "a number changed");
    }
}

pub fn datetime(data: &[u8]) {
    let zone = Zone::parse("America/New_York").unwrap_or_else(|_| Zone::utc());
    for fsp in [0, 3, 6] {
        let _ = parse::datetime(data, fsp, &zone);
        let _ = duration::parse(data, fsp, &zone);
        if let Some(plain) = parse::plain(data, fsp) {
            assert_eq!(
                parse::datetime(data, fsp, &zone),
                Some(plain),
                "the short way differs"
            );
        }
    }
}

fn tables() -> &'static Vec<TableInfo> {
    static TABLES: OnceLock<Vec<TableInfo>> = OnceLock::new();
    TABLES.get_or_init(|| {
        #[derive(serde::Deserialize)]
        struct Case {
            table_info: TableInfo,
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/kv");
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        let cases = texts.flat_map(|text| {
            text.lines()
                .filter_map(|line| serde_json::from_str::<Case>(line).ok())
                .collect::<Vec<_>>()
        });
        cases.map(|case| case.table_info).collect()
    })
}

/// Two bytes pick a table of the golden cases, one says where the value begins behind the key's prefix. What is
/// read as a row can be encoded.
pub fn decoder(data: &[u8]) {
    let [low, high, cut, rest @ ..] = data else {
        return;
    };
    let at = usize::from(u16::from_le_bytes([*low, *high]));
    let Some(info) = tables().get(at % tables().len().max(1)) else {
        return;
    };
    let session = Session::default();
    let Ok(decoder) = TableDecoder::compile(info, &session) else {
        return;
    };
    let (tail, value) = rest.split_at(usize::from(*cut).min(rest.len()));
    let prefixes = [
        thunderhead_codec::keys::record_prefix(info.id),
        thunderhead_codec::keys::index_prefix(info.id, 1),
        Vec::new(),
    ];
    for mut key in prefixes {
        key.extend_from_slice(tail);
        let _ = decoder.entry(&key, value);
        if let Ok(row) = decoder.record(&key, value) {
            row.datums.iter().for_each(|datum| drop(datum.to_text()));
            if let Ok(mut encoder) = TableEncoder::compile(info, &session, None) {
                let _ = encoder.encode_decoded(&row, &mut |_: Slot, _: &[u8], _: &[u8]| {});
            }
        }
    }
}

/// A text that is an expression over nothing has a value or an error.
pub fn expression(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for mode in ["", "STRICT_TRANS_TABLES"] {
        let session = Session {
            sql_mode: SqlMode::parse(mode),
            ..Session::default()
        };
        if let Ok(expression) = Expression::compile(&text, &TableInfo::default(), &session) {
            let _ = expression.eval(&[]);
        }
    }
}
