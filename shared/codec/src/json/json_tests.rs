//! Documents against published bytes, and text against itself.
#![allow(clippy::unwrap_used)]

use super::*;

fn hex(text: &str) -> String {
    parse(text.as_bytes())
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn documents_have_the_published_bytes() {
    for (text, bytes) in [
        ("null", "0400"),
        ("true", "0401"),
        ("-1", "09ffffffffffffffff"),
        ("1.0", "0b000000000000f03f"),
        ("18446744073709551615", "0affffffffffffffff"),
        ("-0", "090000000000000000"),
        ("-0.0", "0b0000000000000080"),
        ("\"a\"", "0c0161"),
        ("\"\\ud800\"", "0c03efbfbd"),
        ("{}", "010000000008000000"),
        (
            "[1,2]",
            "0302000000220000000912000000091a00000001000000000000000200000000000000",
        ),
        (
            "{\"bb\":1,\"a\":2}",
            "0102000000310000001e00000001001f00000002000921000000092900000061626202000000000000000100000000000000",
        ),
        (
            "{\"a\":{\"b\":null}}",
            "0101000000280000001300000001000114000000610100000014000000130000000100040000000062",
        ),
        (
            "{\"a\":1,\"a\":2}",
            "01010000001c0000001300000001000914000000610200000000000000",
        ),
    ] {
        assert_eq!(hex(text), bytes, "{text}");
    }
}

#[test]
fn what_go_refuses_is_refused() {
    for text in [
        "{a:1}",
        "[1,",
        "nul",
        "01",
        "1.",
        "+1",
        "\"\t\"",
        "\u{feff}1",
        "1e400",
        "[1]]",
        "NaN",
        "'a'",
        " ",
    ] {
        assert_eq!(parse(text.as_bytes()), Err(JsonError::Text), "{text}");
    }
    assert_eq!(parse(b""), Err(JsonError::Empty));
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(nested(100).as_bytes()).is_ok());
    assert_eq!(parse(nested(101).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse(nested(100_000).as_bytes()), Err(JsonError::TooDeep));
}

#[test]
fn text_has_the_server_s_spacing() {
    let printed = |text: &str| to_text(&parse(text.as_bytes()).unwrap());
    assert_eq!(
        printed("{\"b\":[1,2.5],\"a\":\"x\\n\\u0001\"}"),
        "{\"a\": \"x\\n\\u0001\", \"b\": [1, 2.5]}"
    );
    assert_eq!(
        printed("[1e30,1e-7,true,null]"),
        "[1e+30, 1e-7, true, null]"
    );
}

#[test]
fn typed_times_have_the_observed_bits() {
    let civil = Civil {
        year: 2024,
        month: 2,
        day: 29,
        hour: 23,
        minute: 59,
        second: 59,
        micro: 623_456,
    };
    let bytes = time(TIMESTAMP, &civil);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "10003698fb7ebba01f");
    assert_eq!(to_text(&bytes), "\"2024-02-29 23:59:59.623456\"");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
        let _ = decode(&bytes);
    }

    #[test]
    fn printed_text_reads_back_as_the_same_document(text in "[\\[\\]{}:,\"0-9a-c\\\\ .eE-]{0,24}") {
        if let Ok(document) = parse(text.as_bytes()) {
            let again = parse(to_text(&document).as_bytes()).unwrap();
            proptest::prop_assert_eq!(to_text(&again), to_text(&document));
        }
    }
}
