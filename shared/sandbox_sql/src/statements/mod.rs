//! Statements by their first words. Each file runs one family; this one also has the small ones: USE, SET,
//! transactions, KILL, and what is accepted without effect.

mod admin;
mod admin_check;
mod change;
mod ddl;
mod dml;
mod ids;
mod info_keys;
pub mod info_schema;
mod rows;
mod set;
mod show;
mod show_columns;
pub mod views;
mod write;

use crate::error::{SqlError, SqlResult};
use crate::expr::parse_select;
use crate::lexer::{Cursor, Tok};
use crate::protocol::{ColumnMeta, RowSink, Value};
use crate::select::run_query;
use crate::session::{Outcome, Session};

/// What `tidb_version()` says.
pub fn tidb_version() -> String {
    "Release Version: v8.5.0\nEdition: Community\nGit Commit Hash: 0000000000000000000000000000000000000000\nGit Branch: HEAD\nUTC Build Time: 2026-01-01 00:00:00\nGoVersion: none (thunderhead sandbox)\nRace Enabled: false\nCheck Table Before Drop: false\nStore: tikv".to_owned()
}

/// Sends a small result set of texts.
pub fn send(
    sink: &mut dyn RowSink,
    columns: &[ColumnMeta],
    rows: &[Vec<Value>],
) -> SqlResult<Outcome> {
    sink.columns(columns)?;
    for row in rows {
        sink.row(row)?;
    }
    Ok(Outcome::ROWS)
}

/// A value of a small result set.
pub fn text(value: impl ToString) -> Value {
    Some(value.to_string().into_bytes())
}

/// Statements that change nothing here and are accepted, because tools send them.
const ACCEPTED: [&str; 14] = [
    "analyze",
    "flush",
    "lock",
    "unlock",
    "grant",
    "revoke",
    "split",
    "optimize",
    "refresh",
    "set role",
    "load stats",
    "create user",
    "drop user",
    "alter user",
];

/// Runs one statement.
pub fn run(
    session: &mut Session,
    mut at: Cursor<'_>,
    sink: &mut dyn RowSink,
) -> SqlResult<Outcome> {
    if at.is("select") || at.is("with") || at.is_op("(") {
        let query = parse_select(&mut at)?;
        let lock = at.locks_rows();
        finish(&at)?;
        run_query(session, &query, lock, sink)?;
        return Ok(Outcome::ROWS);
    }
    let word = match at.peek() {
        Some(Tok::Word(word)) => word.to_ascii_lowercase(),
        _ => return Err(at.error()),
    };
    if ACCEPTED.iter().any(|words| at.clone().eat(words)) {
        return accepted(session, &mut at);
    }
    match word.as_str() {
        "insert" | "replace" => dml::insert(session, &mut at),
        "delete" => change::delete(session, &mut at),
        "update" => change::update(session, &mut at),
        "show" => show::show(session, &mut at, sink),
        "desc" | "describe" | "explain" => show::describe(session, &mut at, sink),
        "set" => set::set(session, &mut at),
        "create" | "drop" | "alter" | "truncate" | "rename" => {
            // A definition ends the transaction that is open.
            session.commit()?;
            ddl::run(session, &mut at)
        }
        "admin" => admin::admin(session, &mut at, sink),
        "use" => {
            at.skip(1);
            let name = at.name()?;
            finish(&at)?;
            session.use_database(&name).map(|()| Outcome::Nothing)
        }
        "begin" | "start" => session.begin().map(|()| Outcome::Nothing),
        "commit" => session.commit().map(|()| Outcome::Nothing),
        "rollback" => {
            session.rollback();
            Ok(Outcome::Nothing)
        }
        "do" => {
            at.skip(1);
            let expr = crate::expr::parse_expr(&mut at)?;
            crate::select::evaluate(session, &[expr])?;
            Ok(Outcome::Nothing)
        }
        "kill" => {
            at.skip(1);
            let _ = at.eat("tidb");
            let _ = at.eat("query") || at.eat("connection");
            let id = at.integer()?;
            let found = u32::try_from(id).is_ok_and(|id| session.kill(id));
            if found {
                Ok(Outcome::Nothing)
            } else {
                Err(SqlError::new(1094, format!("Unknown thread id: {id}")))
            }
        }
        _ => Err(at.error()),
    }
}

/// ANALYZE and its like; the tables they name must exist.
fn accepted(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    if at.eat("analyze table") {
        loop {
            let (db, name) = at.qualified()?;
            session.table(db.as_deref(), &name)?;
            if !at.eat_op(",") {
                break;
            }
        }
    }
    Ok(Outcome::Nothing)
}

/// The statement must end here.
pub fn finish(at: &Cursor<'_>) -> SqlResult<()> {
    if at.done() { Ok(()) } else { Err(at.error()) }
}
