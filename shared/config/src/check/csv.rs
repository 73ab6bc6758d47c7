//! `[mydumper.csv]` and the character set of the data: the dialect, and that its tokens can be told apart.

use crate::job::{CharacterSet, CsvOptions};
use crate::raw::Written;

pub(super) fn csv(w: &mut Written) -> CsvOptions {
    let text = |key: &str| w.root.text(&format!("mydumper.csv.{key}"));
    let flag = |key: &str| w.root.flag(&format!("mydumper.csv.{key}")).unwrap_or(false);
    let not_null = flag("not-null");
    let mut nulls = w.root.texts("mydumper.csv.null");
    if nulls.is_empty() {
        nulls.push(String::new());
    }
    let options = CsvOptions {
        separator: text("separator"),
        quote: text("delimiter"),
        terminator: text("terminator"),
        escape: if flag("backslash-escape") {
            text("escaped-by")
        } else {
            String::new()
        },
        nulls: if not_null { Vec::new() } else { nulls },
        unquoted_nulls: Vec::new(),
        not_null,
        header: flag("header"),
        header_schema_match: flag("header-schema-match"),
        trim_last_separator: flag("trim-last-separator"),
        skip_lines: 0,
        starting: String::new(),
        lenient: false,
        character_set: character_set(&w.root.text("mydumper.data-character-set")),
        invalid_char_replace: w.root.text("mydumper.data-invalid-char-replace"),
    };
    let other_escape =
        w.root.written("mydumper.csv.escaped-by").is_some() && text("escaped-by") != "\\";
    if !flag("backslash-escape") && other_escape && !text("escaped-by").is_empty() {
        let message = "backslash-escape = false switches escapes off";
        w.problem_at(
            "mydumper.csv.escaped-by",
            message,
            "remove one of the two keys",
        );
    }
    check_tokens(w, &options);
    options
}

/// No token may start like another one, or a reader could not tell them apart.
fn check_tokens(w: &mut Written, csv: &CsvOptions) {
    if csv.separator.is_empty() && w.root.written("mydumper.csv.separator").is_some() {
        w.problem_at("mydumper.csv.separator", "it must not be empty", "");
    }
    if csv.escape.chars().count() > 1 {
        w.problem_at("mydumper.csv.escaped-by", "it must be one character", "");
    }
    let tokens = [
        ("separator", &csv.separator),
        ("delimiter", &csv.quote),
        ("terminator", &csv.terminator),
        ("escaped-by", &csv.escape),
    ];
    for (i, (name, token)) in tokens.iter().enumerate() {
        if csv.terminator.is_empty() && token.starts_with(['\r', '\n']) {
            let advice = "give mydumper.csv.terminator";
            w.problem_at(
                &format!("mydumper.csv.{name}"),
                "it starts with a line end",
                advice,
            );
        }
        for (other_name, other) in &tokens[..i] {
            if token.is_empty() || other.is_empty() {
                continue;
            }
            if token.starts_with(other.as_str()) || other.starts_with(token.as_str()) {
                // The one that was written is the one to change.
                let path = |name: &str| format!("mydumper.csv.{name}");
                let (place, rival) = match w.root.written(&path(name)) {
                    Some(_) => (name, other_name),
                    None => (other_name, name),
                };
                let message = format!("{place} and {rival} must not be prefixes of one another");
                w.problem_at(&path(place), message, "choose another character");
            }
        }
        if !token.is_empty() && **token == csv.invalid_char_replace {
            let key = "mydumper.data-invalid-char-replace";
            w.problem_at(
                key,
                format!("it is the same as csv.{name}"),
                "choose another character",
            );
        }
    }
}

fn character_set(word: &str) -> CharacterSet {
    match word {
        "utf8mb4" => CharacterSet::Utf8mb4,
        "ascii" => CharacterSet::Ascii,
        "gb18030" => CharacterSet::Gb18030,
        "gbk" => CharacterSet::Gbk,
        "latin1" => CharacterSet::Latin1,
        _ => CharacterSet::Binary,
    }
}

pub(super) fn strict_format(w: &mut Written) -> bool {
    let strict = w.root.flag("mydumper.strict-format").unwrap_or(false);
    if strict && w.root.text("mydumper.csv.terminator").is_empty() {
        let message = "it needs mydumper.csv.terminator";
        w.problem_at(
            "mydumper.strict-format",
            message,
            "write terminator = \"\\n\", or leave strict-format out",
        );
    }
    strict
}
