//! Files for `Upload`, built once for all peers. Pairs are read, built and proved on a blocking thread,
//! one slice ahead. When regions changed, a built slice is cut at the new borders; no row is encoded again.
//! No slice is begun without room for it on disk.

use std::sync::Arc;

use thunderhead_codec::mem::decode_bytes;
use thunderhead_sst::{BuiltSlice, BuiltSst, PairsToSst, SliceOptions, SstOptions, SstSink, recut};
use thunderhead_types::{
    Checksum, Error, ErrorKind, KeyRange, Result, Tally, Timestamp, crc64, fail_point,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::feed::Mark;
use crate::pairs::{PairBatch, PairSource};
use crate::space::{Room, Space};
use crate::write::{TXN_SOURCE, WriteError};

/// Slices built before they are asked for, beside the one in the making.
const AHEAD: usize = 1;

/// A proved slice.
pub(crate) struct Built {
    pub files: BuiltSlice,
    /// CRC-64 of the first pair and the last; a part of a slice has none.
    pub crcs: Option<(u64, u64)>,
    /// Of all pairs; in the last part for those that were cut off before it, too.
    pub tally: Checksum,
    /// First key of the pairs that the tally is of, or in an earlier part will be.
    pub counts_from: Vec<u8>,
    /// Given back when the files are gone.
    _room: Room,
}

/// What a builder has to say.
pub(crate) enum Step {
    Slice(Box<Built>),
    /// There is no room for the next slice: it waits for files to go, perhaps those of whoever listens.
    Starved,
}

impl Built {
    pub fn first(&self) -> Mark {
        Mark {
            key: self.files.first_key.clone(),
            crc64: self.crcs.map_or(0, |crcs| crcs.0),
        }
    }

    pub fn last(&self) -> Mark {
        Mark {
            key: self.files.last_key.clone(),
            crc64: self.crcs.map_or(0, |crcs| crcs.1),
        }
    }

    /// What lies before `end`, and what does not; an empty `end` is none.
    pub fn cut(
        self,
        end: &[u8],
        space: &Arc<Space>,
    ) -> Result<(Option<Built>, Option<Built>), WriteError> {
        if end.is_empty() || &self.files.last_key[..] < end {
            return Ok((Some(self), None));
        }
        if &self.files.first_key[..] >= end {
            return Ok((None, Some(self)));
        }
        let part = |start: &[u8], end: &[u8], tally| -> Result<Option<Built>, WriteError> {
            let range = KeyRange::new(start, end);
            // Never waits: whoever cuts holds files itself.
            let room = space.room(self.files.size()).ok_or(WriteError::NoRoom)?;
            let one = |file: &BuiltSst| {
                let sink = match &space.dir {
                    Some(dir) => SstSink::File(dir.join(file_name())),
                    None => SstSink::Memory,
                };
                recut(file, &range, &SstOptions::default(), sink).map_err(Error::from)
            };
            let Some(write) = one(&self.files.write)? else {
                return Ok(None);
            };
            let default = self.files.default.as_ref().map(one).transpose()?.flatten();
            let files = BuiltSlice {
                first_key: user_key(write.meta_range().0)?,
                last_key: user_key(write.meta_range().1)?,
                pairs: write.entries,
                bytes: 0,
                write,
                default,
            };
            let mut built = proved(files, None, tally, &range, room)?;
            built.counts_from.clone_from(&self.counts_from);
            Ok(Some(built))
        };
        let head = part(&self.files.first_key, end, Checksum::default())?;
        let tail = part(end, &[], self.tally)?;
        Ok((head, tail))
    }
}

fn user_key(mut encoded: &[u8]) -> Result<Vec<u8>> {
    decode_bytes(&mut encoded)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "table file", "a key is not encoded"))
}

fn file_name() -> String {
    format!("{:032x}.sst", rand::random::<u128>())
}

/// Built slices of one key range, in order.
pub(crate) struct BuiltFeed {
    steps: mpsc::Receiver<Result<Step, WriteError>>,
    thread: Option<JoinHandle<()>>,
}

impl BuiltFeed {
    /// Starts to read `range`; slices end at `slice_bytes` of file.
    pub fn open(
        source: Arc<dyn PairSource>,
        range: KeyRange,
        commit_ts: Timestamp,
        slice_bytes: u64,
        space: Arc<Space>,
    ) -> Self {
        let (to, steps) = mpsc::channel(AHEAD);
        let thread = tokio::task::spawn_blocking(move || {
            let options = SliceOptions {
                txn_source: TXN_SOURCE,
                slice_bytes,
                dir: space.dir.clone(),
                ..SliceOptions::new(commit_ts)
            };
            let mut build = Build {
                room_bytes: room_bytes(slice_bytes),
                maker: PairsToSst::new(options, []),
                space,
                range: &range,
                to: &to,
                room: None,
                sums: Sums::default(),
            };
            if let Err(error) = build.read(&*source) {
                // Nobody listens any more: the reason does not matter.
                let _ = to.blocking_send(Err(error));
            }
        });
        Self {
            steps,
            thread: Some(thread),
        }
    }

    /// The next step; `None` at the end of the range.
    pub async fn next(&mut self) -> Result<Option<Step>, WriteError> {
        if let Some(step) = self.steps.recv().await {
            return step.map(Some);
        }
        // The channel also ends when the thread panicked: that must not look like the end of data.
        if let Some(thread) = self.thread.take()
            && let Err(error) = thread.await
        {
            return Err(Error::new(ErrorKind::Internal, "building table files", error).into());
        }
        Ok(None)
    }
}

/// What files that end at `slice_bytes` can come to, with filter, index and the last row.
fn room_bytes(slice_bytes: u64) -> u64 {
    slice_bytes + slice_bytes / 4 + (64 << 10)
}

/// What is known of the pairs of the slice in hand.
#[derive(Default)]
struct Sums {
    /// CRC-64 of the first pair and, at the ends of batches and slices, of the last.
    first: u64,
    last: u64,
    tally: Tally,
}

impl Sums {
    /// The slice or the batch ended behind `last`; without one it ended with the batch before.
    fn ended(&mut self, last: Option<(&[u8], &[u8])>) {
        if let Some((key, value)) = last {
            self.last = crc64(key, value);
        }
    }
}

/// The thread that builds.
struct Build<'a> {
    room_bytes: u64,
    maker: PairsToSst,
    space: Arc<Space>,
    range: &'a KeyRange,
    to: &'a mpsc::Sender<Result<Step, WriteError>>,
    /// For the slice in hand, and that it has begun.
    room: Option<Room>,
    sums: Sums,
}

impl Build<'_> {
    fn read(&mut self, source: &dyn PairSource) -> Result<(), WriteError> {
        let mut reader = source.open(self.range)?;
        let mut batch = PairBatch::default();
        while reader.next_batch(&mut batch)? {
            let mut previous = None;
            for (key, value) in batch.iter() {
                if !self.range.contains(key) {
                    let cause = "a key lies outside the range that was asked for";
                    return Err(Error::new(ErrorKind::Internal, "sorted pairs", cause).into());
                }
                if !self.add(key, value, previous)? {
                    return Ok(());
                }
                previous = Some((key, value));
            }
            self.sums.ended(previous);
        }
        let Some(files) = self.maker.end_slice().map_err(Error::from)? else {
            return Ok(());
        };
        self.hand_over(files).map(drop)
    }

    /// False when nobody listens any more. `previous` is the pair before in the batch.
    fn add(
        &mut self,
        key: &[u8],
        value: &[u8],
        previous: Option<(&[u8], &[u8])>,
    ) -> Result<bool, WriteError> {
        if self.maker.ends_before(key)
            && let Some(files) = self.maker.end_slice().map_err(Error::from)?
        {
            self.sums.ended(previous);
            if !self.hand_over(files)? {
                return Ok(false);
            }
        }
        if self.room.is_none() {
            self.room = Some(self.find_room()?);
            self.sums.first = crc64(key, value);
        }
        self.maker.add_to_slice(key, value).map_err(Error::from)?;
        self.sums.tally.add(key, value);
        Ok(true)
    }

    fn find_room(&self) -> Result<Room, WriteError> {
        if let Some(room) = self.space.room(self.room_bytes) {
            return Ok(room);
        }
        // Whoever listens may be the one who holds the room, until it is told.
        let told = self.to.blocking_send(Ok(Step::Starved)).is_ok();
        let wanted = || told && !self.to.is_closed();
        let room = self.space.wait_for_room(self.room_bytes, wanted);
        room.ok_or(WriteError::NoRoom)
    }

    fn hand_over(&mut self, files: BuiltSlice) -> Result<bool, WriteError> {
        let sums = std::mem::take(&mut self.sums);
        let room = self.room.take().ok_or(WriteError::NoRoom)?;
        let crcs = Some((sums.first, sums.last));
        let built = proved(files, crcs, sums.tally.sum(), self.range, room)?;
        let step = Step::Slice(Box::new(built));
        Ok(self.to.blocking_send(Ok(step)).is_ok())
    }
}

/// The files as a slice, if they are what they should be.
fn proved(
    files: BuiltSlice,
    crcs: Option<(u64, u64)>,
    tally: Checksum,
    range: &KeyRange,
    mut room: Room,
) -> Result<Built, WriteError> {
    room.settle(files.size());
    fail_point("built");
    let (write, _) = match thunderhead_sst::prove_slice(&files, range) {
        Ok(proofs) => proofs,
        Err(error) => return Err(WriteError::Unproved(error.into())),
    };
    if crcs.is_some() && write.entries != tally.kvs {
        let cause = "it does not hold as many pairs as went in";
        let error = Error::new(ErrorKind::Internal, "table file", cause);
        return Err(WriteError::Unproved(
            error.advice("this is a bug; please report it"),
        ));
    }
    fail_point("proved");
    Ok(Built {
        counts_from: files.first_key.clone(),
        files,
        crcs,
        tally,
        _room: room,
    })
}
