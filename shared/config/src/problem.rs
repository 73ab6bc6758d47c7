//! What is wrong with a configuration, and what is merely worth knowing: both with their place. Owns the
//! texts' shape and the nearest-name search; leaves finding problems to [`crate::raw`] and
//! [`crate::check`].

use std::fmt;
use thunderhead_types::{Error, ErrorKind};

/// One thing that has to be changed before the job can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File name, or `override` for the command line and the environment.
    pub origin: String,
    /// 1-based; 0 where the key is not written in the file.
    pub line: usize,
    /// Dotted key, e.g. `mydumper.csv.separator`; empty for a syntax error.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to do; may be empty.
    pub advice: String,
}

/// A key that was written and has no effect, or a default that was filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// File name, or `override`.
    pub origin: String,
    /// 1-based; 0 where the key is not written in the file.
    pub line: usize,
    /// Dotted key.
    pub key: String,
    /// Why it has no effect, or what was assumed.
    pub message: String,
}

/// `file:12: section.key: ` with the parts that are known.
fn place(f: &mut fmt::Formatter<'_>, origin: &str, line: usize, key: &str) -> fmt::Result {
    match line {
        0 => write!(f, "{origin}: ")?,
        _ => write!(f, "{origin}:{line}: ")?,
    }
    if key.is_empty() {
        return Ok(());
    }
    write!(f, "{key}: ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.origin, self.line, &self.key)?;
        write!(f, "{}", self.message)?;
        if self.advice.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.advice)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.origin, self.line, &self.key)?;
        write!(f, "{}", self.message)
    }
}

/// All problems of a configuration as the one error that ends the program.
pub fn to_error(problems: &[Problem]) -> Error {
    if let [only] = problems {
        let place = match only.line {
            0 => only.origin.clone(),
            line => format!("{}:{line}", only.origin),
        };
        let cause = match only.key.as_str() {
            "" => only.message.clone(),
            key => format!("{key}: {}", only.message),
        };
        return Error::new(ErrorKind::Config, place, cause).advice(&only.advice);
    }
    let lines: String = problems.iter().map(|p| format!("\n  {p}")).collect();
    Error::new(
        ErrorKind::Config,
        "configuration",
        format!("{} problems{lines}", problems.len()),
    )
}

/// The candidate that `word` most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // One slip in three letters: enough for typing errors, too little for a different word.
    let limit = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance; `-` and `_` count as the same letter.
fn edit_distance(left: &str, right: &str) -> usize {
    let fold = |s: &str| -> Vec<char> {
        s.chars()
            .map(|c| {
                if c == '_' {
                    '-'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (left, right) = (fold(left), fold(right));
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_different_word_is_not() {
        let names = ["separator", "delimiter", "terminator", "header"];
        assert_eq!(nearest("seperator", names), Some("separator"));
        assert_eq!(nearest("header_", names), Some("header"));
        assert_eq!(nearest("pd_addr", ["pd-addr"]), Some("pd-addr"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn several_problems_become_one_error_with_a_line_each() {
        let problem = |line, key: &str| Problem {
            origin: "job.toml".into(),
            line,
            key: key.into(),
            message: "is wrong".into(),
            advice: "mend it".into(),
        };
        let one = to_error(&[problem(3, "tidb.port")]);
        assert_eq!(one.to_string(), "job.toml:3: tidb.port: is wrong (mend it)");
        let two = to_error(&[problem(3, "tidb.port"), problem(0, "tidb.host")]);
        assert_eq!(
            two.to_string(),
            "configuration: 2 problems\n  job.toml:3: tidb.port: is wrong (mend it)\n  job.toml: tidb.host: is wrong (mend it)"
        );
    }
}
