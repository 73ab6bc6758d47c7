//! CHAR, VARCHAR, TEXT and their binary forms: charset check, length, padding.

use super::{Cast, Cell, Field, Problem, bad, field_text};
use crate::charset::Charset;
use crate::mysql::tp;
use crate::schema::FieldType;
use std::borrow::Cow;

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    charset: Charset,
    limit: Limit,
    /// BINARY(n).
    pad_to: usize,
    /// CHAR(n): trailing spaces go.
    trim: bool,
    /// Blanks beyond the length go without error.
    blanks_may_go: bool,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    Chars(usize),
    /// Bytes, cut back to a whole character.
    Bytes(usize),
    /// Bytes of no charset.
    RawBytes(usize),
}

impl Spec {
    pub(crate) fn new(field_type: &FieldType) -> Spec {
        let binary = field_type.is_binary();
        let declared = usize::try_from(field_type.flen).ok();
        let blob_max = match field_type.tp {
            tp::TINY_BLOB => 255,
            tp::BLOB => 65_535,
            tp::MEDIUM_BLOB => 16_777_215,
            _ => u32::MAX as usize,
        };
        let limit = match declared {
            _ if field_type.is_blob() => {
                let bytes = declared.unwrap_or(blob_max);
                if binary {
                    Limit::RawBytes(bytes)
                } else {
                    Limit::Bytes(bytes)
                }
            }
            None => Limit::None,
            Some(n) if binary => Limit::RawBytes(n),
            Some(n) => Limit::Chars(n),
        };
        let fixed = field_type.tp == tp::STRING;
        Spec {
            charset: Charset::from_name(&field_type.charset),
            limit,
            pad_to: if fixed && binary {
                declared.unwrap_or(0)
            } else {
                0
            },
            trim: fixed && !binary,
            blanks_may_go: !binary && !field_type.is_blob(),
        }
    }

    /// What NULL becomes.
    pub(crate) fn padding(&self) -> Vec<u8> {
        vec![0; self.pad_to]
    }

    /// The stored part of a text that is valid and not too long.
    #[inline]
    pub(crate) fn plain<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let fits = match self.limit {
            Limit::None => true,
            Limit::Chars(n) | Limit::Bytes(n) | Limit::RawBytes(n) => text.len() <= n,
        };
        if !fits || text.len() < self.pad_to || self.charset.first_invalid(text).is_some() {
            return None;
        }
        Some(if self.trim {
            &text[..trimmed_len(text)]
        } else {
            text
        })
    }

    pub(crate) fn cast<'a>(&self, field: Field<'a>) -> Cast<'a> {
        let text = match field {
            Field::Text(text) => Cow::Borrowed(text),
            Field::Binary(bytes) => match self.charset.decode(bytes) {
                Some(text) => text,
                None => return self.wrong_charset(bytes),
            },
            other => field_text(&other),
        };
        if let Some(at) = self.charset.first_invalid(&text) {
            let rest = &text[at..];
            let shown = self.charset.invalid_unit(rest);
            let problem = Problem::IncorrectString(rest[..shown].to_vec());
            // The length is not looked at once characters were replaced.
            let replaced = self.charset.replace_invalid(&text);
            return bad(
                problem,
                Cell::Bytes(Cow::Owned(self.finish_owned(replaced))),
            );
        }
        self.limited(text)
    }

    fn wrong_charset<'a>(&self, bytes: &[u8]) -> Cast<'a> {
        let replaced = self.charset.replace_invalid(bytes);
        let at = self.charset.first_invalid(bytes).unwrap_or(0);
        let unit = self.charset.invalid_unit(&bytes[at..]);
        let problem = Problem::IncorrectString(bytes[at..at + unit].to_vec());
        bad(
            problem,
            Cell::Bytes(Cow::Owned(self.finish_owned(replaced))),
        )
    }

    #[inline]
    fn limited<'a>(&self, text: Cow<'a, [u8]>) -> Cast<'a> {
        let Some(cut) = self.excess_at(&text) else {
            return Ok(Cell::Bytes(self.finish(text)));
        };
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let silent = self.blanks_may_go && text[cut..].iter().all(blank);
        let cell = Cell::Bytes(self.finish(shorten(text, cut)));
        if silent {
            Ok(cell)
        } else {
            bad(Problem::TooLong, cell)
        }
    }

    /// Where what is too long begins.
    #[inline]
    fn excess_at(&self, text: &[u8]) -> Option<usize> {
        match self.limit {
            Limit::None => None,
            Limit::Chars(n) if text.len() <= n => None,
            Limit::Chars(n) => nth_char(text, n),
            Limit::RawBytes(n) => (text.len() > n).then_some(n),
            Limit::Bytes(n) if text.len() <= n => None,
            Limit::Bytes(n) => {
                let continuation = |at: usize| text[at] & 0xc0 == 0x80;
                Some((0..=n).rev().find(|at| !continuation(*at)).unwrap_or(0))
            }
        }
    }

    #[inline]
    fn finish<'a>(&self, text: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
        if self.trim && text.last() == Some(&b' ') {
            let len = trimmed_len(&text);
            return shorten(text, len);
        }
        if text.len() < self.pad_to {
            let mut padded = text.into_owned();
            padded.resize(self.pad_to, 0);
            return Cow::Owned(padded);
        }
        text
    }

    fn finish_owned(&self, text: Vec<u8>) -> Vec<u8> {
        self.finish(Cow::Owned(text)).into_owned()
    }
}

/// Length without trailing spaces.
#[inline]
pub(crate) fn trimmed_len(text: &[u8]) -> usize {
    text.iter()
        .rposition(|byte| *byte != b' ')
        .map_or(0, |at| at + 1)
}

fn shorten(text: Cow<'_, [u8]>, len: usize) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..len]),
        Cow::Owned(mut text) => {
            text.truncate(len);
            Cow::Owned(text)
        }
    }
}

/// Offset of character `n`, when there are more than `n`. Each byte that is not UTF-8 counts as one.
pub(crate) fn nth_char(text: &[u8], n: usize) -> Option<usize> {
    let (mut at, mut seen) = (0, 0);
    while at < text.len() {
        if seen == n {
            return Some(at);
        }
        at += crate::charset::utf8_step(&text[at..]).0;
        seen += 1;
    }
    None
}
