//! Parquet files, every type and every packing of pages, from the file to what the table answers.
#![allow(clippy::unwrap_used)]

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType};
use parquet::data_type::{FixedLenByteArrayType, Int32Type, Int64Type, Int96, Int96Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;
use thunderhead_tests::import::Bench;

/// A column: its Parquet type, the column of the table, and what the table has to answer for the two rows; the
/// third row is NULL.
struct Case {
    parquet: &'static str,
    sql: &'static str,
    write: fn(&mut Group<'_>),
    expected: [&'static str; 2],
}

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

fn column<T: DataType>(group: &mut Group<'_>, values: [T::T; 2]) {
    let mut column = group.next_column().unwrap().unwrap();
    let levels = Some(&[1i16, 1, 0][..]);
    column
        .typed::<T>()
        .write_batch(&values, levels, None)
        .unwrap();
    column.close().unwrap();
}

fn bytes(group: &mut Group<'_>, values: [&[u8]; 2]) {
    column::<ByteArrayType>(group, values.map(|v| ByteArray::from(v.to_vec())));
}

fn fixed(group: &mut Group<'_>, values: [&[u8]; 2]) {
    let values = values.map(|v| ByteArray::from(v.to_vec()).into());
    column::<FixedLenByteArrayType>(group, values);
}

/// Nanoseconds of the day and a Julian day.
fn int96(nanos: u64, day: u32) -> Int96 {
    let mut value = Int96::new();
    value.set_data(nanos as u32, (nanos >> 32) as u32, day);
    value
}

/// 2024-02-29 23:59:59.123456 of UTC.
const MICROS: i64 = 1_709_251_199_123_456;
const DAY: i32 = 19_782;
/// 01:02:03.456789
const TIME: i64 = 3_723_456_789;

macro_rules! case {
    ($parquet:literal, $sql:literal, $write:expr, $first:literal, $second:literal) => {
        Case {
            parquet: $parquet,
            sql: $sql,
            write: $write,
            expected: [$first, $second],
        }
    };
}

fn cases() -> Vec<Case> {
    vec![
        case!(
            "boolean",
            "TINYINT",
            |g| column::<BoolType>(g, [true, false]),
            "1",
            "0"
        ),
        case!(
            "int32",
            "INT",
            |g| column::<Int32Type>(g, [-5, i32::MAX]),
            "-5",
            "2147483647"
        ),
        case!(
            "int32 (INTEGER(8,true))",
            "TINYINT",
            |g| column::<Int32Type>(g, [-128, 127]),
            "-128",
            "127"
        ),
        case!(
            "int32 (INTEGER(16,false))",
            "SMALLINT UNSIGNED",
            |g| column::<Int32Type>(g, [65_535, 0]),
            "65535",
            "0"
        ),
        case!(
            "int32 (UINT_32)",
            "INT UNSIGNED",
            |g| column::<Int32Type>(g, [-1, 7]),
            "4294967295",
            "7"
        ),
        case!(
            "int32 (INTEGER(32,false))",
            "BIGINT",
            |g| column::<Int32Type>(g, [-1, 7]),
            "4294967295",
            "7"
        ),
        case!(
            "int64",
            "BIGINT",
            |g| column::<Int64Type>(g, [i64::MIN, 250]),
            "-9223372036854775808",
            "250"
        ),
        case!(
            "int64 (INTEGER(64,false))",
            "BIGINT UNSIGNED",
            |g| column::<Int64Type>(g, [-1, 1]),
            "18446744073709551615",
            "1"
        ),
        case!(
            "int32 (DECIMAL(9,2))",
            "DECIMAL(9,2)",
            |g| column::<Int32Type>(g, [-1, 12_345]),
            "-0.01",
            "123.45"
        ),
        case!(
            "int64 (DECIMAL(18,4))",
            "DECIMAL(18,4)",
            |g| column::<Int64Type>(g, [-123_456_789_012, 5]),
            "-12345678.9012",
            "0.0005"
        ),
        case!(
            "fixed_len_byte_array(9) (DECIMAL(20,2))",
            "DECIMAL(20,2)",
            |g| fixed(
                g,
                [
                    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x9c],
                    &[0, 0, 0, 0, 0, 0, 0, 1, 0]
                ]
            ),
            "-1.00",
            "2.56"
        ),
        case!(
            "fixed_len_byte_array(20) (DECIMAL(40,2))",
            "DECIMAL(40,2)",
            |g| {
                let mut wide = [0xff; 20];
                wide[3] = 0xef;
                fixed(g, [&wide, &[0; 20]]);
            },
            "-54445178707350154154139937189082913832.97",
            "0.00"
        ),
        case!(
            "binary (DECIMAL(4,3))",
            "DECIMAL(6,3)",
            |g| bytes(g, [&[0x04, 0xd2], &[0x80, 0]]),
            "1.234",
            "-32.768"
        ),
        case!(
            "fixed_len_byte_array(34) (DECIMAL(80,0))",
            "VARCHAR(90)",
            |g| {
                let mut wide = [0; 34];
                wide[1] = 1;
                fixed(g, [&wide, &[0xff; 34]]);
            },
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
            "-1"
        ),
        case!(
            "float",
            "FLOAT",
            |g| column::<FloatType>(g, [0.5, -2.25]),
            "0.5",
            "-2.25"
        ),
        case!(
            "double",
            "DOUBLE",
            |g| column::<DoubleType>(g, [-2.5, 1234.5]),
            "-2.5",
            "1234.5"
        ),
        case!(
            "int32 (DATE)",
            "DATE",
            |g| column::<Int32Type>(g, [DAY, -1]),
            "2024-02-29",
            "1969-12-31"
        ),
        case!(
            "int64 (TIMESTAMP(MILLIS,true))",
            "TIMESTAMP(3)",
            |g| column::<Int64Type>(g, [MICROS / 1000, 1500]),
            "2024-02-29 23:59:59.123",
            "1970-01-01 00:00:01.500"
        ),
        case!(
            "int64 (TIMESTAMP(MICROS,true))",
            "DATETIME(6)",
            |g| column::<Int64Type>(g, [MICROS, -1]),
            "2024-02-29 23:59:59.123456",
            "1969-12-31 23:59:59.999999"
        ),
        case!(
            "int64 (TIMESTAMP(MILLIS,false))",
            "DATETIME(3)",
            |g| column::<Int64Type>(g, [MICROS / 1000, -1]),
            "2024-02-29 23:59:59.123",
            "1969-12-31 23:59:59.999"
        ),
        case!(
            "int64 (TIMESTAMP(MICROS,false))",
            "DATETIME(6)",
            |g| column::<Int64Type>(g, [MICROS, 0]),
            "2024-02-29 23:59:59.123456",
            "1970-01-01 00:00:00.000000"
        ),
        case!(
            "int64 (TIMESTAMP(NANOS,false))",
            "DATETIME(6)",
            |g| column::<Int64Type>(g, [MICROS * 1000 + 789, 499]),
            "2024-02-29 23:59:59.123457",
            "1970-01-01 00:00:00.000000"
        ),
        case!(
            "int64 (TIMESTAMP(NANOS,true))",
            "TIMESTAMP(6)",
            |g| column::<Int64Type>(g, [MICROS * 1000, 1_000_001_500]),
            "2024-02-29 23:59:59.123456",
            "1970-01-01 00:00:01.000002"
        ),
        case!(
            "int64 (TIMESTAMP_MILLIS)",
            "TIMESTAMP(3)",
            |g| column::<Int64Type>(g, [MICROS / 1000, 1001]),
            "2024-02-29 23:59:59.123",
            "1970-01-01 00:00:01.001"
        ),
        case!(
            "int64 (TIMESTAMP_MICROS)",
            "TIMESTAMP(6)",
            |g| column::<Int64Type>(g, [MICROS, 1_000_001]),
            "2024-02-29 23:59:59.123456",
            "1970-01-01 00:00:01.000001"
        ),
        case!(
            "int32 (TIME(MILLIS,false))",
            "TIME(3)",
            |g| column::<Int32Type>(g, [3_723_456, 0]),
            "01:02:03.456",
            "00:00:00.000"
        ),
        case!(
            "int32 (TIME(MILLIS,true))",
            "TIME(3)",
            |g| column::<Int32Type>(g, [3_723_456, 0]),
            "01:02:03.456",
            "00:00:00.000"
        ),
        case!(
            "int64 (TIME(MICROS,false))",
            "TIME(6)",
            |g| column::<Int64Type>(g, [TIME, 1]),
            "01:02:03.456789",
            "00:00:00.000001"
        ),
        case!(
            "int64 (TIME(NANOS,true))",
            "TIME(6)",
            |g| column::<Int64Type>(g, [TIME * 1000, 1499]),
            "01:02:03.456789",
            "00:00:00.000001"
        ),
        case!(
            "int96",
            "DATETIME(6)",
            |g| column::<Int96Type>(
                g,
                [int96(86_399_123_456_000, 2_460_370), int96(0, 2_440_588)]
            ),
            "2024-02-29 23:59:59.123456",
            "1970-01-01 00:00:00.000000"
        ),
        case!(
            "binary (STRING)",
            "VARCHAR(20)",
            |g| bytes(g, ["ü, \"x\"".as_bytes(), b""]),
            "ü, \"x\"",
            ""
        ),
        case!(
            "binary",
            "VARBINARY(20)",
            |g| bytes(g, [b"raw", b"\\N"]),
            "raw",
            "\\N"
        ),
        case!(
            "binary (ENUM)",
            "ENUM('a','b')",
            |g| bytes(g, [b"b", b"a"]),
            "b",
            "a"
        ),
        case!(
            "binary (JSON)",
            "JSON",
            |g| bytes(g, [b"{\"a\":[1]}", b"null"]),
            "{\"a\": [1]}",
            "null"
        ),
        case!(
            "binary (BSON)",
            "VARBINARY(20)",
            |g| bytes(g, [b"bson", b"x"]),
            "bson",
            "x"
        ),
        case!(
            "fixed_len_byte_array(16) (UUID)",
            "BINARY(16)",
            |g| fixed(g, [b"0123456789abcdef", b"fedcba9876543210"]),
            "0123456789abcdef",
            "fedcba9876543210"
        ),
        case!(
            "fixed_len_byte_array(3)",
            "CHAR(3)",
            |g| fixed(g, [b"abc", b"xyz"]),
            "abc",
            "xyz"
        ),
        case!(
            "binary (UTF8)",
            "DECIMAL(10,2)",
            |g| bytes(g, [b"1.255", b"-7"]),
            "1.26",
            "-7.00"
        ),
    ]
}

/// A file of three rows with these ids.
fn written(cases: &[Case], first_id: i64, properties: WriterProperties) -> Vec<u8> {
    let mut schema = String::from("message m { required int64 ID; ");
    for (at, case) in cases.iter().enumerate() {
        // The name stands between the physical type and its meaning.
        let (physical, meaning) = case.parquet.split_once(" (").unwrap_or((case.parquet, ""));
        let open = if meaning.is_empty() { "" } else { "(" };
        schema.push_str(&format!("optional {physical} C{at} {open}{meaning}; "));
    }
    let schema = Arc::new(parse_message_type(&format!("{schema} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut ids = group.next_column().unwrap().unwrap();
    let numbers = [first_id, first_id + 1, first_id + 2];
    ids.typed::<Int64Type>()
        .write_batch(&numbers, None, None)
        .unwrap();
    ids.close().unwrap();
    for case in cases {
        (case.write)(&mut group);
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_every_packing_of_pages_ends_as_its_value_in_the_table() {
    let bench = Bench::start(&[]);
    let cases = cases();
    let columns: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| format!("c{at} {}", case.sql))
        .collect();
    let ddl = format!(
        "CREATE TABLE d.t (id BIGINT PRIMARY KEY, {})",
        columns.join(", ")
    );
    bench.sql(&["CREATE DATABASE d", &ddl]).await;
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ];
    let mut files = 0;
    for packing in packings {
        for (version, dictionary) in [
            (WriterVersion::PARQUET_1_0, true),
            (WriterVersion::PARQUET_2_0, false),
        ] {
            let properties = WriterProperties::builder()
                .set_compression(packing)
                .set_writer_version(version)
                .set_dictionary_enabled(dictionary)
                .build();
            let file = written(&cases, files * 10, properties);
            bench.file(&format!("d.t.{files}.parquet"), file);
            files += 1;
        }
    }
    bench.import(&[]).succeeds();
    bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    let rows = bench.query("SELECT * FROM d.t ORDER BY id").await;
    assert_eq!(rows.len() as i64, files * 3);
    for (at, row) in rows.iter().enumerate() {
        for (case, found) in cases.iter().zip(&row[1..]) {
            let expected = case.expected.get(at % 3).unwrap_or(&"NULL");
            let what = format!("{} into {}, file {}", case.parquet, case.sql, at / 3);
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_column_can_hold_is_refused_with_its_name_before_anything_is_written() {
    let bench = Bench::start(&[]);
    bench
        .sql(&[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id BIGINT PRIMARY KEY, c0 INT)",
        ])
        .await;
    for (schema, words) in [
        (
            "required group c0 (LIST) { repeated group list { optional int32 element; } }",
            ["c0", "a list or a map"],
        ),
        (
            "optional group c0 (MAP) { repeated group key_value { required int32 key; optional int32 value; } }",
            ["c0", "a list or a map"],
        ),
        (
            "required group c0 { required int32 a; }",
            ["c0", "part of a group"],
        ),
        ("repeated int32 c0;", ["c0", "a list or a map"]),
        (
            "optional fixed_len_byte_array(12) c0 (INTERVAL);",
            ["c0", "an interval"],
        ),
    ] {
        let schema = format!("message m {{ required int64 id; {schema} }}");
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
        bench.file("d.t.parquet", writer.into_inner().unwrap());
        bench.import(&[]).fails(3, &words);
    }
    // The footer of a file that lost its end is not taken for one.
    bench.file("d.t.parquet", b"PAR1 and then something else");
    bench.import(&[]).fails(4, &["d.t.parquet", "Parquet"]);
}
