//! The client side of a TiDB cluster, as a bulk importer needs it: PD (members, timestamps, regions,
//! scatter, protection from GC and scheduling), TiKV (split, build and ingest SSTs, checksum, point
//! reads) and TiDB (SQL and status port). Knows nothing of tables' encoding, sorting or job plans:
//! sorted pairs come in through [`PairSource`].

mod pairs;
mod pd;
mod reaction;
mod region;
mod retry;
mod security;

pub use pairs::{BATCH_BYTES, MemoryPairs, PairBatch, PairReader, PairSource};
pub use pd::{PdClient, ScatterStats};
pub use region::Region;
pub use retry::RetryPolicy;
pub use security::{Connector, Security};
