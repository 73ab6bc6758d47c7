//! Records of any format: what every reader gives to whoever encodes rows. Owns the values a source can
//! hold and the choice of the reader; leaves casting to the codec, and which field belongs to which column
//! to the agent.

use std::sync::Arc;

use thunderhead_config::{FileFormat, SourceFormat};

use crate::bytes::ByteSource;
use crate::error::{Place, SourceError};
use crate::format::dialect_of;
use crate::parquet::{ParquetReader, column_names, plan_row_groups};
use crate::reader::{ChunkReader, read_header};
use crate::split::{Chunk, SplitPolicy, in_one_piece, plan_chunks};
use crate::sql::{SqlReader, plan_statements};
use crate::window::ReadLimits;

/// A field as the source has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// Text, UTF-8 unless the source is wrong or its character set is binary.
    Text(&'a [u8]),
    /// A hexadecimal or bit literal.
    Binary(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A whole number from zero on.
    UInt(u64),
    /// A FLOAT.
    Float(f32),
    /// A DOUBLE.
    Double(f64),
    /// Days since 1970-01-01.
    Date(i64),
    /// Time of day, microseconds.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00.
    Timestamp {
        /// Of what `utc` says.
        micros: i64,
        /// An instant; otherwise what a clock on a wall shows, whatever the zone.
        utc: bool,
    },
}

/// Where a record starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it in the uncompressed file.
    pub offset: u64,
    /// Line from 1; 0 if it is not known.
    pub line: u64,
}

impl Position {
    /// For people.
    pub fn place(self, file: &str) -> Place {
        Place {
            path: file.to_owned(),
            line: self.line,
            byte: self.offset,
        }
    }
}

/// Reads the records of a chunk in their order, some at a time.
pub trait RecordReader: Send {
    /// Goes on to the next records and says how many they are; 0 after the last one. Records before a
    /// wrong one are given out first.
    fn advance(&mut self) -> Result<usize, SourceError>;

    /// Names of the fields of the records at hand, where the file itself gives them; lower case.
    fn columns(&self) -> Option<&Arc<[String]>>;

    /// Appends the fields of record `index` of those at hand.
    fn record<'a>(&'a self, index: usize, values: &mut Vec<Value<'a>>) -> Position;

    /// Why record `index` of those at hand is none, if malformed ones are skipped; [`RecordReader::record`] gives
    /// what is written there as one text then.
    fn malformed(&self, _index: usize) -> Option<SourceError> {
        None
    }

    /// Offset in the uncompressed file up to which records were given out.
    fn offset(&self) -> u64;
}

/// Opens `chunk` of `source`, which is written in `format`.
pub fn open_records(
    source: &Arc<dyn ByteSource>,
    chunk: &Chunk,
    format: &SourceFormat,
) -> Result<Box<dyn RecordReader>, SourceError> {
    open_records_with(source, chunk, format, ReadLimits::default())
}

/// The same within `limits`, as far as the format has records of any length.
pub fn open_records_with(
    source: &Arc<dyn ByteSource>,
    chunk: &Chunk,
    format: &SourceFormat,
    limits: ReadLimits,
) -> Result<Box<dyn RecordReader>, SourceError> {
    let bytes = &**source;
    Ok(match format.kind {
        FileFormat::Csv => {
            let dialect = dialect_of(format)?;
            Box::new(ChunkReader::open_with(bytes, chunk, &dialect, limits)?)
        }
        FileFormat::Sql => Box::new(SqlReader::open_with(bytes, chunk, format, limits)?),
        FileFormat::Parquet => Box::new(ParquetReader::open(source, chunk)?),
    })
}

/// Cuts `source` into chunks of about `chunk_bytes`.
pub fn plan_records(
    source: &Arc<dyn ByteSource>,
    format: &SourceFormat,
    chunk_bytes: u64,
    policy: SplitPolicy,
) -> Result<Vec<Chunk>, SourceError> {
    match format.kind {
        FileFormat::Csv => plan_chunks(&**source, &dialect_of(format)?, chunk_bytes, policy),
        FileFormat::Sql => match in_one_piece(&**source, chunk_bytes, policy)? {
            Some(chunk) => Ok(chunk),
            None => plan_statements(&**source, format, chunk_bytes),
        },
        FileFormat::Parquet => plan_row_groups(source, chunk_bytes),
    }
}

/// Names of the columns that hold for the whole file, in lower case: a CSV header, the
/// schema of a Parquet file.
pub fn read_columns(
    source: &Arc<dyn ByteSource>,
    format: &SourceFormat,
) -> Result<Option<Vec<String>>, SourceError> {
    match format.kind {
        FileFormat::Csv => read_header(&**source, &dialect_of(format)?),
        FileFormat::Sql => Ok(None),
        FileFormat::Parquet => column_names(source).map(Some),
    }
}
