//! Which job this is, and whether its input is still the same. Two questions with two answers: *identity*
//! finds the state of an earlier run, *content* says whether that run may go on. Neither depends on the
//! address of the cluster; the state remembers the cluster by its id.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::job::Job;
use crate::tree::{SourceTable, SourceTree};

/// Raised when the meaning of a fingerprint changes; a job of an older version then starts over.
const VERSION: &str = "thunderhead-fingerprint-3";

/// Names the job: where the source and the sorted runs are, and which tables are imported.
pub fn identity(job: &Job, tree: &SourceTree) -> String {
    let sorted =
        std::path::absolute(&job.sorted_kv_dir).unwrap_or_else(|_| job.sorted_kv_dir.clone());
    let mut tables: Vec<(String, String)> = tree
        .tables
        .iter()
        .map(|t| (t.database.to_lowercase(), t.table.to_lowercase()))
        .collect();
    tables.sort();
    digest(
        "identity",
        &(bytes_of(&tree.root), bytes_of(&sorted), tables),
    )
}

/// Names a job of which nobody has seen the source yet: where it is, and what decides over its tables.
pub fn identity_unseen(job: &Job) -> String {
    let rules = format!("{:?} {:?} {:?}", job.filter, job.routes, job.file_rules);
    let dirs = (bytes_of(&job.source_dir), bytes_of(&job.sorted_kv_dir));
    digest("identity unseen", &(dirs, rules))
}

/// Input of one table: names, sizes and times of its files in their order, and every option that changes
/// what becomes of them.
pub fn table_content(job: &Job, table: &SourceTable) -> String {
    let files: Vec<_> = table
        .data_files
        .iter()
        .map(|f| (&f.name, f.size, f.mtime_ns, &f.etag, job.format_of(f)))
        .collect();
    let options = (job.backend, &job.sql_mode, &job.tidb.session_vars);
    let conflicts = (job.conflict.strategy, job.on_duplicate);
    digest(
        "table",
        &(&table.database, &table.table, files, options, conflicts),
    )
}

/// Input of the whole job.
pub fn content(job: &Job, tree: &SourceTree) -> String {
    let mut tables: Vec<String> = tree
        .tables
        .iter()
        .map(|table| table_content(job, table))
        .collect();
    tables.sort();
    digest("content", &tables)
}

/// Not every path is UTF-8.
fn bytes_of(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// 128 bits of SHA-256 in hex. JSON keeps neighbouring fields apart.
fn digest(what: &str, value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("plain lists and texts have a JSON form");
    let mut hash = Sha256::new();
    hash.update(VERSION);
    hash.update(what);
    hash.update(json);
    hash.finalize()
        .iter()
        .take(16)
        .fold(String::with_capacity(32), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
