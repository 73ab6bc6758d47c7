//! One object as a [`ByteSource`]. Owns its pinned identity, reading ahead in blocks within a bounded buffer,
//! and going on at the byte where a connection broke.
//!
//! An object may be replaced while it is read. The first look at it pins size and ETag; every block is asked
//! for under the condition that the ETag is still this one, and the answer is compared once more, for not
//! every store knows the condition.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::location::Location;
use super::redact::redact;
use super::{connect, runtime, wait};
use crate::bytes::{ByteSource, ByteStream, Identity};

/// The first block of a stream, enough for a header; each next one is twice as large, up to the largest.
const BLOCK_BYTES_FIRST: u64 = 256 << 10;
/// Large enough that the time to the first byte (some 30 ms on S3) hides behind the blocks ahead.
const BLOCK_BYTES_MAX: u64 = 2 << 20;
/// Requests at a time of one stream. With one block on its way to the reader and one in its hands, a
/// stream holds at most 12 MiB.
const BLOCKS_AHEAD: usize = 4;
/// Broken answers in a row without a byte.
const BREAKS_MAX: u32 = 6;
const BREAK_PAUSE: Duration = Duration::from_millis(200);

/// An object of a store.
pub(crate) struct RemoteFile {
    object: Arc<Object>,
    name: String,
    pinned: OnceLock<Pinned>,
}

/// The library's clients show their key ids: only the name is shown.
impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteFile").field(&self.name).finish()
    }
}

struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    location: Location,
}

#[derive(Clone, Debug, PartialEq)]
struct Pinned {
    size: u64,
    modified_ns: i64,
    etag: Option<String>,
}

impl From<&ObjectMeta> for Pinned {
    fn from(meta: &ObjectMeta) -> Self {
        Self {
            size: meta.size,
            modified_ns: modified_ns(meta),
            etag: meta.e_tag.clone(),
        }
    }
}

/// When an object was changed, in whole seconds: lists of some stores (MinIO) know more of it than the answer to a
/// question for the object itself.
pub(super) fn modified_ns(meta: &ObjectMeta) -> i64 {
    meta.last_modified.timestamp().saturating_mul(1_000_000_000)
}

/// The store's mark of the content. Lists of Azure show it without the quotes that its answers have.
pub(super) fn mark(meta_etag: Option<&str>) -> Option<String> {
    meta_etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned())
}

impl RemoteFile {
    /// The object that `uri` names; nothing is asked of the store yet.
    pub(crate) fn new(uri: &str) -> io::Result<Self> {
        let invalid =
            |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let location = Location::parse(uri).map_err(|e| invalid(&e))?;
        let path = location.path().map_err(|e| invalid(&e))?;
        // Clients of TLS want to know its implementation when they are built.
        runtime()?;
        let store = connect::client(&location).map_err(|e| invalid(&e))?;
        let name = location.name(&location.key);
        Ok(Self {
            object: Arc::new(Object {
                store,
                path,
                location,
            }),
            name,
            pinned: OnceLock::new(),
        })
    }

    fn look(&self) -> io::Result<Pinned> {
        let object = Arc::clone(&self.object);
        wait(async move {
            let meta = object.store.head(&object.path).await;
            meta.map(|meta| Pinned::from(&meta))
                .map_err(|e| object.error(&e))
        })
    }

    fn pinned(&self) -> io::Result<Pinned> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(pinned.clone());
        }
        let found = self.look()?;
        Ok(self.pinned.get_or_init(|| found).clone())
    }
}

impl ByteSource for RemoteFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> io::Result<Identity> {
        let found = self.look()?;
        self.pinned.get_or_init(|| found.clone());
        Ok(Identity {
            stored_bytes: found.size,
            modified_ns: found.modified_ns,
            etag: mark(found.etag.as_deref()),
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.pinned()?.size))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        self.stream(offset, BLOCK_BYTES_MAX, BLOCKS_AHEAD)
    }

    fn open_narrow(&self, offset: u64) -> io::Result<ByteStream> {
        self.stream(offset, BLOCK_BYTES_FIRST, 1)
    }

    /// A block that is asked for, one on its way and one in the reader's hands.
    fn narrow_bytes(&self) -> usize {
        3 * BLOCK_BYTES_FIRST as usize
    }
}

impl RemoteFile {
    fn stream(&self, offset: u64, block_bytes: u64, ahead: usize) -> io::Result<ByteStream> {
        let pinned = self.pinned()?;
        let size = pinned.size;
        let left = size.saturating_sub(offset);
        let (sender, blocks) = mpsc::channel(1);
        let object = Arc::clone(&self.object);
        let task = runtime()?.spawn(object.send_blocks(
            pinned,
            block_ranges(offset, size, block_bytes),
            ahead,
            sender,
        ));
        Ok(Box::new(Stream {
            blocks,
            current: Bytes::new(),
            left,
            task: task.abort_handle(),
        }))
    }
}

/// The blocks from `offset` to `size`, growing.
fn block_ranges(offset: u64, size: u64, bytes_max: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let (mut start, mut bytes) = (offset, BLOCK_BYTES_FIRST);
    std::iter::from_fn(move || {
        let range = start..size.min(start.saturating_add(bytes));
        start = range.end;
        bytes = (bytes * 2).min(bytes_max);
        (!range.is_empty()).then_some(range)
    })
}

impl Object {
    async fn send_blocks(
        self: Arc<Self>,
        pinned: Pinned,
        ranges: impl Iterator<Item = Range<u64>> + Send,
        ahead: usize,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) {
        let (this, pinned) = (&self, &pinned);
        let mut blocks = futures::stream::iter(ranges)
            .map(|range| async move { this.block(pinned, range).await })
            .buffered(ahead);
        while let Some(block) = blocks.next().await {
            let failed = block.is_err();
            // The reader is gone, or will go.
            if sender.send(block).await.is_err() || failed {
                return;
            }
        }
    }

    /// Exactly the bytes of `range`, over as many answers as it takes.
    async fn block(&self, pinned: &Pinned, range: Range<u64>) -> io::Result<Bytes> {
        let mut block = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut breaks = 0;
        loop {
            let start = range.start + block.len() as u64;
            if start == range.end {
                return Ok(block.freeze());
            }
            let before = block.len();
            let broken = match self.answer(pinned, start..range.end, &mut block).await {
                Ok(()) if block.len() > before => continue,
                Ok(()) => "the store sent nothing".to_owned(),
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Midway(error)) => error,
            };
            breaks = if block.len() > before { 0 } else { breaks + 1 };
            if breaks > BREAKS_MAX {
                let at = range.start + block.len() as u64;
                return Err(io::Error::other(format!("at byte {at}: {broken}")));
            }
            pause(breaks).await;
        }
    }

    /// Appends what one answer brings.
    async fn answer(
        &self,
        pinned: &Pinned,
        range: Range<u64>,
        block: &mut BytesMut,
    ) -> Result<(), Broken> {
        let wanted = (range.end - range.start) as usize;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: pinned.etag.clone(),
            ..GetOptions::default()
        };
        let result = self.store.get_opts(&self.path, options).await;
        let result = result.map_err(|e| Broken::Final(self.error(&e)))?;
        let found = Pinned::from(&result.meta);
        if found.size != pinned.size || found.etag != pinned.etag {
            return Err(Broken::Final(changed()));
        }
        let (mut pieces, end) = (result.into_stream(), block.len() + wanted);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| Broken::Midway(redact(&chain(&e), &self.location)))?;
            let room = end - block.len();
            block.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        Ok(())
    }

    fn error(&self, error: &Error) -> io::Error {
        let kind = match error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::Precondition { .. } => return changed(),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                io::ErrorKind::PermissionDenied
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, redact(&chain(error), &self.location))
    }
}

enum Broken {
    /// Asking again does not help.
    Final(io::Error),
    /// The connection broke; the rest can be asked for.
    Midway(String),
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the object was replaced while it was read: let nothing write to the source during an import",
    )
}

async fn pause(breaks: u32) {
    tokio::time::sleep(BREAK_PAUSE * (1 << breaks.min(5))).await;
}

/// An error with its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// Blocks in their order as one stream.
struct Stream {
    blocks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    /// Bytes not yet given out.
    left: u64,
    task: AbortHandle,
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || to.is_empty() {
            return Ok(0);
        }
        if self.current.is_empty() {
            self.current = match futures::executor::block_on(self.blocks.recv()) {
                Some(block) => block?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let count = to.len().min(self.current.len());
        self.current.copy_to_slice(&mut to[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_rest_of_the_object_once() {
        for (offset, size) in [(0, 0), (5, 5), (9, 5), (0, 1), (3, 10 << 20)] {
            let mut next = offset.min(size.max(offset));
            for range in block_ranges(offset, size, BLOCK_BYTES_MAX) {
                assert_eq!(range.start, next);
                assert!(range.end - range.start <= BLOCK_BYTES_MAX);
                next = range.end;
            }
            assert_eq!(next, size.max(offset));
        }
    }
}
