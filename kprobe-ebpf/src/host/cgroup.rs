use std::path::PathBuf;

use super::HostError;
use super::mounts::{Mount, mounts};

/// Where the cgroup v2 hierarchy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Its directory: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a host that has version 1 beside it.
    pub path: PathBuf,
    /// All of the hierarchy is there; else it is the part that a cgroup namespace shows.
    pub whole: bool,
}

/// Finds the cgroup v2 hierarchy; one that shows all of it is preferred.
///
/// # Errors
///
/// [`HostError::NoCgroup2`] if none is mounted, with what to do.
pub fn cgroup2_mount() -> Result<CgroupMount, HostError> {
    choose(&mounts()?)
}

fn choose(mounts: &[Mount]) -> Result<CgroupMount, HostError> {
    let version_2 = || mounts.iter().filter(|mount| mount.kind == "cgroup2");
    let found = version_2().find(|mount| is_whole(mount)).or_else(|| version_2().next());
    match found {
        Some(mount) => Ok(CgroupMount { path: mount.path.clone(), whole: is_whole(mount) }),
        None => Err(HostError::NoCgroup2 { v1: mounts.iter().any(|mount| mount.kind == "cgroup") }),
    }
}

/// The root directory of the hierarchy has inode 1 in every kernel (`cgroup_setup_root` warns if not). `/` in mountinfo proves
/// nothing: in a cgroup namespace it is the namespace's own root.
fn is_whole(mount: &Mount) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(&mount.path).is_ok_and(|found| found.ino() == ROOT_INODE)
}

/// Inode number, and so cgroup id, of the root of the cgroup v2 hierarchy.
pub(crate) const ROOT_INODE: u64 = 1;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn mount(kind: &str, path: &str) -> Mount {
        Mount { kind: kind.into(), path: path.into(), root: "/".into() }
    }

    #[test]
    fn version_1_alone_is_an_error_that_helps() {
        let error =
            choose(&[mount("tmpfs", "/a"), mount("cgroup", "/sys/fs/cgroup/cpu")]).unwrap_err().to_string();
        assert!(error.starts_with("no cgroup v2 hierarchy is mounted, only version 1; "), "{error}");
        assert!(error.contains("systemd.unified_cgroup_hierarchy=1"), "{error}");
        let error = choose(&[mount("tmpfs", "/a")]).unwrap_err().to_string();
        assert!(error.starts_with("no cgroup v2 hierarchy is mounted; "), "{error}");
    }

    #[test]
    fn version_2_beside_version_1() {
        let found = choose(&[mount("cgroup", "/c/cpu"), mount("cgroup2", "/c/unified")]).unwrap();
        assert_eq!(found, CgroupMount { path: "/c/unified".into(), whole: false });
    }
}
