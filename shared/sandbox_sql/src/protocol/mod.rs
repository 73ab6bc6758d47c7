//! MySQL's wire protocol, server side: framing, handshake, commands, result sets. Knows statements only as
//! bytes that the session executes.

mod binary;
mod connection;
mod handshake;
mod packet;
mod rows;

pub use connection::serve;
pub use handshake::VERSION;
pub use rows::{ColumnMeta, RowSink, Value, status};
