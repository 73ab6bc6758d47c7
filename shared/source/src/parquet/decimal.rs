//! Text of decimals: an unscaled whole number, as an integer or as bytes in two's complement, and a scale.

/// Nine digits at a time.
const LIMB: u64 = 1_000_000_000;

/// Text of `unscaled / 10^scale`.
pub(super) fn text(unscaled: i128, scale: u32) -> String {
    point(
        unscaled.is_negative(),
        &unscaled.unsigned_abs().to_string(),
        scale,
    )
}

/// The same of a big-endian number of any length.
pub(super) fn text_of_bytes(bytes: &[u8], scale: u32) -> String {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    if bytes.len() <= 16 {
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return text(i128::from_be_bytes(wide), scale);
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
    let mut digits = limbs.pop().unwrap_or(0).to_string();
    for limb in limbs.iter().rev() {
        digits.push_str(&format!("{limb:09}"));
    }
    point(negative, &digits, scale)
}

fn point(negative: bool, digits: &str, scale: u32) -> String {
    let scale = scale as usize;
    let sign = if negative { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
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
            assert_eq!(text(unscaled, scale), expected);
            let short = unscaled.to_be_bytes();
            assert_eq!(text_of_bytes(&short, scale), expected);
            let fill = if unscaled < 0 { 0xff } else { 0 };
            let mut long = vec![fill; 14];
            long.extend(short);
            assert_eq!(text_of_bytes(&long, scale), expected);
        }
        assert_eq!(text_of_bytes(&[], 1), "0.0");
        assert_eq!(text_of_bytes(&[0x80], 0), "-128");
    }
}
