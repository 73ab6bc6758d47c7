//! The nouns that every other crate shares: key ranges, ids, checksums, errors with their exit codes,
//! and the clock. No I/O, no async, no knowledge of TiKV's wire format or of TiDB's encoding.

mod checksum;
mod clock;
mod error;
mod fail;
mod range;

pub use checksum::{Checksum, Tally, crc64};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Result};
pub use fail::fail_point;
pub use range::{KeyRange, next_key};

/// A TSO timestamp: `physical_ms << 18 | logical`.
pub type Timestamp = u64;

/// The fencing epoch of a leader: create revision of its election key. Zero is never issued.
pub type Epoch = u64;
