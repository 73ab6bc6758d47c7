//! Listening: one port that speaks HTTP/1 and HTTP/2 (so that gRPC and plain HTTP share it), with all
//! of its connections ended when the server is dropped or stopped.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that a peer may send ahead per stream and per connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A port being served.
pub(crate) struct Server {
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds `host:port`; port 0 picks a free one.
pub(crate) async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
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
    pub(crate) fn start(listener: TcpListener, router: Router) -> Self {
        Self {
            task: tokio::spawn(accept(listener, router)),
        }
    }

    /// Closes the port and every connection, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let service = TowerToHyperService::new(router.clone());
                    connections.spawn(async move {
                        let mut builder = Builder::new(TokioExecutor::new());
                        builder
                            .http2()
                            .initial_stream_window_size(STREAM_WINDOW)
                            .initial_connection_window_size(CONNECTION_WINDOW);
                        let io = TokioIo::new(stream);
                        if let Err(error) = builder.serve_connection(io, service).await {
                            tracing::debug!(%error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of descriptors, most likely: give connections time to end.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}
