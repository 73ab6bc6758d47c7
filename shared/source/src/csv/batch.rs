//! What the lexer finds in a slice: records, their fields, and why it stopped.

/// Where a field's meaning is: in the buffer, or unescaped in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(super) start: u32,
    /// The top bit is set if the bytes are in the batch's own arena.
    pub(super) end: u32,
}

pub(super) const IN_ARENA: u32 = 1 << 31;

impl Span {
    pub(super) const NULL: Span = Span {
        start: u32::MAX,
        end: u32::MAX,
    };

    /// Bytes of the parsed slice.
    #[inline(always)]
    pub(super) fn buffer(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}

impl Span {
    /// Bytes of the batch's own arena, unless they mean NULL.
    #[inline(always)]
    pub(super) fn arena(start: usize, end: usize, null: bool) -> Self {
        if null {
            return Self::NULL;
        }
        Self {
            start: start as u32,
            end: end as u32 | IN_ARENA,
        }
    }
}

/// One record of a [`Batch`]; positions are relative to the parsed slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSpan {
    /// First byte.
    pub start: u32,
    /// After the last byte, without the terminator.
    pub end: u32,
    /// Line ends in the slice before `start`.
    pub lines_before: u32,
    pub(super) first_field: u32,
}

/// Records found in a slice. Reused from call to call, so that it stops allocating.
#[derive(Debug, Default)]
pub struct Batch {
    /// The first `used` are fields; the others are room for more.
    pub(super) fields: Vec<Span>,
    pub(super) used: usize,
    pub(super) rows: Vec<RowSpan>,
    pub(super) arena: Arena,
    /// Rows that are no records, in order.
    malformed: Vec<(usize, SyntaxError)>,
}

/// Texts that are not in the buffer as they are meant. Its memory is only ever filled with zeros once: most texts are
/// shorter than the call that would do it again.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    used: usize,
}

impl Arena {
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Forgets what was written behind `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.used = self.used.min(len);
    }

    /// What was written from `start` on.
    pub(super) fn written(&self, start: usize) -> &[u8] {
        &self.bytes[start..self.used]
    }

    /// Room for a text of at most `len` bytes; [`Arena::take`] says how long it is.
    #[inline(always)]
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.used < len {
            self.grow(len);
        }
        &mut self.bytes[self.used..][..len]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.bytes.resize(2 * self.used + len.max(1 << 10), 0);
    }

    /// The first `len` bytes of the room are text.
    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) {
        debug_assert!(self.bytes.len() - self.used >= len);
        self.used += len;
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        self.room(text.len()).copy_from_slice(text);
        self.take(text.len());
    }
}

/// Room for the fields of a block, so that writing one needs no look at the length.
pub(super) struct Slots;

impl Slots {
    /// A field ends with a byte of the block.
    pub(super) const COUNT: usize = 64;

    /// Behind the first `used` of `fields`.
    #[inline(always)]
    pub(super) fn of(fields: &mut Vec<Span>, used: usize) -> &mut [Span; Self::COUNT] {
        if fields.len() < used + Self::COUNT {
            Self::make(fields, used);
        }
        fields[used..]
            .first_chunk_mut()
            .expect("there is room for a block")
    }

    #[cold]
    fn make(fields: &mut Vec<Span>, used: usize) {
        fields.resize(2 * used + 16 * Self::COUNT, Span::NULL);
    }
}

impl Batch {
    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.rows.clear();
        self.arena.clear();
        self.malformed.clear();
    }

    /// Forgets the fields of a record that came to nothing.
    pub(super) fn drop_fields(&mut self, first_field: usize, arena_len: usize) {
        self.used = first_field;
        self.arena.truncate(arena_len);
    }

    #[cold]
    pub(super) fn push_malformed(
        &mut self,
        start: usize,
        end: usize,
        lines_before: u32,
        error: SyntaxError,
    ) {
        self.malformed.push((self.rows.len(), error));
        self.rows.push(RowSpan {
            start: start as u32,
            end: end as u32,
            lines_before,
            first_field: self.used as u32,
        });
    }

    /// Why row `row`, which has no fields then, is no record.
    #[inline]
    pub fn malformed(&self, row: usize) -> Option<SyntaxError> {
        if self.malformed.is_empty() {
            return None;
        }
        let found = self.malformed.binary_search_by_key(&row, |(at, _)| *at);
        found.ok().map(|at| self.malformed[at].1)
    }

    /// The records in source order.
    #[inline]
    pub fn rows(&self) -> &[RowSpan] {
        &self.rows
    }

    /// The fields of record `row`.
    #[inline]
    pub fn fields(&self, row: usize) -> &[Span] {
        let end = self
            .rows
            .get(row + 1)
            .map_or(self.used, |next| next.first_field as usize);
        self.rows
            .get(row)
            .map_or(&[], |r| &self.fields[r.first_field as usize..end])
    }

    pub(super) fn push(&mut self, field: Span) {
        match self.fields.get_mut(self.used) {
            Some(slot) => *slot = field,
            None => self.fields.push(field),
        }
        self.used += 1;
    }

    /// The meaning of a field, `None` for NULL. `buf` is the slice that was parsed.
    #[inline]
    pub fn text<'a>(&'a self, span: Span, buf: &'a [u8]) -> Option<&'a [u8]> {
        if span.end & IN_ARENA == 0 {
            return buf.get(span.start as usize..span.end as usize);
        }
        if span == Span::NULL {
            return None;
        }
        let end = (span.end & !IN_ARENA) as usize;
        self.arena.bytes.get(span.start as usize..end)
    }
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxKind {
    /// `x"y`
    #[error("quote inside a field that does not start with one")]
    QuoteInField,
    /// `"x"y`
    #[error("text after the closing quote of a field")]
    TextAfterQuote,
    /// End of input inside quotes.
    #[error("unterminated quoted field: the file ends before the quote that opens here is closed")]
    UnterminatedQuote,
    /// End of input after the escape.
    #[error("no character after the escape character at the end of the file")]
    LoneEscape,
}

impl SyntaxKind {
    /// The file ends too early: it is not complete, and how much of it belongs to this record nobody knows.
    pub(super) fn is_end_of_file(self) -> bool {
        matches!(self, Self::UnterminatedQuote | Self::LoneEscape)
    }
}

/// A record that cannot be read, with its place in the parsed slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The reason.
    pub kind: SyntaxKind,
    /// The byte to look at; for an unterminated quote the one that opens it.
    pub at: usize,
    /// Index of the field, from 0.
    pub column: usize,
}

/// Why a call to [`Core::parse`] came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The batch holds as many rows as were asked for.
    Full,
    /// The bytes after `consumed` are not a complete record.
    NeedMore,
    /// Everything was read.
    End,
    /// The record after the ones in the batch is wrong.
    Syntax(SyntaxError),
}

/// What a call to [`Core::parse`] used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes that need not be seen again.
    pub consumed: usize,
    /// Line ends in them.
    pub lines: u32,
    /// Records in them.
    pub rows: usize,
    /// Why it stopped.
    pub stop: Stop,
}
