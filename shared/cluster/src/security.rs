//! TLS between us and the cluster: one set of files, applied to gRPC, HTTP and MySQL connections.
//! Owns how endpoints are built (scheme, timeouts, keep-alive); leaves to others what is asked there.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::SslOpts;
use thiserror::Error as ThisError;
use thunderhead_net::{Pem, Reloading, Security, install_provider};
use thunderhead_types::{Error, ErrorKind, Result};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What TiDB itself uses towards TiKV, so servers accept it.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, ThisError)]
enum SecurityError {
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

/// What the files make.
struct Made {
    tls: Option<ClientTlsConfig>,
    http: reqwest::Client,
}

/// Makes connections under one [`Security`]; new connections use the newest certificates. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    made: Arc<Reloading<Made>>,
}

impl Connector {
    /// Reads the files, and again whenever they change.
    pub fn new(security: &Security) -> Result<Self> {
        install_provider();
        let made = Arc::new(Reloading::new(security, make)?);
        Ok(Self { made })
    }

    /// `https` under TLS, otherwise `http`.
    pub fn scheme(&self) -> &'static str {
        if self.made.security().ca.is_some() {
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
            endpoint = endpoint.tls_config(tls.clone()).map_err(failed)?;
        }
        Ok(endpoint)
    }

    /// The HTTP client; requests time out by themselves.
    pub fn http(&self) -> reqwest::Client {
        self.made.get().http.clone()
    }

    /// TLS options of MySQL connections; `None` without TLS.
    pub(crate) fn mysql(&self) -> Option<SslOpts> {
        let security = self.made.security();
        let ca = security.ca.clone()?;
        let mut options = SslOpts::default()
            .with_root_certs(vec![ca.into()])
            .with_disable_built_in_roots(true);
        if let (Some(cert), Some(key)) = (&security.cert, &security.key) {
            let identity =
                mysql_async::ClientIdentity::new(cert.clone().into(), key.clone().into());
            options = options.with_client_identity(Some(identity));
        }
        Some(options)
    }
}

fn make(pem: Option<&Pem>) -> Result<Made> {
    let tls = pem.map(|pem| {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pem.ca));
        match &pem.identity {
            Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
            None => config,
        }
    });
    let http = http_client(pem)?;
    Ok(Made { tls, http })
}

fn http_client(tls: Option<&Pem>) -> Result<reqwest::Client, SecurityError> {
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
}
