//! The leader's loop. It owns the job's state and nothing else: it hands out tasks, records what comes back
//! and moves each table through its phases.
//!
//! A table's way, each step recorded before the next begins:
//! 1. its open chunks are encoded, every manifest is recorded;
//! 2. when no chunk is open, ranges are planned and recorded together with phase `Ingesting`;
//! 3. the ranges' borders are split and scattered;
//! 4. its open ranges are ingested, every report is recorded;
//! 5. when no range is open and what was ingested equals what was encoded: phase `Ingested`;
//! 6. auto ids are rebased and the table verified as TiDB sees it: phase `Finished`, its runs are dropped.
//!
//! Tables do not wait for each other. A new leader enters at the step that the records say.

use crate::job::{self, Phase, Table, TaskRef};
use crate::plan::ranges::plan_ranges;
use crate::progress::{Progress, Snapshot};
use crate::scheduler::{Scheduler, TaskKind};
use crate::store::{Commit, StateStore, Txn};
use async_trait::async_trait;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thunderhead_proto::thunderhead::{
    self as wire, AgentMessage, CoordinatorMessage, DropRuns, EncodeTask, Failure, Hello,
    IngestTask, TableSpec, agent_message::Body, coordinator_message::Body as Order,
};
use thunderhead_types::{Checksum, Epoch, Error, ErrorKind, KeyRange, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Attempts at one task before its failure is the job's.
const ATTEMPTS_MAX: u32 = 4;
/// Operations in one transaction; etcd's default limit is 128.
const TXN_OPS_MAX: usize = 100;

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
}

/// A connected agent: where its orders go.
pub type AgentLink = mpsc::Sender<CoordinatorMessage>;

/// See the module.
pub struct Leader {
    store: Arc<dyn StateStore>,
    epoch: Epoch,
    job_id: String,
    tables: Vec<Table>,
    steps: Arc<dyn Steps>,
    links: BTreeMap<String, AgentLink>,
    scheduler: Scheduler,
    progress: Progress,
    stepping: JoinSet<(usize, Result<()>)>,
    failure: Option<Error>,
    /// When the first task of each table was handed out, for the report.
    started: Vec<Option<Instant>>,
}

impl Leader {
    /// A leader at `epoch` over the recorded state of a job.
    pub fn new(
        store: Arc<dyn StateStore>,
        epoch: Epoch,
        job_id: String,
        tables: Vec<Table>,
        steps: Arc<dyn Steps>,
        progress: Progress,
    ) -> Self {
        Self {
            store,
            epoch,
            job_id,
            started: vec![None; tables.len()],
            tables,
            steps,
            links: BTreeMap::new(),
            scheduler: Scheduler::default(),
            progress,
            stepping: JoinSet::new(),
            failure: None,
        }
    }

    /// Adds an agent; it gets work after its `Hello`.
    pub fn connect(&mut self, agent_id: &str, link: AgentLink) {
        self.links.insert(agent_id.to_owned(), link);
    }

    /// Works until every table is finished. Gives the tables back with all their records.
    ///
    /// # Errors
    /// The first failure, after everything in flight has ended; `Cancelled` when `stop` fires.
    pub async fn run(
        mut self,
        mut reports: mpsc::Receiver<AgentMessage>,
        stop: CancellationToken,
    ) -> Result<Vec<Table>> {
        for table in 0..self.tables.len() {
            self.enter(table).await?;
        }
        loop {
            if self.failure.is_none() {
                self.hand_out().await?;
            }
            self.publish_progress();
            let busy = self.scheduler.in_flight() > 0 || !self.stepping.is_empty();
            match self.failure.take() {
                Some(error) if !busy => return Err(error),
                Some(error) => self.failure = Some(error),
                None if self
                    .tables
                    .iter()
                    .all(|t| t.record.phase == Phase::Finished) =>
                {
                    return Ok(self.tables);
                }
                None => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let cancelled = Error::new(ErrorKind::Cancelled, "", "stopped on request");
                    return Err(cancelled.advice("run the same command again to go on"));
                }
                Some(stepped) = self.stepping.join_next(), if !self.stepping.is_empty() => {
                    let (table, result) = stepped
                        .map_err(|e| Error::new(ErrorKind::Internal, "leader", format!("a step panicked: {e}")))?;
                    match result {
                        Ok(()) => self.stepped(table).await?,
                        Err(error) => self.fail(error),
                    }
                }
                report = reports.recv() => match report {
                    Some(report) => self.report(report).await?,
                    None => return Err(self.failure.take().unwrap_or_else(|| {
                        Error::new(ErrorKind::Internal, "agent", "the agent ended before its work was done")
                    })),
                },
            }
        }
    }

    /// Queues what a table's recorded phase asks for.
    async fn enter(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        let open: Vec<u64> = table.open_chunks().collect();
        match table.record.phase {
            Phase::Encoding | Phase::Ingesting if !open.is_empty() => {
                for number in open {
                    self.scheduler
                        .push(TaskKind::Encode, TaskRef::Chunk { table: n, number }.id());
                }
            }
            Phase::Encoding => self.plan_ranges(n).await?,
            Phase::Ingesting => self.start_split(n),
            Phase::Ingested => self.start_finish(n)?,
            Phase::Finished => {}
        }
        Ok(())
    }

    async fn hand_out(&mut self) -> Result<()> {
        for assignment in self.scheduler.assign() {
            let task = TaskRef::from_id(assignment.task_id);
            let (TaskRef::Chunk { table: n, .. } | TaskRef::Range { table: n, .. }) = task;
            if matches!(task, TaskRef::Range { .. })
                && self.tables[n].open_chunks().next().is_some()
            {
                // A range merged without the runs of a lost chunk would lose rows. It is queued again when
                // the last chunk is back.
                self.scheduler
                    .finish(assignment.task_id, assignment.attempt);
                continue;
            }
            self.started[n].get_or_insert_with(Instant::now);
            tracing::info!(
                task = task_name(task),
                assignment.task_id,
                assignment.attempt,
                assignment.agent,
                "task handed out"
            );
            let order = match task {
                TaskRef::Chunk { table, number } => {
                    Order::Encode(self.encode_task(table, number, assignment.attempt))
                }
                TaskRef::Range { table, number } => {
                    Order::Ingest(self.ingest_task(table, number, assignment.attempt))
                }
            };
            self.send(&assignment.agent, order).await?;
        }
        Ok(())
    }

    async fn send(&self, agent: &str, order: Order) -> Result<()> {
        let message = CoordinatorMessage {
            epoch: self.epoch,
            body: Some(order),
        };
        let link = self
            .links
            .get(agent)
            .ok_or_else(|| Error::new(ErrorKind::Internal, agent, "no such agent"))?;
        link.send(message)
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, agent, "the agent has ended"))
    }

    fn table_spec(&self, n: usize) -> TableSpec {
        let record = &self.tables[n].record;
        TableSpec {
            job_id: self.job_id.clone(),
            database: record.database.clone(),
            table: record.table.clone(),
            table_info_json: record.table_info_json.clone().into(),
            session_json: record.session_json.clone().into(),
            commit_ts: record.commit_ts,
            ..TableSpec::default()
        }
    }

    fn encode_task(&self, n: usize, number: u64, attempt: u32) -> EncodeTask {
        EncodeTask {
            task_id: TaskRef::Chunk { table: n, number }.id(),
            attempt,
            table: Some(self.table_spec(n)),
            ..self.tables[n].chunks[&number].clone()
        }
    }

    /// The runs are those of the manifests as they are now, so that a re-encoded chunk is found.
    fn ingest_task(&self, n: usize, number: u64, attempt: u32) -> IngestTask {
        let table = &self.tables[n];
        let (range, expected_bytes) = &table.ranges[&number];
        let overlaps = |run: &&wire::Run| {
            run.entries > 0
                && run.last_key.as_ref() >= range.start.as_slice()
                && (range.end.is_empty() || run.first_key.as_ref() < range.end.as_slice())
        };
        let runs = table
            .manifests
            .values()
            .flat_map(|m| &m.runs)
            .filter(overlaps);
        IngestTask {
            task_id: TaskRef::Range { table: n, number }.id(),
            attempt,
            table: Some(self.table_spec(n)),
            range: Some(wire::KeyRange {
                start: range.start.clone().into(),
                end: range.end.clone().into(),
            }),
            run_paths: runs.map(|run| run.path.clone()).collect(),
            expected_bytes: *expected_bytes,
            ..IngestTask::default()
        }
    }

    async fn report(&mut self, message: AgentMessage) -> Result<()> {
        if message.epoch != self.epoch && message.epoch != 0 {
            tracing::warn!(
                message.epoch,
                self.epoch,
                "ignored a report for a former leader"
            );
            return Ok(());
        }
        match message.body {
            Some(Body::Hello(hello)) => self.hello(&message.agent_id, &hello).await,
            Some(Body::Progress(totals)) => {
                self.progress.agent_totals(&message.agent_id, totals);
                Ok(())
            }
            Some(Body::Leaving(leaving)) => {
                tracing::info!(agent = message.agent_id, leaving.reason, "an agent leaves");
                Ok(())
            }
            Some(Body::EncodeDone(done)) => {
                if self.scheduler.finish(done.task_id, done.attempt) {
                    self.encoded(done.task_id, done.manifest.unwrap_or_default())
                        .await?;
                }
                Ok(())
            }
            Some(Body::IngestDone(done)) => {
                if self.scheduler.finish(done.task_id, done.attempt) {
                    self.ingested(done.task_id, done.report.unwrap_or_default())
                        .await?;
                }
                Ok(())
            }
            Some(Body::TaskFailed(failed)) => {
                if self.scheduler.finish(failed.task_id, failed.attempt) {
                    self.task_failed(failed.task_id, failed.failure.unwrap_or_default())
                        .await?;
                }
                Ok(())
            }
            Some(Body::ConflictDone(_)) | None => Ok(()),
        }
    }

    /// Manifests whose runs the agent no longer has are void; their chunks are open again.
    async fn hello(&mut self, agent: &str, hello: &Hello) -> Result<()> {
        let held: BTreeSet<(u64, &str)> = hello
            .held
            .iter()
            .filter(|h| h.job_id == self.job_id)
            .map(|h| (h.task_id, h.attempt_dir.as_str()))
            .collect();
        let mut lost = Vec::new();
        for (n, table) in self
            .tables
            .iter()
            .enumerate()
            .filter(|(_, t)| t.record.phase < Phase::Ingested)
        {
            for (&number, manifest) in table.manifests.iter().filter(|(_, m)| m.agent_id == agent) {
                let id = TaskRef::Chunk { table: n, number }.id();
                if !held.contains(&(id, manifest.attempt_dir.as_str())) {
                    lost.push(id);
                }
            }
        }
        self.forget_manifests(&lost).await?;
        self.scheduler
            .add_agent(agent, hello.encode_slots, hello.ingest_slots);
        Ok(())
    }

    async fn forget_manifests(&mut self, chunk_ids: &[u64]) -> Result<()> {
        for &id in chunk_ids {
            if let TaskRef::Chunk { table, number } = TaskRef::from_id(id)
                && self
                    .tables
                    .get_mut(table)
                    .is_some_and(|t| t.manifests.remove(&number).is_some())
            {
                self.commit(Txn::default().delete(job::item_key(&self.job_id, table, 'm', number)))
                    .await?;
                self.scheduler.push(TaskKind::Encode, id);
            }
        }
        Ok(())
    }

    async fn encoded(&mut self, task_id: u64, manifest: wire::Manifest) -> Result<()> {
        let TaskRef::Chunk { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        let key = job::item_key(&self.job_id, n, 'm', number);
        self.commit(
            Txn::default()
                .when(&key, 0)
                .put(&key, manifest.encode_to_vec()),
        )
        .await?;
        tracing::info!(task = "chunk", task_id, "task recorded");
        let table = &mut self.tables[n];
        table.manifests.insert(number, manifest);
        if table.open_chunks().next().is_some() {
            return Ok(());
        }
        match table.record.phase {
            Phase::Encoding => self.plan_ranges(n).await,
            _ => {
                self.push_ranges(n);
                Ok(())
            }
        }
    }

    async fn plan_ranges(&mut self, n: usize) -> Result<()> {
        let table = &self.tables[n];
        let runs: Vec<wire::Run> = table
            .manifests
            .values()
            .flat_map(|m| m.runs.iter().cloned())
            .collect();
        let target = self.steps.range_bytes_target();
        let mut ranges = BTreeMap::new();
        for space in self.steps.key_spaces(table)? {
            for planned in plan_ranges(&space, &runs, target) {
                ranges.insert(ranges.len() as u64, (planned.range, planned.expected_bytes));
            }
        }
        let mut txn = Txn::default();
        for (&number, (range, bytes)) in &ranges {
            txn = job::put_range(txn, &self.job_id, n, number, range, *bytes);
            if txn.puts.len() >= TXN_OPS_MAX {
                self.commit(std::mem::take(&mut txn)).await?;
            }
        }
        self.commit(txn).await?;
        self.tables[n].record.ranges = ranges.len() as u64;
        self.tables[n].ranges = ranges;
        self.enter_phase(n, Phase::Ingesting).await?;
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
        self.stepping
            .spawn(async move { (n, steps.split(&table, borders).await) });
    }

    fn start_finish(&mut self, n: usize) -> Result<()> {
        let (steps, table) = (Arc::clone(&self.steps), self.tables[n].clone());
        let ingested = reconcile(&table)?;
        self.stepping
            .spawn(async move { (n, steps.finish(&table, ingested).await) });
        Ok(())
    }

    async fn stepped(&mut self, n: usize) -> Result<()> {
        match self.tables[n].record.phase {
            Phase::Ingesting => {
                if self.tables[n].open_chunks().next().is_none() {
                    self.push_ranges(n);
                }
                Ok(())
            }
            Phase::Ingested => {
                self.enter_phase(n, Phase::Finished).await?;
                self.tables[n].elapsed =
                    self.started[n].map_or(Duration::ZERO, |start| start.elapsed());
                let ids = self.tables[n]
                    .chunks
                    .keys()
                    .map(|&number| TaskRef::Chunk { table: n, number }.id())
                    .collect();
                let drop = DropRuns {
                    job_id: self.job_id.clone(),
                    task_ids: ids,
                };
                for agent in self.links.keys() {
                    self.send(agent, Order::DropRuns(drop.clone())).await?;
                }
                Ok(())
            }
            Phase::Encoding | Phase::Finished => Ok(()),
        }
    }

    fn push_ranges(&mut self, n: usize) {
        let open: Vec<u64> = self.tables[n].open_ranges().collect();
        for number in open {
            self.scheduler
                .push(TaskKind::Ingest, TaskRef::Range { table: n, number }.id());
        }
    }

    async fn ingested(&mut self, task_id: u64, report: wire::IngestReport) -> Result<()> {
        let TaskRef::Range { table: n, number } = TaskRef::from_id(task_id) else {
            return Ok(());
        };
        let key = job::item_key(&self.job_id, n, 'i', number);
        self.commit(
            Txn::default()
                .when(&key, 0)
                .put(&key, report.encode_to_vec()),
        )
        .await?;
        tracing::info!(task = "range", task_id, "task recorded");
        self.tables[n].reports.insert(number, report);
        if self.tables[n].open_ranges().next().is_some() {
            return Ok(());
        }
        if let Err(error) = reconcile(&self.tables[n]) {
            self.fail(error);
            return Ok(());
        }
        self.enter_phase(n, Phase::Ingested).await?;
        self.start_finish(n)
    }

    async fn task_failed(&mut self, task_id: u64, failure: Failure) -> Result<()> {
        let error = Error {
            kind: ErrorKind::from_name(&failure.kind),
            place: failure.place,
            cause: failure.cause,
            advice: failure.advice,
        };
        if !failure.retryable || self.scheduler.attempts(task_id) >= ATTEMPTS_MAX {
            self.fail(error);
            return Ok(());
        }
        tracing::warn!(%error, task_id, "a task failed and is tried again");
        if failure.lost_tasks.is_empty() {
            let kind = match TaskRef::from_id(task_id) {
                TaskRef::Chunk { .. } => TaskKind::Encode,
                TaskRef::Range { .. } => TaskKind::Ingest,
            };
            self.scheduler.push(kind, task_id);
            return Ok(());
        }
        // The range is queued again when the last lost chunk is back.
        self.forget_manifests(&failure.lost_tasks).await
    }

    /// Keeps the first failure and lets what is in flight end.
    fn fail(&mut self, error: Error) {
        self.scheduler.clear_queue();
        if self.failure.is_none() {
            self.failure = Some(error);
        }
    }

    async fn enter_phase(&mut self, n: usize, phase: Phase) -> Result<()> {
        let record = job::TableRecord {
            phase,
            ..self.tables[n].record.clone()
        };
        self.commit(job::put_table_record(
            Txn::default(),
            &self.job_id,
            n,
            &record,
        )?)
        .await?;
        self.tables[n].record = record;
        Ok(())
    }

    async fn commit(&self, txn: Txn) -> Result<()> {
        match self.store.commit(self.epoch, txn).await? {
            Commit::Done(_) => Ok(()),
            Commit::Fenced => Err(Error::new(
                ErrorKind::Cancelled,
                "leader",
                "another leader has taken over",
            )
            .advice("nothing to do: it continues this job")),
            Commit::Conflict => Err(Error::new(
                ErrorKind::Internal,
                "leader",
                "a record was changed by someone else",
            )),
        }
    }

    fn publish_progress(&self) {
        let mut snapshot = Snapshot::default();
        for table in &self.tables {
            snapshot.tables += 1;
            snapshot.tables_finished += usize::from(table.record.phase == Phase::Finished);
            snapshot.chunks += table.chunks.len();
            snapshot.chunks_done += table.manifests.len();
            snapshot.ranges += table.ranges.len();
            snapshot.ranges_done += table.reports.len();
            snapshot.source_bytes_total += table.record.source_bytes;
            snapshot.kv_bytes_planned += table.ranges.values().map(|(_, bytes)| bytes).sum::<u64>();
            let done = table
                .ranges
                .iter()
                .filter(|(number, _)| table.reports.contains_key(number));
            snapshot.kv_bytes_ingested += done.map(|(_, (_, bytes))| bytes).sum::<u64>();
            snapshot.source_bytes_done += table
                .manifests
                .values()
                .map(|m| m.source_bytes)
                .sum::<u64>();
            snapshot.rows += table.manifests.values().map(|m| m.rows).sum::<u64>();
        }
        self.progress.publish(snapshot);
    }
}

/// For the log.
fn task_name(task: TaskRef) -> &'static str {
    match task {
        TaskRef::Chunk { .. } => "chunk",
        TaskRef::Range { .. } => "range",
    }
}

/// Tally of a checksum message.
pub fn checksum(message: Option<wire::Checksum>) -> Checksum {
    let c = message.unwrap_or_default();
    Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    }
}

/// What was ingested, after proving that it is what was encoded: nothing lost, nothing doubled.
fn reconcile(table: &Table) -> Result<Checksum> {
    let (mut encoded, mut ingested, mut accounted) = (
        Checksum::default(),
        Checksum::default(),
        Checksum::default(),
    );
    table
        .manifests
        .values()
        .for_each(|m| encoded.merge(&checksum(m.checksum)));
    for report in table.reports.values() {
        ingested.merge(&checksum(report.checksum));
        accounted.merge(&checksum(report.checksum));
        accounted.merge(&checksum(report.collapsed));
    }
    if accounted == encoded {
        return Ok(ingested);
    }
    let cause = format!(
        "{} pairs were encoded but {} reached the cluster (bytes {} and {})",
        encoded.kvs, accounted.kvs, encoded.bytes, accounted.bytes
    );
    Err(Error::new(ErrorKind::Checksum, format!("table {}", table.name()), cause)
        .advice("this is a bug: keep the sort directory and report it; TRUNCATE the table before importing again"))
}
