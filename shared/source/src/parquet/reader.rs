//! Rows of a chunk: batches of every column, side by side. Owns which rows and how many at a time; the values
//! of a column are [`super::cells`]'s.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::RowGroupReader;

use super::cells::Cells;
use super::kind::{Column, Kind, columns};
use super::pages::Checked;
use super::texts::{TextReader, is_read, wrong};
use super::{File, at, open, rows_of, start_of, unsupported};
use crate::bytes::ByteSource;
use crate::error::SourceError;
use crate::record::{Position, RecordReader, Value};
use crate::split::Chunk;

/// Rows of a batch: enough to make its start not matter.
const BATCH_ROWS_MAX: u64 = 1024;
/// Bytes that the values of a batch should not pass, by the mean row of the group.
const BATCH_BYTES: u64 = 4 << 20;

/// Texts of a column in a batch end at twice its share of that, and not before this: a few rows may hold most of a group.
const TEXT_BYTES_MIN: usize = 64 << 10;

/// A column of the row group at hand.
pub(super) enum Open {
    Library(Box<ColumnReader>),
    Texts(Box<TextReader>),
}

/// Reads the rows of a chunk.
pub(crate) struct ParquetReader {
    file: File,
    name: String,
    columns: Vec<Column>,
    /// Row groups to come.
    groups: VecDeque<usize>,
    /// The one at hand: its columns, rows left, rows of a batch.
    open: Vec<Open>,
    left: u64,
    batch_rows: u64,
    /// By column.
    batch: Vec<Cells>,
    /// Number of the first row at hand in the file, from 1, and how many are at hand.
    row: u64,
    count: u64,
    /// First byte of the chunk, its bytes, its rows, and how many were given out.
    start: u64,
    bytes: u64,
    rows: u64,
    done: u64,
}

impl ParquetReader {
    pub(crate) fn open(source: &Arc<dyn ByteSource>, chunk: &Chunk) -> Result<Self, SourceError> {
        let file = open(source)?;
        let size = source.size().ok().flatten().unwrap_or(chunk.end);
        let columns =
            columns(file.metadata().file_metadata().schema_descr()).map_err(unsupported)?;
        let (mut groups, mut before, mut rows) = (VecDeque::new(), 0, 0);
        for (number, group) in file.metadata().row_groups().iter().enumerate() {
            let start = start_of(group);
            if (chunk.offset..chunk.end).contains(&start) {
                groups.push_back(number);
                rows += rows_of(group);
            } else if rows == 0 {
                before += rows_of(group);
            }
        }
        Ok(Self {
            batch: columns
                .iter()
                .map(|column| Cells::new(column.kind))
                .collect(),
            file,
            name: source.name().to_owned(),
            columns,
            groups,
            open: Vec::new(),
            left: 0,
            batch_rows: 1,
            row: before + 1,
            count: 0,
            start: chunk.offset,
            bytes: chunk.end.min(size).saturating_sub(chunk.offset),
            rows,
            done: 0,
        })
    }

    fn fail(&self, error: &ParquetError) -> SourceError {
        at(&self.name, self.row, self.offset(), error)
    }

    fn next_group(&mut self) -> ParquetResult<bool> {
        let Some(number) = self.groups.pop_front() else {
            return Ok(false);
        };
        let group = self.file.row_group(number)?;
        let meta = self.file.metadata().row_group(number);
        self.left = rows_of(meta);
        let bytes = u64::try_from(meta.total_byte_size()).unwrap_or(0);
        let row_bytes = bytes / self.left.max(1) + 16 * self.columns.len() as u64;
        self.batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS_MAX);
        self.open.clear();
        for column in 0..self.columns.len() {
            let chunk = meta.column(column);
            let pages = group.get_column_page_reader(column)?;
            let decimal = matches!(self.columns[column].kind, Kind::Decimal(_));
            self.open.push(match is_read(chunk) && !decimal {
                true => Open::Texts(Box::new(TextReader::new(pages, chunk))),
                false => {
                    let descr = chunk.column_descr_ptr();
                    let pages = Checked::new(pages, descr.max_def_level() > 0);
                    Open::Library(Box::new(get_column_reader(descr, Box::new(pages))))
                }
            });
        }
        Ok(true)
    }

    fn fill(&mut self) -> ParquetResult<()> {
        self.row += self.count;
        for cells in &mut self.batch {
            cells.skip(self.count as usize);
        }
        self.count = 0;
        while self.left == 0 {
            if !self.next_group()? {
                return Ok(());
            }
        }
        // A column that has more than the others keeps it for the next batch.
        let mut count = self.batch_rows.min(self.left);
        let bytes = (2 * BATCH_BYTES as usize / self.columns.len().max(1)).max(TEXT_BYTES_MIN);
        for (at, reader) in self.open.iter_mut().enumerate() {
            let cells = &mut self.batch[at];
            if cells.len() == 0 {
                cells.read(reader, self.batch_rows.min(self.left) as usize, bytes)?;
            }
            if cells.len() == 0 {
                let why = format!("column {:?} ends too early", self.columns[at].name);
                return Err(ParquetError::EOF(why));
            }
            count = count.min(cells.len() as u64);
        }
        self.count = count;
        self.left -= count;
        self.done += count;
        Ok(())
    }
}

impl RecordReader for ParquetReader {
    fn advance(&mut self) -> Result<usize, SourceError> {
        // The library panics at some bytes that no writer writes; what it held then is not read again.
        let filled = catch_unwind(AssertUnwindSafe(|| self.fill()));
        let filled = filled.unwrap_or_else(|_| Err(wrong("the bytes of a page make no sense")));
        filled.map_err(|e| self.fail(&e))?;
        Ok(self.count as usize)
    }

    fn columns(&self) -> Option<&Arc<[String]>> {
        None
    }

    fn record<'a>(&'a self, index: usize, values: &mut Vec<Value<'a>>) -> Position {
        values.extend(self.batch.iter().map(|cells| cells.value(index)));
        Position {
            offset: self.offset(),
            line: self.row + index as u64,
        }
    }

    /// Pages of many columns are read at a time: the offset follows the rows.
    fn offset(&self) -> u64 {
        let part = u128::from(self.bytes) * u128::from(self.done) / u128::from(self.rows.max(1));
        self.start + u64::try_from(part).unwrap_or(self.bytes)
    }
}
