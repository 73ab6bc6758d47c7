//! The external sorter. It sees bytes only: pairs of a key and a value go in, runs of sorted pairs lie
//! on disk, and the merged pairs of any key range come out, as often as they are asked for. It never
//! folds equal keys before the last step, where equal neighbours are counted and reported.
//!
//! ```text
//! SortBuffer ── spill ─► run files ── MergedRuns ─► PairReader (strictly ascending)
//!   arena, radix sort     format, writer, reader     merge, dedup
//! ```
//! Memory comes from budgets, disk from the [`Ledger`]. Everything here is synchronous.

mod buffer;
mod dedup;
mod error;
mod format;
mod ledger;
mod manifest;
mod merge;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod writer;

pub use buffer::{SortBuffer, SortedPairs};
pub use dedup::{ConflictHook, Duplicates};
pub use error::SortError;
pub(crate) use error::peer_place;
pub use format::{BLOCK_BYTES, BlockMeta};
pub use ledger::{Ledger, Reservation};
pub use manifest::run_message;
pub use merge::Merge;
pub use reader::{BlockStream, PairStream, RemoteBlocks, RunCursor, RunFile};
pub use source::{MergeBudget, MergedRuns, PairFilter};
pub use writer::{RunMeta, RunWriter};
