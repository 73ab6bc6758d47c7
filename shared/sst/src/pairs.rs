//! From pairs to files: user keys and values in order become the write records and long values of one
//! slice after another. A slice ends at a border of regions, or when it is large enough; it is what one
//! or two uploads and one entry of an ingest are made of.

use crate::builder::{BuiltSst, SstBuilder};
use crate::error::{Result, SstError};
use crate::mvcc::{self, SHORT_VALUE_MAX};
use crate::options::{Cf, SstOptions};
use crate::sink::SstSink;
use std::collections::VecDeque;
use std::path::PathBuf;
use thunderhead_types::Timestamp;

/// How slices are made.
#[derive(Clone, Debug)]
pub struct SliceOptions {
    /// Of both files. With an `id`, all files would get the same one; leave it out.
    pub sst: SstOptions,
    /// Timestamp of every key.
    pub commit_ts: Timestamp,
    /// Timestamp in every record; TiKV's own import takes the commit timestamp.
    pub start_ts: Timestamp,
    /// Where the rows come from, for CDC; 0 = nowhere special. Lightning's physical import is `1 << 16`.
    pub txn_source: u64,
    /// A slice ends when its files reach this, together.
    pub slice_bytes: u64,
    /// A slice ends at this many pairs; bounds the memory for its filter to eight bytes each.
    pub slice_pairs: u64,
    /// Where files are built: in this directory, else in memory.
    pub dir: Option<PathBuf>,
}

impl SliceOptions {
    /// The defaults for rows of one commit: in memory, 64 MiB a slice.
    pub fn new(commit_ts: Timestamp) -> Self {
        Self {
            sst: SstOptions::default(),
            commit_ts,
            start_ts: commit_ts,
            txn_source: 0,
            slice_bytes: 64 << 20,
            slice_pairs: 8 << 20,
            dir: None,
        }
    }
}

/// The files of one slice.
#[derive(Clone, Debug)]
pub struct BuiltSlice {
    /// A record for each pair.
    pub write: BuiltSst,
    /// The values that are too long for a record, if there are any.
    pub default: Option<BuiltSst>,
    /// First user key, not encoded.
    pub first_key: Vec<u8>,
    /// Last user key, not encoded.
    pub last_key: Vec<u8>,
    /// Number of pairs.
    pub pairs: u64,
    /// Bytes of user keys and values.
    pub bytes: u64,
}

impl BuiltSlice {
    /// The files: write, then default.
    pub fn files(&self) -> impl Iterator<Item = &BuiltSst> {
        std::iter::once(&self.write).chain(&self.default)
    }

    /// Length of the files together.
    pub fn size(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }
}

/// Builds slices from pairs in ascending order of their keys.
pub struct PairsToSst {
    options: SliceOptions,
    borders: VecDeque<Vec<u8>>,
    slice: Option<Slice>,
    key: Vec<u8>,
    record: Vec<u8>,
}

struct Slice {
    write: SstBuilder,
    default: Option<SstBuilder>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    bytes: u64,
}

impl PairsToSst {
    /// `borders`: user keys at which a slice must end, those of the regions, in any order.
    pub fn new(options: SliceOptions, borders: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut borders: Vec<_> = borders.into_iter().filter(|key| !key.is_empty()).collect();
        borders.sort();
        borders.dedup();
        Self {
            options,
            borders: borders.into(),
            slice: None,
            key: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Adds a pair. Returns the slice before it when that is finished.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<Option<BuiltSlice>> {
        let done = if self.ends_before(key) {
            self.end_slice()?
        } else {
            None
        };
        self.add_to_slice(key, value)?;
        Ok(done)
    }

    /// Adds a pair to the slice in hand, or to a new one when there is none; for callers that end slices themselves.
    pub fn add_to_slice(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let slice = match &mut self.slice {
            Some(slice) => slice,
            None => self.slice.insert(Slice::start(&self.options, key)?),
        };
        let short = (value.len() <= SHORT_VALUE_MAX).then_some(value);
        if short.is_none() {
            mvcc::engine_key_to(&mut self.key, key, self.options.start_ts);
            slice.default(&self.options)?.add(&self.key, value)?;
        }
        mvcc::engine_key_to(&mut self.key, key, self.options.commit_ts);
        let SliceOptions {
            start_ts,
            txn_source,
            ..
        } = self.options;
        mvcc::put_record_to(&mut self.record, start_ts, short, txn_source);
        slice.write.add(&self.key, &self.record)?;
        slice.last_key.clear();
        slice.last_key.extend_from_slice(key);
        slice.bytes += (key.len() + value.len()) as u64;
        Ok(())
    }

    /// Whether `key`, the next one, belongs to another slice than the one in hand.
    pub fn ends_before(&mut self, key: &[u8]) -> bool {
        let mut ends = false;
        while self
            .borders
            .front()
            .is_some_and(|border| &border[..] <= key)
        {
            self.borders.pop_front();
            ends = true;
        }
        ends || self.slice.as_ref().is_some_and(|slice| {
            slice.size() >= self.options.slice_bytes
                || slice.write.entries() >= self.options.slice_pairs
        })
    }

    /// Ends the slice in hand, if there is one.
    pub fn end_slice(&mut self) -> Result<Option<BuiltSlice>> {
        self.slice.take().map(Slice::finish).transpose()
    }

    /// The last slice, if any pair came since the one before.
    pub fn finish(mut self) -> Result<Option<BuiltSlice>> {
        self.end_slice()
    }
}

impl Slice {
    fn start(options: &SliceOptions, first_key: &[u8]) -> Result<Self> {
        Ok(Self {
            write: builder(options, Cf::Write)?,
            default: None,
            first_key: first_key.to_vec(),
            last_key: Vec::new(),
            bytes: 0,
        })
    }

    fn default(&mut self, options: &SliceOptions) -> Result<&mut SstBuilder> {
        match &mut self.default {
            Some(builder) => Ok(builder),
            none => Ok(none.insert(builder(options, Cf::Default)?)),
        }
    }

    fn size(&self) -> u64 {
        self.write.size() + self.default.as_ref().map_or(0, SstBuilder::size)
    }

    fn finish(self) -> Result<BuiltSlice> {
        let pairs = self.write.entries();
        Ok(BuiltSlice {
            write: self.write.finish()?,
            default: self.default.map(SstBuilder::finish).transpose()?,
            first_key: self.first_key,
            last_key: self.last_key,
            pairs,
            bytes: self.bytes,
        })
    }
}

fn builder(options: &SliceOptions, cf: Cf) -> Result<SstBuilder, SstError> {
    let sink = match &options.dir {
        Some(dir) => SstSink::File(dir.join(format!("{:032x}.sst", rand::random::<u128>()))),
        None => SstSink::Memory,
    };
    SstBuilder::new(options.sst.clone(), cf, sink)
}
