//! Documents as text, with the server's spacing and escapes.

use super::{DATE, DATETIME, DURATION, OPAQUE, TIMESTAMP, Value, civil, decode};
use crate::time::{MyDuration, Time, TimeKind};
use std::fmt::Write as _;

/// Text of a document; empty for one that is malformed.
pub fn to_text(document: &[u8]) -> String {
    let mut out = String::new();
    if let Some(value) = decode(document) {
        print(&mut out, &value);
    }
    out
}

/// Text of a value.
pub(crate) fn print(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::Int(v) => out.push_str(&v.to_string()),
        Value::UInt(v) => out.push_str(&v.to_string()),
        Value::Double(v) => out.push_str(&double_text(*v)),
        Value::String(v) => quote(out, v),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                print(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                quote(out, key);
                out.push_str(": ");
                print(out, value);
            }
            out.push('}');
        }
        Value::Other(code, bytes) => quote(out, &other_text(*code, bytes)),
    }
}

fn double_text(v: f64) -> String {
    let magnitude = v.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{v:e}");
        // Positive exponents carry their sign.
        return if text.contains("e-") {
            text
        } else {
            text.replace('e', "e+")
        };
    }
    format!("{v}")
}

/// Text of a typed scalar without its quotes.
pub(crate) fn other_text(code: u8, bytes: &[u8]) -> String {
    let eight = bytes.first_chunk::<8>().copied().unwrap_or_default();
    match code {
        DATE | DATETIME | TIMESTAMP => {
            let civil = civil(u64::from_le_bytes(eight));
            let kind = if code == DATE {
                TimeKind::Date
            } else {
                TimeKind::Datetime
            };
            Time::new(civil, kind, 6).to_string()
        }
        DURATION => MyDuration {
            nanos: i64::from_le_bytes(eight),
            fsp: 6,
        }
        .to_string(),
        OPAQUE => {
            use base64::Engine as _;
            let mut rest = bytes.get(1..).unwrap_or_default();
            let _ = crate::mem::decode_uvarint(&mut rest);
            let body = base64::engine::general_purpose::STANDARD.encode(rest);
            format!(
                "base64:type{}:{body}",
                bytes.first().copied().unwrap_or_default()
            )
        }
        _ => String::new(),
    }
}

/// A JSON string literal.
pub(crate) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
