use kprobe_programs::{
    memory::{Direct, Probed},
    syscall::{Event, Registers},
    wait::{self, delivery, epoll, throttle},
};

btf!(wait_switch_btf, "sched_switch", wait::switch);
btf!(wait_waking_btf, "sched_waking", wait::waking);

// What an interrupt delivers.
btf!(wait_hrtimer_enter_btf, "hrtimer_expire_entry", delivery::precise_timer_began);
btf!(wait_hrtimer_exit_btf, "hrtimer_expire_exit", delivery::timer_ended);
btf!(wait_timer_enter_btf, "timer_expire_entry", delivery::timer_began);
btf!(wait_timer_exit_btf, "timer_expire_exit", delivery::timer_ended);
btf!(wait_request_btf, "block_rq_complete", delivery::completed);
btf!(wait_ready_btf, "sk_data_ready", delivery::socket);
btf!(wait_tcp_btf, "tcp_probe", delivery::socket);
btf!(wait_state_btf, "inet_sock_set_state", delivery::socket);
btf!(wait_hard_enter_btf, "irq_handler_entry", delivery::hard);
btf!(wait_hard_exit_btf, "irq_handler_exit", delivery::hard);
btf!(wait_soft_enter_btf, "softirq_entry", delivery::soft);
btf!(wait_soft_exit_btf, "softirq_exit", delivery::soft);
entry!(wait_ready_entry, "sock_def_readable", delivery::socket);
entry!(wait_stream_space_entry, "sk_stream_write_space", delivery::socket);
entry!(wait_space_entry, "sock_def_write_space", delivery::socket);

btf!(wait_epoll_btf, "sys_exit", |args| epoll::controlled(Registers::<Direct>::new(args)));
raw!(wait_epoll_raw, "sys_exit", |args| epoll::controlled(Registers::<Probed>::new(args)));
tp!(wait_epoll_tp, "raw_syscalls", "sys_exit", |ctx| epoll::controlled(Event::new(ctx)));

btf!(wait_seen_btf, "sched_switch", throttle::seen);
entry!(wait_throttle_entry, "throttle_cfs_rq", throttle::began);
entry!(wait_unthrottle_entry, "unthrottle_cfs_rq", throttle::ended);
kprobe!(wait_throttle_kprobe, "throttle_cfs_rq", throttle::began_at);
kprobe!(wait_unthrottle_kprobe, "unthrottle_cfs_rq", throttle::ended_at);
