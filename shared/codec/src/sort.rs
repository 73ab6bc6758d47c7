//! Sort keys as the encoder needs them: the binary collations inline, the others by [`crate::collation`].

use crate::collation::Collation;
use std::borrow::Cow;

/// How a column's text becomes bytes that sort.
#[derive(Clone, Copy, Debug)]
pub enum SortKey {
    /// The bytes.
    Raw,
    /// The bytes without trailing spaces.
    Trimmed,
    /// Weights.
    Weights(Collation),
}

/// A collation that TiDB does not have either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("collation `{0}` is unknown")]
pub struct UnknownCollation(pub String);

impl SortKey {
    /// For a collation by name. Without the new collation framework everything sorts by bytes.
    pub fn new(collation: &str, new_collation: bool) -> Result<SortKey, UnknownCollation> {
        if !new_collation {
            return Ok(SortKey::Raw);
        }
        Ok(match collation {
            "" | "binary" | "utf8mb4_0900_bin" => SortKey::Raw,
            "utf8mb4_bin" | "utf8_bin" | "utf8mb3_bin" | "latin1_bin" | "ascii_bin" => {
                SortKey::Trimmed
            }
            other => {
                let known = Collation::from_name(other);
                SortKey::Weights(known.ok_or_else(|| UnknownCollation(other.to_owned()))?)
            }
        })
    }

    /// The key of `text`.
    #[inline]
    pub fn key<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            SortKey::Raw => Cow::Borrowed(text),
            SortKey::Trimmed => Cow::Borrowed(&text[..crate::cast::trimmed_len(text)]),
            SortKey::Weights(collation) => {
                let mut key = Vec::with_capacity(text.len() * 2);
                collation.sort_key(text, &mut key);
                Cow::Owned(key)
            }
        }
    }
}
