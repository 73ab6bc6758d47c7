//! The clauses of ALTER TABLE.

use super::alter::{AlterSpec, Place};
use super::parse::{parse_constraint, partition_items, table_option};
use super::parse_column::{default_value, parse_column};
use super::{Constraint, TableOptions};
use crate::error::{SqlError, SqlResult};
use crate::lexer::Cursor;

/// The clauses after the table's name.
pub fn parse_alter(at: &mut Cursor<'_>) -> SqlResult<Vec<AlterSpec>> {
    let mut specs = Vec::new();
    while !at.done() {
        specs.push(clause(at)?);
        if !at.eat_op(",") && !at.done() {
            return Err(at.error());
        }
    }
    Ok(specs)
}

fn clause(at: &mut Cursor<'_>) -> SqlResult<AlterSpec> {
    if at.eat("add") {
        return add_clause(at);
    }
    if at.eat("drop") {
        if at.eat("index") || at.eat("key") {
            at.eat("if exists");
            return at.name().map(AlterSpec::DropIndex);
        }
        if at.eat("primary key") {
            return Ok(AlterSpec::DropIndex("PRIMARY".to_owned()));
        }
        if at.eat("partition") {
            return names(at).map(AlterSpec::DropPartitions);
        }
        at.eat("column");
        at.eat("if exists");
        return at.name().map(AlterSpec::DropColumn);
    }
    if at.eat("alter index") {
        let name = at.name()?;
        let invisible = at.eat("invisible");
        if !invisible {
            at.expect("visible")?;
        }
        return Ok(AlterSpec::IndexVisibility { name, invisible });
    }
    if at.eat("alter") {
        at.eat("column");
        let name = at.name()?;
        if at.eat("drop default") {
            return Ok(AlterSpec::Default(name, None));
        }
        at.expect("set default")?;
        return default_value(at).map(|value| AlterSpec::Default(name, Some(value)));
    }
    if at.eat("truncate partition") {
        return names(at).map(AlterSpec::TruncatePartitions);
    }
    if at.eat("rename") {
        let (index, column) = (at.eat("index") || at.eat("key"), at.eat("column"));
        if index || column {
            let from = at.name()?;
            at.expect("to")?;
            let to = at.name()?;
            return Ok(if index {
                AlterSpec::RenameIndex(from, to)
            } else {
                AlterSpec::RenameColumn(from, to)
            });
        }
        let _ = at.eat("to") || at.eat("as");
        let (db, name) = at.qualified()?;
        return Ok(AlterSpec::RenameTable(db, name));
    }
    let force = at.eat("force");
    if at.eat("auto_increment") {
        at.eat_op("=");
        return Ok(AlterSpec::AutoIncrement {
            next: at.integer()?,
            force,
        });
    }
    if at.eat("auto_random_base") {
        at.eat_op("=");
        return Ok(AlterSpec::AutoRandomBase(at.integer()?));
    }
    if at.eat("enable keys") || at.eat("disable keys") {
        return Ok(AlterSpec::Nothing);
    }
    if at.eat("set tiflash replica") {
        at.integer()?;
        return Ok(AlterSpec::Nothing);
    }
    let mut options = TableOptions::default();
    if table_option(at, &mut options)? {
        return Ok(AlterSpec::Options(options));
    }
    Err(SqlError::unsupported(format_args!(
        "ALTER TABLE … {}",
        at.rest().chars().take(40).collect::<String>()
    )))
}

fn names(at: &mut Cursor<'_>) -> SqlResult<Vec<String>> {
    at.eat("if exists");
    let mut names = vec![at.name()?];
    while at.eat_op(",") {
        names.push(at.name()?);
    }
    Ok(names)
}

fn add_clause(at: &mut Cursor<'_>) -> SqlResult<AlterSpec> {
    if at.eat("partition") {
        at.eat("if not exists");
        return partition_items(at, true).map(AlterSpec::AddPartitions);
    }
    match parse_constraint(at)? {
        Some(Some(Constraint::Key(key))) => return Ok(AlterSpec::AddKey(key)),
        Some(_) => return Ok(AlterSpec::Nothing),
        None => {}
    }
    at.eat("column");
    at.eat("if not exists");
    if at.eat_op("(") {
        let mut columns = vec![parse_column(at)?];
        while at.eat_op(",") {
            columns.push(parse_column(at)?);
        }
        at.expect_op(")")?;
        return Ok(AlterSpec::AddColumns(columns, Place::Last));
    }
    let column = parse_column(at)?;
    let place = match () {
        () if at.eat("first") => Place::First,
        () if at.eat("after") => Place::After(at.name()?),
        () => Place::Last,
    };
    Ok(AlterSpec::AddColumns(vec![column], place))
}
