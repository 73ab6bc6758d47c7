//! The two streams that put SSTs into a store's import directory. Upload stores bytes and checks
//! nothing but their CRC-32; Write builds the files from pairs, after a look at the local epoch. Both
//! fail with status UNKNOWN and the text that TiKV's debug output has.

use crate::error::{Result, SandboxError};
use crate::faults::{Action, Point};
use crate::import_grpc::ImportService;
use crate::regions;
use crate::sst::{PairWriter, WriterOptions};
use crate::store::Store;
use crate::strike::blocking;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use thunderhead_proto::import_sstpb::{
    SstMeta, UploadRequest, WriteBatch, WriteRequest, pair, upload_request, write_request,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Batches between the stream and the thread that builds.
const BATCHES_IN_FLIGHT: usize = 8;

fn invalid_chunk() -> Status {
    Status::unknown("InvalidChunk")
}

/// A temporary file; gone when the stream does not get to its end.
struct Temp {
    path: PathBuf,
    published: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(crate) async fn upload(
    service: &ImportService,
    mut stream: Streaming<UploadRequest>,
) -> Result<(), Status> {
    let store = &service.store;
    service.cluster.check_target(store, None)?;
    let Some(UploadRequest {
        chunk: Some(upload_request::Chunk::Meta(meta)),
    }) = stream.message().await?
    else {
        return Err(invalid_chunk());
    };
    let region = Some(meta.region_id);
    service
        .cluster
        .strike(Point::UploadOpen, Some(store.id), region)
        .await?;
    check_uuid(&meta)?;
    service.cluster.names.lock().open(&meta.uuid);
    let path = store.import.path(&meta);
    if path.exists() {
        return Err(Status::unknown(format!(
            "FileExists({path:?}, \"create SST upload cache\")"
        )));
    }
    let temp_path = store.import.temp_path(&meta);
    let mut file = File::create_new(&temp_path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Status::unknown("Io(Os { code: 17, kind: AlreadyExists, message: \"File exists\" })")
        }
        _ => Status::unknown(format!("Io({error:?})")),
    })?;
    let mut temp = Temp {
        path: temp_path,
        published: false,
    };
    let mut crc = crc32fast::Hasher::new();
    while let Some(message) = stream.message().await? {
        let Some(upload_request::Chunk::Data(mut data)) = message.chunk else {
            return Err(invalid_chunk());
        };
        if data.is_empty() {
            return Err(invalid_chunk());
        }
        if let Some(Action::FlipBit) = service
            .cluster
            .strike(Point::UploadData, Some(store.id), region)
            .await?
        {
            let mut bytes = data.to_vec();
            bytes[0] ^= 1;
            data = bytes.into();
        }
        crc.update(&data);
        file.write_all(&data)
            .map_err(|error| Status::unknown(format!("Io({error:?})")))?;
    }
    drop(file);
    let sum = crc.finalize();
    if sum != meta.crc32 {
        let text = format!(
            "FileCorrupted({:?}, \"crc32 {sum}, expect {}\")",
            temp.path, meta.crc32
        );
        return Err(Status::unknown(text));
    }
    service.cluster.check_target(store, None)?;
    let (to, published) = (store.clone(), meta.clone());
    blocking(move || Ok(to.import.publish(&published).map_err(SandboxError::from)?)).await?;
    temp.published = true;
    store.import.mark_uploaded(&meta);
    acknowledge(service, Point::UploadDone, &[meta]).await
}

/// Strikes the reply of a finished stream.
async fn acknowledge(
    service: &ImportService,
    point: Point,
    metas: &[SstMeta],
) -> Result<(), Status> {
    let region = metas.first().map(|meta| meta.region_id);
    match service
        .cluster
        .strike(point, Some(service.store.id), region)
        .await?
    {
        Some(Action::LoseFile) => metas
            .iter()
            .for_each(|meta| service.store.import.delete(meta)),
        Some(Action::DropReply) => return Err(Status::unavailable("the reply was lost")),
        _ => {}
    }
    service.cluster.check_target(&service.store, None)
}

pub(crate) fn check_uuid(meta: &SstMeta) -> Result<(), Status> {
    match meta.uuid.len() {
        16 => Ok(()),
        found => Err(Status::unknown(format!(
            "Uuid(Error(Build(Error {{ expected: 16, found: {found} }})))"
        ))),
    }
}

/// Whether the epoch of `meta` is what this store's peer has, in TiKV's words.
fn check_local_epoch(service: &ImportService, meta: &SstMeta) -> Result<(), Status> {
    let id = meta.region_id;
    let regions = service.cluster.regions.read();
    let local = regions
        .get(id)
        .and_then(|state| state.local_view(service.store.id, Instant::now()));
    let Some(local) = local else {
        return Err(Status::unknown(format!(
            "RequestTooOld(\"region {id} is not found\")"
        )));
    };
    let (sent, own) = (meta.region_epoch.unwrap_or_default(), regions::epoch(local));
    if sent.version > own.version || sent.conf_ver > own.conf_ver {
        let text = format!(
            "RequestTooNew(\"request region {id} is ahead of local region, local epoch {own:?}, request epoch {sent:?}, please retry write later\")"
        );
        return Err(Status::unknown(text));
    }
    if sent.version < own.version || sent.conf_ver < own.conf_ver {
        let text = format!(
            "RequestTooOld(\"request region {id} is staler than local region, local epoch {own:?}, request epoch {sent:?}\")"
        );
        return Err(Status::unknown(text));
    }
    Ok(())
}

/// What the building thread is told; a channel that ends without `Finish` means the client is gone.
enum Step {
    Batch(WriteBatch),
    Finish,
}

pub(crate) async fn write(
    service: &ImportService,
    mut stream: Streaming<WriteRequest>,
) -> Result<Vec<SstMeta>, Status> {
    service.cluster.check_target(&service.store, None)?;
    let Some(WriteRequest {
        chunk: Some(write_request::Chunk::Meta(meta)),
        context,
    }) = stream.message().await?
    else {
        return Err(invalid_chunk());
    };
    service
        .cluster
        .check_target(&service.store, context.as_ref())?;
    let (store, region) = (Some(service.store.id), Some(meta.region_id));
    check_uuid(&meta)?;
    service.cluster.names.lock().open(&meta.uuid);
    check_local_epoch(service, &meta)?;
    service
        .cluster
        .strike(Point::WriteOpen, store, region)
        .await?;
    let writes_source = service.cluster.config.profile.writes_txn_source();
    let source = context
        .filter(|_| writes_source)
        .map_or(0, |context| context.txn_source);
    let (steps, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let to = service.store.clone();
    let builder = tokio::task::spawn_blocking(move || build(&to, meta, source, receiver));
    while let Some(message) = stream.message().await? {
        let Some(write_request::Chunk::Batch(mut batch)) = message.chunk else {
            return Err(invalid_chunk());
        };
        let struck = service
            .cluster
            .strike(Point::WriteBatch, store, region)
            .await?;
        if let Some(Action::FlipBit) = struck
            && let Some(pair) = batch.pairs.first_mut()
        {
            // Pairs have no checksum of their own: it is stored.
            let mut bytes = pair.value.to_vec();
            bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
            pair.value = bytes.into();
        }
        if steps.send(Step::Batch(batch)).await.is_err() {
            break;
        }
    }
    // A builder that failed has stopped listening; its result says why.
    let _ = steps.send(Step::Finish).await;
    let metas = builder
        .await
        .map_err(|error| Status::internal(error.to_string()))??;
    acknowledge(service, Point::WriteDone, &metas).await?;
    Ok(metas)
}

fn build(
    store: &Arc<Store>,
    meta: SstMeta,
    source: u64,
    mut steps: mpsc::Receiver<Step>,
) -> Result<Vec<SstMeta>, Status> {
    let of = |cf: &str| SstMeta {
        cf_name: cf.to_owned(),
        ..meta.clone()
    };
    let metas = [of("default"), of("write")];
    let mut temps = metas.each_ref().map(|meta| Temp {
        path: store.import.temp_path(meta),
        published: false,
    });
    let options = WriterOptions::new();
    let mut writer = PairWriter::create(&options, &temps[0].path, &temps[1].path, source)
        .map_err(|_| invalid_chunk())?;
    loop {
        match steps.blocking_recv() {
            Some(Step::Batch(batch)) => add_batch(&mut writer, &batch)?,
            Some(Step::Finish) => break,
            None => return Err(Status::cancelled("the stream ended early")),
        }
    }
    let (default, write) = writer
        .finish()
        .map_err(|error| Status::unknown(format!("EngineTraits({error:?})")))?;
    if !store.alive() {
        return Err(Status::unavailable("store is down"));
    }
    let mut finished = Vec::new();
    for ((meta, temp), full) in metas.into_iter().zip(&mut temps).zip([default, write]) {
        if full {
            store.import.publish(&meta).map_err(SandboxError::from)?;
            temp.published = true;
            finished.push(meta);
        }
    }
    Ok(finished)
}

fn add_batch(writer: &mut PairWriter<'_>, batch: &WriteBatch) -> Result<(), Status> {
    if batch.commit_ts == 0 {
        return Err(Status::unknown("BadFormat(\"invalid commit-ts 0\")"));
    }
    for pair in &batch.pairs {
        let value = (pair.op() == pair::Op::Put).then_some(&pair.value[..]);
        writer
            .add(&pair.key, value, batch.commit_ts)
            .map_err(|error| {
                Status::unknown(format!(
                    "EngineTraits(Engine(Status {{ state: \"{error}\" }}))"
                ))
            })?;
    }
    Ok(())
}
