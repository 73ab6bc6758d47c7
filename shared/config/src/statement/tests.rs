//! Statements as users write them, and what becomes of them.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{load, routing::FileRole};

fn job(statement: &str) -> Job {
    let overrides = [
        ("thunderhead.statement".to_owned(), statement.to_owned()),
        (
            "tikv-importer.sorted-kv-dir".to_owned(),
            "/sorted".to_owned(),
        ),
        ("tidb.pd-addr".to_owned(), "pd:2379".to_owned()),
    ];
    let text = "[tikv-importer]\nbackend = \"local\"\n";
    load(text, "t", &overrides)
        .unwrap_or_else(|e| panic!("{statement}: {e:?}"))
        .job
}

fn wrong(statement: &str) -> String {
    parse(statement).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn load_data_has_the_defaults_of_the_server() {
    let job = job("LOAD DATA INFILE '/data/in/foo*.csv' INTO TABLE `db`.t");
    assert_eq!(job.source_dir.to_str(), Some("/data/in"));
    let csv = &job.csv;
    assert_eq!(
        (&*csv.separator, &*csv.quote, &*csv.escape),
        ("\t", "", "\\")
    );
    assert_eq!((&*csv.terminator, &*csv.starting), ("\n", ""));
    assert_eq!(
        (&csv.nulls[..], csv.unquoted_nulls.len()),
        (&["\\N".to_owned()][..], 0)
    );
    assert!(csv.lenient && !csv.header && job.ragged_rows && job.no_schema);
    let role = |name| job.file_rules.role(name).map(Result::unwrap);
    assert!(
        matches!(role("foo1.csv"), Some(FileRole::Data { database, table, .. }) if database == "db" && table == "t")
    );
    assert_eq!(role("sub/foo1.csv"), None, "wildcards are not recursive");
    assert_eq!(role("foo1.sql"), None);
}

#[test]
fn every_clause_of_load_data_is_honoured() {
    let job = job(
        "load data local infile '/d/a.csv' format 'DELIMITED DATA' replace into table d.t character set gbk \
         fields terminated by x'2c' optionally enclosed by b'100010' escaped by '' defined null by 'nil' optionally enclosed \
         lines starting by '>>' terminated by '\\r\\n' ignore 2 lines (A, @x, `b c`) \
         set c = concat(@x, ',', 'with'), d = 1 with thread=3, batch_size=50, max_write_speed='1MiB', detached;",
    );
    let csv = &job.csv;
    assert_eq!(
        (&*csv.separator, &*csv.quote, &*csv.escape),
        (",", "\"", "")
    );
    assert_eq!(
        (&*csv.starting, &*csv.terminator, csv.skip_lines),
        (">>", "\r\n", 2)
    );
    assert_eq!(
        (&csv.nulls[..], csv.unquoted_nulls.len()),
        (&["nil".to_owned()][..], 0)
    );
    assert_eq!(csv.character_set, CharacterSet::Gbk);
    let fields = &job.statement_fields;
    assert_eq!(fields.columns.as_deref().unwrap(), ["a", "@x", "b c"]);
    let set = |column: &str, text: &str| (column.to_owned(), text.to_owned());
    assert_eq!(
        fields.set,
        [set("c", "concat(@x, ',', 'with')"), set("d", "1")]
    );
    assert_eq!((job.threads, job.logical.batch_rows), (Some(3), 50));
}

#[test]
fn null_texts_follow_the_document() {
    let nulls = |fields: &str| {
        let job = job(&format!(
            "LOAD DATA INFILE '/in/a' INTO TABLE d.t FIELDS {fields}"
        ));
        (job.csv.nulls.join("|"), job.csv.unquoted_nulls.join("|"))
    };
    let expected = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(nulls("ENCLOSED BY '\"'"), expected("\\N", "NULL"));
    assert_eq!(
        nulls("DEFINED NULL BY 'my-null'"),
        expected("\\N", "my-null")
    );
    assert_eq!(
        nulls("ENCLOSED BY '\"' DEFINED NULL BY 'my-null' OPTIONALLY ENCLOSED"),
        expected("\\N|my-null", "")
    );
    assert_eq!(nulls("ESCAPED BY '' TERMINATED BY ','"), expected("", ""));
}

#[test]
fn import_into_has_its_own_defaults_and_options() {
    let job = job(
        "IMPORT INTO d.t (a, @b) SET c = @b + 1 FROM '/x/*.csv' FORMAT 'csv' WITH skip_rows=1, fields_escaped_by='!', \
         lines_terminated_by='\\n', checksum_table='optional', disk_quota='5GiB', detached, character_set='latin1'",
    );
    let csv = &job.csv;
    assert_eq!(
        (&*csv.separator, &*csv.quote, &*csv.escape),
        (",", "\"", "!")
    );
    assert_eq!(
        (csv.nulls.join(""), csv.skip_lines, csv.lenient),
        ("!N".to_owned(), 1, false)
    );
    assert_eq!(csv.character_set, CharacterSet::Latin1);
    assert_eq!(
        job.statement_fields.set,
        [("c".to_owned(), "@b + 1".to_owned())]
    );
    assert_eq!(job.disk_quota, Some(5 << 30));
    assert_eq!(job.checksum, crate::Level::Optional);
}

#[test]
fn a_wrong_statement_names_its_place() {
    for (text, expected) in [
        ("SELECT 1", "at byte 0: IMPORT is missing"),
        ("LOAD DATA INFILE 5", "at byte 17: a string is missing"),
        (
            "LOAD DATA INFILE '/a' INTO TABLE t",
            "at byte 0: name the table with its database: db.table",
        ),
        (
            "LOAD DATA INFILE '/a' INTO TABLE d.t LINES FOO",
            "at byte 43: STARTING or TERMINATED is missing after LINES",
        ),
        (
            "LOAD DATA INFILE '/a' INTO TABLE d.t WITH foo=1",
            "at byte 42: foo is no option",
        ),
        (
            "LOAD DATA INFILE '/a' INTO TABLE d.t foo",
            "at byte 37: the statement should end here",
        ),
        ("LOAD DATA INFILE '/a", "at byte 17: a quote is not closed"),
        (
            "IMPORT INTO d.t FROM '/a/'",
            "at byte 0: \"/a/\" names no file",
        ),
        (
            "IMPORT INTO d.t FROM '/a' FORMAT 'orc'",
            "at byte 0: the format \"ORC\" is not supported",
        ),
        (
            "LOAD DATA INFILE '/a' INTO TABLE d.t CHARACTER SET koi8r",
            "at byte 51: the character set \"koi8r\" is not supported",
        ),
    ] {
        assert_eq!(wrong(text), expected, "{text}");
    }
}

#[test]
fn the_query_of_a_uri_stays_with_its_directory() {
    let split = |uri| split_uri(uri).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        split("s3://b/p/foo*.csv?access-key=x/y"),
        pair("s3://b/p?access-key=x/y", "^foo[^/]*\\.csv$")
    );
    assert_eq!(split("a[0-9].csv"), pair(".", "^a[0-9]\\.csv$"));
    assert_eq!(split("/a?b"), pair("/", "^a\\?b$"));
}
