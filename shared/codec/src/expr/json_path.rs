//! JSON paths: `$`, `.key`, `."key"`, `.*`, `[n]`, `[last-n]`, `[n to m]`, `[*]`, `**`. Applied to a value
//! they give places in document order, each once.

use super::EvalError;
use crate::json::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leg {
    Key(String),
    AnyKey,
    Index(Index),
    Range(Index, Index),
    AnyIndex,
    /// `**`.
    Deep,
}

/// From the start, or from the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Index {
    Start(usize),
    End(usize),
}

impl Index {
    /// Place in an array of `len`; may lie outside.
    pub fn place(self, len: usize) -> Option<usize> {
        match self {
            Index::Start(index) => Some(index),
            Index::End(back) => len.checked_sub(back + 1),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub legs: Vec<Leg>,
}

impl Path {
    /// Reads a path; error 3143 for what is none.
    pub fn parse(text: &str) -> Result<Path, EvalError> {
        const INVALID_PATH: u16 = 3143;
        let mut reader = Reader { rest: text.trim() };
        reader
            .path()
            .map(|legs| Path { legs })
            .ok_or_else(|| EvalError::new(INVALID_PATH, "Invalid JSON path expression"))
    }

    /// Whether the path can match more than one value.
    pub fn is_multiple(&self) -> bool {
        self.legs.iter().any(|leg| {
            matches!(
                leg,
                Leg::AnyKey | Leg::AnyIndex | Leg::Deep | Leg::Range(..)
            )
        })
    }

    /// What the path leads to.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        walk(&self.legs, value, &mut found);
        found
    }
}

fn walk<'a>(legs: &[Leg], value: &'a Value, found: &mut Vec<&'a Value>) {
    let Some((leg, rest)) = legs.split_first() else {
        // `**` reaches a value by more than one way.
        if !found.iter().any(|known| std::ptr::eq(*known, value)) {
            found.push(value);
        }
        return;
    };
    match (leg, value) {
        (Leg::Key(key), Value::Object(members)) => {
            if let Some(member) = members.get(key) {
                walk(rest, member, found);
            }
        }
        (Leg::AnyKey, Value::Object(members)) => {
            members
                .values()
                .for_each(|member| walk(rest, member, found));
        }
        (Leg::Index(index), Value::Array(items)) => {
            if let Some(item) = index.place(items.len()).and_then(|at| items.get(at)) {
                walk(rest, item, found);
            }
        }
        // A value that is no array is an array of one.
        (Leg::Index(index), other) if index.place(1) == Some(0) => walk(rest, other, found),
        (Leg::Range(from, to), Value::Array(items)) => {
            let end = to
                .place(items.len())
                .map_or(0, |to| to.saturating_add(1))
                .min(items.len());
            let start = from.place(items.len()).unwrap_or(0);
            items
                .iter()
                .take(end)
                .skip(start)
                .for_each(|item| walk(rest, item, found));
        }
        (Leg::Range(from, to), other) if from.place(1) == Some(0) && to.place(1).is_some() => {
            walk(rest, other, found);
        }
        (Leg::AnyIndex, Value::Array(items)) => {
            items.iter().for_each(|item| walk(rest, item, found));
        }
        (Leg::Deep, value) => {
            walk(rest, value, found);
            match value {
                Value::Array(items) => items.iter().for_each(|item| walk(legs, item, found)),
                Value::Object(members) => members
                    .values()
                    .for_each(|member| walk(legs, member, found)),
                _ => {}
            }
        }
        _ => {}
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn path(&mut self) -> Option<Vec<Leg>> {
        if !self.eat("$") {
            return None;
        }
        let mut legs = Vec::new();
        loop {
            self.blanks();
            if self.rest.is_empty() {
                // `**` needs something behind it.
                return (legs.last() != Some(&Leg::Deep)).then_some(legs);
            }
            if self.eat("**") {
                legs.push(Leg::Deep);
            } else if self.eat(".") {
                self.blanks();
                legs.push(self.key()?);
            } else if self.eat("[") {
                legs.push(self.index()?);
            } else {
                return None;
            }
        }
    }

    fn key(&mut self) -> Option<Leg> {
        if self.eat("*") {
            return Some(Leg::AnyKey);
        }
        if self.rest.starts_with('"') {
            let end = closing_quote(self.rest)?;
            let (quoted, rest) = self.rest.split_at(end + 1);
            self.rest = rest;
            return match crate::json::parse_value(quoted.as_bytes()).ok()? {
                Value::String(key) => Some(Leg::Key(key)),
                _ => None,
            };
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, '.' | '[' | '*');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(end);
        let starts_well = !key.starts_with(|c: char| c.is_ascii_digit());
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        if key.is_empty() || !starts_well || !key.chars().all(word) {
            return None;
        }
        self.rest = rest;
        Some(Leg::Key(key.to_owned()))
    }

    fn index(&mut self) -> Option<Leg> {
        self.blanks();
        let leg = if self.eat("*") {
            Leg::AnyIndex
        } else {
            let from = self.place()?;
            self.blanks();
            if self.eat("to") {
                self.blanks();
                Leg::Range(from, self.place()?)
            } else {
                Leg::Index(from)
            }
        };
        self.blanks();
        self.eat("]").then_some(leg)
    }

    fn place(&mut self) -> Option<Index> {
        if !self.eat("last") {
            return self.number().map(Index::Start);
        }
        self.blanks();
        if !self.eat("-") {
            return Some(Index::End(0));
        }
        self.blanks();
        self.number().map(Index::End)
    }

    fn number(&mut self) -> Option<usize> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
            .parse::<u32>()
            .ok()
            .and_then(|number| usize::try_from(number).ok())
    }
}

/// Where the quote that opens `text` is closed.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().enumerate().skip(1).find_map(|(at, byte)| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes.then_some(at)
    })
}
