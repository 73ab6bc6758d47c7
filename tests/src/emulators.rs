//! Emulators that others wrote of the stores of Google (fake-gcs-server) and Azure (Azurite) on loopback:
//! `scripts/install-deps.sh` installs both. What they cannot be asked to do (web tokens, pages of lists, broken
//! answers) is [`crate::clouds`]'.

use crate::clouds::{ACCOUNT, ACCOUNT_KEY, shared_key};
use crate::import::http_client;
use crate::process::free_port;
use crate::process::wait_until;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The only bucket and container.
const BUCKET: &str = "bucket";
const PATIENCE: Duration = Duration::from_secs(30);
/// Others may take a port between its choice and its use.
const STARTS: usize = 5;

/// Where the script puts what is no package of the system.
fn cache() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("thunderhead")
}

/// A child that is stopped by pid when its handle is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// fake-gcs-server with one bucket. It asks nobody for credentials.
pub struct FakeGcs {
    _server: Server,
    /// `http://host:port`.
    pub endpoint: String,
}

impl FakeGcs {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let (server, port) = (0..STARTS)
            .find_map(|_| Self::launch())
            .expect("fake-gcs-server listens");
        let this = Self {
            _server: server,
            endpoint: format!("http://127.0.0.1:{port}"),
        };
        let bucket = format!("{{\"name\":\"{BUCKET}\"}}");
        this.post("/storage/v1/b", bucket).await;
        this
    }

    fn launch() -> Option<(Server, u16)> {
        let port = free_port();
        let child = Command::new(cache().join("fake-gcs-server"))
            .args([
                "-scheme",
                "http",
                "-backend",
                "memory",
                "-log-level",
                "error",
            ])
            // The host that its XML interface answers to.
            .args(["-host", "127.0.0.1", "-public-host", "127.0.0.1"])
            .args(["-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("fake-gcs-server, which scripts/install-deps.sh installs");
        let mut server = Server(child);
        let mut gone = false;
        let listens = wait_until("fake-gcs-server to listen", PATIENCE, || {
            gone = server.0.try_wait().is_ok_and(|ended| ended.is_some());
            gone || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        (listens.is_ok() && !gone).then_some((server, port))
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) {
        let url = format!("{}{path}", self.endpoint);
        let request = http_client()
            .post(url)
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.expect("fake-gcs-server answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Stores an object.
    pub async fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        let path = format!("/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={key}");
        self.post(&path, content.into()).await;
    }

    /// The URI of a key.
    pub fn uri(&self, key: &str) -> String {
        format!(
            "gs://{BUCKET}/{key}?endpoint={}&skip-signature=true",
            self.endpoint
        )
    }
}

/// Azurite with one container of the account [`ACCOUNT`]. It checks who signs.
pub struct Azurite {
    _server: Server,
    /// `http://host:port/account`.
    pub endpoint: String,
}

impl Azurite {
    /// Starts it on a port that it picks.
    pub async fn start() -> Self {
        let program = cache().join("azurite/node_modules/azurite/dist/src/blob/main.js");
        let mut child = Command::new("node")
            .arg(program)
            .args(["--blobPort", "0", "--inMemoryPersistence", "--silent"])
            .args(["--skipApiVersionCheck", "--disableTelemetry"])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node, which scripts/install-deps.sh installs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let server = Server(child);
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned()))
            .expect("Azurite, which scripts/install-deps.sh installs, says where it listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let this = Self {
            _server: server,
            endpoint: format!("{address}/{ACCOUNT}"),
        };
        this.send(BUCKET, "restype=container", Vec::new()).await;
        this
    }

    /// Stores a blob.
    pub async fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.send(&format!("{BUCKET}/{key}"), "", content.into())
            .await;
    }

    async fn send(&self, path: &str, query: &str, body: Vec<u8>) {
        let url = format!("{}/{path}?{query}", self.endpoint);
        let length = body.len().to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-length", length.as_str()),
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-date", "Wed, 01 Jan 2020 10:00:00 GMT"),
            ("x-ms-version", "2021-12-02"),
        ] {
            let value = HeaderValue::from_str(value).expect("a header");
            headers.insert(HeaderName::from_static(name), value);
        }
        let signed = format!("/{ACCOUNT}/{path}");
        let by = shared_key("PUT", &signed, query, &headers);
        let request = http_client().put(url).headers(headers);
        let request = request.header("authorization", by).body(body);
        let answer = request.send().await.expect("Azurite answers");
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {text}");
    }

    /// The URI of a key, with the account's key.
    pub fn uri(&self, key: &str) -> String {
        format!(
            "azblob://{BUCKET}/{key}?account-name={ACCOUNT}&account-key={ACCOUNT_KEY}&endpoint={}",
            self.endpoint
        )
    }
}
