//! The account of disk space in the sort directory. Space is reserved before it is written, so an
//! import stops with a clear error instead of filling the disk; nothing polls. The limit is set once,
//! from the configuration and from what the file system has at the start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use thunderhead_cluster::DiskAccount;

use super::error::{Result, SortError};

/// Counts the bytes of all runs of an agent, and of the table files that it builds.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    bytes_max: u64,
    used: Mutex<u64>,
    /// How often space was refused.
    refusals: AtomicU64,
}

impl Ledger {
    /// Opens the account of `dir`: its files count as used, and at most `bytes_max` bytes (0 = no
    /// limit) and never more than the file system has free now will be given out.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Ledger> {
        let used = bytes_below(dir).map_err(SortError::io(dir, "read the sort directory"))?;
        let stat = rustix::fs::statvfs(dir)
            .map_err(|errno| SortError::io(dir, "read the free space")(errno.into()))?;
        let there = used.saturating_add(stat.f_bavail.saturating_mul(stat.f_frsize));
        let bytes_max = if bytes_max == 0 {
            there
        } else {
            bytes_max.min(there)
        };
        Ok(Ledger {
            dir: dir.to_owned(),
            bytes_max,
            used: Mutex::new(used),
            refusals: AtomicU64::new(0),
        })
    }

    /// Sets `bytes` aside. They are given back when the reservation is dropped, except what it commits.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation> {
        let mut reservation = Reservation {
            ledger: Arc::clone(self),
            bytes: 0,
        };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Gives back committed bytes, after their file was deleted.
    pub fn release(&self, bytes: u64) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes);
    }

    /// Deletes the directory `path` with all that is in it and gives back its bytes. That it is not there
    /// is no error.
    pub fn remove_dir(&self, path: &Path) -> Result<()> {
        let removed = match bytes_below(path) {
            Ok(bytes) => fs::remove_dir_all(path).map(|()| self.release(bytes)),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(SortError::io(path, "remove the runs")),
        }
    }

    /// Bytes written and reserved.
    pub fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Bytes that may be used.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that can still be reserved.
    pub fn free(&self) -> u64 {
        self.bytes_max.saturating_sub(self.used())
    }

    /// How often space was refused so far.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// The sort directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file system had less than the ledger thought: others write to it as well.
    pub(super) fn full(&self, needed: u64) -> SortError {
        self.refuse(needed, 0)
    }

    fn refuse(&self, needed: u64, free: u64) -> SortError {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        SortError::NoSpace {
            dir: self.dir.clone(),
            needed,
            free,
        }
    }
}

/// Files of the cluster client lie here, too. That they wait for room is no refusal.
impl DiskAccount for Ledger {
    fn take(&self, bytes: u64) -> bool {
        let mut used = self.used.lock();
        let fits = self.bytes_max.saturating_sub(*used) >= bytes;
        *used += if fits { bytes } else { 0 };
        fits
    }

    fn take_used(&self, bytes: u64) {
        *self.used.lock() += bytes;
    }

    fn give_back(&self, bytes: u64) {
        self.release(bytes);
    }
}

/// Bytes set aside and not yet committed.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Reservation {
    /// Sets more aside.
    pub fn grow(&mut self, bytes: u64) -> Result<()> {
        self.grow_at_least(bytes, bytes)
    }

    /// Sets `wanted` bytes more aside, or what is there if that is at least `needed`.
    pub fn grow_at_least(&mut self, needed: u64, wanted: u64) -> Result<()> {
        let mut used = self.ledger.used.lock();
        let free = self.ledger.bytes_max.saturating_sub(*used);
        if needed > free {
            return Err(self.ledger.refuse(needed, free));
        }
        let bytes = wanted.clamp(needed, free.max(needed));
        *used += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Bytes set aside.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps `bytes` as used, for a file that stays, and gives back the rest.
    pub fn commit(mut self, bytes: u64) {
        debug_assert!(bytes <= self.bytes, "written before it was reserved");
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.release(self.bytes);
    }
}

fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thunderhead_types::{Error, ErrorKind};

    #[test]
    fn space_is_given_out_once_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("job")).unwrap();
        fs::write(dir.path().join("job/old.run"), [0; 100]).unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 1000).unwrap());
        assert_eq!((ledger.used(), ledger.bytes_max()), (100, 1000));

        let mut first = ledger.reserve(500).unwrap();
        let second = ledger.reserve(300).unwrap();
        assert!(first.grow(101).is_err());
        drop(second);
        first.grow(101).unwrap();
        first.commit(350);
        assert_eq!(ledger.used(), 450);
        ledger.release(350);
        assert_eq!(ledger.used(), 100);
    }

    #[test]
    fn table_files_take_what_runs_leave_and_are_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 1000).unwrap());
        let runs = ledger.reserve(600).unwrap();
        assert!(!ledger.take(401));
        assert!(ledger.take(400));
        assert_eq!((ledger.free(), ledger.refusals()), (0, 0));
        ledger.take_used(50);
        assert!(ledger.reserve(1).is_err());
        ledger.give_back(450);
        drop(runs);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn a_removed_directory_gives_its_bytes_back() {
        let dir = tempfile::tempdir().unwrap();
        let job = dir.path().join("job");
        fs::create_dir_all(job.join("task")).unwrap();
        fs::write(job.join("task/a.run"), [0; 100]).unwrap();
        fs::write(dir.path().join("other.run"), [0; 10]).unwrap();
        let ledger = Ledger::open(dir.path(), 1000).unwrap();
        for _ in 0..2 {
            ledger.remove_dir(&job).unwrap();
            assert_eq!((ledger.used(), job.exists()), (10, false));
        }
    }

    #[test]
    fn running_out_of_space_names_the_directory_and_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 1000).unwrap());
        let _held = ledger.reserve(900).unwrap();
        let error = Error::from(ledger.reserve(200).unwrap_err());
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(error.place, dir.path().display().to_string());
        assert_eq!(
            error.cause,
            "no space in the sort directory: 200 bytes needed, 100 bytes free"
        );
    }

    #[test]
    fn without_a_quota_the_file_system_is_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(dir.path(), 0).unwrap());
        assert!(ledger.bytes_max() > 0);
        assert!(ledger.reserve(u64::MAX).is_err());
    }
}
