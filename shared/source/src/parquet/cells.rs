//! The values of one column in a batch, as the library gives them, and each as a [`Value`]. Owns NULLs, the text
//! of decimals and the units of times; the meaning of a column is [`super::kind`]'s.

use std::cell::{Cell, OnceCell};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::errors::Result as ParquetResult;

use super::decimal;
use super::kind::Kind;
use super::reader::Open;
use super::texts::Texts;
use crate::record::Value;

/// Julian day of 1970-01-01.
const JULIAN_EPOCH: i64 = 2_440_588;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Texts that the library reads at once, whatever they hold.
const STEP: usize = 32;
/// Stands for a value that is not there.
const NULL: u32 = u32::MAX;

/// A column of a batch. Buffers are kept from batch to batch.
pub(super) struct Cells {
    kind: Kind,
    values: Values,
    /// Of the rows: 0 = NULL. A flat column has no others than 0 and 1; a required one has none.
    levels: Vec<i16>,
    /// Which of the values a row has; empty where each row has its own.
    places: Vec<u32>,
    /// Rows that are held, and how many of them were given out before the batch at hand.
    rows: usize,
    given: usize,
    /// The texts of the batch; those of decimals are written when one is asked for.
    texts: OnceCell<Texts>,
    /// Its memory from batch to batch.
    spare: Cell<Texts>,
}

/// Without NULLs, by physical type.
enum Values {
    None,
    /// They are not here but in `texts`.
    Texts,
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

impl Cells {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            values: Values::None,
            levels: Vec::new(),
            places: Vec::new(),
            rows: 0,
            given: 0,
            texts: OnceCell::new(),
            spare: Cell::default(),
        }
    }

    /// Rows that are held.
    pub(super) fn len(&self) -> usize {
        self.rows - self.given
    }

    /// Goes on behind the first `rows` rows.
    pub(super) fn skip(&mut self, rows: usize) {
        self.given += rows;
    }

    /// Takes the next `rows` rows, or fewer where their texts come to more than `bytes`; none if the column has no
    /// more.
    pub(super) fn read(&mut self, open: &mut Open, rows: usize, bytes: usize) -> ParquetResult<()> {
        (self.rows, self.given) = (0, 0);
        self.levels.clear();
        if let Some(mut texts) = self.texts.take() {
            texts.clear();
            self.spare.set(texts);
        }
        let reader = match open {
            Open::Library(reader) => &mut **reader,
            Open::Texts(reader) => {
                // Also behind a group whose texts the library read.
                self.values = Values::Texts;
                let mut texts = self.spare.take();
                self.rows = reader.read(rows, bytes, &mut texts, &mut self.levels)?;
                self.texts = OnceCell::from(texts);
                self.place();
                return Ok(());
            }
        };
        /// Into the buffer of this type, which is made for the first batch.
        macro_rules! into {
            ($variant:ident, $reader:ident, $step:expr, $bytes_of:expr) => {{
                if !matches!(self.values, Values::$variant(_)) {
                    self.values = Values::$variant(Vec::new());
                }
                let Values::$variant(values) = &mut self.values else {
                    unreachable!("it was just made");
                };
                values.clear();
                let most = (rows, $step, bytes);
                records($reader, most, $bytes_of, values, &mut self.levels)?
            }};
            ($variant:ident, $reader:ident) => {
                into!($variant, $reader, rows, |_| 0)
            };
        }
        self.rows = match reader {
            ColumnReader::BoolColumnReader(r) => into!(Bool, r),
            ColumnReader::Int32ColumnReader(r) => into!(Int32, r),
            ColumnReader::Int64ColumnReader(r) => into!(Int64, r),
            ColumnReader::Int96ColumnReader(r) => into!(Int96, r),
            ColumnReader::FloatColumnReader(r) => into!(Float, r),
            ColumnReader::DoubleColumnReader(r) => into!(Double, r),
            ColumnReader::ByteArrayColumnReader(r) => into!(Bytes, r, STEP, ByteArray::len),
            ColumnReader::FixedLenByteArrayColumnReader(r) => {
                into!(Fixed, r, STEP, |bytes| bytes.len())
            }
        };
        self.place();
        Ok(())
    }

    fn place(&mut self) {
        self.places.clear();
        if self.levels.iter().all(|level| *level > 0) {
            return;
        }
        let mut next = 0;
        self.places.extend(self.levels.iter().map(|level| {
            let place = if *level > 0 { next } else { NULL };
            next += u32::from(*level > 0);
            place
        }));
    }

    fn decimals(&self, scale: u32) -> Texts {
        let mut texts = self.spare.take();
        let Texts { text, ends, .. } = &mut texts;
        match &self.values {
            Values::Int32(all) => all.iter().for_each(|number| {
                decimal::push(text, (*number).into(), scale);
                ends.push(text.len() as u32);
            }),
            Values::Int64(all) => all.iter().for_each(|number| {
                decimal::push(text, (*number).into(), scale);
                ends.push(text.len() as u32);
            }),
            Values::Bytes(all) => all.iter().for_each(|bytes| {
                decimal::push_bytes(text, bytes.data(), scale);
                ends.push(text.len() as u32);
            }),
            Values::Fixed(all) => all.iter().for_each(|bytes| {
                decimal::push_bytes(text, bytes.data(), scale);
                ends.push(text.len() as u32);
            }),
            _ => {}
        }
        texts
    }

    /// The value of row `row` of the batch.
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        let row = self.given + row;
        let at = match self.places.get(row) {
            None => row,
            Some(&NULL) => return Value::Null,
            Some(place) => *place as usize,
        };
        if let Kind::Decimal(scale) = self.kind {
            let texts = self.texts.get_or_init(|| self.decimals(scale));
            return Value::Text(texts.get(at));
        }
        match &self.values {
            Values::None => Value::Null,
            Values::Texts => self
                .texts
                .get()
                .map_or(Value::Null, |texts| Value::Text(texts.get(at))),
            Values::Bool(all) => Value::UInt(all[at].into()),
            Values::Int32(all) => match self.kind {
                Kind::Unsigned => Value::UInt(all[at].cast_unsigned().into()),
                kind => integer(all[at].into(), kind),
            },
            Values::Int64(all) => match self.kind {
                Kind::Unsigned => Value::UInt(all[at].cast_unsigned()),
                kind => integer(all[at], kind),
            },
            Values::Int96(all) => instant(&all[at]),
            Values::Float(all) => Value::Float(all[at]),
            Values::Double(all) => Value::Double(all[at]),
            Values::Bytes(all) => Value::Text(all[at].data()),
            Values::Fixed(all) => Value::Text(all[at].data()),
        }
    }
}

/// Appends the values of at most so many rows, so many at a time, and ends behind so many bytes of them; says how many
/// rows it were.
fn records<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    (rows, step, bytes_max): (usize, usize, usize),
    bytes_of: impl Fn(&T::T) -> usize,
    values: &mut Vec<T::T>,
    levels: &mut Vec<i16>,
) -> ParquetResult<usize> {
    let (mut read, mut bytes) = (0, 0);
    while read < rows && bytes < bytes_max {
        let (step, before) = ((rows - read).min(step), values.len());
        let (records, _, _) = reader.read_records(step, Some(levels), None, values)?;
        if records == 0 {
            break;
        }
        read += records;
        bytes += values[before..].iter().map(&bytes_of).sum::<usize>();
    }
    Ok(read)
}

fn integer(value: i64, kind: Kind) -> Value<'static> {
    match kind {
        Kind::Plain | Kind::Unsigned | Kind::Decimal(_) => Value::Int(value),
        Kind::Date => Value::Date(value),
        Kind::Time(unit) => Value::Time(micros(value, unit)),
        Kind::Timestamp(unit, utc) => Value::Timestamp {
            micros: micros(value, unit),
            utc,
        },
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
fn instant(value: &Int96) -> Value<'static> {
    let words = value.data();
    let nanos = (u64::from(words[1]) << 32 | u64::from(words[0])).cast_signed();
    let days = i64::from(words[2]) - JULIAN_EPOCH;
    let of_day = nanos.saturating_add(500).div_euclid(1000);
    Value::Timestamp {
        micros: days.saturating_mul(MICROS_PER_DAY).saturating_add(of_day),
        utc: true,
    }
}
