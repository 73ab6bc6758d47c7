//! `thunderhead sandbox`: the embedded development cluster in this process, until a signal.

use super::{Format, fail, runtime, stop_requested};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use thunderhead_config::parse_duration_ms;
use thunderhead_net::Security;
use thunderhead_sandbox::{Fault, Profile, Sandbox, SandboxConfig};
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

    /// Which release the servers claim to be: tikv-5.1, tikv-7.5, tikv-8.1, tikv-8.5 or tikv-9.0
    #[arg(long, value_parser = profile, default_value = "tikv-9.0")]
    profile: Profile,

    /// How often stores delete files that no ingest took; TiKV does every ten minutes
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    sweep_interval: Duration,

    /// A JSON file with a list of faults to inject from the start
    #[arg(long)]
    faults: Option<PathBuf>,

    /// Serve under TLS: certificate authority of the clients' certificates (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,

    /// The certificate to show (PEM)
    #[arg(long, value_name = "FILE", requires = "ca")]
    cert: Option<PathBuf>,

    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
}

fn profile(name: &str) -> std::result::Result<Profile, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time such as 10s".to_owned())
}

pub(super) fn run(args: &SandboxArgs) -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(serve(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Text),
    }
}

async fn serve(args: &SandboxArgs) -> Result<()> {
    let mut config = SandboxConfig::new(&args.data_dir);
    config.stores = args.stores;
    config.host.clone_from(&args.host);
    config.pd_port = args.pd_port;
    config.sql_port = args.sql_port;
    config.status_port = args.status_port;
    config.profile = args.profile;
    config.sweep_interval = args.sweep_interval;
    config.faults = faults(args)?;
    config.security = Security {
        ca: args.ca.clone(),
        cert: args.cert.clone(),
        key: args.key.clone(),
    };
    let sandbox = Sandbox::start(config).await?;
    let addresses = sandbox.addresses();
    publish(args, addresses)?;
    println!("PD      {}", addresses.pd);
    println!(
        "MySQL   mariadb --protocol=tcp -h {} -P {} -u root",
        args.host, addresses.sql_port
    );
    println!(
        "status  http://{}:{}/status",
        args.host, addresses.status_port
    );
    println!(
        "stop with Ctrl-C; the data stays in {}",
        args.data_dir.display()
    );
    stop_requested().await;
    sandbox.shutdown().await;
    Ok(())
}

fn faults(args: &SandboxArgs) -> Result<Vec<Fault>> {
    let Some(path) = &args.faults else {
        return Ok(Vec::new());
    };
    let error = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Config, path.display(), e);
    let text = std::fs::read_to_string(path).map_err(|e| error(&e))?;
    serde_json::from_str(&text).map_err(|e| error(&e))
}

/// Writes the addresses beside the data for those who asked for free ports; renamed so that nobody reads half.
fn publish(args: &SandboxArgs, addresses: &thunderhead_sandbox::Addresses) -> Result<()> {
    let json = serde_json::json!({"pd": addresses.pd, "sql_port": addresses.sql_port, "status_port": addresses.status_port});
    let (unfinished, path) = (
        args.data_dir.join("addresses.json.tmp"),
        args.data_dir.join("addresses.json"),
    );
    let write = || {
        std::fs::write(&unfinished, json.to_string())?;
        std::fs::rename(&unfinished, &path)
    };
    write().map_err(|e: std::io::Error| Error::new(ErrorKind::Internal, path.display(), e))
}
