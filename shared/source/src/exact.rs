//! Cuts any CSV file at true record boundaries in parallel, quoted line ends and escapes included.
//!
//! 1. The file is divided into pieces of equal size, wherever that is.
//! 2. Each piece is read once, by as many threads as there are, and becomes a [`Transition`]: what it does to
//!    every state the lexer could enter it with.
//! 3. A pass over the pieces chains exits to entries, which gives the true first record, the rows and the lines
//!    of each piece.
//!
//! Where the chain breaks, the file has a syntax error; then there is no plan here, and the sequential scan
//! names the error.

use std::io::Read;
use std::num::NonZero;

use crate::bytes::{ByteSource, io_error};
use crate::csv::{Core, CsvDialect, Exit, Mode, State, Transition};
use crate::error::{Place, SourceError};
use crate::reader::ChunkReader;
use crate::side_by_side::side_by_side;
use crate::split::Chunk;

/// Bytes of a block: entries fall together in the first, small one; later ones stay in the cache.
const FIRST_BLOCK: usize = 4 << 10;
const BLOCK: usize = 256 << 10;

/// Chunks of about `chunk_bytes` with exact rows and lines; `None` where the sequential scan has to look.
pub(crate) fn plan(
    source: &dyn ByteSource,
    size: u64,
    dialect: &CsvDialect,
    chunk_bytes: u64,
) -> Result<Option<Vec<Chunk>>, SourceError> {
    let core = Core::new(dialect);
    // One piece is read by one thread anyway.
    if size <= chunk_bytes || !core.has_transitions() {
        return Ok(None);
    }
    // The header and what precedes it are not divided.
    let reader = ChunkReader::open(source, &Chunk::whole(), dialect)?;
    let (start, first_line) = (reader.offset(), reader.line());
    drop(reader);
    let mut borders: Vec<u64> =
        std::iter::successors(Some(chunk_bytes), |at| at.checked_add(chunk_bytes))
            .take_while(|at| *at < size)
            .filter(|at| *at > start)
            .collect();
    borders.insert(0, start);
    borders.push(size);
    let pieces = read_pieces(source, &core, &borders)?;
    Ok(chain(&core, &borders, &pieces, first_line))
}

/// Reads all pieces, several at once.
fn read_pieces<'a>(
    source: &dyn ByteSource,
    core: &'a Core,
    borders: &[u64],
) -> Result<Vec<Transition<'a>>, SourceError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    side_by_side(borders.len() - 1, threads, |at| {
        read_piece(source, core, borders, at)
    })
}

fn read_piece<'a>(
    source: &dyn ByteSource,
    core: &'a Core,
    borders: &[u64],
    index: usize,
) -> Result<Transition<'a>, SourceError> {
    let (start, end) = (borders[index], borders[index + 1]);
    let size = borders.last().copied().unwrap_or(end);
    let mut piece = if index == 0 {
        Transition::known(core, start)
    } else {
        Transition::unknown(core, start)
    };
    let ahead = core.lookahead();
    let mut stream = source.open(start).map_err(|e| io_error(source, start, e))?;
    let mut buf: Vec<u8> = Vec::with_capacity(BLOCK + ahead);
    let (mut at, mut len) = (start, FIRST_BLOCK);
    while at < end {
        let len_here = len.min(usize::try_from(end - at).unwrap_or(len));
        let wanted = (len_here + ahead).min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let missing = wanted.saturating_sub(buf.len()) as u64;
        let got = stream
            .by_ref()
            .take(missing)
            .read_to_end(&mut buf)
            .map_err(|e| io_error(source, at, e))?;
        if (got as u64) < missing {
            return Err(SourceError::Truncated {
                place: Place {
                    path: source.name().to_owned(),
                    line: 0,
                    byte: at + buf.len() as u64,
                },
                expected: size,
            });
        }
        let at_end = at + buf.len() as u64 == size;
        piece.block(&buf, at, len_here, at_end);
        buf.drain(..len_here);
        at += len_here as u64;
        len = BLOCK;
    }
    Ok(piece)
}

/// Follows the true states from piece to piece; `None` where they end before the file does.
fn chain(
    core: &Core,
    borders: &[u64],
    pieces: &[Transition<'_>],
    first_line: u64,
) -> Option<Vec<Chunk>> {
    let size = *borders.last()?;
    let mut state = State {
        mode: Mode::Record,
        at: *borders.first()?,
    };
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open = Chunk {
        first_line: 1,
        rows_exact: true,
        ..Chunk::whole()
    };
    // Lines before the piece.
    let mut line = first_line;
    for (index, piece) in pieces.iter().enumerate() {
        let Exit {
            state: exit,
            rows,
            first,
        } = piece.exit(state)?;
        let cut = match state.mode {
            // The piece before ended with a record.
            Mode::Record => Some((state.at, 0, piece.lines_to(state.at))),
            _ => first.map(|first| (first.at, first.rows, first.lines)),
        };
        match cut {
            // A piece without a record has no chunk of its own.
            Some((at, rows_before, lines))
                if index > 0
                    && at < size
                    && at > open.offset
                    && open.rows_max + rows_before > 0 =>
            {
                open.rows_max += rows_before;
                open.end = at;
                chunks.push(open.clone());
                open = Chunk {
                    offset: at,
                    first_line: line + lines,
                    rows_max: rows - rows_before,
                    ..open
                };
            }
            _ => open.rows_max += rows,
        }
        line += piece.lines();
        state = exit?;
    }
    open.end = size;
    open.rows_max += u64::from(core.ends_as_row(state.mode, state.at, size)?);
    if open.rows_max == 0
        && let Some(last) = chunks.last_mut()
    {
        // Only blank lines are left.
        last.end = size;
    } else {
        chunks.push(open);
    }
    Some(chunks)
}
