//! Reads a range of a run. Every byte that is used was checked: header, footer and index when the run
//! is opened, each block when it is loaded. A damaged byte is an error that names file and block.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use thunderhead_types::KeyRange;

use super::error::{Result, SortError};
use super::format::{BlockMeta, FOOTER_LEN, Footer, HEADER, Tail, decode_index, pair_at};

/// Pairs in key order, one at a time.
pub trait PairStream: Send {
    /// Goes to the next pair; false behind the last one.
    fn advance(&mut self) -> Result<bool>;
    /// Key of the pair.
    fn key(&self) -> &[u8];
    /// Value of the pair.
    fn value(&self) -> &[u8];
    /// Number of the row that the pair belongs to, where pairs have one.
    fn row(&self) -> Option<u64>;
    /// Whether the next pair may have the same key; false is certain.
    fn is_tied(&self) -> bool {
        true
    }
}

/// Blocks of a run that lies elsewhere.
pub trait RemoteBlocks: Send + Sync {
    /// The blocks `[first, end)` of the file, in order.
    fn open(&self, first: u32, end: u32) -> Box<dyn BlockStream>;
    /// So many blocks may wait in memory ahead of the one that is read.
    fn ahead(&self) -> usize;
}

/// Stored bytes of blocks, one after the other; waits for them.
pub trait BlockStream: Send {
    /// The next block.
    fn next_block(&mut self) -> Result<Bytes>;
}

/// The part of a run file that may hold keys of a range. Keeps no file open.
pub struct RunFile {
    path: PathBuf,
    range: KeyRange,
    /// Number of the first of `blocks` in the file.
    first_block: u32,
    blocks: Vec<BlockMeta>,
    /// Where the blocks are read, if not in the file itself.
    remote: Option<Arc<dyn RemoteBlocks>>,
    /// No key of the range in this run is greater.
    upper: Vec<u8>,
}

impl RunFile {
    /// Opens the run at `path` for the keys of `range`, and checks that it is complete.
    pub fn open(path: &Path, range: &KeyRange) -> Result<RunFile> {
        let file = File::open(path).map_err(SortError::io(path, "open the run"))?;
        let len = file
            .metadata()
            .map_err(SortError::io(path, "read the run"))?
            .len();
        let read = |target: &mut [u8], offset| file.read_exact_at(target, offset);
        let (blocks, last_key) = read_index(path, len, read)?;
        Ok(Self::part(path, range, blocks, last_key))
    }

    /// Opens a run of `len` bytes that lies in a store: `read` fills a slice from an offset of the file, `blocks`
    /// makes the reader of its blocks.
    pub fn stored(
        path: &Path,
        range: &KeyRange,
        len: u64,
        read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
        reader: impl FnOnce(&[BlockMeta], u32) -> Arc<dyn RemoteBlocks>,
    ) -> Result<RunFile> {
        let (blocks, last_key) = read_index(path, len, read)?;
        let mut run = Self::part(path, range, blocks, last_key);
        run.remote = Some(reader(&run.blocks, run.first_block));
        Ok(run)
    }

    fn part(
        path: &Path,
        range: &KeyRange,
        mut blocks: Vec<BlockMeta>,
        last_key: Vec<u8>,
    ) -> RunFile {
        let mut upper = last_key;
        if !range.end.is_empty() {
            let end = blocks.partition_point(|block| block.first_key < range.end);
            if let Some(behind) = blocks.get(end) {
                upper = behind.first_key.clone();
            }
            blocks.truncate(end);
            upper = upper.min(range.end.clone());
        }
        // A key may go on from one block into the next, so the block before the first one that starts
        // at or behind the start of the range belongs to it, too.
        let start = blocks
            .partition_point(|block| block.first_key < range.start)
            .saturating_sub(1);
        blocks.drain(..start);
        blocks.shrink_to_fit();
        RunFile {
            path: path.to_owned(),
            range: range.clone(),
            first_block: start as u32,
            blocks,
            remote: None,
            upper,
        }
    }

    /// The part of a run that lies elsewhere, as whoever has it described it.
    pub fn remote(
        path: PathBuf,
        range: KeyRange,
        first_block: u32,
        blocks: Vec<BlockMeta>,
        upper: Vec<u8>,
        remote: Arc<dyn RemoteBlocks>,
    ) -> RunFile {
        RunFile {
            path,
            range,
            first_block,
            blocks,
            remote: Some(remote),
            upper,
        }
    }

    /// Number of the first of [`RunFile::blocks`] in the file.
    pub fn first_block(&self) -> u32 {
        self.first_block
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Blocks that may hold keys of the range.
    pub fn blocks(&self) -> &[BlockMeta] {
        &self.blocks
    }

    /// No key of the range in this run is less.
    pub fn lower(&self) -> &[u8] {
        let first = self
            .blocks
            .first()
            .map_or(&[][..], |block| &block.first_key);
        first.max(&self.range.start)
    }

    /// No key of the range in this run is greater.
    pub fn upper(&self) -> &[u8] {
        &self.upper
    }

    /// Whether no key of the range can be in this run.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() || self.upper < self.range.start
    }

    /// Memory that a cursor over this run needs, bytes.
    pub fn cursor_bytes(&self) -> usize {
        let longest =
            |len: fn(&BlockMeta) -> u32| self.blocks.iter().map(len).max().unwrap_or(0) as usize;
        let ahead = self.remote.as_ref().map_or(0, |remote| remote.ahead());
        longest(|block| block.raw_len) + longest(|block| block.stored_len) * (1 + ahead)
    }

    /// Reads the pairs of `range`, which should lie in the range of the run.
    pub fn cursor(self: &Arc<Self>, range: &KeyRange) -> RunCursor {
        let range = self.range.intersect(range);
        let (next, end) = range.as_ref().map_or((0, 0), |range| {
            let start = self
                .blocks
                .partition_point(|block| block.first_key < range.start)
                .saturating_sub(1);
            let end = self
                .blocks
                .partition_point(|block| range.end.is_empty() || block.first_key < range.end);
            (start, end)
        });
        RunCursor {
            run: Arc::clone(self),
            range: range.unwrap_or_default(),
            file: None,
            stream: None,
            next,
            end,
            payload: Vec::new(),
            stored: Vec::new(),
            tail: Tail::default(),
            pairs: 0,
            at: 0,
            key: (0, 0),
            value_end: 0,
            before_start: true,
            compare_end: false,
        }
    }
}

/// Blocks and last key of a run of `len` bytes, after checking that it is complete.
fn read_index(
    path: &Path,
    len: u64,
    read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
) -> Result<(Vec<BlockMeta>, Vec<u8>)> {
    let read = |target: &mut [u8], offset| {
        read(target, offset).map_err(SortError::io(path, "read the run"))
    };
    if len < (HEADER.len() + FOOTER_LEN) as u64 {
        return Err(SortError::corrupt(
            path,
            "footer",
            "the file is not a complete run",
        ));
    }
    let (mut header, mut footer) = ([0; HEADER.len()], [0; FOOTER_LEN]);
    read(&mut header, 0)?;
    if header != *HEADER {
        return Err(SortError::corrupt(
            path,
            "header",
            "not a run of this version",
        ));
    }
    read(&mut footer, len - FOOTER_LEN as u64)?;
    let footer = Footer::decode(&footer, len, path)?;
    let mut index = vec![0; footer.index_len as usize];
    read(&mut index, footer.index_offset)?;
    decode_index(&index, &footer, path)
}

/// Pairs of a key range of one run.
pub struct RunCursor {
    run: Arc<RunFile>,
    range: KeyRange,
    file: Option<File>,
    /// In place of `file`.
    stream: Option<Box<dyn BlockStream>>,
    /// The block to load next, and the first one not to load.
    next: usize,
    end: usize,
    payload: Vec<u8>,
    /// The block as it is stored; its tail is read there.
    stored: Vec<u8>,
    tail: Tail,
    /// Pairs of the block up to the current one.
    pairs: usize,
    /// Place of the next pair in `payload`.
    at: usize,
    /// Places of the current pair in `payload`: key, and where it ends and its value starts.
    key: (usize, usize),
    value_end: usize,
    /// Keys before the range may still come.
    before_start: bool,
    /// The loaded block may reach beyond the range.
    compare_end: bool,
}

impl RunCursor {
    fn step(&mut self) -> Result<bool> {
        while self.at >= self.payload.len() {
            if self.next >= self.end {
                return Ok(false);
            }
            self.load()?;
        }
        let Some((key, value, end)) = pair_at(&self.payload, self.at) else {
            return Err(self.corrupt(self.next - 1, "pairs do not fill the block"));
        };
        self.key = (key, value);
        self.value_end = end;
        self.at = end;
        self.pairs += 1;
        Ok(true)
    }

    fn load(&mut self) -> Result<()> {
        let index = self.next;
        let run = Arc::clone(&self.run);
        let block = &run.blocks[index];
        match &run.remote {
            Some(remote) => self.receive(&**remote, index)?,
            None => self.read(index)?,
        }
        if crc32fast::hash(&self.stored) != block.crc {
            return Err(self.corrupt(index, "checksum mismatch"));
        }
        self.unpack(block)
            .map_err(|reason| self.corrupt(index, reason))?;
        (self.at, self.pairs) = (0, 0);
        self.next += 1;
        let bound = self
            .run
            .blocks
            .get(self.next)
            .map_or(&self.run.upper, |next| &next.first_key);
        self.compare_end = !self.range.end.is_empty() && *bound >= self.range.end;
        Ok(())
    }

    /// Reads the stored bytes of a block from the file.
    fn read(&mut self, index: usize) -> Result<()> {
        let run = Arc::clone(&self.run);
        let block = &run.blocks[index];
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&run.path).map_err(SortError::io(&run.path, "open the run"))?,
        };
        self.stored.resize(block.stored_len as usize, 0);
        file.read_exact_at(&mut self.stored, block.offset)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    self.corrupt(index, "the file ends before the block does")
                }
                _ => SortError::io(&run.path, "read the run")(error),
            })?;
        if let Some(ahead) = run.blocks.get(index + 1).filter(|_| index + 1 < self.end) {
            // The next block is read while this one is merged. Only advice, so a refusal is no error.
            let len = std::num::NonZeroU64::new(u64::from(ahead.stored_len));
            let _ = fadvise(&file, ahead.offset, len, Advice::WillNeed);
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes the stored bytes of a block from whoever has the run.
    fn receive(&mut self, remote: &dyn RemoteBlocks, index: usize) -> Result<()> {
        let (first, end) = (
            self.run.first_block + index as u32,
            self.run.first_block + self.end as u32,
        );
        let stream = self.stream.get_or_insert_with(|| remote.open(first, end));
        let bytes = stream.next_block()?;
        self.stored.clear();
        self.stored.extend_from_slice(&bytes);
        if bytes.len() != self.run.blocks[index].stored_len as usize {
            return Err(self.corrupt(index, "it came with another length"));
        }
        Ok(())
    }

    fn unpack(&mut self, block: &BlockMeta) -> Result<(), &'static str> {
        self.tail = Tail::of(&self.stored, block.pairs).ok_or("it has no tail")?;
        let stored = &self.stored[..self.tail.start];
        if stored.len() == block.raw_len as usize {
            self.payload.clear();
            self.payload.extend_from_slice(stored);
            return Ok(());
        }
        self.payload.resize(block.raw_len as usize, 0);
        match lz4_flex::block::decompress_into(stored, &mut self.payload) {
            Ok(len) if len == self.payload.len() => Ok(()),
            _ => Err("cannot be decompressed"),
        }
    }

    #[cold]
    fn corrupt(&self, index: usize, reason: &'static str) -> SortError {
        let offset = self.run.blocks.get(index).map_or(0, |block| block.offset);
        SortError::corrupt(
            &self.run.path,
            format!("the block at byte {offset}"),
            reason,
        )
    }
}

impl PairStream for RunCursor {
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        loop {
            if !self.step()? {
                return Ok(false);
            }
            if self.before_start {
                if self.key() < self.range.start.as_slice() {
                    continue;
                }
                self.before_start = false;
            }
            if self.compare_end && self.key() >= self.range.end.as_slice() {
                self.next = self.end;
                self.at = self.payload.len();
                return Ok(false);
            }
            return Ok(true);
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.payload[self.key.0..self.key.1]
    }

    #[inline]
    fn value(&self) -> &[u8] {
        &self.payload[self.key.1..self.value_end]
    }

    #[inline]
    fn row(&self) -> Option<u64> {
        self.tail.number(&self.stored, self.pairs.wrapping_sub(1))
    }

    #[inline]
    fn is_tied(&self) -> bool {
        let at_end = || self.at >= self.payload.len();
        let next_key = || {
            self.run
                .blocks
                .get(self.next)
                .map(|next| &next.first_key[..])
        };
        self.tail.equal_keys || (at_end() && next_key() == Some(self.key()))
    }
}
