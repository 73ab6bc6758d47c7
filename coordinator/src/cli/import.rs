//! `thunderhead import`: one job in one process, coordinator and agent together.

use super::{Format, display, fail, runtime, stop_requested};
use crate::plan::JobPlan;
use crate::progress::Progress;
use crate::run;
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thunderhead_config::Job;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

#[derive(Args)]
pub(super) struct ImportArgs {
    /// A TiDB Lightning configuration (TOML); `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the plan (files, chunks, tables, bytes, disk, time) and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Progress and report as text or as JSON lines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,

    /// Also write the final report as JSON to this file
    #[arg(long, value_name = "FILE")]
    report_file: Option<PathBuf>,

    /// Do not show progress
    #[arg(long)]
    no_progress: bool,

    /// Directory of the source files [mydumper.data-source-dir]
    #[arg(long, short = 'd', value_name = "DIR")]
    data_source_dir: Option<String>,

    /// Directory for sorted runs and the job's state [tikv-importer.sorted-kv-dir]
    #[arg(long, value_name = "DIR")]
    sorted_kv_dir: Option<String>,

    /// How rows reach the cluster: local [tikv-importer.backend]
    #[arg(long)]
    backend: Option<String>,

    /// Tables to import, such as `db.*,!db.tmp*` [mydumper.filter]
    #[arg(long, short)]
    filter: Option<String>,

    /// TiDB host [tidb.host]
    #[arg(long, value_name = "HOST")]
    tidb_host: Option<String>,

    /// TiDB MySQL port [tidb.port]
    #[arg(long, value_name = "PORT")]
    tidb_port: Option<String>,

    /// TiDB status port [tidb.status-port]
    #[arg(long, value_name = "PORT")]
    tidb_status_port: Option<String>,

    /// TiDB user [tidb.user]
    #[arg(long, value_name = "USER")]
    tidb_user: Option<String>,

    /// File that holds the password; the environment variable THUNDERHEAD_TIDB_PASSWORD serves too
    #[arg(long, value_name = "FILE")]
    tidb_password_file: Option<PathBuf>,

    /// PD addresses, separated by commas [tidb.pd-addr]
    #[arg(long, value_name = "ADDRESSES")]
    pd_urls: Option<String>,

    /// Encode threads [lightning.region-concurrency]
    #[arg(long, value_name = "N")]
    threads: Option<String>,

    /// Memory for sorting, merging and sending, such as 512MiB [thunderhead.memory]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// Any other key of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(super) fn run(args: ImportArgs) -> ExitCode {
    let output = args.output;
    let job = match load(&args) {
        Ok(job) => job,
        Err(error) => return fail(&error, output),
    };
    match runtime().and_then(|runtime| runtime.block_on(import(&args, job))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, output),
    }
}

fn load(args: &ImportArgs) -> Result<Job> {
    let config =
        |place: &str, cause: &dyn std::fmt::Display| Error::new(ErrorKind::Config, place, cause);
    let (text, origin) = match &args.config {
        None => (String::new(), "command line".to_owned()),
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| config("standard input", &e))?;
            (text, "standard input".to_owned())
        }
        Some(path) => {
            let name = path.display().to_string();
            (
                std::fs::read_to_string(path).map_err(|e| config(&name, &e))?,
                name,
            )
        }
    };
    let mut overrides = thunderhead_config::environment_overrides(std::env::vars());
    let flags = [
        ("mydumper.data-source-dir", &args.data_source_dir),
        ("tikv-importer.sorted-kv-dir", &args.sorted_kv_dir),
        ("tikv-importer.backend", &args.backend),
        ("mydumper.filter", &args.filter),
        ("tidb.host", &args.tidb_host),
        ("tidb.port", &args.tidb_port),
        ("tidb.status-port", &args.tidb_status_port),
        ("tidb.user", &args.tidb_user),
        ("tidb.pd-addr", &args.pd_urls),
        ("lightning.region-concurrency", &args.threads),
        ("thunderhead.memory", &args.memory),
    ];
    overrides.extend(
        flags
            .iter()
            .filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?))),
    );
    for pair in &args.set {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| config("--set", &format!("{pair:?} is not KEY=VALUE")))?;
        overrides.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some(path) = &args.tidb_password_file {
        let password =
            std::fs::read_to_string(path).map_err(|e| config(&path.display().to_string(), &e))?;
        overrides.push((
            "tidb.password".to_owned(),
            password.trim_end_matches(['\r', '\n']).to_owned(),
        ));
    }
    let loaded = thunderhead_config::load(&text, &origin, &overrides)
        .map_err(|problems| thunderhead_config::to_error(&problems))?;
    for note in &loaded.notes {
        eprintln!("note: {note}");
    }
    Ok(loaded.job)
}

async fn import(args: &ImportArgs, job: Job) -> Result<()> {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let signals = tokio::spawn(async move {
        stop_requested().await;
        eprintln!("stopping: closing what is open in the cluster; the same command goes on later");
        cancel.cancel();
        stop_requested().await;
        std::process::exit(i32::from(ErrorKind::Cancelled.exit_code()));
    });
    let result = if args.dry_run {
        dry_run(args, &job, &stop).await
    } else {
        start(args, &job, stop).await
    };
    signals.abort();
    result
}

async fn dry_run(args: &ImportArgs, job: &Job, stop: &CancellationToken) -> Result<()> {
    let plan: JobPlan = run::dry_run(job, stop).await?;
    match args.output {
        Format::Text => print!("{}", plan.to_text()),
        Format::Json => println!("{}", plan.to_json()),
    }
    Ok(())
}

async fn start(args: &ImportArgs, job: &Job, stop: CancellationToken) -> Result<()> {
    let (progress, watch) = Progress::new();
    let shown = (!args.no_progress).then(|| tokio::spawn(display::show(watch, args.output)));
    let result = run::run(job, progress, stop).await;
    if let Some(shown) = shown {
        let _ = shown.await;
    }
    let report = result?;
    let json =
        serde_json::to_string(&report).map_err(|e| Error::new(ErrorKind::Internal, "report", e))?;
    if let Some(path) = &args.report_file {
        std::fs::write(path, format!("{json}\n"))
            .map_err(|e| Error::new(ErrorKind::Internal, path.display(), e))?;
    }
    match args.output {
        Format::Text => print!("{}", report.to_text()),
        Format::Json => println!("{{\"report\":{json}}}"),
    }
    Ok(())
}
