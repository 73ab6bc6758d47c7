//! From the files of a table to its encode tasks: cut at true record boundaries, columns by each file's
//! header, and disjoint row ids that are a pure function of the plan.

use std::sync::Arc;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_config::{FileFormat, Job, SourceFormat, SourceTable};
use thunderhead_proto::thunderhead::EncodeTask;
use thunderhead_source::{
    ByteSource, SourceError, SplitPolicy, plan_records, read_columns, source_at, store::with_access,
};
use thunderhead_types::{Error, ErrorKind, Result};

/// An encode thread should get several chunks, so that none idles at the end; but a chunk that small is
/// not worth a task of its own.
const CHUNK_BYTES_MIN: u64 = 4 << 20;
const CHUNKS_PER_THREAD: u64 = 4;

/// Encode tasks of `table` in source order. `first_row_id` is the first free id of the target table.
///
/// # Errors
/// What is wrong with a file, with its place; what the encoder cannot do, before anything is written.
pub(crate) fn plan(
    job: &Job,
    threads: u32,
    table: &SourceTable,
    info: &TableInfo,
    session: &Session,
    first_row_id: i64,
) -> Result<Vec<EncodeTask>> {
    let per_thread = table.bytes() / (u64::from(threads) * CHUNKS_PER_THREAD).max(1);
    let chunk_bytes = job.chunk_bytes.min(per_thread.max(CHUNK_BYTES_MIN));
    let policy = if job.strict_format {
        SplitPolicy::NextTerminator
    } else {
        SplitPolicy::Scan
    };
    let mut row_id = first_row_id;
    let mut tasks = Vec::new();
    for file in &table.data_files {
        let at_file = |e: SourceError| Error {
            place: file.path.display().to_string(),
            ..e.into()
        };
        let format = job.format_of(file);
        let source = source_at(
            &with_access(&file.path.to_string_lossy(), job.source_access.reveal()),
            format.compression,
        )
        .map_err(at_file)?;
        let chunks = plan_records(&source, &format, chunk_bytes, policy)?;
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
        let columns = columns_of(&source, &format, info, session)?;
        let format_json = serde_json::to_vec(&format)
            .map_err(|e| Error::new(ErrorKind::Internal, file.path.display(), e))?;
        for chunk in chunks {
            let end = i64::try_from(chunk.rows_max)
                .ok()
                .and_then(|rows| row_id.checked_add(rows));
            let end = end.ok_or_else(|| {
                Error::new(
                    ErrorKind::Precheck,
                    file.path.display(),
                    "no row ids are left in the target table",
                )
            })?;
            // A chunk inside of a statement reads the statement's head first.
            let entry = source.entry(chunk.statement.unwrap_or(chunk.offset));
            tasks.push(EncodeTask {
                path: file.path.to_string_lossy().into_owned(),
                offset: chunk.offset,
                end: chunk.end,
                file_size: file.size,
                file_modified_ns: file.mtime_ns,
                file_etag: file.etag.clone().unwrap_or_default(),
                row_id_base: row_id,
                row_id_end: end,
                first_line: chunk.first_line,
                columns: columns.clone(),
                format_json: format_json.clone().into(),
                statement: chunk.statement,
                entry_stored: entry.map(|entry| entry.stored),
                entry_unpacked: entry.map_or(0, |entry| entry.unpacked),
                ..EncodeTask::default()
            });
            row_id = end;
        }
    }
    Ok(tasks)
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
