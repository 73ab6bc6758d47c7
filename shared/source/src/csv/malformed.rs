//! Where a record that is wrong ends: with the next terminator behind the error, whatever stands before that. No
//! guess is made about quotes, so it depends on nothing but the bytes, and files with such records are split like
//! others. What ends the file too early is never passed over: it could be most of the file.

use super::batch::SyntaxError;
use super::core::{Core, Token};
use super::scan::Scan;

/// What follows from a record that is wrong.
pub(super) enum Malformed {
    /// It ends at the first place, the next one starts at the second.
    To(usize, usize),
    NeedMore,
    /// Nothing can be read behind it.
    Fatal,
}

impl Core {
    /// Bytes before what a record has to start with.
    pub(super) fn before_start(&self, buf: &[u8]) -> usize {
        match self.starting.is_empty() {
            true => 0,
            false => memchr::memmem::find(buf, &self.starting).unwrap_or(0),
        }
    }

    /// Where the record with `error` ends.
    #[cold]
    pub(super) fn malformed<const SINGLE: bool>(
        &self,
        scan: &mut Scan<'_>,
        buf: &[u8],
        error: SyntaxError,
        at_end: bool,
    ) -> Malformed {
        if !self.skip_malformed || error.kind.is_end_of_file() {
            return Malformed::Fatal;
        }
        scan.skip_to(error.at + 1);
        loop {
            let at = scan.next();
            match self.token::<SINGLE>(buf, at, at_end) {
                Token::Terminator(len) => {
                    scan.skip_to(at + len);
                    return Malformed::To(at, at + len);
                }
                Token::Cut => return Malformed::NeedMore,
                _ => {}
            }
        }
    }
}
