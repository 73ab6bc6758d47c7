//! ALTER TABLE: what this sandbox changes in a model, and what the caller must do to the stored pairs.

use super::build::{add_column, add_key, flag_index, name_key};
use super::columns::{build_column, change_default};
use super::partition::definition;
use super::{BuildContext, ColumnDef, ConstraintKind, KeyDef, PartitionItem, TableOptions};
use crate::error::{SqlError, SqlResult, code};
use crate::expr::Expr;
use serde_json::Value;
use thunderhead_codec::mysql::{flag, tp};
use thunderhead_codec::schema::{ColumnInfo, Name, TableInfo};

/// One clause of ALTER TABLE.
#[derive(Clone, Debug)]
pub enum AlterSpec {
    AddColumns(Vec<ColumnDef>, Place),
    DropColumn(String),
    AddKey(KeyDef),
    DropIndex(String),
    RenameIndex(String, String),
    RenameColumn(String, String),
    /// The column and its new default; `None` drops it.
    Default(String, Option<Expr>),
    IndexVisibility {
        name: String,
        invisible: bool,
    },
    RenameTable(Option<String>, String),
    AutoIncrement {
        next: i64,
        force: bool,
    },
    AutoRandomBase(i64),
    Options(TableOptions),
    AddPartitions(Vec<PartitionItem>),
    DropPartitions(Vec<String>),
    TruncatePartitions(Vec<String>),
    /// Read, without effect here.
    Nothing,
}

/// Where an added column goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Last,
    First,
    After(String),
}

/// What a clause did to the model and asks of the pairs.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub indexes_added: Vec<i64>,
    pub indexes_dropped: Vec<i64>,
    /// Partitions that are gone; ids of the old model.
    pub partitions_dropped: Vec<i64>,
    /// Partitions of the new model that need an id.
    pub partitions_added: bool,
}

/// How often TiDB writes the model during a change, which is what `revision` counts.
mod revisions {
    pub const ADD_COLUMN: u64 = 4;
    pub const DROP_COLUMN: u64 = 4;
    pub const ADD_INDEX: u64 = 7;
    pub const DROP_INDEX: u64 = 4;
    pub const ONE: u64 = 1;
}

/// Changes `table` by one clause. Renames and counters are the catalog's; they change nothing here.
pub fn apply_alter(
    table: &mut TableInfo,
    spec: &AlterSpec,
    context: &BuildContext<'_>,
) -> SqlResult<Change> {
    let mut change = Change::default();
    match spec {
        AlterSpec::AddColumns(columns, place) => {
            for def in columns {
                let outer = (table.charset.clone(), table.collate.clone());
                let mut column = build_column(def, (&outer.0, &outer.1), context.to_utc)?;
                set_origin(&mut column, context)?;
                add_column(table, column)?;
                move_column(table, place)?;
                table.revision += revisions::ADD_COLUMN;
                for (wanted, kind) in [
                    (def.primary.is_some(), ConstraintKind::Primary),
                    (def.unique.is_some(), ConstraintKind::Unique),
                ] {
                    if wanted {
                        return Err(SqlError::unsupported(format_args!(
                            "ADD COLUMN with a {kind:?} key"
                        )));
                    }
                }
            }
        }
        AlterSpec::DropColumn(name) => drop_column(table, name, &mut change)?,
        AlterSpec::AddKey(key) => {
            let mut key = key.clone();
            let mut taken: Vec<String> = table
                .indexes()
                .iter()
                .map(|i| i.idx_name.lower.clone())
                .collect();
            name_key(&mut key, &mut taken.clone());
            let name = key.name.clone().unwrap_or_default();
            taken.retain(|t| *t == name.to_lowercase());
            if !taken.is_empty() {
                return Err(SqlError::new(
                    code::DUP_KEY_NAME,
                    format!("Duplicate key name '{name}'"),
                ));
            }
            if key.kind == ConstraintKind::Primary
                && (table.pk_is_handle || table.indexes().iter().any(|i| i.is_primary))
            {
                return Err(SqlError::new(
                    code::MULTIPLE_PRI_KEY,
                    "Multiple primary key defined",
                ));
            }
            key.clustered = Some(false);
            add_key(table, &key, false)?;
            change.indexes_added.push(table.max_idx_id);
            table.revision += revisions::ADD_INDEX;
        }
        AlterSpec::DropIndex(name) => drop_index(table, name, &mut change)?,
        AlterSpec::RenameIndex(from, to) => {
            let index = table
                .index_info
                .iter_mut()
                .flatten()
                .find(|i| i.idx_name.lower == from.to_lowercase());
            index.ok_or_else(|| missing_key(from))?.idx_name = Name::new(to.clone());
            table.revision += revisions::ONE;
        }
        AlterSpec::RenameColumn(from, to) => rename_column(table, from, to)?,
        AlterSpec::Default(name, default) => {
            let mut columns = table.cols.iter_mut().flatten();
            let column = columns.find(|c| c.name.lower == name.to_lowercase());
            let column = column.ok_or_else(|| SqlError::unknown_column(name, "t"))?;
            change_default(column, default.as_ref(), context.to_utc)?;
            table.revision += revisions::ONE;
        }
        AlterSpec::IndexVisibility { name, invisible } => {
            let mut indexes = table.index_info.iter_mut().flatten();
            let index = indexes.find(|i| i.idx_name.lower == name.to_lowercase());
            index.ok_or_else(|| missing_key(name))?.is_invisible = *invisible;
            table.revision += revisions::ONE;
        }
        AlterSpec::Options(options) => set_options(table, options),
        AlterSpec::AddPartitions(items) => add_partitions(table, items, context, &mut change)?,
        AlterSpec::DropPartitions(names) => take_partitions(table, names, &mut change, true)?,
        AlterSpec::TruncatePartitions(names) => take_partitions(table, names, &mut change, false)?,
        AlterSpec::RenameTable(..)
        | AlterSpec::AutoIncrement { .. }
        | AlterSpec::AutoRandomBase(_)
        | AlterSpec::Nothing => {}
    }
    Ok(change)
}

fn missing_key(name: &str) -> SqlError {
    SqlError::new(
        code::CANT_DROP,
        format!("Can't DROP '{name}'; check that column/key exists"),
    )
}

/// What rows older than the column hold in it: its default, or the type's zero for NOT NULL without one.
fn set_origin(column: &mut ColumnInfo, context: &BuildContext<'_>) -> SqlResult<()> {
    if column.is_generated() {
        return Ok(());
    }
    column.origin_default_bit = column.default_bit.clone();
    column.origin_default = match &column.default {
        Some(Value::String(text)) if text == "CURRENT_TIMESTAMP" && !column.default_is_expr => {
            let now = (context.eval)(&crate::expr::Expr::Call {
                name: "now".to_owned(),
                distinct: false,
                args: Vec::new(),
                tail: Default::default(),
            })?;
            let now = now.unwrap_or_default();
            Some(Value::String(if column.field_type.tp == tp::TIMESTAMP {
                (context.to_utc)(&now)?
            } else {
                now
            }))
        }
        Some(default) => Some(default.clone()),
        None if column.field_type.is_not_null() => Some(Value::String(zero_text(column))),
        None => None,
    };
    Ok(())
}

fn zero_text(column: &ColumnInfo) -> String {
    let ty = &column.field_type;
    match ty.tp {
        tp::DATE => "0000-00-00".to_owned(),
        tp::DATETIME | tp::TIMESTAMP => "0000-00-00 00:00:00".to_owned(),
        tp::DURATION => "00:00:00".to_owned(),
        tp::YEAR => "0000".to_owned(),
        tp::ENUM => ty.elems().first().cloned().unwrap_or_default(),
        tp::STRING if ty.is_binary() => "\0".repeat(ty.flen.max(0) as usize),
        _ if ty.is_string() || ty.tp == tp::SET => String::new(),
        tp::JSON => "null".to_owned(),
        _ => "0".to_owned(),
    }
}

/// Puts the last column in its place and renumbers offsets everywhere.
fn move_column(table: &mut TableInfo, place: &Place) -> SqlResult<()> {
    let columns = table.cols.get_or_insert_default();
    let from = columns.len() - 1;
    let to = match place {
        Place::Last => from,
        Place::First => 0,
        Place::After(other) => {
            let lower = other.to_lowercase();
            1 + columns
                .iter()
                .position(|c| c.name.lower == lower)
                .ok_or_else(|| SqlError::unknown_column(other, "ALTER TABLE"))?
        }
    };
    let column = columns.remove(from);
    columns.insert(to.min(from), column);
    renumber(table);
    Ok(())
}

fn renumber(table: &mut TableInfo) {
    let columns = table.cols.get_or_insert_default();
    for (offset, column) in columns.iter_mut().enumerate() {
        column.offset = offset;
    }
    for part in table
        .index_info
        .iter_mut()
        .flatten()
        .flat_map(|i| i.idx_cols.iter_mut().flatten())
    {
        if let Some(column) = columns.iter().find(|c| c.name.lower == part.name.lower) {
            part.offset = column.offset;
        }
    }
}

fn drop_column(table: &mut TableInfo, name: &str, change: &mut Change) -> SqlResult<()> {
    let lower = name.to_lowercase();
    let used_by = |column: &ColumnInfo| {
        column
            .dependences
            .as_ref()
            .is_some_and(|d| d.contains_key(&lower))
    };
    if table.columns().iter().any(used_by) {
        return Err(SqlError::new(
            3108,
            format!("Column '{name}' has a generated column dependency."),
        ));
    }
    let column = table
        .columns()
        .iter()
        .find(|c| c.name.lower == lower && !c.hidden)
        .ok_or_else(|| missing_key(name))?;
    if column.field_type.has_flag(flag::PRI_KEY) {
        return Err(SqlError::new(8200, "Unsupported drop primary key column"));
    }
    // An index over this column alone goes with it; a wider one forbids the drop.
    for index in table.indexes().to_vec() {
        match index.columns() {
            [only] if only.name.lower == lower => {
                drop_index(table, &index.idx_name.original, change)?
            }
            parts if parts.iter().any(|p| p.name.lower == lower) => {
                return Err(SqlError::new(
                    8200,
                    format!(
                        "can't drop column {name} with composite index covered or Primary Key covered now"
                    ),
                ));
            }
            _ => {}
        }
    }
    table
        .cols
        .get_or_insert_default()
        .retain(|c| c.name.lower != lower);
    renumber(table);
    table.revision += revisions::DROP_COLUMN;
    Ok(())
}

fn drop_index(table: &mut TableInfo, name: &str, change: &mut Change) -> SqlResult<()> {
    let lower = name.to_lowercase();
    let indexes = table.index_info.get_or_insert_default();
    let position = indexes
        .iter()
        .position(|i| i.idx_name.lower == lower)
        .ok_or_else(|| missing_key(name))?;
    if indexes[position].is_primary && table.is_common_handle {
        return Err(SqlError::new(
            8200,
            "Unsupported drop primary key when the table is using clustered index",
        ));
    }
    let index = indexes.remove(position);
    change.indexes_dropped.push(index.id);
    let columns = table.cols.get_or_insert_default();
    for (i, part) in index.columns().iter().enumerate() {
        let ty = &mut columns[part.offset].field_type;
        if index.is_primary {
            ty.flag &= !flag::PRI_KEY;
        } else if i == 0 {
            ty.flag &= !if index.is_unique && index.columns().len() == 1 {
                flag::UNIQUE_KEY
            } else {
                flag::MULTIPLE_KEY
            };
        }
    }
    for other in table.indexes().to_vec() {
        flag_index(table, &other);
    }
    let hidden: Vec<String> = index
        .columns()
        .iter()
        .map(|p| p.name.lower.clone())
        .collect();
    table
        .cols
        .get_or_insert_default()
        .retain(|c| !(c.hidden && hidden.contains(&c.name.lower)));
    renumber(table);
    table.revision += revisions::DROP_INDEX;
    Ok(())
}

fn rename_column(table: &mut TableInfo, from: &str, to: &str) -> SqlResult<()> {
    let lower = from.to_lowercase();
    if table.columns().iter().any(|c| {
        c.dependences
            .as_ref()
            .is_some_and(|d| d.contains_key(&lower))
    }) {
        return Err(SqlError::new(
            3108,
            format!("Column '{from}' has a generated column dependency."),
        ));
    }
    let column = table
        .cols
        .iter_mut()
        .flatten()
        .find(|c| c.name.lower == lower);
    column
        .ok_or_else(|| SqlError::unknown_column(from, "ALTER TABLE"))?
        .name = Name::new(to);
    for part in table
        .index_info
        .iter_mut()
        .flatten()
        .flat_map(|i| i.idx_cols.iter_mut().flatten())
    {
        if part.name.lower == lower {
            part.name = Name::new(to);
        }
    }
    table.revision += revisions::ONE;
    Ok(())
}

fn set_options(table: &mut TableInfo, options: &TableOptions) {
    if let Some(comment) = &options.comment {
        table.comment.clone_from(comment);
    }
    if let Some(bits) = options.shard_row_id_bits {
        table.shard_row_id_bits = bits;
        table.max_shard_row_id_bits = table.max_shard_row_id_bits.max(bits);
    }
    if let Some(cache) = options.auto_id_cache {
        table.auto_id_cache = cache;
    }
    table.revision += revisions::ONE;
}

fn add_partitions(
    table: &mut TableInfo,
    items: &[PartitionItem],
    context: &BuildContext<'_>,
    change: &mut Change,
) -> SqlResult<()> {
    let info = table.partition.as_mut().ok_or_else(|| {
        SqlError::new(
            1505,
            "Partition management on a not partitioned table is not possible",
        )
    })?;
    for item in items {
        let added = definition(item, info, context)?;
        info.definitions.get_or_insert_default().push(added);
        info.num += 1;
    }
    change.partitions_added = true;
    table.revision += revisions::ONE;
    Ok(())
}

fn take_partitions(
    table: &mut TableInfo,
    names: &[String],
    change: &mut Change,
    drop: bool,
) -> SqlResult<()> {
    let info = table.partition.as_mut().ok_or_else(|| {
        SqlError::new(
            1505,
            "Partition management on a not partitioned table is not possible",
        )
    })?;
    for name in names {
        let definitions = info.definitions.get_or_insert_default();
        let position = definitions
            .iter()
            .position(|d| d.name.lower == name.to_lowercase());
        let position = position
            .ok_or_else(|| SqlError::new(1507, format!("Error in list of partitions to {name}")))?;
        change.partitions_dropped.push(definitions[position].id);
        if drop {
            definitions.remove(position);
            info.num -= 1;
        } else {
            definitions[position].id = 0;
            change.partitions_added = true;
        }
    }
    table.revision += revisions::ONE;
    Ok(())
}
