//! RocksDB's block-based table files, written and read without RocksDB: what `Upload` sends to every
//! peer of a region. Pairs become the write and default family of a slice ([`PairsToSst`]); each family
//! is one file ([`SstBuilder`]) that TiKV itself could have written, down to its own properties; before
//! a byte is sent, the file is read back and checked ([`prove`]); when regions moved, a part of it
//! becomes a new file ([`recut`]).
//!
//! Synchronous and CPU-bound: callers run it on their own threads. It knows nothing of regions, stores
//! or the protocol; those are `thunderhead-cluster`'s.
//!
//! Layout of a file, format version 5, after RocksDB's `block_based_table_builder`:
//!
//! ```text
//! data block 0 … n │ filter │ index │ properties │ metaindex │ footer (53 bytes)
//! ```
//!
//! Each block is followed by its compression type (one byte) and the masked CRC-32C of both.

mod block;
mod bloom;
mod builder;
mod collect;
mod compress;
mod error;
mod format;
mod hash;
mod mvcc;
mod options;
mod pairs;
mod properties;
mod prove;
mod reader;
mod recut;
mod sink;

pub use builder::{BuiltSst, SstBuilder};
pub use error::{Result, SstError};
pub use mvcc::SHORT_VALUE_MAX;
pub use options::{Cf, Compression, SstId, SstOptions};
pub use pairs::{BuiltSlice, PairsToSst, SliceOptions};
pub use properties::Properties;
pub use prove::{Proof, prove, prove_bytes, prove_slice};
pub use reader::{Entries, SstReader};
pub use recut::recut;
pub use sink::{SstContent, SstSink};
