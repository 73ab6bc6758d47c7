//! TiDB's binary JSON documents: from text, to text, and as a tree. A document is a type byte and a value;
//! object keys are sorted by bytes, integers and offsets are little-endian, offsets count from the start of
//! the enclosing container's value.

mod binary;
mod print;
mod text;

pub use binary::{decode, encode};
pub use print::to_text;
pub use text::parse_value;

use crate::time::Civil;
use std::collections::BTreeMap;

pub const OBJECT: u8 = 1;
pub const ARRAY: u8 = 3;
pub const LITERAL: u8 = 4;
pub const INT64: u8 = 9;
pub const UINT64: u8 = 10;
pub const DOUBLE: u8 = 11;
pub const STRING: u8 = 12;
pub const OPAQUE: u8 = 13;
pub const DATE: u8 = 14;
pub const DATETIME: u8 = 15;
pub const TIMESTAMP: u8 = 16;
pub const DURATION: u8 = 17;

pub(crate) const LITERAL_NULL: u8 = 0;
pub(crate) const LITERAL_TRUE: u8 = 1;
pub(crate) const LITERAL_FALSE: u8 = 2;

/// Deepest nesting of containers.
pub const DEPTH_MAX: usize = 100;
/// Longest object key.
pub const KEY_LEN_MAX: usize = 65_535;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
    /// A typed scalar that text does not produce: type byte and value as in the document.
    Other(u8, Vec<u8>),
}

/// Why a text is not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the document is empty")]
    Empty,
    #[error("not a JSON text")]
    Text,
    #[error("nested too deep")]
    TooDeep,
    #[error("an object key is too long")]
    KeyTooLong,
}

/// Binary document of a text.
pub fn parse(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    parse_value(text).map(|value| encode(&value))
}

pub(crate) fn int(v: i64) -> Vec<u8> {
    encode(&Value::Int(v))
}

pub(crate) fn uint(v: u64) -> Vec<u8> {
    encode(&Value::UInt(v))
}

pub(crate) fn double(v: f64) -> Vec<u8> {
    encode(&Value::Double(v))
}

/// A date or time scalar: the in-memory bit layout, not the packed one.
pub(crate) fn time(code: u8, c: &Civil) -> Vec<u8> {
    let bits = u64::from(c.year) << 50
        | u64::from(c.month) << 46
        | u64::from(c.day) << 41
        | u64::from(c.hour) << 36
        | u64::from(c.minute) << 30
        | u64::from(c.second) << 24
        | u64::from(c.micro) << 4;
    let mut out = vec![code];
    out.extend_from_slice(&bits.to_le_bytes());
    out
}

/// Inverse of [`time`].
pub(crate) fn civil(bits: u64) -> Civil {
    Civil {
        year: (bits >> 50) as u16,
        month: (bits >> 46 & 15) as u8,
        day: (bits >> 41 & 31) as u8,
        hour: (bits >> 36 & 31) as u8,
        minute: (bits >> 30 & 63) as u8,
        second: (bits >> 24 & 63) as u8,
        micro: (bits >> 4 & 0xf_ffff) as u32,
    }
}

pub(crate) fn duration(nanos: i64, fsp: u32) -> Vec<u8> {
    let mut out = vec![DURATION];
    out.extend_from_slice(&nanos.to_le_bytes());
    out.extend_from_slice(&fsp.to_le_bytes());
    out
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
