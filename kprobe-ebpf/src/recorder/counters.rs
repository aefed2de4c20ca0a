use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use kprobe_core::{
    abi::{Counters, CpuState, Family, Kind},
    pipeline::ProbeRow,
};

use crate::{AttachError, shared::SharedArray};

/// The map `CPUS`: what the programs counted, read without a system call.
#[derive(Debug)]
pub(crate) struct CpuStates {
    memory: SharedArray<CpuState>,
    /// Kinds that may be counted there.
    kinds: Vec<Kind>,
}

/// Losses of one kind on one CPU since they were last looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Losses {
    pub(crate) kind: Kind,
    pub(crate) cpu: u16,
    pub(crate) count: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// Counts that concern what is made of a beginning and an end, on all CPUs: waits, requests, calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PairCounts {
    /// Ends whose beginning was not seen: it was before recording began.
    pub unpaired: u64,
    /// Beginnings that could not be remembered, for want of memory or of room in a map.
    pub unstored: u64,
    /// Events that should have been summed up and found no room for a histogram: see
    /// [`RecorderBuilder::aggregate_keys`](crate::RecorderBuilder::aggregate_keys).
    pub uncounted: u64,
}

/// Files of what was selected that have no record of their path, on all CPUs: see [`Paths`](crate::Paths).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PathCounts {
    /// They are not below what was allowed.
    pub outside: u64,
    /// They are below more directories than are looked at (64), none of which was allowed.
    pub too_deep: u64,
    /// There was no memory to put the path together.
    pub unstored: u64,
}

/// Counts that concern system calls on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SyscallCounts {
    /// Calls that returned without an entry that was seen: they were entered before recording began.
    pub unpaired_exits: u64,
    /// Returns of `fork` and its kin in the child, which have no entry by nature.
    pub fork_returns: u64,
    /// Entries that could not be remembered for want of memory in the kernel.
    pub unstored_enters: u64,
}

impl CpuStates {
    pub(crate) fn map(map: &MapData, kinds: Vec<Kind>) -> Result<Self, AttachError> {
        Ok(Self { memory: SharedArray::map(map)?, kinds })
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Number of the next record of a CPU.
    pub(crate) fn next_seq(&self, cpu: usize) -> u64 {
        self.memory.u64_at(cpu, offset_of!(CpuState, seq)).load(Ordering::Relaxed)
    }

    pub(crate) fn syscall_counts(&self) -> SyscallCounts {
        let pairs = self.pair_counts(Family::Syscall);
        SyscallCounts {
            unpaired_exits: pairs.unpaired,
            fork_returns: self.sum(offset_of!(CpuState, fork_returns)),
            unstored_enters: pairs.unstored,
        }
    }

    pub(crate) fn pair_counts(&self, family: Family) -> PairCounts {
        let at = family as usize * size_of::<u64>();
        PairCounts {
            unpaired: self.sum(offset_of!(CpuState, unpaired) + at),
            unstored: self.sum(offset_of!(CpuState, unstored) + at),
            uncounted: self.sum(offset_of!(CpuState, uncounted) + at),
        }
    }

    pub(crate) fn path_counts(&self) -> PathCounts {
        PathCounts {
            outside: self.sum(offset_of!(CpuState, paths_outside)),
            too_deep: self.sum(offset_of!(CpuState, paths_too_deep)),
            unstored: self.pair_counts(Family::Path).unstored,
        }
    }

    /// Of a word on all CPUs.
    fn sum(&self, offset: usize) -> u64 {
        (0..self.memory.len()).map(|cpu| self.memory.u64_at(cpu, offset).load(Ordering::Relaxed)).sum()
    }

    /// One row for each kind and CPU that was counted.
    pub(crate) fn rows(&self) -> Vec<ProbeRow> {
        let mut rows = Vec::new();
        for (kind, cpu) in self.each() {
            // The programs count `submitted` before `lost`, and user space reads them in the opposite order: a record being
            // counted right now is submitted at least, never lost out of nothing.
            let lost = self.counter(kind, cpu, offset_of!(Counters, lost)).load(Ordering::Acquire);
            let submitted = self.counter(kind, cpu, offset_of!(Counters, submitted)).load(Ordering::Acquire);
            let sampled_out =
                self.counter(kind, cpu, offset_of!(Counters, sampled_out)).load(Ordering::Relaxed);
            if submitted + sampled_out > 0 {
                rows.push(ProbeRow {
                    probe: kind.name().map_or_else(|| format!("kind-{:#06x}", kind.0), str::to_owned),
                    cpu: Some(cpu_number(cpu)),
                    submitted,
                    lost,
                    sampled_out,
                });
            }
        }
        rows
    }

    /// Events of a kind that passed the filter, whether or not sampling left them out.
    pub(crate) fn considered(&self, kind: Kind) -> u64 {
        let members = [offset_of!(Counters, submitted), offset_of!(Counters, sampled_out)];
        let of = |cpu| members.map(|member| self.counter(kind, cpu, member).load(Ordering::Relaxed));
        (0..self.memory.len()).flat_map(of).sum()
    }

    /// Gives every loss since the last call to `report`, once.
    pub(crate) fn take_losses(&self, mut report: impl FnMut(Losses)) {
        for (kind, cpu) in self.each() {
            let lost = self.counter(kind, cpu, offset_of!(Counters, lost)).load(Ordering::Acquire);
            let seen = self.counter(kind, cpu, offset_of!(Counters, lost_seen));
            let before = seen.load(Ordering::Relaxed);
            if lost == before {
                continue;
            }
            let first_ns =
                self.counter(kind, cpu, offset_of!(Counters, lost_first_ns)).load(Ordering::Relaxed);
            let last_ns = self.counter(kind, cpu, offset_of!(Counters, lost_last_ns)).load(Ordering::Relaxed);
            seen.store(lost, Ordering::Release);
            report(Losses {
                kind,
                cpu: cpu_number(cpu),
                count: lost - before,
                first_ns: first_ns.min(last_ns),
                last_ns,
            });
        }
    }

    fn each(&self) -> impl Iterator<Item = (Kind, usize)> {
        self.kinds.iter().flat_map(|kind| (0..self.memory.len()).map(|cpu| (*kind, cpu)))
    }

    fn counter(&self, kind: Kind, cpu: usize, field: usize) -> &AtomicU64 {
        let slot = kind.slot().unwrap_or_default();
        self.memory.u64_at(cpu, offset_of!(CpuState, counters) + slot * size_of::<Counters>() + field)
    }
}

fn cpu_number(cpu: usize) -> u16 {
    u16::try_from(cpu).unwrap_or(u16::MAX)
}
