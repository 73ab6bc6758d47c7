//! Casts from source values to column values.

/// `[f,f,…]`.
pub fn vector_text(elements: &[f32]) -> String {
    let parts: Vec<String> = elements.iter().map(f32::to_string).collect();
    format!("[{}]", parts.join(","))
}
