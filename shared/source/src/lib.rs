//! Reading source files: records with their positions, no matter which format they come in. Owns the
//! CSV dialect and lexing, reading a byte range of a file in bounded memory, and cutting a file at true
//! record boundaries. Leaves casting and character checks to the codec, and which file belongs to
//! which table to the config.
//!
//! Bytes come out of a [`bytes::ByteSource`], whatever holds them.
//! The flow: [`split::plan_chunks`] cuts a file into [`split::Chunk`]s; a [`reader::ChunkReader`]
//! reads one of them as [`reader::RowBatch`]es, with [`csv::Core`] finding the fields.

pub mod bytes;
pub mod compress;
pub mod csv;
mod error;
mod exact;
mod format;
mod guess;
mod parquet;
pub mod reader;
mod record;
mod side_by_side;
pub mod split;
pub mod sql;
pub mod store;
mod window;

pub use bytes::{
    ByteSource, ByteStream, Entry, Identity, LocalFile, packed_ratio, read_whole, source_at,
    stored_at,
};
pub use compress::{packing_of, unpacked, unpacked_from};
pub use csv::CsvDialect;
pub use error::{Place, SourceError};
pub use format::dialect_of;
pub use guess::{Guess, guess};
pub use reader::{ChunkReader, Row, RowBatch, read_header};
pub use record::{
    Position, RecordReader, Value, open_records, open_records_with, plan_records, read_columns,
};
pub use side_by_side::side_by_side;
pub use split::{Chunk, SplitPolicy, plan_chunks, rows_max};
pub use window::ReadLimits;
