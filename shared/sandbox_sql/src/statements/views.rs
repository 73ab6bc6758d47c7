//! CREATE VIEW and DROP VIEW. A view is a model in the catalog with the text of its query, as TiDB has it; the
//! translator puts the query in its place (`select/translate.rs`). TiDB writes the database into every name of the
//! text; here the database that was current is kept beside it.

use super::finish;
use crate::catalog::Table;
use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Query, parse_select, quoted};
use crate::lexer::{Cursor, tokenize};
use crate::select::{OutColumn, describe};
use crate::session::{Outcome, Session};
use serde_json::{Value, json};
use thunderhead_codec::mysql::state;
use thunderhead_codec::schema::{ColumnInfo, FieldType, Name, TableInfo};

/// TableInfo version of TiDB's own.
const MODEL_VERSION: u16 = 5;

/// What a query needs of a view.
pub struct ViewBody {
    /// Database that names without one are in.
    pub db: Option<String>,
    pub query: Query,
    /// Names of its columns.
    pub columns: Vec<String>,
}

/// Runs the statement if it is about a view; the cursor stays where it is if not.
pub fn run(session: &mut Session, at: &mut Cursor<'_>) -> Option<SqlResult<Outcome>> {
    if at.eat("drop view") {
        return Some(drop_views(session, at));
    }
    let mut ahead = at.clone();
    let replace = ahead.eat("create or replace");
    if !replace && !ahead.eat("create") {
        return None;
    }
    // Between them may stand ALGORITHM = …, DEFINER = … and SQL SECURITY ….
    let options = ["view", "algorithm", "definer", "sql"];
    if !options.iter().any(|word| ahead.is(word)) {
        return None;
    }
    while !ahead.eat("view") {
        if ahead.next().is_none() {
            return Some(Err(at.error()));
        }
    }
    Some(create(session, &mut ahead, replace))
}

fn create(session: &mut Session, at: &mut Cursor<'_>, replace: bool) -> SqlResult<Outcome> {
    let (db, name) = at.qualified()?;
    let mut names = Vec::new();
    if at.eat_op("(") {
        loop {
            names.push(at.name()?);
            if !at.eat_op(",") {
                break;
            }
        }
        at.expect_op(")")?;
    }
    at.expect("as")?;
    let start = at.position();
    let query = parse_select(at)?;
    let text = at.slice(start, at.position());
    finish(at)?;

    let out = describe(session, &query)?;
    if !names.is_empty() && names.len() != out.len() {
        return Err(SqlError::new(
            1353,
            "View's SELECT and view's field list have different column counts",
        ));
    }
    let columns: Vec<ColumnInfo> = out
        .iter()
        .enumerate()
        .map(|(n, column)| view_column(n, names.get(n), column))
        .collect();
    let db_name = session.database_or_current(db.as_deref())?;
    let db = session.catalog().database(&db_name)?;
    if let Ok(old) = session.catalog().table(&db_name, &name) {
        if old.info.view.is_none() && replace {
            return Err(not_a("VIEW", &db_name, &name));
        }
        if !replace {
            return Err(SqlError::new(
                code::TABLE_EXISTS,
                format!("Table '{db_name}.{name}' already exists"),
            ));
        }
        session.catalog().drop_table(&old)?;
    }
    let names: Vec<&Name> = columns.iter().map(|column| &column.name).collect();
    let view = json!({
        "view_algorithm": 0,
        "view_definer": {
            "Username": "root", "Hostname": "%", "CurrentUser": false, "AuthUsername": "root", "AuthHostname": "%",
            "AuthPlugin": "",
        },
        "view_security": 0,
        "view_select": text,
        "view_checkoption": 1,
        "view_cols": names,
        "view_db": session.db,
    });
    let info = TableInfo {
        name: Name::new(&name),
        charset: "utf8mb4".to_owned(),
        collate: "utf8mb4_bin".to_owned(),
        max_col_id: columns.len() as i64,
        cols: Some(columns),
        state: state::PUBLIC,
        view: Some(view),
        version: MODEL_VERSION,
        ..TableInfo::default()
    };
    session.catalog().create_table(&db, info)?;
    Ok(Outcome::Nothing)
}

fn view_column(offset: usize, name: Option<&String>, column: &OutColumn) -> ColumnInfo {
    let ty = &column.ty;
    let text = !ty.collation.is_empty() && ty.collation != "binary";
    let (charset, collate) = match text {
        true => ("utf8mb4", ty.collation.as_str()),
        false => ("binary", "binary"),
    };
    ColumnInfo {
        id: offset as i64 + 1,
        name: Name::new(name.unwrap_or(&column.name).clone()),
        offset,
        field_type: FieldType {
            tp: ty.tp,
            flag: ty.flags,
            flen: ty.length,
            decimal: ty.scale,
            charset: charset.to_owned(),
            collate: collate.to_owned(),
            ..FieldType::default()
        },
        state: state::PUBLIC,
        version: 2,
        ..ColumnInfo::default()
    }
}

fn drop_views(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let if_exists = at.eat("if exists");
    let mut missing = Vec::new();
    loop {
        let (db, name) = at.qualified()?;
        let db = session.database_or_current(db.as_deref())?;
        match session.catalog().table(&db, &name) {
            Ok(table) if table.info.view.is_none() => return Err(not_a("VIEW", &db, &name)),
            Ok(table) => drop(session.catalog().drop_table(&table)?),
            Err(error) if matches!(error.code, code::NO_SUCH_TABLE | code::UNKNOWN_DB) => {
                missing.push(format!("{db}.{name}"));
            }
            Err(error) => return Err(error),
        }
        if !at.eat_op(",") {
            break;
        }
    }
    finish(at)?;
    let text = format!("Unknown table '{}'", missing.join(","));
    if !missing.is_empty() && !if_exists {
        return Err(SqlError::new(code::BAD_TABLE, text));
    }
    if !missing.is_empty() {
        session.warn(code::BAD_TABLE, text);
    }
    Ok(Outcome::Nothing)
}

/// The error of a statement that wants the other kind of table.
pub fn not_a(kind: &str, db: &str, name: &str) -> SqlError {
    SqlError::new(WRONG_OBJECT, format!("'{db}.{name}' is not {kind}"))
}

/// Code of [`not_a`].
pub const WRONG_OBJECT: u16 = 1347;

/// The query of a view, from its model.
pub fn body(table: &Table) -> SqlResult<Option<ViewBody>> {
    let Some(view) = &table.info.view else {
        return Ok(None);
    };
    let text = definition(view);
    let tokens = tokenize(text.as_bytes())?;
    let query = parse_select(&mut Cursor::new(text.as_bytes(), &tokens))?;
    let db = view["view_db"].as_str().map(str::to_owned);
    let columns = table.info.columns().iter();
    Ok(Some(ViewBody {
        db,
        query,
        columns: columns.map(|c| c.name.original.clone()).collect(),
    }))
}

/// The text of a view's query.
pub fn definition(view: &Value) -> &str {
    view["view_select"].as_str().unwrap_or_default()
}

/// As INFORMATION_SCHEMA calls it.
pub fn table_type(info: &TableInfo) -> &'static str {
    match info.view {
        Some(_) => "VIEW",
        None => "BASE TABLE",
    }
}

/// As SHOW CREATE VIEW writes it.
pub fn show_create(table: &Table, view: &Value) -> String {
    let columns = table.info.columns().iter();
    let names: Vec<String> = columns.map(|c| quoted(&c.name.original)).collect();
    format!(
        "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`%` SQL SECURITY DEFINER VIEW {} ({}) AS {}",
        quoted(&table.info.name.original),
        names.join(", "),
        definition(view)
    )
}
