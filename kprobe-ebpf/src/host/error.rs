use std::io;
use std::path::{Path, PathBuf};

/// A fact about the machine cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file of the kernel cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel says something that is not understood.
    #[error("{what} is {found:?}, expected {expected}")]
    Unexpected {
        /// What was read, or where.
        what: &'static str,
        /// What it should look like.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    Call {
        /// Its name.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted{}; events are filtered by cgroups of version 2: boot with \
         systemd.unified_cgroup_hierarchy=1, or mount it beside version 1 (mkdir /sys/fs/cgroup/unified; \
         mount -t cgroup2 none /sys/fs/cgroup/unified)",
        if *.v1 { ", only version 1" } else { "" }
    )]
    NoCgroup2 {
        /// A hierarchy of version 1 is.
        v1: bool,
    },
}

pub(super) fn read(path: &str) -> Result<String, HostError> {
    let wrap = |source| HostError::Read { path: Path::new(path).into(), source };
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(wrap)
}
