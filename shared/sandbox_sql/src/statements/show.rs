//! SHOW and DESCRIBE.

use super::show_columns::{columns, indexes};
use super::views::{show_create, table_type};
use super::{send, text};
use crate::catalog::{Counter, SYSTEM_DATABASES, auto_increment_counter, is_system};
use crate::ddl::show_create_table;
use crate::error::{SqlError, SqlResult};
use crate::expr::quoted;
use crate::lexer::{Cursor, Tok};
use crate::protocol::{ColumnMeta, RowSink, Value};
use crate::select::like;
use crate::session::{Outcome, Session, shown_value};
use thunderhead_codec::mysql::flag;

/// What follows LIKE, or WHERE compared with one column: rows are kept when their first column is like one
/// of the patterns (`None` keeps all). The second field is the column WHERE names, in lower case.
pub(super) struct Filter(Option<Vec<Vec<char>>>, String);

impl Filter {
    fn parse(at: &mut Cursor<'_>) -> SqlResult<Self> {
        if at.eat("like") {
            return Ok(Self(Some(vec![pattern(&at.string()?)]), String::new()));
        }
        if at.eat("where") {
            // `WHERE Variable_name = 'x'`, `LIKE 'x'`, and an OR or IN of those are asked by clients.
            let column = at.name()?.to_lowercase();
            if at.eat_op("=") || at.eat("like") {
                let only = pattern(&at.string()?);
                super::finish(at)?;
                return Ok(Self(Some(vec![only]), column));
            }
            if at.eat("in") {
                let mut patterns = Vec::new();
                at.expect_op("(")?;
                while patterns.is_empty() || at.eat_op(",") {
                    patterns.push(pattern(&at.string()?));
                }
                at.expect_op(")")?;
                super::finish(at)?;
                return Ok(Self(Some(patterns), column));
            }
            return Err(SqlError::unsupported("this WHERE of SHOW"));
        }
        super::finish(at)?;
        Ok(Self(None, String::new()))
    }

    pub(super) fn keeps(&self, name: &str) -> bool {
        let name = pattern(name);
        self.0.as_ref().is_none_or(|patterns| {
            patterns
                .iter()
                .any(|pattern| like(&name, pattern, Some('\\')))
        })
    }
}

fn pattern(text: &str) -> Vec<char> {
    text.to_lowercase().chars().collect()
}

pub(super) fn texts(names: &[&str]) -> Vec<ColumnMeta> {
    names.iter().map(|n| ColumnMeta::text(*n)).collect()
}

/// `[FROM|IN db]`, or the current database.
fn from_db(session: &Session, at: &mut Cursor<'_>) -> SqlResult<String> {
    if at.eat("from") || at.eat("in") {
        return at.name();
    }
    session.database_or_current(None)
}

pub fn show(
    session: &mut Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    at.expect("show")?;
    if at.eat("databases") || at.eat("schemas") {
        let filter = Filter::parse(at)?;
        let mut names: Vec<String> = SYSTEM_DATABASES.iter().map(|s| (*s).to_owned()).collect();
        names.extend(
            session
                .catalog()
                .databases()?
                .into_iter()
                .map(|db| db.db_name.original),
        );
        names.sort_by_key(|n| n.to_lowercase());
        let rows: Vec<Vec<Value>> = names
            .iter()
            .filter(|n| filter.keeps(n))
            .map(|n| vec![text(n)])
            .collect();
        return send(sink, &texts(&["Database"]), &rows);
    }
    let full = at.eat("full");
    if at.eat("tables") {
        return tables(session, at, sink, full);
    }
    if at.eat("table status") {
        return table_status(session, at, sink);
    }
    if at.eat("table") {
        return table_detail(session, at, sink);
    }
    if at.eat("columns") || at.eat("fields") {
        let (db, name) = of_table(at)?;
        let table = session.table_or_view(db.as_deref(), &name)?;
        let filter = Filter::parse(at)?;
        return columns(&table.info, sink, full, &filter);
    }
    if at.eat("create table") || at.eat("create view") {
        let (db, name) = at.qualified()?;
        super::finish(at)?;
        let table = session.table_or_view(db.as_deref(), &name)?;
        if let Some(view) = &table.info.view {
            let columns = [
                "View",
                "Create View",
                "character_set_client",
                "collation_connection",
            ];
            let row = vec![
                text(&table.info.name.original),
                text(show_create(&table, view)),
                text("utf8mb4"),
                text("utf8mb4_general_ci"),
            ];
            return send(sink, &texts(&columns), &[row]);
        }
        return send(
            sink,
            &texts(&["Table", "Create Table"]),
            &[vec![
                text(&table.info.name.original),
                text(show_create_table(&table.info)),
            ]],
        );
    }
    if at.eat("create database") || at.eat("create schema") {
        at.eat("if not exists");
        let db = session.catalog().database(&at.name()?)?;
        let sql = format!(
            "CREATE DATABASE {} /*!40100 DEFAULT CHARACTER SET {} */",
            quoted(&db.db_name.original),
            db.charset
        );
        return send(
            sink,
            &texts(&["Database", "Create Database"]),
            &[vec![text(&db.db_name.original), text(sql)]],
        );
    }
    if at.eat("index") || at.eat("indexes") || at.eat("keys") {
        let (db, name) = of_table(at)?;
        let table = session.table_or_view(db.as_deref(), &name)?;
        return indexes(&table.info, sink);
    }
    variables_and_others(session, at, sink)
}

fn variables_and_others(
    session: &mut Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    let global = at.eat("global");
    let _ = at.eat("session") || at.eat("local");
    if at.eat("variables") {
        let filter = Filter::parse(at)?;
        let variables = if global {
            session.shared().globals.read().clone()
        } else {
            session.variables.clone()
        };
        let rows: Vec<Vec<Value>> = variables
            .iter()
            .filter(|(n, _)| filter.keeps(n))
            .map(|(n, v)| vec![text(n), text(shown_value(n, v))])
            .collect();
        return send(sink, &texts(&["Variable_name", "Value"]), &rows);
    }
    if at.eat("status") {
        return send(sink, &texts(&["Variable_name", "Value"]), &[]);
    }
    if at.eat("warnings") || at.eat("errors") {
        let rows: Vec<Vec<Value>> = session
            .warnings
            .iter()
            .map(|w| vec![text(w.level), text(w.code), text(&w.message)])
            .collect();
        return send(
            sink,
            &[
                ColumnMeta::text("Level"),
                ColumnMeta::int("Code"),
                ColumnMeta::text("Message"),
            ],
            &rows,
        );
    }
    if at.eat("processlist") {
        let columns = texts(&[
            "Id", "User", "Host", "db", "Command", "Time", "State", "Info",
        ]);
        let row = |id: u32| {
            vec![
                text(id),
                text("root"),
                text("127.0.0.1"),
                None,
                text("Query"),
                text(0),
                text("autocommit"),
                None,
            ]
        };
        let rows: Vec<Vec<Value>> = session
            .shared()
            .connections()
            .into_iter()
            .map(row)
            .collect();
        return send(sink, &columns, &rows);
    }
    if at.eat("engines") {
        return send(
            sink,
            &texts(&["Engine", "Support", "Comment"]),
            &[vec![
                text("InnoDB"),
                text("DEFAULT"),
                text("Pairs in an embedded TiKV"),
            ]],
        );
    }
    if at.eat("grants") {
        return send(
            sink,
            &texts(&["Grants for root@%"]),
            &[vec![text(
                "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION",
            )]],
        );
    }
    if at.eat("collation") || at.eat("character set") || at.eat("charset") {
        let row = |(name, charset): (&str, &str)| vec![text(name), text(charset)];
        let rows: Vec<Vec<Value>> = [
            ("utf8mb4_bin", "utf8mb4"),
            ("utf8_bin", "utf8"),
            ("binary", "binary"),
            ("latin1_bin", "latin1"),
            ("ascii_bin", "ascii"),
        ]
        .map(row)
        .to_vec();
        return send(sink, &texts(&["Collation", "Charset"]), &rows);
    }
    if at.eat("master status") || at.eat("binary log status") {
        let ts = session.engine().tso()?;
        return send(
            sink,
            &texts(&[
                "File",
                "Position",
                "Binlog_Do_DB",
                "Binlog_Ignore_DB",
                "Executed_Gtid_Set",
            ]),
            &[vec![
                text("tidb-binlog"),
                text(ts),
                text(""),
                text(""),
                text(""),
            ]],
        );
    }
    if at.eat("placement")
        || at.eat("stats_meta")
        || at.eat("stats_healthy")
        || at.eat("plugins")
        || at.eat("triggers")
        || at.eat("events")
        || at.eat("procedure status")
        || at.eat("function status")
        || at.eat("config")
        || at.eat("import jobs")
    {
        return send(sink, &texts(&["Name"]), &[]);
    }
    Err(at.error())
}

/// `FROM t [FROM db]`.
fn of_table(at: &mut Cursor<'_>) -> SqlResult<(Option<String>, String)> {
    if !at.eat("from") {
        at.expect("in")?;
    }
    let (mut db, name) = at.qualified()?;
    if at.eat("from") || at.eat("in") {
        db = Some(at.name()?);
    }
    Ok((db, name))
}

fn tables(
    session: &Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
    full: bool,
) -> SqlResult<Outcome> {
    let name = from_db(session, at)?;
    let filter = Filter::parse(at)?;
    let mut names = if is_system(&name) {
        Vec::new()
    } else {
        let db = session.catalog().database(&name)?;
        session
            .catalog()
            .tables(&db)?
            .into_iter()
            .map(|t| (table_type(&t), t.name.original))
            .collect::<Vec<_>>()
    };
    names.retain(|(kind, name)| filter.keeps(if filter.1 == "table_type" { kind } else { name }));
    let mut columns = texts(&[&format!("Tables_in_{name}")]);
    if full {
        columns.push(ColumnMeta::text("Table_type"));
    }
    let row = |(kind, name): &(&str, String)| {
        if full {
            vec![text(name), text(kind)]
        } else {
            vec![text(name)]
        }
    };
    send(sink, &columns, &names.iter().map(row).collect::<Vec<_>>())
}

fn table_status(
    session: &Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    let name = from_db(session, at)?;
    let filter = Filter::parse(at)?;
    let db = session.catalog().database(&name)?;
    let columns = texts(&[
        "Name",
        "Engine",
        "Version",
        "Row_format",
        "Rows",
        "Avg_row_length",
        "Data_length",
        "Max_data_length",
        "Index_length",
        "Data_free",
        "Auto_increment",
        "Create_time",
        "Update_time",
        "Check_time",
        "Collation",
        "Checksum",
        "Create_options",
        "Comment",
    ]);
    let mut rows = Vec::new();
    for info in session
        .catalog()
        .tables(&db)?
        .into_iter()
        .filter(|t| filter.keeps(&t.name.original))
    {
        let zero = || text(0);
        let created = text("2026-01-01 00:00:00");
        rows.push(vec![
            text(&info.name.original),
            text("InnoDB"),
            text(10),
            text("Compact"),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            zero(),
            None,
            created,
            None,
            None,
            text(&info.collate),
            text(""),
            text(""),
            text(&info.comment),
        ]);
    }
    send(sink, &columns, &rows)
}

/// `SHOW TABLE t NEXT_ROW_ID`, `SHOW TABLE t REGIONS`.
fn table_detail(
    session: &Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    let (db, name) = at.qualified()?;
    let table = session.table(db.as_deref(), &name)?;
    if !at.eat("next_row_id") {
        return Err(SqlError::unsupported(format_args!(
            "SHOW TABLE … {}",
            at.rest()
        )));
    }
    let info = &table.info;
    let next = |counter| session.catalog().counter(&table, counter).map(|v| v + 1);
    let mut counters: Vec<(String, Counter, &str)> = Vec::new();
    let increment = info
        .columns()
        .iter()
        .find(|c| c.field_type.has_flag(flag::AUTO_INCREMENT));
    let shared = increment.is_some() && auto_increment_counter(info) == Counter::RowId;
    if (info.has_row_id() || increment.is_none() && info.auto_random_bits == 0) && !shared {
        counters.push(("_tidb_rowid".to_owned(), Counter::RowId, "_TIDB_ROWID"));
    }
    if let Some(column) = increment {
        counters.push((
            column.name.original.clone(),
            Counter::AutoIncrement,
            "AUTO_INCREMENT",
        ));
    }
    if let (true, Some(column)) = (info.auto_random_bits > 0, info.handle_column()) {
        counters.push((
            column.name.original.clone(),
            Counter::AutoRandom,
            "AUTO_RANDOM",
        ));
    }
    let mut rows = Vec::new();
    for (column, counter, kind) in counters {
        rows.push(vec![
            text(&table.db.db_name.original),
            text(&info.name.original),
            text(column),
            text(next(counter)?),
            text(kind),
        ]);
    }
    let mut columns = texts(&[
        "DB_NAME",
        "TABLE_NAME",
        "COLUMN_NAME",
        "NEXT_GLOBAL_ROW_ID",
        "ID_TYPE",
    ]);
    columns[3] = ColumnMeta::int("NEXT_GLOBAL_ROW_ID");
    send(sink, &columns, &rows)
}

pub fn describe(
    session: &mut Session,
    at: &mut Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    at.skip(1);
    if at.is("select") || at.is("analyze") || at.is("with") || matches!(at.peek(), Some(Tok::Op(_)))
    {
        return Err(SqlError::unsupported("EXPLAIN of a query"));
    }
    let (db, name) = at.qualified()?;
    let table = session.table_or_view(db.as_deref(), &name)?;
    let filter = match at.done() {
        true => Filter(None, String::new()),
        false => Filter(Some(vec![pattern(&at.name()?)]), String::new()),
    };
    columns(&table.info, sink, false, &filter)
}
