//! Faults on demand: at which point, for which call, what happens, how often. This file decides whether
//! a call is struck; what an action does is up to the service that asked, or to `strike` for the
//! actions that mean the same everywhere.
//!
//! A fault as JSON, in `SandboxConfig::faults` or by `POST /sandbox/faults`:
//!
//! ```json
//! {"point": "ingest", "match": {"store": 2, "nth": 3}, "times": 1,
//!  "action": {"kind": "region-error", "error": "not-leader"}}
//! ```
//!
//! `troubles` lists what an importer must live through by this.
//!
//! | trouble in a real cluster | point | action |
//! |---|---|---|
//! | region splits, merges, changes peers, moves its leader under an import | `ingest`, `write-batch`, `upload-data` | `split`, `merge`, `conf-change`, `transfer-leader` |
//! | not leader, busy, stale command, unknown result, disk full, … | `ingest`, `split-region`, `kv`, `checksum` | `region-error` |
//! | done, but the reply is lost or late | `ingest-done`, `upload-done`, `write-done` | `drop-reply`, `delay` |
//! | follower applies late | `apply` | `delay` |
//! | slow store; connection lost in a stream | `write-batch`, `upload-data` | `delay`, `status` |
//! | disk or memory short | `write-open`, `upload-open` | `status` with code `unknown` and TiKV's text |
//! | bytes damaged on the way; file lost after its acknowledgement | `upload-data`, `write-batch`; `upload-done`, `write-done` | `flip-bit`; `lose-file` |
//! | store dies | any | `stop-store` |
//! | stored data differs from what was sent | `checksum` | `mutate` |
//! | PD without leader, stream ends, timestamp jump | `pd`, `tso` | `status`, `tso-jump`, `tso-exhaust` |
//! | region without leader, hole in a scan, scatter that never ends, safe point that moved on | `regions`, `operator`, `gc` | `no-leader`, `hole`, `operator`, `safe-point-passed` |

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Where a call can be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Every PD call but GetMembers and Tso.
    Pd,
    /// One Tso request.
    Tso,
    /// PD's region lookups and scans.
    Regions,
    /// GetOperator.
    Operator,
    /// Service safe points and GC barriers.
    Gc,
    /// TiKV's SplitRegion.
    SplitRegion,
    /// Transactional reads and writes.
    Kv,
    /// Coprocessor checksum.
    Checksum,
    /// Write, when its meta arrived.
    WriteOpen,
    /// Write, one batch.
    WriteBatch,
    /// Write, after the files are finished.
    WriteDone,
    /// Upload, when its meta arrived.
    UploadOpen,
    /// Upload, one chunk.
    UploadData,
    /// Upload, after the file is finished.
    UploadDone,
    /// Ingest and MultiIngest, before any check.
    Ingest,
    /// Ingest and MultiIngest, after they applied.
    IngestDone,
    /// Applying a log entry on one store.
    Apply,
    /// DuplicateDetect.
    DuplicateDetect,
    /// Import mode, force-partition ranges, compaction, suspension.
    ImportAdmin,
}

/// Region errors that can be given out without a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionErrorKind {
    /// With the leader as a hint.
    NotLeader,
    /// Without a hint.
    NoLeader,
    EpochNotMatch,
    RegionNotFound,
    /// With `backoff_ms` of the action, if any.
    ServerIsBusy,
    /// The term was old: nothing happened.
    StaleCommand,
    /// The files of the ingest are not there.
    FileNotExist,
    UndeterminedResult,
    DiskFull,
    ReadIndexNotReady,
    /// Only a message: the proposal was dropped by a change of leader.
    ProposalDropped,
    /// Only a message: another ingest of the same files runs.
    IngestConflict,
}

/// What happens to a struck call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Action {
    /// The call goes on after this long.
    Delay { ms: u64 },
    /// The call ends with a gRPC status; `code` as in the gRPC specification, in lower case with `-`.
    Status {
        code: String,
        #[serde(default)]
        message: String,
    },
    /// The call ends with a region error.
    RegionError {
        error: RegionErrorKind,
        #[serde(default)]
        backoff_ms: u64,
    },
    /// The region is split in the middle of its data first.
    Split,
    /// The region is merged with its neighbour first.
    Merge,
    /// A follower is replaced by a new peer first.
    ConfChange,
    /// Another peer becomes leader first.
    TransferLeader,
    /// The store dies first.
    StopStore,
    /// The work is done, the reply is lost.
    DropReply,
    /// One bit of the chunk is changed.
    FlipBit,
    /// The finished file disappears although it is acknowledged.
    LoseFile,
    /// One stored value of the region is changed.
    Mutate,
    /// The physical part of timestamps moves on.
    TsoJump { ms: u64 },
    /// Only a few logical values are left in this millisecond.
    TsoExhaust { left: u64 },
    /// The region is answered without its leader.
    NoLeader,
    /// The region is left out of a scan.
    Hole,
    /// The scatter operator has this status: `running`, `timeout`, `cancel`, `replace`, `success`.
    Operator { status: String },
    /// The answer says that data at the asked timestamp may be collected.
    SafePointPassed,
}

/// Which calls a fault is for; nothing set = all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Only on this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<u64>,
    /// Only for this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<u64>,
    /// Not before the n-th matching call, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Each matching call with this chance, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

/// One fault in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Given by the sandbox.
    #[serde(default)]
    pub id: u64,
    pub point: Point,
    #[serde(default, rename = "match")]
    pub matching: Match,
    pub action: Action,
    /// How often it strikes; 0 = until removed.
    #[serde(default = "once")]
    pub times: u64,
    /// Matching calls so far.
    #[serde(default)]
    pub seen: u64,
    /// Strikes so far.
    #[serde(default)]
    pub fired: u64,
}

fn once() -> u64 {
    1
}

impl Fault {
    /// A fault that strikes the next `times` calls at `point`.
    pub fn new(point: Point, action: Action, times: u64) -> Self {
        Self {
            id: 0,
            point,
            matching: Match::default(),
            action,
            times,
            seen: 0,
            fired: 0,
        }
    }

    fn strikes(&mut self, point: Point, store: Option<u64>, region: Option<u64>) -> bool {
        let m = &self.matching;
        let spent = self.times > 0 && self.fired >= self.times;
        if spent || self.point != point || !agrees(m.store, store) || !agrees(m.region, region) {
            return false;
        }
        self.seen += 1;
        if self.seen < m.nth.unwrap_or(1)
            || m.probability.is_some_and(|p| rand::random::<f64>() >= p)
        {
            return false;
        }
        self.fired += 1;
        true
    }
}

fn agrees(wanted: Option<u64>, actual: Option<u64>) -> bool {
    wanted.is_none() || wanted == actual
}

/// All faults in force.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    faults: Vec<Fault>,
}

impl Faults {
    /// Puts a fault in force; returns its id.
    pub(crate) fn add(&self, mut fault: Fault) -> u64 {
        let mut state = self.state.lock();
        state.last_id += 1;
        (fault.id, fault.seen, fault.fired) = (state.last_id, 0, 0);
        state.faults.push(fault);
        state.last_id
    }

    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let before = state.faults.len();
        state.faults.retain(|fault| fault.id != id);
        state.faults.len() < before
    }

    pub(crate) fn clear(&self) {
        self.state.lock().faults.clear();
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.state.lock().faults.clone()
    }

    /// The action of the first fault that strikes this call.
    pub(crate) fn hit(
        &self,
        point: Point,
        store: Option<u64>,
        region: Option<u64>,
    ) -> Option<Action> {
        let mut state = self.state.lock();
        let fault = state
            .faults
            .iter_mut()
            .find_map(|f| f.strikes(point, store, region).then(|| f.clone()))?;
        drop(state);
        tracing::info!(id = fault.id, ?point, store, region, action = ?fault.action, "fault strikes");
        Some(fault.action)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_fault_strikes_the_calls_it_matches_and_no_more_often_than_told() {
        let faults = Faults::default();
        let json = r#"{"point":"ingest","match":{"store":2,"nth":2},"times":2,
                       "action":{"kind":"region-error","error":"server-is-busy","backoff-ms":7}}"#;
        faults.add(serde_json::from_str(json).unwrap());
        let busy = Action::RegionError {
            error: RegionErrorKind::ServerIsBusy,
            backoff_ms: 7,
        };
        assert_eq!(faults.hit(Point::Ingest, Some(1), None), None);
        assert_eq!(faults.hit(Point::Apply, Some(2), None), None);
        let hits: Vec<_> = (0..5)
            .map(|_| faults.hit(Point::Ingest, Some(2), Some(9)))
            .collect();
        assert_eq!(hits, [None, Some(busy.clone()), Some(busy), None, None]);
        assert_eq!((faults.list()[0].seen, faults.list()[0].fired), (3, 2));
    }

    #[test]
    fn unknown_points_and_fields_are_refused() {
        for json in [
            r#"{"point":"nowhere","action":{"kind":"split"}}"#,
            r#"{"point":"ingest","action":{"kind":"explode"}}"#,
            r#"{"point":"ingest","action":{"kind":"split"},"match":{"stores":1}}"#,
        ] {
            assert!(serde_json::from_str::<Fault>(json).is_err(), "{json}");
        }
    }
}
