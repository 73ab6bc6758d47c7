//! Compiled encoders and decoders of a table.
//!
//! [`TableEncoder`]: fields → cells (cast or default, column by column) → generated columns → partition →
//! record pair, then one pair per index entry. Nothing is emitted for a row that is rejected.
//! [`TableDecoder`]: pairs → datums.

mod auto_id;
mod computed;
mod decoder;
mod defaults;
mod encoder;
mod index;
mod multi_valued;
mod plan;
mod preflight;

pub use crate::cast::{Cell, Field};
pub use auto_id::{AutoIds, row_numbers_max};
pub use decoder::{DecodeError, IndexEntry, TableDecoder};
pub use encoder::{Row, TableEncoder};
pub use preflight::refusals;

/// Where a pair belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    Record,
    /// Index id.
    Index(i64),
}

/// Takes the pairs of rows.
pub trait PairSink {
    fn pair(&mut self, slot: Slot, key: &[u8], value: &[u8]);
}

impl<F: FnMut(Slot, &[u8], &[u8])> PairSink for F {
    fn pair(&mut self, slot: Slot, key: &[u8], value: &[u8]) {
        self(slot, key, value);
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOutcome {
    /// Table or partition that owns the record.
    pub physical_id: i64,
    /// Pairs emitted.
    pub pairs: u32,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    /// Name of the column at fault; empty where it is the whole row.
    pub column: String,
    /// MySQL's error code; 0 where the server has none.
    pub code: u16,
    /// The server's text, without its `at row N`.
    pub message: String,
}

impl RowError {
    pub(crate) fn new(column: &str, code: u16, message: impl Into<String>) -> RowError {
        RowError {
            column: column.to_owned(),
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
