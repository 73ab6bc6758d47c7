//! A whole fleet of real processes on this machine: etcd, coordinators, agents, and a sandbox as the cluster. Every
//! process dies with its handle.

use crate::import::{Bench, http_client};
use crate::netns::Network;
use crate::process::{Process, run, wait_until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use thunderhead_net::Security;

/// How long anything in a test's fleet may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long etcd may take to listen, and on how many ports it may try.
const ETCD_PATIENCE: Duration = Duration::from_secs(40);
const PORTS_TRIED: usize = 4;
/// Leases are short, so that tests need not wait long for a takeover.
pub const LEASE: Duration = Duration::from_secs(2);

/// A port that was free a moment ago, for programs that cannot pick one themselves.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

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

/// A place in a coordinator that only a source of agents leads to: tried where those are.
pub const SOURCE_POINT: &str = "source";

const DDL: [&str; 3] = [
    "CREATE DATABASE d",
    "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(20), n INT, UNIQUE KEY un (name), KEY kn (n))",
    "CREATE TABLE d.heap (a INT, b VARCHAR(40), KEY kb (b))",
];
/// Many chunks and ranges from little data.
pub const SETTINGS: [&str; 2] = [
    "mydumper.max-region-size=512KiB",
    "tikv-importer.region-split-size=1MiB",
];
const RULES: &str = "/pd/api/v1/config/region-label/rules";

/// A cluster with empty tables and their source files. Table ids are the same each time, hence the keys.
pub async fn tables(sandbox_args: &[&str], rows: u64) -> Bench {
    tables_of(Bench::start(sandbox_args), rows).await
}

/// The same in a cluster that is there.
pub async fn tables_of(bench: Bench, rows: u64) -> Bench {
    bench.sql(&DDL).await;
    for file in 0..3 {
        let mut text = String::from("id,name,n\n");
        for row in 0..rows / 3 {
            let id = row * 3 + file;
            text.push_str(&format!(
                "{id},name-{:08},{}\n",
                id * 7919 % 100_000_007,
                id % 97
            ));
        }
        bench.file(&format!("d.t.{file}.csv"), text);
    }
    let mut text = String::from("a,b\n");
    for row in 0..rows / 4 {
        text.push_str(&format!("{},{:032}\n", row % 1000, row * 31 % 9973));
    }
    bench.file("d.heap.csv", text);
    bench
}

/// What one process makes of the same files.
pub async fn by_one_process(rows: u64) -> Vec<Vec<String>> {
    let bench = tables(&[], rows).await;
    let mut args = Vec::new();
    SETTINGS
        .iter()
        .for_each(|setting| args.extend(["--set", setting]));
    bench.import(&args).succeeds();
    sums(&bench).await
}

/// One job's fleet.
pub struct Fleet {
    /// The cluster, the source files and the configuration.
    pub bench: Bench,
    /// Where state is kept.
    pub etcd: Etcd,
    /// Coordinators by number; `None` = killed.
    pub coordinators: Vec<Option<Process>>,
    addresses: Vec<String>,
    /// Hosts of their own: first the coordinators', then the agents'.
    pub network: Option<Network>,
    /// Agents by host.
    names: Mutex<Vec<String>>,
    /// What every process is told of certificates.
    tls: Vec<String>,
}

/// The options that name these files.
fn tls_args(security: &Security) -> Vec<String> {
    let named = [
        ("--ca-path", &security.ca),
        ("--cert-path", &security.cert),
        ("--key-path", &security.key),
    ];
    let given = named
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_ref()?.to_str()?)));
    given
        .flat_map(|(name, path)| [name.to_owned(), path.to_owned()])
        .collect()
}

impl Fleet {
    /// Starts etcd and so many coordinators for `bench`.
    pub fn start(bench: Bench, coordinators: usize) -> Self {
        Self::on(bench, coordinators, None)
    }

    /// With coordinators and agents on hosts of `network`, as far as it reaches.
    pub fn on(bench: Bench, coordinators: usize, network: Option<Network>) -> Self {
        let here = network
            .as_ref()
            .map_or_else(|| bench.sandbox.host().to_owned(), Network::router);
        let etcd = Etcd::start_on(&bench.path("etcd"), &here).expect("etcd starts");
        Self::with(bench, coordinators, network, etcd, &Security::default())
    }

    /// Where everybody has a certificate and asks everybody for one; all with the same files.
    pub fn start_secured(bench: Bench, coordinators: usize, security: &Security) -> Self {
        let etcd = Etcd::start_secured(&bench.path("etcd"), security).expect("etcd starts");
        Self::with(bench, coordinators, None, etcd, security)
    }

    fn with(
        bench: Bench,
        coordinators: usize,
        network: Option<Network>,
        etcd: Etcd,
        security: &Security,
    ) -> Self {
        let here = bench.sandbox.host().to_owned();
        let host = |n| {
            network
                .as_ref()
                .map_or_else(|| here.clone(), |network| network.address(n))
        };
        let addresses: Vec<String> = (0..coordinators)
            .map(|n| format!("{}:{}", host(n), free_port()))
            .collect();
        let mut fleet = Self {
            bench,
            etcd,
            coordinators: Vec::new(),
            addresses,
            network,
            names: Mutex::default(),
            tls: tls_args(security),
        };
        for n in 0..coordinators {
            let process = fleet.coordinator(n);
            fleet.coordinators.push(Some(process));
        }
        fleet.wait("a leader", |fleet| fleet.agents().is_some());
        fleet
    }

    /// Starts coordinator `n`.
    pub fn coordinator(&self, n: usize) -> Process {
        self.start_coordinator(n, None)
    }

    /// Starts it with a fail point armed.
    pub fn armed_coordinator(&self, n: usize, point: &str) -> Process {
        self.start_coordinator(n, Some(point))
    }

    fn start_coordinator(&self, n: usize, point: Option<&str>) -> Process {
        let log = self.bench.path(&format!("coordinator-{n}.log"));
        let url = self.etcd.url();
        let lease = format!("{}s", LEASE.as_secs());
        let args = [
            "coordinator",
            "--etcd",
            &url,
            "--listen",
            &self.addresses[n],
            "--lease",
            &lease,
            "--agent-lease",
            &lease,
            "--runs-grace",
            &lease,
            "--log",
            "info",
        ];
        let tls = self.tls.iter().map(String::as_str);
        let args: Vec<&str> = args.into_iter().chain(tls).collect();
        let started = match point {
            Some(point) => Process::start_armed(point, &args, &log),
            None => Process::start_in(self.namespace(n).as_deref(), &args, &log),
        };
        started.expect("a coordinator starts")
    }

    /// The coordinator that leads: the one that runs and whose log says so last. Logs begin anew with each process.
    pub fn leader(&self) -> Option<usize> {
        let elected = |n: &usize| {
            let path = self.bench.path(&format!("coordinator-{n}.log"));
            let log = std::fs::read_to_string(path).unwrap_or_default();
            self.coordinators[*n].is_some()
                && log.rfind("this coordinator leads") > log.rfind("the term ended")
        };
        (0..self.addresses.len()).rfind(elected)
    }

    /// Where all coordinators are.
    pub fn address(&self) -> String {
        self.addresses.join(",")
    }

    /// Directory of an agent's runs.
    pub fn sort_dir(&self, name: &str) -> PathBuf {
        self.bench.path(&format!("agent-{name}"))
    }

    fn namespace(&self, host: usize) -> Option<String> {
        self.network.as_ref().map(|network| network.namespace(host))
    }

    /// The host of an agent: in the order they were started, behind the coordinators.
    pub fn host_of(&self, agent: &str) -> usize {
        let mut names = self.names.lock().expect("no test panics while it holds it");
        let place = names
            .iter()
            .position(|name| name == agent)
            .unwrap_or_else(|| {
                names.push(agent.to_owned());
                names.len() - 1
            });
        self.addresses.len() + place
    }

    /// Starts an agent.
    pub fn agent(&self, name: &str, extra: &[&str]) -> Process {
        self.start_agent(name, None, extra)
    }

    /// Starts it with a fail point armed.
    pub fn armed_agent(&self, name: &str, point: &str, extra: &[&str]) -> Process {
        self.start_agent(name, Some(("THUNDERHEAD_FAIL_POINT", point)), extra)
    }

    /// Starts an agent that keeps its runs in this store, too.
    pub fn storing_agent(&self, name: &str, run_store: &str, extra: &[&str]) -> Process {
        self.start_agent(name, Some(("THUNDERHEAD_RUN_STORE", run_store)), extra)
    }

    /// Starts an agent, with a fail point armed if wanted, on a host where [`Fleet::host_data`] is `files`: everybody
    /// else finds nothing there.
    pub fn agent_with_files(
        &self,
        name: &str,
        files: &Path,
        point: Option<&str>,
        extra: &[&str],
    ) -> Process {
        let over = self.bench.path("hosts");
        let data = self.host_data();
        let readable = ["--readable", data.to_str().expect("a UTF-8 path")];
        let extra = [&readable, extra].concat();
        let variable = point.map(|point| ("THUNDERHEAD_FAIL_POINT", point));
        self.start_agent_on(Some((&over, files)), name, variable, &extra)
    }

    /// The source directory of hosts with files of their own.
    pub fn host_data(&self) -> PathBuf {
        let over = self.bench.path("hosts");
        std::fs::create_dir_all(&over).expect("a directory");
        over.join("data")
    }

    fn start_agent(&self, name: &str, variable: Option<(&str, &str)>, extra: &[&str]) -> Process {
        self.start_agent_on(None, name, variable, extra)
    }

    fn start_agent_on(
        &self,
        mounts: Option<(&Path, &Path)>,
        name: &str,
        variable: Option<(&str, &str)>,
        extra: &[&str],
    ) -> Process {
        let log = self.bench.path(&format!("agent-{name}.log"));
        let (address, dir) = (self.address(), self.sort_dir(name));
        let dir = dir.to_str().expect("a UTF-8 path");
        let mut args = vec![
            "agent",
            "--coordinator",
            &address,
            "--sort-dir",
            dir,
            "--log",
            "info",
        ];
        args.extend(["--peer-patience", "2s"]);
        args.extend(self.tls.iter().map(String::as_str));
        let host = self.host_of(name);
        let listen = self
            .network
            .as_ref()
            .map(|network| format!("{}:0", network.address(host)));
        args.extend(listen.iter().flat_map(|listen| ["--listen", listen]));
        args.extend(extra);
        let started = match (mounts, variable) {
            (Some(mounts), variable) => Process::start_on_host(mounts, variable, &args, &log),
            (None, Some(variable)) => Process::start_with(variable, &args, &log),
            (None, None) => Process::start_in(self.namespace(host).as_deref(), &args, &log),
        };
        started.expect("an agent starts")
    }

    /// Runs a command that asks the fleet.
    pub fn ask(&self, args: &[&str]) -> Output {
        let address = self.address();
        let mut all = args.to_vec();
        all.extend(["--coordinator", &address, "--output", "json"]);
        all.extend(self.tls.iter().map(String::as_str));
        run(&all).expect("the binary starts")
    }

    fn json(&self, args: &[&str]) -> Option<Value> {
        let output = self.ask(args);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    /// The agents as the leader sees them.
    pub fn agents(&self) -> Option<Vec<Value>> {
        self.json(&["agents"])?["agents"].as_array().cloned()
    }

    /// Submits the bench's configuration; gives the job's id.
    pub fn submit(&self, settings: &[&str]) -> String {
        let answer = self.submitted(settings);
        answer["job"].as_str().expect("a job id").to_owned()
    }

    /// Submits it; gives the whole answer.
    pub fn submitted(&self, settings: &[&str]) -> Value {
        let config = self.bench.config();
        let mut args = vec!["submit", "--config", config.to_str().expect("a UTF-8 path")];
        settings
            .iter()
            .for_each(|setting| args.extend(["--set", setting]));
        let output = self.ask(&args);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Its status; `None` while no coordinator answers.
    pub fn status(&self, job: &str) -> Option<Value> {
        self.json(&["status", job])
    }

    /// Agents that take tasks.
    pub fn active(&self) -> usize {
        let agents = self.agents().unwrap_or_default();
        agents.iter().filter(|a| a["state"] == "active").count()
    }

    /// Polls until `done` holds; shows every log when it does not in time.
    #[track_caller]
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        if let Err(error) = wait_until(what, PATIENCE, || done(self)) {
            panic!("{error}\n{}", self.logs());
        }
    }

    /// Waits until a number of the job's progress is at least `least`.
    #[track_caller]
    pub fn wait_progress(&self, job: &str, field: &str, least: u64) {
        self.wait(&format!("{field} >= {least}"), |fleet| {
            let Some(status) = fleet.status(job) else {
                return false;
            };
            let ended = status["job"]["state"] != "running";
            ended
                || status["progress"][field]
                    .as_u64()
                    .is_some_and(|value| value >= least)
        });
    }

    /// Waits for the job's end, which must be success, and gives its report.
    #[track_caller]
    pub fn wait_finished(&self, job: &str) -> Value {
        self.wait_finished_within(job, PATIENCE)
    }

    /// The same for a job of a size that takes longer.
    #[track_caller]
    pub fn wait_finished_within(&self, job: &str, patience: Duration) -> Value {
        let (mut last, mut status) = (Value::Null, Value::Null);
        let ended = wait_until("the job to end", patience, || {
            if let Some(now) = self.status(job) {
                last = now["job"].clone();
                status = now;
            }
            !matches!(
                last["state"].as_str(),
                None | Some("running" | "cancelling")
            )
        });
        if let Err(error) = ended {
            panic!("{error}\n{status:#}\n{}", self.logs());
        }
        assert_eq!(last["state"], "finished", "{last:#}\n{}", self.logs());
        last["report"].clone()
    }

    /// The last lines of every log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let entries = std::fs::read_dir(self.bench.dir.path())
            .into_iter()
            .flatten()
            .flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(25)..].join("\n");
                text += &format!("---- {}\n{tail}\n", path.display());
            }
        }
        text
    }

    /// Asserts that the tables are those of one process and that nothing is left behind in etcd, PD or the stores.
    pub async fn is_complete_and_clean(&self, expected: &[Vec<String>]) {
        let bench = &self.bench;
        assert_eq!(sums(bench).await, expected);
        bench.sql(&["ADMIN CHECK TABLE d.t, d.heap"]).await;
        nothing_is_open(bench).await;
        let mut left = self.etcd.keys().await;
        left.retain(|key| key.contains("/jobs/") || key.contains("/parts/"));
        assert!(left.is_empty(), "{left:?}");
    }
}

/// What `ADMIN CHECKSUM TABLE` says of both tables: equal sums, of tables with equal ids, are equal pairs.
pub async fn sums(bench: &Bench) -> Vec<Vec<String>> {
    let mut sums = bench.query("ADMIN CHECKSUM TABLE d.t").await;
    sums.extend(bench.query("ADMIN CHECKSUM TABLE d.heap").await);
    sums
}

/// Asserts that no store panicked and that nothing of a job is open in the cluster: no label rule, no import mode, no
/// reserved range, no paused scheduler, nothing that holds back garbage collection.
pub async fn nothing_is_open(bench: &Bench) {
    assert_eq!(bench.control("GET", RULES, "").await.trim(), "[]");
    let state = bench.control("GET", "/sandbox/state", "").await;
    let state: Value = serde_json::from_str(&state).expect("JSON");
    for none in ["panics", "gc_barriers", "paused_schedulers"] {
        assert_eq!(state[none], serde_json::json!([]), "{none} in {state}");
    }
    for store in state["stores"].as_array().into_iter().flatten() {
        assert_eq!(store["import_mode"], false, "{store}");
        assert_eq!(store["force_partition_ranges"], 0, "{store}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
