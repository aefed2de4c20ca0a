//! The state of the CPU that a program runs on: numbers and counters.
//!
//! A program can be interrupted, and preempted by another one on the same CPU (the kernel only forbids that it moves to
//! another CPU), so every change is atomic although no other CPU takes part.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, btf_maps::Array, helpers::generated::bpf_get_smp_processor_id, macros::btf_map,
};
use kprobe_core::abi::{Counters, CpuState, FAMILIES, Family};

use crate::{atomic, frozen::masked, sequence};

/// One page for each possible CPU.
#[btf_map]
pub static CPUS: Array<CpuState, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The CPU that runs the program.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    state: *mut CpuState,
}

impl Cpu {
    /// `None` if the loader made the map too small, which it does not.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        let number = number();
        Some(Self { number, state: CPUS.get_ptr_mut(number)? })
    }

    /// The state in the map, for the few members that are not counters.
    #[inline(always)]
    pub fn state(self) -> *mut CpuState {
        self.state
    }

    /// The reader is about to be woken, by an interrupt on this CPU.
    #[inline(always)]
    pub fn wakes_reader(self) {
        // SAFETY: an aligned word in a map element.
        unsafe { (&raw mut (*self.state).wakes).write_volatile(1) };
    }

    /// Whether the interrupt has come that wakes the reader.
    #[inline(always)]
    pub fn takes_wake(self) -> bool {
        // SAFETY: an aligned word in a map element, which nothing else on this CPU takes.
        unsafe {
            let wakes = &raw mut (*self.state).wakes;
            let is_own = wakes.read_volatile() != 0;
            wakes.write_volatile(0);
            is_own
        }
    }

    /// Takes the number of the next record.
    #[inline(always)]
    pub fn next_seq(self) -> u64 {
        sequence::next(self.state)
    }

    /// The counters of a kind.
    #[inline(always)]
    pub fn counters(self, slot: usize) -> *mut Counters {
        // SAFETY: `state` points to a map element, which lives as long as the program; the index is checked.
        unsafe { &raw mut (*self.state).counters[slot] }
    }
}

/// Number of the CPU that runs the program.
#[inline(always)]
pub fn number() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// Counts something that happened on this CPU.
#[inline(always)]
pub fn count(counter: impl FnOnce(*mut CpuState) -> *mut u64) {
    if let Some(cpu) = Cpu::current() {
        atomic::add(counter(cpu.state), 1);
    }
}

/// The element of a family. Not by an index, for which the compiler may put a check into the program that calls what never
/// returns: whether it does depends on what other families there are.
#[inline(always)]
fn of_family(table: *mut [u64; FAMILIES], family: Family) -> *mut u64 {
    table.cast::<u64>().wrapping_add(masked::<FAMILIES>(family as usize))
}

/// Counts an end whose beginning was not seen.
#[inline(always)]
pub fn count_unpaired(family: Family) {
    // SAFETY: the pointer is to a map element.
    count(|cpu| of_family(unsafe { &raw mut (*cpu).unpaired }, family));
}

/// Counts a beginning that could not be remembered.
#[inline(always)]
pub fn count_unstored(family: Family) {
    // SAFETY: the pointer is to a map element.
    count(|cpu| of_family(unsafe { &raw mut (*cpu).unstored }, family));
}

/// Counts an event that found no room for a histogram.
#[inline(always)]
pub fn count_uncounted(family: Family) {
    // SAFETY: the pointer is to a map element.
    count(|cpu| of_family(unsafe { &raw mut (*cpu).uncounted }, family));
}
