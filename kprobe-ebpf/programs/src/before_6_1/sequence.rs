//! The numbers of a CPU's records, without an atomic instruction that returns something.

use kprobe_core::abi::{
    CpuState, Kind,
    sequence::{self, Word},
};

use crate::atomic;

/// The words of one CPU.
struct Words(*mut CpuState);

impl Words {
    #[inline(always)]
    fn address(&self, word: Word) -> *mut u64 {
        // SAFETY: callers of `next` pass a map element.
        unsafe {
            match word {
                Word::Next => &raw mut (*self.0).seq,
                Word::Copy => &raw mut (*self.0).seq_copy,
                Word::Seen => &raw mut (*self.0).seq_seen,
            }
        }
    }
}

impl sequence::Words for Words {
    #[inline(always)]
    fn get(&self, word: Word) -> u64 {
        // SAFETY: an aligned word of a map element.
        unsafe { self.address(word).read_volatile() }
    }

    #[inline(always)]
    fn set(&self, word: Word, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.address(word).write_volatile(value) };
    }
}

/// Takes the number of the next record. Programs at tracepoints are not preempted before Linux 7.0, and whatever interrupts
/// one is over before it goes on: that is what [`sequence`] asks for.
#[inline(always)]
pub fn next(cpu: *mut CpuState) -> u64 {
    sequence::next(&Words(cpu))
}

/// Counts a record among those that were submitted, and returns about how many were before. On x86 a full barrier.
#[inline(always)]
pub fn count(_: Kind, submitted: *mut u64) -> u64 {
    atomic::fetch_add(submitted, 1)
}
