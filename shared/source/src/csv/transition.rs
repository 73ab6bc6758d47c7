//! What a piece of a file does to the state of the lexer, for every state it could start in.
//!
//! Be careful when you change the lexer: this has to follow it step by step, and a property test holds the
//! two together. The idea: where a record ends depends on very little of what came before, namely on the
//! [`Mode`] of the lexer and how far into the piece its last token reached. So each piece is read once with
//! *all* these entries side by side, long before anyone knows the true one. Most entries fall together within a
//! few bytes (a field ends, and all modes outside of quotes agree), and most wrong ones die at the first quote
//! that cannot be where it is. What is left is one or two runs over the piece. A pass over the pieces then
//! chains exits to entries. Nothing is guessed: an entry that dies on the true path is a syntax error, which the
//! sequential reader will name.

use super::core::{Core, Match, Token};
use super::scan::Scan;

/// What the lexer is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Before the first byte of a record.
    Record,
    /// Before the first byte of another field.
    Field,
    /// In a field without quotes. `blank`: nothing but white space since the record started.
    Plain { blank: bool },
    /// Between quotes.
    Quoted,
    /// Behind a closing quote.
    Closed,
    /// In what is left of a malformed record.
    Malformed,
}

const MODES: [Mode; 7] = [
    Mode::Record,
    Mode::Field,
    Mode::Plain { blank: false },
    Mode::Plain { blank: true },
    Mode::Quoted,
    Mode::Closed,
    Mode::Malformed,
];

/// Where the lexer goes on, as an offset in the file, and in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub mode: Mode,
    pub at: u64,
}

/// The first place in a piece where a record starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub at: u64,
    /// Records that ended there: one, or none after a blank line.
    pub rows: u64,
    /// Line ends of the piece before it.
    pub lines: u64,
}

/// What a piece does to one entry state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    /// `None`: no file with this entry can be read.
    pub state: Option<State>,
    /// Records that ended in the piece.
    pub rows: u64,
    pub first: Option<First>,
}

/// A run of the lexer that several entries share.
#[derive(Clone, Copy)]
struct Run {
    state: Option<State>,
    rows: u64,
    first: Option<First>,
}

struct Entry {
    state: State,
    run: usize,
    /// Rows this entry had more than its run when they fell together.
    rows_ahead: i64,
    /// Its own first record, where it had one by then.
    first: Option<First>,
}

/// Reads a piece block by block.
pub(crate) struct Transition<'a> {
    core: &'a Core,
    entries: Vec<Entry>,
    runs: Vec<Run>,
    /// Where the piece starts, and the bytes there that a token of the piece before may reach into.
    start: u64,
    head: Vec<u8>,
    /// Line ends of the piece so far.
    lines: u64,
}

impl Core {
    /// Bytes behind a block that must be in sight, so that no token of the block is cut.
    pub(crate) fn lookahead(&self) -> usize {
        let longest = self.separator.len().max(self.terminator.len()).max(2);
        2 * self.quote.len() + self.escape.len() + longest + 1
    }

    /// How far the last token of a piece may reach into the next one.
    fn reach(&self) -> usize {
        let token = self.separator.len().max(self.terminator.len()).max(2);
        token.max(2 * self.quote.len()).max(self.escape.len() + 1)
    }

    /// Whether the end of the file ends one more record; `None` where it must not end there.
    pub(crate) fn ends_as_row(&self, mode: Mode, at: u64, size: u64) -> Option<bool> {
        match mode {
            _ if at > size => None,
            Mode::Quoted => None,
            Mode::Record => Some(false),
            Mode::Plain { blank: true } => Some(self.lenient),
            Mode::Plain { blank: false } | Mode::Field | Mode::Closed | Mode::Malformed => {
                Some(true)
            }
        }
    }

    /// Whether pieces can be read on their own: a prefix of records would have to be found first, and a piece may
    /// begin inside of a character whose second byte looks like a token.
    pub(crate) fn has_transitions(&self) -> bool {
        self.starting.is_empty() && !self.text.hides_ascii()
    }
}

impl<'a> Transition<'a> {
    /// For a piece that starts at `start`, in any state.
    pub(crate) fn unknown(core: &'a Core, start: u64) -> Self {
        let reach = core.reach() as u64;
        let modes = MODES
            .into_iter()
            .filter(|mode| core.skip_malformed || *mode != Mode::Malformed);
        let states = (0..reach).flat_map(|skip| {
            let at = start + skip;
            modes.clone().map(move |mode| State { mode, at })
        });
        Self::new(core, start, states)
    }

    /// For the first piece: records start at `start`.
    pub(crate) fn known(core: &'a Core, start: u64) -> Self {
        let state = State {
            mode: Mode::Record,
            at: start,
        };
        Self::new(core, start, std::iter::once(state))
    }

    fn new(core: &'a Core, start: u64, states: impl Iterator<Item = State>) -> Self {
        let (mut entries, mut runs) = (Vec::new(), Vec::new());
        for state in states {
            entries.push(Entry {
                state,
                run: runs.len(),
                rows_ahead: 0,
                first: None,
            });
            runs.push(Run {
                state: Some(state),
                rows: 0,
                first: None,
            });
        }
        Self {
            core,
            entries,
            runs,
            start,
            head: Vec::new(),
            lines: 0,
        }
    }

    /// Reads a block: `buf` starts at offset `base` of the file and holds at least `len` bytes and the bytes in
    /// sight behind them, fewer only if the file ends (`at_end`).
    pub(crate) fn block(&mut self, buf: &[u8], base: u64, len: usize, at_end: bool) {
        if base == self.start {
            self.head = buf[..buf.len().min(self.core.lookahead())].to_vec();
        }
        for run in &mut self.runs {
            let Some(state) = run.state else { continue };
            let mut walk = Walk {
                core: self.core,
                buf,
                base,
                until: len,
                at_end,
                rows: 0,
                first: None,
            };
            run.state = walk.run(state);
            if let (None, Some((at, rows))) = (run.first, walk.first) {
                run.first = Some(First {
                    at: base + at as u64,
                    rows,
                    lines: self.lines + self.core.count_lines_before(buf, at),
                });
            }
            run.rows += walk.rows;
        }
        self.lines += self.core.count_lines_before(buf, len);
        self.join();
    }

    /// Lets runs that cannot differ any more go on as one.
    fn join(&mut self) {
        for later in 1..self.runs.len() {
            let run = self.runs[later];
            if run.state.is_none() {
                continue;
            }
            // Where neither has seen a record start, both will see the same one.
            let same = |other: &Run| {
                other.state == run.state && other.first.is_some() == run.first.is_some()
            };
            let Some(earlier) = self.runs[..later].iter().position(same) else {
                continue;
            };
            for entry in self.entries.iter_mut().filter(|entry| entry.run == later) {
                entry.run = earlier;
                entry.rows_ahead += run.rows as i64 - self.runs[earlier].rows as i64;
                entry.first = entry.first.or(run.first);
            }
            self.runs[later].state = None;
        }
    }

    /// Line ends between the start of the piece and `at`, which an entry state may have.
    pub(crate) fn lines_to(&self, at: u64) -> u64 {
        let len =
            usize::try_from(at - self.start).map_or(self.head.len(), |n| n.min(self.head.len()));
        self.core.count_lines_before(&self.head, len)
    }

    /// Line ends in the piece.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// What the piece does to `state`; `None` where that cannot be an entry.
    pub(crate) fn exit(&self, state: State) -> Option<Exit> {
        let entry = self.entries.iter().find(|entry| entry.state == state)?;
        let run = self.runs[entry.run];
        Some(Exit {
            state: run.state,
            rows: run.rows.saturating_add_signed(entry.rows_ahead),
            first: entry.first.or(run.first),
        })
    }
}

/// One run over one block.
struct Walk<'a> {
    core: &'a Core,
    buf: &'a [u8],
    base: u64,
    until: usize,
    at_end: bool,
    rows: u64,
    /// Where the first record starts, and how many ended before.
    first: Option<(usize, u64)>,
}

impl Walk<'_> {
    fn run(&mut self, state: State) -> Option<State> {
        let at = (state.at - self.base) as usize;
        let end = if self.core.single {
            self.steps::<true>(state.mode, at)
        } else {
            self.steps::<false>(state.mode, at)
        };
        end.map(|(mode, at)| State {
            mode,
            at: self.base + at as u64,
        })
    }

    /// Follows the lexer until it needs a byte behind the block; `None` where it fails.
    fn steps<const SINGLE: bool>(
        &mut self,
        mut mode: Mode,
        mut at: usize,
    ) -> Option<(Mode, usize)> {
        let (core, buf, at_end) = (self.core, self.buf, self.at_end);
        let mut scan = Scan::new(buf, core.marks, at.min(buf.len()));
        while at < self.until {
            let mark = match mode {
                Mode::Closed => at,
                _ => scan.next(),
            };
            if mode == Mode::Quoted {
                if mark >= self.until {
                    return Some((mode, self.until));
                }
                match core.quoted_token::<SINGLE>(buf, mark, at_end) {
                    Token::Quote => {
                        let behind = mark + core.quote.len();
                        match core.doubled::<SINGLE>(buf, behind, at_end) {
                            Match::Yes => at = behind + core.quote.len(),
                            Match::No => (mode, at) = (self.closed::<SINGLE>(behind)?, behind),
                            Match::Cut => return None,
                        }
                        scan.skip_to(at);
                    }
                    Token::Escape => {
                        at = mark + core.escape.len() + 1;
                        scan.skip_to(at);
                    }
                    Token::Cut => return None,
                    _ => at = mark + 1,
                }
                continue;
            }
            if mode == Mode::Malformed {
                if mark >= self.until {
                    return Some((mode, self.until));
                }
                match core.token::<SINGLE>(buf, mark, at_end) {
                    Token::Terminator(len) => {
                        at = mark + len;
                        mode = self.record_ended(at, true);
                    }
                    Token::Cut => return None,
                    _ => at = mark + 1,
                }
                scan.skip_to(at);
                continue;
            }
            let blank = match mode {
                Mode::Record => true,
                Mode::Plain { blank } => blank,
                _ => false,
            };
            let blank_to =
                |to: usize| blank && buf[at..to].iter().all(|b| super::core::is_blank(*b));
            if mark >= self.until {
                return Some((
                    Mode::Plain {
                        blank: blank_to(self.until),
                    },
                    self.until,
                ));
            }
            match core.token::<SINGLE>(buf, mark, at_end) {
                Token::Terminator(len) => {
                    let dropped = blank_to(mark) && !core.lenient;
                    at = mark + len;
                    mode = self.record_ended(at, !dropped);
                }
                Token::Separator => (mode, at) = (Mode::Field, mark + core.separator.len()),
                Token::Cut => return None,
                _ if mode == Mode::Closed => (mode, at) = (self.malformed()?, mark + 1),
                Token::Quote if mark == at && matches!(mode, Mode::Record | Mode::Field) => {
                    (mode, at) = (Mode::Quoted, mark + core.quote.len());
                }
                Token::Quote if !core.lenient => (mode, at) = (self.malformed()?, mark + 1),
                Token::Escape => {
                    (mode, at) = (Mode::Plain { blank: false }, mark + core.escape.len() + 1);
                }
                // A byte that only looks like a token.
                Token::Quote | Token::Data => {
                    let blank = blank_to(mark + 1);
                    (mode, at) = (Mode::Plain { blank }, mark + 1);
                }
            }
            scan.skip_to(at);
        }
        Some((mode, at))
    }

    /// A record, or a blank line, ended before `at`.
    fn record_ended(&mut self, at: usize, is_row: bool) -> Mode {
        self.rows += u64::from(is_row);
        self.first = self.first.or(Some((at, self.rows)));
        Mode::Record
    }

    /// The mode behind a quote that cannot be where it is; `None` where no such file is read.
    fn malformed(&self) -> Option<Mode> {
        self.core.skip_malformed.then_some(Mode::Malformed)
    }

    /// The mode behind a single quote that ends at `behind`.
    fn closed<const SINGLE: bool>(&self, behind: usize) -> Option<Mode> {
        if !self.core.lenient {
            return Some(Mode::Closed);
        }
        match self.core.token::<SINGLE>(self.buf, behind, self.at_end) {
            Token::Separator | Token::Terminator(_) => Some(Mode::Closed),
            Token::Cut => None,
            _ => Some(Mode::Quoted),
        }
    }
}
