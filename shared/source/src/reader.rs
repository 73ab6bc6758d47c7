//! Reads the records of one byte range of a file in bounded memory. Owns the read buffer, the byte
//! order mark, the header, and positions; leaves lexing to [`crate::csv::Core`] and the question
//! whether the file is still the one that was planned (size, time) to the caller, after the last batch.

use std::io::{self, Read};

use crate::bytes::{ByteSource, ByteStream, io_error};
use crate::csv::{Batch, Core, CsvDialect, Parsed, RowSpan, Span, Stop, SyntaxError};
use crate::error::{Place, SourceError};
use crate::split::Chunk;

/// A batch stays in the second-level cache together with its spans.
const BATCH_ROWS: usize = 512;

/// What a reader may use.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Bytes asked from the file at once; the buffer has this size until a longer record comes.
    pub read_bytes: usize,
    /// Longest record, bytes.
    pub row_bytes_max: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        // A read of 1 MiB makes the system call not matter; the longest record is Lightning's.
        Self {
            read_bytes: 1 << 20,
            row_bytes_max: 120 << 20,
        }
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads a chunk batch by batch.
pub struct ChunkReader<R = ByteStream> {
    source: R,
    core: Core,
    path: String,
    /// Bytes of the chunk not yet read from `source`; `None`: until it ends by itself.
    unread: Option<u64>,
    /// Nothing follows what is in `buf`.
    at_end: bool,
    buf: Vec<u8>,
    filled: usize,
    /// Start of what is not yet parsed in `buf`.
    parsed: usize,
    /// Offset in the file of `buf[0]`.
    buf_offset: u64,
    /// Line ends before `buf[parsed]`, from the start of the file; `None` if it is not known.
    lines: Option<u64>,
    batch: Batch,
    header: Option<Vec<String>>,
    pending: Option<SyntaxError>,
    limits: ReadLimits,
}

impl ChunkReader<ByteStream> {
    /// Opens `chunk` of `source` with the usual limits.
    pub fn open(
        source: &dyn ByteSource,
        chunk: &Chunk,
        dialect: &CsvDialect,
    ) -> Result<Self, SourceError> {
        Self::open_with(source, chunk, dialect, ReadLimits::default())
    }

    /// Opens `chunk` of `source`. The header, if the dialect has one and the chunk starts the file, is
    /// read here.
    pub fn open_with(
        source: &dyn ByteSource,
        chunk: &Chunk,
        dialect: &CsvDialect,
        limits: ReadLimits,
    ) -> Result<Self, SourceError> {
        let fail = |error| io_error(source, chunk.offset, error);
        let size = source.size().map_err(fail)?;
        if let Some(size) = size.filter(|size| *size < chunk.end && chunk.end != Chunk::TO_THE_END)
        {
            return Err(SourceError::Truncated {
                place: Place {
                    path: source.name().to_owned(),
                    line: 0,
                    byte: size,
                },
                expected: chunk.end,
            });
        }
        let length =
            (chunk.end != Chunk::TO_THE_END).then(|| chunk.end.saturating_sub(chunk.offset));
        Self::new(
            source.open(chunk.offset).map_err(fail)?,
            source.name().to_owned(),
            chunk.offset,
            length,
            chunk.first_line,
            dialect,
            limits,
        )
    }
}

/// Names of the columns of `source`, in lower case; none without a header or without a record.
pub fn read_header(
    source: &dyn ByteSource,
    dialect: &CsvDialect,
) -> Result<Option<Vec<String>>, SourceError> {
    let whole = Chunk::whole();
    // A header is short; what follows it need not be read.
    let limits = ReadLimits {
        read_bytes: 64 << 10,
        ..ReadLimits::default()
    };
    Ok(ChunkReader::open_with(source, &whole, dialect, limits)?.header)
}

impl<R: Read> ChunkReader<R> {
    /// Reads `length` bytes of `source` (all of it for `None`), which stands at `offset` of the file
    /// `path`, at the start of a record in line `first_line` (0 = not known).
    pub fn new(
        source: R,
        path: String,
        offset: u64,
        length: Option<u64>,
        first_line: u64,
        dialect: &CsvDialect,
        limits: ReadLimits,
    ) -> Result<Self, SourceError> {
        dialect.check()?;
        let mut reader = Self {
            source,
            core: Core::new(dialect),
            path,
            unread: length,
            at_end: false,
            buf: Vec::new(),
            filled: 0,
            parsed: 0,
            buf_offset: offset,
            lines: first_line.checked_sub(1),
            batch: Batch::default(),
            header: None,
            pending: None,
            limits: ReadLimits {
                read_bytes: limits.read_bytes.max(BOM.len()),
                ..limits
            },
        };
        if offset == 0 {
            reader.skip_bom()?;
            if dialect.header {
                reader.read_header()?;
            }
        }
        Ok(reader)
    }

    /// Names of the columns in lower case, if this chunk starts a file that has them.
    pub fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// Offset in the file up to which records were given out.
    pub fn offset(&self) -> u64 {
        self.buf_offset + self.parsed as u64
    }

    /// The next records, `None` after the last one. Records before a wrong one are given out first.
    pub fn next_batch(&mut self) -> Result<Option<RowBatch<'_>>, SourceError> {
        let (start, lines) = match self.parse(BATCH_ROWS)? {
            Some(found) => found,
            None => return Ok(None),
        };
        Ok(Some(RowBatch {
            buf: &self.buf[start..self.filled],
            batch: &self.batch,
            offset: self.buf_offset + start as u64,
            lines,
        }))
    }

    /// Parses until there is at least one row. Gives the place in `buf` that positions refer to, and
    /// the line ends before it.
    fn parse(&mut self, rows_max: usize) -> Result<Option<(usize, Option<u64>)>, SourceError> {
        if let Some(error) = self.pending.take() {
            return Err(self.syntax_error(error));
        }
        loop {
            let (start, lines) = (self.parsed, self.lines);
            let parsed = self.core.parse(
                &self.buf[start..self.filled],
                self.at_end,
                rows_max,
                &mut self.batch,
            );
            self.advance(parsed);
            if let Stop::Syntax(mut error) = parsed.stop {
                error.at += start;
                if parsed.rows == 0 {
                    return Err(self.syntax_error(error));
                }
                self.pending = Some(error);
            }
            if parsed.rows > 0 {
                return Ok(Some((start, lines)));
            }
            match parsed.stop {
                Stop::End => return Ok(None),
                _ => self.refill()?,
            }
        }
    }

    /// Counts the records up to the first one that ends at or after `target`; true if nothing follows.
    pub(crate) fn skip_past(&mut self, target: u64) -> Result<(u64, bool), SourceError> {
        let mut rows = 0;
        while self.offset() < target {
            let rest = &self.buf[self.parsed..self.filled];
            let near = rest
                .len()
                .min(usize::try_from(target - self.offset()).unwrap_or(usize::MAX));
            let all = near == rest.len();
            let mut step = self
                .core
                .skip(&rest[..near], all && self.at_end, usize::MAX);
            if !all && step.consumed == 0 {
                step = self.core.skip(rest, self.at_end, 1);
            }
            if let Stop::Syntax(mut error) = step.stop {
                error.at += self.parsed;
                self.advance(step);
                return Err(self.syntax_error(error));
            }
            self.advance(step);
            rows += step.rows as u64;
            match step.stop {
                Stop::End => return Ok((rows, true)),
                Stop::NeedMore if step.consumed == 0 => self.refill()?,
                _ => {}
            }
        }
        Ok((rows, false))
    }

    /// Line of the next record, from 1; 0 if it is not known.
    pub(crate) fn line(&self) -> u64 {
        self.lines.map_or(0, |lines| lines + 1)
    }

    fn advance(&mut self, parsed: Parsed) {
        self.parsed += parsed.consumed;
        self.lines = self.lines.map(|lines| lines + u64::from(parsed.lines));
    }

    fn skip_bom(&mut self) -> Result<(), SourceError> {
        while self.filled < BOM.len() && !self.at_end {
            self.refill()?;
        }
        if self.buf[..self.filled].starts_with(BOM) {
            self.parsed = BOM.len();
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), SourceError> {
        let place = self.place(self.parsed);
        let Some((start, _)) = self.parse(1)? else {
            return Ok(());
        };
        let buf = &self.buf[start..self.filled];
        let mut names = Vec::new();
        for (i, span) in self.batch.fields(0).iter().enumerate() {
            let bytes = self.batch.text(*span, buf).unwrap_or_default();
            let text = std::str::from_utf8(bytes).map_err(|_| SourceError::HeaderNotText {
                place: place.clone(),
                column: i + 1,
            })?;
            names.push(text.to_lowercase());
        }
        self.header = Some(names);
        Ok(())
    }

    /// Makes room and reads more. The unparsed rest moves to the front; the buffer grows only when one
    /// record fills it, by doubling, so that reading a long record again and again stays linear.
    fn refill(&mut self) -> Result<(), SourceError> {
        let kept = self.filled - self.parsed;
        let ReadLimits {
            read_bytes,
            row_bytes_max,
        } = self.limits;
        if kept > row_bytes_max {
            return Err(SourceError::RowTooLong {
                place: self.place(self.parsed),
                limit: row_bytes_max,
            });
        }
        self.buf.copy_within(self.parsed..self.filled, 0);
        self.buf_offset += self.parsed as u64;
        self.parsed = 0;
        self.filled = kept;
        // One byte more than the longest record tells a too long one from one that just fits.
        let wanted = (2 * kept).min(row_bytes_max + 1).max(read_bytes);
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        // Fill the buffer, not just what one call gives: a short read must not become a short parse.
        while self.filled < self.buf.len() && !self.at_end {
            self.read_some()?;
        }
        Ok(())
    }

    fn read_some(&mut self) -> Result<(), SourceError> {
        let room = self.buf.len() - self.filled;
        let wanted = self.unread.map_or(room, |unread| {
            room.min(usize::try_from(unread).unwrap_or(room))
        });
        if wanted == 0 {
            self.at_end = true;
            return Ok(());
        }
        let target = &mut self.buf[self.filled..self.filled + wanted];
        let got = match self.source.read(target) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(source) => {
                return Err(SourceError::Io {
                    place: self.place(self.filled),
                    source,
                });
            }
        };
        self.filled += got;
        if let Some(unread) = &mut self.unread {
            if got == 0 {
                let expected = self.buf_offset + self.filled as u64 + *unread;
                return Err(SourceError::Truncated {
                    place: self.place(self.filled),
                    expected,
                });
            }
            *unread -= got as u64;
        }
        self.at_end = got == 0 || self.unread == Some(0);
        Ok(())
    }

    fn syntax_error(&self, error: SyntaxError) -> SourceError {
        SourceError::Syntax {
            place: self.place(error.at),
            column: error.column + 1,
            kind: error.kind,
        }
    }

    /// The place of `buf[at]`, with `at` not before the unparsed part.
    fn place(&self, at: usize) -> Place {
        let between = self.buf.get(self.parsed..at).unwrap_or_default();
        let line = self
            .lines
            .map_or(0, |lines| lines + self.core.count_lines(between) + 1);
        Place {
            path: self.path.clone(),
            line,
            byte: self.buf_offset + at as u64,
        }
    }
}

/// Records that lie in the reader's buffer; cheap to look into, gone with the next batch.
pub struct RowBatch<'a> {
    buf: &'a [u8],
    batch: &'a Batch,
    offset: u64,
    lines: Option<u64>,
}

impl<'a> RowBatch<'a> {
    /// Number of records, at least one.
    pub fn len(&self) -> usize {
        self.batch.rows().len()
    }

    /// Never true: a reader ends with `None`.
    pub fn is_empty(&self) -> bool {
        self.batch.rows().is_empty()
    }

    /// The records in source order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let Self {
            buf,
            batch,
            offset,
            lines,
        } = *self;
        batch.rows().iter().enumerate().map(move |(i, row)| Row {
            buf,
            batch,
            fields: batch.fields(i),
            row: *row,
            offset: offset + u64::from(row.start),
            line: lines.map_or(0, |lines| lines + u64::from(row.lines_before) + 1),
        })
    }
}

/// One record.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    buf: &'a [u8],
    batch: &'a Batch,
    fields: &'a [Span],
    row: RowSpan,
    offset: u64,
    line: u64,
}

impl<'a> Row<'a> {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// A record of no field: its only one was dropped as trailing.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields in file order, `None` for NULL.
    #[inline]
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> + use<'a> {
        let Self {
            buf, batch, fields, ..
        } = *self;
        fields.iter().map(move |span| batch.text(*span, buf))
    }

    /// Field `index`: no such field, NULL, or text.
    pub fn field(&self, index: usize) -> Option<Option<&'a [u8]>> {
        self.fields
            .get(index)
            .map(|span| self.batch.text(*span, self.buf))
    }

    /// Offset of the record's first byte in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Line of the record's first byte, from 1; 0 if it is not known.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The record as it is written, without its terminator.
    pub fn written(&self) -> &'a [u8] {
        self.buf
            .get(self.row.start as usize..self.row.end as usize)
            .unwrap_or_default()
    }
}
