//! From a checked configuration to tables that are ready to run: every reason why the job could not succeed
//! is looked for here, before anything is written.
//!
//! 1. The source directory is read and files are assigned to tables.
//! 2. The cluster is reached; PD and TiDB must belong together.
//! 3. Missing databases and tables are created from schema files.
//! 4. Each table is matched with what an earlier run recorded: it goes on, or it is planned afresh, which
//!    asks for an empty table, a schema the encoder knows and files that can be cut.
//! 5. The disk must hold the sorted runs.

use crate::conflicts::{TableConflicts, too_old_to_record};
use crate::job::{self, Phase, Table, TableRecord};
use crate::plan::chunks::{self, Wanted};
use crate::plan::{Estimate, JobPlan, TablePlan};
use crate::spread::Opener;
use crate::target::Target;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_config::{
    Backend, ConflictStrategy, Job, SchemaFile, SourceFormat, SourceTable, SourceTree, SourceView,
    fingerprint, schema_file,
};
use thunderhead_proto::thunderhead::{EncodeTask, FilePart, TableSpec};
use thunderhead_source::{Chunk, packed_ratio, read_whole};
use thunderhead_types::{Error, ErrorKind, Result};

/// A job that can start.
pub(crate) struct Prepared {
    /// Job id.
    pub(crate) job_id: String,
    /// Tables in plan order; `commit_ts` is 0 where it has not been taken yet.
    pub(crate) tables: Vec<Table>,
    /// Which tables must be recorded before they start.
    pub(crate) fresh: Vec<usize>,
    /// For people.
    pub(crate) plan: JobPlan,
}

/// What this version does not do yet is refused first, whatever else is wrong.
pub(crate) fn refuse_unsupported(job: &Job) -> Result<()> {
    let refuse = |what: &str, advice: &str| {
        Err(Error::new(ErrorKind::Config, "configuration", what).advice(advice))
    };
    if job.backend != Backend::Local {
        return refuse(
            "the logical mode (backend = \"tidb\") is not supported yet",
            "use backend = \"local\"",
        );
    }
    Ok(())
}

/// Encode threads of this process.
pub(crate) fn threads(job: &Job) -> u32 {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(job.threads.unwrap_or_else(processors))
        .unwrap_or(1)
        .max(1)
}

/// What the job will run on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizing {
    /// Encode tasks at a time, over all agents.
    pub(crate) encode_slots: u32,
    /// Bytes that runs may take; `None` where agents keep account of their own.
    pub(crate) disk_free: Option<u64>,
}

impl Sizing {
    /// This process.
    pub(crate) fn here(job: &Job) -> Self {
        Self {
            encode_slots: threads(job),
            disk_free: Some(disk_free(&job.sorted_kv_dir, job.disk_quota)),
        }
    }
}

/// See the module. `recorded` is what an earlier run left, by `db.table`; in a dry run nothing is created.
pub(crate) async fn prepare(
    job: &Job,
    target: &Target,
    (tree, opener): (&SourceTree, &Opener),
    job_id: &str,
    recorded: Vec<Table>,
    sizing: Sizing,
    dry: bool,
) -> Result<Prepared> {
    let mut recorded: BTreeMap<String, Table> = recorded
        .into_iter()
        .map(|table| (table.name(), table))
        .collect();
    if !job.no_schema && !dry {
        create_schema(target, opener, tree).await?;
    }
    let session = target.session(&job.sql_mode, job_id).await?;
    let strategy = Strategy::of(job, target).await?;
    let mut drafts = Vec::new();
    for source in tree
        .tables
        .iter()
        .filter(|table| !table.data_files.is_empty())
    {
        let (info, json) = table_info(target, source).await?;
        if drafts.is_empty() {
            target.check_same_cluster(source, &info).await?;
        }
        let known = recorded.remove(&format!("{}.{}", source.database, source.table));
        drafts.push(Draft::of(job, target, source, info, json, known).await?);
    }
    let wanted: Vec<Wanted> = drafts
        .iter()
        .filter(|draft| draft.recorded.is_none())
        .map(|draft| Wanted {
            source: draft.source.clone(),
            info: draft.info.clone(),
            first_row_id: draft.first_row_id,
        })
        .collect();
    let mut planned = {
        let (job, opener, session) = (job.clone(), opener.clone(), session.clone());
        let slots = sizing.encode_slots;
        let plan = move || chunks::plan_tasks(&job, &opener, slots, &wanted, &session);
        reading(plan).await?.into_iter()
    };
    let (mut tables, mut fresh, mut plans) = (Vec::new(), Vec::new(), Vec::new());
    for mut draft in drafts {
        let action = match &draft.recorded {
            Some(_) => "go on",
            None => "import",
        };
        let table = match draft.recorded.take() {
            Some(table) => table,
            None => {
                let tasks = planned.next().unwrap_or_default();
                plan_table(target, &draft, tasks, &session, &strategy).await?
            }
        };
        // Who holds the files may be gone when the table goes on.
        let sampled = action == "import" || !opener.is_spread();
        let estimate = estimate(opener, &table, sampled).await?;
        plans.push(TablePlan::new(
            &table,
            action,
            &estimate,
            target.range_bytes(),
        ));
        if action == "import" {
            fresh.push(tables.len());
            if counts_row_ids_apart(&draft.info) && !dry {
                row_ids_can_move(target, draft.source).await?;
            }
        }
        tables.push(table);
    }
    let plan = JobPlan {
        job: job_id.to_owned(),
        source: tree.root.display().to_string(),
        cluster_id: target.pd.cluster_id(),
        threads: sizing.encode_slots,
        memory_bytes: job.memory_bytes,
        disk_free_bytes: sizing.disk_free.unwrap_or(u64::MAX),
        tables: plans,
    };
    enough_disk(job, &plan)?;
    Ok(Prepared {
        job_id: job_id.to_owned(),
        tables,
        fresh,
        plan,
    })
}

/// Runs the schema files of what is missing; what exists stays as it is.
async fn create_schema(target: &Target, opener: &Opener, tree: &SourceTree) -> Result<()> {
    let existing = target.tidb.query("SHOW DATABASES").await?;
    let exists = |name: &str| {
        existing
            .iter()
            .flatten()
            .flatten()
            .any(|found| found.eq_ignore_ascii_case(name))
    };
    for database in tree
        .databases
        .iter()
        .filter(|database| !exists(&database.database))
    {
        for statement in read_schema(opener, &database.schema_file).await? {
            target
                .tidb
                .exec(&statement.text)
                .await
                .map_err(|e| at(&database.schema_file, statement.line, e))?;
        }
    }
    for table in &tree.tables {
        let Some(file) = &table.schema_file else {
            continue;
        };
        if target
            .tidb
            .table_info_json(&table.database, &table.table)
            .await?
            .is_some()
        {
            continue;
        }
        for statement in read_schema(opener, file).await? {
            target
                .tidb
                .exec_in(&table.database, &statement.text)
                .await
                .map_err(|e| at(file, statement.line, e))?;
        }
    }
    create_views(opener, target, tree).await
}

/// Creates the views that are missing. One may read another: what fails is tried again as long as others succeed.
async fn create_views(opener: &Opener, target: &Target, tree: &SourceTree) -> Result<()> {
    let mut open: Vec<&SourceView> = Vec::new();
    for view in &tree.views {
        let known = target.tidb.table_info_json(&view.database, &view.view);
        if known.await?.is_none() {
            open.push(view);
        }
    }
    while !open.is_empty() {
        let (count, mut left, mut failure) = (open.len(), Vec::new(), None);
        for view in open {
            if let Err(error) = create_view(opener, target, view).await {
                failure.get_or_insert(error);
                left.push(view);
            }
        }
        match failure {
            Some(error) if left.len() == count => return Err(error),
            _ => open = left,
        }
    }
    Ok(())
}

/// Dumps set character sets around the statement and drop what was there: neither is needed.
async fn create_view(opener: &Opener, target: &Target, view: &SourceView) -> Result<()> {
    let file = &view.schema_file;
    for statement in read_schema(opener, file).await? {
        let first = statement.text.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case("SET") || first.eq_ignore_ascii_case("DROP") {
            continue;
        }
        target
            .tidb
            .exec_in(&view.database, &statement.text)
            .await
            .map_err(|e| at(file, statement.line, e))?;
    }
    Ok(())
}

async fn read_schema(opener: &Opener, file: &SchemaFile) -> Result<Vec<schema_file::Statement>> {
    let (opener, file) = (opener.clone(), file.clone());
    reading(move || {
        let source = opener.open(&file.path, file.compression)?;
        let bytes = read_whole(&*source, schema_file::FILE_BYTES_MAX)?;
        schema_file::statements(&file, bytes)
    })
    .await
}

/// Reading the source takes what disks and networks take: not on a thread that others wait for.
pub(crate) async fn reading<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Error::new(ErrorKind::Internal, "source", panic))?
}

fn at(file: &SchemaFile, line: usize, error: Error) -> Error {
    Error {
        place: format!("{}:{line}", file.path.display()),
        kind: ErrorKind::Precheck,
        ..error
    }
}

async fn table_info(target: &Target, source: &SourceTable) -> Result<(TableInfo, String)> {
    let place = || format!("table {}.{}", source.database, source.table);
    let json = target.tidb.table_info_json(&source.database, &source.table).await?.ok_or_else(|| {
        Error::new(ErrorKind::Precheck, place(), "the target table does not exist").advice(format!(
            "CREATE TABLE it, put its statement into {}.{}-schema.sql, or leave it out with mydumper.filter",
            source.database, source.table
        ))
    })?;
    let info = serde_json::from_str(&json).map_err(|e| {
        Error::new(
            ErrorKind::Precheck,
            place(),
            format!("its TableInfo cannot be read: {e}"),
        )
    })?;
    Ok((info, json))
}

/// Whether the table's `_tidb_rowid` has a counter that no DDL moves.
pub(crate) fn counts_row_ids_apart(info: &TableInfo) -> bool {
    info.has_row_id() && info.version >= 5 && info.auto_id_cache == 1
}

/// How the job deals with rows that share a unique key.
struct Strategy {
    /// `None` = nobody looks for them.
    name: Option<&'static str>,
    /// Why it is not the one of the configuration.
    note: Option<String>,
}

impl Strategy {
    async fn of(job: &Job, target: &Target) -> Result<Self> {
        let name = match job.conflict.strategy {
            ConflictStrategy::None => None,
            ConflictStrategy::Record => Some("record"),
            ConflictStrategy::Remove => Some("remove"),
            ConflictStrategy::Error => Some("error"),
            ConflictStrategy::Replace => Some("replace"),
            ConflictStrategy::Ignore => Some("ignore"),
        };
        let note = match name {
            Some("record") => too_old_to_record(&target.pd.stores().await?),
            _ => None,
        };
        if let Some(note) = &note {
            tracing::warn!("{note}");
        }
        Ok(Self {
            name: name.filter(|_| note.is_none()),
            note,
        })
    }

    fn conflicts(&self, first_row_id: i64) -> Option<TableConflicts> {
        self.name.map(|name| TableConflicts {
            strategy: name.to_owned(),
            first_row_id,
        })
    }
}

/// Tries before the import what must work after it.
async fn row_ids_can_move(target: &Target, source: &SourceTable) -> Result<()> {
    let next = target.next_row_id(source).await?;
    let moved = target
        .tidb
        .rebase_row_id(&source.database, &source.table, next as u64);
    moved.await.map_err(|error| {
        let place = format!("table {}.{}", source.database, source.table);
        Error::new(ErrorKind::Precheck, place, error.cause)
            .advice("give the table a clustered primary key, or create it without AUTO_ID_CACHE 1")
    })
}
/// A table of the source and what the cluster says of it.
struct Draft<'a> {
    source: &'a SourceTable,
    info: TableInfo,
    json: String,
    /// Fingerprint of the source files.
    content: String,
    /// As an earlier run left it; then nothing below is known.
    recorded: Option<Table>,
    empty: bool,
    /// The first free one.
    first_row_id: i64,
}

impl<'a> Draft<'a> {
    async fn of(
        job: &Job,
        target: &Target,
        source: &'a SourceTable,
        info: TableInfo,
        json: String,
        recorded: Option<Table>,
    ) -> Result<Self> {
        let mut draft = Self {
            content: fingerprint::table_content(job, source),
            source,
            info,
            json,
            recorded: None,
            empty: true,
            first_row_id: 1,
        };
        let place = format!("table {}.{}", source.database, source.table);
        if let Some(table) = recorded.filter(|table| table.record.table_id == draft.info.id) {
            if table.record.content == draft.content {
                draft.recorded = Some(table);
                return Ok(draft);
            }
            if table.record.phase > Phase::Detecting || table.record.ranges > 0 {
                return Err(Error::new(ErrorKind::Data, place, "the source changed after a part of it was ingested")
                    .advice("bring the old files back, or TRUNCATE the table and run the same command again"));
            }
        }
        let (database, table) = (&source.database, &source.table);
        draft.empty = target.tidb.is_empty(database, table).await?;
        if !draft.empty && !job.parallel_import {
            return Err(
                Error::new(ErrorKind::Precheck, place, "the target table is not empty").advice(
                    "TRUNCATE it, leave it out with mydumper.filter, or import into it as it is with \
                     tikv-importer.parallel-import = true",
                ),
            );
        }
        draft.first_row_id = target.next_row_id(source).await?;
        Ok(draft)
    }
}

async fn plan_table(
    target: &Target,
    draft: &Draft<'_>,
    mut tasks: Vec<EncodeTask>,
    session: &Session,
    strategy: &Strategy,
) -> Result<Table> {
    let Draft { source, info, .. } = draft;
    let place = format!("table {}.{}", source.database, source.table);
    let mut first_row_id = draft.first_row_id;
    let mut existing = None;
    if !draft.empty {
        let looks = strategy.name.is_some();
        let found = target.existing(source, info, &tasks, looks).await?;
        // Existing rows come before those of the source.
        first_row_id = found.first_row_id(first_row_id);
        tasks.splice(0..0, found.chunks(first_row_id));
        existing = Some(found.table);
    }
    let to_json = |value: serde_json::Result<String>| {
        value.map_err(|e| Error::new(ErrorKind::Internal, &place, e))
    };
    let record = TableRecord {
        database: source.database.clone(),
        table: source.table.clone(),
        table_id: info.id,
        content: draft.content.clone(),
        table_info_json: draft.json.clone(),
        session_json: to_json(serde_json::to_string(session))?,
        commit_ts: 0,
        phase: Phase::Encoding,
        chunks: tasks.len() as u64,
        ranges: 0,
        source_bytes: source.bytes(),
        planned_epoch: 0,
        planned_attempts: 0,
        conflicts: strategy.conflicts(first_row_id),
        resolution: None,
        existing,
        note: strategy.note.clone(),
    };
    Ok(Table::new(record, tasks))
}

/// From the first rows of the largest part of a chunk; two bytes of pairs for each of the source where there are none, or where
/// nothing is to be `sampled`.
async fn estimate(opener: &Opener, table: &Table, sampled: bool) -> Result<Estimate> {
    let source_bytes = table.record.source_bytes;
    let parts = || {
        let chunks = table.chunks.values();
        chunks.flat_map(|chunk| chunk.parts.iter().map(move |part| (chunk, part)))
    };
    let largest = parts().max_by_key(|(_, part)| part.end - part.offset);
    let Some((task, part)) = largest.filter(|_| sampled) else {
        return Ok(Estimate {
            rows: 0,
            rows_exact: largest.is_none(),
            kv_bytes: source_bytes * 2,
        });
    };
    let only = parts().count() == 1;
    let (opener, record) = (opener.clone(), table.record.clone());
    let (task, part) = (Arc::clone(task), part.clone());
    reading(move || sampled_estimate(&opener, &record, (&task, &part), only)).await
}

/// `only`: no chunk of the table has another part.
fn sampled_estimate(
    opener: &Opener,
    record: &TableRecord,
    (task, part): (&EncodeTask, &FilePart),
    only: bool,
) -> Result<Estimate> {
    let spec = TableSpec {
        table_info_json: record.table_info_json.clone().into(),
        session_json: record.session_json.clone().into(),
        ..TableSpec::default()
    };
    let stored = || opener.stored(Path::new(&part.path));
    let sample = thunderhead_agent::sample(&spec, task, part, stored()?)?;
    let per_byte = |of: u64| of as f64 / sample.source_bytes.max(1) as f64;
    let kv_per_byte = match sample.source_bytes {
        0 => 2.0,
        _ => per_byte(sample.kv_bytes),
    };
    let packed = match part.end {
        Chunk::TO_THE_END => {
            let format: SourceFormat = serde_json::from_slice(&task.format_json)
                .map_err(|e| Error::new(ErrorKind::Internal, &part.path, e))?;
            packed_ratio(stored()?, format.compression).unwrap_or(1.0)
        }
        _ => 1.0,
    };
    let source_bytes = record.source_bytes as f64 * packed;
    let whole = sample.ended && only;
    Ok(Estimate {
        rows: match whole {
            true => sample.rows,
            false => (source_bytes * per_byte(sample.rows)) as u64,
        },
        rows_exact: whole,
        kv_bytes: (source_bytes * kv_per_byte) as u64,
    })
}

/// Bytes that runs may take: free space of the file system, within the quota.
fn disk_free(dir: &Path, quota: Option<u64>) -> u64 {
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(existing).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    quota.map_or(free, |quota| quota.min(free))
}

/// The estimate is rough: only a clear shortage stops the job here, the ledger of the sorter is exact.
fn enough_disk(job: &Job, plan: &JobPlan) -> Result<()> {
    let largest = plan.tables.iter().map(|t| t.disk_bytes).max().unwrap_or(0);
    if largest / 2 > plan.disk_free_bytes {
        let cause = format!(
            "no space for sorted runs: the largest table needs about {largest} bytes, {} are free",
            plan.disk_free_bytes
        );
        return Err(Error::new(ErrorKind::Precheck, job.sorted_kv_dir.display(), cause)
            .advice("free space, raise tikv-importer.disk-quota, or choose another tikv-importer.sorted-kv-dir"));
    }
    Ok(())
}

/// What an earlier run recorded of this job.
pub(crate) async fn recorded(
    store: &dyn crate::store::StateStore,
    job_id: &str,
    cluster_id: u64,
) -> Result<Vec<Table>> {
    let Some((record, tables)) = job::load(store, job_id).await? else {
        return Ok(Vec::new());
    };
    if record.cluster_id == cluster_id {
        return Ok(tables);
    }
    let cause = format!(
        "this job began on the cluster with id {}, PD now answers for cluster {cluster_id}",
        record.cluster_id
    );
    Err(Error::new(ErrorKind::Precheck, "pd", cause)
        .advice("correct tidb.pd-addr, or use another sorted-kv-dir for the other cluster"))
}
