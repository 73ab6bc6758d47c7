//! `thunderhead import`: one job in one process, coordinator and agent together.

use super::config::ConfigArgs;
use super::{Format, display, fail, runtime, stop_requested};
use crate::plan::JobPlan;
use crate::progress::Progress;
use crate::run;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use thunderhead_config::Job;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

#[derive(Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,

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
}

pub(super) fn run(args: ImportArgs) -> ExitCode {
    let output = args.output;
    let job = match args.config.load() {
        Ok(job) => job,
        Err(error) => return fail(&error, output),
    };
    match runtime().and_then(|runtime| runtime.block_on(import(&args, job))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, output),
    }
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
