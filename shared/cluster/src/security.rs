//! TLS between us and the cluster: one set of files, applied to gRPC, HTTP and MySQL connections.
//! Owns how endpoints are built (scheme, timeouts, keep-alive); leaves to others what is asked there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mysql_async::SslOpts;
use thiserror::Error as ThisError;
use thunderhead_types::{Error, ErrorKind, Result};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::reload::Reloading;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What TiDB itself uses towards TiKV, so servers accept it.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Paths of PEM files. No certificate authority means no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Certificate authority that the servers' certificates come from.
    pub ca: Option<PathBuf>,
    /// Our certificate, if servers ask for one.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
}

#[derive(Debug, ThisError)]
pub(crate) enum SecurityError {
    #[error("{file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    #[error("a client certificate needs its key, and the key its certificate")]
    HalfIdentity,
    #[error("a client certificate is given but no certificate authority")]
    NoAuthority,
    #[error("TLS files are not usable: {0}")]
    Http(#[from] reqwest::Error),
    #[error("address {address}: {source}")]
    Endpoint {
        address: String,
        source: tonic::transport::Error,
    },
}

impl From<SecurityError> for Error {
    fn from(error: SecurityError) -> Self {
        Error::new(ErrorKind::Config, "security", error)
            .advice("give PEM files: ca-path, and cert-path with key-path if servers ask for them")
    }
}

struct Tls {
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// What connections are made with, as fresh as the files.
struct Made {
    tls: Option<Tls>,
    http: reqwest::Client,
}

fn make(security: &Security) -> Result<Made> {
    let tls = load(security)?;
    Ok(Made {
        http: http_client(tls.as_ref())?,
        tls,
    })
}

/// Makes connections under one [`Security`]. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    security: Security,
    made: Arc<Reloading<Made>>,
}

/// Makes ring the process's TLS provider, unless one was chosen already.
pub(crate) fn install_provider() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // An error says that the program chose a provider before; that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SecurityError> {
    std::fs::read(path).map_err(|source| SecurityError::Read {
        file: path.display().to_string(),
        source,
    })
}

impl Connector {
    /// Reads the files now, and again for a connection that is made after they have changed.
    pub fn new(security: &Security) -> Result<Self> {
        install_provider();
        Ok(Self {
            security: security.clone(),
            made: Arc::new(Reloading::new(security, make)?),
        })
    }

    /// `https` under TLS, otherwise `http`.
    pub fn scheme(&self) -> &'static str {
        if self.security.ca.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// `address` with our scheme, whichever scheme it came with.
    pub fn url(&self, address: &str) -> String {
        let bare = address
            .trim()
            .trim_start_matches("http://")
            .trim_start_matches("https://")
            .trim_end_matches('/');
        format!("{}://{bare}", self.scheme())
    }

    /// A gRPC endpoint at `host:port` or a URL.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let failed = |source| SecurityError::Endpoint {
            address: address.to_owned(),
            source,
        };
        let mut endpoint = Endpoint::from_shared(self.url(address))
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .tcp_nodelay(true);
        if let Some(tls) = &self.made.get().tls {
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(tls.ca.clone()));
            if let Some((cert, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(cert.clone(), key.clone()));
            }
            endpoint = endpoint.tls_config(config).map_err(failed)?;
        }
        Ok(endpoint)
    }

    /// The HTTP client; requests time out by themselves.
    pub fn http(&self) -> reqwest::Client {
        self.made.get().http.clone()
    }

    /// TLS options of MySQL connections; `None` without TLS.
    pub(crate) fn mysql(&self) -> Option<SslOpts> {
        let ca = self.security.ca.clone()?;
        let mut options = SslOpts::default()
            .with_root_certs(vec![ca.into()])
            .with_disable_built_in_roots(true);
        if let (Some(cert), Some(key)) = (&self.security.cert, &self.security.key) {
            let identity =
                mysql_async::ClientIdentity::new(cert.clone().into(), key.clone().into());
            options = options.with_client_identity(Some(identity));
        }
        Some(options)
    }
}

fn load(security: &Security) -> Result<Option<Tls>, SecurityError> {
    let identity = match (&security.cert, &security.key) {
        (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
        (None, None) => None,
        _ => return Err(SecurityError::HalfIdentity),
    };
    match &security.ca {
        Some(ca) => Ok(Some(Tls {
            ca: read(ca)?,
            identity,
        })),
        None if identity.is_some() => Err(SecurityError::NoAuthority),
        None => Ok(None),
    }
}

fn http_client(tls: Option<&Tls>) -> Result<reqwest::Client, SecurityError> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(HTTP_TIMEOUT)
        .no_proxy();
    let Some(tls) = tls else {
        // No roots: plain HTTP only, and no need for a certificate store on this machine.
        return Ok(builder.tls_certs_only([]).build()?);
    };
    let mut builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&tls.ca)?);
    if let Some((cert, key)) = &tls.identity {
        let both = [key.as_slice(), b"\n", cert.as_slice()].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&both)?);
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_an_authority_everything_is_plain() {
        let connector = Connector::new(&Security::default()).unwrap();
        assert_eq!(
            connector.url("https://127.0.0.1:2379/"),
            "http://127.0.0.1:2379"
        );
        assert_eq!(connector.url("pd:2379"), "http://pd:2379");
        assert!(connector.mysql().is_none());
        assert!(connector.endpoint("127.0.0.1:1").is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let security = Security {
            ca: Some("no/such/ca.pem".into()),
            ..Security::default()
        };
        let error = Connector::new(&security).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.cause.contains("no/such/ca.pem"), "{error}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let security = Security {
            cert: Some("cert.pem".into()),
            ..Security::default()
        };
        assert!(Connector::new(&security).is_err());
    }
}
