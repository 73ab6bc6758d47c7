//! Time per pair of each stage of the sorter, for index keys of about 56 bytes and records of about 110:
//! `cargo run --release -p thunderhead-agent --example sort_bench [PAIRS]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use thunderhead_agent::sort::{
    Ledger, Merge, MergeBudget, MergedRuns, PairStream, RunFile, SortBuffer,
};
use thunderhead_cluster::{PairBatch, PairSource};
use thunderhead_types::{Error, KeyRange};

const ROUNDS: u32 = 3;

fn main() -> Result<(), Error> {
    let pairs: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000_000);
    let dir = std::env::temp_dir().join(format!("thunderhead-sort-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)
        .map_err(|e| Error::new(thunderhead_types::ErrorKind::Internal, dir.display(), e))?;
    let result = bench(pairs, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn bench(pairs: u64, dir: &std::path::Path) -> Result<(), Error> {
    let ledger = Arc::new(Ledger::open(dir, 0)?);
    let mut buffer = SortBuffer::new(1 << 30);
    for kind in [Kind::Index, Kind::Text, Kind::Record] {
        println!("{kind:?}: {pairs} pairs");
        let mut bytes = 0;
        for round in 0..ROUNDS {
            let mut noise = Noise(88172645463325252);
            buffer.clear();
            let last = round + 1 == ROUNDS;
            bytes = 0;
            stage(last, "fill", pairs, || {
                for n in 0..pairs {
                    let (key, value) = kind.pair(n, &mut noise);
                    bytes += key.len() + value.len();
                    let _ = buffer.push(&key, value);
                }
            });
            stage(last, "sort", pairs, || buffer.sort().len());
            let mut target = Vec::with_capacity(2 << 20);
            let taken = stage(last, "gather", pairs, || {
                buffer.sort().try_for_each(|key, value, _| {
                    if target.len() > 1 << 20 {
                        target.clear();
                    }
                    target.extend_from_slice(key);
                    target.extend_from_slice(value);
                    Ok::<(), Error>(())
                })
            });
            taken?;
        }
        let path = dir.join("one.run");
        let meta = stage(true, "gather, LZ4, CRC, write, sync", pairs, || {
            buffer.spill(&path, &ledger)
        })?;
        println!("    ratio {:.2}", bytes as f64 / meta.file_bytes as f64);
        let all = KeyRange::default();
        let run = Arc::new(RunFile::open(&path, &all)?);
        stage(true, "read back", pairs, || drain(&mut run.cursor(&all)))?;
    }
    for ways in [1, 4, 16, 64, 256] {
        merge(ways, pairs, dir, &ledger, &mut buffer)?;
    }
    Ok(())
}

/// Reads and merges index runs that all cover the same keys.
fn merge(
    ways: u64,
    pairs: u64,
    dir: &std::path::Path,
    ledger: &Arc<Ledger>,
    buffer: &mut SortBuffer,
) -> Result<(), Error> {
    let mut noise = Noise(42);
    let mut paths: Vec<PathBuf> = Vec::new();
    for run in 0..ways {
        buffer.clear();
        for n in 0..pairs / ways {
            let (key, value) = Kind::Index.pair(n, &mut noise);
            let _ = buffer.push(&key, value);
        }
        let path = dir.join(format!("{ways}-{run}.run"));
        buffer.spill(&path, ledger)?;
        paths.push(path);
    }
    let all = KeyRange::default();
    let mut runs = Vec::new();
    for path in &paths {
        runs.push(Arc::new(RunFile::open(path, &all)?));
    }
    let name = format!("read and merge {ways} runs");
    stage(true, &name, pairs, || drain(&mut Merge::new(&runs, &all)))?;
    let budget = MergeBudget {
        memory_bytes: usize::MAX,
        scratch_dir: dir.to_owned(),
    };
    let source = MergedRuns::open(&paths, &all, &budget, ledger, None)?;
    let mut reader = source.open(&all)?;
    let mut batch = PairBatch::default();
    stage(
        true,
        "  the same into batches, without duplicates",
        pairs,
        || {
            while reader.next_batch(&mut batch)? {}
            Ok::<(), Error>(())
        },
    )
}

fn drain(stream: &mut impl PairStream) -> Result<usize, Error> {
    let mut bytes = 0;
    while stream.advance()? {
        bytes += stream.key().len() + stream.value().len();
    }
    Ok(bytes)
}

fn stage<T>(print: bool, name: &str, pairs: u64, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    if print {
        println!(
            "  {name:44} {:7.1} ns/pair",
            start.elapsed().as_nanos() as f64 / pairs as f64
        );
    }
    result
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A random integer column and the handle behind it.
    Index,
    /// A text column whose values start alike.
    Text,
    /// Records in random order of the primary key.
    Record,
}

impl Kind {
    fn pair(self, n: u64, noise: &mut Noise) -> (Vec<u8>, &'static [u8]) {
        let random = noise.next();
        let mut key = Vec::with_capacity(64);
        match self {
            Kind::Record => {
                key.extend_from_slice(b"t\x80\0\0\0\0\0\0\x2a_r");
                key.extend_from_slice(&(random >> 20 | 1 << 63).to_be_bytes());
                (key, &[0x80; 95])
            }
            Kind::Index | Kind::Text => {
                key.extend_from_slice(b"t\x80\0\0\0\0\0\0\x2a_i\x80\0\0\0\0\0\0\x01\x01");
                if let Kind::Text = self {
                    key.extend_from_slice(b"customer\xff");
                }
                for i in 0..3 {
                    key.extend(
                        (0..8).map(|j| b'a' + (random >> ((5 * j + 8 * i) % 60)) as u8 % 26),
                    );
                }
                key.push(0xf7);
                key.push(3);
                key.extend_from_slice(&(n | 1 << 63).to_be_bytes());
                (key, b"0")
            }
        }
    }
}
