//! Runs that other agents hold, as sources of a merge. A merge reads one block after the other on a thread of its
//! own; behind it a stream to the other agent stays a few blocks ahead. A broken stream is opened again at the
//! next block, until the other agent was silent for too long.
//!
//! Credit: a block is only asked for when it has a place in the channel to the merge. So a merge that waits for one
//! run never holds back the stream of another on the same connection.

use crate::run_store::{RunStore, StoredBlocks};
use crate::sort::{BLOCK_BYTES, BlockMeta, BlockStream, RemoteBlocks, RunFile, SortError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_cluster::{Connector, Security, Waited};
use thunderhead_proto::thunderhead::{
    self as wire, DescribeRun, KeyRange as WireRange, OpenRun, ReadRun, RunSlice, read_run,
    runs_client::RunsClient,
};
use thunderhead_types::{Error, KeyRange};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Blocks that a stream may be ahead of its merge: the first number is enough to hide a millisecond of delay. Half of
/// them are asked for at a time, so more of them mean fewer messages, reads and changes from thread to thread.
const AHEAD: std::ops::RangeInclusive<usize> = 4..=16;
/// A call that does not answer for so long is made again.
const SILENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// A block is 64 KiB unless one pair is larger; TiDB's limit for one is 120 MiB.
const MESSAGE_BYTES_MAX: usize = 160 << 20;
/// Flow control of HTTP/2 is not what bounds memory here, credit is; so it must not be what limits speed.
const CONNECTION_WINDOW: u32 = 32 << 20;
const STREAM_WINDOW: u32 = 2 << 20;
/// A block comes in one frame, not in four.
const FRAME: u32 = 256 << 10;

/// Connections to other agents.
pub(crate) struct Peers {
    security: Security,
    /// How long another agent may give nothing before its runs count as lost.
    patience: Duration,
    /// Where runs of agents that are gone are read.
    store: Option<RunStore>,
    channels: Mutex<HashMap<String, Channel>>,
    /// What merges have waited for blocks of other agents.
    pub(crate) waited: Waited,
}

/// Why a run of another agent cannot be read.
enum Trouble {
    /// The agent says that it does not have it, or has it damaged.
    Gone(Status),
    /// The agent cannot be reached; perhaps later.
    Away(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound | Code::DataLoss | Code::InvalidArgument => Trouble::Gone(status),
            _ => Trouble::Away(format!("{}: {}", status.code(), status.message())),
        }
    }
}

impl Peers {
    /// No connections yet; certificates are read for each new one.
    pub(crate) fn new(security: Security, patience: Duration, store: Option<RunStore>) -> Self {
        Self {
            security,
            patience,
            store,
            channels: Mutex::default(),
            waited: Waited::default(),
        }
    }

    fn client(&self, address: &str) -> Result<RunsClient<Channel>, Error> {
        let known = self.channels.lock().get(address).cloned();
        let channel = match known {
            Some(channel) => channel,
            None => {
                let endpoint = Connector::new(&self.security)?
                    .endpoint(address)?
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .max_frame_size(FRAME);
                let channel = endpoint.connect_lazy();
                self.channels
                    .lock()
                    .insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(RunsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Opens the part of a run that may hold keys of `range`: at the agent that has it, or in the run store. Its stream
    /// may be `ahead` blocks ahead of who reads it.
    pub(crate) async fn open(
        self: &Arc<Self>,
        named: &wire::RemoteRun,
        range: &KeyRange,
        ahead: usize,
    ) -> Result<RunFile, SortError> {
        let run = RemoteRun {
            peers: Arc::clone(self),
            address: named.address.clone(),
            path: named.path.clone(),
            runtime: Handle::current(),
            ahead,
            store: self.store.clone().filter(|_| named.stored),
            stored: None,
        };
        let started = Instant::now();
        loop {
            let trouble = match run.describe(range).await {
                Ok(slice) => return Ok(run.opened(slice, range)),
                Err(trouble) => trouble,
            };
            if let Some(store) = run.store.clone() {
                run.says_that_it_is_gone(&trouble);
                let (path, range) = (run.path.clone(), range.clone());
                let opened = tokio::task::spawn_blocking(move || store.open_run(&path, &range));
                return opened.await.unwrap_or_else(|panic| Err(run.ended(panic)));
            }
            run.pause(trouble, started).await?;
        }
    }
}

/// Blocks that each stream of a merge of `runs` may be ahead. Half of its memory is for them, as far as the least number
/// of them allows.
pub(crate) fn blocks_ahead(memory_bytes: usize, runs: usize) -> usize {
    (memory_bytes / 2 / BLOCK_BYTES / runs.max(1)).clamp(*AHEAD.start(), *AHEAD.end())
}

/// A run that another agent holds.
#[derive(Clone)]
struct RemoteRun {
    peers: Arc<Peers>,
    address: String,
    path: String,
    runtime: Handle,
    /// Blocks that its stream may be ahead of the merge.
    ahead: usize,
    /// Where it lies, too.
    store: Option<RunStore>,
    /// Its blocks there, once they are known.
    stored: Option<StoredBlocks>,
}

impl RemoteRun {
    async fn describe(&self, range: &KeyRange) -> Result<RunSlice, Trouble> {
        if self.address.is_empty() {
            return Err(Trouble::Away("the agent is not there".to_owned()));
        }
        let mut client = self.client()?;
        let request = DescribeRun {
            path: self.path.clone(),
            range: Some(WireRange {
                start: range.start.clone().into(),
                end: range.end.clone().into(),
            }),
        };
        match timeout(SILENCE, client.describe(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Trouble::Away(format!("no answer within {SILENCE:?}"))),
        }
    }

    fn client(&self) -> Result<RunsClient<Channel>, Trouble> {
        self.peers
            .client(&self.address)
            .map_err(|e| Trouble::Away(e.to_string()))
    }

    fn says_that_it_is_gone(&self, trouble: &Trouble) {
        let cause = match trouble {
            Trouble::Gone(status) => status.message(),
            Trouble::Away(cause) => cause,
        };
        tracing::info!(
            self.address,
            cause,
            "a run is read in the run store: its agent does not give it"
        );
    }

    fn ended(&self, why: impl std::fmt::Display) -> SortError {
        SortError::PeerLost {
            address: self.address.clone(),
            cause: why.to_string(),
        }
    }

    fn opened(mut self, slice: RunSlice, range: &KeyRange) -> RunFile {
        let blocks = slice.blocks.into_iter().map(|block| BlockMeta {
            first_key: block.first_key.into(),
            offset: block.offset,
            stored_len: block.stored_len,
            raw_len: block.raw_len,
            pairs: block.pairs,
            kv_bytes: block.kv_bytes,
            crc: block.crc,
        });
        let blocks: Vec<BlockMeta> = blocks.collect();
        let store = self.store.as_ref();
        self.stored = store.map(|store| store.blocks(&self.path, &blocks, slice.first_block));
        RunFile::remote(
            PathBuf::from(&self.path),
            range.clone(),
            slice.first_block,
            blocks,
            slice.upper.into(),
            Arc::new(self),
        )
    }

    /// Waits before the next try, or says that the run is lost.
    async fn pause(&self, trouble: Trouble, silent_since: Instant) -> Result<(), SortError> {
        match trouble {
            Trouble::Gone(status) => Err(SortError::Io {
                path: PathBuf::from(&self.path),
                action: "read the run at another agent",
                source: io::Error::new(io::ErrorKind::NotFound, status.message().to_owned()),
            }),
            Trouble::Away(cause) if silent_since.elapsed() > self.peers.patience => {
                Err(SortError::PeerLost {
                    address: self.address.clone(),
                    cause,
                })
            }
            Trouble::Away(cause) => {
                tracing::debug!(self.address, cause, "another agent does not answer");
                // A new connection reads the certificates again and looks the name up again.
                self.peers.channels.lock().remove(&self.address);
                sleep(PAUSE).await;
                Ok(())
            }
        }
    }

    /// Sends blocks `[next, end)` to `to`.
    async fn stream(self, mut next: u32, end: u32, to: mpsc::Sender<Result<Bytes, SortError>>) {
        let mut places = VecDeque::new();
        let mut silent_since = Instant::now();
        while next < end {
            let before = next;
            let read = self.read(&mut next, end, &to, &mut places);
            let trouble = match read.await {
                Ok(()) => return,
                Err(trouble) => trouble,
            };
            if next > before {
                silent_since = Instant::now();
            }
            if let Some(stored) = self.stored.clone() {
                self.says_that_it_is_gone(&trouble);
                // Every place in the channel may be one that a block was asked for.
                places.clear();
                return self.send_stored(stored, next, end, &to).await;
            }
            if let Err(lost) = self.pause(trouble, silent_since).await {
                // Waiting for another place than those would never end.
                places.clear();
                let _ = to.send(Err(lost)).await;
                return;
            }
        }
    }

    /// Sends blocks `[next, end)` from the run store.
    async fn send_stored(
        &self,
        stored: StoredBlocks,
        next: u32,
        end: u32,
        to: &mpsc::Sender<Result<Bytes, SortError>>,
    ) {
        let mut blocks = stored.open(next, end);
        for _ in next..end {
            let fetched = tokio::task::spawn_blocking(move || {
                let block = blocks.next_block();
                (blocks, block)
            });
            let block = match fetched.await {
                Ok((rest, block)) => {
                    blocks = rest;
                    block
                }
                Err(panic) => {
                    let _ = to.send(Err(self.ended(panic))).await;
                    return;
                }
            };
            let failed = block.is_err();
            if to.send(block).await.is_err() || failed {
                return;
            }
        }
    }

    /// One stream, from `next` on; `places` are free places in the channel, asked for or not. Ends well at the end
    /// of the run and when nobody reads it any more.
    async fn read<'a>(
        &self,
        next: &mut u32,
        end: u32,
        to: &'a mpsc::Sender<Result<Bytes, SortError>>,
        places: &mut VecDeque<mpsc::Permit<'a, Result<Bytes, SortError>>>,
    ) -> Result<(), Trouble> {
        // Never holds more than the places in the channel.
        let (requests, outgoing) = mpsc::unbounded_channel();
        let ask = |body| requests.send(ReadRun { body: Some(body) }).is_ok();
        ask(read_run::Body::Open(OpenRun {
            path: self.path.clone(),
            first_block: *next,
            end_block: end,
        }));
        let mut asked = places.len();
        if asked > 0 {
            ask(read_run::Body::Credit(asked as u32));
        }
        let mut client = self.client()?;
        let opened = timeout(SILENCE, client.read(UnboundedReceiverStream::new(outgoing)));
        let mut blocks = match opened.await {
            Ok(opened) => opened?.into_inner(),
            Err(_) => return Err(Trouble::Away(format!("no answer within {SILENCE:?}"))),
        };
        while *next < end {
            let wanted = (end as usize - *next as usize - asked).min(self.ahead / 2);
            tokio::select! {
                biased;
                more = to.reserve_many(wanted), if wanted > 0 => {
                    let Ok(more) = more else { return Ok(()) };
                    places.extend(more);
                    asked += wanted;
                    ask(read_run::Body::Credit(wanted as u32));
                }
                block = timeout(SILENCE, blocks.message()), if asked > 0 => {
                    let block = match block {
                        Ok(block) => block?,
                        Err(_) => return Err(Trouble::Away(format!("no block within {SILENCE:?}"))),
                    };
                    let block = block.ok_or_else(|| Trouble::Away("the stream ended early".into()))?;
                    let Some(place) = places.pop_front().filter(|_| block.block == *next) else {
                        return Err(Trouble::Away("blocks came out of order".into()));
                    };
                    place.send(Ok(block.data));
                    *next += 1;
                    asked -= 1;
                }
            }
        }
        Ok(())
    }
}

impl RemoteBlocks for RemoteRun {
    fn open(&self, first: u32, end: u32) -> Box<dyn BlockStream> {
        let (to, blocks) = mpsc::channel(self.ahead);
        let run = self.clone();
        self.runtime
            .spawn(async move { run.stream(first, end, to).await });
        Box::new(Received {
            blocks,
            peers: Arc::clone(&self.peers),
        })
    }

    fn ahead(&self) -> usize {
        self.ahead
    }
}

struct Received {
    peers: Arc<Peers>,
    blocks: mpsc::Receiver<Result<Bytes, SortError>>,
}

impl BlockStream for Received {
    fn next_block(&mut self) -> Result<Bytes, SortError> {
        let start = Instant::now();
        let block = self.blocks.blocking_recv();
        self.peers.waited.add(start.elapsed());
        block.unwrap_or_else(|| {
            Err(SortError::PeerLost {
                address: String::new(),
                cause: "the process is shutting down".into(),
            })
        })
    }
}
