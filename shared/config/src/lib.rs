//! From a TiDB Lightning TOML file to a checked [`Job`], and from a directory to the tables and files of
//! that job. Pure and synchronous; the only I/O is walking the source directory and reading schema files.
//! Leaves what a strategy or format needs at run time to those who carry it out.
//!
//! The flow: [`load`] reads the text ([`raw`], driven by the table in [`keys`]) and checks it ([`check`]);
//! [`SourceTree::scan`] applies the job's file rules, filter and routes; [`fingerprint`] names the job and its
//! input, so that a later run knows whether it may go on.

mod check;
mod filter;
pub mod fingerprint;
mod job;
pub mod keys;
mod problem;
mod raw;
mod routes;
mod routing;
pub mod schema_file;
mod secret;
mod statement;
mod tree;
pub mod uri;
mod value;

pub use check::{Loaded, load};
pub use filter::{FilterError, TableFilter};
pub use job::{
    Backend, CharacterSet, Compression, ConflictOptions, ConflictStrategy, CsvOptions,
    FieldOptions, FileFormat, IgnoreColumns, IngestFiles, IngestOptions, Job, Level,
    LogicalOptions, OnDuplicate, PauseScope, SourceFormat, SqlOptions, TidbOptions, TlsFiles,
};
pub use problem::{Note, Problem, to_error};
pub use raw::environment_overrides;
pub use routes::{AmbiguousRoute, Routes};
pub use routing::{FileRole, FileRules, RoutingError, SourceFile};
pub use secret::{Password, Secret};
pub use tree::{
    ListedFile, SchemaFile, SourceDatabase, SourceTable, SourceTree, SourceView, TablesOf,
    list_directory,
};
pub use value::{parse_duration_ms, parse_size};
