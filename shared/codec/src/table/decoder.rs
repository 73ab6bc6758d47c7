//! From pairs back to datums: records as rows of columns, index entries as the handle they lead to.

use super::computed::Generated;
use super::encoder::Row;
use super::plan::refuse;
use crate::cast::{Cell, cell_datum};
use crate::datum::Datum;
use crate::keys::{TableKey, parse};
use crate::mem::flags;
use crate::mysql::{UNSPECIFIED, tp};
use crate::row::{RowReader, Stored, read_flagged, read_value};
use crate::schema::{ColumnInfo, IndexInfo, TableInfo};
use crate::session::Session;
use crate::time::Zone;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use thunderhead_types::Error;

/// A pair that is not what the table's model says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the key is not one of this table")]
    ForeignKey,
    #[error("the handle in the key is malformed")]
    Handle,
    #[error("the row value is malformed")]
    Row,
    #[error("column `{0}` is malformed")]
    Column(String),
    #[error("column `{0}` is missing in the row and has no original default")]
    MissingColumn(String),
    #[error("the index entry is malformed")]
    Entry,
}

/// What an index entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub index_id: i64,
    /// Table or partition whose record the entry leads to.
    pub physical_id: i64,
    /// Encoded handle of that record.
    pub handle: Vec<u8>,
}

/// Decodes pairs of one table.
#[derive(Clone, Debug)]
pub struct TableDecoder {
    info: Arc<TableInfo>,
    zone: Zone,
    /// What columns hold in rows older than they are.
    origins: Vec<Option<Cell<'static>>>,
    handle_columns: Vec<HandleColumn>,
    /// Virtual columns, in order of offset.
    virtuals: Vec<Generated>,
    /// Offsets of the TIMESTAMPs, and what reads them as they are stored.
    instants: Option<Instants>,
}

#[derive(Clone, Debug)]
struct HandleColumn {
    offset: usize,
    /// Whether the handle has the column's whole value.
    readable: bool,
}

impl TableDecoder {
    pub fn compile(info: &TableInfo, session: &Session) -> Result<TableDecoder, Error> {
        let session_arc = Arc::new(session.clone());
        let origin = |column: &ColumnInfo| -> Result<Option<Cell<'static>>, Error> {
            let Some(value) = column
                .origin_default
                .as_ref()
                .filter(|value| !value.is_null())
            else {
                return Ok((!column.field_type.is_not_null()).then_some(Cell::Null));
            };
            let bits = column.origin_default_bit.as_ref();
            super::defaults::literal(column, value, bits, &session_arc)
                .map(Some)
                .map_err(|cause| {
                    refuse(info, format!("column `{}`: {cause}", column.name.original))
                })
        };
        let origins = info
            .columns()
            .iter()
            .map(origin)
            .collect::<Result<_, _>>()?;
        let whole = |length: i32| length == UNSPECIFIED;
        let readable = |column: &ColumnInfo, length: i32| {
            whole(length)
                && !crate::collation::needs_restored_data(&column.field_type, session.new_collation)
        };
        let parts = info
            .clustered_index()
            .map(|index| index.columns())
            .unwrap_or_default();
        let handle_columns = parts
            .iter()
            .filter_map(|part| Some((part, info.columns().get(part.offset)?)))
            .map(|(part, column)| HandleColumn {
                offset: part.offset,
                readable: readable(column, part.length),
            })
            .collect();
        let virtuals = info.columns().iter().filter(|column| column.is_virtual());
        let virtuals = virtuals
            .map(|column| Generated::compile(info, column, &session_arc))
            .collect::<Result<_, _>>()?;
        let instants = stored_instants(info, session)?;
        Ok(TableDecoder {
            virtuals,
            instants,
            info: Arc::new(info.clone()),
            zone: session.time_zone.clone(),
            origins,
            handle_columns,
        })
    }

    /// The columns of a record, virtual ones evaluated.
    pub fn record(&self, key: &[u8], value: &[u8]) -> Result<Row, DecodeError> {
        let Some(TableKey::Record {
            physical_id,
            handle,
        }) = parse(key)
        else {
            return Err(DecodeError::ForeignKey);
        };
        let mut from_handle = self.handle_cells(handle)?;
        let old = if value.first() == Some(&0x80) {
            None
        } else {
            Some(self.old_row(value)?)
        };
        let reader = match &old {
            Some(_) => None,
            None => Some(RowReader::new(value).ok_or(DecodeError::Row)?),
        };
        let mut datums = Vec::with_capacity(self.info.columns().len());
        for (column, origin) in self.info.columns().iter().zip(&self.origins) {
            if column.is_virtual() {
                datums.push(Datum::Null);
                continue;
            }
            let cell = match from_handle.remove(&column.offset) {
                Some(cell) => cell,
                None => match (&reader, &old) {
                    (Some(reader), _) => self.stored(reader, column, origin)?,
                    (None, Some(old)) => old_cell(old, column, origin)?,
                    (None, None) => return Err(DecodeError::Row),
                },
            };
            datums.push(cell_datum(&cell, &column.field_type));
        }
        for column in &self.virtuals {
            let value = column.value(&datums);
            let (_, datum) = value.map_err(|_| DecodeError::Column(column.name.clone()))?;
            datums[column.offset] = datum;
        }
        let mut instants = Vec::new();
        if let Some((offsets, in_utc)) = &self.instants {
            let stored = in_utc.record(key, value)?;
            for offset in offsets {
                if let Some(Datum::Time(time)) = stored.datums.get(*offset) {
                    instants.push((*offset, time.packed()));
                }
            }
        }
        Ok(Row {
            physical_id,
            handle: handle.to_vec(),
            datums,
            instants,
        })
    }

    fn stored(
        &self,
        reader: &RowReader<'_>,
        column: &ColumnInfo,
        origin: &Option<Cell<'static>>,
    ) -> Result<Cell<'static>, DecodeError> {
        let name = || column.name.original.clone();
        match reader.get(column.id).ok_or(DecodeError::Row)? {
            Stored::Null => Ok(Cell::Null),
            Stored::Missing => origin
                .clone()
                .ok_or_else(|| DecodeError::MissingColumn(name())),
            Stored::Value(bytes) => read_value(bytes, &column.field_type, &self.zone)
                .ok_or_else(|| DecodeError::Column(name())),
        }
    }

    /// A row in format 1, by column id.
    fn old_row(&self, value: &[u8]) -> Result<BTreeMap<i64, Cell<'static>>, DecodeError> {
        let mut cells = BTreeMap::new();
        let mut rest = value;
        if value == [flags::NIL] {
            return Ok(cells);
        }
        while !rest.is_empty() {
            rest = rest
                .strip_prefix(&[flags::VARINT])
                .ok_or(DecodeError::Row)?;
            let id = crate::mem::decode_varint(&mut rest).ok_or(DecodeError::Row)?;
            let column = self
                .info
                .columns()
                .iter()
                .find(|column| column.id == id)
                .ok_or(DecodeError::Row)?;
            let cell = read_flagged(&mut rest, &column.field_type, &self.zone)
                .ok_or_else(|| DecodeError::Column(column.name.original.clone()))?;
            cells.insert(id, cell);
        }
        Ok(cells)
    }

    /// Columns that the handle holds, by offset.
    fn handle_cells(&self, handle: &[u8]) -> Result<BTreeMap<usize, Cell<'static>>, DecodeError> {
        let mut cells = BTreeMap::new();
        if let Some(column) = self.info.handle_column() {
            let bytes = handle
                .first_chunk::<8>()
                .filter(|_| handle.len() == 8)
                .ok_or(DecodeError::Handle)?;
            let id = (u64::from_be_bytes(*bytes) ^ 1 << 63) as i64;
            let cell = if column.field_type.is_unsigned() {
                Cell::UInt(id as u64)
            } else {
                Cell::Int(id)
            };
            cells.insert(column.offset, cell);
        }
        let mut rest = handle;
        for part in &self.handle_columns {
            let column = self
                .info
                .columns()
                .get(part.offset)
                .ok_or(DecodeError::Handle)?;
            let cell = read_flagged(&mut rest, &column.field_type, &self.zone)
                .ok_or(DecodeError::Handle)?;
            if part.readable {
                cells.insert(part.offset, cell);
            }
        }
        Ok(cells)
    }

    /// Where an index entry leads.
    pub fn entry(&self, key: &[u8], value: &[u8]) -> Result<IndexEntry, DecodeError> {
        let Some(TableKey::Index {
            physical_id,
            index_id,
            rest,
        }) = parse(key)
        else {
            return Err(DecodeError::ForeignKey);
        };
        let index = self
            .info
            .indexes()
            .iter()
            .find(|index| index.id == index_id)
            .ok_or(DecodeError::ForeignKey)?;
        let suffix = self.suffix(index, rest)?;
        let options = Options::read(value);
        let physical_id = options.partition.unwrap_or(physical_id);
        let handle = if !suffix.is_empty() {
            // An integer in a suffix has a flag before it; a common handle stands as it is.
            if self.info.is_common_handle {
                suffix
            } else {
                &suffix[1..]
            }
            .to_vec()
        } else if let Some(common) = options.common_handle {
            common.to_vec()
        } else {
            let plain = options.int_handle.ok_or(DecodeError::Entry)?;
            (u64::from_be_bytes(plain) ^ 1 << 63).to_be_bytes().to_vec()
        };
        Ok(IndexEntry {
            index_id,
            physical_id,
            handle,
        })
    }

    /// What follows the index columns in a key.
    fn suffix<'a>(&self, index: &IndexInfo, key: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let mut rest = key;
        for part in index.columns() {
            let column = self
                .info
                .columns()
                .get(part.offset)
                .ok_or(DecodeError::Entry)?;
            read_flagged(&mut rest, &column.field_type, &Zone::utc()).ok_or(DecodeError::Entry)?;
        }
        Ok(rest)
    }
}

/// Offsets of the stored TIMESTAMPs, and a decoder that leaves them in UTC.
type Instants = (Vec<usize>, Arc<TableDecoder>);

/// What reads the TIMESTAMPs of a table in UTC, when local time is not.
fn stored_instants(info: &TableInfo, session: &Session) -> Result<Option<Instants>, Error> {
    let stored =
        |column: &&ColumnInfo| column.field_type.tp == tp::TIMESTAMP && !column.is_virtual();
    let offsets: Vec<usize> = info
        .columns()
        .iter()
        .filter(stored)
        .map(|column| column.offset)
        .collect();
    if offsets.is_empty() || session.time_zone.name() == "UTC" {
        return Ok(None);
    }
    let in_utc = Session {
        time_zone: Zone::utc(),
        ..session.clone()
    };
    let plain = TableDecoder {
        virtuals: Vec::new(),
        ..TableDecoder::compile(info, &in_utc)?
    };
    Ok(Some((offsets, Arc::new(plain))))
}

fn old_cell(
    old: &BTreeMap<i64, Cell<'static>>,
    column: &ColumnInfo,
    origin: &Option<Cell<'static>>,
) -> Result<Cell<'static>, DecodeError> {
    match old.get(&column.id) {
        Some(Cell::Bytes(bytes)) => Ok(Cell::Bytes(Cow::Owned(bytes.to_vec()))),
        Some(cell) => Ok(cell.clone()),
        None => origin
            .clone()
            .ok_or_else(|| DecodeError::MissingColumn(column.name.original.clone())),
    }
}

/// Segments of an index value.
#[derive(Default)]
struct Options<'a> {
    common_handle: Option<&'a [u8]>,
    int_handle: Option<[u8; 8]>,
    partition: Option<i64>,
}

impl<'a> Options<'a> {
    fn read(value: &'a [u8]) -> Options<'a> {
        let mut options = Options::default();
        if value.len() <= 9 && !value.starts_with(&[0, 0x7d]) {
            options.int_handle = value.first_chunk::<8>().copied();
            return options;
        }
        let tail = usize::from(value[0]);
        let (mut rest, end) = value[1..].split_at(value.len() - 1 - tail.min(value.len() - 1));
        if tail >= 8 {
            options.int_handle = end.first_chunk::<8>().copied();
        }
        if rest.first() == Some(&0x7d) {
            rest = rest.get(2..).unwrap_or_default();
        }
        if rest.first() == Some(&0x7f)
            && let Some(len) = rest.get(1..).and_then(|tail| tail.first_chunk::<2>())
        {
            let len = usize::from(u16::from_be_bytes(*len));
            options.common_handle = rest.get(3..3 + len);
            rest = rest.get(3 + len..).unwrap_or_default();
        }
        if rest.first() == Some(&0x7e) {
            let mut id = &rest[1..];
            options.partition = crate::mem::decode_i64(&mut id);
        }
        options
    }
}
