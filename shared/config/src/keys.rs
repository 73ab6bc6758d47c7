//! The one table of configuration keys: path, type, default, what it does here. Parsing, defaults,
//! unknown-key search, environment names and the reference page `docs/configuration.md` all come from it.
//! Leaves rules that involve more than one key to [`crate::check`].
//!
//! Whoever adds a key: `used` means that the program acts on it; until it does, it is `later`. A Lightning
//! key that changes nothing here is `nothing` with the reason; one whose effect would be missed is `refused`.

use crate::value::Kind::{
    self, Bool, Choice, Duration, Int, Ratio, Secret, Size, Switch, Text, Texts, Vars,
};

/// What writing a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is honoured; the text says what it means.
    Used(&'static str),
    /// It is checked and [`crate::Job`] carries it, but nothing acts on it yet: any value but the default
    /// gives a note. The text says what it will mean.
    Later(&'static str),
    /// It is accepted with a note; the text says why nothing changes.
    Nothing(&'static str),
    /// Any value but the default is a problem; the text says why.
    Refused(&'static str),
}

/// A key. `[]` after a name marks a list of tables, as in `routes[].target-schema`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path, lower case.
    pub path: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// TOML literal, or words in parentheses where there is no fixed value.
    pub default: &'static str,
    /// What it does.
    pub effect: Effect,
}

impl Key {
    /// The default as TOML, unless it depends on something else.
    pub fn default_literal(&self) -> Option<&'static str> {
        (!self.default.starts_with('(')).then_some(self.default)
    }

    /// The head of its section as TOML writes it, e.g. `[[mydumper.files]]`.
    pub fn section(&self) -> String {
        let section = self
            .path
            .rsplit_once('.')
            .map_or("", |(section, _)| section);
        match section.split_once("[]") {
            None => format!("[{section}]"),
            Some((list, "")) => format!("[[{list}]]"),
            Some((list, rest)) => format!("[{list}{rest}]"),
        }
    }

    /// The environment variable that overrides the key, e.g. `THUNDERHEAD_TIDB_PASSWORD`. Keys inside
    /// lists of tables have none.
    pub fn environment(&self) -> Option<String> {
        if self.path.contains("[]") {
            return None;
        }
        let path = self.path.strip_prefix("thunderhead.").unwrap_or(self.path);
        let name = path.replace(['.', '-'], "_").to_ascii_uppercase();
        Some(format!("THUNDERHEAD_{name}"))
    }
}

/// The key with this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether `path` is a section, i.e. has keys below it.
pub fn is_section(path: &str) -> bool {
    has_keys_below(path, ".")
}

/// Whether `path` is a list of tables.
pub fn is_list(path: &str) -> bool {
    has_keys_below(path, "[].")
}

fn has_keys_below(path: &str, separator: &str) -> bool {
    KEYS.iter()
        .filter_map(|key| key.path.strip_prefix(path))
        .any(|rest| rest.starts_with(separator))
}

const fn used(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        effect: Effect::Used(meaning),
    }
}

const fn later(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        default,
        effect: Effect::Later(meaning),
    }
}

const fn nothing(path: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        effect: Effect::Nothing(why),
    }
}

const fn refused(path: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        effect: Effect::Refused(why),
    }
}

const COUNT: Kind = Int(0, u64::MAX);
const POSITIVE: Kind = Int(1, u64::MAX);
const PORT: Kind = Int(1, 65535);
const BYTES: Kind = Size(0);
const LEVEL: Kind = Switch(&["required", "optional", "off"]);

const STDERR: &str = "log lines go to standard error; redirect them to rotate or keep them";
const NO_ENGINES: &str = "there are no engines; tasks of all tables share one queue";
const MEMORY: &str = "buffers come out of thunderhead.memory";
const ONE_SPLIT: &str = "regions are split once, from the exact keys, before the first write";
const NEVER_LOGGED: &str = "row values, keys and secrets never reach the log";

/// Every key, section by section in the order of the reference page. One row, one line.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    used("lightning.region-concurrency", Int(1, 1024), "(number of CPUs)", "worker threads that encode and sort, per agent"),
    used("lightning.max-error", COUNT, "0", "rows with a wrong value, a wrong number of fields, or quotes and literals that cannot be read, that are left out before the import stops, counted over the whole job; they are recorded in `type_error_v1` and `syntax_error_v1`. Same as `max-error.type`"),
    used("lightning.task-info-schema-name", Text, "\"lightning_task_info\"", "database for the tables that record errors and conflicts; empty = record nothing"),
    refused("lightning.server-mode", Bool, "false", "there is no task server; run one `thunderhead import` per job"),
    nothing("lightning.check-requirements", Bool, "true", "the checks before an import are cheap and always run"),
    nothing("lightning.status-addr", Text, "\"\"", "there is no HTTP server; progress goes to the terminal and the log"),
    nothing("lightning.pprof-port", Int(0, 65535), "(none)", "there is no HTTP server; use a sampling profiler"),
    nothing("lightning.level", Choice(&["debug", "info", "warn", "error", "fatal"]), "\"info\"", "the log level is set by --log"),
    nothing("lightning.file", Text, "(standard error)", STDERR),
    nothing("lightning.max-size", COUNT, "128", STDERR),
    nothing("lightning.max-days", COUNT, "28", STDERR),
    nothing("lightning.max-backups", COUNT, "14", STDERR),
    nothing("lightning.enable-diagnose-logs", Bool, "false", "set --log debug instead"),
    nothing("lightning.index-concurrency", COUNT, "2", NO_ENGINES),
    nothing("lightning.table-concurrency", COUNT, "6", NO_ENGINES),
    nothing("lightning.io-concurrency", COUNT, "5", "every worker thread reads its own chunk"),
    nothing("lightning.max-error-records", COUNT, "(none)", "the first 10,000 refused rows of a job are recorded"),
    nothing("lightning.meta-schema-name", Text, "\"lightning_metadata\"", "the job's state is not kept in the target cluster"),
    used("lightning.max-error.type", COUNT, "0", "see `max-error`"),
    refused("lightning.max-error.syntax", COUNT, "0", "malformed records are counted with lightning.max-error"),
    refused("lightning.max-error.charset", COUNT, "0", "broken characters are wrong values; count them with lightning.max-error.type"),
    refused("lightning.max-error.conflict", COUNT, "0", "conflicting rows are counted by conflict.threshold"),
    used("tikv-importer.backend", Choice(&["local", "tidb", "importer", "import-into"]), "(required)", "`local`: encode, sort and ingest into TiKV. `tidb`: INSERT statements. `importer` and `import-into` are refused"),
    used("tikv-importer.sorted-kv-dir", Text, "\"\"", "directory for sorted runs and for the job's state; empty = `sorted-kv` in the working directory"),
    used("tikv-importer.disk-quota", BYTES, "(no limit)", "bytes that sorted runs may take; reserved before each write, so a hard limit. 0 = no limit"),
    used("tikv-importer.range-concurrency", Int(1, 1024), "16", "key ranges that are ingested at once; never more than two for each thread, or than one for each 64 MiB of memory"),
    later("tikv-importer.send-kv-pairs", POSITIVE, "32768", "most pairs in one write message to TiKV"),
    later("tikv-importer.send-kv-size", Size(1), "(chosen by the client)", "most bytes in one write message to TiKV"),
    used("tikv-importer.region-split-size", Size(1), "(as TiKV is configured)", "target bytes of a region"),
    later("tikv-importer.region-split-keys", POSITIVE, "(as TiKV is configured)", "target pairs of a region"),
    used("tikv-importer.store-write-bwlimit", BYTES, "0", "bytes per second that the job sends to each store, over all its agents; 0 = no limit"),
    later("tikv-importer.pause-pd-scheduler-scope", Choice(&["table", "global"]), "\"table\"", "keep PD from moving only the regions of the imported tables, or all"),
    used("tikv-importer.duplicate-resolution", Choice(&["none", "record", "remove"]), "\"none\"", "backend `local`: `none` does not look for duplicates, `record` records them, `remove` records and removes all of them. Cannot be combined with conflict.strategy"),
    used("tikv-importer.on-duplicate", Choice(&["replace", "ignore", "error"]), "\"replace\"", "backend `tidb`: REPLACE, INSERT IGNORE or INSERT. Cannot be combined with conflict.strategy"),
    later("tikv-importer.logical-import-batch-size", Size(1), "\"96KiB\"", "backend `tidb`: bytes of values in one statement"),
    later("tikv-importer.logical-import-batch-rows", POSITIVE, "65536", "backend `tidb`: rows in one statement"),
    nothing("tikv-importer.logical-import-prep-stmt", Bool, "false", "statements carry their values"),
    refused("tikv-importer.keyspace-name", Text, "\"\"", "keyspaces (API v2) are not supported; rows would land outside of the keyspace"),
    nothing("tikv-importer.addr", Text, "(none)", "the backend `importer` no longer exists"),
    used("tikv-importer.parallel-import", Bool, "false", "target tables may hold rows; with a strategy for conflicts they come before those of the source"),
    used("tikv-importer.incremental-import", Bool, "false", "old name of parallel-import"),
    nothing("tikv-importer.max-kv-pairs", COUNT, "4096", MEMORY),
    nothing("tikv-importer.compress-kv-pairs", Choice(&["", "gz", "gzip"]), "\"\"", "pairs travel uncompressed"),
    nothing("tikv-importer.region-split-batch-size", COUNT, "4096", ONE_SPLIT),
    nothing("tikv-importer.region-split-concurrency", COUNT, "(number of CPUs)", ONE_SPLIT),
    nothing("tikv-importer.region-check-backoff-limit", COUNT, "1800", "waiting for scattered regions has its own limit"),
    nothing("tikv-importer.add-index-by-sql", Bool, "false", "indexes are sorted and ingested with the rows"),
    nothing("tikv-importer.engine-mem-cache-size", BYTES, "\"512MiB\"", MEMORY),
    nothing("tikv-importer.local-writer-mem-cache-size", BYTES, "\"128MiB\"", MEMORY),
    nothing("tikv-importer.block-size", BYTES, "\"16KiB\"", "sorted runs have their own block size"),
    used("mydumper.data-source-dir", Text, "(required)", "directory of the source files: a path, a `file://` URL, or a URI of a store (docs/stores.md)"),
    used("mydumper.filter", Texts, "['*.*', '!mysql.*', '!sys.*', '!INFORMATION_SCHEMA.*', '!PERFORMANCE_SCHEMA.*', '!METRICS_SCHEMA.*', '!INSPECTION_SCHEMA.*']", "tables to import; the last rule that matches decides, `!` excludes"),
    used("mydumper.default-file-rules", Bool, "(true unless [[mydumper.files]] is given)", "whether Dumpling's file names are recognised, after the rules of [[mydumper.files]]"),
    used("mydumper.no-schema", Bool, "false", "do not create databases and tables from schema files"),
    used("mydumper.case-sensitive", Bool, "false", "whether filters and routes see `T` and `t` as different"),
    used("mydumper.character-set", Choice(&["auto", "utf8mb4", "gb18030", "binary"]), "\"auto\"", "character set of schema files; `gb18030` is refused"),
    used("mydumper.data-character-set", Choice(&["binary", "utf8mb4", "ascii", "gb18030", "gbk", "latin1"]), "\"binary\"", "character set of CSV files and SQL dumps; `binary` = not converted"),
    used("mydumper.data-invalid-char-replace", Text, "\"\\uFFFD\"", "stands in for what cannot be converted from data-character-set"),
    used("mydumper.strict-format", Bool, "false", "promises that no field holds a terminator; needs csv.terminator. Large files are split without it too"),
    used("mydumper.max-region-size", Size(1), "\"256MiB\"", "bytes of a chunk of a large file; small files share one of at most 4 MiB, within this"),
    nothing("mydumper.read-block-size", BYTES, "\"64KiB\"", MEMORY),
    nothing("mydumper.batch-size", BYTES, "\"100GiB\"", NO_ENGINES),
    nothing("mydumper.batch-import-ratio", Ratio, "0.75", NO_ENGINES),
    used("mydumper.source-id", Text, "\"\"", "text that `extract-source` of a route reads"),
    used("mydumper.ignore-data-columns[].db", Text, "\"\"", "database of a table whose columns are left out"),
    used("mydumper.ignore-data-columns[].table", Text, "\"\"", "its table"),
    used("mydumper.ignore-data-columns[].table-filter", Texts, "[]", "filter rules instead of db and table"),
    used("mydumper.ignore-data-columns[].columns", Texts, "(required)", "columns of the source that are left out"),
    used("mydumper.csv.separator", Text, "\",\"", "between fields; one or more characters"),
    used("mydumper.csv.delimiter", Text, "'\"'", "around fields; empty = none"),
    used("mydumper.csv.terminator", Text, "\"\"", "after a line; empty = CR, LF and CRLF each end a line"),
    used("mydumper.csv.header", Bool, "true", "whether the first line names the columns"),
    used("mydumper.csv.header-schema-match", Bool, "true", "fields are matched to columns by the header's names; false = by position"),
    used("mydumper.csv.not-null", Bool, "false", "no field is ever NULL"),
    used("mydumper.csv.null", Texts, "'\\N'", "texts that mean NULL; an empty list means the empty field"),
    used("mydumper.csv.backslash-escape", Bool, "true", "false = a backslash is a backslash"),
    used("mydumper.csv.escaped-by", Text, "'\\'", "the escape character; empty = none"),
    used("mydumper.csv.trim-last-separator", Bool, "false", "drop one empty field at the end of each line"),
    used("mydumper.files[].pattern", Text, "(pattern or path)", "regular expression on the path below data-source-dir, with `/`"),
    used("mydumper.files[].path", Text, "(pattern or path)", "one file"),
    used("mydumper.files[].schema", Text, "\"\"", "database; `$1`, `${name}` and `$$` are filled in from the pattern"),
    used("mydumper.files[].table", Text, "\"\"", "table; a template too. `*` with type `sql`: every table whose rows the dump holds"),
    used("mydumper.files[].type", Text, "\"\"", "`csv`, `sql`, `parquet`, `schema-schema`, `table-schema`, `view-schema` or `ignore`; a template too"),
    used("mydumper.files[].key", Text, "\"\"", "orders the files of a table; a template too"),
    used("mydumper.files[].compression", Text, "(by suffix)", "`gz`, `zstd`, `snappy`, `lz4`, `xz`, `bz2` or empty; a template too"),
    used("routes[].schema-pattern", Text, "(required)", "database to rename; `*`, `?`, `[a-z]`, or `~` and a regular expression"),
    used("routes[].table-pattern", Text, "\"\"", "table to rename; empty = all tables of the database"),
    used("routes[].target-schema", Text, "(required)", "new name of the database"),
    used("routes[].target-table", Text, "\"\"", "new name of the table; empty = as it was"),
    used("routes[].extract-table.table-regexp", Text, "\"\"", "regular expression on the source table's name; its groups, side by side, fill a column"),
    used("routes[].extract-table.target-column", Text, "\"\"", "that column; it must not be in the data"),
    used("routes[].extract-schema.schema-regexp", Text, "\"\"", "regular expression on the source database's name; its groups, side by side, fill a column"),
    used("routes[].extract-schema.target-column", Text, "\"\"", "that column; it must not be in the data"),
    used("routes[].extract-source.source-regexp", Text, "\"\"", "regular expression on the source-id; its groups, side by side, fill a column"),
    used("routes[].extract-source.target-column", Text, "\"\"", "that column; it must not be in the data"),
    used("tidb.host", Text, "\"127.0.0.1\"", "any TiDB server of the target cluster"),
    used("tidb.port", PORT, "4000", "its MySQL port"),
    used("tidb.user", Text, "\"root\"", "SQL user"),
    used("tidb.password", Secret, "\"\"", "plain or Base64: where the plain text is denied, the decoded one is tried"),
    used("tidb.status-port", PORT, "10080", "its status port, where table definitions are read"),
    used("tidb.pd-addr", Texts, "(required with backend `local`)", "PD servers, `host:port`, separated by commas"),
    used("tidb.sql-mode", Text, "\"ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION\"", "SQL mode for casts. The default is TiDB's own: wrong values are refused. Lightning's default, `ONLY_FULL_GROUP_BY,NO_AUTO_CREATE_USER`, clips them silently"),
    used("tidb.tls", Switch(&["cluster", "skip-verify", "preferred", "", "false"]), "\"\"", "TLS of SQL connections. They are as safe as [security] says: `cluster` needs its CA, `false` needs none. `skip-verify` and `preferred` are refused"),
    later("tidb.distsql-scan-concurrency", POSITIVE, "(as the server)", "session variable tidb_distsql_scan_concurrency"),
    later("tidb.build-stats-concurrency", POSITIVE, "(as the server)", "session variable tidb_build_stats_concurrency"),
    later("tidb.index-serial-scan-concurrency", POSITIVE, "(as the server)", "session variable tidb_index_serial_scan_concurrency"),
    later("tidb.checksum-table-concurrency", POSITIVE, "(as the server)", "session variable tidb_checksum_table_concurrency"),
    later("tidb.session-vars", Vars, "{}", "session variables of every SQL connection"),
    nothing("tidb.log-level", Text, "\"error\"", "no TiDB library is embedded"),
    nothing("tidb.max-allowed-packet", BYTES, "\"64MiB\"", "the server's own limit is asked for"),
    used("tidb.security.ca-path", Text, "(security.ca-path)", "CA of the SQL port; must be the same as in [security]"),
    used("tidb.security.cert-path", Text, "(security.cert-path)", "client certificate for the SQL port; must be the same as in [security]"),
    used("tidb.security.key-path", Text, "(security.key-path)", "its private key; must be the same as in [security]"),
    nothing("tidb.security.redact-info-log", Bool, "false", NEVER_LOGGED),
    used("security.ca-path", Text, "\"\"", "CA of PD, TiKV and the status port; empty = no TLS"),
    used("security.cert-path", Text, "\"\"", "client certificate"),
    used("security.key-path", Text, "\"\"", "its private key"),
    nothing("security.redact-info-log", Bool, "false", NEVER_LOGGED),
    used("conflict.strategy", Choice(&["", "error", "replace", "ignore", "none", "record", "remove"]), "\"\"", "what to do with rows that share a primary or unique key; empty = duplicate-resolution or on-duplicate decides"),
    used("conflict.threshold", COUNT, "(10000; 0 with `error`)", "conflicting rows that the whole job tolerates; with more it stops before it writes the table they are in. A row counts once for each key it shares"),
    nothing("conflict.precheck-conflict-before-import", Bool, "false", "duplicates are found in sorted runs before anything is ingested"),
    used("conflict.max-record-rows", COUNT, "(conflict.threshold; 1000 with `error`)", "conflicting rows of the whole job that are recorded; the others are counted"),
    used("post-restore.checksum", LEVEL, "\"required\"", "compare each table with what was encoded; `optional` = only warn"),
    used("post-restore.analyze", LEVEL, "\"optional\"", "ANALYZE TABLE at the end; `optional` = only warn when it fails"),
    nothing("post-restore.checksum-via-sql", Bool, "false", "ranges are verified as they are ingested"),
    nothing("post-restore.level-1-compact", Bool, "false", "ranges do not overlap, TiKV has nothing to compact"),
    nothing("post-restore.compact", Bool, "false", "ranges do not overlap, TiKV has nothing to compact"),
    nothing("post-restore.post-process-at-last", Bool, "true", "each table is finished when its last range is in"),
    later("cron.log-progress", Duration, "\"5m\"", "time between two progress lines in the log"),
    nothing("cron.switch-mode", Duration, "\"5m\"", "TiKV stays in normal mode"),
    nothing("cron.check-disk-quota", Duration, "\"1m\"", "space is reserved before each write"),
    nothing("checkpoint.enable", Bool, "true", "progress is always kept; delete sorted-kv-dir to start over"),
    nothing("checkpoint.schema", Text, "\"tidb_lightning_checkpoint\"", "progress is kept in sorted-kv-dir"),
    nothing("checkpoint.driver", Choice(&["file", "mysql"]), "\"file\"", "progress is kept in sorted-kv-dir"),
    nothing("checkpoint.dsn", Secret, "(none)", "progress is kept in sorted-kv-dir"),
    nothing("checkpoint.keep-after-success", Choice(&["remove", "rename", "origin"]), "\"remove\"", "progress of a finished job is removed by the next job in sorted-kv-dir"),
    used("thunderhead.memory", Size(64 << 20), "\"512MiB\"", "memory budget of an agent for everything it buffers"),
    used("thunderhead.disk-quota", BYTES, "(tikv-importer.disk-quota)", "same as tikv-importer.disk-quota"),
    used("thunderhead.retry-time", Duration, "\"10m\"", "how long one request to the cluster may go without success before the job stops, to be continued later"),
    used("thunderhead.statement", Text, "\"\"", "the job as one statement, `LOAD DATA …` with the options of TiDB 7.1 or `IMPORT INTO … FROM …`: files, table, dialect, columns, variables and SET. It goes over the other keys"),
    used("thunderhead.ragged-rows", Choice(&["refuse", "accept"]), "\"refuse\"", "what to do with a record of too few or too many fields: `accept` takes defaults for missing ones and drops surplus ones, as Lightning does"),
    used("thunderhead.empty-files", Choice(&["refuse", "allow"]), "\"refuse\"", "what to do with a data file without rows, which often is an export that broke off"),
    used("thunderhead.source-agents", Int(0, 10_000), "0", "for a fleet whose source lies on the hosts of agents only: how many agents hold data files of it, each below a `--readable` root of its own. The job waits until so many are there; 0 = the coordinators see the whole source"),
    used("thunderhead.ingest", Choice(&["write", "upload", "auto"]), "\"auto\"", "who builds the files that TiKV takes in: `write` = every replica, `upload` = the agent, once for all replicas; `auto` = `upload` where it was tried on this version of TiKV and the first pairs prove it, else `write`; the report says which, and why"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use toml::de::DeValue;

    #[test]
    fn every_default_has_the_type_of_its_key() {
        for key in KEYS {
            if let Some(literal) = key.default_literal() {
                let value = DeValue::parse(literal).unwrap_or_else(|e| panic!("{}: {e}", key.path));
                let read = key.kind.read_toml(value.get_ref());
                assert!(read.is_ok(), "{}: {read:?}", key.path);
            }
            if matches!(key.effect, Effect::Refused(_)) {
                assert!(key.default_literal().is_some(), "{}", key.path);
            }
        }
    }

    #[test]
    fn no_key_and_no_environment_name_is_there_twice() {
        let mut paths: Vec<_> = KEYS.iter().map(|k| k.path.to_owned()).collect();
        paths.extend(KEYS.iter().filter_map(Key::environment));
        paths.sort();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn sections_are_what_has_keys_below() {
        assert!(
            is_section("mydumper")
                && is_list("mydumper.files")
                && is_section("routes[].extract-table")
        );
        assert!(is_section("lightning.max-error"));
        assert!(!is_section("mydumper.files") && !is_section("mydump") && !is_section("tidb.host"));
    }
}
