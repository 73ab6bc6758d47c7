//! What protects an import from the cluster's own housekeeping while it runs: schedulers stay off its
//! key ranges, garbage collection stays behind its timestamp, and stores cut SSTs at its borders. All
//! of it expires by itself when we die; names are made of the job's id, so that the next process of
//! the same job takes over or removes what a killed one left.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thunderhead_proto::import_sstpb::{
    self, AddPartitionRangeRequest, RemovePartitionRangeRequest,
};
use thunderhead_types::{Error, ErrorKind, KeyRange, Result, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use crate::importer::Importer;
use crate::pd::PdClient;
use crate::store::{StoreClients, is_tiflash};

/// Short-lived: a forgotten rule keeps a range from being balanced.
const LABEL_TTL: Duration = Duration::from_secs(300);
const LABEL_REFRESH: Duration = Duration::from_secs(100);
const GC_TTL: Duration = Duration::from_secs(600);
const GC_REFRESH: Duration = Duration::from_secs(200);
const PARTITION_TTL: Duration = Duration::from_secs(3600);
const PARTITION_REFRESH: Duration = Duration::from_secs(720);
/// Below this many regions, cutting SSTs at our borders is not worth a compaction on every store.
const PARTITION_REGIONS_MIN: usize = 100;
const TICK: Duration = Duration::from_secs(10);
/// The lesser guards must not keep the protection from GC waiting.
const REFRESH_DEADLINE: Duration = Duration::from_secs(30);
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// Which guards an import wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardOptions {
    /// Regions that the import will fill; for many, stores are told to cut SSTs at its borders.
    pub regions_expected: usize,
    /// Whether schedulers are kept off the ranges.
    pub pause_scheduling: bool,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            regions_expected: 0,
            pause_scheduling: true,
        }
    }
}

/// What is guarded, and by which name.
#[derive(Clone, Debug)]
struct Scope {
    id: String,
    ranges: Vec<KeyRange>,
    gc_ts: Timestamp,
    pause: bool,
    partition: bool,
}

/// Guards that are kept up until [`Guards::close`].
pub struct Guards {
    pd: Arc<PdClient>,
    stores: Arc<StoreClients>,
    scope: Scope,
    /// Ends the keeper also when we are dropped without being closed.
    stop: DropGuard,
    lost: Arc<Mutex<Option<Error>>>,
    lost_signal: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Guards {
    /// Puts the usual guards up.
    pub async fn open(
        importer: Arc<Importer>,
        job_id: &str,
        ranges: &[KeyRange],
        commit_ts: Timestamp,
    ) -> Result<Guards> {
        Self::open_with(importer, job_id, ranges, commit_ts, GuardOptions::default()).await
    }

    /// Puts guards up. Cancelling the importer does not take them down: that is what `close` is for.
    pub async fn open_with(
        importer: Arc<Importer>,
        job_id: &str,
        ranges: &[KeyRange],
        commit_ts: Timestamp,
        options: GuardOptions,
    ) -> Result<Guards> {
        let mut scope = Scope {
            id: format!("thunderhead-{job_id}"),
            ranges: ranges.to_vec(),
            gc_ts: commit_ts,
            pause: options.pause_scheduling,
            partition: options.regions_expected >= PARTITION_REGIONS_MIN,
        };
        let (pd, stores) = (importer.pd().clone(), importer.stores().clone());
        // A job that lay dead for longer than GC waits goes on all the same: what it wrote are the newest
        // versions, which GC keeps, and nothing else writes to its tables.
        scope.gc_ts = pd.guard_gc_or_later(&scope.id, commit_ts, GC_TTL).await?;
        if scope.gc_ts != commit_ts {
            tracing::warn!(
                "the job's timestamp is behind the GC safe point; GC is held from now on"
            );
        }
        pd.deny_scheduling(&scope.id, &scope.ranges, LABEL_TTL)
            .await?;
        if scope.partition {
            set_partitions(&pd, &stores, &scope, true).await;
        }
        let (stop, lost_signal) = (CancellationToken::new(), CancellationToken::new());
        let lost = Arc::new(Mutex::new(None));
        let keeper = Keeper {
            pd: pd.clone(),
            stores: stores.clone(),
            scope: scope.clone(),
            stop: stop.clone(),
            lost: lost.clone(),
            lost_signal: lost_signal.clone(),
        };
        Ok(Guards {
            pd,
            stores,
            scope,
            stop: stop.drop_guard(),
            lost,
            lost_signal,
            keeper: tokio::spawn(keeper.run()),
        })
    }

    /// Waits until the protection from GC is lost, which an import must not outlive. Never returns
    /// while all is well.
    pub async fn lost(&self) -> Error {
        self.lost_signal.cancelled().await;
        let lost = self.lost.lock().clone();
        lost.unwrap_or_else(|| Error::new(ErrorKind::Internal, "guards", "lost without a cause"))
    }

    /// Takes all guards away. Everything is tried, and failures are only logged: what stays expires by
    /// itself, and the import's own outcome matters more.
    pub async fn close(self) {
        self.stop.disarm().cancel();
        if let Err(error) = self.keeper.await {
            tracing::warn!(%error, "guards were not kept up to the end");
        }
        if self.scope.partition {
            set_partitions(&self.pd, &self.stores, &self.scope, false).await;
        }
        let label = self.pd.allow_scheduling(&self.scope.id).await;
        let gc = self.pd.unguard_gc(&self.scope.id).await;
        for error in [label, gc].into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a guard stays until it expires");
        }
    }

    /// Removes what a killed process of the job may have left, without putting anything up.
    pub async fn remove_leftovers(pd: &PdClient, job_id: &str) -> Result<()> {
        let id = format!("thunderhead-{job_id}");
        let label = pd.allow_scheduling(&id).await;
        let gc = pd.unguard_gc(&id).await;
        label.and(gc)
    }
}

struct Keeper {
    pd: Arc<PdClient>,
    stores: Arc<StoreClients>,
    scope: Scope,
    stop: CancellationToken,
    lost: Arc<Mutex<Option<Error>>>,
    lost_signal: CancellationToken,
}

/// When something was last refreshed.
struct Due {
    every: Duration,
    at: Instant,
}

impl Due {
    fn new(every: Duration) -> Due {
        Due {
            every,
            at: Instant::now() + every,
        }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.at
    }

    fn done(&mut self) {
        self.at = Instant::now() + self.every;
    }
}

impl Keeper {
    async fn run(self) {
        let stop = self.stop.clone();
        // A refresh under way is dropped when we are told to stop: closing removes all of it anyway.
        stop.run_until_cancelled(self.refresh()).await;
    }

    async fn refresh(self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut label = Due::new(LABEL_REFRESH);
        let mut gc = Due::new(GC_REFRESH);
        let mut partition = Due::new(PARTITION_REFRESH);
        let mut gc_until = Instant::now() + GC_TTL;
        loop {
            tick.tick().await;
            if gc.is_due() {
                let patience = gc_until.saturating_duration_since(Instant::now());
                let guarded = self.pd.guard_gc(&self.scope.id, self.scope.gc_ts, GC_TTL);
                match timeout(patience, guarded).await {
                    Ok(Ok(())) => {
                        gc_until = Instant::now() + GC_TTL;
                        gc.done();
                    }
                    Ok(Err(error)) if Instant::now() < gc_until => {
                        tracing::warn!(%error, "protection from GC was not prolonged yet");
                    }
                    Ok(Err(error)) => return self.give_up(error),
                    Err(_) => {
                        let text = "protection from GC ran out while PD did not answer";
                        return self.give_up(Error::new(ErrorKind::Cluster, "guards", text));
                    }
                }
            }
            if self.scope.pause && label.is_due() {
                let denied = self
                    .pd
                    .deny_scheduling(&self.scope.id, &self.scope.ranges, LABEL_TTL);
                match timeout(REFRESH_DEADLINE, denied).await {
                    Ok(Ok(())) => label.done(),
                    // Without it regions move under us; that costs rewrites, not correctness.
                    Ok(Err(error)) => tracing::warn!(%error, "scheduling is not held back"),
                    Err(_) => tracing::warn!("scheduling is not held back: PD does not answer"),
                }
            }
            if self.scope.partition && partition.is_due() {
                let set = set_partitions(&self.pd, &self.stores, &self.scope, true);
                if timeout(REFRESH_DEADLINE, set).await.is_ok() {
                    partition.done();
                }
            }
        }
    }

    fn give_up(&self, error: Error) {
        *self.lost.lock() = Some(error.advice("run the same command again"));
        self.lost_signal.cancel();
    }
}

/// Tells every store to cut its SSTs at our borders, or not any more. Only makes ingests cheaper, so
/// failures are logged; old servers do not know it.
async fn set_partitions(pd: &PdClient, stores: &StoreClients, scope: &Scope, on: bool) {
    let known = match pd.stores().await {
        Ok(known) => known,
        Err(error) => return tracing::warn!(%error, "partition ranges are not set"),
    };
    for store in known.iter().filter(|store| !is_tiflash(store)) {
        for range in &scope.ranges {
            let set = set_partition(stores, store.id, range, on);
            match timeout(STORE_DEADLINE, set).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(store = store.id, %error, "partition range");
                    break;
                }
                Err(_) => {
                    tracing::debug!(store = store.id, "partition range: no answer");
                    break;
                }
            }
        }
    }
}

async fn set_partition(
    stores: &StoreClients,
    store: u64,
    range: &KeyRange,
    on: bool,
) -> Result<()> {
    let range = Some(import_sstpb::Range {
        start: range.start.clone().into(),
        end: range.end.clone().into(),
    });
    let mut client = stores.import(store).await?;
    let done = if on {
        let ttl_seconds = PARTITION_TTL.as_secs();
        let request = AddPartitionRangeRequest { range, ttl_seconds };
        client.add_force_partition_range(request).await.map(drop)
    } else {
        client
            .remove_force_partition_range(RemovePartitionRangeRequest { range })
            .await
            .map(drop)
    };
    match done {
        Err(status) if status.code() != Code::Unimplemented => Err(Error::new(
            ErrorKind::Cluster,
            format!("store {store}"),
            status.message(),
        )),
        _ => Ok(()),
    }
}
