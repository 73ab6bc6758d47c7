//! What a written field means: doubled quotes and escapes, and whether it is NULL.

use std::ops::Range;

use super::batch::Arena;
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

    /// Whether there are texts that mean NULL, other than by an escape.
    #[inline(always)]
    pub(super) fn may_be_null(&self) -> bool {
        self.null_lengths != 0
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

    /// The same as [`Meaning::unescape`] of `buf[field]`, where the bytes to act on are known: each escape, and the
    /// second of each pair of quotes.
    #[inline(always)]
    pub(super) fn unescape_at(
        &self,
        buf: &[u8],
        field: Range<usize>,
        quoted: bool,
        (places, quote): (impl Iterator<Item = usize>, u8),
        out: &mut Arena,
    ) -> bool {
        let written = &buf[field.clone()];
        if self.is_written_null(written, quoted) {
            return true;
        }
        let start = out.len();
        let short = buf[field.start..].first_chunk::<COPIED>();
        if let Some(short) = short.filter(|_| written.len() <= COPIED) {
            let places = places.map(|place| place - field.start);
            let (text, taken) = without(short, places, quote);
            if let Some(room) = out.room(COPIED).first_chunk_mut() {
                *room = text.to_le_bytes();
            }
            out.take(written.len() - taken);
        } else {
            self.unescape_long(buf, field, places, quote, out);
        }
        let null = self.may_be_null() && self.is_null(out.written(start), quoted);
        if null {
            out.truncate(start);
        }
        null
    }

    #[inline(never)]
    fn unescape_long(
        &self,
        buf: &[u8],
        field: Range<usize>,
        places: impl Iterator<Item = usize>,
        quote: u8,
        out: &mut Arena,
    ) {
        let room = out.room(field.len() + COPIED);
        let (mut from, mut to) = (field.start, 0);
        for place in places {
            to += copy(buf, from..place, room, to);
            from = place + 1;
            if buf[place] != quote {
                room[to] = MEANT[usize::from(buf[from])];
                (from, to) = (from + 1, to + 1);
            }
        }
        to += copy(buf, from..field.end, room, to);
        out.take(to);
    }

    #[inline(always)]
    fn is_written_null(&self, written: &[u8], quoted: bool) -> bool {
        self.written_null[usize::from(quoted)]
            && written.len() == self.escape.len() + 1
            && written.strip_prefix(&self.escape[..]) == Some(b"N")
    }

    /// Appends what the field `written` (without its outer quotes) means to `out`; true if it is NULL,
    /// then `out` stays as it was. Every escape has a byte after it: the lexer made sure. A quote that is
    /// not doubled is data.
    pub(super) fn unescape(&self, written: &[u8], quoted: bool, out: &mut Arena) -> bool {
        if self.is_written_null(written, quoted) {
            return true;
        }
        let start = out.len();
        self.unescape_tokens(written, quoted, out);
        let null = self.is_null(out.written(start), quoted);
        if null {
            out.truncate(start);
        }
        null
    }

    fn unescape_tokens(&self, written: &[u8], quoted: bool, out: &mut Arena) {
        let mut rest = written;
        while let Some(at) = self.next_token(rest, quoted) {
            out.push(&rest[..at]);
            rest = &rest[at..];
            if quoted && !self.quote.is_empty() && rest.starts_with(&self.quote) {
                out.push(&self.quote);
                rest = &rest[self.quote.len()..];
                rest = rest.strip_prefix(&self.quote[..]).unwrap_or(rest);
            } else if !self.escape.is_empty()
                && rest.starts_with(&self.escape)
                && rest.len() > self.escape.len()
            {
                out.push(&[MEANT[usize::from(rest[self.escape.len()])]]);
                rest = &rest[self.escape.len() + 1..];
            } else {
                out.push(&rest[..1]);
                rest = &rest[1..];
            }
        }
        out.push(rest);
    }

    fn next_token(&self, rest: &[u8], quoted: bool) -> Option<usize> {
        match (self.quote.first().filter(|_| quoted), self.escape.first()) {
            (Some(quote), Some(escape)) => memchr::memchr2(*quote, *escape, rest),
            (Some(byte), None) | (None, Some(byte)) => memchr::memchr(*byte, rest),
            (None, None) => None,
        }
    }
}

/// Bytes that are copied whatever the length of a short text is: that is two instructions.
const COPIED: usize = 16;

/// A short text as a number, its first byte the lowest, without the bytes at `places` and with what the ones behind
/// escapes mean; and how many bytes were taken out. Nothing of it goes through memory.
#[inline(always)]
fn without(short: &[u8; COPIED], places: impl Iterator<Item = usize>, quote: u8) -> (u128, usize) {
    let (mut text, mut taken) = (u128::from_le_bytes(*short), 0);
    for place in places {
        let at = place.wrapping_sub(taken) % COPIED;
        let before = BEFORE[at];
        text = text & before | text >> 8 & !before;
        taken += 1;
        let behind = short[(place + 1) % COPIED];
        let meant = MEANT[usize::from(behind)];
        if meant != behind && short[place % COPIED] != quote {
            text ^= u128::from(meant ^ behind) << (8 * at);
        }
    }
    (text, taken)
}

/// The bytes before the one of this number.
const BEFORE: [u128; COPIED] = {
    let mut before = [0; COPIED];
    let mut at = 0;
    while at < COPIED {
        before[at] = (1 << (8 * at)) - 1;
        at += 1;
    }
    before
};

/// Copies `from` of `buf` to `to` in `room`, which has [`COPIED`] bytes more than it needs, and says how many those
/// are.
#[inline(always)]
fn copy(buf: &[u8], from: Range<usize>, room: &mut [u8], to: usize) -> usize {
    let short = buf[from.start..].first_chunk::<COPIED>();
    match (short, room[to..].first_chunk_mut::<COPIED>()) {
        (Some(short), Some(room)) if from.len() <= COPIED => *room = *short,
        _ => room[to..to + from.len()].copy_from_slice(&buf[from.clone()]),
    }
    from.len()
}

/// What a byte means behind an escape.
const MEANT: [u8; 256] = {
    let mut meant = [0; 256];
    let mut byte = 0;
    while byte < meant.len() {
        meant[byte] = match byte as u8 {
            b'0' => 0,
            b'b' => 8,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'Z' => 0x1a,
            other => other,
        };
        byte += 1;
    }
    meant
};
