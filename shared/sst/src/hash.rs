//! The 64-bit hash of RocksDB's bloom filter: XXH3 as it was in the preview of xxHash 0.7.2, which gives
//! other values than the released XXH3. The algorithm is part of the file format.

const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

const PRIME32_1: u64 = 0x9e37_79b1;
const PRIME32_2: u64 = 0x85eb_ca77;
const PRIME32_3: u64 = 0xc2b2_ae3d;
const PRIME64_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME64_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME64_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME64_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME64_5: u64 = 0x27d4_eb2f_1656_67c5;

const STRIPE: usize = 64;
/// Bytes of the secret that each stripe moves on.
const SECRET_STEP: usize = 8;
const STRIPES_IN_BLOCK: usize = (SECRET.len() - STRIPE) / SECRET_STEP;

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn avalanche(mut hash: u64) -> u64 {
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(PRIME64_3);
    hash ^ (hash >> 32)
}

#[inline]
fn mix16(input: &[u8], at: usize, secret: usize) -> u64 {
    fold(
        u64_at(input, at) ^ u64_at(&SECRET, secret),
        u64_at(input, at + 8) ^ u64_at(&SECRET, secret + 8),
    )
}

/// The hash of `input` with seed 0.
#[inline]
pub(crate) fn hash64(input: &[u8]) -> u64 {
    match input.len() {
        17..=128 => len_17_to_128(input),
        0..=16 => short(input),
        129..=240 => len_129_to_240(input),
        _ => long(input),
    }
}

fn short(input: &[u8]) -> u64 {
    let len = input.len();
    match len {
        0 => fold(u64_at(&SECRET, 0), PRIME64_2),
        1..=3 => {
            let (a, b, c) = (input[0], input[len >> 1], input[len - 1]);
            let word = u32::from_le_bytes([a, b, c, len as u8]);
            avalanche((u64::from(word) ^ u32_at(&SECRET, 0)).wrapping_mul(PRIME64_1))
        }
        4..=8 => {
            let word = u32_at(input, 0) | u32_at(input, len - 4) << 32;
            let keyed = word ^ u64_at(&SECRET, 0);
            let mixed = (keyed ^ (keyed >> 51))
                .wrapping_mul(PRIME32_1)
                .wrapping_add(len as u64);
            avalanche((mixed ^ (mixed >> 47)).wrapping_mul(PRIME64_2))
        }
        _ => {
            let low = u64_at(input, 0) ^ u64_at(&SECRET, 0);
            let high = u64_at(input, len - 8) ^ u64_at(&SECRET, 8);
            let sum = (len as u64).wrapping_add(low.wrapping_add(high));
            avalanche(sum.wrapping_add(fold(low, high)))
        }
    }
}

#[inline]
fn len_17_to_128(input: &[u8]) -> u64 {
    let len = input.len();
    let mut sum = (len as u64).wrapping_mul(PRIME64_1);
    // Pairs of 16 bytes, from both ends to the middle.
    for pair in 0..(len - 1) / 32 + 1 {
        sum = sum
            .wrapping_add(mix16(input, 16 * pair, 32 * pair))
            .wrapping_add(mix16(input, len - 16 * (pair + 1), 32 * pair + 16));
    }
    avalanche(sum)
}

fn len_129_to_240(input: &[u8]) -> u64 {
    let len = input.len();
    let mut sum = (len as u64).wrapping_mul(PRIME64_1);
    for round in 0..8 {
        sum = sum.wrapping_add(mix16(input, 16 * round, 16 * round));
    }
    sum = avalanche(sum);
    for round in 8..len / 16 {
        sum = sum.wrapping_add(mix16(input, 16 * round, 16 * (round - 8) + 3));
    }
    avalanche(sum.wrapping_add(mix16(input, len - 16, 136 - 17)))
}

fn accumulate(sums: &mut [u64; 8], stripe: &[u8], secret: usize) {
    for (lane, sum) in sums.iter_mut().enumerate() {
        let word = u64_at(stripe, 8 * lane);
        let keyed = word ^ u64_at(&SECRET, secret + 8 * lane);
        *sum = sum
            .wrapping_add(word)
            .wrapping_add((keyed & 0xffff_ffff).wrapping_mul(keyed >> 32));
    }
}

fn long(input: &[u8]) -> u64 {
    let mut sums = [
        PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1,
    ];
    let scramble_at = SECRET.len() - STRIPE;
    for block in input.chunks(STRIPE * STRIPES_IN_BLOCK) {
        for (index, stripe) in block.chunks_exact(STRIPE).enumerate() {
            accumulate(&mut sums, stripe, index * SECRET_STEP);
        }
        if block.len() == STRIPE * STRIPES_IN_BLOCK {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let mixed = *sum ^ (*sum >> 47) ^ u64_at(&SECRET, scramble_at + 8 * lane);
                *sum = mixed.wrapping_mul(PRIME32_1);
            }
        }
    }
    if !input.len().is_multiple_of(STRIPE) {
        accumulate(&mut sums, &input[input.len() - STRIPE..], scramble_at - 7);
    }
    let mut hash = (input.len() as u64).wrapping_mul(PRIME64_1);
    for pair in 0..4 {
        hash = hash.wrapping_add(fold(
            sums[2 * pair] ^ u64_at(&SECRET, 11 + 16 * pair),
            sums[2 * pair + 1] ^ u64_at(&SECRET, 11 + 16 * pair + 8),
        ));
    }
    avalanche(hash)
}
