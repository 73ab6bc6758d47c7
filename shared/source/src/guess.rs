//! What a CSV file of unknown dialect most likely is, from its first bytes: for people who look at a source
//! before they describe it. Nothing that imports relies on a guess.

use thunderhead_config::{CharacterSet, CsvOptions};

use crate::csv::{Batch, Core, CsvDialect, Stop};
use crate::window::BOM;

/// Separators that exports use, the usual ones first: an earlier one wins among equals.
const SEPARATORS: [&str; 11] = [
    ",", "\t", "|", ";", "\u{1}", "|+|", "|@|", "||", "~", "^", ":",
];
/// Rows that are looked at.
const ROWS_MAX: usize = 2000;
/// A guess holds if one row, and one more of so many, has another number of fields.
const STRAYS: usize = 10;

/// A dialect and how sure it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// As `[mydumper.csv]` would say it.
    pub options: CsvOptions,
    /// `LF`, `CRLF`, `CR`, `mixed`, or `none` where there is only one line.
    pub line_end: &'static str,
    /// `UTF-8`, `ASCII`, `GB18030`, `latin1` or `UTF-16`.
    pub encoding: &'static str,
    /// The file starts with a byte order mark.
    pub bom: bool,
    /// Fields of a record.
    pub width: usize,
    /// Records of those looked at that have another number of fields.
    pub strays: usize,
    /// Records looked at.
    pub rows: usize,
}

/// Guesses from `head`, the start of a file; `whole`: nothing follows.
pub fn guess(head: &[u8], whole: bool) -> Guess {
    let bom = head.starts_with(BOM);
    let text = head.strip_prefix(BOM).unwrap_or(head);
    let (encoding, set) = encoding(head, whole);
    let mut best: Option<Guess> = None;
    for quote in ["\"", "'", ""] {
        for separator in SEPARATORS {
            let options = CsvOptions {
                separator: separator.to_owned(),
                quote: quote.to_owned(),
                character_set: set,
                ..CsvOptions::default()
            };
            let Some(shape) = shape(text, whole, &options) else {
                continue;
            };
            let guess = Guess {
                options,
                line_end: line_end(text),
                encoding,
                bom,
                width: shape.width,
                strays: shape.rows - shape.alike,
                rows: shape.rows,
            };
            if best.as_ref().is_none_or(|best| better(&guess, best)) {
                best = Some(guess);
            }
        }
        // A quote is believed where it reads the whole file.
        if best
            .as_ref()
            .is_some_and(|best| best.width > 1 && best.strays == 0)
        {
            break;
        }
    }
    let mut guess = best.unwrap_or_else(|| Guess {
        options: CsvOptions {
            quote: String::new(),
            escape: String::new(),
            character_set: set,
            ..CsvOptions::default()
        },
        line_end: line_end(text),
        encoding,
        bom,
        width: 1,
        strays: 0,
        rows: 0,
    });
    let rows = first_rows(text, whole, &guess.options);
    guess.options.header = looks_like_header(&rows);
    guess.options.nulls = nulls(&rows);
    guess
}

fn holds(guess: &Guess) -> bool {
    guess.strays <= 1 + guess.rows / STRAYS
}

/// More columns that agree: a separator that is only data gives ragged rows or none.
fn better(a: &Guess, b: &Guess) -> bool {
    let key = |guess: &Guess| (holds(guess) && guess.width > 1, guess.strays == 0);
    let (left, right) = (key(a), key(b));
    if left != right {
        return left > right;
    }
    // `|+|` holds two `|`: what covers more bytes is the one that was meant.
    let bytes = |guess: &Guess| {
        let len = guess.options.separator.len();
        ((guess.width - 1) * len, len)
    };
    left.0 && bytes(a) > bytes(b)
}

struct Shape {
    width: usize,
    alike: usize,
    rows: usize,
}

/// How many fields records have; `None` if the dialect cannot read them.
fn shape(text: &[u8], whole: bool, options: &CsvOptions) -> Option<Shape> {
    let dialect = dialect(options);
    dialect.check().ok()?;
    let (core, mut batch) = (Core::new(&dialect), Batch::default());
    let parsed = core.parse(text, whole, ROWS_MAX, &mut batch);
    if matches!(parsed.stop, Stop::Syntax(_)) || batch.rows().is_empty() {
        return None;
    }
    let widths: Vec<usize> = (0..batch.rows().len())
        .map(|row| batch.fields(row).len())
        .collect();
    let count = |width: usize| widths.iter().filter(|w| **w == width).count();
    // What most have: of few distinct numbers.
    let width = widths.iter().copied().take(50).max_by_key(|w| count(*w))?;
    Some(Shape {
        width,
        alike: count(width),
        rows: widths.len(),
    })
}

fn dialect(options: &CsvOptions) -> CsvDialect {
    CsvDialect {
        header: false,
        not_null: true,
        ..CsvDialect::from(options)
    }
}

fn first_rows(text: &[u8], whole: bool, options: &CsvOptions) -> Vec<Vec<String>> {
    let (core, mut batch) = (Core::new(&dialect(options)), Batch::default());
    core.parse(text, whole, 100, &mut batch);
    core.recode(text, &mut batch);
    let field = |span| String::from_utf8_lossy(batch.text(span, text).unwrap_or_default());
    (0..batch.rows().len())
        .map(|row| {
            let fields = batch.fields(row).iter();
            fields.map(|span| field(*span).into_owned()).collect()
        })
        .collect()
}

/// Names, each once, over rows of which some hold what no name is.
fn looks_like_header(rows: &[Vec<String>]) -> bool {
    let Some((first, rest)) = rows.split_first() else {
        return false;
    };
    let name = |text: &String| {
        let mut chars = text.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && text.len() <= 64
            && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | ' ' | '-' | '.' | '$'))
    };
    let different = |(i, text): (usize, &String)| {
        !first[..i]
            .iter()
            .any(|other| other.eq_ignore_ascii_case(text))
    };
    if !first.iter().all(name) || !first.iter().enumerate().all(different) {
        return false;
    }
    // Without a number, a date or an empty field below it, a line of names may as well be a row of names.
    rest.is_empty() || rest.iter().flatten().any(|text| !name(text))
}

fn nulls(rows: &[Vec<String>]) -> Vec<String> {
    let has = |null: &str| rows.iter().flatten().any(|field| field == null);
    // `\N` came out of the lexer as what an escaped N means.
    let mut found = vec!["\\N".to_owned()];
    if has("NULL") {
        found.push("NULL".to_owned());
    }
    found
}

fn line_end(text: &[u8]) -> &'static str {
    let feeds = memchr::memchr_iter(b'\n', text).count();
    let returns = memchr::memchr_iter(b'\r', text).count();
    let both = memchr::memmem::find_iter(text, b"\r\n").count();
    match (feeds - both, returns - both, both) {
        (0, 0, 0) => "none",
        (_, 0, 0) => "LF",
        (0, 0, _) => "CRLF",
        (0, _, 0) => "CR",
        _ => "mixed",
    }
}

fn encoding(head: &[u8], whole: bool) -> (&'static str, CharacterSet) {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return ("UTF-16", CharacterSet::Binary);
    }
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character that the head cuts off.
        Err(e) => !whole && e.error_len().is_none(),
    };
    if head.is_ascii() {
        return ("ASCII", CharacterSet::Binary);
    }
    if valid {
        return ("UTF-8", CharacterSet::Binary);
    }
    let cut = head.len().saturating_sub(if whole { 0 } else { 4 });
    let decoded = encoding_rs::GB18030
        .decode_without_bom_handling_and_without_replacement(&head[..cut])
        .is_some();
    if decoded && mostly_pairs(head) {
        ("GB18030", CharacterSet::Gb18030)
    } else {
        ("latin1", CharacterSet::Latin1)
    }
}

/// Characters of Chinese text are mostly two bytes from 0x80 on, letters with accents stand among others.
fn mostly_pairs(text: &[u8]) -> bool {
    let (mut pairs, mut alone, mut at) = (0, 0, 0);
    while at < text.len() {
        match (
            text[at] >= 0x80,
            text.get(at + 1).is_some_and(|b| *b >= 0x80),
        ) {
            (true, true) => (pairs, at) = (pairs + 1, at + 2),
            (true, false) => (alone, at) = (alone + 1, at + 1),
            (false, _) => at += 1,
        }
    }
    pairs > alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: impl AsRef<[u8]>, separator: &str, quote: &str, header: bool, width: usize) {
        let text = text.as_ref();
        let guess = guess(text, true);
        let options = &guess.options;
        assert_eq!(
            (
                &*options.separator,
                &*options.quote,
                options.header,
                guess.width
            ),
            (separator, quote, header, width),
            "{}",
            text.escape_ascii()
        );
    }

    #[test]
    fn dialects_of_usual_exports_are_recognised() {
        check("id,name,n\n1,a b,10\n2,\"b, c\",20\n", ",", "\"", true, 3);
        check("1\tx\t2024-01-01\n2\ty\t\\N\n", "\t", "\"", false, 3);
        check("1|155190|7706|1|\n1|67310|7311|2|\n", "|", "\"", false, 5);
        check("a|+|b|+|c\n1|+|2|+|3\n", "|+|", "\"", true, 3);
        check("'x;y';'z'\n'it''s';''\n", ";", "'", false, 2);
        check("5\u{1}it's\u{1}6\"\n7\u{1}x\u{1}8\n", "\u{1}", "", false, 3);
        check("word\nother\n", ",", "\"", false, 1);
        check("id\n1\n2\n", ",", "\"", true, 1);
        check("", ",", "", false, 1);
    }

    #[test]
    fn encodings_and_line_ends_are_recognised() {
        let of = |bytes: &[u8]| {
            let guess = guess(bytes, true);
            (guess.encoding, guess.line_end, guess.bom)
        };
        assert_eq!(of(b"a,b\n1,2\n"), ("ASCII", "LF", false));
        assert_eq!(
            of("\u{feff}ä,b\r\n1,2\r\n".as_bytes()),
            ("UTF-8", "CRLF", true)
        );
        assert_eq!(of(b"\xc4\xe3,b\r1,2\r"), ("GB18030", "CR", false));
        assert_eq!(of(b"M\xfcller,b\n1,2\r\n"), ("latin1", "mixed", false));
        assert_eq!(of(b"\xff\xfea\0"), ("UTF-16", "none", false));
    }
}
