//! Memory that the kernel programs and user space share while recording: counters one way, settings the other.
//!
//! All of it is in array maps that user space has mapped, so that neither side needs a system call to look.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{FAMILIES, SLOTS};

/// What happened to the records of one kind on one CPU. Written by the kernel, except `lost_seen`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Records that passed every filter: those in the ring and those lost.
    pub submitted: u64,
    /// Of these, how many the ring had no room for.
    pub lost: u64,
    /// Time of the first loss after `lost` was equal to `lost_seen`: nanoseconds of `CLOCK_MONOTONIC`.
    pub lost_first_ns: u64,
    /// Time of the latest loss.
    pub lost_last_ns: u64,
    /// Losses that user space has put into the stream. Written by user space.
    pub lost_seen: u64,
    /// Records that reached the sampling decision while sampling was on; their number decides which are kept.
    pub considered: u64,
    /// Records that sampling left out; not part of `submitted`.
    pub sampled_out: u64,
}

/// The state of one CPU: one element of the map `CPUS`, one page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuState {
    /// Number of the CPU's next record, all kinds together.
    pub seq: u64,
    /// Returns of `fork` and its kin in the child, which have no entry by nature.
    pub fork_returns: u64,
    /// Hardware interrupts being served now, counted by the fallback for the waker's context.
    pub hardirq_depth: u32,
    /// Softirqs being served now, likewise.
    pub softirq_depth: u32,
    /// Ends whose beginning was not seen, by [`Family`](super::Family): system calls that returned, waits that were over.
    pub unpaired: [u64; FAMILIES],
    /// Beginnings that could not be remembered, by [`Family`](super::Family): the kernel had no memory, or a map no room.
    pub unstored: [u64; FAMILIES],
    /// Events that should have been summed up and found no room for a histogram, by [`Family`](super::Family).
    pub uncounted: [u64; FAMILIES],
    /// Not 0 from when a program has the reader woken until the interrupt comes that does it (`irq_work`).
    pub wakes: u64,
    /// The thread that runs, where the kernel sums up how long threads do; 0 if it was not selected when it got the CPU.
    pub runs_tid: u64,
    /// Since when: nanoseconds of `CLOCK_MONOTONIC`; 0 before the first switch.
    pub runs_since_ns: u64,
    /// Beside `seq`, what [`sequence`](super::sequence) needs on kernels before 6.1.
    pub seq_copy: u64,
    /// Likewise.
    pub seq_seen: u64,
    /// Files of which no path was recorded, because they are not below what the user allowed.
    pub paths_outside: u64,
    /// Files of which none was recorded, because what the user allowed is not among the nearest directories above them.
    pub paths_too_deep: u64,
    /// Room for later counters.
    pub reserved: [u64; 6],
    /// By [`Kind::slot`](super::Kind::slot).
    pub counters: [Counters; SLOTS],
}

/// How the reader of one ring wants to be woken: one element of the map `READERS`.
///
/// The protocol, in which the reader's steps and the program's pair up as in Dekker's algorithm:
///
/// - the program reserves, which advances the ring's producer position, takes the record's number by an atomic
///   read-modify-write that returns the old value (a full barrier), and only then reads `idle`; if it is set it submits with
///   a wake-up;
/// - the reader sets `idle`, issues a full barrier, and only then reads the producer position; if that shows a record,
///   also one not yet submitted, it clears `idle` and does not block.
///
/// So either the program sees `idle` or the reader sees the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReaderState {
    /// 1 while the reader blocks without a time limit: the next record must wake it. Set by the reader, cleared by both.
    pub idle: u32,
    /// The program looks at the ring's fill level each time the number of a record, and'ed with this, is 0.
    pub check_mask: u32,
    /// Unread bytes at which a napping reader is woken early.
    pub wake_bytes: u64,
    /// Records of all kinds for which the ring had no room, counted after [`Counters::lost`]: where it stands still, the
    /// reader need not look through those. Written by the kernel.
    pub lost: u64,
    /// A cache line of its own.
    pub reserved: [u64; 5],
}

/// Settings that may change while programs run: the one element of the map `CONFIG`. Written by user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// Shortest duration that is recorded, by [`Family`](super::Family); 0 records all.
    pub min_duration_ns: [u64; FAMILIES],
    /// One of so many records is kept, by [`Family`](super::Family), counted per CPU and kind; 0 and 1 keep all.
    pub sample_one_in: [u32; FAMILIES],
    /// Depths in the cgroup v2 tree at which the map `CGROUPS` has entries: bit n for depth n, the root being 0.
    pub cgroup_levels: u32,
    /// Not 0 once a process was taken out of the selection: its calls may return unselected.
    pub has_removed: u32,
    /// How often user space has changed the selection of processes.
    pub changes: u32,
    /// Written by programs: so many of the changes they have noticed. What a program remembers of the selection before
    /// these changes it does not go by any more.
    pub noticed: u32,
    /// Not 0 while user space attaches programs, or starts a command whose process selects itself between fork and exec:
    /// programs do not remember that they refused a thread.
    pub unsettled: u32,
    /// Which of the two tables of each CPU the programs count durations in: see [`HistogramSlot`](super::HistogramSlot).
    pub histogram_half: u32,
}

const _: () = assert!(size_of::<CpuState>() == 4096);

/// Highest pid a Linux kernel can be set to use, plus one (`PID_MAX_LIMIT` of 64-bit kernels): the number of bits in
/// the allow-sets `TGIDS` and `TIDS`.
pub const PID_LIMIT: u32 = 1 << 22;

/// Number of 64-bit words in an allow-set.
pub const PID_WORDS: u32 = PID_LIMIT / 64;

/// Which selectors let an event pass; a bit in the frozen global `SELECT`. An event passes if any of them matches.
pub mod select {
    /// Every process.
    pub const ALL: u32 = 1;
    /// Processes in the map `TGIDS`.
    pub const TGIDS: u32 = 2;
    /// Threads in the map `TIDS`.
    pub const TIDS: u32 = 4;
    /// Processes in a cgroup of the map `CGROUPS` or below one.
    pub const CGROUPS: u32 = 8;
}

/// Where the context of a wake-up comes from; the value of the frozen global `CONTEXT_SOURCE`.
pub mod context_source {
    /// Nowhere: the records say [`CONTEXT_ABSENT`](super::super::CONTEXT_ABSENT).
    pub const NONE: u32 = 0;
    /// The kernel's per-CPU preempt count, at [`PREEMPT_COUNT_MARKER`](super::PREEMPT_COUNT_MARKER).
    pub const PREEMPT_COUNT: u32 = 1;
    /// The depths in [`CpuState`](super::CpuState).
    pub const DEPTHS: u32 = 2;
}

/// The constant of those `ld_imm64` instructions that the loader turns into the address of the kernel's per-CPU variable
/// that holds the preempt count.
pub const PREEMPT_COUNT_MARKER: u64 = 0x6b70_726f_6265_5043;
