//! Point reads at a timestamp, and what to do about locks met on the way: a transaction that is over
//! gets its lock resolved, one that is alive is waited for.

use std::time::Duration;

use bytes::Bytes;
use thunderhead_proto::kvrpcpb;
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_types::{Error, ErrorKind, Result, Timestamp};

use crate::importer::{Importer, give_up_with};
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

    async fn after_key_error(
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
        let status = self.transaction_status(lock, ts).await?;
        if status.lock_ttl > 0 {
            let waited = patience
                .wait(Pace::Short, "a transaction holds a lock in the range")
                .await;
            return give_up_with(waited, "read");
        }
        self.resolve_lock(lock, status.commit_version).await?;
        give_up_with(
            patience
                .wait(Pace::Now, "locks of finished transactions")
                .await,
            "read",
        )
    }

    async fn transaction_status(
        &self,
        lock: &kvrpcpb::LockInfo,
        ts: Timestamp,
    ) -> Result<kvrpcpb::CheckTxnStatusResponse> {
        let current_ts = self.pd.tso().await?;
        let (_, reply) = self
            .at_leader(&lock.primary_lock, DEADLINE, |target| async move {
                let request = kvrpcpb::CheckTxnStatusRequest {
                    context: Some(target.context),
                    primary_key: lock.primary_lock.clone(),
                    lock_ts: lock.lock_version,
                    caller_start_ts: ts,
                    current_ts,
                    rollback_if_not_exist: true,
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
            None => Ok(reply),
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
