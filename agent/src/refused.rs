//! Rows of a chunk that are left out because nothing can be made of them: how many, and the first of them as
//! people read them in `type_error_v1` and `syntax_error_v1`. Owns their bounds; leaves the limit over the whole
//! job to the leader. What is kept is a function of the chunk, so an attempt that is repeated says the same.

use crate::fields::Refused;
use std::fmt::Write;
use thunderhead_proto::thunderhead::RefusedRow;
use thunderhead_source::{Position, Value};
use thunderhead_types::Error;

/// Bytes that are described of one row; the offset leads to the rest.
const DATA_BYTES_MAX: usize = 4 << 10;
/// Bytes of one chunk: they travel and are recorded together with its manifest.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// See the module.
#[derive(Default)]
pub(crate) struct LeftOut {
    records_max: u64,
    bytes: usize,
    pub(crate) count: u64,
    pub(crate) rows: Vec<RefusedRow>,
}

impl LeftOut {
    pub(crate) fn new(records_max: u64) -> Self {
        Self {
            records_max,
            ..Self::default()
        }
    }

    /// Takes a row that stands `at` this place of this part of the chunk.
    pub(crate) fn add(
        &mut self,
        (part, at): (u32, Position),
        refused: &Refused,
        error: &Error,
        values: &[Value<'_>],
    ) {
        self.count += 1;
        if self.rows.len() as u64 >= self.records_max || self.bytes >= CHUNK_BYTES_MAX {
            return;
        }
        let row = RefusedRow {
            malformed: !matches!(refused, Refused::Row(_)),
            offset: at.offset,
            line: at.line,
            error: error.cause.clone(),
            data: match (refused, values) {
                (Refused::Syntax(_), [Value::Text(written)]) => literal(written),
                _ => tuple(values),
            },
            part,
        };
        self.bytes += row.error.len() + row.data.len();
        self.rows.push(row);
    }
}

fn literal(written: &[u8]) -> String {
    let mut text = String::new();
    push_text(&mut text, written);
    text
}

/// The fields as literals of SQL: `(7, 'a', NULL)`.
fn tuple(values: &[Value<'_>]) -> String {
    let mut text = String::from("(");
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            text.push_str(", ");
        }
        if text.len() >= DATA_BYTES_MAX {
            text.push_str("...");
            break;
        }
        push_value(&mut text, value);
    }
    text.push(')');
    text
}

fn push_value(text: &mut String, value: &Value<'_>) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Null => write!(text, "NULL"),
        Value::Text(bytes) | Value::Binary(bytes) => {
            push_text(text, bytes);
            Ok(())
        }
        Value::Int(number) => write!(text, "{number}"),
        Value::UInt(number) => write!(text, "{number}"),
        Value::Float(number) => write!(text, "{number}"),
        Value::Double(number) => write!(text, "{number}"),
        Value::Date(days) => write!(text, "day {days}"),
        Value::Time(micros) => write!(text, "{micros} us"),
        Value::Timestamp { micros, .. } => write!(text, "{micros} us since 1970"),
    };
}

/// What is no text as digits; what is too long up to a whole character.
fn push_text(text: &mut String, bytes: &[u8]) {
    let room = DATA_BYTES_MAX.saturating_sub(text.len());
    let cut = bytes.len() > room;
    let shown = &bytes[..bytes.len().min(room)];
    let readable = match std::str::from_utf8(shown) {
        Ok(shown) => Some(shown),
        // The cut went through a character.
        Err(e) if cut && e.error_len().is_none() => {
            std::str::from_utf8(&shown[..e.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match readable {
        Some(shown) => {
            text.push('\'');
            for c in shown.chars() {
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
        None => {
            text.push_str("0x");
            for byte in shown {
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
    if cut {
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thunderhead_types::ErrorKind;

    #[test]
    fn a_row_is_described_as_literals_and_a_long_one_only_up_to_its_bound() {
        let row = [
            Value::Text(b"it's\\\n"),
            Value::Null,
            Value::Int(-3),
            Value::Binary(&[0xff, 1]),
        ];
        assert_eq!(tuple(&row), "('it\\'s\\\\\\n', NULL, -3, 0xFF01)");
        let long = "\u{4e2d}".repeat(DATA_BYTES_MAX);
        let text = tuple(&[Value::Text(long.as_bytes()), Value::Text(b"hidden")]);
        assert!(
            text.len() < DATA_BYTES_MAX + 20 && text.ends_with("'..., ...)"),
            "{}",
            text.len()
        );
    }

    #[test]
    fn all_are_counted_and_some_are_described() {
        let mut rows = LeftOut::new(3);
        let error = Error::new(ErrorKind::Data, "t.csv:1", "the record has 1 fields");
        for line in 1..=10 {
            let at = Position {
                line,
                offset: 10 * line,
            };
            rows.add(
                (line as u32 / 2, at),
                &Refused::Width(1),
                &error,
                &[Value::Null],
            );
        }
        assert_eq!((rows.count, rows.rows.len()), (10, 3));
        assert_eq!((rows.rows[2].line, rows.rows[2].malformed), (3, true));
        let parts: Vec<u32> = rows.rows.iter().map(|row| row.part).collect();
        assert_eq!(parts, [0, 1, 1]);
        let mut rows = LeftOut::new(u64::MAX);
        let wide = vec![b'x'; DATA_BYTES_MAX];
        for _ in 0..1000 {
            rows.add(
                (0, Position::default()),
                &Refused::Width(1),
                &error,
                &[Value::Text(&wide)],
            );
        }
        assert!(rows.rows.len() < 70, "{}", rows.rows.len());
    }
}
