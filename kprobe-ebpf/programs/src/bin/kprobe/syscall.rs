use kprobe_programs::{
    args::Args,
    memory::{Direct, Probed},
    syscall::{self, Event, InHash, InTask, Registers},
};

btf!(syscall_enter_btf, "sys_enter", |args| syscall::enter::<InTask>(Registers::<Direct>::new(args)));
raw!(syscall_enter_raw, "sys_enter", |args| syscall::enter::<InTask>(Registers::<Probed>::new(args)));
raw!(syscall_enter_raw_hash, "sys_enter", |args| syscall::enter::<InHash>(Registers::<Probed>::new(args)));
tp!(syscall_enter_tp, "raw_syscalls", "sys_enter", |ctx| syscall::enter::<InTask>(Event::new(ctx)));
btf!(syscall_exit_btf, "sys_exit", |args| syscall::exit::<InTask>(Registers::<Direct>::new(args)));
raw!(syscall_exit_raw, "sys_exit", |args| syscall::exit::<InTask>(Registers::<Probed>::new(args)));
raw!(syscall_exit_raw_hash, "sys_exit", |args| syscall::exit::<InHash>(Registers::<Probed>::new(args)));
tp!(syscall_exit_tp, "raw_syscalls", "sys_exit", |ctx| syscall::exit::<InTask>(Event::new(ctx)));
raw!(enters_exit_raw, "sched_process_exit", |_: Args| InHash::forget_current());
