//! Debian's etcd as a process of its own, on free ports; it dies with its handle.

use crate::import::http_client;
use crate::process::{free_port, wait_until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use thunderhead_net::Security;

/// How long etcd may take to listen, and on how many ports it may try.
const ETCD_PATIENCE: Duration = Duration::from_secs(40);
const PORTS_TRIED: usize = 4;

/// A single etcd server.
pub struct Etcd {
    child: Child,
    dir: PathBuf,
    host: String,
    ports: (u16, u16),
    security: Security,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    /// Starts Debian's `etcd` on `dir` and waits until it listens.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Self::start_on(dir, "127.0.0.1")
    }

    /// On an address of this machine.
    pub fn start_on(dir: &Path, host: &str) -> io::Result<Self> {
        Self::start_somewhere(dir, host, &Security::default())
    }

    /// With certificates, which it also asks its clients for.
    pub fn start_secured(dir: &Path, security: &Security) -> io::Result<Self> {
        Self::start_somewhere(dir, "127.0.0.1", security)
    }

    /// On other ports when somebody took those that were free a moment ago.
    fn start_somewhere(dir: &Path, host: &str, security: &Security) -> io::Result<Self> {
        for _ in 1..PORTS_TRIED {
            let started = Self::start_with(dir, host, (free_port(), free_port()), security);
            match started {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    eprintln!("etcd is started again on other ports: {error}");
                    std::fs::remove_dir_all(dir.join("data")).or_else(|e| match e.kind() {
                        io::ErrorKind::NotFound => Ok(()),
                        _ => Err(e),
                    })?;
                }
                started => return started,
            }
        }
        Self::start_with(dir, host, (free_port(), free_port()), security)
    }

    /// Kills it and starts it again: same data, same address, the certificates as they are now.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        *self = Self::start_with(&self.dir, &self.host, self.ports, &self.security)?;
        Ok(())
    }

    fn start_with(
        dir: &Path,
        host: &str,
        ports: (u16, u16),
        security: &Security,
    ) -> io::Result<Self> {
        let scheme = if security.ca.is_some() {
            "https"
        } else {
            "http"
        };
        let client_url = format!("{scheme}://{host}:{}", ports.0);
        let peer_url = format!("http://{host}:{}", ports.1);
        std::fs::create_dir_all(dir)?;
        let log = std::fs::File::create(dir.join("etcd.log"))?;
        let mut command = Command::new("etcd");
        if let (Some(ca), Some(cert), Some(key)) = (&security.ca, &security.cert, &security.key) {
            command.arg("--client-cert-auth");
            command.arg("--trusted-ca-file").arg(ca);
            command.arg("--cert-file").arg(cert);
            command.arg("--key-file").arg(key);
        }
        let child = command
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .arg(format!("--initial-cluster=default={peer_url}"))
            // Leases of tests are shorter than the default election allows.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|e| {
                io::Error::new(e.kind(), format!("etcd (Debian package etcd-server): {e}"))
            })?;
        let mut etcd = Self {
            child,
            dir: dir.to_owned(),
            host: host.to_owned(),
            ports,
            security: security.clone(),
        };
        // Somebody else may answer on its port: what counts is what it says.
        let mut ended = None;
        wait_until("etcd to listen", ETCD_PATIENCE, || {
            ended = etcd.child.try_wait().ok().flatten();
            let log = std::fs::read_to_string(dir.join("etcd.log")).unwrap_or_default();
            ended.is_some() || log.contains("ready to serve client requests")
        })?;
        match ended {
            None => Ok(etcd),
            Some(status) => Err(io::Error::other(format!("etcd ended: {status}"))),
        }
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        let scheme = if self.security.ca.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}:{}", self.host, self.ports.0)
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.url());
        let answer = http_client().post(url).body(body.to_string()).send();
        let text = answer.await.expect("etcd").text().await.expect("a body");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Writes a key, as somebody else who uses this etcd.
    pub async fn put(&self, key: &str, value: &str) {
        let put = serde_json::json!({"key": BASE64.encode(key), "value": BASE64.encode(value)});
        self.ask("/v3/kv/put", put).await;
    }

    /// All keys with their values and how often each was written.
    pub async fn contents(&self) -> BTreeMap<String, (String, String)> {
        // From the first key to the end of all, in base64: one zero byte.
        let range = serde_json::json!({"key": "AA==", "range_end": "AA=="});
        let answer = self.ask("/v3/kv/range", range).await;
        let text = |value: &Value| {
            let bytes = BASE64.decode(value.as_str().unwrap_or_default());
            String::from_utf8_lossy(&bytes.expect("base64")).into_owned()
        };
        let found = answer["kvs"].as_array().cloned().unwrap_or_default();
        let of = |kv: &Value| {
            let version = kv["version"].as_str().unwrap_or_default().to_owned();
            (text(&kv["key"]), (text(&kv["value"]), version))
        };
        found.iter().map(of).collect()
    }

    /// Grows by one with each transaction that writes.
    pub async fn revision(&self) -> u64 {
        let range = serde_json::json!({"key": "AA==", "count_only": true});
        let answer = self.ask("/v3/kv/range", range).await;
        let revision = answer["header"]["revision"].as_str();
        revision
            .and_then(|text| text.parse().ok())
            .expect("a revision")
    }

    /// Names of all keys.
    pub async fn keys(&self) -> Vec<String> {
        self.contents().await.into_keys().collect()
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .expect("a child has a pid");
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn etcd_on_a_port_that_somebody_took_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let started = std::time::Instant::now();
        let ports = (port, free_port());
        let failed = Etcd::start_with(dir.path(), "127.0.0.1", ports, &Security::default());
        assert!(failed.is_err());
        assert!(started.elapsed() < ETCD_PATIENCE / 2);
        // What it left behind is no hindrance elsewhere.
        Etcd::start_somewhere(dir.path(), "127.0.0.1", &Security::default()).unwrap();
    }
}
