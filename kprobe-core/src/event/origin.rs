use crate::{
    abi::{CPU_NONE, Header},
    decode::Record,
    event::{Tgid, Tid},
};

/// When, where and by whom a record was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ktime_ns: u64,
    /// Cgroup v2 of the thread.
    pub cgroup_id: u64,
    /// Process that was current; 0 is the idle task.
    pub tgid: Tgid,
    /// Thread that was current.
    pub tid: Tid,
    /// CPU; `None` for a record that user space made.
    pub cpu: Option<u16>,
    /// Low 32 bits of the CPU's record number.
    pub seq: u32,
}

impl Origin {
    /// From a record's header.
    #[inline]
    #[must_use]
    pub fn of(record: &Record<'_>) -> Self {
        record.header().into()
    }
}

impl From<Header> for Origin {
    #[inline]
    fn from(header: Header) -> Self {
        Self {
            ktime_ns: header.ktime_ns,
            cgroup_id: header.cgroup_id,
            tgid: Tgid(header.tgid),
            tid: Tid(header.tid),
            cpu: (header.cpu != CPU_NONE).then_some(header.cpu),
            seq: header.seq,
        }
    }
}
