//! Files that are kept in a store for others to read: written once and whole, read by range, deleted by name or all
//! below a prefix. Knows nothing of what is in them.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::location::{Location, StoreKind};
use super::redact::redact;
use super::{connect, runtime, wait};

/// Bytes of a part; also the largest file that is written in one piece.
const PART_BYTES: usize = 8 << 20;

/// A prefix in a store. Cheap to clone; every call waits for the store.
#[derive(Clone)]
pub struct Shelf {
    store: Arc<dyn ObjectStore>,
    location: Location,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shelf").field(&self.location).finish()
    }
}

impl Shelf {
    /// The shelf at `uri`; nothing is asked of the store yet.
    ///
    /// # Errors
    /// When the URI names no store that can be written to.
    pub fn open(uri: &str) -> io::Result<Self> {
        let invalid =
            |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
        let mut location = Location::parse(uri).map_err(|e| invalid(&e))?;
        if location.kind == StoreKind::Http {
            return Err(invalid(
                &"a web server keeps no files: give s3://, gs:// or azblob://",
            ));
        }
        location.key = location.key.trim_end_matches('/').to_owned();
        location.path().map_err(|e| invalid(&e))?;
        runtime()?;
        let store = connect::client(&location).map_err(|e| invalid(&e))?;
        Ok(Self { store, location })
    }

    /// Its URI without the query.
    pub fn name(&self) -> String {
        self.location.name(&self.location.key)
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        let key = match self.location.key.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        Path::parse(&key).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))
    }

    /// Keeps the file as `name`: there is all of it or nothing.
    ///
    /// # Errors
    /// When the file cannot be read or the store refuses.
    pub fn put(&self, name: &str, file: &FilePath) -> io::Result<()> {
        let mut file = File::open(file)?;
        let path = self.path(name)?;
        let first = next_part(&mut file)?;
        if first.len() < PART_BYTES {
            let (this, payload) = (self.clone(), PutPayload::from(first));
            return wait(async move {
                let put = this.store.put(&path, payload).await;
                put.map(drop).map_err(|e| this.failed(&e))
            });
        }
        let this = self.clone();
        let mut upload: Box<dyn MultipartUpload> = wait(async move {
            let begun = this.store.put_multipart(&path).await;
            begun.map_err(|e| this.failed(&e))
        })?;
        let sent = self.send_parts(&mut upload, first, &mut file);
        let this = self.clone();
        wait(async move {
            match sent {
                Ok(()) => upload
                    .complete()
                    .await
                    .map(drop)
                    .map_err(|e| this.failed(&e)),
                Err(error) => {
                    // What was sent would be paid for until somebody deletes it.
                    let _ = upload.abort().await;
                    Err(error)
                }
            }
        })
    }

    fn send_parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        first: Vec<u8>,
        file: &mut File,
    ) -> io::Result<()> {
        let mut part = first;
        while !part.is_empty() {
            let (this, sent) = (self.clone(), upload.put_part(PutPayload::from(part)));
            wait(async move { sent.await.map_err(|e| this.failed(&e)) })?;
            part = next_part(file)?;
        }
        Ok(())
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; else what the store says.
    pub fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let (this, path) = (self.clone(), self.path(name)?);
        let wanted = range.end - range.start;
        let bytes = wait(async move {
            let read = this.store.get_range(&path, range).await;
            read.map_err(|e| this.failed(&e))
        })?;
        if bytes.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Bytes that a file has.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; else what the store says.
    pub fn size(&self, name: &str) -> io::Result<u64> {
        let (this, path) = (self.clone(), self.path(name)?);
        wait(async move {
            let meta = this.store.head(&path).await;
            meta.map(|meta| meta.size).map_err(|e| this.failed(&e))
        })
    }

    /// Deletes a file; that it is not there is no error.
    ///
    /// # Errors
    /// What the store says.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        let (this, path) = (self.clone(), self.path(name)?);
        wait(async move {
            match this.store.delete(&path).await {
                Err(error) if !matches!(error, StoreError::NotFound { .. }) => {
                    Err(this.failed(&error))
                }
                _ => Ok(()),
            }
        })
    }

    /// Deletes every file below the directory `dir`.
    ///
    /// # Errors
    /// What the store says.
    pub fn delete_below(&self, dir: &str) -> io::Result<()> {
        let (this, path) = (self.clone(), self.path(dir)?);
        wait(async move {
            let found = this.store.list(Some(&path)).map_ok(|meta| meta.location);
            let mut deleted = this.store.delete_stream(found.boxed());
            while let Some(one) = deleted.next().await {
                match one {
                    Err(error) if !matches!(error, StoreError::NotFound { .. }) => {
                        return Err(this.failed(&error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
    }

    fn failed(&self, error: &StoreError) -> io::Error {
        let kind = match error {
            StoreError::NotFound { .. } => io::ErrorKind::NotFound,
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                io::ErrorKind::PermissionDenied
            }
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, redact(&error.to_string(), &self.location))
    }
}

/// The next [`PART_BYTES`], or what is left.
fn next_part(file: &mut File) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part)
}
