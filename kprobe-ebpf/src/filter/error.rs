use std::io;
use std::path::PathBuf;

use kprobe_core::abi::PID_LIMIT;
use kprobe_core::event::{Tgid, Tid};

use crate::host::HostError;

/// A filter names something that is not there or cannot be selected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A fact about this machine that the filter needs cannot be had; one of them is that there is no cgroup v2.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No such directory.
    #[error("no cgroup {}: there is no such directory{}", path.display(), hint(.below_mount))]
    NoCgroup {
        /// The path asked for.
        path: PathBuf,
        /// The directory that was meant, if the path makes sense below the mount point.
        below_mount: Option<PathBuf>,
    },
    /// A directory of a cgroup cannot be looked at.
    #[error("cannot look at cgroup {}: {source}", path.display())]
    Unreadable {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cgroup is a directory.
    #[error("{} is no cgroup: it is a file, expected the directory it is in", path.display())]
    File {
        /// The path asked for.
        path: PathBuf,
    },
    /// The directory belongs to a hierarchy of version 1.
    #[error(
        "cgroup {} is of version 1, by which events cannot be filtered; expected a directory of version 2, below {}",
        path.display(), mount.display()
    )]
    Version1 {
        /// The path asked for.
        path: PathBuf,
        /// Where version 2 is.
        mount: PathBuf,
    },
    /// The directory is in no cgroup hierarchy.
    #[error("{} is no cgroup; expected a directory of cgroup version 2, below {}", path.display(), mount.display())]
    NotACgroup {
        /// The path asked for.
        path: PathBuf,
        /// Where version 2 is.
        mount: PathBuf,
    },
    /// Only a part of the hierarchy is visible, so how deep a cgroup is cannot be known.
    #[error(
        "cgroup {}: only a part of the hierarchy is mounted here (a cgroup namespace), so its depth cannot be known; \
         use the host's /sys/fs/cgroup, mounted into this container, or the host's cgroup namespace", path.display()
    )]
    CgroupNamespace {
        /// The path asked for.
        path: PathBuf,
    },
    /// The cgroup is nested too deeply.
    #[error("cgroup {} is at depth {depth}, expected {most} at most: select one that it is in", path.display())]
    TooDeep {
        /// The path asked for.
        path: PathBuf,
        /// Its depth; the root's is 0.
        depth: u32,
        /// The deepest that can be selected.
        most: u32,
    },
    /// More cgroups than there is room for.
    #[error("{found} cgroups selected, expected {most} at most: select one that they are in")]
    TooManyCgroups {
        /// How many were asked for.
        found: usize,
        /// How many there is room for.
        most: usize,
    },
    /// A number that no process can have.
    #[error("{found} is no process or thread id, expected 1 to {}", PID_LIMIT - 1)]
    PidRange {
        /// The number.
        found: u32,
    },
    /// No such process.
    #[error("no process {tgid} (it may have ended)")]
    NoProcess {
        /// The process asked for.
        tgid: Tgid,
    },
    /// No such thread.
    #[error("no thread {tid} (it may have ended)")]
    NoThread {
        /// The thread asked for.
        tid: Tid,
    },
    /// The id of a thread where that of a process was expected.
    #[error(
        "{tid} is a thread of process {tgid}, not a process: select process {tgid}, or the thread as a thread"
    )]
    ThreadOfProcess {
        /// What was asked for.
        tid: Tid,
        /// The process it is in.
        tgid: Tgid,
    },
    /// Process ids of this process are not those of the kernel.
    #[error(
        "process ids cannot be selected from inside a pid namespace: they are not those that the kernel uses; run in \
         the host's (`--pid=host`, `hostPID: true`), or select by cgroup and include the recorder itself"
    )]
    PidNamespace,
    /// The recorder's own process id is not the one that the kernel uses, so it cannot be told from the others.
    #[error(
        "the recorder cannot leave itself out from inside a pid namespace: it does not know the process id that the \
         kernel uses for it; run in the host's (`--pid=host`, `hostPID: true`), or include the recorder itself"
    )]
    SelfInPidNamespace,
}

fn hint(below_mount: &Option<PathBuf>) -> String {
    below_mount.as_ref().map(|path| format!("; did you mean {}?", path.display())).unwrap_or_default()
}
