//! TiKV's layout of transactional data: engine keys `z ‖ memcomparable(user key) ‖ !timestamp` and
//! write records `P ‖ varint(start_ts) ‖ v ‖ length ‖ short value ‖ S ‖ varint(source)`.

use thunderhead_codec::mem;
use thunderhead_types::Timestamp;

/// Values up to this long stand in the write record itself.
pub const SHORT_VALUE_MAX: usize = 255;

const DATA_PREFIX: u8 = b'z';
const GROUP: usize = 9;
/// The prefix, one group, a timestamp.
const ENGINE_KEY_MIN: usize = 1 + GROUP + 8;

/// Replaces `to` by the engine key of a version.
#[inline]
pub(crate) fn engine_key_to(to: &mut Vec<u8>, user_key: &[u8], ts: Timestamp) {
    to.clear();
    to.push(DATA_PREFIX);
    mem::encode_bytes(to, user_key);
    to.extend_from_slice(&(!ts).to_be_bytes());
}

/// The first engine key at or after every version of `user_key` and of what follows it.
pub(crate) fn start_border(user_key: &[u8]) -> Vec<u8> {
    let mut to = vec![DATA_PREFIX];
    if !user_key.is_empty() {
        mem::encode_bytes(&mut to, user_key);
    }
    to
}

/// The first engine key after a range that ends before `user_key`; empty = no bound.
pub(crate) fn end_border(user_key: &[u8]) -> Vec<u8> {
    if user_key.is_empty() {
        vec![DATA_PREFIX + 1]
    } else {
        start_border(user_key)
    }
}

/// Whether `key` can be an engine key with a timestamp, by its length and prefix.
#[inline]
pub(crate) fn looks_like_engine_key(key: &[u8]) -> bool {
    key.len() >= ENGINE_KEY_MIN && key[0] == DATA_PREFIX
}

/// Splits an engine key into `z ‖ encoded` and the timestamp.
#[inline]
pub(crate) fn split_ts(key: &[u8]) -> Option<(&[u8], Timestamp)> {
    let (data, ts) = key.split_last_chunk::<8>()?;
    Some((data, !u64::from_be_bytes(*ts)))
}

/// Whether `data` is `z` and one well-formed memcomparable key.
pub(crate) fn is_data_key(data: &[u8]) -> bool {
    let Some((&DATA_PREFIX, encoded)) = data.split_first() else {
        return false;
    };
    if encoded.is_empty() || !encoded.len().is_multiple_of(GROUP) {
        return false;
    }
    let (head, last) = encoded.split_at(encoded.len() - GROUP);
    let pad = usize::from(0xff - last[GROUP - 1]);
    head.chunks_exact(GROUP)
        .all(|group| group[GROUP - 1] == 0xff)
        && (1..GROUP).contains(&pad)
        && last[GROUP - 1 - pad..GROUP - 1].iter().all(|b| *b == 0)
}

/// Replaces `to` by the record of a put. Without a short value the value is in the default family.
#[inline]
pub(crate) fn put_record_to(
    to: &mut Vec<u8>,
    start_ts: Timestamp,
    short_value: Option<&[u8]>,
    source: u64,
) {
    to.clear();
    to.push(b'P');
    mem::encode_uvarint(to, start_ts);
    if let Some(value) = short_value {
        to.push(b'v');
        to.push(value.len() as u8);
        to.extend_from_slice(value);
    }
    if source != 0 {
        to.push(b'S');
        mem::encode_uvarint(to, source);
    }
}

/// A record of the write family as far as an import makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutRecord {
    pub start_ts: Timestamp,
    /// Whether the value is in the default family.
    pub long: bool,
}

/// Reads a record of a put, to its last byte; `None` when it is anything else.
pub(crate) fn parse_put(record: &[u8]) -> Option<PutRecord> {
    let mut rest = record.strip_prefix(b"P")?;
    let start_ts = mem::decode_uvarint(&mut rest)?;
    let mut long = true;
    if let [b'v', len, value @ ..] = rest {
        rest = value.get(usize::from(*len)..)?;
        long = false;
    }
    if let [b'S', source @ ..] = rest {
        rest = source;
        mem::decode_uvarint(&mut rest)?;
    }
    rest.is_empty().then_some(PutRecord { start_ts, long })
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
        let mut key = Vec::new();
        engine_key_to(&mut key, &raw, ts);
        let expected =
            "7A 74 80000000000000FF 685F728000000000FF 0000010000000000FA F99224955FFFFFFA";
        assert_eq!(key, hex(expected));
        let (data, found) = split_ts(&key).unwrap();
        assert!(is_data_key(data) && found == ts && looks_like_engine_key(&key));
        let mut record = Vec::new();
        put_record_to(&mut record, ts, Some(b"abc"), 1 << 16);
        assert_eq!(record, hex("50 85808080AAEDF6B606 76 03 616263 53 808004"));
        let parsed = parse_put(&record).unwrap();
        assert!(parsed.start_ts == ts && !parsed.long);
        put_record_to(&mut record, ts, None, 0);
        assert!(parse_put(&record).unwrap().long);
    }

    #[test]
    fn malformed_keys_and_records_are_seen() {
        for data in [
            &b""[..],
            b"z",
            b"z12345678\x01",
            b"y12345678\xfe",
            b"z12345678\xff",
            b"z1234567x\xfe",
        ] {
            assert!(!is_data_key(data), "{data:?}");
        }
        assert!(is_data_key(b"z1234567\0\xfe"));
        for record in [
            &b""[..],
            b"D\x01",
            b"P",
            b"P\x01v\x05ab",
            b"P\x01x",
            b"P\x01S",
        ] {
            assert_eq!(parse_put(record), None, "{record:?}");
        }
    }
}
