//! Which complete encode and conflict attempts this agent still has on disk. An attempt is a directory of runs; it is
//! complete when its manifest file is there, which is written last.
//!
//! ```text
//! SORT_DIR/runs/JOB/TASK-EPOCH-ATTEMPT/{*.run, manifest}
//! SORT_DIR/dropped/N                    what nobody holds any more, until it is removed
//! ```

use crate::sort::Ledger;
use parking_lot::Mutex;
use prost::Message;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thunderhead_proto::thunderhead::{HeldAttempt, Manifest};
use thunderhead_types::{Epoch, Error, ErrorKind, Result, fail_point};

const MANIFEST: &str = "manifest";

/// Directory of a job's runs.
pub(crate) fn job_dir(sort_dir: &Path, job: &str) -> PathBuf {
    sort_dir.join("runs").join(job)
}

/// Attempts on this disk, by the directory of their job and by task. A directory is listed when its job is first asked
/// for and not for each of its tasks, which may be many thousands: nobody else changes it.
#[derive(Default)]
pub(crate) struct Attempts {
    jobs: Mutex<HashMap<PathBuf, HashMap<u64, Vec<PathBuf>>>>,
    /// Counts what was set aside.
    dropped: AtomicU64,
}

impl Attempts {
    /// Makes the directory of a new attempt, after removing what earlier attempts at the task left: the
    /// coordinator asks for a task again only when it has given up the earlier ones.
    pub(crate) fn create(
        &self,
        ledger: &Ledger,
        (task_id, attempt): (u64, u32),
        job: &str,
        epoch: Epoch,
    ) -> Result<PathBuf> {
        for earlier in self.take_out(ledger.dir(), job, &[task_id])? {
            ledger.remove_dir(&earlier)?;
        }
        let job_dir = job_dir(ledger.dir(), job);
        let mut jobs = self.jobs.lock();
        let tasks = tasks_of(&mut jobs, &job_dir)?;
        let dir = job_dir.join(format!("{task_id}-{epoch}-{attempt}"));
        fs::create_dir_all(&job_dir).map_err(|e| disk_error(&job_dir, &e))?;
        fs::create_dir(&dir).map_err(|e| disk_error(&job_dir, &e))?;
        tasks.entry(task_id).or_default().push(dir.clone());
        Ok(dir)
    }

    /// Takes the runs of some tasks of a job, or of the whole job when `tasks` is empty, out of sight: they are held no
    /// more. Removing them takes as long as the file system likes, and is left to the caller.
    pub(crate) fn take_out(
        &self,
        sort_dir: &Path,
        job: &str,
        tasks: &[u64],
    ) -> Result<Vec<PathBuf>> {
        let job_dir = job_dir(sort_dir, job);
        let mut jobs = self.jobs.lock();
        if tasks.is_empty() {
            jobs.remove(&job_dir);
            return Ok(self.set_aside(sort_dir, &job_dir)?.into_iter().collect());
        }
        let there = tasks_of(&mut jobs, &job_dir)?;
        let mut taken = Vec::new();
        for task in tasks {
            for attempt in there.get(task).into_iter().flatten() {
                taken.extend(self.set_aside(sort_dir, attempt)?);
            }
            there.remove(task);
        }
        Ok(taken)
    }

    /// Under another name; `None` when it was not there.
    fn set_aside(&self, sort_dir: &Path, dir: &Path) -> Result<Option<PathBuf>> {
        let number = self.dropped.fetch_add(1, Ordering::Relaxed);
        let aside = dropped_dir(sort_dir).join(number.to_string());
        match fs::rename(dir, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(disk_error(dir, &e)),
        }
    }
}

fn tasks_of<'a>(
    jobs: &'a mut HashMap<PathBuf, HashMap<u64, Vec<PathBuf>>>,
    job_dir: &Path,
) -> Result<&'a mut HashMap<u64, Vec<PathBuf>>> {
    match jobs.entry(job_dir.to_owned()) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let mut tasks: HashMap<u64, Vec<PathBuf>> = HashMap::new();
            let entries = match fs::read_dir(job_dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                found => Some(found.map_err(|e| disk_error(job_dir, &e))?),
            };
            for entry in entries.into_iter().flatten() {
                let entry = entry.map_err(|e| disk_error(job_dir, &e))?;
                if let Some(task) = task_of(&entry.file_name().to_string_lossy()) {
                    tasks.entry(task).or_default().push(entry.path());
                }
            }
            Ok(new.insert(tasks))
        }
    }
}

/// Makes an attempt complete: manifest first under another name, synced, renamed, directory synced.
pub(crate) fn publish(dir: &Path, manifest: &Manifest) -> Result<()> {
    let write = || {
        let unfinished = dir.join("manifest.tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(&manifest.encode_to_vec())?;
        file.sync_all()?;
        fail_point("publish");
        fs::rename(&unfinished, dir.join(MANIFEST))?;
        File::open(dir)?.sync_all()?;
        fail_point("published");
        Ok(())
    };
    write().map_err(|e: io::Error| disk_error(dir, &e))
}

/// Directory of runs that had to be merged first; they live no longer than the task that made them.
pub(crate) fn scratch_dir(sort_dir: &Path) -> PathBuf {
    sort_dir.join("merge")
}

/// Directory of what nobody holds any more, until it is removed; there as long as the agent is.
fn dropped_dir(sort_dir: &Path) -> PathBuf {
    sort_dir.join("dropped")
}

/// Directory of table files on their way to stores; they live no longer than that.
pub fn sst_dir(sort_dir: &Path) -> PathBuf {
    sort_dir.join("ssts")
}

/// Removes what a killed process left unfinished. Goes before the ledger is opened, which counts what it finds as
/// used, and before any task.
pub(crate) fn sweep(sort_dir: &Path) -> Result<()> {
    let dropped = dropped_dir(sort_dir);
    for dir in [scratch_dir(sort_dir), sst_dir(sort_dir), dropped.clone()] {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk_error(sort_dir, &e)),
            _ => {}
        }
    }
    fs::create_dir(&dropped).map_err(|e| disk_error(&dropped, &e))?;
    attempts(sort_dir, |unfinished| fs::remove_dir_all(unfinished)).map(drop)
}

/// Removes table files of tasks that were stopped; those of tasks that ended are gone already.
pub(crate) fn remove_ssts(sort_dir: &Path) {
    // What stays is swept at the next start.
    for file in fs::read_dir(sst_dir(sort_dir))
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = fs::remove_file(file.path());
    }
}

/// The complete attempts.
pub(crate) fn list(sort_dir: &Path) -> Result<Vec<HeldAttempt>> {
    attempts(sort_dir, |_| Ok(()))
}

fn attempts(
    sort_dir: &Path,
    mut unfinished: impl FnMut(&Path) -> io::Result<()>,
) -> Result<Vec<HeldAttempt>> {
    let root = sort_dir.join("runs");
    let mut list = || {
        let mut held = Vec::new();
        if !root.exists() {
            return Ok(held);
        }
        for job in fs::read_dir(&root)? {
            let job = job?;
            let job_id = job.file_name().to_string_lossy().into_owned();
            for attempt in fs::read_dir(job.path())? {
                let attempt = attempt?;
                let attempt_dir = attempt.file_name().to_string_lossy().into_owned();
                match task_of(&attempt_dir) {
                    Some(task_id) if attempt.path().join(MANIFEST).exists() => {
                        held.push(HeldAttempt {
                            job_id: job_id.clone(),
                            task_id,
                            attempt_dir,
                        });
                    }
                    _ => unfinished(&attempt.path())?,
                }
            }
        }
        Ok(held)
    };
    list().map_err(|e: io::Error| disk_error(&root, &e))
}

/// The runs of some tasks, as `JOB/ATTEMPT/NAME.run`.
pub(crate) fn run_names(job_dir: &Path, job: &str, tasks: &[u64]) -> Vec<String> {
    let below = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names = Vec::new();
    let ours = |attempt: &String| task_of(attempt).is_some_and(|task| tasks.contains(&task));
    for attempt in below(job_dir).filter(ours) {
        let runs = below(&job_dir.join(&attempt)).filter(|name| name.ends_with(".run"));
        names.extend(runs.map(|name| format!("{job}/{attempt}/{name}")));
    }
    names
}

fn task_of(attempt_dir: &str) -> Option<u64> {
    attempt_dir.split('-').next()?.parse().ok()
}

pub(crate) fn disk_error(place: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Internal, place.display(), error)
        .advice("check the disk of sorted-kv-dir; the same command then goes on")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    fn ledger(dir: &Path) -> Arc<Ledger> {
        Arc::new(Ledger::open(dir, 1 << 20).unwrap())
    }

    #[test]
    fn only_attempts_with_a_manifest_survive_a_sweep() {
        let dir = tempfile::tempdir().unwrap();
        sweep(dir.path()).unwrap();
        let (ledger, attempts) = (ledger(dir.path()), Attempts::default());
        let complete = attempts.create(&ledger, (1, 1), "j", 5).unwrap();
        publish(&complete, &Manifest::default()).unwrap();
        let unfinished = attempts.create(&ledger, (2, 1), "j", 5).unwrap();
        fs::write(unfinished.join("a.run"), "x").unwrap();
        fs::create_dir(scratch_dir(dir.path())).unwrap();
        fs::create_dir(sst_dir(dir.path())).unwrap();
        fs::write(sst_dir(dir.path()).join("a.sst"), "x").unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 1);
        assert!(unfinished.exists());
        sweep(dir.path()).unwrap();
        let held = list(dir.path()).unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(
            (held[0].task_id, held[0].attempt_dir.as_str()),
            (1, "1-5-1")
        );
        assert!(!unfinished.exists() && !scratch_dir(dir.path()).exists());
        assert!(!sst_dir(dir.path()).exists());
    }

    #[test]
    fn a_new_attempt_replaces_the_runs_of_the_old_one_and_of_no_other_task() {
        let dir = tempfile::tempdir().unwrap();
        sweep(dir.path()).unwrap();
        let (ledger, attempts) = (ledger(dir.path()), Attempts::default());
        let other = attempts.create(&ledger, (12, 1), "j", 5).unwrap();
        let old = attempts.create(&ledger, (1, 1), "j", 5).unwrap();
        ledger.reserve(100).unwrap().commit(100);
        fs::write(old.join("a.run"), [0; 100]).unwrap();
        // Also by a process that was started again.
        let attempts = Attempts::default();
        let new = attempts.create(&ledger, (1, 2), "j", 5).unwrap();
        assert!(!old.exists() && new.exists() && other.exists());
        assert_eq!(ledger.used(), 0);
        fs::write(new.join("a.run"), [0; 50]).unwrap();
        publish(&new, &Manifest::default()).unwrap();
        let take = |tasks: &[u64]| attempts.take_out(dir.path(), "j", tasks).unwrap();
        let taken = take(&[1, 2]);
        assert!(!new.exists() && other.exists());
        assert!(taken.len() == 1 && taken[0].join("a.run").exists());
        // Another attempt may begin before they are removed; a process that is killed meanwhile does not hold them.
        let again = attempts.create(&ledger, (1, 3), "j", 5).unwrap();
        assert!(again.exists() && list(dir.path()).unwrap().is_empty());
        assert_eq!(take(&[]).len(), 1);
        assert!(take(&[]).is_empty());
        assert!(!other.exists() && !again.exists());
        sweep(dir.path()).unwrap();
        assert!(!taken[0].exists());
    }
}
