//! The CSV core against the crate `csv-core`, on the dialects that both know. They differ by design in three
//! points, which the inputs leave out: text around quotes that do not enclose a field is an error here, lines of
//! nothing but white space are dropped here, and escapes mean something outside of quotes here.
#![allow(clippy::unwrap_used)]

mod oracle;

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use oracle::core_in_pieces;
use proptest::prelude::*;
use thunderhead_source::CsvDialect;

type Rows = Vec<Vec<Vec<u8>>>;

/// A dialect in both languages.
#[derive(Clone, Debug)]
struct Dialect {
    separator: u8,
    /// `None`: quotes are data.
    quote: Option<u8>,
    /// `None`: CR, LF and CRLF.
    terminator: Option<u8>,
    escape: Option<u8>,
}

impl Dialect {
    fn ours(&self) -> CsvDialect {
        let token = |byte: Option<u8>| byte.map_or_else(Vec::new, |byte| vec![byte]);
        CsvDialect {
            separator: vec![self.separator],
            quote: token(self.quote),
            terminator: token(self.terminator),
            escape: token(self.escape),
            not_null: true,
            header: false,
            ..CsvDialect::default()
        }
    }

    fn theirs(&self, mut input: &[u8]) -> Rows {
        let mut reader = ReaderBuilder::new();
        reader
            .delimiter(self.separator)
            .quoting(self.quote.is_some())
            .quote(self.quote.unwrap_or(b'"'))
            .escape(self.escape)
            .terminator(self.terminator.map_or(Terminator::CRLF, Terminator::Any));
        let mut reader = reader.build();
        let (mut rows, mut text, mut ends) = (Rows::new(), vec![0; 1 << 16], vec![0; 1 << 10]);
        let (mut bytes, mut fields) = (0, 0);
        loop {
            let (result, read, wrote, ended) =
                reader.read_record(input, &mut text[bytes..], &mut ends[fields..]);
            input = &input[read..];
            (bytes, fields) = (bytes + wrote, fields + ended);
            match result {
                // An empty slice is the end of the input.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => {
                    let starts = std::iter::once(0).chain(ends.iter().copied());
                    let spans = starts.zip(&ends[..fields]);
                    rows.push(spans.map(|(a, b)| text[a..*b].to_vec()).collect());
                    (bytes, fields) = (0, 0);
                }
                ReadRecordResult::End => return rows,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn dialects() -> Vec<Dialect> {
    let mut dialects = Vec::new();
    for separator in [b',', b'\t', b'|', 0, 0xff] {
        for quote in [None, Some(b'"'), Some(b'\'')] {
            for terminator in [None, Some(b'\n'), Some(b';')] {
                dialects.push(Dialect {
                    separator,
                    quote,
                    terminator,
                    escape: None,
                });
            }
        }
    }
    // An escape is one for both only between quotes.
    dialects.push(Dialect {
        separator: b',',
        quote: Some(b'"'),
        terminator: None,
        escape: Some(b'\\'),
    });
    dialects
}

/// Whole fields, plain and quoted, with whatever may stand in them.
fn files(d: &Dialect) -> impl Strategy<Value = Vec<u8>> + use<> {
    let end: &[u8] = match d.terminator {
        None => b"\r\n",
        Some(ref byte) => std::slice::from_ref(byte),
    };
    let mut plain: Vec<Vec<u8>> = ["", "a", "x y", "0123456789", "\u{e9}\u{4e2d}"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    plain.push(vec![b'z'; 200]);
    if let Some(quote) = d.quote {
        let mut inside = vec![vec![quote, quote], vec![d.separator], end.to_vec()];
        inside.extend([b"\n".to_vec(), b"b".to_vec(), vec![b'y'; 70]]);
        if let Some(escape) = d.escape {
            inside.extend([vec![escape, escape], vec![escape, quote]]);
        }
        for a in &inside {
            for b in &inside {
                plain.push([&[quote][..], a, b, &[quote]].concat());
            }
        }
    }
    let ends: Vec<Vec<u8>> = match d.terminator {
        None => vec![b"\n".to_vec(), b"\r\n".to_vec(), b"\r".to_vec()],
        Some(byte) => vec![vec![byte]],
    };
    let separator = d.separator;
    let field = prop::sample::select(plain);
    let record = prop::collection::vec(field, 1..7);
    let line = (record, prop::sample::select(ends), any::<bool>());
    prop::collection::vec(line, 0..12).prop_map(move |lines| {
        let last = lines.len().saturating_sub(1);
        let mut file = Vec::new();
        for (n, (fields, end, ended)) in lines.into_iter().enumerate() {
            file.extend(fields.join(&separator));
            if n < last || ended {
                file.extend(end);
            }
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_those_of_csv_core(
        (dialect, input) in prop::sample::select(dialects()).prop_flat_map(|d| (Just(d.clone()), files(&d))),
        cuts in prop::collection::vec(0usize..400, 0..4),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let ours = core_in_pieces(&dialect.ours(), &input, &cuts, usize::MAX);
        prop_assert_eq!(ours.error, None);
        let ours: Rows = ours
            .rows
            .into_iter()
            .map(|(_, _, fields)| fields.into_iter().map(Option::unwrap).collect())
            .collect();
        prop_assert_eq!(ours, dialect.theirs(&input));
    }

    #[test]
    fn any_bytes_without_quotes_and_blanks_read_alike(bytes in prop::collection::vec(prop::sample::select(b"a,\n\r\x80".to_vec()), 0..200)) {
        let dialect = Dialect { separator: b',', quote: None, terminator: None, escape: None };
        let ours = core_in_pieces(&dialect.ours(), &bytes, &[], usize::MAX);
        let ours: Rows = ours
            .rows
            .into_iter()
            .map(|(_, _, fields)| fields.into_iter().map(Option::unwrap).collect())
            .collect();
        prop_assert_eq!(ours, dialect.theirs(&bytes));
    }
}
