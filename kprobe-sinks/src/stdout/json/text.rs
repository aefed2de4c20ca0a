//! JSON strings.

use crate::stdout::block::put_block;

/// How a byte stands in a string: 0 as itself, `u` as `\u00xx`, else as a backslash and this.
const ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends `text` as a string.
#[inline]
pub(super) fn put_text(buf: &mut Vec<u8>, text: &str) {
    buf.push(b'"');
    if !put_plain(buf, text.as_bytes()) {
        put_escaped(buf, text.as_bytes());
    }
    buf.push(b'"');
}

/// Appends `bytes` as a string; what is not UTF-8 is replaced by U+FFFD.
#[inline]
pub(super) fn put_lossy(buf: &mut Vec<u8>, bytes: &[u8]) {
    buf.push(b'"');
    if !put_plain(buf, bytes) {
        for chunk in bytes.utf8_chunks() {
            put_escaped(buf, chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                buf.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    buf.push(b'"');
}

/// All eight bytes are ASCII and stand as themselves. A subtraction borrows from the next byte only where the answer is no
/// already.
#[inline(always)]
const fn is_plain(bytes: [u8; 8]) -> bool {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let word = u64::from_le_bytes(bytes);
    let control = word.wrapping_sub(all(0x20));
    let quote = (word ^ all(b'"')).wrapping_sub(all(1));
    let backslash = (word ^ all(b'\\')).wrapping_sub(all(1));
    (word | control | quote | backslash) & all(0x80) == 0
}

/// Appends `text` if all of it stands as itself: ASCII without anything to escape. Else nothing is appended.
#[inline]
fn put_plain(buf: &mut Vec<u8>, text: &[u8]) -> bool {
    let start = buf.len();
    let mut plain = true;
    if let Some(last) = text.last_chunk() {
        let (blocks, rest) = text.as_chunks();
        for block in blocks {
            plain &= is_plain(*block);
            buf.extend_from_slice(block);
        }
        if !rest.is_empty() {
            plain &= is_plain(*last);
            buf.truncate(start + text.len() - last.len());
            buf.extend_from_slice(last);
        }
    } else {
        let block = padded(text);
        plain = is_plain(block);
        put_block(buf, &block, text.len());
    }
    if !plain {
        buf.truncate(start);
    }
    plain
}

/// Less than eight bytes, and blanks.
#[inline(always)]
fn padded(text: &[u8]) -> [u8; 8] {
    let word = if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        // They may overlap, in bytes that are the same.
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (text.len() - 4))
    } else {
        text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    (word | u64::from_le_bytes([b' '; 8]) << (8 * text.len())).to_le_bytes()
}

#[cold]
fn put_escaped(buf: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| ESCAPE[usize::from(byte)] != 0) {
        let byte = rest[at];
        buf.extend_from_slice(&rest[..at]);
        buf.extend_from_slice(&[b'\\', ESCAPE[usize::from(byte)]]);
        if ESCAPE[usize::from(byte)] == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            buf.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
        rest = &rest[at + 1..];
    }
    buf.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) {
        let reference = serde_json::to_vec(&String::from_utf8_lossy(bytes)).expect("strings are JSON");
        let mut buf = Vec::new();
        put_lossy(&mut buf, bytes);
        assert_eq!(buf, reference, "{bytes:?}");
        if let Ok(text) = std::str::from_utf8(bytes) {
            buf.clear();
            put_text(&mut buf, text);
            assert_eq!(buf, reference, "{bytes:?}");
        }
    }

    #[test]
    fn every_byte_and_pair() {
        for first in 0..=u8::MAX {
            check(&[first]);
            for second in 0..=u8::MAX {
                check(&[first, second]);
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_every_length() {
        for len in 1..=20 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    check(&text);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn as_serde_json(bytes: Vec<u8>, text: String) {
            check(&bytes);
            check(text.as_bytes());
        }
    }
}
