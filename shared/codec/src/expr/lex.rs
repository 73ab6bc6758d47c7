//! Tokens of an expression's text, and a cursor over them for the parser. Strings take backslash escapes,
//! whatever the session's mode: that is how TiDB reads the texts it has stored.

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A bare word, in lower case.
    Word(String),
    /// A back-quoted name.
    Name(String),
    Str(Vec<u8>),
    Number(String),
    /// `x'…'`, `0x…`, `b'…'`, `0b…`.
    Bits(Vec<u8>),
    Op(&'static str),
}

/// Text that is no expression; `near` is where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the expression near `{near}`")]
pub struct SyntaxError {
    pub near: String,
}

impl SyntaxError {
    pub(super) fn near(text: impl Into<String>) -> SyntaxError {
        const SHOWN_CHARS: usize = 40;
        let text: String = text.into();
        SyntaxError {
            near: text.chars().take(SHOWN_CHARS).collect(),
        }
    }
}

const OPERATORS: [&str; 29] = [
    "->>", "<=>", "<<", ">>", "->", "<=", ">=", "<>", "!=", "&&", "||", "(", ")", ",", ".", "+",
    "-", "*", "/", "%", "=", "<", ">", "!", "~", "^", "&", "|", ";",
];

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    /// All tokens of `text`.
    pub(super) fn tokens(text: &'a str) -> Result<Vec<Token>, SyntaxError> {
        let mut lexer = Lexer {
            text: text.as_bytes(),
            at: 0,
        };
        let mut tokens = Vec::new();
        loop {
            while lexer.peek(0).is_ascii_whitespace() {
                lexer.at += 1;
            }
            if lexer.at >= lexer.text.len() {
                return Ok(tokens);
            }
            tokens.push(lexer.token()?);
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self) -> SyntaxError {
        SyntaxError::near(String::from_utf8_lossy(
            &self.text[self.at.min(self.text.len())..],
        ))
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.at < self.text.len() && keep(self.text[self.at]) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn token(&mut self) -> Result<Token, SyntaxError> {
        let (byte, next) = (self.peek(0), self.peek(1));
        match byte {
            b'\'' | b'"' => self.quoted(byte).map(Token::Str),
            b'`' => {
                let name = self.quoted(b'`')?;
                Ok(Token::Name(String::from_utf8_lossy(&name).into_owned()))
            }
            b'x' | b'X' if next == b'\'' => self.bits_quoted(16),
            b'b' | b'B' if next == b'\'' => self.bits_quoted(2),
            b'0' if matches!(next, b'x' | b'b') => {
                self.at += 2;
                let radix = if next == b'x' { 16 } else { 2 };
                let digits = self.take_while(|b| b.is_ascii_hexdigit());
                bits(digits, radix)
                    .ok_or_else(|| self.error())
                    .map(Token::Bits)
            }
            b'0'..=b'9' => Ok(Token::Number(self.number())),
            b'.' if next.is_ascii_digit() => Ok(Token::Number(self.number())),
            _ if is_word(byte) => {
                let word = self.take_while(is_word);
                Ok(Token::Word(String::from_utf8_lossy(word).to_lowercase()))
            }
            _ => {
                let rest = &self.text[self.at..];
                let op = OPERATORS.iter().find(|op| rest.starts_with(op.as_bytes()));
                let op = op.ok_or_else(|| self.error())?;
                self.at += op.len();
                Ok(Token::Op(op))
            }
        }
    }

    fn number(&mut self) -> String {
        let start = self.at;
        self.take_while(|b| b.is_ascii_digit());
        if self.peek(0) == b'.' {
            self.at += 1;
            self.take_while(|b| b.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            self.at += 1 + sign;
            self.take_while(|b| b.is_ascii_digit());
        }
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn quoted(&mut self, quote: u8) -> Result<Vec<u8>, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut out = Vec::new();
        while self.at < self.text.len() {
            let byte = self.text[self.at];
            self.at += 1;
            if byte == quote {
                if self.peek(0) != quote {
                    return Ok(out);
                }
                self.at += 1;
                out.push(quote);
            } else if byte == b'\\' && quote != b'`' {
                let escaped = self.peek(0);
                self.at += 1;
                match escaped {
                    b'0' => out.push(0),
                    b'b' => out.push(8),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'Z' => out.push(26),
                    // Kept for LIKE.
                    b'%' | b'_' => out.extend([b'\\', escaped]),
                    other => out.push(other),
                }
            } else {
                out.push(byte);
            }
        }
        self.at = start;
        Err(self.error())
    }

    fn bits_quoted(&mut self, radix: u32) -> Result<Token, SyntaxError> {
        self.at += 1;
        let digits = self.quoted(b'\'')?;
        bits(&digits, radix)
            .ok_or_else(|| self.error())
            .map(Token::Bits)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'@') || byte >= 0x80
}

/// Digits as bytes, filled up with zeros on the left.
fn bits(digits: &[u8], radix: u32) -> Option<Vec<u8>> {
    let group = if radix == 16 { 2 } else { 8 };
    let pad = (group - digits.len() % group) % group;
    let padded: Vec<u8> = std::iter::repeat_n(b'0', pad)
        .chain(digits.iter().copied())
        .collect();
    padded
        .chunks(group)
        .map(|chunk| u8::from_str_radix(std::str::from_utf8(chunk).ok()?, radix).ok())
        .collect()
}
