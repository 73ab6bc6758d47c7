//! Sort keys against TiDB's own, code point by code point and string by string.
#![allow(clippy::unwrap_used)]

use super::*;

fn golden(file: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/collation");
    std::fs::read_to_string(format!("{folder}/{file}.tsv")).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// Code points of a line's span with the key each has.
fn span_keys(span: &str, op: &str, key: &str) -> Vec<(u32, Vec<u8>)> {
    let (first, last) = span.split_once('-').unwrap_or((span, span));
    let point = |hex| u32::from_str_radix(hex, 16).unwrap();
    let mut key = unhex(key);
    let mut keys = Vec::new();
    for at in point(first)..=point(last) {
        keys.push((at, key.clone()));
        if op == "+" {
            let grown = key.iter().fold(0u128, |v, b| v << 8 | u128::from(*b)) + 1;
            key = grown.to_be_bytes()[16 - key.len()..].to_vec();
        }
    }
    keys
}

fn check_code_points(name: &str, least: usize) {
    let collation = Collation::from_name(name).unwrap();
    let mut checked = 0;
    for line in golden(name).lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        if parts[2] == "panic" {
            continue;
        }
        for (point, key) in span_keys(parts[0], parts[1], parts[2]) {
            let Some(c) = char::from_u32(point) else {
                continue;
            };
            // A space alone would be trimmed; between letters it keeps its weight.
            let mut expected = collation.key(b"a");
            expected.extend_from_slice(&key);
            expected.extend_from_slice(&collation.key(b"a"));
            assert_eq!(
                collation.key(format!("a{c}a").as_bytes()),
                expected,
                "{name} U+{point:04X}"
            );
            checked += 1;
        }
    }
    assert!(checked >= least, "{checked}");
}

#[test]
fn every_code_point_has_tidb_s_general_ci_key() {
    check_code_points("utf8mb4_general_ci", 63_000);
}

#[test]
fn every_code_point_has_tidb_s_unicode_ci_key() {
    check_code_points("utf8mb4_unicode_ci", 63_000);
}

#[test]
fn every_code_point_has_tidb_s_0900_ai_ci_key() {
    check_code_points("utf8mb4_0900_ai_ci", 1_100_000);
}

#[test]
fn every_code_point_has_tidb_s_gbk_chinese_ci_key() {
    check_code_points("gbk_chinese_ci", 63_000);
}

#[test]
fn strings_are_trimmed_and_keyed_as_tidb_does() {
    let text = golden("strings");
    assert!(text.lines().count() > 90);
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        let collation = Collation::from_name(parts[0]).unwrap();
        let value: String = serde_json::from_str(parts[1]).unwrap();
        assert_eq!(collation.key(value.as_bytes()), unhex(parts[2]), "{line}");
    }
}

#[test]
fn gbk_and_gb18030_codes_are_the_published_ones() {
    let hex = |name: &str, text: &str| -> String {
        let key = Collation::from_name(name).unwrap().key(text.as_bytes());
        key.iter().map(|b| format!("{b:02x}")).collect()
    };
    assert_eq!(hex("gbk_bin", "中文"), "d6d0cec4");
    assert_eq!(hex("gbk_bin", "€\u{1f9}\u{303e}"), "3fa8bfa989");
    assert_eq!(hex("gb18030_bin", "€"), "a2e3");
    assert_eq!(hex("gb18030_bin", "\u{1e3f}\u{e7c7}"), "a8bc8135f437");
    assert_eq!(
        hex("gb18030_bin", "\u{fe10}\u{9fb4}\u{e81e}"),
        "a6d9fe5982359037"
    );
    assert_eq!(hex("gb18030_bin", "\u{10000}"), "90308130");
}

#[test]
fn every_character_survives_gb18030_and_gbk_where_it_has_a_code() {
    let (mut both, mut gbk) = (0, 0);
    for c in (0..=0x10_ffff).filter_map(char::from_u32) {
        let mut bytes = Vec::new();
        gb::encode_gb18030(c).unwrap().append(&mut bytes);
        assert_eq!(gb::gb18030_decode(&bytes), Some(c.to_string()));
        both += 1;
        if let Some(code) = gb::encode_gbk(c) {
            bytes.clear();
            code.append(&mut bytes);
            assert_eq!(gb::gbk_decode(&bytes), Some(c.to_string()));
            gbk += 1;
        }
    }
    assert_eq!((both, gbk), (0x11_0000 - 0x800, 128 + 21_791 + 80));
}

#[test]
fn with_the_framework_off_all_collations_are_bytes() {
    let off = Collation::Utf8mb4GeneralCi.under(false);
    assert_eq!(off.key(b"Ab "), b"Ab ");
    assert!(Collation::from_name("utf8mb4_swedish_ci").is_none());
    assert_eq!(
        Collation::from_name("UTF8MB3_general_ci"),
        Some(Collation::Utf8GeneralCi)
    );
    assert_eq!(Collation::from_id(46), Some(Collation::Utf8mb4Bin));
}

#[test]
fn restored_data_is_needed_where_the_key_loses_text() {
    use crate::mysql::tp;
    let needs = |tp, collate: &str| {
        let field_type = FieldType {
            tp,
            collate: collate.to_owned(),
            ..FieldType::default()
        };
        needs_restored_data(&field_type, true)
    };
    assert!(needs(tp::VARCHAR, "utf8mb4_bin") && needs(tp::VAR_STRING, "latin1_bin"));
    assert!(!needs(tp::STRING, "utf8mb4_bin") && !needs(tp::BLOB, "utf8mb4_bin"));
    assert!(needs(tp::BLOB, "utf8mb4_general_ci") && needs(tp::STRING, "gbk_bin"));
    assert!(!needs(tp::VARCHAR, "utf8mb4_0900_bin") && !needs(tp::VARCHAR, "binary"));
    assert!(!needs(tp::ENUM, "utf8mb4_general_ci"));
}

#[test]
fn gb18030_chinese_ci_is_refused_with_a_way_out() {
    let error = Collation::Gb18030ChineseCi
        .require_keys("table d.t")
        .unwrap_err();
    assert!(error.advice.contains("logical mode"), "{error}");
    assert!(Collation::Gb18030Bin.require_keys("table d.t").is_ok());
}
