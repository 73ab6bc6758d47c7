//! The importer: what all of ingest, checksum, split and point reads share. Owns the region cache,
//! the connections to stores, and the loop that carries reactions out for requests that can simply be
//! sent again. Every public call ends when the importer is cancelled.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use thunderhead_proto::{errorpb, kvrpcpb, metapb};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::gate::{Gate, IngestPath};
use crate::limit::StoreLimits;
use crate::pd::{PdClient, status_text};
use crate::pulse::Pulse;
use crate::reaction::{self, Reaction};
use crate::region::Region;
use crate::region_cache::RegionCache;
use crate::retry::{Pace, Patience, RetryPolicy};
use crate::space::{DiskAccount, Space};
use crate::store::{STORE_UNKNOWN, StoreClients, StoreConfig};
use crate::waits::Waits;

/// What TiKV splits at when its configuration cannot be read: the smallest default of all versions.
const REGION_SPLIT_BYTES: u64 = 96 << 20;
/// Lets servers tell our load from the rest.
const REQUEST_SOURCE: &str = "external_import";

/// How an importer works. `Default` suits a cluster that serves others, too.
#[derive(Clone, Debug)]
pub struct ImporterOptions {
    /// How long one thing may go without progress.
    pub retry: RetryPolicy,
    /// Regions written to at the same time, over all calls of one importer.
    pub regions_in_flight: usize,
    /// Regions summed at the same time by one checksum.
    pub checksums_in_flight: usize,
    /// Bytes of keys and values in one SST; by default three quarters of what regions split at.
    pub slice_bytes: Option<u64>,
    /// How long an ingest may go without an answer before it is asked for again; it waits for replication and for
    /// each peer to link the files.
    pub ingest_deadline: Duration,
    /// How long scattering may take before the import goes on without it.
    pub scatter_patience: Duration,
    /// Resource group that servers charge our requests to.
    pub resource_group: Option<String>,
    /// Takes the place of an own bound of `regions_in_flight` when several importers share one.
    pub slots: Option<Arc<Semaphore>>,
    /// Nothing is ingested while it is overdue.
    pub pulse: Option<Arc<Pulse>>,
    /// Where waiting is counted; several importers may count together.
    pub waits: Arc<Waits>,
    /// How pairs become files of the stores.
    pub path: IngestPath,
    /// Where files for `Upload` are built; in memory if nowhere.
    pub sst_dir: Option<PathBuf>,
    /// How long files that were uploaded may wait for their ingest; their region is looked at again at half of that.
    /// TiKV sweeps its import directory every ten minutes.
    pub upload_age_max: Duration,
}

impl Default for ImporterOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            regions_in_flight: 8,
            checksums_in_flight: 8,
            slice_bytes: None,
            ingest_deadline: Duration::from_secs(60),
            scatter_patience: Duration::from_secs(300),
            resource_group: None,
            slots: None,
            pulse: None,
            waits: Arc::default(),
            path: IngestPath::Write,
            sst_dir: None,
            upload_age_max: Duration::from_secs(600),
        }
    }
}

/// Brings sorted pairs into TiKV and checks what is there.
pub struct Importer {
    pub(crate) pd: Arc<PdClient>,
    pub(crate) stores: Arc<StoreClients>,
    pub(crate) regions: RegionCache,
    pub(crate) options: ImporterOptions,
    cancel: CancellationToken,
    config: OnceCell<StoreConfig>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) limits: StoreLimits,
    /// Set once a store said that it knows no `MultiIngest`.
    pub(crate) single_ingest: AtomicBool,
    pub(crate) gate: Gate,
    pub(crate) space: Arc<Space>,
}

/// A request to a region's leader that did not succeed.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub reaction: Reaction,
    pub cause: String,
    pub store: u64,
}

impl Refusal {
    /// PD does not know the store: the region that names it is out of date.
    pub(crate) fn unknown_store(store: u64) -> Self {
        Self {
            reaction: Reaction::Rescan(Vec::new()),
            cause: STORE_UNKNOWN.to_owned(),
            store,
        }
    }
}

/// A leader to ask: its context and a connection.
#[derive(Clone)]
pub(crate) struct Target {
    pub context: kvrpcpb::Context,
    pub channel: Channel,
}

impl Importer {
    /// An importer of the cluster behind `pd`; `cancel` ends its calls.
    pub fn new(pd: Arc<PdClient>, options: ImporterOptions, cancel: CancellationToken) -> Self {
        Self {
            stores: Arc::new(StoreClients::new(pd.clone())),
            regions: RegionCache::new(pd.clone()),
            slots: match &options.slots {
                Some(shared) => Arc::clone(shared),
                None => Arc::new(Semaphore::new(options.regions_in_flight.max(1))),
            },
            limits: StoreLimits::new(),
            gate: Gate::new(options.path),
            space: Space::new(options.sst_dir.clone()),
            options,
            cancel,
            config: OnceCell::new(),
            single_ingest: AtomicBool::new(false),
            pd,
        }
    }

    /// The placement driver.
    pub fn pd(&self) -> &Arc<PdClient> {
        &self.pd
    }

    /// Connections to stores.
    pub fn stores(&self) -> &Arc<StoreClients> {
        &self.stores
    }

    /// Limits what goes to each store from now on, bytes per second; 0 = no limit.
    pub fn limit_stores(&self, bytes_per_second: u64) {
        self.limits.set(bytes_per_second);
    }

    /// Counts the files in `sst_dir` in this account.
    pub fn count_files_in(&self, account: Arc<dyn DiskAccount>) {
        self.space.count_in(account);
    }

    /// What its writers have waited for.
    pub fn waits(&self) -> &Waits {
        &self.options.waits
    }

    /// Regions as known to this importer.
    pub fn regions(&self) -> &RegionCache {
        &self.regions
    }

    /// Size at which TiKV splits regions, bytes; a small default when no store tells.
    pub async fn region_split_size(&self) -> u64 {
        let config = self.config.get_or_try_init(|| self.stores.config()).await;
        let told = match config {
            Ok(config) => config.region_split_bytes,
            Err(error) => {
                tracing::warn!(%error, "region size unknown, taking {REGION_SPLIT_BYTES} bytes");
                None
            }
        };
        told.filter(|bytes| *bytes > 0)
            .unwrap_or(REGION_SPLIT_BYTES)
    }

    /// Bytes of keys and values that go into one SST.
    pub(crate) async fn slice_bytes(&self) -> u64 {
        match self.options.slice_bytes {
            Some(bytes) => bytes.max(1),
            None => self.region_split_size().await / 4 * 3,
        }
    }

    /// Runs `work` until it ends or the importer is cancelled.
    pub(crate) async fn until_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let done = self.cancel.run_until_cancelled(work).await;
        done.unwrap_or_else(|| Err(Error::new(ErrorKind::Cancelled, "", "cancelled")))
    }

    pub(crate) fn context(&self, region: &Region, peer: Option<metapb::Peer>) -> kvrpcpb::Context {
        kvrpcpb::Context {
            region_id: region.id,
            region_epoch: Some(region.epoch),
            peer,
            not_fill_cache: true,
            request_source: REQUEST_SOURCE.to_owned(),
            cluster_id: self.pd.cluster_id(),
            resource_control_context: self.options.resource_group.as_ref().map(|group| {
                kvrpcpb::ResourceControlContext {
                    resource_group_name: group.clone(),
                    ..Default::default()
                }
            }),
            ..Default::default()
        }
    }

    /// Sends one request to the region's leader.
    pub(crate) async fn ask_leader<R, F, Fut>(
        &self,
        region: &Region,
        deadline: Duration,
        call: F,
    ) -> Result<Result<R, Refusal>>
    where
        F: FnOnce(Target) -> Fut,
        Fut: Future<Output = Result<(Option<errorpb::Error>, R), Status>>,
    {
        let Some(leader) = region.leader else {
            return Ok(Err(Refusal {
                reaction: Reaction::FindLeader,
                cause: format!("region {} has no leader", region.id),
                store: 0,
            }));
        };
        let Some(channel) = self.stores.channel(leader.store_id).await? else {
            return Ok(Err(Refusal::unknown_store(leader.store_id)));
        };
        let target = Target {
            context: self.context(region, Some(leader)),
            channel,
        };
        let outcome = match tokio::time::timeout(deadline, call(target)).await {
            Ok(Ok((None, value))) => return Ok(Ok(value)),
            Ok(Ok((Some(error), _))) => (reaction::of_region_error(&error), describe(&error)),
            Ok(Err(status)) => {
                if status.code() == Code::Unavailable {
                    // Perhaps the store came back at another address.
                    self.stores.forget(leader.store_id);
                }
                (reaction::of_status(&status), status_text(&status))
            }
            Err(_) => (Reaction::Unknown, format!("no answer within {deadline:?}")),
        };
        Ok(Err(Refusal {
            reaction: outcome.0,
            cause: outcome.1,
            store: leader.store_id,
        }))
    }

    /// Sends a request that may be repeated to whoever leads the region of `key`, until it succeeds.
    pub(crate) async fn at_leader<R, F, Fut>(
        &self,
        key: &[u8],
        deadline: Duration,
        call: F,
    ) -> Result<(Region, R)>
    where
        F: Fn(Target) -> Fut,
        Fut: Future<Output = Result<(Option<errorpb::Error>, R), Status>>,
    {
        let mut patience = Patience::new(self.options.retry);
        loop {
            let region = self.regions.locate(key).await?;
            match self.ask_leader(&region, deadline, &call).await? {
                Ok(value) => return Ok((region, value)),
                Err(refusal) => self.react(&region, refusal, &mut patience).await?,
            }
        }
    }

    /// Does what a refusal asks for, so that the same request can be sent again.
    pub(crate) async fn react(
        &self,
        region: &Region,
        refusal: Refusal,
        patience: &mut Patience,
    ) -> Result<()> {
        let place = place(refusal.store, region);
        let pace = match refusal.reaction {
            Reaction::NewLeader(leader) => {
                self.regions.set_leader(region, leader);
                Pace::Now
            }
            Reaction::Rescan(current) if !current.is_empty() => {
                self.regions.replace(region, current);
                Pace::Now
            }
            Reaction::Rescan(_)
            | Reaction::FindLeader
            | Reaction::Unknown
            | Reaction::Verify
            | Reaction::Smaller => {
                self.regions.forget(region);
                Pace::Short
            }
            Reaction::FindStore => {
                self.stores.forget(refusal.store);
                Pace::Short
            }
            Reaction::Wait(asked) => Pace::Busy(asked),
            Reaction::Unsupported => {
                return Err(Error::new(ErrorKind::Cluster, place, refusal.cause)
                    .advice("this version of TiKV does not offer what is needed"));
            }
            Reaction::Fatal(advice) => {
                return Err(Error::new(ErrorKind::Cluster, place, refusal.cause).advice(advice));
            }
        };
        give_up_with(patience.wait(pace, refusal.cause).await, place)
    }
}

/// `store 4 region 17`.
pub(crate) fn place(store: u64, region: &Region) -> String {
    match store {
        0 => format!("region {}", region.id),
        _ => format!("store {store} region {}", region.id),
    }
}

/// The end of patience as an error at `place`.
pub(crate) fn give_up_with(
    waited: Result<(), crate::retry::Exhausted>,
    place: impl fmt::Display,
) -> Result<()> {
    waited.map_err(|exhausted| {
        Error::new(ErrorKind::Cluster, place, exhausted)
            .advice("when the cluster is healthy again, run the same command again")
    })
}

/// The error's text; its keys, which some variants carry, stay out.
pub(crate) fn describe(error: &errorpb::Error) -> String {
    let variant = if error.not_leader.is_some() {
        "not leader"
    } else if error.epoch_not_match.is_some() {
        "epoch not match"
    } else if error.key_not_in_region.is_some() {
        return "key not in region".to_owned();
    } else if error.server_is_busy.is_some() {
        "server is busy"
    } else if error.disk_full.is_some() {
        "disk full"
    } else if error.stale_command.is_some() {
        "stale command"
    } else if error.region_not_found.is_some() {
        "region not found"
    } else {
        "refused"
    };
    match &error.server_is_busy {
        Some(busy) if error.message.is_empty() => format!("{variant}: {}", busy.reason),
        _ => format!("{variant}: {}", error.message),
    }
}
