//! Every golden case that TiDB produced: rows are encoded against its table model and compared with the
//! keys and values that TiDB stored, byte for byte; rejected rows by error code; stored pairs are decoded
//! and encoded again. Prints the first difference of each failure, then `N passed, M failed`.
//!
//! Cases come from the files named in `GOLDEN_KV` (colon-separated), else from `tests/golden/kv`.
#![allow(clippy::unwrap_used)]

#[path = "golden/case.rs"]
mod case;
#[path = "golden/run.rs"]
mod run;

use case::Case;

/// Cases of the repository that are known to fail, with the reason. The test asserts exactly this set.
const KNOWN_FAILING: &[(&str, &str)] = &[];

/// The files asked for; an empty variable asks for none.
fn given() -> Option<String> {
    std::env::var("GOLDEN_KV")
        .ok()
        .filter(|list| !list.is_empty())
}

fn texts() -> Vec<String> {
    let paths: Vec<std::path::PathBuf> = match &given() {
        Some(list) => std::env::split_paths(list).collect(),
        None => {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/kv");
            let mut paths: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.retain(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            });
            paths.sort();
            paths
        }
    };
    // A relative path is meant from where cargo was called: the workspace root.
    let read = |path: &std::path::PathBuf| {
        let rooted = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path);
        std::fs::read_to_string(path)
            .or_else(|_| std::fs::read_to_string(rooted))
            .unwrap()
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_golden_case_is_encoded_as_tidb_does() {
    let (mut passed, mut noted, mut failed) = (0, 0, Vec::new());
    for text in texts() {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let case: Case = serde_json::from_str(line).unwrap();
            // A panic is a failed case, not the end of the run.
            let outcome = std::panic::catch_unwind(|| run::run(&case));
            match outcome.unwrap_or_else(|_| Err("it panicked".to_owned())) {
                Ok(notes) => {
                    passed += 1;
                    for note in notes {
                        println!("NOTE {}: {note}", case.name);
                        noted += 1;
                    }
                }
                Err(difference) => {
                    println!("FAILED {}: {difference}", case.name);
                    failed.push(case.name);
                }
            }
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    assert!(passed + failed.len() > 0, "there are no cases");
    if given().is_some() {
        assert!(failed.is_empty(), "cases failed");
        return;
    }
    let known: Vec<&str> = KNOWN_FAILING.iter().map(|(name, _)| *name).collect();
    assert_eq!(failed, known, "the failing cases are not the known ones");
    assert_eq!(noted, 0, "texts of errors differ");
}
