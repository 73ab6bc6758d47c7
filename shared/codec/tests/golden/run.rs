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

/// What a case that agrees still said otherwise: texts of errors, which only the repository's own cases must
/// match.
pub type Notes = Vec<String>;

pub fn run(case: &Case) -> Result<Notes, String> {
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
    let (prior, unseen) = take_prior_rows(case, &decoder, &mut expected);
    let mut notes = Notes::new();
    let actual = encode_all(case, &session, &expected, prior, &mut notes)?;
    drop_unseen_rows(unseen, &decoder, &actual, &mut expected);
    compare(&actual, &expected).map(|()| notes)
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

/// Ids that an INSERT hands out. AUTO_INCREMENT and `_tidb_rowid` share one counter unless the table keeps
/// them apart; AUTO_RANDOM has its own.
struct Numbering {
    next: i64,
    next_row_id: i64,
    separate: bool,
    auto_field: Option<usize>,
    /// Bits of the counter in an AUTO_RANDOM id.
    random_mask: Option<u64>,
    zero_is_value: bool,
}

impl Numbering {
    fn new(case: &Case) -> Numbering {
        let info = &case.table_info;
        let random = info.auto_random_bits > 0;
        let auto = info.columns().iter().position(|column| match random {
            true => info
                .handle_column()
                .is_some_and(|handle| handle.id == column.id),
            false => column.field_type.has_flag(flag::AUTO_INCREMENT),
        });
        let auto_field = auto.and_then(|offset| match &case.columns {
            None => Some(offset),
            Some(names) => names
                .iter()
                .position(|name| name.to_lowercase() == info.columns()[offset].name.lower),
        });
        let range = if info.auto_random_range_bits == 0 {
            64
        } else {
            info.auto_random_range_bits
        };
        let signed = info
            .handle_column()
            .is_some_and(|column| !column.field_type.is_unsigned());
        let random_mask =
            random.then(|| u64::MAX >> (64 - (range - info.auto_random_bits - u64::from(signed))));
        let zero_is_value = case.sql_mode.contains("NO_AUTO_VALUE_ON_ZERO");
        Numbering {
            next: 1,
            next_row_id: 1,
            separate: info.auto_id_cache == 1,
            auto_field,
            random_mask,
            zero_is_value,
        }
    }

    fn take(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    fn take_row_id(&mut self) -> i64 {
        if self.separate {
            self.next_row_id += 1;
            return self.next_row_id - 1;
        }
        self.take()
    }

    /// Gives the automatic column its value. Shards are the server's choice: they are read off what it
    /// stored.
    fn fill(&mut self, fields: &mut [Owned], expected: &Pairs) {
        let Some(field) = self.auto_field.and_then(|at| fields.get_mut(at)) else {
            return;
        };
        let given: Option<i64> = match &*field {
            Owned::Text(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            Owned::Int(v) => Some(*v),
            Owned::UInt(v) => i64::try_from(*v).ok(),
            Owned::Binary(_) => return,
            Owned::Null => None,
        };
        let counter = |id: i64| match self.random_mask {
            Some(mask) => (id as u64 & mask) as i64,
            None => id,
        };
        match given {
            Some(v) if v != 0 || self.zero_is_value => self.next = self.next.max(counter(v) + 1),
            None if matches!(field, Owned::Text(_)) => {}
            _ => {
                let n = self.next;
                let id = self
                    .random_mask
                    .map_or(n, |mask| stored_id(expected, n, mask));
                *field = Owned::Int(id);
                self.next += 1;
            }
        }
    }
}

/// The id with this counter part that the server stored.
fn stored_id(expected: &Pairs, counter: i64, mask: u64) -> i64 {
    let handle = |key: &Vec<u8>| match parse(key) {
        Some(TableKey::Record { handle, .. }) => handle
            .first_chunk::<8>()
            .map(|id| u64::from_be_bytes(*id) ^ 1 << 63),
        _ => None,
    };
    let mut ids = expected.keys().filter_map(handle);
    ids.find(|id| id & mask == counter as u64)
        .map_or(counter, |id| id as i64)
}

fn encode_all(
    case: &Case,
    session: &Session,
    expected: &Pairs,
    prior: Pairs,
    notes: &mut Notes,
) -> Result<Pairs, String> {
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
    let mut stored = prior.clone();
    for (number, row) in case.rows.iter().enumerate() {
        let mut fields: Vec<Owned> = row.fields.iter().map(|value| value.owned()).collect();
        numbering.fill(&mut fields, expected);
        let before = (numbering.next, numbering.next_row_id);
        let row_id = if info.has_row_id() {
            numbering.take_row_id()
        } else {
            0
        };
        if sharded {
            let mask = i64::MAX as u64 >> info.shard_row_id_bits;
            fields.push(Owned::Int(stored_id(expected, row_id, mask)));
        }
        let result = encode_row(&mut encoder, &fields, row_id, &mut stored);
        if info.has_row_id()
            && result
                .as_ref()
                .is_err_and(|error| error.code != code::DUP_ENTRY)
        {
            // The id is handed out when the row is written.
            (numbering.next, numbering.next_row_id) = before;
        }
        let outcome = check_outcome(row.error_code, row.error.as_deref(), &result);
        let note = outcome.map_err(|text| format!("row {}: {text}", number + 1))?;
        notes.extend(note.map(|text| format!("row {}: {text}", number + 1)));
    }
    stored.retain(|key, _| !prior.contains_key(key));
    Ok(stored)
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

/// Compares by error code; a text that differs is a note.
fn check_outcome(
    code: Option<u16>,
    message: Option<&str>,
    result: &Result<(), RowError>,
) -> Result<Option<String>, String> {
    let rejected = code.is_some() || message.is_some();
    let wanted = message.unwrap_or_default();
    match result {
        Ok(()) if rejected => Err(format!("was stored, TiDB says {wanted}")),
        Err(error) if !rejected => Err(format!("was rejected: {} {}", error.code, error.message)),
        Err(error) if error.code != code.unwrap_or(0) => Err(format!(
            "{} {}, TiDB says {wanted}",
            error.code, error.message
        )),
        Err(error) if error.code != code::DUP_ENTRY && error.message != plain_message(wanted) => {
            Ok(Some(format!(
                "says `{}`, TiDB `{}`",
                error.message,
                plain_message(wanted)
            )))
        }
        _ => Ok(None),
    }
}

/// Takes out what rows inserted by the DDL left: they are stored as the table was then. Also returns how many
/// of them do not look like what was inserted, because the DDL changed them after.
fn take_prior_rows(case: &Case, decoder: &TableDecoder, expected: &mut Pairs) -> (Pairs, usize) {
    let (mut taken, mut unseen) = (Pairs::new(), 0);
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
            let mut pairs = row.datums.iter().zip(&wanted);
            pairs
                .all(|(datum, wanted)| datum.to_text() == *wanted)
                .then(|| (key.clone(), row.handle))
        });
        match found {
            Some((key, handle)) => taken.extend(take_row(&key, &handle, decoder, expected)),
            None => unseen += 1,
        }
    }
    (taken, unseen)
}

/// Takes out a record and the index entries that lead to it.
fn take_row(key: &[u8], handle: &[u8], decoder: &TableDecoder, expected: &mut Pairs) -> Pairs {
    let of_row = |other: &Vec<u8>, value: &Vec<u8>| {
        other == key
            || decoder
                .entry(other, value)
                .is_ok_and(|entry| entry.handle == handle)
    };
    let (taken, kept) = std::mem::take(expected)
        .into_iter()
        .partition(|(k, v)| of_row(k, v));
    *expected = kept;
    taken
}

/// Takes out the records that no row of the case made, if there are exactly as many as the DDL is known to
/// have left.
fn drop_unseen_rows(unseen: usize, decoder: &TableDecoder, actual: &Pairs, expected: &mut Pairs) {
    let surplus = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let row = decoder.record(key, value).ok()?;
        (!actual.contains_key(key)).then(|| (key.clone(), row.handle))
    };
    let left: Vec<_> = expected.iter().filter_map(surplus).collect();
    if left.len() == unseen {
        for (key, handle) in left {
            take_row(&key, &handle, decoder, expected);
        }
    }
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
