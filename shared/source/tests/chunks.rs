//! Chunks of a file: cut anywhere, read one by one, they hold what the whole file holds.
#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use oracle::{Fields, dialects, malformed, oracle};
use proptest::prelude::*;
use thunderhead_config::Compression;
use thunderhead_source::{
    ByteSource, ByteStream, Chunk, ChunkReader, CsvDialect, Identity, LocalFile, ReadLimits,
    RecordReader, SourceError, SplitPolicy, Value, plan_chunks, read_header, rows_max,
};
use thunderhead_types::{Error, ErrorKind};

type Rows = Vec<(usize, u64, Fields)>;

fn small() -> ReadLimits {
    ReadLimits {
        read_bytes: 16,
        row_bytes_max: 1 << 20,
    }
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read_all<R: std::io::Read>(reader: &mut ChunkReader<R>) -> (Rows, Option<SourceError>) {
    let mut rows = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(error)),
            Ok(Some(batch)) => {
                assert!(!batch.is_empty());
                for row in batch.rows() {
                    let mut fields: Fields = row.fields().map(|f| f.map(<[u8]>::to_vec)).collect();
                    if let Some((at, e)) = row.malformed() {
                        fields = malformed(e.kind, at as usize, e.column, row.written());
                    }
                    rows.push((row.offset() as usize, row.line(), fields));
                }
            }
        }
    }
}

fn read_chunk(file: &tempfile::NamedTempFile, chunk: &Chunk, dialect: &CsvDialect) -> Rows {
    let (rows, error) = read_all(
        &mut ChunkReader::open_with(&LocalFile::new(file.path()), chunk, dialect, small()).unwrap(),
    );
    assert!(error.is_none(), "{error:?}");
    rows
}

fn whole(bytes: &[u8]) -> Chunk {
    Chunk {
        offset: 0,
        end: bytes.len() as u64,
        first_line: 1,
        rows_max: 0,
        rows_exact: false,
        statement: None,
    }
}

/// Remembers whether it was read.
#[derive(Debug)]
struct Watched {
    file: LocalFile,
    opened: AtomicBool,
}

impl ByteSource for Watched {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.file.identity()
    }

    fn size(&self) -> io::Result<Option<u64>> {
        self.file.size()
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        self.opened.store(true, Ordering::Relaxed);
        self.file.open(offset)
    }
}

fn no_header() -> CsvDialect {
    CsvDialect {
        header: false,
        ..CsvDialect::default()
    }
}

/// Files without syntax errors: whole records of random fields.
fn records(d: &CsvDialect) -> impl Strategy<Value = Vec<u8>> + use<> {
    let end = if d.terminator.is_empty() {
        b"\r\n".to_vec()
    } else {
        d.terminator.clone()
    };
    let mut pieces = vec![
        b"7".to_vec(),
        Vec::new(),
        b"some text".to_vec(),
        d.separator.clone(),
        d.separator.clone(),
    ];
    pieces.extend([end.clone(), end.clone(), [&end[..], &end[..]].concat()]);
    pieces.extend((!d.escape.is_empty()).then(|| [&d.escape[..], &end[..1]].concat()));
    let quoted = [
        &d.quote[..],
        &end[..],
        &d.quote[..],
        &d.quote[..],
        &d.separator[..],
        &d.quote[..],
    ]
    .concat();
    // A quoted field is a whole field.
    pieces
        .extend((!d.quote.is_empty()).then(|| [&end[..], &quoted[..], &d.separator[..]].concat()));
    // A quote where none can be.
    let wrong = [&b"x"[..], &d.quote[..], &d.separator[..], &d.quote[..]].concat();
    pieces.extend((d.skip_malformed).then_some(wrong));
    prop::collection::vec(prop::sample::select(pieces), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_read_one_by_one_are_the_file(
        (dialect, bytes) in prop::sample::select(dialects()).prop_flat_map(|d| (Just(d.clone()), records(&d))),
        chunk_bytes in 1u64..80,
    ) {
        let expected = oracle(&dialect, &bytes);
        let file = file(&bytes);
        let chunks = plan_chunks(&LocalFile::new(file.path()), &dialect, chunk_bytes, SplitPolicy::Scan);
        let Some((kind, at, column)) = expected.error else {
            let chunks = chunks.unwrap();
            let mut rows = Rows::new();
            let mut offset = 0;
            for chunk in &chunks {
                prop_assert_eq!(chunk.offset, offset);
                prop_assert!(chunk.end > chunk.offset);
                offset = chunk.end;
                let mut found = read_chunk(&file, chunk, &dialect);
                prop_assert_eq!(found.len() as u64, chunk.rows_max);
                prop_assert!(chunk.rows_exact);
                rows.append(&mut found);
            }
            prop_assert_eq!(offset, bytes.len() as u64);
            prop_assert_eq!(rows, expected.rows);
            return Ok(());
        };
        let error = chunks.unwrap_err();
        let SourceError::Syntax { place, column: c, kind: k } = error else { panic!("{error:?}") };
        prop_assert_eq!((k, place.byte as usize, c), (kind, at, column + 1));
        prop_assert_eq!(place.line, oracle::line_of(&dialect, &bytes, at));
    }

    #[test]
    fn a_file_is_only_read_where_it_is_cut_and_never_has_more_rows_than_planned(
        (dialect, bytes) in prop::sample::select(dialects()).prop_flat_map(|d| (Just(d.clone()), records(&d))),
        chunk_bytes in 1u64..80,
    ) {
        let expected = oracle(&dialect, &bytes);
        prop_assume!(expected.error.is_none());
        let file = file(&bytes);
        let source = Watched { file: LocalFile::new(file.path()), opened: AtomicBool::new(false) };
        let chunks = plan_chunks(&source, &dialect, chunk_bytes, SplitPolicy::Cut).unwrap();
        prop_assert_eq!(source.opened.into_inner(), bytes.len() as u64 > chunk_bytes);
        let mut rows = Rows::new();
        for chunk in &chunks {
            let found = read_chunk(&file, chunk, &dialect);
            prop_assert!(found.len() as u64 <= chunk.rows_max);
            rows.extend(found);
        }
        prop_assert!(rows.len() as u64 <= rows_max(bytes.len() as u64, Compression::None));
        prop_assert_eq!(rows, expected.rows);
    }

    #[test]
    fn cuts_at_the_next_terminator_are_right_without_quotes_and_escapes(
        terminator in prop::sample::select(vec!["", "\n", "\r\n", "|\n"]),
        lines in prop::collection::vec("[a-c,\"]{0,9}", 0..40),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        chunk_bytes in 1u64..40,
    ) {
        let dialect = CsvDialect {
            quote: Vec::new(),
            escape: Vec::new(),
            terminator: terminator.into(),
            ..no_header()
        };
        prop_assert!(dialect.terminator_ends_record());
        let bytes = lines.join(if terminator.is_empty() { end } else { terminator }).into_bytes();
        let file = file(&bytes);
        let mut rows = Rows::new();
        let mut offset = 0;
        for chunk in plan_chunks(&LocalFile::new(file.path()), &dialect, chunk_bytes, SplitPolicy::NextTerminator).unwrap() {
            prop_assert_eq!(chunk.offset, offset);
            offset = chunk.end;
            let found = read_chunk(&file, &chunk, &dialect);
            prop_assert!(found.len() as u64 <= chunk.rows_max);
            rows.extend(found);
        }
        prop_assert_eq!(offset, bytes.len() as u64);
        let place_and_fields = |rows: Rows| rows.into_iter().map(|(at, _, f)| (at, f)).collect::<Vec<_>>();
        prop_assert_eq!(place_and_fields(rows), place_and_fields(oracle(&dialect, &bytes).rows));
    }
}

#[test]
fn records_before_a_wrong_one_are_given_out_and_the_error_names_the_place() {
    let bytes = b"1,a\n2,b\n\n3,x\"y\n";
    for read_bytes in [1, 5, 1000] {
        let limits = ReadLimits {
            read_bytes,
            ..small()
        };
        let mut reader =
            ChunkReader::new(&bytes[..], "t.csv".into(), 0, None, 1, &no_header(), limits).unwrap();
        let (rows, error) = read_all(&mut reader);
        assert_eq!(rows.len(), 2);
        let error = Error::from(error.unwrap());
        assert_eq!(
            (error.kind, error.place.as_str()),
            (ErrorKind::Data, "t.csv:4 (byte 12)")
        );
        assert_eq!(
            error.cause,
            "column 2: quote inside a field that does not start with one"
        );
    }
}

#[test]
fn a_malformed_record_is_skipped_up_to_the_end_of_its_line_and_a_file_cut_short_is_not() {
    let skipping = CsvDialect {
        skip_malformed: true,
        ..no_header()
    };
    let bytes = b"1,a\n2,x\"y,\"\n3,\"b\"c\r\n4,\"d\ne\"\n5,\"open\n6,f\n";
    let open = |bytes: &'static [u8]| {
        ChunkReader::new(bytes, "t.csv".into(), 0, None, 1, &skipping, small()).unwrap()
    };
    let (rows, error) = read_all(&mut open(bytes));
    let places: Vec<(usize, u64)> = rows.iter().map(|(at, line, _)| (*at, *line)).collect();
    assert_eq!(places, [(0, 1), (4, 2), (12, 3), (20, 4)]);
    let text = |row: usize| String::from_utf8_lossy(rows[row].2[0].as_ref().unwrap()).into_owned();
    assert_eq!(text(1), "QuoteInField 7 1: 2,x\\\"y,\\\"");
    assert_eq!(text(2), "TextAfterQuote 17 1: 3,\\\"b\\\"c");
    assert_eq!(rows[3].2[1].as_deref(), Some(&b"d\ne"[..]));
    let error = Error::from(error.unwrap());
    assert_eq!(error.place, "t.csv:6 (byte 30)");

    let mut reader = open(b"1,x\"y\n");
    assert_eq!(reader.advance().unwrap(), 1);
    let mut values = Vec::new();
    assert_eq!(reader.record(0, &mut values).offset, 0);
    assert_eq!(values, [Value::Text(b"1,x\"y")]);
    let error = Error::from(reader.malformed(0).unwrap());
    assert_eq!(error.place, "t.csv:1 (byte 3)");
}

#[test]
fn a_malformed_header_is_an_error_whatever_is_skipped() {
    let skipping = CsvDialect {
        skip_malformed: true,
        ..CsvDialect::default()
    };
    let result = ChunkReader::new(
        &b"id,na\"me\n1,a\n"[..],
        "t.csv".into(),
        0,
        None,
        1,
        &skipping,
        small(),
    );
    let error = Error::from(result.err().unwrap());
    assert_eq!(error.place, "t.csv:1 (byte 5)");
}

#[test]
fn an_unterminated_quote_is_reported_where_it_opens() {
    let bytes = format!("1,a\n2,\"{}", "long\n".repeat(1000));
    let (_, error) = read_all(
        &mut ChunkReader::new(
            bytes.as_bytes(),
            "t.csv".into(),
            0,
            None,
            1,
            &no_header(),
            small(),
        )
        .unwrap(),
    );
    assert_eq!(Error::from(error.unwrap()).place, "t.csv:2 (byte 6)");
}

#[test]
fn only_the_start_of_a_file_has_a_mark_and_a_header() {
    let dialect = CsvDialect::default();
    let bytes = b"\xef\xbb\xbfId,\"Na,me\"\n1,a\n2,b\n";
    let file = file(bytes);
    let chunks = plan_chunks(&LocalFile::new(file.path()), &dialect, 1, SplitPolicy::Scan).unwrap();
    assert_eq!(
        chunks
            .iter()
            .map(|c| (c.offset, c.rows_max, c.first_line))
            .collect::<Vec<_>>(),
        [(0, 1, 1), (18, 1, 3)]
    );
    let first = ChunkReader::open_with(&LocalFile::new(file.path()), &chunks[0], &dialect, small())
        .unwrap();
    assert_eq!(first.header().unwrap(), ["id", "na,me"]);
    assert_eq!(
        read_header(&LocalFile::new(file.path()), &dialect)
            .unwrap()
            .unwrap(),
        ["id", "na,me"]
    );
    assert_eq!(
        read_header(&LocalFile::new(file.path()), &no_header()).unwrap(),
        None
    );
    assert_eq!(read_chunk(&file, &chunks[0], &dialect)[0].0, 14);
    assert_eq!(read_chunk(&file, &chunks[1], &dialect)[0].1, 3);

    let rows = read_chunk(&file, &whole(bytes), &no_header());
    assert_eq!(
        rows[0].2[0].as_deref(),
        Some(&b"Id"[..]),
        "the mark is no data without a header either"
    );
}

#[test]
fn a_file_without_records_has_no_rows() {
    for bytes in [&b""[..], b"\xef\xbb\xbf", b"\n \r\n", b"a,b\n", b"a,b"] {
        let file = file(bytes);
        for policy in [
            SplitPolicy::Scan,
            SplitPolicy::Cut,
            SplitPolicy::NextTerminator,
        ] {
            let chunks = plan_chunks(
                &LocalFile::new(file.path()),
                &CsvDialect::default(),
                10,
                policy,
            )
            .unwrap();
            assert_eq!(chunks.len(), usize::from(!bytes.is_empty()));
            for chunk in chunks {
                assert_eq!(read_chunk(&file, &chunk, &CsvDialect::default()), []);
                assert!(!chunk.rows_exact || chunk.rows_max == 0);
            }
        }
    }
}

#[test]
fn a_file_shorter_than_planned_is_an_error() {
    let file = file(b"1,a\n2,b\n");
    let chunk = Chunk {
        offset: 4,
        end: 9,
        first_line: 2,
        rows_max: 9,
        rows_exact: false,
        statement: None,
    };
    let error = ChunkReader::open_with(&LocalFile::new(file.path()), &chunk, &no_header(), small())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, SourceError::Truncated { expected: 9, .. }));

    // It may also shrink while it is read.
    // It may also shrink while it is read.
    let limits = ReadLimits {
        read_bytes: 6,
        ..small()
    };
    let mut reader = ChunkReader::new(
        &b"1,a\n2,b\n"[..],
        "t.csv".into(),
        0,
        Some(12),
        1,
        &no_header(),
        limits,
    )
    .unwrap();
    let error = Error::from(read_all(&mut reader).1.unwrap());
    assert_eq!(
        (error.kind, error.place.as_str()),
        (ErrorKind::Data, "t.csv:3 (byte 8)")
    );
}

#[test]
fn a_record_beyond_the_limit_is_an_error_and_memory_stays_bounded() {
    let limits = ReadLimits {
        read_bytes: 64,
        row_bytes_max: 1000,
    };
    let fits = format!("1\n{}\n3\n", "x".repeat(999));
    let mut reader = ChunkReader::new(
        fits.as_bytes(),
        "t.csv".into(),
        0,
        None,
        1,
        &no_header(),
        limits,
    )
    .unwrap();
    assert_eq!(read_all(&mut reader).0.len(), 3);

    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
            target.fill(b'x');
            self.0 += target.len() as u64;
            assert!(self.0 < 2000, "reads on behind the limit");
            Ok(target.len())
        }
    }
    let mut reader =
        ChunkReader::new(Endless(0), "t.csv".into(), 0, None, 1, &no_header(), limits).unwrap();
    let (_, error) = read_all(&mut reader);
    assert!(
        matches!(error, Some(SourceError::RowTooLong { limit: 1000, .. })),
        "{error:?}"
    );
}

#[test]
fn a_large_quoted_file_is_cut_into_whole_records() {
    let mut bytes = b"id,text\n".to_vec();
    for id in 0..60_000u32 {
        let filler = "x".repeat(id as usize * 7919 % 40);
        let text = match id % 5 {
            0 => format!("{id},\"{filler}\nnot,a record\r\n{id},\"\"quoted\"\"\"\n"),
            1 => format!("{id},plain {filler}\\\nstill the same\r\n"),
            2 => format!("\n \n{id},\n"),
            _ => format!("{id},\"{filler}\"\n"),
        };
        bytes.extend_from_slice(text.as_bytes());
    }
    // One record that is longer than several chunks.
    bytes.extend_from_slice(format!("60000,\"{}\"", "long\n".repeat(300_000)).as_bytes());
    let file = file(&bytes);
    let source = LocalFile::new(file.path());
    let dialect = CsvDialect::default();
    let all = |chunk: &Chunk| {
        let mut reader = ChunkReader::open(&source, chunk, &dialect).unwrap();
        let (rows, error) = read_all(&mut reader);
        assert!(error.is_none(), "{error:?}");
        rows
    };
    let expected = all(&Chunk::whole());
    assert_eq!(expected.len(), 60_001);
    for chunk_bytes in [300_000, 777_777] {
        let chunks = plan_chunks(&source, &dialect, chunk_bytes, SplitPolicy::Scan).unwrap();
        assert!(chunks.len() >= 3, "{}", chunks.len());
        let mut rows = Rows::new();
        for chunk in &chunks {
            let mut found = all(chunk);
            assert_eq!(found.len() as u64, chunk.rows_max);
            rows.append(&mut found);
        }
        assert!(rows == expected);
    }
}
