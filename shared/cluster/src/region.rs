//! A region as we use it: borders in raw keys, peers, leader. The memcomparable form that PD and
//! TiKV keep is decoded here, once, and encoded again only where a message needs it.

use thunderhead_codec::mem::{decode_bytes, encode_bytes};
use thunderhead_proto::{metapb, pdpb};
use thunderhead_types::KeyRange;

/// One region, as of the moment it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The region's id.
    pub id: u64,
    /// Changes with every split, merge and membership change.
    pub epoch: metapb::RegionEpoch,
    /// Raw keys.
    pub range: KeyRange,
    /// Every peer, learners and TiFlash included.
    pub peers: Vec<metapb::Peer>,
    /// Absent while unknown.
    pub leader: Option<metapb::Peer>,
    /// Ids of the peers that have not caught up.
    pub pending: Vec<u64>,
    /// Ids of the peers whose store does not answer.
    pub down: Vec<u64>,
}

impl Region {
    /// From a region that a store described. `None` when a border is no memcomparable key.
    pub fn from_meta(meta: metapb::Region, leader: Option<metapb::Peer>) -> Option<Region> {
        Some(Region {
            id: meta.id,
            epoch: meta.region_epoch.unwrap_or_default(),
            range: KeyRange::new(
                decode_border(&meta.start_key)?,
                decode_border(&meta.end_key)?,
            ),
            peers: meta.peers,
            leader: leader.filter(|peer| peer.id != 0),
            pending: Vec::new(),
            down: Vec::new(),
        })
    }

    pub(crate) fn from_pd(region: pdpb::Region) -> Option<Region> {
        let mut own = Region::from_meta(region.region?, region.leader)?;
        own.pending = region.pending_peers.iter().map(|p| p.id).collect();
        own.down = region
            .down_peers
            .iter()
            .filter_map(|p| Some(p.peer?.id))
            .collect();
        Some(own)
    }

    /// Whether SSTs written for `other` can be ingested here.
    pub fn same_epoch(&self, other: &Region) -> bool {
        self.id == other.id && self.epoch == other.epoch
    }

    /// Whether this description is the later one of the two, which share keys.
    pub fn is_newer_than(&self, other: &Region) -> bool {
        self.epoch.version > other.epoch.version
            || (self.id == other.id && self.epoch.conf_ver > other.epoch.conf_ver)
    }

    /// The peer on `store_id`.
    pub fn peer_on(&self, store_id: u64) -> Option<metapb::Peer> {
        self.peers
            .iter()
            .copied()
            .find(|peer| peer.store_id == store_id)
    }
}

/// The memcomparable form of a raw key; the empty key, which means no bound, stays empty.
pub(crate) fn encode_border(raw: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity((raw.len() / 8 + 1) * 9);
    if !raw.is_empty() {
        encode_bytes(&mut encoded, raw);
    }
    encoded
}

fn decode_border(mut encoded: &[u8]) -> Option<Vec<u8>> {
    if encoded.is_empty() {
        return Some(Vec::new());
    }
    decode_bytes(&mut encoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn borders_survive_the_way_to_pd_and_back() {
        for raw in [&b""[..], b"a", b"12345678", b"t\x80\0\0\0\0\0\0\x68_r"] {
            assert_eq!(decode_border(&encode_border(raw)).unwrap(), raw);
        }
        assert_eq!(decode_border(b"torn"), None);
    }

    #[test]
    fn a_leader_with_id_zero_is_no_leader() {
        let meta = metapb::Region {
            id: 1,
            ..Default::default()
        };
        let region = Region::from_meta(meta, Some(metapb::Peer::default())).unwrap();
        assert_eq!(region.leader, None);
    }
}
