//! The row loop: fields to cells, cells to pairs.

use super::auto_id::{AutoIds, Layout};
use super::computed::Findings;
use super::index::{EntryBuffers, RowHandle, put_common_handle};
use super::multi_valued;
use super::plan::{Auto, Column, Handle, Plan, Source};
use super::{PairSink, RowError, RowOutcome, Slot};
use crate::cast::{Cell, Field, datum_cell};
use crate::datum::Datum;
use crate::keys::{PREFIX_LEN, record_head};
use crate::mem::encode_i64;
use crate::mysql::code;
use crate::row::{
    RowWriter, SMALL_DATA_MAX, Unwritten, VALUE_ROOM, put_checksum, put_v1, write_value,
};
use crate::schema::TableInfo;
use crate::session::Session;
use crate::time::{Time, TimeKind};
use std::sync::Arc;
use thunderhead_types::Error;

/// Encodes rows of one table. Cheap to clone: the compiled plan is shared, buffers are not.
#[derive(Clone, Debug)]
pub struct TableEncoder {
    plan: Arc<Plan>,
    buffers: Buffers,
    seen: AutoIds,
}

#[derive(Clone, Debug, Default)]
struct Buffers {
    cells: Vec<Cell<'static>>,
    /// No cell of the row at hand owns memory.
    plain: bool,
    handle: Vec<u8>,
    record: Vec<u8>,
    row: RowWriter,
    entry: EntryBuffers,
}

/// A row as the decoder returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Table or partition it was found in.
    pub physical_id: i64,
    /// Encoded handle: eight bytes, or a common handle.
    pub handle: Vec<u8>,
    /// One per column of the table, by offset.
    pub datums: Vec<Datum>,
    /// TIMESTAMPs in UTC as stored, by offset: local time is ambiguous where clocks are set back. Empty
    /// where local time is UTC.
    pub(crate) instants: Vec<(usize, u64)>,
}

/// Empties a vector of cells and gives it another lifetime, keeping its allocation. `plain` says that no cell
/// owns memory, so that none has to be looked at.
fn recycled<'a>(mut cells: Vec<Cell<'_>>, plain: bool) -> Vec<Cell<'a>> {
    if plain {
        // A forgotten drain leaves the vector empty and drops nothing.
        std::mem::forget(cells.drain(..));
    }
    cells.clear();
    // Collecting into the same shape reuses the buffer.
    cells.into_iter().map(|_| Cell::Null).collect()
}

impl TableEncoder {
    /// Compiles the encoder of a table. `columns` is the insert column list in field order; without one,
    /// field i is column i. Refuses, as a precheck error, what cannot be encoded exactly.
    pub fn compile(
        info: &TableInfo,
        session: &Session,
        columns: Option<&[String]>,
    ) -> Result<TableEncoder, Error> {
        let plan = Plan::compile(info, session, columns)?;
        Ok(TableEncoder {
            plan: Arc::new(plan),
            buffers: Buffers::default(),
            seen: AutoIds::default(),
        })
    }

    /// Largest automatic ids of the rows encoded so far by this encoder.
    pub fn auto_ids(&self) -> AutoIds {
        self.seen
    }

    /// Encodes one row. `row_id` numbers the row within the table; it becomes `_tidb_rowid` or a missing
    /// automatic id. A rejected row emits nothing.
    pub fn encode_row(
        &mut self,
        fields: &[Field<'_>],
        row_id: i64,
        sink: &mut impl PairSink,
    ) -> Result<RowOutcome, RowError> {
        let TableEncoder {
            plan,
            buffers,
            seen,
        } = self;
        let mut cells: Vec<Cell<'_>> = std::mem::take(&mut buffers.cells);
        let result = plan.encode(fields, row_id, &mut cells, buffers, seen, sink);
        buffers.cells = recycled(cells, buffers.plain);
        result
    }

    /// Encodes a row that was decoded before, under the id it was found with: what must be in the store if
    /// the record is right. Pairs come as from [`TableEncoder::encode_row`].
    pub fn encode_decoded(
        &mut self,
        row: &Row,
        sink: &mut impl PairSink,
    ) -> Result<RowOutcome, RowError> {
        let plan = &self.plan;
        let mut cells: Vec<Cell<'_>> = row.datums.iter().map(datum_cell).collect();
        let handle = row
            .handle
            .first_chunk::<8>()
            .map_or(0, |bytes| (u64::from_be_bytes(*bytes) ^ 1 << 63) as i64);
        let mut findings = Findings::default();
        plan.complete(&mut cells, true, &mut findings)?;
        findings.partition_id = Some(row.physical_id);
        plan.timestamps_to_utc(&mut cells);
        row.instants
            .iter()
            .for_each(|(offset, packed)| cells[*offset] = Cell::Time(*packed));
        plan.emit(&mut self.buffers, &cells, handle, &findings, sink)
    }
}

#[derive(Default)]
struct Tally {
    pairs: u32,
    bytes: u64,
}

impl Tally {
    #[inline]
    fn pair(&mut self, sink: &mut impl PairSink, slot: Slot, key: &[u8], value: &[u8]) {
        self.pairs += 1;
        self.bytes += (key.len() + value.len()) as u64;
        sink.pair(slot, key, value);
    }
}

#[inline]
fn put_record_key(to: &mut Vec<u8>, physical_id: i64, handle: RowHandle<'_>) {
    to.extend_from_slice(&record_head(physical_id));
    match handle {
        RowHandle::Int(v) => encode_i64(to, v),
        RowHandle::Common(bytes) => to.extend_from_slice(bytes),
    }
}

impl Plan {
    /// Casts the fields and fills in defaults and automatic ids. Returns whether no cell owns memory for sure.
    fn fill<'a>(
        &'a self,
        fields: &[Field<'a>],
        row_id: i64,
        cells: &mut Vec<Cell<'a>>,
        ids: &mut AutoIds,
    ) -> Result<bool, RowError> {
        let mut plain = true;
        cells.resize_with(self.columns.len(), || Cell::Null);
        for (column, cell) in self.columns.iter().zip(cells) {
            if let Some(Field::Text(text)) = fields.get(column.plain_field)
                && column.cast.fill_plain(text, cell)
            {
                continue;
            }
            let field = match column.source {
                Source::Field(at) => fields.get(at),
                Source::Default => None,
                Source::Generated => continue,
            };
            *cell = column.value(self, field, row_id, ids)?;
            plain = false;
        }
        Ok(plain)
    }

    /// Fields to pairs; what ids the row used is noted once it is through.
    fn encode<'a>(
        &'a self,
        fields: &[Field<'a>],
        row_id: i64,
        cells: &mut Vec<Cell<'a>>,
        buffers: &mut Buffers,
        seen: &mut AutoIds,
        sink: &mut impl PairSink,
    ) -> Result<RowOutcome, RowError> {
        let mut ids = AutoIds::default();
        buffers.plain = false;
        buffers.plain = self.fill(fields, row_id, cells, &mut ids)? && self.computed.is_none();
        let handle = self.handle_id(fields, cells, row_id)?;
        let mut findings = Findings::default();
        self.complete(cells, false, &mut findings)?;
        self.timestamps_to_utc(cells);
        let outcome = self.emit(buffers, cells, handle, &findings, sink)?;
        if self.gives_ids {
            seen.merge(&ids);
        }
        self.note_row_id(handle, seen);
        Ok(outcome)
    }

    fn note_row_id(&self, handle: i64, seen: &mut AutoIds) {
        if let Handle::RowId { layout, .. } = &self.handle
            && let Ok(id) = u64::try_from(handle)
        {
            seen.row_id = seen.row_id.max(Some(layout.counter(id)));
        }
    }

    /// Writes the record and the index entries of complete cells, TIMESTAMPs in UTC.
    fn emit(
        &self,
        buffers: &mut Buffers,
        cells: &[Cell<'_>],
        handle_id: i64,
        findings: &Findings,
        sink: &mut impl PairSink,
    ) -> Result<RowOutcome, RowError> {
        let physical_id = findings.partition_id.unwrap_or(self.table_id);
        let arrays = if self.has_arrays {
            self.arrays(cells)?
        } else {
            Vec::new()
        };
        let Buffers {
            handle,
            record,
            row,
            entry,
            ..
        } = buffers;
        handle.clear();
        let handle = match &self.handle {
            Handle::Common(parts) => {
                put_common_handle(handle, cells, parts);
                RowHandle::Common(handle)
            }
            _ => RowHandle::Int(handle_id),
        };
        entry.key.clear();
        put_record_key(&mut entry.key, physical_id, handle);
        let len = self.write_record(cells, &entry.key[PREFIX_LEN..], row, record);
        let mut tally = Tally::default();
        tally.pair(sink, Slot::Record, &entry.key, &record[..len]);
        for (position, index) in self.indexes.iter().enumerate() {
            if findings.skipped.contains(&position) {
                continue;
            }
            let owner = if index.global {
                self.table_id
            } else {
                physical_id
            };
            let array = arrays
                .iter()
                .find(|(at, _)| *at == position)
                .map(|(_, elements)| elements);
            let Some(elements) = array else {
                index.entry(cells, None, handle, owner, physical_id, entry);
                tally.pair(sink, Slot::Index(index.id), &entry.key, &entry.value);
                continue;
            };
            for element in elements {
                index.entry(cells, Some(element), handle, owner, physical_id, entry);
                tally.pair(sink, Slot::Index(index.id), &entry.key, &entry.value);
            }
        }
        Ok(RowOutcome {
            physical_id,
            pairs: tally.pairs,
            bytes: tally.bytes,
        })
    }

    /// The integer handle; 0 for a common one.
    #[inline]
    fn handle_id(
        &self,
        fields: &[Field<'_>],
        cells: &[Cell<'_>],
        row_id: i64,
    ) -> Result<i64, RowError> {
        match &self.handle {
            Handle::Common(_) => Ok(0),
            Handle::Int(offset) => match cells.get(*offset) {
                Some(Cell::Int(v)) => Ok(*v),
                Some(Cell::UInt(v)) => Ok(*v as i64),
                _ => Err(null_in(&self.columns[*offset].name)),
            },
            Handle::RowId { layout, field } => {
                let given = field.and_then(|at| fields.get(at)).and_then(given_row_id);
                match given {
                    Some(id) => Ok(id),
                    None => {
                        counter_id(*layout, row_id, super::plan::ROW_ID_COLUMN).map(|id| id as i64)
                    }
                }
            }
        }
    }

    /// Evaluates what depends on other columns.
    #[inline]
    fn complete(
        &self,
        cells: &mut [Cell<'_>],
        checked: bool,
        findings: &mut Findings,
    ) -> Result<(), RowError> {
        if let Some(computed) = &self.computed {
            *findings = computed.complete(&self.columns, cells, checked, |column| {
                column.instead_of_null(self)
            })?;
        }
        Ok(())
    }

    /// Elements of the multi-valued indexes, by position of the index. NULL makes one entry.
    fn arrays(&self, cells: &[Cell<'_>]) -> Result<Vec<(usize, Vec<Cell<'static>>)>, RowError> {
        let mut arrays = Vec::new();
        for (position, index) in self.indexes.iter().enumerate() {
            let Some(offset) = index.multi_valued else {
                continue;
            };
            let field_type = &self.columns[offset].field_type;
            let elements = multi_valued::elements(&cells[offset], field_type, &index.name)?;
            arrays.push((position, elements.unwrap_or_else(|| vec![Cell::Null])));
        }
        Ok(arrays)
    }

    fn timestamps_to_utc(&self, cells: &mut [Cell<'_>]) {
        if !self.shifts_timestamps {
            return;
        }
        for (cell, column) in cells.iter_mut().zip(&self.columns) {
            if let (Cell::Time(packed), true) = (&mut *cell, column.timestamp) {
                let local = Time::from_packed(*packed, TimeKind::Timestamp, 6);
                *cell = Cell::Time(self.session.time_zone.to_utc(local).packed());
            }
        }
    }

    /// Writes the row's value into `to` and returns its length; what `to` holds behind it does not matter.
    fn write_record(
        &self,
        cells: &[Cell<'_>],
        handle: &[u8],
        row: &mut RowWriter,
        to: &mut Vec<u8>,
    ) -> usize {
        let checksum = self.session.row_checksum && self.row_format == 2;
        if self.row_format == 2
            && !checksum
            && let Some(len) = self.write_whole(cells, to)
        {
            return len;
        }
        to.clear();
        let written = self
            .stored
            .iter()
            .filter(|column| !(column.omit_null && cells[column.offset].is_null()));
        if self.row_format == 1 {
            written.for_each(|column| put_v1(to, column.id, &cells[column.offset], column.decimal));
            if to.is_empty() {
                to.push(0);
            }
            return to.len();
        }
        row.clear();
        written
            .for_each(|column| row.cell(column.id as u32, &cells[column.offset], column.decimal));
        row.finish(to);
        if checksum {
            put_checksum(to, 0, handle);
        }
        to.len()
    }
}

impl Plan {
    /// Writes a row of which every column has a value, under the head that was made for it, and returns its
    /// length; what `to` held and holds behind it does not matter. `None` where the row is another one.
    fn write_whole(&self, cells: &[Cell<'_>], to: &mut Vec<u8>) -> Option<usize> {
        let head = self.whole_row_head.as_ref()?;
        let data = head.len() + self.stored.len() * 2;
        loop {
            match self.write_values(head, data, cells, to) {
                Ok(len) => return (len <= SMALL_DATA_MAX).then_some(data + len),
                Err(Unwritten::Other) => return None,
                Err(Unwritten::Room(more)) => to.resize(to.len() + data + more, 0),
            }
        }
    }

    /// Fills `to` with the head, the ends of the values and, from `data` on, the values; returns their length.
    fn write_values(
        &self,
        head: &[u8],
        data: usize,
        cells: &[Cell<'_>],
        to: &mut [u8],
    ) -> Result<usize, Unwritten> {
        let (front, values) = to
            .split_at_mut_checked(data)
            .ok_or(Unwritten::Room(VALUE_ROOM))?;
        front[..head.len()].copy_from_slice(head);
        let (ends, _) = front[head.len()..].as_chunks_mut::<2>();
        let mut at = 0;
        for (column, end) in self.stored.iter().zip(ends) {
            at = write_value(values, at, &cells[column.offset], column.decimal)?;
            // Where this wraps around, the row is too long for the head and given up.
            *end = (at as u16).to_le_bytes();
        }
        Ok(at)
    }
}

fn given_row_id(field: &Field<'_>) -> Option<i64> {
    match field {
        Field::Int(v) => Some(*v),
        Field::UInt(v) => i64::try_from(*v).ok(),
        Field::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

fn counter_id(layout: Layout, row_id: i64, column: &str) -> Result<u64, RowError> {
    let id = u64::try_from(row_id).ok().and_then(|n| layout.id(n));
    id.ok_or_else(|| {
        RowError::new(
            column,
            code::OUT_OF_RANGE,
            "Failed to read auto-increment value from storage engine",
        )
    })
}

fn null_in(column: &str) -> RowError {
    RowError::new(
        column,
        code::BAD_NULL,
        format!("Column '{column}' cannot be null"),
    )
}

impl Column {
    /// The long way to a value: whatever the field is, or is not.
    #[inline(never)]
    fn value<'a>(
        &'a self,
        plan: &Plan,
        field: Option<&Field<'a>>,
        row_id: i64,
        ids: &mut AutoIds,
    ) -> Result<Cell<'a>, RowError> {
        let cell = match field {
            Some(field) => self.cast(*field)?,
            None if !matches!(self.auto, Auto::No) => Cell::Null,
            None => self.default.cell(&self.name, &self.cast, row_id)?,
        };
        let cell = self.auto_value(cell, row_id, ids)?;
        if self.keyed_by_uca && has_keyless_character(&cell) {
            let message = "the character U+2CEA1 has no key in collation utf8mb4_0900_ai_ci";
            return Err(RowError::new(
                &self.name,
                code::WRONG_VALUE_FOR_FIELD,
                message,
            ));
        }
        if self.not_null && cell.is_null() {
            return self.instead_of_null(plan);
        }
        Ok(cell)
    }

    fn cast<'a>(&self, field: Field<'a>) -> Result<Cell<'a>, RowError> {
        self.cast
            .cast(field)
            .map_err(|error| RowError::new(&self.name, error.code, error.message))
    }

    #[cold]
    fn instead_of_null<'a>(&self, plan: &Plan) -> Result<Cell<'a>, RowError> {
        let session = &plan.session;
        let zero = self
            .cast
            .zero()
            .filter(|_| !session.is_strict() && session.null_becomes_zero);
        zero.ok_or_else(|| null_in(&self.name))
    }

    /// An automatic id in place of NULL; notes the counter part of whatever the column now holds.
    fn auto_value<'a>(
        &self,
        cell: Cell<'a>,
        row_id: i64,
        ids: &mut AutoIds,
    ) -> Result<Cell<'a>, RowError> {
        let layout = match self.auto {
            Auto::No => return Ok(cell),
            Auto::Increment => None,
            Auto::Random(layout) => Some(layout),
        };
        let cell = match (cell, layout) {
            (Cell::Null, None) => self.cast(Field::Int(row_id))?,
            (Cell::Null, Some(layout)) => {
                self.cast(Field::UInt(counter_id(layout, row_id, &self.name)?))?
            }
            (given, _) => given,
        };
        let used = match &cell {
            Cell::Int(v) => u64::try_from(*v).ok(),
            Cell::UInt(v) => Some(*v),
            Cell::Double(v) if *v >= 0.0 => Some(v.floor() as u64),
            _ => None,
        };
        match layout {
            Some(layout) => {
                ids.auto_random = ids
                    .auto_random
                    .max(raw_id(&cell).map(|id| layout.counter(id)))
            }
            None => ids.auto_increment = ids.auto_increment.max(used),
        }
        Ok(cell)
    }
}

/// TiDB fails on U+2CEA1: its weight table ends just before.
fn has_keyless_character(cell: &Cell<'_>) -> bool {
    const KEYLESS: &[u8] = "\u{2cea1}".as_bytes();
    matches!(cell, Cell::Bytes(text) if memchr::memmem::find(text, KEYLESS).is_some())
}

fn raw_id(cell: &Cell<'_>) -> Option<u64> {
    match cell {
        Cell::Int(v) => Some(*v as u64),
        Cell::UInt(v) => Some(*v),
        _ => None,
    }
}
