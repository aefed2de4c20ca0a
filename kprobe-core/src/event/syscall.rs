use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value, errno_name},
};

/// A completed system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Syscall {
    /// The calling thread. The time is that of the return; of the entry for a call that never returns.
    pub origin: Origin,
    /// Which call; `None` for a number that no table can have.
    pub nr: Option<SyscallNr>,
    /// When the call was entered: nanoseconds of `CLOCK_MONOTONIC`.
    pub enter_ns: u64,
    /// The file descriptor among its arguments, as it was passed: -1 and `AT_FDCWD` (-100) occur.
    pub fd: Option<i32>,
    /// The length among its arguments.
    pub requested: Option<u64>,
    /// What it returned: -errno for a failure; `None` if it never returns.
    pub ret: Option<i64>,
}

/// A system call number and the table it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyscallNr {
    /// The table.
    pub abi: SyscallAbi,
    /// The number.
    pub nr: u16,
}

/// The way a program calls the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallAbi {
    /// That of 64-bit programs.
    Native,
    /// That of 32-bit programs on a 64-bit machine.
    Compat,
    /// x86's x32.
    X32,
}

impl SyscallNr {
    /// Name of the call on a machine of that architecture.
    #[must_use]
    pub fn name(self, arch: Arch) -> Option<&'static str> {
        match self.abi {
            SyscallAbi::Compat => arch.compat_syscall_name(self.nr),
            // The x32 table is the 64-bit one up to 511.
            SyscallAbi::Native | SyscallAbi::X32 => arch.syscall_name(self.nr),
        }
    }
}

impl SyscallAbi {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Compat => "compat",
            Self::X32 => "x32",
        }
    }
}

impl Syscall {
    /// From entry to return, in nanoseconds; `None` if it never returns.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.ret.map(|_| self.origin.ktime_ns.saturating_sub(self.enter_ns))
    }

    /// The error number, if it failed.
    #[must_use]
    pub fn errno(&self) -> Option<u32> {
        // Linux returns errors as -4095..=-1.
        self.ret.filter(|ret| (-4095..0).contains(ret)).and_then(|ret| u32::try_from(-ret).ok())
    }
}

impl TypedEvent for Syscall {
    const KIND: Kind = Kind::SYSCALL;
    const NAME: &'static str = "syscall";
    const FIELDS: &'static [Field] = &[
        Field::new("nr", Type::U64, "number of the call").optional(),
        Field::new("name", Type::Text, "its name").optional(),
        Field::new("abi", Type::Text, "compat (32-bit program) or x32, if it is not the machine's own")
            .optional(),
        Field::new("enter_ktime_ns", Type::U64, "when it was entered, in ns of CLOCK_MONOTONIC"),
        Field::new("duration_ns", Type::U64, "from entry to return, in ns; absent if it never returns")
            .optional(),
        Field::new("fd", Type::I64, "the file descriptor among its arguments, as passed").optional(),
        Field::new("requested", Type::U64, "the length among its arguments, in bytes").optional(),
        Field::new("ret", Type::I64, "what it returned; absent if it never returns").optional(),
        Field::new("errno", Type::Text, "name of the error, if it failed").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::Syscall = record.body_of(Self::KIND)?;
        let has = |bit: u16| body.flags & bit != 0;
        let abi = match (has(abi::SYSCALL_COMPAT), has(abi::SYSCALL_X32)) {
            (false, false) => SyscallAbi::Native,
            (true, false) => SyscallAbi::Compat,
            (false, true) => SyscallAbi::X32,
            (true, true) => {
                let offset = std::mem::offset_of!(abi::Syscall, flags);
                return Err(record.bad_value(offset, "at most one of compat and x32", body.flags.into()));
            }
        };
        Ok(Self {
            origin: Origin::of(&record),
            nr: (body.nr != abi::SYSCALL_NR_INVALID).then_some(SyscallNr { abi, nr: body.nr }),
            enter_ns: body.enter_ns,
            fd: has(abi::SYSCALL_HAS_FD).then_some(body.fd),
            requested: has(abi::SYSCALL_HAS_REQUESTED).then_some(body.requested),
            ret: has(abi::SYSCALL_HAS_RET).then_some(body.ret),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(nr) = self.nr {
            put("nr", Value::U64(nr.nr.into()));
            if let Some(name) = nr.name(arch) {
                put("name", Value::Text(name));
            }
            if nr.abi != SyscallAbi::Native {
                put("abi", Value::Text(nr.abi.name()));
            }
        }
        put("enter_ktime_ns", Value::U64(self.enter_ns));
        if let Some(duration) = self.duration_ns() {
            put("duration_ns", Value::U64(duration));
        }
        if let Some(fd) = self.fd {
            put("fd", Value::I64(fd.into()));
        }
        if let Some(requested) = self.requested {
            put("requested", Value::U64(requested));
        }
        if let Some(ret) = self.ret {
            put("ret", Value::I64(ret));
        }
        if let Some(name) = self.errno().and_then(errno_name) {
            put("errno", Value::Text(name));
        }
    }
}
