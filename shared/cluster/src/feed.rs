//! Pulls pairs from a source on a blocking thread of their own and hands them on as finished `Write`
//! messages, a few ahead. Encoding and summing run on that thread, off the I/O workers. Dropping the
//! feed ends the thread at its next batch.

use std::sync::Arc;

use bytes::Bytes;
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, Result, Tally, crc64};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::pairs::{PairBatch, PairSource};
use crate::wire::{Stamp, batch_message};

/// Messages ready before they are asked for: one being sent, one ready, one in the making.
const AHEAD: usize = 2;

/// A key, and CRC-64 of the key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub key: Vec<u8>,
    pub crc64: u64,
}

/// One message's worth of pairs.
#[derive(Clone, Debug)]
pub(crate) struct EncodedBatch {
    pub message: Bytes,
    pub first: Mark,
    pub last: Mark,
    pub tally: Checksum,
}

/// Encoded batches of one key range, in order.
pub(crate) struct Feed {
    batches: mpsc::Receiver<Result<EncodedBatch>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts to read `range`.
    pub fn open(source: Arc<dyn PairSource>, range: KeyRange, stamp: Stamp) -> Feed {
        let (to, batches) = mpsc::channel(AHEAD);
        let thread = tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&*source, &range, stamp, &to) {
                // Nobody listens any more: the reason does not matter.
                let _ = to.blocking_send(Err(error));
            }
        });
        Feed {
            batches,
            thread: Some(thread),
        }
    }

    /// The next batch; `None` at the end of the range.
    pub async fn next(&mut self) -> Result<Option<EncodedBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return batch.map(Some);
        }
        // The channel also ends when the thread panicked: that must not look like the end of data.
        if let Some(thread) = self.thread.take()
            && let Err(error) = thread.await
        {
            return Err(Error::new(
                ErrorKind::Internal,
                "reading sorted pairs",
                error,
            ));
        }
        Ok(None)
    }
}

fn read(
    source: &dyn PairSource,
    range: &KeyRange,
    stamp: Stamp,
    to: &mpsc::Sender<Result<EncodedBatch>>,
) -> Result<()> {
    let mut reader = source.open(range)?;
    let mut batch = PairBatch::default();
    let mut before: Option<Vec<u8>> = None;
    while reader.next_batch(&mut batch)? {
        let Some(encoded) = encode(&batch, stamp, before.as_deref(), range)? else {
            continue;
        };
        before = Some(encoded.last.key.clone());
        if to.blocking_send(Ok(encoded)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Encodes and sums the batch; `None` when it is empty. Keys that do not ascend or lie outside would
/// corrupt a region without any store noticing, so they are refused here.
fn encode(
    batch: &PairBatch,
    stamp: Stamp,
    before: Option<&[u8]>,
    range: &KeyRange,
) -> Result<Option<EncodedBatch>> {
    let broken = |cause| Err(Error::new(ErrorKind::Internal, "sorted pairs", cause));
    let mut tally = Tally::default();
    let mut previous = before;
    let (mut first, mut last) = (None, None);
    for (key, value) in batch.iter() {
        if previous.is_some_and(|previous| previous >= key) {
            return broken("keys do not ascend");
        }
        previous = Some(key);
        tally.add(key, value);
        first.get_or_insert((key, value));
        last = Some((key, value));
    }
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(None);
    };
    if !range.contains(first.0) || !range.contains(last.0) {
        return broken("a key lies outside the range that was asked for");
    }
    let mark = |(key, value): (&[u8], &[u8])| Mark {
        key: key.to_vec(),
        crc64: crc64(key, value),
    };
    Ok(Some(EncodedBatch {
        message: batch_message(batch, stamp),
        first: mark(first),
        last: mark(last),
        tally: tally.sum(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PUT: Stamp = Stamp {
        commit_ts: 7,
        deletes: false,
    };
    use crate::pairs::{MemoryPairs, PairReader};

    struct Fixed(Vec<Vec<&'static str>>);
    impl PairSource for Fixed {
        fn open(&self, _: &KeyRange) -> Result<Box<dyn PairReader>> {
            Ok(Box::new(FixedReader(self.0.clone().into_iter())))
        }
    }
    struct FixedReader(std::vec::IntoIter<Vec<&'static str>>);
    impl PairReader for FixedReader {
        fn next_batch(&mut self, batch: &mut PairBatch) -> Result<bool> {
            batch.clear();
            let Some(keys) = self.0.next() else {
                return Ok(false);
            };
            assert!(!keys.contains(&"panic"), "a broken reader");
            keys.iter().for_each(|key| batch.push(key.as_bytes(), b"v"));
            Ok(true)
        }
    }

    async fn drain(source: impl PairSource + 'static, range: KeyRange) -> Result<Checksum> {
        let mut feed = Feed::open(Arc::new(source), range, PUT);
        let mut sum = Checksum::default();
        while let Some(batch) = feed.next().await? {
            sum.merge(&batch.tally);
        }
        Ok(sum)
    }

    #[tokio::test]
    async fn a_feed_sums_what_it_passes_on() {
        let mut expected = Checksum::default();
        let pairs: Vec<_> = (0..=255u8).map(|i| (vec![i], vec![i; 5000])).collect();
        pairs[10..20].iter().for_each(|(k, v)| expected.add(k, v));
        let source = MemoryPairs::new(pairs);
        assert_eq!(
            drain(source.clone(), KeyRange::new([10], [20]))
                .await
                .unwrap(),
            expected
        );
        let all = drain(source, KeyRange::default()).await.unwrap();
        assert_eq!((all.kvs, all.bytes), (256, 256 * 5001));
    }

    #[tokio::test]
    async fn keys_out_of_order_twice_or_outside_are_refused_also_across_batches() {
        let range = || KeyRange::new("b", "y");
        for bad in [
            vec![vec!["c", "b"]],
            vec![vec!["c", "c"]],
            vec![vec!["c", "d"], vec!["d"]],
            vec![vec!["a", "c"]],
            vec![vec!["c", "z"]],
        ] {
            let error = drain(Fixed(bad), range()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Internal);
        }
        assert_eq!(
            drain(Fixed(vec![vec!["b"], vec![], vec!["c"]]), range())
                .await
                .unwrap()
                .kvs,
            2
        );
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_not_the_end_of_data() {
        let error = drain(Fixed(vec![vec!["b"], vec!["panic"]]), KeyRange::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}
