//! What was checked: a job that the rest of the program can rely on. Plain values only; how they came to
//! be is [`crate::check`]'s, which files belong to the job is [`crate::routing`]'s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::filter::TableFilter;
use crate::routes::Routes;
use crate::routing::{FileRules, SourceFile};
use crate::secret::{Password, Secret};

/// A checked import job.
#[derive(Clone, Debug)]
pub struct Job {
    /// How rows reach the cluster.
    pub backend: Backend,
    /// Directory of the source files, or the URI of those in a store, without its query.
    pub source_dir: PathBuf,
    /// The query of the URI: how to reach the store.
    pub source_access: Secret,
    /// Which file is what.
    pub file_rules: FileRules,
    /// Which tables are imported.
    pub filter: TableFilter,
    /// Which tables get other names.
    pub routes: Routes,
    /// Columns of the source that are left out.
    pub ignore_columns: Vec<IgnoreColumns>,
    /// What the column list and the assignments of a statement say.
    pub statement_fields: FieldOptions,
    /// Records with missing or surplus fields are read, not refused.
    pub ragged_rows: bool,
    /// Names the source for routes that make a column of it.
    pub source_id: String,
    /// Databases and tables exist already; schema files are not run.
    pub no_schema: bool,
    /// How CSV files are written.
    pub csv: CsvOptions,
    /// No field holds a terminator: a file may be cut at any of them.
    pub strict_format: bool,
    /// So many agents of a fleet hold the source, and coordinators need not see it; 0 = they do.
    pub source_agents: u64,
    /// A data file without rows is no error.
    pub allow_empty_files: bool,
    /// Bytes of a chunk of a large file.
    pub chunk_bytes: u64,
    /// Sorted runs and the job's state.
    pub sorted_kv_dir: PathBuf,
    /// Bytes that sorted runs may take.
    pub disk_quota: Option<u64>,
    /// Encode threads; `None` = number of CPUs.
    pub threads: Option<usize>,
    /// Bytes for everything an agent buffers.
    pub memory_bytes: u64,
    /// Backend `local`: how ranges are written.
    pub ingest: IngestOptions,
    /// Backend `tidb`: how statements are cut.
    pub logical: LogicalOptions,
    /// Backend `local`: what to do with duplicates.
    pub conflict: ConflictOptions,
    /// Backend `tidb`: what to do with duplicates.
    pub on_duplicate: OnDuplicate,
    /// Target tables may hold rows.
    pub parallel_import: bool,
    /// Rows with wrong values that are left out before the job stops.
    pub type_errors_max: u64,
    /// Database of the error tables; `None` = nothing is recorded.
    pub task_info_schema: Option<String>,
    /// The target cluster.
    pub tidb: TidbOptions,
    /// SQL mode for casts, as written.
    pub sql_mode: String,
    /// TLS to PD, TiKV and TiDB; `None` = plain.
    pub security: Option<TlsFiles>,
    /// Compare each table with what was encoded.
    pub checksum: Level,
    /// Run ANALYZE TABLE at the end.
    pub analyze: Level,
    /// Time between two progress lines in the log.
    pub log_progress: Duration,
    /// How long a request to the cluster may go without success.
    pub retry_time: Duration,
}

impl Job {
    /// How a file of this job is read; what travels to an agent as JSON.
    pub fn format_of(&self, file: &SourceFile) -> SourceFormat {
        let (database, table) = (&file.source_database, &file.source_table);
        let target = self.routes.table(database, table);
        let (to_database, to_table) = target.unwrap_or_else(|_| (database.clone(), table.clone()));
        let ignored = self
            .ignore_columns
            .iter()
            .filter(|ignore| ignore.tables.matches(&to_database, &to_table))
            .flat_map(|ignore| ignore.columns.iter().cloned())
            .collect();
        SourceFormat {
            kind: file.format,
            compression: file.compression,
            csv: self.csv.clone(),
            sql: SqlOptions {
                no_backslash_escapes: self
                    .sql_mode
                    .to_ascii_uppercase()
                    .contains("NO_BACKSLASH_ESCAPES"),
                table: file.only_table.clone(),
            },
            fields: FieldOptions {
                columns: self.statement_fields.columns.clone(),
                ignored,
                constants: self.routes.constants(&self.source_id, database, table),
                set: self.statement_fields.set.clone(),
                ragged: self.ragged_rows,
            },
            skip_malformed: self.type_errors_max > 0,
        }
    }
}

/// How rows reach the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Encode, sort, ingest.
    Local,
    /// SQL statements.
    Tidb,
}

/// How a source file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFormat {
    /// Which reader.
    pub kind: FileFormat,
    /// What it is packed with.
    pub compression: Compression,
    /// Where the reader is the CSV reader.
    pub csv: CsvOptions,
    /// Where it is the one for SQL statements.
    pub sql: SqlOptions,
    /// Which columns the fields go to.
    pub fields: FieldOptions,
    /// A malformed record is given out as such; otherwise it is an error.
    #[serde(default)]
    pub skip_malformed: bool,
}

impl SourceFormat {
    /// A plain file of this kind.
    pub fn new(kind: FileFormat, csv: CsvOptions) -> Self {
        Self {
            kind,
            compression: Compression::None,
            csv,
            sql: SqlOptions::default(),
            fields: FieldOptions::default(),
            skip_malformed: false,
        }
    }
}

/// Which columns the fields of a record go to, beside what a header or a statement says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldOptions {
    /// Column or `@variable` of each field, over any header.
    pub columns: Option<Vec<String>>,
    /// Lower-case columns of the source that are left out.
    pub ignored: Vec<String>,
    /// Columns with a fixed text: those that routes make of names.
    pub constants: Vec<(String, String)>,
    /// Columns with the value of an expression over variables.
    pub set: Vec<(String, String)>,
    /// Missing fields become defaults, surplus ones are dropped.
    pub ragged: bool,
}

/// How SQL statements are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlOptions {
    /// A backslash in a string is a backslash: the SQL mode NO_BACKSLASH_ESCAPES.
    pub no_backslash_escapes: bool,
    /// The only table, in lower case, whose rows are taken from a file that holds several; `None`: the
    /// file holds one table, whatever it calls it.
    pub table: Option<String>,
}

/// Which reader a file needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Separated values.
    Csv,
    /// INSERT statements.
    Sql,
    /// Apache Parquet.
    Parquet,
}

/// What a file is packed with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy, in its framing format or in Hadoop's.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// The CSV dialect and its character set. Tokens are UTF-8; the reader turns them into the file's
/// character set. An empty token switches its feature off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvOptions {
    /// Between two fields; never empty.
    pub separator: String,
    /// Around a field; Lightning calls it `delimiter`.
    pub quote: String,
    /// After a record; empty = CR, LF, CRLF.
    pub terminator: String,
    /// The escape character.
    pub escape: String,
    /// Texts that mean NULL; empty where `not_null`.
    pub nulls: Vec<String>,
    /// Texts that mean NULL where the field has no quotes.
    pub unquoted_nulls: Vec<String>,
    /// No field is ever NULL.
    pub not_null: bool,
    /// The first record names the columns.
    pub header: bool,
    /// Fields go to columns by the header's names, not by position.
    pub header_schema_match: bool,
    /// Drop one empty field at the end of each record.
    pub trim_last_separator: bool,
    /// Lines at the start of each file that are dropped unread.
    pub skip_lines: u64,
    /// What a record starts with; what stands before it is dropped.
    pub starting: String,
    /// Quotes and empty lines as LOAD DATA reads them.
    pub lenient: bool,
    /// Of the file.
    pub character_set: CharacterSet,
    /// Stands in for what cannot be converted.
    pub invalid_char_replace: String,
}

/// Lightning's defaults.
impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            separator: ",".into(),
            quote: "\"".into(),
            terminator: String::new(),
            escape: "\\".into(),
            nulls: vec!["\\N".into()],
            unquoted_nulls: Vec::new(),
            not_null: false,
            header: true,
            header_schema_match: true,
            trim_last_separator: false,
            skip_lines: 0,
            starting: String::new(),
            lenient: false,
            character_set: CharacterSet::Binary,
            invalid_char_replace: "\u{fffd}".into(),
        }
    }
}

/// Character set of source data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CharacterSet {
    /// Bytes as they are.
    Binary,
    /// UTF-8, as it is.
    Utf8mb4,
    /// A part of UTF-8, as it is.
    Ascii,
    /// Converted.
    Gb18030,
    /// Converted.
    Gbk,
    /// Windows-1252, converted.
    Latin1,
}

/// Columns of one table, or of the tables of a filter, that are left out.
#[derive(Clone, Debug)]
pub struct IgnoreColumns {
    /// The tables.
    pub tables: TableFilter,
    /// Lower-case column names.
    pub columns: Vec<String>,
}

/// How ranges are cut and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    /// Ranges at once.
    pub range_concurrency: usize,
    /// Most pairs of a write message.
    pub send_kv_pairs: usize,
    /// Most bytes of a write message.
    pub send_kv_bytes: Option<usize>,
    /// Target bytes of a region; `None` = as TiKV is configured.
    pub region_split_bytes: Option<u64>,
    /// Target pairs of a region; `None` = as TiKV is configured.
    pub region_split_keys: Option<u64>,
    /// Bytes per second to each store, over all agents; 0 = no limit.
    pub store_bytes_per_second: u64,
    /// Which regions PD must not move meanwhile.
    pub pause_scope: PauseScope,
    /// Who builds the files that TiKV takes in.
    pub files: IngestFiles,
}

/// Who builds the files that TiKV takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngestFiles {
    /// Every replica, from pairs.
    Write,
    /// The agent, once for all replicas.
    Upload,
    /// The agent where that proves itself, else every replica.
    Auto,
}

/// Which regions PD must not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseScope {
    /// Those of the imported tables.
    Table,
    /// All.
    Global,
}

/// How INSERT statements are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalOptions {
    /// Bytes of values in a statement.
    pub batch_bytes: u64,
    /// Rows in a statement.
    pub batch_rows: u64,
}

/// What to do with duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictOptions {
    /// The strategy.
    pub strategy: ConflictStrategy,
    /// Conflicting rows of the job before it stops.
    pub threshold: u64,
    /// Conflicting rows of the job that are recorded; the others are counted.
    pub record_rows_max: u64,
}

/// Strategy of the backend `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictStrategy {
    /// Do not look.
    None,
    /// Record all of them, keep all of them.
    Record,
    /// Record all of them, keep none of them.
    Remove,
    /// Stop at the first.
    Error,
    /// The last in source order stays.
    Replace,
    /// The first in source order stays.
    Ignore,
}

/// Strategy of the backend `tidb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// `REPLACE INTO`
    Replace,
    /// `INSERT IGNORE INTO`
    Ignore,
    /// `INSERT INTO`
    Error,
}

/// The target cluster.
#[derive(Clone, Debug)]
pub struct TidbOptions {
    /// Of the SQL and the status port.
    pub host: String,
    /// SQL port.
    pub port: u16,
    /// SQL user.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// Status port.
    pub status_port: u16,
    /// `host:port`, without scheme; never empty with the backend `local`.
    pub pd_addrs: Vec<String>,
    /// Variables of every SQL session.
    pub session_vars: BTreeMap<String, String>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signed the server's certificate.
    pub ca: PathBuf,
    /// Certificate and private key of the client.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How much a step at the end matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Its failure fails the job.
    Required,
    /// Its failure is a warning.
    Optional,
    /// It is left out.
    Off,
}
