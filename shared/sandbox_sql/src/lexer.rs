//! MySQL's tokens, and a cursor over them for the parsers. Executable comments (`/*! … */`, `/*T! … */`,
//! `/*T![feature] … */`) are read as their contents, hints and plain comments are skipped. Knows no grammar.

use crate::error::{SqlError, SqlResult};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Tok {
    /// A bare word, as written.
    Word(String),
    /// A back-quoted name, unquoted.
    Quoted(String),
    /// A string literal, its escapes resolved.
    Str(Vec<u8>),
    /// A number, as written.
    Number(String),
    /// `x'…'`, `0x…`, `b'…'`, `0b…` as bytes.
    Binary(Vec<u8>),
    /// `@name`.
    UserVar(String),
    /// `@@[global.|session.]name`; whether global was asked, and the name in lower case.
    SysVar(bool, String),
    /// An operator or punctuation.
    Op(&'static str),
}

/// A token with its place in the text.
#[derive(Clone, Debug)]
pub struct Token {
    pub tok: Tok,
    pub start: usize,
    pub end: usize,
}

const OPERATORS: [&str; 34] = [
    "->>", "<=>", "<<", ">>", "->", "<=", ">=", "<>", "!=", ":=", "&&", "||", "(", ")", ",", ".",
    ";", "+", "-", "*", "/", "%", "=", "<", ">", "!", "~", "^", "&", "|", "?", "{", "}", ":",
];

/// All tokens of `text`.
pub fn tokenize(text: &[u8]) -> SqlResult<Vec<Token>> {
    Lexer {
        text,
        at: 0,
        comments: 0,
    }
    .run()
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Executable comments that are open.
    comments: u32,
}

impl Lexer<'_> {
    fn run(mut self) -> SqlResult<Vec<Token>> {
        let mut tokens = Vec::new();
        loop {
            self.skip_blank()?;
            if self.at >= self.text.len() {
                return Ok(tokens);
            }
            let start = self.at;
            let tok = self.token()?;
            tokens.push(Token {
                tok,
                start,
                end: self.at,
            });
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) -> SqlResult<()> {
        loop {
            let rest = self.rest();
            if rest
                .first()
                .is_some_and(|b| b.is_ascii_whitespace() || *b == 0)
            {
                self.at += 1;
            } else if rest.starts_with(b"#")
                || (rest.starts_with(b"--") && rest.get(2).is_none_or(|b| b.is_ascii_whitespace()))
            {
                self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*!") || rest.starts_with(b"/*T!") {
                self.open_comment();
            } else if rest.starts_with(b"/*") {
                let end = rest.windows(2).skip(2).position(|w| w == b"*/");
                self.at += end.ok_or_else(|| SqlError::syntax("/*"))? + 4;
            } else if self.comments > 0 && rest.starts_with(b"*/") {
                self.comments -= 1;
                self.at += 2;
            } else {
                return Ok(());
            }
        }
    }

    /// Steps over the head of an executable comment: `/*!40101`, `/*T!`, `/*T![auto_rand]`.
    fn open_comment(&mut self) {
        self.at += if self.peek(2) == b'T' { 4 } else { 3 };
        if self.peek(0) == b'[' {
            self.at += self
                .rest()
                .iter()
                .position(|b| *b == b']')
                .map_or(0, |p| p + 1);
        } else {
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        self.comments += 1;
    }

    fn token(&mut self) -> SqlResult<Tok> {
        let (byte, next) = (self.peek(0), self.peek(1));
        match byte {
            b'\'' | b'"' => self.string(byte).map(Tok::Str),
            b'`' => {
                let name = self.string(b'`')?;
                Ok(Tok::Quoted(String::from_utf8_lossy(&name).into_owned()))
            }
            b'x' | b'X' if next == b'\'' => self.radix_quoted(16),
            b'b' | b'B' if next == b'\'' => self.radix_quoted(2),
            b'n' | b'N' if next == b'\'' => {
                self.at += 1;
                self.string(b'\'').map(Tok::Str)
            }
            b'0' if next == b'x' && self.peek(2).is_ascii_hexdigit() => self.radix_bare(16),
            b'0' if next == b'b' && matches!(self.peek(2), b'0' | b'1') => self.radix_bare(2),
            b'0'..=b'9' => Ok(self.number()),
            b'.' if next.is_ascii_digit() => Ok(self.number()),
            b'@' => self.variable(),
            _ if is_word(byte) => Ok(Tok::Word(self.word())),
            _ => self.operator(),
        }
    }

    fn word(&mut self) -> String {
        let length = self
            .rest()
            .iter()
            .position(|b| !is_word(*b))
            .unwrap_or(self.rest().len());
        let word = String::from_utf8_lossy(&self.rest()[..length]).into_owned();
        self.at += length;
        word
    }

    fn operator(&mut self) -> SqlResult<Tok> {
        let found = OPERATORS
            .iter()
            .find(|op| self.rest().starts_with(op.as_bytes()));
        let op =
            found.ok_or_else(|| SqlError::syntax(String::from_utf8_lossy(&self.rest()[..1])))?;
        self.at += op.len();
        Ok(Tok::Op(op))
    }

    fn number(&mut self) -> Tok {
        let start = self.at;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.peek(0) == b'.' {
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                while self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
            }
        }
        let text = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        // A name may begin with digits: `1st_column`.
        if is_word(self.peek(0)) && text.bytes().all(|b| b.is_ascii_digit()) {
            return Tok::Word(text + &self.word());
        }
        Tok::Number(text)
    }

    /// A quoted text; doubled quotes stand for one, and outside of names the backslash escapes.
    fn string(&mut self, quote: u8) -> SqlResult<Vec<u8>> {
        let mut out = Vec::new();
        self.at += 1;
        loop {
            let Some(byte) = self.text.get(self.at).copied() else {
                return Err(SqlError::syntax("unterminated quote"));
            };
            self.at += 1;
            if byte == quote {
                if self.peek(0) != quote || self.at >= self.text.len() {
                    return Ok(out);
                }
                self.at += 1;
                out.push(quote);
            } else if byte == b'\\' && quote != b'`' && self.at < self.text.len() {
                let escaped = self.peek(0);
                self.at += 1;
                match escaped {
                    b'0' => out.push(0),
                    b'n' => out.push(b'\n'),
                    b't' => out.push(b'\t'),
                    b'r' => out.push(b'\r'),
                    b'b' => out.push(8),
                    b'Z' => out.push(26),
                    b'%' | b'_' => out.extend([b'\\', escaped]),
                    other => out.push(other),
                }
            } else {
                out.push(byte);
            }
        }
    }

    fn radix_quoted(&mut self, radix: u32) -> SqlResult<Tok> {
        self.at += 1;
        let digits = self.string(b'\'')?;
        radix_bytes(&digits, radix)
            .map(Tok::Binary)
            .ok_or_else(|| SqlError::syntax(String::from_utf8_lossy(&digits)))
    }

    fn radix_bare(&mut self, radix: u32) -> SqlResult<Tok> {
        self.at += 2;
        let digits = self.word();
        radix_bytes(digits.as_bytes(), radix)
            .map(Tok::Binary)
            .ok_or_else(|| SqlError::syntax(digits))
    }

    fn variable(&mut self) -> SqlResult<Tok> {
        self.at += 1;
        if self.peek(0) != b'@' {
            let name = match self.peek(0) {
                quote @ (b'`' | b'\'' | b'"') => {
                    String::from_utf8_lossy(&self.string(quote)?).into_owned()
                }
                _ => self.dotted(),
            };
            return Ok(Tok::UserVar(name));
        }
        self.at += 1;
        let name = self.dotted().replace('`', "").to_lowercase();
        Ok(match name.split_once('.') {
            Some(("global", rest)) => Tok::SysVar(true, rest.to_owned()),
            Some(("session" | "local", rest)) => Tok::SysVar(false, rest.to_owned()),
            _ => Tok::SysVar(false, name),
        })
    }

    fn dotted(&mut self) -> String {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|b| !is_word(*b) && *b != b'.' && *b != b'`')
            .unwrap_or(rest.len());
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        name
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Hex digits are padded on the left to whole bytes, so are bits.
fn radix_bytes(digits: &[u8], radix: u32) -> Option<Vec<u8>> {
    let per_byte = if radix == 16 { 2 } else { 8 };
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(per_byte));
    let mut rest = digits;
    while !rest.is_empty() {
        let take = if rest.len().is_multiple_of(per_byte) {
            per_byte
        } else {
            rest.len() % per_byte
        };
        let text = std::str::from_utf8(&rest[..take]).ok()?;
        bytes.push(u8::from_str_radix(text, radix).ok()?);
        rest = &rest[take..];
    }
    Some(bytes)
}

/// Tokens with a position, and the small steps every parser is made of.
#[derive(Clone)]
pub struct Cursor<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the first token.
    pub fn new(text: &'a [u8], tokens: &'a [Token]) -> Self {
        Self {
            text,
            tokens,
            at: 0,
        }
    }

    pub fn peek(&self) -> Option<&'a Tok> {
        self.peek_at(0)
    }

    pub fn peek_at(&self, ahead: usize) -> Option<&'a Tok> {
        self.tokens.get(self.at + ahead).map(|t| &t.tok)
    }

    pub fn next(&mut self) -> Option<&'a Tok> {
        let tok = self.peek();
        self.at += 1;
        tok
    }

    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    pub fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// The text between two token positions, as written.
    pub fn slice(&self, from: usize, to: usize) -> String {
        match (
            self.tokens.get(from),
            to.checked_sub(1).and_then(|t| self.tokens.get(t)),
        ) {
            (Some(first), Some(last)) if from < to => {
                String::from_utf8_lossy(&self.text[first.start..last.end]).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Everything from here on, as written.
    pub fn rest(&self) -> String {
        self.slice(self.at, self.tokens.len())
    }

    /// Whether the next token is this word, in any case.
    pub fn is(&self, word: &str) -> bool {
        self.is_at(0, word)
    }

    pub fn is_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Tok::Word(w)) if w.eq_ignore_ascii_case(word))
    }

    pub fn is_op(&self, op: &str) -> bool {
        self.is_op_at(0, op)
    }

    pub fn is_op_at(&self, ahead: usize, op: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Tok::Op(o)) if *o == op)
    }

    /// Steps over these words if they come next, all of them or none.
    pub fn eat(&mut self, words: &str) -> bool {
        let count = words.split(' ').count();
        let found = words
            .split(' ')
            .enumerate()
            .all(|(i, word)| self.is_at(i, word));
        self.at += if found { count } else { 0 };
        found
    }

    pub fn eat_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, words: &str) -> SqlResult<()> {
        if self.eat(words) {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    pub fn expect_op(&mut self, op: &str) -> SqlResult<()> {
        if self.eat_op(op) {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    /// Steps over `FOR UPDATE`, saying whether it stood here.
    pub fn locks_rows(&mut self) -> bool {
        let found = self.eat("for update");
        if found {
            let _ = self.eat("nowait")
                || self.eat("skip locked")
                || (self.eat("wait") && self.integer().is_ok());
        }
        found
    }

    /// The error for what stands here.
    pub fn error(&self) -> SqlError {
        SqlError::syntax(self.rest().chars().take(80).collect::<String>())
    }

    /// A name, quoted or not.
    pub fn name(&mut self) -> SqlResult<String> {
        match self.peek() {
            Some(Tok::Word(name) | Tok::Quoted(name)) => {
                self.at += 1;
                Ok(name.clone())
            }
            _ => Err(self.error()),
        }
    }

    /// `[db.]name`.
    pub fn qualified(&mut self) -> SqlResult<(Option<String>, String)> {
        let first = self.name()?;
        if self.eat_op(".") {
            return Ok((Some(first), self.name()?));
        }
        Ok((None, first))
    }

    /// A string literal as text.
    pub fn string(&mut self) -> SqlResult<String> {
        match self.peek() {
            Some(Tok::Str(text)) => {
                self.at += 1;
                Ok(String::from_utf8_lossy(text).into_owned())
            }
            _ => Err(self.error()),
        }
    }

    /// A whole number without sign.
    pub fn integer(&mut self) -> SqlResult<i64> {
        match self.peek() {
            Some(Tok::Number(text)) => {
                let value = text.parse::<i64>().map_err(|_| self.error())?;
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.error()),
        }
    }

    /// Steps to after the `)` that closes the `(` just before here; returns the positions inside.
    pub fn balanced(&mut self) -> SqlResult<(usize, usize)> {
        let (start, mut depth) = (self.at, 1);
        while let Some(tok) = self.next() {
            match tok {
                Tok::Op("(") => depth += 1,
                Tok::Op(")") => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok((start, self.at - 1));
            }
        }
        Err(SqlError::syntax("("))
    }
}
