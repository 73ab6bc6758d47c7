//! CREATE, DROP, ALTER, TRUNCATE, RENAME: the model changes in the catalog, then the pairs that no model
//! owns any more are destroyed and those a new index needs are written.

use super::finish;
use super::views::{self, WRONG_OBJECT};
use super::write::backfill;
use crate::catalog::{Counter, Table, auto_increment_counter, is_system};
use crate::ddl::{
    AlterSpec, BuildContext, CreateTable, apply_alter, build_table, charset_of_collation,
    default_collation, parse_alter, parse_create_table,
};
use crate::error::{SqlError, SqlResult, code};
use crate::expr::Expr;
use crate::lexer::{Cursor, Tok};
use crate::select::evaluate;
use crate::session::{Outcome, Session};
use std::cell::RefCell;
use thunderhead_codec::keys;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::time::TimeKind;

pub fn run(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    if at.eat("create database") || at.eat("create schema") {
        return create_database(session, at);
    }
    if at.eat("drop database") || at.eat("drop schema") {
        return drop_database(session, at);
    }
    if at.eat("create table") {
        let def = parse_create_table(at)?;
        return create_table(session, &def);
    }
    if let Some(done) = views::run(session, at) {
        return done;
    }
    if at.eat("drop table") {
        return drop_tables(session, at);
    }
    if at.eat("truncate") {
        at.eat("table");
        let (db, name) = at.qualified()?;
        finish(at)?;
        let table = session.table(db.as_deref(), &name)?;
        let old = session.catalog().truncate_table(&table)?;
        return destroy(session, &old).map(|()| Outcome::Nothing);
    }
    if at.eat("rename table") {
        return rename_tables(session, at);
    }
    if at.eat("alter table") {
        let (db, name) = at.qualified()?;
        let specs = parse_alter(at)?;
        return alter(session, db.as_deref(), &name, &specs);
    }
    if at.eat("alter database") || at.eat("alter schema") {
        return Ok(Outcome::Nothing);
    }
    index_statement(session, at)
}

/// `CREATE [UNIQUE] INDEX i ON t (…)` and `DROP INDEX i ON t`, as the clauses of ALTER TABLE they are.
fn index_statement(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    if at.eat("drop index") {
        let index = at.name()?;
        at.expect("on")?;
        let (db, name) = at.qualified()?;
        return alter(
            session,
            db.as_deref(),
            &name,
            &[AlterSpec::DropIndex(index)],
        );
    }
    let start = at.clone();
    at.expect("create")?;
    let unique = at.eat("unique");
    at.expect("index").map_err(|_| start.error())?;
    at.eat("if not exists");
    let index = at.name()?;
    at.expect("on")?;
    let (db, name) = at.qualified()?;
    let key = crate::ddl::parse_index(at, unique, index)?;
    finish(at)?;
    alter(session, db.as_deref(), &name, &[AlterSpec::AddKey(key)])
}

fn create_database(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let if_not_exists = at.eat("if not exists");
    let name = at.name()?;
    let (mut charset, mut collate) = (None, None);
    while !at.done() {
        at.eat("default");
        let is_charset = at.eat("character set") || at.eat("charset");
        if !is_charset && !at.eat("collate") {
            return Err(at.error());
        }
        at.eat_op("=");
        let value = match at.next() {
            Some(Tok::Word(v) | Tok::Quoted(v)) => v.to_lowercase(),
            Some(Tok::Str(v)) => String::from_utf8_lossy(v).to_lowercase(),
            _ => return Err(at.error()),
        };
        if is_charset {
            charset = Some(value)
        } else {
            collate = Some(value)
        }
    }
    let (charset, collate) = match (charset, collate) {
        (_, Some(collate)) => (charset_of_collation(&collate)?.to_owned(), collate),
        (Some(charset), None) => (charset.clone(), default_collation(&charset)?.to_owned()),
        (None, None) => ("utf8mb4".to_owned(), "utf8mb4_bin".to_owned()),
    };
    if !session
        .catalog()
        .create_database(&name, &charset, &collate, if_not_exists)?
    {
        session.warn(
            code::CANNOT_CREATE_DB_EXISTS,
            format!("Can't create database '{name}'; database exists"),
        );
    }
    Ok(Outcome::affected(1))
}

fn drop_database(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let if_exists = at.eat("if exists");
    let name = at.name()?;
    finish(at)?;
    if is_system(&name) {
        return Err(SqlError::new(
            1044,
            format!("Access denied for user 'root'@'%' to database '{name}'"),
        ));
    }
    let ids = match session.catalog().drop_database(&name) {
        Ok(ids) => ids,
        Err(error) if error.code == code::UNKNOWN_DB && if_exists => {
            session.warn(
                code::DROP_DB_MISSING,
                format!("Can't drop database '{name}'; database doesn't exist"),
            );
            return Ok(Outcome::Nothing);
        }
        Err(error) if error.code == code::UNKNOWN_DB => {
            return Err(SqlError::new(
                code::DROP_DB_MISSING,
                format!("Can't drop database '{name}'; database doesn't exist"),
            ));
        }
        Err(error) => return Err(error),
    };
    if session
        .db
        .as_ref()
        .is_some_and(|db| db.eq_ignore_ascii_case(&name))
    {
        session.db = None;
    }
    destroy(session, &ids)?;
    Ok(Outcome::Nothing)
}

fn destroy(session: &Session, ids: &[i64]) -> SqlResult<()> {
    for id in ids {
        session.engine().destroy_range(&keys::table_range(*id))?;
    }
    Ok(())
}

/// Runs `build` with what a definition depends on outside itself.
fn with_context<T>(
    session: &mut Session,
    charset: &str,
    collate: &str,
    build: impl FnOnce(&BuildContext<'_>) -> SqlResult<T>,
) -> SqlResult<T> {
    let zone = session.zone();
    let clustered = session
        .variables
        .get("tidb_enable_clustered_index")
        .is_none_or(|v| v != "OFF");
    let session = RefCell::new(session);
    let to_utc = |text: &str| {
        let local = thunderhead_codec::time::parse::datetime_strict(text.as_bytes(), &zone)
            .ok_or_else(|| SqlError::new(code::INVALID_DEFAULT, "Invalid default value"))?;
        let mut utc = zone.to_utc(local);
        utc.kind = TimeKind::Timestamp;
        Ok(utc.to_string())
    };
    let eval = |expr: &Expr| {
        let value = evaluate(&mut session.borrow_mut(), std::slice::from_ref(expr))?
            .pop()
            .flatten();
        Ok(value.map(|v| String::from_utf8_lossy(&v).into_owned()))
    };
    build(&BuildContext {
        charset,
        collate,
        clustered,
        to_utc: &to_utc,
        eval: &eval,
    })
}

fn create_table(session: &mut Session, def: &CreateTable) -> SqlResult<Outcome> {
    let db_name = session.database_or_current(def.db.as_deref())?;
    let db = session.catalog().database(&db_name)?;
    if session.catalog().table(&db_name, &def.name).is_ok() {
        let text = format!(
            "Table '{}.{}' already exists",
            db.db_name.original, def.name
        );
        if def.if_not_exists {
            session.warn(code::TABLE_EXISTS, text);
            return Ok(Outcome::Nothing);
        }
        return Err(SqlError::new(code::TABLE_EXISTS, text));
    }
    let info = match &def.like {
        Some((like_db, like)) => {
            let mut info = session.table(like_db.as_deref(), like)?.info;
            clear_ids(&mut info);
            info.name = thunderhead_codec::schema::Name::new(def.name.clone());
            info
        }
        None => with_context(session, &db.charset, &db.collate, |context| {
            build_table(def, context)
        })?,
    };
    let info = session.catalog().create_table(&db, info)?;
    pre_split(session, &info)?;
    Ok(Outcome::Nothing)
}

fn clear_ids(info: &mut TableInfo) {
    info.id = 0;
    info.auto_inc_id = 0;
    info.auto_rand_id = 0;
    for definition in info
        .partition
        .iter_mut()
        .flat_map(|p| p.definitions.iter_mut().flatten())
    {
        definition.id = 0;
    }
}

/// A new table begins a region, and with PRE_SPLIT_REGIONS each shard of its row ids does.
fn pre_split(session: &Session, info: &TableInfo) -> SqlResult<()> {
    let mut splits: Vec<Vec<u8>> = info
        .physical_ids()
        .into_iter()
        .map(keys::table_prefix)
        .collect();
    let bits = info.pre_split_regions.min(info.shard_row_id_bits).min(10);
    for shard in 1..1i64 << bits {
        splits.push(keys::record_key(info.id, shard << (63 - bits)));
    }
    session.engine().split(&splits)?;
    Ok(())
}

fn drop_tables(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let if_exists = at.eat("if exists");
    let mut missing = Vec::new();
    loop {
        let (db, name) = at.qualified()?;
        match session.table(db.as_deref(), &name) {
            Ok(table) => {
                let ids = session.catalog().drop_table(&table)?;
                destroy(session, &ids)?;
            }
            Err(error)
                if matches!(
                    error.code,
                    code::NO_SUCH_TABLE | code::UNKNOWN_DB | WRONG_OBJECT
                ) =>
            {
                let db = session.database_or_current(db.as_deref())?;
                missing.push(format!("{db}.{name}"));
            }
            Err(error) => return Err(error),
        }
        if !at.eat_op(",") {
            break;
        }
    }
    let text = format!("Unknown table '{}'", missing.join(","));
    if missing.is_empty() {
    } else if if_exists {
        session.warn(code::BAD_TABLE, text);
    } else {
        return Err(SqlError::new(code::BAD_TABLE, text));
    }
    Ok(Outcome::Nothing)
}

fn rename_tables(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    loop {
        let (db, name) = at.qualified()?;
        at.expect("to")?;
        let (to_db, to) = at.qualified()?;
        let table = session.table(db.as_deref(), &name)?;
        rename(session, &table, to_db.as_deref(), &to)?;
        if !at.eat_op(",") {
            return Ok(Outcome::Nothing);
        }
    }
}

fn rename(session: &Session, table: &Table, db: Option<&str>, name: &str) -> SqlResult<()> {
    let db = match db {
        Some(db) => session.catalog().database(db)?,
        None => table.db.clone(),
    };
    session.catalog().rename_table(table, &db, name)
}

fn alter(
    session: &mut Session,
    db: Option<&str>,
    name: &str,
    specs: &[AlterSpec],
) -> SqlResult<Outcome> {
    for (i, spec) in specs.iter().enumerate() {
        let mut table = session.table(db, name)?;
        // Several clauses are one change with several parts, which TiDB writes down once more.
        table.info.revision += u64::from(i == 1);
        match spec {
            AlterSpec::RenameTable(to_db, to) => {
                rename(session, &table, to_db.as_deref(), to)?;
                return Ok(Outcome::Nothing);
            }
            AlterSpec::AutoIncrement { next, force } => rebase(
                session,
                &table,
                auto_increment_counter(&table.info),
                *next,
                *force,
            )?,
            AlterSpec::AutoRandomBase(next) => {
                rebase(session, &table, Counter::AutoRandom, *next, false)?
            }
            _ => {
                let (charset, collate) = (table.db.charset.clone(), table.db.collate.clone());
                let change = with_context(session, &charset, &collate, |context| {
                    apply_alter(&mut table.info, spec, context)
                })?;
                table.info = session.catalog().put_table(&table)?;
                if !change.indexes_added.is_empty()
                    && let Err(error) = backfill(session, &table, &change.indexes_added)
                {
                    undo_indexes(session, &mut table, &change.indexes_added)?;
                    return Err(error);
                }
                destroy_indexes(session, &table.info, &change.indexes_dropped)?;
                destroy(session, &change.partitions_dropped)?;
            }
        }
    }
    Ok(Outcome::Nothing)
}

/// Takes back indexes that existing rows did not allow.
fn undo_indexes(session: &mut Session, table: &mut Table, ids: &[i64]) -> SqlResult<()> {
    let indexes = table.info.indexes().to_vec();
    for index in indexes.iter().filter(|i| ids.contains(&i.id)) {
        let spec = AlterSpec::DropIndex(index.idx_name.original.clone());
        let (charset, collate) = (table.db.charset.clone(), table.db.collate.clone());
        with_context(session, &charset, &collate, |context| {
            apply_alter(&mut table.info, &spec, context)
        })?;
    }
    session.catalog().put_table(table)?;
    destroy_indexes(session, &table.info, ids)
}

fn destroy_indexes(session: &Session, info: &TableInfo, indexes: &[i64]) -> SqlResult<()> {
    for physical in crate::catalog::all_ids(info) {
        for index in indexes {
            session
                .engine()
                .destroy_range(&keys::index_range(physical, *index))?;
        }
    }
    Ok(())
}

/// Makes `next` the next id, unless larger ones were given out already.
fn rebase(
    session: &mut Session,
    table: &Table,
    counter: Counter,
    next: i64,
    force: bool,
) -> SqlResult<()> {
    let used = u64::try_from(next).unwrap_or(0).saturating_sub(1);
    let current = session.catalog().counter(table, counter)?;
    if used < current && !force {
        if counter == Counter::AutoRandom {
            return Err(SqlError::new(
                8216,
                format!(
                    "Invalid auto random: alter auto_random_base of table to {next} is smaller than the current one"
                ),
            ));
        }
        session.warn(
            code::UNKNOWN,
            format!(
                "Can't reset AUTO_INCREMENT to {next} without FORCE option, using {} instead",
                current + 1
            ),
        );
    }
    session.catalog().rebase(table, counter, used, force)?;
    let mut changed = table.clone();
    let next = used.max(if force { 0 } else { current }) as i64 + 1;
    if counter == Counter::AutoRandom {
        changed.info.auto_rand_id = next
    } else {
        changed.info.auto_inc_id = next
    }
    session.catalog().put_table(&changed)?;
    Ok(())
}
