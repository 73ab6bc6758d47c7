//! From the files of a table to its encode tasks: cut at true record boundaries, columns by each file's
//! header, and disjoint row ids that are a pure function of the files. Which small files share a task is decided in
//! [`crate::plan::packing`].
//!
//! A file that stays in one piece is not read for its plan, but for its first row: only a bound of its rows is known
//! then, and its row ids leave a gap behind them. Where the ids of the table could run out that way, the rows of
//! all its files are counted first.

use crate::job::PACKED_WEIGHT;
use crate::plan::packing::{PlannedFile, pack};
use crate::spread::{self, Opener, Sight};
use std::sync::Arc;
use thunderhead_agent::Look;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_codec::table::row_numbers_max;
use thunderhead_config::{Compression, FileFormat, Job, SourceFile, SourceFormat, SourceTable};
use thunderhead_proto::thunderhead::{EncodeTask, FilePart};
use thunderhead_source::{
    ByteSource, Chunk, SplitPolicy, plan_records, read_columns, rows_max, side_by_side,
};
use thunderhead_types::{Error, ErrorKind, Result};

/// An encode thread should get several chunks, so that none idles at the end; but a chunk that small is
/// not worth a task of its own. Nor is a file: small ones share chunks up to this size.
const CHUNK_BYTES_MIN: u64 = 4 << 20;
const CHUNKS_PER_THREAD: u64 = 4;
/// Files that are looked at side by side: what takes time is the store's answer, or the disk's.
const FILES_AT_ONCE: usize = 8;

/// A table whose files are wanted as chunks.
pub(crate) struct Wanted {
    pub(crate) source: SourceTable,
    pub(crate) info: TableInfo,
    /// The first free id of the target table.
    pub(crate) first_row_id: i64,
}

/// A file as it will be read.
struct FilePlan {
    file: SourceFile,
    source: Arc<dyn ByteSource>,
    format: SourceFormat,
    columns: Vec<String>,
    chunks: Vec<Chunk>,
    /// Row numbers that are set aside for it.
    numbers: u64,
}

/// How the files of one table are cut.
struct Cutting {
    chunk_bytes: u64,
    policy: SplitPolicy,
    /// Bounds of all files together are more than there are row numbers.
    scarce: bool,
}

/// The encode tasks of all `tables`, table by table and in source order. Reads files: see [`crate::prepare::reading`].
///
/// # Errors
/// What is wrong with a file, with its place; what the encoder cannot do, before anything is written.
pub(crate) fn plan_tasks(
    job: &Job,
    opener: &Opener,
    threads: u32,
    tables: &[Wanted],
    session: &Session,
) -> Result<Vec<Vec<EncodeTask>>> {
    let cuttings: Vec<Cutting> = tables
        .iter()
        .map(|table| Cutting::of(job, threads, table))
        .collect();
    let files: Vec<(usize, &SourceFile)> = tables
        .iter()
        .enumerate()
        .flat_map(|(n, table)| table.source.data_files.iter().map(move |file| (n, file)))
        .collect();
    let planned = side_by_side(files.len(), FILES_AT_ONCE, |at| {
        let (n, file) = files[at];
        plan_file(job, (file, opener), &tables[n].info, session, &cuttings[n])
    })?;
    let mut by_table: Vec<Vec<FilePlan>> = tables.iter().map(|_| Vec::new()).collect();
    for ((n, _), plan) in files.into_iter().zip(planned) {
        by_table[n].push(plan);
    }
    let sight = opener.sight();
    let files = by_table.into_iter().zip(tables).zip(cuttings);
    files
        .map(|((files, table), cutting)| {
            let files = planned_files(files, table.first_row_id, sight.as_deref())?;
            Ok(pack(files, cutting.chunk_bytes.min(CHUNK_BYTES_MIN)))
        })
        .collect()
}

impl Cutting {
    fn of(job: &Job, threads: u32, table: &Wanted) -> Self {
        let per_thread = table.source.bytes() / (u64::from(threads) * CHUNKS_PER_THREAD).max(1);
        let bounds = table.source.data_files.iter().map(bound);
        let all = bounds.fold(table.first_row_id.unsigned_abs(), u64::saturating_add);
        Self {
            chunk_bytes: job.chunk_bytes.min(per_thread.max(CHUNK_BYTES_MIN)),
            policy: match job.strict_format {
                true => SplitPolicy::NextTerminator,
                false => SplitPolicy::Cut,
            },
            scarce: all > row_numbers_max(&table.info),
        }
    }
}

/// Rows that a file can have at most, by its size alone.
fn bound(file: &SourceFile) -> u64 {
    rows_max(file.size, file.compression)
}

fn plan_file(
    job: &Job,
    (file, opener): (&SourceFile, &Opener),
    info: &TableInfo,
    session: &Session,
    cutting: &Cutting,
) -> Result<FilePlan> {
    let at_file = |e: Error| Error {
        place: file.path.display().to_string(),
        ..e
    };
    let format = job.format_of(file);
    let opened = opener.open(&file.path, format.compression);
    let source = opened.map_err(at_file)?;
    let columns = columns_of(&source, &format, info, session)?;
    // Parquet says itself how many rows it has.
    let look = match format.kind {
        FileFormat::Parquet => Look {
            has_rows: true,
            numbered: true,
        },
        _ => thunderhead_agent::look(info, session, &source, &format, &columns)?,
    };
    let policy = match cutting.policy {
        SplitPolicy::Cut if cutting.scarce && look.numbered => SplitPolicy::Scan,
        policy => policy,
    };
    let chunks = match look.has_rows {
        true => plan_records(&source, &format, cutting.chunk_bytes, policy)?,
        false => Vec::new(),
    };
    let rows: u64 = chunks.iter().map(|chunk| chunk.rows_max).sum();
    if rows == 0 && !job.allow_empty_files {
        let what = if file.size == 0 {
            "the file is empty"
        } else {
            "the file has no rows"
        };
        return Err(Error::new(ErrorKind::Data, file.path.display(), what)
            .advice("is the export complete? If so, set thunderhead.empty-files = \"allow\""));
    }
    let counted = policy == SplitPolicy::Scan || format.kind == FileFormat::Parquet;
    Ok(FilePlan {
        // Not by how it was cut: the ids must not depend on the number of threads.
        numbers: if counted { rows } else { rows.max(bound(file)) },
        file: file.clone(),
        source,
        format,
        columns,
        chunks,
    })
}

/// What the encode tasks of a table are made of, in source order. `first_row_id` is the first free id of the target
/// table.
///
/// # Errors
/// When its row ids do not suffice.
fn planned_files(
    files: Vec<FilePlan>,
    first_row_id: i64,
    sight: Option<&Sight>,
) -> Result<Vec<PlannedFile>> {
    let mut planned = Vec::new();
    let mut next_file = first_row_id;
    for plan in files {
        let FilePlan { file, source, .. } = plan;
        let no_ids = || {
            Error::new(
                ErrorKind::Precheck,
                file.path.display(),
                "no row ids are left in the target table",
            )
        };
        let after = |row_id: i64, rows: u64| {
            let rows = i64::try_from(rows).ok();
            rows.and_then(|rows| row_id.checked_add(rows))
                .ok_or_else(no_ids)
        };
        let format_json = serde_json::to_vec(&plan.format)
            .map_err(|e| Error::new(ErrorKind::Internal, file.path.display(), e))?;
        let path = file.path.to_string_lossy();
        let mut parts = Vec::new();
        let mut row_id = next_file;
        next_file = after(next_file, plan.numbers)?;
        for chunk in plan.chunks {
            let end = after(row_id, chunk.rows_max)?;
            // A chunk inside of a statement reads the statement's head first.
            let entry = source.entry(chunk.statement.unwrap_or(chunk.offset));
            parts.push(FilePart {
                path: path.clone().into_owned(),
                offset: chunk.offset,
                end: chunk.end,
                file_size: file.size,
                file_modified_ns: file.mtime_ns,
                file_etag: file.etag.clone().unwrap_or_default(),
                row_id_base: row_id,
                row_id_end: end,
                first_line: chunk.first_line,
                statement: chunk.statement,
                entry_stored: entry.map(|entry| entry.stored),
                entry_unpacked: entry.map_or(0, |entry| entry.unpacked),
            });
            row_id = end;
        }
        planned.push(PlannedFile {
            place: spread::place_of(sight, std::iter::once(&*path)).into_owned(),
            weight: weight(&file),
            chunk: EncodeTask {
                parts,
                columns: plan.columns,
                format_json: format_json.into(),
                ..EncodeTask::default()
            },
        });
    }
    Ok(planned)
}

/// How much work a file is, in bytes that are not packed.
fn weight(file: &SourceFile) -> u64 {
    let packed = file.compression != Compression::None || file.format == FileFormat::Parquet;
    file.size
        .saturating_mul(if packed { PACKED_WEIGHT } else { 1 })
}

/// Column of each field as the header names them; empty = in table order, or by each statement. Also proves
/// that the table can be encoded from them.
fn columns_of(
    source: &Arc<dyn ByteSource>,
    format: &SourceFormat,
    info: &TableInfo,
    session: &Session,
) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    let named = format.kind == FileFormat::Parquet || format.csv.header_schema_match;
    if named && format.fields.columns.is_none() {
        columns = read_columns(source, format)?.unwrap_or_default();
        known_columns(source.name(), &columns, &format.fields.ignored, info)?;
    }
    thunderhead_agent::check_fields(info, session, &columns, &format.fields)?;
    Ok(columns)
}

fn known_columns(
    file: &str,
    columns: &[String],
    ignored: &[String],
    info: &TableInfo,
) -> Result<()> {
    let wrong = |cause: String| {
        Err(Error::new(ErrorKind::Data, format!("{file}:1"), cause)
            .advice("mend the header, name the column in [[mydumper.ignore-data-columns]], or set mydumper.csv.header-schema-match = false to take columns in table order"))
    };
    for (i, column) in columns.iter().enumerate() {
        let known = column == "_tidb_rowid"
            || ignored.contains(column)
            || info
                .columns()
                .iter()
                .any(|c| !c.hidden && c.name.lower == *column);
        if !known {
            return wrong(format!(
                "the header names column {column:?}, which table {} does not have",
                info.name.original
            ));
        }
        if columns[..i].contains(column) {
            return wrong(format!("the header names column {column:?} twice"));
        }
    }
    Ok(())
}
