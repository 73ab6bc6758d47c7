//! Hashes and UUIDs.

use super::EvalError;
use super::compile::{Call, Eval, Expr, Function, Value};
use super::convert::{Ctx, text_datum};
use super::text_more::unhex_text;
use super::types::Ty;
use crate::datum::Datum;
use sha1::Digest as _;

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

fn bytes(_: &[Expr]) -> Ty {
    Ty::bytes()
}

pub(super) const FUNCTIONS: &[Function] = &[
    function("md5", (1, 1), text, |ctx, call| {
        let value = ctx.encoded(&call.args[0])?;
        Ok(text_datum(value.map(|value| hex(&md5(&value)))))
    }),
    function("sha1", (1, 1), text, sha1_hex),
    function("sha", (1, 1), text, sha1_hex),
    function("sha2", (2, 2), text, sha2_hex),
    function(
        "is_uuid",
        (1, 1),
        |_| Ty::boolean(),
        |ctx, call| {
            let text = ctx.text(&call.args[0])?;
            Ok(text.map_or(Datum::Null, |text| {
                Datum::Int(i64::from(parse_uuid(&text).is_some()))
            }))
        },
    ),
    function("uuid_to_bin", (1, 2), bytes, uuid_to_bin),
    function("bin_to_uuid", (1, 2), text, bin_to_uuid),
    function("uuid", (0, 0), text, |ctx, _| {
        Ok(Datum::Bytes(random_uuid(ctx)))
    }),
];

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| format!("{byte:02x}").into_bytes())
        .collect()
}

fn sha1_hex(ctx: &Ctx<'_>, call: &Call) -> Value {
    let value = ctx.encoded(&call.args[0])?;
    Ok(text_datum(
        value.map(|value| hex(&sha1::Sha1::digest(&value))),
    ))
}

fn sha2_hex(ctx: &Ctx<'_>, call: &Call) -> Value {
    let (value, bits) = (ctx.encoded(&call.args[0])?, ctx.small(&call.args[1])?);
    let (Some(value), Some(bits)) = (value, bits) else {
        return Ok(Datum::Null);
    };
    let digest = match bits {
        0 | 256 => sha2::Sha256::digest(&value).to_vec(),
        224 => sha2::Sha224::digest(&value).to_vec(),
        384 => sha2::Sha384::digest(&value).to_vec(),
        512 => sha2::Sha512::digest(&value).to_vec(),
        _ => return Ok(Datum::Null),
    };
    Ok(Datum::Bytes(hex(&digest)))
}

/// MD5 as RFC 1321 defines it.
fn md5(message: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [
        [7, 12, 17, 22],
        [5, 9, 14, 20],
        [4, 11, 16, 23],
        [6, 10, 15, 21],
    ];
    let mut padded = message.to_vec();
    padded.push(0x80);
    // The length takes the last eight bytes of a block.
    padded.resize((padded.len() + 8).next_multiple_of(64), 0);
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64).wrapping_mul(8).to_le_bytes());
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 16];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let [mut a, mut b, mut c, mut d] = state;
        for i in 0..64usize {
            let (mix, at) = match i / 16 {
                0 => ((b & c) | (!b & d), i),
                1 => ((d & b) | (!d & c), 5 * i + 1),
                2 => (b ^ c ^ d, 3 * i + 5),
                _ => (c ^ (b | !d), 7 * i),
            };
            // The constants are the sine's: floor(2^32 * |sin(i + 1)|).
            let constant = (((i + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a
                .wrapping_add(mix)
                .wrapping_add(constant)
                .wrapping_add(words[at % 16]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4]));
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(add);
        }
    }
    let mut digest = [0; 16];
    for (to, word) in digest.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// 32 digits, with dashes at their places or without, in braces or not.
fn parse_uuid(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let inner = text
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"))
        .unwrap_or(text);
    let digits: Vec<u8> = match inner.len() {
        32 => inner.to_vec(),
        36 if [8, 13, 18, 23].iter().all(|at| inner[*at] == b'-') => {
            inner.iter().copied().filter(|byte| *byte != b'-').collect()
        }
        _ => return None,
    };
    unhex_text(&digits).filter(|bytes| bytes.len() == 16)
}

/// A UUID of version 4 from the row's own random numbers.
fn random_uuid(ctx: &Ctx<'_>) -> Vec<u8> {
    let mut bytes = [ctx.random().to_be_bytes(), ctx.random().to_be_bytes()].concat();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    dashed(&bytes)
}

fn dashed(bytes: &[u8]) -> Vec<u8> {
    [
        &bytes[..4],
        &bytes[4..6],
        &bytes[6..8],
        &bytes[8..10],
        &bytes[10..],
    ]
    .map(hex)
    .join(&b'-')
}

fn bad_uuid(name: &str) -> EvalError {
    const WRONG_VALUE: u16 = 1411;
    EvalError::new(
        WRONG_VALUE,
        format!("Incorrect string value for function {name}"),
    )
}

fn swap_flag(ctx: &Ctx<'_>, call: &Call) -> Result<bool, EvalError> {
    match call.args.get(1) {
        None => Ok(false),
        Some(arg) => Ok(ctx.int(arg)?.unwrap_or(0) != 0),
    }
}

/// With the flag the time's high part comes first, so that ids made later sort later.
fn uuid_to_bin(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(text) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    let bytes = parse_uuid(&text).ok_or_else(|| bad_uuid("uuid_to_bin"))?;
    if !swap_flag(ctx, call)? {
        return Ok(Datum::Bytes(bytes));
    }
    Ok(Datum::Bytes(
        [&bytes[6..8], &bytes[4..6], &bytes[..4], &bytes[8..]].concat(),
    ))
}

fn bin_to_uuid(ctx: &Ctx<'_>, call: &Call) -> Value {
    let Some(bytes) = ctx.text(&call.args[0])? else {
        return Ok(Datum::Null);
    };
    if bytes.len() != 16 {
        return Err(bad_uuid("bin_to_uuid"));
    }
    let bytes = if swap_flag(ctx, call)? {
        [&bytes[4..8], &bytes[2..4], &bytes[..2], &bytes[8..]].concat()
    } else {
        bytes
    };
    Ok(Datum::Bytes(dashed(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_has_the_digests_of_its_definition() {
        let shown = |text: &str| String::from_utf8(hex(&md5(text.as_bytes()))).unwrap_or_default();
        assert_eq!(shown(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(shown("abc"), "900150983cd24fb0d6963f7d28e17f72");
        let digits =
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(shown(digits), "57edf4a22be3c955ac49da2e2107b67a");
        assert_eq!(shown(&"a".repeat(55)), "ef1772b6dff9a122358552954ad0df65");
        assert_eq!(shown(&"a".repeat(63)), "b06521f39153d618550606be297466d5");
        assert_eq!(shown(&"a".repeat(56)), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(shown(&"a".repeat(64)), "014842d480b571495a4a0363793f7367");
    }
}
