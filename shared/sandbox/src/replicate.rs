//! How a region's data changes: an entry goes into the region's log and is applied by every peer in
//! the order of the log, each from its own files. There is no election and no voting: the leader's
//! word is final once logged. An entry leaves the log when every peer applied it; what the logs hold
//! at a start is applied then. This file is where Raft would go.

use crate::cluster::{Cluster, SandboxPanic};
use crate::engine::{Cf, Change};
use crate::error::Result;
use crate::faults::{Action, Point};
use crate::meta::MetaBatch;
use crate::regions::RegionState;
use crate::sst;
use crate::store::Store;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thunderhead_proto::import_sstpb::SstMeta;

/// Index before the first entry of a region, as in TiKV.
const FIRST_INDEX: u64 = 5;

/// One decision about a region's data.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(message, repeated, tag = "1")]
    pub changes: Vec<Change>,
    #[prost(message, repeated, tag = "2")]
    pub ssts: Vec<SstMeta>,
}

/// The entries of one region that some peer has not applied, and how far each peer is.
pub(crate) struct RegionLog {
    last: u64,
    entries: BTreeMap<u64, Entry>,
    applied: HashMap<u64, u64>,
    /// Followers that a fault keeps back.
    held: HashMap<u64, Instant>,
}

impl Default for RegionLog {
    fn default() -> Self {
        Self {
            last: FIRST_INDEX,
            entries: BTreeMap::new(),
            applied: HashMap::new(),
            held: HashMap::new(),
        }
    }
}

impl RegionLog {
    /// A new peer on `store` has everything up to now; returns the index.
    pub(crate) fn adopt(&mut self, store: u64) -> u64 {
        self.applied.insert(store, self.last);
        self.last
    }
}

/// The proposal did not happen because its store died of it.
#[derive(Debug)]
pub(crate) struct LeaderDied;

impl Cluster {
    /// The log of a region. Holding its lock keeps the region's data and borders still.
    pub(crate) fn log(&self, region: u64) -> Arc<Mutex<RegionLog>> {
        self.logs.lock().entry(region).or_default().clone()
    }

    /// Logs `entry` and applies it: on the leader before this returns, on followers too unless they
    /// are dead or lag. `log` is the region's log, locked by the caller.
    pub(crate) fn propose(
        &self,
        log: &mut RegionLog,
        region: &RegionState,
        leader: &Store,
        entry: Entry,
    ) -> Result<Result<(), LeaderDied>> {
        let id = region.id();
        let index = log.last + 1;
        let mut batch = MetaBatch::default();
        batch.put_entry(id, index, &prost::Message::encode_to_vec(&entry));
        self.meta.write(batch)?;
        log.entries.insert(index, entry);
        log.last = index;
        self.behind.lock().insert(id);
        if let Some(Action::Delay { ms }) = self.faults.hit(Point::Apply, Some(leader.id), Some(id))
        {
            std::thread::sleep(Duration::from_millis(ms));
        }
        self.catch_up(log, id, leader)?;
        if !leader.alive() {
            return Ok(Err(LeaderDied));
        }
        self.catch_up_followers(log, region, leader.id, true)?;
        Ok(Ok(()))
    }

    fn catch_up_followers(
        &self,
        log: &mut RegionLog,
        region: &RegionState,
        leader: u64,
        fresh: bool,
    ) -> Result<()> {
        let id = region.id();
        let now = Instant::now();
        for peer in region
            .region
            .peers
            .iter()
            .filter(|peer| peer.store_id != leader)
        {
            let Some(store) = self.store(peer.store_id).filter(|store| store.alive()) else {
                continue;
            };
            if fresh
                && let Some(Action::Delay { ms }) =
                    self.faults.hit(Point::Apply, Some(store.id), Some(id))
            {
                log.held.insert(store.id, now + Duration::from_millis(ms));
            }
            let held = log.held.get(&store.id).is_some_and(|until| *until > now);
            if !held && region.caught_up(store.id, now) {
                self.catch_up(log, id, store)?;
            }
        }
        self.truncate(log, region)
    }

    /// Applies on `store` everything that it has not applied.
    pub(crate) fn catch_up(&self, log: &mut RegionLog, region: u64, store: &Store) -> Result<()> {
        log.held.remove(&store.id);
        let applied = log.applied.get(&store.id).copied().unwrap_or(0);
        for (index, entry) in log.entries.range(applied + 1..) {
            if let Err(panic) = apply(store, region, *index, entry)? {
                self.panic_store(panic);
                return Ok(());
            }
            log.applied.insert(store.id, *index);
        }
        Ok(())
    }

    /// Forgets entries that every peer applied.
    fn truncate(&self, log: &mut RegionLog, region: &RegionState) -> Result<()> {
        let applied = |store: u64| log.applied.get(&store).copied().unwrap_or(0);
        let everywhere = region
            .region
            .peers
            .iter()
            .map(|peer| applied(peer.store_id))
            .min()
            .unwrap_or(0);
        let kept = log.entries.split_off(&(everywhere + 1));
        let done = std::mem::replace(&mut log.entries, kept);
        if !done.is_empty() {
            let mut batch = MetaBatch::default();
            done.keys()
                .for_each(|index| batch.delete_entry(region.id(), *index));
            self.meta.write(batch)?;
        }
        if log.entries.is_empty() {
            self.behind.lock().remove(&region.id());
        }
        Ok(())
    }

    /// Lets every live follower catch up whose time has come.
    pub(crate) fn apply_due(&self) -> Result<()> {
        let behind: Vec<u64> = self.behind.lock().iter().copied().collect();
        for id in behind {
            let log = self.log(id);
            let mut log = log.lock();
            match self.region(id) {
                Some(region) => self.catch_up_followers(&mut log, &region, 0, false)?,
                None => _ = self.behind.lock().remove(&id),
            }
        }
        Ok(())
    }

    /// Reads the logs back and applies what they hold.
    pub(crate) fn recover_logs(&self) -> Result<()> {
        for store in self.stores.values() {
            for (region, index) in store.engine.applied()? {
                let log = self.log(region);
                let mut log = log.lock();
                log.applied.insert(store.id, index);
                log.last = log.last.max(index);
            }
        }
        for (region, index, entry) in self.meta.entries()? {
            let log = self.log(region);
            let mut log = log.lock();
            log.entries
                .insert(index, prost::Message::decode(&entry[..])?);
            log.last = log.last.max(index);
            self.behind.lock().insert(region);
        }
        self.apply_due()
    }
}

/// Applies one entry on one store; `Err` is what would crash TiKV.
fn apply(
    store: &Store,
    region: u64,
    index: u64,
    entry: &Entry,
) -> Result<Result<(), SandboxPanic>> {
    if let Err((file, reason)) = ingest(store, &entry.ssts) {
        return Ok(Err(SandboxPanic {
            store: store.id,
            region,
            file,
            reason,
        }));
    }
    store.engine.apply(region, index, &entry.changes)?;
    // Only now: until the index is stored, a restart ingests the files once more.
    entry.ssts.iter().for_each(|meta| store.import.delete(meta));
    Ok(Ok(()))
}

fn ingest(store: &Store, metas: &[SstMeta]) -> Result<(), (String, String)> {
    let mut files = Vec::with_capacity(metas.len());
    for meta in metas {
        let name = || crate::import_dir::file_name(meta);
        sst::check_footer(&store.import.path(meta)).map_err(|reason| (name(), reason))?;
        let cf = Cf::of_sst(&meta.cf_name)
            .ok_or_else(|| (name(), "unknown column family".to_owned()))?;
        files.push(
            store
                .import
                .clone_for_ingest(meta, cf)
                .map_err(|error| (name(), error.to_string()))?,
        );
    }
    let first = metas
        .first()
        .map(crate::import_dir::file_name)
        .unwrap_or_default();
    store
        .engine
        .ingest(&files)
        .map_err(|error| (first, error.to_string()))
}
