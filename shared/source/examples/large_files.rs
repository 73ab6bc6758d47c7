//! The memory that readers take of files larger than memory: `cargo run --release -p thunderhead-source --example
//! large_files`. The files are made while they are read; of each, the peak resident set of this process while it is
//! cut into chunks and all of them are read, one after the other.
#![allow(clippy::unwrap_used)]

#[path = "../tests/made/mod.rs"]
mod made;

use made::{Made, peak_bytes};
use std::sync::Arc;
use std::time::Instant;
use thunderhead_config::{CsvOptions, FileFormat, SourceFormat};
use thunderhead_source::{ByteSource, ReadLimits, SplitPolicy, open_records_with, plan_records};
use thunderhead_types::Error;

/// As `max-region-size` has it.
const CHUNK_BYTES: u64 = 256 << 20;
/// The agent's limits with two readers in its default budget.
const MEMORY: (u64, u32) = (512 << 20, 2);

fn main() {
    let row = b"12345678;'some text; and an end inside';2024-01-01 00:00:00;3.14|";
    let tuple = b"(12345678,'some text that is read','2024-01-01 00:00:00',NULL),";
    let mut one_line = SourceFormat::new(FileFormat::Csv, CsvOptions::default());
    one_line.csv.separator = ";".into();
    one_line.csv.quote = "'".into();
    one_line.csv.terminator = "|".into();
    one_line.csv.header = false;
    let lines = SourceFormat::new(FileFormat::Csv, CsvOptions::default());
    let sql = SourceFormat::new(FileFormat::Sql, CsvOptions::default());
    println!("| file | bytes | result | seconds | peak RSS, MiB |\n|---|---|---|---|---|");
    read(
        "CSV, one line of records that | ends",
        &one_line,
        made_of(b"", row, 10_000_000_000, b""),
    );
    read(
        "CSV, one line that never ends",
        &lines,
        made_of(b"id\n", b"text without an end ", 10_000_000_000, b""),
    );
    read(
        "SQL, one INSERT",
        &sql,
        made_of(
            b"INSERT INTO `t` VALUES ",
            tuple,
            2 << 30,
            b"(1,'x','2024-01-01',1);",
        ),
    );
}

fn made_of(head: &'static [u8], piece: &'static [u8], bytes: u64, tail: &'static [u8]) -> Made {
    Made {
        head,
        piece,
        pieces: bytes / piece.len() as u64,
        tail,
        read: Arc::default(),
    }
}

fn read(name: &str, format: &SourceFormat, file: Made) {
    // Starts the peak again from what is there now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (bytes, start) = (file.bytes(), Instant::now());
    let source: Arc<dyn ByteSource> = Arc::new(file);
    let result = match rows(&source, format) {
        Ok(rows) => format!("{rows} rows"),
        Err(error) => error.to_string().replace('\n', " "),
    };
    let (seconds, peak) = (start.elapsed().as_secs(), peak_bytes() >> 20);
    println!("| {name} | {bytes} | {result} | {seconds} | {peak} |");
}

fn rows(source: &Arc<dyn ByteSource>, format: &SourceFormat) -> Result<u64, Error> {
    let limits = ReadLimits::within(MEMORY.0, MEMORY.1);
    let mut rows = 0;
    for chunk in plan_records(source, format, CHUNK_BYTES, SplitPolicy::Scan)? {
        let mut reader = open_records_with(source, &chunk, format, limits)?;
        loop {
            match reader.advance()? {
                0 => break,
                count => rows += count as u64,
            }
        }
    }
    Ok(rows)
}
