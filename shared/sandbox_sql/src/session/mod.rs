//! One client's state and the dispatch of its statements: current database, variables, transaction,
//! warnings. What a statement does is in `statements` and `select`.

mod shared;
mod vars;

pub use shared::{KillSwitch, Shared};
pub use vars::{Variables, normal_value, shown_value};

use crate::catalog::{Catalog, Table};
use crate::engine::{KvEngine, Mutation};
use crate::error::{SqlError, SqlResult, code};
use crate::lexer::{Cursor, Token};
use crate::protocol::{ColumnMeta, RowSink};
use crate::select::Sqlite;
use crate::statements;
use crate::statements::views::not_a;
use crate::view::{View, Writes};
use std::collections::BTreeMap;
use std::sync::Arc;
use thunderhead_codec::session::{Session as Encoding, SqlMode};
use thunderhead_codec::time::Zone;
use thunderhead_types::{Clock, SystemClock, Timestamp};

/// Keys and values one transaction may buffer (`txn-total-size-limit`).
const TRANSACTION_BYTES_MAX: usize = 100 << 20;
/// Warnings kept of one statement.
const WARNINGS_MAX: usize = 64;

/// How a statement ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// Its rows went to the sink.
    Rows { warnings: u16 },
    Done {
        affected: u64,
        insert_id: u64,
        warnings: u16,
        info: String,
    },
    #[default]
    Nothing,
}

impl Outcome {
    /// Done, with that many rows affected.
    pub fn affected(affected: u64) -> Self {
        Outcome::Done {
            affected,
            insert_id: 0,
            warnings: 0,
            info: String::new(),
        }
    }

    /// Rows were sent.
    pub const ROWS: Outcome = Outcome::Rows { warnings: 0 };
}

/// A warning, as SHOW WARNINGS prints it.
#[derive(Clone, Debug)]
pub struct Warning {
    pub level: &'static str,
    pub code: u16,
    pub message: String,
}

/// An open transaction.
struct Transaction {
    start_ts: Timestamp,
    writes: Arc<Writes>,
    /// Of keys and values written, whether or not they were written over since.
    bytes: usize,
    /// Begun by the client rather than for one statement.
    explicit: bool,
}

/// One client's state.
pub struct Session {
    id: u32,
    shared: Arc<Shared>,
    kill: Arc<KillSwitch>,
    pub db: Option<String>,
    pub variables: Variables,
    pub user_variables: BTreeMap<String, Option<String>>,
    transaction: Option<Transaction>,
    pub warnings: Vec<Warning>,
    pub last_insert_id: u64,
    pub found_rows: bool,
    /// The embedded engine that runs SELECT, opened when first needed.
    pub sqlite: Option<Sqlite>,
    /// What NOW() is during this statement, microseconds since the epoch.
    pub now_us: i64,
}

impl Session {
    /// A session that has not been authenticated yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let (id, kill) = shared.register();
        let variables = shared.globals.read().clone();
        Self {
            id,
            shared,
            kill,
            db: None,
            variables,
            user_variables: BTreeMap::new(),
            transaction: None,
            warnings: Vec::new(),
            last_insert_id: 0,
            found_rows: false,
            sqlite: None,
            now_us: 0,
        }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn root_password(&self) -> &str {
        &self.shared.config.root_password
    }

    pub fn kill_switch(&self) -> Arc<KillSwitch> {
        self.kill.clone()
    }

    pub fn kill(&self, id: u32) -> bool {
        self.shared.kill(id)
    }

    pub fn set_client(&mut self, found_rows: bool) {
        self.found_rows = found_rows;
    }

    pub fn engine(&self) -> &dyn KvEngine {
        self.shared.engine.as_ref()
    }

    pub fn catalog(&self) -> Catalog<'_> {
        Catalog::new(self.engine())
    }

    /// Back to how the session began, the transaction undone.
    pub fn reset(&mut self) {
        self.rollback();
        self.variables = self.shared.globals.read().clone();
        self.user_variables.clear();
        self.warnings.clear();
        self.db = None;
    }

    pub fn use_database(&mut self, name: &str) -> SqlResult<()> {
        let name = if crate::catalog::is_system(name) {
            name.to_owned()
        } else {
            self.catalog().database(name)?.db_name.original
        };
        self.db = Some(name);
        Ok(())
    }

    /// The named database, or the current one.
    pub fn database_or_current(&self, db: Option<&str>) -> SqlResult<String> {
        db.map(str::to_owned)
            .or_else(|| self.db.clone())
            .ok_or_else(|| SqlError::new(code::NO_DB, "No database selected"))
    }

    pub fn table(&self, db: Option<&str>, name: &str) -> SqlResult<Table> {
        let table = self.table_or_view(db, name)?;
        match table.info.view {
            None => Ok(table),
            Some(_) => Err(not_a("BASE TABLE", &table.db.db_name.original, name)),
        }
    }

    /// As [`Session::table`], for statements that describe.
    pub fn table_or_view(&self, db: Option<&str>, name: &str) -> SqlResult<Table> {
        let db = self.database_or_current(db)?;
        self.catalog().table(&db, name)
    }

    /// Columns of a table, for COM_FIELD_LIST.
    pub fn field_list(&self, table: &str) -> SqlResult<Vec<ColumnMeta>> {
        let table = self.table_or_view(None, table)?;
        Ok(table
            .info
            .columns()
            .iter()
            .filter(|c| !c.hidden)
            .map(|c| crate::select::column_meta(c, &table.info.name.original))
            .collect())
    }

    /// Status bits of an answer.
    pub fn status(&self) -> u16 {
        use crate::protocol::status;
        let transaction = if self.transaction.as_ref().is_some_and(|t| t.explicit) {
            status::IN_TRANSACTION
        } else {
            0
        };
        transaction
            | if self.autocommit() {
                status::AUTOCOMMIT
            } else {
                0
            }
    }

    fn autocommit(&self) -> bool {
        self.variables.get("autocommit").is_none_or(|v| v != "0")
    }

    pub fn warn(&mut self, code: u16, message: impl Into<String>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(Warning {
                level: "Warning",
                code,
                message: message.into(),
            });
        }
    }

    pub fn zone(&self) -> Zone {
        let name = self
            .variables
            .get("time_zone")
            .map_or("SYSTEM", String::as_str);
        let name = if name.eq_ignore_ascii_case("system") {
            self.variables
                .get("system_time_zone")
                .map_or("UTC", String::as_str)
        } else {
            name
        };
        Zone::parse(name).unwrap_or_else(|_| Zone::utc())
    }

    /// The settings rows are encoded and decoded under.
    pub fn encoding(&self) -> Encoding {
        let value = |name: &str| self.variables.get(name).map_or("", String::as_str);
        Encoding {
            sql_mode: SqlMode::parse(value("sql_mode")),
            time_zone: self.zone(),
            new_collation: self.shared.config.new_collation,
            row_format: value("tidb_row_format_version").parse().unwrap_or(2),
            now_us: self.now_us,
            row_checksum: self
                .shared
                .globals
                .read()
                .get("tidb_enable_row_level_checksum")
                .is_some_and(|v| v == "1"),
            null_becomes_zero: true,
            check_constraints: value("tidb_enable_check_constraint") == "1",
            seed: self.now_us as u64,
            ..Encoding::default()
        }
    }

    /// Stops a statement whose client was told to go.
    pub fn check_killed(&self) -> SqlResult<()> {
        if self.kill.is_killed() {
            Err(SqlError::new(
                code::QUERY_INTERRUPTED,
                "Query execution was interrupted",
            ))
        } else {
            Ok(())
        }
    }

    /// Runs one statement; its rows, if any, go to `sink`.
    pub fn execute(
        &mut self,
        text: &[u8],
        tokens: &[Token],
        sink: &mut dyn RowSink,
    ) -> SqlResult<Outcome> {
        self.check_killed()?;
        self.now_us = SystemClock.unix_ms() as i64 * 1000;
        let at = Cursor::new(text, tokens);
        if !at.is("show") {
            self.warnings.clear();
        }
        let outcome = statements::run(self, at, sink);
        // Outside of a transaction of the client's, a statement is one.
        if self.transaction.as_ref().is_some_and(|t| !t.explicit) {
            match &outcome {
                Ok(_) => self.commit()?,
                Err(_) => self.rollback(),
            }
        }
        let count = self.warnings.len() as u16;
        Ok(match outcome? {
            Outcome::Rows { .. } => Outcome::Rows { warnings: count },
            Outcome::Done {
                affected,
                insert_id,
                info,
                ..
            } => Outcome::Done {
                affected,
                insert_id,
                warnings: count,
                info,
            },
            Outcome::Nothing => Outcome::affected(0),
        })
    }

    /// Begins a transaction of the client's; an open one is committed.
    pub fn begin(&mut self) -> SqlResult<()> {
        self.commit()?;
        let start_ts = self.engine().tso()?;
        self.transaction = Some(Transaction {
            start_ts,
            writes: Arc::default(),
            bytes: 0,
            explicit: true,
        });
        Ok(())
    }

    /// What the current statement reads.
    pub fn view(&mut self) -> SqlResult<View> {
        let ts = match &self.transaction {
            Some(transaction) => transaction.start_ts,
            None => self.engine().tso()?,
        };
        if self.transaction.is_none() && !self.autocommit() {
            self.transaction = Some(Transaction {
                start_ts: ts,
                writes: Arc::default(),
                bytes: 0,
                explicit: true,
            });
        }
        let writes = self
            .transaction
            .as_ref()
            .map(|t| t.writes.clone())
            .unwrap_or_default();
        Ok(View {
            engine: self.shared.engine.clone(),
            ts,
            writes,
        })
    }

    /// As [`Session::view`], for a statement that writes or locks: one session at a time, reading the
    /// newest data, which is what pessimistic locking comes to when there is one lock.
    pub fn locked_view(&mut self) -> SqlResult<View> {
        self.shared.writer.acquire(self.id, &self.kill)?;
        let start_ts = self.engine().tso()?;
        let explicit = !self.autocommit();
        let transaction = self.transaction.get_or_insert(Transaction {
            start_ts,
            writes: Arc::default(),
            bytes: 0,
            explicit,
        });
        if transaction.writes.is_empty() {
            transaction.start_ts = start_ts;
        }
        self.view()
    }

    /// Buffers writes of the open transaction.
    pub fn write(&mut self, writes: Writes) -> SqlResult<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| SqlError::new(code::UNKNOWN, "no transaction is open"))?;
        let size = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len)
        };
        transaction.bytes += writes.iter().map(size).sum::<usize>();
        if transaction.bytes > TRANSACTION_BYTES_MAX {
            return Err(SqlError::new(8004, "Transaction is too large"));
        }
        Arc::make_mut(&mut transaction.writes).extend(writes);
        Ok(())
    }

    /// Commits what was written; without a transaction nothing happens.
    pub fn commit(&mut self) -> SqlResult<()> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(());
        };
        let mutation = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| match value {
            Some(value) => Mutation::Put(key.clone(), value.clone()),
            None => Mutation::Delete(key.clone()),
        };
        let mutations: Vec<Mutation> = transaction.writes.iter().map(mutation).collect();
        let result = if mutations.is_empty() {
            Ok(0)
        } else {
            self.engine().commit(transaction.start_ts, &mutations)
        };
        self.shared.writer.release(self.id);
        result.map(|_| ()).map_err(SqlError::from)
    }

    pub fn rollback(&mut self) {
        self.transaction = None;
        self.shared.writer.release(self.id);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.writer.release(self.id);
        self.shared.forget(self.id);
    }
}
