//! Integers of any size as little-endian words of nine decimal digits: what decimals compute with beyond 18
//! digits.

use super::{POW10, WORD, WORD_DIGITS};
use std::cmp::Ordering;

pub(super) type Big = Vec<u32>;

pub(super) fn trim(big: &mut Big) {
    while big.last() == Some(&0) {
        big.pop();
    }
}

pub(super) fn digits(words: &[u32]) -> usize {
    let len = words
        .iter()
        .rposition(|word| *word != 0)
        .map_or(0, |at| at + 1);
    match words.get(len.wrapping_sub(1)) {
        Some(top) => (len - 1) * WORD_DIGITS + top.ilog10() as usize + 1,
        None => 0,
    }
}

pub(super) fn aligned_words(big: &[u32], scale: usize) -> usize {
    digits(big).saturating_sub(scale).div_ceil(WORD_DIGITS) + scale.div_ceil(WORD_DIGITS)
}

pub(super) fn mul_small(big: &mut Big, by: u32) {
    let mut carry = 0u64;
    for word in big.iter_mut() {
        let v = u64::from(*word) * u64::from(by) + carry;
        *word = (v % WORD) as u32;
        carry = v / WORD;
    }
    if carry != 0 {
        big.push(carry as u32);
    }
}

pub(super) fn add_small(big: &mut Big, what: u32) {
    let mut carry = what;
    for word in big.iter_mut() {
        let v = u64::from(*word) + u64::from(carry);
        *word = (v % WORD) as u32;
        carry = (v / WORD) as u32;
        if carry == 0 {
            return;
        }
    }
    if carry != 0 {
        big.push(carry);
    }
}

pub(super) fn mul_pow10(big: &mut Big, power: usize) {
    trim(big);
    if big.is_empty() {
        return;
    }
    if !power.is_multiple_of(WORD_DIGITS) {
        mul_small(big, POW10[power % WORD_DIGITS] as u32);
    }
    if power >= WORD_DIGITS {
        big.splice(0..0, std::iter::repeat_n(0, power / WORD_DIGITS));
    }
}

/// Divides by `10^power`; returns the first digit that was cut off.
pub(super) fn div_pow10(big: &mut Big, power: usize) -> u32 {
    if power == 0 {
        return 0;
    }
    let before = power - 1;
    big.drain(..(before / WORD_DIGITS).min(big.len()));
    div_small(big, POW10[before % WORD_DIGITS] as u32);
    let dropped = div_small(big, 10);
    trim(big);
    dropped
}

pub(super) fn div_small(big: &mut Big, by: u32) -> u32 {
    let mut rest = 0u64;
    for word in big.iter_mut().rev() {
        let v = rest * WORD + u64::from(*word);
        *word = (v / u64::from(by)) as u32;
        rest = v % u64::from(by);
    }
    rest as u32
}

pub(super) fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let len = a.len().max(b.len());
    let word = |from: &[u32], i: usize| from.get(i).copied().unwrap_or(0);
    (0..len)
        .rev()
        .map(|i| word(a, i).cmp(&word(b, i)))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

pub(super) fn add(a: &mut Big, b: &[u32]) {
    a.resize(a.len().max(b.len()) + 1, 0);
    let mut carry = 0;
    for (i, word) in a.iter_mut().enumerate() {
        let v = *word + b.get(i).copied().unwrap_or(0) + carry;
        *word = v % WORD as u32;
        carry = v / WORD as u32;
    }
}

/// `a -= b`, `a >= b`.
pub(super) fn sub(a: &mut Big, b: &[u32]) {
    let mut borrow = 0i64;
    for (i, word) in a.iter_mut().enumerate() {
        let v = i64::from(*word) - i64::from(b.get(i).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(v < 0);
        *word = (v + borrow * WORD as i64) as u32;
    }
}

/// Long division, one word of quotient at a time by binary search over the word.
pub(super) fn div_rem(a: &[u32], b: &[u32]) -> (Big, Big) {
    let mut quotient = vec![0u32; a.len()];
    let mut rest = Big::new();
    for i in (0..a.len()).rev() {
        rest.insert(0, a[i]);
        trim(&mut rest);
        let (mut low, mut high) = (0u32, WORD as u32 - 1);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let mut product = b.to_vec();
            mul_small(&mut product, middle);
            if compare(&product, &rest).is_le() {
                low = middle
            } else {
                high = middle - 1
            }
        }
        let mut product = b.to_vec();
        mul_small(&mut product, low);
        sub(&mut rest, &product);
        trim(&mut rest);
        quotient[i] = low;
    }
    (quotient, rest)
}
