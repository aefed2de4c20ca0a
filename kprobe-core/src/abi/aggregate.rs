//! Durations that are summed up in the kernel instead of giving a record each.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
    /// One for each thing that events are about: the system call, the device, the interrupt's vector.
    pub const SUBJECT: u8 = 3;
    /// Not at all: each event gives a record.
    pub const NOTHING: u8 = u8::MAX;
}

/// Key of the map of histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HistogramKey {
    /// Process, cgroup or subject, by [`aggregate_by`]; else 0.
    pub key: u64,
    /// [`Kind`](super::Kind) of the events.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}

/// What the kernel counts on each CPU under one key.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HistogramCounts {
    /// Sum of the durations, in nanoseconds.
    pub sum: u64,
    /// Events by class of their duration.
    pub counts: [u64; HISTOGRAM_CLASSES],
}

/// Body of [`Kind::META_HISTOGRAM`](super::Kind::META_HISTOGRAM): what was counted under one key in one interval, which ends
/// at the time of the record. Sums of several records about the same key and interval add up.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Histogram {
    /// See [`HistogramKey`]. A process and a cgroup are in the header, too.
    pub key: u64,
    /// Begin of the interval: nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// Sum of the durations, in nanoseconds.
    pub sum: u64,
    /// [`Kind`](super::Kind) of the events.
    pub kind: u16,
    /// One of [`aggregate_by`], not [`NOTHING`](aggregate_by::NOTHING).
    pub by: u16,
    /// None defined.
    pub flags: u32,
    /// Events by class of their duration.
    pub counts: [u32; HISTOGRAM_CLASSES],
}
