//! What is kept of a finished job: of the last one by one process, beside the state of jobs until another one is
//! finished; of a fleet's, in its history. Whoever asks for the same job again is told that what is there is its work.

use crate::job::Table;
use crate::report::Report;
use crate::store::{StateStore, Txn};
use crate::target::Target;
use serde::{Deserialize, Serialize};
use thunderhead_codec::schema::TableInfo;
use thunderhead_types::{Error, ErrorKind, Result};

const KEY: &str = "done";

/// A finished job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Id, with its source files and options.
    pub(crate) job: String,
    pub(crate) content: String,
    pub(crate) cluster_id: u64,
    /// Database, table and its id.
    pub(crate) tables: Vec<(String, String, i64)>,
    pub(crate) report: Report,
}

impl Done {
    pub(crate) fn new(content: String, cluster_id: u64, tables: &[Table], report: Report) -> Self {
        let finished = |table: &Table| {
            let record = &table.record;
            (
                record.database.clone(),
                record.table.clone(),
                record.table_id,
            )
        };
        Self {
            job: report.job.clone(),
            content,
            cluster_id,
            tables: tables.iter().map(finished).collect(),
            report,
        }
    }

    /// Keeps it in the place of the one before it.
    pub(crate) fn put(&self, txn: Txn) -> Result<Txn> {
        let json =
            serde_json::to_vec(self).map_err(|e| Error::new(ErrorKind::Internal, "report", e))?;
        Ok(txn.put(KEY.to_owned(), json))
    }

    /// Whether it is this very job, and its tables are still what it made: none was truncated, dropped or emptied.
    pub(crate) async fn holds(&self, target: &Target, job: &str, content: &str) -> Result<bool> {
        let same =
            self.job == job && self.content == content && self.cluster_id == target.pd.cluster_id();
        // A job without rows leaves nothing that could be told from a fresh table.
        if !same || self.report.tables.iter().all(|table| table.rows == 0) {
            return Ok(false);
        }
        for ((database, table, id), report) in self.tables.iter().zip(&self.report.tables) {
            let json = target.tidb.table_info_json(database, table).await?;
            let info: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
            if info.is_none_or(|info| info.id != *id)
                || (report.kv_pairs > 0 && target.tidb.is_empty(database, table).await?)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The report of this very job if it is finished and its tables are still what it made.
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
    let holds = done.holds(target, job, content).await?;
    Ok(holds.then_some(Report {
        already_finished: true,
        ..done.report
    }))
}
