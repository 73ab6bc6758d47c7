//! What was written: the TOML text and the overrides as typed values with their lines. Owns syntax,
//! known names and types, and reports every problem it meets; leaves meaning and combinations to
//! [`crate::check`]. Names are matched without regard to case, as Lightning does.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys::{self, Effect, KEYS, Key};
use crate::problem::{Note, Problem, nearest};
use crate::value::Value;

/// Where overrides come from, in messages.
const OVERRIDE: &str = "override";

/// A value with the place it was written at.
#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    /// 0 for an override.
    line: usize,
}

/// The values of one table: the document, or one item of a list of tables.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Line of its head; 0 for the document.
    pub line: usize,
    entries: BTreeMap<&'static str, Entry>,
}

/// Everything that was written, typed and placed.
#[derive(Debug)]
pub(crate) struct Written {
    /// Name of the text in messages.
    pub origin: String,
    /// Keys outside of lists of tables.
    pub root: Group,
    /// Items of lists of tables by path without `[]`.
    lists: BTreeMap<String, Vec<Group>>,
    /// The text is not TOML; nothing of it was taken.
    pub unreadable: bool,
    /// What was found wrong so far; checking adds to it.
    pub problems: Vec<Problem>,
    /// What is worth knowing.
    pub notes: Vec<Note>,
}

impl Group {
    /// The written value.
    pub fn written(&self, path: &str) -> Option<&Value> {
        self.entries.get(path).map(|entry| &entry.value)
    }

    /// The written value or the default; `None` where there is no fixed default.
    fn value(&self, path: &str) -> Option<Value> {
        self.written(path).cloned().or_else(|| default_of(path))
    }

    /// Line of the key, or of the group it is missing from.
    pub fn line_of(&self, path: &str) -> usize {
        self.entries.get(path).map_or(self.line, |entry| entry.line)
    }

    /// Text or the chosen word; empty where there is no default.
    pub fn text(&self, path: &str) -> String {
        match self.value(path) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    /// A boolean; `None` where it is not written and has no default.
    pub fn flag(&self, path: &str) -> Option<bool> {
        match self.value(path) {
            Some(Value::Bool(flag)) => Some(flag),
            _ => None,
        }
    }

    /// A number, bytes or milliseconds; `None` where it is not written and has no default.
    pub fn number(&self, path: &str) -> Option<u64> {
        match self.value(path) {
            Some(Value::Int(number)) => Some(number),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Value::Texts(texts)) => texts,
            _ => Vec::new(),
        }
    }

    /// A table of names and values.
    pub fn vars(&self, path: &str) -> BTreeMap<String, String> {
        match self.value(path) {
            Some(Value::Vars(vars)) => vars,
            _ => BTreeMap::new(),
        }
    }
}

/// The default of a key from the table.
fn default_of(path: &str) -> Option<Value> {
    let key = keys::find(path);
    debug_assert!(key.is_some(), "{path} is not in the table of keys");
    let key = key?;
    let literal = DeValue::parse(key.default_literal()?).ok()?;
    key.kind.read_toml(literal.get_ref()).ok()
}

impl Written {
    /// Reads `text` and then the overrides, the last one of a key winning.
    pub fn read(text: &str, origin: &str, overrides: &[(String, String)]) -> Self {
        let mut written = Written {
            origin: origin.to_owned(),
            root: Group::default(),
            lists: BTreeMap::new(),
            unreadable: false,
            problems: Vec::new(),
            notes: Vec::new(),
        };
        let lines = Lines::of(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map_or(0, |span| lines.line(span.start));
            written.problem(line, "", error.message().trim(), "");
        }
        written.unreadable = !errors.is_empty();
        // Behind a syntax error the parser guesses; what it guessed is not worth a message.
        if errors.is_empty() {
            let mut root = Group::default();
            written.walk(document.get_ref(), "", &lines, &mut root);
            written.root = root;
        }
        for (key, text) in overrides {
            written.take_override(key, text);
        }
        written.note_keys_without_effect();
        written
    }

    /// The items of a list of tables, in file order.
    pub fn list(&self, path: &str) -> &[Group] {
        self.lists.get(path).map_or(&[], Vec::as_slice)
    }

    /// Reports a problem at a line of the file.
    pub fn problem(
        &mut self,
        line: usize,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.problems.push(Problem {
            origin: self.origin.clone(),
            line,
            key: key.replace("[]", ""),
            message: message.into(),
            advice: advice.into(),
        });
    }

    /// Reports a problem of a key outside of lists, where it is written.
    pub fn problem_at(&mut self, key: &str, message: impl Into<String>, advice: impl Into<String>) {
        self.problem(self.root.line_of(key), key, message, advice);
        if self.root.line_of(key) == 0 && self.root.written(key).is_some() {
            self.name_override();
        }
    }

    fn walk(&mut self, table: &DeTable<'_>, prefix: &str, lines: &Lines, group: &mut Group) {
        for (name, value) in table {
            let line = lines.line(name.span().start);
            let path = match prefix {
                "" => name.get_ref().to_ascii_lowercase(),
                _ => format!("{prefix}.{}", name.get_ref().to_ascii_lowercase()),
            };
            self.visit(&path, line, value, lines, group);
        }
    }

    fn visit(
        &mut self,
        path: &str,
        line: usize,
        value: &Spanned<DeValue<'_>>,
        lines: &Lines,
        group: &mut Group,
    ) {
        let key = keys::find(path);
        match value.get_ref() {
            DeValue::Table(table) if keys::is_section(path) => self.walk(table, path, lines, group),
            DeValue::Array(items) if keys::is_list(path) => {
                for item in items {
                    let mut item_group = Group {
                        line: lines.line(item.span().start),
                        ..Group::default()
                    };
                    match item.get_ref().as_table() {
                        Some(table) => {
                            self.walk(table, &format!("{path}[]"), lines, &mut item_group)
                        }
                        None => self.problem(item_group.line, path, "expected a table", ""),
                    }
                    self.lists
                        .entry(path.to_owned())
                        .or_default()
                        .push(item_group);
                }
            }
            value => match key {
                Some(key) => self.take(key, line, value, group),
                None if keys::is_list(path) => {
                    self.problem(
                        line,
                        path,
                        "expected a list of tables",
                        format!("write [[{path}]]"),
                    );
                }
                None if keys::is_section(path) => {
                    self.problem(line, path, "expected a section", format!("write [{path}]"));
                }
                None => self.unknown(line, path),
            },
        }
    }

    fn take(&mut self, key: &'static Key, line: usize, value: &DeValue<'_>, group: &mut Group) {
        match key.kind.read_toml(value) {
            Ok(_) if group.entries.contains_key(key.path) => {
                self.problem(
                    line,
                    key.path,
                    "written twice in different case",
                    "keep one",
                );
            }
            Ok(value) => {
                group.entries.insert(key.path, Entry { value, line });
            }
            Err(message) => self.problem(line, key.path, message, ""),
        }
    }

    pub fn take_override(&mut self, name: &str, text: &str) {
        let path = name.to_ascii_lowercase();
        let variable = path.strip_prefix("tidb.session-vars.").map(str::to_owned);
        let Some(key) = keys::find(&path).filter(|key| !key.path.contains("[]")) else {
            match variable {
                Some(variable) => self.set_variable(variable, text),
                None => {
                    self.unknown(0, &path);
                    self.name_override();
                }
            }
            return;
        };
        match key.kind.read_override(text) {
            Ok(value) => {
                self.root.entries.insert(key.path, Entry { value, line: 0 });
            }
            Err(message) => {
                self.problem(0, key.path, message, "");
                self.name_override();
            }
        }
    }

    fn set_variable(&mut self, variable: String, text: &str) {
        let mut vars = self.root.vars("tidb.session-vars");
        vars.insert(variable, text.to_owned());
        let entry = Entry {
            value: Value::Vars(vars),
            line: 0,
        };
        self.root.entries.insert("tidb.session-vars", entry);
    }

    /// The last problem came from an override, not from the file.
    fn name_override(&mut self) {
        if let Some(problem) = self.problems.last_mut() {
            OVERRIDE.clone_into(&mut problem.origin);
        }
    }

    fn unknown(&mut self, line: usize, path: &str) {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let siblings = names_below(section);
        let advice = if let Some(near) = nearest(name, siblings.iter().map(String::as_str)) {
            format!("did you mean {near}?")
        } else if let Some(key) = KEYS
            .iter()
            .find(|key| key.path.rsplit('.').next() == Some(name))
        {
            format!("{name} belongs into {}", key.section())
        } else {
            "docs/configuration.md lists all keys".to_owned()
        };
        let what = if section.is_empty() {
            "unknown section or key"
        } else {
            "unknown key"
        };
        self.problem(line, path, what, advice);
    }

    fn note_keys_without_effect(&mut self) {
        let mut notes = BTreeMap::new();
        let mut refusals = Vec::new();
        for group in std::iter::once(&self.root).chain(self.lists.values().flatten()) {
            for (path, entry) in &group.entries {
                match keys::find(path).map(|key| key.effect) {
                    Some(Effect::Nothing(why)) => {
                        notes.entry((entry.line, *path)).or_insert(why);
                    }
                    Some(Effect::Later(_)) if default_of(path).as_ref() != Some(&entry.value) => {
                        notes
                            .entry((entry.line, *path))
                            .or_insert("not supported yet");
                    }
                    Some(Effect::Refused(why))
                        if default_of(path).as_ref() != Some(&entry.value) =>
                    {
                        refusals.push((entry.line, *path, why));
                    }
                    _ => {}
                }
            }
        }
        for ((line, path), why) in notes {
            self.note(line, path, format!("has no effect: {why}"));
        }
        for (line, path, why) in refusals {
            let advice = "remove the key";
            self.problem(line, path, why, advice);
        }
    }

    /// Records something worth knowing.
    pub fn note(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.notes.push(Note {
            origin: self.origin.clone(),
            line,
            key: key.replace("[]", ""),
            message: message.into(),
        });
    }
}

/// Names of sections and keys directly below `section`.
fn names_below(section: &str) -> Vec<String> {
    let mut names: Vec<String> = KEYS
        .iter()
        .filter_map(|key| match section {
            "" => Some(key.path),
            _ => key.path.strip_prefix(section)?.strip_prefix('.'),
        })
        .filter_map(|rest| rest.split('.').next())
        .map(|name| name.trim_end_matches("[]").to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Byte offsets of line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(ends).collect())
    }

    /// 1-based line of a byte offset.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// Overrides from environment variables: `THUNDERHEAD_TIDB_PASSWORD` sets `tidb.password`. Other variables
/// with the prefix are left alone, since a Kubernetes service of that name brings some of its own.
pub fn environment_overrides(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let names: BTreeMap<String, &Key> = KEYS
        .iter()
        .filter_map(|key| Some((key.environment()?, key)))
        .collect();
    let mut found: Vec<(String, String)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((names.get(&name)?.path.to_owned(), value)))
        .collect();
    found.sort();
    found
}
