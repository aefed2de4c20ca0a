//! Atomic changes of words in maps.
//!
//! Written as instructions because `core` has none of them for this target (it knows only the first BPF machines, which
//! had no compare-and-swap), and because it matters which they are: those that return the old value are full barriers,
//! those that do not are no barrier at all (Linux 5.12, `Documentation/bpf/standardization/instruction-set.rst`).

use core::arch::asm;

use kprobe_core::abi::{Family, HISTOGRAM_CLAIMED, Kind};

use crate::frozen::PREEMPTIBLE;

/// Adds to a word and returns what it was. A full barrier.
#[inline(always)]
pub fn fetch_add(word: *mut u64, add: u64) -> u64 {
    let old;
    // SAFETY: callers pass an aligned word of a map element; for anything else the verifier refuses the program.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) add => old,
            options(nostack),
        );
    }
    old
}

/// Adds to a word. No barrier.
#[inline(always)]
pub fn add(word: *mut u64, add: u64) {
    // SAFETY: as in `fetch_add`.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) add,
            options(nostack),
        );
    }
}

/// Adds to a counter of this CPU's that only programs for events of this kind change.
#[inline(always)]
pub fn count(kind: Kind, word: *mut u64, value: u64) {
    match kind {
        // SAFETY: each is made at the entry or at the return of a thread's call. No interrupt makes one, and no other thread runs
        // on the CPU before the program ends, where programs are not preempted. User space only reads the word.
        Kind::SYSCALL | Kind::LOCK_FUTEX if PREEMPTIBLE.get() == 0 => unsafe { add_alone(word, value) },
        // SAFETY: each comes from one program, and one that is running is not started again on its CPU. Sums are of the program
        // at a switch, with interrupts off.
        Kind::SCHED_SWITCH | Kind::SCHED_WAKING => unsafe { add_alone(word, value) },
        _ => add(word, value),
    }
}

/// Adds to a word, in two steps.
///
/// # Safety
///
/// The word is an aligned one of a map element, and nobody else changes it in between.
#[inline(always)]
unsafe fn add_alone(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    let before = unsafe { word.read_volatile() };
    // SAFETY: likewise: what was read is still there.
    unsafe { word.write_volatile(before.wrapping_add(value)) };
}

/// Sets bits of a word and returns what it was. A full barrier.
#[inline(always)]
pub fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    let old;
    // SAFETY: as in `fetch_add`.
    unsafe {
        asm!(
            "{value} = atomic_fetch_or((u64 *)({word} + 0), {value})",
            word = in(reg) word,
            value = inout(reg) bits => old,
            options(nostack),
        );
    }
    old
}

/// Keeps only these bits of a word. No barrier.
#[inline(always)]
pub fn and(word: *mut u64, bits: u64) {
    // SAFETY: as in `fetch_add`.
    unsafe {
        asm!(
            "lock *(u64 *)({word} + 0) &= {value}",
            word = in(reg) word,
            value = in(reg) bits,
            options(nostack),
        );
    }
}

/// Puts a value into a 32-bit word and returns what it was. A full barrier.
#[inline(always)]
pub fn exchange(word: *mut u32, new: u32) -> u32 {
    let old: u64;
    // The register is named because the compiler gives out the 32-bit halves only on request for the whole target.
    // SAFETY: as in `fetch_add`.
    unsafe {
        asm!(
            "w0 = xchg32_32({word} + 0, w0)",
            word = in(reg) word,
            inout("r0") u64::from(new) => old,
            options(nostack),
        );
    }
    old as u32
}

/// Reads a word. A full barrier.
#[inline(always)]
pub fn read(word: *mut u64) -> u64 {
    fetch_or(word, 0)
}

/// Adds to a word and returns what it was, which nobody else is told. The rest, by which older kernels know the word and
/// count what goes wrong, is not needed.
#[inline(always)]
pub fn take(word: *mut u64, add: u64, _of: u64, _family: Family) -> Option<u64> {
    Some(fetch_add(word, add))
}

/// Puts a mark into a word if it is 0, and returns whether it did. Only programs on one CPU change the word.
#[inline(always)]
pub fn claim(word: *mut u64) -> bool {
    compare_exchange(word, 0, HISTOGRAM_CLAIMED) == 0
}

/// Puts a value into a word if it holds another one, and returns what it held. A full barrier.
#[inline(always)]
pub fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64 {
    let old;
    // SAFETY: as in `fetch_add`. The instruction takes the expected value, and gives the old one, in this register.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") current => old,
            options(nostack),
        );
    }
    old
}
