//! Wire types only: Thunderhead's own coordinator/agent messages, and the subset of the PD and TiKV
//! protocols that we speak, wire-compatible with the servers. No behaviour lives here.

/// Messages between the coordinator and its agents.
#[allow(clippy::all, clippy::pedantic)]
pub mod thunderhead {
    tonic::include_proto!("thunderhead.v1");
}

/// Regions, peers, epochs and stores.
#[allow(clippy::all, clippy::pedantic)]
pub mod metapb {
    tonic::include_proto!("metapb");
}

/// Why a store refused a request that named a region.
#[allow(clippy::all, clippy::pedantic)]
pub mod errorpb {
    tonic::include_proto!("errorpb");
}

/// The placement driver's service.
#[allow(clippy::all, clippy::pedantic)]
pub mod pdpb {
    tonic::include_proto!("pdpb");
}

/// Transactional key-value messages.
#[allow(clippy::all, clippy::pedantic)]
pub mod kvrpcpb {
    tonic::include_proto!("kvrpcpb");
}

/// The key-value service of a store.
#[allow(clippy::all, clippy::pedantic)]
pub mod tikvpb {
    tonic::include_proto!("tikvpb");
}

/// The bulk-import service of a store.
#[allow(clippy::all, clippy::pedantic)]
pub mod import_sstpb {
    tonic::include_proto!("import_sstpb");
}

/// Computation at a store; only the checksum kind is spoken.
#[allow(clippy::all, clippy::pedantic)]
pub mod coprocessor {
    tonic::include_proto!("coprocessor");
}

/// Payloads of a coprocessor checksum.
#[allow(clippy::all, clippy::pedantic)]
pub mod tipb {
    tonic::include_proto!("tipb");
}

/// The state store's own: etcd's key-value, lease and login services.
#[allow(clippy::all, clippy::pedantic)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
