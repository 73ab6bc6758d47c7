//! The sorter as a whole: buffers to runs to merged pairs, and what a damaged disk does to it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use thunderhead_cluster::{PairBatch, PairSource};
use thunderhead_types::{Checksum, Error, ErrorKind, KeyRange, next_key};

use super::*;

type Pair = (Vec<u8>, Vec<u8>);

struct Disk {
    dir: tempfile::TempDir,
    ledger: Arc<Ledger>,
}

impl Disk {
    fn new() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 1 << 30).unwrap());
        Disk { dir, ledger }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn budget(&self, memory_bytes: usize) -> MergeBudget {
        MergeBudget {
            memory_bytes,
            scratch_dir: self.dir.path().to_owned(),
        }
    }

    fn run(&self, name: &str, pairs: &[Pair]) -> RunMeta {
        let mut buffer = SortBuffer::new(64 << 20);
        for (key, value) in pairs {
            assert!(buffer.push(key, value));
        }
        buffer.spill(&self.path(name), &self.ledger).unwrap()
    }

    fn runs(&self, runs: &[Vec<Pair>]) -> Vec<PathBuf> {
        runs.iter()
            .enumerate()
            .map(|(i, pairs)| self.run(&format!("{i}.run"), pairs).path)
            .collect()
    }

    fn files(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        fs::read_dir(self.dir.path()).unwrap().map(name).collect()
    }
}

fn collect(stream: &mut impl PairStream) -> Result<Vec<Pair>, SortError> {
    let mut pairs = Vec::new();
    while stream.advance()? {
        pairs.push((stream.key().to_vec(), stream.value().to_vec()));
    }
    assert!(!stream.advance()?, "the end stays the end");
    Ok(pairs)
}

fn read_run(path: &Path, range: &KeyRange) -> Result<Vec<Pair>, SortError> {
    collect(&mut Arc::new(RunFile::open(path, range)?).cursor(range))
}

fn read_source(source: &MergedRuns, range: &KeyRange) -> Vec<Pair> {
    let mut reader = source.open(range).unwrap();
    let (mut batch, mut pairs) = (PairBatch::default(), Vec::new());
    while reader.next_batch(&mut batch).unwrap() {
        pairs.extend(batch.iter().map(|(k, v)| (k.to_vec(), v.to_vec())));
    }
    pairs
}

fn inside(pairs: &[Pair], range: &KeyRange) -> Vec<Pair> {
    pairs
        .iter()
        .filter(|(key, _)| range.contains(key))
        .cloned()
        .collect()
}

fn stable_sorted(pairs: impl IntoIterator<Item = Pair>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = pairs.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

/// Pairs whose keys share a prefix and often repeat; values large enough that runs have several blocks.
fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let key = prop_oneof![
        (0u16..300).prop_map(|n| [&b"t\x80\0\0\0\0\0\0\x01_r"[..], &n.to_be_bytes()].concat()),
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..4),
    ];
    let value = prop_oneof![
        Just(Vec::new()),
        Just(vec![1]),
        any::<u8>().prop_map(|b| vec![b; 90_000])
    ];
    prop::collection::vec((key, value), 0..25)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let bound =
        || (0u16..310).prop_map(|n| [&b"t\x80\0\0\0\0\0\0\x01_r"[..], &n.to_be_bytes()].concat());
    let end = prop_oneof![Just(Vec::new()), bound()];
    (prop_oneof![Just(Vec::new()), bound()], end).prop_map(|(start, end)| KeyRange::new(start, end))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_gives_back_the_pairs_of_any_range(pairs in pairs(), range in range(), wider in range()) {
        let disk = Disk::new();
        let meta = disk.run("a.run", &pairs);
        let sorted = stable_sorted(pairs);
        prop_assert_eq!(meta.pairs as usize, sorted.len());
        prop_assert_eq!(meta.kv_bytes as usize, sorted.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
        prop_assert_eq!(meta.first_key(), sorted.first().map_or(&[][..], |p| &p.0));
        prop_assert_eq!(&meta.last_key[..], sorted.last().map_or(&[][..], |p| &p.0));
        prop_assert_eq!(meta.file_bytes, fs::metadata(&meta.path).unwrap().len());
        prop_assert!(read_run(&meta.path, &range).unwrap() == inside(&sorted, &range));

        let run = Arc::new(RunFile::open(&meta.path, &wider).unwrap());
        let expected = inside(&inside(&sorted, &wider), &range);
        prop_assert!(collect(&mut run.cursor(&range)).unwrap() == expected);
        for (key, _) in inside(&sorted, &wider) {
            prop_assert!(run.lower() <= key.as_slice() && key.as_slice() <= run.upper() && !run.is_empty());
        }
    }

    #[test]
    fn merged_runs_are_their_pairs_sorted_stably(runs in prop::collection::vec(pairs(), 0..9), range in range()) {
        let disk = Disk::new();
        let files: Vec<_> = disk.runs(&runs).iter().map(|p| Arc::new(RunFile::open(p, &range).unwrap())).collect();
        let expected = inside(&stable_sorted(runs.into_iter().flat_map(stable_sorted)), &range);
        prop_assert!(collect(&mut Merge::new(&files, &range)).unwrap() == expected);
    }

    #[test]
    fn pairs_keep_the_numbers_of_their_rows_and_equal_neighbours_are_never_missed(
        runs in prop::collection::vec(pairs(), 0..9),
        memory_bytes in prop_oneof![Just(0usize), Just(1_000_000), Just(usize::MAX)],
        range in range(),
        stride in prop::sample::select(vec![1u64, 300, 1 << 40]),
    ) {
        let disk = Disk::new();
        let (mut paths, mut expected, mut row) = (Vec::new(), Vec::new(), 0u64);
        for (number, pairs) in runs.iter().enumerate() {
            let mut buffer = SortBuffer::new(64 << 20);
            for (key, value) in pairs {
                assert!(buffer.push_of_row(key, value, Some(row)));
                expected.push((key.clone(), row));
                row += stride;
            }
            paths.push(disk.path(&format!("{number}.run")));
            buffer.spill(&paths[number], &disk.ledger).unwrap();
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        expected.retain(|(key, _)| range.contains(key));
        let source = MergedRuns::open(&paths, &range, &disk.budget(memory_bytes), &disk.ledger, None).unwrap();
        let (mut stream, mut found, mut tied) = (source.stream(), Vec::new(), true);
        while stream.advance().unwrap() {
            let same = found.last().is_some_and(|(key, _): &(Vec<u8>, u64)| key == stream.key());
            prop_assert!(tied || !same, "nobody said that two neighbours are equal");
            found.push((stream.key().to_vec(), stream.row().unwrap()));
            tied = stream.is_tied();
        }
        prop_assert!(found == expected);
    }

    #[test]
    fn a_merge_in_several_passes_and_pieces_is_the_whole(
        runs in prop::collection::vec(pairs(), 0..9),
        memory_bytes in prop_oneof![Just(0usize), Just(1_000_000), Just(usize::MAX)],
        mut cuts in prop::collection::vec(0u16..300, 0..4),
    ) {
        let disk = Disk::new();
        let all = KeyRange::default();
        let used = {
            let paths = disk.runs(&runs);
            let used = disk.ledger.used();
            let source = MergedRuns::open(&paths, &all, &disk.budget(memory_bytes), &disk.ledger, None).unwrap();
            prop_assert!(source.ways() <= 2 || source.reader_bytes() <= memory_bytes);

            let sorted = stable_sorted(runs.into_iter().flat_map(stable_sorted));
            let mut first: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let (mut collapsed, mut conflicting) = (Checksum::default(), Checksum::default());
            for (key, value) in sorted {
                match first.get(&key) {
                    None => drop(first.insert(key, value)),
                    Some(kept) if *kept == value => collapsed.add(&key, &value),
                    Some(_) => conflicting.add(&key, &value),
                }
            }
            let expected: Vec<Pair> = first.into_iter().collect();

            cuts.sort_unstable();
            let bounds: Vec<Vec<u8>> =
                cuts.iter().map(|n| [&b"t\x80\0\0\0\0\0\0\x01_r"[..], &n.to_be_bytes()].concat()).collect();
            let starts = [Vec::new()].into_iter().chain(bounds.clone());
            let ends = bounds.into_iter().chain([Vec::new()]);
            let mut pieces = Vec::new();
            for (start, end) in starts.zip(ends) {
                // Reading a piece from its middle again must not count anything twice.
                let piece = KeyRange::new(start, end);
                let pairs = if piece.end.is_empty() || piece.start < piece.end { read_source(&source, &piece) } else { vec![] };
                if let Some((key, _)) = pairs.get(pairs.len() / 2) {
                    let again = KeyRange::new(next_key(key), piece.end.clone());
                    prop_assert!(read_source(&source, &again) == inside(&pairs, &again));
                }
                pieces.extend(pairs);
            }
            prop_assert!(pieces == expected);
            prop_assert_eq!(source.duplicates(), Duplicates { collapsed, conflicting, ..Duplicates::default() });
            used
        };
        prop_assert_eq!(disk.ledger.used(), used, "scratch runs give their space back");
        prop_assert!(disk.files().iter().all(|name| !name.starts_with("merge")));
    }
}

fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<Pair> {
    numbers
        .into_iter()
        .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 100]))
        .collect()
}

#[test]
fn disjoint_runs_are_read_one_after_the_other() {
    let disk = Disk::new();
    let runs: Vec<_> = (0..10)
        .map(|i| numbered((9 - i) * 100..(10 - i) * 100))
        .collect();
    let paths = disk.runs(&runs);
    let all = KeyRange::default();
    let source = MergedRuns::open(&paths, &all, &disk.budget(0), &disk.ledger, None).unwrap();
    assert_eq!(source.ways(), 1);
    assert_eq!(read_source(&source, &all), numbered(0..1000));
    let touching = disk.runs(&[numbered(0..11), numbered(10..20)]);
    let source = MergedRuns::open(&touching, &all, &disk.budget(0), &disk.ledger, None).unwrap();
    assert_eq!(source.ways(), 2, "a key that both have must be met in both");
}

#[test]
fn pairs_whose_keys_differ_are_not_taken_for_equal_ones() {
    let disk = Disk::new();
    let runs: Vec<_> = (0..3)
        .map(|run| numbered((run..60_000).step_by(3)))
        .collect();
    let paths = disk.runs(&runs);
    let all = KeyRange::default();
    let source = MergedRuns::open(&paths, &all, &disk.budget(1 << 20), &disk.ledger, None).unwrap();
    assert_eq!(source.ways(), 3);
    let mut stream = source.stream();
    let mut tied = 0;
    while stream.advance().unwrap() {
        assert_eq!(stream.row(), None);
        tied += u32::from(stream.is_tied());
    }
    assert_eq!(tied, 0);
}

#[test]
fn readers_of_one_source_at_the_same_time_do_not_disturb_each_other() {
    let disk = Disk::new();
    let paths = disk.runs(&[
        numbered((0..20_000).step_by(2)),
        numbered((0..20_000).step_by(3)),
    ]);
    let all = KeyRange::default();
    let source = MergedRuns::open(&paths, &all, &disk.budget(1 << 20), &disk.ledger, None).unwrap();
    let expected = numbered((0..20_000).filter(|n| n % 2 == 0 || n % 3 == 0));
    std::thread::scope(|scope| {
        for part in 0..4u32 {
            let (source, expected) = (&source, &expected);
            let range = KeyRange::new(
                (part * 5000).to_be_bytes(),
                ((part + 1) * 5000).to_be_bytes(),
            );
            scope.spawn(move || assert!(read_source(source, &range) == inside(expected, &range)));
        }
    });
    assert_eq!(source.duplicates().collapsed.kvs, 20_000u64.div_ceil(6));
}

#[test]
fn a_conflict_reaches_the_hook_once_and_an_error_of_the_hook_ends_the_stream() {
    struct Seen(Mutex<Vec<(Pair, Vec<u8>)>>, usize);
    impl ConflictHook for Seen {
        fn conflict(
            &self,
            key: &[u8],
            kept: &[u8],
            dropped: &[u8],
        ) -> thunderhead_types::Result<()> {
            let mut seen = self.0.lock();
            seen.push(((key.to_vec(), kept.to_vec()), dropped.to_vec()));
            if seen.len() > self.1 {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "table db.t",
                    "too many conflicts",
                ));
            }
            Ok(())
        }
    }
    let disk = Disk::new();
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let paths = disk.runs(&[
        vec![pair("a", "1"), pair("b", "2")],
        vec![pair("b", "2"), pair("b", "3"), pair("a", "1")],
    ]);
    let all = KeyRange::default();
    let seen = Arc::new(Seen(Mutex::default(), 1));
    let source = MergedRuns::open(
        &paths,
        &all,
        &disk.budget(0),
        &disk.ledger,
        Some(seen.clone()),
    )
    .unwrap();
    for _ in 0..3 {
        assert_eq!(read_source(&source, &all), [pair("a", "1"), pair("b", "2")]);
    }
    assert_eq!(*seen.0.lock(), [(pair("b", "2"), b"3".to_vec())]);
    assert_eq!(
        (
            source.duplicates().collapsed.kvs,
            source.duplicates().conflicting.kvs
        ),
        (2, 1)
    );

    let strict = Arc::new(Seen(Mutex::default(), 0));
    let source =
        MergedRuns::open(&paths, &all, &disk.budget(0), &disk.ledger, Some(strict)).unwrap();
    let error = source
        .open(&all)
        .unwrap()
        .next_batch(&mut PairBatch::default())
        .unwrap_err();
    assert_eq!(
        (error.kind, error.place.as_str()),
        (ErrorKind::Conflict, "table db.t")
    );
}

#[test]
fn every_damaged_byte_and_every_lost_tail_is_noticed() {
    let disk = Disk::new();
    let whole = disk.run("a.run", &numbered((0..60).map(|n| n * 7)));
    let good = fs::read(&whole.path).unwrap();
    let all = KeyRange::default();
    let path = disk.path("bad.run");
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            fs::write(&path, &bad).unwrap();
            let error = read_run(&path, &all).expect_err("a damaged byte");
            assert!(
                matches!(&error, SortError::Corrupt { path: p, .. } if *p == path),
                "byte {at}: {error:?}"
            );
        }
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert!(
            matches!(read_run(&path, &all), Err(SortError::Corrupt { .. })),
            "{len} bytes"
        );
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert!(read_run(&path, &all).is_err());
}

#[test]
fn damage_names_the_file_and_the_block_and_leaves_other_blocks_readable() {
    let disk = Disk::new();
    let pairs: Vec<Pair> = (0..40u32)
        .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 50_000]))
        .collect();
    let meta = disk.run("a.run", &pairs);
    assert!(meta.blocks.len() > 4);
    let mut bytes = fs::read(&meta.path).unwrap();
    let bad = &meta.blocks[2];
    bytes[bad.offset as usize + 3] ^= 4;
    fs::write(&meta.path, &bytes).unwrap();
    let error = Error::from(read_run(&meta.path, &KeyRange::default()).unwrap_err());
    assert_eq!(error.place, meta.path.display().to_string());
    assert_eq!(
        error.cause,
        format!(
            "the block at byte {} is damaged: checksum mismatch",
            bad.offset
        )
    );
    let before = KeyRange::new([], meta.blocks[2].first_key.clone());
    assert_eq!(
        read_run(&meta.path, &before).unwrap(),
        inside(&pairs, &before)
    );
}

#[test]
fn what_is_not_finished_is_no_run_and_gives_its_space_back() {
    let disk = Disk::new();
    let all = KeyRange::default();
    let path = disk.path("a.run");
    let mut writer = RunWriter::create(&path, &disk.ledger).unwrap();
    for (key, value) in numbered(0..20_000) {
        writer.add(&key, &value).unwrap();
    }
    assert!(disk.ledger.used() > 0 && RunFile::open(&path, &all).is_err());
    assert!(
        RunFile::open(&disk.path("a.run.tmp"), &all).is_err(),
        "without its index it is no run either"
    );
    drop(writer);
    assert_eq!((disk.files(), disk.ledger.used()), (vec![], 0));

    // A killed process leaves the temporary file; the next attempt replaces it.
    let mut writer = RunWriter::create(&path, &disk.ledger).unwrap();
    writer.add(b"old", b"").unwrap();
    std::mem::forget(writer);
    assert_eq!(disk.files(), ["a.run.tmp"]);
    let mut writer = RunWriter::create(&path, &disk.ledger).unwrap();
    writer.add(b"new", b"").unwrap();
    writer.finish().unwrap();
    assert_eq!(disk.files(), ["a.run"]);
    assert_eq!(read_run(&path, &all).unwrap(), [(b"new".to_vec(), vec![])]);
}

#[test]
fn a_full_disk_is_an_error_before_it_is_full() {
    let disk = Disk::new();
    let ledger = Arc::new(Ledger::open(disk.dir.path(), 100_000).unwrap());
    let mut writer = RunWriter::create(&disk.path("a.run"), &ledger).unwrap();
    let mut state = 1u64;
    let error = (0u32..).find_map(|n| {
        // Noise, so that it does not shrink.
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(1000).collect();
        writer.add(&n.to_be_bytes(), &noise).err()
    });
    let error = error.unwrap();
    assert!(
        matches!(&error, SortError::NoSpace { dir, .. } if dir == disk.dir.path()),
        "{error:?}"
    );
    drop(writer);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn pairs_out_of_order_are_refused() {
    let disk = Disk::new();
    let mut writer = RunWriter::create(&disk.path("a.run"), &disk.ledger).unwrap();
    writer.add(b"b", b"").unwrap();
    writer.add(b"b", b"").unwrap();
    assert!(matches!(
        writer.add(b"a", b""),
        Err(SortError::OutOfOrder { .. })
    ));
    writer.add(b"c", &vec![0; BLOCK_BYTES]).unwrap();
    assert!(
        matches!(writer.add(b"b", b""), Err(SortError::OutOfOrder { .. })),
        "across blocks, too"
    );
}

#[test]
fn the_message_about_a_run_says_what_is_in_it() {
    let disk = Disk::new();
    let pairs: Vec<Pair> = (0..10u32)
        .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 100_000]))
        .collect();
    let run = run_message(&disk.run("a.run", &pairs));
    assert_eq!((run.entries, run.raw_bytes), (10, 1_000_040));
    assert_eq!(
        (&run.first_key[..], &run.last_key[..]),
        (&[0u8, 0, 0, 0][..], &[0u8, 0, 0, 9][..])
    );
    assert_eq!(
        run.blocks.iter().map(|b| b.entries).collect::<Vec<_>>(),
        [3, 3, 3, 1]
    );
    assert_eq!(
        run.blocks.iter().map(|b| b.raw_bytes).sum::<u64>(),
        run.raw_bytes
    );
    assert_eq!(&run.blocks[1].first_key[..], [0u8, 0, 0, 3]);
}
