//! The binary layout: count, total bytes, key entries, value entries, keys, values. Literals sit in the
//! value entry itself.

use super::{
    ARRAY, DOUBLE, DURATION, INT64, LITERAL, LITERAL_FALSE, LITERAL_NULL, LITERAL_TRUE, OBJECT,
    OPAQUE, STRING, UINT64, Value,
};
use crate::mem::{decode_uvarint, encode_uvarint};

const HEADER: usize = 8;
const KEY_ENTRY: usize = 6;
const VALUE_ENTRY: usize = 5;

/// The document of a value.
pub fn encode(value: &Value) -> Vec<u8> {
    // Room for most documents, so that they are written without growing.
    const ROOM: usize = 128;
    let mut out = Vec::with_capacity(ROOM);
    out.push(type_code(value));
    put(&mut out, value);
    out
}

fn type_code(value: &Value) -> u8 {
    match value {
        Value::Null | Value::Bool(_) => LITERAL,
        Value::Int(_) => INT64,
        Value::UInt(_) => UINT64,
        Value::Double(_) => DOUBLE,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
        Value::Other(code, _) => *code,
    }
}

fn literal(value: &Value) -> Option<u8> {
    match value {
        Value::Null => Some(LITERAL_NULL),
        Value::Bool(true) => Some(LITERAL_TRUE),
        Value::Bool(false) => Some(LITERAL_FALSE),
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) => out.extend(literal(value)),
        Value::Int(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::UInt(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Double(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::String(v) => {
            encode_uvarint(out, v.len() as u64);
            out.extend_from_slice(v.as_bytes());
        }
        Value::Array(items) => {
            let start = begin(out, items.len());
            let entries = out.len();
            out.resize(entries + items.len() * VALUE_ENTRY, 0);
            put_values(out, start, entries, items.iter());
        }
        Value::Object(members) => {
            let start = begin(out, members.len());
            let keys = out.len();
            let entries = keys + members.len() * KEY_ENTRY;
            out.resize(entries + members.len() * VALUE_ENTRY, 0);
            for (i, key) in members.keys().enumerate() {
                let at = keys + i * KEY_ENTRY;
                let offset = (out.len() - start) as u32;
                out[at..at + 4].copy_from_slice(&offset.to_le_bytes());
                out[at + 4..at + 6].copy_from_slice(&(key.len() as u16).to_le_bytes());
                out.extend_from_slice(key.as_bytes());
            }
            put_values(out, start, entries, members.values());
        }
        Value::Other(_, bytes) => out.extend_from_slice(bytes),
    }
}

/// Writes the count and room for the total; returns where the container starts.
fn begin(out: &mut Vec<u8>, count: usize) -> usize {
    let start = out.len();
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    start
}

fn put_values<'a>(
    out: &mut Vec<u8>,
    start: usize,
    entries: usize,
    values: impl Iterator<Item = &'a Value>,
) {
    for (i, value) in values.enumerate() {
        let at = entries + i * VALUE_ENTRY;
        out[at] = type_code(value);
        if let Some(literal) = literal(value) {
            out[at + 1] = literal;
            continue;
        }
        let offset = (out.len() - start) as u32;
        out[at + 1..at + 5].copy_from_slice(&offset.to_le_bytes());
        put(out, value);
    }
    let total = (out.len() - start) as u32;
    out[start + 4..start + 8].copy_from_slice(&total.to_le_bytes());
}

/// The value of a document; `None` when it is malformed.
pub fn decode(document: &[u8]) -> Option<Value> {
    let (code, body) = document.split_first()?;
    // Every value has bytes of its own. Entries that share them could otherwise name more than there is time or
    // memory for: two that lead to one container, a hundred times over, or many to one long text.
    let mut bytes_left = document.len();
    get(*code, body, 0, &mut bytes_left)
}

fn u32_at(from: &[u8], at: usize) -> Option<usize> {
    let bytes = from.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

fn get(code: u8, body: &[u8], depth: usize, bytes_left: &mut usize) -> Option<Value> {
    *bytes_left = bytes_left.checked_sub(1)?;
    // Deeper than what can be written: offsets that lead back.
    if depth > super::DEPTH_MAX + 1 {
        return None;
    }
    let eight = || body.first_chunk::<8>().copied();
    Some(match code {
        LITERAL => match *body.first()? {
            LITERAL_NULL => Value::Null,
            LITERAL_TRUE => Value::Bool(true),
            LITERAL_FALSE => Value::Bool(false),
            _ => return None,
        },
        INT64 => Value::Int(i64::from_le_bytes(eight()?)),
        UINT64 => Value::UInt(u64::from_le_bytes(eight()?)),
        DOUBLE => Value::Double(f64::from_le_bytes(eight()?)),
        STRING => {
            let mut rest = body;
            let len = usize::try_from(decode_uvarint(&mut rest)?).ok()?;
            *bytes_left = bytes_left.checked_sub(len)?;
            Value::String(String::from_utf8_lossy(rest.get(..len)?).into_owned())
        }
        ARRAY => {
            let count = u32_at(body, 0)?;
            let items =
                (0..count).map(|i| entry(body, HEADER + i * VALUE_ENTRY, depth, bytes_left));
            Value::Array(items.collect::<Option<_>>()?)
        }
        OBJECT => {
            let count = u32_at(body, 0)?;
            let values = HEADER + count.checked_mul(KEY_ENTRY)?;
            let member = |i: usize| {
                let at = HEADER + i * KEY_ENTRY;
                let (offset, len) = (u32_at(body, at)?, body.get(at + 4..)?.first_chunk::<2>()?);
                let key =
                    body.get(offset..offset.checked_add(usize::from(u16::from_le_bytes(*len)))?)?;
                *bytes_left = bytes_left.checked_sub(key.len())?;
                let key = String::from_utf8_lossy(key).into_owned();
                Some((
                    key,
                    entry(body, values + i * VALUE_ENTRY, depth, bytes_left)?,
                ))
            };
            Value::Object((0..count).map(member).collect::<Option<_>>()?)
        }
        DURATION => Value::Other(code, body.get(..12)?.to_vec()),
        OPAQUE => {
            let mut rest = body.get(1..)?;
            let len = usize::try_from(decode_uvarint(&mut rest)?).ok()?;
            let end = (body.len() - rest.len()).checked_add(len)?;
            Value::Other(code, body.get(..end)?.to_vec())
        }
        _ => Value::Other(code, eight()?.to_vec()),
    })
}

fn entry(container: &[u8], at: usize, depth: usize, bytes_left: &mut usize) -> Option<Value> {
    let code = *container.get(at)?;
    if code == LITERAL {
        return get(code, container.get(at + 1..)?, depth + 1, bytes_left);
    }
    get(
        code,
        container.get(u32_at(container, at + 1)?..)?,
        depth + 1,
        bytes_left,
    )
}
