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
        let short = buf[field.start..].first_chunk::<SHORT>();
        if let Some(short) = short.filter(|_| written.len() <= COPIED) {
            let places = places.map(|place| place - field.start);
            let room = out.room(SHORT).first_chunk_mut();
            let len = room.map_or(0, |room| {
                unescape_short(short, written.len(), places, quote, room)
            });
            out.take(len);
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
/// A short text, and what may be copied behind it.
const SHORT: usize = 2 * COPIED;

/// A text of `len` bytes, at most [`COPIED`], without the bytes at `places` and with what the ones behind escapes mean.
/// Each piece between two places is a whole copy, and the next one covers what was too much of it. Gives the length.
#[inline(always)]
fn unescape_short(
    short: &[u8; SHORT],
    len: usize,
    places: impl Iterator<Item = usize>,
    quote: u8,
    room: &mut [u8; SHORT],
) -> usize {
    let (mut from, mut to) = (0, 0);
    for place in places {
        copy_piece(short, from, room, to);
        to += place - from;
        from = place + 1;
        let behind = short[from % SHORT];
        let meant = MEANT[usize::from(behind)];
        if meant != behind && short[place % SHORT] != quote {
            room[to % SHORT] = meant;
            (from, to) = (from + 1, to + 1);
        }
    }
    copy_piece(short, from, room, to);
    to + len - from
}

#[inline(always)]
fn copy_piece(short: &[u8; SHORT], from: usize, room: &mut [u8; SHORT], to: usize) {
    let (from, to) = (from.min(COPIED), to.min(COPIED));
    let mut piece = [0; COPIED];
    piece.copy_from_slice(&short[from..from + COPIED]);
    room[to..to + COPIED].copy_from_slice(&piece);
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of such tokens, and the places to act on.
    fn field(tokens: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let (mut written, mut places) = (Vec::new(), Vec::new());
        for token in tokens {
            match token {
                b'\\' => {
                    places.push(written.len());
                    written.extend(b"\\n");
                }
                b'/' => {
                    places.push(written.len());
                    written.extend(b"\\\\");
                }
                b'"' => {
                    places.push(written.len() + 1);
                    written.extend(b"\"\"");
                }
                plain => written.push(*plain),
            }
        }
        (written, places)
    }

    #[test]
    fn a_field_whose_places_are_known_means_what_it_means_anyway() {
        let meaning = Meaning::new(&CsvDialect {
            escape: b"\\".to_vec(),
            ..CsvDialect::default()
        });
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..200_000usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let tokens: Vec<u8> = (0..round % 20)
                .map(|n| b"\\/\"xnyz0"[(state >> (3 * n) & 7) as usize])
                .collect();
            let (written, places) = field(&tokens);
            // With more text behind it, and at the end of the buffer.
            let before = round % 3;
            let behind = if round % 2 == 0 { 40 } else { round % 35 };
            let buf = [&b"###"[..before], &written, &[b'#'; 40][..behind]].concat();
            let (mut slow, mut fast) = (Arena::default(), Arena::default());
            for out in [&mut slow, &mut fast] {
                out.push(b"before");
            }
            let expected = meaning.unescape(&written, true, &mut slow);
            let range = before..before + written.len();
            let places = places.iter().map(|place| place + before);
            let null = meaning.unescape_at(&buf, range, true, (places, b'"'), &mut fast);
            assert_eq!(null, expected);
            assert_eq!(fast.written(0), slow.written(0), "{tokens:?}");
        }
    }
}
