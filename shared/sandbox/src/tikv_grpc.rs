//! The key-value service of one store: region splits, transactions, checksums. Every call goes through
//! the checks of `check`; writes hold the region's log from reading to replication.

use crate::check;
use crate::cluster::Cluster;
use crate::engine::{Change, Engine};
use crate::error::SandboxError;
use crate::faults::{Action, Point};
use crate::keys;
use crate::mvcc::{ReadError, Snapshot};
use crate::regions::{self, RegionState};
use crate::replicate::Entry;
use crate::store::Store;
use crate::strike::blocking;
use crate::topology::{Refused, region_range};
use crate::txn;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::Arc;
use thunderhead_proto::coprocessor;
use thunderhead_proto::errorpb;
use thunderhead_proto::kvrpcpb::*;
use thunderhead_proto::tikvpb::tikv_server;
use thunderhead_proto::tipb;
use thunderhead_types::{Checksum, KeyRange};
use tonic::{Request, Response, Status};

/// The service on one store.
#[derive(Clone)]
pub(crate) struct TikvService {
    pub cluster: Arc<Cluster>,
    pub store: Arc<Store>,
}

type Reply<T> = Result<Response<T>, Status>;
/// A region error is an answer, a status the failure to give one.
type Checked<T> = Result<Result<T, Box<errorpb::Error>>, Status>;

/// Coprocessor request type of a checksum.
const CHECKSUM: i64 = 105;

impl TikvService {
    /// Strikes the call, then runs `work` off the I/O threads.
    async fn run<T: Send + 'static>(
        &self,
        point: Point,
        context: Option<Context>,
        work: impl FnOnce(&Self, &Context) -> Checked<T> + Send + 'static,
    ) -> Checked<T> {
        self.cluster.check_target(&self.store, context.as_ref())?;
        let context = context.unwrap_or_default();
        let (store, region) = (self.store.id, context.region_id);
        if let Some(Action::RegionError { error, backoff_ms }) = self
            .cluster
            .strike(point, Some(store), Some(region))
            .await?
        {
            return Ok(Err(Box::new(
                self.cluster.region_error(error, backoff_ms, region, store),
            )));
        }
        let service = self.clone();
        let done = blocking(move || work(&service, &context)).await;
        self.cluster.check_target(&self.store, None)?;
        done
    }

    /// Reads a snapshot of the region after the checks.
    async fn read<T: Send + 'static>(
        &self,
        context: Option<Context>,
        keys: Vec<Bytes>,
        work: impl FnOnce(&Snapshot<'_>, &RegionState) -> Result<T, Status> + Send + 'static,
    ) -> Checked<T> {
        self.run(Point::Kv, context, move |service, context| {
            let region = match service.checked(context, &keys) {
                Ok(region) => region,
                Err(error) => return Ok(Err(error)),
            };
            work(&Snapshot::new(&service.store.engine), &region).map(Ok)
        })
        .await
    }

    /// Decides on changes and replicates them, with the region held still in between.
    async fn write<T: Send + 'static>(
        &self,
        context: Option<Context>,
        keys: Vec<Bytes>,
        work: impl FnOnce(&Engine, &RegionState) -> Result<(Vec<Change>, T), SandboxError>
        + Send
        + 'static,
    ) -> Checked<T> {
        self.run(Point::Kv, context, move |service, context| {
            let log = service.cluster.log(context.region_id);
            let mut log = log.lock();
            let region = match service.checked(context, &keys) {
                Ok(region) => region,
                Err(error) => return Ok(Err(error)),
            };
            let (changes, answer) = work(&service.store.engine, &region)?;
            if !changes.is_empty() {
                let entry = Entry {
                    changes,
                    ssts: Vec::new(),
                };
                let proposed = service
                    .cluster
                    .propose(&mut log, &region, &service.store, entry)?;
                proposed.map_err(|_| Status::unavailable("store is down"))?;
            }
            Ok(Ok(answer))
        })
        .await
    }

    fn checked(
        &self,
        context: &Context,
        keys: &[Bytes],
    ) -> Result<RegionState, Box<errorpb::Error>> {
        let state = self.cluster.check(&self.store, context)?;
        for key in keys {
            let encoded = keys::encode(key);
            if !regions::contains(&state.region, &encoded) {
                return Err(check::key_not_in_region(&encoded, &state.region));
            }
        }
        Ok(state)
    }

    fn checksum(
        &self,
        context: &Context,
        request: &coprocessor::Request,
    ) -> Checked<coprocessor::Response> {
        let region = match self.checked(context, &[]) {
            Ok(region) => region,
            Err(error) => return Ok(Err(error)),
        };
        let wanted: tipb::ChecksumRequest = prost::Message::decode(&request.data[..])
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if wanted.rule.is_some() {
            return Ok(Ok(other_error(
                "checksum rewrite rules are not supported here",
            )));
        }
        let start_ts = if request.start_ts != 0 {
            request.start_ts
        } else {
            wanted.start_ts_fallback
        };
        let snapshot = Snapshot::new(&self.store.engine);
        let mut sum = Checksum::default();
        for range in &request.ranges {
            let range = KeyRange::new(range.start.to_vec(), range.end.to_vec());
            let Some(range) = range.intersect(&region_range(&region.region)) else {
                continue;
            };
            match snapshot.checksum(&range, start_ts) {
                Ok(part) => sum.merge(&part),
                Err(ReadError::Locked(lock)) => {
                    return Ok(Ok(coprocessor::Response {
                        locked: Some(*lock),
                        ..Default::default()
                    }));
                }
                Err(ReadError::Failed(error)) => return Ok(Ok(other_error(&error.to_string()))),
            }
        }
        let sum = tipb::ChecksumResponse {
            checksum: sum.crc64_xor,
            total_kvs: sum.kvs,
            total_bytes: sum.bytes,
        };
        Ok(Ok(coprocessor::Response {
            data: prost::Message::encode_to_vec(&sum).into(),
            ..Default::default()
        }))
    }
}

fn other_error(text: &str) -> coprocessor::Response {
    coprocessor::Response {
        other_error: text.to_owned(),
        ..Default::default()
    }
}

/// Puts a region error where every response has one.
macro_rules! reply {
    ($checked:expr, $response:ident) => {
        match $checked {
            Ok(answer) => answer,
            Err(error) => {
                return Ok(Response::new($response {
                    region_error: Some(*error),
                    ..Default::default()
                }));
            }
        }
    };
}

fn key_error(error: ReadError) -> Result<KeyError, Status> {
    match error {
        ReadError::Locked(lock) => Ok(KeyError {
            locked: Some(*lock),
            ..Default::default()
        }),
        ReadError::Failed(error) => Err(error.into()),
    }
}

fn scan_pairs(
    snapshot: &Snapshot<'_>,
    region: &RegionState,
    request: &ScanRequest,
) -> Result<Vec<KvPair>, Status> {
    let (low, high) = match request.reverse {
        false => (&request.start_key, &request.end_key),
        true => (&request.end_key, &request.start_key),
    };
    let range = KeyRange::new(low.to_vec(), high.to_vec());
    let Some(range) = range.intersect(&region_range(&region.region)) else {
        return Ok(Vec::new());
    };
    let limit = request.limit as usize;
    let mut pairs = Vec::new();
    let done = snapshot.scan(&range, request.version, |key, value, commit_ts| {
        let value = if request.key_only {
            Bytes::new()
        } else {
            value.to_vec().into()
        };
        pairs.push(KvPair {
            error: None,
            key: key.to_vec().into(),
            value,
            commit_ts,
        });
        match !request.reverse && pairs.len() >= limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Err(error) = done {
        pairs.push(KvPair {
            error: Some(key_error(error)?),
            ..Default::default()
        });
    }
    if request.reverse {
        pairs.reverse();
    }
    pairs.truncate(limit);
    Ok(pairs)
}

#[tonic::async_trait]
impl tikv_server::Tikv for TikvService {
    async fn kv_get(&self, request: Request<GetRequest>) -> Reply<GetResponse> {
        let request = request.into_inner();
        let (key, version) = (request.key.clone(), request.version);
        let got = self.read(
            request.context,
            vec![request.key],
            move |snapshot, _| match snapshot.get(&key, version) {
                Ok(Some((value, commit_ts))) => Ok(GetResponse {
                    value: value.into(),
                    commit_ts,
                    ..Default::default()
                }),
                Ok(None) => Ok(GetResponse {
                    not_found: true,
                    ..Default::default()
                }),
                Err(error) => Ok(GetResponse {
                    error: Some(key_error(error)?),
                    ..Default::default()
                }),
            },
        );
        Ok(Response::new(reply!(got.await?, GetResponse)))
    }

    async fn kv_batch_get(&self, request: Request<BatchGetRequest>) -> Reply<BatchGetResponse> {
        let request = request.into_inner();
        let (keys, version) = (request.keys.clone(), request.version);
        let got = self.read(request.context, request.keys, move |snapshot, _| {
            let mut pairs = Vec::new();
            for key in keys {
                match snapshot.get(&key, version) {
                    Ok(Some((value, commit_ts))) => pairs.push(KvPair {
                        error: None,
                        key,
                        value: value.into(),
                        commit_ts,
                    }),
                    Ok(None) => {}
                    Err(error) => pairs.push(KvPair {
                        error: Some(key_error(error)?),
                        key,
                        ..Default::default()
                    }),
                }
            }
            Ok(BatchGetResponse {
                pairs,
                ..Default::default()
            })
        });
        Ok(Response::new(reply!(got.await?, BatchGetResponse)))
    }

    async fn kv_scan(&self, request: Request<ScanRequest>) -> Reply<ScanResponse> {
        let mut request = request.into_inner();
        let context = request.context.take();
        let got = self.read(context, Vec::new(), move |snapshot, region| {
            scan_pairs(snapshot, region, &request)
        });
        let pairs = reply!(got.await?, ScanResponse);
        Ok(Response::new(ScanResponse {
            pairs,
            ..Default::default()
        }))
    }

    async fn kv_prewrite(&self, request: Request<PrewriteRequest>) -> Reply<PrewriteResponse> {
        let mut request = request.into_inner();
        let context = request.context.take();
        let keys = request
            .mutations
            .iter()
            .map(|mutation| mutation.key.clone())
            .collect();
        let done = self.write(context, keys, move |engine, _| {
            txn::prewrite(engine, &request)
        });
        let errors = reply!(done.await?, PrewriteResponse);
        Ok(Response::new(PrewriteResponse {
            errors,
            ..Default::default()
        }))
    }

    async fn kv_commit(&self, request: Request<CommitRequest>) -> Reply<CommitResponse> {
        let mut request = request.into_inner();
        let (context, commit_version) = (request.context.take(), request.commit_version);
        let keys = request.keys.clone();
        let done = self.write(context, keys, move |engine, _| {
            txn::commit(engine, &request)
        });
        let error = reply!(done.await?, CommitResponse);
        Ok(Response::new(CommitResponse {
            error,
            commit_version,
            ..Default::default()
        }))
    }

    async fn kv_check_txn_status(
        &self,
        request: Request<CheckTxnStatusRequest>,
    ) -> Reply<CheckTxnStatusResponse> {
        let mut request = request.into_inner();
        let context = request.context.take();
        let keys = vec![request.primary_key.clone()];
        let done = self.write(context, keys, move |engine, _| {
            txn::check_status(engine, &request)
        });
        Ok(Response::new(reply!(done.await?, CheckTxnStatusResponse)))
    }

    async fn kv_batch_rollback(
        &self,
        request: Request<BatchRollbackRequest>,
    ) -> Reply<BatchRollbackResponse> {
        let request = request.into_inner();
        let (keys, start_ts) = (request.keys.clone(), request.start_version);
        let done = self.write(request.context, request.keys, move |engine, _| {
            txn::rollback(engine, start_ts, &keys)
        });
        let error = reply!(done.await?, BatchRollbackResponse);
        Ok(Response::new(BatchRollbackResponse {
            error,
            ..Default::default()
        }))
    }

    async fn kv_scan_lock(&self, request: Request<ScanLockRequest>) -> Reply<ScanLockResponse> {
        let request = request.into_inner();
        let got = self.read(request.context, Vec::new(), move |snapshot, region| {
            let range = KeyRange::new(request.start_key.to_vec(), request.end_key.to_vec());
            let Some(range) = range.intersect(&region_range(&region.region)) else {
                return Ok(Vec::new());
            };
            let locks = snapshot
                .locks(&range)?
                .into_iter()
                .filter(|(_, lock)| lock.start_ts <= request.max_version);
            let limit = if request.limit == 0 {
                usize::MAX
            } else {
                request.limit as usize
            };
            Ok(locks
                .take(limit)
                .map(|(key, lock)| lock.info(&key))
                .collect())
        });
        let locks = reply!(got.await?, ScanLockResponse);
        Ok(Response::new(ScanLockResponse {
            locks,
            ..Default::default()
        }))
    }

    async fn kv_resolve_lock(
        &self,
        request: Request<ResolveLockRequest>,
    ) -> Reply<ResolveLockResponse> {
        let request = request.into_inner();
        let keys = request.keys.clone();
        let mut txns: Vec<(u64, u64)> = request
            .txn_infos
            .iter()
            .map(|txn| (txn.txn, txn.status))
            .collect();
        if txns.is_empty() {
            txns.push((request.start_version, request.commit_version));
        }
        let done = self.write(request.context, request.keys, move |engine, region| {
            let range = region_range(&region.region);
            let mut changes = Vec::new();
            for (start_ts, commit_ts) in txns {
                changes.extend(txn::resolve(engine, start_ts, commit_ts, &keys, &range)?);
            }
            Ok((changes, ()))
        });
        reply!(done.await?, ResolveLockResponse);
        Ok(Response::new(ResolveLockResponse::default()))
    }

    async fn coprocessor(
        &self,
        request: Request<coprocessor::Request>,
    ) -> Reply<coprocessor::Response> {
        let mut request = request.into_inner();
        if request.tp != CHECKSUM {
            return Ok(Response::new(other_error(&format!(
                "unsupported tp {}",
                request.tp
            ))));
        }
        let context = request.context.take();
        let done = self
            .run(Point::Checksum, context, move |service, context| {
                service.checksum(context, &request)
            })
            .await?;
        Ok(Response::new(match done {
            Ok(response) => response,
            Err(error) => coprocessor::Response {
                region_error: Some(*error),
                ..Default::default()
            },
        }))
    }

    async fn split_region(
        &self,
        request: Request<SplitRegionRequest>,
    ) -> Reply<SplitRegionResponse> {
        let mut request = request.into_inner();
        let context = request.context.take();
        let done = self.run(Point::SplitRegion, context, move |service, context| {
            let mut keys = request.split_keys;
            if keys.is_empty() && !request.split_key.is_empty() {
                keys.push(request.split_key);
            }
            let encode = |key: Bytes| {
                if request.is_raw_kv {
                    key.to_vec()
                } else {
                    keys::encode(&key)
                }
            };
            match service.cluster.split(
                &service.store,
                context,
                keys.into_iter().map(encode).collect(),
            ) {
                Ok(regions) => Ok(Ok(regions)),
                Err(Refused::Region(error)) => Ok(Err(error)),
                Err(Refused::Failed(error)) => Err(error.into()),
            }
        });
        let regions = reply!(done.await?, SplitRegionResponse);
        let (left, right) = (regions.first().cloned(), regions.get(1).cloned());
        Ok(Response::new(SplitRegionResponse {
            region_error: None,
            left,
            right,
            regions,
        }))
    }
}
