//! Which files may lie in import directories without having been ingested. Each uuid is noted before its
//! first byte is sent, again before the first ingest that names it, and struck out when the files are in
//! the cluster or gone. What a killed process leaves is read from the file by the next one.
//!
//! The file is a list of records of one length, appended; it is emptied when nothing is open. A torn
//! record at its end was followed by nothing that it should have come before.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use thunderhead_proto::metapb::RegionEpoch;
use thunderhead_types::{Error, ErrorKind, Result};

use crate::region::Region;

const BEGUN: u8 = 1;
const NAMED: u8 = 2;
const ENDED: u8 = 3;
/// Kind, uuid, region, conf_ver, version.
const RECORD_BYTES: usize = 1 + 16 + 8 + 8 + 8;

pub(crate) type Uuid = [u8; 16];

/// Files under one uuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub region: u64,
    pub epoch: RegionEpoch,
    /// An ingest named them: they may be in the cluster, and must never be sent again.
    pub named: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<Uuid, Entry>,
    file: Option<File>,
}

impl Ledger {
    /// Reads what is there; the file is made when the first uuid is noted. Without a path the ledger only
    /// lasts as long as the process.
    pub fn open(path: Option<PathBuf>) -> Result<Arc<Ledger>> {
        let mut open = BTreeMap::new();
        if let Some(path) = &path {
            match std::fs::read(path) {
                Ok(bytes) => replay(&bytes, &mut open),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(path, &error)),
            }
        }
        let state = Mutex::new(State { open, file: None });
        Ok(Arc::new(Ledger { path, state }))
    }

    /// What is open, in no order that means anything.
    pub(crate) fn entries(&self) -> Vec<(Uuid, Entry)> {
        let state = self.state.lock();
        state.open.iter().map(|(id, entry)| (*id, *entry)).collect()
    }

    /// Notes, durably, that files for `region` will be sent under `uuid`.
    pub(crate) async fn begin(self: &Arc<Self>, uuid: Uuid, region: &Region) -> Result<()> {
        let entry = Entry {
            region: region.id,
            epoch: region.epoch,
            named: false,
        };
        self.note(BEGUN, uuid, entry).await
    }

    /// Notes, durably, that an ingest of `uuid` will be sent.
    pub(crate) async fn name(self: &Arc<Self>, uuid: Uuid) -> Result<()> {
        let known = self.state.lock().open.get(&uuid).copied();
        match known {
            Some(entry) if !entry.named => {
                self.note(
                    NAMED,
                    uuid,
                    Entry {
                        named: true,
                        ..entry
                    },
                )
                .await
            }
            _ => Ok(()),
        }
    }

    /// The files are in the cluster or gone. When that is forgotten, it is found out again.
    pub(crate) fn end(&self, uuid: Uuid) {
        let mut state = self.state.lock();
        let Some(entry) = state.open.remove(&uuid) else {
            return;
        };
        let Some(file) = &mut state.file else { return };
        let _ = file.write_all(&record(ENDED, uuid, entry));
        if state.open.is_empty()
            && let Some(file) = &state.file
        {
            let _ = file.set_len(0);
        }
    }

    async fn note(self: &Arc<Self>, kind: u8, uuid: Uuid, entry: Entry) -> Result<()> {
        if self.path.is_none() {
            self.state.lock().open.insert(uuid, entry);
            return Ok(());
        }
        let ledger = Arc::clone(self);
        let noted = tokio::task::spawn_blocking(move || ledger.append(kind, uuid, entry));
        noted
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "ledger of files", e))?
    }

    fn append(&self, kind: u8, uuid: Uuid, entry: Entry) -> Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let durably = |state: &mut State| -> io::Result<()> {
            let file = match &mut state.file {
                Some(file) => file,
                none => none.insert(OpenOptions::new().create(true).append(true).open(path)?),
            };
            file.write_all(&record(kind, uuid, entry))?;
            file.sync_data()
        };
        let mut state = self.state.lock();
        durably(&mut state).map_err(|error| failed(path, &error))?;
        state.open.insert(uuid, entry);
        Ok(())
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Internal, path.display(), error)
        .advice("check space and health of the sort directory, then run the same command again")
}

fn record(kind: u8, uuid: Uuid, entry: Entry) -> Vec<u8> {
    let mut to = Vec::with_capacity(RECORD_BYTES);
    to.push(kind);
    to.extend_from_slice(&uuid);
    for number in [entry.region, entry.epoch.conf_ver, entry.epoch.version] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    to
}

fn replay(bytes: &[u8], open: &mut BTreeMap<Uuid, Entry>) {
    for record in bytes.chunks_exact(RECORD_BYTES) {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&record[1..17]);
        let entry = Entry {
            region: number(17),
            epoch: RegionEpoch {
                conf_ver: number(25),
                version: number(33),
            },
            named: record[0] == NAMED,
        };
        match record[0] {
            BEGUN | NAMED => drop(open.insert(uuid, entry)),
            ENDED => drop(open.remove(&uuid)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thunderhead_types::KeyRange;

    fn region() -> Region {
        Region {
            id: 7,
            epoch: RegionEpoch {
                conf_ver: 3,
                version: 9,
            },
            range: KeyRange::default(),
            peers: Vec::new(),
            leader: None,
            pending: Vec::new(),
            down: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_is_open_is_known_to_the_next_process_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = Some(dir.path().join("files"));
        let ledger = Ledger::open(path.clone()).unwrap();
        for uuid in [[1; 16], [2; 16], [3; 16]] {
            ledger.begin(uuid, &region()).await.unwrap();
        }
        ledger.name([2; 16]).await.unwrap();
        ledger.end([1; 16]);
        drop(ledger);
        // The last record is torn.
        let mut bytes = std::fs::read(path.as_ref().unwrap()).unwrap();
        bytes.extend_from_slice(&[ENDED, 3, 3]);
        std::fs::write(path.as_ref().unwrap(), bytes).unwrap();

        let ledger = Ledger::open(path.clone()).unwrap();
        let open = ledger.entries();
        assert_eq!(open.len(), 2);
        assert_eq!((open[0].0, open[0].1.named), ([2; 16], true));
        assert_eq!((open[1].0, open[1].1.named), ([3; 16], false));
        assert_eq!((open[1].1.region, open[1].1.epoch), (7, region().epoch));
    }

    #[tokio::test]
    async fn the_file_is_empty_when_nothing_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files");
        let ledger = Ledger::open(Some(path.clone())).unwrap();
        ledger.begin([1; 16], &region()).await.unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 0);
        ledger.end([1; 16]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        ledger.begin([2; 16], &region()).await.unwrap();
        assert_eq!(Ledger::open(Some(path)).unwrap().entries().len(), 1);
    }
}
