//! Wire types only: Thunderhead's own coordinator/agent messages, and the subset of the PD and TiKV
//! protocols that we speak, wire-compatible with the servers. No behaviour lives here.

/// Messages between the coordinator and its agents.
#[allow(clippy::all, clippy::pedantic)]
pub mod thunderhead {
    tonic::include_proto!("thunderhead.v1");
}
