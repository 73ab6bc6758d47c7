//! How large the pairs of a table will be and whether its rows need numbers, from its first rows: what a plan needs
//! to know before anything is encoded. Errors in the data are left to the encode task, which names them with all
//! they need.

use crate::encode::{Maps, chunk_of, format, source_in};
use crate::fields::RowMap;
use std::sync::Arc;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_config::SourceFormat;
use thunderhead_proto::thunderhead::{EncodeTask, FilePart, TableSpec};
use thunderhead_source::{ByteSource, Chunk, SourceError, Value, open_records};
use thunderhead_types::Result;

/// Rows that are looked at.
const ROWS: usize = 2000;

/// What the first rows of a part of a chunk became.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Rows looked at.
    pub rows: u64,
    /// Their bytes in the source.
    pub source_bytes: u64,
    /// Bytes of their pairs.
    pub kv_bytes: u64,
    /// There are no more rows in the part.
    pub ended: bool,
}

/// Encodes the first rows of a part of `task`, whose file is `stored`, and forgets them.
///
/// # Errors
/// When the file cannot be read or the table cannot be encoded at all.
pub fn sample(
    spec: &TableSpec,
    task: &EncodeTask,
    part: &FilePart,
    stored: Arc<dyn ByteSource>,
) -> Result<Sample> {
    let format = format(task)?;
    let mut maps = Maps::new(spec, task, &format)?;
    let source = source_in(stored, part, &format);
    let mut reader = open_records(&source, &chunk_of(part), &format)?;
    let mut sample = Sample::default();
    while sample.rows < ROWS as u64 {
        let start = reader.offset();
        let Ok(count) = reader.advance() else {
            break;
        };
        if count == 0 {
            sample.ended = true;
            break;
        }
        let map = maps.of(reader.columns())?;
        let mut values = Vec::with_capacity(map.width());
        let mut bytes = 0;
        for index in 0..count {
            let mut count = |_, key: &[u8], value: &[u8]| bytes += (key.len() + value.len()) as u64;
            values.clear();
            reader.record(index, &mut values);
            let _ = map.encode(&values, part.row_id_base, &mut count);
            sample.rows += 1;
        }
        sample.kv_bytes += bytes;
        sample.source_bytes += reader.offset() - start;
    }
    Ok(sample)
}

/// What the first row of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// There is one.
    pub has_rows: bool,
    /// Its pairs depend on its number: the table has hidden row ids, or an automatic column is not given.
    pub numbered: bool,
}

/// Reads the first row of `source`, whose fields are `columns` unless it names them itself; none = in table order.
/// A row that cannot be read, or not be encoded, counts as one that needs a number.
///
/// # Errors
/// When the file cannot be read or the table cannot be encoded at all.
pub fn look(
    info: &TableInfo,
    session: &Session,
    source: &Arc<dyn ByteSource>,
    format: &SourceFormat,
    columns: &[String],
) -> Result<Look> {
    let mut look = Look {
        has_rows: true,
        numbered: true,
    };
    let mut reader = open_records(source, &Chunk::whole(), format)?;
    match reader.advance() {
        Ok(count) => look.has_rows = count > 0,
        Err(error @ (SourceError::Io { .. } | SourceError::Truncated { .. })) => {
            return Err(error.into());
        }
        Err(_) => return Ok(look),
    }
    if look.has_rows {
        let given = (!columns.is_empty()).then_some(columns);
        let names = reader.columns().map(|names| &names[..]).or(given);
        let mut map = RowMap::compile(info, session, names, &format.fields)?;
        let mut values = Vec::new();
        reader.record(0, &mut values);
        let first = pairs(&mut map, &values, 1);
        look.numbered = first.is_none() || first != pairs(&mut map, &values, 2);
    }
    Ok(look)
}

/// What a row with this number becomes.
fn pairs(map: &mut RowMap, values: &[Value<'_>], number: i64) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = Vec::new();
    let mut keep = |_, key: &[u8], value: &[u8]| pairs.push((key.to_vec(), value.to_vec()));
    map.encode(values, number, &mut keep).ok()?;
    Some(pairs)
}
