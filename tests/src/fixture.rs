//! A table with source files, and what a leader would tell agents of it: for tests that play the coordinator
//! themselves.

use crate::control::Control;
use crate::import::Bench;
use crate::process::Process;
use std::fs;
use std::os::unix::fs::MetadataExt;
use thunderhead_cluster::Connector;
use thunderhead_codec::keys::table_range;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_config::{CsvOptions, FileFormat, SourceFormat};
use thunderhead_net::Security;
use thunderhead_proto::thunderhead::{
    self as wire, ClusterSpec, EncodeTask, FilePart, IngestReport, IngestTask, Manifest, RemoteRun,
    TableSpec, TaskFailed, agent_message::Body, coordinator_message::Body as Order,
};
use thunderhead_types::{Checksum, KeyRange};

const DDL: &str = "CREATE TABLE d.t (id BIGINT PRIMARY KEY CLUSTERED, name VARCHAR(20), n INT, UNIQUE KEY un (name), KEY kn (n))";
/// The job of all tasks.
pub const JOB: &str = "job-1";

/// A table with source files and what a leader would say of it.
pub struct Fixture {
    pub bench: Bench,
    pub spec: TableSpec,
    pub range: KeyRange,
    pub rows: u64,
}

impl Fixture {
    /// So many files with so many rows each; ids go round the files, so that every file covers the whole range.
    pub async fn new(files: u64, rows_per_file: u64) -> Self {
        Self::on(Bench::start(&[]), Security::default(), files, rows_per_file).await
    }

    /// On a cluster that asks for certificates; ours are `security`.
    pub async fn on(bench: Bench, security: Security, files: u64, rows_per_file: u64) -> Self {
        let connector = Connector::new(&security).expect("certificates");
        bench.sql(&["CREATE DATABASE d", DDL]).await;
        for file in 0..files {
            let mut text = String::new();
            for row in 0..rows_per_file {
                let id = row * files + file;
                text.push_str(&format!(
                    "{id},name-{:08},{}\n",
                    id * 7919 % 100_000_007,
                    id % 97
                ));
            }
            bench.file(&format!("{file}.csv"), text);
        }
        let url = format!("127.0.0.1:{}", bench.sandbox.status_port);
        let url = connector.url(&url) + "/schema/d/t";
        let answer = connector.http().get(url).send().await.expect("TiDB");
        let json = answer.text().await.expect("a schema");
        let info: TableInfo = serde_json::from_str(&json).expect("a test fixture");
        let spec = TableSpec {
            job_id: JOB.into(),
            database: "d".into(),
            table: "t".into(),
            table_info_json: json.into(),
            session_json: serde_json::to_vec(&Session::default())
                .expect("a test fixture")
                .into(),
            commit_ts: 400_000_000_000_000_000,
            cluster: Some(ClusterSpec {
                pd_addresses: vec![bench.sandbox.pd.clone()],
                retry_ms: 20_000,
                ..ClusterSpec::default()
            }),
            ..TableSpec::default()
        };
        Self {
            range: table_range(info.id),
            bench,
            spec,
            rows: files * rows_per_file,
        }
    }

    /// A file as a chunk of its own.
    pub fn encode(&self, file: u64, attempt: u32) -> Order {
        self.encode_together(file, attempt, &[file])
    }

    /// Files as one chunk.
    pub fn encode_together(&self, task_id: u64, attempt: u32, files: &[u64]) -> Order {
        Order::Encode(EncodeTask {
            task_id,
            attempt,
            table: Some(self.spec.clone()),
            parts: files.iter().map(|&file| self.part(file)).collect(),
            format_json: serde_json::to_vec(&format())
                .expect("a test fixture")
                .into(),
            ..EncodeTask::default()
        })
    }

    fn part(&self, file: u64) -> FilePart {
        let path = self.bench.path(&format!("data/{file}.csv"));
        let metadata = fs::metadata(&path).expect("a test fixture");
        FilePart {
            path: path.to_string_lossy().into_owned(),
            end: metadata.len(),
            file_size: metadata.len(),
            file_modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            row_id_base: 1,
            row_id_end: i64::MAX,
            first_line: 1,
            ..FilePart::default()
        }
    }

    /// Everything between two keys: the runs that `agent` holds from its disk, the others over the network.
    pub fn ingest(&self, task_id: u64, range: &KeyRange, agent: &str, held: &[Held]) -> Order {
        let mut task = IngestTask {
            task_id: 1000 + task_id,
            attempt: 1,
            table: Some(self.spec.clone()),
            range: Some(wire::KeyRange {
                start: range.start.clone().into(),
                end: range.end.clone().into(),
            }),
            ..IngestTask::default()
        };
        for held in held {
            for run in &held.manifest.runs {
                if held.agent == agent {
                    task.run_paths.push(run.path.clone());
                } else {
                    task.remote_runs.push(RemoteRun {
                        agent_id: held.agent.clone(),
                        address: held.address.clone(),
                        path: run.path.clone(),
                        chunk_task_id: held.chunk,
                        ..RemoteRun::default()
                    });
                }
            }
        }
        Order::Ingest(task)
    }

    pub fn agent(&self, name: &str, coordinators: &[&Control], extra: &[&str]) -> Process {
        let addresses: Vec<&str> = coordinators.iter().map(|c| c.address.as_str()).collect();
        let (dir, log) = (
            self.bench.path(name),
            self.bench.path(&format!("{name}.log")),
        );
        let coordinators = addresses.join(",");
        let mut args = vec![
            "agent",
            "--coordinator",
            &coordinators,
            "--sort-dir",
            dir.to_str().expect("a test fixture"),
        ];
        args.extend(["--threads", "2", "--log", "info"]);
        args.extend(extra);
        Process::start(&args, &log).expect("a test fixture")
    }

    pub async fn holds_everything(&self, held: &[Held]) {
        let mut sum = Checksum::default();
        held.iter()
            .for_each(|held| sum.merge(&checksum(held.manifest.checksum)));
        let row = self.bench.query("ADMIN CHECKSUM TABLE d.t").await.remove(0);
        assert_eq!(
            row[2..],
            [
                sum.crc64_xor.to_string(),
                sum.kvs.to_string(),
                sum.bytes.to_string()
            ]
        );
        assert_eq!(
            self.bench.query("SELECT COUNT(*), MAX(id) FROM d.t").await,
            [[self.rows.to_string(), (self.rows - 1).to_string()]]
        );
        self.bench.sql(&["ADMIN CHECK TABLE d.t"]).await;
    }
}

fn format() -> SourceFormat {
    SourceFormat::new(
        FileFormat::Csv,
        CsvOptions {
            header: false,
            ..CsvOptions::default()
        },
    )
}

pub fn checksum(c: Option<wire::Checksum>) -> Checksum {
    let c = c.unwrap_or_default();
    Checksum {
        crc64_xor: c.crc64_xor,
        kvs: c.kvs,
        bytes: c.bytes,
    }
}

/// A chunk's runs and who has them.
#[derive(Clone)]
pub struct Held {
    pub chunk: u64,
    pub agent: String,
    pub address: String,
    pub manifest: Manifest,
}

pub async fn encoded(control: &mut Control) -> (String, wire::EncodeDone) {
    control
        .next("encode done", |agent, body| match body {
            Body::EncodeDone(done) => Some((agent.to_owned(), done)),
            Body::TaskFailed(failed) => panic!("{failed:?}"),
            _ => None,
        })
        .await
}

pub async fn failed(control: &mut Control) -> TaskFailed {
    control
        .next("task failed", |_, body| match body {
            Body::TaskFailed(failed) => Some(failed),
            Body::EncodeDone(_) | Body::IngestDone(_) => panic!("it should have failed"),
            _ => None,
        })
        .await
}

/// Encodes the files on the agents by turns.
pub async fn encode_all(
    fixture: &Fixture,
    control: &mut Control,
    files: u64,
    agents: &[(String, String)],
) -> Vec<Held> {
    for file in 0..files {
        let (agent, _) = &agents[file as usize % agents.len()];
        control.order(agent, fixture.encode(file, 1)).await;
    }
    let mut held = Vec::new();
    for _ in 0..files {
        let (agent, done) = encoded(control).await;
        control
            .recorded(&agent, JOB, done.task_id, done.attempt, done.task_epoch)
            .await;
        held.push(Held {
            chunk: done.task_id,
            address: agents
                .iter()
                .find(|(id, _)| *id == agent)
                .expect("a test fixture")
                .1
                .clone(),
            agent,
            manifest: done.manifest.expect("a test fixture"),
        });
    }
    held
}

pub async fn ingested(control: &mut Control) -> IngestReport {
    control
        .next("ingest done", |_, body| match body {
            Body::IngestDone(done) => done.report,
            Body::TaskFailed(failed) => panic!("{failed:?}"),
            _ => None,
        })
        .await
}

pub async fn two_agents(control: &mut Control) -> [(String, String); 2] {
    let (a, hello_a) = control.hello().await;
    let (b, hello_b) = control.hello().await;
    [(a, hello_a.address), (b, hello_b.address)]
}
