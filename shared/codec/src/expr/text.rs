//! Functions on texts that every table uses: joining, cutting, case, lengths, searching.

use super::compare::bool_datum;
use super::compile::{Call, Eval, Expr, Function, MANY, Value};
use super::convert::{Ctx, text_datum};
use super::types::{Family, Ty, joined_text, merge_collations};
use crate::collation::Collation;
use crate::datum::Datum;
use std::cmp::Ordering;

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

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

/// Text of all arguments joined.
fn joined(args: &[Expr]) -> Ty {
    joined_text(args.iter().map(|arg| &arg.ty))
}

/// Text like the first argument.
pub(super) fn first(args: &[Expr]) -> Ty {
    joined_text([&args[0].ty])
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("concat", (1, MANY), joined, concat),
    function("concat_ws", (2, MANY), joined, concat_ws),
    function("lower", (1, 1), first, |ctx, call| {
        change_case(ctx, call, false)
    }),
    function("lcase", (1, 1), first, |ctx, call| {
        change_case(ctx, call, false)
    }),
    function("upper", (1, 1), first, |ctx, call| {
        change_case(ctx, call, true)
    }),
    function("ucase", (1, 1), first, |ctx, call| {
        change_case(ctx, call, true)
    }),
    function("length", (1, 1), int, |ctx, call| length(ctx, call, 1)),
    function("octet_length", (1, 1), int, |ctx, call| {
        length(ctx, call, 1)
    }),
    function("bit_length", (1, 1), int, |ctx, call| length(ctx, call, 8)),
    function("char_length", (1, 1), int, char_length),
    function("character_length", (1, 1), int, char_length),
    function("substring", (2, 3), first, substring),
    function("left", (2, 2), first, left),
    function("right", (2, 2), first, right),
    function("trim", (3, 3), first, trim),
    function("ltrim", (1, 1), first, |ctx, call| {
        trim_spaces(ctx, call, true)
    }),
    function("rtrim", (1, 1), first, |ctx, call| {
        trim_spaces(ctx, call, false)
    }),
    function("replace", (3, 3), joined, replace),
    function("repeat", (2, 2), first, repeat),
    function("reverse", (1, 1), first, reverse),
    function("space", (1, 1), |_| Ty::plain_text(), space),
    function(
        "lpad",
        (3, 3),
        |args| joined_text([&args[0].ty, &args[2].ty]),
        |ctx, call| pad(ctx, call, true),
    ),
    function(
        "rpad",
        (3, 3),
        |args| joined_text([&args[0].ty, &args[2].ty]),
        |ctx, call| pad(ctx, call, false),
    ),
    function("instr", (2, 2), int, |ctx, call| {
        locate(ctx, &call.args[1], &call.args[0], None)
    }),
    function("locate", (2, 3), int, |ctx, call| {
        locate(ctx, &call.args[0], &call.args[1], call.args.get(2))
    }),
    function(
        "substring_index",
        (3, 3),
        |args| joined_text([&args[0].ty, &args[1].ty]),
        substring_index,
    ),
    function("field", (2, MANY), int, field),
    function("find_in_set", (2, 2), int, find_in_set),
];

/// Most bytes a function makes; beyond it the server gives NULL (`max_allowed_packet`).
pub(super) const RESULT_BYTES_MAX: usize = 64 << 20;

fn is_bytes(arg: &Expr) -> bool {
    arg.ty.is_binary_text()
}

/// Characters of a text, or its bytes one by one. A byte that is no text is a character of its own.
pub(super) fn units(text: &[u8], bytes: bool) -> Vec<&[u8]> {
    if bytes || text.is_ascii() {
        return text.chunks(1).collect();
    }
    let mut units = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        let mut valid = chunk.valid();
        while let Some(c) = valid.chars().next() {
            let (head, tail) = valid.split_at(c.len_utf8());
            units.push(head.as_bytes());
            valid = tail;
        }
        units.extend(chunk.invalid().chunks(1));
    }
    units
}

fn concat(ctx: &Ctx<'_>, call: &Call) -> Value {
    let mut out = Vec::new();
    for arg in &call.args {
        match ctx.text(arg)? {
            Some(text) => out.extend_from_slice(&text),
            None => return Ok(Datum::Null),
        }
    }
    Ok(Datum::Bytes(out))
}

fn concat_ws(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(separator) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let mut parts = Vec::new();
    for arg in &call.args[1..] {
        parts.extend(ctx.text(arg)?);
    }
    Ok(Datum::Bytes(parts.join(separator.as_slice())))
}

/// Changes letters one by one; a letter whose other case is longer than one stays as it is.
fn change_case(ctx: &Ctx<'_>, call: &Call, up: bool) -> Value {
    let arg = &call.args[0];
    let Some(text) = ctx.text(arg)? else {
        return Ok(Datum::Null);
    };
    if is_bytes(arg) {
        return Ok(Datum::Bytes(text));
    }
    let gbk = matches!(arg.ty.collation.charset(), "gbk" | "gb18030");
    let changed: String = String::from_utf8_lossy(&text)
        .chars()
        .map(|c| if up { upper(c, gbk) } else { lower(c) })
        .collect();
    Ok(Datum::Bytes(changed.into_bytes()))
}

fn lower(c: char) -> char {
    if c == '\u{130}' {
        return 'i';
    }
    let mut changed = c.to_lowercase();
    match (changed.next(), changed.next()) {
        (Some(single), None) => single,
        _ => c,
    }
}

fn upper(c: char, gbk: bool) -> char {
    // MySQL's GBK has no pairs for these letters, and TiDB follows.
    const GBK_ALONE: [char; 26] = [
        'à', 'á', 'è', 'é', 'ê', 'ì', 'í', 'ò', 'ó', 'ù', 'ú', 'ü', 'ā', 'ē', 'ě', 'ī', 'ń', 'ň',
        'ō', 'ū', 'ǎ', 'ǐ', 'ǒ', 'ǔ', 'ǖ', 'ǘ',
    ];
    if gbk && (GBK_ALONE.contains(&c) || matches!(c, 'ǚ' | 'ǜ')) {
        return c;
    }
    // Greek letters with a subscript iota have a capital of one letter that `to_uppercase` takes apart.
    let point = u32::from(c);
    let shift = match point {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => 9,
        _ => 0,
    };
    if shift > 0 {
        return char::from_u32(point + shift).unwrap_or(c);
    }
    let mut changed = c.to_uppercase();
    match (changed.next(), changed.next()) {
        (Some(single), None) => single,
        _ => c,
    }
}

fn length(ctx: &Ctx<'_>, call: &Call, bits: i64) -> Value {
    let text = ctx.encoded(&call.args[0])?;
    Ok(text.map_or(Datum::Null, |text| Datum::Int(text.len() as i64 * bits)))
}

fn char_length(ctx: &Ctx<'_>, call: &Call) -> Value {
    let arg = &call.args[0];
    let text = ctx.text(arg)?;
    Ok(text.map_or(Datum::Null, |text| {
        Datum::Int(units(&text, is_bytes(arg)).len() as i64)
    }))
}

fn substring(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, position) = (ctx.text(&call.args[0])?, ctx.small(&call.args[1])?);
    let length = match call.args.get(2) {
        None => Some(i64::MAX),
        Some(arg) => ctx.small(arg)?,
    };
    let (Some(text), Some(position), Some(length)) = (text, position, length) else {
        return Ok(Datum::Null);
    };
    let units = units(&text, is_bytes(&call.args[0]));
    let count = units.len() as i64;
    let start = if position < 0 {
        count.saturating_add(position)
    } else {
        position - 1
    };
    if position == 0 || start < 0 || start >= count || length <= 0 {
        return Ok(Datum::Bytes(Vec::new()));
    }
    let end = start.saturating_add(length).min(count);
    Ok(Datum::Bytes(units[start as usize..end as usize].concat()))
}

fn left(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, length) = (ctx.text(&call.args[0])?, ctx.small(&call.args[1])?);
    Ok(text.zip(length).map_or(Datum::Null, |(text, length)| {
        let units = units(&text, is_bytes(&call.args[0]));
        let end = (length.max(0) as usize).min(units.len());
        Datum::Bytes(units[..end].concat())
    }))
}

fn right(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, length) = (ctx.text(&call.args[0])?, ctx.small(&call.args[1])?);
    Ok(text.zip(length).map_or(Datum::Null, |(text, length)| {
        let units = units(&text, is_bytes(&call.args[0]));
        let kept = (length.max(0) as usize).min(units.len());
        Datum::Bytes(units[units.len() - kept..].concat())
    }))
}

fn trim(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, what) = (ctx.text(&call.args[0])?, ctx.text(&call.args[1])?);
    let side = ctx.text(&call.args[2])?.unwrap_or_default();
    let (Some(text), Some(what)) = (text, what) else {
        return Ok(Datum::Null);
    };
    let mut rest = text.as_slice();
    if what.is_empty() {
        return Ok(Datum::Bytes(text));
    }
    if side != b"trailing" {
        while let Some(tail) = rest.strip_prefix(what.as_slice()) {
            rest = tail;
        }
    }
    if side != b"leading" {
        while let Some(head) = rest.strip_suffix(what.as_slice()) {
            rest = head;
        }
    }
    Ok(Datum::Bytes(rest.to_vec()))
}

fn trim_spaces(ctx: &Ctx<'_>, call: &Call, leading: bool) -> Value {
    let text = ctx.text(&call.args[0])?;
    Ok(text.map_or(Datum::Null, |text| {
        let other = |byte: &u8| *byte != b' ';
        let kept = if leading {
            text.iter()
                .position(other)
                .map_or(&[][..], |at| &text[at..])
        } else {
            text.iter()
                .rposition(other)
                .map_or(&[][..], |at| &text[..=at])
        };
        Datum::Bytes(kept.to_vec())
    }))
}

/// Where `needle` begins in `text`.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, needle)
}

fn replace(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, from, to) = (
        ctx.text(&call.args[0])?,
        ctx.text(&call.args[1])?,
        ctx.text(&call.args[2])?,
    );
    let (Some(text), Some(from), Some(to)) = (text, from, to) else {
        return Ok(Datum::Null);
    };
    if from.is_empty() {
        return Ok(Datum::Bytes(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some(at) = find(rest, &from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    Ok(Datum::Bytes(out))
}

/// Most bytes of REPEAT: its declared width.
const REPEAT_BYTES_MAX: usize = 16 << 20;

fn repeat(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, count) = (ctx.text(&call.args[0])?, ctx.small(&call.args[1])?);
    Ok(text.zip(count).map_or(Datum::Null, |(text, count)| {
        let count = count.clamp(0, i64::from(i32::MAX)) as usize;
        if text.len().saturating_mul(count) > REPEAT_BYTES_MAX {
            return Datum::Null;
        }
        Datum::Bytes(text.repeat(count))
    }))
}

fn reverse(ctx: &Ctx<'_>, call: &Call) -> Value {
    let arg = &call.args[0];
    let text = ctx.text(arg)?;
    Ok(text_datum(text.map(|text| {
        let mut units = units(&text, is_bytes(arg));
        units.reverse();
        units.concat()
    })))
}

fn space(ctx: &Ctx<'_>, call: &Call) -> Value {
    let count = ctx.small(&call.args[0])?;
    Ok(match count.map(|count| count.max(0) as usize) {
        Some(count) if count <= RESULT_BYTES_MAX => Datum::Bytes(vec![b' '; count]),
        _ => Datum::Null,
    })
}

fn pad(ctx: &Ctx<'_>, call: &Call, before: bool) -> Value {
    let (text, length, filler) = (
        ctx.text(&call.args[0])?,
        ctx.small(&call.args[1])?,
        ctx.text(&call.args[2])?,
    );
    let (Some(text), Some(length), Some(filler)) = (text, length, filler) else {
        return Ok(Datum::Null);
    };
    let bytes = is_bytes(&call.args[0]) || is_bytes(&call.args[2]);
    let (text, filler) = (units(&text, bytes), units(&filler, bytes));
    let Ok(length) = usize::try_from(length) else {
        return Ok(Datum::Null);
    };
    if length > RESULT_BYTES_MAX / 4 || (length > text.len() && filler.is_empty()) {
        return Ok(Datum::Null);
    }
    if length <= text.len() {
        return Ok(Datum::Bytes(text[..length].concat()));
    }
    let fill: Vec<u8> = filler
        .iter()
        .cycle()
        .take(length - text.len())
        .copied()
        .collect::<Vec<_>>()
        .concat();
    let text = text.concat();
    Ok(Datum::Bytes(if before {
        [fill, text].concat()
    } else {
        [text, fill].concat()
    }))
}

/// Position from 1 in characters; 0 when it is not there. Under a `_ci` collation the search ignores case.
fn locate(ctx: &Ctx<'_>, needle: &Expr, text: &Expr, from: Option<&Expr>) -> Value {
    let (needle_text, in_text) = (ctx.text(needle)?, ctx.text(text)?);
    let from = match from {
        None => Some(1),
        Some(arg) => ctx.small(arg)?,
    };
    let (Some(needle_text), Some(in_text), Some(from)) = (needle_text, in_text, from) else {
        return Ok(Datum::Null);
    };
    let (collation, _) = merge_collations(&needle.ty, &text.ty);
    let collation = collation.under(ctx.session.new_collation);
    let bytes = collation == Collation::Binary;
    let (needle, text) = (units(&needle_text, bytes), units(&in_text, bytes));
    let Some(start) = usize::try_from(from)
        .ok()
        .and_then(|from| from.checked_sub(1))
    else {
        return Ok(Datum::Int(0));
    };
    if start > text.len() || needle.len() > text.len() - start {
        return Ok(Datum::Int(0));
    }
    let same = |a: &[u8], b: &[u8]| a == b || collation.is_ci() && same_unit(a, b);
    let found = (start..=text.len() - needle.len())
        .find(|at| needle.iter().zip(&text[*at..]).all(|(a, b)| same(a, b)));
    Ok(Datum::Int(found.map_or(0, |at| at as i64 + 1)))
}

/// Searching ignores case by letters, not by weights: accents count.
fn same_unit(a: &[u8], b: &[u8]) -> bool {
    let lowered = |unit: &[u8]| {
        let text = std::str::from_utf8(unit).ok()?;
        text.chars().next().map(lower)
    };
    lowered(a).zip(lowered(b)).is_some_and(|(a, b)| a == b)
}

/// What stands before the n-th delimiter, or behind the n-th from the end.
fn substring_index(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (text, delimiter) = (ctx.text(&call.args[0])?, ctx.text(&call.args[1])?);
    let count = ctx.small(&call.args[2])?;
    let (Some(text), Some(delimiter), Some(count)) = (text, delimiter, count) else {
        return Ok(Datum::Null);
    };
    if delimiter.is_empty() {
        return Ok(Datum::Bytes(Vec::new()));
    }
    let mut parts = Vec::new();
    let mut rest = text.as_slice();
    while let Some(at) = find(rest, &delimiter) {
        parts.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    parts.push(rest);
    let kept = usize::try_from(count.unsigned_abs())
        .unwrap_or(usize::MAX)
        .min(parts.len());
    let parts = if count < 0 {
        &parts[parts.len() - kept..]
    } else {
        &parts[..kept]
    };
    Ok(Datum::Bytes(parts.join(delimiter.as_slice())))
}

/// Index of the first argument among the others. Texts compare as texts only where all arguments are texts.
fn field(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (wanted, list) = (&call.args[0], &call.args[1..]);
    let value = ctx.eval(wanted)?;
    if value.is_null() {
        return Ok(Datum::Int(0));
    }
    let families = || call.args.iter().map(|arg| arg.ty.family());
    let alike = families().all(|family| family == Family::Str)
        || families().all(|family| family == Family::Int);
    for (i, arg) in list.iter().enumerate() {
        let other = ctx.eval(arg)?;
        if other.is_null() {
            continue;
        }
        let equal = if alike {
            super::compare::order(ctx, (&value, &wanted.ty), (&other, &arg.ty))?
                .is_some_and(Ordering::is_eq)
        } else {
            ctx.datum_real(&value)? == ctx.datum_real(&other)?
        };
        if equal {
            return Ok(Datum::Int(i as i64 + 1));
        }
    }
    Ok(Datum::Int(0))
}

fn find_in_set(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (wanted, set) = (ctx.text(&call.args[0])?, ctx.text(&call.args[1])?);
    let (Some(wanted), Some(set)) = (wanted, set) else {
        return Ok(Datum::Null);
    };
    if set.is_empty() {
        return Ok(bool_datum(false));
    }
    let (collation, _) = merge_collations(&call.args[0].ty, &call.args[1].ty);
    let collation = collation.under(ctx.session.new_collation);
    let found = set
        .split(|byte| *byte == b',')
        .position(|member| collation.compare(member, &wanted).is_eq());
    Ok(Datum::Int(found.map_or(0, |at| at as i64 + 1)))
}
