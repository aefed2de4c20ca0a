use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Tgid, Tid, Type, TypedEvent, Value},
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

/// A thread had to free memory for its own allocation. The origin names it; its time is that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryReclaim {
    /// The thread that reclaimed.
    pub origin: Origin,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Who was short of memory.
    pub scope: MemoryScope,
    /// What was asked for: two to the power of this many pages.
    pub order: u32,
    /// How: the kernel's `GFP_*` flags, whose numbers differ between kernels.
    pub gfp: u32,
    /// Pages that it freed.
    pub reclaimed_pages: u64,
}

/// Who is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryScope {
    /// The machine.
    Global,
    /// A cgroup that has come to its limit; its id, where the kernel tells.
    Cgroup(Option<u64>),
}

impl MemoryScope {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Cgroup(_) => "cgroup",
        }
    }

    fn fields(self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("scope", Value::Text(self.name()));
        if let Self::Cgroup(Some(id)) = self {
            put("limit_cgroup_id", Value::U64(id));
        }
    }
}

const SCOPE: Field =
    Field::new("scope", Type::Text, "who was short of memory: global (the machine) or cgroup (at its limit)");
const LIMIT: Field = Field::new("limit_cgroup_id", Type::U64, "the cgroup at its limit").optional();
const BEGAN: Field = Field::new("begin_ktime_ns", Type::U64, "when it began, in ns of CLOCK_MONOTONIC");
const TOOK: Field = Field::new("duration_ns", Type::U64, "from there to the end, in ns");
const ORDER: Field = Field::new("order", Type::U64, "what was asked for: 2 to the power of this many pages");
const GFP: Field = Field::new("gfp", Type::U64, "how: the kernel's GFP_* flags");

impl MemoryReclaim {
    /// How long it took, in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for MemoryReclaim {
    const KIND: Kind = Kind::MEMORY_RECLAIM;
    const NAME: &'static str = "memory.reclaim";
    const FIELDS: &'static [Field] = &[
        SCOPE,
        LIMIT,
        BEGAN,
        TOOK,
        ORDER,
        GFP,
        Field::new("reclaimed_pages", Type::U64, "pages that it freed"),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::MemoryReclaim = record.body_of(Self::KIND)?;
        let scope = match body.scope {
            abi::RECLAIM_GLOBAL => MemoryScope::Global,
            abi::RECLAIM_CGROUP => {
                let has_id = body.flags & abi::RECLAIM_HAS_CGROUP != 0;
                MemoryScope::Cgroup(has_id.then_some(body.cgroup_id))
            }
            other => {
                let offset = std::mem::offset_of!(abi::MemoryReclaim, scope);
                return Err(record.bad_value(offset, "a scope, 0 or 1", other.into()));
            }
        };
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            scope,
            order: body.order,
            gfp: body.gfp,
            reclaimed_pages: body.reclaimed_pages,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        self.scope.fields(put);
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        put("order", Value::U64(self.order.into()));
        put("gfp", Value::U64(self.gfp.into()));
        put("reclaimed_pages", Value::U64(self.reclaimed_pages));
    }
}

/// A thread moved pages of a zone together, so that a longer row of them becomes free. The origin names it; its time is
/// that of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryCompaction {
    /// The thread that compacted.
    pub origin: Origin,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// How long a row is wanted: two to the power of this many pages; `None` for as long as can be.
    pub order: Option<u32>,
    /// How: the kernel's `GFP_*` flags, whose numbers differ between kernels.
    pub gfp: u32,
    /// It could wait for pages.
    pub sync: bool,
    /// It was for an allocation of the thread's own.
    pub direct: bool,
    /// What came of it.
    pub result: CompactionResult,
}

/// What came of a compaction: the kernel's `enum compact_result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionResult(pub u32);

impl CompactionResult {
    /// Its name; `None` for one that this version does not know.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 9] = [
            "not_suitable_zone",
            "skipped",
            "deferred",
            "no_suitable_page",
            "continue",
            "complete",
            "partial_skipped",
            "contended",
            "success",
        ];
        NAMES.get(usize::try_from(self.0).ok()?).copied()
    }
}

impl MemoryCompaction {
    /// How long it took, in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for MemoryCompaction {
    const KIND: Kind = Kind::MEMORY_COMPACTION;
    const NAME: &'static str = "memory.compaction";
    const FIELDS: &'static [Field] = &[
        BEGAN,
        TOOK,
        Field::new("order", Type::U64, "2 to the power of this many pages in a row are wanted").optional(),
        GFP,
        Field::new("sync", Type::Bool, "it could wait for pages"),
        Field::new("direct", Type::Bool, "it was for an allocation of the thread's own"),
        Field::new("result_nr", Type::U64, "what came of it: number in enum compact_result"),
        Field::new("result", Type::Text, "its name").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::MemoryCompaction = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            order: u32::try_from(body.order).ok(),
            gfp: body.gfp,
            sync: body.flags & abi::COMPACTION_SYNC != 0,
            direct: body.flags & abi::COMPACTION_DIRECT != 0,
            result: CompactionResult(body.result),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        if let Some(order) = self.order {
            put("order", Value::U64(order.into()));
        }
        put("gfp", Value::U64(self.gfp.into()));
        put("sync", Value::Bool(self.sync));
        put("direct", Value::Bool(self.direct));
        put("result_nr", Value::U64(self.result.0.into()));
        if let Some(name) = self.result.name() {
            put("result", Value::Text(name));
        }
    }
}

/// The kernel kills a process for want of memory. The origin names the thread whose allocation could not be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryOomKill {
    /// The thread whose allocation could not be met.
    pub origin: Origin,
    /// The process that is killed.
    pub victim_tgid: Tgid,
    /// A thread of it.
    pub victim_tid: Tid,
    /// Start of that process: nanoseconds of `CLOCK_BOOTTIME`.
    pub victim_start_ns: u64,
    /// What was added to its score (`oom_score_adj`), in thousandths.
    pub score_adj: i32,
    /// Why; `None` where the kernel does not tell.
    pub cause: Option<OomCause>,
    /// How large it is; `None` where the kernel does not tell.
    pub sizes: Option<OomSizes>,
}

/// Why a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OomCause {
    /// Who is short of memory.
    pub scope: MemoryScope,
    /// What was asked for: two to the power of this many pages; `None` if somebody asked for the kill itself.
    pub order: Option<u32>,
    /// How: the kernel's `GFP_*` flags, whose numbers differ between kernels.
    pub gfp: u32,
}

/// Memory of a process that is killed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OomSizes {
    /// Its address space.
    pub total_vm_bytes: u64,
    /// Anonymous pages in memory.
    pub anon_bytes: u64,
    /// Pages of files in memory.
    pub file_bytes: u64,
    /// Shared memory in memory.
    pub shmem_bytes: u64,
}

impl TypedEvent for MemoryOomKill {
    const KIND: Kind = Kind::MEMORY_OOM_KILL;
    const NAME: &'static str = "memory.oom_kill";
    const FIELDS: &'static [Field] = &[
        Field::new("victim_tgid", Type::U64, "process that is killed"),
        Field::new("victim_tid", Type::U64, "a thread of it"),
        Field::new("victim_start_ns", Type::U64, "its start, in ns of CLOCK_BOOTTIME"),
        Field::new("score_adj", Type::I64, "what was added to its score (oom_score_adj), in thousandths"),
        SCOPE.optional(),
        LIMIT,
        Field::new("order", Type::U64, "what was asked for: 2 to the power of this many pages").optional(),
        Field::new("gfp", Type::U64, "how: the kernel's GFP_* flags").optional(),
        Field::new("total_vm_bytes", Type::U64, "its address space").optional(),
        Field::new("anon_bytes", Type::U64, "anonymous memory that it has").optional(),
        Field::new("file_bytes", Type::U64, "pages of files that it has mapped").optional(),
        Field::new("shmem_bytes", Type::U64, "shared memory that it has mapped").optional(),
    ];

    #[inline(always)]
    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::MemoryOomKill = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        let scope = if has(abi::OOM_IN_CGROUP) {
            MemoryScope::Cgroup(Some(body.cgroup_id))
        } else {
            MemoryScope::Global
        };
        Ok(Self {
            origin: Origin::of(&record),
            victim_tgid: Tgid(body.victim_tgid),
            victim_tid: Tid(body.victim_tid),
            victim_start_ns: body.victim_start_ns,
            score_adj: body.score_adj,
            cause: has(abi::OOM_HAS_CAUSE).then_some(OomCause {
                scope,
                order: u32::try_from(body.order).ok(),
                gfp: body.gfp,
            }),
            sizes: has(abi::OOM_HAS_SIZES).then_some(OomSizes {
                total_vm_bytes: body.total_vm_bytes,
                anon_bytes: body.anon_bytes,
                file_bytes: body.file_bytes,
                shmem_bytes: body.shmem_bytes,
            }),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("victim_tgid", Value::U64(self.victim_tgid.0.into()));
        put("victim_tid", Value::U64(self.victim_tid.0.into()));
        put("victim_start_ns", Value::U64(self.victim_start_ns));
        put("score_adj", Value::I64(self.score_adj.into()));
        if let Some(cause) = self.cause {
            cause.scope.fields(put);
            if let Some(order) = cause.order {
                put("order", Value::U64(order.into()));
            }
            put("gfp", Value::U64(cause.gfp.into()));
        }
        if let Some(sizes) = self.sizes {
            put("total_vm_bytes", Value::U64(sizes.total_vm_bytes));
            put("anon_bytes", Value::U64(sizes.anon_bytes));
            put("file_bytes", Value::U64(sizes.file_bytes));
            put("shmem_bytes", Value::U64(sizes.shmem_bytes));
        }
    }
}
