//! Tricky values: what texts, numbers and literals become in columns of each type.

use super::*;

#[test]
fn floats_are_widened_and_zeros_have_no_sign() {
    let (single, double) = (of(tp::FLOAT, 12, -1), of(tp::DOUBLE, 22, -1));
    assert_eq!(in_row(&single, "0.1"), "bfb99999a0000000");
    assert_eq!(in_row(&double, "0.1"), "bfb999999999999a");
    assert_eq!(in_row(&double, "-0.0"), "8000000000000000");
    assert_eq!(in_key(&double, "-0.0"), in_key(&double, "0"));
}

#[test]
fn decimals_round_half_away_and_then_must_fit() {
    let column = decimal(5, 2);
    assert_eq!(in_row(&column, "-0.004"), "0502800000");
    check(
        &column,
        &[
            ("1.005", "1.01", "1.01"),
            ("-1.005", "-1.01", "-1.01"),
            ("999.995", "!1264", "999.99"),
            ("-999.995", "!1264", "-999.99"),
            ("1e2", "100.00", "100.00"),
        ],
    );
    check(
        &unsigned(decimal(5, 2)),
        &[("-0.001", "0.00", "0.00"), ("-0.01", "!1264", "0.00")],
    );
    let widest = decimal(65, 30);
    let digits = format!("{}.{}", "9".repeat(35), "9".repeat(30));
    check(&widest, &[(&digits, &digits, &digits)]);
}

#[test]
fn integers_take_the_longest_number_and_complain_by_what_follows() {
    check(
        &int(),
        &[
            ("1.5", "2", "2"),
            ("12\0x", "12", "12"),
            ("1.5.5", "!1264", "2"),
            ("12abc", "!1366", "12"),
            ("1e1.5", "!1264", "10"),
            ("1e", "1", "1"),
            ("", "!1366", "0"),
        ],
    );
    check(
        &unsigned(int()),
        &[
            ("-0.5", "!1264", "0"),
            ("-0.4", "0", "0"),
            ("-1", "!1264", "0"),
        ],
    );
    check(
        &unsigned(big()),
        &[
            (
                "18446744073709551615",
                "18446744073709551615",
                "18446744073709551615",
            ),
            ("18446744073709551615.5", "!1264", "18446744073709551615"),
        ],
    );
}

#[test]
fn a_fraction_of_a_second_carries_through_the_calendar() {
    assert_eq!(
        in_row(&of(tp::DATE, 10, 0), "2020-01-31 23:59:59.6"),
        "000000000082a519"
    );
    assert_eq!(
        in_row(&of(tp::DATETIME, 19, 0), "2020-01-01 23:59:59.9"),
        "000000000044a519"
    );
    check(
        &of(tp::DATETIME, 19, 0),
        &[
            (
                "2019-12-31 23:59:59.9",
                "2020-01-01 00:00:00",
                "2020-01-01 00:00:00",
            ),
            ("9999-12-31 23:59:59.9", "!1292", "0000-00-00 00:00:00"),
        ],
    );
}

#[test]
fn rounding_of_seconds_looks_at_one_digit() {
    check(
        &of(tp::DATETIME, 23, 3),
        &[
            (
                "2020-01-01 00:00:00.12349",
                "2020-01-01 00:00:00.123",
                "2020-01-01 00:00:00.123",
            ),
            (
                "2020-01-01 00:00:00.1235",
                "2020-01-01 00:00:00.124",
                "2020-01-01 00:00:00.124",
            ),
            (
                "2020-01-01 00:00:00.9999",
                "2020-01-01 00:00:01.000",
                "2020-01-01 00:00:01.000",
            ),
        ],
    );
}

#[test]
fn timestamps_are_stored_in_utc_and_zero_stays_zero() {
    let table = Table::new(&[int(), of(tp::TIMESTAMP, 19, 0)])
        .int_key()
        .key(&[(1, W)]);
    let pairs = table.encode_with(
        &session(STRICT, "+08:00"),
        &[Some("1"), Some("2020-01-01 08:00:00")],
    );
    assert!(pairs[0].ends_with("000000000042a519"), "{}", pairs[0]);
    assert!(pairs[1].starts_with("0419a5420000000000"), "{}", pairs[1]);
    let pairs = table.encode_with(&session("", "+08:00"), &[Some("1"), Some("0000-00-00")]);
    assert!(
        pairs[0].ends_with(" → 80000100000002010000"),
        "{}",
        pairs[0]
    );
}

#[test]
fn a_time_the_clock_skipped_is_refused_or_becomes_the_end_of_the_gap() {
    let column = of(tp::TIMESTAMP, 19, 0);
    let at = |mode: &str, text: &str| {
        let zone = session(mode, "America/New_York");
        stored(&column, Field::Text(text.as_bytes()), &zone)
    };
    assert_eq!(at(STRICT, "2024-03-10 02:30:00"), "!1292");
    assert_eq!(at("", "2024-03-10 02:30:00"), "2024-03-10 03:00:00");
    let table = Table::new(&[int(), column.clone()]).int_key();
    let row = |text| {
        let zone = session("", "America/New_York");
        table
            .encode_with(&zone, &[Some("1"), Some(text)])
            .swap_remove(0)
    };
    let utc = |text| table.encode(&[Some("1"), Some(text)]).swap_remove(0);
    assert_eq!(row("2024-03-10 02:30:00"), utc("2024-03-10 07:00:00"));
    // What came twice is the first of the two.
    assert_eq!(row("2024-11-03 01:30:00"), utc("2024-11-03 05:30:00"));
}

#[test]
fn a_zone_suffix_needs_a_full_clock() {
    check(
        &of(tp::DATETIME, 19, 0),
        &[
            (
                "2020-01-01T10:11:12+08:00",
                "2020-01-01 02:11:12",
                "2020-01-01 02:11:12",
            ),
            (
                "2020-01-01 10:11+08:00",
                "2020-01-01 10:11:08",
                "2020-01-01 10:11:08",
            ),
            (
                "2020-01-01 10:11:12Z",
                "2020-01-01 10:11:12",
                "2020-01-01 10:11:12",
            ),
            ("2020-01-01 10:11:12+14:01", "!1292", "0000-00-00 00:00:00"),
            ("2020-01-01 10:11:12-00:00", "!1292", "0000-00-00 00:00:00"),
        ],
    );
}

#[test]
fn a_year_of_zero_depends_on_how_it_is_written() {
    let year = of(tp::YEAR, 4, 0);
    check(
        &year,
        &[
            ("0", "2000", "2000"),
            ("00", "2000", "2000"),
            ("000", "2000", "2000"),
            (" 0", "2000", "2000"),
            ("0000", "0000", "0000"),
            ("100", "!1264", "1901"),
            ("2024.5", "2025", "2025"),
        ],
    );
    assert_eq!(
        stored(&year, Field::Int(0), &session(STRICT, "UTC")),
        "0000"
    );
}

#[test]
fn times_are_read_by_their_colons() {
    check(
        &of(tp::DURATION, 10, 0),
        &[
            ("1112", "00:11:12", "00:11:12"),
            ("11:12", "11:12:00", "11:12:00"),
            ("838:59:59.6", "!1292", "838:59:59"),
            ("11:12:13x", "!1292", "11:12:13"),
            ("11:12:13 xyz", "!1292", "00:00:00"),
        ],
    );
}

#[test]
fn the_text_of_a_bit_column_is_its_bytes() {
    check(&of(tp::BIT, 1, 0), &[("1", "!1406", "1"), ("\0", "0", "0")]);
    let wide = of(tp::BIT, 16, 0);
    check(&wide, &[("ab", "24930", "24930")]);
    assert_eq!(in_row(&wide, "ab"), "6261");
    assert_eq!(
        stored(&wide, Field::Int(257), &session(STRICT, "UTC")),
        "257"
    );
}

#[test]
fn an_element_s_text_wins_over_its_number() {
    let column = elements(tp::ENUM, &["a", "b ", "1", ""]);
    check(
        &column,
        &[
            ("1", "3", "3"),
            ("b", "2", "2"),
            ("2", "2", "2"),
            ("0x1", "1", "1"),
            ("", "4", "4"),
            (" 2", "!1265", "0"),
            ("0", "!1265", "0"),
        ],
    );
    let table = Table::new(&[int(), column]).int_key();
    let row = table
        .encode_with(&session("", "UTC"), &[Some("1"), Some("no")])
        .swap_remove(0);
    assert!(row.ends_with(" → 80000100000002010000"), "{row}");
}

#[test]
fn elements_written_as_literals_are_read_back_from_hexadecimal() {
    let mut column = FieldType {
        charset: "binary".to_owned(),
        collate: "binary".to_owned(),
        elems_is_binary_lit: Some(vec![true, false]),
        ..elements(tp::ENUM, &["fffe", "fffe"])
    };
    let session = session(STRICT, "UTC");
    assert_eq!(stored(&column, Field::Binary(b"\xff\xfe"), &session), "1");
    assert_eq!(stored(&column, Field::Text(b"fffe"), &session), "2");
    column.elems = Some(vec!["0g".to_owned()]);
    let table = Table::new(&[int(), column]).int_key();
    let refused = TableEncoder::compile(&table.0, &session, None).unwrap_err();
    assert!(refused.to_string().contains("`c2`"), "{refused}");
}

#[test]
fn a_set_is_taken_whole_or_not_at_all() {
    check(
        &elements(tp::SET, &["x", "y", "z"]),
        &[
            ("z,x,x", "5", "5"),
            ("5", "5", "5"),
            ("x,q", "!1265", "0"),
            ("x,", "!1265", "0"),
            ("", "0", "0"),
        ],
    );
}

fn json() -> FieldType {
    of(tp::JSON, -1, 0)
}

#[test]
fn json_keys_sort_by_their_bytes() {
    assert_eq!(
        in_row(&json(), r#"{"bb":1,"a":2,"B":3}"#),
        "0103000000450000002900000001002a00000001002b0000000200092d0000000935000000093d00000042616262030000000000000002000000000000000100000000000000"
    );
}

#[test]
fn json_numbers_and_texts_are_read_as_go_reads_them() {
    for (text, bytes) in [
        ("-0", "090000000000000000"),
        ("-0.0", "0b0000000000000080"),
        ("18446744073709551615", "0affffffffffffffff"),
        ("18446744073709551616", "0b000000000000f043"),
        (r#""\ud800""#, "0c03efbfbd"),
        ("1.0", "0b000000000000f03f"),
    ] {
        assert_eq!(in_row(&json(), text), bytes, "{text}");
    }
    check(
        &json(),
        &[("1e400", "!3140", "!3140"), ("", "!3140", "!3140")],
    );
}

#[test]
fn a_binary_literal_is_read_in_the_column_s_charset() {
    let table = Table::new(&[int(), text(tp::VARCHAR, "gbk_chinese_ci")])
        .int_key()
        .key(&[(1, W)]);
    let mut encoder = TableEncoder::compile(&table.0, &Session::default(), None).unwrap();
    let mut pairs = Vec::new();
    let mut sink = |_: Slot, key: &[u8], value: &[u8]| pairs.push((hex(key), hex(value)));
    let fields = [Field::Int(1), Field::Binary(&[0xb0, 0xa1])];
    encoder.encode_row(&fields, 1, &mut sink).unwrap();
    assert!(pairs[0].1.ends_with("e5958a"), "{pairs:?}");
    assert!(pairs[1].0.contains("018454000000000000f9"), "{pairs:?}");
    let wrong = [Field::Int(1), Field::Binary(&[0xff])];
    let error = encoder.encode_row(&wrong, 1, &mut |_: Slot, _: &[u8], _: &[u8]| {});
    assert_eq!(error.unwrap_err().code, 1366);
}

#[test]
fn what_a_charset_lacks_is_refused_or_becomes_question_marks() {
    check(&text(tp::VARCHAR, "utf8_bin"), &[("a😀b", "!1366", "a?b")]);
    check(&text(tp::VARCHAR, "ascii_bin"), &[("é", "!1366", "?")]);
    let broken = Field::Text(b"a\xff\xfeb");
    let column = varchar();
    assert_eq!(stored(&column, broken, &session(STRICT, "UTC")), "!1366");
    assert_eq!(stored(&column, broken, &session("", "UTC")), "a??b");
}

#[test]
fn the_euro_sign_is_not_in_gbk() {
    check(
        &text(tp::VARCHAR, "gbk_bin"),
        &[("€", "!1366", "?"), ("啊", "啊", "啊")],
    );
    assert_eq!(Collation::GbkBin.key("€".as_bytes()), b"\x3f");
    assert_eq!(Collation::GbkChineseCi.key("€".as_bytes()), b"\x3f");
}

#[test]
fn blanks_beyond_the_length_may_go_where_text_is_text() {
    let fixed = chars(tp::STRING, 3, "utf8mb4_bin");
    check(
        &fixed,
        &[("abc   ", "abc", "abc"), ("abcd", "!1406", "abc")],
    );
    let varying = chars(tp::VARCHAR, 3, "utf8mb4_bin");
    check(
        &varying,
        &[("abc\t\n", "abc", "abc"), ("ab  ", "ab ", "ab ")],
    );
    let binary = chars(tp::VARCHAR, 3, "binary");
    check(&binary, &[("abc ", "!1406", "abc")]);
    let blob = chars(tp::TINY_BLOB, 255, "utf8mb4_bin");
    let long = format!("{} ", "x".repeat(255));
    check(&blob, &[(&long, "!1406", &"x".repeat(255))]);
}

#[test]
fn without_a_strict_mode_nothing_is_refused_that_can_be_adjusted() {
    let lightning = session("ONLY_FULL_GROUP_BY,NO_AUTO_CREATE_USER", "UTC");
    for (field_type, bytes, expected) in [
        (int(), &b"12abc"[..], "12"),
        (of(tp::DATE, 10, 0), b"2020-02-30", "0000-00-00"),
        (varchar(), b"\xff", "?"),
    ] {
        assert_eq!(
            stored(&field_type, Field::Text(bytes), &lightning),
            expected
        );
    }
}

#[test]
fn an_unsigned_number_is_a_datetime_but_no_timestamp() {
    for mode in [STRICT, ""] {
        let session = session(mode, "UTC");
        let datetime = stored(&of(tp::DATETIME, 19, 0), Field::UInt(20_240_101), &session);
        assert_eq!(datetime, "2024-01-01 00:00:00");
        let timestamp = stored(&of(tp::TIMESTAMP, 19, 0), Field::UInt(20_240_101), &session);
        assert!(timestamp.starts_with('!'), "{timestamp}");
    }
}

#[test]
fn typed_doubles_round_half_to_even_and_texts_half_up() {
    let session = session(STRICT, "UTC");
    let typed = [2.5, 3.5].map(|v| stored(&int(), Field::Double(v), &session));
    assert_eq!(typed, ["2", "4"]);
    check(&int(), &[("2.5", "3", "3"), ("3.5", "4", "4")]);
}

#[test]
fn a_binary_literal_is_no_json_in_any_mode() {
    for mode in [STRICT, ""] {
        assert_eq!(
            stored(&json(), Field::Binary(b"1"), &session(mode, "UTC")),
            "!3144"
        );
    }
}
