//! The parts of the file format that writer and reader share: varints, block handles, block trailers
//! and the footer.

use crate::error::{Result, SstError};
use thunderhead_codec::mem;

pub(crate) const FORMAT_VERSION: u32 = 5;
const MAGIC: u64 = 0x88E2_41B7_85F4_CFF7;
/// Of checksums: CRC-32C.
const CRC32C: u8 = 1;
pub(crate) const FOOTER_BYTES: usize = 53;
/// Compression type and checksum.
pub(crate) const TRAILER_BYTES: usize = 5;
/// Sequence number 0, type "value": the suffix of every key in a data block.
pub(crate) const KEY_SUFFIX: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

/// A block may hold at most this much; more than any entry that TiDB lets in (120 MiB).
pub(crate) const BLOCK_BYTES_MAX: usize = 256 << 20;

#[inline]
pub(crate) fn put_varint(to: &mut Vec<u8>, value: usize) {
    mem::encode_uvarint(to, value as u64);
}

#[inline]
pub(crate) fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// A varint of at most 32 bits, as all lengths in a block are.
#[inline]
pub(crate) fn get_varint32(from: &mut &[u8]) -> Option<usize> {
    if let [byte, rest @ ..] = from
        && *byte < 0x80
    {
        *from = rest;
        return Some(usize::from(*byte));
    }
    let value = mem::decode_uvarint(from)?;
    u32::try_from(value).ok().map(|value| value as usize)
}

/// CRC-32C of a block and its compression type as it stands in the file. The rotation and the constant
/// keep a checksum of data that holds checksums from being weak.
#[inline]
pub(crate) fn masked_crc(block_and_type: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block_and_type) as u32;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Where a block lies; its trailer follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handle {
    pub offset: u64,
    pub size: u64,
}

impl Handle {
    pub(crate) fn encode_to(self, to: &mut Vec<u8>) {
        mem::encode_uvarint(to, self.offset);
        mem::encode_uvarint(to, self.size);
    }

    pub(crate) fn decode(from: &mut &[u8]) -> Option<Self> {
        let handle = Self {
            offset: mem::decode_uvarint(from)?,
            size: mem::decode_uvarint(from)?,
        };
        handle.end()?;
        Some(handle)
    }

    /// First byte after the block and its trailer.
    pub(crate) fn end(self) -> Option<u64> {
        self.offset
            .checked_add(self.size)?
            .checked_add(TRAILER_BYTES as u64)
    }
}

/// The last bytes of the file.
pub(crate) fn footer(metaindex: Handle, index: Handle) -> Vec<u8> {
    let mut to = Vec::with_capacity(FOOTER_BYTES);
    to.push(CRC32C);
    metaindex.encode_to(&mut to);
    index.encode_to(&mut to);
    to.resize(41, 0);
    to.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    to.extend_from_slice(&MAGIC.to_le_bytes());
    to
}

/// What the footer of a file of `file_bytes` says: metaindex and index.
pub(crate) fn parse_footer(bytes: &[u8; FOOTER_BYTES], at: u64) -> Result<(Handle, Handle)> {
    let bad = |what| SstError::corrupt(what, at);
    let (head, magic) = bytes.split_last_chunk::<8>().ok_or(bad("footer"))?;
    let (handles, version) = head.split_last_chunk::<4>().ok_or(bad("footer"))?;
    if u64::from_le_bytes(*magic) != MAGIC {
        return Err(bad("not a block-based table"));
    }
    if u32::from_le_bytes(*version) != FORMAT_VERSION {
        return Err(bad("format version is not 5"));
    }
    if handles.first() != Some(&CRC32C) {
        return Err(bad("checksum type is not CRC-32C"));
    }
    let mut rest = handles.get(1..).unwrap_or_default();
    let metaindex = Handle::decode(&mut rest).ok_or(bad("metaindex handle"))?;
    let index = Handle::decode(&mut rest).ok_or(bad("index handle"))?;
    // Nothing guards the footer but this: zeros that pad it, numbers in their shortest form.
    if footer(metaindex, index) != bytes {
        return Err(bad("footer"));
    }
    if metaindex.end() != Some(at) {
        return Err(bad("the metaindex does not end at the footer"));
    }
    Ok((metaindex, index))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_masked_checksum_is_rocksdbs() {
        // CRC-32C of "123456789" is e3069283.
        let expected = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), expected);
    }

    #[test]
    fn varint_lengths_are_those_of_the_encoding() {
        for value in [0, 1, 127, 128, 16383, 16384, 1 << 21, u32::MAX as usize] {
            let mut to = Vec::new();
            put_varint(&mut to, value);
            assert_eq!(to.len(), varint_len(value));
            assert_eq!(get_varint32(&mut &to[..]), Some(value));
        }
    }

    #[test]
    fn a_footer_comes_back() {
        let index = Handle {
            offset: 1 << 40,
            size: 77,
        };
        let metaindex = Handle {
            offset: 900,
            size: 95,
        };
        let bytes: [u8; FOOTER_BYTES] = footer(metaindex, index).try_into().unwrap();
        assert_eq!(parse_footer(&bytes, 1000).unwrap(), (metaindex, index));
        assert!(parse_footer(&bytes, 1001).is_err());
    }
}
