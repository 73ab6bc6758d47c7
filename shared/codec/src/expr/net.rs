//! Addresses.

use super::compile::{Call, Eval, Expr, Function, Value};
use super::convert::{Ctx, text_datum};
use super::types::Ty;
use crate::datum::Datum;
use std::net::{Ipv4Addr, Ipv6Addr};

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

fn text(_: &[Expr]) -> Ty {
    Ty::plain_text()
}

fn boolean(_: &[Expr]) -> Ty {
    Ty::boolean()
}

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "inet_aton",
        (1, 1),
        |_| Ty::uint(),
        |ctx, call| {
            let text = ctx.text(&call.args[0])?;
            Ok(text
                .and_then(|text| inet_aton(&text))
                .map_or(Datum::Null, Datum::UInt))
        },
    ),
    function("inet_ntoa", (1, 1), text, |ctx, call| {
        let number = ctx
            .int(&call.args[0])?
            .and_then(|number| u32::try_from(number).ok());
        Ok(text_datum(number.map(|number| {
            Ipv4Addr::from(number).to_string().into_bytes()
        })))
    }),
    function(
        "inet6_aton",
        (1, 1),
        |_| Ty::bytes(),
        |ctx, call| {
            let text = ctx.string(&call.args[0])?;
            Ok(text_datum(text.and_then(|text| {
                if let Ok(address) = text.parse::<Ipv4Addr>() {
                    return Some(address.octets().to_vec());
                }
                text.parse::<Ipv6Addr>()
                    .ok()
                    .map(|address| address.octets().to_vec())
            })))
        },
    ),
    function("inet6_ntoa", (1, 1), text, |ctx, call| {
        let bytes = ctx.text(&call.args[0])?;
        Ok(text_datum(bytes.and_then(|bytes| {
            if let Ok(octets) = <[u8; 4]>::try_from(bytes.as_slice()) {
                return Some(Ipv4Addr::from(octets).to_string().into_bytes());
            }
            let octets = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
            Some(Ipv6Addr::from(octets).to_string().into_bytes())
        })))
    }),
    function("is_ipv4_compat", (1, 1), boolean, |ctx, call| {
        begins_with(ctx, call, &[0; 12])
    }),
    function("is_ipv4_mapped", (1, 1), boolean, |ctx, call| {
        begins_with(ctx, call, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
    }),
    function("is_ipv4", (1, 1), boolean, |ctx, call| {
        is(ctx, call, |text| text.parse::<Ipv4Addr>().is_ok())
    }),
    function("is_ipv6", (1, 1), boolean, |ctx, call| {
        is(ctx, call, |text| text.parse::<Ipv6Addr>().is_ok())
    }),
];

/// Whether the bytes of an address of version 6 begin so.
fn begins_with(ctx: &Ctx<'_>, call: &Call, head: &[u8; 12]) -> Value {
    let bytes = ctx.text(&call.args[0])?;
    let holds = bytes.is_some_and(|bytes| bytes.len() == 16 && bytes.starts_with(head));
    Ok(Datum::Int(i64::from(holds)))
}

fn is(ctx: &Ctx<'_>, call: &Call, holds: fn(&str) -> bool) -> Value {
    let text = ctx.string(&call.args[0])?;
    Ok(Datum::Int(i64::from(text.is_some_and(|text| holds(&text)))))
}

/// Short forms are allowed: `127.1` is 127.0.0.1.
fn inet_aton(text: &[u8]) -> Option<u64> {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
    if parts.len() > 4 || text.is_empty() {
        return None;
    }
    let mut numbers = Vec::with_capacity(4);
    for (i, part) in parts.iter().enumerate() {
        let number = match std::str::from_utf8(part).ok()? {
            "" if i + 1 < parts.len() => 0,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u8>().ok()?
            }
            _ => return None,
        };
        numbers.push(u64::from(number));
    }
    let last = numbers.pop()?;
    numbers.resize(3, 0);
    Some(numbers.iter().fold(0, |v, number| v << 8 | number) << 8 | last)
}
