//! Ids that rows get when the source has none: `_tidb_rowid`, AUTO_INCREMENT, AUTO_RANDOM. The caller
//! numbers rows; here a number becomes an id, and the largest numbers used are kept for the rebase after
//! the import.

use crate::schema::TableInfo;
use serde::{Deserialize, Serialize};

/// Largest ids that rows used, without their shard bits. `None`: none used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoIds {
    pub row_id: Option<u64>,
    pub auto_increment: Option<u64>,
    pub auto_random: Option<u64>,
}

impl AutoIds {
    /// Keeps the larger of each.
    pub fn merge(&mut self, other: &AutoIds) {
        self.row_id = self.row_id.max(other.row_id);
        self.auto_increment = self.auto_increment.max(other.auto_increment);
        self.auto_random = self.auto_random.max(other.auto_random);
    }
}

/// How an id is put together: shard above, counter below, the sign bit left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    shard_bits: u32,
    counter_bits: u32,
    seed: u64,
}

/// Rows in a row that share a shard: keeps neighbours together, spreads chunks.
const SHARD_BLOCK: u64 = 1 << 16;

impl Layout {
    /// `_tidb_rowid` of the table.
    pub fn row_id(info: &TableInfo, seed: u64) -> Layout {
        let shard_bits = (info.shard_row_id_bits as u32).min(15);
        Layout {
            shard_bits,
            counter_bits: 63 - shard_bits,
            seed,
        }
    }

    /// AUTO_RANDOM column, if the table has one.
    pub fn auto_random(info: &TableInfo, unsigned: bool, seed: u64) -> Option<Layout> {
        let shard_bits = u32::try_from(info.auto_random_bits)
            .ok()
            .filter(|bits| (1..=15).contains(bits))?;
        let range = match info.auto_random_range_bits {
            bits @ 32..=64 => bits as u32,
            _ => 64,
        };
        Some(Layout {
            shard_bits,
            counter_bits: range - shard_bits - u32::from(!unsigned),
            seed,
        })
    }

    /// The counter part of an id.
    pub fn counter(self, id: u64) -> u64 {
        id & (u64::MAX >> (64 - self.counter_bits))
    }

    /// The id of row number `n`; `None` when it needs the bits of the shard.
    pub fn id(self, n: u64) -> Option<u64> {
        if self.counter(n) != n {
            return None;
        }
        if self.shard_bits == 0 {
            return Some(n);
        }
        let shard = mix(self.seed ^ (n / SHARD_BLOCK)) >> (64 - self.shard_bits);
        Some(shard << self.counter_bits | n)
    }
}

/// A well-spread function of `v` (the finaliser of SplitMix64).
fn mix(v: u64) -> u64 {
    let v = v.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_never_wraps_into_the_shard() {
        let info = TableInfo {
            auto_random_bits: 5,
            auto_random_range_bits: 64,
            ..TableInfo::default()
        };
        let layout = Layout::auto_random(&info, false, 7).expect("the table has AUTO_RANDOM");
        assert_eq!(layout.id(1 << 58), None);
        for n in [1, 2, (1 << 58) - 1] {
            let id = layout.id(n).expect("fits");
            assert_eq!((layout.counter(id), id >> 63), (n, 0));
        }
        assert_eq!(layout.counter(864_691_128_455_135_233), 1);
    }

    #[test]
    fn without_shard_bits_the_row_number_is_the_id() {
        let layout = Layout::row_id(&TableInfo::default(), 7);
        assert_eq!(layout.id(42), Some(42));
    }
}
