//! Rows into pairs and back, over a view: inserting with a look at what is there already, deleting every
//! pair a row has, filling a new index.

use super::rows::Owned;
use crate::catalog::Table;
use crate::error::{SqlError, SqlResult, code};
use crate::session::Session;
use crate::view::{View, Writes};
use std::collections::BTreeMap;
use thunderhead_codec::keys;
use thunderhead_codec::schema::{IndexInfo, TableInfo};
use thunderhead_codec::session::Session as Encoding;
use thunderhead_codec::table::{AutoIds, Field, Row, RowError, Slot, TableDecoder, TableEncoder};

/// Pairs of one row.
pub type Pairs = Vec<(Slot, Vec<u8>, Vec<u8>)>;

/// Something is there already.
pub struct Conflict {
    /// Key of the record in the way.
    pub record: Vec<u8>,
    pub error: SqlError,
}

/// Writes rows of one table during one statement.
pub struct RowWriter {
    pub table: Table,
    view: View,
    pub writes: Writes,
    encoding: Encoding,
    /// Encoders by the columns that are given.
    encoders: BTreeMap<Vec<String>, TableEncoder>,
    whole: TableEncoder,
    decoder: TableDecoder,
    pub auto_ids: AutoIds,
}

/// The statement's error for a rejected row.
pub fn row_error(error: &RowError, row: usize) -> SqlError {
    let code = if error.code == 0 {
        code::UNKNOWN
    } else {
        error.code
    };
    let places = matches!(code, 1264 | 1265 | 1292 | 1366 | 1406);
    SqlError::new(
        code,
        if places {
            format!("{} at row {row}", error.message)
        } else {
            error.message.clone()
        },
    )
}

impl RowWriter {
    /// `strict_null`: NULL for a NOT NULL column is an error in every sql_mode, as in an INSERT of one row.
    pub fn new(session: &mut Session, table: Table, strict_null: bool) -> SqlResult<Self> {
        let encoding = Encoding {
            null_becomes_zero: !strict_null,
            ..session.encoding()
        };
        let view = session.locked_view()?;
        let whole = TableEncoder::compile(&table.info, &encoding, None)?;
        let decoder = TableDecoder::compile(&table.info, &encoding)?;
        Ok(Self {
            table,
            view,
            writes: Writes::new(),
            encoding,
            encoders: BTreeMap::new(),
            whole,
            decoder,
            auto_ids: AutoIds::default(),
        })
    }

    pub fn info(&self) -> &TableInfo {
        &self.table.info
    }

    fn get(&self, key: &[u8]) -> SqlResult<Option<Vec<u8>>> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.view.get(key)?),
        }
    }

    /// Pairs of a row given by column; DEFAULT counts as not given.
    pub fn encode(
        &mut self,
        columns: &[String],
        values: &[Owned],
        row_id: i64,
        row: usize,
    ) -> SqlResult<Pairs> {
        let given = || {
            columns
                .iter()
                .zip(values)
                .filter(|(_, v)| **v != Owned::Default)
        };
        let names: Vec<String> = given().map(|(c, _)| c.clone()).collect();
        let fields: Vec<Field<'_>> = given().map(|(_, v)| v.field()).collect();
        if !self.encoders.contains_key(&names) {
            let encoder = TableEncoder::compile(&self.table.info, &self.encoding, Some(&names))?;
            self.encoders.insert(names.clone(), encoder);
        }
        let encoder = self
            .encoders
            .get_mut(&names)
            .ok_or_else(|| SqlError::new(code::UNKNOWN, "no encoder"))?;
        let mut pairs = Pairs::new();
        let outcome = encoder.encode_row(
            &fields,
            row_id,
            &mut |slot: Slot, key: &[u8], value: &[u8]| {
                pairs.push((slot, key.to_vec(), value.to_vec()))
            },
        );
        self.auto_ids.merge(&encoder.auto_ids());
        outcome.map_err(|e| row_error(&e, row))?;
        Ok(pairs)
    }

    /// The first record or unique entry that is taken.
    pub fn conflict(&self, pairs: &Pairs) -> SqlResult<Option<Conflict>> {
        for (slot, key, _) in pairs {
            let index = match slot {
                Slot::Record => None,
                Slot::Index(id) => self.info().indexes().iter().find(|i| i.id == *id),
            };
            if index.is_some_and(|i| !i.is_unique) {
                continue;
            }
            if let Some(value) = self.get(key)? {
                let record = match slot {
                    Slot::Record => key.clone(),
                    Slot::Index(_) => {
                        let entry = self
                            .decoder
                            .entry(key, &value)
                            .map_err(|e| SqlError::new(code::DATA_INCONSISTENT, e))?;
                        [keys::record_prefix(entry.physical_id), entry.handle].concat()
                    }
                };
                let error = self.duplicate(pairs, index);
                return Ok(Some(Conflict { record, error }));
            }
        }
        Ok(None)
    }

    /// 1062 with the values of the key.
    fn duplicate(&self, pairs: &Pairs, index: Option<&IndexInfo>) -> SqlError {
        let info = self.info();
        let record = pairs.iter().find(|(slot, ..)| *slot == Slot::Record);
        let row = record.and_then(|(_, key, value)| self.decoder.record(key, value).ok());
        let clustered = info.clustered_index();
        let offsets: Vec<usize> = match index.or(clustered) {
            Some(index) => index.columns().iter().map(|c| c.offset).collect(),
            None => info.handle_column().map(|c| c.offset).into_iter().collect(),
        };
        let text = |offset: &usize| {
            row.as_ref()
                .and_then(|r| r.datums.get(*offset))
                .and_then(|d| d.to_text())
                .map_or("NULL".to_owned(), |t| {
                    String::from_utf8_lossy(&t).into_owned()
                })
        };
        let values: Vec<String> = offsets.iter().map(text).collect();
        let name = index.map_or("PRIMARY", |i| i.idx_name.original.as_str());
        SqlError::new(
            code::DUP_ENTRY,
            format!(
                "Duplicate entry '{}' for key '{}.{name}'",
                values.join("-"),
                info.name.original
            ),
        )
    }

    pub fn put(&mut self, pairs: Pairs) {
        self.writes
            .extend(pairs.into_iter().map(|(_, key, value)| (key, Some(value))));
    }

    /// The row of a record key, if it is still there.
    pub fn row(&self, record: &[u8]) -> SqlResult<Option<Row>> {
        let Some(value) = self.get(record)? else {
            return Ok(None);
        };
        let row = self
            .decoder
            .record(record, &value)
            .map_err(|e| SqlError::new(code::DATA_INCONSISTENT, e))?;
        Ok(Some(row))
    }

    /// Whether a pair is the record of exactly that row.
    pub fn decodes_to(&self, key: &[u8], value: &[u8], row: &Row) -> bool {
        self.decoder
            .record(key, value)
            .is_ok_and(|decoded| decoded == *row)
    }

    /// Removes every pair of a row.
    pub fn delete(&mut self, row: &Row) -> SqlResult<()> {
        let mut gone = Vec::new();
        self.whole
            .encode_decoded(row, &mut |_: Slot, key: &[u8], _: &[u8]| {
                gone.push(key.to_vec())
            })
            .map_err(|e| row_error(&e, 1))?;
        self.writes.extend(gone.into_iter().map(|key| (key, None)));
        Ok(())
    }

    /// Hands the writes to the session's transaction.
    pub fn finish(self, session: &mut Session) -> SqlResult<()> {
        session.write(self.writes)
    }
}

/// Writes the entries of new indexes for all rows there are, a batch of rows at a time.
pub fn backfill(session: &mut Session, table: &Table, indexes: &[i64]) -> SqlResult<()> {
    const BATCH_PAIRS: usize = 10_000;
    let encoding = session.encoding();
    let mut encoder = TableEncoder::compile(&table.info, &encoding, None)?;
    let decoder = TableDecoder::compile(&table.info, &encoding)?;
    let view = session.view()?;
    let unique = |id: i64| {
        table
            .info
            .indexes()
            .iter()
            .any(|i| i.id == id && i.is_unique)
    };
    let mut batch = Writes::new();
    for physical in table.info.physical_ids() {
        for pair in view.scan(keys::record_range(physical)) {
            let (key, value) = pair?;
            let row = decoder
                .record(&key, &value)
                .map_err(|e| SqlError::new(code::DATA_INCONSISTENT, e))?;
            let mut entries = Pairs::new();
            encoder
                .encode_decoded(&row, &mut |slot: Slot, key: &[u8], value: &[u8]| {
                    if matches!(slot, Slot::Index(id) if indexes.contains(&id)) {
                        entries.push((slot, key.to_vec(), value.to_vec()));
                    }
                })
                .map_err(|e| row_error(&e, 1))?;
            for (slot, key, value) in entries {
                let taken = matches!(slot, Slot::Index(id) if unique(id))
                    && (batch.contains_key(&key)
                        || session
                            .engine()
                            .get(&key, session.engine().tso()?)?
                            .is_some());
                if taken {
                    let name = table
                        .info
                        .indexes()
                        .iter()
                        .find(|i| slot == Slot::Index(i.id))
                        .map_or("", |i| i.idx_name.original.as_str());
                    return Err(SqlError::new(
                        code::DUP_ENTRY,
                        format!(
                            "Duplicate entry for key '{}.{name}'",
                            table.info.name.original
                        ),
                    ));
                }
                batch.insert(key, Some(value));
            }
            if batch.len() >= BATCH_PAIRS {
                flush(session, &mut batch)?;
            }
        }
    }
    flush(session, &mut batch)
}

fn flush(session: &mut Session, batch: &mut Writes) -> SqlResult<()> {
    if batch.is_empty() {
        return Ok(());
    }
    session.locked_view()?;
    session.write(std::mem::take(batch))?;
    session.commit()
}
