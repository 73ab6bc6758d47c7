//! Which source file is what: schema, data of which table, or nothing of ours. Owns the default names that
//! Dumpling and mydumper write, the rules of `[[mydumper.files]]` and their templates. Works on names
//! alone; [`crate::tree`] walks the directory.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::filter::short;
use crate::job::{Compression, FileFormat};

/// The rules of a job; the first one that matches decides.
#[derive(Clone, Debug)]
pub struct FileRules {
    rules: Vec<FileRule>,
}

/// A data file of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Below the source directory, with `/`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Last change, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// The store's mark of the content, if it has one.
    #[serde(default)]
    pub etag: Option<String>,
    /// Which reader it needs.
    pub format: FileFormat,
    /// What it is packed with.
    pub compression: Compression,
    /// Orders the files of a table.
    pub sort_key: String,
    /// The database by the file's name, before routes.
    pub source_database: String,
    /// The table by the file's name, before routes.
    pub source_table: String,
    /// The only table, in lower case, that is taken from a dump of several tables.
    pub only_table: Option<String>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRole {
    /// Not for us.
    Ignored,
    /// CREATE DATABASE.
    Database {
        database: String,
        compression: Compression,
    },
    /// CREATE TABLE.
    Table {
        database: String,
        table: String,
        compression: Compression,
    },
    /// CREATE VIEW.
    View {
        database: String,
        table: String,
        compression: Compression,
    },
    /// Rows.
    Data {
        database: String,
        table: String,
        format: FileFormat,
        compression: Compression,
        sort_key: String,
    },
}

/// Why a file that matches a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// No reader for the packing.
    #[error("compression {0:?} is not supported")]
    Compression(String),
    /// Parquet packs its own pages.
    #[error("a Parquet file is not compressed as a whole")]
    PackedParquet,
    /// A template gave a word that is no type.
    #[error("{0:?} is not a file type")]
    Type(String),
    /// A template gave an empty name.
    #[error("the rule gives an empty {0} name")]
    Empty(&'static str),
}

#[derive(Clone, Debug)]
struct FileRule {
    pattern: Regex,
    schema: Template,
    table: Template,
    kind: Template,
    key: Template,
    /// `None`: by the suffix of the path.
    compression: Option<Template>,
    /// Names stand in a file name, so they are percent-encoded.
    encoded: bool,
}

/// The keys of one `[[mydumper.files]]` item as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleText {
    pub pattern: String,
    pub path: String,
    pub schema: String,
    pub table: String,
    pub kind: String,
    pub key: String,
    pub compression: Option<String>,
}

/// Text with `$1`, `${name}` and `$$`.
#[derive(Clone, Debug)]
struct Template(String);

impl Template {
    /// Every group that the template names has to be there: Go and this crate would silently give an empty
    /// text for `$1_x`, which names the group `1_x`.
    fn parse(text: &str, pattern: &Regex) -> Result<Self, String> {
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                rest = after;
                continue;
            }
            let name = match rest.strip_prefix('{') {
                Some(inner) => inner
                    .split_once('}')
                    .map(|(name, _)| name)
                    .ok_or("`${` is not closed")?,
                None => {
                    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    &rest[..end.unwrap_or(rest.len())]
                }
            };
            let known = match name.parse::<usize>() {
                Ok(number) => number < pattern.captures_len(),
                Err(_) => pattern.capture_names().flatten().any(|group| group == name),
            };
            if !known {
                return Err(format!(
                    "the pattern has no group {name:?}; write `${{1}}` to end a group's name, `$$` for a dollar sign"
                ));
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn fill(&self, captures: &Captures<'_>) -> String {
        let mut filled = String::new();
        captures.expand(&self.0, &mut filled);
        filled
    }
}

impl FileRule {
    /// Reads a written rule; the error names the key and the reason.
    fn parse(text: &RuleText, source_dir: &str) -> Result<Self, (&'static str, String)> {
        let pattern = match (text.pattern.as_str(), text.path.as_str()) {
            ("", "") => return Err(("pattern", "one of pattern and path must be given".into())),
            (pattern, "") => RegexBuilder::new(pattern).size_limit(1 << 20).build(),
            ("", path) => {
                let below = Path::new(path)
                    .strip_prefix(source_dir)
                    .unwrap_or(Path::new(path));
                let name = below.to_string_lossy();
                Regex::new(&format!(
                    "^{}$",
                    regex::escape(name.trim_start_matches("./"))
                ))
            }
            _ => return Err(("path", "pattern and path cannot be given together".into())),
        };
        let pattern = pattern.map_err(|e| ("pattern", short(&e)))?;
        let template = |key, text: &str| Template::parse(text, &pattern).map_err(|e| (key, e));
        let kind = template("type", &text.kind)?;
        if !text.kind.contains('$') && Kind::parse(&text.kind).is_none() {
            return Err(("type", format!("{:?} is not a file type", text.kind)));
        }
        if let Some(fixed) = text.compression.as_deref().filter(|c| !c.contains('$')) {
            compression(fixed).map_err(|e| ("compression", e.to_string()))?;
        }
        let ignored = Kind::parse(&text.kind) == Some(Kind::Ignore);
        let database_only = ignored || Kind::parse(&text.kind) == Some(Kind::Schema);
        if text.schema.is_empty() && !ignored {
            return Err(("schema", "it must be given".into()));
        }
        if text.table.is_empty() && !database_only {
            return Err(("table", "it must be given".into()));
        }
        Ok(Self {
            schema: template("schema", &text.schema)?,
            table: template("table", &text.table)?,
            kind,
            key: template("key", &text.key)?,
            compression: text
                .compression
                .as_deref()
                .map(|c| template("compression", c))
                .transpose()?,
            encoded: false,
            pattern,
        })
    }

    fn role(&self, name: &str) -> Option<Result<FileRole, RoutingError>> {
        let captures = self.pattern.captures(name)?;
        Some(self.fill(name, &captures))
    }

    fn fill(&self, name: &str, captures: &Captures<'_>) -> Result<FileRole, RoutingError> {
        let kind_text = self.kind.fill(captures);
        let kind = Kind::parse(&kind_text).ok_or(RoutingError::Type(kind_text))?;
        if kind == Kind::Ignore {
            return Ok(FileRole::Ignored);
        }
        let packed = match &self.compression {
            Some(template) => compression(&template.fill(captures))?,
            None => compression(suffix_of_packed(name))?,
        };
        let name_of = |template: &Template, what| {
            let filled = template.fill(captures);
            let decoded = if self.encoded {
                percent_decode(&filled).into_owned()
            } else {
                filled
            };
            if decoded.is_empty() {
                Err(RoutingError::Empty(what))
            } else {
                Ok(decoded)
            }
        };
        let database = name_of(&self.schema, "database")?;
        if kind == Kind::Schema {
            return Ok(FileRole::Database {
                database,
                compression: packed,
            });
        }
        let table = name_of(&self.table, "table")?;
        Ok(match kind {
            Kind::Ignore | Kind::Schema => FileRole::Ignored,
            Kind::Table => FileRole::Table {
                database,
                table,
                compression: packed,
            },
            Kind::View => FileRole::View {
                database,
                table,
                compression: packed,
            },
            Kind::Data(FileFormat::Parquet) if packed != Compression::None => {
                return Err(RoutingError::PackedParquet);
            }
            Kind::Data(format) => {
                let sort_key = self.key.fill(captures);
                FileRole::Data {
                    database,
                    table,
                    format,
                    compression: packed,
                    sort_key,
                }
            }
        })
    }
}

impl FileRules {
    /// The default rules alone.
    pub fn dumpling() -> Self {
        Self {
            rules: default_rules(),
        }
    }

    /// The written rules, then the default ones if wanted. Every wrong rule is returned with its index, key
    /// and reason.
    pub(crate) fn new(
        texts: &[RuleText],
        source_dir: &str,
        defaults: bool,
    ) -> Result<Self, Vec<(usize, &'static str, String)>> {
        let (mut rules, mut wrong) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            match FileRule::parse(text, source_dir) {
                Ok(rule) => rules.push(rule),
                Err((key, reason)) => wrong.push((index, key, reason)),
            }
        }
        if defaults {
            rules.extend(default_rules());
        }
        if wrong.is_empty() {
            Ok(Self { rules })
        } else {
            Err(wrong)
        }
    }

    /// What the file with this name below the source directory is; `None` if no rule matches.
    pub fn role(&self, name: &str) -> Option<Result<FileRole, RoutingError>> {
        self.rules.iter().find_map(|rule| rule.role(name))
    }
}

/// The names that Dumpling and mydumper write, first match first: pattern, schema, table, type, key,
/// compression. A table's name is as short as possible, so that it leaves the digits to the sort key, and may
/// hold dots; a database's name may not.
const DEFAULT_RULES: &[[&str; 6]] = &[
    [
        r"-schema-(?:trigger|post)\.sql(?:\.\w*)?$",
        "",
        "",
        "ignore",
        "",
        "",
    ],
    [
        r"\.(?:sql|csv|parquet)(?:\.\w+)?\.bak$",
        "",
        "",
        "ignore",
        "",
        "",
    ],
    [
        r"^(?:[^/]*/)*([^/.]+)-schema-create\.sql(?:\.(\w*))?$",
        "$1",
        "",
        "schema-schema",
        "",
        "$2",
    ],
    [
        r"^(?:[^/]*/)*([^/.]+)\.([^/]*?)-schema\.sql(?:\.(\w*))?$",
        "$1",
        "$2",
        "table-schema",
        "",
        "$3",
    ],
    [
        r"^(?:[^/]*/)*([^/.]+)\.([^/]*?)-schema-view\.sql(?:\.(\w*))?$",
        "$1",
        "$2",
        "view-schema",
        "",
        "$3",
    ],
    [
        r"^(?:[^/]*/)*([^/.]+)\.([^/]*?)(?:\.([0-9]+))?\.(sql|csv|parquet)(?:\.(\w+))?$",
        "$1",
        "$2",
        "$4",
        "$3",
        "$5",
    ],
];

fn default_rules() -> Vec<FileRule> {
    let template = |text: &str| Template(text.to_owned());
    let rule = |[pattern, schema, table, kind, key, compression]: &[&str; 6]| FileRule {
        pattern: RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .expect("the default patterns are constants"),
        schema: template(schema),
        table: template(table),
        kind: template(kind),
        key: template(key),
        compression: Some(template(compression)),
        encoded: true,
    };
    DEFAULT_RULES.iter().map(rule).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ignore,
    Schema,
    Table,
    View,
    Data(FileFormat),
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "ignore" => Kind::Ignore,
            "schema-schema" => Kind::Schema,
            "table-schema" => Kind::Table,
            "view-schema" => Kind::View,
            "csv" => Kind::Data(FileFormat::Csv),
            "sql" => Kind::Data(FileFormat::Sql),
            "parquet" => Kind::Data(FileFormat::Parquet),
            _ => return None,
        })
    }
}

fn compression(text: &str) -> Result<Compression, RoutingError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "none" => Ok(Compression::None),
        "gz" | "gzip" => Ok(Compression::Gzip),
        "zst" | "zstd" => Ok(Compression::Zstd),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "xz" => Ok(Compression::Xz),
        "bz2" | "bzip2" => Ok(Compression::Bzip2),
        _ => Err(RoutingError::Compression(text.to_owned())),
    }
}

/// The last suffix, if it is one of a packed file.
fn suffix_of_packed(name: &str) -> &str {
    let suffix = name
        .rsplit('/')
        .next()
        .and_then(|file| file.rsplit_once('.'))
        .map_or("", |(_, s)| s);
    let packed = [
        "gz", "gzip", "zst", "zstd", "snappy", "lz4", "xz", "bz2", "bzip2", "lzo",
    ];
    if packed.iter().any(|p| p.eq_ignore_ascii_case(suffix)) {
        suffix
    } else {
        ""
    }
}

/// `%41` → `A`; a text with a broken escape, or whose bytes are not UTF-8, stays as it is.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|b| (*b as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Cow::Borrowed(text);
        };
        bytes.push((high * 16 + low) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn show(role: Option<Result<FileRole, RoutingError>>) -> String {
        match role {
            None => "skipped".into(),
            Some(Err(e)) => format!("error: {e}"),
            Some(Ok(FileRole::Ignored)) => "ignored".into(),
            Some(Ok(FileRole::Database {
                database,
                compression,
            })) => format!("database {database} {compression:?}"),
            Some(Ok(FileRole::Table {
                database,
                table,
                compression,
            })) => format!("table {database} {table} {compression:?}"),
            Some(Ok(FileRole::View {
                database, table, ..
            })) => format!("view {database} {table}"),
            Some(Ok(FileRole::Data {
                database,
                table,
                format,
                compression,
                sort_key,
            })) => {
                format!("{format:?} {database} {table} {compression:?} key={sort_key}")
            }
        }
    }

    #[test]
    fn default_names_are_routed_as_lightning_does() {
        let rules = FileRules::dumpling();
        for (name, expected) in [
            ("a.b.c.csv", "Csv a b.c None key="),
            ("a.b.0001.csv", "Csv a b None key=0001"),
            ("a.b.3.csv.gz", "Csv a b Gzip key=3"),
            ("sub/a.b.csv", "Csv a b None key="),
            ("s.d/u/a.b.sql", "Sql a b None key="),
            ("a.b.x1.csv", "Csv a b.x1 None key="),
            ("A.b.c.0002.CSV", "Csv A b.c None key=0002"),
            ("a.b.parquet", "Parquet a b None key="),
            (
                "a.b.parquet.gz",
                "error: a Parquet file is not compressed as a whole",
            ),
            ("a.b.csv.lz4", "Csv a b Lz4 key="),
            ("a.b.csv.lzo", "error: compression \"lzo\" is not supported"),
            ("a.b.csv.md5", "error: compression \"md5\" is not supported"),
            ("a.b.csv.zst", "Csv a b Zstd key="),
            ("a.b.csv.snappy", "Csv a b Snappy key="),
            ("a-schema-create.sql", "database a None"),
            ("a-schema-create.sql.zstd", "database a Zstd"),
            ("a.b-schema.sql", "table a b None"),
            ("a.b-schema.sql.gz", "table a b Gzip"),
            ("a.b-schema-view.sql", "view a b"),
            ("a.b-schema-trigger.sql", "ignored"),
            ("a-schema-post.sql.gz", "ignored"),
            ("a.b.csv.bak", "ignored"),
            ("a.b.csv.gz.bak", "ignored"),
            (
                "a.seq-schema-sequence.sql",
                "Sql a seq-schema-sequence None key=",
            ),
            ("p-placement-policy-create.sql", "skipped"),
            ("metadata", "skipped"),
            ("b.csv", "skipped"),
            ("x.d/b.csv", "skipped"),
            ("a%2Eb.c%25.1.csv", "Csv a.b c% None key=1"),
            ("a.%zz.csv", "Csv a %zz None key="),
            ("a.b.0000000010001.csv", "Csv a b None key=0000000010001"),
        ] {
            assert_eq!(show(rules.role(name)), expected, "{name}");
        }
    }

    fn rule(pattern: &str, schema: &str, table: &str, kind: &str) -> RuleText {
        RuleText {
            pattern: pattern.into(),
            schema: schema.into(),
            table: table.into(),
            kind: kind.into(),
            ..RuleText::default()
        }
    }

    #[test]
    fn written_rules_fill_their_templates() {
        let mut first = rule(
            r"(?i)(?P<db>\w+)/part-(\d+)\.(csv|sql)",
            "${db}",
            "t$$${2}x",
            "$3",
        );
        first.key = "$2".into();
        let mut literal = rule("", "d", "t", "csv");
        literal.path = "/data/one.tsv.gz".into();
        let mut packed = rule("raw$", "d", "r", "csv");
        packed.compression = Some("gzip".into());
        let texts = [first, literal, packed, rule("tmp", "", "", "ignore")];
        let rules = FileRules::new(&texts, "/data", false).unwrap();
        for (name, expected) in [
            ("in/sales/part-07.CSV", "Csv sales t$07x None key=07"),
            ("one.tsv.gz", "Csv d t Gzip key="),
            ("x/one.tsv.gz", "skipped"),
            ("y.raw", "Csv d r Gzip key="),
            ("tmp.csv", "ignored"),
            ("a.b.csv", "skipped"),
        ] {
            assert_eq!(show(rules.role(name)), expected, "{name}");
        }
        let rules = FileRules::new(&texts, "/data", true).unwrap();
        assert_eq!(show(rules.role("a.b.csv")), "Csv a b None key=");
    }

    #[test]
    fn wrong_rules_name_their_key() {
        let mut both = rule("x", "d", "t", "csv");
        both.path = "x".into();
        let mut odd = rule("x", "d", "t", "csv");
        odd.compression = Some("rar".into());
        let texts = [
            rule("(", "d", "t", "csv"),
            rule("x", "d", "t", "xls"),
            rule("x", "$1", "t", "csv"),
            rule("(x)", "d", "$1_y", "csv"),
            rule("x", "${n", "t", "csv"),
            rule("", "d", "t", "csv"),
            rule("x", "", "t", "csv"),
            rule("x", "d", "", "csv"),
            both,
            odd,
        ];
        let wrong = FileRules::new(&texts, "/data", true).unwrap_err();
        let keys: Vec<&str> = wrong.iter().map(|(_, key, _)| *key).collect();
        assert_eq!(
            keys,
            [
                "pattern",
                "type",
                "schema",
                "table",
                "schema",
                "pattern",
                "schema",
                "table",
                "path",
                "compression"
            ]
        );
    }
}
