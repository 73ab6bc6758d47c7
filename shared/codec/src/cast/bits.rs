//! ENUM, SET and BIT.

use super::number::parse_uint_literal;
use super::{Cast, Cell, Field, Problem, bad, field_text};
use crate::mysql::code;
use crate::schema::FieldType;
use crate::sort::SortKey;

/// Elements of an ENUM or SET, by sort key.
#[derive(Clone, Debug)]
pub(crate) struct Elements {
    keys: Vec<Vec<u8>>,
    sort: SortKey,
}

impl Elements {
    /// `None` when an element is malformed.
    pub(crate) fn new(field_type: &FieldType, sort: SortKey) -> Option<Elements> {
        let keys = (0..field_type.elems().len())
            .map(|at| Some(sort.key(&field_type.elem_bytes(at)?).into_owned()))
            .collect::<Option<_>>()?;
        Some(Elements { keys, sort })
    }

    /// Index from 1 of the first element that equals `text`.
    fn position(&self, text: &[u8]) -> Option<u64> {
        let key = self.sort.key(text);
        self.keys
            .iter()
            .position(|element| **element == *key)
            .map(|at| at as u64 + 1)
    }

    pub(crate) fn cast_enum<'a>(&self, field: Field<'a>) -> Cast<'a> {
        let in_range = |index: u64| {
            (1..=self.keys.len() as u64)
                .contains(&index)
                .then_some(index)
        };
        let index = match field {
            Field::Text(text) | Field::Binary(text) => self
                .position(text)
                .or_else(|| parse_uint_literal(text).and_then(in_range)),
            Field::Int(v) => u64::try_from(v).ok().and_then(in_range),
            Field::UInt(v) => in_range(v),
            Field::Float(_) | Field::Double(_) | Field::Decimal(_) => {
                whole(&field).and_then(in_range)
            }
            other => self.position(&field_text(&other)),
        };
        index.map_or_else(
            || bad(Problem::Truncated, Cell::UInt(0)),
            |index| Ok(Cell::UInt(index)),
        )
    }

    pub(crate) fn cast_set<'a>(&self, field: Field<'a>) -> Cast<'a> {
        let all = self
            .keys
            .len()
            .checked_sub(1)
            .map_or(0, |top| u64::MAX >> (63 - top.min(63)));
        let in_range = |mask: u64| (mask & !all == 0).then_some(mask);
        let mask = match field {
            Field::Text(text) | Field::Binary(text) => self
                .members(text)
                .or_else(|| parse_uint_literal(text).and_then(in_range)),
            Field::Int(v) => in_range(v as u64),
            Field::UInt(v) => in_range(v),
            Field::Float(_) | Field::Double(_) | Field::Decimal(_) => {
                whole(&field).and_then(in_range)
            }
            other => self.members(&field_text(&other)),
        };
        mask.map_or_else(
            || bad(Problem::Truncated, Cell::UInt(0)),
            |mask| Ok(Cell::UInt(mask)),
        )
    }

    fn members(&self, text: &[u8]) -> Option<u64> {
        if text.is_empty() {
            return Some(0);
        }
        let pieces = text.split(|byte| *byte == b',');
        pieces
            .map(|piece| Some(1 << (self.position(piece)? - 1)))
            .try_fold(0, |mask, bit: Option<u64>| Some(mask | bit?))
    }
}

fn whole(field: &Field<'_>) -> Option<u64> {
    let text = field_text(field);
    crate::decimal::MyDecimal::parse(&text).0.to_u64().ok()
}

/// Text of an ENUM's element; empty for 0.
pub(crate) fn enum_name(index: u64, field_type: &FieldType) -> String {
    let at = usize::try_from(index)
        .ok()
        .and_then(|index| index.checked_sub(1));
    at.map_or_else(String::new, |at| name(field_type, at))
}

fn name(field_type: &FieldType, at: usize) -> String {
    let bytes = field_type.elem_bytes(at).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Members of a SET joined by commas.
pub(crate) fn set_name(mask: u64, field_type: &FieldType) -> String {
    let member = |at: &usize| mask >> at & 1 == 1;
    let names: Vec<String> = (0..field_type.elems().len().min(64))
        .filter(member)
        .map(|at| name(field_type, at))
        .collect();
    names.join(",")
}

/// BIT(n): text and literals are big-endian bytes, numbers their value.
pub(crate) fn cast_bit<'a>(field: Field<'a>, bits: u32) -> Cast<'a> {
    let limit = u64::MAX >> (64 - bits);
    let value = match field {
        Field::Text(bytes) | Field::Binary(bytes) => {
            let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            if significant.len() > 8 {
                // What is no number of 64 bits is only too long for a column of fewer.
                let problem = if bits == 64 {
                    Problem::Incorrect("bit")
                } else {
                    Problem::TooLong
                };
                return bad(problem, Cell::UInt(limit));
            }
            significant
                .iter()
                .fold(0, |v, byte| v << 8 | u64::from(*byte))
        }
        Field::Int(v) => v as u64,
        Field::UInt(v) => v,
        Field::Float(_) | Field::Double(_) | Field::Decimal(_) => match whole(&field) {
            Some(value) => value,
            None => return bad(Problem::OutOfRange, Cell::UInt(0)),
        },
        Field::Time(_) | Field::Duration(_) => {
            return super::hard(code::DATA_TOO_LONG, "a date or time does not fit BIT");
        }
        Field::Null => return Ok(Cell::Null),
    };
    if value > limit {
        bad(Problem::TooLong, Cell::UInt(limit))
    } else {
        Ok(Cell::UInt(value))
    }
}
