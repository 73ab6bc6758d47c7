//! Uploading: one file for all peers of a region. Stores check nothing but a CRC, and a store that does
//! not know the region yet sweeps the file away, after which an ingest would stop it. Hence, in this order:
//!
//! 1. the region as PD has it now: the expected epoch, no peer that lags, no store that is away;
//! 2. the same bytes to every peer, learners included, each with a pace of its own;
//! 3. the region again, as in 1;
//! 4. the ingest, within minutes: TiKV sweeps every ten.
//!
//! 1 to 3 are done for each slice, 4 for all slices of the region that were sent by then.
//!
//! A peer that fails gets the bytes again under the same uuid, which no ingest named yet. After an ingest
//! the uuid is never sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use thunderhead_proto::import_sstpb::SstMeta;
use thunderhead_proto::kvrpcpb::ApiVersion;
use thunderhead_sst::SstContent;
use thunderhead_types::{Error, ErrorKind, KeyRange, Result, fail_point, next_key};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::built::{Built, BuiltFeed, Step};
use crate::gate::How;
use crate::importer::{Importer, Refusal, give_up_with, place};
use crate::ingest::{IngestStats, Outcome, RegionWork};
use crate::pairs::PairSource;
use crate::pd::status_text;
use crate::reaction::{Reaction, of_upload_status};
use crate::region::Region;
use crate::retry::{Pace, Patience};
use crate::wire::{upload_data, upload_meta, upload_stream};
use crate::write::{FINISH, STALL, Slice, WINDOW, WriteError};

/// Bytes of the file in one message.
const CHUNK_BYTES: u64 = 1 << 20;
/// Files are at most this large.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// What one ingest takes in: about what a region holds. For each region in flight this much is sent, one more file
/// waits and one is being built, which bounds the space that they take.
const INGEST_BYTES_MAX: u64 = 96 << 20;
/// Files do not wait longer than this for others to be ingested with them.
const GATHER_MAX: Duration = Duration::from_secs(60);

/// Where the slices of a piece come from.
pub(crate) struct Building {
    pub source: Arc<dyn PairSource>,
    /// Built for regions that changed, in order.
    pub carry: VecDeque<Built>,
}

/// Slices on every peer of a region that one ingest shall take in.
#[derive(Default)]
struct Gathered {
    built: Vec<Built>,
    /// All of them as one.
    slice: Option<Slice>,
    bytes: u64,
}

impl Gathered {
    fn add(&mut self, built: Built, slice: Slice) {
        self.bytes += built.files.size();
        self.built.push(built);
        match &mut self.slice {
            None => self.slice = Some(slice),
            Some(all) => {
                all.metas.extend(slice.metas);
                all.last = slice.last;
                all.tally.merge(&slice.tally);
                all.readable &= slice.readable;
            }
        }
    }

    /// Where what comes behind them starts.
    fn end(&self) -> Option<Vec<u8>> {
        self.slice.as_ref().map(|slice| next_key(&slice.last.key))
    }

    fn is_full(&self) -> bool {
        let waited = self.slice.as_ref().and_then(|slice| slice.uploaded);
        self.bytes >= INGEST_BYTES_MAX || waited.is_some_and(|at| at.elapsed() >= GATHER_MAX)
    }
}

/// One region's share of the work with files of our own.
struct Uploading<'a> {
    work: &'a RegionWork<'a>,
    building: &'a mut Building,
    feed: Option<BuiltFeed>,
    gathered: Gathered,
    /// All before it is ingested.
    reached: Vec<u8>,
}

impl Importer {
    /// Slice by slice as [`Importer::ingest_region`], with files of our own, several to an ingest. Sets `how` to
    /// `Write` when a file is not what it should be or has no room.
    pub(crate) async fn upload_region(
        &self,
        work: &RegionWork<'_>,
        building: &mut Building,
        stats: &mut IngestStats,
        patience: &mut Patience,
        how: &mut How,
    ) -> Result<Option<Vec<u8>>> {
        let end = (!work.bound.end.is_empty()).then(|| work.bound.end.clone());
        let mut at = Uploading {
            work,
            building,
            feed: None,
            gathered: Gathered::default(),
            reached: work.bound.start.clone(),
        };
        loop {
            let carried = at.building.carry.front();
            let uncounted = carried.map(|built| built.counts_from.clone());
            let mut break_off = None;
            let (why_write, ended) = match self.next_built(&mut at).await {
                Ok(Some(Step::Slice(built))) => {
                    match self.upload_slice(work.region, &built, *how).await {
                        Ok(slice) => {
                            stats.bytes += built.files.size();
                            at.gathered.add(*built, slice);
                        }
                        Err(WriteError::Refused(refusal)) => {
                            stats.retries += 1;
                            at.carry_on(Some(*built));
                            self.react(work.region, refusal, patience).await?;
                            return Ok(Some(at.reached));
                        }
                        Err(error @ WriteError::Unproved(_)) => break_off = Some(error),
                        Err(error) => return Err(error.into_error()),
                    }
                    if break_off.is_none() && !at.gathered.is_full() {
                        continue;
                    }
                    let ended = break_off.is_some();
                    (break_off, ended)
                }
                Ok(Some(Step::Starved)) => (None, false),
                Ok(None) => (None, true),
                Err(error @ (WriteError::Unproved(_) | WriteError::NoRoom)) => (Some(error), true),
                Err(error) => return Err(error.into_error()),
            };
            let lost = self.ingest_gathered(&mut at, stats, patience).await?;
            if let Some(why) = why_write {
                *how = self.write_instead(why, *how);
                // Parts of a slice that are ingested and not counted go again, with the part that would have counted.
                let carried = at.building.carry.drain(..).map(|built| built.counts_from);
                let from = carried.chain(uncounted).min();
                let from = from.filter(|from| *from < at.reached);
                return Ok(Some(from.unwrap_or(at.reached)));
            }
            if let Some(refusal) = lost {
                stats.retries += 1;
                stats.rewrites += 1;
                self.react(work.region, refusal, patience).await?;
                return Ok(Some(at.reached));
            }
            if ended {
                return Ok(end);
            }
        }
    }

    /// Has what was gathered taken in; what is lost of it is cut for the regions that are there then.
    async fn ingest_gathered(
        &self,
        at: &mut Uploading<'_>,
        stats: &mut IngestStats,
        patience: &mut Patience,
    ) -> Result<Option<Refusal>> {
        let Some(slice) = at.gathered.slice.take() else {
            return Ok(None);
        };
        match self.ingest_slice(at.work, &slice, stats, patience).await? {
            Outcome::Ingested => {
                patience.progress();
                stats.checksum.merge(&slice.tally);
                stats.ssts += slice.metas.len() as u64;
                stats.regions += 1;
                at.reached = next_key(&slice.last.key);
                at.gathered = Gathered::default();
                Ok(None)
            }
            Outcome::Lost(refusal) => {
                at.carry_on(None);
                Ok(Some(refusal))
            }
        }
    }

    /// Pairs go through `Write` from here on, or only those of this piece.
    fn write_instead(&self, why: WriteError, how: How) -> How {
        match why {
            WriteError::NoRoom => {
                let why = "no room for table files in the sort directory".to_owned();
                match how {
                    How::Upload { checked: true } => self.gate.refuse(why),
                    _ => self.gate.note(why),
                }
            }
            error => {
                let error = error.into_error();
                tracing::error!(%error, "a table file was not proved and is not sent");
                self.gate
                    .refuse(format!("a table file was not proved: {error}"));
            }
        }
        How::Write
    }

    /// The next slice for the region: what was built for another one first.
    async fn next_built(&self, at: &mut Uploading<'_>) -> Result<Option<Step>, WriteError> {
        let bound = at.work.bound;
        if let Some(built) = at.building.carry.pop_front() {
            let (end, space) = (bound.end.clone(), self.space.clone());
            let cut = tokio::task::spawn_blocking(move || built.cut(&end, &space)).await;
            let (head, tail) =
                cut.map_err(|e| Error::new(ErrorKind::Internal, "table file", e))??;
            if let Some(tail) = tail {
                at.building.carry.push_front(tail);
            }
            return Ok(head.map(|head| Step::Slice(Box::new(head))));
        }
        if at.feed.is_none() {
            let from = at.gathered.end().unwrap_or_else(|| at.reached.clone());
            if !bound.end.is_empty() && from >= bound.end {
                return Ok(None);
            }
            at.feed = Some(BuiltFeed::open(
                at.building.source.clone(),
                KeyRange::new(from, bound.end.clone()),
                at.work.commit_ts,
                at.work.slice_bytes.min(FILE_BYTES_MAX),
                self.space.clone(),
            ));
        }
        match &mut at.feed {
            Some(feed) => self.waits().pairs.during(feed.next()).await,
            None => Ok(None),
        }
    }

    async fn upload_slice(
        &self,
        region: &Region,
        built: &Built,
        how: How,
    ) -> Result<Slice, WriteError> {
        self.settled(region).await?;
        let uuid: [u8; 16] = rand::random();
        let began = Instant::now();
        // The default column family comes first: a value must be there before the record that names it.
        let mut files: Vec<_> = built.files.files().collect();
        files.reverse();
        let meta = |file: &thunderhead_sst::BuiltSst| SstMeta {
            uuid: uuid.to_vec().into(),
            range: Some(thunderhead_proto::import_sstpb::Range {
                start: file.meta_range().0.to_vec().into(),
                end: file.meta_range().1.to_vec().into(),
            }),
            crc32: file.crc32,
            length: file.size,
            cf_name: file.cf.name().to_owned(),
            region_id: region.id,
            region_epoch: Some(region.epoch),
            ..Default::default()
        };
        let mut metas: Vec<_> = files.iter().map(|file| meta(file)).collect();
        let uploads = region
            .peers
            .iter()
            .filter(|peer| !peer.is_witness)
            .flat_map(|peer| files.iter().zip(&metas).map(|one| (peer.store_id, one)))
            .map(|(store, (file, meta))| self.upload_file(region, store, meta, &file.content));
        self.waits().stores.during(try_join_all(uploads)).await?;
        self.settled(region).await?;
        if how == (How::Upload { checked: true }) {
            for meta in &mut metas {
                meta.set_api_version(ApiVersion::V2);
            }
        }
        fail_point("uploaded");
        Ok(Slice {
            metas,
            first: built.first(),
            last: built.last(),
            tally: built.tally,
            complete: false,
            uploaded: Some(began),
            readable: built.crcs.is_some(),
        })
    }

    /// Waits until PD has the region at its epoch with every peer up to date.
    pub(crate) async fn settled(&self, region: &Region) -> Result<(), WriteError> {
        let mut patience = Patience::new(self.options.retry);
        loop {
            let cause = match self.pd.region_by_id(region.id).await? {
                Some(now) if now.is_newer_than(region) => return Err(changed(region)),
                Some(now) if !now.same_epoch(region) => "PD lags behind",
                Some(now) if !now.down.is_empty() => "a store of the region is down",
                Some(now) if !now.pending.is_empty() => "a peer has not caught up",
                Some(_) => return Ok(()),
                // Merged away, as far as PD knows.
                None => return Err(changed(region)),
            };
            give_up_with(patience.wait(Pace::Short, cause).await, place(0, region))?;
        }
    }

    /// One file to one peer, again until it is there or the region changed.
    async fn upload_file(
        &self,
        region: &Region,
        store: u64,
        meta: &SstMeta,
        content: &SstContent,
    ) -> Result<(), WriteError> {
        let mut patience = Patience::new(self.options.retry);
        loop {
            let Some(channel) = self.stores.channel(store).await? else {
                return Err(WriteError::Refused(Refusal::unknown_store(store)));
            };
            let status = match self.upload_once(channel, store, meta, content).await? {
                Ok(()) => {
                    fail_point("upload");
                    return Ok(());
                }
                Err(status) => status,
            };
            let Some(reaction) = of_upload_status(&status) else {
                return Ok(());
            };
            let cause = status_text(&status);
            let pace = match reaction {
                Reaction::Fatal(_) => {
                    return Err(WriteError::Refused(Refusal {
                        reaction,
                        cause,
                        store,
                    }));
                }
                Reaction::Wait(asked) => Pace::Busy(asked),
                _ => Pace::Short,
            };
            if status.message().contains("FileCorrupted") {
                let content = content.clone();
                let crc32 = tokio::task::spawn_blocking(move || content.crc32()).await;
                let crc32 = crc32.map_err(|e| Error::new(ErrorKind::Internal, "table file", e))?;
                unchanged_since_proved(crc32.map_err(Error::from), meta.crc32)?;
            }
            if status.code() == Code::Unavailable {
                // Perhaps the store came back at another address.
                self.stores.forget(store);
            }
            give_up_with(patience.wait(pace, &cause).await, place(store, region))?;
            if let Some(now) = self.pd.region_by_id(region.id).await?
                && now.is_newer_than(region)
            {
                return Err(changed(region));
            }
        }
    }

    async fn upload_once(
        &self,
        channel: Channel,
        store: u64,
        meta: &SstMeta,
        content: &SstContent,
    ) -> Result<Result<(), Status>> {
        let (to, messages) = mpsc::channel(WINDOW);
        // The channel is new and has room for the first message.
        let _ = to.try_send(upload_meta(meta.clone()));
        let reply = upload_stream(channel, ReceiverStream::new(messages));
        tokio::pin!(reply);
        let feed = async {
            let mut at = 0;
            while at < meta.length {
                let len = (meta.length - at).min(CHUNK_BYTES);
                let file = content.clone();
                let read = move || file.read(at, len as usize).map(|bytes| upload_data(&bytes));
                let message = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|e| Error::new(ErrorKind::Internal, "table file", e))??;
                let limit = self.limits.take(store, message.len());
                self.waits().limit.during(limit).await;
                match timeout(STALL, to.send(message)).await {
                    Ok(Ok(())) => at += len,
                    // The stream ended: its reply says why.
                    Ok(Err(_)) => return Ok(true),
                    Err(_) => return Ok(false),
                }
            }
            drop(to);
            Ok::<bool, Error>(true)
        };
        let stalled = || Status::deadline_exceeded("the store took too long");
        tokio::select! {
            reply = &mut reply => return Ok(reply),
            fed = feed => if !fed? {
                return Ok(Err(stalled()));
            },
        }
        Ok(timeout(FINISH, reply)
            .await
            .unwrap_or_else(|_| Err(stalled())))
    }
}

/// Whether it was damaged on the way, or lies on our disk otherwise than when it was proved.
fn unchanged_since_proved(crc32: Result<u32>, proved: u32) -> Result<(), WriteError> {
    match crc32 {
        Ok(crc32) if crc32 == proved => Ok(()),
        Ok(_) => {
            let cause = "a file changed on the disk after it was proved";
            Err(WriteError::Unproved(
                Error::new(ErrorKind::Internal, "table file", cause)
                    .advice("check the disk of the sort directory"),
            ))
        }
        Err(error) => Err(WriteError::Unproved(error)),
    }
}

impl Uploading<'_> {
    /// What was built and not ingested waits for the regions that are there now, in order.
    fn carry_on(&mut self, last: Option<Built>) {
        let gathered = std::mem::take(&mut self.gathered);
        for built in gathered.built.into_iter().chain(last).rev() {
            self.building.carry.push_front(built);
        }
    }
}

fn changed(region: &Region) -> WriteError {
    WriteError::Refused(Refusal {
        reaction: Reaction::Rescan(Vec::new()),
        cause: format!("region {} changed", region.id),
        store: 0,
    })
}
