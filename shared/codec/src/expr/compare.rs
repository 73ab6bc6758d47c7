//! Comparison: `=`, `<`, IN, LIKE, IS, GREATEST, LEAST, INTERVAL(). What two values are compared as follows
//! from their types; texts compare under the stronger collation.

use super::EvalError;
use super::compile::{Call, Expr, Function, MANY, Value};
use super::convert::{Ctx, text_of};
use super::types::{Family, Ty, merge_collations, one_of};
use crate::collation::Collation;
use crate::datum::Datum;
use crate::time::TimeKind;
use std::cmp::Ordering;

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

fn boolean(_: &[Expr]) -> Ty {
    Ty::boolean()
}

const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    eval: super::compile::Eval,
) -> Function {
    Function {
        name,
        args: (least, most),
        ty: boolean,
        eval,
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("eq", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_eq)),
    function("ne", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_ne)),
    function("lt", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_lt)),
    function("le", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_le)),
    function("gt", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_gt)),
    function("ge", 2, 2, |ctx, call| compare(ctx, call, Ordering::is_ge)),
    function("nulleq", 2, 2, null_eq),
    function("in", 2, MANY, is_in),
    function("like", 2, 3, like),
    function("isnull", 1, 1, |ctx, call| {
        Ok(bool_datum(ctx.eval(&call.args[0])?.is_null()))
    }),
    function("istrue", 1, 1, |ctx, call| {
        Ok(bool_datum(ctx.truth(&call.args[0])? == Some(true)))
    }),
    function("isfalse", 1, 1, |ctx, call| {
        Ok(bool_datum(ctx.truth(&call.args[0])? == Some(false)))
    }),
    Function {
        name: "strcmp",
        args: (2, 2),
        ty: int,
        eval: strcmp,
    },
    Function {
        name: "interval",
        args: (2, MANY),
        ty: int,
        eval: interval,
    },
    Function {
        name: "greatest",
        args: (2, MANY),
        ty: extreme_ty,
        eval: |ctx, call| extreme(ctx, call, Ordering::Greater),
    },
    Function {
        name: "least",
        args: (2, MANY),
        ty: extreme_ty,
        eval: |ctx, call| extreme(ctx, call, Ordering::Less),
    },
];

pub(super) fn bool_datum(value: bool) -> Datum {
    Datum::Int(i64::from(value))
}

/// What two types are compared as.
fn common(left: &Ty, right: &Ty) -> Family {
    use Family::*;
    let (a, b) = (left.family(), right.family());
    match (a, b) {
        (Json, _) | (_, Json) => Json,
        (Str, Str) => Str,
        (Int, Int) => Int,
        (Int | Decimal, Int | Decimal) => Decimal,
        (Duration, Duration) => Duration,
        (Duration, Str) | (Str, Duration) => Duration,
        (Time | Duration, Time | Duration) => Time,
        (Time, Str) | (Str, Time) if !left.is_hybrid() && !right.is_hybrid() => Time,
        _ => Real,
    }
}

/// Order of two values that are not NULL; `None` when one of them does not convert.
pub(super) fn order(
    ctx: &Ctx<'_>,
    left: (&Datum, &Ty),
    right: (&Datum, &Ty),
) -> Result<Option<Ordering>, EvalError> {
    let ((a, left_ty), (b, right_ty)) = (left, right);
    Ok(match common(left_ty, right_ty) {
        Family::Json => {
            let (a, b) = (
                ctx.json_element(a, left_ty)?,
                ctx.json_element(b, right_ty)?,
            );
            a.zip(b).map(|(a, b)| super::json::compare(&a, &b))
        }
        Family::Str => {
            let (a, b) = (text_of(a, left_ty), text_of(b, right_ty));
            let (collation, _) = merge_collations(left_ty, right_ty);
            let collation = collation.under(ctx.session.new_collation);
            a.zip(b).map(|(a, b)| collation.compare(&a, &b))
        }
        Family::Int => {
            let (a, b) = (ctx.datum_int(a)?, ctx.datum_int(b)?);
            a.zip(b).map(|(a, b)| a.cmp(&b))
        }
        Family::Decimal => {
            let (a, b) = (ctx.datum_decimal(a)?, ctx.datum_decimal(b)?);
            a.zip(b).map(|(a, b)| decimal_order(&a, &b))
        }
        Family::Duration => {
            let (a, b) = (ctx.datum_duration(a)?, ctx.datum_duration(b)?);
            a.zip(b).map(|(a, b)| a.nanos.cmp(&b.nanos))
        }
        Family::Time => {
            let kind = TimeKind::Datetime;
            let (a, b) = (ctx.datum_time(a, kind)?, ctx.datum_time(b, kind)?);
            a.zip(b).map(|(a, b)| a.packed().cmp(&b.packed()))
        }
        Family::Real => {
            if let Some(order) = time_with_number(ctx, left, right)? {
                return Ok(Some(order));
            }
            let (a, b) = (ctx.datum_real(a)?, ctx.datum_real(b)?);
            a.zip(b)
                .map(|(a, b)| a.partial_cmp(&b).unwrap_or(Ordering::Equal))
        }
    })
}

/// A date beside a number that reads as one: they compare as dates, so that `20240101` is midnight.
fn time_with_number(
    ctx: &Ctx<'_>,
    left: (&Datum, &Ty),
    right: (&Datum, &Ty),
) -> Result<Option<Ordering>, EvalError> {
    use crate::time::parse::from_number;
    let as_time = |datum: &Datum| match datum {
        Datum::Time(v) => Some(v.packed()),
        Datum::Int(v) => from_number(*v).map(|civil| civil.packed()),
        _ => None,
    };
    let one_is_time = matches!(left.0, Datum::Time(_)) != matches!(right.0, Datum::Time(_));
    let _ = ctx;
    Ok(as_time(left.0)
        .zip(as_time(right.0))
        .filter(|_| one_is_time)
        .map(|(a, b)| a.cmp(&b)))
}

pub(super) fn decimal_order(
    a: &crate::decimal::MyDecimal,
    b: &crate::decimal::MyDecimal,
) -> Ordering {
    match a.checked_sub(b) {
        Ok(difference) if difference.is_zero() => Ordering::Equal,
        Ok(difference) if difference.is_negative() => Ordering::Less,
        Ok(_) => Ordering::Greater,
        Err(_) => b.is_negative().cmp(&a.is_negative()),
    }
}

fn compare(ctx: &Ctx<'_>, call: &Call, holds: fn(Ordering) -> bool) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let a = ctx.eval(left)?;
    if a.is_null() {
        return Ok(Datum::Null);
    }
    let b = ctx.eval(right)?;
    if b.is_null() {
        return Ok(Datum::Null);
    }
    let order = order(ctx, (&a, &left.ty), (&b, &right.ty))?;
    Ok(order.map_or(Datum::Null, |order| bool_datum(holds(order))))
}

fn null_eq(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let (a, b) = (ctx.eval(left)?, ctx.eval(right)?);
    if a.is_null() || b.is_null() {
        return Ok(bool_datum(a.is_null() && b.is_null()));
    }
    let order = order(ctx, (&a, &left.ty), (&b, &right.ty))?;
    Ok(bool_datum(order == Some(Ordering::Equal)))
}

fn is_in(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, list) = (&call.args[0], &call.args[1..]);
    let a = ctx.eval(left)?;
    if a.is_null() {
        return Ok(Datum::Null);
    }
    let mut unknown = false;
    for item in list {
        let b = ctx.eval(item)?;
        if b.is_null() {
            unknown = true;
        } else if order(ctx, (&a, &left.ty), (&b, &item.ty))? == Some(Ordering::Equal) {
            return Ok(bool_datum(true));
        }
    }
    Ok(if unknown {
        Datum::Null
    } else {
        bool_datum(false)
    })
}

fn strcmp(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let (a, b) = (ctx.text(left)?, ctx.text(right)?);
    let (collation, _) = merge_collations(&left.ty, &right.ty);
    let collation = collation.under(ctx.session.new_collation);
    Ok(a.zip(b).map_or(Datum::Null, |(a, b)| {
        Datum::Int(collation.compare(&a, &b) as i64)
    }))
}

/// Index of the last bound that is not above the first argument; -1 for NULL.
fn interval(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(value) = ctx.real(&call.args[0])? else {
        return Ok(Datum::Int(-1));
    };
    let mut index = 0;
    for bound in &call.args[1..] {
        match ctx.real(bound)? {
            Some(bound) if bound > value => break,
            _ => index += 1,
        }
    }
    Ok(Datum::Int(index))
}

fn extreme_ty(args: &[Expr]) -> Ty {
    let types = || args.iter().map(|arg| &arg.ty);
    let mixed = types().any(|ty| ty.family() == Family::Str)
        && types().any(|ty| ty.family() != Family::Str);
    let numbers =
        types().any(|ty| matches!(ty.family(), Family::Int | Family::Real | Family::Decimal));
    // Numbers and texts compare as numbers.
    if mixed && numbers {
        Ty::real()
    } else {
        one_of(types())
    }
}

fn extreme(ctx: &Ctx<'_>, call: &Call, wanted: Ordering) -> Value {
    let mut best: Option<Datum> = None;
    for arg in &call.args {
        let datum = ctx.eval(arg)?;
        if datum.is_null() {
            return Ok(Datum::Null);
        }
        let datum = ctx.unified(datum, &arg.ty, &call.ty)?;
        best = Some(match best {
            None => datum,
            Some(best) => {
                let order = order(ctx, (&datum, &call.ty), (&best, &call.ty))?;
                if order == Some(wanted) { datum } else { best }
            }
        });
    }
    Ok(best.unwrap_or(Datum::Null))
}

fn like(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let escape = match call.args.get(2) {
        Some(arg) => ctx
            .string(arg)?
            .and_then(|text| text.chars().next())
            .unwrap_or('\\'),
        None => '\\',
    };
    let (Some(text), Some(pattern)) = (ctx.text(left)?, ctx.text(right)?) else {
        return Ok(Datum::Null);
    };
    let (collation, _) = merge_collations(&left.ty, &right.ty);
    let collation = collation.under(ctx.session.new_collation);
    let chars = |bytes: &[u8]| -> Vec<char> {
        // Bytes that are no text still compare by themselves.
        match std::str::from_utf8(bytes) {
            Ok(text) if collation != Collation::Binary => text.chars().collect(),
            _ => bytes.iter().map(|byte| char::from(*byte)).collect(),
        }
    };
    let pattern = compile_pattern(&chars(&pattern), escape);
    let same = |a: char, b: char| collation.same_character(a, b);
    Ok(bool_datum(matches_pattern(&chars(&text), &pattern, &same)))
}

#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Any,
    One,
    Exact(char),
}

fn compile_pattern(pattern: &[char], escape: char) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(pattern.len());
    let mut chars = pattern.iter();
    while let Some(c) = chars.next() {
        match *c {
            c if c == escape => pieces.push(Piece::Exact(*chars.next().unwrap_or(&escape))),
            '%' if pieces.last() == Some(&Piece::Any) => {}
            '%' => pieces.push(Piece::Any),
            '_' => pieces.push(Piece::One),
            c => pieces.push(Piece::Exact(c)),
        }
    }
    pieces
}

/// Greedy matching that goes back to the last `%` only, so the time is at most the product of the lengths.
fn matches_pattern(text: &[char], pattern: &[Piece], same: &dyn Fn(char, char) -> bool) -> bool {
    let (mut at, mut piece) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < text.len() {
        let fits = match pattern.get(piece) {
            Some(Piece::Any) => {
                back = Some((piece + 1, at));
                piece += 1;
                continue;
            }
            Some(Piece::One) => true,
            Some(Piece::Exact(c)) => same(text[at], *c),
            None => false,
        };
        if fits {
            at += 1;
            piece += 1;
            continue;
        }
        let Some((from, tried)) = back else {
            return false;
        };
        back = Some((from, tried + 1));
        (piece, at) = (from, tried + 1);
    }
    pattern[piece.min(pattern.len())..]
        .iter()
        .all(|piece| *piece == Piece::Any)
}
