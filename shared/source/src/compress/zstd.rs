//! Unpacking zstd, frame after frame. The library's binding works on buffers; this turns it into a reader,
//! and the end of the file inside a frame into an error.

use std::io::{self, BufRead, Read};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Largest window that is accepted, as a power of two: what `zstd --ultra --long=31` writes.
const WINDOW_LOG_MAX: u32 = 31;

/// The unpacked bytes of all frames.
pub(super) struct Frames<R> {
    input: R,
    context: DCtx<'static>,
    /// The last byte that was read ended a frame.
    between: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(input: R) -> io::Result<Self> {
        let mut context = DCtx::create();
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(failed)?;
        Ok(Self {
            input,
            context,
            between: true,
        })
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let stored = self.input.fill_buf()?;
            let at_end = stored.is_empty();
            if at_end && self.between || to.is_empty() {
                return Ok(0);
            }
            let mut from = InBuffer::around(stored);
            let mut out = OutBuffer::around(&mut *to);
            let expected = self
                .context
                .decompress_stream(&mut out, &mut from)
                .map_err(failed)?;
            let (given, taken) = (out.pos(), from.pos());
            self.input.consume(taken);
            // Output may be left inside the context when the input is at its end.
            self.between = expected == 0;
            if given > 0 {
                return Ok(given);
            }
            if at_end && !self.between {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file ends inside a frame",
                ));
            }
        }
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code))
}
