//! An ingest task: the runs of a range are merged, written to its regions, ingested, and the range is
//! compared with what TiKV then holds. One range is one unit: done and verified, or to be done again.

use crate::conflict::{self, Strategy};
use crate::existing;
use crate::inputs::{Failed, Inputs};
use crate::sort::{ConflictHook, MergedRuns};
use crate::worker::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thunderhead_cluster::{IngestStats, PairSource};
use thunderhead_codec::keys::{self, TableKey};
use thunderhead_proto::thunderhead::{self as wire, IngestReport, IngestTask};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, fail_point};

/// Runs the task until its range is verified in the cluster.
pub(crate) async fn run(shared: &Arc<Shared>, task: &IngestTask) -> Result<IngestReport, Failed> {
    let bug = |cause: &str| {
        Error::new(ErrorKind::Internal, "ingest task", cause)
            .advice("this is a bug; please report it")
    };
    let spec = task.table.as_ref().ok_or_else(|| bug("no table"))?;
    let range = task.range.as_ref().ok_or_else(|| bug("no range"))?;
    let range = KeyRange::new(range.start.clone(), range.end.clone());
    let table = format!("{}.{}", spec.database, spec.table);

    shared.idle_buffers.free();
    let importer = shared.clusters.importer(spec).await?;
    let inputs = Inputs {
        run_paths: task.run_paths.clone(),
        remote_runs: task.remote_runs.clone(),
    };
    let merged = Arc::new(open_runs(shared, task, &inputs, &range, spec).await?);
    let source: Arc<dyn PairSource> = Arc::clone(&merged) as Arc<dyn PairSource>;
    let mut deleted = IngestStats::default();
    let ingested = match &spec.existing {
        None => importer.ingest_range(&range, spec.commit_ts, source).await,
        Some(existing) => {
            let delete_ts = existing.delete_ts;
            deleted =
                existing::delete_losers(shared, &importer, task, spec, &range, delete_ts).await?;
            importer.ingest_among(&range, spec.commit_ts, source).await
        }
    };
    let stats = ingested.map_err(|error| match error.kind {
        ErrorKind::Checksum => Error {
            place: format!("table {table}, {}", error.place),
            ..error
        }
        .into(),
        _ => inputs.lost_or(error),
    })?;

    let (mut account, mut remote) = (None, stats.checksum);
    if let Some(existing) = &spec.existing {
        let strategy = conflict::strategy(spec)?;
        let (deleted, written) = (deleted.checksum.kvs, stats.checksum);
        let proved = existing::verify(
            &importer, spec, existing, strategy, &range, deleted, written,
        );
        account = Some(proved.await?);
    } else {
        remote = importer.checksum(&range).await?;
    }
    fail_point("range-checksum");
    if remote != stats.checksum {
        let cause = format!(
            "the cluster holds {} pairs of a range for which {} were written",
            remote.kvs, stats.checksum.kvs
        );
        let error = Error::new(ErrorKind::Checksum, format!("table {table}"), cause)
            .advice("was the table written to during the import? TRUNCATE it and import it again");
        return Err(error.into());
    }
    shared
        .totals
        .ingested_bytes
        .fetch_add(stats.checksum.bytes, Ordering::Relaxed);
    let duplicates = merged.duplicates();
    let mut removed = duplicates.left_out;
    removed.merge(&duplicates.conflicting);
    Ok(IngestReport {
        checksum: Some(to_wire(stats.checksum)),
        collapsed: Some(to_wire(duplicates.collapsed)),
        removed: Some(to_wire(removed)),
        ssts: stats.ssts,
        regions: stats.regions,
        retries: stats.retries,
        left_files: stats.strays + deleted.strays > 0,
        path: importer.ingest_path(),
        sent_bytes: stats.bytes,
        before: account.as_ref().map(|a| to_wire(a.before)),
        deleted: account.as_ref().map(|a| to_wire(a.deleted)),
        overwritten: account.as_ref().map(|a| to_wire(a.overwritten)),
    })
}

fn to_wire(c: Checksum) -> wire::Checksum {
    wire::Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    }
}

/// The merged pairs of the range, without those of the rows that lose a conflict.
async fn open_runs(
    shared: &Arc<Shared>,
    task: &IngestTask,
    inputs: &Inputs,
    range: &KeyRange,
    spec: &wire::TableSpec,
) -> Result<MergedRuns, Failed> {
    let strategy = conflict::strategy(spec)?;
    let place = format!("table {}.{}", spec.database, spec.table);
    let hook: Option<Arc<dyn ConflictHook>> = match strategy {
        None => Some(Arc::new(StopAtConflict { place })),
        Some(Strategy::Record) => None,
        Some(_) => Some(Arc::new(AllSettled { place })),
    };
    let filter = match (strategy, &task.losers) {
        (None, _) | (_, None) => None,
        (_, Some(run)) => Some(conflict::without(
            shared.losers.open(shared, spec, run).await?,
        )),
    };
    Ok(inputs.merge(shared, range, hook).await?.filtered(filter))
}

/// Without a strategy for conflicts the first one ends the job: the table would not be consistent.
struct StopAtConflict {
    place: String,
}

impl ConflictHook for StopAtConflict {
    fn conflict(&self, key: &[u8], _: &[u8], _: &[u8]) -> Result<()> {
        let of = match keys::parse(key) {
            Some(TableKey::Index { index_id, .. }) => {
                format!("two rows have the same key in unique index {index_id}")
            }
            _ => "two rows have the same primary key".to_owned(),
        };
        Err(Error::new(ErrorKind::Conflict, &self.place, of).advice(
            "TRUNCATE the table and import again with conflict.strategy = \"error\", which names the rows, or with \
             \"remove\", \"replace\" or \"ignore\"",
        ))
    }
}

/// Conflicts were looked for and settled before: one that comes up now was overlooked.
struct AllSettled {
    place: String,
}

impl ConflictHook for AllSettled {
    fn conflict(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<()> {
        let cause = "two rows with the same unique key were not found before";
        Err(Error::new(ErrorKind::Internal, &self.place, cause)
            .advice("this is a bug: keep the sort directory and report it"))
    }
}
