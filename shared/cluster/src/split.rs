//! Making regions before data arrives: splitting at given keys and spreading the new regions over
//! stores. Splits go straight to the region's leader; a coarse level first, so that the fine splits
//! already run on several stores at once.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use thunderhead_proto::kvrpcpb::SplitRegionRequest;
use thunderhead_proto::metapb;
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_types::Result;
use tokio::time::Instant;

use crate::importer::Importer;
use crate::pd::ScatterStats;
use crate::reaction::Reaction;
use crate::region::Region;
use crate::retry::Patience;

/// One raft entry carries the keys of one request and must stay below 8 MiB.
const KEYS_MAX: usize = 2048;
const KEY_BYTES_MAX: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(30);
/// Every so many keys, one goes into the coarse level.
const COARSE: usize = 64;
/// Regions split at the same time.
const IN_FLIGHT: usize = 8;
/// How long the peers of a new region may take to appear. Writes wait for them anyway.
const PEERS_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// What splitting did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitStats {
    /// Regions that are new.
    pub new_regions: usize,
    /// Keys that were region borders before.
    pub known_borders: usize,
    /// Regions that did not get to where PD wanted them in time; costs speed, nothing else.
    pub not_scattered: usize,
}

impl Importer {
    /// Makes every key in `keys` (raw, ascending) the border of a region and spreads the new regions.
    /// Can be done again: keys that are borders already are skipped.
    pub async fn split_and_scatter(&self, keys: &[Vec<u8>]) -> Result<SplitStats> {
        self.until_cancelled(async {
            let mut stats = SplitStats::default();
            if keys.len() > 2 * COARSE {
                let coarse: Vec<Vec<u8>> = keys.iter().step_by(COARSE).cloned().collect();
                self.split_level(&coarse, &mut stats).await?;
                // They were counted as new just now, and will be met again as borders.
                let again = coarse.len();
                self.split_level(keys, &mut stats).await?;
                stats.known_borders = stats.known_borders.saturating_sub(again);
            } else {
                self.split_level(keys, &mut stats).await?;
            }
            Ok(stats)
        })
        .await
    }

    async fn split_level(&self, keys: &[Vec<u8>], stats: &mut SplitStats) -> Result<()> {
        // Owned parts: with borrowed ones the future is not general enough to be boxed as `Send`.
        let parts: Vec<Vec<Vec<u8>>> = self
            .by_region(keys)
            .await?
            .into_iter()
            .map(<[_]>::to_vec)
            .collect();
        let done: Vec<(Vec<u64>, usize)> = stream::iter(parts)
            .map(|part| async move { self.split_part(&part).await })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        let mut new = Vec::new();
        for (ids, borders) in done {
            new.extend(ids);
            stats.known_borders += borders;
        }
        stats.new_regions += new.len();
        // A table that was created a moment ago has regions that some stores do not know yet: a Write that
        // one peer refuses leaves its file with the others, and no request deletes it.
        let mut young = new.clone();
        for key in keys {
            let region = self.regions.locate(key).await?;
            if !region.pending.is_empty() {
                young.push(region.id);
            }
        }
        young.sort_unstable();
        young.dedup();
        self.wait_for_peers(&young).await?;
        if new.is_empty() {
            return Ok(());
        }
        stats.not_scattered += self.scatter_new(&new).await?.left;
        Ok(())
    }

    /// Makes every key in `keys` (raw, ascending) the border of a region, and leaves the regions where they are.
    pub(crate) async fn split_only(&self, keys: &[Vec<u8>]) -> Result<()> {
        self.split_part(keys).await.map(drop)
    }

    /// The keys, grouped by the region that holds them now. Only decides what runs side by side.
    async fn by_region<'k>(&self, keys: &'k [Vec<u8>]) -> Result<Vec<&'k [Vec<u8>]>> {
        let mut parts = Vec::new();
        let mut rest = keys;
        while let Some(first) = rest.first() {
            let region = self.regions.locate(first).await?;
            let count = rest
                .iter()
                .take_while(|key| region.range.contains(key))
                .count()
                .max(1);
            let (part, after) = rest.split_at(count);
            parts.push(part);
            rest = after;
        }
        Ok(parts)
    }

    /// Splits at every key, in order. Ids of new regions, and how many keys were borders.
    async fn split_part(&self, keys: &[Vec<u8>]) -> Result<(Vec<u64>, usize)> {
        let (mut new, mut borders) = (Vec::new(), 0);
        let mut patience = Patience::new(self.options.retry);
        let mut rest = keys;
        let mut keys_max = KEYS_MAX;
        while let Some(first) = rest.first() {
            let region = self.regions.locate(first).await?;
            if region.range.start == *first {
                borders += 1;
                rest = &rest[1..];
                continue;
            }
            let batch = next_batch(rest, &region, keys_max);
            match self.send_split(&region, batch).await? {
                Ok(regions) => {
                    patience.progress();
                    new.extend(regions.iter().map(|r| r.id).filter(|id| *id != region.id));
                    self.regions.replace(&region, regions);
                    rest = &rest[batch.len()..];
                }
                Err(refusal) => {
                    if refusal.reaction == Reaction::Smaller {
                        keys_max = (batch.len() / 2).max(1);
                    }
                    self.react(&region, refusal, &mut patience).await?;
                }
            }
        }
        Ok((new, borders))
    }

    async fn send_split(
        &self,
        region: &Region,
        keys: &[Vec<u8>],
    ) -> Result<Result<Vec<metapb::Region>, crate::importer::Refusal>> {
        self.ask_leader(region, DEADLINE, |target| async move {
            let request = SplitRegionRequest {
                context: Some(target.context),
                split_keys: keys.iter().map(|key| key.clone().into()).collect(),
                ..Default::default()
            };
            let reply = TikvClient::new(target.channel)
                .split_region(request)
                .await?
                .into_inner();
            Ok((reply.region_error, reply.regions))
        })
        .await
    }

    /// Waits until PD knows the regions and their peers have caught up, for a bounded time.
    async fn wait_for_peers(&self, regions: &[u64]) -> Result<()> {
        let until = Instant::now() + PEERS_PATIENCE;
        let mut waiting = regions.to_vec();
        loop {
            let mut still = Vec::new();
            for id in waiting {
                match self.pd.region_by_id(id).await? {
                    Some(region) if region.pending.is_empty() && region.leader.is_some() => {
                        self.regions.put(region);
                    }
                    _ => still.push(id),
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                tracing::warn!(
                    regions = still.len(),
                    "new regions still wait for their peers"
                );
                return Ok(());
            }
            waiting = still;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn scatter_new(&self, regions: &[u64]) -> Result<ScatterStats> {
        // Regions of one call are balanced among themselves; the group's name only has to be its own.
        let group = format!(
            "thunderhead-{}",
            regions.first().copied().unwrap_or_default()
        );
        let stats = self
            .pd
            .scatter(regions, &group, self.options.scatter_patience)
            .await?;
        if stats.left > 0 {
            tracing::warn!(
                left = stats.left,
                of = stats.regions,
                "regions were not scattered in time"
            );
        }
        Ok(stats)
    }
}

/// As many of the keys as the region holds and one request may carry; at least one.
fn next_batch<'k>(keys: &'k [Vec<u8>], region: &Region, keys_max: usize) -> &'k [Vec<u8>] {
    let mut bytes = 0;
    let count = keys
        .iter()
        .take(keys_max)
        .take_while(|key| {
            bytes += key.len();
            region.range.contains(key) && bytes <= KEY_BYTES_MAX
        })
        .count();
    &keys[..count.max(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_types::KeyRange;

    fn region(start: &str, end: &str) -> Region {
        Region {
            id: 1,
            epoch: metapb::RegionEpoch::default(),
            range: KeyRange::new(start, end),
            peers: Vec::new(),
            leader: None,
            pending: Vec::new(),
            down: Vec::new(),
        }
    }

    #[test]
    fn a_request_stops_at_the_border_at_its_count_and_at_its_bytes() {
        let keys: Vec<Vec<u8>> = (0..10u8).map(|i| vec![b'a' + i]).collect();
        assert_eq!(next_batch(&keys, &region("", "d"), 100).len(), 3);
        assert_eq!(next_batch(&keys, &region("", ""), 4).len(), 4);
        assert_eq!(next_batch(&keys, &region("", ""), 100).len(), 10);
        let large: Vec<Vec<u8>> = (0..5u8).map(|i| vec![i; 1_500_000]).collect();
        assert_eq!(next_batch(&large, &region("", ""), 100).len(), 2);
        let huge = vec![vec![1; 5 << 20]];
        assert_eq!(next_batch(&huge, &region("", ""), 100).len(), 1);
    }
}
