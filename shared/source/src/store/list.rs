//! Which files a URI stands for: one object, those that match a `*` in the last part of the key, or all
//! below a prefix; and the source tree of a job, wherever its files are.

use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};
use thunderhead_config::uri::is_store;
use thunderhead_config::{Job, ListedFile, SourceFile, SourceTree};
use thunderhead_types::{Error, ErrorKind, Result};

use super::location::{Location, StoreKind};
use super::object::{chain, mark, modified_ns};
use super::redact::redact;
use super::region;
use super::{connect, runtime, wait};
use crate::bytes::source_at;
use crate::sql::tables_in;

/// More files than this are a mistake in the URI, and a list that does not fit into memory.
const FILES_MAX: usize = 2_000_000;

const CREDENTIALS: &str = "check the credentials, and that they may list and read";

/// The source tree of `job`: of a directory, or of what a store lists.
pub fn scan(job: &Job) -> Result<SourceTree> {
    let root = job.source_dir.to_string_lossy();
    if !is_store(&root) {
        return SourceTree::scan(job, &|file| tables_of(job, file));
    }
    let files = list(&with_access(&root, job.source_access.reveal()))?;
    SourceTree::of(job, job.source_dir.clone(), files, &|file| {
        tables_of(job, file)
    })
}

/// The tables whose rows a dump of several tables holds.
pub fn tables_of(job: &Job, file: &SourceFile) -> std::result::Result<Vec<String>, String> {
    let location = with_access(&file.path.to_string_lossy(), job.source_access.reveal());
    let found = source_at(&location, file.compression)
        .and_then(|source| tables_in(&*source, &job.format_of(file)));
    found.map_err(|e| Error::from(e).to_string())
}

/// A URI with its query.
pub fn with_access(uri: &str, access: &str) -> String {
    if access.is_empty() {
        uri.to_owned()
    } else {
        format!("{uri}?{access}")
    }
}

/// What `uri` stands for, in order of the names. Names are relative to the part of the key before the last
/// `/` of a single object or a pattern, and to the whole key otherwise.
pub fn list(uri: &str) -> Result<Vec<ListedFile>> {
    let wrong = |e: &dyn std::fmt::Display| {
        let shown = uri.split(['?', '#']).next().unwrap_or_default();
        let shown = if shown.contains('@') {
            "source URI"
        } else {
            shown
        };
        Error::new(ErrorKind::Config, shown, e).advice("docs/stores.md says what a URI may hold")
    };
    let location = Location::parse(uri).map_err(|e| wrong(&e))?;
    runtime().map_err(|e| wrong(&e))?;
    let store = connect::client(&location).map_err(|e| wrong(&e))?;
    let place = location.name(&location.key);
    let here = location.clone();
    let found = wait(async move { Ok(found(&here, &store).await) })
        .map_err(|e| Error::new(ErrorKind::Internal, &place, e))?;
    let mut files = found?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// What is found, or why nothing is.
async fn found(location: &Location, store: &Arc<dyn ObjectStore>) -> Result<Vec<ListedFile>> {
    match find(location, store).await {
        Err(error) if error.kind == ErrorKind::Precheck => {
            Err(match region::mismatch(location).await {
                Some(advice) => error.advice(advice),
                None => error,
            })
        }
        found => found,
    }
}

async fn find(location: &Location, store: &Arc<dyn ObjectStore>) -> Result<Vec<ListedFile>> {
    let place = location.name(&location.key);
    let fail = |e: StoreError| failure(location, &place, &e);
    let (dir, pattern) = match location.key.rsplit_once('/') {
        Some((dir, last)) => (dir, last),
        None => ("", location.key.as_str()),
    };
    if dir.contains('*') {
        return Err(
            Error::new(ErrorKind::Config, &place, "a * stands in a directory")
                .advice("* matches within the last part of a key only: name the directory"),
        );
    }
    let parse = |text: &str| {
        Path::parse(text).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                &place,
                "an empty part, \".\" or \"..\" in the key is not supported",
            )
        })
    };
    if pattern.contains('*') {
        no_list_over_http(location, &place)?;
        let prefix = parse(dir)?;
        let listed = store
            .list_with_delimiter(Some(&prefix))
            .await
            .map_err(fail)?;
        let matching = listed.objects.into_iter().filter(|meta| {
            let name = meta.location.filename().unwrap_or_default();
            matches(pattern, name)
        });
        let files: Vec<_> = matching
            .map(|meta| listed_file(location, dir, &meta))
            .collect();
        if files.is_empty() {
            return Err(Error::new(ErrorKind::Precheck, &place, "no object matches"));
        }
        return Ok(files);
    }
    if !pattern.is_empty() {
        match store.head(&parse(&location.key)?).await {
            Ok(meta) => return Ok(vec![listed_file(location, dir, &meta)]),
            Err(StoreError::NotFound { .. }) if location.kind != StoreKind::Http => {}
            Err(error) => return Err(fail(error)),
        }
    }
    no_list_over_http(location, &place)?;
    let prefix = parse(location.key.trim_end_matches('/'))?;
    let mut files = Vec::new();
    let mut listed = store.list(Some(&prefix));
    while let Some(meta) = listed.try_next().await.map_err(fail)? {
        if files.len() == FILES_MAX {
            let cause = format!("there are more than {FILES_MAX} objects");
            return Err(Error::new(ErrorKind::Precheck, &place, cause)
                .advice("name the directory of the export"));
        }
        files.push(listed_file(location, prefix.as_ref(), &meta));
    }
    Ok(files)
}

fn no_list_over_http(location: &Location, place: &str) -> Result<()> {
    if location.kind != StoreKind::Http {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        place,
        "a web server cannot list its files",
    )
    .advice("name one file"))
}

fn failure(location: &Location, place: &str, error: &StoreError) -> Error {
    let cause = redact(&chain(error), location);
    // A refused list is no error of its own kind for the library.
    let refused = ["401 Unauthorized", "403 Forbidden"]
        .iter()
        .any(|status| cause.contains(status));
    let advice = match error {
        StoreError::NotFound { .. } => "check bucket and path",
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => CREDENTIALS,
        _ if refused => CREDENTIALS,
        _ => "check endpoint, region and network",
    };
    Error::new(ErrorKind::Precheck, place, cause).advice(advice)
}

fn listed_file(location: &Location, dir: &str, meta: &ObjectMeta) -> ListedFile {
    let key = meta.location.as_ref();
    let name = key.strip_prefix(dir).unwrap_or(key);
    ListedFile {
        name: name.trim_start_matches('/').to_owned(),
        path: PathBuf::from(location.name(key)),
        size: meta.size,
        mtime_ns: modified_ns(meta),
        etag: mark(meta.e_tag.as_deref()),
    }
}

/// Whether `name` is `pattern` with anything in place of each `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest
        .rsplit_once('*')
        .map_or((None, rest), |(m, t)| (Some(m), t));
    let Some(mut name) = name.strip_suffix(tail) else {
        return false;
    };
    for part in middle.into_iter().flat_map(|m| m.split('*')) {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.csv", "a.csv", true),
            ("foo*", "foo", true),
            ("foo*.csv", "foo.csv", true),
            ("foo*.csv", "fo.csv", false),
            ("ab*ba", "aba", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*b", "ab", false),
            ("**", "x", true),
            ("x", "y", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
