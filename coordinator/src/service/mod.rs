//! A coordinator of a fleet. Many may run; one leads at a time, from winning the election to losing its lease:
//!
//! 1. it reads what is recorded, and starts a runner for each job (`jobs`);
//! 2. agents' sessions (`session`) feed the loop of this term ([`crate::fleet`]);
//! 3. when the term is over everything of it ends, nothing of it is closed in the cluster: the next leader goes on.
//!
//! One port serves agents (gRPC) and people (HTTP, `http`). Who does not lead says who does.

mod http;
mod jobs;
mod secrets;
mod session;
mod source;

use crate::fleet::{Fleet, FleetHandle, FleetOptions};
use crate::store::EtcdStore;
use jobs::Jobs;
use parking_lot::RwLock;
use secrets::Secrets;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_net::{Listener, Security};
use thunderhead_proto::thunderhead::control_server::ControlServer;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use jobs::{Ended, JobError, JobState, JobView, Submission, Submitted};

/// Reports may carry the manifest of a large chunk.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How a coordinator runs.
pub struct CoordinatorConfig {
    /// Where agents and people are served.
    pub listen: String,
    /// What others are told instead of the address listened on.
    pub advertise: Option<String>,
    /// TLS files towards agents and people.
    pub security: Security,
    /// How agents are led.
    pub fleet: FleetOptions,
    /// Password of TiDB for jobs that were submitted without one.
    pub tidb_password: Option<String>,
}

/// The term of a leader.
struct Term {
    fleet: FleetHandle,
    jobs: Arc<Jobs>,
}

/// What every connection sees.
struct Shared {
    store: Arc<EtcdStore>,
    term: RwLock<Option<Arc<Term>>>,
    tidb_password: Option<String>,
    /// TLS files towards agents.
    security: Security,
    /// What came with jobs and lives in memory only.
    secrets: RwLock<BTreeMap<String, Secrets>>,
}

impl Shared {
    fn term(&self) -> Option<Arc<Term>> {
        self.term.read().clone()
    }

    /// Where the leader is, when another one leads.
    async fn leader_address(&self) -> String {
        match self.store.leader().await {
            Ok(Some(leader)) => leader.address,
            _ => String::new(),
        }
    }
}

/// Serves until `stop` fires. `make_store` gets the address that others reach us at.
///
/// # Errors
/// When the address cannot be listened on, or etcd refuses us for good.
pub async fn serve(
    config: CoordinatorConfig,
    make_store: impl FnOnce(&str) -> Result<EtcdStore>,
    stop: CancellationToken,
) -> Result<()> {
    let listener = Listener::bind(&config.listen, &config.security).await?;
    let address = config
        .advertise
        .clone()
        .unwrap_or_else(|| listener.address().to_string());
    let store = Arc::new(make_store(&address)?);
    let shared = Arc::new(Shared {
        store: Arc::clone(&store),
        term: RwLock::new(None),
        tidb_password: config.tidb_password.clone(),
        security: config.security.clone(),
        secrets: RwLock::default(),
    });
    println!("listening on {address}");
    let control = ControlServer::new(session::ControlService(Arc::clone(&shared)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let router = http::router(Arc::clone(&shared)).merge(Routes::new(control).into_axum_router());
    let server = listener.serve(router);
    let result = lead_terms(&shared, &config, &stop).await;
    server.stop().await;
    result
}

async fn lead_terms(
    shared: &Arc<Shared>,
    config: &CoordinatorConfig,
    stop: &CancellationToken,
) -> Result<()> {
    use crate::store::StateStore;
    loop {
        let epoch = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            elected = shared.store.lead() => elected?,
        };
        tracing::info!(epoch, "this coordinator leads");
        match lead_term(shared, config, stop, epoch).await {
            Err(error)
                if error.kind != ErrorKind::Cluster && error.kind != ErrorKind::Cancelled =>
            {
                tracing::error!(%error, "the term ended");
            }
            Err(error) => tracing::warn!(%error, "the term ended"),
            Ok(()) => {}
        }
        *shared.term.write() = None;
        shared.store.resign().await;
        if stop.is_cancelled() {
            return Ok(());
        }
        // Whoever failed first should not be the first again.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn lead_term(
    shared: &Arc<Shared>,
    config: &CoordinatorConfig,
    stop: &CancellationToken,
    epoch: u64,
) -> Result<()> {
    let over = stop.child_token();
    let recorded = jobs::recorded(shared.store.as_ref()).await?;
    let coming = recorded.iter().map(|(id, _)| id.clone()).collect();
    let (fleet, handle) = Fleet::new(shared.store.clone(), epoch, config.fleet.clone(), coming);
    let fleet = tokio::spawn(fleet.run(over.clone()));
    let jobs = Jobs::start(Arc::clone(shared), handle.clone(), recorded);
    *shared.term.write() = Some(Arc::new(Term {
        fleet: handle,
        jobs: Arc::clone(&jobs),
    }));
    let mut fleet = fleet;
    let ended = tokio::select! {
        () = shared.store.lost() => {
            let lost = Error::new(ErrorKind::Cancelled, "etcd", "the lease was lost");
            over.cancel();
            let _ = (&mut fleet).await;
            Err(lost)
        }
        ended = &mut fleet => ended.unwrap_or_else(|panic| {
            Err(Error::new(ErrorKind::Internal, "leader", panic))
        }),
    };
    over.cancel();
    *shared.term.write() = None;
    jobs.end().await;
    ended
}
