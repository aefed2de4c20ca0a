use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Type, TypedEvent, Value},
};

/// A page fault that the kernel could not settle at once: it had to read from a device, or had to try again. The origin
/// names the thread that faulted; its time is that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryFaultMajor {
    /// The thread that faulted.
    pub origin: Origin,
    /// Where and how.
    pub fault: PageFault,
    /// Inode number and device of the file that is mapped there; `None` if none is, or the kernel does not tell.
    pub file: Option<(u64, Device)>,
}

/// A page fault that was settled without waiting for a device, as `MemoryFaultMajor` otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryFaultMinor {
    /// The thread that faulted.
    pub origin: Origin,
    /// Where and how.
    pub fault: PageFault,
    /// It is the one that was kept of so many.
    pub one_in: u32,
}

/// What page faults have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageFault {
    /// When the kernel began to handle it, in nanoseconds of `CLOCK_MONOTONIC`; `None` if that was not seen.
    pub begin_ns: Option<u64>,
    /// The address, rounded down to 4096.
    pub address: u64,
    /// How it was accessed; `None` where the kernel does not tell.
    pub access: Option<Access>,
    /// The address is one of another process's memory: that of a debugger's target, for example.
    pub remote: bool,
}

/// How memory was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// To write.
    pub write: bool,
    /// To fetch an instruction.
    pub exec: bool,
    /// By the program itself, not by the kernel for it.
    pub user: bool,
}

impl PageFault {
    fn new(flags: u32, begin_ns: u64, address: u64) -> Self {
        let has = |bit| flags & bit != 0;
        Self {
            begin_ns: has(abi::FAULT_HAS_BEGIN).then_some(begin_ns),
            address,
            access: has(abi::FAULT_HAS_ACCESS).then_some(Access {
                write: has(abi::FAULT_WRITE),
                exec: has(abi::FAULT_EXEC),
                user: has(abi::FAULT_USER),
            }),
            remote: has(abi::FAULT_REMOTE),
        }
    }

    fn fields(&self, origin: &Origin, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("address", Value::U64(self.address));
        if let Some(access) = self.access {
            put("write", Value::Bool(access.write));
            put("exec", Value::Bool(access.exec));
            put("user", Value::Bool(access.user));
        }
        put("remote", Value::Bool(self.remote));
        put_begin(self.begin_ns, origin, put);
    }
}

/// From the beginning to the time of the record.
fn duration_ns(begin_ns: Option<u64>, origin: &Origin) -> Option<u64> {
    begin_ns.map(|begin_ns| origin.ktime_ns.saturating_sub(begin_ns))
}

fn put_begin(begin_ns: Option<u64>, origin: &Origin, put: &mut dyn FnMut(&'static str, Value<'_>)) {
    if let Some(begin_ns) = begin_ns {
        put("begin_ktime_ns", Value::U64(begin_ns));
    }
    if let Some(duration_ns) = duration_ns(begin_ns, origin) {
        put("duration_ns", Value::U64(duration_ns));
    }
}

const ADDRESS: Field = Field::new("address", Type::U64, "where it was, rounded down to 4096");
const WRITE: Field = Field::new("write", Type::Bool, "the access was a write").optional();
const EXEC: Field = Field::new("exec", Type::Bool, "the access was the fetch of an instruction").optional();
const USER: Field =
    Field::new("user", Type::Bool, "the program itself made the access, not the kernel for it").optional();
const REMOTE: Field = Field::new("remote", Type::Bool, "the address is one of another process's memory");
const BEGIN: Field =
    Field::new("begin_ktime_ns", Type::U64, "when the kernel began to handle it, in ns of CLOCK_MONOTONIC")
        .optional();
const DURATION: Field = Field::new("duration_ns", Type::U64, "from there to the end, in ns").optional();

impl MemoryFaultMajor {
    /// How long the kernel took, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        duration_ns(self.fault.begin_ns, &self.origin)
    }
}

impl TypedEvent for MemoryFaultMajor {
    const KIND: Kind = Kind::MEMORY_FAULT_MAJOR;
    const NAME: &'static str = "memory.fault_major";
    const FIELDS: &'static [Field] = &[
        ADDRESS,
        WRITE,
        EXEC,
        USER,
        REMOTE,
        BEGIN,
        DURATION,
        Field::new("file_inode", Type::U64, "inode number of the file that is mapped there").optional(),
        Field::new("file_dev", Type::Text, "its device, major:minor").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::MemoryFaultMajor = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            fault: PageFault::new(body.flags, body.begin_ns, body.address),
            file: (body.flags & abi::FAULT_HAS_FILE != 0)
                .then(|| (body.inode, Device::from_kernel(body.device))),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.fault.fields(&self.origin, put);
        if let Some((inode, device)) = self.file {
            put("file_inode", Value::U64(inode));
            put("file_dev", Value::Text(&device.to_string()));
        }
    }
}

impl MemoryFaultMinor {
    /// How long the kernel took, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        duration_ns(self.fault.begin_ns, &self.origin)
    }
}

impl TypedEvent for MemoryFaultMinor {
    const KIND: Kind = Kind::MEMORY_FAULT_MINOR;
    const NAME: &'static str = "memory.fault_minor";
    const FIELDS: &'static [Field] = &[
        ADDRESS,
        WRITE,
        EXEC,
        USER,
        REMOTE,
        BEGIN,
        DURATION,
        Field::new("one_in", Type::U64, "the line is the one that was kept of so many faults"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::MemoryFaultMinor = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            fault: PageFault::new(body.flags, body.begin_ns, body.address),
            one_in: body.one_in,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.fault.fields(&self.origin, put);
        put("one_in", Value::U64(self.one_in.into()));
    }
}
