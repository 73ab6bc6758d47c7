//! Readers hold one record, not a file: a line without an end is refused where it starts, a statement of any
//! length is streamed. Measured on this process, which does nothing else; hence one test.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thunderhead_config::{CsvOptions, FileFormat, SourceFormat};
use thunderhead_source::{
    ByteSource, ByteStream, Chunk, ChunkReader, CsvDialect, Identity, ReadLimits, SplitPolicy,
    open_records, plan_chunks, plan_records,
};
use thunderhead_types::{Error, ErrorKind};

/// A file that is made while it is read: a head, then the same piece again and again, then a tail.
#[derive(Clone, Debug)]
struct Made {
    head: &'static [u8],
    piece: &'static [u8],
    pieces: u64,
    tail: &'static [u8],
    /// Bytes that were read of it.
    read: Arc<AtomicU64>,
}

impl Made {
    fn bytes(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.piece.len() as u64 * self.pieces
    }

    fn from(&self, offset: u64) -> &[u8] {
        let head = self.head.len() as u64;
        let body = self.piece.len() as u64 * self.pieces;
        if offset < head {
            &self.head[offset as usize..]
        } else if offset < head + body {
            &self.piece[((offset - head) % self.piece.len() as u64) as usize..]
        } else {
            &self.tail[(offset - head - body) as usize..]
        }
    }
}

struct MadeStream(Made, u64);

impl Read for MadeStream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < to.len() {
            let some = self.0.from(self.1);
            if some.is_empty() {
                break;
            }
            let count = some.len().min(to.len() - done);
            to[done..done + count].copy_from_slice(&some[..count]);
            (done, self.1) = (done + count, self.1 + count as u64);
        }
        self.0.read.fetch_add(done as u64, Ordering::Relaxed);
        Ok(done)
    }
}

impl ByteSource for Made {
    fn name(&self) -> &str {
        "made.csv"
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity {
            stored_bytes: self.bytes(),
            ..Identity::default()
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.bytes()))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(MadeStream(self.clone(), offset)))
    }
}

/// The largest resident set of this process so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.unwrap().split_whitespace().nth(1).unwrap();
    words.parse::<u64>().unwrap() * 1024
}

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
