//! SHOW COLUMNS and SHOW INDEX, and the texts they share with INFORMATION_SCHEMA.

use super::show::{Filter, texts};
use super::{send, text};
use crate::ddl::type_text;
use crate::error::SqlResult;
use crate::protocol::{RowSink, Value};
use crate::session::Outcome;
use thunderhead_codec::mysql::{flag, tp};
use thunderhead_codec::schema::{ColumnInfo, TableInfo};

/// PRI, UNI, MUL as SHOW COLUMNS prints a column's role.
pub fn key_text(column: &ColumnInfo) -> &'static str {
    let ty = &column.field_type;
    match () {
        () if ty.has_flag(flag::PRI_KEY) => "PRI",
        () if ty.has_flag(flag::UNIQUE_KEY) => "UNI",
        () if ty.has_flag(flag::MULTIPLE_KEY) => "MUL",
        () => "",
    }
}

/// What SHOW COLUMNS prints beside the default.
pub fn extra_text(column: &ColumnInfo) -> String {
    let ty = &column.field_type;
    match () {
        () if ty.has_flag(flag::AUTO_INCREMENT) => "auto_increment".to_owned(),
        () if ty.has_flag(flag::ON_UPDATE_NOW) => {
            "DEFAULT_GENERATED on update CURRENT_TIMESTAMP".to_owned()
        }
        () if column.is_virtual() => "VIRTUAL GENERATED".to_owned(),
        () if column.is_generated() => "STORED GENERATED".to_owned(),
        () if column.default_is_expr => "DEFAULT_GENERATED".to_owned(),
        () => String::new(),
    }
}

/// A column's default as SHOW COLUMNS prints it.
pub fn default_text(column: &ColumnInfo) -> Value {
    match &column.default {
        Some(serde_json::Value::String(_)) if column.field_type.tp == tp::BIT => {
            let bits = column
                .default_bit
                .iter()
                .flat_map(|b| &b.0)
                .fold(0u64, |v, b| v << 8 | u64::from(*b));
            text(format!("b'{bits:b}'"))
        }
        Some(serde_json::Value::String(value)) => text(value),
        Some(other) if !other.is_null() => text(other),
        _ => None,
    }
}

pub(super) fn columns(
    info: &TableInfo,
    sink: &mut dyn RowSink,
    full: bool,
    filter: &Filter,
) -> SqlResult<Outcome> {
    let mut rows = Vec::new();
    for column in info
        .columns()
        .iter()
        .filter(|c| !c.hidden && filter.keeps(&c.name.original))
    {
        let ty = &column.field_type;
        let null = text(if ty.is_not_null() { "NO" } else { "YES" });
        let (name, kind) = (text(&column.name.original), text(type_text(ty)));
        let (key, default, extra) = (
            text(key_text(column)),
            default_text(column),
            text(extra_text(column)),
        );
        let collation = if ty.is_binary() {
            None
        } else {
            text(&ty.collate)
        };
        rows.push(if full {
            vec![
                name,
                kind,
                collation,
                null,
                key,
                default,
                extra,
                text("select,insert,update,references"),
                text(&column.comment),
            ]
        } else {
            vec![name, kind, null, key, default, extra]
        });
    }
    let names: &[&str] = if full {
        &[
            "Field",
            "Type",
            "Collation",
            "Null",
            "Key",
            "Default",
            "Extra",
            "Privileges",
            "Comment",
        ]
    } else {
        &["Field", "Type", "Null", "Key", "Default", "Extra"]
    };
    send(sink, &texts(names), &rows)
}

pub(super) fn indexes(info: &TableInfo, sink: &mut dyn RowSink) -> SqlResult<Outcome> {
    let columns = texts(&[
        "Table",
        "Non_unique",
        "Key_name",
        "Seq_in_index",
        "Column_name",
        "Collation",
        "Cardinality",
        "Sub_part",
        "Packed",
        "Null",
        "Index_type",
        "Comment",
        "Index_comment",
        "Visible",
        "Expression",
        "Clustered",
        "Global",
    ]);
    let row = |unique: bool,
               key: &str,
               seq: usize,
               column: &ColumnInfo,
               length: i32,
               visible: bool,
               clustered: bool,
               global: bool,
               comment: &str| {
        let (name, expression) = if column.hidden {
            (None, text(&column.generated_expr_string))
        } else {
            (text(&column.name.original), None)
        };
        let yes = |b: bool| text(if b { "YES" } else { "NO" });
        vec![
            text(&info.name.original),
            text(i32::from(!unique)),
            text(key),
            text(seq),
            name,
            text("A"),
            text(0),
            (length >= 0).then(|| length.to_string().into_bytes()),
            None,
            text(if column.field_type.is_not_null() {
                ""
            } else {
                "YES"
            }),
            text("BTREE"),
            text(""),
            text(comment),
            yes(visible),
            expression,
            yes(clustered),
            yes(global),
        ]
    };
    let mut rows = Vec::new();
    if let Some(handle) = info.handle_column() {
        rows.push(row(true, "PRIMARY", 1, handle, -1, true, true, false, ""));
    }
    for index in info.indexes() {
        for (i, part) in index.columns().iter().enumerate() {
            if let Some(column) = info.columns().get(part.offset) {
                let clustered = index.is_primary && info.is_common_handle;
                rows.push(row(
                    index.is_unique,
                    &index.idx_name.original,
                    i + 1,
                    column,
                    part.length,
                    !index.is_invisible,
                    clustered,
                    index.is_global,
                    &index.comment,
                ));
            }
        }
    }
    send(sink, &columns, &rows)
}
