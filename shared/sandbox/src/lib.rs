//! An embedded development cluster: PD (gRPC and HTTP on one port), TiKV stores on RocksDB, and the SQL
//! and status ports of `thunderhead-sandbox-sql`, in one process. For trying out and for tests; it
//! keeps TiKV's rules about epochs, leaders and import files, and can be told to fail (see [`Fault`]).
//! It is no database: regions have peers with their own data and files, but there is no Raft.
//!
//! Who calls whom: `pd_grpc`, `pd_http`, `tikv_grpc`, `import_grpc`, `control` and `kv` are faces;
//! `cluster` is the state; `topology` and
//! `placement` change regions, `replicate` their data, `ingest` and
//! `import_files` import; `engine`, `mvcc`, `txn`, `sst`, `keys` know the stored form.

mod check;
mod cluster;
mod config;
mod control;
mod engine;
mod error;
mod faults;
mod import_dir;
mod import_files;
mod import_grpc;
mod ingest;
mod keys;
mod kv;
mod meta;
mod mvcc;
mod pd_grpc;
mod pd_http;
mod pd_member;
mod pd_state;
mod placement;
mod regions;
mod replicate;
mod sst;
mod store;
mod strike;
mod tikv_grpc;
mod topology;
mod troubles;
mod tso;
mod txn;

pub use cluster::SandboxPanic;
pub use config::{Profile, SandboxConfig};
pub use control::{ClusterState, StoreState};
pub use faults::{Action, Fault, Match, Point, RegionErrorKind};
pub use troubles::TROUBLES;

use cluster::Cluster;
use import_grpc::ImportService;
use pd_member::PdMember;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use thunderhead_net::{Server, ServerTls, bind};
use thunderhead_proto::import_sstpb::import_sst_server::ImportSstServer;
use thunderhead_proto::pdpb::pd_server::PdServer;
use thunderhead_proto::tikvpb::tikv_server::TikvServer;
use thunderhead_sandbox_sql::{SqlConfig, SqlServer};
use thunderhead_types::{Error, ErrorKind, KeyRange, Result};
use tikv_grpc::TikvService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;

/// How often followers that lag are looked after.
const APPLY_INTERVAL: Duration = Duration::from_millis(10);
/// How long a shutdown waits for calls in flight.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// How long the connections of a dead store stay open.
const DYING: Duration = Duration::from_millis(20);

/// Where everything listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// PD, `host:port`; of the first member.
    pub pd: String,
    /// All members of PD.
    pub pd_members: Vec<String>,
    pub sql_port: u16,
    pub status_port: u16,
    /// gRPC of the stores, in the order of their ids.
    pub stores: Vec<String>,
}

/// A running cluster. Dropping it closes every port at once, as a crash would; [`Sandbox::shutdown`]
/// waits for that.
pub struct Sandbox {
    cluster: Arc<Cluster>,
    addresses: Addresses,
    servers: Vec<Server>,
    sql: SqlServer,
    tasks: JoinSet<()>,
}

impl Sandbox {
    /// Opens the data directory and serves. All ports listen when this returns.
    pub async fn start(config: SandboxConfig) -> Result<Self> {
        let host = config.host.clone();
        let tls = ServerTls::new(&config.security)?;
        let opened = tokio::task::spawn_blocking(move || Cluster::open(config)).await;
        let cluster = opened.map_err(internal)?.map_err(Error::from)?;
        let ports: Vec<u16> = cluster
            .meta
            .get("ports")
            .map_err(Error::from)?
            .unwrap_or_default();
        let (mut tasks, mut taken) = (JoinSet::new(), Vec::new());
        for (i, store) in cluster.stores.values().enumerate() {
            let (grpc, grpc_address) = bind_again(&host, ports.get(2 * i).copied()).await?;
            let (status, status_address) = bind_again(&host, ports.get(2 * i + 1).copied()).await?;
            store.set_addresses(grpc_address.to_string(), status_address.to_string());
            taken.extend([grpc_address.port(), status_address.port()]);
            let ports = (grpc, status);
            tasks.spawn(serve_store(
                cluster.clone(),
                store.clone(),
                ports,
                tls.clone(),
            ));
        }
        if taken != ports {
            cluster.meta.put("ports", &taken).map_err(Error::from)?;
        }
        let (servers, pd_members) = serve_pd(&cluster, &host, tls.as_ref()).await?;
        tasks.spawn(apply_lagging(cluster.clone()));
        tasks.spawn(sweep_orphans(cluster.clone()));
        let pd = pd_members[0].clone();
        let sql = SqlServer::start(
            Arc::new(kv::LocalKv::new(cluster.clone())),
            sql_config(&cluster, &pd, tls)?,
        )
        .await?;
        // Nobody else sets it.
        let _ = cluster.sql_port.set(sql.port());
        let addresses = Addresses {
            pd,
            pd_members,
            sql_port: sql.sql_addr().port(),
            status_port: sql.status_addr().port(),
            stores: cluster
                .stores
                .values()
                .map(|store| store.address())
                .collect(),
        };
        Ok(Self {
            cluster,
            addresses,
            servers,
            sql,
            tasks,
        })
    }

    /// Where everything listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The stores that died of a file, in order.
    pub fn panics(&self) -> Vec<SandboxPanic> {
        self.cluster.panics.lock().clone()
    }

    /// Puts a fault in force; returns its id.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.cluster.faults.add(fault)
    }

    /// The faults in force, with how often they struck.
    pub fn faults(&self) -> Vec<Fault> {
        self.cluster.faults.list()
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.cluster.faults.clear();
    }

    /// What stores and regions look like now.
    pub fn state(&self) -> Result<ClusterState> {
        Ok(self.cluster.state()?)
    }

    /// Kills a store; its connections end.
    pub fn stop_store(&self, id: u64) -> Result<()> {
        self.cluster.mark_dead(id);
        Ok(self.cluster.elect()?)
    }

    /// Starts a dead store again.
    pub fn start_store(&self, id: u64) -> Result<()> {
        match self.cluster.store(id) {
            Some(store) => Ok(self.cluster.revive(store)?),
            None => Err(Error::new(
                ErrorKind::Config,
                format!("store {id}"),
                "no such store",
            )),
        }
    }

    /// Scales a store in: its peers move to the others, then PD forgets it. False when they cannot take them.
    pub fn remove_store(&self, id: u64) -> Result<bool> {
        Ok(self.cluster.remove_store(id)?)
    }

    /// Gives the region that holds the raw key a learner on `store`. False when it cannot have one there.
    pub fn add_learner(&self, raw_key: &[u8], store: u64) -> Result<bool> {
        let encoded = keys::encode(raw_key);
        let id = self.cluster.regions.read().by_key(&encoded).map(|s| s.id());
        match id {
            Some(id) => Ok(self.cluster.add_learner(id, store)?),
            None => Ok(false),
        }
    }

    /// Splits regions wherever one of the raw keys is not a border yet.
    pub fn split(&self, raw_keys: &[Vec<u8>]) -> Result<()> {
        let encoded = raw_keys.iter().map(|key| keys::encode(key)).collect();
        self.cluster.split_everywhere(encoded)?;
        Ok(())
    }

    /// The tally of a raw range on one store's own data, at the latest timestamp.
    pub fn store_checksum(
        &self,
        store: u64,
        range: &KeyRange,
    ) -> Result<thunderhead_types::Checksum> {
        let store = self.cluster.store(store);
        let store =
            store.ok_or_else(|| Error::new(ErrorKind::Config, "sandbox", "no such store"))?;
        mvcc::Snapshot::new(&store.engine)
            .checksum(range, u64::MAX)
            .map_err(|error| match error {
                mvcc::ReadError::Locked(_) => {
                    Error::new(ErrorKind::Cluster, "sandbox", "a key is locked")
                }
                mvcc::ReadError::Failed(error) => error.into(),
            })
    }

    /// Closes every port and waits until nothing runs any more, so that the data directory can be
    /// opened again. Work that does not end in time is left behind.
    pub async fn shutdown(self) {
        let Self {
            cluster,
            servers,
            sql,
            mut tasks,
            ..
        } = self;
        sql.stop().await;
        for server in servers {
            server.stop().await;
        }
        tasks.shutdown().await;
        let end = Instant::now() + SHUTDOWN_MAX;
        while Arc::strong_count(&cluster) > 1 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
    }
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "sandbox", error)
}

/// Binds the port of last time if it is free, another one otherwise.
async fn bind_again(host: &str, port: Option<u16>) -> Result<(TcpListener, SocketAddr)> {
    if let Some(port) = port
        && let Ok(bound) = bind(host, port).await
    {
        return Ok(bound);
    }
    bind(host, 0).await
}

async fn serve_pd(
    cluster: &Arc<Cluster>,
    host: &str,
    tls: Option<&ServerTls>,
) -> Result<(Vec<Server>, Vec<String>)> {
    let mut listeners = Vec::new();
    for member in 0..cluster.config.pd_members.max(1) {
        let port = if member == 0 {
            cluster.config.pd_port
        } else {
            0
        };
        listeners.push(bind(host, port).await?);
    }
    let addresses: Arc<Vec<String>> = Arc::new(
        listeners
            .iter()
            .map(|(_, address)| address.to_string())
            .collect(),
    );
    let mut servers = Vec::new();
    for (member, (listener, _)) in listeners.into_iter().enumerate() {
        let service = PdMember {
            cluster: cluster.clone(),
            member: member as u32,
            addresses: addresses.clone(),
        };
        let router = Routes::new(PdServer::new(service).max_decoding_message_size(usize::MAX))
            .into_axum_router()
            .merge(pd_http::pd_router(cluster.clone()))
            .merge(control::router(cluster.clone()));
        servers.push(Server::start(listener, router, tls.cloned()));
    }
    Ok((servers, addresses.to_vec()))
}

fn sql_config(cluster: &Cluster, pd: &str, tls: Option<ServerTls>) -> Result<SqlConfig> {
    let address = |port: u16| -> Result<SocketAddr> {
        let host = &cluster.config.host;
        let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port))
            .map_err(|error| Error::new(ErrorKind::Config, host, error))?;
        found
            .next()
            .ok_or_else(|| Error::new(ErrorKind::Config, host, "the host has no address"))
    };
    Ok(SqlConfig {
        sql_addr: address(cluster.config.sql_port)?,
        status_addr: address(cluster.config.status_port)?,
        root_password: cluster.config.root_password.clone(),
        pd_addr: pd.to_owned(),
        new_collation: true,
        tls,
    })
}

/// Listens while the store is alive, on the same ports every time.
async fn serve_store(
    cluster: Arc<Cluster>,
    store: Arc<Store>,
    (grpc, status): (TcpListener, TcpListener),
    tls: Option<ServerTls>,
) {
    let mut alive = store.watch_alive();
    let addresses = (grpc.local_addr(), status.local_addr());
    let mut listeners = Some((grpc, status));
    loop {
        let _ = alive.wait_for(|alive| *alive).await;
        let (grpc, status) = match listeners.take() {
            Some(bound) => bound,
            None => match rebind(&addresses).await {
                Some(bound) => bound,
                None => continue,
            },
        };
        let limit = usize::MAX;
        let tikv = TikvService {
            cluster: cluster.clone(),
            store: store.clone(),
        };
        let import = ImportService {
            cluster: cluster.clone(),
            store: store.clone(),
        };
        let router = Routes::new(
            TikvServer::new(tikv)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
        )
        .add_service(ImportSstServer::new(import).max_decoding_message_size(limit))
        .into_axum_router();
        let servers = [
            Server::start(grpc, router, tls.clone()),
            Server::start(
                status,
                pd_http::status_router(cluster.clone(), store.clone()),
                tls.clone(),
            ),
        ];
        let _ = alive.wait_for(|alive| !*alive).await;
        // Calls in flight notice by themselves and answer UNAVAILABLE; what hangs is cut off.
        tokio::time::sleep(DYING).await;
        for server in servers {
            server.stop().await;
        }
        let to_elect = cluster.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || to_elect.elect()).await {
            tracing::error!(store = store.id, %error, "election failed");
        }
    }
}

async fn rebind(
    addresses: &(std::io::Result<SocketAddr>, std::io::Result<SocketAddr>),
) -> Option<(TcpListener, TcpListener)> {
    let (Ok(grpc), Ok(status)) = addresses else {
        return None;
    };
    match (
        TcpListener::bind(grpc).await,
        TcpListener::bind(status).await,
    ) {
        (Ok(grpc), Ok(status)) => Some((grpc, status)),
        _ => {
            tokio::time::sleep(APPLY_INTERVAL).await;
            None
        }
    }
}

async fn apply_lagging(cluster: Arc<Cluster>) {
    let mut ticks = tokio::time::interval(APPLY_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if cluster.behind.lock().is_empty() {
            continue;
        }
        let cluster = cluster.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || cluster.apply_due()).await {
            tracing::error!(%error, "a follower cannot apply its log");
        }
    }
}

async fn sweep_orphans(cluster: Arc<Cluster>) {
    let mut ticks = tokio::time::interval(cluster.config.sweep_interval.max(APPLY_INTERVAL));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for store in cluster.stores.values().filter(|store| store.alive()) {
            let (cluster, store) = (cluster.clone(), store.clone());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || cluster.sweep(&store)).await
            {
                tracing::error!(%error, "sweep failed");
            }
        }
    }
}
