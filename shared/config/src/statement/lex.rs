//! Words, names, strings and numbers of a statement.

use super::{Parsed, StatementError};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, a number, or an `@variable`.
    Word(String),
    /// A name in backticks.
    Name(String),
    /// A string, hexadecimal or bit literal.
    Text(String),
    /// Anything else.
    Symbol(char),
    End,
}

/// Reads tokens one by one.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// An error at the next token.
    pub fn error(&self, cause: impl Into<String>) -> StatementError {
        StatementError {
            at: self.skip_space(),
            cause: cause.into(),
        }
    }

    fn skip_space(&self) -> usize {
        let mut at = self.at;
        loop {
            let rest = &self.text[at..];
            let space = rest.len() - rest.trim_start().len();
            let comment = match rest[space..].strip_prefix("/*") {
                Some(inside) => inside.find("*/").map_or(rest.len() - space, |len| len + 4),
                None if rest[space..].starts_with("-- ") => {
                    rest[space..].find('\n').unwrap_or(rest.len() - space)
                }
                None => 0,
            };
            at += space + comment;
            if comment == 0 {
                return at;
            }
        }
    }

    /// The next token and where it ends.
    fn peek(&self) -> Parsed<(Token, usize)> {
        let at = self.skip_space();
        let rest = &self.text[at..];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, at));
        };
        let literal = |skip: usize, radix: u32| -> Parsed<(Token, usize)> {
            let (digits, end) = if skip == 1 {
                self.quoted(at + 1)?
            } else {
                let len = rest[2..].find(|c: char| !c.is_ascii_alphanumeric());
                let end = len.map_or(self.text.len(), |len| at + 2 + len);
                (self.text[at + 2..end].to_owned(), end)
            };
            match bytes(&digits, radix) {
                Some(text) => Ok((Token::Text(text), end)),
                None => Err(StatementError {
                    at,
                    cause: "the literal is malformed or no text".into(),
                }),
            }
        };
        match first {
            '\'' | '"' => self.quoted(at).map(|(text, end)| (Token::Text(text), end)),
            '`' => self.quoted(at).map(|(text, end)| (Token::Name(text), end)),
            'x' | 'X' if rest[1..].starts_with('\'') => literal(1, 16),
            'b' | 'B' if rest[1..].starts_with('\'') => literal(1, 2),
            '0' if rest[1..].starts_with('x') => literal(2, 16),
            '0' if rest[1..].starts_with('b') => literal(2, 2),
            c if c.is_alphanumeric() || matches!(c, '_' | '@' | '$') => {
                let len = rest
                    .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '@' | '$')))
                    .unwrap_or(rest.len());
                Ok((Token::Word(rest[..len].to_owned()), at + len))
            }
            c => Ok((Token::Symbol(c), at + c.len_utf8())),
        }
    }

    /// The quoted text at `at` and its end.
    fn quoted(&self, at: usize) -> Parsed<(String, usize)> {
        let mut chars = self.text[at..].char_indices();
        let quote = chars.next().map_or('\'', |(_, c)| c);
        let mut text = String::new();
        while let Some((offset, c)) = chars.next() {
            if c == '\\' && quote != '`' {
                if let Some((_, escaped)) = chars.next() {
                    text.push(match escaped {
                        '0' => '\0',
                        'b' => '\x08',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'Z' => '\x1a',
                        other => other,
                    });
                }
            } else if c != quote {
                text.push(c);
            } else if self.text[at + offset + 1..].starts_with(quote) {
                chars.next();
                text.push(quote);
            } else {
                return Ok((text, at + offset + 1));
            }
        }
        Err(StatementError {
            at,
            cause: "a quote is not closed".into(),
        })
    }

    pub fn at_end(&self) -> Parsed<bool> {
        Ok(self.peek()?.0 == Token::End)
    }

    /// Takes the symbol if it comes next.
    pub fn take(&mut self, symbol: char) -> Parsed<bool> {
        let (token, end) = self.peek()?;
        let found = token == Token::Symbol(symbol);
        self.at = if found { end } else { self.at };
        Ok(found)
    }

    /// Takes the keyword if it comes next.
    pub fn take_word(&mut self, word: &str) -> Parsed<bool> {
        let (token, end) = self.peek()?;
        let found = matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word));
        self.at = if found { end } else { self.at };
        Ok(found)
    }

    /// Takes the keyword that must come next.
    pub fn word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word)? {
            Ok(())
        } else {
            Err(self.error(format!("{word} is missing")))
        }
    }

    /// A string or another literal.
    pub fn string(&mut self) -> Parsed<String> {
        match self.peek()? {
            (Token::Text(text), end) => {
                self.at = end;
                Ok(text)
            }
            _ => Err(self.error("a string is missing")),
        }
    }

    /// A whole number.
    pub fn number(&mut self) -> Parsed<u64> {
        match self.peek()? {
            (Token::Word(text), end) if text.parse::<u64>().is_ok() => {
                self.at = end;
                Ok(text.parse().unwrap_or_default())
            }
            _ => Err(self.error("a number is missing")),
        }
    }

    /// A word, a quoted name or a string.
    pub fn name_or_string(&mut self) -> Parsed<String> {
        match self.peek()? {
            (Token::Word(text) | Token::Name(text) | Token::Text(text), end) => {
                self.at = end;
                Ok(text)
            }
            _ => Err(self.error("a name is missing")),
        }
    }

    /// A value of an option: a string, a word or a number with or without its unit.
    pub fn value(&mut self) -> Parsed<String> {
        self.name_or_string()
    }

    /// `'CSV'`, `SQL FILE`, `'DELIMITED DATA'`.
    pub fn format_name(&mut self) -> Parsed<String> {
        let first = self.name_or_string()?;
        for (word, next) in [("DELIMITED", "DATA"), ("SQL", "FILE")] {
            if first.eq_ignore_ascii_case(word) && self.take_word(next)? {
                return Ok(format!("{word} {next}"));
            }
        }
        Ok(first)
    }

    /// `db.table`, or a table with an empty database.
    pub fn table(&mut self) -> Parsed<(String, String)> {
        let first = self.name()?;
        if self.take('.')? {
            return Ok((first, self.name()?));
        }
        Ok((String::new(), first))
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek()? {
            (Token::Word(text) | Token::Name(text), end) => {
                self.at = end;
                Ok(text)
            }
            _ => Err(self.error("a name is missing")),
        }
    }

    /// `(a, @b, …)`, if it comes next.
    pub fn columns(&mut self) -> Parsed<Option<Vec<String>>> {
        if !self.take('(')? {
            return Ok(None);
        }
        let mut columns = Vec::new();
        if self.take(')')? {
            return Ok(None);
        }
        loop {
            columns.push(self.name()?.to_lowercase());
            if self.take(')')? {
                return Ok(Some(columns));
            }
            if !self.take(',')? {
                return Err(self.error("`,` or `)` is missing"));
            }
        }
    }

    /// `column = expression, …` up to the end or one of the words; expressions stay text.
    pub fn assignments(&mut self, ends: &[&str]) -> Parsed<Vec<(String, String)>> {
        let mut assignments = Vec::new();
        loop {
            let column = self.name()?;
            if !self.take('=')? {
                return Err(self.error("`=` is missing"));
            }
            let start = self.skip_space();
            let mut depth = 0usize;
            loop {
                let (token, end) = self.peek()?;
                match token {
                    Token::End => break,
                    Token::Symbol(',' | ';') if depth == 0 => break,
                    Token::Word(word)
                        if depth == 0 && ends.iter().any(|e| word.eq_ignore_ascii_case(e)) =>
                    {
                        break;
                    }
                    Token::Symbol('(') => depth += 1,
                    Token::Symbol(')') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                self.at = end;
            }
            let expression = self.text.get(start..self.at).unwrap_or_default().trim();
            if expression.is_empty() {
                return Err(self.error("an expression is missing"));
            }
            assignments.push((column, expression.to_owned()));
            if !self.take(',')? {
                return Ok(assignments);
            }
        }
    }
}

/// Text from hexadecimal or binary digits.
fn bytes(digits: &str, radix: u32) -> Option<String> {
    let width = if radix == 16 { 2 } else { 8 };
    let padded = format!(
        "{}{digits}",
        "0".repeat((width - digits.len() % width) % width)
    );
    let bytes: Option<Vec<u8>> = padded
        .as_bytes()
        .chunks(width)
        .map(|group| u8::from_str_radix(std::str::from_utf8(group).ok()?, radix).ok())
        .collect();
    String::from_utf8(bytes?).ok()
}
