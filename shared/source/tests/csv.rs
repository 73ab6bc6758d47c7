//! What CSV text means, the same for every way to cut it into buffers.
#![allow(clippy::unwrap_used)]

mod oracle;

use oracle::{Records, core_in_pieces, dialects, oracle};
use proptest::prelude::*;
use thunderhead_source::csv::{SyntaxKind, TextEncoding};
use thunderhead_source::{ChunkReader, CsvDialect, ReadLimits};

fn default() -> CsvDialect {
    CsvDialect {
        header: false,
        ..CsvDialect::default()
    }
}

/// Runs the case in one piece, in every two pieces and byte by byte.
fn read(dialect: &CsvDialect, input: &[u8]) -> Records {
    let whole = core_in_pieces(dialect, input, &[], usize::MAX);
    for cut in 0..=input.len() {
        assert_eq!(
            core_in_pieces(dialect, input, &[cut], usize::MAX),
            whole,
            "cut at {cut}"
        );
    }
    let every: Vec<usize> = (0..=input.len()).collect();
    assert_eq!(
        core_in_pieces(dialect, input, &every, 1),
        whole,
        "byte by byte"
    );
    assert_eq!(oracle(dialect, input), whole, "against the rules");
    whole
}

/// Text of the records: fields in `[]`, NULL as `~`, one record per line.
fn check(dialect: &CsvDialect, input: &[u8], expected: &str) {
    let records = read(dialect, input);
    let mut lines: Vec<String> = Vec::new();
    for (_, _, fields) in &records.rows {
        let show = |f: &Option<Vec<u8>>| {
            f.as_ref()
                .map_or("~".into(), |t| format!("[{}]", t.escape_ascii()))
        };
        lines.push(fields.iter().map(show).collect());
    }
    lines.extend(
        records
            .error
            .map(|(kind, at, column)| format!("{kind:?} at {at} column {column}")),
    );
    assert_eq!(lines.join("\n"), expected, "{}", input.escape_ascii());
}

#[test]
fn fields_mean_what_lightning_reads() {
    check(&default(), b"\\N,\"\\N\"", "~~");
    check(&default(), b"\\\\N,NULL,\"NULL\"", r"[\\N][NULL][NULL]");
    check(&default(), b",\"\"", "[][]");
    check(&default(), b"a\\,b,\"a,b\"", "[a,b][a,b]");
    check(&default(), b"\"a\"\"b\",\"a\\\"b\"", r#"[a\"b][a\"b]"#);
    check(
        &default(),
        b"\\n\\t\\0\\Z\\b\\x\\\"",
        r#"[\n\t\x00\x1a\x08x\"]"#,
    );
    check(&default(), b" a ,\"x\\Ny\"", "[ a ][xNy]");
    check(&default(), b"1,a\n\n \t\r\n\r2,b", "[1][a]\n[2][b]");
    check(
        &default(),
        b"a\\\nb,\"c\r\nd\"\r\ne,",
        "[a\\nb][c\\r\\nd]\n[e][]",
    );
}

#[test]
fn broken_records_name_the_byte() {
    check(
        &default(),
        b"a\nb,x\"y\n",
        "[a]\nQuoteInField at 5 column 1",
    );
    check(&default(), b"\"x\"y", "TextAfterQuote at 3 column 0");
    check(&default(), b"\"x\"\\n", "TextAfterQuote at 3 column 0");
    check(
        &default(),
        b"1,\"abc\n2,3\n",
        "UnterminatedQuote at 2 column 1",
    );
    check(&default(), b"1\n2\\", "[1]\nLoneEscape at 3 column 0");
    check(&default(), b"\"\\", "LoneEscape at 1 column 0");
}

#[test]
fn null_strings_are_compared_as_the_dialect_says() {
    let nulls = |nulls: &[&str]| nulls.iter().map(|n| n.as_bytes().to_vec()).collect();
    let many = CsvDialect {
        nulls: nulls(&["NULL", ""]),
        ..default()
    };
    check(&many, b"NULL,\"NULL\",,\"\",\\N,N\\ULL", "~~~~[N]~");
    check(
        &CsvDialect {
            nulls: Vec::new(),
            unquoted_nulls: many.nulls.clone(),
            ..many.clone()
        },
        b"NULL,\"NULL\",,\"\"",
        "~[NULL]~[]",
    );
    check(
        &CsvDialect {
            not_null: true,
            ..many
        },
        b"NULL,\\N",
        "[NULL][N]",
    );
    let plain = CsvDialect {
        escape: Vec::new(),
        ..default()
    };
    check(&plain, b"\\N,\\,a\\n", r"~[\\][a\\n]");
}

#[test]
fn the_last_separator_can_be_dropped() {
    let trim = CsvDialect {
        trim_last_separator: true,
        ..default()
    };
    check(&trim, b"a,b,\na,,\n\"\"\na", "[a][b]\n[a][]\n\n[a]");
}

#[test]
fn long_tokens_count_only_when_complete() {
    let dialect = CsvDialect {
        separator: b"|+|".to_vec(),
        quote: b"|'".to_vec(),
        terminator: b"|\n".to_vec(),
        ..default()
    };
    check(
        &dialect,
        b"a|b|+|c\nd|\n|'x|+|y|'|'z|'|+||\n",
        "[a|b][c\\nd]\n[x|+|y|\\'z][]",
    );
    check(&dialect, b"a|", "[a|]");
    check(&dialect, b"|'a|'b", "TextAfterQuote at 5 column 0");
}

#[test]
fn a_record_starts_after_its_prefix() {
    let xxx = CsvDialect {
        starting: b"xxx".to_vec(),
        terminator: b"\n".to_vec(),
        ..default()
    };
    check(
        &xxx,
        b"xxx\"abc\",1\nsomething xxx\"def\",2\n\"ghi\",3\nxxx\n",
        "[abc][1]\n[def][2]\n[]",
    );
}

#[test]
fn load_data_is_lenient_with_quotes_and_keeps_empty_lines() {
    let lenient = CsvDialect {
        terminator: b"\n".to_vec(),
        lenient: true,
        ..default()
    };
    check(
        &lenient,
        b"a\"b\",\"c\"d\",\"e\"\"f\"\n\n\" \",\"x",
        "[a\\\"b\\\"][c\\\"d][e\\\"f]\n[]\nUnterminatedQuote at 23 column 1",
    );
}

#[test]
fn tokens_inside_of_a_multibyte_character_are_data() {
    let gbk = |input: &[u8]| {
        let dialect = CsvDialect {
            separator: b"|".to_vec(),
            text: TextEncoding::Gbk,
            ..default()
        };
        let mut reader = ChunkReader::new(
            input,
            "t.csv".into(),
            0,
            None,
            1,
            &dialect,
            ReadLimits::default(),
        )
        .unwrap();
        let batch = reader.next_batch().unwrap().unwrap();
        let row = batch.rows().next().unwrap();
        row.fields()
            .map(|f| String::from_utf8(f.unwrap().to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    // 0x8c5c and 0x957c end like a backslash and a bar; 0xa8 alone is no character.
    assert_eq!(
        gbk(b"\x8c\x5c|\x95\x7c|\xd6\xd0\x5cn|\xa8"),
        ["孿", "晐", "中\n", "\u{fffd}"]
    );
    assert_eq!(gbk(b"\"\x8c\x5c\"|\"\xd6\xd0\"\"\""), ["孿", "中\""]);
}

#[test]
fn text_of_other_character_sets_becomes_utf8() {
    let decode = |text: TextEncoding, bytes: &[u8]| {
        let mut out = Vec::new();
        text.decode(bytes, "?!", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(decode(TextEncoding::Latin1, b"a\x80\x81\xe4"), "a€\u{81}ä");
    assert_eq!(decode(TextEncoding::Gbk, b"\xc4\xe3\xff\xba\xc3"), "你?!好");
    assert_eq!(
        decode(TextEncoding::Gb18030, b"\x81\x30\x89\x38\x94\x39\xda\x33"),
        "ß💩"
    );
    assert_eq!(decode(TextEncoding::AsIs, "ä".as_bytes()), "ä");
}

#[test]
fn a_quoted_line_break_counts_as_a_line() {
    let records = read(&default(), b"a\r\n\"b\nc\r\nd\"\r\n\re\rf\n");
    let lines: Vec<u64> = records.rows.iter().map(|(_, line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 6, 7]);
}

#[test]
fn an_error_comes_after_the_records_before_it() {
    let records = read(&default(), b"1\n2\n\"3");
    assert_eq!(records.rows.len(), 2);
    assert_eq!(records.error, Some((SyntaxKind::UnterminatedQuote, 4, 0)));
}

/// Text that is made of tokens, halves of tokens and fillers.
fn text(d: &CsvDialect) -> impl Strategy<Value = Vec<u8>> + use<> {
    let mut pieces: Vec<Vec<u8>> = vec![
        d.separator.clone(),
        d.separator.clone(),
        d.quote.clone(),
        d.quote.clone(),
    ];
    pieces.extend([
        d.escape.clone(),
        d.terminator.clone(),
        [&d.escape[..], b"N"].concat(),
    ]);
    pieces.extend(
        [&d.separator, &d.quote, &d.terminator]
            .iter()
            .filter_map(|t| Some(t.split_last()?.1.to_vec())),
    );
    pieces.push([&d.quote[..], &d.separator[..], &d.quote[..]].concat());
    pieces.extend(
        [
            "a",
            "N",
            "0",
            " ",
            "\n",
            "\r",
            "\r\n",
            "\0",
            "a long text without any token in it",
        ]
        .map(|t| t.into()),
    );
    prop::collection::vec(prop::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

/// Text of records that can be read, longer than a block of the core, with now and then a token out of place.
fn records(d: &CsvDialect) -> impl Strategy<Value = Vec<u8>> + use<> {
    let (separator, quote, escape) = (d.separator.clone(), d.quote.clone(), d.escape.clone());
    let ends: Vec<Vec<u8>> = match d.terminator.as_slice() {
        [] => ["\n", "\r\n", "\r"].map(|end| end.into()).to_vec(),
        end => vec![end.to_vec()],
    };
    let special = [&escape[..], &quote[..]].concat();
    let doubled = quote.repeat(2);
    let inner: Vec<Vec<u8>> = vec![
        separator.clone(),
        ends[0].clone(),
        b"\r".to_vec(),
        doubled.clone(),
        [&doubled[..], &doubled[..]].concat(),
        escape.repeat(2),
        if escape.is_empty() {
            Vec::new()
        } else {
            special
        },
        b"text of some bytes".to_vec(),
        b" ".to_vec(),
    ];
    let plain = ["", "", "a", "12", " ", "N", "words and words"].map(|text| text.into());
    let mut plain: Vec<Vec<u8>> = plain.to_vec();
    plain.push(escape.repeat(2));
    plain.push([&escape[..], b"N"].concat());
    let open = quote.clone();
    let quoted = prop::collection::vec(prop::sample::select(inner), 0..5)
        .prop_map(move |inner| [&open[..], &inner.concat(), &open[..]].concat());
    let field = prop_oneof![
        200 => prop::sample::select(plain),
        if quote.is_empty() { 1 } else { 100 } => quoted,
        1 => Just(quote),
    ];
    let row = (
        prop::collection::vec(field, 1..6),
        prop::sample::select(ends),
    );
    let row = row.prop_map(move |(fields, end)| {
        let mut row = fields.join(&separator[..]);
        row.extend(end);
        row
    });
    prop::collection::vec(row, 0..40).prop_map(|rows| rows.concat())
}

fn dialect_and_text() -> impl Strategy<Value = (CsvDialect, Vec<u8>)> {
    prop::sample::select(dialects()).prop_flat_map(|d| {
        (
            Just(d.clone()),
            prop_oneof![text(&d).boxed(), records(&d).boxed()],
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_core_reads_what_the_rules_say((dialect, input) in dialect_and_text(), rows_max in 1usize..5) {
        let expected = oracle(&dialect, &input);
        prop_assert_eq!(&core_in_pieces(&dialect, &input, &[], usize::MAX), &expected);
        prop_assert_eq!(&core_in_pieces(&dialect, &input, &[], rows_max), &expected);
    }

    #[test]
    fn every_way_to_cut_the_input_gives_the_same_records(
        (dialect, input) in dialect_and_text(),
        mut cuts in prop::collection::vec(0usize..900, 0..20),
    ) {
        cuts.sort_unstable();
        let expected = core_in_pieces(&dialect, &input, &[], usize::MAX);
        prop_assert_eq!(core_in_pieces(&dialect, &input, &cuts, usize::MAX), expected);
    }
}
