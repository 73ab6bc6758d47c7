//! Answers: OK, errors, and result sets as text or binary rows, written in chunks that are sent while the
//! rest is still being made.

use super::binary::binary_row;
use super::packet::{PacketWriter, put_lenenc, put_string};
use crate::error::{SqlError, SqlResult, code};
use thunderhead_codec::mysql::{flag, tp};
use tokio::sync::mpsc::Sender;

/// Chunks go out at this size.
const CHUNK_BYTES: usize = 64 << 10;

/// A value as text; NULL is `None`.
pub type Value = Option<Vec<u8>>;

/// A column of a result set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnMeta {
    pub db: String,
    pub table: String,
    pub name: String,
    pub tp: u8,
    pub flags: u32,
    pub length: i64,
    pub decimals: i32,
    /// Text rather than bytes.
    pub text: bool,
}

impl ColumnMeta {
    /// A column of text.
    pub fn text(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tp: tp::VAR_STRING,
            length: 1024,
            decimals: 31,
            text: true,
            ..Self::default()
        }
    }

    /// A column of integers.
    pub fn int(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tp: tp::LONGLONG,
            flags: flag::BINARY,
            length: 20,
            ..Self::default()
        }
    }
}

/// Where a statement's rows go.
pub trait RowSink {
    fn columns(&mut self, columns: &[ColumnMeta]) -> SqlResult<()>;
    fn row(&mut self, row: &[Value]) -> SqlResult<()>;
}

pub mod status {
    pub const IN_TRANSACTION: u16 = 1;
    pub const AUTOCOMMIT: u16 = 2;
    pub const MORE_RESULTS: u16 = 8;
}

/// Writes answers to a connection.
pub struct Answer {
    out: PacketWriter,
    to: Sender<Vec<u8>>,
    binary: bool,
    columns: Vec<ColumnMeta>,
    row: Vec<u8>,
    pub status: u16,
}

impl Answer {
    pub fn new(to: Sender<Vec<u8>>, sequence: u8, binary: bool) -> Self {
        Self {
            out: PacketWriter {
                buffer: Vec::new(),
                sequence,
            },
            to,
            binary,
            columns: Vec::new(),
            row: Vec::new(),
            status: status::AUTOCOMMIT,
        }
    }

    /// Sends what is ready; fails when the client is gone.
    pub fn flush(&mut self) -> SqlResult<()> {
        if self.out.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.out.buffer);
        self.to
            .blocking_send(chunk)
            .map_err(|_| SqlError::new(code::QUERY_INTERRUPTED, "Query execution was interrupted"))
    }

    /// Adds a packet of the caller's making.
    pub fn packet(&mut self, payload: &[u8]) -> SqlResult<()> {
        self.out.packet(payload);
        if self.out.buffer.len() >= CHUNK_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    pub fn ok(
        &mut self,
        affected: u64,
        insert_id: u64,
        warnings: u16,
        info: &str,
    ) -> SqlResult<()> {
        let mut payload = vec![0];
        put_lenenc(&mut payload, affected);
        put_lenenc(&mut payload, insert_id);
        payload.extend_from_slice(&self.status.to_le_bytes());
        payload.extend_from_slice(&warnings.to_le_bytes());
        if !info.is_empty() {
            put_string(&mut payload, info.as_bytes());
        }
        self.packet(&payload)
    }

    pub fn error(&mut self, error: &SqlError) -> SqlResult<()> {
        self.packet(&error_payload(error))
    }

    pub fn eof(&mut self, warnings: u16) -> SqlResult<()> {
        let mut payload = vec![0xfe];
        payload.extend_from_slice(&warnings.to_le_bytes());
        payload.extend_from_slice(&self.status.to_le_bytes());
        self.packet(&payload)
    }

    pub fn column(&mut self, column: &ColumnMeta) -> SqlResult<()> {
        self.packet(&column_definition(column))
    }
}

impl RowSink for Answer {
    fn columns(&mut self, columns: &[ColumnMeta]) -> SqlResult<()> {
        let mut count = Vec::new();
        put_lenenc(&mut count, columns.len() as u64);
        self.packet(&count)?;
        for column in columns {
            self.column(column)?;
        }
        self.columns = columns.to_vec();
        self.eof(0)
    }

    fn row(&mut self, row: &[Value]) -> SqlResult<()> {
        let mut payload = std::mem::take(&mut self.row);
        payload.clear();
        if self.binary {
            binary_row(&mut payload, &self.columns, row);
        } else {
            for value in row {
                match value {
                    Some(text) => put_string(&mut payload, text),
                    None => payload.push(0xfb),
                }
            }
        }
        let sent = self.packet(&payload);
        self.row = payload;
        sent
    }
}

/// An error packet.
pub fn error_payload(error: &SqlError) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&error.code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(error.sqlstate().as_bytes());
    payload.extend_from_slice(error.message.as_bytes());
    payload
}

fn column_definition(column: &ColumnMeta) -> Vec<u8> {
    const BINARY: u16 = 63;
    const UTF8MB4_BIN: u16 = 46;
    const FIXED_LENGTH: u8 = 12;
    let mut out = Vec::new();
    for text in [
        "def",
        &column.db,
        &column.table,
        &column.table,
        &column.name,
        &column.name,
    ] {
        put_string(&mut out, text.as_bytes());
    }
    out.push(FIXED_LENGTH);
    out.extend_from_slice(&if column.text { UTF8MB4_BIN } else { BINARY }.to_le_bytes());
    let width = if column.text {
        column.length.saturating_mul(4)
    } else {
        column.length
    };
    out.extend_from_slice(&(width.clamp(0, i64::from(u32::MAX)) as u32).to_le_bytes());
    // TiDB's own type codes end where MySQL's do, except VECTOR, which travels as text.
    out.push(if column.tp == tp::VECTOR {
        tp::VAR_STRING
    } else {
        column.tp
    });
    out.extend_from_slice(&(column.flags as u16).to_le_bytes());
    out.push(if column.decimals < 0 {
        31
    } else {
        column.decimals as u8
    });
    out.extend_from_slice(&[0, 0]);
    out
}
