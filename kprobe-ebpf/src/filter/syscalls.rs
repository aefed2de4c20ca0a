use std::str::FromStr;

use kprobe_core::abi::SYSCALL_TABLE;
use syscalls::Sysno;

const WORDS: usize = SYSCALL_TABLE / 64;

/// A set of system calls of 64-bit programs of this architecture.
///
/// As text it is a list of names and families, `read,write,fsync`. A name that is both (`fsync`, `futex`, `poll`) is the family;
/// `=poll` is the call alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallSet {
    /// A bit for each number.
    words: [u64; WORDS],
    /// Calls by numbers of other tables: those of 32-bit programs, and numbers that no table has.
    other: bool,
}

/// A group of system calls that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallFamily {
    /// Moving bytes: read, write, send, receive and copy, with all their variants.
    Io,
    /// Forcing data to a device.
    Fsync,
    /// Sockets: connections, messages, and `close`, which ends them.
    Net,
    /// Waiting for and waking by memory.
    Futex,
    /// Waiting for descriptors.
    Poll,
    /// Waiting for time.
    Sleep,
    /// Files by their paths: opening, renaming, removing, asking; and `close`.
    File,
    /// Making, replacing, ending and waiting for processes.
    Process,
    /// io_uring.
    IoUring,
}

/// A name is neither a system call of this architecture nor a family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no system call {name:?} on {}{}; expected names of calls, or the families {}",
    std::env::consts::ARCH, .nearest.map(|name| format!(", did you mean {name}?")).unwrap_or_default(), families()
)]
pub struct UnknownSyscall {
    /// The name asked for.
    pub name: String,
    /// The call or family that resembles it most, if one does.
    pub nearest: Option<&'static str>,
}

impl SyscallFamily {
    /// Every family.
    pub const ALL: [Self; 9] = [
        Self::Io,
        Self::Fsync,
        Self::Net,
        Self::Futex,
        Self::Poll,
        Self::Sleep,
        Self::File,
        Self::Process,
        Self::IoUring,
    ];

    /// Its name in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Fsync => "fsync",
            Self::Net => "net",
            Self::Futex => "futex",
            Self::Poll => "poll",
            Self::Sleep => "sleep",
            Self::File => "file",
            Self::Process => "process",
            Self::IoUring => "io_uring",
        }
    }

    /// Names of its calls, of all architectures.
    fn calls(self) -> &'static str {
        match self {
            Self::Io => {
                "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 sendto recvfrom sendmsg recvmsg \
                 sendmmsg recvmmsg sendfile splice tee vmsplice copy_file_range"
            }
            Self::Fsync => "fsync fdatasync sync_file_range syncfs sync msync",
            Self::Net => {
                "socket socketpair bind listen connect accept accept4 sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg \
                 shutdown getsockname getpeername getsockopt setsockopt close"
            }
            Self::Futex => "futex futex_wait futex_wake futex_waitv futex_requeue",
            Self::Poll => {
                "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2"
            }
            Self::Sleep => "nanosleep clock_nanosleep",
            Self::File => {
                "open openat openat2 creat close rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat mknod mknodat \
                 link linkat symlink symlinkat readlink readlinkat truncate stat lstat newfstatat fstatat statx access \
                 faccessat faccessat2 chmod fchmodat fchmodat2 chown lchown fchownat utime utimes futimesat utimensat \
                 chdir statfs name_to_handle_at open_by_handle_at"
            }
            Self::Process => "fork vfork clone clone3 execve execveat exit exit_group wait4 waitid",
            Self::IoUring => "io_uring_setup io_uring_enter io_uring_register",
        }
    }
}

impl SyscallSet {
    /// No call.
    pub const NONE: Self = Self { words: [0; WORDS], other: false };

    /// Every call, those of 32-bit programs included.
    #[must_use]
    pub const fn all() -> Self {
        Self { words: [u64::MAX; WORDS], other: true }
    }

    /// The family [`SyscallFamily::Io`].
    #[must_use]
    pub fn io() -> Self {
        Self::family(SyscallFamily::Io)
    }

    /// The calls of a family that this architecture has.
    #[must_use]
    pub fn family(family: SyscallFamily) -> Self {
        family.calls().split_ascii_whitespace().filter_map(Self::call).fold(Self::NONE, Self::or)
    }

    /// Calls and families by their names, `all` among them.
    ///
    /// # Errors
    ///
    /// For a name that is neither, with the one that was probably meant.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownSyscall> {
        names.into_iter().try_fold(Self::NONE, |set, name| Ok(set.or(Self::one(name)?)))
    }

    /// What is in either.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (word, more) in self.words.iter_mut().zip(other.words) {
            *word |= more;
        }
        self.other |= other.other;
        self
    }

    /// Whether a number of this architecture's table is in it.
    #[must_use]
    pub fn contains(&self, nr: u16) -> bool {
        match self.words.get(usize::from(nr / 64)) {
            Some(word) => word >> (nr % 64) & 1 != 0,
            None => self.other,
        }
    }

    /// A bit for each number.
    #[must_use]
    pub const fn words(&self) -> [u64; WORDS] {
        self.words
    }

    /// Calls by numbers of other tables (32-bit and x32 programs) and beyond the table are in it: only in
    /// [`all`](Self::all).
    #[must_use]
    pub const fn includes_other(&self) -> bool {
        self.other
    }

    /// The names of its calls, by number.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let numbers = (0..).take(SYSCALL_TABLE).filter(|nr: &u16| self.contains(*nr));
        numbers.filter_map(|nr| Sysno::new(nr.into())).map(|call| call.name())
    }

    fn one(name: &str) -> Result<Self, UnknownSyscall> {
        let (exact, name) = name.strip_prefix('=').map_or((false, name), |name| (true, name));
        if !exact && name == "all" {
            return Ok(Self::all());
        }
        match SyscallFamily::ALL.into_iter().find(|family| family.name() == name) {
            Some(family) if !exact => Ok(Self::family(family)),
            _ => Self::call(name).ok_or_else(|| UnknownSyscall { name: name.into(), nearest: nearest(name) }),
        }
    }

    fn call(name: &str) -> Option<Self> {
        let nr = usize::try_from(Sysno::from_str(name).ok()?.id()).ok()?;
        let mut set = Self::NONE;
        *set.words.get_mut(nr / 64)? |= 1 << (nr % 64);
        Some(set)
    }
}

impl FromStr for SyscallSet {
    type Err = UnknownSyscall;

    /// Names separated by commas; blanks around them do not count.
    fn from_str(list: &str) -> Result<Self, UnknownSyscall> {
        Self::named(list.split(',').map(str::trim))
    }
}

fn families() -> String {
    let names = SyscallFamily::ALL.map(SyscallFamily::name);
    names.join(", ") + ", all"
}

/// Functions of the C library whose system call has another name.
const LIBRARY: [(&str, &str); 6] = [
    ("pread", "pread64"),
    ("pwrite", "pwrite64"),
    ("recv", "recvfrom"),
    ("send", "sendto"),
    ("umount", "umount2"),
    ("waitpid", "wait4"),
];

/// The call behind that function, else what begins like it, else what is spelled like it.
fn nearest(name: &str) -> Option<&'static str> {
    if let Some((_, call)) = LIBRARY.iter().find(|(function, _)| *function == name) {
        return Some(call);
    }
    let families = SyscallFamily::ALL.map(SyscallFamily::name).into_iter().chain(["all"]);
    let calls = (0..SYSCALL_TABLE).filter_map(Sysno::new).map(|call| call.name());
    let known: Vec<_> = families.chain(calls).collect();
    let longer = known.iter().filter(|known| name.len() > 2 && known.starts_with(name));
    let near = known.iter().map(|known| (distance(name, known), known));
    let similar = near.filter(|(changes, known)| *changes <= 1 + known.len().min(name.len()) / 4);
    let begins = longer.min_by_key(|known| known.len());
    begins.or_else(|| similar.min_by_key(|(changes, _)| *changes).map(|(_, known)| known)).copied()
}

/// Characters to insert, remove, replace or exchange with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    // Longer than any name: not worth its square of steps.
    if a.len() > 64 {
        return a.len();
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // The row before the last, the last, the one being filled: each round turns them by one.
    let mut rows = [vec![0; b.len() + 1], vec![0; b.len() + 1], (0..=b.len()).collect()];
    for (i, from) in a.iter().enumerate() {
        rows.rotate_left(1);
        let [before_last, last, row] = &mut rows;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before_last[j - 1] + 1);
            }
            row[j + 1] = least;
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        list.parse::<SyscallSet>().unwrap().names().collect()
    }

    #[test]
    fn names_and_families() {
        assert_eq!(names("read, write"), [Sysno::read.name(), Sysno::write.name()]);
        assert_eq!(names("=fsync"), ["fsync"]);
        assert_eq!(names("sleep"), ["nanosleep", "clock_nanosleep"]);
        let set: SyscallSet = "futex,connect".parse().unwrap();
        let nr = |call: Sysno| u16::try_from(call.id()).unwrap();
        assert!(
            set.contains(nr(Sysno::futex))
                && set.contains(nr(Sysno::futex_waitv))
                && set.contains(nr(Sysno::connect))
        );
        assert!(!set.contains(nr(Sysno::read)) && !set.contains(511) && !set.contains(u16::MAX));
        assert!(!set.includes_other());
        assert_eq!(set, SyscallSet::named(["connect"]).unwrap().or(SyscallSet::family(SyscallFamily::Futex)));
        assert_eq!("io".parse::<SyscallSet>().unwrap(), SyscallSet::io());
    }

    #[test]
    fn all_is_more_than_the_table() {
        let all: SyscallSet = "read,all".parse().unwrap();
        assert_eq!(all, SyscallSet::all());
        assert!(all.includes_other() && all.contains(u16::MAX));
        assert_eq!(all.names().count(), (0..SYSCALL_TABLE).filter_map(Sysno::new).count());
        assert_eq!(SyscallSet::NONE.names().count(), 0);
    }

    #[test]
    fn every_name_in_a_family_exists() {
        use ::syscalls::{aarch64, x86_64};
        for family in SyscallFamily::ALL {
            for name in family.calls().split_ascii_whitespace() {
                assert!(
                    x86_64::Sysno::from_str(name).is_ok() || aarch64::Sysno::from_str(name).is_ok(),
                    "{name}"
                );
            }
            assert_ne!(SyscallSet::family(family), SyscallSet::NONE);
        }
    }

    #[test]
    fn unknown_names_come_with_what_was_meant() {
        let meant = |name: &str| name.parse::<SyscallSet>().unwrap_err().nearest;
        assert_eq!(meant("raed"), Some("read"));
        assert_eq!(meant("wirte"), Some("write"));
        assert_eq!(meant("recv"), Some("recvfrom"));
        assert_eq!(meant("send"), Some("sendto"));
        assert_eq!(meant("pread"), Some("pread64"));
        assert_eq!(meant("preadv3"), Some("preadv"));
        assert_eq!(meant("fallo"), Some("fallocate"));
        assert_eq!(meant("epol_ctl"), Some("epoll_ctl"));
        assert_eq!(meant("proces"), Some("process"));
        assert_eq!(meant("netwrk"), None);
        for odd in ["", "=", "READ READ READ READ", "\u{1f980}", "=all"] {
            assert_eq!(odd.parse::<SyscallSet>().unwrap_err().name, odd.trim_start_matches('='));
        }
        let error = "read,raed".parse::<SyscallSet>().unwrap_err().to_string();
        let expected = format!(
            "no system call \"raed\" on {}, did you mean read?; expected names of calls, or the families io, fsync, net, \
             futex, poll, sleep, file, process, io_uring, all",
            std::env::consts::ARCH
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn distances() {
        for (a, b, changes) in
            [("", "", 0), ("", "ab", 2), ("ab", "ba", 1), ("kitten", "sitting", 3), ("x", "", 1)]
        {
            assert_eq!(distance(a, b), changes, "{a} {b}");
        }
    }
}
