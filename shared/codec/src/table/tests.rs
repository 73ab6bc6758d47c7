//! Keys and values against those observed on a live server; the constant parts of keys are left out.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::mysql::{flag, state, tp};
use crate::schema::{
    ColumnInfo, FieldType, IndexColumn, IndexInfo, Name, PartitionDefinition, PartitionInfo,
    TableInfo, partition_type,
};
use crate::session::Session;

/// A table of columns c1, c2, … with ids from 1.
struct Table(TableInfo);

impl Table {
    fn new(types: &[FieldType]) -> Table {
        let column = |(offset, field_type): (usize, &FieldType)| ColumnInfo {
            id: offset as i64 + 1,
            name: Name::new(format!("c{}", offset + 1)),
            offset,
            field_type: field_type.clone(),
            state: state::PUBLIC,
            version: 2,
            ..ColumnInfo::default()
        };
        Table(TableInfo {
            id: 104,
            name: Name::new("t"),
            cols: Some(types.iter().enumerate().map(column).collect()),
            index_info: Some(Vec::new()),
            state: state::PUBLIC,
            version: 5,
            ..TableInfo::default()
        })
    }

    fn int_key(mut self) -> Table {
        self.0.pk_is_handle = true;
        self.0.cols.as_mut().unwrap()[0].field_type.flag |= flag::PRI_KEY | flag::NOT_NULL;
        self
    }

    /// Clustered primary key over (offset, prefix length) parts.
    fn clustered(mut self, parts: &[(usize, i32)]) -> Table {
        self.0.is_common_handle = true;
        self.0.common_handle_version = 1;
        for (offset, _) in parts {
            self.0.cols.as_mut().unwrap()[*offset].field_type.flag |=
                flag::PRI_KEY | flag::NOT_NULL;
        }
        self.index(parts, |index| index.is_primary = true)
    }

    fn index(mut self, parts: &[(usize, i32)], change: impl FnOnce(&mut IndexInfo)) -> Table {
        let indexes = self.0.index_info.as_mut().unwrap();
        let part = |(offset, length): &(usize, i32)| IndexColumn {
            offset: *offset,
            length: *length,
            ..IndexColumn::default()
        };
        let mut index = IndexInfo {
            id: indexes.len() as i64 + 1,
            idx_name: Name::new(format!("i{}", indexes.len() + 1)),
            idx_cols: Some(parts.iter().map(part).collect()),
            state: state::PUBLIC,
            ..IndexInfo::default()
        };
        change(&mut index);
        indexes.push(index);
        self
    }

    fn unique(self, parts: &[(usize, i32)]) -> Table {
        self.index(parts, |index| index.is_unique = true)
    }

    fn key(self, parts: &[(usize, i32)]) -> Table {
        self.index(parts, |_| {})
    }

    /// Pairs of one row as `key → value` without table and index prefixes; the record first.
    fn encode(&self, fields: &[Option<&str>]) -> Vec<String> {
        self.encode_with(&Session::default(), fields)
    }

    fn encode_with(&self, session: &Session, fields: &[Option<&str>]) -> Vec<String> {
        let mut encoder = TableEncoder::compile(&self.0, session, None).unwrap();
        let decoder = TableDecoder::compile(&self.0, session).unwrap();
        let fields: Vec<Field<'_>> = fields
            .iter()
            .map(|text| text.map_or(Field::Null, |text| Field::Text(text.as_bytes())))
            .collect();
        let mut pairs = Vec::new();
        let mut sink =
            |slot: Slot, key: &[u8], value: &[u8]| pairs.push((slot, key.to_vec(), value.to_vec()));
        encoder.encode_row(&fields, 1, &mut sink).unwrap();
        // Whatever was encoded must come back, and lead back.
        let row = decoder.record(&pairs[0].1, &pairs[0].2).unwrap();
        for (_, key, value) in &pairs[1..] {
            assert_eq!(decoder.entry(key, value).unwrap().handle, row.handle);
        }
        let mut again = Vec::new();
        let mut sink =
            |slot: Slot, key: &[u8], value: &[u8]| again.push((slot, key.to_vec(), value.to_vec()));
        encoder.encode_decoded(&row, &mut sink).unwrap();
        assert_eq!(again, pairs);
        let shown = |(slot, key, value): &(Slot, Vec<u8>, Vec<u8>)| {
            let prefix = if *slot == Slot::Record { 11 } else { 19 };
            format!("{} → {}", hex(&key[prefix..]), hex(value))
        };
        pairs.iter().map(shown).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn int() -> FieldType {
    FieldType {
        tp: tp::LONG,
        flen: 11,
        charset: "binary".to_owned(),
        collate: "binary".to_owned(),
        ..FieldType::default()
    }
}

fn big() -> FieldType {
    FieldType {
        tp: tp::LONGLONG,
        ..int()
    }
}

fn text(code: u8, collate: &str) -> FieldType {
    let charset = collate.split('_').next().unwrap();
    FieldType {
        tp: code,
        flen: 300,
        charset: charset.to_owned(),
        collate: collate.to_owned(),
        ..FieldType::default()
    }
}

fn varchar() -> FieldType {
    text(tp::VARCHAR, "utf8mb4_bin")
}

fn decimal(precision: i64, scale: i32) -> FieldType {
    FieldType {
        tp: tp::NEW_DECIMAL,
        flen: precision,
        decimal: scale,
        ..int()
    }
}

const W: i32 = -1;

#[test]
fn trailing_blanks_are_trimmed_in_keys_and_kept_in_values() {
    let rows = |field_type: FieldType| {
        Table::new(&[int(), field_type])
            .int_key()
            .key(&[(1, W)])
            .encode(&[Some("1"), Some("ab ")])
    };
    assert_eq!(
        rows(varchar())[1],
        "016162000000000000f9038000000000000001 → 00800001000000020300616220"
    );
    assert_eq!(
        rows(text(tp::BLOB, "utf8mb4_bin"))[1],
        "016162000000000000f9038000000000000001 → 30"
    );
    assert_eq!(
        rows(text(tp::STRING, "utf8mb4_bin"))[1],
        "016162000000000000f9038000000000000001 → 30"
    );
}

#[test]
fn restored_values_are_at_least_ten_bytes() {
    let table = Table::new(&[int(), varchar()]).int_key().key(&[(1, W)]);
    assert_eq!(
        table.encode(&[Some("1"), None])[1],
        "00038000000000000001 → 02800000000100020000"
    );
    let table = Table::new(&[int(), varchar(), int()])
        .int_key()
        .unique(&[(1, W), (2, W)]);
    let entry = &table.encode(&[Some("1"), Some("ab "), Some("5")])[1];
    assert!(
        entry.ends_with("→ 08800002000000020303000400616220050000000000000001"),
        "{entry}"
    );
}

#[test]
fn a_clustered_varchar_key_is_stored_and_repeated_in_every_index() {
    let table = Table::new(&[varchar(), int()])
        .clustered(&[(0, W)])
        .unique(&[(1, W)])
        .key(&[(1, W)]);
    let pairs = table.encode(&[Some("pk1"), Some("5")]);
    assert_eq!(
        pairs[0],
        "01706b310000000000fa → 800002000000010203000400706b3105"
    );
    assert_eq!(
        pairs[1],
        "038000000000000005 → 007d017f000a01706b310000000000fa80000100000001010000"
    );
    assert_eq!(
        pairs[2],
        "03800000000000000501706b310000000000fa → 007d0180000100000001010000"
    );
}

#[test]
fn counts_of_blanks_are_signed_for_keys_and_unsigned_for_others() {
    let blanks = " ".repeat(200);
    let table = Table::new(&[varchar(), varchar()])
        .clustered(&[(0, W)])
        .key(&[(1, W)]);
    let value = &table.encode(&[Some(&format!("a{blanks}")), Some(&format!("b{blanks}"))])[1];
    assert!(
        value.ends_with("→ 007d01800002000000010202000300c800c8"),
        "{value}"
    );
    let null = &table.encode(&[Some("a"), None])[1];
    assert!(null.ends_with("8000020000000102010002000000"), "{null}");
}

#[test]
fn the_longer_prefix_decides_how_many_blanks_a_key_column_restores() {
    let table = Table::new(&[varchar(), int()])
        .clustered(&[(0, 2)])
        .key(&[(0, 1)])
        .key(&[(0, 3)])
        .key(&[(0, W)]);
    let counts = |text: &str| -> Vec<u8> {
        let pairs = table.encode(&[Some(text), Some("1")]);
        pairs[1..]
            .iter()
            .map(|pair| u8::from_str_radix(&pair[pair.len() - 2..], 16).unwrap())
            .collect()
    };
    assert_eq!(counts("ab  c"), [0, 1, 0]);
    assert_eq!(counts("a   "), [1, 2, 3]);
}

#[test]
fn short_handles_are_padded_to_nine_bytes() {
    let table = Table::new(&[decimal(1, 0), int()])
        .clustered(&[(0, W)])
        .unique(&[(1, W)]);
    let pairs = table.encode(&[Some("1"), Some("2")]);
    assert!(
        pairs[0].starts_with("060100810000000000 → "),
        "{}",
        pairs[0]
    );
    assert!(
        pairs[1].ends_with("→ 007d017f0009060100810000000000"),
        "{}",
        pairs[1]
    );
}

#[test]
fn handles_are_bits_of_their_integers() {
    let unsigned = FieldType {
        flag: flag::UNSIGNED,
        ..big()
    };
    let table = Table::new(&[unsigned, int()])
        .int_key()
        .key(&[(0, W)])
        .unique(&[(1, W)]);
    let pairs = table.encode(&[Some("9223372036854775808"), Some("5")]);
    assert!(pairs[0].starts_with("0000000000000000 → "));
    assert_eq!(pairs[1], "048000000000000000030000000000000000 → 30");
    assert_eq!(pairs[2], "038000000000000005 → 8000000000000000");
    let table = Table::new(&[big(), int()]).int_key().unique(&[(1, W)]);
    let pairs = table.encode(&[Some("-1"), Some("5")]);
    assert!(pairs[0].starts_with("7fffffffffffffff → "));
    assert_eq!(pairs[1], "038000000000000005 → ffffffffffffffff");
    assert_eq!(
        table.encode(&[Some("-1"), None])[1],
        "00037fffffffffffffff → 30"
    );
}

#[test]
fn prefixes_count_characters_except_in_byte_charsets() {
    let first = |field_type: FieldType, length, text: &str| {
        let table = Table::new(&[int(), field_type])
            .int_key()
            .key(&[(1, length)]);
        let entry = table.encode(&[Some("1"), Some(text)]).swap_remove(1);
        entry[..18].to_owned()
    };
    assert_eq!(
        first(text(tp::VARCHAR, "latin1_bin"), 1, "é"),
        "01c3a9000000000000"
    );
    assert_eq!(
        first(text(tp::VARCHAR, "utf8mb4_general_ci"), 2, "ß 😀"),
        "010053000000000000"
    );
    assert_eq!(
        first(text(tp::VARCHAR, "binary"), 2, "abc"),
        "016162000000000000"
    );
    assert_eq!(
        first(text(tp::VARCHAR, "utf8mb4_0900_ai_ci"), W, "a "),
        "011c47020900000000"
    );
}

#[test]
fn null_is_written_only_where_reading_would_not_find_it() {
    let mut table = Table::new(&[int(), int(), int(), int()]).int_key();
    table.0.cols.as_mut().unwrap()[1].default = Some("5".into());
    assert_eq!(
        table.encode(&[Some("1"), None, None, Some("0")])[0],
        "8000000000000001 → 8000010001000402010000"
    );
    table.0.cols.as_mut().unwrap()[1].default = None;
    table.0.cols.as_mut().unwrap()[1].origin_default = Some("5".into());
    assert_eq!(
        table.encode(&[Some("1"), None, None, Some("0")])[0],
        "8000000000000001 → 8000010001000402010000"
    );
}

#[test]
fn format_1_rows_have_the_observed_bytes() {
    let unsigned = FieldType {
        flag: flag::UNSIGNED,
        ..int()
    };
    let table = Table::new(&[int(), int(), varchar(), unsigned, decimal(5, 2)]).int_key();
    let session = Session {
        row_format: 1,
        ..Session::default()
    };
    let row = &table.encode_with(
        &session,
        &[Some("1"), Some("7"), Some("a"), Some("5"), Some("1.5")],
    )[0];
    assert_eq!(
        row,
        "8000000000000001 → 0804080e080602026108080905080a060502800132"
    );
    assert_eq!(
        table.encode_with(&session, &[Some("1"), None, None, None, None])[0],
        "8000000000000001 → 00"
    );
}

#[test]
fn global_indexes_name_the_partition_in_the_value() {
    let plan = Table::new(&[int(), varchar()])
        .clustered(&[(0, W), (1, W)])
        .index(&[(1, W)], |index| {
            index.is_unique = true;
            index.is_global = true;
        });
    // Without partitions the table stands for its only one.
    let entry = &plan.encode(&[Some("5"), Some("ab ")])[1];
    assert_eq!(
        entry,
        "016162000000000000f9 → 007d017f0013038000000000000005016162000000000000f97e800000000000006880000100000002010001"
    );
}

#[test]
fn an_hour_that_came_twice_keeps_its_instant() {
    let timestamp = FieldType {
        tp: tp::TIMESTAMP,
        decimal: 0,
        ..int()
    };
    let table = Table::new(&[int(), timestamp]).int_key().key(&[(1, W)]);
    let new_york = Session {
        time_zone: crate::time::Zone::parse("America/New_York").unwrap(),
        ..Session::default()
    };
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut pairs = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| pairs.push((slot, key.to_vec(), value.to_vec()));
    // 01:30 for the second time.
    encoder
        .encode_row(
            &[Field::Int(1), Field::Text(b"2024-11-03 06:30:00")],
            1,
            &mut sink,
        )
        .unwrap();
    let row = TableDecoder::compile(&table.0, &new_york)
        .unwrap()
        .record(&pairs[0].1, &pairs[0].2)
        .unwrap();
    assert_eq!(row.datums[1].to_text().unwrap(), b"2024-11-03 01:30:00");
    let mut again = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| again.push((slot, key.to_vec(), value.to_vec()));
    TableEncoder::compile(&table.0, &new_york, None)
        .unwrap()
        .encode_decoded(&row, &mut sink)
        .unwrap();
    assert_eq!(again, pairs);
}

#[test]
fn automatic_ids_are_given_and_remembered() {
    let mut table = Table::new(&[big(), int()]).int_key();
    table.0.cols.as_mut().unwrap()[0].field_type.flag |= flag::AUTO_INCREMENT;
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut ids = Vec::new();
    let mut sink = |_: Slot, key: &[u8], _: &[u8]| ids.push(key[18]);
    for (row, field) in [
        (1, Field::Text(b"0")),
        (2, Field::Null),
        (3, Field::Text(b"7")),
    ] {
        encoder
            .encode_row(&[field, Field::Int(1)], row, &mut sink)
            .unwrap();
    }
    assert_eq!(ids, [0, 2, 7]);
    assert_eq!(
        encoder.auto_ids(),
        AutoIds {
            auto_increment: Some(7),
            ..AutoIds::default()
        }
    );
}

#[test]
fn a_rejected_row_emits_nothing_and_leaves_no_trace() {
    let table = Table::new(&[int(), int()]);
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut pairs = 0;
    let error = encoder.encode_row(
        &[Field::Text(b"1"), Field::Text(b"x")],
        9,
        &mut |_: Slot, _: &[u8], _: &[u8]| pairs += 1,
    );
    assert_eq!(error.unwrap_err().column, "c2");
    assert_eq!((pairs, encoder.auto_ids()), (0, AutoIds::default()));
}

#[test]
fn an_unknown_column_is_refused_with_its_name() {
    let table = Table::new(&[int()]);
    let error = TableEncoder::compile(&table.0, &Session::default(), Some(&["nope".to_owned()]))
        .unwrap_err();
    assert_eq!(error.kind, thunderhead_types::ErrorKind::Precheck);
    assert!(error.to_string().contains("`nope`"));
}

impl Table {
    /// Partitions p0, p1, … with ids from 200: by expression, or by columns when `expr` is empty.
    fn partitioned(
        mut self,
        kind: u8,
        expr: &str,
        columns: &[usize],
        definitions: &[PartitionDefinition],
    ) -> Table {
        let numbered = |(at, definition): (usize, &PartitionDefinition)| PartitionDefinition {
            id: 200 + at as i64,
            ..definition.clone()
        };
        self.0.partition = Some(PartitionInfo {
            partition_type: kind,
            expr: expr.to_owned(),
            columns: Some(
                columns
                    .iter()
                    .map(|at| Name::new(format!("c{}", at + 1)))
                    .collect(),
            ),
            enable: true,
            definitions: Some(definitions.iter().enumerate().map(numbered).collect()),
            num: definitions.len() as u64,
            ..PartitionInfo::default()
        });
        self
    }

    /// Number of the partition a row goes to, or the error code.
    fn place(&self, fields: &[Option<&str>]) -> Result<i64, u16> {
        let mut encoder = TableEncoder::compile(&self.0, &Session::default(), None).unwrap();
        let fields: Vec<Field<'_>> = fields
            .iter()
            .map(|text| text.map_or(Field::Null, |text| Field::Text(text.as_bytes())))
            .collect();
        let outcome = encoder.encode_row(&fields, 1, &mut |_: Slot, _: &[u8], _: &[u8]| {});
        outcome
            .map(|outcome| outcome.physical_id - 200)
            .map_err(|error| error.code)
    }
}

fn parts(n: usize) -> Vec<PartitionDefinition> {
    vec![PartitionDefinition::default(); n]
}

fn below(bounds: &[&[&str]]) -> Vec<PartitionDefinition> {
    let texts = |bound: &&[&str]| Some(bound.iter().map(|text| (*text).to_owned()).collect());
    bounds
        .iter()
        .map(|bound| PartitionDefinition {
            less_than: texts(bound),
            ..PartitionDefinition::default()
        })
        .collect()
}

fn among(lists: &[&[&[&str]]]) -> Vec<PartitionDefinition> {
    let tuple = |values: &&[&str]| values.iter().map(|text| (*text).to_owned()).collect();
    let texts = |list: &&[&[&str]]| Some(list.iter().map(tuple).collect());
    lists
        .iter()
        .map(|list| PartitionDefinition {
            in_values: texts(list),
            ..PartitionDefinition::default()
        })
        .collect()
}

#[test]
fn hash_counts_unsigned_values_by_their_bits() {
    let unsigned = FieldType {
        flag: flag::UNSIGNED,
        ..big()
    };
    let table = Table::new(&[unsigned]).partitioned(partition_type::HASH, "`c1`", &[], &parts(4));
    for (value, place) in [
        (Some("18446744073709551615"), 1),
        (Some("9223372036854775809"), 3),
        (Some("5"), 1),
        (None, 0),
    ] {
        assert_eq!(table.place(&[value]), Ok(place), "{value:?}");
    }
    let table = Table::new(&[big()]).partitioned(partition_type::HASH, "`c1`", &[], &parts(4));
    assert_eq!(
        (
            table.place(&[Some("-5")]),
            table.place(&[Some("-9223372036854775808")])
        ),
        (Ok(1), Ok(0))
    );
}

#[test]
fn key_hashes_sort_keys_and_texts() {
    let of = |types: &[FieldType], n| {
        let columns: Vec<usize> = (0..types.len()).collect();
        Table::new(types).partitioned(partition_type::KEY, "", &columns, &parts(n))
    };
    let table = of(&[int()], 4);
    for (value, place) in [
        (Some("0"), 1),
        (Some("1"), 3),
        (Some("4"), 0),
        (Some("-1"), 2),
        (None, 1),
    ] {
        assert_eq!(table.place(&[value]), Ok(place), "{value:?}");
    }
    let table = of(&[varchar()], 4);
    for (value, place) in [
        (Some("abc"), 2),
        (Some("abc "), 2),
        (Some("ABC"), 0),
        (Some(""), 0),
        (None, 1),
    ] {
        assert_eq!(table.place(&[value]), Ok(place), "{value:?}");
    }
    let table = of(&[text(tp::VARCHAR, "utf8mb4_general_ci")], 4);
    assert_eq!(
        (table.place(&[Some("abc")]), table.place(&[Some("ABC")])),
        (Ok(2), Ok(2))
    );
    assert_eq!(
        of(&[int(), varchar()], 4).place(&[Some("1"), Some("abc")]),
        Ok(0)
    );
    let datetime = FieldType {
        tp: tp::DATETIME,
        decimal: 3,
        ..int()
    };
    let table = of(&[datetime, decimal(10, 2)], 7);
    assert_eq!(
        table.place(&[Some("2024-01-02 03:04:05"), Some("1.5")]),
        Ok(0)
    );
    assert_eq!(table.place(&[None, Some("0")]), Ok(1));
}

#[test]
fn range_columns_compare_tuples_with_null_lowest_and_maxvalue_highest() {
    let bounds = below(&[&["1", "'m'"], &["5", "MAXVALUE"], &["MAXVALUE", "MAXVALUE"]]);
    let table =
        Table::new(&[int(), varchar()]).partitioned(partition_type::RANGE, "", &[0, 1], &bounds);
    for (row, place) in [
        ([None, Some("z")], 0),
        ([Some("1"), None], 0),
        ([Some("1"), Some("l")], 0),
        ([Some("1"), Some("m")], 1),
        ([Some("5"), Some("zzz")], 1),
        ([Some("6"), Some("a")], 2),
    ] {
        assert_eq!(table.place(&row), Ok(place), "{row:?}");
    }
    let collated = text(tp::VARCHAR, "utf8mb4_general_ci");
    let bounds = below(&[&["'m'"], &["'z'"]]);
    let table = Table::new(&[collated]).partitioned(partition_type::RANGE, "", &[0], &bounds);
    assert_eq!(
        ["L", "M", "Z"].map(|text| table.place(&[Some(text)])),
        [Ok(0), Ok(1), Err(1526)]
    );
}

#[test]
fn lists_match_exactly_or_by_collation_and_fall_back_to_default() {
    let collated = text(tp::VARCHAR, "utf8mb4_general_ci");
    let lists = among(&[&[&["'a'"], &["'B'"]], &[&["'c '"], &["NULL"]]]);
    let table = Table::new(&[collated]).partitioned(partition_type::LIST, "", &[0], &lists);
    assert_eq!(
        [Some("A "), Some("b"), Some("C"), None].map(|text| table.place(&[text])),
        [Ok(0), Ok(0), Ok(1), Ok(1)]
    );
    let lists = among(&[&[&["1"], &["3"]], &[&["2"]]]);
    let table = Table::new(&[int()]).partitioned(partition_type::LIST, "`c1`", &[], &lists);
    assert_eq!(
        [Some("3"), Some("2"), Some("4"), None].map(|n| table.place(&[n])),
        [Ok(0), Ok(1), Err(1526), Err(1526)]
    );
    let lists = among(&[&[&["1"]], &[&["DEFAULT"]]]);
    let table = Table::new(&[int()]).partitioned(partition_type::LIST, "`c1`", &[], &lists);
    assert_eq!(
        [Some("1"), Some("9"), None].map(|n| table.place(&[n])),
        [Ok(0), Ok(1), Ok(1)]
    );
}

mod computed;
mod order;
mod tricky;
