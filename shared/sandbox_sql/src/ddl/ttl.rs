//! TTL of the model. Nothing expires here; the definition is kept for whoever reads it.

use super::TableOptions;
use crate::error::{SqlError, SqlResult};
use crate::expr::{Style, restore};
use serde_json::{Value, json};
use thunderhead_codec::schema::TableInfo;

/// How often TiDB looks for expired rows when the statement does not say.
const JOB_INTERVAL: &str = "24h";
/// Units in the order of TiDB's numbers for them, which begin at 1.
const UNITS: [&str; 9] = [
    "microsecond",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
];

/// What `TTL = column + INTERVAL amount unit` becomes.
pub fn ttl_info(options: &TableOptions, table: &TableInfo) -> SqlResult<Option<Value>> {
    let Some((column, amount, unit)) = &options.ttl else {
        return Ok(None);
    };
    let mut columns = table.columns().iter();
    let column = columns
        .find(|c| c.name.lower == column.to_lowercase())
        .ok_or_else(|| SqlError::unknown_column(column, "TTL config"))?;
    let unit = UNITS.iter().position(|known| known == unit);
    let unit = unit.ok_or_else(|| SqlError::unsupported("this unit in TTL"))?;
    Ok(Some(json!({
        "column": column.name,
        "interval_expr": restore(amount, Style::Generated)?,
        "interval_time_unit": unit + 1,
        "enable": options.ttl_enable.unwrap_or(true),
        "job_interval": options.ttl_job_interval.as_deref().unwrap_or(JOB_INTERVAL),
    })))
}
