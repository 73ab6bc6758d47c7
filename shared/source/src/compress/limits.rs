//! Errors of a packed stream get the packed byte they happened near, and a stream that unpacks to too much
//! is stopped.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thunderhead_config::Compression;

use crate::bytes::Entry;

/// Unpacked bytes that any file may have, however small it is.
const FREE: u64 = 1 << 30;
/// Beyond [`FREE`]: unpacked bytes per packed byte. gzip cannot reach 1,100; data that a table could hold,
/// packed by anything, stays far below.
const RATIO_MAX: u64 = 2_000;
/// No file unpacks to more.
const SIZE_MAX: u64 = 64 << 40;

/// Bytes that so many packed ones may unpack to.
pub(crate) fn allowed(stored: u64) -> u64 {
    FREE.saturating_add(stored.saturating_mul(RATIO_MAX))
        .min(SIZE_MAX)
}

/// See the module.
pub(super) struct Limited<R> {
    stream: R,
    packing: Compression,
    /// Packed bytes read so far.
    stored: Arc<AtomicU64>,
    given: u64,
    /// Where in the file `stream` begins.
    start: Entry,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(
        stream: R,
        packing: Compression,
        stored: Arc<AtomicU64>,
        start: Entry,
    ) -> Self {
        Self {
            stream,
            packing,
            stored,
            given: 0,
            start,
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(to);
        let stored = self.stored.load(Ordering::Relaxed);
        let count = read.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(
                if kind == io::ErrorKind::UnexpectedEof {
                    kind
                } else {
                    io::ErrorKind::InvalidData
                },
                format!(
                    "{} data is damaged or cut off, at or before packed byte {stored} and after {} unpacked bytes: {error}",
                    self.packing.name(),
                    self.start.unpacked + self.given
                ),
            ),
        })?;
        self.given += count as u64;
        let stored = stored - self.start.stored;
        if self.given > allowed(stored) {
            let cause = format!(
                "{stored} packed bytes have unpacked to {} bytes of {} data: more than any export does; unpack the file first if it is right",
                self.given,
                self.packing.name()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, cause));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_unpacks_to_far_too_much_is_stopped() {
        let packed = Arc::new(AtomicU64::new(1000));
        let mut stream = Limited::new(io::repeat(0), Compression::Gzip, packed, Entry::default());
        stream.given = FREE + 1000 * RATIO_MAX - 10;
        let mut buffer = [0; 10];
        assert_eq!(stream.read(&mut buffer).unwrap(), 10);
        let error = stream.read(&mut buffer).unwrap_err();
        assert!(error.to_string().contains("1000 packed bytes"), "{error}");
    }
}
