//! PD's gRPC service. One value per member: a member that does not lead refuses everything but
//! GetMembers. Cluster ids are checked everywhere else; business errors go into the header, not into
//! the status.

use crate::faults::{Action, Point};
use crate::keys;
use crate::pd_member::{PdMember, Reply, answer_each, limit};
use crate::regions::RegionState;
use crate::strike::blocking;
use futures::StreamExt;
use futures::stream::BoxStream;
use thunderhead_proto::metapb;
use thunderhead_proto::pdpb::*;
use tonic::{Request, Response, Status, Streaming};

/// Reserved: the id under which GC itself holds its safe point.
const GC_WORKER: &str = "gc_worker";

#[tonic::async_trait]
impl pd_server::Pd for PdMember {
    async fn get_members(&self, _: Request<GetMembersRequest>) -> Reply<GetMembersResponse> {
        let leader = Some(self.info(self.cluster.pd.leader()));
        Ok(Response::new(GetMembersResponse {
            header: self.header(),
            members: (0..self.addresses.len() as u32)
                .map(|member| self.info(member))
                .collect(),
            etcd_leader: leader.clone(),
            leader,
            ..Default::default()
        }))
    }

    async fn get_cluster_info(
        &self,
        _: Request<GetClusterInfoRequest>,
    ) -> Reply<GetClusterInfoResponse> {
        let service_modes = vec![ServiceMode::PdSvcMode.into()];
        Ok(Response::new(GetClusterInfoResponse {
            header: self.header(),
            service_modes,
            tso_urls: Vec::new(),
        }))
    }

    type TsoStream = BoxStream<'static, Result<TsoResponse, Status>>;

    async fn tso(&self, request: Request<Streaming<TsoRequest>>) -> Reply<Self::TsoStream> {
        Ok(Response::new(
            answer_each(self.clone(), request.into_inner()).boxed(),
        ))
    }

    async fn alloc_id(&self, request: Request<AllocIdRequest>) -> Reply<AllocIdResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let count = request.count.max(1);
        let id = self.cluster.allocate_ids(u64::from(count))?;
        Ok(Response::new(AllocIdResponse {
            header: self.header(),
            id,
            count,
        }))
    }

    async fn is_bootstrapped(
        &self,
        request: Request<IsBootstrappedRequest>,
    ) -> Reply<IsBootstrappedResponse> {
        self.admit(request.get_ref().header.as_ref()).await?;
        Ok(Response::new(IsBootstrappedResponse {
            header: self.header(),
            bootstrapped: true,
        }))
    }

    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Reply<BootstrapResponse> {
        self.admit(request.get_ref().header.as_ref()).await?;
        let header = self.failed(
            ErrorType::AlreadyBootstrapped,
            "cluster is already bootstrapped",
        );
        Ok(Response::new(BootstrapResponse { header }))
    }

    async fn get_store(&self, request: Request<GetStoreRequest>) -> Reply<GetStoreResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let id = request.store_id;
        Ok(Response::new(match self.cluster.store(id) {
            Some(store) => GetStoreResponse {
                header: self.header(),
                store: Some(self.cluster.store_info(store)),
                stats: Some(self.stats(store)),
            },
            None => {
                let header = self.failed(
                    ErrorType::Unknown,
                    format!("invalid store ID {id}, not found"),
                );
                GetStoreResponse {
                    header,
                    ..Default::default()
                }
            }
        }))
    }

    async fn get_all_stores(
        &self,
        request: Request<GetAllStoresRequest>,
    ) -> Reply<GetAllStoresResponse> {
        self.admit(request.get_ref().header.as_ref()).await?;
        let stores = self
            .cluster
            .stores
            .values()
            .map(|store| self.cluster.store_info(store))
            .collect();
        Ok(Response::new(GetAllStoresResponse {
            header: self.header(),
            stores,
        }))
    }

    async fn get_region(&self, request: Request<GetRegionRequest>) -> Reply<GetRegionResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let state = self
            .cluster
            .regions
            .read()
            .by_key(&request.region_key)
            .cloned();
        self.region_response(state).await
    }

    async fn get_prev_region(
        &self,
        request: Request<GetRegionRequest>,
    ) -> Reply<GetRegionResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let state = self
            .cluster
            .regions
            .read()
            .before_key(&request.region_key)
            .cloned();
        self.region_response(state).await
    }

    async fn get_region_by_id(
        &self,
        request: Request<GetRegionByIdRequest>,
    ) -> Reply<GetRegionResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        self.region_response(self.cluster.region(request.region_id))
            .await
    }

    async fn scan_regions(
        &self,
        request: Request<ScanRegionsRequest>,
    ) -> Reply<ScanRegionsResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let states = self.overlapping(&request.start_key, &request.end_key, limit(request.limit));
        let regions = self.describe_all(states).await?;
        Ok(Response::new(ScanRegionsResponse {
            header: self.header(),
            region_metas: regions
                .iter()
                .filter_map(|region| region.region.clone())
                .collect(),
            leaders: regions
                .iter()
                .map(|region| region.leader.unwrap_or_default())
                .collect(),
            regions,
        }))
    }

    async fn batch_scan_regions(
        &self,
        request: Request<BatchScanRegionsRequest>,
    ) -> Reply<BatchScanRegionsResponse> {
        if !self.cluster.config.profile.batch_scan() {
            return Err(Status::unimplemented(
                "unknown method BatchScanRegions for service pdpb.PD",
            ));
        }
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let disjoint = request
            .ranges
            .windows(2)
            .all(|pair| !pair[0].end_key.is_empty() && pair[0].end_key <= pair[1].start_key);
        if !disjoint {
            let header = self.failed(
                ErrorType::Unknown,
                "invalid key range, key ranges should be sorted and not overlap",
            );
            return Ok(Response::new(BatchScanRegionsResponse {
                header,
                ..Default::default()
            }));
        }
        let mut states: Vec<RegionState> = Vec::new();
        let limit = limit(request.limit);
        for range in &request.ranges {
            let found = self.overlapping(&range.start_key, &range.end_key, limit - states.len());
            let last = states.last().map(RegionState::id);
            states.extend(found.into_iter().filter(|state| Some(state.id()) != last));
            if states.len() >= limit {
                break;
            }
        }
        let wanted = states.len();
        let regions = self.describe_all(states).await?;
        if request.contain_all_key_range && regions.len() < wanted {
            let header = self.failed(
                ErrorType::RegionsNotContainAllKeyRange,
                "found regions not contain all key range",
            );
            return Ok(Response::new(BatchScanRegionsResponse {
                header,
                ..Default::default()
            }));
        }
        Ok(Response::new(BatchScanRegionsResponse {
            header: self.header(),
            regions,
        }))
    }

    async fn split_regions(
        &self,
        request: Request<SplitRegionsRequest>,
    ) -> Reply<SplitRegionsResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let keys: Vec<Vec<u8>> = request.split_keys.iter().map(|key| key.to_vec()).collect();
        if keys.iter().any(|key| keys::decode(key).is_none()) {
            return Err(Status::invalid_argument("split keys must be encoded"));
        }
        let cluster = self.cluster.clone();
        let regions_id = blocking(move || Ok(cluster.split_everywhere(keys)?)).await?;
        Ok(Response::new(SplitRegionsResponse {
            header: self.header(),
            finished_percentage: 100,
            regions_id,
        }))
    }

    async fn scatter_region(
        &self,
        request: Request<ScatterRegionRequest>,
    ) -> Reply<ScatterRegionResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let mut ids = request.regions_id;
        if ids.is_empty() {
            ids.push(request.region_id);
        }
        let (cluster, total, group) = (self.cluster.clone(), ids.len() as u64, request.group);
        let failed_regions_id = blocking(move || Ok(cluster.scatter(&ids, &group)?)).await?;
        let finished_percentage = 100 - failed_regions_id.len() as u64 * 100 / total;
        Ok(Response::new(ScatterRegionResponse {
            header: self.header(),
            finished_percentage,
            failed_regions_id,
        }))
    }

    async fn get_operator(
        &self,
        request: Request<GetOperatorRequest>,
    ) -> Reply<GetOperatorResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let region_id = request.region_id;
        let struck = self
            .cluster
            .strike(Point::Operator, None, Some(region_id))
            .await?;
        let Some(Action::Operator { status }) = struck else {
            let header = self.failed(ErrorType::RegionNotFound, "Not Found");
            return Ok(Response::new(GetOperatorResponse {
                header,
                ..Default::default()
            }));
        };
        let status = OperatorStatus::from_str_name(&status.to_uppercase())
            .unwrap_or(OperatorStatus::Success);
        Ok(Response::new(GetOperatorResponse {
            header: self.header(),
            region_id,
            desc: "scatter-region".into(),
            status: status.into(),
            kind: "leader,region".into(),
        }))
    }

    async fn get_cluster_config(
        &self,
        request: Request<GetClusterConfigRequest>,
    ) -> Reply<GetClusterConfigResponse> {
        self.admit(request.get_ref().header.as_ref()).await?;
        let cluster = metapb::Cluster {
            id: self.cluster.id,
            max_peer_count: self.cluster.replicas,
        };
        Ok(Response::new(GetClusterConfigResponse {
            header: self.header(),
            cluster: Some(cluster),
        }))
    }

    async fn get_gc_safe_point(
        &self,
        request: Request<GetGcSafePointRequest>,
    ) -> Reply<GetGcSafePointResponse> {
        self.admit(request.get_ref().header.as_ref()).await?;
        let (safe_point, _) = self.cluster.pd.gc_state(self.cluster.clock.unix_ms());
        Ok(Response::new(GetGcSafePointResponse {
            header: self.header(),
            safe_point,
        }))
    }

    async fn update_service_gc_safe_point(
        &self,
        request: Request<UpdateServiceGcSafePointRequest>,
    ) -> Reply<UpdateServiceGcSafePointResponse> {
        let request = request.into_inner();
        self.admit(request.header.as_ref()).await?;
        let id = String::from_utf8_lossy(&request.service_id).into_owned();
        if id.is_empty() || id == GC_WORKER {
            let header = self.failed(ErrorType::Unknown, "invalid service id");
            return Ok(Response::new(UpdateServiceGcSafePointResponse {
                header,
                ..Default::default()
            }));
        }
        let now = self.cluster.clock.unix_ms();
        let mut min_safe_point =
            self.cluster
                .pd
                .hold_gc(&id, request.safe_point, request.ttl, now)?;
        if self.passed().await? {
            min_safe_point = request.safe_point + 1;
        }
        Ok(Response::new(UpdateServiceGcSafePointResponse {
            header: self.header(),
            service_id: request.service_id,
            ttl: request.ttl,
            min_safe_point,
        }))
    }

    async fn set_gc_barrier(
        &self,
        request: Request<SetGcBarrierRequest>,
    ) -> Reply<SetGcBarrierResponse> {
        let request = request.into_inner();
        self.admit_gc(request.header.as_ref()).await?;
        let (id, ts) = (request.barrier_id, request.barrier_ts);
        let mut refused = String::new();
        if id.is_empty() || id == GC_WORKER || request.ttl_seconds <= 0 {
            refused = "invalid barrier id or ttl".into();
        } else {
            let now = self.cluster.clock.unix_ms();
            let safe_point = self.cluster.pd.hold_gc(&id, ts, request.ttl_seconds, now)?;
            if safe_point > ts || self.passed().await? {
                refused = format!(
                    "trying to set a GC barrier on ts {ts} which is already behind the txn safe point"
                );
            }
        }
        if !refused.is_empty() {
            let header = self.failed(ErrorType::Unknown, refused);
            return Ok(Response::new(SetGcBarrierResponse {
                header,
                new_barrier_info: None,
            }));
        }
        let info = GcBarrierInfo {
            barrier_id: id,
            barrier_ts: ts,
            ttl_seconds: request.ttl_seconds,
        };
        Ok(Response::new(SetGcBarrierResponse {
            header: self.header(),
            new_barrier_info: Some(info),
        }))
    }

    async fn delete_gc_barrier(
        &self,
        request: Request<DeleteGcBarrierRequest>,
    ) -> Reply<DeleteGcBarrierResponse> {
        let request = request.into_inner();
        self.admit_gc(request.header.as_ref()).await?;
        let now = self.cluster.clock.unix_ms();
        let (_, barriers) = self.cluster.pd.gc_state(now);
        let deleted = barriers
            .into_iter()
            .find(|(id, ..)| *id == request.barrier_id)
            .map(barrier_info);
        self.cluster.pd.hold_gc(&request.barrier_id, 0, 0, now)?;
        Ok(Response::new(DeleteGcBarrierResponse {
            header: self.header(),
            deleted_barrier_info: deleted,
        }))
    }

    async fn get_gc_state(&self, request: Request<GetGcStateRequest>) -> Reply<GetGcStateResponse> {
        let request = request.into_inner();
        self.admit_gc(request.header.as_ref()).await?;
        let (safe_point, barriers) = self.cluster.pd.gc_state(self.cluster.clock.unix_ms());
        let barriers = barriers.into_iter().map(barrier_info);
        let gc_state = GcState {
            keyspace_scope: request.keyspace_scope,
            txn_safe_point: safe_point,
            gc_safe_point: safe_point,
            gc_barriers: if request.exclude_gc_barriers {
                Vec::new()
            } else {
                barriers.collect()
            },
            ..Default::default()
        };
        Ok(Response::new(GetGcStateResponse {
            header: self.header(),
            gc_state: Some(gc_state),
        }))
    }
}

fn barrier_info((barrier_id, barrier_ts, ttl_seconds): (String, u64, u64)) -> GcBarrierInfo {
    GcBarrierInfo {
        barrier_id,
        barrier_ts,
        ttl_seconds: ttl_seconds as i64,
    }
}
