use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::MEMORY_FAULT_MAJOR`](super::Kind::MEMORY_FAULT_MAJOR). The header names the thread that faulted, and its
/// time is that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryFaultMajor {
    /// When the kernel began to handle it: nanoseconds of `CLOCK_MONOTONIC`. Present with [`FAULT_HAS_BEGIN`].
    pub begin_ns: u64,
    /// Where it was, rounded down to [`FAULT_PAGE`].
    pub address: u64,
    /// Inode number of the file that is mapped there. Present with [`FAULT_HAS_FILE`].
    pub inode: u64,
    /// Its device, as the kernel encodes it: 12 bits major, 20 bits minor. Likewise.
    pub device: u32,
    /// `FAULT_*`.
    pub flags: u32,
}

/// Body of [`Kind::MEMORY_FAULT_MINOR`](super::Kind::MEMORY_FAULT_MINOR), likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryFaultMinor {
    /// As in [`MemoryFaultMajor`].
    pub begin_ns: u64,
    /// As in [`MemoryFaultMajor`].
    pub address: u64,
    /// It is the one that was kept of so many.
    pub one_in: u32,
    /// `FAULT_*`.
    pub flags: u32,
}

/// Addresses of faults are multiples of this, whatever the page size of the machine.
pub const FAULT_PAGE: u64 = 4096;

/// `begin_ns` is present.
pub const FAULT_HAS_BEGIN: u32 = 1;
/// [`FAULT_WRITE`], [`FAULT_EXEC`] and [`FAULT_USER`] mean something.
pub const FAULT_HAS_ACCESS: u32 = 2;
/// The access was a write.
pub const FAULT_WRITE: u32 = 4;
/// The access was the fetch of an instruction.
pub const FAULT_EXEC: u32 = 8;
/// The program itself made the access, not the kernel for it.
pub const FAULT_USER: u32 = 16;
/// The address is one of another process's memory.
pub const FAULT_REMOTE: u32 = 32;
/// `inode` and `device` are present.
pub const FAULT_HAS_FILE: u32 = 64;

/// Body of [`Kind::MEMORY_RECLAIM`](super::Kind::MEMORY_RECLAIM). The header names the thread that reclaimed, and its time is
/// that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryReclaim {
    /// When it began: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Pages that it freed.
    pub reclaimed_pages: u64,
    /// Cgroup whose limit was met. Present with [`RECLAIM_HAS_CGROUP`].
    pub cgroup_id: u64,
    /// What was asked for: two to the power of this many pages.
    pub order: u32,
    /// How: the kernel's `GFP_*` flags.
    pub gfp: u32,
    /// `RECLAIM_*` scope.
    pub scope: u32,
    /// `RECLAIM_HAS_*`.
    pub flags: u32,
}

/// Scope: the machine, or a node of it, was short of memory.
pub const RECLAIM_GLOBAL: u32 = 0;
/// Scope: a cgroup had come to its limit.
pub const RECLAIM_CGROUP: u32 = 1;
/// `cgroup_id` is present.
pub const RECLAIM_HAS_CGROUP: u32 = 1;

/// Body of [`Kind::MEMORY_COMPACTION`](super::Kind::MEMORY_COMPACTION): one zone. The header names the thread that compacted,
/// and its time is that of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryCompaction {
    /// When it began: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// What is to become free: two to the power of this many pages in a row; negative for as much as can be.
    pub order: i32,
    /// How: the kernel's `GFP_*` flags.
    pub gfp: u32,
    /// `enum compact_result`.
    pub result: u32,
    /// `COMPACTION_*`.
    pub flags: u32,
}

/// It could wait for pages.
pub const COMPACTION_SYNC: u32 = 1;
/// A thread did it for its own allocation.
pub const COMPACTION_DIRECT: u32 = 2;

/// Body of [`Kind::MEMORY_OOM_KILL`](super::Kind::MEMORY_OOM_KILL). The header names the thread whose allocation could not be
/// met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryOomKill {
    /// Start of the process that is killed: nanoseconds of `CLOCK_BOOTTIME`.
    pub victim_start_ns: u64,
    /// Its address space, in bytes. With the next three present with [`OOM_HAS_SIZES`].
    pub total_vm_bytes: u64,
    /// Of that, what is in memory: anonymous.
    pub anon_bytes: u64,
    /// Pages of files.
    pub file_bytes: u64,
    /// Shared memory.
    pub shmem_bytes: u64,
    /// Cgroup whose limit was met. Present with [`OOM_IN_CGROUP`].
    pub cgroup_id: u64,
    /// The process that is killed.
    pub victim_tgid: u32,
    /// A thread of it.
    pub victim_tid: u32,
    /// What was asked for: two to the power of this many pages; negative if somebody asked for the kill itself. With the
    /// next present with [`OOM_HAS_CAUSE`].
    pub order: i32,
    /// How: the kernel's `GFP_*` flags.
    pub gfp: u32,
    /// What was added to its score (`oom_score_adj`), in thousandths.
    pub score_adj: i32,
    /// `OOM_*`.
    pub flags: u32,
}

/// The sizes are present.
pub const OOM_HAS_SIZES: u32 = 1;
/// `order` and `gfp` are present, and [`OOM_IN_CGROUP`] means something.
pub const OOM_HAS_CAUSE: u32 = 2;
/// A cgroup had come to its limit; else the machine was short of memory.
pub const OOM_IN_CGROUP: u32 = 4;
