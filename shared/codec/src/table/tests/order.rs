//! Properties over random values: keys sort as values do, under each type and collation; and what is stored
//! comes back, from rows of both formats, and leads from every index entry to its row.

use super::*;
use crate::collation::Collation;
use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::session::SqlMode;
use crate::time::Zone;
use proptest::prelude::*;
use std::cmp::Ordering;

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
        flag: flag::UNSIGNED,
        ..field_type
    }
}

fn elements(code: u8) -> FieldType {
    let elems = ["new", "Paid", "", "sent", "日本"];
    FieldType {
        flen: -1,
        elems: Some(elems.map(str::to_owned).to_vec()),
        ..text(code, "utf8mb4_bin")
    }
}

type Pair = (Slot, Vec<u8>, Vec<u8>);

/// The pairs of a row with one value under an index; `None` where it is refused.
fn pairs(field_type: &FieldType, value: &str, session: &Session) -> Option<Vec<Pair>> {
    let table = Table::new(&[int(), field_type.clone()])
        .int_key()
        .key(&[(1, W)]);
    let mut encoder = TableEncoder::compile(&table.0, session, None).unwrap();
    let mut pairs = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| pairs.push((slot, key.to_vec(), value.to_vec()));
    let fields = [Field::Int(7), Field::Text(value.as_bytes())];
    encoder.encode_row(&fields, 1, &mut sink).ok()?;
    check_way_back(&table, session, &pairs);
    Some(pairs)
}

/// A stored row is read, encoded again, and found from its index entries.
fn check_way_back(table: &Table, session: &Session, pairs: &[Pair]) {
    let decoder = TableDecoder::compile(&table.0, session).unwrap();
    let row = decoder.record(&pairs[0].1, &pairs[0].2).unwrap();
    for (_, key, value) in &pairs[1..] {
        assert_eq!(decoder.entry(key, value).unwrap().handle, row.handle);
    }
    let mut again = Vec::new();
    let mut sink =
        |slot: Slot, key: &[u8], value: &[u8]| again.push((slot, key.to_vec(), value.to_vec()));
    let mut encoder = TableEncoder::compile(&table.0, session, None).unwrap();
    encoder.encode_decoded(&row, &mut sink).unwrap();
    assert_eq!(again, pairs);
}

/// Key and value of a stored text.
fn stored(field_type: &FieldType, value: &str) -> Option<(Vec<u8>, Datum)> {
    let session = Session::default();
    let pairs = pairs(field_type, value, &session)?;
    let table = Table::new(&[int(), field_type.clone()]).int_key();
    let decoder = TableDecoder::compile(&table.0, &session).unwrap();
    let row = decoder.record(&pairs[0].1, &pairs[0].2).unwrap();
    Some((pairs[1].1.clone(), row.datums[1].clone()))
}

/// Order of two values of one type, worked out without keys.
fn order(a: &Datum, b: &Datum) -> Ordering {
    let real = |datum: &Datum| match datum {
        Datum::Float(v) => f64::from(*v),
        Datum::Double(v) => *v,
        _ => f64::NAN,
    };
    match (a, b) {
        (Datum::Int(a), Datum::Int(b)) | (Datum::Year(a), Datum::Year(b)) => a.cmp(b),
        (Datum::UInt(a), Datum::UInt(b))
        | (Datum::Enum(a, _), Datum::Enum(b, _))
        | (Datum::Set(a, _), Datum::Set(b, _))
        | (Datum::Bit(a, _), Datum::Bit(b, _)) => a.cmp(b),
        (Datum::Decimal(a), Datum::Decimal(b)) => decimal_order(a, b),
        (Datum::Time(a), Datum::Time(b)) => a.to_string().cmp(&b.to_string()),
        (Datum::Duration(a), Datum::Duration(b)) => a.nanos.cmp(&b.nanos),
        (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
        _ => real(a).partial_cmp(&real(b)).unwrap(),
    }
}

fn decimal_order(a: &MyDecimal, b: &MyDecimal) -> Ordering {
    let rest = a.checked_sub(b).unwrap();
    match (rest.is_zero(), rest.is_negative()) {
        (true, _) => Ordering::Equal,
        (_, true) => Ordering::Less,
        _ => Ordering::Greater,
    }
}

/// Types with a pattern of texts that mostly fit.
fn types() -> Vec<(FieldType, &'static str)> {
    let date = "(19[789][0-9]|20[0-3][0-9])-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
    let moment = "(19[789][0-9]|20[0-2][0-9])-(0[1-9]|1[0-2])-(0[1-9]|2[0-8]) \
                  [01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,7})?";
    let moment = moment.trim();
    vec![
        (of(tp::TINY, 4, 0), "-?[0-9]{1,3}"),
        (of(tp::SHORT, 6, 0), "-?[0-9]{1,5}"),
        (of(tp::INT24, 9, 0), "-?[0-9]{1,7}"),
        (int(), "-?[0-9]{1,10}"),
        (big(), "-?[0-9]{1,19}"),
        (unsigned(of(tp::TINY, 3, 0)), "[0-9]{1,3}"),
        (unsigned(big()), "[0-9]{1,20}"),
        (decimal(5, 2), "-?[0-9]{1,3}(\\.[0-9]{1,3})?"),
        (decimal(18, 9), "-?[0-9]{1,9}(\\.[0-9]{1,12})?"),
        (decimal(30, 30), "-?0?\\.[0-9]{1,32}"),
        (decimal(65, 30), "-?[0-9]{1,35}(\\.[0-9]{1,30})?"),
        (unsigned(decimal(20, 0)), "[0-9]{1,20}"),
        (
            of(tp::FLOAT, 12, -1),
            "-?[0-9]{1,8}(\\.[0-9]{1,6})?(e-?[0-9]{1,2})?",
        ),
        (
            of(tp::DOUBLE, 22, -1),
            "-?[0-9]{1,18}(\\.[0-9]{1,6})?(e-?[0-9]{1,2})?",
        ),
        (of(tp::DOUBLE, 10, 3), "-?[0-9]{1,7}(\\.[0-9]{1,6})?"),
        (of(tp::DATE, 10, 0), date),
        (of(tp::DATETIME, 19, 0), moment),
        (of(tp::DATETIME, 26, 6), moment),
        (of(tp::TIMESTAMP, 22, 2), moment),
        (
            of(tp::DURATION, 14, 3),
            "-?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,5})?",
        ),
        (of(tp::YEAR, 4, 0), "19[0-9]{2}|20[0-9]{2}|[0-9]{2}"),
        (of(tp::BIT, 24, 0), "[a-z\\x00]{1,3}"),
        (elements(tp::ENUM), "new|Paid||sent|日本"),
        (elements(tp::SET), "(new|sent|日本)(,(Paid|new))?"),
        (text(tp::VARCHAR, "binary"), "[a-c\\x00 ]{0,20}"),
        (text(tp::VARCHAR, "utf8mb4_0900_bin"), "[a-cé ]{0,20}"),
    ]
}

/// One of the types and two texts for it.
fn typed_texts() -> impl Strategy<Value = (FieldType, String, String)> {
    (0..types().len()).prop_flat_map(|at| {
        let (field_type, pattern) = types().swap_remove(at);
        (Just(field_type), pattern, pattern)
    })
}

const COLLATIONS: [&str; 12] = [
    "utf8mb4_bin",
    "utf8_bin",
    "latin1_bin",
    "ascii_bin",
    "binary",
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_0900_ai_ci",
    "utf8mb4_0900_bin",
    "gbk_chinese_ci",
    "gbk_bin",
    "gb18030_bin",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn keys_sort_as_values_do((field_type, a, b) in typed_texts()) {
        if let (Some((key_a, a)), Some((key_b, b))) = (stored(&field_type, &a), stored(&field_type, &b)) {
            prop_assert_eq!(key_a.cmp(&key_b), order(&a, &b), "{:?} {:?}", a, b);
        }
    }

    #[test]
    fn null_sorts_before_every_value((field_type, a, _) in typed_texts()) {
        let table = Table::new(&[int(), field_type.clone()]).int_key().key(&[(1, W)]);
        let null = table.encode(&[Some("7"), None]).swap_remove(1);
        if let Some((key, _)) = stored(&field_type, &a) {
            prop_assert!(*null < *hex(&key[19..]));
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same_value((field_type, a, _) in typed_texts()) {
        // A bit column takes bytes and shows bytes that need not be text.
        if field_type.tp != tp::BIT && let Some((key, datum)) = stored(&field_type, &a) {
            let shown = String::from_utf8(datum.to_text().unwrap()).unwrap();
            prop_assert_eq!(stored(&field_type, &shown), Some((key, datum)), "{}", shown);
        }
    }

    #[test]
    fn both_row_formats_and_every_zone_come_back((field_type, a, _) in typed_texts(), format in 1..=2u8, zone in 0..3usize, checksum: bool) {
        let session = Session {
            row_format: format,
            row_checksum: checksum,
            time_zone: Zone::parse(["UTC", "-03:30", "America/New_York"][zone]).unwrap(),
            sql_mode: SqlMode::parse(""),
            ..Session::default()
        };
        pairs(&field_type, &a, &session);
    }

    #[test]
    fn letters_sort_by_their_collation(a in "[a-zA-Z0-9]{0,12} {0,2}", b in "[a-zA-Z0-9]{0,12} {0,2}", at in 0..COLLATIONS.len()) {
        let collation = Collation::from_name(COLLATIONS[at]).unwrap();
        let plain = |text: &str| {
            let text = if collation.trims() { text.trim_end_matches(' ') } else { text };
            if collation.is_ci() { text.to_ascii_uppercase() } else { text.to_owned() }
        };
        let column = text(tp::VARCHAR, COLLATIONS[at]);
        let key = |value: &str| stored(&column, value).unwrap().0;
        prop_assert_eq!(key(&a).cmp(&key(&b)), plain(&a).cmp(&plain(&b)), "{}", COLLATIONS[at]);
        prop_assert_eq!(collation.compare(a.as_bytes(), b.as_bytes()), plain(&a).cmp(&plain(&b)));
    }

    #[test]
    fn sort_keys_are_put_together_from_those_of_the_characters(a in "\\PC{0,6}", b in "\\PC{1,6}", at in 0..COLLATIONS.len()) {
        let collation = Collation::from_name(COLLATIONS[at]).unwrap();
        // Blanks in the middle are kept; none is at the ends here.
        let (a, b) = (a.trim_end_matches(' '), b.trim_end_matches(' '));
        let joined = [collation.key(a.as_bytes()), collation.key(b.as_bytes())].concat();
        prop_assert_eq!(collation.key(format!("{a}{b}").as_bytes()), joined);
    }

    #[test]
    fn documents_come_back(text in json_text(4)) {
        let column = of(tp::JSON, -1, 0);
        let table = Table::new(&[int(), column]).int_key();
        let first = table.encode(&[Some("7"), Some(&text)]);
        let document = crate::json::parse(text.as_bytes()).unwrap();
        let shown = crate::json::to_text(&document);
        prop_assert_eq!(table.encode(&[Some("7"), Some(&shown)]), first);
        let value = crate::json::decode(&document).unwrap();
        prop_assert_eq!(crate::json::encode(&value), document);
    }
}

fn json_text(depth: u32) -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        any::<u64>().prop_map(|v| v.to_string()),
        // A double without a fraction is shown as an integer.
        "-?(0|[1-9][0-9]{0,4})\\.[0-9]{0,4}[1-9]",
        "\"[a-zé日\\x20]{0,9}\"",
        "\"(\\\\n|\\\\u00e9|\\\\\"|x){0,5}\"",
    ];
    scalar.prop_recursive(depth, 40, 6, |inner| {
        let members = proptest::collection::vec(("[a-c日]{0,4}", inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..6)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            members.prop_map(|members| {
                let shown: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", shown.join(","))
            }),
        ]
    })
}
