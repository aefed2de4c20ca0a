//! Which process a thread belongs to, without asking.
//!
//! A program that filters by process needs the process id of the current thread, and the helper that tells it costs more
//! than all the rest of the decision (where returns from functions are slow, many times more). But a system call's
//! registers are saved at the top of the thread's kernel stack, and the address of that place names the thread as long as
//! it lives. So the answer of the helper is remembered by that address; and when a new thread is created, which may have
//! got the stack of a dead one, what is remembered for its stack is forgotten before it runs.

use core::{arch::asm, cell::UnsafeCell};

use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use crate::{
    current::{Current, Who as _},
    frozen::{CACHE_TGIDS, SELECT, masked},
    memory::{Direct, Object},
    task::Task,
};

const SLOTS: usize = 4096;
/// The highest pid there can be has 22 bits.
const TGID_BITS: u32 = 22;
const TGID_MASK: u64 = (1 << TGID_BITS) - 1;
/// Stacks are aligned to their size, which on 64-bit machines is at least 2^14 bytes.
const STACK_SHIFT: u32 = 14;

/// What is remembered, one word each: the stack in the upper 42 bits, the process in the lower 22. Threads whose stacks
/// share a slot take turns; since a word is written as a whole, none can see half of the other's.
///
/// A plain variable and no map with a name: its address is in the program, so finding a slot takes no look-up.
#[repr(transparent)]
pub struct Threads(UnsafeCell<[u64; SLOTS]>);

// SAFETY: the words are read and written only by volatile accesses of a whole word each.
unsafe impl Sync for Threads {}

/// Those of this object.
#[unsafe(no_mangle)]
pub static THREADS: Threads = Threads(UnsafeCell::new([0; SLOTS]));

/// The process of the current thread, whose registers were saved at `regs`.
#[inline(always)]
pub fn current_tgid(regs: Object<Direct>) -> u32 {
    let stack = stack_of(regs);
    let slot = slot(stack);
    // SAFETY: the pointer is to an aligned word that others change only as a whole.
    let known = unsafe { slot.read_volatile() };
    if known != 0 && known & !TGID_MASK == stack {
        return (known & TGID_MASK) as u32;
    }
    let tgid = Current.thread().tgid;
    if CACHE_TGIDS.get() != 0 {
        // SAFETY: likewise.
        unsafe { slot.write_volatile(stack | u64::from(tgid)) };
    }
    tgid
}

/// A new thread has got a stack: what was remembered for it is about a dead one.
#[inline(always)]
pub fn forget(task: Task<Direct>) {
    // SAFETY: the helper takes a task, which the verifier makes sure of.
    let regs = unsafe { bpf_task_pt_regs(task.address().cast_mut().cast()) };
    // SAFETY: as in `current_tgid`.
    unsafe { slot(stack_of(Object::new(regs as *const u8))).write_volatile(0) };
}

#[inline(always)]
fn slot(stack: u64) -> *mut u64 {
    THREADS
        .0
        .get()
        .cast::<u64>()
        .wrapping_add(masked::<SLOTS>((stack >> TGID_BITS ^ stack >> (TGID_BITS + 12)) as usize))
}

/// A number for the stack that the registers are on, in the upper 42 bits.
#[inline(always)]
fn stack_of(regs: Object<Direct>) -> u64 {
    let distance: u64;
    // The verifier lets nobody compute with a pointer to a kernel struct, but it allows to subtract another pointer, and
    // knows nothing of the difference. Which pointer does not matter, as long as it is always the same.
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{0} -= {1}",
            inout(reg) regs.address() => distance,
            in(reg) &raw const SELECT,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    // Registers are saved at the same place of every stack, so these distances differ by multiples of the alignment.
    distance >> STACK_SHIFT << TGID_BITS
}
