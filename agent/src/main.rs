//! The `thunderhead-agent` binary: `thunderhead agent` by itself, for hosts that need nothing else.

use clap::Parser;
use std::process::ExitCode;
use thunderhead_agent::{AgentArgs, run_agent};

/// Agent of a Thunderhead fleet: encodes, sorts and ingests what coordinators hand out.
#[derive(Parser)]
#[command(
    name = "thunderhead-agent",
    version,
    about,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    agent: AgentArgs,

    /// What to log: error, warn, info, debug, or a tracing filter
    #[arg(long, default_value = "info", env = "THUNDERHEAD_LOG")]
    log: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match tracing_subscriber::EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: --log: {error}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run_agent(&cli.agent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.kind.exit_code())
        }
    }
}
