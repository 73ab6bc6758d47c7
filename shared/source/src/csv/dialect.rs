//! The CSV dialect: which bytes separate, quote, end and escape, and what is NULL. A checked plain
//! value; turning the user's configuration into it is the caller's.

use encoding_rs::{DecoderResult, Encoding};

/// How a CSV file is written. Tokens are bytes in the file's own character set and may be longer than
/// one byte; an empty token switches its feature off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvDialect {
    /// Between two fields; never empty.
    pub separator: Vec<u8>,
    /// Around a field, doubled inside it.
    pub quote: Vec<u8>,
    /// After a record. Empty = CR, LF or CRLF, each of them ends a line.
    pub terminator: Vec<u8>,
    /// Gives the following byte another meaning, inside and outside of quotes.
    pub escape: Vec<u8>,
    /// Texts that mean NULL. One that is the escape followed by `N` is compared with the field as it
    /// is written; the others with the field after unescaping.
    pub nulls: Vec<Vec<u8>>,
    /// More of them, which mean NULL only in a field without quotes.
    pub unquoted_nulls: Vec<Vec<u8>>,
    /// No field is ever NULL.
    pub not_null: bool,
    /// The first record of a file names the columns.
    pub header: bool,
    /// Drops one empty field at the end of each record.
    pub trim_last_separator: bool,
    /// Lines at the start of a file that are not read, not even as a header.
    pub skip_lines: u64,
    /// What a record starts with; everything before it is dropped, also whole lines. Empty = nothing.
    pub starting: Vec<u8>,
    /// As LOAD DATA: a quote that neither opens nor closes a field is data, and an empty line is a record
    /// of one empty field.
    pub lenient: bool,
    /// A record with a quote where none can be is given out as malformed, and reading goes on behind the next
    /// terminator, whatever stands before that. Otherwise it is an error.
    pub skip_malformed: bool,
    /// How bytes become text.
    pub text: TextEncoding,
    /// Stands in for what `text` does not know.
    pub invalid: String,
}

/// The character set of a file that is not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextEncoding {
    /// Bytes as they are.
    #[default]
    AsIs,
    /// Two bytes a character at most.
    Gbk,
    /// Four bytes a character at most.
    Gb18030,
    /// MySQL's latin1: Windows-1252, with control characters where that has none.
    Latin1,
}

impl TextEncoding {
    /// The converter, if there is something to convert.
    pub fn encoding(self) -> Option<&'static Encoding> {
        match self {
            TextEncoding::AsIs => None,
            TextEncoding::Gbk => Some(encoding_rs::GBK),
            TextEncoding::Gb18030 => Some(encoding_rs::GB18030),
            TextEncoding::Latin1 => Some(encoding_rs::WINDOWS_1252),
        }
    }

    /// Whether the second byte of a character may look like an ASCII one.
    pub(super) fn hides_ascii(self) -> bool {
        matches!(self, TextEncoding::Gbk | TextEncoding::Gb18030)
    }

    /// Whether the byte at `at` is the second one of a character of GBK or GB18030. Only a byte from 0x81 on can be
    /// the first, and a run of them pairs up from its start, which follows an ASCII byte or the start of `buf`.
    #[inline]
    pub(crate) fn in_character(self, buf: &[u8], at: usize) -> bool {
        if !self.hides_ascii() || buf[at] < b'0' {
            return false;
        }
        let run = buf[..at].iter().rev().take_while(|b| **b >= 0x80).count();
        run % 2 == 1
    }

    /// A token of the dialect in the file's bytes.
    pub fn token(self, text: &str) -> Vec<u8> {
        match self.encoding() {
            None => text.as_bytes().to_vec(),
            Some(encoding) => encoding.encode(text).0.into_owned(),
        }
    }

    /// Appends what `bytes` mean as UTF-8.
    pub fn decode(self, bytes: &[u8], invalid: &str, out: &mut Vec<u8>) {
        let Some(encoding) = self.encoding() else {
            out.extend_from_slice(bytes);
            return;
        };
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let mut rest = bytes;
        loop {
            let room = decoder
                .max_utf8_buffer_length_without_replacement(rest.len())
                .unwrap_or(rest.len() * 4 + 16);
            let start = out.len();
            out.resize(start + room, 0);
            let (result, read, written) =
                decoder.decode_to_utf8_without_replacement(rest, &mut out[start..], true);
            out.truncate(start + written);
            rest = &rest[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    out.extend_from_slice(invalid.as_bytes());
                    // A decoder that met the end is used up.
                    decoder = encoding.new_decoder_without_bom_handling();
                }
            }
        }
    }
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self {
            separator: b",".to_vec(),
            quote: b"\"".to_vec(),
            terminator: Vec::new(),
            escape: b"\\".to_vec(),
            nulls: vec![b"\\N".to_vec()],
            unquoted_nulls: Vec::new(),
            not_null: false,
            header: true,
            trim_last_separator: false,
            skip_lines: 0,
            starting: Vec::new(),
            lenient: false,
            skip_malformed: false,
            text: TextEncoding::AsIs,
            invalid: "\u{fffd}".to_owned(),
        }
    }
}

/// Why a dialect cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// Nothing would end a field.
    #[error("the CSV separator must not be empty")]
    NoSeparator,
    /// No token could be told from the other one.
    #[error("the CSV {0} and the CSV {1} must not be a prefix of one another")]
    Ambiguous(&'static str, &'static str),
}

impl CsvDialect {
    /// Whether every record can be told from the next: no token may start like another one.
    pub fn check(&self) -> Result<(), DialectError> {
        if self.separator.is_empty() {
            return Err(DialectError::NoSeparator);
        }
        let tokens = [
            ("separator", &self.separator),
            ("delimiter", &self.quote),
            ("terminator", &self.terminator),
            ("escape", &self.escape),
        ];
        for (i, (left_name, left)) in tokens.iter().enumerate() {
            if self.terminator.is_empty()
                && left.first().is_some_and(|b| matches!(b, b'\r' | b'\n'))
            {
                return Err(DialectError::Ambiguous("terminator", left_name));
            }
            for (right_name, right) in &tokens[i + 1..] {
                if left.is_empty() || right.is_empty() {
                    continue;
                }
                if left.starts_with(right) || right.starts_with(left) {
                    return Err(DialectError::Ambiguous(left_name, right_name));
                }
            }
        }
        Ok(())
    }

    /// Whether the next terminator after any byte is the end of a record, so that a file can be cut
    /// without reading what comes before.
    pub fn terminator_ends_record(&self) -> bool {
        self.quote.is_empty() && self.escape.is_empty() && self.starting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_that_start_alike_are_refused() {
        assert_eq!(CsvDialect::default().check(), Ok(()));
        let dialect =
            |separator: &[u8], quote: &[u8], terminator: &[u8], escape: &[u8]| CsvDialect {
                separator: separator.to_vec(),
                quote: quote.to_vec(),
                terminator: terminator.to_vec(),
                escape: escape.to_vec(),
                ..CsvDialect::default()
            };
        assert_eq!(
            dialect(b"", b"'", b"", b"").check(),
            Err(DialectError::NoSeparator)
        );
        assert!(dialect(b"|", b"|+", b"", b"").check().is_err());
        assert!(dialect(b",", b"'", b"", b"'").check().is_err());
        assert!(dialect(b"\n", b"'", b"", b"\\").check().is_err());
        assert!(dialect(b"\n", b"'", b";", b"\\").check().is_ok());
        assert!(dialect(b"|+|", b"|'", b"|\n", b"\\").check().is_ok());
    }
}
