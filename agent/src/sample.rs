//! How large the pairs of a table will be, from its first rows: what a plan needs to know before anything
//! is encoded. Errors in the data are left to the encode task, which names them with all they need.

use crate::encode::{Maps, chunk_of, format, source_of};
use thunderhead_proto::thunderhead::{EncodeTask, TableSpec};
use thunderhead_source::open_records;
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
    let format = format(task)?;
    let mut maps = Maps::new(spec, task, &format)?;
    let source = source_of(task, &format)?;
    let mut reader = open_records(&source, &chunk_of(task), &format)?;
    let mut sample = Sample::default();
    while sample.rows < ROWS as u64 {
        let start = reader.offset();
        let Ok(count) = reader.advance() else {
            break;
        };
        if count == 0 {
            break;
        }
        let map = maps.of(reader.columns())?;
        let mut values = Vec::with_capacity(map.width());
        let mut bytes = 0;
        for index in 0..count {
            let mut count = |_, key: &[u8], value: &[u8]| bytes += (key.len() + value.len()) as u64;
            values.clear();
            reader.record(index, &mut values);
            let _ = map.encode(&values, task.row_id_base, &mut count);
            sample.rows += 1;
        }
        sample.kv_bytes += bytes;
        sample.source_bytes += reader.offset() - start;
    }
    Ok(sample)
}
