//! Files larger than any disk of a test: they are made while they are read. Shared by `tests/memory.rs` and
//! `examples/large_files.rs`.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thunderhead_source::{ByteSource, ByteStream, Identity};

/// A file that is made while it is read: a head, then the same piece again and again, then a tail.
#[derive(Clone, Debug)]
pub struct Made {
    pub head: &'static [u8],
    pub piece: &'static [u8],
    pub pieces: u64,
    pub tail: &'static [u8],
    /// Bytes that were read of it.
    pub read: Arc<AtomicU64>,
}

impl Made {
    pub fn bytes(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.piece.len() as u64 * self.pieces
    }

    fn from(&self, offset: u64) -> &[u8] {
        let head = self.head.len() as u64;
        let body = self.piece.len() as u64 * self.pieces;
        if offset < head {
            &self.head[offset as usize..]
        } else if offset < head + body {
            &self.piece[((offset - head) % self.piece.len() as u64) as usize..]
        } else {
            &self.tail[(offset - head - body) as usize..]
        }
    }
}

struct MadeStream(Made, u64);

impl Read for MadeStream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < to.len() {
            let some = self.0.from(self.1);
            if some.is_empty() {
                break;
            }
            let count = some.len().min(to.len() - done);
            to[done..done + count].copy_from_slice(&some[..count]);
            (done, self.1) = (done + count, self.1 + count as u64);
        }
        self.0.read.fetch_add(done as u64, Ordering::Relaxed);
        Ok(done)
    }
}

impl ByteSource for Made {
    fn name(&self) -> &str {
        "made.csv"
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity {
            stored_bytes: self.bytes(),
            ..Identity::default()
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.bytes()))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        Ok(Box::new(MadeStream(self.clone(), offset)))
    }
}

/// The largest resident set of this process so far.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.unwrap().split_whitespace().nth(1).unwrap();
    words.parse::<u64>().unwrap() * 1024
}
