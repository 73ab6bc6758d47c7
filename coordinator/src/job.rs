//! What the leader remembers of a job and under which keys. A job has tables; a table has chunks (encode
//! tasks) and ranges (ingest tasks). Everything is written before it is acted on, so that a new leader
//! continues from what it reads here.

use crate::conflicts::{Detection, Resolution, TableConflicts};
use crate::service::{JobError, JobState, Submission};
use crate::store::{StateStore, TXN_BYTES, TXN_OPS_MAX, Txn};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thunderhead_proto::thunderhead::{EncodeTask, IngestReport, IngestTask, Manifest, RefusedRow};
use thunderhead_types::{Checksum, Epoch, Error, ErrorKind, KeyRange, Result, Timestamp};

/// How far a table has come. A phase is entered in the same transaction as what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Chunks and commit_ts are recorded; nothing is in the cluster.
    Encoding,
    /// Every chunk is encoded; rows that share unique keys are looked for. Nothing of the table is in the cluster,
    /// unless the search had to begin again while its ranges were ingested.
    Detecting,
    /// Ranges are recorded; parts of the table may be in the cluster.
    Ingesting,
    /// Every range is ingested and verified by its own checksum.
    Ingested,
    /// Auto ids are rebased, the table is verified as TiDB sees it, runs may go.
    Finished,
}

/// A table of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Database name.
    pub database: String,
    /// Table name.
    pub table: String,
    /// TableInfo id; the record is void when the table has another id now.
    pub table_id: i64,
    /// Fingerprint of the source files and of the options that change the result.
    pub content: String,
    /// TableInfo as TiDB served it when the job was planned.
    pub table_info_json: String,
    /// The codec session.
    pub session_json: String,
    /// commit_ts of every pair, taken once.
    pub commit_ts: Timestamp,
    /// See [`Phase`].
    pub phase: Phase,
    /// Number of chunks recorded.
    pub chunks: u64,
    /// Number of ranges recorded; 0 before `Ingesting`.
    pub ranges: u64,
    /// Bytes of the source files.
    pub source_bytes: u64,
    /// How conflicts are dealt with; `None` = nobody looks for them.
    #[serde(default)]
    pub conflicts: Option<TableConflicts>,
    /// What was found and settled; from `Ingesting` on.
    #[serde(default)]
    pub resolution: Option<Resolution>,
    /// What the table held before; `None` = it was empty.
    #[serde(default)]
    pub existing: Option<Existing>,
    /// What the report must say of the table.
    #[serde(default)]
    pub note: Option<String>,
    /// Epoch under which the chunks were planned: work handed out before belongs to another plan.
    #[serde(default)]
    pub planned_epoch: Epoch,
    /// How many attempts the leader of that epoch had handed out before.
    #[serde(default)]
    pub planned_attempts: u32,
}

/// A table that was not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existing {
    /// At which its rows are read.
    pub snapshot_ts: Timestamp,
    /// At which those that lose are deleted; less than `commit_ts`.
    pub delete_ts: Timestamp,
    /// All that it held.
    pub sum: Checksum,
}

/// A job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What the user calls it: source directory → cluster.
    pub title: String,
    /// Cluster the job was planned for.
    pub cluster_id: u64,
    /// Unix ms.
    pub created_ms: u64,
    /// Of a fleet's job.
    #[serde(default)]
    pub state: JobState,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<JobError>,
    /// `db.table` in lower case, of a fleet's job: no other job may import them meanwhile.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Limit of bytes per second to each store that was set while it ran, 0 = none; `None` = as configured.
    #[serde(default)]
    pub store_bytes_per_second: Option<u64>,
    /// What the user asked the fleet for.
    #[serde(default)]
    pub submission: Option<Submission>,
}

/// A table with everything that is recorded of it. Cheap to clone, also with a hundred thousand chunks: steps get a copy.
#[derive(Clone, Debug)]
pub struct Table {
    /// The record.
    pub record: TableRecord,
    /// Planned chunks by number, without the table spec.
    pub chunks: BTreeMap<u64, Arc<EncodeTask>>,
    /// Finished chunks by number.
    pub manifests: BTreeMap<u64, Arc<Manifest>>,
    /// Planned ranges by number.
    pub ranges: BTreeMap<u64, (KeyRange, u64)>,
    /// Ranges are recorded of a plan that did not come to its end.
    pub half_planned: bool,
    /// Ingested ranges by number.
    pub reports: BTreeMap<u64, IngestReport>,
    /// How often a range was handed out, and which one that was.
    pub begun: BTreeMap<u64, (u32, KeyRange)>,
    /// Time from its first task to `Finished` under this leader; not recorded.
    pub elapsed: Duration,
    /// The search for conflicts; not recorded.
    pub detection: Detection,
}

impl Table {
    /// A freshly planned table.
    pub fn new(record: TableRecord, chunks: Vec<EncodeTask>) -> Self {
        let chunks = (0u64..).zip(chunks.into_iter().map(Arc::new)).collect();
        Self {
            record,
            chunks,
            manifests: BTreeMap::new(),
            ranges: BTreeMap::new(),
            half_planned: false,
            reports: BTreeMap::new(),
            begun: BTreeMap::new(),
            elapsed: Duration::ZERO,
            detection: Detection::default(),
        }
    }

    /// The chunks of existing rows come first; they are read, but not ingested.
    pub fn is_existing(&self, chunk: u64) -> bool {
        let chunk = self.chunks.get(&chunk);
        chunk.is_some_and(|chunk| chunk.existing.is_some())
    }

    /// Finished chunks of the source.
    pub fn source_manifests(&self) -> impl Iterator<Item = (u64, &Manifest)> {
        let manifests = self.manifests.iter();
        manifests
            .map(|(number, manifest)| (*number, manifest.as_ref()))
            .filter(|(number, _)| !self.is_existing(*number))
    }

    /// The earliest timestamp at which the table is read.
    pub fn oldest_ts(&self) -> Timestamp {
        let existing = self.record.existing.as_ref();
        existing.map_or(self.record.commit_ts, |existing| existing.snapshot_ts)
    }

    /// Whether every chunk has its manifest; there are none of others.
    pub fn is_encoded(&self) -> bool {
        self.manifests.len() == self.chunks.len()
    }

    /// Chunk numbers without a manifest.
    pub fn open_chunks(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks
            .keys()
            .copied()
            .filter(|n| !self.manifests.contains_key(n))
    }

    /// Range numbers without a report.
    pub fn open_ranges(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges
            .keys()
            .copied()
            .filter(|n| !self.reports.contains_key(n))
    }

    /// Ranges of which some attempt may have left files with stores.
    pub fn broken_off(&self) -> impl Iterator<Item = KeyRange> + '_ {
        self.begun.iter().filter_map(|(number, (attempts, range))| {
            let clean = self
                .reports
                .get(number)
                .is_some_and(|report| *attempts == 1 && !report.left_files);
            (!clean).then(|| range.clone())
        })
    }

    /// Rows that were left out because nothing could be made of them.
    pub fn refused_rows(&self) -> u64 {
        self.manifests.values().map(|m| m.refused_rows).sum()
    }

    /// Those of them that are described, with their file, in source order.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &RefusedRow)> {
        self.manifests.iter().flat_map(|(number, manifest)| {
            let parts = self.chunks.get(number).map_or(&[][..], |c| &c.parts);
            manifest.refused.iter().map(move |row| {
                let part = parts.get(row.part as usize);
                (part.map_or("", |part| &part.path), row)
            })
        })
    }

    /// ``db.table`` for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.record.database, self.record.table)
    }
}

/// A packed byte counts as so many plain ones, about what text unpacks to. Parquet packs its pages.
pub(crate) const PACKED_WEIGHT: u64 = 4;

/// About as many bytes as a chunk unpacks to.
pub(crate) fn chunk_bytes(chunk: &EncodeTask) -> u64 {
    let bytes = chunk.parts.iter().map(|part| {
        // The end of a file that is read as a whole is not known.
        let at_most = part.file_size.saturating_mul(PACKED_WEIGHT);
        part.end.saturating_sub(part.offset).min(at_most)
    });
    bytes.sum()
}

/// What a task id stands for. Ids are a pure function of the plan, so a retried or resumed task keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRef {
    /// Chunk `number` of table `table`.
    Chunk { table: usize, number: u64 },
    /// Range `number` of table `table`.
    Range { table: usize, number: u64 },
    /// Range `number` of the search for conflicts in table `table`, or [`TaskRef::SETTLE`].
    Conflict { table: usize, number: u64 },
}

/// Bits of a task id: table ‖ kind ‖ number.
const NUMBER_BITS: u32 = 40;
const KIND_BITS: u32 = 2;

impl TaskRef {
    /// Number of the task that decides over all conflicts of a table.
    pub const SETTLE: u64 = (1 << NUMBER_BITS) - 1;

    /// The table.
    pub fn table(self) -> usize {
        match self {
            TaskRef::Chunk { table, .. }
            | TaskRef::Range { table, .. }
            | TaskRef::Conflict { table, .. } => table,
        }
    }

    /// The id.
    pub fn id(self) -> u64 {
        let (table, kind, number) = match self {
            TaskRef::Chunk { table, number } => (table, 0, number),
            TaskRef::Range { table, number } => (table, 1, number),
            TaskRef::Conflict { table, number } => (table, 2, number),
        };
        debug_assert!(number < 1 << NUMBER_BITS);
        ((table as u64) << (NUMBER_BITS + KIND_BITS)) | (kind << NUMBER_BITS) | number
    }

    /// The inverse of [`TaskRef::id`].
    pub fn from_id(id: u64) -> Self {
        let (table, number) = (
            (id >> (NUMBER_BITS + KIND_BITS)) as usize,
            id & ((1 << NUMBER_BITS) - 1),
        );
        match id >> NUMBER_BITS & ((1 << KIND_BITS) - 1) {
            0 => TaskRef::Chunk { table, number },
            1 => TaskRef::Range { table, number },
            _ => TaskRef::Conflict { table, number },
        }
    }
}

/// Key of the job record.
pub fn job_key(job: &str) -> String {
    format!("jobs/{job}")
}

/// Key of table `n`; everything of the table lies below `key + "/"`.
pub fn table_key(job: &str, n: usize) -> String {
    format!("jobs/{job}/t/{n:05}")
}

/// Key of an item of a table: `c`hunk, `m`anifest, `r`ange, its `b`eginnings, `i`ngest report.
pub fn item_key(job: &str, table: usize, kind: char, number: u64) -> String {
    format!("jobs/{job}/t/{table:05}/{kind}/{number:012}")
}

/// Key that says that an agent has worked for the job.
pub fn worker_key(job: &str, agent: &str) -> String {
    format!("jobs/{job}/a/{agent}")
}

/// Key of the list of the source's files, where agents hold them.
pub(crate) fn listing_key(job: &str) -> String {
    format!("jobs/{job}/source")
}

/// Agents that have worked for the job.
pub async fn workers(store: &dyn StateStore, job: &str) -> Result<BTreeSet<String>> {
    let prefix = worker_key(job, "");
    let found = store.list(&prefix).await?;
    Ok(found
        .into_iter()
        .filter_map(|(key, _)| Some(key.strip_prefix(&prefix)?.to_owned()))
        .collect())
}

/// The transactions that record freshly planned tables, in this order: what was there before goes first, a table's
/// own record comes last. A table that was not recorded to its end has none, and is planned again.
pub fn record_tables(job: &str, tables: &[(usize, &Table)]) -> Result<Vec<Txn>> {
    let mut txns = Vec::new();
    let mut txn = Txn::default();
    for (n, _) in tables {
        let key = table_key(job, *n);
        txn = txn.delete(format!("{key}/")).delete(key);
        if 2 * (txn.deletes.len() + 2) > TXN_OPS_MAX {
            txns.push(std::mem::take(&mut txn));
        }
    }
    txns.push(std::mem::take(&mut txn));
    let mut bytes = 0;
    let mut put = |txn: &mut Txn, txns: &mut Vec<Txn>, key: String, value: Vec<u8>| {
        bytes += value.len();
        txn.puts.push((key, value));
        if txn.puts.len() >= TXN_OPS_MAX || bytes >= TXN_BYTES {
            txns.push(std::mem::take(txn));
            bytes = 0;
        }
    };
    for (n, table) in tables {
        for (number, chunk) in &table.chunks {
            let key = item_key(job, *n, 'c', *number);
            put(&mut txn, &mut txns, key, chunk.encode_to_vec());
        }
        put(
            &mut txn,
            &mut txns,
            table_key(job, *n),
            to_json(&table.record)?,
        );
    }
    txns.push(txn);
    Ok(txns)
}

/// Adds the write of the table's record alone.
pub fn put_table_record(txn: Txn, job: &str, n: usize, record: &TableRecord) -> Result<Txn> {
    Ok(txn.put(table_key(job, n), to_json(record)?))
}

/// Adds the write of a planned range.
pub fn put_range(
    txn: Txn,
    job: &str,
    table: usize,
    number: u64,
    range: &KeyRange,
    bytes: u64,
) -> Txn {
    let message = IngestTask {
        range: Some(thunderhead_proto::thunderhead::KeyRange {
            start: range.start.clone().into(),
            end: range.end.clone().into(),
        }),
        expected_bytes: bytes,
        ..IngestTask::default()
    };
    txn.put(item_key(job, table, 'r', number), message.encode_to_vec())
}

/// Adds the write of how often a range was handed out.
pub fn put_begun(
    txn: Txn,
    job: &str,
    table: usize,
    number: u64,
    attempts: u32,
    range: &KeyRange,
) -> Txn {
    let message = IngestTask {
        attempt: attempts,
        range: Some(thunderhead_proto::thunderhead::KeyRange {
            start: range.start.clone().into(),
            end: range.end.clone().into(),
        }),
        ..IngestTask::default()
    };
    txn.put(item_key(job, table, 'b', number), message.encode_to_vec())
}

/// Reads a job back; `None` when the store knows no such job.
pub async fn load(store: &dyn StateStore, job: &str) -> Result<Option<(JobRecord, Vec<Table>)>> {
    let Some(found) = store.get(&job_key(job)).await? else {
        return Ok(None);
    };
    let record: JobRecord = parse_json(&job_key(job), &found.value)?;
    let mut tables: Vec<Table> = Vec::new();
    // Items of another number have no record: a plan that was not recorded to its end.
    let mut current = String::new();
    for (key, item) in store.list(&format!("jobs/{job}/t/")).await? {
        let parts: Vec<&str> = key.split('/').collect();
        match parts.as_slice() {
            [_, _, _, number] => {
                current = (*number).to_owned();
                tables.push(Table::new(parse_json(&key, &item.value)?, Vec::new()));
            }
            [_, _, _, number, _, _] if *number != current => {}
            [_, _, _, _, kind, number] => {
                let table = tables
                    .last_mut()
                    .ok_or_else(|| damaged(&key, "an item without its table"))?;
                let number = number.parse().map_err(|_| damaged(&key, "not a number"))?;
                read_item(table, kind, number, &item.value).map_err(|e| damaged(&key, e))?;
            }
            _ => return Err(damaged(&key, "unknown key")),
        }
    }
    // Ranges that the table's own record does not know are void: a leader died while it planned.
    for table in tables.iter_mut().filter(|t| t.record.ranges == 0) {
        table.half_planned = !table.ranges.is_empty();
        table.ranges.clear();
    }
    Ok(Some((record, tables)))
}

fn read_item(
    table: &mut Table,
    kind: &str,
    number: u64,
    value: &[u8],
) -> Result<(), prost::DecodeError> {
    match kind {
        "c" => {
            let chunk = EncodeTask::decode(value)?;
            table.chunks.insert(number, Arc::new(chunk));
        }
        "m" => {
            let manifest = Manifest::decode(value)?;
            table.manifests.insert(number, Arc::new(manifest));
        }
        "r" => {
            let task = IngestTask::decode(value)?;
            let range = task.range.unwrap_or_default();
            table.ranges.insert(
                number,
                (KeyRange::new(range.start, range.end), task.expected_bytes),
            );
        }
        "b" => {
            let task = IngestTask::decode(value)?;
            let range = task.range.unwrap_or_default();
            let begun = (task.attempt, KeyRange::new(range.start, range.end));
            table.begun.insert(number, begun);
        }
        _ => drop(table.reports.insert(number, IngestReport::decode(value)?)),
    }
    Ok(())
}

/// A record as it is stored.
pub fn to_json(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| Error::new(ErrorKind::Internal, "state store", e))
}

/// Every recorded job with its id.
pub async fn list(store: &dyn StateStore) -> Result<Vec<(String, JobRecord)>> {
    let mut jobs = Vec::new();
    for (key, _) in store.keys("jobs/").await? {
        let Some(id) = key.strip_prefix("jobs/").filter(|id| !id.contains('/')) else {
            continue;
        };
        if let Some(found) = store.get(&key).await? {
            jobs.push((id.to_owned(), parse_json(&key, &found.value)?));
        }
    }
    Ok(jobs)
}

pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| damaged(key, e))
}

fn damaged(key: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("state store key {key}"), why)
        .advice("the state was written by another version or is damaged; empty the target tables, delete the sort directory and start over")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{Commit, EmbeddedStore};
    use thunderhead_proto::thunderhead::FilePart;

    /// A table of two chunks.
    pub(crate) fn table_record() -> TableRecord {
        TableRecord {
            database: "d".into(),
            table: "t".into(),
            table_id: 9,
            content: "f".into(),
            table_info_json: "{}".into(),
            session_json: "{}".into(),
            commit_ts: 5,
            phase: Phase::Encoding,
            chunks: 2,
            ranges: 0,
            source_bytes: 10,
            existing: None,
            planned_epoch: 0,
            planned_attempts: 0,
            conflicts: None,
            resolution: None,
            note: None,
        }
    }

    #[test]
    fn a_task_id_leads_back_to_its_task() {
        for table in [0, 1, 99_999] {
            for number in [0, 7, (1 << NUMBER_BITS) - 1] {
                for task in [
                    TaskRef::Chunk { table, number },
                    TaskRef::Range { table, number },
                    TaskRef::Conflict { table, number },
                ] {
                    assert_eq!(TaskRef::from_id(task.id()), task);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_job_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&dir.path().join("s")).unwrap();
        let epoch = store.lead().await.unwrap();
        assert!(load(&store, "j").await.unwrap().is_none());
        let record = TableRecord {
            ranges: 3,
            ..table_record()
        };
        let chunk = |offset| EncodeTask {
            parts: vec![FilePart {
                offset,
                path: "p".into(),
                ..FilePart::default()
            }],
            ..EncodeTask::default()
        };
        let table = Table::new(record, vec![chunk(0), chunk(5)]);
        let job = JobRecord {
            title: "x".into(),
            cluster_id: 3,
            created_ms: 1,
            ..JobRecord::default()
        };
        let mut txns = record_tables("j", &[(0, &table)]).unwrap();
        let mut txn = Txn::default().put(job_key("j"), serde_json::to_vec(&job).unwrap());
        txn = put_range(txn, "j", 0, 3, &KeyRange::new(*b"a", *b"b"), 77);
        for (number, attempts, left_files) in
            [(3, 1, None), (4, 1, Some(false)), (5, 2, Some(false))]
        {
            let range = KeyRange::new([number as u8], [number as u8 + 1]);
            txn = put_begun(txn, "j", 0, number, attempts, &range);
            if let Some(left_files) = left_files {
                let report = IngestReport {
                    left_files,
                    ..IngestReport::default()
                };
                txn = txn.put(item_key("j", 0, 'i', number), report.encode_to_vec());
            }
        }
        txn = txn.put(
            item_key("j", 0, 'm', 1),
            Manifest {
                rows: 4,
                ..Manifest::default()
            }
            .encode_to_vec(),
        );
        txns.push(txn);
        // A leader died before it had recorded this one.
        txns.extend(record_tables("j", &[(1, &table)]).unwrap());
        txns.push(Txn::default().delete(table_key("j", 1)));
        for txn in txns {
            assert!(matches!(
                store.commit(epoch, txn).await.unwrap(),
                Commit::Done(_)
            ));
        }

        let (read_job, read) = load(&store, "j").await.unwrap().unwrap();
        assert_eq!(read_job, job);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].record, table.record);
        assert_eq!(read[0].chunks, table.chunks);
        assert_eq!(read[0].ranges[&3], (KeyRange::new(*b"a", *b"b"), 77));
        assert_eq!(read[0].open_chunks().collect::<Vec<_>>(), [0]);
        assert_eq!(read[0].open_ranges().collect::<Vec<_>>(), [3]);
        // One that did not end, and one that was begun twice; a report may also say so itself.
        let broken_off = |table: &Table| table.broken_off().map(|r| r.start[0]).collect::<Vec<_>>();
        assert_eq!(broken_off(&read[0]), [3, 5]);
        let other = TableRecord {
            ranges: 0,
            ..read[0].record.clone()
        };
        let txn = put_table_record(Txn::default(), "j", 0, &other).unwrap();
        store.commit(epoch, txn).await.unwrap();
        let (_, planning) = load(&store, "j").await.unwrap().unwrap();
        let planning = &planning[0];
        assert!(planning.ranges.is_empty() && planning.half_planned);
        assert!(!read[0].half_planned);
        let mut said = read[0].clone();
        said.reports.get_mut(&4).unwrap().left_files = true;
        assert_eq!(broken_off(&said), [3, 4, 5]);
    }
}
