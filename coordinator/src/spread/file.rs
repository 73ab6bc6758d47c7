//! A source file that only agents hold, as bytes for whoever plans: read in parts from any agent that holds it.

use super::Spread;
use bytes::{Buf, Bytes};
use std::io::{self, Read};
use std::sync::Arc;
use thunderhead_source::{ByteSource, ByteStream, Identity};
use tokio::runtime::Handle;

/// What is asked for at a time.
const PART: u32 = 1 << 20;
/// The same for a reader of many places at a time.
const NARROW_PART: u32 = 64 << 10;

/// Reading waits for the network: not for a thread that others wait for.
#[derive(Clone)]
pub(super) struct AgentFile {
    pub(super) spread: Arc<Spread>,
    /// Among the files of the listing.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) runtime: Handle,
}

impl std::fmt::Debug for AgentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AgentFile").field(&self.name).finish()
    }
}

impl ByteSource for AgentFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> io::Result<Identity> {
        let known = &self.spread.listing.files[self.at];
        Ok(Identity {
            stored_bytes: known.size,
            modified_ns: known.modified_ns,
            etag: None,
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.spread.listing.files[self.at].size))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(Parts::new(self.clone(), offset, PART)))
    }

    fn open_narrow(&self, offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(Parts::new(self.clone(), offset, NARROW_PART)))
    }

    fn narrow_bytes(&self) -> usize {
        NARROW_PART as usize
    }
}

/// A stream of parts.
struct Parts {
    file: AgentFile,
    at: u64,
    length: u32,
    part: Bytes,
}

impl Parts {
    fn new(file: AgentFile, at: u64, length: u32) -> Self {
        Self {
            file,
            at,
            length,
            part: Bytes::new(),
        }
    }
}

impl Read for Parts {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = self.file.spread.listing.files[self.file.at].size;
        let left = size.saturating_sub(self.at);
        if self.part.is_empty() && left > 0 {
            let length = self.length.min(u32::try_from(left).unwrap_or(u32::MAX));
            let (spread, file, at) = (Arc::clone(&self.file.spread), self.file.at, self.at);
            let asked = self
                .file
                .runtime
                .spawn(async move { spread.read(file, at, length).await });
            self.part = futures::executor::block_on(asked).map_err(io::Error::other)??;
            if self.part.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += self.part.len() as u64;
        }
        let count = self.part.len().min(to.len());
        self.part.copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}
