//! What an import opens in the cluster and has to close again: protection from GC, from PD's schedulers,
//! SST cuts at the borders of the tables, and, where asked for, import mode. Each is set with a
//! lifetime, renewed long before its end by a task of its own, and removed by [`Guards::close`] on
//! success, failure and cancellation alike. Names are a function of the job: a process that takes a
//! job over renews what a killed one left behind, and removes it at the end.
//!
//! Only the loss of protection from GC stops an import; without the others it is slower, not wrong.

use std::sync::Arc;
use std::time::Duration;

use thunderhead_proto::import_sstpb::{
    AddPartitionRangeRequest, Range, RemovePartitionRangeRequest, SwitchMode, SwitchModeRequest,
};
use thunderhead_types::{Error, ErrorKind, KeyRange, Result, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::importer::Importer;
use crate::pd::status_text;
use crate::region::encode_border;
use crate::store::is_tiflash;

/// Below this many regions, files that fall to a middle level of the store do no harm.
const PARTITION_REGIONS_MIN: usize = 100;
/// A store that does not answer must not hold up the others.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// For removing one guard; what stays behind expires by itself.
const CLOSE_DEADLINE: Duration = Duration::from_secs(30);

/// How guards are kept.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    /// Regions that the import will make; decides whether SSTs are cut at the tables' borders.
    pub regions_expected: usize,
    /// Take stores out of their normal mode: faster, and bad for everyone else on them. On a cluster
    /// that serves nobody.
    pub import_mode: bool,
    /// Lifetime of the scheduling rule without renewal.
    pub label_ttl: Duration,
    /// Lifetime of the protection from GC without renewal.
    pub gc_ttl: Duration,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            regions_expected: 0,
            import_mode: false,
            label_ttl: Duration::from_secs(300),
            gc_ttl: Duration::from_secs(600),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gc,
    Scheduling,
    Partition,
    ImportMode,
}

/// In the order of opening; closing goes backwards, so GC is held until all else is done.
const KINDS: [Kind; 4] = [
    Kind::Gc,
    Kind::Scheduling,
    Kind::Partition,
    Kind::ImportMode,
];

/// Lifetime of cut borders on a store.
const PARTITION_TTL: Duration = Duration::from_secs(3600);
/// TiKV falls back to normal mode after ten minutes without renewal.
const IMPORT_MODE_PERIOD: Duration = Duration::from_secs(300);

struct Held {
    importer: Arc<Importer>,
    name: String,
    ranges: Vec<KeyRange>,
    ts: Timestamp,
    options: GuardOptions,
}

/// Open guards of one job. Dropped without [`Guards::close`], they expire by themselves.
pub struct Guards {
    held: Arc<Held>,
    kinds: Vec<Kind>,
    stop: CancellationToken,
    renewals: JoinSet<()>,
    lost: watch::Receiver<Option<Error>>,
}

impl Guards {
    /// Guards `ranges` (raw keys) and what is visible at `ts` for the job, with default options.
    pub async fn open(
        importer: Arc<Importer>,
        job_id: &str,
        ranges: &[KeyRange],
        ts: Timestamp,
    ) -> Result<Guards> {
        Self::open_with(importer, job_id, ranges, ts, GuardOptions::default()).await
    }

    /// Guards `ranges` and `ts`, or takes over the guards of the same job.
    pub async fn open_with(
        importer: Arc<Importer>,
        job_id: &str,
        ranges: &[KeyRange],
        ts: Timestamp,
        options: GuardOptions,
    ) -> Result<Guards> {
        let held = Arc::new(Held::new(importer, job_id, ranges, ts, options));
        let (lost_tx, lost) = watch::channel(None);
        let mut guards = Guards {
            kinds: held.wanted(),
            held,
            stop: CancellationToken::new(),
            renewals: JoinSet::new(),
            lost,
        };
        for kind in guards.kinds.clone() {
            match guards.held.set(kind).await {
                Ok(()) => {}
                Err(error) if kind == Kind::Gc => {
                    guards.close().await;
                    return Err(error);
                }
                Err(error) => warn_without(kind, &error),
            }
        }
        for kind in guards.kinds.clone() {
            let (held, stop, lost) = (guards.held.clone(), guards.stop.clone(), lost_tx.clone());
            guards
                .renewals
                .spawn(async move { held.renew(kind, stop, lost).await });
        }
        Ok(guards)
    }

    /// Removes what a job left that nobody will go on with.
    pub async fn remove(importer: Arc<Importer>, job_id: &str, ranges: &[KeyRange]) {
        let options = GuardOptions {
            regions_expected: PARTITION_REGIONS_MIN,
            ..GuardOptions::default()
        };
        let held = Held::new(importer, job_id, ranges, 0, options);
        held.clear_all(&held.wanted()).await;
    }

    /// Completes when the data can no longer be relied on, with the reason; never before.
    pub async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            // All renewals ended in good order.
            _ => std::future::pending().await,
        }
    }

    /// Ends the renewals and removes everything that was set. What cannot be removed now, for a store
    /// or PD that does not answer, expires within its lifetime.
    pub async fn close(mut self) {
        self.stop.cancel();
        // A renewal on its way must not arrive after the removal.
        while self.renewals.join_next().await.is_some() {}
        self.held.clear_all(&self.kinds).await;
    }
}

fn warn_without(kind: Kind, error: &Error) {
    tracing::warn!(%error, ?kind, "importing without this guard");
}

impl Held {
    fn new(
        importer: Arc<Importer>,
        job_id: &str,
        ranges: &[KeyRange],
        ts: Timestamp,
        options: GuardOptions,
    ) -> Self {
        Self {
            importer,
            name: format!("thunderhead-{job_id}"),
            ranges: ranges.to_vec(),
            ts,
            options,
        }
    }

    fn wanted(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| match kind {
            Kind::Gc => true,
            Kind::Scheduling => !self.ranges.is_empty(),
            Kind::Partition => self.options.regions_expected >= PARTITION_REGIONS_MIN,
            Kind::ImportMode => self.options.import_mode,
        };
        KINDS.into_iter().filter(wanted).collect()
    }

    fn period(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Gc => self.options.gc_ttl / 3,
            Kind::Scheduling => self.options.label_ttl / 3,
            Kind::Partition => PARTITION_TTL / 5,
            Kind::ImportMode => IMPORT_MODE_PERIOD,
        }
    }

    async fn renew(&self, kind: Kind, stop: CancellationToken, lost: watch::Sender<Option<Error>>) {
        let period = self.period(kind);
        while stop
            .run_until_cancelled(tokio::time::sleep(period))
            .await
            .is_some()
        {
            // PD answering late is PD down: what was set before lasts for two more periods.
            let renewed = stop.run_until_cancelled(self.set(kind)).await;
            match renewed {
                Some(Err(error)) if kind == Kind::Gc => {
                    tracing::error!(%error, "protection from garbage collection is lost");
                    lost.send_replace(Some(error));
                    return;
                }
                Some(Err(error)) => warn_without(kind, &error),
                Some(Ok(())) | None => {}
            }
        }
    }

    async fn set(&self, kind: Kind) -> Result<()> {
        let pd = self.importer.pd();
        match kind {
            Kind::Gc => pd.guard_gc(&self.name, self.ts, self.options.gc_ttl).await,
            Kind::Scheduling => {
                pd.deny_scheduling(&self.name, &self.ranges, self.options.label_ttl)
                    .await
            }
            Kind::Partition => self.on_stores(Request::AddPartition).await,
            Kind::ImportMode => self.on_stores(Request::Mode(SwitchMode::Import)).await,
        }
    }

    async fn clear(&self, kind: Kind) -> Result<()> {
        let pd = self.importer.pd();
        match kind {
            Kind::Gc => pd.unguard_gc(&self.name).await,
            Kind::Scheduling => pd.allow_scheduling(&self.name).await,
            Kind::Partition => self.on_stores(Request::RemovePartition).await,
            Kind::ImportMode => self.on_stores(Request::Mode(SwitchMode::Normal)).await,
        }
    }

    async fn clear_all(&self, kinds: &[Kind]) {
        for kind in kinds.iter().rev() {
            let cause = match tokio::time::timeout(CLOSE_DEADLINE, self.clear(*kind)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {CLOSE_DEADLINE:?}"),
            };
            tracing::warn!(%cause, ?kind, "a guard stays behind until it expires");
        }
    }

    /// Sends to every row store; the first failure is reported after all were tried.
    async fn on_stores(&self, request: Request) -> Result<()> {
        let mut first = None;
        for store in self.importer.pd().stores().await? {
            if is_tiflash(&store) {
                continue;
            }
            let sent = tokio::time::timeout(STORE_DEADLINE, self.on_store(store.id, request));
            let cause = match sent.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.cause,
                Err(_) => format!("no answer within {STORE_DEADLINE:?}"),
            };
            let place = format!("store {}", store.id);
            first.get_or_insert(Error::new(ErrorKind::Cluster, place, cause));
        }
        first.map_or(Ok(()), Err)
    }

    async fn on_store(&self, store_id: u64, request: Request) -> Result<()> {
        let mut client = self.importer.stores().import(store_id).await?;
        if let Request::Mode(mode) = request {
            let ranges = self.ranges.iter().map(encoded).collect();
            let request = SwitchModeRequest {
                mode: mode.into(),
                ranges,
            };
            return accept(client.switch_mode(request).await.map(drop));
        }
        for range in &self.ranges {
            let range = Some(raw(range));
            let sent = match request {
                Request::AddPartition => {
                    let ttl_seconds = PARTITION_TTL.as_secs();
                    let request = AddPartitionRangeRequest { range, ttl_seconds };
                    client.add_force_partition_range(request).await.map(drop)
                }
                _ => {
                    let request = RemovePartitionRangeRequest { range };
                    client.remove_force_partition_range(request).await.map(drop)
                }
            };
            accept(sent)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Request {
    AddPartition,
    RemovePartition,
    Mode(SwitchMode),
}

/// A server that does not know the call works as it always did.
fn accept(sent: std::result::Result<(), tonic::Status>) -> Result<()> {
    match sent {
        Err(status) if status.code() != Code::Unimplemented => {
            Err(Error::new(ErrorKind::Cluster, "", status_text(&status)))
        }
        _ => Ok(()),
    }
}

/// The server encodes.
fn raw(range: &KeyRange) -> Range {
    Range {
        start: range.start.clone().into(),
        end: range.end.clone().into(),
    }
}

/// Import mode takes encoded bounds, unlike the partition calls.
fn encoded(range: &KeyRange) -> Range {
    Range {
        start: encode_border(&range.start).into(),
        end: encode_border(&range.end).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_the_call_is_accepted_and_a_failing_one_is_not() {
        assert!(accept(Ok(())).is_ok());
        assert!(accept(Err(tonic::Status::unimplemented(""))).is_ok());
        assert!(accept(Err(tonic::Status::unavailable("down"))).is_err());
    }

    #[test]
    fn partition_bounds_are_raw_and_mode_bounds_encoded() {
        let range = KeyRange::new(*b"a", "");
        assert_eq!(raw(&range).start.as_ref(), b"a");
        assert_eq!(encoded(&range).start.as_ref(), b"a\0\0\0\0\0\0\0\xf8");
        assert_eq!(encoded(&range).end.len(), 0);
    }

    #[test]
    fn protection_from_gc_is_opened_first_and_closed_last() {
        assert_eq!(KINDS[0], Kind::Gc);
    }
}
