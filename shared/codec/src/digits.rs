//! Reading runs of ASCII digits eight at a time: what every number, date and time of a row goes through.
//!
//! Eight digits fit one word. One comparison tells whether all are digits, and three multiplications add them
//! up pairwise: 1+1 digits, 2+2, 4+4. Shorter runs are loaded from both ends, overlapping, and filled up with
//! zeros before the first digit.

const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Most digits that [`read`] takes: they always fit an `i64`.
pub(crate) const LEN_MAX: usize = 18;

/// The number that 1 to 18 digits write; `None` for anything else.
#[inline]
pub(crate) fn read(text: &[u8]) -> Option<u64> {
    match text.len() {
        1..=8 => eight(load(text)),
        9..=16 => {
            let (high, low) = text.split_last_chunk::<8>()?;
            Some(eight(load(high))? * 100_000_000 + eight(u64::from_le_bytes(*low))?)
        }
        17..=LEN_MAX => {
            let (high, low) = text.split_at(text.len() - 16);
            Some(eight(load(high))? * 10_000_000_000_000_000 + read(low)?)
        }
        _ => None,
    }
}

/// The number that eight bytes write, the first digit in the lowest byte.
#[inline(always)]
pub(crate) fn eight(word: u64) -> Option<u64> {
    // A digit has 3 above and at most 9 below: adding 6 must not carry.
    let digits = word ^ ZEROS;
    let too_high = digits.wrapping_add(0x0606_0606_0606_0606) | digits;
    if too_high & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    // Each product adds ten (hundred, ten thousand) times a part to the part above it.
    let pairs = digits.wrapping_mul(10 * 256 + 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 * 65_536 + 1) >> 16 & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul((10_000 << 32) + 1) >> 32)
}

/// Up to eight bytes, the first one lowest, `0` before the first.
#[inline(always)]
fn load(text: &[u8]) -> u64 {
    let len = text.len();
    if let Some(all) = text.first_chunk::<8>() {
        return u64::from_le_bytes(*all);
    }
    let word = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let first = u64::from(u32::from_be_bytes(*first));
            first << (8 * (len - 4)) | u64::from(u32::from_be_bytes(*last))
        }
        _ => text
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    (word | ZEROS << (8 * len)).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_of_digits_are_what_they_write(text in "[0-9]{1,18}") {
            prop_assert_eq!(read(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn one_byte_that_is_no_digit_spoils_a_run(text in "[0-9]{1,18}", at in 0..18usize, byte: u8) {
            let mut text = text.into_bytes();
            let at = at % text.len();
            text[at] = byte;
            prop_assert_eq!(read(&text).is_some(), byte.is_ascii_digit());
        }
    }

    #[test]
    fn runs_of_other_lengths_are_left_to_others() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"1234567890123456789"), None);
    }
}
