//! The state store of a single process: one redb file in the sort directory. redb's file lock keeps a
//! second process out, and every commit is synced before it is reported.

use super::{Commit, StateStore, Txn, Versioned};
use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thunderhead_types::{Epoch, Error, ErrorKind, Result};

/// key → (mod revision, value).
const ITEMS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("items");
/// Counters: [`REVISION`] and [`ELECTION`].
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// The last revision given out.
const REVISION: &str = "revision";
/// Create revision of the election key.
const ELECTION: &str = "election";

/// See the module.
#[derive(Clone)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens or creates the store at `path`.
    ///
    /// # Errors
    /// `Precheck` when another process holds it, `Internal` when the file is unusable.
    pub fn open(path: &Path) -> Result<Self> {
        create_whole(path);
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                Error::new(ErrorKind::Precheck, path.display(), "another thunderhead process is using this sort directory")
                    .advice("wait for it, stop it, or give this job its own sorted-kv-dir")
            }
            other => Error::new(ErrorKind::Internal, path.display(), other)
                .advice("the state file cannot be opened; move it away to start over with empty target tables"),
        })?;
        let store = Self {
            database: Arc::new(database),
            path: path.to_owned(),
        };
        store.write(|txn| {
            txn.open_table(ITEMS)?;
            txn.open_table(COUNTERS)?;
            Ok(((), true))
        })?;
        Ok(store)
    }

    /// Runs `body` in a write transaction; commits when it says so.
    fn write<T>(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(T, bool), redb::Error>,
    ) -> Result<T> {
        let run = || -> Result<T, redb::Error> {
            let txn = self.database.begin_write()?;
            let (value, keep) = body(&txn)?;
            if keep {
                txn.commit()?
            } else {
                txn.abort()?
            }
            Ok(value)
        };
        run().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: redb::Error) -> Error {
        Error::new(ErrorKind::Internal, self.path.display(), error)
            .advice("check the disk of the sort directory")
    }
}

/// A file that a killed process had only begun would never open again: a new one gets its name when it is whole.
/// What goes wrong here comes up again when the file is opened.
fn create_whole(path: &Path) {
    if path.exists() {
        return;
    }
    let begun = path.with_extension(format!("redb-{}", std::process::id()));
    let _ = std::fs::remove_file(&begun);
    drop(Database::create(&begun));
    // Fails when another process was faster, and then its file is the one.
    let _ = std::fs::hard_link(&begun, path);
    let _ = std::fs::remove_file(&begun);
}

#[async_trait]
impl StateStore for EmbeddedStore {
    async fn lead(&self) -> Result<Epoch> {
        self.write(|txn| {
            let mut counters = txn.open_table(COUNTERS)?;
            let epoch = counters.get(REVISION)?.map_or(0, |v| v.value()) + 1;
            counters.insert(REVISION, epoch)?;
            counters.insert(ELECTION, epoch)?;
            Ok((epoch, true))
        })
    }

    async fn get(&self, key: &str) -> Result<Option<Versioned>> {
        let read = || -> Result<_, redb::Error> {
            let items = self.database.begin_read()?.open_table(ITEMS)?;
            let found = items.get(key)?;
            Ok(found.map(|v| Versioned {
                mod_revision: v.value().0,
                value: v.value().1.to_vec(),
            }))
        };
        read().map_err(|error| self.failed(error))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        let read = || -> Result<_, redb::Error> {
            let items = self.database.begin_read()?.open_table(ITEMS)?;
            let mut found = Vec::new();
            for entry in items.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                let (mod_revision, bytes) = value.value();
                found.push((
                    key.value().to_owned(),
                    Versioned {
                        mod_revision,
                        value: bytes.to_vec(),
                    },
                ));
            }
            Ok(found)
        };
        read().map_err(|error| self.failed(error))
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let found = self.list(prefix).await?;
        Ok(found
            .into_iter()
            .map(|(key, v)| (key, v.mod_revision))
            .collect())
    }

    async fn commit(&self, epoch: Epoch, change: Txn) -> Result<Commit> {
        change.check()?;
        self.write(|txn| {
            let mut counters = txn.open_table(COUNTERS)?;
            let mut items = txn.open_table(ITEMS)?;
            if counters.get(ELECTION)?.map_or(0, |v| v.value()) != epoch {
                return Ok((Commit::Fenced, false));
            }
            for (key, expected) in &change.compares {
                if items.get(key.as_str())?.map_or(0, |v| v.value().0) != *expected {
                    return Ok((Commit::Conflict, false));
                }
            }
            let revision = counters.get(REVISION)?.map_or(0, |v| v.value()) + 1;
            counters.insert(REVISION, revision)?;
            for key in &change.deletes {
                if key.ends_with('/') {
                    let mut doomed = Vec::new();
                    for entry in items.range(key.as_str()..)? {
                        let (found, _) = entry?;
                        if !found.value().starts_with(key.as_str()) {
                            break;
                        }
                        doomed.push(found.value().to_owned());
                    }
                    for found in doomed {
                        items.remove(found.as_str())?;
                    }
                } else {
                    items.remove(key.as_str())?;
                }
            }
            for (key, value) in &change.puts {
                items.insert(key.as_str(), (revision, value.as_slice()))?;
            }
            Ok((Commit::Done(revision), true))
        })
    }
}
