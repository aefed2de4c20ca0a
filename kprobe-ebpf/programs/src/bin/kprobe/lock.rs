use kprobe_programs::{
    lock::futex,
    memory::{Direct, Probed},
    syscall::{Event, Registers},
};

btf!(lock_futex_enter_btf, "sys_enter", |args| futex::enter(Registers::<Direct>::new(args)));
raw!(lock_futex_enter_raw, "sys_enter", |args| futex::enter(Registers::<Probed>::new(args)));
tp!(lock_futex_enter_tp, "raw_syscalls", "sys_enter", |ctx| futex::enter(Event::new(ctx)));
btf!(lock_futex_exit_btf, "sys_exit", |args| futex::exit(Registers::<Direct>::new(args)));
raw!(lock_futex_exit_raw, "sys_exit", |args| futex::exit(Registers::<Probed>::new(args)));
tp!(lock_futex_exit_tp, "raw_syscalls", "sys_exit", |ctx| futex::exit(Event::new(ctx)));
btf!(lock_futex_waking_btf, "sched_waking", futex::waking);

#[cfg(not(feature = "before-6.1"))]
mod contention {
    use kprobe_programs::lock::contention;

    btf!(lock_contention_begin_btf, "contention_begin", contention::begin);
    raw!(lock_contention_begin_raw, "contention_begin", contention::begin);
    tp!(lock_contention_begin_tp, "lock", "contention_begin", contention::begin_event);
    btf!(lock_contention_end_btf, "contention_end", contention::end);
    raw!(lock_contention_end_raw, "contention_end", contention::end);
    tp!(lock_contention_end_tp, "lock", "contention_end", contention::end_event);
}
