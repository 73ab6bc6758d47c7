//! Every packing, whole, in several parts, entered in the middle, damaged and cut off.
#![allow(clippy::unwrap_used)]

use super::*;
use std::io::Write;
use std::sync::{Condvar, Mutex};

/// A file in memory.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl ByteSource for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::default())
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.0.len() as u64))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(io::Cursor::new(
            self.0[offset as usize..].to_vec(),
        )))
    }
}

/// Text that packs a little, longer than the buffers.
fn text() -> Vec<u8> {
    let mut state = 7u32;
    let mut text = Vec::new();
    while text.len() < 3 << 20 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("{},row {}\n", state, state % 97).as_bytes());
    }
    text
}

fn hadoop(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in data.chunks(256 << 10) {
        out.extend((block.len() as u32).to_be_bytes());
        for chunk in block.chunks(100 << 10) {
            let packed = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
            out.extend((packed.len() as u32).to_be_bytes());
            out.extend(packed);
        }
    }
    out
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn framed_snappy(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.into_inner().unwrap()
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; zstd_safe::compress_bound(data.len())];
    let length = zstd_safe::compress(&mut packed[..], data, 1).unwrap();
    packed.truncate(length);
    packed
}

type Pack = fn(&[u8]) -> Vec<u8>;

const PACKERS: [(Compression, Pack); 7] = [
    (Compression::Gzip, gzip),
    (Compression::Zstd, zstd),
    (Compression::Snappy, framed_snappy),
    (Compression::Snappy, hadoop),
    (Compression::Lz4, lz4),
    (Compression::Xz, xz),
    (Compression::Bzip2, bzip2),
];

fn read(packed: Vec<u8>, named: Compression, offset: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    unpacked_from(Arc::new(Memory(packed)), named, None)
        .open(offset)?
        .read_to_end(&mut all)?;
    Ok(all)
}

#[test]
fn every_packing_reads_as_what_was_packed_in_one_part_or_several() {
    let text = text();
    let (first, second) = text.split_at(text.len() / 3);
    for (packing, pack) in PACKERS {
        assert_eq!(read(pack(&text), packing, 0).unwrap(), text, "{packing:?}");
        let parts = [pack(first), pack(second)].concat();
        assert!(
            read(parts, packing, 0).unwrap() == text,
            "{packing:?} in parts"
        );
        let tail = read(pack(&text), packing, 1_000_001).unwrap();
        assert!(tail == text[1_000_001..], "{packing:?} from the middle");
        assert_eq!(
            read(pack(b""), packing, 0).unwrap(),
            b"",
            "{packing:?} empty"
        );
    }
}

#[test]
fn the_content_tells_the_packing_where_the_name_does_not() {
    for (packing, pack) in PACKERS {
        let packed = pack(b"a,b\n");
        match packing_of(&packed) {
            Some(found) => assert_eq!(found, packing),
            // Hadoop's blocks start with a length.
            None => assert_eq!(packing, Compression::Snappy),
        }
    }
    assert_eq!(packing_of(b"BZhang,1\n"), None);
    assert_eq!(packing_of(b"1,2\n"), None);
    let named_wrong = read(gzip(b"a,b\n"), Compression::None, 0).unwrap();
    assert_eq!(named_wrong, b"a,b\n");
}

#[test]
fn what_is_cut_off_is_an_error_and_never_a_short_read() {
    let text = text();
    for (packing, pack) in PACKERS {
        let packed = pack(&text);
        for cut in [packed.len() / 2, packed.len() - 1] {
            let error = read(packed[..cut].to_vec(), packing, 0).err();
            let message = error.map_or_else(String::new, |e| e.to_string());
            assert!(
                message.contains("packed byte") && message.contains(packing.name()),
                "{packing:?} at {cut}: {message}"
            );
        }
    }
}

#[test]
fn damaged_bytes_are_an_error_where_the_format_has_checksums() {
    let text = text();
    for (packing, pack) in PACKERS {
        let mut packed = pack(&text);
        let at = packed.len() / 2;
        packed[at] ^= 0x40;
        // zstd's and lz4's defaults carry no checksum of the content: the text may differ, it may not panic.
        if let Ok(read) = read(packed, packing, 0) {
            assert!(
                matches!(packing, Compression::Zstd | Compression::Lz4)
                    || (packing, read.len()) == (Compression::Snappy, text.len()),
                "{packing:?} gave damaged bytes"
            );
        }
    }
}

#[test]
fn an_offset_behind_the_end_is_an_error() {
    let error = read(gzip(b"abc"), Compression::Gzip, 4).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// BGZF: gzip members of at most 64 KiB that say their length, and an empty one at the end.
fn bgzf(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in data.chunks(60_000).chain([&b""[..]]) {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(block).unwrap();
        let packed = encoder.finish().unwrap();
        out.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);
        // Another field before the one that counts.
        out.extend([11, 0, b'X', b'Y', 1, 0, 7, b'B', b'C', 2, 0]);
        out.extend(((12 + 11 + packed.len() + 8 - 1) as u16).to_le_bytes());
        out.extend(packed);
        let mut crc = flate2::Crc::new();
        crc.update(block);
        out.extend(crc.sum().to_le_bytes());
        out.extend((block.len() as u32).to_le_bytes());
    }
    out
}

/// Frames that do not say their size, each behind a frame to skip, as `pzstd` writes them.
fn pzstd(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in data.chunks(700_000) {
        let mut context = zstd_safe::CCtx::create();
        let no_size = zstd_safe::CParameter::ContentSizeFlag(false);
        context.set_parameter(no_size).unwrap();
        let check = zstd_safe::CParameter::ChecksumFlag(true);
        context.set_parameter(check).unwrap();
        let mut packed = vec![0; zstd_safe::compress_bound(part.len())];
        let length = context.compress2(&mut packed[..], part).unwrap();
        out.extend([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]);
        out.extend((length as u32).to_le_bytes());
        out.extend(&packed[..length]);
    }
    out
}

fn frames(data: &[u8]) -> Vec<u8> {
    data.chunks(500_000).flat_map(zstd).collect()
}

const IN_PARTS: [(Compression, Pack); 3] = [
    (Compression::Gzip, bgzf),
    (Compression::Zstd, frames),
    (Compression::Zstd, pzstd),
];

#[test]
fn a_file_of_parts_is_entered_at_any_byte() {
    let text = text();
    for (packing, pack) in IN_PARTS {
        let packed = pack(&text);
        let source = unpacked_from(Arc::new(Memory(packed.clone())), packing, None);
        assert!(source.seekable(), "{packing:?}");
        assert_eq!(source.size().unwrap(), Some(text.len() as u64));
        let mut entered = 0;
        for offset in [
            0,
            1,
            699_999,
            700_000,
            1_500_001,
            text.len() - 1,
            text.len(),
        ] {
            let entry = source.entry(offset as u64).unwrap();
            assert!(entry.unpacked <= offset as u64);
            entered = entered.max(entry.stored);
            // Once by the file's own parts, once by what a plan says of them.
            let planned = unpacked_from(Arc::new(Memory(packed.clone())), packing, Some(entry));
            for source in [&source, &planned] {
                let mut tail = Vec::new();
                let mut stream = source.open(offset as u64).unwrap();
                stream.read_to_end(&mut tail).unwrap();
                assert!(tail == text[offset..], "{packing:?} from {offset}");
            }
        }
        assert!(entered > packed.len() as u64 / 2, "{packing:?}: {entered}");
    }
}

#[test]
fn a_file_that_is_no_chain_of_parts_is_read_in_one_piece() {
    let text = text();
    for (packing, pack) in PACKERS {
        let source = unpacked_from(Arc::new(Memory(pack(&text))), packing, None);
        assert_eq!((source.seekable(), source.size().unwrap()), (false, None));
    }
    for (packing, pack) in IN_PARTS {
        let mut packed = pack(&text);
        packed.truncate(packed.len() - 3);
        let source = unpacked_from(Arc::new(Memory(packed.clone())), packing, None);
        assert!(!source.seekable(), "{packing:?}");
        assert!(read(packed, packing, 0).is_err(), "{packing:?}");
    }
}

#[test]
fn a_size_that_no_frame_can_have_plans_nothing() {
    let text = text();
    let mut packed = frames(&text);
    // A frame of 8 EiB, as its header says.
    packed.extend([
        0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0,
    ]);
    let source = unpacked_from(Arc::new(Memory(packed.clone())), Compression::Zstd, None);
    assert_eq!((source.seekable(), source.size().unwrap()), (false, None));
    assert!(read(packed, Compression::Zstd, 0).is_err());
}

#[test]
fn chunks_of_a_packed_file_give_the_records_of_the_plain_one() {
    let text = text();
    let dialect = crate::CsvDialect {
        header: false,
        ..crate::CsvDialect::default()
    };
    let plan = |source: &dyn ByteSource| {
        crate::plan_chunks(source, &dialect, 400_000, crate::SplitPolicy::Scan).unwrap()
    };
    let expected = plan(&Memory(text.clone()));
    assert!(expected.len() > 5);
    for (packing, pack) in IN_PARTS {
        let packed = Arc::new(Memory(pack(&text)));
        assert_eq!(plan(&*unpacked_from(packed, packing, None)), expected);
    }
}

/// A file of which all but the first bytes come only while so many others are read at the same time.
#[derive(Debug)]
struct Together {
    bytes: Vec<u8>,
    readers: Arc<(Mutex<usize>, Condvar)>,
    wanted: usize,
}

struct TogetherStream {
    bytes: io::Cursor<Vec<u8>>,
    reads: usize,
    readers: Arc<(Mutex<usize>, Condvar)>,
    wanted: usize,
}

impl ByteSource for Together {
    fn name(&self) -> &str {
        "together"
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::default())
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.bytes.len() as u64))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, _offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(TogetherStream {
            bytes: io::Cursor::new(self.bytes.clone()),
            reads: 0,
            readers: Arc::clone(&self.readers),
            wanted: self.wanted,
        }))
    }
}

impl Read for TogetherStream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        // Whoever opens the file reads its header.
        if self.reads == 2 {
            let (readers, changed) = &*self.readers;
            let mut here = readers.lock().unwrap();
            *here += 1;
            changed.notify_all();
            let limit = std::time::Duration::from_secs(30);
            let wanted = self.wanted;
            here = changed
                .wait_timeout_while(here, limit, |here| *here < wanted)
                .unwrap()
                .0;
            if *here < wanted {
                return Err(io::Error::other(format!("{here} files are read at a time")));
            }
        }
        let few = to.len().min(16 << 10);
        self.bytes.read(&mut to[..few])
    }
}

#[test]
fn files_are_unpacked_side_by_side_and_ahead_of_who_reads_them() {
    let (text, wanted) = (text(), 4);
    let readers = Arc::new((Mutex::new(0), Condvar::new()));
    // Nobody reads any of them before all are under way.
    let mut streams: Vec<ByteStream> = (0..wanted)
        .map(|_| {
            let file = Together {
                bytes: gzip(&text),
                readers: Arc::clone(&readers),
                wanted,
            };
            unpacked(Arc::new(file), Compression::Gzip).open(0).unwrap()
        })
        .collect();
    for stream in &mut streams {
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert!(read == text);
    }
}
