use std::fmt;

use syscalls::{aarch64, arm, x86, x86_64};

/// Architecture of the machine that events are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86; its 32-bit programs use the x86 table.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm; its 32-bit programs use the Arm table.
    Aarch64,
    /// One whose numbers kprobe has no names for.
    #[serde(other)]
    Other,
}

impl Arch {
    /// The machine this code runs on.
    #[must_use]
    pub const fn native() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Other
        }
    }

    /// Name of a system call number in the table of 64-bit programs.
    #[must_use]
    pub fn syscall_name(self, nr: u16) -> Option<&'static str> {
        match self {
            Self::X86_64 => x86_64::Sysno::new(nr.into()).map(|call| call.name()),
            Self::Aarch64 => aarch64::Sysno::new(nr.into()).map(|call| call.name()),
            Self::Other => None,
        }
    }

    /// Name of a system call number in the table of 32-bit programs.
    #[must_use]
    pub fn compat_syscall_name(self, nr: u16) -> Option<&'static str> {
        match self {
            Self::X86_64 => x86::Sysno::new(nr.into()).map(|call| call.name()),
            Self::Aarch64 => arm::Sysno::new(nr.into()).map(|call| call.name()),
            Self::Other => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Other => "other",
        })
    }
}

/// Name of an error number, for example `ENOENT` for 2. Numbers are those of x86 and Arm. The kernel's internal restart
/// codes, which a tracer gets to see, are among them.
#[must_use]
pub fn errno_name(errno: u32) -> Option<&'static str> {
    match errno {
        512 => Some("ERESTARTSYS"),
        513 => Some("ERESTARTNOINTR"),
        514 => Some("ERESTARTNOHAND"),
        516 => Some("ERESTART_RESTARTBLOCK"),
        _ => i32::try_from(errno).ok().and_then(|errno| syscalls::Errno::new(errno).name()),
    }
}

/// Name of a signal, for example `SIGKILL` for 9. Numbers are those of x86 and Arm.
#[must_use]
pub fn signal_name(signal: u8) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    NAMES.get(usize::from(signal).checked_sub(1)?).copied()
}

/// Name of a capability, for example `CAP_NET_RAW` for 13.
#[must_use]
pub fn capability_name(capability: u32) -> Option<&'static str> {
    const NAMES: [&str; 41] = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];
    NAMES.get(usize::try_from(capability).ok()?).copied()
}
