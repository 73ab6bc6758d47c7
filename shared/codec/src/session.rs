//! The settings under which rows are encoded: sql_mode, time zone, collation framework, row format, the
//! fixed "now". They are read from the cluster once, at plan time, and travel with the plan, so that every
//! attempt on every agent encodes the same bytes.

use crate::time::Zone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Set of `sql_mode` switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlMode(u32);

const MODES: [(&str, SqlMode); 17] = [
    ("REAL_AS_FLOAT", SqlMode(1 << 0)),
    ("PIPES_AS_CONCAT", SqlMode(1 << 1)),
    ("ANSI_QUOTES", SqlMode(1 << 2)),
    ("ONLY_FULL_GROUP_BY", SqlMode(1 << 3)),
    ("NO_UNSIGNED_SUBTRACTION", SqlMode::NO_UNSIGNED_SUBTRACTION),
    ("NO_AUTO_VALUE_ON_ZERO", SqlMode::NO_AUTO_VALUE_ON_ZERO),
    ("NO_BACKSLASH_ESCAPES", SqlMode::NO_BACKSLASH_ESCAPES),
    ("STRICT_TRANS_TABLES", SqlMode(1 << 7)),
    ("STRICT_ALL_TABLES", SqlMode(1 << 8)),
    ("NO_ZERO_IN_DATE", SqlMode::NO_ZERO_IN_DATE),
    ("NO_ZERO_DATE", SqlMode::NO_ZERO_DATE),
    ("ALLOW_INVALID_DATES", SqlMode::ALLOW_INVALID_DATES),
    (
        "ERROR_FOR_DIVISION_BY_ZERO",
        SqlMode::ERROR_FOR_DIVISION_BY_ZERO,
    ),
    ("NO_AUTO_CREATE_USER", SqlMode(1 << 13)),
    ("NO_ENGINE_SUBSTITUTION", SqlMode(1 << 14)),
    ("PAD_CHAR_TO_FULL_LENGTH", SqlMode(1 << 15)),
    ("IGNORE_SPACE", SqlMode(1 << 16)),
];

impl SqlMode {
    pub const NO_UNSIGNED_SUBTRACTION: SqlMode = SqlMode(1 << 4);
    pub const NO_AUTO_VALUE_ON_ZERO: SqlMode = SqlMode(1 << 5);
    pub const NO_BACKSLASH_ESCAPES: SqlMode = SqlMode(1 << 6);
    pub const NO_ZERO_IN_DATE: SqlMode = SqlMode(1 << 9);
    pub const NO_ZERO_DATE: SqlMode = SqlMode(1 << 10);
    pub const ALLOW_INVALID_DATES: SqlMode = SqlMode(1 << 11);
    pub const ERROR_FOR_DIVISION_BY_ZERO: SqlMode = SqlMode(1 << 12);
    const STRICT: SqlMode = SqlMode(1 << 7 | 1 << 8);

    /// Reads a comma-separated list; names it does not know change nothing about encoding and are dropped.
    pub fn parse(text: &str) -> SqlMode {
        let known = |name: &str| {
            MODES
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name.trim()))
        };
        SqlMode(
            text.split(',')
                .filter_map(known)
                .fold(0, |bits, (_, mode)| bits | mode.0),
        )
    }

    pub fn has(self, mode: SqlMode) -> bool {
        self.0 & mode.0 != 0
    }

    /// Whether a bad value rejects its row rather than being adjusted.
    pub fn is_strict(self) -> bool {
        self.has(Self::STRICT)
    }

    /// Whether month 0 and day 0 get past the parser.
    pub fn parses_zero_in_date(self) -> bool {
        !(self.is_strict() && self.has(Self::NO_ZERO_IN_DATE) && self.has(Self::NO_ZERO_DATE))
    }
}

impl fmt::Display for SqlMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = MODES.iter().filter(|(_, mode)| self.has(*mode));
        for (i, (name, _)) in set.enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// TiDB's default for sessions.
impl Default for SqlMode {
    fn default() -> Self {
        Self::parse(
            "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
             ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION",
        )
    }
}

impl Serialize for SqlMode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SqlMode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(from)?))
    }
}

/// Everything outside the table model that decides the bytes of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    pub sql_mode: SqlMode,
    pub time_zone: Zone,
    /// `mysql.tidb.new_collation_enabled`; fixed when the cluster was made.
    pub new_collation: bool,
    /// `tidb_row_format_version`: 1 or 2.
    pub row_format: u8,
    /// `tidb_enable_row_level_checksum`: rows of format 2 carry a checksum. Importers write none.
    pub row_checksum: bool,
    /// What CURRENT_TIMESTAMP is: microseconds since the Unix epoch.
    pub now_us: i64,
    /// NULL for a NOT NULL column becomes the type's zero value under a non-strict mode, as in an import
    /// or an INSERT of several rows. An INSERT of one row rejects it in every mode.
    pub null_becomes_zero: bool,
    /// `tidb_enable_check_constraint`.
    pub check_constraints: bool,
    pub div_precision_increment: u8,
    pub default_week_format: u8,
    pub lc_time_names: String,
    pub block_encryption_mode: String,
    /// Seeds shard bits and random defaults, so that a repeated attempt makes the same rows.
    pub seed: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            sql_mode: SqlMode::default(),
            time_zone: Zone::utc(),
            new_collation: true,
            row_format: 2,
            row_checksum: false,
            now_us: 0,
            null_becomes_zero: true,
            check_constraints: false,
            div_precision_increment: 4,
            default_week_format: 0,
            lc_time_names: "en_US".to_owned(),
            block_encryption_mode: "aes-128-ecb".to_owned(),
            seed: 0,
        }
    }
}

impl Session {
    /// Whether a bad value rejects its row.
    pub fn is_strict(&self) -> bool {
        self.sql_mode.is_strict()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_session_survives_json() {
        let session = Session {
            sql_mode: SqlMode::parse("STRICT_ALL_TABLES,ALLOW_INVALID_DATES"),
            time_zone: Zone::parse("Asia/Shanghai").unwrap(),
            now_us: 5,
            ..Session::default()
        };
        let text = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&text).unwrap(), session);
        assert!(text.contains("\"ALLOW_INVALID_DATES\"") || text.contains("ALLOW_INVALID_DATES"));
    }

    #[test]
    fn lightning_s_default_mode_is_not_strict() {
        assert!(!SqlMode::parse("ONLY_FULL_GROUP_BY,NO_AUTO_CREATE_USER").is_strict());
        assert!(SqlMode::default().is_strict());
    }
}
