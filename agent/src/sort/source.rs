//! The runs of a range as a source that the ingest can open at any key, as often as it needs. Owns the
//! number of runs that are merged at a time: it comes from a memory budget, and runs beyond it are first
//! merged to fewer ones on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thunderhead_cluster::{PairBatch, PairReader, PairSource};
use thunderhead_types::{KeyRange, Result as CheckedResult};

use super::dedup::{ConflictHook, Dedup, DuplicateCounts, Duplicates};
use super::error::Result;
use super::ledger::Ledger;
use super::merge::{Chain, Merge, chains};
use super::reader::{PairStream, RunFile};
use super::writer::RunWriter;

/// What a merge may use.
#[derive(Clone, Debug)]
pub struct MergeBudget {
    /// Bytes of block buffers of one open reader; two runs are merged even if that is too little.
    pub memory_bytes: usize,
    /// Where runs go that had to be merged first.
    pub scratch_dir: PathBuf,
}

/// Decides by their rows which pairs are left out.
pub trait PairFilter: Send + Sync {
    /// Whether the pairs of the row go on.
    fn keeps(&self, row: Option<u64>) -> Result<bool>;
}

/// The merged pairs of a range of runs, without duplicates.
pub struct MergedRuns {
    range: KeyRange,
    chains: Vec<Chain>,
    counts: Arc<DuplicateCounts>,
    filter: Option<Arc<dyn PairFilter>>,
    /// Deletes the runs that were merged first, after the last reader.
    scratch: Arc<Vec<Scratch>>,
}

impl MergedRuns {
    /// Merges the part of the runs at `paths` that lies in `range`. The order of the paths decides which
    /// one of equal keys comes first.
    pub fn open(
        paths: &[PathBuf],
        range: &KeyRange,
        budget: &MergeBudget,
        ledger: &Arc<Ledger>,
        hook: Option<Arc<dyn ConflictHook>>,
    ) -> Result<MergedRuns> {
        let runs = paths.iter().map(|path| RunFile::open(path, range));
        Self::merge(runs.collect::<Result<_>>()?, range, budget, ledger, hook)
    }

    /// Like [`MergedRuns::open`], of runs that may lie elsewhere, each opened for `range`.
    pub fn merge(
        runs: Vec<RunFile>,
        range: &KeyRange,
        budget: &MergeBudget,
        ledger: &Arc<Ledger>,
        hook: Option<Arc<dyn ConflictHook>>,
    ) -> Result<MergedRuns> {
        let mut runs: Vec<Arc<RunFile>> = runs
            .into_iter()
            .filter(|run| !run.is_empty())
            .map(Arc::new)
            .collect();
        let mut scratch = Vec::new();
        while chains_bytes(&chains(&runs)) > budget.memory_bytes && chains(&runs).len() > 2 {
            runs = merge_pass(runs, range, budget, ledger, &mut scratch)?;
        }
        Ok(MergedRuns {
            range: range.clone(),
            chains: chains(&runs),
            counts: Arc::new(DuplicateCounts::new(hook)),
            filter: None,
            scratch: Arc::new(scratch),
        })
    }

    /// Lets every pair through `filter` before it is compared with its neighbour.
    #[must_use]
    pub fn filtered(mut self, filter: Option<Arc<dyn PairFilter>>) -> MergedRuns {
        self.filter = filter;
        self
    }

    /// All pairs of the range as the runs hold them.
    pub fn stream(&self) -> Merge {
        Merge::of_chains(&self.chains, &self.range)
    }

    /// What was taken out of the pairs that were read so far, each pair counted once.
    pub fn duplicates(&self) -> Duplicates {
        self.counts.total()
    }

    /// Number of sources that are compared with each other.
    pub fn ways(&self) -> usize {
        self.chains.len()
    }

    /// Bytes of block buffers that each open reader uses.
    pub fn reader_bytes(&self) -> usize {
        chains_bytes(&self.chains)
    }
}

impl PairSource for MergedRuns {
    fn open(&self, range: &KeyRange) -> CheckedResult<Box<dyn PairReader>> {
        let range = self.range.intersect(range);
        let merge = match &range {
            Some(range) => Merge::of_chains(&self.chains, range),
            None => Merge::of_chains(&[], &KeyRange::default()),
        };
        let range = range.unwrap_or_default();
        Ok(Box::new(MergedReader {
            dedup: Dedup::new(Arc::clone(&self.counts), &range.start),
            end: range.end,
            filter: self.filter.clone(),
            merge,
            pending: false,
            ended: false,
            _scratch: Arc::clone(&self.scratch),
        }))
    }
}

struct MergedReader {
    merge: Merge,
    filter: Option<Arc<dyn PairFilter>>,
    dedup: Dedup,
    end: Vec<u8>,
    /// The merge stands at a pair that no batch holds yet.
    pending: bool,
    ended: bool,
    _scratch: Arc<Vec<Scratch>>,
}

impl PairReader for MergedReader {
    /// Equal keys never fall into two batches: a batch ends before a greater key.
    fn next_batch(&mut self, batch: &mut PairBatch) -> CheckedResult<bool> {
        batch.clear();
        while !self.ended {
            if !std::mem::take(&mut self.pending) && !self.merge.advance()? {
                self.ended = true;
                self.dedup.looked_at(&self.end);
                break;
            }
            let (key, value) = (self.merge.key(), self.merge.value());
            if let Some(filter) = &self.filter
                && !filter.keeps(self.merge.row())?
            {
                self.dedup.leave_out(key, value);
                continue;
            }
            match batch.len().checked_sub(1).and_then(|last| batch.get(last)) {
                Some((kept_key, kept)) if kept_key == key => {
                    self.dedup.drop_pair(key, kept, value)?
                }
                _ if batch.is_full() => {
                    self.pending = true;
                    self.dedup.looked_at(key);
                    break;
                }
                _ => batch.push(key, value),
            }
        }
        Ok(!batch.is_empty())
    }
}

/// Scratch runs of this process so far.
static SCRATCH_RUNS: AtomicU64 = AtomicU64::new(0);

/// A run that was only made to be merged again.
struct Scratch {
    path: PathBuf,
    bytes: u64,
    ledger: Arc<Ledger>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in the scratch directory, which is removed as a whole when the task ends.
        let _ = fs::remove_file(&self.path);
        self.ledger.release(self.bytes);
    }
}

/// Merges neighbours to as few runs as the memory allows. Only runs that follow one another are
/// merged, so that their order, and with it the order of equal keys, stays.
fn merge_pass(
    runs: Vec<Arc<RunFile>>,
    range: &KeyRange,
    budget: &MergeBudget,
    ledger: &Arc<Ledger>,
    scratch: &mut Vec<Scratch>,
) -> Result<Vec<Arc<RunFile>>> {
    let mut merged = Vec::new();
    let mut rest = runs.as_slice();
    while !rest.is_empty() {
        let take = most_within(rest, budget.memory_bytes);
        let (group, others) = rest.split_at(take);
        rest = others;
        if let [single] = group {
            merged.push(Arc::clone(single));
            continue;
        }
        // Several sources may use the directory at the same time.
        let number = SCRATCH_RUNS.fetch_add(1, Ordering::Relaxed);
        let path = budget.scratch_dir.join(format!("merge-{number:06}.run"));
        scratch.push(merge_to(&path, group, range, ledger)?);
        merged.push(Arc::new(RunFile::open(&path, range)?));
    }
    Ok(merged)
}

/// How many of the first runs can be merged at a time: two, whatever they need, or as many more as fit. Looks at ever
/// larger numbers of them, since each look sorts what it looks at.
fn most_within(runs: &[Arc<RunFile>], memory_bytes: usize) -> usize {
    let fits = |count: usize| chains_bytes(&chains(&runs[..count])) <= memory_bytes;
    let (mut fit, mut beyond) = (runs.len().min(2), runs.len() + 1);
    while beyond - fit > 1 {
        let next = match beyond > runs.len() {
            true => (2 * fit).min(runs.len()),
            false => fit.midpoint(beyond),
        };
        match fits(next) {
            true => fit = next,
            false => beyond = next,
        }
    }
    fit
}

fn merge_to(
    path: &Path,
    runs: &[Arc<RunFile>],
    range: &KeyRange,
    ledger: &Arc<Ledger>,
) -> Result<Scratch> {
    let mut merge = Merge::new(runs, range);
    let mut writer = RunWriter::create(path, ledger)?;
    while merge.advance()? {
        writer.add_of_row(merge.key(), merge.value(), merge.row())?;
    }
    let bytes = writer.finish()?.file_bytes;
    Ok(Scratch {
        path: path.to_owned(),
        bytes,
        ledger: Arc::clone(ledger),
    })
}

/// Buffers of a merge: of each chain one run at a time is open.
fn chains_bytes(chains: &[Chain]) -> usize {
    chains
        .iter()
        .map(|chain| {
            chain
                .iter()
                .map(|(_, run)| run.cursor_bytes())
                .max()
                .unwrap_or(0)
        })
        .sum()
}
