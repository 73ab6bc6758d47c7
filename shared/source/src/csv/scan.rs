//! Finds the bytes a lexer has to look at, 64 bytes at a time.
//!
//! A block of 64 bytes becomes a mask with one bit per byte that is one of some marks, by what every processor of
//! the kind has and without a word of unsafe code. Whoever changes [`mask_of`] should look at `bench_csv` before
//! and after.

use wide::u8x16;

pub(super) const BLOCK: usize = 64;

/// The bytes looked for; unused places repeat another mark.
pub(super) type Marks = [u8; 5];

/// Positions of marks in a slice, in ascending order.
pub(super) struct Scan<'a> {
    buf: &'a [u8],
    marks: Marks,
    /// Start of the block that `mask` describes.
    base: usize,
    /// Marks of the block not yet given out.
    mask: u64,
}

impl<'a> Scan<'a> {
    /// Looks for `marks` in `buf` from `from` on.
    pub(super) fn new(buf: &'a [u8], marks: Marks, from: usize) -> Self {
        let mut scan = Self {
            buf,
            marks,
            base: from,
            mask: 0,
        };
        scan.load(from);
        scan
    }

    /// The next mark, or the length of the slice.
    #[inline(always)]
    pub(super) fn next(&mut self) -> usize {
        while self.mask == 0 {
            let base = self.base + BLOCK;
            if base >= self.buf.len() {
                return self.buf.len();
            }
            self.load(base);
        }
        let at = self.base + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        at
    }

    /// Forgets every mark before `at`.
    #[inline(always)]
    pub(super) fn skip_to(&mut self, at: usize) {
        let ahead = at.saturating_sub(self.base);
        if ahead < BLOCK {
            self.mask &= u64::MAX << ahead;
        } else {
            self.load(at);
        }
    }

    #[inline(always)]
    fn load(&mut self, base: usize) {
        self.base = base;
        let rest = self.buf.get(base..).unwrap_or_default();
        self.mask = match rest.first_chunk::<BLOCK>() {
            Some(block) => mask_of(block, self.marks),
            None => self.load_tail(rest),
        };
    }

    #[cold]
    fn load_tail(&self, rest: &[u8]) -> u64 {
        let mut block = [0u8; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        // The padding may look like a mark when a dialect uses the NUL byte.
        mask_of(&block, self.marks) & !(u64::MAX << rest.len())
    }
}

/// Bit n: byte n is one of `marks`.
#[inline(always)]
pub(super) fn mask_of<const N: usize>(block: &[u8; BLOCK], marks: [u8; N]) -> u64 {
    let marks = marks.map(u8x16::splat);
    let mut mask = 0;
    for (i, part) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u8x16::new(*part);
        let mut hits = bytes.simd_eq(marks[0]);
        for mark in &marks[1..] {
            hits |= bytes.simd_eq(*mark);
        }
        mask |= u64::from(hits.to_bitmask()) << (16 * i);
    }
    mask
}

/// Line ends in `bytes`: occurrences of `line_byte`, or without one LF, CRLF and lone CR.
pub(crate) fn count_lines(bytes: &[u8], line_byte: Option<u8>) -> u64 {
    let Some(byte) = line_byte else {
        let feeds = memchr::memchr_iter(b'\n', bytes).count();
        let returns = memchr::memchr_iter(b'\r', bytes);
        return (feeds
            + returns
                .filter(|&i| bytes.get(i + 1) != Some(&b'\n'))
                .count()) as u64;
    };
    memchr::memchr_iter(byte, bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_mark_is_found_once_and_in_order(bytes in prop::collection::vec(0u8..8, 0..300), from in 0usize..300) {
            let from = from.min(bytes.len());
            let mut scan = Scan::new(&bytes, [0, 3, 5, 5, 7], from);
            let expected = (from..bytes.len()).filter(|&i| matches!(bytes[i], 0 | 3 | 5 | 7));
            for at in expected {
                prop_assert_eq!(scan.next(), at);
            }
            prop_assert_eq!(scan.next(), bytes.len());
        }

        #[test]
        fn skipping_leaves_the_marks_behind_it(bytes in prop::collection::vec(0u8..4, 0..300), to in 0usize..310) {
            let mut scan = Scan::new(&bytes, [1; 5], 0);
            scan.skip_to(to);
            let expected = (to..bytes.len()).find(|&i| bytes[i] == 1).unwrap_or(bytes.len());
            prop_assert_eq!(scan.next(), expected);
        }
    }

    #[test]
    fn a_line_ends_with_lf_crlf_or_cr() {
        assert_eq!(count_lines(b"a\nb\r\nc\rd\r\r\n\n", None), 6);
        assert_eq!(count_lines(b"a|b|\n", Some(b'|')), 2);
    }
}
