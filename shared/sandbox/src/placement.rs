//! Where the peers of a region are: scattering over the stores, and peers that move or are replaced.
//! As in `topology`, a change holds the region's log and is durable before anyone sees it.

use crate::cluster::Cluster;
use crate::error::Result;
use crate::keys;
use crate::regions::{Lag, RegionState};
use std::time::Instant;
use thunderhead_proto::metapb::{Peer, PeerRole};

impl Cluster {
    /// Spreads the regions `ids` over the stores: their peers, when there are more stores than replicas,
    /// and their leaders. Returns those that must wait.
    pub(crate) fn scatter(&self, ids: &[u64], group: &str) -> Result<Vec<u64>> {
        let mut failed = Vec::new();
        for id in ids {
            let ready = |state: &RegionState| {
                state.leader.is_some() && state.pending_peers(Instant::now()).is_empty()
            };
            let Some(state) = self.region(*id).filter(ready) else {
                failed.push(*id);
                continue;
            };
            self.spread_peers(&state, group)?;
            let Some(state) = self.region(*id) else {
                continue;
            };
            let stores = self.live(
                &state
                    .region
                    .peers
                    .iter()
                    .map(|peer| peer.store_id)
                    .collect::<Vec<_>>(),
            );
            if let Some(to) = self.pd.least_loaded(group, &stores) {
                self.transfer_leader(*id, Some(to))?;
            }
        }
        Ok(failed)
    }

    fn live(&self, stores: &[u64]) -> Vec<u64> {
        stores
            .iter()
            .copied()
            .filter(|store| self.is_alive(*store))
            .collect()
    }

    fn spread_peers(&self, state: &RegionState, group: &str) -> Result<()> {
        let own: Vec<u64> = state
            .region
            .peers
            .iter()
            .map(|peer| peer.store_id)
            .collect();
        let mut candidates = self.live(&self.stores.keys().copied().collect::<Vec<_>>());
        if candidates.len() <= own.len() {
            return Ok(());
        }
        let mut chosen = Vec::new();
        while chosen.len() < own.len() {
            let Some(store) = self
                .pd
                .least_loaded(&format!("peers of {group}"), &candidates)
            else {
                break;
            };
            candidates.retain(|candidate| *candidate != store);
            chosen.push(store);
        }
        let leaving = own.iter().filter(|store| !chosen.contains(store));
        let coming = chosen.iter().filter(|store| !own.contains(store));
        for (from, to) in leaving.zip(coming) {
            self.move_peer(state.id(), *from, *to)?;
        }
        Ok(())
    }

    /// Moves the region's peer on `from` with all its data to `to`.
    pub(crate) fn move_peer(&self, id: u64, from: u64, to: u64) -> Result<bool> {
        if self
            .region(id)
            .is_some_and(|state| state.leader == Some(from))
        {
            self.transfer_leader(id, None)?;
        }
        let log = self.log(id);
        let mut log = log.lock();
        let Some(mut state) = self.region(id) else {
            return Ok(false);
        };
        let Some(leader) = state
            .leader
            .filter(|leader| *leader != from)
            .and_then(|id| self.store(id))
        else {
            return Ok(false);
        };
        let Some((old, new)) = self.store(from).zip(self.store(to)) else {
            return Ok(false);
        };
        let free = state.peer_on(to).is_none();
        let Some(peer) = state
            .region
            .peers
            .iter_mut()
            .find(|peer| peer.store_id == from)
            .filter(|_| free)
        else {
            return Ok(false);
        };
        let (start, end) = (
            keys::data_start(&state.region.start_key),
            keys::data_end(&state.region.end_key),
        );
        new.engine.destroy_range(&start, &end)?;
        leader.engine.copy_range(&new.engine, &start, &end)?;
        new.engine.apply(id, log.adopt(to), &[])?;
        (peer.id, peer.store_id) = (self.allocate_ids(1)?, to);
        state.lags.remove(&from);
        self.store_new_peers(state)?;
        old.engine.destroy_range(&start, &end)?;
        Ok(true)
    }

    /// Moves all peers of a store to others, takes it out of the cluster and kills it. False, with nothing
    /// removed, when the other stores cannot take them.
    pub(crate) fn remove_store(&self, id: u64) -> Result<bool> {
        let states: Vec<_> = self.regions.read().iter().cloned().collect();
        for state in states.iter().filter(|state| state.peer_on(id).is_some()) {
            let free = self.stores.values().find(|store| {
                store.alive() && !store.removed() && state.peer_on(store.id).is_none()
            });
            match free {
                Some(free) if self.move_peer(state.id(), id, free.id)? => {}
                _ => return Ok(false),
            }
        }
        if let Some(store) = self.store(id) {
            store.remove();
        }
        self.mark_dead(id);
        Ok(true)
    }

    /// Gives the region a learner on `to`, with all its data. Until it has caught up, PD calls it pending.
    pub(crate) fn add_learner(&self, id: u64, to: u64) -> Result<bool> {
        let log = self.log(id);
        let mut log = log.lock();
        let Some(mut state) = self.region(id) else {
            return Ok(false);
        };
        let leader = state.leader.and_then(|leader| self.store(leader));
        let Some((leader, new)) = leader.zip(self.store(to)) else {
            return Ok(false);
        };
        if state.peer_on(to).is_some() {
            return Ok(false);
        }
        let (start, end) = (
            keys::data_start(&state.region.start_key),
            keys::data_end(&state.region.end_key),
        );
        new.engine.destroy_range(&start, &end)?;
        leader.engine.copy_range(&new.engine, &start, &end)?;
        new.engine.apply(id, log.adopt(to), &[])?;
        state.region.peers.push(Peer {
            id: self.allocate_ids(1)?,
            store_id: to,
            role: PeerRole::Learner.into(),
            ..Default::default()
        });
        let applied_at = Instant::now() + self.config.split_apply_delay;
        let lag = Lag {
            before: None,
            applied_at,
            reported_at: applied_at + self.config.split_report_delay,
        };
        state.lags.insert(to, lag);
        let mut epoch = state.epoch();
        epoch.conf_ver += 1;
        state.region.region_epoch = Some(epoch);
        self.store_regions(&[state], &[])?;
        Ok(true)
    }

    /// Replaces a follower of the region by a new peer on the same store.
    pub(crate) fn change_peer(&self, id: u64) -> Result<bool> {
        let log = self.log(id);
        let _still = log.lock();
        let Some(mut state) = self.region(id) else {
            return Ok(false);
        };
        let leader = state.leader;
        let Some(peer) = state
            .region
            .peers
            .iter_mut()
            .find(|peer| Some(peer.store_id) != leader)
        else {
            return Ok(false);
        };
        peer.id = self.allocate_ids(1)?;
        self.store_new_peers(state)?;
        Ok(true)
    }

    /// One step of the epoch for the peer that left, one for the peer that came.
    fn store_new_peers(&self, mut state: RegionState) -> Result<()> {
        let mut epoch = state.epoch();
        epoch.conf_ver += 2;
        state.region.region_epoch = Some(epoch);
        self.store_regions(&[state], &[])
    }
}
