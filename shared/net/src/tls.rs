//! The server's side of TLS. A certificate authority makes it mutual: clients must show a certificate of it.

use crate::files::{Pem, Reloading, Security};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Makes ring the process's TLS provider, unless one was chosen already.
pub fn install_provider() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // An error says that the program chose a provider before; that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Accepts TLS connections with the newest certificate. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls(Arc<Reloading<TlsAcceptor>>);

impl ServerTls {
    /// `None` when there is no authority: served in the clear.
    ///
    /// # Errors
    /// `Config` when a file cannot be used, or there is an authority but no certificate to show.
    pub fn new(security: &Security) -> Result<Option<Self>> {
        install_provider();
        if security.read()?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(Reloading::new(security, acceptor)?))))
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// When the client has no certificate of the authority, or speaks no TLS.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let acceptor = self.0.get();
        acceptor.accept(stream).await
    }
}

fn acceptor(pem: Option<&Pem>) -> Result<TlsAcceptor> {
    let wrong = |cause: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, "security", cause)
            .advice("give ca-path, cert-path and key-path as PEM files that belong together")
    };
    let pem = pem.ok_or_else(|| wrong(&"no certificate authority"))?;
    let (cert, key) = pem
        .identity
        .as_ref()
        .ok_or_else(|| wrong(&"a server needs a certificate and its key"))?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem.ca) {
        roots
            .add(authority.map_err(|e| wrong(&e))?)
            .map_err(|e| wrong(&e))?;
    }
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| wrong(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong(&e))?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|e| wrong(&e))?;
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| wrong(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
