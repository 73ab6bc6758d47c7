//! The state store of a fleet: etcd v3, also the one inside PD, below a prefix of our own.
//!
//! Leading (design decision 3), the steps of [`StateStore::lead`]:
//! 1. The election key is watched until it is absent; a lease is granted then.
//! 2. One transaction puts the key under the lease if it is still absent. Its create revision is the epoch.
//! 3. The lease is renewed every third of its time to live. A leader that was not renewed for two thirds of it,
//!    by the monotonic clock and counted from *sending* the last renewal, stops: its key still has a third to live.
//! 4. Every transaction compares the key's create revision with the epoch. Whoever sleeps through its lease
//!    changes nothing when it wakes.
//!
//! etcd takes at most 1.5 MiB and 128 operations a request. Values are compressed; what is still too large for
//! its transaction is written before it in parts below `parts/`, which nobody reads before the transaction names
//! them. Parts of a key go with the key, or at the latest with the job.

use super::etcd_client::{EtcdClient, EtcdConfig};
use super::{Commit, StateStore, Txn, Versioned};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thunderhead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use thunderhead_types::{Epoch, Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

/// Bytes of values in one request; etcd's limit is 1.5 MiB for the whole of it.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Keys read at a time.
const PAGE: i64 = 256;
/// From this size on a value is worth compressing.
const COMPRESS_BYTES_MIN: usize = 1024;
/// How often the election key is looked at by those who wait for it.
const CAMPAIGN_PERIOD: Duration = Duration::from_millis(250);

/// First byte of a stored value.
const RAW: u8 = 0;
const LZ4: u8 = 1;
/// The rest names the parts: `START COUNT`.
const PARTS: u8 = 2;

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderInfo {
    /// Its epoch.
    pub epoch: Epoch,
    /// Where it serves.
    pub address: String,
}

/// How long we may still act as the leader.
#[derive(Debug)]
struct Term {
    epoch: Epoch,
    lease: i64,
    /// When the renewal was sent that etcd granted last.
    renewed: Mutex<Instant>,
    ttl: Duration,
    /// Fires when the term is over.
    over: CancellationToken,
}

impl Term {
    /// Time left before the leader must stop.
    fn left(&self) -> Duration {
        (self.ttl * 2 / 3).saturating_sub(self.renewed.lock().elapsed())
    }

    fn is_over(&self) -> bool {
        self.over.is_cancelled() || self.left().is_zero()
    }
}

/// See the module.
pub struct EtcdStore {
    client: EtcdClient,
    prefix: String,
    address: String,
    ttl: Duration,
    term: Mutex<Option<Arc<Term>>>,
    part: AtomicU64,
}

impl EtcdStore {
    /// A store below `prefix`; as a leader we are found at `address`. Nothing is asked yet.
    ///
    /// # Errors
    /// When an address or a TLS file is unusable.
    pub fn new(config: EtcdConfig, prefix: &str, address: &str, ttl: Duration) -> Result<Self> {
        // A call that outlives a third of the lease would keep the next renewal from being in time.
        let client = EtcdClient::new(
            config,
            (ttl / 3).clamp(Duration::from_millis(200), Duration::from_secs(5)),
        )?;
        Ok(Self {
            client,
            prefix: format!("{}/", prefix.trim_end_matches('/')),
            address: address.to_owned(),
            ttl,
            term: Mutex::new(None),
            part: AtomicU64::new(0),
        })
    }

    /// Who leads now.
    pub async fn leader(&self) -> Result<Option<LeaderInfo>> {
        let found = self
            .client
            .range(RangeRequest {
                key: self.key("leader").into(),
                ..RangeRequest::default()
            })
            .await?;
        Ok(found.kvs.into_iter().next().map(|kv| LeaderInfo {
            epoch: kv.create_revision.cast_unsigned(),
            address: String::from_utf8_lossy(&kv.value).into_owned(),
        }))
    }

    /// Resolves when we no longer lead.
    pub async fn lost(&self) {
        let term = self.term.lock().clone();
        if let Some(term) = term {
            term.over.cancelled().await;
        }
    }

    /// Gives the lead back, so that the next leader need not wait for the lease to run out.
    pub async fn resign(&self) {
        let term = self.term.lock().take();
        if let Some(term) = term {
            term.over.cancel();
            let revoke = LeaseRevokeRequest { id: term.lease };
            if let Err(error) = self.client.revoke(revoke).await {
                tracing::debug!(%error, "the lease runs out by itself");
            }
        }
    }

    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// One try to be elected.
    async fn campaign(&self) -> Result<Option<Arc<Term>>> {
        if self.leader().await?.is_some() {
            return Ok(None);
        }
        let sent = Instant::now();
        let ttl = i64::try_from(self.ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let lease = self
            .client
            .grant(LeaseGrantRequest { ttl, id: 0 })
            .await?
            .id;
        let election = self.key("leader");
        let put = PutRequest {
            key: election.clone().into(),
            value: self.address.clone().into(),
            lease,
        };
        let request = TxnRequest {
            compare: vec![created(&election, 0)],
            success: vec![op(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let answer = self.client.txn(request).await;
        if let Ok(TxnResponse {
            succeeded: true,
            header: Some(header),
            ..
        }) = &answer
        {
            return Ok(Some(Arc::new(Term {
                epoch: header.revision.cast_unsigned(),
                lease,
                renewed: Mutex::new(sent),
                ttl: self.ttl,
                over: CancellationToken::new(),
            })));
        }
        // Also when the answer was lost: then the key goes with the lease.
        let _ = self.client.revoke(LeaseRevokeRequest { id: lease }).await;
        answer.map(|_| None)
    }

    /// The term of `epoch`, as long as it lasts.
    fn term(&self, epoch: Epoch) -> Option<Arc<Term>> {
        let term = self.term.lock().clone()?;
        (term.epoch == epoch && !term.is_over()).then_some(term)
    }

    /// Sends a transaction under our election key until it is answered or our term is over.
    async fn fenced(
        &self,
        epoch: Epoch,
        compares: &[(String, u64)],
        ops: Vec<RequestOp>,
    ) -> Result<Commit> {
        let election = self.key("leader");
        let mut compare = vec![created(&election, epoch)];
        compare.extend(compares.iter().map(|(key, revision)| Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: self.key(key).into(),
            target_union: Some(TargetUnion::ModRevision(revision.cast_signed())),
        }));
        let first_put = ops.iter().find_map(|op| match &op.request {
            Some(Request::RequestPut(put)) => Some(put.clone()),
            _ => None,
        });
        let who = RangeRequest {
            key: election.into(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare,
            success: ops,
            failure: vec![op(Request::RequestRange(who))],
        };
        let mut unanswered = false;
        loop {
            let Some(term) = self.term(epoch) else {
                return Ok(Commit::Fenced);
            };
            let answer = match self.client.txn(request.clone()).await {
                Ok(answer) => answer,
                Err(error) if error.kind == ErrorKind::Cluster && !term.is_over() => {
                    tracing::warn!(%error, "etcd does not answer; what is in work goes on, nothing is recorded meanwhile");
                    unanswered = true;
                    tokio::time::sleep(Duration::from_millis(100).min(term.left())).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if answer.succeeded {
                let revision = answer.header.map_or(0, |h| h.revision);
                return Ok(Commit::Done(revision.cast_unsigned()));
            }
            let leads = answer.responses.first().is_some_and(|r| match &r.response {
                Some(Response::ResponseRange(range)) => range
                    .kvs
                    .first()
                    .is_some_and(|kv| kv.create_revision.cast_unsigned() == epoch),
                _ => false,
            });
            if !leads {
                term.over.cancel();
                return Ok(Commit::Fenced);
            }
            // The answer to the first try may have been lost, not the try: then the compares fail on our own write.
            if let (true, Some(put)) = (unanswered, first_put) {
                let range = RangeRequest {
                    key: put.key,
                    ..RangeRequest::default()
                };
                let found = self.client.range(range).await?.kvs;
                if let Some(kv) = found.first().filter(|kv| kv.value == put.value) {
                    return Ok(Commit::Done(kv.mod_revision.cast_unsigned()));
                }
            }
            return Ok(Commit::Conflict);
        }
    }

    /// Writes `bytes` in parts for `key`; gives the value that names them.
    async fn put_parts(&self, epoch: Epoch, key: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let unique = format!("{epoch}-{}", self.part.fetch_add(1, Ordering::Relaxed));
        let start = format!("parts/{key}/{unique}");
        let mut count = 0;
        for part in bytes.chunks(REQUEST_BYTES_MAX) {
            let put = self.put(&format!("{start}/{count:06}"), part.to_vec());
            match self.fenced(epoch, &[], vec![put]).await? {
                Commit::Done(_) => count += 1,
                _ => return Ok(None),
            }
        }
        Ok(Some(
            [&[PARTS], format!("{start} {count}").as_bytes()].concat(),
        ))
    }

    fn put(&self, key: &str, value: Vec<u8>) -> RequestOp {
        op(Request::RequestPut(PutRequest {
            key: self.key(key).into(),
            value: value.into(),
            lease: 0,
        }))
    }

    /// Deletes a key or, when it ends in `/`, all below it; with its parts.
    fn delete(&self, key: &str) -> [RequestOp; 2] {
        let range = |from: String| {
            let range_end = if from.ends_with('/') {
                after(self.key(&from))
            } else {
                Vec::new()
            };
            op(Request::RequestDeleteRange(DeleteRangeRequest {
                key: self.key(&from).into(),
                range_end: range_end.into(),
            }))
        };
        let parts = format!("parts/{}/", key.trim_end_matches('/'));
        [range(key.to_owned()), range(parts)]
    }

    /// The value as its writer gave it.
    async fn open(&self, key: &str, stored: &[u8]) -> Result<Vec<u8>> {
        let damaged = |why: &str| {
            Error::new(ErrorKind::Internal, format!("etcd key {key}"), why)
                .advice("the state was written by another version or is damaged")
        };
        match stored.split_first() {
            Some((&RAW, value)) => Ok(value.to_vec()),
            Some((&LZ4, value)) => lz4_flex::block::decompress_size_prepended(value)
                .map_err(|_| damaged("does not decompress")),
            Some((&PARTS, name)) => {
                let name = std::str::from_utf8(name).ok();
                let (start, count) = name
                    .and_then(|name| name.rsplit_once(' '))
                    .ok_or_else(|| damaged("does not name its parts"))?;
                let parts = self.read(&format!("{start}/"), false).await?;
                if Some(parts.len()) != count.parse().ok() {
                    return Err(damaged("lacks parts"));
                }
                let whole: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part.value).collect();
                Box::pin(self.open(key, &whole)).await
            }
            _ => Err(damaged("is empty or of another version")),
        }
    }

    /// What is stored below `prefix`, page by page. Only the leader writes, so pages fit together.
    async fn read(&self, prefix: &str, keys_only: bool) -> Result<Vec<(String, Versioned)>> {
        let (mut from, end) = (self.key(prefix), after(self.key(prefix)));
        let mut found = Vec::new();
        loop {
            let page = self
                .client
                .range(RangeRequest {
                    key: from.clone().into(),
                    range_end: end.clone().into(),
                    limit: PAGE,
                    keys_only,
                    ..RangeRequest::default()
                })
                .await?;
            let last = page.kvs.last().map(|kv| kv.key.to_vec());
            for kv in page.kvs {
                let key = String::from_utf8_lossy(&kv.key[self.prefix.len()..]).into_owned();
                found.push((
                    key,
                    Versioned {
                        value: kv.value.to_vec(),
                        mod_revision: kv.mod_revision.cast_unsigned(),
                    },
                ));
            }
            match last {
                Some(last) if page.more => from = [last.as_slice(), &[0]].concat(),
                _ => return Ok(found),
            }
        }
    }
}

#[async_trait]
impl StateStore for EtcdStore {
    /// Waits until it leads.
    async fn lead(&self) -> Result<Epoch> {
        let term = loop {
            match self.campaign().await {
                Ok(Some(term)) => break term,
                Ok(None) => {}
                Err(error) if error.kind == ErrorKind::Cluster => {
                    tracing::warn!(%error, "etcd is out of reach; still trying to lead");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(CAMPAIGN_PERIOD).await;
        };
        if let Some(former) = self.term.lock().replace(Arc::clone(&term)) {
            former.over.cancel();
        }
        tokio::spawn(keep(self.client.clone(), Arc::clone(&term)));
        Ok(term.epoch)
    }

    async fn get(&self, key: &str) -> Result<Option<Versioned>> {
        let range = RangeRequest {
            key: self.key(key).into(),
            ..RangeRequest::default()
        };
        let found = self.client.range(range).await?.kvs.into_iter().next();
        let Some(kv) = found else { return Ok(None) };
        Ok(Some(Versioned {
            value: self.open(key, &kv.value).await?,
            mod_revision: kv.mod_revision.cast_unsigned(),
        }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let mut found = self.read(prefix, false).await?;
        for (key, item) in &mut found {
            item.value = self.open(key, &item.value).await?;
        }
        Ok(found)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let found = self.read(prefix, true).await?;
        Ok(found
            .into_iter()
            .map(|(key, v)| (key, v.mod_revision))
            .collect())
    }

    async fn commit(&self, epoch: Epoch, txn: Txn) -> Result<Commit> {
        txn.check()?;
        let mut values: Vec<(String, Vec<u8>)> = txn
            .puts
            .into_iter()
            .map(|(key, value)| (key, pack(&value)))
            .collect();
        let mut total: usize = values.iter().map(|(_, value)| value.len()).sum();
        while total > REQUEST_BYTES_MAX {
            let Some((key, value)) = values.iter_mut().max_by_key(|(_, value)| value.len()) else {
                break;
            };
            let Some(name) = self.put_parts(epoch, key, value).await? else {
                return Ok(Commit::Fenced);
            };
            total = total - value.len() + name.len();
            *value = name;
        }
        let deletes = txn.deletes.iter().flat_map(|key| self.delete(key));
        let puts = values.into_iter().map(|(key, value)| self.put(&key, value));
        let ops = deletes.chain(puts).collect();
        self.fenced(epoch, &txn.compares, ops).await
    }
}

/// Renews the lease until the term is over.
async fn keep(client: EtcdClient, term: Arc<Term>) {
    let mut tick = tokio::time::interval(term.ttl / 3);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        let next = tokio::time::timeout(term.left(), tick.tick());
        tokio::select! {
            () = term.over.cancelled() => return,
            _ = next => {}
        }
        // While there is time, a renewal that failed is tried again at once.
        while !term.is_over() {
            let sent = Instant::now();
            match tokio::time::timeout(term.left(), client.keep_alive(term.lease)).await {
                Ok(Ok(true)) => {
                    *term.renewed.lock() = sent;
                    break;
                }
                Ok(Ok(false)) => term.over.cancel(),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                    tokio::time::sleep(Duration::from_millis(100).min(term.left())).await;
                }
                Err(_) => {}
            }
        }
        if term.is_over() {
            tracing::warn!(
                epoch = term.epoch,
                "the lease is not renewed: this coordinator no longer leads"
            );
            term.over.cancel();
            return;
        }
    }
}

/// Value as it is stored, when it fits.
fn pack(value: &[u8]) -> Vec<u8> {
    if value.len() >= COMPRESS_BYTES_MIN {
        let packed = lz4_flex::block::compress_prepend_size(value);
        if packed.len() < value.len() {
            return [&[LZ4], packed.as_slice()].concat();
        }
    }
    [&[RAW], value].concat()
}

fn created(key: &[u8], revision: Epoch) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(revision.cast_signed())),
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The first key after all that start with `prefix`, which ends in an ASCII character.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}
