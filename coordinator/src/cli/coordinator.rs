//! `thunderhead coordinator`: one of the coordinators of a fleet, until a signal.

use super::remote::Tls;
use super::{Format, fail, runtime, stop_requested};
use crate::fleet::FleetOptions;
use crate::service::{self, CoordinatorConfig};
use crate::store::{EtcdConfig, EtcdStore};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use thunderhead_cluster::Security;
use thunderhead_config::parse_duration_ms;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

#[derive(Args)]
pub(super) struct CoordinatorArgs {
    /// Addresses of etcd, separated by commas; PD's own etcd serves too
    #[arg(long, value_name = "URL,…", value_delimiter = ',', required = true)]
    etcd: Vec<String>,

    /// Every key of this fleet in etcd begins with it
    #[arg(long, value_name = "PREFIX", default_value = "/thunderhead")]
    prefix: String,

    /// User at etcd; the password is in the environment variable THUNDERHEAD_ETCD_PASSWORD
    #[arg(long, value_name = "USER")]
    etcd_user: Option<String>,

    /// Certificate authority, certificate and key towards etcd when they are not those of the fleet:
    /// CA,CERT,KEY
    #[arg(long, value_name = "FILES", value_delimiter = ',', num_args = 1)]
    etcd_tls: Vec<PathBuf>,

    /// Where agents and people are served, gRPC and HTTP; port 0 = a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8287")]
    listen: String,

    /// What agents and people are told instead of the address listened on
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,

    /// How long a leader leads without renewing its lease; another takes over within twice of it
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    lease: Duration,

    /// An agent that is silent for this long loses its tasks
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    agent_lease: Duration,

    /// An agent that is silent for this long is taken for lost with its disk: what it encoded is encoded again
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    runs_grace: Duration,

    /// File that holds TiDB's password for jobs submitted without one; the environment variable
    /// THUNDERHEAD_TIDB_PASSWORD serves too
    #[arg(long, value_name = "FILE")]
    tidb_password_file: Option<PathBuf>,

    #[command(flatten)]
    tls: Tls,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text)
        .filter(|ms| *ms >= 1000)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time of at least 1s".to_owned())
}

pub(super) fn run(args: &CoordinatorArgs) -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(serve(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Text),
    }
}

async fn serve(args: &CoordinatorArgs) -> Result<()> {
    let tidb_password = match &args.tidb_password_file {
        None => std::env::var("THUNDERHEAD_TIDB_PASSWORD").ok(),
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| Error::new(ErrorKind::Config, path.display(), e))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        ),
    };
    let security = args.tls.security();
    let etcd = EtcdConfig {
        urls: args.etcd.clone(),
        security: etcd_security(&args.etcd_tls, &security)?,
        login: args.etcd_user.clone().map(|user| {
            let password = std::env::var("THUNDERHEAD_ETCD_PASSWORD").unwrap_or_default();
            (user, password)
        }),
    };
    let config = CoordinatorConfig {
        listen: args.listen.clone(),
        advertise: args.advertise.clone(),
        security,
        fleet: FleetOptions {
            lease: args.agent_lease,
            runs_grace: args.runs_grace,
            ..FleetOptions::default()
        },
        tidb_password,
    };
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        stop_requested().await;
        cancel.cancel();
    });
    let make_store = |address: &str| EtcdStore::new(etcd, &args.prefix, address, args.lease);
    service::serve(config, make_store, stop).await
}

/// `https` addresses use the fleet's files unless others are given; plain ones none.
fn etcd_security(files: &[PathBuf], fleet: &Security) -> Result<Security> {
    match files {
        [] => Ok(fleet.clone()),
        [ca] => Ok(Security {
            ca: Some(ca.clone()),
            ..Security::default()
        }),
        [ca, cert, key] => Ok(Security {
            ca: Some(ca.clone()),
            cert: Some(cert.clone()),
            key: Some(key.clone()),
        }),
        _ => Err(Error::new(
            ErrorKind::Config,
            "--etcd-tls",
            "give CA or CA,CERT,KEY",
        )),
    }
}
