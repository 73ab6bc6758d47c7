//! RocksDB's word on the table files of `thunderhead-sst`: it ingests and reads them under TiKV's options,
//! its filters find their keys, and what its own writer makes of the same entries is the same bytes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedOptions, ChecksumType, ColumnFamilyDescriptor, DB, DBCompressionType,
    IngestExternalFileOptions, IteratorMode, Options, ReadOptions, SliceTransform, SstFileWriter,
};
use std::collections::BTreeMap;
use std::path::Path;
use thunderhead_sst::{
    BuiltSst, Cf, Compression, PairsToSst, SliceOptions, SstBuilder, SstOptions, SstReader, SstSink,
};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const TS: u64 = 463_267_587_686_400_005;

/// What TiKV opens its families with, as far as it decides how files are read.
fn tikv_options(cf: Cf, compression: DBCompressionType) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    table.set_checksum_type(ChecksumType::CRC32c);
    table.set_block_size(32 << 10);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    if cf == Cf::Write {
        table.set_whole_key_filtering(false);
        options.set_prefix_extractor(SliceTransform::create(
            "FixedSuffixSliceTransform",
            |key| &key[..key.len() - 8],
            Some(|key| key.len() >= 8),
        ));
    }
    options.set_block_based_table_factory(&table);
    options.set_compression_type(compression);
    options.set_compression_options(-14, 3, 0, 0);
    options
}

struct Store {
    db: DB,
    options: Options,
    _dir: tempfile::TempDir,
}

impl Store {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::All);
        let families = [Cf::Default, Cf::Write].map(|cf| {
            ColumnFamilyDescriptor::new(cf.name(), tikv_options(cf, DBCompressionType::Zstd))
        });
        let db = DB::open_cf_descriptors(&options, dir.path(), families).unwrap();
        Self {
            db,
            options,
            _dir: dir,
        }
    }

    fn ingest(&self, file: &BuiltSst) {
        let dir = tempfile::tempdir().unwrap();
        let path = write_file(dir.path(), file);
        let mut options = IngestExternalFileOptions::default();
        options.set_allow_global_seqno(false);
        let family = self.db.cf_handle(file.cf.name()).unwrap();
        self.db
            .ingest_external_file_cf_opts(family, &options, vec![path])
            .unwrap();
    }

    fn entries(&self, cf: Cf) -> Entries {
        let family = self.db.cf_handle(cf.name()).unwrap();
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        read.set_total_order_seek(true);
        self.db
            .iterator_cf_opt(family, read, IteratorMode::Start)
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .unwrap()
    }

    fn property(&self, cf: Cf, name: &str) -> String {
        let family = self.db.cf_handle(cf.name()).unwrap();
        self.db.property_value_cf(family, name).unwrap().unwrap()
    }
}

fn write_file(dir: &Path, file: &BuiltSst) -> std::path::PathBuf {
    let path = dir.join(format!("{}.sst", file.cf.name()));
    let bytes = file.content.read(0, file.size as usize).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn engine_key(user_key: &[u8], ts: u64) -> Vec<u8> {
    let mut key = vec![b'z'];
    thunderhead_codec::mem::encode_bytes(&mut key, user_key);
    key.extend_from_slice(&(!ts).to_be_bytes());
    key
}

fn row_key(n: u64) -> Vec<u8> {
    [&b"t\x80\0\0\0\0\0\0\x68_r"[..], &n.to_be_bytes()].concat()
}

/// Entries of the write family as TiKV has them, with keys of several lengths.
fn entries(count: u64) -> Entries {
    (0..count)
        .map(|n| {
            let mut key = row_key(n * 7);
            key.extend(vec![b'x'; (n % 5 * n % 300) as usize]);
            let mut record = b"P\x85\x80\x80\x80\xaa\xed\xf6\xb6\x06v\x20".to_vec();
            record.extend(format!("{:032}", n * 12345).into_bytes());
            (engine_key(&key, TS), record)
        })
        .collect()
}

fn build(cf: Cf, compression: Compression, entries: &Entries) -> BuiltSst {
    let options = SstOptions {
        compression,
        ..SstOptions::default()
    };
    let mut builder = SstBuilder::new(options, cf, SstSink::Memory).unwrap();
    for (key, value) in entries {
        builder.add(key, value).unwrap();
    }
    builder.finish().unwrap()
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..60),
        3 => prop::collection::vec(any::<u8>(), 250..260),
        1 => (1000..200_000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rocksdb_ingests_our_files_and_reads_the_entries_that_went_in(
        pairs in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..40), values(), 1..300),
        method in 0..4usize,
    ) {
        let mut options = SliceOptions::new(TS);
        options.sst.compression = [
            Compression::None, Compression::Lz4, Compression::Zstd(1), Compression::Zstd(3),
        ][method];
        let mut builder = PairsToSst::new(options, []);
        for (key, value) in &pairs {
            prop_assert!(builder.add(key, value).unwrap().is_none());
        }
        let slice = builder.finish().unwrap().unwrap();
        let store = Store::open();
        slice.files().for_each(|file| store.ingest(file));
        let (default, write) = (store.entries(Cf::Default), store.entries(Cf::Write));
        prop_assert_eq!(write.len(), pairs.len());
        let long = pairs.iter().filter(|(_, value)| value.len() > 255);
        prop_assert_eq!(
            default,
            long.map(|(key, value)| (engine_key(key, TS), value.clone())).collect::<Entries>()
        );
        for (key, value) in &pairs {
            let record = &write[&engine_key(key, TS)];
            let head = b"P\x85\x80\x80\x80\xaa\xed\xf6\xb6\x06";
            let expected = match u8::try_from(value.len()) {
                Ok(len) => [&head[..], b"v", &[len], value].concat(),
                Err(_) => head.to_vec(),
            };
            prop_assert_eq!(record, &expected);
        }
    }
}

#[test]
fn data_filter_and_plain_index_blocks_are_those_of_rocksdbs_own_writer() {
    for (cf, ours, theirs) in [
        (Cf::Write, Compression::None, DBCompressionType::None),
        (Cf::Default, Compression::None, DBCompressionType::None),
        (Cf::Write, Compression::Zstd(3), DBCompressionType::Zstd),
    ] {
        let entries = entries(20_000);
        let ours = build(cf, ours, &entries);
        let theirs_are_plain = theirs == DBCompressionType::None;
        let (theirs, properties) = rocksdb_file(cf, theirs, &entries);
        let number = |name: &str| properties.number(name).unwrap();
        let mut same = number("rocksdb.data.size") + number("rocksdb.filter.size") + 5;
        if theirs_are_plain {
            // RocksDB compresses its index as well; ours stays plain.
            same += number("rocksdb.index.size");
        }
        let ours = ours.content.read(0, same as usize).unwrap();
        let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{cf:?}: first of {same} bytes that differs");
    }
}

fn rocksdb_file(
    cf: Cf,
    compression: DBCompressionType,
    entries: &Entries,
) -> (Vec<u8>, thunderhead_sst::Properties) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.sst");
    let options = tikv_options(cf, compression);
    let mut writer = SstFileWriter::create(&options);
    writer.open(&path).unwrap();
    for (key, value) in entries {
        writer.put(key, value).unwrap();
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let content = thunderhead_sst::SstContent::Memory(bytes.clone().into());
    let properties = SstReader::open(content).unwrap().properties().clone();
    (bytes, properties)
}

#[test]
fn the_properties_are_those_of_rocksdbs_own_writer_and_tikvs() {
    for cf in [Cf::Write, Cf::Default] {
        let entries = entries(5_000);
        let ours = build(cf, Compression::Zstd(3), &entries);
        let ours = SstReader::open(ours.content).unwrap().properties().clone();
        let (_, theirs) = rocksdb_file(cf, DBCompressionType::Zstd, &entries);
        // RocksDB writes some more than TiKV's does, and its version decides the text of two.
        let newer = [
            "rocksdb.block.based.table.decoupled.partitioned.filters",
            "rocksdb.compression_options",
            "rocksdb.creating.host.identity",
            "rocksdb.creating.session.identity",
            "rocksdb.data.block.restart.interval",
            "rocksdb.format.version",
            "rocksdb.index.block.restart.interval",
            "rocksdb.key.largest.seqno",
            "rocksdb.key.smallest.seqno",
            "rocksdb.newest.key.time",
            "rocksdb.num.uniform.blocks",
            "rocksdb.property.collectors",
        ];
        for (name, value) in theirs.iter().filter(|(name, _)| !newer.contains(name)) {
            assert_eq!(ours.get(name), Some(value), "{cf:?} {name}");
        }
        let added: Vec<_> = ours
            .iter()
            .map(|(name, _)| name)
            .filter(|name| theirs.get(name).is_none())
            .collect();
        assert!(added.iter().all(|name| name.starts_with("tikv.")));
        let expected = match cf {
            Cf::Write => 14,
            Cf::Default => 1,
        };
        assert_eq!(added.len(), expected, "{added:?}");
    }
}

#[test]
fn rocksdb_finds_every_key_through_our_filter_and_is_spared_absent_ones() {
    let entries = entries(20_000);
    let store = Store::open();
    for cf in [Cf::Default, Cf::Write] {
        store.ingest(&build(cf, Compression::Zstd(3), &entries));
        let family = store.db.cf_handle(cf.name()).unwrap();
        for key in entries.keys() {
            assert!(store.db.get_pinned_cf(family, key).unwrap().is_some());
        }
        let ticker = match cf {
            Cf::Default => Ticker::BloomFilterUseful,
            Cf::Write => Ticker::BloomFilterPrefixUseful,
        };
        let before = store.options.get_ticker_count(ticker);
        for n in 0..10_000 {
            let absent = engine_key(&row_key(n * 7 + 3), TS);
            assert!(store.db.get_pinned_cf(family, &absent).unwrap().is_none());
        }
        let spared = store.options.get_ticker_count(ticker) - before;
        assert!(spared > 9_700, "{cf:?}: {spared} of 10,000");
        let found = store.property(cf, "rocksdb.aggregated-table-properties");
        assert!(found.contains("# entries=20000;"), "{found}");
    }
}
