use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a thread's name with its terminating zero (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Body of [`Kind::PROCESS_FORK`](super::Kind::PROCESS_FORK). The header names the creating thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessFork {
    /// Process of the new thread. Equal to `child_tid` for a new process, else a new thread of an existing one.
    pub child_tgid: u32,
    /// The new thread.
    pub child_tid: u32,
    /// When the new thread was created: nanoseconds of `CLOCK_BOOTTIME`.
    pub child_start_ns: u64,
    /// Parent process of the new process (its `real_parent`: with `CLONE_PARENT` not the creator).
    pub parent_tgid: u32,
    /// None defined.
    pub flags: u32,
}

/// Body of [`Kind::PROCESS_EXEC`](super::Kind::PROCESS_EXEC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessExec {
    /// Start of the process: nanoseconds of `CLOCK_BOOTTIME`. An exec does not change it.
    pub start_ns: u64,
    /// Inode number of the executable (of the interpreter, for a script).
    pub exe_inode: u64,
    /// Device of the executable's file system in the kernel's encoding: major << 20 | minor.
    pub exe_dev: u32,
    /// Parent process.
    pub parent_tgid: u32,
    /// Thread that called exec; it differs from the header's `tid` if it was not the first of its process.
    pub old_tid: u32,
    /// [`EXEC_HAS_EXE`].
    pub flags: u32,
    /// New name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// `exe_inode` and `exe_dev` are present.
pub const EXEC_HAS_EXE: u32 = 1;

/// Body of [`Kind::PROCESS_EXIT`](super::Kind::PROCESS_EXIT): one for each thread; that of the last thread of a process
/// carries [`EXIT_PROCESS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessExit {
    /// Start of the process: nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Parent process.
    pub parent_tgid: u32,
    /// What `wait` gets to see: exit code in bits 8..16, signal in bits 0..7, core dump in bit 7.
    pub status: u32,
    /// [`EXIT_PROCESS`].
    pub flags: u64,
}

/// The process ended with this thread.
pub const EXIT_PROCESS: u64 = 1;

/// Body of [`Kind::PROCESS_RENAME`](super::Kind::PROCESS_RENAME): `prctl(PR_SET_NAME)`, `pthread_setname_np`,
/// `/proc/PID/comm`, or an exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessRename {
    /// Thread that is renamed; one thread may rename another of its process.
    pub renamed_tid: u32,
    /// Its process.
    pub renamed_tgid: u32,
    /// The new name.
    pub comm: [u8; COMM_LEN],
}
