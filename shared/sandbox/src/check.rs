//! Why a request that names a region is refused: TiKV's checks in TiKV's order, as region errors with
//! TiKV's texts.

use crate::cluster::Cluster;
use crate::faults::RegionErrorKind;
use crate::regions::{self, RegionState};
use crate::store::Store;
use std::time::Instant;
use thunderhead_proto::errorpb::{self, Error};
use thunderhead_proto::kvrpcpb::Context;
use thunderhead_proto::metapb::{Region, RegionEpoch};
use tonic::Status;

impl Cluster {
    /// The region that `context` names, if `store` leads it and the versions agree.
    pub(crate) fn check(
        &self,
        store: &Store,
        context: &Context,
    ) -> Result<RegionState, Box<Error>> {
        let peer = context.peer.unwrap_or_default();
        if peer.store_id != store.id {
            return Err(store_not_match(peer.store_id, store.id));
        }
        let id = context.region_id;
        let regions = self.regions.read();
        let state = regions.get(id).ok_or_else(|| region_not_found(id))?;
        let local = state
            .local_view(store.id, Instant::now())
            .ok_or_else(|| region_not_found(id))?;
        let own = state.peer_on(store.id).map_or(0, |own| own.id);
        if own != peer.id {
            return Err(mismatch_peer_id(peer.id, own));
        }
        if state.leader != Some(store.id) {
            return Err(not_leader(state));
        }
        if context.term != 0 && context.term + 1 < state.term {
            return Err(stale_command());
        }
        let sent = context.region_epoch.unwrap_or_default();
        if sent.version != regions::epoch(local).version {
            let sibling = regions
                .before_key(&local.start_key)
                .map(|sibling| sibling.region.clone());
            return Err(epoch_not_match(local, sent, sibling));
        }
        Ok(state.clone())
    }

    /// Refuses a request meant for another cluster or for a store that is dead.
    pub(crate) fn check_target(
        &self,
        store: &Store,
        context: Option<&Context>,
    ) -> Result<(), Status> {
        if !store.alive() {
            return Err(Status::unavailable("store is down"));
        }
        let asked = context.map_or(0, |context| context.cluster_id);
        if asked != 0 && asked != self.id {
            return Err(Status::invalid_argument(format!(
                "cluster id mismatch: request {asked}, server {}",
                self.id
            )));
        }
        Ok(())
    }

    /// The error that a fault asks for.
    pub(crate) fn region_error(
        &self,
        kind: RegionErrorKind,
        backoff_ms: u64,
        region_id: u64,
        store: u64,
    ) -> Error {
        let state = self.region(region_id);
        let text = |message: &str| Error {
            message: message.into(),
            ..Default::default()
        };
        let error = match kind {
            RegionErrorKind::NotLeader => match &state {
                Some(state) => not_leader(state),
                None => region_not_found(region_id),
            },
            RegionErrorKind::NoLeader => not_leader_without_hint(region_id),
            RegionErrorKind::EpochNotMatch => {
                let region = state.map(|state| state.region).unwrap_or_default();
                epoch_not_match(&region, regions::epoch(&region), None)
            }
            RegionErrorKind::RegionNotFound => region_not_found(region_id),
            RegionErrorKind::ServerIsBusy => Box::new(server_is_busy(
                "too many sst files are ingesting",
                backoff_ms,
            )),
            RegionErrorKind::StaleCommand => stale_command(),
            RegionErrorKind::FileNotExist => file_not_exist(),
            RegionErrorKind::UndeterminedResult => {
                let message = "Result of the proposal is unknown".to_owned();
                let undetermined_result = Some(errorpb::UndeterminedResult {
                    message: message.clone(),
                });
                Box::new(Error {
                    message,
                    undetermined_result,
                    ..Default::default()
                })
            }
            RegionErrorKind::DiskFull => {
                let disk_full = errorpb::DiskFull {
                    store_id: vec![store],
                    reason: "disk full".into(),
                };
                Box::new(Error {
                    message: "disk full".into(),
                    disk_full: Some(disk_full),
                    ..Default::default()
                })
            }
            RegionErrorKind::ReadIndexNotReady => {
                let reason = "can not read index due to split".to_owned();
                let message = format!("read index not ready, reason {reason}, region {region_id}");
                let read_index_not_ready = Some(errorpb::ReadIndexNotReady { reason, region_id });
                Box::new(Error {
                    message,
                    read_index_not_ready,
                    ..Default::default()
                })
            }
            RegionErrorKind::ProposalDropped => Box::new(text("Raft raft: proposal dropped")),
            RegionErrorKind::IngestConflict => Box::new(text("ingest file conflict")),
        };
        *error
    }
}

pub(crate) fn store_not_match(asked: u64, actual: u64) -> Box<Error> {
    let store_not_match = errorpb::StoreNotMatch {
        request_store_id: asked,
        actual_store_id: actual,
    };
    let message = format!("to store id {asked}, mine {actual}");
    Box::new(Error {
        message,
        store_not_match: Some(store_not_match),
        ..Default::default()
    })
}

pub(crate) fn region_not_found(region_id: u64) -> Box<Error> {
    let region_not_found = Some(errorpb::RegionNotFound { region_id });
    Box::new(Error {
        message: format!("region {region_id} not found"),
        region_not_found,
        ..Default::default()
    })
}

fn mismatch_peer_id(asked: u64, own: u64) -> Box<Error> {
    let mismatch_peer_id = Some(errorpb::MismatchPeerId {
        request_peer_id: asked,
        store_peer_id: own,
    });
    Box::new(Error {
        message: format!("mismatch peer id {asked} != {own}"),
        mismatch_peer_id,
        ..Default::default()
    })
}

pub(crate) fn not_leader(state: &RegionState) -> Box<Error> {
    let Some(leader) = state.leader_peer() else {
        return not_leader_without_hint(state.id());
    };
    let message = format!(
        "peer is not leader for region {}, leader may Some(id: {} store_id: {})",
        state.id(),
        leader.id,
        leader.store_id
    );
    let not_leader = Some(errorpb::NotLeader {
        region_id: state.id(),
        leader: Some(*leader),
    });
    Box::new(Error {
        message,
        not_leader,
        ..Default::default()
    })
}

fn not_leader_without_hint(region_id: u64) -> Box<Error> {
    let message = format!("peer is not leader for region {region_id}, leader may None");
    let not_leader = Some(errorpb::NotLeader {
        region_id,
        leader: None,
    });
    Box::new(Error {
        message,
        not_leader,
        ..Default::default()
    })
}

fn stale_command() -> Box<Error> {
    let stale_command = Some(errorpb::StaleCommand {});
    Box::new(Error {
        message: "stale command".into(),
        stale_command,
        ..Default::default()
    })
}

pub(crate) fn file_not_exist() -> Box<Error> {
    let message = "The file which would be ingested doest not exist.".to_owned();
    Box::new(Error {
        message,
        stale_command: Some(errorpb::StaleCommand {}),
        ..Default::default()
    })
}

pub(crate) fn server_is_busy(reason: &str, backoff_ms: u64) -> Error {
    let server_is_busy = errorpb::ServerIsBusy {
        reason: reason.to_owned(),
        backoff_ms,
        ..Default::default()
    };
    Error {
        message: reason.to_owned(),
        server_is_busy: Some(server_is_busy),
        ..Default::default()
    }
}

fn epoch_not_match(local: &Region, sent: RegionEpoch, sibling: Option<Region>) -> Box<Error> {
    let own = regions::epoch(local);
    let message = format!(
        "EpochNotMatch current epoch of region {} is conf_ver: {} version: {}, but you sent conf_ver: {} version: {}",
        local.id, own.conf_ver, own.version, sent.conf_ver, sent.version
    );
    let current_regions = [Some(local.clone()), sibling]
        .into_iter()
        .flatten()
        .collect();
    let epoch_not_match = Some(errorpb::EpochNotMatch { current_regions });
    Box::new(Error {
        message,
        epoch_not_match,
        ..Default::default()
    })
}

/// The same when an ingest is applied: there both parts of the epoch count.
pub(crate) fn epoch_not_match_at_apply(region: &Region, sent: RegionEpoch) -> Box<Error> {
    let own = regions::epoch(region);
    let mut error = epoch_not_match(region, sent, None);
    error.message = format!(
        "EpochNotMatch conf_ver: {} version: {} != conf_ver: {} version: {}",
        sent.conf_ver, sent.version, own.conf_ver, own.version
    );
    error
}

pub(crate) fn key_not_in_region(key: &[u8], region: &Region) -> Box<Error> {
    let key_not_in_region = Some(errorpb::KeyNotInRegion {
        key: key.to_vec().into(),
        region_id: region.id,
        start_key: region.start_key.clone(),
        end_key: region.end_key.clone(),
    });
    let message = format!("key is not in region key range of region {}", region.id);
    Box::new(Error {
        message,
        key_not_in_region,
        ..Default::default()
    })
}
