//! What can go wrong between the sort buffer and the merged stream. All of it is the machine's doing:
//! bad data never gets this far.

use std::io;
use std::path::{Path, PathBuf};

use thunderhead_types::{Error, ErrorKind};

/// A failure of the sorter.
#[derive(Debug, thiserror::Error)]
pub enum SortError {
    /// The ledger refuses, or the file system is full.
    #[error("no space in the sort directory: {needed} bytes needed, {free} bytes free")]
    NoSpace {
        /// The sort directory.
        dir: PathBuf,
        /// Bytes asked for.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// The bytes of a run are not the ones that were written.
    #[error("{part} is damaged: {reason}")]
    Corrupt {
        /// The run.
        path: PathBuf,
        /// `header`, `footer`, `index` or `block 17 at byte 4456448`.
        part: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// A pair came after a greater key.
    #[error("pairs must be written in key order")]
    OutOfOrder {
        /// The run.
        path: PathBuf,
    },
    /// The operating system failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// An agent that holds a run does not answer.
    #[error("its runs cannot be read: {cause}")]
    PeerLost {
        /// Where it was.
        address: String,
        /// Why the last try failed.
        cause: String,
    },
    /// Whoever decides about conflicting pairs does not want to go on.
    #[error(transparent)]
    Conflict(#[from] Error),
}

/// `Result` with [`SortError`].
pub type Result<T, E = SortError> = std::result::Result<T, E>;

impl SortError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SortError {
        move |source| SortError::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }

    pub(super) fn corrupt(path: &Path, part: impl Into<String>, reason: &'static str) -> SortError {
        SortError::Corrupt {
            path: path.to_owned(),
            part: part.into(),
            reason,
        }
    }
}

/// Place of an error about the agent at `address`.
pub(crate) fn peer_place(address: &str) -> String {
    format!("agent at {address}")
}

impl From<SortError> for Error {
    fn from(error: SortError) -> Error {
        let cause = error.to_string();
        let (path, advice) = match error {
            SortError::Conflict(error) => return error,
            SortError::NoSpace { dir, .. } => (
                dir,
                "free space or give more disk to the agent, then run the command again",
            ),
            SortError::Corrupt { path, .. } => (
                path,
                "check the disk; run the command again to encode the chunk anew",
            ),
            SortError::PeerLost { address, .. } => {
                return Error::new(ErrorKind::Cluster, peer_place(&address), cause)
                    .advice("the chunks whose runs it holds are encoded again elsewhere");
            }
            SortError::OutOfOrder { path } => (path, ""),
            SortError::Io { path, .. } => (path, "check the disk and its permissions"),
        };
        Error::new(ErrorKind::Internal, path.display(), cause).advice(advice)
    }
}
