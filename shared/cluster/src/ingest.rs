//! Bringing the sorted pairs of a key range into the cluster.
//!
//! The range is cut by regions; pieces run side by side, each as a loop of *slices*:
//!
//! 1. *write*: the next pairs go to all peers of the region, which build SSTs under one fresh uuid; or
//!    *upload*: SSTs that were built here once go to all of them (`upload.rs`); which, `gate.rs` says;
//! 2. *ingest*: the region's leader is told to take those SSTs in, through one raft entry.
//!
//! SSTs stay usable while the region's epoch stays, whoever leads. So a lost leader, a busy store or
//! a lost reply only repeats step 2 with the same files; a changed epoch throws the slice away and
//! starts it again from its first key, whatever regions are there now. Writing the same pairs twice
//! is harmless: the commit timestamp is the same, so are the engine keys and values. A uuid that an
//! ingest named is never written again: a follower that lags still owns the old file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use thunderhead_proto::import_sstpb;
use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_proto::import_sstpb::{IngestRequest, MultiIngestRequest};
use thunderhead_types::{
    Checksum, Error, ErrorKind, KeyRange, Result, Timestamp, crc64, fail_point, next_key,
};

use crate::feed::{Feed, Mark};
use crate::gate::How;
use crate::importer::{Importer, Refusal, give_up_with, place};
use crate::pairs::PairSource;
use crate::reaction::Reaction;
use crate::region::Region;
use crate::retry::{Pace, Patience};
use crate::upload::Building;
use crate::wire::Stamp;
use crate::write::{Slice, WriteError};

/// What an ingest did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// Tally of the pairs that are now in the cluster, each counted once.
    pub checksum: Checksum,
    /// SSTs taken in.
    pub ssts: u64,
    /// Regions they went to; a region that took several slices counts for each.
    pub regions: u64,
    /// Bytes of keys and values sent to each peer, rewrites included.
    pub bytes: u64,
    /// Requests sent again and slices written again.
    pub retries: u64,
    /// Slices written again because their files had become useless.
    pub rewrites: u64,
    /// Slices given up of which files may still lie with stores: their region has the epoch they are for.
    pub strays: u64,
}

impl IngestStats {
    /// Adds what another range's ingest did.
    pub fn merge(&mut self, other: &IngestStats) {
        self.checksum.merge(&other.checksum);
        self.ssts += other.ssts;
        self.regions += other.regions;
        self.bytes += other.bytes;
        self.retries += other.retries;
        self.rewrites += other.rewrites;
        self.strays += other.strays;
    }
}

/// What became of a slice's files.
pub(crate) enum Outcome {
    Ingested,
    /// The files are useless: write the slice again.
    Lost(Refusal),
}

impl Importer {
    /// Brings the pairs of `source` in `range` into the cluster, committed at `commit_ts`. Can be done
    /// again, wholly or partly, with the same pairs and the same timestamp.
    pub async fn ingest_range(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
    ) -> Result<IngestStats> {
        self.until_cancelled(self.ingest_by_gate(range, commit_ts, source))
            .await
    }

    /// As [`Importer::ingest_range`], into a range that holds other pairs already.
    pub async fn ingest_among(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
    ) -> Result<IngestStats> {
        self.until_cancelled(self.ingest_pieces(range, commit_ts, source, How::Write))
            .await
    }

    /// Deletes the keys of the pairs of `source` in `range`, as of `commit_ts`. Can be done again. The tally is
    /// that of the pairs.
    pub async fn delete_range(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
    ) -> Result<IngestStats> {
        self.until_cancelled(self.ingest_pieces(range, commit_ts, source, How::Delete))
            .await
    }

    async fn ingest_by_gate(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
    ) -> Result<IngestStats> {
        let mut stats = IngestStats::default();
        let (how, rest) = self.decide(range, commit_ts, &source, &mut stats).await?;
        stats.merge(&self.ingest_pieces(&rest, commit_ts, source, how).await?);
        Ok(stats)
    }

    pub(crate) async fn ingest_pieces(
        &self,
        range: &KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
        how: How,
    ) -> Result<IngestStats> {
        if !range.end.is_empty() && range.start >= range.end {
            return Ok(IngestStats::default());
        }
        let slice_bytes = self.slice_bytes().await;
        let regions = self.regions.scan(range).await?;
        // Regions may change while pieces wait for their turn; a piece is only a hint for running
        // side by side and finds its regions itself.
        let pieces = regions
            .into_iter()
            .filter_map(|region| region.range.intersect(range));
        stream::iter(pieces)
            .map(|piece| self.ingest_piece(piece, commit_ts, source.clone(), slice_bytes, how))
            .buffer_unordered(self.options.regions_in_flight.max(1))
            .try_fold(IngestStats::default(), |mut all, one| async move {
                all.merge(&one);
                Ok(all)
            })
            .await
    }

    async fn ingest_piece(
        &self,
        piece: KeyRange,
        commit_ts: Timestamp,
        source: Arc<dyn PairSource>,
        slice_bytes: u64,
        mut how: How,
    ) -> Result<IngestStats> {
        let closed = |_| Error::new(ErrorKind::Internal, "", "the importer's slots are closed");
        let _slot = self.slots.acquire().await.map_err(closed)?;
        let mut stats = IngestStats::default();
        let mut patience = Patience::new(self.options.retry);
        let mut rest = Some(piece);
        let mut building = Building {
            source: source.clone(),
            carry: VecDeque::new(),
        };
        let mut left_early = Vec::new();
        while let Some(range) = rest {
            let region = self.regions.locate(&range.start).await?;
            let bound = region.range.intersect(&range).ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    place(0, &region),
                    "looked up a key that it does not hold",
                )
            })?;
            let work = RegionWork {
                region: &region,
                bound: &bound,
                commit_ts,
                slice_bytes,
            };
            let reached = match how {
                How::Write | How::Delete => {
                    let stamp = Stamp {
                        commit_ts,
                        deletes: how == How::Delete,
                    };
                    let feed = Feed::open(source.clone(), bound.clone(), stamp);
                    self.ingest_region(work, feed, &mut stats, &mut patience)
                        .await?
                }
                How::Upload { .. } => {
                    self.upload_region(&work, &mut building, &mut stats, &mut patience, &mut how)
                        .await?
                }
            };
            if reached.as_ref().is_some_and(|key| *key != bound.end) {
                left_early.push(region.clone());
            }
            rest = remaining(&range, reached);
        }
        for region in left_early {
            stats.strays += u64::from(self.keeps_epoch(&region).await);
        }
        Ok(stats)
    }

    /// Slice by slice until the bound is reached or the region changed. Gives back up to where all is
    /// done: a key that is the first not done, or `None` for the end of everything.
    async fn ingest_region(
        &self,
        work: RegionWork<'_>,
        mut feed: Feed,
        stats: &mut IngestStats,
        patience: &mut Patience,
    ) -> Result<Option<Vec<u8>>> {
        let end = (!work.bound.end.is_empty()).then(|| work.bound.end.clone());
        let mut reached = work.bound.start.clone();
        loop {
            let written = self.write_slice(work.region, work.bound, &mut feed, work.slice_bytes);
            let slice = match written.await {
                Ok(Some(slice)) => slice,
                Ok(None) => return Ok(end),
                Err(WriteError::Refused(refusal)) => {
                    stats.retries += 1;
                    self.react(work.region, refusal, patience).await?;
                    return Ok(Some(reached));
                }
                Err(error) => return Err(error.into_error()),
            };
            stats.bytes += slice.tally.bytes;
            match self.ingest_slice(&work, &slice, stats, patience).await? {
                Outcome::Ingested => patience.progress(),
                Outcome::Lost(refusal) => {
                    stats.retries += 1;
                    stats.rewrites += 1;
                    self.react(work.region, refusal, patience).await?;
                    return Ok(Some(reached));
                }
            }
            stats.checksum.merge(&slice.tally);
            stats.ssts += slice.metas.len() as u64;
            stats.regions += 1;
            if slice.complete {
                return Ok(end);
            }
            reached = next_key(&slice.last.key);
        }
    }

    /// Has the leader take the slice's files in, asking again for as long as they are usable.
    pub(crate) async fn ingest_slice(
        &self,
        work: &RegionWork<'_>,
        slice: &Slice,
        stats: &mut IngestStats,
        patience: &mut Patience,
    ) -> Result<Outcome> {
        let mut region = work.region.clone();
        // An ingest whose outcome nobody told: only then can "the files are gone" mean that they were taken in.
        let mut untold = false;
        loop {
            if let Some(refusal) = self.too_old(&region, slice).await? {
                return Ok(Outcome::Lost(refusal));
            }
            let single = self.single_ingest.load(Ordering::Relaxed);
            let sent = self.send_ingest(&region, &slice.metas, single);
            let refusal = match self.waits().stores.during(sent).await? {
                Ok(()) => {
                    fail_point("ingest-acknowledged");
                    return Ok(Outcome::Ingested);
                }
                Err(refusal) => refusal,
            };
            untold |= refusal.reaction == Reaction::Unknown;
            match &refusal.reaction {
                Reaction::Unsupported if !single => {
                    self.single_ingest.store(true, Ordering::Relaxed);
                }
                Reaction::Verify if untold && self.is_present(slice, work.commit_ts).await? => {
                    return Ok(Outcome::Ingested);
                }
                Reaction::Verify | Reaction::Rescan(_) => return Ok(Outcome::Lost(refusal)),
                Reaction::NewLeader(leader) if region.peers.iter().any(|p| p.id == leader.id) => {
                    region.leader = Some(*leader);
                    self.regions.set_leader(&region, *leader);
                    stats.retries += 1;
                    let waited = patience.wait(Pace::Now, &refusal.cause).await;
                    give_up_with(waited, place(refusal.store, &region))?;
                }
                Reaction::NewLeader(_)
                | Reaction::FindLeader
                | Reaction::Unknown
                | Reaction::FindStore => {
                    stats.retries += 1;
                    if let Some(lost) = self.find_leader(&mut region, refusal, patience).await? {
                        return Ok(Outcome::Lost(lost));
                    }
                }
                Reaction::Wait(_)
                | Reaction::Smaller
                | Reaction::Unsupported
                | Reaction::Fatal(_) => {
                    stats.retries += 1;
                    self.react(&region, refusal, patience).await?;
                }
            }
        }
    }

    /// Why the slice's files cannot be relied on any more, if they are that old.
    async fn too_old(&self, region: &Region, slice: &Slice) -> Result<Option<Refusal>> {
        let age = slice.uploaded.map_or(Duration::ZERO, |at| at.elapsed());
        match Age::of(age, self.options.upload_age_max) {
            Age::Fresh => Ok(None),
            Age::Expired => Ok(Some(Refusal {
                reaction: Reaction::Rescan(Vec::new()),
                cause: format!("files for region {} waited for {age:?}", region.id),
                store: 0,
            })),
            Age::Doubtful => match self.settled(region).await {
                Ok(()) => Ok(None),
                Err(WriteError::Refused(refusal)) => Ok(Some(refusal)),
                Err(error) => Err(error.into_error()),
            },
        }
    }

    /// Waits, then asks PD who leads now. A refusal comes back if the region changed instead.
    async fn find_leader(
        &self,
        region: &mut Region,
        refusal: Refusal,
        patience: &mut Patience,
    ) -> Result<Option<Refusal>> {
        if refusal.reaction == Reaction::FindStore {
            self.stores.forget(refusal.store);
        }
        let waited = patience.wait(Pace::Short, &refusal.cause).await;
        give_up_with(waited, place(refusal.store, region))?;
        let Some(now) = self.pd.region_by_id(region.id).await? else {
            return Ok(None);
        };
        // PD may also lag behind what we know; only a later epoch makes the files useless.
        if now.is_newer_than(region) {
            let lost = Refusal {
                reaction: Reaction::Rescan(Vec::new()),
                ..refusal
            };
            return Ok(Some(lost));
        }
        if now.same_epoch(region)
            && let Some(leader) = now.leader
        {
            region.leader = Some(leader);
            self.regions.set_leader(region, leader);
        }
        Ok(None)
    }

    pub(crate) async fn send_ingest(
        &self,
        region: &Region,
        metas: &[import_sstpb::SstMeta],
        single: bool,
    ) -> Result<Result<(), Refusal>> {
        if self
            .options
            .pulse
            .as_ref()
            .is_some_and(|pulse| !pulse.is_steady())
        {
            let cause = "the process was suspended; the work may be someone else's now";
            return Err(Error::new(ErrorKind::Cancelled, "ingest", cause));
        }
        if !single {
            return self
                .ask_leader(region, self.options.ingest_deadline, |target| async move {
                    let request = MultiIngestRequest {
                        context: Some(target.context),
                        ssts: metas.to_vec(),
                    };
                    let reply = ImportSstClient::new(target.channel)
                        .multi_ingest(request)
                        .await?;
                    fail_point("ingest-sent");
                    Ok((reply.into_inner().error, ()))
                })
                .await;
        }
        // The default column family comes first: a value must be there before the record that names it.
        for meta in metas {
            let one = self
                .ask_leader(region, self.options.ingest_deadline, |target| async move {
                    let request = IngestRequest {
                        context: Some(target.context),
                        sst: Some(meta.clone()),
                    };
                    let reply = ImportSstClient::new(target.channel).ingest(request).await?;
                    Ok((reply.into_inner().error, ()))
                })
                .await?;
            if let Err(refusal) = one {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(()))
    }

    /// Whether the slice's first and last pair are in the cluster, as we wrote them: all files of an
    /// ingest appear at once, so then everything between them is, too.
    async fn is_present(&self, slice: &Slice, commit_ts: Timestamp) -> Result<bool> {
        Ok(slice.readable
            && self.has(&slice.first, commit_ts).await?
            && self.has(&slice.last, commit_ts).await?)
    }

    async fn has(&self, mark: &Mark, commit_ts: Timestamp) -> Result<bool> {
        let Some(version) = self.get_uncancelled(&mark.key, commit_ts).await? else {
            return Ok(false);
        };
        let ours = version.commit_ts == commit_ts || version.commit_ts == 0;
        Ok(ours && crc64(&mark.key, &version.value) == mark.crc64)
    }
}

/// What uploaded files that have waited for their ingest are good for.
#[derive(Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Their region must be as it was when they were sent.
    Doubtful,
    /// A store may have swept them.
    Expired,
}

impl Age {
    fn of(age: Duration, max: Duration) -> Self {
        match age {
            age if age >= max => Age::Expired,
            age if age >= max / 2 => Age::Doubtful,
            _ => Age::Fresh,
        }
    }
}

/// One region's part of a piece.
pub(crate) struct RegionWork<'a> {
    pub region: &'a Region,
    pub bound: &'a KeyRange,
    pub commit_ts: Timestamp,
    pub slice_bytes: u64,
}

/// What is left of `range` when everything before `reached` is done (`None`: everything).
fn remaining(range: &KeyRange, reached: Option<Vec<u8>>) -> Option<KeyRange> {
    let start = reached?;
    (range.end.is_empty() || start < range.end).then(|| KeyRange::new(start, range.end.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_doubted_after_five_minutes_and_given_up_after_ten() {
        let max = crate::importer::ImporterOptions::default().upload_age_max;
        for (seconds, expected) in [
            (0, Age::Fresh),
            (299, Age::Fresh),
            (300, Age::Doubtful),
            (599, Age::Doubtful),
            (600, Age::Expired),
        ] {
            let age = Duration::from_secs(seconds);
            assert_eq!(Age::of(age, max), expected, "{seconds}");
        }
    }

    #[test]
    fn what_remains_starts_where_work_stopped() {
        let range = KeyRange::new("b", "f");
        assert_eq!(
            remaining(&range, Some(b"d".to_vec())),
            Some(KeyRange::new("d", "f"))
        );
        assert_eq!(remaining(&range, Some(b"f".to_vec())), None);
        assert_eq!(remaining(&range, None), None);
        let open = KeyRange::new("b", "");
        assert_eq!(
            remaining(&open, Some(b"d".to_vec())),
            Some(KeyRange::new("d", ""))
        );
        assert_eq!(remaining(&open, None), None);
    }
}
