//! Faults whose action means the same at every point: waiting, ending the call, and changing the
//! cluster under it. What is left over is handed back to the caller.

use crate::cluster::Cluster;
use crate::error::Result;
use crate::faults::{Action, Point};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

impl Cluster {
    /// Asks whether this call is struck, and does what can be done here. For services.
    pub(crate) async fn strike(
        self: &Arc<Self>,
        point: Point,
        store: Option<u64>,
        region: Option<u64>,
    ) -> Result<Option<Action>, Status> {
        match self.faults.hit(point, store, region) {
            Some(Action::Delay { ms }) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(None)
            }
            Some(Action::Status { code, message }) => Err(Status::new(parse_code(&code), message)),
            Some(action) => {
                let cluster = self.clone();
                blocking(move || Ok(cluster.disturb(action, store, region)?)).await
            }
            None => Ok(None),
        }
    }

    fn disturb(
        &self,
        action: Action,
        store: Option<u64>,
        region: Option<u64>,
    ) -> Result<Option<Action>> {
        let region = region.unwrap_or(0);
        match action {
            Action::Split => _ = self.split_middle(region)?,
            Action::Merge => _ = self.merge(region)?,
            Action::ConfChange => _ = self.change_peer(region)?,
            Action::TransferLeader => _ = self.transfer_leader(region, None)?,
            Action::Mutate => _ = self.mutate_value(region)?,
            Action::StopStore => {
                self.mark_dead(store.unwrap_or(0));
                self.elect()?;
            }
            Action::TsoJump { ms } => self.tso.jump(ms),
            Action::TsoExhaust { left } => self.tso.exhaust(left),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }
}

/// Runs storage work off the I/O threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
}

fn parse_code(name: &str) -> Code {
    match name {
        "cancelled" => Code::Cancelled,
        "deadline-exceeded" => Code::DeadlineExceeded,
        "resource-exhausted" => Code::ResourceExhausted,
        "failed-precondition" => Code::FailedPrecondition,
        "unimplemented" => Code::Unimplemented,
        "unavailable" => Code::Unavailable,
        "internal" => Code::Internal,
        "aborted" => Code::Aborted,
        _ => Code::Unknown,
    }
}
