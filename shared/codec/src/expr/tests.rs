//! Expressions over columns, under strict modes and as defaults; and how tests check values.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::datum::Datum;
use crate::mysql::{flag, tp};
use crate::schema::{ColumnInfo, FieldType, Name, TableInfo};
use crate::session::{Session, SqlMode};
use crate::time::Zone;

fn lenient() -> Session {
    Session {
        sql_mode: SqlMode::parse(""),
        time_zone: Zone::parse("+08:00").unwrap(),
        ..Session::default()
    }
}

fn table(columns: &[(&str, FieldType)]) -> TableInfo {
    let column = |(offset, (name, field_type)): (usize, &(&str, FieldType))| ColumnInfo {
        name: Name::new(*name),
        offset,
        field_type: field_type.clone(),
        ..ColumnInfo::default()
    };
    TableInfo {
        cols: Some(columns.iter().enumerate().map(column).collect()),
        ..TableInfo::default()
    }
}

/// Text of a value as a client sees it, `NULL`, or `error <code>`.
fn shown(text: &str, info: &TableInfo, session: &Session, row: &[Datum]) -> String {
    let expression = match Expression::compile(text, info, session) {
        Ok(expression) => expression,
        Err(error) => return error.to_string(),
    };
    match expression.shown(row) {
        Ok(Some(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(None) => "NULL".to_owned(),
        Err(error) => format!("error {}", error.code),
    }
}

/// Each line is `expression => text`; all differences are reported at once.
pub(super) fn check(session: &Session, info: &TableInfo, row: &[Datum], lines: &str) {
    let mut wrong = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (text, expected) = line.split_once(" => ").or(line.split_once("=>")).unwrap();
        let found = shown(text.trim(), info, session, row);
        if found != expected.trim() {
            wrong.push(format!(
                "{} => {found}, not {}",
                text.trim(),
                expected.trim()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub(super) fn check_constants(lines: &str) {
    check(&lenient(), &TableInfo::default(), &[], lines);
}

#[test]
fn strict_modes_reject_what_others_adjust() {
    let strict = Session::default();
    check(
        &strict,
        &TableInfo::default(),
        &[],
        "1 / 0 => error 1365
        1 % 0 => error 1365
        '3.5abc' + 0 => error 1292
        cast('1.5' as signed) => error 1292
        cast('12a' as signed) => error 1292
        cast('abc' as char(2)) => error 1406
        year('abc') => error 1292
        cast('10009010' as time) => error 1292
        9223372036854775807 + 1 => error 1690
        cast(1 as unsigned) - 2 => error 1690
        json_extract('{', '$.a') => error 3140
        json_extract('{}', 'a') => error 3143
        date_add('9999-12-31', interval 1 day) => error 1441
        '1000-01-01' + interval 'XXX' year => error 1292
        '1000-01-01' + interval 99999 year => error 1441
        '1000-01-01' + interval 9223372036854775808 year => error 1292
        str_to_date('abc', '%Y') => error 1411",
    );
    let unsigned_off = Session {
        sql_mode: SqlMode::parse("NO_UNSIGNED_SUBTRACTION"),
        ..Session::default()
    };
    check(
        &unsigned_off,
        &TableInfo::default(),
        &[],
        "cast(1 as unsigned) - 2 => -1",
    );
}

#[test]
fn columns_take_part_with_their_types() {
    let typed = |tp, scale| FieldType {
        tp,
        decimal: scale,
        ..FieldType::default()
    };
    let text = |collate: &str| FieldType {
        charset: "utf8mb4".to_owned(),
        collate: collate.to_owned(),
        ..typed(tp::VARCHAR, -1)
    };
    let info = table(&[
        ("i", typed(tp::LONG, 0)),
        (
            "u",
            FieldType {
                flag: flag::UNSIGNED,
                ..typed(tp::LONGLONG, 0)
            },
        ),
        ("d", typed(tp::NEW_DECIMAL, 2)),
        ("f", typed(tp::FLOAT, -1)),
        ("s", text("utf8mb4_bin")),
        ("ci", text("utf8mb4_general_ci")),
        (
            "e",
            FieldType {
                elems: Some(vec!["x".into(), "y".into()]),
                ..typed(tp::ENUM, 0)
            },
        ),
        (
            "b",
            FieldType {
                flen: 16,
                ..typed(tp::BIT, 0)
            },
        ),
        ("y", typed(tp::YEAR, 0)),
        ("n", typed(tp::LONG, 0)),
        (
            "bin",
            FieldType {
                charset: "binary".to_owned(),
                collate: "binary".to_owned(),
                ..typed(tp::VARCHAR, -1)
            },
        ),
    ]);
    let row = [
        Datum::Int(-3),
        Datum::UInt(u64::MAX),
        Datum::Decimal(crate::decimal::MyDecimal::from_i128(150, 2)),
        Datum::Float(0.1),
        Datum::Bytes(b"Ab ".to_vec()),
        Datum::Bytes(b"Ab".to_vec()),
        Datum::Enum(2, "y".to_owned()),
        Datum::Bit(0x4142, 2),
        Datum::Year(2024),
        Datum::Null,
        Datum::Bytes(vec![0xff, b'A']),
    ];
    check(
        &Session::default(),
        &info,
        &row,
        "`i` * 2 + 1 => -5
        `u` => 18446744073709551615
        `d` * `d` => 2.2500
        `d` / 7 => 0.214286
        concat(`d`, `f`, `i`) => 1.500.1-3
        hex(lower(`s`)) => 616220
        `s` = 'Ab' => 1
        `s` = 'ab' => 0
        `ci` = 'aB ' => 1
        `ci` like 'a%' => 1
        `ci` in ('x', 'AB') => 1
        `e` + 1 => 3
        concat(`e`, '!') => y!
        `e` = 'y' => 1
        `b` + 0 => 16706
        concat(`b`) => AB
        `y` + 1 => 2025
        hex(ifnull(`n`, `s`)) => 416220
        `n` + 1 => NULL
        `n` is null => 1
        case when `i` < 0 then 'neg' else 'pos' end => neg
        hex(lower(`bin`)) => FF41
        length(`bin`) => 2
        if(`i` > 0, `i`, `d`) => 1.50
        abs(`i`) => 3
        `t`.`i` => -3
        nosuch(`i`) => function nosuch is not supported in an expression
        `nosuch` => there is no column `nosuch`
        lower() => function lower is called with a wrong number of arguments
        1 + => cannot read the expression near `the end`",
    );
}

#[test]
fn any_text_is_read_without_panic() {
    use proptest::prelude::*;
    proptest!(|(text in "[-+*/%()`'\"a-z0-9_., <>=!|&~^\\\\]{0,40}")| {
        let _ = Expression::compile(&text, &TableInfo::default(), &Session::default())
            .map(|expression| expression.eval(&[]));
    });
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep).is_err());
}

#[test]
fn random_defaults_differ_by_row_and_repeat_by_attempt() {
    let compile =
        |text| Expression::compile(text, &TableInfo::default(), &Session::default()).unwrap();
    for text in ["uuid()", "rand()", "uuid_to_bin(uuid())"] {
        let expression = compile(text);
        let value = |column, row_id| expression.eval_default(column, row_id).unwrap();
        assert_eq!(value("a", 1), value("a", 1));
        assert_ne!(value("a", 1), value("a", 2));
        assert_ne!(value("a", 1), value("b", 1));
    }
}

/// Values at the edges of what functions take.
const EDGES: [&str; 26] = [
    "null",
    "0",
    "-1",
    "3",
    "100000",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1.5",
    "-99999999999999999999999999999999.999999999",
    "1e308",
    "-1e-308",
    "''",
    "'a'",
    "'-1 2:3:4.5'",
    "'中\u{fc}x'",
    "x'ff00'",
    "x''",
    "'0000-00-00'",
    "'2024-00-31'",
    "date'9999-12-31'",
    "timestamp'0001-01-01 00:00:00.000001'",
    "time'-838:59:59.999999'",
    "cast('{\"a\": [1, {\"b\": null}]}' as json)",
    "'$.a[last]'",
    "true",
];

#[test]
fn every_function_takes_any_arguments_without_panic() {
    let sessions = [lenient(), Session::default()];
    let (mut values, mut panicked) = (0, Vec::new());
    for function in super::compile::functions() {
        let (least, most) = function.args;
        for count in least..=most.min(least + 1) {
            for first in 0..EDGES.len() {
                for step in 0..EDGES.len() {
                    let arg = |i: usize| EDGES[(first + i * step) % EDGES.len()];
                    let args: Vec<&str> = (0..count).map(arg).collect();
                    let node = Node::Call {
                        name: function.name.to_owned(),
                        args: args.iter().map(|text| parse(text).unwrap()).collect(),
                    };
                    for session in &sessions {
                        let session = std::sync::Arc::new(session.clone());
                        let info = TableInfo::default();
                        let Ok(expression) = Expression::from_node(&node, &info, &session) else {
                            continue;
                        };
                        match std::panic::catch_unwind(|| expression.shown(&[]).is_ok()) {
                            Ok(value) => values += usize::from(value),
                            Err(_) => panicked.push(format!("{}{args:?}", function.name)),
                        }
                    }
                    if count < 2 {
                        break;
                    }
                }
            }
        }
    }
    assert_eq!(panicked, [""; 0]);
    assert!(values > 10_000, "{values}");
}

#[test]
fn every_cast_and_interval_takes_any_value_without_panic() {
    let mut texts = Vec::new();
    for value in EDGES {
        let casts = [
            "signed",
            "unsigned",
            "char",
            "char(2)",
            "binary(3)",
            "decimal(65,30)",
            "decimal(3,1)",
            "double",
            "float",
            "date",
            "datetime",
            "datetime(6)",
            "time(3)",
            "year",
            "json",
        ];
        texts.extend(casts.map(|to| format!("cast({value} as {to})")));
        for charset in ["utf8mb4", "gbk", "gb18030", "ascii", "latin1", "binary"] {
            texts.push(format!("convert({value} using {charset})"));
        }
        let units = [
            "microsecond",
            "second",
            "minute",
            "day",
            "week",
            "quarter",
            "year",
            "second_microsecond",
            "day_second",
            "year_month",
        ];
        for unit in units {
            texts.push(format!("extract({unit} from {value})"));
            for date in EDGES {
                texts.push(format!("date_sub({date}, interval {value} {unit})"));
                texts.push(format!("timestampdiff({unit}, {date}, {value})"));
            }
        }
    }
    let mut panicked = Vec::new();
    for session in [lenient(), Session::default()] {
        for text in &texts {
            let Ok(expression) = Expression::compile(text, &TableInfo::default(), &session) else {
                continue;
            };
            if std::panic::catch_unwind(|| expression.shown(&[]).is_ok()).is_err() {
                panicked.push(text);
            }
        }
    }
    assert_eq!(panicked, [""; 0]);
}
