//! One job under a leader: its recorded state and nothing else. It says which tasks are ready, records what
//! comes back and moves each table through its phases. The fleet's loop (`fleet`) owns agents, slots and time.
//!
//! A table's way, each step recorded (`leader/journal.rs`) before the next begins:
//! 1. its open chunks are encoded, every manifest is recorded, and then its refused rows (`leader/refused.rs`);
//! 2. where a strategy asks for it, conflicts are looked for and settled (`leader/conflicts.rs`);
//!    then ranges are planned and recorded together with phase `Ingesting`;
//! 3. the ranges' borders are split and scattered;
//! 4. its open ranges are ingested, every report is recorded;
//! 5. when no range is open and what was ingested equals what was encoded: phase `Ingested`;
//! 6. auto ids are rebased and the table verified as TiDB sees it: phase `Finished`, its runs are dropped.
//!
//! Tables do not wait for each other. A chunk whose runs are lost is encoded again, and only the ranges that
//! need it wait. A new leader enters at the step that the records say.

mod conflicts;
mod journal;
mod orders;
mod records;
mod refused;
mod tally;
mod whereabouts;

use crate::conflicts::Budget;
use crate::job::{self, Phase, Table, TaskRef};
use crate::plan::placement;
use crate::plan::ranges::{Blocks, plan_ranges};
use crate::plan::spans::{Span, spans};
use crate::progress::Progress;
use crate::scheduler::{SLOT, Scheduler, TaskKind, share_of_slot};
use crate::spread::{self, Sight};
use crate::store::{StateStore, TXN_OPS_MAX, Txn};
use async_trait::async_trait;
use journal::Journal;
use prost::Message;
use records::{Readers, reconcile};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use thunderhead_proto::thunderhead::{
    self as wire, ClusterSpec, Failure, coordinator_message::Body as Order,
};
use thunderhead_types::{Checksum, Epoch, Error, ErrorKind, KeyRange, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;
use whereabouts::Whereabouts;

pub use records::checksum;
pub(crate) use refused::rows_to_record as refused_rows_to_record;

/// What an agent has of a job: task id → the directory of its one attempt.
pub(crate) type Held = BTreeMap<u64, String>;

/// Attempts at one task before its failure is the job's.
const ATTEMPTS_MAX: u32 = 4;
/// Before the second attempt; doubled for each further one.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// What the leader needs done that is neither encoding nor ingesting.
#[async_trait]
pub trait Steps: Send + Sync {
    /// Key spaces of the table, one per physical table id, disjoint and ascending.
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>>;
    /// Bytes a range should hold.
    fn range_bytes_target(&self) -> u64;
    /// Makes every key of `borders` (raw, ascending) the start of a region and spreads the regions.
    async fn split(&self, table: &Table, borders: Vec<Vec<u8>>) -> Result<()>;
    /// Rebases auto ids and verifies the whole table against `ingested`.
    async fn finish(&self, table: &Table, ingested: Checksum) -> Result<()>;
    /// Key spaces in which two rows can have the same key, disjoint and ascending.
    fn unique_spaces(&self, _: &Table) -> Result<Vec<KeyRange>> {
        Ok(Vec::new())
    }
    /// What the job tolerates and records.
    fn conflict_budget(&self) -> Budget {
        Budget::default()
    }
    /// For messages: how the conflicts of the job are shown; empty when they are not recorded.
    fn where_to_read(&self, _job_id: &str) -> String {
        String::new()
    }
    /// Writes what was found in the table to where people read it. May be done again.
    async fn record_conflicts(&self, _job_id: &str, _: &Table) -> Result<()> {
        Ok(())
    }
    /// For messages: where refused rows are recorded; empty when they are not.
    fn where_refused(&self, _job_id: &str) -> String {
        String::new()
    }
    /// Writes the refused rows of the table to where people read them. May be done again.
    async fn record_refused(&self, _job_id: &str, _: &Table) -> Result<()> {
        Ok(())
    }
}

/// See the module.
pub struct Leader {
    store: Arc<dyn StateStore>,
    epoch: Epoch,
    job_id: String,
    cluster: ClusterSpec,
    pub(crate) tables: Vec<Table>,
    steps: Arc<dyn Steps>,
    pub(crate) scheduler: Scheduler,
    progress: Progress,
    pub(crate) stepping: JoinSet<(usize, Result<()>)>,
    journal: Journal,
    pub(crate) failure: Option<Error>,
    /// Tasks whose runs nobody needs any more, until the agents are told.
    pub(crate) unneeded: BTreeSet<u64>,
    /// Who holds which file, where that is not for everyone.
    pub(crate) sight: Option<Arc<Sight>>,
    /// Agents that may ingest, for the placement of ranges; kept by the fleet.
    pub(crate) agents: Vec<String>,
    /// Where the runs lay whose manifests are void; a chunk that is not here may hold any key.
    lost: BTreeMap<(usize, u64), Vec<Span>>,
    /// Agents whose runs cannot be read now.
    away: BTreeSet<String>,
    whereabouts: Whereabouts,
    /// What `ready` found since the last change.
    ready: BTreeMap<u64, bool>,
    /// Failures of each task that count.
    failures: BTreeMap<u64, u32>,
    /// Tasks done again, by cause.
    pub(crate) retries: BTreeMap<String, u64>,
    /// The store refused or is gone: nothing more may be done under this epoch.
    pub(crate) fenced: bool,
    /// When the first task of each table was handed out, for the report.
    started: Vec<Option<Instant>>,
    /// Tables whose refused rows are on their way to the tables of records.
    recording_refused: BTreeSet<usize>,
    tally: Tally,
}

impl Leader {
    /// A leader at `epoch` over the recorded state of a job.
    pub fn new(
        store: Arc<dyn StateStore>,
        epoch: Epoch,
        job_id: String,
        cluster: ClusterSpec,
        tables: Vec<Table>,
        steps: Arc<dyn Steps>,
        progress: Progress,
    ) -> Self {
        Self {
            store,
            epoch,
            job_id,
            cluster,
            started: vec![None; tables.len()],
            tally: Tally::of(&tables),
            whereabouts: Whereabouts::of(&tables),
            tables,
            steps,
            scheduler: Scheduler::default(),
            progress,
            stepping: JoinSet::new(),
            journal: Journal::default(),
            failure: None,
            unneeded: BTreeSet::new(),
            sight: None,
            agents: Vec::new(),
            lost: BTreeMap::new(),
            away: BTreeSet::new(),
            ready: BTreeMap::new(),
            failures: BTreeMap::new(),
            retries: BTreeMap::new(),
            fenced: false,
            recording_refused: BTreeSet::new(),
        }
    }

    /// Queues what the records say is open.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for table in 0..self.tables.len() {
            self.enter(table).await?;
        }
        Ok(())
    }

    /// Whether every table is finished.
    pub(crate) fn finished(&self) -> bool {
        self.tables
            .iter()
            .all(|t| t.record.phase == Phase::Finished)
    }

    /// Whether something is still being done for the job.
    pub(crate) fn busy(&self) -> bool {
        self.scheduler.in_flight() > 0 || !self.stepping.is_empty()
    }

    /// Queues what a table's recorded phase asks for.
    async fn enter(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        let open: Vec<u64> = table.open_chunks().collect();
        match table.record.phase {
            Phase::Encoding if !open.is_empty() => self.push_chunks(n, open),
            Phase::Encoding => self.chunk_encoded(n).await?,
            Phase::Detecting => {
                self.push_chunks(n, open);
                self.all_encoded_again(n).await?;
            }
            Phase::Ingesting => {
                self.push_chunks(n, open);
                self.start_split(n);
            }
            Phase::Ingested => self.start_finish(n)?,
            Phase::Finished => {}
        }
        Ok(())
    }

    fn push_chunks(&mut self, n: usize, numbers: Vec<u64>) {
        for number in numbers {
            let id = TaskRef::Chunk { table: n, number }.id();
            let (place, share) = (self.place_of(n, number).into_owned(), self.share(id));
            self.scheduler.push(TaskKind::Encode, &place, share, id);
        }
    }

    /// Where a chunk can be read: see [`crate::spread::reads`].
    pub(crate) fn place_of(&self, n: usize, number: u64) -> Cow<'_, str> {
        // Existing rows have no parts: they can be read by everyone.
        let parts = &self.tables[n].chunks[&number].parts;
        let paths = parts.iter().map(|part| part.path.as_str());
        spread::place_of(self.sight.as_deref(), paths)
    }

    /// How much of a slot a task takes.
    pub(crate) fn share(&self, task_id: u64) -> u32 {
        let task = TaskRef::from_id(task_id);
        let Some(table) = self.tables.get(task.table()) else {
            return SLOT;
        };
        match task {
            TaskRef::Chunk { number, .. } => {
                let chunk = table.chunks.get(&number);
                let chunk = chunk.filter(|chunk| chunk.existing.is_none());
                chunk.map_or(SLOT, |chunk| share_of_slot(job::chunk_bytes(chunk)))
            }
            TaskRef::Range { number, .. } => {
                let range = table.ranges.get(&number);
                range.map_or(SLOT, |(_, bytes)| share_of_slot(*bytes))
            }
            TaskRef::Conflict { .. } => SLOT,
        }
    }

    /// Other agents hold the files of the source now.
    pub(crate) fn see(&mut self, sight: Arc<Sight>) {
        self.sight = Some(sight);
        for task_id in self.scheduler.take_queue(TaskKind::Encode) {
            self.push_again(task_id);
        }
    }

    /// The order for an attempt. `address_of` knows where an agent serves its runs.
    pub(crate) fn order(
        &mut self,
        task_id: u64,
        attempt: u32,
        agent: &str,
        address_of: impl Fn(&str) -> String,
    ) -> Order {
        let task = TaskRef::from_id(task_id);
        let n = task.table();
        self.started[n].get_or_insert_with(Instant::now);
        match task {
            TaskRef::Chunk { table, number } => {
                Order::Encode(self.encode_task(table, number, attempt))
            }
            TaskRef::Range { table, number } => {
                Order::Ingest(self.ingest_task(table, number, attempt, agent, address_of))
            }
            TaskRef::Conflict { table, number } => {
                if number == TaskRef::SETTLE {
                    self.tables[table].detection.settling = true;
                    self.ready.clear();
                }
                Order::Conflict(self.conflict_task(table, number, attempt, address_of))
            }
        }
    }

    /// Whether the task is still to be done.
    pub(crate) fn is_open(&self, task_id: u64) -> bool {
        let task = TaskRef::from_id(task_id);
        let n = task.table();
        self.tables.get(n).is_some_and(|table| match task {
            TaskRef::Chunk { number, .. } => {
                table.chunks.contains_key(&number) && !table.manifests.contains_key(&number)
            }
            TaskRef::Range { number, .. } => {
                table.record.phase >= Phase::Ingesting
                    && table.ranges.contains_key(&number)
                    && !table.reports.contains_key(&number)
            }
            TaskRef::Conflict { number, .. } => self.conflict_is_open(n, number),
        })
    }

    /// Queues a task again whose attempt came to nothing.
    pub(crate) fn requeue(&mut self, task_id: u64, cause: &str) {
        *self.retries.entry(cause.to_owned()).or_default() += 1;
        self.push_again(task_id);
    }

    fn push_again(&mut self, task_id: u64) {
        if self.failure.is_some() || !self.is_open(task_id) {
            return;
        }
        match TaskRef::from_id(task_id) {
            TaskRef::Chunk { table, number } => self.push_chunks(table, vec![number]),
            TaskRef::Range { .. } | TaskRef::Conflict { .. } => {
                let share = self.share(task_id);
                self.scheduler.push(TaskKind::Ingest, "", share, task_id);
            }
        }
    }

    /// Manifests of `agent` that are neither among `held` nor in the run store are void; their chunks are open again.
    pub(crate) async fn forget_lost(&mut self, agent: &str, held: &Held) -> Result<()> {
        let is_held = |id, attempt: &str| held.get(&id).is_some_and(|held| held == attempt);
        let mut lost = Vec::new();
        let mut readers: Option<(usize, Readers)> = None;
        for (n, number) in self.whereabouts.held_by(agent) {
            let table = &self.tables[n];
            if table.record.phase >= Phase::Ingested {
                continue;
            }
            let Some(manifest) = table.manifests.get(&number).filter(|m| !m.stored) else {
                continue;
            };
            let id = TaskRef::Chunk { table: n, number }.id();
            if is_held(id, &manifest.attempt_dir) {
                continue;
            }
            // Tables come one after the other.
            if readers.as_ref().is_none_or(|(of, _)| *of != n) {
                readers = Some((n, Readers::of(table)));
            }
            if readers
                .as_ref()
                .is_some_and(|(_, readers)| readers.need(&manifest.runs))
            {
                lost.push(id);
            }
        }
        self.forget_manifests(&lost).await?;
        for (n, number) in self.lost_conflicts(agent, is_held) {
            self.forget_conflict(n, number).await?;
        }
        Ok(())
    }

    async fn forget_manifests(&mut self, chunk_ids: &[u64]) -> Result<()> {
        self.ready.clear();
        self.whereabouts.away_changed();
        let mut void = BTreeSet::new();
        for &id in chunk_ids {
            match TaskRef::from_id(id) {
                TaskRef::Chunk { table: n, number } => {
                    let table = self.tables.get(n);
                    if table.is_some_and(|table| table.manifests.contains_key(&number)) {
                        void.insert((n, number));
                    }
                }
                TaskRef::Conflict { table, number } => self.forget_conflict(table, number).await?,
                TaskRef::Range { .. } => {}
            }
        }
        // Many at a time: an agent may have had thousands, and the store takes a moment for each transaction.
        let void: Vec<_> = void.into_iter().collect();
        for some in void.chunks(TXN_OPS_MAX / 2) {
            let keys = some.iter();
            let keys = keys.map(|&(n, number)| job::item_key(&self.job_id, n, 'm', number));
            self.note(keys.fold(Txn::default(), Txn::delete)).await?;
            self.journal.fail_point("void");
            for &(n, number) in some {
                self.forget_manifest(n, number);
            }
        }
        Ok(())
    }

    fn forget_manifest(&mut self, n: usize, number: u64) {
        let Some(void) = self.tables[n].manifests.remove(&number) else {
            return;
        };
        self.tally.remove(&void, self.tables[n].is_existing(number));
        self.lost.insert((n, number), spans(&void.runs).collect());
        self.whereabouts.forgotten(&void.agent_id, n, number);
        self.requeue(TaskRef::Chunk { table: n, number }.id(), "runs lost");
    }

    /// Records a chunk's manifest. The chunk must be open.
    pub(crate) async fn encoded(&mut self, task_id: u64, manifest: wire::Manifest) -> Result<()> {
        let TaskRef::Chunk { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        let key = job::item_key(&self.job_id, n, 'm', number);
        let put = Txn::default().when(&key, 0);
        self.note(put.put(&key, manifest.encode_to_vec())).await?;
        self.journal.fail_point("record-manifest");
        self.journal.done("chunk", task_id);
        self.lost.remove(&(n, number));
        self.ready.clear();
        if self.away.contains(&manifest.agent_id) {
            self.whereabouts.away_changed();
        }
        let table = &mut self.tables[n];
        self.tally.add(&manifest, table.is_existing(number));
        self.whereabouts.encoded(&manifest.agent_id, n, number);
        table.manifests.insert(number, Arc::new(manifest));
        match table.record.phase {
            Phase::Encoding => self.chunk_encoded(n).await,
            Phase::Detecting => self.all_encoded_again(n).await,
            Phase::Ingesting => self.go_on_when_ingested(n).await,
            _ => Ok(()),
        }
    }

    async fn plan_ranges(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        let manifests = table.source_manifests();
        let blocks = Blocks::of(manifests.flat_map(|(_, manifest)| &manifest.runs));
        let target = self.steps.range_bytes_target();
        let mut ranges = BTreeMap::new();
        for space in self.steps.key_spaces(table)? {
            for planned in plan_ranges(&space, &blocks, target) {
                ranges.insert(ranges.len() as u64, (planned.range, planned.expected_bytes));
            }
        }
        if std::mem::take(&mut self.tables[n].half_planned) {
            let former = format!("{}/r/", job::table_key(&self.job_id, n));
            self.note(Txn::default().delete(former)).await?;
        }
        let mut txn = Txn::default();
        for (&number, (range, bytes)) in &ranges {
            if txn.puts.len() >= TXN_OPS_MAX {
                self.note(std::mem::take(&mut txn)).await?;
            }
            txn = job::put_range(txn, &self.job_id, n, number, range, *bytes);
        }
        self.tables[n].record.ranges = ranges.len() as u64;
        self.tables[n].ranges = ranges;
        self.tally.add_ranges(&self.tables[n]);
        self.enter_phase_with(txn, n, Phase::Ingesting).await?;
        self.journal.fail_point("plan-ranges");
        self.start_split(n);
        Ok(())
    }

    fn start_split(&mut self, n: usize) {
        let (steps, table) = (Arc::clone(&self.steps), self.tables[n].clone());
        let borders = table
            .ranges
            .values()
            .map(|(range, _)| range.start.clone())
            .collect();
        self.journal
            .begin(n, async move { steps.split(&table, borders).await });
    }

    fn start_finish(&mut self, n: usize) -> Result<()> {
        let (steps, table) = (Arc::clone(&self.steps), self.tables[n].clone());
        let ingested = reconcile(&table)?;
        self.journal
            .begin(n, async move { steps.finish(&table, ingested).await });
        Ok(())
    }

    /// What follows when a step of table `n` has succeeded.
    pub(crate) async fn stepped(&mut self, n: usize) -> Result<()> {
        match self.tables[n].record.phase {
            Phase::Detecting => self.conflicts_recorded(n).await,
            Phase::Ingesting => {
                self.push_ranges(n);
                // A former leader may have recorded the last report and nothing more.
                self.go_on_when_ingested(n).await
            }
            Phase::Ingested => {
                self.enter_phase(n, Phase::Finished).await?;
                self.journal.fail_point("finished");
                self.tables[n].elapsed =
                    self.started[n].map_or(Duration::ZERO, |start| start.elapsed());
                let chunks = self.tables[n].chunks.keys();
                let chunks = chunks.map(|&number| TaskRef::Chunk { table: n, number });
                let settle = TaskRef::Conflict {
                    table: n,
                    number: TaskRef::SETTLE,
                };
                self.unneeded
                    .extend(chunks.chain([settle]).map(TaskRef::id));
                Ok(())
            }
            Phase::Encoding => self.refused_recorded(n).await,
            Phase::Finished => Ok(()),
        }
    }

    fn push_ranges(&mut self, n: usize) {
        if self.failure.is_some() {
            return;
        }
        let homes = placement::homes(&self.tables[n], &self.agents);
        let open: Vec<u64> = self.tables[n].open_ranges().collect();
        for number in open {
            let home = homes.get(&number).map_or("", String::as_str);
            let id = TaskRef::Range { table: n, number }.id();
            let share = self.share(id);
            self.scheduler.push(TaskKind::Ingest, home, share, id);
        }
    }

    /// Records that an attempt at a range begins, before it does: it may leave files with stores.
    pub(crate) async fn begin(&mut self, task_id: u64) -> Result<()> {
        let TaskRef::Range { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        let table = &self.tables[n];
        let range = table.ranges[&number].0.clone();
        let attempts = table.begun.get(&number).map_or(0, |begun| begun.0) + 1;
        let txn = job::put_begun(Txn::default(), &self.job_id, n, number, attempts, &range);
        self.note(txn).await?;
        self.tables[n].begun.insert(number, (attempts, range));
        Ok(())
    }

    /// Records a range's report. The range must be open.
    pub(crate) async fn ingested(
        &mut self,
        task_id: u64,
        report: wire::IngestReport,
    ) -> Result<()> {
        let TaskRef::Range { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        let key = job::item_key(&self.job_id, n, 'i', number);
        let put = Txn::default().when(&key, 0);
        self.note(put.put(&key, report.encode_to_vec())).await?;
        self.journal.fail_point("record-report");
        self.journal.done("range", task_id);
        self.tables[n].reports.insert(number, report);
        self.tally.add_report(&self.tables[n], number);
        self.go_on_when_ingested(n).await
    }

    /// Ends the ingest of a table none of whose ranges is open. A chunk that was lost is waited for: without its
    /// manifest nobody knows what should be there.
    async fn go_on_when_ingested(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        if table.reports.len() < table.ranges.len() || !table.is_encoded() {
            return Ok(());
        }
        if let Err(error) = reconcile(table) {
            self.fail(error);
            return Ok(());
        }
        self.enter_phase(n, Phase::Ingested).await?;
        self.journal.fail_point("all-ingested");
        self.start_finish(n)
    }

    /// An attempt failed. `counts`: whether it says something about the task rather than about the fleet.
    pub(crate) async fn task_failed(
        &mut self,
        task_id: u64,
        failure: Failure,
        counts: bool,
    ) -> Result<()> {
        let error = Error {
            kind: ErrorKind::from_name(&failure.kind),
            place: failure.place,
            cause: failure.cause,
            advice: failure.advice,
        };
        let failures = self.failures.entry(task_id).or_default();
        *failures += u32::from(counts);
        let failures = *failures;
        if counts && (!failure.retryable || failures >= ATTEMPTS_MAX) {
            self.fail(error);
            return Ok(());
        }
        tracing::warn!(%error, task_id, "a task failed and is tried again");
        self.forget_manifests(&failure.lost_tasks).await?;
        self.requeue(task_id, error.kind.name());
        if failures > 0 && failure.lost_tasks.is_empty() {
            self.scheduler.delay(
                task_id,
                Instant::now() + RETRY_DELAY * 2u32.pow(failures - 1),
            );
        }
        Ok(())
    }

    /// Keeps the first failure and lets what is in flight end.
    pub(crate) fn fail(&mut self, error: Error) {
        self.scheduler.clear_queue();
        if self.failure.is_none() {
            self.failure = Some(error);
        }
    }

    async fn enter_phase(&mut self, n: usize, phase: Phase) -> Result<()> {
        self.enter_phase_with(Txn::default(), n, phase).await
    }

    /// In the same transaction as what the phase promises.
    async fn enter_phase_with(&mut self, txn: Txn, n: usize, phase: Phase) -> Result<()> {
        let record = job::TableRecord {
            phase,
            ..self.tables[n].record.clone()
        };
        self.note(job::put_table_record(txn, &self.job_id, n, &record)?)
            .await?;
        self.tables[n].record = record;
        Ok(())
    }
}

/// Whether `[first, last]` has keys of `range`.
fn overlaps(range: &KeyRange, first: &[u8], last: &[u8]) -> bool {
    last >= range.start.as_slice() && (range.end.is_empty() || first < range.end.as_slice())
}
