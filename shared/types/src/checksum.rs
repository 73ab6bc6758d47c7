//! The checksum that TiDB's `ADMIN CHECKSUM TABLE` and TiKV's coprocessor compute: CRC-64/XZ of each
//! key followed by its value, XORed over all pairs, beside the number of pairs and their bytes.
//! Order does not matter, so tallies of disjoint parts combine into the tally of the whole.

use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Tally over a set of key-value pairs. `Default` is the tally of no pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// XOR of CRC-64/XZ(key ‖ value).
    pub crc64_xor: u64,
    /// Number of pairs.
    pub kvs: u64,
    /// Sum of key and value lengths, bytes.
    pub bytes: u64,
}

impl Checksum {
    /// Adds one pair.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.crc64_xor ^= crc64(key, value);
        self.kvs += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    /// Adds every pair of `other`; the two sets must be disjoint.
    pub fn merge(&mut self, other: &Checksum) {
        self.crc64_xor ^= other.crc64_xor;
        self.kvs += other.kvs;
        self.bytes += other.bytes;
    }

    /// Takes out every pair of `other`, which must be a subset.
    pub fn remove(&mut self, other: &Checksum) {
        self.crc64_xor ^= other.crc64_xor;
        self.kvs -= other.kvs;
        self.bytes -= other.bytes;
    }
}

/// The longest pair that a [`Tally`] folds into its window, bytes.
const WINDOW: usize = 1024;

/// CRC-64/XZ of `n` zero bytes, for every `n` up to the window's length.
static ZEROS: LazyLock<Box<[u64]>> = LazyLock::new(|| {
    let zeros = [0; WINDOW];
    (0..=WINDOW).map(|n| crc64(&zeros[..n], &[])).collect()
});

/// A [`Checksum`] in the making, for many pairs: a CRC for all of them instead of one for each.
///
/// A CRC is linear but for a term of its message's length alone: `crc(m) = L(m) ^ crc(0^n)` with
/// `L(a) ^ L(b) = L(a ^ b)`, and `L` does not see zero bytes in front. So pairs are XORed into one window,
/// each with its end at the window's end, and of their lengths only the parity is kept.
pub struct Tally {
    window: Box<[u8; WINDOW]>,
    /// A bit for every length that came an odd number of times.
    odd: [u64; WINDOW / 64 + 1],
    /// The pairs that are longer than the window.
    long: u64,
    kvs: u64,
    bytes: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            window: Box::new([0; WINDOW]),
            odd: [0; WINDOW / 64 + 1],
            long: 0,
            kvs: 0,
            bytes: 0,
        }
    }
}

impl Tally {
    /// Adds one pair.
    #[inline]
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let len = key.len() + value.len();
        self.kvs += 1;
        self.bytes += len as u64;
        let Some(start) = WINDOW.checked_sub(len) else {
            self.long ^= crc64(key, value);
            return;
        };
        let (keys, values) = self.window[start..].split_at_mut(key.len());
        xor(keys, key);
        xor(values, value);
        self.odd[len / 64] ^= 1 << (len % 64);
    }

    /// The checksum of all pairs so far.
    pub fn sum(&self) -> Checksum {
        let lengths = (0..=WINDOW).filter(|len| self.odd[len / 64] >> (len % 64) & 1 == 1);
        let crc64_xor = lengths.fold(
            self.long ^ crc64(&self.window[..], &[]) ^ ZEROS[WINDOW],
            |sum, len| sum ^ ZEROS[len],
        );
        Checksum {
            crc64_xor,
            kvs: self.kvs,
            bytes: self.bytes,
        }
    }
}

/// XORs `from` into `into`, which is as long. Whole words go through integers: of arrays of bytes the
/// compiler makes a loop of bytes, three times as slow.
#[inline]
fn xor(into: &mut [u8], from: &[u8]) {
    let ((words, into), (others, from)) = (into.as_chunks_mut(), from.as_chunks());
    for (word, other) in words.iter_mut().zip(others) {
        *word = (u128::from_ne_bytes(*word) ^ u128::from_ne_bytes(*other)).to_ne_bytes();
    }
    let ((words, into), (others, from)) = (into.as_chunks_mut(), from.as_chunks());
    for (word, other) in words.iter_mut().zip(others) {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(*other)).to_ne_bytes();
    }
    into.iter_mut().zip(from).for_each(|(a, b)| *a ^= b);
}

/// CRC-64/XZ (ECMA-182 polynomial, reflected, init and xorout all ones) of `key ‖ value`.
pub fn crc64(key: &[u8], value: &[u8]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Xz);
    digest.update(key);
    digest.update(value);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc64_is_the_xz_variant() {
        assert_eq!(crc64(b"1234", b"56789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn a_tally_equals_the_sum_of_its_pairs_for_every_length() {
        let bytes: Vec<u8> = (0..3 * WINDOW as u32).map(|i| (i * i / 7) as u8).collect();
        let (mut tally, mut sum) = (Tally::default(), Checksum::default());
        assert_eq!(tally.sum(), sum);
        for len in 0..=WINDOW + 40 {
            for (from, cut) in [(len, len / 3), (7, len), (2 * len / 3, 0)] {
                let (key, value) = bytes[from..from + len].split_at(cut);
                tally.add(key, value);
                sum.add(key, value);
                assert_eq!(tally.sum(), sum, "{len} bytes, key of {cut}");
            }
            if len % 3 == 0 {
                tally.add(&bytes[..len], &[]);
                sum.add(&bytes[..len], &[]);
            }
        }
    }

    #[test]
    fn merged_parts_equal_the_whole_and_removal_undoes_it() {
        let (mut whole, mut left, mut right) = (
            Checksum::default(),
            Checksum::default(),
            Checksum::default(),
        );
        for i in 0..100u32 {
            let (key, value) = (i.to_be_bytes(), (i * 7).to_le_bytes());
            whole.add(&key, &value);
            if i % 3 == 0 {
                left.add(&key, &value)
            } else {
                right.add(&key, &value)
            }
        }
        let mut merged = left;
        merged.merge(&right);
        assert_eq!(merged, whole);
        merged.remove(&right);
        assert_eq!(merged, left);
    }
}
