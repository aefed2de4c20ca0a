use std::{
    os::fd::OwnedFd,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    str::FromStr as _,
};

use kprobe_core::{
    abi::{Family, Kind, PATH_NAME, PATH_TEXT, PathAllowed, SYSCALL_TABLE},
    event::{PathExec, PathOpen},
};
use rustix::fs::{Mode, OFlags};
use syscalls::Sysno;

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, TRACE_EVENT, When, Yields,
    plan::sealed,
};

/// Paths of files, only below directories that are named: a [`PathExec`] for each program that a process begins, and a
/// [`PathOpen`] for each call of `open`, `openat`, `openat2` or `creat` that succeeds. Of a file elsewhere there is no record.
///
/// Targets: the tracepoints `sched_process_exec` and `sys_exit`. Kernel 6.1 or later. Nothing is read from the memory of a
/// process: a path is what the kernel itself knows the file by, whatever name it was opened by.
///
/// ```
/// use kprobe_ebpf::{Filter, Paths, Recorder};
///
/// let paths = Paths::allow(["/etc", "/usr/bin"])?;
/// let recorder = Recorder::builder().probe(paths).filter(Filter::none());
/// # Ok::<(), kprobe_ebpf::PathError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Paths {
    allowed: Vec<PathBuf>,
    exec: bool,
    open: bool,
    sample_one_in: u32,
}

/// Directories and files that a list may have.
const MOST_ALLOWED: usize = 64;

/// A list of directories cannot be what paths are recorded of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The list has no entries.
    #[error("no directory is named whose paths are to be recorded: name at least one, for example /etc")]
    Empty,
    /// It has too many.
    #[error(
        "{found} directories are named whose paths are to be recorded, expected {most} at most: name one that they are in"
    )]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A path that does not begin at the root.
    #[error("{path:?} is no absolute path: expected one that begins with /")]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// A path that a record has no room for.
    #[error("the path {} has {found} bytes, expected {most} at most: name a directory that it is in", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        found: usize,
        /// The most that it may be.
        most: usize,
    },
    /// There is no such directory or file.
    #[error("{} does not exist: expected a directory or a file whose paths are to be recorded", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}: {source}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A directory or a file whose paths may be recorded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Its number in the list.
    pub(crate) entry: u16,
    path: PathBuf,
}

impl Allowed {
    /// Opens it, so that it stays what it is, following symbolic links.
    pub(crate) fn open(&self) -> Result<OwnedFd, PathError> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|source| {
            let path = self.path.clone();
            match source {
                rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => PathError::NotFound { path },
                source => PathError::Unreadable { path, source: source.into() },
            }
        })
    }

    /// What it is called, as the programs and the stream have it.
    pub(crate) fn named(&self) -> PathAllowed {
        let name = self.path.as_os_str().as_bytes();
        let mut text = [0; PATH_TEXT];
        // `Paths::allow` has looked at its length.
        let len = name.len().min(PATH_NAME);
        text[..len].copy_from_slice(&name[..len]);
        PathAllowed { entry: self.entry, len: u16::try_from(len).unwrap_or_default(), flags: 0, text }
    }
}

impl Paths {
    /// Records what is below these directories, and these files. A symbolic link stands for what it leads to, when the
    /// recorder is attached. Of two that lie in each other the inner one counts, of two names for one the first.
    ///
    /// Whoever is allowed to record is shown the names that are in them: a directory's own permissions do not matter.
    ///
    /// # Errors
    /// The list is empty or too long, or a path in it is relative or too long. That one exists is looked at by
    /// [`attach`](crate::RecorderBuilder::attach).
    pub fn allow(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self, PathError> {
        let allowed: Vec<_> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        if allowed.is_empty() {
            return Err(PathError::Empty);
        }
        if allowed.len() > MOST_ALLOWED {
            return Err(PathError::TooMany { found: allowed.len(), most: MOST_ALLOWED });
        }
        let allowed = allowed.into_iter().map(|path| match plain(&path) {
            _ if !path.is_absolute() => Err(PathError::Relative { path }),
            plain if plain.as_os_str().len() > PATH_NAME => {
                Err(PathError::TooLong { found: plain.as_os_str().len(), most: PATH_NAME, path })
            }
            plain => Ok(plain),
        });
        Ok(Self { allowed: allowed.collect::<Result<_, _>>()?, ..Self::none() })
    }

    /// Allows nothing: for [`Need::Off`](crate::Need::Off). Wanted, it is refused by
    /// [`check`](crate::RecorderBuilder::check).
    #[must_use]
    pub fn none() -> Self {
        Self { allowed: Vec::new(), exec: true, open: true, sample_one_in: 1 }
    }

    /// Leaves out programs that are begun.
    #[must_use]
    pub fn without_exec(self) -> Self {
        Self { exec: false, ..self }
    }

    /// Leaves out files that are opened.
    #[must_use]
    pub fn without_open(self) -> Self {
        Self { open: false, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event by itself; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

/// Without what has no meaning in a path: more than one slash, `.`, a slash at the end.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.collect()
}

/// Calls that open a file by its name.
const CALLS: [&str; 4] = ["open", "openat", "openat2", "creat"];

/// By number, as a bit set.
fn calls() -> Vec<u8> {
    let mut calls = vec![0; SYSCALL_TABLE / 8];
    for call in CALLS.into_iter().filter_map(|name| Sysno::from_str(name).ok()) {
        if let Some(byte) = usize::try_from(call.id()).ok().and_then(|number| calls.get_mut(number / 8)) {
            *byte |= 1_u8 << (call.id() % 8);
        }
    }
    calls
}

fn rung(name: &'static str, program: ProgramPlan, needs: &[Needs]) -> RungPlan {
    const PATH: Needs = Needs(
        When::Always,
        &[
            "OFF_FILE_F_PATH_DENTRY",
            "OFF_FILE_F_PATH_MNT",
            "OFF_FILE_F_INODE",
            "OFF_INODE_I_INO",
            "OFF_INODE_I_SB",
            "OFF_SUPER_BLOCK_S_DEV",
            "OFF_DENTRY_D_INODE",
            "OFF_DENTRY_D_PARENT",
            "OFF_DENTRY_D_NAME_NAME",
            "OFF_DENTRY_D_NAME_LEN",
            "OFF_DENTRY_D_SEQ_SEQCOUNT_SEQUENCE",
            "OFF_DENTRY_D_HASH_PPREV",
            "OFF_MOUNT_MNT",
            "OFF_MOUNT_MNT_MNT_ROOT",
            "OFF_MOUNT_MNT_MOUNTPOINT",
            "OFF_MOUNT_MNT_PARENT",
        ],
    );
    /// Of what is open: also of what is allowed, where the loader has it open.
    const DESCRIPTORS: Needs = Needs(
        When::Always,
        &["OFF_TASK_STRUCT_FILES", "OFF_FILES_STRUCT_FDT", "OFF_FDTABLE_MAX_FDS", "OFF_FDTABLE_FD"],
    );
    const ALL: [Needs; 4] = [Needs::IDS, Needs::CGROUP_ID, PATH, DESCRIPTORS];
    let programs = vec![ProgramPlan::loaders("path_allow_raw"), program];
    RungPlan { name, programs, needs: [&ALL, needs].concat(), storage: &["SPELLINGS"] }
}

fn exec() -> Vec<RungPlan> {
    const PROGRAM: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_MM", "OFF_MM_STRUCT_EXE_FILE"]);
    vec![
        rung("tp_btf", ProgramPlan::btf("path_exec_btf", "sched_process_exec"), &[PROGRAM]),
        rung(TRACE_EVENT, ProgramPlan::event("path_exec_tp", "sched", "sched_process_exec"), &[PROGRAM]),
        rung("raw_tp", ProgramPlan::raw("path_exec_raw", "sched_process_exec"), &[PROGRAM]),
    ]
}

fn open() -> Vec<RungPlan> {
    const NUMBER: Needs = Needs(When::Always, &["OFF_SYSCALL_NR"]);
    vec![
        rung("tp_btf", ProgramPlan::btf("path_open_btf", "sys_exit"), &[NUMBER]),
        rung(TRACE_EVENT, ProgramPlan::event("path_open_tp", "raw_syscalls", "sys_exit"), &[]),
        rung("raw_tp", ProgramPlan::raw("path_open_raw", "sys_exit"), &[NUMBER]),
    ]
}

impl sealed::Sealed for Paths {}

impl ProbeFamily for Paths {
    fn plan(self) -> sealed::Plan {
        let mut events = Vec::new();
        if self.exec {
            events.push(EventPlan::new(Kind::PATH_EXEC, "path.exec", exec()));
        }
        if self.open {
            events.push(EventPlan::new(Kind::PATH_OPEN, "path.open", open()));
        }
        let entries = u32::try_from(self.allowed.len()).unwrap_or(u32::MAX).max(1);
        let allowed = (0..).zip(self.allowed).map(|(entry, path)| Allowed { entry, path });
        sealed::Plan(FamilyPlan {
            family: Family::Path,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: vec![("PATH_CALLS", calls())],
            maps: vec![("PATH_INODES", entries), ("PATH_LIST", entries)],
            allowed: allowed.collect(),
        })
    }
}

impl Yields<PathExec> for Paths {}
impl Yields<PathOpen> for Paths {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    use super::*;

    fn refusal(paths: &[&str]) -> String {
        Paths::allow(paths).unwrap_err().to_string()
    }

    #[test]
    fn lists_that_cannot_be() {
        assert_eq!(
            refusal(&[]),
            "no directory is named whose paths are to be recorded: name at least one, for example /etc"
        );
        for path in ["etc", "./etc", "../etc", "", "~/secret"] {
            assert_eq!(
                refusal(&["/usr", path]),
                format!("{path:?} is no absolute path: expected one that begins with /")
            );
        }
        assert_eq!(
            refusal(&["/usr"; 65]),
            "65 directories are named whose paths are to be recorded, expected 64 at most: name one that they are in"
        );
        Paths::allow(["/usr"; 64]).unwrap();
        let long = format!("/{}", "x".repeat(255));
        assert_eq!(
            refusal(&[&long]),
            format!("the path {long} has 256 bytes, expected 255 at most: name a directory that it is in")
        );
        Paths::allow([&long[..255]]).unwrap();
    }

    #[test]
    fn what_has_no_meaning_in_a_path_is_left_out() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/etc/", "/etc"),
            ("//etc//ssl/./certs/.", "/etc/ssl/certs"),
            // That may lead elsewhere than to /etc.
            ("/etc/ssl/..", "/etc/ssl/.."),
        ] {
            assert_eq!(Paths::allow([path]).unwrap().allowed, [PathBuf::from(expected)], "{path}");
        }
        let bytes = OsString::from_vec(b"/\xff\n".to_vec());
        let plan = Paths::allow([&bytes]).unwrap().plan().0;
        let named = plan.allowed[0].named();
        assert_eq!((named.entry, named.len, &named.text[..4]), (0, 3, &b"/\xff\n\0"[..]));
    }

    #[test]
    fn what_is_not_there() {
        let open = |path: &str| Paths::allow([path]).unwrap().plan().0.allowed[0].open();
        for path in ["/nonexistent/x", "/proc/self/status/x"] {
            assert_eq!(
                open(path).unwrap_err().to_string(),
                format!(
                    "{path} does not exist: expected a directory or a file whose paths are to be recorded"
                )
            );
        }
        for path in ["/", "/proc/self/status", "/proc/self/exe"] {
            open(path).unwrap();
        }
    }

    #[test]
    fn calls_are_known_by_number() {
        let calls = calls();
        let is_in = |number: i64| {
            let number = usize::try_from(number).unwrap();
            calls[number / 8] >> (number % 8) & 1 != 0
        };
        assert!(is_in(libc::SYS_openat) && is_in(libc::SYS_openat2) && !is_in(libc::SYS_read));
        #[cfg(target_arch = "x86_64")]
        assert!(is_in(libc::SYS_open) && is_in(libc::SYS_creat));
        let bits: u32 = calls.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(bits, if cfg!(target_arch = "x86_64") { 4 } else { 2 });
    }
}
