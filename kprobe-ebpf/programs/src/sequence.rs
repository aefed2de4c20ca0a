//! The numbers of a CPU's records.

use kprobe_core::abi::CpuState;

use crate::atomic;

/// Takes the number of the next record. A full barrier.
#[inline(always)]
pub fn next(cpu: *mut CpuState) -> u64 {
    // SAFETY: callers pass a map element, which lives as long as the program.
    atomic::fetch_add(unsafe { &raw mut (*cpu).seq }, 1)
}
