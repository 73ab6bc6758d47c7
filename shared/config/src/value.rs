//! The types a key's value can have, and reading one from TOML or from the text of an override. Owns
//! sizes and durations; knows no key.

use std::collections::BTreeMap;
use toml::de::DeValue;

/// What a key accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both included.
    Int(u64, u64),
    /// A number in `[0, 1)`.
    Ratio,
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// One of these words; case does not matter.
    Choice(&'static [&'static str]),
    /// One of these words, or a boolean that stands for the first (true) or the last (false).
    Switch(&'static [&'static str]),
    /// Bytes: a number or text such as `64KiB`. At least this many.
    Size(u64),
    /// Text such as `5m`; held in milliseconds.
    Duration,
    /// A list of texts; one text stands for a list of one.
    Texts,
    /// A table of names and plain values.
    Vars,
}

/// A value after its type was checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// [`Kind::Bool`]
    Bool(bool),
    /// [`Kind::Int`], [`Kind::Size`] in bytes, [`Kind::Duration`] in milliseconds.
    Int(u64),
    /// [`Kind::Ratio`]
    Ratio(f64),
    /// [`Kind::Text`], [`Kind::Secret`], and the chosen word of a choice.
    Text(String),
    /// [`Kind::Texts`]
    Texts(Vec<String>),
    /// [`Kind::Vars`]
    Vars(BTreeMap<String, String>),
}

impl Kind {
    /// The type in words, for messages and the reference page.
    pub fn describe(self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Int(min, max) => match (min, max) {
                (0, u64::MAX) => "whole number".into(),
                (min, u64::MAX) => format!("whole number, at least {min}"),
                (min, max) => format!("whole number, {min} to {max}"),
            },
            Kind::Ratio => "number, 0 to below 1".into(),
            Kind::Text => "text".into(),
            Kind::Secret => "text (secret)".into(),
            Kind::Choice(words) => format!("one of {}", quoted(words)),
            Kind::Switch(words) => format!("one of {}, or a boolean", quoted(words)),
            Kind::Size(0) => "size such as \"64KiB\"".into(),
            Kind::Size(min) => format!("size such as \"64KiB\", at least {min} bytes"),
            Kind::Duration => "duration such as \"5m\"".into(),
            Kind::Texts => "text or list of texts".into(),
            Kind::Vars => "table of names and values".into(),
        }
    }

    /// Reads a TOML value; the error says what was expected.
    pub fn read_toml(self, value: &DeValue<'_>) -> Result<Value, String> {
        let plain = plain_text(value);
        let read = match (self, value) {
            (Kind::Bool, DeValue::Boolean(b)) => Some(Value::Bool(*b)),
            (Kind::Switch(words), DeValue::Boolean(b)) => switch(words, *b),
            (Kind::Int(..) | Kind::Size(_), DeValue::Integer(_)) => {
                plain.as_deref().and_then(|text| self.read_text(text))
            }
            (Kind::Ratio, DeValue::Integer(_) | DeValue::Float(_)) => {
                plain.as_deref().and_then(|text| self.read_text(text))
            }
            (
                Kind::Text
                | Kind::Secret
                | Kind::Choice(_)
                | Kind::Switch(_)
                | Kind::Size(_)
                | Kind::Duration,
                DeValue::String(text),
            ) => self.read_text(text),
            (Kind::Texts, DeValue::String(text)) => Some(Value::Texts(vec![text.to_string()])),
            (Kind::Texts, DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(Value::Texts),
            (Kind::Vars, DeValue::Table(table)) => table
                .iter()
                .map(|(name, v)| Some((name.get_ref().to_string(), plain_text(v.get_ref())?)))
                .collect::<Option<BTreeMap<_, _>>>()
                .map(Value::Vars),
            _ => None,
        };
        read.ok_or_else(|| self.complaint(value.type_str(), plain.as_deref()))
    }

    /// Reads the text of an override. A list may be written as a TOML array or separated by commas.
    pub fn read_override(self, text: &str) -> Result<Value, String> {
        let read = match self {
            Kind::Switch(words) => match text {
                "true" => switch(words, true),
                "false" => switch(words, false),
                _ => self.read_text(text),
            },
            Kind::Texts if text.trim_start().starts_with('[') => {
                let parsed = DeValue::parse(text).map_err(|e| e.message().to_owned())?;
                return self.read_toml(parsed.get_ref());
            }
            Kind::Texts => Some(Value::Texts(
                text.split(',').map(|item| item.trim().to_owned()).collect(),
            )),
            Kind::Vars => None,
            _ => self.read_text(text),
        };
        read.ok_or_else(|| self.complaint("text", Some(text)))
    }

    fn read_text(self, text: &str) -> Option<Value> {
        match self {
            Kind::Bool => text.parse().ok().map(Value::Bool),
            Kind::Int(min, max) => {
                let number = text.parse().ok()?;
                (min..=max).contains(&number).then_some(Value::Int(number))
            }
            Kind::Size(min) => parse_size(text).filter(|n| *n >= min).map(Value::Int),
            Kind::Duration => parse_duration_ms(text).map(Value::Int),
            Kind::Ratio => {
                let ratio: f64 = text.parse().ok()?;
                (0.0..1.0).contains(&ratio).then_some(Value::Ratio(ratio))
            }
            Kind::Text | Kind::Secret => Some(Value::Text(text.to_owned())),
            Kind::Choice(words) | Kind::Switch(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::Text((*word).to_owned())),
            Kind::Texts | Kind::Vars => None,
        }
    }

    fn complaint(self, found: &str, value: Option<&str>) -> String {
        let found = match value {
            Some(value) if self != Kind::Secret && value.len() <= 60 => format!("{value:?}"),
            _ => format!("a value of type {found}"),
        };
        format!("expected {}, found {found}", self.describe())
    }
}

fn switch(words: &[&str], on: bool) -> Option<Value> {
    let word = if on { words.first() } else { words.last() };
    word.map(|word| Value::Text((*word).to_owned()))
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

/// The text of a scalar as an override would write it.
fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(match number.radix() {
            10 => number.as_str().to_owned(),
            radix => i128::from_str_radix(number.as_str(), radix)
                .ok()?
                .to_string(),
        }),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(b) => Some(b.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Bytes of `512`, `64KiB`, `1.5 GB`. Lightning counts in powers of 1024 under every spelling, and so do we.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Milliseconds of `5m`, `1h30m`, `300ms`, `0`.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_ms = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "us" | "µs" => 1e-3,
            "ns" => 1e-6,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit_ms;
        rest = tail;
    }
    (total.is_finite() && total < u64::MAX as f64).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_under_every_spelling() {
        for text in ["65536", "64KiB", "64KB", "64k", " 64 kib ", "0.0625MiB"] {
            assert_eq!(parse_size(text), Some(65536), "{text}");
        }
        assert_eq!(parse_size("10GiB"), Some(10 << 30));
        assert_eq!(parse_size("0"), Some(0));
        for text in [
            "",
            "x",
            "12 parsecs",
            "-1",
            "99999999999PiB",
            "1.2.3K",
            "KiB",
            "1ib",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(parse_duration_ms("5m"), Some(300_000));
        assert_eq!(parse_duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration_ms("1.5s"), Some(1500));
        assert_eq!(parse_duration_ms("300ms"), Some(300));
        assert_eq!(parse_duration_ms("0"), Some(0));
        for text in ["", "5", "m", "5 minutes", "-1s", "1d"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_by_its_complaint() {
        let value = DeValue::parse("12345").unwrap();
        let complaint = Kind::Secret.read_toml(value.get_ref()).unwrap_err();
        assert!(!complaint.contains("12345"), "{complaint}");
        let complaint = Kind::Text.read_toml(value.get_ref()).unwrap_err();
        assert!(complaint.contains("12345"), "{complaint}");
    }
}
