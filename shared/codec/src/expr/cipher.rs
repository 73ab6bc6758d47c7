//! AES, and the hash that spreads the rows of a shard index.

use super::compile::{Call, CompileError, Eval, Expr, Function, Value};
use super::convert::{Ctx, text_datum};
use super::types::Ty;
use crate::datum::Datum;
use crate::session::Session;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, BlockSizeUser, KeyInit};

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

fn bytes(_: &[Expr]) -> Ty {
    Ty::bytes()
}

fn uint(_: &[Expr]) -> Ty {
    Ty::uint()
}

pub(super) const FUNCTIONS: &[Function] = &[
    // A third argument is the vector of other modes; this one ignores it.
    function("aes_encrypt", (2, 3), bytes, |ctx, call| {
        aes(ctx, call, |mode, key, text| match mode {
            Mode::Aes128 => Some(encrypt::<aes::Aes128>(key, text)),
            Mode::Aes192 => Some(encrypt::<aes::Aes192>(key, text)),
            Mode::Aes256 => Some(encrypt::<aes::Aes256>(key, text)),
        })
    }),
    function("aes_decrypt", (2, 3), bytes, |ctx, call| {
        aes(ctx, call, |mode, key, text| match mode {
            Mode::Aes128 => decrypt::<aes::Aes128>(key, text),
            Mode::Aes192 => decrypt::<aes::Aes192>(key, text),
            Mode::Aes256 => decrypt::<aes::Aes256>(key, text),
        })
    }),
    function("vitess_hash", (1, 1), uint, |ctx, call| {
        let hashed = ctx.int(&call.args[0])?.map(|v| vitess_hash(v as u64));
        Ok(hashed.map_or(Datum::Null, Datum::UInt))
    }),
    function("tidb_shard", (1, 1), uint, |ctx, call| {
        const BUCKETS: u64 = 256;
        let hashed = ctx.int(&call.args[0])?.map(|v| vitess_hash(v as u64));
        Ok(hashed.map_or(Datum::Null, |hash| Datum::UInt(hash % BUCKETS)))
    }),
];

/// A size of key; blocks are enciphered one by one. The other modes want a vector beside the key and are refused
/// when the table is compiled.
#[derive(Clone, Copy)]
enum Mode {
    Aes128,
    Aes192,
    Aes256,
}

impl Mode {
    fn of(session: &Session) -> Option<Mode> {
        match session.block_encryption_mode.to_ascii_lowercase().as_str() {
            "aes-128-ecb" => Some(Mode::Aes128),
            "aes-192-ecb" => Some(Mode::Aes192),
            "aes-256-ecb" => Some(Mode::Aes256),
            _ => None,
        }
    }

    fn key_len(self) -> usize {
        match self {
            Mode::Aes128 => 16,
            Mode::Aes192 => 24,
            Mode::Aes256 => 32,
        }
    }
}

/// Refuses what the session's mode of encryption does not allow here.
pub(super) fn check(name: &str, session: &Session) -> Result<(), CompileError> {
    if matches!(name, "aes_encrypt" | "aes_decrypt") && Mode::of(session).is_none() {
        let mode = &session.block_encryption_mode;
        return Err(CompileError::Other(format!(
            "{name} with block_encryption_mode {mode}"
        )));
    }
    Ok(())
}

/// From key and text to text; `None` is NULL.
type Cipher = fn(Mode, &[u8], &[u8]) -> Option<Vec<u8>>;

fn aes(ctx: &Ctx<'_>, call: &Call, cipher: Cipher) -> Value {
    let (text, password) = (ctx.encoded(&call.args[0])?, ctx.encoded(&call.args[1])?);
    let (Some(text), Some(password), Some(mode)) = (text, password, Mode::of(ctx.session)) else {
        return Ok(Datum::Null);
    };
    // A password of any length is laid over the key again and again.
    let mut key = vec![0; mode.key_len()];
    for (i, byte) in password.iter().enumerate() {
        key[i % mode.key_len()] ^= byte;
    }
    Ok(text_datum(cipher(mode, &key, &text)))
}

/// Blocks of the text, filled up with bytes that say how many they are.
fn encrypt<C: KeyInit + BlockEncrypt>(key: &[u8], text: &[u8]) -> Vec<u8> {
    let len = C::block_size();
    let filling = len - text.len() % len;
    let mut out = text.to_vec();
    out.resize(text.len() + filling, filling as u8);
    let cipher = C::new(GenericArray::from_slice(key));
    for block in out.chunks_exact_mut(len) {
        cipher.encrypt_block(GenericArray::from_mut_slice(block));
    }
    out
}

/// `None` for what [`encrypt`] cannot have made.
fn decrypt<C: KeyInit + BlockDecrypt + BlockSizeUser>(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let len = C::block_size();
    if text.is_empty() || !text.len().is_multiple_of(len) {
        return None;
    }
    let mut out = text.to_vec();
    let cipher = C::new(GenericArray::from_slice(key));
    for block in out.chunks_exact_mut(len) {
        cipher.decrypt_block(GenericArray::from_mut_slice(block));
    }
    let filling = usize::from(*out.last()?);
    let start = out.len().checked_sub(filling)?;
    let right =
        (1..=len).contains(&filling) && out[start..].iter().all(|b| usize::from(*b) == filling);
    out.truncate(start);
    right.then_some(out)
}

/// DES of the number under a key of zeros, both big-endian.
fn vitess_hash(number: u64) -> u64 {
    let cipher = des::Des::new(&GenericArray::default());
    let mut block = GenericArray::from(number.to_be_bytes());
    cipher.encrypt_block(&mut block);
    u64::from_be_bytes(block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_hash_is_the_known_one() {
        for (number, hash) in [
            (0, 0x8ca6_4de9_c1b1_23a7),
            (1, 0x166b_40b4_4aba_4bd6),
            (2, 0x06e7_ea22_ce92_708f),
            (100, 0x83aa_b156_9cbe_1b08),
            (u64::MAX, 0x3555_50b2_150e_2451),
        ] {
            assert_eq!(vitess_hash(number), hash);
        }
    }

    #[test]
    fn a_text_comes_back_from_its_cipher_and_other_bytes_do_not() {
        for len in 0..50 {
            let text: Vec<u8> = (0..len).collect();
            let secret = encrypt::<aes::Aes192>(&[7; 24], &text);
            assert!(secret.len() > text.len() && secret.len().is_multiple_of(16));
            assert_eq!(decrypt::<aes::Aes192>(&[7; 24], &secret), Some(text));
            assert_eq!(decrypt::<aes::Aes192>(&[7; 24], &secret[1..]), None);
        }
    }
}
