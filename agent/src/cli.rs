//! `thunderhead agent`: what an agent process is told, and its life from the first to the last session.

use crate::clusters::Clusters;
use crate::files::FileServer;
use crate::home::Home;
use crate::run_store::RunStore;
use crate::runs::RunServer;
use crate::session;
use crate::worker::{Agent, AgentConfig, regions_in_flight};
use clap::Args;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use thunderhead_cluster::{Connector, Security};
use thunderhead_config::{parse_duration_ms, parse_size};
use thunderhead_net::Listener;
use thunderhead_proto::thunderhead::{files_server::FilesServer, runs_server::RunsServer};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

/// Options of an agent.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Addresses of the coordinators, separated by commas; the agent finds the one that leads
    #[arg(
        long,
        value_name = "URL,…",
        value_delimiter = ',',
        required = true,
        env = "THUNDERHEAD_COORDINATOR"
    )]
    coordinator: Vec<String>,

    /// Directory for sorted runs, on the fastest disk there is; it also keeps the agent's name
    #[arg(long, value_name = "DIR")]
    sort_dir: PathBuf,

    /// Memory for sorting, merging and sending
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    memory: u64,

    /// Disk for runs; 0 = what the file system has
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    disk: u64,

    /// Encode threads; default: number of CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Where other agents read this one's runs; port 0 = a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,

    /// What other agents are told instead of the address listened on
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,

    /// Object store that keeps a copy of every run, such as s3://bucket/prefix: when an agent dies with its disk,
    /// nothing is encoded again. The same for all agents. Credentials belong into the environment
    #[arg(
        long,
        value_name = "URI",
        env = "THUNDERHEAD_RUN_STORE",
        hide_env_values = true
    )]
    run_store: Option<String>,

    /// Source directories or URIs that this agent can read; repeat it; default: all. What is named here is shown to
    /// coordinators that ask for it
    #[arg(long, value_name = "ROOT")]
    readable: Vec<String>,

    /// How long tasks may go on after SIGTERM before they are handed back
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    grace: Duration,

    /// How long another agent may be silent before its runs are encoded again elsewhere
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    peer_patience: Duration,

    /// Certificate authority of coordinators, agents, PD and TiKV; without it nothing is encrypted
    #[arg(long, value_name = "FILE")]
    ca_path: Option<PathBuf>,

    /// This agent's certificate
    #[arg(long, value_name = "FILE", requires_all = ["ca_path", "key_path"])]
    cert_path: Option<PathBuf>,

    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert_path")]
    key_path: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "a size such as 512MiB".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time such as 20s".to_owned())
}

/// Runs an agent until it has left.
///
/// # Errors
/// When it cannot work here, or coordinators refuse it for good.
pub fn run_agent(args: &AgentArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_name("io")
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, "runtime", e))?;
    runtime.block_on(live(args))
}

async fn live(args: &AgentArgs) -> Result<()> {
    let security = Security {
        ca: args.ca_path.clone(),
        cert: args.cert_path.clone(),
        key: args.key_path.clone(),
    };
    // Says now what is wrong with the files.
    Connector::new(&security)?;
    let run_store = args.run_store.as_deref().map(RunStore::open).transpose()?;
    let home = Home::open(&args.sort_dir)?;
    let listener = Listener::bind(&args.listen, &security).await?;
    let address = match &args.advertise {
        Some(address) => address.clone(),
        None => advertised(listener.address(), &args.coordinator)?,
    };
    let cancel = CancellationToken::new();
    let threads = args.threads.unwrap_or_else(cpus);
    let in_flight = regions_in_flight(threads, args.memory);
    let config = AgentConfig {
        id: home.id.clone(),
        sort_dir: home.dir.clone(),
        memory_bytes: args.memory,
        disk_bytes_max: args.disk,
        encode_slots: threads,
        ingest_slots: in_flight,
        readers_max: in_flight as usize,
        address: address.clone(),
        readable: args.readable.clone(),
        security: security.clone(),
        peer_patience: args.peer_patience,
        grace: args.grace,
        run_store,
        hands_back_when_full: true,
    };
    let clusters = Clusters::connecting(
        security.clone(),
        in_flight as usize,
        crate::sst_dir(&home.dir),
        cancel.clone(),
    );
    let agent = Agent::new(config, clusters, cancel.clone())?;
    tracing::info!(id = home.id, address, "agent");
    let runs = RunsServer::new(RunServer::new(&home.dir));
    let files = FilesServer::new(FileServer::new(&args.readable));
    let routes = tonic::service::Routes::new(runs).add_service(files);
    let server = listener.serve(routes.into_axum_router());
    let signals = tokio::spawn(on_signals(agent.asked_to_stop(), cancel.clone()));
    let lived = session::follow(agent, &args.coordinator, &security).await;
    cancel.cancel();
    signals.abort();
    server.stop().await;
    lived
}

/// The first signal asks to stop within the grace period, the second ends everything.
async fn on_signals(asked_to_stop: CancellationToken, cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    for token in [asked_to_stop, cancel] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        token.cancel();
    }
}

fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// What others reach the listener at. For a listener on all addresses: the one that packets to the first coordinator
/// leave from.
fn advertised(listening: SocketAddr, coordinators: &[String]) -> Result<String> {
    if !listening.ip().is_unspecified() {
        return Ok(listening.to_string());
    }
    let coordinator = coordinators.first().map(String::as_str).unwrap_or_default();
    let target = coordinator
        .rsplit("://")
        .next()
        .unwrap_or_default()
        .trim_end_matches('/');
    let outgoing = || -> std::io::Result<IpAddr> {
        // Connecting a datagram socket sends nothing; it only chooses the way.
        let socket = UdpSocket::bind(match listening {
            SocketAddr::V4(_) => "0.0.0.0:0",
            SocketAddr::V6(_) => "[::]:0",
        })?;
        socket.connect(target)?;
        Ok(socket.local_addr()?.ip())
    };
    match outgoing() {
        Ok(ip) => Ok(SocketAddr::new(ip, listening.port()).to_string()),
        Err(e) => Err(Error::new(
            ErrorKind::Config,
            "--listen",
            format!("no address of this host leads to {target}: {e}"),
        )
        .advice("say with --advertise where other agents reach this one")),
    }
}
