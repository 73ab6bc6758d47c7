//! Rows of a chunk: batches of every column, side by side. Owns the batch and its size; the meaning of a
//! column is [`super::kind`]'s.

use std::collections::VecDeque;
use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::FileReader;

use super::kind::{Column, Kind, columns};
use super::{File, at, decimal, open, rows_of, start_of, unsupported};
use crate::bytes::ByteSource;
use crate::error::SourceError;
use crate::record::{Position, RecordReader, Value};
use crate::split::Chunk;

/// Rows of a batch: enough to make its start not matter.
const BATCH_ROWS_MAX: u64 = 1024;
/// Bytes that the values of a batch should not pass, by the mean row of the group.
const BATCH_BYTES: u64 = 4 << 20;

/// Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A value that a batch holds.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(ByteArray),
    Decimal(String),
    Date(i64),
    Time(i64),
    Timestamp(i64, bool),
}

/// Reads the rows of a chunk.
pub(crate) struct ParquetReader {
    file: File,
    name: String,
    columns: Vec<Column>,
    /// Row groups to come.
    groups: VecDeque<usize>,
    /// The one at hand: its columns, rows left, rows of a batch.
    open: Vec<ColumnReader>,
    left: u64,
    batch_rows: u64,
    /// By column, then by row.
    batch: Vec<Vec<Cell>>,
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
            batch: vec![Vec::new(); columns.len()],
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
        let group = self.file.get_row_group(number)?;
        let meta = self.file.metadata().row_group(number);
        self.left = rows_of(meta);
        let bytes = u64::try_from(meta.total_byte_size()).unwrap_or(0);
        let row_bytes = bytes / self.left.max(1) + 16 * self.columns.len() as u64;
        self.batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS_MAX);
        self.open.clear();
        for column in 0..self.columns.len() {
            self.open.push(group.get_column_reader(column)?);
        }
        Ok(true)
    }

    fn fill(&mut self) -> ParquetResult<()> {
        self.row += self.count;
        self.count = 0;
        while self.left == 0 {
            if !self.next_group()? {
                return Ok(());
            }
        }
        let count = self.batch_rows.min(self.left);
        for (at, reader) in self.open.iter_mut().enumerate() {
            let cells = &mut self.batch[at];
            cells.clear();
            read_column(reader, self.columns[at].kind, count as usize, cells)?;
            if cells.len() as u64 != count {
                let why = format!("column {:?} ends too early", self.columns[at].name);
                return Err(ParquetError::EOF(why));
            }
        }
        self.count = count;
        self.left -= count;
        self.done += count;
        Ok(())
    }
}

impl RecordReader for ParquetReader {
    fn advance(&mut self) -> Result<usize, SourceError> {
        self.fill().map_err(|e| self.fail(&e))?;
        Ok(self.count as usize)
    }

    fn columns(&self) -> Option<&Arc<[String]>> {
        None
    }

    fn record<'a>(&'a self, index: usize, values: &mut Vec<Value<'a>>) -> Position {
        values.extend(self.batch.iter().map(|cells| match &cells[index] {
            Cell::Null => Value::Null,
            Cell::Int(number) => Value::Int(*number),
            Cell::UInt(number) => Value::UInt(*number),
            Cell::Float(number) => Value::Float(*number),
            Cell::Double(number) => Value::Double(*number),
            Cell::Bytes(bytes) => Value::Text(bytes.data()),
            Cell::Decimal(text) => Value::Text(text.as_bytes()),
            Cell::Date(days) => Value::Date(*days),
            Cell::Time(micros) => Value::Time(*micros),
            Cell::Timestamp(micros, utc) => Value::Timestamp {
                micros: *micros,
                utc: *utc,
            },
        }));
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

fn read_column(
    reader: &mut ColumnReader,
    kind: Kind,
    rows: usize,
    cells: &mut Vec<Cell>,
) -> ParquetResult<()> {
    match reader {
        ColumnReader::BoolColumnReader(r) => typed(r, rows, cells, |v| Cell::UInt(v.into())),
        ColumnReader::Int32ColumnReader(r) => typed(r, rows, cells, |v: i32| match kind {
            Kind::Unsigned => Cell::UInt(v.cast_unsigned().into()),
            kind => integer(v.into(), kind),
        }),
        ColumnReader::Int64ColumnReader(r) => typed(r, rows, cells, |v: i64| match kind {
            Kind::Unsigned => Cell::UInt(v.cast_unsigned()),
            kind => integer(v, kind),
        }),
        ColumnReader::Int96ColumnReader(r) => typed(r, rows, cells, |v: Int96| instant(&v)),
        ColumnReader::FloatColumnReader(r) => typed(r, rows, cells, Cell::Float),
        ColumnReader::DoubleColumnReader(r) => typed(r, rows, cells, Cell::Double),
        ColumnReader::ByteArrayColumnReader(r) => typed(r, rows, cells, |v| bytes(v, kind)),
        ColumnReader::FixedLenByteArrayColumnReader(r) => {
            typed(r, rows, cells, |v: FixedLenByteArray| bytes(v.into(), kind))
        }
    }
}

/// Reads `rows` values of a column, NULLs among them.
fn typed<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    cells: &mut Vec<Cell>,
    cell: impl Fn(T::T) -> Cell,
) -> ParquetResult<()> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) =
            reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    if levels.is_empty() {
        cells.extend(values.into_iter().map(cell));
        return Ok(());
    }
    // A flat column is required or optional: a level of 0 is NULL.
    let mut values = values.into_iter();
    for level in levels {
        let value = if level == 0 { None } else { values.next() };
        cells.push(value.map_or(Cell::Null, &cell));
    }
    Ok(())
}

fn integer(value: i64, kind: Kind) -> Cell {
    match kind {
        Kind::Plain | Kind::Unsigned => Cell::Int(value),
        Kind::Decimal(scale) => Cell::Decimal(decimal::text(value.into(), scale)),
        Kind::Date => Cell::Date(value),
        Kind::Time(unit) => Cell::Time(micros(value, unit)),
        Kind::Timestamp(unit, utc) => Cell::Timestamp(micros(value, unit), utc),
    }
}

/// Microseconds; what is finer is rounded half up, as TIMESTAMP(6) would.
fn micros(value: i64, unit: i64) -> i64 {
    if unit <= MICROS_PER_SECOND {
        return value.saturating_mul(MICROS_PER_SECOND / unit);
    }
    let finer = unit / MICROS_PER_SECOND;
    value.saturating_add(finer / 2).div_euclid(finer)
}

/// Nanoseconds of the day, little-endian, then the Julian day.
fn instant(value: &Int96) -> Cell {
    let words = value.data();
    let nanos = (u64::from(words[1]) << 32 | u64::from(words[0])).cast_signed();
    let days = i64::from(words[2]) - JULIAN_EPOCH;
    let of_day = nanos.saturating_add(500).div_euclid(1000);
    Cell::Timestamp(
        days.saturating_mul(MICROS_PER_DAY).saturating_add(of_day),
        true,
    )
}

fn bytes(value: ByteArray, kind: Kind) -> Cell {
    match kind {
        Kind::Decimal(scale) => Cell::Decimal(decimal::text_of_bytes(value.data(), scale)),
        _ => Cell::Bytes(value),
    }
}
