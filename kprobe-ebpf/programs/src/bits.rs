//! Sets of pids: a bit for every pid there can be.
//!
//! A look-up is a bounds check and a load, which the kernel compiles into the program: no call, no hash. This is what makes
//! an event that nobody wants nearly free. The loader gives a set that is not used a single word.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use kprobe_core::abi::PID_WORDS;

use crate::atomic;

/// One set.
pub type Bits = Array<u64, { PID_WORDS as usize }, { BPF_F_MMAPABLE as usize }>;

/// Processes that are recorded. Written by user space and, for the children of its members, by [`follow`](crate::follow).
#[btf_map]
pub static TGIDS: Bits = Bits::new();

/// Threads that are recorded. Written by user space; a thread that is created is not a member.
#[btf_map]
pub static TIDS: Bits = Bits::new();

/// Processes whose end was reported.
#[btf_map]
pub static EXITED: Bits = Bits::new();

/// Whether `id` is in the set.
#[inline(always)]
pub fn has(set: &Bits, id: u32) -> bool {
    let Some(word) = set.get_ptr(id / 64) else { return false };
    // SAFETY: the map gave the pointer to an aligned word that others change only as a whole.
    let bits = unsafe { word.read_volatile() };
    bits >> (id % 64) & 1 != 0
}

/// Adds `id`. Returns whether it was there; `false` where no such set is kept.
#[inline(always)]
pub fn add(set: &Bits, id: u32) -> bool {
    let bit = 1 << (id % 64);
    set.get_ptr_mut(id / 64).is_some_and(|word| atomic::fetch_or(word, bit) & bit != 0)
}

/// Takes `id` out.
#[inline(always)]
pub fn remove(set: &Bits, id: u32) {
    // The common case, that it is not there, leaves the cache line as it is.
    if has(set, id)
        && let Some(word) = set.get_ptr_mut(id / 64)
    {
        atomic::and(word, !(1 << (id % 64)));
    }
}

/// The end of a process is to be reported. Returns whether it was already.
#[inline(always)]
pub fn ends(tgid: u32) -> bool {
    add(&EXITED, tgid)
}

/// A new process has got this id.
#[inline(always)]
pub fn begins(tgid: u32) {
    remove(&EXITED, tgid);
}
