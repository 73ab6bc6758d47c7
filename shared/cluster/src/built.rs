//! Files for `Upload`, built once for all peers. Pairs are read, built and proved on a blocking thread,
//! one slice ahead. When regions changed, a built slice is cut at the new borders; no row is encoded again.

use std::path::PathBuf;
use std::sync::Arc;

use thunderhead_codec::mem::decode_bytes;
use thunderhead_sst::{BuiltSlice, BuiltSst, PairsToSst, SliceOptions, SstOptions, SstSink, recut};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Tally, Timestamp, crc64};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::feed::Mark;
use crate::pairs::{PairBatch, PairSource};
use crate::write::{TXN_SOURCE, WriteError};

/// Slices built before they are asked for, beside the one in the making.
const AHEAD: usize = 1;

/// A proved slice.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub files: BuiltSlice,
    /// CRC-64 of the first pair and the last; a part of a slice has none.
    pub crcs: Option<(u64, u64)>,
    /// Of all pairs; in the last part for those that were cut off before it, too.
    pub tally: Checksum,
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
    pub fn cut(self, end: &[u8], dir: Option<&PathBuf>) -> Result<(Option<Built>, Option<Built>)> {
        if end.is_empty() || &self.files.last_key[..] < end {
            return Ok((Some(self), None));
        }
        if &self.files.first_key[..] >= end {
            return Ok((None, Some(self)));
        }
        let part = |start: &[u8], end: &[u8], tally| -> Result<Option<Built>> {
            let range = KeyRange::new(start, end);
            let one = |file: &BuiltSst| {
                let sink = match dir {
                    Some(dir) => SstSink::File(dir.join(file_name())),
                    None => SstSink::Memory,
                };
                recut(file, &range, &SstOptions::default(), sink)
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
            thunderhead_sst::prove_slice(&files, &range)?;
            Ok(Some(Built {
                files,
                crcs: None,
                tally,
            }))
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
    slices: mpsc::Receiver<Result<Built, WriteError>>,
    thread: Option<JoinHandle<()>>,
}

impl BuiltFeed {
    /// Starts to read `range`; slices end at `slice_bytes` of file.
    pub fn open(
        source: Arc<dyn PairSource>,
        range: KeyRange,
        commit_ts: Timestamp,
        slice_bytes: u64,
        dir: Option<PathBuf>,
    ) -> Self {
        let (to, slices) = mpsc::channel(AHEAD);
        let options = SliceOptions {
            txn_source: TXN_SOURCE,
            slice_bytes,
            dir,
            ..SliceOptions::new(commit_ts)
        };
        let thread = tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&*source, &range, options, &to) {
                // Nobody listens any more: the reason does not matter.
                let _ = to.blocking_send(Err(error));
            }
        });
        Self {
            slices,
            thread: Some(thread),
        }
    }

    /// The next slice; `None` at the end of the range.
    pub async fn next(&mut self) -> Result<Option<Built>, WriteError> {
        if let Some(slice) = self.slices.recv().await {
            return slice.map(Some);
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

/// What is known of the pairs of the slice in hand.
struct Sums {
    /// CRC-64 of the first pair and, at the ends of batches and slices, of the last.
    first: u64,
    last: u64,
    tally: Tally,
}

fn read(
    source: &dyn PairSource,
    range: &KeyRange,
    options: SliceOptions,
    to: &mpsc::Sender<Result<Built, WriteError>>,
) -> Result<(), WriteError> {
    let mut reader = source.open(range)?;
    let mut maker = PairsToSst::new(options, []);
    let mut batch = PairBatch::default();
    let mut sums: Option<Sums> = None;
    while reader.next_batch(&mut batch)? {
        let mut previous = None;
        for (key, value) in batch.iter() {
            if !range.contains(key) {
                let cause = "a key lies outside the range that was asked for";
                return Err(Error::new(ErrorKind::Internal, "sorted pairs", cause).into());
            }
            let done = maker.add(key, value).map_err(Error::from)?;
            if let Some(files) = done
                && let Some(mut sums) = sums.take()
            {
                sums.ended(previous);
                if to.blocking_send(Ok(proved(files, sums, range)?)).is_err() {
                    return Ok(());
                }
            }
            let sums = sums.get_or_insert_with(|| Sums {
                first: crc64(key, value),
                last: 0,
                tally: Tally::default(),
            });
            sums.tally.add(key, value);
            previous = Some((key, value));
        }
        if let Some(sums) = &mut sums {
            sums.ended(previous);
        }
    }
    let done = maker.finish().map_err(Error::from)?;
    if let (Some(files), Some(sums)) = (done, sums) {
        // Nobody listens any more: then nobody needs it.
        let _ = to.blocking_send(Ok(proved(files, sums, range)?));
    }
    Ok(())
}

impl Sums {
    /// The slice or the batch ended behind `last`; without one it ended with the batch before.
    fn ended(&mut self, last: Option<(&[u8], &[u8])>) {
        if let Some((key, value)) = last {
            self.last = crc64(key, value);
        }
    }
}

fn proved(files: BuiltSlice, sums: Sums, range: &KeyRange) -> Result<Built, WriteError> {
    let tally = sums.tally.sum();
    match thunderhead_sst::prove_slice(&files, range) {
        Ok((write, _)) if write.entries == tally.kvs => Ok(Built {
            files,
            crcs: Some((sums.first, sums.last)),
            tally,
        }),
        Ok(_) => {
            let cause = "it does not hold as many pairs as went in";
            Err(WriteError::Unproved(Error::new(
                ErrorKind::Internal,
                "table file",
                cause,
            )))
        }
        Err(error) => Err(WriteError::Unproved(error.into())),
    }
}
