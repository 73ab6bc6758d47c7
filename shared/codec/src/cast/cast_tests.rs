//! Casts against what a live server did: value stored, or code raised, in strict and other modes.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::mysql::flag;
use crate::session::SqlMode;

fn field_type(kind: &str) -> FieldType {
    let (name, args) = kind.split_once('(').map_or((kind, ""), |(name, rest)| {
        (name, rest.trim_end_matches(')'))
    });
    let numbers: Vec<i64> = args
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let (flen, decimal) = (
        numbers.first().copied().unwrap_or(-1),
        numbers.get(1).copied().unwrap_or(-1),
    );
    let elems: Vec<String> = args.split('|').map(str::to_owned).collect();
    let (tp, flen, decimal) = match name.trim_end_matches(" unsigned") {
        "tinyint" => (tp::TINY, 4, 0),
        "int" => (tp::LONG, 11, 0),
        "bigint" => (tp::LONGLONG, 20, 0),
        "decimal" => (tp::NEW_DECIMAL, flen, decimal),
        "float" => (tp::FLOAT, flen, decimal),
        "double" => (tp::DOUBLE, flen, decimal),
        "date" => (tp::DATE, 10, 0),
        "datetime" => (tp::DATETIME, 19, flen.max(0)),
        "timestamp" => (tp::TIMESTAMP, 19, flen.max(0)),
        "time" => (tp::DURATION, 10, flen.max(0)),
        "year" => (tp::YEAR, 4, 0),
        "bit" => (tp::BIT, flen, 0),
        "enum" => (tp::ENUM, -1, 0),
        "set" => (tp::SET, -1, 0),
        "char" | "binary" => (tp::STRING, flen, 0),
        "varchar" | "varbinary" | "utf8" | "ascii" | "gbk" | "latin1" => (tp::VARCHAR, flen, 0),
        "json" => (tp::JSON, -1, 0),
        "vector" => (tp::VECTOR, flen, 0),
        other => panic!("{other}"),
    };
    let charset = match name {
        "utf8" | "ascii" | "gbk" | "latin1" => name,
        "char" | "varchar" | "enum" | "set" => "utf8mb4",
        _ => "binary",
    };
    let collate = if charset == "binary" {
        "binary".to_owned()
    } else {
        format!("{charset}_bin")
    };
    let flag = if kind.contains("unsigned") {
        flag::UNSIGNED
    } else {
        0
    };
    let elems = matches!(tp, tp::ENUM | tp::SET).then_some(elems);
    FieldType {
        tp,
        flag,
        flen,
        decimal: decimal as i32,
        charset: charset.to_owned(),
        collate,
        elems,
        ..FieldType::default()
    }
}

fn cast(kind: &str, field: Field<'_>, mode: &str) -> String {
    let session = Session {
        sql_mode: SqlMode::parse(mode),
        ..Session::default()
    };
    let field_type = field_type(kind);
    let cast = ColumnCast::compile("c", &field_type, &Arc::new(session)).unwrap();
    let slow = cast.cast(field);
    if let Field::Text(text) = field {
        let mut fast = Cell::Null;
        if cast.fill_plain(text, &mut fast) {
            assert_eq!(
                Ok(&fast),
                slow.as_ref(),
                "{kind} {text:?}: the short way differs"
            );
        }
    }
    match slow {
        Ok(cell) => match cell_datum(&cell, &field_type) {
            Datum::Enum(index, _) => index.to_string(),
            Datum::Set(mask, _) => mask.to_string(),
            Datum::Bit(v, _) => v.to_string(),
            Datum::Null => "NULL".to_owned(),
            datum => String::from_utf8_lossy(&datum.to_text().unwrap()).into_owned(),
        },
        Err(error) => error.code.to_string(),
    }
}

const STRICT: &str = "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE";

/// (type, text, strict outcome, other outcome). `!` before a number: an error code.
const TEXTS: &[(&str, &str, &str, &str)] = &[
    ("int", "1.5", "2", "2"),
    ("int", "-1.5", "-2", "-2"),
    ("int", ".5", "1", "1"),
    ("int", "12\0x", "12", "12"),
    ("int", "1.5.5", "!1264", "2"),
    ("int", "1..5", "!1264", "1"),
    ("int", "1e1.5", "!1264", "10"),
    ("int", "true", "!1366", "0"),
    ("int", "1 2", "!1366", "1"),
    ("int", "1,000", "!1366", "1"),
    ("int", "\u{a0}7\u{3000}", "7", "7"),
    ("int unsigned", "-0.4", "0", "0"),
    ("int unsigned", "-0.5", "!1264", "0"),
    ("int unsigned", "-0", "0", "0"),
    (
        "bigint",
        "1e18",
        "1000000000000000000",
        "1000000000000000000",
    ),
    ("decimal(5,2)", "-0.004", "0.00", "0.00"),
    ("decimal(5,2)", "1.005", "1.01", "1.01"),
    ("decimal(5,2)", "999.995", "!1264", "999.99"),
    ("decimal(5,2)", "1\0", "!1366", "1.00"),
    ("decimal(5,2)", "\t 1.5 ", "1.50", "1.50"),
    ("double", "1_000", "!1366", "1"),
    ("double", "0x1p3", "!1366", "0"),
    ("double", "1e400", "!1366", "1.7976931348623157e308"),
    ("date", "2020-01-31 23:59:59.6", "2020-02-01", "2020-02-01"),
    (
        "datetime",
        "2020-01-01 23:59:59.9",
        "2020-01-02 00:00:00",
        "2020-01-02 00:00:00",
    ),
    (
        "datetime(3)",
        "2020-01-01 00:00:00.12349",
        "2020-01-01 00:00:00.123",
        "2020-01-01 00:00:00.123",
    ),
    (
        "datetime(3)",
        "2020-01-01 00:00:00.9999",
        "2020-01-01 00:00:01.000",
        "2020-01-01 00:00:01.000",
    ),
    ("datetime", "2020-00-10", "!1292", "2020-00-10 00:00:00"),
    ("datetime", "0000-00-00", "!1292", "0000-00-00 00:00:00"),
    ("date", "2023-02-29", "!1292", "0000-00-00"),
    ("timestamp", "2020-00-10", "!1292", "0000-00-00 00:00:00"),
    (
        "timestamp",
        "1970-01-01 00:00:00",
        "!1292",
        "0000-00-00 00:00:00",
    ),
    (
        "timestamp(6)",
        "2038-01-19 03:14:07.999999",
        "2038-01-19 03:14:07.999999",
        "2038-01-19 03:14:07.999999",
    ),
    ("time", "1112", "00:11:12", "00:11:12"),
    ("time", "838:59:59.6", "!1292", "838:59:59"),
    ("time", "11:12:13x", "!1292", "11:12:13"),
    ("year", "0", "2000", "2000"),
    ("year", "00", "2000", "2000"),
    ("year", "000", "2000", "2000"),
    ("year", " 0", "2000", "2000"),
    ("year", "0000", "0000", "0000"),
    ("year", "100", "!1264", "1901"),
    ("year", "2024.5", "2025", "2025"),
    ("year", "-1", "!1264", "0000"),
    ("year", "2156", "!1264", "2155"),
    ("bit(1)", "1", "!1406", "1"),
    ("bit(1)", "\0", "0", "0"),
    ("bit(16)", "ab", "24930", "24930"),
    ("enum(a|b |1|)", "1", "3", "3"),
    ("enum(a|b |1|)", "b", "2", "2"),
    ("enum(a|b |1|)", "2", "2", "2"),
    ("enum(a|b |1|)", "0x1", "1", "1"),
    ("enum(a|b |1|)", "", "4", "4"),
    ("enum(a|b |1|)", " 2", "!1265", "0"),
    ("enum(a|b |1|)", "0", "!1265", "0"),
    ("set(x|y|z)", "z,x,x", "5", "5"),
    ("set(x|y|z)", "5", "5", "5"),
    ("set(x|y|z)", "x,q", "!1265", "0"),
    ("set(x|y|z)", "x,", "!1265", "0"),
    ("set(x|y|z)", "", "0", "0"),
    ("char(3)", "abc   ", "abc", "abc"),
    ("char(5)", "ab  ", "ab", "ab"),
    ("varchar(3)", "abc\t\n", "abc", "abc"),
    ("varchar(3)", "abcd", "!1406", "abc"),
    ("varchar(3)", "äöü", "äöü", "äöü"),
    ("varbinary(3)", "abc ", "!1406", "abc"),
    ("binary(3)", "a", "a\0\0", "a\0\0"),
    ("utf8(3)", "a😀", "!1366", "a?"),
    ("ascii(3)", "é", "!1366", "?"),
    ("gbk(3)", "€", "!1366", "?"),
    ("latin1(3)", "é", "é", "é"),
    ("json", "", "!3140", "!3140"),
    ("json", "1e400", "!3140", "!3140"),
    ("json", "-0.0", "-0", "-0"),
    ("vector(2)", "[1, 2.5]", "[1,2.5]", "[1,2.5]"),
    ("vector(2)", "[1]", "!0", "!0"),
];

#[test]
fn texts_become_what_the_server_made_of_them() {
    let mut wrong = Vec::new();
    for (kind, text, strict, other) in TEXTS {
        for (mode, expected) in [(STRICT, strict), ("", other)] {
            let got = cast(kind, Field::Text(text.as_bytes()), mode);
            if got != expected.trim_start_matches('!') {
                wrong.push(format!(
                    "{kind} {text:?} under `{mode}`: {got}, expected {expected}"
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn typed_values_become_what_the_server_made_of_them() {
    let civil = crate::time::Civil {
        year: 2024,
        month: 2,
        day: 29,
        hour: 23,
        minute: 59,
        second: 59,
        micro: 623_456,
    };
    let time = Field::Time(Time::new(civil, TimeKind::Timestamp, 6));
    let decimal = MyDecimal::parse(b"1.25").0;
    let eleven = Field::Duration(MyDuration {
        nanos: 40_271_999_999_000,
        fsp: 6,
    });
    for (kind, field, expected) in [
        ("datetime", time, "2024-03-01 00:00:00"),
        ("date", time, "2024-02-29"),
        ("time", time, "24:00:00"),
        ("year", time, "2024"),
        ("bigint", time, "20240301000000"),
        ("varchar(30)", time, "2024-02-29 23:59:59.623456"),
        ("double", Field::Float(0.1), "0.10000000149011612"),
        ("varchar(30)", Field::Float(0.1), "0.1"),
        ("varchar(30)", Field::Double(1e20), "100000000000000000000"),
        ("int", Field::Double(2.5), "2"),
        ("int", Field::Double(3.5), "4"),
        ("decimal(5,1)", Field::Decimal(&decimal), "1.3"),
        ("bit(8)", Field::Int(65), "65"),
        ("enum(a|b)", Field::Int(2), "2"),
        ("date", Field::Int(20_240_229), "2024-02-29"),
        ("timestamp", Field::UInt(20_240_229), "1105"),
        ("datetime", Field::Binary(b"2024-02-29"), "1105"),
        ("time", Field::Binary(b"11:12:13"), "1105"),
        ("bit(64)", Field::Binary(b"123456789"), "1366"),
        ("bit(8)", Field::Binary(b"123456789"), "1406"),
        ("decimal(30,0)", Field::Binary(b"123456789"), "1366"),
        ("int", eleven, "111112"),
        ("varchar(3)", Field::Int(1), "1"),
        ("json", Field::Binary(b"1"), "3144"),
        ("json", Field::Int(1), "1"),
        ("year", Field::Int(0), "0000"),
        ("int", Field::Binary(&[1, 0]), "256"),
    ] {
        assert_eq!(cast(kind, field, STRICT), expected, "{kind} {field:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_cast_panic(text: Vec<u8>, n in 0..TEXTS.len()) {
        for mode in [STRICT, ""] {
            cast(TEXTS[n].0, Field::Text(&text), mode);
            cast(TEXTS[n].0, Field::Binary(&text), mode);
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_long_one(number in "-?[0-9]{0,21}(\\.[0-9]{0,12})?", clock in "[0-9]{2}:[0-6][0-9]:[0-6][0-9]", year in "[0-9]{4}", date in "[0-9]{4}-[01][0-9]-[0-3][0-9]( [0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,7})?)?", n in 0..TEXTS.len()) {
        for mode in [STRICT, ""] {
            cast(TEXTS[n].0, Field::Text(number.as_bytes()), mode);
            cast(TEXTS[n].0, Field::Text(date.as_bytes()), mode);
            cast("time(3)", Field::Text(clock.as_bytes()), mode);
            cast("year", Field::Text(year.as_bytes()), mode);
            cast("double", Field::Text(number.as_bytes()), mode);
        }
    }
}
