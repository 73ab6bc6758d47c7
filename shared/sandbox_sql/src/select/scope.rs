//! What names mean while a query is translated, and small pieces of SQL text and of conditions.

use super::types::Ty;
use crate::expr::Expr;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A column that a name may mean.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    pub name: String,
    pub ty: Ty,
    /// Not part of `*`.
    pub hidden: bool,
    /// How a column that is not stored is computed.
    pub generated: Option<Expr>,
}

/// A table of FROM.
#[derive(Debug)]
pub struct ScopeTable {
    pub alias: String,
    pub columns: Vec<ScopeColumn>,
    /// Lower-case names of the columns that were used.
    pub used: RefCell<BTreeSet<String>>,
}

/// Names that an expression sees.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    pub tables: Vec<ScopeTable>,
    /// Select items by alias, for GROUP BY, HAVING and ORDER BY.
    pub aliases: Vec<(String, String, Ty)>,
    pub parent: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// What a column name means.
    pub fn resolve(&self, table: Option<&str>, name: &str) -> Option<(&ScopeTable, &ScopeColumn)> {
        for scope in std::iter::successors(Some(self), |s| s.parent) {
            for candidate in &scope.tables {
                if table.is_some_and(|t| !t.eq_ignore_ascii_case(&candidate.alias)) {
                    continue;
                }
                if let Some(column) = candidate
                    .columns
                    .iter()
                    .find(|c| c.name.eq_ignore_ascii_case(name))
                {
                    return Some((candidate, column));
                }
            }
        }
        None
    }
}

/// A name in SQLite's quotes.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// With the collation its type compares under.
pub fn collated(sql: &str, ty: &Ty) -> String {
    match ty.sqlite_collation() {
        Some(collation) => format!("({sql}) COLLATE {}", ident(collation)),
        None => sql.to_owned(),
    }
}

pub fn order_part(sql: &str, ty: &Ty, desc: bool) -> String {
    let collation = ty
        .sqlite_collation()
        .map(|c| format!(" COLLATE {}", ident(c)))
        .unwrap_or_default();
    format!("{sql}{collation}{}", if desc { " DESC" } else { "" })
}

/// The parts of a condition joined by AND; what every branch of an OR has in common is taken out of it, so
/// that a join condition repeated in each branch is seen as one.
pub fn conjuncts(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::Paren(inner) => conjuncts(inner),
        Expr::Op {
            op: "and",
            left,
            right,
        } => [conjuncts(left), conjuncts(right)].concat(),
        Expr::Op { op: "or", .. } => {
            let branches: Vec<Vec<Expr>> = disjuncts(expr).iter().map(conjuncts).collect();
            let common = |e: &&Expr| branches.iter().all(|b| b.contains(e));
            let mut parts: Vec<Expr> = branches
                .first()
                .into_iter()
                .flatten()
                .filter(common)
                .cloned()
                .collect();
            parts.push(expr.clone());
            parts
        }
        other => vec![other.clone()],
    }
}

fn disjuncts(expr: &Expr) -> Vec<Expr> {
    match expr {
        Expr::Paren(inner) if matches!(**inner, Expr::Op { op: "or", .. }) => disjuncts(inner),
        Expr::Op {
            op: "or",
            left,
            right,
        } => [disjuncts(left), disjuncts(right)].concat(),
        other => vec![other.clone()],
    }
}
