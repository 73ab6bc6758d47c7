//! What a sandbox is started with, and what each emulated release can do. Checks nothing beyond its
//! own fields; the ports are bound by `lib.rs`.

use crate::faults::Fault;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use thunderhead_net::Security;

/// Which release the servers claim to be, and with it which calls they answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// 5.1: as 7.5, and without `DuplicateDetect`.
    #[serde(rename = "tikv-5.1")]
    V5_1,
    /// 7.5: no force-partition ranges, no `BatchScanRegions`, no GC barriers, 96 MiB regions.
    #[serde(rename = "tikv-7.5")]
    V7_5,
    /// 8.1: as 7.5.
    #[serde(rename = "tikv-8.1")]
    V8_1,
    /// 8.5.4: force-partition ranges and `BatchScanRegions`, 256 MiB regions.
    #[serde(rename = "tikv-8.5")]
    V8_5,
    /// 9.0: GC barriers and the transaction source in write records as well. The default, because it is the release
    /// on which files of ours were tried, so that a sandbox shows both paths.
    #[default]
    #[serde(rename = "tikv-9.0")]
    V9_0,
}

impl Profile {
    /// The version that stores and PD report.
    pub fn version(self) -> &'static str {
        match self {
            Profile::V5_1 => "5.1.5",
            Profile::V7_5 => "7.5.6",
            Profile::V8_1 => "8.1.2",
            Profile::V8_5 => "8.5.4",
            Profile::V9_0 => "9.0.0",
        }
    }

    pub(crate) fn force_partition(self) -> bool {
        matches!(self, Profile::V8_5 | Profile::V9_0)
    }

    pub(crate) fn duplicate_detect(self) -> bool {
        self != Profile::V5_1
    }

    pub(crate) fn batch_scan(self) -> bool {
        matches!(self, Profile::V8_5 | Profile::V9_0)
    }

    pub(crate) fn gc_barriers(self) -> bool {
        self == Profile::V9_0
    }

    pub(crate) fn writes_txn_source(self) -> bool {
        self == Profile::V9_0
    }

    /// `coprocessor.region-split-size`.
    pub(crate) fn region_split_bytes(self) -> u64 {
        match self {
            Profile::V5_1 | Profile::V7_5 | Profile::V8_1 => 96 << 20,
            Profile::V8_5 | Profile::V9_0 => 256 << 20,
        }
    }

    /// `coprocessor.region-split-keys`.
    pub(crate) fn region_split_keys(self) -> u64 {
        match self {
            Profile::V5_1 | Profile::V7_5 | Profile::V8_1 => 960_000,
            Profile::V8_5 | Profile::V9_0 => 2_560_000,
        }
    }
}

/// How to start a sandbox. `SandboxConfig::new` gives a cluster of three stores on free ports.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Everything the cluster keeps; created when missing.
    pub data_dir: PathBuf,
    /// Address that every listener binds.
    pub host: String,
    /// Number of stores; fixed once the data directory exists.
    pub stores: u32,
    /// Peers per region, at most `stores`; fixed like it.
    pub replicas: u32,
    /// PD's gRPC and HTTP port; 0 picks a free one.
    pub pd_port: u16,
    /// MySQL protocol port; 0 picks a free one.
    pub sql_port: u16,
    /// TiDB status port; 0 picks a free one.
    pub status_port: u16,
    /// Members of PD. The first one listens on `pd_port`, the others on free ports.
    pub pd_members: u32,
    /// Password of the SQL user `root`.
    pub root_password: String,
    /// The emulated release.
    pub profile: Profile,
    /// Overrides the profile's `coprocessor.region-split-size`, bytes.
    pub region_split_bytes: Option<u64>,
    /// How long a follower goes without the regions that a split made.
    pub split_apply_delay: Duration,
    /// How much longer PD reports such a follower as pending.
    pub split_report_delay: Duration,
    /// How often orphans leave the import directories.
    pub sweep_interval: Duration,
    /// Refuse ingests of uploaded files that TiKV takes but should not be given.
    pub lint: bool,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
    /// With an authority every port speaks TLS and asks clients for a certificate of it; the MySQL port
    /// offers TLS and does not insist.
    pub security: Security,
}

impl SandboxConfig {
    /// Three stores, three replicas, one PD member, free ports on the loopback address.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            host: "127.0.0.1".to_owned(),
            stores: 3,
            replicas: 3,
            pd_port: 0,
            sql_port: 0,
            status_port: 0,
            pd_members: 1,
            root_password: String::new(),
            profile: Profile::default(),
            region_split_bytes: None,
            split_apply_delay: Duration::from_millis(30),
            split_report_delay: Duration::from_millis(20),
            sweep_interval: Duration::from_secs(10),
            lint: true,
            faults: Vec::new(),
            security: Security::default(),
        }
    }

    pub(crate) fn region_split_bytes(&self) -> u64 {
        self.region_split_bytes
            .unwrap_or(self.profile.region_split_bytes())
    }
}
