//! `bench_csv`: finding records and fields in CSV text, against the crate `csv-core`, over a corpus that is made
//! here and TPC-H lineitem. CPU time of one thread; both readers take turns, and the best round of each counts.
//! Both deliver every field unescaped, and every field is looked at.

use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write;
use thunderhead_source::CsvDialect;
use thunderhead_source::csv::{Batch, Core, Stop};

/// Bytes of a file of the corpus: more than fits into a cache of the second level.
const BYTES: usize = 16 << 20;
const ROUNDS: usize = 7;
/// What a reader has in hand at a time.
const BUFFER: usize = 1 << 20;

struct Case {
    name: &'static str,
    text: Vec<u8>,
    dialect: CsvDialect,
    /// `csv-core` knows the dialect.
    comparable: bool,
    /// Times as fast as `csv-core`, at least.
    goal: f64,
}

fn main() {
    let only = std::env::args().nth(1);
    println!("| file | MB/s | csv-core MB/s | times | goal |\n|---|---|---|---|---|");
    let mut missed = 0;
    for case in corpus() {
        if only
            .as_ref()
            .is_some_and(|only| !case.name.contains(only.as_str()))
        {
            continue;
        }
        let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            let (start, fields) = (cpu(), read_ours(&case));
            ours = ours.min(cpu() - start);
            if case.comparable {
                let (start, other) = (cpu(), read_theirs(&case));
                theirs = theirs.min(cpu() - start);
                assert_eq!(fields, other, "{}: both find the same fields", case.name);
            }
        }
        let rate = |seconds: f64| case.text.len() as f64 / 1e6 / seconds;
        if case.comparable {
            let times = theirs / ours;
            missed += usize::from(times < case.goal);
            println!(
                "| {} | {:.0} | {:.0} | {times:.2} | {} |",
                case.name,
                rate(ours),
                rate(theirs),
                case.goal
            );
        } else {
            println!("| {} | {:.0} | - | - | - |", case.name, rate(ours));
        }
    }
    if missed > 0 {
        println!("{missed} files miss their goal");
    }
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Fields and their bytes, so that nothing can be left out.
type Found = (usize, usize);

fn read_ours(case: &Case) -> Found {
    let core = Core::new(&case.dialect);
    let (mut batch, mut at, mut found) = (Batch::default(), 0, (0, 0));
    loop {
        let end = (at + BUFFER).min(case.text.len());
        let buf = &case.text[at..end];
        let at_end = end == case.text.len();
        let mut used = 0;
        loop {
            let parsed = core.parse(&buf[used..], at_end, 512, &mut batch);
            for row in 0..batch.rows().len() {
                for span in batch.fields(row) {
                    let text = batch.text(*span, &buf[used..]).unwrap_or_default();
                    found = (found.0 + 1, found.1 + text.len());
                }
            }
            used += parsed.consumed;
            match parsed.stop {
                Stop::Full => {}
                Stop::NeedMore => break,
                Stop::End => return found,
                Stop::Syntax(error) => panic!("{}: {error:?}", case.name),
            }
        }
        at += used;
    }
}

fn read_theirs(case: &Case) -> Found {
    let first = |token: &[u8]| token.first().copied();
    let mut reader = ReaderBuilder::new();
    reader
        .delimiter(case.dialect.separator[0])
        .quoting(!case.dialect.quote.is_empty())
        .quote(first(&case.dialect.quote).unwrap_or(b'"'))
        .escape(first(&case.dialect.escape))
        .terminator(match first(&case.dialect.terminator) {
            Some(byte) => Terminator::Any(byte),
            None => Terminator::CRLF,
        });
    let mut reader = reader.build();
    let mut input = case.text.as_slice();
    let (mut text, mut ends) = (vec![0; 1 << 20], vec![0; 1 << 12]);
    let (mut bytes, mut fields, mut found) = (0, 0, (0, 0));
    loop {
        let (result, read, wrote, ended) =
            reader.read_record(input, &mut text[bytes..], &mut ends[fields..]);
        input = &input[read..];
        (bytes, fields) = (bytes + wrote, fields + ended);
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::Record => {
                let mut start = 0;
                for end in &ends[..fields] {
                    let field = &text[start..*end];
                    found = (found.0 + 1, found.1 + field.len());
                    start = *end;
                }
                (bytes, fields) = (0, 0);
            }
            ReadRecordResult::End => return found,
            other => panic!("{}: {other:?}", case.name),
        }
    }
}

fn dialect(separator: &[u8], quote: &[u8], terminator: &[u8], escape: &[u8]) -> CsvDialect {
    CsvDialect {
        separator: separator.to_vec(),
        quote: quote.to_vec(),
        terminator: terminator.to_vec(),
        escape: escape.to_vec(),
        not_null: true,
        header: false,
        ..CsvDialect::default()
    }
}

/// Lines of `line` until there are enough bytes.
fn text(mut line: impl FnMut(u64, &mut String)) -> Vec<u8> {
    let mut text = String::with_capacity(BYTES + 4096);
    let mut n = 0;
    while text.len() < BYTES {
        line(n, &mut text);
        n += 1;
    }
    text.into_bytes()
}

fn corpus() -> Vec<Case> {
    let plain = || dialect(b",", b"\"", b"", b"");
    let case = |name, text, dialect: CsvDialect, goal| Case {
        comparable: dialect.separator.len() == 1 && dialect.terminator.len() <= 1,
        name,
        text,
        dialect,
        goal,
    };
    let long = "lorem ipsum dolor sit amet consectetur ".repeat(12);
    let push = |out: &mut String, text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
    };
    vec![
        case(
            "TPC-H lineitem",
            lineitem(),
            dialect(b"|", b"", b"\n", b""),
            2.0,
        ),
        case(
            "TPC-H lineitem, quotes and any line end",
            lineitem(),
            dialect(b"|", b"\"", b"", b""),
            2.0,
        ),
        case(
            "quoted-heavy",
            text(|n, out| {
                push(
                    out,
                    format_args!(
                        "\"{n}\",\"name {}\",\"a, b {}\",\"say \"\"{}\"\"\"\n",
                        n % 977,
                        n % 31,
                        n % 7
                    ),
                )
            }),
            plain(),
            1.0,
        ),
        case(
            "every field quoted, short",
            text(|n, out| {
                push(
                    out,
                    format_args!("\"{}\",\"{}\",\"\",\"x\"\n", n % 10, n % 7),
                )
            }),
            plain(),
            1.0,
        ),
        case(
            "short fields",
            text(|n, out| {
                push(
                    out,
                    format_args!(
                        "{},{},{},{},{},{}\n",
                        n % 10,
                        n % 7,
                        n % 3,
                        n % 9,
                        n % 5,
                        n % 2
                    ),
                )
            }),
            plain(),
            1.0,
        ),
        case(
            "one short field",
            text(|n, out| push(out, format_args!("{}\n", n % 100))),
            plain(),
            1.0,
        ),
        case(
            "long fields",
            text(|n, out| push(out, format_args!("{n},{long},{long}\n"))),
            plain(),
            1.0,
        ),
        case(
            "long quoted fields",
            text(|n, out| push(out, format_args!("{n},\"{long}\n{long}\",x\n"))),
            plain(),
            1.0,
        ),
        case(
            "many empty fields",
            text(|n, out| push(out, format_args!("{},,,,,,,,{},,,,,,,\n", n % 100, n % 10))),
            plain(),
            1.0,
        ),
        case(
            "CRLF",
            text(|n, out| push(out, format_args!("{n},name {},{}.50\r\n", n % 977, n % 100))),
            plain(),
            1.0,
        ),
        case(
            "text of three-byte characters",
            text(|n, out| {
                push(
                    out,
                    format_args!(
                        "{n},\u{4e2d}\u{6587}\u{5b57}\u{7b26},\"\u{4e2d}, {}\"\n",
                        n % 9
                    ),
                )
            }),
            plain(),
            1.0,
        ),
        case(
            "escapes between quotes",
            text(|n, out| push(out, format_args!("{n},\"a\\\"b {}\",\"c\\\\d\"\n", n % 977))),
            dialect(b",", b"\"", b"", b"\\"),
            1.0,
        ),
        case(
            "escapes without quotes",
            text(|n, out| push(out, format_args!("{n}\ta\\\tb {}\tc\\\\d\n", n % 977))),
            dialect(b"\t", b"", b"\n", b"\\"),
            1.0,
        ),
        case(
            "separator of three bytes",
            text(|n, out| {
                push(
                    out,
                    format_args!("{n}|+|name {}|+|{}.50|+|x\n", n % 977, n % 100),
                )
            }),
            dialect(b"|+|", b"\"", b"\n", b"\\"),
            1.0,
        ),
    ]
    .into_iter()
    .map(|case| Case {
        // Outside of quotes csv-core has no escapes.
        comparable: case.comparable && case.name != "escapes without quotes",
        ..case
    })
    .collect()
}

fn lineitem() -> Vec<u8> {
    let mut text = String::with_capacity(BYTES + 4096);
    for row in tpchgen::generators::LineItemGenerator::new(0.05, 1, 1).iter() {
        let _ = writeln!(text, "{row}");
        if text.len() >= BYTES {
            break;
        }
    }
    text.into_bytes()
}
