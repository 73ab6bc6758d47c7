//! Snappy as Hadoop frames it (`SnappyCodec`): blocks of a big-endian length of the unpacked bytes, then
//! chunks of a big-endian length and that many bytes of raw snappy, until the block is full.

use std::io::{self, Read};

/// Longest chunk that is accepted, packed or unpacked. Hadoop writes 256 KiB.
const CHUNK_MAX: usize = 64 << 20;

/// The unpacked bytes of all blocks.
pub(super) struct Blocks<R> {
    input: R,
    /// Unpacked bytes of the block that are still to come.
    block: usize,
    chunk: Vec<u8>,
    at: usize,
    packed: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            block: 0,
            chunk: Vec::new(),
            at: 0,
            packed: Vec::new(),
        }
    }

    /// The next length; `None` where the file ends and `end` allows it.
    fn length(&mut self, end: bool) -> io::Result<Option<usize>> {
        let mut bytes = [0; 4];
        let mut filled = 0;
        while filled < 4 {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 && end => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(u32::from_be_bytes(bytes) as usize))
    }

    /// Unpacks the next chunk; false at the end of the file.
    fn next_chunk(&mut self) -> io::Result<bool> {
        while self.block == 0 {
            match self.length(true)? {
                Some(length) => self.block = length,
                None => return Ok(false),
            }
        }
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let length = self.length(false)?.unwrap_or_default();
        if length > CHUNK_MAX {
            return Err(wrong("a chunk is too long: not Hadoop's snappy"));
        }
        self.packed.resize(length, 0);
        self.input.read_exact(&mut self.packed)?;
        let unpacked = snap::raw::decompress_len(&self.packed)?;
        if unpacked > CHUNK_MAX || unpacked > self.block {
            return Err(wrong("a chunk is longer than its block"));
        }
        self.chunk.resize(unpacked, 0);
        let count = snap::raw::Decoder::new().decompress(&self.packed, &mut self.chunk)?;
        self.chunk.truncate(count);
        self.at = 0;
        self.block -= count;
        Ok(true)
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if !self.next_chunk()? {
                return Ok(0);
            }
        }
        let rest = &self.chunk[self.at..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
