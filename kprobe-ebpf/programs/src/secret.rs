//! Numbers that stand for addresses of the kernel, which are nobody's business.

use crate::frozen::Frozen;

/// A number that stands for what is at an address, from which the address cannot be found without the secret: SipHash-1-3.
#[inline(always)]
pub fn number_of(secret: &Frozen<[u64; 2]>, address: u64) -> u64 {
    let (k0, k1) = (secret.at(0), secret.at(1));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    v[3] ^= address;
    round(&mut v);
    v[0] ^= address;
    // The length, 8 bytes, is a word of its own.
    const LENGTH: u64 = 8 << 56;
    v[3] ^= LENGTH;
    round(&mut v);
    v[0] ^= LENGTH;
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}
