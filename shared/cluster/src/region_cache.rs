//! Regions that were looked up before, by their first key. What stores say about epochs and leaders
//! goes in at once; only what is unknown is asked of PD, so that a PD outage does not stop data.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use parking_lot::Mutex;
use thunderhead_proto::metapb;
use thunderhead_types::{KeyRange, Result};

use crate::pd::PdClient;
use crate::region::Region;

/// Regions per question to PD.
const PAGE: usize = 128;

/// Finds the region of a key.
pub struct RegionCache {
    pd: Arc<PdClient>,
    regions: Mutex<BTreeMap<Vec<u8>, Region>>,
}

impl RegionCache {
    /// An empty cache over `pd`.
    pub fn new(pd: Arc<PdClient>) -> Self {
        Self {
            pd,
            regions: Mutex::new(BTreeMap::new()),
        }
    }

    /// The region that holds `key`, with a leader.
    pub async fn locate(&self, key: &[u8]) -> Result<Region> {
        if let Some(region) = self.cached(key).filter(|r| r.leader.is_some()) {
            return Ok(region);
        }
        self.refresh(key).await
    }

    /// The region that holds `key`, as PD sees it now.
    pub async fn refresh(&self, key: &[u8]) -> Result<Region> {
        let range = KeyRange::new(key, Vec::new());
        let regions = self.pd.scan_regions(&range, 1).await?;
        let region = regions[0].clone();
        self.put(region.clone());
        // The cache may know better than PD, whose picture lags behind a split.
        Ok(self.cached(key).unwrap_or(region))
    }

    /// All regions that touch `range`, in order, as PD sees them now.
    pub async fn scan(&self, range: &KeyRange) -> Result<Vec<Region>> {
        let mut all: Vec<Region> = Vec::new();
        let mut rest = range.clone();
        loop {
            let page = self.pd.scan_regions(&rest, PAGE).await?;
            self.put_all(&page);
            let full = page.len() >= PAGE;
            all.extend(page);
            let end = all.last().map(|r| r.range.end.clone()).unwrap_or_default();
            let reached = end.is_empty() || (!range.end.is_empty() && end >= range.end);
            if reached || !full {
                return Ok(all);
            }
            rest.start = end;
        }
    }

    /// Looks up the regions of `range` so that later questions need no PD.
    pub(crate) fn put_all(&self, regions: &[Region]) {
        for region in regions {
            self.put(region.clone());
        }
    }

    /// Takes a region in, unless what is known of its keys is newer.
    pub fn put(&self, region: Region) {
        let mut regions = self.regions.lock();
        let overlapping = overlapping(&regions, &region.range);
        if overlapping
            .iter()
            .any(|key| regions[key].is_newer_than(&region))
        {
            return;
        }
        for key in overlapping {
            regions.remove(&key);
        }
        regions.insert(region.range.start.clone(), region);
    }

    /// Forgets the region, if it is still known at this epoch.
    pub fn forget(&self, region: &Region) {
        let mut regions = self.regions.lock();
        if regions
            .get(&region.range.start)
            .is_some_and(|known| known.same_epoch(region))
        {
            regions.remove(&region.range.start);
        }
    }

    /// Remembers who leads the region; ignored when the region changed meanwhile.
    pub fn set_leader(&self, region: &Region, leader: metapb::Peer) {
        let mut regions = self.regions.lock();
        if let Some(known) = regions.get_mut(&region.range.start)
            && known.same_epoch(region)
        {
            known.leader = Some(leader);
        }
    }

    /// Replaces `stale` by what a store said is there now. Stores do not name leaders: the one before
    /// is likely to lead all parts.
    pub fn replace(&self, stale: &Region, current: Vec<metapb::Region>) {
        self.forget(stale);
        let store = stale.leader.map_or(0, |leader| leader.store_id);
        for meta in current {
            let Some(mut region) = Region::from_meta(meta, None) else {
                continue;
            };
            region.leader = region.peer_on(store);
            self.put(region);
        }
    }

    fn cached(&self, key: &[u8]) -> Option<Region> {
        let regions = self.regions.lock();
        let (_, region) = regions
            .range::<[u8], _>((Unbounded, Included(key)))
            .next_back()?;
        region.range.contains(key).then(|| region.clone())
    }
}

fn overlapping(regions: &BTreeMap<Vec<u8>, Region>, range: &KeyRange) -> Vec<Vec<u8>> {
    let start = range.start.as_slice();
    let before = regions
        .range::<[u8], _>((Unbounded, Excluded(start)))
        .next_back();
    let after = regions
        .range::<[u8], _>((Included(start), Unbounded))
        .take_while(|(start, _)| range.end.is_empty() || **start < range.end);
    let touches = |region: &Region| region.range.intersect(range).is_some();
    before
        .into_iter()
        .chain(after)
        .filter(|(_, region)| touches(region))
        .map(|(start, _)| start.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: u64, version: u64, start: &str, end: &str) -> Region {
        Region {
            id,
            epoch: metapb::RegionEpoch {
                conf_ver: 1,
                version,
            },
            range: KeyRange::new(start, end),
            peers: Vec::new(),
            leader: None,
            pending: Vec::new(),
            down: Vec::new(),
        }
    }

    fn tree(regions: &[Region]) -> BTreeMap<Vec<u8>, Region> {
        regions
            .iter()
            .map(|r| (r.range.start.clone(), r.clone()))
            .collect()
    }

    #[test]
    fn overlaps_are_found_on_both_sides() {
        let known = tree(&[
            region(1, 1, "", "c"),
            region(2, 1, "c", "f"),
            region(3, 1, "h", ""),
        ]);
        let ids = |start: &str, end: &str| -> Vec<u64> {
            let keys = overlapping(&known, &KeyRange::new(start, end));
            keys.iter().map(|k| known[k].id).collect()
        };
        assert_eq!(ids("a", "b"), [1]);
        assert_eq!(ids("b", "d"), [1, 2]);
        assert_eq!(ids("c", "f"), [2]);
        assert_eq!(ids("f", "h"), [] as [u64; 0]);
        assert_eq!(ids("e", ""), [2, 3]);
        assert_eq!(ids("", ""), [1, 2, 3]);
    }

    #[test]
    fn a_later_epoch_wins_over_an_earlier_one() {
        let (old, split) = (region(1, 1, "a", "z"), region(9, 2, "a", "m"));
        assert!(split.is_newer_than(&old));
        assert!(!old.is_newer_than(&split));
        let mut moved = old.clone();
        moved.epoch.conf_ver = 2;
        assert!(moved.is_newer_than(&old));
    }
}
