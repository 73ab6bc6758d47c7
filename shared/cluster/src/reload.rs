//! Certificates that change while we run: what was made of the files of a [`Security`] is made again when one of
//! them has changed. A file that is half written keeps what was there before.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use thunderhead_types::Result;

use crate::security::Security;

/// What is looked at to see a change, per file.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// Something made of certificate files, as fresh as the files.
pub(crate) struct Reloading<T> {
    security: Security,
    make: fn(&Security) -> Result<T>,
    current: Mutex<(Stamp, Arc<T>)>,
}

impl<T> Reloading<T> {
    pub fn new(security: &Security, make: fn(&Security) -> Result<T>) -> Result<Self> {
        let current = (stamp(security), Arc::new(make(security)?));
        Ok(Self {
            security: security.clone(),
            make,
            current: Mutex::new(current),
        })
    }

    pub fn get(&self) -> Arc<T> {
        let found = stamp(&self.security);
        let mut current = self.current.lock();
        if current.0 != found {
            match (self.make)(&self.security) {
                Ok(made) => {
                    tracing::info!("certificates were read again");
                    *current = (found, Arc::new(made));
                }
                Err(error) => {
                    tracing::warn!(%error, "changed certificates are not usable, the old ones stay")
                }
            }
        }
        Arc::clone(&current.1)
    }
}

fn stamp(security: &Security) -> Stamp {
    [&security.ca, &security.cert, &security.key]
        .into_iter()
        .map(|path| {
            let metadata = std::fs::metadata(path.as_ref()?).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
        .collect()
}
