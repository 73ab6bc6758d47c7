//! An engine in memory, with versions, for the tests of this crate.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use thunderhead_sandbox_sql::{CommitError, KvEngine, Mutation, Pair, ScanLimit};
use thunderhead_types::{Checksum, KeyRange, Result, Timestamp};

type Versions = BTreeMap<Timestamp, Option<Vec<u8>>>;

/// All versions of all keys.
#[derive(Default)]
pub struct MemEngine {
    keys: parking_lot::RwLock<BTreeMap<Vec<u8>, Versions>>,
    clock: AtomicU64,
    pub splits: parking_lot::Mutex<Vec<Vec<u8>>>,
}

impl MemEngine {
    /// Visits the newest visible value of each key until `visit` says stop.
    fn each(&self, range: &KeyRange, ts: Timestamp, mut visit: impl FnMut(&[u8], &[u8]) -> bool) {
        let keys = self.keys.read();
        let end = if range.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(range.end.clone())
        };
        for (key, versions) in keys.range((Bound::Included(range.start.clone()), end)) {
            if let Some((_, Some(value))) = versions.range(..=ts).next_back()
                && !visit(key, value)
            {
                return;
            }
        }
    }
}

impl KvEngine for MemEngine {
    fn tso(&self) -> Result<Timestamp> {
        Ok((1u64 << 50) + self.clock.fetch_add(1, Ordering::SeqCst))
    }

    fn get(&self, key: &[u8], ts: Timestamp) -> Result<Option<Vec<u8>>> {
        let keys = self.keys.read();
        Ok(keys
            .get(key)
            .and_then(|v| v.range(..=ts).next_back())
            .and_then(|(_, v)| v.clone()))
    }

    fn scan(&self, range: &KeyRange, ts: Timestamp, limit: ScanLimit) -> Result<Vec<Pair>> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        self.each(range, ts, |key, value| {
            bytes += key.len() + value.len();
            pairs.push((key.to_vec(), value.to_vec()));
            pairs.len() < limit.pairs && bytes < limit.bytes
        });
        Ok(pairs)
    }

    fn commit(
        &self,
        start_ts: Timestamp,
        mutations: &[Mutation],
    ) -> Result<Timestamp, CommitError> {
        let mut keys = self.keys.write();
        let newer = |m: &Mutation| {
            keys.get(m.key())
                .and_then(|v| v.last_key_value())
                .is_some_and(|(ts, _)| *ts > start_ts)
        };
        if mutations.iter().any(newer) {
            return Err(CommitError::Conflict);
        }
        let commit_ts = self.tso()?;
        for mutation in mutations {
            let (key, value) = match mutation {
                Mutation::Put(key, value) => (key, Some(value.clone())),
                Mutation::Delete(key) => (key, None),
            };
            keys.entry(key.clone())
                .or_default()
                .insert(commit_ts, value);
        }
        Ok(commit_ts)
    }

    fn destroy_range(&self, range: &KeyRange) -> Result<()> {
        self.keys.write().retain(|key, _| !range.contains(key));
        Ok(())
    }

    fn checksum(&self, range: &KeyRange, ts: Timestamp) -> Result<Checksum> {
        let mut sum = Checksum::default();
        self.each(range, ts, |key, value| {
            sum.add(key, value);
            true
        });
        Ok(sum)
    }

    fn split(&self, keys: &[Vec<u8>]) -> Result<()> {
        self.splits.lock().extend_from_slice(keys);
        Ok(())
    }
}

use mysql_async::prelude::Queryable;
use std::sync::Arc;
use thunderhead_sandbox_sql::{SqlConfig, SqlServer};

/// A server over an engine in memory.
pub struct Server {
    pub engine: Arc<MemEngine>,
    pub server: SqlServer,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(SqlConfig::default()).await
    }

    pub async fn with(config: SqlConfig) -> Self {
        let engine = Arc::new(MemEngine::default());
        let server = SqlServer::start(engine.clone(), config).await.unwrap();
        Self { engine, server }
    }

    pub fn opts(&self) -> mysql_async::OptsBuilder {
        mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.server.sql_addr().port())
            .user(Some("root"))
            .prefer_socket(false)
    }

    /// A connection with database `test`.
    pub async fn connect(&self) -> mysql_async::Conn {
        mysql_async::Conn::new(self.opts().db_name(Some("test")))
            .await
            .unwrap()
    }

    /// GET on the status port: code and body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.server.status_addr())
            .await
            .unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        (code, body)
    }
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

/// Rows of a query as text; NULL reads `NULL`, columns are joined by `|`.
pub async fn rows(conn: &mut mysql_async::Conn, sql: &str) -> Vec<String> {
    let rows: Vec<mysql_async::Row> = conn
        .query(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.into_iter().map(row_text).collect()
}

pub fn row_text(row: mysql_async::Row) -> String {
    let text = |value: mysql_async::Value| match value {
        mysql_async::Value::NULL => "NULL".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    };
    row.unwrap()
        .into_iter()
        .map(text)
        .collect::<Vec<_>>()
        .join("|")
}

/// Code of the error a statement fails with; 0 when it does not.
pub async fn error(conn: &mut mysql_async::Conn, sql: &str) -> (u16, String) {
    match conn.query_drop(sql).await {
        Ok(()) => (0, String::new()),
        Err(mysql_async::Error::Server(e)) => (e.code, e.message),
        Err(other) => panic!("{sql}: {other}"),
    }
}

/// Runs statements that must succeed.
pub async fn exec(conn: &mut mysql_async::Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

/// All golden cases: of this project, or of the shared data beside it.
pub fn golden_cases() -> Vec<serde_json::Value> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for place in ["tests/golden/kv", "../shared/golden/kv"] {
        let Ok(dir) = std::fs::read_dir(root.join(place)) else {
            continue;
        };
        let mut files: Vec<_> = dir
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        let text: String = files
            .iter()
            .map(|f| std::fs::read_to_string(f).unwrap())
            .collect();
        let cases: Vec<_> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        if !cases.is_empty() {
            return cases;
        }
    }
    panic!("no golden cases");
}
