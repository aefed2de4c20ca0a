use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::SYSCALL`](super::Kind::SYSCALL): one for each completed call. The header's time is that of the return
/// (of the entry for a call that never returns).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Syscall {
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// What the call returned: a negative errno for a failure. Present with [`SYSCALL_HAS_RET`].
    pub ret: i64,
    /// Length that was asked for (`count`, `len`, ...). Present with [`SYSCALL_HAS_REQUESTED`].
    pub requested: u64,
    /// The call's file descriptor argument. Present with [`SYSCALL_HAS_FD`].
    pub fd: i32,
    /// System call number in the table of the ABI that `flags` names. [`SYSCALL_NR_INVALID`] if it does not fit.
    pub nr: u16,
    /// `SYSCALL_*` bits.
    pub flags: u16,
}

/// `Syscall::nr` for a number that no table can have.
pub const SYSCALL_NR_INVALID: u16 = u16::MAX;
/// `fd` is present.
pub const SYSCALL_HAS_FD: u16 = 1;
/// `requested` is present.
pub const SYSCALL_HAS_REQUESTED: u16 = 2;
/// `ret` is present; without it the call never returns (`exit`, `exit_group`).
pub const SYSCALL_HAS_RET: u16 = 4;
/// The number is from the 32-bit table of a 64-bit machine (`int 0x80` and 32-bit programs on x86).
pub const SYSCALL_COMPAT: u16 = 8;
/// The call came by x86's x32 ABI; its number is that of the x32 table without bit 30.
pub const SYSCALL_X32: u16 = 16;

/// Length of the tables below. Higher numbers are recorded without arguments.
pub const SYSCALL_TABLE: usize = 512;

/// How the kernel program treats one system call number: a byte in the table `SYSCALL_SHAPE`, which the loader fills in
/// by name, so that the programs know no number of any architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SyscallShape(pub u8);

impl SyscallShape {
    const NO_ARG: u8 = 7;
    const NO_RETURN: u8 = 1 << 6;
    const RETURNS_TWICE: u8 = 1 << 7;

    /// A call with neither a descriptor nor a length.
    pub const PLAIN: Self = Self(Self::NO_ARG | Self::NO_ARG << 3);

    /// The argument (0..=5) that is a file descriptor.
    #[must_use]
    pub const fn with_fd(self, arg: u8) -> Self {
        assert!(arg < 6);
        Self(self.0 & !Self::NO_ARG | arg)
    }

    /// The argument (0..=5) that is the requested length.
    #[must_use]
    pub const fn with_requested(self, arg: u8) -> Self {
        assert!(arg < 6);
        Self(self.0 & !(Self::NO_ARG << 3) | arg << 3)
    }

    /// The call does not return: it is recorded when it is entered.
    #[must_use]
    pub const fn no_return(self) -> Self {
        Self(self.0 | Self::NO_RETURN)
    }

    /// The call returns in the child as well, which never entered it (`fork`, `clone`, ...).
    #[must_use]
    pub const fn returns_twice(self) -> Self {
        Self(self.0 | Self::RETURNS_TWICE)
    }

    /// See [`with_fd`](Self::with_fd).
    #[must_use]
    #[inline(always)]
    pub const fn fd(self) -> Option<u8> {
        let arg = self.0 & Self::NO_ARG;
        if arg < 6 { Some(arg) } else { None }
    }

    /// See [`with_requested`](Self::with_requested).
    #[must_use]
    #[inline(always)]
    pub const fn requested(self) -> Option<u8> {
        let arg = self.0 >> 3 & Self::NO_ARG;
        if arg < 6 { Some(arg) } else { None }
    }

    /// See [`no_return`](Self::no_return).
    #[must_use]
    #[inline(always)]
    pub const fn is_no_return(self) -> bool {
        self.0 & Self::NO_RETURN != 0
    }

    /// See [`returns_twice`](Self::returns_twice).
    #[must_use]
    #[inline(always)]
    pub const fn is_returns_twice(self) -> bool {
        self.0 & Self::RETURNS_TWICE != 0
    }
}
