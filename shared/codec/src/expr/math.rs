//! Arithmetic and mathematics. EXP, LOG and the trigonometric functions are left out on purpose; `power` says why.

use super::EvalError;
use super::compile::{Call, Eval, Expr, Function, Value, out_of_range};
use super::convert::{Ctx, int_datum};
use super::types::{Family, Ty};
use crate::datum::Datum;
use crate::decimal::MyDecimal;
use crate::session::SqlMode;

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

fn real(_: &[Expr]) -> Ty {
    Ty::real()
}

fn int(_: &[Expr]) -> Ty {
    Ty::int()
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("plus", (2, 2), sum_ty, |ctx, call| {
        arithmetic(ctx, call, Op::Plus)
    }),
    function("minus", (2, 2), minus_ty, |ctx, call| {
        arithmetic(ctx, call, Op::Minus)
    }),
    function("mul", (2, 2), product_ty, |ctx, call| {
        arithmetic(ctx, call, Op::Mul)
    }),
    function("mod", (2, 2), mod_ty, |ctx, call| {
        arithmetic(ctx, call, Op::Mod)
    }),
    function("div", (2, 2), div_ty, div),
    function("intdiv", (2, 2), intdiv_ty, intdiv),
    function("unaryminus", (1, 1), negated_ty, negate),
    function(
        "unaryplus",
        (1, 1),
        |args| args[0].ty.clone(),
        |ctx, call| ctx.eval(&call.args[0]),
    ),
    function("abs", (1, 1), abs_ty, abs),
    function("ceil", (1, 1), whole_ty, |ctx, call| whole(ctx, call, true)),
    function("ceiling", (1, 1), whole_ty, |ctx, call| {
        whole(ctx, call, true)
    }),
    function("floor", (1, 1), whole_ty, |ctx, call| {
        whole(ctx, call, false)
    }),
    function("round", (1, 2), round_ty, |ctx, call| {
        round(ctx, call, true)
    }),
    function("truncate", (2, 2), round_ty, |ctx, call| {
        round(ctx, call, false)
    }),
    function("sign", (1, 1), int, |ctx, call| {
        let sign = ctx
            .real(&call.args[0])?
            .map(|v| i64::from(v > 0.0) - i64::from(v < 0.0));
        Ok(sign.map_or(Datum::Null, Datum::Int))
    }),
    function("sqrt", (1, 1), real, |ctx, call| {
        one_real(ctx, call, |v| (v >= 0.0).then(|| v.sqrt()))
    }),
    function("radians", (1, 1), real, |ctx, call| {
        one_real(ctx, call, |v| Some(v * std::f64::consts::PI / 180.0))
    }),
    function("degrees", (1, 1), real, |ctx, call| {
        one_real(ctx, call, |v| Some(v * 180.0 / std::f64::consts::PI))
    }),
    function("pi", (0, 0), real, |_, _| {
        Ok(Datum::Double(std::f64::consts::PI))
    }),
    function(
        "crc32",
        (1, 1),
        |_| Ty::uint(),
        |ctx, call| {
            let text = ctx.encoded(&call.args[0])?;
            Ok(text.map_or(Datum::Null, |text| {
                Datum::UInt(u64::from(crc32fast::hash(&text)))
            }))
        },
    ),
    function("conv", (3, 3), |_| Ty::plain_text(), conv),
    function("rand", (0, 0), real, |ctx, _| {
        // 53 bits: the doubles of [0, 1) that are equally far apart.
        Ok(Datum::Double(
            (ctx.random() >> 11) as f64 / (1u64 << 53) as f64,
        ))
    }),
];

fn family(args: &[Expr]) -> Family {
    let families = args.iter().map(|arg| arg.ty.numeric_family());
    families.fold(Family::Int, |widest, family| match (widest, family) {
        (Family::Real, _) | (_, Family::Real) => Family::Real,
        (Family::Decimal, _) | (_, Family::Decimal) => Family::Decimal,
        _ => Family::Int,
    })
}

fn any_unsigned(args: &[Expr]) -> bool {
    args.iter().any(|arg| arg.ty.is_unsigned())
}

fn int_ty(unsigned: bool) -> Ty {
    if unsigned { Ty::uint() } else { Ty::int() }
}

fn arithmetic_ty(args: &[Expr], unsigned: bool, scale: i32) -> Ty {
    match family(args) {
        Family::Int => int_ty(unsigned),
        Family::Decimal => Ty::decimal(scale.clamp(0, 30)),
        _ => Ty::real(),
    }
}

fn max_scale(args: &[Expr]) -> i32 {
    args.iter()
        .map(|arg| arg.ty.numeric_scale())
        .max()
        .unwrap_or(0)
}

fn sum_ty(args: &[Expr]) -> Ty {
    arithmetic_ty(args, any_unsigned(args), max_scale(args))
}

fn minus_ty(args: &[Expr]) -> Ty {
    sum_ty(args)
}

fn product_ty(args: &[Expr]) -> Ty {
    let scale = args.iter().map(|arg| arg.ty.numeric_scale().max(0)).sum();
    arithmetic_ty(args, any_unsigned(args), scale)
}

fn mod_ty(args: &[Expr]) -> Ty {
    arithmetic_ty(args, args[0].ty.is_unsigned(), max_scale(args))
}

/// The increment of the scale is the session's and is added where the call is compiled.
fn div_ty(args: &[Expr]) -> Ty {
    match family(args) {
        Family::Real => Ty::real(),
        _ => Ty::decimal(args[0].ty.numeric_scale()),
    }
}

fn intdiv_ty(args: &[Expr]) -> Ty {
    int_ty(any_unsigned(args))
}

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Plus,
    Minus,
    Mul,
    Mod,
}

fn arithmetic(ctx: &Ctx<'_>, call: &Call, op: Op) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    match call.ty.family() {
        Family::Int => {
            let (Some(a), Some(b)) = (ctx.int(left)?, ctx.int(right)?) else {
                return Ok(Datum::Null);
            };
            let value = match op {
                Op::Plus => a + b,
                Op::Minus => a - b,
                Op::Mul => a.saturating_mul(b),
                Op::Mod if b == 0 => return by_zero(ctx),
                Op::Mod => a % b,
            };
            // The mode makes a difference signed, and lets it leave the unsigned range.
            let signed =
                op == Op::Minus && ctx.session.sql_mode.has(SqlMode::NO_UNSIGNED_SUBTRACTION);
            let ty = if signed { &Ty::int() } else { &call.ty };
            in_range(value, ty)
        }
        Family::Decimal => {
            let (Some(a), Some(b)) = (ctx.decimal(left)?, ctx.decimal(right)?) else {
                return Ok(Datum::Null);
            };
            let value = match op {
                Op::Plus => a.checked_add(&b),
                Op::Minus => a.checked_sub(&b),
                Op::Mul => a.checked_mul(&b),
                Op::Mod => match a.checked_rem(&b) {
                    Some(rest) => Ok(rest),
                    None => return by_zero(ctx),
                },
            };
            value
                .map(Datum::Decimal)
                .map_err(|_| out_of_range("DECIMAL"))
        }
        _ => {
            let (Some(a), Some(b)) = (ctx.real(left)?, ctx.real(right)?) else {
                return Ok(Datum::Null);
            };
            let value = match op {
                Op::Plus => a + b,
                Op::Minus => a - b,
                Op::Mul => a * b,
                Op::Mod if b == 0.0 => return by_zero(ctx),
                Op::Mod => a % b,
            };
            finite(value)
        }
    }
}

fn in_range(value: i128, ty: &Ty) -> Value {
    let (least, most) = if ty.is_unsigned() {
        (0, i128::from(u64::MAX))
    } else {
        (i128::from(i64::MIN), i128::from(i64::MAX))
    };
    if (least..=most).contains(&value) {
        return Ok(int_datum(Some(value), ty));
    }
    Err(out_of_range(if ty.is_unsigned() {
        "BIGINT UNSIGNED"
    } else {
        "BIGINT"
    }))
}

fn finite(value: f64) -> Value {
    if value.is_finite() {
        Ok(Datum::Double(value))
    } else {
        Err(out_of_range("DOUBLE"))
    }
}

/// NULL, or an error where the mode asks for one.
fn by_zero(ctx: &Ctx<'_>) -> Value {
    const DIVISION_BY_ZERO: u16 = 1365;
    let mode = ctx.session.sql_mode;
    if mode.is_strict() && mode.has(SqlMode::ERROR_FOR_DIVISION_BY_ZERO) {
        return Err(EvalError::new(DIVISION_BY_ZERO, "Division by 0"));
    }
    Ok(Datum::Null)
}

fn div(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    if call.ty.family() == Family::Real {
        let (Some(a), Some(b)) = (ctx.real(left)?, ctx.real(right)?) else {
            return Ok(Datum::Null);
        };
        return if b == 0.0 {
            by_zero(ctx)
        } else {
            finite(a / b)
        };
    }
    let (Some(a), Some(b)) = (ctx.decimal(left)?, ctx.decimal(right)?) else {
        return Ok(Datum::Null);
    };
    match a.checked_div(&b, ctx.session.div_precision_increment) {
        None => by_zero(ctx),
        Some(Err(_)) => Err(out_of_range("DECIMAL")),
        Some(Ok(value)) if value.scale() < call.ty.digits() => {
            Ok(Datum::Decimal(value.round(call.ty.digits())))
        }
        Some(Ok(value)) => Ok(Datum::Decimal(value)),
    }
}

fn intdiv(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (left, right) = (&call.args[0], &call.args[1]);
    if family(&call.args) == Family::Int {
        let (Some(a), Some(b)) = (ctx.int(left)?, ctx.int(right)?) else {
            return Ok(Datum::Null);
        };
        return if b == 0 {
            by_zero(ctx)
        } else {
            in_range(a / b, &call.ty)
        };
    }
    let (Some(a), Some(b)) = (ctx.decimal(left)?, ctx.decimal(right)?) else {
        return Ok(Datum::Null);
    };
    match a.checked_div(&b, ctx.session.div_precision_increment) {
        None => by_zero(ctx),
        Some(Err(_)) => Err(out_of_range("BIGINT")),
        Some(Ok(value)) => in_range(super::convert::decimal_int(&value.truncate(0)), &call.ty),
    }
}

fn negated_ty(args: &[Expr]) -> Ty {
    let ty = &args[0].ty;
    match ty.numeric_family() {
        Family::Int => Ty::int(),
        Family::Decimal => Ty::decimal(ty.numeric_scale()),
        _ => Ty::real(),
    }
}

fn negate(ctx: &Ctx<'_>, call: &Call) -> Value {
    let arg = &call.args[0];
    match call.ty.family() {
        Family::Int => ctx
            .int(arg)?
            .map_or(Ok(Datum::Null), |v| in_range(-v, &call.ty)),
        Family::Decimal => Ok(ctx
            .decimal(arg)?
            .map_or(Datum::Null, |v| Datum::Decimal(v.negated()))),
        _ => Ok(ctx.real(arg)?.map_or(Datum::Null, |v| Datum::Double(-v))),
    }
}

fn abs_ty(args: &[Expr]) -> Ty {
    let ty = &args[0].ty;
    match ty.family() {
        Family::Int => int_ty(ty.is_unsigned()),
        Family::Decimal => Ty::decimal(ty.scale),
        _ => Ty::real(),
    }
}

fn abs(ctx: &Ctx<'_>, call: &Call) -> Value {
    let arg = &call.args[0];
    match call.ty.family() {
        Family::Int => ctx
            .int(arg)?
            .map_or(Ok(Datum::Null), |v| in_range(v.abs(), &call.ty)),
        Family::Decimal => Ok(ctx.decimal(arg)?.map_or(Datum::Null, |v| {
            Datum::Decimal(if v.is_negative() { v.negated() } else { v })
        })),
        _ => Ok(ctx
            .real(arg)?
            .map_or(Datum::Null, |v| Datum::Double(v.abs()))),
    }
}

/// CEIL and FLOOR of a decimal are integers.
fn whole_ty(args: &[Expr]) -> Ty {
    let ty = &args[0].ty;
    match ty.family() {
        Family::Int => int_ty(ty.is_unsigned()),
        Family::Decimal => Ty::int(),
        _ => Ty::real(),
    }
}

fn whole(ctx: &Ctx<'_>, call: &Call, up: bool) -> Value {
    let arg = &call.args[0];
    match call.ty.family() {
        Family::Int if arg.ty.family() == Family::Int => Ok(int_datum(ctx.int(arg)?, &call.ty)),
        Family::Int => {
            let Some(value) = ctx.decimal(arg)? else {
                return Ok(Datum::Null);
            };
            let cut = value.truncate(0);
            let exact = value.checked_sub(&cut).is_ok_and(|rest| rest.is_zero());
            let step = i128::from(!exact && value.is_negative() != up);
            let cut = super::convert::decimal_int(&cut);
            in_range(if up { cut + step } else { cut - step }, &call.ty)
        }
        _ => Ok(ctx.real(arg)?.map_or(Datum::Null, |v| {
            Datum::Double(if up { v.ceil() } else { v.floor() })
        })),
    }
}

fn round_ty(args: &[Expr]) -> Ty {
    let ty = &args[0].ty;
    match ty.family() {
        Family::Int => int_ty(ty.is_unsigned()),
        Family::Decimal => Ty::decimal(match args.get(1).map(|arg| arg.as_const()) {
            None => 0,
            Some(Some(Datum::Int(places))) => (*places).clamp(0, 30) as i32,
            Some(_) => ty.scale,
        }),
        _ => Ty::real(),
    }
}

fn round(ctx: &Ctx<'_>, call: &Call, half_up: bool) -> Value {
    let arg = &call.args[0];
    let places = match call.args.get(1) {
        None => Some(0),
        Some(arg) => ctx.small(arg)?,
    };
    let Some(places) = places else {
        return Ok(Datum::Null);
    };
    match call.ty.family() {
        Family::Int => {
            let Some(value) = ctx.int(arg)? else {
                return Ok(Datum::Null);
            };
            let Some(unit) =
                10i128.checked_pow(u32::try_from(places.min(0).unsigned_abs()).unwrap_or(u32::MAX))
            else {
                return in_range(0, &call.ty);
            };
            let half = if half_up {
                unit / 2 * value.signum()
            } else {
                0
            };
            in_range((value + half) / unit * unit, &call.ty)
        }
        Family::Decimal => {
            let value = ctx.decimal(arg)?;
            Ok(value.map_or(Datum::Null, |v| {
                Datum::Decimal(round_decimal(&v, places, half_up, &call.ty))
            }))
        }
        _ => Ok(ctx.real(arg)?.map_or(Datum::Null, |v| {
            let unit = 10f64.powi(places.clamp(-400, 400) as i32);
            let scaled = v * unit;
            if !scaled.is_finite() {
                return Datum::Double(if places < 0 { 0.0 } else { v });
            }
            let rounded = if half_up {
                scaled.round_ties_even()
            } else {
                scaled.trunc()
            };
            let value = rounded / unit;
            Datum::Double(if value.is_nan() { 0.0 } else { value })
        })),
    }
}

fn round_decimal(v: &MyDecimal, places: i64, half_up: bool, ty: &Ty) -> MyDecimal {
    if places >= 0 {
        let scale = ty.digits().min(places.min(30) as u8);
        return if half_up {
            v.round(scale)
        } else {
            v.truncate(scale)
        };
    }
    let places = places.unsigned_abs().min(82) as u8;
    if half_up {
        return v.round_integer_places(places);
    }
    // Cutting is rounding what half a unit was taken from; do it by the remainder instead.
    let unit = MyDecimal::from_i128(1, 0);
    let ten = MyDecimal::from_i64(10);
    let unit = (0..places).try_fold(unit, |unit, _| unit.checked_mul(&ten));
    let rest = unit.ok().and_then(|unit| v.checked_rem(&unit));
    rest.and_then(|rest| v.checked_sub(&rest).ok())
        .unwrap_or(MyDecimal::ZERO)
        .truncate(0)
}

fn one_real(ctx: &Ctx<'_>, call: &Call, compute: fn(f64) -> Option<f64>) -> Value {
    match ctx.real(&call.args[0])?.and_then(compute) {
        Some(value) => finite(value),
        None => Ok(Datum::Null),
    }
}

/// CONV(text, from base, to base); a negative base makes the result signed.
fn conv(ctx: &Ctx<'_>, call: &Call) -> Value {
    let text = ctx.string(&call.args[0])?;
    let (from, to) = (ctx.small(&call.args[1])?, ctx.small(&call.args[2])?);
    let (Some(text), Some(from), Some(to)) = (text, from, to) else {
        return Ok(Datum::Null);
    };
    let base = |base: i64| {
        u32::try_from(base.unsigned_abs())
            .ok()
            .filter(|b| (2..=36).contains(b))
    };
    let (Some(from_base), Some(to_base)) = (base(from), base(to)) else {
        return Ok(Datum::Null);
    };
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut value = 0u128;
    for digit in digits.chars().map_while(|c| c.to_digit(from_base)) {
        value = (value * u128::from(from_base) + u128::from(digit)).min(u128::from(u64::MAX));
    }
    let mut value = value as u64;
    if negative {
        value = if from < 0 {
            value
        } else {
            value.wrapping_neg()
        };
    }
    let minus = if from < 0 && negative {
        true
    } else if to < 0 && value > i64::MAX as u64 {
        value = value.wrapping_neg();
        true
    } else {
        false
    };
    let mut out = Vec::new();
    loop {
        let digit = (value % u64::from(to_base)) as u32;
        out.extend(char::from_digit(digit, to_base).map(|c| c.to_ascii_uppercase() as u8));
        value /= u64::from(to_base);
        if value == 0 {
            break;
        }
    }
    if minus {
        out.push(b'-');
    }
    out.reverse();
    Ok(Datum::Bytes(out))
}
