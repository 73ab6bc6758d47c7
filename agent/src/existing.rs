//! Rows that the target table held before the import: read at a snapshot, range by range, and turned into the pairs
//! that belong to them, as if they stood at the beginning of the source. And what becomes of a range that was not
//! empty: losers are deleted, and what the cluster holds in the end is what it held, less what was deleted or
//! written over, and what was written.

use crate::conflict::{self, Strategy};
use crate::inputs::{Failed, Inputs};
use crate::worker::Shared;
use std::sync::Arc;
use thunderhead_cluster::{Importer, IngestStats, PairSource};
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{Row, TableDecoder, TableEncoder};
use thunderhead_proto::thunderhead::{self as wire, IngestTask, TableSpec};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Timestamp};
use tokio::runtime::Handle;

/// Records that are asked for at a time.
const PAGE_ROWS: u32 = 1024;

/// Reads the cluster from threads that are not the runtime's.
pub(crate) struct Reader {
    runtime: Handle,
    importer: Arc<Importer>,
}

fn bug(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "existing rows", cause)
        .advice("this is a bug; please report it")
}

impl Reader {
    pub(crate) async fn open(shared: &Shared, spec: &TableSpec) -> Result<Self> {
        Ok(Self {
            runtime: Handle::current(),
            importer: shared.clusters.importer(spec).await?,
        })
    }

    /// Calls `each` with the rows of a range in key order, and an encoder for them, until it says that it has
    /// enough. Gives back how many rows there were.
    pub(crate) fn rows(
        &self,
        spec: &TableSpec,
        existing: &wire::ExistingRows,
        mut each: impl FnMut(&Row, &mut TableEncoder) -> Result<bool>,
    ) -> Result<u64> {
        let info: TableInfo = serde_json::from_slice(&spec.table_info_json).map_err(bug)?;
        let session: Session = serde_json::from_slice(&spec.session_json).map_err(bug)?;
        let decoder = TableDecoder::compile(&info, &session)?;
        let mut encoder = TableEncoder::compile(&info, &session, None)?;
        let range = existing.range.clone().unwrap_or_default();
        let mut rest = Some(KeyRange::new(range.start, range.end));
        let mut rows = 0;
        while let Some(range) = rest {
            let scan = self.importer.scan(&range, existing.snapshot_ts, PAGE_ROWS);
            let page = self.runtime.block_on(scan)?;
            for (key, value) in &page.pairs {
                let row = decoder.record(key, value).map_err(|error| {
                    Error::new(ErrorKind::Data, place(spec), error)
                        .advice("ADMIN CHECK TABLE it: a row that it holds cannot be read")
                })?;
                rows += 1;
                if !each(&row, &mut encoder)? {
                    return Ok(rows);
                }
            }
            rest = page.rest;
        }
        Ok(rows)
    }
}

/// The row cannot be encoded again, so its index entries are not known.
pub(crate) fn not_encoded(spec: &TableSpec, column: &str) -> Error {
    let cause =
        format!("a row that it holds is not valid under the table's definition: column `{column}`");
    Error::new(ErrorKind::Data, place(spec), cause).advice("mend the row, or TRUNCATE the table")
}

fn place(spec: &TableSpec) -> String {
    format!("table {}.{}", spec.database, spec.table)
}

/// Deletes what losers have in the range.
pub(crate) async fn delete_losers(
    shared: &Arc<Shared>,
    importer: &Importer,
    task: &IngestTask,
    spec: &TableSpec,
    range: &KeyRange,
    delete_ts: Timestamp,
) -> Result<IngestStats, Failed> {
    let Some(losers) = &task.losers else {
        return Ok(IngestStats::default());
    };
    if task.existing_runs.is_empty() {
        return Ok(IngestStats::default());
    }
    let losers = shared.losers.open(shared, spec, losers).await?;
    let inputs = Inputs {
        remote_runs: task.existing_runs.clone(),
        ..Inputs::default()
    };
    let merged = inputs.merge(shared, range, None).await?;
    let merged = merged.filtered(Some(conflict::only(losers)));
    let source: Arc<dyn PairSource> = Arc::new(merged);
    let deleted = importer.delete_range(range, delete_ts, source).await;
    let deleted = deleted.map_err(|error| inputs.lost_or(error))?;
    tracing::debug!(
        table = place(spec),
        pairs = deleted.checksum.kvs,
        "deleted what existing rows have"
    );
    Ok(deleted)
}

/// What became of a range that was not empty.
pub(crate) struct Account {
    pub(crate) before: Checksum,
    pub(crate) deleted: Checksum,
    pub(crate) overwritten: Checksum,
}

/// Proves that the range holds what it held at the snapshot, less `deleted` pairs and those that were written over,
/// and what was `written`.
pub(crate) async fn verify(
    importer: &Importer,
    spec: &TableSpec,
    existing: &wire::ExistingTable,
    strategy: Option<Strategy>,
    range: &KeyRange,
    deleted_kvs: u64,
    written: Checksum,
) -> Result<Account> {
    let foreign = |cause: String| {
        Error::new(ErrorKind::Checksum, place(spec), cause).advice(
            "was the table written to during the import? Nobody else may write to it meanwhile",
        )
    };
    let before = importer.checksum_at(range, existing.snapshot_ts).await?;
    let left = importer.checksum_at(range, existing.delete_ts).await?;
    if left.kvs.checked_add(deleted_kvs) != Some(before.kvs) || left.bytes > before.bytes {
        return Err(foreign(format!(
            "{deleted_kvs} of {} pairs of a range were to be deleted, {} are left",
            before.kvs, left.kvs
        )));
    }
    let over = importer.overwritten(range, existing.delete_ts).await?;
    if over.twice > 0 {
        let cause = format!("{} keys of a range were written twice", over.twice);
        return Err(foreign(cause));
    }
    if over.changed > 0 && strategy != Some(Strategy::Record) {
        let cause = format!(
            "{} rows or index entries that the table held were replaced by others with the same key",
            over.changed
        );
        let advice = match strategy {
            None => {
                "restore the table, and import again with conflict.strategy = \"error\", which names the rows, or \
                 with \"remove\", \"replace\" or \"ignore\""
            }
            Some(_) => {
                "was the table written to during the import? Nobody else may write to it meanwhile"
            }
        };
        return Err(Error::new(ErrorKind::Conflict, place(spec), cause).advice(advice));
    }
    let (mut expected, mut found) = (left, importer.checksum(range).await?);
    expected.merge(&written);
    found.merge(&over.before);
    if expected != found {
        return Err(foreign(format!(
            "the cluster holds {} pairs of a range where {} were expected",
            found.kvs, expected.kvs
        )));
    }
    let mut deleted = before;
    deleted.remove(&left);
    Ok(Account {
        before,
        deleted,
        overwritten: over.before,
    })
}
