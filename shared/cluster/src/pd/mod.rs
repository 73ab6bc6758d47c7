//! The placement driver's client: finds the leader among the members, follows it when it moves, sends
//! the cluster's id with everything and refuses to talk to another cluster. Failures come on two
//! channels, gRPC status and response header; both end in one error here. Every call has a deadline
//! and every retry a limit; cancelling is dropping the future.

mod calls;
mod gc;
mod http;
mod regions;
mod scatter;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::RwLock;
use thiserror::Error as ThisError;
use thunderhead_proto::pdpb::{self, pd_client::PdClient as Stub};
use thunderhead_types::{Error, ErrorKind, Result};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::retry::{Exhausted, Pace, Patience, RetryPolicy};
use crate::security::Connector;
use calls::Headed;
pub(crate) use calls::LOGICAL_BITS;
pub(crate) use http::deepest;
pub use scatter::ScatterStats;
use thunderhead_net::Security;

/// For everything that PD answers from memory.
pub(crate) const METADATA_DEADLINE: Duration = Duration::from_secs(3);
/// Scattering waits for operators inside PD.
const SCATTER_DEADLINE: Duration = Duration::from_secs(60);
/// How long a first connection may take: a wrong address should be reported soon.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// An answer of many regions is large.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// Why PD could not do what was asked.
#[derive(Debug, ThisError)]
pub(crate) enum PdError {
    #[error("no PD address given")]
    NoAddress,
    #[error("{what}: {source}")]
    Exhausted {
        what: &'static str,
        source: Exhausted,
    },
    #[error("the address belongs to another cluster: {0}")]
    WrongCluster(String),
    #[error("{0}: this PD does not know the call")]
    Unimplemented(&'static str),
    #[error("{what}: refused ({kind:?}): {message}")]
    Refused {
        what: &'static str,
        kind: pdpb::ErrorType,
        message: String,
    },
    #[error("{what}: {code:?}: {message}")]
    Status {
        what: &'static str,
        code: Code,
        message: String,
    },
    #[error("{0}: HTTP {1}: {2}")]
    Http(&'static str, u16, String),
    #[error("timestamp {ts} is behind the GC safe point {safe_point}: data at it may be gone")]
    BehindSafePoint { ts: u64, safe_point: u64 },
    #[error("region {0} has a border that is no encoded key; only TiDB clusters are supported")]
    ForeignBorder(u64),
    #[error(transparent)]
    Connector(#[from] Error),
}

struct Leader {
    url: String,
    stub: Stub<Channel>,
}

struct Members {
    /// Seeds and everything that members told of each other.
    urls: BTreeSet<String>,
    leader: Option<Arc<Leader>>,
}

/// A connection to the placement driver of one cluster.
pub struct PdClient {
    connector: Connector,
    policy: RetryPolicy,
    cluster_id: u64,
    members: RwLock<Members>,
    /// Set once a server said so; servers are upgraded, not downgraded, while we run.
    no_batch_scan: AtomicBool,
    no_barriers: AtomicBool,
}

/// What to do about a failed call.
enum Verdict {
    Retry(String),
    Stop(PdError),
}

impl PdClient {
    /// Connects through any of `urls` (`host:port` or URLs) with the default patience.
    pub async fn connect(urls: &[String], security: &Security) -> Result<Arc<PdClient>> {
        Self::connect_with(urls, security, RetryPolicy::default()).await
    }

    /// Connects through any of `urls`; `policy` is the patience of each later call.
    pub async fn connect_with(
        urls: &[String],
        security: &Security,
        policy: RetryPolicy,
    ) -> Result<Arc<PdClient>> {
        let connector = Connector::new(security)?;
        let urls: BTreeSet<String> = urls.iter().map(|url| connector.url(url)).collect();
        let place = urls.iter().cloned().collect::<Vec<_>>().join(",");
        let mut client = PdClient {
            connector,
            policy,
            cluster_id: 0,
            members: RwLock::new(Members { urls, leader: None }),
            no_batch_scan: AtomicBool::new(false),
            no_barriers: AtomicBool::new(false),
        };
        client.cluster_id = client
            .first_contact()
            .await
            .map_err(|e| border(&place, e))?;
        Ok(Arc::new(client))
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// How connections of this cluster are made.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The patience of each call.
    pub fn policy(&self) -> RetryPolicy {
        self.policy
    }

    pub(crate) fn error(&self, error: PdError) -> Error {
        border(&self.place(), error)
    }

    fn place(&self) -> String {
        let members = self.members.read();
        match &members.leader {
            Some(leader) => leader.url.clone(),
            None => members.urls.iter().cloned().collect::<Vec<_>>().join(","),
        }
    }

    async fn first_contact(&self) -> Result<u64, PdError> {
        if self.members.read().urls.is_empty() {
            return Err(PdError::NoAddress);
        }
        let mut patience = Patience::new(RetryPolicy {
            max_elapsed: CONNECT_PATIENCE.min(self.policy.max_elapsed),
        });
        loop {
            match self.discover().await {
                Ok((cluster_id, _)) => return Ok(cluster_id),
                Err(Verdict::Stop(error)) => return Err(error),
                Err(Verdict::Retry(cause)) => wait(&mut patience, "members", cause).await?,
            }
        }
    }

    /// Asks members until one knows the leader; remembers it and all members' addresses.
    async fn discover(&self) -> Result<(u64, Arc<Leader>), Verdict> {
        let urls: Vec<String> = self.members.read().urls.iter().cloned().collect();
        let mut causes = Vec::new();
        for url in urls {
            let response = match self.members_of(&url).await {
                Ok(response) => response,
                Err(cause) => {
                    causes.push(format!("{url}: {cause}"));
                    continue;
                }
            };
            let id = response.header.as_ref().map_or(0, |h| h.cluster_id);
            if self.cluster_id != 0 && id != self.cluster_id {
                let text = format!("{url} is of cluster {id}, not {}", self.cluster_id);
                return Err(Verdict::Stop(PdError::WrongCluster(text)));
            }
            self.remember(&response.members);
            let leader_url = response
                .leader
                .and_then(|m| m.client_urls.into_iter().next());
            let Some(leader_url) = leader_url else {
                causes.push(format!("{url}: no leader elected"));
                continue;
            };
            let leader_url = self.connector.url(&leader_url);
            let stub = self
                .stub(&leader_url)
                .map_err(|e| Verdict::Stop(e.into()))?;
            let leader = Arc::new(Leader {
                url: leader_url,
                stub,
            });
            self.members.write().leader = Some(leader.clone());
            return Ok((id, leader));
        }
        Err(Verdict::Retry(causes.join("; ")))
    }

    async fn members_of(&self, url: &str) -> Result<pdpb::GetMembersResponse, String> {
        let mut stub = self.stub(url).map_err(|e| e.to_string())?;
        // A header with another cluster's id would be refused by some versions; zero is not checked.
        let request = pdpb::GetMembersRequest { header: None };
        match tokio::time::timeout(METADATA_DEADLINE, stub.get_members(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status_text(&status)),
            Err(_) => Err(format!("no answer within {METADATA_DEADLINE:?}")),
        }
    }

    fn remember(&self, members: &[pdpb::Member]) {
        let mut known = self.members.write();
        for url in members.iter().flat_map(|m| &m.client_urls) {
            known.urls.insert(self.connector.url(url));
        }
    }

    fn stub(&self, url: &str) -> Result<Stub<Channel>> {
        let channel = self.connector.endpoint(url)?.connect_lazy();
        Ok(Stub::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    async fn leader(&self) -> Result<Arc<Leader>, Verdict> {
        if let Some(leader) = self.members.read().leader.clone() {
            return Ok(leader);
        }
        self.discover().await.map(|(_, leader)| leader)
    }

    /// Forgets `leader`, unless another one was found meanwhile.
    fn forget(&self, leader: &Arc<Leader>) {
        let mut members = self.members.write();
        if members
            .leader
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, leader))
        {
            members.leader = None;
        }
    }

    fn header(&self) -> Option<pdpb::RequestHeader> {
        Some(pdpb::RequestHeader {
            cluster_id: self.cluster_id,
            caller_id: "thunderhead".to_owned(),
            ..Default::default()
        })
    }

    /// Asks the leader, whoever that becomes, until there is an answer or patience ends.
    pub(crate) async fn call<R, F, Fut>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: F,
    ) -> Result<R, PdError>
    where
        R: Headed,
        F: Fn(Stub<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let mut patience = Patience::new(self.policy);
        loop {
            match self.attempt(what, deadline, &call).await {
                Ok(response) => return Ok(response),
                Err(Verdict::Stop(error)) => return Err(error),
                Err(Verdict::Retry(cause)) => wait(&mut patience, what, cause).await?,
            }
        }
    }

    async fn attempt<R, F, Fut>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: &F,
    ) -> Result<R, Verdict>
    where
        R: Headed,
        F: Fn(Stub<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let leader = self.leader().await?;
        let verdict = match tokio::time::timeout(deadline, call(leader.stub.clone())).await {
            Ok(Ok(response)) => match self.check(what, response.into_inner()) {
                Ok(response) => return Ok(response),
                Err(verdict) => verdict,
            },
            Ok(Err(status)) => judge(what, &status),
            Err(_) => Verdict::Retry(format!("{}: no answer within {deadline:?}", leader.url)),
        };
        if matches!(verdict, Verdict::Retry(_)) {
            self.forget(&leader);
        }
        Err(verdict)
    }

    /// Looks at the header: another cluster, or a refusal.
    fn check<R: Headed>(&self, what: &'static str, response: R) -> Result<R, Verdict> {
        let Some(header) = response.header() else {
            return Ok(response);
        };
        if header.cluster_id != 0 && self.cluster_id != 0 && header.cluster_id != self.cluster_id {
            let text = format!("{}, expected {}", header.cluster_id, self.cluster_id);
            return Err(Verdict::Stop(PdError::WrongCluster(text)));
        }
        let Some(error) = header.error.as_ref().filter(|e| e.r#type != 0) else {
            return Ok(response);
        };
        Err(match error.r#type() {
            pdpb::ErrorType::NotBootstrapped => {
                Verdict::Retry("the cluster is not bootstrapped".to_owned())
            }
            pdpb::ErrorType::RegionsNotContainAllKeyRange => {
                Verdict::Retry("PD knows no region for a part of the range".to_owned())
            }
            kind => Verdict::Stop(PdError::Refused {
                what,
                kind,
                message: error.message.clone(),
            }),
        })
    }
}

async fn wait(
    patience: &mut Patience,
    what: &'static str,
    cause: impl std::fmt::Display,
) -> Result<(), PdError> {
    let waited = patience.wait(Pace::Short, cause).await;
    waited.map_err(|source| PdError::Exhausted { what, source })
}

fn judge(what: &'static str, status: &Status) -> Verdict {
    if status.message().contains("mismatch cluster id") {
        return Verdict::Stop(PdError::WrongCluster(status.message().to_owned()));
    }
    match status.code() {
        Code::Unimplemented => Verdict::Stop(PdError::Unimplemented(what)),
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::OutOfRange => Verdict::Stop(PdError::Status {
            what,
            code: status.code(),
            message: status.message().to_owned(),
        }),
        _ => Verdict::Retry(status_text(status)),
    }
}

/// The status with the deepest cause: tonic's own text is often only "transport error".
pub(crate) fn status_text(status: &Status) -> String {
    let mut source = std::error::Error::source(status);
    let mut deepest = None;
    while let Some(error) = source {
        deepest = Some(error.to_string());
        source = error.source();
    }
    match deepest {
        Some(cause) if !status.message().contains(&cause) => {
            format!("{:?}: {}: {cause}", status.code(), status.message())
        }
        _ => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn border(place: &str, error: PdError) -> Error {
    let advice = match &error {
        PdError::Connector(inner) => return inner.clone(),
        PdError::NoAddress => {
            return Error::new(ErrorKind::Config, "pd", error).advice("set tidb.pd-addr");
        }
        PdError::WrongCluster(_) => "check pd-addr; a job keeps to the cluster it started with",
        PdError::BehindSafePoint { .. } => "start the import anew: its timestamp is too old",
        PdError::Exhausted { .. } => {
            "check that PD runs and is reachable, then run the same command again"
        }
        _ => "",
    };
    Error::new(ErrorKind::Cluster, format!("pd {place}"), error).advice(advice)
}
