//! The command line: flags, logging, exit codes. Each subcommand is a file; what they do lies in the
//! library.

mod agent;
mod config;
mod conflicts;
mod coordinator;
mod display;
mod import;
mod inspect;
mod remote;
mod sandbox;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use thunderhead_types::Error;

const EXIT_CODES: &str = "\
Exit codes:
  0  done: everything imported and verified
  1  internal: a bug, or this machine failed (disk of the sort directory, memory)
  2  config: the command line or the configuration file is wrong
  3  precheck: the job cannot start as things are; nothing was written
  4  data: the source data is wrong or changed during the import
  5  conflict: conflicting rows beyond what the strategy allows
  6  checksum: what is in the cluster is not what was encoded
  7  cluster: PD, TiKV or TiDB is out of reach or refuses; the same command goes on later
  8  cancelled: stopped by a signal; the same command goes on";

/// Bulk importer for TiDB and TiKV.
#[derive(Parser)]
#[command(name = "thunderhead", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log: error, warn, info, debug, or a tracing filter such as `thunderhead_cluster=debug`
    #[arg(long, global = true, default_value = "warn", env = "THUNDERHEAD_LOG")]
    log: String,

    /// Log lines as text or JSON, on standard error
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Import source files into a TiDB cluster
    Import(Box<import::ImportArgs>),
    /// Show what a source holds: tables, files, dialect, first rows, problems; writes nothing
    Inspect(Box<inspect::InspectArgs>),
    /// Run an agent of a fleet: it encodes, sorts and ingests what coordinators hand out
    Agent(Box<thunderhead_agent::AgentArgs>),
    /// Run a coordinator of a fleet; many may run, one leads
    Coordinator(Box<coordinator::CoordinatorArgs>),
    #[command(flatten)]
    Remote(remote::RemoteCommand),
    /// Show the rows of a job that share a primary or unique key
    Conflicts(conflicts::ConflictsArgs),
    /// Run an embedded development cluster: PD, TiKV stores, a MySQL port and a status port
    Sandbox(sandbox::SandboxArgs),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Text for people, JSON for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = start_log(&cli.log, cli.log_format) {
        return fail(&error, Format::Text);
    }
    match cli.command {
        Command::Import(args) => import::run(*args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Coordinator(args) => coordinator::run(&args),
        Command::Remote(command) => remote::run(&command),
        Command::Conflicts(args) => conflicts::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "thunderhead", &mut script);
            // A reader that has seen enough is no failure.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
            ExitCode::SUCCESS
        }
    }
}

fn start_log(filter: &str, format: Format) -> Result<(), Error> {
    use thunderhead_types::ErrorKind;
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| {
        Error::new(ErrorKind::Config, "--log", e).advice("one of error, warn, info, debug, trace")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(false).init(),
        Format::Json => builder.json().init(),
    }
    Ok(())
}

/// Prints an error the way the user asked for and turns it into the exit code.
fn fail(error: &Error, format: Format) -> ExitCode {
    match format {
        Format::Text => eprintln!("error: {error}"),
        Format::Json => {
            let json = serde_json::json!({"error": {
                "kind": error.kind.name(), "place": error.place, "cause": error.cause, "advice": error.advice,
                "exit_code": error.kind.exit_code(),
            }});
            println!("{json}");
        }
    }
    ExitCode::from(error.kind.exit_code())
}

/// The runtime every command uses for its I/O; CPU work has its own threads.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_name("io")
        .build()
        .map_err(|e| Error::new(thunderhead_types::ErrorKind::Internal, "runtime", e))
}

/// Resolves when the process is asked to stop (Ctrl-C or SIGTERM).
async fn stop_requested() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
