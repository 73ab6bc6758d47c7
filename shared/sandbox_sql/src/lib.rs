//! The SQL face of the embedded development cluster: a MySQL protocol port and a status port over a
//! small key-value trait. It owns statements, the catalog and the wire protocol; it leaves storage to
//! the [`KvEngine`] and the bytes of rows and index entries to `thunderhead-codec`.

mod catalog;
mod ddl;
mod engine;
mod error;
mod expr;
mod lexer;
mod protocol;
mod select;
mod server;
mod session;
mod statements;
mod status;
mod view;

pub use engine::{CommitError, KvEngine, Mutation, Pair, ScanLimit, Scanner};
pub use server::{SqlConfig, SqlPort, SqlServer};
