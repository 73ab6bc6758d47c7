//! Cuts a file into chunks that start and end at true record boundaries, so that they can be read
//! independently. Owns where to cut and what is known of each chunk; leaves reading to the reader.

use std::io::{self, Read};

use thunderhead_config::Compression;

use crate::bytes::{ByteSource, ByteStream, io_error};
use crate::compress::unpacked_max;
use crate::csv::CsvDialect;
use crate::error::{Place, SourceError};
use crate::exact;
use crate::reader::ChunkReader;

/// A byte range of a file that holds whole records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First byte.
    pub offset: u64,
    /// After the last byte.
    pub end: u64,
    /// Line of `offset`, from 1; 0 if it is not known.
    pub first_line: u64,
    /// Records in the chunk, the header not counted; never fewer than there are.
    pub rows_max: u64,
    /// Whether `rows_max` is exact.
    pub rows_exact: bool,
    /// Where the statement starts that the chunk begins inside of; SQL only.
    pub statement: Option<u64>,
}

impl Chunk {
    /// An `end` behind every file: the file is read until it ends by itself.
    pub const TO_THE_END: u64 = u64::MAX;

    /// A file in one piece, whatever its size.
    pub fn whole() -> Self {
        Self {
            offset: 0,
            end: Self::TO_THE_END,
            first_line: 1,
            rows_max: 0,
            rows_exact: false,
            statement: None,
        }
    }
}

/// How the places to cut are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitPolicy {
    /// Read the file once, in parallel, and follow its quotes and escapes. Rows and lines are exact.
    Scan,
    /// The same where a file is cut. One that stays in one piece is not read, and its rows are only bounded.
    Cut,
    /// Jump to each cut and take the end of the next terminator: costs nothing, and is right only if
    /// no quoted or escaped terminator occurs. A cheap promise by the user (`strict-format`), and sure
    /// for dialects without quotes and escapes.
    NextTerminator,
}

/// Cuts `source` into chunks of about `chunk_bytes`. A chunk ends with the first record that reaches its
/// nominal end, so none is empty, and an empty file has none. What cannot be read from its middle stays in
/// one piece.
pub fn plan_chunks(
    source: &dyn ByteSource,
    dialect: &CsvDialect,
    chunk_bytes: u64,
    policy: SplitPolicy,
) -> Result<Vec<Chunk>, SourceError> {
    dialect.check()?;
    if let Some(chunk) = in_one_piece(source, chunk_bytes, policy)? {
        return Ok(chunk);
    }
    let size = source.size().map_err(|e| io_error(source, 0, e))?;
    match (policy, size) {
        (SplitPolicy::NextTerminator, Some(size)) if source.seekable() => Jumper {
            source,
            size,
            terminator: &dialect.terminator,
        }
        .chunks(chunk_bytes.max(1)),
        (_, Some(size)) if source.seekable() => {
            match exact::plan(source, size, dialect, chunk_bytes.max(1))? {
                Some(chunks) => Ok(chunks),
                None => scan(source, dialect, chunk_bytes.max(1)),
            }
        }
        _ => scan(source, dialect, u64::MAX),
    }
}

/// The plan of a file that need not be read for it.
pub(crate) fn in_one_piece(
    source: &dyn ByteSource,
    chunk_bytes: u64,
    policy: SplitPolicy,
) -> Result<Option<Vec<Chunk>>, SourceError> {
    if policy != SplitPolicy::Cut {
        return Ok(None);
    }
    let size = source.size().map_err(|e| io_error(source, 0, e))?;
    let (end, bytes) = match size {
        Some(0) => return Ok(Some(Vec::new())),
        Some(size) if source.seekable() && size > chunk_bytes => return Ok(None),
        Some(size) => (size, size),
        None => {
            let identity = source.identity().map_err(|e| io_error(source, 0, e))?;
            (Chunk::TO_THE_END, unpacked_max(identity.stored_bytes))
        }
    };
    Ok(Some(vec![Chunk {
        end,
        rows_max: bytes,
        ..Chunk::whole()
    }]))
}

/// No file of so many bytes, as they are stored, has more records: each takes one, for an empty line is one to LOAD DATA.
pub fn rows_max(stored_bytes: u64, compression: Compression) -> u64 {
    match compression {
        Compression::None => stored_bytes,
        _ => unpacked_max(stored_bytes),
    }
}

/// Follows every record, by the same code that reads them later.
fn scan(
    source: &dyn ByteSource,
    dialect: &CsvDialect,
    chunk_bytes: u64,
) -> Result<Vec<Chunk>, SourceError> {
    let mut reader = ChunkReader::open(source, &Chunk::whole(), dialect)?;
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut offset, mut first_line) = (0, 1);
    loop {
        // From where records begin: the first chunk has more than a header.
        let (rows, ended) = reader.skip_past(reader.offset().saturating_add(chunk_bytes))?;
        let end = reader.offset();
        match chunks.last_mut() {
            // Only blank lines are left.
            Some(last) if rows == 0 => last.end = end,
            _ if end == offset => {}
            _ => chunks.push(Chunk {
                offset,
                end,
                first_line,
                rows_max: rows,
                rows_exact: true,
                statement: None,
            }),
        }
        (offset, first_line) = (end, reader.line());
        if ended {
            return Ok(chunks);
        }
    }
}

/// Cuts without reading what lies between the cuts.
struct Jumper<'a> {
    source: &'a dyn ByteSource,
    size: u64,
    terminator: &'a [u8],
}

impl Jumper<'_> {
    fn chunks(&self, chunk_bytes: u64) -> Result<Vec<Chunk>, SourceError> {
        let mut chunks = Vec::new();
        let mut offset = 0;
        while offset < self.size {
            let nominal = offset.saturating_add(chunk_bytes);
            let end = if nominal >= self.size {
                self.size
            } else {
                self.after_terminator(nominal)?
            };
            let first_line = u64::from(offset == 0);
            chunks.push(Chunk {
                offset,
                end,
                first_line,
                rows_max: end - offset,
                rows_exact: false,
                statement: None,
            });
            offset = end;
        }
        Ok(chunks)
    }

    /// The place after the first terminator that ends at or after `from`.
    fn after_terminator(&self, from: u64) -> Result<u64, SourceError> {
        let terminator = self.terminator;
        // A terminator that straddles `from` counts as well, and so does a CR just before an LF.
        let back = (terminator.len().max(2) - 1) as u64;
        let mut offset = from.saturating_sub(back);
        let mut buf = vec![0; 64 << 10];
        let mut stream = self
            .source
            .open(offset)
            .map_err(|e| io_error(self.source, offset, e))?;
        let mut filled = 0;
        loop {
            let got = self.read(&mut stream, &mut buf[filled..], offset + filled as u64)?;
            filled += got;
            if let Some(len) = terminator_end(
                &buf[..filled],
                terminator,
                got == 0,
                from.saturating_sub(offset),
            ) {
                return Ok((offset + len as u64).min(self.size));
            }
            if got == 0 {
                return Ok(self.size);
            }
            let keep = filled.min(back as usize);
            buf.copy_within(filled - keep..filled, 0);
            offset += (filled - keep) as u64;
            filled = keep;
        }
    }

    fn read(
        &self,
        stream: &mut ByteStream,
        target: &mut [u8],
        at: u64,
    ) -> Result<usize, SourceError> {
        // What was appended since the size was taken is not part of the plan.
        let wanted = target
            .len()
            .min(usize::try_from(self.size.saturating_sub(at)).unwrap_or(target.len()));
        loop {
            match stream.read(&mut target[..wanted]) {
                Ok(0) if wanted > 0 => {
                    let place = Place {
                        path: self.source.name().to_owned(),
                        line: 0,
                        byte: at,
                    };
                    return Err(SourceError::Truncated {
                        place,
                        expected: self.size,
                    });
                }
                Ok(got) => return Ok(got),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(self.source, at, error)),
            }
        }
    }
}

/// The end in `buf` of the first terminator that ends at or after `from`, if it is known.
fn terminator_end(buf: &[u8], terminator: &[u8], at_end: bool, from: u64) -> Option<usize> {
    let from = from as usize;
    if !terminator.is_empty() {
        let mut ends = memchr::memmem::find_iter(buf, terminator).map(|at| at + terminator.len());
        return ends.find(|end| *end >= from);
    }
    for at in memchr::memchr2_iter(b'\r', b'\n', buf) {
        let end = match (buf[at], buf.get(at + 1)) {
            (b'\r', Some(b'\n')) => at + 2,
            (b'\r', None) if !at_end => return None,
            _ => at + 1,
        };
        if end >= from {
            return Some(end);
        }
    }
    None
}
