//! What the types of a Parquet file mean. Source: LogicalTypes.md of the format. A type without a meaning
//! for a column of a table is refused before anything is read.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

/// A column that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Lower case.
    pub name: String,
    /// Its meaning.
    pub kind: Kind,
}

/// The meaning of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the physical type has it.
    Plain,
    /// Whole numbers from zero on.
    Unsigned,
    /// A number with so many digits after the point.
    Decimal(u32),
    /// Days since 1970.
    Date,
    /// Time of day.
    Time(Unit),
    /// Since 1970; of UTC, or of any wall.
    Timestamp(Unit, bool),
}

/// Parts of a second, as their number.
pub(super) type Unit = i64;
const MILLIS: Unit = 1_000;
const MICROS: Unit = 1_000_000;
const NANOS: Unit = 1_000_000_000;

/// The columns of a file, or what in them cannot be read.
pub(super) fn columns(schema: &SchemaDescriptor) -> Result<Vec<Column>, String> {
    schema.columns().iter().map(|column| of(column)).collect()
}

fn of(column: &ColumnDescriptor) -> Result<Column, String> {
    let path = column.path().string();
    let refuse = |what: &str| Err(format!("the Parquet column {path:?}, {what},"));
    if column.max_rep_level() > 0 {
        return refuse("a list or a map");
    }
    if column.path().parts().len() > 1 {
        return refuse("part of a group");
    }
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => MILLIS,
        TimeUnit::MICROS => MICROS,
        TimeUnit::NANOS => NANOS,
    };
    let kind = match column.logical_type_ref() {
        Some(LogicalType::Integer(integer)) if !integer.is_signed => Kind::Unsigned,
        Some(LogicalType::Decimal(decimal)) => scaled(decimal.scale),
        Some(LogicalType::Date) => Kind::Date,
        Some(LogicalType::Time(time)) => Kind::Time(unit(&time.unit)),
        Some(LogicalType::Timestamp(time)) => {
            Kind::Timestamp(unit(&time.unit), time.is_adjusted_to_u_t_c)
        }
        Some(LogicalType::Float16) => return refuse("a 16-bit float"),
        Some(LogicalType::Variant(_)) => return refuse("a variant"),
        Some(LogicalType::Geometry(_) | LogicalType::Geography(_)) => return refuse("a geometry"),
        Some(_) => Kind::Plain,
        None => match column.converted_type() {
            ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64 => Kind::Unsigned,
            ConvertedType::DECIMAL => scaled(column.type_scale()),
            ConvertedType::DATE => Kind::Date,
            ConvertedType::TIME_MILLIS => Kind::Time(MILLIS),
            ConvertedType::TIME_MICROS => Kind::Time(MICROS),
            ConvertedType::TIMESTAMP_MILLIS => Kind::Timestamp(MILLIS, true),
            ConvertedType::TIMESTAMP_MICROS => Kind::Timestamp(MICROS, true),
            ConvertedType::INTERVAL => return refuse("an interval"),
            _ => Kind::Plain,
        },
    };
    let kind = match column.physical_type() {
        // Hive, Impala and Spark write an instant.
        Type::INT96 => Kind::Timestamp(NANOS, true),
        _ => kind,
    };
    Ok(Column {
        name: column.name().to_lowercase(),
        kind,
    })
}

fn scaled(scale: i32) -> Kind {
    Kind::Decimal(u32::try_from(scale).unwrap_or(0))
}
