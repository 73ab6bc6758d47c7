//! The bytes of a Parquet file for the library. It asks for a reader at every page; pages of a column follow
//! each other, so the stream of a page that was read is kept for the one that comes next.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::bytes::{ByteSource, ByteStream};

/// Columns beyond these are read at the cost of opening a stream for each of their pages: so many streams,
const KEPT_MAX: usize = 512;
/// and so many bytes of them.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// The library reads headers of pages byte by byte; pages themselves go past the buffer.
const BUFFER: usize = 4 << 10;

/// Streams by the offset they stand at.
type Kept = Arc<Mutex<BTreeMap<u64, BufReader<ByteStream>>>>;

/// A file for the library.
pub(super) struct Input {
    source: Arc<dyn ByteSource>,
    size: u64,
    kept: Kept,
    kept_max: usize,
}

impl Input {
    pub(super) fn new(source: Arc<dyn ByteSource>) -> Result<Self> {
        let size = source.size().map_err(external)?.ok_or_else(|| {
            ParquetError::General(
                "a Parquet file cannot be read from inside of another packing".into(),
            )
        })?;
        let kept_max = KEPT_BYTES_MAX / source.narrow_bytes().max(1);
        Ok(Self {
            source,
            size,
            kept: Kept::default(),
            kept_max: kept_max.clamp(1, KEPT_MAX),
        })
    }
}

fn external(error: io::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Input {
    type T = Part;

    fn get_read(&self, start: u64) -> Result<Part> {
        let kept = self.kept.lock().remove(&start);
        let stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = self.source.open_narrow(start).map_err(external)?;
                BufReader::with_capacity(BUFFER, stream)
            }
        };
        Ok(Part {
            stream: Some(stream),
            at: start,
            kept: Arc::clone(&self.kept),
            kept_max: self.kept_max,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.saturating_add(length as u64) > self.size {
            let why = format!("bytes {start} and {length} more lie behind the end of the file");
            return Err(ParquetError::EOF(why));
        }
        let mut bytes = vec![0; length];
        let read = self.get_read(start)?.read_exact(&mut bytes);
        read.map_err(external)?;
        Ok(bytes.into())
    }
}

/// A stream that is kept when its reader is done.
pub(super) struct Part {
    stream: Option<BufReader<ByteStream>>,
    at: u64,
    kept: Kept,
    kept_max: usize,
}

impl Read for Part {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else {
            return Ok(0);
        };
        let count = stream.read(to)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut kept = self.kept.lock();
        if let Some(stream) = self.stream.take()
            && kept.len() < self.kept_max
        {
            kept.insert(self.at, stream);
        }
    }
}
