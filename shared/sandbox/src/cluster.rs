//! The whole cluster's state in one place: stores, region table, ids, timestamps, faults, and which
//! stores are dead. Opens and bootstraps it. How regions change is in `topology`, how their data
//! changes in `replicate`.

use crate::config::SandboxConfig;
use crate::error::{Result, SandboxError};
use crate::faults::Faults;
use crate::meta::{Meta, MetaBatch};
use crate::pd_state::PdState;
use crate::regions::{RegionRecord, RegionState, Regions};
use crate::replicate::RegionLog;
use crate::store::Store;
use crate::tso::Tso;
use parking_lot::{Mutex, RwLock};
use rocksdb::Cache;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use thunderhead_proto::metapb::{
    NodeState, Peer, Region, RegionEpoch, Store as StoreInfo, StoreState,
};
use thunderhead_sandbox_sql::SqlPort;
use thunderhead_types::{Clock, SystemClock};

/// Block cache that all stores share.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// Epoch and term that a bootstrapped region starts with, and that its log continues from.
const INITIAL_TERM: u64 = 6;

/// A store that met what would have crashed TiKV. It stays dead until it is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPanic {
    pub store: u64,
    pub region: u64,
    /// Name of the SST, without its directory.
    pub file: String,
    pub reason: String,
}

/// What never changes after the bootstrap.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    cluster_id: u64,
    stores: u32,
    replicas: u32,
}

/// See the module. Locks are taken in this order: a region's log, the region table, anything else.
pub(crate) struct Cluster {
    pub config: SandboxConfig,
    pub id: u64,
    pub replicas: u32,
    pub meta: Arc<Meta>,
    pub clock: Arc<dyn Clock>,
    pub tso: Tso,
    pub faults: Faults,
    pub pd: PdState,
    pub stores: BTreeMap<u64, Arc<Store>>,
    pub(crate) regions: RwLock<Regions>,
    pub(crate) logs: Mutex<HashMap<u64, Arc<Mutex<RegionLog>>>>,
    /// Regions with log entries that some peer has not applied.
    pub(crate) behind: Mutex<BTreeSet<u64>>,
    pub(crate) panics: Mutex<Vec<SandboxPanic>>,
    /// Ids of the uploaded files that the lint saw, with their CRC-32: equal ids must be equal files.
    pub(crate) uploaded_ids: Mutex<HashMap<String, u32>>,
    /// Set once the port listens.
    pub(crate) sql_port: OnceLock<SqlPort>,
    /// Uuids that an ingest named, and those that came again after that.
    pub(crate) names: Mutex<Names>,
    ids: Mutex<Ids>,
    started_unix_s: i64,
}

/// What an importer must never do: a follower that applies late would find its file taken.
#[derive(Default)]
pub(crate) struct Names {
    ingested: HashSet<Vec<u8>>,
    again: HashSet<Vec<u8>>,
}

/// Names that are remembered.
const NAMES_MAX: usize = 1 << 20;

impl Names {
    pub(crate) fn ingest(&mut self, uuid: &[u8]) {
        if self.ingested.len() >= NAMES_MAX {
            self.ingested.clear();
        }
        self.ingested.insert(uuid.to_vec());
    }

    /// A stream that brings a file opens.
    pub(crate) fn open(&mut self, uuid: &[u8]) {
        if self.ingested.contains(uuid) {
            tracing::error!("a name that an ingest knew is used again");
            self.again.insert(uuid.to_vec());
        }
    }

    pub(crate) fn used_again(&self) -> usize {
        self.again.len()
    }
}

struct Ids {
    next: u64,
    bound: u64,
}

const IDS: &str = "ids";
const IDENTITY: &str = "identity";
/// Ids reserved with one sync.
const ID_BLOCK: u64 = 1000;

impl Cluster {
    /// Opens the data directory, bootstrapping an empty one, and applies what the logs still hold.
    pub(crate) fn open(config: SandboxConfig) -> Result<Arc<Self>> {
        std::fs::create_dir_all(&config.data_dir)?;
        let meta = Arc::new(Meta::open(&config.data_dir.join("pd"))?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = match meta.get::<Identity>(IDENTITY)? {
            Some(identity) => identity,
            None => Self::bootstrap(&meta, &config)?,
        };
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut stores = BTreeMap::new();
        for id in 1..=u64::from(identity.stores) {
            let dir = config.data_dir.join(format!("tikv-{id}"));
            stores.insert(id, Arc::new(Store::open(id, &dir, &cache)?));
        }
        let bound = meta.get(IDS)?.unwrap_or(1);
        let faults = Faults::default();
        for fault in &config.faults {
            faults.add(fault.clone());
        }
        let cluster = Self {
            id: identity.cluster_id,
            replicas: identity.replicas,
            tso: Tso::open(meta.clone(), clock.clone())?,
            pd: PdState::open(meta.clone(), config.pd_members)?,
            faults,
            stores,
            regions: RwLock::new(load_regions(&meta)?),
            logs: Mutex::default(),
            behind: Mutex::default(),
            panics: Mutex::default(),
            uploaded_ids: Mutex::default(),
            sql_port: OnceLock::new(),
            names: Mutex::default(),
            ids: Mutex::new(Ids { next: bound, bound }),
            started_unix_s: (clock.unix_ms() / 1000) as i64,
            config,
            meta,
            clock,
        };
        cluster.recover_logs()?;
        Ok(Arc::new(cluster))
    }

    fn bootstrap(meta: &Meta, config: &SandboxConfig) -> Result<Identity> {
        let stores = config.stores.max(1);
        let replicas = config.replicas.clamp(1, stores);
        // Region and peer ids follow the store ids, as they do when PD hands all of them out.
        let region_id = u64::from(stores) + 1;
        let peers: Vec<Peer> = (1..=u64::from(replicas))
            .map(|store_id| Peer {
                id: region_id + store_id,
                store_id,
                ..Default::default()
            })
            .collect();
        let next = region_id + u64::from(replicas) + 1;
        let region_epoch = Some(RegionEpoch {
            conf_ver: u64::from(replicas),
            version: 1,
        });
        let region = Region {
            id: region_id,
            region_epoch,
            peers,
            ..Default::default()
        };
        let mut batch = MetaBatch::default();
        batch.put_region(
            region_id,
            &RegionState::new(region, Some(1), INITIAL_TERM).record(),
        );
        meta.write_sync(batch)?;
        meta.put(IDS, &next)?;
        let cluster_id = rand::random::<u64>() >> 1 | 1;
        let identity = Identity {
            cluster_id,
            stores,
            replicas,
        };
        meta.put(IDENTITY, &identity)?;
        Ok(identity)
    }

    /// The last of `count` fresh ids.
    pub(crate) fn allocate_ids(&self, count: u64) -> Result<u64> {
        let mut ids = self.ids.lock();
        let end = ids.next + count;
        if end > ids.bound {
            let bound = end + ID_BLOCK;
            self.meta.put(IDS, &bound)?;
            ids.bound = bound;
        }
        ids.next = end;
        Ok(end - 1)
    }

    pub(crate) fn store(&self, id: u64) -> Option<&Arc<Store>> {
        self.stores.get(&id)
    }

    /// What PD says about a store.
    pub(crate) fn store_info(&self, store: &Store) -> StoreInfo {
        let now_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as i64);
        StoreInfo {
            id: store.id,
            address: store.address(),
            state: if store.removed() {
                StoreState::Tombstone.into()
            } else {
                StoreState::Up.into()
            },
            version: self.config.profile.version().to_owned(),
            status_address: store.status_address(),
            start_timestamp: self.started_unix_s,
            last_heartbeat: if store.alive() {
                now_ns
            } else {
                now_ns - 60_000_000_000
            },
            node_state: NodeState::Serving.into(),
            ..Default::default()
        }
    }

    pub(crate) fn region(&self, id: u64) -> Option<RegionState> {
        self.regions.read().get(id).cloned()
    }

    /// Whether the store is up.
    pub(crate) fn is_alive(&self, store: u64) -> bool {
        self.store(store).is_some_and(|store| store.alive())
    }

    /// Reports what would have crashed the store, and kills it.
    pub(crate) fn panic_store(&self, panic: SandboxPanic) {
        tracing::error!(
            store = panic.store,
            region = panic.region,
            file = panic.file,
            reason = panic.reason,
            "sandbox panic"
        );
        let store = panic.store;
        self.panics.lock().push(panic);
        self.mark_dead(store);
    }

    /// The store stops answering. Regions elect other leaders later, by [`Cluster::elect`].
    pub(crate) fn mark_dead(&self, store: u64) {
        if let Some(store) = self.store(store) {
            store.set_alive(false);
        }
    }

    /// Deletes files whose region is not on the store or has a newer epoch there.
    pub(crate) fn sweep(&self, store: &Store) -> Result<()> {
        for (path, name) in store.import.files()? {
            let Some(name) = name else { continue };
            let now = Instant::now();
            let regions = self.regions.read();
            let local = regions
                .get(name.region)
                .and_then(|state| state.local_view(store.id, now));
            let orphan = local.is_none_or(|region| {
                let epoch = crate::regions::epoch(region);
                name.conf_ver < epoch.conf_ver || name.version < epoch.version
            });
            drop(regions);
            if orphan {
                tracing::info!(store = store.id, region = name.region, "orphan SST deleted");
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}

fn load_regions(meta: &Meta) -> Result<Regions> {
    let mut regions = Regions::default();
    for record in meta.regions()? {
        let record: RegionRecord = prost::Message::decode(&record[..])?;
        let region = record
            .region
            .ok_or_else(|| SandboxError::Corrupt("region record".into()))?;
        let leader = region
            .peers
            .iter()
            .map(|p| p.store_id)
            .find(|store| *store == record.leader);
        let leader = leader.or(region.peers.first().map(|p| p.store_id));
        regions.put(RegionState::new(region, leader, record.term));
    }
    Ok(regions)
}
