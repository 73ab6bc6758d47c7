//! What all sessions share: the engine, global variables, who is connected, and the writers' lock.

use super::vars::{Variables, defaults};
use crate::engine::KvEngine;
use crate::error::{SqlError, SqlResult, code};
use crate::server::SqlConfig;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a writer waits for another (`innodb_lock_wait_timeout`).
const LOCK_WAIT: Duration = Duration::from_secs(50);

/// Ends a connection from another one.
#[derive(Default)]
pub struct KillSwitch {
    killed: AtomicBool,
    notify: Notify,
}

impl KillSwitch {
    pub async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Ends the connection and whatever statement of it is running.
    pub fn fire(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

/// Shared by all sessions of a server.
pub struct Shared {
    pub engine: Arc<dyn KvEngine>,
    pub config: SqlConfig,
    pub globals: RwLock<Variables>,
    pub writer: WriterLock,
    connections: Mutex<BTreeMap<u32, Arc<KillSwitch>>>,
    next_id: AtomicU32,
}

impl Shared {
    pub fn new(engine: Arc<dyn KvEngine>, config: SqlConfig, version: &str) -> Self {
        Self {
            engine,
            config,
            globals: RwLock::new(defaults(version)),
            writer: WriterLock::default(),
            connections: Mutex::default(),
            next_id: AtomicU32::new(1),
        }
    }

    pub fn register(&self) -> (u32, Arc<KillSwitch>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let kill = Arc::new(KillSwitch::default());
        self.connections.lock().insert(id, kill.clone());
        (id, kill)
    }

    pub fn forget(&self, id: u32) {
        self.connections.lock().remove(&id);
    }

    pub fn connections(&self) -> Vec<u32> {
        self.connections.lock().keys().copied().collect()
    }

    /// Ends a connection; false when there is none of that id.
    pub fn kill(&self, id: u32) -> bool {
        let found = self.connections.lock().get(&id).cloned();
        if let Some(kill) = &found {
            kill.fire();
        }
        found.is_some()
    }
}

/// One session at a time writes; the others wait.
#[derive(Default)]
pub struct WriterLock {
    owner: Mutex<Option<u32>>,
    freed: Condvar,
}

impl WriterLock {
    /// Waits for the lock; the owner gets it again.
    pub fn acquire(&self, id: u32, kill: &KillSwitch) -> SqlResult<()> {
        const STEP: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + LOCK_WAIT;
        let mut owner = self.owner.lock();
        while owner.is_some_and(|o| o != id) {
            if kill.is_killed() {
                return Err(SqlError::new(
                    code::QUERY_INTERRUPTED,
                    "Query execution was interrupted",
                ));
            }
            if Instant::now() >= deadline {
                return Err(SqlError::new(
                    1205,
                    "Lock wait timeout exceeded; try restarting transaction",
                ));
            }
            self.freed.wait_for(&mut owner, STEP);
        }
        *owner = Some(id);
        Ok(())
    }

    pub fn release(&self, id: u32) {
        let mut owner = self.owner.lock();
        if *owner == Some(id) {
            *owner = None;
            self.freed.notify_one();
        }
    }
}
