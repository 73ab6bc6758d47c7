//! Connections to stores: addresses from PD, a few gRPC channels each, made on first use and dropped
//! when a store turns out to have moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::Deserialize;
use thunderhead_proto::import_sstpb::import_sst_client::ImportSstClient;
use thunderhead_proto::metapb;
use thunderhead_proto::tikvpb::tikv_client::TikvClient;
use thunderhead_types::{Error, ErrorKind, Result};
use tonic::transport::Channel;

use crate::pd::{PdClient, deepest};

/// One HTTP/2 connection is one task on each side and one flow-control window: several carry more.
const CHANNELS: usize = 4;
/// Why there is no channel to a store.
pub(crate) const STORE_UNKNOWN: &str = "PD does not know the store";
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// Clients of all stores, shared by all tasks of a process.
pub struct StoreClients {
    pd: Arc<PdClient>,
    stores: Mutex<HashMap<u64, Arc<Store>>>,
}

struct Store {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Store {
    fn channel(&self) -> Channel {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        self.channels[index].clone()
    }
}

/// Whether a store is a columnar learner.
pub fn is_tiflash(store: &metapb::Store) -> bool {
    store
        .labels
        .iter()
        .any(|l| l.key == "engine" && l.value.starts_with("tiflash"))
}

/// Where a store takes imports.
fn import_address(store: &metapb::Store) -> &str {
    match is_tiflash(store) && !store.peer_address.is_empty() {
        true => &store.peer_address,
        false => &store.address,
    }
}

impl StoreClients {
    /// No connections yet.
    pub fn new(pd: Arc<PdClient>) -> Self {
        Self {
            pd,
            stores: Mutex::new(HashMap::new()),
        }
    }

    /// A channel to the store; connects when first used. `None` when PD does not know the store (any more):
    /// what named it is out of date.
    pub async fn channel(&self, store_id: u64) -> Result<Option<Channel>> {
        if let Some(store) = self.stores.lock().get(&store_id) {
            return Ok(Some(store.channel()));
        }
        let stores = self.pd.stores().await?;
        let Some(store) = stores.iter().find(|s| s.id == store_id) else {
            return Ok(None);
        };
        let endpoint = self.pd.connector().endpoint(import_address(store))?;
        let opened = Arc::new(Store {
            channels: (0..CHANNELS).map(|_| endpoint.connect_lazy()).collect(),
            next: AtomicUsize::new(0),
        });
        let mut known = self.stores.lock();
        Ok(Some(known.entry(store_id).or_insert(opened).channel()))
    }

    async fn known(&self, store_id: u64) -> Result<Channel> {
        self.channel(store_id).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::Cluster,
                format!("store {store_id}"),
                STORE_UNKNOWN,
            )
        })
    }

    /// The store's import service.
    pub async fn import(&self, store_id: u64) -> Result<ImportSstClient<Channel>> {
        Ok(ImportSstClient::new(self.known(store_id).await?))
    }

    /// The store's key-value service.
    pub async fn tikv(&self, store_id: u64) -> Result<TikvClient<Channel>> {
        let client = TikvClient::new(self.known(store_id).await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Forgets the store's address and connections.
    pub fn forget(&self, store_id: u64) {
        self.stores.lock().remove(&store_id);
    }

    /// What one store's configuration says; every store of a cluster should say the same.
    pub async fn config(&self) -> Result<StoreConfig> {
        let mut cause = "no store has a status address".to_owned();
        for store in self.pd.stores().await? {
            if is_tiflash(&store) || store.status_address.is_empty() {
                continue;
            }
            let connector = self.pd.connector();
            let url = connector.url(&store.status_address) + "/config";
            match fetch_config(&connector.http(), &url).await {
                Ok(config) => return Ok(config),
                Err(error) => cause = format!("{url}: {error}"),
            }
        }
        Err(Error::new(ErrorKind::Cluster, "store configuration", cause))
    }
}

/// The part of a store's configuration that an importer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Regions are split when they are larger, bytes.
    pub region_split_bytes: Option<u64>,
    /// 1 or 2.
    pub api_version: u8,
}

async fn fetch_config(http: &reqwest::Client, url: &str) -> Result<StoreConfig, String> {
    let response = http.get(url).send().await.map_err(|e| deepest(&e))?;
    let response = response.error_for_status().map_err(|e| e.to_string())?;
    let text = response.text().await.map_err(|e| deepest(&e))?;
    parse_config(&text)
}

fn parse_config(text: &str) -> Result<StoreConfig, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Config {
        #[serde(default)]
        coprocessor: Coprocessor,
        #[serde(default)]
        storage: Storage,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct Coprocessor {
        region_split_size: Option<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct Storage {
        api_version: Option<u8>,
    }
    let config: Config = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Ok(StoreConfig {
        region_split_bytes: config
            .coprocessor
            .region_split_size
            .as_deref()
            .and_then(parse_size),
        api_version: config.storage.api_version.unwrap_or(1),
    })
}

/// `256MiB`, `1.5GiB`, `96MB` (which TiKV means as binary, too), plain bytes.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "K" | "KB" | "KiB" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        "T" | "TB" | "TiB" => 40,
        _ => return None,
    };
    Some((number * (1u64 << shift) as f64) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read_as_tikv_prints_them() {
        assert_eq!(parse_size("256MiB"), Some(256 << 20));
        assert_eq!(parse_size("1.5GiB"), Some(3 << 29));
        assert_eq!(parse_size("96MB"), Some(96 << 20));
        assert_eq!(parse_size("1024"), Some(1024));
        assert_eq!(parse_size("many"), None);
        assert_eq!(parse_size("3 parsecs"), None);
    }

    #[test]
    fn configuration_is_read_where_present() {
        let text =
            r#"{"coprocessor":{"region-split-size":"256MiB"},"storage":{"api-version":2},"x":1}"#;
        let config = parse_config(text).unwrap();
        assert_eq!(
            (config.region_split_bytes, config.api_version),
            (Some(256 << 20), 2)
        );
        let config = parse_config("{}").unwrap();
        assert_eq!((config.region_split_bytes, config.api_version), (None, 1));
        assert!(parse_config("<html>").is_err());
    }

    #[test]
    fn imports_go_to_the_peer_address_of_tiflash_only() {
        let mut store = metapb::Store {
            address: "a:1".to_owned(),
            peer_address: "p:2".to_owned(),
            ..Default::default()
        };
        assert_eq!(import_address(&store), "a:1");
        store.labels.push(metapb::StoreLabel {
            key: "engine".to_owned(),
            value: "tiflash".to_owned(),
        });
        assert_eq!(import_address(&store), "p:2");
    }
}
