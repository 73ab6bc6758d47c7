//! Where the control plane keeps what must survive: a small ordered key-value store with revisions
//! and fenced transactions, in etcd's terms. [`EmbeddedStore`] serves one process, [`EtcdStore`] a fleet.
//! Holds plans and manifests, never rows.

mod embedded;
mod etcd;
mod etcd_client;

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdStore, LeaderInfo};
pub use etcd_client::EtcdConfig;

use async_trait::async_trait;
use thunderhead_types::{Epoch, Error, ErrorKind, Result};

/// A stored value with the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// Revision of the transaction that wrote it; never zero.
    pub mod_revision: u64,
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// `(key, mod_revision)` that must hold; revision 0 = the key must be absent.
    pub compares: Vec<(String, u64)>,
    /// Keys to write.
    pub puts: Vec<(String, Vec<u8>)>,
    /// Keys to delete; a key that ends in `/` deletes everything below it.
    pub deletes: Vec<String>,
}

/// Operations of one transaction that every store takes; etcd's default limit is 128, a delete is two there.
pub const TXN_OPS_MAX: usize = 100;
/// Bytes of a transaction that several changes share; etcd's default limit is 1.5 MiB.
pub(crate) const TXN_BYTES: usize = 512 << 10;

impl Txn {
    /// Whether every store can take it in one piece.
    pub(crate) fn check(&self) -> Result<()> {
        let bug = |what: &str| Err(Error::new(ErrorKind::Internal, "state store", what));
        if self.compares.len() > TXN_OPS_MAX
            || self.puts.len() + 2 * self.deletes.len() > TXN_OPS_MAX + 10
        {
            return bug("a transaction has too many operations");
        }
        let deleted = |key: &str| {
            self.deletes
                .iter()
                .any(|d| d == key || d.ends_with('/') && key.starts_with(d.as_str()))
        };
        if self.puts.iter().any(|(key, _)| deleted(key)) {
            return bug("a transaction writes what it deletes");
        }
        Ok(())
    }

    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    /// Bytes of what it writes.
    pub(crate) fn bytes(&self) -> usize {
        let puts = self.puts.iter();
        puts.map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Writes `key`.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.puts.push((key.into(), value.into()));
        self
    }

    /// Deletes `key`, or everything below it when it ends in `/`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.deletes.push(key.into());
        self
    }

    /// Requires that `key` was last written at `mod_revision` (0 = absent).
    #[must_use]
    pub fn when(mut self, key: impl Into<String>, mod_revision: u64) -> Self {
        self.compares.push((key.into(), mod_revision));
        self
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Durable, at this revision.
    Done(u64),
    /// A compare failed; nothing changed.
    Conflict,
    /// The epoch is no longer the leader's; nothing changed and nothing ever will under it.
    Fenced,
}

/// The state store. Every call may be repeated.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Becomes the leader: creates the election key and returns its create revision, the fencing epoch.
    async fn lead(&self) -> Result<Epoch>;

    /// Reads one key.
    async fn get(&self, key: &str) -> Result<Option<Versioned>>;

    /// All keys that start with `prefix`, ascending.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>>;

    /// Keys that start with `prefix`, ascending, with their revisions; values stay where they are.
    async fn keys(&self, prefix: &str) -> Result<Vec<(String, u64)>>;

    /// Applies `txn` if the caller still leads at `epoch` and every compare holds.
    async fn commit(&self, epoch: Epoch, txn: Txn) -> Result<Commit>;
}
