//! Point reads at a timestamp, and what to do about locks met on the way: a transaction that is over
//! gets its lock resolved, one that is alive is waited for.

use std::time::Duration;

use bytes::Bytes;
use thunderhead_proto::kvrpcpb;
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_types::{Error, ErrorKind, KeyRange, Result, Timestamp, next_key};

use crate::importer::{Importer, give_up_with};
use crate::pd::LOGICAL_BITS;
use crate::retry::{Pace, Patience};

const DEADLINE: Duration = Duration::from_secs(20);

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value.
    pub value: Bytes,
    /// When it was committed; zero from servers that do not tell.
    pub commit_ts: Timestamp,
}

/// A part of a scan.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys and values, in key order.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// What is left of the range.
    pub rest: Option<KeyRange>,
}

impl Importer {
    /// The newest version of `key` that a reader at `ts` sees.
    pub async fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Version>> {
        self.until_cancelled(self.get_uncancelled(key, ts)).await
    }

    pub(crate) async fn get_uncancelled(
        &self,
        key: &[u8],
        ts: Timestamp,
    ) -> Result<Option<Version>> {
        let mut patience = Patience::new(self.options.retry);
        loop {
            let (_, mut reply) = self
                .at_leader(key, DEADLINE, |target| async move {
                    let request = kvrpcpb::GetRequest {
                        context: Some(target.context),
                        key: key.to_vec().into(),
                        version: ts,
                        need_commit_ts: true,
                    };
                    let reply = TikvClient::new(target.channel).kv_get(request).await?;
                    let mut reply = reply.into_inner();
                    Ok((reply.region_error.take(), reply))
                })
                .await?;
            match reply.error.take() {
                None if reply.not_found => return Ok(None),
                None => {
                    return Ok(Some(Version {
                        value: reply.value,
                        commit_ts: reply.commit_ts,
                    }));
                }
                Some(error) => self.after_key_error(error, ts, &mut patience).await?,
            }
        }
    }

    /// The first pairs of `range` that a reader at `ts` sees, at most `limit` and of one region, and where to go
    /// on; `None` at the end.
    pub async fn scan(&self, range: &KeyRange, ts: Timestamp, limit: u32) -> Result<Page> {
        self.until_cancelled(self.scan_uncancelled(range, ts, limit))
            .await
    }

    async fn scan_uncancelled(&self, range: &KeyRange, ts: Timestamp, limit: u32) -> Result<Page> {
        let mut patience = Patience::new(self.options.retry);
        loop {
            let (region, mut reply) = self
                .at_leader(&range.start, DEADLINE, |target| async move {
                    let request = kvrpcpb::ScanRequest {
                        context: Some(target.context),
                        start_key: range.start.clone().into(),
                        end_key: range.end.clone().into(),
                        limit,
                        version: ts,
                        ..Default::default()
                    };
                    let reply = TikvClient::new(target.channel).kv_scan(request).await?;
                    let mut reply = reply.into_inner();
                    Ok((reply.region_error.take(), reply))
                })
                .await?;
            let refused = reply.error.take();
            let refused =
                refused.or_else(|| reply.pairs.iter_mut().find_map(|pair| pair.error.take()));
            if let Some(error) = refused {
                self.after_key_error(error, ts, &mut patience).await?;
                continue;
            }
            let full = reply.pairs.len() >= limit as usize;
            let rest = match reply.pairs.last() {
                Some(last) if full => Some(next_key(&last.key)),
                _ if region.range.end.is_empty() => None,
                _ => Some(region.range.end),
            };
            let pairs = reply.pairs.into_iter().map(|pair| (pair.key, pair.value));
            return Ok(Page {
                pairs: pairs.collect(),
                rest: rest
                    .filter(|start| range.end.is_empty() || *start < range.end)
                    .map(|start| KeyRange::new(start, range.end.clone())),
            });
        }
    }

    pub(crate) async fn after_key_error(
        &self,
        mut error: kvrpcpb::KeyError,
        ts: Timestamp,
        patience: &mut Patience,
    ) -> Result<()> {
        match error.locked.take() {
            Some(lock) => self.clear_lock(&lock, ts, patience).await,
            // The text of other key errors may hold keys.
            None => Err(Error::new(
                ErrorKind::Cluster,
                "read",
                "the store refused the read of a key",
            )),
        }
    }

    /// Gets a lock out of the way of a reader at `ts`, or waits a while for its owner.
    pub(crate) async fn clear_lock(
        &self,
        lock: &kvrpcpb::LockInfo,
        ts: Timestamp,
        patience: &mut Patience,
    ) -> Result<()> {
        let Some(commit_version) = self.transaction_end(lock, ts).await? else {
            let waited = patience
                .wait(Pace::Short, "a transaction holds a lock in the range")
                .await;
            return give_up_with(waited, "read");
        };
        self.resolve_lock(lock, commit_version).await?;
        give_up_with(
            patience
                .wait(Pace::Now, "locks of finished transactions")
                .await,
            "read",
        )
    }

    /// When the lock's transaction was committed, zero if it was rolled back; `None` while it lives.
    async fn transaction_end(
        &self,
        lock: &kvrpcpb::LockInfo,
        ts: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let current_ts = self.pd.tso().await?;
        let (_, reply) = self
            .at_leader(&lock.primary_lock, DEADLINE, |target| async move {
                let request = kvrpcpb::CheckTxnStatusRequest {
                    context: Some(target.context),
                    primary_key: lock.primary_lock.clone(),
                    lock_ts: lock.lock_version,
                    caller_start_ts: ts,
                    current_ts,
                    // Locks come in any order: while this one is fresh, its primary may be on its way.
                    rollback_if_not_exist: is_expired(lock, current_ts),
                    ..Default::default()
                };
                let reply = TikvClient::new(target.channel)
                    .kv_check_txn_status(request)
                    .await?;
                let mut reply = reply.into_inner();
                Ok((reply.region_error.take(), reply))
            })
            .await?;
        match &reply.error {
            None => Ok((reply.lock_ttl == 0).then_some(reply.commit_version)),
            Some(error) if error.txn_not_found.is_some() => Ok(None),
            Some(_) => Err(Error::new(
                ErrorKind::Cluster,
                "read",
                "a lock's transaction has no known end",
            )),
        }
    }

    async fn resolve_lock(&self, lock: &kvrpcpb::LockInfo, commit_version: u64) -> Result<()> {
        let (_, reply) = self
            .at_leader(&lock.key, DEADLINE, |target| async move {
                let request = kvrpcpb::ResolveLockRequest {
                    context: Some(target.context),
                    start_version: lock.lock_version,
                    commit_version,
                    keys: vec![lock.key.clone()],
                    ..Default::default()
                };
                let reply = TikvClient::new(target.channel)
                    .kv_resolve_lock(request)
                    .await?;
                let mut reply = reply.into_inner();
                Ok((reply.region_error.take(), reply))
            })
            .await?;
        match &reply.error {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::Cluster,
                "read",
                "a finished transaction's lock stays",
            )),
        }
    }
}

/// Whether the lock's owner has let its time pass.
fn is_expired(lock: &kvrpcpb::LockInfo, now: Timestamp) -> bool {
    let millis = |ts: Timestamp| ts >> LOGICAL_BITS;
    millis(now) >= millis(lock.lock_version).saturating_add(lock.lock_ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_expires_by_the_cluster_clock() {
        let lock = kvrpcpb::LockInfo {
            lock_version: 1000 << LOGICAL_BITS | 7,
            lock_ttl: 3000,
            ..Default::default()
        };
        assert!(!is_expired(&lock, 3999 << LOGICAL_BITS));
        assert!(is_expired(&lock, 4000 << LOGICAL_BITS));
    }
}
