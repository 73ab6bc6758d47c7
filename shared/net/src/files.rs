//! PEM files on disk and what is made of them. Certificates are replaced while a job of many hours runs
//! (cert-manager, Kubernetes secrets), so whatever was made from the files is made again when they change.

use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error as ThisError;
use thunderhead_types::{Error, ErrorKind, Result};

/// How long a look at the files holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Paths of PEM files. No certificate authority means no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Certificate authority that the other side's certificates come from.
    pub ca: Option<PathBuf>,
    /// Our certificate: what a server shows, and a client that is asked for one.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
}

/// The files' contents.
#[derive(Clone)]
pub struct Pem {
    /// Certificate authority.
    pub ca: Vec<u8>,
    /// Our certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, ThisError)]
enum FilesError {
    #[error("{file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    #[error("a certificate needs its key, and the key its certificate")]
    HalfIdentity,
    #[error("a certificate is given but no certificate authority")]
    NoAuthority,
}

impl From<FilesError> for Error {
    fn from(error: FilesError) -> Self {
        Error::new(ErrorKind::Config, "security", error)
            .advice("give PEM files: ca-path, and cert-path with key-path if servers ask for them")
    }
}

impl Security {
    /// Reads the files; `None` without an authority.
    ///
    /// # Errors
    /// `Config`, naming the file that cannot be read or the part that is missing.
    pub fn read(&self) -> Result<Option<Pem>> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| FilesError::Read {
                file: path.display().to_string(),
                source,
            })
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(FilesError::HalfIdentity.into()),
        };
        match &self.ca {
            Some(ca) => Ok(Some(Pem {
                ca: read(ca)?,
                identity,
            })),
            None if identity.is_some() => Err(FilesError::NoAuthority.into()),
            None => Ok(None),
        }
    }

    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        [&self.ca, &self.cert, &self.key]
            .into_iter()
            .map(|path| {
                let metadata = std::fs::metadata(path.as_ref()?).ok()?;
                Some((metadata.modified().ok()?, metadata.len()))
            })
            .collect()
    }
}

/// Something made from the files, made again after they changed. Files that cannot be used leave what is
/// there in force, with a warning: half a rotation must not end a job.
pub struct Reloading<T> {
    security: Security,
    make: fn(Option<&Pem>) -> Result<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    made: Arc<T>,
    stamps: Vec<Option<(SystemTime, u64)>>,
    looked: Instant,
}

impl<T> Reloading<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// When the files cannot be read, or `make` cannot use them.
    pub fn new(security: &Security, make: fn(Option<&Pem>) -> Result<T>) -> Result<Self> {
        let stamps = security.stamps();
        let made = Arc::new(make(security.read()?.as_ref())?);
        Ok(Self {
            security: security.clone(),
            make,
            state: Mutex::new(State {
                made,
                stamps,
                looked: Instant::now(),
            }),
        })
    }

    /// The files.
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// The newest; looks at the files at most once a second.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_EVERY {
            self.look(&mut state);
        }
        Arc::clone(&state.made)
    }

    fn look(&self, state: &mut State<T>) {
        state.looked = Instant::now();
        let stamps = self.security.stamps();
        if stamps == state.stamps {
            return;
        }
        let made = self
            .security
            .read()
            .and_then(|pem| (self.make)(pem.as_ref()));
        match made {
            Ok(made) => {
                tracing::info!("TLS files have changed and are in force");
                state.made = Arc::new(made);
                state.stamps = stamps;
            }
            // Looked at again in a second: the rotation may be half done.
            Err(error) => {
                tracing::warn!(%error, "changed TLS files cannot be used; the former ones stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_without_its_key_or_authority_is_refused_and_a_missing_file_named() {
        let half = Security {
            cert: Some("cert.pem".into()),
            ..Security::default()
        };
        assert!(half.read().is_err());
        let missing = Security {
            ca: Some("no/such/ca.pem".into()),
            ..Security::default()
        };
        let error = missing.read().err().unwrap();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.cause.contains("no/such/ca.pem"), "{error}");
        assert!(Security::default().read().unwrap().is_none());
    }

    #[test]
    fn changed_files_are_taken_and_unusable_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        std::fs::write(&ca, "one").unwrap();
        let security = Security {
            ca: Some(ca.clone()),
            ..Security::default()
        };
        let make = |pem: Option<&Pem>| {
            let text = String::from_utf8(pem.unwrap().ca.clone()).unwrap();
            match text.as_str() {
                "" => Err(Error::new(ErrorKind::Config, "", "empty")),
                _ => Ok(text),
            }
        };
        let reloading = Reloading::new(&security, make).unwrap();
        let look = || {
            reloading.look(&mut reloading.state.lock());
            reloading.get().to_string()
        };
        assert_eq!(look(), "one");
        std::fs::write(&ca, "").unwrap();
        assert_eq!(look(), "one");
        std::fs::write(&ca, "three").unwrap();
        assert_eq!(look(), "three");
    }
}
