//! What goes wrong with a table file.

use std::io;
use std::path::PathBuf;
use thunderhead_types::{Error, ErrorKind};

/// `Result` with [`SstError`].
pub type Result<T, E = SstError> = std::result::Result<T, E>;

/// Errors of this crate. None holds a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum SstError {
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key is not greater than the one before it.
    #[error("key {index} is not greater than the one before it")]
    Order {
        /// Number of entries before it.
        index: u64,
    },
    /// A key is not one of TiKV's: `z`, the encoded key and eight bytes of timestamp.
    #[error("key {index} is not an engine key with a timestamp")]
    Key {
        /// Number of entries before it.
        index: u64,
    },
    /// A file without entries cannot be ingested.
    #[error("a table file must hold at least one entry")]
    Empty,
    /// One key and value that no block can hold.
    #[error("an entry of {bytes} bytes is larger than a block may be")]
    TooLarge {
        /// Key and value together.
        bytes: usize,
    },
    /// The compressor failed.
    #[error("compression failed: {0}")]
    Compression(&'static str),
    /// The bytes are not a table file, or not the one that was written.
    #[error("corrupt table file: {what} (at byte {offset})")]
    Corrupt {
        /// What does not hold.
        what: &'static str,
        /// Where in the file.
        offset: u64,
    },
    /// The file is sound but not what was to be sent.
    #[error("the table file was not proved: {0}")]
    Unproved(&'static str),
}

impl SstError {
    pub(crate) fn corrupt(what: &'static str, offset: u64) -> Self {
        SstError::Corrupt { what, offset }
    }
}

impl From<SstError> for Error {
    fn from(error: SstError) -> Self {
        match &error {
            SstError::Io { path, source } => {
                Error::new(ErrorKind::Internal, path.display(), source)
                    .advice("check space and health of the sort directory, then run it again")
            }
            _ => Error::new(ErrorKind::Internal, "table file", &error)
                .advice("this is a bug; please report it"),
        }
    }
}
