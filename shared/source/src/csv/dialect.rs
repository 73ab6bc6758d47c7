//! The CSV dialect: which bytes separate, quote, end and escape, and what is NULL. A checked plain
//! value; turning the user's configuration into it is the caller's.

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
    /// No field is ever NULL.
    pub not_null: bool,
    /// A quoted field is never NULL.
    pub quoted_null_is_text: bool,
    /// The first record of a file names the columns.
    pub header: bool,
    /// Drops one empty field at the end of each record.
    pub trim_last_separator: bool,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self {
            separator: b",".to_vec(),
            quote: b"\"".to_vec(),
            terminator: Vec::new(),
            escape: b"\\".to_vec(),
            nulls: vec![b"\\N".to_vec()],
            not_null: false,
            quoted_null_is_text: false,
            header: true,
            trim_last_separator: false,
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
        self.quote.is_empty() && self.escape.is_empty()
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
