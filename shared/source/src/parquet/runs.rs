//! Numbers of a few bits each as Parquet writes indexes and levels: runs of one number, and groups of eight packed
//! one behind the other. Source: Encodings.md of the format, "RLE / Bit-Packing Hybrid".

use bytes::Bytes;
use parquet::errors::Result;

use super::texts::short;

/// Reads the numbers in their order.
pub(super) struct Runs {
    bytes: Bytes,
    /// Behind the run at hand.
    at: usize,
    width: u32,
    run: Run,
}

enum Run {
    /// The same number so many times.
    Same { number: u32, left: usize },
    /// From this bit on so many numbers.
    Packed { bit: usize, left: usize },
}

/// An index has no more bits.
const WIDTH_MAX: u32 = 32;

impl Runs {
    /// `None` where no number has so many bits.
    pub(super) fn new(bytes: Bytes, width: u32) -> Option<Self> {
        (width <= WIDTH_MAX).then_some(Self {
            bytes,
            at: 0,
            width,
            run: Run::Same { number: 0, left: 0 },
        })
    }

    /// Calls `take` with each of the next `count` numbers; an error where the bytes end before.
    #[inline]
    pub(super) fn each(&mut self, mut count: usize, mut take: impl FnMut(u32)) -> Result<()> {
        while count > 0 {
            match &mut self.run {
                Run::Same { number, left } if *left > 0 => {
                    let here = count.min(*left);
                    for _ in 0..here {
                        take(*number);
                    }
                    (*left, count) = (*left - here, count - here);
                }
                Run::Packed { bit, left } if *left > 0 => {
                    let (here, width) = (count.min(*left), self.width);
                    for _ in 0..here {
                        take(packed(&self.bytes, *bit, width).ok_or_else(short)?);
                        *bit += width as usize;
                    }
                    (*left, count) = (*left - here, count - here);
                }
                _ => self.run = self.next_run().ok_or_else(short)?,
            }
        }
        Ok(())
    }

    /// Appends the next `count` numbers to `to`.
    pub(super) fn take(&mut self, count: usize, to: &mut Vec<u32>) -> Result<()> {
        to.reserve(count);
        self.each(count, |number| to.push(number))
    }

    #[cold]
    fn next_run(&mut self) -> Option<Run> {
        let header = self.varint()?;
        let count = usize::try_from(header >> 1).ok()?;
        if header & 1 == 1 {
            let bit = self.at.checked_mul(8)?;
            // A group is as many bytes as a number has bits. The last one may be cut off behind its last number.
            self.at = self
                .at
                .checked_add(count.checked_mul(self.width as usize)?)?;
            let left = count.checked_mul(8)?;
            return Some(Run::Packed { bit, left });
        }
        let len = self.width.div_ceil(8) as usize;
        let written = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        let mut number = [0; 4];
        number[..len].copy_from_slice(written);
        self.at += len;
        Some(Run::Same {
            number: u32::from_le_bytes(number),
            left: count,
        })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// The number of `width` bits that begins at a bit, the lowest one first.
#[inline]
pub(super) fn packed(bytes: &[u8], bit: usize, width: u32) -> Option<u32> {
    let rest = bytes.get(bit / 8..)?;
    let shift = (bit % 8) as u32;
    let word = match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None if 8 * rest.len() >= (shift + width) as usize => {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(word)
        }
        None => return None,
    };
    Some((word >> shift & ((1 << width) - 1)) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The numbers, and `None` where they end too early.
    fn all(bytes: &[u8], width: u32, count: usize) -> Vec<Option<u32>> {
        let mut runs = Runs::new(Bytes::copy_from_slice(bytes), width).unwrap();
        let mut found = Vec::new();
        for part in [count / 2, count - count / 2] {
            let read = runs.each(part, |number| found.push(Some(number)));
            if read.is_err() {
                found.push(None);
                break;
            }
        }
        found
    }

    #[test]
    fn runs_and_groups_follow_one_another_and_end_with_the_bytes() {
        // The example of the format: 0 to 7 in three bits each, then five times 4.
        let bytes = [0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010, 0x0a, 4];
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 4, 4, 4, 4, 4].map(Some);
        assert_eq!(all(&bytes, 3, 13), expected);
        assert_eq!(all(&bytes, 3, 14)[13], None);
        // A group that is cut off has what is there.
        assert_eq!(all(&bytes[..2], 3, 3), [Some(0), Some(1), None]);
        assert_eq!(all(&[0x06], 0, 4), [Some(0), Some(0), Some(0), None]);
        let wide = [0x02, 1, 2, 3, 4];
        assert_eq!(all(&wide, 32, 2), [Some(0x0403_0201), None]);
    }

    #[test]
    fn what_is_no_run_ends_the_numbers() {
        assert_eq!(all(&[], 3, 1), [None]);
        assert_eq!(all(&[0xff; 12], 3, 1), [None]);
        assert_eq!(all(&[0x02], 9, 1), [None]);
        assert!(Runs::new(Bytes::new(), 33).is_none());
    }
}
