//! Expressions of a table's definition: read from the text TiDB stores, compiled once against the table's
//! columns, evaluated per row with TiDB's rules for types, rounding, time zones and sql_mode. What is not
//! in the table of functions is refused by name when the table is compiled, never approximated.
//!
//! Flow: text → [`parse`] → [`Node`] → [`Expression::compile`] → [`Expression::eval`]. Casting a result to
//! its column, and what follows from NULL, is the encoder's. The functions are grouped by what they work on
//! (`math`, `text`, `json`, `temporal`, …); each group ends in a table of names that [`compile`] searches.

mod cast;
mod cipher;
mod compare;
mod compile;
mod control;
mod convert;
mod format;
mod hash;
mod json;
mod json_path;
mod lex;
mod math;
mod net;
mod parse;
mod power;
mod regex;
mod temporal;
mod temporal_add;
mod text;
mod text_more;
mod tree;
mod types;

pub use compile::{CompileError, Expression};
pub use lex::SyntaxError;
pub use parse::parse;
pub use tree::{CastName, CastType, Literal, Node, Unit};

/// Why an expression has no value for a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// MySQL's error code.
    pub code: u16,
    pub message: String,
}

impl EvalError {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> EvalError {
        EvalError {
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod value_tests;
