//! Short runs of bytes without a call for each.
//!
//! A copy whose length the compiler knows is an instruction or two; any other is a call, which takes longer than the copy.

/// Appends the first `len` bytes of `block`: all of it is copied, and the rest left to be written over.
#[inline(always)]
pub(super) fn put_block<const N: usize>(buf: &mut Vec<u8>, block: &[u8; N], len: usize) {
    buf.extend_from_slice(block);
    buf.truncate(buf.len() - N + len);
}

/// Bytes that are appended again and again, best of at most `N`.
#[derive(Debug)]
pub(super) struct Stencil<const N: usize> {
    block: [u8; N],
    len: usize,
    /// What the block has no room for.
    rest: Box<[u8]>,
}

impl<const N: usize> Stencil<N> {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (first, rest) = bytes.split_at(bytes.len().min(N));
        let mut block = [0; N];
        block[..first.len()].copy_from_slice(first);
        Self { block, len: first.len(), rest: rest.into() }
    }

    #[inline(always)]
    pub(super) fn put(&self, buf: &mut Vec<u8>) {
        put_block(buf, &self.block, self.len);
        if !self.rest.is_empty() {
            buf.extend_from_slice(&self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_length() {
        for len in 0..12 {
            let bytes = &b"abcdefghijkl"[..len];
            let mut buf = b"-".to_vec();
            Stencil::<8>::new(bytes).put(&mut buf);
            assert_eq!(buf, [b"-", bytes].concat());
        }
    }
}
