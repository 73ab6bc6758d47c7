//! Time per row of the CSV core, of the chunk reader over a file, and of the split scan, for rows of
//! about 100 bytes and 10 columns: `cargo run --release -p thunderhead-source --example csv_bench`.

use std::io::Write;
use std::time::Instant;

use thunderhead_source::csv::{Batch, Core, Stop};
use thunderhead_source::{ChunkReader, CsvDialect, LocalFile, SplitPolicy, plan_chunks};

const ROWS: usize = 1_000_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, quoted) in [("plain", false), ("3 of 10 fields quoted", true)] {
        let data = rows(quoted);
        println!("{name}: {ROWS} rows, {} bytes per row", data.len() / ROWS);
        let dialect = CsvDialect {
            header: false,
            ..CsvDialect::default()
        };
        let core = Core::new(&dialect);
        best("core, fields", data.len(), || parse_all(&core, &data));
        best("core, count only", data.len(), || {
            core.skip(&data, true, usize::MAX).rows
        });

        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&data)?;
        file.flush()?;
        let mut chunks = Vec::new();
        best("split scan of a cached file", data.len(), || {
            chunks = plan_chunks(
                &LocalFile::new(file.path()),
                &dialect,
                16 << 20,
                SplitPolicy::Scan,
            )
            .unwrap_or_default();
            chunks.iter().map(|chunk| chunk.rows_max as usize).sum()
        });
        best("chunk reader over a cached file", data.len(), || {
            let mut bytes = 0;
            for chunk in &chunks {
                let Ok(mut reader) =
                    ChunkReader::open(&LocalFile::new(file.path()), chunk, &dialect)
                else {
                    return 0;
                };
                while let Ok(Some(batch)) = reader.next_batch() {
                    bytes += batch
                        .rows()
                        .map(|row| row.fields().flatten().map(<[u8]>::len).sum::<usize>())
                        .sum::<usize>();
                }
            }
            bytes
        });
    }
    Ok(())
}

fn parse_all(core: &Core, data: &[u8]) -> usize {
    let (mut batch, mut at, mut fields) = (Batch::default(), 0, 0);
    loop {
        let parsed = core.parse(&data[at..], true, 512, &mut batch);
        fields += (0..batch.rows().len())
            .map(|row| batch.fields(row).len())
            .sum::<usize>();
        at += parsed.consumed;
        if parsed.stop != Stop::Full {
            return fields;
        }
    }
}

fn best(what: &str, bytes: usize, mut run: impl FnMut() -> usize) {
    let mut best = f64::MAX;
    let mut result = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        result = run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (per_row, rate) = (best * 1e9 / ROWS as f64, bytes as f64 / best / 1e9);
    println!("  {what:34} {per_row:7.1} ns/row {rate:6.2} GB/s   ({result})");
}

fn rows(quoted: bool) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::new();
    for id in 0..ROWS {
        let (a, b, c) = (next(), next(), next());
        let q = if quoted { "\"" } else { "" };
        let line = format!(
            "{id},{},{q}name-{:08x}{q},{}.{:02},2024-{:02}-{:02} {:02}:{:02}:{:02},{q}{:012x}{q},{},{q}user{}@x.org{q},{},N\n",
            a % 100_000,
            b as u32,
            c % 10_000,
            a % 100,
            a % 12 + 1,
            b % 28 + 1,
            c % 24,
            a % 60,
            b % 60,
            c & 0xffff_ffff_ffff,
            a % 7,
            b % 1_000_000,
            c % 1_000_000_000,
        );
        data.extend_from_slice(line.as_bytes());
    }
    data
}
