//! The programs that come with kprobe. What their names end with is how they attach:
//!
//! - `_btf`: a tracepoint whose arguments have types (`tp_btf`), which are read by direct loads;
//! - `_raw`: a raw tracepoint, whose arguments are read by a helper;
//! - `_tp`: a `tracepoint` by way of perf, which alone disables preemption on Linux 7.0 and later (see the library).
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use kprobe_programs::{
    args::Args,
    context::{self, Level},
    memory::{Direct, Probed},
    process, sched,
    syscall::{self, Event, InHash, InTask, Registers},
};

/// GPL, since the helpers that read kernel memory ask for it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

macro_rules! btf {
    ($name:ident, $tracepoint:tt, $program:expr) => {
        #[btf_tracepoint(function = $tracepoint)]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            ($program)(Args::of(&ctx));
            0
        }
    };
}

macro_rules! raw {
    ($name:ident, $tracepoint:tt, $program:expr) => {
        #[raw_tracepoint(tracepoint = $tracepoint)]
        fn $name(ctx: RawTracePointContext) -> i32 {
            ($program)(Args::of(&ctx));
            0
        }
    };
}

macro_rules! tp {
    ($name:ident, $category:tt, $tracepoint:tt, $program:expr) => {
        #[tracepoint(category = $category, name = $tracepoint)]
        fn $name(ctx: TracePointContext) -> u32 {
            ($program)(&ctx);
            0
        }
    };
}

kprobe_programs::follow_programs!();

btf!(process_fork_btf, "sched_wakeup_new", process::fork::<Direct>);
raw!(process_fork_raw, "sched_wakeup_new", process::fork::<Probed>);
btf!(process_exec_btf, "sched_process_exec", process::exec::<Direct>);
raw!(process_exec_raw, "sched_process_exec", process::exec::<Probed>);
tp!(process_exec_tp, "sched", "sched_process_exec", process::exec_event);
btf!(process_exit_btf, "sched_process_exit", process::exit::<Direct>);
raw!(process_exit_raw, "sched_process_exit", process::exit::<Probed>);
tp!(process_exit_tp, "sched", "sched_process_exit", process::exit_event);
btf!(process_rename_btf, "task_rename", process::rename::<Direct>);
raw!(process_rename_raw, "task_rename", process::rename::<Probed>);

btf!(syscall_enter_btf, "sys_enter", |args| syscall::enter::<InTask>(Registers::<Direct>::new(args)));
raw!(syscall_enter_raw, "sys_enter", |args| syscall::enter::<InTask>(Registers::<Probed>::new(args)));
raw!(syscall_enter_raw_hash, "sys_enter", |args| syscall::enter::<InHash>(Registers::<Probed>::new(args)));
tp!(syscall_enter_tp, "raw_syscalls", "sys_enter", |ctx| syscall::enter::<InTask>(Event::new(ctx)));
btf!(syscall_exit_btf, "sys_exit", |args| syscall::exit::<InTask>(Registers::<Direct>::new(args)));
raw!(syscall_exit_raw, "sys_exit", |args| syscall::exit::<InTask>(Registers::<Probed>::new(args)));
raw!(syscall_exit_raw_hash, "sys_exit", |args| syscall::exit::<InHash>(Registers::<Probed>::new(args)));
tp!(syscall_exit_tp, "raw_syscalls", "sys_exit", |ctx| syscall::exit::<InTask>(Event::new(ctx)));
raw!(enters_exit_raw, "sched_process_exit", |_: Args| InHash::forget_current());

btf!(sched_switch_btf, "sched_switch", sched::switch::<Direct>);
raw!(sched_switch_raw, "sched_switch", sched::switch::<Probed>);
btf!(sched_waking_btf, "sched_waking", sched::waking::<Direct>);
raw!(sched_waking_raw, "sched_waking", sched::waking::<Probed>);
btf!(sched_migrate_btf, "sched_migrate_task", sched::migrate::<Direct>);
raw!(sched_migrate_raw, "sched_migrate_task", sched::migrate::<Probed>);

// Each is attached to all entry or exit tracepoints of its kind; the section names only the best known.
raw!(context_hardirq_enter, "irq_handler_entry", |_: Args| context::enter(Level::Hardirq));
raw!(context_hardirq_exit, "irq_handler_exit", |_: Args| context::exit(Level::Hardirq));
raw!(context_softirq_enter, "softirq_entry", |_: Args| context::enter(Level::Softirq));
raw!(context_softirq_exit, "softirq_exit", |_: Args| context::exit(Level::Softirq));
