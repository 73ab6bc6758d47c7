//! Runs that are also kept in an object store, so that the death of an agent with its disk costs nothing but reading
//! from elsewhere: nothing is encoded again. A run is written there whole after it is on the agent's own disk, before
//! its manifest says so, and read by whoever needs it when the agent is gone.
//!
//! ```text
//! RUN_STORE/JOB/TASK-EPOCH-ATTEMPT/NAME.run
//! ```

use crate::sort::{BlockMeta, BlockStream, RemoteBlocks, RunFile, SortError};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use thunderhead_proto::thunderhead::Run;
use thunderhead_source::store::Shelf;
use thunderhead_types::{Error, ErrorKind, KeyRange, Result};

/// Blocks of one request: a request takes tens of milliseconds, whatever it brings.
const BLOCKS_A_REQUEST: usize = 16;

/// See the module.
#[derive(Clone, Debug)]
pub struct RunStore(Shelf);

/// The name of a run from its path on the agent that made it.
fn name_of(path: &str) -> Option<String> {
    let mut parts = path.rsplitn(4, '/');
    let (name, attempt, job) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{job}/{attempt}/{name}"))
}

impl RunStore {
    /// The store at `uri`.
    ///
    /// # Errors
    /// `Config`, when it names no store that can be written to. What is wrong is said without the URI's query.
    pub fn open(uri: &str) -> Result<Self> {
        let wrong = |e| {
            Error::new(ErrorKind::Config, "--run-store", e)
                .advice("such as s3://bucket/prefix; docs/stores.md says what a URI may hold")
        };
        Shelf::open(uri).map(Self).map_err(wrong)
    }

    /// Keeps finished runs.
    pub(crate) fn keep(&self, runs: &[Run]) -> io::Result<()> {
        for run in runs {
            let name = name_of(&run.path).ok_or(io::ErrorKind::InvalidInput)?;
            self.0.put(&name, Path::new(&run.path))?;
        }
        Ok(())
    }

    /// Deletes what is kept of a job: `names` of runs, or everything.
    pub(crate) fn forget(&self, job: &str, names: Option<&[String]>) {
        let forgotten = match names {
            None => self.0.delete_below(job),
            Some(names) => names.iter().try_for_each(|name| self.0.delete(name)),
        };
        if let Err(error) = forgotten {
            tracing::warn!(%error, job, "runs that are no longer needed stay in the run store");
        }
    }

    /// Opens the part of a run that may hold keys of `range`.
    pub(crate) fn open_run(&self, path: &str, range: &KeyRange) -> Result<RunFile, SortError> {
        let place = Path::new(path);
        let failed = SortError::io(place, "read the run in the run store");
        let name = name_of(path).unwrap_or_default();
        let len = self.0.size(&name).map_err(failed)?;
        let read = |target: &mut [u8], offset: u64| {
            let bytes = self.0.read(&name, offset..offset + target.len() as u64)?;
            target.copy_from_slice(&bytes);
            Ok(())
        };
        RunFile::stored(place, range, len, read, |blocks, first| {
            Arc::new(self.blocks(path, blocks, first))
        })
    }

    /// The blocks of a run from number `first` on.
    pub(crate) fn blocks(&self, path: &str, blocks: &[BlockMeta], first: u32) -> StoredBlocks {
        StoredBlocks {
            store: self.clone(),
            path: path.to_owned(),
            first,
            places: blocks
                .iter()
                .map(|block| (block.offset, block.stored_len))
                .collect(),
        }
    }
}

/// Blocks of a run in the store.
#[derive(Clone)]
pub(crate) struct StoredBlocks {
    store: RunStore,
    path: String,
    /// Number of the first of `places`.
    first: u32,
    /// Offset and length in the file.
    places: Arc<[(u64, u32)]>,
}

impl RemoteBlocks for StoredBlocks {
    fn open(&self, first: u32, end: u32) -> Box<dyn BlockStream> {
        Box::new(StoredStream {
            blocks: self.clone(),
            next: first.saturating_sub(self.first) as usize,
            end: end.saturating_sub(self.first) as usize,
            ready: VecDeque::new(),
        })
    }

    fn ahead(&self) -> usize {
        BLOCKS_A_REQUEST
    }
}

struct StoredStream {
    blocks: StoredBlocks,
    next: usize,
    end: usize,
    ready: VecDeque<Bytes>,
}

impl BlockStream for StoredStream {
    fn next_block(&mut self) -> Result<Bytes, SortError> {
        if self.ready.is_empty() {
            self.fetch().map_err(SortError::io(
                Path::new(&self.blocks.path),
                "read the run in the run store",
            ))?;
        }
        self.ready.pop_front().ok_or_else(|| {
            SortError::io(Path::new(&self.blocks.path), "read past the run")(
                io::ErrorKind::UnexpectedEof.into(),
            )
        })
    }
}

impl StoredStream {
    /// The next blocks, which lie one behind the other, in one request.
    fn fetch(&mut self) -> io::Result<()> {
        let end = self.end.min(self.next + BLOCKS_A_REQUEST);
        let wanted = self.blocks.places.get(self.next..end).unwrap_or_default();
        let (Some((start, _)), Some((last, len))) = (wanted.first(), wanted.last()) else {
            return Ok(());
        };
        let name = name_of(&self.blocks.path).unwrap_or_default();
        let span = *start..last + u64::from(*len);
        let mut data = self.blocks.store.0.read(&name, span)?;
        for (_, len) in wanted {
            self.ready.push_back(data.split_to(*len as usize));
        }
        self.next = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_job_attempt_and_file_wherever_it_was_made() {
        let name = name_of("/any/sort/dir/runs/job/1-2-3/index-0001.run");
        assert_eq!(name.as_deref(), Some("job/1-2-3/index-0001.run"));
        assert_eq!(name_of("index-0001.run"), None);
    }

    #[test]
    fn a_web_server_is_no_run_store() {
        assert!(RunStore::open("https://host/dir").is_err());
        assert!(RunStore::open("/a/directory").is_err());
    }
}
