//! Unpacking ahead: a thread fills blocks while the reader parses those before. Memory is bounded by the
//! blocks under way; the thread ends when the reader is dropped.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a block; a multiple of what decoders hand out at once.
const BLOCK: usize = 512 << 10;
/// Blocks that may wait for the reader.
const BLOCKS: usize = 3;

/// The reader's end.
pub(super) struct Ahead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
}

impl Ahead {
    pub(super) fn start(stream: impl Read + Send + 'static) -> io::Result<Self> {
        let (to, blocks) = sync_channel(BLOCKS);
        std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn(move || unpack(stream, &to))?;
        Ok(Self {
            blocks,
            block: Vec::new(),
            at: 0,
        })
    }
}

/// Sends full blocks, the last one as it is, and an error after the bytes before it.
fn unpack(mut stream: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK];
        let (mut filled, mut end) = (0, None);
        while filled < BLOCK && end.is_none() {
            match stream.read(&mut block[filled..]) {
                Ok(0) => end = Some(None),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Some(Some(error)),
            }
        }
        block.truncate(filled);
        if filled > 0 && to.send(Ok(block)).is_err() {
            return;
        }
        match end {
            None => {}
            Some(None) => return,
            Some(Some(error)) => {
                let _ = to.send(Err(error));
                return;
            }
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            match self.blocks.recv() {
                Ok(block) => (self.block, self.at) = (block?, 0),
                // The thread has sent everything.
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.block[self.at..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
