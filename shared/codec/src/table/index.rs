//! Index entries: which columns a key holds, when it ends in the handle, and which of the value layouts
//! carries what cannot be read back from the key.

use super::plan::{DecimalShape, KeyPart, Prefix, refuse};
use crate::cast::Cell;
use crate::collation::{Collation, needs_restored_data};
use crate::decimal::encode_small;
use crate::keys::index_head;
use crate::mem::{comparable_f64, comparable_i64, encode_bytes, encode_i64, flags, put_flagged};
use crate::mysql::flag;
use crate::row::RowWriter;
use crate::schema::{ColumnInfo, IndexInfo, TableInfo};
use crate::session::Session;
use std::borrow::Cow;
use thunderhead_types::Error;

/// Segments of an index value.
const COMMON_HANDLE: u8 = 0x7f;
const PARTITION_ID: u8 = 0x7e;
const VERSION: u8 = 0x7d;
/// Value of an entry that has nothing to say: ASCII `0`.
const PLAIN: &[u8] = b"0";
/// Values of layout 0 with options are at least this long, to differ from plain ones.
const OPTIONS_LEN_MIN: usize = 10;
/// `_tidb_rowid` and common handles alike are at least nine bytes in a key.
const COMMON_HANDLE_LEN_MIN: usize = 9;

/// The handle of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowHandle<'a> {
    Int(i64),
    Common(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestoreAs {
    /// The value.
    Value,
    /// Trailing spaces of a value that is otherwise in the key; unsigned.
    SpacesOfColumn,
    /// The same of a primary key column; signed.
    SpacesOfKey,
}

#[derive(Clone, Debug)]
struct Restored {
    id: i64,
    offset: usize,
    prefix: Prefix,
    decimal: DecimalShape,
    kind: RestoreAs,
}

#[derive(Clone, Debug)]
pub(crate) struct IndexPlan {
    pub id: i64,
    pub name: String,
    pub parts: Vec<KeyPart>,
    pub unique: bool,
    pub global: bool,
    /// Offset of the column whose array elements make one entry each.
    pub multi_valued: Option<usize>,
    /// Text of a partial index's condition; empty for none.
    pub condition: String,
    version1: bool,
    /// In ascending order of column id.
    restored: Vec<Restored>,
}

/// Reusable buffers of an index entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryBuffers {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    row: RowWriter,
}

impl IndexPlan {
    /// Every index that TiKV keeps, apart from the clustered primary key.
    pub fn compile_all(info: &TableInfo, session: &Session) -> Result<Vec<IndexPlan>, Error> {
        let kept = |index: &&IndexInfo| {
            !(index.is_columnar() || info.is_common_handle && index.is_primary)
        };
        let indexes = info.indexes().iter().filter(kept);
        indexes
            .map(|index| IndexPlan::compile(info, index, session))
            .collect()
    }

    fn compile(info: &TableInfo, index: &IndexInfo, session: &Session) -> Result<IndexPlan, Error> {
        let name = &index.idx_name.original;
        let parts = index
            .columns()
            .iter()
            .map(|part| KeyPart::new(info, part.offset, part.length, session));
        let parts = parts
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| refuse(info, format!("index `{name}`: {cause}")))?;
        let array = |part: &&KeyPart| info.columns()[part.offset].field_type.array;
        let multi_valued = parts.iter().find(array).map(|part| part.offset);
        let version1 = info.is_common_handle && info.common_handle_version >= 1;
        let restored = if version1 {
            restored_v1(info, index, session)
        } else {
            restored_v0(info, index, session)
        };
        Ok(IndexPlan {
            id: index.id,
            name: name.clone(),
            parts,
            unique: index.is_unique,
            global: index.is_global,
            multi_valued,
            condition: index.condition_expr_string.clone(),
            version1,
            restored,
        })
    }

    /// Builds the entry for `cells` in `to.key` and `to.value`. `owner` is the table or partition id in
    /// the key; `partition` is named in the value of a global index. For a multi-valued index `element`
    /// stands for its array.
    #[inline]
    pub fn entry(
        &self,
        cells: &[Cell<'_>],
        element: Option<&Cell<'_>>,
        handle: RowHandle<'_>,
        owner: i64,
        partition: i64,
        to: &mut EntryBuffers,
    ) {
        let cell_of = |offset: usize| match element {
            Some(element) if self.multi_valued == Some(offset) => element,
            _ => &cells[offset],
        };
        to.key.clear();
        to.key.extend_from_slice(&index_head(owner, self.id));
        let mut distinct = self.unique;
        for part in &self.parts {
            let cell = cell_of(part.offset);
            distinct &= !cell.is_null();
            put_key(&mut to.key, cell, part);
        }
        if !distinct {
            put_handle(&mut to.key, handle);
        }
        to.value.clear();
        let partition = self.global.then_some(partition);
        if self.version1 {
            self.value_v1(cell_of, distinct.then_some(handle), partition, to);
        } else {
            self.value_v0(cell_of, distinct.then_some(handle), partition, to);
        }
    }

    fn value_v1<'a>(
        &self,
        cell_of: impl Fn(usize) -> &'a Cell<'a>,
        handle: Option<RowHandle<'_>>,
        partition: Option<i64>,
        to: &mut EntryBuffers,
    ) {
        to.value.extend_from_slice(&[0, VERSION, 1]);
        put_options(&mut to.value, handle, partition);
        if !self.restored.is_empty() {
            self.put_restored(cell_of, to);
        }
    }

    #[inline]
    fn value_v0<'a>(
        &self,
        cell_of: impl Fn(usize) -> &'a Cell<'a>,
        handle: Option<RowHandle<'_>>,
        partition: Option<i64>,
        to: &mut EntryBuffers,
    ) {
        let int_handle = match handle {
            Some(RowHandle::Int(v)) => Some(v.to_be_bytes()),
            _ => None,
        };
        let has_common = matches!(handle, Some(RowHandle::Common(_)));
        if self.restored.is_empty() && partition.is_none() && !has_common {
            match int_handle {
                Some(bytes) => to.value.extend_from_slice(&bytes),
                None => to.value.extend_from_slice(PLAIN),
            }
            return;
        }
        to.value.push(0);
        put_options(&mut to.value, handle, partition);
        if !self.restored.is_empty() {
            self.put_restored(cell_of, to);
        }
        match int_handle {
            Some(bytes) => to.value.extend_from_slice(&bytes),
            None => {
                let pad = OPTIONS_LEN_MIN.saturating_sub(to.value.len());
                to.value.resize(to.value.len() + pad, 0);
                to.value[0] = pad as u8;
                return;
            }
        }
        to.value[0] = 8;
    }

    fn put_restored<'a>(&self, cell_of: impl Fn(usize) -> &'a Cell<'a>, to: &mut EntryBuffers) {
        to.row.clear();
        for restored in &self.restored {
            let (id, cell) = (restored.id as u32, cell_of(restored.offset));
            let cut = match cell {
                Cell::Bytes(text) => Some(restored.prefix.cut(text)),
                _ => None,
            };
            let spaces = cut.map_or(0, |text| text.len() - crate::cast::trimmed_len(text));
            match (restored.kind, cut) {
                (RestoreAs::SpacesOfColumn, _) => {
                    to.row.cell(id, &Cell::UInt(spaces as u64), (0, 0))
                }
                (RestoreAs::SpacesOfKey, _) => to.row.cell(id, &Cell::Int(spaces as i64), (0, 0)),
                (RestoreAs::Value, Some(text)) => {
                    to.row.cell(id, &Cell::Bytes(Cow::Borrowed(text)), (0, 0));
                }
                (RestoreAs::Value, None) => to.row.cell(id, cell, restored.decimal),
            }
        }
        to.row.finish(&mut to.value);
    }
}

fn put_options(to: &mut Vec<u8>, handle: Option<RowHandle<'_>>, partition: Option<i64>) {
    if let Some(RowHandle::Common(bytes)) = handle {
        to.push(COMMON_HANDLE);
        to.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        to.extend_from_slice(bytes);
    }
    if let Some(partition) = partition {
        to.push(PARTITION_ID);
        encode_i64(to, partition);
    }
}

#[inline]
fn put_handle(to: &mut Vec<u8>, handle: RowHandle<'_>) {
    match handle {
        RowHandle::Int(v) => put_flagged(to, flags::INT, comparable_i64(v)),
        RowHandle::Common(bytes) => to.extend_from_slice(bytes),
    }
}

/// Appends one column of a key.
#[inline]
pub(crate) fn put_key(to: &mut Vec<u8>, cell: &Cell<'_>, part: &KeyPart) {
    match cell {
        Cell::Null => to.push(flags::NIL),
        Cell::Int(v) => put_flagged(to, flags::INT, comparable_i64(*v)),
        Cell::UInt(v) | Cell::Time(v) => put_flagged(to, flags::UINT, v.to_be_bytes()),
        Cell::Double(v) => put_flagged(to, flags::FLOAT, comparable_f64(*v).to_be_bytes()),
        Cell::SmallDecimal { mantissa, .. } => {
            let (precision, scale) = part.decimal;
            to.extend_from_slice(&[flags::DECIMAL, precision, scale]);
            encode_small(*mantissa, precision, scale, to);
        }
        Cell::Decimal(v) => {
            let (precision, scale) = part.decimal;
            to.extend_from_slice(&[flags::DECIMAL, precision, scale]);
            v.encode(precision, scale, to);
        }
        Cell::Duration(v) => put_flagged(to, flags::DURATION, comparable_i64(*v)),
        Cell::Bytes(text) => {
            to.push(flags::BYTES);
            encode_bytes(to, &part.sort.key(part.prefix.cut(text)));
        }
        Cell::Json(document) => {
            to.push(flags::JSON);
            to.extend_from_slice(document);
        }
        Cell::Vector(bytes) => {
            to.push(flags::VECTOR);
            to.extend_from_slice(bytes);
        }
    }
}

/// Appends a common handle.
pub(crate) fn put_common_handle(to: &mut Vec<u8>, cells: &[Cell<'_>], parts: &[KeyPart]) {
    let start = to.len();
    parts
        .iter()
        .for_each(|part| put_key(to, &cells[part.offset], part));
    let len = to.len() - start;
    to.resize(start + len.max(COMMON_HANDLE_LEN_MIN), 0);
}

fn column_of(info: &TableInfo, offset: usize) -> Option<&ColumnInfo> {
    info.columns().get(offset)
}

/// All columns of the index, if one of them needs it.
fn restored_v0(info: &TableInfo, index: &IndexInfo, session: &Session) -> Vec<Restored> {
    let columns = || {
        index
            .columns()
            .iter()
            .filter_map(|part| Some((part, column_of(info, part.offset)?)))
    };
    let needs = |column: &ColumnInfo| {
        !column.field_type.array && needs_restored_data(&column.field_type, session.new_collation)
    };
    if !columns().any(|(_, column)| needs(column)) {
        return Vec::new();
    }
    let restored = columns().map(|(part, column)| restore(column, part.length, RestoreAs::Value));
    sorted(restored.collect())
}

/// Columns whose text the key does not hold: of the index, and of the primary key in its suffix.
fn restored_v1(info: &TableInfo, index: &IndexInfo, session: &Session) -> Vec<Restored> {
    let needs = |column: &ColumnInfo| {
        !column.field_type.array && needs_restored_data(&column.field_type, session.new_collation)
    };
    let by_count = |column: &ColumnInfo| {
        Collation::of(&column.field_type, session.new_collation).restores_by_space_count()
    };
    let mut restored = Vec::new();
    for part in index.columns() {
        let Some(column) = column_of(info, part.offset) else {
            continue;
        };
        if needs(column) && !column.field_type.has_flag(flag::PRI_KEY) {
            let kind = if by_count(column) {
                RestoreAs::SpacesOfColumn
            } else {
                RestoreAs::Value
            };
            restored.push(restore(column, part.length, kind));
        }
    }
    for key_part in info
        .clustered_index()
        .map(|key| key.columns())
        .unwrap_or_default()
    {
        let Some(column) = column_of(info, key_part.offset).filter(|column| needs(column)) else {
            continue;
        };
        let kind = if by_count(column) {
            RestoreAs::SpacesOfKey
        } else {
            RestoreAs::Value
        };
        let mut item = restore(column, key_part.length, kind);
        let here = index
            .columns()
            .iter()
            .find(|part| part.offset == key_part.offset);
        if let Some(part) = here {
            item.prefix = item
                .prefix
                .longer(Prefix::new(&column.field_type, part.length));
        }
        restored.push(item);
    }
    sorted(restored)
}

fn restore(column: &ColumnInfo, length: i32, kind: RestoreAs) -> Restored {
    Restored {
        id: column.id,
        offset: column.offset,
        prefix: Prefix::new(&column.field_type, length),
        decimal: super::plan::decimal_shape(&column.field_type),
        kind,
    }
}

fn sorted(mut restored: Vec<Restored>) -> Vec<Restored> {
    restored.sort_by_key(|item| item.id);
    restored.dedup_by_key(|item| item.id);
    restored
}
