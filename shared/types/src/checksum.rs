//! The checksum that TiDB's `ADMIN CHECKSUM TABLE` and TiKV's coprocessor compute: CRC-64/XZ of each
//! key followed by its value, XORed over all pairs, beside the number of pairs and their bytes.
//! Order does not matter, so tallies of disjoint parts combine into the tally of the whole.

use serde::{Deserialize, Serialize};

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
