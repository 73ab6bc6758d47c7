//! CREATE TABLE: its elements, its options, its partitions.

use super::parse_column::{charset_name, check, clustering, key_parts, parse_column, references};
use super::{
    Constraint, ConstraintKind, CreateTable, IntervalDef, KeyDef, PartitionDef, PartitionItem,
    TableOptions,
};
use crate::error::{SqlError, SqlResult};
use crate::expr::{parse_expr, unit_name};
use crate::lexer::{Cursor, Tok};
use thunderhead_codec::schema::partition_type;

/// What follows `CREATE TABLE`.
pub fn parse_create_table(at: &mut Cursor<'_>) -> SqlResult<CreateTable> {
    let mut table = CreateTable {
        if_not_exists: at.eat("if not exists"),
        ..CreateTable::default()
    };
    (table.db, table.name) = at.qualified()?;
    if at.eat("like")
        || (at.is_op("(") && at.is_at(1, "like") && {
            at.skip(2);
            true
        })
    {
        table.like = Some(at.qualified()?);
        at.eat_op(")");
        return Ok(table);
    }
    at.expect_op("(")?;
    loop {
        element(at, &mut table)?;
        if at.eat_op(")") {
            break;
        }
        at.expect_op(",")?;
    }
    while table_option(at, &mut table.options)? {
        at.eat_op(",");
    }
    if at.is("partition") {
        table.partition = Some(parse_partition(at)?);
    }
    while table_option(at, &mut table.options)? {}
    if !at.done() {
        return Err(at.error());
    }
    Ok(table)
}

fn element(at: &mut Cursor<'_>, table: &mut CreateTable) -> SqlResult<()> {
    match parse_constraint(at)? {
        Some(constraint) => table.constraints.extend(constraint),
        None => table.columns.push(parse_column(at)?),
    }
    Ok(())
}

/// A table-level constraint if one begins here; `Some(None)` for one that is read and dropped.
#[allow(clippy::option_option)]
pub fn parse_constraint(at: &mut Cursor<'_>) -> SqlResult<Option<Option<Constraint>>> {
    let named = at.is("constraint");
    let mut ahead = at.clone();
    let mut name = None;
    if named {
        ahead.skip(1);
        if !["primary", "unique", "foreign", "check"]
            .iter()
            .any(|w| ahead.is(w))
        {
            name = Some(ahead.name()?);
        }
    }
    if ahead.is("check") && ahead.is_op_at(1, "(") {
        check(&mut ahead)?;
        *at = ahead;
        return Ok(Some(Some(Constraint::Check)));
    }
    if ahead.eat("foreign key") {
        if !ahead.is_op("(") {
            ahead.name()?;
        }
        ahead.expect_op("(")?;
        ahead.balanced()?;
        ahead.expect("references")?;
        references(&mut ahead)?;
        *at = ahead;
        return Ok(Some(None));
    }
    let kind = match () {
        () if ahead.eat("primary key") => ConstraintKind::Primary,
        () if ahead.eat("unique") => {
            let _ = ahead.eat("key") || ahead.eat("index");
            ConstraintKind::Unique
        }
        // A column may be called `key` only in back quotes, so a bare word begins an index.
        () if ahead.eat("key") || ahead.eat("index") => ConstraintKind::Index,
        () if ahead.is("fulltext") || ahead.is("spatial") => {
            return Err(SqlError::unsupported("FULLTEXT and SPATIAL indexes"));
        }
        () if named => return Err(at.error()),
        () => return Ok(None),
    };
    *at = ahead;
    parse_key(at, kind, name).map(|key| Some(Some(Constraint::Key(key))))
}

/// `[name] [USING …] (parts) options` of a key.
pub fn parse_key(
    at: &mut Cursor<'_>,
    kind: ConstraintKind,
    mut name: Option<String>,
) -> SqlResult<KeyDef> {
    if !at.is_op("(") && !at.is("using") {
        at.eat("if not exists");
        let own = at.name()?;
        name = Some(own);
    }
    index_type(at);
    let parts = key_parts(at)?;
    let mut key = KeyDef {
        kind,
        name,
        parts,
        clustered: None,
        global: false,
        invisible: false,
        comment: String::new(),
        condition: None,
    };
    loop {
        if let Some(clustered) = clustering(at) {
            key.clustered = Some(clustered);
        } else if at.eat("global") {
            key.global = true;
        } else if at.eat("invisible") {
            key.invisible = true;
        } else if at.eat("comment") {
            at.eat_op("=");
            key.comment = at.string()?;
        } else if at.eat("where") {
            key.condition = Some(parse_expr(at)?);
        } else if at.eat("key_block_size") {
            at.eat_op("=");
            at.integer()?;
        } else if !(at.eat("visible") || at.eat("local") || index_type(at)) {
            return Ok(key);
        }
    }
}

/// What follows `CREATE [UNIQUE] INDEX name ON table`.
pub fn parse_index(at: &mut Cursor<'_>, unique: bool, name: String) -> SqlResult<KeyDef> {
    parse_key(
        at,
        if unique {
            ConstraintKind::Unique
        } else {
            ConstraintKind::Index
        },
        Some(name),
    )
}

/// `USING BTREE`; the kind changes nothing.
fn index_type(at: &mut Cursor<'_>) -> bool {
    let found = at.is("using") || at.is("type");
    at.skip(if found { 2 } else { 0 });
    found
}

/// One table option, if one stands here.
pub fn table_option(at: &mut Cursor<'_>, options: &mut TableOptions) -> SqlResult<bool> {
    let here = at.clone();
    at.eat("default");
    if at.eat("character set") || at.eat("charset") || at.eat("char set") {
        at.eat_op("=");
        options.charset = Some(charset_name(at)?);
        return Ok(true);
    }
    if at.eat("collate") {
        at.eat_op("=");
        options.collate = Some(charset_name(at)?);
        return Ok(true);
    }
    let Some(Tok::Word(word)) = at.peek() else {
        *at = here;
        return Ok(false);
    };
    let word = word.to_ascii_lowercase();
    const DROPPED: [&str; 21] = [
        "engine",
        "row_format",
        "avg_row_length",
        "checksum",
        "compression",
        "connection",
        "delay_key_write",
        "encryption",
        "insert_method",
        "key_block_size",
        "max_rows",
        "min_rows",
        "pack_keys",
        "stats_auto_recalc",
        "stats_persistent",
        "stats_sample_pages",
        "tablespace",
        "placement",
        "secondary_engine",
        "autoextend_size",
        "data",
    ];
    let number = |at: &mut Cursor<'_>| {
        at.skip(1);
        at.eat_op("=");
        at.integer()
    };
    match word.as_str() {
        "comment" => {
            at.skip(1);
            at.eat_op("=");
            options.comment = Some(at.string()?);
        }
        "ttl" => {
            at.skip(1);
            at.eat_op("=");
            let column = at.name()?;
            at.expect_op("+")?;
            at.expect("interval")?;
            let amount = parse_expr(at)?;
            options.ttl = Some((column, amount, unit_name(at)?));
        }
        "ttl_enable" => {
            at.skip(1);
            at.eat_op("=");
            options.ttl_enable = Some(at.string()?.eq_ignore_ascii_case("on"));
        }
        "ttl_job_interval" => {
            at.skip(1);
            at.eat_op("=");
            options.ttl_job_interval = Some(at.string()?);
        }
        "auto_increment" => options.auto_increment = Some(number(at)?),
        "auto_id_cache" => options.auto_id_cache = Some(number(at)?),
        "auto_random_base" => options.auto_random_base = Some(number(at)?),
        "shard_row_id_bits" => options.shard_row_id_bits = Some(number(at)? as u64),
        "pre_split_regions" => options.pre_split_regions = Some(number(at)? as u64),
        known if DROPPED.contains(&known) => {
            at.skip(1);
            at.eat("directory");
            at.eat("policy");
            at.eat_op("=");
            at.skip(1);
        }
        _ => {
            *at = here;
            return Ok(false);
        }
    }
    Ok(true)
}

/// `PARTITION BY …`.
pub fn parse_partition(at: &mut Cursor<'_>) -> SqlResult<PartitionDef> {
    at.expect("partition by")?;
    at.eat("linear");
    let mut partition = PartitionDef::default();
    if at.eat("key") {
        partition.method = partition_type::KEY;
        if at.eat("algorithm") {
            at.eat_op("=");
            at.integer()?;
        }
        partition.columns = Some(names(at)?);
    } else {
        partition.method = match () {
            () if at.eat("hash") => partition_type::HASH,
            () if at.eat("range") => partition_type::RANGE,
            () if at.eat("list") => partition_type::LIST,
            () => return Err(at.error()),
        };
        if at.eat("columns") {
            partition.columns = Some(names(at)?);
        } else {
            at.expect_op("(")?;
            partition.expr = Some(parse_expr(at)?);
            at.expect_op(")")?;
        }
    }
    if at.eat("interval") {
        partition.interval = Some(interval(at)?);
    }
    if at.eat("partitions") {
        partition.count = Some(at.integer()? as u64);
    }
    if at.is_op("(") {
        partition.definitions = partition_items(at, partition.columns.is_some())?;
    }
    Ok(partition)
}

fn interval(at: &mut Cursor<'_>) -> SqlResult<IntervalDef> {
    at.expect_op("(")?;
    let step = parse_expr(at)?;
    let unit = if at.is_op(")") {
        None
    } else {
        Some(unit_name(at)?)
    };
    at.expect_op(")")?;
    let bound = |at: &mut Cursor<'_>| {
        at.expect("partition less than")?;
        at.expect_op("(")?;
        let bound = parse_expr(at)?;
        at.expect_op(")")?;
        SqlResult::Ok(bound)
    };
    at.expect("first")?;
    let first = bound(at)?;
    at.expect("last")?;
    let last = bound(at)?;
    if at.is("null") {
        return Err(SqlError::unsupported("NULL PARTITION"));
    }
    let max_value = at.eat("maxvalue partition");
    Ok(IntervalDef {
        step,
        unit,
        first,
        last,
        max_value,
    })
}

/// `(PARTITION …, …)`; `columns` says whether a parenthesis in a value list holds a tuple.
pub fn partition_items(at: &mut Cursor<'_>, columns: bool) -> SqlResult<Vec<PartitionItem>> {
    let mut items = Vec::new();
    at.expect_op("(")?;
    loop {
        items.push(partition_item(at, columns)?);
        if at.eat_op(")") {
            return Ok(items);
        }
        at.expect_op(",")?;
    }
}

fn names(at: &mut Cursor<'_>) -> SqlResult<Vec<String>> {
    let mut names = Vec::new();
    at.expect_op("(")?;
    while !at.eat_op(")") {
        names.push(at.name()?);
        at.eat_op(",");
    }
    Ok(names)
}

fn partition_item(at: &mut Cursor<'_>, columns: bool) -> SqlResult<PartitionItem> {
    at.expect("partition")?;
    let mut item = PartitionItem {
        name: at.name()?,
        ..PartitionItem::default()
    };
    if at.eat("values less than") {
        let mut bounds = Vec::new();
        if at.eat("maxvalue") {
            bounds.push(None);
        } else {
            at.expect_op("(")?;
            loop {
                bounds.push(if at.eat("maxvalue") {
                    None
                } else {
                    Some(parse_expr(at)?)
                });
                if at.eat_op(")") {
                    break;
                }
                at.expect_op(",")?;
            }
        }
        item.less_than = Some(bounds);
    } else if at.eat("values in") {
        at.expect_op("(")?;
        let mut tuples = Vec::new();
        loop {
            if at.eat("default") {
                tuples.push(Vec::new());
            } else if columns && at.eat_op("(") {
                let mut tuple = vec![parse_expr(at)?];
                while at.eat_op(",") {
                    tuple.push(parse_expr(at)?);
                }
                at.expect_op(")")?;
                tuples.push(tuple);
            } else {
                tuples.push(vec![parse_expr(at)?]);
            }
            if at.eat_op(")") {
                break;
            }
            at.expect_op(",")?;
        }
        item.in_values = Some(tuples);
    } else if at.eat("default") {
        item.in_values = Some(vec![Vec::new()]);
    }
    loop {
        if at.eat("comment") {
            at.eat_op("=");
            item.comment = at.string()?;
        } else if at.eat("engine") {
            at.eat_op("=");
            at.skip(1);
        } else {
            return Ok(item);
        }
    }
}
