use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::BLOCK_REQUEST`](super::Kind::BLOCK_REQUEST). The header names whom the completion interrupted, and its
/// time is that of the completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockRequest {
    /// When it was submitted: nanoseconds of `CLOCK_MONOTONIC`.
    pub queued_ns: u64,
    /// When the device got it, the last time if it was requeued: likewise.
    pub issued_ns: u64,
    /// Where on the device, in units of 512 bytes.
    pub sector: u64,
    /// Bytes.
    pub bytes: u64,
    /// Cgroup v2 of the thread that submitted it.
    pub origin_cgroup_id: u64,
    /// Cgroup that it is charged to.
    pub charged_cgroup_id: u64,
    /// Device, as the kernel has it (`MKDEV`).
    pub dev: u32,
    /// Process that submitted it.
    pub origin_tgid: u32,
    /// Thread that submitted it.
    pub origin_tid: u32,
    /// `BLOCK_*`.
    pub flags: u32,
    /// What is to be done: the kernel's `REQ_OP_*`.
    pub op: u16,
    /// How it ended: the kernel's `BLK_STS_*`; 0 is success.
    pub status: u16,
    /// How often the device gave it back.
    pub requeues: u16,
    /// Of how many pieces it was put together, [`BLOCK_MOST_BIOS`] of more; 0 if it has none.
    pub bios: u16,
}

/// Body of [`Kind::BLOCK_MERGE`](super::Kind::BLOCK_MERGE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockMerge {
    /// When it was submitted: nanoseconds of `CLOCK_MONOTONIC`.
    pub queued_ns: u64,
    /// Where on the device, in units of 512 bytes.
    pub sector: u64,
    /// Bytes.
    pub bytes: u64,
    /// Cgroup v2 of the thread that submitted it.
    pub origin_cgroup_id: u64,
    /// Cgroup that it is charged to.
    pub charged_cgroup_id: u64,
    /// Device, as the kernel has it (`MKDEV`).
    pub dev: u32,
    /// Process that submitted it.
    pub origin_tgid: u32,
    /// Thread that submitted it.
    pub origin_tid: u32,
    /// `BLOCK_*`.
    pub flags: u32,
    /// What is to be done: the kernel's `REQ_OP_*`.
    pub op: u16,
    /// `MERGE_*`.
    pub how: u16,
    /// 0.
    pub reserved: u32,
}

/// The submitter is known: `origin_*` mean something.
pub const BLOCK_HAS_ORIGIN: u32 = 1;
/// `charged_cgroup_id` means something.
pub const BLOCK_HAS_CHARGED: u32 = 2;
/// `queued_ns` means something.
pub const BLOCK_HAS_QUEUED: u32 = 4;
/// `issued_ns` means something.
pub const BLOCK_HAS_ISSUED: u32 = 8;
/// The submitter is a thread of the kernel.
pub const BLOCK_KERNEL_THREAD: u32 = 0x10;
/// It is a part of what was submitted.
pub const BLOCK_SPLIT: u32 = 0x20;
/// The device has no requests: this is what was submitted to it, until it was done.
pub const BLOCK_BIO: u32 = 0x40;

/// Somebody waits for it. This and the following have the kernel's own bits (`REQ_*`).
pub const BLOCK_SYNC: u32 = 1 << 11;
/// It is about metadata of a file system.
pub const BLOCK_META: u32 = 1 << 12;
/// It is to go first.
pub const BLOCK_PRIO: u32 = 1 << 13;
/// It is not done before it is on the medium.
pub const BLOCK_FUA: u32 = 1 << 17;
/// What was written before is to be on the medium first.
pub const BLOCK_PREFLUSH: u32 = 1 << 18;
/// Nobody asked for it yet.
pub const BLOCK_READAHEAD: u32 = 1 << 19;
/// Periodic write-back.
pub const BLOCK_BACKGROUND: u32 = 1 << 20;
/// All bits that are the kernel's own.
pub const BLOCK_KERNEL_FLAGS: u32 =
    BLOCK_SYNC | BLOCK_META | BLOCK_PRIO | BLOCK_FUA | BLOCK_PREFLUSH | BLOCK_READAHEAD | BLOCK_BACKGROUND;

/// What [`BlockRequest::bios`] is at most.
pub const BLOCK_MOST_BIOS: u16 = 64;

/// It was put behind a request.
pub const MERGE_BACK: u16 = 0;
/// It was put in front of a request.
pub const MERGE_FRONT: u16 = 1;
/// It was a request itself, and was put behind another one.
pub const MERGE_REQUEST: u16 = 2;
