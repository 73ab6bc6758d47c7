//! Packed files: a [`ByteSource`] that gives out the unpacked bytes of another one. Owns which packings
//! there are and how they are recognised, the thread that unpacks ahead of the reader, and the limits that
//! stop a file which unpacks to more than it could honestly hold. The formats themselves are libraries, but
//! for Hadoop's framing of snappy.

mod ahead;
mod hadoop;
mod limits;
mod parts;
mod zstd;

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use thunderhead_config::Compression;

use crate::bytes::{ByteSource, ByteStream, Entry, Identity};
use ahead::Ahead;
use limits::Limited;
pub(crate) use limits::allowed as unpacked_max;
use parts::{Parts, parts_of};

/// What is read at a time from the packed file.
const STORED_BUFFER: usize = 256 << 10;
/// Memory that unpacking xz may take: its largest preset needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// Enough of a file to know its packing.
const MAGIC_BYTES: usize = 10;

/// First bytes of what each packing writes. Sources: RFC 1952, RFC 8878, the framing formats of snappy and
/// lz4, the xz file format, bzip2's `compress.c`.
const MAGIC: [(&[u8], Compression); 6] = [
    (&[0x1f, 0x8b, 8], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (b"\xff\x06\0\0sNaPpY", Compression::Snappy),
    (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
    (b"\xfd7zXZ\0", Compression::Xz),
    (b"BZh", Compression::Bzip2),
];

/// What `head`, the start of a file, says it is packed with.
pub fn packing_of(head: &[u8]) -> Option<Compression> {
    let (magic, packing) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic))?;
    // Text may begin with "BZh": the level and the first block's mark have to follow.
    let sure = *packing != Compression::Bzip2
        || head.get(magic.len()).is_some_and(u8::is_ascii_digit)
            && matches!(head.get(4..MAGIC_BYTES), Some(b"1AY&SY" | b"\x17rE8P\x90"));
    sure.then_some(*packing)
}

/// `source` as it reads unpacked. What the first bytes say is believed before `named`, what the file's name
/// says; with neither it is read as it is. A file that cannot be opened is left to its reader.
pub fn unpacked(source: Arc<dyn ByteSource>, named: Compression) -> Arc<dyn ByteSource> {
    unpacked_from(source, named, None)
}

/// The same for a reader of one chunk, which begins at or behind `entry`: the file is read from there on and not
/// looked through for its parts.
pub fn unpacked_from(
    source: Arc<dyn ByteSource>,
    named: Compression,
    entry: Option<Entry>,
) -> Arc<dyn ByteSource> {
    let found = head_of(&*source).and_then(|head| packing_of(&head));
    match found.unwrap_or(named) {
        Compression::None => source,
        packing => Arc::new(Packed {
            source,
            packing,
            entry,
            parts: OnceLock::new(),
        }),
    }
}

fn head_of(source: &dyn ByteSource) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let stream = source.open_narrow(0).ok()?;
    stream
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut head)
        .ok()?;
    Some(head)
}

/// A packed file.
#[derive(Debug)]
struct Packed {
    source: Arc<dyn ByteSource>,
    packing: Compression,
    /// A place to enter it, known from its plan.
    entry: Option<Entry>,
    /// Its parts, once somebody asked for them.
    parts: OnceLock<Option<Parts>>,
}

impl Packed {
    fn parts(&self) -> Option<&Parts> {
        if self.entry.is_some() {
            return None;
        }
        let find = || parts_of(&*self.source, self.packing).ok().flatten();
        self.parts.get_or_init(find).as_ref()
    }

    /// Where to begin to unpack for byte `offset`.
    fn start(&self, offset: u64) -> Entry {
        let planned = self.entry.filter(|entry| entry.unpacked <= offset);
        // The start of a file needs no search.
        let found = || self.parts().map(|parts| parts.before(offset));
        match planned {
            None if offset > 0 => found().unwrap_or_default(),
            planned => planned.unwrap_or_default(),
        }
    }
}

impl ByteSource for Packed {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.source.identity()
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(self.parts().map(|parts| parts.unpacked))
    }

    fn seekable(&self) -> bool {
        self.parts().is_some()
    }

    fn entry(&self, offset: u64) -> Option<Entry> {
        self.parts().map(|parts| parts.before(offset))
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let start = self.start(offset);
        let stored = Arc::new(AtomicU64::new(start.stored));
        let counted = Counted {
            stream: self.source.open(start.stored)?,
            read: Arc::clone(&stored),
        };
        let input = BufReader::with_capacity(STORED_BUFFER, counted);
        let unpacked = Limited::new(decoder(self.packing, input)?, self.packing, stored, start);
        let mut ahead = Ahead::start(unpacked)?;
        let wanted = offset - start.unpacked;
        let skipped = io::copy(&mut (&mut ahead).take(wanted), &mut io::sink())?;
        if skipped < wanted {
            let size = start.unpacked + skipped;
            let short = format!("the file unpacks to {size} bytes and not to {offset}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
        }
        Ok(Box::new(ahead))
    }
}

type Input = BufReader<Counted>;

fn decoder(packing: Compression, mut input: Input) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Frames::new(input)?),
        Compression::Snappy => match packing_of(input.fill_buf()?) {
            Some(Compression::Snappy) => Box::new(snap::read::FrameDecoder::new(input)),
            _ => Box::new(hadoop::Blocks::new(input)),
        },
        Compression::Lz4 => Box::new(Frames::new(input)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            input,
            true,
            XZ_MEMORY_KIB,
        )),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
    })
}

/// Counts the packed bytes for messages and limits.
struct Counted {
    stream: ByteStream,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(to)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// All frames of an lz4 file. The library stops after each frame, and takes the end of the file for the end
/// of a frame; so the end is an error for it, and is looked for between frames only.
struct Frames {
    frame: lz4_flex::frame::FrameDecoder<NoEnd>,
    between: bool,
}

impl Frames {
    fn new(input: Input) -> Self {
        Self {
            frame: lz4_flex::frame::FrameDecoder::new(NoEnd(input)),
            between: true,
        }
    }
}

impl Read for Frames {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.between && self.frame.get_mut().0.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let count = self.frame.read(to)?;
            if count > 0 || to.is_empty() {
                self.between = false;
                return Ok(count);
            }
            self.between = true;
        }
    }
}

/// Bytes whose end is an error.
struct NoEnd(Input);

impl Read for NoEnd {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 if !to.is_empty() => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file ends inside a frame",
            )),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests;
