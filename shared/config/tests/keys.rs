//! The table of keys: that it knows all of Lightning's, and that the reference page is written from it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use thunderhead_config::keys::{Effect, KEYS, find};

/// Lightning's keys by section, from its configuration reference.
const LIGHTNING: &str = "
lightning: status-addr pprof-port server-mode level file max-size max-days max-backups enable-diagnose-logs check-requirements index-concurrency table-concurrency region-concurrency io-concurrency max-error max-error-records task-info-schema-name meta-schema-name
security: ca-path cert-path key-path redact-info-log
tidb.security: ca-path cert-path key-path redact-info-log
checkpoint: enable schema driver dsn keep-after-success
conflict: strategy precheck-conflict-before-import threshold max-record-rows
tikv-importer: backend addr on-duplicate duplicate-resolution parallel-import incremental-import sorted-kv-dir disk-quota range-concurrency max-kv-pairs send-kv-pairs send-kv-size compress-kv-pairs region-split-size region-split-keys region-split-batch-size region-split-concurrency region-check-backoff-limit add-index-by-sql engine-mem-cache-size local-writer-mem-cache-size block-size store-write-bwlimit pause-pd-scheduler-scope keyspace-name logical-import-batch-size logical-import-batch-rows logical-import-prep-stmt
mydumper: read-block-size batch-size batch-import-ratio data-source-dir source-id character-set data-character-set data-invalid-char-replace strict-format max-region-size filter default-file-rules no-schema case-sensitive
mydumper.ignore-data-columns[]: db table table-filter columns
mydumper.csv: separator delimiter terminator header header-schema-match not-null null backslash-escape escaped-by trim-last-separator
mydumper.files[]: pattern path schema table type key compression
routes[]: schema-pattern table-pattern target-schema target-table
routes[].extract-table: table-regexp target-column
routes[].extract-schema: schema-regexp target-column
routes[].extract-source: source-regexp target-column
tidb: host port user password status-port pd-addr log-level sql-mode tls max-allowed-packet distsql-scan-concurrency build-stats-concurrency index-serial-scan-concurrency checksum-table-concurrency session-vars
post-restore: checksum checksum-via-sql analyze level-1-compact compact post-process-at-last
cron: switch-mode log-progress check-disk-quota
";

#[test]
fn every_key_of_lightning_is_in_the_table() {
    let mut count = 0;
    for line in LIGHTNING.lines().filter(|line| !line.is_empty()) {
        let (section, names) = line.split_once(": ").unwrap();
        for name in names.split(' ') {
            assert!(
                find(&format!("{section}.{name}")).is_some(),
                "{section}.{name}"
            );
            count += 1;
        }
    }
    assert!(count > 120, "{count}");
}

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Written by the test of shared/config from its table of keys: UPDATE_DOCS=1 cargo test -p thunderhead-config -->\n\n\
         A job is described by a TiDB Lightning TOML file. Every key of Lightning is known: it is honoured, or it is\n\
         accepted with a note that says why it has no effect, or it is refused where ignoring it would change the\n\
         result. A few values are checked here and refused when the job starts, because this version cannot do them yet:\n\
         the README's \"What it does today\" names them. Unknown keys are errors. All problems are reported at once, each with its line. Names of sections and\n\
         keys are matched without regard to case. Sizes count in powers of 1024 under every spelling (`64KiB`, `64KB`, `64K`).\n\n\
         Every key outside of lists can be set by an environment variable, which wins over the file:\n\
         `THUNDERHEAD_` and the dotted path in capitals with `_`, so `THUNDERHEAD_TIDB_PASSWORD` sets `tidb.password`;\n\
         for the section `[thunderhead]` its name is not repeated (`THUNDERHEAD_MEMORY`). Options of the command line win over both.\n",
    );
    let mut section = String::new();
    for key in KEYS {
        let head = key.section();
        let name = key.path.rsplit('.').next().unwrap();
        if head != section {
            let _ = write!(
                page,
                "\n## {head}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
            );
            section = head;
        }
        let default = match key.default_literal() {
            Some(literal) => format!("`{literal}`"),
            None => key.default.trim_matches(['(', ')']).to_owned(),
        };
        let meaning = match key.effect {
            Effect::Used(text) => text.to_owned(),
            Effect::Later(text) => format!("*no effect yet:* {text}"),
            Effect::Nothing(why) => format!("*no effect:* {why}"),
            Effect::Refused(why) => format!("*refused:* {why}"),
        };
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} |",
            cell(&key.kind.describe()),
            cell(&default),
            cell(&meaning)
        );
    }
    page
}

#[test]
fn the_reference_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page(),
        "docs/configuration.md is stale: UPDATE_DOCS=1 cargo test -p thunderhead-config --test keys"
    );
}

#[test]
fn keys_of_a_section_stand_together() {
    let mut heads: Vec<String> = KEYS.iter().map(|key| key.section()).collect();
    heads.dedup();
    let count = heads.len();
    heads.sort();
    heads.dedup();
    assert_eq!(heads.len(), count);
}
