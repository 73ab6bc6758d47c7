//! Partitioning of the model: expressions restored, bounds folded to literal text.

use super::columns::strip_parens;
use super::{BuildContext, IntervalDef, PartitionDef, PartitionItem};
use crate::error::{SqlError, SqlResult};
use crate::expr::{Expr, Style, restore};
use thunderhead_codec::mysql::flag;
use thunderhead_codec::schema::{
    Name, PartitionDefinition, PartitionInfo, TableInfo, partition_type,
};

/// Most partitions of a table.
const PARTITIONS_MAX: i64 = 8192;

/// Builds the partitioning; partition ids are 0.
pub fn build_partition(
    def: &PartitionDef,
    table: &TableInfo,
    context: &BuildContext<'_>,
) -> SqlResult<PartitionInfo> {
    let mut info = PartitionInfo {
        partition_type: def.method,
        enable: true,
        ..PartitionInfo::default()
    };
    if let Some(expr) = &def.expr {
        info.expr = restore(strip_parens(expr), Style::Partition)?;
    }
    if let Some(columns) = &def.columns {
        info.is_empty_columns = columns.is_empty();
        info.columns = Some(if columns.is_empty() {
            primary_columns(table)
        } else {
            named_columns(columns, table)?
        });
    }
    let listed = matches!(def.method, partition_type::RANGE | partition_type::LIST);
    let mut definitions = Vec::new();
    let by_interval = match &def.interval {
        Some(interval) => interval_items(interval, context)?,
        None => Vec::new(),
    };
    for item in by_interval.iter().chain(&def.definitions) {
        definitions.push(definition(item, &info, context)?);
    }
    if !listed {
        let count = def.count.unwrap_or(definitions.len().max(1) as u64);
        if count > PARTITIONS_MAX as u64 {
            return Err(SqlError::new(
                1499,
                "Too many partitions (including subpartitions) were defined",
            ));
        }
        for i in definitions.len() as u64..count {
            definitions.push(PartitionDefinition {
                name: Name::new(format!("p{i}")),
                ..PartitionDefinition::default()
            });
        }
    } else if definitions.is_empty() {
        return Err(SqlError::new(
            1492,
            "For RANGE and LIST partitions each partition must be defined",
        ));
    }
    info.num = definitions.len() as u64;
    info.definitions = Some(definitions);
    Ok(info)
}

/// One partition a step, from the first bound to the last.
fn interval_items(def: &IntervalDef, context: &BuildContext<'_>) -> SqlResult<Vec<PartitionItem>> {
    let mismatch = || {
        let message =
            "INTERVAL: the last partition is not a whole number of intervals after the first";
        SqlError::new(1105, message)
    };
    let text = |e: &Expr| (context.eval)(strip_parens(e))?.ok_or_else(mismatch);
    let number = |text: &str| text.parse::<i64>().map_err(|_| mismatch());
    let (step, last) = (number(&text(&def.step)?)?, text(&def.last)?);
    let item = |name: &str, bound: Option<Expr>| PartitionItem {
        name: name.to_owned(),
        less_than: Some(vec![bound]),
        ..PartitionItem::default()
    };
    let mut items = Vec::new();
    for i in 0..PARTITIONS_MAX {
        let ahead = step.checked_mul(i).ok_or_else(mismatch)?;
        let (bound, literal) = match &def.unit {
            None => {
                let first = number(&text(&def.first)?)?;
                let bound = first.checked_add(ahead).ok_or_else(mismatch)?.to_string();
                (bound.clone(), Expr::Number(bound))
            }
            Some(unit) => {
                let bound = text(&Expr::DateAdd {
                    expr: def.first.clone().into(),
                    amount: Expr::Number(ahead.to_string()).into(),
                    unit: unit.clone(),
                    minus: false,
                })?;
                let bytes = bound.clone().into_bytes();
                let introducer = None;
                (bound, Expr::Str { introducer, bytes })
            }
        };
        items.push(item(&format!("P_LT_{bound}"), Some(literal)));
        if bound == last {
            if def.max_value {
                items.push(item("P_MAXVALUE", None));
            }
            return Ok(items);
        }
    }
    Err(mismatch())
}

fn primary_columns(table: &TableInfo) -> Vec<Name> {
    table
        .columns()
        .iter()
        .filter(|c| c.field_type.has_flag(flag::PRI_KEY))
        .map(|c| c.name.clone())
        .collect()
}

fn named_columns(names: &[String], table: &TableInfo) -> SqlResult<Vec<Name>> {
    let find = |name: &String| {
        table
            .columns()
            .iter()
            .find(|c| c.name.lower == name.to_lowercase())
            .map(|c| c.name.clone())
    };
    names
        .iter()
        .map(|n| find(n).ok_or_else(|| SqlError::unknown_column(n, "partition function")))
        .collect()
}

/// One partition with its bounds as text.
pub fn definition(
    item: &PartitionItem,
    info: &PartitionInfo,
    context: &BuildContext<'_>,
) -> SqlResult<PartitionDefinition> {
    let columns = info.columns.is_some();
    let mut result = PartitionDefinition {
        name: Name::new(item.name.clone()),
        comment: item.comment.clone(),
        ..PartitionDefinition::default()
    };
    if let Some(bounds) = &item.less_than {
        let bound = |b: &Option<Expr>| {
            b.as_ref()
                .map_or(Ok("MAXVALUE".to_owned()), |e| literal(e, columns, context))
        };
        result.less_than = Some(bounds.iter().map(bound).collect::<SqlResult<_>>()?);
    }
    if let Some(tuples) = &item.in_values {
        let tuple = |t: &Vec<Expr>| match t.is_empty() {
            true => Ok(vec!["DEFAULT".to_owned()]),
            false => t.iter().map(|e| literal(e, columns, context)).collect(),
        };
        result.in_values = Some(tuples.iter().map(tuple).collect::<SqlResult<_>>()?);
    }
    Ok(result)
}

/// SQL literal text of a constant: integers bare, other values in quotes.
fn literal(expr: &Expr, columns: bool, context: &BuildContext<'_>) -> SqlResult<String> {
    match strip_parens(expr) {
        Expr::Null => Ok("NULL".to_owned()),
        Expr::Number(text) => Ok(text.clone()),
        Expr::Str { bytes, .. } => Ok(format!(
            "'{}'",
            String::from_utf8_lossy(bytes).replace('\'', "''")
        )),
        Expr::Binary(bytes) => Ok(format!(
            "0x{}",
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        )),
        other => {
            let value = (context.eval)(other)?;
            Ok(match value {
                None => "NULL".to_owned(),
                Some(text) if columns && text.parse::<i64>().is_err() => {
                    format!("'{}'", text.replace('\'', "''"))
                }
                Some(text) => text,
            })
        }
    }
}
