//! Decimal digits, eight at a time.

use super::block::put_block;

const EIGHT_DIGITS: u64 = 100_000_000;

/// The digits of a number below 10^8 as bytes of 0 to 9; the lowest byte is the first digit.
///
/// The number is taken apart into halves, these into quarters and these into digits, all of a kind by one multiplication:
/// by a reciprocal that is exact for numbers this small, with room enough that no part reaches into the next.
#[inline]
const fn digits(n: u64) -> u64 {
    let halves = (n / 10_000) | ((n % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | ((halves - 100 * hundreds) << 16);
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((quarters - 10 * tens) << 8)
}

const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// Appends `n`.
#[inline]
pub(super) fn put_u64(buf: &mut Vec<u8>, n: u64) {
    if n < EIGHT_DIGITS {
        return put_first(buf, n);
    }
    let (high, low) = (n / EIGHT_DIGITS, n % EIGHT_DIGITS);
    if high < EIGHT_DIGITS {
        put_first(buf, high);
    } else {
        put_first(buf, high / EIGHT_DIGITS);
        put_next(buf, high % EIGHT_DIGITS);
    }
    put_next(buf, low);
}

/// Without leading zeros.
#[inline(always)]
fn put_first(buf: &mut Vec<u8>, n: u64) {
    let digits = digits(n);
    // The number 0 has a digit too.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    put_block(buf, &((digits | ZEROS) >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
}

#[inline(always)]
fn put_next(buf: &mut Vec<u8>, n: u64) {
    buf.extend_from_slice(&(digits(n) | ZEROS).to_le_bytes());
}

/// Appends `n`.
#[inline]
pub(super) fn put_i64(buf: &mut Vec<u8>, n: i64) {
    if n < 0 {
        buf.push(b'-');
    }
    put_u64(buf, n.unsigned_abs());
}

/// Writes the last digits of `n` over all of `to`, with leading zeros.
#[inline]
pub(super) fn fill(to: &mut [u8], mut n: u64) {
    for part in to.rchunks_mut(8) {
        let block = (digits(n % EIGHT_DIGITS) | ZEROS).to_le_bytes();
        part.copy_from_slice(&block[8 - part.len()..]);
        n /= EIGHT_DIGITS;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges() {
        for n in [
            0,
            1,
            9,
            10,
            11,
            99,
            100,
            101,
            999,
            1000,
            9_999,
            10_000,
            99_999_999,
            100_000_000,
            9_999_999_999_999_999,
            10_000_000_000_000_000,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut buf = Vec::new();
            put_u64(&mut buf, n);
            assert_eq!(String::from_utf8_lossy(&buf), n.to_string());
        }
        for n in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut buf = Vec::new();
            put_i64(&mut buf, n);
            assert_eq!(String::from_utf8_lossy(&buf), n.to_string());
        }
    }

    #[test]
    fn filling() {
        for (len, n, text) in [
            (1, 7, "7"),
            (2, 7, "07"),
            (3, 1_234, "234"),
            (9, 120, "000000120"),
            (9, 123_456_789, "123456789"),
            (4, 0, "0000"),
        ] {
            let mut buf = vec![b'x'; len];
            fill(&mut buf, n);
            assert_eq!(String::from_utf8_lossy(&buf), text);
        }
    }

    #[test]
    fn every_quarter_and_half() {
        for n in 0..10_000 {
            for n in [n, n * 10_000, n * 10_001, 99_990_000 + n] {
                let text = format!("{n:08}");
                assert_eq!((digits(n) | ZEROS).to_le_bytes(), text.as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn as_the_standard_library(n: u64, shift in 0_u32..64) {
            let n = n >> shift;
            let mut buf = Vec::new();
            put_u64(&mut buf, n);
            prop_assert_eq!(String::from_utf8_lossy(&buf), n.to_string());
        }
    }
}
