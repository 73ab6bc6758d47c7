//! Queries into SQLite's dialect, with the type of every expression known. Tables that are joined, or read
//! in a subquery, are first copied into a temporary table of SQLite's (with the columns and rows the query
//! needs): SQLite makes indexes for those on its own, which it does not for virtual tables. A query over
//! one table streams from the virtual table itself.

use super::exprs::Emit;
use super::scope::{Scope, ScopeColumn, ScopeTable, collated, conjuncts, ident, order_part};
use super::types::{Ty, unify};
use crate::error::{SqlError, SqlResult};
use crate::expr::{Expr, OrderItem, Query, Select, SelectItem, TableRef, has_aggregate};
use crate::statements::views::ViewBody;
use std::cell::RefCell;

/// What the translator asks about the outside.
pub trait Tables {
    /// The table of that name.
    fn open(&self, db: Option<&str>, name: &str) -> SqlResult<Opened>;
    /// The value of a system or user variable, as a literal expression.
    fn variable(&self, expr: &Expr) -> SqlResult<Expr>;
    /// Functions about the session (`DATABASE()`, `VERSION()`, `NOW()` …), as a literal expression.
    fn session_function(&self, name: &str, args: &[Expr]) -> SqlResult<Option<Expr>>;
}

/// What a name of FROM leads to.
pub enum Opened {
    /// Name of the virtual table that reads it, and its columns.
    Table(String, Vec<ScopeColumn>),
    View(Box<ViewBody>),
}

/// Views inside views.
const VIEWS_DEEP_MAX: usize = 16;

/// A result column.
#[derive(Clone, Debug)]
pub struct OutColumn {
    pub name: String,
    pub table: String,
    pub ty: Ty,
}

/// State of one translation.
pub struct Translator<'a> {
    pub tables: &'a dyn Tables,
    /// Copies of tables, as items of a WITH clause.
    copies: RefCell<Vec<String>>,
    /// Names of WITH that are in scope, with their columns.
    ctes: RefCell<Vec<(String, Vec<ScopeColumn>)>>,
    /// Databases of the views whose text is being translated.
    views: RefCell<Vec<Option<String>>>,
}

/// A FROM clause while it is taken apart.
struct From<'q> {
    sql: String,
    tables: Vec<ScopeTable>,
    /// Base tables to copy: index into `tables`, virtual table, placeholder in `sql`.
    bases: Vec<(usize, String, String)>,
    conditions: Vec<(&'q Expr, String)>,
    outer: bool,
}

impl<'a> Translator<'a> {
    pub fn new(tables: &'a dyn Tables) -> Self {
        Self {
            tables,
            copies: RefCell::default(),
            ctes: RefCell::default(),
            views: RefCell::default(),
        }
    }

    /// A whole statement.
    pub fn statement(&self, query: &Query) -> SqlResult<(String, Vec<OutColumn>)> {
        let (sql, columns) = self.query(query, None, false)?;
        let copies = self.copies.borrow();
        if copies.is_empty() {
            return Ok((sql, columns));
        }
        Ok((format!("WITH {} {sql}", copies.join(", ")), columns))
    }

    /// A query; `nested` says whether it may run more than once.
    pub fn query(
        &self,
        query: &Query,
        parent: Option<&Scope<'_>>,
        nested: bool,
    ) -> SqlResult<(String, Vec<OutColumn>)> {
        let visible = self.ctes.borrow().len();
        for cte in &query.ctes {
            self.cte(cte, query.recursive, parent)?;
        }
        let plain = query.rest.is_empty();
        let order = if plain {
            query.order_by.as_slice()
        } else {
            &[]
        };
        let (mut sql, mut columns) = self.select(&query.first, parent, nested, order)?;
        for (op, select) in &query.rest {
            let (right, right_columns) = self.select(select, parent, nested, &[])?;
            if right_columns.len() != columns.len() {
                return Err(SqlError::new(
                    1222,
                    "The used SELECT statements have a different number of columns",
                ));
            }
            for (column, other) in columns.iter_mut().zip(&right_columns) {
                column.ty = unify(&column.ty, &other.ty);
            }
            sql = format!("{sql} {op} {right}");
        }
        if !plain && !query.order_by.is_empty() {
            sql = format!(
                "SELECT * FROM ({sql}) ORDER BY {}",
                self.compound_order(&query.order_by, &columns)?
            );
        }
        if let Some((count, offset)) = &query.limit {
            let scope = Scope::default();
            let emit = Emit {
                translator: self,
                scope: &scope,
            };
            sql = format!("{sql} LIMIT {}", emit.expr(count)?.0);
            if let Some(offset) = offset {
                sql = format!("{sql} OFFSET {}", emit.expr(offset)?.0);
            }
        }
        self.ctes.borrow_mut().truncate(visible);
        Ok((sql, columns))
    }

    /// A name of WITH becomes an item of the statement's own WITH.
    fn cte(
        &self,
        cte: &crate::expr::Cte,
        recursive: bool,
        parent: Option<&Scope<'_>>,
    ) -> SqlResult<()> {
        if recursive {
            return Err(SqlError::unsupported("WITH RECURSIVE"));
        }
        let (sql, columns) = self.query(&cte.query, parent, true)?;
        let name = |i: usize, column: &OutColumn| {
            cte.columns
                .get(i)
                .cloned()
                .unwrap_or_else(|| column.name.clone())
        };
        let columns: Vec<ScopeColumn> = columns
            .iter()
            .enumerate()
            .map(|(i, c)| ScopeColumn {
                name: name(i, c),
                ty: c.ty.clone(),
                hidden: false,
                generated: None,
            })
            .collect();
        let names: Vec<String> = columns.iter().map(|c| ident(&c.name)).collect();
        self.copies.borrow_mut().push(format!(
            "{}({}) AS ({sql})",
            ident(&cte.name),
            names.join(", ")
        ));
        self.ctes.borrow_mut().push((cte.name.clone(), columns));
        Ok(())
    }

    fn compound_order(&self, items: &[OrderItem], columns: &[OutColumn]) -> SqlResult<String> {
        let mut parts = Vec::new();
        for item in items {
            let position = match &item.expr {
                Expr::Number(number) => number.parse::<usize>().ok(),
                Expr::Column { name, .. } => columns
                    .iter()
                    .position(|c| c.name.eq_ignore_ascii_case(name))
                    .map(|p| p + 1),
                _ => None,
            };
            let position = position
                .filter(|p| *p > 0 && *p <= columns.len())
                .ok_or_else(|| SqlError::unsupported("this ORDER BY of a set operation"))?;
            parts.push(order_part(
                &position.to_string(),
                &columns[position - 1].ty,
                item.desc,
            ));
        }
        Ok(parts.join(", "))
    }

    fn select(
        &self,
        select: &Select,
        parent: Option<&Scope<'_>>,
        nested: bool,
        order: &[OrderItem],
    ) -> SqlResult<(String, Vec<OutColumn>)> {
        if let Some(inner) = &select.nested {
            let (sql, columns) = self.query(inner, parent, nested)?;
            let order = if order.is_empty() {
                String::new()
            } else {
                format!(" ORDER BY {}", self.compound_order(order, &columns)?)
            };
            return Ok((format!("SELECT * FROM ({sql}){order}"), columns));
        }
        let mut from = From {
            sql: String::new(),
            tables: Vec::new(),
            bases: Vec::new(),
            conditions: Vec::new(),
            outer: false,
        };
        if let Some(table) = &select.from {
            from.sql = self.table_ref(table, parent, &mut from)?;
        }
        let mut scope = Scope {
            tables: std::mem::take(&mut from.tables),
            aliases: Vec::new(),
            parent,
        };
        for (condition, placeholder) in std::mem::take(&mut from.conditions) {
            let sql = Emit {
                translator: self,
                scope: &scope,
            }
            .condition(condition)?;
            from.sql = from.sql.replace(&placeholder, &sql);
        }
        let copy = nested || scope.tables.len() > 1;
        let mut pushed: Vec<Vec<String>> = vec![Vec::new(); scope.tables.len()];
        let mut filters = Vec::new();
        for conjunct in select.filter.iter().flat_map(conjuncts) {
            let emit = Emit {
                translator: self,
                scope: &scope,
            };
            let owner = if copy && !from.outer {
                emit.only_table(&conjunct)
            } else {
                None
            };
            let sql = emit.condition(&conjunct)?;
            match owner.filter(|o| from.bases.iter().any(|(table, ..)| table == o)) {
                Some(owner) => pushed[owner].push(sql),
                None => filters.push(sql),
            }
        }
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for item in &select.items {
            self.item(item, &scope, &mut items, &mut columns)?;
        }
        scope.aliases = columns
            .iter()
            .zip(&items)
            .map(|(c, sql): (&OutColumn, &String)| {
                (c.name.clone(), strip_alias(sql).to_owned(), c.ty.clone())
            })
            .collect();
        let tail = self.tail(select, &scope, &columns, filters, order)?;
        let mut sql = format!(
            "SELECT {}{}",
            if select.distinct { "DISTINCT " } else { "" },
            items.join(", ")
        );
        if !from.sql.is_empty() {
            self.place_tables(&mut from, &scope, copy, &pushed);
            sql = format!("{sql} FROM {}", from.sql);
        }
        Ok((sql + &tail, columns))
    }

    /// Puts the virtual table, or its copy, in the place of each base table.
    fn place_tables(
        &self,
        from: &mut From<'_>,
        scope: &Scope<'_>,
        copy: bool,
        pushed: &[Vec<String>],
    ) {
        for (index, source, placeholder) in &from.bases {
            let table = &scope.tables[*index];
            if !copy {
                from.sql = from.sql.replace(placeholder.as_str(), source);
                continue;
            }
            let used = table.used.borrow();
            let mut names: Vec<String> = table
                .columns
                .iter()
                .filter(|c| used.contains(&c.name.to_lowercase()))
                .map(|c| ident(&c.name))
                .collect();
            if names.is_empty() {
                names.push("1".to_owned());
            }
            let mut copies = self.copies.borrow_mut();
            let name = ident(&format!("th copy {}", copies.len()));
            let filter = if pushed[*index].is_empty() {
                String::new()
            } else {
                format!(" WHERE {}", pushed[*index].join(" AND "))
            };
            copies.push(format!(
                "{name} AS MATERIALIZED (SELECT {} FROM {source} AS {}{filter})",
                names.join(", "),
                ident(&table.alias)
            ));
            from.sql = from.sql.replace(placeholder.as_str(), &name);
        }
    }

    /// WHERE, GROUP BY, HAVING and ORDER BY.
    fn tail(
        &self,
        select: &Select,
        scope: &Scope<'_>,
        columns: &[OutColumn],
        filters: Vec<String>,
        order: &[OrderItem],
    ) -> SqlResult<String> {
        let emit = Emit {
            translator: self,
            scope,
        };
        let mut tail = String::new();
        let filters_empty = filters.is_empty();
        if !filters_empty {
            tail = format!(" WHERE {}", filters.join(" AND "));
        }
        if !select.group_by.is_empty() {
            let group = |e: &Expr| emit.named(e, columns).map(|(sql, ty)| collated(&sql, &ty));
            let parts: Vec<String> = select
                .group_by
                .iter()
                .map(group)
                .collect::<SqlResult<_>>()?;
            tail = format!("{tail} GROUP BY {}", parts.join(", "));
        }
        if let Some(having) = &select.having {
            // Where nothing is grouped HAVING is a condition on rows, which SQLite wants in WHERE.
            let grouped = !select.group_by.is_empty()
                || has_aggregate(having)
                || select
                    .items
                    .iter()
                    .any(|i| matches!(i, SelectItem::Expr { expr, .. } if has_aggregate(expr)));
            let word = match (grouped, filters_empty) {
                (true, _) => "HAVING",
                (false, true) => "WHERE",
                (false, false) => "AND",
            };
            tail = format!("{tail} {word} {}", emit.condition(having)?);
        }
        let mut parts = Vec::new();
        for item in order {
            let (sql, ty) = emit.named(&item.expr, columns)?;
            parts.push(order_part(&sql, &ty, item.desc));
        }
        if !parts.is_empty() {
            tail = format!("{tail} ORDER BY {}", parts.join(", "));
        }
        Ok(tail)
    }

    fn item(
        &self,
        item: &SelectItem,
        scope: &Scope<'_>,
        items: &mut Vec<String>,
        columns: &mut Vec<OutColumn>,
    ) -> SqlResult<()> {
        match item {
            SelectItem::Star(of) => {
                let before = items.len();
                for table in scope
                    .tables
                    .iter()
                    .filter(|t| of.as_ref().is_none_or(|o| o.eq_ignore_ascii_case(&t.alias)))
                {
                    for column in table.columns.iter().filter(|c| !c.hidden) {
                        let (sql, _) = Emit {
                            translator: self,
                            scope,
                        }
                        .column_of(table, column)?;
                        items.push(format!("{sql} AS {}", ident(&column.name)));
                        columns.push(OutColumn {
                            name: column.name.clone(),
                            table: table.alias.clone(),
                            ty: column.ty.clone(),
                        });
                    }
                }
                if items.len() == before {
                    return Err(SqlError::new(
                        1051,
                        format!("Unknown table '{}'", of.as_deref().unwrap_or("*")),
                    ));
                }
            }
            SelectItem::Expr { expr, alias, text } => {
                let (sql, ty) = Emit {
                    translator: self,
                    scope,
                }
                .expr(expr)?;
                let name = alias.clone().unwrap_or_else(|| match expr {
                    Expr::Column { name, .. } => name.clone(),
                    _ => text.clone(),
                });
                items.push(format!("{sql} AS {}", ident(&name)));
                columns.push(OutColumn {
                    name,
                    table: String::new(),
                    ty,
                });
            }
        }
        Ok(())
    }

    fn table_ref<'q>(
        &self,
        table: &'q TableRef,
        parent: Option<&Scope<'_>>,
        from: &mut From<'q>,
    ) -> SqlResult<String> {
        match table {
            TableRef::Table { db, name, alias } => {
                let alias = alias.clone().unwrap_or_else(|| name.clone());
                let cte = self
                    .ctes
                    .borrow()
                    .iter()
                    .rev()
                    .find(|(n, _)| db.is_none() && n.eq_ignore_ascii_case(name))
                    .cloned();
                if let Some((cte, columns)) = cte {
                    self.add_table(from, alias.clone(), columns)?;
                    return Ok(format!("{} AS {}", ident(&cte), ident(&alias)));
                }
                let of_view = self.views.borrow().last().cloned().flatten();
                let (source, columns) = match self
                    .tables
                    .open(db.as_ref().or(of_view.as_ref()).map(String::as_str), name)?
                {
                    Opened::Table(source, columns) => (source, columns),
                    Opened::View(view) => {
                        let (sql, columns) = self.view(&view, name)?;
                        self.add_table(from, alias.clone(), columns)?;
                        return Ok(format!("{sql} AS {}", ident(&alias)));
                    }
                };
                self.add_table(from, alias.clone(), columns)?;
                let placeholder = format!("\u{1}T{}\u{1}", from.bases.len());
                from.bases
                    .push((from.tables.len() - 1, source, placeholder.clone()));
                Ok(format!("{placeholder} AS {}", ident(&alias)))
            }
            TableRef::Derived {
                query,
                alias,
                columns,
            } => {
                let (renamed, columns) = renamed(self.query(query, parent, true)?, columns);
                self.add_table(from, alias.clone(), columns)?;
                Ok(format!("{renamed} AS {}", ident(alias)))
            }
            TableRef::Join {
                kind,
                left,
                right,
                on,
                using,
            } => {
                from.outer |= kind.starts_with("LEFT") || kind.starts_with("RIGHT");
                let left = self.table_ref(left, parent, from)?;
                let mut right_sql = self.table_ref(right, parent, from)?;
                if matches!(**right, TableRef::Join { .. }) {
                    right_sql = format!("({right_sql})");
                }
                let mut sql = format!("{left} {kind} {right_sql}");
                if let Some(on) = on {
                    // The condition is translated once every table of FROM is known.
                    let placeholder = format!("\u{1}C{}\u{1}", from.conditions.len());
                    from.conditions.push((on, placeholder.clone()));
                    sql = format!("{sql} ON {placeholder}");
                }
                if !using.is_empty() {
                    let names: Vec<String> = using.iter().map(|n| ident(n)).collect();
                    sql = format!("{sql} USING ({})", names.join(", "));
                    for table in &from.tables {
                        table
                            .used
                            .borrow_mut()
                            .extend(using.iter().map(|n| n.to_lowercase()));
                    }
                }
                if *kind == "NATURAL JOIN" {
                    for table in &from.tables {
                        table.used.borrow_mut().extend(
                            table
                                .columns
                                .iter()
                                .filter(|c| !c.hidden)
                                .map(|c| c.name.to_lowercase()),
                        );
                    }
                }
                Ok(sql)
            }
        }
    }

    /// The text of a view sees nothing of the query that it is in.
    fn view(&self, view: &ViewBody, name: &str) -> SqlResult<(String, Vec<ScopeColumn>)> {
        if self.views.borrow().len() >= VIEWS_DEEP_MAX {
            return Err(SqlError::new(
                1462,
                format!("`{name}` contains view recursion"),
            ));
        }
        let outside = self.ctes.take();
        self.views.borrow_mut().push(view.db.clone());
        let query = self.query(&view.query, None, true);
        self.views.borrow_mut().pop();
        self.ctes.replace(outside);
        let invalid = |_| {
            SqlError::new(
                1356,
                format!(
                    "View '{name}' references invalid table(s) or column(s) or function(s) or definer/invoker of view lack rights to use them"
                ),
            )
        };
        Ok(renamed(query.map_err(invalid)?, &view.columns))
    }

    fn add_table(
        &self,
        from: &mut From<'_>,
        alias: String,
        columns: Vec<ScopeColumn>,
    ) -> SqlResult<()> {
        if from
            .tables
            .iter()
            .any(|t| t.alias.eq_ignore_ascii_case(&alias))
        {
            return Err(SqlError::new(
                1066,
                format!("Not unique table/alias: '{alias}'"),
            ));
        }
        from.tables.push(ScopeTable {
            alias,
            columns,
            used: RefCell::default(),
        });
        Ok(())
    }
}

/// A query in parentheses, its columns under the names that are given.
fn renamed((sql, out): (String, Vec<OutColumn>), names: &[String]) -> (String, Vec<ScopeColumn>) {
    let columns: Vec<ScopeColumn> = out
        .iter()
        .enumerate()
        .map(|(i, c)| ScopeColumn {
            name: names.get(i).cloned().unwrap_or_else(|| c.name.clone()),
            ty: c.ty.clone(),
            hidden: false,
            generated: None,
        })
        .collect();
    if columns.iter().zip(&out).all(|(a, b)| a.name == b.name) {
        return (format!("({sql})"), columns);
    }
    let pairs: Vec<String> = columns
        .iter()
        .zip(&out)
        .map(|(a, b)| format!("{} AS {}", ident(&b.name), ident(&a.name)))
        .collect();
    (
        format!("(SELECT {} FROM ({sql}))", pairs.join(", ")),
        columns,
    )
}

/// `expr AS "name"` without the name.
fn strip_alias(item: &str) -> &str {
    item.rfind(" AS \"").map_or(item, |end| &item[..end])
}
