//! Rows by their number in source order: the set of those that are left out.

use super::paged::Paged;
use crate::sort::{Ledger, PairFilter, PairStream, RunFile, SortError};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind, KeyRange};

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

/// Leaves the pairs of some rows out.
pub(crate) struct WithoutRows(pub(crate) Arc<RowSet>);

impl PairFilter for WithoutRows {
    #[inline]
    fn keeps(&self, row: Option<u64>) -> Result<bool, SortError> {
        Ok(!self.0.contains(numbered(row)?)?)
    }
}

/// Leaves only the pairs of some rows in the stream.
pub(crate) struct OnlyRows(pub(crate) Arc<RowSet>);

impl PairFilter for OnlyRows {
    fn keeps(&self, row: Option<u64>) -> Result<bool, SortError> {
        self.0.contains(numbered(row)?)
    }
}

/// The number of a row, which every pair has where somebody looks for conflicts.
#[inline]
pub(crate) fn numbered(row: Option<u64>) -> Result<u64, SortError> {
    row.ok_or_else(|| bug("a pair without the number of its row").into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sort::RunWriter;

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
