//! Table filters: `db.*`, `!mysql.*`, `/^t\d+$/.*`, `` `a.b`.? ``. Owns their syntax; the last rule that
//! matches a table decides, and a table that no rule matches is left out.

use regex::{Regex, RegexBuilder};

/// A list of rules.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    include: bool,
    database: Regex,
    table: Regex,
}

/// A rule that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter rule {rule:?}: {reason}")]
pub struct FilterError {
    /// The rule as written.
    pub rule: String,
    /// Why.
    pub reason: String,
}

impl TableFilter {
    /// Reads rules; empty ones and those that start with `#` are comments. All wrong rules are returned.
    pub fn parse<S: AsRef<str>>(
        rules: impl IntoIterator<Item = S>,
        case_sensitive: bool,
    ) -> Result<Self, Vec<FilterError>> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for rule in rules {
            let text = rule.as_ref().trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match Rule::parse(text, case_sensitive) {
                Ok(rule) => good.push(rule),
                Err(reason) => bad.push(FilterError {
                    rule: text.to_owned(),
                    reason,
                }),
            }
        }
        if bad.is_empty() {
            Ok(Self { rules: good })
        } else {
            Err(bad)
        }
    }

    /// The filter that matches exactly this table.
    pub fn one_table(database: &str, table: &str, case_sensitive: bool) -> Option<Self> {
        let exact = |name: &str| compile(&regex::escape(name), case_sensitive).ok();
        let rule = Rule {
            include: true,
            database: exact(database)?,
            table: exact(table)?,
        };
        Some(Self { rules: vec![rule] })
    }

    /// Whether the table is wanted.
    pub fn matches(&self, database: &str, table: &str) -> bool {
        self.rules
            .iter()
            .rev()
            .find(|rule| rule.database.is_match(database) && rule.table.is_match(table))
            .is_some_and(|rule| rule.include)
    }
}

impl Rule {
    fn parse(text: &str, case_sensitive: bool) -> Result<Self, String> {
        let (include, body) = match text.strip_prefix('!') {
            Some(body) => (false, body),
            None => (true, text),
        };
        if body.starts_with('@') {
            return Err("rules from another file are not supported; write them here".into());
        }
        let (database, rest) = pattern(body)?;
        let rest = rest.strip_prefix('.').ok_or("expected `database.table`")?;
        let (table, rest) = pattern(rest)?;
        if !rest.is_empty() {
            return Err(format!(
                "{rest:?} follows the table pattern; quote names that hold a dot"
            ));
        }
        let compiled = |regex: &str| compile(regex, case_sensitive).map_err(|e| short(&e));
        Ok(Self {
            include,
            database: compiled(&database)?,
            table: compiled(&table)?,
        })
    }
}

/// The regular expression of the pattern at the start of `text`, and what follows it.
fn pattern(text: &str) -> Result<(String, &str), String> {
    match text.chars().next() {
        None => Err("a pattern is missing".into()),
        Some('/') => {
            let end = closing(&text[1..], '/', true)
                .ok_or("the regular expression has no closing `/`")?;
            // Unlike a wildcard it may match anywhere in the name.
            Ok((format!(".*(?:{}).*", &text[1..=end]), &text[end + 2..]))
        }
        Some(quote @ ('`' | '"')) => quoted(text, quote),
        Some(_) => wildcard(text),
    }
}

/// Offset of the closing character; a doubled or escaped one does not close.
fn closing(text: &str, close: char, backslash: bool) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if backslash => escaped = true,
            c if c == close => return Some(at),
            _ => {}
        }
    }
    None
}

fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut rest = &text[1..];
    loop {
        let end = closing(rest, quote, false).ok_or_else(|| format!("no closing {quote}"))?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(quote) {
            Some(more) => {
                name.push(quote);
                rest = more;
            }
            None => return Ok((regex::escape(&name), rest)),
        }
    }
}

fn wildcard(text: &str) -> Result<(String, &str), String> {
    let mut regex = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '.' => break,
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let end = text[at..].find(']').ok_or("no closing ]")?;
                regex.push_str(&class(&text[at + 1..at + end])?);
                at += end + 1;
                continue;
            }
            '\\' => {
                let next = text[at + 1..]
                    .chars()
                    .next()
                    .ok_or("nothing follows the backslash")?;
                if !next.is_ascii_punctuation() {
                    return Err(format!("`\\{next}` has no meaning outside of /…/"));
                }
                regex.push_str(&regex::escape(&next.to_string()));
                at += 1 + next.len_utf8();
                continue;
            }
            c if c.is_ascii_punctuation() && !matches!(c, '_' | '$' | '-') => {
                return Err(format!("quote names that hold `{c}`"));
            }
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
        at += c.len_utf8();
    }
    if regex.is_empty() {
        return Err("a pattern is missing".into());
    }
    Ok((regex, &text[at..]))
}

/// `[a-z]`, `[!a-z]` without the brackets.
fn class(inside: &str) -> Result<String, String> {
    let (negated, members) = match inside.strip_prefix('!') {
        Some(members) => ("^", members),
        None => ("", inside),
    };
    if members.is_empty() {
        return Err("an empty [] matches nothing".into());
    }
    let mut set = String::new();
    for c in members.chars() {
        if matches!(c, '[' | '\\' | '^' | '&' | '~') {
            set.push('\\');
        }
        set.push(c);
    }
    Ok(format!("[{negated}{set}]"))
}

/// A wildcard as the whole of a name, for other parts of the configuration.
pub(crate) fn wildcard_regex(text: &str, case_sensitive: bool) -> Result<Regex, String> {
    let (regex, rest) = wildcard(text)?;
    if !rest.is_empty() {
        return Err("a name pattern cannot hold an unescaped dot".into());
    }
    compile(&regex, case_sensitive).map_err(|e| short(&e))
}

/// Compiles `regex` so that it has to match the whole name.
pub(crate) fn compile(regex: &str, case_sensitive: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!("^(?:{regex})$"))
        .case_insensitive(!case_sensitive)
        .dot_matches_new_line(true)
        .size_limit(1 << 20)
        .build()
}

/// The last line of a regex error, which says what is wrong; the ones before draw the pattern.
pub(crate) fn short(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Which of the space-separated tables pass.
    fn check(rules: &[&str], tables: &str, expected: &str) {
        let filter = TableFilter::parse(rules, false).unwrap();
        let passed: Vec<&str> = tables
            .split(' ')
            .filter(|name| {
                let (database, table) = name.split_once('.').unwrap();
                filter.matches(database, table)
            })
            .collect();
        assert_eq!(passed.join(" "), expected, "{rules:?}");
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        check(&["*.*", "!mysql.*"], "a.b mysql.user MySQL.user", "a.b");
        check(&["*.*", "!a.*", "a.keep"], "a.b a.keep c.d", "a.keep c.d");
        check(&["!a.*"], "a.b c.d", "");
        check(&[], "a.b", "");
    }

    #[test]
    fn every_pattern_form_is_understood() {
        check(&["a?.t[0-9]"], "a1.t5 a.t5 a1.t55 a1.tx", "a1.t5");
        check(&["db[!0-9].*"], "dbx.t db1.t", "dbx.t");
        check(&["/^t\\d+$/.*"], "t12.x tt.x xt1.x", "t12.x");
        check(&["/log/.x"], "my_log_1.x lo.x", "my_log_1.x");
        check(&["`a.b`.\"c\"\"d\""], "a.b", "");
        assert!(
            TableFilter::parse(["`a.b`.\"c\"\"d\""], false)
                .unwrap()
                .matches("a.b", "c\"d")
        );
        check(&["a\\-b.t"], "a-b.t aXb.t", "a-b.t");
        check(&["a.*"], "A.T b.T", "A.T");
        let exact = TableFilter::parse(["a.*"], true).unwrap();
        assert!(exact.matches("a", "T") && !exact.matches("A", "T"));
        let one = TableFilter::one_table("a*", "b", true).unwrap();
        assert!(one.matches("a*", "b") && !one.matches("aa", "b"));
    }

    #[test]
    fn all_wrong_rules_are_named() {
        let wrong = [
            "a",
            "a.",
            ".b",
            "a.b.c",
            "/x.y",
            "/(/.y",
            "`a.b",
            "a{}.b",
            "@file.txt",
            "[.x",
            "a[].b",
        ];
        let errors = TableFilter::parse(wrong, false).unwrap_err();
        assert_eq!(
            errors.iter().map(|e| e.rule.as_str()).collect::<Vec<_>>(),
            wrong
        );
    }
}
