//! Rows by their number in source order: how a pair in a run carries it, and the set of rows that are left out.

use super::paged::Paged;
use crate::sort::{Ledger, PairFilter, PairStream, RunFile, SortError};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind, KeyRange};

/// Bytes of a row's number behind a value, big-endian. Enough for as many rows as a source of 256 TB can have,
/// and two bytes less to sort, compress and read than a whole word.
pub(crate) const NUMBER_BYTES: usize = 6;
const NUMBER_MAX: u64 = (1 << (8 * NUMBER_BYTES)) - 1;

/// A row's number as it lies behind a value.
pub(crate) fn number_bytes(row: u64) -> Result<[u8; NUMBER_BYTES], Error> {
    if row > NUMBER_MAX {
        return Err(
            Error::new(ErrorKind::Precheck, "", "more rows than can be numbered")
                .advice("split the source into several jobs, or set conflict.strategy = \"none\""),
        );
    }
    let mut bytes = [0; NUMBER_BYTES];
    bytes.copy_from_slice(&row.to_be_bytes()[8 - NUMBER_BYTES..]);
    Ok(bytes)
}

/// The value itself and the number of its row.
#[inline]
pub(crate) fn split_number(value: &[u8]) -> Result<(&[u8], u64), SortError> {
    let Some((value, number)) = value.split_last_chunk::<NUMBER_BYTES>() else {
        return Err(bug("a pair without the number of its row").into());
    };
    let mut bytes = [0; 8];
    bytes[8 - NUMBER_BYTES..].copy_from_slice(number);
    Ok((value, u64::from_be_bytes(bytes)))
}

fn bug(cause: &str) -> Error {
    Error::new(ErrorKind::Internal, "conflicts", cause).advice("this is a bug; please report it")
}

/// A set of rows that fits into its memory: the rows in order if they are few, a bit for each row of the table
/// if that is less, and a bit for each row in a file if it is not.
enum Set {
    Listed(Vec<u64>),
    Bits(Vec<u64>),
    Paged(Mutex<Paged>),
}

/// Rows that are left out.
pub(crate) struct RowSet {
    set: Set,
    rows_end: u64,
}

impl RowSet {
    /// The `count` rows whose numbers are the keys of `run`.
    pub(crate) fn load(
        run: &Arc<RunFile>,
        count: u64,
        memory_bytes: usize,
        scratch_dir: &Path,
        ledger: &Arc<Ledger>,
    ) -> Result<RowSet, SortError> {
        let memory = memory_bytes as u64;
        let rows_end = match run.is_empty() {
            true => 0,
            false => row_of(run.upper())? + 1,
        };
        let bytes = rows_end.div_ceil(64) * 8;
        let mut set = if bytes <= memory {
            Set::Bits(vec![0; (bytes / 8) as usize])
        } else if count * 8 <= memory {
            Set::Listed(Vec::with_capacity(count as usize))
        } else {
            let paged = Paged::new(bytes, memory_bytes, scratch_dir, ledger);
            Set::Paged(Mutex::new(paged))
        };
        let mut rows = run.cursor(&KeyRange::default());
        while rows.advance()? {
            let row = row_of(rows.key())?;
            match &mut set {
                Set::Listed(list) => list.push(row),
                Set::Bits(words) => words[(row / 64) as usize] |= 1 << (row % 64),
                Set::Paged(paged) => drop(paged.get_mut().set_bit(row)?),
            }
        }
        Ok(RowSet { set, rows_end })
    }

    #[inline]
    pub(crate) fn contains(&self, row: u64) -> Result<bool, SortError> {
        if row >= self.rows_end {
            return Ok(false);
        }
        Ok(match &self.set {
            Set::Bits(words) => words[(row / 64) as usize] >> (row % 64) & 1 == 1,
            Set::Listed(list) => list.binary_search(&row).is_ok(),
            Set::Paged(paged) => paged.lock().bit(row)?,
        })
    }
}

/// A row's number as a key of a run.
pub(crate) fn row_of(key: &[u8]) -> Result<u64, SortError> {
    match key.first_chunk::<8>() {
        Some(bytes) => Ok(u64::from_be_bytes(*bytes)),
        None => Err(bug("a participant without its row").into()),
    }
}

/// Takes the number off every value, and the pairs of some rows out of the stream.
pub(crate) struct WithoutRows(pub(crate) Option<Arc<RowSet>>);

impl PairFilter for WithoutRows {
    #[inline]
    fn value<'v>(&self, value: &'v [u8]) -> Result<(&'v [u8], bool), SortError> {
        let (value, row) = split_number(value)?;
        let lost = match &self.0 {
            Some(rows) => rows.contains(row)?,
            None => false,
        };
        Ok((value, !lost))
    }
}

/// Leaves only the pairs of some rows in the stream.
pub(crate) struct OnlyRows(pub(crate) Arc<RowSet>);

impl PairFilter for OnlyRows {
    fn value<'v>(&self, value: &'v [u8]) -> Result<(&'v [u8], bool), SortError> {
        let (value, row) = split_number(value)?;
        Ok((value, self.0.contains(row)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sort::RunWriter;

    #[test]
    fn a_number_comes_back_from_behind_its_value() {
        for row in [0, 1, 255, 1 << 33, NUMBER_MAX] {
            let stored = [b"value".as_slice(), &number_bytes(row).unwrap()].concat();
            assert_eq!(split_number(&stored).unwrap(), (&b"value"[..], row));
        }
        assert!(number_bytes(NUMBER_MAX + 1).is_err());
        assert!(split_number(b"short").is_err());
    }

    #[test]
    fn every_form_of_the_set_holds_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 0).unwrap());
        let path = dir.path().join("rows.run");
        let rows: Vec<u64> = (0..5000u64).map(|n| n * n % 700_000).collect();
        let mut rows = rows;
        rows.sort_unstable();
        rows.dedup();
        let mut writer = RunWriter::create(&path, &ledger).unwrap();
        for row in &rows {
            writer.add(&row.to_be_bytes(), b"").unwrap();
        }
        writer.finish().unwrap();
        let run = Arc::new(RunFile::open(&path, &KeyRange::default()).unwrap());
        for memory in [1 << 20, 60_000, 16 << 10] {
            let set = RowSet::load(&run, rows.len() as u64, memory, dir.path(), &ledger).unwrap();
            for row in 0..700_100 {
                let held = rows.binary_search(&row).is_ok();
                assert_eq!(set.contains(row).unwrap(), held, "{row} {memory}");
            }
        }
    }
}
