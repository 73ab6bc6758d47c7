//! The values of a column of byte arrays, page by page: a batch of them lies side by side in one buffer, or is numbers
//! of texts in a dictionary. The library makes an object with a shared counter of each, which costs more than the text.
//! Owns the plain and the dictionary encoding of flat columns; all else is the library's, and so is unpacking.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::runs::Runs;

/// Bytes that are copied whatever the length of a short text is: that is two instructions.
const COPIED: usize = 16;

/// Reads the chunk of a column.
pub(super) struct TextReader {
    pages: Box<dyn PageReader>,
    nullable: bool,
    dictionary: Arc<Dictionary>,
    levels: Levels,
    values: Values,
    /// Rows of the page at hand that are to come.
    left: usize,
}

/// The texts of a batch. Buffers are kept from batch to batch.
#[derive(Default)]
pub(super) struct Texts {
    /// Side by side.
    pub text: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<u32>,
    /// Or they are all in here, and each is one of these.
    dictionary: Option<Arc<Dictionary>>,
    indexes: Vec<u32>,
}

impl Texts {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.dictionary = None;
        self.indexes.clear();
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        if let Some(dictionary) = &self.dictionary {
            return dictionary.get(self.indexes[at]);
        }
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// Whether texts of `values` can follow those that are here.
    fn takes(&self, values: &Values, dictionary: &Arc<Dictionary>) -> bool {
        match (values, &self.dictionary) {
            (Values::Plain(..), None) => true,
            (Values::Plain(..), Some(_)) => false,
            (Values::Indexes(_), None) => self.ends.is_empty(),
            (Values::Indexes(_), Some(own)) => Arc::ptr_eq(own, dictionary),
        }
    }
}

/// Texts that indexes stand for.
#[derive(Default)]
struct Dictionary {
    bytes: Bytes,
    /// Where each starts and ends.
    texts: Vec<(u32, u32)>,
    /// Bytes of the longest.
    longest: usize,
}

/// Whether a row has a value.
enum Levels {
    All,
    Runs(Runs),
    /// One bit each from this one on, the highest of a byte first: the encoding of the first version.
    Bits(Bytes, usize),
}

enum Values {
    /// Each behind its length, from this byte on.
    Plain(Bytes, usize),
    Indexes(Runs),
}

/// Whether [`TextReader`] reads the column.
pub(super) fn is_read(column: &ColumnChunkMetaData) -> bool {
    let of = column.column_descr();
    column.column_type() == Type::BYTE_ARRAY
        && of.max_rep_level() == 0
        && of.max_def_level() <= 1
        && column.encodings().all(|encoding| {
            #[expect(deprecated, reason = "files of the first version have it")]
            let bits = Encoding::BIT_PACKED;
            let known = [
                Encoding::PLAIN,
                Encoding::PLAIN_DICTIONARY,
                Encoding::RLE_DICTIONARY,
                Encoding::RLE,
                bits,
            ];
            known.contains(&encoding)
        })
}

pub(super) fn wrong(why: &str) -> ParquetError {
    ParquetError::General(why.to_owned())
}

pub(super) fn short() -> ParquetError {
    ParquetError::EOF("a page ends before its last value".to_owned())
}

impl TextReader {
    pub(super) fn new(pages: Box<dyn PageReader>, column: &ColumnChunkMetaData) -> Self {
        Self {
            pages,
            nullable: column.column_descr().max_def_level() > 0,
            dictionary: Arc::default(),
            levels: Levels::All,
            values: Values::Plain(Bytes::new(), 0),
            left: 0,
        }
    }

    /// Reads the next `rows` rows into `out`, which is empty, and of each row whether it has a text (0 = NULL) to
    /// `all_levels`, unless all have. Says how many rows there were: fewer with about `bytes_max` bytes, and where
    /// texts of a dictionary and others meet.
    pub(super) fn read(
        &mut self,
        rows: usize,
        bytes_max: usize,
        out: &mut Texts,
        all_levels: &mut Vec<i16>,
    ) -> Result<usize> {
        let (mut read, mut bytes_read) = (0, 0);
        while read < rows && (read == 0 || bytes_read < bytes_max) {
            if self.left == 0 {
                if !self.next_page()? {
                    break;
                }
                continue;
            }
            if !out.takes(&self.values, &self.dictionary) {
                break;
            }
            let room = bytes_max.saturating_sub(bytes_read);
            let count = self.left.min(rows - read).min(self.rows_within(room));
            let mut present = count;
            if self.nullable {
                let before = all_levels.len();
                self.levels.take(count, all_levels)?;
                let levels = &all_levels[before..];
                present = levels.iter().filter(|level| **level > 0).count();
            }
            match &mut self.values {
                Values::Plain(bytes, at) => {
                    out.ends.reserve(present);
                    for _ in 0..present {
                        let (start, end) = next_plain(bytes, *at).ok_or_else(short)?;
                        push(out, bytes, start, end)?;
                        *at = end;
                    }
                    bytes_read = out.text.len();
                }
                Values::Indexes(indexes) => {
                    let before = out.indexes.len();
                    indexes.take(present, &mut out.indexes)?;
                    let highest = out.indexes[before..].iter().max();
                    if highest.is_some_and(|index| *index as usize >= self.dictionary.texts.len()) {
                        return Err(wrong("an index points behind the end of the dictionary"));
                    }
                    // Mostly they fit whichever they are.
                    if self.dictionary.longest.saturating_mul(rows) > bytes_max {
                        let read = &out.indexes[before..];
                        let lens = read.iter().map(|index| self.dictionary.get(*index).len());
                        bytes_read += lens.sum::<usize>();
                    }
                    out.dictionary = Some(Arc::clone(&self.dictionary));
                }
            }
            self.left -= count;
            read += count;
        }
        Ok(read)
    }

    /// Rows of the page at hand whose texts have about `bytes`, and at least one. Those of a plain page cannot have more
    /// than what is in memory already, however unequal they are; indexes can.
    fn rows_within(&self, bytes: usize) -> usize {
        let one = match &self.values {
            Values::Plain(page, at) => (page.len() - at) / self.left.max(1),
            Values::Indexes(_) => self.dictionary.longest,
        };
        (bytes / one.max(1)).max(1)
    }

    fn next_page(&mut self) -> Result<bool> {
        let Some(page) = self.pages.get_next_page()? else {
            return Ok(false);
        };
        match page {
            Page::DictionaryPage {
                buf, num_values, ..
            } => self.dictionary = Arc::new(Dictionary::of(buf, num_values)?),
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                ..
            } => {
                let mut at = 0;
                self.levels = Levels::All;
                if self.nullable && def_level_encoding == Encoding::RLE {
                    let (start, end) = next_plain(&buf, 0).ok_or_else(short)?;
                    self.levels = Levels::runs(buf.slice(start..end))?;
                    at = end;
                } else if self.nullable {
                    let len = (num_values as usize).div_ceil(8);
                    let bits = buf.get(..len).ok_or_else(short)?;
                    (self.levels, at) = (Levels::Bits(buf.slice_ref(bits), 0), len);
                }
                self.begin(buf.slice(at..), encoding, num_values)?;
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let start = rep_levels_byte_len as usize;
                let end = start.checked_add(def_levels_byte_len as usize);
                let end = end.filter(|end| *end <= buf.len()).ok_or_else(short)?;
                self.levels = match self.nullable {
                    true => Levels::runs(buf.slice(start..end))?,
                    false => Levels::All,
                };
                self.begin(buf.slice(end..), encoding, num_values)?;
            }
        }
        Ok(true)
    }

    fn begin(&mut self, values: Bytes, encoding: Encoding, rows: u32) -> Result<()> {
        self.values = match encoding {
            Encoding::PLAIN => Values::Plain(values, 0),
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => {
                // A page of NULLs only may have nothing, not even the width.
                let width = values.first().copied().unwrap_or(0);
                let indexes = values.slice(values.len().min(1)..);
                let indexes = Runs::new(indexes, width.into());
                Values::Indexes(indexes.ok_or_else(|| wrong("an index has more than 32 bits"))?)
            }
            other => return Err(wrong(&format!("a page of {other} in a column without it"))),
        };
        self.left = rows as usize;
        Ok(())
    }
}

impl Levels {
    fn runs(bytes: Bytes) -> Result<Self> {
        Ok(Self::Runs(Runs::new(bytes, 1).ok_or_else(short)?))
    }

    fn take(&mut self, count: usize, to: &mut Vec<i16>) -> Result<()> {
        to.reserve(count);
        match self {
            Self::All => to.extend(std::iter::repeat_n(1, count)),
            Self::Runs(runs) => runs.each(count, |level| to.push((level > 0).into()))?,
            Self::Bits(bytes, bit) => {
                for at in *bit..*bit + count {
                    let byte = bytes.get(at / 8).ok_or_else(short)?;
                    to.push((byte >> (7 - at % 8) & 1).into());
                }
                *bit += count;
            }
        }
        Ok(())
    }
}

impl Dictionary {
    fn of(bytes: Bytes, count: u32) -> Result<Self> {
        let (mut texts, mut at, mut longest) = (Vec::new(), 0, 0);
        for _ in 0..count {
            let (start, end) = next_plain(&bytes, at).ok_or_else(short)?;
            texts.push((start as u32, end as u32));
            (at, longest) = (end, longest.max(end - start));
        }
        Ok(Self {
            bytes,
            texts,
            longest,
        })
    }

    fn get(&self, index: u32) -> &[u8] {
        let (start, end) = self.texts[index as usize];
        &self.bytes[start as usize..end as usize]
    }
}

/// Where the text whose length stands at `at` starts and ends.
#[inline]
fn next_plain(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let len = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let start = at + 4;
    let end = start.checked_add(len as usize)?;
    (end <= bytes.len()).then_some((start, end))
}

#[inline]
fn push(out: &mut Texts, bytes: &[u8], start: usize, end: usize) -> Result<()> {
    let len = end - start;
    let short = bytes[start..].first_chunk::<COPIED>();
    match short.filter(|_| len <= COPIED) {
        Some(short) => {
            let to = out.text.len() + len;
            out.text.extend_from_slice(short);
            out.text.truncate(to);
        }
        None => out.text.extend_from_slice(&bytes[start..end]),
    }
    let end = u32::try_from(out.text.len());
    out.ends
        .push(end.map_err(|_| wrong("the texts of a few rows have 4 GiB"))?);
    Ok(())
}
