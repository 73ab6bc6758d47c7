//! Statements of a schema file. Owns cutting the text at semicolons that stand outside of quotes and
//! comments; reading the file is the sources', and the statements are for the server to understand.

use thunderhead_types::{Error, ErrorKind, Result};

use crate::tree::SchemaFile;

/// No schema is longer; a data file under a wrong name is.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// A statement and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// 1-based line.
    pub line: usize,
    /// Without the semicolon.
    pub text: String,
}

/// Something was opened and never closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} is not closed")]
pub struct Unclosed {
    /// 1-based line of the opening.
    pub line: usize,
    /// A quote or a comment.
    pub what: &'static str,
}

/// Splits what a schema file holds.
pub fn statements(file: &SchemaFile, bytes: Vec<u8>) -> Result<Vec<Statement>> {
    let fail = |cause: String| Error::new(ErrorKind::Data, file.path.display(), cause);
    let text = String::from_utf8(bytes)
        .map_err(|_| fail("the file is not UTF-8".into()).advice("convert it to UTF-8"))?;
    split(text.trim_start_matches('\u{feff}')).map_err(|e| fail(e.to_string()))
}

/// Splits a text. What consists of comments alone is dropped, also MySQL's `/*!…*/`, which dumps use to
/// switch session settings; a comment inside of a statement stays. The last semicolon may be missing.
pub fn split(text: &str) -> Result<Vec<Statement>, Unclosed> {
    let mut statements = Vec::new();
    let mut at = 0;
    // Where the current statement starts; `None` while only space and comments were seen.
    let mut start: Option<usize> = None;
    let push = |from: usize, to: usize, statements: &mut Vec<Statement>| {
        statements.push(Statement {
            line: line_at(text, from),
            text: text[from..to].trim_end_matches(is_space).to_owned(),
        });
    };
    while let Some(byte) = text.as_bytes().get(at) {
        if let Some(end) = comment_end(text, at)? {
            at = end;
            continue;
        }
        match byte {
            b';' => {
                if let Some(from) = start.take() {
                    push(from, at, &mut statements);
                }
                at += 1;
            }
            b'\'' | b'"' | b'`' => {
                start.get_or_insert(at);
                at = quote_end(text, at)?;
            }
            byte => {
                if !is_space(char::from(*byte)) {
                    start.get_or_insert(at);
                }
                at += 1;
            }
        }
    }
    if let Some(from) = start {
        push(from, text.len(), &mut statements);
    }
    Ok(statements)
}

/// White space as MySQL has it.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

fn line_at(text: &str, at: usize) -> usize {
    text.as_bytes()[..at]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
        + 1
}

/// End of the comment that starts at `at`, if one does.
fn comment_end(text: &str, at: usize) -> Result<Option<usize>, Unclosed> {
    let rest = &text.as_bytes()[at..];
    // `--` opens a comment only in front of white space: `a--1` is arithmetic.
    let dashes = rest.starts_with(b"--") && rest.get(2).is_none_or(u8::is_ascii_whitespace);
    if dashes || rest.starts_with(b"#") {
        let length = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        return Ok(Some(at + length));
    }
    if rest.starts_with(b"/*") {
        return match rest[2..].windows(2).position(|pair| pair == b"*/") {
            Some(length) => Ok(Some(at + 2 + length + 2)),
            None => Err(Unclosed {
                line: line_at(text, at),
                what: "a comment",
            }),
        };
    }
    Ok(None)
}

/// First byte after the quoted text that starts at `at`. A doubled quote reads as two quoted texts side by
/// side, which ends at the same place.
fn quote_end(text: &str, at: usize) -> Result<usize, Unclosed> {
    let bytes = text.as_bytes();
    let quote = bytes[at];
    let mut next = at + 1;
    while let Some(byte) = bytes.get(next) {
        match byte {
            b'\\' if quote != b'`' => next += 2,
            byte if *byte == quote => return Ok(next + 1),
            _ => next += 1,
        }
    }
    Err(Unclosed {
        line: line_at(text, at),
        what: "a quote",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &[(usize, &str)]) {
        let statements = split(text).unwrap();
        let found: Vec<(usize, &str)> = statements
            .iter()
            .map(|s| (s.line, s.text.as_str()))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        check("", &[]);
        check(" ;; \n;", &[]);
        check("\x0b;A\x0b;\u{3000}", &[(1, "A"), (1, "\u{3000}")]);
        check("A;B", &[(1, "A"), (1, "B")]);
        check(
            "/*!40101 SET NAMES binary*/;\nCREATE TABLE `a;b` (x INT);\n",
            &[(2, "CREATE TABLE `a;b` (x INT)")],
        );
        check(
            "-- a; b\n# c;\nX 'it''s; \\'; y' Z;\nY",
            &[(3, "X 'it''s; \\'; y' Z"), (4, "Y")],
        );
        check(
            "CREATE TABLE t (a INT /*T![x] ; */ DEFAULT \"a;b\", -- one; two\n b INT);",
            &[(
                1,
                "CREATE TABLE t (a INT /*T![x] ; */ DEFAULT \"a;b\", -- one; two\n b INT)",
            )],
        );
        check("SELECT 1--1;X", &[(1, "SELECT 1--1"), (1, "X")]);
        check("A COMMENT 'ü;ß';B", &[(1, "A COMMENT 'ü;ß'"), (1, "B")]);
    }

    #[test]
    fn what_is_not_closed_is_named_with_its_line() {
        for (text, line, what) in [
            ("a\n'b;", 2, "a quote"),
            ("a;\n\n/* b", 3, "a comment"),
            ("`", 1, "a quote"),
            ("'\\", 1, "a quote"),
        ] {
            assert_eq!(split(text), Err(Unclosed { line, what }), "{text:?}");
        }
    }
}
