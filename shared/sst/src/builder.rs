//! Writes one file in one pass: entries in strictly ascending order in, blocks out. Held in memory: the
//! block in hand, the index (some 40 bytes for each block), eight bytes a key for the filter, and with
//! [`SstSink::Memory`] the file.

use crate::block::{DataBlock, IndexBlock, common_prefix, meta_block, separator};
use crate::bloom::{BloomBuilder, filtered};
use crate::collect::Collectors;
use crate::compress::{Compressor, PLAIN};
use crate::error::{Result, SstError};
use crate::format::{BLOCK_BYTES_MAX, Handle, KEY_SUFFIX, TRAILER_BYTES, footer, masked_crc};
use crate::mvcc;
use crate::options::{Cf, SstId, SstOptions};
use crate::properties::{self, Counts, Properties};
use crate::sink::{Output, SstContent, SstSink};

/// A finished file.
#[derive(Clone, Debug)]
pub struct BuiltSst {
    /// The family that it is for.
    pub cf: Cf,
    /// First engine key: `z`, the encoded user key, the timestamp.
    pub first_key: Vec<u8>,
    /// Last engine key.
    pub last_key: Vec<u8>,
    /// Number of entries.
    pub entries: u64,
    /// Length in bytes.
    pub size: u64,
    /// CRC-32 (IEEE) of all bytes, as `SSTMeta.crc32` wants it.
    pub crc32: u32,
    /// Bytes of keys and values, as engine keys without RocksDB's suffix.
    pub raw_bytes: u64,
    /// The bytes.
    pub content: SstContent,
}

impl BuiltSst {
    /// What `SSTMeta.range` wants: first and last user key encoded, without `z` and timestamp, the last
    /// one inclusive.
    pub fn meta_range(&self) -> (&[u8], &[u8]) {
        (encoded(&self.first_key), encoded(&self.last_key))
    }
}

/// The encoded user key of an engine key.
fn encoded(key: &[u8]) -> &[u8] {
    key.get(1..key.len().saturating_sub(8)).unwrap_or_default()
}

/// Builds a file of one family.
pub struct SstBuilder {
    cf: Cf,
    options: SstOptions,
    output: Output,
    compressor: Compressor,
    block: DataBlock,
    /// Scratch for a block with its type and checksum.
    packed: Vec<u8>,
    index: IndexBlock,
    bloom: Option<BloomBuilder>,
    collectors: Collectors,
    counts: Counts,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl SstBuilder {
    /// Opens the file.
    pub fn new(options: SstOptions, cf: Cf, sink: SstSink) -> Result<Self> {
        Ok(Self {
            cf,
            output: Output::create(sink)?,
            compressor: Compressor::new(options.compression)?,
            block: DataBlock::new(options.block_bytes),
            packed: Vec::new(),
            index: IndexBlock::default(),
            bloom: options.bloom.then(BloomBuilder::default),
            collectors: Collectors::new(cf),
            counts: Counts::default(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            options,
        })
    }

    /// Adds an entry: an engine key with its timestamp, greater than all before, and its value.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let shared = common_prefix(&self.last_key, key);
        self.check(key, value, shared)?;
        if self.is_block_full(key, value) {
            let handle = self.close_block()?;
            self.index.add(&separator(&self.last_key, key), handle);
        }
        self.count(key, value);
        self.block.add(key, value, shared);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        Ok(())
    }

    fn check(&self, key: &[u8], value: &[u8], shared: usize) -> Result<()> {
        let index = self.counts.entries;
        if !mvcc::looks_like_engine_key(key) {
            return Err(SstError::Key { index });
        }
        if key.get(shared) <= self.last_key.get(shared) {
            return Err(SstError::Order { index });
        }
        let bytes = key.len() + value.len();
        if bytes > BLOCK_BYTES_MAX / 2 {
            return Err(SstError::TooLarge { bytes });
        }
        Ok(())
    }

    /// RocksDB closes a block that reached its size, or is nine tenths full and would exceed it.
    fn is_block_full(&self, key: &[u8], value: &[u8]) -> bool {
        let (now, limit) = (self.block.len(), self.options.block_bytes);
        !self.block.is_empty()
            && (now >= limit
                || (now > (limit * 90).div_ceil(100) && self.block.len_with(key, value) > limit))
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        if self.counts.entries == 0 {
            self.first_key = key.to_vec();
        }
        if let Some(bloom) = &mut self.bloom {
            bloom.add(filtered(self.cf, key));
        }
        self.collectors.add(key, value, &self.last_key);
        self.counts.entries += 1;
        self.counts.raw_key_bytes += (key.len() + KEY_SUFFIX.len()) as u64;
        self.counts.raw_value_bytes += value.len() as u64;
    }

    fn close_block(&mut self) -> Result<Handle> {
        let plain = self.block.finish();
        let kind = self.compressor.compress(plain, &mut self.packed)?;
        if kind == PLAIN {
            self.packed.clear();
            self.packed.extend_from_slice(plain);
        }
        self.block.reset();
        let handle = self.write_packed(kind)?;
        self.counts.data_blocks += 1;
        self.counts.data_bytes = self.output.bytes();
        Ok(handle)
    }

    /// Writes the block in `packed` with its trailer.
    fn write_packed(&mut self, kind: u8) -> Result<Handle> {
        let handle = Handle {
            offset: self.output.bytes(),
            size: self.packed.len() as u64,
        };
        self.packed.push(kind);
        let crc = masked_crc(&self.packed);
        self.packed.extend_from_slice(&crc.to_le_bytes());
        self.output.write(&self.packed)?;
        Ok(handle)
    }

    fn write_plain(&mut self, block: Vec<u8>) -> Result<Handle> {
        self.packed = block;
        self.write_packed(PLAIN)
    }

    /// Number of entries so far.
    pub fn entries(&self) -> u64 {
        self.counts.entries
    }

    /// Size of the file so far, less its filter, index and properties.
    pub fn size(&self) -> u64 {
        self.output.bytes() + self.block.len() as u64
    }

    /// Writes the rest. A file without entries is an error; its sink is removed.
    pub fn finish(mut self) -> Result<BuiltSst> {
        if self.counts.entries == 0 {
            return Err(SstError::Empty);
        }
        let handle = self.close_block()?;
        self.index.add(&self.last_key, handle);
        let filter = self.write_filter()?;
        let index_block = std::mem::take(&mut self.index).finish();
        self.counts.index_bytes = (index_block.len() + TRAILER_BYTES) as u64;
        let index = self.write_plain(index_block)?;
        let collectors = std::mem::replace(&mut self.collectors, Collectors::new(self.cf));
        let properties = Properties::write(
            self.cf,
            self.options.compression,
            self.options.id.unwrap_or_else(SstId::random),
            &self.counts,
            collectors.finish(&self.last_key),
        );
        let properties = self.write_plain(properties.encode())?;
        let mut handles = vec![(properties::BLOCK_NAME, encode(properties))];
        if let Some(filter) = filter {
            handles.insert(0, (properties::FILTER_BLOCK_NAME, encode(filter)));
        }
        let entries = handles.iter().map(|(name, handle)| (*name, &handle[..]));
        let metaindex = self.write_plain(meta_block(entries, true))?;
        self.output.write(&footer(metaindex, index))?;
        let size = self.output.bytes();
        let (content, crc32) = self.output.finish()?;
        let suffixes = self.counts.entries * KEY_SUFFIX.len() as u64;
        Ok(BuiltSst {
            cf: self.cf,
            first_key: self.first_key,
            last_key: self.last_key,
            entries: self.counts.entries,
            size,
            crc32,
            raw_bytes: self.counts.raw_key_bytes + self.counts.raw_value_bytes - suffixes,
            content,
        })
    }

    fn write_filter(&mut self) -> Result<Option<Handle>> {
        let Some(bloom) = self.bloom.take() else {
            return Ok(None);
        };
        self.counts.filter_entries = bloom.len();
        let block = bloom.finish();
        self.counts.filter_bytes = block.len() as u64;
        self.write_plain(block).map(Some)
    }
}

fn encode(handle: Handle) -> Vec<u8> {
    let mut to = Vec::new();
    handle.encode_to(&mut to);
    to
}
