//! Row values: format 2 (ids, offsets, data) and format 1 (tagged pairs), both ways. Which columns a row
//! holds is the encoder's decision; this module writes what it is given, in ascending order of column id.

use crate::cast::Cell;
use crate::decimal::{MyDecimal, SMALL_ROOM, encode_small, write_small};
use crate::mem::{
    comparable_f64, decode_bytes, decode_uvarint, decode_varint, encode_uvarint, encode_varint,
    f64_from_comparable, flags,
};
use crate::mysql::tp;
use crate::schema::FieldType;
use crate::time::{Civil, Time, TimeKind, Zone};
use std::borrow::Cow;

const VERSION: u8 = 0x80;
const LARGE: u8 = 1;
const CHECKSUM: u8 = 2;
/// Checksum header: version 2, which covers the handle.
const CHECKSUM_HEADER: u8 = 2;
pub(crate) const SMALL_DATA_MAX: usize = u16::MAX as usize;

/// Writer of one row in format 2. Columns come in ascending order of id.
#[derive(Clone, Debug, Default)]
pub struct RowWriter {
    ids: Vec<u32>,
    ends: Vec<u32>,
    nulls: Vec<u32>,
    data: Vec<u8>,
}

impl RowWriter {
    pub fn clear(&mut self) {
        self.ids.clear();
        self.ends.clear();
        self.nulls.clear();
        self.data.clear();
    }

    pub fn null(&mut self, id: u32) {
        self.nulls.push(id);
    }

    /// Adds a column whose payload `write` appends.
    #[inline]
    pub fn column(&mut self, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.data);
        self.ids.push(id);
        self.ends.push(self.data.len() as u32);
    }

    /// Adds a cell of precision and scale `decimal`, or NULL.
    #[inline]
    pub fn cell(&mut self, id: u32, cell: &Cell<'_>, decimal: (u8, u8)) {
        if cell.is_null() {
            return self.null(id);
        }
        self.column(id, |to| put_value(to, cell, decimal));
    }

    /// Appends the row.
    pub fn finish(&self, to: &mut Vec<u8>) {
        let over = |ids: &[u32]| ids.last().is_some_and(|id| *id > 255);
        let large = self.data.len() > SMALL_DATA_MAX || over(&self.ids) || over(&self.nulls);
        to.reserve(6 + (self.ids.len() + self.nulls.len()) * 8 + self.data.len());
        to.extend_from_slice(&[VERSION, if large { LARGE } else { 0 }]);
        to.extend_from_slice(&(self.ids.len() as u16).to_le_bytes());
        to.extend_from_slice(&(self.nulls.len() as u16).to_le_bytes());
        let ids = self.ids.iter().chain(&self.nulls);
        if large {
            ids.for_each(|id| to.extend_from_slice(&id.to_le_bytes()));
            self.ends
                .iter()
                .for_each(|end| to.extend_from_slice(&end.to_le_bytes()));
        } else {
            ids.for_each(|id| to.push(*id as u8));
            self.ends
                .iter()
                .for_each(|end| to.extend_from_slice(&(*end as u16).to_le_bytes()));
        }
        to.extend_from_slice(&self.data);
    }
}

/// What a row of format 2 begins with when all of `ids`, in ascending order, have a value and none is NULL;
/// `None` where such a row is large.
pub(crate) fn whole_row_head(ids: impl ExactSizeIterator<Item = i64>) -> Option<Vec<u8>> {
    let mut head = vec![VERSION, 0];
    head.extend_from_slice(&u16::try_from(ids.len()).ok()?.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    for id in ids {
        head.push(u8::try_from(id).ok()?);
    }
    Some(head)
}

/// Appends the checksum of a row that starts at `start`: CRC-32 of the row and its encoded handle.
pub(crate) fn put_checksum(row: &mut Vec<u8>, start: usize, handle: &[u8]) {
    row[start + 1] |= CHECKSUM;
    row.push(CHECKSUM_HEADER);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&row[start..]);
    crc.update(handle);
    row.extend_from_slice(&crc.finalize().to_le_bytes());
}

/// Bytes of the least of the widths 1, 2, 4, 8 that holds `v`.
#[inline]
fn int_len(v: i64) -> usize {
    // Bits without the sign, and the sign.
    width(65 - (v ^ v >> 63).leading_zeros())
}

#[inline]
fn uint_len(v: u64) -> usize {
    width(64 - v.leading_zeros())
}

#[inline]
fn width(bits: u32) -> usize {
    1 + usize::from(bits > 8) + usize::from(bits > 16) * 2 + usize::from(bits > 32) * 4
}

#[inline]
pub(crate) fn put_int(to: &mut Vec<u8>, v: i64) {
    put_low_bytes(to, v as u64, int_len(v));
}

#[inline]
pub(crate) fn put_uint(to: &mut Vec<u8>, v: u64) {
    put_low_bytes(to, v, uint_len(v));
}

/// Appends the low `len` bytes: one copy of constant size is cheaper than one of exact size.
#[inline]
fn put_low_bytes(to: &mut Vec<u8>, v: u64, len: usize) {
    to.extend_from_slice(&v.to_le_bytes());
    to.truncate(to.len() + len - 8);
}

/// Payload of a value in format 2. TIMESTAMPs are UTC by now.
#[inline]
fn put_value(to: &mut Vec<u8>, cell: &Cell<'_>, (precision, scale): (u8, u8)) {
    match cell {
        Cell::Null => {}
        Cell::Int(v) | Cell::Duration(v) => put_int(to, *v),
        Cell::UInt(v) | Cell::Time(v) => put_uint(to, *v),
        Cell::Double(v) => to.extend_from_slice(&comparable_f64(*v).to_be_bytes()),
        Cell::SmallDecimal { mantissa, .. } => {
            to.extend_from_slice(&[precision, scale]);
            encode_small(*mantissa, precision, scale, to);
        }
        Cell::Decimal(v) => {
            to.extend_from_slice(&[precision, scale]);
            v.encode(precision, scale, to);
        }
        Cell::Bytes(v) | Cell::Json(v) => to.extend_from_slice(v),
        Cell::Vector(v) => to.extend_from_slice(v),
    }
}

/// What [`write_value`] may touch for anything but a text, document or vector.
pub(crate) const VALUE_ROOM: usize = SMALL_ROOM + 2;

/// Why [`write_value`] wrote nothing.
pub(crate) enum Unwritten {
    /// It is NULL or a decimal of many digits.
    Other,
    /// So many more bytes are needed.
    Room(usize),
}

/// Writes a payload of format 2 at `at` and returns its end; what [`put_value`] appends.
#[inline]
pub(crate) fn write_value(
    to: &mut [u8],
    at: usize,
    cell: &Cell<'_>,
    (precision, scale): (u8, u8),
) -> Result<usize, Unwritten> {
    let (word, len) = match cell {
        Cell::Int(v) | Cell::Duration(v) => (v.to_le_bytes(), int_len(*v)),
        Cell::UInt(v) | Cell::Time(v) => (v.to_le_bytes(), uint_len(*v)),
        Cell::Double(v) => (comparable_f64(*v).to_be_bytes(), 8),
        Cell::Bytes(v) | Cell::Json(v) => return write_bytes(to, at, v),
        Cell::Vector(v) => return write_bytes(to, at, v),
        Cell::SmallDecimal { mantissa, .. } => {
            let place = to.get_mut(at..at + VALUE_ROOM);
            let place = place.ok_or(Unwritten::Room(VALUE_ROOM))?;
            place[..2].copy_from_slice(&[precision, scale]);
            return Ok(at + write_small(*mantissa, precision, scale, place, 2));
        }
        Cell::Null | Cell::Decimal(_) => return Err(Unwritten::Other),
    };
    let place = to.get_mut(at..at + 8).ok_or(Unwritten::Room(VALUE_ROOM))?;
    place.copy_from_slice(&word);
    Ok(at + len)
}

#[inline]
fn write_bytes(to: &mut [u8], at: usize, bytes: &[u8]) -> Result<usize, Unwritten> {
    let end = at + bytes.len();
    let place = to
        .get_mut(at..end)
        .ok_or(Unwritten::Room(bytes.len() + VALUE_ROOM))?;
    // Two copies of constant size that overlap are cheaper than one of exact size.
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            place[..8].copy_from_slice(first);
            place[bytes.len() - 8..].copy_from_slice(last);
        }
        _ => place.copy_from_slice(bytes),
    }
    Ok(end)
}

/// Appends one column in format 1.
pub(crate) fn put_v1(to: &mut Vec<u8>, id: i64, cell: &Cell<'_>, (precision, scale): (u8, u8)) {
    to.push(flags::VARINT);
    encode_varint(to, id);
    match cell {
        Cell::Null => to.push(flags::NIL),
        Cell::Int(v) | Cell::Duration(v) => {
            to.push(flags::VARINT);
            encode_varint(to, *v);
        }
        Cell::UInt(v) | Cell::Time(v) => {
            to.push(flags::UVARINT);
            encode_uvarint(to, *v);
        }
        Cell::Double(v) => {
            to.push(flags::FLOAT);
            to.extend_from_slice(&comparable_f64(*v).to_be_bytes());
        }
        Cell::SmallDecimal { mantissa, .. } => {
            to.extend_from_slice(&[flags::DECIMAL, precision, scale]);
            encode_small(*mantissa, precision, scale, to);
        }
        Cell::Decimal(v) => {
            to.extend_from_slice(&[flags::DECIMAL, precision, scale]);
            v.encode(precision, scale, to);
        }
        Cell::Bytes(v) => {
            to.push(flags::COMPACT_BYTES);
            encode_varint(to, v.len() as i64);
            to.extend_from_slice(v);
        }
        Cell::Json(v) => {
            to.push(flags::JSON);
            to.extend_from_slice(v);
        }
        Cell::Vector(v) => {
            to.push(flags::VECTOR);
            to.extend_from_slice(v);
        }
    }
}

/// A row in format 2, read in place.
#[derive(Clone, Copy, Debug)]
pub struct RowReader<'a> {
    large: bool,
    not_null: usize,
    nulls: usize,
    /// Ids, then offsets.
    table: &'a [u8],
    data: &'a [u8],
}

/// What a row says about a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    Value(&'a [u8]),
    Null,
    /// Not in the row: the column's origin default.
    Missing,
}

impl<'a> RowReader<'a> {
    /// `None` when the row is malformed or not of format 2.
    pub fn new(row: &'a [u8]) -> Option<RowReader<'a>> {
        let (head, rest) = row.split_first_chunk::<6>()?;
        if head[0] != VERSION || head[1] & !(LARGE | CHECKSUM) != 0 {
            return None;
        }
        let large = head[1] & LARGE != 0;
        let not_null = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let nulls = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let (id, offset) = if large { (4, 4) } else { (1, 2) };
        let len = (not_null + nulls) * id + not_null * offset;
        let (table, data) = rest.split_at_checked(len)?;
        Some(RowReader {
            large,
            not_null,
            nulls,
            table,
            data,
        })
    }

    fn number(&self, at: usize, width: usize) -> usize {
        let bytes = &self.table[at..at + width];
        bytes
            .iter()
            .rev()
            .fold(0, |v, byte| v << 8 | usize::from(*byte))
    }

    fn id(&self, i: usize) -> i64 {
        let width = if self.large { 4 } else { 1 };
        self.number(i * width, width) as i64
    }

    fn end(&self, i: usize) -> usize {
        let (id, width) = if self.large { (4, 4) } else { (1, 2) };
        self.number((self.not_null + self.nulls) * id + i * width, width)
    }

    pub fn get(&self, id: i64) -> Option<Stored<'a>> {
        if let Some(i) = (0..self.not_null).find(|i| self.id(*i) == id) {
            let start = i.checked_sub(1).map_or(0, |before| self.end(before));
            return self.data.get(start..self.end(i)).map(Stored::Value);
        }
        let null = (self.not_null..self.not_null + self.nulls).any(|i| self.id(i) == id);
        Some(if null { Stored::Null } else { Stored::Missing })
    }
}

fn signed(bytes: &[u8]) -> Option<i64> {
    Some(match *bytes {
        [a] => i64::from(a as i8),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => i64::from_le_bytes(*bytes.first_chunk().filter(|_| bytes.len() == 8)?),
    })
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 1 | 2 | 4 | 8).then(|| {
        bytes
            .iter()
            .rev()
            .fold(0, |v, byte| v << 8 | u64::from(*byte))
    })
}

fn time_kind(field_type: &FieldType) -> Option<TimeKind> {
    match field_type.tp {
        tp::DATE => Some(TimeKind::Date),
        tp::DATETIME => Some(TimeKind::Datetime),
        tp::TIMESTAMP => Some(TimeKind::Timestamp),
        _ => None,
    }
}

fn time_cell(packed: u64, kind: TimeKind, zone: &Zone) -> Option<Cell<'static>> {
    // Impossible clocks would break calendar arithmetic later.
    let civil = Civil::from_packed(packed);
    let possible = civil.year <= 9999 && civil.day <= 31 && civil.micro < 1_000_000;
    let time = Time::from_packed(packed, kind, 6);
    let local = if kind == TimeKind::Timestamp && possible {
        zone.to_local(time)
    } else {
        time
    };
    possible.then_some(Cell::Time(local.packed()))
}

/// Reads a payload of format 2 as a cell of `field_type`; TIMESTAMPs become local.
pub(crate) fn read_value(
    bytes: &[u8],
    field_type: &FieldType,
    zone: &Zone,
) -> Option<Cell<'static>> {
    if let Some(kind) = time_kind(field_type) {
        return time_cell(unsigned(bytes)?, kind, zone);
    }
    Some(match field_type.tp {
        _ if field_type.is_integer() && !field_type.is_unsigned() => Cell::Int(signed(bytes)?),
        _ if field_type.is_integer() => Cell::UInt(unsigned(bytes)?),
        tp::YEAR => Cell::Int(signed(bytes)?),
        tp::ENUM | tp::SET | tp::BIT => Cell::UInt(unsigned(bytes)?),
        tp::DURATION => Cell::Duration(signed(bytes)?),
        tp::FLOAT | tp::DOUBLE => {
            let bits = *bytes.first_chunk::<8>()?;
            Cell::Double(f64_from_comparable(u64::from_be_bytes(bits)))
        }
        tp::NEW_DECIMAL => {
            let ([precision, scale], mut rest) = bytes.split_first_chunk::<2>()?;
            Cell::decimal(MyDecimal::decode(*precision, *scale, &mut rest)?)
        }
        tp::JSON => Cell::Json(Cow::Owned(bytes.to_vec())),
        tp::VECTOR => Cell::Vector(bytes.to_vec()),
        _ => Cell::Bytes(Cow::Owned(bytes.to_vec())),
    })
}

/// Reads one flagged datum of a key (or of format 1) from the front, as a cell of `field_type`. Strings
/// come back as their sort keys.
pub(crate) fn read_flagged(
    from: &mut &[u8],
    field_type: &FieldType,
    zone: &Zone,
) -> Option<Cell<'static>> {
    let (flag, rest) = from.split_first()?;
    *from = rest;
    let number = |signed: i64, unsigned: u64| -> Option<Cell<'static>> {
        if let Some(kind) = time_kind(field_type) {
            return time_cell(unsigned, kind, zone);
        }
        let wide = matches!(field_type.tp, tp::ENUM | tp::SET | tp::BIT)
            || (field_type.is_integer() && field_type.is_unsigned());
        Some(match field_type.tp {
            tp::DURATION => Cell::Duration(signed),
            _ if wide => Cell::UInt(unsigned),
            _ => Cell::Int(signed),
        })
    };
    match *flag {
        flags::NIL => Some(Cell::Null),
        flags::BYTES => Some(Cell::Bytes(Cow::Owned(decode_bytes(from)?))),
        flags::COMPACT_BYTES => {
            let len = usize::try_from(decode_varint(from)?).ok()?;
            let (bytes, rest) = from.split_at_checked(len)?;
            *from = rest;
            Some(Cell::Bytes(Cow::Owned(bytes.to_vec())))
        }
        flags::INT | flags::DURATION => {
            let v = crate::mem::decode_i64(from)?;
            number(v, v as u64)
        }
        flags::UINT => {
            let v = crate::mem::decode_u64(from)?;
            number(v as i64, v)
        }
        flags::VARINT => {
            let v = decode_varint(from)?;
            number(v, v as u64)
        }
        flags::UVARINT => {
            let v = decode_uvarint(from)?;
            number(v as i64, v)
        }
        flags::FLOAT => Some(Cell::Double(f64_from_comparable(crate::mem::decode_u64(
            from,
        )?))),
        flags::DECIMAL => {
            let ([precision, scale], mut rest) = from.split_first_chunk::<2>()?;
            let decimal = MyDecimal::decode(*precision, *scale, &mut rest)?;
            *from = rest;
            Some(Cell::decimal(decimal))
        }
        flags::JSON => {
            let document = std::mem::take(from);
            Some(Cell::Json(Cow::Owned(document.to_vec())))
        }
        flags::VECTOR => {
            let dimension = u32::from_le_bytes(*from.first_chunk::<4>()?) as usize;
            let (bytes, rest) = from.split_at_checked(4 + dimension.checked_mul(4)?)?;
            *from = rest;
            Some(Cell::Vector(bytes.to_vec()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn row(columns: &[(u32, Cell<'_>)]) -> Vec<u8> {
        let mut writer = RowWriter::default();
        columns
            .iter()
            .for_each(|(id, cell)| writer.cell(*id, cell, (10, 2)));
        let mut out = Vec::new();
        writer.finish(&mut out);
        out
    }

    #[test]
    fn rows_have_the_published_bytes() {
        assert_eq!(hex(&row(&[])), "800000000000");
        assert_eq!(hex(&row(&[(1, Cell::Int(7))])), "80000100000001010007");
        assert_eq!(
            hex(&row(&[(1, Cell::Int(7)), (2, Cell::Null)])),
            "8000010001000102010007"
        );
        assert_eq!(
            hex(&row(&[(300, Cell::Int(1))])),
            "8001010000002c0100000100000001"
        );
        let large = row(&[
            (1, Cell::Int(2)),
            (3, Cell::Null),
            (256, Cell::Bytes(Cow::Borrowed(b"z"))),
        ]);
        assert_eq!(
            hex(&large),
            "8001020001000100000000010000030000000100000002000000027a"
        );
        let decimal = MyDecimal::parse(b"12.50").0;
        assert!(hex(&row(&[(3, Cell::decimal(decimal))])).ends_with("0a028000000c32"));
    }

    #[test]
    fn a_checksum_covers_row_and_handle() {
        let mut bytes = row(&[(1, Cell::Int(7))]);
        put_checksum(&mut bytes, 0, &[0x80, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(hex(&bytes), "800201000000010100070293072d85");
        assert_eq!(
            RowReader::new(&bytes).unwrap().get(1),
            Some(Stored::Value(&[7]))
        );
    }

    #[test]
    fn integers_take_the_least_width() {
        for (v, len) in [
            (0, 1),
            (-128, 1),
            (128, 2),
            (-32_769, 4),
            (1 << 31, 8),
            (i64::MIN, 8),
        ] {
            let mut out = Vec::new();
            put_int(&mut out, v);
            assert_eq!((out.len(), signed(&out)), (len, Some(v)));
        }
    }

    #[test]
    fn the_reader_finds_what_the_writer_wrote() {
        let bytes = row(&[
            (1, Cell::Int(7)),
            (2, Cell::Null),
            (5, Cell::Bytes(Cow::Borrowed(b"abc"))),
        ]);
        let reader = RowReader::new(&bytes).unwrap();
        assert_eq!(reader.get(1), Some(Stored::Value(&[7])));
        assert_eq!(reader.get(2), Some(Stored::Null));
        assert_eq!(reader.get(5), Some(Stored::Value(b"abc")));
        assert_eq!(reader.get(3), Some(Stored::Missing));
        assert!(RowReader::new(&bytes[..7]).is_none());
    }
}
