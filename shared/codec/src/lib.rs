//! What TiDB stores and how: the table model, casts from source values to column values, row and index
//! encoding, and the way back. Pure and synchronous: slices in, slices out; no I/O, no clock of its own
//! (the session carries a fixed "now"), no knowledge of files or of the cluster.
//!
//! Flow: [`schema::TableInfo`] and [`session::Session`] are compiled once into a [`table::TableEncoder`];
//! that turns the fields of a row into record and index pairs. [`table::TableDecoder`] goes back.

pub mod cast;
pub mod charset;
pub mod collation;
pub mod datum;
pub mod decimal;
mod digits;
pub mod expr;
pub mod json;
pub mod keys;
pub mod mem;
pub mod mysql;
pub mod partition;
pub mod row;
pub mod schema;
pub mod session;
pub mod sort;
pub mod table;
pub mod time;

/// The golden cases, one text per file, for tests.
#[cfg(test)]
fn golden_case_files() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/kv");
    let entries = std::fs::read_dir(folder).expect("tests/golden/kv is part of the repository");
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("golden files are readable"))
        .collect()
}
