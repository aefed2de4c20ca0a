use std::fs::File;
use std::io::{BufRead, BufReader};

use super::HostError;

const PATH: &str = "/proc/kallsyms";

/// The kernel can resolve a symbol of this name, which a program that refers to a kernel variable needs. Variables are there only
/// with `CONFIG_KALLSYMS_ALL`. Reads `/proc/kallsyms` until it is found: up to 60 ms, so not to be asked without need.
///
/// Addresses are not looked at: it works where they are hidden.
///
/// # Errors
///
/// If the file cannot be read.
pub fn has_kernel_symbol(name: &str) -> Result<bool, HostError> {
    let wrap = |source| HostError::Read { path: PATH.into(), source };
    let file = File::open(PATH).map_err(wrap)?;
    search(BufReader::with_capacity(1 << 16, file), name).map_err(wrap)
}

fn search(mut lines: impl BufRead, name: &str) -> std::io::Result<bool> {
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? != 0 {
        // address, type, name and, for a module's, its name.
        let mut fields = line.split(|byte| byte.is_ascii_whitespace());
        if fields.nth(2) == Some(name.as_bytes()) && fields.next().is_none_or(<[u8]>::is_empty) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn symbols_of_the_kernel_itself() {
        let text = b"0000000000000000 T _text\n0000000000000000 D __preempt_count\n0000000000000000 t own\t[module]\n";
        let has = |name| search(&text[..], name).unwrap();
        assert!(has("_text") && has("__preempt_count"));
        assert!(!has("own") && !has("preempt_count") && !has("D") && !has(""));
    }
}
