//! Sched family: switch, waking, migrate.

use kprobe_core::abi::{
    CONTEXT_ABSENT, CONTEXT_TASK, SWITCH_PREEMPT, SchedMigrate, SchedSwitch, SchedWaking,
};

use crate::{
    args::Args,
    context,
    current::{CurrentTask, Who as _},
    emit::{emit, now},
    filter,
    memory::Memory,
    task::Task,
};

/// `sched_switch(preempt, prev, next, prev_state)`. Passes if the previous or the next task is selected.
#[inline(always)]
pub fn switch<M: Memory>(args: Args) {
    // The tracepoint is before the switch: the previous task is still the current one.
    let prev = Task::<M>::new(args.object(1));
    let who = CurrentTask(prev);
    let next = Task::<M>::new(args.object(2));
    let next_ids = next.thread();
    if !filter::selects_current(who.thread()) && !filter::selects(next, next_ids) {
        return;
    }
    let is_preempted = args.word(0) & 1 != 0;
    emit(who, now(), || SchedSwitch {
        next_tid: next_ids.tid,
        next_tgid: next_ids.tgid,
        // A preempted task stays runnable whatever state it was about to enter.
        prev_state: if is_preempted { 0 } else { args.word(3) as u32 },
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
