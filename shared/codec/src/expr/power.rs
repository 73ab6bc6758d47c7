//! POW with an exponent that is an integer or a half: multiplications and square roots, which are the same on every
//! processor. Other exponents, like EXP, LOG and the trigonometric functions, are refused when the table is compiled:
//! their last bit depends on the processor that TiDB runs on (fused multiplications where it has them, routines in
//! assembly that differ), so a key made here might not be found there.

use super::compile::{Call, CompileError, Expr, Function, Value, out_of_range};
use super::convert::Ctx;
use super::types::{Family, Ty};
use crate::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[of("pow"), of("power")];

const fn of(name: &'static str) -> Function {
    Function {
        name,
        args: (2, 2),
        ty: |_| Ty::real(),
        eval: pow,
    }
}

/// Names of functions that are never exact.
const INEXACT: [&str; 13] = [
    "exp", "ln", "log", "log2", "log10", "sin", "cos", "tan", "cot", "asin", "acos", "atan",
    "atan2",
];

/// Refuses by name what has no value that is the same everywhere.
pub(super) fn check(name: &str, args: &[Expr]) -> Result<(), CompileError> {
    let why = if INEXACT.contains(&name) {
        ""
    } else if let ("pow" | "power", [_, exponent]) = (name, args)
        && !is_exact(exponent)
    {
        " with an exponent that is no integer"
    } else {
        return Ok(());
    };
    Err(CompileError::Other(format!(
        "function {name}{why}, whose last bit depends on the server's processor,"
    )))
}

fn is_exact(exponent: &Expr) -> bool {
    let whole_or_half = |v: f64| v.fract() == 0.0 || v.abs() == 0.5;
    match exponent.as_const() {
        Some(Datum::Double(v)) => whole_or_half(*v),
        Some(Datum::Decimal(v)) => whole_or_half(v.to_f64()),
        Some(Datum::Null) => true,
        _ => exponent.ty.family() == Family::Int,
    }
}

fn pow(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (Some(base), Some(exponent)) = (ctx.real(&call.args[0])?, ctx.real(&call.args[1])?) else {
        return Ok(Datum::Null);
    };
    let value = power(base, exponent);
    if value.is_finite() {
        Ok(Datum::Double(value))
    } else {
        Err(out_of_range("DOUBLE"))
    }
}

/// `base` to a power that is an integer or half of one.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent == 0.0 || base == 1.0 {
        return 1.0;
    }
    if exponent == 0.5 {
        return base.sqrt();
    }
    if exponent == -0.5 {
        return 1.0 / base.sqrt();
    }
    if base == 0.0 {
        let odd = exponent % 2.0 != 0.0 && exponent.abs() < 9_007_199_254_740_992.0;
        let zero = if odd { base } else { 0.0 };
        return if exponent < 0.0 { 1.0 / zero } else { zero };
    }
    if exponent.abs() >= 9_223_372_036_854_775_808.0 {
        return match base.abs() {
            1.0 => 1.0,
            size if (size < 1.0) == (exponent > 0.0) => 0.0,
            _ => f64::INFINITY,
        };
    }
    squared_up(base, exponent)
}

/// Repeated squaring of the fraction, its exponent kept apart so that nothing overflows on the way.
fn squared_up(base: f64, exponent: f64) -> f64 {
    const EXPONENT_MAX: i64 = 1 << 12;
    let (mut value, mut scale) = (1.0, 0i64);
    let (mut square, mut square_scale) = fraction_and_exponent(base);
    let mut left = exponent.abs() as i64;
    while left != 0 {
        if square_scale.abs() > EXPONENT_MAX {
            // What is left is far out of range.
            scale += square_scale;
            break;
        }
        if left & 1 == 1 {
            value *= square;
            scale += square_scale;
        }
        square *= square;
        square_scale <<= 1;
        if square < 0.5 {
            square += square;
            square_scale -= 1;
        }
        left >>= 1;
    }
    if exponent < 0.0 {
        (value, scale) = (1.0 / value, -scale);
    }
    scaled(value, scale)
}

/// Two to a power that a double has without losing bits.
fn two_to(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `v` as a number of size 0.5 up to 1 and a power of two.
fn fraction_and_exponent(v: f64) -> (f64, i64) {
    const FRACTION_BITS: u32 = 52;
    // Denormal numbers are lifted first.
    let (v, lifted) = if v.abs() < f64::MIN_POSITIVE {
        (
            v * two_to(i64::from(FRACTION_BITS)),
            i64::from(FRACTION_BITS),
        )
    } else {
        (v, 0)
    };
    let bits = v.to_bits();
    let exponent = (bits >> FRACTION_BITS & 0x7ff) as i64 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << FRACTION_BITS) | 1022 << FRACTION_BITS);
    (fraction, exponent - lifted)
}

/// `v * 2^exponent`, rounded once.
fn scaled(v: f64, exponent: i64) -> f64 {
    let (fraction, more) = fraction_and_exponent(v);
    let exponent = exponent + more;
    match exponent {
        1025.. => f64::INFINITY.copysign(v),
        -1021..=1024 => fraction * 2.0 * two_to(exponent - 1),
        // The last product rounds, those before are exact.
        -1075..=-1022 => fraction * 2.0 * two_to(exponent - 1 + 53) * two_to(-53),
        _ => 0.0f64.copysign(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_have_the_server_s_bits() {
        for (base, exponent, bits) in [
            (1.1, 7.0, 0x3fff_2df1_fb5a_7ed7u64),
            (-3.3, 5.0, 0xc078_75a9_b280_f12a),
            (2.0, -3.0, 0x3fc0_0000_0000_0000),
            (0.1, 10.0, 0x3ddb_7cdf_d9d7_bdc3),
            (10.0, 22.0, 0x4480_f0cf_064d_d592),
            (10.0, 23.0, 0x44b5_2d02_c7e1_4af6),
            (1.000_000_1, 100_000.0, 0x3ff0_292a_5d0c_cb7c),
            (7.0, 0.5, 0x4005_2a7f_a9d2_f8ea),
            (7.0, -0.5, 0x3fd8_3091_e6a7_f7e6),
            (-8.0, 3.0, 0xc080_0000_0000_0000),
            (1e-5, 60.0, 0x01a5_6e1f_c2f8_f37a),
            (3.0, -40.0, 0x3bf8_46d5_50e3_7b50),
            (123.456, 2.0, 0x40cd_c4b1_24d0_99e1),
            (9.99, 13.0, 0x42a1_f470_54be_024a),
            (0.0, 0.0, 0x3ff0_0000_0000_0000),
            (0.0, -1.0, 0x7ff0_0000_0000_0000),
            (2.0, 1023.0, 0x7fe0_0000_0000_0000),
            (2.0, -1074.0, 1),
            (1.5, 1e9, 0x7ff0_0000_0000_0000),
            (0.999, 1e6, 0),
        ] {
            let value = power(base, exponent).to_bits();
            assert_eq!(value, bits, "{base} to {exponent}: {value:016x}");
        }
    }
}
