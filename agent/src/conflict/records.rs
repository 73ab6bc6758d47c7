//! What is told of participants: which of them, and for each its pair, its record and where it stands in the
//! source. Rows are read again from the source: runs hold pairs, but no places.

use super::bug;
use crate::encode::{Maps, chunk_of, format, refusal, source_of};
use crate::existing::{Reader, not_encoded};
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use thunderhead_codec::datum::Datum;
use thunderhead_codec::keys::{INT_RECORD_LEN, PREFIX_LEN, TableKey, parse};
use thunderhead_codec::schema::TableInfo;
use thunderhead_codec::session::Session;
use thunderhead_codec::table::{Row, Slot, TableDecoder};
use thunderhead_proto::thunderhead::{
    self as wire, ConflictRecord, EncodeTask, FilePart, TableSpec,
};
use thunderhead_source::open_records;
use thunderhead_types::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

/// Records of a table together; what is beyond is counted only. They travel in one message.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// A participant that is described.
pub(super) struct Chosen {
    row: u64,
    group: u64,
    key: Vec<u8>,
    lost: bool,
}

/// Chooses participants that come in source order: whole groups as far as the number goes, and of each group it
/// begins with at least two, because one alone says nothing.
pub(super) struct Chooser {
    max: u64,
    /// Promised to groups that were begun.
    reserved: u64,
    /// Members of each chosen group so far.
    groups: HashMap<u64, u32>,
    chosen: Vec<Chosen>,
    bytes: usize,
}

impl Chooser {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max,
            reserved: 0,
            groups: HashMap::new(),
            chosen: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn offer(&mut self, row: u64, group: u64, key: &[u8], lost: bool) {
        match self.groups.get_mut(&group) {
            None if self.reserved + 2 > self.max || self.bytes > RECORD_BYTES_MAX / 2 => return,
            None => {
                self.reserved += 2;
                self.groups.insert(group, 1);
            }
            // The second was promised.
            Some(members @ 1) => *members = 2,
            Some(_) if self.reserved >= self.max || self.bytes > RECORD_BYTES_MAX => return,
            Some(members) => {
                self.reserved += 1;
                *members += 1;
            }
        }
        self.bytes += key.len();
        self.chosen.push(Chosen {
            row,
            group,
            key: key.to_vec(),
            lost,
        });
    }

    pub(super) fn finish(self) -> Vec<Chosen> {
        self.chosen
    }
}

/// What has rows of its own: a part of a chunk, or existing rows.
enum Piece<'a> {
    File(&'a EncodeTask, &'a FilePart),
    Existing(&'a wire::ExistingRows),
}

impl<'a> Piece<'a> {
    /// Those of a chunk, in source order.
    fn of(chunk: &'a EncodeTask) -> impl Iterator<Item = Self> {
        let existing = chunk.existing.iter().map(Self::Existing);
        existing.chain(chunk.parts.iter().map(move |part| Self::File(chunk, part)))
    }

    /// The first of its row ids, and the one after the last.
    fn row_ids(&self) -> (i64, i64) {
        match self {
            Self::File(_, part) => (part.row_id_base, part.row_id_end),
            Self::Existing(existing) => {
                let end = existing.row_id_base.saturating_add_unsigned(existing.rows);
                (existing.row_id_base, end)
            }
        }
    }
}

/// What rows are read again from.
pub(super) struct Describe<'a> {
    pub(super) spec: &'a TableSpec,
    pub(super) cluster: Option<&'a Reader>,
    pub(super) cancel: &'a CancellationToken,
}

impl Describe<'_> {
    /// Describes participants that ascend by row.
    pub(super) fn all(
        &self,
        chunks: &[EncodeTask],
        chosen: Vec<Chosen>,
    ) -> Result<Vec<ConflictRecord>> {
        let spec = self.spec;
        let first_row_id = spec.conflict.as_ref().map_or(0, |c| c.first_row_id);
        let info: TableInfo = serde_json::from_slice(&spec.table_info_json).map_err(bug)?;
        let session: Session = serde_json::from_slice(&spec.session_json).map_err(bug)?;
        let texts = Texts {
            decoder: TableDecoder::compile(&info, &session)?,
            info,
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut rest = chosen.as_slice();
        for piece in chunks.iter().flat_map(Piece::of) {
            let (first, end) = piece.row_ids();
            let first = first.abs_diff(first_row_id);
            let end = end.abs_diff(first_row_id);
            let (here, behind) = rest.split_at(rest.partition_point(|chosen| chosen.row < end));
            rest = behind;
            if here.is_empty() || bytes > RECORD_BYTES_MAX {
                continue;
            }
            let mut found = 0;
            let mut take = |chosen: &Chosen, row: Again<'_>| {
                found += 1;
                if bytes <= RECORD_BYTES_MAX {
                    let record = texts.record(chosen, &row)?;
                    bytes += record_bytes(&record);
                    records.push(record);
                }
                Ok(())
            };
            let (path, read) = match piece {
                Piece::File(task, part) => {
                    let read = read_rows(spec, (task, part), first, here, self.cancel, take)?;
                    (&part.path, read)
                }
                Piece::Existing(existing) => {
                    self.existing(existing, first, here, &mut take)?;
                    (&existing.table_name, true)
                }
            };
            if read && found < here.len() {
                return Err(changed(path));
            }
        }
        match rest {
            [] => Ok(records),
            _ => Err(bug("a participant of no chunk")),
        }
    }

    /// As [`read_rows`], from the table itself.
    fn existing(
        &self,
        existing: &wire::ExistingRows,
        first: u64,
        chosen: &[Chosen],
        take: &mut impl FnMut(&Chosen, Again<'_>) -> Result<()>,
    ) -> Result<()> {
        let cluster = self.cluster.ok_or_else(|| bug("no cluster to read from"))?;
        let (mut number, mut rest) = (first, chosen);
        cluster.rows(self.spec, existing, |row, encoder| {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "", "stopped on request"));
            }
            let here = rest.iter().take_while(|chosen| chosen.row <= number);
            let (here, behind) = rest.split_at(here.count());
            rest = behind;
            number += 1;
            if !here.is_empty() {
                let mut pairs: Vec<(Slot, Vec<u8>, Vec<u8>)> = Vec::new();
                let mut collect = |slot: Slot, key: &[u8], value: &[u8]| {
                    pairs.push((slot, key.to_vec(), value.to_vec()));
                };
                encoder
                    .encode_decoded(row, &mut collect)
                    .map_err(|refused| not_encoded(self.spec, &refused.column))?;
                for chosen in here {
                    let again = Again {
                        path: &existing.table_name,
                        offset: 0,
                        line: 0,
                        pairs: &pairs,
                    };
                    take(chosen, again)?;
                }
            }
            Ok(!rest.is_empty())
        })?;
        Ok(())
    }
}

fn record_bytes(record: &ConflictRecord) -> usize {
    let texts = record.key_text.len() + record.row_text.len() + record.path.len();
    texts
        + record.key.len()
        + record.value.len()
        + record.record_key.len()
        + record.record_value.len()
}

fn changed(path: &str) -> Error {
    Error::new(ErrorKind::Data, path, "the file changed during the import")
        .advice("let nothing write to the source directory, then run the same command again")
}

/// A row that was read again.
struct Again<'a> {
    path: &'a str,
    offset: u64,
    line: u64,
    pairs: &'a [(Slot, Vec<u8>, Vec<u8>)],
}

/// Calls `take` for each of `chosen`, which lie in this part of a chunk, whose first row has the number `first`. False
/// when the file cannot be read here.
fn read_rows(
    spec: &TableSpec,
    (task, part): (&EncodeTask, &FilePart),
    first: u64,
    chosen: &[Chosen],
    cancel: &CancellationToken,
    mut take: impl FnMut(&Chosen, Again<'_>) -> Result<()>,
) -> Result<bool> {
    let mut format = format(task)?;
    // Whether malformed records were tolerated is settled; they are none of those that are looked for.
    format.skip_malformed = true;
    let there = source_of(task, part, &format).and_then(|source| match source.identity() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Data, source.name(), e))
        }
        _ => Ok(source),
    });
    let source = match there {
        Ok(source) => source,
        Err(error) => {
            // Not every agent of a fleet reads every source: what is counted and decided does not depend on it.
            tracing::warn!(%error, "conflicting rows of a file are not described here");
            return Ok(false);
        }
    };
    let mut maps = Maps::new(spec, task, &format)?;
    let mut reader = open_records(&source, &chunk_of(part), &format)?;
    let (mut number, mut rest) = (first, chosen);
    loop {
        let count = reader.advance()?;
        if count == 0 {
            break;
        }
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "", "stopped on request"));
        }
        let map = maps.of(reader.columns())?;
        let mut values = Vec::with_capacity(map.width());
        for index in 0..count {
            let here = rest.iter().take_while(|chosen| chosen.row <= number);
            let here = here.count();
            if here > 0 {
                let mut pairs: Vec<(Slot, Vec<u8>, Vec<u8>)> = Vec::new();
                let mut collect = |slot, key: &[u8], value: &[u8]| {
                    pairs.push((slot, key.to_vec(), value.to_vec()));
                };
                let row_id = part.row_id_base + (number - first) as i64;
                values.clear();
                let at = reader.record(index, &mut values);
                map.encode(&values, row_id, &mut collect)
                    .map_err(|refused| refusal(at.place(&part.path), map.width(), &refused))?;
                for chosen in &rest[..here] {
                    let again = Again {
                        path: &part.path,
                        offset: at.offset,
                        line: at.line,
                        pairs: &pairs,
                    };
                    take(chosen, again)?;
                }
                rest = &rest[here..];
            }
            number += 1;
        }
        if rest.is_empty() {
            break;
        }
    }
    Ok(true)
}

/// Turns pairs into text for people.
struct Texts {
    decoder: TableDecoder,
    info: TableInfo,
}

impl Texts {
    fn record(&self, chosen: &Chosen, row: &Again<'_>) -> Result<ConflictRecord> {
        let shared = row.pairs.iter().find(|(_, key, _)| *key == chosen.key);
        let record = row.pairs.iter().find(|(slot, ..)| *slot == Slot::Record);
        let (Some((slot, key, value)), Some((_, record_key, record_value))) = (shared, record)
        else {
            return Err(changed(row.path));
        };
        let decoded = self.decoder.record(record_key, record_value).map_err(bug)?;
        Ok(ConflictRecord {
            index_id: match slot {
                Slot::Record => 0,
                Slot::Index(id) => *id,
            },
            key: key.clone().into(),
            value: value.clone().into(),
            record_key: record_key.clone().into(),
            record_value: record_value.clone().into(),
            key_text: self.handle(record_key, &decoded),
            row_text: self.row(&decoded),
            path: row.path.to_owned(),
            offset: row.offset,
            line: row.line,
            row: chosen.row,
            group: chosen.group,
            lost: chosen.lost,
        })
    }

    /// The handle: a number, or the values of the clustered key.
    fn handle(&self, record_key: &[u8], row: &Row) -> String {
        if let Some(index) = self.info.clustered_index() {
            let values = index.columns().iter().map(|part| part.offset);
            return format!("{{{}}}", self.values(values, row));
        }
        if let Some(column) = self.info.handle_column() {
            return self.values([column.offset], row);
        }
        match (
            parse(record_key),
            record_key.get(PREFIX_LEN..INT_RECORD_LEN),
        ) {
            (Some(TableKey::Record { .. }), Some(handle)) => {
                let bytes: [u8; 8] = handle.try_into().unwrap_or_default();
                ((u64::from_be_bytes(bytes) ^ 1 << 63) as i64).to_string()
            }
            _ => String::new(),
        }
    }

    fn row(&self, row: &Row) -> String {
        let visible = self.info.columns().iter().filter(|column| !column.hidden);
        format!("({})", self.values(visible.map(|c| c.offset), row))
    }

    fn values(&self, offsets: impl IntoIterator<Item = usize>, row: &Row) -> String {
        let mut text = String::new();
        for offset in offsets {
            if !text.is_empty() {
                text.push_str(", ");
            }
            let column = self.info.columns().get(offset);
            let (Some(column), Some(datum)) = (column, row.datums.get(offset)) else {
                continue;
            };
            match datum.to_column_text(&column.field_type) {
                None => text.push_str("NULL"),
                Some(value) => push_literal(&mut text, datum, &value),
            }
        }
        text
    }
}

/// Numbers as they are, all else between quotes, what is no text as digits.
fn push_literal(text: &mut String, datum: &Datum, value: &[u8]) {
    let plain = matches!(
        datum,
        Datum::Int(_)
            | Datum::UInt(_)
            | Datum::Float(_)
            | Datum::Double(_)
            | Datum::Decimal(_)
            | Datum::Year(_)
    );
    match std::str::from_utf8(value) {
        Ok(number) if plain => text.push_str(number),
        Ok(string) if !matches!(datum, Datum::Bit(..)) => {
            text.push('\'');
            for c in string.chars() {
                match c {
                    '\'' => text.push_str("\\'"),
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    '\0' => text.push_str("\\0"),
                    c => text.push(c),
                }
            }
            text.push('\'');
        }
        _ => {
            text.push_str("0x");
            for byte in value {
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(max: u64, offers: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut chooser = Chooser::new(max);
        for &(row, group) in offers {
            chooser.offer(row, group, b"k", false);
        }
        let chosen = chooser.finish();
        chosen.iter().map(|c| (c.row, c.group)).collect()
    }

    #[test]
    fn a_group_that_is_begun_has_at_least_two_members_and_the_limit_holds() {
        let pairs = [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2), (6, 0)];
        assert_eq!(choose(100, &pairs), pairs);
        assert_eq!(choose(4, &pairs), [(0, 0), (1, 1), (3, 0), (4, 1)]);
        assert_eq!(choose(5, &pairs), [(0, 0), (1, 1), (3, 0), (4, 1), (6, 0)]);
        assert_eq!(choose(1, &pairs), []);
        assert_eq!(choose(0, &pairs), []);
    }

    #[test]
    fn values_read_as_in_sql() {
        let shown = |datum: Datum| {
            let mut text = String::new();
            push_literal(&mut text, &datum, &datum.to_text().unwrap_or_default());
            text
        };
        assert_eq!(shown(Datum::Int(-5)), "-5");
        assert_eq!(shown(Datum::Bytes(b"it's\n".to_vec())), "'it\\'s\\n'");
        assert_eq!(shown(Datum::Bytes(vec![0xff, 1])), "0xFF01");
    }
}
