//! `thunderhead inspect`: what a source holds, before it is imported. Needs no cluster and no configuration.

use super::config::ConfigArgs;
use super::{Format, fail};
use crate::inspect::{Inspection, TableView, inspect};
use crate::report::{aligned_left, human_bytes};
use clap::Args;
use std::fmt::Write;
use std::process::ExitCode;
use thunderhead_types::Result;

/// Characters of a value that are shown.
const CELL_MAX: usize = 24;
/// Columns that are shown.
const COLUMNS_MAX: usize = 12;
/// Files of a table that are named.
const FILES_NAMED: usize = 5;

#[derive(Args)]
pub(super) struct InspectArgs {
    /// A directory, a file, or `*` in the last part of a path: local, s3://, gs://, azblob://, http(s)://
    #[arg(value_name = "URI")]
    uri: Option<String>,

    #[command(flatten)]
    config: ConfigArgs,

    /// Rows to show of each table
    #[arg(long, default_value_t = 5)]
    rows: usize,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

pub(super) fn run(args: &InspectArgs) -> ExitCode {
    match look(args) {
        Ok(found) => {
            let text = match args.output {
                Format::Text => text(&found),
                Format::Json => format!("{}\n", serde_json::json!({ "inspection": found })),
            };
            // A reader that has seen enough is no failure.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, args.output),
    }
}

fn look(args: &InspectArgs) -> Result<Inspection> {
    let mut written = args.config.read()?;
    // What a job needs and a look does not.
    for (key, value) in [
        ("tikv-importer.backend", "local"),
        ("tikv-importer.sorted-kv-dir", "sorted-kv"),
        ("tidb.pd-addr", "127.0.0.1:2379"),
    ] {
        written.overrides.push((key.to_owned(), value.to_owned()));
    }
    if let Some(uri) = &args.uri {
        let key = "mydumper.data-source-dir".to_owned();
        written.overrides.push((key, uri.clone()));
    }
    // A configuration is believed, without one the dialect is guessed.
    let described = |text: &str| text.contains("mydumper.csv") || text.contains("statement");
    let given = described(&written.text) || written.overrides.iter().any(|(key, _)| described(key));
    inspect(&written.check()?, given, args.rows)
}

fn text(found: &Inspection) -> String {
    let mut out = format!(
        "{}: {} files, {}, {} tables\n",
        found.source,
        found.files,
        human_bytes(found.bytes),
        found.tables.len()
    );
    for table in &found.tables {
        out.push('\n');
        push_table(&mut out, table);
    }
    if !found.ignored.is_empty() {
        let named: Vec<&str> = found.ignored.iter().take(10).map(String::as_str).collect();
        let rest = found.ignored.len() - named.len();
        let more = if rest > 0 {
            format!(" and {rest} more")
        } else {
            String::new()
        };
        let _ = writeln!(out, "\nnot imported: {}{more}", named.join(", "));
    }
    if found.problems.is_empty() {
        out.push_str("\nno problems found\n");
    } else {
        out.push_str("\nproblems:\n");
        for problem in &found.problems {
            let _ = write!(out, "  {}: {}", problem.place, problem.cause);
            if !problem.advice.is_empty() {
                let _ = write!(out, " ({})", problem.advice);
            }
            out.push('\n');
        }
    }
    out
}

fn push_table(out: &mut String, table: &TableView) {
    let name = match table.database.as_str() {
        "" => table.table.clone(),
        database => format!("{database}.{}", table.table),
    };
    let rows = match table.rows {
        Some(rows) if table.rows_exact => format!("{rows} rows"),
        Some(rows) => format!("about {rows} rows"),
        None => "rows unknown".to_owned(),
    };
    let _ = writeln!(
        out,
        "{name}: {} files, {}, {rows}",
        table.files.len(),
        human_bytes(table.bytes)
    );
    for file in table.files.iter().take(FILES_NAMED) {
        let format = serde_json::to_value(file.format).unwrap_or_default();
        let _ = writeln!(
            out,
            "  {}  {}  {}, {}",
            file.name,
            human_bytes(file.bytes),
            format.as_str().unwrap_or_default(),
            file.compression.name()
        );
    }
    if table.files.len() > FILES_NAMED {
        let _ = writeln!(out, "  and {} more", table.files.len() - FILES_NAMED);
    }
    match &table.schema_file {
        Some(file) => {
            let _ = writeln!(out, "  schema: {file}");
        }
        None => out.push_str("  schema: none in the source, the table must exist\n"),
    }
    if let Some(d) = &table.dialect {
        let source = if d.guessed {
            "dialect, guessed"
        } else {
            "dialect, configured"
        };
        let _ = writeln!(
            out,
            "  {source}: separator = {:?}, delimiter = {:?}, escaped-by = {:?}, header = {}, null = {:?}; lines end with {}, {}",
            d.separator, d.delimiter, d.escaped_by, d.header, d.null, d.line_end, d.encoding
        );
        if d.guessed && d.character_set != "binary" {
            let _ = writeln!(
                out,
                "  mydumper.data-character-set = {:?} seems to be needed",
                d.character_set
            );
        }
    }
    if !table.sample.is_empty() {
        out.push('\n');
        for line in aligned_left(&cells(table)).lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
}

/// The first rows under their names, cut to what a terminal shows.
fn cells(table: &TableView) -> Vec<Vec<String>> {
    let width = table.sample.iter().map(Vec::len).max().unwrap_or(0);
    let mut names = table.columns.clone();
    names.resize_with(width.max(names.len()), String::new);
    for (n, name) in names.iter_mut().enumerate() {
        if name.is_empty() {
            *name = format!("#{}", n + 1);
        }
    }
    let mut rows = vec![names];
    let show = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".to_owned());
    rows.extend(
        table
            .sample
            .iter()
            .map(|row| row.iter().map(show).collect()),
    );
    for row in &mut rows {
        let surplus = row.len() > COLUMNS_MAX;
        row.truncate(COLUMNS_MAX);
        row.iter_mut().for_each(cut);
        if surplus {
            row.push("...".to_owned());
        }
    }
    rows
}

fn cut(cell: &mut String) {
    *cell = cell
        .chars()
        .map(|c| if c.is_control() { '\u{b7}' } else { c })
        .collect();
    if let Some((at, _)) = cell.char_indices().nth(CELL_MAX) {
        cell.truncate(at);
        cell.push_str("...");
    }
}
