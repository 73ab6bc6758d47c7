//! The sort directory as an agent's home: who it is, and that nobody else lives there.

use crate::held::disk_error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use thunderhead_types::{Error, ErrorKind, Result};

const ID_FILE: &str = "agent-id";
const LOCK_FILE: &str = "agent-lock";

/// A sort directory that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct Home {
    /// Absolute, so that paths of runs mean the same to whoever names them.
    pub dir: PathBuf,
    /// Stays the same as long as the directory does.
    pub id: String,
    _lock: File,
}

impl Home {
    /// Makes `dir` if needed and takes it.
    ///
    /// # Errors
    /// When it cannot be written, or another agent works there.
    pub fn open(dir: &Path) -> Result<Self> {
        let opened = open(dir).map_err(|e| disk_error(dir, &e))?;
        opened.ok_or_else(|| {
            Error::new(
                ErrorKind::Precheck,
                dir.display(),
                "another agent works in this sort directory",
            )
            .advice("give each agent a directory of its own")
        })
    }
}

fn open(dir: &Path) -> io::Result<Option<Home>> {
    fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK_FILE))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let mut id = String::new();
    let path = dir.join(ID_FILE);
    match File::open(&path) {
        Ok(mut file) => drop(file.read_to_string(&mut id)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut id = id.trim().to_owned();
    if id.is_empty() {
        id = format!("{}-{:08x}", host_name(), rand::random::<u32>());
        let unfinished = dir.join("agent-id.tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(unfinished, path)?;
        File::open(&dir)?.sync_all()?;
    }
    Ok(Some(Home {
        dir,
        id,
        _lock: lock,
    }))
}

/// The host's name as far as it is fit for a name in messages, paths and terminals.
fn host_name() -> String {
    let name: String = fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(40)
        .collect();
    if name.is_empty() {
        "agent".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agent_keeps_its_name_and_its_directory_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/sort");
        let first = Home::open(&path).unwrap();
        assert!(first.dir.is_absolute());
        let refused = Home::open(&path).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Precheck);
        let id = first.id.clone();
        drop(first);
        assert_eq!(Home::open(&path).unwrap().id, id);
        let other = Home::open(&dir.path().join("other")).unwrap();
        assert_ne!(other.id, id);
    }
}
