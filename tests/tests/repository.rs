//! Rules of the repository that a compiler does not check: dependency direction, no crate with a known
//! advisory, files that a reader can hold in the head, no path of a developer's machine.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every tracked-looking source file below the root: (relative path, text).
fn sources(extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "data" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                let relative = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// What each crate of ours may depend on, besides itself. One direction: proto and types at the bottom,
/// tests at the top. The coordinator's binary embeds the agent and the sandbox.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("proto", &[]),
    ("types", &[]),
    ("codec", &["types"]),
    // Fuzz targets and comparisons with other crates, each a workspace of its own.
    ("codec-fuzz", &["codec"]),
    ("source-fuzz", &["config", "source"]),
    ("source-bench", &["config", "source"]),
    ("config", &["types"]),
    ("source", &["types", "config"]),
    ("sst", &["types", "codec"]),
    ("net", &["types"]),
    (
        "cluster",
        &["proto", "types", "codec", "config", "sst", "net"],
    ),
    ("sandbox-sql", &["types", "codec", "net"]),
    (
        "sandbox",
        &["proto", "types", "codec", "sst", "sandbox-sql", "net"],
    ),
    (
        "agent",
        &[
            "proto", "types", "codec", "config", "source", "cluster", "net",
        ],
    ),
    (
        "coordinator",
        &[
            "proto", "types", "codec", "config", "source", "cluster", "sandbox", "agent", "net",
        ],
    ),
    (
        "tests",
        &[
            "proto",
            "types",
            "codec",
            "config",
            "source",
            "sst",
            "cluster",
            "net",
            "sandbox",
            "agent",
            "coordinator",
        ],
    ),
];

#[test]
fn dependencies_between_our_crates_run_one_way() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut seen = 0;
    for (path, manifest) in sources("toml")
        .into_iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml"))
    {
        let name = manifest
            .lines()
            .find_map(|l| l.strip_prefix("name = \"thunderhead-"))
            .unwrap()
            .trim_end_matches('"')
            .to_owned();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        for line in normal.lines().filter(|l| l.starts_with("thunderhead-")) {
            let on = line["thunderhead-".len()..]
                .split(['.', ' ', '='])
                .next()
                .unwrap();
            assert!(
                allowed[name.as_str()].contains(&on),
                "{path}: {name} must not depend on {on}"
            );
        }
        seen += 1;
    }
    assert_eq!(
        seen,
        ALLOWED.len(),
        "a crate is missing from the table of this test"
    );
}

/// Major, minor, patch of a version; what follows does not matter here.
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+'])
        .take(3)
        .map_while(|part| part.parse().ok())
        .collect()
}

#[test]
fn no_dependency_has_a_known_advisory() {
    let table = fs::read_to_string(root().join(".ci/advisories.tsv")).unwrap();
    let clean: BTreeMap<&str, (&str, &str)> = table
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split('\t').collect::<Vec<_>>())
        .map(|f| (f[0], (f[1], f[2])))
        .collect();
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut checked = 0;
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("name = \"")
            .and_then(|l| l.strip_suffix('"'))
        else {
            continue;
        };
        let found = lines
            .next()
            .unwrap()
            .trim_start_matches("version = \"")
            .trim_end_matches('"');
        if let Some((first_clean, advisory)) = clean.get(name) {
            assert!(
                *first_clean != "never",
                "{name} {found}: {advisory} has no clean version"
            );
            assert!(
                version(found) >= version(first_clean),
                "{name} {found}: {advisory} is mended in {first_clean}"
            );
        }
        checked += 1;
    }
    assert!(checked > 100 && clean.len() > 100);
    assert!(version("0.4.20") > version("0.4.16") && version("1.0.0-rc.1") == version("1.0.0"));
}

#[test]
fn source_files_can_be_held_in_the_head() {
    for (path, text) in sources("rs") {
        assert!(
            text.lines().count() <= 700,
            "{path} has {} lines: is there a second room in it?",
            text.lines().count()
        );
        if !path.ends_with("build.rs") || path.starts_with("proto") {
            assert!(
                text.starts_with("//!"),
                "{path} does not say what it owns in its first line"
            );
        }
    }
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_repository() {
    let mine = ["/home/", "/root/", &format!("/{}/", "work")];
    for extension in ["rs", "toml", "md", "sh", "proto"] {
        for (path, text) in sources(extension) {
            for word in mine.iter().filter(|_| !path.ends_with("repository.rs")) {
                assert!(!text.contains(word), "{path} names {word}");
            }
        }
    }
}

/// So clocks may differ: timestamps come from PD, and spans are measured.
#[test]
fn whoever_encodes_or_sends_does_not_read_the_time_of_day() {
    let ours = ["agent/src", "shared/cluster/src", "shared/sst/src"];
    let mut files = 0;
    for (path, text) in sources("rs") {
        if !ours.iter().any(|dir| path.contains(dir)) {
            continue;
        }
        files += 1;
        for clock in ["SystemTime::now", "SystemClock", "UNIX_EPOCH"] {
            assert!(!text.contains(clock), "{clock} in {path}");
        }
    }
    assert!(files > 50, "{files}");
}
