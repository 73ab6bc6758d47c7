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
    pub(super) fields: Vec<Span>,
    pub(super) rows: Vec<RowSpan>,
    pub(super) arena: Vec<u8>,
}

impl Batch {
    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.rows.clear();
        self.arena.clear();
    }

    /// The records in source order.
    pub fn rows(&self) -> &[RowSpan] {
        &self.rows
    }

    /// The fields of record `row`.
    pub fn fields(&self, row: usize) -> &[Span] {
        let end = self
            .rows
            .get(row + 1)
            .map_or(self.fields.len(), |next| next.first_field as usize);
        self.rows
            .get(row)
            .map_or(&[], |r| &self.fields[r.first_field as usize..end])
    }

    /// The meaning of a field, `None` for NULL. `buf` is the slice that was parsed.
    #[inline]
    pub fn text<'a>(&'a self, span: Span, buf: &'a [u8]) -> Option<&'a [u8]> {
        if span == Span::NULL {
            return None;
        }
        let from = if span.end & IN_ARENA != 0 {
            &self.arena
        } else {
            buf
        };
        from.get(span.start as usize..(span.end & !IN_ARENA) as usize)
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
