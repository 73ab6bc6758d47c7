//! Functions on texts that are rarer: codes of characters, other notations of bytes and numbers, sets.

use super::compile::{Call, Eval, Expr, Function, MANY, Value};
use super::convert::{Ctx, text_datum, unsupported};
use super::text::{RESULT_BYTES_MAX, first, units};
use super::types::{Family, Ty, coercibility, joined_text};
use crate::collation::Collation;
use crate::datum::Datum;
use base64::Engine as _;

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

fn plain(_: &[Expr]) -> Ty {
    Ty::plain_text()
}

fn bytes(_: &[Expr]) -> Ty {
    Ty::bytes()
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("ascii", (1, 1), int, |ctx, call| {
        let text = ctx.encoded(&call.args[0])?;
        Ok(text.map_or(Datum::Null, |text| {
            Datum::Int(text.first().map_or(0, |b| i64::from(*b)))
        }))
    }),
    function("ord", (1, 1), int, ord),
    function("char", (2, MANY), char_ty, char_of),
    function("hex", (1, 1), plain, hex),
    function("unhex", (1, 1), bytes, unhex),
    function("bin", (1, 1), plain, |ctx, call| {
        let value = ctx.int(&call.args[0])?;
        Ok(text_datum(
            value.map(|v| format!("{:b}", v as u64).into_bytes()),
        ))
    }),
    function("oct", (1, 1), plain, |ctx, call| {
        let value = ctx.int(&call.args[0])?;
        Ok(text_datum(
            value.map(|v| format!("{:o}", v as u64).into_bytes()),
        ))
    }),
    function(
        "elt",
        (2, MANY),
        |args| joined_text(args[1..].iter().map(|a| &a.ty)),
        elt,
    ),
    function(
        "insert",
        (4, 4),
        |args| joined_text([&args[0].ty, &args[3].ty]),
        insert,
    ),
    function(
        "insert_func",
        (4, 4),
        |args| joined_text([&args[0].ty, &args[3].ty]),
        insert,
    ),
    function("quote", (1, 1), first, quote),
    function("to_base64", (1, 1), plain, to_base64),
    function("from_base64", (1, 1), bytes, from_base64),
    function(
        "make_set",
        (2, MANY),
        |args| joined_text(args[1..].iter().map(|a| &a.ty)),
        make_set,
    ),
    function("export_set", (3, 5), plain, export_set),
    function("format", (2, 3), plain, format_number),
    // The column's cast reads the text.
    function("vec_from_text", (1, 1), plain, |ctx, call| {
        ctx.text(&call.args[0]).map(text_datum)
    }),
];

fn ord(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(text) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let bytes = call.args[0].ty.is_binary_text();
    let head = units(&text, bytes)
        .first()
        .map_or(Vec::new(), |unit| unit.to_vec());
    let head = super::convert::encode_charset(head, &call.args[0].ty);
    Ok(Datum::Int(
        head.iter().fold(0, |v, byte| v << 8 | i64::from(*byte)),
    ))
}

fn char_ty(args: &[Expr]) -> Ty {
    let charset = match args[0].as_const() {
        Some(Datum::Bytes(charset)) => String::from_utf8_lossy(charset).into_owned(),
        _ => "binary".to_owned(),
    };
    let collation = Collation::default_of(&charset, false).unwrap_or(Collation::Binary);
    Ty::text(collation, coercibility::IMPLICIT)
}

/// Bytes of the numbers, NULLs left out.
fn char_of(ctx: &Ctx<'_>, call: &Call) -> Value {
    let mut out = Vec::new();
    for arg in &call.args[1..] {
        if let Some(value) = ctx.int(arg)? {
            let word = (value as u32).to_be_bytes();
            let skip = word.iter().take_while(|byte| **byte == 0).count().min(3);
            out.extend_from_slice(&word[skip..]);
        }
    }
    if call.ty.collation != Collation::Binary && std::str::from_utf8(&out).is_err() {
        return Ok(Datum::Null);
    }
    Ok(Datum::Bytes(out))
}

pub(super) fn hex_text(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| format!("{byte:02X}").into_bytes())
        .collect()
}

fn hex(ctx: &Ctx<'_>, call: &Call) -> Value {
    let arg = &call.args[0];
    let number = matches!(
        arg.ty.family(),
        Family::Int | Family::Real | Family::Decimal
    );
    if number {
        let value = ctx.int(arg)?;
        return Ok(text_datum(
            value.map(|v| format!("{:X}", v as u64).into_bytes()),
        ));
    }
    Ok(text_datum(ctx.encoded(arg)?.map(|text| hex_text(&text))))
}

fn unhex(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(mut text) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    if text.len() % 2 == 1 {
        text.insert(0, b'0');
    }
    Ok(text_datum(unhex_text(&text)))
}

pub(super) fn unhex_text(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

fn elt(ctx: &Ctx<'_>, call: &Call) -> Value {
    let index = ctx
        .small(&call.args[0])?
        .and_then(|index| usize::try_from(index).ok());
    match index
        .filter(|index| *index > 0)
        .and_then(|index| call.args.get(index))
    {
        Some(arg) => ctx.text(arg).map(text_datum),
        None => Ok(Datum::Null),
    }
}

fn insert(ctx: &Ctx<'_>, call: &Call) -> Value {
    let text = ctx.text(&call.args[0])?;
    let (position, length) = (ctx.small(&call.args[1])?, ctx.small(&call.args[2])?);
    let new = ctx.text(&call.args[3])?;
    let (Some(text), Some(position), Some(length), Some(new)) = (text, position, length, new)
    else {
        return Ok(Datum::Null);
    };
    let units = units(&text, call.ty.collation == Collation::Binary);
    let count = units.len() as i64;
    if position < 1 || position > count {
        return Ok(Datum::Bytes(text));
    }
    let start = (position - 1) as usize;
    let end = if length < 0 {
        count
    } else {
        (position - 1).saturating_add(length).min(count)
    };
    let out = [units[..start].concat(), new, units[end as usize..].concat()].concat();
    Ok(Datum::Bytes(out))
}

fn quote(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(text) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Bytes(b"NULL".to_vec()));
    };
    let mut out = vec![b'\''];
    for byte in text {
        match byte {
            b'\\' | b'\'' => out.extend([b'\\', byte]),
            0 => out.extend(b"\\0"),
            26 => out.extend(b"\\Z"),
            other => out.push(other),
        }
    }
    out.push(b'\'');
    Ok(Datum::Bytes(out))
}

/// Lines of 76 characters.
fn to_base64(ctx: &Ctx<'_>, call: &Call) -> Value {
    const LINE: usize = 76;
    let text = ctx.encoded(&call.args[0])?;
    Ok(text_datum(text.map(|text| {
        let encoded = base64::engine::general_purpose::STANDARD
            .encode(text)
            .into_bytes();
        encoded.chunks(LINE).collect::<Vec<_>>().join(&b'\n')
    })))
}

fn from_base64(ctx: &Ctx<'_>, call: &Call) -> Value {
    let text = ctx.text(&call.args[0])?;
    Ok(text_datum(text.and_then(|text| {
        let dense: Vec<u8> = text
            .into_iter()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        base64::engine::general_purpose::STANDARD.decode(dense).ok()
    })))
}

fn make_set(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(mask) = ctx.int(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let mut parts = Vec::new();
    for (i, arg) in call.args[1..].iter().enumerate().take(64) {
        if mask as u64 >> i & 1 == 1 {
            parts.extend(ctx.text(arg)?);
        }
    }
    Ok(Datum::Bytes(parts.join(&b',')))
}

fn export_set(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(mask) = ctx.int(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let (on, off) = (ctx.text(&call.args[1])?, ctx.text(&call.args[2])?);
    let separator = match call.args.get(3) {
        None => Some(b",".to_vec()),
        Some(arg) => ctx.text(arg)?,
    };
    let count = match call.args.get(4) {
        None => Some(64),
        Some(arg) => ctx.small(arg)?,
    };
    let (Some(on), Some(off), Some(separator), Some(count)) = (on, off, separator, count) else {
        return Ok(Datum::Null);
    };
    let count = if (0..=64).contains(&count) { count } else { 64 };
    if count as usize * (on.len().max(off.len()) + separator.len()) > RESULT_BYTES_MAX {
        return Ok(Datum::Null);
    }
    let bit = |i: i64| {
        if mask as u64 >> i & 1 == 1 {
            on.clone()
        } else {
            off.clone()
        }
    };
    Ok(Datum::Bytes(
        (0..count)
            .map(bit)
            .collect::<Vec<_>>()
            .join(separator.as_slice()),
    ))
}

/// A number with groups of thousands. Other locales than en_US are not known.
fn format_number(ctx: &Ctx<'_>, call: &Call) -> Value {
    if let Some(locale) = call.args.get(2) {
        let name = ctx.string(locale)?.unwrap_or_default();
        if !name.eq_ignore_ascii_case("en_us") {
            return Err(unsupported("format() with a locale"));
        }
    }
    let (value, places) = (ctx.decimal(&call.args[0])?, ctx.small(&call.args[1])?);
    let (Some(value), Some(places)) = (value, places) else {
        return Ok(Datum::Null);
    };
    let text = value.round(places.clamp(0, 30) as u8).to_string();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.as_str()),
    };
    let (integer, fraction) = match text.split_once('.') {
        Some((integer, fraction)) => (integer, format!(".{fraction}")),
        None => (text, String::new()),
    };
    let mut grouped = String::from(sign);
    for (i, digit) in integer.chars().enumerate() {
        if i > 0 && (integer.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.push_str(&fraction);
    Ok(Datum::Bytes(grouped.into_bytes()))
}
