use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first 32 bytes of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// When the record was made: nanoseconds of `CLOCK_MONOTONIC` (it stands still while the machine is suspended).
    pub ktime_ns: u64,
    /// Id of the cgroup v2 of the current task (the inode number of its directory).
    pub cgroup_id: u64,
    /// Process that was current: thread group id in the initial pid namespace. 0 is the idle task.
    pub tgid: u32,
    /// Thread that was current, in the initial pid namespace.
    pub tid: u32,
    /// What the record is: a [`Kind`](super::Kind).
    pub kind: u16,
    /// CPU it was made on; [`CPU_NONE`] if user space made it.
    pub cpu: u16,
    /// Low 32 bits of the CPU's record number. A record has its number also if there is no space for it, so a gap is
    /// loss. A user's own kinds are numbered each by itself, all others together.
    pub seq: u32,
}

/// `Header::cpu` of records that user space adds to a stream.
pub const CPU_NONE: u16 = u16::MAX;

/// The longest record, header included. Longer ones are refused by the decoder.
pub const MAX_RECORD: usize = 320;
