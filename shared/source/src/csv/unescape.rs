//! What a written field means: doubled quotes and escapes, and whether it is NULL.

use super::dialect::CsvDialect;

/// The part of a dialect that decides the meaning of a field.
pub(super) struct Meaning {
    quote: Vec<u8>,
    escape: Vec<u8>,
    /// The escape followed by `N` is NULL, compared before unescaping: without and with quotes.
    written_null: [bool; 2],
    /// Texts that are NULL, and whether also with quotes.
    nulls: Vec<(Vec<u8>, bool)>,
    /// Bit n: some text in `nulls` has n bytes (bit 63: 63 or more). Most fields are done after this.
    null_lengths: u64,
}

impl Meaning {
    pub(super) fn new(dialect: &CsvDialect) -> Self {
        let written: Vec<u8> = dialect.escape.iter().copied().chain(*b"N").collect();
        let (mut written_null, mut nulls) = ([false; 2], Vec::new());
        let anywhere = dialect.nulls.iter().map(|null| (null, true));
        let unquoted = dialect.unquoted_nulls.iter().map(|null| (null, false));
        for (null, quoted) in anywhere.chain(unquoted).filter(|_| !dialect.not_null) {
            if !dialect.escape.is_empty() && *null == written {
                written_null[0] = true;
                written_null[1] |= quoted;
            } else {
                nulls.push((null.clone(), quoted));
            }
        }
        Self {
            quote: dialect.quote.clone(),
            escape: dialect.escape.clone(),
            written_null,
            null_lengths: nulls
                .iter()
                .fold(0, |bits, (null, _)| bits | 1 << null.len().min(63)),
            nulls,
        }
    }

    /// Whether a field without escapes is NULL.
    #[inline(always)]
    pub(super) fn is_null(&self, text: &[u8], quoted: bool) -> bool {
        self.null_lengths >> text.len().min(63) & 1 != 0 && self.is_listed(text, quoted)
    }

    #[cold]
    fn is_listed(&self, text: &[u8], quoted: bool) -> bool {
        self.nulls
            .iter()
            .any(|(null, also_quoted)| null == text && (*also_quoted || !quoted))
    }

    /// Appends what the field `written` (without its outer quotes) means to `out`; true if it is NULL,
    /// then `out` stays as it was. Every escape has a byte after it: the lexer made sure. A quote that is
    /// not doubled is data.
    pub(super) fn unescape(&self, written: &[u8], quoted: bool, out: &mut Vec<u8>) -> bool {
        if self.written_null[usize::from(quoted)]
            && written.strip_prefix(&self.escape[..]) == Some(b"N")
        {
            return true;
        }
        let start = out.len();
        let mut rest = written;
        while let Some(at) = self.next_token(rest, quoted) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if quoted && !self.quote.is_empty() && rest.starts_with(&self.quote) {
                out.extend_from_slice(&self.quote);
                rest = &rest[self.quote.len()..];
                rest = rest.strip_prefix(&self.quote[..]).unwrap_or(rest);
            } else if !self.escape.is_empty()
                && rest.starts_with(&self.escape)
                && rest.len() > self.escape.len()
            {
                out.push(meant_by(rest[self.escape.len()]));
                rest = &rest[self.escape.len() + 1..];
            } else {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
        out.extend_from_slice(rest);
        let null = self.is_null(&out[start..], quoted);
        if null {
            out.truncate(start);
        }
        null
    }

    fn next_token(&self, rest: &[u8], quoted: bool) -> Option<usize> {
        match (self.quote.first().filter(|_| quoted), self.escape.first()) {
            (Some(quote), Some(escape)) => memchr::memchr2(*quote, *escape, rest),
            (Some(byte), None) | (None, Some(byte)) => memchr::memchr(*byte, rest),
            (None, None) => None,
        }
    }
}

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
