//! What of a file is Thrift, the footer and the header of each page, looked at before the library reads it. The
//! library skips what it does not know element by element, booleans in a list as if they took no bytes, and it
//! reads a field it knows as the type it expects, whatever type stands there: some bytes could keep it busy for
//! hours, or ask it for more memory than there is. Owns the rules by which that cannot happen; what the fields
//! mean is the library's.
//!
//! Source: parquet.thrift of the format, and the compact protocol of Thrift.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

/// Structures in structures. The format needs 8.
const DEPTH_MAX: usize = 32;
/// Groups in groups of a schema, which the library reads by recursion.
const GROUPS_MAX: usize = 64;

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    /// A boolean, which stands in the type.
    Flag,
    Byte,
    /// Of any width.
    Number,
    /// The same, and it is told to who asked.
    Noted(Note),
    Double,
    Bytes,
    Struct(&'static [Field]),
    List(&'static Shape),
    /// A list of schema elements: a tree in depth-first order.
    Tree(&'static [Field]),
}

/// A number that the rules need.
#[derive(Clone, Copy)]
enum Note {
    Children,
    Unpacked,
    Packed,
    Dictionary,
}

/// Its number in its structure, and what it holds.
type Field = (i16, Shape);

use Shape::{Byte, Bytes, Double, Flag, List, Noted, Number, Struct, Tree};

/// A choice without content.
const NOTHING: Shape = Struct(&[]);
const NUMBERS: Shape = List(&Number);

const UNIT: Shape = Struct(&[(1, NOTHING), (2, NOTHING), (3, NOTHING)]);
const WHEN: Shape = Struct(&[(1, Flag), (2, UNIT)]);

const LOGICAL: Shape = Struct(&[
    (1, NOTHING),
    (2, NOTHING),
    (3, NOTHING),
    (4, NOTHING),
    (5, Struct(&[(1, Number), (2, Number)])),
    (6, NOTHING),
    (7, WHEN),
    (8, WHEN),
    (10, Struct(&[(1, Byte), (2, Flag)])),
    (11, NOTHING),
    (12, NOTHING),
    (13, NOTHING),
    (14, NOTHING),
    (15, NOTHING),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Bytes)])),
    (18, Struct(&[(1, Bytes), (2, Number)])),
    (19, NOTHING),
]);

const SCHEMA_ELEMENT: &[Field] = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (4, Bytes),
    (5, Noted(Note::Children)),
    (6, Number),
    (7, Number),
    (8, Number),
    (9, Number),
    (10, LOGICAL),
];

const STATISTICS: Shape = Struct(&[
    (1, Bytes),
    (2, Bytes),
    (3, Number),
    (4, Number),
    (5, Bytes),
    (6, Bytes),
    (7, Flag),
    (8, Flag),
    (9, Number),
]);

const BOX: Shape = Struct(&[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
]);

const COLUMN_META: Shape = Struct(&[
    (1, Number),
    (2, NUMBERS),
    (3, List(&Bytes)),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Number),
    (8, KEY_VALUES),
    (9, Number),
    (10, Number),
    (11, Number),
    (12, STATISTICS),
    (13, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))),
    (14, Number),
    (15, Number),
    (16, Struct(&[(1, Number), (2, NUMBERS), (3, NUMBERS)])),
    (17, Struct(&[(1, BOX), (2, NUMBERS)])),
]);

const COLUMN: Shape = Struct(&[
    (1, Bytes),
    (2, Number),
    (3, COLUMN_META),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Number),
]);

const KEY_VALUES: Shape = List(&Struct(&[(1, Bytes), (2, Bytes)]));

const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN)),
    (2, Number),
    (3, Number),
    (4, List(&Struct(&[(1, Number), (2, Flag), (3, Flag)]))),
    (5, Number),
    (6, Number),
    (7, Number),
]);

/// The footer.
const FILE: &[Field] = &[
    (1, Number),
    (2, Tree(SCHEMA_ELEMENT)),
    (3, Number),
    (4, List(&ROW_GROUP)),
    (5, KEY_VALUES),
    (6, Bytes),
    (7, List(&UNIT)),
];

/// In front of each page.
const PAGE: &[Field] = &[
    (1, Number),
    (2, Noted(Note::Unpacked)),
    (3, Noted(Note::Packed)),
    (4, Number),
    (
        5,
        Struct(&[
            (1, Number),
            (2, Number),
            (3, Number),
            (4, Number),
            (5, STATISTICS),
        ]),
    ),
    (6, NOTHING),
    (
        7,
        Struct(&[(1, Noted(Note::Dictionary)), (2, Number), (3, Flag)]),
    ),
    (
        8,
        Struct(&[
            (1, Number),
            (2, Number),
            (3, Number),
            (4, Number),
            (5, Number),
            (6, Number),
            (7, Flag),
            (8, STATISTICS),
        ]),
    ),
];

/// Why the bytes are not for the library.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    /// They cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They break a rule.
    #[error("{why}")]
    Bytes {
        /// Of the file.
        byte: u64,
        /// The rule.
        why: String,
    },
}

/// Holds if the footer at byte `start` of the file can be given to the library.
pub(super) fn check_footer(footer: &[u8], start: u64) -> Result<(), Wrong> {
    let mut walk = Walk::new(footer, start, footer.len() as u64);
    walk.structure(FILE, DEPTH_MAX)
}

/// The header of the page at byte `start` of the file, where `from` stands; `left` bytes of the file follow.
pub(super) fn read_page_header(from: impl Read, start: u64, left: u64) -> Result<Vec<u8>, Wrong> {
    let mut walk = Walk::new(from, start, left.min(HEADER_MAX));
    walk.structure(PAGE, DEPTH_MAX)?;
    let [_, unpacked, packed, dictionary] = walk.noted;
    let allowed = PAGE_FREE.saturating_add(packed.max(0).saturating_mul(PAGE_RATIO_MAX));
    if unpacked > allowed {
        let why = format!("a page of {packed} bytes cannot have {unpacked} when it is unpacked");
        return Err(Wrong::Bytes { byte: start, why });
    }
    // Each value of a dictionary takes a byte at least, and the library makes room for all of them at once.
    if dictionary > unpacked {
        let why = format!("a dictionary of {unpacked} bytes cannot have {dictionary} values");
        return Err(Wrong::Bytes { byte: start, why });
    }
    Ok(walk.seen)
}

/// A header is longer only by its statistics: some values, as long as they may be.
const HEADER_MAX: u64 = 64 << 20;
/// Bytes that any page may have, however few it is packed to.
const PAGE_FREE: i64 = 64 << 20;
/// Beyond [`PAGE_FREE`]: unpacked bytes per packed byte, as for files.
const PAGE_RATIO_MAX: i64 = 2_000;

/// Reads a structure once, from its first byte to its last one.
struct Walk<R> {
    from: R,
    /// Byte of the file where it begins.
    start: u64,
    /// Bytes it may have.
    max: u64,
    seen: Vec<u8>,
    /// By [`Note`].
    noted: [i64; 4],
}

impl<R: Read> Walk<R> {
    fn new(from: R, start: u64, max: u64) -> Self {
        Self {
            from,
            start,
            max,
            seen: Vec::new(),
            noted: [0; 4],
        }
    }

    fn wrong<T>(&self, why: &str) -> Result<T, Wrong> {
        Err(Wrong::Bytes {
            byte: self.start + self.seen.len() as u64,
            why: why.to_owned(),
        })
    }

    fn left(&self) -> u64 {
        self.max - self.seen.len() as u64
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let mut byte = [0];
        if self.left() == 0 || self.from.read(&mut byte)? == 0 {
            return self.wrong("the structure goes on behind its end");
        }
        self.seen.push(byte[0]);
        Ok(byte[0])
    }

    fn skip(&mut self, count: u64) -> Result<(), Wrong> {
        if count > self.left() {
            return self.wrong(&format!(
                "{count} bytes do not fit into the {} that are left",
                self.left()
            ));
        }
        let read = self.from.by_ref().take(count).read_to_end(&mut self.seen)?;
        if (read as u64) < count {
            return self.wrong("the structure goes on behind its end");
        }
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, Wrong> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        self.wrong("a number has more than 10 bytes")
    }

    fn signed(&mut self) -> Result<i64, Wrong> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn structure(&mut self, fields: &'static [Field], depth: usize) -> Result<(), Wrong> {
        let Some(depth) = depth.checked_sub(1) else {
            return self.wrong("structures stand in structures without end");
        };
        let mut last = 0i16;
        loop {
            let head = self.byte()?;
            let wire = head & 0xf;
            if wire == 0 {
                return Ok(());
            }
            let id = match head >> 4 {
                0 => self.signed()? as i16,
                delta => match last.checked_add(delta.into()) {
                    Some(id) => id,
                    None => return self.wrong("a field has a number above 32767"),
                },
            };
            last = id;
            match fields.iter().find(|field| field.0 == id) {
                Some((_, shape)) if shape.is(wire) => self.value(*shape, depth)?,
                Some(_) => return self.wrong(&format!("field {id} has the type {wire}")),
                None => self.any(wire, depth)?,
            }
        }
    }

    fn value(&mut self, shape: Shape, depth: usize) -> Result<(), Wrong> {
        match shape {
            Flag => Ok(()),
            Byte => self.skip(1),
            Number => self.unsigned().map(|_| ()),
            Noted(note) => {
                // As wide as the library reads it.
                self.noted[note as usize] = (self.signed()? as i32).into();
                Ok(())
            }
            Double => self.skip(8),
            Bytes => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            Struct(fields) => self.structure(fields, depth),
            List(element) => {
                let (count, wire) = self.list()?;
                for _ in 0..count {
                    match element.is(wire) {
                        true => self.value(*element, depth)?,
                        false => self.any(wire, depth)?,
                    }
                }
                Ok(())
            }
            Tree(element) => self.tree(element, depth),
        }
    }

    /// A schema. Groups that are open are counted as the library would open them.
    fn tree(&mut self, element: &'static [Field], depth: usize) -> Result<(), Wrong> {
        let (count, wire) = self.list()?;
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            if wire != STRUCT {
                return self.wrong("an element of the schema is no structure");
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            self.noted[Note::Children as usize] = 0;
            self.structure(element, depth)?;
            let children = self.noted[Note::Children as usize];
            if !(0..count as i64).contains(&children) {
                return self.wrong(&format!(
                    "{children} columns stand in a group of the schema"
                ));
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > GROUPS_MAX {
                return self.wrong("groups of the schema stand in groups without end");
            }
        }
        Ok(())
    }

    /// Elements of a list and their type.
    fn list(&mut self) -> Result<(u64, u8), Wrong> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.unsigned()?,
            few => few.into(),
        };
        self.count(count, &[head & 0xf])?;
        Ok((count, head & 0xf))
    }

    /// An element takes a byte at least. Of booleans the library says that they take none when it skips them:
    /// no list of the footer or a page header has any.
    fn count(&self, count: u64, wires: &[u8]) -> Result<(), Wrong> {
        if count > self.left() {
            return self.wrong(&format!(
                "{count} elements do not fit into the {} bytes that are left",
                self.left()
            ));
        }
        if count > 0 && wires.iter().any(|wire| [TRUE, FALSE].contains(wire)) {
            return self.wrong("a list of booleans");
        }
        Ok(())
    }

    /// What the library skips.
    fn any(&mut self, wire: u8, depth: usize) -> Result<(), Wrong> {
        let Some(inside) = depth.checked_sub(1) else {
            return self.wrong("lists stand in lists without end");
        };
        match wire {
            TRUE | FALSE => Ok(()),
            3 => self.skip(1),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.skip(8),
            BYTES => self.value(Bytes, inside),
            LIST | SET => {
                let (count, wire) = self.list()?;
                (0..count).try_for_each(|_| self.any(wire, inside))
            }
            11 => {
                let count = self.unsigned()?;
                if count == 0 {
                    return Ok(());
                }
                let wires = self.byte()?;
                let (key, value) = (wires >> 4, wires & 0xf);
                self.count(count, &[key, value])?;
                (0..count).try_for_each(|_| {
                    self.any(key, inside)?;
                    self.any(value, inside)
                })
            }
            STRUCT => self.structure(&[], depth),
            13 => self.skip(16),
            other => self.wrong(&format!("there is no type {other}")),
        }
    }
}

/// Types on the wire.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTES: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

impl Shape {
    /// Whether a field or an element of type `wire` is one.
    fn is(self, wire: u8) -> bool {
        match self {
            Flag => [TRUE, FALSE].contains(&wire),
            Byte => wire == 3,
            Number | Noted(_) => (4..=6).contains(&wire),
            Double => wire == 7,
            Bytes => wire == BYTES,
            Struct(_) => wire == STRUCT,
            List(_) | Tree(_) => [LIST, SET].contains(&wire),
        }
    }
}
