//! Keeping up with threads that come into being.

use kprobe_core::abi::select;

use crate::{
    args::Args,
    bits::{self, TGIDS, TIDS},
    current::{CurrentTask, Who as _},
    frozen::SELECT,
    memory::{Direct, Memory},
    task::Task,
    threads,
};

/// `sched_wakeup_new(task)`, in a program whose pointers have types.
#[inline(always)]
pub fn fork_typed(args: Args) {
    threads::forget(Task::<Direct>::new(args.object(0)));
    fork::<Direct>(args);
}

/// `sched_wakeup_new(task)`: the child of a recorded process is recorded, from its first instruction on.
///
/// A dead process stays a member until its pid is given to a new one, which is decided on here as any other. So its last
/// events, those after `sched_process_exit`, are recorded too, and there is no order of exits that could lose one.
#[inline(always)]
pub fn fork<M: Memory>(args: Args) {
    let child = Task::<M>::new(args.object(0)).thread();
    let is_process = child.tgid == child.tid;
    if is_process {
        bits::begins(child.tgid);
    }
    if SELECT.get() & select::TGIDS != 0 && is_process {
        if bits::has(&TGIDS, CurrentTask::<M>::find().thread().tgid) {
            bits::add(&TGIDS, child.tgid);
        } else {
            bits::remove(&TGIDS, child.tgid);
        }
    }
    if SELECT.get() & select::TIDS != 0 {
        bits::remove(&TIDS, child.tid);
    }
}

/// Defines the programs `follow_fork_btf` and `follow_fork_raw`. Every object whose events are filtered needs them, so that
/// its selection follows children and survives the reuse of pids; one of them is attached before anything else.
#[macro_export]
macro_rules! follow_programs {
    () => {
        #[::aya_ebpf::macros::btf_tracepoint(function = "sched_wakeup_new")]
        fn follow_fork_btf(ctx: ::aya_ebpf::programs::BtfTracePointContext) -> i32 {
            $crate::follow::fork_typed($crate::args::Args::of(&ctx));
            0
        }

        #[::aya_ebpf::macros::raw_tracepoint(tracepoint = "sched_wakeup_new")]
        fn follow_fork_raw(ctx: ::aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::follow::fork::<$crate::memory::Probed>($crate::args::Args::of(&ctx));
            0
        }
    };
}
