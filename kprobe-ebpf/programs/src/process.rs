//! Process family: fork, exec, exit, rename.

use aya_ebpf::EbpfContext;
use kprobe_core::abi::{EXEC_HAS_EXE, EXIT_PROCESS, ProcessExec, ProcessExit, ProcessFork, ProcessRename};

use crate::{
    args::Args,
    bits,
    current::{CurrentTask, Who},
    emit::{emit, now},
    filter,
    frozen::HAS_GROUP_DEAD,
    memory::{Memory, Object, Probed, text},
    offsets::{
        OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID, OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD,
    },
    storage,
    task::Task,
};

/// `sched_wakeup_new(task)`. Passes if the creator or the child is selected.
#[inline(always)]
pub fn fork<M: Memory>(args: Args) {
    let task = Task::<M>::new(args.object(0));
    let child = task.thread();
    let who = CurrentTask::<M>::find();
    if !filter::selects_current(who.thread()) && !filter::selects(task, child) {
        return;
    }
    emit(who, now(), || ProcessFork {
        child_tgid: child.tgid,
        child_tid: child.tid,
        child_start_ns: task.start_ns(),
        parent_tgid: task.parent_tgid(),
        flags: 0,
    });
}

/// `sched_process_exec(task, old_pid, bprm)`. The task is the current one.
#[inline(always)]
pub fn exec<M: Memory>(args: Args) {
    exec_of(Task::<M>::new(args.object(0)), || args.word(1) as u32);
}

/// The same for `tracepoint`.
#[inline(always)]
pub fn exec_event(context: &impl EbpfContext) {
    let event = Object::<Probed>::new(context.as_ptr());
    exec_of(storage::current_task(), || event.load(&OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXEC_OLD_PID));
}

#[inline(always)]
fn exec_of<M: Memory>(task: Task<M>, old_tid: impl Fn() -> u32) {
    let who = CurrentTask(task);
    if !filter::selects_current(who.thread()) {
        return;
    }
    let (exe_inode, exe_dev, flags) = match task.executable() {
        Some((inode, device)) => (inode, device, EXEC_HAS_EXE),
        None => (0, 0, 0),
    };
    let comm = task.comm();
    emit(who, now(), || ProcessExec {
        start_ns: task.process_start_ns(),
        exe_inode,
        exe_dev,
        parent_tgid: task.parent_tgid(),
        old_tid: old_tid(),
        flags,
        comm,
    });
}

/// `sched_process_exit(task)`, with a second argument `group_dead` in newer kernels. The task is the current one.
#[inline(always)]
pub fn exit<M: Memory>(args: Args) {
    exit_of(Task::<M>::new(args.object(0)), || args.word(1) as u8);
}

/// The same for `tracepoint`.
#[inline(always)]
pub fn exit_event(context: &impl EbpfContext) {
    let event = Object::<Probed>::new(context.as_ptr());
    exit_of(storage::current_task(), || event.load(&OFF_TRACE_EVENT_RAW_SCHED_PROCESS_EXIT_GROUP_DEAD));
}

#[inline(always)]
fn exit_of<M: Memory>(task: Task<M>, group_dead: impl FnOnce() -> u8) {
    let who = CurrentTask(task);
    let thread = who.thread();
    if !filter::selects_current(thread) {
        return;
    }
    let is_process = if HAS_GROUP_DEAD.get() != 0 {
        group_dead() & 1 != 0
    } else {
        // Two threads that exit at the same time may both find that no thread is alive any more.
        task.is_group_dead() && !bits::ends(thread.tgid)
    };
    emit(who, now(), || ProcessExit {
        start_ns: task.process_start_ns(),
        parent_tgid: task.parent_tgid(),
        status: if is_process { task.process_exit_status() } else { task.exit_status() },
        flags: if is_process { EXIT_PROCESS } else { 0 },
    });
}

/// `task_rename(task, comm)`. Passes if the current or the renamed task is selected.
#[inline(always)]
pub fn rename<M: Memory>(args: Args) {
    let task = Task::<M>::new(args.object(0));
    let renamed = task.thread();
    let who = CurrentTask::<M>::find();
    if !filter::selects_current(who.thread()) && !filter::selects(task, renamed) {
        return;
    }
    let comm = text(args.address(1));
    emit(who, now(), || ProcessRename { renamed_tid: renamed.tid, renamed_tgid: renamed.tgid, comm });
}
