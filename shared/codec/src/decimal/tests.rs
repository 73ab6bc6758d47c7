//! Decimals: published binary forms, rounding, and arithmetic against wide integers.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn dec(text: &str) -> MyDecimal {
    MyDecimal::parse(text.as_bytes()).0
}

fn encoded(text: &str, precision: u8, scale: u8) -> String {
    let mut bytes = Vec::new();
    dec(text).encode(precision, scale, &mut bytes);
    assert_eq!(bytes.len(), encoded_len(precision, scale));
    assert_eq!(
        MyDecimal::decode(precision, scale, &mut bytes.as_slice()),
        Some(dec(text).round(scale))
    );
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn binary_forms_are_the_published_ones() {
    assert_eq!(encoded("1234567890.1234", 14, 4), "810dfb38d204d2");
    assert_eq!(encoded("-1234567890.1234", 14, 4), "7ef204c72dfb2d");
    assert_eq!(encoded("0", 10, 0), "8000000000");
    assert_eq!(encoded("1.5", 4, 2), "8132");
    assert_eq!(encoded("-0.01", 5, 2), "7ffffe");
    assert_eq!(encoded("-999.99", 5, 2), "7c189c");
    assert_eq!(encoded("12345.6789", 20, 4), "80000000000030391a85");
    assert_eq!(encoded("-1", 20, 10), "7ffffffffeffffffffff");
}

#[test]
fn rounding_goes_away_from_zero() {
    for (text, scale, result) in [
        ("1.005", 2, "1.01"),
        ("-1.005", 2, "-1.01"),
        ("-0.004", 2, "0.00"),
        ("9.95", 1, "10.0"),
        ("0.5", 0, "1"),
    ] {
        assert_eq!(dec(text).round(scale).to_string(), result);
    }
    assert_eq!(dec("1e-40").round(2).to_string(), "0.00");
    assert_eq!(dec("155").round_integer_places(1).to_string(), "160");
}

#[test]
fn texts_end_as_they_should() {
    for (text, value, end) in [
        ("12abc", "12", Parsed::Junk),
        ("abc", "0", Parsed::NoNumber),
        ("", "0", Parsed::NoNumber),
        (" +1.5e2 ", "150", Parsed::Whole),
        ("1e-3", "0.001", Parsed::Whole),
        (".5", "0.5", Parsed::Whole),
        ("5.", "5", Parsed::Whole),
        ("1\0", "1", Parsed::Junk),
        ("1e", "1", Parsed::Junk),
    ] {
        let (decimal, parsed) = MyDecimal::parse(text.as_bytes());
        assert_eq!(
            (decimal.to_string().as_str(), parsed),
            (value, end),
            "{text}"
        );
    }
    assert_eq!(MyDecimal::parse(b"1e100").1, Parsed::Overflow);
    assert_eq!(MyDecimal::parse("9".repeat(81).as_bytes()).1, Parsed::Whole);
    assert_eq!(
        MyDecimal::parse("9".repeat(82).as_bytes()).1,
        Parsed::Overflow
    );
}

#[test]
fn division_keeps_tidb_s_fraction_words() {
    assert_eq!(
        dec("1")
            .checked_div(&dec("3"), 4)
            .unwrap()
            .unwrap()
            .to_string(),
        "0.333333333"
    );
    assert_eq!(
        dec("1.00")
            .checked_div(&dec("4"), 4)
            .unwrap()
            .unwrap()
            .to_string(),
        "0.250000000"
    );
    assert!(dec("1").checked_div(&dec("0.00"), 4).is_none());
    assert_eq!(
        dec("-7.5").checked_rem(&dec("2")).unwrap().to_string(),
        "-1.5"
    );
}

proptest! {
    #[test]
    fn arithmetic_agrees_with_wide_integers(a in -10i128.pow(20)..10i128.pow(20), b in -10i128.pow(15)..10i128.pow(15), sa in 0u8..12, sb in 0u8..12) {
        let (x, y) = (MyDecimal::from_i128(a, sa), MyDecimal::from_i128(b, sb));
        let scale = sa.max(sb);
        let (wa, wb) = (a * 10i128.pow(u32::from(scale - sa)), b * 10i128.pow(u32::from(scale - sb)));
        prop_assert_eq!(x.checked_add(&y).unwrap(), MyDecimal::from_i128(wa + wb, scale));
        prop_assert_eq!(x.checked_sub(&y).unwrap(), MyDecimal::from_i128(wa - wb, scale));
        prop_assert_eq!(x.checked_mul(&y).unwrap(), MyDecimal::from_i128(a * b, sa + sb));
        prop_assert_eq!(x.cmp(&y), wa.cmp(&wb));
        if wb != 0 {
            prop_assert_eq!(x.checked_rem(&y).unwrap(), MyDecimal::from_i128(wa % wb, scale));
        }
        prop_assert_eq!(dec(&x.to_string()), x);
    }

    #[test]
    fn the_fixed_form_comes_back_and_keeps_order(a in -10i128.pow(30)..10i128.pow(30), b in -10i128.pow(18)..10i128.pow(18), scale in 0u8..20) {
        let form = |v: i128| {
            let mut bytes = Vec::new();
            MyDecimal::from_i128(v, scale).encode(55, scale, &mut bytes);
            bytes
        };
        prop_assert_eq!(form(a).cmp(&form(b)), a.cmp(&b));
        prop_assert_eq!(MyDecimal::decode(55, scale, &mut form(a).as_slice()).unwrap(), MyDecimal::from_i128(a, scale));
    }

    #[test]
    fn any_text_is_read_without_panic(text: Vec<u8>) {
        let _ = MyDecimal::parse(&text);
    }
}

#[test]
fn a_fixed_form_with_more_words_than_a_number_has_is_refused() {
    // Found by fuzzing: 31 integer and 49 fraction digits take ten words, and the last ones were dropped.
    let mut bytes = vec![0x62, 0x32];
    bytes.extend([0xff; 11]);
    bytes.push(0x67);
    bytes.extend([0xff; 13]);
    bytes.extend([1, 3]);
    bytes.extend([0xff; 7]);
    assert_eq!(MyDecimal::decode(80, 49, &mut bytes.as_slice()), None);
    let mut ones = Vec::new();
    let value = MyDecimal::parse("1".repeat(35).as_bytes()).0;
    value.encode(65, 30, &mut ones);
    assert!(MyDecimal::decode(65, 30, &mut ones.as_slice()).is_some());
}
