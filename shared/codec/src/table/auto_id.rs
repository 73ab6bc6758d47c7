//! Ids that rows get when the source has none: `_tidb_rowid`, AUTO_INCREMENT, AUTO_RANDOM. The caller
//! numbers rows; here a number becomes an id, and the largest numbers used are kept for the rebase after
//! the import.

use crate::mysql::{flag, tp};
use crate::schema::{FieldType, TableInfo};
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

/// The largest row number that an id of every kind the table has can be made of.
pub fn row_numbers_max(info: &TableInfo) -> u64 {
    let rest_of = |layout: Layout| u64::MAX >> (64 - layout.counter_bits);
    let mut max = u64::MAX >> 1;
    if info.has_row_id() {
        max = max.min(rest_of(Layout::row_id(info, 0)));
    }
    for column in info.columns() {
        if column.field_type.has_flag(flag::AUTO_INCREMENT) {
            max = max.min(largest_counter(&column.field_type));
        }
    }
    let handle = info.handle_column();
    if let Some(layout) =
        handle.and_then(|column| Layout::auto_random(info, column.field_type.is_unsigned(), 0))
    {
        max = max.min(rest_of(layout));
    }
    max
}

/// What an AUTO_INCREMENT column can count to without a gap.
fn largest_counter(field_type: &FieldType) -> u64 {
    let bits = match field_type.tp {
        tp::TINY => 8,
        tp::SHORT => 16,
        tp::INT24 => 24,
        tp::LONG => 32,
        tp::FLOAT => return 1 << 24,
        tp::DOUBLE => return 1 << 53,
        _ => 64,
    };
    u64::MAX >> (64 - bits + u32::from(!field_type.is_unsigned()))
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
    use crate::schema::ColumnInfo;

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
    fn a_narrow_column_bounds_the_row_numbers_of_its_table() {
        let counting = |tp, flags| {
            let column = ColumnInfo {
                field_type: FieldType {
                    tp,
                    flag: flags,
                    ..FieldType::default()
                },
                ..ColumnInfo::default()
            };
            row_numbers_max(&TableInfo {
                cols: Some(vec![column]),
                ..TableInfo::default()
            })
        };
        let unsigned = flag::AUTO_INCREMENT | flag::UNSIGNED;
        assert_eq!(counting(tp::TINY, flag::AUTO_INCREMENT), 127);
        assert_eq!(counting(tp::LONG, unsigned), u64::from(u32::MAX));
        assert_eq!(counting(tp::LONG, 0), u64::MAX >> 1);
        let sharded = TableInfo {
            shard_row_id_bits: 4,
            ..TableInfo::default()
        };
        assert_eq!(row_numbers_max(&sharded), (1 << 59) - 1);
    }

    #[test]
    fn without_shard_bits_the_row_number_is_the_id() {
        let layout = Layout::row_id(&TableInfo::default(), 7);
        assert_eq!(layout.id(42), Some(42));
    }
}
