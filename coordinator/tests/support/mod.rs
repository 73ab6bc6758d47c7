//! What the tests on a virtual clock share.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thunderhead_coordinator::store::{Commit, StateStore, Txn, Versioned};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::time::sleep;

/// An etcd that is sometimes slow and sometimes gone.
#[derive(Default)]
pub struct MemStore {
    pub items: Mutex<(u64, u64, BTreeMap<String, Versioned>)>,
    pub fail_at: AtomicU64,
    pub commits: AtomicU64,
}

#[async_trait]
impl StateStore for MemStore {
    async fn lead(&self) -> Result<u64> {
        let mut state = self.items.lock();
        state.0 += 1;
        state.1 = state.0;
        Ok(state.1)
    }

    async fn get(&self, key: &str) -> Result<Option<Versioned>> {
        Ok(self.items.lock().2.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let state = self.items.lock();
        let found = state.2.range(prefix.to_owned()..);
        Ok(found
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let found = self.list(prefix).await?;
        Ok(found
            .into_iter()
            .map(|(k, v)| (k, v.mod_revision))
            .collect())
    }

    async fn commit(&self, epoch: u64, txn: Txn) -> Result<Commit> {
        let count = self.commits.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        if count == self.fail_at.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Cluster,
                "etcd",
                "gone for longer than the lease",
            ));
        }
        let mut state = self.items.lock();
        if state.1 != epoch {
            return Ok(Commit::Fenced);
        }
        for (key, revision) in &txn.compares {
            assert_eq!(
                state.2.get(key).map_or(0, |v| v.mod_revision),
                *revision,
                "written twice: {key}"
            );
        }
        state.0 += 1;
        let revision = state.0;
        for doomed in &txn.deletes {
            let keys: Vec<String> = state
                .2
                .range(doomed.clone()..)
                .map(|(key, _)| key)
                .take_while(|key| key.starts_with(doomed.as_str()))
                .filter(|key| doomed.ends_with('/') || *key == doomed)
                .cloned()
                .collect();
            keys.iter().for_each(|key| drop(state.2.remove(key)));
        }
        for (key, value) in txn.puts {
            state.2.insert(
                key,
                Versioned {
                    value,
                    mod_revision: revision,
                },
            );
        }
        Ok(Commit::Done(revision))
    }
}
