//! In which context the kernel runs: on behalf of the current task, or in an interrupt that happened to hit it.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_this_cpu_ptr;
use kprobe_core::abi::{
    CONTEXT_ABSENT, CONTEXT_HARDIRQ, CONTEXT_NMI, CONTEXT_SOFTIRQ, CONTEXT_TASK, context_source,
};

use crate::{
    cpu::Cpu,
    frozen::{CONTEXT_SOURCE, masked},
    offsets::OFF_PREEMPT_COUNT,
};

// include/linux/preempt.h. Disabled softirqs count in steps of 0x200; 0x100 is set only while one is served.
const NMI_MASK: u32 = 0x00f0_0000;
const HARDIRQ_MASK: u32 = 0x000f_0000;
const SERVING_SOFTIRQ: u32 = 0x0000_0100;

/// A value for each context, for a map that has one of these for each CPU: what runs in a context of a CPU is not interrupted by
/// anything else in that context.
#[repr(C)]
pub struct Each<T>([T; CONTEXTS]);

/// The contexts, by their numbers, in a table whose length is a power of two.
const CONTEXTS: usize = 8;
const _: () = assert!((CONTEXT_NMI as usize) < CONTEXTS);

impl<T> Each<T> {
    /// That of one of `CONTEXT_*`.
    #[inline(always)]
    pub fn at(all: *mut Self, context: u32) -> *mut T {
        all.cast::<T>().wrapping_add(masked::<CONTEXTS>(context as usize))
    }
}

/// One of `CONTEXT_*`.
#[inline(always)]
pub fn current() -> u32 {
    match CONTEXT_SOURCE.get() {
        context_source::PREEMPT_COUNT => from_preempt_count(),
        context_source::DEPTHS => from_depths(),
        _ => CONTEXT_ABSENT,
    }
}

#[inline(always)]
fn from_preempt_count() -> u32 {
    let count = preempt_count();
    if count & NMI_MASK != 0 {
        CONTEXT_NMI
    } else if count & HARDIRQ_MASK != 0 {
        CONTEXT_HARDIRQ
    } else if count & SERVING_SOFTIRQ != 0 {
        CONTEXT_SOFTIRQ
    } else {
        CONTEXT_TASK
    }
}

#[inline(always)]
fn preempt_count() -> u32 {
    let variable = preempt_count_variable();
    // SAFETY: the loader has made `variable` a per-CPU variable, or the verifier refuses the call.
    let here = unsafe { bpf_this_cpu_ptr(variable) }.cast_const().cast::<u8>();
    // SAFETY: the verifier knows the variable's type and refuses an offset outside of it.
    unsafe { ptr::read_volatile(here.wrapping_add(OFF_PREEMPT_COUNT.get() as usize).cast()) }
}

/// The instruction that the loader turns into the address of the kernel's variable, if it sets `CONTEXT_SOURCE` so.
#[inline(always)]
fn preempt_count_variable() -> *const core::ffi::c_void {
    let variable;
    // SAFETY: loads a 64-bit constant into a register.
    unsafe {
        core::arch::asm!(
            "{variable} = {marker} ll",
            variable = out(reg) variable,
            marker = const kprobe_core::abi::PREEMPT_COUNT_MARKER,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    variable
}

#[inline(always)]
fn from_depths() -> u32 {
    let Some(cpu) = Cpu::current() else { return CONTEXT_ABSENT };
    if depth(cpu, Level::Hardirq).get() != 0 {
        CONTEXT_HARDIRQ
    } else if depth(cpu, Level::Softirq).get() != 0 {
        CONTEXT_SOFTIRQ
    } else {
        CONTEXT_TASK
    }
}

/// Which of the depth counters of [`CpuState`](kprobe_core::abi::CpuState).
#[derive(Clone, Copy)]
pub enum Level {
    /// `hardirq_depth`.
    Hardirq,
    /// `softirq_depth`.
    Softirq,
}

/// An interrupt begins to be served.
#[inline(always)]
pub fn enter(level: Level) {
    if let Some(cpu) = Cpu::current() {
        let depth = depth(cpu, level);
        depth.set(depth.get().wrapping_add(1));
    }
}

/// It was served. Those that had begun before the programs were attached are not counted: the loader attaches the exit
/// programs first.
#[inline(always)]
pub fn exit(level: Level) {
    if let Some(cpu) = Cpu::current() {
        let depth = depth(cpu, level);
        depth.set(depth.get().saturating_sub(1));
    }
}

/// A counter that needs no atomic: what interrupts a change of it has undone its own changes before it returns.
#[derive(Clone, Copy)]
struct Depth(*mut u32);

#[inline(always)]
fn depth(cpu: Cpu, level: Level) -> Depth {
    let state = cpu.state();
    // SAFETY: `state` points to a map element.
    Depth(unsafe {
        match level {
            Level::Hardirq => &raw mut (*state).hardirq_depth,
            Level::Softirq => &raw mut (*state).softirq_depth,
        }
    })
}

impl Depth {
    #[inline(always)]
    fn get(self) -> u32 {
        // SAFETY: an aligned word in a map element.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn set(self, depth: u32) {
        // SAFETY: as in `get`.
        unsafe { self.0.write_volatile(depth) };
    }
}
