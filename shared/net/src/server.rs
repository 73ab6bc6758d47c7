//! Listening: one port that speaks HTTP/1 and HTTP/2 (so that gRPC and plain HTTP share it), with all
//! of its connections ended when the server is dropped or stopped.

use crate::files::Security;
use crate::tls::ServerTls;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that a peer may send ahead per stream and per connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// A client that does not finish its handshake must not hold a connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A bound port that nothing is served on yet.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
}

impl Listener {
    /// Binds `host:port`; port 0 picks a free one. With an authority in `security` connections are mutual TLS.
    ///
    /// # Errors
    /// `Config` when the address is taken or not ours, or the files cannot be used.
    pub async fn bind(address: &str, security: &Security) -> Result<Self> {
        let tls = ServerTls::new(security)?;
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Config, format!("address {address}"), error)
                .advice("listen on an address of this host with a free port")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "listening beyond this host without certificates");
        }
        Ok(Self {
            listener,
            address,
            tls,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router`: plain HTTP handlers, gRPC services, or both.
    pub fn serve(self, router: Router) -> Server {
        Server::start(self.listener, router, self.tls)
    }
}

/// A port being served.
pub struct Server {
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds `host:port` for [`Server::start`]; port 0 picks a free one.
///
/// # Errors
/// `Config` when the address is taken or not ours.
pub async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((host, port)).await.map_err(|error| {
        Error::new(ErrorKind::Config, format!("{host}:{port}"), error)
            .advice("choose a free port or another address")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::new(ErrorKind::Internal, host, error))?;
    Ok((listener, address))
}

impl Server {
    /// Serves `router` on `listener` until dropped.
    pub fn start(listener: TcpListener, router: Router, tls: Option<ServerTls>) -> Self {
        Self {
            task: tokio::spawn(accept(listener, router, tls)),
        }
    }

    /// Closes the port and every connection, and waits for that.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<ServerTls>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), tls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of descriptors, most likely: give connections time to end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, router: Router, tls: Option<ServerTls>) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve(stream, router).await;
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let service = TowerToHyperService::new(router);
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}
