//! Files packed in parts that unpack on their own: BGZF, whose gzip members say their length, and zstd files
//! of several frames. Owns finding where parts begin, packed and unpacked; with that a packed file can be
//! entered near any byte, so that it is cut into chunks and unpacked by many threads like a plain one.
//!
//! 1. A walk over the headers finds the parts without unpacking them. What is wrong with a file is not said
//!    here: a file that cannot be walked is read in one piece, and its reader names the error.
//! 2. Where frames do not say how much they unpack to (`pzstd`), they are unpacked once, in parallel, and
//!    counted.
//!
//! Sources: RFC 1952, the BGZF part of the SAM specification, RFC 8878.

use std::io::{self, BufRead, BufReader, Read};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use thunderhead_config::Compression;

use super::limits::allowed;
use super::zstd::Frames;
use crate::bytes::{ByteSource, ByteStream, Entry};

/// A smaller file is one chunk anyway.
const STORED_MIN: u64 = 1 << 20;
/// The walk gives up at a part that is longer: the file is hardly one of many parts.
const PART_STORED_MAX: u64 = 256 << 20;
/// Of parts closer than this, the first is kept. BGZF has parts of 64 KiB.
const STEP: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;

/// Where the parts of a file begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Ascending; the first is the start of the file.
    starts: Vec<Entry>,
    /// Bytes of the whole file, unpacked.
    pub unpacked: u64,
}

impl Parts {
    /// The last start at or before byte `offset` of the unpacked file.
    pub(super) fn before(&self, offset: u64) -> Entry {
        let after = self.starts.partition_point(|s| s.unpacked <= offset);
        self.starts[after.saturating_sub(1)]
    }
}

/// A part as it is stored; `unpacked` where it says so itself.
struct Part {
    start: u64,
    end: u64,
    unpacked: Option<u64>,
}

/// The parts of `source`; `None` for a file that is not made of several.
pub(super) fn parts_of(source: &dyn ByteSource, packing: Compression) -> io::Result<Option<Parts>> {
    if source.size()?.is_none_or(|size| size < STORED_MIN) {
        return Ok(None);
    }
    let next = match packing {
        Compression::Gzip => Walk::member,
        Compression::Zstd => Walk::frame,
        _ => return Ok(None),
    };
    let mut walk = Walk {
        stream: BufReader::with_capacity(BUFFER, source.open(0)?),
        at: 0,
    };
    let mut parts: Vec<Part> = Vec::new();
    while !walk.stream.fill_buf()?.is_empty() {
        let start = walk.at;
        let Some(unpacked) = next(&mut walk)? else {
            return Ok(None);
        };
        let (end, size) = (walk.at, unpacked.size());
        match parts.last_mut() {
            // Memory: a list of steps and not of blocks.
            Some(last) if size.is_some() && last.unpacked.is_some_and(|sum| sum < STEP) => {
                last.end = end;
                let sum = last.unpacked.zip(size);
                last.unpacked = sum.map(|(sum, more)| sum.saturating_add(more));
            }
            _ => parts.push(Part {
                start,
                end,
                unpacked: size,
            }),
        }
    }
    if parts.len() < 2 {
        return Ok(None);
    }
    count_unknown(source, &mut parts)?;
    let mut unpacked = 0;
    let mut starts = Vec::with_capacity(parts.len());
    for part in parts {
        starts.push(Entry {
            stored: part.start,
            unpacked,
        });
        unpacked = unpacked.saturating_add(part.unpacked.unwrap_or(0));
    }
    // What headers promise beyond this, nobody plans with: reading stops such a file with its error.
    if unpacked > allowed(walk.at) {
        return Ok(None);
    }
    Ok(Some(Parts { starts, unpacked }))
}

/// Unpacks the frames that do not say their size, several at a time.
fn count_unknown(source: &dyn ByteSource, parts: &mut [Part]) -> io::Result<()> {
    let unknown: Vec<&mut Part> = parts.iter_mut().filter(|p| p.unpacked.is_none()).collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(unknown.len());
    let next = AtomicUsize::new(0);
    let unknown: Vec<Mutex<&mut Part>> = unknown.into_iter().map(Mutex::new).collect();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(part) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut part = part.lock().unwrap_or_else(|e| e.into_inner());
                let stored = source.open(part.start)?.take(part.end - part.start);
                let mut frame = Frames::new(BufReader::with_capacity(BUFFER, stored))?;
                part.unpacked = Some(io::copy(&mut frame, &mut io::sink())?);
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended: Vec<io::Result<()>> = workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        ended.into_iter().collect()
    })
}

/// What a part says it unpacks to.
enum Size {
    Said(u64),
    Unsaid,
}

impl Size {
    fn size(&self) -> Option<u64> {
        match self {
            Size::Said(size) => Some(*size),
            Size::Unsaid => None,
        }
    }
}

/// Over the headers of a packed file.
struct Walk {
    stream: BufReader<ByteStream>,
    at: u64,
}

impl Walk {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.stream.by_ref().take(count), &mut io::sink())?;
        self.at += skipped;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A gzip member with BGZF's extra field; `None` for another one.
    fn member(&mut self) -> io::Result<Option<Size>> {
        const HAS_EXTRA: u8 = 4;
        const TRAILER: u64 = 8;
        let start = self.at;
        let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, low, high] = self.take::<12>()? else {
            return Ok(None);
        };
        if flags & HAS_EXTRA == 0 {
            return Ok(None);
        }
        let mut extra = vec![0; usize::from(u16::from_le_bytes([low, high]))];
        self.stream.read_exact(&mut extra)?;
        self.at += extra.len() as u64;
        let Some(length) = bgzf_length(&extra) else {
            return Ok(None);
        };
        let end = start + length;
        if end < self.at + TRAILER {
            return Ok(None);
        }
        self.skip(end - self.at - 4)?;
        let unpacked = u32::from_le_bytes(self.take()?);
        Ok(Some(Size::Said(unpacked.into())))
    }

    /// A zstd frame or a skippable one; `None` for anything else.
    fn frame(&mut self) -> io::Result<Option<Size>> {
        let start = self.at;
        match u32::from_le_bytes(self.take()?) {
            0xfd2f_b528 => {}
            0x184d_2a50..=0x184d_2a5f => {
                let length = u32::from_le_bytes(self.take()?);
                self.skip(length.into())?;
                return Ok(Some(Size::Said(0)));
            }
            _ => return Ok(None),
        }
        let [descriptor] = self.take()?;
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        self.skip(u64::from(!single) + dictionary)?;
        let size = match descriptor >> 6 {
            0 if !single => Size::Unsaid,
            0 => Size::Said(self.take::<1>()?[0].into()),
            1 => Size::Said(u64::from(u16::from_le_bytes(self.take()?)) + 256),
            2 => Size::Said(u32::from_le_bytes(self.take()?).into()),
            _ => Size::Said(u64::from_le_bytes(self.take()?)),
        };
        loop {
            let [a, b, c] = self.take()?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            let (last, kind, length) = (header & 1 != 0, header >> 1 & 3, header >> 3);
            match kind {
                // A byte, repeated.
                1 => self.skip(1)?,
                0 | 2 => self.skip(length.into())?,
                _ => return Ok(None),
            }
            if self.at - start > PART_STORED_MAX {
                return Ok(None);
            }
            if last {
                break;
            }
        }
        let checksum = descriptor & 4 != 0;
        self.skip(if checksum { 4 } else { 0 })?;
        Ok(Some(size))
    }
}

/// Bytes of a member, from its extra field.
fn bgzf_length(mut extra: &[u8]) -> Option<u64> {
    while let [a, b, low, high, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let data = rest.get(..length)?;
        if let ([b'B', b'C'], [low, high]) = ([*a, *b], data) {
            return Some(u64::from(u16::from_le_bytes([*low, *high])) + 1);
        }
        extra = &rest[length..];
    }
    None
}
