//! ADMIN CHECK TABLE: every row is decoded and encoded again, every index entry is read and decoded, and the
//! two sets must be one.
//!
//! The first pass compares sets: each index has a count and a keyed hash sum of the entries its rows ask
//! for, and of the entries it has. (The sum must not be linear in keys and values: a XOR of CRCs is blind
//! to two entries that changed values with each other.) Only when they differ a second pass looks entry
//! by entry, to say what is wrong and where.

use super::write::row_error;
use crate::catalog::{Table, all_ids};
use crate::error::{SqlError, SqlResult, code};
use crate::session::Session;
use crate::view::View;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use thunderhead_codec::keys;
use thunderhead_codec::mysql::state;
use thunderhead_codec::schema::IndexInfo;
use thunderhead_codec::table::{Row, Slot, TableDecoder, TableEncoder};

/// Index id, key, value.
type Entry = (i64, Vec<u8>, Vec<u8>);

/// A set of pairs, as good as listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest {
    count: u64,
    sum: u128,
}

struct Checker<'a> {
    table: &'a Table,
    view: View,
    encoder: TableEncoder,
    decoder: TableDecoder,
    hashes: [RandomState; 2],
}

/// Checks all indexes of the table, or the one that is named.
pub fn check_table(session: &mut Session, table: &Table, only: Option<&str>) -> SqlResult<()> {
    let encoding = session.encoding();
    let mut checker = Checker {
        table,
        view: session.view()?,
        encoder: TableEncoder::compile(&table.info, &encoding, None)?,
        decoder: TableDecoder::compile(&table.info, &encoding)?,
        hashes: [RandomState::new(), RandomState::new()],
    };
    let named = |i: &&IndexInfo| only.is_none_or(|name| i.idx_name.lower == name.to_lowercase());
    let indexes: Vec<&IndexInfo> = table
        .info
        .indexes()
        .iter()
        .filter(|i| {
            i.state == state::PUBLIC
                && !i.is_columnar()
                && !(i.is_primary && table.info.is_common_handle)
        })
        .filter(named)
        .collect();
    if only.is_some() && indexes.is_empty() {
        return Err(SqlError::new(
            1176,
            format!(
                "Key '{}' doesn't exist in table '{}'",
                only.unwrap_or_default(),
                table.info.name.original
            ),
        ));
    }
    let expected = checker.rows(session)?;
    for index in indexes {
        let found = checker.entries(session, index)?;
        if found != expected.get(&index.id).copied().unwrap_or_default() {
            checker.explain(index)?;
            let text = format!(
                "table {}, index {}: entries and rows differ in a way that no single entry shows",
                table.info.name.original, index.idx_name.original
            );
            return Err(SqlError::new(code::ADMIN_CHECK_TABLE, text));
        }
    }
    Ok(())
}

/// A handle as a message shows it.
fn handle_text(handle: &[u8]) -> String {
    match handle.first_chunk::<8>() {
        Some(bytes) if handle.len() == 8 => {
            ((u64::from_be_bytes(*bytes) ^ 1 << 63) as i64).to_string()
        }
        _ => handle.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

impl Checker<'_> {
    fn add(hashes: &[RandomState; 2], digest: &mut Digest, key: &[u8], value: &[u8]) {
        let [high, low] = [0, 1].map(|i| u128::from(hashes[i].hash_one((key, value))));
        digest.count += 1;
        digest.sum = digest.sum.wrapping_add(high << 64 | low);
    }

    fn inconsistent(
        &self,
        index: &str,
        handle: &[u8],
        index_side: &str,
        record_side: &str,
    ) -> SqlError {
        let table = &self.table.info.name.original;
        let text = format!(
            "data inconsistency in table: {table}, index: {index}, handle: {}, index-values:\"{index_side}\" != record-values:\"{record_side}\"",
            handle_text(handle)
        );
        SqlError::new(code::DATA_INCONSISTENT, text)
    }

    fn decode(&self, key: &[u8], value: &[u8]) -> SqlResult<Row> {
        self.decoder.record(key, value).map_err(|error| {
            let text = format!(
                "table {}: a record cannot be decoded: {error}",
                self.table.info.name.original
            );
            SqlError::new(code::ADMIN_CHECK_TABLE, text)
        })
    }

    /// Entries that a row asks for.
    fn wanted(&mut self, row: &Row) -> SqlResult<Vec<Entry>> {
        let mut entries = Vec::new();
        self.encoder
            .encode_decoded(row, &mut |slot: Slot, key: &[u8], value: &[u8]| {
                if let Slot::Index(id) = slot {
                    entries.push((id, key.to_vec(), value.to_vec()));
                }
            })
            .map_err(|e| row_error(&e, 1))?;
        Ok(entries)
    }

    /// Digest of what the rows ask of each index.
    fn rows(&mut self, session: &Session) -> SqlResult<BTreeMap<i64, Digest>> {
        let mut digests: BTreeMap<i64, Digest> = BTreeMap::new();
        for physical in self.table.info.physical_ids() {
            for (i, pair) in self.view.scan(keys::record_range(physical)).enumerate() {
                let (key, value) = pair?;
                let row = self.decode(&key, &value)?;
                let hashes = &self.hashes;
                self.encoder
                    .encode_decoded(&row, &mut |slot: Slot, key: &[u8], value: &[u8]| {
                        if let Slot::Index(id) = slot {
                            Self::add(hashes, digests.entry(id).or_default(), key, value);
                        }
                    })
                    .map_err(|e| row_error(&e, 1))?;
                if i % 4096 == 0 {
                    session.check_killed()?;
                }
            }
        }
        Ok(digests)
    }

    /// Digest of the entries there are, each of them decoded.
    fn entries(&self, session: &Session, index: &IndexInfo) -> SqlResult<Digest> {
        let mut digest = Digest::default();
        for physical in all_ids(&self.table.info) {
            for (i, pair) in self
                .view
                .scan(keys::index_range(physical, index.id))
                .enumerate()
            {
                let (key, value) = pair?;
                self.decoder
                    .entry(&key, &value)
                    .map_err(|error| self.bad_entry(index, &error.to_string()))?;
                Self::add(&self.hashes, &mut digest, &key, &value);
                if i % 4096 == 0 {
                    session.check_killed()?;
                }
            }
        }
        Ok(digest)
    }

    fn bad_entry(&self, index: &IndexInfo, cause: &str) -> SqlError {
        SqlError::new(
            code::ADMIN_CHECK_TABLE,
            format!(
                "table {}, index {}: {cause}",
                self.table.info.name.original, index.idx_name.original
            ),
        )
    }

    /// Finds the entry that is missing, wrong or too many, and fails with it.
    fn explain(&mut self, index: &IndexInfo) -> SqlResult<()> {
        let name = &index.idx_name.original;
        for physical in self.table.info.physical_ids() {
            for pair in self.view.clone().scan(keys::record_range(physical)) {
                let (key, value) = pair?;
                let row = self.decode(&key, &value)?;
                for (id, key, value) in self.wanted(&row)? {
                    if id != index.id {
                        continue;
                    }
                    match self.view.get(&key)? {
                        None => {
                            return Err(self.inconsistent(
                                name,
                                &row.handle,
                                "",
                                "a row whose index entry is missing",
                            ));
                        }
                        Some(found) if found != value => {
                            return Err(self.inconsistent(
                                name,
                                &row.handle,
                                "an entry with another value",
                                "the row's entry",
                            ));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        for physical in all_ids(&self.table.info) {
            for pair in self
                .view
                .clone()
                .scan(keys::index_range(physical, index.id))
            {
                let (key, value) = pair?;
                let entry = self
                    .decoder
                    .entry(&key, &value)
                    .map_err(|e| self.bad_entry(index, &e.to_string()))?;
                let record =
                    [keys::record_prefix(entry.physical_id), entry.handle.clone()].concat();
                let Some(row) = self.view.get(&record)? else {
                    return Err(self.inconsistent(
                        name,
                        &entry.handle,
                        "an entry without a row",
                        "",
                    ));
                };
                let row = self.decode(&record, &row)?;
                if !self
                    .wanted(&row)?
                    .iter()
                    .any(|(id, k, _)| *id == index.id && *k == key)
                {
                    return Err(self.inconsistent(
                        name,
                        &entry.handle,
                        "an entry that the row does not have",
                        "the row",
                    ));
                }
            }
        }
        Ok(())
    }
}
