//! Keeping garbage collection behind a timestamp. New servers have GC barriers, all have service safe
//! points; the newer call is probed once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use thunderhead_proto::pdpb;
use thunderhead_types::{Result, Timestamp};

use super::{METADATA_DEADLINE, PdClient, PdError};

impl PdClient {
    /// Keeps versions visible at `ts` from being collected for `ttl`. Called again with the same `id`
    /// it prolongs. Fails when `ts` is already behind the safe point.
    pub async fn guard_gc(&self, id: &str, ts: Timestamp, ttl: Duration) -> Result<()> {
        self.set_guard(id, ts, ttl.as_secs() as i64)
            .await
            .map_err(|e| self.error(e))
    }

    /// As [`PdClient::guard_gc`], but when `ts` is behind the safe point already, holds GC at a fresh
    /// timestamp instead. Gives back the timestamp that is held.
    pub(crate) async fn guard_gc_or_later(
        &self,
        id: &str,
        ts: Timestamp,
        ttl: Duration,
    ) -> Result<Timestamp> {
        match self.set_guard(id, ts, ttl.as_secs() as i64).await {
            Ok(()) => Ok(ts),
            Err(PdError::BehindSafePoint { .. } | PdError::Refused { .. }) => {
                let fresh = self.tso().await?;
                self.guard_gc(id, fresh, ttl).await?;
                Ok(fresh)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// Takes the protection named `id` away; fine if there is none.
    pub async fn unguard_gc(&self, id: &str) -> Result<()> {
        self.drop_guard(id).await.map_err(|e| self.error(e))
    }

    async fn set_guard(&self, id: &str, ts: Timestamp, ttl_seconds: i64) -> Result<(), PdError> {
        if !self.no_barriers.load(Ordering::Relaxed) {
            match self.set_barrier(id, ts, ttl_seconds).await {
                Err(PdError::Unimplemented(_)) => self.no_barriers.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        let safe_point = self.service_safe_point(id, ts, ttl_seconds).await?;
        if safe_point > ts {
            return Err(PdError::BehindSafePoint { ts, safe_point });
        }
        Ok(())
    }

    async fn drop_guard(&self, id: &str) -> Result<(), PdError> {
        if !self.no_barriers.load(Ordering::Relaxed) {
            match self.delete_barrier(id).await {
                Err(PdError::Unimplemented(_)) => self.no_barriers.store(true, Ordering::Relaxed),
                Err(PdError::Refused {
                    kind: pdpb::ErrorType::EntryNotFound,
                    ..
                }) => return Ok(()),
                done => return done,
            }
        }
        self.service_safe_point(id, 0, 0).await.map(|_| ())
    }

    async fn set_barrier(&self, id: &str, ts: Timestamp, ttl_seconds: i64) -> Result<(), PdError> {
        let _: pdpb::SetGcBarrierResponse = self
            .call("GC barrier", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::SetGcBarrierRequest {
                    header: self.header(),
                    keyspace_scope: None,
                    barrier_id: id.to_owned(),
                    barrier_ts: ts,
                    ttl_seconds,
                };
                async move { stub.set_gc_barrier(request).await }
            })
            .await?;
        Ok(())
    }

    async fn delete_barrier(&self, id: &str) -> Result<(), PdError> {
        let _: pdpb::DeleteGcBarrierResponse = self
            .call("GC barrier", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::DeleteGcBarrierRequest {
                    header: self.header(),
                    keyspace_scope: None,
                    barrier_id: id.to_owned(),
                };
                async move { stub.delete_gc_barrier(request).await }
            })
            .await?;
        Ok(())
    }

    /// The smallest safe point of all services afterwards.
    async fn service_safe_point(&self, id: &str, ts: Timestamp, ttl: i64) -> Result<u64, PdError> {
        let response: pdpb::UpdateServiceGcSafePointResponse = self
            .call("service safe point", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::UpdateServiceGcSafePointRequest {
                    header: self.header(),
                    service_id: id.as_bytes().to_vec().into(),
                    ttl,
                    safe_point: ts,
                };
                async move { stub.update_service_gc_safe_point(request).await }
            })
            .await?;
        Ok(response.min_safe_point)
    }
}
