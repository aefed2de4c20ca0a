//! Sets of pids: a bit for every pid there can be; and those processes whose end was reported.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps::{Array, LruHashMap},
    macros::btf_map,
};
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

/// Whether `id` is in the set.
#[inline(always)]
pub fn has(set: &Bits, id: u32) -> bool {
    let Some(word) = set.get_ptr(id / 64) else { return false };
    // SAFETY: the map gave the pointer to an aligned word that others change only as a whole.
    let bits = unsafe { word.read_volatile() };
    bits >> (id % 64) & 1 != 0
}

/// Adds `id`.
#[inline(always)]
pub fn add(set: &Bits, id: u32) {
    change(set, id, true);
}

/// Takes `id` out.
#[inline(always)]
pub fn remove(set: &Bits, id: u32) {
    change(set, id, false);
}

/// Adding the bit sets it where it is clear, and subtracting it clears it where it is set, whatever happens to the others
/// meanwhile. Only user space may change the same bit at this moment, since a pid is one new thread's: then the sum has gone
/// into other bits, and this one has not become what it should. Adding what is left to the whole turn takes that back.
#[inline(always)]
fn change(set: &Bits, id: u32, to: bool) {
    let Some(word) = set.get_ptr_mut(id / 64) else { return };
    let bit = 1_u64 << (id % 64);
    let step = if to { bit } else { bit.wrapping_neg() };
    if has(set, id) != to {
        atomic::add(word, step);
        if has(set, id) != to {
            atomic::add(word, step.wrapping_neg());
        }
    }
}

/// Processes whose end was reported lately. Two threads that find that none is left do so within moments of each other, so a
/// few are enough; the oldest make room.
#[btf_map]
pub static EXITED: LruHashMap<u32, u32, 1> = LruHashMap::new();

/// The end of a process is to be reported. Returns whether it was already.
#[inline(always)]
pub fn ends(tgid: u32) -> bool {
    const EEXIST: i32 = 17;
    matches!(EXITED.insert(tgid, 0, BPF_NOEXIST.into()), Err(error) if error == -EEXIST)
}

/// A new process has got this id.
#[inline(always)]
pub fn begins(tgid: u32) {
    // That it was not there is fine.
    let _ = EXITED.remove(tgid);
}
