//! What can go wrong inside the sandbox itself, as opposed to the errors it answers on the wire.

use thunderhead_types::{Error, ErrorKind};

pub(crate) type Result<T, E = SandboxError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("storage: {0}")]
    Rocks(#[from] rocksdb::Error),
    #[error("file: {0}")]
    Io(#[from] std::io::Error),
    #[error("state: {0}")]
    Json(#[from] serde_json::Error),
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
}

impl From<prost::DecodeError> for SandboxError {
    fn from(error: prost::DecodeError) -> Self {
        SandboxError::Corrupt(error.to_string())
    }
}

impl From<SandboxError> for Error {
    fn from(error: SandboxError) -> Self {
        Error::new(ErrorKind::Internal, "sandbox", error)
    }
}

impl From<SandboxError> for tonic::Status {
    fn from(error: SandboxError) -> Self {
        tonic::Status::unknown(error.to_string())
    }
}
