//! Parquet files written by the library's own writer: every mapping of types, and chunks against the whole.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::basic::{Compression as Packing, Encoding};
use parquet::data_type::{BoolType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::NamedTempFile;
use thunderhead_config::{Compression, CsvOptions, FileFormat, SourceFormat};
use thunderhead_source::{
    ByteSource, ByteStream, Chunk, Identity, SourceError, SplitPolicy, Value, open_records,
    plan_records, read_columns, source_at,
};

type Writer = SerializedFileWriter<File>;
type GroupWriter<'a> = parquet::file::writer::SerializedRowGroupWriter<'a, File>;

fn column<T: DataType>(group: &mut GroupWriter<'_>, values: &[T::T], levels: Option<&[i16]>) {
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<T>();
    typed.write_batch(values, levels, None).unwrap();
    column.close().unwrap();
}

fn written(schema: &str, write: impl Fn(&mut Writer)) -> NamedTempFile {
    written_with(WriterProperties::builder(), schema, write)
}

fn written_with(
    properties: WriterPropertiesBuilder,
    schema: &str,
    write: impl Fn(&mut Writer),
) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(properties.build());
    let mut writer = Writer::new(file.reopen().unwrap(), schema, properties).unwrap();
    write(&mut writer);
    writer.close().unwrap();
    file
}

fn source(file: &NamedTempFile) -> Arc<dyn ByteSource> {
    source_at(file.path().to_str().unwrap(), Compression::None).unwrap()
}

fn format() -> SourceFormat {
    SourceFormat::new(FileFormat::Parquet, CsvOptions::default())
}

fn rows(source: &Arc<dyn ByteSource>, chunk: &Chunk) -> Result<Vec<String>, SourceError> {
    let mut reader = open_records(source, chunk, &format())?;
    let mut rows = Vec::new();
    loop {
        let count = reader.advance()?;
        if count == 0 {
            return Ok(rows);
        }
        for index in 0..count {
            let mut values = Vec::new();
            let at = reader.record(index, &mut values);
            let shown: Vec<String> = values.iter().map(show).collect();
            rows.push(format!("{}: {}", at.line, shown.join(" ")));
        }
    }
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}").replace(' ', ""),
    }
}

#[test]
fn texts_are_the_same_in_every_encoding_with_pages_of_any_size() {
    let schema = "message m { required binary a (STRING); optional binary b (STRING); }";
    // Few and many, short and long, NULLs alone and in runs.
    let a: Vec<String> = (0..3000)
        .map(|n: usize| "ab".repeat(n * 7 % 23) + &(n * n % 611).to_string())
        .collect();
    let b: Vec<Option<String>> = (0..3000)
        .map(|n| (n % 5 > 1 && n / 100 % 3 != 1).then(|| format!("{}", n % 40)))
        .collect();
    let expected: Vec<String> = (0..a.len())
        .map(|n| format!("{}: {} {}", n + 1, a[n], b[n].as_deref().unwrap_or("Null")))
        .collect();
    let base = || {
        WriterProperties::builder()
            .set_write_batch_size(100)
            .set_data_page_row_count_limit(700)
    };
    let plain = || base().set_dictionary_enabled(false);
    let ways = [
        base(),
        base().set_compression(Packing::SNAPPY),
        // It is full soon, and plain pages follow those with indexes.
        base().set_dictionary_page_size_limit(900),
        plain(),
        plain().set_encoding(Encoding::DELTA_BYTE_ARRAY),
        plain().set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ];
    for (way, properties) in ways.into_iter().enumerate() {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = properties.clone().set_writer_version(version);
            let file = written_with(properties, schema, |writer| {
                for part in [0..1000, 1000..3000] {
                    let mut group = writer.next_row_group().unwrap();
                    let texts: Vec<ByteArray> = a[part.clone()]
                        .iter()
                        .map(|text| text.as_str().into())
                        .collect();
                    column::<ByteArrayType>(&mut group, &texts, None);
                    let texts: Vec<ByteArray> = b[part.clone()]
                        .iter()
                        .flatten()
                        .map(|text| text.as_str().into())
                        .collect();
                    let levels: Vec<i16> =
                        b[part].iter().map(|text| text.is_some().into()).collect();
                    column::<ByteArrayType>(&mut group, &texts, Some(&levels));
                    group.close().unwrap();
                }
            });
            let found = rows(&source(&file), &Chunk::whole()).unwrap();
            assert!(found == expected, "way {way}, {version:?}");
        }
    }
}

#[test]
fn every_type_has_its_meaning() {
    let schema = "message m {
        required boolean b; required int32 I (INTEGER(8,true)); required int32 u (INTEGER(32,false));
        required int64 l (INTEGER(64,false)); required int32 d4 (DECIMAL(9,2)); required int64 d8 (DECIMAL(18,0));
        required fixed_len_byte_array(20) df (DECIMAL(40,2)); required binary db (DECIMAL(4,3));
        required float f; required double g; required int32 day (DATE);
        required int64 ms (TIMESTAMP(MILLIS,true)); required int64 us (TIMESTAMP(MICROS,false)); required int64 ns (TIMESTAMP(NANOS,false));
        required int32 t (TIME(MILLIS,false)); required int96 old; required binary s (STRING);
    }";
    let file = written(schema, |writer| {
        let mut group = writer.next_row_group().unwrap();
        let g = &mut group;
        column::<BoolType>(g, &[true], None);
        column::<Int32Type>(g, &[-5], None);
        column::<Int32Type>(g, &[-1], None);
        column::<Int64Type>(g, &[-1], None);
        column::<Int32Type>(g, &[-1], None);
        column::<Int64Type>(g, &[7], None);
        let mut long = vec![0xff; 20];
        long[19] = 0x9c;
        column::<FixedLenByteArrayType>(g, &[FixedLenByteArray::from(long)], None);
        column::<ByteArrayType>(g, &[ByteArray::from(vec![0x04, 0xd2])], None);
        column::<FloatType>(g, &[0.5], None);
        column::<DoubleType>(g, &[-2.5], None);
        column::<Int32Type>(g, &[-1], None);
        column::<Int64Type>(g, &[1500], None);
        column::<Int64Type>(g, &[-1], None);
        column::<Int64Type>(g, &[1_500], None);
        column::<Int32Type>(g, &[61_001], None);
        let mut int96 = Int96::new();
        int96.set_data(1_000_000, 0, 2_440_589);
        column::<Int96Type>(g, &[int96], None);
        column::<ByteArrayType>(g, &[ByteArray::from("ü")], None);
        group.close().unwrap();
    });
    let source = source(&file);
    let columns = read_columns(&source, &format()).unwrap().unwrap();
    assert_eq!(columns[..3], ["b", "i", "u"]);
    let expected = "1: UInt(1) Int(-5) UInt(4294967295) UInt(18446744073709551615) -0.01 7 -1.00 1.234 Float(0.5) Double(-2.5) Date(-1) \
        Timestamp{micros:1500000,utc:true} Timestamp{micros:-1,utc:false} Timestamp{micros:2,utc:false} Time(61001000) Timestamp{micros:86400001000,utc:true} ü";
    assert_eq!(rows(&source, &Chunk::whole()).unwrap(), [expected]);
}

#[test]
fn chunks_of_row_groups_give_every_row_once_with_its_number() {
    let file = written(
        "message m { optional int64 a; required binary b (STRING); }",
        |writer| {
            for start in [0i64, 3000, 3001] {
                let count = if start == 0 { 3000 } else { start - 2999 };
                let numbers: Vec<i64> = (start..start + count).collect();
                let mut group = writer.next_row_group().unwrap();
                let there: Vec<i64> = numbers.iter().copied().filter(|n| n % 3 > 0).collect();
                let levels: Vec<i16> = numbers.iter().map(|n| i16::from(n % 3 > 0)).collect();
                column::<Int64Type>(&mut group, &there, Some(&levels));
                let texts: Vec<ByteArray> = numbers
                    .iter()
                    .map(|n| ByteArray::from(format!("row-{n}").into_bytes()))
                    .collect();
                column::<ByteArrayType>(&mut group, &texts, None);
                group.close().unwrap();
            }
        },
    );
    let source = source(&file);
    let whole = rows(&source, &Chunk::whole()).unwrap();
    assert_eq!(whole.len(), 3003);
    assert_eq!(whole[0], "1: Null row-0");
    assert_eq!(whole[3002], "3003: Int(3002) row-3002");
    for chunk_bytes in [1, 20_000, u64::MAX] {
        let chunks = plan_records(&source, &format(), chunk_bytes, SplitPolicy::Scan).unwrap();
        let mut all = Vec::new();
        for chunk in &chunks {
            let part = rows(&source, chunk).unwrap();
            assert_eq!(part.len() as u64, chunk.rows_max);
            all.extend(part);
        }
        assert!(all == whole, "chunks of {chunk_bytes} bytes");
    }
}

/// A file of which each stream takes a MiB, as those of a store do; it counts them.
#[derive(Debug)]
struct Costly {
    file: Arc<dyn ByteSource>,
    open: Arc<AtomicUsize>,
    most: AtomicUsize,
}

struct Counted(ByteStream, Arc<AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ByteSource for Costly {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.file.identity()
    }

    fn size(&self) -> io::Result<Option<u64>> {
        self.file.size()
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        let stream = self.file.open(offset)?;
        Ok(Box::new(Counted(stream, Arc::clone(&self.open))))
    }

    fn narrow_bytes(&self) -> usize {
        1 << 20
    }
}

#[test]
fn a_wide_file_of_a_store_is_read_with_a_bounded_number_of_streams() {
    const COLUMNS: i64 = 120;
    let fields: String = (0..COLUMNS)
        .map(|n| format!("required int64 c{n}; "))
        .collect();
    let schema = Arc::new(parse_message_type(&format!("message m {{ {fields} }}")).unwrap());
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(100)
        .set_dictionary_enabled(false)
        .build();
    let file = NamedTempFile::new().unwrap();
    let mut writer = Writer::new(file.reopen().unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for n in 0..COLUMNS {
        let values: Vec<i64> = (0..3000).map(|row| row * COLUMNS + n).collect();
        column::<Int64Type>(&mut group, &values, None);
    }
    group.close().unwrap();
    writer.close().unwrap();
    let plain = source(&file);
    let costly = Arc::new(Costly {
        file: Arc::clone(&plain),
        open: Arc::default(),
        most: AtomicUsize::new(0),
    });
    let wide: Arc<dyn ByteSource> = costly.clone();
    let expected = rows(&plain, &Chunk::whole()).unwrap();
    assert_eq!(expected.len(), 3000);
    assert!(expected == rows(&wide, &Chunk::whole()).unwrap());
    let most = costly.most.load(Ordering::Relaxed);
    assert!((20..40).contains(&most), "{most} streams at a time");
    assert_eq!(costly.open.load(Ordering::Relaxed), 0);
}

#[test]
fn lists_and_what_is_no_parquet_are_refused_with_their_reason() {
    let file = written("message m { repeated int32 many; }", |_| {});
    let error = rows(&source(&file), &Chunk::whole())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"many\"") && error.contains("list"),
        "{error}"
    );
    let text = NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "1,2,3\n4,5,6\n").unwrap();
    let error = rows(&source(&text), &Chunk::whole()).unwrap_err();
    assert!(matches!(error, SourceError::Parquet { .. }), "{error}");
}

#[test]
fn pages_outside_of_the_file_are_refused_before_any_is_read() {
    let file = written("message m { required int32 a; }", |writer| {
        let mut group = writer.next_row_group().unwrap();
        column::<Int32Type>(&mut group, &[1, 2, 3], None);
        group.close().unwrap();
    });
    type Change = fn(ColumnChunkMetaData) -> ColumnChunkMetaData;
    let changes: [Change; 4] = [
        |column| {
            column
                .into_builder()
                .set_dictionary_page_offset(Some(-1))
                .build()
                .unwrap()
        },
        |column| {
            column
                .into_builder()
                .set_total_compressed_size(-7)
                .build()
                .unwrap()
        },
        |column| {
            column
                .into_builder()
                .set_total_compressed_size(i64::MAX)
                .build()
                .unwrap()
        },
        |column| {
            column
                .into_builder()
                .set_dictionary_page_offset(Some(1 << 40))
                .build()
                .unwrap()
        },
    ];
    for change in changes {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(file.as_file());
        let mut builder = metadata.unwrap().into_builder();
        let mut group = builder.take_row_groups().remove(0).into_builder();
        let columns = group.take_columns().into_iter().map(change).collect();
        let group = group.set_column_metadata(columns).build().unwrap();
        let metadata = builder.add_row_group(group).build();
        let mut bytes = std::fs::read(file.path()).unwrap();
        ParquetMetaDataWriter::new(&mut bytes, &metadata)
            .finish()
            .unwrap();
        let moved = NamedTempFile::new().unwrap();
        std::fs::write(moved.path(), bytes).unwrap();
        for result in [
            rows(&source(&moved), &Chunk::whole()).map(|_| ()),
            plan_records(&source(&moved), &format(), 100, SplitPolicy::Scan).map(|_| ()),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("lies outside of the file"), "{error}");
        }
    }
}

#[test]
fn a_footer_that_would_keep_the_library_busy_is_refused_with_its_byte() {
    // A field nobody knows: a list of 2 Gi booleans, in a list of such lists.
    let footer = b"\x15\x02\xf9\x19\xf1\xff\xff\xff\xff\x07\x00";
    let length = (footer.len() as u32).to_le_bytes();
    let bytes = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let start = std::time::Instant::now();
    let error = rows(&source(&file), &Chunk::whole()).unwrap_err();
    let SourceError::Parquet { place, why } = &error else {
        panic!("{error}");
    };
    assert_eq!(place.byte, 14, "{why}");
    assert!(why.contains("elements do not fit"), "{why}");
    assert!(start.elapsed().as_secs() < 1);
}

/// The mean of a row says nothing of a batch: one text of a dictionary stands for many rows, and long ones follow one
/// another behind many short ones.
#[test]
fn rows_much_longer_than_the_mean_come_in_small_batches() {
    let long = "x".repeat(1 << 20);
    let texts: Vec<ByteArray> = (0..60_000)
        .map(|n| match n {
            40_000..40_200 => long.as_str().into(),
            _ => "short".into(),
        })
        .collect();
    let numbers: Vec<i64> = (0..60_000).collect();
    let schema = "message m { required int64 a; required binary b (STRING); }";
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let ways = [
        WriterProperties::builder(),
        WriterProperties::builder().set_dictionary_page_size_limit(8 << 20),
        plain(),
        plain().set_column_encoding("b".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ];
    for (way, properties) in ways.into_iter().enumerate() {
        let properties = properties.set_compression(Packing::SNAPPY);
        let file = written_with(properties, schema, |writer| {
            let mut group = writer.next_row_group().unwrap();
            column::<Int64Type>(&mut group, &numbers, None);
            column::<ByteArrayType>(&mut group, &texts, None);
            group.close().unwrap();
        });
        let mut reader = open_records(&source(&file), &Chunk::whole(), &format()).unwrap();
        let (mut row, mut most, mut largest) = (0i64, 0, 0);
        loop {
            let count = reader.advance().unwrap();
            if count == 0 {
                break;
            }
            let mut bytes = 0;
            for index in 0..count {
                let mut values = Vec::new();
                let at = reader.record(index, &mut values);
                let [Value::Int(number), Value::Text(text)] = values[..] else {
                    panic!("{values:?}");
                };
                assert_eq!((at.line, number), (row as u64 + 1, row), "{way}");
                assert_eq!(text.len() > 5, (40_000..40_200).contains(&row), "{way}");
                (bytes, row) = (bytes + text.len(), row + 1);
            }
            (most, largest) = (most.max(count), largest.max(bytes));
        }
        assert_eq!(row, 60_000, "{way}");
        // What the library decodes nobody knows beforehand: some rows at a time.
        let bound = if way < 3 { 12 << 20 } else { 34 << 20 };
        assert!(
            most > 500 && largest < bound,
            "{way}: {most} rows, {largest} bytes"
        );
    }
}
