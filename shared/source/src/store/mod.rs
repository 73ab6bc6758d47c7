//! Object stores: files behind `s3://`, `gs://`, `azblob://` and `http(s)://` as [`ByteSource`]s, and lists
//! of them. Owns what a URI means, the connection to a store and the way bytes come from it; the requests
//! themselves are the library's, and which file belongs to which table is the config's.
//!
//! Readers of this crate are synchronous. What waits for the network runs on a small runtime of its own and
//! is waited for from wherever the caller stands.
//!
//! [`ByteSource`]: crate::bytes::ByteSource

mod connect;
mod list;
mod location;
mod object;
mod redact;
mod region;
mod role;
mod shelf;

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use tokio::runtime::Runtime;

pub use list::{list, matches, scan, tables_of, with_access};
pub use location::{Location, LocationError};
pub(crate) use object::RemoteFile;
pub use shelf::Shelf;

/// Requests wait for the network, not for a processor.
const THREADS: usize = 2;

fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let build = || {
        // Several libraries use TLS: whoever comes first names the implementation for all of them.
        let _ = rustls::crypto::ring::default_provider().install_default();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|e| e.to_string())
    };
    let built = RUNTIME.get_or_init(build);
    built.as_ref().map_err(|e| io::Error::other(e.as_str()))
}

/// Waits for `work`, also where the caller is a thread of another runtime.
fn wait<T: Send + 'static>(
    work: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let task = runtime()?.spawn(work);
    futures::executor::block_on(task).map_err(io::Error::other)?
}
