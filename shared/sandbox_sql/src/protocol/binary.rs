//! The binary protocol of prepared statements: parameters in, rows out.

use super::packet::{Reader, put_string};
use super::rows::{ColumnMeta, Value};
use crate::lexer::Tok;
use thunderhead_codec::mysql::{flag, tp};

/// One row, from text values and their column types.
pub fn binary_row(to: &mut Vec<u8>, columns: &[ColumnMeta], row: &[Value]) {
    const NULL_BIT_OFFSET: usize = 2;
    to.push(0);
    let bitmap = to.len();
    to.resize(bitmap + (columns.len() + 7 + NULL_BIT_OFFSET) / 8, 0);
    for (i, (column, value)) in columns.iter().zip(row).enumerate() {
        match value {
            Some(text) => binary_value(to, column, text),
            None => to[bitmap + (i + NULL_BIT_OFFSET) / 8] |= 1 << ((i + NULL_BIT_OFFSET) % 8),
        }
    }
}

fn binary_value(to: &mut Vec<u8>, column: &ColumnMeta, text: &[u8]) {
    let string = std::str::from_utf8(text).unwrap_or_default();
    let int = || -> u64 {
        if column.flags & flag::UNSIGNED != 0 {
            string.parse().unwrap_or(0)
        } else {
            string.parse::<i64>().unwrap_or(0) as u64
        }
    };
    match column.tp {
        tp::TINY => to.push(int() as u8),
        tp::SHORT | tp::YEAR => to.extend_from_slice(&(int() as u16).to_le_bytes()),
        tp::LONG | tp::INT24 => to.extend_from_slice(&(int() as u32).to_le_bytes()),
        tp::LONGLONG => to.extend_from_slice(&int().to_le_bytes()),
        tp::FLOAT => to.extend_from_slice(&string.parse::<f32>().unwrap_or(0.0).to_le_bytes()),
        tp::DOUBLE => to.extend_from_slice(&string.parse::<f64>().unwrap_or(0.0).to_le_bytes()),
        tp::DATE | tp::DATETIME | tp::TIMESTAMP => date_time(to, string),
        tp::DURATION => time(to, string),
        _ => put_string(to, text),
    }
}

/// Runs of digits as numbers; the sixth is padded to microseconds.
fn numbers(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = Vec::new();
    for (i, part) in text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|p| !p.is_empty())
        .enumerate()
    {
        let digits = if i == 6 {
            format!("{part:0<6}")
        } else {
            part.to_owned()
        };
        parts.push(digits.parse().unwrap_or(0));
    }
    parts
}

fn date_time(to: &mut Vec<u8>, text: &str) {
    let mut parts = numbers(text);
    parts.resize(7, 0);
    let length = if parts[6] != 0 {
        11
    } else if parts[3..6].iter().any(|p| *p != 0) {
        7
    } else {
        4
    };
    to.push(length);
    to.extend_from_slice(&(parts[0] as u16).to_le_bytes());
    to.extend([parts[1] as u8, parts[2] as u8]);
    if length > 4 {
        to.extend([parts[3] as u8, parts[4] as u8, parts[5] as u8]);
    }
    if length > 7 {
        to.extend_from_slice(&parts[6].to_le_bytes());
    }
}

fn time(to: &mut Vec<u8>, text: &str) {
    let (clock, fraction) = text
        .trim_start_matches('-')
        .split_once('.')
        .unwrap_or((text.trim_start_matches('-'), ""));
    let mut parts = numbers(clock);
    parts.resize(3, 0);
    let micros: u32 = format!("{fraction:0<6}").parse().unwrap_or(0);
    to.push(if micros > 0 { 12 } else { 8 });
    to.push(u8::from(text.starts_with('-')));
    to.extend_from_slice(&(parts[0] / 24).to_le_bytes());
    to.extend([(parts[0] % 24) as u8, parts[1] as u8, parts[2] as u8]);
    if micros > 0 {
        to.extend_from_slice(&micros.to_le_bytes());
    }
}

/// A statement that was prepared.
#[derive(Debug, Default)]
pub struct Prepared {
    pub text: Vec<u8>,
    pub params: usize,
    types: Vec<(u8, u8)>,
    /// Values sent ahead in pieces.
    pub long_data: Vec<Option<Vec<u8>>>,
}

impl Prepared {
    pub fn new(text: Vec<u8>, params: usize) -> Self {
        Self {
            text,
            params,
            types: Vec::new(),
            long_data: vec![None; params],
        }
    }

    /// The parameters of an EXECUTE as tokens; `payload` begins after the flags and iteration count.
    pub fn arguments(&mut self, payload: &[u8]) -> Option<Vec<Tok>> {
        let mut reader = Reader(payload);
        if self.params == 0 {
            return Some(Vec::new());
        }
        let nulls = reader.take(self.params.div_ceil(8))?;
        if reader.u8()? == 1 {
            self.types = (0..self.params)
                .map(|_| Some((reader.u8()?, reader.u8()?)))
                .collect::<Option<_>>()?;
        }
        let mut arguments = Vec::with_capacity(self.params);
        for i in 0..self.params {
            if let Some(data) = self.long_data[i].take() {
                arguments.push(Tok::Str(data));
            } else if nulls[i / 8] & 1 << (i % 8) != 0 {
                arguments.push(Tok::Word("NULL".to_owned()));
            } else {
                let (code, flags) = *self.types.get(i)?;
                arguments.push(argument(&mut reader, code, flags & 0x80 != 0)?);
            }
        }
        Some(arguments)
    }
}

fn argument(reader: &mut Reader<'_>, code: u8, unsigned: bool) -> Option<Tok> {
    let mut integer = |bytes: usize| {
        let raw = reader.uint(bytes)?;
        let shift = 64 - 8 * bytes as u32;
        Some(Tok::Number(if unsigned {
            raw.to_string()
        } else {
            (((raw << shift) as i64) >> shift).to_string()
        }))
    };
    match code {
        tp::NULL => Some(Tok::Word("NULL".to_owned())),
        tp::TINY => integer(1),
        tp::SHORT | tp::YEAR => integer(2),
        tp::LONG | tp::INT24 => integer(4),
        tp::LONGLONG => integer(8),
        tp::FLOAT => Some(Tok::Number(format!(
            "{:e}",
            f32::from_bits(reader.uint(4)? as u32)
        ))),
        tp::DOUBLE => Some(Tok::Number(format!(
            "{:e}",
            f64::from_bits(reader.uint(8)?)
        ))),
        tp::DATE | tp::DATETIME | tp::TIMESTAMP => {
            let length = usize::from(reader.u8()?);
            let mut bytes = [0; 11];
            bytes[..length.min(11)].copy_from_slice(reader.take(length)?.get(..length.min(11))?);
            let [y0, y1, month, day, hour, minute, second, u0, u1, u2, u3] = bytes;
            let (year, micros) = (
                u16::from_le_bytes([y0, y1]),
                u32::from_le_bytes([u0, u1, u2, u3]),
            );
            let clock = if length > 4 {
                format!(" {hour:02}:{minute:02}:{second:02}")
            } else {
                String::new()
            };
            let fraction = if length > 7 {
                format!(".{micros:06}")
            } else {
                String::new()
            };
            Some(Tok::Str(
                format!("{year:04}-{month:02}-{day:02}{clock}{fraction}").into_bytes(),
            ))
        }
        tp::DURATION => {
            let length = usize::from(reader.u8()?);
            let mut part = Reader(reader.take(length)?);
            let (minus, days) = (part.u8().unwrap_or(0), part.uint(4).unwrap_or(0));
            let [hour, minute, second] = [0; 3].map(|_: u8| part.u8().unwrap_or(0));
            let micros = part.uint(4).unwrap_or(0);
            let sign = if minus == 1 { "-" } else { "" };
            Some(Tok::Str(
                format!(
                    "{sign}{:02}:{minute:02}:{second:02}.{micros:06}",
                    days * 24 + u64::from(hour)
                )
                .into_bytes(),
            ))
        }
        _ => Some(Tok::Str(reader.string()?.to_vec())),
    }
}
