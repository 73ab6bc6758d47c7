//! Heads of INSERT statements and their rows, in a slice.

use crate::csv::TextEncoding;

use super::lex::{Miss, Seen, SqlProblem, Text, from_bits, from_hex, is_word, more, wrong};

/// The part of an INSERT before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The table, in lower case, without its database.
    pub table: String,
    /// Its column list, in lower case; empty if it has none.
    pub columns: Vec<String>,
    /// Where the statement starts.
    pub start: usize,
    /// Where the rows start.
    pub end: usize,
}

/// What stands at a place between two statements.
pub(super) enum Start {
    /// Rows follow.
    Insert(Head),
    /// Something else, from its first byte.
    Other(usize),
    /// A `DELIMITER` line of the client and what it encloses, up to its end.
    Program(usize),
    /// Nothing but space up to here.
    End(usize),
}

/// What stands at a place between two rows.
pub(super) enum Between {
    /// A row starts at its parenthesis.
    Row(usize),
    /// The statement ends before this place.
    End(usize),
}

impl Text<'_> {
    /// What the next statement is.
    pub fn start(&self, at: usize) -> Seen<Start> {
        let mut at = self.skip_space(at)?;
        while self.byte(at)? == b';' {
            at = self.skip_space(at + 1)?;
        }
        if at >= self.buf.len() {
            return Ok(Start::End(at));
        }
        let end = self.word_end(at)?;
        let word = &self.buf[at..end];
        if word.eq_ignore_ascii_case(b"INSERT") || word.eq_ignore_ascii_case(b"REPLACE") {
            return match self.head(end) {
                Err(Miss::More) => more(self.at_end, SqlProblem::OpenStatement, at),
                other => other.map(|head| Start::Insert(Head { start: at, ..head })),
            };
        }
        if word.eq_ignore_ascii_case(b"DELIMITER") {
            return self.program(at).map(Start::Program);
        }
        Ok(Start::Other(at))
    }

    /// The end of what stands between two `DELIMITER` lines: bodies of routines hold statements that are
    /// not ours.
    fn program(&self, at: usize) -> Seen<usize> {
        let line_end = |from: usize| match memchr::memchr(b'\n', &self.buf[from..]) {
            Some(len) => Ok(from + len + 1),
            None if self.at_end => Ok(self.buf.len()),
            None => Err(Miss::More),
        };
        let mut line = at;
        let mut first = true;
        loop {
            let end = line_end(line)?;
            let words: Vec<&[u8]> = self.buf[line..end]
                .split(|b| b.is_ascii_whitespace())
                .filter(|word| !word.is_empty())
                .collect();
            let is_delimiter = words
                .first()
                .is_some_and(|word| word.eq_ignore_ascii_case(b"DELIMITER"));
            if is_delimiter && words.get(1) == Some(&&b";"[..]) {
                return Ok(end);
            }
            if !first && end >= self.buf.len() {
                return more(self.at_end, SqlProblem::OpenStatement, at);
            }
            (line, first) = (end, false);
        }
    }

    fn head(&self, at: usize) -> Seen<Head> {
        let mut at = self.skip_space(at)?;
        loop {
            let end = self.word_end(at)?;
            let word = self.buf[at..end].to_ascii_uppercase();
            match word.as_slice() {
                b"LOW_PRIORITY" | b"DELAYED" | b"HIGH_PRIORITY" | b"IGNORE" => {
                    at = self.skip_space(end)?;
                }
                b"INTO" => {
                    at = self.skip_space(end)?;
                    break;
                }
                _ => break,
            }
        }
        let (mut table, mut end) = self.name(at)?;
        at = self.skip_space(end)?;
        if self.byte(at)? == b'.' {
            (table, end) = self.name(self.skip_space(at + 1)?)?;
            at = self.skip_space(end)?;
        }
        let mut columns = Vec::new();
        if self.byte(at)? == b'(' {
            loop {
                let (name, end) = self.name(self.skip_space(at + 1)?)?;
                columns.push(name.to_lowercase());
                at = self.skip_space(end)?;
                match self.byte(at)? {
                    b',' => {}
                    b')' => break,
                    _ => return wrong(SqlProblem::Head, at),
                }
            }
            at = self.skip_space(at + 1)?;
        }
        let end = self.word_end(at)?;
        let word = &self.buf[at..end];
        if word.eq_ignore_ascii_case(b"VALUES") || word.eq_ignore_ascii_case(b"VALUE") {
            return Ok(Head {
                table: table.to_lowercase(),
                columns,
                start: at,
                end,
            });
        }
        if at >= self.buf.len() {
            return more(self.at_end, SqlProblem::OpenStatement, at);
        }
        wrong(SqlProblem::NoValues, at)
    }

    /// Where the tokens of a statement that is skipped end so far, and whether its semicolon was among
    /// them.
    pub fn skip_statement(&self, mut at: usize) -> Result<(usize, bool), (SqlProblem, usize)> {
        loop {
            match self.skip_token(at) {
                Ok((next, true)) => return Ok((next, true)),
                Ok((next, false)) => at = next,
                Err(Miss::More) => return Ok((at, false)),
                Err(Miss::Wrong(problem, at)) => return Err((problem, at)),
            }
        }
    }

    fn skip_token(&self, at: usize) -> Seen<(usize, bool)> {
        let next = self.skip_space(at)?;
        if next > at {
            return Ok((next, false));
        }
        if self.at_end && at >= self.buf.len() {
            return Ok((at, true));
        }
        Ok(match self.byte(at)? {
            b';' => (at + 1, true),
            b'\'' | b'"' | b'`' => (self.quoted(at)?.0, false),
            byte if is_word(byte) => {
                let rest = &self.buf[at..];
                let len = rest.iter().position(|b| !is_word(*b));
                (at + len.unwrap_or(rest.len()), false)
            }
            _ => (at + 1, false),
        })
    }

    /// What follows a row or VALUES.
    pub fn between(&self, at: usize) -> Seen<Between> {
        let mut at = self.skip_space(at)?;
        if self.byte(at)? == b',' {
            at = self.skip_space(at + 1)?;
        }
        match self.byte(at)? {
            b'(' => Ok(Between::Row(at)),
            b';' => Ok(Between::End(at + 1)),
            0 if at >= self.buf.len() => Ok(Between::End(at)),
            _ => {
                let end = self.word_end(at)?;
                let on = self.buf[at..end].eq_ignore_ascii_case(b"ON");
                wrong(
                    if on {
                        SqlProblem::OnDuplicate
                    } else {
                        SqlProblem::Expression
                    },
                    at,
                )
            }
        }
    }

    /// Reads the row at `at`, its parenthesis, into `out` and gives its end.
    pub fn row(&self, at: usize, out: &mut Cells) -> Seen<usize> {
        let mut at = self.skip_space(at + 1)?;
        if self.byte(at)? == b')' {
            return Ok(at + 1);
        }
        loop {
            at = self.value(at, out)?;
            at = self.skip_space(at)?;
            match self.byte(at)? {
                b',' => at = self.skip_space(at + 1)?,
                b')' => return Ok(at + 1),
                0 if at >= self.buf.len() => return wrong(SqlProblem::OpenRow, at),
                _ => return wrong(SqlProblem::Expression, at),
            }
        }
    }

    /// Where the row at `start` ends, which cannot be read: with its parenthesis, before the end of the statement, or,
    /// where quotes do not match, with the first line that ends as rows do. `None`: with the file.
    pub fn malformed_end(&self, start: usize) -> Seen<Option<usize>> {
        let line = self.line_of_rows(start);
        let (mut at, mut depth) = (start, 0usize);
        loop {
            let next = match self.skip_token(at) {
                Ok((next, _)) => next,
                Err(Miss::More) if line.is_none() => return Err(Miss::More),
                Err(_) => return Ok(line),
            };
            if line.is_some_and(|line| next > line) {
                return Ok(line);
            }
            match self.buf.get(at) {
                None if self.at_end => return Ok(line),
                None if line.is_none() => return Err(Miss::More),
                None => return Ok(line),
                Some(b'(') => depth += 1,
                Some(b')') if depth <= 1 => return Ok(Some(next)),
                Some(b')') => depth -= 1,
                Some(b';') => return Ok(Some(at)),
                Some(_) => {}
            }
            at = next;
        }
    }

    /// Behind the first parenthesis from `start` on that a comma or a semicolon and the end of the line follow.
    fn line_of_rows(&self, start: usize) -> Option<usize> {
        memchr::memchr_iter(b'\n', &self.buf[start..]).find_map(|len| {
            let line = &self.buf[start..start + len];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let row = line.strip_suffix(b",").or(line.strip_suffix(b";"))?;
            row.ends_with(b")").then_some(start + row.len())
        })
    }

    fn value(&self, at: usize, out: &mut Cells) -> Seen<usize> {
        match self.byte(at)? {
            b'\'' | b'"' => self.text(at, self.encoding, out),
            byte if byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.') => {
                self.number(at, out)
            }
            byte if is_word(byte) => self.word_value(at, out),
            0 if at >= self.buf.len() => more(self.at_end, SqlProblem::OpenRow, at),
            _ => wrong(SqlProblem::Expression, at),
        }
    }

    /// One or more quoted texts side by side.
    fn text(&self, at: usize, encoding: TextEncoding, out: &mut Cells) -> Seen<usize> {
        let (end, escaped) = self.quoted(at)?;
        let next = self.skip_space(end)?;
        let single = !matches!(self.byte(next)?, b'\'' | b'"');
        let same = || encoding == TextEncoding::AsIs || self.buf[at..end].is_ascii();
        if single && !escaped && same() {
            out.push(Cell::Text(Span::buffer(at + 1, end - 1)));
            return Ok(end);
        }
        let start = out.arena.len();
        self.unquote(&self.buf[at..end], &mut out.arena);
        let (mut end, mut next) = (end, next);
        while matches!(self.byte(next)?, b'\'' | b'"') {
            end = self.quoted(next)?.0;
            self.unquote(&self.buf[next..end], &mut out.arena);
            next = self.skip_space(end)?;
        }
        if encoding != TextEncoding::AsIs {
            let bytes = out.arena.split_off(start);
            encoding.decode(&bytes, self.invalid, &mut out.arena);
        }
        out.push(Cell::Text(Span::arena(start, out.arena.len())));
        Ok(end)
    }

    fn number(&self, at: usize, out: &mut Cells) -> Seen<usize> {
        let signed = matches!(self.byte(at)?, b'-' | b'+');
        let start = if signed { self.skip_space(at + 1)? } else { at };
        if self.byte(start)? == b'0' && !signed {
            let radix = self.byte(start + 1)?;
            if matches!(radix, b'x' | b'b') {
                let end = self.word_end(start)?;
                return self.digits(radix, start + 2..end, end, out);
            }
        }
        let mut end = start;
        let mut previous = 0;
        loop {
            let byte = self.byte(end)?;
            let exponent_sign = matches!(byte, b'-' | b'+') && matches!(previous, b'e' | b'E');
            if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || exponent_sign) {
                break;
            }
            (end, previous) = (end + 1, byte);
        }
        let written = &self.buf[start..end];
        if written.is_empty() || is_word(self.byte(end)?) {
            return wrong(SqlProblem::Expression, at);
        }
        let text = std::str::from_utf8(written).unwrap_or_default();
        let minus = signed && self.buf[at] == b'-';
        let cell = match text.parse::<u64>() {
            Ok(number) if !minus => Some(Cell::UInt(number)),
            // -2^63 has no positive counterpart among the signed ones.
            Ok(number) => 0i64.checked_sub_unsigned(number).map(Cell::Int),
            Err(_) => None,
        };
        let contiguous = start == at + usize::from(signed);
        match cell {
            Some(cell) => out.push(cell),
            None if contiguous => out.push(Cell::Text(Span::buffer(at, end))),
            None => return wrong(SqlProblem::Expression, at),
        }
        Ok(end)
    }

    fn digits(
        &self,
        radix: u8,
        digits: std::ops::Range<usize>,
        end: usize,
        out: &mut Cells,
    ) -> Seen<usize> {
        let at = digits.start;
        let (start, written) = (out.arena.len(), &self.buf[digits]);
        let good = match radix.to_ascii_lowercase() {
            b'x' => from_hex(written, &mut out.arena),
            _ => from_bits(written, &mut out.arena),
        };
        if !good {
            return wrong(SqlProblem::Digits, at);
        }
        out.push(Cell::Binary(Span::arena(start, out.arena.len())));
        Ok(end)
    }

    fn word_value(&self, at: usize, out: &mut Cells) -> Seen<usize> {
        let end = self.word_end(at)?;
        let word = self.buf[at..end].to_ascii_lowercase();
        let next = self.skip_space(end)?;
        let quote = self.byte(next)?;
        match (word.as_slice(), quote) {
            (b"null", _) => out.push(Cell::Null),
            (b"true", _) => out.push(Cell::UInt(1)),
            (b"false", _) => out.push(Cell::UInt(0)),
            (b"default", _) => return wrong(SqlProblem::Default, at),
            (b"x" | b"b", b'\'') if next == end => {
                let (end, _) = self.quoted(next)?;
                if word == b"x" && (end - next) % 2 == 1 {
                    return wrong(SqlProblem::Digits, at);
                }
                return self.digits(word[0], next + 1..end - 1, end, out);
            }
            (b"n", b'\'') if next == end => return self.text(next, TextEncoding::AsIs, out),
            ([b'_', set @ ..], _) => return self.introduced(set, at, next, out),
            (b"convert", b'(') => return self.converted(next, out),
            _ => return wrong(SqlProblem::Expression, at),
        }
        Ok(end)
    }

    /// `_utf8mb4'x'`, `_binary 0x41`.
    fn introduced(&self, set: &[u8], at: usize, next: usize, out: &mut Cells) -> Seen<usize> {
        let encoding = match set {
            b"binary" | b"utf8mb4" | b"utf8" | b"utf8mb3" | b"ascii" => TextEncoding::AsIs,
            b"latin1" => TextEncoding::Latin1,
            b"gbk" => TextEncoding::Gbk,
            b"gb18030" => TextEncoding::Gb18030,
            _ => return wrong(SqlProblem::Introducer, at),
        };
        if matches!(self.byte(next)?, b'\'' | b'"') {
            return self.text(next, encoding, out);
        }
        let end = self.value(next, out)?;
        match out.cells.last_mut() {
            // The introducer makes the literal a text.
            Some(cell @ Cell::Binary(_)) => {
                if let (Cell::Binary(span), TextEncoding::AsIs) = (*cell, encoding) {
                    *cell = if set == b"binary" {
                        *cell
                    } else {
                        Cell::Text(span)
                    };
                    return Ok(end);
                }
                wrong(SqlProblem::Introducer, at)
            }
            _ => wrong(SqlProblem::Expression, at),
        }
    }

    /// `CONVERT('{}' USING UTF8MB4)`, as Dumpling and mydumper write JSON.
    fn converted(&self, open: usize, out: &mut Cells) -> Seen<usize> {
        let at = self.skip_space(open + 1)?;
        let at = self.skip_space(self.value(at, out)?)?;
        let end = self.word_end(at)?;
        if !self.buf[at..end].eq_ignore_ascii_case(b"USING") {
            return wrong(SqlProblem::Expression, at);
        }
        let at = self.skip_space(end)?;
        let end = self.word_end(at)?;
        let set = self.buf[at..end].to_ascii_lowercase();
        if !matches!(
            set.as_slice(),
            b"utf8mb4" | b"utf8" | b"utf8mb3" | b"binary"
        ) {
            return wrong(SqlProblem::Introducer, at);
        }
        let at = self.skip_space(end)?;
        if self.byte(at)? == b')' {
            Ok(at + 1)
        } else {
            wrong(SqlProblem::Expression, at)
        }
    }
}

/// Bytes of a value: in the slice, or unescaped in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
    in_arena: bool,
}

impl Span {
    fn buffer(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
            in_arena: false,
        }
    }

    fn arena(start: usize, end: usize) -> Self {
        Self {
            in_arena: true,
            ..Self::buffer(start, end)
        }
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    UInt(u64),
    Text(Span),
    Binary(Span),
}

/// Values of some rows. Reused, so that it stops allocating.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub cells: Vec<Cell>,
    pub arena: Vec<u8>,
}

impl Cells {
    /// What is written from `start` to `end`.
    pub fn push_written(&mut self, start: usize, end: usize) {
        self.push(Cell::Text(Span::buffer(start, end)));
    }

    fn push(&mut self, cell: Cell) {
        self.cells.push(cell);
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.cells.clear();
        self.arena.clear();
    }

    /// The bytes of `span`; `buf` is the slice that was read.
    pub fn bytes<'a>(&'a self, span: Span, buf: &'a [u8]) -> &'a [u8] {
        let from = if span.in_arena { &self.arena } else { buf };
        from.get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }
}
