//! Reads a file back from where it lies, believing nothing: every block's checksum, every length. Reads
//! what [`crate::SstBuilder`] writes, and RocksDB's files of the same format version.

use crate::block::{Cursor, Values};
use crate::compress::Decompressor;
use crate::error::{Result, SstError};
use crate::format::{
    BLOCK_BYTES_MAX, FOOTER_BYTES, Handle, KEY_SUFFIX, TRAILER_BYTES, masked_crc, parse_footer,
};
use crate::properties::{self, Properties};
use crate::sink::SstContent;

/// An open file: its tail is read and checked, its data blocks are not.
pub struct SstReader {
    content: SstContent,
    pub(crate) len: u64,
    properties: Properties,
    /// Separator and place of each data block, in order.
    pub(crate) blocks: Vec<(Vec<u8>, Handle)>,
    pub(crate) index: Handle,
    pub(crate) properties_at: Handle,
    pub(crate) filter_at: Option<Handle>,
    pub(crate) metaindex: Handle,
}

impl SstReader {
    /// Reads footer, metaindex, properties and index.
    pub fn open(content: SstContent) -> Result<Self> {
        let len = content.len()?;
        let footer_at = len
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or(SstError::corrupt("too short for a table file", 0))?;
        let bytes = content.read(footer_at, FOOTER_BYTES)?;
        let footer = bytes
            .first_chunk::<FOOTER_BYTES>()
            .ok_or(SstError::corrupt("footer", footer_at))?;
        let (metaindex, index) = parse_footer(footer, footer_at)?;
        let mut blocks = Blocks::new(content.clone(), len);
        let meta = Properties::decode(blocks.read(metaindex)?, metaindex.offset)?;
        let handle = |name: &str| -> Result<Option<Handle>> {
            let Some(mut value) = meta.get(name) else {
                return Ok(None);
            };
            let handle = Handle::decode(&mut value).filter(|_| value.is_empty());
            handle.map(Some).ok_or(SstError::corrupt(
                "handle in the metaindex",
                metaindex.offset,
            ))
        };
        let properties_at = handle(properties::BLOCK_NAME)?
            .ok_or(SstError::corrupt("no properties", metaindex.offset))?;
        let filter_at = handle(properties::FILTER_BLOCK_NAME)?;
        if meta.iter().count() != 1 + usize::from(filter_at.is_some()) {
            return Err(SstError::corrupt("unknown meta block", metaindex.offset));
        }
        let properties = Properties::decode(blocks.read(properties_at)?, properties_at.offset)?;
        let data = read_index(&mut blocks, index)?;
        Ok(Self {
            content,
            len,
            properties,
            blocks: data,
            index,
            properties_at,
            filter_at,
            metaindex,
        })
    }

    /// The file's properties.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// All entries, from the first.
    pub fn entries(&self) -> Entries<'_> {
        self.entries_from_block(0)
    }

    /// Entries from the first one whose engine key is at or after `key`.
    pub fn entries_from(&self, key: &[u8]) -> Result<Entries<'_>> {
        let block = self
            .blocks
            .partition_point(|(separator, _)| &separator[..] < key);
        let mut entries = self.entries_from_block(block);
        entries.skip_to(key)?;
        Ok(entries)
    }

    fn entries_from_block(&self, block: usize) -> Entries<'_> {
        Entries {
            reader: self,
            blocks: self.block_reader(),
            next_block: block,
            cursor: Cursor::default(),
            open: false,
            held: None,
        }
    }

    pub(crate) fn block_reader(&self) -> Blocks {
        Blocks::new(self.content.clone(), self.len)
    }
}

fn read_index(blocks: &mut Blocks, at: Handle) -> Result<Vec<(Vec<u8>, Handle)>> {
    let bad = || SstError::corrupt("index block", at.offset);
    let block = blocks.read(at)?;
    let mut cursor = Cursor::default();
    cursor.start(block).ok_or_else(bad)?;
    let mut found: Vec<(Vec<u8>, Handle)> = Vec::new();
    while let Some(value) = cursor.next(block, Values::Handles).ok_or_else(bad)? {
        let handle = Handle::decode(&mut &block[value]).ok_or_else(bad)?;
        if found.last().is_some_and(|(last, _)| *last >= cursor.key) {
            return Err(bad());
        }
        found.push((cursor.key.clone(), handle));
    }
    Ok(found)
}

/// Reads blocks one at a time into a buffer that is used again.
pub(crate) struct Blocks {
    content: SstContent,
    len: u64,
    decompressor: Decompressor,
    plain: Vec<u8>,
}

impl Blocks {
    fn new(content: SstContent, len: u64) -> Self {
        Self {
            content,
            len,
            decompressor: Decompressor::new(),
            plain: Vec::new(),
        }
    }

    /// The plain bytes of a block, once its checksum is right.
    pub(crate) fn read(&mut self, handle: Handle) -> Result<&[u8]> {
        let bad = |what| SstError::corrupt(what, handle.offset);
        let end = handle.end().ok_or(bad("block handle"))?;
        if end > self.len || handle.size > BLOCK_BYTES_MAX as u64 {
            return Err(bad("block beyond the end of the file"));
        }
        let bytes = self
            .content
            .read(handle.offset, handle.size as usize + TRAILER_BYTES)?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(bad("block"))?;
        if masked_crc(body) != u32::from_le_bytes(*crc) {
            return Err(bad("block checksum"));
        }
        let (kind, block) = body.split_last().ok_or(bad("block"))?;
        self.decompressor
            .decompress(*kind, block, &mut self.plain, handle.offset)?;
        Ok(&self.plain)
    }
}

/// Entries in order.
pub struct Entries<'a> {
    reader: &'a SstReader,
    blocks: Blocks,
    next_block: usize,
    cursor: Cursor,
    open: bool,
    /// An entry that was read but not given out: its value within the block.
    held: Option<std::ops::Range<usize>>,
}

impl Entries<'_> {
    /// The next engine key, without RocksDB's suffix, and its value.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let value = match self.held.take() {
            Some(value) => value,
            None => match self.advance()? {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        let key = &self.cursor.key[..self.cursor.key.len() - KEY_SUFFIX.len()];
        Ok(Some((key, &self.blocks.plain[value])))
    }

    fn skip_to(&mut self, key: &[u8]) -> Result<()> {
        while let Some(value) = self.advance()? {
            if &self.cursor.key[..self.cursor.key.len() - KEY_SUFFIX.len()] >= key {
                self.held = Some(value);
                break;
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<std::ops::Range<usize>>> {
        loop {
            let handle = match self.next_block.checked_sub(1) {
                Some(block) => self.reader.blocks.get(block).map(|(_, handle)| *handle),
                None => None,
            };
            let at = handle.unwrap_or_default().offset;
            let bad = |what| SstError::corrupt(what, at);
            if self.open {
                let found = self
                    .cursor
                    .next(&self.blocks.plain, Values::Sized)
                    .ok_or(bad("data block"))?;
                if let Some(value) = found {
                    if !self.cursor.key.ends_with(&KEY_SUFFIX) {
                        return Err(bad("an entry is not a put with sequence number 0"));
                    }
                    return Ok(Some(value));
                }
                self.open = false;
            }
            let Some((_, handle)) = self.reader.blocks.get(self.next_block) else {
                return Ok(None);
            };
            let block = self.blocks.read(*handle)?;
            self.cursor
                .start(block)
                .ok_or(SstError::corrupt("data block", handle.offset))?;
            self.open = true;
            self.next_block += 1;
        }
    }
}
