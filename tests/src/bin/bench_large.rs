//! `make bench-large`: whole imports of what does not fit into memory, and the memory that the importer takes for each:
//! `bench_large [GIGABYTES [CASE]]`, 10 unless told otherwise, and all cases whose names hold CASE. The files need that
//! much room on the disk of the temporary directory, one after the other.

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_tests::import::Bench;
use thunderhead_tests::process::{cpu_seconds, peak_rss};

const DDL: &str = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name LONGTEXT)";
/// An import that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(3600);

/// Writes a file of about so many bytes and says how many rows it has; none where it is to be refused.
type Make = fn(&mut (dyn Write + Send), u64) -> io::Result<Option<u64>>;

struct Case {
    name: &'static str,
    file: &'static str,
    bytes: u64,
    make: Make,
    /// Of nothing but NULs to its size, which takes no room on the disk.
    sparse: bool,
    settings: &'static [&'static str],
}

fn main() -> ExitCode {
    let gigabytes = std::env::args()
        .nth(1)
        .map_or(Ok(10.0), |text| text.parse());
    let done = gigabytes
        .map_err(io::Error::other)
        .and_then(|gigabytes: f64| run((gigabytes * 1e9) as u64));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_large: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bytes: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    println!(
        "| file | budget, MiB | result | importer CPU, s | peak RSS, MiB |\n|---|---|---|---|---|"
    );
    let cases = [
        Case {
            name: "CSV, one line that never ends",
            file: "d.t.csv",
            bytes,
            make: |to, _| to.write_all(b"id,name\n1,").map(|()| None),
            sparse: true,
            settings: &["thunderhead.memory=512MiB"],
        },
        Case {
            name: "CSV, rows of 4 MiB",
            file: "d.t.csv",
            bytes: bytes / 10,
            make: |to, bytes| lines(to, bytes).map(Some),
            sparse: false,
            settings: &["thunderhead.memory=256MiB"],
        },
        Case {
            name: "SQL, one INSERT on one line",
            file: "d.t.sql",
            bytes,
            make: |to, bytes| insert(to, bytes).map(Some),
            sparse: false,
            settings: &["thunderhead.memory=512MiB"],
        },
        Case {
            name: "Parquet, one row group",
            file: "d.t.parquet",
            bytes: bytes / 9,
            make: |to, bytes| row_group(to, bytes).map(Some).map_err(io::Error::other),
            sparse: false,
            settings: &["thunderhead.memory=512MiB"],
        },
    ];
    let only = std::env::args().nth(2).unwrap_or_default();
    let mut cases = cases.iter().filter(|case| case.name.contains(&only));
    cases.try_for_each(|case| import(&runtime, case))
}

fn import(runtime: &tokio::runtime::Runtime, case: &Case) -> io::Result<()> {
    let bench = Bench::start(&["--stores", "1"]);
    runtime.block_on(bench.sql(&["CREATE DATABASE d", DDL]));
    let file = File::create(bench.path("data").join(case.file))?;
    let mut to = BufWriter::with_capacity(1 << 20, file);
    let rows = (case.make)(&mut to, case.bytes)?;
    let file = to.into_inner()?;
    if case.sparse {
        file.set_len(case.bytes)?;
    }
    let size = file.metadata()?.len();
    let mut args: Vec<&str> = case.settings.iter().flat_map(|s| ["--set", s]).collect();
    args.extend(["--set", "post-restore.analyze=off"]);
    let log = bench.path("log");
    let mut process = bench.start_import(&args, &log)?;
    let (mut peak, mut cpu, start) = (0, 0.0, std::time::Instant::now());
    let status = loop {
        if let (Ok(rss), Ok(seconds)) = (peak_rss(process.pid()), cpu_seconds(process.pid())) {
            (peak, cpu) = (rss, seconds);
        }
        if let Some(status) = process.ended()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            return Err(io::Error::other(format!("{}: no end", case.name)));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = std::fs::read_to_string(&log)?;
    let result = match rows {
        Some(rows) => {
            let counted = runtime.block_on(bench.query("SELECT COUNT(*) FROM d.t"));
            let all = status.success() && counted == [[rows.to_string()]];
            all.then(|| format!("{rows} rows"))
        }
        None => said
            .lines()
            .find(|line| !status.success() && line.contains("longer than"))
            .and_then(|line| line.rsplit('/').next())
            .map(|line| format!("refused: `{line}`")),
    };
    let result = result.ok_or_else(|| {
        let end: String = said.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        io::Error::other(format!("{}: {status}: {end}", case.name))
    })?;
    println!(
        "| {}, {:.1} GB | {} | {result} | {cpu:.0} | {} |",
        case.name,
        size as f64 / 1e9,
        case.settings[0]
            .trim_start_matches(|c: char| !c.is_ascii_digit())
            .trim_end_matches("MiB"),
        peak >> 20
    );
    io::stdout().flush()
}

/// Text that is not the same twice.
fn text(row: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    let mut n = row;
    while text.len() < bytes {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str("some text that is read, number ");
        text.push_str(&(n >> 40).to_string());
        text.push(' ');
    }
    text
}

/// Records of 4 MiB each.
fn lines(to: &mut (dyn Write + Send), bytes: u64) -> io::Result<u64> {
    to.write_all(b"id,name\n")?;
    let rows = (bytes >> 22).max(1);
    (0..rows).try_for_each(|row| writeln!(to, "{row},\"{}\"", text(row, 4 << 20)))?;
    Ok(rows)
}

/// One statement with tuples of 4 KiB each, and no line end anywhere.
fn insert(to: &mut (dyn Write + Send), bytes: u64) -> io::Result<u64> {
    to.write_all(b"INSERT INTO `t` VALUES ")?;
    let rows = (bytes >> 12).max(1);
    for row in 0..rows {
        let comma = if row > 0 { "," } else { "" };
        write!(to, "{comma}({row},'{}')", text(row, 4080))?;
    }
    to.write_all(b";")?;
    Ok(rows)
}

/// Rows of 1 KiB in one row group, not packed, in pages of 1 MiB.
fn row_group(to: &mut (dyn Write + Send), bytes: u64) -> Result<u64, ParquetError> {
    let schema = "message m { required int64 id; required binary name (STRING); }";
    let schema = Arc::new(parse_message_type(schema)?);
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(1 << 20);
    let mut file = SerializedFileWriter::new(to, schema, Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    let rows = (bytes >> 10).max(1);
    for column in 0..2 {
        let mut writer = group.next_column()?.expect("two columns");
        for start in (0..rows).step_by(1000) {
            let part = start..rows.min(start + 1000);
            if column == 0 {
                let ids: Vec<i64> = part.map(|row| row as i64).collect();
                writer.typed::<Int64Type>().write_batch(&ids, None, None)?;
                continue;
            }
            let names: Vec<ByteArray> = part.map(|row| text(row, 1000).as_str().into()).collect();
            let writer = writer.typed::<ByteArrayType>();
            writer.write_batch(&names, None, None)?;
        }
        writer.close()?;
    }
    group.close()?;
    file.close()?;
    Ok(rows)
}
