//! One virtual TiKV store: its engine, its import directory, and the switches that importers touch.
//! Whether it is alive is decided by `cluster`.

use crate::engine::Engine;
use crate::error::Result;
use crate::import_dir::ImportDir;
use parking_lot::Mutex;
use rocksdb::Cache;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// See the module.
pub(crate) struct Store {
    pub id: u64,
    pub engine: Engine,
    pub import: ImportDir,
    alive: watch::Sender<bool>,
    /// `host:port` of gRPC and of the status port, once they listen.
    addresses: Mutex<(String, String)>,
    switches: Mutex<Switches>,
    dir: PathBuf,
    scratches: AtomicU64,
}

#[derive(Default)]
struct Switches {
    import_mode_until: Option<Instant>,
    suspended_until: Option<Instant>,
    removed: bool,
    /// Force-partition ranges (encoded) and when they end.
    partitions: HashMap<(Vec<u8>, Vec<u8>), Instant>,
}

/// Import mode ends by itself after this long.
const IMPORT_MODE_TIMEOUT: Duration = Duration::from_secs(600);

impl Store {
    pub(crate) fn open(id: u64, dir: &Path, cache: &Cache) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self {
            id,
            engine: Engine::open(&dir.join("db"), cache)?,
            import: ImportDir::open(dir.join("import"))?,
            alive: watch::Sender::new(true),
            addresses: Mutex::default(),
            switches: Mutex::default(),
            dir: dir.to_owned(),
            scratches: AtomicU64::new(0),
        })
    }

    /// A fresh directory name for work on the side.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(format!(
            "scratch-{}",
            self.scratches.fetch_add(1, Ordering::Relaxed)
        ))
    }

    pub(crate) fn alive(&self) -> bool {
        *self.alive.borrow()
    }

    /// Returns what it was before.
    pub(crate) fn set_alive(&self, alive: bool) -> bool {
        self.alive.send_replace(alive)
    }

    /// Changes of [`Store::alive`].
    pub(crate) fn watch_alive(&self) -> watch::Receiver<bool> {
        self.alive.subscribe()
    }

    pub(crate) fn address(&self) -> String {
        self.addresses.lock().0.clone()
    }

    pub(crate) fn status_address(&self) -> String {
        self.addresses.lock().1.clone()
    }

    pub(crate) fn set_addresses(&self, grpc: String, status: String) {
        *self.addresses.lock() = (grpc, status);
    }

    /// Takes the store out of the cluster, as after a scale-in; it is a tombstone until the sandbox starts again.
    pub(crate) fn remove(&self) {
        self.switches.lock().removed = true;
    }

    pub(crate) fn removed(&self) -> bool {
        self.switches.lock().removed
    }

    pub(crate) fn set_import_mode(&self, import: bool) {
        self.switches.lock().import_mode_until =
            import.then(|| Instant::now() + IMPORT_MODE_TIMEOUT);
    }

    pub(crate) fn import_mode(&self) -> bool {
        self.switches
            .lock()
            .import_mode_until
            .is_some_and(|until| until > Instant::now())
    }

    /// Suspends ingests for `time`, or resumes them; whether they were suspended before.
    pub(crate) fn suspend(&self, time: Option<Duration>) -> bool {
        let mut switches = self.switches.lock();
        let now = Instant::now();
        let before = switches.suspended_until.is_some_and(|until| until > now);
        switches.suspended_until = time.map(|time| now + time);
        before
    }

    /// How long ingests stay suspended.
    pub(crate) fn suspended_for(&self) -> Option<Duration> {
        let until = self.switches.lock().suspended_until?;
        until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    pub(crate) fn add_partition(&self, range: (Vec<u8>, Vec<u8>), ttl: Duration) {
        self.switches
            .lock()
            .partitions
            .insert(range, Instant::now() + ttl);
    }

    pub(crate) fn remove_partition(&self, range: &(Vec<u8>, Vec<u8>)) {
        self.switches.lock().partitions.remove(range);
    }

    /// Force-partition ranges in force.
    pub(crate) fn partitions(&self) -> usize {
        let now = Instant::now();
        self.switches
            .lock()
            .partitions
            .values()
            .filter(|until| **until > now)
            .count()
    }
}
