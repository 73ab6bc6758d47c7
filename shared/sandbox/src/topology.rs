//! How the region table changes: splits, merges, leaders, and stores that die and return; peers that
//! move are in `placement`.
//! Each change holds the region's log, so that no data moves at the same time, and is durable before
//! anyone sees it.

use crate::check;
use crate::cluster::Cluster;
use crate::error::{Result, SandboxError};
use crate::keys;
use crate::meta::MetaBatch;
use crate::regions::{self, Lag, RegionState};
use crate::store::Store;
use std::collections::HashMap;
use std::time::Instant;
use thunderhead_proto::errorpb;
use thunderhead_proto::kvrpcpb::Context;
use thunderhead_proto::metapb::{Peer, Region};

/// Why a change of topology did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    Region(Box<errorpb::Error>),
    Failed(SandboxError),
}

impl From<SandboxError> for Refused {
    fn from(error: SandboxError) -> Self {
        Refused::Failed(error)
    }
}

impl From<Box<errorpb::Error>> for Refused {
    fn from(error: Box<errorpb::Error>) -> Self {
        Refused::Region(error)
    }
}

fn message(text: &str) -> Refused {
    Refused::Region(Box::new(errorpb::Error {
        message: text.into(),
        ..Default::default()
    }))
}

impl Cluster {
    /// Splits the region of `context` at the encoded keys; returns all products in key order.
    pub(crate) fn split(
        &self,
        store: &Store,
        context: &Context,
        mut splits: Vec<Vec<u8>>,
    ) -> Result<Vec<Region>, Refused> {
        let log = self.log(context.region_id);
        let _still = log.lock();
        let state = self.check(store, context)?;
        splits.sort();
        splits.dedup();
        splits.retain(|key| key != &state.region.start_key[..]);
        if let Some(outside) = splits
            .iter()
            .find(|key| !regions::contains(&state.region, key))
        {
            return Err(check::key_not_in_region(outside, &state.region).into());
        }
        if splits.is_empty() {
            return Err(message("no valid key found for split."));
        }
        Ok(self.split_at(&state, &splits)?)
    }

    /// Splits at keys that are sorted and inside. The last product keeps the region's id.
    fn split_at(&self, parent: &RegionState, splits: &[Vec<u8>]) -> Result<Vec<Region>> {
        let peers = parent.region.peers.len() as u64;
        let mut next_id = self.allocate_ids(splits.len() as u64 * (1 + peers))? + 1
            - splits.len() as u64 * (1 + peers);
        let mut id = || {
            next_id += 1;
            next_id - 1
        };
        let mut epoch = parent.epoch();
        epoch.version += splits.len() as u64;
        let mut products = Vec::with_capacity(splits.len() + 1);
        let mut start = parent.region.start_key.clone();
        for split in splits {
            let end = bytes::Bytes::copy_from_slice(split);
            let peers = parent
                .region
                .peers
                .iter()
                .map(|peer| Peer { id: 0, ..*peer })
                .collect();
            let region = Region {
                id: id(),
                start_key: start,
                end_key: end.clone(),
                region_epoch: Some(epoch),
                peers,
                ..Default::default()
            };
            products.push(region);
            start = end;
        }
        for region in &mut products {
            region.peers.iter_mut().for_each(|peer| peer.id = id());
        }
        let last = Region {
            start_key: start,
            region_epoch: Some(epoch),
            ..parent.region.clone()
        };
        products.push(last);
        let now = Instant::now();
        let states: Vec<_> = products
            .iter()
            .map(|region| RegionState {
                lags: self.lags_after_split(parent, region.id, now),
                ..RegionState::new(region.clone(), parent.leader, parent.term)
            })
            .collect();
        self.store_regions(&states, &[])?;
        Ok(products)
    }

    /// Every follower learns of the split a little later.
    fn lags_after_split(
        &self,
        parent: &RegionState,
        product: u64,
        now: Instant,
    ) -> HashMap<u64, Lag> {
        let applied_at = now + self.config.split_apply_delay;
        let reported_at = applied_at + self.config.split_report_delay;
        let mut lags = HashMap::new();
        if reported_at > now {
            for peer in parent
                .region
                .peers
                .iter()
                .filter(|peer| Some(peer.store_id) != parent.leader)
            {
                let before = (product == parent.id())
                    .then(|| parent.local_view(peer.store_id, now).cloned())
                    .flatten();
                lags.insert(
                    peer.store_id,
                    Lag {
                        before,
                        applied_at,
                        reported_at,
                    },
                );
            }
        }
        lags
    }

    /// Replaces regions and removes others, durably and at once.
    pub(crate) fn store_regions(&self, states: &[RegionState], removed: &[u64]) -> Result<()> {
        let mut batch = MetaBatch::default();
        removed.iter().for_each(|id| batch.delete_region(*id));
        states
            .iter()
            .for_each(|state| batch.put_region(state.id(), &state.record()));
        self.meta.write_sync(batch)?;
        let mut regions = self.regions.write();
        for id in removed {
            regions.remove(*id);
        }
        // The product that keeps the id gives its old start key to another: it goes first.
        for state in states.iter().rev() {
            regions.put(state.clone());
        }
        Ok(())
    }

    /// Splits wherever one of the encoded keys is not a border yet.
    pub(crate) fn split_everywhere(&self, mut splits: Vec<Vec<u8>>) -> Result<Vec<u64>> {
        splits.sort();
        splits.dedup();
        let mut by_region: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
        let regions = self.regions.read();
        for key in splits {
            if let Some(state) = regions.by_key(&key) {
                by_region.entry(state.id()).or_default().push(key);
            }
        }
        drop(regions);
        let mut made = Vec::new();
        for (id, mut keys) in by_region {
            let log = self.log(id);
            let _still = log.lock();
            let Some(state) = self.region(id) else {
                continue;
            };
            keys.retain(|key| {
                key != &state.region.start_key[..] && regions::contains(&state.region, key)
            });
            if !keys.is_empty() {
                made.extend(self.split_at(&state, &keys)?.iter().map(|region| region.id));
            }
        }
        Ok(made)
    }

    /// Splits the region in the middle of its data, or of its key range when it has none.
    pub(crate) fn split_middle(&self, id: u64) -> Result<bool> {
        let Some(state) = self.region(id) else {
            return Ok(false);
        };
        let Some(key) = self.middle_key(&state)? else {
            return Ok(false);
        };
        Ok(!self.split_everywhere(vec![key])?.is_empty())
    }

    fn middle_key(&self, state: &RegionState) -> Result<Option<Vec<u8>>> {
        let Some(store) = state.leader.and_then(|id| self.store(id)) else {
            return Ok(None);
        };
        let range = region_range(&state.region);
        let mut encoded = Vec::new();
        crate::mvcc::Snapshot::new(&store.engine).history(&range, |key, _, _, _| {
            if encoded.last().is_none_or(|last: &Vec<u8>| last != key) {
                encoded.push(key.to_vec());
            }
            std::ops::ControlFlow::Continue(())
        })?;
        let middle = match encoded.len() {
            0 | 1 => [&range.start[..], &[0x80]].concat(),
            n => encoded.swap_remove(n / 2),
        };
        let key = keys::encode(&middle);
        Ok(regions::contains(&state.region, &key)
            .then_some(key)
            .filter(|key| key != &state.region.start_key[..]))
    }

    /// Merges the region into the next one (the last one takes in the one before).
    pub(crate) fn merge(&self, id: u64) -> Result<bool> {
        let regions = self.regions.read();
        let Some(state) = regions.get(id).cloned() else {
            return Ok(false);
        };
        let next = (!state.region.end_key.is_empty())
            .then(|| regions.by_key(&state.region.end_key))
            .flatten();
        let other = next
            .or_else(|| regions.before_key(&state.region.start_key))
            .cloned();
        drop(regions);
        let Some(other) = other else { return Ok(false) };
        let (source, target) = if next_of(&state, &other) {
            (state, other)
        } else {
            (other, state)
        };
        let (source_log, target_log) = (self.log(source.id()), self.log(target.id()));
        // In the order of ids, so that two merges cannot wait for each other.
        let (first, second) = if source.id() < target.id() {
            (source_log, target_log)
        } else {
            (target_log, source_log)
        };
        let _still = (first.lock(), second.lock());
        {
            // Both were read before their logs were held.
            let regions = self.regions.read();
            let unchanged = |state: &RegionState| {
                regions
                    .get(state.id())
                    .is_some_and(|now| now.region == state.region)
            };
            if !unchanged(&source) || !unchanged(&target) {
                return Ok(false);
            }
        }
        let mut merged = target.clone();
        merged.region.start_key = source.region.start_key.clone();
        let mut epoch = target.epoch();
        epoch.version = epoch.version.max(source.epoch().version) + 1;
        merged.region.region_epoch = Some(epoch);
        self.store_regions(&[merged], &[source.id()])?;
        Ok(true)
    }

    /// Makes the peer on `store` (or the next live one) leader; it catches up first.
    pub(crate) fn transfer_leader(&self, id: u64, store: Option<u64>) -> Result<bool> {
        let log = self.log(id);
        let mut log = log.lock();
        let Some(mut state) = self.region(id) else {
            return Ok(false);
        };
        let candidate = |peer: &&Peer| {
            regions::votes(peer)
                && Some(peer.store_id) != state.leader
                && self.is_alive(peer.store_id)
        };
        let to = match store {
            Some(store) => state.peer_on(store).filter(candidate),
            None => state.region.peers.iter().find(candidate),
        };
        let Some(to) = to.and_then(|peer| self.store(peer.store_id)) else {
            return Ok(false);
        };
        self.catch_up(&mut log, id, to)?;
        if !to.alive() {
            return Ok(false);
        }
        state.lags.remove(&to.id);
        state.leader = Some(to.id);
        state.term += 1;
        let mut batch = MetaBatch::default();
        batch.put_region(id, &state.record());
        self.meta.write(batch)?;
        self.regions.write().put(state);
        Ok(true)
    }

    /// Gives every region whose leader is dead another one, if most of its peers live; takes the
    /// leader away otherwise.
    pub(crate) fn elect(&self) -> Result<()> {
        let needy: Vec<(u64, bool)> = self
            .regions
            .read()
            .iter()
            .filter_map(|state| self.needs_leader(state))
            .collect();
        for (id, possible) in needy {
            if !possible {
                if let Some(state) = self.regions.write().get_mut(id) {
                    state.leader = None;
                }
            } else {
                self.transfer_leader(id, None)?;
            }
        }
        Ok(())
    }

    fn needs_leader(&self, state: &RegionState) -> Option<(u64, bool)> {
        let voters = || {
            state
                .region
                .peers
                .iter()
                .filter(|peer| regions::votes(peer))
        };
        let alive = voters().filter(|peer| self.is_alive(peer.store_id)).count();
        let possible = alive * 2 > voters().count();
        let led = state.leader.is_some_and(|store| self.is_alive(store));
        let change = !(led && possible || state.leader.is_none() && !possible);
        change.then_some((state.id(), possible))
    }

    /// Starts a dead store again, as its process would: unfinished files go, the logs are applied.
    pub(crate) fn revive(&self, store: &Store) -> Result<()> {
        if !store.set_alive(true) {
            store.import.wipe_unfinished()?;
            self.apply_due()?;
            self.elect()?;
        }
        Ok(())
    }

    /// Changes one stored value of the region on every store, as silent corruption would.
    pub(crate) fn mutate_value(&self, id: u64) -> Result<bool> {
        let log = self.log(id);
        let mut log = log.lock();
        let Some(state) = self.region(id) else {
            return Ok(false);
        };
        let Some(store) = state.leader.and_then(|id| self.store(id)) else {
            return Ok(false);
        };
        let mut found = None;
        crate::mvcc::Snapshot::new(&store.engine).history(
            &region_range(&state.region),
            |key, ts, kind, value| {
                // The last one: rows come after the catalog, which everything else needs unharmed.
                if kind == keys::WriteKind::Put && !value.is_empty() {
                    found = Some((key.to_vec(), ts, value));
                }
                std::ops::ControlFlow::Continue(())
            },
        )?;
        let Some((key, ts, mut value)) = found else {
            return Ok(false);
        };
        value[0] ^= 1;
        value.truncate(keys::SHORT_VALUE_MAX);
        let record = keys::WriteRecord {
            kind: keys::WriteKind::Put,
            start_ts: ts,
            short_value: Some(&value),
        };
        let change = crate::engine::Change::put(
            crate::engine::Cf::Write,
            keys::version_key(&key, ts),
            record.encode(),
        );
        let entry = crate::replicate::Entry {
            changes: vec![change],
            ssts: Vec::new(),
        };
        Ok(self.propose(&mut log, &state, store, entry)?.is_ok())
    }
}

fn next_of(state: &RegionState, other: &RegionState) -> bool {
    // The empty end of the last region is not the empty start of the first one.
    !state.region.end_key.is_empty() && state.region.end_key == other.region.start_key
}

/// The raw keys that a region holds.
pub(crate) fn region_range(region: &Region) -> thunderhead_types::KeyRange {
    let raw = |encoded: &[u8]| keys::decode(encoded).unwrap_or_else(|| encoded.to_vec());
    let start = if region.start_key.is_empty() {
        Vec::new()
    } else {
        raw(&region.start_key)
    };
    let end = if region.end_key.is_empty() {
        Vec::new()
    } else {
        raw(&region.end_key)
    };
    thunderhead_types::KeyRange { start, end }
}
