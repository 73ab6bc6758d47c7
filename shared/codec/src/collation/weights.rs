//! Weights per code point, unpacked once from the tables in `data/` (how those are made and read stands in
//! `data/README.md`), and the rules for code points beyond them.

use std::sync::OnceLock;

/// Where a code point's key lies: `offset << LEN_BITS | length` into the pool.
type Entry = u32;
const LEN_BITS: u32 = 5;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;

/// What code points beyond the table weigh.
enum Beyond {
    /// All the same.
    Fixed(&'static [u8]),
    /// UCA's implicit weights: `FBC0 + (c >> 15)`, `(c & 7FFF) | 8000`.
    Implicit,
}

/// One collation's weights.
pub struct Weights {
    entries: Vec<Entry>,
    pool: Vec<u8>,
    beyond: Beyond,
}

pub fn general_ci() -> &'static Weights {
    static TABLE: OnceLock<Weights> = OnceLock::new();
    let packed = include_bytes!("../../data/utf8mb4_general_ci.bin");
    TABLE.get_or_init(|| Weights::unpack(packed, Beyond::Fixed(&[0xff, 0xfd])))
}

pub fn unicode_ci() -> &'static Weights {
    static TABLE: OnceLock<Weights> = OnceLock::new();
    let packed = include_bytes!("../../data/utf8mb4_unicode_ci.bin");
    TABLE.get_or_init(|| Weights::unpack(packed, Beyond::Fixed(&[0xff, 0xfd])))
}

pub fn uca_0900() -> &'static Weights {
    static TABLE: OnceLock<Weights> = OnceLock::new();
    let packed = include_bytes!("../../data/utf8mb4_0900_ai_ci.bin");
    TABLE.get_or_init(|| Weights::unpack(packed, Beyond::Implicit))
}

pub fn gbk_chinese_ci() -> &'static Weights {
    static TABLE: OnceLock<Weights> = OnceLock::new();
    let packed = include_bytes!("../../data/gbk_chinese_ci.bin");
    TABLE.get_or_init(|| Weights::unpack(packed, Beyond::Fixed(b"?")))
}

impl Weights {
    fn unpack(packed: &[u8], beyond: Beyond) -> Weights {
        let (mut entries, mut pool) = (Vec::new(), Vec::new());
        let mut rest = packed;
        while !rest.is_empty() {
            let head = varint(&mut rest);
            let length = varint(&mut rest) as usize;
            let (key, tail) = rest.split_at(length);
            rest = tail;
            let (count, grows) = (head >> 1, head & 1 == 1);
            let mut key = key.to_vec();
            for i in 0..count {
                if grows && i > 0 {
                    increment(&mut key);
                }
                if grows || i == 0 {
                    pool.extend_from_slice(&key);
                }
                let offset = (pool.len() - length) as u32;
                entries.push(offset << LEN_BITS | length as u32);
            }
        }
        Weights {
            entries,
            pool,
            beyond,
        }
    }

    /// Appends the key of `text` up to its first invalid byte.
    pub fn append(&self, text: &[u8], out: &mut Vec<u8>) {
        let valid = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
        };
        if valid.is_ascii() {
            // A byte is a code point here, without decoding.
            for byte in valid.bytes() {
                self.append_point(u32::from(byte), out);
            }
            return;
        }
        for c in valid.chars() {
            self.append_point(u32::from(c), out);
        }
    }

    pub fn append_char(&self, c: char, out: &mut Vec<u8>) {
        self.append_point(u32::from(c), out);
    }

    #[inline]
    fn append_point(&self, point: u32, out: &mut Vec<u8>) {
        if let Some(entry) = self.entries.get(point as usize) {
            let offset = (entry >> LEN_BITS) as usize;
            let length = (entry & LEN_MASK) as usize;
            out.extend_from_slice(&self.pool[offset..offset + length]);
            return;
        }
        match self.beyond {
            Beyond::Fixed(key) => out.extend_from_slice(key),
            Beyond::Implicit => {
                let weights = [0xfbc0 + (point >> 15), point & 0x7fff | 0x8000];
                for weight in weights {
                    out.extend_from_slice(&(weight as u16).to_be_bytes());
                }
            }
        }
    }
}

/// Adds one to a big-endian number.
fn increment(key: &mut [u8]) {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
}

/// Reads a varint from one of our own tables; a cut-off one reads as what is there.
fn varint(from: &mut &[u8]) -> u32 {
    let (mut value, mut shift) = (0, 0);
    while let Some((byte, rest)) = from.split_first() {
        *from = rest;
        value |= u32::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
