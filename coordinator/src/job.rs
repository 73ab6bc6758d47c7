//! What the leader remembers of a job and under which keys. A job has tables; a table has chunks (encode
//! tasks) and ranges (ingest tasks). Everything is written before it is acted on, so that a new leader
//! continues from what it reads here.

use crate::store::{StateStore, Txn};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use thunderhead_proto::thunderhead::{EncodeTask, IngestReport, IngestTask, Manifest};
use thunderhead_types::{Error, ErrorKind, KeyRange, Result, Timestamp};

/// How far a table has come. A phase is entered in the same transaction as what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Chunks and commit_ts are recorded; nothing is in the cluster.
    Encoding,
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
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// What the user calls it: source directory → cluster.
    pub title: String,
    /// Cluster the job was planned for.
    pub cluster_id: u64,
    /// Unix ms.
    pub created_ms: u64,
}

/// A table with everything that is recorded of it.
#[derive(Clone, Debug)]
pub struct Table {
    /// The record.
    pub record: TableRecord,
    /// Planned chunks by number, without the table spec.
    pub chunks: BTreeMap<u64, EncodeTask>,
    /// Finished chunks by number.
    pub manifests: BTreeMap<u64, Manifest>,
    /// Planned ranges by number.
    pub ranges: BTreeMap<u64, (KeyRange, u64)>,
    /// Ingested ranges by number.
    pub reports: BTreeMap<u64, IngestReport>,
    /// Time from its first task to `Finished` under this leader; not recorded.
    pub elapsed: Duration,
}

impl Table {
    /// A freshly planned table.
    pub fn new(record: TableRecord, chunks: Vec<EncodeTask>) -> Self {
        let chunks = (0u64..).zip(chunks).collect();
        Self {
            record,
            chunks,
            manifests: BTreeMap::new(),
            ranges: BTreeMap::new(),
            reports: BTreeMap::new(),
            elapsed: Duration::ZERO,
        }
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

    /// ``db.table`` for people.
    pub fn name(&self) -> String {
        format!("{}.{}", self.record.database, self.record.table)
    }
}

/// What a task id stands for. Ids are a pure function of the plan, so a retried or resumed task keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRef {
    /// Chunk `number` of table `table`.
    Chunk { table: usize, number: u64 },
    /// Range `number` of table `table`.
    Range { table: usize, number: u64 },
}

/// Bits of a task id: table ‖ kind ‖ number.
const NUMBER_BITS: u32 = 40;

impl TaskRef {
    /// The id.
    pub fn id(self) -> u64 {
        let (table, kind, number) = match self {
            TaskRef::Chunk { table, number } => (table, 0, number),
            TaskRef::Range { table, number } => (table, 1, number),
        };
        debug_assert!(number < 1 << NUMBER_BITS);
        ((table as u64) << (NUMBER_BITS + 1)) | (kind << NUMBER_BITS) | number
    }

    /// The inverse of [`TaskRef::id`].
    pub fn from_id(id: u64) -> Self {
        let (table, number) = (
            (id >> (NUMBER_BITS + 1)) as usize,
            id & ((1 << NUMBER_BITS) - 1),
        );
        if id >> NUMBER_BITS & 1 == 0 {
            TaskRef::Chunk { table, number }
        } else {
            TaskRef::Range { table, number }
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

/// Key of an item of a table: `c`hunk, `m`anifest, `r`ange, `i`ngest report.
pub fn item_key(job: &str, table: usize, kind: char, number: u64) -> String {
    format!("jobs/{job}/t/{table:05}/{kind}/{number:012}")
}

/// Adds the writes that record a freshly planned table.
pub fn put_table(mut txn: Txn, job: &str, n: usize, table: &Table) -> Result<Txn> {
    txn = txn.delete(format!("{}/", table_key(job, n)));
    for (number, chunk) in &table.chunks {
        txn = txn.put(item_key(job, n, 'c', *number), chunk.encode_to_vec());
    }
    put_table_record(txn, job, n, &table.record)
}

/// Adds the write of the table's record alone.
pub fn put_table_record(txn: Txn, job: &str, n: usize, record: &TableRecord) -> Result<Txn> {
    let json = serde_json::to_vec(record).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "state store",
            format!("table record: {e}"),
        )
    })?;
    Ok(txn.put(table_key(job, n), json))
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

/// Reads a job back; `None` when the store knows no such job.
pub async fn load(store: &dyn StateStore, job: &str) -> Result<Option<(JobRecord, Vec<Table>)>> {
    let Some(found) = store.get(&job_key(job)).await? else {
        return Ok(None);
    };
    let record: JobRecord = parse_json(&job_key(job), &found.value)?;
    let mut tables: Vec<Table> = Vec::new();
    for (key, item) in store.list(&format!("jobs/{job}/t/")).await? {
        let parts: Vec<&str> = key.split('/').collect();
        match parts.as_slice() {
            [_, _, _, _] => tables.push(Table::new(parse_json(&key, &item.value)?, Vec::new())),
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
    Ok(Some((record, tables)))
}

fn read_item(
    table: &mut Table,
    kind: &str,
    number: u64,
    value: &[u8],
) -> Result<(), prost::DecodeError> {
    match kind {
        "c" => drop(table.chunks.insert(number, EncodeTask::decode(value)?)),
        "m" => drop(table.manifests.insert(number, Manifest::decode(value)?)),
        "r" => {
            let task = IngestTask::decode(value)?;
            let range = task.range.unwrap_or_default();
            table.ranges.insert(
                number,
                (KeyRange::new(range.start, range.end), task.expected_bytes),
            );
        }
        _ => drop(table.reports.insert(number, IngestReport::decode(value)?)),
    }
    Ok(())
}

fn parse_json<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| damaged(key, e))
}

fn damaged(key: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("state store key {key}"), why)
        .advice("the state was written by another version or is damaged; empty the target tables, delete the sort directory and start over")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{Commit, EmbeddedStore};

    #[test]
    fn a_task_id_leads_back_to_its_task() {
        for table in [0, 1, 99_999] {
            for number in [0, 7, (1 << NUMBER_BITS) - 1] {
                for task in [
                    TaskRef::Chunk { table, number },
                    TaskRef::Range { table, number },
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
        };
        let chunk = |offset| EncodeTask {
            offset,
            path: "p".into(),
            ..EncodeTask::default()
        };
        let table = Table::new(record, vec![chunk(0), chunk(5)]);
        let job = JobRecord {
            title: "x".into(),
            cluster_id: 3,
            created_ms: 1,
        };
        let mut txn = Txn::default().put(job_key("j"), serde_json::to_vec(&job).unwrap());
        txn = put_table(txn, "j", 0, &table).unwrap();
        txn = put_range(txn, "j", 0, 3, &KeyRange::new(*b"a", *b"b"), 77);
        txn = txn.put(
            item_key("j", 0, 'm', 1),
            Manifest {
                rows: 4,
                ..Manifest::default()
            }
            .encode_to_vec(),
        );
        assert!(matches!(
            store.commit(epoch, txn).await.unwrap(),
            Commit::Done(_)
        ));

        let (read_job, read) = load(&store, "j").await.unwrap().unwrap();
        assert_eq!(read_job, job);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].record, table.record);
        assert_eq!(read[0].chunks, table.chunks);
        assert_eq!(read[0].ranges[&3], (KeyRange::new(*b"a", *b"b"), 77));
        assert_eq!(read[0].open_chunks().collect::<Vec<_>>(), [0]);
        assert_eq!(read[0].open_ranges().collect::<Vec<_>>(), [3]);
    }
}
