//! An agent's sessions with coordinators, one after the other for as long as it lives: dials the coordinators in
//! turn, follows their hint to the leader, and between two sessions lets the work in hand go on.

use crate::worker::{Agent, SessionEnd};
use std::time::Duration;
use thunderhead_cluster::{Connector, Security};
use thunderhead_proto::thunderhead::{
    AgentMessage, CoordinatorMessage, control_client::ControlClient,
};
use thunderhead_types::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Messages between session and connection that may wait.
const LINK_MESSAGES: usize = 64;
/// How soon a dead connection is noticed: this long without an answer to a ping.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A coordinator that does not open the session within this is not there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Last messages may take this long to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// A session that lasted this long was a good one: the next is tried at once.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// Orders may carry the plan of a table.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Metadata key of the hint to the leader.
const LEADER_HINT: &str = "leader";

/// Works for whichever coordinator leads, until the agent has left.
///
/// # Errors
/// When coordinators refuse this agent for good, or it cannot work at all.
pub async fn follow(mut agent: Agent, coordinators: &[String], security: &Security) -> Result<()> {
    let mut next = 0usize;
    let mut hint: Option<String> = None;
    let mut backoff = BACKOFF_MIN;
    loop {
        let hinted = hint.take();
        let address = hinted
            .clone()
            .unwrap_or_else(|| coordinators[next % coordinators.len()].clone());
        let started = Instant::now();
        let ended = session(&mut agent, &address, security).await;
        match ended {
            Ok((SessionEnd::Left, _)) => {
                agent.stop().await;
                return Ok(());
            }
            Ok((SessionEnd::Fenced, _)) => {
                tracing::warn!(address, "left a coordinator that no longer leads");
            }
            Ok((SessionEnd::Lost, status)) => {
                if status.code() == Code::InvalidArgument {
                    agent.stop().await;
                    return Err(Error::new(
                        ErrorKind::Precheck,
                        format!("coordinator {address}"),
                        status.message(),
                    )
                    .advice("run the same version of thunderhead everywhere"));
                }
                tracing::info!(address, code = %status.code(), cause = status.message(), "no session");
                hint = leader_hint(&status).filter(|leader| *leader != address);
            }
            Err(error) if error.kind == ErrorKind::Internal => {
                agent.stop().await;
                return Err(error);
            }
            Err(error) => tracing::warn!(%error, address, "no session"),
        }
        if started.elapsed() > GOOD_SESSION {
            backoff = BACKOFF_MIN;
        } else if hinted.is_some() || hint.is_none() {
            // The first hint is followed at once; a chain of hints is not, and neither is a dead end.
            next += 1;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        let pause = if hint.is_some() {
            BACKOFF_MIN
        } else {
            jittered(backoff)
        };
        if agent.pause(pause).await {
            agent.stop().await;
            return Ok(());
        }
    }
}

/// Between half and the whole, so that a fleet does not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

fn leader_hint(status: &Status) -> Option<String> {
    let leader = status.metadata().get(LEADER_HINT)?.to_str().ok()?;
    (!leader.is_empty()).then(|| leader.to_owned())
}

/// One session; gives back how it ended at either side.
async fn session(
    agent: &mut Agent,
    address: &str,
    security: &Security,
) -> Result<(SessionEnd, Status)> {
    // Certificates are read again for each session.
    let endpoint = Connector::new(security)?
        .endpoint(address)?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let client =
        ControlClient::new(endpoint.connect_lazy()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (order_sender, orders) = mpsc::channel(LINK_MESSAGES);
    let (reports, outgoing) = mpsc::channel(LINK_MESSAGES);
    let mut link = tokio::spawn(carry(client, outgoing, order_sender));
    let served = agent.serve(orders, reports).await;
    Ok((served?, link_status(&mut link).await))
}

/// Gives the link time to send what was said last; dropping it resets the stream.
async fn link_status(link: &mut JoinHandle<Status>) -> Status {
    match timeout(FLUSH_TIMEOUT, &mut *link).await {
        Ok(Ok(status)) => status,
        Ok(Err(panic)) => Status::internal(panic.to_string()),
        Err(_) => {
            link.abort();
            Status::cancelled("the session was ended here")
        }
    }
}

/// Carries messages both ways until one side ends.
async fn carry(
    mut client: ControlClient<tonic::transport::Channel>,
    outgoing: mpsc::Receiver<AgentMessage>,
    orders: mpsc::Sender<CoordinatorMessage>,
) -> Status {
    let opened = timeout(OPEN_TIMEOUT, client.session(ReceiverStream::new(outgoing))).await;
    let mut incoming = match opened {
        Ok(Ok(opened)) => opened.into_inner(),
        Ok(Err(status)) => return status,
        Err(_) => return Status::deadline_exceeded("the coordinator does not answer"),
    };
    loop {
        match incoming.message().await {
            Ok(Some(order)) => {
                // Without a reader the session has ended here; what was said last still has to leave.
                let _ = orders.send(order).await;
            }
            Ok(None) => return Status::ok("the coordinator ended the session"),
            Err(status) => return status,
        }
    }
}
