//! The error that reaches an operator: where, why, and what to do, with a kind that decides the exit
//! code. Modules keep their own `thiserror` enums inside and convert at their border.

use std::fmt;

/// What the operator has to do something about. Each kind is one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A bug, or the machine failed (I/O of the sort directory, out of space).
    Internal,
    /// The command line or the configuration is wrong.
    Config,
    /// The job cannot start as things are: table missing or not empty, no space, unsupported schema.
    Precheck,
    /// The source data is wrong or changed during the import.
    Data,
    /// Conflicting rows beyond what the strategy allows.
    Conflict,
    /// What is in the cluster is not what was encoded.
    Checksum,
    /// PD, TiKV or TiDB cannot be reached or refuses; running the same command again goes on.
    Cluster,
    /// Stopped by the user or by losing the lease; running the same command again goes on.
    Cancelled,
}

impl ErrorKind {
    const ALL: [(ErrorKind, &'static str, u8); 8] = [
        (ErrorKind::Internal, "internal", 1),
        (ErrorKind::Config, "config", 2),
        (ErrorKind::Precheck, "precheck", 3),
        (ErrorKind::Data, "data", 4),
        (ErrorKind::Conflict, "conflict", 5),
        (ErrorKind::Checksum, "checksum", 6),
        (ErrorKind::Cluster, "cluster", 7),
        (ErrorKind::Cancelled, "cancelled", 8),
    ];

    /// Process exit code.
    pub fn exit_code(self) -> u8 {
        self.entry().2
    }

    /// Lower-case name, as in reports and messages between processes.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// The kind with this name; `Internal` for an unknown one.
    pub fn from_name(name: &str) -> ErrorKind {
        Self::ALL
            .iter()
            .find(|e| e.1 == name)
            .map_or(ErrorKind::Internal, |e| e.0)
    }

    fn entry(self) -> (ErrorKind, &'static str, u8) {
        Self::ALL
            .into_iter()
            .find(|e| e.0 == self)
            .unwrap_or(Self::ALL[0])
    }
}

/// An error with its place, its first cause and what to do about it. Never holds a row value, a key or
/// a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which kind of trouble.
    pub kind: ErrorKind,
    /// `file.csv:12:3`, `store 4 region 17`, `pd 127.0.0.1:2379`, `table db.t`.
    pub place: String,
    /// The first cause.
    pub cause: String,
    /// What to do; may be empty where the cause says it.
    pub advice: String,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` at `place`.
    pub fn new(kind: ErrorKind, place: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self {
            kind,
            place: place.to_string(),
            cause: cause.to_string(),
            advice: String::new(),
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn advice(mut self, advice: impl fmt::Display) -> Self {
        self.advice = advice.to_string();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}", self.cause)?;
        if !self.advice.is_empty() {
            write!(f, " ({})", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_and_nonzero_code() {
        for (kind, name, code) in ErrorKind::ALL {
            assert_eq!((kind.name(), kind.exit_code()), (name, code));
            assert_eq!(ErrorKind::from_name(name), kind);
            assert_eq!(
                ErrorKind::ALL
                    .iter()
                    .filter(|e| e.1 == name || e.2 == code)
                    .count(),
                1
            );
            assert_ne!(code, 0);
        }
    }

    #[test]
    fn an_error_reads_place_cause_advice() {
        let error =
            Error::new(ErrorKind::Data, "t.csv:3", "unterminated quote").advice("close the quote");
        assert_eq!(
            error.to_string(),
            "t.csv:3: unterminated quote (close the quote)"
        );
    }
}
