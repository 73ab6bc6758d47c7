//! A whole fleet of real processes on this machine: etcd, coordinators, agents, and a sandbox as the cluster. Every
//! process dies with its handle.

use crate::etcd::Etcd;
use crate::import::Bench;
use crate::netns::Network;
use crate::process::{Process, free_port, run, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::time::Duration;
use thunderhead_net::Security;

/// How long anything in a test's fleet may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Leases are short, so that tests need not wait long for a takeover.
pub const LEASE: Duration = Duration::from_secs(2);

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
    lease: Duration,
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
        Self::with(
            bench,
            coordinators,
            network,
            etcd,
            &Security::default(),
            LEASE,
        )
    }

    /// With leases that no busy machine lets go: where a test is about one term.
    pub fn start_unhurried(bench: Bench, coordinators: usize) -> Self {
        let etcd = Etcd::start_on(&bench.path("etcd"), bench.sandbox.host()).expect("etcd starts");
        let (security, lease) = (Security::default(), 30 * LEASE);
        Self::with(bench, coordinators, None, etcd, &security, lease)
    }

    /// Where everybody has a certificate and asks everybody for one; all with the same files.
    pub fn start_secured(bench: Bench, coordinators: usize, security: &Security) -> Self {
        let etcd = Etcd::start_secured(&bench.path("etcd"), security).expect("etcd starts");
        Self::with(bench, coordinators, None, etcd, security, LEASE)
    }

    fn with(
        bench: Bench,
        coordinators: usize,
        network: Option<Network>,
        etcd: Etcd,
        security: &Security,
        lease: Duration,
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
            lease,
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
        let lease = format!("{}s", self.lease.as_secs());
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
