//! Listening for other processes of ours: plain, or with TLS where both sides show a certificate of the one
//! authority. Certificates that change are used from the next connection on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::reload::Reloading;
use crate::security::{Security, SecurityError, install_provider, read};

/// Connections that have shaken hands and wait to be served.
const READY: usize = 64;
/// Whoever does not finish the handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a failure to accept (no file descriptors left, say).
const PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Reloading<ServerConfig>>>,
}

impl Listener {
    /// Binds `address` (`host:port`, port 0 = a free one). With a certificate in `security`, clients must show one,
    /// too.
    ///
    /// # Errors
    /// When the address cannot be bound or the certificates cannot be used.
    pub async fn bind(address: &str, security: &Security) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Config, format!("address {address}"), e)
                .advice("listen on an address of this host with a free port")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match &security.cert {
            None => None,
            Some(_) => Some(Arc::new(Reloading::new(security, server_config)?)),
        };
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

    /// The connections, for a gRPC or HTTP server; ends never.
    pub fn incoming(self) -> ReceiverStream<io::Result<Accepted>> {
        let (to, ready) = mpsc::channel(READY);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = to.closed() => return,
                    accepted = self.listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        let (tls, to) = (self.tls.clone(), to.clone());
                        tokio::spawn(async move {
                            match tokio::time::timeout(HANDSHAKE, shake_hands(stream, tls)).await {
                                Ok(Ok(io)) => drop(to.send(Ok(Accepted { io, peer })).await),
                                Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                                Err(_) => tracing::debug!(%peer, "the handshake took too long"),
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        ReceiverStream::new(ready)
    }
}

async fn shake_hands(
    stream: TcpStream,
    tls: Option<Arc<Reloading<ServerConfig>>>,
) -> io::Result<Box<dyn Io>> {
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(Box::new(TlsAcceptor::from(tls.get()).accept(stream).await?)),
    }
}

fn server_config(security: &Security) -> Result<ServerConfig> {
    install_provider();
    let (Some(ca), Some(cert), Some(key)) = (&security.ca, &security.cert, &security.key) else {
        return Err(SecurityError::HalfIdentity.into());
    };
    let pem = |file: &std::path::Path, e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, file.display(), e).advice("give PEM files")
    };
    let tls = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Config, "security", e);
    let certificates = |file: &std::path::Path| -> Result<Vec<CertificateDer<'static>>> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
        found.map_err(|e| pem(file, &e))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|e| pem(ca, &e))?;
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| pem(key, &e))?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier.map_err(|e| pem(ca, &e))?)
        .with_single_cert(certificates(cert)?, key_der)
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that has shaken hands.
pub struct Accepted {
    io: Box<dyn Io>,
    peer: SocketAddr,
}

impl Connected for Accepted {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
