use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use kprobe_programs::{
    args::Args,
    memory::{Direct, Probed},
    path,
    syscall::{Event, Registers},
};

btf!(path_exec_btf, "sched_process_exec", |_: Args| path::began());
raw!(path_exec_raw, "sched_process_exec", |_: Args| path::began());
tp!(path_exec_tp, "sched", "sched_process_exec", |_| path::began());
btf!(path_open_btf, "sys_exit", |args| path::opened(Registers::<Direct>::new(args)));
raw!(path_open_raw, "sys_exit", |args| path::opened(Registers::<Probed>::new(args)));
tp!(path_open_tp, "raw_syscalls", "sys_exit", |ctx| path::opened(Event::new(ctx)));

// Attached nowhere: the loader runs it. What it returns is for the loader.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn path_allow_raw(ctx: RawTracePointContext) -> i32 {
    path::allow(Args::of(&ctx))
}
