//! The region table: which regions exist, their epochs, peers and leaders, and what a follower that
//! lags behind a split still believes. Pure state; `cluster` changes and stores it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Instant;
use thunderhead_proto::metapb::{Peer, PeerRole, Region, RegionEpoch};

/// A follower that has not applied the latest change of its region.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    /// The region as it stands there; `None` when it does not exist there yet.
    pub before: Option<Region>,
    /// When the store catches up.
    pub applied_at: Instant,
    /// When PD stops calling the peer pending.
    pub reported_at: Instant,
}

/// One region as its leader knows it.
#[derive(Clone, Debug)]
pub(crate) struct RegionState {
    pub region: Region,
    /// Store of the leader.
    pub leader: Option<u64>,
    pub term: u64,
    pub lags: HashMap<u64, Lag>,
}

/// What is stored of a region.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RegionRecord {
    #[prost(message, optional, tag = "1")]
    pub region: Option<Region>,
    #[prost(uint64, tag = "2")]
    pub leader: u64,
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

impl RegionState {
    pub(crate) fn new(region: Region, leader: Option<u64>, term: u64) -> Self {
        Self {
            region,
            leader,
            term,
            lags: HashMap::new(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.region.id
    }

    pub(crate) fn epoch(&self) -> RegionEpoch {
        epoch(&self.region)
    }

    pub(crate) fn peer_on(&self, store: u64) -> Option<&Peer> {
        self.region.peers.iter().find(|peer| peer.store_id == store)
    }

    pub(crate) fn leader_peer(&self) -> Option<&Peer> {
        self.leader.and_then(|store| self.peer_on(store))
    }

    /// The region as the peer on `store` knows it now.
    pub(crate) fn local_view(&self, store: u64, now: Instant) -> Option<&Region> {
        self.peer_on(store)?;
        match self.lags.get(&store) {
            Some(lag) if lag.applied_at > now => lag.before.as_ref(),
            _ => Some(&self.region),
        }
    }

    /// Whether the peer on `store` has everything that was decided.
    pub(crate) fn caught_up(&self, store: u64, now: Instant) -> bool {
        self.lags
            .get(&store)
            .is_none_or(|lag| lag.applied_at <= now)
    }

    /// The peers that PD calls pending.
    pub(crate) fn pending_peers(&self, now: Instant) -> Vec<Peer> {
        let pending = |peer: &&Peer| {
            self.lags
                .get(&peer.store_id)
                .is_some_and(|lag| lag.reported_at > now)
        };
        self.region.peers.iter().filter(pending).cloned().collect()
    }

    pub(crate) fn record(&self) -> Vec<u8> {
        let record = RegionRecord {
            region: Some(self.region.clone()),
            leader: self.leader.unwrap_or(0),
            term: self.term,
        };
        prost::Message::encode_to_vec(&record)
    }
}

/// The epoch of a region; the zero epoch when it has none.
pub(crate) fn epoch(region: &Region) -> RegionEpoch {
    region.region_epoch.unwrap_or_default()
}

/// Whether a peer may lead, and counts where most must agree.
pub(crate) fn votes(peer: &Peer) -> bool {
    peer.role() != PeerRole::Learner
}

/// Whether the encoded `key` is inside.
pub(crate) fn contains(region: &Region, key: &[u8]) -> bool {
    key >= &region.start_key[..] && (region.end_key.is_empty() || key < &region.end_key[..])
}

/// All regions, by start key and by id. They cover the whole key space without overlap.
#[derive(Default)]
pub(crate) struct Regions {
    by_start: BTreeMap<Vec<u8>, u64>,
    by_id: HashMap<u64, RegionState>,
}

impl Regions {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&RegionState> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut RegionState> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RegionState> {
        self.by_start.values().filter_map(|id| self.by_id.get(id))
    }

    /// Sets or replaces the region with this id; its start key may have moved.
    pub(crate) fn put(&mut self, state: RegionState) {
        let id = state.id();
        let start = state.region.start_key.to_vec();
        if let Some(old) = self.by_id.insert(id, state)
            && old.region.start_key != start
            && self.by_start.get(&old.region.start_key[..]) == Some(&id)
        {
            self.by_start.remove(&old.region.start_key[..]);
        }
        self.by_start.insert(start, id);
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<RegionState> {
        let state = self.by_id.remove(&id)?;
        if self.by_start.get(&state.region.start_key[..]) == Some(&id) {
            self.by_start.remove(&state.region.start_key[..]);
        }
        Some(state)
    }

    /// The region with the encoded `key`.
    pub(crate) fn by_key(&self, key: &[u8]) -> Option<&RegionState> {
        let (_, id) = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        self.get(*id).filter(|state| contains(&state.region, key))
    }

    /// The region before the one with `key`.
    pub(crate) fn before_key(&self, key: &[u8]) -> Option<&RegionState> {
        let start = &self.by_key(key)?.region.start_key[..];
        let (_, id) = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(start)))
            .next_back()?;
        self.get(*id)
    }

    /// The regions that overlap `[start, end)`, in order; an empty end means no bound.
    pub(crate) fn overlapping<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = &'a RegionState> {
        let first = self
            .by_key(start)
            .map_or(start, |state| &state.region.start_key[..]);
        self.by_start
            .range::<[u8], _>((Bound::Included(first), Bound::Unbounded))
            .filter_map(|(_, id)| self.get(*id))
            .take_while(move |state| end.is_empty() || &state.region.start_key[..] < end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(borders: &[&[u8]]) -> Regions {
        let mut regions = Regions::default();
        for (i, pair) in borders.windows(2).enumerate() {
            let region = Region {
                id: i as u64 + 1,
                start_key: pair[0].to_vec().into(),
                end_key: pair[1].to_vec().into(),
                ..Default::default()
            };
            regions.put(RegionState::new(region, None, 1));
        }
        regions
    }

    #[test]
    fn lookups_find_the_region_that_holds_the_key() {
        let regions = table(&[b"", b"b", b"d", b""]);
        for (key, id) in [
            (&b""[..], 1),
            (b"a", 1),
            (b"b", 2),
            (b"c", 2),
            (b"d", 3),
            (b"zz", 3),
        ] {
            assert_eq!(regions.by_key(key).unwrap().id(), id);
        }
        assert_eq!(regions.before_key(b"c").unwrap().id(), 1);
        assert!(regions.before_key(b"a").is_none());
        let ids = |start: &[u8], end: &[u8]| {
            regions
                .overlapping(start, end)
                .map(RegionState::id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(b"", b""), [1, 2, 3]);
        assert_eq!(ids(b"c", b"d"), [2]);
        assert_eq!(ids(b"a", b"d\0"), [1, 2, 3]);
    }

    #[test]
    fn a_lagging_peer_sees_the_region_as_it_was() {
        let mut regions = table(&[b"", b""]);
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(9);
        let state = regions.get_mut(1).unwrap();
        state.region.peers = vec![Peer {
            id: 5,
            store_id: 1,
            ..Default::default()
        }];
        state.lags.insert(
            1,
            Lag {
                before: None,
                applied_at: later,
                reported_at: later,
            },
        );
        assert!(state.local_view(1, now).is_none() && state.pending_peers(now).len() == 1);
        assert!(state.local_view(1, later).is_some() && state.pending_peers(later).is_empty());
        assert!(state.local_view(2, now).is_none());
    }
}
