//! Getting rid of files that no ingest will take in: those of attempts that were broken off. TiKV has no
//! call that deletes them, and its sweep leaves them alone while their region keeps its epoch. So their
//! region gets another epoch, by a split. From then on an ingest that names them is refused, whoever sends
//! it, and the next sweep of each store deletes them, within ten minutes by default. PD merges what
//! the split left small.

use std::time::Duration;

use thunderhead_types::{KeyRange, Result};

use crate::importer::Importer;
use crate::region::Region;

/// For all ranges of one call.
const PATIENCE: Duration = Duration::from_secs(60);
/// Regions of so few keys that none of the tried ones lies inside hold no file worth it.
const TRIES: usize = 8;

impl Importer {
    /// Gives every region of `ranges` another epoch. Also works after a cancel; ingests that run meanwhile
    /// find their region changed. Returns how many ranges are left to do.
    pub async fn retire_files(&self, ranges: &[KeyRange]) -> usize {
        let mut left = ranges.len();
        let all = async {
            for range in ranges {
                match self.retire(range).await {
                    Ok(()) => left -= 1,
                    Err(error) => {
                        tracing::warn!(%error, "files of broken-off attempts stay until their region changes");
                    }
                }
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("no more time to remove files of broken-off attempts");
        }
        left
    }

    async fn retire(&self, range: &KeyRange) -> Result<()> {
        // What the cache knows may be older than the files.
        let regions = self.regions.scan(range).await?;
        let keys: Vec<_> = regions
            .iter()
            .filter_map(|region| split_key(region, range))
            .collect();
        self.split_only(&keys).await
    }

    /// Whether files sent to `region` may still lie with its stores, as far as PD knows.
    pub(crate) async fn keeps_epoch(&self, region: &Region) -> bool {
        match self.pd.region_by_id(region.id).await {
            Ok(Some(now)) => !now.is_newer_than(region),
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// A key inside of the region: a border of `range` where that is one, because nothing of ours crosses it.
fn split_key(region: &Region, range: &KeyRange) -> Option<Vec<u8>> {
    let inside = |key: &[u8]| key > &region.range.start[..] && region.range.contains(key);
    for border in [&range.start, &range.end] {
        if !border.is_empty() && inside(border) {
            return Some(border.clone());
        }
    }
    let tried = (0..TRIES).map(|zeros| {
        let mut key = region.range.start.clone();
        key.resize(key.len() + zeros, 0);
        key.push(0x80);
        key
    });
    tried.into_iter().find(|key| inside(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_proto::metapb::RegionEpoch;

    fn key_for(start: &str, end: &[u8], range: (&str, &str)) -> Option<Vec<u8>> {
        let region = Region {
            id: 1,
            epoch: RegionEpoch::default(),
            range: KeyRange::new(start, end),
            peers: Vec::new(),
            leader: None,
            pending: Vec::new(),
            down: Vec::new(),
        };
        split_key(&region, &KeyRange::new(range.0, range.1))
    }

    #[test]
    fn a_region_is_split_at_a_border_of_the_range_or_else_near_its_start() {
        assert_eq!(key_for("a", b"z", ("f", "g")), Some(b"f".to_vec()));
        assert_eq!(key_for("f", b"z", ("f", "g")), Some(b"g".to_vec()));
        assert_eq!(key_for("", b"", ("f", "")), Some(b"f".to_vec()));
        assert_eq!(key_for("f", b"g", ("f", "g")), Some(b"f\x80".to_vec()));
        assert_eq!(key_for("g", b"h", ("f", "i")), Some(b"g\x80".to_vec()));
        // The region that such a split leaves can be split again.
        assert_eq!(
            key_for("f", b"f\x80", ("f", "g")),
            Some(b"f\0\x80".to_vec())
        );
        assert_eq!(key_for("f", b"f\0", ("f", "g")), None);
    }
}
