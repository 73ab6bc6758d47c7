//! The CSV core against a reader that is as plain as the rules: one byte after the other over the
//! whole input, no marks, no buffers, no spans. Shared by the other test files.
#![allow(clippy::unwrap_used, dead_code)]

use thunderhead_source::CsvDialect;
use thunderhead_source::csv::{Batch, Core, Stop, SyntaxKind};

pub type Fields = Vec<Option<Vec<u8>>>;

#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Records {
    /// Offset, line, fields.
    pub rows: Vec<(usize, u64, Fields)>,
    /// Reason, offset, column.
    pub error: Option<(SyntaxKind, usize, usize)>,
}

/// What the rules say.
pub fn oracle(d: &CsvDialect, input: &[u8]) -> Records {
    let mut records = Records::default();
    let mut at = 0;
    while at < input.len() {
        match oracle_record(d, input, at) {
            Ok((next, Some(fields))) => {
                let begin = (at..next)
                    .find(|begin| has(&d.starting, input, *begin))
                    .unwrap_or(at);
                records.rows.push((begin, line_of(d, input, begin), fields));
                at = next;
            }
            Ok((next, None)) => at = next,
            Err((kind, wrong, column)) if d.skip_malformed && !at_end_of_file(kind) => {
                let (end, len) = (wrong + 1..=input.len())
                    .find_map(|end| Some((end, terminator(d, input, end)?)))
                    .unwrap();
                let begin = (at..end)
                    .find(|begin| has(&d.starting, input, *begin))
                    .unwrap_or(at);
                let fields = malformed(kind, wrong, column, &input[begin..end]);
                records.rows.push((begin, line_of(d, input, begin), fields));
                at = end + len;
            }
            Err(error) => {
                records.error = Some(error);
                break;
            }
        }
    }
    records
}

fn at_end_of_file(kind: SyntaxKind) -> bool {
    matches!(kind, SyntaxKind::UnterminatedQuote | SyntaxKind::LoneEscape)
}

/// What stands for a malformed record among others.
pub fn malformed(kind: SyntaxKind, at: usize, column: usize, written: &[u8]) -> Fields {
    let text = format!("{kind:?} {at} {column}: {}", written.escape_ascii());
    vec![Some(text.into_bytes())]
}

fn has(token: &[u8], input: &[u8], at: usize) -> bool {
    !token.is_empty() && input[at..].starts_with(token)
}

fn terminator(d: &CsvDialect, input: &[u8], at: usize) -> Option<usize> {
    if at == input.len() {
        return Some(0);
    }
    if !d.terminator.is_empty() {
        return has(&d.terminator, input, at).then_some(d.terminator.len());
    }
    [&b"\r\n"[..], b"\r", b"\n"]
        .iter()
        .find(|t| has(t, input, at))
        .map(|t| t.len())
}

type Failure = (SyntaxKind, usize, usize);

fn oracle_record(
    d: &CsvDialect,
    input: &[u8],
    start: usize,
) -> Result<(usize, Option<Fields>), Failure> {
    let (mut at, mut fields, mut any_quoted) = (start, Vec::new(), false);
    if !d.starting.is_empty() {
        any_quoted = true;
        match (start..=input.len()).find(|at| has(&d.starting, input, *at)) {
            // The file ends with the prefix.
            Some(found) if found + d.starting.len() == input.len() => {
                return Ok((input.len(), None));
            }
            Some(found) => at = found + d.starting.len(),
            None => return Ok((input.len(), None)),
        }
    }
    loop {
        let mut raw = Vec::new();
        let quoted = has(&d.quote, input, at);
        if quoted {
            any_quoted = true;
            let open = at;
            at += d.quote.len();
            loop {
                if at >= input.len() {
                    return Err((SyntaxKind::UnterminatedQuote, open, fields.len()));
                } else if has(&d.quote, input, at) && has(&d.quote, input, at + d.quote.len()) {
                    raw.extend_from_slice(&input[at..at + 2 * d.quote.len()]);
                    at += 2 * d.quote.len();
                } else if has(&d.quote, input, at) {
                    let behind = at + d.quote.len();
                    let closes =
                        terminator(d, input, behind).is_some() || has(&d.separator, input, behind);
                    if d.lenient && !closes {
                        raw.extend_from_slice(&d.quote);
                        at = behind;
                        continue;
                    }
                    at = behind;
                    break;
                } else {
                    at = oracle_char(d, input, at, fields.len(), &mut raw)?;
                }
            }
        }
        loop {
            let end = terminator(d, input, at);
            if end.is_some() || has(&d.separator, input, at) {
                fields.push((raw, quoted));
                if let Some(len) = end {
                    return Ok((at + len, finish(d, fields, &input[start..at], any_quoted)));
                }
                at += d.separator.len();
                break;
            } else if quoted {
                return Err((SyntaxKind::TextAfterQuote, at, fields.len()));
            } else if has(&d.quote, input, at) && !d.lenient {
                return Err((SyntaxKind::QuoteInField, at, fields.len()));
            }
            // A quote in the middle of a lenient field is a byte like others.
            at = oracle_char(d, input, at, fields.len(), &mut raw)?;
        }
    }
}

fn oracle_char(
    d: &CsvDialect,
    input: &[u8],
    at: usize,
    column: usize,
    raw: &mut Vec<u8>,
) -> Result<usize, Failure> {
    let len = if has(&d.escape, input, at) {
        d.escape.len() + 1
    } else {
        1
    };
    if at + len > input.len() {
        return Err((SyntaxKind::LoneEscape, at, column));
    }
    raw.extend_from_slice(&input[at..at + len]);
    Ok(at + len)
}

fn finish(
    d: &CsvDialect,
    mut fields: Vec<(Vec<u8>, bool)>,
    line: &[u8],
    any_quoted: bool,
) -> Option<Fields> {
    let blank = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b;
    if fields.len() == 1 && !any_quoted && !d.lenient && line.iter().all(blank) {
        return None;
    }
    if d.trim_last_separator && fields.last().is_some_and(|(raw, _)| raw.is_empty()) {
        fields.pop();
    }
    Some(
        fields
            .into_iter()
            .map(|(raw, quoted)| meaning(d, &raw, quoted))
            .collect(),
    )
}

fn meaning(d: &CsvDialect, raw: &[u8], quoted: bool) -> Option<Vec<u8>> {
    let is_null = |text: &Vec<u8>| {
        !d.not_null && (d.nulls.contains(text) || !quoted && d.unquoted_nulls.contains(text))
    };
    let as_written = [&d.escape[..], b"N"].concat();
    if !d.escape.is_empty() && raw == as_written && is_null(&as_written) {
        return None;
    }
    let (mut text, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        if quoted && has(&d.quote, raw, at) {
            text.extend_from_slice(&d.quote);
            at += d.quote.len();
            at += if has(&d.quote, raw, at) {
                d.quote.len()
            } else {
                0
            };
        } else if has(&d.escape, raw, at) {
            let byte = raw[at + d.escape.len()];
            let special = b"0bnrtZ".iter().position(|b| *b == byte);
            text.push(special.map_or(byte, |i| [0, 8, b'\n', b'\r', b'\t', 26][i]));
            at += d.escape.len() + 1;
        } else {
            text.push(raw[at]);
            at += 1;
        }
    }
    if is_null(&text) && (d.escape.is_empty() || text != as_written) {
        None
    } else {
        Some(text)
    }
}

pub fn line_of(d: &CsvDialect, input: &[u8], at: usize) -> u64 {
    let before = &input[..at];
    let ends = match d.terminator.last() {
        None => {
            let cut = if at > 0 && input[at - 1] == b'\r' && input.get(at) == Some(&b'\n') {
                1
            } else {
                0
            };
            let text = String::from_utf8_lossy(&before[..at - cut]).replace("\r\n", "\n");
            text.bytes().filter(|b| matches!(b, b'\r' | b'\n')).count()
        }
        Some(last) => {
            let byte = if d.terminator.contains(&b'\n') {
                b'\n'
            } else {
                *last
            };
            before.iter().filter(|b| **b == byte).count()
        }
    };
    ends as u64 + 1
}

/// What the core says when the input comes in pieces that end at `cuts`.
pub fn core_in_pieces(d: &CsvDialect, input: &[u8], cuts: &[usize], rows_max: usize) -> Records {
    let core = Core::new(d);
    let mut batch = Batch::default();
    let mut records = Records::default();
    let (mut at, mut line) = (0, 1);
    let ends = cuts
        .iter()
        .copied()
        .filter(|c| *c < input.len())
        .chain([input.len()]);
    for end in ends {
        let at_end = end == input.len();
        loop {
            if end < at {
                break;
            }
            let buf = &input[at..end];
            let parsed = core.parse(buf, at_end, rows_max, &mut batch);
            for (i, row) in batch.rows().iter().enumerate() {
                let fields = batch.fields(i).iter();
                let mut fields: Fields = fields
                    .map(|s| batch.text(*s, buf).map(<[u8]>::to_vec))
                    .collect();
                if let Some(error) = batch.malformed(i) {
                    assert!(fields.is_empty());
                    let written = &buf[row.start as usize..row.end as usize];
                    fields = malformed(error.kind, at + error.at, error.column, written);
                }
                records.rows.push((
                    at + row.start as usize,
                    line + u64::from(row.lines_before),
                    fields,
                ));
            }
            let skipped = core.skip(buf, at_end, rows_max);
            assert_eq!(skipped, parsed, "counting must find what parsing finds");
            if let Stop::Syntax(error) = parsed.stop {
                records.error = Some((error.kind, at + error.at, error.column));
                return records;
            }
            at += parsed.consumed;
            line += u64::from(parsed.lines);
            if parsed.stop != Stop::Full {
                break;
            }
        }
    }
    assert_eq!(at, input.len(), "everything must be read");
    records
}

/// Dialects that differ in every rule.
pub fn dialects() -> Vec<CsvDialect> {
    let base = CsvDialect {
        header: false,
        ..CsvDialect::default()
    };
    let with =
        |separator: &[u8], quote: &[u8], terminator: &[u8], escape: &[u8], nulls: &[&str]| {
            CsvDialect {
                separator: separator.to_vec(),
                quote: quote.to_vec(),
                terminator: terminator.to_vec(),
                escape: escape.to_vec(),
                nulls: nulls.iter().map(|n| n.as_bytes().to_vec()).collect(),
                ..base.clone()
            }
        };
    vec![
        base.clone(),
        CsvDialect {
            not_null: true,
            ..base.clone()
        },
        CsvDialect {
            trim_last_separator: true,
            ..base.clone()
        },
        CsvDialect {
            unquoted_nulls: vec![b"".to_vec(), b"N".to_vec(), b"\\N".to_vec()],
            ..with(b",", b"\"", b"", b"\\", &["a"])
        },
        CsvDialect {
            lenient: true,
            unquoted_nulls: vec![b"N".to_vec()],
            ..with(b",", b"\"", b"\n", b"\\", &["\\N"])
        },
        CsvDialect {
            lenient: true,
            ..with(b",,", b"''", b"", b"", &["\\N"])
        },
        CsvDialect {
            starting: b"a".to_vec(),
            ..with(b",", b"\"", b"", b"\\", &["\\N"])
        },
        CsvDialect {
            starting: b"aN".to_vec(),
            lenient: true,
            ..with(b"\t", b"", b"\n", b"\\", &["\\N"])
        },
        with(b",", b"\"", b"", b"", &["\\N", "a"]),
        with(b"\t", b"", b"\n", b"\\", &["\\N", "N"]),
        with(b",", b"", b"", b"", &[""]),
        with(b",", b"'", b"\r\n", b"\\", &["\\N"]),
        with(b",", b"\"", b";", b"\\", &["a"]),
        with(b"a", b"N", b"0", b"b", &["", "\n"]),
        with(b"|+|", b"|'", b"|\n", b"\\", &["\\N"]),
        with(b"||", b"", b"|+", b"", &["|"]),
        with(b",,", b"\"\"", b"", b"\\\\", &["\\\\N", "a"]),
        with(b"\0", b"\x01", b"", b"\x02", &["\x02N"]),
        skipping(base.clone()),
        skipping(CsvDialect {
            starting: b"a".to_vec(),
            ..with(b",", b"\"", b"", b"", &["\\N"])
        }),
        skipping(with(b"|+|", b"|'", b"|\n", b"\\", &["\\N"])),
        skipping(with(b"a", b"N", b"0", b"b", &["", "\n"])),
        skipping(with(b",", b"'", b"\r\n", b"", &["\\N"])),
    ]
}

fn skipping(dialect: CsvDialect) -> CsvDialect {
    CsvDialect {
        skip_malformed: true,
        ..dialect
    }
}
