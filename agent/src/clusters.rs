//! The importers of an agent: one per job, made when the first ingest task of the job comes, from what the task
//! says about its cluster. All of them share one bound on regions in flight, which the memory budget is made for.

use crate::sort::Ledger;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thunderhead_cluster::{
    Importer, ImporterOptions, IngestPath, PdClient, Pulse, RetryPolicy, Security, Waits,
};
use thunderhead_proto::thunderhead::TableSpec;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

/// A process that did not run for so long counts as suspended, until a leader says how long its lease is.
const OVERDUE: Duration = Duration::from_secs(5);

/// Where ingest tasks write to.
pub struct Clusters {
    reach: Reach,
}

enum Reach {
    /// Every task goes through one importer, that of the process the agent is embedded in.
    Given(Arc<Importer>),
    Connecting(Connecting),
}

struct Connecting {
    security: Security,
    regions_in_flight: usize,
    /// Where table files are built.
    sst_dir: PathBuf,
    /// The account that they are counted in.
    disk: OnceLock<Arc<Ledger>>,
    /// Of `regions_in_flight`, over all jobs.
    slots: Arc<Semaphore>,
    cancel: CancellationToken,
    pulse: Arc<Pulse>,
    jobs: Mutex<HashMap<String, Job>>,
    /// Over all jobs.
    waits: Arc<Waits>,
}

#[derive(Clone, Default)]
struct Job {
    importer: Arc<OnceCell<Arc<Importer>>>,
    store_bytes_per_second: u64,
}

impl Clusters {
    /// All tasks write through `importer`.
    pub fn given(importer: Arc<Importer>) -> Self {
        Self {
            reach: Reach::Given(importer),
        }
    }

    /// Connects to the cluster that a task names, with these certificates and so many regions in flight over all
    /// jobs. Table files are built in `sst_dir`.
    pub fn connecting(
        security: Security,
        regions_in_flight: usize,
        sst_dir: PathBuf,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            reach: Reach::Connecting(Connecting {
                security,
                regions_in_flight,
                sst_dir,
                disk: OnceLock::new(),
                slots: Arc::new(Semaphore::new(regions_in_flight.max(1))),
                cancel,
                pulse: Arc::new(Pulse::new(OVERDUE)),
                jobs: Mutex::default(),
                waits: Arc::default(),
            }),
        }
    }

    /// Table files count in `disk` from now on.
    pub(crate) fn count_files_in(&self, disk: &Arc<Ledger>) {
        match &self.reach {
            Reach::Given(importer) => importer.count_files_in(Arc::clone(disk) as _),
            // The first account stays.
            Reach::Connecting(connecting) => _ = connecting.disk.set(Arc::clone(disk)),
        }
    }

    /// The importer for tasks of `spec`.
    pub(crate) async fn importer(&self, spec: &TableSpec) -> Result<Arc<Importer>> {
        let connecting = match &self.reach {
            Reach::Given(importer) => return Ok(Arc::clone(importer)),
            Reach::Connecting(connecting) => connecting,
        };
        let job = connecting
            .jobs
            .lock()
            .entry(spec.job_id.clone())
            .or_default()
            .clone();
        let importer = job
            .importer
            .get_or_try_init(|| connecting.connect(spec))
            .await?;
        // The limit may have changed while the connection was made.
        let limit = connecting
            .jobs
            .lock()
            .get(&spec.job_id)
            .map_or(0, |job| job.store_bytes_per_second);
        importer.limit_stores(limit);
        Ok(Arc::clone(importer))
    }

    /// Limits what a job sends to each store; 0 = no limit.
    pub(crate) fn limit(&self, job: &str, store_bytes_per_second: u64) {
        match &self.reach {
            Reach::Given(importer) => importer.limit_stores(store_bytes_per_second),
            Reach::Connecting(connecting) => {
                let mut jobs = connecting.jobs.lock();
                let job = jobs.entry(job.to_owned()).or_default();
                job.store_bytes_per_second = store_bytes_per_second;
                if let Some(importer) = job.importer.get() {
                    importer.limit_stores(store_bytes_per_second);
                }
            }
        }
    }

    /// What keeps a suspended process from ingesting; `None` in a process that works for itself.
    pub(crate) fn pulse(&self) -> Option<Arc<Pulse>> {
        match &self.reach {
            Reach::Given(_) => None,
            Reach::Connecting(connecting) => Some(Arc::clone(&connecting.pulse)),
        }
    }

    /// What writers have waited for.
    pub(crate) fn waits(&self) -> &Waits {
        match &self.reach {
            Reach::Given(importer) => importer.waits(),
            Reach::Connecting(connecting) => &connecting.waits,
        }
    }

    /// The job is over: its connections may go.
    pub(crate) fn forget(&self, job: &str) {
        if let Reach::Connecting(connecting) = &self.reach {
            connecting.jobs.lock().remove(job);
        }
    }
}

impl Connecting {
    async fn connect(&self, spec: &TableSpec) -> Result<Arc<Importer>> {
        let cluster = spec.cluster.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "ingest task",
                "it does not name its cluster",
            )
            .advice("this is a bug; please report it")
        })?;
        let retry = match cluster.retry_ms {
            0 => RetryPolicy::default(),
            ms => RetryPolicy {
                max_elapsed: Duration::from_millis(ms),
            },
        };
        let pd = PdClient::connect_with(&cluster.pd_addresses, &self.security, retry).await?;
        if cluster.cluster_id != 0 && pd.cluster_id() != cluster.cluster_id {
            return Err(Error::new(
                ErrorKind::Cluster,
                format!("pd {}", cluster.pd_addresses.join(",")),
                format!(
                    "this agent reaches cluster {} there, the job is for {}",
                    pd.cluster_id(),
                    cluster.cluster_id
                ),
            )
            .advice("the addresses of PD must mean the same servers on every host"));
        }
        let options = ImporterOptions {
            retry,
            slice_bytes: (cluster.slice_bytes > 0).then_some(cluster.slice_bytes),
            regions_in_flight: self.regions_in_flight,
            slots: Some(Arc::clone(&self.slots)),
            waits: Arc::clone(&self.waits),
            pulse: Some(Arc::clone(&self.pulse)),
            path: IngestPath::of_name(&cluster.ingest),
            sst_dir: Some(self.sst_dir.clone()),
            ..ImporterOptions::default()
        };
        let importer = Importer::new(pd, options, self.cancel.clone());
        if let Some(disk) = self.disk.get() {
            importer.count_files_in(Arc::clone(disk) as _);
        }
        Ok(Arc::new(importer))
    }
}
