//! The bytes of a Parquet file for the library: its footer, the headers of its pages, and its pages. What the
//! library reads as Thrift was looked at before, by the rules of [`super::thrift`]. It asks for a reader at every
//! page; pages of a column follow each other, so the stream of a page that was read is kept for the one that
//! comes next.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::errors::{ParquetError, Result};
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{ColumnChunkMetaData, FooterTail};
use parquet::file::reader::{ChunkReader, Length};

use super::thrift::{self, Wrong};
use crate::bytes::{ByteSource, ByteStream};

/// Columns beyond these are read at the cost of opening a stream for each of their pages: so many streams,
const KEPT_MAX: usize = 512;
/// and so many bytes of them.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Headers of pages are read byte by byte; pages themselves go past the buffer.
const BUFFER: usize = 4 << 10;

/// The end of a file, where most footers fit in: one read, one request to a store.
const TAIL_BYTES: u64 = 64 << 10;
/// A footer of ten thousand columns in a thousand row groups has so many bytes.
const FOOTER_BYTES_MAX: u64 = 1 << 30;

type Stream = BufReader<ByteStream>;

/// A file for the library.
pub(super) struct Input {
    source: Arc<dyn ByteSource>,
    size: u64,
    /// Streams by the offset they stand at.
    kept: Mutex<BTreeMap<u64, Stream>>,
    kept_max: usize,
}

impl Input {
    pub(super) fn new(source: Arc<dyn ByteSource>) -> io::Result<Self> {
        let size = source.size()?.ok_or_else(|| {
            io::Error::other("a Parquet file cannot be read from inside of another packing")
        })?;
        let kept_max = KEPT_BYTES_MAX / source.narrow_bytes().max(1);
        Ok(Self {
            source,
            size,
            kept: Mutex::default(),
            kept_max: kept_max.clamp(1, KEPT_MAX),
        })
    }

    /// The footer without its length and mark, proved to be harmless.
    pub(super) fn footer(&self) -> std::result::Result<Bytes, Wrong> {
        let wrong = |byte, why: String| Wrong::Bytes { byte, why };
        let tail_start = self.size.saturating_sub(TAIL_BYTES);
        let tail = self.read(tail_start, (self.size - tail_start) as usize)?;
        let Some((rest, mark)) = tail.split_last_chunk::<FOOTER_SIZE>() else {
            return Err(wrong(0, format!("the file has {} bytes only", self.size)));
        };
        let end = self.size - FOOTER_SIZE as u64;
        let mark = FooterTail::try_new(mark).map_err(|error| wrong(end, error.to_string()))?;
        if mark.is_encrypted_footer() {
            return Err(wrong(end, "the footer is encrypted".to_owned()));
        }
        let length = mark.metadata_length() as u64;
        let Some(start) = end
            .checked_sub(length)
            .filter(|_| length <= FOOTER_BYTES_MAX)
        else {
            return Err(wrong(end, format!("the footer cannot have {length} bytes")));
        };
        let footer = match rest.len().checked_sub(length as usize) {
            Some(at) => tail.slice(at..rest.len()),
            None => self.read(start, length as usize)?,
        };
        thrift::check_footer(&footer, start)?;
        Ok(footer)
    }

    /// Whether the pages of `column` can be where the footer says.
    pub(super) fn holds(&self, column: &ColumnChunkMetaData) -> bool {
        let start = column.dictionary_page_offset();
        let start = u64::try_from(start.unwrap_or_else(|| column.data_page_offset()));
        let (Ok(start), Ok(length)) = (start, u64::try_from(column.compressed_size())) else {
            return false;
        };
        start
            .checked_add(length)
            .is_some_and(|end| end <= self.size)
    }

    /// A stream at `start`, for `reading`, which says how far it went.
    fn at<T, E: From<io::Error>>(
        &self,
        start: u64,
        reading: impl FnOnce(&mut Stream) -> std::result::Result<(T, usize), E>,
    ) -> std::result::Result<T, E> {
        let kept = self.kept.lock().remove(&start);
        let mut stream = match kept {
            Some(stream) => stream,
            None => BufReader::with_capacity(BUFFER, self.source.open_narrow(start)?),
        };
        let (read, count) = reading(&mut stream)?;
        let (end, mut kept) = (start + count as u64, self.kept.lock());
        if end < self.size && kept.len() < self.kept_max {
            kept.insert(end, stream);
        }
        Ok(read)
    }

    /// Bytes that are there.
    fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        self.at(start, |stream| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes)?;
            Ok((bytes.into(), length))
        })
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Input {
    type T = Cursor<Vec<u8>>;

    /// Asked for the header of a page, and nothing else: the footer was read by [`Input::footer`].
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let left = self.size.saturating_sub(start);
        let header = self.at(start, |stream| {
            let header = thrift::read_page_header(stream, start, left)?;
            let count = header.len();
            Ok((header, count))
        });
        header.map(Cursor::new).map_err(|wrong| match wrong {
            Wrong::Io(error) => external(error),
            Wrong::Bytes { byte, why } => {
                ParquetError::General(format!("the header of a page at byte {byte}: {why}"))
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.saturating_add(length as u64) > self.size {
            let why = format!("bytes {start} and {length} more lie behind the end of the file");
            return Err(ParquetError::EOF(why));
        }
        self.read(start, length).map_err(external)
    }
}

fn external(error: io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
