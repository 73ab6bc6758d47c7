//! What SQL dumps mean, the same for every buffer size and every way to cut them.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use proptest::prelude::*;
use thunderhead_config::{CharacterSet, CsvOptions, FileFormat, SourceFormat, SqlOptions};
use thunderhead_source::sql::{SqlReader, plan_statements};
use thunderhead_source::{Chunk, LocalFile, ReadLimits, RecordReader, SourceError, Value};
use thunderhead_types::Error;

fn format(no_backslash_escapes: bool, table: Option<&str>) -> SourceFormat {
    SourceFormat {
        sql: SqlOptions {
            no_backslash_escapes,
            table: table.map(str::to_owned),
        },
        ..SourceFormat::new(FileFormat::Sql, CsvOptions::default())
    }
}

/// Offset, line, text of columns and values.
type Rows = Vec<(u64, u64, String)>;

fn show(value: Value<'_>) -> String {
    match value {
        Value::Null => "~".into(),
        Value::Text(text) => format!("[{}]", text.escape_ascii()),
        Value::Binary(bytes) => format!("x[{}]", bytes.escape_ascii()),
        Value::Int(number) => format!("{number}"),
        Value::UInt(number) => format!("{number}"),
        other => format!("{other:?}"),
    }
}

fn read(
    file: &LocalFile,
    chunk: &Chunk,
    format: &SourceFormat,
    read_bytes: usize,
) -> (Rows, Option<String>) {
    let limits = ReadLimits {
        read_bytes,
        row_bytes_max: 1 << 20,
    };
    let mut rows = Vec::new();
    let mut reader = match SqlReader::open_with(file, chunk, format, limits) {
        Ok(reader) => reader,
        Err(error) => return (rows, Some(text_of(error))),
    };
    loop {
        match reader.advance() {
            Ok(0) => return (rows, None),
            Err(error) => return (rows, Some(text_of(error))),
            Ok(count) => {
                for i in 0..count {
                    let mut values = Vec::new();
                    let at = reader.record(i, &mut values);
                    let mut text: String =
                        values.into_iter().map(show).collect::<Vec<_>>().join(",");
                    if let Some(error) = reader.malformed(i) {
                        text = format!("malformed {text} {}", text_of(error));
                    }
                    if let Some(columns) = reader.columns() {
                        text = format!("{}: {text}", columns.join(" "));
                    }
                    rows.push((at.offset, at.line, text));
                }
            }
        }
    }
}

fn text_of(error: SourceError) -> String {
    let error = Error::from(error);
    let place = error
        .place
        .rsplit_once('/')
        .map_or(error.place.clone(), |(_, f)| f.to_owned());
    let place = place.split_once(':').map_or(place.as_str(), |(_, at)| at);
    format!("{place}: {}", error.cause)
}

fn written(text: &[u8]) -> (tempfile::NamedTempFile, LocalFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    let source = LocalFile::new(file.path());
    (file, source)
}

fn check_with(format: &SourceFormat, text: impl AsRef<[u8]>, expected: &str) {
    let text = text.as_ref();
    let (_guard, file) = written(text);
    let whole = read(&file, &Chunk::whole(), format, 1 << 20);
    let mut lines: Vec<String> = whole.0.iter().map(|(_, _, text)| text.clone()).collect();
    lines.extend(whole.1.clone());
    assert_eq!(lines.join("\n"), expected, "{}", text.escape_ascii());
    for read_bytes in [1, 2, 3, 7, 16] {
        assert_eq!(
            read(&file, &Chunk::whole(), format, read_bytes),
            whole,
            "buffer of {read_bytes}"
        );
    }
    if whole.1.is_some() {
        return;
    }
    for chunk_bytes in [1, 5, 9, 20, 50, 1000] {
        let chunks = plan_statements(&file, format, chunk_bytes).unwrap();
        let mut rows = Vec::new();
        let mut end = 0;
        for chunk in &chunks {
            assert_eq!(chunk.offset, end);
            let (some, error) = read(&file, chunk, format, 16);
            assert_eq!(error, None, "chunk {chunk:?}");
            assert_eq!(some.len() as u64, chunk.rows_max, "chunk {chunk:?}");
            rows.extend(some);
            end = chunk.end;
        }
        assert_eq!(rows, whole.0, "chunks of {chunk_bytes}");
    }
}

fn check(text: &str, expected: &str) {
    check_with(&format(false, None), text, expected);
}

#[test]
fn dumpling_mydumper_and_mysqldump_are_read() {
    check(
        "/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\n/*!40101 SET NAMES binary*/;\nINSERT INTO `t` VALUES\n(1,'a'),\n(2,NULL);\n",
        "1,[a]\n2,~",
    );
    check(
        "/*!40101 SET NAMES binary*/;\n/*!40103 SET TIME_ZONE='+00:00' */;\nINSERT INTO `t` (`id`,`Js`) VALUES(1,CONVERT('{\"a\":1}' USING UTF8MB4))\n,(2,CONVERT(NULL USING UTF8MB4));",
        "id js: 1,[{\\\"a\\\":1}]\nid js: 2,~",
    );
    check(
        "-- MySQL dump 10.13; it's fine\n#other's\nSET @OLD='x;y';\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (a INT COMMENT 'it''s; \\'x');\nLOCK TABLES `t` WRITE;\n\
         /*!40000 ALTER TABLE `t` DISABLE KEYS */;\nINSERT INTO `t` VALUES (1,_binary 'a\\0'),(-5,_binary 0x4142);\n/*!40000 ALTER TABLE `t` ENABLE KEYS */;\nUNLOCK TABLES;\n-- done",
        "1,[a\\x00]\n-5,x[AB]",
    );
    check(
        "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN INSERT INTO t VALUES (9); END ;;\nDELIMITER ;\nINSERT INTO t VALUES (1);",
        "1",
    );
}

fn skipping() -> SourceFormat {
    SourceFormat {
        skip_malformed: true,
        ..format(false, None)
    }
}

#[test]
fn a_row_that_cannot_be_read_is_skipped_and_the_next_one_is_read() {
    // With its parenthesis.
    check_with(
        &skipping(),
        "INSERT t VALUES (1,now()),(2,'b'),(3,DEFAULT) , (x'1',4),(5,'e');INSERT t VALUES (1+1),(6)",
        "malformed [(1,now())] 1 (byte 19): only literals can be imported, no expressions\n\
         2,[b]\n\
         malformed [(3,DEFAULT)] 1 (byte 37): DEFAULT as a value cannot be imported\n\
         malformed [(x\\'1\\',4)] 1 (byte 49): the hexadecimal or bit literal is malformed\n\
         5,[e]\n\
         malformed [(1+1)] 1 (byte 83): only literals can be imported, no expressions\n\
         6",
    );
    // Where quotes do not match: with the line, or with the statement.
    check_with(
        &skipping(),
        "INSERT t VALUES\n(1,'it's'),\n(2,'b'),\r\n(3,'c),\r\n(4,'d');\nINSERT t VALUES (5,'x' y;INSERT t VALUES(6);",
        "malformed [(1,\\'it\\'s\\')] 2 (byte 23): only literals can be imported, no expressions\n\
         2,[b]\n\
         malformed [(3,\\'c)] 4 (byte 41): a quote is not closed before the file ends\n\
         4,[d]\n\
         malformed [(5,\\'x\\' y] 6 (byte 79): only literals can be imported, no expressions\n\
         6",
    );
}

#[test]
fn what_is_no_row_ends_the_dump_whatever_is_skipped() {
    for (text, expected) in [
        ("INSERT t VALUES (1),(2,'open", "before the file ends"),
        ("INSERT t SELECT 1", "only rows after VALUES"),
        (
            "INSERT t VALUES (1) ON DUPLICATE KEY UPDATE a=1",
            "ON DUPLICATE",
        ),
    ] {
        let (_guard, file) = written(text.as_bytes());
        let (_, error) = read(&file, &Chunk::whole(), &skipping(), 16);
        assert!(error.is_some_and(|e| e.contains(expected)), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_way_to_cut_a_dump_with_malformed_rows_gives_the_same(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "(1,'a')", ",", ",\n", ",\r\n", ";\n", "INSERT t VALUES ", "INSERT t VALUES\n", "(1+1)", "('it's')", "('x)", "(f('),\n'))",
            "(x'1')", "(", ")", "'", "-- c\n", "('b\\'c',2)", "/* ),\n */",
        ]), 0..30),
        chunk_bytes in 1u64..60,
    ) {
        let text = format!("INSERT t VALUES (0),{}", pieces.concat());
        let (_guard, file) = written(text.as_bytes());
        let whole = read(&file, &Chunk::whole(), &skipping(), 1 << 16);
        for read_bytes in [1, 7] {
            prop_assert_eq!(&read(&file, &Chunk::whole(), &skipping(), read_bytes), &whole);
        }
        let planned = plan_statements(&file, &skipping(), chunk_bytes);
        prop_assert_eq!(planned.is_err(), whole.1.is_some());
        let Ok(chunks) = planned else { return Ok(()) };
        let mut rows = Vec::new();
        for chunk in &chunks {
            let (some, error) = read(&file, chunk, &skipping(), 16);
            prop_assert_eq!(error, None);
            prop_assert_eq!(some.len() as u64, chunk.rows_max);
            rows.extend(some);
        }
        prop_assert_eq!(rows, whole.0);
    }
}

#[test]
fn literals_mean_what_the_server_reads() {
    check(
        "INSERT t VALUES (NULL, null,TRUE,false , 18446744073709551615,-9223372036854775808,+7)",
        "~,~,1,0,18446744073709551615,-9223372036854775808,7",
    );
    check(
        "INSERT t VALUES (18446744073709551616,-9223372036854775809,1.50,-.5e-3,0)",
        "[18446744073709551616],[-9223372036854775809],[1.50],[-.5e-3],0",
    );
    check(
        "INSERT t VALUES (x'4142',X'',0x123,b'1000001',B'',0b0000000100000000)",
        "x[AB],x[],x[\\x01#],x[A],x[],x[\\x01\\x00]",
    );
    check(
        r#"INSERT t VALUES ('it''s',"a""b'c",'\0\b\n\r\t\Z\%\_\\\'','','a' 'b' "c")"#,
        r#"[it\'s],[a\"b\'c],[\x00\x08\n\r\t\x1a%_\\\'],[],[abc]"#,
    );
    check(
        "INSERT t VALUES (_utf8mb4'x',N'y',n'z',_latin1'\\Z',_utf8mb4 x'41',_binary'q')",
        "[x],[y],[z],[\\x1a],[A],[q]",
    );
    check_with(
        &format(true, None),
        r"INSERT t VALUES ('a\','b\\')",
        r"[a\\],[b\\\\]",
    );
}

#[test]
fn texts_and_names_of_other_character_sets_become_utf8() {
    let mut gbk = format(false, None);
    gbk.csv.character_set = CharacterSet::Gbk;
    // The second bytes of \u{8a3a} and of \u{5744} look like a backslash and like a backtick.
    let (slash, tick) = (b"\xd4\x5c", b"\x88\x60");
    let dump = [
        b"INSERT INTO t (`".as_slice(),
        tick,
        b"`,b) VALUES ('",
        slash,
        b"',_binary'",
        slash,
        b"'),('\xd6\xd0\\'",
        slash,
        b"','\xff' 'x'),(_utf8mb4'\xe4\xb8\xad','a'),(_latin1'\xe9',x'd65c');",
    ]
    .concat();
    let columns = "\u{5744} b";
    let expected = format!(
        "{columns}: [{}],[\\xd4\\\\]\n{columns}: [{}],[{}x]\n{columns}: [{}],[a]\n{columns}: [{}],x[\\xd6\\\\]",
        "\u{8a3a}".as_bytes().escape_ascii(),
        "\u{4e2d}'\u{8a3a}".as_bytes().escape_ascii(),
        "\u{fffd}".as_bytes().escape_ascii(),
        "\u{4e2d}".as_bytes().escape_ascii(),
        "\u{e9}".as_bytes().escape_ascii(),
    );
    check_with(&gbk, dump, &expected);
    let mut latin1 = format(false, None);
    latin1.csv.character_set = CharacterSet::Latin1;
    latin1.csv.invalid_char_replace = "?".into();
    check_with(
        &latin1,
        b"INSERT INTO t VALUES ('\x80\xe9\\\\','a')",
        &format!("[{}\\\\],[a]", "\u{20ac}\u{e9}".as_bytes().escape_ascii()),
    );
}

#[test]
fn a_dump_in_gb18030_is_read_its_characters_of_four_bytes_included() {
    let mut format = format(false, None);
    format.csv.character_set = CharacterSet::Gb18030;
    // The second byte of the last character of the name and of the text looks like a backslash.
    let dump =
        b"INSERT INTO t (`\x81\x30\x89\x38`,`\x8c\x5c`) VALUES ('\x94\x39\xda\x33\\'\x8c\x5c',1),\
        ('it''s \xd6\xd0','\x81\x30\x89'),(_gb18030'\x81\x30\x89\x38',_binary'\x8c\x5c');";
    let columns = "\u{df} \u{5b7f}";
    let shown = |text: &str| text.as_bytes().escape_ascii().to_string();
    let expected = format!(
        "{columns}: [{}],1\n{columns}: [{}],[{}]\n{columns}: [{}],[\\x8c\\\\]",
        shown("\u{1f4a9}'\u{5b7f}"),
        shown("it's \u{4e2d}"),
        shown("\u{fffd}"),
        shown("\u{df}"),
    );
    check_with(&format, dump, &expected);
}

#[test]
fn heads_and_column_lists_are_followed_statement_by_statement() {
    check(
        "replace low_priority into db . `T` (`A`, b) values (1,2);insert ignore into t(B,`a``x`) value(3,4),(5,6)\n;\nINSERT INTO t VALUES (7,8)",
        "a b: 1,2\nb a`x: 3,4\nb a`x: 5,6\n7,8",
    );
    check("", "");
    check(" ;; -- nothing", "");
    check("INSERT INTO t VALUES ();", "");
    check(
        "INSERT INTO t VALUES (1)/* a ) ( */,-- b\n(2)# c\n;",
        "1\n2",
    );
}

#[test]
fn what_cannot_be_imported_names_its_place() {
    for (text, expected) in [
        (
            "INSERT INTO t VALUES (1),\n(2, 'x",
            "1\n2 (byte 30): a quote is not closed before the file ends",
        ),
        (
            "INSERT INTO t VALUES (1+2)",
            "1 (byte 23): only literals can be imported, no expressions",
        ),
        (
            "INSERT INTO t VALUES (NOW())",
            "1 (byte 22): only literals can be imported, no expressions",
        ),
        (
            "INSERT INTO t VALUES (DEFAULT)",
            "1 (byte 22): DEFAULT as a value cannot be imported",
        ),
        (
            "INSERT INTO t VALUES (x'1')",
            "1 (byte 22): the hexadecimal or bit literal is malformed",
        ),
        (
            "INSERT INTO t SELECT 1",
            "1 (byte 14): only rows after VALUES can be imported",
        ),
        (
            "INSERT INTO t VALUES (",
            "1 (byte 22): the file ends inside of a row",
        ),
        (
            "INSERT INTO",
            "1 (byte 11): this is no INSERT … VALUES of a dump",
        ),
        (
            "/* x",
            "1 (byte 0): a comment is not closed before the file ends",
        ),
        (
            "INSERT INTO t VALUES (_koi8r'x')",
            "1 (byte 22): the character set of the literal is not supported",
        ),
    ] {
        check(text, expected);
    }
    check(
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a=1",
        "1\n1 (byte 25): ON DUPLICATE KEY UPDATE cannot be imported",
    );
    check(
        "INSERT INTO t VALUES (1);\nINSERT INTO u VALUES (2);",
        "1\n2 (byte 26): the file has rows of more than one table",
    );
}

#[test]
fn one_table_of_a_dump_of_several_is_taken() {
    let text =
        "INSERT INTO t VALUES (1);INSERT INTO u VALUES (2),(';(');INSERT INTO `T` VALUES (3);";
    check_with(&format(false, Some("t")), text, "1\n3");
    check_with(&format(false, Some("u")), text, "2\n[;(]");
}

fn dump() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "1",
        "-2.5",
        "NULL",
        "'a'",
        "'it''s'",
        "'),('",
        "'\\';'",
        "\"x'y\"",
        "x'00'",
        "_binary 'z\\n'",
        "'a -- b'",
        "'/*'",
        "'line\nbreak'",
    ]);
    let row = prop::collection::vec(value, 1..4).prop_map(|row| format!("({})", row.join(",")));
    let gap = prop::sample::select(vec!["", " ", "\n", "/* ; ' */", "-- '\n", "# (\n"]);
    let insert = (
        prop::collection::vec(row, 1..6),
        gap,
        prop::sample::select(vec!["", "(a,`b`)"]),
    )
        .prop_map(|(rows, gap, list)| {
            let rows = rows.join(&format!(",{gap}"));
            format!("INSERT INTO `t` {list} VALUES{gap}{rows}{gap};")
        });
    let other = prop::sample::select(vec![
        "SET NAMES utf8mb4;",
        "-- x; 'y\n",
        "DROP TABLE `a;b`;",
        "\n",
        "SELECT ';(';",
    ])
    .prop_map(str::to_owned);
    prop::collection::vec(prop_oneof![3 => insert, 1 => other], 0..6)
        .prop_map(|parts| parts.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cut_and_every_buffer_gives_the_same_rows(
        text in dump(),
        chunk_bytes in 1u64..200,
        read_bytes in 1usize..64,
    ) {
        let (_guard, file) = written(text.as_bytes());
        let format = format(false, None);
        let whole = read(&file, &Chunk::whole(), &format, 1 << 20);
        prop_assert_eq!(&whole.1, &None);
        let mut rows = Vec::new();
        let mut end = 0;
        for chunk in plan_statements(&file, &format, chunk_bytes).unwrap() {
            prop_assert_eq!(chunk.offset, end);
            let (some, error) = read(&file, &chunk, &format, read_bytes);
            prop_assert_eq!(error, None);
            prop_assert_eq!(some.len() as u64, chunk.rows_max);
            rows.extend(some);
            end = chunk.end;
        }
        prop_assert_eq!(rows, whole.0);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1usize..64) {
        let mut text = b"INSERT INTO t VALUES ".to_vec();
        text.extend(bytes);
        let (_guard, file) = written(&text);
        let _ = read(&file, &Chunk::whole(), &format(false, None), cut);
    }
}
