//! SELECT statements: set operations, joins, derived tables, common table expressions.

use super::parse::{DEPTH_MAX, climb, starts_query};
use super::{Cte, OrderItem, Query, Select, SelectItem, TableRef};
use crate::error::{SqlError, SqlResult};
use crate::lexer::{Cursor, Tok};

/// A whole SELECT statement.
pub fn parse_select(at: &mut Cursor<'_>) -> SqlResult<Query> {
    parse_query(at, 0)
}

pub fn parse_query(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Query> {
    if depth > DEPTH_MAX {
        return Err(SqlError::unsupported("queries nested this deep"));
    }
    let mut query = Query::default();
    if at.eat("with") {
        query.recursive = at.eat("recursive");
        loop {
            query.ctes.push(cte(at, depth)?);
            if !at.eat_op(",") {
                break;
            }
        }
    }
    query.first = term(at, depth)?;
    loop {
        let op = match () {
            () if at.eat("union all") => "UNION ALL",
            () if at.eat("union distinct") || at.eat("union") => "UNION",
            () if at.eat("except") => "EXCEPT",
            () if at.eat("intersect") => "INTERSECT",
            () => break,
        };
        query.rest.push((op, term(at, depth)?));
    }
    if at.is("order") {
        query.order_by = parse_order_by(at, depth)?;
    }
    if at.eat("limit") {
        let first = climb(at, 0, depth + 1)?;
        query.limit = Some(if at.eat_op(",") {
            (climb(at, 0, depth + 1)?, Some(first))
        } else if at.eat("offset") {
            (first, Some(climb(at, 0, depth + 1)?))
        } else {
            (first, None)
        });
    }
    if depth > 0 && at.eat("for update") || at.eat("lock in share mode") || at.eat("for share") {
        let _ = at.eat("nowait") || at.eat("skip locked");
    }
    Ok(query)
}

fn cte(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Cte> {
    let name = at.name()?;
    let columns = if at.is_op("(") {
        names(at)?
    } else {
        Vec::new()
    };
    at.expect("as")?;
    at.expect_op("(")?;
    let query = parse_query(at, depth + 1)?;
    at.expect_op(")")?;
    Ok(Cte {
        name,
        columns,
        query,
    })
}

fn names(at: &mut Cursor<'_>) -> SqlResult<Vec<String>> {
    at.expect_op("(")?;
    let mut names = vec![at.name()?];
    while at.eat_op(",") {
        names.push(at.name()?);
    }
    at.expect_op(")")?;
    Ok(names)
}

fn term(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Select> {
    if at.eat_op("(") {
        let nested = parse_query(at, depth + 1)?;
        at.expect_op(")")?;
        return Ok(Select {
            nested: Some(Box::new(nested)),
            ..Select::default()
        });
    }
    at.expect("select")?;
    let mut select = Select::default();
    loop {
        if at.eat("distinct") || at.eat("distinctrow") {
            select.distinct = true;
        } else if ![
            "all",
            "sql_no_cache",
            "sql_cache",
            "high_priority",
            "straight_join",
            "sql_calc_found_rows",
        ]
        .iter()
        .any(|w| at.eat(w))
        {
            break;
        }
    }
    loop {
        select.items.push(item(at, depth)?);
        if !at.eat_op(",") {
            break;
        }
    }
    if at.eat("from") {
        select.from = if at.eat("dual") {
            None
        } else {
            Some(table_refs(at, depth)?)
        };
    }
    if at.eat("where") {
        select.filter = Some(climb(at, 0, depth + 1)?);
    }
    if at.eat("group by") {
        loop {
            select.group_by.push(climb(at, 0, depth + 1)?);
            let _ = at.eat("asc") || at.eat("desc");
            if !at.eat_op(",") {
                break;
            }
        }
        if at.eat("with rollup") {
            return Err(SqlError::unsupported("WITH ROLLUP"));
        }
    }
    if at.eat("having") {
        select.having = Some(climb(at, 0, depth + 1)?);
    }
    Ok(select)
}

fn item(at: &mut Cursor<'_>, depth: usize) -> SqlResult<SelectItem> {
    if at.eat_op("*") {
        return Ok(SelectItem::Star(None));
    }
    // `t.*`, `db.t.*`
    for names in [1, 2] {
        if at.is_op_at(2 * names, "*") && at.is_op_at(2 * names - 1, ".") {
            let mut table = String::new();
            for _ in 0..names {
                table = at.name()?;
                at.expect_op(".")?;
            }
            at.expect_op("*")?;
            return Ok(SelectItem::Star(Some(table)));
        }
    }
    let start = at.position();
    let expr = climb(at, 0, depth + 1)?;
    let text = at.slice(start, at.position());
    Ok(SelectItem::Expr {
        expr,
        alias: alias(at, true)?,
        text,
    })
}

const NOT_ALIASES: [&str; 36] = [
    "from",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "on",
    "using",
    "join",
    "inner",
    "left",
    "right",
    "cross",
    "natural",
    "straight_join",
    "for",
    "lock",
    "use",
    "force",
    "ignore",
    "set",
    "as",
    "window",
    "partition",
    "full",
    "into",
    "values",
    "select",
    "and",
    "or",
    "when",
    "tablesample",
    "asc",
];

/// `[AS] alias`; a string may name a select item.
fn alias(at: &mut Cursor<'_>, string: bool) -> SqlResult<Option<String>> {
    let explicit = at.eat("as");
    match at.peek() {
        Some(Tok::Str(_)) if string => at.string().map(Some),
        Some(Tok::Quoted(_)) => at.name().map(Some),
        Some(Tok::Word(word))
            if explicit || !NOT_ALIASES.iter().any(|w| word.eq_ignore_ascii_case(w)) =>
        {
            at.name().map(Some)
        }
        _ if explicit => Err(at.error()),
        _ => Ok(None),
    }
}

fn table_refs(at: &mut Cursor<'_>, depth: usize) -> SqlResult<TableRef> {
    let mut left = joined(at, depth)?;
    while at.eat_op(",") {
        let right = joined(at, depth)?;
        left = TableRef::Join {
            kind: "CROSS JOIN",
            left: left.into(),
            right: right.into(),
            on: None,
            using: Vec::new(),
        };
    }
    Ok(left)
}

fn joined(at: &mut Cursor<'_>, depth: usize) -> SqlResult<TableRef> {
    let mut left = factor(at, depth)?;
    loop {
        let kind = match () {
            () if at.eat("inner join")
                || at.eat("join")
                || at.eat("cross join")
                || at.eat("straight_join") =>
            {
                "JOIN"
            }
            () if at.eat("left join") || at.eat("left outer join") => "LEFT JOIN",
            () if at.eat("right join") || at.eat("right outer join") => "RIGHT JOIN",
            () if at.eat("natural join") => "NATURAL JOIN",
            () => return Ok(left),
        };
        let right = factor(at, depth)?;
        let on = if at.eat("on") {
            Some(climb(at, 0, depth + 1)?)
        } else {
            None
        };
        let using = if at.eat("using") {
            names(at)?
        } else {
            Vec::new()
        };
        left = TableRef::Join {
            kind,
            left: left.into(),
            right: right.into(),
            on,
            using,
        };
    }
}

fn factor(at: &mut Cursor<'_>, depth: usize) -> SqlResult<TableRef> {
    if depth > DEPTH_MAX {
        return Err(SqlError::unsupported("joins nested this deep"));
    }
    if at.is_op("(") {
        if starts_query(at) {
            at.skip(1);
            let query = Box::new(parse_query(at, depth + 1)?);
            at.expect_op(")")?;
            let alias = alias(at, false)?.ok_or_else(|| {
                SqlError::new(1248, "Every derived table must have its own alias")
            })?;
            let columns = if at.is_op("(") {
                names(at)?
            } else {
                Vec::new()
            };
            return Ok(TableRef::Derived {
                query,
                alias,
                columns,
            });
        }
        at.skip(1);
        let inner = table_refs(at, depth + 1)?;
        at.expect_op(")")?;
        return Ok(inner);
    }
    let (db, name) = at.qualified()?;
    if at.is("partition") && at.is_op_at(1, "(") {
        return Err(SqlError::unsupported("PARTITION in FROM"));
    }
    let alias = alias(at, false)?;
    while ["use", "force", "ignore"].iter().any(|w| at.is(w))
        && (at.is_at(1, "index") || at.is_at(1, "key"))
    {
        at.skip(2);
        if at.eat("for") {
            let _ = at.eat("join") || at.eat("order by") || at.eat("group by");
        }
        at.expect_op("(")?;
        at.balanced()?;
    }
    Ok(TableRef::Table { db, name, alias })
}

/// `ORDER BY …`.
pub fn parse_order_by(at: &mut Cursor<'_>, depth: usize) -> SqlResult<Vec<OrderItem>> {
    at.expect("order by")?;
    let mut items = Vec::new();
    loop {
        let expr = climb(at, 0, depth + 1)?;
        let desc = at.eat("desc");
        if !desc {
            at.eat("asc");
        }
        items.push(OrderItem { expr, desc });
        if !at.eat_op(",") {
            return Ok(items);
        }
    }
}
