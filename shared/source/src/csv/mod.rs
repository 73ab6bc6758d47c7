//! CSV: what a dialect is, and the core that lexes records in a slice.

mod core;
mod dialect;
mod scan;
mod unescape;

pub use self::core::{Batch, Core, Parsed, RowSpan, Span, Stop, SyntaxError, SyntaxKind};
pub use dialect::{CsvDialect, DialectError};
