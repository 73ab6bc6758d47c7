//! Accepted and refused texts, as observed on a live server.
#![allow(clippy::unwrap_used)]

use super::*;

/// Reads with fsp 6 in UTC and checks as a strict DATETIME does.
fn read(text: &str) -> String {
    datetime_strict(text.as_bytes(), &Zone::utc())
        .map_or_else(|| "no".to_owned(), |time| time.to_string())
}

#[test]
fn oddities_are_accepted_as_the_server_accepts_them() {
    for (text, result) in [
        ("2020-01-01 10:11+08:00", "2020-01-01 10:11:08.000000"),
        ("2020-01-01 10:11:12 PM", "2020-01-01 10:11:12.000000"),
        ("2020-01-01 10:11:12 x", "2020-01-01 10:11:12.000000"),
        ("2020-01-01-10-11-12", "2020-01-01 10:11:12.000000"),
        ("2020^01^01 10@11", "2020-01-01 10:11:00.000000"),
        ("2020-01-01  10:11:12", "2020-01-01 10:11:12.000000"),
        ("20200101.1011", "2020-01-01 10:11:00.000000"),
        ("20200101101112.6", "2020-01-01 10:11:12.600000"),
        ("2020-01-02T10:11:12+08:00", "2020-01-02 02:11:12.000000"),
        ("2020-01-02T10:11:12Z", "2020-01-02 10:11:12.000000"),
        ("20-1-2", "2020-01-02 00:00:00.000000"),
        ("700101", "1970-01-01 00:00:00.000000"),
        ("0000-00-00", "0000-00-00 00:00:00.000000"),
        ("2020-00-10", "2020-00-10 00:00:00.000000"),
    ] {
        assert_eq!(read(text), result, "{text}");
    }
}

#[test]
fn what_the_server_refuses_is_refused() {
    for text in [
        "2020-01-02 junk",
        "2020-1-1T",
        "2020-01",
        "1/2/2020",
        "2020010110111",
        "2020-01-01 24:00:00",
        "2020-01-01 10:11:60",
        "2020-01-01 10:11:12+14:01",
        "2020-01-01 10:11:12-00:00",
        "2023-02-29",
        "2024-13-01",
        "10000-01-01",
        "",
        "abc",
    ] {
        assert_eq!(read(text), "no", "{text}");
    }
}

#[test]
fn the_short_way_agrees_with_the_long_way() {
    for text in [
        "2024-02-29",
        "2024-02-29 23:59:59",
        "2024-02-29 23:59:59.5",
        "2024-02-29 23:59:59.123456",
        "1999-12-31 00:00:00",
        "0001-01-01",
    ] {
        let short = plain(text.as_bytes(), 6).unwrap();
        assert_eq!(
            datetime(text.as_bytes(), 6, &Zone::utc()).unwrap(),
            short,
            "{text}"
        );
    }
    for text in [
        "2023-02-29",
        "2024-2-1",
        "2024-02-29 24:00:00",
        "2024-02-29T00:00:00",
    ] {
        assert_eq!(plain(text.as_bytes(), 6), None, "{text}");
    }
}

#[test]
fn numbers_have_two_digit_year_windows() {
    for (n, result) in [
        (101, "2000-01-01 00:00:00"),
        (691_231, "2069-12-31 00:00:00"),
        (700_101, "1970-01-01 00:00:00"),
        (20_240_229, "2024-02-29 00:00:00"),
        (20_240_229_101_112, "2024-02-29 10:11:12"),
        (240_229_101_112, "2024-02-29 10:11:12"),
    ] {
        let time = Time::new(from_number(n).unwrap(), TimeKind::Datetime, 0);
        assert_eq!(time.to_string(), result);
    }
    assert!(from_number(100).is_none() && from_number(-1).is_none());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_panic(text: Vec<u8>) {
        let _ = datetime(&text, 3, &Zone::utc());
        let _ = super::super::duration::parse(&text, 3, &Zone::utc());
    }

    #[test]
    fn texts_of_digits_and_marks_are_read_without_panic(text in "[0-9:.T +Z-]{0,30}") {
        let _ = datetime(text.as_bytes(), 3, &Zone::utc());
        let _ = super::super::duration::parse(text.as_bytes(), 3, &Zone::utc());
    }
}
