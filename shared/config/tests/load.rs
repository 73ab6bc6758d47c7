//! Whole configurations: text in, problems and notes out, or the job's own words.
#![allow(clippy::unwrap_used)]

use thunderhead_config::{
    Backend, CharacterSet, ConflictStrategy, Job, Level, Loaded, OnDuplicate, PauseScope,
    environment_overrides, load,
};

/// The least that makes a job.
const LEAST: &str = "[tikv-importer]\nbackend = \"local\"\nsorted-kv-dir = \"/sorted\"\n\
                     [mydumper]\ndata-source-dir = \"/data\"\n[tidb]\npd-addr = \"pd:2379\"\n";

/// Number of lines of [`LEAST`]; what a test adds starts after them.
const LEAST_LINES: usize = 7;

fn overrides(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn loaded(extra: &str) -> Loaded {
    let text = format!("{LEAST}{extra}");
    load(&text, "job.toml", &[]).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{extra}\n{}", lines.join("\n"));
    })
}

fn job(extra: &str) -> Job {
    loaded(extra).job
}

/// Asserts that a text gives exactly these problems, one a line: `line key: message (advice)`.
#[track_caller]
fn check_whole(text: &str, expected: &str) {
    let found = match load(text, "job.toml", &[]) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(|p| format!("{p}\n")).collect(),
    };
    let expected: String = expected
        .lines()
        .map(|l| format!("{}\n", l.trim()))
        .collect();
    assert_eq!(found, expected, "{text}");
}

/// The same for what is added to [`LEAST`]; lines count from what is added.
#[track_caller]
fn check(extra: &str, expected: &str) {
    let text = format!("{LEAST}{extra}");
    let found = match load(&text, "job.toml", &[]) {
        Ok(_) => String::new(),
        Err(problems) => problems
            .into_iter()
            .map(|mut p| {
                p.line = p.line.saturating_sub(LEAST_LINES);
                p.origin = "+".to_owned();
                format!("{p}\n")
            })
            .collect(),
    };
    let expected: String = expected
        .lines()
        .map(|l| format!("{}\n", l.trim()))
        .collect();
    assert_eq!(found, expected, "{extra}");
}

const SPECIFICATION_LOCAL: &str = r#"
[Lightning]
# Specifies the database to store the execution results.
# task-info-schema-name = 'lightning_task_info'

[tikv-importer]
backend = "local"
# duplicate-resolution = 'none'
sorted-kv-dir = ""
# range-concurrency = 16
# send-kv-pairs = 32768

[tidb]
host = "172.16.31.1"
port = 4000
user = "root"
password = ""
status-port = 10080
pd-addr = "172.16.31.4:2379"
"#;

const SPECIFICATION_TIDB: &str =
    "[tikv-importer]\nbackend = \"tidb\"\n# on-duplicate = \"replace\"\n";

#[test]
fn the_examples_of_the_specification_load() {
    let data = overrides(&[("mydumper.data-source-dir", "/data")]);
    let local = load(SPECIFICATION_LOCAL, "job.toml", &data).unwrap();
    assert_eq!(local.job.backend, Backend::Local);
    assert_eq!(
        local.job.task_info_schema.as_deref(),
        Some("lightning_task_info")
    );
    assert_eq!(local.job.conflict.strategy, ConflictStrategy::None);
    assert_eq!(local.job.ingest.range_concurrency, 16);
    assert_eq!(local.job.ingest.send_kv_pairs, 32768);
    assert_eq!(
        (local.job.tidb.host.as_str(), local.job.tidb.port),
        ("172.16.31.1", 4000)
    );
    assert_eq!(local.job.tidb.status_port, 10080);
    assert_eq!(local.job.tidb.pd_addrs, ["172.16.31.4:2379"]);
    assert_eq!(local.job.sorted_kv_dir.to_str(), Some("sorted-kv"));
    assert_eq!(local.notes.len(), 1, "{:?}", local.notes);

    let uncommented: String = SPECIFICATION_LOCAL
        .replace("# task", "task")
        .replace("# dup", "dup")
        .replace("# range", "range");
    assert!(load(&uncommented.replace("# send", "send"), "job.toml", &data).is_ok());

    let sql = load(SPECIFICATION_TIDB, "job.toml", &data).unwrap();
    assert_eq!(
        (sql.job.backend, sql.job.on_duplicate),
        (Backend::Tidb, OnDuplicate::Replace)
    );
    assert_eq!(sql.notes, []);
}

#[test]
fn every_strategy_of_the_specification_is_understood() {
    for (word, strategy) in [
        ("none", ConflictStrategy::None),
        ("record", ConflictStrategy::Record),
        ("remove", ConflictStrategy::Remove),
    ] {
        let text = LEAST.replace(
            "backend",
            &format!("duplicate-resolution = '{word}'\nbackend"),
        );
        assert_eq!(
            load(&text, "", &[]).unwrap().job.conflict.strategy,
            strategy
        );
    }
    for (word, action) in [
        ("replace", OnDuplicate::Replace),
        ("ignore", OnDuplicate::Ignore),
        ("error", OnDuplicate::Error),
    ] {
        let text = format!(
            "{SPECIFICATION_TIDB}on-duplicate = '{word}'\n[mydumper]\ndata-source-dir = 'd'"
        );
        assert_eq!(load(&text, "", &[]).unwrap().job.on_duplicate, action);
    }
}

#[test]
fn defaults_are_lightnings() {
    let job = job("");
    assert!(job.sql_mode.contains("STRICT_TRANS_TABLES"));
    assert_eq!(job.chunk_bytes, 256 << 20);
    assert_eq!(job.memory_bytes, 512 << 20);
    assert_eq!(
        (job.checksum, job.analyze),
        (Level::Required, Level::Optional)
    );
    assert_eq!(
        (job.disk_quota, job.threads, job.type_errors_max),
        (None, None, 0)
    );
    assert_eq!(job.ingest.pause_scope, PauseScope::Table);
    assert_eq!(job.security, None);
    assert_eq!((job.tidb.user.as_str(), job.tidb.port), ("root", 4000));
    assert_eq!(job.conflict.threshold, 0);
    let csv = &job.csv;
    assert_eq!(
        [&csv.separator, &csv.quote, &csv.terminator, &csv.escape],
        [",", "\"", "", "\\"]
    );
    assert_eq!(csv.nulls, ["\\N"]);
    assert!(csv.header && csv.header_schema_match && !csv.not_null && !csv.trim_last_separator);
    assert_eq!(
        (csv.character_set, csv.invalid_char_replace.as_str()),
        (CharacterSet::Binary, "\u{fffd}")
    );
    assert!(job.filter.matches("shop", "orders"));
    assert!(
        !job.filter.matches("mysql", "user") && !job.filter.matches("information_schema", "TABLES")
    );
    assert!(job.file_rules.role("a.b.csv").is_some());
}

#[test]
fn written_values_arrive() {
    let job = job(
        "port = 4001\npassword = \"c2VjcmV0\"\nsql-mode = \"strict_trans_tables\"\ndistsql-scan-concurrency = 7\n\
         [tidb.session-vars]\ntidb_x = 1\nname = \"v\"\n\
         [mydumper.csv]\nseparator = \"|+|\"\ndelimiter = \"\"\nbackslash-escape = false\nnull = [\"\", \"NULL\"]\nheader = false\n\
         [thunderhead]\nmemory = \"1GiB\"\ndisk-quota = \"10GiB\"\nempty-files = \"allow\"\n\
         [post-restore]\nchecksum = false\nanalyze = true\n\
         [conflict]\nstrategy = \"Remove\"\nthreshold = 5\n\
         [lightning.max-error]\ntype = 3\n\
         [cron]\nlog-progress = \"10s\"\n\
         [security]\nca-path = \"ca\"\ncert-path = \"c\"\nkey-path = \"k\"\n",
    );
    assert_eq!(job.tidb.port, 4001);
    assert_eq!(job.tidb.password.candidates(), ["c2VjcmV0", "secret"]);
    assert_eq!(job.sql_mode, "strict_trans_tables");
    let vars: Vec<String> = job
        .tidb
        .session_vars
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        vars,
        ["name=v", "tidb_distsql_scan_concurrency=7", "tidb_x=1"]
    );
    let csv = &job.csv;
    assert_eq!([&csv.separator, &csv.quote, &csv.escape], ["|+|", "", ""]);
    assert_eq!(
        (csv.nulls.as_slice(), csv.header),
        (["".to_owned(), "NULL".to_owned()].as_slice(), false)
    );
    assert_eq!(
        (job.memory_bytes, job.disk_quota),
        (1 << 30, Some(10 << 30))
    );
    assert!(job.allow_empty_files);
    assert_eq!((job.checksum, job.analyze), (Level::Off, Level::Required));
    assert_eq!(
        (job.conflict.strategy, job.conflict.threshold),
        (ConflictStrategy::Remove, 5)
    );
    assert_eq!((job.type_errors_max, job.log_progress.as_secs()), (3, 10));
    let files = job.security.unwrap();
    assert_eq!(
        (files.ca.to_str().unwrap(), files.client.is_some()),
        ("ca", true)
    );
    assert!(!format!("{:?}", job.tidb.password).contains("c2Vj"));
}

#[test]
fn sql_connections_are_never_less_safe_than_asked_for() {
    let tls = "[security]\nca-path = \"ca\"\n";
    let same = format!("tls = 'cluster'\n{tls}[tidb.security]\nca-path = \"ca\"\n");
    assert!(job(&same).security.is_some());
    check(
        "tls = 'cluster'\n",
        "+:1: tidb.tls: it needs a CA (give security.ca-path)",
    );
    check(
        "tls = 'preferred'\n",
        "+:1: tidb.tls: \"preferred\" is not supported yet (use \"cluster\" with security.ca-path, or \"false\")",
    );
    check(
        &format!("tls = false\n{tls}"),
        "+:1: tidb.tls: SQL connections without TLS beside [security] are not supported yet (remove the key)",
    );
    for other in ["", "else"] {
        check(
            &format!("{tls}[tidb.security]\nca-path = {other:?}\n"),
            "+:4: tidb.security.ca-path: it differs from [security], and other certificates for the SQL port are not supported yet (give the certificates in [security] alone)",
        );
    }
}

#[test]
fn a_key_that_nothing_acts_on_yet_is_noted_where_it_differs_from_its_default() {
    let notes = |value: u32| {
        let text = LEAST.replace("backend", &format!("send-kv-pairs = {value}\nbackend"));
        load(&text, "job.toml", &[]).unwrap().notes
    };
    assert_eq!(notes(32768), []);
    assert_eq!(
        notes(9)[0].to_string(),
        "job.toml:2: tikv-importer.send-kv-pairs: has no effect: not supported yet"
    );
    let text = LEAST.replace("backend", "store-write-bwlimit = '1MiB'\nbackend");
    let ingest = load(&text, "job.toml", &[]).unwrap().job.ingest;
    assert_eq!(ingest.store_bytes_per_second, 1 << 20);
}

#[test]
fn an_empty_list_of_nulls_means_the_empty_field_and_not_null_means_none() {
    assert_eq!(job("[mydumper.csv]\nnull = []\n").csv.nulls, [""]);
    assert!(
        job("[mydumper.csv]\nnot-null = true\n")
            .csv
            .nulls
            .is_empty()
    );
}

#[test]
fn unknown_names_are_problems_with_a_suggestion() {
    check(
        "[mydumper.csv]\nseperator = \"|\"\n",
        "+:2: mydumper.csv.seperator: unknown key (did you mean separator?)",
    );
    check(
        "[mydumpr]\nfilter = []\n",
        "+:1: mydumpr: unknown section or key (did you mean mydumper?)",
    );
    check(
        "sorted-kv-dir = \"x\"\n",
        "+:1: tidb.sorted-kv-dir: unknown key (sorted-kv-dir belongs into [tikv-importer])",
    );
    check(
        "[extra]\nzzz = 1\n",
        "+:1: extra: unknown section or key (docs/configuration.md lists all keys)",
    );
    check(
        "[[routes]]\nschema-patern = \"a\"\ntarget-schema = \"b\"\n",
        "+:1: routes.schema-pattern: a pattern is missing\n+:2: routes.schema-patern: unknown key (did you mean schema-pattern?)",
    );
}

#[test]
fn wrong_types_and_bounds_are_problems() {
    check(
        "port = \"4000\"\n",
        "+:1: tidb.port: expected whole number, 1 to 65535, found \"4000\"",
    );
    check(
        "port = 70000\n",
        "+:1: tidb.port: expected whole number, 1 to 65535, found \"70000\"",
    );
    check(
        "port = -1\n",
        "+:1: tidb.port: expected whole number, 1 to 65535, found \"-1\"",
    );
    check(
        "password = 12345\n",
        "+:1: tidb.password: expected text (secret), found a value of type integer",
    );
    check(
        "[mydumper.csv]\nheader = 7\n",
        "+:2: mydumper.csv.header: expected true or false, found \"7\"",
    );
    check(
        "[mydumper.csv]\nnull = [1]\n",
        "+:2: mydumper.csv.null: expected text or list of texts, found a value of type array",
    );
    check(
        "[thunderhead]\nmemory = \"1MiB\"\n",
        "+:2: thunderhead.memory: expected size such as \"64KiB\", at least 67108864 bytes, found \"1MiB\"",
    );
    check(
        "[cron]\nlog-progress = \"5\"\n",
        "+:2: cron.log-progress: expected duration such as \"5m\", found \"5\"",
    );
    check(
        "[post-restore]\nchecksum = \"maybe\"\n",
        "+:2: post-restore.checksum: expected one of \"required\", \"optional\", \"off\", or a boolean, found \"maybe\"",
    );
    check(
        "[lightning]\nlevel = \"loud\"\n",
        "+:2: lightning.level: expected one of \"debug\", \"info\", \"warn\", \"error\", \"fatal\", found \"loud\"",
    );
    check(
        "[routes]\nschema-pattern = \"a\"\n",
        "+:1: routes: expected a list of tables (write [[routes]])",
    );
    check(
        "[tidb.host]\nx = 1\n",
        "+:1: tidb.host: expected text, found a value of type table",
    );
}

#[test]
fn a_syntax_error_is_named_by_its_line_and_nothing_is_guessed_behind_it() {
    let problems = load("[tidb]\nport = \n", "job.toml", &[]).unwrap_err();
    assert!(
        problems.iter().all(|p| p.line == 2 && p.key.is_empty()),
        "{problems:?}"
    );
    let problems = load("[tidb\nport = 1\n", "job.toml", &[]).unwrap_err();
    assert_eq!(problems[0].line, 1, "{problems:?}");
    let problems = load("a = 1\na = 2\n", "job.toml", &[]).unwrap_err();
    assert_eq!(problems[0].line, 2, "{problems:?}");
}

#[test]
fn what_must_be_given_is_asked_for() {
    check_whole(
        "",
        "job.toml: mydumper.data-source-dir: it must be given (name the directory of the source files)\njob.toml: tikv-importer.backend: it must be given (\"local\" for empty tables, \"tidb\" to insert through SQL)",
    );
    check_whole(
        "[tikv-importer]\nbackend = 'local'\n[mydumper]\ndata-source-dir = 'd'\n",
        "job.toml: tidb.pd-addr: it must be given (the backend \"local\" needs the address of a PD server, usually port 2379)",
    );
    // A key that is there and wrong is not missing too.
    check_whole(
        "[tikv-importer]\nbackend = 1\n[mydumper]\ndata-source-dir = 2\n",
        "job.toml:2: tikv-importer.backend: expected one of \"local\", \"tidb\", \"importer\", \"import-into\", found \"1\"\njob.toml:4: mydumper.data-source-dir: expected text, found \"2\"",
    );
}

#[test]
fn what_is_not_supported_is_refused_with_its_reason() {
    let refused =
        |from: &str, to: &str, expected: &str| check_whole(&LEAST.replace(from, to), expected);
    refused(
        "\"local\"",
        "\"importer\"",
        "job.toml:2: tikv-importer.backend: the backend \"importer\" is not supported (use \"local\" or \"tidb\")",
    );
    refused(
        "/data",
        "ftp://bucket/x",
        "job.toml:5: mydumper.data-source-dir: sources of this kind are not supported (use a path or one of s3://, gs://, gcs://, azblob://, azure://, http://, https://)",
    );
    refused(
        "/data",
        "s3://user:hidden@bucket/x",
        "job.toml:5: mydumper.data-source-dir: this URI cannot be read: it has a user or a password before the @: give credentials in the query (write s3://bucket/path?endpoint=…, gs://, azblob:// or https://)",
    );
    refused(
        "/data",
        "file://x",
        "job.toml:5: mydumper.data-source-dir: the path in this URL is not absolute (write file:///path)",
    );
    refused(
        "pd:2379",
        "http://a:1/,b",
        "job.toml:7: tidb.pd-addr: \"b\" is not an address (write host:port, usually port 2379)",
    );
    refused(
        "/sorted",
        "/data/sorted",
        "job.toml:3: tikv-importer.sorted-kv-dir: it lies inside of mydumper.data-source-dir (name a directory elsewhere, best on another disk)",
    );
    check(
        "[lightning]\nserver-mode = true\n",
        "+:2: lightning.server-mode: there is no task server; run one `thunderhead import` per job (remove the key)",
    );
    check(
        "[routes]\n",
        "+:1: routes: expected a list of tables (write [[routes]])",
    );
    let route = "[[routes]]\nschema-pattern = 'a'\ntarget-schema = 'b'\n";
    check(
        &format!("{route}[routes.extract-table]\ntable-regexp = 'x'\n"),
        "+:1: routes.extract-table.target-column: it must be given",
    );
    check(
        &format!(
            "{route}[[mydumper.files]]\npath = 'x'\nschema = 'a'\ntable = 'b'\ntype = 'csv'\n"
        ),
        "+:1: routes: it cannot be combined with [[mydumper.files]] (give the target names in [[mydumper.files]])",
    );
}

#[test]
fn values_that_contradict_each_other_are_problems() {
    let csv = |extra: &str, expected: &str| check(&format!("[mydumper.csv]\n{extra}"), expected);
    csv(
        "separator = ''\n",
        "+:2: mydumper.csv.separator: it must not be empty",
    );
    csv(
        "separator = '\"'\n",
        "+:2: mydumper.csv.separator: separator and delimiter must not be prefixes of one another (choose another character)",
    );
    csv(
        "separator = '|'\ndelimiter = '|+'\n",
        "+:3: mydumper.csv.delimiter: delimiter and separator must not be prefixes of one another (choose another character)",
    );
    csv(
        "escaped-by = '\"'\n",
        "+:2: mydumper.csv.escaped-by: escaped-by and delimiter must not be prefixes of one another (choose another character)",
    );
    csv(
        "escaped-by = 'ab'\n",
        "+:2: mydumper.csv.escaped-by: it must be one character",
    );
    csv(
        "escaped-by = '!'\nbackslash-escape = false\n",
        "+:2: mydumper.csv.escaped-by: backslash-escape = false switches escapes off (remove one of the two keys)",
    );
    csv(
        "separator = \"\\n\"\n",
        "+:2: mydumper.csv.separator: it starts with a line end (give mydumper.csv.terminator)",
    );
    let mydumper = |extra: &str, expected: &str| {
        check_whole(
            &LEAST.replace("[tidb]", &format!("{extra}\n[tidb]")),
            expected,
        );
    };
    mydumper(
        "strict-format = true",
        "job.toml:6: mydumper.strict-format: it needs mydumper.csv.terminator (write terminator = \"\\n\", or leave strict-format out)",
    );
    mydumper(
        "default-file-rules = false",
        "job.toml:6: mydumper.default-file-rules: no rule would be left to recognise a file (give [[mydumper.files]] or leave the key out)",
    );
    mydumper(
        "data-invalid-char-replace = ','",
        "job.toml:6: mydumper.data-invalid-char-replace: it is the same as csv.separator (choose another character)",
    );
    mydumper(
        "filter = ['a', 'b.c.d']",
        "job.toml:6: mydumper.filter: filter rule \"a\": expected `database.table`\njob.toml:6: mydumper.filter: filter rule \"b.c.d\": \".d\" follows the table pattern; quote names that hold a dot",
    );
    check(
        "sql-mode = 'STRICT_TRANS_TABLE'\n",
        "+:1: tidb.sql-mode: \"STRICT_TRANS_TABLE\" is not a SQL mode (did you mean STRICT_TRANS_TABLES?)",
    );
    check(
        "[security]\nca-path = 'x'\ncert-path = 'y'\n",
        "+:3: security.cert-path: key-path is missing (give both or none)",
    );
    check(
        "[conflict]\nthreshold = 7\n",
        "+:2: conflict.threshold: without effect: the strategy tolerates no conflict or does not look for any (remove it, or choose a strategy such as \"remove\")",
    );
    check_whole(
        &LEAST
            .replace(
                "backend",
                "duplicate-resolution = 'record'\ndisk-quota = 5\nbackend",
            )
            .replace(
                "[tidb]",
                "[conflict]\nstrategy = 'replace'\n[thunderhead]\ndisk-quota = 6\n[tidb]",
            ),
        "job.toml:2: tikv-importer.duplicate-resolution: it cannot be combined with conflict.strategy (keep conflict.strategy alone)\njob.toml:11: thunderhead.disk-quota: it differs from tikv-importer.disk-quota (keep one)",
    );
    check(
        "[PD]\n",
        "+:1: pd: unknown section or key (docs/configuration.md lists all keys)",
    );
}

#[test]
fn file_rules_and_ignored_columns_name_their_line() {
    check(
        "[[mydumper.files]]\npattern = '('\nschema = 'a'\ntable = 'b'\ntype = 'csv'\n[[mydumper.files]]\npattern = 'x'\nschema = 'a'\ntable = '$1'\ntype = 'csv'\n",
        "+:2: mydumper.files.pattern: unclosed group\n+:9: mydumper.files.table: the pattern has no group \"1\"; write `${1}` to end a group's name, `$$` for a dollar sign",
    );
    check(
        "[[mydumper.ignore-data-columns]]\ncolumns = ['a']\n[[mydumper.ignore-data-columns]]\ndb = 'a'\ntable = 'b'\n",
        "+:1: mydumper.ignore-data-columns.db: db and table, or table-filter, must be given\n+:3: mydumper.ignore-data-columns.columns: it must be given",
    );
}

#[test]
fn all_problems_are_reported_at_once_in_file_order() {
    check(
        "port = 0\nprot = 1\n[mydumper.csv]\nheader = 7\nseparator = ''\n[lightning]\nserver-mode = true\n",
        "+:1: tidb.port: expected whole number, 1 to 65535, found \"0\"
         +:2: tidb.prot: unknown key (did you mean port?)
         +:4: mydumper.csv.header: expected true or false, found \"7\"
         +:5: mydumper.csv.separator: it must not be empty
         +:7: lightning.server-mode: there is no task server; run one `thunderhead import` per job (remove the key)",
    );
}

#[test]
fn keys_without_effect_are_noted_once_with_their_line() {
    let notes = loaded("log-level = 'info'\n[LIGHTNING]\ntable-concurrency = 3\nRegion-Concurrency = 8\n[tikv-Importer]\non-duplicate = 'error'\n").notes;
    let lines: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "job.toml:8: tidb.log-level: has no effect: no TiDB library is embedded",
            "job.toml:10: lightning.table-concurrency: has no effect: there are no engines; tasks of all tables share one queue",
            "job.toml:13: tikv-importer.on-duplicate: has no effect: it belongs to the other backend",
        ]
    );
}

#[test]
fn a_key_in_two_spellings_is_a_problem() {
    let text = LEAST.replace("backend", "Backend = 'tidb'\nbackend");
    let problems = load(&text, "job.toml", &[]).unwrap_err();
    assert_eq!(problems[0].message, "written twice in different case");
}

#[test]
fn overrides_win_over_the_file_and_are_checked_too() {
    let pairs = overrides(&[
        ("tidb.port", "1"),
        ("TiDB.Port", "2"),
        ("tidb.pd-addr", "a:1, b:2"),
        ("mydumper.filter", "['x.*', '!x.y']"),
        ("post-restore.checksum", "false"),
        ("thunderhead.memory", "128MiB"),
        ("mydumper.csv.header", "false"),
        ("tidb.session-vars.tidb_x", "9"),
    ]);
    let job = load(LEAST, "job.toml", &pairs).unwrap().job;
    assert_eq!(
        (job.tidb.port, job.tidb.pd_addrs),
        (2, vec!["a:1".to_owned(), "b:2".to_owned()])
    );
    assert!(
        job.filter.matches("x", "z")
            && !job.filter.matches("x", "y")
            && !job.filter.matches("z", "z")
    );
    assert_eq!(
        (job.checksum, job.memory_bytes, job.csv.header),
        (Level::Off, 128 << 20, false)
    );
    assert_eq!(job.tidb.session_vars["tidb_x"], "9");

    let wrong = overrides(&[
        ("tidb.prot", "1"),
        ("tidb.port", "x"),
        ("tidb.password", "p"),
        ("tidb.tls", "cluster"),
    ]);
    let problems = load(LEAST, "job.toml", &wrong).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "override: tidb.port: expected whole number, 1 to 65535, found \"x\"",
            "override: tidb.prot: unknown key (did you mean port?)",
            "override: tidb.tls: it needs a CA (give security.ca-path)",
        ]
    );
}

#[test]
fn the_environment_gives_overrides_for_known_keys_alone() {
    let variables = overrides(&[
        ("THUNDERHEAD_TIDB_PASSWORD", "x"),
        ("THUNDERHEAD_MEMORY", "1GiB"),
        ("THUNDERHEAD_SERVICE_HOST", "10.0.0.1"),
        ("THUNDERHEAD_LOG", "info"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(
        environment_overrides(variables),
        overrides(&[("thunderhead.memory", "1GiB"), ("tidb.password", "x")])
    );
}
