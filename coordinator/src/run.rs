//! One job from its configuration to its report: prepare, record, lead; in one process with an agent of our own,
//! or on a fleet. What is opened in the cluster is closed on every way out, unless another leader goes on.

use crate::done::{self, Done};
use crate::fleet::{Fleet, FleetHandle, FleetOptions, NewJob};
use crate::job::{self, JobRecord};
use crate::plan::JobPlan;
use crate::prepare::{self, Prepared, Sizing, prepare, recorded, refuse_unsupported};
use crate::progress::Progress;
use crate::report::Report;
use crate::scheduler::AttemptName;
use crate::service::JobState;
use crate::spread::{Opener, Spread};
use crate::store::{Commit, EmbeddedStore, StateStore, Txn};
use crate::target::{Target, regions_in_flight};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thunderhead_agent::{Agent, AgentConfig, Clusters};
use thunderhead_cluster::{Guards, Security};
use thunderhead_codec::schema::TableInfo;
use thunderhead_config::{Job, Level, SourceTree, fingerprint};
use thunderhead_proto::thunderhead::ClusterSpec;
use thunderhead_source::store::scan as scan_source;
use thunderhead_types::{
    Clock, Epoch, Error, ErrorKind, KeyRange, Result, SystemClock, fail_point,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Messages between leader and agent that may wait. Tasks in hand are bounded; this only keeps a burst of orders or
/// reports from stopping the sender.
const LINK_MESSAGES: usize = 1024;

/// Timestamps asked for at a time.
const TSO_AT_A_TIME: usize = 32;

/// How long a job that was asked to stop looks after files of broken-off attempts: whoever asked may kill it half a
/// minute later.
const RETIRE_WHEN_STOPPED: Duration = Duration::from_secs(10);

/// The name of the agent inside this process.
const AGENT: &str = "embedded";

/// Place of the error of a job that could not begin: nothing of it is open in the cluster.
pub(crate) const NOT_BEGUN: &str = "before the start";

/// What the loop of a leader made of a job.
struct Led {
    result: Result<Vec<job::Table>>,
    /// The term is over and the next leader goes on: what is open in the cluster stays open.
    handed_on: bool,
}

/// Refuses what this version does not do.
pub(crate) fn check(job: &Job) -> Result<()> {
    refuse_unsupported(job)
}

/// Refuses what one process does not do, too.
fn check_here(job: &Job) -> Result<()> {
    refuse_unsupported(job)?;
    if job.source_agents == 0 {
        return Ok(());
    }
    let cause = "one process has no agents that hold the source";
    let error = Error::new(ErrorKind::Config, "thunderhead.source-agents", cause);
    Err(error.advice("leave it out, or `thunderhead submit` the job to a fleet"))
}

/// The plan of a job, without writing anything.
pub async fn dry_run(job: &Job, stop: &CancellationToken) -> Result<JobPlan> {
    check_here(job)?;
    let tree = scan_source(job)?;
    let target = Target::connect(job, stop.clone()).await?;
    let prepared = prepare(
        job,
        &target,
        (&tree, &Opener::new(job, None)),
        &fingerprint::identity(job, &tree),
        Vec::new(),
        Sizing::here(job),
        true,
    )
    .await?;
    Ok(prepared.plan)
}

/// Runs a job to its end, or continues one.
pub async fn run(job: &Job, progress: Progress, stop: CancellationToken) -> Result<Report> {
    let start = Instant::now();
    check_here(job)?;
    let tree = scan_source(job)?;
    let store = open_store(&job.sorted_kv_dir)?;
    let epoch = store.lead().await?;
    let target = Target::connect(job, stop.clone()).await?;
    let job_id = fingerprint::identity(job, &tree);
    let record = JobRecord {
        title: tree.root.display().to_string(),
        cluster_id: target.pd.cluster_id(),
        created_ms: SystemClock.unix_ms(),
        ..JobRecord::default()
    };
    let put = Txn::default().put(job::job_key(&job_id), job::to_json(&record)?);
    let sizing = Sizing::here(job);
    let content = fingerprint::content(job, &tree);
    if job::load(store.as_ref(), &job_id).await?.is_none()
        && let Some(report) = done::report(store.as_ref(), &target, &job_id, &content).await?
    {
        return Ok(report);
    }
    let begun = begin(
        job,
        (&tree, &Opener::new(job, None)),
        (store.as_ref(), (epoch, 0)),
        &target,
        &job_id,
        sizing,
        put,
    )
    .await;
    let prepared = match begun {
        Ok(prepared) => prepared,
        Err(error) => {
            close_left_open(job, &job_id, store.as_ref()).await;
            return Err(error);
        }
    };
    let guards = open_guards(&target, &prepared).await?;
    let leading = lead(
        job,
        &store,
        epoch,
        &target,
        prepared,
        progress,
        stop.clone(),
    );
    let end = (&target, store.as_ref() as &dyn StateStore, job_id.as_str());
    let tables = guarded(guards, &stop, leading, end).await?;

    let report = Report::new(
        &job_id,
        &tables,
        job.checksum != Level::Off,
        start.elapsed(),
    );
    let done = Done::new(content, target.pd.cluster_id(), &tables, report);
    // The job is done: its state would only keep a later job with the same files from starting.
    let forget = Txn::default()
        .delete(job::job_key(&job_id))
        .delete(format!("{}/", job::job_key(&job_id)));
    fail_point("clean-up");
    commit(store.as_ref(), epoch, done.put(forget)?).await?;
    Ok(done.report)
}

/// A job of a fleet.
pub(crate) struct FleetRun {
    /// The job.
    pub(crate) job: Job,
    /// Its source, where agents hold it.
    pub(crate) spread: Option<Arc<Spread>>,
    /// Its id.
    pub(crate) job_id: String,
    /// Its record.
    pub(crate) record: JobRecord,
    /// The state store.
    pub(crate) store: Arc<dyn StateStore>,
    /// The loop that leads.
    pub(crate) fleet: FleetHandle,
    /// Where counts go.
    pub(crate) progress: Progress,
    /// Cancels the job.
    pub(crate) stop: CancellationToken,
    /// When this leader took it up.
    pub(crate) start: Instant,
}

/// Runs a job on a fleet to its end, or continues one.
pub(crate) async fn run_in_fleet(run: FleetRun) -> Result<Done> {
    let stop = run.stop.clone();
    let started = tokio::select! {
        started = begin_in_fleet(&run) => started.map_err(not_begun),
        () = stop.cancelled() => {
            Err(Error::new(ErrorKind::Cancelled, "", "the job was cancelled"))
        }
    };
    let (target, prepared, content) = match started {
        Ok(started) => started,
        // What cannot begin yet is tried again.
        Err(error) if error.place == NOT_BEGUN => return Err(error),
        Err(error) => {
            let fenced = error.kind == ErrorKind::Cancelled && !stop.is_cancelled();
            // The next leader's guards have the same names.
            if !fenced && !run.fleet.is_over() {
                close_left_open(&run.job, &run.job_id, run.store.as_ref()).await;
            }
            return Err(error);
        }
    };
    let workers = job::workers(run.store.as_ref(), &run.job_id).await?;
    let guards = open_guards(&target, &prepared).await?;
    let new_job = NewJob {
        job_id: prepared.job_id,
        cluster: target.spec(&run.job),
        tables: prepared.tables,
        steps: target.steps(),
        progress: run.progress.clone(),
        store_bytes_per_second: run
            .record
            .store_bytes_per_second
            .unwrap_or(run.job.ingest.store_bytes_per_second),
        paused: run.record.state == JobState::Paused,
        agents: workers,
    };
    let end = (&target, run.store.as_ref(), run.job_id.as_str());
    let tables = guarded(guards, &stop, lead_in_fleet(&run, new_job), end).await?;
    let verified = run.job.checksum != Level::Off;
    let report = Report::new(&run.job_id, &tables, verified, run.start.elapsed());
    Ok(Done::new(content, target.pd.cluster_id(), &tables, report))
}

/// What did not begin for want of the cluster may be tried again.
pub(crate) fn not_begun(error: Error) -> Error {
    match error.kind {
        ErrorKind::Cluster if error.place != NOT_BEGUN => Error {
            cause: format!("{}: {}", error.place, error.cause),
            place: NOT_BEGUN.to_owned(),
            ..error
        },
        _ => error,
    }
}

/// The target, the plan, and what it was made of.
async fn begin_in_fleet(run: &FleetRun) -> Result<(Target, Prepared, String)> {
    let (scan, opener) = (run.job.clone(), Opener::new(&run.job, run.spread.clone()));
    let tree = match &run.spread {
        None => prepare::reading(move || scan_source(&scan)).await?,
        Some(spread) => spread.tree().await?,
    };
    let target = Target::connect(&run.job, run.stop.clone()).await?;
    let slots = run.fleet.status().borrow().encode_slots();
    let sizing = Sizing {
        encode_slots: slots.max(prepare::threads(&run.job)),
        disk_free: None,
    };
    let state = (run.store.as_ref(), run.fleet.planned_at());
    let prepared = begin(
        &run.job,
        (&tree, &opener),
        state,
        &target,
        &run.job_id,
        sizing,
        Txn::default(),
    )
    .await?;
    Ok((target, prepared, fingerprint::content(&run.job, &tree)))
}

async fn lead_in_fleet(run: &FleetRun, new_job: NewJob) -> Led {
    // Ends with this job.
    let mut watching = JoinSet::new();
    if let Some(spread) = &run.spread {
        if let Err(over) = run.fleet.sees(&run.job_id, spread.sight()).await {
            return Led {
                result: Err(over),
                handed_on: true,
            };
        }
        watching.spawn(Arc::clone(spread).watch(run.fleet.clone(), run.job_id.clone()));
    }
    let leading = run.fleet.lead(new_job);
    tokio::pin!(leading);
    let result = tokio::select! {
        result = &mut leading => result,
        () = run.stop.cancelled() => match run.fleet.cancel(&run.job_id).await {
            Ok(()) => leading.await,
            Err(over) => Err(over),
        },
    };
    Led {
        result,
        handed_on: run.fleet.is_over(),
    }
}

fn open_store(dir: &Path) -> Result<Arc<EmbeddedStore>> {
    std::fs::create_dir_all(dir).map_err(|e| {
        Error::new(ErrorKind::Precheck, dir.display(), e)
            .advice("choose a tikv-importer.sorted-kv-dir that can be written")
    })?;
    Ok(Arc::new(EmbeddedStore::open(&dir.join("state.redb"))?))
}

/// Everything before the first task: prepared and recorded. `first` is committed before the tables are.
async fn begin(
    job: &Job,
    (tree, opener): (&SourceTree, &Opener),
    (store, planned_at): (&dyn StateStore, AttemptName),
    target: &Target,
    job_id: &str,
    sizing: Sizing,
    first: Txn,
) -> Result<Prepared> {
    let known = recorded(store, job_id, target.pd.cluster_id()).await?;
    let source = (tree, opener);
    let prepared = prepare(job, target, source, job_id, known, sizing, false).await;
    // First: who was not there is the cause of whatever else is wrong.
    opener.was_read()?;
    let mut prepared = prepared?;
    commit(store, planned_at.0, first).await?;
    record(store, planned_at, target, &mut prepared).await?;
    // After they were recorded: the access to a store may hold credentials and stays in memory.
    for task in prepared
        .tables
        .iter_mut()
        .flat_map(|t| t.chunks.values_mut())
    {
        Arc::make_mut(task).source_access = job.source_access.reveal().to_owned();
    }
    Ok(prepared)
}

async fn open_guards(target: &Target, prepared: &Prepared) -> Result<Guards> {
    let mut spaces = Vec::new();
    for table in &prepared.tables {
        let info: TableInfo = target.parse_info(table)?;
        spaces.extend(
            info.key_space_ids()
                .into_iter()
                .map(thunderhead_codec::keys::table_range),
        );
    }
    let commit_ts = prepared
        .tables
        .iter()
        .map(job::Table::oldest_ts)
        .min()
        .unwrap_or(0);
    let regions = prepared
        .plan
        .tables
        .iter()
        .map(|t| usize::try_from(t.ranges).unwrap_or(usize::MAX))
        .sum();
    let guards = target
        .open_guards(&prepared.job_id, &spaces, commit_ts, regions)
        .await?;
    fail_point("guards");
    Ok(guards)
}

/// A job that ends before it goes on: what a former leader, or a killed process, left open must not wait for its
/// time to run out.
async fn close_left_open(job: &Job, job_id: &str, store: &dyn StateStore) {
    if let Err(error) = close_guards(job, job_id, store).await {
        tracing::warn!(%error, job_id, "guards in the cluster are left to expire");
    }
}

/// Takes down what another leader of a job left open in the cluster.
pub(crate) async fn close_guards(job: &Job, job_id: &str, store: &dyn StateStore) -> Result<()> {
    let Some((_, tables)) = job::load(store, job_id).await? else {
        return Ok(());
    };
    let target = Target::connect(job, CancellationToken::new()).await?;
    let mut spaces = Vec::new();
    for table in &tables {
        spaces.extend(target.steps().key_spaces(table)?);
    }
    let commit_ts = tables.iter().map(job::Table::oldest_ts).min().unwrap_or(0);
    if commit_ts > 0 {
        let guards = target
            .open_guards(job_id, &spaces, commit_ts, usize::MAX)
            .await?;
        guards.close().await;
        retire_files(&target, &broken_off(&tables)).await;
    }
    Ok(())
}

/// Leads behind guards, which are closed on every way out but one: see [`Led`].
async fn guarded(
    guards: Guards,
    stop: &CancellationToken,
    leading: impl Future<Output = Led>,
    (target, store, job_id): (&Target, &dyn StateStore, &str),
) -> Result<Vec<job::Table>> {
    tokio::pin!(leading);
    let led = tokio::select! {
        led = &mut leading => led,
        lost = guards.lost() => {
            stop.cancel();
            Led { result: Err(lost), handed_on: leading.await.handed_on }
        }
    };
    if led.handed_on {
        drop(guards);
        return led.result;
    }
    fail_point("close-guards");
    // First: who is asked to stop may be killed before the rest is done, and guards hold up the whole cluster.
    guards.close().await;
    let left = match &led.result {
        Ok(tables) => broken_off(tables),
        Err(_) => match job::load(store, job_id).await {
            Ok(Some((_, tables))) => broken_off(&tables),
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "files of broken-off attempts are left with stores");
                Vec::new()
            }
        },
    };
    let retiring = retire_files(target, &left);
    if !stop.is_cancelled() {
        retiring.await;
    } else if tokio::time::timeout(RETIRE_WHEN_STOPPED, retiring)
        .await
        .is_err()
    {
        tracing::warn!(
            "no time to remove files of broken-off attempts; going on with the job does"
        );
    }
    led.result
}

/// Ranges of which attempts that were broken off, under this leader or another, may have left files with stores.
fn broken_off(tables: &[job::Table]) -> Vec<KeyRange> {
    tables.iter().flat_map(job::Table::broken_off).collect()
}

/// Gives such files to the next sweep of their stores.
async fn retire_files(target: &Target, ranges: &[KeyRange]) {
    if ranges.is_empty() {
        return;
    }
    let left = target.importer.retire_files(ranges).await;
    tracing::info!(
        ranges = ranges.len(),
        left,
        "files of broken-off attempts are given to the next sweep of their stores"
    );
}

/// Takes one commit_ts for each fresh table and records the plan, before anything is done.
async fn record(
    store: &dyn StateStore,
    (epoch, attempts): AttemptName,
    target: &Target,
    prepared: &mut Prepared,
) -> Result<()> {
    let mut stamps = Vec::with_capacity(prepared.fresh.len());
    while stamps.len() < prepared.fresh.len() {
        let count = (prepared.fresh.len() - stamps.len()).min(TSO_AT_A_TIME);
        let asked = (0..count).map(|_| target.pd.tso());
        stamps.extend(futures::future::try_join_all(asked).await?);
    }
    for (&n, commit_ts) in prepared.fresh.iter().zip(stamps) {
        let record = &mut prepared.tables[n].record;
        record.commit_ts = commit_ts;
        (record.planned_epoch, record.planned_attempts) = (epoch, attempts);
    }
    let fresh: Vec<(usize, &job::Table)> = prepared
        .fresh
        .iter()
        .map(|&n| (n, &prepared.tables[n]))
        .collect();
    fail_point("commit-ts");
    for txn in job::record_tables(&prepared.job_id, &fresh)? {
        commit(store, epoch, txn).await?;
        fail_point("plan");
    }
    Ok(())
}

async fn commit(store: &dyn StateStore, epoch: Epoch, txn: Txn) -> Result<()> {
    match store.commit(epoch, txn).await? {
        Commit::Done(_) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Cancelled,
            "state store",
            "another process has taken over this job",
        )),
    }
}

async fn lead(
    job: &Job,
    store: &Arc<EmbeddedStore>,
    epoch: Epoch,
    target: &Target,
    prepared: Prepared,
    progress: Progress,
    stop: CancellationToken,
) -> Led {
    let result = lead_here(job, store, epoch, target, prepared, progress, stop).await;
    Led {
        result,
        handed_on: false,
    }
}

async fn lead_here(
    job: &Job,
    store: &Arc<EmbeddedStore>,
    epoch: Epoch,
    target: &Target,
    prepared: Prepared,
    progress: Progress,
    stop: CancellationToken,
) -> Result<Vec<job::Table>> {
    let (order_sender, orders) = mpsc::channel(LINK_MESSAGES);
    let (report_sender, reports) = mpsc::channel(LINK_MESSAGES);
    let config = AgentConfig {
        id: AGENT.to_owned(),
        sort_dir: job.sorted_kv_dir.clone(),
        memory_bytes: job.memory_bytes,
        disk_bytes_max: job.disk_quota.unwrap_or(0),
        encode_slots: prepare::threads(job),
        readers_max: regions_in_flight(job) as usize,
        address: String::new(),
        readable: Vec::new(),
        security: Security::default(),
        peer_patience: Duration::ZERO,
        grace: Duration::ZERO,
        run_store: None,
        hands_back_when_full: false,
        ingest_slots: u32::try_from(job.ingest.range_concurrency)
            .unwrap_or(1)
            .clamp(1, regions_in_flight(job)),
    };
    let agent = Agent::new(
        config,
        Clusters::given(Arc::clone(&target.importer)),
        stop.child_token(),
    )?;
    let agent = tokio::spawn(agent.run(orders, report_sender));

    let options = FleetOptions {
        one_process: true,
        ..FleetOptions::default()
    };
    let (fleet, handle) = Fleet::new(store.clone(), epoch, options, BTreeSet::new());
    let fleet = tokio::spawn(fleet.run(stop));
    handle.connect(AGENT, order_sender, reports).await;
    let job_id = prepared.job_id.clone();
    let result = handle
        .lead(NewJob {
            job_id: prepared.job_id,
            cluster: ClusterSpec::default(),
            tables: prepared.tables,
            steps: target.steps(),
            progress,
            store_bytes_per_second: 0,
            paused: false,
            agents: BTreeSet::new(),
        })
        .await;
    if result.is_ok() {
        handle.drop_runs(&job_id).await?;
    }
    // The loop ends, and with it the agent's orders, when nobody can command it.
    drop(handle);
    let panicked = |place: &str, panic| Error::new(ErrorKind::Internal, place, panic);
    let led = fleet.await.map_err(|panic| panicked("leader", panic))?;
    // An agent that could not work at all is the first cause of whatever the leader saw.
    match agent.await {
        Ok(Ok(())) => led.and(result),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(panicked("agent", panic)),
    }
}
