//! Skeletons of TiDB's keys: tables, records, indexes, and the meta keys that hold counters and models.

use crate::mem::{comparable_i64, decode_i64, encode_bytes, encode_i64, encode_u64};
use thunderhead_types::KeyRange;

/// `t ‖ id ‖ _r` and `t ‖ id ‖ _i` are this long.
pub const PREFIX_LEN: usize = 11;
/// Length of a record key with an integer handle.
pub const INT_RECORD_LEN: usize = PREFIX_LEN + 8;

/// `t ‖ id ‖ _r`, on the stack: what the row loop writes.
#[inline]
pub(crate) fn record_head(physical_id: i64) -> [u8; PREFIX_LEN] {
    let mut head = *b"t\0\0\0\0\0\0\0\0_r";
    head[1..9].copy_from_slice(&comparable_i64(physical_id));
    head
}

/// `t ‖ id ‖ _i ‖ index id`, on the stack.
#[inline]
pub(crate) fn index_head(physical_id: i64, index_id: i64) -> [u8; PREFIX_LEN + 8] {
    let mut head = *b"t\0\0\0\0\0\0\0\0_i\0\0\0\0\0\0\0\0";
    head[1..9].copy_from_slice(&comparable_i64(physical_id));
    head[11..].copy_from_slice(&comparable_i64(index_id));
    head
}

/// `t ‖ id`: what all keys of a table or partition start with.
pub fn table_prefix(physical_id: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(PREFIX_LEN);
    key.push(b't');
    encode_i64(&mut key, physical_id);
    key
}

/// `t ‖ id ‖ _r`: what all records start with.
pub fn record_prefix(physical_id: i64) -> Vec<u8> {
    let mut key = table_prefix(physical_id);
    key.extend_from_slice(b"_r");
    key
}

/// `t ‖ id ‖ _i ‖ index id`: what all entries of an index start with.
pub fn index_prefix(physical_id: i64, index_id: i64) -> Vec<u8> {
    let mut key = table_prefix(physical_id);
    key.extend_from_slice(b"_i");
    encode_i64(&mut key, index_id);
    key
}

/// Record key of an integer handle.
pub fn record_key(physical_id: i64, handle: i64) -> Vec<u8> {
    let mut key = record_prefix(physical_id);
    encode_i64(&mut key, handle);
    key
}

fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    let mut end = prefix.clone();
    // The last byte of the ids we use is never ff for eight bytes in a row, so a carry ends in the key.
    for byte in end.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    KeyRange::new(prefix, end)
}

/// All keys of a table or partition.
pub fn table_range(physical_id: i64) -> KeyRange {
    prefix_range(table_prefix(physical_id))
}

/// All records of a table or partition.
pub fn record_range(physical_id: i64) -> KeyRange {
    prefix_range(record_prefix(physical_id))
}

/// All entries of an index.
pub fn index_range(physical_id: i64, index_id: i64) -> KeyRange {
    prefix_range(index_prefix(physical_id, index_id))
}

/// What a key under `t` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKey<'a> {
    /// `rest` is the encoded handle.
    Record { physical_id: i64, handle: &'a [u8] },
    /// `rest` is the encoded columns and, if not distinct, the handle.
    Index {
        physical_id: i64,
        index_id: i64,
        rest: &'a [u8],
    },
}

/// Takes a key apart; `None` when it is not one of a table.
pub fn parse(key: &[u8]) -> Option<TableKey<'_>> {
    let mut rest = key.strip_prefix(b"t")?;
    let physical_id = decode_i64(&mut rest)?;
    if let Some(handle) = rest.strip_prefix(b"_r") {
        return Some(TableKey::Record {
            physical_id,
            handle,
        });
    }
    let mut rest = rest.strip_prefix(b"_i")?;
    let index_id = decode_i64(&mut rest)?;
    Some(TableKey::Index {
        physical_id,
        index_id,
        rest,
    })
}

/// Key of a hash field in the meta space.
pub fn meta_hash_field(hash: &[u8], field: &[u8]) -> Vec<u8> {
    const HASH_DATA: u64 = b'h' as u64;
    let mut key = vec![b'm'];
    encode_bytes(&mut key, hash);
    encode_u64(&mut key, HASH_DATA);
    encode_bytes(&mut key, field);
    key
}

/// Counter of `_tidb_rowid`, and of AUTO_INCREMENT where that is not separate.
pub fn meta_row_id(schema_id: i64, table_id: i64) -> Vec<u8> {
    meta_table_field(schema_id, "TID", table_id)
}

/// Counter of AUTO_INCREMENT where it is separate (`auto_id_cache` = 1).
pub fn meta_auto_increment(schema_id: i64, table_id: i64) -> Vec<u8> {
    meta_table_field(schema_id, "IID", table_id)
}

/// Counter of AUTO_RANDOM.
pub fn meta_auto_random(schema_id: i64, table_id: i64) -> Vec<u8> {
    meta_table_field(schema_id, "TARID", table_id)
}

/// The table's model.
pub fn meta_table(schema_id: i64, table_id: i64) -> Vec<u8> {
    meta_table_field(schema_id, "Table", table_id)
}

/// The database's model.
pub fn meta_database(schema_id: i64) -> Vec<u8> {
    meta_hash_field(b"DBs", format!("DB:{schema_id}").as_bytes())
}

fn meta_table_field(schema_id: i64, field: &str, table_id: i64) -> Vec<u8> {
    meta_hash_field(
        format!("DB:{schema_id}").as_bytes(),
        format!("{field}:{table_id}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn keys_have_the_published_bytes() {
        assert_eq!(
            hex(&record_key(104, 1)),
            "7480000000000000685f728000000000000001"
        );
        assert_eq!(
            hex(&record_key(104, -1)),
            "7480000000000000685f727fffffffffffffff"
        );
        assert_eq!(
            hex(&index_prefix(104, 2)),
            "7480000000000000685f698000000000000002"
        );
        assert_eq!(
            hex(&meta_row_id(2, 104)),
            "6d44423a3200000000fb00000000000000685449443a31303400fe"
        );
        assert_eq!(
            hex(&meta_table(2, 104)),
            "6d44423a3200000000fb00000000000000685461626c653a3130ff3400000000000000f8"
        );
        assert_eq!(
            hex(&meta_database(2)),
            "6d4442730000000000fa000000000000006844423a3200000000fb"
        );
    }

    #[test]
    fn ranges_hold_their_keys_and_not_the_neighbours() {
        assert!(record_range(104).contains(&record_key(104, i64::MAX)));
        assert!(!record_range(104).contains(&record_key(105, i64::MIN)));
        assert!(!record_range(104).contains(&index_prefix(104, 1)));
        assert!(table_range(255).contains(&index_prefix(255, 1)));
        assert!(!table_range(255).contains(&table_prefix(256)));
    }

    #[test]
    fn parse_takes_apart_what_was_built() {
        let key = record_key(104, 7);
        assert!(
            matches!(parse(&key), Some(TableKey::Record { physical_id: 104, handle }) if handle.len() == 8)
        );
        let key = index_prefix(104, 3);
        assert_eq!(
            parse(&key),
            Some(TableKey::Index {
                physical_id: 104,
                index_id: 3,
                rest: &[]
            })
        );
        assert_eq!(parse(b"m"), None);
    }
}
