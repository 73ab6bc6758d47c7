//! Parquet files: cut by row groups, read page by page. Owns what a column's type means as a [`Value`] and
//! how much of a file is in memory; pages are the library's, and so are their encodings but those of texts.
//!
//! A row group is never held as a whole: each column stands at one page, whatever the group's size, and
//! rows are taken from all columns a batch at a time.
//!
//! [`Value`]: crate::record::Value

mod cells;
mod decimal;
mod input;
mod kind;
mod reader;
mod runs;
mod texts;

use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use crate::bytes::ByteSource;
use crate::error::{Place, SourceError};
use crate::split::Chunk;
use input::Input;
pub(crate) use reader::ParquetReader;

type File = SerializedFileReader<Input>;

fn open(source: &Arc<dyn ByteSource>) -> Result<File, SourceError> {
    let wrong = |error| at(source.name(), 0, 0, &error);
    let input = Input::new(Arc::clone(source)).map_err(wrong)?;
    SerializedFileReader::new(input).map_err(wrong)
}

fn at(file: &str, line: u64, byte: u64, error: &ParquetError) -> SourceError {
    SourceError::Parquet {
        place: Place {
            path: file.to_owned(),
            line,
            byte,
        },
        why: error.to_string(),
    }
}

/// First byte of a row group.
fn start_of(group: &RowGroupMetaData) -> u64 {
    let starts = group.columns().iter().map(|column| column.byte_range().0);
    starts.min().unwrap_or(0)
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Cuts a file between row groups into chunks of about `chunk_bytes`. `first_line` counts rows.
pub(crate) fn plan_row_groups(
    source: &Arc<dyn ByteSource>,
    chunk_bytes: u64,
) -> Result<Vec<Chunk>, SourceError> {
    let file = open(source)?;
    kind::columns(file.metadata().file_metadata().schema_descr()).map_err(unsupported)?;
    let size = source.size().ok().flatten().unwrap_or(Chunk::TO_THE_END);
    let groups = file.metadata().row_groups();
    let (mut chunks, mut rows): (Vec<Chunk>, u64) = (Vec::new(), 0);
    for group in groups {
        let start = start_of(group);
        match chunks.last_mut() {
            Some(last) if start.saturating_sub(last.offset) < chunk_bytes => {
                last.rows_max += rows_of(group);
            }
            last => {
                let first = last.is_none();
                if let Some(last) = last {
                    last.end = start;
                }
                chunks.push(Chunk {
                    offset: if first { 0 } else { start },
                    end: size,
                    first_line: rows + 1,
                    rows_max: rows_of(group),
                    rows_exact: true,
                    statement: None,
                });
            }
        }
        rows += rows_of(group);
    }
    Ok(chunks)
}

/// Names of the columns, in lower case.
pub(crate) fn column_names(source: &Arc<dyn ByteSource>) -> Result<Vec<String>, SourceError> {
    let file = open(source)?;
    let columns = kind::columns(file.metadata().file_metadata().schema_descr());
    let columns = columns.map_err(unsupported)?;
    Ok(columns.into_iter().map(|column| column.name).collect())
}

fn unsupported(what: String) -> SourceError {
    SourceError::Unsupported { what }
}
