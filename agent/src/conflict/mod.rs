//! Conflicts: rows that share a primary or unique key. Found exactly, over all agents and files, before anything
//! is written, and settled in source order.
//!
//! ```text
//! encode: every pair carries its row's number (rows)
//!   ▼ one task a range of the unique keys: neighbours with equal keys and different values (detect)
//! participants: sorted by row, then group
//!   ▼ one task a table: who stays (resolve), what is told of it (records)
//! losers: the numbers of the rows that are left out, a run like any other
//!   ▼ every ingest task leaves their pairs out (rows)
//! ```
//! A table without conflicts costs a number for each pair and one more merge of its unique keys where runs
//! overlap. Owns no policy beyond the decision itself: budgets and tables of records are the coordinator's.

mod detect;
mod paged;
mod records;
mod resolve;
mod rows;

use crate::existing::Reader;
use crate::held;
use crate::inputs::{Failed, Inputs};
use crate::peers::blocks_ahead;
use crate::sort::{
    Ledger, MergedRuns, PairFilter, PairStream, RunFile, RunWriter, SortBuffer, SortError,
    run_message,
};
use crate::tasks::on_thread;
use crate::worker::Shared;
use resolve::{Room, settle};
use rows::{OnlyRows, RowSet, WithoutRows, row_of};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thunderhead_proto::thunderhead::{
    self as wire, ConflictReport, ConflictTask, IndexConflicts, Manifest, RemoteRun, TableSpec,
};
use thunderhead_types::{Epoch, Error, ErrorKind, KeyRange, Result, Timestamp, fail_point};
use tokio_util::sync::CancellationToken;

/// Part of the agent's memory for one buffer of participants, and for each table that a decision needs.
const MEMORY_SHARE: f64 = 0.06;

/// What becomes of rows that share a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// All of them are told of, the first pair of each key stays.
    Record,
    /// None of them stays.
    Remove,
    /// They end the job.
    Error,
    /// The last in source order stays.
    Replace,
    /// The first in source order stays.
    Ignore,
}

/// The table's strategy; `None` when nobody looks for conflicts.
pub(crate) fn strategy(spec: &TableSpec) -> Result<Option<Strategy>> {
    let Some(conflict) = &spec.conflict else {
        return Ok(None);
    };
    Ok(Some(match conflict.strategy.as_str() {
        "record" => Strategy::Record,
        "remove" => Strategy::Remove,
        "error" => Strategy::Error,
        "replace" => Strategy::Replace,
        "ignore" => Strategy::Ignore,
        other => return Err(bug(format!("unknown strategy {other:?}"))),
    }))
}

/// Takes some rows out of a merge.
pub(crate) fn without(rows: Arc<RowSet>) -> Arc<dyn PairFilter> {
    Arc::new(WithoutRows(rows))
}

/// Takes all but some rows out of a merge.
pub(crate) fn only(rows: Arc<RowSet>) -> Arc<dyn PairFilter> {
    Arc::new(OnlyRows(rows))
}

fn bug(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "conflicts", cause).advice("this is a bug; please report it")
}

/// Runs a task of either kind. A failed attempt leaves nothing on disk.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    task: ConflictTask,
    epoch: Epoch,
    cancel: CancellationToken,
) -> Result<ConflictReport, Failed> {
    let spec = task.table.clone().ok_or_else(|| bug("no table"))?;
    let strategy = strategy(&spec)?.ok_or_else(|| bug("no strategy"))?;
    let range = task.range.clone().unwrap_or_default();
    let range = KeyRange::new(range.start, range.end);
    let inputs = Inputs {
        run_paths: task.run_paths.clone(),
        remote_runs: task.remote_runs.clone(),
    };
    let merged = inputs.merge(shared, &range, None).await?;
    let resolves = task.resolve.as_ref();
    let reads_table = resolves.is_some_and(|r| r.chunks.iter().any(|c| c.existing.is_some()));
    let cluster = match reads_table {
        true => Some(Reader::open(shared, &spec).await?),
        false => None,
    };
    let work = {
        let shared = Arc::clone(shared);
        move || {
            let attempt = (task.task_id, task.attempt);
            let dir = shared
                .attempts
                .create(&shared.ledger, attempt, &spec.job_id, epoch)?;
            let work = Work {
                shared: &shared,
                dir: &dir,
                cancel: &cancel,
                cluster: cluster.as_ref(),
            };
            let result = match &task.resolve {
                None => work.detect(&merged, task.number),
                Some(resolve) => work.resolve(&merged, strategy, &spec, resolve),
            };
            let result = result.and_then(|report| work.publish(report));
            if result.is_err()
                && let Err(error) = shared.ledger.remove_dir(&dir)
            {
                tracing::warn!(%error, "the runs of a failed attempt stay on disk");
            }
            result
        }
    };
    on_thread("conflicts", work)
        .await
        .map_err(|error| inputs.lost_or(error))
}

struct Work<'a> {
    shared: &'a Arc<Shared>,
    dir: &'a Path,
    cancel: &'a CancellationToken,
    /// Where existing rows are read again.
    cluster: Option<&'a Reader>,
}

impl Work<'_> {
    fn memory_bytes(&self) -> usize {
        (self.shared.config.memory_bytes as f64 * MEMORY_SHARE) as usize
    }

    fn cancelled(&self) -> Result<(), SortError> {
        match self.cancel.is_cancelled() {
            true => {
                let stopped = Error::new(ErrorKind::Cancelled, "", "stopped on request");
                Err(SortError::Conflict(stopped))
            }
            false => Ok(()),
        }
    }

    /// Finds the participants of one range.
    fn detect(&self, merged: &MergedRuns, number: u32) -> Result<ConflictReport> {
        let mut participants = Participants {
            dir: self.dir.to_owned(),
            ledger: Arc::clone(&self.shared.ledger),
            buffer: SortBuffer::new(self.memory_bytes()),
            runs: Vec::new(),
            number,
        };
        let found = detect::find(
            &mut merged.stream(),
            || self.cancelled(),
            |row, group, key| {
                fail_point("conflict-found");
                participants.add(row, group, key)
            },
        )?;
        let indexes = found.indexes.iter().map(|(index, counts)| IndexConflicts {
            index_id: *index,
            groups: counts.0,
            participants: counts.1,
        });
        Ok(ConflictReport {
            indexes: indexes.collect(),
            part: Some(wire::ConflictPart {
                groups: found.groups,
                void_groups: found.void.clone(),
            }),
            runs: participants.finish()?,
            ..ConflictReport::default()
        })
    }

    /// Decides over all participants of a table.
    fn resolve(
        &self,
        merged: &MergedRuns,
        strategy: Strategy,
        spec: &TableSpec,
        resolve: &wire::ResolveSpec,
    ) -> Result<ConflictReport> {
        let parts = Parts::new(&resolve.parts);
        let scratch_dir = held::scratch_dir(&self.shared.config.sort_dir);
        let room = Room {
            memory_bytes: self.memory_bytes(),
            scratch_dir: &scratch_dir,
            ledger: &self.shared.ledger,
        };
        let mut stream = merged.stream();
        let mut participations = 0u64;
        while stream.advance()? {
            participations += 1;
        }
        let mut stream = merged.stream();
        let next = || {
            loop {
                if !stream.advance()? {
                    return Ok(None);
                }
                let (row, group) = parts.read(stream.key())?;
                if let Some(group) = group {
                    return Ok(Some((row, group)));
                }
            }
        };
        let mut lost = settle(strategy, parts.groups, participations, next, &room)?;

        let mut chosen = records::Chooser::new(resolve.records_max);
        let mut losers = RunWriter::create(&self.dir.join("losers.run"), &self.shared.ledger)?;
        let mut stream = merged.stream();
        let (mut place, mut last, mut loses) = (0, None, false);
        while stream.advance()? {
            let (row, group) = parts.read(stream.key())?;
            let Some(group) = group else { continue };
            if last != Some(row) {
                last = Some(row);
                loses = lost.contains(place)?;
                place += 1;
                if loses {
                    losers.add(&row.to_be_bytes(), &[])?;
                }
                self.cancelled()?;
            }
            chosen.offer(row, group, stream.value(), loses);
        }
        let losers = losers.finish()?;
        fail_point("settled");
        let described = records::Describe {
            spec,
            cluster: self.cluster,
            cancel: self.cancel,
        };
        let records = described.all(&resolve.chunks, chosen.finish())?;
        Ok(ConflictReport {
            runs: vec![run_message(&losers)],
            rows: lost.rows,
            losers: lost.count,
            records,
            ..ConflictReport::default()
        })
    }

    /// Makes the attempt complete.
    fn publish(&self, report: ConflictReport) -> Result<ConflictReport> {
        let name = self.dir.file_name().unwrap_or_default();
        let report = ConflictReport {
            agent_id: self.shared.config.id.clone(),
            attempt_dir: name.to_string_lossy().into_owned(),
            ..report
        };
        let manifest = Manifest {
            runs: report.runs.clone(),
            agent_id: report.agent_id.clone(),
            attempt_dir: report.attempt_dir.clone(),
            ..Manifest::default()
        };
        held::publish(self.dir, &manifest)?;
        Ok(report)
    }
}

/// Collects participants as pairs: row ‖ range ‖ group, all big-endian → the shared key.
struct Participants {
    dir: PathBuf,
    ledger: Arc<Ledger>,
    buffer: SortBuffer,
    runs: Vec<wire::Run>,
    number: u32,
}

const PARTICIPANT_BYTES: usize = 20;

impl Participants {
    fn add(&mut self, row: u64, group: u64, shared_key: &[u8]) -> Result<(), SortError> {
        let mut key = [0; PARTICIPANT_BYTES];
        key[..8].copy_from_slice(&row.to_be_bytes());
        key[8..12].copy_from_slice(&self.number.to_be_bytes());
        key[12..].copy_from_slice(&group.to_be_bytes());
        if self.buffer.push(&key, shared_key) {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> Result<(), SortError> {
        let path = self.dir.join(format!("rows-{:04}.run", self.runs.len()));
        let meta = self.buffer.spill(&path, &self.ledger)?;
        self.runs.push(run_message(&meta));
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<wire::Run>, SortError> {
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        Ok(self.runs)
    }
}

/// Groups are numbered within their range; here they get one number over all ranges of the table.
struct Parts {
    bases: Vec<u64>,
    groups: u64,
    void: HashSet<u64>,
}

impl Parts {
    fn new(parts: &[wire::ConflictPart]) -> Self {
        let (mut bases, mut groups, mut void) = (Vec::new(), 0, HashSet::new());
        for part in parts {
            void.extend(part.void_groups.iter().map(|group| groups + group));
            bases.push(groups);
            groups += part.groups;
        }
        Self {
            bases,
            groups,
            void,
        }
    }

    /// The row of a participant and its group, unless that is void.
    fn read(&self, key: &[u8]) -> Result<(u64, Option<u64>), SortError> {
        let row = row_of(key)?;
        let rest = key.get(8..).and_then(|rest| rest.split_first_chunk::<4>());
        let group = rest.and_then(|(number, group)| {
            let base = self.bases.get(u32::from_be_bytes(*number) as usize)?;
            Some(base + u64::from_be_bytes(*group.first_chunk::<8>()?))
        });
        match group {
            Some(group) if group < self.groups => {
                Ok((row, (!self.void.contains(&group)).then_some(group)))
            }
            _ => Err(bug("a participant of no range").into()),
        }
    }
}

/// Tables whose losers are kept in memory at a time.
const LOSERS_KEPT: usize = 2;

/// The losers of the tables in hand, each loaded once for all its ranges.
#[derive(Default)]
pub(crate) struct Losers(tokio::sync::Mutex<HashMap<LosersOf, Arc<RowSet>>>);

/// The commit_ts of the plan, because a job that is submitted again has runs of the same names; and the run.
type LosersOf = (Timestamp, String);

impl Losers {
    /// The set that `run` holds; its numbers come from another agent where they lie there.
    pub(crate) async fn open(
        &self,
        shared: &Arc<Shared>,
        spec: &TableSpec,
        run: &RemoteRun,
    ) -> Result<Arc<RowSet>, Failed> {
        let mut kept = self.0.lock().await;
        let key = (spec.commit_ts, run.path.clone());
        if let Some(set) = kept.get(&key) {
            return Ok(Arc::clone(set));
        }
        let all = KeyRange::default();
        let inputs = Inputs {
            remote_runs: vec![run.clone()],
            ..Inputs::default()
        };
        let memory = (shared.config.memory_bytes as f64 * MEMORY_SHARE) as usize;
        let file = if run.agent_id == shared.config.id {
            RunFile::open(Path::new(&run.path), &all)
        } else {
            let ahead = blocks_ahead(memory, 1);
            shared.peers.open(run, &all, ahead).await
        };
        let file = Arc::new(file.map_err(|error| inputs.lost_or(error.into()))?);
        let load = {
            let shared = Arc::clone(shared);
            move || {
                let count = file.blocks().iter().map(|b| u64::from(b.pairs)).sum();
                let scratch_dir = held::scratch_dir(&shared.config.sort_dir);
                let set = RowSet::load(&file, count, memory, &scratch_dir, &shared.ledger)?;
                Ok(Arc::new(set))
            }
        };
        let set = on_thread("losers", load)
            .await
            .map_err(|error| inputs.lost_or(error))?;
        if kept.len() >= LOSERS_KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&set));
        Ok(set)
    }
}
