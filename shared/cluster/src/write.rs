//! Writing one slice: the same messages to every peer of a region, each of which builds SSTs of its
//! own. All peers must have them before anything is ingested, learners included; a quorum is not
//! enough, because a replica that lacks a file when the entry is applied stops.

use std::time::Duration;

use bytes::Bytes;
use thunderhead_proto::{import_sstpb, metapb};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, fail_point};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::feed::{EncodedBatch, Feed, Mark};
use crate::importer::{Importer, Refusal};
use crate::limit::StoreLimits;
use crate::pd::status_text;
use crate::reaction::{self, Reaction};
use crate::region::{Region, encode_border};
use crate::waits::Waits;
use crate::wire::{meta_message, write_stream};

/// Messages under way to one peer; the slowest peer holds the others back after that many.
pub(crate) const WINDOW: usize = 4;
/// A store that takes no message for this long is treated as gone.
pub(crate) const STALL: Duration = Duration::from_secs(120);
/// Finishing writes files and syncs them.
pub(crate) const FINISH: Duration = Duration::from_secs(300);
/// Marks pairs as written by a physical import, for change feeds that must skip them.
pub(crate) const TXN_SOURCE: u64 = 1 << 16;

/// SSTs that are on every peer, ready to be ingested.
#[derive(Debug)]
pub(crate) struct Slice {
    pub metas: Vec<import_sstpb::SstMeta>,
    pub first: Mark,
    pub last: Mark,
    pub tally: Checksum,
    /// Nothing is left of the range.
    pub complete: bool,
    /// When uploading began, for files that we built: unlike those of `Write`, stores that do not know the
    /// region yet sweep them.
    pub uploaded: Option<Instant>,
    /// Whether the first and last pair are known well enough to look for them.
    pub readable: bool,
}

/// Why a slice could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// A store refused; a retry writes again under a fresh uuid.
    Refused(Refusal),
    /// The source failed, or the cluster is out of reach.
    Broken(Error),
    /// A file that we built is not what it should be; it was not sent.
    Unproved(Error),
    /// There is no room for a file of ours.
    NoRoom,
}

impl WriteError {
    /// As an error that nobody deals with in another way.
    pub fn into_error(self) -> Error {
        match self {
            WriteError::Broken(error) | WriteError::Unproved(error) => error,
            WriteError::Refused(refusal) => Error::new(ErrorKind::Cluster, "", refusal.cause),
            WriteError::NoRoom => Error::new(ErrorKind::Internal, "table file", "no room for it"),
        }
    }
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        WriteError::Broken(error)
    }
}

type PeerResult = Result<Vec<import_sstpb::SstMeta>, (u64, Status)>;

/// Streams to all peers of one region under one uuid.
struct PeerStreams {
    senders: Vec<(u64, mpsc::Sender<Bytes>)>,
    replies: JoinSet<PeerResult>,
}

impl Importer {
    /// Writes the next slice of `feed`, at most `slice_bytes` and one batch. `None` when nothing is left.
    pub(crate) async fn write_slice(
        &self,
        region: &Region,
        bound: &KeyRange,
        feed: &mut Feed,
        slice_bytes: u64,
    ) -> Result<Option<Slice>, WriteError> {
        let waits = self.waits();
        let Some(first) = waits.pairs.during(feed.next()).await? else {
            return Ok(None);
        };
        let mut streams = self.open_streams(region, bound, &first).await?;
        let first_mark = first.first.clone();
        let (mut tally, mut batch) = (Checksum::default(), first);
        let complete = loop {
            streams.send(&batch.message, &self.limits, waits).await?;
            fail_point("write");
            tally.merge(&batch.tally);
            if tally.bytes >= slice_bytes {
                break false;
            }
            match waits.pairs.during(feed.next()).await? {
                Some(next) => batch = next,
                None => break true,
            }
        };
        let last = batch.last;
        let finished = streams.finish(&first_mark, &last);
        let metas = waits.stores.during(finished).await?;
        fail_point("written");
        Ok(Some(Slice {
            metas,
            first: first_mark,
            last,
            tally,
            complete,
            uploaded: None,
            readable: true,
        }))
    }

    async fn open_streams(
        &self,
        region: &Region,
        bound: &KeyRange,
        first: &EncodedBatch,
    ) -> Result<PeerStreams, WriteError> {
        let uuid: [u8; 16] = rand::random();
        let meta = import_sstpb::SstMeta {
            uuid: uuid.to_vec().into(),
            // Replaced by the exact keys before the ingest; the last one is not known yet.
            range: Some(import_sstpb::Range {
                start: encode_border(&first.first.key).into(),
                end: encode_border(&bound.end).into(),
            }),
            region_id: region.id,
            region_epoch: Some(region.epoch),
            ..Default::default()
        };
        let mut context = self.context(region, None);
        context.txn_source = TXN_SOURCE;
        let message = meta_message(meta, context);
        let mut streams = PeerStreams {
            senders: Vec::new(),
            replies: JoinSet::new(),
        };
        for peer in region.peers.iter().filter(|peer| !peer.is_witness) {
            let Some(channel) = self.stores.channel(peer.store_id).await? else {
                return Err(WriteError::Refused(Refusal::unknown_store(peer.store_id)));
            };
            streams.open(peer, channel, message.clone());
        }
        Ok(streams)
    }
}

impl PeerStreams {
    fn open(&mut self, peer: &metapb::Peer, channel: tonic::transport::Channel, meta: Bytes) {
        let (to, messages) = mpsc::channel(WINDOW);
        // The channel is new and has room for the first message.
        let _ = to.try_send(meta);
        let store = peer.store_id;
        self.senders.push((store, to));
        self.replies.spawn(async move {
            let reply = write_stream(channel, ReceiverStream::new(messages)).await;
            let reply = reply.and_then(|reply| match reply.error {
                Some(error) => Err(Status::unknown(error.message)),
                None => Ok(reply.metas),
            });
            reply.map_err(|status| (store, status))
        });
    }

    async fn send(
        &mut self,
        message: &Bytes,
        limits: &StoreLimits,
        waits: &Waits,
    ) -> Result<(), WriteError> {
        let mut stalled = None;
        let mut ended = false;
        for (store, to) in &self.senders {
            waits.limit.during(limits.take(*store, message.len())).await;
            let sent = timeout(STALL, to.send(message.clone()));
            match waits.stores.during(sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => ended = true,
                Err(_) => stalled = Some(*store),
            }
            if ended || stalled.is_some() {
                break;
            }
        }
        if let Some(store) = stalled {
            return Err(refused(
                store,
                Status::deadline_exceeded(format!("took no data for {STALL:?}")),
            ));
        }
        // A stream only ends by itself when the peer refused.
        if ended {
            return Err(self.first_refusal().await);
        }
        Ok(())
    }

    /// The reply that ended a stream. Dropping the others resets them, so that their stores do not
    /// finish files that nobody will ingest.
    async fn first_refusal(&mut self) -> WriteError {
        while let Some(reply) = self.replies.join_next().await {
            match reply {
                Ok(Err((store, status))) => return refused(store, status),
                // An early success cannot be: the peer has not seen the end of the stream.
                Ok(Ok(_)) => {}
                Err(error) => return refused(0, Status::internal(error.to_string())),
            }
        }
        refused(0, Status::internal("a stream ended without a reply"))
    }

    /// Ends all streams and waits for every peer. Their metas are equal, one set is enough.
    async fn finish(
        mut self,
        first: &Mark,
        last: &Mark,
    ) -> Result<Vec<import_sstpb::SstMeta>, WriteError> {
        self.senders.clear();
        let mut metas = Vec::new();
        let all = async {
            while let Some(reply) = self.replies.join_next().await {
                match reply {
                    Ok(Ok(written)) => metas = written,
                    Ok(Err((store, status))) => return Err(refused(store, status)),
                    Err(error) => return Err(refused(0, Status::internal(error.to_string()))),
                }
            }
            Ok(())
        };
        match timeout(FINISH, all).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(refused(
                    0,
                    Status::deadline_exceeded("a store did not finish its files"),
                ));
            }
        }
        for meta in &mut metas {
            meta.range = Some(import_sstpb::Range {
                start: encode_border(&first.key).into(),
                end: encode_border(&last.key).into(),
            });
        }
        if metas.is_empty() {
            return Err(refused(
                0,
                Status::internal("stores wrote no file for a slice with pairs"),
            ));
        }
        Ok(metas)
    }
}

fn refused(store: u64, status: Status) -> WriteError {
    let reaction = reaction::of_write_status(&status);
    if let Reaction::Rescan(_) = reaction {
        tracing::debug!(store, "the slice will be written again");
    }
    WriteError::Refused(Refusal {
        reaction,
        cause: status_text(&status),
        store,
    })
}
