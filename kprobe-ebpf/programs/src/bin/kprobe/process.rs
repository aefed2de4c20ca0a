use kprobe_programs::{
    memory::{Direct, Probed},
    process,
};

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
