//! Reads the CSV records of one byte range of a file in bounded memory. Owns the header and what comes
//! before it; leaves the buffer to [`crate::window`], lexing to [`crate::csv::Core`] and the question
//! whether the file is still the one that was planned (size, time) to the caller, after the last batch.

use std::io::Read;
use std::sync::Arc;

use crate::bytes::{ByteSource, ByteStream, io_error};
use crate::csv::{Batch, Core, CsvDialect, RowSpan, Span, Stop, SyntaxError};
use crate::error::{Place, SourceError};
use crate::record::{Position, RecordReader, Value};
use crate::split::Chunk;
use crate::window::{Range, ReadLimits, Window};

/// A batch stays in the second-level cache together with its spans.
const BATCH_ROWS: usize = 512;

/// Reads a chunk batch by batch.
pub struct ChunkReader<R = ByteStream> {
    window: Window<R>,
    core: Core,
    batch: Batch,
    /// Where in the window the positions of `batch` start, and the line ends before that.
    batch_at: (usize, Option<u64>),
    header: Option<Vec<String>>,
    pending: Option<SyntaxError>,
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
        let (stream, length) = open_chunk(source, chunk)?;
        Self::new(
            stream,
            source.name().to_owned(),
            chunk.offset,
            length,
            chunk.first_line,
            dialect,
            limits,
        )
    }
}

/// The bytes of `chunk` and how many they are, if that is known; the source must still hold them.
pub(crate) fn open_chunk(
    source: &dyn ByteSource,
    chunk: &Chunk,
) -> Result<(ByteStream, Option<u64>), SourceError> {
    let fail = |error| io_error(source, chunk.offset, error);
    let to_the_end = chunk.end == Chunk::TO_THE_END;
    let size = source.size().map_err(fail)?;
    if let Some(size) = size.filter(|size| *size < chunk.end && !to_the_end) {
        return Err(SourceError::Truncated {
            place: Place {
                path: source.name().to_owned(),
                line: 0,
                byte: size,
            },
            expected: chunk.end,
        });
    }
    let length = (!to_the_end).then(|| chunk.end.saturating_sub(chunk.offset));
    Ok((source.open(chunk.offset).map_err(fail)?, length))
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
        let core = Core::new(dialect);
        let range = Range {
            path,
            offset,
            length,
            first_line,
        };
        let mut reader = Self {
            window: Window::new(source, range, core.line_byte(), limits),
            core,
            batch: Batch::default(),
            batch_at: (0, None),
            header: None,
            pending: None,
        };
        if offset == 0 {
            reader.window.skip_bom()?;
            reader.skip_lines(dialect.skip_lines)?;
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
        self.window.offset()
    }

    /// The next records, `None` after the last one. Records before a wrong one are given out first.
    pub fn next_batch(&mut self) -> Result<Option<RowBatch<'_>>, SourceError> {
        Ok(if self.parse(BATCH_ROWS)? {
            Some(self.batch())
        } else {
            None
        })
    }

    /// The records that were parsed last.
    fn batch(&self) -> RowBatch<'_> {
        let (start, lines) = self.batch_at;
        RowBatch {
            buf: self.window.from(start),
            batch: &self.batch,
            offset: self.window.offset_of(start),
            lines,
        }
    }

    /// Parses until there is at least one row; false after the last one.
    fn parse(&mut self, rows_max: usize) -> Result<bool, SourceError> {
        if let Some(error) = self.pending.take() {
            return Err(self.syntax_error(error));
        }
        loop {
            self.batch_at = (self.window.parsed(), self.window.lines());
            let at_end = self.window.at_end();
            let parsed = self
                .core
                .parse(self.window.rest(), at_end, rows_max, &mut self.batch);
            self.core.recode(self.window.rest(), &mut self.batch);
            self.window.consume(parsed.consumed, parsed.lines.into());
            if let Stop::Syntax(mut error) = parsed.stop {
                error.at -= parsed.consumed;
                if parsed.rows == 0 {
                    return Err(self.syntax_error(error));
                }
                self.pending = Some(error);
            }
            if parsed.rows > 0 {
                return Ok(true);
            }
            match parsed.stop {
                Stop::End => return Ok(false),
                _ => self.window.refill()?,
            }
        }
    }

    /// Counts the records up to the first one that ends at or after `target`; true if nothing follows.
    pub(crate) fn skip_past(&mut self, target: u64) -> Result<(u64, bool), SourceError> {
        let mut rows = 0;
        while self.offset() < target {
            let rest = self.window.rest();
            let near = rest
                .len()
                .min(usize::try_from(target - self.offset()).unwrap_or(usize::MAX));
            let all = near == rest.len();
            let at_end = self.window.at_end();
            let mut step = self.core.skip(&rest[..near], all && at_end, usize::MAX);
            if !all && step.consumed == 0 {
                step = self.core.skip(rest, at_end, 1);
            }
            self.window.consume(step.consumed, step.lines.into());
            rows += step.rows as u64;
            match step.stop {
                Stop::End => return Ok((rows, true)),
                Stop::Syntax(mut error) => {
                    error.at -= step.consumed;
                    return Err(self.syntax_error(error));
                }
                Stop::NeedMore if step.consumed == 0 => self.window.refill()?,
                _ => {}
            }
        }
        Ok((rows, false))
    }

    /// Line of the next record, from 1; 0 if it is not known.
    pub(crate) fn line(&self) -> u64 {
        self.window.lines().map_or(0, |lines| lines + 1)
    }

    /// Drops lines at the start of the file, whatever they hold: quotes mean nothing there.
    fn skip_lines(&mut self, count: u64) -> Result<(), SourceError> {
        for _ in 0..count {
            loop {
                let (rest, at_end) = (self.window.rest(), self.window.at_end());
                if let Some(end) = self.core.line_end(rest, at_end) {
                    self.window.consume_counted(end);
                    break;
                }
                if at_end {
                    let all = rest.len();
                    self.window.consume_counted(all);
                    return Ok(());
                }
                self.window.refill()?;
            }
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), SourceError> {
        let place = self.window.place(0);
        if !self.parse(1)? {
            return Ok(());
        }
        if let Some(error) = self.malformed_at(0) {
            return Err(error);
        }
        let (start, _) = self.batch_at;
        let mut names = Vec::new();
        for (i, span) in self.batch.fields(0).iter().enumerate() {
            let bytes = self.batch.text(*span, self.window.from(start));
            let text = std::str::from_utf8(bytes.unwrap_or_default()).map_err(|_| {
                SourceError::HeaderNotText {
                    place: place.clone(),
                    column: i + 1,
                }
            })?;
            names.push(text.to_lowercase());
        }
        self.header = Some(names);
        Ok(())
    }

    /// Why record `index` of the batch is none.
    #[inline]
    fn malformed_at(&self, index: usize) -> Option<SourceError> {
        let error = self.batch.malformed(index)?;
        let (start, lines) = self.batch_at;
        let place = self.window.place_from(start, lines, error.at);
        Some(syntax_error(place, error))
    }

    fn syntax_error(&self, error: SyntaxError) -> SourceError {
        syntax_error(self.window.place(error.at), error)
    }
}

fn syntax_error(place: Place, error: SyntaxError) -> SourceError {
    SourceError::Syntax {
        place,
        column: error.column + 1,
        kind: error.kind,
    }
}

impl<R: Read + Send> RecordReader for ChunkReader<R> {
    fn advance(&mut self) -> Result<usize, SourceError> {
        Ok(if self.parse(BATCH_ROWS)? {
            self.batch.rows().len()
        } else {
            0
        })
    }

    fn columns(&self) -> Option<&Arc<[String]>> {
        None
    }

    fn record<'a>(&'a self, index: usize, values: &mut Vec<Value<'a>>) -> Position {
        let batch = self.batch();
        let (buf, row) = (batch.buf, self.batch.rows()[index]);
        values.extend(
            self.batch
                .fields(index)
                .iter()
                .map(|span| self.batch.text(*span, buf).map_or(Value::Null, Value::Text)),
        );
        if self.batch.malformed(index).is_some() {
            let written = buf.get(row.start as usize..row.end as usize);
            values.push(Value::Text(written.unwrap_or_default()));
        }
        Position {
            offset: batch.offset + u64::from(row.start),
            line: batch
                .lines
                .map_or(0, |lines| lines + u64::from(row.lines_before) + 1),
        }
    }

    fn malformed(&self, index: usize) -> Option<SourceError> {
        self.malformed_at(index)
    }

    fn offset(&self) -> u64 {
        self.window.offset()
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
            index: i,
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
    index: usize,
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

    /// Why this is no record, if malformed ones are skipped: the offset in the file of the byte to look at, and the
    /// reason.
    pub fn malformed(&self) -> Option<(u64, SyntaxError)> {
        let error = self.batch.malformed(self.index)?;
        let into = error.at as u64 - u64::from(self.row.start);
        Some((self.offset + into, error))
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
