//! INSERT, REPLACE, INSERT IGNORE, ON DUPLICATE KEY UPDATE, DELETE and UPDATE. Which rows and which values
//! a query finds out; this file turns them into pairs.

use super::change::replace_row;
use super::ids::IdSource;
use super::rows::{Owned, expression};
use super::write::{Conflict, RowWriter};
use crate::catalog::Counter;
use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Expr, parse_expr, parse_select, substitute};
use crate::lexer::{Cursor, Tok};
use crate::select::{evaluate, for_each_row};
use crate::session::{Outcome, Session};
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::table::Row;

/// Name of the row id as a column of its own.
pub(super) const ROW_ID: &str = "_tidb_rowid";
/// Rows computed before they are encoded.
pub(super) const ROWS_MAX: usize = 1_000_000;

/// What to do about a row that is there already.
#[derive(Clone, Debug, PartialEq)]
enum OnConflict {
    Fail,
    Ignore,
    Replace,
    Update(Vec<(String, Expr)>),
}

pub fn insert(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let replace = at.eat("replace");
    if !replace {
        at.expect("insert")?;
    }
    let _ = at.eat("low_priority") || at.eat("delayed") || at.eat("high_priority");
    let ignore = at.eat("ignore");
    at.eat("into");
    let (db, name) = at.qualified()?;
    let table = session.table(db.as_deref(), &name)?;
    let mut columns = None;
    if at.is_op("(") && !at.is_at(1, "select") {
        columns = Some(column_list(at)?);
    }
    let rows = source_rows(session, at, &table.info, &mut columns)?;
    let mut on_conflict = if replace {
        OnConflict::Replace
    } else {
        OnConflict::Fail
    };
    if at.eat("on duplicate key update") {
        on_conflict = OnConflict::Update(assignments(at)?);
    } else if ignore {
        on_conflict = OnConflict::Ignore;
    }
    super::finish(at)?;
    let columns = columns.unwrap_or_else(|| insertable(&table.info));
    check_columns(&columns, &table.info)?;
    if let Some(bad) = rows.iter().position(|r| r.len() != columns.len()) {
        return Err(SqlError::new(
            code::WRONG_VALUE_COUNT,
            format!("Column count doesn't match value count at row {}", bad + 1),
        ));
    }
    let writer = RowWriter::new(session, table, rows.len() == 1)?;
    write_rows(session, writer, columns, rows, &on_conflict)
}

fn column_list(at: &mut Cursor<'_>) -> SqlResult<Vec<String>> {
    let mut names = Vec::new();
    at.expect_op("(")?;
    if at.eat_op(")") {
        return Ok(names);
    }
    loop {
        let mut name = at.qualified()?.1;
        if at.eat_op(".") {
            name = at.name()?;
        }
        names.push(name);
        if at.eat_op(")") {
            return Ok(names);
        }
        at.expect_op(",")?;
    }
}

/// Columns an INSERT without a list fills.
fn insertable(info: &TableInfo) -> Vec<String> {
    info.columns()
        .iter()
        .filter(|c| !c.hidden)
        .map(|c| c.name.original.clone())
        .collect()
}

pub(super) fn check_columns(columns: &[String], info: &TableInfo) -> SqlResult<()> {
    for (i, name) in columns.iter().enumerate() {
        let lower = name.to_lowercase();
        let known = info
            .columns()
            .iter()
            .any(|c| c.name.lower == lower && !c.hidden)
            || lower == ROW_ID;
        if !known {
            return Err(SqlError::unknown_column(name, "field list"));
        }
        if columns[..i].iter().any(|c| c.eq_ignore_ascii_case(name)) {
            return Err(SqlError::new(
                code::FIELD_SPECIFIED_TWICE,
                format!("Column '{name}' specified twice"),
            ));
        }
    }
    Ok(())
}

/// VALUES, SET or a query.
fn source_rows(
    session: &mut Session,
    at: &mut Cursor<'_>,
    info: &TableInfo,
    columns: &mut Option<Vec<String>>,
) -> SqlResult<Vec<Vec<Owned>>> {
    if at.eat("set") {
        let pairs = assignments(at)?;
        *columns = Some(pairs.iter().map(|(name, _)| name.clone()).collect());
        let exprs: Vec<Expr> = pairs.into_iter().map(|(_, expr)| expr).collect();
        return Ok(vec![owned_row(session, &exprs)?]);
    }
    if at.eat("values") || at.eat("value") {
        let width = columns
            .as_ref()
            .map_or_else(|| insertable(info).len(), Vec::len);
        let mut rows = Vec::new();
        loop {
            at.expect_op("(")?;
            let mut exprs = Vec::with_capacity(width);
            while !at.eat_op(")") {
                exprs.push(parse_expr(at)?);
                if !at.is_op(")") {
                    at.expect_op(",")?;
                }
            }
            if exprs.is_empty() {
                exprs = vec![Expr::Default(None); width];
            }
            rows.push(owned_row(session, &exprs)?);
            if !at.eat_op(",") {
                return Ok(rows);
            }
        }
    }
    let query = parse_select(at)?;
    let mut rows = Vec::new();
    for_each_row(session, &query, true, &mut |_| Ok(()), &mut |row| {
        if rows.len() >= ROWS_MAX {
            return Err(SqlError::new(8004, "Transaction is too large"));
        }
        rows.push(row.iter().cloned().map(Owned::computed).collect::<Vec<_>>());
        Ok(())
    })?;
    Ok(rows)
}

fn owned_row(session: &mut Session, exprs: &[Expr]) -> SqlResult<Vec<Owned>> {
    exprs
        .iter()
        .map(|expr| match Owned::literal(expr) {
            Some(value) => Ok(value),
            None => Ok(Owned::computed(
                evaluate(session, std::slice::from_ref(expr))?
                    .pop()
                    .flatten(),
            )),
        })
        .collect()
}

/// `column = expr, …`.
pub(super) fn assignments(at: &mut Cursor<'_>) -> SqlResult<Vec<(String, Expr)>> {
    let mut pairs = Vec::new();
    loop {
        let Expr::Column { name, .. } = parse_column(at)? else {
            return Err(at.error());
        };
        if !at.eat_op("=") {
            at.expect_op(":=")?;
        }
        pairs.push((name, parse_expr(at)?));
        if !at.eat_op(",") {
            return Ok(pairs);
        }
    }
}

fn parse_column(at: &mut Cursor<'_>) -> SqlResult<Expr> {
    let mut name = at.name()?;
    while matches!(at.peek(), Some(Tok::Op("."))) {
        at.skip(1);
        name = at.name()?;
    }
    Ok(Expr::Column { table: None, name })
}

/// Encodes and writes rows, numbering those that need an id.
fn write_rows(
    session: &mut Session,
    mut writer: RowWriter,
    mut columns: Vec<String>,
    mut rows: Vec<Vec<Owned>>,
    on_conflict: &OnConflict,
) -> SqlResult<Outcome> {
    let mut ids = IdSource::new(session, writer.info(), &mut columns, &mut rows);
    let count = rows.len();
    let mut affected = 0;
    for (i, mut row) in rows.into_iter().enumerate() {
        let id = ids.next(session, &writer.table, &mut row, count - i)?;
        affected += write_row(session, &mut writer, &columns, &row, id, i + 1, on_conflict)?;
    }
    let used = writer.auto_ids;
    let counters = [
        (ids.counter, used.auto_increment),
        (Counter::RowId, used.row_id),
        (Counter::AutoRandom, used.auto_random),
    ];
    for (counter, used) in counters {
        if let Some(used) = used {
            session
                .catalog()
                .rebase(&writer.table, counter, used, false)?;
        }
    }
    writer.finish(session)?;
    if ids.first != 0 {
        session.last_insert_id = ids.first;
    }
    let warnings = session.warnings.len();
    let info = if count > 1 {
        format!("Records: {count}  Duplicates: 0  Warnings: {warnings}")
    } else {
        String::new()
    };
    Ok(Outcome::Done {
        affected,
        insert_id: ids.first,
        warnings: 0,
        info,
    })
}

/// Writes one row; how many rows it affected.
fn write_row(
    session: &mut Session,
    writer: &mut RowWriter,
    columns: &[String],
    row: &[Owned],
    id: i64,
    number: usize,
    on_conflict: &OnConflict,
) -> SqlResult<u64> {
    let pairs = match writer.encode(columns, row, id, number) {
        Ok(pairs) => pairs,
        Err(error) if *on_conflict == OnConflict::Ignore => {
            session.warn(error.code, error.message);
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let mut replaced = 0;
    while let Some(Conflict { record, error }) = writer.conflict(&pairs)? {
        match on_conflict {
            OnConflict::Fail => return Err(error),
            OnConflict::Ignore => {
                session.warn(error.code, error.message);
                return Ok(0);
            }
            OnConflict::Replace => {
                let old = writer.row(&record)?.ok_or(error)?;
                writer.delete(&old)?;
                replaced += 1;
            }
            OnConflict::Update(assignments) => {
                let old = writer.row(&record)?.ok_or(error)?;
                return update_conflicting(session, writer, &old, columns, row, assignments);
            }
        }
    }
    writer.put(pairs);
    Ok(1 + replaced)
}

/// ON DUPLICATE KEY UPDATE of one row: 2 if it changed, 0 if not.
fn update_conflicting(
    session: &mut Session,
    writer: &mut RowWriter,
    old: &Row,
    columns: &[String],
    row: &[Owned],
    assignments: &[(String, Expr)],
) -> SqlResult<u64> {
    let info = writer.info().clone();
    let mut current: Vec<(String, Expr)> = info
        .columns()
        .iter()
        .map(|c| {
            (
                c.name.lower.clone(),
                expression(&old.datums[c.offset], &c.field_type),
            )
        })
        .collect();
    let given = |name: &str| {
        columns
            .iter()
            .position(|c| c.eq_ignore_ascii_case(name))
            .map(|i| &row[i])
    };
    let mut values = Vec::new();
    for (name, expr) in assignments {
        let resolved = substitute(expr, &|e| match e {
            Expr::Column { name, .. } => current
                .iter()
                .find(|(c, _)| *c == name.to_lowercase())
                .map(|(_, v)| v.clone()),
            Expr::Values(name) => Some(match given(name) {
                Some(Owned::Text(v)) => Expr::Str {
                    introducer: None,
                    bytes: v.clone(),
                },
                Some(Owned::Binary(v)) => Expr::Binary(v.clone()),
                Some(Owned::Int(v)) => Expr::Number(v.to_string()),
                Some(Owned::UInt(v)) => Expr::Number(v.to_string()),
                _ => Expr::Null,
            }),
            _ => None,
        });
        let value = owned_row(session, std::slice::from_ref(&resolved))?
            .pop()
            .unwrap_or(Owned::Null);
        if let Some(slot) = current.iter_mut().find(|(c, _)| *c == name.to_lowercase()) {
            slot.1 = resolved;
        }
        values.push((name.clone(), value));
    }
    Ok(if replace_row(session, writer, old, &values, 1)? {
        2
    } else {
        0
    })
}
