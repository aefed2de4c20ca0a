//! Decimal digits, two at a time.

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n: u8 = 0;
    while n < 100 {
        pairs[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    pairs
};

/// Appends `n`.
pub(super) fn put_u64(buf: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if n > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
    }
    buf.extend_from_slice(&digits[at..]);
}

/// Appends `n`.
pub(super) fn put_i64(buf: &mut Vec<u8>, n: i64) {
    if n < 0 {
        buf.push(b'-');
    }
    put_u64(buf, n.unsigned_abs());
}

/// Writes the last digits of `n` over all of `to`, with leading zeros.
#[inline]
pub(super) fn fill(to: &mut [u8], mut n: u64) {
    let (first, pairs) = to.split_at_mut(to.len() % 2);
    for pair in pairs.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if let [digit] = first {
        *digit = b'0' + (n % 10) as u8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges() {
        for n in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 9999, 10_000, u64::MAX - 1, u64::MAX] {
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
        for (len, n, text) in
            [(1, 7, "7"), (2, 7, "07"), (3, 1_234, "234"), (9, 120, "000000120"), (4, 0, "0000")]
        {
            let mut buf = vec![b'x'; len];
            fill(&mut buf, n);
            assert_eq!(String::from_utf8_lossy(&buf), text);
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
