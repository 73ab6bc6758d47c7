//! Text of decimals: an unscaled whole number, as an integer or as bytes in two's complement, and a scale.

/// Nine digits at a time.
const LIMB: u64 = 1_000_000_000;

/// The digits of the numbers below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < pairs.len() {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends the text of `unscaled / 10^scale`.
pub(super) fn push(text: &mut Vec<u8>, unscaled: i128, scale: u32) {
    // As many digits as an i128 has.
    let mut digits = [b'0'; 39];
    let mut at = digits.len();
    let magnitude = unscaled.unsigned_abs();
    let mut rest = magnitude;
    // Division of 128 bits is slow, and hardly any decimal needs it.
    while rest > u128::from(u64::MAX) {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    point(text, unscaled.is_negative(), &digits[at..], scale);
}

/// The same of a big-endian number of any length.
pub(super) fn push_bytes(text: &mut Vec<u8>, bytes: &[u8], scale: u32) {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if bytes.len() <= 16 {
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return push(text, i128::from_be_bytes(wide), scale);
    }
    // Magnitude: negate by inverting and adding one.
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over);
        }
    }
    let mut limbs: Vec<u64> = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0u64;
        for byte in &mut magnitude {
            let value = rest * 256 + u64::from(*byte);
            *byte = (value / LIMB) as u8;
            rest = value % LIMB;
        }
        limbs.push(rest);
    }
    let mut digits = limbs
        .pop()
        .map_or_else(String::new, |first| first.to_string());
    for limb in limbs.iter().rev() {
        digits.push_str(&format!("{limb:09}"));
    }
    point(text, negative, digits.as_bytes(), scale);
}

/// Appends a number of these digits (none = zero) with its point.
fn point(text: &mut Vec<u8>, negative: bool, digits: &[u8], scale: u32) {
    let scale = scale as usize;
    if negative {
        text.push(b'-');
    }
    let whole = digits.len().saturating_sub(scale);
    match whole {
        0 => text.push(b'0'),
        _ => text.extend_from_slice(&digits[..whole]),
    }
    if scale > 0 {
        text.push(b'.');
        text.resize(text.len() + scale.saturating_sub(digits.len()), b'0');
        text.extend_from_slice(&digits[whole..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_reads_the_same_in_every_width() {
        for (unscaled, scale, expected) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 3, "-0.005"),
            (12345, 2, "123.45"),
            (
                -1_000_000_000_000_000_000_000,
                9,
                "-1000000000000.000000000",
            ),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            let mut text = b"|".to_vec();
            push(&mut text, unscaled, scale);
            let short = unscaled.to_be_bytes();
            push_bytes(&mut text, &short, scale);
            let fill = if unscaled < 0 { 0xff } else { 0 };
            let mut long = vec![fill; 14];
            long.extend(short);
            push_bytes(&mut text, &long, scale);
            let expected = format!("|{expected}{expected}{expected}");
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
        let mut text = Vec::new();
        push_bytes(&mut text, &[], 1);
        push_bytes(&mut text, &[0x80], 0);
        assert_eq!(text, b"0.0-128");
    }
}
