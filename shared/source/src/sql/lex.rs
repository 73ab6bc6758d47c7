//! Tokens of SQL in a slice. Every function says where its token ends, that it may go on behind the slice,
//! or what is wrong; so the same bytes give the same tokens however they are cut.

use crate::csv::TextEncoding;

/// Why rows cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlProblem {
    /// `'abc`
    #[error("a quote is not closed before the file ends")]
    OpenQuote,
    /// `/* abc`
    #[error("a comment is not closed before the file ends")]
    OpenComment,
    /// `(1, 2`
    #[error("the file ends inside of a row")]
    OpenRow,
    /// `INSERT INTO`
    #[error("the file ends inside of a statement")]
    OpenStatement,
    /// Something that a head of an INSERT does not have.
    #[error("this is no INSERT … VALUES of a dump")]
    Head,
    /// `INSERT … SELECT`
    #[error("only rows after VALUES can be imported")]
    NoValues,
    /// `ON DUPLICATE KEY UPDATE`
    #[error("ON DUPLICATE KEY UPDATE cannot be imported")]
    OnDuplicate,
    /// `1 + 2`
    #[error("only literals can be imported, no expressions")]
    Expression,
    /// `DEFAULT`
    #[error("DEFAULT as a value cannot be imported")]
    Default,
    /// `x'1'`
    #[error("the hexadecimal or bit literal is malformed")]
    Digits,
    /// `_koi8r'x'`
    #[error("the character set of the literal is not supported")]
    Introducer,
    /// Two tables.
    #[error("the file has rows of more than one table")]
    OtherTable,
}

/// A failed look, for `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    More,
    Wrong(SqlProblem, usize),
}

pub(super) type Seen<T> = Result<T, Miss>;

pub(super) fn wrong<T>(problem: SqlProblem, at: usize) -> Seen<T> {
    Err(Miss::Wrong(problem, at))
}

/// More bytes may help, unless there are none.
pub(super) fn more<T>(at_end: bool, problem: SqlProblem, at: usize) -> Seen<T> {
    Err(if at_end {
        Miss::Wrong(problem, at)
    } else {
        Miss::More
    })
}

/// Bytes that are looked at, and whether others follow.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub buf: &'a [u8],
    pub at_end: bool,
    /// Backslashes escape.
    pub escapes: bool,
    /// Of names, and of texts that do not say theirs.
    pub encoding: TextEncoding,
    /// Stands in for what that does not know.
    pub invalid: &'a str,
}

impl SqlProblem {
    /// It is one row that cannot be read, not a statement or the rest of the file.
    pub(super) fn is_of_a_row(self) -> bool {
        matches!(
            self,
            Self::Expression
                | Self::Default
                | Self::Digits
                | Self::Introducer
                | Self::OpenQuote
                | Self::OpenRow
                | Self::OpenComment
        )
    }
}

impl<'a> Text<'a> {
    /// The byte at `at`; NUL behind the end of the file.
    pub fn byte(&self, at: usize) -> Seen<u8> {
        match self.buf.get(at) {
            Some(byte) => Ok(*byte),
            None if self.at_end => Ok(0),
            None => Err(Miss::More),
        }
    }

    fn is_end(&self, at: usize) -> bool {
        self.at_end && at >= self.buf.len()
    }

    /// The first byte from `at` on that is neither white space nor in a comment.
    pub fn skip_space(&self, mut at: usize) -> Seen<usize> {
        loop {
            match self.byte(at)? {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => at += 1,
                b'/' | b'-' | b'#' => match self.comment(at)? {
                    Some(end) => at = end,
                    None => return Ok(at),
                },
                _ => return Ok(at),
            }
        }
    }

    /// The end of the comment at `at`, if one starts there.
    fn comment(&self, at: usize) -> Seen<Option<usize>> {
        let line = match (self.byte(at)?, self.byte(at + 1)?) {
            (b'#', _) => true,
            // Two dashes open a comment only in front of space: `1--1` is arithmetic.
            (b'-', b'-') => self.byte(at + 2)? <= b' ',
            (b'/', b'*') => {
                let inside = at + 2;
                return match memchr::memmem::find(&self.buf[inside..], b"*/") {
                    Some(len) => Ok(Some(inside + len + 2)),
                    None => more(self.at_end, SqlProblem::OpenComment, at),
                };
            }
            _ => return Ok(None),
        };
        if !line {
            return Ok(None);
        }
        match memchr::memchr(b'\n', &self.buf[at..]) {
            Some(len) => Ok(Some(at + len + 1)),
            None if self.at_end => Ok(Some(self.buf.len())),
            None => Err(Miss::More),
        }
    }

    /// The end of the quoted text at `at`, and whether something in it has to be unescaped.
    pub fn quoted(&self, at: usize) -> Seen<(usize, bool)> {
        let quote = self.byte(at)?;
        let escapes = self.escapes && quote != b'`';
        let (mut next, mut plain) = (at + 1, true);
        loop {
            let rest = self.buf.get(next..).unwrap_or_default();
            let found = if escapes {
                memchr::memchr2(quote, b'\\', rest)
            } else {
                memchr::memchr(quote, rest)
            };
            let Some(len) = found else {
                return more(self.at_end, SqlProblem::OpenQuote, at);
            };
            next += len;
            // The second byte of a character may look like a backslash.
            if self.encoding.in_character(&self.buf[at..], next - at) {
                next += 1;
                continue;
            }
            let pair = self.buf[next] == b'\\' && escapes
                || self.byte(next + 1)? == quote && !self.is_end(next + 1);
            if pair {
                (next, plain) = (next + 2, false);
            } else {
                return Ok((next + 1, !plain));
            }
        }
    }

    /// The end of the word at `at`; `at` itself where there is none.
    pub fn word_end(&self, at: usize) -> Seen<usize> {
        let mut end = at;
        while !self.is_end(end) && is_word(self.byte(end)?) {
            end += 1;
        }
        Ok(end)
    }

    /// A name, quoted or not, and its end.
    pub fn name(&self, at: usize) -> Seen<(String, usize)> {
        match self.byte(at)? {
            quote @ (b'`' | b'"') => {
                let end = self.quoted(at)?.0;
                let doubled = [quote, quote];
                let text = self.decoded(&self.buf[at + 1..end - 1]);
                let doubled = std::str::from_utf8(&doubled).unwrap_or_default();
                Ok((text.replace(doubled, &doubled[1..]), end))
            }
            _ => {
                let end = self.word_end(at)?;
                if end == at {
                    return wrong(SqlProblem::Head, at);
                }
                Ok((self.decoded(&self.buf[at..end]), end))
            }
        }
    }

    fn decoded(&self, name: &[u8]) -> String {
        let mut text = Vec::new();
        self.encoding.decode(name, self.invalid, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

impl Text<'_> {
    /// Appends the bytes that the quoted text `written` (with its quotes) means.
    pub fn unquote(&self, written: &[u8], out: &mut Vec<u8>) {
        let quote = written[0];
        let mut rest = &written[1..written.len() - 1];
        // Up to where `rest` was looked at.
        let mut seen = 0;
        loop {
            let found = if self.escapes {
                memchr::memchr2(quote, b'\\', &rest[seen..])
            } else {
                memchr::memchr(quote, &rest[seen..])
            };
            let Some(at) = found.map(|at| seen + at).filter(|at| at + 1 < rest.len()) else {
                out.extend_from_slice(rest);
                return;
            };
            if self.encoding.in_character(rest, at) {
                seen = at + 1;
                continue;
            }
            out.extend_from_slice(&rest[..at]);
            out.push(if rest[at] == quote {
                quote
            } else {
                meant_by(rest[at + 1])
            });
            rest = &rest[at + 2..];
            seen = 0;
        }
    }
}

/// As the server reads strings; `\%` and `\_` are wildcards only in patterns.
fn meant_by(escaped: u8) -> u8 {
    match escaped {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 0x1a,
        other => other,
    }
}

/// Appends the bytes of hexadecimal digits; false if they are none. An odd number of them is padded with
/// a zero in front.
pub(super) fn from_hex(digits: &[u8], out: &mut Vec<u8>) -> bool {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let (odd, even) = digits.split_at(digits.len() % 2);
    for byte in odd {
        match digit(*byte) {
            Some(d) => out.push(d),
            None => return false,
        }
    }
    for pair in even.chunks_exact(2) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return false,
        }
    }
    true
}

/// Appends the bytes of binary digits; false if they are none.
pub(super) fn from_bits(digits: &[u8], out: &mut Vec<u8>) -> bool {
    if !digits.iter().all(|b| matches!(b, b'0' | b'1')) {
        return false;
    }
    let byte = |bits: &[u8]| bits.iter().fold(0u8, |sum, b| sum << 1 | (b - b'0'));
    let (head, whole) = digits.split_at(digits.len() % 8);
    if !head.is_empty() {
        out.push(byte(head));
    }
    out.extend(whole.chunks_exact(8).map(byte));
    true
}
