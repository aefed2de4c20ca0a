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
