//! The tables of INFORMATION_SCHEMA that are about keys.

use super::info_schema::{Rows, n, s, yes};
use crate::catalog::Table;
use rusqlite::types::Value;
use thunderhead_codec::schema::{ColumnInfo, TableInfo};

/// A part of a key, the clustered integer key among them.
struct KeyPart<'a> {
    key: &'a str,
    id: i64,
    unique: bool,
    primary: bool,
    global: bool,
    clustered: bool,
    position: i64,
    column: &'a ColumnInfo,
    length: i32,
    condition: &'a str,
    visible: bool,
}

fn key_parts(info: &TableInfo) -> Vec<KeyPart<'_>> {
    let mut parts = Vec::new();
    if let Some(column) = info.handle_column() {
        parts.push(KeyPart {
            key: "PRIMARY",
            id: 0,
            unique: true,
            primary: true,
            global: false,
            clustered: true,
            position: 1,
            column,
            length: -1,
            condition: "",
            visible: true,
        });
    }
    for index in info.indexes() {
        for (i, part) in index.columns().iter().enumerate() {
            let Some(column) = info.columns().get(part.offset) else {
                continue;
            };
            parts.push(KeyPart {
                key: &index.idx_name.original,
                id: index.id,
                unique: index.is_unique,
                primary: index.is_primary,
                global: index.is_global,
                clustered: index.is_primary && info.is_common_handle,
                position: i as i64 + 1,
                column,
                length: part.length,
                condition: &index.condition_expr_string,
                visible: !index.is_invisible,
            });
        }
    }
    parts
}

fn named(part: &KeyPart<'_>) -> (Value, Value) {
    if part.column.hidden {
        (
            Value::Null,
            s(format!("({})", part.column.generated_expr_string)),
        )
    } else {
        (s(&part.column.name.original), Value::Null)
    }
}

fn sub_part(part: &KeyPart<'_>) -> Value {
    if part.length >= 0 {
        n(part.length)
    } else {
        Value::Null
    }
}

pub(super) const STATISTICS: &str = "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME #NON_UNIQUE INDEX_SCHEMA INDEX_NAME #SEQ_IN_INDEX COLUMN_NAME COLLATION #CARDINALITY \
    #SUB_PART PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION";

pub(super) fn statistics_rows(table: &Table) -> Rows {
    let (db, name) = (&table.db.db_name.original, &table.info.name.original);
    let row = |p: &KeyPart<'_>| {
        let (column, expression) = named(p);
        vec![
            s("def"),
            s(db),
            s(name),
            n(i64::from(!p.unique)),
            s(db),
            s(p.key),
            n(p.position),
            column,
            s("A"),
            n(0),
            sub_part(p),
            Value::Null,
            s(if p.column.field_type.is_not_null() {
                ""
            } else {
                "YES"
            }),
            s("BTREE"),
            s(""),
            s(""),
            yes(p.visible),
            expression,
        ]
    };
    key_parts(&table.info).iter().map(row).collect()
}

pub(super) const TIDB_INDEXES: &str = "TABLE_SCHEMA TABLE_NAME #NON_UNIQUE KEY_NAME #SEQ_IN_INDEX COLUMN_NAME #SUB_PART INDEX_COMMENT Expression #INDEX_ID IS_VISIBLE CLUSTERED #IS_GLOBAL PREDICATE";

pub(super) fn index_rows(table: &Table) -> Rows {
    let row = |p: &KeyPart<'_>| {
        let (column, expression) = named(p);
        let predicate = if p.condition.is_empty() {
            Value::Null
        } else {
            s(p.condition)
        };
        vec![
            s(&table.db.db_name.original),
            s(&table.info.name.original),
            n(i64::from(!p.unique)),
            s(p.key),
            n(p.position),
            column,
            sub_part(p),
            s(""),
            expression,
            n(p.id),
            yes(p.visible),
            yes(p.clustered),
            n(i64::from(p.global)),
            predicate,
        ]
    };
    key_parts(&table.info).iter().map(row).collect()
}

pub(super) const KEY_COLUMN_USAGE: &str = "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME #ORDINAL_POSITION \
    #POSITION_IN_UNIQUE_CONSTRAINT REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME";

pub(super) fn key_column_rows(table: &Table) -> Rows {
    let (db, name) = (&table.db.db_name.original, &table.info.name.original);
    let row = |p: &KeyPart<'_>| {
        vec![
            s("def"),
            s(db),
            s(p.key),
            s("def"),
            s(db),
            s(name),
            named(p).0,
            n(p.position),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    };
    key_parts(&table.info)
        .iter()
        .filter(|p| p.unique)
        .map(row)
        .collect()
}

pub(super) fn constraint_rows(table: &Table) -> Rows {
    let (db, name) = (&table.db.db_name.original, &table.info.name.original);
    let row = |p: &KeyPart<'_>| {
        vec![
            s(db),
            s(p.key),
            s(db),
            s(name),
            s(if p.primary { "PRIMARY KEY" } else { "UNIQUE" }),
        ]
    };
    key_parts(&table.info)
        .iter()
        .filter(|p| p.unique && p.position == 1)
        .map(row)
        .collect()
}
