//! Calls to etcd: which member is asked, how long, and logging in. Knows nothing of what is stored.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thunderhead_cluster::{Connector, Security};
use thunderhead_proto::etcdserverpb::{
    AuthenticateRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseRevokeRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
};
use thunderhead_types::{Error, ErrorKind, Result};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Where etcd is and who we are there.
#[derive(Clone)]
pub struct EtcdConfig {
    /// Addresses of members.
    pub urls: Vec<String>,
    /// TLS files.
    pub security: Security,
    /// User and password where etcd asks for them.
    pub login: Option<(String, String)>,
}

struct Shared {
    connector: Connector,
    members: Vec<Member>,
    current: AtomicUsize,
    login: Option<(String, String)>,
    token: Mutex<Option<String>>,
    timeout: Duration,
}

/// One server of the cluster and the connection to it.
struct Member {
    url: String,
    channel: Mutex<Channel>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct EtcdClient(Arc<Shared>);

impl EtcdClient {
    /// Does not connect yet.
    pub(super) fn new(config: EtcdConfig, timeout: Duration) -> Result<Self> {
        if config.urls.is_empty() {
            return Err(Error::new(ErrorKind::Config, "etcd", "no address is given"));
        }
        let connector = Connector::new(&config.security)?;
        let member = |url: &String| {
            Ok(Member {
                url: url.clone(),
                channel: Mutex::new(connect(&connector, url, timeout)?),
            })
        };
        Ok(Self(Arc::new(Shared {
            members: config.urls.iter().map(member).collect::<Result<_>>()?,
            connector,
            current: AtomicUsize::new(0),
            login: config.login,
            token: Mutex::new(None),
            timeout,
        })))
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.call(request, async |channel, request| {
            kv(channel)
                .range(request)
                .await
                .map(tonic::Response::into_inner)
        })
        .await
    }

    /// Is sent once: the caller knows what an unanswered one may have done.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.call(request, async |channel, request| {
            kv(channel)
                .txn(request)
                .await
                .map(tonic::Response::into_inner)
        })
        .await
    }

    pub(super) async fn grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.call(request, async |channel, request| {
            let answer = LeaseClient::new(channel).lease_grant(request).await?;
            Ok(answer.into_inner())
        })
        .await
    }

    pub(super) async fn revoke(&self, request: LeaseRevokeRequest) -> Result<()> {
        self.call(request, async |channel, request| {
            LeaseClient::new(channel)
                .lease_revoke(request)
                .await
                .map(drop)
        })
        .await
    }

    /// False when the lease is gone.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<bool> {
        self.call(
            LeaseKeepAliveRequest { id: lease },
            async |channel, request| {
                let (metadata, extensions, message) = request.into_parts();
                let stream = tokio_stream::once(message);
                let request = Request::from_parts(metadata, extensions, stream);
                let mut answers = LeaseClient::new(channel)
                    .lease_keep_alive(request)
                    .await?
                    .into_inner();
                let answer = answers.message().await?;
                Ok(answer.is_some_and(|answer| answer.ttl > 0))
            },
        )
        .await
    }

    /// One try at the member that answered last; after a failure the next one is asked next time.
    async fn call<Q: Clone, A>(
        &self,
        message: Q,
        ask: impl AsyncFn(Channel, Request<Q>) -> Result<A, Status>,
    ) -> Result<A> {
        let shared = &self.0;
        let at = shared.current.load(Ordering::Relaxed) % shared.members.len();
        let member = &shared.members[at];
        let channel = member.channel.lock().clone();
        let once = async || {
            self.log_in(&channel).await?;
            let mut request = Request::new(message.clone());
            if let Some(token) = shared.token.lock().clone()
                && let Ok(token) = token.parse()
            {
                request.metadata_mut().insert("token", token);
            }
            match tokio::time::timeout(shared.timeout, ask(channel.clone(), request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Status::deadline_exceeded(format!(
                    "no answer within {:?}",
                    shared.timeout
                ))),
            }
        };
        let mut answer = once().await;
        if let Err(status) = &answer
            && shared.login.is_some()
            && is_old_token(status)
        {
            *shared.token.lock() = None;
            answer = once().await;
        }
        answer.map_err(|status| {
            shared.current.fetch_add(1, Ordering::Relaxed);
            // A new connection is made with the certificates as they are now.
            if matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::DeadlineExceeded
            ) && let Ok(fresh) = connect(&shared.connector, &member.url, shared.timeout)
            {
                *member.channel.lock() = fresh;
            }
            explain(&member.url, &status)
        })
    }

    async fn log_in(&self, channel: &Channel) -> Result<(), Status> {
        let Some((name, password)) = &self.0.login else {
            return Ok(());
        };
        if self.0.token.lock().is_some() {
            return Ok(());
        }
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let login = async { AuthClient::new(channel.clone()).authenticate(request).await };
        let answer = tokio::time::timeout(self.0.timeout, login)
            .await
            .map_err(|_| Status::deadline_exceeded("no answer to the login"))??;
        *self.0.token.lock() = Some(answer.into_inner().token);
        Ok(())
    }
}

/// Connects when it is used first.
fn connect(connector: &Connector, url: &str, timeout: Duration) -> Result<Channel> {
    let endpoint = connector.endpoint(url)?.connect_timeout(timeout);
    Ok(endpoint.connect_lazy())
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

fn is_old_token(status: &Status) -> bool {
    status.code() == Code::Unauthenticated || status.message().contains("invalid auth token")
}

/// What may pass by itself is `Cluster`, the rest needs somebody.
fn explain(url: &str, status: &Status) -> Error {
    let place = format!("etcd {url}");
    let cause = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            Error::new(ErrorKind::Config, place, cause)
                .advice("give a user who may read and write below the prefix")
        }
        Code::InvalidArgument if status.message().contains("authentication failed") => {
            Error::new(ErrorKind::Config, place, cause).advice("correct the etcd user or password")
        }
        Code::InvalidArgument | Code::Unimplemented => {
            Error::new(ErrorKind::Internal, place, cause)
        }
        Code::ResourceExhausted if status.message().contains("space") => {
            Error::new(ErrorKind::Cluster, place, cause)
                .advice("etcd is full: compact and defragment it, then disarm its NOSPACE alarm")
        }
        _ => Error::new(ErrorKind::Cluster, place, cause)
            .advice("check that etcd runs and is reachable"),
    }
}
