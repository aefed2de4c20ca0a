//! Durations that are summed up in the kernel instead of giving a record each.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Kind;

/// Classes of a histogram: class 0 is a duration of 0, class n holds those from 2^(n-1) to 2^n - 1 nanoseconds, the last
/// one all above.
pub const HISTOGRAM_CLASSES: usize = 48;

/// By what durations are told apart; the value of a family in the frozen global `AGGREGATE`.
pub mod aggregate_by {
    /// One histogram for each kind of event.
    pub const KIND: u8 = 0;
    /// One for each process.
    pub const TGID: u8 = 1;
    /// One for each cgroup.
    pub const CGROUP: u8 = 2;
    /// One for each thing that events are about: the system call, the device, the lock.
    pub const SUBJECT: u8 = 3;
    /// Not at all: each event gives a record.
    pub const NOTHING: u8 = u8::MAX;
}

impl Kind {
    /// Whether events of this kind can be summed up in the kernel: they have a duration.
    #[must_use]
    pub const fn can_be_summed_up(self) -> bool {
        matches!(
            self,
            Self::SYSCALL
                | Self::SCHED_SWITCH
                | Self::SCHED_WAKING
                | Self::LOCK_CONTENTION
                | Self::LOCK_FUTEX
                | Self::BLOCK_REQUEST
                | Self::MEMORY_FAULT_MAJOR
                | Self::MEMORY_RECLAIM
                | Self::MEMORY_COMPACTION
                | Self::WAIT_BLOCKED
                | Self::WAIT_THROTTLE
        )
    }

    /// Whether events of this kind that are summed up can be told apart by [`aggregate_by::SUBJECT`].
    #[must_use]
    pub const fn has_subject(self) -> bool {
        matches!(
            self,
            Self::SYSCALL
                | Self::LOCK_CONTENTION
                | Self::LOCK_FUTEX
                | Self::BLOCK_REQUEST
                | Self::WAIT_BLOCKED
        )
    }
}

/// An element of the map `HISTOGRAMS`: what one CPU counts under one key.
///
/// Each CPU has two tables of `HISTOGRAM_SLOTS` elements, of which the programs use the one that
/// [`Config::histogram_half`](super::Config::histogram_half) names. A key is in one of the [`HISTOGRAM_PROBES`] elements
/// from its hash on, or, if two programs on the same CPU were as early, in two of them. User space reads a table and empties it while
/// the programs use the other one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HistogramSlot {
    /// [`Kind`] of the events; 0: free; [`HISTOGRAM_CLAIMED`]: a program is about to fill in the key.
    pub kind: u64,
    /// Process, cgroup or subject, by [`aggregate_by`]; else 0.
    pub key: u64,
    /// Sum of the durations, in nanoseconds.
    pub sum: u64,
    /// Events by class of their duration.
    pub counts: [u64; HISTOGRAM_CLASSES],
}

/// See [`HistogramSlot::kind`].
pub const HISTOGRAM_CLAIMED: u64 = u64::MAX;

/// At so many elements of the table a program looks for its key.
pub const HISTOGRAM_PROBES: u32 = 32;

/// Body of [`Kind::META_HISTOGRAM`]: what was counted under one key in one interval, which ends
/// at the time of the record. Sums of several records about the same key and interval add up.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Histogram {
    /// See [`HistogramSlot::key`]. A process and a cgroup are in the header, too.
    pub key: u64,
    /// Begin of the interval: nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// Sum of the durations, in nanoseconds.
    pub sum: u64,
    /// [`Kind`] of the events.
    pub kind: u16,
    /// One of [`aggregate_by`], not [`NOTHING`](aggregate_by::NOTHING).
    pub by: u16,
    /// None defined.
    pub flags: u32,
    /// Events by class of their duration.
    pub counts: [u32; HISTOGRAM_CLASSES],
}
