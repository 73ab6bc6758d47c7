//! JSON text, valid as Go's encoding/json has it: bytes that are not UTF-8 and lone surrogates inside
//! strings become U+FFFD, everything else is by the letter of the grammar.

use super::{DEPTH_MAX, JsonError, KEY_LEN_MAX, Value};
use crate::charset::utf8_step;
use std::collections::BTreeMap;

/// Reads a whole text.
pub fn parse_value(text: &[u8]) -> Result<Value, JsonError> {
    if text.is_empty() {
        return Err(JsonError::Empty);
    }
    let mut parser = Parser {
        text,
        at: 0,
        too_deep: false,
    };
    parser.blanks();
    let value = parser.value(0)?;
    parser.blanks();
    if parser.at != text.len() {
        return Err(JsonError::Text);
    }
    // Depth is looked at after validity: a text that is both invalid and deep is invalid.
    if parser.too_deep {
        Err(JsonError::TooDeep)
    } else {
        check_keys(&value).map(|()| value)
    }
}

fn check_keys(value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_keys),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            if key.len() > KEY_LEN_MAX {
                Err(JsonError::KeyTooLong)
            } else {
                check_keys(value)
            }
        }),
        _ => Ok(()),
    }
}

/// Recursion stops here; a text this deep is refused whatever follows.
const RECURSION_MAX: usize = DEPTH_MAX * 10;

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    too_deep: bool,
}

type Result<T, E = JsonError> = std::result::Result<T, E>;

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(JsonError::Text)
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Result<Value> {
        if !self.text[self.at..].starts_with(word) {
            return Err(JsonError::Text);
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(JsonError::Text),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<()> {
        self.at += 1;
        self.too_deep |= depth > DEPTH_MAX;
        if depth > RECURSION_MAX {
            Err(JsonError::TooDeep)
        } else {
            Ok(())
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        let mut items = Vec::new();
        self.blanks();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.blanks();
            items.push(self.value(depth)?);
            self.blanks();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        let mut members = BTreeMap::new();
        self.blanks();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            // The last of equal keys wins.
            members.insert(key, self.value(depth)?);
            self.blanks();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            self.expect(b',')?;
        }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(JsonError::Text)
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| JsonError::Text)?;
        if let Ok(v) = text.parse() {
            return Ok(Value::Int(v));
        }
        if let Ok(v) = text.parse() {
            return Ok(Value::UInt(v));
        }
        let v: f64 = text.parse().map_err(|_| JsonError::Text)?;
        if v.is_finite() {
            Ok(Value::Double(v))
        } else {
            Err(JsonError::Text)
        }
    }

    fn string(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let plain = |byte: &u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\');
            let run = self.text[self.at..]
                .iter()
                .take_while(|byte| plain(byte))
                .count();
            let text = &self.text[self.at..self.at + run];
            out.push_str(std::str::from_utf8(text).unwrap_or_default());
            self.at += run;
            match self.peek() {
                None | Some(0..0x20) => return Err(JsonError::Text),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(_) => {
                    let (len, character) = utf8_step(&self.text[self.at..]);
                    out.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                    self.at += len;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<()> {
        let byte = self.peek().ok_or(JsonError::Text)?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return Err(JsonError::Text),
        });
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(JsonError::Text)?;
        let value = digits
            .iter()
            .try_fold(0, |v, byte| Some(v << 4 | char::from(*byte).to_digit(16)?));
        self.at += 4;
        value.ok_or(JsonError::Text)
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.hex4()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        let before = self.at;
        if (0xd800..0xdc00).contains(&first) && self.eat(b'\\') && self.eat(b'u') {
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        // A surrogate alone; what follows it is read on its own.
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }
}
