//! Ids that an INSERT takes from the table's counters: AUTO_INCREMENT, AUTO_RANDOM, `_tidb_rowid`.

use super::rows::Owned;
use crate::catalog::{Counter, Table, auto_increment_counter};
use crate::error::SqlResult;
use crate::session::Session;
use thunderhead_codec::mysql::flag;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::SqlMode;

/// Numbers the rows of one INSERT.
pub struct IdSource {
    /// Position of the automatic column in a row, if there is one.
    auto: Option<usize>,
    pub counter: Counter,
    has_row_id: bool,
    zero_is_value: bool,
    /// Ids taken and not used yet: the next one and how many.
    block: (u64, u64),
    /// The first id that was generated; 0 when none was.
    pub first: u64,
}

impl IdSource {
    /// Looks at the table; adds its automatic column to `columns` and `rows` when they lack it.
    pub fn new(
        session: &Session,
        info: &TableInfo,
        columns: &mut Vec<String>,
        rows: &mut [Vec<Owned>],
    ) -> Self {
        let (column, counter) = automatic(info);
        let auto = column.map(|name| {
            columns
                .iter()
                .position(|c| c.eq_ignore_ascii_case(&name))
                .unwrap_or_else(|| {
                    columns.push(name);
                    rows.iter_mut().for_each(|row| row.push(Owned::Default));
                    columns.len() - 1
                })
        });
        let mode = session.variables.get("sql_mode").map_or("", String::as_str);
        Self {
            auto,
            counter,
            has_row_id: info.has_row_id(),
            zero_is_value: SqlMode::parse(mode).has(SqlMode::NO_AUTO_VALUE_ON_ZERO),
            block: (1, 0),
            first: 0,
        }
    }

    /// Number of the next row, its automatic column filled in or left to the encoder. `rows_left` counts
    /// this row; so many ids may be taken at once.
    pub fn next(
        &mut self,
        session: &Session,
        table: &Table,
        row: &mut [Owned],
        rows_left: usize,
    ) -> SqlResult<i64> {
        let Some(position) = self.auto else {
            return if self.has_row_id {
                self.take(session, table, rows_left)
            } else {
                Ok(1)
            };
        };
        let generate = self.wants_id(&row[position]);
        if !self.has_row_id {
            if !generate {
                return Ok(1);
            }
            row[position] = Owned::Default;
            let id = self.take(session, table, rows_left)?;
            self.note(id);
            return Ok(id);
        }
        // Column and row id are two ids of one row, taken one after the other as the server does.
        let catalog = session.catalog();
        if generate {
            let id = catalog.take(table, self.counter, 1)?;
            row[position] = Owned::UInt(id);
            self.note(id as i64);
        } else if let Some(given) = number(&row[position]) {
            catalog.rebase(table, self.counter, given, false)?;
        }
        Ok(catalog.take(table, Counter::RowId, 1)? as i64)
    }

    fn note(&mut self, id: i64) {
        if self.first == 0 {
            self.first = id as u64;
        }
    }

    fn wants_id(&self, value: &Owned) -> bool {
        value.is_null()
            || *value == Owned::Default
            || (number(value) == Some(0) && !self.zero_is_value)
    }

    fn take(&mut self, session: &Session, table: &Table, rows_left: usize) -> SqlResult<i64> {
        if self.block.1 == 0 {
            let count = rows_left.max(1) as u64;
            self.block = (session.catalog().take(table, self.counter, count)?, count);
        }
        let id = self.block.0;
        self.block = (id + 1, self.block.1 - 1);
        Ok(id as i64)
    }
}

fn number(value: &Owned) -> Option<u64> {
    match value {
        Owned::Int(v) => u64::try_from(*v).ok(),
        Owned::UInt(v) => Some(*v),
        Owned::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// The automatic column, and the counter its ids, or those of the rows, come from.
fn automatic(info: &TableInfo) -> (Option<String>, Counter) {
    if info.auto_random_bits > 0 {
        return (
            info.handle_column().map(|c| c.name.original.clone()),
            Counter::AutoRandom,
        );
    }
    match info
        .columns()
        .iter()
        .find(|c| c.field_type.has_flag(flag::AUTO_INCREMENT))
    {
        Some(column) => (
            Some(column.name.original.clone()),
            auto_increment_counter(info),
        ),
        None => (None, Counter::RowId),
    }
}
