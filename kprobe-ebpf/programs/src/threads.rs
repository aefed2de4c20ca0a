//! What was decided about a thread, without asking again.
//!
//! A program that filters by process needs the process id of the current thread and then a look into the set of processes;
//! together they cost more than all the rest of the program's work for a call that nobody wants (where returns from
//! functions are slow, the helper for the id alone costs many times more). But a system call's registers are saved at the
//! top of the thread's kernel stack, and the address of that place names the thread as long as it lives. So the decision
//! is remembered by that address, and holds until
//!
//! - a new thread is created, which may have got the stack of a dead one: what is remembered for its stack is forgotten
//!   before it runs;
//! - user space changes the set of processes: then a new epoch begins, and what was remembered in another is not known.
//!   User space cannot reach the epoch's word, which is to be at an address that the programs know. So it counts its change
//!   in `Config::changes` and makes a system call, and the program which that call runs into begins the epoch.
//!
//! While programs are being attached, and while a command is started whose process selects itself, the set changes without
//! that. Then no refusal is remembered (`Config::unsettled`).

use core::{arch::asm, cell::UnsafeCell};

use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use crate::{
    atomic,
    frozen::SELECT,
    memory::{Direct, Object},
    task::Task,
};

const SLOTS: usize = 4096;
/// The place where registers are saved on a stack, by the last 48 bits of its address less the last 12, is in the lower 36
/// bits of a slot. (Where addresses have more, stacks are still allocated from one end, in a stretch that is shorter.)
/// Stacks are aligned to their size, which on 64-bit machines is at least 2^14 bytes: so the last two bits are the same for
/// all of them.
const STACK_BITS: u32 = 36;
/// In a slot the last bit is the other way round if the thread is selected.
const SELECTED: u64 = 1;

/// What is remembered, one word each: the epoch, the stack, and the decision. Threads whose stacks share a slot take
/// turns; since a word is written as a whole, none can see half of the other's.
///
/// A plain variable and no map with a name: its address is in the program, so finding a slot takes no look-up.
#[repr(transparent)]
pub struct Threads(UnsafeCell<[u64; SLOTS]>);

// SAFETY: the words are read and written only by volatile accesses of a whole word each.
unsafe impl Sync for Threads {}

/// Those of this object.
#[unsafe(no_mangle)]
pub static THREADS: Threads = Threads(UnsafeCell::new([0; SLOTS]));

/// How often user space has changed the set of processes, in the upper 28 bits. When they have all been used it begins
/// anew: a thread that makes no call during 2^28 changes may be taken for what it was.
#[repr(transparent)]
pub struct Epoch(UnsafeCell<u64>);

// SAFETY: it is read by volatile accesses and changed by atomic ones of the whole word.
unsafe impl Sync for Epoch {}

/// That of this object.
#[unsafe(no_mangle)]
pub static EPOCH: Epoch = Epoch(UnsafeCell::new(1 << STACK_BITS));

/// Begins an epoch. What was decided before will not be recalled.
#[inline(always)]
pub fn begin_epoch() {
    atomic::fetch_add(EPOCH.0.get(), 1 << STACK_BITS);
}

/// Where the decision about the current thread is remembered.
#[derive(Clone, Copy)]
pub struct Place {
    slot: *mut u64,
    /// The slot's word if the decision is that the thread is not selected.
    refused: u64,
}

impl Place {
    /// That of the current thread, whose registers were saved at `regs`.
    #[inline(always)]
    pub fn of(regs: Object<Direct>) -> Option<Self> {
        let stack = stack_of(regs);
        // SAFETY: the pointer is to an aligned word that others change only as a whole.
        let epoch = unsafe { EPOCH.0.get().read_volatile() };
        Some(Self { slot: slot(stack), refused: stack | epoch })
    }

    /// What was decided in this epoch.
    #[inline(always)]
    pub fn recall(self) -> Option<bool> {
        // SAFETY: the pointer is to an aligned word that others change only as a whole.
        let word = unsafe { self.slot.read_volatile() };
        if word == self.refused {
            return Some(false);
        }
        (word == self.refused ^ SELECTED).then_some(true)
    }

    /// To be called before a decision is made: what is read afterwards is no older than the epoch.
    #[inline(always)]
    pub fn begin(self) {
        atomic::fetch_or(self.slot, 0);
    }

    /// Remembers a decision that was begun.
    #[inline(always)]
    pub fn remember(self, is_selected: bool) {
        let word = if is_selected { self.refused ^ SELECTED } else { self.refused };
        // SAFETY: as in `recall`.
        unsafe { self.slot.write_volatile(word) };
    }
}

/// A new thread has got a stack: what was remembered for it is about a dead one.
#[inline(always)]
pub fn forget(task: Task<Direct>) {
    // SAFETY: the helper takes a task, which the verifier makes sure of.
    let regs = unsafe { bpf_task_pt_regs(task.address().cast_mut().cast()) };
    // SAFETY: as in `recall`.
    unsafe { slot(stack_of(Object::new(regs as *const u8))).write_volatile(0) };
}

#[inline(always)]
fn slot(stack: u64) -> *mut u64 {
    // Stacks lie further apart than their size, so that a bit may be the same for all: the upper ones make up for it.
    let mut at = stack ^ stack >> 12;
    // Written out here and below, because the compiler would make masks of 64 bits of the shifts, which cost more. The
    // last is for the verifier.
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{0} <<= 1",
            "{0} &= {mask}",
            inout(reg) at,
            mask = const (SLOTS - 1) * size_of::<u64>(),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    THREADS.0.get().cast::<u8>().wrapping_add(at as usize).cast()
}

/// The place of the registers, as a slot has it.
#[inline(always)]
fn stack_of(regs: Object<Direct>) -> u64 {
    let stack: u64;
    // The verifier lets nobody compute with a pointer to a kernel struct, but it allows to subtract another pointer, and
    // knows nothing of the difference. Which pointer does not matter, as long as it is always the same: registers are
    // saved at the same place of every stack, so these distances differ by multiples of the alignment.
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!(
            "{0} -= {1}",
            "{0} <<= 16",
            "{0} >>= {unused}",
            inout(reg) regs.address() => stack,
            in(reg) &raw const SELECT,
            unused = const 64 - STACK_BITS,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    stack
}
