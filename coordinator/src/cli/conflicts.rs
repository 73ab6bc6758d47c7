//! `thunderhead conflicts`: which rows of a job shared a primary or unique key, how many, where they stand in the
//! source, and what became of them. Reads the tables of records in TiDB.

use super::{Format, fail, runtime};
use crate::report::aligned;
use crate::target;
use clap::{Args, ValueEnum};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use thunderhead_cluster::{ConflictCount, SHOWN_COLUMNS, ShownConflict, TaskInfo};
use thunderhead_config::{Job, fingerprint};
use thunderhead_types::{Error, ErrorKind, Result};

#[derive(Args)]
pub(super) struct ConflictsArgs {
    /// The job, as its report names it; without it the job of the configuration, as its source is now
    job: Option<String>,

    /// The configuration of the job: says where TiDB is
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,

    /// Rows on a page
    #[arg(long, default_value_t = 50)]
    limit: u64,

    /// Which page, from 1
    #[arg(long, default_value_t = 1)]
    page: u64,

    /// Only the counts
    #[arg(long)]
    counts: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// For people, for spreadsheets, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Counts, then rows
    Text,
    /// Rows only, with a header
    Csv,
    /// One object with counts and rows
    Json,
}

pub(super) fn run(args: &ConflictsArgs) -> ExitCode {
    let format = match args.output {
        Output::Json => Format::Json,
        Output::Text | Output::Csv => Format::Text,
    };
    match runtime().and_then(|runtime| runtime.block_on(show(args))) {
        Ok(text) => {
            // A reader that has seen enough is no failure.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, format),
    }
}

async fn show(args: &ConflictsArgs) -> Result<String> {
    let job = load(args)?;
    let Some(schema) = &job.task_info_schema else {
        let cause = "the configuration records nothing (lightning.task-info-schema-name is empty)";
        return Err(Error::new(ErrorKind::Config, args.config.display(), cause));
    };
    let id = match &args.job {
        Some(id) => id.clone(),
        None => fingerprint::identity(&job, &thunderhead_source::store::scan(&job)?),
    };
    let tidb = target::connect_sql(&job).await?;
    let records = TaskInfo::new(&tidb, schema, &id);
    let found = async {
        let counts = records.counts().await?;
        let limit = if args.counts { 0 } else { args.limit };
        let skip = args.page.saturating_sub(1).saturating_mul(args.limit);
        Ok((counts, records.conflicts(skip, limit).await?))
    };
    let (counts, rows) = match found.await {
        Ok(found) => found,
        // Nothing was ever recorded in this cluster: no such table or database.
        Err(Error { cause, .. }) if cause.contains("1146") || cause.contains("1049") => {
            (Vec::new(), Vec::new())
        }
        Err(error) => return Err(error),
    };
    tidb.close().await;
    Ok(match args.output {
        Output::Text => text(&id, &counts, &rows, args),
        Output::Csv => csv(&rows),
        Output::Json => json(&id, &counts, &rows),
    })
}

fn load(args: &ConflictsArgs) -> Result<Job> {
    let name = args.config.display().to_string();
    let text = std::fs::read_to_string(&args.config)
        .map_err(|e| Error::new(ErrorKind::Config, &name, e))?;
    let overrides = thunderhead_config::environment_overrides(std::env::vars());
    let loaded = thunderhead_config::load(&text, &name, &overrides)
        .map_err(|problems| thunderhead_config::to_error(&problems))?;
    Ok(loaded.job)
}

fn text(
    id: &str,
    counts: &[ConflictCount],
    rows: &[ShownConflict],
    args: &ConflictsArgs,
) -> String {
    if counts.is_empty() {
        return format!("job {id}: no conflicts are recorded\n");
    }
    let header = ["table", "index", "shared keys", "rows"].map(str::to_owned);
    let mut lines = vec![header];
    lines.extend(counts.iter().map(|count| {
        [
            count.table_name.clone(),
            count.index_name.clone(),
            count.groups.to_string(),
            count.participants.to_string(),
        ]
    }));
    let mut text = format!("job {id}\n\n{}", aligned(&lines));
    let mut group = None;
    for row in rows {
        let cell = |name: &str| cell(row, name).unwrap_or("NULL");
        let this = (cell("table_name"), cell("group_id"));
        if group != Some((this.0.to_owned(), this.1.to_owned())) {
            group = Some((this.0.to_owned(), this.1.to_owned()));
            let _ = writeln!(text, "\n{} index {}", this.0, cell("index_name"));
        }
        let _ = writeln!(
            text,
            "  {:<8}{}:{}  {}",
            cell("verdict"),
            cell("path"),
            cell("line"),
            cell("row_data")
        );
    }
    let total: u64 = counts.iter().map(|count| count.participants).sum();
    if !args.counts && (rows.len() as u64) < total {
        let _ = writeln!(
            text,
            "\npage {} of at most {}; --page and --limit show others, rows beyond conflict.max-record-rows are only counted",
            args.page,
            total.div_ceil(args.limit.max(1))
        );
    }
    text
}

fn cell<'a>(row: &'a ShownConflict, name: &str) -> Option<&'a str> {
    let at = SHOWN_COLUMNS.iter().position(|column| *column == name)?;
    row.get(at)?.as_deref()
}

fn csv(rows: &[ShownConflict]) -> String {
    let mut text = SHOWN_COLUMNS.join(",");
    text.push('\n');
    for row in rows {
        let cells = row.iter().map(|cell| match cell {
            None => "\\N".to_owned(),
            Some(cell) if cell.contains(['"', ',', '\n', '\r']) => {
                format!("\"{}\"", cell.replace('"', "\"\""))
            }
            Some(cell) => cell.clone(),
        });
        text.push_str(&cells.collect::<Vec<_>>().join(","));
        text.push('\n');
    }
    text
}

fn json(id: &str, counts: &[ConflictCount], rows: &[ShownConflict]) -> String {
    let counts = counts.iter().map(|count| {
        serde_json::json!({
            "table": count.table_name, "index": count.index_name,
            "shared_keys": count.groups, "rows": count.participants,
        })
    });
    let rows = rows.iter().map(|row| {
        let cells = SHOWN_COLUMNS.iter().zip(row).map(|(name, value)| {
            let numbers = ["group_id", "line", "offset", "row_id"];
            let number = value.as_ref().and_then(|v| v.parse::<u64>().ok());
            let value = match number {
                Some(number) if numbers.contains(name) => number.into(),
                _ => serde_json::Value::from(value.clone()),
            };
            ((*name).to_owned(), value)
        });
        serde_json::Value::Object(cells.collect())
    });
    let whole = serde_json::json!({
        "job": id,
        "counts": counts.collect::<Vec<_>>(),
        "conflicts": rows.collect::<Vec<_>>(),
    });
    format!("{whole}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_has_to_be_quoted() {
        let row: ShownConflict = [
            "`d`.`t`",
            "PRIMARY",
            "0",
            "kept",
            "a,b.csv",
            "3",
            "9",
            "1",
            "(1, '\"x\"')",
        ]
        .map(|cell| Some(cell.to_owned()))
        .into_iter()
        .chain([None])
        .collect();
        assert_eq!(
            csv(&[row]).lines().nth(1),
            Some("`d`.`t`,PRIMARY,0,kept,\"a,b.csv\",3,9,1,\"(1, '\"\"x\"\"')\",\\N")
        );
    }
}
