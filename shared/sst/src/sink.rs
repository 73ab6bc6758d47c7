//! Where a file's bytes go while it is built, and where they are afterwards. The CRC-32 that `Upload`
//! wants in its first message is taken on the way.

use crate::error::{Result, SstError};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once for the CRC of the whole file.
const CRC_BYTES: usize = 256 << 10;

/// Bytes gathered before a write to the file.
const WRITE_BYTES: usize = 256 << 10;

/// Where a file is built.
#[derive(Clone, Debug)]
pub enum SstSink {
    /// In memory, at most as large as the file becomes.
    Memory,
    /// In a new file at this path; removed when the last handle to it goes.
    File(PathBuf),
}

/// A file of ours that nobody else needs; removed with the last handle.
#[derive(Debug)]
pub struct TempFile {
    path: PathBuf,
    file: File,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // What is left is swept with the sort directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The bytes of a finished file.
#[derive(Clone, Debug)]
pub enum SstContent {
    /// In memory.
    Memory(Bytes),
    /// On disk.
    File(Arc<TempFile>),
}

impl SstContent {
    /// Bytes `[offset, offset + len)`, which must lie inside; free of copies in memory.
    pub fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        let outside = || SstError::corrupt("read beyond the end", offset);
        match self {
            SstContent::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| outside())?;
                let end = start.checked_add(len).ok_or_else(outside)?;
                if end > bytes.len() {
                    return Err(outside());
                }
                Ok(bytes.slice(start..end))
            }
            SstContent::File(file) => {
                let mut to = vec![0; len];
                file.file
                    .read_exact_at(&mut to, offset)
                    .map_err(|source| io(&file.path, source))?;
                Ok(to.into())
            }
        }
    }

    /// CRC-32 (IEEE) of all bytes, read again.
    pub fn crc32(&self) -> Result<u32> {
        let (mut crc, mut at, len) = (crc32fast::Hasher::new(), 0, self.len()?);
        while at < len {
            let step = (len - at).min(CRC_BYTES as u64);
            crc.update(&self.read(at, step as usize)?);
            at += step;
        }
        Ok(crc.finalize())
    }

    /// Length now, as memory or the file system has it.
    pub fn len(&self) -> Result<u64> {
        match self {
            SstContent::Memory(bytes) => Ok(bytes.len() as u64),
            SstContent::File(file) => match file.file.metadata() {
                Ok(metadata) => Ok(metadata.len()),
                Err(source) => Err(io(&file.path, source)),
            },
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Where it is, if on disk.
    pub fn path(&self) -> Option<&Path> {
        match self {
            SstContent::Memory(_) => None,
            SstContent::File(file) => Some(&file.path),
        }
    }
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> SstError {
    SstError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The growing file.
pub(crate) struct Output {
    to: Target,
    crc: crc32fast::Hasher,
    bytes: u64,
}

enum Target {
    Memory(Vec<u8>),
    File {
        writer: BufWriter<File>,
        guard: Unfinished,
    },
}

/// Removes a file that never got finished.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Output {
    pub(crate) fn create(sink: SstSink) -> Result<Self> {
        let to = match sink {
            SstSink::Memory => Target::Memory(Vec::new()),
            SstSink::File(path) => {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&path)
                    .map_err(|source| io(&path, source))?;
                Target::File {
                    writer: BufWriter::with_capacity(WRITE_BYTES, file),
                    guard: Unfinished(Some(path)),
                }
            }
        };
        Ok(Self {
            to,
            crc: crc32fast::Hasher::new(),
            bytes: 0,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            Target::Memory(to) => to.extend_from_slice(bytes),
            Target::File { writer, guard } => writer
                .write_all(bytes)
                .map_err(|source| io(guard.0.as_deref().unwrap_or(Path::new("")), source))?,
        }
        Ok(())
    }

    /// What was written, and its CRC-32.
    pub(crate) fn finish(self) -> Result<(SstContent, u32)> {
        let crc = self.crc.finalize();
        let content = match self.to {
            Target::Memory(bytes) => SstContent::Memory(bytes.into()),
            Target::File { writer, mut guard } => {
                let path = guard.0.clone().unwrap_or_default();
                let file = writer
                    .into_inner()
                    .map_err(|error| io(&path, error.into_error()))?;
                guard.0 = None;
                SstContent::File(Arc::new(TempFile { path, file }))
            }
        };
        Ok((content, crc))
    }
}
