//! The import service of one store: Write and Upload put files into the import directory, Ingest hands
//! them to the region. Errors travel as in TiKV: Write and Upload fail with status UNKNOWN and a debug
//! text, Ingest answers with a region error. The streams' work is in `import_files`, the ingest's in
//! `ingest`.

use crate::cluster::Cluster;
use crate::error::SandboxError;
use crate::faults::{Action, Point};
use crate::import_files;
use crate::keys::{self, WriteKind};
use crate::mvcc::Snapshot;
use crate::store::Store;
use crate::strike::blocking;
use crate::topology::region_range;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_proto::errorpb;
use thunderhead_proto::import_sstpb::{self, *};
use thunderhead_proto::kvrpcpb::Context;
use thunderhead_types::KeyRange;
use tonic::{Request, Response, Status, Streaming};

/// The service on one store.
#[derive(Clone)]
pub(crate) struct ImportService {
    pub cluster: Arc<Cluster>,
    pub store: Arc<Store>,
}

type Reply<T> = Result<Response<T>, Status>;

/// Pairs per message of DuplicateDetect.
const DUPLICATES_PER_MESSAGE: usize = 4096;
/// Longest suspension of imports.
const SUSPEND_MAX: Duration = Duration::from_secs(6 * 3600);
const DEFAULT_PARTITION_TTL: Duration = Duration::from_secs(3600);

impl ImportService {
    async fn ingest_all(
        &self,
        context: Option<Context>,
        metas: Vec<SstMeta>,
    ) -> Reply<IngestResponse> {
        self.cluster.check_target(&self.store, context.as_ref())?;
        let context = context.unwrap_or_default();
        let (store, region) = (self.store.id, context.region_id);
        for meta in &metas {
            self.cluster.names.lock().ingest(&meta.uuid);
        }
        if let Some(Action::RegionError { error, backoff_ms }) = self
            .cluster
            .strike(Point::Ingest, Some(store), Some(region))
            .await?
        {
            let error = self.cluster.region_error(error, backoff_ms, region, store);
            return Ok(Response::new(IngestResponse { error: Some(error) }));
        }
        let service = self.clone();
        let done =
            blocking(move || service.cluster.ingest(&service.store, &context, &metas)).await?;
        self.cluster.check_target(&self.store, None)?;
        if done.is_ok()
            && let Some(action) = self
                .cluster
                .strike(Point::IngestDone, Some(store), Some(region))
                .await?
        {
            return match action {
                Action::RegionError { error, backoff_ms } => {
                    let error = self.cluster.region_error(error, backoff_ms, region, store);
                    Ok(Response::new(IngestResponse { error: Some(error) }))
                }
                _ => Err(Status::unavailable("the reply was lost")),
            };
        }
        Ok(Response::new(IngestResponse {
            error: done.err().map(|error| *error),
        }))
    }

    async fn admin(&self) -> Result<(), Status> {
        self.cluster.check_target(&self.store, None)?;
        self.cluster
            .strike(Point::ImportAdmin, Some(self.store.id), None)
            .await
            .map(|_| ())
    }

    fn duplicates(
        &self,
        request: &DuplicateDetectRequest,
    ) -> Result<Vec<DuplicateDetectResponse>, SandboxError> {
        let context = request.context.clone().unwrap_or_default();
        let region = match self.cluster.check(&self.store, &context) {
            Ok(region) => region,
            Err(error) => {
                return Ok(vec![DuplicateDetectResponse {
                    region_error: Some(*error),
                    ..Default::default()
                }]);
            }
        };
        let range = KeyRange::new(request.start_key.to_vec(), request.end_key.to_vec());
        let Some(range) = range.intersect(&region_range(&region.region)) else {
            return Ok(Vec::new());
        };
        let mut finder = DuplicateFinder {
            request,
            group: Vec::new(),
            pairs: Vec::new(),
            refused: None,
        };
        let mut current = Vec::new();
        Snapshot::new(&self.store.engine).history(&range, |key, commit_ts, kind, value| {
            if current != key {
                finder.end_group();
                current = key.to_vec();
            }
            finder.group.push((
                KvPair {
                    key: key.to_vec().into(),
                    value: value.into(),
                    commit_ts,
                },
                kind,
            ));
            match finder.refused {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        })?;
        finder.end_group();
        Ok(finder.responses())
    }
}

/// Gathers the versions of one key at a time and keeps those of duplicated keys.
struct DuplicateFinder<'a> {
    request: &'a DuplicateDetectRequest,
    /// Versions of the current key, newest first.
    group: Vec<(KvPair, WriteKind)>,
    pairs: Vec<KvPair>,
    refused: Option<String>,
}

impl DuplicateFinder<'_> {
    fn end_group(&mut self) {
        let group = std::mem::take(&mut self.group);
        let Some((newest, kind)) = group.first() else {
            return;
        };
        if newest.commit_ts <= self.request.min_commit_ts || self.refused.is_some() {
            return;
        }
        if *kind != WriteKind::Put {
            self.refused = Some("the newest version is not a put".into());
            return;
        }
        if self.request.key_only {
            // TiKV reads no values then, and its parser stumbles over that.
            self.refused = Some("bad format parse write type error".into());
            return;
        }
        let mut versions = Vec::new();
        for (pair, kind) in group {
            let last = pair.commit_ts <= self.request.min_commit_ts;
            match kind {
                WriteKind::Put => versions.push(pair),
                WriteKind::Delete => break,
                _ => {}
            }
            if last {
                break;
            }
        }
        if versions.len() >= 2 {
            self.pairs.append(&mut versions);
        }
    }

    fn responses(self) -> Vec<DuplicateDetectResponse> {
        let mut responses: Vec<_> = self
            .pairs
            .chunks(DUPLICATES_PER_MESSAGE)
            .map(|pairs| DuplicateDetectResponse {
                pairs: pairs.to_vec(),
                ..Default::default()
            })
            .collect();
        if let Some(message) = self.refused {
            let key_error = Some(import_sstpb::Error {
                message,
                store_error: None,
            });
            responses.push(DuplicateDetectResponse {
                key_error,
                ..Default::default()
            });
        }
        responses
    }
}

fn encoded_range(range: Option<Range>) -> Result<(Vec<u8>, Vec<u8>), Status> {
    let range = range.unwrap_or_default();
    if range.start >= range.end {
        let text =
            "Io(Custom { kind: InvalidInput, error: \"start keys must be smaller than end key\" })";
        return Err(Status::unknown(text));
    }
    Ok((keys::encode(&range.start), keys::encode(&range.end)))
}

#[tonic::async_trait]
impl import_sst_server::ImportSst for ImportService {
    async fn switch_mode(&self, request: Request<SwitchModeRequest>) -> Reply<SwitchModeResponse> {
        self.admin().await?;
        self.store
            .set_import_mode(request.get_ref().mode() == SwitchMode::Import);
        Ok(Response::new(SwitchModeResponse {}))
    }

    async fn get_mode(&self, _: Request<GetModeRequest>) -> Reply<GetModeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Reply<UploadResponse> {
        import_files::upload(self, request.into_inner()).await?;
        Ok(Response::new(UploadResponse {}))
    }

    async fn ingest(&self, request: Request<IngestRequest>) -> Reply<IngestResponse> {
        let request = request.into_inner();
        self.ingest_all(request.context, request.sst.into_iter().collect())
            .await
    }

    async fn compact(&self, request: Request<CompactRequest>) -> Reply<CompactResponse> {
        self.admin().await?;
        let range = request.into_inner().range.unwrap_or_default();
        let store = self.store.clone();
        blocking(move || {
            let bound = |key: bytes::Bytes| (!key.is_empty()).then_some(key);
            let (start, end) = (bound(range.start), bound(range.end));
            store.engine.compact(start.as_deref(), end.as_deref());
            Ok(())
        })
        .await?;
        Ok(Response::new(CompactResponse {}))
    }

    async fn set_download_speed_limit(
        &self,
        _: Request<SetDownloadSpeedLimitRequest>,
    ) -> Reply<SetDownloadSpeedLimitResponse> {
        Ok(Response::new(SetDownloadSpeedLimitResponse {}))
    }

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Reply<WriteResponse> {
        let metas = import_files::write(self, request.into_inner()).await?;
        Ok(Response::new(WriteResponse { error: None, metas }))
    }

    async fn multi_ingest(&self, request: Request<MultiIngestRequest>) -> Reply<IngestResponse> {
        let request = request.into_inner();
        self.ingest_all(request.context, request.ssts).await
    }

    type DuplicateDetectStream = BoxStream<'static, Result<DuplicateDetectResponse, Status>>;

    async fn duplicate_detect(
        &self,
        request: Request<DuplicateDetectRequest>,
    ) -> Reply<Self::DuplicateDetectStream> {
        if !self.cluster.config.profile.duplicate_detect() {
            return Err(Status::unimplemented(""));
        }
        let request = request.into_inner();
        self.cluster
            .check_target(&self.store, request.context.as_ref())?;
        let region = request.context.as_ref().map(|context| context.region_id);
        let struck = self
            .cluster
            .strike(Point::DuplicateDetect, Some(self.store.id), region)
            .await?;
        let responses = if let Some(Action::RegionError { error, backoff_ms }) = struck {
            let error: errorpb::Error =
                self.cluster
                    .region_error(error, backoff_ms, region.unwrap_or(0), self.store.id);
            vec![DuplicateDetectResponse {
                region_error: Some(error),
                ..Default::default()
            }]
        } else {
            let service = self.clone();
            blocking(move || Ok(service.duplicates(&request)?)).await?
        };
        Ok(Response::new(
            stream::iter(responses.into_iter().map(Ok)).boxed(),
        ))
    }

    async fn suspend_import_rpc(
        &self,
        request: Request<SuspendImportRpcRequest>,
    ) -> Reply<SuspendImportRpcResponse> {
        self.admin().await?;
        let request = request.into_inner();
        let time = Duration::from_secs(request.duration_in_secs);
        if request.should_suspend_imports && time > SUSPEND_MAX {
            return Err(Status::unknown(
                "the duration to suspend imports is too long",
            ));
        }
        let already_suspended = self
            .store
            .suspend(request.should_suspend_imports.then_some(time));
        Ok(Response::new(SuspendImportRpcResponse {
            already_suspended,
        }))
    }

    async fn add_force_partition_range(
        &self,
        request: Request<AddPartitionRangeRequest>,
    ) -> Reply<AddPartitionRangeResponse> {
        if !self.cluster.config.profile.force_partition() {
            return Err(Status::unimplemented(""));
        }
        self.admin().await?;
        let request = request.into_inner();
        let ttl = match request.ttl_seconds {
            0 => DEFAULT_PARTITION_TTL,
            seconds => Duration::from_secs(seconds),
        };
        self.store.add_partition(encoded_range(request.range)?, ttl);
        Ok(Response::new(AddPartitionRangeResponse {}))
    }

    async fn remove_force_partition_range(
        &self,
        request: Request<RemovePartitionRangeRequest>,
    ) -> Reply<RemovePartitionRangeResponse> {
        if !self.cluster.config.profile.force_partition() {
            return Err(Status::unimplemented(""));
        }
        self.admin().await?;
        self.store
            .remove_partition(&encoded_range(request.into_inner().range)?);
        Ok(Response::new(RemovePartitionRangeResponse {}))
    }
}
