//! Runs one case: numbers rows as a SQL INSERT does, encodes, compares, decodes back.

use crate::case::{Case, Owned, hex, prior_rows, unhex};
use std::collections::BTreeMap;
use thunderhead_codec::cast::Field;
use thunderhead_codec::keys::{TableKey, parse};
use thunderhead_codec::mysql::{code, flag};
use thunderhead_codec::session::{Session, SqlMode};
use thunderhead_codec::table::{RowError, Slot, TableDecoder, TableEncoder};
use thunderhead_codec::time::Zone;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The error text without the server's class and row number.
fn plain_message(text: &str) -> String {
    let body = text.split_once(']').map_or(text, |(_, body)| body);
    body.strip_suffix(" at row 1").unwrap_or(body).to_owned()
}

pub fn run(case: &Case) -> Result<(), String> {
    // A global variable reaches a session with delay: whether rows have checksums is read off the rows.
    let row_checksum = case.kvs.iter().any(|kv| {
        kv.k[18..].starts_with("5f72") && kv.v.starts_with("8002") | kv.v.starts_with("8003")
    });
    let session = Session {
        row_checksum,
        sql_mode: SqlMode::parse(&case.sql_mode),
        time_zone: Zone::parse(&case.time_zone).map_err(|error| error.to_string())?,
        // The cases were made by INSERTs of one row.
        null_becomes_zero: false,
        ..Session::default()
    };
    let mut expected: Pairs = case
        .kvs
        .iter()
        .map(|kv| (unhex(&kv.k), unhex(&kv.v)))
        .collect();
    check_checksum(case, &expected)?;
    let decoder =
        TableDecoder::compile(&case.table_info, &session).map_err(|error| error.to_string())?;
    check_decoded(case, &session, &decoder, &expected)?;
    remove_prior_rows(case, &decoder, &mut expected)?;
    let actual = encode_all(case, &session, &expected)?;
    compare(&actual, &expected)
}

fn check_checksum(case: &Case, expected: &Pairs) -> Result<(), String> {
    let mut tally = thunderhead_types::Checksum::default();
    expected
        .iter()
        .for_each(|(key, value)| tally.add(key, value));
    let stored = &case.checksum;
    if (tally.crc64_xor, tally.kvs, tally.bytes)
        == (stored.crc64_xor, stored.total_kvs, stored.total_bytes)
    {
        return Ok(());
    }
    Err(format!("checksum of the stored pairs is {tally:?}"))
}

/// Ids that an INSERT hands out. AUTO_INCREMENT and `_tidb_rowid` share one counter.
struct Numbering {
    next: i64,
    auto_field: Option<usize>,
    zero_is_value: bool,
}

impl Numbering {
    fn new(case: &Case) -> Numbering {
        let columns = case.table_info.columns();
        let auto = columns
            .iter()
            .position(|column| column.field_type.has_flag(flag::AUTO_INCREMENT));
        let auto_field = auto.and_then(|offset| match &case.columns {
            None => Some(offset),
            Some(names) => names
                .iter()
                .position(|name| name.to_lowercase() == columns[offset].name.lower),
        });
        Numbering {
            next: 1,
            auto_field,
            zero_is_value: case.sql_mode.contains("NO_AUTO_VALUE_ON_ZERO"),
        }
    }

    fn take(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    /// Gives the AUTO_INCREMENT column its value.
    fn fill(&mut self, fields: &mut [Owned]) {
        let Some(field) = self.auto_field.and_then(|at| fields.get_mut(at)) else {
            return;
        };
        let given = match &*field {
            Owned::Text(text) => std::str::from_utf8(text).unwrap().trim().parse().ok(),
            Owned::Int(v) => Some(*v),
            Owned::UInt(v) => i64::try_from(*v).ok(),
            _ => None,
        };
        match given {
            Some(v) if v != 0 || self.zero_is_value => self.next = self.next.max(v + 1),
            _ => *field = Owned::Int(self.take()),
        }
    }
}

fn encode_all(case: &Case, session: &Session, expected: &Pairs) -> Result<Pairs, String> {
    let info = &case.table_info;
    let sharded = info.has_row_id() && info.shard_row_id_bits > 0;
    let mut columns = case.columns.clone();
    if sharded {
        // Shards are the server's choice: rows take over the ids that they were stored with.
        let all = || {
            info.columns()
                .iter()
                .filter(|c| !c.hidden)
                .map(|c| c.name.original.clone())
                .collect()
        };
        columns
            .get_or_insert_with(all)
            .push("_tidb_rowid".to_owned());
    }
    let mut encoder = TableEncoder::compile(info, session, columns.as_deref())
        .map_err(|error| error.to_string())?;
    let mut numbering = Numbering::new(case);
    let mut stored = Pairs::new();
    for (number, row) in case.rows.iter().enumerate() {
        let mut fields: Vec<Owned> = row.fields.iter().map(|value| value.owned()).collect();
        numbering.fill(&mut fields);
        let row_id = if info.has_row_id() {
            numbering.take()
        } else {
            0
        };
        if sharded {
            fields.push(Owned::Int(stored_id(
                expected,
                row_id,
                info.shard_row_id_bits as u32,
            )));
        }
        let result = encode_row(&mut encoder, &fields, row_id, &mut stored);
        if info.has_row_id()
            && result
                .as_ref()
                .is_err_and(|error| error.code != code::DUP_ENTRY)
        {
            numbering.next = row_id;
        }
        check_outcome(row.error_code, row.error.as_deref(), &result)
            .map_err(|text| format!("row {}: {text}", number + 1))?;
    }
    Ok(stored)
}

fn stored_id(expected: &Pairs, counter: i64, shard_bits: u32) -> i64 {
    let ids = expected.keys().filter_map(|key| match parse(key) {
        Some(TableKey::Record { handle, .. }) => {
            Some((u64::from_be_bytes(handle.try_into().unwrap()) ^ 1 << 63) as i64)
        }
        _ => None,
    });
    let mask = i64::MAX >> shard_bits;
    ids.into_iter()
        .find(|id| id & mask == counter)
        .unwrap_or(counter)
}

fn encode_row(
    encoder: &mut TableEncoder,
    fields: &[Owned],
    row_id: i64,
    stored: &mut Pairs,
) -> Result<(), RowError> {
    let borrowed: Vec<Field<'_>> = fields
        .iter()
        .map(|field| match field {
            Owned::Null => Field::Null,
            Owned::Text(text) => Field::Text(text),
            Owned::Binary(bytes) => Field::Binary(bytes),
            Owned::Int(v) => Field::Int(*v),
            Owned::UInt(v) => Field::UInt(*v),
        })
        .collect();
    let mut pairs = Vec::new();
    let mut sink = |_: Slot, key: &[u8], value: &[u8]| pairs.push((key.to_vec(), value.to_vec()));
    encoder.encode_row(&borrowed, row_id, &mut sink)?;
    if pairs.iter().any(|(key, _)| stored.contains_key(key)) {
        return Err(RowError {
            column: String::new(),
            code: code::DUP_ENTRY,
            message: String::new(),
        });
    }
    stored.extend(pairs);
    Ok(())
}

fn check_outcome(
    code: Option<u16>,
    message: Option<&str>,
    result: &Result<(), RowError>,
) -> Result<(), String> {
    let rejected = code.is_some() || message.is_some();
    match result {
        Ok(()) if rejected => Err(format!(
            "was stored, TiDB says {}",
            message.unwrap_or_default()
        )),
        Err(error) if !rejected => Err(format!("was rejected: {} {}", error.code, error.message)),
        Err(error) if error.code != code.unwrap_or(0) => Err(format!(
            "{} {}, TiDB says {}",
            error.code,
            error.message,
            message.unwrap_or_default()
        )),
        Err(error) if error.code != code::DUP_ENTRY => {
            let wanted = plain_message(message.unwrap_or_default());
            if error.message == wanted {
                Ok(())
            } else {
                Err(format!("says `{}`, TiDB `{wanted}`", error.message))
            }
        }
        _ => Ok(()),
    }
}

/// Takes out what rows inserted by the DDL left, after looking that they decode to what was inserted.
fn remove_prior_rows(
    case: &Case,
    decoder: &TableDecoder,
    expected: &mut Pairs,
) -> Result<(), String> {
    for prior in prior_rows(&case.ddl) {
        let text = |owned: &Owned| match owned {
            Owned::Null => None,
            Owned::Text(bytes) | Owned::Binary(bytes) => Some(bytes.clone()),
            Owned::Int(v) => Some(v.to_string().into_bytes()),
            Owned::UInt(v) => Some(v.to_string().into_bytes()),
        };
        let wanted: Vec<_> = prior.iter().map(text).collect();
        let found = expected.iter().find_map(|(key, value)| {
            let row = decoder.record(key, value).ok()?;
            let same = row
                .datums
                .iter()
                .zip(&wanted)
                .all(|(datum, wanted)| datum.to_text() == *wanted);
            same.then(|| (key.clone(), row.handle))
        });
        let (key, handle) = found.ok_or("a row of the DDL cannot be decoded")?;
        expected.remove(&key);
        expected.retain(|key, value| {
            decoder
                .entry(key, value)
                .map_or(true, |entry| entry.handle != handle)
        });
    }
    Ok(())
}

/// Decoded records, encoded again, must give every stored pair.
fn check_decoded(
    case: &Case,
    session: &Session,
    decoder: &TableDecoder,
    expected: &Pairs,
) -> Result<(), String> {
    let mut encoder = TableEncoder::compile(&case.table_info, session, None)
        .map_err(|error| error.to_string())?;
    let mut again = Pairs::new();
    for (key, value) in expected {
        if matches!(parse(key), Some(TableKey::Index { .. })) {
            let entry = decoder
                .entry(key, value)
                .map_err(|error| format!("{}: {error}", hex(key)))?;
            let led = expected.keys().any(|key| matches!(parse(key),
                Some(TableKey::Record { physical_id, handle }) if physical_id == entry.physical_id && handle == entry.handle));
            if !led {
                return Err(format!("entry {} leads to no record", hex(key)));
            }
            continue;
        }
        let row = decoder
            .record(key, value)
            .map_err(|error| format!("{}: {error}", hex(key)))?;
        let mut sink = |_: Slot, key: &[u8], value: &[u8]| {
            again.insert(key.to_vec(), value.to_vec());
        };
        encoder
            .encode_decoded(&row, &mut sink)
            .map_err(|error| error.message)?;
    }
    let old_rows = !prior_rows(&case.ddl).is_empty();
    // Rows older than a column do not have it; encoding them again adds it.
    if old_rows {
        Ok(())
    } else {
        compare(&again, expected).map_err(|text| format!("decoded and encoded again: {text}"))
    }
}

fn compare(actual: &Pairs, expected: &Pairs) -> Result<(), String> {
    for (key, value) in expected {
        match actual.get(key) {
            None => return Err(format!("missing {} = {}", hex(key), hex(value))),
            Some(other) if other != value => {
                return Err(format!(
                    "{} is {} instead of {}",
                    hex(key),
                    hex(other),
                    hex(value)
                ));
            }
            _ => {}
        }
    }
    match actual.iter().find(|(key, _)| !expected.contains_key(*key)) {
        Some((key, value)) => Err(format!("surplus {} = {}", hex(key), hex(value))),
        None => Ok(()),
    }
}
