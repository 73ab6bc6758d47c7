//! One import as a test describes it: source files, tables, a configuration, and the command that a
//! user would run, against a sandbox in its own process.

use crate::process::{Process, Sandbox, run_with};
use mysql_async::prelude::Queryable;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A sandbox with a source directory and a configuration beside it.
pub struct Bench {
    /// Holds everything; removed at the end.
    pub dir: TempDir,
    /// The cluster.
    pub sandbox: Sandbox,
    /// Lines of `[mydumper]` and other sections to add to the configuration.
    pub extra: String,
    /// Variables in the environment of imports.
    pub variables: Vec<(String, String)>,
}

/// How an import ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; -1 when killed by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Asserts the exit code and that the message names each of `words`.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }

    /// Asserts success.
    #[track_caller]
    pub fn succeeds(&self) {
        assert_eq!(self.code, 0, "{self:#?}");
    }
}

impl Bench {
    /// Starts a sandbox with these extra arguments.
    pub fn start(sandbox_args: &[&str]) -> Self {
        Self::with(|dir| Sandbox::start(dir, sandbox_args))
    }

    /// Starts it in a network namespace.
    pub fn start_in(namespace: &str, sandbox_args: &[&str]) -> Self {
        Self::with(|dir| Sandbox::start_in(namespace, dir, sandbox_args))
    }

    fn with(start: impl FnOnce(&Path) -> io::Result<Sandbox>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let sandbox = start(&dir.path().join("sandbox")).expect("the sandbox starts");
        fs::create_dir(dir.path().join("data")).expect("a source directory");
        Self {
            dir,
            sandbox,
            extra: String::new(),
            variables: Vec::new(),
        }
    }

    /// A path below the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a source file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join("data").join(name), content).expect("a source file");
    }

    /// Runs SQL statements.
    pub async fn sql(&self, statements: &[&str]) {
        let pool = self.sandbox.mysql();
        let mut connection = pool.get_conn().await.expect("the SQL port answers");
        for statement in statements {
            connection
                .query_drop(*statement)
                .await
                .unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        drop(connection);
        pool.disconnect().await.expect("the connection closes");
    }

    /// Runs a query; every value as text, NULL as `NULL`.
    pub async fn query(&self, query: &str) -> Vec<Vec<String>> {
        let pool = self.sandbox.mysql();
        let mut connection = pool.get_conn().await.expect("the SQL port answers");
        let rows: Vec<mysql_async::Row> = connection
            .query(query)
            .await
            .unwrap_or_else(|e| panic!("{query}: {e}"));
        drop(connection);
        pool.disconnect().await.expect("the connection closes");
        let text = |value: mysql_async::Value| match value {
            mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.as_sql(true).trim_matches('\'').to_owned(),
        };
        rows.into_iter()
            .map(|row| row.unwrap().into_iter().map(text).collect())
            .collect()
    }

    /// Waits until no store has a file that no ingest took: they sweep every ten seconds unless told otherwise.
    pub async fn no_import_files(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let state = self.control("GET", "/sandbox/state", "").await;
            let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
            let stores = state["stores"].as_array().expect("stores");
            if stores.len() == 3 && stores.iter().all(|store| store["import_files"] == 0) {
                return;
            }
            assert!(Instant::now() < deadline, "{state:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes the configuration and gives its path.
    pub fn config(&self) -> PathBuf {
        let path = self.path("lightning.toml");
        let text = format!(
            "[tikv-importer]\nbackend = \"local\"\nsorted-kv-dir = {:?}\n\n{}\n\n[mydumper]\ndata-source-dir = {:?}\n{}\n",
            self.path("sorted"),
            self.sandbox.tidb_section(),
            self.path("data"),
            self.extra
        );
        fs::write(&path, text).expect("a configuration file");
        path
    }

    /// Runs `thunderhead import` to its end with the configuration and `args`.
    pub fn import(&self, args: &[&str]) -> Outcome {
        let config = self.config();
        let mut all = vec!["import", "--config", config.to_str().expect("a UTF-8 path")];
        all.extend_from_slice(args);
        let output = run_with(&all, &self.variables).expect("the binary starts");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the import in the background; its output goes to the file `log`.
    pub fn start_import(&self, args: &[&str], log: &Path) -> io::Result<Process> {
        let config = self.config();
        let mut all = vec!["import", "--config", config.to_str().expect("a UTF-8 path")];
        all.extend_from_slice(args);
        Process::start(&all, log)
    }

    /// The same with a fail point armed.
    pub fn start_import_armed(
        &self,
        point: &str,
        args: &[&str],
        log: &Path,
    ) -> io::Result<Process> {
        let config = self.config();
        let mut all = vec!["import", "--config", config.to_str().expect("a UTF-8 path")];
        all.extend_from_slice(args);
        Process::start_armed(point, &all, log)
    }

    /// An HTTP request to the sandbox's own control API on the PD port.
    pub async fn control(&self, method: &str, path: &str, body: &str) -> String {
        let url = format!("http://{}{path}", self.sandbox.pd);
        let client = http_client();
        let request = match method {
            "GET" => client.get(url),
            "DELETE" => client.delete(url),
            _ => client
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_owned()),
        };
        let response = request.send().await.expect("the control API answers");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        text
    }
}

/// A plain HTTP client.
pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
