//! The target cluster as a job sees it: one connection to TiDB, one to PD, one importer; and the steps of
//! a table that are neither encoding nor ingesting.

use crate::job::Table;
use crate::leader::Steps;
use async_trait::async_trait;
use std::sync::Arc;
use thunderhead_cluster::{Guards, Importer, ImporterOptions, PdClient, Security, TidbClient, TidbOptions};
use thunderhead_codec::keys;
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::{Session, SqlMode, Zone};
use thunderhead_config::{Job, Level, SourceTable, TlsFiles};
use thunderhead_types::{Checksum, Clock, Error, ErrorKind, KeyRange, Result, SystemClock, Timestamp, crc64};
use tokio_util::sync::CancellationToken;

/// A range fills most of a region, and leaves room for what TiKV adds to it.
const RANGE_SHARE_OF_REGION: f64 = 0.75;

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
}

impl Target {
    /// Reaches PD and TiDB.
    pub(crate) async fn connect(job: &Job, cancel: CancellationToken) -> Result<Self> {
        let security = security(job.security.as_ref());
        let pd = PdClient::connect(&job.tidb.pd_addrs, &security).await?;
        let options = ImporterOptions { region_split_bytes: job.ingest.region_split_bytes, ..ImporterOptions::default() };
        let importer = Arc::new(Importer::new(Arc::clone(&pd), options, cancel).await?);
        let tidb = TidbClient::connect(TidbOptions {
            host: job.tidb.host.clone(),
            port: job.tidb.port,
            user: job.tidb.user.clone(),
            passwords: job.tidb.password.candidates(),
            status_port: job.tidb.status_port,
            security,
        })
        .await?;
        let range_bytes = job.ingest.region_split_bytes.unwrap_or(importer.region_split_size());
        Ok(Self {
            tidb: Arc::new(tidb),
            pd,
            importer,
            checksum: job.checksum,
            analyze: job.analyze,
            range_bytes: ((range_bytes as f64) * RANGE_SHARE_OF_REGION) as u64,
        })
    }

    /// Bytes a range should hold.
    pub(crate) fn range_bytes(&self) -> u64 {
        self.range_bytes
    }

    /// Closes connections.
    pub(crate) async fn close(&self) {
        self.tidb.close().await;
    }

    /// What decides the bytes of a row beside its table. The moment of `now` is fixed here, once per job.
    pub(crate) async fn session(&self, sql_mode: &str, job_id: &str) -> Result<Session> {
        let facts = self.tidb.session_facts().await?;
        let zone = Zone::parse(&facts.time_zone).ok_or_else(|| {
            Error::new(ErrorKind::Precheck, "tidb", format!("time zone {:?} is not known", facts.time_zone)).advice("SET GLOBAL time_zone to a named zone or an offset")
        })?;
        Ok(Session {
            sql_mode: SqlMode::parse(sql_mode),
            time_zone: zone,
            new_collation: facts.new_collation,
            row_format: facts.row_format,
            check_constraints: facts.check_constraints,
            now_us: i64::try_from(SystemClock.unix_ms()).unwrap_or(0) * 1000,
            seed: crc64(job_id.as_bytes(), b"seed"),
            ..Session::default()
        })
    }

    /// PD and TiDB must be of one cluster: the TableInfo that TiDB serves must lie in the TiKV that PD leads to.
    pub(crate) async fn check_same_cluster(&self, source: &SourceTable, info: &TableInfo) -> Result<()> {
        let place = format!("table {}.{}", source.database, source.table);
        let schema_id = self.tidb.schema_id(&source.database).await?;
        let json = self.importer.meta_table_json(schema_id, info.id).await?;
        let stored: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
        if stored.is_some_and(|stored| stored.id == info.id && stored.name == info.name) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Precheck, place, "TiDB knows this table, but the cluster that PD leads to does not")
            .advice("tidb.host and tidb.pd-addr belong to different clusters: correct one of them"))
    }

    /// Pauses scheduling on the key spaces and keeps GC away from `commit_ts`, until closed.
    pub(crate) async fn open_guards(&self, job_id: &str, spaces: &[KeyRange], commit_ts: Timestamp) -> Result<Guards> {
        Guards::open(Arc::clone(&self.importer), job_id, spaces, commit_ts).await
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
        })
    }
}

fn security(files: Option<&TlsFiles>) -> Security {
    files.map_or_else(Security::default, |files| Security {
        ca: Some(files.ca.clone()),
        cert: files.client.as_ref().map(|(cert, _)| cert.clone()),
        key: files.client.as_ref().map(|(_, key)| key.clone()),
    })
}

fn parse_info(table: &Table) -> Result<TableInfo> {
    serde_json::from_str(&table.record.table_info_json)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("table {}", table.name()), format!("recorded TableInfo: {e}")))
}

struct TargetSteps {
    tidb: Arc<TidbClient>,
    importer: Arc<Importer>,
    checksum: Level,
    analyze: Level,
    range_bytes: u64,
}

#[async_trait]
impl Steps for TargetSteps {
    fn key_spaces(&self, table: &Table) -> Result<Vec<KeyRange>> {
        let mut ids = parse_info(table)?.physical_ids();
        ids.sort_unstable();
        Ok(ids.into_iter().map(keys::table_range).collect())
    }

    fn range_bytes_target(&self) -> u64 {
        self.range_bytes
    }

    async fn split(&self, _: &Table, borders: Vec<Vec<u8>>) -> Result<()> {
        self.importer.split_and_scatter(&borders).await.map(drop)
    }

    async fn finish(&self, table: &Table, ingested: Checksum) -> Result<()> {
        let (database, name) = (&table.record.database, &table.record.table);
        self.still_the_same(table).await?;
        let manifests = || table.manifests.values();
        self.tidb
            .rebase(
                &parse_info(table)?,
                database,
                name,
                manifests().filter_map(|m| m.max_row_id).max(),
                manifests().filter_map(|m| m.max_auto_increment).max(),
                manifests().filter_map(|m| m.max_auto_random).max(),
            )
            .await?;
        match self.verify(table, ingested).await {
            Err(error) if self.checksum == Level::Required => return Err(error),
            Err(error) => tracing::warn!(%error, "ADMIN CHECKSUM TABLE failed; every range was verified by itself"),
            Ok(()) => {}
        }
        match (self.analyze, self.analyze != Level::Off) {
            (_, false) => Ok(()),
            (Level::Required, _) => self.tidb.analyze(database, name).await,
            _ => {
                if let Err(error) = self.tidb.analyze(database, name).await {
                    tracing::warn!(%error, "ANALYZE TABLE failed; run it later");
                }
                Ok(())
            }
        }
    }
}

impl TargetSteps {
    /// A table that was altered, truncated or replaced meanwhile does not hold what was imported.
    async fn still_the_same(&self, table: &Table) -> Result<()> {
        let record = &table.record;
        let json = self.tidb.table_info_json(&record.database, &record.table).await?;
        let now: Option<TableInfo> = json.and_then(|json| serde_json::from_str(&json).ok());
        let then = parse_info(table)?;
        if now.is_some_and(|now| now.id == then.id && now.cols == then.cols && now.index_info == then.index_info) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Precheck, format!("table {}", table.name()), "its schema changed during the import")
            .advice("TRUNCATE it and import again while nobody alters it"))
    }

    async fn verify(&self, table: &Table, ingested: Checksum) -> Result<()> {
        if self.checksum == Level::Off {
            return Ok(());
        }
        let remote = self.tidb.admin_checksum(&table.record.database, &table.record.table).await?;
        if remote == ingested {
            return Ok(());
        }
        let cause = format!("ADMIN CHECKSUM TABLE counts {} pairs, {} were imported", remote.kvs, ingested.kvs);
        Err(Error::new(ErrorKind::Checksum, format!("table {}", table.name()), cause)
            .advice("was the table written to during the import? TRUNCATE it and import it again"))
    }
}
