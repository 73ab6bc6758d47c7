//! Readers hold one record, not a file: a line without an end is refused where it starts, a statement of any
//! length is streamed. Measured on this process, which does nothing else; hence one test.
#![allow(clippy::unwrap_used)]

mod made;

use made::{Made, peak_bytes};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thunderhead_config::{CsvOptions, FileFormat, SourceFormat};
use thunderhead_source::{
    ByteSource, Chunk, ChunkReader, CsvDialect, ReadLimits, SplitPolicy, open_records, plan_chunks,
    plan_records,
};
use thunderhead_types::{Error, ErrorKind};

const LINE: &[u8] = b"a long text without any separator or end, again and again. ";
const ROW: &[u8] = b"(1234567,'some text that is read','2024-01-01 00:00:00',NULL),\n";

#[test]
fn a_line_without_an_end_is_refused_and_a_statement_without_an_end_is_streamed() {
    let before = peak_bytes();

    // A line of 10 GB: a few buffers are read of it.
    let line = Made {
        head: b"id,name\n1,x\n2,",
        piece: LINE,
        pieces: 10_000_000_000 / LINE.len() as u64,
        tail: b"\n",
        read: Arc::default(),
    };
    let limits = ReadLimits {
        read_bytes: 64 << 10,
        row_bytes_max: 4 << 20,
    };
    let dialect = CsvDialect::default();
    let mut reader = ChunkReader::open_with(&line, &Chunk::whole(), &dialect, limits).unwrap();
    assert_eq!(
        reader.next_batch().unwrap().map(|batch| batch.len()),
        Some(1)
    );
    let error = Error::from(reader.next_batch().err().unwrap());
    assert_eq!(error.kind, ErrorKind::Data);
    assert_eq!(error.place, "made.csv:3 (byte 12)");
    assert!(error.cause.contains("4194304 bytes"), "{error}");
    assert!(line.read.load(Ordering::Relaxed) < 16 << 20);

    // Cutting such a file reads all of it and keeps nothing.
    let short = Made {
        pieces: (96 << 20) / LINE.len() as u64,
        ..line
    };
    let chunks = plan_chunks(&short, &dialect, 8 << 20, SplitPolicy::Scan).unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.rows_max).sum::<u64>(), 2);

    // One INSERT of 256 MB, cut in its middle and read.
    let dump: Arc<dyn ByteSource> = Arc::new(Made {
        head: b"INSERT INTO `t` VALUES ",
        piece: ROW,
        pieces: (256 << 20) / ROW.len() as u64,
        tail: b"(1,'last','2024-01-01 00:00:00',NULL);\n",
        read: Arc::default(),
    });
    let format = SourceFormat::new(FileFormat::Sql, CsvOptions::default());
    let chunks = plan_records(&dump, &format, 32 << 20, SplitPolicy::Scan).unwrap();
    assert!(chunks.len() >= 8, "{}", chunks.len());
    let planned: u64 = chunks.iter().map(|chunk| chunk.rows_max).sum();
    assert_eq!(planned, (256 << 20) / ROW.len() as u64 + 1);
    let mut rows = 0;
    for chunk in &chunks {
        let mut reader = open_records(&dump, chunk, &format).unwrap();
        loop {
            match reader.advance().unwrap() {
                0 => break,
                count => rows += count as u64,
            }
        }
    }
    assert_eq!(rows, planned);

    let grown = (peak_bytes() - before) >> 20;
    assert!(grown < 40, "{grown} MiB were held");
}
