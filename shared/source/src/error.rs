//! What can go wrong while reading a source file, always with the place: file, line, byte.

use std::io;

use thunderhead_types::{Error, ErrorKind};

use crate::csv::{DialectError, SyntaxKind};
use crate::sql::SqlProblem;

/// Where in a file, for people: `dir/t.csv:17 (byte 4023)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user knows it.
    pub path: String,
    /// Line from 1; 0 if it is not known.
    pub line: u64,
    /// Offset in the (uncompressed) file from 0.
    pub byte: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{} (byte {})", self.path, self.byte),
            line => write!(f, "{}:{line} (byte {})", self.path, self.byte),
        }
    }
}

/// Why a source file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The bytes are no record of this dialect.
    #[error("column {column}: {kind}")]
    Syntax {
        /// The byte to look at.
        place: Place,
        /// Field number from 1.
        column: usize,
        /// The reason.
        kind: SyntaxKind,
    },
    /// The bytes are no rows of an SQL dump.
    #[error("{problem}")]
    Sql {
        /// The byte to look at.
        place: Place,
        /// The reason.
        problem: SqlProblem,
    },
    /// The bytes are no Parquet.
    #[error("{why}")]
    Parquet {
        /// Row as the line, byte roughly.
        place: Place,
        /// The library's reason.
        why: String,
    },
    /// A record does not fit into memory.
    #[error("the record that starts here is longer than {limit} bytes")]
    RowTooLong {
        /// Start of the record.
        place: Place,
        /// The limit in bytes.
        limit: usize,
    },
    /// The file is shorter than when the import was planned.
    #[error(
        "the file ends here, but was at least {expected} bytes long when the import was planned"
    )]
    Truncated {
        /// End of the file.
        place: Place,
        /// Bytes it should have at least.
        expected: u64,
    },
    /// The header is not text.
    #[error("column {column} of the header is not valid UTF-8")]
    HeaderNotText {
        /// Start of the header.
        place: Place,
        /// Field number from 1.
        column: usize,
    },
    /// The dialect contradicts itself.
    #[error(transparent)]
    Dialect(#[from] DialectError),
    /// Nothing here reads it.
    #[error("{what} is not supported")]
    Unsupported {
        /// Format, compression or character set.
        what: String,
    },
    /// The operating system failed.
    #[error("cannot read: {source}")]
    Io {
        /// Where.
        place: Place,
        /// Why.
        source: io::Error,
    },
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Error {
        let cause = error.to_string();
        let (kind, place, advice) = match error {
            SourceError::Syntax { place, kind, .. } => {
                (ErrorKind::Data, place.to_string(), syntax_advice(kind))
            }
            SourceError::Sql { place, problem } => {
                (ErrorKind::Data, place.to_string(), sql_advice(problem))
            }
            SourceError::Parquet { place, .. } => (
                ErrorKind::Data,
                place.to_string(),
                "is this a complete Parquet file? Write it again, or name its format in [[mydumper.files]]",
            ),
            SourceError::RowTooLong { place, .. } => (
                ErrorKind::Data,
                place.to_string(),
                "look for a quote that is never closed, or set the terminator; if the record is right, set thunderhead.memory higher or region-concurrency lower",
            ),
            SourceError::Truncated { place, .. } => (
                ErrorKind::Data,
                place.to_string(),
                "restore the file, or start a new import of the changed one",
            ),
            SourceError::HeaderNotText { place, .. } => (
                ErrorKind::Data,
                place.to_string(),
                "set header = false if the first line is data",
            ),
            SourceError::Dialect(_) => (
                ErrorKind::Config,
                "mydumper.csv".to_owned(),
                "make the tokens differ",
            ),
            SourceError::Unsupported { .. } => (
                ErrorKind::Precheck,
                "source files".to_owned(),
                "convert the files to plain CSV in UTF-8",
            ),
            SourceError::Io { place, source } => {
                let (kind, advice) = match source.kind() {
                    io::ErrorKind::NotFound => (ErrorKind::Data, ""),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => (
                        ErrorKind::Data,
                        "is the file complete? Copy or export it again",
                    ),
                    _ => (ErrorKind::Internal, ""),
                };
                (kind, place.to_string(), advice)
            }
        };
        Error::new(kind, place, cause).advice(advice)
    }
}

fn syntax_advice(kind: SyntaxKind) -> &'static str {
    match kind {
        SyntaxKind::QuoteInField | SyntaxKind::TextAfterQuote => {
            "double the quote inside a quoted field, or set another delimiter"
        }
        SyntaxKind::UnterminatedQuote => {
            "close the quote, or set delimiter = '' if quotes are data"
        }
        SyntaxKind::LoneEscape => "complete the escape, or set escaped-by = '' if it is data",
    }
}

fn sql_advice(problem: SqlProblem) -> &'static str {
    match problem {
        SqlProblem::OpenQuote => {
            "close the quote, or add NO_BACKSLASH_ESCAPES to tidb.sql-mode if backslashes are data"
        }
        SqlProblem::OtherTable => {
            "dump each table into its own file, or give the file a rule with table = \"*\" in [[mydumper.files]]"
        }
        SqlProblem::OpenComment | SqlProblem::OpenRow | SqlProblem::OpenStatement => {
            "is the dump complete? Write it again"
        }
        _ => {
            "dump rows as INSERT … VALUES with literals only, as Dumpling, mydumper and mysqldump do"
        }
    }
}
