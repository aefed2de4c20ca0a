use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, Tgid, Tid, Type, TypedEvent, Value},
};

/// A block device has done what it was asked for. The origin's time is that of the completion; its thread is the one that
/// was interrupted by it, which need not have anything to do with it: see [`submitter`](Self::submitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockRequest {
    /// The completion.
    pub origin: Origin,
    /// Who asked; `None` where that is not known.
    pub submitter: Option<Submitter>,
    /// Cgroup that it is charged to, which for write-back is that of whoever wrote the data.
    pub charged_cgroup_id: Option<u64>,
    /// When it was submitted: nanoseconds of `CLOCK_MONOTONIC`.
    pub queued_ns: Option<u64>,
    /// When the device got it; `None` if it never did.
    pub issued_ns: Option<u64>,
    /// The device: the whole disk, not a partition.
    pub device: Device,
    /// Where it begins, in units of 512 bytes from the start of the device.
    pub sector: u64,
    /// Bytes.
    pub bytes: u64,
    /// What was to be done.
    pub op: BlockOp,
    /// How.
    pub flags: BlockFlags,
    /// The kernel's `BLK_STS_*`: 0 if it succeeded.
    pub status: u16,
    /// How often the device gave it back before it was done.
    pub requeues: u16,
    /// Of how many pieces it was put together; at most 64 are counted. 0: it has none.
    pub bios: u16,
}

/// What was submitted became part of a request that was there already, and has no [`BlockRequest`] of its own: the one that
/// covers its sectors is also its own. The origin names the thread that was current; for a piece that was merged when it was
/// submitted that is the submitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockMerge {
    /// The merge.
    pub origin: Origin,
    /// Who asked; `None` where that is not known.
    pub submitter: Option<Submitter>,
    /// Cgroup that it is charged to.
    pub charged_cgroup_id: Option<u64>,
    /// When it was submitted: nanoseconds of `CLOCK_MONOTONIC`.
    pub queued_ns: u64,
    /// The device.
    pub device: Device,
    /// Where it begins, in units of 512 bytes from the start of the device.
    pub sector: u64,
    /// Bytes.
    pub bytes: u64,
    /// What is to be done.
    pub op: BlockOp,
    /// How.
    pub flags: BlockFlags,
    /// Where it was put.
    pub merged: Merged,
}

/// Who handed something to the block layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitter {
    /// Process.
    pub tgid: Tgid,
    /// Thread.
    pub tid: Tid,
    /// Its cgroup v2.
    pub cgroup_id: u64,
    /// It is a thread of the kernel, which does it for others: write-back, a journal, a stacked device.
    pub is_kernel_thread: bool,
}

/// What a device is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockOp {
    /// To read.
    Read,
    /// To write; without any bytes only to flush, see [`BlockFlags::PREFLUSH`].
    Write,
    /// To put its cache on the medium.
    Flush,
    /// To forget.
    Discard,
    /// To erase.
    SecureErase,
    /// To write zeros without getting them.
    WriteZeroes,
    /// Something to do with zones.
    Zone(u16),
    /// What only its driver knows, with data from it.
    DriverIn,
    /// Likewise, with data to it or none.
    DriverOut,
    /// Something newer than this version.
    Other(u16),
}

impl BlockOp {
    /// From the kernel's `REQ_OP_*`.
    #[must_use]
    pub const fn from_kernel(op: u16) -> Self {
        // include/linux/blk_types.h
        match op {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Flush,
            3 => Self::Discard,
            5 => Self::SecureErase,
            9 => Self::WriteZeroes,
            7 | 10..=19 => Self::Zone(op),
            34 => Self::DriverIn,
            35 => Self::DriverOut,
            other => Self::Other(other),
        }
    }

    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::SecureErase => "secure_erase",
            Self::WriteZeroes => "write_zeroes",
            Self::Zone(_) => "zone",
            Self::DriverIn => "driver_in",
            Self::DriverOut => "driver_out",
            Self::Other(_) => "other",
        }
    }
}

/// How a device is asked: bits, several of which may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockFlags(u32);

impl BlockFlags {
    /// Somebody waits for it.
    pub const SYNC: Self = Self(abi::BLOCK_SYNC);
    /// It is about metadata of a file system.
    pub const META: Self = Self(abi::BLOCK_META);
    /// It is to go first.
    pub const PRIO: Self = Self(abi::BLOCK_PRIO);
    /// It is not done before it is on the medium.
    pub const FUA: Self = Self(abi::BLOCK_FUA);
    /// What was written before is to be on the medium first.
    pub const PREFLUSH: Self = Self(abi::BLOCK_PREFLUSH);
    /// Nobody asked for it yet.
    pub const READAHEAD: Self = Self(abi::BLOCK_READAHEAD);
    /// Periodic write-back.
    pub const BACKGROUND: Self = Self(abi::BLOCK_BACKGROUND);
    /// It is a part of what was submitted, which was too large for one request.
    pub const SPLIT: Self = Self(abi::BLOCK_SPLIT);
    /// The device has no requests (device mapper, md, zram): it is what was submitted to it.
    pub const BIO: Self = Self(abi::BLOCK_BIO);

    const ALL: u32 = abi::BLOCK_KERNEL_FLAGS | abi::BLOCK_SPLIT | abi::BLOCK_BIO;
    const NAMED: [(Self, &'static str); 9] = [
        (Self::SYNC, "sync"),
        (Self::META, "meta"),
        (Self::PRIO, "prio"),
        (Self::FUA, "fua"),
        (Self::PREFLUSH, "preflush"),
        (Self::READAHEAD, "readahead"),
        (Self::BACKGROUND, "background"),
        (Self::SPLIT, "split"),
        (Self::BIO, "bio"),
    ];

    const fn of(flags: u32) -> Self {
        Self(flags & Self::ALL)
    }

    /// All of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The names of those that are set, with commas between them.
    #[must_use]
    pub fn names(self) -> String {
        let set = Self::NAMED.iter().filter(|(flag, _)| self.has(*flag));
        set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    }
}

/// What became of a piece that was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Merged {
    /// It was put behind a request.
    Back,
    /// It was put in front of one.
    Front,
    /// It was a request itself, which was put behind another one.
    Request,
}

impl Merged {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Back => "back",
            Self::Front => "front",
            Self::Request => "request",
        }
    }
}

impl BlockRequest {
    /// From the submission to the device's getting it: waiting for a free request, in a scheduler's queue, behind a flush.
    #[must_use]
    pub fn queue_duration_ns(&self) -> Option<u64> {
        Some(self.issued_ns?.saturating_sub(self.queued_ns?))
    }

    /// From the device's getting it to the completion.
    #[must_use]
    pub fn device_duration_ns(&self) -> Option<u64> {
        Some(self.origin.ktime_ns.saturating_sub(self.issued_ns?))
    }

    /// From the submission to the completion.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        Some(self.origin.ktime_ns.saturating_sub(self.queued_ns?))
    }

    /// Name of the error that it ended with, as system calls have it; `None` if it succeeded, or ended in a way that this
    /// version does not know.
    #[must_use]
    pub const fn error(&self) -> Option<&'static str> {
        // block/blk-core.c, blk_errors. Numbers above 13 differ between kernels.
        Some(match self.status {
            1 => "EOPNOTSUPP",
            2 => "ETIMEDOUT",
            3 => "ENOSPC",
            4 => "ENOLINK",
            5 => "EREMOTEIO",
            6 => "EBADE",
            7 => "ENODATA",
            8 => "EILSEQ",
            9 => "ENOMEM",
            10 => "EIO",
            11 => "EREMCHG",
            12 => "EAGAIN",
            13 => "EBUSY",
            _ => return None,
        })
    }
}

const ORIGIN_TGID: Field = Field::new("origin_tgid", Type::U64, "process that submitted it").optional();
const ORIGIN_TID: Field = Field::new("origin_tid", Type::U64, "thread that submitted it").optional();
const ORIGIN_CGROUP: Field =
    Field::new("origin_cgroup_id", Type::U64, "cgroup of the thread that submitted it").optional();
const KERNEL_THREAD: Field = Field::new(
    "kernel_thread",
    Type::Bool,
    "the submitter is a thread of the kernel: write-back, a journal, ...",
)
.optional();
const CHARGED: Field = Field::new(
    "charged_cgroup_id",
    Type::U64,
    "cgroup that it is charged to; for write-back that of whoever wrote the data",
)
.optional();
const DEV: Field = Field::new("dev", Type::Text, "device, major:minor");
const SECTOR: Field = Field::new("sector", Type::U64, "where it begins, in units of 512 bytes");
const BYTES: Field = Field::new("bytes", Type::U64, "how much");
const OP: Field = Field::new("op", Type::Text, "read, write, flush, discard, ...");
const FLAGS: Field = Field::new("flags", Type::Text, "sync, meta, preflush, ..., with commas; may be empty");

fn put_submitter(submitter: Option<Submitter>, put: &mut dyn FnMut(&'static str, Value<'_>)) {
    if let Some(submitter) = submitter {
        put("origin_tgid", Value::U64(submitter.tgid.0.into()));
        put("origin_tid", Value::U64(submitter.tid.0.into()));
        put("origin_cgroup_id", Value::U64(submitter.cgroup_id));
        put("kernel_thread", Value::Bool(submitter.is_kernel_thread));
    }
}

impl TypedEvent for BlockRequest {
    const KIND: Kind = Kind::BLOCK_REQUEST;
    const NAME: &'static str = "block.request";
    const FIELDS: &'static [Field] = &[
        DEV,
        OP,
        SECTOR,
        BYTES,
        FLAGS,
        Field::new("queued_ktime_ns", Type::U64, "when it was submitted").optional(),
        Field::new("issued_ktime_ns", Type::U64, "when the device got it, the last time").optional(),
        Field::new("queue_duration_ns", Type::U64, "from the submission to the device's getting it, in ns")
            .optional(),
        Field::new("device_duration_ns", Type::U64, "from the device's getting it to the completion, in ns")
            .optional(),
        Field::new("duration_ns", Type::U64, "from the submission to the completion, in ns").optional(),
        ORIGIN_TGID,
        ORIGIN_TID,
        ORIGIN_CGROUP,
        KERNEL_THREAD,
        CHARGED,
        Field::new("status", Type::U64, "the kernel's BLK_STS_*; 0 is success"),
        Field::new("error", Type::Text, "name of the error, if it failed").optional(),
        Field::new("requeues", Type::U64, "how often the device gave it back"),
        Field::new("bios", Type::U64, "of how many pieces it was put together, 64 of more"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::BlockRequest = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            submitter: has(abi::BLOCK_HAS_ORIGIN).then_some(Submitter {
                tgid: Tgid(body.origin_tgid),
                tid: Tid(body.origin_tid),
                cgroup_id: body.origin_cgroup_id,
                is_kernel_thread: has(abi::BLOCK_KERNEL_THREAD),
            }),
            charged_cgroup_id: has(abi::BLOCK_HAS_CHARGED).then_some(body.charged_cgroup_id),
            queued_ns: has(abi::BLOCK_HAS_QUEUED).then_some(body.queued_ns),
            issued_ns: has(abi::BLOCK_HAS_ISSUED).then_some(body.issued_ns),
            device: Device::from_kernel(body.dev),
            sector: body.sector,
            bytes: body.bytes,
            op: BlockOp::from_kernel(body.op),
            flags: BlockFlags::of(body.flags),
            status: body.status,
            requeues: body.requeues,
            bios: body.bios,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("dev", Value::Text(&self.device.to_string()));
        put("op", Value::Text(self.op.name()));
        put("sector", Value::U64(self.sector));
        put("bytes", Value::U64(self.bytes));
        put("flags", Value::Text(&self.flags.names()));
        let times = [
            ("queued_ktime_ns", self.queued_ns),
            ("issued_ktime_ns", self.issued_ns),
            ("queue_duration_ns", self.queue_duration_ns()),
            ("device_duration_ns", self.device_duration_ns()),
            ("duration_ns", self.duration_ns()),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                put(name, Value::U64(time));
            }
        }
        put_submitter(self.submitter, put);
        if let Some(charged) = self.charged_cgroup_id {
            put("charged_cgroup_id", Value::U64(charged));
        }
        put("status", Value::U64(self.status.into()));
        if let Some(error) = self.error() {
            put("error", Value::Text(error));
        }
        put("requeues", Value::U64(self.requeues.into()));
        put("bios", Value::U64(self.bios.into()));
    }
}

impl TypedEvent for BlockMerge {
    const KIND: Kind = Kind::BLOCK_MERGE;
    const NAME: &'static str = "block.merge";
    const FIELDS: &'static [Field] = &[
        DEV,
        OP,
        SECTOR,
        BYTES,
        FLAGS,
        Field::new("merged", Type::Text, "back or front of a request; request: it was one itself"),
        Field::new("queued_ktime_ns", Type::U64, "when it was submitted"),
        ORIGIN_TGID,
        ORIGIN_TID,
        ORIGIN_CGROUP,
        KERNEL_THREAD,
        CHARGED,
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::BlockMerge = record.body_of(Self::KIND)?;
        let has = |bit| body.flags & bit != 0;
        Ok(Self {
            origin: Origin::of(&record),
            submitter: has(abi::BLOCK_HAS_ORIGIN).then_some(Submitter {
                tgid: Tgid(body.origin_tgid),
                tid: Tid(body.origin_tid),
                cgroup_id: body.origin_cgroup_id,
                is_kernel_thread: has(abi::BLOCK_KERNEL_THREAD),
            }),
            charged_cgroup_id: has(abi::BLOCK_HAS_CHARGED).then_some(body.charged_cgroup_id),
            queued_ns: body.queued_ns,
            device: Device::from_kernel(body.dev),
            sector: body.sector,
            bytes: body.bytes,
            op: BlockOp::from_kernel(body.op),
            flags: BlockFlags::of(body.flags),
            merged: match body.how {
                abi::MERGE_BACK => Merged::Back,
                abi::MERGE_FRONT => Merged::Front,
                abi::MERGE_REQUEST => Merged::Request,
                found => {
                    return Err(record.bad_value(
                        std::mem::offset_of!(abi::BlockMerge, how),
                        "a MERGE_* constant",
                        found.into(),
                    ));
                }
            },
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("dev", Value::Text(&self.device.to_string()));
        put("op", Value::Text(self.op.name()));
        put("sector", Value::U64(self.sector));
        put("bytes", Value::U64(self.bytes));
        put("flags", Value::Text(&self.flags.names()));
        put("merged", Value::Text(self.merged.name()));
        put("queued_ktime_ns", Value::U64(self.queued_ns));
        put_submitter(self.submitter, put);
        if let Some(charged) = self.charged_cgroup_id {
            put("charged_cgroup_id", Value::U64(charged));
        }
    }
}
