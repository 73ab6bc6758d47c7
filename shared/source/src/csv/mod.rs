//! CSV: what a dialect is, and the core that lexes records in a slice.

mod batch;
mod core;
mod dialect;
mod fast;
mod malformed;
mod scan;
mod transition;
mod unescape;

pub use self::core::Core;
pub use batch::{Batch, Parsed, RowSpan, Span, Stop, SyntaxError, SyntaxKind};
pub use dialect::{CsvDialect, DialectError, TextEncoding};
pub(crate) use scan::count_lines;
pub(crate) use transition::{Exit, Mode, State, Transition};
