//! Serves this agent's finished runs to other agents: blocks as they lie in the file, as many as the reader gave
//! credit for. Only files below the directory of runs can be named.

use crate::sort::{RunFile, SortError};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use thunderhead_proto::thunderhead::{
    BlockInfo, DescribeRun, ReadRun, RunChunk, RunSlice, read_run, runs_server::Runs,
};
use thunderhead_types::{KeyRange, fail_point};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Blocks read at a time and on their way to the connection.
const READ_BLOCKS: u32 = 8;
/// Credit is only a number here, but a reader that gives this much is not one of ours.
const CREDIT_MAX: u32 = 1 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct RunServer {
    /// Absolute.
    runs_dir: PathBuf,
}

impl RunServer {
    pub(crate) fn new(sort_dir: &Path) -> Self {
        Self {
            runs_dir: sort_dir.join("runs"),
        }
    }

    /// The file that a request names, if it may be named.
    fn path(&self, named: &str) -> Result<PathBuf, Status> {
        let path = Path::new(named);
        let below = path.strip_prefix(&self.runs_dir).ok();
        let plain = below.is_some_and(|below| {
            below.components().count() == 3
                && below
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)))
        });
        if plain && path.extension().is_some_and(|extension| extension == "run") {
            Ok(path.to_owned())
        } else {
            Err(Status::not_found("no such run at this agent"))
        }
    }
}

#[tonic::async_trait]
impl Runs for RunServer {
    async fn describe(&self, request: Request<DescribeRun>) -> Result<Response<RunSlice>, Status> {
        let request = request.into_inner();
        let path = self.path(&request.path)?;
        let range = request.range.unwrap_or_default();
        let range = KeyRange::new(range.start, range.end);
        let run = blocking(move || RunFile::open(&path, &range)).await?;
        let blocks = run.blocks().iter().map(|block| BlockInfo {
            first_key: block.first_key.clone().into(),
            offset: block.offset,
            stored_len: block.stored_len,
            raw_len: block.raw_len,
            pairs: block.pairs,
            kv_bytes: block.kv_bytes,
            crc: block.crc,
        });
        Ok(Response::new(RunSlice {
            first_block: run.first_block(),
            blocks: blocks.collect(),
            upper: run.upper().to_vec().into(),
        }))
    }

    type ReadStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<RunChunk, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<Streaming<ReadRun>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let mut requests = request.into_inner();
        let open = match requests.message().await?.and_then(|first| first.body) {
            Some(read_run::Body::Open(open)) => open,
            _ => {
                return Err(Status::invalid_argument(
                    "the first message must open a run",
                ));
            }
        };
        let path = self.path(&open.path)?;
        let blocks = blocking(move || Blocks::open(&path)).await?;
        if open.first_block > open.end_block || open.end_block as usize > blocks.run.blocks().len()
        {
            return Err(Status::invalid_argument("the run has no such blocks"));
        }
        let (to, chunks) = mpsc::channel(READ_BLOCKS as usize);
        let serve = async move {
            if let Err(status) = serve(
                Arc::new(blocks),
                open.first_block..open.end_block,
                requests,
                &to,
            )
            .await
            {
                let _ = to.send(Err(status)).await;
            }
        };
        tokio::spawn(serve);
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// Sends the blocks `numbers` as credit comes in; ends when the reader does.
async fn serve(
    blocks: Arc<Blocks>,
    numbers: std::ops::Range<u32>,
    mut requests: Streaming<ReadRun>,
    to: &mpsc::Sender<Result<RunChunk, Status>>,
) -> Result<(), Status> {
    let (mut next, mut credit) = (numbers.start, 0u32);
    while next < numbers.end {
        while credit == 0 {
            let message = tokio::select! {
                biased;
                () = to.closed() => return Ok(()),
                message = requests.message() => message?,
            };
            match message.and_then(|message| message.body) {
                Some(read_run::Body::Credit(more)) => {
                    credit = credit.saturating_add(more).min(CREDIT_MAX)
                }
                _ => return Ok(()),
            }
        }
        let end = numbers.end.min(next + credit.min(READ_BLOCKS));
        let source = Arc::clone(&blocks);
        for (block, data) in blocking(move || source.read(next..end)).await? {
            if to.send(Ok(RunChunk { block, data })).await.is_err() {
                return Ok(());
            }
            fail_point("serve-run");
        }
        credit -= end - next;
        next = end;
    }
    Ok(())
}

/// An open run. The file stays readable when the run is dropped meanwhile.
struct Blocks {
    file: File,
    run: RunFile,
}

impl Blocks {
    fn open(path: &Path) -> Result<Self, SortError> {
        let run = RunFile::open(path, &KeyRange::default())?;
        let file = File::open(path).map_err(SortError::io(path, "open the run"))?;
        Ok(Self { file, run })
    }

    /// Blocks that follow one another, in one read.
    fn read(&self, numbers: std::ops::Range<u32>) -> Result<Vec<(u32, Bytes)>, SortError> {
        let wanted = &self.run.blocks()[numbers.start as usize..numbers.end as usize];
        let Some(first) = wanted.first() else {
            return Ok(Vec::new());
        };
        let bytes: usize = wanted.iter().map(|block| block.stored_len as usize).sum();
        let mut data = vec![0; bytes];
        self.file
            .read_exact_at(&mut data, first.offset)
            .map_err(SortError::io(self.run.path(), "read the run"))?;
        let mut data = Bytes::from(data);
        let blocks = wanted
            .iter()
            .map(|block| data.split_to(block.stored_len as usize));
        Ok(numbers.zip(blocks).collect())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SortError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|panic| Status::internal(panic.to_string()))?;
    done.map_err(|error| {
        tracing::warn!(%error, "another agent cannot get a run");
        match &error {
            SortError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Status::not_found("the run is not there any more")
            }
            SortError::Corrupt { .. } => Status::data_loss(error.to_string()),
            _ => Status::unavailable(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_can_be_named() {
        let server = RunServer::new(Path::new("/sort"));
        assert!(server.path("/sort/runs/job/1-2-3/index-0001.run").is_ok());
        for bad in [
            "/etc/passwd",
            "/sort/agent-id",
            "/sort/runs/job/1-2-3/manifest",
            "/sort/runs/job/../../secret/a/b.run",
            "/sort/runs/../x/y.run",
            "/sort/runs/job/x.run",
            "runs/job/1-2-3/a.run",
            "",
        ] {
            assert!(server.path(bad).is_err(), "{bad}");
        }
    }
}
