use kprobe_programs::{
    irq,
    memory::{Direct, Probed},
};

/// A program is loaded for one typed tracepoint, so there is one for each.
macro_rules! hard {
    ($($entry:ident $entry_raw:ident $enters:tt, $exit:ident $exit_raw:ident $exits:tt, $began:ident $ended:ident;)+) => {$(
        btf!($entry, $enters, irq::$began);
        raw!($entry_raw, $enters, irq::$began);
        btf!($exit, $exits, irq::$ended::<Direct>);
        raw!($exit_raw, $exits, irq::$ended::<Probed>);
    )+};
}

hard! {
    irq_device_enter_btf irq_device_enter_raw "irq_handler_entry", irq_device_exit_btf irq_device_exit_raw "irq_handler_exit", hard_began device_ended;
    irq_timer_enter_btf irq_timer_enter_raw "local_timer_entry", irq_timer_exit_btf irq_timer_exit_raw "local_timer_exit", hard_began vector_ended;
    irq_resched_enter_btf irq_resched_enter_raw "reschedule_entry", irq_resched_exit_btf irq_resched_exit_raw "reschedule_exit", hard_began vector_ended;
    irq_call_enter_btf irq_call_enter_raw "call_function_entry", irq_call_exit_btf irq_call_exit_raw "call_function_exit", hard_began vector_ended;
    irq_call1_enter_btf irq_call1_enter_raw "call_function_single_entry", irq_call1_exit_btf irq_call1_exit_raw "call_function_single_exit", hard_began vector_ended;
    irq_work_enter_btf irq_work_enter_raw "irq_work_entry", irq_work_exit_btf irq_work_exit_raw "irq_work_exit", work_began vector_ended;
}

btf!(irq_soft_enter_btf, "softirq_entry", irq::soft_began);
raw!(irq_soft_enter_raw, "softirq_entry", irq::soft_began);
btf!(irq_soft_exit_btf, "softirq_exit", irq::soft_ended::<Direct>);
raw!(irq_soft_exit_raw, "softirq_exit", irq::soft_ended::<Probed>);
