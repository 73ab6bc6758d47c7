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
        Self {
            cluster,
            commits: RwLock::new(()),
        }
    }

    fn leader(&self, state: &RegionState) -> Result<Arc<Store>> {
        let store = state
            .leader
            .and_then(|id| self.cluster.store(id))
            .filter(|store| store.alive());
        store.cloned().ok_or_else(|| no_leader(state.id()))
    }

    /// The regions of `range` in order, each with the part of the range that it holds.
    fn parts(&self, range: &KeyRange) -> Vec<(RegionState, KeyRange)> {
        let start = keys::encode(&range.start);
        let end = if range.end.is_empty() {
            Vec::new()
        } else {
            keys::encode(&range.end)
        };
        let regions = self.cluster.regions.read();
        let part = |state: &RegionState| {
            Some((
                state.clone(),
                range.intersect(&region_range(&state.region))?,
            ))
        };
        regions.overlapping(&start, &end).filter_map(part).collect()
    }
}

fn no_leader(region: u64) -> Error {
    Error::new(
        ErrorKind::Cluster,
        format!("sandbox region {region}"),
        "no leader",
    )
    .advice("start the stopped stores")
}

fn read_failed(error: ReadError) -> Error {
    match error {
        ReadError::Locked(lock) => {
            let text = format!(
                "locked by the transaction that started at {}",
                lock.lock_version
            );
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
        let state = self
            .cluster
            .regions
            .read()
            .by_key(&keys::encode(key))
            .cloned();
        let store = self.leader(&state.ok_or_else(|| no_leader(0))?)?;
        let got = Snapshot::new(&store.engine)
            .get(key, ts)
            .map_err(read_failed)?;
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
                if full {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            done.map_err(read_failed)?;
            if full {
                break;
            }
        }
        Ok(pairs)
    }

    fn commit(
        &self,
        start_ts: Timestamp,
        mutations: &[Mutation],
    ) -> Result<Timestamp, CommitError> {
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
        let end = if range.end.is_empty() {
            keys::data_end(b"")
        } else {
            keys::data_key(&range.end)
        };
        for store in self.cluster.stores.values() {
            store.engine.destroy_range(&start, &end)?;
        }
        Ok(())
    }

    fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        let mut sum = Checksum::default();
        for (state, part) in self.parts(range) {
            let store = self.leader(&state)?;
            sum.merge(
                &Snapshot::new(&store.engine)
                    .checksum(&part, ts)
                    .map_err(read_failed)?,
            );
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
    fn try_commit(
        &self,
        start_ts: Timestamp,
        commit_ts: Timestamp,
        mutations: &[Mutation],
    ) -> Result<Attempt> {
        let mut groups: BTreeMap<u64, Vec<txn::KeyChange<'_>>> = BTreeMap::new();
        let regions = self.cluster.regions.read();
        for mutation in mutations {
            let (key, value) = match mutation {
                Mutation::Put(key, value) => (key, Some(&value[..])),
                Mutation::Delete(key) => (key, None),
            };
            let state = regions
                .by_key(&keys::encode(key))
                .ok_or_else(|| no_leader(0))?;
            groups.entry(state.id()).or_default().push((key, value));
        }
        drop(regions);
        let logs: Vec<_> = groups.keys().map(|id| self.cluster.log(*id)).collect();
        let mut guards: Vec<_> = logs.iter().map(|log| log.lock()).collect();
        let mut prepared: Vec<(RegionState, Arc<Store>, Vec<Change>)> = Vec::new();
        for (id, group) in &groups {
            let Some(state) = self.cluster.region(*id) else {
                return Ok(Attempt::Regrouped);
            };
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
            let entry = Entry {
                changes,
                ssts: Vec::new(),
            };
            let proposed = self
                .cluster
                .propose(guard, &state, &store, entry)
                .map_err(Error::from)?;
            proposed.map_err(|_| no_leader(state.id()))?;
        }
        Ok(Attempt::Done)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SandboxConfig;

    fn put(key: &str, value: &str) -> Mutation {
        Mutation::Put(key.into(), value.into())
    }

    fn open(dir: &tempfile::TempDir) -> LocalKv {
        LocalKv::new(Cluster::open(SandboxConfig::new(dir.path())).unwrap())
    }

    fn text(kv: &LocalKv, range: &KeyRange, ts: Timestamp, limit: ScanLimit) -> String {
        let pairs = kv.scan(range, ts, limit).unwrap();
        let join =
            |(key, value): (Vec<u8>, Vec<u8>)| String::from_utf8([key, value].join(&b'=')).unwrap();
        pairs.into_iter().map(join).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_commit_over_several_regions_is_seen_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(&dir);
        kv.split(&[b"b".to_vec(), b"c".to_vec()]).unwrap();
        let (all, limit) = (KeyRange::default(), ScanLimit::default());
        let start = kv.tso().unwrap();
        let first = kv
            .commit(start, &[put("c", "3"), put("a", "1"), put("b", "2")])
            .unwrap();
        let long = "x".repeat(300);
        let second = kv
            .commit(first, &[Mutation::Delete(b"b".to_vec()), put("c", &long)])
            .unwrap();
        assert_eq!(text(&kv, &all, first, limit), "a=1 b=2 c=3");
        assert_eq!(text(&kv, &all, first - 1, limit), "");
        assert_eq!(text(&kv, &all, second, limit), format!("a=1 c={long}"));
        assert_eq!(kv.get(b"c", second).unwrap().unwrap(), long.as_bytes());
        assert!(matches!(
            kv.commit(start, &[put("z", "1"), put("b", "9")]),
            Err(CommitError::Conflict)
        ));
        assert_eq!(kv.get(b"z", kv.tso().unwrap()).unwrap(), None);
    }

    #[test]
    fn scans_stop_at_their_limits_and_at_the_end_of_the_range() {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(&dir);
        kv.split(&[b"k3".to_vec()]).unwrap();
        let mutations: Vec<_> = (0..6).map(|i| put(&format!("k{i}"), "v")).collect();
        let ts = kv.commit(kv.tso().unwrap(), &mutations).unwrap();
        let range = KeyRange::new(*b"k1", *b"k5");
        let scan = |pairs, bytes| text(&kv, &range, ts, ScanLimit { pairs, bytes });
        assert_eq!(scan(9, 999), "k1=v k2=v k3=v k4=v");
        assert_eq!(scan(3, 999), "k1=v k2=v k3=v");
        assert_eq!(scan(9, 4), "k1=v k2=v");
        let mut sum = Checksum::default();
        (1..5).for_each(|i| sum.add(format!("k{i}").as_bytes(), b"v"));
        assert_eq!(kv.checksum(&range, ts).unwrap(), sum);
        kv.destroy_range(&KeyRange::new(*b"k2", *b"k4")).unwrap();
        assert_eq!(scan(9, 999), "k1=v k4=v");
    }

    #[test]
    fn what_is_committed_is_on_every_store_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(&dir);
        let ts = kv.commit(kv.tso().unwrap(), &[put("a", "1")]).unwrap();
        kv.cluster.mark_dead(3);
        let ts = kv.commit(ts, &[put("a", "2"), put("b", "3")]).unwrap();
        assert_eq!(
            Snapshot::new(&kv.cluster.stores[&3].engine)
                .get(b"b", ts)
                .unwrap(),
            None
        );
        drop(kv);
        let kv = open(&dir);
        for store in kv.cluster.stores.values() {
            assert_eq!(
                Snapshot::new(&store.engine)
                    .get(b"a", ts)
                    .unwrap()
                    .unwrap()
                    .0,
                b"2",
                "store {}",
                store.id
            );
        }
        assert!(kv.cluster.behind.lock().is_empty());
    }

    #[test]
    fn commits_hold_while_their_regions_split() {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(&dir);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..50 {
                    kv.split(&[format!("k{:03}", i * 7 % 100).into_bytes()])
                        .unwrap();
                }
            });
            for i in 0..50 {
                let mutations: Vec<_> = (0..100)
                    .map(|k| put(&format!("k{k:03}"), &i.to_string()))
                    .collect();
                kv.commit(kv.tso().unwrap(), &mutations).unwrap();
            }
        });
        let pairs = kv
            .scan(
                &KeyRange::default(),
                kv.tso().unwrap(),
                ScanLimit::default(),
            )
            .unwrap();
        assert!(pairs.len() == 100 && pairs.iter().all(|(_, value)| value == b"49"));
    }
}
