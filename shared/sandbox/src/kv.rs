//! The cluster as the SQL face sees it: snapshots, commits, ranges. Works on the leaders' engines in
//! this process instead of through gRPC, under the same logs and region table.

use crate::cluster::Cluster;
use crate::engine::Change;
use crate::keys;
use crate::mvcc::{ReadError, Snapshot};
use crate::regions::RegionState;
use crate::replicate::Entry;
use crate::store::Store;
use crate::topology::region_range;
use crate::txn;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use thunderhead_sandbox_sql::{CommitError, KvEngine, Mutation, Pair, ScanLimit};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Timestamp};

/// See the module.
pub(crate) struct LocalKv {
    cluster: Arc<Cluster>,
    /// Held for writing from taking a commit timestamp until its data is visible, and for reading while
    /// a timestamp is given out: who reads at a timestamp sees every commit below it.
    commits: RwLock<()>,
}

impl LocalKv {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, commits: RwLock::new(()) }
    }

    fn leader(&self, state: &RegionState) -> Result<Arc<Store>> {
        let store = state.leader.and_then(|id| self.cluster.store(id)).filter(|store| store.alive());
        store.cloned().ok_or_else(|| no_leader(state.id()))
    }

    /// The regions of `range` in order, each with the part of the range that it holds.
    fn parts(&self, range: &KeyRange) -> Vec<(RegionState, KeyRange)> {
        let start = keys::encode(&range.start);
        let end = if range.end.is_empty() { Vec::new() } else { keys::encode(&range.end) };
        let regions = self.cluster.regions.read();
        let part = |state: &RegionState| Some((state.clone(), range.intersect(&region_range(&state.region))?));
        regions.overlapping(&start, &end).filter_map(part).collect()
    }
}

fn no_leader(region: u64) -> Error {
    Error::new(ErrorKind::Cluster, format!("sandbox region {region}"), "no leader").advice("start the stopped stores")
}

fn read_failed(error: ReadError) -> Error {
    match error {
        ReadError::Locked(lock) => {
            let text = format!("locked by the transaction that started at {}", lock.lock_version);
            Error::new(ErrorKind::Cluster, "sandbox", text).advice("try again")
        }
        ReadError::Failed(error) => error.into(),
    }
}

impl KvEngine for LocalKv {
    fn tso(&self) -> Result<Timestamp> {
        let _visible = self.commits.read();
        Ok(self.cluster.tso.next(1)?)
    }

    fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Vec<u8>>> {
        let state = self.cluster.regions.read().by_key(&keys::encode(key)).cloned();
        let store = self.leader(&state.ok_or_else(|| no_leader(0))?)?;
        let got = Snapshot::new(&store.engine).get(key, ts).map_err(read_failed)?;
        Ok(got.map(|(value, _)| value))
    }

    fn scan(&self, range: &KeyRange, ts: Timestamp, limit: ScanLimit) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        let mut bytes = 0;
        for (state, part) in self.parts(range) {
            let store = self.leader(&state)?;
            let mut full = false;
            let done = Snapshot::new(&store.engine).scan(&part, ts, |key, value, _| {
                bytes += key.len() + value.len();
                pairs.push((key.to_vec(), value.to_vec()));
                full = pairs.len() >= limit.pairs || bytes >= limit.bytes;
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            done.map_err(read_failed)?;
            if full {
                break;
            }
        }
        Ok(pairs)
    }

    fn commit(&self, start_ts: Timestamp, mutations: &[Mutation]) -> Result<Timestamp, CommitError> {
        let _exclusive = self.commits.write();
        let commit_ts = self.cluster.tso.next(1).map_err(Error::from)?;
        loop {
            match self.try_commit(start_ts, commit_ts, mutations)? {
                Attempt::Done => return Ok(commit_ts),
                Attempt::Conflict => return Err(CommitError::Conflict),
                // A region changed between grouping and locking; its new borders are known by now.
                Attempt::Regrouped => {}
            }
        }
    }

    fn destroy_range(&self, range: &KeyRange) -> Result<()> {
        let start = keys::data_key(&range.start);
        let end = if range.end.is_empty() { keys::data_end(b"") } else { keys::data_key(&range.end) };
        for store in self.cluster.stores.values() {
            store.engine.destroy_range(&start, &end)?;
        }
        Ok(())
    }

    fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        let mut sum = Checksum::default();
        for (state, part) in self.parts(range) {
            let store = self.leader(&state)?;
            sum.merge(&Snapshot::new(&store.engine).checksum(&part, ts).map_err(read_failed)?);
        }
        Ok(sum)
    }

    fn split(&self, keys: &[Vec<u8>]) -> Result<()> {
        let encoded = keys.iter().map(|key| keys::encode(key)).collect();
        self.cluster.split_everywhere(encoded)?;
        Ok(())
    }
}

enum Attempt {
    Done,
    Conflict,
    Regrouped,
}

impl LocalKv {
    /// One transaction over any number of regions: their logs are locked in the order of ids, every key
    /// is checked, then every region gets its entry.
    fn try_commit(&self, start_ts: Timestamp, commit_ts: Timestamp, mutations: &[Mutation]) -> Result<Attempt> {
        let mut groups: BTreeMap<u64, Vec<(&[u8], Option<&[u8]>)>> = BTreeMap::new();
        let regions = self.cluster.regions.read();
        for mutation in mutations {
            let (key, value) = match mutation {
                Mutation::Put(key, value) => (key, Some(&value[..])),
                Mutation::Delete(key) => (key, None),
            };
            let state = regions.by_key(&keys::encode(key)).ok_or_else(|| no_leader(0))?;
            groups.entry(state.id()).or_default().push((key, value));
        }
        drop(regions);
        let logs: Vec<_> = groups.keys().map(|id| self.cluster.log(*id)).collect();
        let mut guards: Vec<_> = logs.iter().map(|log| log.lock()).collect();
        let mut prepared: Vec<(RegionState, Arc<Store>, Vec<Change>)> = Vec::new();
        for (id, group) in &groups {
            let Some(state) = self.cluster.region(*id) else { return Ok(Attempt::Regrouped) };
            let inside = |key: &[u8]| crate::regions::contains(&state.region, &keys::encode(key));
            if !group.iter().all(|(key, _)| inside(key)) {
                return Ok(Attempt::Regrouped);
            }
            let store = self.leader(&state)?;
            let Some(changes) = txn::write_once(&store.engine, group, start_ts, commit_ts)? else {
                return Ok(Attempt::Conflict);
            };
            prepared.push((state, store, changes));
        }
        for (guard, (state, store, changes)) in guards.iter_mut().zip(prepared) {
            let entry = Entry { changes, ssts: Vec::new() };
            let proposed = self.cluster.propose(guard, &state, &store, entry).map_err(Error::from)?;
            proposed.map_err(|_| no_leader(state.id()))?;
        }
        Ok(Attempt::Done)
    }
}
