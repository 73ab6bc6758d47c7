//! The tables of INFORMATION_SCHEMA and `mysql` that loaders and clients read, computed from the catalog.

use super::info_keys::{
    KEY_COLUMN_USAGE, STATISTICS, TIDB_INDEXES, constraint_rows, index_rows, key_column_rows,
    statistics_rows,
};
use super::show_columns::{default_text, extra_text, key_text};
use super::views::{definition, table_type};
use crate::catalog::{SYSTEM_DATABASES, Table};
use crate::ddl::type_text;
use crate::error::{SqlError, SqlResult};
use crate::select::{Kind, ScopeColumn, Ty};
use crate::session::Session;
use rusqlite::types::Value;
use thunderhead_codec::mysql::tp;
use thunderhead_codec::schema::{ColumnInfo, FieldType, partition_type};

pub(super) type Rows = Vec<Vec<Value>>;

pub(super) fn s(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

pub(super) fn n(value: impl TryInto<i64>) -> Value {
    value.try_into().map_or(Value::Null, Value::Integer)
}

pub(super) fn yes(value: bool) -> Value {
    s(if value { "YES" } else { "NO" })
}

/// Columns by name; those that begin with `#` are numbers.
fn columns(names: &str) -> Vec<ScopeColumn> {
    let column = |name: &str| {
        let ty = if name.starts_with('#') {
            Ty::int()
        } else {
            Ty {
                collation: "utf8mb4_general_ci".to_owned(),
                ..Ty::new(Kind::Text, 0)
            }
        };
        ScopeColumn {
            name: name.trim_start_matches('#').to_owned(),
            ty,
            hidden: false,
            generated: None,
        }
    };
    names.split_whitespace().map(column).collect()
}

/// A computed table, whole.
pub fn rows(session: &Session, db: &str, name: &str) -> SqlResult<(Vec<ScopeColumn>, Rows)> {
    let all = || -> SqlResult<Vec<Table>> {
        let mut tables = Vec::new();
        for db in session.catalog().databases()? {
            tables.extend(
                session
                    .catalog()
                    .tables(&db)?
                    .into_iter()
                    .map(|info| Table {
                        db: db.clone(),
                        info,
                    }),
            );
        }
        Ok(tables)
    };
    let each = |names: &str, row: &dyn Fn(&Table) -> Rows| -> SqlResult<(Vec<ScopeColumn>, Rows)> {
        Ok((columns(names), all()?.iter().flat_map(row).collect()))
    };
    match (db.to_lowercase().as_str(), name.to_lowercase().as_str()) {
        ("information_schema", "schemata") => {
            let row = |name: &str, charset: &str, collate: &str| {
                vec![s("def"), s(name), s(charset), s(collate), Value::Null]
            };
            let mut rows: Rows = SYSTEM_DATABASES
                .iter()
                .map(|d| row(d, "utf8mb4", "utf8mb4_bin"))
                .collect();
            rows.extend(
                session
                    .catalog()
                    .databases()?
                    .iter()
                    .map(|d| row(&d.db_name.original, &d.charset, &d.collate)),
            );
            Ok((
                columns(
                    "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH",
                ),
                rows,
            ))
        }
        ("information_schema", "tables") => each(TABLES, &|t| vec![table_row(t)]),
        ("information_schema", "columns") => each(COLUMNS, &|t| {
            t.info
                .columns()
                .iter()
                .filter(|c| !c.hidden)
                .enumerate()
                .map(|(i, c)| column_row(t, i, c))
                .collect()
        }),
        ("information_schema", "statistics") => each(STATISTICS, &statistics_rows),
        ("information_schema", "tidb_indexes") => each(TIDB_INDEXES, &index_rows),
        ("information_schema", "key_column_usage") => each(KEY_COLUMN_USAGE, &key_column_rows),
        ("information_schema", "table_constraints") => each(
            "CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE",
            &constraint_rows,
        ),
        ("information_schema", "partitions") => each(PARTITIONS, &partition_rows),
        ("information_schema", "views") => each(
            "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION",
            &|t| match &t.info.view {
                Some(view) => vec![vec![
                    s("def"),
                    s(&t.db.db_name.original),
                    s(&t.info.name.original),
                    s(definition(view)),
                ]],
                None => Vec::new(),
            },
        ),
        ("information_schema", "referential_constraints") => Ok((
            columns("CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_NAME"),
            Vec::new(),
        )),
        ("information_schema", "cluster_info") => {
            let tidb = vec![
                s("tidb"),
                s("127.0.0.1:4000"),
                s("127.0.0.1:10080"),
                s("8.5.0"),
            ];
            let pd = vec![
                s("pd"),
                s(&session.shared().config.pd_addr),
                s(&session.shared().config.pd_addr),
                s("8.5.0"),
            ];
            Ok((
                columns("TYPE INSTANCE STATUS_ADDRESS VERSION"),
                vec![tidb, pd],
            ))
        }
        ("information_schema", "processlist" | "cluster_processlist") => {
            let row = |id: u32| {
                vec![
                    n(id),
                    s("root"),
                    s("127.0.0.1"),
                    Value::Null,
                    s("Query"),
                    n(0),
                    s(""),
                    Value::Null,
                ]
            };
            Ok((
                columns("#ID USER HOST DB COMMAND #TIME STATE INFO"),
                session
                    .shared()
                    .connections()
                    .into_iter()
                    .map(row)
                    .collect(),
            ))
        }
        ("mysql", "tidb") => Ok((
            columns("VARIABLE_NAME VARIABLE_VALUE COMMENT"),
            tidb_rows(session),
        )),
        ("mysql", "user") => Ok((
            columns("Host User authentication_string plugin"),
            vec![vec![s("%"), s("root"), s(""), s("mysql_native_password")]],
        )),
        ("mysql", "global_variables") => {
            let globals = session.shared().globals.read();
            Ok((
                columns("VARIABLE_NAME VARIABLE_VALUE"),
                globals.iter().map(|(k, v)| vec![s(k), s(v)]).collect(),
            ))
        }
        _ => Err(SqlError::no_such_table(db, name)),
    }
}

fn tidb_rows(session: &Session) -> Rows {
    let collation = if session.shared().config.new_collation {
        "True"
    } else {
        "False"
    };
    [
        ("bootstrapped", "True"),
        ("tidb_server_version", "180"),
        ("system_tz", "UTC"),
        ("new_collation_enabled", collation),
        ("tikv_gc_leader_uuid", "sandbox"),
        ("tikv_gc_run_interval", "10m0s"),
        ("tikv_gc_life_time", "10m0s"),
        ("tikv_gc_enable", "true"),
        ("tikv_gc_mode", "distributed"),
        ("tikv_gc_safe_point", "19700101-00:00:00.000 +0000"),
    ]
    .map(|(name, value)| {
        let set = session
            .shared()
            .globals
            .read()
            .get(&format!("mysql.tidb.{name}"))
            .cloned();
        vec![s(name), s(set.unwrap_or_else(|| value.to_owned())), s("")]
    })
    .to_vec()
}

const TABLES: &str = "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE #VERSION ROW_FORMAT #TABLE_ROWS #AVG_ROW_LENGTH #DATA_LENGTH \
    #MAX_DATA_LENGTH #INDEX_LENGTH #DATA_FREE #AUTO_INCREMENT CREATE_TIME UPDATE_TIME CHECK_TIME TABLE_COLLATION #CHECKSUM CREATE_OPTIONS \
    TABLE_COMMENT #TIDB_TABLE_ID TIDB_ROW_ID_SHARDING_INFO TIDB_PK_TYPE";

fn table_row(table: &Table) -> Vec<Value> {
    let info = &table.info;
    let sharding = match () {
        () if info.auto_random_bits > 0 && info.auto_random_range_bits == 64 => {
            format!("PK_AUTO_RANDOM_BITS={}", info.auto_random_bits)
        }
        () if info.auto_random_bits > 0 => format!(
            "PK_AUTO_RANDOM_BITS={}, RANGE BITS={}",
            info.auto_random_bits, info.auto_random_range_bits
        ),
        () if info.pk_is_handle => "NOT_SHARDED(PK_IS_HANDLE)".to_owned(),
        () if info.is_common_handle => "NOT_SHARDED".to_owned(),
        () if info.shard_row_id_bits > 0 => format!("SHARD_BITS={}", info.shard_row_id_bits),
        () => "NOT_SHARDED".to_owned(),
    };
    let clustered = if info.pk_is_handle || info.is_common_handle {
        "CLUSTERED"
    } else {
        "NONCLUSTERED"
    };
    vec![
        s("def"),
        s(&table.db.db_name.original),
        s(&info.name.original),
        s(table_type(info)),
        s("InnoDB"),
        n(10),
        s("Compact"),
        n(0),
        n(0),
        n(0),
        n(0),
        n(0),
        n(0),
        Value::Null,
        s("2026-01-01 00:00:00"),
        Value::Null,
        Value::Null,
        s(&info.collate),
        Value::Null,
        s(if info.partition.is_some() {
            "partitioned"
        } else {
            ""
        }),
        s(&info.comment),
        n(info.id),
        s(sharding),
        s(clustered),
    ]
}

const COLUMNS: &str = "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME #ORDINAL_POSITION COLUMN_DEFAULT IS_NULLABLE DATA_TYPE \
    #CHARACTER_MAXIMUM_LENGTH #CHARACTER_OCTET_LENGTH #NUMERIC_PRECISION #NUMERIC_SCALE #DATETIME_PRECISION CHARACTER_SET_NAME COLLATION_NAME \
    COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION #SRS_ID";

fn data_type(ty: &FieldType) -> String {
    let text = type_text(ty);
    text.split(['(', ' ']).next().unwrap_or(&text).to_owned()
}

fn column_row(table: &Table, position: usize, column: &ColumnInfo) -> Vec<Value> {
    let ty = &column.field_type;
    let default = default_text(column).map_or(Value::Null, |v| s(String::from_utf8_lossy(&v)));
    let is_text = ty.is_string() || matches!(ty.tp, tp::ENUM | tp::SET);
    let length = if is_text { n(ty.flen) } else { Value::Null };
    let octets = if is_text {
        n(if ty.is_blob() || ty.is_binary() {
            ty.flen
        } else {
            ty.flen * 4
        })
    } else {
        Value::Null
    };
    let precision = match ty.tp {
        tp::TINY => n(3),
        tp::SHORT => n(5),
        tp::INT24 => n(7),
        tp::LONG => n(10),
        tp::LONGLONG => n(if ty.is_unsigned() { 20 } else { 19 }),
        tp::NEW_DECIMAL | tp::FLOAT | tp::DOUBLE | tp::BIT => n(ty.flen),
        _ => Value::Null,
    };
    let scale = match ty.tp {
        _ if ty.is_integer() => n(0),
        tp::NEW_DECIMAL => n(ty.decimal),
        _ => Value::Null,
    };
    let fraction = if matches!(ty.tp, tp::DATETIME | tp::TIMESTAMP | tp::DURATION) {
        n(ty.decimal)
    } else {
        Value::Null
    };
    let (charset, collation) = if is_text && !ty.is_binary() {
        (s(&ty.charset), s(&ty.collate))
    } else {
        (Value::Null, Value::Null)
    };
    vec![
        s("def"),
        s(&table.db.db_name.original),
        s(&table.info.name.original),
        s(&column.name.original),
        n(position as i64 + 1),
        default,
        yes(!ty.is_not_null()),
        s(data_type(ty)),
        length,
        octets,
        precision,
        scale,
        fraction,
        charset,
        collation,
        s(type_text(ty)),
        s(key_text(column)),
        s(extra_text(column)),
        s("select,insert,update,references"),
        s(&column.comment),
        s(&column.generated_expr_string),
        Value::Null,
    ]
}

const PARTITIONS: &str = "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PARTITION_NAME #PARTITION_ORDINAL_POSITION PARTITION_METHOD PARTITION_EXPRESSION PARTITION_DESCRIPTION #TABLE_ROWS #TIDB_PARTITION_ID";

fn partition_rows(table: &Table) -> Rows {
    let (db, name) = (&table.db.db_name.original, &table.info.name.original);
    let Some(partition) = &table.info.partition else {
        return vec![vec![
            s("def"),
            s(db),
            s(name),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            n(0),
            Value::Null,
        ]];
    };
    let method = match (partition.partition_type, partition.columns.is_some()) {
        (partition_type::RANGE, false) => "RANGE",
        (partition_type::RANGE, true) => "RANGE COLUMNS",
        (partition_type::LIST, false) => "LIST",
        (partition_type::LIST, true) => "LIST COLUMNS",
        (partition_type::HASH, _) => "HASH",
        _ => "KEY",
    };
    let expression = if partition.expr.is_empty() {
        partition
            .columns()
            .iter()
            .map(|c| crate::expr::quoted(&c.original))
            .collect::<Vec<_>>()
            .join(",")
    } else {
        partition.expr.clone()
    };
    let row = |(i, d): (usize, &thunderhead_codec::schema::PartitionDefinition)| {
        let description = match (&d.less_than, &d.in_values) {
            (Some(bounds), _) => s(bounds.join(",")),
            (None, Some(tuples)) => s(tuples
                .iter()
                .map(|t| {
                    if t.len() > 1 {
                        format!("({})", t.join(","))
                    } else {
                        t.join(",")
                    }
                })
                .collect::<Vec<_>>()
                .join(",")),
            _ => Value::Null,
        };
        vec![
            s("def"),
            s(db),
            s(name),
            s(&d.name.original),
            n(i as i64 + 1),
            s(method),
            s(&expression),
            description,
            n(0),
            n(d.id),
        ]
    };
    partition
        .definitions()
        .iter()
        .enumerate()
        .map(row)
        .collect()
}
