//! Engine keys and write records as TiKV lays them out. A user key is stored as
//! `z ‖ memcomparable(key)`, in the default and write families followed by the inverted timestamp.

use crate::error::{Result, SandboxError};
use thunderhead_codec::mem;
use thunderhead_types::Timestamp;

/// Values up to this long live in the write record itself.
pub(crate) const SHORT_VALUE_MAX: usize = 255;
const DATA_PREFIX: u8 = b'z';

/// `memcomparable(key)`: the form of region borders.
pub(crate) fn encode(key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(mem::encoded_bytes_len(key.len()));
    mem::encode_bytes(&mut encoded, key);
    encoded
}

/// Inverse of [`encode`]; `None` when malformed.
pub(crate) fn decode(mut encoded: &[u8]) -> Option<Vec<u8>> {
    let key = mem::decode_bytes(&mut encoded)?;
    encoded.is_empty().then_some(key)
}

/// Key of the lock family; also the prefix of all versions of `key`.
pub(crate) fn data_key(key: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    data_key_to(&mut to, key);
    to
}

fn data_key_to(to: &mut Vec<u8>, key: &[u8]) {
    to.clear();
    to.reserve(9 + mem::encoded_bytes_len(key.len()));
    to.push(DATA_PREFIX);
    mem::encode_bytes(to, key);
}

/// Key of one version.
pub(crate) fn version_key(key: &[u8], ts: Timestamp) -> Vec<u8> {
    let mut to = Vec::new();
    version_key_to(&mut to, key, ts);
    to
}

/// Like [`version_key`], into a buffer that is used again.
pub(crate) fn version_key_to(to: &mut Vec<u8>, key: &[u8], ts: Timestamp) {
    data_key_to(to, key);
    to.extend_from_slice(&(!ts).to_be_bytes());
}

/// `z ‖ encoded`: where the region that starts at `encoded` starts in the engine; for an empty end of a
/// region pass it through [`data_end`].
pub(crate) fn data_start(encoded: &[u8]) -> Vec<u8> {
    [&[DATA_PREFIX], encoded].concat()
}

/// The engine key at which a region ends.
pub(crate) fn data_end(encoded: &[u8]) -> Vec<u8> {
    if encoded.is_empty() {
        vec![DATA_PREFIX + 1]
    } else {
        data_start(encoded)
    }
}

/// Splits a version key into `z ‖ encoded` and the timestamp.
pub(crate) fn split_version(key: &[u8]) -> Result<(&[u8], Timestamp)> {
    let (data, ts) = key
        .split_last_chunk::<8>()
        .ok_or_else(|| bad("version key"))?;
    Ok((data, !u64::from_be_bytes(*ts)))
}

/// User key of a data key, into a buffer that is used again.
pub(crate) fn user_key_to(to: &mut Vec<u8>, data: &[u8]) -> Result<()> {
    let (prefix, encoded) = data.split_first().ok_or_else(|| bad("data key"))?;
    if *prefix != DATA_PREFIX || encoded.is_empty() || encoded.len() % 9 != 0 {
        return Err(bad("data key"));
    }
    to.clear();
    for group in encoded.chunks_exact(9) {
        let pad = usize::from(0xff - group[8]);
        if pad > 8 {
            return Err(bad("data key"));
        }
        to.extend_from_slice(&group[..8 - pad]);
    }
    Ok(())
}

pub(crate) fn user_key(data: &[u8]) -> Result<Vec<u8>> {
    let mut to = Vec::with_capacity(data.len());
    user_key_to(&mut to, data)?;
    Ok(to)
}

/// What a version did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteKind {
    Put,
    Delete,
    Lock,
    Rollback,
}

impl WriteKind {
    fn tag(self) -> u8 {
        match self {
            WriteKind::Put => b'P',
            WriteKind::Delete => b'D',
            WriteKind::Lock => b'L',
            WriteKind::Rollback => b'R',
        }
    }
}

/// A value of the write family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteRecord<'a> {
    pub kind: WriteKind,
    pub start_ts: Timestamp,
    /// The value, when it is not in the default family.
    pub short_value: Option<&'a [u8]>,
}

impl<'a> WriteRecord<'a> {
    /// Appends the record; `source` marks where the transaction came from, 0 = nowhere special.
    pub(crate) fn encode_to(&self, to: &mut Vec<u8>, source: u64) {
        to.push(self.kind.tag());
        mem::encode_uvarint(to, self.start_ts);
        if let Some(value) = self.short_value {
            to.push(b'v');
            to.push(value.len() as u8);
            to.extend_from_slice(value);
        }
        if source != 0 {
            to.push(b'S');
            mem::encode_uvarint(to, source);
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        self.encode_to(&mut to, 0);
        to
    }

    /// Reads a record; stops at the first optional part that it does not know, as TiKV does.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self> {
        let (tag, mut rest) = bytes.split_first().ok_or_else(|| bad("write record"))?;
        let kind = match tag {
            b'P' => WriteKind::Put,
            b'D' => WriteKind::Delete,
            b'L' => WriteKind::Lock,
            b'R' => WriteKind::Rollback,
            _ => return Err(bad("write record")),
        };
        let start_ts = mem::decode_uvarint(&mut rest).ok_or_else(|| bad("write record"))?;
        let short_value = match rest {
            [b'v', len, value @ ..] => Some(
                value
                    .get(..usize::from(*len))
                    .ok_or_else(|| bad("write record"))?,
            ),
            _ => None,
        };
        Ok(Self {
            kind,
            start_ts,
            short_value,
        })
    }
}

fn bad(what: &str) -> SandboxError {
    SandboxError::Corrupt(format!("malformed {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_row_of_table_104_is_laid_out_as_in_tikv() {
        let ts = 463267587686400005;
        let raw = hex("74 8000000000000068 5F72 8000000000000001");
        let key = version_key(&raw, ts);
        assert_eq!(
            key,
            hex("7A 74 80000000000000FF 685F728000000000FF 0000010000000000FA F99224955FFFFFFA")
        );
        let (data, found) = split_version(&key).unwrap();
        assert_eq!((user_key(data).unwrap(), found), (raw, ts));
        let record = WriteRecord {
            kind: WriteKind::Put,
            start_ts: ts,
            short_value: Some(b"abc"),
        };
        assert_eq!(record.encode(), hex("50 85808080AAEDF6B606 76 03 616263"));
        let mut marked = Vec::new();
        record.encode_to(&mut marked, 1 << 16);
        assert_eq!(marked, hex("50 85808080AAEDF6B606 76 03 616263 53 808004"));
        assert_eq!(WriteRecord::decode(&marked).unwrap(), record);
    }

    #[test]
    fn malformed_keys_and_records_are_errors() {
        for bytes in [&b""[..], b"z", b"z12345678\x01", b"y12345678\xff"] {
            assert!(user_key(bytes).is_err());
        }
        for bytes in [&b""[..], b"X\x01", b"P", b"P\x01v\x05ab"] {
            assert!(WriteRecord::decode(bytes).is_err());
        }
    }
}
