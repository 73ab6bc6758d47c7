//! REGEXP and its functions. TiDB matches by Go's `regexp`, whose syntax and choice of matches the crate `regex`
//! shares, up to classes like `\d`, which are ASCII there, and operators within brackets, which Go does not have:
//! [`translated`] takes care of both.

use super::EvalError;
use super::compile::{Call, Eval, Expr, Function, Value};
use super::convert::{Ctx, text_datum, unsupported};
use super::types::{Ty, joined_text, merge_collations};
use crate::datum::Datum;
use regex::Regex;
use std::cell::RefCell;

const fn function(
    name: &'static str,
    args: (usize, usize),
    ty: fn(&[Expr]) -> Ty,
    eval: Eval,
) -> Function {
    Function {
        name,
        args,
        ty,
        eval,
    }
}

fn boolean(_: &[Expr]) -> Ty {
    Ty::boolean()
}

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

fn text(args: &[Expr]) -> Ty {
    joined_text([&args[0].ty, &args[1].ty])
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("regexp", (2, 2), boolean, like),
    function("regexp_like", (2, 3), boolean, like),
    function("regexp_substr", (2, 5), text, substr),
    function("regexp_instr", (2, 6), int, instr),
    function("regexp_replace", (3, 6), text, replace),
];

/// `Got error '…' from regexp`.
fn refused(cause: &str) -> EvalError {
    const REGEXP_ERROR: u16 = 1139;
    EvalError::new(REGEXP_ERROR, format!("Got error '{cause}' from regexp"))
}

/// A text to be searched and what to search it for.
struct Search {
    text: String,
    /// Where searching starts, in bytes.
    from: usize,
    regex: Regex,
}

impl Search {
    /// `None` when one of the arguments is NULL. `options` is the argument of the match type, if there is one.
    fn new(
        ctx: &Ctx<'_>,
        call: &Call,
        position: Option<&Expr>,
        options: Option<&Expr>,
    ) -> Result<Option<Search>, EvalError> {
        let (Some(text), Some(pattern)) = (ctx.text(&call.args[0])?, ctx.text(&call.args[1])?)
        else {
            return Ok(None);
        };
        let options = match options {
            None => String::new(),
            Some(arg) => match ctx.string(arg)? {
                Some(options) => options,
                None => return Ok(None),
            },
        };
        let Some(position) = position.map_or(Ok(Some(1)), |arg| ctx.small(arg))? else {
            return Ok(None);
        };
        // Bytes that are no text are matched one by one by the server.
        let (Ok(text), Ok(pattern)) = (String::from_utf8(text), String::from_utf8(pattern)) else {
            return Err(unsupported("a regular expression over bytes"));
        };
        let (collation, _) = merge_collations(&call.args[0].ty, &call.args[1].ty);
        let ignore_case = collation.under(ctx.session.new_collation).is_ci();
        let regex = compiled(&pattern, &flags(&options, ignore_case)?)?;
        let from = start(&text, position)?;
        Ok(Some(Search { text, from, regex }))
    }

    /// The n-th match, counted from 1; less counts as 1.
    fn nth(&self, occurrence: i64) -> Option<regex::Match<'_>> {
        let skip = usize::try_from(occurrence.max(1) - 1).ok()?;
        self.regex.find_iter(&self.text[self.from..]).nth(skip)
    }
}

/// Offset of the character at a position from 1.
fn start(text: &str, position: i64) -> Result<usize, EvalError> {
    let skip = usize::try_from(position)
        .ok()
        .and_then(|p| p.checked_sub(1));
    let found = skip.and_then(|skip| text.char_indices().nth(skip));
    match found {
        Some((at, _)) => Ok(at),
        None if text.is_empty() && position == 1 => Ok(0),
        None => Err(refused("Index out of bounds in regular expression search")),
    }
}

/// Flags of Go's syntax for a match type; of `c` and `i` the last one holds.
fn flags(options: &str, ignore_case: bool) -> Result<String, EvalError> {
    let (mut ignore_case, mut lines, mut all) = (ignore_case, false, false);
    for option in options.chars() {
        match option {
            'c' => ignore_case = false,
            'i' => ignore_case = true,
            'm' => lines = true,
            's' => all = true,
            _ => return Err(refused("Invalid match type")),
        }
    }
    let set = [(ignore_case, 'i'), (lines, 'm'), (all, 's')];
    Ok(set
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, flag)| flag)
        .collect())
}

thread_local! {
    /// The last pattern: it is the same for every row but where a column holds it.
    static LAST: RefCell<Option<(String, Regex)>> = const { RefCell::new(None) };
}

fn compiled(pattern: &str, flags: &str) -> Result<Regex, EvalError> {
    if pattern.is_empty() {
        return Err(refused("Empty pattern is invalid"));
    }
    let mut full = translated(pattern)?;
    if !flags.is_empty() {
        full.insert_str(0, &format!("(?{flags})"));
    }
    LAST.with(|last| {
        let mut last = last.borrow_mut();
        if let Some((_, regex)) = last.as_ref().filter(|(text, _)| *text == full) {
            return Ok(regex.clone());
        }
        let regex = Regex::new(&full).map_err(|_| refused("error parsing regexp"))?;
        *last = Some((full, regex.clone()));
        Ok(regex)
    })
}

/// A pattern of Go's syntax in that of the crate.
fn translated(pattern: &str) -> Result<String, EvalError> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    // Within brackets, and whether the first character of them is still to come.
    let (mut inside, mut first) = (false, false);
    while let Some(c) = chars.next() {
        let at_start = std::mem::take(&mut first);
        match c {
            '\\' => match (chars.next(), inside) {
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('s'), false) => out.push_str("[\\t\\n\\x0c\\r ]"),
                (Some('d'), true) => out.push_str("0-9"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('s'), true) => out.push_str("\\t\\n\\x0c\\r "),
                (Some('D'), _) => out.push_str("[^0-9]"),
                (Some('W'), _) => out.push_str("[^0-9A-Za-z_]"),
                (Some('S'), _) => out.push_str("[^\\t\\n\\x0c\\r ]"),
                (Some('b'), false) => out.push_str("(?-u:\\b)"),
                (Some('B'), false) => return Err(unsupported("\\B in a regular expression")),
                (Some('Q'), false) => return Err(unsupported("\\Q in a regular expression")),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            '[' if !inside => {
                (inside, first) = (true, true);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => {
                // A named class ends in `:]`.
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            // A bracket that comes first is one of the characters.
            ']' if inside && at_start => out.push_str("\\]"),
            ']' if inside => {
                inside = false;
                out.push(']');
            }
            '-' if inside && chars.peek() == Some(&'-') => {
                return Err(unsupported("-- within brackets of a regular expression"));
            }
            '[' | '&' | '~' if inside => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    Ok(out)
}

fn like(ctx: &Ctx<'_>, call: &Call) -> Value {
    let search = Search::new(ctx, call, None, call.args.get(2))?;
    Ok(search.map_or(Datum::Null, |it| {
        Datum::Int(i64::from(it.regex.is_match(&it.text)))
    }))
}

/// An optional whole number; the outer `None` is NULL.
fn number(ctx: &Ctx<'_>, arg: Option<&Expr>, missing: i64) -> Result<Option<i64>, EvalError> {
    arg.map_or(Ok(Some(missing)), |arg| ctx.small(arg))
}

fn substr(ctx: &Ctx<'_>, call: &Call) -> Value {
    let occurrence = number(ctx, call.args.get(3), 1)?;
    let search = Search::new(ctx, call, call.args.get(2), call.args.get(4))?;
    let (Some(search), Some(occurrence)) = (search, occurrence) else {
        return Ok(Datum::Null);
    };
    let found = search.nth(occurrence);
    Ok(text_datum(
        found.map(|found| found.as_str().as_bytes().to_vec()),
    ))
}

fn instr(ctx: &Ctx<'_>, call: &Call) -> Value {
    let occurrence = number(ctx, call.args.get(3), 1)?;
    let behind = number(ctx, call.args.get(4), 0)?;
    let search = Search::new(ctx, call, call.args.get(2), call.args.get(5))?;
    let (Some(search), Some(occurrence), Some(behind)) = (search, occurrence, behind) else {
        return Ok(Datum::Null);
    };
    if !(0..=1).contains(&behind) {
        return Err(refused(
            "Incorrect arguments to regexp_instr: return_option must be 1 or 0",
        ));
    }
    let Some(found) = search.nth(occurrence) else {
        return Ok(Datum::Int(0));
    };
    let at = search.from
        + if behind == 1 {
            found.end()
        } else {
            found.start()
        };
    Ok(Datum::Int(search.text[..at].chars().count() as i64 + 1))
}

fn replace(ctx: &Ctx<'_>, call: &Call) -> Value {
    let with = ctx.string(&call.args[2])?;
    let occurrence = number(ctx, call.args.get(4), 0)?;
    let search = Search::new(ctx, call, call.args.get(3), call.args.get(5))?;
    let (Some(search), Some(with), Some(occurrence)) = (search, with, occurrence) else {
        return Ok(Datum::Null);
    };
    // Less than none is the first.
    let wanted = usize::try_from(occurrence).unwrap_or(1);
    let mut out = search.text[..search.from].to_owned();
    let rest = &search.text[search.from..];
    let mut kept = 0;
    for (n, groups) in search.regex.captures_iter(rest).enumerate() {
        let Some(whole) = groups.get(0) else {
            continue;
        };
        if wanted == 0 || wanted == n + 1 {
            out.push_str(&rest[kept..whole.start()]);
            substitute(&mut out, &with, &groups)?;
            kept = whole.end();
        }
    }
    out.push_str(&rest[kept..]);
    Ok(Datum::Bytes(out.into_bytes()))
}

/// `\1` is a group, a backslash before anything else is dropped.
fn substitute(out: &mut String, with: &str, groups: &regex::Captures<'_>) -> Result<(), EvalError> {
    let mut chars = with.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(digit @ '0'..='9') => {
                let group = digit as usize - '0' as usize;
                if group >= groups.len() {
                    return Err(refused("Substitution number is out of range"));
                }
                out.push_str(groups.get(group).map_or("", |it| it.as_str()));
            }
            other => out.extend(other),
        }
    }
    Ok(())
}
