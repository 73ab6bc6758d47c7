//! What a row needs expressions for: generated columns, CHECK constraints, conditions of partial indexes,
//! default expressions, and the partition. Only what is stored, indexed or otherwise looked at is
//! evaluated, in order of column offset; an expression that is not supported there refuses the table.

use super::RowError;
use super::plan::{Column, refuse};
use crate::cast::{Cell, cell_datum};
use crate::datum::Datum;
use crate::mysql::{code, state};
use crate::schema::{ColumnInfo, TableInfo};
use crate::session::Session;
pub(crate) use engine::Expression;
use engine::Partitioner;
use std::collections::HashSet;
use thunderhead_types::Error;

#[derive(Debug)]
struct Generated {
    offset: usize,
    expression: Expression,
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
    partitioner: Option<Partitioner>,
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
        session: &Session,
        conditions: &[&str],
    ) -> Result<Option<Computed>, Error> {
        let generated = needed(info, conditions, session)
            .into_iter()
            .map(|column| {
                let expression = Expression::compile(&column.generated_expr_string, info, session)
                    .map_err(|cause| {
                        unsupported(info, &format!("column `{}`", column.name.original), &cause)
                    })?;
                Ok(Generated {
                    offset: column.offset,
                    expression,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let checks = checks(info, session)?;
        let partitioner = Partitioner::compile(info, session)
            .map_err(|cause| unsupported(info, "the partitioning", &cause))?;
        let condition = |(position, text): (usize, &&str)| {
            let place = "the condition of a partial index";
            Expression::compile(text, info, session)
                .map(|expression| (position, expression))
                .map_err(|cause| unsupported(info, place, &cause))
        };
        let conditions = conditions
            .iter()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
            .map(condition);
        let conditions = conditions.collect::<Result<Vec<_>, Error>>()?;
        if generated.is_empty()
            && checks.is_empty()
            && partitioner.is_none()
            && conditions.is_empty()
        {
            return Ok(None);
        }
        let stored = info
            .columns()
            .iter()
            .filter(|column| !column.is_generated());
        let inputs = stored.map(|column| column.offset).collect();
        Ok(Some(Computed {
            inputs,
            generated,
            checks,
            partitioner,
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
            let column = &columns[generated.offset];
            let at = |(code, message): (u16, String)| RowError::new(&column.name, code, message);
            let value = generated.expression.eval(&datums).map_err(at)?;
            let cast = column.cast.cast_datum(&value);
            let mut cell =
                cast.map_err(|error| RowError::new(&column.name, error.code, error.message))?;
            if column.not_null && cell.is_null() {
                cell = cannot_be_null(column)?;
            }
            datums[generated.offset] = cell_datum(&cell, &column.stored_type());
            cells[generated.offset] = cell;
        }
        let mut findings = Findings::default();
        for (position, condition) in &self.conditions {
            if !condition.is_true(&datums).map_err(whole_row)? {
                findings.skipped.push(*position);
            }
        }
        if checked {
            return Ok(findings);
        }
        for check in &self.checks {
            if check.expression.is_false(&datums).map_err(whole_row)? {
                let message = format!("Check constraint '{}' is violated.", check.name);
                return Err(RowError::new("", code::CHECK_VIOLATED, message));
            }
        }
        if let Some(partitioner) = &self.partitioner {
            findings.partition_id = Some(partitioner.locate(&datums).map_err(whole_row)?);
        }
        Ok(findings)
    }
}

fn whole_row((code, message): (u16, String)) -> RowError {
    RowError::new("", code, message)
}

fn unsupported(info: &TableInfo, what: &str, cause: &str) -> Error {
    refuse(info, format!("{what}: {cause}")).advice("import the table in the logical mode")
}

/// Generated columns that something looks at, in order of offset.
fn needed<'a>(info: &'a TableInfo, conditions: &[&str], session: &Session) -> Vec<&'a ColumnInfo> {
    let indexed = info.indexes().iter().flat_map(|index| index.columns());
    let mut wanted: HashSet<&str> = indexed
        .filter_map(|part| info.columns().get(part.offset))
        .map(|column| column.name.lower.as_str())
        .collect();
    let partition = info.partitioning();
    wanted.extend(
        partition
            .iter()
            .flat_map(|partition| partition.columns())
            .map(|name| name.lower.as_str()),
    );
    // Which columns these texts name is not known before they are compiled: all generated ones, then.
    let opaque = partition.is_some_and(|partition| !partition.expr.is_empty())
        || conditions.iter().any(|text| !text.is_empty())
        || session.check_constraints
            && info
                .constraint_info
                .as_ref()
                .is_some_and(|list| !list.is_empty());
    let columns = || info.columns().iter().filter(|column| column.is_generated());
    let mut needed: Vec<&ColumnInfo> = Vec::new();
    // A column may use earlier ones only, so one pass from the end finds all that are used.
    for column in columns().rev() {
        if opaque || column.generated_stored || wanted.contains(column.name.lower.as_str()) {
            wanted.extend(
                column
                    .dependences
                    .iter()
                    .flatten()
                    .map(|(name, _)| name.as_str()),
            );
            needed.push(column);
        }
    }
    needed.reverse();
    needed
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

/// The evaluator and the partitioner behind the shape that is needed here.
mod engine {
    use super::{Datum, Session, TableInfo};

    #[derive(Debug)]
    pub struct Expression;

    impl Expression {
        pub fn compile(
            _text: &str,
            _info: &TableInfo,
            _session: &Session,
        ) -> Result<Expression, String> {
            Err("expressions are not supported".to_owned())
        }

        pub fn eval(&self, _row: &[Datum]) -> Result<Datum, (u16, String)> {
            Ok(Datum::Null)
        }

        pub fn is_true(&self, row: &[Datum]) -> Result<bool, (u16, String)> {
            Ok(truth(&self.eval(row)?) == Some(true))
        }

        pub fn is_false(&self, row: &[Datum]) -> Result<bool, (u16, String)> {
            Ok(truth(&self.eval(row)?) == Some(false))
        }
    }

    fn truth(datum: &Datum) -> Option<bool> {
        match datum {
            Datum::Null => None,
            Datum::Int(v) => Some(*v != 0),
            Datum::UInt(v) => Some(*v != 0),
            Datum::Double(v) => Some(*v != 0.0),
            Datum::Decimal(v) => Some(!v.is_zero()),
            _ => Some(false),
        }
    }

    #[derive(Debug)]
    pub struct Partitioner;

    impl Partitioner {
        pub fn compile(
            info: &TableInfo,
            _session: &Session,
        ) -> Result<Option<Partitioner>, String> {
            match info.partitioning() {
                None => Ok(None),
                Some(_) => Err("partitions are not supported".to_owned()),
            }
        }

        pub fn locate(&self, _row: &[Datum]) -> Result<i64, (u16, String)> {
            Ok(0)
        }
    }
}
