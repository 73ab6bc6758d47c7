//! How large the pairs of a table will be, from its first rows: what a plan needs to know before anything
//! is encoded. Errors in the data are left to the encode task, which names them with all they need.

use crate::encode::{compile, encode_row, open_source};
use std::path::Path;
use thunderhead_proto::thunderhead::{EncodeTask, TableSpec};
use thunderhead_source::{Chunk, ChunkReader};
use thunderhead_types::Result;

/// Rows that are looked at.
const ROWS: usize = 2000;

/// What the first rows of a chunk became.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Rows looked at.
    pub rows: u64,
    /// Their bytes in the source.
    pub source_bytes: u64,
    /// Bytes of their pairs.
    pub kv_bytes: u64,
}

/// Encodes the first rows of `task` and forgets them.
///
/// # Errors
/// When the file cannot be read or the table cannot be encoded at all.
pub fn sample(spec: &TableSpec, task: &EncodeTask) -> Result<Sample> {
    let (mut encoder, width) = compile(spec, &task.columns)?;
    let chunk = Chunk {
        offset: task.offset,
        end: task.end,
        first_line: task.first_line,
        rows_max: 0,
        rows_exact: false,
    };
    let path = Path::new(&task.path);
    let (source, dialect) = open_source(task, &spec.format_json)?;
    let mut reader = ChunkReader::open(&*source, &chunk, &dialect)?;
    let mut sample = Sample::default();
    while sample.rows < ROWS as u64 {
        let start = reader.offset();
        let Ok(Some(batch)) = reader.next_batch() else {
            break;
        };
        let mut bytes = 0;
        for row in batch.rows() {
            let mut count = |_, key: &[u8], value: &[u8]| bytes += (key.len() + value.len()) as u64;
            let _ = encode_row(
                &mut encoder,
                width,
                &row,
                task.row_id_base,
                path,
                &mut count,
            );
            sample.rows += 1;
        }
        sample.kv_bytes += bytes;
        sample.source_bytes += reader.offset() - start;
    }
    Ok(sample)
}
