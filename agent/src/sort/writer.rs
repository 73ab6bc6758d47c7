//! Writes a run: sorted pairs in, one immutable file out. The file gets its name last, after its bytes
//! are on the disk, so whatever has the name of a run is a complete one.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::buffer::SortBuffer;
use super::error::{Result, SortError};
use super::format::{
    BLOCK_BYTES, BlockMeta, Footer, HEADER, encode_index, put_pair, put_tail, tail_max,
};
use super::ledger::{Ledger, Reservation};
use thunderhead_types::fail_point;

/// Space is reserved in steps of this size, so that the ledger is asked rarely.
const RESERVE_STEP: u64 = 8 << 20;

/// What is known of a finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMeta {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub file_bytes: u64,
    /// Number of pairs.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub kv_bytes: u64,
    /// Pairs with the key of the pair before them.
    pub equal_keys: u64,
    /// Key of the last pair; empty without pairs.
    pub last_key: Vec<u8>,
    /// Its blocks in key order.
    pub blocks: Vec<BlockMeta>,
}

impl RunMeta {
    /// Key of the first pair; empty without pairs.
    pub fn first_key(&self) -> &[u8] {
        self.blocks.first().map_or(&[], |block| &block.first_key)
    }
}

/// Writes one run.
pub struct RunWriter {
    output: Output,
    payload: Vec<u8>,
    stored: Vec<u8>,
    blocks: Vec<BlockMeta>,
    /// Key of the last pair of the last block.
    last_key: Vec<u8>,
    /// Place of the last pair's key in `payload`.
    last: Range<usize>,
    first_key: Vec<u8>,
    /// Of the rows of the pairs in `payload`, if they have numbers.
    numbers: Vec<u64>,
    /// Two pairs in `payload` have the same key.
    has_equal: bool,
    pairs: u32,
    kv_bytes: u64,
    total_pairs: u64,
    total_kv_bytes: u64,
    equal_keys: u64,
}

impl RunWriter {
    /// Starts the run that will be `path`, in space of `ledger`.
    pub fn create(path: &Path, ledger: &Arc<Ledger>) -> Result<RunWriter> {
        let mut output = Output::create(path, ledger)?;
        output.write(HEADER)?;
        Ok(RunWriter {
            output,
            payload: Vec::with_capacity(BLOCK_BYTES + (16 << 10)),
            stored: Vec::new(),
            blocks: Vec::new(),
            last_key: Vec::new(),
            last: 0..0,
            first_key: Vec::new(),
            numbers: Vec::new(),
            has_equal: false,
            pairs: 0,
            kv_bytes: 0,
            total_pairs: 0,
            total_kv_bytes: 0,
            equal_keys: 0,
        })
    }

    /// Appends a pair; its key must not be less than the one before it.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.add_of_row(key, value, None)
    }

    /// Appends a pair with the number of its row; either all pairs have one or none.
    #[inline]
    pub fn add_of_row(&mut self, key: &[u8], value: &[u8], row: Option<u64>) -> Result<()> {
        let before = if self.pairs == 0 {
            &self.last_key
        } else {
            &self.payload[self.last.clone()]
        };
        match key.cmp(before) {
            Ordering::Greater => {}
            Ordering::Equal => {
                self.equal_keys += u64::from(self.total_pairs > 0 || self.pairs > 0);
                self.has_equal |= self.pairs > 0;
            }
            Ordering::Less => {
                return Err(SortError::OutOfOrder {
                    path: self.output.path.clone(),
                });
            }
        }
        if self.pairs == 0 {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        debug_assert!(
            self.numbers.len()
                == if row.is_some() {
                    self.pairs as usize
                } else {
                    0
                }
        );
        self.numbers.extend(row);
        put_pair(&mut self.payload, key, value);
        let key_end = self.payload.len() - value.len();
        self.last = key_end - key.len()..key_end;
        self.pairs += 1;
        self.kv_bytes += (key.len() + value.len()) as u64;
        if self.payload.len() >= BLOCK_BYTES {
            self.flush_block()
        } else {
            Ok(())
        }
    }

    /// Completes the file and gives it its name.
    pub fn finish(mut self) -> Result<RunMeta> {
        if self.pairs > 0 {
            self.flush_block()?;
        }
        let index = encode_index(&self.blocks, &self.last_key);
        let footer = Footer {
            index_offset: self.output.written,
            index_len: index.len() as u32,
            index_crc: crc32fast::hash(&index),
            blocks: self.blocks.len() as u32,
            pairs: self.total_pairs,
            kv_bytes: self.total_kv_bytes,
        };
        self.output.write(&index)?;
        self.output.write(&footer.encode())?;
        let path = self.output.path.clone();
        Ok(RunMeta {
            file_bytes: self.output.publish()?,
            path,
            pairs: self.total_pairs,
            kv_bytes: self.total_kv_bytes,
            equal_keys: self.equal_keys,
            last_key: self.last_key,
            blocks: self.blocks,
        })
    }

    fn flush_block(&mut self) -> Result<()> {
        let raw_len = self.payload.len();
        let room = lz4_flex::block::get_maximum_output_size(raw_len) + tail_max(self.numbers.len());
        if self.stored.len() < room {
            self.stored.resize(room, 0);
        }
        let len = match lz4_flex::block::compress_into(&self.payload, &mut self.stored) {
            Ok(len) if len < raw_len => len,
            _ => {
                self.stored[..raw_len].copy_from_slice(&self.payload);
                raw_len
            }
        };
        let tail = put_tail(&mut self.stored[len..], &self.numbers, self.has_equal);
        let bytes = &self.stored[..len + tail];
        self.blocks.push(BlockMeta {
            first_key: self.first_key.clone(),
            offset: self.output.written,
            stored_len: bytes.len() as u32,
            raw_len: raw_len as u32,
            pairs: self.pairs,
            kv_bytes: self.kv_bytes as u32,
            crc: crc32fast::hash(bytes),
        });
        self.output.write(bytes)?;
        fail_point("spill");
        self.last_key.clear();
        self.last_key
            .extend_from_slice(&self.payload[self.last.clone()]);
        self.payload.clear();
        self.numbers.clear();
        self.has_equal = false;
        self.total_pairs += u64::from(self.pairs);
        self.total_kv_bytes += self.kv_bytes;
        (self.pairs, self.kv_bytes) = (0, 0);
        Ok(())
    }
}

/// The file under its temporary name, and its space.
struct Output {
    path: PathBuf,
    unfinished: Unfinished,
    file: File,
    space: Reservation,
    written: u64,
}

/// Removes the file unless it got its name.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing depends on it: the name is not that of a run, and a new attempt starts over.
            let _ = fs::remove_file(path);
        }
    }
}

impl Output {
    fn create(path: &Path, ledger: &Arc<Ledger>) -> Result<Output> {
        let space = ledger.reserve(0)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let unfinished = PathBuf::from(name);
        let file =
            File::create(&unfinished).map_err(SortError::io(&unfinished, "create the run"))?;
        let unfinished = Unfinished(Some(unfinished));
        Ok(Output {
            path: path.to_owned(),
            unfinished,
            file,
            space,
            written: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.written + bytes.len() as u64;
        if end > self.space.bytes() {
            // Near the limit a whole step may not be there any more, though the bytes would fit.
            let needed = end - self.space.bytes();
            self.space.grow_at_least(needed, needed.max(RESERVE_STEP))?;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.written = end,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(self.space.ledger().full(bytes.len() as u64));
            }
            Err(source) => return Err(SortError::io(&self.path, "write the run")(source)),
        }
        Ok(())
    }

    /// 1. the bytes reach the disk, 2. the file gets its name, 3. the name reaches the disk.
    fn publish(mut self) -> Result<u64> {
        self.file
            .sync_all()
            .map_err(SortError::io(&self.path, "sync the run"))?;
        fail_point("sync");
        if let Some(unfinished) = &self.unfinished.0 {
            fs::rename(unfinished, &self.path)
                .map_err(SortError::io(&self.path, "rename the run"))?;
        }
        fail_point("rename");
        self.unfinished.0 = None;
        self.space.commit(self.written);
        let dir = self
            .path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(SortError::io(dir, "sync the directory"))?;
        Ok(self.written)
    }
}

impl SortBuffer {
    /// Sorts the pairs, writes them to the run `path` and empties the buffer.
    pub fn spill(&mut self, path: &Path, ledger: &Arc<Ledger>) -> Result<RunMeta> {
        let mut writer = RunWriter::create(path, ledger)?;
        self.sort()
            .try_for_each(|key, value, row| writer.add_of_row(key, value, row))?;
        let meta = writer.finish()?;
        self.clear();
        Ok(meta)
    }
}
