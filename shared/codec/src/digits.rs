//! Reading runs of ASCII digits eight at a time: what every number, date and time of a row goes through.
//!
//! Eight digits fit one word. One comparison tells whether all are digits, and three multiplications add them
//! up pairwise: 1+1 digits, 2+2, 4+4. Shorter runs are loaded from both ends, overlapping, and filled up with
//! zeros before the first digit.

const ZEROS: u64 = 0x3030_3030_3030_3030;
/// A zero in the highest byte.
const FIRST_ZERO: u64 = 0x30 << 56;

/// Most digits that [`read`] takes: they always fit an `i64`.
pub(crate) const LEN_MAX: usize = 18;

/// Most bytes that [`read_with_point`] takes.
pub(crate) const POINTED_LEN_MAX: usize = 16;

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

/// The number that 1 to 16 bytes of digits write, one of them perhaps a point behind a digit, and how many digits
/// follow that point. The point is taken out of the word, so that what is left is one run of digits.
#[inline]
pub(crate) fn read_with_point(text: &[u8]) -> Option<(u64, usize)> {
    if text.is_empty() {
        return None;
    }
    if text.len() <= 8 {
        let word = load(text).swap_bytes();
        let Some(at) = point(word) else {
            return Some((eight(word.swap_bytes())?, 0));
        };
        // A point that is first has only the filling before it.
        if at + 1 >= text.len() {
            return None;
        }
        let digits = without(word, at) | FIRST_ZERO;
        return Some((eight(digits.swap_bytes())?, at));
    }
    let (high, low) = text.split_last_chunk::<8>()?;
    if high.len() > 8 {
        return None;
    }
    let (mut high, mut low) = (load(high).swap_bytes(), u64::from_be_bytes(*low));
    let mut scale = 0;
    if let Some(at) = point(low) {
        low = without(low, at) | high << 56;
        high = high >> 8 | FIRST_ZERO;
        scale = at;
    } else if let Some(at) = point(high) {
        if at + 9 >= text.len() {
            return None;
        }
        high = without(high, at) | FIRST_ZERO;
        scale = 8 + at;
    }
    let number = eight(high.swap_bytes())? * 100_000_000 + eight(low.swap_bytes())?;
    Some((number, scale))
}

/// How many bytes follow the last `.` of a word that has its first byte highest.
#[inline(always)]
fn point(word: u64) -> Option<usize> {
    let others = word ^ 0x2e2e_2e2e_2e2e_2e2e;
    // The lowest byte that borrows is the lowest that was zero.
    let found = others.wrapping_sub(0x0101_0101_0101_0101) & !others & 0x8080_8080_8080_8080;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// The word without the byte that `at` bytes follow; the highest byte becomes 0.
#[inline(always)]
fn without(word: u64, at: usize) -> u64 {
    let behind = (1 << (8 * at)) - 1;
    word >> 8 & !behind | word & behind
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

    proptest! {
        #[test]
        fn a_point_among_digits_is_counted_from_the_end(text in "[0-9]{1,15}", at in 0..16usize) {
            let scale = at % text.len();
            let mut pointed = text.clone();
            pointed.insert(text.len() - scale, '.');
            let number = text.parse::<u64>().ok();
            prop_assert_eq!(read_with_point(pointed.as_bytes()), number.map(|n| (n, scale)));
            prop_assert_eq!(read_with_point(text.as_bytes()), number.map(|n| (n, 0)));
        }

        #[test]
        fn what_is_no_number_with_one_point_is_left_to_others(text in "[0-9.+/:]{0,17}") {
            let points = text.bytes().filter(|byte| *byte == b'.').count();
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            let number = points <= 1 && points + digits == text.len() && !text.starts_with('.');
            let short = (1..=16).contains(&text.len());
            prop_assert_eq!(read_with_point(text.as_bytes()).is_some(), number && short);
        }
    }

    #[test]
    fn runs_of_other_lengths_are_left_to_others() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"1234567890123456789"), None);
    }
}
