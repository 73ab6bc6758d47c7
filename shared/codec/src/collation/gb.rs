//! GBK and GB18030 maps: TiDB stores such columns as UTF-8 and needs the codes for `gbk_bin` and
//! `gb18030_bin` keys, for the check that a character exists in the charset, and for literals and files in
//! these encodings.
//!
//! One table of two-byte codes carries both. GB18030's four-byte codes enumerate the rest of the BMP in
//! order, then the other planes. GB18030-2022 exchanges the codes of 19 pairs of code points. GBK is the
//! two-byte area without private use characters and without the euro sign.

use std::sync::OnceLock;

const LEAD_MIN: u8 = 0x81;
const LEAD_MAX: u8 = 0xfe;
const TRAILS: usize = 190;
/// Linear number of the four-byte code 90308130, which is U+10000.
const SUPPLEMENTARY: u32 = 189_000;
const EURO: char = '\u{20ac}';

/// Pairs of code points that exchange their codes in GB18030-2022.
const SWAPS: [(u16, u16); 19] = [
    (0x1e3f, 0xe7c7),
    (0x9fb4, 0xe81e),
    (0x9fb5, 0xe826),
    (0x9fb6, 0xe82b),
    (0x9fb7, 0xe82c),
    (0x9fb8, 0xe832),
    (0x9fb9, 0xe843),
    (0x9fba, 0xe854),
    (0x9fbb, 0xe864),
    (0xfe10, 0xe78d),
    (0xfe11, 0xe78f),
    (0xfe12, 0xe78e),
    (0xfe13, 0xe790),
    (0xfe14, 0xe791),
    (0xfe15, 0xe792),
    (0xfe16, 0xe793),
    (0xfe17, 0xe794),
    (0xfe18, 0xe795),
    (0xfe19, 0xe796),
];

/// A code: its value and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    value: u32,
    len: u8,
}

impl Code {
    fn new(value: u32) -> Code {
        let len = match value {
            0..=0x7f => 1,
            0x80..=0xffff => 2,
            _ => 4,
        };
        Code { value, len }
    }

    /// Appends the code's bytes.
    pub fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value.to_be_bytes()[4 - usize::from(self.len)..]);
    }
}

struct Maps {
    /// Code of each code point of the BMP; 0 for surrogates.
    codes: Vec<u32>,
    /// Code point of each two-byte code.
    two_byte: Vec<u16>,
    /// Code point of each four-byte code of the BMP.
    four_byte: Vec<u16>,
}

fn maps() -> &'static Maps {
    static MAPS: OnceLock<Maps> = OnceLock::new();
    MAPS.get_or_init(|| {
        let packed = include_bytes!("../../data/gb18030.bin");
        let two_byte: Vec<u16> = packed
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let mut codes: Vec<u32> = vec![0; 0x1_0000];
        for (index, point) in two_byte.iter().enumerate() {
            codes[usize::from(*point)] = two_byte_code(index);
        }
        let mut linear = 0;
        for (point, code) in codes.iter_mut().enumerate().skip(0x80) {
            if *code == 0 && !(0xd800..0xe000).contains(&point) {
                *code = four_byte_code(linear);
                linear += 1;
            }
        }
        for (left, right) in SWAPS {
            codes.swap(usize::from(left), usize::from(right));
        }
        let mut maps = Maps {
            codes,
            two_byte,
            four_byte: vec![0; linear as usize],
        };
        for (left, right) in SWAPS {
            maps.assign(left);
            maps.assign(right);
        }
        for point in 0x80..=0xffffu16 {
            maps.assign(point);
        }
        maps
    })
}

impl Maps {
    /// Makes the code of `point` decode to it.
    fn assign(&mut self, point: u16) {
        let bytes = self.codes[usize::from(point)].to_be_bytes();
        if let Some(linear) = linear_of(bytes) {
            if let Some(slot) = self.four_byte.get_mut(linear as usize) {
                *slot = point;
            }
        } else if let Some(index) = two_byte_index(bytes[2], bytes[3]) {
            self.two_byte[index] = point;
        }
    }
}

fn two_byte_code(index: usize) -> u32 {
    let (lead, trail) = (index / TRAILS, index % TRAILS);
    // Trail bytes skip 7f.
    let trail = trail + if trail < 0x3f { 0x40 } else { 0x41 };
    (u32::from(LEAD_MIN) + lead as u32) << 8 | trail as u32
}

fn two_byte_index(lead: u8, trail: u8) -> Option<usize> {
    let trail = match trail {
        0x40..=0x7e => trail - 0x40,
        0x80..=0xfe => trail - 0x41,
        _ => return None,
    };
    (LEAD_MIN..=LEAD_MAX)
        .contains(&lead)
        .then(|| usize::from(lead - LEAD_MIN) * TRAILS + usize::from(trail))
}

fn four_byte_code(linear: u32) -> u32 {
    let bytes = [
        0x81 + linear / 12_600,
        0x30 + linear / 1260 % 10,
        0x81 + linear / 10 % 126,
        0x30 + linear % 10,
    ];
    bytes.iter().fold(0, |code, byte| code << 8 | byte)
}

fn linear_of(code: [u8; 4]) -> Option<u32> {
    let high = |byte: u8| {
        (LEAD_MIN..=LEAD_MAX)
            .contains(&byte)
            .then(|| u32::from(byte - LEAD_MIN))
    };
    let low = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    let [a, b, c, d] = code;
    Some(((high(a)? * 10 + low(b)?) * 126 + high(c)?) * 10 + low(d)?)
}

/// The character's GB18030-2022 code; every character has one.
pub fn encode_gb18030(c: char) -> Option<Code> {
    let point = u32::from(c);
    match point {
        0..=0x7f => Some(Code::new(point)),
        0x80..=0xffff => Some(Code::new(maps().codes[point as usize])),
        _ => Some(Code::new(four_byte_code(SUPPLEMENTARY + point - 0x1_0000))),
    }
}

/// The character's GBK code.
pub fn encode_gbk(c: char) -> Option<Code> {
    match u32::from(c) {
        point @ 0..=0x7f => Some(Code::new(point)),
        0xe000..=0xf8ff => None,
        point @ 0x80..=0xffff if c != EURO => {
            let code = gbk_code(point);
            (code != 0).then(|| Code::new(code))
        }
        _ => None,
    }
}

/// Whether GBK has the character.
pub fn gbk_encodable(c: char) -> bool {
    encode_gbk(c).is_some()
}

/// GBK keeps the map from before the exchanges of GB18030-2022.
fn gbk_code(point: u32) -> u32 {
    let swapped = SWAPS
        .iter()
        .any(|(left, right)| u32::from(*left) == point || u32::from(*right) == point);
    let code = maps().codes[point as usize];
    if swapped || code > 0xffff { 0 } else { code }
}

/// Text of GBK bytes; `None` at the first sequence that is not GBK.
pub fn gbk_decode(bytes: &[u8]) -> Option<String> {
    decode(bytes, false)
}

/// Text of GB18030 bytes; `None` at the first sequence that is not GB18030.
pub fn gb18030_decode(bytes: &[u8]) -> Option<String> {
    decode(bytes, true)
}

fn decode(bytes: &[u8], wide: bool) -> Option<String> {
    let mut text = String::with_capacity(bytes.len() * 3 / 2);
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if first.is_ascii() {
            text.push(char::from(*first));
            rest = tail;
            continue;
        }
        let second = *tail.first()?;
        if let Some(index) = two_byte_index(*first, second) {
            let c = char::from_u32(u32::from(maps().two_byte[index]))?;
            if !wide && encode_gbk(c).is_none() {
                return None;
            }
            text.push(c);
            rest = &rest[2..];
        } else {
            let code: [u8; 4] = rest.get(..4).filter(|_| wide)?.try_into().ok()?;
            text.push(four_byte_char(linear_of(code)?)?);
            rest = &rest[4..];
        }
    }
    Some(text)
}

fn four_byte_char(linear: u32) -> Option<char> {
    if let Some(point) = maps().four_byte.get(linear as usize) {
        return char::from_u32(u32::from(*point));
    }
    char::from_u32(linear.checked_sub(SUPPLEMENTARY)? + 0x1_0000)
}

/// Key of the `_bin` collations: codes, `3f` for what has none. Steps over bytes by the length the first
/// one announces, as TiDB does, so that invalid text still gives the key TiDB would give.
pub(super) fn bin_key(value: &[u8], out: &mut Vec<u8>, encode: fn(char) -> Option<Code>) {
    let mut rest = value;
    while let Some(first) = rest.first() {
        let announced = match first {
            0..=0x7f => 1,
            0x80..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        let (head, tail) = rest.split_at(announced.min(rest.len()));
        rest = tail;
        let mut chars = std::str::from_utf8(head).unwrap_or_default().chars();
        match (chars.next().and_then(encode), chars.next()) {
            (Some(code), None) => code.append(out),
            _ => out.push(b'?'),
        }
    }
}
