//! Looking regions up at PD. An answer is only given out when it has no hole and every region has a
//! leader; PD's picture is put together from heartbeats, so both happen for a while after splits.

use std::sync::atomic::Ordering;

use thunderhead_proto::pdpb;
use thunderhead_types::{KeyRange, Result};

use super::{METADATA_DEADLINE, PdClient, PdError, wait};
use crate::region::{Region, encode_border};
use crate::retry::Patience;

impl PdClient {
    /// The regions from `range.start` on, in order and without holes: all that touch `range`, or the
    /// first `limit` of them.
    pub async fn scan_regions(&self, range: &KeyRange, limit: usize) -> Result<Vec<Region>> {
        self.scan_patiently(range, limit)
            .await
            .map_err(|e| self.error(e))
    }

    async fn scan_patiently(&self, range: &KeyRange, limit: usize) -> Result<Vec<Region>, PdError> {
        let mut patience = Patience::new(self.policy);
        loop {
            let regions = self.scan_once(range, limit).await?;
            match flaw(&regions, range, limit) {
                None => return Ok(regions),
                Some(cause) => wait(&mut patience, "regions", cause).await?,
            }
        }
    }

    async fn scan_once(&self, range: &KeyRange, limit: usize) -> Result<Vec<Region>, PdError> {
        let (start_key, end_key) = (encode_border(&range.start), encode_border(&range.end));
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        if !self.no_batch_scan.load(Ordering::Relaxed) {
            match self.batch_scan(&start_key, &end_key, limit).await {
                Err(PdError::Unimplemented(_)) => self.no_batch_scan.store(true, Ordering::Relaxed),
                regions => return regions,
            }
        }
        let response: pdpb::ScanRegionsResponse = self
            .call("regions", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::ScanRegionsRequest {
                    header: self.header(),
                    start_key: start_key.clone().into(),
                    limit,
                    end_key: end_key.clone().into(),
                };
                async move { stub.scan_regions(request).await }
            })
            .await?;
        own(response.regions)
    }

    async fn batch_scan(
        &self,
        start: &[u8],
        end: &[u8],
        limit: i32,
    ) -> Result<Vec<Region>, PdError> {
        let response: pdpb::BatchScanRegionsResponse = self
            .call("regions", METADATA_DEADLINE, |mut stub| {
                let range = pdpb::KeyRange {
                    start_key: start.to_vec().into(),
                    end_key: end.to_vec().into(),
                };
                let request = pdpb::BatchScanRegionsRequest {
                    header: self.header(),
                    need_buckets: false,
                    ranges: vec![range],
                    limit,
                    // Holes are looked for here, whichever call answered.
                    contain_all_key_range: false,
                };
                async move { stub.batch_scan_regions(request).await }
            })
            .await?;
        own(response.regions)
    }

    /// The region with this id; `None` if PD knows none. May be without a leader.
    pub async fn region_by_id(&self, region_id: u64) -> Result<Option<Region>> {
        let response = self
            .call("region", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::GetRegionByIdRequest {
                    header: self.header(),
                    region_id,
                    need_buckets: false,
                };
                async move { stub.get_region_by_id(request).await }
            })
            .await;
        let response: pdpb::GetRegionResponse = match response {
            Err(PdError::Refused {
                kind: pdpb::ErrorType::RegionNotFound,
                ..
            }) => return Ok(None),
            response => response.map_err(|e| self.error(e))?,
        };
        if response.region.is_none() {
            return Ok(None);
        }
        let region = own(vec![pdpb::Region {
            region: response.region,
            leader: response.leader,
            down_peers: response.down_peers,
            pending_peers: response.pending_peers,
        }]);
        Ok(region.map_err(|e| self.error(e))?.pop())
    }
}

fn own(regions: Vec<pdpb::Region>) -> Result<Vec<Region>, PdError> {
    let convert = |region: pdpb::Region| {
        let id = region.region.as_ref().map_or(0, |r| r.id);
        Region::from_pd(region).ok_or(PdError::ForeignBorder(id))
    };
    regions.into_iter().map(convert).collect()
}

/// What is wrong with an answer, if anything.
fn flaw(regions: &[Region], range: &KeyRange, limit: usize) -> Option<String> {
    let (Some(first), Some(last)) = (regions.first(), regions.last()) else {
        return Some("PD knows no region of the range".to_owned());
    };
    if first.range.start > range.start {
        return Some(format!("no region before region {}", first.id));
    }
    for pair in regions.windows(2) {
        if pair[0].range.end != pair[1].range.start {
            return Some(format!(
                "a hole between regions {} and {}",
                pair[0].id, pair[1].id
            ));
        }
    }
    let complete =
        last.range.end.is_empty() || (!range.end.is_empty() && last.range.end >= range.end);
    if !complete && regions.len() < limit {
        return Some(format!("no region after region {}", last.id));
    }
    let leaderless = regions.iter().find(|r| r.leader.is_none())?;
    Some(format!("region {} has no leader", leaderless.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_proto::metapb;

    fn region(id: u64, start: &str, end: &str) -> Region {
        Region {
            id,
            epoch: metapb::RegionEpoch::default(),
            range: KeyRange::new(start, end),
            peers: Vec::new(),
            leader: Some(metapb::Peer::default()),
            pending: Vec::new(),
            down: Vec::new(),
        }
    }

    #[test]
    fn holes_short_answers_and_missing_leaders_are_flaws() {
        let whole = [region(1, "", "b"), region(2, "b", "d"), region(3, "d", "")];
        let range = KeyRange::new("a", "c");
        assert_eq!(flaw(&whole[..2], &range, 100), None);
        assert_eq!(flaw(&whole[..1], &range, 1), None, "cut by the limit");
        assert!(flaw(&whole[..1], &range, 100).is_some(), "no end");
        assert!(flaw(&whole[1..], &range, 100).is_some(), "no start");
        assert!(flaw(&[], &range, 100).is_some());
        let hole = [whole[0].clone(), whole[2].clone()];
        assert!(flaw(&hole, &range, 100).is_some());
        let mut leaderless = whole.clone();
        leaderless[1].leader = None;
        assert_eq!(
            flaw(&leaderless, &range, 100),
            Some("region 2 has no leader".to_owned())
        );
        assert_eq!(flaw(&whole, &KeyRange::new("a", ""), 100), None);
        assert!(flaw(&whole[..2], &KeyRange::new("a", ""), 100).is_some());
    }
}
