use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::HostError;

/// One mounted file system, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Type of the file system, for example `cgroup2`.
    pub kind: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// Which part of it is mounted there: `/` is all of it.
    pub root: PathBuf,
}

/// All mounts of this process's mount namespace, the oldest first.
///
/// # Errors
///
/// If `/proc` is not mounted.
pub fn mounts() -> Result<Vec<Mount>, HostError> {
    let path = "/proc/self/mountinfo";
    let wrap = |source| HostError::Read { path: path.into(), source };
    // Paths are bytes: a directory may be called anything.
    Ok(parse(&std::fs::read(path).map_err(wrap)?))
}

/// Lines that do not look like mountinfo (see `proc_pid_mountinfo(5)`) are passed over.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let path = unescape(fields.next()?);
    // Optional fields end with a hyphen.
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { kind, path, root })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                path.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let text = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            41 31 0:38 /../.. /sys/fs/cgroup/uni\\040fied\\134 rw shared:9 master:2 - cgroup2 cgroup2 rw\n\
            broken line\n";
        let expected = [
            Mount { kind: "tmpfs".into(), path: "/sys/fs/cgroup".into(), root: "/".into() },
            Mount { kind: "cgroup2".into(), path: "/sys/fs/cgroup/uni fied\\".into(), root: "/../..".into() },
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for text in ["a\\", "a\\4", "a\\0x0", "\\999", "plain"] {
            assert_eq!(unescape(text.as_bytes()), PathBuf::from(text));
        }
    }

    #[test]
    fn proc_is_mounted_here() {
        let mounts = mounts().unwrap();
        assert!(mounts.iter().any(|mount| mount.kind == "proc" && mount.path.as_os_str() == "/proc"));
    }
}
