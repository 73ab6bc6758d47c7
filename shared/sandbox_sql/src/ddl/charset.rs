//! Which charsets and collations exist, and which one a column ends up with.

use crate::error::{SqlError, SqlResult, code};

/// Charsets with their default collation.
const CHARSETS: [(&str, &str); 7] = [
    ("utf8mb4", "utf8mb4_bin"),
    ("utf8", "utf8_bin"),
    ("latin1", "latin1_bin"),
    ("ascii", "ascii_bin"),
    ("binary", "binary"),
    ("gbk", "gbk_chinese_ci"),
    ("gb18030", "gb18030_chinese_ci"),
];

const COLLATIONS: [&str; 17] = [
    "utf8mb4_bin",
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_0900_ai_ci",
    "utf8mb4_0900_bin",
    "utf8_bin",
    "utf8_general_ci",
    "utf8_unicode_ci",
    "latin1_bin",
    "ascii_bin",
    "binary",
    "gbk_bin",
    "gbk_chinese_ci",
    "gb18030_bin",
    "gb18030_chinese_ci",
    "utf8mb3_bin",
    "utf8mb3_general_ci",
];

/// The collation a charset has when none is named.
pub fn default_collation(charset: &str) -> SqlResult<&'static str> {
    let charset = if charset == "utf8mb3" {
        "utf8"
    } else {
        charset
    };
    let found = CHARSETS
        .iter()
        .find(|(name, _)| *name == charset)
        .map(|(_, collation)| *collation);
    found.ok_or_else(|| {
        SqlError::new(
            code::UNKNOWN_CHARSET,
            format!("Unknown character set: '{charset}'"),
        )
    })
}

/// The charset a collation belongs to.
pub fn charset_of_collation(collation: &str) -> SqlResult<&'static str> {
    if !COLLATIONS.contains(&collation) {
        return Err(SqlError::new(
            code::UNKNOWN_COLLATION,
            format!("Unknown collation: '{collation}'"),
        ));
    }
    let charset = collation.split('_').next().unwrap_or(collation);
    let charset = if charset == "utf8mb3" {
        "utf8"
    } else {
        charset
    };
    CHARSETS
        .iter()
        .find(|(name, _)| *name == charset)
        .map(|(name, _)| *name)
        .ok_or_else(|| {
            SqlError::new(
                code::UNKNOWN_COLLATION,
                format!("Unknown collation: '{collation}'"),
            )
        })
}

/// Charset and collation from what was written, falling back to `outer`.
pub fn resolve(
    charset: Option<&str>,
    collate: Option<&str>,
    outer: (&str, &str),
) -> SqlResult<(String, String)> {
    let charset = charset.map(|c| if c == "utf8mb3" { "utf8" } else { c });
    match (charset, collate) {
        (_, Some(collate)) => {
            let of = charset_of_collation(collate)?;
            if charset.is_some_and(|c| c != of) {
                let text = format!(
                    "COLLATION '{collate}' is not valid for CHARACTER SET '{}'",
                    charset.unwrap_or_default()
                );
                return Err(SqlError::new(1253, text));
            }
            Ok((of.to_owned(), collate.replace("utf8mb3", "utf8")))
        }
        (Some(charset), None) => Ok((charset.to_owned(), default_collation(charset)?.to_owned())),
        (None, None) => Ok((outer.0.to_owned(), outer.1.to_owned())),
    }
}
