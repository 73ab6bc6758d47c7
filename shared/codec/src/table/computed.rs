//! What a row needs expressions for: generated columns, CHECK constraints, conditions of partial indexes,
//! default expressions, and the partition. Only what is stored, indexed or otherwise looked at is
//! evaluated, in order of column offset; an expression that is not supported there refuses the table.

use super::RowError;
use super::plan::{Column, refuse};
use crate::cast::{Cell, ColumnCast, cell_datum};
use crate::datum::Datum;
use crate::expr::{EvalError, Expression};
use crate::mysql::{code, state, tp};
use crate::partition::PartitionLocator;
use crate::schema::{ColumnInfo, FieldType, TableInfo};
use crate::session::Session;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use thunderhead_types::Error;

/// A generated column.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub offset: usize,
    pub name: String,
    not_null: bool,
    expression: Expression,
    cast: ColumnCast,
    /// JSON for the array of a multi-valued index.
    stored_type: FieldType,
}

impl Generated {
    pub fn compile(
        info: &TableInfo,
        column: &ColumnInfo,
        session: &Arc<Session>,
    ) -> Result<Generated, Error> {
        let name = &column.name.original;
        let place = format!("column `{name}`");
        let expression = Expression::compile(&column.generated_expr_string, info, session)
            .map_err(|cause| unsupported(info, &place, &cause))?;
        let stored_type = stored_type(&column.field_type).into_owned();
        let cast = ColumnCast::compile(name, &stored_type, session)
            .map_err(|cause| unsupported(info, &place, &cause))?;
        Ok(Generated {
            offset: column.offset,
            name: name.clone(),
            not_null: column.field_type.is_not_null(),
            expression,
            cast,
            stored_type,
        })
    }

    /// The column's value in a row whose earlier columns are known.
    pub fn value(&self, row: &[Datum]) -> Result<(Cell<'static>, Datum), RowError> {
        let at = |code: u16, message: String| RowError::new(&self.name, code, message);
        let value = self
            .expression
            .eval(row)
            .map_err(|error| at(error.code, error.message))?;
        let cell = self
            .cast
            .cast_datum(&value)
            .map_err(|error| at(error.code, error.message))?;
        let datum = cell_datum(&cell, &self.stored_type);
        Ok((cell, datum))
    }
}

/// The type of the cells that stand for a column: JSON for the array of a multi-valued index.
pub(crate) fn stored_type(field_type: &FieldType) -> Cow<'_, FieldType> {
    if !field_type.array {
        return Cow::Borrowed(field_type);
    }
    Cow::Owned(FieldType {
        tp: tp::JSON,
        array: false,
        ..field_type.clone()
    })
}

#[derive(Debug)]
struct Check {
    name: String,
    expression: Expression,
}

#[derive(Debug)]
pub(crate) struct Computed {
    /// Columns that expressions read and that are not generated.
    inputs: Vec<usize>,
    generated: Vec<Generated>,
    checks: Vec<Check>,
    partitions: Option<PartitionLocator>,
    /// By position among the compiled indexes.
    conditions: Vec<(usize, Expression)>,
}

/// What evaluation found out about a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub partition_id: Option<i64>,
    /// Positions of indexes that the row is not in.
    pub skipped: Vec<usize>,
}

impl Computed {
    /// `None` for a table that needs no expressions. `conditions` are those of the compiled indexes, by
    /// position, empty where an index has none.
    pub fn compile(
        info: &TableInfo,
        session: &Arc<Session>,
        conditions: &[&str],
    ) -> Result<Option<Computed>, Error> {
        let checks = checks(info, session)?;
        let conditions = compiled_conditions(info, session, conditions)?;
        let partitions = PartitionLocator::compile(info, session)
            .map_err(|cause| unsupported(info, "the partitioning", &cause))?;
        let mut wanted = looked_at(info, session);
        wanted.extend(checks.iter().flat_map(|check| check.expression.columns()));
        wanted.extend(
            conditions
                .iter()
                .flat_map(|(_, condition)| condition.columns()),
        );
        let generated = generated(info, session, &mut wanted)?;
        if generated.is_empty()
            && checks.is_empty()
            && partitions.is_none()
            && conditions.is_empty()
        {
            return Ok(None);
        }
        let input =
            |column: &&ColumnInfo| !column.is_generated() && wanted.contains(&column.offset);
        let inputs = info
            .columns()
            .iter()
            .filter(input)
            .map(|column| column.offset)
            .collect();
        Ok(Some(Computed {
            inputs,
            generated,
            checks,
            partitions,
            conditions,
        }))
    }

    /// Fills in the generated columns of `cells`. A row that was decoded is `checked` already and knows its
    /// partition.
    pub fn complete(
        &self,
        columns: &[Column],
        cells: &mut [Cell<'_>],
        checked: bool,
        cannot_be_null: impl Fn(&Column) -> Result<Cell<'static>, RowError>,
    ) -> Result<Findings, RowError> {
        let mut datums = vec![Datum::Null; columns.len()];
        for offset in &self.inputs {
            datums[*offset] = cell_datum(&cells[*offset], &columns[*offset].field_type);
        }
        for generated in &self.generated {
            let (mut cell, datum) = generated.value(&datums)?;
            if generated.not_null && cell.is_null() {
                cell = cannot_be_null(&columns[generated.offset])?;
            }
            datums[generated.offset] = if cell.is_null() { Datum::Null } else { datum };
            cells[generated.offset] = cell;
        }
        let mut findings = Findings::default();
        for (position, condition) in &self.conditions {
            if condition.truth(&datums).map_err(whole_row)? != Some(true) {
                findings.skipped.push(*position);
            }
        }
        if checked {
            return Ok(findings);
        }
        for check in &self.checks {
            if check.expression.truth(&datums).map_err(whole_row)? == Some(false) {
                let message = format!("Check constraint '{}' is violated.", check.name);
                return Err(RowError::new("", code::CHECK_VIOLATED, message));
            }
        }
        if let Some(partitions) = &self.partitions {
            findings.partition_id = Some(partitions.locate(&datums).map_err(whole_row)?);
        }
        Ok(findings)
    }
}

fn whole_row(error: EvalError) -> RowError {
    RowError::new("", error.code, error.message)
}

fn unsupported(info: &TableInfo, what: &str, cause: &impl std::fmt::Display) -> Error {
    refuse(info, format!("{what}: {cause}")).advice("import the table in the logical mode")
}

/// Columns that keys and the partitioning look at.
fn looked_at(info: &TableInfo, session: &Session) -> HashSet<usize> {
    let indexed = info.indexes().iter().flat_map(|index| index.columns());
    let mut offsets: HashSet<usize> = indexed.map(|part| part.offset).collect();
    if let Some(partition) = info.partitioning() {
        let named = |column: &&ColumnInfo| {
            partition
                .columns()
                .iter()
                .any(|name| name.lower == column.name.lower)
        };
        offsets.extend(
            info.columns()
                .iter()
                .filter(named)
                .map(|column| column.offset),
        );
        if let Ok(expression) = Expression::compile(&partition.expr, info, session) {
            offsets.extend(expression.columns());
        }
    }
    offsets
}

/// Generated columns that are stored or `wanted`, in order of offset; `wanted` grows by what they read.
fn generated(
    info: &TableInfo,
    session: &Arc<Session>,
    wanted: &mut HashSet<usize>,
) -> Result<Vec<Generated>, Error> {
    let mut found = Vec::new();
    // A column reads earlier ones only, so one pass from the end finds all that are read.
    for column in info
        .columns()
        .iter()
        .rev()
        .filter(|column| column.is_generated())
    {
        if column.generated_stored || wanted.contains(&column.offset) {
            let column = Generated::compile(info, column, session)?;
            wanted.extend(column.expression.columns());
            found.push(column);
        }
    }
    found.reverse();
    Ok(found)
}

fn compiled_conditions(
    info: &TableInfo,
    session: &Session,
    conditions: &[&str],
) -> Result<Vec<(usize, Expression)>, Error> {
    let given = conditions
        .iter()
        .enumerate()
        .filter(|(_, text)| !text.is_empty());
    given
        .map(|(position, text)| {
            let place = "the condition of a partial index";
            let condition = Expression::compile(text, info, session);
            condition
                .map(|it| (position, it))
                .map_err(|cause| unsupported(info, place, &cause))
        })
        .collect()
}

fn checks(info: &TableInfo, session: &Session) -> Result<Vec<Check>, Error> {
    let enforced = info
        .constraint_info
        .iter()
        .flatten()
        .filter(|check| check.enforced && check.state == state::PUBLIC);
    enforced
        .filter(|_| session.check_constraints)
        .map(|check| {
            let name = &check.constraint_name.original;
            let expression = Expression::compile(&check.expr_string, info, session)
                .map_err(|cause| unsupported(info, &format!("CHECK `{name}`"), &cause))?;
            Ok(Check {
                name: name.clone(),
                expression,
            })
        })
        .collect()
}
