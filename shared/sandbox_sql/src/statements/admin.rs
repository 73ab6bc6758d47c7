//! ADMIN CHECKSUM TABLE, ADMIN CHECK TABLE, ADMIN SHOW.

use super::admin_check::check_table;
use super::{send, text};
use crate::catalog::{Table, all_ids};
use crate::error::SqlResult;
use crate::lexer::Cursor;
use crate::protocol::{ColumnMeta, RowSink};
use crate::session::{Outcome, Session};
use thunderhead_codec::keys;
use thunderhead_codec::mysql::state;
use thunderhead_types::Checksum;

pub fn admin(
    session: &mut Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    at.expect("admin")?;
    if at.eat("checksum table") {
        let tables = tables(session, at)?;
        let ts = session.engine().tso()?;
        let mut rows = Vec::new();
        for table in &tables {
            let sum = checksum(session, table, ts)?;
            rows.push(vec![
                text(&table.db.db_name.original),
                text(&table.info.name.original),
                text(sum.crc64_xor),
                text(sum.kvs),
                text(sum.bytes),
            ]);
        }
        let mut columns = vec![ColumnMeta::text("Db_name"), ColumnMeta::text("Table_name")];
        for name in ["Checksum_crc64_xor", "Total_kvs", "Total_bytes"] {
            let mut column = ColumnMeta::int(name);
            column.flags |= thunderhead_codec::mysql::flag::UNSIGNED;
            columns.push(column);
        }
        return send(sink, &columns, &rows);
    }
    if at.eat("check table") {
        for table in tables(session, at)? {
            check_table(session, &table, None)?;
        }
        return Ok(Outcome::Nothing);
    }
    if at.eat("check index") {
        let (db, name) = at.qualified()?;
        let table = session.table(db.as_deref(), &name)?;
        let index = at.name()?;
        check_table(session, &table, Some(&index))?;
        return Ok(Outcome::Nothing);
    }
    if at.eat("show ddl jobs") || at.eat("show ddl") || at.eat("show slow") {
        let names = [
            "JOB_ID",
            "DB_NAME",
            "TABLE_NAME",
            "JOB_TYPE",
            "SCHEMA_STATE",
            "SCHEMA_ID",
            "TABLE_ID",
            "ROW_COUNT",
            "CREATE_TIME",
            "START_TIME",
            "END_TIME",
            "STATE",
        ];
        return send(sink, &names.map(ColumnMeta::text), &[]);
    }
    if at.is("show")
        && at.is_at(
            at.rest().split_whitespace().count().saturating_sub(1),
            "next_row_id",
        )
    {
        return super::show::show(session, at, sink);
    }
    if at.eat("reload")
        || at.eat("flush")
        || at.eat("repair")
        || at.eat("cancel")
        || at.eat("pause")
        || at.eat("resume")
    {
        return Ok(Outcome::Nothing);
    }
    Err(at.error())
}

fn tables(session: &Session, at: &mut Cursor<'_>) -> SqlResult<Vec<Table>> {
    let mut tables = Vec::new();
    loop {
        let (db, name) = at.qualified()?;
        tables.push(session.table(db.as_deref(), &name)?);
        if !at.eat_op(",") {
            super::finish(at)?;
            return Ok(tables);
        }
    }
}

/// Records and public indexes of the table's id and of its partitions', as one tally.
fn checksum(session: &Session, table: &Table, ts: u64) -> SqlResult<Checksum> {
    let mut sum = Checksum::default();
    for id in all_ids(&table.info) {
        let indexes = table
            .info
            .indexes()
            .iter()
            .filter(|i| i.state == state::PUBLIC);
        let ranges = std::iter::once(keys::record_range(id))
            .chain(indexes.map(|i| keys::index_range(id, i.id)));
        for range in ranges {
            sum.merge(&session.engine().checksum(&range, ts)?);
        }
    }
    Ok(sum)
}
