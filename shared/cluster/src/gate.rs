//! Which way pairs take into the cluster. `Write` works everywhere: every store builds its own files.
//! `Upload` sends files that we built once; a bad one would stop every replica of its region, so it is
//! only taken where it was tried, and only after it was tried on the cluster at hand:
//!
//! 1. every store has a version of [`TRIED`], and there is no columnar one;
//! 2. one range went through `Write`, and TiKV's checksum of it is ours;
//! 3. the next went through `Upload` with a meta of another API version, for which the leader opens and
//!    reads each file before it proposes anything, and its checksum is ours, too.
//!
//! Ranges that come meanwhile go through `Write`.

use parking_lot::Mutex;
use thunderhead_types::Result;

use crate::importer::Importer;
use crate::ingest::IngestStats;
use crate::store::is_tiflash;

/// Versions on which files of ours were ingested, and how that was tried.
const TRIED: [(&str, &str); 1] = [(
    "9.0.",
    "live: 9.0.0-beta.2, three stores, 2 million rows, ADMIN CHECK TABLE and checksums, also after restarts, \
     full compaction and auto-split; files of RocksDB's own writer, to which ours are compared byte by byte in layout",
)];

/// How pairs become files of the stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngestPath {
    /// Every store builds its own files from pairs.
    #[default]
    Write,
    /// Files are built once, here.
    Upload,
    /// `Upload` where it was tried and proves itself, else `Write`.
    Auto,
}

/// How one range goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Write,
    /// `checked`: the leader must read the files before it proposes anything.
    Upload {
        checked: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Asked(How),
    VersionsUnknown,
    WriteCanaryNext,
    UploadCanaryNext,
    /// A canary is on its way.
    Trying,
    Proven,
    Refused(String),
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

impl Gate {
    pub fn new(wanted: IngestPath) -> Self {
        let state = match wanted {
            IngestPath::Write => State::Asked(How::Write),
            IngestPath::Upload => State::Asked(How::Upload { checked: false }),
            IngestPath::Auto => State::VersionsUnknown,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// How the next range goes, and whether it is a canary, to be reported on.
    fn next(&self) -> (How, bool) {
        let mut state = self.state.lock();
        match &*state {
            State::Asked(how) => (*how, false),
            State::WriteCanaryNext => {
                *state = State::Trying;
                (How::Write, true)
            }
            State::UploadCanaryNext => {
                *state = State::Trying;
                (How::Upload { checked: true }, true)
            }
            State::Proven => (How::Upload { checked: false }, false),
            State::VersionsUnknown | State::Trying | State::Refused(_) => (How::Write, false),
        }
    }

    /// Nothing more goes through `Upload`, unless it was asked for.
    pub fn refuse(&self, why: String) {
        let mut state = self.state.lock();
        if !matches!(*state, State::Asked(_) | State::Refused(_)) {
            tracing::warn!(why, "all that follows goes through Write");
            *state = State::Refused(why);
        }
    }

    /// What a canary of `how` came to: whether it held pairs at all, and whether they are there.
    fn tried(&self, how: How, any: bool, there: bool) {
        let mut state = self.state.lock();
        if *state != State::Trying {
            return;
        }
        *state = match (how, any, there) {
            (How::Write, false, _) => State::WriteCanaryNext,
            (How::Upload { .. }, false, _) => State::UploadCanaryNext,
            (How::Write, true, true) => State::UploadCanaryNext,
            (How::Upload { .. }, true, true) => State::Proven,
            (How::Write, true, false) => {
                State::Refused("the first range did not verify".to_owned())
            }
            (How::Upload { .. }, true, false) => {
                State::Refused("the range that tried Upload did not verify".to_owned())
            }
        };
    }

    fn words(&self) -> String {
        match &*self.state.lock() {
            State::Asked(How::Write) => "write: as asked for".to_owned(),
            State::Asked(How::Upload { .. }) => "upload: as asked for".to_owned(),
            State::Proven => {
                "upload: after one range each through Write and Upload verified".to_owned()
            }
            State::Refused(why) => format!("write: {why}"),
            State::VersionsUnknown => "write: nothing was ingested".to_owned(),
            State::WriteCanaryNext | State::UploadCanaryNext | State::Trying => {
                "write: too few ranges to try Upload first".to_owned()
            }
        }
    }
}

impl Importer {
    /// Which path the pairs take and why, for people.
    pub fn ingest_path(&self) -> String {
        self.gate.words()
    }

    pub(crate) async fn next_way(&self) -> Result<(How, bool)> {
        let unknown = *self.gate.state.lock() == State::VersionsUnknown;
        if unknown {
            let found = self.untried().await?;
            let mut state = self.gate.state.lock();
            if *state == State::VersionsUnknown {
                *state = found.map_or(State::WriteCanaryNext, State::Refused);
            }
        }
        Ok(self.gate.next())
    }

    /// Why Upload was not tried on clusters like this one.
    async fn untried(&self) -> Result<Option<String>> {
        for store in self.pd.stores().await? {
            if is_tiflash(&store) {
                return Ok(Some(format!("store {} is columnar", store.id)));
            }
            let version = store.version.trim_start_matches('v');
            if !TRIED.iter().any(|(tried, _)| version.starts_with(tried)) {
                return Ok(Some(format!(
                    "Upload was not tried on version {version} (store {})",
                    store.id
                )));
            }
        }
        Ok(None)
    }

    pub(crate) fn canary_is_over(&self, how: How, stats: &IngestStats, there: bool) {
        self.gate.tried(how, stats.checksum.kvs > 0, there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_begins_after_a_canary_of_each_kind_and_not_while_one_is_under_way() {
        let gate = Gate::new(IngestPath::Auto);
        assert_eq!(gate.next(), (How::Write, false));
        *gate.state.lock() = State::WriteCanaryNext;
        assert_eq!(gate.next(), (How::Write, true));
        assert_eq!(gate.next(), (How::Write, false));
        gate.tried(How::Write, true, true);
        let canary = How::Upload { checked: true };
        assert_eq!(gate.next(), (canary, true));
        gate.tried(canary, false, true);
        assert_eq!(
            gate.next(),
            (canary, true),
            "a range without pairs proves nothing"
        );
        assert_eq!(gate.next(), (How::Write, false));
        gate.tried(canary, true, true);
        assert_eq!(gate.next(), (How::Upload { checked: false }, false));
        gate.refuse("a file was not proved".to_owned());
        assert_eq!(gate.next(), (How::Write, false));
        assert!(gate.words().contains("not proved"));
    }

    #[test]
    fn what_was_asked_for_stays() {
        let gate = Gate::new(IngestPath::Upload);
        gate.refuse("no".to_owned());
        assert_eq!(gate.next(), (How::Upload { checked: false }, false));
    }
}
