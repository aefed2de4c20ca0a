//! The numbers of a CPU's records.

use kprobe_core::abi::{CpuState, Kind};

use crate::{atomic, emit::is_users};

/// Counts a record among those that were submitted, and returns how many were before: of a user's kind, which is numbered so;
/// else whatever.
#[inline(always)]
pub fn count(kind: Kind, submitted: *mut u64) -> u64 {
    if is_users(kind) {
        return atomic::fetch_add(submitted, 1);
    }
    if kind.0 == Kind::SCHED_WAKING.0 {
        // Whoever wakes itself may be interrupted by what wakes another.
        atomic::add(submitted, 1);
    } else {
        atomic::count(kind, submitted, 1);
    }
    0
}

/// Takes the number of the next record. A full barrier.
#[inline(always)]
pub fn next(cpu: *mut CpuState) -> u64 {
    // SAFETY: callers pass a map element, which lives as long as the program.
    atomic::fetch_add(unsafe { &raw mut (*cpu).seq }, 1)
}
