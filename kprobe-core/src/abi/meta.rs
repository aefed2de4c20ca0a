//! Records that user space adds to a stream, so that a stream explains itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::COMM_LEN;

/// Body of [`Kind::META_LOST`](super::Kind::META_LOST): the kernel could not reserve space for `count` records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Lost {
    /// How many records.
    pub count: u64,
    /// Not earlier than this was the first of them: nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// When the last of them was lost.
    pub last_ns: u64,
    /// [`Kind`](super::Kind) of the lost records.
    pub kind: u16,
    /// CPU they were lost on.
    pub cpu: u16,
    /// None defined.
    pub flags: u32,
}

/// Body of [`Kind::META_MARKER`](super::Kind::META_MARKER).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Marker {
    /// A number of the user's choosing.
    pub id: u64,
}

/// Body of [`Kind::META_SAMPLING`](super::Kind::META_SAMPLING).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sampling {
    /// [`Family`](super::Family) that is sampled.
    pub family: u32,
    /// One of so many records is kept, counted on each CPU and for each kind; 1 keeps all.
    pub one_in: u32,
    /// Shortest duration that is kept, in nanoseconds; 0 keeps all. Only kinds that have a duration are filtered by it.
    pub min_duration_ns: u64,
}

/// Body of [`Kind::META_THREAD`](super::Kind::META_THREAD). The header names the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadSeed {
    /// Start of the process: nanoseconds of `CLOCK_BOOTTIME`, in steps of 10 ms (what `/proc/PID/stat` can tell).
    pub start_ns: u64,
    /// Parent process.
    pub parent_tgid: u32,
    /// None defined.
    pub flags: u32,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// Body of [`Kind::META_CGROUP`](super::Kind::META_CGROUP): the last part of the path of the header's `cgroup_id`, or
/// the container id in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupName {
    /// Bytes of `text` in use.
    pub len: u16,
    /// [`CGROUP_IS_CONTAINER`].
    pub flags: u16,
    /// None defined.
    pub reserved: u32,
    /// The name, cut at 64 bytes.
    pub text: [u8; 64],
}

/// The text is a container id.
pub const CGROUP_IS_CONTAINER: u16 = 1;

/// Body of [`Kind::META_CLOCK`](super::Kind::META_CLOCK): the kernel's clocks, read at one moment. The wall clock was set, or
/// the machine was suspended, after the header's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClockChange {
    /// `CLOCK_MONOTONIC`, in nanoseconds as all of them.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME`.
    pub realtime_ns: u64,
    /// The three were read within so many nanoseconds.
    pub uncertainty_ns: u64,
}
