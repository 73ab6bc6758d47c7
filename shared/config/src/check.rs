//! From what was written to a [`Job`]: rules that involve meaning or more than one key. Every problem is
//! collected, so that one run shows them all; names, types and bounds were checked by [`crate::raw`].

mod csv;
mod target;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::filter::TableFilter;
use crate::job::{
    Backend, FieldOptions, IgnoreColumns, IngestFiles, IngestOptions, Job, Level, LogicalOptions,
    PauseScope,
};
use crate::problem::{Note, Problem};
use crate::raw::Written;
use crate::routes::{Origin, Route, Routes};
use crate::routing::{FileRules, RuleText};
use crate::secret::Secret;
use crate::statement::{self, Statement};
use crate::uri::{STORE_SCHEMES, SourceUri, is_store, looks_like_store};
use crate::value::Value;

/// A job and what its author should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The job.
    pub job: Job,
    /// Keys without effect and assumptions, in file order.
    pub notes: Vec<Note>,
}

/// Reads and checks a configuration. `origin` names the text in messages; `overrides` are dotted keys with
/// their values as text, the last one of a key winning. Returns all problems, in file order.
pub fn load(
    text: &str,
    origin: &str,
    overrides: &[(String, String)],
) -> Result<Loaded, Vec<Problem>> {
    let mut written = Written::read(text, origin, overrides);
    let statement = statement(&mut written);
    // Without the document every required key would seem to be missing.
    let job = if written.unreadable {
        None
    } else {
        job(&mut written)
    };
    written
        .problems
        .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
    written
        .notes
        .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
    match job {
        Some(mut job) if written.problems.is_empty() => {
            if let Some(statement) = statement {
                statement.apply(&mut job);
            }
            Ok(Loaded {
                job,
                notes: written.notes,
            })
        }
        _ => Err(written.problems),
    }
}

/// The statement that defines the job, if there is one; what it says of keys goes over the written ones.
fn statement(w: &mut Written) -> Option<Statement> {
    let key = "thunderhead.statement";
    let text = w.root.text(key);
    if text.trim().is_empty() {
        return None;
    }
    match statement::parse(&text) {
        Ok(statement) => {
            for (key, value) in &statement.overrides {
                w.take_override(key, value);
            }
            Some(statement)
        }
        Err(error) => {
            w.problem_at(
                key,
                error.to_string(),
                "write LOAD DATA … or IMPORT INTO … FROM …",
            );
            None
        }
    }
}

/// `None` only where a problem was reported.
fn job(w: &mut Written) -> Option<Job> {
    let backend = backend(w);
    let (source_dir, source_access) = source_dir(w).unzip();
    let sorted_kv_dir = sorted_kv_dir(w, backend, source_dir.as_deref());
    let case_sensitive = w.root.flag("mydumper.case-sensitive").unwrap_or(false);
    let filter = filter(w, case_sensitive);
    let file_rules = file_rules(w, source_dir.as_deref());
    let routes = routes(w, case_sensitive);
    let ignore_columns = ignore_columns(w, case_sensitive);
    let csv = csv::csv(w);
    let strict_format = csv::strict_format(w);
    let security = target::tls_files(w, "security", None);
    let tidb = target::tidb(w, backend, security.as_ref());
    let (conflict, on_duplicate) = target::conflict(w, backend);
    if w.root.text("mydumper.character-set") == "gb18030" {
        w.problem_at(
            "mydumper.character-set",
            "GB18030 schema files are not supported",
            "convert them to UTF-8",
        );
    }
    if let (Some(1..), Some(dir)) = (w.root.number("thunderhead.source-agents"), &source_dir)
        && is_store(&dir.to_string_lossy())
    {
        w.problem_at(
            "thunderhead.source-agents",
            "every agent can read an object store",
            "leave it out",
        );
    }
    Some(Job {
        backend: backend?,
        source_dir: source_dir?,
        source_access: source_access?,
        file_rules: file_rules?,
        filter: filter?,
        routes,
        ignore_columns,
        statement_fields: FieldOptions::default(),
        ragged_rows: w.root.text("thunderhead.ragged-rows") == "accept",
        source_id: w.root.text("mydumper.source-id"),
        no_schema: w.root.flag("mydumper.no-schema")?,
        csv,
        strict_format,
        source_agents: w.root.number("thunderhead.source-agents")?,
        allow_empty_files: w.root.text("thunderhead.empty-files") == "allow",
        chunk_bytes: w.root.number("mydumper.max-region-size")?,
        sorted_kv_dir,
        disk_quota: disk_quota(w),
        threads: w
            .root
            .number("lightning.region-concurrency")
            .map(|n| n as usize),
        memory_bytes: w.root.number("thunderhead.memory")?,
        ingest: ingest(w)?,
        logical: LogicalOptions {
            batch_bytes: w.root.number("tikv-importer.logical-import-batch-size")?,
            batch_rows: w.root.number("tikv-importer.logical-import-batch-rows")?,
        },
        conflict,
        on_duplicate,
        parallel_import: w.root.flag("tikv-importer.parallel-import")?
            || w.root.flag("tikv-importer.incremental-import")?,
        type_errors_max: type_errors_max(w),
        task_info_schema: task_info_schema(w),
        sql_mode: target::sql_mode(w),
        tidb,
        security,
        checksum: level(&w.root.text("post-restore.checksum")),
        analyze: level(&w.root.text("post-restore.analyze")),
        log_progress: Duration::from_millis(w.root.number("cron.log-progress")?),
        retry_time: Duration::from_millis(w.root.number("thunderhead.retry-time")?),
    })
}

impl Written {
    /// Reports a missing key, unless it is there with another problem.
    fn missing(&mut self, key: &str, advice: &str) {
        if !self.problems.iter().any(|p| p.key == key) {
            self.problem(0, key, "it must be given", advice);
        }
    }
}

fn backend(w: &mut Written) -> Option<Backend> {
    let key = "tikv-importer.backend";
    match w.root.text(key).as_str() {
        "local" => return Some(Backend::Local),
        "tidb" => return Some(Backend::Tidb),
        "" => w.missing(
            key,
            "\"local\" for empty tables, \"tidb\" to insert through SQL",
        ),
        other => {
            let message = format!("the backend {other:?} is not supported");
            w.problem_at(key, message, "use \"local\" or \"tidb\"");
        }
    }
    None
}

fn source_dir(w: &mut Written) -> Option<(PathBuf, Secret)> {
    let key = "mydumper.data-source-dir";
    let text = w.root.text(key);
    if text.is_empty() {
        w.missing(key, "name the directory of the source files");
        return None;
    }
    let path = match text.split_once("://") {
        None if looks_like_store(&text) => {
            let advice = "write s3://bucket/path?endpoint=…, gs://, azblob:// or https://";
            w.problem_at(
                key,
                "this is neither a path nor a URI with its scheme",
                advice,
            );
            return None;
        }
        None => text.as_str(),
        Some(("file" | "local", path)) if path.starts_with('/') => path,
        Some(("file" | "local", _)) => {
            w.problem_at(
                key,
                "the path in this URL is not absolute",
                "write file:///path",
            );
            return None;
        }
        Some(_) if is_store(&text) => match SourceUri::parse(&text) {
            Ok(uri) => return Some((PathBuf::from(uri.shown), uri.access)),
            Err(reason) => {
                let advice = "write s3://bucket/path?endpoint=…, gs://, azblob:// or https://";
                w.problem_at(key, format!("this URI cannot be read: {reason}"), advice);
                return None;
            }
        },
        Some(_) => {
            let advice = format!("use a path or one of {}://", STORE_SCHEMES.join("://, "));
            w.problem_at(key, "sources of this kind are not supported", advice);
            return None;
        }
    };
    Some((PathBuf::from(path), Secret::default()))
}

fn sorted_kv_dir(w: &mut Written, backend: Option<Backend>, source: Option<&Path>) -> PathBuf {
    let key = "tikv-importer.sorted-kv-dir";
    let text = w.root.text(key);
    if text.is_empty() {
        if backend == Some(Backend::Local) {
            let line = w.root.line_of(key);
            w.note(
                line,
                key,
                "empty: using the directory sorted-kv below the working directory",
            );
        }
        return PathBuf::from("sorted-kv");
    }
    let dir = PathBuf::from(text);
    if source.is_some_and(|source| dir.starts_with(source)) {
        w.problem_at(
            key,
            "it lies inside of mydumper.data-source-dir",
            "name a directory elsewhere, best on another disk",
        );
    }
    dir
}

fn filter(w: &mut Written, case_sensitive: bool) -> Option<TableFilter> {
    let key = "mydumper.filter";
    match TableFilter::parse(w.root.texts(key), case_sensitive) {
        Ok(filter) => Some(filter),
        Err(errors) => {
            for error in errors {
                w.problem_at(key, error.to_string(), "");
            }
            None
        }
    }
}

fn file_rules(w: &mut Written, source: Option<&Path>) -> Option<FileRules> {
    let text = |group: &crate::raw::Group| RuleText {
        pattern: group.text("mydumper.files[].pattern"),
        path: group.text("mydumper.files[].path"),
        schema: group.text("mydumper.files[].schema"),
        table: group.text("mydumper.files[].table"),
        kind: group.text("mydumper.files[].type"),
        key: group.text("mydumper.files[].key"),
        compression: match group.written("mydumper.files[].compression") {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        },
    };
    let groups = w.list("mydumper.files");
    let lines: Vec<usize> = groups.iter().map(|group| group.line).collect();
    let texts: Vec<RuleText> = groups.iter().map(text).collect();
    let defaults = w
        .root
        .flag("mydumper.default-file-rules")
        .unwrap_or(texts.is_empty());
    if texts.is_empty() && !defaults {
        let advice = "give [[mydumper.files]] or leave the key out";
        w.problem_at(
            "mydumper.default-file-rules",
            "no rule would be left to recognise a file",
            advice,
        );
    }
    let root = source
        .unwrap_or(Path::new(""))
        .to_string_lossy()
        .into_owned();
    match FileRules::new(&texts, &root, defaults) {
        Ok(rules) => Some(rules),
        Err(wrong) => {
            for (index, key, reason) in wrong {
                let path = format!("mydumper.files[].{key}");
                let line = w
                    .list("mydumper.files")
                    .get(index)
                    .map_or(lines[index], |g| g.line_of(&path));
                w.problem(line, &path, reason, "");
            }
            None
        }
    }
}

fn routes(w: &mut Written, case_sensitive: bool) -> Routes {
    let (mut rules, mut wrong) = (Vec::new(), Vec::new());
    for group in w.list("routes") {
        let text = |key: &str| group.text(&format!("routes[].{key}"));
        let (schema, table) = (text("schema-pattern"), text("table-pattern"));
        match Route::parse(
            &schema,
            &table,
            &text("target-schema"),
            &text("target-table"),
            case_sensitive,
        ) {
            Ok(mut rule) => {
                for (origin, what) in [
                    (Origin::Table, "table"),
                    (Origin::Schema, "schema"),
                    (Origin::Source, "source"),
                ] {
                    let regexp = text(&format!("extract-{what}.{what}-regexp"));
                    let column = text(&format!("extract-{what}.target-column"));
                    if let Err((key, reason)) = rule.extract(origin, &regexp, &column) {
                        let path = format!("routes[].{key}");
                        wrong.push((group.line_of(&path), path, reason));
                    }
                }
                rules.push(rule);
            }
            Err((key, reason)) => {
                let path = format!("routes[].{key}");
                wrong.push((group.line_of(&path), path, reason));
            }
        }
    }
    if let (Some(route), [_, ..]) = (w.list("routes").first(), w.list("mydumper.files")) {
        let reason = "it cannot be combined with [[mydumper.files]]".to_owned();
        wrong.push((route.line, "routes".to_owned(), reason));
    }
    for (line, path, reason) in wrong {
        let advice = if path == "routes" {
            "give the target names in [[mydumper.files]]"
        } else {
            ""
        };
        w.problem(line, &path, reason, advice);
    }
    Routes::new(rules)
}

fn ignore_columns(w: &mut Written, case_sensitive: bool) -> Vec<IgnoreColumns> {
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    for group in w.list("mydumper.ignore-data-columns") {
        let path = |key: &str| format!("mydumper.ignore-data-columns[].{key}");
        let (db, table) = (group.text(&path("db")), group.text(&path("table")));
        let rules = group.texts(&path("table-filter"));
        let mut bad =
            |key: &str, reason: String| wrong.push((group.line_of(&path(key)), path(key), reason));
        let tables = match (rules.is_empty(), db.is_empty() || table.is_empty()) {
            (false, _) => match TableFilter::parse(&rules, case_sensitive) {
                Ok(filter) => Some(filter),
                Err(errors) => {
                    errors
                        .iter()
                        .for_each(|e| bad("table-filter", e.to_string()));
                    None
                }
            },
            (true, false) => TableFilter::one_table(&db, &table, case_sensitive),
            (true, true) => {
                bad(
                    "db",
                    "db and table, or table-filter, must be given".to_owned(),
                );
                None
            }
        };
        let columns: Vec<String> = group
            .texts(&path("columns"))
            .iter()
            .map(|c| c.to_lowercase())
            .collect();
        if columns.is_empty() {
            bad("columns", "it must be given".to_owned());
        }
        good.extend(tables.map(|tables| IgnoreColumns { tables, columns }));
    }
    for (line, path, reason) in wrong {
        w.problem(line, &path, reason, "");
    }
    good
}

fn disk_quota(w: &mut Written) -> Option<u64> {
    let (ours, theirs) = ("thunderhead.disk-quota", "tikv-importer.disk-quota");
    let (own, other) = (w.root.number(ours), w.root.number(theirs));
    if own.is_some() && other.is_some() && own != other {
        w.problem_at(ours, "it differs from tikv-importer.disk-quota", "keep one");
    }
    own.or(other).filter(|bytes| *bytes > 0)
}

fn ingest(w: &Written) -> Option<IngestOptions> {
    let number = |key: &str| w.root.number(&format!("tikv-importer.{key}"));
    Some(IngestOptions {
        range_concurrency: number("range-concurrency")? as usize,
        send_kv_pairs: number("send-kv-pairs")? as usize,
        send_kv_bytes: number("send-kv-size").map(|n| n as usize),
        region_split_bytes: number("region-split-size"),
        region_split_keys: number("region-split-keys"),
        store_bytes_per_second: number("store-write-bwlimit")?,
        pause_scope: match w
            .root
            .text("tikv-importer.pause-pd-scheduler-scope")
            .as_str()
        {
            "global" => PauseScope::Global,
            _ => PauseScope::Table,
        },
        files: match w.root.text("thunderhead.ingest").as_str() {
            "upload" => IngestFiles::Upload,
            "write" => IngestFiles::Write,
            _ => IngestFiles::Auto,
        },
    })
}

fn type_errors_max(w: &mut Written) -> u64 {
    let own = w.root.number("lightning.max-error").unwrap_or(0);
    let typed = w.root.number("lightning.max-error.type").unwrap_or(0);
    own.max(typed)
}

fn task_info_schema(w: &mut Written) -> Option<String> {
    let key = "lightning.task-info-schema-name";
    let name = w.root.text(key);
    if name.chars().count() > 64 {
        w.problem_at(key, "a database name has at most 64 characters", "");
    }
    (!name.is_empty()).then_some(name)
}

fn level(word: &str) -> Level {
    match word {
        "required" => Level::Required,
        "optional" => Level::Optional,
        _ => Level::Off,
    }
}
