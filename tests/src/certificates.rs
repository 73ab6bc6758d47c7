//! Certificates for tests of TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use thunderhead_net::Security;

/// Who signs certificates.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

/// A new authority.
pub fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("a certificate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a certificate"))
        .expect("a certificate")
}

/// Writes the authority, and a certificate of `issuer` for the loopback address, as `NAME-{ca,cert,key}.pem`.
pub fn write(dir: &Path, name: &str, ca: &Authority, issuer: &Authority) -> Security {
    let path = |what: &str| -> PathBuf { dir.join(format!("{name}-{what}.pem")) };
    let key = KeyPair::generate().expect("a certificate");
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
        .expect("a certificate")
        .signed_by(&key, issuer)
        .expect("a certificate");
    std::fs::write(path("ca"), ca.pem()).expect("a certificate");
    std::fs::write(path("cert"), cert.pem()).expect("a certificate");
    std::fs::write(path("key"), key.serialize_pem()).expect("a certificate");
    Security {
        ca: Some(path("ca")),
        cert: Some(path("cert")),
        key: Some(path("key")),
    }
}
