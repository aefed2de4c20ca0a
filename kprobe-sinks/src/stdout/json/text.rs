//! JSON strings.

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
pub(super) fn put_text(buf: &mut Vec<u8>, text: &str) {
    buf.push(b'"');
    put_escaped(buf, text.as_bytes());
    buf.push(b'"');
}

/// Appends `bytes` as a string; what is not UTF-8 is replaced by U+FFFD.
pub(super) fn put_lossy(buf: &mut Vec<u8>, bytes: &[u8]) {
    buf.push(b'"');
    for chunk in bytes.utf8_chunks() {
        put_escaped(buf, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            buf.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    buf.push(b'"');
}

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

    proptest! {
        #[test]
        fn as_serde_json(bytes: Vec<u8>, text: String) {
            check(&bytes);
            check(text.as_bytes());
        }
    }
}
