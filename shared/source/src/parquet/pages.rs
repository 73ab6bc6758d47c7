//! Pages on their way to the library's decoders: those with lengths packed as deltas say how many there are, the library
//! makes room for all of them before it reads the first, and takes the bytes they name without a look whether they are
//! there. And where deltas say that there are none, it takes a value nevertheless. Owns the checks that they are there.

use std::ops::Range;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::Result;

use super::runs::{Runs, packed};
use super::texts::{short, wrong};

/// Texts of a page; writers end one at some ten thousand rows.
const TEXTS_MAX: u64 = 16 << 20;

/// See the module.
pub(super) struct Checked {
    pages: Box<dyn PageReader>,
    nullable: bool,
}

impl Checked {
    /// The pages of a flat column.
    pub(super) fn new(pages: Box<dyn PageReader>, nullable: bool) -> Self {
        Self { pages, nullable }
    }
}

impl Iterator for Checked {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref()
            .map_or(Ok(()), |page| check(page, self.nullable))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

/// Refuses a page of a flat column whose deltas are not all there.
fn check(page: &Page, nullable: bool) -> Result<()> {
    let (levels, values, encoding, count) = match page {
        Page::DataPage {
            buf,
            num_values,
            encoding,
            def_level_encoding,
            ..
        } => {
            let (at, end) = match (nullable, *def_level_encoding) {
                (false, _) => (0, 0),
                (true, Encoding::RLE) => {
                    let length = buf.first_chunk().ok_or_else(short)?;
                    (4, 4 + u32::from_le_bytes(*length) as usize)
                }
                (true, _) => (0, (*num_values as usize).div_ceil(8)),
            };
            (
                part(buf, at..end),
                part(buf, end..buf.len()),
                *encoding,
                *num_values,
            )
        }
        Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            let at = *rep_levels_byte_len as usize;
            let end = at + *def_levels_byte_len as usize;
            (
                part(buf, at..end),
                part(buf, end..buf.len()),
                *encoding,
                *num_values,
            )
        }
        Page::DictionaryPage { .. } => return Ok(()),
    };
    let lists = match encoding {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // What a text shares with the one before it, and what it has of its own.
        Encoding::DELTA_BYTE_ARRAY => 2,
        Encoding::DELTA_BINARY_PACKED => 0,
        _ => return Ok(()),
    };
    let values = values.ok_or_else(short)?;
    if counted(&values)? == 0 && has_values(levels.ok_or_else(short)?, count, nullable)? {
        return Err(wrong("a page has values where it says that there are none"));
    }
    let (mut values, mut bytes) = (&values[..], 0);
    for _ in 0..lists {
        let (end, sum) = deltas(values, u64::from(count).min(TEXTS_MAX))?;
        (values, bytes) = (values.get(end..).ok_or_else(short)?, sum);
    }
    // The last list is of what stands behind it.
    if bytes > values.len() as u64 {
        return Err(short());
    }
    Ok(())
}

/// Whether one of the rows is not NULL. Levels that are not runs are older than deltas, and no file has both.
fn has_values(levels: Bytes, rows: u32, nullable: bool) -> Result<bool> {
    let mut found = !nullable && rows > 0;
    if nullable {
        let mut runs = Runs::new(levels, 1).ok_or_else(short)?;
        runs.each(rows as usize, |level| found |= level > 0)?;
    }
    Ok(found)
}

/// A piece of a page without a copy.
fn part(page: &Bytes, range: Range<usize>) -> Option<Bytes> {
    (range.start <= range.end && range.end <= page.len()).then(|| page.slice(range))
}

/// How many numbers are packed as deltas, as they say themselves.
fn counted(bytes: &[u8]) -> Result<u64> {
    let mut at = 0;
    let (_block, _parts) = (number(bytes, &mut at)?, number(bytes, &mut at)?);
    number(bytes, &mut at)
}

/// Where lengths packed as deltas end, of which there must be no more than `count_max`, and their sum. Source:
/// Encodings.md of the format, DELTA_BINARY_PACKED.
fn deltas(bytes: &[u8], count_max: u64) -> Result<(usize, u64)> {
    let mut at = 0;
    let block = number(bytes, &mut at)?;
    let parts = number(bytes, &mut at)?;
    let count = number(bytes, &mut at)?;
    // As wide as the library reads them.
    let mut length = signed(number(bytes, &mut at)?) as i32;
    if count > count_max {
        let why = format!("{count} texts cannot be in a page of {count_max}");
        return Err(wrong(&why));
    }
    if parts == 0 || block == 0 || !block.is_multiple_of(parts) {
        return Err(wrong("blocks of deltas cannot have such parts"));
    }
    let negative = |_| wrong("a text has fewer than no bytes");
    let mut sum = match count {
        0 => 0,
        _ => u64::try_from(length).map_err(negative)?,
    };
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let least = signed(number(bytes, &mut at)?) as i32;
        let widths = usize::try_from(parts)
            .ok()
            .and_then(|parts| at.checked_add(parts));
        let widths = widths
            .and_then(|end| bytes.get(at..end))
            .ok_or_else(short)?;
        at += widths.len();
        // Behind the last number there may stand any widths, and nothing is kept.
        for &width in widths {
            if left == 0 {
                break;
            }
            if width > 32 {
                return Err(wrong("a length has more than 32 bits"));
            }
            let numbers = bytes.get(at..).ok_or_else(short)?;
            let here = left.min(block / parts);
            for n in 0..here as usize {
                let more = packed(numbers, n * usize::from(width), width.into());
                let more = more.ok_or_else(short)?.cast_signed();
                length = length.wrapping_add(least).wrapping_add(more);
                sum += u64::try_from(length).map_err(negative)?;
            }
            left -= here;
            let bits = u64::from(width).saturating_mul(block / parts);
            at = at.saturating_add(usize::try_from(bits / 8).unwrap_or(usize::MAX));
        }
    }
    Ok((at, sum))
}

fn signed(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// A number of seven bits a byte, the lowest first.
fn number(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(short)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(wrong("a number has more than 10 bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_page_says_that_it_has_no_deltas_only_where_all_rows_are_null() {
        let empty = [0x80, 1, 4, 0, 0];
        // So many times the same level.
        for (rows, level, ok) in [(3u32, 0u8, true), (3, 1, false), (0, 0, true)] {
            let levels = [(rows << 1) as u8, level];
            let page = |second: bool| {
                let (buf, num_values) = ([&levels[..], &empty].concat(), rows);
                match second {
                    true => Page::DataPageV2 {
                        buf: buf.into(),
                        num_values,
                        encoding: Encoding::DELTA_BINARY_PACKED,
                        num_nulls: num_values,
                        num_rows: num_values,
                        def_levels_byte_len: 2,
                        rep_levels_byte_len: 0,
                        is_compressed: false,
                        statistics: None,
                    },
                    false => Page::DataPage {
                        buf: [&[2, 0, 0, 0][..], &buf].concat().into(),
                        num_values,
                        encoding: Encoding::DELTA_BINARY_PACKED,
                        def_level_encoding: Encoding::RLE,
                        rep_level_encoding: Encoding::RLE,
                        statistics: None,
                    },
                }
            };
            for second in [false, true] {
                let found = check(&page(second), true);
                assert_eq!(found.is_ok(), ok, "{rows} {level} {second} {found:?}");
            }
        }
    }

    #[test]
    fn lengths_end_where_the_next_list_begins_and_are_no_more_than_the_page_has() {
        // 2 numbers: a block of 128 in 4 parts, the first of which has numbers of 8 bits.
        let mut bytes = vec![0x80, 1, 4, 2, 6, 0, 8, 3, 3, 3];
        bytes.extend([9; 32]);
        bytes.extend([0xff; 10]);
        assert_eq!(deltas(&bytes, 2).unwrap(), (10 + 32, 3 + 3 + 9));
        let error = deltas(&bytes, 1).unwrap_err().to_string();
        assert!(
            error.contains("2 texts cannot be in a page of 1"),
            "{error}"
        );
        // One number, or none, needs no block.
        assert_eq!(deltas(&[0x80, 1, 4, 1, 6], 9).unwrap(), (5, 3));
        assert_eq!(deltas(&[0x80, 1, 4, 0, 0], 9).unwrap(), (5, 0));
        for broken in [
            &[][..],
            &[0x80, 1, 4],
            &[0x80, 1, 0, 2, 6],
            &[0x80, 1, 3, 2, 6],
            &[0x80, 1, 4, 2, 6, 0, 8],
            &[0x80, 1, 4, 1, 5],
            &[0x80, 1, 4, 2, 6, 9, 0, 0, 0, 0],
            &[0x80, 1, 4, 2, 6, 0, 33, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
            &[0xff; 20],
        ] {
            assert!(deltas(broken, 9).is_err(), "{broken:?}");
        }
        let many = [&[0x80, 1, 4][..], &[0xff; 9], &[1, 0]].concat();
        assert!(deltas(&many, TEXTS_MAX).is_err());
    }
}
