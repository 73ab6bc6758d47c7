//! A coordinator's end of the session, played by a test: what agents say comes in as it is, what they are told is
//! what the test says. Holds no state of a job.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use thunderhead_net::{Listener, Security};
use thunderhead_proto::thunderhead::control_server::{Control as Service, ControlServer};
use thunderhead_proto::thunderhead::{
    AgentMessage, CoordinatorMessage, Hello, Recorded, agent_message::Body,
    coordinator_message::Body as Order,
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for an agent to say something.
const PATIENCE: Duration = Duration::from_secs(60);

type Link = mpsc::Sender<Result<CoordinatorMessage, Status>>;
type Links = Arc<Mutex<HashMap<String, Link>>>;

/// See the module.
pub struct Control {
    /// `host:port`.
    pub address: String,
    epoch: u64,
    links: Links,
    inbox: mpsc::UnboundedReceiver<AgentMessage>,
    stop: CancellationToken,
    server: thunderhead_net::Server,
}

struct Server {
    links: Links,
    inbox: mpsc::UnboundedSender<AgentMessage>,
    stop: CancellationToken,
    refusal: Option<Status>,
}

impl Control {
    /// Serves on `port` (0 = a free one) at `epoch`.
    pub async fn start(port: u16, epoch: u64) -> Self {
        Self::serve(port, epoch, None, &Security::default()).await
    }

    /// Serves under mutual TLS.
    pub async fn start_secured(port: u16, epoch: u64, security: &Security) -> Self {
        Self::serve(port, epoch, None, security).await
    }

    /// Refuses every session with `status`.
    pub async fn refusing(status: Status) -> Self {
        Self::serve(0, 0, Some(status), &Security::default()).await
    }

    async fn serve(port: u16, epoch: u64, refusal: Option<Status>, security: &Security) -> Self {
        let listener = Listener::bind(&format!("127.0.0.1:{port}"), security)
            .await
            .expect("a port");
        let address = listener.address().to_string();
        let (sender, inbox) = mpsc::unbounded_channel();
        let (links, stop) = (Links::default(), CancellationToken::new());
        let service = Server {
            links: links.clone(),
            inbox: sender,
            stop: stop.clone(),
            refusal,
        };
        let service = ControlServer::new(service).max_decoding_message_size(64 << 20);
        let server = listener.serve(tonic::service::Routes::new(service).into_axum_router());
        Self {
            address,
            epoch,
            links,
            inbox,
            stop,
            server,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit(':').next().expect("host:port");
        port.parse().expect("a port")
    }

    /// Gives an order; panics when the agent has no session.
    pub async fn order(&self, agent: &str, order: Order) {
        let link = self
            .links
            .lock()
            .await
            .get(agent)
            .cloned()
            .expect("a session");
        let message = CoordinatorMessage {
            epoch: self.epoch,
            body: Some(order),
        };
        link.send(Ok(message)).await.expect("the session is open");
    }

    /// Waits for the next message of which `pick` makes something; forgets the ones before it.
    pub async fn next<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&str, Body) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                let message = self.inbox.recv().await.expect("the server runs");
                let Some(body) = message.body else { continue };
                if let Some(found) = pick(&message.agent_id, body) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("no agent said {what} within {PATIENCE:?}"))
    }

    /// Waits for an agent to introduce itself.
    pub async fn hello(&mut self) -> (String, Hello) {
        self.next("hello", |agent, body| match body {
            Body::Hello(hello) => Some((agent.to_owned(), hello)),
            _ => None,
        })
        .await
    }

    /// Says that a report is recorded.
    pub async fn recorded(
        &self,
        agent: &str,
        job: &str,
        task_id: u64,
        attempt: u32,
        task_epoch: u64,
    ) {
        let recorded = Recorded {
            job_id: job.to_owned(),
            task_id,
            attempt,
            task_epoch,
        };
        self.order(agent, Order::Recorded(recorded)).await;
    }

    /// Ends all sessions and frees the port.
    pub async fn stop(self) {
        self.links.lock().await.clear();
        self.stop.cancel();
        self.server.stop().await;
    }
}

#[tonic::async_trait]
impl Service for Server {
    type SessionStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(status) = &self.refusal {
            return Err(status.clone());
        }
        let mut messages = request.into_inner();
        let first = messages.message().await?.expect("a hello");
        let (link, orders) = mpsc::channel(64);
        self.links.lock().await.insert(first.agent_id.clone(), link);
        let (inbox, stop) = (self.inbox.clone(), self.stop.clone());
        tokio::spawn(async move {
            let _ = inbox.send(first);
            while let Some(Ok(Some(message))) = stop.run_until_cancelled(messages.message()).await {
                let _ = inbox.send(message);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(orders))))
    }
}
