//! Collations: names, properties, sort keys, comparison. Sort keys are what index keys, common handles,
//! ENUM and SET matching and partitioning compare by; row values always keep the original bytes. With the
//! new collation framework off every collation is [`Collation::Bytes`].
//!
//! Weight tables are [`weights`]'s, the GBK and GB18030 maps are [`gb`]'s.

mod gb;
mod weights;

pub use gb::{encode_gb18030, encode_gbk, gb18030_decode, gbk_decode, gbk_encodable};

use crate::schema::FieldType;
use std::cmp::Ordering;
use thunderhead_types::{Error, ErrorKind};
use weights::Weights;

/// A collation. Aliases with the same behaviour are one variant only where their ids are never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collation {
    /// Any collation while the new framework is off: plain bytes, nothing trimmed, nothing restored.
    Bytes,
    Binary,
    AsciiBin,
    Latin1Bin,
    Utf8Bin,
    Utf8mb4Bin,
    Utf8mb40900Bin,
    Utf8GeneralCi,
    Utf8mb4GeneralCi,
    Utf8UnicodeCi,
    Utf8mb4UnicodeCi,
    Utf8mb40900AiCi,
    GbkBin,
    GbkChineseCi,
    Gb18030Bin,
    Gb18030ChineseCi,
}

use Collation::*;

const ALL: [(Collation, &str, u16, &str); 15] = [
    (Binary, "binary", 63, "binary"),
    (AsciiBin, "ascii_bin", 65, "ascii"),
    (Latin1Bin, "latin1_bin", 47, "latin1"),
    (Utf8Bin, "utf8_bin", 83, "utf8"),
    (Utf8mb4Bin, "utf8mb4_bin", 46, "utf8mb4"),
    (Utf8mb40900Bin, "utf8mb4_0900_bin", 309, "utf8mb4"),
    (Utf8GeneralCi, "utf8_general_ci", 33, "utf8"),
    (Utf8mb4GeneralCi, "utf8mb4_general_ci", 45, "utf8mb4"),
    (Utf8UnicodeCi, "utf8_unicode_ci", 192, "utf8"),
    (Utf8mb4UnicodeCi, "utf8mb4_unicode_ci", 224, "utf8mb4"),
    (Utf8mb40900AiCi, "utf8mb4_0900_ai_ci", 255, "utf8mb4"),
    (GbkBin, "gbk_bin", 87, "gbk"),
    (GbkChineseCi, "gbk_chinese_ci", 28, "gbk"),
    (Gb18030Bin, "gb18030_bin", 249, "gb18030"),
    (Gb18030ChineseCi, "gb18030_chinese_ci", 248, "gb18030"),
];

impl Collation {
    /// The collation of this name, in any case, `utf8mb3_*` included; `None` for one TiDB does not support.
    pub fn from_name(name: &str) -> Option<Collation> {
        let name = name.to_ascii_lowercase();
        let name = name
            .strip_prefix("utf8mb3_")
            .map_or(name.clone(), |rest| format!("utf8_{rest}"));
        ALL.iter()
            .find(|entry| entry.1 == name)
            .map(|entry| entry.0)
    }

    /// What this collation is with the new framework on or off.
    #[must_use]
    pub fn under(self, new_collation: bool) -> Collation {
        if new_collation { self } else { Bytes }
    }

    /// The collation of this id, as handshakes and column definitions carry it.
    pub fn from_id(id: u16) -> Option<Collation> {
        ALL.iter().find(|entry| entry.2 == id).map(|entry| entry.0)
    }

    /// What a string column compares by; an unknown or empty name is `utf8mb4_bin`, as TiDB takes it.
    pub fn of(field_type: &FieldType, new_collation: bool) -> Collation {
        Self::from_name(&field_type.collate)
            .unwrap_or(Utf8mb4Bin)
            .under(new_collation)
    }

    /// The collation a charset has when none is named.
    pub fn default_of(charset: &str, new_collation: bool) -> Option<Collation> {
        let charset = charset.to_ascii_lowercase();
        let name = match charset.as_str() {
            "utf8mb4" => "utf8mb4_bin",
            "utf8" | "utf8mb3" => "utf8_bin",
            "latin1" => "latin1_bin",
            "ascii" => "ascii_bin",
            "binary" => "binary",
            "gbk" if new_collation => "gbk_chinese_ci",
            "gbk" => "gbk_bin",
            "gb18030" if new_collation => "gb18030_chinese_ci",
            "gb18030" => "gb18030_bin",
            _ => return None,
        };
        Self::from_name(name)
    }

    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn id(self) -> u16 {
        self.entry().2
    }

    pub fn charset(self) -> &'static str {
        self.entry().3
    }

    fn entry(self) -> &'static (Collation, &'static str, u16, &'static str) {
        ALL.iter().find(|entry| entry.0 == self).unwrap_or(&ALL[0])
    }

    /// Whether trailing spaces do not count. There is no padding with weights.
    pub fn trims(self) -> bool {
        !matches!(self, Bytes | Binary | Utf8mb40900Bin | Utf8mb40900AiCi)
    }

    /// Whether the sort key is the value's bytes, trailing spaces aside.
    pub fn is_byte_order(self) -> bool {
        matches!(
            self,
            Bytes | Binary | AsciiBin | Latin1Bin | Utf8Bin | Utf8mb4Bin | Utf8mb40900Bin
        )
    }

    /// Whether text that differs in case is equal.
    pub fn is_ci(self) -> bool {
        !self.is_byte_order() && !matches!(self, GbkBin | Gb18030Bin)
    }

    /// Whether keys lose nothing but trailing spaces: then an index restores a count, not the text.
    pub fn restores_by_space_count(self) -> bool {
        self.is_byte_order() && self.trims()
    }

    /// Refuses the one collation whose weights we do not have.
    pub fn require_keys(self, place: &str) -> thunderhead_types::Result<()> {
        if self != Gb18030ChineseCi {
            return Ok(());
        }
        let cause = "the weights of collation gb18030_chinese_ci are not built in, so its keys cannot be encoded";
        Err(Error::new(ErrorKind::Precheck, place, cause)
            .advice("import this table in logical mode, or use gb18030_bin"))
    }

    /// Appends the sort key. Invalid UTF-8 ends the key of a collation that reads characters, except under
    /// `gbk_bin` and `gb18030_bin`, which write `3f` and go on. For `gb18030_chinese_ci`, which
    /// [`Collation::require_keys`] refuses, the key of `gb18030_bin` stands in.
    pub fn sort_key(self, value: &[u8], out: &mut Vec<u8>) {
        let value = self.trimmed(value);
        match self {
            Bytes | Binary | AsciiBin | Latin1Bin | Utf8Bin | Utf8mb4Bin | Utf8mb40900Bin => {
                out.extend_from_slice(value);
            }
            Utf8GeneralCi | Utf8mb4GeneralCi => weights::general_ci().append(value, out),
            Utf8UnicodeCi | Utf8mb4UnicodeCi => weights::unicode_ci().append(value, out),
            Utf8mb40900AiCi => weights::uca_0900().append(value, out),
            GbkChineseCi => weights::gbk_chinese_ci().append(value, out),
            GbkBin => gb::bin_key(value, out, gb::encode_gbk),
            Gb18030Bin | Gb18030ChineseCi => gb::bin_key(value, out, gb::encode_gb18030),
        }
    }

    /// The sort key on its own.
    pub fn key(self, value: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(value.len() * 2);
        self.sort_key(value, &mut key);
        key
    }

    /// Order of two values.
    pub fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        if self.is_byte_order() {
            return self.trimmed(left).cmp(self.trimmed(right));
        }
        if left == right {
            return Ordering::Equal;
        }
        self.key(left).cmp(&self.key(right))
    }

    /// The value without what the collation ignores at its end.
    pub fn trimmed(self, value: &[u8]) -> &[u8] {
        if !self.trims() {
            return value;
        }
        let kept = value.iter().rposition(|byte| *byte != b' ');
        &value[..kept.map_or(0, |last| last + 1)]
    }

    /// The weights per character, for matching patterns; `None` when characters compare by their bytes.
    pub(crate) fn character_weights(self) -> Option<&'static Weights> {
        match self {
            Utf8GeneralCi | Utf8mb4GeneralCi => Some(weights::general_ci()),
            Utf8UnicodeCi | Utf8mb4UnicodeCi => Some(weights::unicode_ci()),
            Utf8mb40900AiCi => Some(weights::uca_0900()),
            GbkChineseCi => Some(weights::gbk_chinese_ci()),
            _ => None,
        }
    }

    /// Whether two characters are the same to LIKE under this collation.
    pub fn same_character(self, left: char, right: char) -> bool {
        let Some(weights) = self.character_weights().filter(|_| left != right) else {
            return left == right;
        };
        let mut keys = (Vec::new(), Vec::new());
        weights.append_char(left, &mut keys.0);
        weights.append_char(right, &mut keys.1);
        keys.0 == keys.1
    }
}

/// Whether an index on a column of this type must carry the original text because the key lost some of it.
pub fn needs_restored_data(field_type: &FieldType, new_collation: bool) -> bool {
    if !new_collation || !field_type.is_string() {
        return false;
    }
    match Collation::of(field_type, true) {
        Bytes | Binary | Utf8mb40900Bin => false,
        collation => !collation.restores_by_space_count() || field_type.is_varchar(),
    }
}

#[cfg(test)]
mod tests;
