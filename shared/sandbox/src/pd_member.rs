//! A member of PD and what its service needs again and again: headers, admission, descriptions of
//! regions, timestamps.

use crate::cluster::Cluster;
use crate::faults::{Action, Point};
use crate::regions::RegionState;
use crate::store::Store;
use crate::tso::LOGICAL_BITS;
use futures::Stream;
use std::sync::Arc;
use std::time::Instant;
use thunderhead_proto::metapb;
use thunderhead_proto::pdpb::{self, *};
use tonic::{Response, Status, Streaming};

/// One member of PD.
#[derive(Clone)]
pub(crate) struct PdMember {
    pub cluster: Arc<Cluster>,
    pub member: u32,
    /// `host:port` of every member.
    pub addresses: Arc<Vec<String>>,
}

pub(crate) type Reply<T> = Result<Response<T>, Status>;

impl PdMember {
    /// Header of a good answer.
    pub(crate) fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.cluster.id,
            error: None,
        })
    }

    /// Header of an answer that says what is wrong.
    pub(crate) fn failed(
        &self,
        kind: ErrorType,
        message: impl Into<String>,
    ) -> Option<ResponseHeader> {
        let error = pdpb::Error {
            r#type: kind.into(),
            message: message.into(),
        };
        Some(ResponseHeader {
            cluster_id: self.cluster.id,
            error: Some(error),
        })
    }

    /// What a member is called and where it listens.
    pub(crate) fn info(&self, member: u32) -> Member {
        let address = self
            .addresses
            .get(member as usize)
            .cloned()
            .unwrap_or_default();
        Member {
            name: format!("pd-{member}"),
            member_id: u64::from(member) + 1,
            client_urls: vec![format!("http://{address}")],
            peer_urls: vec![format!("http://{address}")],
            binary_version: format!("v{}", self.cluster.config.profile.version()),
            ..Default::default()
        }
    }

    fn check_header(&self, header: Option<&RequestHeader>) -> Result<(), Status> {
        if self.cluster.pd.leader() != self.member {
            return Err(Status::unavailable("not leader"));
        }
        let sent = header.map_or(0, |header| header.cluster_id);
        if sent != self.cluster.id {
            let text = format!(
                "mismatch cluster id, need {} but got {sent}",
                self.cluster.id
            );
            return Err(Status::failed_precondition(text));
        }
        Ok(())
    }

    /// Refuses what this member must not serve; then faults.
    pub(crate) async fn admit(&self, header: Option<&RequestHeader>) -> Result<(), Status> {
        self.check_header(header)?;
        self.cluster.strike(Point::Pd, None, None).await.map(|_| ())
    }

    /// For the calls that only the newest releases have.
    pub(crate) async fn admit_gc(&self, header: Option<&RequestHeader>) -> Result<(), Status> {
        if !self.cluster.config.profile.gc_barriers() {
            return Err(Status::unimplemented("unknown method for service pdpb.PD"));
        }
        self.admit(header).await
    }

    async fn describe(&self, state: &RegionState) -> Result<Option<pdpb::Region>, Status> {
        let mut leader = state.leader_peer().cloned().unwrap_or_default();
        match self
            .cluster
            .strike(Point::Regions, None, Some(state.id()))
            .await?
        {
            Some(Action::Hole) => return Ok(None),
            Some(Action::NoLeader) => leader = metapb::Peer::default(),
            _ => {}
        }
        let down = state
            .region
            .peers
            .iter()
            .filter(|peer| !self.cluster.is_alive(peer.store_id));
        Ok(Some(pdpb::Region {
            region: Some(state.region.clone()),
            leader: Some(leader),
            down_peers: down
                .map(|peer| PeerStats {
                    peer: Some(*peer),
                    down_seconds: 60,
                })
                .collect(),
            pending_peers: state.pending_peers(Instant::now()),
        }))
    }

    /// The regions as PD tells of them, without those that a fault hides.
    pub(crate) async fn describe_all(
        &self,
        states: Vec<RegionState>,
    ) -> Result<Vec<pdpb::Region>, Status> {
        let mut regions = Vec::with_capacity(states.len());
        for state in &states {
            regions.extend(self.describe(state).await?);
        }
        Ok(regions)
    }

    pub(crate) async fn region_response(
        &self,
        state: Option<RegionState>,
    ) -> Reply<GetRegionResponse> {
        let mut response = GetRegionResponse {
            header: self.header(),
            ..Default::default()
        };
        if let Some(state) = state
            && let Some(region) = self.describe(&state).await?
        {
            response.region = region.region;
            response.leader = region.leader.filter(|leader| leader.id != 0);
            response.down_peers = region.down_peers;
            response.pending_peers = region.pending_peers;
        }
        Ok(Response::new(response))
    }

    /// The regions over an encoded range.
    pub(crate) fn overlapping(&self, start: &[u8], end: &[u8], limit: usize) -> Vec<RegionState> {
        self.cluster
            .regions
            .read()
            .overlapping(start, end)
            .take(limit)
            .cloned()
            .collect()
    }

    /// What a store reports of itself.
    pub(crate) fn stats(&self, store: &Store) -> StoreStats {
        let led = self
            .cluster
            .regions
            .read()
            .iter()
            .filter(|r| r.peer_on(store.id).is_some())
            .count();
        let (capacity, available) = disk_space();
        StoreStats {
            store_id: store.id,
            capacity,
            available,
            region_count: led as u32,
            slow_score: 1,
            ..Default::default()
        }
    }

    async fn tso_one(&self, request: TsoRequest) -> Result<Option<TsoResponse>, Status> {
        self.check_header(request.header.as_ref())?;
        self.cluster.strike(Point::Tso, None, None).await?;
        let count = request.count;
        if count == 0 || count >= 1 << LOGICAL_BITS {
            return Err(Status::unknown("tso count should be positive"));
        }
        let ts = self.cluster.tso.next(u64::from(count))?;
        let (physical, logical) = (
            (ts >> LOGICAL_BITS) as i64,
            (ts & ((1 << LOGICAL_BITS) - 1)) as i64,
        );
        let timestamp = Some(Timestamp {
            physical,
            logical,
            suffix_bits: 0,
        });
        Ok(Some(TsoResponse {
            header: self.header(),
            count,
            timestamp,
        }))
    }

    /// Struck by a fault that says the protected data may be gone already.
    pub(crate) async fn passed(&self) -> Result<bool, Status> {
        Ok(self.cluster.strike(Point::Gc, None, None).await? == Some(Action::SafePointPassed))
    }
}

pub(crate) fn limit(limit: i32) -> usize {
    usize::try_from(limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX)
}

/// A capacity that never is the reason to stop.
pub(crate) fn disk_space() -> (u64, u64) {
    (1 << 40, 1 << 39)
}

/// One answer per request, in order; the stream ends with the first error.
pub(crate) fn answer_each(
    member: PdMember,
    requests: Streaming<TsoRequest>,
) -> impl Stream<Item = Result<TsoResponse, Status>> + Send + 'static {
    futures::stream::try_unfold((member, requests), |(member, mut requests)| async move {
        let Some(request) = requests.message().await? else {
            return Ok(None);
        };
        let response = member.tso_one(request).await?;
        Ok(response.map(|response| (response, (member, requests))))
    })
}
