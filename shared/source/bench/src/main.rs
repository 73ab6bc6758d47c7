//! Parquet against arrow-rs' own reader into arrays, and gzip against other crates: what `make bench` cannot show
//! without dependencies that nothing else needs. CPU time of one process; all take turns, and the best round of
//! each counts.

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array};
use arrow_array::{RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression as Packing, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use thunderhead_config::{Compression, CsvOptions, FileFormat, SourceFormat};
use thunderhead_source::compress::unpacked;
use thunderhead_source::{ByteSource, Chunk, LocalFile, RecordReader, Value, open_records};

const ROWS: usize = 1_000_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    parquet_files(dir.path())?;
    gzip_file(dir.path())?;
    Ok(())
}

/// Of all threads: some readers have one that unpacks ahead.
fn cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn timed<T>(best: &mut f64, run: impl FnOnce() -> T) -> T {
    let start = cpu();
    let result = run();
    *best = best.min(cpu() - start);
    result
}

/// Columns as exports have them: by name, each alone in a file, and all together.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let mut state = 88_172_645_463_325_252u64;
    let random: Vec<u64> = (0..ROWS)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .collect();
    let text = |f: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(random.iter().map(|n| Some(f(*n))).collect::<StringArray>())
    };
    let flags = ["AIR", "TRUCK", "MAIL", "SHIP", "RAIL", "FOB", "REG AIR"];
    vec![
        (
            "id",
            Arc::new(Int64Array::from_iter_values(0..ROWS as i64)) as ArrayRef,
        ),
        (
            "number, a tenth NULL",
            Arc::new(
                random
                    .iter()
                    .map(|n| (n % 10 != 0).then_some((*n >> 20) as i64))
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "DECIMAL(15,2)",
            Arc::new(
                Decimal128Array::from_iter_values(random.iter().map(|n| (n % 10_000_000) as i128))
                    .with_precision_and_scale(15, 2)
                    .expect("it fits"),
            ),
        ),
        (
            "double",
            Arc::new(Float64Array::from_iter_values(
                random.iter().map(|n| *n as f64),
            )),
        ),
        (
            "date",
            Arc::new(Date32Array::from_iter_values(
                random.iter().map(|n| (n % 20_000) as i32),
            )),
        ),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                random.iter().map(|n| (n % (1 << 50)) as i64),
            )),
        ),
        (
            "flag of seven",
            text(&|n| flags[(n % 7) as usize].to_owned()),
        ),
        (
            "text of 12",
            text(&|n| format!("{:012x}", n & 0xffff_ffff_ffff)),
        ),
        (
            "comment of 40",
            text(&|n| format!("comment {n:020} and its end, {:02}", n % 100)),
        ),
    ]
}

fn parquet_files(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "Parquet, {ROWS} rows, ns a row: arrow's arrays, our columns (times as fast), and our rows of them\n"
    );
    println!("| file | arrow | columns | times | rows |\n|---|---|---|---|---|");
    let all = columns();
    for (name, column) in &all {
        let file = write(dir, &[(*name, Arc::clone(column))], Packing::UNCOMPRESSED)?;
        compare(name, &file)?;
    }
    for (name, packing) in [
        ("all, not packed", Packing::UNCOMPRESSED),
        ("all, snappy", Packing::SNAPPY),
        ("all, zstd", Packing::ZSTD(ZstdLevel::default())),
    ] {
        let file = write(dir, &all, packing)?;
        compare(name, &file)?;
    }
    Ok(())
}

fn write(
    dir: &Path,
    columns: &[(&str, ArrayRef)],
    packing: Packing,
) -> Result<std::path::PathBuf, Box<dyn std::error::Error>> {
    let path = dir.join("file.parquet");
    let batch = RecordBatch::try_from_iter(columns.iter().cloned())?;
    let properties = WriterProperties::builder().set_compression(packing).build();
    let mut writer = ArrowWriter::try_new(File::create(&path)?, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(path)
}

fn compare(name: &str, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (mut arrow, mut ours, mut rows) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        timed(&mut arrow, || by_arrow(path))?;
        timed(&mut ours, || by_us(path, false))?;
        timed(&mut rows, || by_us(path, true))?;
    }
    let per_row = |seconds: f64| seconds * 1e9 / ROWS as f64;
    println!(
        "| {name} | {:.1} | {:.1} | {:.2} | {:.1} |",
        per_row(arrow),
        per_row(ours),
        arrow / ours,
        per_row(rows)
    );
    Ok(())
}

fn by_arrow(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    let mut rows = 0;
    for batch in reader {
        rows += batch?.num_rows();
    }
    assert_eq!(rows, ROWS);
    Ok(())
}

fn by_us(path: &Path, as_rows: bool) -> Result<(), Box<dyn std::error::Error>> {
    let source: Arc<dyn ByteSource> = Arc::new(LocalFile::new(path));
    let format = SourceFormat::new(FileFormat::Parquet, CsvOptions::default());
    let mut reader: Box<dyn RecordReader> = open_records(&source, &Chunk::whole(), &format)?;
    assert_eq!(read(&mut *reader, as_rows)?, ROWS);
    Ok(())
}

/// Reads all rows, each with its values where that is asked for, and says how many there are.
fn read(reader: &mut dyn RecordReader, as_rows: bool) -> Result<usize, Box<dyn std::error::Error>> {
    let (mut rows, mut nulls) = (0, 0);
    loop {
        let count = reader.advance()?;
        if count == 0 {
            std::hint::black_box(nulls);
            return Ok(rows);
        }
        rows += count;
        let mut values: Vec<Value<'_>> = Vec::new();
        for index in (0..count).filter(|_| as_rows) {
            values.clear();
            reader.record(index, &mut values);
            nulls += usize::from(values.contains(&Value::Null));
        }
    }
}

/// A CSV of 200 MB, packed.
fn gzip_file(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let path = dir.join("file.csv.gz");
    let mut text = Vec::new();
    let mut n = 0u64;
    while text.len() < 200_000_000 {
        n += 1;
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            text,
            "{n},{},name-{:x},2026-{:02}-{:02},{}.{:02},a comment that says {}",
            noise % 100_000,
            noise >> 40,
            noise % 12 + 1,
            noise % 28 + 1,
            noise % 10_000,
            noise % 100,
            noise % 7
        )?;
    }
    let packed = {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        to.write_all(&text)?;
        to.finish()?
    };
    std::fs::write(&path, &packed)?;
    let (mut ours, mut flate, mut whole) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let bytes = timed(&mut ours, || -> io::Result<u64> {
            let source = unpacked(Arc::new(LocalFile::new(&path)), Compression::Gzip);
            io::copy(&mut source.open(0)?, &mut io::sink())
        })?;
        assert_eq!(bytes as usize, text.len());
        let bytes = timed(&mut flate, || -> io::Result<u64> {
            let file = File::open(&path)?;
            let mut stream = flate2::read::MultiGzDecoder::new(file);
            let (mut buffer, mut bytes) = (vec![0; 512 << 10], 0);
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(bytes),
                    count => bytes += count as u64,
                }
            }
        })?;
        assert_eq!(bytes as usize, text.len());
        timed(&mut whole, || -> Result<(), Box<dyn std::error::Error>> {
            let packed = std::fs::read(&path)?;
            let mut out = vec![0; text.len()];
            let mut unpacker = libdeflater::Decompressor::new();
            unpacker.gzip_decompress(&packed, &mut out)?;
            Ok(())
        })?;
    }
    let rate = |seconds: f64| text.len() as f64 / 1e6 / seconds;
    println!("\ngzip, {} MB of text, MB/s\n", text.len() / 1_000_000);
    println!(
        "| ours, with reading and the thread ahead | flate2 with zlib-rs alone | libdeflate, the whole file in memory at once |\n|---|---|---|"
    );
    println!(
        "| {:.0} | {:.0} | {:.0} |",
        rate(ours),
        rate(flate),
        rate(whole)
    );
    parsed(&path, text.len())
}

/// The same file as records: what the thread that parses takes, and what the one that unpacks ahead of it does.
fn parsed(path: &Path, bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut format = SourceFormat::new(FileFormat::Csv, CsvOptions::default());
    format.csv.header = false;
    format.compression = Compression::Gzip;
    let (mut parsing, mut both, mut wall) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let (start, thread, all) = (Instant::now(), seconds(ClockId::ThreadCPUTime), cpu());
        let source = unpacked(Arc::new(LocalFile::new(path)), Compression::Gzip);
        let mut reader: Box<dyn RecordReader> = open_records(&source, &Chunk::whole(), &format)?;
        assert!(read(&mut *reader, true)? > 0);
        parsing = parsing.min(seconds(ClockId::ThreadCPUTime) - thread);
        both = both.min(cpu() - all);
        wall = wall.min(start.elapsed().as_secs_f64());
    }
    println!(
        "\nthe same file as CSV records, seconds for {} MB\n",
        bytes / 1_000_000
    );
    println!("| CPU of the thread that parses | CPU of both | wall time |\n|---|---|---|");
    println!("| {parsing:.2} | {both:.2} | {wall:.2} |");
    Ok(())
}
