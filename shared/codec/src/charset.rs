//! What text the charsets can hold: the check that a column makes, the replacement of what it cannot hold,
//! and the decoding of binary literals. Stored text is UTF-8 in every charset but binary and latin1.

use crate::collation;
use std::borrow::Cow;

/// A column's charset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Any bytes; latin1 is not checked either.
    Any,
    Ascii,
    /// At most three bytes a character.
    Utf8,
    Utf8mb4,
    Gbk,
    Gb18030,
}

/// Length of the first character and its code point; `None` for a byte that is not UTF-8.
#[inline]
pub fn utf8_step(text: &[u8]) -> (usize, Option<char>) {
    let Some(first) = text.first() else {
        return (0, None);
    };
    let len = match first {
        0..0x80 => return (1, Some(char::from(*first))),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return (1, None),
    };
    let character = text
        .get(..len)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    match character.and_then(|text| text.chars().next()) {
        Some(character) => (len, Some(character)),
        None => (1, None),
    }
}

/// Whether a text is ASCII, told by two loads that overlap; false for a text longer than those reach.
#[inline]
fn is_short_ascii(text: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) if text.len() <= 16 => {
            (u64::from_le_bytes(*first) | u64::from_le_bytes(*last)) & HIGH == 0
        }
        (None, _) => text.iter().fold(0, |or, byte| or | byte) < 0x80,
        _ => false,
    }
}

impl Charset {
    /// By name; what is unknown is taken for utf8mb4, as the server does.
    pub fn from_name(name: &str) -> Charset {
        match name {
            "binary" | "latin1" => Charset::Any,
            "ascii" => Charset::Ascii,
            "utf8" | "utf8mb3" => Charset::Utf8,
            "gbk" => Charset::Gbk,
            "gb18030" => Charset::Gb18030,
            _ => Charset::Utf8mb4,
        }
    }

    fn holds(self, character: char) -> bool {
        match self {
            Charset::Any | Charset::Utf8mb4 | Charset::Gb18030 => true,
            Charset::Ascii => character.is_ascii(),
            Charset::Utf8 => u32::from(character) <= 0xffff,
            Charset::Gbk => collation::gbk_encodable(character),
        }
    }

    /// Offset of the first byte that the charset does not have.
    #[inline]
    pub fn first_invalid(self, text: &[u8]) -> Option<usize> {
        match self {
            Charset::Any => None,
            _ if is_short_ascii(text) => None,
            Charset::Utf8mb4 | Charset::Gb18030 => std::str::from_utf8(text)
                .err()
                .map(|error| error.valid_up_to()),
            _ if text.is_ascii() => None,
            _ => {
                let mut at = 0;
                while at < text.len() {
                    match utf8_step(&text[at..]) {
                        (len, Some(character)) if self.holds(character) => at += len,
                        _ => return Some(at),
                    }
                }
                None
            }
        }
    }

    /// Bytes that a message shows of what is wrong.
    pub fn invalid_unit(self, rest: &[u8]) -> usize {
        utf8_step(rest).0.min(rest.len())
    }

    /// Text with a `?` in place of each unit that the charset does not have.
    pub fn replace_invalid(self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let (len, character) = utf8_step(&text[at..]);
            match character {
                Some(character) if self.holds(character) => {
                    out.extend_from_slice(&text[at..at + len])
                }
                _ => out.push(b'?'),
            }
            at += len;
        }
        out
    }

    /// Text of a binary literal, which is written in the column's charset.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Charset::Gbk if !bytes.is_ascii() => {
                collation::gbk_decode(bytes).map(|t| Cow::Owned(t.into_bytes()))
            }
            Charset::Gb18030 if !bytes.is_ascii() => {
                collation::gb18030_decode(bytes).map(|t| Cow::Owned(t.into_bytes()))
            }
            _ => Some(Cow::Borrowed(bytes)),
        }
    }
}
