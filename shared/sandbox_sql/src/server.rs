//! Starting and stopping the two ports. One task accepts, one task per connection; every task is owned
//! by the server and ends with it.

use crate::catalog::Catalog;
use crate::engine::KvEngine;
use crate::protocol::{self, VERSION};
use crate::session::{Session, Shared};
use crate::status;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_net::{Server, ServerTls};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Clients served at the same time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 512;

/// How the ports listen and what the cluster says about itself.
#[derive(Clone)]
pub struct SqlConfig {
    /// MySQL protocol; port 0 picks a free one.
    pub sql_addr: SocketAddr,
    /// HTTP status; port 0 picks a free one.
    pub status_addr: SocketAddr,
    /// Password of `root` (every other user is refused); empty = none.
    pub root_password: String,
    /// PD's address, reported where TiDB reports its store path.
    pub pd_addr: String,
    /// Whether the cluster uses the new collation framework.
    pub new_collation: bool,
    /// TLS of both ports; the MySQL port offers it, the status port insists.
    pub tls: Option<ServerTls>,
}

impl Default for SqlConfig {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            sql_addr: any,
            status_addr: any,
            root_password: String::new(),
            pd_addr: String::new(),
            new_collation: true,
            tls: None,
        }
    }
}

/// A port that was closed is bound again this often until it succeeds.
const BIND_AGAIN: Duration = Duration::from_millis(50);

/// A hand on the MySQL port, as on a TiDB that restarts.
#[derive(Clone)]
pub struct SqlPort(Arc<watch::Sender<bool>>);

impl SqlPort {
    /// Closes the port and every connection, whatever it is doing, or listens again on the same address.
    pub fn set_open(&self, open: bool) {
        self.0.send_replace(open);
    }
}

/// Both ports, running.
pub struct SqlServer {
    sql_addr: SocketAddr,
    status_addr: SocketAddr,
    stop: watch::Sender<bool>,
    port: SqlPort,
    tasks: JoinSet<()>,
    http: Server,
}

impl SqlServer {
    /// Binds both ports, prepares the catalog in an empty engine, and serves until [`SqlServer::stop`].
    pub async fn start(engine: Arc<dyn KvEngine>, config: SqlConfig) -> Result<Self> {
        let sql = bind(config.sql_addr).await?;
        let http = bind(config.status_addr).await?;
        let (sql_addr, status_addr) = (local(&sql)?, local(&http)?);
        let tls = config.tls.clone();
        let shared = Arc::new(Shared::new(engine, config, VERSION));
        prepare(shared.clone()).await?;
        let (stop, stopped) = watch::channel(false);
        let (open, opened) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(sql, shared.clone(), tls.clone(), stopped, opened));
        let http = Server::start(http, status::router(shared), tls);
        Ok(Self {
            sql_addr,
            status_addr,
            stop,
            port: SqlPort(Arc::new(open)),
            tasks,
            http,
        })
    }

    /// See [`SqlPort`].
    pub fn port(&self) -> SqlPort {
        self.port.clone()
    }

    /// Where the MySQL protocol is spoken.
    pub fn sql_addr(&self) -> SocketAddr {
        self.sql_addr
    }

    /// Where the status port is.
    pub fn status_addr(&self) -> SocketAddr {
        self.status_addr
    }

    /// Closes the ports and every connection, and waits for their tasks.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.http.stop().await;
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|e| Error::new(ErrorKind::Config, addr, e).advice("choose a free address"))
}

fn local(listener: &TcpListener) -> Result<SocketAddr> {
    listener
        .local_addr()
        .map_err(|e| Error::new(ErrorKind::Internal, "sandbox sql", e))
}

/// Makes the catalog in an empty engine.
async fn prepare(shared: Arc<Shared>) -> Result<()> {
    let work =
        tokio::task::spawn_blocking(move || Catalog::new(shared.engine.as_ref()).bootstrap());
    let result = work
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, "sandbox sql", e))?;
    result.map_err(|e| Error::new(ErrorKind::Cluster, "sandbox catalog", e))
}

/// Listens while the port is open, until the server stops.
async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<ServerTls>,
    stop: watch::Receiver<bool>,
    mut open: watch::Receiver<bool>,
) {
    let Ok(addr) = listener.local_addr() else {
        return;
    };
    let mut bound = Some(listener);
    loop {
        let listener = match bound.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(addr).await {
                Ok(listener) => listener,
                Err(_) => {
                    tokio::time::sleep(BIND_AGAIN).await;
                    continue;
                }
            },
        };
        let (shared, tls) = (shared.clone(), tls.clone());
        let mut stopped = stop.clone();
        tokio::select! {
            biased;
            // The listener and all connections go with it.
            _ = open.wait_for(|open| !*open) => {}
            () = accept(listener, shared, tls, stop.clone()) => return,
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = open.wait_for(|open| *open) => {}
        }
    }
}

/// Takes connections until the server stops, then waits for those it has.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<ServerTls>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let for_clients = stop.clone();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                if let Ok((stream, _)) = accepted {
                    let session = Session::new(shared.clone());
                    connections.spawn(protocol::serve(stream, session, tls.clone(), for_clients.clone()));
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}
