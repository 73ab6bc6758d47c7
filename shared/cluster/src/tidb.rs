//! The SQL face of the cluster: facts about the server, table models, and the few statements that an
//! import needs before and after its pairs are in. Table models come from the status port, which has
//! them exactly as they are stored. Passwords never appear in errors.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Pool, PoolConstraints, PoolOpts, Row, Value};
use parking_lot::Mutex;
use std::time::Duration;
use thunderhead_types::{Checksum, Error, ErrorKind, Result};

use crate::pd::deepest;
use crate::security::Connector;
use thunderhead_net::Security;

const PACKET_BYTES_MAX: usize = 64 << 20;
const WAIT_SECONDS: usize = 28_800;
/// Connections kept; statements of several tables run side by side.
const CONNECTIONS_MAX: usize = 8;
/// Connections are tried so often while the two sides do not know each other's certificates.
const TLS_TRIES: u32 = 10;
const TLS_PAUSE: Duration = Duration::from_millis(500);
/// Server errors that mean missing privileges: access denied to server, database, command, object.
const PRIVILEGE_CODES: [u16; 5] = [1044, 1045, 1142, 1143, 1227];

/// How to reach TiDB.
#[derive(Clone)]
pub struct TidbOptions {
    /// Host name or address.
    pub host: String,
    /// SQL port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password; empty for none.
    pub password: String,
    /// HTTP status port.
    pub status_port: u16,
    /// TLS for the status port, and for SQL when `sql_tls` says so.
    pub security: Security,
    /// TLS of SQL connections.
    pub sql_tls: SqlTls,
}

/// TLS of SQL connections; the server decides about that separately from the rest of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SqlTls {
    /// Plain.
    #[default]
    Off,
    /// The server's certificate is checked against the authority in [`Security`].
    Verify,
    /// Encrypted to whoever answers.
    SkipVerify,
}

/// A connection to one TiDB server.
pub struct TidbClient {
    /// Another one when certificates changed: a pool reads its files once.
    pool: Mutex<Pool>,
    options: TidbOptions,
    connector: Connector,
    address: String,
    status: String,
    version: String,
}

/// What of the server's settings decides about how rows are stored or compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// `version()`.
    pub version: String,
    /// Whether string order follows collations; fixed when the cluster was made.
    pub new_collation: bool,
    /// `mysql.tidb`'s `system_tz`.
    pub system_tz: String,
    /// `time_zone`, often `SYSTEM`.
    pub time_zone: String,
    /// `system_time_zone`.
    pub system_time_zone: String,
    /// `sql_mode`.
    pub sql_mode: String,
    /// `tidb_row_format_version`.
    pub row_format: u8,
    /// `tidb_enable_check_constraint`.
    pub check_constraint: bool,
    /// `tidb_enable_row_level_checksum`.
    pub row_checksum: bool,
    /// `max_allowed_packet`, bytes.
    pub max_allowed_packet: u64,
    /// `div_precision_increment`.
    pub div_precision_increment: u32,
    /// `default_week_format`.
    pub default_week_format: u32,
    /// `lc_time_names`.
    pub lc_time_names: String,
    /// `block_encryption_mode`.
    pub block_encryption_mode: String,
    /// `group_concat_max_len`.
    pub group_concat_max_len: u64,
}

/// Which counter a table's next id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `_tidb_rowid`.
    RowId,
    /// AUTO_INCREMENT; on older servers also how the counter of `_tidb_rowid` is shown.
    AutoIncrement,
    /// AUTO_RANDOM, without its shard bits.
    AutoRandom,
    /// A sequence.
    Sequence,
}

/// A line of `SHOW TABLE … NEXT_ROW_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextRowId {
    /// Which counter.
    pub kind: IdKind,
    /// As shown; may read `_tidb_rowid` on an AUTO_INCREMENT line.
    pub column: String,
    /// The next id that no server has reserved.
    pub next: u64,
}

const VARIABLES: [&str; 12] = [
    "time_zone",
    "system_time_zone",
    "sql_mode",
    "tidb_row_format_version",
    "tidb_enable_check_constraint",
    "tidb_enable_row_level_checksum",
    "max_allowed_packet",
    "div_precision_increment",
    "default_week_format",
    "lc_time_names",
    "block_encryption_mode",
    "group_concat_max_len",
];

impl TidbClient {
    /// Connects and asks for the version.
    pub async fn connect(options: TidbOptions) -> Result<TidbClient> {
        let connector = Connector::new(&options.security)?;
        let mut client = TidbClient {
            pool: Mutex::new(pool(&options, &connector)),
            status: connector.url(&format!("{}:{}", options.host, options.status_port)),
            address: format!("{}:{}", options.host, options.port),
            connector,
            options,
            version: String::new(),
        };
        let version = client.query("SELECT VERSION()").await?;
        client.version = first_cell(version).unwrap_or_default();
        Ok(client)
    }

    /// `VERSION()`, such as `8.0.11-TiDB-v8.5.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Closes the connections.
    pub async fn close(self) {
        if let Err(error) = self.pool.into_inner().disconnect().await {
            tracing::debug!(%error, "closing connections to TiDB");
        }
    }

    async fn connection(&self) -> Result<Conn> {
        let mut tries = 0;
        loop {
            let pool = self.pool.lock().clone();
            let error = match pool.get_conn().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            tries += 1;
            // While certificates are replaced, here and at the server, one side may have the new ones before the other.
            let of_tls =
                matches!(error, mysql_async::Error::Io(_)) && is_of_tls(&error.to_string());
            if !of_tls || tries == TLS_TRIES {
                return Err(self.error(&error));
            }
            tracing::debug!(%error, "certificates are read again");
            tokio::time::sleep(TLS_PAUSE).await;
            *self.pool.lock() = self::pool(&self.options, &self.connector);
        }
    }

    /// Runs a statement and throws its rows away.
    pub async fn exec(&self, statement: &str) -> Result<()> {
        let mut conn = self.connection().await?;
        conn.query_drop(statement).await.map_err(|e| self.error(&e))
    }

    /// Runs a statement on a connection whose default database is `db`.
    pub async fn exec_in(&self, db: &str, statement: &str) -> Result<()> {
        let mut conn = self.connection().await?;
        let used = conn.query_drop(format!("USE {}", quote(db))).await;
        used.map_err(|e| self.error(&e))?;
        conn.query_drop(statement).await.map_err(|e| self.error(&e))
    }

    /// Rows as text; NULL is `None`.
    pub async fn query(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>> {
        let rows = self.rows(statement).await?;
        Ok(rows.into_iter().map(cells).collect())
    }

    async fn rows(&self, statement: &str) -> Result<Vec<Row>> {
        let mut conn = self.connection().await?;
        conn.query(statement).await.map_err(|e| self.error(&e))
    }

    /// Settings of the server that decide about stored bytes.
    pub async fn session_facts(&self) -> Result<SessionFacts> {
        // All of them, filtered here: a few hundred short rows, and no dialect of WHERE to rely on.
        let mut variables = pairs(self.query("SHOW GLOBAL VARIABLES").await?);
        variables.retain(|(name, _)| VARIABLES.contains(&name.as_str()));
        let stored = self.query(
            "SELECT variable_name, variable_value FROM mysql.tidb \
             WHERE variable_name IN ('new_collation_enabled', 'system_tz')",
        );
        let stored = pairs(stored.await?);
        let missing = |name: &str| {
            let text = format!("the server does not tell {name}");
            Error::new(ErrorKind::Precheck, self.place(), text)
        };
        let variable = |name: &str| find(&variables, name).unwrap_or_default().to_owned();
        let new_collation = find(&stored, "new_collation_enabled")
            .ok_or_else(|| missing("new_collation_enabled"))?;
        let row_format = variable("tidb_row_format_version");
        Ok(SessionFacts {
            version: self.version.clone(),
            new_collation: is_on(new_collation),
            system_tz: find(&stored, "system_tz").unwrap_or_default().to_owned(),
            time_zone: variable("time_zone"),
            system_time_zone: variable("system_time_zone"),
            sql_mode: variable("sql_mode"),
            row_format: row_format
                .parse()
                .map_err(|_| missing("tidb_row_format_version"))?,
            check_constraint: is_on(&variable("tidb_enable_check_constraint")),
            row_checksum: is_on(&variable("tidb_enable_row_level_checksum")),
            max_allowed_packet: variable("max_allowed_packet")
                .parse()
                .unwrap_or(PACKET_BYTES_MAX as u64),
            div_precision_increment: variable("div_precision_increment").parse().unwrap_or(4),
            default_week_format: variable("default_week_format").parse().unwrap_or(0),
            lc_time_names: variable("lc_time_names"),
            block_encryption_mode: variable("block_encryption_mode"),
            group_concat_max_len: variable("group_concat_max_len").parse().unwrap_or(1024),
        })
    }

    /// The table's model as stored, or `None` if there is no such table.
    pub async fn table_info_json(&self, db: &str, table: &str) -> Result<Option<String>> {
        self.status_get(&["schema", db, table]).await
    }

    /// The id of the database that holds the table with this id.
    pub async fn schema_id(&self, table_id: i64) -> Result<Option<i64>> {
        let Some(text) = self
            .status_get(&["db-table", &table_id.to_string()])
            .await?
        else {
            return Ok(None);
        };
        let answer: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| self.status_error(format!("unexpected answer: {e}")))?;
        Ok(answer["db_info"]["id"].as_i64())
    }

    async fn status_get(&self, path: &[&str]) -> Result<Option<String>> {
        let mut url =
            reqwest::Url::parse(&self.status).map_err(|e| self.status_error(e.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let mut tries = 0;
        let response = loop {
            tries += 1;
            match self.connector.http().get(url.clone()).send().await {
                Ok(response) => break response,
                Err(error) if tries < TLS_TRIES && is_of_tls(&deepest(&error)) => {
                    tokio::time::sleep(TLS_PAUSE).await;
                }
                Err(error) => return Err(self.status_error(deepest(&error))),
            }
        };
        let code = response.status();
        let body = response
            .text()
            .await
            .map_err(|e| self.status_error(deepest(&e)))?;
        match code.as_u16() {
            200 => Ok(Some(body)),
            400 | 404 => Ok(None),
            _ => Err(self.status_error(format!("HTTP {code}"))),
        }
    }

    fn status_error(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Cluster,
            format!("tidb status port {}", self.status),
            cause,
        )
        .advice("check tidb.host and tidb.status-port")
    }

    /// Base tables of a database.
    pub async fn tables(&self, db: &str) -> Result<Vec<String>> {
        let rows = self
            .query(&format!("SHOW FULL TABLES FROM {}", quote(db)))
            .await?;
        let base = rows.into_iter().filter_map(|row| {
            let [Some(name), Some(kind)] = <[_; 2]>::try_from(row).ok()? else {
                return None;
            };
            kind.eq_ignore_ascii_case("BASE TABLE").then_some(name)
        });
        Ok(base.collect())
    }

    /// Whether the table has no row.
    pub async fn is_empty(&self, db: &str, table: &str) -> Result<bool> {
        let select = format!("SELECT 1 FROM {} LIMIT 1", quote_table(db, table));
        Ok(self.query(&select).await?.is_empty())
    }

    /// The next id of each of the table's counters.
    pub async fn next_row_ids(&self, db: &str, table: &str) -> Result<Vec<NextRowId>> {
        let show = format!("SHOW TABLE {} NEXT_ROW_ID", quote_table(db, table));
        let rows = self.rows(&show).await?;
        rows.into_iter().map(|row| self.next_row_id(row)).collect()
    }

    fn next_row_id(&self, row: Row) -> Result<NextRowId> {
        let columns: Vec<String> = row
            .columns_ref()
            .iter()
            .map(|c| c.name_str().to_uppercase())
            .collect();
        let cells: Vec<Option<String>> = cells(row);
        let cell = |name: &str| {
            let index = columns.iter().position(|column| column == name)?;
            cells.get(index)?.clone()
        };
        let unreadable = || {
            Error::new(
                ErrorKind::Cluster,
                self.place(),
                "NEXT_ROW_ID has an unknown form",
            )
        };
        let next = cell("NEXT_GLOBAL_ROW_ID").ok_or_else(unreadable)?;
        // A signed counter near its end is shown negative.
        let next = next
            .parse::<u64>()
            .or_else(|_| next.parse::<i64>().map(|v| v as u64));
        Ok(NextRowId {
            kind: match cell("ID_TYPE").unwrap_or_default().to_uppercase().as_str() {
                "_TIDB_ROWID" => IdKind::RowId,
                "AUTO_RANDOM" => IdKind::AutoRandom,
                "SEQUENCE" => IdKind::Sequence,
                _ => IdKind::AutoIncrement,
            },
            column: cell("COLUMN_NAME").unwrap_or_default(),
            next: next.map_err(|_| unreadable())?,
        })
    }

    /// Makes `next` the next AUTO_INCREMENT value, which where the counter is shared is also the next
    /// `_tidb_rowid`. Never lowers a counter.
    pub async fn rebase_auto_increment(&self, db: &str, table: &str, next: u64) -> Result<()> {
        self.exec(&format!(
            "ALTER TABLE {} AUTO_INCREMENT = {next}",
            quote_table(db, table)
        ))
        .await
    }

    /// Makes `next`, or a later one, the next `_tidb_rowid` of a table that counts AUTO_INCREMENT apart
    /// (`AUTO_ID_CACHE 1`). No DDL does that: a row is inserted under the id before it and rolled back, and the
    /// counter keeps what it saw. Never lowers it; whether it moved is looked at afterwards.
    pub async fn rebase_row_id(&self, db: &str, table: &str, next: u64) -> Result<()> {
        let name = quote_table(db, table);
        let insert = format!(
            "INSERT IGNORE INTO {name} (_tidb_rowid) VALUES ({})",
            next.saturating_sub(1).max(1)
        );
        let mut conn = self.connection().await?;
        let mut inserted = Ok(());
        // Without a mode the row's columns need no values.
        for statement in [
            "SET SESSION sql_mode = ''",
            "SET SESSION tidb_opt_write_row_id = 1",
            "BEGIN",
            &insert,
        ] {
            inserted = conn.query_drop(statement).await;
            if inserted.is_err() {
                break;
            }
        }
        let ended = conn.query_drop("ROLLBACK").await;
        inserted.and(ended).map_err(|e| self.error(&e))?;
        // The session's variables must not serve others.
        drop(conn.disconnect().await);
        let counters = self.next_row_ids(db, table).await?;
        let moved = |counter: &NextRowId| counter.kind == IdKind::RowId && counter.next >= next;
        if counters.iter().any(moved) {
            return Ok(());
        }
        let cause = "the counter of its hidden row ids does not move (AUTO_ID_CACHE 1)";
        Err(Error::new(
            ErrorKind::Cluster,
            format!("table {db}.{table}"),
            cause,
        ))
    }

    /// Makes `next` the next incremental part of AUTO_RANDOM. Never lowers it.
    pub async fn rebase_auto_random(&self, db: &str, table: &str, next: u64) -> Result<()> {
        self.exec(&format!(
            "ALTER TABLE {} AUTO_RANDOM_BASE = {next}",
            quote_table(db, table)
        ))
        .await
    }

    /// TiDB's own tally of the table's records and indexes.
    pub async fn admin_checksum(&self, db: &str, table: &str) -> Result<Checksum> {
        let rows = self
            .query(&format!("ADMIN CHECKSUM TABLE {}", quote_table(db, table)))
            .await?;
        let number =
            |index: usize| -> Option<u64> { rows.first()?.get(index)?.as_ref()?.parse().ok() };
        match (number(2), number(3), number(4)) {
            (Some(crc64_xor), Some(kvs), Some(bytes)) => Ok(Checksum {
                crc64_xor,
                kvs,
                bytes,
            }),
            _ => Err(Error::new(
                ErrorKind::Cluster,
                self.place(),
                "ADMIN CHECKSUM TABLE gave no tally",
            )),
        }
    }

    /// Collects statistics for the optimizer.
    pub async fn analyze(&self, db: &str, table: &str) -> Result<()> {
        self.exec(&format!("ANALYZE TABLE {}", quote_table(db, table)))
            .await
    }

    fn place(&self) -> String {
        format!("tidb {}", self.address)
    }

    fn error(&self, error: &mysql_async::Error) -> Error {
        match error {
            mysql_async::Error::Server(server) => {
                let text = format!("error {}: {}", server.code, server.message);
                match PRIVILEGE_CODES.contains(&server.code) {
                    true => Error::new(ErrorKind::Precheck, self.place(), text)
                        .advice("check tidb.user, its password and its privileges"),
                    false => Error::new(ErrorKind::Cluster, self.place(), text),
                }
            }
            _ => Error::new(ErrorKind::Cluster, self.place(), error)
                .advice("check that TiDB runs and tidb.host and tidb.port are right"),
        }
    }
}

/// Connects when asked to, with the certificates as they are now.
fn pool(options: &TidbOptions, connector: &Connector) -> Pool {
    let constraints = PoolConstraints::new(0, CONNECTIONS_MAX).unwrap_or_default();
    let tls = match options.sql_tls {
        SqlTls::Off => None,
        SqlTls::Verify => Some(connector.mysql().unwrap_or_default()),
        SqlTls::SkipVerify => {
            let any = connector.mysql().unwrap_or_default();
            Some(
                any.with_danger_accept_invalid_certs(true)
                    .with_danger_skip_domain_validation(true),
            )
        }
    };
    let password = &options.password;
    Pool::new(
        OptsBuilder::default()
            .ip_or_hostname(options.host.clone())
            .tcp_port(options.port)
            .user(Some(options.user.clone()))
            .pass((!password.is_empty()).then(|| password.clone()))
            .prefer_socket(false)
            .tcp_nodelay(true)
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(WAIT_SECONDS))
            .pool_opts(PoolOpts::default().with_constraints(constraints))
            .ssl_opts(tls),
    )
}

/// Whether the two sides do not know each other's certificates.
fn is_of_tls(error: &str) -> bool {
    ["certificate", "fatal alert"]
        .iter()
        .any(|word| error.contains(word))
}

/// A name as SQL wants it.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quote_table(db: &str, table: &str) -> String {
    format!("{}.{}", quote(db), quote(table))
}

fn cells(row: Row) -> Vec<Option<String>> {
    let values = row.unwrap_raw().into_iter();
    values
        .map(|value| text(value.unwrap_or(Value::NULL)))
        .collect()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

fn first_cell(rows: Vec<Vec<Option<String>>>) -> Option<String> {
    rows.into_iter().next()?.into_iter().next()?
}

fn pairs(rows: Vec<Vec<Option<String>>>) -> Vec<(String, String)> {
    rows.into_iter()
        .filter_map(|row| {
            let mut cells = row.into_iter();
            Some((
                cells.next()??.to_lowercase(),
                cells.next()?.unwrap_or_default(),
            ))
        })
        .collect()
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("on") || value.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote_table("d`b", "t"), "`d``b`.`t`");
    }

    #[test]
    fn switches_are_read_in_all_their_spellings() {
        assert!(is_on("ON") && is_on("1") && is_on("True"));
        assert!(!is_on("OFF") && !is_on("0") && !is_on(""));
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named_without_the_password() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let options = TidbOptions {
            host: "127.0.0.1".to_owned(),
            port,
            user: "root".to_owned(),
            password: "hunter2".to_owned(),
            status_port: port,
            security: Security::default(),
            sql_tls: SqlTls::Off,
        };
        let error = TidbClient::connect(options).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Cluster);
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
        assert!(!error.to_string().contains("hunter2"));
    }
}
