//! `thunderhead sandbox`: the embedded development cluster in this process, until a signal.

use super::{Format, fail, runtime, stop_requested};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use thunderhead_sandbox::{Sandbox, SandboxConfig};
use thunderhead_types::{Error, ErrorKind, Result};

#[derive(Args)]
pub(super) struct SandboxArgs {
    /// Where the cluster keeps its data; it survives restarts and kill -9
    #[arg(long)]
    data_dir: PathBuf,

    /// Number of TiKV stores (fixed when the data directory is created)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    stores: u32,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// PD port, gRPC and HTTP; 0 = a free one
    #[arg(long, default_value_t = 2379)]
    pd_port: u16,

    /// MySQL port; 0 = a free one
    #[arg(long, default_value_t = 4000)]
    sql_port: u16,

    /// TiDB status port; 0 = a free one
    #[arg(long, default_value_t = 10080)]
    status_port: u16,

    /// A JSON file with a list of faults to inject from the start
    #[arg(long)]
    faults: Option<PathBuf>,
}

pub(super) fn run(args: &SandboxArgs) -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(serve(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Text),
    }
}
