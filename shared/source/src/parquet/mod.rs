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
mod pages;
mod reader;
mod runs;
mod texts;
mod thrift;

use std::sync::Arc;

use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
    RowGroupMetaData,
};
use parquet::file::properties::{ReaderProperties, ReaderPropertiesPtr};
use parquet::file::serialized_reader::SerializedRowGroupReader;

use crate::bytes::{ByteSource, io_error};
use crate::error::{Place, SourceError};
use crate::split::Chunk;
use input::Input;
pub(crate) use reader::ParquetReader;
use thrift::Wrong;

/// A file whose footer was read.
struct File {
    input: Arc<Input>,
    metadata: ParquetMetaData,
    properties: ReaderPropertiesPtr,
}

impl File {
    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    fn row_group(&self, number: usize) -> ParquetResult<SerializedRowGroupReader<'_, Input>> {
        SerializedRowGroupReader::new(
            Arc::clone(&self.input),
            self.metadata.row_group(number),
            self.metadata.page_index_for_row_group(number),
            Arc::clone(&self.properties),
        )
    }
}

fn open(source: &Arc<dyn ByteSource>) -> Result<File, SourceError> {
    let place = |byte| Place {
        path: source.name().to_owned(),
        line: 0,
        byte,
    };
    let not_read = |error| io_error(&**source, 0, error);
    let input = Input::new(Arc::clone(source)).map_err(not_read)?;
    let footer = input.footer().map_err(|wrong| match wrong {
        Wrong::Io(error) => not_read(error),
        Wrong::Bytes { byte, why } => SourceError::Parquet {
            place: place(byte),
            why,
        },
    })?;
    // Nobody here asks what values are in a column.
    let nothing = ParquetStatisticsPolicy::SkipAll;
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(nothing.clone())
        .with_size_stats_policy(nothing);
    let metadata = ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options))
        .map_err(|error| at(source.name(), 0, 0, &error))?;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        if !group.columns().iter().all(|column| input.holds(column)) {
            return Err(SourceError::Parquet {
                place: place(0),
                why: format!("a column of row group {number} lies outside of the file"),
            });
        }
    }
    Ok(File {
        input: Arc::new(input),
        metadata,
        properties: Arc::new(ReaderProperties::builder().build()),
    })
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
