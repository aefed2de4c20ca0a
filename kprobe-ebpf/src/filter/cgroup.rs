use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::FilterError;
use crate::host::{HostError, ROOT_INODE, cgroup2_mount};

/// `cgroup_levels` of [`Config`](kprobe_core::abi::Config) has a bit for each depth.
const DEEPEST: u32 = u32::BITS - 1;

/// What `statfs` says of hierarchies (`include/uapi/linux/magic.h`).
const MAGIC_V1: u64 = 0x0027_e0eb;
const MAGIC_V2: u64 = 0x6367_7270;

/// A cgroup of version 2, as kernel programs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id: the inode number of its directory, never used again while the machine runs.
    pub id: u64,
    /// How many cgroups it is in; the root is in none.
    pub depth: u32,
    /// Its directory, without symbolic links.
    pub path: PathBuf,
}

impl Cgroup {
    /// Looks at a directory of the cgroup v2 hierarchy.
    ///
    /// # Errors
    ///
    /// [`FilterError`] tells apart: a path that does not exist, a file, a directory of version 1 or of no hierarchy, a
    /// hierarchy of which only a part is visible, and a host without version 2.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FilterError> {
        let asked = path.as_ref();
        let path = fs::canonicalize(asked).map_err(|source| absent(asked, source))?;
        let found = fs::metadata(&path).map_err(|source| absent(asked, source))?;
        let kind = rustix::fs::statfs(&path).map_err(|source| absent(asked, source.into()))?.f_type;
        match u64::try_from(kind) {
            Ok(MAGIC_V2) if found.is_dir() => {}
            Ok(MAGIC_V1 | MAGIC_V2) if !found.is_dir() => {
                return Err(FilterError::File { path: asked.into() });
            }
            Ok(MAGIC_V1) => {
                return Err(FilterError::Version1 { path: asked.into(), mount: cgroup2_mount()?.path });
            }
            _ => return Err(FilterError::NotACgroup { path: asked.into(), mount: cgroup2_mount()?.path }),
        }
        let depth = depth(&path, asked)?;
        if depth > DEEPEST {
            return Err(FilterError::TooDeep { path: asked.into(), depth, most: DEEPEST });
        }
        Ok(Self { id: found.ino(), depth, path })
    }
}

/// Counts the way up to the root of the whole hierarchy, which is known by its inode: in a cgroup namespace the mounted
/// root is another, and the kernel counts from the real one.
fn depth(path: &Path, asked: &Path) -> Result<u32, FilterError> {
    let mut device = None;
    for (depth, ancestor) in (0..).zip(path.ancestors()) {
        let found = fs::metadata(ancestor).map_err(|source| absent(asked, source))?;
        if *device.get_or_insert(found.dev()) != found.dev() {
            break;
        }
        if found.ino() == ROOT_INODE {
            return Ok(depth);
        }
    }
    Err(FilterError::CgroupNamespace { path: asked.into() })
}

fn absent(path: &Path, source: io::Error) -> FilterError {
    if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        return FilterError::Unreadable { path: path.into(), source };
    }
    // A host without version 2 explains more than a path that is not there.
    let mount = match cgroup2_mount() {
        Ok(mount) => mount.path,
        Err(error @ HostError::NoCgroup2 { .. }) => return error.into(),
        Err(_) => return FilterError::NoCgroup { path: path.into(), below_mount: None },
    };
    // Paths as /proc/PID/cgroup and `systemctl show -p ControlGroup` write them begin at the mount point.
    let below_mount = mount.join(path.strip_prefix("/").unwrap_or(path));
    FilterError::NoCgroup { path: path.into(), below_mount: below_mount.is_dir().then_some(below_mount) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_no_cgroup_says_so() {
        let Ok(mount) = cgroup2_mount() else {
            assert!(matches!(
                Cgroup::open("/nonexistent"),
                Err(FilterError::Host(HostError::NoCgroup2 { .. }))
            ));
            return;
        };
        let mount = mount.path.display();
        let says = |path: &str| Cgroup::open(path).unwrap_err().to_string();
        assert_eq!(says("/nonexistent/x"), "no cgroup /nonexistent/x: there is no such directory");
        assert_eq!(
            says("/proc"),
            format!("/proc is no cgroup; expected a directory of cgroup version 2, below {mount}")
        );
    }
}
