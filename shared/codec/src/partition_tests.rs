//! Placements that a live server made.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::decimal::MyDecimal;
use crate::mysql::{flag, tp};
use crate::schema::{ColumnInfo, Name};
use crate::time::{Civil, Time, TimeKind};

fn column(name: &str, offset: usize, field_type: FieldType) -> ColumnInfo {
    ColumnInfo {
        id: offset as i64 + 1,
        name: Name::new(name),
        offset,
        field_type,
        ..ColumnInfo::default()
    }
}

fn typed(tp: u8) -> FieldType {
    FieldType {
        tp,
        ..FieldType::default()
    }
}

fn text_type(collate: &str) -> FieldType {
    FieldType {
        charset: "utf8mb4".to_owned(),
        collate: collate.to_owned(),
        flen: 20,
        ..typed(tp::VARCHAR)
    }
}

/// Places of rows, counted from 0; -1 is error 1526.
fn places(columns: Vec<ColumnInfo>, partition: PartitionInfo, rows: &[Vec<Datum>]) -> Vec<i64> {
    let info = TableInfo {
        cols: Some(columns),
        partition: Some(PartitionInfo {
            enable: true,
            ..partition
        }),
        ..TableInfo::default()
    };
    let locator = PartitionLocator::compile(&info, &Session::default())
        .unwrap()
        .unwrap();
    rows.iter()
        .map(|row| match locator.locate(row) {
            Ok(id) => id,
            Err(error) => {
                assert_eq!(error.code, 1526);
                -1
            }
        })
        .collect()
}

fn definitions(count: i64) -> Option<Vec<PartitionDefinition>> {
    let definition = |id| PartitionDefinition {
        id,
        ..PartitionDefinition::default()
    };
    Some((0..count).map(definition).collect())
}

fn hash(field_type: FieldType, values: &[Datum]) -> Vec<i64> {
    let partition = PartitionInfo {
        partition_type: partition_type::HASH,
        expr: "`a`".to_owned(),
        definitions: definitions(4),
        ..PartitionInfo::default()
    };
    let rows: Vec<Vec<Datum>> = values.iter().map(|value| vec![value.clone()]).collect();
    places(vec![column("a", 0, field_type)], partition, &rows)
}

#[test]
fn hash_takes_unsigned_numbers_by_their_bits() {
    let unsigned = FieldType {
        flag: flag::UNSIGNED,
        ..typed(tp::LONGLONG)
    };
    let values = [u64::MAX, 9_223_372_036_854_775_809, 5].map(Datum::UInt);
    assert_eq!(hash(unsigned.clone(), &values), [1, 3, 1]);
    assert_eq!(hash(unsigned, &[Datum::Null]), [0]);
    assert_eq!(
        hash(typed(tp::LONGLONG), &[Datum::Int(-5), Datum::Int(i64::MIN)]),
        [1, 0]
    );
}

fn key(types: Vec<FieldType>, count: i64, rows: &[Vec<Datum>]) -> Vec<i64> {
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let columns = types
        .into_iter()
        .enumerate()
        .map(|(i, ty)| column(&names[i], i, ty))
        .collect();
    let partition = PartitionInfo {
        partition_type: partition_type::KEY,
        columns: Some(names.iter().map(Name::new).collect()),
        definitions: definitions(count),
        ..PartitionInfo::default()
    };
    places(columns, partition, rows)
}

fn bytes(text: &str) -> Datum {
    Datum::Bytes(text.as_bytes().to_vec())
}

#[test]
fn key_hashes_texts_by_sort_key_and_the_rest_by_text() {
    let ints: Vec<Vec<Datum>> = [0, 1, 2, 3, 4, -1].map(|v| vec![Datum::Int(v)]).into();
    assert_eq!(key(vec![typed(tp::LONG)], 4, &ints), [1, 3, 1, 3, 0, 2]);
    assert_eq!(key(vec![typed(tp::LONG)], 4, &[vec![Datum::Null]]), [1]);
    let texts: Vec<Vec<Datum>> = ["abc", "abc ", "ABC", ""].map(|v| vec![bytes(v)]).into();
    assert_eq!(key(vec![text_type("utf8mb4_bin")], 4, &texts), [2, 2, 0, 0]);
    assert_eq!(
        key(vec![text_type("utf8mb4_general_ci")], 4, &texts[..3]),
        [2, 2, 2]
    );
    let both = vec![typed(tp::LONG), text_type("utf8mb4_bin")];
    let rows = [
        vec![Datum::Int(1), bytes("abc")],
        vec![Datum::Int(1), Datum::Null],
    ];
    assert_eq!(key(both, 4, &rows), [0, 1]);
    let civil = Civil {
        year: 2024,
        month: 1,
        day: 2,
        hour: 3,
        minute: 4,
        second: 5,
        micro: 0,
    };
    let rows = [
        vec![
            Datum::Time(Time::new(civil, TimeKind::Datetime, 3)),
            Datum::Decimal(MyDecimal::from_i128(150, 2)),
        ],
        vec![Datum::Null, Datum::Decimal(MyDecimal::from_i128(0, 2))],
    ];
    assert_eq!(
        key(vec![typed(tp::DATETIME), typed(tp::NEW_DECIMAL)], 7, &rows),
        [0, 1]
    );
}

fn range_columns(types: Vec<FieldType>, bounds: &[&[&str]], rows: &[Vec<Datum>]) -> Vec<i64> {
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let columns = types
        .into_iter()
        .enumerate()
        .map(|(i, ty)| column(&names[i], i, ty))
        .collect();
    let definition = |(id, bound): (usize, &&[&str])| PartitionDefinition {
        id: id as i64,
        less_than: Some(bound.iter().map(|text| (*text).to_owned()).collect()),
        ..PartitionDefinition::default()
    };
    let partition = PartitionInfo {
        partition_type: partition_type::RANGE,
        columns: Some(names.iter().map(Name::new).collect()),
        definitions: Some(bounds.iter().enumerate().map(definition).collect()),
        ..PartitionInfo::default()
    };
    places(columns, partition, rows)
}

#[test]
fn range_columns_compare_tuples_with_null_lowest() {
    let row = |a: Option<i64>, b: &str| vec![a.map_or(Datum::Null, Datum::Int), bytes(b)];
    let rows = [
        row(None, "z"),
        vec![Datum::Int(1), Datum::Null],
        row(Some(1), "l"),
        row(Some(1), "m"),
        row(Some(5), "zzz"),
        row(Some(6), "a"),
    ];
    let bounds: [&[&str]; 3] = [&["1", "'m'"], &["5", "MAXVALUE"], &["MAXVALUE", "MAXVALUE"]];
    let types = vec![typed(tp::LONG), text_type("utf8mb4_bin")];
    assert_eq!(range_columns(types, &bounds, &rows), [0, 0, 0, 1, 1, 2]);
    let rows: Vec<Vec<Datum>> = ["L", "M", "Z"].map(|v| vec![bytes(v)]).into();
    let types = vec![text_type("utf8mb4_general_ci")];
    assert_eq!(
        range_columns(types, &[&["'m'"], &["'z'"]], &rows),
        [0, 1, -1]
    );
}

fn list(
    columns: Option<&str>,
    lists: &[&[&str]],
    field_type: FieldType,
    values: &[Datum],
) -> Vec<i64> {
    let definition = |(id, list): (usize, &&[&str])| PartitionDefinition {
        id: id as i64,
        in_values: Some(list.iter().map(|text| vec![(*text).to_owned()]).collect()),
        ..PartitionDefinition::default()
    };
    let partition = PartitionInfo {
        partition_type: partition_type::LIST,
        expr: if columns.is_none() {
            "`a`".to_owned()
        } else {
            String::new()
        },
        columns: columns.map(|name| vec![Name::new(name)]),
        definitions: Some(lists.iter().enumerate().map(definition).collect()),
        ..PartitionInfo::default()
    };
    let rows: Vec<Vec<Datum>> = values.iter().map(|value| vec![value.clone()]).collect();
    places(vec![column("a", 0, field_type)], partition, &rows)
}

#[test]
fn lists_match_by_sort_key_and_fall_back_to_default() {
    let texts = ["A ", "b", "C"].map(bytes);
    let lists: [&[&str]; 2] = [&["'a'", "'B'"], &["'c '", "NULL"]];
    let ci = || text_type("utf8mb4_general_ci");
    assert_eq!(list(Some("a"), &lists, ci(), &texts), [0, 0, 1]);
    assert_eq!(
        list(Some("a"), &lists, ci(), &[Datum::Null, bytes("d")]),
        [1, -1]
    );
    let ints = [Datum::Int(1), Datum::Int(2), Datum::Int(9), Datum::Null];
    assert_eq!(
        list(None, &[&["1", "3"], &["2", "NULL"]], typed(tp::LONG), &ints),
        [0, 1, -1, 1]
    );
    assert_eq!(
        list(None, &[&["1"], &["DEFAULT"]], typed(tp::LONG), &ints),
        [0, 1, 1, 1]
    );
}
