//! The target cluster as a job sees it: one connection to TiDB, one to PD, one importer; and the steps of
//! a table that are neither encoding nor ingesting.

use crate::conflicts::{self, Budget};
use crate::job::Table;
use crate::leader::{Steps, refused_rows_to_record};
use crate::prepare::threads;
use async_trait::async_trait;
use std::sync::Arc;
use thunderhead_cluster::{
    GuardOptions, Guards, IdKind, Importer, ImporterOptions, IngestPath, PdClient, RefusedTable,
    RetryPolicy, Security, SqlTls, TaskInfo, TidbClient, TidbOptions,
};
use thunderhead_codec::keys;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::{Session, SqlMode};
use thunderhead_codec::time::Zone;
use thunderhead_config::{IngestFiles, Job, Level, SourceTable, TlsFiles};
use thunderhead_proto::thunderhead::{ClusterSpec, EncodeTask};
use thunderhead_types::{
    Checksum, Clock, Error, ErrorKind, KeyRange, Result, SystemClock, Timestamp, crc64, fail_point,
};
use tokio_util::sync::CancellationToken;

/// A range fills most of a region, and leaves room for what TiKV adds to it.
const RANGE_SHARE_OF_REGION: f64 = 0.75;

/// Regions that one process writes to at a time.
pub(crate) fn regions_in_flight(job: &Job) -> u32 {
    thunderhead_agent::regions_in_flight(threads(job), job.memory_bytes)
}

fn path(job: &Job) -> IngestPath {
    match job.ingest.files {
        IngestFiles::Write => IngestPath::Write,
        IngestFiles::Upload => IngestPath::Upload,
        IngestFiles::Auto => IngestPath::Auto,
    }
}

/// Refused rows of a job that are described; who has more has one mistake many times.
const REFUSED_RECORDS_MAX: u64 = 10_000;

/// An open target.
pub(crate) struct Target {
    /// SQL and status port.
    pub(crate) tidb: Arc<TidbClient>,
    /// PD.
    pub(crate) pd: Arc<PdClient>,
    /// TiKV.
    pub(crate) importer: Arc<Importer>,
    checksum: Level,
    analyze: Level,
    range_bytes: u64,
    budget: Budget,
    task_info_schema: Option<String>,
}

impl Target {
    /// Reaches PD and TiDB.
    pub(crate) async fn connect(job: &Job, cancel: CancellationToken) -> Result<Self> {
        let security = security(job.security.as_ref());
        let retry = RetryPolicy {
            max_elapsed: job.retry_time,
        };
        let pd = PdClient::connect_with(&job.tidb.pd_addrs, &security, retry).await?;
        let slice = |bytes: u64| ((bytes as f64) * RANGE_SHARE_OF_REGION) as u64;
        let slice_bytes = job.ingest.region_split_bytes.map(slice);
        let options = ImporterOptions {
            retry,
            slice_bytes,
            regions_in_flight: regions_in_flight(job) as usize,
            path: path(job),
            sst_dir: Some(thunderhead_agent::sst_dir(&job.sorted_kv_dir)),
            ..ImporterOptions::default()
        };
        let importer = Arc::new(Importer::new(Arc::clone(&pd), options, cancel));
        importer.limit_stores(job.ingest.store_bytes_per_second);
        let tidb = connect_tidb(job, security).await?;
        let range_bytes = match slice_bytes {
            Some(bytes) => bytes,
            None => slice(importer.region_split_size().await),
        };
        Ok(Self {
            tidb: Arc::new(tidb),
            pd,
            importer,
            checksum: job.checksum,
            analyze: job.analyze,
            range_bytes,
            budget: Budget {
                threshold: job.conflict.threshold,
                record_rows_max: match job.task_info_schema {
                    Some(_) => job.conflict.record_rows_max,
                    None => 0,
                },
                refused_max: job.type_errors_max,
                refused_records_max: match job.task_info_schema {
                    Some(_) => REFUSED_RECORDS_MAX,
                    None => 0,
                },
            },
            task_info_schema: job.task_info_schema.clone(),
        })
    }

    /// What agents must know to reach the same cluster.
    pub(crate) fn spec(&self, job: &Job) -> ClusterSpec {
        let slice = |bytes: u64| ((bytes as f64) * RANGE_SHARE_OF_REGION) as u64;
        ClusterSpec {
            pd_addresses: job.tidb.pd_addrs.clone(),
            cluster_id: self.pd.cluster_id(),
            retry_ms: u64::try_from(job.retry_time.as_millis()).unwrap_or(u64::MAX),
            slice_bytes: job.ingest.region_split_bytes.map_or(0, slice),
            ingest: path(job).name().to_owned(),
        }
    }

    /// Bytes a range should hold.
    pub(crate) fn range_bytes(&self) -> u64 {
        self.range_bytes
    }

    /// What decides the bytes of a row beside its table. The moment of `now` is fixed here, once per job.
    pub(crate) async fn session(&self, sql_mode: &str, job_id: &str) -> Result<Session> {
        let facts = self.tidb.session_facts().await?;
        // SYSTEM is the zone of the server, not of this host.
        let zone = if facts.time_zone.eq_ignore_ascii_case("SYSTEM") {
            &facts.system_time_zone
        } else {
            &facts.time_zone
        };
        let zone = Zone::parse(zone).map_err(|_| {
            Error::new(
                ErrorKind::Precheck,
                "tidb",
                format!("time zone {zone:?} is not known"),
            )
            .advice("SET GLOBAL time_zone to a named zone or an offset")
        })?;
        Ok(Session {
            sql_mode: SqlMode::parse(sql_mode),
            time_zone: zone,
            new_collation: facts.new_collation,
            row_format: facts.row_format,
            check_constraints: facts.check_constraint,
            div_precision_increment: u8::try_from(facts.div_precision_increment).unwrap_or(4),
            default_week_format: u8::try_from(facts.default_week_format).unwrap_or(0),
            lc_time_names: facts.lc_time_names,
            block_encryption_mode: facts.block_encryption_mode,
            now_us: i64::try_from(SystemClock.unix_ms()).unwrap_or(0) * 1000,
            seed: crc64(job_id.as_bytes(), b"seed"),
            ..Session::default()
        })
    }

    /// PD and TiDB must be of one cluster: the TableInfo that TiDB serves must lie in the TiKV that PD leads to.
    pub(crate) async fn check_same_cluster(
        &self,
        source: &SourceTable,
        info: &TableInfo,
    ) -> Result<()> {
        let place = format!("table {}.{}", source.database, source.table);
        let json = match self.tidb.schema_id(info.id).await? {
            Some(schema_id) => self.importer.meta_table_json(schema_id, info.id).await?,
            None => None,
        };
        let stored: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
        if stored.is_some_and(|stored| stored.id == info.id && stored.name == info.name) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Precheck,
            place,
            "TiDB knows this table, but the cluster that PD leads to does not",
        )
        .advice("tidb.host and tidb.pd-addr belong to different clusters: correct one of them"))
    }

    /// Pauses scheduling on the key spaces and keeps GC away from `commit_ts`, until closed.
    pub(crate) async fn open_guards(
        &self,
        job_id: &str,
        spaces: &[KeyRange],
        commit_ts: Timestamp,
        regions_expected: usize,
    ) -> Result<Guards> {
        let options = GuardOptions {
            regions_expected,
            ..GuardOptions::default()
        };
        Guards::open_with(
            Arc::clone(&self.importer),
            job_id,
            spaces,
            commit_ts,
            options,
        )
        .await
    }

    /// The first id that is free for rows of a table without one: nobody has handed it out.
    pub(crate) async fn next_row_id(&self, source: &SourceTable) -> Result<i64> {
        let counters = self
            .tidb
            .next_row_ids(&source.database, &source.table)
            .await?;
        let next = counters
            .iter()
            .filter(|c| c.kind != IdKind::Sequence)
            .map(|c| c.next)
            .max()
            .unwrap_or(1);
        Ok(i64::try_from(next).unwrap_or(i64::MAX).max(1))
    }

    /// The TableInfo a table was planned with.
    pub(crate) fn parse_info(&self, table: &Table) -> Result<TableInfo> {
        parse_info(table)
    }

    /// The steps the leader asks for.
    pub(crate) fn steps(&self) -> Arc<dyn Steps> {
        Arc::new(TargetSteps {
            tidb: Arc::clone(&self.tidb),
            importer: Arc::clone(&self.importer),
            checksum: self.checksum,
            analyze: self.analyze,
            range_bytes: self.range_bytes,
            budget: self.budget,
            task_info_schema: self.task_info_schema.clone(),
        })
    }
}

/// TiDB alone, for commands that only read there.
pub(crate) async fn connect_sql(job: &Job) -> Result<TidbClient> {
    connect_tidb(job, security(job.security.as_ref())).await
}

/// The configured password may be plain or Base64: the second reading is tried when the server refuses the first.
async fn connect_tidb(job: &Job, security: Security) -> Result<TidbClient> {
    // Certificates for the cluster are those of the MySQL port too, and are then always verified.
    let sql_tls = if job.security.is_some() {
        SqlTls::Verify
    } else {
        SqlTls::Off
    };
    let mut refused = None;
    for password in job.tidb.password.candidates() {
        let options = TidbOptions {
            host: job.tidb.host.clone(),
            port: job.tidb.port,
            user: job.tidb.user.clone(),
            password,
            status_port: job.tidb.status_port,
            security: security.clone(),
            sql_tls,
        };
        match TidbClient::connect(options).await {
            Ok(client) => return Ok(client),
            Err(error) if error.cause.contains("Access denied") => {
                refused.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::new(ErrorKind::Internal, "tidb", "no password to try")))
}

fn security(files: Option<&TlsFiles>) -> Security {
    files.map_or_else(Security::default, |files| Security {
        ca: Some(files.ca.clone()),
        cert: files.client.as_ref().map(|(cert, _)| cert.clone()),
        key: files.client.as_ref().map(|(_, key)| key.clone()),
    })
}

fn parse_info(table: &Table) -> Result<TableInfo> {
    serde_json::from_str(&table.record.table_info_json).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            format!("table {}", table.name()),
            format!("recorded TableInfo: {e}"),
        )
    })
}

struct TargetSteps {
    tidb: Arc<TidbClient>,
    importer: Arc<Importer>,
    checksum: Level,
    analyze: Level,
    range_bytes: u64,
    budget: Budget,
    task_info_schema: Option<String>,
}

#[async_trait]
impl Steps for TargetSteps {
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        let ids = parse_info(table)?.key_space_ids();
        Ok(ids.into_iter().map(keys::table_range).collect())
    }

    fn range_bytes_target(&self) -> u64 {
        self.range_bytes
    }

    fn unique_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        let from_source = |chunk: &EncodeTask| chunk.columns.iter().any(|c| c == "_tidb_rowid");
        let handles_from_source = table.chunks.values().any(|chunk| from_source(chunk));
        Ok(conflicts::unique_spaces(
            &parse_info(table)?,
            handles_from_source,
        ))
    }

    fn conflict_budget(&self) -> Budget {
        self.budget
    }

    fn where_to_read(&self, job_id: &str) -> String {
        match &self.task_info_schema {
            Some(_) => format!("; `thunderhead conflicts {job_id}` shows them"),
            None => String::new(),
        }
    }

    async fn record_conflicts(&self, job_id: &str, table: &Table) -> Result<()> {
        let Some(schema) = &self.task_info_schema else {
            return Ok(());
        };
        let (counts, rows) = conflicts::rows_to_record(table, &parse_info(table)?);
        let records = TaskInfo::new(&self.tidb, schema, job_id);
        records
            .replace_conflicts(&conflicts::quoted_name(table), &counts, &rows)
            .await
    }

    fn where_refused(&self, job_id: &str) -> String {
        let Some(schema) = &self.task_info_schema else {
            return String::new();
        };
        let schema = thunderhead_cluster::quote(schema);
        let task_id = thunderhead_cluster::task_id(job_id);
        format!(
            "; tables type_error_v1 and syntax_error_v1 in {schema} hold the rows WHERE task_id = {task_id}"
        )
    }

    async fn record_refused(&self, job_id: &str, table: &Table) -> Result<()> {
        let Some(schema) = &self.task_info_schema else {
            return Ok(());
        };
        let records = TaskInfo::new(&self.tidb, schema, job_id);
        for which in [RefusedTable::Type, RefusedTable::Syntax] {
            let rows = refused_rows_to_record(table, which);
            records
                .replace_refused(which, &conflicts::quoted_name(table), &rows)
                .await?;
        }
        Ok(())
    }

    async fn split(&self, _: &Table, borders: Vec<Vec<u8>>) -> Result<()> {
        fail_point("split");
        self.importer.split_and_scatter(&borders).await?;
        fail_point("scattered");
        Ok(())
    }

    async fn finish(&self, table: &Table, ingested: Checksum) -> Result<()> {
        let (database, name) = (&table.record.database, &table.record.table);
        self.still_the_same(table).await?;
        self.rebase(table).await?;
        fail_point("rebase");
        match self.verify(table, ingested).await {
            Err(error) if self.checksum == Level::Required => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "ADMIN CHECKSUM TABLE failed; every range was verified by itself")
            }
            Ok(()) => {}
        }
        fail_point("checksum");
        if self.analyze == Level::Off {
            return Ok(());
        }
        match self.tidb.analyze(database, name).await {
            Err(error) if self.analyze == Level::Required => Err(error),
            Err(error) => {
                tracing::warn!(%error, "ANALYZE TABLE failed; run it later");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl TargetSteps {
    /// A table that was altered, truncated or replaced meanwhile does not hold what was imported.
    async fn still_the_same(&self, table: &Table) -> Result<()> {
        let record = &table.record;
        let json = self
            .tidb
            .table_info_json(&record.database, &record.table)
            .await?;
        let now: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
        let then = parse_info(table)?;
        if now.is_some_and(|now| {
            now.id == then.id && now.cols == then.cols && now.index_info == then.index_info
        }) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Precheck,
            format!("table {}", table.name()),
            "its schema changed during the import",
        )
        .advice("TRUNCATE it and import again while nobody alters it"))
    }

    /// Moves the counters of automatic ids past what the import used. They are never lowered.
    async fn rebase(&self, table: &Table) -> Result<()> {
        let (database, name) = (&table.record.database, &table.record.table);
        let manifests = || table.manifests.values();
        let row_id = manifests().filter_map(|m| m.max_row_id).max();
        let auto_increment = manifests().filter_map(|m| m.max_auto_increment).max();
        let apart = crate::prepare::counts_row_ids_apart(&parse_info(table)?);
        if let Some(largest) = row_id.filter(|_| apart) {
            self.tidb
                .rebase_row_id(database, name, largest.saturating_add(1))
                .await?;
        }
        let shared = if apart {
            auto_increment
        } else {
            row_id.max(auto_increment)
        };
        if let Some(largest) = shared {
            self.tidb
                .rebase_auto_increment(database, name, largest.saturating_add(1))
                .await?;
        }
        if let Some(largest) = manifests().filter_map(|m| m.max_auto_random).max() {
            self.tidb
                .rebase_auto_random(database, name, largest.saturating_add(1))
                .await?;
        }
        Ok(())
    }

    async fn verify(&self, table: &Table, ingested: Checksum) -> Result<()> {
        if self.checksum == Level::Off {
            return Ok(());
        }
        let remote = self
            .tidb
            .admin_checksum(&table.record.database, &table.record.table)
            .await?;
        if remote == ingested {
            return Ok(());
        }
        let cause = format!(
            "ADMIN CHECKSUM TABLE counts {} pairs, {} were imported",
            remote.kvs, ingested.kvs
        );
        Err(Error::new(
            ErrorKind::Checksum,
            format!("table {}", table.name()),
            cause,
        )
        .advice("was the table written to during the import? TRUNCATE it and import it again"))
    }
}
