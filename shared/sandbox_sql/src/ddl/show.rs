//! A model as `SHOW CREATE TABLE` and `DESCRIBE` print it.

use crate::expr::quoted;
use serde_json::Value;
use std::fmt::Write as _;
use thunderhead_codec::mysql::{flag, tp};
use thunderhead_codec::schema::{
    ColumnInfo, FieldType, IndexInfo, PartitionInfo, TableInfo, partition_type,
};

/// The statement that would make the table.
pub fn show_create_table(table: &TableInfo) -> String {
    let mut lines: Vec<String> = table
        .columns()
        .iter()
        .filter(|c| !c.hidden)
        .map(|c| column_line(table, c))
        .collect();
    if let Some(handle) = table.handle_column() {
        lines.push(format!(
            "PRIMARY KEY ({}) /*T![clustered_index] CLUSTERED */",
            quoted(&handle.name.original)
        ));
    }
    lines.extend(table.indexes().iter().map(|i| index_line(table, i)));
    let mut out = format!(
        "CREATE TABLE {} (\n  {}\n) ENGINE=InnoDB DEFAULT CHARSET={} COLLATE={}",
        quoted(&table.name.original),
        lines.join(",\n  "),
        table.charset,
        table.collate
    );
    if table.auto_inc_id > 1 {
        let _ = write!(out, " AUTO_INCREMENT={}", table.auto_inc_id);
    }
    if table.auto_id_cache != 0 {
        let _ = write!(
            out,
            " /*T![auto_id_cache] AUTO_ID_CACHE={} */",
            table.auto_id_cache
        );
    }
    if table.auto_rand_id > 1 {
        let _ = write!(
            out,
            " /*T![auto_rand_base] AUTO_RANDOM_BASE={} */",
            table.auto_rand_id
        );
    }
    if table.shard_row_id_bits > 0 {
        let _ = write!(out, " /*T! SHARD_ROW_ID_BITS={} ", table.shard_row_id_bits);
        if table.pre_split_regions > 0 {
            let _ = write!(out, "PRE_SPLIT_REGIONS={} ", table.pre_split_regions);
        }
        out.push_str("*/");
    }
    if !table.comment.is_empty() {
        let _ = write!(out, " COMMENT={}", literal(&table.comment));
    }
    if let Some(partition) = &table.partition {
        out.push_str(&partition_text(partition));
    }
    out
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn column_line(table: &TableInfo, column: &ColumnInfo) -> String {
    let ty = &column.field_type;
    let mut line = format!("{} {}", quoted(&column.name.original), type_text(ty));
    if (ty.is_string() || matches!(ty.tp, tp::ENUM | tp::SET)) && !ty.is_binary() {
        if ty.charset != table.charset {
            let _ = write!(line, " CHARACTER SET {}", ty.charset);
        }
        if ty.collate != table.collate {
            let _ = write!(line, " COLLATE {}", ty.collate);
        }
    }
    if column.is_generated() {
        let kind = if column.generated_stored {
            "STORED"
        } else {
            "VIRTUAL"
        };
        let _ = write!(
            line,
            " GENERATED ALWAYS AS ({}) {kind}",
            column.generated_expr_string
        );
    }
    if ty.is_not_null() {
        line.push_str(" NOT NULL");
    } else if ty.tp == tp::TIMESTAMP {
        line.push_str(" NULL");
    }
    if let Some(default) = default_text(column) {
        let _ = write!(line, " DEFAULT {default}");
    }
    if ty.has_flag(flag::ON_UPDATE_NOW) {
        let _ = write!(line, " ON UPDATE CURRENT_TIMESTAMP{}", fsp_text(ty));
    }
    if ty.has_flag(flag::AUTO_INCREMENT) {
        line.push_str(" AUTO_INCREMENT");
    }
    if table.auto_random_bits > 0 && ty.has_flag(flag::PRI_KEY) {
        let range = if table.auto_random_range_bits == 64 {
            String::new()
        } else {
            format!(", {}", table.auto_random_range_bits)
        };
        let _ = write!(
            line,
            " /*T![auto_rand] AUTO_RANDOM({}{range}) */",
            table.auto_random_bits
        );
    }
    if !column.comment.is_empty() {
        let _ = write!(line, " COMMENT {}", literal(&column.comment));
    }
    line
}

fn fsp_text(ty: &FieldType) -> String {
    if ty.decimal > 0 {
        format!("({})", ty.decimal)
    } else {
        String::new()
    }
}

/// What follows DEFAULT, if anything is to be printed.
fn default_text(column: &ColumnInfo) -> Option<String> {
    let ty = &column.field_type;
    if column.is_generated() || ty.has_flag(flag::AUTO_INCREMENT) {
        return None;
    }
    Some(match &column.default {
        None if ty.is_not_null() || ty.is_blob() && ty.has_flag(flag::NO_DEFAULT) => return None,
        None => "NULL".to_owned(),
        Some(Value::String(text)) if text == "CURRENT_TIMESTAMP" && !column.default_is_expr => {
            format!("CURRENT_TIMESTAMP{}", fsp_text(ty))
        }
        Some(Value::String(text)) if column.default_is_expr => format!("({text})"),
        Some(Value::String(_)) if ty.tp == tp::BIT => {
            let bits = column
                .default_bit
                .iter()
                .flat_map(|b| &b.0)
                .fold(0u64, |v, b| v << 8 | u64::from(*b));
            format!("b'{bits:b}'")
        }
        Some(Value::String(text)) => literal(text),
        Some(other) => other.to_string(),
    })
}

/// `index_line`'s column list: names with their prefixes, expressions of hidden columns.
fn index_columns_text(table: &TableInfo, index: &IndexInfo) -> String {
    let part = |p: &thunderhead_codec::schema::IndexColumn| {
        let column = table.columns().get(p.offset);
        match column {
            Some(c) if c.hidden => format!("({})", c.generated_expr_string),
            _ if p.length >= 0 => format!("{}({})", quoted(&p.name.original), p.length),
            _ => quoted(&p.name.original),
        }
    };
    index
        .columns()
        .iter()
        .map(part)
        .collect::<Vec<_>>()
        .join(",")
}

fn index_line(table: &TableInfo, index: &IndexInfo) -> String {
    let columns = index_columns_text(table, index);
    let mut line = if index.is_primary {
        let kind = if table.is_common_handle {
            "CLUSTERED"
        } else {
            "NONCLUSTERED"
        };
        format!("PRIMARY KEY ({columns}) /*T![clustered_index] {kind} */")
    } else {
        let unique = if index.is_unique { "UNIQUE " } else { "" };
        format!(
            "{unique}KEY {} ({columns})",
            quoted(&index.idx_name.original)
        )
    };
    if index.is_invisible {
        line.push_str(" /*!80000 INVISIBLE */");
    }
    if !index.comment.is_empty() {
        let _ = write!(line, " COMMENT {}", literal(&index.comment));
    }
    if index.is_global {
        line.push_str(" /*T![global_index] GLOBAL */");
    }
    if !index.condition_expr_string.is_empty() {
        let _ = write!(line, " WHERE {}", index.condition_expr_string);
    }
    line
}

fn partition_text(partition: &PartitionInfo) -> String {
    let columns = || {
        partition
            .columns()
            .iter()
            .map(|c| quoted(&c.original))
            .collect::<Vec<_>>()
            .join(",")
    };
    let has_columns = partition.columns.is_some();
    let (head, listed) = match partition.partition_type {
        partition_type::HASH => (format!("HASH ({})", partition.expr), false),
        partition_type::KEY => (
            format!(
                "KEY ({})",
                if partition.is_empty_columns {
                    String::new()
                } else {
                    columns()
                }
            ),
            false,
        ),
        kind => {
            let word = if kind == partition_type::RANGE {
                "RANGE"
            } else {
                "LIST"
            };
            let of = if has_columns {
                format!(" COLUMNS({})", columns())
            } else {
                format!(" ({})", partition.expr)
            };
            (format!("{word}{of}"), true)
        }
    };
    if !listed {
        return format!("\nPARTITION BY {head} PARTITIONS {}", partition.num);
    }
    let definition = |d: &thunderhead_codec::schema::PartitionDefinition| {
        let bounds = match (&d.less_than, &d.in_values) {
            (Some(bounds), _) => format!(" VALUES LESS THAN ({})", bounds.join(",")),
            (None, Some(tuples)) => {
                let tuple = |t: &Vec<String>| {
                    if t.len() > 1 {
                        format!("({})", t.join(","))
                    } else {
                        t.join(",")
                    }
                };
                format!(
                    " VALUES IN ({})",
                    tuples.iter().map(tuple).collect::<Vec<_>>().join(",")
                )
            }
            _ => String::new(),
        };
        format!("PARTITION {}{bounds}", quoted(&d.name.original))
    };
    let list: Vec<String> = partition.definitions().iter().map(definition).collect();
    format!("\nPARTITION BY {head}\n({})", list.join(",\n "))
}

/// The type as written in a definition, without charset.
pub fn type_text(ty: &FieldType) -> String {
    let sized = |name: &str| format!("{name}({})", ty.flen);
    let blob = |size: &str| format!("{size}{}", if ty.is_binary() { "blob" } else { "text" });
    let elements = |name: &str| {
        format!(
            "{name}({})",
            ty.elems()
                .iter()
                .map(|e| literal(e))
                .collect::<Vec<_>>()
                .join(",")
        )
    };
    let mut text = match ty.tp {
        tp::TINY if ty.flen == 1 => "tinyint(1)".to_owned(),
        tp::TINY => "tinyint".to_owned(),
        tp::SHORT => "smallint".to_owned(),
        tp::INT24 => "mediumint".to_owned(),
        tp::LONG => "int".to_owned(),
        tp::LONGLONG => "bigint".to_owned(),
        tp::NEW_DECIMAL => format!("decimal({},{})", ty.flen, ty.decimal),
        tp::FLOAT | tp::DOUBLE => {
            let name = if ty.tp == tp::FLOAT {
                "float"
            } else {
                "double"
            };
            if ty.decimal >= 0 {
                format!("{name}({},{})", ty.flen, ty.decimal)
            } else {
                name.to_owned()
            }
        }
        tp::BIT => sized("bit"),
        tp::DATE => "date".to_owned(),
        tp::DATETIME => format!("datetime{}", fsp_text(ty)),
        tp::TIMESTAMP => format!("timestamp{}", fsp_text(ty)),
        tp::DURATION => format!("time{}", fsp_text(ty)),
        tp::YEAR => "year(4)".to_owned(),
        tp::STRING => sized(if ty.is_binary() { "binary" } else { "char" }),
        tp::VARCHAR | tp::VAR_STRING => sized(if ty.is_binary() {
            "varbinary"
        } else {
            "varchar"
        }),
        tp::TINY_BLOB => blob("tiny"),
        tp::BLOB => blob(""),
        tp::MEDIUM_BLOB => blob("medium"),
        tp::LONG_BLOB => blob("long"),
        tp::ENUM => elements("enum"),
        tp::SET => elements("set"),
        tp::JSON => "json".to_owned(),
        tp::VECTOR if ty.flen > 0 => sized("vector"),
        tp::VECTOR => "vector".to_owned(),
        other => format!("unknown({other})"),
    };
    let number = ty.is_integer() || matches!(ty.tp, tp::NEW_DECIMAL | tp::FLOAT | tp::DOUBLE);
    if number && ty.is_unsigned() {
        text.push_str(" unsigned");
    }
    if number && ty.has_flag(flag::ZEROFILL) {
        text.push_str(" zerofill");
    }
    text
}
