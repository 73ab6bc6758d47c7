//! Logic and choice: AND, OR, NOT, IF, CASE, COALESCE, NULLIF; and the bit operators.

use super::compare::{bool_datum, order};
use super::compile::{Call, Expr, Function, MANY, Value};
use super::convert::Ctx;
use super::types::{Ty, one_of};
use crate::datum::Datum;
use crate::mysql::tp;
use std::cmp::Ordering;

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

fn boolean(_: &[Expr]) -> Ty {
    Ty::boolean()
}

fn uint(_: &[Expr]) -> Ty {
    Ty::uint()
}

const fn function(
    name: &'static str,
    args: (usize, usize),
    ty: fn(&[Expr]) -> Ty,
    eval: super::compile::Eval,
) -> Function {
    Function {
        name,
        args,
        ty,
        eval,
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("and", (2, 2), boolean, and),
    function("or", (2, 2), boolean, or),
    function("xor", (2, 2), boolean, xor),
    function("not", (1, 1), boolean, |ctx, call| {
        Ok(ctx
            .truth(&call.args[0])?
            .map_or(Datum::Null, |v| bool_datum(!v)))
    }),
    function(
        "if",
        (3, 3),
        |args| one_of([&args[1].ty, &args[2].ty]),
        if_else,
    ),
    function(
        "ifnull",
        (2, 2),
        |args| one_of(args.iter().map(|a| &a.ty)),
        |ctx, call| Ok(scaled(coalesce(ctx, call)?, &call.ty)),
    ),
    function(
        "coalesce",
        (1, MANY),
        |args| one_of(args.iter().map(|a| &a.ty)),
        coalesce,
    ),
    function("nullif", (2, 2), |args| args[0].ty.clone(), nullif),
    function("case", (2, MANY), case_ty, case),
    function(
        "any_value",
        (1, 1),
        |args| args[0].ty.clone(),
        |ctx, call| ctx.eval(&call.args[0]),
    ),
    function("bitand", (2, 2), uint, |ctx, call| {
        bits(ctx, call, |a, b| a & b)
    }),
    function("bitor", (2, 2), uint, |ctx, call| {
        bits(ctx, call, |a, b| a | b)
    }),
    function("bitxor", (2, 2), uint, |ctx, call| {
        bits(ctx, call, |a, b| a ^ b)
    }),
    function("leftshift", (2, 2), uint, |ctx, call| {
        bits(ctx, call, |a, b| if b < 64 { a << b } else { 0 })
    }),
    function("rightshift", (2, 2), uint, |ctx, call| {
        bits(ctx, call, |a, b| if b < 64 { a >> b } else { 0 })
    }),
    function("bitneg", (1, 1), uint, |ctx, call| {
        Ok(ctx
            .int(&call.args[0])?
            .map_or(Datum::Null, |v| Datum::UInt(!(v as u64))))
    }),
    function("bit_count", (1, 1), int, |ctx, call| {
        let count = ctx.int(&call.args[0])?.map(|v| (v as u64).count_ones());
        Ok(count.map_or(Datum::Null, |count| Datum::Int(i64::from(count))))
    }),
];

fn and(ctx: &Ctx<'_>, call: &Call) -> Value {
    let left = ctx.truth(&call.args[0])?;
    if left == Some(false) {
        return Ok(bool_datum(false));
    }
    Ok(match (left, ctx.truth(&call.args[1])?) {
        (_, Some(false)) => bool_datum(false),
        (Some(true), Some(true)) => bool_datum(true),
        _ => Datum::Null,
    })
}

fn or(ctx: &Ctx<'_>, call: &Call) -> Value {
    let left = ctx.truth(&call.args[0])?;
    if left == Some(true) {
        return Ok(bool_datum(true));
    }
    Ok(match (left, ctx.truth(&call.args[1])?) {
        (_, Some(true)) => bool_datum(true),
        (Some(false), Some(false)) => bool_datum(false),
        _ => Datum::Null,
    })
}

fn xor(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (ctx.truth(&call.args[0])?, ctx.truth(&call.args[1])?);
    Ok(left
        .zip(right)
        .map_or(Datum::Null, |(a, b)| bool_datum(a != b)))
}

fn bits(ctx: &Ctx<'_>, call: &Call, apply: fn(u64, u64) -> u64) -> Value {
    let (a, b) = (ctx.int(&call.args[0])?, ctx.int(&call.args[1])?);
    Ok(a.zip(b)
        .map_or(Datum::Null, |(a, b)| Datum::UInt(apply(a as u64, b as u64))))
}

fn chosen(ctx: &Ctx<'_>, call: &Call, arg: &Expr) -> Value {
    let datum = ctx.eval(arg)?;
    Ok(scaled(ctx.unified(datum, &arg.ty, &call.ty)?, &call.ty))
}

/// IF, IFNULL and CASE give decimals the scale of their type; COALESCE leaves them as they are.
fn scaled(datum: Datum, ty: &Ty) -> Datum {
    match datum {
        Datum::Decimal(v) if ty.tp == tp::NEW_DECIMAL && ty.scale >= 0 => {
            Datum::Decimal(v.round(ty.digits()))
        }
        other => other,
    }
}

fn if_else(ctx: &Ctx<'_>, call: &Call) -> Value {
    let yes = ctx.truth(&call.args[0])? == Some(true);
    chosen(ctx, call, &call.args[if yes { 1 } else { 2 }])
}

fn coalesce(ctx: &Ctx<'_>, call: &Call) -> Value {
    for arg in &call.args {
        let datum = ctx.eval(arg)?;
        if !datum.is_null() {
            return ctx.unified(datum, &arg.ty, &call.ty);
        }
    }
    Ok(Datum::Null)
}

fn nullif(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    let (a, b) = (ctx.eval(left)?, ctx.eval(right)?);
    if a.is_null() || b.is_null() {
        return Ok(a);
    }
    let equal = order(ctx, (&a, &left.ty), (&b, &right.ty))? == Some(Ordering::Equal);
    Ok(if equal { Datum::Null } else { a })
}

/// Positions of THEN and ELSE.
fn results(len: usize) -> impl Iterator<Item = usize> {
    let otherwise = (len % 2 == 1).then(|| len - 1);
    (1..len).step_by(2).chain(otherwise)
}

fn case_ty(args: &[Expr]) -> Ty {
    one_of(results(args.len()).map(|i| &args[i].ty))
}

fn case(ctx: &Ctx<'_>, call: &Call) -> Value {
    let args = &call.args;
    for when in (0..args.len() - 1).step_by(2) {
        if ctx.truth(&args[when])? == Some(true) {
            return chosen(ctx, call, &args[when + 1]);
        }
    }
    match args.last() {
        Some(otherwise) if args.len() % 2 == 1 => chosen(ctx, call, otherwise),
        _ => Ok(Datum::Null),
    }
}
