//! Lexing of records in a slice: which bytes are which field of which record, and what a written field
//! means. No I/O and no state between calls: the caller owns the buffer, and calls again with more
//! bytes when a record is not complete. The rules are those of TiDB Lightning's CSV format.
//!
//! There is one state machine for every dialect. It never looks at plain bytes: a `Scan` leads it
//! from one byte that may start a token to the next. For dialects whose tokens are all single bytes,
//! a table tells the token; with longer tokens, each one is compared in full, and a first byte
//! without its rest is data. What a record is depends only on its bytes, so every way to cut the
//! input into buffers gives the same records: a token that may go on behind the end of the buffer
//! makes the record incomplete.

use super::batch::{Arena, Batch, IN_ARENA, Parsed, RowSpan, Span, Stop, SyntaxError, SyntaxKind};
use super::dialect::{CsvDialect, TextEncoding};
use super::fast::Fast;
use super::malformed::Malformed;
use super::scan::{Marks, Scan, count_lines};
use super::unescape::Meaning;

#[derive(Clone, Copy)]
pub(super) enum Token {
    Data,
    Separator,
    /// With its length.
    Terminator(usize),
    Quote,
    Escape,
    /// Perhaps a token, but the buffer ends inside it.
    Cut,
}

enum Step {
    Row {
        start: usize,
        end: usize,
        next: usize,
        plain: bool,
    },
    Blank {
        next: usize,
    },
    NeedMore,
    Bad(SyntaxError),
}

/// A dialect made ready for lexing.
pub struct Core {
    pub(super) separator: Vec<u8>,
    pub(super) quote: Vec<u8>,
    pub(super) terminator: Vec<u8>,
    pub(super) escape: Vec<u8>,
    pub(super) marks: Marks,
    tokens: Box<[Token; 256]>,
    pub(super) single: bool,
    fast: Option<Fast>,
    line_byte: Option<u8>,
    pub(super) trim_last_separator: bool,
    pub(super) starting: Vec<u8>,
    pub(super) lenient: bool,
    pub(super) skip_malformed: bool,
    pub(super) text: TextEncoding,
    invalid: String,
    pub(super) meaning: Meaning,
}

impl Core {
    /// Prepares `dialect`, which must pass [`CsvDialect::check`].
    pub fn new(dialect: &CsvDialect) -> Self {
        let single_tokens = [
            &dialect.separator,
            &dialect.quote,
            &dialect.terminator,
            &dialect.escape,
        ];
        let mut core = Self {
            separator: dialect.separator.clone(),
            quote: dialect.quote.clone(),
            terminator: dialect.terminator.clone(),
            escape: dialect.escape.clone(),
            marks: [0; 5],
            tokens: Box::new([Token::Data; 256]),
            // A token in the second byte of a character is none: that needs the longer way.
            single: single_tokens.iter().all(|token| match token.as_slice() {
                [] => true,
                [byte] => !dialect.text.hides_ascii() || *byte < b'0',
                _ => false,
            }),
            fast: None,
            line_byte: line_byte(&dialect.terminator),
            trim_last_separator: dialect.trim_last_separator,
            starting: dialect.starting.clone(),
            lenient: dialect.lenient,
            skip_malformed: dialect.skip_malformed,
            text: dialect.text,
            invalid: dialect.invalid.clone(),
            meaning: Meaning::new(dialect),
        };
        core.fill_tables();
        core.fast = Fast::new(&core);
        core
    }

    fn fill_tables(&mut self) {
        let auto: &[u8] = if self.terminator.is_empty() {
            b"\r\n"
        } else {
            &[]
        };
        let firsts = [
            (self.escape.first(), Token::Escape),
            (self.quote.first(), Token::Quote),
            (self.separator.first(), Token::Separator),
            (self.terminator.first(), Token::Terminator(1)),
            (auto.first(), Token::Terminator(1)),
            (auto.get(1), Token::Terminator(1)),
        ];
        let present = firsts
            .into_iter()
            .filter_map(|(byte, token)| Some((*byte?, token)));
        for (i, (byte, token)) in present.enumerate() {
            self.tokens[usize::from(byte)] = token;
            self.marks[i..].fill(byte);
        }
    }

    /// The byte that counts lines; none for CR, LF and CRLF together.
    pub(crate) fn line_byte(&self) -> Option<u8> {
        self.line_byte
    }

    /// Line ends in the first `len` bytes of `buf`; the byte behind them tells CRLF from CR.
    pub(super) fn count_lines_before(&self, buf: &[u8], len: usize) -> u64 {
        let bytes = &buf[..len];
        let split =
            self.line_byte.is_none() && bytes.ends_with(b"\r") && buf.get(len) == Some(&b'\n');
        count_lines(bytes, self.line_byte) - u64::from(split)
    }

    /// After the first terminator in `buf`, whatever stands before it.
    pub(crate) fn line_end(&self, buf: &[u8], at_end: bool) -> Option<usize> {
        let mut from = 0;
        // For LOAD DATA an escaped terminator ends no line, not even one that is passed over.
        while self.lenient && !self.escape.is_empty() {
            let escape = memchr::memmem::find(&buf[from..], &self.escape).map(|at| from + at);
            let end = self.terminator_end(buf, from, at_end);
            match escape {
                Some(at) if end.is_none_or(|end| at < end) => {
                    from = at + self.escape.len() + 1;
                    if from > buf.len() {
                        return None;
                    }
                }
                _ => return end,
            }
        }
        self.terminator_end(buf, from, at_end)
    }

    /// After the first terminator from `from` on.
    fn terminator_end(&self, buf: &[u8], from: usize, at_end: bool) -> Option<usize> {
        if !self.terminator.is_empty() {
            let at = memchr::memmem::find(&buf[from..], &self.terminator)?;
            return Some(from + at + self.terminator.len());
        }
        let at = from + memchr::memchr2(b'\r', b'\n', &buf[from..])?;
        match auto_terminator(buf, at, at_end) {
            Token::Terminator(len) => Some(at + len),
            _ => None,
        }
    }

    /// Turns the fields of `out` into UTF-8, if they are not.
    pub(crate) fn recode(&self, buf: &[u8], out: &mut Batch) {
        if self.text == TextEncoding::AsIs {
            return;
        }
        for i in 0..out.used {
            let written = match out.text(out.fields[i], buf) {
                Some(bytes) if !bytes.is_ascii() => bytes.to_vec(),
                _ => continue,
            };
            let (start, mut text) = (out.arena.len(), Vec::new());
            self.text.decode(&written, &self.invalid, &mut text);
            out.arena.push(&text);
            out.fields[i] = Span::arena(start, out.arena.len(), false);
        }
    }

    /// Line ends in `bytes`, as positions count them.
    pub fn count_lines(&self, bytes: &[u8]) -> u64 {
        count_lines(bytes, self.line_byte)
    }

    /// Finds at most `rows_max` records in `buf` and puts them into `out`, which is cleared first.
    /// `at_end`: no byte follows `buf`. The slice must be shorter than 2 GiB.
    pub fn parse(&self, buf: &[u8], at_end: bool, rows_max: usize, out: &mut Batch) -> Parsed {
        debug_assert!(buf.len() < IN_ARENA as usize);
        out.clear();
        if self.single {
            self.run::<true, true>(buf, at_end, rows_max, out)
        } else {
            self.run::<false, true>(buf, at_end, rows_max, out)
        }
    }

    /// Like [`Core::parse`], but only counts.
    pub fn skip(&self, buf: &[u8], at_end: bool, rows_max: usize) -> Parsed {
        let mut none = Batch::default();
        if self.single {
            self.run::<true, false>(buf, at_end, rows_max, &mut none)
        } else {
            self.run::<false, false>(buf, at_end, rows_max, &mut none)
        }
    }

    fn run<const SINGLE: bool, const KEEP: bool>(
        &self,
        buf: &[u8],
        at_end: bool,
        rows_max: usize,
        out: &mut Batch,
    ) -> Parsed {
        let mut parsed = Parsed {
            consumed: 0,
            lines: 0,
            rows: 0,
            stop: Stop::Full,
        };
        let mut scan = None;
        while parsed.rows < rows_max {
            if SINGLE && let Some(fast) = self.fast {
                let run = match (fast.quote.is_some(), fast.escape.is_some()) {
                    (false, false) => Self::run_fast::<false, false>,
                    (false, true) => Self::run_fast::<false, true>,
                    (true, false) => Self::run_fast::<true, false>,
                    (true, true) => Self::run_fast::<true, true>,
                };
                run(self, fast, buf, rows_max, KEEP, &mut parsed, out);
                scan = None;
                if parsed.rows == rows_max {
                    break;
                }
            }
            let start = parsed.consumed;
            if start >= buf.len() {
                parsed.stop = if at_end { Stop::End } else { Stop::NeedMore };
                return parsed;
            }
            let first_field = out.used;
            let arena_len = out.arena.len();
            let scan = scan.get_or_insert_with(|| Scan::new(buf, self.marks, start));
            match self.record::<SINGLE, KEEP>(scan, buf, start, at_end, out) {
                Step::Row {
                    start: begin,
                    end,
                    next,
                    plain,
                } => {
                    if KEEP {
                        let skipped = self.lines_in(&buf[start..begin], begin == start);
                        out.rows.push(RowSpan {
                            start: begin as u32,
                            end: end as u32,
                            lines_before: parsed.lines + skipped,
                            first_field: first_field as u32,
                        });
                    }
                    parsed.lines += self.lines_in(&buf[start..next], plain);
                    parsed.consumed = next;
                    parsed.rows += 1;
                }
                Step::Blank { next } => {
                    parsed.lines += self.lines_in(&buf[start..next], self.starting.is_empty());
                    parsed.consumed = next;
                }
                Step::NeedMore => parsed.stop = Stop::NeedMore,
                Step::Bad(error) => match self.malformed::<SINGLE>(scan, buf, error, at_end) {
                    Malformed::To(end, next) => {
                        out.drop_fields(first_field, arena_len);
                        if KEEP {
                            let begin = start + self.before_start(&buf[start..]);
                            let skipped = self.count_lines(&buf[start..begin]) as u32;
                            out.push_malformed(begin, end, parsed.lines + skipped, error);
                        }
                        parsed.lines += self.lines_in(&buf[start..next], false);
                        parsed.consumed = next;
                        parsed.rows += 1;
                    }
                    Malformed::NeedMore => parsed.stop = Stop::NeedMore,
                    Malformed::Fatal => parsed.stop = Stop::Syntax(error),
                },
            }
            if parsed.stop != Stop::Full {
                out.drop_fields(first_field, arena_len);
                return parsed;
            }
        }
        parsed
    }

    #[inline(always)]
    fn lines_in(&self, record: &[u8], plain: bool) -> u32 {
        // Without quotes and escapes the only line end is the terminator, if there is one.
        if plain && self.terminator.len() <= 1 {
            let last = record.last().copied();
            return u32::from(match self.line_byte {
                Some(byte) => last == Some(byte),
                None => matches!(last, Some(b'\n' | b'\r')),
            });
        }
        self.count_lines(record) as u32
    }

    #[inline(always)]
    fn record<const SINGLE: bool, const KEEP: bool>(
        &self,
        scan: &mut Scan<'_>,
        buf: &[u8],
        start: usize,
        at_end: bool,
        out: &mut Batch,
    ) -> Step {
        let mut column = 0;
        let mut start = start;
        let mut plain = true;
        if !self.starting.is_empty() {
            match self.find_start(buf, start, at_end) {
                Ok(found) => start = found,
                Err(step) => return step,
            }
            // A prefix that the file ends with leads to nothing, as MySQL sees it.
            if at_end && start + self.starting.len() == buf.len() {
                return Step::Blank { next: buf.len() };
            }
            scan.skip_to(start + self.starting.len());
            plain = false;
        }
        let mut field = start + self.starting.len();
        let mut escaped = false;
        loop {
            let mut at = scan.next();
            let mut token = self.token::<SINGLE>(buf, at, at_end);
            let mut content = field..at;
            let mut quoted = false;
            if let Token::Quote = token {
                if at != field && self.lenient {
                    continue;
                }
                if at != field {
                    return step_bad(true, SyntaxKind::QuoteInField, at, column);
                }
                (plain, quoted) = (false, true);
                let close = match self.quoted::<SINGLE>(scan, buf, field, at_end) {
                    Quoted::Closed {
                        at,
                        escaped: inside,
                    } => {
                        escaped = inside;
                        at
                    }
                    Quoted::Bad(kind, at) => return step_bad(at_end, kind, at, column),
                    Quoted::Cut => return Step::NeedMore,
                };
                content = field + self.quote.len()..close;
                at = close + self.quote.len();
                if !SINGLE {
                    scan.skip_to(at);
                }
                token = self.token::<SINGLE>(buf, at, at_end);
            }
            match token {
                Token::Separator => {
                    self.push::<KEEP>(buf, content, quoted, escaped, out);
                    column += 1;
                    escaped = false;
                    field = at + if SINGLE { 1 } else { self.separator.len() };
                    if !SINGLE || quoted {
                        scan.skip_to(field);
                    }
                }
                Token::Terminator(len) => {
                    let next = at + len;
                    if len != 1 || quoted {
                        scan.skip_to(next);
                    }
                    if column == 0
                        && plain
                        && !self.lenient
                        && buf[start..at].iter().all(|b| is_blank(*b))
                    {
                        return Step::Blank { next };
                    }
                    if !(self.trim_last_separator && content.is_empty()) {
                        self.push::<KEEP>(buf, content, quoted, escaped, out);
                    }
                    return Step::Row {
                        start,
                        end: at,
                        next,
                        plain,
                    };
                }
                Token::Cut => return Step::NeedMore,
                _ if quoted => return step_bad(true, SyntaxKind::TextAfterQuote, at, column),
                Token::Escape => {
                    let next = at + self.escape.len() + 1;
                    if next > buf.len() {
                        return step_bad(at_end, SyntaxKind::LoneEscape, at, column);
                    }
                    plain = false;
                    escaped = true;
                    scan.skip_to(next);
                }
                Token::Data | Token::Quote => {}
            }
        }
    }

    /// Where the record begins that `start` leads to; a step where none does yet.
    #[cold]
    fn find_start(&self, buf: &[u8], start: usize, at_end: bool) -> Result<usize, Step> {
        if let Some(at) = memchr::memmem::find(&buf[start..], &self.starting) {
            return Ok(start + at);
        }
        if at_end {
            return Err(Step::Blank { next: buf.len() });
        }
        // The end of the buffer may hold the first half; the rest is not needed again.
        let mut next = buf.len().saturating_sub(self.starting.len() - 1);
        // CR and LF count as one line only together.
        if next > start && buf[next - 1] == b'\r' {
            next -= 1;
        }
        match next {
            next if next > start => Err(Step::Blank { next }),
            _ => Err(Step::NeedMore),
        }
    }

    /// Reads a quoted field whose opening quote is at `open`, up to its closing quote. Inlined, it takes
    /// registers from the loop over plain fields and costs those a third more.
    #[inline(never)]
    fn quoted<const SINGLE: bool>(
        &self,
        scan: &mut Scan<'_>,
        buf: &[u8],
        open: usize,
        at_end: bool,
    ) -> Quoted {
        let mut escaped = false;
        if !SINGLE {
            scan.skip_to(open + self.quote.len());
        }
        loop {
            let at = scan.next();
            if at >= buf.len() {
                return Quoted::Bad(SyntaxKind::UnterminatedQuote, open);
            }
            match self.quoted_token::<SINGLE>(buf, at, at_end) {
                Token::Quote => {
                    let behind = at + if SINGLE { 1 } else { self.quote.len() };
                    match self.doubled::<SINGLE>(buf, behind, at_end) {
                        Match::Yes => {
                            escaped = true;
                            scan.skip_to(behind + self.quote.len());
                        }
                        Match::No if self.lenient => {
                            match self.token::<SINGLE>(buf, behind, at_end) {
                                Token::Separator | Token::Terminator(_) => {
                                    return Quoted::Closed { at, escaped };
                                }
                                Token::Cut => return Quoted::Cut,
                                _ => scan.skip_to(behind),
                            }
                        }
                        Match::No => return Quoted::Closed { at, escaped },
                        Match::Cut => return Quoted::Cut,
                    }
                }
                Token::Escape => {
                    let next = at + self.escape.len() + 1;
                    if next > buf.len() {
                        return Quoted::Bad(SyntaxKind::LoneEscape, at);
                    }
                    escaped = true;
                    scan.skip_to(next);
                }
                Token::Cut => return Quoted::Cut,
                _ => {}
            }
        }
    }

    /// The token at `at` inside quotes. Only two mean something there, so a separator that starts like a
    /// quote (both longer than a byte) must not hide it.
    #[inline(always)]
    pub(super) fn quoted_token<const SINGLE: bool>(
        &self,
        buf: &[u8],
        at: usize,
        at_end: bool,
    ) -> Token {
        if SINGLE {
            return self.tokens[usize::from(buf[at])];
        }
        if self.text.in_character(buf, at) {
            return Token::Data;
        }
        let quote = self.match_at(&self.quote, buf, at, at_end);
        let escape = self.match_at(&self.escape, buf, at, at_end);
        match (quote, escape) {
            (Match::Yes, _) => Token::Quote,
            (_, Match::Yes) => Token::Escape,
            (Match::Cut, _) | (_, Match::Cut) => Token::Cut,
            (Match::No, Match::No) => Token::Data,
        }
    }

    /// Whether a second quote follows the one that ends at `at`.
    #[inline(always)]
    pub(super) fn doubled<const SINGLE: bool>(&self, buf: &[u8], at: usize, at_end: bool) -> Match {
        if !SINGLE {
            return self.match_at(&self.quote, buf, at, at_end);
        }
        match buf.get(at) {
            Some(byte) if matches!(self.tokens[usize::from(*byte)], Token::Quote) => Match::Yes,
            None if !at_end => Match::Cut,
            _ => Match::No,
        }
    }

    /// The token at `at`, which is a mark or the end of `buf`.
    #[inline(always)]
    pub(super) fn token<const SINGLE: bool>(&self, buf: &[u8], at: usize, at_end: bool) -> Token {
        let Some(byte) = buf.get(at) else {
            return if at_end {
                Token::Terminator(0)
            } else {
                Token::Cut
            };
        };
        if SINGLE {
            let token = self.tokens[usize::from(*byte)];
            if *byte == b'\r' && self.terminator.is_empty() {
                return auto_terminator(buf, at, at_end);
            }
            return token;
        }
        self.long_token(buf, at, at_end)
    }

    fn long_token(&self, buf: &[u8], at: usize, at_end: bool) -> Token {
        if self.text.in_character(buf, at) {
            return Token::Data;
        }
        if self.terminator.is_empty() && matches!(buf[at], b'\r' | b'\n') {
            return auto_terminator(buf, at, at_end);
        }
        let tokens = [
            (&self.terminator, Token::Terminator(self.terminator.len())),
            (&self.separator, Token::Separator),
            (&self.quote, Token::Quote),
            (&self.escape, Token::Escape),
        ];
        let mut cut = false;
        for (bytes, token) in tokens {
            match self.match_at(bytes, buf, at, at_end) {
                Match::Yes => return token,
                Match::Cut => cut = true,
                Match::No => {}
            }
        }
        if cut { Token::Cut } else { Token::Data }
    }

    #[inline(always)]
    fn match_at(&self, token: &[u8], buf: &[u8], at: usize, at_end: bool) -> Match {
        let rest = &buf[at.min(buf.len())..];
        if token.is_empty() {
            Match::No
        } else if rest.starts_with(token) {
            Match::Yes
        } else if !at_end && rest.len() < token.len() && token.starts_with(rest) {
            Match::Cut
        } else {
            Match::No
        }
    }

    #[inline(always)]
    fn push<const KEEP: bool>(
        &self,
        buf: &[u8],
        content: std::ops::Range<usize>,
        quoted: bool,
        escaped: bool,
        out: &mut Batch,
    ) {
        if !KEEP {
            return;
        }
        let span = if escaped {
            self.unescaped(&buf[content], quoted, &mut out.arena)
        } else if self.meaning.is_null(&buf[content.clone()], quoted) {
            Span::NULL
        } else {
            Span::buffer(content.start, content.end)
        };
        out.push(span);
    }

    #[cold]
    pub(super) fn unescaped(&self, written: &[u8], quoted: bool, arena: &mut Arena) -> Span {
        let start = arena.len();
        let null = self.meaning.unescape(written, quoted, arena);
        Span::arena(start, arena.len(), null)
    }
}

enum Quoted {
    /// By the quote at `at`; `escaped`: the text between has to be unescaped.
    Closed {
        at: usize,
        escaped: bool,
    },
    Cut,
    /// The buffer ends too early: wrong if nothing follows.
    Bad(SyntaxKind, usize),
}

/// A record that is wrong for sure, or only if nothing follows the buffer.
#[cold]
fn step_bad(sure: bool, kind: SyntaxKind, at: usize, column: usize) -> Step {
    if sure {
        Step::Bad(SyntaxError { kind, at, column })
    } else {
        Step::NeedMore
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Cut,
}

/// CR, LF or CRLF at `at`. A CR at the end of the buffer waits for its LF, so that both always end
/// the same record.
#[inline(always)]
fn auto_terminator(buf: &[u8], at: usize, at_end: bool) -> Token {
    match (buf[at], buf.get(at + 1)) {
        (b'\r', Some(b'\n')) => Token::Terminator(2),
        (b'\r', None) if !at_end => Token::Cut,
        _ => Token::Terminator(1),
    }
}

/// The byte that counts lines; none for CR, LF and CRLF together.
fn line_byte(terminator: &[u8]) -> Option<u8> {
    if terminator.contains(&b'\n') {
        Some(b'\n')
    } else {
        terminator.last().copied()
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}
