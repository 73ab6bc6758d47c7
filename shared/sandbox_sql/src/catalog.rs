//! Databases, tables and counters, in the meta keys where TiDB keeps them. Every statement reads the
//! catalog at its own snapshot, so what another engine of the cluster writes there is seen; a change is
//! one commit that conflicts with any other change of the same database or counter.

use crate::engine::{KvEngine, Mutation, Scanner};
use crate::error::{SqlError, SqlResult, code};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thunderhead_codec::keys;
use thunderhead_codec::mem::{decode_bytes, encode_bytes, encode_u64};
use thunderhead_codec::mysql::state;
use thunderhead_codec::schema::{Name, TableInfo};
use thunderhead_types::{KeyRange, Timestamp};

/// Table and database ids begin after those TiDB gives to its own.
const FIRST_ID: i64 = 100;
/// Tries of a change that conflicts with others.
const ATTEMPTS: u32 = 20;
/// Databases every server has; they are empty or computed here.
pub const SYSTEM_DATABASES: [&str; 4] = [
    "INFORMATION_SCHEMA",
    "METRICS_SCHEMA",
    "PERFORMANCE_SCHEMA",
    "mysql",
];

/// A database's model, as TiDB stores it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DbInfo {
    pub id: i64,
    pub db_name: Name,
    pub charset: String,
    pub collate: String,
    pub state: u8,
    pub policy_ref_info: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Which counter of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    RowId,
    AutoIncrement,
    AutoRandom,
}

/// A table with the database it is in.
#[derive(Clone, Debug)]
pub struct Table {
    pub db: DbInfo,
    pub info: TableInfo,
}

/// Access to the catalog.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    engine: &'a dyn KvEngine,
}

impl<'a> Catalog<'a> {
    pub fn new(engine: &'a dyn KvEngine) -> Self {
        Self { engine }
    }

    /// Makes an empty engine a cluster: the id counter, and the database `test`.
    pub fn bootstrap(&self) -> SqlResult<()> {
        let ts = self.engine.tso()?;
        if self.engine.get(&next_id_key(), ts)?.is_some() {
            return Ok(());
        }
        let put = Mutation::Put(next_id_key(), FIRST_ID.to_string().into_bytes());
        match self.engine.commit(ts, &[put]) {
            Ok(_) => self
                .create_database("test", "utf8mb4", "utf8mb4_bin", true)
                .map(|_| ()),
            Err(crate::engine::CommitError::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    fn hash_range(hash: &[u8], field_prefix: &[u8]) -> KeyRange {
        let mut start = vec![b'm'];
        encode_bytes(&mut start, hash);
        encode_u64(&mut start, u64::from(b'h'));
        let mut end = start.clone();
        // Fields are memcomparable, so their order is that of their bytes.
        encode_bytes(&mut start, field_prefix);
        let mut last = field_prefix.to_vec();
        last.push(0xff);
        encode_bytes(&mut end, &last);
        KeyRange::new(start, end)
    }

    fn models<T: for<'de> Deserialize<'de>>(
        &self,
        hash: &[u8],
        prefix: &[u8],
        ts: Timestamp,
    ) -> SqlResult<Vec<T>> {
        let mut models = Vec::new();
        for pair in Scanner::new(self.engine, Self::hash_range(hash, prefix), ts) {
            let (key, value) = pair?;
            if field_of(&key, hash).is_some_and(|f| f.starts_with(prefix)) {
                models.push(
                    serde_json::from_slice(&value)
                        .map_err(|e| SqlError::new(code::UNKNOWN, format!("meta: {e}")))?,
                );
            }
        }
        Ok(models)
    }

    /// All databases, by id.
    pub fn databases(&self) -> SqlResult<Vec<DbInfo>> {
        let ts = self.engine.tso()?;
        self.models(b"DBs", b"DB:", ts)
    }

    /// The database of that name, in any case.
    pub fn database(&self, name: &str) -> SqlResult<DbInfo> {
        let lower = name.to_lowercase();
        let found = self
            .databases()?
            .into_iter()
            .find(|db| db.db_name.lower == lower);
        found.ok_or_else(|| SqlError::unknown_db(name))
    }

    /// All tables of a database, by name.
    pub fn tables(&self, db: &DbInfo) -> SqlResult<Vec<TableInfo>> {
        let ts = self.engine.tso()?;
        let mut tables: Vec<TableInfo> =
            self.models(format!("DB:{}", db.id).as_bytes(), b"Table:", ts)?;
        tables.sort_by(|a, b| a.name.lower.cmp(&b.name.lower));
        Ok(tables)
    }

    /// The table of that name, in any case.
    pub fn table(&self, db: &str, name: &str) -> SqlResult<Table> {
        let db = self.database(db)?;
        let lower = name.to_lowercase();
        let found = self
            .tables(&db)?
            .into_iter()
            .find(|t| t.name.lower == lower);
        let info = found.ok_or_else(|| SqlError::no_such_table(&db.db_name.original, name))?;
        Ok(Table { db, info })
    }

    /// The table with that id, or the one with that partition.
    pub fn table_by_id(&self, id: i64) -> SqlResult<Option<Table>> {
        for db in self.databases()? {
            let found = self
                .tables(&db)?
                .into_iter()
                .find(|t| t.id == id || t.physical_ids().contains(&id));
            if let Some(info) = found {
                return Ok(Some(Table { db, info }));
            }
        }
        Ok(None)
    }

    /// Runs `change` at a fresh snapshot and commits what it puts, again while others get in between.
    fn update<T>(
        &self,
        mut change: impl FnMut(&mut MetaWriter<'a>) -> SqlResult<T>,
    ) -> SqlResult<T> {
        let mut attempt = 0;
        loop {
            let ts = self.engine.tso()?;
            let mut writer = MetaWriter {
                engine: self.engine,
                ts,
                writes: BTreeMap::new(),
            };
            let result = change(&mut writer)?;
            match self.engine.commit(ts, &writer.mutations()) {
                Ok(_) => return Ok(result),
                Err(crate::engine::CommitError::Conflict) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes a database; says whether it is new.
    pub fn create_database(
        &self,
        name: &str,
        charset: &str,
        collate: &str,
        if_not_exists: bool,
    ) -> SqlResult<bool> {
        if self.database(name).is_ok() || is_system(name) {
            return if if_not_exists {
                Ok(false)
            } else {
                Err(SqlError::new(
                    code::CANNOT_CREATE_DB_EXISTS,
                    format!("Can't create database '{name}'; database exists"),
                ))
            };
        }
        self.update(|meta| {
            let id = meta.take_ids(1)?;
            let db = DbInfo {
                id,
                db_name: Name::new(name),
                charset: charset.to_owned(),
                collate: collate.to_owned(),
                state: state::PUBLIC,
                ..DbInfo::default()
            };
            meta.put_json(keys::meta_database(id), &db)?;
            meta.bump_schema_version()
        })?;
        Ok(true)
    }

    /// Removes a database with its tables; returns the physical ids whose keys are to be destroyed.
    pub fn drop_database(&self, name: &str) -> SqlResult<Vec<i64>> {
        let db = self.database(name)?;
        let mut ids = Vec::new();
        for table in self.tables(&db)? {
            ids.extend(self.drop_table(&Table {
                db: db.clone(),
                info: table,
            })?);
        }
        self.update(|meta| {
            meta.delete(keys::meta_database(db.id));
            meta.bump_schema_version()
        })?;
        Ok(ids)
    }

    /// Stores a new table, giving ids to it and its partitions.
    pub fn create_table(&self, db: &DbInfo, mut info: TableInfo) -> SqlResult<TableInfo> {
        let lower = info.name.lower.clone();
        self.update(|meta| {
            if self.tables(db)?.iter().any(|t| t.name.lower == lower) {
                return Err(SqlError::new(
                    code::TABLE_EXISTS,
                    format!(
                        "Table '{}.{}' already exists",
                        db.db_name.original, info.name.original
                    ),
                ));
            }
            // Two sessions that make the same name take ids from the same counter, so one of them conflicts.
            assign_ids(meta, &mut info)?;
            meta.put_table(db.id, &info)?;
            for (counter, base) in [
                (Counter::AutoIncrement, info.auto_inc_id),
                (Counter::AutoRandom, info.auto_rand_id),
            ] {
                if base > 1 {
                    meta.put(counter_key(db, &info, counter), (base - 1).to_string());
                }
            }
            meta.bump_schema_version()?;
            Ok(info.clone())
        })
    }

    /// Removes a table and its counters; returns its physical ids and its own.
    pub fn drop_table(&self, table: &Table) -> SqlResult<Vec<i64>> {
        let (db, info) = (&table.db, &table.info);
        self.update(|meta| {
            meta.delete(keys::meta_table(db.id, info.id));
            for counter in [Counter::RowId, Counter::AutoIncrement, Counter::AutoRandom] {
                meta.delete(counter_key(db, info, counter));
            }
            meta.bump_schema_version()
        })?;
        Ok(all_ids(info))
    }

    /// Gives the table new ids and fresh counters; returns the old ids.
    pub fn truncate_table(&self, table: &Table) -> SqlResult<Vec<i64>> {
        let old = self.drop_table(table)?;
        let mut info = table.info.clone();
        for definition in info
            .partition
            .iter_mut()
            .flat_map(|p| p.definitions.iter_mut().flatten())
        {
            definition.id = 0;
        }
        info.id = 0;
        self.create_table(&table.db, info)?;
        Ok(old)
    }

    /// Stores a changed model; partitions with id 0 get one.
    pub fn put_table(&self, table: &Table) -> SqlResult<TableInfo> {
        let mut info = table.info.clone();
        self.update(|meta| {
            assign_ids(meta, &mut info)?;
            meta.put_table(table.db.id, &info)?;
            meta.bump_schema_version()?;
            Ok(info.clone())
        })
    }

    /// Moves a table to another name, and perhaps another database (its counters stay where they were).
    pub fn rename_table(&self, table: &Table, db: &DbInfo, name: &str) -> SqlResult<()> {
        if self.table(&db.db_name.original, name).is_ok() {
            return Err(SqlError::new(
                code::TABLE_EXISTS,
                format!("Table '{}.{name}' already exists", db.db_name.original),
            ));
        }
        let mut info = table.info.clone();
        info.name = Name::new(name);
        if db.id != table.db.id && info.old_schema_id == 0 {
            info.old_schema_id = table.db.id as u64;
        }
        info.revision += 1;
        self.update(|meta| {
            meta.delete(keys::meta_table(table.db.id, info.id));
            meta.put_table(db.id, &info)?;
            meta.bump_schema_version()
        })
    }

    /// Largest id a counter has given out; 0 when none.
    pub fn counter(&self, table: &Table, counter: Counter) -> SqlResult<u64> {
        let ts = self.engine.tso()?;
        let value = self
            .engine
            .get(&counter_key(&table.db, &table.info, counter), ts)?;
        Ok(value
            .and_then(|v| String::from_utf8(v).ok())
            .and_then(|v| v.parse().ok())
            .unwrap_or(0))
    }

    /// Takes `count` ids; the first of them.
    pub fn take(&self, table: &Table, counter: Counter, count: u64) -> SqlResult<u64> {
        let key = counter_key(&table.db, &table.info, counter);
        self.update(|meta| {
            let last = meta.number(&key)?;
            meta.put(key.clone(), (last + count).to_string());
            Ok(last + 1)
        })
    }

    /// Raises a counter so that the next id is above `used`; lowers it only when forced.
    pub fn rebase(&self, table: &Table, counter: Counter, used: u64, force: bool) -> SqlResult<()> {
        let key = counter_key(&table.db, &table.info, counter);
        self.update(|meta| {
            if force || meta.number(&key)? < used {
                meta.put(key.clone(), used.to_string());
            }
            Ok(())
        })
    }
}

/// Whether `name` is a database that cannot be changed.
pub fn is_system(name: &str) -> bool {
    SYSTEM_DATABASES
        .iter()
        .any(|s| s.eq_ignore_ascii_case(name))
}

/// The counter AUTO_INCREMENT uses: its own only with AUTO_ID_CACHE = 1.
pub fn auto_increment_counter(info: &TableInfo) -> Counter {
    if info.version >= 5 && info.auto_id_cache == 1 {
        Counter::AutoIncrement
    } else {
        Counter::RowId
    }
}

fn counter_key(db: &DbInfo, info: &TableInfo, counter: Counter) -> Vec<u8> {
    let schema = if info.old_schema_id != 0 {
        info.old_schema_id as i64
    } else {
        db.id
    };
    match counter {
        Counter::AutoIncrement if auto_increment_counter(info) == Counter::AutoIncrement => {
            keys::meta_auto_increment(schema, info.id)
        }
        Counter::RowId | Counter::AutoIncrement => keys::meta_row_id(schema, info.id),
        Counter::AutoRandom => keys::meta_auto_random(schema, info.id),
    }
}

/// The table's own id (global indexes live there) and its partitions'.
pub fn all_ids(info: &TableInfo) -> Vec<i64> {
    let mut ids = info.physical_ids();
    if !ids.contains(&info.id) {
        ids.push(info.id);
    }
    ids
}

fn assign_ids(meta: &mut MetaWriter<'_>, info: &mut TableInfo) -> SqlResult<()> {
    if info.id == 0 {
        info.id = meta.take_ids(1)?;
    }
    for definition in info
        .partition
        .iter_mut()
        .flat_map(|p| p.definitions.iter_mut().flatten())
    {
        if definition.id == 0 {
            definition.id = meta.take_ids(1)?;
        }
    }
    Ok(())
}

/// A plain string key of the meta space.
fn meta_string_key(name: &[u8]) -> Vec<u8> {
    let mut key = vec![b'm'];
    encode_bytes(&mut key, name);
    encode_u64(&mut key, u64::from(b's'));
    key
}

fn next_id_key() -> Vec<u8> {
    meta_string_key(b"NextGlobalID")
}

fn field_of(key: &[u8], hash: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.get(1..)?;
    (decode_bytes(&mut rest)? == hash).then_some(())?;
    rest = rest.get(8..)?;
    decode_bytes(&mut rest)
}

/// Reads of one snapshot and the writes that follow from them.
struct MetaWriter<'a> {
    engine: &'a dyn KvEngine,
    ts: Timestamp,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl MetaWriter<'_> {
    fn number(&self, key: &[u8]) -> SqlResult<u64> {
        let value = match self.writes.get(key) {
            Some(value) => value.clone(),
            None => self.engine.get(key, self.ts)?,
        };
        Ok(value
            .and_then(|v| String::from_utf8(v).ok())
            .and_then(|v| v.parse().ok())
            .unwrap_or(0))
    }

    fn put(&mut self, key: Vec<u8>, value: impl Into<Vec<u8>>) {
        self.writes.insert(key, Some(value.into()));
    }

    fn put_json(&mut self, key: Vec<u8>, value: &impl Serialize) -> SqlResult<()> {
        let text = serde_json::to_vec(value).map_err(|e| SqlError::new(code::UNKNOWN, e))?;
        self.put(key, text);
        Ok(())
    }

    fn put_table(&mut self, db_id: i64, info: &TableInfo) -> SqlResult<()> {
        let mut info = info.clone();
        info.update_timestamp = self.ts;
        self.put_json(keys::meta_table(db_id, info.id), &info)
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// The first of `count` fresh ids.
    fn take_ids(&mut self, count: u64) -> SqlResult<i64> {
        let key = next_id_key();
        let last = self.number(&key)?;
        self.put(key, (last + count).to_string());
        Ok(last as i64 + 1)
    }

    fn bump_schema_version(&mut self) -> SqlResult<()> {
        let key = meta_string_key(b"SchemaVersionKey");
        let version = self.number(&key)? + 1;
        self.put(key, version.to_string());
        Ok(())
    }

    fn mutations(self) -> Vec<Mutation> {
        let mutation = |(key, value)| match value {
            Some(value) => Mutation::Put(key, value),
            None => Mutation::Delete(key),
        };
        self.writes.into_iter().map(mutation).collect()
    }
}
