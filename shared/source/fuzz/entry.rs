//! What must take any bytes without a panic, and hold what is said at each: the entry points of the fuzz targets
//! and of the test that feeds them random bytes on every run.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use thunderhead_config::{
    Compression, CsvOptions, FileFormat, FileRules, SourceFormat, load, schema_file,
};
use thunderhead_source::compress::unpacked;
use thunderhead_source::csv::{Batch, Core, TextEncoding};
use thunderhead_source::store::Location;
use thunderhead_source::{
    ByteSource, ByteStream, Chunk, ChunkReader, CsvDialect, Identity, ReadLimits, RecordReader,
    SourceError, SplitPolicy, Value, guess, open_records, plan_chunks, plan_records,
};

/// An entry point and its name.
pub type Entry = (&'static str, fn(&[u8]));

pub const ENTRIES: [Entry; 10] = [
    ("csv", csv),
    ("csv_split", csv_split),
    ("sql", sql),
    ("parquet", parquet),
    ("packed", packed),
    ("dialect", dialect),
    ("location", location),
    ("job", job),
    ("names", names),
    ("schema", schema),
];

/// A job but for its statement or its rules.
const JOB: &str = "[tikv-importer]\nbackend = \"local\"\nsorted-kv-dir = \"/sorted\"\n[mydumper]\ndata-source-dir = \"/data\"\n";

/// A file that is only bytes.
#[derive(Debug)]
struct Memory(Arc<[u8]>);

impl Memory {
    fn of(bytes: &[u8]) -> Arc<dyn ByteSource> {
        Arc::new(Self(bytes.into()))
    }
}

impl ByteSource for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity {
            stored_bytes: self.0.len() as u64,
            ..Identity::default()
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.0.len() as u64))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let mut bytes = Cursor::new(Arc::clone(&self.0));
        bytes.set_position(offset);
        Ok(Box::new(bytes))
    }
}

/// A dialect out of the first bytes, and what is left.
fn csv_dialect(data: &[u8]) -> Option<(CsvDialect, &[u8])> {
    let (picks, rest) = data.split_first_chunk::<4>()?;
    let of = |pick: u8, tokens: &[&[u8]]| tokens[usize::from(pick) % tokens.len()].to_vec();
    let dialect = CsvDialect {
        separator: of(picks[0], &[b",", b"\t", b"|+|", b",,", b"\0", b"\xa1\xec"]),
        quote: of(picks[1], &[b"\"", b"'", b"", b"|'", b"\"\""]),
        terminator: of(picks[2], &[b"", b"\n", b"\r\n", b";", b"|\n"]),
        escape: of(picks[3], &[b"\\", b"", b"^", b"\\\\"]),
        trim_last_separator: picks[0] & 0x80 != 0,
        lenient: picks[1] & 0x80 != 0,
        starting: if picks[2] & 0x80 != 0 {
            b"x".to_vec()
        } else {
            Vec::new()
        },
        header: false,
        skip_malformed: picks[0] & 0x40 != 0,
        text: match picks[3] >> 6 {
            1 => TextEncoding::Gbk,
            2 => TextEncoding::Gb18030,
            3 => TextEncoding::Latin1,
            _ => TextEncoding::AsIs,
        },
        ..CsvDialect::default()
    };
    dialect.check().ok()?;
    Some((dialect, rest))
}

type Rows = Vec<(u64, u64, Vec<Option<Vec<u8>>>)>;

fn csv_rows<R: Read>(mut reader: ChunkReader<R>) -> (Rows, Option<String>) {
    let mut rows = Rows::new();
    loop {
        match reader.next_batch() {
            Ok(None) => return (rows, None),
            Err(error) => return (rows, Some(format!("{error:?}"))),
            Ok(Some(batch)) => rows.extend(batch.rows().map(|row| {
                let fields = row.fields().map(|field| field.map(<[u8]>::to_vec));
                let wrong = row.malformed();
                let wrong = wrong
                    .map(|(at, e)| Some(format!("{at} {:?} {}", e.kind, e.column).into_bytes()));
                (row.offset(), row.line(), fields.chain(wrong).collect())
            })),
        }
    }
}

fn whole(input: &[u8], dialect: &CsvDialect, read_bytes: usize) -> (Rows, Option<String>) {
    let limits = ReadLimits {
        read_bytes,
        row_bytes_max: 1 << 20,
    };
    let reader = ChunkReader::new(input, "memory".into(), 0, None, 1, dialect, limits);
    csv_rows(reader.expect("the dialect was checked"))
}

/// Records are the same through a small buffer and a large one, and counting finds what parsing finds.
pub fn csv(data: &[u8]) {
    let Some((dialect, input)) = csv_dialect(data) else {
        return;
    };
    assert_eq!(whole(input, &dialect, 7), whole(input, &dialect, 1 << 16));
    let (core, mut batch) = (Core::new(&dialect), Batch::default());
    let parsed = core.parse(input, true, usize::MAX, &mut batch);
    assert_eq!(core.skip(input, true, usize::MAX), parsed);
}

/// Records of the chunks are those of the file, and where there are no chunks the file is wrong.
pub fn csv_split(data: &[u8]) {
    let Some((dialect, input)) = csv_dialect(data) else {
        return;
    };
    let source = Memory::of(input);
    let chunk_bytes = u64::from(data[0] % 64) + 1;
    let (expected, wrong) = whole(input, &dialect, 1 << 16);
    let planned = plan_chunks(&*source, &dialect, chunk_bytes, SplitPolicy::Scan);
    let chunks = match (planned, wrong) {
        (Ok(chunks), None) => chunks,
        (Err(_), Some(_)) => return,
        (planned, wrong) => panic!("{planned:?} {wrong:?}"),
    };
    let mut rows = Rows::new();
    for chunk in chunks {
        let reader = ChunkReader::open(&*source, &chunk, &dialect).expect("memory opens");
        let (mut some, wrong) = csv_rows(reader);
        assert_eq!((some.len() as u64, wrong), (chunk.rows_max, None));
        rows.append(&mut some);
    }
    assert_eq!(rows, expected);
}

fn records(
    source: &Arc<dyn ByteSource>,
    chunk: &Chunk,
    format: &SourceFormat,
) -> Result<Vec<String>, SourceError> {
    let mut reader: Box<dyn RecordReader> = open_records(source, chunk, format)?;
    let mut rows = Vec::new();
    loop {
        let count = reader.advance()?;
        if count == 0 {
            return Ok(rows);
        }
        for index in 0..count {
            let mut values: Vec<Value<'_>> = Vec::new();
            let at = reader.record(index, &mut values);
            let wrong = reader.malformed(index).map(|e| e.to_string());
            rows.push(format!("{at:?} {values:?} {wrong:?}"));
        }
    }
}

/// Rows of the chunks are those of the dump.
pub fn sql(data: &[u8]) {
    let Some((first, input)) = data.split_first() else {
        return;
    };
    let source = Memory::of(input);
    let mut format = SourceFormat::new(FileFormat::Sql, CsvOptions::default());
    format.sql.no_backslash_escapes = first & 1 != 0;
    format.skip_malformed = first & 4 != 0;
    format.sql.table = (first & 2 != 0).then(|| "t".to_owned());
    let Ok(expected) = records(&source, &Chunk::whole(), &format) else {
        return;
    };
    let chunks = plan_records(
        &source,
        &format,
        u64::from(*first) / 4 + 1,
        SplitPolicy::Scan,
    );
    let mut rows = Vec::new();
    for chunk in chunks.expect("a dump that can be read can be cut") {
        rows.extend(records(&source, &chunk, &format).expect("and its parts can be read"));
    }
    assert_eq!(rows, expected);
}

/// Any bytes are a Parquet file or an error. A few of them may be as many rows as one likes.
pub fn parquet(data: &[u8]) {
    const ROWS_MAX: usize = 10_000;
    let format = SourceFormat::new(FileFormat::Parquet, CsvOptions::default());
    let source = Memory::of(data);
    let _ = plan_records(&source, &format, 1, SplitPolicy::Scan);
    let Ok(mut reader) = open_records(&source, &Chunk::whole(), &format) else {
        return;
    };
    let mut rows = 0;
    while let Ok(count) = reader.advance()
        && count > 0
        && rows < ROWS_MAX
    {
        for index in 0..count {
            let _ = reader.record(index, &mut Vec::new());
        }
        rows += count;
    }
}

/// Any bytes unpack or are an error, in bounded time.
pub fn packed(data: &[u8]) {
    let packings = [
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Xz,
        Compression::Bzip2,
    ];
    let Some((first, input)) = data.split_first() else {
        return;
    };
    let packing = packings[usize::from(*first) % packings.len()];
    let source = unpacked(Memory::of(input), packing);
    if let Ok(stream) = source.open(0) {
        let _ = io::copy(&mut stream.take(1 << 20), &mut io::sink());
    }
}

/// A guess is a dialect that can be read with.
pub fn dialect(data: &[u8]) {
    let found = guess(data, data.len().is_multiple_of(2));
    assert!(CsvDialect::from(&found.options).check().is_ok());
}

/// What is said of a wrong URI holds nothing of its query.
pub fn location(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let uri = format!("{text}?secret_access_key=HIDDEN&x={text}");
    for uri in [text, &uri] {
        if let Err(error) = Location::parse(uri) {
            assert!(!error.to_string().contains("HIDDEN"), "{uri}: {error}");
        }
    }
}

/// Any text is a configuration, or a LOAD DATA or IMPORT INTO statement, or has problems with their lines.
pub fn job(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let statement = ("thunderhead.statement".to_owned(), text.to_owned());
    let lines = text.split('\n').count();
    for (config, overrides) in [(text, &[][..]), (JOB, &[statement][..])] {
        let lines = lines.max(config.split('\n').count());
        for problem in load(config, "fuzz", overrides).err().unwrap_or_default() {
            assert!(problem.line <= lines, "{problem:?}");
        }
    }
}

/// Any name of a file has a role or none, by the usual rules and by a rule of the user.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or(("", text));
    let _ = FileRules::dumpling().role(name);
    let rule = format!(
        "{JOB}[[mydumper.files]]\npattern = {pattern:?}\nschema = \"$1\"\ntable = \"$2\"\ntype = \"$3\"\nkey = \"$4\"\n"
    );
    if let Ok(loaded) = load(&rule, "fuzz", &[]) {
        let _ = loaded.job.file_rules.role(name);
    }
}

/// Statements of a schema file are parts of it, in their order.
pub fn schema(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut line = 1;
    for statement in schema_file::split(text).unwrap_or_default() {
        assert!(statement.line >= line && !statement.text.is_empty());
        assert!(text.contains(&statement.text));
        line = statement.line;
    }
}
