//! DELETE and UPDATE: a query finds the record keys and computes the new values, each row found is taken
//! apart into its pairs and, for UPDATE, written anew.

use super::dml::{ROW_ID, ROWS_MAX, assignments, check_columns};
use super::rows::Owned;
use super::write::RowWriter;
use crate::error::{SqlError, SqlResult};
use crate::expr::{Expr, Query, Select, SelectItem, TableRef, parse_expr};
use crate::lexer::Cursor;
use crate::protocol::Value;
use crate::select::{KEY_COLUMN, evaluate, for_each_row};
use crate::session::{Outcome, Session};
use thunderhead_codec::mysql::flag;
use thunderhead_codec::table::{Row, Slot};
use thunderhead_codec::time::TimeKind;

/// Writes a row anew with some columns changed; whether anything did change.
pub(super) fn replace_row(
    session: &Session,
    writer: &mut RowWriter,
    old: &Row,
    changes: &[(String, Owned)],
    number: usize,
) -> SqlResult<bool> {
    let info = writer.info().clone();
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    let changed = |name: &str| {
        changes
            .iter()
            .rev()
            .find(|(c, _)| c.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.clone())
    };
    let now = || {
        Owned::Text(
            session
                .zone()
                .at(session.now_us, TimeKind::Datetime, 6)
                .to_string()
                .into_bytes(),
        )
    };
    for column in info
        .columns()
        .iter()
        .filter(|c| !c.is_generated() && !c.hidden)
    {
        columns.push(column.name.original.clone());
        values.push(
            changed(&column.name.original)
                .unwrap_or_else(|| Owned::stored(&old.datums[column.offset])),
        );
    }
    if info.has_row_id() {
        columns.push(ROW_ID.to_owned());
        let handle = old
            .handle
            .first_chunk::<8>()
            .map_or(0, |b| (u64::from_be_bytes(*b) ^ 1 << 63) as i64);
        values.push(Owned::Int(handle));
    }
    let mut pairs = writer.encode(&columns, &values, 1, number)?;
    let record = pairs.iter().find(|(slot, ..)| *slot == Slot::Record);
    if record.is_some_and(|(_, key, value)| writer.decodes_to(key, value, old)) {
        return Ok(false);
    }
    let touched: Vec<usize> = info
        .columns()
        .iter()
        .filter(|c| {
            c.field_type.has_flag(flag::ON_UPDATE_NOW) && changed(&c.name.original).is_none()
        })
        .map(|c| c.offset)
        .collect();
    if !touched.is_empty() {
        for offset in touched {
            if let Some(position) = columns
                .iter()
                .position(|c| *c == info.columns()[offset].name.original)
            {
                values[position] = now();
            }
        }
        pairs = writer.encode(&columns, &values, 1, number)?;
    }
    writer.delete(old)?;
    if let Some(conflict) = writer.conflict(&pairs)? {
        return Err(conflict.error);
    }
    writer.put(pairs);
    Ok(true)
}

/// `FROM t WHERE … ORDER BY … LIMIT n` of DELETE and UPDATE, as a query for the record keys and `items`.
fn target_query(
    at: &mut Cursor<'_>,
    db: Option<String>,
    name: &str,
    alias: Option<String>,
    items: &[Expr],
) -> SqlResult<Query> {
    let item = |expr: Expr| SelectItem::Expr {
        expr,
        alias: None,
        text: "x".to_owned(),
    };
    let first = Select {
        items: std::iter::once(Expr::Column {
            table: None,
            name: KEY_COLUMN.to_owned(),
        })
        .chain(items.iter().cloned())
        .map(item)
        .collect(),
        from: Some(TableRef::Table {
            db,
            name: name.to_owned(),
            alias,
        }),
        ..Select::default()
    };
    let mut query = Query {
        first,
        ..Query::default()
    };
    if at.eat("where") {
        query.first.filter = Some(parse_expr(at)?);
    }
    if at.is("order") {
        query.order_by = crate::expr::parse_order_by(at, 0)?;
    }
    if at.eat("limit") {
        query.limit = Some((parse_expr(at)?, None));
    }
    super::finish(at)?;
    Ok(query)
}

fn matching(session: &mut Session, query: &Query) -> SqlResult<Vec<Vec<Value>>> {
    let mut rows = Vec::new();
    for_each_row(session, query, true, &mut |_| Ok(()), &mut |row| {
        if rows.len() >= ROWS_MAX {
            return Err(SqlError::new(8004, "Transaction is too large"));
        }
        rows.push(row.to_vec());
        Ok(())
    })?;
    Ok(rows)
}

pub fn delete(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    at.expect("delete")?;
    let _ = at.eat("low_priority") || at.eat("quick") || at.eat("ignore");
    at.expect("from")?;
    let (db, name) = at.qualified()?;
    let table = session.table(db.as_deref(), &name)?;
    let query = target_query(at, db, &name, None, &[])?;
    let found = matching(session, &query)?;
    let mut writer = RowWriter::new(session, table, false)?;
    let mut affected = 0;
    for key in found.iter().filter_map(|row| row[0].as_ref()) {
        if let Some(row) = writer.row(key)? {
            writer.delete(&row)?;
            affected += 1;
        }
    }
    writer.finish(session)?;
    Ok(Outcome::affected(affected))
}

pub fn update(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    at.expect("update")?;
    let _ = at.eat("low_priority") || at.eat("ignore");
    let (db, name) = at.qualified()?;
    let alias = if at.is("set") {
        None
    } else {
        at.eat("as");
        Some(at.name()?)
    };
    at.expect("set")?;
    let pairs = assignments(at)?;
    if session
        .database_or_current(db.as_deref())?
        .eq_ignore_ascii_case("mysql")
        && name.eq_ignore_ascii_case("tidb")
    {
        return update_tidb(session, at, &pairs);
    }
    let table = session.table(db.as_deref(), &name)?;
    check_columns(
        &pairs.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(),
        &table.info,
    )?;
    // Literals go to the encoder as written; only what must be computed is asked of the query.
    let computed: Vec<Expr> = pairs
        .iter()
        .filter(|(_, e)| Owned::literal(e).is_none())
        .map(|(_, e)| e.clone())
        .collect();
    let query = target_query(at, db, &name, alias, &computed)?;
    let found = matching(session, &query)?;
    let mut writer = RowWriter::new(session, table, false)?;
    let (mut affected, count) = (0, found.len() as u64);
    for (i, row) in found.into_iter().enumerate() {
        let mut values = row.into_iter();
        let Some(Some(key)) = values.next() else {
            continue;
        };
        let changes: Vec<(String, Owned)> = pairs
            .iter()
            .map(|(name, expr)| {
                (
                    name.clone(),
                    Owned::literal(expr)
                        .unwrap_or_else(|| Owned::computed(values.next().flatten())),
                )
            })
            .collect();
        if let Some(old) = writer.row(&key)? {
            affected += u64::from(replace_row(session, &mut writer, &old, &changes, i + 1)?);
        }
    }
    writer.finish(session)?;
    let info = format!("Rows matched: {count}  Changed: {affected}  Warnings: 0");
    let affected = if session.found_rows { count } else { affected };
    Ok(Outcome::Done {
        affected,
        insert_id: 0,
        warnings: 0,
        info,
    })
}

/// `UPDATE mysql.tidb SET VARIABLE_VALUE = … WHERE VARIABLE_NAME = …`: loaders raise the GC life time so.
fn update_tidb(
    session: &mut Session,
    at: &mut Cursor<'_>,
    pairs: &[(String, Expr)],
) -> SqlResult<Outcome> {
    let [(column, value)] = pairs else {
        return Err(at.error());
    };
    if !column.eq_ignore_ascii_case("variable_value") {
        return Err(SqlError::unknown_column(column, "field list"));
    }
    let value = evaluate(session, std::slice::from_ref(value))?
        .pop()
        .flatten()
        .unwrap_or_default();
    let value = String::from_utf8_lossy(&value).into_owned();
    let mut query = Query::default();
    query.first.items = vec![SelectItem::Expr {
        expr: Expr::Column {
            table: None,
            name: "VARIABLE_NAME".to_owned(),
        },
        alias: None,
        text: String::new(),
    }];
    query.first.from = Some(TableRef::Table {
        db: Some("mysql".to_owned()),
        name: "tidb".to_owned(),
        alias: None,
    });
    if at.eat("where") {
        query.first.filter = Some(parse_expr(at)?);
    }
    super::finish(at)?;
    let names = matching(session, &query)?;
    let mut globals = session.shared().globals.write();
    for name in names.iter().filter_map(|row| row[0].as_ref()) {
        globals.insert(
            format!("mysql.tidb.{}", String::from_utf8_lossy(name)),
            value.clone(),
        );
    }
    Ok(Outcome::affected(names.len() as u64))
}
