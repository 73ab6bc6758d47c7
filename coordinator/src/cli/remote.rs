//! Commands that ask the leader of a fleet over HTTP: submit, jobs, status, pause, resume, cancel, agents, drain,
//! limit. Whichever coordinator is asked, the one that leads is found.

use super::config::ConfigArgs;
use super::{Format, fail, runtime};
use crate::fleet::status::{AgentStatus, JobStatus};
use crate::report::{aligned, human_bytes};
use crate::service::{JobState, JobView, Submission, Submitted};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use thunderhead_cluster::{Connector, Security};
use thunderhead_config::parse_size;
use thunderhead_types::{Error, ErrorKind, Result};

/// How often a watched status is asked for.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// How long a leader is looked for; covers a takeover.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// TLS files.
#[derive(Args, Clone, Debug)]
pub(super) struct Tls {
    /// Certificate authority of the fleet; without it nothing is encrypted
    #[arg(long, value_name = "FILE", env = "THUNDERHEAD_CA_PATH")]
    ca_path: Option<PathBuf>,

    /// Our certificate
    #[arg(long, value_name = "FILE", requires_all = ["ca_path", "key_path"], env = "THUNDERHEAD_CERT_PATH")]
    cert_path: Option<PathBuf>,

    /// Its private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert_path",
        env = "THUNDERHEAD_KEY_PATH"
    )]
    key_path: Option<PathBuf>,
}

impl Tls {
    pub(super) fn security(&self) -> Security {
        Security {
            ca: self.ca_path.clone(),
            cert: self.cert_path.clone(),
            key: self.key_path.clone(),
        }
    }
}

/// Where the fleet is and how it answers.
#[derive(Args, Clone, Debug)]
pub(super) struct Remote {
    /// Addresses of coordinators, separated by commas
    #[arg(
        long,
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:8287",
        env = "THUNDERHEAD_COORDINATOR"
    )]
    coordinator: Vec<String>,

    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,

    #[command(flatten)]
    tls: Tls,
}

/// Commands to a fleet.
#[derive(Subcommand)]
pub(super) enum RemoteCommand {
    /// Hand a job to a fleet; the same job again joins it, goes on after a failure, or says that it is finished
    Submit {
        #[command(flatten)]
        config: Box<ConfigArgs>,
        /// Wait for its end, showing progress; the exit code is then the job's
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the jobs of a fleet, and those that ended of late
    Jobs {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a job: stages, agents, what is done again, the time left and what holds it up
    Status {
        /// The job's id or its beginning
        job: String,
        /// Show it again and again until the job ends
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Hand out no more tasks of a job; what is in work ends
    Pause {
        /// The job's id or its beginning
        job: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Go on with a paused job
    Resume {
        /// The job's id or its beginning
        job: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// End a job and delete its runs and records; what is in the cluster stays there
    Cancel {
        /// The job's id or its beginning
        job: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the agents of a fleet
    Agents {
        #[command(flatten)]
        remote: Remote,
    },
    /// Let an agent end what it has, serve its runs while they are needed, and leave
    Drain {
        /// The agent's name
        agent: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Limit what a job writes to each TiKV store, bytes a second over all agents; 0 = no limit
    Limit {
        /// The job's id or its beginning
        job: String,
        /// Such as 50MiB
        #[arg(value_parser = size)]
        rate: u64,
        #[command(flatten)]
        remote: Remote,
    },
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "a size such as 50MiB".to_owned())
}

pub(super) fn run(command: &RemoteCommand) -> ExitCode {
    let output = command.remote().output;
    match runtime().and_then(|runtime| runtime.block_on(command.run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, output),
    }
}

impl RemoteCommand {
    fn remote(&self) -> &Remote {
        match self {
            Self::Submit { remote, .. }
            | Self::Jobs { remote }
            | Self::Status { remote, .. }
            | Self::Pause { remote, .. }
            | Self::Resume { remote, .. }
            | Self::Cancel { remote, .. }
            | Self::Agents { remote }
            | Self::Drain { remote, .. }
            | Self::Limit { remote, .. } => remote,
        }
    }

    async fn run(&self) -> Result<()> {
        let remote = self.remote();
        let client = Client::new(remote)?;
        let action = |job: &str, what: &str| format!("/v1/jobs/{job}/{what}");
        match self {
            Self::Submit { config, wait, .. } => submit(&client, remote, config, *wait).await,
            Self::Jobs { .. } => show_jobs(remote, &client.get("/v1/jobs").await?),
            Self::Agents { .. } => show_agents(remote, &client.get("/v1/agents").await?),
            Self::Status { job, watch, .. } => status(&client, remote, job, *watch).await,
            Self::Pause { job, .. } => {
                done(remote, client.post(&action(job, "pause"), json!({})).await?)
            }
            Self::Resume { job, .. } => done(
                remote,
                client.post(&action(job, "resume"), json!({})).await?,
            ),
            Self::Cancel { job, .. } => done(
                remote,
                client.post(&action(job, "cancel"), json!({})).await?,
            ),
            Self::Drain { agent, .. } => {
                let path = format!("/v1/agents/{agent}/drain");
                done(remote, client.post(&path, json!({})).await?)
            }
            Self::Limit { job, rate, .. } => {
                let body = json!({"store_bytes_per_second": rate});
                done(remote, client.post(&action(job, "limit"), body).await?)
            }
        }
    }
}

fn done(remote: &Remote, answer: Value) -> Result<()> {
    if remote.output == Format::Json {
        println!("{answer}");
    }
    Ok(())
}

/// Finds the leader and asks it.
struct Client {
    connector: Connector,
    addresses: Vec<String>,
}

impl Client {
    fn new(remote: &Remote) -> Result<Self> {
        Ok(Self {
            connector: Connector::new(&remote.tls.security())?,
            addresses: remote.coordinator.clone(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.ask(path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(path, Some(body)).await
    }

    /// Every request may be repeated, so one whose answer was lost is sent again.
    async fn ask(&self, path: &str, body: Option<Value>) -> Result<Value> {
        let start = Instant::now();
        let mut hint: Option<String> = None;
        let mut turn = 0;
        loop {
            let address = hint
                .take()
                .unwrap_or_else(|| self.addresses[turn % self.addresses.len()].clone());
            turn += 1;
            let error = match self.once(&address, path, body.as_ref()).await {
                Ok(Answer::Done(value)) => return Ok(value),
                Ok(Answer::Elsewhere(leader)) => {
                    hint = leader.filter(|leader| *leader != address);
                    Error::new(
                        ErrorKind::Cluster,
                        format!("coordinator {address}"),
                        "no coordinator leads",
                    )
                    .advice("is etcd reachable for the coordinators?")
                }
                Err(error) if error.kind == ErrorKind::Cluster => error,
                Err(error) => return Err(error),
            };
            if start.elapsed() > PATIENCE {
                return Err(error);
            }
            if hint.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn once(&self, address: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let away = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Cluster, format!("coordinator {address}"), e)
                .advice("start `thunderhead coordinator`, or say with --coordinator where it is")
        };
        let url = format!("{}{path}", self.connector.url(address));
        let request = match body {
            None => self.connector.http().get(url),
            Some(body) => self.connector.http().post(url).json(body),
        };
        let response = request.send().await.map_err(|e| away(&e))?;
        let status = response.status().as_u16();
        let value: Value = response.json().await.map_err(|e| away(&e))?;
        if status == 421 {
            let leader = value["leader"].as_str().filter(|l| !l.is_empty());
            return Ok(Answer::Elsewhere(leader.map(str::to_owned)));
        }
        if let Some(error) = value.get("error").filter(|_| status >= 400) {
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            return Err(Error::new(
                ErrorKind::from_name(&text("kind")),
                text("place"),
                text("cause"),
            )
            .advice(text("advice")));
        }
        Ok(Answer::Done(value))
    }
}

enum Answer {
    Done(Value),
    Elsewhere(Option<String>),
}

async fn submit(client: &Client, remote: &Remote, config: &ConfigArgs, wait: bool) -> Result<()> {
    let mut written = config.read()?;
    let job = written.check()?;
    if !thunderhead_config::uri::is_store(&job.source_dir.to_string_lossy()) {
        // Coordinators and agents have another working directory.
        let absolute = std::path::absolute(&job.source_dir)
            .map_err(|e| Error::new(ErrorKind::Config, job.source_dir.display(), e))?;
        written.overrides.push((
            "mydumper.data-source-dir".to_owned(),
            absolute.display().to_string(),
        ));
    }
    // With its secrets: the leader sets them apart before it records anything.
    let submission = Submission {
        config: written.text,
        overrides: written.overrides,
    };
    let answer = client.post("/v1/jobs", json!(submission)).await?;
    let submitted: Submitted = parse(answer)?;
    match remote.output {
        Format::Json => println!("{}", json!(submitted)),
        Format::Text if submitted.finished => {
            println!("{} (already finished: nothing is done)", submitted.job)
        }
        Format::Text if submitted.joined => println!("{} (was there already)", submitted.job),
        Format::Text => println!("{}", submitted.job),
    }
    if wait {
        status(client, remote, &submitted.job, true).await
    } else {
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "coordinator",
            format!("cannot read its answer: {e}"),
        )
        .advice("run the same version of thunderhead everywhere")
    })
}

fn show_jobs(remote: &Remote, answer: &Value) -> Result<()> {
    if remote.output == Format::Json {
        println!("{answer}");
        return Ok(());
    }
    let jobs: Vec<JobView> = parse(answer["jobs"].clone())?;
    let mut rows = vec![["job", "state", "tables", "source"].map(str::to_owned)];
    for job in jobs {
        rows.push([
            job.job,
            name_of(job.state),
            job.tables.to_string(),
            job.title,
        ]);
    }
    print!("{}", aligned(&rows));
    Ok(())
}

fn name_of(state: JobState) -> String {
    json!(state).as_str().unwrap_or_default().to_owned()
}

fn show_agents(remote: &Remote, answer: &Value) -> Result<()> {
    if remote.output == Format::Json {
        println!("{answer}");
        return Ok(());
    }
    print!(
        "{}",
        agents_text(&parse::<Vec<AgentStatus>>(answer["agents"].clone())?)
    );
    Ok(())
}

fn agents_text(agents: &[AgentStatus]) -> String {
    let mut rows = vec![
        [
            "agent",
            "state",
            "encoding",
            "ingesting",
            "read",
            "ingested",
            "waits for (ms/s)",
        ]
        .map(str::to_owned),
    ];
    for a in agents {
        let state = if a.reason.is_empty() {
            a.state.clone()
        } else {
            format!("{}: {}", a.state, a.reason)
        };
        rows.push([
            a.agent.clone(),
            state,
            format!("{}/{}", a.encoding, a.encode_slots),
            format!("{}/{}", a.ingesting, a.ingest_slots),
            format!("{}/s", human_bytes(a.source_bytes_per_second as u64)),
            format!("{}/s", human_bytes(a.ingested_bytes_per_second as u64)),
            waits_text(a),
        ]);
    }
    aligned(&rows)
}

/// The links an agent waited on of late, the worst first.
fn waits_text(agent: &AgentStatus) -> String {
    let mut waits: Vec<_> = agent
        .blocked_ms_per_second
        .iter()
        .filter(|(_, ms)| **ms > 0)
        .collect();
    waits.sort_by_key(|(_, ms)| std::cmp::Reverse(**ms));
    let waits: Vec<String> = waits
        .iter()
        .map(|(link, ms)| format!("{link} {ms}"))
        .collect();
    if waits.is_empty() {
        "-".to_owned()
    } else {
        waits.join(", ")
    }
}

async fn status(client: &Client, remote: &Remote, job: &str, watch: bool) -> Result<()> {
    loop {
        let answer = client.get(&format!("/v1/jobs/{job}")).await?;
        let view: JobView = parse(answer["job"].clone())?;
        match remote.output {
            Format::Json => println!("{answer}"),
            Format::Text => {
                if watch && std::io::stdout().is_terminal() {
                    // Home and clear, as `watch` does.
                    print!("\x1b[H\x1b[2J");
                }
                print!("{}", status_text(&view, &answer)?);
            }
        }
        match (view.state, view.error) {
            (JobState::Failed, Some(error)) if watch => return Err(error.into()),
            (JobState::Cancelled, _) if watch => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!("job {}", view.job),
                    "cancelled",
                ));
            }
            (JobState::Finished, _) => return Ok(()),
            _ if !watch => return Ok(()),
            _ => tokio::time::sleep(WATCH_PERIOD).await,
        }
    }
}

fn status_text(view: &JobView, answer: &Value) -> Result<String> {
    let mut text = format!(
        "job {} from {}: {}\n",
        view.job,
        view.title,
        name_of(view.state)
    );
    if let Some(error) = &view.error {
        text += &format!("error: {}\n", Error::from(error.clone()));
    }
    let progress: Option<JobStatus> = parse(answer["progress"].clone())?;
    if let Some(p) = progress {
        text += &progress_text(&p);
        text += &agents_text(&parse::<Vec<AgentStatus>>(answer["agents"].clone())?);
    } else if view.state == JobState::Running {
        text += &match view.waiting_for.as_str() {
            "" => "preparing: reading the source and checking the target\n".to_owned(),
            what => format!("waits for {what}\n"),
        };
    }
    Ok(text)
}

fn progress_text(p: &JobStatus) -> String {
    let eta = p
        .eta_seconds
        .map_or_else(|| "unknown".to_owned(), |s| format!("{s} s"));
    let mut text = format!(
        "{}: chunks {}/{} ({} running, {} of {}), ranges {}/{} ({} running, {} of {}), tables {}/{}; {} rows\n",
        p.stage,
        p.chunks_done,
        p.chunks,
        p.chunks_running,
        human_bytes(p.source_bytes_done),
        human_bytes(p.source_bytes),
        p.ranges_done,
        p.ranges,
        p.ranges_running,
        human_bytes(p.kv_bytes_done),
        human_bytes(p.kv_bytes),
        p.tables_finished,
        p.tables,
        p.rows,
    );
    text += &format!("time left {eta}; bottleneck: {}\n", p.bottleneck);
    if !p.waiting_for.is_empty() {
        text += &format!("waits for {}\n", p.waiting_for);
    }
    if p.store_bytes_per_second > 0 {
        text += &format!(
            "limit {}/s to each store\n",
            human_bytes(p.store_bytes_per_second)
        );
    }
    if !p.retries.is_empty() {
        let causes: Vec<String> = p
            .retries
            .iter()
            .map(|(cause, n)| format!("{cause} {n}"))
            .collect();
        text += &format!("done again: {}\n", causes.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agent_shows_its_throughput_and_what_it_waits_for() {
        let agent = AgentStatus {
            agent: "host-1".to_owned(),
            state: "disk full".to_owned(),
            reason: "the disk of its sort directory is full".to_owned(),
            source_bytes_per_second: 5e6,
            ingested_bytes_per_second: 7e6,
            blocked_ms_per_second: [("merge", 0), ("TiKV", 300), ("agents", 40)]
                .map(|(link, ms)| (link.to_owned(), ms))
                .into(),
            ..AgentStatus::default()
        };
        let text = agents_text(&[agent]);
        for part in [
            "host-1",
            "disk full: the disk of its sort directory is full",
            "5.0 MB/s",
            "7.0 MB/s",
            "TiKV 300, agents 40",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_status_names_stage_bottleneck_and_causes() {
        let status = JobStatus {
            stage: "encoding".to_owned(),
            bottleneck: "few chunks are left".to_owned(),
            retries: [("cluster".to_owned(), 2)].into(),
            ..JobStatus::default()
        };
        let text = progress_text(&status);
        for part in [
            "encoding",
            "few chunks are left",
            "cluster 2",
            "time left unknown",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
