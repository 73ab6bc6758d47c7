//! Running a translated query: sources of its tables, one SQLite connection per session, rows as text.

use super::date_functions::zone_functions;
use super::decimal::Decimal;
use super::functions::{double_text, register};
use super::scope::{ScopeColumn, ident};
use super::translate::{Opened, OutColumn, Tables, Translator};
use super::types::{Kind, Ty};
use super::vtab::{self, KEY_COLUMN, ROW_ID_COLUMN, Registry, Source};
use crate::catalog::is_system;
use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Expr, Query, Select, SelectItem, parse_expr};
use crate::lexer::{Cursor, tokenize};
use crate::protocol::{RowSink, Value};
use crate::session::Session;
use crate::statements::{info_schema, tidb_version, views};
use crate::view::View;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::cell::RefCell;
use std::sync::Arc;
use thunderhead_codec::mysql::tp;
use thunderhead_codec::table::TableDecoder;
use thunderhead_codec::time::TimeKind;

/// Rows between two looks at the kill switch.
const CHECK_EVERY: u64 = 1024;

/// The embedded engine of one session. It holds no data between statements.
pub struct Sqlite {
    db: Connection,
    registry: Registry,
}

fn sqlite_error(error: rusqlite::Error) -> SqlError {
    let text = error.to_string();
    let code = if text.contains("out of range") {
        1690
    } else {
        code::UNKNOWN
    };
    SqlError::new(code, text)
}

impl Sqlite {
    fn open() -> SqlResult<Self> {
        let registry = Registry::default();
        let db = Connection::open_in_memory().map_err(sqlite_error)?;
        register(&db)
            .and_then(|()| vtab::register(&db, registry.clone()))
            .map_err(sqlite_error)?;
        Ok(Self { db, registry })
    }
}

/// Resolves names while a query is translated.
struct Planner<'s> {
    session: &'s Session,
    view: View,
    sources: RefCell<Vec<Arc<Source>>>,
}

impl Planner<'_> {
    fn add(&self, source: Source) -> String {
        let mut sources = self.sources.borrow_mut();
        sources.push(Arc::new(source));
        format!("t{}", sources.len() - 1)
    }
}

impl Tables for Planner<'_> {
    fn open(&self, db: Option<&str>, name: &str) -> SqlResult<Opened> {
        let db = self.session.database_or_current(db)?;
        if is_system(&db) {
            let (columns, rows) = info_schema::rows(self.session, &db, name)?;
            let source = self.add(Source::Rows {
                rows,
                columns: columns.clone(),
            });
            return Ok(Opened::Table(source, columns));
        }
        let table = self.session.catalog().table(&db, name)?;
        if let Some(view) = views::body(&table)? {
            return Ok(Opened::View(Box::new(view)));
        }
        let decoder = TableDecoder::compile(&table.info, &self.session.encoding())?;
        let mut columns = Vec::new();
        for column in table.info.columns() {
            let generated = if column.is_virtual() {
                Some(parse_text(&column.generated_expr_string)?)
            } else {
                None
            };
            columns.push(ScopeColumn {
                name: column.name.original.clone(),
                ty: Ty::of(&column.field_type),
                hidden: column.hidden,
                generated,
            });
        }
        if table.info.has_row_id() {
            columns.push(ScopeColumn {
                name: ROW_ID_COLUMN.to_owned(),
                ty: Ty::int(),
                hidden: true,
                generated: None,
            });
        }
        columns.push(ScopeColumn {
            name: KEY_COLUMN.to_owned(),
            ty: Ty::new(Kind::Blob, 0),
            hidden: true,
            generated: None,
        });
        let source = Source::Records {
            info: Arc::new(table.info),
            decoder: Box::new(decoder),
            view: self.view.clone(),
            columns: columns.clone(),
        };
        Ok(Opened::Table(self.add(source), columns))
    }

    fn variable(&self, expr: &Expr) -> SqlResult<Expr> {
        let value = match expr {
            Expr::SysVar { global, name } => {
                let globals = self.session.shared().globals.read();
                let found = if *global {
                    globals.get(name)
                } else {
                    self.session.variables.get(name)
                };
                let found = found.cloned().ok_or_else(|| {
                    SqlError::new(
                        code::UNKNOWN_SYSTEM_VARIABLE,
                        format!("Unknown system variable '{name}'"),
                    )
                })?;
                Some(found)
            }
            Expr::UserVar(name) => self.session.user_variables.get(name).cloned().flatten(),
            _ => None,
        };
        Ok(value.map_or(Expr::Null, |text| {
            if text.parse::<i64>().is_ok() {
                Expr::Number(text)
            } else {
                text_expr(text)
            }
        }))
    }

    fn session_function(&self, name: &str, args: &[Expr]) -> SqlResult<Option<Expr>> {
        let session = self.session;
        let fsp = match args.first() {
            Some(Expr::Number(n)) => n.parse().unwrap_or(0),
            _ => 0,
        };
        let now = |kind: TimeKind| session.zone().at(session.now_us, kind, fsp).to_string();
        let utc = || {
            thunderhead_codec::time::Zone::utc()
                .at(session.now_us, TimeKind::Datetime, fsp)
                .to_string()
        };
        let temporal = |kind, text: String| Expr::Temporal { kind, text };
        Ok(Some(match name {
            "database" | "schema" => session.db.clone().map_or(Expr::Null, text_expr),
            "version" => text_expr(
                session
                    .variables
                    .get("version")
                    .cloned()
                    .unwrap_or_default(),
            ),
            "tidb_version" => text_expr(tidb_version()),
            "user" | "session_user" | "system_user" => text_expr("root@127.0.0.1".to_owned()),
            "current_user" => text_expr("root@%".to_owned()),
            "connection_id" => Expr::Number(session.id().to_string()),
            "last_insert_id" if args.is_empty() => Expr::Number(session.last_insert_id.to_string()),
            "row_count" | "found_rows" => Expr::Number("-1".to_owned()),
            "get_lock" | "release_lock" => Expr::Number("1".to_owned()),
            "sleep" => Expr::Number("0".to_owned()),
            "tidb_current_tso" => Expr::Number(self.view.ts.to_string()),
            "now" | "current_timestamp" | "localtime" | "localtimestamp" | "sysdate" => {
                temporal("timestamp", now(TimeKind::Datetime))
            }
            "utc_timestamp" => temporal("timestamp", utc()),
            "curdate" | "current_date" => temporal("date", now(TimeKind::Date)),
            "utc_date" => temporal("date", utc().chars().take(10).collect()),
            "curtime" | "current_time" => temporal(
                "time",
                now(TimeKind::Datetime)
                    .split(' ')
                    .nth(1)
                    .unwrap_or_default()
                    .to_owned(),
            ),
            "unix_timestamp" if args.is_empty() => {
                Expr::Number(session.now_us.div_euclid(1_000_000).to_string())
            }
            _ => return Ok(None),
        }))
    }
}

fn text_expr(text: String) -> Expr {
    Expr::Str {
        introducer: None,
        bytes: text.into_bytes(),
    }
}

/// Parses the text of a generated column.
fn parse_text(text: &str) -> SqlResult<Expr> {
    let tokens = tokenize(text.as_bytes())?;
    parse_expr(&mut Cursor::new(text.as_bytes(), &tokens))
}

/// The columns that a query has, without running it.
pub fn describe(session: &mut Session, query: &Query) -> SqlResult<Vec<OutColumn>> {
    let view = session.view()?;
    let planner = Planner {
        session,
        view,
        sources: RefCell::default(),
    };
    Translator::new(&planner)
        .statement(query)
        .map(|(_, columns)| columns)
}

/// Runs a query and gives each row to `each`; the columns come first.
pub fn for_each_row(
    session: &mut Session,
    query: &Query,
    lock: bool,
    columns: &mut dyn FnMut(&[OutColumn]) -> SqlResult<()>,
    each: &mut dyn FnMut(&[Value]) -> SqlResult<()>,
) -> SqlResult<()> {
    let view = if lock {
        session.locked_view()?
    } else {
        session.view()?
    };
    let sqlite = match session.sqlite.take() {
        Some(sqlite) => sqlite,
        None => Sqlite::open()?,
    };
    let planner = Planner {
        session,
        view,
        sources: RefCell::default(),
    };
    let (sql, out) = Translator::new(&planner).statement(query)?;
    tracing::debug!(target: "sandbox_sql", statement_bytes = sql.len(), "translated");
    let sources = planner.sources.take();
    columns(&out)?;
    let count = sources.len();
    *sqlite.registry.lock() = sources;
    zone_functions(&sqlite.db, &session.zone()).map_err(sqlite_error)?;
    for i in 0..count {
        sqlite
            .db
            .execute_batch(&format!(
                "CREATE VIRTUAL TABLE {} USING thunderhead({i})",
                ident(&format!("t{i}"))
            ))
            .map_err(sqlite_error)?;
    }
    run(session, &sqlite.db, &sql, &out, each)?;
    for i in 0..count {
        sqlite
            .db
            .execute_batch(&format!("DROP TABLE {}", ident(&format!("t{i}"))))
            .map_err(sqlite_error)?;
    }
    sqlite.registry.lock().clear();
    // After an error the connection is dropped instead, and the next query opens a fresh one.
    session.sqlite = Some(sqlite);
    Ok(())
}

fn run(
    session: &Session,
    db: &Connection,
    sql: &str,
    out: &[OutColumn],
    each: &mut dyn FnMut(&[Value]) -> SqlResult<()>,
) -> SqlResult<()> {
    let mut statement = db.prepare(sql).map_err(sqlite_error)?;
    let mut rows = statement.query([]).map_err(sqlite_error)?;
    let mut values: Vec<Value> = vec![None; out.len()];
    let mut count = 0u64;
    while let Some(row) = rows.next().map_err(sqlite_error)? {
        for (i, column) in out.iter().enumerate() {
            values[i] = printed(row.get_ref(i).map_err(sqlite_error)?, &column.ty);
        }
        each(&values)?;
        count += 1;
        if count.is_multiple_of(CHECK_EVERY) {
            session.check_killed()?;
        }
    }
    Ok(())
}

/// Runs a query, its rows going to the client.
pub fn run_query(
    session: &mut Session,
    query: &Query,
    lock: bool,
    sink: &mut dyn RowSink,
) -> SqlResult<()> {
    let sink = RefCell::new(sink);
    let mut columns = |out: &[OutColumn]| {
        let metas: Vec<_> = out.iter().map(|c| c.ty.meta(&c.name, &c.table)).collect();
        sink.borrow_mut().columns(&metas)
    };
    for_each_row(session, query, lock, &mut columns, &mut |row| {
        sink.borrow_mut().row(row)
    })
}

/// Values of constant expressions.
pub fn evaluate(session: &mut Session, exprs: &[Expr]) -> SqlResult<Vec<Value>> {
    let item = |expr: &Expr| SelectItem::Expr {
        expr: expr.clone(),
        alias: Some("x".to_owned()),
        text: String::new(),
    };
    let query = Query {
        first: Select {
            items: exprs.iter().map(item).collect(),
            ..Select::default()
        },
        ..Query::default()
    };
    let mut result = Vec::new();
    for_each_row(session, &query, false, &mut |_| Ok(()), &mut |row| {
        result = row.to_vec();
        Ok(())
    })?;
    Ok(result)
}

/// A value of SQLite's as MySQL prints it.
fn printed(value: ValueRef<'_>, ty: &Ty) -> Value {
    let scaled = |text: String| match text.split_once('.').map_or(0, |(_, f)| f.len())
        == ty.scale as usize
    {
        true => text,
        false => Decimal::parse(&text)
            .and_then(|d| d.rescale(ty.scale as u32))
            .map_or(text, |d| d.to_string()),
    };
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(v) if ty.kind == Kind::Decimal => scaled(v.to_string()).into_bytes(),
        ValueRef::Integer(v) if ty.tp == tp::YEAR => format!("{v:04}").into_bytes(),
        ValueRef::Integer(v) => v.to_string().into_bytes(),
        ValueRef::Real(v) if ty.kind == Kind::Decimal => scaled(double_text(v)).into_bytes(),
        ValueRef::Real(v) if ty.tp == tp::DOUBLE && ty.scale > 0 => {
            format!("{v:.*}", ty.scale as usize).into_bytes()
        }
        ValueRef::Real(v) => double_text(v).into_bytes(),
        ValueRef::Text(t) if ty.kind == Kind::Decimal => {
            scaled(String::from_utf8_lossy(t).into_owned()).into_bytes()
        }
        ValueRef::Text(t) if ty.kind == Kind::DateTime => datetime_scaled(t, ty.scale),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    })
}

/// A literal timestamp is kept with six digits; a result shows as many as its type has.
fn datetime_scaled(text: &[u8], scale: i32) -> Vec<u8> {
    const WHOLE: usize = 19;
    let wanted = if scale > 0 {
        WHOLE + 1 + scale as usize
    } else {
        WHOLE
    };
    if text.len() > wanted && text.get(WHOLE) == Some(&b'.') {
        text[..wanted].to_vec()
    } else {
        text.to_vec()
    }
}
