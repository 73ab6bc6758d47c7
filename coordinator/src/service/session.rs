//! Agents' sessions: who may have one, and what is said on it.

use super::Shared;
use crate::fleet::Event;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_proto::thunderhead::{
    AgentMessage, CoordinatorMessage, agent_message::Body, control_server::Control,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Orders that may wait for an agent; beyond that its session ends.
const ORDERS: usize = 1024;
/// An agent says hello at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The gRPC service.
pub(super) struct ControlService(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Control for ControlService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let Some(term) = self.0.term() else {
            let mut status = Status::failed_precondition("this coordinator does not lead");
            if let Ok(leader) = self.0.leader_address().await.parse() {
                status.metadata_mut().insert("leader", leader);
            }
            return Err(status);
        };
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??
            .ok_or_else(|| Status::cancelled("no hello"))?;
        let Some(Body::Hello(hello)) = &first.body else {
            return Err(Status::invalid_argument(
                "the first message must be a hello",
            ));
        };
        let (agent, ours) = (first.agent_id.clone(), env!("CARGO_PKG_VERSION"));
        if hello.version != ours {
            return Err(Status::invalid_argument(format!(
                "agent {agent} is of version {}, the coordinator of version {ours}",
                hello.version
            )));
        }
        let (link, orders) = mpsc::channel(ORDERS);
        let (events, session) = (term.fleet.events(), term.fleet.new_session());
        tokio::spawn(async move {
            let connected = Event::Connected {
                agent: agent.clone(),
                session,
                link,
            };
            let mut open = events.send(connected).await.is_ok();
            let mut next = Some(first);
            while let Some(message) = next.take().filter(|_| open) {
                open = events
                    .send(Event::Message { session, message })
                    .await
                    .is_ok();
                next = tokio::select! {
                    // The leader ended this session, or its term is over.
                    () = events.closed() => None,
                    received = messages.message() => received.ok().flatten(),
                };
            }
            let _ = events.send(Event::Closed { agent, session }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(orders).map(Ok))))
    }
}
