//! The client side of a TiDB cluster, as a bulk importer needs it: PD (members, timestamps, regions,
//! scatter, protection from GC and scheduling), TiKV (split, build and ingest SSTs, checksum, point
//! reads) and TiDB (SQL and status port). Knows nothing of tables' encoding, sorting or job plans:
//! sorted pairs come in through [`PairSource`].

mod built;
mod checksum;
mod feed;
mod gate;
mod guards;
mod importer;
mod ingest;
mod limit;
mod meta;
mod orphans;
mod pairs;
mod pd;
mod pulse;
mod reaction;
mod read;
mod region;
mod region_cache;
mod retry;
mod security;
mod space;
mod split;
mod store;
mod task_info;
mod tidb;
mod upload;
mod versions;
mod waits;
mod wire;
mod write;

pub use gate::IngestPath;
pub use guards::{GuardOptions, Guards};
pub use importer::{Importer, ImporterOptions};
pub use ingest::IngestStats;
pub use pairs::{BATCH_BYTES, MemoryPairs, PairBatch, PairReader, PairSource};
pub use pd::{PdClient, ScatterStats};
pub use pulse::Pulse;
pub use read::{Page, Version};
pub use region::Region;
pub use region_cache::RegionCache;
pub use retry::RetryPolicy;
pub use security::Connector;
pub use space::DiskAccount;
pub use split::SplitStats;
pub use store::{StoreClients, StoreConfig, is_tiflash};
pub use task_info::{
    ConflictCount, ConflictRow, RefusedRow, RefusedTable, SHOWN_COLUMNS, ShownConflict, TaskInfo,
    task_id,
};
pub use thunderhead_net::Security;
pub use tidb::{IdKind, NextRowId, SessionFacts, SqlTls, TidbClient, TidbOptions, quote};
pub use versions::Overwritten;
pub use waits::{Waited, Waits};
