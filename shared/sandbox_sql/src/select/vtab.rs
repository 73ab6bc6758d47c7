//! Tables of the cluster as SQLite's virtual tables: a cursor scans records of a view and decodes them row
//! by row. Equality and ranges on an integer handle become key ranges; everything else SQLite filters.
//!
//! rusqlite's table traits are `unsafe` because the structs must begin with SQLite's own (`repr(C)`, base
//! first), which both do; nothing else here is.
#![allow(unsafe_code)]

use super::scope::{ScopeColumn, ident};

use super::types::Kind;
use crate::view::{View, ViewScan};
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::vtab::{
    Context, CreateVTab, Filters, IndexConstraintOp, IndexInfo, Module, VTab, VTabConnection,
    VTabCursor, VTabKind, sqlite3_vtab, sqlite3_vtab_cursor,
};
use rusqlite::{Connection, Error, Result};
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};
use std::sync::Arc;
use thunderhead_codec::datum::Datum;
use thunderhead_codec::keys;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::table::TableDecoder;
use thunderhead_types::{KeyRange, next_key};

/// Hidden column that holds the record's key.
pub const KEY_COLUMN: &str = "_th_key";
/// Hidden column that holds the handle of a table without a clustered key.
pub const ROW_ID_COLUMN: &str = "_tidb_rowid";

/// What a virtual table reads.
pub enum Source {
    /// Records of a table.
    Records {
        info: Arc<TableInfo>,
        decoder: Box<TableDecoder>,
        view: View,
        columns: Vec<ScopeColumn>,
    },
    /// Rows that were computed, for INFORMATION_SCHEMA.
    Rows {
        rows: Vec<Vec<Value>>,
        columns: Vec<ScopeColumn>,
    },
}

impl Source {
    fn columns(&self) -> &[ScopeColumn] {
        match self {
            Source::Records { columns, .. } | Source::Rows { columns, .. } => columns,
        }
    }

    /// Position of the column that is the integer handle.
    fn handle_position(&self) -> Option<usize> {
        let Source::Records { info, columns, .. } = self else {
            return None;
        };
        let name = match info.handle_column() {
            // Unsigned handles do not sort as their keys do.
            Some(column) if column.field_type.is_unsigned() => return None,
            Some(column) => &column.name.original,
            None if info.has_row_id() => ROW_ID_COLUMN,
            None => return None,
        };
        columns.iter().position(|c| c.name == name)
    }
}

/// Sources of the statement that runs, by the number in the virtual table's name.
pub type Registry = Arc<Mutex<Vec<Arc<Source>>>>;

/// Makes the module known to a connection.
pub fn register(db: &Connection, registry: Registry) -> Result<()> {
    const MODULE: Module<'static, Table> = Module::read_only_module();
    db.create_module(c"thunderhead", &MODULE, Some(registry))
}

#[repr(C)]
struct Table {
    base: sqlite3_vtab,
    source: Arc<Source>,
}

const NO_RANGE: c_int = 0;
const EQUAL: c_int = 1;
const LOW: c_int = 2;
const HIGH: c_int = 4;

// SAFETY: `Table` is `repr(C)` and begins with `sqlite3_vtab`.
unsafe impl<'vtab> VTab<'vtab> for Table {
    type Aux = Registry;
    type Cursor = Cursor;

    fn connect(
        _: &mut VTabConnection,
        aux: Option<&Registry>,
        _: &[u8],
        _: &[u8],
        _: &[u8],
        args: &[&[u8]],
    ) -> Result<(Cow<'static, CStr>, Self)> {
        let number = args
            .first()
            .and_then(|a| std::str::from_utf8(a).ok())
            .and_then(|a| a.trim().parse::<usize>().ok());
        let source = aux
            .zip(number)
            .and_then(|(registry, n)| registry.lock().get(n).cloned());
        let source = source.ok_or_else(|| Error::ModuleError("no such source".to_owned()))?;
        let column = |c: &ScopeColumn| {
            let collation =
                c.ty.sqlite_collation()
                    .map(|n| format!(" COLLATE {}", ident(n)))
                    .unwrap_or_default();
            let hidden = if c.hidden { " HIDDEN" } else { "" };
            // A column without a declared type has no affinity, so values stay as they are.
            format!("{}{hidden}{collation}", ident(&c.name))
        };
        let columns: Vec<String> = source.columns().iter().map(column).collect();
        let schema = CString::new(format!("CREATE TABLE x({})", columns.join(", ")))
            .map_err(|e| Error::ModuleError(e.to_string()))?;
        Ok((
            Cow::Owned(schema),
            Table {
                base: sqlite3_vtab::default(),
                source,
            },
        ))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<bool> {
        const ROWS: i64 = 1_000_000;
        let handle = self.source.handle_position();
        let mut wanted: [Option<usize>; 3] = [None; 3];
        for (i, constraint) in info.constraints().enumerate() {
            if !constraint.is_usable() || handle != usize::try_from(constraint.column()).ok() {
                continue;
            }
            let slot = match constraint.operator() {
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ => 0,
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GE
                | IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GT => 1,
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LE
                | IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LT => 2,
                _ => continue,
            };
            wanted[slot].get_or_insert(i);
        }
        if wanted[0].is_some() {
            wanted[1] = None;
            wanted[2] = None;
        }
        let (mut plan, mut argument) = (NO_RANGE, 0);
        for (slot, bit) in [EQUAL, LOW, HIGH].into_iter().enumerate() {
            if let Some(i) = wanted[slot] {
                argument += 1;
                plan |= bit;
                info.constraint_usage(i).set_argv_index(argument);
            }
        }
        let (cost, rows) = match plan {
            EQUAL => (1.0, 1),
            NO_RANGE => (ROWS as f64, ROWS),
            _ => (ROWS as f64 / 4.0, ROWS / 4),
        };
        info.set_idx_num(plan);
        info.set_estimated_cost(cost);
        info.set_estimated_rows(rows);
        Ok(true)
    }

    fn open(&'vtab mut self) -> Result<Cursor> {
        Ok(Cursor {
            base: sqlite3_vtab_cursor::default(),
            source: self.source.clone(),
            ranges: Vec::new().into_iter(),
            scan: None,
            current: Current::End,
            row: 0,
        })
    }
}

impl CreateVTab<'_> for Table {
    const KIND: VTabKind = VTabKind::Default;
}

/// Where a cursor stands.
enum Current {
    End,
    /// Index into computed rows.
    Computed(usize),
    /// A pair that was not decoded yet, and its decoded columns once one was asked.
    Record {
        key: Vec<u8>,
        value: Vec<u8>,
        datums: std::cell::OnceCell<Vec<Datum>>,
    },
}

#[repr(C)]
struct Cursor {
    base: sqlite3_vtab_cursor,
    source: Arc<Source>,
    ranges: std::vec::IntoIter<KeyRange>,
    scan: Option<ViewScan>,
    current: Current,
    row: i64,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::ModuleError(error.to_string())
}

impl Cursor {
    fn advance(&mut self) -> Result<()> {
        self.row += 1;
        let view = match self.source.as_ref() {
            Source::Rows { rows, .. } => {
                let next = self.row as usize - 1;
                self.current = if next < rows.len() {
                    Current::Computed(next)
                } else {
                    Current::End
                };
                return Ok(());
            }
            Source::Records { view, .. } => view,
        };
        loop {
            match self.scan.as_mut().and_then(Iterator::next) {
                Some(pair) => {
                    let (key, value) = pair.map_err(failed)?;
                    self.current = Current::Record {
                        key,
                        value,
                        datums: std::cell::OnceCell::new(),
                    };
                    return Ok(());
                }
                None => match self.ranges.next() {
                    Some(range) => self.scan = Some(view.scan(range)),
                    None => {
                        self.current = Current::End;
                        return Ok(());
                    }
                },
            }
        }
    }
}

/// The handles between two bounds, both included, as a key range.
fn handle_range(physical_id: i64, low: Option<i64>, high: Option<i64>) -> KeyRange {
    let whole = keys::record_range(physical_id);
    let start = low.map_or(whole.start, |h| keys::record_key(physical_id, h));
    let end = high.map_or(whole.end, |h| next_key(&keys::record_key(physical_id, h)));
    KeyRange::new(start, end)
}

/// A bound as an integer; a value between two integers is rounded outwards, what is no number is no bound.
fn bound(value: &Value, up: bool) -> Option<i64> {
    match value {
        Value::Integer(v) => Some(*v),
        Value::Real(v) if v.abs() < 9e18 => Some(if up { v.ceil() } else { v.floor() } as i64),
        _ => None,
    }
}

// SAFETY: `Cursor` is `repr(C)` and begins with `sqlite3_vtab_cursor`.
unsafe impl VTabCursor for Cursor {
    fn filter(&mut self, plan: c_int, _: Option<&str>, args: &Filters<'_>) -> Result<()> {
        self.row = 0;
        self.scan = None;
        if let Source::Records { info, .. } = self.source.as_ref() {
            let mut values = (0..args.len()).map(|i| args.get::<Value>(i));
            let mut next = |bit: c_int| {
                if plan & bit != 0 {
                    values.next().transpose()
                } else {
                    Ok(None)
                }
            };
            let (equal, low, high) = (next(EQUAL)?, next(LOW)?, next(HIGH)?);
            let low = equal
                .as_ref()
                .or(low.as_ref())
                .and_then(|v| bound(v, false));
            let high = equal
                .as_ref()
                .or(high.as_ref())
                .and_then(|v| bound(v, true));
            let ranges: Vec<KeyRange> = info
                .physical_ids()
                .into_iter()
                .map(|id| handle_range(id, low, high))
                .filter(|r| r.start < r.end)
                .collect();
            self.ranges = ranges.into_iter();
        }
        self.advance()
    }

    fn next(&mut self) -> Result<()> {
        self.advance()
    }

    fn eof(&self) -> bool {
        matches!(self.current, Current::End)
    }

    fn column(&self, context: &mut Context, index: c_int) -> Result<()> {
        let index = usize::try_from(index).map_err(failed)?;
        match (&self.current, self.source.as_ref()) {
            (Current::Computed(row), Source::Rows { rows, .. }) => context.set_result(
                rows.get(*row)
                    .and_then(|r| r.get(index))
                    .cloned()
                    .unwrap_or(Value::Null),
            ),
            (
                Current::Record { key, value, datums },
                Source::Records {
                    info,
                    decoder,
                    columns,
                    ..
                },
            ) => {
                let column = columns.get(index).ok_or_else(|| failed("no such column"))?;
                if column.name == KEY_COLUMN {
                    return context.set_result(Value::Blob(key.clone()));
                }
                if column.name == ROW_ID_COLUMN && index >= info.columns().len() {
                    return context.set_result(int_handle(key));
                }
                if datums.get().is_none() {
                    let row = decoder.record(key, value).map_err(failed)?;
                    let _ = datums.set(row.datums);
                }
                let datum = datums
                    .get()
                    .and_then(|d| d.get(index))
                    .unwrap_or(&Datum::Null);
                context.set_result(sqlite_value(datum, column.ty.kind))
            }
            _ => Err(failed("no row")),
        }
    }

    fn rowid(&self) -> Result<i64> {
        Ok(self.row)
    }
}

/// The handle in a record key of an integer handle.
pub fn int_handle(key: &[u8]) -> Value {
    match key.last_chunk::<8>() {
        Some(bytes) if key.len() == keys::INT_RECORD_LEN => {
            Value::Integer((u64::from_be_bytes(*bytes) ^ 1 << 63) as i64)
        }
        _ => Value::Null,
    }
}

/// A datum as it lives in SQLite.
pub fn sqlite_value(datum: &Datum, kind: Kind) -> Value {
    match datum {
        Datum::Null => Value::Null,
        Datum::Int(v) | Datum::Year(v) => Value::Integer(*v),
        Datum::UInt(v) => {
            i64::try_from(*v).map_or_else(|_| Value::Text(v.to_string()), Value::Integer)
        }
        // The shortest text of a float is what MySQL shows; as a double it would grow digits.
        Datum::Float(v) => Value::Real(v.to_string().parse().unwrap_or(f64::from(*v))),
        Datum::Double(v) => Value::Real(*v),
        other => {
            let bytes = other.to_text().unwrap_or_default();
            match (kind, String::from_utf8(bytes)) {
                (Kind::Blob, Ok(text)) => Value::Blob(text.into_bytes()),
                (_, Ok(text)) => Value::Text(text),
                (_, Err(bytes)) => Value::Blob(bytes.into_bytes()),
            }
        }
    }
}
