//! Room on disk for the table files that we build. Whoever owns the directory keeps an account of it, shared with what
//! else lies there; a file is only begun when there is room for it. When there is none, a builder waits for files of
//! ours to go. When there is none and nothing to wait for, its pairs go through `Write`, which needs no disk.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How often a builder that waits looks whether anybody still wants its files.
const LOOK: Duration = Duration::from_millis(100);

/// An account of the bytes in a directory.
pub trait DiskAccount: Send + Sync {
    /// Sets bytes aside; false, and nothing set aside, when there are not that many.
    fn take(&self, bytes: u64) -> bool;
    /// Sets bytes aside that are used already, whether they fit or not.
    fn take_used(&self, bytes: u64);
    /// Gives bytes back.
    fn give_back(&self, bytes: u64);
}

/// See the module.
#[derive(Default)]
pub(crate) struct Space {
    /// Files are built in memory if nowhere, and then nothing is counted.
    pub dir: Option<PathBuf>,
    account: OnceLock<Arc<dyn DiskAccount>>,
    /// Bytes that files of ours have.
    held: Mutex<u64>,
    freed: Condvar,
}

impl Space {
    pub fn new(dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            dir,
            ..Self::default()
        })
    }

    /// Counts in `account` from now on; the first one stays.
    pub fn count_in(&self, account: Arc<dyn DiskAccount>) {
        let _ = self.account.set(account);
    }

    /// Room that is there now.
    pub fn room(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let mut held = self.held.lock();
        self.take(&mut held, bytes)
    }

    /// Room now or when files of ours are gone; `None` when no file of ours is left to wait for, or when nobody
    /// `wants` it any more.
    pub fn wait_for_room(self: &Arc<Self>, bytes: u64, wanted: impl Fn() -> bool) -> Option<Room> {
        let mut held = self.held.lock();
        loop {
            if let Some(room) = self.take(&mut held, bytes) {
                return Some(room);
            }
            if *held == 0 || !wanted() {
                return None;
            }
            self.freed.wait_for(&mut held, LOOK);
        }
    }

    fn take(self: &Arc<Self>, held: &mut u64, bytes: u64) -> Option<Room> {
        let account = self.account.get();
        if self.dir.is_some() && account.is_some_and(|account| !account.take(bytes)) {
            return None;
        }
        *held += bytes;
        Some(Room {
            space: Arc::clone(self),
            bytes,
            counted: self.dir.is_some() && account.is_some(),
        })
    }
}

/// Room for a file, until it is dropped.
pub(crate) struct Room {
    space: Arc<Space>,
    bytes: u64,
    counted: bool,
}

impl Room {
    /// The file is finished and this large.
    pub fn settle(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let (more, less) = (bytes.saturating_sub(before), before.saturating_sub(bytes));
        if let Some(account) = self.space.account.get().filter(|_| self.counted) {
            account.take_used(more);
            account.give_back(less);
        }
        let mut held = self.space.held.lock();
        *held = (*held + more).saturating_sub(less);
        self.space.freed.notify_all();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Disk(Mutex<u64>);

    impl DiskAccount for Disk {
        fn take(&self, bytes: u64) -> bool {
            let mut free = self.0.lock();
            let fits = *free >= bytes;
            *free -= if fits { bytes } else { 0 };
            fits
        }
        fn take_used(&self, bytes: u64) {
            let mut free = self.0.lock();
            *free = free.saturating_sub(bytes);
        }
        fn give_back(&self, bytes: u64) {
            *self.0.lock() += bytes;
        }
    }

    fn space(free: u64) -> (Arc<Space>, Arc<Disk>) {
        let disk = Arc::new(Disk(Mutex::new(free)));
        let space = Space::new(Some(PathBuf::from("ssts")));
        space.count_in(Arc::clone(&disk) as Arc<dyn DiskAccount>);
        (space, disk)
    }

    #[test]
    fn room_is_counted_while_a_file_lives_at_the_size_that_it_has() {
        let (space, disk) = space(100);
        let mut first = space.room(80).unwrap();
        assert!(space.room(30).is_none());
        first.settle(60);
        let second = space.room(30).unwrap();
        assert_eq!(*disk.0.lock(), 10);
        drop((first, second));
        assert_eq!((*disk.0.lock(), *space.held.lock()), (100, 0));
    }

    #[test]
    fn a_builder_waits_for_files_of_ours_and_for_nothing_else() {
        let (space, _) = space(100);
        let held = space.room(80).unwrap();
        assert!(space.wait_for_room(30, || false).is_none());
        let waiting = std::thread::spawn({
            let space = Arc::clone(&space);
            move || space.wait_for_room(90, || true).is_some()
        });
        drop(held);
        assert!(waiting.join().unwrap());
        // Nothing of ours is there that could go.
        assert!(space.wait_for_room(101, || true).is_none());
    }

    #[test]
    fn files_in_memory_are_not_counted() {
        let disk = Arc::new(Disk(Mutex::new(0)));
        let space = Space::new(None);
        space.count_in(Arc::clone(&disk) as Arc<dyn DiskAccount>);
        drop(space.room(10).unwrap());
        assert_eq!(*disk.0.lock(), 0);
    }
}
