//! Reads the rows of a range of an SQL dump in bounded memory, and cuts dumps between two rows.

use std::io::Read;
use std::sync::Arc;

use thunderhead_config::SourceFormat;

use super::lex::{Miss, Seen, SqlProblem, Text};
use super::statement::{Between, Cell, Cells, Head, Start};
use crate::bytes::{ByteSource, ByteStream, io_error};
use crate::csv::TextEncoding;
use crate::error::SourceError;
use crate::format::text_encoding;
use crate::reader::open_chunk;
use crate::record::{Position, RecordReader, Value};
use crate::split::Chunk;
use crate::window::{Range, ReadLimits, Window};

/// A batch stays in the second-level cache together with its values.
const BATCH_ROWS: usize = 512;

/// A row of a batch; places count from the start of the batch's slice.
#[derive(Clone, Copy)]
struct RowAt {
    start: u32,
    lines_before: u32,
    first_cell: u32,
}

/// The INSERT that rows belong to.
#[derive(Clone)]
struct Statement {
    /// Where it starts in the file.
    offset: u64,
    table: String,
    columns: Option<Arc<[String]>>,
    /// Its rows are those of another table.
    skipped: bool,
}

/// Reads a chunk of a dump.
pub struct SqlReader<R = ByteStream> {
    window: Window<R>,
    escapes: bool,
    encoding: TextEncoding,
    invalid: String,
    /// The only table that is wanted.
    table: Option<String>,
    /// The table of the first statement.
    seen: Option<String>,
    /// Every table that had a statement, in order.
    tables: Vec<String>,
    /// `None` between statements.
    statement: Option<Statement>,
    /// In the middle of a statement without rows.
    skipping: bool,
    cells: Cells,
    rows: Vec<RowAt>,
    skip_malformed: bool,
    /// More of the file follows the range, perhaps another row.
    is_part: bool,
    /// Rows at hand that cannot be read, in order, why, and where.
    malformed: Vec<(usize, SqlProblem, usize)>,
    /// Column list of the rows at hand.
    columns: Option<Arc<[String]>>,
    batch_at: (usize, Option<u64>),
    pending: Option<SourceError>,
}

impl SqlReader<ByteStream> {
    /// Opens `chunk` of `source`.
    pub fn open(
        source: &dyn ByteSource,
        chunk: &Chunk,
        format: &SourceFormat,
    ) -> Result<Self, SourceError> {
        Self::open_with(source, chunk, format, ReadLimits::default())
    }

    /// Opens `chunk` of `source`. If it starts inside of a statement, that statement's head is read here.
    pub fn open_with(
        source: &dyn ByteSource,
        chunk: &Chunk,
        format: &SourceFormat,
        limits: ReadLimits,
    ) -> Result<Self, SourceError> {
        let statement = match chunk.statement {
            None => None,
            Some(offset) => Some(head_at(source, offset, format)?),
        };
        let (stream, length) = open_chunk(source, chunk)?;
        let range = Range {
            path: source.name().to_owned(),
            offset: chunk.offset,
            length,
            first_line: chunk.first_line,
        };
        let mut reader = Self::new(stream, range, format, limits)?;
        let size = source.size().map_err(|e| io_error(source, 0, e))?;
        reader.is_part = size.is_some_and(|size| chunk.end < size);
        reader.seen = statement.as_ref().map(|s| s.table.clone());
        reader.statement = statement;
        Ok(reader)
    }
}

/// The head of the statement at `offset`.
fn head_at(
    source: &dyn ByteSource,
    offset: u64,
    format: &SourceFormat,
) -> Result<Statement, SourceError> {
    let chunk = Chunk {
        offset,
        ..Chunk::whole()
    };
    // A head is short, its rows are not needed.
    let limits = ReadLimits {
        read_bytes: 16 << 10,
        ..ReadLimits::default()
    };
    let mut reader = SqlReader::open_with(source, &chunk, format, limits)?;
    while reader.statement.is_none() {
        if !reader.between_statements()? {
            return Err(reader.problem(SqlProblem::OpenStatement, 0));
        }
    }
    let statement = reader.statement.take();
    statement.ok_or_else(|| reader.problem(SqlProblem::OpenStatement, 0))
}

impl<R: Read> SqlReader<R> {
    /// Reads `range` of `stream`.
    pub(crate) fn new(
        stream: R,
        range: Range,
        format: &SourceFormat,
        limits: ReadLimits,
    ) -> Result<Self, SourceError> {
        let at_start = range.offset == 0;
        let mut reader = Self {
            window: Window::new(stream, range, Some(b'\n'), limits),
            escapes: !format.sql.no_backslash_escapes,
            encoding: text_encoding(format.csv.character_set),
            invalid: format.csv.invalid_char_replace.clone(),
            table: format.sql.table.clone(),
            seen: None,
            tables: Vec::new(),
            statement: None,
            skipping: false,
            cells: Cells::default(),
            rows: Vec::new(),
            skip_malformed: format.skip_malformed,
            is_part: false,
            malformed: Vec::new(),
            columns: None,
            batch_at: (0, None),
            pending: None,
        };
        if at_start {
            reader.window.skip_bom()?;
        }
        Ok(reader)
    }

    fn text(&self) -> Text<'_> {
        Text {
            buf: self.window.rest(),
            at_end: self.window.at_end(),
            escapes: self.escapes,
            encoding: self.encoding,
            invalid: &self.invalid,
        }
    }

    fn problem(&self, problem: SqlProblem, at: usize) -> SourceError {
        SourceError::Sql {
            place: self.window.place(at),
            problem,
        }
    }

    /// Goes to the rows of the next INSERT; false at the end of the file.
    fn between_statements(&mut self) -> Result<bool, SourceError> {
        if self.skipping {
            let (end, done) = self
                .text()
                .skip_statement(0)
                .map_err(|(problem, at)| self.problem(problem, at))?;
            self.window.consume_counted(end);
            self.skipping = !done;
            if end == 0 && !done {
                self.window.refill()?;
            }
            return Ok(true);
        }
        match self.text().start(0) {
            Err(Miss::More) => self.window.refill()?,
            Err(Miss::Wrong(problem, at)) => return Err(self.problem(problem, at)),
            Ok(Start::End(end)) => {
                self.window.consume_counted(end);
                return Ok(false);
            }
            Ok(Start::Program(end)) => self.window.consume_counted(end),
            Ok(Start::Other(start)) => {
                self.window.consume_counted(start);
                self.skipping = true;
            }
            Ok(Start::Insert(head)) => self.enter(head)?,
        }
        Ok(true)
    }

    fn enter(&mut self, head: Head) -> Result<(), SourceError> {
        let skipped = match (&self.table, &self.seen) {
            (Some(wanted), _) => *wanted != head.table,
            (None, Some(seen)) if *seen != head.table => {
                return Err(self.problem(SqlProblem::OtherTable, head.start));
            }
            _ => false,
        };
        if !self.tables.contains(&head.table) {
            self.tables.push(head.table.clone());
        }
        self.seen = Some(head.table.clone());
        self.statement = Some(Statement {
            offset: self.window.offset() + head.start as u64,
            table: head.table,
            columns: (!head.columns.is_empty()).then(|| head.columns.into()),
            skipped,
        });
        self.window.consume_counted(head.end);
        Ok(())
    }

    /// Reads rows of one statement until there are some; false at the end of the file.
    fn parse(&mut self, rows_max: usize, until: u64) -> Result<bool, SourceError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        self.forget_rows();
        loop {
            let Some(statement) = &self.statement else {
                if !self.between_statements()? {
                    return Ok(false);
                }
                continue;
            };
            let skipped = statement.skipped;
            self.columns.clone_from(&statement.columns);
            self.batch_at = (self.window.parsed(), self.window.lines());
            let (consumed, ended, problem) = self.rows_here(rows_max, until);
            let error = problem.map(|(problem, at)| self.problem(problem, at));
            self.window.consume_counted(consumed);
            if ended {
                self.statement = None;
            }
            if skipped {
                self.forget_rows();
            }
            if !self.rows.is_empty() {
                self.pending = error;
                return Ok(true);
            }
            if let Some(error) = error {
                return Err(error);
            }
            if self.window.offset() >= until {
                return Ok(true);
            }
            if consumed == 0 {
                self.window.refill()?;
            }
        }
    }

    fn forget_rows(&mut self) {
        self.rows.clear();
        self.cells.clear();
        self.malformed.clear();
    }

    /// The end of the row at `start`, which cannot be read, and why not; the problem again where nothing can be read
    /// behind it.
    fn past_malformed(&self, start: usize, wrong: Miss) -> Seen<(usize, SqlProblem, usize)> {
        let text = self.text();
        let (problem, at) = match wrong {
            Miss::Wrong(problem, at) => (problem, at),
            Miss::More if text.at_end => (SqlProblem::OpenRow, start),
            Miss::More => return Err(Miss::More),
        };
        if !self.skip_malformed || !problem.is_of_a_row() {
            return Err(wrong);
        }
        let end = match text.malformed_end(start)? {
            Some(end) => end,
            // A part ends with a row. The file itself is not complete.
            None if self.is_part => text.buf.len(),
            None => return Err(wrong),
        };
        // What follows the row must not decide what is said of it: it may be part of another range.
        let alone = Text {
            buf: &text.buf[..end],
            at_end: true,
            ..text
        };
        Ok(match alone.row(start, &mut Cells::default()) {
            Err(Miss::Wrong(problem, at)) => (end, problem, at),
            _ => (end, problem, at),
        })
    }

    /// Reads rows from the rest of the window: bytes they take, whether the statement ended, and what is
    /// wrong with the next one.
    fn rows_here(
        &mut self,
        rows_max: usize,
        until: u64,
    ) -> (usize, bool, Option<(SqlProblem, usize)>) {
        let base = self.window.offset();
        let mut cells = std::mem::take(&mut self.cells);
        let mut rows = std::mem::take(&mut self.rows);
        let mut malformed = std::mem::take(&mut self.malformed);
        let text = self.text();
        let (mut at, mut lines, mut counted) = (0, 0u32, 0);
        let outcome = loop {
            if rows.len() >= rows_max || base + at as u64 >= until {
                break (false, None);
            }
            let first_cell = cells.cells.len();
            let arena_len = cells.arena.len();
            let row = match text.between(at) {
                Ok(Between::End(end)) => {
                    at = end;
                    break (true, None);
                }
                Ok(Between::Row(start)) => match text.row(start, &mut cells) {
                    Ok(end) => Ok((start, end)),
                    Err(miss) => self.past_malformed(start, miss).map(|(end, problem, at)| {
                        cells.cells.truncate(first_cell);
                        cells.arena.truncate(arena_len);
                        cells.push_written(start, end);
                        malformed.push((rows.len(), problem, at));
                        (start, end)
                    }),
                },
                Err(miss) => Err(miss),
            };
            match row {
                Ok((start, end)) => {
                    lines += memchr::memchr_iter(b'\n', &text.buf[counted..start]).count() as u32;
                    counted = start;
                    rows.push(RowAt {
                        start: start as u32,
                        lines_before: lines,
                        first_cell: first_cell as u32,
                    });
                    at = end;
                }
                Err(miss) => {
                    cells.cells.truncate(first_cell);
                    cells.arena.truncate(arena_len);
                    break match miss {
                        Miss::More if text.at_end => (false, Some((SqlProblem::OpenRow, at))),
                        Miss::More => (false, None),
                        Miss::Wrong(problem, at) => (false, Some((problem, at))),
                    };
                }
            }
        };
        self.cells = cells;
        self.rows = rows;
        self.malformed = malformed;
        (at, outcome.0, outcome.1)
    }
}

impl<R: Read + Send> RecordReader for SqlReader<R> {
    fn advance(&mut self) -> Result<usize, SourceError> {
        Ok(if self.parse(BATCH_ROWS, u64::MAX)? {
            self.rows.len()
        } else {
            0
        })
    }

    fn columns(&self) -> Option<&Arc<[String]>> {
        self.columns.as_ref()
    }

    fn record<'a>(&'a self, index: usize, values: &mut Vec<Value<'a>>) -> Position {
        let (start, lines) = self.batch_at;
        let buf = self.window.from(start);
        let row = self.rows[index];
        let end = self
            .rows
            .get(index + 1)
            .map_or(self.cells.cells.len(), |next| next.first_cell as usize);
        let cells = &self.cells.cells[row.first_cell as usize..end];
        values.extend(cells.iter().map(|cell| match cell {
            Cell::Null => Value::Null,
            Cell::Int(number) => Value::Int(*number),
            Cell::UInt(number) => Value::UInt(*number),
            Cell::Text(span) => Value::Text(self.cells.bytes(*span, buf)),
            Cell::Binary(span) => Value::Binary(self.cells.bytes(*span, buf)),
        }));
        Position {
            offset: self.window.offset_of(start) + u64::from(row.start),
            line: lines.map_or(0, |lines| lines + u64::from(row.lines_before) + 1),
        }
    }

    fn malformed(&self, index: usize) -> Option<SourceError> {
        if self.malformed.is_empty() {
            return None;
        }
        let found = self.malformed.binary_search_by_key(&index, |(at, ..)| *at);
        let (_, problem, at) = self.malformed[found.ok()?];
        let (start, lines) = self.batch_at;
        let place = self.window.place_from(start, lines, at);
        Some(SourceError::Sql { place, problem })
    }

    fn offset(&self) -> u64 {
        self.window.offset()
    }
}

/// The tables, in lower case, whose rows the dump `source` holds, in the order of their first rows.
pub fn tables_in(
    source: &dyn ByteSource,
    format: &SourceFormat,
) -> Result<Vec<String>, SourceError> {
    let mut format = format.clone();
    // No table has this name, so rows are passed over.
    format.sql.table = Some(String::new());
    let mut reader = SqlReader::open(source, &Chunk::whole(), &format)?;
    while reader.parse(BATCH_ROWS, u64::MAX)? {}
    Ok(reader.tables)
}

/// Cuts the dump `source` into chunks of about `chunk_bytes`, between two rows or two statements. Follows
/// every token, by the same code that reads them later.
pub fn plan_statements(
    source: &dyn ByteSource,
    format: &SourceFormat,
    chunk_bytes: u64,
) -> Result<Vec<Chunk>, SourceError> {
    let chunk_bytes = if source.seekable() {
        chunk_bytes.max(1)
    } else {
        u64::MAX
    };
    let mut reader = SqlReader::open(source, &Chunk::whole(), format)?;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut next = Chunk {
        end: 0,
        rows_exact: true,
        ..Chunk::whole()
    };
    loop {
        let target = next.offset.saturating_add(chunk_bytes);
        let more = reader.parse(BATCH_ROWS, target)?;
        next.rows_max += if more { reader.rows.len() as u64 } else { 0 };
        next.end = reader.offset();
        if more && next.end < target {
            continue;
        }
        match chunks.last_mut() {
            // Nothing but other statements is left.
            Some(last) if next.rows_max == 0 && !more => last.end = next.end,
            _ if next.end == next.offset => {}
            _ => chunks.push(next.clone()),
        }
        if !more {
            return Ok(chunks);
        }
        next = Chunk {
            offset: next.end,
            first_line: reader.window.lines().map_or(0, |lines| lines + 1),
            rows_max: 0,
            statement: reader.statement.as_ref().map(|s| s.offset),
            ..next
        };
    }
}
