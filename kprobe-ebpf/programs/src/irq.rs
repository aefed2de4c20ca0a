//! Irq family: how long interrupts take, each and in all.
//!
//! An interrupt is served on the CPU that it hits, from its beginning to its end: so what is remembered of the beginning is
//! kept by CPU. A softirq is interrupted by hardware interrupts, these by nothing that is counted here.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use kprobe_core::abi::{
    Family, IRQ_DEVICE_SUMS, IRQ_SOFT_SUMS, IRQ_VECTOR, IRQ_VECTOR_SUMS, IrqCpu, IrqHard, IrqSoft, IrqSum,
    select,
};

use crate::{
    args::Args,
    cpu::{self, Cpu},
    current::{CurrentTask, Who as _},
    emit::{emit, min_duration_ns, now},
    filter,
    frozen::{SELECT, masked},
    memory::Memory,
};

/// Two pages for each possible CPU.
#[btf_map]
pub static IRQS: Array<IrqCpu, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A word of the CPU's element. No atomics: what interrupts a change of one is over before the change goes on, and changes
/// others, but for `nested_ns`, which only grows meanwhile where nobody looks.
#[derive(Clone, Copy)]
struct Word(*mut u64);

impl Word {
    #[inline(always)]
    fn get(self) -> u64 {
        // SAFETY: an aligned word in a map element.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn set(self, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.0.write_volatile(value) };
    }

    #[inline(always)]
    fn add(self, value: u64) {
        self.set(self.get().wrapping_add(value));
    }
}

#[inline(always)]
fn here() -> Option<*mut IrqCpu> {
    IRQS.get_ptr_mut(cpu::number())
}

macro_rules! word {
    ($cpu:expr, $member:ident) => {
        // SAFETY: the pointer is to a map element.
        Word(unsafe { &raw mut (*$cpu).$member })
    };
}

#[inline(always)]
fn count(sum: *mut IrqSum, total_ns: u64) {
    word!(sum, count).add(1);
    word!(sum, total_ns).add(total_ns);
}

/// A hardware interrupt begins to be served.
#[inline(always)]
pub fn hard_began(_: Args) {
    if let Some(cpu) = here() {
        word!(cpu, hard_begin_ns).set(now());
    }
}

/// `irq_work_entry(vector)`: by which the kernel also wakes whoever reads the records. A record of that would have to wake
/// the reader again, and so on for ever.
#[inline(always)]
pub fn work_began(_: Args) {
    if let (Some(irqs), Some(cpu)) = (here(), Cpu::current()) {
        word!(irqs, is_own).set(cpu.takes_wake().into());
        word!(irqs, hard_begin_ns).set(now());
    }
}

/// `irq_handler_exit(irq, action, ret)`: that of a device was served.
#[inline(always)]
pub fn device_ended<M: Memory>(args: Args) {
    let number = args.word(0) as u32;
    let index = if (number as usize) < IRQ_DEVICE_SUMS { number as usize } else { IRQ_DEVICE_SUMS - 1 };
    hard_ended::<M>(number, 0, |cpu| {
        // The mask is for the verifier.
        let index = masked::<{ IRQ_DEVICE_SUMS.next_power_of_two() }>(index);
        if index >= IRQ_DEVICE_SUMS {
            return None;
        }
        // SAFETY: the index is within the table.
        Some(unsafe { (&raw mut (*cpu).device).cast::<IrqSum>().add(index) })
    });
}

/// `local_timer_exit(vector)` and its kin: one of the CPU's own was served.
#[inline(always)]
pub fn vector_ended<M: Memory>(args: Args) {
    let number = args.word(0) as u32;
    hard_ended::<M>(number, IRQ_VECTOR, |cpu| {
        let index = masked::<IRQ_VECTOR_SUMS>(number as usize);
        // SAFETY: the index is within the table.
        Some(unsafe { (&raw mut (*cpu).vector).cast::<IrqSum>().add(index) })
    });
}

#[inline(always)]
fn hard_ended<M: Memory>(number: u32, flags: u32, sum: impl FnOnce(*mut IrqCpu) -> Option<*mut IrqSum>) {
    let Some(cpu) = here() else { return };
    let begin = word!(cpu, hard_begin_ns);
    let (begin_ns, now) = (begin.get(), now());
    if begin_ns == 0 {
        cpu::count_unpaired(Family::Irq);
        return;
    }
    begin.set(0);
    let is_own = word!(cpu, is_own);
    let wakes_reader = is_own.get() != 0;
    is_own.set(0);
    let duration = now.wrapping_sub(begin_ns);
    if let Some(sum) = sum(cpu) {
        count(sum, duration);
    }
    if word!(cpu, soft_begin_ns).get() != 0 {
        word!(cpu, nested_ns).add(duration);
    }
    if !wakes_reader && let Some(who) = recorded::<M>(duration) {
        emit(who, now, || IrqHard { begin_ns, number, flags });
    }
}

/// `softirq_entry(vector)`
#[inline(always)]
pub fn soft_began(_: Args) {
    if let Some(cpu) = here() {
        word!(cpu, nested_ns).set(0);
        word!(cpu, soft_begin_ns).set(now());
    }
}

/// `softirq_exit(vector)`
#[inline(always)]
pub fn soft_ended<M: Memory>(args: Args) {
    let Some(cpu) = here() else { return };
    let begin = word!(cpu, soft_begin_ns);
    let begin_ns = begin.get();
    if begin_ns == 0 {
        cpu::count_unpaired(Family::Irq);
        return;
    }
    // From here on no hardware interrupt adds to what is nested. The clock is read after that: one that is counted lies
    // within the interval.
    begin.set(0);
    let nested_ns = word!(cpu, nested_ns).get();
    let now = now();
    let vector = args.word(0) as u32;
    let duration = now.wrapping_sub(begin_ns);
    let index = masked::<IRQ_SOFT_SUMS>(vector as usize);
    // SAFETY: the index is within the table.
    let sum = unsafe { (&raw mut (*cpu).soft).cast::<IrqSum>().add(index) };
    count(sum, duration.saturating_sub(nested_ns));
    if let Some(who) = recorded::<M>(duration) {
        emit(who, now, || IrqSoft { begin_ns, nested_ns, vector, reserved: 0 });
    }
}

/// The thread that was interrupted, if an interrupt of this duration is recorded. An interrupt belongs to nobody: if all is
/// recorded, so are those that hit the idle task.
#[inline(always)]
fn recorded<M: Memory>(duration: u64) -> Option<CurrentTask<M>> {
    if duration < min_duration_ns(Family::Irq) {
        return None;
    }
    let who = CurrentTask::<M>::find();
    let thread = who.thread();
    let is_idle = thread.tgid == 0 && SELECT.get() & select::ALL != 0;
    (is_idle || filter::selects_current(thread)).then_some(who)
}
