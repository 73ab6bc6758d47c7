//! A real S3 server on loopback: gofakes3, a Go program that `scripts/install-deps.sh` installs.

use crate::import::http_client;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The server with one bucket, stopped by pid when its handle is dropped.
pub struct S3 {
    child: Child,
    /// `http://host:port`.
    pub endpoint: String,
}

/// The only bucket.
const BUCKET: &str = "bucket";

fn program() -> PathBuf {
    let installed = std::env::home_dir()
        .unwrap_or_default()
        .join("go/bin/gofakes3");
    if installed.exists() {
        installed
    } else {
        "gofakes3".into()
    }
}

impl S3 {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let mut child = Command::new(program())
            .args(["-backend", "memory", "-initialbucket", BUCKET])
            .args(["-host", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gofakes3, which scripts/install-deps.sh installs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("using port: ")?.1.trim().to_owned()))
            .expect("gofakes3 says its port");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Stores an object.
    pub async fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        let url = format!("{}/{BUCKET}/{key}", self.endpoint);
        let request = http_client().put(url).body(content.into());
        let answer = request.send().await.expect("gofakes3 answers");
        assert!(answer.status().is_success(), "{key}: {}", answer.status());
    }

    /// Names of all objects below a prefix.
    pub async fn list(&self, prefix: &str) -> Vec<String> {
        let url = format!("{}/{BUCKET}?list-type=2&prefix={prefix}", self.endpoint);
        let answer = http_client()
            .get(url)
            .send()
            .await
            .expect("gofakes3 answers");
        let text = answer.text().await.expect("a body");
        text.split("<Key>")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()))
            .collect()
    }

    /// The URI of a key, with credentials as users write them.
    pub fn uri(&self, key: &str) -> String {
        format!(
            "s3://{BUCKET}/{key}?access_key=AKEXAMPLE&secret_access_key=SECRETEXAMPLE&endpoint={}&force-path-style=true",
            self.endpoint
        )
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
