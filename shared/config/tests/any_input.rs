//! Whatever is written, the answer is a value or an error.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use thunderhead_config::keys::KEYS;
use thunderhead_config::{
    FileRules, TableFilter, load, parse_duration_ms, parse_size, schema_file,
};

/// Values of every TOML type, fitting or not.
const VALUES: &[&str] = &[
    "true",
    "0",
    "-1",
    "99999999999999999999",
    "0x1F",
    "1.5",
    "nan",
    "''",
    "'local'",
    "'*'",
    "'~('",
    "'$1'",
    "'64KiB'",
    "\"\\n\"",
    "'é'",
    "[]",
    "['a.b', '!c.*']",
    "[1]",
    "{}",
    "{a = 1}",
    "1979-05-27",
    "'a,b:1'",
];

/// The line of a known key with some value; keys of lists as an item of their own.
fn line(key: usize, value: usize) -> String {
    let key = &KEYS[key % KEYS.len()];
    let (section, name) = key.path.rsplit_once('.').unwrap();
    let value = VALUES[value % VALUES.len()];
    match section.split_once("[]") {
        None => format!("{section}.{name} = {value}\n"),
        Some((list, rest)) => {
            let path = format!("{rest}.{name}");
            let inner = format!("{} = {value}", path.trim_start_matches('.'));
            format!("{list} = [{{{inner}}}]\n")
        }
    }
}

proptest! {
    #[test]
    fn any_mix_of_known_keys_loads_or_names_its_problems(picks in prop::collection::vec((0usize..200, 0usize..200), 0..6)) {
        let text: String = picks.into_iter().map(|(key, value)| line(key, value)).collect();
        let lines = text.lines().count();
        match load(&text, "x", &[]) {
            Ok(loaded) => prop_assert!(loaded.notes.iter().all(|note| note.line <= lines)),
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|p| p.line <= lines && !p.message.is_empty()), "{problems:?}");
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}|[\\[\\]a-z.='\"\\n{},#$`/\\\\*?!%;-]{0,60}") {
        let _ = load(&text, "x", &[(text.clone(), text.clone())]);
        let _ = TableFilter::parse([text.as_str()], false);
        let _ = FileRules::dumpling().role(&text);
        let _ = (parse_size(&text), parse_duration_ms(&text));
        if let Ok(statements) = schema_file::split(&text) {
            prop_assert!(statements.iter().all(|s| text.contains(&s.text) && !s.text.is_empty()));
        }
    }
}
