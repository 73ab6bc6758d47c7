//! The properties block: RocksDB's own properties and those that collectors add, all in one sorted map.

use crate::block::{Cursor, Values, meta_block};
use crate::collect::Collectors;
use crate::compress::Compressor;
use crate::error::{Result, SstError};
use crate::options::{Cf, Compression, SstId};
use std::collections::BTreeMap;
use thunderhead_codec::mem;

pub(crate) const BLOCK_NAME: &str = "rocksdb.properties";
pub(crate) const FILTER_BLOCK_NAME: &str = "fullfilter.rocksdb.BuiltinBloomFilter";
pub(crate) const COMPARATOR: &str = "leveldb.BytewiseComparator";
/// The name under which TiKV registers what drops the timestamp of a key.
pub(crate) const PREFIX_EXTRACTOR: &str = "FixedSuffixSliceTransform";
/// Of files that were not made for a known column family.
const CF_UNKNOWN: u64 = 0x7fff_ffff;
/// Of external files whose sequence number is not written into them.
pub(crate) const EXTERNAL_VERSION: u32 = 2;

/// The properties of a file by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, Vec<u8>>);

/// What the writer counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub entries: u64,
    pub raw_key_bytes: u64,
    pub raw_value_bytes: u64,
    pub data_blocks: u64,
    pub data_bytes: u64,
    pub index_bytes: u64,
    pub filter_bytes: u64,
    pub filter_entries: u64,
}

impl Counts {
    /// The properties that hold these counts.
    pub(crate) fn properties(&self) -> [(&'static str, u64); 13] {
        [
            ("rocksdb.num.entries", self.entries),
            ("rocksdb.raw.key.size", self.raw_key_bytes),
            ("rocksdb.raw.value.size", self.raw_value_bytes),
            ("rocksdb.num.data.blocks", self.data_blocks),
            ("rocksdb.data.size", self.data_bytes),
            ("rocksdb.tail.start.offset", self.data_bytes),
            ("rocksdb.index.size", self.index_bytes),
            ("rocksdb.filter.size", self.filter_bytes),
            ("rocksdb.num.filter_entries", self.filter_entries),
            ("rocksdb.deleted.keys", 0),
            ("rocksdb.merge.operands", 0),
            ("rocksdb.num.range-deletions", 0),
            ("rocksdb.fixed.key.length", 0),
        ]
    }
}

impl Properties {
    pub(crate) fn write(
        cf: Cf,
        compression: Compression,
        id: SstId,
        counts: &Counts,
        collectors: BTreeMap<&'static str, Vec<u8>>,
    ) -> Self {
        let mut to = Self::default();
        for (name, number) in counts.properties() {
            to.put_number(name, number);
        }
        for (name, number) in [
            ("rocksdb.column.family.id", CF_UNKNOWN),
            ("rocksdb.creation.time", 0),
            ("rocksdb.oldest.key.time", 0),
            ("rocksdb.format.version", 0),
            ("rocksdb.index.key.is.user.key", 1),
            ("rocksdb.index.value.is.delta.encoded", 1),
            ("rocksdb.original.file.number", 1),
        ] {
            to.put_number(name, number);
        }
        let bloom = counts.filter_entries > 0;
        let extractor = match cf {
            Cf::Write => PREFIX_EXTRACTOR,
            Cf::Default => "nullptr",
        };
        for (name, text) in [
            ("rocksdb.comparator", COMPARATOR),
            ("rocksdb.compression", Compressor::name(compression)),
            ("rocksdb.creating.db.identity", "SST Writer"),
            ("rocksdb.creating.session.identity", &id.session()),
            ("rocksdb.merge.operator", "nullptr"),
            ("rocksdb.prefix.extractor.name", extractor),
            ("rocksdb.property.collectors", Collectors::names(cf)),
            (
                "rocksdb.compression_options",
                &compression_options(compression),
            ),
            (
                "rocksdb.block.based.table.whole.key.filtering",
                flag(cf == Cf::Default),
            ),
            (
                "rocksdb.block.based.table.prefix.filtering",
                flag(cf == Cf::Write),
            ),
        ] {
            to.put(name, text.as_bytes());
        }
        if bloom {
            to.put("rocksdb.filter.policy", b"bloomfilter");
        }
        to.put("rocksdb.block.based.table.index.type", &[0; 4]);
        to.put(
            "rocksdb.external_sst_file.version",
            &EXTERNAL_VERSION.to_le_bytes(),
        );
        to.put("rocksdb.external_sst_file.global_seqno", &[0; 8]);
        for (name, value) in collectors {
            to.put(name, &value);
        }
        to
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        self.0.insert(name.to_owned(), value.to_vec());
    }

    fn put_number(&mut self, name: &str, number: u64) {
        let mut value = Vec::new();
        mem::encode_uvarint(&mut value, number);
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let entries = self.0.iter().map(|(name, value)| (&name[..], &value[..]));
        meta_block(entries, false)
    }

    /// Reads a properties block, or any other block of names and values.
    pub(crate) fn decode(block: &[u8], offset: u64) -> Result<Self> {
        let bad = |what| SstError::corrupt(what, offset);
        let mut cursor = Cursor::default();
        cursor.start(block).ok_or(bad("meta block"))?;
        let mut found = BTreeMap::new();
        while let Some(value) = cursor.next(block, Values::Sized).ok_or(bad("meta block"))? {
            let name = std::str::from_utf8(&cursor.key).map_err(|_| bad("name in a meta block"))?;
            if found
                .last_key_value()
                .is_some_and(|(last, _): (&String, _)| last.as_str() >= name)
            {
                return Err(bad("order of names in a meta block"));
            }
            found.insert(name.to_owned(), block[value].to_vec());
        }
        Ok(Self(found))
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The value of a property that RocksDB writes as a varint.
    pub fn number(&self, name: &str) -> Option<u64> {
        let mut value = self.get(name)?;
        let number = mem::decode_uvarint(&mut value)?;
        value.is_empty().then_some(number)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn compression_options(compression: Compression) -> String {
    let level = match compression {
        Compression::Zstd(level) => level,
        // RocksDB's way to say "the default".
        Compression::None | Compression::Lz4 => 32767,
    };
    format!(
        "window_bits=-14; level={level}; strategy=0; max_dict_bytes=0; zstd_max_train_bytes=0; \
         enabled=0; max_dict_buffer_bytes=0; use_zstd_dict_trainer=1; "
    )
}
