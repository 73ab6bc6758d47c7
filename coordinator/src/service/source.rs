//! What a job of a fleet imports: what this coordinator sees, or what agents hold.

use super::jobs::Jobs;
use crate::done::Done;
use crate::job;
use crate::spread::{Listing, Spread};
use crate::store::{StateStore, Txn};
use crate::target::Target;
use std::sync::Arc;
use thunderhead_config::{Job, SourceTree, fingerprint};
use thunderhead_types::{Result, fail_point};
use tokio_util::sync::CancellationToken;

/// Where the source is.
pub(super) enum Found {
    /// Where coordinators see it.
    Seen,
    /// With agents.
    Spread(Arc<Spread>),
    /// With agents, and it is imported already.
    Done(Box<Done>),
}

/// `db.table` of all tables with data, in lower case.
pub(super) fn names(tree: &SourceTree) -> Vec<String> {
    let tables = tree.tables.iter().filter(|t| !t.data_files.is_empty());
    tables
        .map(|t| format!("{}.{}", t.database, t.table).to_lowercase())
        .collect()
}

impl Jobs {
    /// The list of the job's files as it is recorded; or made now of what agents hold, and recorded before anything is
    /// planned: an agent that leaves takes its files along, but not the knowledge of them.
    ///
    /// # Errors
    /// `Cluster` while agents or the cluster are not there; else why the job cannot be.
    pub(super) async fn find_source(&self, id: &str, job: &Job) -> Result<Found> {
        if job.source_agents == 0 {
            return Ok(Found::Seen);
        }
        let (security, key) = (&self.shared.security, job::listing_key(id));
        if let Some(recorded) = self.shared.store.get(&key).await? {
            let listing: Listing = job::parse_json(&key, &recorded.value)?;
            let spread = Spread::new(job, listing, security);
            spread.look_around(&self.fleet).await?;
            return Ok(Found::Spread(Arc::new(spread)));
        }
        let spread = Arc::new(Spread::gather(job, security, &self.fleet).await?);
        let tree = spread.tree().await?;
        let target = Target::connect(job, CancellationToken::new()).await?;
        let _alone = self.submitting.lock().await;
        let tables = names(&tree);
        self.refuse_shared(id, target.pd.cluster_id(), &tables)?;
        let content = fingerprint::content(job, &tree);
        let done = self.finished(&target, id, &content).await?;
        let listing = job::to_json(&spread.listing(&tree))?;
        self.change(id, |record| record.tables.clone_from(&tables))
            .await?;
        if let Some(done) = done {
            return Ok(Found::Done(Box::new(done)));
        }
        self.commit(Txn::default().put(key, listing)).await?;
        fail_point("source");
        Ok(Found::Spread(spread))
    }
}
