//! Table files on our own disk: damaged before or after they were proved, and without room for them.
#![allow(clippy::unwrap_used)]

mod upload_rig;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thunderhead_cluster::{DiskAccount, ImporterOptions, IngestPath, MemoryPairs};
use thunderhead_codec::keys;
use thunderhead_sandbox::{Action, Fault, Point};
use thunderhead_types::Checksum;
use upload_rig::{ROWS, Rig, TABLE, Watched, tally};

/// Damages every file that is being built in `dir` and has reached the disk so far.
fn spoil(dir: &Path) {
    for file in std::fs::read_dir(dir).unwrap() {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(file.unwrap().path())
            .unwrap();
        if file.metadata().unwrap().len() > 2000 {
            file.write_at(&[0; 16], 1000).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_proved_reaches_no_store_and_its_range_goes_through_write() {
    for path in [IngestPath::Auto, IngestPath::Upload] {
        let rig = Rig::new(path).await;
        let uploads = rig.watch(Point::UploadOpen);
        let dir = rig.dir.path().join("sort");
        // Incompressible, so that what is built reaches the disk before all of it is built.
        let value = |i: i64| {
            let mut dice = Dice(i as u64);
            (0..2000).map(|_| dice.roll() as u8).collect::<Vec<_>>()
        };
        let pairs: Vec<_> = (0..ROWS)
            .map(|i| (keys::record_key(TABLE, i), value(i)))
            .collect();
        let mut expected = Checksum::default();
        pairs.iter().for_each(|(k, v)| expected.add(k, v));
        let before = move |read: u64| {
            // In `Auto` the canaries, half a megabyte, go through; the file after them does not.
            if read > 1000 {
                spoil(&dir);
            }
        };
        let source = Watched {
            records: MemoryPairs::new(pairs),
            ..Watched::new(before)
        };
        let stats = rig.try_ingest(source).await.unwrap();
        assert_eq!(stats.checksum, expected, "{path:?}");
        let found = rig.importer.checksum(&keys::table_range(TABLE)).await;
        assert_eq!(found.unwrap(), expected, "{path:?}");
        let told = rig.importer.ingest_path();
        for words in ["by write", "not proved", "this is a bug; please report it"] {
            let words = match (path, words) {
                (IngestPath::Auto, "by write") => "write: ",
                _ => words,
            };
            assert!(told.contains(words), "{told}");
        }
        // The canary of Upload is three peers' files of both families.
        let sent = uploads();
        assert_eq!(
            sent,
            if path == IngestPath::Auto { 6 } else { 0 },
            "{path:?}"
        );
        assert!(rig.sandbox.panics().is_empty() && rig.orphans().is_empty());
        let left = std::fs::read_dir(rig.dir.path().join("sort")).unwrap();
        assert_eq!(left.count(), 0);
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_damaged_after_it_was_proved_is_not_offered_for_ever_but_goes_through_write() {
    let rig = Rig::new(IngestPath::Upload).await;
    let dir = rig.dir.path().join("sort");
    let refuse = Action::Status {
        code: "unavailable".to_owned(),
        message: "not yet".to_owned(),
    };
    rig.sandbox
        .add_fault(Fault::new(Point::UploadOpen, refuse, 0));
    let (sandbox, done) = (&rig.sandbox, rig.ingest());
    let damage = async {
        let end = Instant::now() + Duration::from_secs(30);
        while sandbox.faults().iter().all(|fault| fault.fired == 0) {
            assert!(Instant::now() < end, "nothing is uploaded");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        spoil(&dir);
        sandbox.clear_faults();
    };
    let (stats, ()) = tokio::join!(done, damage);
    let told = rig.importer.ingest_path();
    for words in [
        "by write",
        "changed on the disk after it was proved",
        "check the disk",
    ] {
        assert!(told.contains(words), "{told}");
    }
    // Other files of the slice may have arrived before: whoever called clears them away.
    assert!(stats.strays > 0, "{stats:?}");
}

/// An account with this much left.
struct Disk(AtomicU64);

impl DiskAccount for Disk {
    fn take(&self, bytes: u64) -> bool {
        let take = |free: u64| free.checked_sub(bytes);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, take).is_ok()
    }
    fn take_used(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_wait_for_room_on_disk_and_without_any_the_pairs_go_through_write() {
    let small = |options: &mut ImporterOptions| options.slice_bytes = Some(8 << 10);
    // Room for one file at a time, for none.
    for (free, in_part) in [(100 << 10, false), (10 << 10, true)] {
        let rig = Rig::with(IngestPath::Upload, |_| {}, small).await;
        let borders: Vec<_> = (0..6).map(|i| keys::record_key(TABLE, i * 500)).collect();
        rig.importer.split_and_scatter(&borders).await.unwrap();
        let disk = Arc::new(Disk(free.into()));
        rig.importer.count_files_in(disk.clone());
        let stats = rig.ingest().await;
        let told = rig.importer.ingest_path();
        assert_eq!(
            told.contains("in part by write: no room"),
            in_part,
            "{told}"
        );
        assert_eq!(stats.bytes == tally().bytes, in_part, "{stats:?}");
        assert_eq!(disk.0.load(Ordering::Relaxed), free, "all is given back");
        // A cut file needs room as well; without it the rest goes through Write, and every pair counts once.
        rig.sandbox
            .add_fault(Fault::new(Point::Ingest, Action::Split, 3));
        rig.ingest().await;
        let end = Instant::now() + Duration::from_secs(10);
        while disk.0.load(Ordering::Relaxed) != free {
            assert!(
                Instant::now() < end,
                "a builder nobody listens to keeps its room"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
