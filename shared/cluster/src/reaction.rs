//! What to do about each way a store can refuse: one table for region errors, one for the texts in
//! which `Write` reports (it has no error payload: failures are gRPC UNKNOWN with a debug dump of the
//! server's error), one for plain RPC failures. Pure; callers carry the reactions out.

use std::time::Duration;

use thunderhead_proto::{errorpb, metapb};
use tonic::{Code, Status};

/// What to do next. "Files" are SSTs already written for the region: they stay usable for as long as
/// the region's epoch stays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reaction {
    /// Nothing happened; this peer leads. Files stay.
    NewLeader(metapb::Peer),
    /// Nothing happened; PD knows who leads, or soon will. Files stay.
    FindLeader,
    /// Nothing happened; the same request later, at the earliest after the time that the server asked
    /// for. Files stay.
    Wait(Option<Duration>),
    /// The region is not what we thought. Files are garbage. What the store knows of the regions now.
    Rescan(Vec<metapb::Region>),
    /// The store moved to another address. Files stay.
    FindStore,
    /// May have happened or not: the same request again. Files may be gone.
    Unknown,
    /// The files are not there: ingested by an earlier attempt whose reply was lost, or never written.
    Verify,
    /// Too much in one request.
    Smaller,
    /// The server does not know the call.
    Unsupported,
    /// No retry helps.
    Fatal(&'static str),
}

const DISK_FULL: &str = "free space on the store or add stores, then run the same command again";
const API_VERSION: &str = "the cluster stores data in another API version than TiDB tables use";
const BAD_FILE: &str =
    "set thunderhead.ingest = \"write\"; no store was harmed, but this is a bug to report";
const RECOVERY: &str = "wait until recovery or flashback ended, then run the same command again";

/// For an error that came as a payload.
pub(crate) fn of_region_error(error: &errorpb::Error) -> Reaction {
    if let Some(not_leader) = &error.not_leader {
        return match not_leader.leader.filter(|peer| peer.id != 0) {
            Some(leader) => Reaction::NewLeader(leader),
            None => Reaction::FindLeader,
        };
    }
    if let Some(busy) = &error.server_is_busy {
        let asked = busy.backoff_ms.max(u64::from(busy.estimated_wait_ms));
        return Reaction::Wait((asked > 0).then(|| Duration::from_millis(asked)));
    }
    if let Some(epoch) = &error.epoch_not_match {
        return Reaction::Rescan(epoch.current_regions.clone());
    }
    if error.region_not_found.is_some()
        || error.key_not_in_region.is_some()
        || error.is_witness.is_some()
        || error.mismatch_peer_id.is_some()
        || error.region_not_initialized.is_some()
        || error.proposal_in_merging_mode.is_some()
        || error.bucket_version_not_match.is_some()
    {
        return Reaction::Rescan(Vec::new());
    }
    if error.stale_command.is_some() {
        return match error.message.contains("not exist") {
            true => Reaction::Verify,
            false => Reaction::Unknown,
        };
    }
    if error.undetermined_result.is_some() {
        return Reaction::Unknown;
    }
    if error.store_not_match.is_some() {
        return Reaction::FindStore;
    }
    if error.raft_entry_too_large.is_some() {
        return Reaction::Smaller;
    }
    if error.max_timestamp_not_synced.is_some() || error.data_is_not_ready.is_some() {
        return Reaction::Wait(None);
    }
    if error.read_index_not_ready.is_some() {
        return Reaction::FindLeader;
    }
    if error.disk_full.is_some() {
        return Reaction::Fatal(DISK_FULL);
    }
    if error.recovery_in_progress.is_some()
        || error.flashback_in_progress.is_some()
        || error.flashback_not_prepared.is_some()
    {
        return Reaction::Fatal(RECOVERY);
    }
    of_message(&error.message)
}

/// For an error that is nothing but text.
fn of_message(message: &str) -> Reaction {
    if message.contains("ingest file conflict") {
        return Reaction::Wait(None);
    }
    if message.contains("proposal dropped") {
        return Reaction::FindLeader;
    }
    if message.contains("no valid key found for split") {
        return Reaction::Rescan(Vec::new());
    }
    Reaction::Unknown
}

/// For a call that failed as a call.
pub(crate) fn of_status(status: &Status) -> Reaction {
    let text = status.message();
    if text.contains("IncompatibleApiVersion") || text.contains("InvalidKeyMode") {
        return Reaction::Fatal(API_VERSION);
    }
    // A leader that looks into a file before it proposes anything, and has none.
    if text.contains("No such file") {
        return Reaction::Verify;
    }
    if text.contains("Corruption: ") {
        return Reaction::Fatal(BAD_FILE);
    }
    match status.code() {
        Code::Unimplemented => Reaction::Unsupported,
        Code::PermissionDenied | Code::Unauthenticated => {
            Reaction::Fatal("the store refuses our certificate")
        }
        // The server is up and says no: nothing was done.
        Code::ResourceExhausted => Reaction::Wait(None),
        _ => Reaction::Unknown,
    }
}

/// For a `Write` stream that failed. Whatever was sent is lost, so every retry is a rewrite under a
/// fresh uuid; the difference is whether the region is still the same.
pub(crate) fn of_write_status(status: &Status) -> Reaction {
    let text = status.message();
    let has = |part: &str| text.contains(part);
    if has("RequestTooNew") {
        return Reaction::Wait(None);
    }
    if has("RequestTooOld") {
        return Reaction::Rescan(Vec::new());
    }
    if has("DiskSpaceNotEnough") {
        return Reaction::Fatal(DISK_FULL);
    }
    if has("ResourceNotEnough") {
        return Reaction::Wait(None);
    }
    if has("strict ascending order") {
        return Reaction::Fatal("keys came out of order or twice; this is a bug");
    }
    match of_status(status) {
        // A store that does not answer may be replaced: look at the region again before rewriting.
        Reaction::Unknown => Reaction::Rescan(Vec::new()),
        Reaction::Unsupported => Reaction::Fatal("the store has no import service"),
        reaction => reaction,
    }
}

/// For an `Upload` stream that failed, or `None` if the file is there all the same. A stream that did not
/// get to its end leaves nothing, so the same bytes may be sent again under the same uuid.
pub(crate) fn of_upload_status(status: &Status) -> Option<Reaction> {
    let text = status.message();
    // From a stream of ours whose reply was lost: no ingest named the uuid so far.
    if text.contains("FileExists") {
        return None;
    }
    let reaction = if text.contains("DiskSpaceNotEnough") {
        Reaction::Fatal(DISK_FULL)
    } else if text.contains("ResourceNotEnough") {
        Reaction::Wait(None)
    } else {
        match of_status(status) {
            Reaction::Unsupported => Reaction::Fatal("the store has no import service"),
            // Broken off, damaged on the way, or still open from an earlier attempt.
            reaction => reaction,
        }
    };
    Some(reaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64) -> metapb::Peer {
        metapb::Peer {
            id,
            store_id: id * 10,
            ..Default::default()
        }
    }

    fn reaction(fill: impl FnOnce(&mut errorpb::Error)) -> Reaction {
        let mut error = errorpb::Error::default();
        fill(&mut error);
        of_region_error(&error)
    }

    fn message(text: &str) -> Reaction {
        reaction(|e| e.message = text.to_owned())
    }

    #[test]
    fn not_leader_with_a_hint_asks_the_named_peer() {
        let hint = |leader| {
            reaction(|e| {
                e.not_leader = Some(errorpb::NotLeader {
                    region_id: 1,
                    leader,
                })
            })
        };
        assert_eq!(hint(Some(peer(3))), Reaction::NewLeader(peer(3)));
        assert_eq!(hint(None), Reaction::FindLeader);
        assert_eq!(hint(Some(peer(0))), Reaction::FindLeader);
    }

    #[test]
    fn busy_waits_as_long_as_asked() {
        let busy = |backoff_ms| {
            reaction(|e| {
                e.server_is_busy = Some(errorpb::ServerIsBusy {
                    backoff_ms,
                    ..Default::default()
                });
            })
        };
        assert_eq!(busy(0), Reaction::Wait(None));
        assert_eq!(
            busy(1500),
            Reaction::Wait(Some(Duration::from_millis(1500)))
        );
    }

    #[test]
    fn a_changed_region_means_rescan() {
        let current = metapb::Region {
            id: 7,
            ..Default::default()
        };
        let regions = vec![current];
        let got = reaction(|e| {
            e.epoch_not_match = Some(errorpb::EpochNotMatch {
                current_regions: regions.clone(),
            });
        });
        assert_eq!(got, Reaction::Rescan(regions));
        let none = Reaction::Rescan(Vec::new());
        assert_eq!(
            reaction(|e| e.region_not_found = Some(Default::default())),
            none
        );
        assert_eq!(
            reaction(|e| e.key_not_in_region = Some(Default::default())),
            none
        );
        assert_eq!(
            reaction(|e| e.region_not_initialized = Some(Default::default())),
            none
        );
        assert_eq!(
            reaction(|e| e.proposal_in_merging_mode = Some(Default::default())),
            none
        );
        assert_eq!(reaction(|e| e.is_witness = Some(Default::default())), none);
        assert_eq!(
            reaction(|e| e.mismatch_peer_id = Some(Default::default())),
            none
        );
    }

    #[test]
    fn a_stale_command_is_verified_only_when_the_files_are_gone() {
        let stale = |text: &str| {
            reaction(|e| {
                e.stale_command = Some(Default::default());
                e.message = text.to_owned();
            })
        };
        let gone = "The file which would be ingested doest not exist.";
        assert_eq!(stale(gone), Reaction::Verify);
        assert_eq!(stale("stale command"), Reaction::Unknown);
        assert_eq!(
            reaction(|e| e.undetermined_result = Some(Default::default())),
            Reaction::Unknown
        );
    }

    #[test]
    fn the_rest_of_the_payloads() {
        assert_eq!(
            reaction(|e| e.store_not_match = Some(Default::default())),
            Reaction::FindStore
        );
        assert_eq!(
            reaction(|e| e.raft_entry_too_large = Some(Default::default())),
            Reaction::Smaller
        );
        assert_eq!(
            reaction(|e| e.read_index_not_ready = Some(Default::default())),
            Reaction::FindLeader
        );
        assert_eq!(
            reaction(|e| e.max_timestamp_not_synced = Some(Default::default())),
            Reaction::Wait(None)
        );
        assert_eq!(
            reaction(|e| e.disk_full = Some(Default::default())),
            Reaction::Fatal(DISK_FULL)
        );
        assert_eq!(
            reaction(|e| e.flashback_in_progress = Some(Default::default())),
            Reaction::Fatal(RECOVERY)
        );
    }

    #[test]
    fn plain_texts_are_understood() {
        assert_eq!(message("ingest file conflict"), Reaction::Wait(None));
        assert_eq!(message("raft: proposal dropped"), Reaction::FindLeader);
        assert_eq!(
            message("no valid key found for split."),
            Reaction::Rescan(Vec::new())
        );
        assert_eq!(message("what is this"), Reaction::Unknown);
    }

    #[test]
    fn write_failures_are_read_from_their_text() {
        let of = |text: &str| of_write_status(&Status::unknown(text));
        assert_eq!(of("Engine(RequestTooNew(...))"), Reaction::Wait(None));
        assert_eq!(of("RequestTooOld"), Reaction::Rescan(Vec::new()));
        assert_eq!(of("DiskSpaceNotEnough"), Reaction::Fatal(DISK_FULL));
        assert_eq!(
            of("ResourceNotEnough(Memory usage too high)"),
            Reaction::Wait(None)
        );
        assert!(matches!(
            of("Keys must be added in strict ascending order."),
            Reaction::Fatal(_)
        ));
        assert!(matches!(of("IncompatibleApiVersion"), Reaction::Fatal(_)));
        assert_eq!(of("transport error"), Reaction::Rescan(Vec::new()));
        assert_eq!(
            of_write_status(&Status::unavailable("down")),
            Reaction::Rescan(Vec::new())
        );
        assert!(matches!(
            of_write_status(&Status::unimplemented("")),
            Reaction::Fatal(_)
        ));
    }

    #[test]
    fn upload_failures_are_read_from_their_text() {
        let of = |text: &str| of_upload_status(&Status::unknown(text));
        assert_eq!(of("FileExists(\"x\", \"create SST upload cache\")"), None);
        assert_eq!(of("FileCorrupted(..)"), Some(Reaction::Unknown));
        assert_eq!(of("Io(Os { code: 17 })"), Some(Reaction::Unknown));
        assert_eq!(of("ResourceNotEnough"), Some(Reaction::Wait(None)));
        assert_eq!(of("DiskSpaceNotEnough"), Some(Reaction::Fatal(DISK_FULL)));
    }

    #[test]
    fn a_call_without_a_reply_may_have_happened() {
        for status in [
            Status::unavailable("reset"),
            Status::deadline_exceeded("late"),
            Status::cancelled("gone"),
            Status::unknown("h2 error"),
        ] {
            assert_eq!(of_status(&status), Reaction::Unknown);
        }
        assert_eq!(of_status(&Status::unimplemented("")), Reaction::Unsupported);
    }
}
