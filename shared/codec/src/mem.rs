//! Memcomparable encoding: bytes whose order is the order of the values (`kv-encoding` calls it "key
//! encoding"). Flags are TiDB's; what is encoded under which flag for which column is decided elsewhere.

/// Flag bytes before encoded datums.
pub mod flags {
    pub const NIL: u8 = 0;
    pub const BYTES: u8 = 1;
    pub const COMPACT_BYTES: u8 = 2;
    pub const INT: u8 = 3;
    pub const UINT: u8 = 4;
    pub const FLOAT: u8 = 5;
    pub const DECIMAL: u8 = 6;
    pub const DURATION: u8 = 7;
    pub const VARINT: u8 = 8;
    pub const UVARINT: u8 = 9;
    pub const JSON: u8 = 10;
    pub const VECTOR: u8 = 20;
    pub const MAX: u8 = 250;
}

const SIGN: u64 = 1 << 63;
const GROUP: usize = 8;

/// `v` so that signed order is byte order.
#[inline]
pub fn comparable_i64(v: i64) -> [u8; 8] {
    ((v as u64) ^ SIGN).to_be_bytes()
}

/// Appends [`comparable_i64`].
#[inline]
pub fn encode_i64(to: &mut Vec<u8>, v: i64) {
    to.extend_from_slice(&comparable_i64(v));
}

/// Appends a flag and eight bytes in one go.
#[inline]
pub(crate) fn put_flagged(to: &mut Vec<u8>, flag: u8, bytes: [u8; 8]) {
    let mut flagged = [flag; 9];
    flagged[1..].copy_from_slice(&bytes);
    to.extend_from_slice(&flagged);
}

#[inline]
pub fn encode_u64(to: &mut Vec<u8>, v: u64) {
    to.extend_from_slice(&v.to_be_bytes());
}

/// `v` as bits whose unsigned order is the order of the numbers; both zeros are equal.
#[inline]
pub fn comparable_f64(v: f64) -> u64 {
    if v >= 0.0 {
        v.to_bits() | SIGN
    } else {
        !v.to_bits()
    }
}

/// Inverse of [`comparable_f64`].
pub fn f64_from_comparable(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN != 0 {
        bits & !SIGN
    } else {
        !bits
    })
}

/// Groups of eight bytes, each followed by `ff` less the number of padding bytes. The last group always
/// has padding, which keeps `a` before `a\0`.
#[inline]
pub fn encode_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.reserve((bytes.len() / GROUP + 1) * (GROUP + 1));
    let mut groups = bytes.chunks_exact(GROUP);
    for group in &mut groups {
        to.extend_from_slice(group);
        to.push(0xff);
    }
    let rest = groups.remainder();
    let mut last = [0u8; GROUP + 1];
    last[..rest.len()].copy_from_slice(rest);
    last[GROUP] = 0xff - (GROUP - rest.len()) as u8;
    to.extend_from_slice(&last);
}

/// Length that [`encode_bytes`] gives `len` bytes.
pub fn encoded_bytes_len(len: usize) -> usize {
    (len / GROUP + 1) * (GROUP + 1)
}

/// Decodes one [`encode_bytes`] value from the front; `None` when it is malformed or cut off.
pub fn decode_bytes(from: &mut &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(from.len());
    loop {
        let group = from.get(..GROUP + 1)?;
        let pad = usize::from(0xff - group[GROUP]);
        if pad > GROUP || group[GROUP - pad..GROUP].iter().any(|b| *b != 0) {
            return None;
        }
        out.extend_from_slice(&group[..GROUP - pad]);
        *from = &from[GROUP + 1..];
        if pad != 0 {
            return Some(out);
        }
    }
}

pub fn decode_u64(from: &mut &[u8]) -> Option<u64> {
    let (head, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(u64::from_be_bytes(*head))
}

pub fn decode_i64(from: &mut &[u8]) -> Option<i64> {
    decode_u64(from).map(|v| (v ^ SIGN) as i64)
}

/// LEB128.
pub fn encode_uvarint(to: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        to.push(v as u8 | 0x80);
        v >>= 7;
    }
    to.push(v as u8);
}

/// Zigzag, then LEB128.
pub fn encode_varint(to: &mut Vec<u8>, v: i64) {
    encode_uvarint(to, ((v << 1) ^ (v >> 63)) as u64);
}

pub fn decode_uvarint(from: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        v |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(v);
        }
    }
    None
}

pub fn decode_varint(from: &mut &[u8]) -> Option<i64> {
    decode_uvarint(from).map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoded_bytes_keep_order_and_come_back(a: Vec<u8>, b: Vec<u8>) {
            let (mut ea, mut eb) = (Vec::new(), Vec::new());
            encode_bytes(&mut ea, &a);
            encode_bytes(&mut eb, &b);
            prop_assert_eq!(ea.cmp(&eb), a.cmp(&b));
            prop_assert_eq!(ea.len(), encoded_bytes_len(a.len()));
            prop_assert_eq!(decode_bytes(&mut ea.as_slice()).unwrap(), a);
        }

        #[test]
        fn encoded_floats_keep_order(a: f64, b: f64) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(Some(comparable_f64(a).cmp(&comparable_f64(b))), a.partial_cmp(&b));
            prop_assert_eq!(f64_from_comparable(comparable_f64(a)), a);
        }

        #[test]
        fn varints_come_back(v: i64) {
            let mut buffer = Vec::new();
            encode_varint(&mut buffer, v);
            prop_assert_eq!(decode_varint(&mut buffer.as_slice()), Some(v));
        }
    }

    #[test]
    fn zeros_are_equal() {
        assert_eq!(comparable_f64(-0.0), comparable_f64(0.0));
    }
}
