//! RocksDB's full bloom filter of format version 5: 10 bits a key, all probes of a key within one cache
//! line of 64 bytes. In the write family it is over user keys (an engine key less its timestamp), as
//! TiKV's prefix extractor has it, in the default family over whole keys.

use crate::hash::hash64;
use crate::options::Cf;

const BITS_PER_KEY: u64 = 10;
/// What RocksDB chooses for 10 bits a key.
const PROBES: u8 = 6;
const LINE: usize = 64;
const METADATA: usize = 5;

/// The part of an engine key that the filter of a family is over.
#[inline]
pub(crate) fn filtered(cf: Cf, key: &[u8]) -> &[u8] {
    match cf {
        Cf::Write => &key[..key.len().saturating_sub(8)],
        Cf::Default => key,
    }
}

/// Collects hashes: eight bytes a key until the file is finished.
#[derive(Default)]
pub(crate) struct BloomBuilder {
    hashes: Vec<u64>,
}

impl BloomBuilder {
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8]) {
        let hash = hash64(key);
        // Versions of one key follow each other.
        if self.hashes.last() != Some(&hash) {
            self.hashes.push(hash);
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// The filter block.
    pub(crate) fn finish(self) -> Vec<u8> {
        let bytes = (self.hashes.len() as u64 * BITS_PER_KEY).div_ceil(8) as usize;
        let lines = bytes.div_ceil(LINE);
        let mut block = vec![0; lines * LINE + METADATA];
        for hash in self.hashes {
            let line = &mut block[line_of(hash, lines) * LINE..][..LINE];
            for bit in probes(hash) {
                line[bit >> 3] |= 1 << (bit & 7);
            }
        }
        // Marker of the newer kind of filters, of this one among them, and the number of probes.
        block[lines * LINE..].copy_from_slice(&[0xff, 0, PROBES, 0, 0]);
        block
    }
}

#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    ((u64::from(hash as u32) * lines as u64) >> 32) as usize
}

#[inline]
fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let first = (hash >> 32) as u32;
    (0..PROBES).scan(first, |hash, _| {
        let bit = (*hash >> (32 - 9)) as usize;
        *hash = hash.wrapping_mul(0x9e37_79b9);
        Some(bit)
    })
}

/// A filter block that was read.
pub(crate) struct Bloom<'a> {
    lines: &'a [u8],
}

impl<'a> Bloom<'a> {
    /// `None` when it is not a filter as [`BloomBuilder`] makes it.
    pub(crate) fn open(block: &'a [u8]) -> Option<Self> {
        let (lines, metadata) = block.split_last_chunk::<METADATA>()?;
        let known = *metadata == [0xff, 0, PROBES, 0, 0];
        (known && !lines.is_empty() && lines.len().is_multiple_of(LINE)).then_some(Self { lines })
    }

    /// False when it lacks a key of one of these hashes. For many at once: nothing of one waits for the cache
    /// line of another.
    pub(crate) fn may_contain_all(&self, hashes: &[u64]) -> bool {
        let lines = self.lines.len() / LINE;
        let has = |hash: u64| {
            let line = &self.lines[line_of(hash, lines) * LINE..][..LINE];
            probes(hash).fold(true, |all, bit| {
                all & (line[bit >> 3] >> (bit & 7) & 1 == 1)
            })
        };
        hashes.iter().fold(true, |all, hash| all & has(*hash))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_has_every_key_and_few_others() {
        let mut builder = BloomBuilder::default();
        for n in 0..10_000u32 {
            builder.add(&n.to_be_bytes());
            builder.add(&n.to_be_bytes());
        }
        assert_eq!(builder.len(), 10_000);
        let block = builder.finish();
        let bloom = Bloom::open(&block).unwrap();
        let hash = |n: u32| hash64(&n.to_be_bytes());
        let hashes: Vec<u64> = (0..10_000).map(hash).collect();
        assert!(bloom.may_contain_all(&hashes));
        let wrong = (10_000..110_000)
            .filter(|n| bloom.may_contain_all(&[hashes[7], hash(*n), hashes[8]]))
            .count();
        assert!(wrong < 1500, "{wrong} false positives of 100,000");
    }
}
