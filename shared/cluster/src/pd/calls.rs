//! PD calls that are a question and an answer: timestamps, stores, cluster configuration.

use futures::{StreamExt, stream};
use thunderhead_proto::{metapb, pdpb};
use thunderhead_types::{Result, Timestamp};
use tonic::{Response, Status};

use super::{METADATA_DEADLINE, PdClient};

/// A response with PD's header.
pub(crate) trait Headed {
    /// Cluster id and refusal.
    fn header(&self) -> Option<&pdpb::ResponseHeader>;
}

macro_rules! headed {
    ($($name:ident),* $(,)?) => {
        $(impl Headed for pdpb::$name {
            fn header(&self) -> Option<&pdpb::ResponseHeader> {
                self.header.as_ref()
            }
        })*
    };
}

headed!(
    TsoResponse,
    GetStoreResponse,
    GetAllStoresResponse,
    GetRegionResponse,
    ScanRegionsResponse,
    BatchScanRegionsResponse,
    ScatterRegionResponse,
    GetOperatorResponse,
    GetClusterConfigResponse,
    UpdateServiceGcSafePointResponse,
    SetGcBarrierResponse,
    DeleteGcBarrierResponse,
);

/// Bits of a timestamp below the milliseconds.
pub(crate) const LOGICAL_BITS: u32 = 18;

impl PdClient {
    /// A fresh timestamp, greater than any given out before.
    pub async fn tso(&self) -> Result<Timestamp> {
        let response = self
            .call("timestamp", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::TsoRequest {
                    header: self.header(),
                    count: 1,
                    dc_location: "global".to_owned(),
                };
                // The sending half stays open until the answer is there: a server may take its end for
                // the end of the whole stream.
                let requests = stream::iter([request]).chain(stream::pending());
                async move {
                    let mut responses = stub.tso(requests).await?.into_inner();
                    let first = responses.message().await?;
                    let first = first.and_then(|r| r.timestamp.is_some().then_some(r));
                    // An ended stream means that this member lost its leadership.
                    first
                        .map(Response::new)
                        .ok_or_else(|| Status::unavailable("stream ended"))
                }
            })
            .await
            .map_err(|e| self.error(e))?;
        let ts = response.timestamp.unwrap_or_default();
        Ok(((ts.physical as u64) << LOGICAL_BITS) | ts.logical as u64)
    }

    /// All stores that were not taken out of the cluster.
    pub async fn stores(&self) -> Result<Vec<metapb::Store>> {
        let response: pdpb::GetAllStoresResponse = self
            .call("stores", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::GetAllStoresRequest {
                    header: self.header(),
                    exclude_tombstone_stores: true,
                };
                async move { stub.get_all_stores(request).await }
            })
            .await
            .map_err(|e| self.error(e))?;
        let mut stores = response.stores;
        stores.retain(|s| s.state() != metapb::StoreState::Tombstone);
        Ok(stores)
    }

    /// What a store last reported of itself: capacity, free space, load.
    pub async fn store_stats(&self, store_id: u64) -> Result<pdpb::StoreStats> {
        let response: pdpb::GetStoreResponse = self
            .call("store", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::GetStoreRequest {
                    header: self.header(),
                    store_id,
                };
                async move { stub.get_store(request).await }
            })
            .await
            .map_err(|e| self.error(e))?;
        Ok(response.stats.unwrap_or_default())
    }
}
