//! Files written and read back by this crate alone. What RocksDB says of them is asked in the
//! sandbox's tests.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use thunderhead_sst::*;
use thunderhead_types::KeyRange;

const TS: u64 = 463_267_587_686_400_005;

fn engine_key(user_key: &[u8], ts: u64) -> Vec<u8> {
    let mut key = vec![b'z'];
    thunderhead_codec::mem::encode_bytes(&mut key, user_key);
    key.extend_from_slice(&(!ts).to_be_bytes());
    key
}

fn options(compression: Compression) -> SliceOptions {
    let mut options = SliceOptions::new(TS);
    options.sst.compression = compression;
    options.txn_source = 1 << 16;
    options
}

fn build(
    pairs: &BTreeMap<Vec<u8>, Vec<u8>>,
    options: SliceOptions,
    borders: &[Vec<u8>],
) -> Vec<BuiltSlice> {
    let mut builder = PairsToSst::new(options, borders.to_vec());
    let mut slices = Vec::new();
    for (key, value) in pairs {
        slices.extend(builder.add(key, value).unwrap());
    }
    slices.extend(builder.finish().unwrap());
    slices
}

fn entries(file: &BuiltSst) -> Vec<(Vec<u8>, Vec<u8>)> {
    let reader = SstReader::open(file.content.clone()).unwrap();
    let (mut entries, mut found) = (reader.entries(), Vec::new());
    while let Some((key, value)) = entries.next_entry().unwrap() {
        found.push((key.to_vec(), value.to_vec()));
    }
    found
}

/// The pairs that slices hold, as a reader of TiKV would find them.
fn read_back(slices: &[BuiltSlice]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    for slice in slices {
        prove_slice(slice, &KeyRange::default()).unwrap();
        let long: BTreeMap<_, _> = slice.default.iter().flat_map(entries).collect();
        for (key, record) in entries(&slice.write) {
            let (data, _) = key.split_last_chunk::<8>().unwrap();
            let user_key = thunderhead_codec::mem::decode_bytes(&mut &data[1..]).unwrap();
            let start_ts = 10; // P and nine bytes of varint
            let value = match &record[start_ts..] {
                [b'v', len, rest @ ..] => rest[..usize::from(*len)].to_vec(),
                _ => long[&engine_key(&user_key, TS)].clone(),
            };
            assert!(found.insert(user_key, value).is_none());
        }
    }
    found
}

fn rows(count: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..count)
        .map(|n| {
            let key = [&b"t\x80\0\0\0\0\0\0\x68_r"[..], &(n * 3).to_be_bytes()].concat();
            let value = format!("row {n} of a table with a name").repeat(1 + (n % 12) as usize);
            (key, value.into_bytes())
        })
        .collect()
}

fn file(compression: Compression) -> BuiltSst {
    build(&rows(3000), options(compression), &[])
        .remove(0)
        .write
}

fn bytes_of(file: &BuiltSst) -> Bytes {
    file.content.read(0, file.size as usize).unwrap()
}

fn compressions() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Lz4),
        Just(Compression::Zstd(1)),
        Just(Compression::Zstd(3)),
    ]
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        4 => prop::collection::vec(any::<u8>(), 250..260),
        2 => (0..3000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => (30_000..100_000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_goes_in_comes_out(
        pairs in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..40), values(), 1..120),
        compression in compressions(),
        block_bytes in 64..5000usize,
        slice_bytes in 500..100_000u64,
        borders in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..4),
    ) {
        let mut options = options(compression);
        options.sst.block_bytes = block_bytes;
        options.slice_bytes = slice_bytes;
        let slices = build(&pairs, options, &borders);
        for slice in &slices {
            prop_assert_eq!(slice.pairs, slice.write.entries);
            let crossed = borders.iter().any(|border| {
                &slice.first_key < border && &slice.last_key >= border
            });
            prop_assert!(!crossed);
        }
        prop_assert_eq!(read_back(&slices), pairs);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(mut bytes: Vec<u8>, tail in 0..60usize) {
        let good = bytes_of(&file(Compression::None));
        bytes.extend_from_slice(&good[good.len() - tail..]);
        prop_assert!(prove_bytes(bytes.into(), Cf::Write, &KeyRange::default()).is_err());
    }

    #[test]
    fn a_seek_finds_the_first_key_at_or_after_it(n in 0..9200u64) {
        let built = file(Compression::Lz4);
        let reader = SstReader::open(built.content.clone()).unwrap();
        let key = [&b"t\x80\0\0\0\0\0\0\x68_r"[..], &n.to_be_bytes()].concat();
        let target = engine_key(&key, TS);
        let mut found = reader.entries_from(&target).unwrap();
        let found = found.next_entry().unwrap().map(|(key, _)| key.to_vec());
        let expected = entries(&built).into_iter().map(|(key, _)| key).find(|key| *key >= target);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn every_flipped_bit_is_found_even_without_the_crc_of_the_file() {
    let mut options = options(Compression::Zstd(3));
    options.sst.block_bytes = 512;
    let built = build(&rows(60), options, &[]).remove(0).write;
    let good = bytes_of(&built);
    let all = KeyRange::default();
    prove_bytes(good.clone(), Cf::Write, &all).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let found = prove_bytes(bytes.into(), Cf::Write, &all);
        assert!(found.is_err(), "byte {at} of {}", good.len());
    }
    for len in 0..good.len() {
        assert!(prove_bytes(good.slice(..len), Cf::Write, &all).is_err());
    }
}

#[test]
fn keys_must_ascend_and_be_engine_keys() {
    let add = |keys: &[&[u8]]| {
        let mut builder =
            SstBuilder::new(SstOptions::default(), Cf::Write, SstSink::Memory).unwrap();
        keys.iter()
            .try_for_each(|key| builder.add(key, b"P\x01v\x00"))
    };
    let (a, b) = (engine_key(b"a", 7), engine_key(b"b", 7));
    let older = engine_key(b"a", 6);
    assert!(add(&[&a, &older, &b]).is_ok());
    assert!(matches!(add(&[&b, &a]), Err(SstError::Order { index: 1 })));
    assert!(matches!(add(&[&a, &a]), Err(SstError::Order { index: 1 })));
    assert!(matches!(add(&[b"z"]), Err(SstError::Key { index: 0 })));
    let wrong = [b"y", &a[1..]].concat();
    assert!(matches!(add(&[&wrong]), Err(SstError::Key { index: 0 })));
    let empty = SstBuilder::new(SstOptions::default(), Cf::Write, SstSink::Memory).unwrap();
    assert!(matches!(empty.finish(), Err(SstError::Empty)));
}

#[test]
fn a_key_outside_of_the_range_fails_the_proof() {
    let built = file(Compression::None);
    let key = |n: u64| [&b"t\x80\0\0\0\0\0\0\x68_r"[..], &n.to_be_bytes()].concat();
    assert!(prove(&built, &KeyRange::new(key(0), key(8998))).is_ok());
    assert!(prove(&built, &KeyRange::new(key(0), key(8997))).is_err());
    assert!(prove(&built, &KeyRange::new(key(1), Vec::new())).is_err());
}

#[test]
fn a_file_that_changed_after_it_was_built_fails_the_proof() {
    let mut built = file(Compression::Lz4);
    let other = build(&rows(2999), options(Compression::Lz4), &[]).remove(0);
    built.content = other.write.content;
    assert!(matches!(
        prove(&built, &KeyRange::default()),
        Err(SstError::Unproved(_))
    ));
}

#[test]
fn records_without_their_long_values_fail_the_proof() {
    let mut slice = build(&rows(100), options(Compression::Lz4), &[]).remove(0);
    prove_slice(&slice, &KeyRange::default()).unwrap();
    let other = build(&rows(88), options(Compression::Lz4), &[]).remove(0);
    slice.default = other.default;
    assert!(prove_slice(&slice, &KeyRange::default()).is_err());
    slice.default = None;
    assert!(prove_slice(&slice, &KeyRange::default()).is_err());
}

#[test]
fn a_file_cut_again_at_new_borders_holds_the_same_entries() {
    for compression in [Compression::None, Compression::Zstd(3)] {
        let built = file(compression);
        let key = |n: u64| [&b"t\x80\0\0\0\0\0\0\x68_r"[..], &n.to_be_bytes()].concat();
        let options = SstOptions {
            compression,
            ..SstOptions::default()
        };
        let mut found = Vec::new();
        let borders = [vec![], key(1), key(4000), key(4002), key(8998), vec![]];
        for border in borders.windows(2) {
            let range = KeyRange::new(border[0].clone(), border[1].clone());
            let part = recut(&built, &range, &options, SstSink::Memory).unwrap();
            if let Some(part) = part {
                prove(&part, &range).unwrap();
                found.extend(entries(&part));
            }
        }
        assert_eq!(found, entries(&built));
    }
}

#[test]
fn files_on_disk_are_the_same_and_go_with_their_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let mut on_disk = options(Compression::Zstd(3));
    on_disk.sst.id = Some(SstId::fixed(1, 2));
    let mut in_memory = on_disk.clone();
    on_disk.dir = Some(dir.path().to_owned());
    in_memory.dir = None;
    let disk = build(&rows(3000), on_disk.clone(), &[]).remove(0);
    let memory = build(&rows(3000), in_memory, &[]).remove(0);
    assert_eq!(bytes_of(&disk.write), bytes_of(&memory.write));
    assert_eq!(disk.write.crc32, memory.write.crc32);
    prove_slice(&disk, &KeyRange::default()).unwrap();
    let left = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left(), 2);
    let held = disk.write.clone();
    drop(disk);
    assert_eq!(left(), 1);
    drop(held);
    assert_eq!(left(), 0);
    let mut unfinished = PairsToSst::new(on_disk, []);
    unfinished.add(b"k", b"v").unwrap();
    assert_eq!(left(), 1);
    drop(unfinished);
    assert_eq!(left(), 0, "an abandoned file is removed");
}
