//! The tricky cases of TiDB's encoding, each as a test named by what must hold. [`CASES`] maps the numbers of
//! the reference's list to the tests; the results were all observed on a live server.

use super::*;
use crate::collation::Collation;
use crate::datum::Datum;
use crate::session::SqlMode;
use crate::time::Zone;

/// Files that hold tests, relative to this crate.
const HERE: &str = "src/table/tests/tricky.rs";
const CASTS: &str = "src/table/tests/tricky/casts.rs";
const TABLES: &str = "src/table/tests.rs";
const COMPUTED: &str = "src/table/tests/computed.rs";

/// Case, file, test. What has no file is about a source format or the cluster and is tested there.
const CASES: &[(u8, &str, &str)] = &[
    (
        1,
        TABLES,
        "trailing_blanks_are_trimmed_in_keys_and_kept_in_values",
    ),
    (
        2,
        TABLES,
        "trailing_blanks_are_trimmed_in_keys_and_kept_in_values",
    ),
    (3, TABLES, "restored_values_are_at_least_ten_bytes"),
    (
        4,
        HERE,
        "null_restores_a_count_of_zero_under_bin_and_null_under_ci",
    ),
    (
        5,
        TABLES,
        "counts_of_blanks_are_signed_for_keys_and_unsigned_for_others",
    ),
    (
        6,
        HERE,
        "only_key_columns_that_need_restoring_are_stored_in_the_row",
    ),
    (
        7,
        TABLES,
        "a_clustered_varchar_key_is_stored_and_repeated_in_every_index",
    ),
    (
        8,
        TABLES,
        "the_longer_prefix_decides_how_many_blanks_a_key_column_restores",
    ),
    (9, TABLES, "short_handles_are_padded_to_nine_bytes"),
    (10, TABLES, "handles_are_bits_of_their_integers"),
    (11, TABLES, "handles_are_bits_of_their_integers"),
    (
        12,
        HERE,
        "null_makes_a_unique_entry_like_any_other_in_every_layout",
    ),
    (13, TABLES, "global_indexes_name_the_partition_in_the_value"),
    (
        14,
        TABLES,
        "prefixes_count_characters_except_in_byte_charsets",
    ),
    (
        15,
        HERE,
        "blanks_are_trimmed_after_the_prefix_is_cut_and_restored_from_it",
    ),
    (16, HERE, "emoji_are_all_equal_to_the_older_collations"),
    (17, HERE, "a_trailing_blank_counts_under_0900_ai_ci"),
    (
        18,
        HERE,
        "the_character_without_a_key_is_refused_in_a_key_only",
    ),
    (19, HERE, "blanks_only_have_the_key_of_nothing"),
    (
        20,
        COMPUTED,
        "a_multi_valued_index_has_one_entry_for_each_distinct_element",
    ),
    (
        21,
        COMPUTED,
        "the_element_stands_for_the_array_in_restored_values",
    ),
    (
        22,
        COMPUTED,
        "an_expression_index_restores_the_hidden_column_and_the_row_does_not_hold_it",
    ),
    (
        23,
        COMPUTED,
        "a_partial_index_has_only_rows_for_which_its_condition_is_true",
    ),
    (
        24,
        TABLES,
        "null_is_written_only_where_reading_would_not_find_it",
    ),
    (
        25,
        TABLES,
        "null_is_written_only_where_reading_would_not_find_it",
    ),
    (26, HERE, "a_high_column_id_or_much_data_makes_a_row_large"),
    (27, CASTS, "floats_are_widened_and_zeros_have_no_sign"),
    (28, CASTS, "decimals_round_half_away_and_then_must_fit"),
    (
        29,
        CASTS,
        "integers_take_the_longest_number_and_complain_by_what_follows",
    ),
    (
        30,
        CASTS,
        "a_fraction_of_a_second_carries_through_the_calendar",
    ),
    (31, CASTS, "rounding_of_seconds_looks_at_one_digit"),
    (
        32,
        CASTS,
        "timestamps_are_stored_in_utc_and_zero_stays_zero",
    ),
    (
        33,
        CASTS,
        "a_time_the_clock_skipped_is_refused_or_becomes_the_end_of_the_gap",
    ),
    (34, CASTS, "a_zone_suffix_needs_a_full_clock"),
    (35, CASTS, "a_year_of_zero_depends_on_how_it_is_written"),
    (36, CASTS, "times_are_read_by_their_colons"),
    (37, CASTS, "the_text_of_a_bit_column_is_its_bytes"),
    (38, CASTS, "an_element_s_text_wins_over_its_number"),
    (39, CASTS, "a_set_is_taken_whole_or_not_at_all"),
    (40, CASTS, "json_keys_sort_by_their_bytes"),
    (
        41,
        CASTS,
        "json_numbers_and_texts_are_read_as_go_reads_them",
    ),
    (
        42,
        CASTS,
        "a_binary_literal_is_read_in_the_column_s_charset",
    ),
    (
        43,
        CASTS,
        "what_a_charset_lacks_is_refused_or_becomes_question_marks",
    ),
    (44, CASTS, "the_euro_sign_is_not_in_gbk"),
    (
        45,
        CASTS,
        "blanks_beyond_the_length_may_go_where_text_is_text",
    ),
    (46, TABLES, "hash_counts_unsigned_values_by_their_bits"),
    (47, HERE, "key_partitions_of_timestamps_hash_local_time"),
    (
        48,
        HERE,
        "null_is_lowest_in_range_and_must_be_listed_in_list",
    ),
    (49, TABLES, "automatic_ids_are_given_and_remembered"),
    (50, HERE, "row_ids_and_automatic_ids_are_counted_apart"),
    (
        51,
        HERE,
        "the_counter_of_auto_random_is_what_is_left_without_its_shard",
    ),
    (52, "", "CSV: NULL"),
    (53, "", "CSV: quotes and escapes"),
    (54, "", "SQL dump: introducers and DEFAULT"),
    (55, "", "SQL dump: column lists"),
    (56, "", "Parquet: naive timestamps and unsigned integers"),
    (
        57,
        CASTS,
        "without_a_strict_mode_nothing_is_refused_that_can_be_adjusted",
    ),
    (58, "", "Parquet: instants"),
    (59, TABLES, "format_1_rows_have_the_observed_bytes"),
    (60, "", "routing of files"),
    (
        61,
        CASTS,
        "an_unsigned_number_is_a_datetime_but_no_timestamp",
    ),
    (
        62,
        CASTS,
        "typed_doubles_round_half_to_even_and_texts_half_up",
    ),
    (63, CASTS, "a_binary_literal_is_no_json_in_any_mode"),
    (
        64,
        "",
        "the cluster: a table that a failed import still holds",
    ),
];

#[test]
fn every_tricky_case_has_its_test() {
    let numbers: Vec<u8> = CASES.iter().map(|case| case.0).collect();
    assert_eq!(numbers, (1..=64).collect::<Vec<u8>>());
    for (number, file, test) in CASES.iter().filter(|case| !case.1.is_empty()) {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let named = format!("#[test]\nfn {test}()");
        assert!(text.contains(&named), "case {number}: {file} has no {test}");
    }
}

const STRICT: &str = "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO";

fn session(mode: &str, zone: &str) -> Session {
    Session {
        sql_mode: SqlMode::parse(mode),
        time_zone: Zone::parse(zone).unwrap(),
        ..Session::default()
    }
}

fn of(code: u8, flen: i64, decimal: i32) -> FieldType {
    FieldType {
        tp: code,
        flen,
        decimal,
        ..int()
    }
}

fn unsigned(field_type: FieldType) -> FieldType {
    FieldType {
        flag: field_type.flag | flag::UNSIGNED,
        ..field_type
    }
}

fn chars(code: u8, n: i64, collate: &str) -> FieldType {
    FieldType {
        flen: n,
        ..text(code, collate)
    }
}

fn elements(code: u8, elems: &[&str]) -> FieldType {
    FieldType {
        flen: -1,
        elems: Some(elems.iter().map(|text| (*text).to_owned()).collect()),
        ..text(code, "utf8mb4_bin")
    }
}

/// What a value becomes in a nullable column: its text, its number for ENUM, SET and BIT, or `!` and a code.
fn stored(field_type: &FieldType, field: Field<'_>, session: &Session) -> String {
    let table = Table::new(&[int(), field_type.clone()]).int_key();
    let mut encoder = TableEncoder::compile(&table.0, session, None).unwrap();
    let mut pair = (Vec::new(), Vec::new());
    let mut sink = |_: Slot, key: &[u8], value: &[u8]| pair = (key.to_vec(), value.to_vec());
    if let Err(error) = encoder.encode_row(&[Field::Int(1), field], 1, &mut sink) {
        return format!("!{}", error.code);
    }
    let decoder = TableDecoder::compile(&table.0, session).unwrap();
    match &decoder.record(&pair.0, &pair.1).unwrap().datums[1] {
        Datum::Null => "NULL".to_owned(),
        Datum::Enum(n, _) | Datum::Set(n, _) | Datum::Bit(n, _) => n.to_string(),
        other => String::from_utf8(other.to_text().unwrap()).unwrap(),
    }
}

/// Texts with what a strict mode and another make of them.
fn check(field_type: &FieldType, cases: &[(&str, &str, &str)]) {
    for (value, strict, other) in cases {
        for (mode, expected) in [(STRICT, strict), ("", other)] {
            let got = stored(
                field_type,
                Field::Text(value.as_bytes()),
                &session(mode, "UTC"),
            );
            assert_eq!(&got, expected, "{value:?} under `{mode}`");
        }
    }
}

/// Bytes of a value in the row.
fn in_row(field_type: &FieldType, value: &str) -> String {
    let table = Table::new(&[int(), field_type.clone()]).int_key();
    let pairs = table.encode(&[Some("1"), Some(value)]);
    let (_, row) = pairs[0].split_once(" → ").unwrap();
    // Head, one id, one offset.
    row[18..].to_owned()
}

/// Bytes of a value in a key.
fn in_key(field_type: &FieldType, value: &str) -> String {
    let table = Table::new(&[int(), field_type.clone()])
        .int_key()
        .key(&[(1, W)]);
    let pairs = table.encode(&[Some("1"), Some(value)]);
    let (key, _) = pairs[1].split_once(" → ").unwrap();
    key.strip_suffix("038000000000000001").unwrap().to_owned()
}

#[test]
fn null_restores_a_count_of_zero_under_bin_and_null_under_ci() {
    let value = |collate: &str| {
        let table = Table::new(&[int(), int(), text(tp::VARCHAR, collate)])
            .clustered(&[(0, W), (1, W)])
            .key(&[(2, W)]);
        let entry = table.encode(&[Some("1"), Some("2"), None]).swap_remove(1);
        entry.split_once(" → ").unwrap().1.to_owned()
    };
    assert_eq!(value("utf8mb4_bin"), "007d0180000100000003010000");
    assert_eq!(value("utf8mb4_general_ci"), "007d0180000000010003");
}

#[test]
fn only_key_columns_that_need_restoring_are_stored_in_the_row() {
    let row = |key: FieldType| {
        let table = Table::new(&[key, int()]).clustered(&[(0, W)]);
        let pairs = table.encode(&[Some("7"), Some("5")]);
        pairs[0].split_once(" → ").unwrap().1.to_owned()
    };
    let without = "80000100000002010005";
    assert_eq!(row(varchar()), "8000020000000102010002003705");
    assert_eq!(
        row(text(tp::STRING, "utf8mb4_general_ci")),
        "8000020000000102010002003705"
    );
    assert_eq!(row(text(tp::STRING, "utf8mb4_bin")), without);
    assert_eq!(row(text(tp::VARCHAR, "binary")), without);
    assert_eq!(row(int()), without);
}

#[test]
fn null_makes_a_unique_entry_like_any_other_in_every_layout() {
    let null = |table: Table| table.encode(&[Some("1"), None]).swap_remove(1);
    let plain = Table::new(&[int(), int()]).int_key().unique(&[(1, W)]);
    assert_eq!(null(plain), "00038000000000000001 → 30");
    let restored = Table::new(&[int(), varchar()]).int_key().unique(&[(1, W)]);
    assert_eq!(
        null(restored),
        "00038000000000000001 → 02800000000100020000"
    );
    let clustered = Table::new(&[varchar(), int()])
        .clustered(&[(0, W)])
        .unique(&[(1, W)]);
    assert_eq!(
        null(clustered),
        "00013100000000000000f8 → 007d0180000100000001010000"
    );
}

#[test]
fn blanks_are_trimmed_after_the_prefix_is_cut_and_restored_from_it() {
    let column = text(tp::VARCHAR, "utf8mb4_general_ci");
    let table = Table::new(&[int(), column]).int_key().key(&[(1, 2)]);
    assert_eq!(
        table.encode(&[Some("1"), Some("ß 😀")])[1],
        "010053000000000000f9038000000000000001 → 00800001000000020300c39f20"
    );
}

#[test]
fn emoji_are_all_equal_to_the_older_collations() {
    for collate in ["utf8mb4_general_ci", "utf8mb4_unicode_ci"] {
        for emoji in ["😀", "🚀"] {
            assert_eq!(
                in_key(&text(tp::VARCHAR, collate), emoji),
                "01fffd000000000000f9"
            );
        }
    }
    let newer = text(tp::VARCHAR, "utf8mb4_0900_ai_ci");
    assert_ne!(in_key(&newer, "😀"), in_key(&newer, "🚀"));
}

#[test]
fn a_trailing_blank_counts_under_0900_ai_ci() {
    let column = text(tp::VARCHAR, "utf8mb4_0900_ai_ci");
    assert_eq!(in_key(&column, "a"), "011c47000000000000f9");
    assert_eq!(in_key(&column, "a "), "011c47020900000000fb");
}

#[test]
fn the_character_without_a_key_is_refused_in_a_key_only() {
    let column = text(tp::VARCHAR, "utf8mb4_0900_ai_ci");
    let of = |table: Table| {
        let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
        let fields = [Field::Int(1), Field::Text("\u{2cea1}".as_bytes())];
        encoder
            .encode_row(&fields, 1, &mut |_: Slot, _: &[u8], _: &[u8]| {})
            .is_ok()
    };
    assert!(of(Table::new(&[int(), column.clone()]).int_key()));
    assert!(!of(Table::new(&[int(), column]).int_key().key(&[(1, W)])));
}

#[test]
fn blanks_only_have_the_key_of_nothing() {
    for collate in ["utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci"] {
        let column = text(tp::VARCHAR, collate);
        assert_eq!(in_key(&column, "   "), "010000000000000000f7");
        assert_eq!(in_key(&column, ""), "010000000000000000f7");
    }
    assert_eq!(
        in_key(&text(tp::VARCHAR, "utf8mb4_0900_bin"), " "),
        "012000000000000000f8"
    );
}

#[test]
fn a_high_column_id_or_much_data_makes_a_row_large() {
    let mut table = Table::new(&[int(), int(), int()]).int_key();
    let columns = table.0.cols.as_mut().unwrap();
    columns[2].id = 300;
    columns[2].default = Some("9".into());
    let row = |fields: &[Option<&str>]| {
        let pairs = table.encode(fields);
        pairs[0].split_once(" → ").unwrap().1.to_owned()
    };
    assert_eq!(
        row(&[Some("1"), Some("5"), Some("7")]),
        "80010200000002000000 2c010000 01000000 02000000 0507".replace(' ', "")
    );
    assert_eq!(
        row(&[Some("1"), Some("1"), None]),
        "8001 0100 0100 02000000 2c010000 01000000 01".replace(' ', "")
    );
    let long = text(tp::LONG_BLOB, "utf8mb4_bin");
    let table = Table::new(&[int(), FieldType { flen: -1, ..long }]).int_key();
    let flags = |len: usize| {
        let pairs = table.encode(&[Some("1"), Some(&"x".repeat(len))]);
        pairs[0].split_once(" → ").unwrap().1[..4].to_owned()
    };
    assert_eq!(
        (flags(65_535), flags(65_536)),
        ("8000".to_owned(), "8001".to_owned())
    );
}

#[test]
fn key_partitions_of_timestamps_hash_local_time() {
    let table = Table::new(&[of(tp::TIMESTAMP, 19, 0)]).partitioned(
        partition_type::KEY,
        "",
        &[0],
        &parts(7),
    );
    let place = |zone: &str| {
        let session = session(STRICT, zone);
        let mut encoder = TableEncoder::compile(&table.0, &session, None).unwrap();
        let fields = [Field::Text(b"2024-01-02 03:04:05")];
        let outcome = encoder.encode_row(&fields, 1, &mut |_: Slot, _: &[u8], _: &[u8]| {});
        outcome.unwrap().physical_id
    };
    assert_eq!(place("+00:00"), place("+08:00"));
    assert_eq!(
        place("UTC"),
        200 + i64::from(crc32fast::hash(b"2024-01-02 03:04:05") % 7)
    );
}

#[test]
fn null_is_lowest_in_range_and_must_be_listed_in_list() {
    let bounds = below(&[&["10"], &["20"]]);
    let table = Table::new(&[int()]).partitioned(partition_type::RANGE, "`c1`", &[], &bounds);
    let places = [None, Some("-5"), Some("10"), Some("20")].map(|n| table.place(&[n]));
    assert_eq!(places, [Ok(0), Ok(0), Ok(1), Err(1526)]);
    let lists = among(&[&[&["1"]]]);
    let table = Table::new(&[int()]).partitioned(partition_type::LIST, "`c1`", &[], &lists);
    assert_eq!(table.place(&[None]), Err(1526));
    let lists = among(&[&[&["1"]], &[&["NULL"], &["2"]]]);
    let table = Table::new(&[int()]).partitioned(partition_type::LIST, "`c1`", &[], &lists);
    assert_eq!(table.place(&[None]), Ok(1));
}

#[test]
fn row_ids_and_automatic_ids_are_counted_apart() {
    let mut table = Table::new(&[big(), int()]);
    table.0.cols.as_mut().unwrap()[0].field_type.flag |= flag::AUTO_INCREMENT;
    table.0.auto_id_cache = 1;
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut sink = |_: Slot, _: &[u8], _: &[u8]| {};
    encoder
        .encode_row(&[Field::Text(b"900"), Field::Int(1)], 5, &mut sink)
        .unwrap();
    let seen = encoder.auto_ids();
    assert_eq!((seen.row_id, seen.auto_increment), (Some(5), Some(900)));
}

#[test]
fn the_counter_of_auto_random_is_what_is_left_without_its_shard() {
    let mut table = Table::new(&[big(), int()]).int_key();
    table.0.auto_random_bits = 5;
    table.0.auto_random_range_bits = 64;
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut keys = Vec::new();
    let mut sink = |_: Slot, key: &[u8], _: &[u8]| keys.push(hex(&key[11..]));
    let explicit = Field::Text(b"864691128455135233");
    encoder
        .encode_row(&[explicit, Field::Int(1)], 1, &mut sink)
        .unwrap();
    assert_eq!(encoder.auto_ids().auto_random, Some(1));
    encoder
        .encode_row(&[Field::Null, Field::Int(1)], 77, &mut sink)
        .unwrap();
    assert_eq!(encoder.auto_ids().auto_random, Some(77));
    assert_eq!(keys[0], "8c00000000000001");
    // 58 bits of counter under whatever shard.
    assert!(keys[1].ends_with("0000000000004d"), "{}", keys[1]);
}

mod casts;
