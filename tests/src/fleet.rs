//! A whole fleet of real processes on this machine: etcd, coordinators, agents, and a sandbox as the cluster. Every
//! process dies with its handle.

use crate::import::{Bench, http_client};
use crate::process::{Process, run, wait_until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// How long anything in a test's fleet may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Leases are short, so that tests need not wait long for a takeover.
const LEASE: &str = "2s";

/// A port that was free a moment ago, for programs that cannot pick one themselves.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// A single etcd server.
pub struct Etcd {
    child: Child,
    port: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    /// Starts Debian's `etcd` on `dir` and waits until it answers.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let (client, peer) = (free_port(), free_port());
        let (client_url, peer_url) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        std::fs::create_dir_all(dir)?;
        let log = std::fs::File::create(dir.join("etcd.log"))?;
        let child = Command::new("etcd")
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
        let etcd = Self {
            child,
            port: client,
        };
        wait_until("etcd to listen", PATIENCE, || {
            std::net::TcpStream::connect(("127.0.0.1", client)).is_ok()
        })?;
        Ok(etcd)
    }

    /// Its address for clients.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Names of all keys.
    pub async fn keys(&self) -> Vec<String> {
        // From the first key to the end of all, in base64: one zero byte.
        let range = serde_json::json!({"key": "AA==", "range_end": "AA==", "keys_only": true});
        let url = format!("{}/v3/kv/range", self.url());
        let answer = http_client().post(url).body(range.to_string()).send();
        let text = answer.await.expect("etcd").text().await.expect("a body");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
        let name = |kv: &Value| {
            let bytes = BASE64.decode(kv["key"].as_str()?).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        keys.iter().filter_map(name).collect()
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .expect("a child has a pid");
        Ok(rustix::process::kill_process(pid, signal)?)
    }
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
}

impl Fleet {
    /// Starts etcd and so many coordinators for `bench`.
    pub fn start(bench: Bench, coordinators: usize) -> Self {
        let etcd = Etcd::start(&bench.path("etcd")).expect("etcd starts");
        let addresses: Vec<String> = (0..coordinators)
            .map(|_| format!("127.0.0.1:{}", free_port()))
            .collect();
        let mut fleet = Self {
            bench,
            etcd,
            coordinators: Vec::new(),
            addresses,
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
        let log = self.bench.path(&format!("coordinator-{n}.log"));
        let url = self.etcd.url();
        let args = [
            "coordinator",
            "--etcd",
            &url,
            "--listen",
            &self.addresses[n],
            "--lease",
            LEASE,
            "--agent-lease",
            LEASE,
            "--runs-grace",
            LEASE,
            "--log",
            "info",
        ];
        Process::start(&args, &log).expect("a coordinator starts")
    }

    /// Where all coordinators are.
    pub fn address(&self) -> String {
        self.addresses.join(",")
    }

    /// Directory of an agent's runs.
    pub fn sort_dir(&self, name: &str) -> PathBuf {
        self.bench.path(&format!("agent-{name}"))
    }

    /// Starts an agent.
    pub fn agent(&self, name: &str, extra: &[&str]) -> Process {
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
        args.extend(extra);
        Process::start(&args, &log).expect("an agent starts")
    }

    /// Runs a command that asks the fleet.
    pub fn ask(&self, args: &[&str]) -> Output {
        let address = self.address();
        let mut all = args.to_vec();
        all.extend(["--coordinator", &address, "--output", "json"]);
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
        let config = self.bench.config();
        let mut args = vec!["submit", "--config", config.to_str().expect("a UTF-8 path")];
        settings
            .iter()
            .for_each(|setting| args.extend(["--set", setting]));
        let output = self.ask(&args);
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        answer["job"].as_str().expect("a job id").to_owned()
    }

    /// Its status; `None` while no coordinator answers.
    pub fn status(&self, job: &str) -> Option<Value> {
        self.json(&["status", job])
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
        let mut last = Value::Null;
        self.wait("the job to end", |fleet| {
            if let Some(status) = fleet.status(job) {
                last = status["job"].clone();
            }
            !matches!(
                last["state"].as_str(),
                None | Some("running" | "cancelling")
            )
        });
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
}
