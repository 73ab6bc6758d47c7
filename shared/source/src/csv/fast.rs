//! The fast way over the dialects that nearly every file has: separator, quote, terminator and escape of one byte.
//!
//! Be careful here: this gives what the state machine of [`super::core`] gives, or it leaves the record to it. The
//! idea: of 64 bytes at a time, masks are made with one bit for each byte that is a token. Escaped bytes are
//! struck out of them by the carry of a subtraction, quoted ones by the parity of the quotes before them; what is
//! left ends fields. That holds as long as quotes are only where they may be, which two more masks prove: an
//! opening one behind a separator, a terminator or a closing one, and one of these behind each closing one.
//! From the first place where that fails, the masks mean nothing: the record goes to the state machine, which
//! names the error or knows why there is none, and the masks start again behind it. It gets the record at the
//! end of the buffer, too.
//!
//! Differential tests (`tests/csv.rs`, the fuzz target `csv`) hold both together for every input and every cut.

use std::ops::Range;

use super::batch::{Arena, Batch, Parsed, RowSpan, Slots, Span};
use super::core::{Core, is_blank};
use super::scan::{BLOCK, mask_of};

/// Tokens of a dialect that can be read here.
#[derive(Clone, Copy)]
pub(super) struct Fast {
    separator: u8,
    pub(super) quote: Option<u8>,
    pub(super) escape: Option<u8>,
    /// The terminator, or LF and CR.
    ends: [u8; 2],
}

impl Fast {
    /// What `core` can be read by; `None` if only the state machine knows how.
    pub(super) fn new(core: &Core) -> Option<Self> {
        // What a quote means for LOAD DATA depends on more than its neighbours.
        if !core.single || !core.starting.is_empty() || core.lenient && !core.quote.is_empty() {
            return None;
        }
        let this = Self {
            separator: *core.separator.first()?,
            quote: core.quote.first().copied(),
            escape: core.escape.first().copied(),
            ends: match core.terminator.first() {
                Some(byte) => [*byte; 2],
                None => [b'\n', b'\r'],
            },
        };
        // A quoted or escaped nothing is no blank line.
        let blank = |token: Option<u8>| token.is_some_and(is_blank);
        (!blank(this.quote) && !blank(this.escape)).then_some(this)
    }
}

/// Escapes of a field whose places are remembered; a field with more is searched again.
const PLACES: usize = 16;

/// What one block hands to the next.
struct Carry {
    /// All ones between quotes.
    inside: u64,
    /// Whether the first byte is escaped.
    escaped: u64,
    /// Whether a quote may open at the first byte.
    edge: u64,
    /// Whether the byte before was a closing quote.
    closed: u64,
}

impl Carry {
    const START: Carry = Carry {
        inside: 0,
        escaped: 0,
        edge: 1,
        closed: 0,
    };
}

/// Where a block is, and what is wanted of it.
#[derive(Clone, Copy)]
struct Here<'a> {
    buf: &'a [u8],
    block: &'a [u8; BLOCK],
    base: usize,
    rows_max: usize,
    keep: bool,
}

/// The record and the field that are not at their end, and what is behind them.
#[derive(Clone, Copy)]
struct Open {
    record: usize,
    field: usize,
    /// Escapes and doubled quotes of the field.
    special: usize,
    /// Of the record.
    lines_inside: u32,
    first_field: usize,
    /// Before the record.
    lines: u32,
    rows: usize,
}

/// Of a block: bit n is byte n.
#[derive(Clone, Copy)]
struct Marks {
    /// Separators and terminators that end something.
    ends: u64,
    /// What is to be noted on the way: escapes, doubled quotes, line ends that end nothing.
    notes: u64,
    /// Of these, the line ends.
    lines: u64,
    /// Where a quote stands wrong.
    wrong: u64,
    /// There are quotes.
    quoted: bool,
}

impl Core {
    /// Goes on from where `parsed` is, up to `rows_max` records in all, and stops before the first one that needs
    /// the state machine.
    pub(super) fn run_fast<const QUOTE: bool, const ESCAPE: bool>(
        &self,
        fast: Fast,
        buf: &[u8],
        rows_max: usize,
        keep: bool,
        parsed: &mut Parsed,
        out: &mut Batch,
    ) {
        let start = parsed.consumed;
        let mut open = Open {
            record: start,
            field: start,
            special: 0,
            lines_inside: 0,
            first_field: out.used,
            lines: parsed.lines,
            rows: parsed.rows,
        };
        let mut places = [0; PLACES];
        let mut carry = Carry::START;
        let mut base = start;
        while base < buf.len() {
            let rest = &buf[base..];
            let padded;
            let block = match rest.first_chunk::<BLOCK>() {
                Some(block) => block,
                None => {
                    padded = pad(rest);
                    &padded
                }
            };
            let quoted = QUOTE && carry.inside | carry.closed != 0;
            let mut marks = fast.marks::<QUOTE, ESCAPE>(block, rest.len(), &mut carry);
            let wrong = marks.wrong;
            if wrong != 0 {
                // Only what precedes the wrong place means something.
                let before = (1 << wrong.trailing_zeros()) - 1;
                marks.ends &= before;
                marks.notes &= before;
            }
            let here = Here {
                buf,
                block,
                base,
                rows_max,
                keep,
            };
            let noted = open.special > 0 || open.lines_inside > 0 || marks.notes != 0;
            let calm = !(noted || quoted || marks.quoted);
            let full = if calm {
                self.fields::<QUOTE, ESCAPE, true>(fast, here, marks, &mut open, &mut places, out)
            } else {
                self.fields::<QUOTE, ESCAPE, false>(fast, here, marks, &mut open, &mut places, out)
            };
            if full || wrong != 0 {
                break;
            }
            base += BLOCK;
        }
        out.used = open.first_field;
        (parsed.consumed, parsed.lines, parsed.rows) = (open.record, open.lines, open.rows);
    }

    /// The fields that end in a block; true if there are enough records, or the end of the buffer may be half a line
    /// end. `CALM`: no byte of theirs is quoted, escaped or otherwise of interest.
    #[inline(always)]
    fn fields<const QUOTE: bool, const ESCAPE: bool, const CALM: bool>(
        &self,
        fast: Fast,
        here: Here<'_>,
        marks: Marks,
        state: &mut Open,
        places: &mut [u32; PLACES],
        out: &mut Batch,
    ) -> bool {
        let Here { buf, block, .. } = here;
        let mut open = *state;
        let Batch {
            fields,
            used,
            arena,
            rows,
            ..
        } = out;
        let (quote, auto) = (fast.quote.unwrap_or(0), fast.ends[0] != fast.ends[1]);
        let slots = Slots::of(fields, *used);
        let (mut filled, mut full) = (0, false);
        let (mut bits, mut notes) = (marks.ends, if CALM { 0 } else { marks.notes });
        while bits != 0 {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let (at, byte) = (here.base + bit, block[bit % BLOCK]);
            // What is noted of the field that ends here.
            let mut noted = notes & ((1 << bit) - 1);
            notes &= !noted;
            if !CALM && noted != 0 && (open.special > 0 || noted & marks.lines != 0) {
                self.note(here, noted, marks.lines, &mut open, places);
                noted = 0;
            }
            let quoted = QUOTE && !CALM && buf.get(open.field) == Some(&quote);
            let (from, to) = (open.field + usize::from(quoted), at - usize::from(quoted));
            if byte == fast.separator {
                slots[filled % Slots::COUNT] = if !CALM && noted != 0 {
                    let places = Bits(noted).map(|bit| here.base + bit);
                    self.special(buf, from..to, quoted, (places, quote), arena)
                } else if !CALM && open.special > 0 {
                    let special = std::mem::take(&mut open.special);
                    self.kept(buf, from..to, quoted, (places, special, quote), arena)
                } else {
                    self.span(buf, from, to, quoted)
                };
                filled += 1;
                open.field = at + 1;
                continue;
            }
            // The LF of a CRLF.
            if at < open.field {
                continue;
            }
            let mut next = at + 1;
            if auto && byte == b'\r' {
                match buf.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => {
                        full = true;
                        break;
                    }
                }
            }
            if *used + filled == open.first_field
                && !self.lenient
                && (open.record == at || is_blank(buf[open.record]))
                && buf[open.record..at].iter().all(|byte| is_blank(*byte))
            {
                (open.record, open.field) = (next, next);
                open.lines += 1;
                continue;
            }
            if !(self.trim_last_separator && from == to) {
                slots[filled % Slots::COUNT] = if !CALM && noted != 0 {
                    let places = Bits(noted).map(|bit| here.base + bit);
                    self.special(buf, from..to, quoted, (places, quote), arena)
                } else if !CALM && open.special > 0 {
                    self.kept(buf, from..to, quoted, (places, open.special, quote), arena)
                } else {
                    self.span(buf, from, to, quoted)
                };
                filled += 1;
            }
            if here.keep {
                rows.push(RowSpan {
                    start: open.record as u32,
                    end: at as u32,
                    lines_before: open.lines,
                    first_field: open.first_field as u32,
                });
                open.first_field = *used + filled;
            } else {
                (*used, filled, open.first_field) = (0, 0, 0);
                arena.clear();
            }
            (open.record, open.field) = (next, next);
            open.lines += 1;
            if !CALM {
                open.lines += open.lines_inside;
                (open.special, open.lines_inside) = (0, 0);
            }
            open.rows += 1;
            if open.rows == here.rows_max {
                full = true;
                break;
            }
        }
        if !CALM && notes != 0 {
            self.note(here, notes, marks.lines, &mut open, places);
        }
        *used += filled;
        *state = open;
        full
    }

    /// Keeps places of a block for a field that goes on behind it, and counts its line ends.
    #[inline(never)]
    fn note(
        &self,
        here: Here<'_>,
        noted: u64,
        lines: u64,
        open: &mut Open,
        places: &mut [u32; PLACES],
    ) {
        for bit in Bits(noted) {
            let at = here.base + bit;
            if lines >> bit & 1 != 0 {
                open.lines_inside += u32::from(self.is_line_end(here.buf, at));
            } else {
                places[open.special % PLACES] = at as u32;
                open.special += 1;
            }
        }
    }

    /// A field that is not meant as it is written.
    #[inline(always)]
    fn special(
        &self,
        buf: &[u8],
        field: Range<usize>,
        quoted: bool,
        (places, quote): (impl Iterator<Item = usize>, u8),
        arena: &mut Arena,
    ) -> Span {
        let start = arena.len();
        let meaning = &self.meaning;
        let null = meaning.unescape_at(buf, field, quoted, (places, quote), arena);
        Span::arena(start, arena.len(), null)
    }

    /// The same where blocks before this one hold a part of it.
    #[inline(never)]
    fn kept(
        &self,
        buf: &[u8],
        field: Range<usize>,
        quoted: bool,
        (places, count, quote): (&[u32; PLACES], usize, u8),
        arena: &mut Arena,
    ) -> Span {
        match places.get(..count) {
            Some(places) => {
                let places = places.iter().map(|place| *place as usize);
                self.special(buf, field, quoted, (places, quote), arena)
            }
            None => self.unescaped(&buf[field], quoted, arena),
        }
    }

    #[inline(always)]
    fn span(&self, buf: &[u8], from: usize, to: usize, quoted: bool) -> Span {
        if self.meaning.may_be_null() && self.meaning.is_null(&buf[from..to], quoted) {
            Span::NULL
        } else {
            Span::buffer(from, to)
        }
    }

    /// Whether a line end that is data counts as one: a CR before an LF does not.
    #[cold]
    fn is_line_end(&self, buf: &[u8], at: usize) -> bool {
        match self.line_byte() {
            Some(_) => true,
            None => buf[at] == b'\n' || buf.get(at + 1) != Some(&b'\n'),
        }
    }
}

/// The places of the bits that are set.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

fn pad(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

impl Fast {
    #[inline(always)]
    fn marks<const QUOTE: bool, const ESCAPE: bool>(
        &self,
        block: &[u8; BLOCK],
        len: usize,
        carry: &mut Carry,
    ) -> Marks {
        // The padding behind the end may look like a token.
        let valid = if len < BLOCK {
            (1 << len) - 1
        } else {
            u64::MAX
        };
        let all = mask_of(block, [self.separator, self.ends[0], self.ends[1]]) & valid;
        let (mut ends, mut notes, mut lines, mut wrong) = (all, 0, 0, 0);
        let (mut masked, mut quoted) = (0, false);
        if ESCAPE {
            let escape = mask_of(block, [self.escape.unwrap_or(0)]) & valid;
            if escape | carry.escaped != 0 {
                masked = escaped_by(escape, &mut carry.escaped);
                ends &= !masked;
                notes |= escape & !masked;
            }
        }
        if QUOTE {
            let quotes = mask_of(block, [self.quote.unwrap_or(0)]) & valid & !masked;
            if quotes | carry.inside | carry.closed != 0 {
                let inside = parity(quotes) ^ carry.inside;
                ends &= !inside;
                let (open, close) = (quotes & inside, quotes & !inside);
                let behind_close = close << 1 | carry.closed;
                let behind_end = ends << 1 | carry.edge;
                notes |= open & behind_close;
                wrong = open & !(behind_end | behind_close) | behind_close & !(ends | open) & valid;
                quoted = quotes != 0;
                carry.inside = ((inside as i64) >> 63) as u64;
                carry.closed = close >> 63;
            }
            carry.edge = ends >> 63;
        }
        let hidden = all & !ends;
        if hidden != 0 {
            lines = hidden & mask_of(block, self.ends);
            notes |= lines;
        }
        Marks {
            ends,
            notes,
            lines,
            wrong,
            quoted,
        }
    }
}

/// Bit n: an odd number of bits of `bits` up to n.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// The bytes that an escape stands before. In a run of escapes every other one is escaped itself: subtracting the
/// first of each run from the odd places carries through the run, and what changes tells even runs from odd ones.
#[inline(always)]
fn escaped_by(escape: u64, carry: &mut u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let free = escape & !*carry;
    let codes = ((free << 1) | ODD).wrapping_sub(free) ^ ODD;
    let escaped = codes ^ (escape | *carry);
    *carry = (codes & escape) >> 63;
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_escape_of_a_run_is_escaped() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..100_000u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Many and few.
            let escape = match round % 3 {
                0 => state,
                1 => state | state.rotate_left(7) | state.rotate_left(19),
                _ => state & state.rotate_left(7) & state.rotate_left(19),
            };
            let before = round & 1;
            let (mut next, mut expected) = (before == 1, 0);
            for bit in 0..64 {
                expected |= u64::from(next) << bit;
                next = !next && escape >> bit & 1 != 0;
            }
            let mut carry = before;
            assert_eq!(escaped_by(escape, &mut carry), expected, "{escape:x}");
            assert_eq!(carry == 1, next, "{escape:x}");
        }
    }
}
