//! The part of a stream that is in memory: bytes not yet parsed, moved to the front and refilled as readers
//! go on. Owns the read buffer, its limits and positions in the file; leaves the meaning of the bytes to
//! the readers.

use std::io::{self, Read};

use crate::csv::count_lines;
use crate::error::{Place, SourceError};

/// What a reader may use.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Bytes asked from the file at once; the buffer has this size until a longer record comes.
    pub read_bytes: usize,
    /// Longest record, bytes.
    pub row_bytes_max: usize,
}

impl ReadLimits {
    /// For one of `readers` at a time in `memory_bytes`: a record is held as it is read, as fields, as pairs and in a
    /// buffer that is sorted.
    pub fn within(memory_bytes: u64, readers: u32) -> Self {
        const HELD_TIMES: u64 = 8;
        /// TiDB itself takes records of 6 MiB, unless it is told otherwise.
        const ROW_BYTES_MIN: u64 = 8 << 20;
        let share = memory_bytes / (HELD_TIMES * u64::from(readers.max(1)));
        let limits = Self::default();
        let row_bytes = share.clamp(ROW_BYTES_MIN, limits.row_bytes_max as u64);
        Self {
            row_bytes_max: row_bytes as usize,
            ..limits
        }
    }
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

/// The byte order mark of UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// A range of a stream, seen through a buffer.
pub(crate) struct Window<R> {
    stream: R,
    path: String,
    /// Bytes of the range not yet read from `stream`; `None`: until it ends by itself.
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
    /// The byte that counts lines; none for CR, LF and CRLF together.
    line_byte: Option<u8>,
    limits: ReadLimits,
}

/// Where a window starts.
pub(crate) struct Range {
    /// The file as the user knows it.
    pub path: String,
    /// First byte.
    pub offset: u64,
    /// Bytes; `None`: until the stream ends.
    pub length: Option<u64>,
    /// Line of `offset`, from 1; 0 if it is not known.
    pub first_line: u64,
}

impl<R: Read> Window<R> {
    /// A window over `stream`, which stands at the start of `range`.
    pub fn new(stream: R, range: Range, line_byte: Option<u8>, limits: ReadLimits) -> Self {
        Self {
            stream,
            path: range.path,
            unread: range.length,
            at_end: false,
            buf: Vec::new(),
            filled: 0,
            parsed: 0,
            buf_offset: range.offset,
            lines: range.first_line.checked_sub(1),
            line_byte,
            limits: ReadLimits {
                read_bytes: limits.read_bytes.max(BOM.len()),
                ..limits
            },
        }
    }

    /// The bytes in memory that were not consumed yet.
    pub fn rest(&self) -> &[u8] {
        &self.buf[self.parsed..self.filled]
    }

    /// The bytes in memory from a place in the buffer on, also consumed ones.
    pub fn from(&self, start: usize) -> &[u8] {
        &self.buf[start..self.filled]
    }

    /// Where in the buffer the unconsumed bytes start, for [`Window::from`].
    pub fn parsed(&self) -> usize {
        self.parsed
    }

    /// Whether no byte follows [`Window::rest`].
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Offset in the file of a place in the buffer.
    pub fn offset_of(&self, start: usize) -> u64 {
        self.buf_offset + start as u64
    }

    /// Offset in the file of the first unconsumed byte.
    pub fn offset(&self) -> u64 {
        self.offset_of(self.parsed)
    }

    /// Line ends before the first unconsumed byte, if they are known.
    pub fn lines(&self) -> Option<u64> {
        self.lines
    }

    /// Drops bytes from the front of the rest that hold so many line ends.
    pub fn consume(&mut self, bytes: usize, lines: u64) {
        self.parsed += bytes;
        self.lines = self.lines.map(|before| before + lines);
    }

    /// Drops bytes from the front of the rest and counts the lines in them.
    pub fn consume_counted(&mut self, bytes: usize) {
        let lines = count_lines(&self.rest()[..bytes], self.line_byte);
        self.consume(bytes, lines);
    }

    /// Drops a byte order mark, if the rest starts with one.
    pub fn skip_bom(&mut self) -> Result<(), SourceError> {
        while self.rest().len() < BOM.len() && !self.at_end {
            self.refill()?;
        }
        if self.rest().starts_with(BOM) {
            self.consume(BOM.len(), 0);
        }
        Ok(())
    }

    /// The place of byte `at` of the rest.
    pub fn place(&self, at: usize) -> Place {
        self.place_from(self.parsed, self.lines, at)
    }

    /// The place of byte `at` behind a place in the buffer that has so many line ends before it.
    pub fn place_from(&self, start: usize, lines: Option<u64>, at: usize) -> Place {
        let between = self.from(start).get(..at).unwrap_or_default();
        let line = lines.map_or(0, |lines| lines + count_lines(between, self.line_byte) + 1);
        Place {
            path: self.path.clone(),
            line,
            byte: self.offset_of(start) + at as u64,
        }
    }

    /// Makes room and reads more. The unparsed rest moves to the front; the buffer grows only when one
    /// record fills it, by doubling, so that reading a long record again and again stays linear.
    pub fn refill(&mut self) -> Result<(), SourceError> {
        let kept = self.filled - self.parsed;
        let ReadLimits {
            read_bytes,
            row_bytes_max,
        } = self.limits;
        if kept > row_bytes_max {
            return Err(SourceError::RowTooLong {
                place: self.place(0),
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
        let got = match self.stream.read(target) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(source) => {
                return Err(SourceError::Io {
                    place: self.place(self.filled - self.parsed),
                    source,
                });
            }
        };
        self.filled += got;
        if let Some(unread) = &mut self.unread {
            if got == 0 {
                let expected = self.buf_offset + self.filled as u64 + *unread;
                return Err(SourceError::Truncated {
                    place: self.place(self.filled - self.parsed),
                    expected,
                });
            }
            *unread -= got as u64;
        }
        self.at_end = got == 0 || self.unread == Some(0);
        Ok(())
    }
}
