//! The tables that tell people of rows which did not go in as they stood: conflicts and refused rows. The layout
//! of `conflict_error_v1`, `type_error_v1` and `syntax_error_v1` is TiDB Lightning's, so that what reads those
//! goes on; `thunderhead_conflicts_v1` adds where each row stands and what became of it, and
//! `thunderhead_conflict_counts_v1` counts also what was too much to record.
//!
//! Every write replaces what the same job wrote of the same table before, so it can be done again after any
//! failure and records nothing twice.

use std::time::Duration;

use thunderhead_types::{Error, ErrorKind, Result, fail_point};

use crate::tidb::{TidbClient, quote};

/// Rows and bytes of one INSERT; a row that is larger by itself still goes alone.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// A TiDB that restarts is back within this many attempts, each waiting longer than the one before.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One participant of a conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictRow {
    /// `PRIMARY` for records.
    pub index_name: String,
    /// The handle, for people.
    pub key_data: String,
    /// The row as a tuple, for people.
    pub row_data: String,
    /// The key that is shared.
    pub raw_key: Vec<u8>,
    /// Its value.
    pub raw_value: Vec<u8>,
    /// Key of the record.
    pub raw_handle: Vec<u8>,
    /// Value of the record.
    pub raw_row: Vec<u8>,
    /// Source file.
    pub path: String,
    /// Byte in the file.
    pub offset: u64,
    /// Line in the file, from 1.
    pub line: u64,
    /// Number of the row in source order.
    pub row: u64,
    /// Rows with the same group share the key.
    pub group: u64,
    /// Left out of the table.
    pub removed: bool,
}

/// Conflicts of one index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictCount {
    /// `` `db`.`table` ``
    pub table_name: String,
    /// `PRIMARY` for records.
    pub index_name: String,
    /// Keys that are shared.
    pub groups: u64,
    /// Rows that share one.
    pub participants: u64,
}

/// A row that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedRow {
    /// Source file.
    pub path: String,
    /// Byte in the file.
    pub offset: u64,
    /// Why.
    pub error: String,
    /// The row; for syntax errors what surrounds the place.
    pub data: String,
}

/// Which of the two tables of refused rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedTable {
    /// `type_error_v1`
    Type,
    /// `syntax_error_v1`
    Syntax,
}

/// A participant as it is read back.
pub type ShownConflict = Vec<Option<String>>;

/// Columns of [`TaskInfo::conflicts`].
pub const SHOWN_COLUMNS: [&str; 10] = [
    "table_name",
    "index_name",
    "group_id",
    "verdict",
    "path",
    "line",
    "offset",
    "key_data",
    "row_data",
    "row_id",
];

/// The tables of one job in one schema.
pub struct TaskInfo<'a> {
    tidb: &'a TidbClient,
    schema: &'a str,
    job: &'a str,
    task_id: i64,
}

impl<'a> TaskInfo<'a> {
    /// Those of `job` in the database `schema`.
    pub fn new(tidb: &'a TidbClient, schema: &'a str, job: &'a str) -> Self {
        Self {
            tidb,
            schema,
            job,
            task_id: task_id(job),
        }
    }

    /// Replaces what is recorded of the conflicts of a table.
    ///
    /// # Errors
    /// When TiDB refuses, or stays out of reach for about half a minute.
    pub async fn replace_conflicts(
        &self,
        table_name: &str,
        counts: &[ConflictCount],
        rows: &[ConflictRow],
    ) -> Result<()> {
        let mut statements = self.create(&CONFLICT_TABLES);
        for table in ["conflict_error_v1", OWN, COUNTS] {
            statements.push(self.delete(table, table_name));
        }
        let theirs = "task_id, table_name, index_name, key_data, row_data, raw_key, raw_value, raw_handle, raw_row";
        let values = rows.iter().map(|row| self.conflict_values(table_name, row));
        statements.extend(self.inserts("conflict_error_v1", theirs, values));
        let ours = "job, task_id, table_name, index_name, group_id, row_id, verdict, path, offset, line, key_data, row_data, raw_key";
        let values = rows.iter().map(|row| self.own_values(table_name, row));
        statements.extend(self.inserts(OWN, ours, values));
        let columns = "job, task_id, table_name, index_name, conflicts, participants";
        let values = counts.iter().map(|count| {
            let (groups, rows) = (count.groups, count.participants);
            let (job, table, index) = (text(self.job), text(table_name), text(&count.index_name));
            format!(
                "({job}, {}, {table}, {index}, {groups}, {rows})",
                self.task_id
            )
        });
        statements.extend(self.inserts(COUNTS, columns, values));
        self.exec_all(&statements).await
    }

    /// Replaces what is recorded of the refused rows of a table.
    ///
    /// # Errors
    /// As [`TaskInfo::replace_conflicts`].
    pub async fn replace_refused(
        &self,
        which: RefusedTable,
        table_name: &str,
        rows: &[RefusedRow],
    ) -> Result<()> {
        let (table, data) = match which {
            RefusedTable::Type => ("type_error_v1", "row_data"),
            RefusedTable::Syntax => ("syntax_error_v1", "context"),
        };
        let mut statements = self.create(&REFUSED_TABLES);
        statements.push(self.delete(table, table_name));
        let columns = format!("task_id, table_name, path, offset, error, {data}");
        let values = rows.iter().map(|row| {
            format!(
                "({}, {}, {}, {}, {}, {})",
                self.task_id,
                text(table_name),
                text(&row.path),
                row.offset,
                text(&row.error),
                text(&row.data)
            )
        });
        statements.extend(self.inserts(table, &columns, values));
        self.exec_all(&statements).await
    }

    /// How many conflicts there were, by table and index.
    ///
    /// # Errors
    /// When TiDB cannot be asked, or nothing was ever recorded there.
    pub async fn counts(&self) -> Result<Vec<ConflictCount>> {
        let rows = self
            .tidb
            .query(&format!(
                "SELECT table_name, index_name, conflicts, participants FROM {} WHERE job = {} ORDER BY table_name, index_name",
                self.table(COUNTS),
                text(self.job)
            ))
            .await?;
        let number = |cell: Option<&Option<String>>| {
            let text = cell.and_then(Option::as_deref).unwrap_or_default();
            text.parse().unwrap_or(0)
        };
        let name = |cell: Option<&Option<String>>| cell.cloned().flatten().unwrap_or_default();
        let counts = rows.iter().map(|row| ConflictCount {
            table_name: name(row.first()),
            index_name: name(row.get(1)),
            groups: number(row.get(2)),
            participants: number(row.get(3)),
        });
        Ok(counts.collect())
    }

    /// A page of participants, groups together, as [`SHOWN_COLUMNS`] says.
    ///
    /// # Errors
    /// As [`TaskInfo::counts`].
    pub async fn conflicts(&self, skip: u64, limit: u64) -> Result<Vec<ShownConflict>> {
        self.tidb
            .query(&format!(
                "SELECT {} FROM {} WHERE job = {} ORDER BY table_name, group_id, row_id LIMIT {limit} OFFSET {skip}",
                SHOWN_COLUMNS.join(", "),
                self.table(OWN),
                text(self.job)
            ))
            .await
    }

    fn conflict_values(&self, table_name: &str, row: &ConflictRow) -> String {
        format!(
            "({}, {}, {}, {}, {}, {}, {}, {}, {})",
            self.task_id,
            text(table_name),
            text(&row.index_name),
            text(&row.key_data),
            text(&row.row_data),
            blob(&row.raw_key),
            blob(&row.raw_value),
            blob(&row.raw_handle),
            blob(&row.raw_row)
        )
    }

    fn own_values(&self, table_name: &str, row: &ConflictRow) -> String {
        format!(
            "({}, {}, {}, {}, {}, {}, '{}', {}, {}, {}, {}, {}, {})",
            text(self.job),
            self.task_id,
            text(table_name),
            text(&row.index_name),
            row.group,
            row.row,
            if row.removed { "removed" } else { "kept" },
            text(&row.path),
            row.offset,
            row.line,
            text(&row.key_data),
            text(&row.row_data),
            blob(&row.raw_key)
        )
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{}", quote(self.schema), quote(name))
    }

    fn delete(&self, table: &str, table_name: &str) -> String {
        format!(
            "DELETE FROM {} WHERE task_id = {} AND table_name = {}",
            self.table(table),
            self.task_id,
            text(table_name)
        )
    }

    fn inserts(
        &self,
        table: &str,
        columns: &str,
        values: impl Iterator<Item = String>,
    ) -> Vec<String> {
        let begin = format!("INSERT INTO {} ({columns}) VALUES ", self.table(table));
        let (mut statements, mut rows) = (Vec::<String>::new(), 0);
        for value in values {
            match statements.last_mut() {
                Some(last) if rows < BATCH_ROWS && last.len() + value.len() < BATCH_BYTES => {
                    last.push_str(", ");
                    last.push_str(&value);
                    rows += 1;
                }
                _ => {
                    statements.push(format!("{begin}{value}"));
                    rows = 1;
                }
            }
        }
        statements
    }

    fn create(&self, tables: &[&str]) -> Vec<String> {
        let schema = quote(self.schema);
        let mut statements = vec![format!("CREATE DATABASE IF NOT EXISTS {schema}")];
        statements.extend(
            tables
                .iter()
                .map(|table| table.replace("{schema}", &schema)),
        );
        statements
    }

    /// Runs all of the statements, from the first again when TiDB goes away in between: they replace what they
    /// wrote.
    async fn exec_all(&self, statements: &[String]) -> Result<()> {
        let (mut at, mut attempt, mut pause) = (0, 1, FIRST_PAUSE);
        while let Some(statement) = statements.get(at) {
            match self.tidb.exec(statement).await {
                Ok(()) => {
                    fail_point("record-statement");
                    at += 1;
                }
                // A view is a convenience: a server that refuses it keeps the tables.
                Err(error) if statement.starts_with(VIEW) => {
                    tracing::warn!(%error, "a view of the recorded conflicts could not be made");
                    at += 1;
                }
                Err(error) if error.kind == ErrorKind::Cluster && attempt < ATTEMPTS => {
                    tracing::warn!(%error, attempt, "recording in {} is tried again", self.schema);
                    tokio::time::sleep(pause).await;
                    (at, attempt, pause) = (0, attempt + 1, (pause * 2).min(PAUSE_MAX));
                }
                Err(error) => {
                    return Err(Error {
                        advice: "check TiDB, or set lightning.task-info-schema-name = \"\" to record nothing; the same command then goes on".into(),
                        ..error
                    });
                }
            }
        }
        Ok(())
    }
}

/// Lightning numbers its tasks; ours have names. The number is positive and the same whenever it is asked for.
pub fn task_id(job: &str) -> i64 {
    (thunderhead_types::crc64(job.as_bytes(), b"task") >> 1) as i64
}

/// A string literal that means the same in every SQL mode.
fn text(value: &str) -> String {
    if value.contains(['\'', '\\', '\0']) {
        blob(value.as_bytes())
    } else {
        format!("'{value}'")
    }
}

fn blob(value: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four_bits: u8| DIGITS[usize::from(four_bits & 15)];
    let mut literal = Vec::with_capacity(value.len() * 2 + 3);
    literal.extend_from_slice(b"x'");
    for byte in value {
        literal.extend_from_slice(&[digit(byte >> 4), digit(*byte)]);
    }
    literal.push(b'\'');
    String::from_utf8(literal).expect("digits are ASCII")
}

const VIEW: &str = "CREATE OR REPLACE VIEW ";
const OWN: &str = "thunderhead_conflicts_v1";
const COUNTS: &str = "thunderhead_conflict_counts_v1";

const CONFLICT_TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS {schema}.conflict_error_v1 (\
     task_id bigint NOT NULL, \
     create_time datetime(6) NOT NULL DEFAULT now(6), \
     table_name varchar(261) NOT NULL, \
     index_name varchar(128) NOT NULL, \
     key_data text NOT NULL COMMENT 'the handle, readable, not for machines', \
     row_data text NOT NULL COMMENT 'the row, readable, not for machines', \
     raw_key mediumblob NOT NULL COMMENT 'the key that rows share', \
     raw_value mediumblob NOT NULL COMMENT 'its value', \
     raw_handle mediumblob NOT NULL COMMENT 'key of the record', \
     raw_row mediumblob NOT NULL COMMENT 'value of the record', \
     KEY (task_id, table_name))",
    "CREATE TABLE IF NOT EXISTS {schema}.thunderhead_conflicts_v1 (\
     job varchar(64) NOT NULL, \
     task_id bigint NOT NULL, \
     create_time datetime(6) NOT NULL DEFAULT now(6), \
     table_name varchar(261) NOT NULL, \
     index_name varchar(128) NOT NULL, \
     group_id bigint NOT NULL COMMENT 'rows of one group share the key', \
     row_id bigint NOT NULL COMMENT 'number of the row in source order', \
     verdict varchar(8) NOT NULL COMMENT 'kept or removed', \
     path varchar(2048) NOT NULL, \
     offset bigint NOT NULL COMMENT 'byte in the file', \
     line bigint NOT NULL COMMENT 'line in the file, from 1', \
     key_data text NOT NULL, \
     row_data text NOT NULL, \
     raw_key mediumblob NOT NULL, \
     PRIMARY KEY (task_id, table_name, group_id, row_id), \
     KEY (job))",
    "CREATE TABLE IF NOT EXISTS {schema}.thunderhead_conflict_counts_v1 (\
     job varchar(64) NOT NULL, \
     task_id bigint NOT NULL, \
     create_time datetime(6) NOT NULL DEFAULT now(6), \
     table_name varchar(261) NOT NULL, \
     index_name varchar(128) NOT NULL, \
     conflicts bigint NOT NULL COMMENT 'keys that rows share', \
     participants bigint NOT NULL COMMENT 'rows that share one', \
     PRIMARY KEY (task_id, table_name, index_name), \
     KEY (job))",
    // Two equal lines of a source are two rows here and two there, and each would be joined with both.
    "CREATE OR REPLACE VIEW {schema}.thunderhead_conflict_view AS \
     SELECT DISTINCT c.job, c.task_id, c.table_name, c.index_name, c.group_id, c.row_id, c.verdict, c.path, c.offset, c.line, \
     e.key_data, e.row_data, e.raw_key, e.raw_value, e.raw_handle, e.raw_row, c.create_time \
     FROM {schema}.thunderhead_conflicts_v1 c JOIN {schema}.conflict_error_v1 e \
     ON c.task_id = e.task_id AND c.table_name = e.table_name AND c.index_name = e.index_name \
     AND c.raw_key = e.raw_key AND c.key_data = e.key_data AND c.row_data = e.row_data",
    "CREATE OR REPLACE VIEW {schema}.conflict_view AS \
     SELECT 0 AS is_precheck_conflict, task_id, create_time, table_name, index_name, key_data, row_data, \
     raw_key, raw_value, raw_handle, raw_row, IF(raw_key = raw_handle, 1, 0) AS kv_type, \
     NULL AS path, NULL AS offset, NULL AS error, NULL AS row_id FROM {schema}.conflict_error_v1",
];

const REFUSED_TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS {schema}.type_error_v1 (\
     task_id bigint NOT NULL, \
     create_time datetime(6) NOT NULL DEFAULT now(6), \
     table_name varchar(261) NOT NULL, \
     path varchar(2048) NOT NULL, \
     offset bigint NOT NULL, \
     error text NOT NULL, \
     row_data text NOT NULL, \
     KEY (task_id, table_name))",
    "CREATE TABLE IF NOT EXISTS {schema}.syntax_error_v1 (\
     task_id bigint NOT NULL, \
     create_time datetime(6) NOT NULL DEFAULT now(6), \
     table_name varchar(261) NOT NULL, \
     path varchar(2048) NOT NULL, \
     offset bigint NOT NULL, \
     error text NOT NULL, \
     context text NOT NULL, \
     KEY (task_id, table_name))",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_means_the_same_in_every_sql_mode() {
        assert_eq!(text("plain"), "'plain'");
        assert_eq!(text("it's"), "x'69742773'");
        assert_eq!(text("a\\b"), "x'615c62'");
        assert_eq!(blob(&[0, 255]), "x'00ff'");
    }

    #[test]
    fn a_job_has_one_positive_number() {
        assert!(task_id("a") > 0 && task_id("a") != task_id("b"));
    }
}
