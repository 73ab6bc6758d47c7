//! A job as one SQL statement: LOAD DATA with the options of TiDB 7.1, and IMPORT INTO. Owns the syntax and
//! what each clause means for a [`Job`]; values of keys go through the same checks as those of a file.
//!
//! The statement names the files, the table, the dialect and how fields go to columns; the cluster comes from
//! the rest of the configuration.

mod lex;

use crate::job::{CharacterSet, CsvOptions, Job};
use crate::routing::{FileRules, RuleText};
use lex::Lexer;

/// Why a statement is no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {cause}")]
pub(crate) struct StatementError {
    /// Where in the statement.
    pub at: usize,
    /// What is wrong.
    pub cause: String,
}

type Parsed<T> = Result<T, StatementError>;

/// A statement that was understood.
#[derive(Debug)]
pub(crate) struct Statement {
    rules: FileRules,
    columns: Option<Vec<String>>,
    set: Vec<(String, String)>,
    csv: CsvOptions,
    ragged: bool,
    /// Keys and their values, as if they were written in the configuration.
    pub overrides: Vec<(String, String)>,
}

impl Statement {
    /// Puts what has no key of its own into the checked job.
    pub fn apply(self, job: &mut Job) {
        job.file_rules = self.rules;
        job.csv = self.csv;
        job.statement_fields.columns = self.columns;
        job.statement_fields.set = self.set;
        job.ragged_rows |= self.ragged;
    }
}

#[derive(Default)]
struct Clauses {
    uri: String,
    format: String,
    database: String,
    table: String,
    columns: Option<Vec<String>>,
    set: Vec<(String, String)>,
    csv: CsvOptions,
    /// `DEFINED NULL BY`, and whether also between quotes.
    null: Option<(String, bool)>,
    overrides: Vec<(String, String)>,
}

/// Reads a statement.
pub(crate) fn parse(text: &str) -> Parsed<Statement> {
    let mut lexer = Lexer::new(text);
    let mut clauses = Clauses::default();
    let load = lexer.take_word("LOAD")?;
    if load {
        lexer.word("DATA")?;
        clauses.load_data(&mut lexer)?;
    } else {
        lexer.word("IMPORT")?;
        clauses.import_into(&mut lexer)?;
    }
    lexer.take(';')?;
    if !lexer.at_end()? {
        return Err(lexer.error("the statement should end here"));
    }
    clauses.finish(load)
}

impl Clauses {
    fn over(&mut self, key: &str, value: impl Into<String>) {
        self.overrides.push((key.to_owned(), value.into()));
    }

    fn load_data(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        // What LOAD DATA means without clauses.
        self.csv = CsvOptions {
            separator: "\t".into(),
            quote: String::new(),
            terminator: "\n".into(),
            nulls: Vec::new(),
            header: false,
            lenient: true,
            character_set: CharacterSet::Utf8mb4,
            ..CsvOptions::default()
        };
        let _ = lexer.take_word("LOW_PRIORITY")? || lexer.take_word("CONCURRENT")?;
        lexer.take_word("LOCAL")?;
        lexer.word("INFILE")?;
        self.uri = lexer.string()?;
        if lexer.take_word("FORMAT")? {
            self.format = lexer.format_name()?;
        }
        if lexer.take_word("REPLACE")? {
            self.over("conflict.strategy", "replace");
        } else if lexer.take_word("IGNORE")? {
            self.over("conflict.strategy", "ignore");
        }
        lexer.word("INTO")?;
        lexer.word("TABLE")?;
        (self.database, self.table) = lexer.table()?;
        if lexer.take_word("CHARACTER")? {
            lexer.word("SET")?;
            self.character_set(lexer)?;
        } else if lexer.take_word("CHARSET")? {
            self.character_set(lexer)?;
        }
        if lexer.take_word("FIELDS")? || lexer.take_word("COLUMNS")? {
            self.fields(lexer)?;
        }
        if lexer.take_word("LINES")? {
            self.lines(lexer)?;
        }
        if lexer.take_word("IGNORE")? {
            self.csv.skip_lines = lexer.number()?;
            if !lexer.take_word("LINES")? {
                lexer.word("ROWS")?;
            }
        }
        self.columns = lexer.columns()?;
        if lexer.take_word("SET")? {
            self.set = lexer.assignments(&["WITH"])?;
        }
        self.options(lexer)
    }

    fn import_into(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        self.csv = CsvOptions {
            header: false,
            character_set: CharacterSet::Utf8mb4,
            ..CsvOptions::default()
        };
        lexer.word("INTO")?;
        (self.database, self.table) = lexer.table()?;
        self.columns = lexer.columns()?;
        if lexer.take_word("SET")? {
            self.set = lexer.assignments(&["FROM"])?;
        }
        lexer.word("FROM")?;
        self.uri = lexer.string()?;
        if lexer.take_word("FORMAT")? {
            self.format = lexer.format_name()?;
        }
        self.options(lexer)
    }

    fn character_set(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        let at = lexer.error("");
        let name = lexer.name_or_string()?;
        self.csv.character_set = match name.to_ascii_lowercase().as_str() {
            "binary" => CharacterSet::Binary,
            "utf8" | "utf8mb3" | "utf8mb4" => CharacterSet::Utf8mb4,
            "ascii" => CharacterSet::Ascii,
            "latin1" => CharacterSet::Latin1,
            "gbk" => CharacterSet::Gbk,
            "gb18030" => CharacterSet::Gb18030,
            _ => {
                let cause = format!("the character set {name:?} is not supported");
                return Err(StatementError { cause, ..at });
            }
        };
        Ok(())
    }

    fn fields(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        let mut any = false;
        loop {
            if lexer.take_word("TERMINATED")? {
                lexer.word("BY")?;
                self.csv.separator = lexer.string()?;
            } else if lexer.take_word("DEFINED")? {
                lexer.word("NULL")?;
                lexer.word("BY")?;
                let text = lexer.string()?;
                let quoted = lexer.take_word("OPTIONALLY")?;
                if quoted {
                    lexer.word("ENCLOSED")?;
                }
                self.null = Some((text, quoted));
            } else if lexer.take_word("ESCAPED")? {
                lexer.word("BY")?;
                self.csv.escape = lexer.string()?;
            } else if lexer.take_word("OPTIONALLY")? {
                lexer.word("ENCLOSED")?;
                lexer.word("BY")?;
                self.csv.quote = lexer.string()?;
            } else if lexer.take_word("ENCLOSED")? {
                lexer.word("BY")?;
                self.csv.quote = lexer.string()?;
            } else if any {
                return Ok(());
            } else {
                return Err(
                    lexer.error("TERMINATED, ENCLOSED, ESCAPED or DEFINED is missing after FIELDS")
                );
            }
            any = true;
        }
    }

    fn lines(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        let mut any = false;
        loop {
            if lexer.take_word("STARTING")? {
                lexer.word("BY")?;
                self.csv.starting = lexer.string()?;
            } else if lexer.take_word("TERMINATED")? {
                lexer.word("BY")?;
                self.csv.terminator = lexer.string()?;
            } else if any {
                return Ok(());
            } else {
                return Err(lexer.error("STARTING or TERMINATED is missing after LINES"));
            }
            any = true;
        }
    }

    /// `WITH name[=value], …`
    fn options(&mut self, lexer: &mut Lexer<'_>) -> Parsed<()> {
        if !lexer.take_word("WITH")? {
            return Ok(());
        }
        loop {
            let place = lexer.error("");
            let name = lexer.name_or_string()?.to_ascii_lowercase();
            let value = if lexer.take('=')? {
                Some(lexer.value()?)
            } else {
                None
            };
            self.option(&name, value)
                .map_err(|cause| StatementError { cause, ..place })?;
            if !lexer.take(',')? {
                return Ok(());
            }
        }
    }

    fn option(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let flags = [
            "detached",
            "split_file",
            "disable_precheck",
            "disable_tikv_import_mode",
        ];
        if flags.contains(&name) {
            // A job runs by itself, files are always split, checks are cheap, TiKV stays in normal mode.
            return match value {
                None => Ok(()),
                Some(_) => Err(format!("{name} takes no value")),
            };
        }
        let value = value.ok_or_else(|| format!("{name} is no option, or lacks its value"))?;
        match name {
            "import_mode" => match value.to_ascii_lowercase().as_str() {
                "physical" => self.over("tikv-importer.backend", "local"),
                "logical" => self.over("tikv-importer.backend", "tidb"),
                _ => return Err("import_mode is LOGICAL or PHYSICAL".into()),
            },
            "thread" => self.over("lightning.region-concurrency", value),
            "batch_size" => match value.as_str() {
                "0" => self.over(
                    "tikv-importer.logical-import-batch-rows",
                    u64::MAX.to_string(),
                ),
                _ => self.over("tikv-importer.logical-import-batch-rows", value),
            },
            "max_write_speed" => self.over("tikv-importer.store-write-bwlimit", value),
            "disk_quota" => self.over("tikv-importer.disk-quota", value),
            "checksum_table" => self.over("post-restore.checksum", value),
            "record_errors" => self.over("lightning.max-error", value),
            // A label for people.
            "group_key" => {}
            "character_set" => {
                let mut own = Lexer::new(&value);
                self.character_set(&mut own).map_err(|e| e.cause)?;
            }
            "fields_terminated_by" => self.csv.separator = value,
            "fields_enclosed_by" => self.csv.quote = value,
            "fields_escaped_by" => {
                if self.csv.nulls == ["\\N"] {
                    self.csv.nulls = vec![format!("{value}N")];
                }
                self.csv.escape = value;
            }
            "fields_defined_null_by" => self.csv.nulls = vec![value],
            "lines_terminated_by" => self.csv.terminator = value,
            "skip_rows" => {
                self.csv.skip_lines = value.parse().map_err(|_| "skip_rows is a number")?;
            }
            "cloud_storage_uri" => {
                return Err(
                    "sorted runs stay on the agents' disks: leave cloud_storage_uri out".into(),
                );
            }
            _ => return Err(format!("{name} is no option")),
        }
        Ok(())
    }

    fn finish(mut self, load: bool) -> Parsed<Statement> {
        let fail = |cause: String| StatementError { at: 0, cause };
        let kind = match self.format.to_ascii_uppercase().as_str() {
            "" | "DELIMITED DATA" | "CSV" => "csv",
            "SQL FILE" | "SQL" => "sql",
            "PARQUET" => "parquet",
            other => return Err(fail(format!("the format {other:?} is not supported"))),
        };
        if load {
            let CsvOptions {
                escape,
                quote,
                nulls,
                unquoted_nulls,
                ..
            } = &mut self.csv;
            nulls.extend((!escape.is_empty()).then(|| format!("{escape}N")));
            match self.null.take() {
                Some((text, true)) => nulls.push(text),
                Some((text, false)) => unquoted_nulls.push(text),
                None => unquoted_nulls.extend((!quote.is_empty()).then(|| "NULL".to_owned())),
            }
        }
        if self.csv.separator.is_empty() {
            return Err(fail(
                "fields must be terminated by something: fixed-width rows are not supported".into(),
            ));
        }
        if self.database.is_empty() {
            return Err(fail("name the table with its database: db.table".into()));
        }
        let (directory, pattern) = split_uri(&self.uri)
            .ok_or_else(|| fail(format!("{:?} names no file", without_query(&self.uri))))?;
        let rule = RuleText {
            pattern,
            schema: self.database.replace('$', "$$"),
            table: self.table.replace('$', "$$"),
            kind: kind.to_owned(),
            key: String::new(),
            ..RuleText::default()
        };
        let rules = FileRules::new(&[rule], "", false).map_err(|wrong| {
            let reason = wrong.into_iter().next().map(|(_, _, reason)| reason);
            fail(reason.unwrap_or_default())
        })?;
        self.over("mydumper.data-source-dir", directory);
        self.over("mydumper.no-schema", "true");
        Ok(Statement {
            rules,
            columns: self.columns,
            set: self.set,
            csv: self.csv,
            ragged: load,
            overrides: self.overrides,
        })
    }
}

fn without_query(uri: &str) -> &str {
    uri.split_once('?').map_or(uri, |(path, _)| path)
}

/// The directory (with the query of the URI) and a pattern for names right below it; `*` and `[…]` do not
/// reach into directories.
fn split_uri(uri: &str) -> Option<(String, String)> {
    let (path, query) = match uri.split_once('?') {
        // Only a URI has a query; a local name may hold a question mark.
        Some((path, query)) if path.contains("://") => (path, Some(query)),
        _ => (uri, None),
    };
    let (directory, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => (".", path),
    };
    if name.is_empty() || directory.ends_with('/') && directory != "/" {
        return None;
    }
    let mut pattern = String::from("^");
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let mut len = c.len_utf8();
        match (c, rest.find(']')) {
            ('*', _) => pattern.push_str("[^/]*"),
            ('[', Some(end)) if end > 1 => {
                len = end + 1;
                pattern.push_str(&rest[..len]);
            }
            _ => pattern.push_str(&regex::escape(&rest[..len])),
        }
        rest = &rest[len..];
    }
    pattern.push('$');
    let directory = match query {
        Some(query) => format!("{directory}?{query}"),
        None => directory.to_owned(),
    };
    Some((directory, pattern))
}

#[cfg(test)]
#[path = "statement/tests.rs"]
mod tests;
