//! Where bytes come from: the seam between readers of a format and whatever holds the file. Owns what a
//! source has to offer, and the source for local files; other stores and compressed files implement the
//! same trait. Readers see uncompressed bytes and their offsets only.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thunderhead_config::Compression;
use thunderhead_config::uri::is_store;

use crate::compress::unpacked;
use crate::error::{Place, SourceError};
use crate::store::RemoteFile;

/// What tells one content of a file from another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Bytes as they are stored, compressed or not.
    pub stored_bytes: u64,
    /// Last change, nanoseconds since the Unix epoch; 0 where the store has none.
    pub modified_ns: i64,
    /// The store's own mark of the content, if it has one.
    pub etag: Option<String>,
}

/// A file that can be read, as often and from as many threads as one likes.
pub trait ByteSource: Send + Sync + Debug {
    /// The file as the user knows it, without secrets.
    fn name(&self) -> &str;

    /// What the store says about the content now; two equal answers mean the same bytes.
    fn identity(&self) -> io::Result<Identity>;

    /// Uncompressed bytes; `None` where only reading to the end can tell.
    fn size(&self) -> io::Result<Option<u64>>;

    /// Whether [`ByteSource::open`] reaches every offset without reading what lies before it.
    fn seekable(&self) -> bool;

    /// The last place at or before `offset` where reading can begin, if there is anything to know about it.
    fn entry(&self, _offset: u64) -> Option<Entry> {
        None
    }

    /// The uncompressed bytes from `offset` on. A stream that ends before the file does is an error of
    /// the stream, never a short read.
    fn open(&self, offset: u64) -> io::Result<ByteStream>;

    /// The same for a reader of many places at a time: little is read ahead.
    fn open_narrow(&self, offset: u64) -> io::Result<ByteStream> {
        self.open(offset)
    }

    /// Bytes of memory that such a stream takes, about.
    fn narrow_bytes(&self) -> usize {
        8 << 10
    }
}

/// A place where a packed file can be entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Byte of the file as it is stored.
    pub stored: u64,
    /// The byte of the unpacked file that it unpacks to.
    pub unpacked: u64,
}

/// Bytes in their order; its owner counts the position.
pub type ByteStream = Box<dyn Read + Send>;

/// The source at `location`, a path or a URI with its query, unpacked from `compression`.
pub fn source_at(
    location: &str,
    compression: Compression,
) -> Result<Arc<dyn ByteSource>, SourceError> {
    Ok(unpacked(stored_at(location)?, compression))
}

/// Unpacked bytes per stored byte in the first part of a packed file; `None` where nothing is packed, or nothing
/// can be unpacked.
pub fn packed_ratio(stored: Arc<dyn ByteSource>, compression: Compression) -> Option<f64> {
    let start = Arc::new(Start(stored));
    let unpacked = unpacked(start, compression);
    if unpacked.seekable() {
        return None;
    }
    let (mut stream, mut buffer, mut bytes) = (unpacked.open(0).ok()?, vec![0; 64 << 10], 0u64);
    // It ends with an error where the first part does.
    while let Ok(got) = stream.read(&mut buffer)
        && got > 0
    {
        bytes += got as u64;
    }
    let stored = unpacked.identity().ok()?.stored_bytes.min(START_BYTES);
    (bytes > 0 && stored > 0).then(|| bytes as f64 / stored as f64)
}

/// What [`packed_ratio`] reads.
const START_BYTES: u64 = 1 << 20;

/// The first bytes of a file, as if it ended there.
#[derive(Debug)]
struct Start(Arc<dyn ByteSource>);

impl ByteSource for Start {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.0.identity()
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn seekable(&self) -> bool {
        self.0.seekable()
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let stream = self.0.open_narrow(offset)?;
        Ok(Box::new(stream.take(START_BYTES.saturating_sub(offset))))
    }
}

/// The source at `location` as it is stored.
pub fn stored_at(location: &str) -> Result<Arc<dyn ByteSource>, SourceError> {
    if !is_store(location) {
        return Ok(Arc::new(LocalFile::new(location)));
    }
    let file = RemoteFile::new(location).map_err(|source| SourceError::Io {
        place: Place {
            path: location.split(['?', '@']).next().unwrap_or_default().into(),
            line: 0,
            byte: 0,
        },
        source,
    })?;
    Ok(Arc::new(file))
}

/// All bytes of a small file; one with more than `bytes_max` is refused.
pub fn read_whole(source: &dyn ByteSource, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = source
        .open(0)
        .and_then(|stream| stream.take(bytes_max + 1).read_to_end(&mut bytes));
    let too_long = || io::Error::other(format!("more than {bytes_max} bytes are too many here"));
    match read {
        Ok(read) if read as u64 > bytes_max => Err(io_error(source, bytes_max, too_long())),
        Ok(_) => Ok(bytes),
        Err(error) => Err(io_error(source, bytes.len() as u64, error)),
    }
}

/// A plain file of this machine.
#[derive(Clone, Debug)]
pub struct LocalFile {
    path: PathBuf,
    name: String,
}

impl LocalFile {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let name = path.display().to_string();
        Self { path, name }
    }
}

impl ByteSource for LocalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> io::Result<Identity> {
        let metadata = std::fs::metadata(&self.path)?;
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        Ok(Identity {
            stored_bytes: metadata.len(),
            modified_ns: seconds.saturating_add(metadata.mtime_nsec()),
            etag: None,
        })
    }

    fn size(&self) -> io::Result<Option<u64>> {
        Ok(Some(std::fs::metadata(&self.path)?.len()))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// An error of `source` at `byte`.
pub(crate) fn io_error(source: &dyn ByteSource, byte: u64, error: io::Error) -> SourceError {
    SourceError::Io {
        place: Place {
            path: source.name().to_owned(),
            line: 0,
            byte,
        },
        source: error,
    }
}
