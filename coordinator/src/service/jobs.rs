//! The jobs of a term: what people asked for, one runner for each job that is not over, and a short history of
//! those that are. A job's record goes with it: after its end the state store holds only its line in the history.

use super::Shared;
use super::secrets::Secrets;
use super::source::{Found, names};
use crate::done::Done;
use crate::fleet::FleetHandle;
use crate::job::{self, JobRecord};
use crate::prepare::reading;
use crate::progress::Progress;
use crate::run::{self, FleetRun};
use crate::spread;
use crate::store::{Commit, StateStore, Txn};
use crate::target::Target;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thunderhead_config::{Job, fingerprint};
use thunderhead_types::{Clock, Error, ErrorKind, Result, SystemClock, fail_point};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Ended jobs that are remembered.
const HISTORY_MAX: usize = 32;
const HISTORY: &str = "history/";
/// Before a job that could not begin because the cluster was away is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What a user asked for; recorded without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The configuration as TOML.
    pub config: String,
    /// Dotted keys with their values, over the configuration.
    pub overrides: Vec<(String, String)>,
}

/// Answer to a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub job: String,
    /// The job was there already.
    pub joined: bool,
    /// It is finished, and its tables are what it made of this source: nothing is done.
    #[serde(default)]
    pub finished: bool,
}

/// How far a job has come, as it is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Being worked on, or waiting for agents.
    #[default]
    Running,
    /// Told to wait.
    Paused,
    /// Ended by an error; submitting it again goes on where it was.
    Failed,
    /// Told to end; its runs are being deleted.
    Cancelling,
    /// Imported and verified.
    Finished,
    /// Ended on request.
    Cancelled,
}

/// A job that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Its line in the list.
    pub view: JobView,
    /// What a finished job made.
    #[serde(default)]
    pub done: Option<Done>,
}

/// A job in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// Job id.
    pub job: String,
    /// Source directory.
    pub title: String,
    /// See [`JobState`].
    pub state: JobState,
    /// Unix ms.
    pub created_ms: u64,
    /// Unix ms; of ended jobs.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// Tables.
    pub tables: usize,
    /// What it waits for before it can begin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waiting_for: String,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<JobError>,
    /// The report of a finished job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<serde_json::Value>,
}

/// An error that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Of [`ErrorKind`].
    pub kind: String,
    /// Where.
    pub place: String,
    /// Why.
    pub cause: String,
    /// What to do.
    pub advice: String,
}

impl From<&Error> for JobError {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind.name().to_owned(),
            place: error.place.clone(),
            cause: error.cause.clone(),
            advice: error.advice.clone(),
        }
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Error::new(ErrorKind::from_name(&error.kind), error.place, error.cause).advice(error.advice)
    }
}

pub(super) struct Entry {
    pub(super) record: JobRecord,
    /// Ends the runner; the job is cancelled.
    cancel: CancellationToken,
    /// What kept it from beginning.
    waiting_for: String,
}

impl Entry {
    fn new(record: JobRecord) -> Self {
        Self {
            record,
            cancel: CancellationToken::new(),
            waiting_for: String::new(),
        }
    }

    fn view(&self, id: &str) -> JobView {
        let mut view = view(id, &self.record);
        if matches!(view.state, JobState::Running | JobState::Paused) {
            view.waiting_for.clone_from(&self.waiting_for);
        }
        view
    }
}

/// See the module.
pub(super) struct Jobs {
    pub(super) shared: Arc<Shared>,
    pub(super) fleet: FleetHandle,
    pub(super) entries: Mutex<BTreeMap<String, Entry>>,
    runners: Mutex<JoinSet<()>>,
    /// One submission at a time, so that two for one table do not pass each other.
    pub(super) submitting: tokio::sync::Mutex<()>,
}

/// Jobs that are recorded, the oldest first.
pub(super) async fn recorded(store: &dyn StateStore) -> Result<Vec<(String, JobRecord)>> {
    let mut found = job::list(store).await?;
    found.sort_by_key(|(_, record)| record.created_ms);
    Ok(found)
}

fn no_such(job: &str) -> Error {
    Error::new(ErrorKind::Config, format!("job {job}"), "no such job")
        .advice("`thunderhead jobs` lists them")
}

impl Jobs {
    /// Starts a runner for each recorded job.
    pub(super) fn start(
        shared: Arc<Shared>,
        fleet: FleetHandle,
        recorded: Vec<(String, JobRecord)>,
    ) -> Arc<Self> {
        let jobs = Arc::new(Self {
            shared,
            fleet,
            entries: Mutex::default(),
            runners: Mutex::default(),
            submitting: tokio::sync::Mutex::default(),
        });
        for (id, record) in recorded {
            let failed = record.state == JobState::Failed;
            jobs.entries.lock().insert(id.clone(), Entry::new(record));
            if !failed {
                jobs.run(id);
            }
        }
        jobs
    }

    /// Waits for the runners after the loop has ended.
    pub(super) async fn end(&self) {
        let mut runners = std::mem::take(&mut *self.runners.lock());
        // What still prepares has nothing to lose.
        runners.abort_all();
        while runners.join_next().await.is_some() {}
    }

    fn run(self: &Arc<Self>, id: String) {
        let jobs = Arc::clone(self);
        self.runners
            .lock()
            .spawn(async move { jobs.runner(&id).await });
    }

    /// Takes a job, or joins it when it is there.
    pub(super) async fn submit(self: &Arc<Self>, submission: Submission) -> Result<Submitted> {
        let _alone = self.submitting.lock().await;
        let (submission, secrets) = Secrets::set_apart(submission)?;
        let job = self.load(&submission, &secrets)?;
        run::check(&job)?;
        let target = Target::connect(&job, CancellationToken::new()).await?;
        let cluster_id = target.pd.cluster_id();
        // What agents hold is found out when they are there: by the job's runner.
        let (id, title, tables) = if job.source_agents > 0 {
            let id = fingerprint::identity_unseen(&job);
            let known = self
                .entries
                .lock()
                .get(&id)
                .map(|e| e.record.tables.clone());
            (id, job.source_dir.clone(), known.unwrap_or_default())
        } else {
            let scan = job.clone();
            let scanned = reading(move || thunderhead_source::store::scan(&scan)).await;
            let tree = scanned.map_err(|e| spread::perhaps_elsewhere(&job, &self.fleet, e))?;
            spread::refuse_unseen(&job, &self.shared.security, &self.fleet, &tree).await?;
            let (id, tables) = (fingerprint::identity(&job, &tree), names(&tree));
            self.refuse_shared(&id, cluster_id, &tables)?;
            let content = fingerprint::content(&job, &tree);
            let known = self.entries.lock().contains_key(&id);
            if !known && self.finished(&target, &id, &content).await?.is_some() {
                return Ok(Submitted {
                    job: id,
                    joined: true,
                    finished: true,
                });
            }
            (id, tree.root, tables)
        };
        let joined = self.entries.lock().get(&id).map(|e| e.record.state);
        self.remember(&id, secrets);
        if joined.is_some_and(|state| state != JobState::Failed) {
            return Ok(Submitted {
                job: id,
                joined: true,
                finished: false,
            });
        }
        let record = JobRecord {
            title: title.display().to_string(),
            cluster_id,
            created_ms: SystemClock.unix_ms(),
            state: JobState::Running,
            error: None,
            tables,
            store_bytes_per_second: None,
            submission: Some(submission),
        };
        // The files of a job that failed are listed again.
        let txn = Txn::default().put(job::job_key(&id), job::to_json(&record)?);
        self.commit(txn.delete(job::listing_key(&id))).await?;
        fail_point("submit");
        self.entries.lock().insert(id.clone(), Entry::new(record));
        self.run(id.clone());
        Ok(Submitted {
            job: id,
            joined: joined.is_some(),
            finished: false,
        })
    }

    fn load(&self, submission: &Submission, secrets: &Secrets) -> Result<Job> {
        let mut overrides = submission.overrides.clone();
        overrides.extend(secrets.overrides(self.shared.tidb_password.as_deref()));
        let mut job = thunderhead_config::load(&submission.config, "configuration", &overrides)
            .map_err(|problems| thunderhead_config::to_error(&problems))?
            .job;
        // Agents have directories of their own. A fixed name keeps a job the same wherever it was submitted.
        job.sorted_kv_dir = PathBuf::from("/agents");
        Ok(job)
    }

    fn remember(&self, id: &str, secrets: Secrets) {
        let mut known = self.shared.secrets.write();
        known.entry(id.to_owned()).or_default().update(secrets);
    }

    /// Those that this leader was given with the job.
    fn secrets(&self, id: &str) -> Secrets {
        let known = self.shared.secrets.read();
        known.get(id).cloned().unwrap_or_default()
    }

    async fn store_record(&self, id: &str, record: &JobRecord) -> Result<()> {
        let txn = Txn::default().put(job::job_key(id), job::to_json(record)?);
        self.commit(txn).await
    }

    /// An unfinished job keeps its tables.
    pub(super) fn refuse_shared(&self, id: &str, cluster_id: u64, tables: &[String]) -> Result<()> {
        let entries = self.entries.lock();
        for (other, entry) in entries.iter().filter(|(other, _)| *other != id) {
            let theirs = &entry.record;
            let both = tables.iter().find(|t| theirs.tables.contains(t));
            if let (true, Some(table)) = (theirs.cluster_id == cluster_id, both) {
                let cause = format!("job {other} imports it already");
                let error = Error::new(ErrorKind::Precheck, format!("table {table}"), cause);
                return Err(error.advice(
                    "wait for that job, or cancel it; an unfinished job keeps its tables",
                ));
            }
        }
        Ok(())
    }

    /// What the job made when it ran last, as long as its tables are that.
    pub(super) async fn finished(
        &self,
        target: &Target,
        id: &str,
        content: &str,
    ) -> Result<Option<Done>> {
        let Some(done) = self.last(id).await?.and_then(|ended| ended.done) else {
            return Ok(None);
        };
        let holds = done.holds(target, id, content).await?;
        Ok(holds.then_some(done))
    }

    pub(super) async fn commit(&self, txn: Txn) -> Result<()> {
        match self.shared.store.commit(self.fleet.epoch(), txn).await? {
            Commit::Done(_) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Cancelled,
                "state store",
                "this coordinator no longer leads",
            )),
        }
    }

    /// Changes a job's record, first in the store.
    pub(super) async fn change(&self, id: &str, change: impl Fn(&mut JobRecord)) -> Result<()> {
        let mut record = {
            let entries = self.entries.lock();
            entries.get(id).ok_or_else(|| no_such(id))?.record.clone()
        };
        change(&mut record);
        self.store_record(id, &record).await?;
        if let Some(entry) = self.entries.lock().get_mut(id) {
            entry.record = record;
        }
        Ok(())
    }

    pub(super) async fn pause(&self, id: &str, pause: bool) -> Result<()> {
        let id = self.find(id)?;
        let (from, to) = if pause {
            (JobState::Running, JobState::Paused)
        } else {
            (JobState::Paused, JobState::Running)
        };
        self.change(&id, |record| {
            if record.state == from {
                record.state = to;
            }
        })
        .await?;
        self.fleet.pause(&id, pause).await
    }

    pub(super) async fn limit(&self, id: &str, bytes: u64) -> Result<()> {
        let id = self.find(id)?;
        self.change(&id, |record| record.store_bytes_per_second = Some(bytes))
            .await?;
        self.fleet.limit(&id, bytes).await
    }

    pub(super) async fn cancel(self: &Arc<Self>, id: &str) -> Result<()> {
        let id = self.find(id)?;
        let mut idle = false;
        self.change(&id, |record| {
            record.state = match record.state {
                JobState::Failed => JobState::Failed,
                _ => JobState::Cancelling,
            }
        })
        .await?;
        if let Some(entry) = self.entries.lock().get(&id) {
            idle = entry.record.state == JobState::Failed;
            entry.cancel.cancel();
        }
        if idle {
            self.forget(&id, JobState::Cancelled, None).await?;
        }
        Ok(())
    }

    /// The one job whose id begins with `id`.
    fn find(&self, id: &str) -> Result<String> {
        let entries = self.entries.lock();
        let mut found = entries.keys().filter(|known| known.starts_with(id));
        match (found.next(), found.next()) {
            (Some(only), None) if !id.is_empty() => Ok(only.clone()),
            _ => Err(no_such(id)),
        }
    }

    /// Jobs that are not over and those of the history, the oldest first.
    pub(super) async fn list(&self) -> Result<Vec<JobView>> {
        let mut views: Vec<JobView> = self
            .history()
            .await?
            .into_iter()
            .map(|(_, e)| e.view)
            .collect();
        let entries = self.entries.lock();
        let mut current: Vec<JobView> = entries.iter().map(|(id, e)| e.view(id)).collect();
        current.sort_by_key(|v| v.created_ms);
        views.extend(current);
        Ok(views)
    }

    pub(super) async fn view(&self, id: &str) -> Result<JobView> {
        if let Ok(id) = self.find(id)
            && let Some(entry) = self.entries.lock().get(&id)
        {
            return Ok(entry.view(&id));
        }
        let ended = self.last(id).await?.ok_or_else(|| no_such(id))?;
        let report = ended.done.map(|done| serde_json::to_value(&done.report));
        Ok(JobView {
            report: report
                .transpose()
                .map_err(|e| Error::new(ErrorKind::Internal, "report", e))?,
            ..ended.view
        })
    }

    /// The job that ended last of those whose id begins with `id`.
    async fn last(&self, id: &str) -> Result<Option<Ended>> {
        let mut ended = self.history().await?.into_iter().rev();
        let found = ended.find(|(_, e)| !id.is_empty() && e.view.job.starts_with(id));
        Ok(found.map(|(_, ended)| ended))
    }

    async fn history(&self) -> Result<Vec<(String, Ended)>> {
        let found = self.shared.store.list(HISTORY).await?;
        let parse = |(key, item): (String, crate::store::Versioned)| {
            Some((key, serde_json::from_slice(&item.value).ok()?))
        };
        Ok(found.into_iter().filter_map(parse).collect())
    }

    async fn runner(self: &Arc<Self>, id: &str) {
        let start = Instant::now();
        loop {
            let Some((record, cancel)) = self
                .entries
                .lock()
                .get(id)
                .map(|e| (e.record.clone(), e.cancel.clone()))
            else {
                return;
            };
            let result = if record.state == JobState::Cancelling {
                self.close_in_cluster(id, &record).await;
                Err(Error::new(
                    ErrorKind::Cancelled,
                    "",
                    "the job was cancelled",
                ))
            } else {
                self.work(id, &record, &cancel, start).await
            };
            if self.fleet.is_over() {
                return;
            }
            let ended = match result {
                Ok(done) => self.forget(id, JobState::Finished, Some(done)).await,
                Err(_) if cancel.is_cancelled() || record.state == JobState::Cancelling => {
                    self.forget(id, JobState::Cancelled, None).await
                }
                Err(error) if error.kind == ErrorKind::Cluster && error.place == run::NOT_BEGUN => {
                    if let Some(entry) = self.entries.lock().get_mut(id)
                        && entry.waiting_for != error.cause
                    {
                        tracing::warn!(%error, id, "a job cannot begin yet and is tried again");
                        entry.waiting_for = error.cause;
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, id, "a job failed");
                    let failed = JobError::from(&error);
                    self.change(id, |record| {
                        record.state = JobState::Failed;
                        record.error = Some(failed.clone());
                    })
                    .await
                }
            };
            if let Err(error) = ended {
                tracing::warn!(%error, id, "the end of a job could not be recorded");
            }
            return;
        }
    }

    async fn work(
        self: &Arc<Self>,
        id: &str,
        record: &JobRecord,
        cancel: &CancellationToken,
        start: Instant,
    ) -> Result<Done> {
        let submission = record.submission.clone().unwrap_or_default();
        let job = self.load(&submission, &self.secrets(id))?;
        let found = tokio::select! {
            found = self.find_source(id, &job) => found.map_err(run::not_begun),
            () = cancel.cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, "", "the job was cancelled"))
            }
        };
        let source = match found {
            Ok(Found::Done(done)) => return Ok(*done),
            Ok(Found::Seen) => None,
            Ok(Found::Spread(spread)) => Some(spread),
            Err(error) => {
                // A former leader may have left something open.
                if error.place != run::NOT_BEGUN && !self.fleet.is_over() {
                    self.close_in_cluster(id, record).await;
                }
                return Err(error);
            }
        };
        let (progress, _) = Progress::new();
        let store: Arc<dyn StateStore> = self.shared.store.clone();
        run::run_in_fleet(FleetRun {
            job,
            spread: source,
            job_id: id.to_owned(),
            record: record.clone(),
            store,
            fleet: self.fleet.clone(),
            progress,
            stop: cancel.clone(),
            start,
        })
        .await
    }

    /// A former leader began to cancel the job: what it left open is closed here, or ends by itself in minutes.
    async fn close_in_cluster(&self, id: &str, record: &JobRecord) {
        let submission = record.submission.clone().unwrap_or_default();
        let closed = match self.load(&submission, &self.secrets(id)) {
            Ok(job) => run::close_guards(&job, id, self.shared.store.as_ref()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, id, "guards in the cluster are left to expire");
        }
    }

    /// Deletes a job's runs and records, and adds its line to the history.
    async fn forget(&self, id: &str, state: JobState, done: Option<Done>) -> Result<()> {
        self.fleet.forget(id).await?;
        self.fleet.drop_runs(id).await?;
        let Some(record) = self.entries.lock().get(id).map(|e| e.record.clone()) else {
            return Ok(());
        };
        let ended_ms = SystemClock.unix_ms();
        let ended = Ended {
            view: JobView {
                state,
                ended_ms: Some(ended_ms),
                error: None,
                ..view(id, &record)
            },
            done,
        };
        let history = self.history().await?;
        let key = history_key(history.last().map(|(key, _)| key.as_str()), ended_ms, id);
        let mut txn = Txn::default()
            .delete(job::job_key(id))
            .delete(format!("{}/", job::job_key(id)))
            .put(key, job::to_json(&ended)?);
        for (key, _) in history
            .iter()
            .take((history.len() + 1).saturating_sub(HISTORY_MAX))
        {
            txn = txn.delete(key.clone());
        }
        fail_point("forget");
        self.commit(txn).await?;
        fail_point("forgotten");
        self.entries.lock().remove(id);
        self.shared.secrets.write().remove(id);
        Ok(())
    }
}

/// Keys are in the order in which jobs ended, also when the clock was set back after `last`.
fn history_key(last: Option<&str>, ended_ms: u64, id: &str) -> String {
    let before = last.and_then(|key| key.strip_prefix(HISTORY)?.split('-').next()?.parse().ok());
    let at = ended_ms.max(before.map_or(0, |ms: u64| ms + 1));
    format!("{HISTORY}{at:014}-{id}")
}

fn view(id: &str, record: &JobRecord) -> JobView {
    JobView {
        job: id.to_owned(),
        title: record.title.clone(),
        state: record.state,
        created_ms: record.created_ms,
        ended_ms: None,
        waiting_for: String::new(),
        tables: record.tables.len(),
        error: record.error.clone(),
        report: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_make_the_newest_job_an_old_one() {
        let first = history_key(None, 5_000, "a");
        let back = history_key(Some(&first), 10, "b");
        let later = history_key(Some(&back), 9_000, "a");
        assert!(first < back && back < later, "{first} {back} {later}");
        assert!(later.ends_with("009000-a"));
    }
}
