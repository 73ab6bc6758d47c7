//! VECTOR.

use super::{Cast, Cell, Field, field_text, hard};

const DIMENSION_MAX: usize = 16_383;

/// Errors of vectors have no code of their own.
const NO_CODE: u16 = 0;

pub(crate) fn cast<'a>(field: Field<'a>, dimension: Option<usize>) -> Cast<'a> {
    let text = field_text(&field);
    let Some(elements) = parse(&text) else {
        return hard(
            NO_CODE,
            format!("Invalid vector text: {}", String::from_utf8_lossy(&text)),
        );
    };
    if elements.iter().any(|element| !element.is_finite()) {
        return hard(NO_CODE, "vector cannot contain NaN or infinity");
    }
    if elements.len() > DIMENSION_MAX {
        return hard(
            NO_CODE,
            format!("vector cannot have more than {DIMENSION_MAX} dimensions"),
        );
    }
    if let Some(dimension) = dimension.filter(|dimension| *dimension != elements.len()) {
        let message = format!(
            "vector has {} dimensions, does not fit VECTOR({dimension})",
            elements.len()
        );
        return hard(NO_CODE, message);
    }
    Ok(Cell::Vector(encode(&elements)))
}

fn parse(text: &[u8]) -> Option<Vec<f32>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let body = text.strip_prefix('[')?.strip_suffix(']')?;
    if body.trim().is_empty() {
        return Some(Vec::new());
    }
    let number = |part: &str| {
        let part = part.trim();
        let plain = part
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        part.parse().ok().filter(|_| plain)
    };
    body.split(',').map(number).collect()
}

/// Dimension and elements, little-endian.
pub(crate) fn encode(elements: &[f32]) -> Vec<u8> {
    let mut out = (elements.len() as u32).to_le_bytes().to_vec();
    elements
        .iter()
        .for_each(|element| out.extend_from_slice(&element.to_le_bytes()));
    out
}

/// Inverse of [`encode`].
pub(crate) fn elements(bytes: &[u8]) -> Vec<f32> {
    let body = bytes.get(4..).unwrap_or_default();
    body.as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

/// `[f,f,…]`.
pub fn vector_text(elements: &[f32]) -> String {
    let parts: Vec<String> = elements.iter().map(f32::to_string).collect();
    format!("[{}]", parts.join(","))
}
