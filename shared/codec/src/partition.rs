//! Which partition a row belongs to: HASH, KEY, RANGE, RANGE COLUMNS, LIST and LIST COLUMNS, compiled once
//! from the table's model. A row that no partition takes is error 1526.
//!
//! Bounds and listed values are SQL literals in the model. They are cast to the column's type here, leniently:
//! the DDL that accepted them did so under a mode of its own.

use crate::cast::{ColumnCast, Field, UnsupportedType, cell_datum, field_text};
use crate::collation::Collation;
use crate::datum::Datum;
use crate::expr::{CompileError, EvalError, Expression, Literal, Node, SyntaxError, parse};
use crate::mysql::code;
use crate::schema::{FieldType, PartitionDefinition, PartitionInfo, TableInfo, partition_type};
use crate::session::{Session, SqlMode};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// Why a partitioning cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    #[error("partition expression: {0}")]
    Expression(#[from] CompileError),
    #[error("partition bound: {0}")]
    Bound(String),
    #[error(transparent)]
    Type(#[from] UnsupportedType),
    #[error("partition type {0} is unknown")]
    Unknown(u8),
    #[error("the table has no partitions")]
    Empty,
}

impl From<SyntaxError> for PartitionError {
    fn from(error: SyntaxError) -> Self {
        PartitionError::Expression(error.into())
    }
}

/// A column that takes part, with how its text compares.
#[derive(Debug, Clone)]
struct KeyColumn {
    offset: usize,
    collation: Collation,
}

/// One component of a tuple bound.
#[derive(Debug, Clone)]
enum Bound {
    Value(Datum),
    Max,
}

#[derive(Debug, Clone)]
enum Method {
    Hash(Expression),
    Key(Vec<KeyColumn>),
    Range {
        expr: Expression,
        /// `None` is MAXVALUE.
        bounds: Vec<Option<i128>>,
    },
    RangeColumns {
        columns: Vec<KeyColumn>,
        bounds: Vec<Vec<Bound>>,
    },
    List {
        expr: Expression,
        /// NULL is `None`.
        places: HashMap<Option<i128>, usize>,
        default: Option<usize>,
    },
    ListColumns {
        columns: Vec<KeyColumn>,
        places: HashMap<Vec<u8>, usize>,
        default: Option<usize>,
    },
}

/// Finds the partition of a row.
#[derive(Debug, Clone)]
pub struct PartitionLocator {
    method: Method,
    ids: Vec<i64>,
}

impl PartitionLocator {
    /// `None` for a table without partitions.
    pub fn compile(
        info: &TableInfo,
        session: &Session,
    ) -> Result<Option<PartitionLocator>, PartitionError> {
        let Some(partition) = info.partitioning() else {
            return Ok(None);
        };
        let ids: Vec<i64> = partition
            .definitions()
            .iter()
            .map(|definition| definition.id)
            .collect();
        if ids.is_empty() {
            return Err(PartitionError::Empty);
        }
        let compiler = Compiler {
            info,
            partition,
            session,
        };
        let method = compiler.method()?;
        Ok(Some(PartitionLocator { method, ids }))
    }

    /// Physical table id for a row of datums by column offset.
    pub fn locate(&self, row: &[Datum]) -> Result<i64, EvalError> {
        let place = match &self.method {
            Method::Hash(expr) => hash_place(expr.integer(row)?, self.ids.len()),
            Method::Key(columns) => key_place(columns, row, self.ids.len()),
            Method::Range { expr, bounds } => {
                let value = expr.integer(row)?;
                let below = |bound: &Option<i128>| {
                    bound.is_none_or(|bound| value.is_none_or(|value| value < bound))
                };
                bounds
                    .iter()
                    .position(below)
                    .ok_or_else(|| no_partition(value))?
            }
            Method::RangeColumns { columns, bounds } => {
                let below = |bound: &Vec<Bound>| is_below(columns, row, bound);
                bounds
                    .iter()
                    .position(below)
                    .ok_or_else(no_partition_columns)?
            }
            Method::List {
                expr,
                places,
                default,
            } => {
                let value = expr.integer(row)?;
                let found = places.get(&value).copied().or(*default);
                found.ok_or_else(|| no_partition(value))?
            }
            Method::ListColumns {
                columns,
                places,
                default,
            } => {
                let mut key = Vec::new();
                for column in columns {
                    push_list_key(&mut key, datum_of(row, column), column.collation);
                }
                let found = places.get(&key).copied().or(*default);
                found.ok_or_else(no_partition_columns)?
            }
        };
        self.ids
            .get(place)
            .copied()
            .ok_or_else(|| no_partition(None))
    }
}

fn no_partition(value: Option<i128>) -> EvalError {
    let value = value.map_or("NULL".to_owned(), |value| value.to_string());
    EvalError::new(
        code::NO_PARTITION,
        format!("Table has no partition for value {value}"),
    )
}

fn no_partition_columns() -> EvalError {
    EvalError::new(
        code::NO_PARTITION,
        "Table has no partition for value from column_list",
    )
}

/// `|v mod n|` of the value as i64: a large unsigned one is negative here. NULL is 0.
fn hash_place(value: Option<i128>, count: usize) -> usize {
    let value = value.unwrap_or(0) as i64;
    (value % count as i64).unsigned_abs() as usize
}

fn datum_of<'a>(row: &'a [Datum], column: &KeyColumn) -> &'a Datum {
    row.get(column.offset).unwrap_or(&Datum::Null)
}

/// CRC-32 over the columns: texts by their sort key, everything else by its text, NULL as a zero byte.
fn key_place(columns: &[KeyColumn], row: &[Datum], count: usize) -> usize {
    let mut bytes = Vec::new();
    for column in columns {
        match datum_of(row, column) {
            Datum::Null => bytes.push(0),
            Datum::Bytes(text) => column.collation.sort_key(text, &mut bytes),
            Datum::Enum(_, name) | Datum::Set(_, name) => {
                column.collation.sort_key(name.as_bytes(), &mut bytes);
            }
            Datum::Float(v) => bytes.extend_from_slice(&field_text(&Field::Float(*v))),
            Datum::Double(v) => bytes.extend_from_slice(&field_text(&Field::Double(*v))),
            Datum::Year(v) => bytes.extend_from_slice(v.to_string().as_bytes()),
            other => {
                let text = other.to_text().unwrap_or_default();
                Collation::Utf8mb4Bin.sort_key(&text, &mut bytes);
            }
        }
    }
    crc32fast::hash(&bytes) as usize % count
}

/// Whether the row's tuple is below a bound; NULL is below everything, MAXVALUE above.
fn is_below(columns: &[KeyColumn], row: &[Datum], bound: &[Bound]) -> bool {
    for (column, bound) in columns.iter().zip(bound) {
        let Bound::Value(bound) = bound else {
            return true;
        };
        match order(datum_of(row, column), bound, column.collation) {
            Ordering::Less => return true,
            Ordering::Greater => return false,
            Ordering::Equal => {}
        }
    }
    false
}

/// Order of two values of one column.
fn order(a: &Datum, b: &Datum, collation: Collation) -> Ordering {
    let whole = |datum: &Datum| match datum {
        Datum::Int(v) | Datum::Year(v) => Some(i128::from(*v)),
        Datum::UInt(v) | Datum::Bit(v, _) | Datum::Enum(v, _) | Datum::Set(v, _) => {
            Some(i128::from(*v))
        }
        Datum::Time(v) => Some(i128::from(v.packed())),
        Datum::Duration(v) => Some(i128::from(v.nanos)),
        _ => None,
    };
    match (a, b) {
        (Datum::Null, Datum::Null) => Ordering::Equal,
        (Datum::Null, _) => Ordering::Less,
        (_, Datum::Null) => Ordering::Greater,
        (Datum::Bytes(a), Datum::Bytes(b)) => collation.compare(a, b),
        (Datum::Decimal(a), Datum::Decimal(b)) => match a.checked_sub(b) {
            Ok(rest) if rest.is_zero() => Ordering::Equal,
            Ok(rest) if rest.is_negative() => Ordering::Less,
            _ => Ordering::Greater,
        },
        (Datum::Double(a), Datum::Double(b)) => a.total_cmp(b),
        _ => whole(a).cmp(&whole(b)),
    }
}

/// Appends what is equal for equal values of a column, and bounded, so that tuples do not run together.
fn push_list_key(key: &mut Vec<u8>, datum: &Datum, collation: Collation) {
    let text = match datum {
        Datum::Null => {
            key.push(0);
            return;
        }
        Datum::Bytes(text) => collation.key(text),
        Datum::Time(v) => v.packed().to_be_bytes().to_vec(),
        Datum::Duration(v) => v.nanos.to_be_bytes().to_vec(),
        other => other.to_text().unwrap_or_default(),
    };
    key.push(1);
    key.extend_from_slice(&(text.len() as u64).to_be_bytes());
    key.extend_from_slice(&text);
}

struct Compiler<'a> {
    info: &'a TableInfo,
    partition: &'a PartitionInfo,
    session: &'a Session,
}

impl Compiler<'_> {
    fn method(&self) -> Result<Method, PartitionError> {
        let columns = !self.partition.columns().is_empty();
        Ok(match (self.partition.partition_type, columns) {
            (partition_type::HASH, _) => Method::Hash(self.expression()?),
            (partition_type::KEY, _) => Method::Key(self.columns()?),
            (partition_type::RANGE, false) => Method::Range {
                expr: self.expression()?,
                bounds: self.bounds()?,
            },
            (partition_type::RANGE, true) => Method::RangeColumns {
                columns: self.columns()?,
                bounds: self.tuple_bounds()?,
            },
            (partition_type::LIST, false) => self.list()?,
            (partition_type::LIST, true) => self.list_columns()?,
            (other, _) => return Err(PartitionError::Unknown(other)),
        })
    }

    fn expression(&self) -> Result<Expression, PartitionError> {
        Ok(Expression::compile(
            &self.partition.expr,
            self.info,
            self.session,
        )?)
    }

    fn definitions(&self) -> &[PartitionDefinition] {
        self.partition.definitions()
    }

    fn column_type(&self, index: usize) -> Result<(usize, &FieldType), PartitionError> {
        let name = self
            .partition
            .columns()
            .get(index)
            .map(|name| name.lower.as_str());
        let found = self
            .info
            .columns()
            .iter()
            .find(|column| Some(column.name.lower.as_str()) == name);
        let column =
            found.ok_or_else(|| CompileError::Column(name.unwrap_or_default().to_owned()))?;
        Ok((column.offset, &column.field_type))
    }

    fn columns(&self) -> Result<Vec<KeyColumn>, PartitionError> {
        (0..self.partition.columns().len())
            .map(|index| {
                let (offset, field_type) = self.column_type(index)?;
                let collation = Collation::of(field_type, self.session.new_collation);
                collation
                    .require_keys("")
                    .map_err(|error| PartitionError::Bound(error.cause))?;
                Ok(KeyColumn { offset, collation })
            })
            .collect()
    }

    /// Bounds of RANGE(expr).
    fn bounds(&self) -> Result<Vec<Option<i128>>, PartitionError> {
        self.definitions()
            .iter()
            .map(|definition| match definition.less_than.as_deref() {
                Some([text]) if is_keyword(text, "MAXVALUE") => Ok(None),
                Some([text]) => match self.integer(text)? {
                    Some(value) => Ok(Some(value)),
                    None => Err(PartitionError::Bound(format!("`{text}` is no number"))),
                },
                _ => Err(PartitionError::Bound(format!(
                    "partition {} has none",
                    definition.name.original
                ))),
            })
            .collect()
    }

    /// A folded number, or an expression over nothing.
    fn integer(&self, text: &str) -> Result<Option<i128>, PartitionError> {
        if let Ok(value) = text.trim().parse() {
            return Ok(Some(value));
        }
        let expression = Expression::compile(text, &TableInfo::default(), self.session)?;
        expression
            .integer(&[])
            .map_err(|error| PartitionError::Bound(error.message))
    }

    /// A literal as a value of the column.
    fn value(&self, index: usize, text: &str) -> Result<Datum, PartitionError> {
        let (_, field_type) = self.column_type(index)?;
        let lenient = Session {
            sql_mode: SqlMode::parse(""),
            ..self.session.clone()
        };
        let lenient = Arc::new(lenient);
        let node = parse(text)?;
        let cast = ColumnCast::compile("", field_type, &lenient)?;
        let wrong = |error: crate::cast::CastError| PartitionError::Bound(error.message);
        let cell = match &node {
            Node::Literal(Literal::Null) => return Ok(Datum::Null),
            Node::Literal(Literal::Str { bytes, .. }) => {
                cast.cast(Field::Text(bytes)).map_err(wrong)?
            }
            Node::Literal(Literal::Bits(bytes)) if field_type.is_string() => {
                // Unprintable text is written as its bytes.
                cast.cast(Field::Text(bytes)).map_err(wrong)?
            }
            Node::Literal(Literal::Bits(bytes)) => {
                cast.cast(Field::Binary(bytes)).map_err(wrong)?
            }
            _ => {
                let expression = Expression::from_node(&node, &TableInfo::default(), &lenient)?;
                let datum = expression
                    .eval(&[])
                    .map_err(|error| PartitionError::Bound(error.message))?;
                cast.cast_datum(&datum).map_err(wrong)?
            }
        };
        Ok(cell_datum(&cell, field_type))
    }

    fn tuple_bounds(&self) -> Result<Vec<Vec<Bound>>, PartitionError> {
        let bound = |(index, text): (usize, &String)| {
            if is_keyword(text, "MAXVALUE") {
                return Ok(Bound::Max);
            }
            self.value(index, text).map(Bound::Value)
        };
        self.definitions()
            .iter()
            .map(|definition| {
                definition
                    .less_than
                    .iter()
                    .flatten()
                    .enumerate()
                    .map(bound)
                    .collect()
            })
            .collect()
    }

    /// Every listed tuple with its partition's place.
    fn listed(&self) -> impl Iterator<Item = (usize, &[String])> {
        let definitions = self.definitions().iter().enumerate();
        definitions.flat_map(|(place, definition)| {
            let tuples = definition.in_values.iter().flatten();
            tuples.map(move |tuple| (place, tuple.as_slice()))
        })
    }

    fn list(&self) -> Result<Method, PartitionError> {
        let (mut places, mut default) = (HashMap::new(), None);
        for (place, tuple) in self.listed() {
            match tuple {
                [text] if is_keyword(text, "DEFAULT") => default = Some(place),
                [text] => {
                    let value = if is_keyword(text, "NULL") {
                        None
                    } else {
                        self.integer(text)?
                    };
                    places.insert(value, place);
                }
                _ => return Err(PartitionError::Bound("a tuple in LIST".to_owned())),
            }
        }
        Ok(Method::List {
            expr: self.expression()?,
            places,
            default,
        })
    }

    fn list_columns(&self) -> Result<Method, PartitionError> {
        let columns = self.columns()?;
        let (mut places, mut default) = (HashMap::new(), None);
        for (place, tuple) in self.listed() {
            if matches!(tuple, [text] if is_keyword(text, "DEFAULT")) {
                default = Some(place);
                continue;
            }
            let mut key = Vec::new();
            for (index, (text, column)) in tuple.iter().zip(&columns).enumerate() {
                push_list_key(&mut key, &self.value(index, text)?, column.collation);
            }
            places.insert(key, place);
        }
        Ok(Method::ListColumns {
            columns,
            places,
            default,
        })
    }
}

fn is_keyword(text: &str, keyword: &str) -> bool {
    text.trim().eq_ignore_ascii_case(keyword)
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
