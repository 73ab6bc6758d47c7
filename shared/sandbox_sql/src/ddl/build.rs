//! A table's model from its definition, number by number as TiDB makes it: column ids by position, hidden
//! columns after them, index ids in the order table-level constraints first, then the columns' own.

use super::charset::resolve;
use super::columns::{build_column, mark_primary, strip_parens};
use super::infer::infer;
use super::partition::build_partition;
use super::ttl::ttl_info;
use super::{Constraint, ConstraintKind, CreateTable, KeyDef, KeyPart};
use crate::error::{SqlError, SqlResult, code};
use crate::expr::{Expr, Style, columns_of, restore};
use std::collections::BTreeMap;
use thunderhead_codec::mysql::{flag, state};
use thunderhead_codec::schema::{ColumnInfo, Empty, IndexColumn, IndexInfo, Name, TableInfo};

/// What a definition depends on outside itself.
pub struct BuildContext<'a> {
    /// Charset and collation of the database.
    pub charset: &'a str,
    pub collate: &'a str,
    /// Whether a primary key is clustered when the statement does not say.
    pub clustered: bool,
    /// Turns the session's text of a TIMESTAMP into UTC's.
    pub to_utc: &'a dyn Fn(&str) -> SqlResult<String>,
    /// The value of a constant expression as text; `None` for NULL.
    pub eval: &'a dyn Fn(&Expr) -> SqlResult<Option<String>>,
}

const TABLE_VERSION: u16 = 5;
const DEFAULT_AUTO_RANDOM_BITS: u64 = 5;
const DEFAULT_AUTO_RANDOM_RANGE: u64 = 64;
const BTREE: u8 = 1;
/// Index columns without a prefix.
const WHOLE: i32 = -1;

/// Builds the model; table and partition ids are 0 and set by the catalog.
pub fn build_table(def: &CreateTable, context: &BuildContext<'_>) -> SqlResult<TableInfo> {
    let options = &def.options;
    let (charset, collate) = resolve(
        options.charset.as_deref(),
        options.collate.as_deref(),
        (context.charset, context.collate),
    )?;
    let mut table = TableInfo {
        name: Name::new(def.name.clone()),
        comment: options.comment.clone().unwrap_or_default(),
        auto_inc_id: options.auto_increment.unwrap_or(0),
        auto_id_cache: options.auto_id_cache.unwrap_or(0),
        auto_rand_id: options.auto_random_base.unwrap_or(0),
        shard_row_id_bits: options.shard_row_id_bits.unwrap_or(0),
        max_shard_row_id_bits: options.shard_row_id_bits.unwrap_or(0),
        pre_split_regions: options.pre_split_regions.unwrap_or(0),
        state: state::PUBLIC,
        version: TABLE_VERSION,
        charset,
        collate,
        ..TableInfo::default()
    };
    table.cols = Some(Vec::new());
    for column in &def.columns {
        let built = build_column(column, (&table.charset, &table.collate), context.to_utc)?;
        add_column(&mut table, built)?;
    }
    if def.columns.is_empty() {
        return Err(SqlError::new(1113, "A table must have at least 1 column"));
    }
    let keys = all_keys(def)?;
    flag_primary(&mut table, def, &keys)?;
    for key in &keys {
        add_key(&mut table, key, context.clustered)?;
    }
    auto_random(&mut table, def)?;
    check_auto_increment(&table)?;
    table.ttl_info = ttl_info(options, &table)?;
    if let Some(partition) = &def.partition {
        table.partition = Some(build_partition(partition, &table, context)?);
    }
    Ok(table)
}

/// Appends a column, giving it the next id and offset.
pub fn add_column(table: &mut TableInfo, mut column: ColumnInfo) -> SqlResult<()> {
    let columns = table.cols.get_or_insert_default();
    if columns.iter().any(|c| c.name.lower == column.name.lower) {
        return Err(SqlError::new(
            code::DUP_FIELD,
            format!("Duplicate column name '{}'", column.name.original),
        ));
    }
    table.max_col_id += 1;
    column.id = table.max_col_id;
    column.offset = columns.len();
    columns.push(column);
    Ok(())
}

/// Table-level keys in order, then those of the columns, all with their final names.
fn all_keys(def: &CreateTable) -> SqlResult<Vec<KeyDef>> {
    let mut keys: Vec<KeyDef> = def
        .constraints
        .iter()
        .filter_map(|c| {
            if let Constraint::Key(key) = c {
                Some(key.clone())
            } else {
                None
            }
        })
        .collect();
    for column in &def.columns {
        let part = || vec![KeyPart::Column(column.name.clone(), None)];
        let key = |kind, clustered, global| KeyDef {
            kind,
            name: None,
            parts: part(),
            clustered,
            global,
            invisible: false,
            comment: String::new(),
            condition: None,
        };
        if let Some(clustered) = column.primary {
            keys.push(key(ConstraintKind::Primary, clustered, false));
        }
        if let Some(global) = column.unique {
            keys.push(key(ConstraintKind::Unique, None, global));
        }
    }
    if keys
        .iter()
        .filter(|k| k.kind == ConstraintKind::Primary)
        .count()
        > 1
    {
        return Err(SqlError::new(
            code::MULTIPLE_PRI_KEY,
            "Multiple primary key defined",
        ));
    }
    let mut taken: Vec<String> = keys
        .iter()
        .filter_map(|k| k.name.as_ref().map(|n| n.to_lowercase()))
        .collect();
    for key in &mut keys {
        name_key(key, &mut taken);
    }
    let mut seen = Vec::new();
    for name in keys.iter().filter_map(|k| k.name.as_ref()) {
        if seen.contains(&name.to_lowercase()) {
            return Err(SqlError::new(
                code::DUP_KEY_NAME,
                format!("Duplicate key name '{name}'"),
            ));
        }
        seen.push(name.to_lowercase());
    }
    Ok(keys)
}

/// Names a key after its first column, numbered from `_2` when that is taken.
pub fn name_key(key: &mut KeyDef, taken: &mut Vec<String>) {
    if key.kind == ConstraintKind::Primary {
        key.name = Some("PRIMARY".to_owned());
    }
    if key.name.is_some() {
        return;
    }
    let base = match key.parts.first() {
        Some(KeyPart::Column(name, _)) if name.eq_ignore_ascii_case("primary") => {
            "primary_2".to_owned()
        }
        Some(KeyPart::Column(name, _)) => name.clone(),
        _ => "expression_index".to_owned(),
    };
    let mut name = base.clone();
    let mut number = 2;
    while taken.contains(&name.to_lowercase()) {
        name = format!("{base}_{number}");
        number += 1;
    }
    taken.push(name.to_lowercase());
    key.name = Some(name);
}

/// Flags the primary key's columns before anything looks at them.
fn flag_primary(table: &mut TableInfo, def: &CreateTable, keys: &[KeyDef]) -> SqlResult<()> {
    let primary = keys.iter().find(|k| k.kind == ConstraintKind::Primary);
    for part in primary.iter().flat_map(|k| &k.parts) {
        let KeyPart::Column(name, _) = part else {
            return Err(SqlError::new(
                3756,
                "The primary key cannot be an expression index",
            ));
        };
        let column_def = def
            .columns
            .iter()
            .find(|c| c.name.eq_ignore_ascii_case(name));
        if column_def.is_some_and(|c| c.default == Some(Expr::Null)) {
            return Err(SqlError::new(
                code::INVALID_DEFAULT,
                format!("Invalid default value for '{name}'"),
            ));
        }
        let lower = name.to_lowercase();
        let columns = table.cols.get_or_insert_default();
        let column = columns
            .iter_mut()
            .find(|c| c.name.lower == lower)
            .ok_or_else(|| missing_key_column(name))?;
        mark_primary(column, column_def);
    }
    Ok(())
}

fn missing_key_column(name: &str) -> SqlError {
    SqlError::new(
        code::KEY_COLUMN_MISSING,
        format!("Key column '{name}' doesn't exist in table"),
    )
}

/// Adds an index to the model, or notes that the primary key is the handle.
pub fn add_key(table: &mut TableInfo, key: &KeyDef, clustered_default: bool) -> SqlResult<()> {
    let name = key.name.clone().unwrap_or_default();
    let primary = key.kind == ConstraintKind::Primary;
    let clustered = primary && key.clustered.unwrap_or(clustered_default);
    if clustered && is_single_integer(table, &key.parts) {
        table.pk_is_handle = true;
        return Ok(());
    }
    let mut columns = Vec::new();
    let mut mv_index = false;
    for (i, part) in key.parts.iter().enumerate() {
        let (name, length) = match part {
            KeyPart::Column(name, length) => (name.clone(), length.unwrap_or(WHOLE)),
            KeyPart::Expr(expr) => {
                let hidden = hidden_column(table, expr, &format!("_V$_{name}_{i}"))?;
                mv_index |= hidden.field_type.array;
                let name = hidden.name.original.clone();
                add_column(table, hidden)?;
                (name, WHOLE)
            }
        };
        columns.push(index_column(table, &name, length)?);
    }
    if clustered {
        table.is_common_handle = true;
        table.common_handle_version = 1;
    }
    table.max_idx_id += 1;
    let mut index = IndexInfo {
        id: table.max_idx_id,
        idx_name: Name::new(name),
        idx_cols: Some(columns),
        state: state::PUBLIC,
        comment: key.comment.clone(),
        index_type: BTREE,
        is_unique: key.kind != ConstraintKind::Index,
        is_primary: primary,
        is_invisible: key.invisible,
        is_global: key.global,
        mv_index,
        ..IndexInfo::default()
    };
    if let Some(condition) = &key.condition {
        index.condition_expr_string = restore(strip_parens(condition), Style::Generated)?;
        let affected = columns_of(condition)
            .iter()
            .map(|c| index_column(table, c, WHOLE))
            .collect::<SqlResult<Vec<_>>>()?;
        index.affect_column = serde_json::to_value(affected).ok();
    }
    flag_index(table, &index);
    table.index_info.get_or_insert_default().push(index);
    Ok(())
}

fn is_single_integer(table: &TableInfo, parts: &[KeyPart]) -> bool {
    let [KeyPart::Column(name, _)] = parts else {
        return false;
    };
    table
        .columns()
        .iter()
        .any(|c| c.name.lower == name.to_lowercase() && c.field_type.is_integer())
}

fn hidden_column(table: &TableInfo, expr: &Expr, name: &str) -> SqlResult<ColumnInfo> {
    let expr = strip_parens(expr);
    if matches!(expr, Expr::Column { .. }) {
        return Err(SqlError::new(
            3755,
            "Functional index on a column is not supported. Consider using a regular index instead",
        ));
    }
    let dependences: BTreeMap<String, Empty> = columns_of(expr)
        .into_iter()
        .map(|name| (name, Empty {}))
        .collect();
    Ok(ColumnInfo {
        name: Name::new(name),
        generated_expr_string: restore(expr, Style::Generated)?,
        dependences: Some(dependences),
        field_type: infer(expr, table.columns())?,
        state: state::PUBLIC,
        hidden: true,
        version: 2,
        ..ColumnInfo::default()
    })
}

fn index_column(table: &TableInfo, name: &str, length: i32) -> SqlResult<IndexColumn> {
    let lower = name.to_lowercase();
    let column = table
        .columns()
        .iter()
        .find(|c| c.name.lower == lower)
        .ok_or_else(|| missing_key_column(name))?;
    let ty = &column.field_type;
    if ty.is_blob() && length == WHOLE {
        return Err(SqlError::new(
            code::BLOB_KEY_WITHOUT_LENGTH,
            format!("BLOB/TEXT column '{name}' used in key specification without a key length"),
        ));
    }
    if length != WHOLE && (!ty.is_string() || i64::from(length) > ty.flen) {
        return Err(SqlError::new(
            1089,
            "Incorrect prefix key; the used key part isn't a string, the used length is longer than the key part, or the storage engine doesn't support unique prefix keys",
        ));
    }
    let length = if i64::from(length) == ty.flen {
        WHOLE
    } else {
        length
    };
    Ok(IndexColumn {
        name: column.name.clone(),
        offset: column.offset,
        length,
        ..IndexColumn::default()
    })
}

/// Sets the key flag of an index's columns: all of a primary key, the first of any other.
pub fn flag_index(table: &mut TableInfo, index: &IndexInfo) {
    let columns = table.cols.get_or_insert_default();
    for (i, part) in index.columns().iter().enumerate() {
        let flag = match (index.is_primary, i) {
            (true, _) => flag::PRI_KEY,
            (false, 0) if index.is_unique && index.columns().len() == 1 => flag::UNIQUE_KEY,
            (false, 0) => flag::MULTIPLE_KEY,
            _ => continue,
        };
        columns[part.offset].field_type.flag |= flag;
    }
}

fn auto_random(table: &mut TableInfo, def: &CreateTable) -> SqlResult<()> {
    let Some(column) = def.columns.iter().find(|c| c.auto_random.is_some()) else {
        return Ok(());
    };
    let (bits, range) = column.auto_random.unwrap_or_default();
    let on_handle = table
        .handle_column()
        .is_some_and(|c| c.name.lower == column.name.to_lowercase());
    if !on_handle {
        return Err(SqlError::new(
            8216,
            "Invalid auto random: column must be the clustered primary key, and a BIGINT",
        ));
    }
    table.auto_random_bits = bits.unwrap_or(DEFAULT_AUTO_RANDOM_BITS);
    table.auto_random_range_bits = range.unwrap_or(DEFAULT_AUTO_RANDOM_RANGE);
    Ok(())
}

fn check_auto_increment(table: &TableInfo) -> SqlResult<()> {
    let wrong = || {
        SqlError::new(
            code::WRONG_AUTO_KEY,
            "Incorrect table definition; there can be only one auto column and it must be defined as a key",
        )
    };
    let mut columns = table
        .columns()
        .iter()
        .filter(|c| c.field_type.has_flag(flag::AUTO_INCREMENT));
    match (columns.next(), columns.next()) {
        (Some(_), Some(_)) => Err(wrong()),
        (Some(column), None)
            if !column
                .field_type
                .has_flag(flag::PRI_KEY | flag::UNIQUE_KEY | flag::MULTIPLE_KEY)
                && table.auto_id_cache != 1 =>
        {
            Err(wrong())
        }
        _ => Ok(()),
    }
}
