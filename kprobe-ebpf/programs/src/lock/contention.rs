//! Locks of the kernel that were not free.
//!
//! The programs may run anywhere: in interrupts, and where the kernel holds any other lock. So they allocate nothing where
//! it spins, take no lock themselves but the ring's, and not that if it is the one that was waited for.

use aya_ebpf::{EbpfContext, btf_maps::PerCpuArray, macros::btf_map};
use kprobe_core::abi::{CONTENTION_MUTEX, CONTENTION_SPIN, Family, LockContention};

use crate::{
    args::Args,
    context, cpu,
    current::{CurrentTask, Thread, Who as _},
    emit::{emit, is_own_ring, min_duration_ns, now},
    filter,
    frozen::LOCK_SECRET,
    memory::{Direct, Object, Probed},
    offsets::{
        OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_FLAGS, OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_LOCK_ADDR,
        OFF_TRACE_EVENT_RAW_CONTENTION_END_LOCK_ADDR, OFF_TRACE_EVENT_RAW_CONTENTION_END_RET,
    },
    secret::number_of,
    storage::{self, TaskStorage},
    task::Task,
};

/// A wait that goes on.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Wait {
    begin_ns: u64,
    /// The address of the lock; 0 if there is no wait.
    lock: u64,
    tid: u32,
    flags: u32,
}

/// Who spins does so on one CPU, and only what interrupts it can spin there meanwhile: one wait for each context.
#[btf_map]
pub static SPINS: PerCpuArray<context::Each<Wait>, 1> = PerCpuArray::new();

/// Who sleeps waits for one lock, and may wake up on another CPU. Nothing spins then that the allocation could need.
#[btf_map]
pub static SLEEPS: TaskStorage<Wait> = TaskStorage::new();

/// `contention_begin(lock, flags)`.
#[inline(always)]
pub fn begin(args: Args) {
    begin_of(args.word(0), args.word(1) as u32);
}

/// The same for `tracepoint`.
#[inline(always)]
pub fn begin_event(context: &impl EbpfContext) {
    let event = Object::<Probed>::new(context.as_ptr());
    begin_of(
        event.load(&OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_LOCK_ADDR),
        event.load(&OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_FLAGS),
    );
}

/// `contention_end(lock, ret)`.
#[inline(always)]
pub fn end(args: Args) {
    end_of(args.word(0), || args.word(1) as i32);
}

/// The same for `tracepoint`.
#[inline(always)]
pub fn end_event(context: &impl EbpfContext) {
    let event = Object::<Probed>::new(context.as_ptr());
    end_of(event.load(&OFF_TRACE_EVENT_RAW_CONTENTION_END_LOCK_ADDR), || {
        event.load(&OFF_TRACE_EVENT_RAW_CONTENTION_END_RET)
    });
}

#[inline(always)]
fn begin_of(lock: u64, flags: u32) {
    if is_own_ring(lock) {
        return;
    }
    let task = storage::current();
    let thread = Task::<Direct>::new(Object::new(task)).thread();
    if !filter::selects_current(thread) {
        return;
    }
    let is_spin = flags & CONTENTION_SPIN != 0 && flags & CONTENTION_MUTEX == 0;
    let wait = if is_spin { spin(context::current()) } else { SLEEPS.make(task) };
    let Some(wait) = wait else {
        cpu::count_unstored(Family::Lock);
        return;
    };
    // SAFETY: the kernel gave the pointer; nobody else on this CPU or of this thread uses it in this context.
    unsafe {
        if !is_spin && (*wait).lock == lock {
            // It spun for a while, now it sleeps; or the other way round.
            (&raw mut (*wait).flags).write((*wait).flags | flags);
            return;
        }
        wait.write(Wait { begin_ns: now(), lock, tid: thread.tid, flags });
    }
}

#[inline(always)]
fn end_of(lock: u64, ret: impl Fn() -> i32) {
    if is_own_ring(lock) {
        return;
    }
    let task = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
    let thread = who.thread();
    if !filter::selects_current(thread) {
        return;
    }
    let now = now();
    let context = context::current();
    let of_lock = |wait: Option<*mut Wait>| wait.filter(|wait| is_of(*wait, lock, thread));
    let Some(wait) = of_lock(spin(context)).or_else(|| of_lock(SLEEPS.find(task))) else {
        cpu::count_unpaired(Family::Lock);
        return;
    };
    // SAFETY: see `begin_of`.
    let Wait { begin_ns, flags, .. } = unsafe { wait.read() };
    // SAFETY: see `begin_of`.
    unsafe { (&raw mut (*wait).lock).write(0) };
    if now.wrapping_sub(begin_ns) >= min_duration_ns(Family::Lock) {
        emit(who, now, || LockContention {
            begin_ns,
            lock: number_of(&LOCK_SECRET, lock),
            ret: ret(),
            flags,
            context,
            reserved: 0,
        });
    }
}

#[inline(always)]
fn is_of(wait: *mut Wait, lock: u64, thread: Thread) -> bool {
    // SAFETY: see `begin_of`.
    unsafe { (*wait).lock == lock && (*wait).tid == thread.tid }
}

#[inline(always)]
fn spin(context: u32) -> Option<*mut Wait> {
    Some(context::Each::at(SPINS.get_ptr_mut(0)?, context))
}
