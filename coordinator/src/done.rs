//! The last job that was finished, kept beside the state of jobs until another one is. Whoever is killed after the
//! job's records went and before it could say so is told by the next start: what is there is that job's work.

use crate::report::Report;
use crate::store::{StateStore, Txn};
use crate::target::Target;
use serde::{Deserialize, Serialize};
use thunderhead_codec::schema::TableInfo;
use thunderhead_types::{Error, ErrorKind, Result};

const KEY: &str = "done";

/// A finished job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Id, with its source files and options.
    pub(crate) job: String,
    pub(crate) content: String,
    pub(crate) cluster_id: u64,
    /// Database, table and its id.
    pub(crate) tables: Vec<(String, String, i64)>,
    pub(crate) report: Report,
}

impl Done {
    /// Keeps it in the place of the one before it.
    pub(crate) fn put(&self, txn: Txn) -> Result<Txn> {
        let json =
            serde_json::to_vec(self).map_err(|e| Error::new(ErrorKind::Internal, "report", e))?;
        Ok(txn.put(KEY.to_owned(), json))
    }
}

/// The report of this very job if it is finished and its tables are still what it made: none was truncated, dropped
/// or emptied.
pub(crate) async fn report(
    store: &dyn StateStore,
    target: &Target,
    job: &str,
    content: &str,
) -> Result<Option<Report>> {
    let Some(found) = store.get(KEY).await? else {
        return Ok(None);
    };
    // A former version may have written something else: then nothing is known.
    let Ok(done) = serde_json::from_slice::<Done>(&found.value) else {
        return Ok(None);
    };
    let same =
        done.job == job && done.content == content && done.cluster_id == target.pd.cluster_id();
    // A job without rows leaves nothing that could be told from a fresh table.
    if !same || done.report.tables.iter().all(|table| table.rows == 0) {
        return Ok(None);
    }
    for ((database, table, id), report) in done.tables.iter().zip(&done.report.tables) {
        let json = target.tidb.table_info_json(database, table).await?;
        let info: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
        if info.is_none_or(|info| info.id != *id)
            || (report.kv_pairs > 0 && target.tidb.is_empty(database, table).await?)
        {
            return Ok(None);
        }
    }
    Ok(Some(Report {
        already_finished: true,
        ..done.report
    }))
}
