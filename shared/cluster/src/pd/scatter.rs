//! Spreading regions over stores and waiting, for a bounded time, until PD's operators are done. A
//! region that stays where it is costs speed, not correctness, so nothing here fails an import.

use std::time::Duration;

use thunderhead_proto::pdpb;
use thunderhead_types::Result;
use tokio::time::Instant;

use super::{METADATA_DEADLINE, PdClient, PdError, SCATTER_DEADLINE};

/// How many regions one call names.
const SCATTER_BATCH: usize = 256;
/// Tries that PD makes by itself inside one call.
const SCATTER_TRIES: u64 = 5;
/// What PD calls the operators that scattering makes.
const OPERATOR: &[u8] = b"scatter-region";
const POLL: Duration = Duration::from_millis(200);

/// What became of a scatter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScatterStats {
    /// Regions asked for.
    pub regions: usize,
    /// Regions that PD would not move, or whose moves were not over in time.
    pub left: usize,
}

impl PdClient {
    /// Spreads the regions and waits for it, `patience` at most. Regions of one `group` are balanced
    /// among themselves.
    pub async fn scatter(
        &self,
        regions: &[u64],
        group: &str,
        patience: Duration,
    ) -> Result<ScatterStats> {
        let until = Instant::now() + patience;
        let mut todo = regions.to_vec();
        while !todo.is_empty() {
            let mut refused = Vec::new();
            for batch in todo.chunks(SCATTER_BATCH) {
                refused.extend(self.scatter_batch(batch, group).await?);
            }
            todo.retain(|id| !refused.contains(id));
            let mut again = self.wait_operators(todo, until).await?;
            again.extend(refused);
            todo = again;
            if Instant::now() >= until {
                break;
            }
            if !todo.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(ScatterStats {
            regions: regions.len(),
            left: todo.len(),
        })
    }

    /// The regions that PD refused.
    async fn scatter_batch(&self, regions: &[u64], group: &str) -> Result<Vec<u64>> {
        let response = self
            .call("scatter", SCATTER_DEADLINE, |mut stub| {
                let request = pdpb::ScatterRegionRequest {
                    header: self.header(),
                    group: group.to_owned(),
                    regions_id: regions.to_vec(),
                    retry_limit: SCATTER_TRIES,
                    skip_store_limit: true,
                    ..Default::default()
                };
                async move { stub.scatter_region(request).await }
            })
            .await;
        let response: pdpb::ScatterRegionResponse = match response {
            Err(PdError::Refused { message, .. }) => {
                tracing::debug!(%message, "scatter refused");
                return Ok(regions.to_vec());
            }
            response => response.map_err(|e| self.error(e))?,
        };
        Ok(response.failed_regions_id)
    }

    /// Waits for the operators of `regions`; gives back those to scatter again.
    async fn wait_operators(&self, regions: Vec<u64>, until: Instant) -> Result<Vec<u64>> {
        let mut running = regions;
        let mut again = Vec::new();
        loop {
            let mut still = Vec::new();
            for id in running {
                match self.operator(id).await? {
                    Some(pdpb::OperatorStatus::Running) => still.push(id),
                    Some(pdpb::OperatorStatus::Success) | None => {}
                    Some(_) => again.push(id),
                }
            }
            running = still;
            if running.is_empty() || Instant::now() >= until {
                again.extend(running);
                return Ok(again);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How the region's scatter operator stands; `None` when it has none (any more).
    async fn operator(&self, region_id: u64) -> Result<Option<pdpb::OperatorStatus>> {
        let response = self
            .call("operator", METADATA_DEADLINE, |mut stub| {
                let request = pdpb::GetOperatorRequest {
                    header: self.header(),
                    region_id,
                };
                async move { stub.get_operator(request).await }
            })
            .await;
        match response {
            Ok(response) => {
                let response: pdpb::GetOperatorResponse = response;
                Ok((response.desc.as_ref() == OPERATOR).then(|| response.status()))
            }
            // "Nothing is running" comes as a refusal.
            Err(PdError::Refused { .. }) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }
}
