//! SET: session, global and user variables, SET NAMES.

use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Expr, parse_expr};
use crate::lexer::{Cursor, Tok};
use crate::select::evaluate;
use crate::session::{Outcome, Session, normal_value};
use thunderhead_codec::time::Zone;

pub fn set(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    at.expect("set")?;
    if at.eat("names") || at.eat("character set") || at.eat("charset") {
        return names(session, at);
    }
    if at.eat("transaction")
        || at.eat("session transaction")
        || at.eat("global transaction")
        || at.is("password")
        || at.is("default")
    {
        return Ok(Outcome::Nothing);
    }
    loop {
        assignment(session, at)?;
        if !at.eat_op(",") {
            break;
        }
    }
    super::finish(at)?;
    Ok(Outcome::Nothing)
}

fn names(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<Outcome> {
    let charset = match at.next() {
        Some(Tok::Word(name) | Tok::Quoted(name)) => name.to_lowercase(),
        Some(Tok::Str(name)) => String::from_utf8_lossy(name).to_lowercase(),
        _ => return Err(at.error()),
    };
    let charset = if charset == "default" {
        "utf8mb4".to_owned()
    } else {
        charset
    };
    let collation = crate::ddl::default_collation(&charset)?;
    for name in [
        "character_set_client",
        "character_set_connection",
        "character_set_results",
    ] {
        session.variables.insert(name.to_owned(), charset.clone());
    }
    session
        .variables
        .insert("collation_connection".to_owned(), collation.to_owned());
    Ok(Outcome::Nothing)
}

fn assignment(session: &mut Session, at: &mut Cursor<'_>) -> SqlResult<()> {
    let mut global = false;
    if at.eat("global") || at.eat("persist") {
        global = true;
    } else if !at.eat("session") {
        at.eat("local");
    }
    let name = match at.next() {
        Some(Tok::SysVar(is_global, name)) => {
            global |= *is_global;
            name.clone()
        }
        Some(Tok::UserVar(name)) => {
            let name = name.to_lowercase();
            assign(at)?;
            let expr = parse_expr(at)?;
            let value = evaluate(session, &[expr])?.pop().flatten();
            session.user_variables.insert(
                name,
                value.map(|v| String::from_utf8_lossy(&v).into_owned()),
            );
            return Ok(());
        }
        Some(Tok::Word(name) | Tok::Quoted(name)) => name.to_lowercase(),
        _ => return Err(at.error()),
    };
    assign(at)?;
    let value = value(session, at, &name)?;
    store(session, global, name, value)
}

fn assign(at: &mut Cursor<'_>) -> SqlResult<()> {
    if at.eat_op("=") || at.eat_op(":=") {
        Ok(())
    } else {
        Err(at.error())
    }
}

/// A bare word is a text (`SET sql_mode = ANSI`, `= ON`), DEFAULT the global value.
fn value(session: &mut Session, at: &mut Cursor<'_>, name: &str) -> SqlResult<String> {
    if at.eat("default") {
        return Ok(session
            .shared()
            .globals
            .read()
            .get(name)
            .cloned()
            .unwrap_or_default());
    }
    if let Some(Tok::Word(word)) = at.peek()
        && matches!(at.peek_at(1), None | Some(Tok::Op(",")))
        && !word.eq_ignore_ascii_case("null")
    {
        at.skip(1);
        return Ok(word.clone());
    }
    let expr = parse_expr(at)?;
    if let Expr::Str { bytes, .. } = &expr {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    let value = evaluate(session, &[expr])?.pop().flatten();
    Ok(value
        .map(|v| String::from_utf8_lossy(&v).into_owned())
        .unwrap_or_default())
}

fn store(session: &mut Session, global: bool, name: String, value: String) -> SqlResult<()> {
    let value = normal_value(session.variables.get(&name), &value);
    if name == "time_zone" && !value.eq_ignore_ascii_case("system") && Zone::parse(&value).is_err()
    {
        return Err(SqlError::new(
            1298,
            format!("Unknown or incorrect time zone: '{value}'"),
        ));
    }
    if matches!(
        name.as_str(),
        "version" | "version_comment" | "system_time_zone" | "hostname" | "datadir"
    ) {
        return Err(SqlError::new(
            1238,
            format!("Variable '{name}' is a read only variable"),
        ));
    }
    if name == "tidb_row_format_version" && !matches!(value.as_str(), "1" | "2") {
        return Err(SqlError::new(
            1231,
            format!("Variable '{name}' can't be set to the value of '{value}'"),
        ));
    }
    if name == "sql_mode"
        && value
            .bytes()
            .any(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b' ')))
    {
        return Err(SqlError::new(code::UNKNOWN, "Incorrect sql_mode"));
    }
    // Turning autocommit on commits what is open.
    if name == "autocommit" && value == "1" {
        session.commit()?;
    }
    if global {
        session.shared().globals.write().insert(name, value);
    } else {
        session.variables.insert(name, value);
    }
    Ok(())
}
