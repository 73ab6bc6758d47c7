//! What a source holds, for people before they import it: tables with their files, how they are written, their
//! first rows, about how many rows there are, and what would stand in the way. Owns what is looked at and its
//! bounds: every file is listed, few are opened, of each only the start is read. No cluster is needed.

use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thunderhead_config::uri::is_store;
use thunderhead_config::{
    Compression, CsvOptions, FileFormat, Job, ListedFile, SourceFile, SourceFormat, SourceTable,
    SourceTree, list_directory,
};
use thunderhead_source::store::{self, with_access};
use thunderhead_source::{
    ByteSource, Chunk, RecordReader, SplitPolicy, Value, guess, open_records, packed_ratio,
    packing_of, plan_records, read_columns, source_at, stored_at,
};
use thunderhead_types::{Error, ErrorKind, Result};

/// Files that are opened; each costs a request.
const FILES_OPENED_MAX: usize = 200;
/// Rows that are read for the average and for problems.
const ROWS_READ: u64 = 2000;
/// Bytes that a dialect is guessed from.
const HEAD_BYTES: usize = 256 << 10;
/// Problems that are named.
const PROBLEMS_MAX: usize = 50;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inspection {
    /// The source without its secrets.
    pub source: String,
    /// Files listed.
    pub files: usize,
    /// Their bytes as stored.
    pub bytes: u64,
    /// What would be imported, by size.
    pub tables: Vec<TableView>,
    /// Files that belong to no table.
    pub ignored: Vec<String>,
    /// What stands in the way, or looks wrong.
    pub problems: Vec<Problem>,
}

/// A table of the source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableView {
    /// Empty where no name says it.
    pub database: String,
    /// Table.
    pub table: String,
    /// Its CREATE TABLE.
    pub schema_file: Option<String>,
    /// Bytes of its data files as stored.
    pub bytes: u64,
    /// Its data files in source order.
    pub files: Vec<FileView>,
    /// Rows of all files.
    pub rows: Option<u64>,
    /// Whether `rows` was counted and not estimated.
    pub rows_exact: bool,
    /// How its CSV files are written.
    pub dialect: Option<Dialect>,
    /// Names of the columns, where the files give them.
    pub columns: Vec<String>,
    /// The first rows; `null` = NULL.
    pub sample: Vec<Vec<Option<String>>>,
}

/// A data file.
#[derive(Clone, Debug, Serialize)]
pub struct FileView {
    /// Below the source.
    pub name: String,
    /// Bytes as stored.
    pub bytes: u64,
    /// csv, sql or parquet.
    pub format: FileFormat,
    /// What it is packed with.
    pub compression: Compression,
    /// Its rows, counted or estimated.
    pub rows: Option<u64>,
}

/// How CSV files are written.
#[derive(Clone, Debug, Serialize)]
pub struct Dialect {
    /// Guessed, or said by the configuration.
    pub guessed: bool,
    /// `[mydumper.csv]` in its words.
    pub separator: String,
    /// The quote.
    pub delimiter: String,
    /// What follows a record; empty = any line end.
    pub terminator: String,
    /// The escape character; empty = none.
    pub escaped_by: String,
    /// The first record names the columns.
    pub header: bool,
    /// Texts that are NULL.
    pub null: Vec<String>,
    /// `[mydumper] data-character-set`, where bytes are not taken as they are.
    pub character_set: String,
    /// LF, CRLF, CR, mixed or none.
    pub line_end: String,
    /// What the bytes look like.
    pub encoding: String,
}

/// Something that people should look at.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// File, line, byte.
    pub place: String,
    /// What.
    pub cause: String,
    /// What to do; may be empty.
    pub advice: String,
}

impl Problem {
    fn new(place: impl ToString, cause: impl ToString, advice: impl ToString) -> Self {
        Self {
            place: place.to_string(),
            cause: cause.to_string(),
            advice: advice.to_string(),
        }
    }

    fn of(error: Error) -> Self {
        Self::new(error.place, error.cause, error.advice)
    }
}

/// Looks at the source of `job`. `given`: the dialect is the configuration's and not to be guessed; `rows`: how
/// many are shown of each table.
///
/// # Errors
/// When there is nothing to look at.
pub fn inspect(job: &Job, given: bool, rows: usize) -> Result<Inspection> {
    let (root, files, skipped) = list(job)?;
    let mut found = Inspection {
        source: root.display().to_string(),
        files: files.len(),
        bytes: files.iter().map(|file| file.size).sum(),
        ..Inspection::default()
    };
    if files.is_empty() {
        return Err(Error::new(
            ErrorKind::Precheck,
            found.source,
            "there are no files",
        ));
    }
    let tables = match SourceTree::of(job, root, files.clone(), &|file| {
        store::tables_of(job, file)
    }) {
        Ok(tree) => {
            found.ignored = skipped.into_iter().chain(tree.ignored).collect();
            tree.tables
        }
        Err(error) => {
            found.problems.push(Problem::of(error));
            by_suffix(&files)
        }
    };
    let mut opened = 0;
    let with_data = || tables.iter().filter(|table| !table.data_files.is_empty());
    let opened_max = (FILES_OPENED_MAX / with_data().count().max(1)).max(1);
    for table in with_data() {
        let mut look = Look {
            job,
            given,
            rows,
            opened: &mut opened,
            opened_max,
            problems: &mut found.problems,
        };
        let view = look.table(table);
        found.tables.push(view);
    }
    if tables.iter().map(|t| t.data_files.len()).sum::<usize>() > opened {
        let cause = format!("only {opened} files were opened");
        let problem = Problem::new(
            &found.source,
            cause,
            "inspect a part of the source for more",
        );
        found.problems.push(problem);
    }
    found.problems.truncate(PROBLEMS_MAX);
    Ok(found)
}

/// The source as what is shown of it, its files, and names of what is no file.
fn list(job: &Job) -> Result<(PathBuf, Vec<ListedFile>, Vec<String>)> {
    let root = job.source_dir.to_string_lossy();
    if is_store(&root) {
        let files = store::list(&with_access(&root, job.source_access.reveal()))?;
        return Ok((job.source_dir.clone(), files, Vec::new()));
    }
    let name = job
        .source_dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let Some(name) = name.filter(|name| name.contains('*') || job.source_dir.is_file()) else {
        return list_directory(&job.source_dir);
    };
    let directory = match job.source_dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fail = |e: std::io::Error| Error::new(ErrorKind::Precheck, directory.display(), e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let metadata = std::fs::metadata(entry.path()).map_err(fail)?;
        if metadata.is_file() && (found == name || store::matches(&name, &found)) {
            files.push(ListedFile::local(found, entry.path(), &metadata));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((job.source_dir.clone(), files, Vec::new()))
}

/// Files whose names say no table: each by itself.
fn by_suffix(files: &[ListedFile]) -> Vec<SourceTable> {
    let table = |file: &ListedFile| {
        let lower = file.name.to_lowercase();
        let mut stem = lower.as_str();
        let mut compression = Compression::None;
        let packed = [
            (".gz", Compression::Gzip),
            (".gzip", Compression::Gzip),
            (".zst", Compression::Zstd),
            (".zstd", Compression::Zstd),
            (".snappy", Compression::Snappy),
            (".lz4", Compression::Lz4),
            (".xz", Compression::Xz),
            (".bz2", Compression::Bzip2),
            (".bzip2", Compression::Bzip2),
        ];
        for (suffix, packing) in packed {
            if let Some(rest) = stem.strip_suffix(suffix) {
                (stem, compression) = (rest, packing);
            }
        }
        let format = match stem.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("sql") => FileFormat::Sql,
            Some("parquet") => FileFormat::Parquet,
            Some("csv" | "tsv" | "txt" | "tbl" | "dat" | "psv") => FileFormat::Csv,
            _ => return None,
        };
        Some(SourceTable {
            database: String::new(),
            table: file.name.clone(),
            schema_file: None,
            data_files: vec![SourceFile {
                name: file.name.clone(),
                path: file.path.clone(),
                size: file.size,
                mtime_ns: file.mtime_ns,
                etag: file.etag.clone(),
                format,
                compression,
                sort_key: file.name.clone(),
                source_database: String::new(),
                source_table: String::new(),
                only_table: None,
            }],
        })
    };
    files.iter().filter_map(table).collect()
}

/// What is said of one file after a look at its start.
struct Start {
    rows: Option<u64>,
    exact: bool,
    dialect: Option<Dialect>,
    columns: Vec<String>,
    sample: Vec<Vec<Option<String>>>,
}

struct Look<'a> {
    job: &'a Job,
    given: bool,
    rows: usize,
    opened: &'a mut usize,
    /// Of one table, so that one of many files leaves something for the others.
    opened_max: usize,
    problems: &'a mut Vec<Problem>,
}

impl Look<'_> {
    fn table(&mut self, table: &SourceTable) -> TableView {
        let mut view = TableView {
            database: table.database.clone(),
            table: table.table.clone(),
            schema_file: table.schema_file.as_ref().map(|file| file.name.clone()),
            bytes: table.bytes(),
            rows_exact: true,
            ..TableView::default()
        };
        // Rows per stored byte of those that were opened stand for those that were not.
        let (mut rows, mut bytes) = (0, 0);
        for (n, file) in table.data_files.iter().enumerate() {
            let start = (n < self.opened_max).then(|| self.file(file)).flatten();
            if let Some(count) = start.as_ref().and_then(|start| start.rows) {
                (rows, bytes) = (rows + count, bytes + file.size);
            }
            view.rows_exact &= start.as_ref().is_some_and(|start| start.exact);
            view.files.push(FileView {
                name: file.name.clone(),
                bytes: file.size,
                format: file.format,
                compression: file.compression,
                rows: start.as_ref().and_then(|start| start.rows),
            });
            let Some(start) = start else { continue };
            if n == 0 || view.sample.is_empty() {
                (view.columns, view.sample) = (start.columns, start.sample);
                view.dialect = start.dialect;
            } else {
                self.compare(&view, &start, file);
            }
        }
        if bytes > 0 {
            view.rows = Some((rows as f64 * view.bytes as f64 / bytes as f64).round() as u64);
        }
        view
    }

    /// Files of a table should be written alike.
    fn compare(&mut self, view: &TableView, start: &Start, file: &SourceFile) {
        let place = file.path.display();
        if !start.columns.is_empty() && start.columns != view.columns {
            let cause = format!(
                "its columns ({}) are not those of {} ({})",
                start.columns.join(", "),
                view.files[0].name,
                view.columns.join(", ")
            );
            self.problems.push(Problem::new(place, cause, ""));
        } else if let (Some(own), Some(first)) = (&start.dialect, &view.dialect)
            && start.rows != Some(0)
            && (&own.separator, own.header) != (&first.separator, first.header)
        {
            let cause = format!("it does not look like {}", view.files[0].name);
            let advice = "compare the two with `thunderhead inspect FILE`";
            self.problems.push(Problem::new(place, cause, advice));
        }
    }

    /// `None` where the file was not opened, or says nothing.
    fn file(&mut self, file: &SourceFile) -> Option<Start> {
        let place = file.path.display().to_string();
        if *self.opened >= FILES_OPENED_MAX {
            return None;
        }
        *self.opened += 1;
        if file.size == 0 {
            let advice = "leave it out, or allow it with thunderhead.allow-empty-files";
            self.problems
                .push(Problem::new(&place, "the file is empty", advice));
            return None;
        }
        let location = with_access(
            &file.path.to_string_lossy(),
            self.job.source_access.reveal(),
        );
        match self.start(file, &location, &place) {
            Ok(start) => Some(start),
            Err(error) => {
                self.problems.push(Problem::of(error));
                None
            }
        }
    }

    fn start(&mut self, file: &SourceFile, location: &str, place: &str) -> Result<Start> {
        let stored = stored_at(location)?;
        let magic = head(&*stored, 16, place)?;
        let content = packing_of(&magic).unwrap_or(Compression::None);
        // Hadoop's snappy has no mark.
        if content != file.compression && file.compression != Compression::Snappy {
            let cause = format!(
                "its name says {}, its content is {}; the content is believed",
                file.compression.name(),
                content.name()
            );
            self.problems.push(Problem::new(place, cause, ""));
        }
        let source = source_at(location, file.compression)?;
        let mut format = self.job.format_of(file);
        // Whatever the import tolerates is shown as a problem.
        format.skip_malformed = false;
        let mut dialect = None;
        if file.format == FileFormat::Csv {
            dialect = Some(self.dialect(&*source, &mut format, place)?);
        }
        let columns = read_columns(&source, &format)?.unwrap_or_default();
        let (sample, read, bytes, ended) = self.sample(&source, &format, place, columns.len())?;
        let exact_rows = match file.format {
            FileFormat::Parquet => {
                let chunks = plan_records(&source, &format, u64::MAX, SplitPolicy::Scan)?;
                Some(chunks.iter().map(|chunk| chunk.rows_max).sum())
            }
            _ => ended.then_some(read),
        };
        let rows = exact_rows.or_else(|| {
            let size = match source.size().ok()? {
                Some(size) => size as f64,
                None => {
                    file.size as f64 * packed_ratio(stored_at(location).ok()?, file.compression)?
                }
            };
            (read > 0 && bytes > 0).then(|| (size * read as f64 / bytes as f64) as u64)
        });
        Ok(Start {
            rows,
            exact: exact_rows.is_some(),
            dialect,
            columns,
            sample,
        })
    }

    fn dialect(
        &mut self,
        source: &dyn ByteSource,
        format: &mut SourceFormat,
        place: &str,
    ) -> Result<Dialect> {
        let head = head(source, HEAD_BYTES, place)?;
        let guess = guess(&head, head.len() < HEAD_BYTES);
        if guess.encoding == "UTF-16" {
            return Err(Error::new(ErrorKind::Data, place, "the file is UTF-16")
                .advice("convert it to UTF-8 first"));
        }
        if !self.given {
            format.csv = guess.options.clone();
        }
        let separators = (&format.csv.separator, &guess.options.separator);
        if self.given && separators.0 != separators.1 && guess.width > 1 {
            let cause = format!(
                "the separator is {:?} by the configuration, the file looks as if it were {:?}",
                separators.0, separators.1
            );
            self.problems.push(Problem::new(place, cause, ""));
        }
        if guess.line_end == "mixed" && format.csv.quote.is_empty() {
            let cause = "lines end in different ways";
            self.problems.push(Problem::new(place, cause, ""));
        }
        Ok(describe(
            &format.csv,
            !self.given,
            guess.line_end,
            guess.encoding,
        ))
    }

    /// The first rows for people, how many were read, their bytes, and whether these are all.
    #[allow(clippy::type_complexity)]
    fn sample(
        &mut self,
        source: &Arc<dyn ByteSource>,
        format: &SourceFormat,
        place: &str,
        named: usize,
    ) -> Result<(Vec<Vec<Option<String>>>, u64, u64, bool)> {
        let mut reader: Box<dyn RecordReader> = open_records(source, &Chunk::whole(), format)?;
        let (start, mut sample, mut rows) = (reader.offset(), Vec::new(), 0);
        let (mut width, mut ragged) = (named, None);
        while rows < ROWS_READ {
            let count = match reader.advance() {
                Ok(count) => count,
                Err(error) => {
                    self.problems.push(Problem::of(error.into()));
                    break;
                }
            };
            if count == 0 {
                let bytes = reader.offset() - start;
                self.say_ragged(ragged);
                return Ok((sample, rows, bytes, true));
            }
            let mut values = Vec::new();
            for index in 0..count {
                values.clear();
                let at = reader.record(index, &mut values);
                if width == 0 {
                    width = values.len();
                }
                if values.len() != width && format.kind == FileFormat::Csv {
                    ragged = ragged.or(Some((at.place(place), values.len(), width)));
                }
                if sample.len() < self.rows {
                    sample.push(values.iter().map(text_of).collect());
                }
                rows += 1;
            }
        }
        self.say_ragged(ragged);
        Ok((sample, rows, reader.offset() - start, false))
    }

    fn say_ragged(&mut self, ragged: Option<(thunderhead_source::Place, usize, usize)>) {
        if let Some((place, has, width)) = ragged {
            let cause = format!("the record has {has} fields, others have {width}");
            let advice =
                "is the dialect right? thunderhead.ragged-rows = \"accept\" reads such records";
            self.problems.push(Problem::new(place, cause, advice));
        }
    }
}

fn describe(csv: &CsvOptions, guessed: bool, line_end: &str, encoding: &str) -> Dialect {
    let character_set = serde_json::to_value(csv.character_set).unwrap_or_default();
    Dialect {
        guessed,
        separator: csv.separator.clone(),
        delimiter: csv.quote.clone(),
        terminator: csv.terminator.clone(),
        escaped_by: csv.escape.clone(),
        header: csv.header,
        null: csv.nulls.clone(),
        character_set: character_set.as_str().unwrap_or_default().to_owned(),
        line_end: line_end.to_owned(),
        encoding: encoding.to_owned(),
    }
}

fn head(source: &dyn ByteSource, bytes: usize, place: &str) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut head = Vec::new();
    source
        .open_narrow(0)
        .and_then(|stream| stream.take(bytes as u64).read_to_end(&mut head))
        .map_err(|e| Error::new(ErrorKind::Data, place, e))?;
    Ok(head)
}

/// What is no text in hexadecimal.
fn text_of(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Text(bytes) | Value::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!(
                "0x{}",
                bytes.iter().map(|b| format!("{b:02X}")).collect::<String>()
            ),
        },
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Date(days) => date_of(*days),
        Value::Time(micros) => format!("{} s", *micros as f64 / 1e6),
        Value::Timestamp { micros, utc } => {
            let days = micros.div_euclid(86_400_000_000);
            let seconds = micros.rem_euclid(86_400_000_000) as f64 / 1e6;
            let (hours, minutes) = ((seconds / 3600.0) as u32, (seconds / 60.0) as u32 % 60);
            let zone = if *utc { "Z" } else { "" };
            format!(
                "{} {hours:02}:{minutes:02}:{:06.3}{zone}",
                date_of(days),
                seconds % 60.0
            )
        }
    })
}

/// A day of the Gregorian calendar; the algorithm counts years from March.
fn date_of(days: i64) -> String {
    let z = days + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
        ] {
            assert_eq!(date_of(days), text);
        }
    }
}
