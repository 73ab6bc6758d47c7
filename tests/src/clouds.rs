//! A store that answers as the clouds do, as far as reading goes: the XML of S3 and Google, Azure's blobs with
//! shared keys, and what gives credentials (instance metadata, the token service). It keeps what it was asked,
//! which a real server does not tell. Emulators of Google and Azure are hundreds of megabytes to install.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::serve::Listener;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use thunderhead_net::Security;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Lists come in pages of so many objects.
const PAGE: usize = 2;
/// Of every object; the time that real stores give is of no interest here.
const MODIFIED: (&str, &str) = ("2026-11-21T10:00:00.000Z", "Sat, 21 Nov 2026 10:00:00 GMT");

/// Azure's account and its key.
pub const ACCOUNT: &str = "someaccount";
/// Base64, as Azure gives it.
pub const ACCOUNT_KEY: &str = "U0VDUkVURVhBTVBMRS1TRUNSRVRFWEFNUExF";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, `HEAD` and so on.
    pub method: Method,
    /// As it was written, escapes and all.
    pub path: String,
    /// As it was written.
    pub query: String,
    /// All of them.
    pub headers: HeaderMap,
}

impl Asked {
    /// A header's text, empty without it.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

#[derive(Default)]
struct Shared {
    /// By path.
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Asked>>,
    azure: bool,
    /// Requests must be signed for it.
    region: Option<String>,
    /// See [`Cloud::hold`].
    hold: Mutex<Option<Hold>>,
    /// Objects with requests that are held, and how many.
    held: watch::Sender<BTreeMap<String, usize>>,
}

#[derive(Clone, Copy)]
struct Hold {
    from: usize,
    objects: usize,
    at_most: Duration,
    /// The most that were held at a time.
    most: usize,
}

/// The store; it stops when its handle is dropped.
pub struct Cloud {
    /// `http://host:port`.
    pub endpoint: String,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cloud {
    /// S3 and Google.
    pub fn xml() -> Self {
        Self::start(Shared::default(), None)
    }

    /// S3 in a region, which it names as S3 does.
    pub fn in_region(region: &str) -> Self {
        let region = Some(region.to_owned());
        Self::start(
            Shared {
                region,
                ..Shared::default()
            },
            None,
        )
    }

    /// S3 behind TLS, with the certificate and the key of `files`.
    pub fn secured(files: &Security) -> Self {
        Self::start(Shared::default(), Some(acceptor(files)))
    }

    /// Azure, for who knows the key or has a token.
    pub fn azure() -> Self {
        let azure = true;
        Self::start(
            Shared {
                azure,
                ..Shared::default()
            },
            None,
        )
    }

    fn start(shared: Shared, tls: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(shared);
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let serve = async {
                    match tls {
                        Some(tls) => axum::serve(Secured { listener, tls }, router).await,
                        None => axum::serve(listener, router).await,
                    }
                };
                tokio::select! {
                    served = serve => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self {
            endpoint: format!("{scheme}://{address}"),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Stores an object: `path` begins with the bucket.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        let mut objects = self.shared.objects.lock().expect("no panic");
        objects.insert(format!("/{path}"), content.into());
    }

    /// From now on requests for what lies at byte `from` of an object or behind it are held until there are some of
    /// `objects` objects at a time, or for so long. One whose client went away does not count.
    pub fn hold(&self, from: usize, objects: usize, at_most: Duration) {
        *self.shared.hold.lock().expect("no panic") = Some(Hold {
            from,
            objects,
            at_most,
            most: 0,
        });
    }

    /// Of how many objects requests were held at a time, at most.
    pub fn held_at_a_time(&self) -> usize {
        self.shared
            .hold
            .lock()
            .expect("no panic")
            .map_or(0, |hold| hold.most)
    }

    /// What was asked since the last time this was called.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().expect("no panic"))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connections under TLS; who does not manage one is gone.
struct Secured {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Asks nobody for a certificate.
fn acceptor(files: &Security) -> TlsAcceptor {
    thunderhead_net::install_provider();
    let read = |path: &Option<PathBuf>| {
        let path = path.as_ref().expect("a file");
        std::fs::read(path).expect("a file")
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&files.cert)).collect();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key)
        .expect("a key and its certificate");
    TlsAcceptor::from(Arc::new(config))
}

fn reply(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let asked = Asked {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        headers: request.headers().clone(),
    };
    shared.asked.lock().expect("no panic").push(asked.clone());
    if let Some(credentials) = credentials(&asked) {
        return credentials;
    }
    if let Some(region) = &shared.region
        && let Some(elsewhere) = other_region(&asked, region)
    {
        return elsewhere;
    }
    let query = parameters(&asked.query);
    if shared.azure && !allowed(&asked, &query) {
        let code = "<Error><Code>AuthenticationFailed</Code></Error>";
        return reply(StatusCode::FORBIDDEN, code);
    }
    wait_for_others(&shared, &asked).await;
    let objects = shared.objects.lock().expect("no panic");
    if query.contains_key("list-type") || query.get("comp").is_some_and(|comp| comp == "list") {
        let text = list(&objects, &asked.path, &query, shared.azure);
        return reply(StatusCode::OK, text);
    }
    match objects.get(&unescaped(&asked.path)) {
        Some(object) => part(object, &asked),
        None => reply(StatusCode::NOT_FOUND, ""),
    }
}

/// Holds a request as [`Cloud::hold`] says.
async fn wait_for_others(shared: &Shared, asked: &Asked) {
    let hold = *shared.hold.lock().expect("no panic");
    let Some(hold) = hold.filter(|hold| hold.most < hold.objects) else {
        return;
    };
    if range(asked).is_none_or(|(start, _)| start < hold.from) {
        return;
    }
    let held = Held::new(shared, &asked.path);
    let mut changes = shared.held.subscribe();
    let most = || shared.hold.lock().expect("no panic").map(|hold| hold.most);
    let enough = changes.wait_for(|_| most() >= Some(hold.objects));
    let _ = tokio::time::timeout(hold.at_most, enough).await;
    drop(held);
}

/// A request that is held, until it goes on or its client is gone.
struct Held<'a> {
    shared: &'a Shared,
    path: &'a str,
}

impl<'a> Held<'a> {
    fn new(shared: &'a Shared, path: &'a str) -> Self {
        shared.held.send_modify(|held| {
            *held.entry(path.to_owned()).or_default() += 1;
            if let Some(hold) = &mut *shared.hold.lock().expect("no panic") {
                hold.most = hold.most.max(held.len());
            }
        });
        Self { shared, path }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.held.send_modify(|held| {
            if let Some(count) = held.get_mut(self.path) {
                *count -= 1;
            }
            held.retain(|_, count| *count > 0);
        });
    }
}

/// First byte and, if it is given, last byte of what was asked for.
fn range(asked: &Asked) -> Option<(usize, Option<usize>)> {
    let bounds = asked.header("range").strip_prefix("bytes=")?;
    let (from, last) = bounds.split_once('-')?;
    Some((from.parse().expect("a number"), last.parse().ok()))
}

/// An object or a range of it.
fn part(object: &[u8], asked: &Asked) -> Response<Body> {
    let etag = format!("\"{:x}\"", Sha256::digest(object));
    let condition = asked.header("if-match");
    if !condition.is_empty() && condition != etag {
        return reply(StatusCode::PRECONDITION_FAILED, "");
    }
    let bounds = range(asked)
        .map(|(from, last)| from..last.map_or(object.len(), |last| (last + 1).min(object.len())));
    let (status, range) = match bounds {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, 0..object.len()),
    };
    let content = format!(
        "bytes {}-{}/{}",
        range.start,
        range.end.saturating_sub(1),
        object.len()
    );
    let body = object[range].to_vec();
    let length = body.len();
    let body = if asked.method == Method::HEAD {
        Vec::new()
    } else {
        body
    };
    let mut response = Response::builder()
        .status(status)
        .header("etag", etag)
        .header("last-modified", MODIFIED.1)
        .header("content-length", length);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header("content-range", content);
    }
    response.body(body.into()).expect("a response")
}

/// A page of a list in the form of S3 and Google, or in Azure's.
fn list(
    objects: &BTreeMap<String, Vec<u8>>,
    path: &str,
    query: &BTreeMap<String, String>,
    azure: bool,
) -> String {
    let bucket = format!("{}/", path.trim_end_matches('/'));
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = text(if azure {
        "marker"
    } else {
        "continuation-token"
    });
    let mut found: Vec<(&str, &[u8])> = Vec::new();
    let mut below = BTreeSet::new();
    for (name, object) in objects {
        let Some(key) = name
            .strip_prefix(&bucket)
            .filter(|key| key.starts_with(prefix))
        else {
            continue;
        };
        match key[prefix.len()..].split_once(delimiter) {
            Some((dir, _)) if !delimiter.is_empty() => {
                below.insert(format!("{prefix}{dir}{delimiter}"));
            }
            _ if key > after => found.push((key, object)),
            _ => {}
        }
    }
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let next = if more {
        found.last().map_or("", |(key, _)| *key)
    } else {
        ""
    };
    let mut page = String::new();
    for (key, object) in &found {
        let (etag, size) = (format!("{:x}", Sha256::digest(object)), object.len());
        page.push_str(&if azure {
            format!("<Blob><Name>{key}</Name><Properties><Last-Modified>{}</Last-Modified><Etag>{etag}</Etag><Content-Length>{size}</Content-Length><Content-Type>text/csv</Content-Type></Properties></Blob>", MODIFIED.1)
        } else {
            format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{}</LastModified><ETag>\"{etag}\"</ETag></Contents>", MODIFIED.0)
        });
    }
    let below: String = below
        .iter()
        .map(|dir| {
            let element = if azure {
                "BlobPrefix"
            } else {
                "CommonPrefixes"
            };
            let name = if azure { "Name" } else { "Prefix" };
            format!("<{element}><{name}>{dir}</{name}></{element}>")
        })
        .collect();
    if azure {
        let marker = format!("<NextMarker>{next}</NextMarker>");
        return format!(
            "<EnumerationResults><Blobs>{page}{below}</Blobs>{marker}</EnumerationResults>"
        );
    }
    let token = match next {
        "" => String::new(),
        next => format!("<NextContinuationToken>{next}</NextContinuationToken>"),
    };
    format!(
        "<ListBucketResult>{page}{below}<IsTruncated>{more}</IsTruncated>{token}</ListBucketResult>"
    )
}

/// What S3 says of a bucket's head, and to requests that are signed for another region.
fn other_region(asked: &Asked, region: &str) -> Option<Response<Body>> {
    let scope = format!("/{region}/s3/aws4_request");
    if asked.header("authorization").contains(&scope) {
        return None;
    }
    let mut answer = reply(StatusCode::MOVED_PERMANENTLY, "");
    let name = HeaderName::from_static("x-amz-bucket-region");
    let region = HeaderValue::from_str(region).expect("a region");
    answer.headers_mut().insert(name, region);
    Some(answer)
}

/// Instance metadata, and the token service for those who come with the key of an instance or a user.
fn credentials(asked: &Asked) -> Option<Response<Body>> {
    let role = "/latest/meta-data/iam/security-credentials/";
    let ok = |text: &str| Some(reply(StatusCode::OK, text.to_owned()));
    match asked.path.as_str() {
        "/latest/api/token" => return ok("metadata-token"),
        path if path == role => return ok("machine"),
        path if path.starts_with(role) => {
            return ok(
                r#"{"AccessKeyId":"MACHINEKEY","SecretAccessKey":"SECRETEXAMPLE","Token":"MACHINETOKEN","Expiration":"2099-01-01T00:00:00Z"}"#,
            );
        }
        _ => {}
    }
    let query = parameters(&asked.query);
    if query.get("Action")? != "AssumeRole" {
        return None;
    }
    if query.get("RoleArn")? != "arn:aws:iam::1:role/reader" {
        let code = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>AKEXAMPLE may not</Message></Error></ErrorResponse>";
        return Some(reply(StatusCode::FORBIDDEN, code));
    }
    ok(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLEKEY</AccessKeyId><SecretAccessKey>SECRETEXAMPLE</SecretAccessKey><SessionToken>ROLETOKEN</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
    )
}

/// Whether the shared key of Azure has signed the request, or it has the token.
fn allowed(asked: &Asked, query: &BTreeMap<String, String>) -> bool {
    if query
        .get("sig")
        .is_some_and(|sig| sig == "SECRETEXAMPLE/+=")
    {
        return true;
    }
    let by = shared_key(
        asked.method.as_str(),
        &asked.path,
        &asked.query,
        &asked.headers,
    );
    asked.header("authorization") == by
}

/// The header `authorization` of a request that [`ACCOUNT_KEY`] signs.
pub fn shared_key(method: &str, path: &str, query: &str, headers: &HeaderMap) -> String {
    let header = |name: &str| {
        let value = headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    };
    let length = match header("content-length") {
        "0" => "",
        length => length,
    };
    let mut text = format!("{method}\n");
    for name in ["content-encoding", "content-language"] {
        text.push_str(&format!("{}\n", header(name)));
    }
    text.push_str(&format!("{length}\n"));
    for name in [
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        text.push_str(&format!("{}\n", header(name)));
    }
    let names: BTreeSet<&str> = headers.keys().map(|name| name.as_str()).collect();
    for name in names.iter().filter(|name| name.starts_with("x-ms-")) {
        text.push_str(&format!("{name}:{}\n", header(name)));
    }
    text.push_str(&format!("/{ACCOUNT}{path}"));
    for (name, value) in parameters(query) {
        text.push_str(&format!("\n{}:{value}", name.to_lowercase()));
    }
    let key = BASE64.decode(ACCOUNT_KEY).expect("base64");
    let signature = BASE64.encode(hmac(&key, text.as_bytes()));
    format!("SharedKey {ACCOUNT}:{signature}")
}

/// RFC 2104 over SHA-256, for keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(a, b)| *a ^= b);
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner);
    outer.finalize().into()
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (unescaped(name), unescaped(&value.replace('+', " "))))
        .collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
