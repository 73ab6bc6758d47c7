//! SQL expressions and queries as trees: what the parser makes, what the translator to SQLite and the DDL
//! builder read. Values and types are theirs; here is only shape.

mod calls;
mod parse;
mod query;
mod restore;

pub use calls::unit_name;
pub use parse::parse_expr;
pub use query::{parse_order_by, parse_select};
pub use restore::{
    Style, columns_of, columns_with_tables, has_aggregate, qualify, quoted, restore, substitute,
};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Column {
        table: Option<String>,
        name: String,
    },
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Str {
        introducer: Option<String>,
        bytes: Vec<u8>,
    },
    /// `x'…'`, `b'…'`.
    Binary(Vec<u8>),
    /// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`: keyword in lower case and text.
    Temporal {
        kind: &'static str,
        text: String,
    },
    /// The n-th `?`.
    Param(usize),
    UserVar(String),
    SysVar {
        global: bool,
        name: String,
    },
    /// `-`, `+`, `!`, `~`, `not`, `binary`.
    Unary {
        op: &'static str,
        expr: Box<Expr>,
    },
    /// Operators by their SQL spelling in lower case.
    Op {
        op: &'static str,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Paren(Box<Expr>),
    Call {
        name: String,
        distinct: bool,
        args: Vec<Expr>,
        tail: CallTail,
    },
    Cast {
        expr: Box<Expr>,
        to: CastType,
        convert: bool,
    },
    /// `CONVERT(x USING charset)`.
    Using {
        expr: Box<Expr>,
        charset: String,
    },
    Case {
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    In {
        expr: Box<Expr>,
        list: Vec<Expr>,
        not: bool,
    },
    InQuery {
        expr: Box<Expr>,
        query: Box<Query>,
        not: bool,
    },
    Between {
        expr: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        not: bool,
    },
    Like {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        not: bool,
        regexp: bool,
    },
    /// `IS [NOT] NULL|TRUE|FALSE`, the word in lower case.
    Is {
        expr: Box<Expr>,
        what: &'static str,
        not: bool,
    },
    Exists(Box<Query>),
    Subquery(Box<Query>),
    /// `x + INTERVAL n unit` and its function forms.
    DateAdd {
        expr: Box<Expr>,
        amount: Box<Expr>,
        unit: String,
        minus: bool,
    },
    Extract {
        unit: String,
        expr: Box<Expr>,
    },
    Trim {
        side: &'static str,
        what: Option<Box<Expr>>,
        expr: Box<Expr>,
    },
    Collate {
        expr: Box<Expr>,
        collation: String,
    },
    Row(Vec<Expr>),
    /// `DEFAULT`, `DEFAULT(col)`.
    Default(Option<String>),
    /// `VALUES(col)` in ON DUPLICATE KEY UPDATE.
    Values(String),
}

/// What may follow the arguments of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallTail {
    /// `COUNT(*)`.
    pub star: bool,
    /// GROUP_CONCAT's ORDER BY.
    pub order_by: Vec<OrderItem>,
    pub separator: Option<String>,
    pub over: Option<Box<Window>>,
}

/// `OVER (…)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<OrderItem>,
    /// The frame clause as written; SQLite's grammar is the same.
    pub frame: String,
}

/// Target of a cast.
#[derive(Clone, Debug, PartialEq)]
pub struct CastType {
    /// `signed`, `unsigned`, `char`, `binary`, `decimal`, `date`, `datetime`, `time`, `year`, `json`, `double`, `float`.
    pub name: &'static str,
    pub length: Option<i32>,
    pub scale: Option<i32>,
    pub charset: Option<String>,
    pub array: bool,
}

/// One item of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderItem {
    pub expr: Expr,
    pub desc: bool,
}

/// A query: SELECTs joined by set operations, with an order and a limit over all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub ctes: Vec<Cte>,
    pub recursive: bool,
    pub first: Select,
    /// `UNION`, `UNION ALL`, `EXCEPT`, `INTERSECT` with what follows.
    pub rest: Vec<(&'static str, Select)>,
    pub order_by: Vec<OrderItem>,
    /// Count and offset.
    pub limit: Option<(Expr, Option<Expr>)>,
}

/// One name of WITH.
#[derive(Clone, Debug, PartialEq)]
pub struct Cte {
    pub name: String,
    pub columns: Vec<String>,
    pub query: Query,
}

/// One SELECT.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Select {
    pub distinct: bool,
    pub items: Vec<SelectItem>,
    pub from: Option<TableRef>,
    pub filter: Option<Expr>,
    pub group_by: Vec<Expr>,
    pub having: Option<Expr>,
    /// A parenthesised query in this place.
    pub nested: Option<Box<Query>>,
}

/// One item of a select list.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectItem {
    /// `*`, `t.*`.
    Star(Option<String>),
    /// Expression, alias, and the text as written (the column's name when there is no alias).
    Expr {
        expr: Expr,
        alias: Option<String>,
        text: String,
    },
}

/// What stands in FROM.
#[derive(Clone, Debug, PartialEq)]
pub enum TableRef {
    Table {
        db: Option<String>,
        name: String,
        alias: Option<String>,
    },
    Derived {
        query: Box<Query>,
        alias: String,
        columns: Vec<String>,
    },
    Join {
        kind: &'static str,
        left: Box<TableRef>,
        right: Box<TableRef>,
        on: Option<Expr>,
        using: Vec<String>,
    },
}
