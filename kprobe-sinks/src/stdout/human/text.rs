//! Text and numbers as people can, and a terminal may, see them.

use std::fmt::{self, Write};

/// Bytes from outside: what could steer a terminal or make one text look like another is written as an escape.
pub(super) struct Visible<'a>(pub(super) &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\\' => f.write_str("\\\\")?,
                    '\0'..='\x1f' | '\x7f' => write!(f, "\\x{:02x}", u32::from(char))?,
                    _ if is_invisible(char) => write!(f, "\\u{{{:x}}}", u32::from(char))?,
                    _ => f.write_char(char)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Controls (C1 holds another form of the escape sequences), and what only changes how neighbours look: direction marks,
/// joiners, separators of lines, tags.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Nanoseconds with three significant digits, in the unit that fits; whole seconds from 100 on.
pub(super) struct Span(pub(super) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s")];
        let ns = self.0;
        if ns < 1_000 {
            return write!(f, "{ns}ns");
        }
        for (unit, name) in UNITS {
            for (digits, scale) in [(2, 100), (1, 10), (0, 1)] {
                // Rounding can give a fourth digit: 9.999 is 10.0.
                let step = unit / scale;
                let rounded = ns / step + u64::from(ns % step >= step.div_ceil(2));
                if rounded < 1_000 || (digits == 0 && name == "s") {
                    return match digits {
                        0 => write!(f, "{rounded}{name}"),
                        _ => write!(f, "{}.{:0digits$}{name}", rounded / scale, rounded % scale),
                    };
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (1_234, "1.23us"),
            (1_235, "1.24us"),
            (9_994, "9.99us"),
            (9_995, "10.0us"),
            (12_345, "12.3us"),
            (99_949, "99.9us"),
            (99_950, "100us"),
            (999_499, "999us"),
            (999_500, "1.00ms"),
            (1_000_000, "1.00ms"),
            (59_999_999, "60.0ms"),
            (999_500_000, "1.00s"),
            (12_300_000_000, "12.3s"),
            (123_456_000_000, "123s"),
            (86_400_000_000_000, "86400s"),
            (u64::MAX, "18446744074s"),
        ] {
            assert_eq!(Span(ns).to_string(), text, "{ns}");
        }
    }

    #[test]
    fn nothing_steers_a_terminal() {
        for (bytes, text) in [
            (&b"ls"[..], "ls"),
            (b"Web Content", "Web Content"),
            ("größe".as_bytes(), "größe"),
            (b"\x1b[2J\x07", "\\x1b[2J\\x07"),
            (b"a\nb\tc\x7f", "a\\x0ab\\x09c\\x7f"),
            (b"\xff\x9b31m", "\\xff\\x9b31m"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("a\u{202e}b\u{200b}".as_bytes(), "a\\u{202e}b\\u{200b}"),
            (b"\\x1b", "\\\\x1b"),
        ] {
            assert_eq!(Visible(bytes).to_string(), text);
        }
    }
}
