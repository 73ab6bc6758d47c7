//! The aggregates SQLite is given: exact sums, and bit operations.

use super::decimal::Decimal;
use super::functions::{decimal_of, integer, out_of_range};
use rusqlite::functions::{Aggregate, Context, FunctionFlags, WindowAggregate};
use rusqlite::types::Value;
use rusqlite::{Connection, Result};

/// Exact SUM and AVG; the average has four more digits than its argument.
struct Sum {
    average: bool,
}

type SumState = (Decimal, i64);

impl Aggregate<SumState, Value> for Sum {
    fn init(&self, _: &mut Context<'_>) -> Result<SumState> {
        Ok((Decimal::ZERO, 0))
    }

    fn step(&self, context: &mut Context<'_>, state: &mut SumState) -> Result<()> {
        if let Some(value) = decimal_of(context.get_raw(0))? {
            state.0 = state.0.add(value).ok_or_else(out_of_range)?;
            state.1 += 1;
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, state: Option<SumState>) -> Result<Value> {
        self.result(state)
    }
}

impl Sum {
    fn result(&self, state: Option<SumState>) -> Result<Value> {
        let Some((sum, count)) = state.filter(|(_, count)| *count > 0) else {
            return Ok(Value::Null);
        };
        let result = if self.average {
            let scale = sum.scale + super::types::DIVISION_SCALE as u32;
            sum.div(Decimal::int(count), scale)
                .flatten()
                .ok_or_else(out_of_range)?
        } else {
            sum
        };
        Ok(Value::Text(result.to_string()))
    }
}

/// As a window's aggregate, rows also leave the sum again.
impl WindowAggregate<SumState, Value> for Sum {
    fn value(&self, state: Option<&mut SumState>) -> Result<Value> {
        self.result(state.copied())
    }

    fn inverse(&self, context: &mut Context<'_>, state: &mut SumState) -> Result<()> {
        if let Some(value) = decimal_of(context.get_raw(0))? {
            state.0 = state.0.sub(value).ok_or_else(out_of_range)?;
            state.1 -= 1;
        }
        Ok(())
    }
}

struct Bits(fn(i64, i64) -> i64, i64);

impl Aggregate<i64, Value> for Bits {
    fn init(&self, _: &mut Context<'_>) -> Result<i64> {
        Ok(self.1)
    }

    fn step(&self, context: &mut Context<'_>, state: &mut i64) -> Result<()> {
        if let Some(value) = integer(context.get_raw(0)) {
            *state = (self.0)(*state, value);
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, state: Option<i64>) -> Result<Value> {
        Ok(Value::Integer(state.unwrap_or(self.1)))
    }
}

/// Registers them on a connection.
pub fn register(db: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    db.create_window_function("th_sum", 1, flags, Sum { average: false })?;
    db.create_window_function("th_avg", 1, flags, Sum { average: true })?;
    db.create_aggregate_function("th_bit_xor", 1, flags, Bits(|a, b| a ^ b, 0))?;
    db.create_aggregate_function("th_bit_or", 1, flags, Bits(|a, b| a | b, 0))?;
    db.create_aggregate_function("th_bit_and", 1, flags, Bits(|a, b| a & b, -1))
}
