//! Sched family: switch, waking, migrate.

use aya_ebpf::{btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::{
    CONTEXT_ABSENT, CONTEXT_TASK, Family, Kind, SWITCH_PREEMPT, SchedMigrate, SchedSwitch, SchedWaking,
    aggregate_by,
};

use crate::{
    aggregate::{self, Measured},
    args::Args,
    context,
    cpu::{self, Cpu},
    current::{CurrentTask, OtherTask, Who as _},
    emit::{emit, now},
    filter, kernel,
    memory::Memory,
    task::{TASK_DEAD, Task},
};

/// `sched_switch(preempt, prev, next, prev_state)`. Passes if the previous or the next task is selected.
#[inline(always)]
pub fn switch<M: Memory>(args: Args) {
    // The tracepoint is before the switch: the previous task is still the current one.
    let prev = Task::<M>::new(args.object(1));
    let who = CurrentTask(prev);
    let next = Task::<M>::new(args.object(2));
    let next_ids = next.thread();
    if is_summed_up() {
        if args.word(0) & 1 == 0 && kernel::entered_state(args, prev) & TASK_DEAD != 0 {
            // That there is none is fine.
            let _ = READY.remove(prev.address() as u64);
        }
        sum_up(prev, next);
        return;
    }
    if !filter::selects_current(who.thread()) && !filter::selects(next, next_ids) {
        return;
    }
    let is_preempted = args.word(0) & 1 != 0;
    emit(who, now(), || SchedSwitch {
        next_tid: next_ids.tid,
        next_tgid: next_ids.tgid,
        // A preempted task stays runnable whatever state it was about to enter.
        prev_state: if is_preempted { 0 } else { kernel::entered_state(args, prev) },
        prev_prio: prev.prio() as i16,
        next_prio: next.prio() as i16,
        flags: if is_preempted { SWITCH_PREEMPT } else { 0 },
    });
}

/// `sched_waking(task)`. Passes if the woken task is selected, or the current one unless it is known to have no part in it.
#[inline(always)]
pub fn waking<M: Memory>(args: Args) {
    let wakee = Task::<M>::new(args.object(0));
    let wakee_ids = wakee.thread();
    if filter::is_self(wakee_ids) {
        return;
    }
    let is_wakee_selected = filter::selects(wakee, wakee_ids);
    if is_summed_up() {
        if is_wakee_selected {
            is_ready(wakee);
        }
        return;
    }
    let who = CurrentTask::<M>::find();
    if !is_wakee_selected && !filter::selects_current(who.thread()) {
        return;
    }
    let context = context::current();
    if !is_wakee_selected && context != CONTEXT_TASK && context != CONTEXT_ABSENT {
        return;
    }
    emit(who, now(), || SchedWaking {
        wakee_tid: wakee_ids.tid,
        wakee_tgid: wakee_ids.tgid,
        prio: wakee.prio() as i16,
        target_cpu: wakee.cpu(),
        context,
    });
}

/// `sched_migrate_task(task, dest_cpu)`. Passes if the task is selected.
#[inline(always)]
pub fn migrate<M: Memory>(args: Args) {
    let moved = Task::<M>::new(args.object(0));
    let ids = moved.thread();
    if !filter::selects(moved, ids) {
        return;
    }
    emit(CurrentTask::<M>::find(), now(), || SchedMigrate {
        moved_tid: ids.tid,
        moved_tgid: ids.tgid,
        from_cpu: moved.cpu(),
        to_cpu: args.word(1) as u16,
        prio: moved.prio(),
    });
}

/// Since when threads that were woken are ready, where the kernel sums up, by the address of their `task_struct`; 0 for one
/// that has run since. Emptied when the thread ends.
///
/// A hash that is allocated beforehand and no task storage: whoever wakes a thread holds locks that the allocator may ask for,
/// where it is not made for that (before Linux 6.4).
#[btf_map]
pub static READY: HashMap<u64, u64, 1> = HashMap::new();

#[inline(always)]
fn is_summed_up() -> bool {
    aggregate::by(Family::Sched) != aggregate_by::NOTHING
}

/// Whoever leaves the CPU had it since the last switch there; whoever gets it has waited since it was woken.
///
/// The scheduler holds the lock of the CPU's queue, so no other switch and no end of a wake-up of these threads is under way.
#[inline(always)]
fn sum_up<M: Memory>(prev: Task<M>, next: Task<M>) {
    let Some(state) = Cpu::current().map(Cpu::state) else { return };
    let (prev_thread, next_thread) = (prev.thread(), next.thread());
    // SAFETY: the pointers are to a map element; only this program, on this CPU, uses these words.
    let (runs_tid, runs_since_ns) = unsafe { (&raw mut (*state).runs_tid, &raw mut (*state).runs_since_ns) };
    // SAFETY: likewise.
    let (tid, began_ns) = unsafe { (runs_tid.read(), runs_since_ns.read()) };
    // 0, which no selected thread has, if whoever runs was not selected when it got the CPU.
    let has_run = tid != 0 && tid == u64::from(prev_thread.tid);
    let is_next_selected = filter::selects(next, next_thread);
    if !has_run && !is_next_selected {
        // SAFETY: likewise.
        unsafe { runs_tid.write(0) };
        return;
    }
    let now = now();
    // SAFETY: likewise.
    unsafe {
        runs_tid.write(if is_next_selected { next_thread.tid.into() } else { 0 });
        runs_since_ns.write(now);
    }
    if has_run && filter::selects_current(prev_thread) {
        aggregate::count(CurrentTask(prev), Kind::SCHED_SWITCH, since(began_ns, now));
    }
    if !is_next_selected {
        return;
    }
    let Some(ready) = READY.get_ptr_mut(next.address() as u64) else { return };
    // SAFETY: the map gave the pointer. Who wakes the thread writes a whole word, and does so before it is chosen to run.
    let ready_ns = unsafe { ready.read_volatile() };
    if ready_ns != 0 {
        aggregate::count(OtherTask(next), Kind::SCHED_WAKING, since(ready_ns, now));
        // SAFETY: likewise.
        unsafe { ready.write_volatile(0) };
    }
}

#[inline(always)]
fn since(begin_ns: u64, now: u64) -> Measured {
    Measured { duration_ns: now.wrapping_sub(begin_ns), subject: 0, whose: None }
}

#[inline(always)]
fn is_ready<M: Memory>(wakee: Task<M>) {
    let (thread, now) = (wakee.address() as u64, now());
    match READY.get_ptr_mut(thread) {
        // SAFETY: as in `sum_up`.
        Some(ready) => unsafe { ready.write_volatile(now) },
        None if READY.insert(thread, now, 0).is_err() => cpu::count_unstored(Family::Sched),
        None => {}
    }
}
