//! `make bench`: TPC-H lineitem through each stage on one thread, then end to end into the sandbox.
//! Figures are CPU time of the thread, so that another load on the machine does not change them much.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use thunderhead_agent::sort::{Ledger, MergeBudget, MergedRuns, SortBuffer};
use thunderhead_cluster::{PairBatch, PairSource};
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{Field, Slot, TableEncoder};
use thunderhead_source::{Chunk, ChunkReader, CsvDialect, LocalFile};
use thunderhead_sst::{BuiltSlice, Compression, PairsToSst, SliceOptions, prove_slice};
use thunderhead_tests::process::{Sandbox, binary, cpu_seconds};
use thunderhead_tests::tpch;
use thunderhead_types::{Checksum, KeyRange, Tally};

/// Memory of one sort buffer: half of what an agent with the default budget gives a thread.
const SORT_BYTES: usize = 70 << 20;

fn main() -> ExitCode {
    let scale = std::env::args()
        .nth(1)
        .map_or(Ok(1.0), |text| text.parse::<f64>());
    let conflicts = std::env::args()
        .nth(2)
        .is_some_and(|what| what == "conflicts");
    let result = scale
        .map_err(io::Error::other)
        .and_then(|scale| match conflicts {
            true => compare_conflicts(scale),
            false => run(scale),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(scale: f64) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    println!(
        "TPC-H lineitem, scale {scale}: three key-value pairs a row (clustered key, unique index, index)"
    );
    let file = tpch::generate(&dir.path().join("data"), scale, &["lineitem"])?.remove(0);
    let sandbox = Sandbox::start(&dir.path().join("sandbox"), &[])?;
    let info = create_table(&sandbox)?;
    let bench = Bench {
        path: file.path.clone(),
        bytes: file.bytes,
        rows: file.rows,
        dir: dir.path().to_owned(),
        info,
    };
    bench.stages()?;
    bench.end_to_end(&sandbox)
}

/// Rounds of [`compare_conflicts`]; the least CPU time of each case counts.
const ROUNDS: usize = 3;

/// `bench SCALE conflicts`: what looking for conflicts costs. Lineitem with two unique indexes beside its clustered
/// key, without a conflict and with one row in a hundred that has the primary key of another one.
fn compare_conflicts(scale: f64) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = tpch::generate(&dir.path().join("clean"), scale, &["lineitem"])?.remove(0);
    let text = std::fs::read_to_string(&file.path)?;
    let again = text.lines().skip(1).step_by(100).filter_map(|line| {
        // A quantity that no row has. Only the comment, which is last, may hold a comma.
        let mut fields: Vec<&str> = line.splitn(6, ',').collect();
        *fields.get_mut(4)? = "99";
        Some(fields.join(",") + "\n")
    });
    let twice = format!("{text}{}", again.collect::<String>());
    std::fs::create_dir(dir.path().join("twice"))?;
    std::fs::write(dir.path().join("twice/tpch.lineitem.csv"), twice)?;
    let sandbox = Sandbox::start(&dir.path().join("sandbox"), &[])?;
    let ddl = lineitem_ddl().replace(
        "KEY l_shipdate (l_shipdate)",
        "UNIQUE KEY l_ship_order (l_shipdate, l_orderkey, l_linenumber)",
    );
    let cases = [
        ("none, no conflict", "clean", "none"),
        ("remove, no conflict", "clean", "remove"),
        ("remove, 1 % of the rows", "twice", "remove"),
    ];
    let mut least = [f64::INFINITY; 3];
    sql(&sandbox, "CREATE DATABASE tpch")?;
    for _ in 0..ROUNDS {
        for (case, least) in cases.iter().zip(&mut least) {
            sql(
                &sandbox,
                &format!("USE tpch; DROP TABLE IF EXISTS lineitem; {ddl}"),
            )?;
            let more = format!(
                "[conflict]\nstrategy = {:?}\n{}",
                case.2,
                match case.2 {
                    "none" => "",
                    _ => "threshold = 1000000000\nmax-record-rows = 10000\n",
                }
            );
            let report = import(dir.path(), &dir.path().join(case.1), &sandbox, &more)?;
            *least = least.min(report["cpu_seconds"].as_f64().unwrap_or(f64::INFINITY));
        }
    }
    println!(
        "{} rows, importer CPU, the least of {ROUNDS} rounds",
        file.rows
    );
    for (case, cpu) in cases.iter().zip(least) {
        let more = (cpu / least[0] - 1.0) * 100.0;
        println!("{:<28} {cpu:>8.2} s {more:>+7.1} %", case.0);
    }
    Ok(())
}

fn lineitem_ddl() -> &'static str {
    tpch::TABLES
        .iter()
        .find(|(table, _)| *table == "lineitem")
        .map_or("", |(_, ddl)| ddl)
}

fn sql(sandbox: &Sandbox, statements: &str) -> io::Result<()> {
    let status = Command::new("mariadb")
        .args([
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--user=root",
            &format!("--port={}", sandbox.sql_port),
            "-e",
            statements,
        ])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other("a statement failed")),
    }
}

/// Imports `source` with the default memory budget; `more` goes to the end of the configuration.
fn import(
    dir: &Path,
    source: &Path,
    sandbox: &Sandbox,
    more: &str,
) -> io::Result<serde_json::Value> {
    let config = dir.join("lightning.toml");
    let report = dir.join("report.json");
    let text = format!(
        "[tikv-importer]\nbackend = \"local\"\nsorted-kv-dir = {:?}\n[mydumper]\ndata-source-dir = {source:?}\n{}\n{more}",
        dir.join("sorted"),
        sandbox.tidb_section()
    );
    std::fs::write(&config, text)?;
    let status = Command::new(binary())
        .args(["import", "--no-progress", "--config"])
        .arg(&config)
        .arg("--report-file")
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the import ended with {status}")));
    }
    serde_json::from_slice(&std::fs::read(&report)?).map_err(io::Error::other)
}

fn create_table(sandbox: &Sandbox) -> io::Result<TableInfo> {
    let ddl = lineitem_ddl();
    sql(sandbox, &format!("CREATE DATABASE tpch; USE tpch; {ddl};"))?;
    let url = format!(
        "http://127.0.0.1:{}/schema/tpch/lineitem",
        sandbox.status_port
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let client = thunderhead_tests::import::http_client();
    let json = runtime
        .block_on(async { client.get(url).send().await?.text().await })
        .map_err(io::Error::other)?;
    serde_json::from_str(&json).map_err(io::Error::other)
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

struct Bench {
    path: PathBuf,
    bytes: u64,
    rows: u64,
    dir: PathBuf,
    info: TableInfo,
}

impl Bench {
    /// Each stage repeats the ones before it; what is printed is what it adds.
    fn stages(&self) -> io::Result<()> {
        println!("\n{:<28} {:>10} {:>12}", "stage", "ns/row", "MB/s (CSV)");
        let parse = self.timed(|| self.encode(|_, _, _| {}, false))?;
        self.line("parse", parse, 0);
        let encode = self.timed(|| self.encode(|_, _, _| {}, true))?;
        self.line("encode", encode, parse);
        let mut tally = Tally::default();
        let checksum = self.timed(|| self.encode(|_, key, value| tally.add(key, value), true))?;
        self.line("checksum", checksum, encode);
        let tally = tally.sum();
        let mut runs = Vec::new();
        let sort = self.timed(|| {
            runs = self.sort()?;
            Ok(())
        })?;
        self.line("sort and spill", sort, encode);
        let mut merged = 0;
        let merge = self.timed(|| {
            merged = self.merge(&runs)?;
            Ok(())
        })?;
        self.line("merge", merge, 0);
        self.line(
            "file to sorted stream",
            checksum + (sort - encode) + merge,
            0,
        );
        if merged != tally.kvs {
            return Err(io::Error::other(format!(
                "{merged} pairs came out of the merge, {} went in",
                tally.kvs
            )));
        }
        self.files(&runs, merge, &tally)
    }

    /// The last stage: merged pairs become the table files that `Upload` sends, and are proved.
    fn files(&self, runs: &[PathBuf], merge_ns: u64, tally: &Checksum) -> io::Result<()> {
        println!(
            "\n{:<28} {:>10} {:>12} {:>14} {:>12}",
            "table files from the stream", "ns/row", "MB/s (CSV)", "MB/s (pairs)", "file/pairs"
        );
        for (name, compression) in [
            ("build, uncompressed", Compression::None),
            ("build, LZ4", Compression::Lz4),
            ("build, zstd 1", Compression::Zstd(1)),
            ("build, zstd 3", Compression::Zstd(3)),
        ] {
            let (mut prove_ns, mut size) = (0, 0);
            let total = self.timed(|| {
                self.build(runs, compression, |slice| {
                    let start = cpu_ns();
                    prove_slice(&slice, &KeyRange::default()).map_err(io::Error::other)?;
                    prove_ns += cpu_ns() - start;
                    size += slice.size();
                    Ok(())
                })
            })?;
            let build_ns = total.saturating_sub(prove_ns + merge_ns);
            let line = |stage: &str, ns: u64| {
                println!(
                    "{stage:<28} {:>10.0} {:>12.0} {:>14.0} {:>12.2}",
                    ns as f64 / self.rows as f64,
                    self.bytes as f64 * 1e3 / ns.max(1) as f64,
                    tally.bytes as f64 * 1e3 / ns.max(1) as f64,
                    size as f64 / tally.bytes as f64
                );
            };
            line(name, build_ns);
            line(&name.replace("build", "prove"), prove_ns);
        }
        Ok(())
    }

    fn build(
        &self,
        runs: &[PathBuf],
        compression: Compression,
        mut done: impl FnMut(BuiltSlice) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut options = SliceOptions::new(1 << 58);
        options.sst.compression = compression;
        options.dir = Some(self.dir.clone());
        let mut slices = PairsToSst::new(options, []);
        self.merge_each(runs, |batch| {
            for (key, value) in batch.iter() {
                if let Some(slice) = slices.add(key, value).map_err(io::Error::other)? {
                    done(slice)?;
                }
            }
            Ok(())
        })?;
        match slices.finish().map_err(io::Error::other)? {
            Some(slice) => done(slice),
            None => Ok(()),
        }
    }

    fn line(&self, stage: &str, total_ns: u64, before_ns: u64) {
        let ns = total_ns.saturating_sub(before_ns) as f64;
        println!(
            "{stage:<28} {:>10.0} {:>12.0}",
            ns / self.rows as f64,
            self.bytes as f64 * 1e3 / ns.max(1.0)
        );
    }

    fn timed(&self, work: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
        let start = cpu_ns();
        work()?;
        Ok(cpu_ns() - start)
    }

    fn encode(&self, mut sink: impl FnMut(Slot, &[u8], &[u8]), encode: bool) -> io::Result<()> {
        let dialect = CsvDialect::default();
        let chunk = Chunk {
            offset: 0,
            end: self.bytes,
            first_line: 1,
            rows_max: self.rows,
            rows_exact: true,
            statement: None,
        };
        let mut reader = ChunkReader::open(&LocalFile::new(&self.path), &chunk, &dialect)
            .map_err(io::Error::other)?;
        let mut encoder = TableEncoder::compile(&self.info, &Session::default(), None)
            .map_err(io::Error::other)?;
        let mut seen = 0usize;
        while let Some(batch) = reader.next_batch().map_err(io::Error::other)? {
            for row in batch.rows() {
                if !encode {
                    seen += row.fields().flatten().map(<[u8]>::len).sum::<usize>();
                    continue;
                }
                let mut fields = [Field::Null; 16];
                for (slot, field) in fields.iter_mut().zip(row.fields()) {
                    *slot = field.map_or(Field::Null, Field::Text);
                }
                encoder
                    .encode_row(&fields, 1, &mut sink)
                    .map_err(io::Error::other)?;
            }
        }
        std::hint::black_box(seen);
        Ok(())
    }

    fn sort(&self) -> io::Result<Vec<PathBuf>> {
        let ledger = Arc::new(Ledger::open(&self.dir, 0).map_err(io::Error::other)?);
        let mut buffers = [SortBuffer::new(SORT_BYTES), SortBuffer::new(SORT_BYTES)];
        let mut runs = Vec::new();
        let dir = self.dir.clone();
        let mut spill = |buffer: &mut SortBuffer| {
            let path = dir.join(format!("{}.run", runs.len()));
            buffer.spill(&path, &ledger).expect("a run is written");
            runs.push(path);
        };
        self.encode(
            |slot, key, value| {
                let buffer = &mut buffers[usize::from(slot != Slot::Record)];
                if !buffer.push(key, value) {
                    spill(buffer);
                }
            },
            true,
        )?;
        buffers
            .iter_mut()
            .filter(|b| !b.is_empty())
            .for_each(&mut spill);
        Ok(runs)
    }

    fn merge(&self, runs: &[PathBuf]) -> io::Result<u64> {
        let mut pairs = 0;
        self.merge_each(runs, |batch| {
            pairs += batch.len() as u64;
            Ok(())
        })?;
        Ok(pairs)
    }

    fn merge_each(
        &self,
        runs: &[PathBuf],
        mut each: impl FnMut(&PairBatch) -> io::Result<()>,
    ) -> io::Result<()> {
        let ledger = Arc::new(Ledger::open(&self.dir, 0).map_err(io::Error::other)?);
        let budget = MergeBudget {
            memory_bytes: SORT_BYTES,
            scratch_dir: self.dir.clone(),
        };
        let all = KeyRange::default();
        let merged =
            MergedRuns::open(runs, &all, &budget, &ledger, None).map_err(io::Error::other)?;
        let mut reader = merged.open(&all).map_err(io::Error::other)?;
        let mut batch = PairBatch::default();
        while reader.next_batch(&mut batch).map_err(io::Error::other)? {
            each(&batch)?;
        }
        Ok(())
    }

    /// The whole import, by each way that pairs can take into the stores.
    fn end_to_end(&self, sandbox: &Sandbox) -> io::Result<()> {
        let source = self.path.parent().unwrap_or(Path::new("."));
        let gb = self.bytes as f64 / 1e9;
        println!(
            "\nend to end into the sandbox (three stores on the same machine), default memory budget"
        );
        println!(
            "{:<10} {:>8} {:>8} {:>14} {:>14} {:>14} {:>16}",
            "ingest",
            "seconds",
            "MB/s",
            "loader CPU/GB",
            "stores CPU/GB",
            "loader MiB",
            "sent/replica MB"
        );
        for path in ["write", "upload", "auto"] {
            sql(sandbox, "USE tpch; TRUNCATE TABLE lineitem")?;
            let before = cpu_seconds(sandbox.process.pid())?;
            let more = format!("[thunderhead]\ningest = {path:?}\n");
            let report = import(&self.dir, source, sandbox, &more)?;
            let stores = cpu_seconds(sandbox.process.pid())? - before;
            let number = |name: &str| report[name].as_f64().unwrap_or(0.0);
            println!(
                "{path:<10} {:>8.1} {:>8.1} {:>14.1} {:>14.1} {:>14.0} {:>16.1}",
                number("seconds"),
                self.bytes as f64 / 1e6 / number("seconds"),
                number("cpu_seconds") / gb,
                stores / gb,
                number("peak_rss_bytes") / f64::from(1 << 20),
                report["tables"][0]["sent_bytes"].as_f64().unwrap_or(0.0) / 1e6
            );
        }
        Ok(())
    }
}
