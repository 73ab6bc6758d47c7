//! One job in one process: prepare, record, lead, with an agent of our own. What is opened in the cluster
//! is closed on every way out.

use crate::job::{self, JobRecord};
use crate::leader::Leader;
use crate::plan::JobPlan;
use crate::prepare::{self, Prepared, prepare, recorded, refuse_unsupported};
use crate::progress::Progress;
use crate::report::Report;
use crate::store::{Commit, EmbeddedStore, StateStore, Txn};
use crate::target::{REGIONS_IN_FLIGHT, Target};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thunderhead_agent::{Agent, AgentConfig, Clusters};
use thunderhead_cluster::Security;
use thunderhead_codec::schema::TableInfo;
use thunderhead_config::{Job, Level, SourceTree, fingerprint};
use thunderhead_proto::thunderhead::{
    CoordinatorMessage, DropRuns, coordinator_message::Body as Order,
};
use thunderhead_types::{Clock, Epoch, Error, ErrorKind, Result, SystemClock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages between leader and agent that may wait. Tasks in flight are bounded by slots; this only keeps
/// a burst of reports from stopping the sender.
const LINK_MESSAGES: usize = 256;

/// The name of the agent inside this process.
const AGENT: &str = "embedded";

/// The plan of a job, without writing anything.
pub async fn dry_run(job: &Job, stop: &CancellationToken) -> Result<JobPlan> {
    refuse_unsupported(job)?;
    let tree = SourceTree::scan(job)?;
    let target = Target::connect(job, stop.clone()).await?;
    let prepared = prepare(
        job,
        &target,
        &tree,
        &fingerprint::identity(job, &tree),
        Vec::new(),
        true,
    )
    .await?;
    Ok(prepared.plan)
}

/// Runs a job to its end, or continues one.
pub async fn run(job: &Job, progress: Progress, stop: CancellationToken) -> Result<Report> {
    let start = Instant::now();
    refuse_unsupported(job)?;
    let tree = SourceTree::scan(job)?;
    let store = open_store(&job.sorted_kv_dir)?;
    let epoch = store.lead().await?;
    let target = Target::connect(job, stop.clone()).await?;
    let (job_id, tables) = run_on(job, &tree, &store, epoch, &target, progress, stop).await?;
    Ok(Report::new(
        &job_id,
        &tables,
        job.checksum != Level::Off,
        start.elapsed(),
    ))
}

fn open_store(dir: &Path) -> Result<Arc<EmbeddedStore>> {
    std::fs::create_dir_all(dir).map_err(|e| {
        Error::new(ErrorKind::Precheck, dir.display(), e)
            .advice("choose a tikv-importer.sorted-kv-dir that can be written")
    })?;
    Ok(Arc::new(EmbeddedStore::open(&dir.join("state.redb"))?))
}

async fn run_on(
    job: &Job,
    tree: &SourceTree,
    store: &Arc<EmbeddedStore>,
    epoch: Epoch,
    target: &Target,
    progress: Progress,
    stop: CancellationToken,
) -> Result<(String, Vec<job::Table>)> {
    let job_id = fingerprint::identity(job, tree);
    let known = recorded(store.as_ref(), &job_id, target.pd.cluster_id()).await?;
    let mut prepared = prepare(job, target, tree, &job_id, known, false).await?;
    record(store.as_ref(), epoch, target, &mut prepared).await?;

    let mut spaces = Vec::new();
    for table in &prepared.tables {
        let info: TableInfo = target.parse_info(table)?;
        spaces.extend(
            info.physical_ids()
                .into_iter()
                .map(thunderhead_codec::keys::table_range),
        );
    }
    let commit_ts = prepared
        .tables
        .iter()
        .map(|t| t.record.commit_ts)
        .min()
        .unwrap_or(0);
    let regions = prepared
        .plan
        .tables
        .iter()
        .map(|t| usize::try_from(t.ranges).unwrap_or(usize::MAX))
        .sum();
    let guards = target
        .open_guards(&job_id, &spaces, commit_ts, regions)
        .await?;
    let result = tokio::select! {
        result = lead(job, store, epoch, target, prepared, progress, stop.clone()) => result,
        lost = guards.lost() => {
            stop.cancel();
            Err(lost)
        }
    };
    guards.close().await;
    let tables = result?;

    // The job is done: its state would only keep a later job with the same files from starting.
    let forget = Txn::default()
        .delete(job::job_key(&job_id))
        .delete(format!("{}/", job::job_key(&job_id)));
    commit(store.as_ref(), epoch, forget).await?;
    Ok((job_id, tables))
}

/// Takes one commit_ts for each fresh table and records the plan, before anything is done.
async fn record(
    store: &dyn StateStore,
    epoch: Epoch,
    target: &Target,
    prepared: &mut Prepared,
) -> Result<()> {
    let record = JobRecord {
        title: prepared.plan.source.clone(),
        cluster_id: target.pd.cluster_id(),
        created_ms: SystemClock.unix_ms(),
    };
    let json = serde_json::to_vec(&record)
        .map_err(|e| Error::new(ErrorKind::Internal, "state store", e))?;
    commit(
        store,
        epoch,
        Txn::default().put(job::job_key(&prepared.job_id), json),
    )
    .await?;
    for &n in &prepared.fresh {
        prepared.tables[n].record.commit_ts = target.pd.tso().await?;
        commit(
            store,
            epoch,
            job::put_table(Txn::default(), &prepared.job_id, n, &prepared.tables[n])?,
        )
        .await?;
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
) -> Result<Vec<job::Table>> {
    let (order_sender, orders) = mpsc::channel(LINK_MESSAGES);
    let (report_sender, reports) = mpsc::channel(LINK_MESSAGES);
    let config = AgentConfig {
        id: AGENT.to_owned(),
        sort_dir: job.sorted_kv_dir.clone(),
        memory_bytes: job.memory_bytes,
        disk_bytes_max: job.disk_quota.unwrap_or(0),
        encode_slots: prepare::threads(job),
        readers_max: REGIONS_IN_FLIGHT,
        address: String::new(),
        readable: Vec::new(),
        security: Security::default(),
        peer_patience: Duration::ZERO,
        grace: Duration::ZERO,
        hands_back_when_full: false,
        ingest_slots: u32::try_from(job.ingest.range_concurrency)
            .unwrap_or(1)
            .clamp(1, INGEST_SLOTS_MAX),
    };
    let agent = Agent::new(
        config,
        Clusters::given(Arc::clone(&target.importer)),
        stop.child_token(),
    )?;
    let agent = tokio::spawn(agent.run(orders, report_sender));

    let steps = target.steps();
    let job_id = prepared.job_id;
    let mut leader = Leader::new(
        store.clone(),
        epoch,
        job_id.clone(),
        prepared.tables,
        steps,
        progress,
    );
    leader.connect(AGENT, order_sender.clone());
    let result = leader.run(reports, stop).await;
    if result.is_ok() {
        let drop_all = Order::DropRuns(DropRuns {
            job_id,
            task_ids: Vec::new(),
        });
        let _ = order_sender
            .send(CoordinatorMessage {
                epoch,
                body: Some(drop_all),
            })
            .await;
    }
    drop(order_sender);
    // An agent that could not work at all is the first cause of whatever the leader saw.
    match agent.await {
        Ok(Ok(())) => result,
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(Error::new(ErrorKind::Internal, "agent", panic)),
    }
}

/// More ranges at a time than this only compete for the same memory.
const INGEST_SLOTS_MAX: u32 = 4;
